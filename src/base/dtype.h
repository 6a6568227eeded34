/* SPDX-License-Identifier: Apache-2.0 */
/* The dtypes of safetensors, and shapes. */
#ifndef SD_BASE_DTYPE_H
#define SD_BASE_DTYPE_H

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* More dimensions than any framework has (PyTorch: 64). */
#define SD_RANK_MAX 64

/*
 * In the order in which the safetensors library lays tensors out in a file (safetensors 0.6, tensor.rs: descending
 * alignment). The values stand in streams: they never change, new ones go to the end of sd_dtype_order's table.
 */
enum sd_dtype {
	SD_NO_DTYPE = 0,
	SD_U64,
	SD_I64,
	SD_F64,
	SD_C64,
	SD_F32,
	SD_U32,
	SD_I32,
	SD_BF16,
	SD_F16,
	SD_U16,
	SD_I16,
	SD_F8_E5M2FNUZ,
	SD_F8_E4M3FNUZ,
	SD_F8_E8M0,
	SD_F8_E4M3,
	SD_F8_E5M2,
	SD_I8,
	SD_U8,
	SD_F6_E3M2,
	SD_F6_E2M3,
	SD_F4,
	SD_BOOL,
	SD_DTYPES,
};

/* The name in a safetensors header, e.g. "BF16"; "?" for a value that is no dtype. */
const char *sd_dtype_name(enum sd_dtype dtype);

/* The dtype of a name (length bytes, any case: "bf16" is BF16), or SD_NO_DTYPE. */
enum sd_dtype sd_dtype_parse(const char *name, size_t length);

/* As people type it: also PyTorch's names (float32, torch.bfloat16, half), and fp32, bf16. SD_NO_DTYPE: none. */
enum sd_dtype sd_dtype_typed(const char *text);

/* Bits of one element: 4, 6, 8, 16, 32 or 64; 0 for a value that is no dtype. */
unsigned sd_dtype_bits(enum sd_dtype dtype);

/* Bytes of one element; 0 where elements are smaller than a byte (F4, F6): such data is passed, never permuted. */
unsigned sd_dtype_size(enum sd_dtype dtype);

/* Whether the dtype is a floating-point number (of any width). */
bool sd_dtype_is_float(enum sd_dtype dtype);

/* Product of the sizes; false where it does not fit 64 bits. rank 0 gives 1. */
SD_MUST_CHECK bool sd_shape_count(const uint64_t *shape, uint32_t rank, uint64_t *count);

/* Whether an array of this shape has no elements. */
bool sd_shape_is_empty(const uint64_t *shape, uint32_t rank);

/* Bytes of count elements; false where that is too large or no whole number of bytes. */
SD_MUST_CHECK bool sd_dtype_bytes(enum sd_dtype dtype, uint64_t count, uint64_t *bytes);

bool sd_shape_equal(const uint64_t *a, uint32_t a_rank, const uint64_t *b, uint32_t b_rank);

/* Writes "[256, 1024, 2048]" into text, cut at size; returns text. */
char *sd_shape_text(const uint64_t *shape, uint32_t rank, char *text, size_t size);

/* The same as sd-ls has it: "[256,1024,2048]". */
char *sd_shape_brief(const uint64_t *shape, uint32_t rank, char *text, size_t size);

/* Writes that, whole. */
void sd_shape_print(FILE *out, const uint64_t *shape, uint32_t rank);

/* Whether both are the same but that the last two sizes, which differ, have changed places. */
bool sd_shape_is_transposed(const uint64_t *a, uint32_t a_rank, const uint64_t *b, uint32_t b_rank);

/* Room for the text of any sensible shape. */
#define SD_SHAPE_TEXT 256

#endif
