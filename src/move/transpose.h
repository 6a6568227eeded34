/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one shape that every job is brought to before a device carries it out: outer loops around a 2-D piece. Its
 * dimension a runs along the source, b along the target; where one dimension does both (rows), it is a, and b is just
 * the next one. Shared by all devices: the functions below are C and CUDA alike.
 */
#ifndef SD_MOVE_TRANSPOSE_H
#define SD_MOVE_TRANSPOSE_H

#include "move/convert.h"
#include "move/device.h"

/* One dimension: how far a step goes in the source and in the target, and how it picks a scale. */
struct sd_lane {
	uint64_t size, from, to;
	uint64_t begin, block, stride;
};

struct sd_transpose {
	uint64_t from, to; /* element 0, in elements of either side */
	uint64_t scale_from;
	uint64_t loops; /* how often the outer dimensions make us go round: the product of their sizes */
	uint32_t outer;
	bool rows;  /* a is contiguous, or nearly so, on both sides: nothing to turn */
	bool bytes; /* elements are moved as they are: no cast, no scale */
	uint8_t source_size,
		target_size; /* bytes of one element; bytes: equal, and may be wider than the dtype's. 1 for
				codes, of which one begins in the middle of a byte: see sd_transpose_source */
	uint8_t source_dtype, target_dtype, scale_dtype; /* where not bytes; scale_dtype SD_NO_DTYPE: no scale */
	struct sd_lane dim[SD_MOVE_RANK];                /* the outer ones, the slowest first */
	struct sd_lane a, b;
};

/*
 * Plans a job. FAILED (with failure, of 256 bytes, filled) if it cannot be: no such cast or scale, or it leaves its
 * buffers. A job without elements has loops 0.
 */
SD_MUST_CHECK enum sd_device_result sd_transpose_plan(const struct sd_job *job, struct sd_transpose *plan,
						      char failure[256]);

/* How many elements of the scale operand, counted from its first, the job looks at; 0 without a scale. */
uint64_t sd_transpose_scales(const struct sd_transpose *plan);

/* Where element number from of a job's source lies, or the byte that holds it. */
static inline const uint8_t *sd_transpose_source(const struct sd_transpose *plan, const uint8_t *source, uint64_t from)
{
	return source + (sd_is_code(plan->source_dtype) ? from / 2 : from * plan->source_size);
}

/* Where the 2-D piece number loop begins. */
struct sd_place {
	uint64_t from, to, scale;
};

SD_SCALAR uint64_t sd_lane_scale(const struct sd_lane *lane, uint64_t i)
{
	return lane->stride == 0 ? 0 : (lane->begin + i) / lane->block * lane->stride;
}

SD_SCALAR struct sd_place sd_transpose_place(const struct sd_transpose *plan, uint64_t loop)
{
	struct sd_place place = {plan->from, plan->to, plan->scale_from};

	for (uint32_t k = plan->outer; k-- > 0;) {
		uint64_t i = loop % plan->dim[k].size;

		loop /= plan->dim[k].size;
		place.from += i * plan->dim[k].from;
		place.to += i * plan->dim[k].to;
		place.scale += sd_lane_scale(&plan->dim[k], i);
	}
	return place;
}

/* One element (its bits are the low end of the number) as the bits of a float32. */
SD_SCALAR uint32_t sd_element_decode(uint8_t dtype, uint64_t bits)
{
	switch (dtype) {
	case SD_F8_E4M3:
		return sd_f32_of_f8_e4m3((uint8_t)bits);
	case SD_F8_E5M2:
		return sd_f32_of_f8_e5m2((uint8_t)bits);
	case SD_BF16:
		return sd_f32_of_bf16((uint16_t)bits);
	case SD_F16:
		return sd_f32_of_f16((uint16_t)bits);
	case SD_F64:
		return sd_f32_of_f64(bits);
	case SD_F32:
		return (uint32_t)bits;
	default:
		return sd_is_code(dtype) ? sd_f32_of_code(dtype, (uint32_t)bits) : sd_f32_of_e8m0(dtype, (uint8_t)bits);
	}
}

/* And back. */
SD_SCALAR uint64_t sd_element_encode(uint8_t dtype, uint32_t bits)
{
	switch (dtype) {
	case SD_BF16:
		return sd_bf16_of_f32(bits);
	case SD_F16:
		return sd_f16_of_f32(bits);
	case SD_F64:
		return sd_f64_of_f32(bits);
	default:
		return sd_f32_of_f32(bits);
	}
}

SD_SCALAR uint32_t sd_element_scale(uint32_t bits, uint32_t scale)
{
	return sd_bits_of_float(sd_float_of_bits(bits) * sd_float_of_bits(scale));
}

#endif
