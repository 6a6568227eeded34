/* SPDX-License-Identifier: Apache-2.0 */
/* How many tiles a job has. Built with CUDA and without, for it is tested without. */
#include "grid.h"
#include "base/checked.h"

static uint64_t pieces_of(uint64_t size, uint64_t piece)
{
	return size / piece + (size % piece != 0);
}

/*
 * How many vectors a tile's row has. Where there is nothing to turn, as many as there are along a, so that short ones
 * leave few threads idle; with scales only few, so that a tile mostly lies in one block.
 */
static uint64_t vectors_of(const struct sd_transpose *plan, uint32_t width)
{
	uint64_t most = plan->scale_dtype == SD_NO_DTYPE ? SD_GRID_VECTORS : 128 / width, vectors;

	if (!plan->rows)
		return SD_GRID_VECTORS / SD_GRID_ROWS(plan->target_size);
	vectors = pieces_of(plan->a.size, width);
	return vectors < most ? vectors : most;
}

bool sd_grid_plan(struct sd_grid *grid)
{
	const struct sd_transpose *plan = &grid->plan;
	uint32_t width = sd_grid_read_width(plan->rows, plan->source_size, plan->target_size);
	uint64_t vectors = vectors_of(plan, width);

	grid->shift = 0;
	while ((1U << grid->shift) < vectors)
		grid->shift++;
	grid->tile_a = width << grid->shift;
	grid->tile_b = SD_GRID_VECTORS >> grid->shift;
	grid->tiles_a = pieces_of(plan->a.size, grid->tile_a);
	grid->tiles_b = pieces_of(plan->b.size, grid->tile_b);
	return sd_mul(grid->tiles_a, grid->tiles_b, &grid->tiles) && sd_mul(grid->tiles, plan->loops, &grid->tiles);
}
