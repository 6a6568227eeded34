/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends what a run of sd-pack that was killed has begun in a directory: a checkpoint that takes another's place, once
 * all of it is there, and a patch, once its journal is.
 */
#ifndef SD_FORMATS_RECOVER_H
#define SD_FORMATS_RECOVER_H

#include "base/error.h"

/* Opens a directory as *place, and keeps other programs from writing there until that is closed. */
SD_MUST_CHECK enum sd_result sd_recover_lock(const char *path, int *place, struct sd_error *err);

/* Ends what was begun in a directory that is locked; *found: there was something. */
SD_MUST_CHECK enum sd_result sd_recover_place(int place, const char *path, bool sync, bool *found,
					      struct sd_error *err);

/* Does all of it. SD_INPUT, where nothing was begun that could be ended. */
SD_MUST_CHECK enum sd_result sd_recover(const char *path, bool sync, struct sd_error *err);

#endif
