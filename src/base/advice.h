/* SPDX-License-Identifier: Apache-2.0 */
/* Edits that messages advise: they work as they are shown, whatever names have in them. */
#ifndef SD_BASE_ADVICE_H
#define SD_BASE_ADVICE_H

#include "base/arena.h"

enum sd_advice_place {
	SD_ADVICE_FRONT, /* what names begin with */
	SD_ADVICE_WHOLE, /* a name; a * in both texts stands for the same number */
	SD_ADVICE_PIECE, /* what stands anywhere in names */
};

/*
 * Length bytes of a name as a regular expression. It has no backslash, for messages show those twice, no quote, and
 * nothing that is not seen: [.] is a dot, [^ -~] any character that is not in ASCII, and a dot what has no other form.
 */
const char *sd_advice_regex(struct sd_arena *arena, const char *text, size_t length);

/*
 * The edit for sd-rename -e that puts meant in the place of length bytes of names. NULL: memory is out, or meant has
 * letters that would not be shown as they are.
 */
const char *sd_advice_edit(struct sd_arena *arena, enum sd_advice_place place, const char *text, size_t length,
			   const char *meant);

#endif
