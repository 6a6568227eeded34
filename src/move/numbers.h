/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of every dtype as numbers, and how far apart two of them are in steps of the dtype. */
#ifndef SD_MOVE_NUMBERS_H
#define SD_MOVE_NUMBERS_H

#include "base/dtype.h"

#include <stdint.h>

/* Of dtypes of one byte or less: the number of each code. */
struct sd_number_table {
	enum sd_dtype dtype;
	double table[256];
};

/* Numbers that an element is: a C64 is two F32, all others are one. */
static inline unsigned sd_numbers_each(enum sd_dtype dtype)
{
	return dtype == SD_C64 ? 2 : 1;
}

/* Bits of a number: of an element, or half of a C64. */
static inline unsigned sd_number_bits(enum sd_dtype dtype)
{
	return sd_dtype_bits(dtype) / sd_numbers_each(dtype);
}

/* Readies the table of a dtype. */
void sd_numbers_begin(struct sd_number_table *numbers, enum sd_dtype dtype);

/*
 * Number i of a run of data, for i from first on, count of them. Exact but for I64 and U64, which are rounded to
 * nearest. A BOOL is 0 or its byte. F4 lie two in a byte, the low half first (torch's float4_e2m1fn_x2); F6 four in
 * three bytes, the low bits first.
 */
void sd_numbers_read(const struct sd_number_table *numbers, const void *data, uint64_t first, size_t count,
		     double *into);

/* The bits of number i. */
uint64_t sd_number_code(enum sd_dtype dtype, const void *data, uint64_t i);

/* What a code stands for. */
double sd_number_of_code(enum sd_dtype dtype, uint64_t code);

/*
 * How many steps from one number of the dtype to the next lie between two codes: 0 for equal numbers (-0 is 0),
 * UINT64_MAX where one of them is a NaN and the other is not the same code. Infinity is the next step behind the
 * largest number.
 */
uint64_t sd_number_steps(enum sd_dtype dtype, uint64_t a, uint64_t b);

#endif
