/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA kernel's arithmetic, on the host: words without bank conflicts, whole lines, and every thread of the grid.
 */
#include "../../cuda/job_slice.h"
#include "grid-host.h"
#include "jobs.h"

#include <criterion/criterion.h>

/* Buffers of just the size that the device has, aligned as it has them. */
static void *memory(size_t bytes)
{
	void *memory = aligned_alloc(SD_GRID_ALIGN, sd_job_slice_aligned(bytes + 1));

	cr_assert_not_null(memory);
	return memory;
}

/* One part, turned as a launch of its own. */
static enum sd_device_result turn(void *context, const struct sd_job_slice *part)
{
	struct case_ *c = context;
	struct sd_grid grid = part->grid;
	struct sd_batch batch = {&grid, 1, grid.tiles, grid.plan.source_size, grid.plan.target_size};
	uint8_t *source = memory(part->source.bytes), *target = memory(part->target.bytes),
		*scales = memory(part->scale_bytes);

	sd_strided_gather(&part->source, c->job.source, source);
	if (part->scale_bytes > 0)
		memcpy(scales, (const uint8_t *)c->job.scale.data + part->scale_from, part->scale_bytes);
	cr_assert_leq(sd_transpose_scales(&grid.plan) * sd_element_size(grid.plan.scale_dtype), part->scale_bytes);
	cr_assert_leq(grid_source_bytes(&grid.plan), part->source.bytes);
	cr_assert_eq(grid_count(&grid.plan, false) * grid.plan.target_size, part->target.bytes, "%s", c->text);
	grid.source = source;
	grid.target = target;
	grid.scales = scales;
	cr_assert_null(grid_turn(&batch), "%s: %s", c->text, grid_turn(&batch));
	sd_strided_scatter(&part->target, target, c->job.target);
	free(source);
	free(target);
	free(scales);
	return SD_DEVICE_OK;
}

static void check(uint64_t seed, uint64_t elements, uint64_t room)
{
	struct sd_transpose plan;
	struct case_ c;
	char failure[256];

	case_make(&c, seed, elements);
	cr_assert_eq(sd_transpose_plan(&c.job, &plan, failure), SD_DEVICE_OK, "%s", failure);
	cr_assert_eq(sd_job_slice_cut(&plan, room, turn, &c), SD_DEVICE_OK, "%s", c.text);
	cr_assert(case_holds(&c), "%s", c.text);
	case_free(&c);
}

Test(cuda_index, small)
{
	for (uint64_t seed = 0; seed < 3000; seed++)
		check(seed, 200, UINT64_MAX);
}

Test(cuda_index, middling)
{
	for (uint64_t seed = 10000; seed < 10600; seed++)
		check(seed, 8000, UINT64_MAX);
}

Test(cuda_index, large)
{
	for (uint64_t seed = 20000; seed < 20008; seed++)
		check(seed, 1 << 20, UINT64_MAX);
}

Test(cuda_index, cut_into_parts)
{
	for (uint64_t seed = 30000; seed < 31000; seed++)
		check(seed, 4000, SD_JOB_SLICE_LEAST << seed % 4);
}

static const unsigned sizes[][2] = {{1, 1}, {1, 2}, {1, 4}, {1, 8}, {2, 2}, {2, 4}, {2, 8},
				    {4, 2}, {4, 4}, {4, 8}, {8, 2}, {8, 4}, {8, 8}};

/*
 * How many words of 4 bytes the busiest bank has to give, when a warp asks for size bytes at each of these places: 8
 * bytes go by half warps, 16 by quarters.
 */
static unsigned busiest(const uint32_t bytes[32], unsigned size)
{
	unsigned most = 0, together = size == 16 ? 8 : size == 8 ? 16 : 32;

	for (unsigned first = 0; first < 32; first += together) {
		for (unsigned bank = 0; bank < 32; bank++) {
			uint32_t words[128];
			unsigned count = 0;

			for (unsigned lane = first; lane < first + together; lane++)
				for (unsigned k = 0; k < size / 4; k++) {
					uint32_t word = bytes[lane] / 4 + k;
					unsigned i = 0;

					while (i < count && words[i] != word)
						i++;
					if (word % 32 == bank && i == count)
						words[count++] = word;
				}
			most = count > most ? count : most;
		}
	}
	return most;
}

