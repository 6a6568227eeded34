/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts jobs into parts that fit the device. */
#include "job_slice.h"

/* Parts begin at multiples of so many indices where there are more: then tiles are full, and accesses aligned. */
#define ROUND 128

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Counts a lane's blocks from the one that it begins in, so that the first scale that is looked at is number 0. */
static void settle(struct sd_lane *lane, uint64_t *scale_from)
{
	*scale_from += sd_lane_scale(lane, 0);
	if (lane->stride > 0)
		lane->begin %= lane->block;
}

static void plan_scales(struct sd_job_slice *part)
{
	struct sd_transpose *plan = &part->grid.plan;
	unsigned size = sd_element_size(plan->scale_dtype);

	part->scale_from = part->scale_bytes = 0;
	if (plan->scale_dtype == SD_NO_DTYPE)
		return;
	settle(&plan->a, &plan->scale_from);
	settle(&plan->b, &plan->scale_from);
	for (uint32_t k = 0; k < plan->outer; k++)
		settle(&plan->dim[k], &plan->scale_from);
	part->scale_from = plan->scale_from * size;
	plan->scale_from = 0;
	part->scale_bytes = sd_transpose_scales(plan) * size;
}

static bool make(const struct sd_transpose *plan, struct sd_job_slice *part)
{
	memset(&part->grid, 0, sizeof(part->grid));
	part->grid.plan = *plan;
	plan_scales(part);
	return sd_strided_plan(&part->grid.plan, &part->source, &part->target) && sd_grid_plan(&part->grid);
}

uint64_t sd_job_slice_in(const struct sd_job_slice *part)
{
	return sd_job_slice_aligned(part->source.bytes) + sd_job_slice_aligned(part->scale_bytes) +
	       sd_job_slice_aligned(sizeof(part->grid));
}

uint64_t sd_job_slice_out(const struct sd_job_slice *part)
{
	return sd_job_slice_aligned(part->target.bytes);
}

/* The lanes from the outermost of the target on: k below outer + 2. */
static struct sd_lane *lane_of(struct sd_transpose *plan, uint32_t k)
{
	bool a_first = plan->a.to > plan->b.to;

	if (k < plan->outer)
		return &plan->dim[k];
	return (k == plan->outer) == a_first ? &plan->a : &plan->b;
}

/* The same plan with indices first to first + count of a lane. */
static struct sd_transpose narrowed(const struct sd_transpose *plan, uint32_t k, uint64_t first, uint64_t count)
{
	struct sd_transpose narrow = *plan;
	struct sd_lane *lane = lane_of(&narrow, k);

	narrow.from += first * lane->from;
	narrow.to += first * lane->to;
	if (lane->stride > 0)
		lane->begin += first;
	if (k < plan->outer)
		narrow.loops = narrow.loops / lane->size * count;
	lane->size = count;
	return narrow;
}

/* Which lane to cut, and into parts of how many indices; false: there is nothing to cut, or a number does not fit. */
static bool choose(const struct sd_transpose *plan, uint64_t times, uint32_t *which, uint64_t *count)
{
	struct sd_transpose whole = *plan;
	uint64_t best = 0;

	for (uint32_t k = 0; k < plan->outer + 2; k++) {
		uint64_t size = lane_of(&whole, k)->size, n = most(size / times, 1);
		struct sd_transpose narrow;
		struct sd_job_slice part;
		uint64_t run;

		if (size == 1)
			continue;
		n = n > ROUND ? n / ROUND * ROUND : n;
		narrow = narrowed(plan, k, 0, n);
		if (!make(&narrow, &part))
			return false;
		run = least(part.source.run, part.target.run);
		if (run <= best)
			continue;
		best = run;
		*which = k;
		*count = n;
	}
	return best > 0;
}

enum sd_device_result sd_job_slice_cut(const struct sd_transpose *plan, uint64_t room, sd_job_slice_take *take,
				       void *context)
{
	enum sd_device_result result = SD_DEVICE_OK;
	struct sd_transpose whole = *plan;
	uint64_t bytes, count, size;
	struct sd_job_slice part;
	uint32_t k;

	if (!make(plan, &part))
		return SD_DEVICE_NOMEM;
	bytes = most(sd_job_slice_in(&part), sd_job_slice_out(&part));
	if (bytes <= room)
		return take(context, &part);
	if (!choose(plan, bytes / room + 1, &k, &count))
		return SD_DEVICE_NOMEM;
	size = lane_of(&whole, k)->size;
	for (uint64_t first = 0; first < size && result == SD_DEVICE_OK; first += count) {
		struct sd_transpose narrow = narrowed(plan, k, first, least(count, size - first));

		result = sd_job_slice_cut(&narrow, room, take, context);
	}
	return result;
}
