/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA kernel on the host: every block and every thread of its grid, one after another between the barriers. */
#ifndef TESTS_GRID_HOST_H
#define TESTS_GRID_HOST_H

#include "../../cuda/grid.h"

/*
 * Turns what the device would. Returns what the kernel did wrong, or NULL. written, one count for each element of the target,
 * which the caller has zeroed, tells how often each is written.
 */
static inline const char *grid_turn(const struct sd_grid *grid, const void *source, const void *scales, void *target,
				    uint8_t *written)
{
	for (uint64_t number = 0; number < grid->tiles; number++) {
		struct sd_tile tile = sd_grid_tile(grid, number);
		uint64_t slots[SD_GRID_SLOTS], value, to;
		bool full[SD_GRID_SLOTS] = {false};
		uint32_t slot;

		for (uint32_t n = 0; n < SD_GRID_TILE; n++) {
			uint32_t i =
				sd_grid_number(n % SD_GRID_X, n / SD_GRID_X % SD_GRID_Y, n / SD_GRID_X / SD_GRID_Y);

			if (!sd_grid_read(grid, &tile, i, source, scales, grid->plan.source_size, &slot, &value))
				continue;
			if (slot >= SD_GRID_SLOTS)
				return "a slot outside of shared memory";
			if (full[slot])
				return "two threads fill one slot";
			full[slot] = true;
			slots[slot] = value;
		}
		for (uint32_t n = 0; n < SD_GRID_TILE; n++) {
			uint32_t i =
				sd_grid_number(n % SD_GRID_X, n / SD_GRID_X % SD_GRID_Y, n / SD_GRID_X / SD_GRID_Y);

			if (!sd_grid_write(grid, &tile, i, &slot, &to))
				continue;
			if (slot >= SD_GRID_SLOTS || !full[slot])
				return "a slot is read that nobody filled";
			if (to >= grid->target_count)
				return "an element outside of the target";
			written[to]++;
			sd_grid_put(target, to, grid->plan.target_size, slots[slot]);
		}
	}
	return NULL;
}

#endif
