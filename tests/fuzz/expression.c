/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes edits by hand, the regexes of --include and the patterns of -n: the first line is the edit, the others are
 * names. What an edit makes of a name is a name again, or is refused. The names are folded, and what is printed then is
 * a pattern of these names, and of no others.
 */
#include "base/fold.h"
#include "base/glob.h"
#include "base/names.h"
#include "base/nearest.h"
#include "base/regex.h"
#include "base/text.h"
#include "fuzz.h"
#include "map/edit.h"

static void edit_names(const struct sd_edit *edit, char *names)
{
	struct sd_arena arena = {0};
	struct sd_error err = {0};
	char *name;

	while ((name = strsep(&names, "\n"))) {
		const char *edited = NULL;
		enum sd_result result;

		if (!sd_text_is_utf8(name, strlen(name)))
			continue;
		result = sd_edit_apply(edit, name, &arena, &edited, &err);
		if (result != SD_OK)
			sure_of_failure(result, &err);
		else
			SURE(edited && sd_text_is_utf8(edited, strlen(edited)), "%s", edited);
	}
	sd_arena_free(&arena);
}

static void search_names(const char *pattern, char *names)
{
	struct sd_regex_list list = {0};
	struct sd_error err = {0};
	enum sd_result result = sd_regex_list_add(&list, pattern, &err);
	char *name;

	if (result != SD_OK)
		sure_of_failure(result, &err);
	while (result == SD_OK && (name = strsep(&names, "\n"))) {
		bool found;

		if (!sd_text_is_utf8(name, strlen(name)))
			continue;
		result = sd_regex_list_search(&list, name, &found, &err);
		if (result != SD_OK)
			sure_of_failure(result, &err);
	}
	sd_regex_list_free(&list);
}

static void match_names(const char *pattern, char *names)
{
	struct sd_error err = {0};
	struct sd_glob *glob;
	enum sd_result result = sd_glob_new(pattern, &glob, &err);
	struct sd_nearest nearest;
	char *name;

	if (result != SD_OK) {
		sure_of_failure(result, &err);
		return;
	}
	nearest = sd_nearest_begin(sd_glob_first(glob));
	while ((name = strsep(&names, "\n"))) {
		bool yes;

		SURE(sd_glob_matches(glob, name, &yes, &err) == SD_OK, "%s", err.text);
		sd_nearest_look(&nearest, name);
	}
	(void)sd_nearest_name(&nearest);
	sd_glob_free(glob);
}

#define NAMES 64

/* A line of folded names as a pattern: it takes those that it was made of. */
static void match_line(const struct sd_fold *fold, const struct sd_fold_line *line, const char *const *names, size_t n)
{
	char *text = NULL;
	size_t length, taken = 0;
	FILE *out = open_memstream(&text, &length);
	struct sd_error err = {0};
	struct sd_glob *glob;

	SURE(out, "no memory");
	sd_fold_print(out, line);
	fclose(out);
	SURE(sd_glob_new(text, &glob, &err) == SD_OK, "%s: %s", text, err.text);
	for (size_t i = 0; i < n; i++) {
		bool yes;

		SURE(sd_glob_matches(glob, names[i], &yes, &err) == SD_OK, "%s", err.text);
		taken += yes;
	}
	SURE(taken == line->count, "%s takes %zu names, not %u", text, taken, line->count);
	for (uint32_t i = line->first; i != UINT32_MAX; i = fold->next[i]) {
		bool yes;

		SURE(sd_glob_matches(glob, names[i], &yes, &err) == SD_OK && yes, "%s: %s", text, names[i]);
	}
	sd_glob_free(glob);
	free(text);
}

static void fold_names(char *text)
{
	const char *names[NAMES];
	struct sd_names known = {0};
	struct sd_error err = {0};
	struct sd_fold fold;
	size_t n = 0, all = 0;
	char *name;

	while ((name = strsep(&text, "\n")) && n < NAMES)
		if (sd_text_is_utf8(name, strlen(name)) && sd_names_add(&known, name, (uint32_t)n) == n)
			names[n++] = name;
	SURE(sd_fold(names, NULL, n, &fold, &err) == SD_OK, "%s", err.text);
	for (size_t i = 0; i < fold.nlines; i++) {
		match_line(&fold, &fold.lines[i], names, n);
		all += fold.lines[i].count;
	}
	SURE(all == n, "%zu of %zu names", all, n);
	sd_fold_free(&fold);
	sd_names_free(&known);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = text_of(data, size), *names = text, *again, *third, *fourth, *expression;
	struct sd_edit *edit = NULL;
	struct sd_error err = {0};
	enum sd_result result;

	if (!text)
		return 0;
	expression = strsep(&names, "\n");
	again = names ? strdup(names) : NULL;
	third = names ? strdup(names) : NULL;
	fourth = names ? strdup(names) : NULL;
	result = sd_edit_new(expression, &edit, &err);
	if (result == SD_OK)
		edit_names(edit, names);
	else
		sure_of_failure(result, &err);
	sd_edit_free(edit);
	search_names(expression, again);
	free(again);
	match_names(expression, third);
	free(third);
	fold_names(fourth);
	free(fourth);
	free(text);
	return 0;
}
