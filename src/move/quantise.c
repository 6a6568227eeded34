/* SPDX-License-Identifier: Apache-2.0 */
/* Block FP8. */
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
