/* SPDX-License-Identifier: Apache-2.0 */
/* Brings a job to outer loops around one 2-D piece. */
#include "move/transpose.h"
#include "base/checked.h"

#include <inttypes.h>
#include <stdio.h>

static bool stays_within(const struct sd_lane *lanes, uint32_t rank, uint64_t from, uint64_t to,
			 const struct sd_job *job)
{
	for (uint32_t k = 0; k < rank; k++) {
		uint64_t reach;

		if (!sd_mul(lanes[k].size - 1, lanes[k].from, &reach) || !sd_add(from, reach, &from) ||
		    !sd_mul(lanes[k].size - 1, lanes[k].to, &reach) || !sd_add(to, reach, &to))
			return false;
	}
	return from < job->source_count && to < job->target_count;
}

static bool same_scale(const struct sd_lane *lane)
{
	return sd_lane_scale(lane, 0) == sd_lane_scale(lane, lane->size - 1);
}

/* Takes what dimensions there really are out of the job, the largest target stride first. Returns their number. */
static uint32_t take_lanes(const struct sd_job *job, struct sd_transpose *plan, struct sd_lane *lanes)
{
	uint32_t rank = 0;

	for (uint32_t k = 0; k < job->move.rank; k++) {
		const struct sd_dim *dim = &job->move.dim[k];
		struct sd_lane lane = {dim->size, dim->from, dim->to, 0, 1, 0};
		uint32_t at = rank;

		if (plan->scale_dtype != SD_NO_DTYPE) {
			lane.begin = job->scale.dim[k].begin;
			lane.block = job->scale.dim[k].block;
			lane.stride = job->scale.dim[k].stride;
		}
		if (same_scale(&lane)) {
			plan->scale_from += sd_lane_scale(&lane, 0);
			lane.stride = 0;
		}
		if (lane.size == 1)
			continue;
		for (; at > 0 && lanes[at - 1].to < lane.to; at--)
			lanes[at] = lanes[at - 1];
		lanes[at] = lane;
		rank++;
	}
	return rank;
}

/* Whether inner goes on where last does, on both sides, and its blocks are whole ones of the two together. */
static bool joins(struct sd_lane *last, const struct sd_lane *inner)
{
	uint64_t block, begin;

	if (inner->stride != 0 || last->from != inner->size * inner->from || last->to != inner->size * inner->to)
		return false;
	if (last->stride == 0)
		return true;
	if (!sd_mul(last->block, inner->size, &block) || !sd_mul(last->begin, inner->size, &begin))
		return false;
	last->block = block;
	last->begin = begin;
	return true;
}

/* Joins neighbours that are contiguous on both sides. */
static uint32_t fuse(struct sd_lane *lanes, uint32_t rank)
{
	uint32_t kept = 0;

	for (uint32_t k = 0; k < rank; k++) {
		struct sd_lane *last = kept > 0 ? &lanes[kept - 1] : NULL;

		if (last && joins(last, &lanes[k])) {
			last->size *= lanes[k].size;
			last->from = lanes[k].from;
			last->to = lanes[k].to;
		} else {
			lanes[kept++] = lanes[k];
		}
	}
	return kept;
}

/* A last dimension of few bytes is one wider element: then all of what is around it is turned faster. */
static uint32_t widen(struct sd_transpose *plan, struct sd_lane *lanes, uint32_t rank)
{
	while (plan->source_size < 8 && rank > 1) {
		struct sd_lane *last = &lanes[rank - 1];
		uint64_t odd = last->size | plan->from | plan->to;

		if (last->from != 1 || last->to != 1)
			break;
		for (uint32_t k = 0; k + 1 < rank; k++)
			odd |= lanes[k].from | lanes[k].to;
		if (odd & 1)
			break;
		for (uint32_t k = 0; k + 1 < rank; k++) {
			lanes[k].from /= 2;
			lanes[k].to /= 2;
		}
		plan->from /= 2;
		plan->to /= 2;
		plan->source_size = plan->target_size = (uint8_t)(plan->source_size * 2);
		last->size /= 2;
		if (last->size == 1)
			rank--;
	}
	return rank;
}

