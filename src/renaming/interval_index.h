/* SPDX-License-Identifier: Apache-2.0 */
/* The pieces of a tensor by their places in it. They live in the plan's arena, and hold from when somebody first asks:
 * a tensor that is asked about gets no more pieces. */
#ifndef SD_RENAMING_INTERVAL_INDEX_H
#define SD_RENAMING_INTERVAL_INDEX_H

#include "renaming/planner.h"

/* A piece fills elements from begin on, and none from end on. */
struct sd_planner_span {
	uint64_t begin, end;
	uint64_t reach; /* the highest end of this one and those before it */
	uint32_t piece;
};

/* All pieces of a tensor, by begin. */
struct sd_planner_spans {
	struct sd_planner_span *at;
	size_t n;
};

/* The pieces that may have something of the elements from begin to end. */
struct sd_planner_overlap {
	const struct sd_planner_spans *spans; /* NULL: all pieces, from first on */
	uint64_t begin, end;
	size_t next;
	uint32_t first;
};

/* Looks for the pieces of a tensor that a move of the tensor (NULL: of all of it) may read. */
SD_MUST_CHECK enum sd_result sd_intervals_begin(struct sd_planner *p, struct sd_planner_tensor *t,
						const struct sd_move *move, struct sd_planner_overlap *overlap);

/* The next of them, or NONE. */
uint32_t sd_intervals_next(const struct sd_planner *p, struct sd_planner_overlap *overlap);

#endif
