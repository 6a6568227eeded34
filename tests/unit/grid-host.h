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
	uint64_t slots[SD_GRID_SLOTS(1, 1)];
	bool full[SD_GRID_SLOTS(1, 1)];
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

static inline const char *grid_read(struct turning *t, uint32_t i)
{
	bool rows = t->grid->plan.rows;
	struct sd_vector v = sd_grid_read_vector(t->grid, &t->tile, i, t->from, t->to);
	struct sd_vector out = sd_grid_row_vector(t->grid, &t->tile, &v, t->from, t->to);
	struct sd_grid_scale scale = {0, 0};
	const char *wrong =
		grid_reach(&v, sd_grid_read_width(rows, t->from, t->to), t->grid->source, t->from, t->sources);

	if (rows && !wrong)
		wrong = grid_reach(&out, sd_grid_write_width(rows, t->from, t->to), t->grid->target, t->to, t->count);
	for (uint32_t j = 0; j < v.count && !wrong; j++) {
		uint64_t value = sd_grid_get_source(t->grid, v.at + j * v.step, t->from);
		uint32_t slot;

		value = sd_grid_element(t->grid, &t->tile, &v, j, value, &scale);
		if (rows) {
			grid_put(t, out.at + j * out.step, value);
			continue;
		}
		slot = sd_grid_slot((uint32_t)(v.a - t->tile.a) + j, (uint32_t)(v.b - t->tile.b), t->from, t->to);
		if (slot >= SD_GRID_SLOTS(t->from, t->to))
			return "a slot outside of shared memory";
		if (t->full[slot])
			return "two threads fill one slot";
		t->full[slot] = true;
		t->slots[slot] = value;
	}
	return wrong;
}

static inline const char *grid_write(struct turning *t, uint32_t i)
{
	struct sd_vector v = sd_grid_write_vector(t->grid, &t->tile, i, t->from, t->to);
	const char *wrong =
		grid_reach(&v, sd_grid_write_width(false, t->from, t->to), t->grid->target, t->to, t->count);

	for (uint32_t j = 0; j < v.count && !wrong; j++) {
		uint32_t slot =
			sd_grid_slot((uint32_t)(v.a - t->tile.a), (uint32_t)(v.b - t->tile.b) + j, t->from, t->to);

		if (slot >= SD_GRID_SLOTS(t->from, t->to) || !t->full[slot])
			return "a slot is read that nobody filled";
		grid_put(t, v.at + j * v.step, t->slots[slot]);
	}
	return wrong;
}

static inline const char *grid_tile(struct turning *t)
{
	const struct sd_grid *grid = t->grid;
	const char *wrong = NULL;

	memset(t->full, 0, sizeof(t->full));
	for (uint32_t i = 0; i < grid->tile_b << grid->shift && !wrong; i++)
		wrong = grid_read(t, i);
	for (uint32_t i = 0; !grid->plan.rows && i < grid->tile_a * SD_GRID_LINE && !wrong; i++)
		wrong = grid_write(t, i);
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
