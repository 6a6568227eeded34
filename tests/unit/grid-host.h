/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA kernel on the host: every block and every thread of a launch, one after another between the barriers. */
#ifndef TESTS_GRID_HOST_H
#define TESTS_GRID_HOST_H

#include "../../cuda/gpu.h"

#include <stdlib.h>

/* One grid that is being turned. */
struct turning {
	const struct sd_grid *grid;
	struct sd_tile tile;
	unsigned from, to;       /* sizes of elements */
	uint64_t sources, count; /* elements that are there */
	uint8_t *written;        /* how often, for each element of the target */
	uint8_t cells[SD_GRID_VECTORS * SD_GRID_VECTOR];
	bool full[SD_GRID_VECTORS * SD_GRID_VECTOR];
};

/* A whole vector is read or written at one time, which the device only does where it is aligned. */
static inline const char *grid_reach(const struct sd_vector *v, uint32_t width, const void *buffer, unsigned size,
				     uint64_t count)
{
	unsigned bytes = width * size < SD_GRID_VECTOR ? width * size : SD_GRID_VECTOR;

	if (v->count > width)
		return "a vector is too long";
	if (v->count > 0 && (v->at >= count || (v->count - 1) * v->step >= count - v->at))
		return "a step outside of the memory";
	if (v->whole && (v->step != 1 || v->count != width || ((uintptr_t)buffer + v->at * size) % bytes != 0))
		return "a vector that is none";
	return NULL;
}

static inline void grid_put(struct turning *t, uint64_t at, uint64_t value)
{
	memcpy((uint8_t *)t->grid->target + at * t->to, &value, t->to);
	t->written[at] += t->written[at] < 2;
}

/* An element as it is to be. */
static inline uint64_t grid_make(const struct turning *t, uint64_t a, uint64_t b, uint64_t value)
{
	const struct sd_transpose *plan = &t->grid->plan;
	const struct sd_grid_scale *scale = &t->tile.scale;

	if (plan->bytes)
		return value;
	return sd_grid_element(plan, plan->source_dtype, plan->target_dtype,
			       scale->even ? scale->bits : sd_grid_scale_at(t->grid, &t->tile.place, a, b), value);
}

/* A vector of a tile that is turned goes into its cell. */
static inline const char *grid_fill(struct turning *t, uint32_t i)
{
	struct sd_vector v = sd_grid_read_vector(t->grid, &t->tile, i, t->from, t->to);
	const char *wrong =
		grid_reach(&v, sd_grid_read_width(false, t->from, t->to), t->grid->source, t->from, t->sources);
	uint32_t byte = sd_grid_byte((uint32_t)(v.a - t->tile.a), (uint32_t)(v.b - t->tile.b), t->from, t->to);

	if (byte % SD_GRID_VECTOR != 0 || byte >= sizeof(t->cells))
		return "a cell that is none";
	for (uint32_t j = 0; j < v.count && !wrong; j++) {
		uint64_t value = sd_grid_get_source(t->grid, v.at + j * v.step, t->from);

		if (t->full[byte + j * t->from])
			return "two threads fill one cell";
		t->full[byte + j * t->from] = true;
		memcpy(t->cells + byte + j * t->from, &value, t->from);
	}
	return wrong;
}

/* The vectors that a lot becomes. */
static inline const char *grid_empty(struct turning *t, uint32_t i)
{
	struct sd_lot lot = sd_grid_lot(i, t->from, t->to);
	uint32_t deep = SD_GRID_DEEP(t->from), wide = sd_grid_write_width(false, t->from, t->to);
	const char *wrong = NULL;

	if (t->tile.a + lot.a >= t->grid->plan.a.size || t->tile.b + lot.b >= t->grid->plan.b.size)
		return NULL;
	for (uint32_t k = 0; k < deep; k++) {
		struct sd_vector v = sd_grid_lot_vector(t->grid, &t->tile, &lot, k, t->to);

		wrong = grid_reach(&v, wide, t->grid->target, t->to, t->count);
		for (uint32_t j = 0; j < v.count && !wrong; j++) {
			uint32_t byte = sd_grid_byte(lot.a, lot.b + j, t->from, t->to);
			uint64_t value = 0;

			if (byte % SD_GRID_WORD(t->from) != 0 || byte >= sizeof(t->cells))
				return "a word that is none";
			byte += k * t->from;
			if (!t->full[byte])
				return "a word is read that nobody filled";
			memcpy(&value, t->cells + byte, t->from);
			grid_put(t, v.at + j * v.step, grid_make(t, v.a, v.b + j, value));
		}
	}
	return wrong;
}

