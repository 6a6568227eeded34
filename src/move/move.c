/* SPDX-License-Identifier: Apache-2.0 */
/* Moves: their normal form, their check, and how one is made from shapes. */
#include "move/move.h"
#include "base/checked.h"
#include "base/dtype.h"

#include <string.h>

static void sort(struct sd_dim *dim, uint32_t rank)
{
	for (uint32_t i = 1; i < rank; i++) {
		struct sd_dim d = dim[i];
		uint32_t k = i;

		for (; k > 0 && (dim[k - 1].to < d.to || (dim[k - 1].to == d.to && dim[k - 1].from < d.from)); k--)
			dim[k] = dim[k - 1];
		dim[k] = d;
	}
}

/* Whether the outer dimension goes on where the inner one ends, on both sides; then inner becomes the two of them. */
static bool fuse(const struct sd_dim *outer, struct sd_dim *inner)
{
	uint64_t size, from, to;

	if (!sd_mul(inner->from, inner->size, &from) || !sd_mul(inner->to, inner->size, &to) ||
	    !sd_mul(inner->size, outer->size, &size) || outer->from != from || outer->to != to)
		return false;
	inner->size = size;
	return true;
}

static uint32_t normalise(struct sd_dim *dim, uint32_t rank)
{
	uint32_t kept = 0, fused = 0;

	for (uint32_t k = 0; k < rank; k++) {
		if (dim[k].size == 0) {
			dim[0] = (struct sd_dim){0, 1, 1};
			return 1;
		}
		if (dim[k].size != 1)
			dim[kept++] = dim[k];
	}
	sort(dim, kept);
	for (uint32_t k = 0; k < kept; k++) {
		struct sd_dim inner = dim[k];

		if (fused && fuse(&dim[fused - 1], &inner))
			fused--;
		dim[fused++] = inner;
	}
	return fused;
}

bool sd_move_make(struct sd_move *move, uint64_t from, uint64_t to, struct sd_dim *dim, uint32_t rank)
{
	rank = normalise(dim, rank);
	if (rank > SD_MOVE_RANK)
		return false;
	memset(move, 0, sizeof(*move));
	move->rank = rank;
	if (rank)
		memcpy(move->dim, dim, rank * sizeof(*dim));
	if (rank == 0 || dim[0].size) {
		move->from = from;
		move->to = to;
	}
	return true;
}

void sd_move_normalise(struct sd_move *move)
{
	struct sd_dim dim[SD_MOVE_RANK];

	memcpy(dim, move->dim, move->rank * sizeof(*dim));
	/* Never false: there are no more dimensions than before. */
	(void)!sd_move_make(move, move->from, move->to, dim, move->rank);
}

struct sd_move sd_move_identity(uint64_t count)
{
	struct sd_move move = {.rank = 1, .dim = {{count, 1, 1}}};

	sd_move_normalise(&move);
	return move;
}

uint64_t sd_move_count(const struct sd_move *move)
{
	uint64_t count = 1;

	for (uint32_t k = 0; k < move->rank; k++)
		count *= move->dim[k].size;
	return count;
}

/* Whether all positions of one side are different and below count. */
static bool side_fits(uint64_t offset, const uint64_t (*side)[2], uint32_t rank, uint64_t count)
{
	uint64_t sorted[SD_MOVE_RANK][2], reach = 0, span;

	for (uint32_t i = 0; i < rank; i++) {
		uint32_t k = i;

		for (; k > 0 && sorted[k - 1][1] > side[i][1]; k--)
			memcpy(sorted[k], sorted[k - 1], sizeof(sorted[k]));
		memcpy(sorted[k], side[i], sizeof(sorted[k]));
	}
	for (uint32_t k = 0; k < rank; k++)
		if (sorted[k][1] <= reach || !sd_mul(sorted[k][0] - 1, sorted[k][1], &span) ||
		    !sd_add(reach, span, &reach))
			return false;
	return sd_add(offset, reach, &reach) && reach < count;
}

bool sd_move_check(const struct sd_move *move, uint64_t source_count, uint64_t target_count)
{
	uint64_t from[SD_MOVE_RANK][2], to[SD_MOVE_RANK][2];
	uint32_t rank = 0;

	if (move->rank > SD_MOVE_RANK)
		return false;
	for (uint32_t k = 0; k < move->rank; k++) {
		const struct sd_dim *d = &move->dim[k];

		if (d->size == 0)
			return true;
		if (d->size == 1)
			continue;
		from[rank][0] = to[rank][0] = d->size;
		from[rank][1] = d->from;
		to[rank++][1] = d->to;
	}
	return side_fits(move->from, (const uint64_t(*)[2])from, rank, source_count) &&
	       side_fits(move->to, (const uint64_t(*)[2])to, rank, target_count);
}

bool sd_move_keeps_order(const struct sd_move *normal)
{
	for (uint32_t k = 1; k < normal->rank; k++)
		if (normal->dim[k - 1].from < normal->dim[k].from)
			return false;
	return true;
}

struct sd_move sd_move_inverse(const struct sd_move *move)
{
	struct sd_move inverse = {.from = move->to, .to = move->from, .rank = move->rank};

	for (uint32_t k = 0; k < move->rank; k++)
		inverse.dim[k] = (struct sd_dim){move->dim[k].size, move->dim[k].to, move->dim[k].from};
	sd_move_normalise(&inverse);
	return inverse;
}

/* Strides of a row-major array. */
static bool strides(const uint64_t *shape, uint32_t rank, uint64_t *stride)
{
	uint64_t step = 1;

	for (uint32_t k = rank; k-- > 0;) {
		stride[k] = step;
		if (!sd_mul(step, shape[k] ? shape[k] : 1, &step))
			return false;
	}
	return true;
}

bool sd_move_permute(struct sd_move *move, const uint64_t *shape, uint32_t rank, const uint32_t *order)
{
	uint64_t from[SD_RANK_MAX], to[SD_RANK_MAX], turned[SD_RANK_MAX];
	struct sd_dim dim[SD_RANK_MAX];
	uint64_t seen = 0;

	if (rank > SD_RANK_MAX)
		return false;
	for (uint32_t k = 0; k < rank; k++) {
		if (order[k] >= rank || seen >> order[k] & 1)
			return false;
		seen |= UINT64_C(1) << order[k];
		turned[k] = shape[order[k]];
	}
	if (!strides(shape, rank, from) || !strides(turned, rank, to))
		return false;
	for (uint32_t k = 0; k < rank; k++)
		dim[k] = (struct sd_dim){turned[k], from[order[k]], to[k]};
	return sd_move_make(move, 0, 0, dim, rank);
}

bool sd_move_slice(struct sd_move *move, const uint64_t *shape, uint32_t rank, const uint64_t *begin,
		   const uint64_t *size)
{
	uint64_t from[SD_RANK_MAX], to[SD_RANK_MAX], offset = 0;
	struct sd_dim dim[SD_RANK_MAX];

	if (rank > SD_RANK_MAX || !strides(shape, rank, from) || !strides(size, rank, to))
		return false;
	for (uint32_t k = 0; k < rank; k++) {
		if (begin[k] > shape[k] || size[k] > shape[k] - begin[k])
			return false;
		dim[k] = (struct sd_dim){size[k], from[k], to[k]};
		offset += begin[k] * from[k];
	}
	return sd_move_make(move, offset, 0, dim, rank);
}
