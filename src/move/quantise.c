/* SPDX-License-Identifier: Apache-2.0 */
/* Quantisation: block FP8, and the forms of compressed-tensors. */
#include "move/quantise.h"

#define SMALLEST_NORMAL 0x00800000U

/* The largest magnitude of a block, as the bits of its float; these order like numbers. */
static uint32_t largest(enum sd_dtype dtype, const unsigned char *source, uint64_t rows, uint64_t stride, size_t width)
{
	float values[SD_CONVERT_RUN];
	uint32_t most = 0;

	for (uint64_t i = 0; i < rows; i++) {
		sd_decode_plain(dtype, source + i * stride, width, values);
		for (size_t k = 0; k < width; k++) {
			uint32_t magnitude = sd_bits_of_float(values[k]) & 0x7fffffffU;

			most = sd_pick(magnitude > most, magnitude, most);
		}
	}
	return most;
}

/* The scale as it is written: code and float are the same number. */
static float scale_of(uint32_t most, enum sd_dtype scale_dtype, void *scales, uint64_t index)
{
	uint32_t bits = most ? sd_bits_of_float(sd_float_of_bits(most) / 448) : 0x3f800000U;
	uint16_t brain;

	if (bits < SMALLEST_NORMAL)
		bits = SMALLEST_NORMAL;
	if (scale_dtype == SD_F32) {
		memcpy((unsigned char *)scales + index * 4, &bits, 4);
		return sd_float_of_bits(bits);
	}
	brain = sd_bf16_of_f32(bits);
	memcpy((unsigned char *)scales + index * 2, &brain, 2);
	return sd_float_of_bits(sd_f32_of_bf16(brain));
}

static void encode(enum sd_dtype dtype, const unsigned char *source, uint64_t rows, uint64_t stride, size_t width,
		   float scale, uint8_t *codes, uint64_t columns)
{
	float values[SD_CONVERT_RUN];

	for (uint64_t i = 0; i < rows; i++) {
		sd_decode_plain(dtype, source + i * stride, width, values);
		for (size_t k = 0; k < width; k++)
			codes[i * columns + k] = sd_f8_e4m3_of_f32(sd_bits_of_float(values[k] / scale));
	}
}

bool sd_quantise_band(enum sd_dtype dtype, const void *source, uint64_t rows, uint64_t columns,
		      enum sd_dtype scale_dtype, uint8_t *codes, void *scales)
{
	const unsigned size = sd_dtype_size(dtype);
	const uint64_t stride = columns * size;

	_Static_assert(SD_QUANT_BLOCK <= SD_CONVERT_RUN, "a row of a block is one run");
	for (uint64_t begin = 0; begin < columns; begin += SD_QUANT_BLOCK) {
		const unsigned char *block = (const unsigned char *)source + begin * size;
		size_t width = columns - begin < SD_QUANT_BLOCK ? (size_t)(columns - begin) : SD_QUANT_BLOCK;
		uint32_t most = largest(dtype, block, rows, stride, width);
		float scale;

		if (most >= SD_F32_INFINITY)
			return false;
		scale = scale_of(most, scale_dtype, scales, begin / SD_QUANT_BLOCK);
		encode(dtype, block, rows, stride, width, scale, codes + begin, columns);
	}
	return true;
}

/* ---- the forms of compressed-tensors ---- */

/* The largest magnitude of rows of any length. */
static uint32_t largest_of(enum sd_dtype dtype, const unsigned char *source, uint64_t rows, uint64_t columns)
{
	const uint64_t size = sd_dtype_size(dtype);
	uint32_t most = 0;

	for (uint64_t begin = 0; begin < columns; begin += SD_CONVERT_RUN) {
		size_t width = columns - begin < SD_CONVERT_RUN ? (size_t)(columns - begin) : SD_CONVERT_RUN;
		uint32_t own = largest(dtype, source + begin * size, rows, columns * size, width);

		most = own > most ? own : most;
	}
	return most;
}

