/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA kernel's arithmetic, on the host: every block and every thread of the grid, against the naive reference. */
#include "grid-host.h"
#include "jobs.h"

#include <criterion/criterion.h>

/* Buffers of just the size that the device has, aligned as it has them. */
static void *copied(const void *data, size_t bytes)
{
	void *copy = malloc(bytes + 1);

	cr_assert_not_null(copy);
	if (bytes > 0)
		memcpy(copy, data, bytes);
	return copy;
}

static void check(uint64_t seed, uint64_t elements)
{
	struct sd_transpose plan;
	struct sd_grid grid;
	struct case_ c;
	void *source, *scales, *packed;
	const void *part;
	uint64_t bytes;
	uint8_t *written;
	char failure[256];

	case_make(&c, seed, elements);
	cr_assert_eq(sd_transpose_plan(&c.job, &plan, failure), SD_DEVICE_OK, "%s", failure);
	cr_assert(sd_grid_plan(&plan, &grid));
	part = sd_grid_source(&grid, c.job.source, &bytes);
	source = copied(part, bytes);
	scales = copied(c.job.scale.data, sd_transpose_scales(&plan) * sd_element_size(c.job.scale.dtype));
	packed = malloc(grid.target_count * plan.target_size);
	written = calloc(grid.target_count, 1);
	cr_assert(packed && written);
	cr_assert_null(grid_turn(&grid, source, scales, packed, written));
	for (uint64_t i = 0; i < grid.target_count; i++)
		cr_assert_eq(written[i], 1, "%s: element %llu is written %u times", c.text, (unsigned long long)i,
			     (unsigned)written[i]);
	sd_grid_unpack(&grid, packed, c.job.target);
	cr_assert(case_holds(&c), "%s", c.text);
	free(source);
	free(scales);
	free(packed);
	free(written);
	case_free(&c);
}

Test(cuda_index, small)
{
	for (uint64_t seed = 0; seed < 3000; seed++)
		check(seed, 200);
}

Test(cuda_index, middling)
{
	for (uint64_t seed = 10000; seed < 10600; seed++)
		check(seed, 8000);
}

Test(cuda_index, large)
{
	for (uint64_t seed = 20000; seed < 20008; seed++)
		check(seed, 1 << 20);
}

/* A dense job comes back in one piece, as it has to be for speed. */
Test(cuda_index, dense_targets_are_one_run)
{
	uint8_t bytes[24] = {0};
	struct sd_job job = {
		.source = bytes,
		.target = bytes,
		.source_count = 24,
		.target_count = 24,
		.move = {.rank = 3, .dim = {{2, 12, 12}, {4, 1, 3}, {3, 4, 1}}},
		.source_dtype = SD_U8,
		.target_dtype = SD_U8,
	};
	struct sd_transpose plan;
	struct sd_grid grid;
	char failure[256];

	cr_assert_eq(sd_transpose_plan(&job, &plan, failure), SD_DEVICE_OK);
	cr_assert(sd_grid_plan(&plan, &grid));
	cr_assert_eq(grid.run, 24);
	cr_assert_eq(grid.target_count, 24);
	cr_assert(!plan.rows);
}
