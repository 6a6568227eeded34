/* SPDX-License-Identifier: Apache-2.0 */
/* The options of tools that show something: for whom, and with which colours. */
#ifndef SD_TOOLS_LOOK_OPTIONS_H
#define SD_TOOLS_LOOK_OPTIONS_H

#include "tools/look.h"

struct look_options {
	bool json, tsv;
	enum sd_when colour;
};

/* Letters of getopt_long that no tool has for others, and their entries in its array. */
enum { LOOK_JSON = 0x110, LOOK_TSV, LOOK_COLOUR };
#define LOOK_OPTIONS                                                                                                   \
	{"json", no_argument, NULL, LOOK_JSON}, {"tsv", no_argument, NULL, LOOK_TSV},                                  \
	{                                                                                                              \
		"color", required_argument, NULL, LOOK_COLOUR                                                          \
	}

/* Takes one of them, or is misuse; false for other letters. */
bool look_option(struct look_options *form, int letter, const char *value);

/* How standard output looks with them, or misuse of those that exclude each other. */
struct sd_look look_of(const struct look_options *form);

#endif
