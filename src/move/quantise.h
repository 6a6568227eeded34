/* SPDX-License-Identifier: Apache-2.0 */
/* Quantisation: block FP8, which is codes of F8_E4M3 with one scale for each block of 128 x 128, and the forms of
 * compressed-tensors. */
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

enum sd_quantiser {
	SD_QUANTISE_BLOCKS, /* see above */
	SD_QUANTISE_ROWS,   /* F8_E4M3, a scale for each row: max |element| / 448 */
	SD_QUANTISE_ALL,    /* the same, one for all */
	SD_QUANTISE_MXFP4,  /* E2M1, for 32 columns 2^(byte - 127): the exponent of max |element|, less 2 */
	SD_QUANTISE_NVFP4,  /* E2M1, for 16 columns F8_E4M3 / global, the nearest to max |element| / 6 */
};

#define SD_MXFP4_GROUP 32
#define SD_NVFP4_GROUP 16

/*
 * Quantises rows of all kinds but BLOCKS; of ALL and NVFP4 the whole matrix. columns is a multiple of the group. scales
 * are of scale_dtype (ROWS, ALL), bytes of exponents or F8_E4M3; global, of NVFP4 alone, is 448 * 6 / max |element|.
 * What a code stands for is what sd-quant(7) says of compressed-tensors. False as above.
 */
SD_MUST_CHECK bool sd_quantise_rows(enum sd_quantiser kind, enum sd_dtype dtype, const void *source, uint64_t rows,
				    uint64_t columns, enum sd_dtype scale_dtype, uint8_t *codes, void *scales,
				    float *global);

#endif
