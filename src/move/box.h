/* SPDX-License-Identifier: Apache-2.0 */
/* A move as a box: which part of one array becomes which part of another, dimension by dimension. */
#ifndef SD_MOVE_BOX_H
#define SD_MOVE_BOX_H

#include "base/dtype.h"
#include "move/move.h"

#define SD_NO_DIM UINT32_MAX

/*
 * The elements from[k] to from[k] + size[k] - 1 of each dimension k of the source lie, in order, along dimension dim[k]
 * of the target, from to[dim[k]] on. dim[k] is SD_NO_DIM where size[k] is 1.
 */
struct sd_box {
	uint64_t from[SD_RANK_MAX], size[SD_RANK_MAX];
	uint32_t dim[SD_RANK_MAX];
	uint64_t to[SD_RANK_MAX];
};

/*
 * The box of a move between arrays of these shapes. False where the move is none: it splits or joins dimensions, skips
 * elements, or copies nothing.
 */
SD_MUST_CHECK bool sd_box_of(const struct sd_move *move, const uint64_t *source, uint32_t source_rank,
			     const uint64_t *target, uint32_t target_rank, struct sd_box *box);

#endif