/* The nearest code of E2M1, ties to even; what is larger than 6 becomes 6. */
static uint8_t e2m1_of_f32(uint32_t bits)
{
	uint32_t code = sd_small_of_f32(bits & 0x7fffffffU, 1, 1);

	return (uint8_t)((code > 7 ? 7 : code) | (bits >> 28 & 8));
}

/* count elements, two in a byte. */
static void encode_e2m1(enum sd_dtype dtype, const unsigned char *source, size_t count, float scale, uint8_t *codes)
{
	float values[SD_CONVERT_RUN];

	sd_decode_plain(dtype, source, count, values);
	for (size_t k = 0; k < count; k += 2)
		codes[k / 2] = (uint8_t)(e2m1_of_f32(sd_bits_of_float(values[k] / scale)) |
					 e2m1_of_f32(sd_bits_of_float(values[k + 1] / scale)) << 4);
}

static void encode_f8(enum sd_dtype dtype, const unsigned char *source, uint64_t count, float scale, uint8_t *codes)
{
	for (uint64_t begin = 0; begin < count; begin += SD_CONVERT_RUN) {
		size_t width = count - begin < SD_CONVERT_RUN ? (size_t)(count - begin) : SD_CONVERT_RUN;

		encode(dtype, source + begin * sd_dtype_size(dtype), 1, 0, width, scale, codes + begin, 0);
	}
}

static uint8_t exponent_for(uint32_t most)
{
	if (most == 0)
		return 127;
	return (uint8_t)(most >> 23 > 2 ? (most >> 23) - 2 : 0);
}

/* The F8_E4M3 nearest to what the group needs, but never 0. */
static uint8_t small_scale_for(uint32_t most, float global)
{
	uint8_t code = sd_f8_e4m3_of_f32(sd_bits_of_float(sd_float_of_bits(most) / 6 * global));

	return code ? code : 1;
}

static float global_for(uint32_t most)
{
	float global = most ? 448 * 6 / sd_float_of_bits(most) : 1;

	return sd_bits_of_float(global) < SD_F32_INFINITY ? global : sd_float_of_bits(SD_F32_INFINITY - 1);
}

bool sd_quantise_rows(enum sd_quantiser kind, enum sd_dtype dtype, const void *source, uint64_t rows, uint64_t columns,
		      enum sd_dtype scale_dtype, uint8_t *codes, void *scales, float *global)
{
	const bool small = kind == SD_QUANTISE_MXFP4 || kind == SD_QUANTISE_NVFP4;
	const uint64_t size = sd_dtype_size(dtype), group = kind == SD_QUANTISE_MXFP4   ? SD_MXFP4_GROUP
							    : kind == SD_QUANTISE_NVFP4 ? SD_NVFP4_GROUP
											: columns;
	const uint32_t all = largest_of(dtype, source, rows, columns);
	uint8_t *bytes = scales;
	float scale = 1;

	if (all >= SD_F32_INFINITY)
		return false;
	*global = kind == SD_QUANTISE_NVFP4 ? global_for(all) : 1;
	if (kind == SD_QUANTISE_ALL)
		scale = scale_of(all, scale_dtype, scales, 0);
	for (uint64_t i = 0; i < rows * (columns / group); i++) {
		const unsigned char *at = (const unsigned char *)source + i * group * size;
		uint32_t most = kind == SD_QUANTISE_ALL ? 0 : largest_of(dtype, at, 1, group);

		if (kind == SD_QUANTISE_ROWS)
			scale = scale_of(most, scale_dtype, scales, i);
		if (kind == SD_QUANTISE_MXFP4)
			scale = sd_float_of_bits(sd_f32_of_e8m0(SD_E8M0, bytes[i] = exponent_for(most)));
		if (kind == SD_QUANTISE_NVFP4)
			scale = sd_float_of_bits(sd_f32_of_f8_e4m3(bytes[i] = small_scale_for(most, *global))) /
				*global;
		if (small)
			encode_e2m1(dtype, at, (size_t)group, scale, codes + i * group / 2);
		else
			encode_f8(dtype, at, group, scale, codes + i * group);
	}
	return true;
}
