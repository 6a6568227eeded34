/* SPDX-License-Identifier: Apache-2.0 */
/* Regexes that people type: PCRE2, searched anywhere in a name. */
#ifndef SD_BASE_REGEX_H
#define SD_BASE_REGEX_H

#include "base/error.h"

struct sd_regex;

/* Compiles one. SD_USAGE and a line that shows the regex, the place and PCRE2's reason; *regex is NULL then. */
SD_MUST_CHECK enum sd_result sd_regex_new(const char *pattern, bool ignore_case, struct sd_regex **regex,
					  struct sd_error *err);

/* Whether the regex matches anywhere in text. SD_USAGE when PCRE2 gives up, as on a regex that backtracks too much. */
SD_MUST_CHECK enum sd_result sd_regex_search(const struct sd_regex *regex, const char *text, bool *found,
					     struct sd_error *err);

/* The pattern as it was given. */
const char *sd_regex_text(const struct sd_regex *regex);

void sd_regex_free(struct sd_regex *regex);

/* A list of regexes; a text matches the list if one of them matches. {0} is empty. */
struct sd_regex_list {
	struct sd_regex **regexes;
	size_t count, room;
};

SD_MUST_CHECK enum sd_result sd_regex_list_add(struct sd_regex_list *list, const char *pattern, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_regex_list_search(const struct sd_regex_list *list, const char *text, bool *found,
						  struct sd_error *err);
void sd_regex_list_free(struct sd_regex_list *list);

#endif
