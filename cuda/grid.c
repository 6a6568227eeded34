/* SPDX-License-Identifier: Apache-2.0 */
/* What of a job goes to the device and what comes back. Built with CUDA and without, for it is tested without. */
#include "grid.h"
#include "base/checked.h"

/* The lanes of the target, those of small strides first. */
static uint32_t order(struct sd_grid *grid, struct sd_lane **lanes)
{
	struct sd_transpose *plan = &grid->plan;
	uint32_t rank = 0;

	for (uint32_t k = 0; k < plan->outer + 2; k++) {
		struct sd_lane *lane = k == 0 ? &plan->a : k == 1 ? &plan->b : &plan->dim[k - 2];
		uint32_t at = rank++;

		for (; at > 0 && lanes[at - 1]->to > lane->to; at--)
			lanes[at] = lanes[at - 1];
		lanes[at] = lane;
	}
	return rank;
}

static uint64_t pieces_of(uint64_t size, uint64_t piece)
{
	return size / piece + (size % piece != 0);
}

bool sd_grid_plan(const struct sd_transpose *plan, struct sd_grid *grid)
{
	struct sd_lane *lanes[SD_MOVE_RANK + 2];
	uint32_t width = sd_grid_width(plan);

	memset(grid, 0, sizeof(*grid));
	grid->plan = *plan;
	grid->plan.from = sd_is_code(plan->source_dtype) ? plan->from % 2 : 0;
	grid->plan.to = 0;
	grid->source_from = plan->from - grid->plan.from;
	grid->target_from = plan->to;
	grid->source_count = grid->plan.from + 1;
	grid->target_count = grid->run = 1;
	grid->rank = order(grid, lanes);
	for (uint32_t k = 0; k < grid->rank; k++) {
		uint64_t reach;

		grid->host[k] = *lanes[k];
		if (grid->run == grid->target_count && (lanes[k]->to == grid->run || lanes[k]->size == 1))
			grid->run *= lanes[k]->size;
		lanes[k]->to = grid->target_count;
		if (!sd_mul(lanes[k]->size - 1, lanes[k]->from, &reach) ||
		    !sd_add(grid->source_count, reach, &grid->source_count) ||
		    !sd_mul(grid->target_count, lanes[k]->size, &grid->target_count))
			return false;
	}
	grid->tiles_a = pieces_of(plan->a.size, width);
	grid->tiles_b = pieces_of(plan->b.size, SD_GRID_TILE / width);
	return sd_mul(grid->tiles_a * grid->tiles_b, plan->loops, &grid->tiles);
}

void sd_grid_unpack(const struct sd_grid *grid, const void *packed, void *target)
{
	size_t size = grid->plan.target_size;

	for (uint64_t i = 0; i < grid->target_count; i += grid->run) {
		uint64_t left = i, to = grid->target_from;

		for (uint32_t k = 0; k < grid->rank; k++) {
			to += left % grid->host[k].size * grid->host[k].to;
			left /= grid->host[k].size;
		}
		memcpy((uint8_t *)target + to * size, (const uint8_t *)packed + i * size, grid->run * size);
	}
}
