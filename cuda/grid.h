/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which thread of the CUDA kernel reads and writes which elements. C and CUDA alike, so that a test can be every block
 * and every thread of a launch on a machine without a GPU.
 *
 * A launch turns a batch of grids, one for each job, whose tiles are numbered one grid after the other; a block does
 * one tile after another. In a step each of its threads handles a vector: elements that follow each other. A tile that
 * is turned is eight vectors wide on both sides, so that eight neighbouring threads read, and then write, a whole line
 * of 128 bytes: it has 128 by 128 elements of one byte, 16 by 16 of eight. In between, the elements, cast and scaled,
 * lie in slots of shared memory. Where there is nothing to turn, a thread writes what it has just read.
 */
#ifndef SD_CUDA_GRID_H
#define SD_CUDA_GRID_H

#include "move/transpose.h"

#define SD_GRID_THREADS 128
/* Vectors in a tile of rows. */
#define SD_GRID_ROW_VECTORS 1024
/* Neighbouring vectors that make a line, of a tile that is turned. */
#define SD_GRID_LINE 8
/* Bytes of the widest access of one thread. What lies on the device begins at a multiple of SD_GRID_ALIGN. */
#define SD_GRID_VECTOR 16
#define SD_GRID_ALIGN 128

/* One job, or a part of one, as the device sees it: offsets and strides are those of its memory there. */
struct sd_grid {
	struct sd_transpose plan;
	uint64_t tiles_a, tiles_b, tiles;
	uint64_t first;          /* the number of its first tile in the batch */
	uint32_t tile_a, tile_b; /* elements of a tile */
	uint32_t shift;          /* 1 << shift vectors side by side are a tile's row */
	const void *source, *scales;
	void *target;
};

/* What one launch turns: grids with elements of the same sizes. */
struct sd_batch {
	const struct sd_grid *grids; /* on the device */
	uint32_t count;
	uint64_t tiles;
	uint8_t source_size, target_size;
};

/* Fills in the tiles; plan and pointers are the caller's. False where a number does not fit. The plan has loops. */
SD_UNUSED_RESULT bool sd_grid_plan(struct sd_grid *grid);

/* Elements of a vector that is read, and of one that is written, for elements of these sizes. */
SD_SCALAR uint32_t sd_grid_read_width(bool rows, unsigned source_size, unsigned target_size)
{
	bool narrow = source_size < target_size;

	return SD_GRID_VECTOR / (narrow != rows ? source_size : target_size);
}

SD_SCALAR uint32_t sd_grid_write_width(bool rows, unsigned source_size, unsigned target_size)
{
	return rows ? sd_grid_read_width(rows, source_size, target_size) : SD_GRID_VECTOR / target_size;
}

/* Elements of a tile that is turned: what it needs slots for, each as wide as a target's element. */
#define SD_GRID_SLOTS(source_size, target_size)                                                                        \
	(SD_GRID_LINE * SD_GRID_VECTOR / ((source_size) < (target_size) ? (source_size) : (target_size)) *             \
	 SD_GRID_LINE * SD_GRID_VECTOR / (target_size))

/* Where one tile begins. */
struct sd_tile {
	struct sd_place place;
	uint64_t a, b;
};

/* number: among the grid's own. */
SD_SCALAR struct sd_tile sd_grid_tile(const struct sd_grid *grid, uint64_t number)
{
	struct sd_tile tile;

	tile.a = number % grid->tiles_a * grid->tile_a;
	number /= grid->tiles_a;
	tile.b = number % grid->tiles_b * grid->tile_b;
	tile.place = sd_transpose_place(&grid->plan, number / grid->tiles_b);
	return tile;
}

/* What a thread handles in a step. */
struct sd_vector {
	uint64_t a, b; /* its first element */
	uint64_t at,
		step;   /* where that one is, in elements of the source or the target, and how far it is to the next */
	uint32_t count; /* elements that there are of it */
	bool whole;     /* all are there, side by side and aligned: one access, or a few of SD_GRID_VECTOR bytes */
};

SD_SCALAR bool sd_vector_whole(const struct sd_vector *vector, uint32_t width, unsigned size)
{
	unsigned bytes = width * size;

	return vector->count == width && vector->step == 1 &&
	       vector->at * size % (bytes < SD_GRID_VECTOR ? bytes : SD_GRID_VECTOR) == 0;
}

SD_SCALAR uint32_t sd_vector_count(uint64_t begin, uint64_t size, uint32_t width)
{
	if (begin >= size)
		return 0;
	return size - begin < width ? (uint32_t)(size - begin) : width;
}

/* Vector number i that is read of a tile: it runs along a. A tile has tile_b << shift of them. */
SD_SCALAR struct sd_vector sd_grid_read_vector(const struct sd_grid *grid, const struct sd_tile *tile, uint32_t i,
					       unsigned source_size, unsigned target_size)
{
	const struct sd_transpose *plan = &grid->plan;
	uint32_t width = sd_grid_read_width(plan->rows, source_size, target_size);
	struct sd_vector v;

	v.a = tile->a + (i & ((1U << grid->shift) - 1)) * width;
	v.b = tile->b + (i >> grid->shift);
	v.at = tile->place.from + v.a * plan->a.from + v.b * plan->b.from;
	v.step = plan->a.from;
	v.count = v.b < plan->b.size ? sd_vector_count(v.a, plan->a.size, width) : 0;
	v.whole = !sd_is_code(plan->source_dtype) && sd_vector_whole(&v, width, source_size);
	return v;
}