static struct sd_grid square(unsigned from, unsigned to, bool rows, uint64_t size)
{
	struct sd_grid grid = {.plan = {.rows = rows,
					.loops = 1,
					.source_size = (uint8_t)from,
					.target_size = (uint8_t)to,
					.a = {size, 1, rows ? 1 : size, 0, 1, 0},
					.b = {size, size, rows ? size : 1, 0, 1, 0}}};

	cr_assert(sd_grid_plan(&grid));
	return grid;
}

Test(cuda_index, no_bank_conflicts)
{
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		unsigned from = sizes[s][0], to = sizes[s][1];
		struct sd_grid grid = square(from, to, false, 1024);
		struct sd_tile tile = sd_grid_tile(&grid, 0);
		uint32_t bytes[32];

		for (uint32_t i = 0; i < SD_GRID_VECTORS; i += 32) {
			for (uint32_t lane = 0; lane < 32; lane++) {
				struct sd_vector v = sd_grid_read_vector(&grid, &tile, i + lane, from, to);

				bytes[lane] = sd_grid_byte((uint32_t)v.a, (uint32_t)v.b, from, to);
			}
			cr_assert_eq(busiest(bytes, SD_GRID_VECTOR), 1, "filled, %u to %u bytes", from, to);
		}
		for (uint32_t i = 0; i < SD_GRID_LOTS(from, to); i += 32)
			for (uint32_t j = 0; j < sd_grid_write_width(false, from, to); j++) {
				for (uint32_t lane = 0; lane < 32; lane++) {
					struct sd_lot lot = sd_grid_lot(i + lane, from, to);

					bytes[lane] = sd_grid_byte(lot.a, lot.b + j, from, to);
				}
				cr_assert_eq(busiest(bytes, SD_GRID_WORD(from)), 1, "emptied, %u to %u bytes", from,
					     to);
			}
	}
}

/* The test of the test: rows of cells without any arrangement have conflicts. */
Test(cuda_index, conflicts_are_seen)
{
	uint32_t column[32], row[32], cells[32];

	for (uint32_t lane = 0; lane < 32; lane++) {
		column[lane] = lane * 128;
		row[lane] = lane * 4;
		cells[lane] = lane * 16;
	}
	cr_assert_eq(busiest(column, 4), 32);
	cr_assert_eq(busiest(column, 8), 16);
	cr_assert_eq(busiest(column, 16), 8);
	cr_assert_eq(busiest(row, 4), 1);
	cr_assert_eq(busiest(cells, 16), 1);
}

/* What eight threads read or write at one time is a whole line of 128 bytes, or what there is of it. */
static void one_line(const struct sd_vector vectors[SD_GRID_LINE], unsigned size)
{
	uint64_t next = vectors[0].at;

	for (uint32_t i = 0; i < SD_GRID_LINE; i++) {
		cr_assert(vectors[i].whole);
		cr_assert_eq(vectors[i].at, next);
		next += vectors[i].count;
	}
	cr_assert_eq(vectors[0].at % (next - vectors[0].at), 0, "%u bytes", size);
}

static void lines_that_are_read(const struct sd_grid *grid)
{
	unsigned from = grid->plan.source_size, to = grid->plan.target_size;
	struct sd_tile tile = sd_grid_tile(grid, grid->tiles - 1);

	for (uint32_t i = 0; i < SD_GRID_VECTORS; i += SD_GRID_LINE) {
		struct sd_vector read[SD_GRID_LINE], written[SD_GRID_LINE];

		for (uint32_t lane = 0; lane < SD_GRID_LINE; lane++) {
			read[lane] = sd_grid_read_vector(grid, &tile, i + lane, from, to);
			written[lane] = sd_grid_row_vector(grid, &tile, &read[lane], from, to);
		}
		one_line(read, from);
		if (grid->plan.rows)
			one_line(written, to);
	}
}

