/* SPDX-License-Identifier: Apache-2.0 */
/* Writes edits for messages. */
#include "base/advice.h"

#include <stdio.h>
#include <string.h>

#define NUMBERS_MAX 9 /* groups that a replacement can name */

/* One byte of a name, which may be the first one of several of a character. */
static const char *escape(char c, char room[4])
{
	if ((unsigned char)c >= 0x80 || c == 0x7F || (unsigned char)c < ' ')
		return "[^ -~]";
	if (strchr("\\^'", c))
		return ".";
	snprintf(room, 4, strchr(".[()|?*+{$ ", c) ? "[%c]" : "%c", c);
	return room;
}

/* As sd_advice_regex; numbers: a * is a number. */
static const char *write_regex(struct sd_arena *arena, const char *text, size_t length, bool numbers)
{
	char *quoted = sd_arena_array(arena, length + 1, sizeof("([0-9]+)")), *end = quoted, room[4];

	for (size_t i = 0; quoted && i < length; i++)
		/* The first byte stands for all of a character. */
		if (((unsigned char)text[i] & 0xC0) != 0x80)
			end += sprintf(end, "%s", numbers && text[i] == '*' ? "([0-9]+)" : escape(text[i], room));
	return quoted;
}

const char *sd_advice_regex(struct sd_arena *arena, const char *text, size_t length)
{
	return write_regex(arena, text, length, false);
}

/* NULL as well for what cannot be shown as it is. */
static const char *write_replacement(struct sd_arena *arena, const char *text, bool numbers)
{
	char *out = sd_arena_alloc(arena, 2 * strlen(text) + 1), *end = out;
	int n = 0;

	for (; out && *text; text++) {
		if (*text < ' ' || *text > '~' || strchr("\\&'", *text))
			return NULL;
		if (numbers && *text == '*' && ++n > NUMBERS_MAX)
			return NULL;
		end += numbers && *text == '*' ? sprintf(end, "\\%d", n) : sprintf(end, "%c", *text);
	}
	return out;
}

/* What stands around the parts of an edit: a letter that neither has. */
static char choose_delimiter(const char *regex, const char *replacement)
{
	static const char all[] = "/,#%@~:;=!";

	for (const char *d = all; *d; d++)
		if (!strchr(regex, *d) && !strchr(replacement, *d))
			return *d;
	return '\0';
}

const char *sd_advice_edit(struct sd_arena *arena, enum sd_advice_place place, const char *text, size_t length,
			   const char *meant)
{
	bool whole = place == SD_ADVICE_WHOLE;
	const char *regex = write_regex(arena, text, length, whole);
	const char *replacement = regex ? write_replacement(arena, meant, whole) : NULL;
	char d = replacement ? choose_delimiter(regex, replacement) : '\0';

	if (!d)
		return NULL;
	return sd_arena_printf(arena, "s%c%s%s%s%c%s%c", d, place == SD_ADVICE_PIECE ? "" : "^", regex,
			       whole ? "$" : "", d, replacement, d);
}
