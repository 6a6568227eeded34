/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing tensors. */
#include "tools/selection_options.h"
#include "tools/tool.h"

#include <string.h>

/* A pattern of a shell in the place of a regex is a mistake that PCRE2 tells in words of its own. */
static void add_regex(struct sd_regex_list *list, const char *option, const char *pattern)
{
	struct sd_error err;

	if (sd_regex_list_add(list, pattern, &err) == SD_OK)
		return;
	if (err.result == SD_USAGE && *pattern == '*')
		sd_misuse("%s %s: this is a regular expression, in which * repeats what is in front of it; -n takes "
			  "patterns as a shell does: -n '%s'",
			  option, pattern, pattern);
	sd_bad_value(&err);
}

bool selection_option(struct sd_selection *choice, int letter, const char *value)
{
	struct sd_error err;
	enum sd_result result = SD_OK;

	if (letter == SELECTION_INCLUDE)
		add_regex(&choice->include, "--include", value);
	else if (letter == SELECTION_EXCLUDE)
		add_regex(&choice->exclude, "--exclude", value);
	else if (letter == SELECTION_LAYERS)
		result = sd_selection_set_layers(choice, value, &err);
	else if (letter == SELECTION_EXPERTS)
		result = sd_selection_set_experts(choice, value, &err);
	else if (letter == 'n')
		result = sd_selection_add_name(choice, value, &err);
	else
		return false;
	if (result != SD_OK)
		sd_bad_value(&err);
	return true;
}

enum sd_result selection_note(const struct sd_selection *choice, const struct sd_manifest *m, bool strict,
			      struct sd_error *err)
{
	const char *exclude;
	enum sd_result result = sd_selection_idle(choice, m, &exclude, err);

	if (result == SD_OK && exclude && m->ntargets)
		result = sd_doubt(strict, err, "--exclude %s matches none of %zu names", exclude, m->ntargets);
	return result;
}