/* The lots of a warp that are side by side. */
static void lines_that_are_written(const struct sd_grid *grid)
{
	unsigned from = grid->plan.source_size, to = grid->plan.target_size;
	struct sd_tile tile = sd_grid_tile(grid, grid->tiles - 1);
	uint32_t words = SD_GRID_WORDS(from);

	for (uint32_t i = 0; i < SD_GRID_LOTS(from, to); i++) {
		struct sd_vector written[SD_GRID_LINE];

		if (i / words % SD_GRID_LINE != 0)
			continue;
		for (uint32_t k = 0; k < SD_GRID_DEEP(from); k++) {
			for (uint32_t lane = 0; lane < SD_GRID_LINE; lane++) {
				struct sd_lot lot = sd_grid_lot(i + lane * words, from, to);

				written[lane] = sd_grid_lot_vector(grid, &tile, &lot, k, to);
			}
			one_line(written, to);
			cr_assert_eq(written[0].count * to * SD_GRID_LINE, 128);
		}
	}
}

Test(cuda_index, lines_are_whole)
{
	for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		struct sd_grid turned = square(sizes[s][0], sizes[s][1], false, 1024);
		struct sd_grid rows = square(sizes[s][0], sizes[s][1], true, 1024);

		lines_that_are_read(&turned);
		lines_that_are_read(&rows);
		lines_that_are_written(&turned);
	}
}

struct counted {
	unsigned parts;
	uint64_t shortest; /* run */
};

static enum sd_device_result count(void *context, const struct sd_job_slice *part)
{
	struct counted *counted = context;
	uint64_t run = part->source.run < part->target.run ? part->source.run : part->target.run;

	counted->parts++;
	counted->shortest = run < counted->shortest ? run : counted->shortest;
	return SD_DEVICE_OK;
}

static struct counted cut(struct sd_move move, uint64_t elements, uint64_t room)
{
	uint8_t byte = 0;
	struct sd_job job = {.source = &byte,
			     .target = &byte,
			     .source_count = elements,
			     .target_count = elements,
			     .move = move,
			     .source_dtype = SD_BF16,
			     .target_dtype = SD_BF16};
	struct counted counted = {0, UINT64_MAX};
	struct sd_transpose plan;
	char failure[256];

	cr_assert_eq(sd_transpose_plan(&job, &plan, failure), SD_DEVICE_OK);
	cr_assert_eq(sd_job_slice_cut(&plan, room, count, &counted), SD_DEVICE_OK);
	return counted;
}

/* Matrices next to each other are kept whole: each part is one run on both sides. */
Test(cuda_index, experts_are_cut_between_matrices)
{
	struct sd_move move = {.rank = 3, .dim = {{16, 1 << 20, 1 << 20}, {1024, 1, 1024}, {1024, 1024, 1}}};
	struct counted counted = cut(move, 16 << 20, 9 << 20);

	cr_assert_eq(counted.parts, 4);
	cr_assert_eq(counted.shortest, 8 << 20);
}

/* One matrix is cut along its longer side, so that runs stay long. */
Test(cuda_index, a_matrix_is_cut_along_its_longer_side)
{
	struct sd_move move = {.rank = 2, .dim = {{2048, 1, 7168}, {7168, 2048, 1}}};
	struct counted counted = cut(move, 2048 * 7168, 4 << 20);

	cr_assert_leq(counted.parts, 9);
	cr_assert_geq(counted.shortest, 896 * 2);
	move = (struct sd_move){.rank = 2, .dim = {{7168, 1, 2048}, {2048, 7168, 1}}};
	counted = cut(move, 2048 * 7168, 4 << 20);
	cr_assert_leq(counted.parts, 9);
	cr_assert_geq(counted.shortest, 896 * 2);
}
