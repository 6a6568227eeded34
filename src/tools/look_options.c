/* SPDX-License-Identifier: Apache-2.0 */
/* The options of tools that show something. */
#include "tools/look_options.h"
#include "tools/tool.h"

bool look_option(struct look_options *form, int letter, const char *value)
{
	if (letter == LOOK_JSON)
		form->json = true;
	else if (letter == LOOK_TSV)
		form->tsv = true;
	else if (letter == LOOK_COLOUR)
		form->colour = sd_option_when(value);
	else
		return false;
	return true;
}

struct sd_look look_of(const struct look_options *form)
{
	if (form->json && form->tsv)
		sd_misuse("--json and --tsv exclude each other");
	return form->json || form->tsv ? (struct sd_look){.width = SIZE_MAX} : sd_look_at_stdout(form->colour);
}