/* A vector where there is nothing to turn. */
static inline const char *grid_copy(struct turning *t, uint32_t i)
{
	uint32_t wide = sd_grid_read_width(true, t->from, t->to);
	struct sd_vector v = sd_grid_read_vector(t->grid, &t->tile, i, t->from, t->to);
	struct sd_vector out = sd_grid_row_vector(t->grid, &t->tile, &v, t->from, t->to);
	const char *wrong = grid_reach(&v, wide, t->grid->source, t->from, t->sources);

	if (!wrong)
		wrong = grid_reach(&out, wide, t->grid->target, t->to, t->count);
	for (uint32_t j = 0; j < v.count && !wrong; j++) {
		uint64_t value = sd_grid_get_source(t->grid, v.at + j * v.step, t->from);

		grid_put(t, out.at + j * out.step, grid_make(t, v.a + j, v.b, value));
	}
	return wrong;
}

static inline const char *grid_tile(struct turning *t)
{
	const char *wrong = NULL;

	memset(t->full, 0, sizeof(t->full));
	for (uint32_t i = 0; i < SD_GRID_VECTORS && !wrong; i++)
		wrong = t->grid->plan.rows ? grid_copy(t, i) : grid_fill(t, i);
	for (uint32_t i = 0; !t->grid->plan.rows && i < SD_GRID_LOTS(t->from, t->to) && !wrong; i++)
		wrong = grid_empty(t, i);
	return wrong;
}

/* How many elements a grid reaches over on one side, as it lies on the device. */
static inline uint64_t grid_count(const struct sd_transpose *plan, bool source)
{
	uint64_t last = (source ? plan->from : plan->to) + (plan->a.size - 1) * (source ? plan->a.from : plan->a.to) +
			(plan->b.size - 1) * (source ? plan->b.from : plan->b.to);

	for (uint32_t k = 0; k < plan->outer; k++)
		last += (plan->dim[k].size - 1) * (source ? plan->dim[k].from : plan->dim[k].to);
	return last + 1;
}

static inline uint64_t grid_source_bytes(const struct sd_transpose *plan)
{
	uint64_t count = grid_count(plan, true);

	return sd_is_code(plan->source_dtype) ? (count + 1) / 2 : count * plan->source_size;
}

static inline const char *grid_turn_one(const struct sd_grid *grid, const struct sd_batch *batch)
{
	struct turning *t = malloc(sizeof(*t));
	uint64_t count = grid_count(&grid->plan, false);
	const char *wrong = NULL;

	if (t)
		*t = (struct turning){.grid = grid,
				      .from = batch->source_size,
				      .to = batch->target_size,
				      .sources = grid_count(&grid->plan, true),
				      .count = count,
				      .written = calloc(count, 1)};
	if (!t || !t->written)
		abort();
	if (grid->plan.source_size != t->from || grid->plan.target_size != t->to)
		wrong = "a grid in the wrong batch";
	for (uint64_t number = 0; number < grid->tiles && !wrong; number++) {
		t->tile = sd_grid_tile(grid, number);
		wrong = grid_tile(t);
	}
	for (uint64_t i = 0; i < count && !wrong; i++)
		if (t->written[i] != 1)
			wrong = "an element is not written once";
	free(t->written);
	free(t);
	return wrong;
}

/* Turns what the device would. Returns what the kernel did wrong, or NULL. */
static inline const char *grid_turn(const struct sd_batch *batch)
{
	const char *wrong = NULL;
	uint64_t tiles = 0;

	for (uint32_t i = 0; i < batch->count && !wrong; i++) {
		if (batch->grids[i].first != tiles)
			wrong = "tiles are not numbered one grid after the other";
		else
			wrong = grid_turn_one(&batch->grids[i], batch);
		tiles += batch->grids[i].tiles;
	}
	return wrong ? wrong : tiles == batch->tiles ? NULL : "the number of tiles is wrong";
}

#endif
