/* SPDX-License-Identifier: Apache-2.0 */
/* Coverage: whether the pieces of a tensor fill it, every element exactly once. */
#ifndef SD_MOVE_COVERAGE_H
#define SD_MOVE_COVERAGE_H

#include "move/move.h"

enum sd_coverage {
	SD_COVERED = 0,
	SD_HOLE,              /* nothing writes the element */
	SD_OVERLAP,           /* both first and second write the element */
	SD_COVERAGE_TOO_HARD, /* the pieces are cut in more ways than can be followed: nothing is proven */
	SD_COVERAGE_NOMEM,
};

/* The first element of the tensor that is not written exactly once, and the numbers of two moves that write it. */
struct sd_coverage_fault {
	uint64_t element;
	size_t first, second;
};

/*
 * Looks at the target sides of count moves into one tensor of elements elements. Each has passed sd_move_check.
 * fault is filled for a hole and an overlap.
 */
SD_MUST_CHECK enum sd_coverage sd_coverage_check(const struct sd_move *const *moves, size_t count, uint64_t elements,
						 struct sd_coverage_fault *fault);

#endif
