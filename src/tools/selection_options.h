/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing tensors: the options that all tools have which choose. */
#ifndef SD_TOOLS_SELECTION_OPTIONS_H
#define SD_TOOLS_SELECTION_OPTIONS_H

#include "model/selection.h"

/* Letters of getopt_long that no tool has for others. */
enum { SELECTION_INCLUDE = 0x100, SELECTION_EXCLUDE, SELECTION_LAYERS, SELECTION_EXPERTS };

/* Their short option in the string of getopt_long, their entries in its array, and what takes their values, or is
 * misuse; false for other letters. */
#define SELECTION_SHORT "n:"
#define SELECTION_OPTIONS                                                                                              \
	{"name", required_argument, NULL, 'n'}, {"include", required_argument, NULL, SELECTION_INCLUDE},               \
	{                                                                                                              \
		"exclude", required_argument, NULL, SELECTION_EXCLUDE                                                  \
	}
#define SELECTION_NUMBERS                                                                                              \
	{"layers", required_argument, NULL, SELECTION_LAYERS},                                                         \
	{                                                                                                              \
		"experts", required_argument, NULL, SELECTION_EXPERTS                                                  \
	}
bool selection_option(struct sd_selection *choice, int letter, const char *value);

/* A note where an --exclude matches no tensor. */
SD_MUST_CHECK enum sd_result selection_note(const struct sd_selection *choice, const struct sd_manifest *m, bool strict,
					    struct sd_error *err);

#endif
