/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A move is the one form of every reordering: a strided copy. Element (i0, i1, ...) with 0 <= ik < dim[k].size goes
 * from from + i0*dim[0].from + i1*dim[1].from + ...      of the source to to   + i0*dim[0].to   + i1*dim[1].to   + ...
 * of the target, all counted in elements of row-major arrays. Transpose, permute, reshape, stack, concat, split and
 * slice are moves.
 */
#ifndef SD_MOVE_MOVE_H
#define SD_MOVE_MOVE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SD_MOVE_RANK 16

struct sd_dim {
	uint64_t size, from, to;
};

struct sd_move {
	uint64_t from, to;
	uint32_t rank;
	struct sd_dim dim[SD_MOVE_RANK];
};

/*
 * A move that is kept in memory may have only the dimensions that it uses: sd_move_size bytes. So a move behind a
 * pointer is never copied as a struct, but read with sd_move_load.
 */
static inline size_t sd_move_size(const struct sd_move *move)
{
	return offsetof(struct sd_move, dim) + move->rank * sizeof(move->dim[0]);
}

static inline struct sd_move sd_move_load(const struct sd_move *kept)
{
	struct sd_move move = {0};

	memcpy(&move, kept, sd_move_size(kept));
	return move;
}

/*
 * The move of these dimensions, however many, in normal form; dim is used up. False where more than SD_MOVE_RANK are
 * left. What it is made of needs sd_move_check only if it comes from outside.
 */
SD_MUST_CHECK bool sd_move_make(struct sd_move *move, uint64_t from, uint64_t to, struct sd_dim *dim, uint32_t rank);

/*
 * Turns a whole array: dimension k of the target is dimension order[k] of the source. False if order is no permutation
 * or the array is too large.
 */
SD_MUST_CHECK bool sd_move_permute(struct sd_move *move, const uint64_t *shape, uint32_t rank, const uint32_t *order);

/*
 * The box of an array, size[k] elements from begin[k] on, becomes an array of its own; the inverse puts an array into
 * its place in a larger one. False if the box is not inside or it is too large.
 */
SD_MUST_CHECK bool sd_move_slice(struct sd_move *move, const uint64_t *shape, uint32_t rank, const uint64_t *begin,
				 const uint64_t *size);

/* The move that copies count elements in order. */
struct sd_move sd_move_identity(uint64_t count);

/* Elements that the move copies. Never overflows for a move that sd_move_check has passed. */
uint64_t sd_move_count(const struct sd_move *move);

/*
 * The normal form: no dimension of size 1, dimensions that are contiguous on both sides fused, ordered by target
 * stride, the largest first. Two moves of the same elements to the same places, in dimensions that one pair of arrays
 * can have, have the same normal form. A move with a dimension of size 0 copies nothing: rank 1, size 0.
 */
void sd_move_normalise(struct sd_move *move);

/*
 * Whether the move stays within source_count and target_count elements, and no element is read or written twice
 * (strides, ordered, are each at least as large as what lies below them). For moves from outside; all arithmetic is
 * checked.
 */
SD_MUST_CHECK bool sd_move_check(const struct sd_move *move, uint64_t source_count, uint64_t target_count);

/* Whether, in normal form, elements keep their relative order: such a move needs no work but its place (slices,
 * stacks). */
bool sd_move_keeps_order(const struct sd_move *normal);

/* The inverse: source and target change places. In normal form again. */
struct sd_move sd_move_inverse(const struct sd_move *move);

#endif
