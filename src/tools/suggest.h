/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --suggest: edits and maps by which more of a checkpoint is converted. */
#ifndef SD_TOOLS_SUGGEST_H
#define SD_TOOLS_SUGGEST_H

#include "renaming/rename.h"
#include "tools/look.h"

struct suggest_options {
	const char *map; /* by name or path; NULL or "auto": the one that fits */
	const char *to;  /* a layout, or NULL */
	const struct sd_define *defines;
	size_t ndefines;
	bool json;
	struct sd_look look;
};

/*
 * Prints what helps, best first, and how much: each has been tried on the whole checkpoint. SD_DIFFERENT, with nothing
 * more to be said, where nothing does.
 */
SD_MUST_CHECK enum sd_result suggest_print(const struct suggest_options *opt, const struct sd_manifest *in,
					   struct sd_error *err);

#endif
