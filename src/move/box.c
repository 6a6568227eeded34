/* SPDX-License-Identifier: Apache-2.0 */
/* A move as a box: its merged strides taken apart into the dimensions of both arrays. */
#include "move/box.h"

/* The coordinates of an element of a row-major array; false where there is none. */
static bool locate(uint64_t element, const uint64_t *shape, uint32_t rank, uint64_t *at)
{
	for (uint32_t k = rank; k-- > 0;) {
		if (!shape[k])
			return false;
		at[k] = element % shape[k];
		element /= shape[k];
	}
	return element == 0;
}

/* The dimension of more than one element that has this stride. */
static uint32_t with_stride(const uint64_t *shape, uint32_t rank, uint64_t stride)
{
	uint64_t own = 1;

	for (uint32_t k = rank; k-- > 0 && own <= stride;) {
		if (shape[k] > 1 && own == stride)
			return k;
		own *= shape[k];
	}
	return SD_NO_DIM;
}

/* Takes one dimension of a move apart: it may be several dimensions of the arrays, the innermost first. */
static bool take_apart(struct sd_dim dim, const uint64_t *source, uint32_t source_rank, const uint64_t *target,
		       uint32_t target_rank, struct sd_box *box)
{
	while (dim.size > 1) {
		uint32_t k = with_stride(source, source_rank, dim.from), d = with_stride(target, target_rank, dim.to);

		if (k == SD_NO_DIM || d == SD_NO_DIM || box->dim[k] != SD_NO_DIM)
			return false;
		box->dim[k] = d;
		if (dim.size <= source[k] && dim.size <= target[d]) {
			box->size[k] = dim.size;
			return box->from[k] + dim.size <= source[k] && box->to[d] + dim.size <= target[d];
		}
		if (source[k] != target[d] || dim.size % source[k] || box->from[k] || box->to[d])
			return false;
		box->size[k] = source[k];
		dim.size /= source[k];
		dim.from *= source[k];
		dim.to *= source[k];
	}
	return true;
}

bool sd_box_of(const struct sd_move *move, const uint64_t *source, uint32_t source_rank, const uint64_t *target,
	       uint32_t target_rank, struct sd_box *box)
{
	struct sd_move normal = sd_move_load(move);

	sd_move_normalise(&normal);
	if (!locate(normal.from, source, source_rank, box->from) || !locate(normal.to, target, target_rank, box->to))
		return false;
	for (uint32_t k = 0; k < source_rank; k++) {
		box->size[k] = 1;
		box->dim[k] = SD_NO_DIM;
	}
	for (uint32_t i = 0; i < normal.rank; i++)
		if (!normal.dim[i].size || !take_apart(normal.dim[i], source, source_rank, target, target_rank, box))
			return false;
	return true;
}
