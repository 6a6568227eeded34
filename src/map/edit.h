/* SPDX-License-Identifier: Apache-2.0 */
/* Edits by hand: s/RE/REPLACEMENT/flags. */
#ifndef SD_MAP_EDIT_H
#define SD_MAP_EDIT_H

#include "base/arena.h"
#include "base/error.h"

struct sd_edit;

/*
 * Compiles "s/RE/REPLACEMENT/gi" with any delimiter (a backslash takes its meaning away). RE is PCRE2, searched
 * anywhere; in REPLACEMENT & is the match and \1 to \9 are groups. SD_USAGE and a line with the place and the reason if
 * it is wrong.
 */
SD_MUST_CHECK enum sd_result sd_edit_new(const char *text, struct sd_edit **edit, struct sd_error *err);
void sd_edit_free(struct sd_edit *edit);

/* The text as it was given. */
const char *sd_edit_text(const struct sd_edit *edit);

/* The edited name, in the arena; name itself where the RE is not found. SD_USAGE when PCRE2 gives up. */
SD_MUST_CHECK enum sd_result sd_edit_apply(const struct sd_edit *edit, const char *name, struct sd_arena *arena,
					   const char **edited, struct sd_error *err);

#endif
