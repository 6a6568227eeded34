/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes edits by hand, and the regexes of --include: the first line is the edit, the others are names. What an edit
 * makes of a name is a name again, or is refused.
 */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = text_of(data, size), *names = text, *again, *expression;
	struct sd_edit *edit = NULL;
	struct sd_error err = {0};
	enum sd_result result;

	if (!text)
		return 0;
	expression = strsep(&names, "\n");
	again = names ? strdup(names) : NULL;
	result = sd_edit_new(expression, &edit, &err);
	if (result == SD_OK)
		edit_names(edit, names);
	else
		sure_of_failure(result, &err);
	sd_edit_free(edit);
	search_names(expression, again);
	free(again);
	free(text);
	return 0;
}
