/* SPDX-License-Identifier: Apache-2.0 */
/* Regexes that people type. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/regex.h"
#include "base/arena.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct sd_regex {
	pcre2_code *code;
	pcre2_match_data *match;
	char *text;
};

enum sd_result sd_regex_new(const char *pattern, bool ignore_case, struct sd_regex **regex, struct sd_error *err)
{
	struct sd_regex *r = calloc(1, sizeof(*r));
	PCRE2_SIZE place;
	int error;

	*regex = NULL;
	if (!r)
		return sd_fail_memory(err);
	r->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
				PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | (ignore_case ? PCRE2_CASELESS : 0), &error,
				&place, NULL);
	if (!r->code) {
		PCRE2_UCHAR reason[200];

		pcre2_get_error_message(error, reason, sizeof(reason));
		free(r);
		if (error == PCRE2_ERROR_HEAP_FAILED)
			return sd_fail_memory(err);
		return sd_fail(err, SD_USAGE, "bad regex \"%s\" at character %zu: %s", pattern, (size_t)place + 1,
			       (const char *)reason);
	}
	r->match = pcre2_match_data_create_from_pattern(r->code, NULL);
	r->text = strdup(pattern);
	if (!r->match || !r->text) {
		sd_regex_free(r);
		return sd_fail_memory(err);
	}
	*regex = r;
	return SD_OK;
}

enum sd_result sd_regex_search(const struct sd_regex *regex, const char *text, bool *found, struct sd_error *err)
{
	int n = pcre2_match(regex->code, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, 0, regex->match, NULL);

	*found = n >= 0;
	if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
		PCRE2_UCHAR reason[200];

		if (n == PCRE2_ERROR_NOMEMORY)
			return sd_fail_memory(err);
		pcre2_get_error_message(n, reason, sizeof(reason));
		return sd_fail(err, SD_USAGE, "the regex cannot be matched against %s: %s", text, (const char *)reason);
	}
	return SD_OK;
}

const char *sd_regex_text(const struct sd_regex *regex)
{
	return regex->text;
}

void sd_regex_free(struct sd_regex *regex)
{
	if (!regex)
		return;
	free(regex->text);
	pcre2_match_data_free(regex->match);
	pcre2_code_free(regex->code);
	free(regex);
}

enum sd_result sd_regex_list_add(struct sd_regex_list *list, const char *pattern, struct sd_error *err)
{
	enum sd_result result;

	if (!sd_array_grow(&list->regexes, list->count, &list->room, sizeof(*list->regexes)))
		return sd_fail_memory(err);
	result = sd_regex_new(pattern, false, &list->regexes[list->count], err);
	if (result == SD_OK)
		list->count++;
	return result;
}

enum sd_result sd_regex_list_search(const struct sd_regex_list *list, const char *text, bool *found,
				    struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*found = false;
	for (size_t i = 0; i < list->count && !*found && result == SD_OK; i++)
		result = sd_regex_search(list->regexes[i], text, found, err);
	return result;
}

void sd_regex_list_free(struct sd_regex_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		sd_regex_free(list->regexes[i]);
	free(list->regexes);
	*list = (struct sd_regex_list){0};
}
