/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which thread of the CUDA kernel reads and writes which element. C and CUDA alike, so that a test can be every block
 * and every thread of the grid on a machine without a GPU.
 *
 * A block has SD_GRID_X by SD_GRID_Y threads, and works on one tile of 1024 elements after another: it reads the tile,
 * casts and scales, puts each element into a slot of shared memory, and writes the slots. Each thread does
 * SD_GRID_STEPS elements.
 */
#ifndef SD_CUDA_GRID_H
#define SD_CUDA_GRID_H

#include "move/transpose.h"

#define SD_GRID_X 32
#define SD_GRID_Y 8
#define SD_GRID_STEPS 4
#define SD_GRID_TILE (SD_GRID_X * SD_GRID_Y * SD_GRID_STEPS)
/* A row of slots is one longer than a tile's, so that its columns lie in different banks. */
#define SD_GRID_PITCH 33
#define SD_GRID_SLOTS (SD_GRID_PITCH * 32)

/* One job as the device sees it: its source begins at the first element that is read, its target has no gaps. */
struct sd_grid {
	struct sd_transpose plan;
	uint64_t tiles_a, tiles_b, tiles;
	uint64_t source_from,
		source_count; /* which elements of the job's source go to the device; of codes, an even one is first */
	uint64_t target_from,
		target_count; /* what comes back, and where it begins in the job's target (plan.target_size) */
	struct sd_lane
		host[SD_MOVE_RANK + 2]; /* how the target lies at the host, the fastest first; see sd_grid_unpack */
	uint32_t rank;
	uint64_t run; /* elements that lie together on both sides */
};

/* False where a number does not fit. plan has loops. */
SD_UNUSED_RESULT bool sd_grid_plan(const struct sd_transpose *plan, struct sd_grid *grid);

/* Puts the device's target where it belongs: target is the job's. Nothing between is touched. */
void sd_grid_unpack(const struct sd_grid *grid, const void *packed, void *target);

/* What of the job's source goes to the device, and how many bytes that is. */
static inline const void *sd_grid_source(const struct sd_grid *grid, const void *source, uint64_t *bytes)
{
	const uint8_t *first = sd_transpose_source(&grid->plan, (const uint8_t *)source, grid->source_from);

	*bytes = sd_transpose_source(&grid->plan, first, grid->source_count - 1) - first + grid->plan.source_size;
	return first;
}

/* Where one tile begins. */
struct sd_tile {
	struct sd_place place;
	uint64_t a, b;
};

/* A tile is 32 by 32, but where there is nothing to turn and rows are long, a piece of one row. */
SD_SCALAR uint32_t sd_grid_width(const struct sd_transpose *plan)
{
	return plan->rows && plan->a.size >= SD_GRID_TILE ? SD_GRID_TILE : 32;
}

SD_SCALAR struct sd_tile sd_grid_tile(const struct sd_grid *grid, uint64_t number)
{
	uint32_t width = sd_grid_width(&grid->plan);
	struct sd_tile tile;

	tile.a = number % grid->tiles_a * width;
	number /= grid->tiles_a;
	tile.b = number % grid->tiles_b * (SD_GRID_TILE / width);
	tile.place = sd_transpose_place(&grid->plan, number / grid->tiles_b);
	return tile;
}

/* The element of a tile that a thread handles in a step, and its slot. False: there is none. */
struct sd_spot {
	uint64_t a, b;
	uint32_t slot;
};

SD_SCALAR bool sd_grid_spot(const struct sd_grid *grid, const struct sd_tile *tile, uint32_t i, bool turned,
			    struct sd_spot *spot)
{
	uint32_t width = sd_grid_width(&grid->plan);
	uint32_t a = turned ? i / 32 : i % width, b = turned ? i % 32 : i / width;

	spot->a = tile->a + a;
	spot->b = tile->b + b;
	spot->slot = width == 32 ? b * SD_GRID_PITCH + a : i;
	return spot->a < grid->plan.a.size && spot->b < grid->plan.b.size;
}

/* The number of a thread's element in a tile. */
SD_SCALAR uint32_t sd_grid_number(uint32_t x, uint32_t y, uint32_t step)
{
	return (step * SD_GRID_Y + y) * SD_GRID_X + x;
}

/* An element of a buffer, aligned to its size; a compiler that knows size makes one load of it. */
SD_SCALAR uint64_t sd_grid_get(const void *buffer, uint64_t i, unsigned size)
{
	switch (size) {
	case 1:
		return ((const uint8_t *)buffer)[i];
	case 2:
		return ((const uint16_t *)buffer)[i];
	case 4:
		return ((const uint32_t *)buffer)[i];
	default:
		return ((const uint64_t *)buffer)[i];
	}
}

SD_SCALAR void sd_grid_put(void *buffer, uint64_t i, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		((uint8_t *)buffer)[i] = (uint8_t)value;
		break;
	case 2:
		((uint16_t *)buffer)[i] = (uint16_t)value;
		break;
	case 4:
		((uint32_t *)buffer)[i] = (uint32_t)value;
		break;
	default:
		((uint64_t *)buffer)[i] = value;
	}
}

/* sd_element_size, of what can be a scale. */
SD_SCALAR unsigned sd_grid_scale_size(uint8_t element)
{
	return element == SD_F32 ? 4 : element == SD_BF16 || element == SD_F16 ? 2 : 1;
}

/* What a thread reads in a step: the element as it is to be in the target. size: plan.source_size. */
SD_SCALAR bool sd_grid_read(const struct sd_grid *grid, const struct sd_tile *tile, uint32_t i, const void *source,
			    const void *scales, unsigned size, uint32_t *slot, uint64_t *value)
{
	const struct sd_transpose *plan = &grid->plan;
	struct sd_spot spot;
	uint64_t from;
	uint32_t bits;

	if (!sd_grid_spot(grid, tile, i, false, &spot))
		return false;
	*slot = spot.slot;
	from = tile->place.from + spot.a * plan->a.from + spot.b * plan->b.from;
	if (sd_is_code(plan->source_dtype))
		*value = sd_grid_get(source, from / 2, 1) >> from % 2 * 4;
	else
		*value = sd_grid_get(source, from, size);
	if (plan->bytes)
		return true;
	bits = sd_element_decode(plan->source_dtype, *value);
	if (plan->scale_dtype != SD_NO_DTYPE) {
		uint64_t at = tile->place.scale + sd_lane_scale(&plan->a, spot.a) + sd_lane_scale(&plan->b, spot.b);
		uint64_t scale = sd_grid_get(scales, at, sd_grid_scale_size(plan->scale_dtype));

		bits = sd_element_scale(bits, sd_element_decode(plan->scale_dtype, scale));
	}
	*value = sd_element_encode(plan->target_dtype, bits);
	return true;
}

/* The slot that a thread writes in a step, and the target's element that it goes to. */
SD_SCALAR bool sd_grid_write(const struct sd_grid *grid, const struct sd_tile *tile, uint32_t i, uint32_t *slot,
			     uint64_t *to)
{
	struct sd_spot spot;

	if (!sd_grid_spot(grid, tile, i, !grid->plan.rows, &spot))
		return false;
	*slot = spot.slot;
	*to = tile->place.to + spot.a * grid->plan.a.to + spot.b * grid->plan.b.to;
	return true;
}

#endif