static uint32_t remove_lane(struct sd_lane *lanes, uint32_t rank, uint32_t at, struct sd_lane *removed)
{
	*removed = lanes[at];
	memmove(&lanes[at], &lanes[at + 1], (rank - at - 1) * sizeof(*lanes));
	return rank - 1;
}

/* Picks a and b; what is left are the outer loops. Lanes are ordered by target stride. */
static void split(struct sd_transpose *plan, struct sd_lane *lanes, uint32_t rank)
{
	uint32_t nearest = rank - 1;

	plan->a = plan->b = (struct sd_lane){1, 1, 1, 0, 1, 0};
	plan->rows = true;
	if (rank > 0) {
		for (uint32_t k = rank; k-- > 0;)
			if (lanes[k].from < lanes[nearest].from)
				nearest = k;
		plan->rows = nearest == rank - 1;
		rank = remove_lane(lanes, rank, nearest, &plan->a);
	}
	if (rank > 0)
		rank = remove_lane(lanes, rank, rank - 1, &plan->b);
	plan->outer = rank;
	plan->loops = 1;
	for (uint32_t k = 0; k < rank; k++) {
		plan->dim[k] = lanes[k];
		plan->loops *= lanes[k].size;
	}
}

static enum sd_device_result refuse(char failure[256], const char *why, const struct sd_job *job)
{
	snprintf(failure, 256, "%s (from %s to %s, rank %" PRIu32 ", %" PRIu64 " to %" PRIu64 " elements)", why,
		 sd_dtype_name((enum sd_dtype)job->source_dtype), sd_dtype_name((enum sd_dtype)job->target_dtype),
		 job->move.rank, job->source_count, job->target_count);
	return SD_DEVICE_FAILED;
}

static bool can_scale(const struct sd_job *job)
{
	for (uint32_t k = 0; k < job->move.rank; k++)
		if (job->scale.dim[k].block == 0)
			return false;
	return sd_convert_scales(job->scale.dtype) && sd_convert_reads((enum sd_dtype)job->source_dtype) &&
	       sd_convert_makes((enum sd_dtype)job->target_dtype);
}

enum sd_device_result sd_transpose_plan(const struct sd_job *job, struct sd_transpose *plan, char failure[256])
{
	struct sd_lane lanes[SD_MOVE_RANK];
	uint32_t rank;

	*plan = (struct sd_transpose){
		.from = job->move.from,
		.to = job->move.to,
		.source_size = sd_is_code(job->source_dtype) ? 1 : (uint8_t)sd_element_size(job->source_dtype),
		.target_size = (uint8_t)sd_dtype_size((enum sd_dtype)job->target_dtype),
		.source_dtype = job->source_dtype,
		.target_dtype = job->target_dtype,
		.scale_dtype = job->scale.data ? job->scale.dtype : SD_NO_DTYPE,
		.scale_from = job->scale.data ? job->scale.from : 0,
		.bytes = !job->scale.data && job->source_dtype == job->target_dtype,
	};
	if (job->move.rank > SD_MOVE_RANK)
		return refuse(failure, "too many dimensions", job);
	if (!sd_cast_exists((enum sd_dtype)job->source_dtype, (enum sd_dtype)job->target_dtype))
		return refuse(failure, "no such cast", job);
	if (job->scale.data && !can_scale(job))
		return refuse(failure, "no such scale", job);
	for (uint32_t k = 0; k < job->move.rank; k++)
		if (job->move.dim[k].size == 0)
			return SD_DEVICE_OK;
	rank = take_lanes(job, plan, lanes);
	if (!stays_within(lanes, rank, plan->from, plan->to, job))
		return refuse(failure, "a move leaves its buffers", job);
	rank = fuse(lanes, rank);
	if (plan->bytes)
		rank = widen(plan, lanes, rank);
	split(plan, lanes, rank);
	return SD_DEVICE_OK;
}

uint64_t sd_transpose_scales(const struct sd_transpose *plan)
{
	uint64_t last = plan->scale_from;

	if (plan->scale_dtype == SD_NO_DTYPE)
		return 0;
	for (uint32_t k = 0; k < plan->outer; k++)
		last += sd_lane_scale(&plan->dim[k], plan->dim[k].size - 1);
	return last + sd_lane_scale(&plan->a, plan->a.size - 1) + sd_lane_scale(&plan->b, plan->b.size - 1) + 1;
}