/* Where the elements of a vector that was read go to, of a tile of rows. */
SD_SCALAR struct sd_vector sd_grid_row_vector(const struct sd_grid *grid, const struct sd_tile *tile,
					      const struct sd_vector *read, unsigned source_size, unsigned target_size)
{
	const struct sd_transpose *plan = &grid->plan;
	struct sd_vector v = *read;

	v.at = tile->place.to + v.a * plan->a.to + v.b * plan->b.to;
	v.step = plan->a.to;
	v.whole = sd_vector_whole(&v, sd_grid_write_width(true, source_size, target_size), target_size);
	return v;
}

/* Vector number i that is written of a tile that is turned: it runs along b. A tile has tile_a * SD_GRID_LINE. */
SD_SCALAR struct sd_vector sd_grid_write_vector(const struct sd_grid *grid, const struct sd_tile *tile, uint32_t i,
						unsigned source_size, unsigned target_size)
{
	const struct sd_transpose *plan = &grid->plan;
	uint32_t width = sd_grid_write_width(false, source_size, target_size);
	struct sd_vector v;

	v.a = tile->a + i / SD_GRID_LINE;
	v.b = tile->b + i % SD_GRID_LINE * width;
	v.at = tile->place.to + v.a * plan->a.to + v.b * plan->b.to;
	v.step = plan->b.to;
	v.count = v.a < plan->a.size ? sd_vector_count(v.b, plan->b.size, width) : 0;
	v.whole = sd_vector_whole(&v, width, target_size);
	return v;
}

/*
 * The slot of element a, b of a tile. Shared memory has 32 banks of 4 bytes; what a warp asks for at one time should
 * lie in different ones, or be the same word. A warp handles element j of 8 vectors in each of 4 rows: when it fills
 * slots, 8 values of a, a vector apart, times 4 neighbours in b; when it empties them, the other way round. So eight
 * cells of 16 bytes are a line over all banks, the number of the vector on either side picks the cell, and the
 * neighbour on either side picks the word in it, each by exclusive or. (Words of 8 bytes go by half warps.)
 */
SD_SCALAR uint32_t sd_grid_slot(uint32_t a, uint32_t b, unsigned source_size, unsigned target_size)
{
	uint32_t width = sd_grid_read_width(false, source_size, target_size), cell = SD_GRID_VECTOR / target_size;
	uint32_t line = b * (width / cell) + a % width / cell;
	uint32_t column = (a / width) ^ (b / cell);
	uint32_t neighbour = target_size == 8 ? b % 2 : b % 4 * (4 / target_size);

	return (line * SD_GRID_LINE + column) * cell + ((a % cell) ^ neighbour);
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

/* An element of the source. Codes are two in a byte. */
SD_SCALAR uint64_t sd_grid_get_source(const struct sd_grid *grid, uint64_t i, unsigned size)
{
	if (sd_is_code(grid->plan.source_dtype))
		return sd_grid_get(grid->source, i / 2, 1) >> i % 2 * 4;
	return sd_grid_get(grid->source, i, size);
}

/* sd_element_size, of what can be a scale. */
SD_SCALAR unsigned sd_grid_scale_size(uint8_t element)
{
	return element == SD_F32 ? 4 : element == SD_BF16 || element == SD_F16 ? 2 : 1;
}

/* A scale, and the first element of its vector that it is not for. Begin with end 0. */
struct sd_grid_scale {
	uint32_t bits;
	uint64_t end;
};

/* Divisions are dear: one for each block that a vector touches, not for each element. */
SD_SCALAR void sd_grid_find_scale(const struct sd_grid *grid, const struct sd_tile *tile,
				  const struct sd_vector *vector, uint32_t j, struct sd_grid_scale *by)
{
	const struct sd_transpose *plan = &grid->plan;
	const struct sd_lane *a = &plan->a;
	uint64_t at = tile->place.scale + sd_lane_scale(a, vector->a + j) + sd_lane_scale(&plan->b, vector->b);
	uint64_t scale = sd_grid_get(grid->scales, at, sd_grid_scale_size(plan->scale_dtype));

	by->bits = sd_element_decode(plan->scale_dtype, scale);
	by->end = a->stride == 0 ? UINT64_MAX : j + a->block - (a->begin + vector->a + j) % a->block;
}

/* Element j of a vector that was read, as it is to be in the target. */
SD_SCALAR uint64_t sd_grid_element(const struct sd_grid *grid, const struct sd_tile *tile,
				   const struct sd_vector *vector, uint32_t j, uint64_t value, struct sd_grid_scale *by)
{
	const struct sd_transpose *plan = &grid->plan;
	uint32_t bits;

	if (plan->bytes)
		return value;
	bits = sd_element_decode(plan->source_dtype, value);
	if (plan->scale_dtype != SD_NO_DTYPE) {
		if (j >= by->end)
			sd_grid_find_scale(grid, tile, vector, j, by);
		bits = sd_element_scale(bits, by->bits);
	}
	return sd_element_encode(plan->target_dtype, bits);
}

#endif
