/* SPDX-License-Identifier: Apache-2.0 */
/* Block FP8: codes of F8_E4M3 with one scale for each block of 128 x 128 elements. */
#ifndef SD_MOVE_QUANTISE_H
#define SD_MOVE_QUANTISE_H

#include "move/convert.h"

#define SD_QUANT_BLOCK 128

/* The nearest F8_E4M3, ties to even; what is larger than 448 becomes 448. A NaN becomes the NaN. */
SD_SCALAR uint8_t sd_f8_e4m3_of_f32(uint32_t bits)
{
	uint32_t magnitude = bits & 0x7fffffffU;
	uint32_t code = sd_small_of_f32(magnitude, 3, 7);

	code = sd_pick(magnitude >= 0x43e00000U, 0x7e, code);
	return (uint8_t)(sd_pick(magnitude > SD_F32_INFINITY, 0x7f, code) | (bits >> 24 & 0x80));
}

/*
 * Quantises one band: rows (1 to SD_QUANT_BLOCK) of columns elements of BF16, F16 or F32. For each block of the band:
 *     scale = max |element| / 448, rounded to scale_dtype (F32 or BF16); at least the smallest normal number, and 1
 * where all elements are zero code  = the F8_E4M3 nearest to element / scale so that code * scale is the element again,
 * to within half a step. codes has rows * columns bytes, scales one element for each SD_QUANT_BLOCK columns begun.
 * False if an element is infinite or no number: nothing useful can be made of such a block.
 */
SD_MUST_CHECK bool sd_quantise_band(enum sd_dtype dtype, const void *source, uint64_t rows, uint64_t columns,
				    enum sd_dtype scale_dtype, uint8_t *codes, void *scales);

#endif
