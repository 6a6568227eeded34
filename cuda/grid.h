/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which thread of the CUDA kernel reads and writes which elements. C and CUDA alike, so that a test can be every block
 * and every thread of a launch on a machine without a GPU.
 *
 * A launch turns a batch of grids, one for each job, whose tiles are numbered one grid after the other; a block does
 * one tile after another. A tile that is turned is 16 KiB of source, which lie in shared memory as they came: cells of
 * 16 bytes, in rows (of equal b) of 128 bytes or more. They are copied there without passing through registers, a tile
 * ahead, so that memory has always something to do. Then each thread takes a lot out of them at a time: one word of 4
 * or 8 bytes, which has one to four elements along a, in as many rows as make a vector of 16 bytes of the target; it
 * casts and scales, and writes a vector for each of the elements. Eight lots side by side make lines of 128 bytes.
 * Where there is nothing to turn, a thread writes the vectors that it has just read.
 */
#ifndef SD_CUDA_GRID_H
#define SD_CUDA_GRID_H

#include "move/transpose.h"

/* Choices: the threads of a block, the blocks of a multiprocessor, the lines of a target that are next to each other in
 * a tile, and whether what is written goes past the caches. contrib/gpu-check --variants measures others. */
#ifndef SD_GRID_THREADS
#define SD_GRID_THREADS 256
#endif
#ifndef SD_GRID_BLOCKS
#define SD_GRID_BLOCKS 4
#endif
#ifndef SD_GRID_LINES
#define SD_GRID_LINES 2
#endif
#ifndef SD_GRID_PAST
#define SD_GRID_PAST 1
#endif
/* Bytes of the widest access of one thread, and of a cell. What lies on the device begins at a multiple of
 * SD_GRID_ALIGN. */
#define SD_GRID_VECTOR 16
#define SD_GRID_ALIGN 128
/* Vectors that are read of a tile. */
#define SD_GRID_VECTORS 1024
/* Vectors that are neighbours in a row, or in a line of a target. */
#define SD_GRID_LINE 8

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
SD_MUST_CHECK bool sd_grid_plan(struct sd_grid *grid);

/* Elements of a vector that is read, for elements of these sizes, and of one that is written. */
SD_SCALAR uint32_t sd_grid_read_width(bool rows, unsigned source_size, unsigned target_size)
{
	return SD_GRID_VECTOR / (rows && target_size > source_size ? target_size : source_size);
}

SD_SCALAR uint32_t sd_grid_write_width(bool rows, unsigned source_size, unsigned target_size)
{
	return rows ? sd_grid_read_width(rows, source_size, target_size) : SD_GRID_VECTOR / target_size;
}

/* Rows of a tile that is turned, and so its elements along b: SD_GRID_LINES, but 128 at most. */
#define SD_GRID_ROWS(target_size)                                                                                      \
	(SD_GRID_LINES * SD_GRID_LINE * SD_GRID_VECTOR / (target_size) < 128U                                          \
		 ? SD_GRID_LINES * SD_GRID_LINE * SD_GRID_VECTOR / (target_size)                                       \
		 : 128U)
/* Bytes of a word, elements in it, and words in a cell. */
#define SD_GRID_WORD(source_size) ((source_size) == 8 ? 8U : 4U)
#define SD_GRID_DEEP(source_size) (SD_GRID_WORD(source_size) / (source_size))
#define SD_GRID_WORDS(source_size) (SD_GRID_VECTOR / SD_GRID_WORD(source_size))
/* Lots in a tile that is turned: its words, of as many rows each as a vector of the target has elements. */
#define SD_GRID_LOTS(source_size, target_size)                                                                         \
	(SD_GRID_VECTORS * SD_GRID_WORDS(source_size) / (SD_GRID_VECTOR / (target_size)))

/* The scale of some elements: of all of them, if even, as the bits of a float32. */
struct sd_grid_scale {
	bool even;
	uint32_t bits;
};

/* Where one tile begins. */
struct sd_tile {
	struct sd_place place;
	uint64_t a, b;
	struct sd_grid_scale scale;
};

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

/* Vector number i that is read of a tile: it runs along a. A tile has SD_GRID_VECTORS of them. */
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

/* A lot: its first element, in those of the tile. */
struct sd_lot {
	uint32_t a, b;
};

/*
 * Lot number i of SD_GRID_LOTS. A warp has all words of a cell (two cells with words of 8 bytes), eight lots side by
 * side along b; the next one goes on there.
 */
