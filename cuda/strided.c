/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves out the gaps of a job's source and target on the way to the device and back. */
#include "strided.h"
#include "base/checked.h"

/* Elements that are less than this apart are not worth picking one by one: a line of the device's memory. */
#define GAP_BYTES 128

/* Lanes in the order of their strides on one side, the smallest first. Returns their number. */
static uint32_t order(struct sd_transpose *plan, bool source, struct sd_lane **lanes)
{
	uint32_t rank = 0;

	for (uint32_t k = 0; k < plan->outer + 2; k++) {
		struct sd_lane *lane = k == 0 ? &plan->a : k == 1 ? &plan->b : &plan->dim[k - 2];
		uint32_t at = rank;

		if (lane->size == 1)
			continue;
		for (; at > 0 && (source ? lanes[at - 1]->from > lane->from : lanes[at - 1]->to > lane->to); at--)
			lanes[at] = lanes[at - 1];
		lanes[at] = lane;
		rank++;
	}
	return rank;
}

static void add_dim(struct sd_strided *side, uint64_t size, uint64_t step)
{
	if (side->rank > 0 && side->dim[side->rank - 1].size * side->dim[side->rank - 1].step == step) {
		side->dim[side->rank - 1].size *= size;
		return;
	}
	side->dim[side->rank].size = size;
	side->dim[side->rank].step = step;
	side->rank++;
}

/* Codes are two in a byte: all from the first to the last of them go along, and the first may be half of a byte. */
static bool plan_codes(struct sd_transpose *plan, struct sd_strided *side)
{
	uint64_t count;

	*side = (struct sd_strided){.from = plan->from / 2};
	plan->from %= 2;
	count = plan->from + 1;
	for (uint32_t k = 0; k < plan->outer + 2; k++) {
		const struct sd_lane *lane = k == 0 ? &plan->a : k == 1 ? &plan->b : &plan->dim[k - 2];
		uint64_t reach;

		if (!sd_mul(lane->size - 1, lane->from, &reach) || !sd_add(count, reach, &count))
			return false;
	}
	side->run = side->bytes = sd_element_bytes(plan->source_dtype, count);
	return true;
}

static bool plan_side(struct sd_transpose *plan, bool source, struct sd_strided *side)
{
	struct sd_lane *lanes[SD_MOVE_RANK + 2];
	uint64_t size = source ? plan->source_size : plan->target_size;
	uint64_t *begin = source ? &plan->from : &plan->to;
	uint32_t rank = order(plan, source, lanes);

	*side = (struct sd_strided){.run = size, .bytes = size};
	if (!sd_mul(*begin, size, &side->from))
		return false;
	*begin = 0;
	for (uint32_t k = 0; k < rank; k++) {
		uint64_t *stride = source ? &lanes[k]->from : &lanes[k]->to, step;
		bool joins;

		if (!sd_mul(*stride, size, &step))
			return false;
		joins = side->rank == 0 &&
			(step == side->run || (source && step <= GAP_BYTES) || (source && step < side->run));
		if (joins) {
			uint64_t reach;

			if (!sd_mul(lanes[k]->size - 1, step, &reach) || !sd_add(side->run, reach, &side->run))
				return false;
			side->bytes = side->run;
		} else {
			add_dim(side, lanes[k]->size, step);
			*stride = side->bytes / size;
			if (!sd_mul(side->bytes, lanes[k]->size, &side->bytes))
				return false;
		}
	}
	return true;
}

bool sd_strided_plan(struct sd_transpose *plan, struct sd_strided *source, struct sd_strided *target)
{
	bool codes = sd_is_code(plan->source_dtype);

	return (codes ? plan_codes(plan, source) : plan_side(plan, true, source)) && plan_side(plan, false, target);
}

uint64_t sd_strided_reach(const struct sd_strided *side)
{
	uint64_t reach = side->run;

	for (uint32_t k = 0; k < side->rank; k++)
		reach += (side->dim[k].size - 1) * side->dim[k].step;
	return reach;
}

/* Where the runs begin at the host that differ in dim[0] alone. */
static uint64_t place(const struct sd_strided *side, uint64_t i)
{
	uint64_t at = side->from;

	for (uint32_t k = 1; k < side->rank; k++) {
		at += i % side->dim[k].size * side->dim[k].step;
		i /= side->dim[k].size;
	}
	return at;
}

static void copy(const struct sd_strided *side, const uint8_t *from, uint8_t *to, bool gather)
{
	uint64_t count = side->rank > 0 ? side->dim[0].size : 1, step = side->rank > 0 ? side->dim[0].step : 0;

	for (uint64_t packed = 0, i = 0; packed < side->bytes; i++) {
		uint64_t at = place(side, i);

		for (uint64_t k = 0; k < count; k++, at += step, packed += side->run)
			memcpy(to + (gather ? packed : at), from + (gather ? at : packed), side->run);
	}
}

void sd_strided_gather(const struct sd_strided *side, const void *buffer, void *packed)
{
	copy(side, buffer, packed, true);
}

void sd_strided_scatter(const struct sd_strided *side, const void *packed, void *buffer)
{
	copy(side, packed, buffer, false);
}
