/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --check-map of a checkpoint: whether all its tensors come back as they were. */
#ifndef SD_TOOLS_BACK_H
#define SD_TOOLS_BACK_H

#include "renaming/rename.h"

/* Whether standard input is a file that begins as a checkpoint does: nothing is read from it. */
bool back_is_wanted(void);

/*
 * Goes there and back by a map and its defines, and prints a line for each tensor that is not as it was then. to: the
 * side to go to, or -1. SD_DIFFERENT, with how many these are, where there are any; what does not convert fails as
 * sd_rename_plan does.
 */
SD_MUST_CHECK enum sd_result back_check(const struct sd_rename *asked, const struct sd_manifest *in,
					struct sd_error *err);

#endif
