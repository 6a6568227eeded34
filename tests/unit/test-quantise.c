/* SPDX-License-Identifier: Apache-2.0 */
/* Block FP8: the code is the nearest one, the scale is the formula, and what is read back is near what went in. */
#include "move/quantise.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static float decoded(uint8_t code)
{
	return sd_float_of_bits(sd_f32_of_f8_e4m3(code));
}

/* The nearest of all codes by search; of two, the one with an even last bit. */
static uint8_t nearest(float value)
{
	uint8_t best = 0;

	for (int code = 0; code < 0x7f; code++) {
		double now = fabs((double)decoded((uint8_t)code) - fabs((double)value));
		double then = fabs((double)decoded(best) - fabs((double)value));

		if (now < then || (now == then && !(code & 1)))
			best = (uint8_t)code;
	}
	return (uint8_t)(best | (signbit(value) ? 0x80 : 0));
}

Test(quantise, nearest_code)
{
	unsigned seed = 1;

	for (int code = 0; code < 256; code++)
		if ((code & 0x7f) != 0x7f)
			cr_expect(sd_f8_e4m3_of_f32(sd_bits_of_float(decoded((uint8_t)code))) == code, "%02x", code);
	for (int code = 0; code < 0x7e; code++) {
		float middle = (decoded((uint8_t)code) + decoded((uint8_t)(code + 1))) / 2;

		for (int side = -1; side <= 1; side++)
			for (int sign = 0; sign < 2; sign++) {
				float value = side ? nextafterf(middle, side * INFINITY) : middle;

				value = sign ? -value : value;
				cr_expect(sd_f8_e4m3_of_f32(sd_bits_of_float(value)) == nearest(value), "%a",
					  (double)value);
			}
	}
	for (int i = 0; i < 200000; i++) {
		uint32_t bits = (uint32_t)rand_r(&seed) << 16 ^ (uint32_t)rand_r(&seed);
		float value = sd_float_of_bits(bits);

		if (isnan(value))
			cr_expect((sd_f8_e4m3_of_f32(bits) & 0x7f) == 0x7f);
		else
			cr_expect(sd_f8_e4m3_of_f32(bits) == nearest(value), "%a", (double)value);
	}
	cr_expect(sd_f8_e4m3_of_f32(sd_bits_of_float(INFINITY)) == 0x7e, "448, never a NaN");
}

Test(quantise, bands)
{
	enum { ROWS = 128, COLUMNS = 300, BLOCKS = 3 };
	static float weight[ROWS][COLUMNS];
	static uint8_t codes[ROWS][COLUMNS];
	float scales[BLOCKS];
	uint16_t brains[BLOCKS];
	unsigned seed = 2;

	for (int i = 0; i < ROWS; i++)
		for (int k = 0; k < COLUMNS; k++)
			weight[i][k] = k < 128 ? 0 : ldexpf((float)(rand_r(&seed) % 2001 - 1000), k < 256 ? -140 : 3);
	cr_assert(sd_quantise_band(SD_F32, weight, ROWS, COLUMNS, SD_F32, &codes[0][0], scales));
	cr_assert(sd_quantise_band(SD_F32, weight, ROWS, COLUMNS, SD_BF16, &codes[0][0], brains));
	cr_assert(sd_quantise_band(SD_F32, weight, ROWS, COLUMNS, SD_F32, &codes[0][0], scales));
	cr_expect(scales[0] == 1, "a block of zeros");
	cr_expect(scales[1] == 0x1p-126f, "the smallest normal number at least");
	for (int b = 0; b < BLOCKS; b++) {
		float most = 0;

		for (int i = 0; i < ROWS; i++)
			for (int k = b * 128; k < COLUMNS && k < (b + 1) * 128; k++)
				most = fmaxf(most, fabsf(weight[i][k]));
		if (b == 2)
			cr_expect(scales[b] == most / 448);
		for (int i = 0; i < ROWS; i++)
			for (int k = b * 128; k < COLUMNS && k < (b + 1) * 128; k++) {
				float back = decoded(codes[i][k]) * scales[b];

				cr_assert(codes[i][k] == nearest(weight[i][k] / scales[b]));
				cr_assert(fabsf(back - weight[i][k]) <=
					  fmaxf(fabsf(weight[i][k]) / 16, scales[b] * 0x1p-10f));
			}
	}
	weight[127][299] = NAN;
	cr_expect(!sd_quantise_band(SD_F32, weight, ROWS, COLUMNS, SD_F32, &codes[0][0], scales));
	weight[127][299] = -INFINITY;
	cr_expect(!sd_quantise_band(SD_F32, weight, ROWS, COLUMNS, SD_F32, &codes[0][0], scales));
}