SD_SCALAR struct sd_lot sd_grid_lot(uint32_t i, unsigned source_size, unsigned target_size)
{
	uint32_t words = SD_GRID_WORDS(source_size), width = SD_GRID_VECTOR / target_size;
	uint32_t lines = SD_GRID_ROWS(target_size) / (SD_GRID_LINE * width);
	uint32_t word = i % words, beside = i / words % SD_GRID_LINE, line = i / words / SD_GRID_LINE % lines;
	uint32_t cell = i / words / SD_GRID_LINE / lines;
	struct sd_lot lot = {(cell * words + word) * SD_GRID_DEEP(source_size), (line * SD_GRID_LINE + beside) * width};

	return lot;
}

/* What is written of a lot's element number k along a: a vector along b. */
SD_SCALAR struct sd_vector sd_grid_lot_vector(const struct sd_grid *grid, const struct sd_tile *tile,
					      const struct sd_lot *lot, uint32_t k, unsigned target_size)
{
	const struct sd_transpose *plan = &grid->plan;
	uint32_t width = SD_GRID_VECTOR / target_size;
	struct sd_vector v;

	v.a = tile->a + lot->a + k;
	v.b = tile->b + lot->b;
	v.at = tile->place.to + v.a * plan->a.to + v.b * plan->b.to;
	v.step = plan->b.to;
	v.count = v.a < plan->a.size ? sd_vector_count(v.b, plan->b.size, width) : 0;
	v.whole = sd_vector_whole(&v, width, target_size);
	return v;
}

/*
 * The byte of shared memory where element a, b of a tile is. Shared memory has 32 banks of 4 bytes, and eight cells are
 * a line over all of them. The lots of a warp (of half a warp, with words of 8 bytes) want the words of one cell, of
 * eight rows, each a vector of the target further: so the number of that vector says by how many, by exclusive or, a
 * row's cells have changed their places among eight neighbours, and the eight are in eight places.
 */
SD_SCALAR uint32_t sd_grid_byte(uint32_t a, uint32_t b, unsigned source_size, unsigned target_size)
{
	uint32_t row = SD_GRID_VECTORS * SD_GRID_VECTOR / SD_GRID_ROWS(target_size), at = a * source_size;
	uint32_t turn = b / (SD_GRID_VECTOR / target_size) % SD_GRID_LINE;

	return b * row + (at ^ turn * SD_GRID_VECTOR);
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

/* The scale of element a, b of a 2-D piece, as the bits of a float32. */
SD_SCALAR uint32_t sd_grid_scale_at(const struct sd_grid *grid, const struct sd_place *place, uint64_t a, uint64_t b)
{
	const struct sd_transpose *plan = &grid->plan;
	uint64_t at = place->scale + sd_lane_scale(&plan->a, a) + sd_lane_scale(&plan->b, b);

	return sd_element_decode(plan->scale_dtype,
				 sd_grid_get(grid->scales, at, sd_grid_scale_size(plan->scale_dtype)));
}

/* Whether count indices from begin on, as far as they are there, look at the same scales. */
SD_SCALAR bool sd_lane_even(const struct sd_lane *lane, uint64_t begin, uint32_t count)
{
	uint64_t last = lane->size - begin < count ? lane->size - 1 : begin + count - 1;

	return sd_lane_scale(lane, begin) == sd_lane_scale(lane, last);
}

/* The scale of a tile, whose place is known. */
SD_SCALAR struct sd_grid_scale sd_grid_scale(const struct sd_grid *grid, const struct sd_tile *tile)
{
	const struct sd_transpose *plan = &grid->plan;
	struct sd_grid_scale scale = {true, 0};

	if (plan->scale_dtype == SD_NO_DTYPE)
		return scale;
	scale.even = sd_lane_even(&plan->a, tile->a, grid->tile_a) && sd_lane_even(&plan->b, tile->b, grid->tile_b);
	if (scale.even)
		scale.bits = sd_grid_scale_at(grid, &tile->place, tile->a, tile->b);
	return scale;
}

/* number: among the grid's own. */
SD_SCALAR struct sd_tile sd_grid_tile(const struct sd_grid *grid, uint64_t number)
{
	struct sd_tile tile;

	tile.a = number % grid->tiles_a * grid->tile_a;
	number /= grid->tiles_a;
	tile.b = number % grid->tiles_b * grid->tile_b;
	tile.place = sd_transpose_place(&grid->plan, number / grid->tiles_b);
	tile.scale = sd_grid_scale(grid, &tile);
	return tile;
}

/*
 * An element as it is to be in the target; not for bytes. from and to are the plan's dtypes, which a compiler may know;
 * scale counts where the plan has one.
 */
SD_SCALAR uint64_t sd_grid_element(const struct sd_transpose *plan, uint8_t from, uint8_t to, uint32_t scale,
				   uint64_t value)
{
	uint32_t bits = sd_element_decode(from, value);

	if (plan->scale_dtype != SD_NO_DTYPE)
		bits = sd_element_scale(bits, scale);
	return sd_element_encode(to, bits);
}

#endif
