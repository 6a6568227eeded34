/* SPDX-License-Identifier: Apache-2.0 */
/* Edits by hand. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "map/edit.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct sd_edit {
	struct sd_arena arena;
	const char *text;
	char *replacement; /* in the syntax of pcre2_substitute */
	char group;        /* the highest one in it */
	pcre2_code *code;
	pcre2_match_data *match;
	uint32_t options;
};

/* The part of the text up to the next delimiter that no backslash protects; *at moves behind it. NULL if there is none.
 */
static char *cut_part(struct sd_arena *arena, const char **at, char delimiter)
{
	const char *p = *at;
	char *part = sd_arena_alloc(arena, strlen(p) + 1);
	size_t n = 0;

	while (part && *p && *p != delimiter) {
		if (p[0] == '\\' && p[1] == delimiter && !isalnum((unsigned char)delimiter))
			p++;
		else if (p[0] == '\\' && p[1])
			part[n++] = *p++;
		part[n++] = *p++;
	}
	*at = p + (*p == delimiter);
	return *p == delimiter ? part : NULL;
}

/* & and \1 to PCRE2's ${0} and ${1}; a $ is a $. *highest: the group with the highest number. */
static char *translate(struct sd_arena *arena, const char *text, char *highest)
{
	char *out = sd_arena_alloc(arena, 4 * strlen(text) + 1);
	size_t n = 0;

	*highest = '0';
	for (; out && *text; text++) {
		char group = *text == '&' ? '0' : '\0';

		if (*text == '\\' && text[1]) {
			text++;
			if (isdigit((unsigned char)*text))
				group = *text;
		}
		if (group) {
			memcpy(out + n, (char[]){'$', '{', group, '}'}, 4);
			n += 4;
			if (group > *highest)
				*highest = group;
		} else {
			if (*text == '$')
				out[n++] = '$';
			out[n++] = *text;
		}
	}
	return out;
}

static enum sd_result compile(struct sd_edit *edit, const char *regex, uint32_t options, struct sd_error *err)
{
	PCRE2_UCHAR reason[200];
	PCRE2_SIZE offset;
	uint32_t groups;
	int code;

	edit->code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, options, &code, &offset, NULL);
	if (!edit->code && code == PCRE2_ERROR_HEAP_FAILED)
		return sd_fail_memory(err);
	if (!edit->code) {
		pcre2_get_error_message(code, reason, sizeof(reason));
		return sd_fail(err, SD_USAGE, "-e '%s': character %zu of '%s': %s", edit->text, offset + 1, regex,
			       (char *)reason);
	}
	pcre2_pattern_info(edit->code, PCRE2_INFO_CAPTURECOUNT, &groups);
	if ((uint32_t)(edit->group - '0') > groups)
		return sd_fail(err, SD_USAGE, "-e '%s': there is no group \\%c", edit->text, edit->group);
	edit->match = pcre2_match_data_create_from_pattern(edit->code, NULL);
	return edit->match ? SD_OK : sd_fail_memory(err);
}

static enum sd_result parse(struct sd_edit *edit, struct sd_error *err)
{
	const char *at = edit->text + 1;
	char delimiter = *at, *regex, *replacement;
	uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C; /* \C would leave parts of characters */

	if (*edit->text != 's' || !delimiter || delimiter == '\\' || isspace((unsigned char)delimiter))
		return sd_fail(err, SD_USAGE, "-e '%s': an edit is s/RE/REPLACEMENT/", edit->text);
	at++;
	regex = cut_part(&edit->arena, &at, delimiter);
	replacement = regex ? cut_part(&edit->arena, &at, delimiter) : NULL;
	if (!replacement && edit->arena.failed)
		return sd_fail_memory(err);
	if (!replacement)
		return sd_fail(err, SD_USAGE, "-e '%s': the %s has no %c behind it", edit->text,
			       regex ? "replacement" : "RE", delimiter);
	edit->options = PCRE2_SUBSTITUTE_OVERFLOW_LENGTH;
	for (; *at; at++) {
		if (*at != 'g' && *at != 'i')
			return sd_fail(err, SD_USAGE, "-e '%s': the flags are g and i, not '%c'", edit->text, *at);
		if (*at == 'g')
			edit->options |= PCRE2_SUBSTITUTE_GLOBAL;
		else
			options |= PCRE2_CASELESS;
	}
	edit->replacement = translate(&edit->arena, replacement, &edit->group);
	return edit->replacement ? compile(edit, regex, options, err) : sd_fail_memory(err);
}

enum sd_result sd_edit_new(const char *text, struct sd_edit **edit, struct sd_error *err)
{
	struct sd_edit *made = calloc(1, sizeof(*made));
	enum sd_result result;

	*edit = NULL;
	if (!made)
		return sd_fail_memory(err);
	made->text = sd_arena_text(&made->arena, text, strlen(text));
	result = made->text ? parse(made, err) : sd_fail_memory(err);
	if (result == SD_OK)
		*edit = made;
	else
		sd_edit_free(made);
	return result;
}

void sd_edit_free(struct sd_edit *edit)
{
	if (!edit)
		return;
	pcre2_match_data_free(edit->match);
	pcre2_code_free(edit->code);
	sd_arena_free(&edit->arena);
	free(edit);
}

const char *sd_edit_text(const struct sd_edit *edit)
{
	return edit->text;
}

enum sd_result sd_edit_apply(const struct sd_edit *edit, const char *name, struct sd_arena *arena, const char **edited,
			     struct sd_error *err)
{
	size_t length = strlen(name), room = 2 * length + 64;

	*edited = name;
	for (;;) {
		PCRE2_SIZE used = room;
		PCRE2_UCHAR *out = malloc(room), reason[200];
		int n;

		if (!out)
			return sd_fail_memory(err);
		n = pcre2_substitute(edit->code, (PCRE2_SPTR)name, length, 0, edit->options, edit->match, NULL,
				     (PCRE2_SPTR)edit->replacement, PCRE2_ZERO_TERMINATED, out, &used);
		if (n > 0) {
			*edited = sd_arena_text(arena, (char *)out, used);
			free(out);
			return *edited ? SD_OK : sd_fail_memory(err);
		}
		free(out);
		if (n == 0)
			return SD_OK;
		if (n != PCRE2_ERROR_NOMEMORY || used <= room) {
			pcre2_get_error_message(n, reason, sizeof(reason));
			return sd_fail(err, SD_USAGE, "-e '%s' on %s: %s", edit->text, name, (char *)reason);
		}
		room = used;
	}
}
