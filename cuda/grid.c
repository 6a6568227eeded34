/* SPDX-License-Identifier: Apache-2.0 */
/* How many tiles a job has. Built with CUDA and without, for it is tested without. */
#include "grid.h"
#include "base/checked.h"

static uint64_t pieces_of(uint64_t size, uint64_t piece)
{
	return size / piece + (size % piece != 0);
}

/* Rows are as wide as there are vectors along a, so that short ones leave few threads idle. */
static uint32_t row_shift(uint64_t vectors)
{
	uint32_t shift = 0;

	while ((1U << shift) < SD_GRID_ROW_VECTORS && (1U << shift) < vectors)
		shift++;
	return shift;
}

bool sd_grid_plan(struct sd_grid *grid)
{
	const struct sd_transpose *plan = &grid->plan;
	uint32_t width = sd_grid_read_width(plan->rows, plan->source_size, plan->target_size);

	if (plan->rows) {
		grid->shift = row_shift(pieces_of(plan->a.size, width));
		grid->tile_b = SD_GRID_ROW_VECTORS >> grid->shift;
	} else {
		grid->shift = 3; /* SD_GRID_LINE */
		grid->tile_b = SD_GRID_LINE * sd_grid_write_width(false, plan->source_size, plan->target_size);
	}
	grid->tile_a = width << grid->shift;
	grid->tiles_a = pieces_of(plan->a.size, grid->tile_a);
	grid->tiles_b = pieces_of(plan->b.size, grid->tile_b);
	return sd_mul(grid->tiles_a, grid->tiles_b, &grid->tiles) && sd_mul(grid->tiles, plan->loops, &grid->tiles);
}
