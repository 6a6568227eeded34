/* SPDX-License-Identifier: Apache-2.0 */
/* Casts done slowly, on the exact value of an element, with nothing taken from what is tested. */
#ifndef TESTS_EXACT_H
#define TESTS_EXACT_H

#include "base/dtype.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

struct exact_format {
	int exponent, mantissa, bias;
	bool infinity; /* the largest exponent holds infinity and NaNs; else only the last code is a NaN */
};

static inline struct exact_format exact_format(enum sd_dtype dtype)
{
	switch (dtype) {
	case SD_F8_E4M3:
		return (struct exact_format){4, 3, 7, false};
	case SD_F8_E5M2:
		return (struct exact_format){5, 2, 15, true};
	case SD_BF16:
		return (struct exact_format){8, 7, 127, true};
	case SD_F16:
		return (struct exact_format){5, 10, 15, true};
	case SD_F32:
		return (struct exact_format){8, 23, 127, true};
	default:
		return (struct exact_format){11, 52, 1023, true};
	}
}

/* The value of an element: every one of these formats fits a double. */
static inline double exact_value(enum sd_dtype dtype, uint64_t bits)
{
	struct exact_format f = exact_format(dtype);
	uint64_t mantissa = bits & ((1ULL << f.mantissa) - 1);
	int top = (1 << f.exponent) - 1, exponent = (int)(bits >> f.mantissa) & top;
	bool negative = bits >> (f.exponent + f.mantissa) & 1;
	double value;

	if (f.infinity && exponent == top)
		value = mantissa ? (double)NAN : (double)INFINITY;
	else if (!f.infinity && exponent == top && mantissa == (1ULL << f.mantissa) - 1)
		value = (double)NAN;
	else if (exponent == 0)
		value = ldexp((double)mantissa, 1 - f.bias - f.mantissa);
	else
		value = ldexp((double)(mantissa + (1ULL << f.mantissa)), exponent - f.bias - f.mantissa);
	return negative ? -value : value;
}

/* The nearest element to a value, ties to even; every NaN is the positive quiet one. */
static inline uint64_t exact_element(enum sd_dtype dtype, double value)
{
	struct exact_format f = exact_format(dtype);
	uint64_t sign = (uint64_t)(signbit(value) != 0) << (f.exponent + f.mantissa);
	uint64_t infinity = ((1ULL << f.exponent) - 1) << f.mantissa;
	int exponent;
	double whole;

	if (isnan(value))
		return infinity | 1ULL << (f.mantissa - 1);
	value = fabs(value);
	if (isinf(value))
		return sign | infinity;
	if (value == 0)
		return sign;
	frexp(value, &exponent); /* value is below 2^exponent, and not below half of it */
	exponent -= 1;
	if (exponent < 1 - f.bias)
		exponent = 1 - f.bias;
	whole = rint(ldexp(value, f.mantissa - exponent));
	/* A carry into the next exponent, or out of the subnormals, is what adding does anyway. */
	if (exponent + (whole >= ldexp(1, f.mantissa + 1)) > f.bias)
		return sign | infinity;
	return sign | (((uint64_t)(exponent - 1 + f.bias) << f.mantissa) + (uint64_t)whole);
}

/* A cast, by way of float32, with a scale (of a float32's bits) if there is one. */
static inline uint64_t exact_cast(enum sd_dtype from, enum sd_dtype to, uint64_t bits, const uint32_t *scale)
{
	uint64_t single = exact_element(SD_F32, exact_value(from, bits));

	/* 24 by 24 bits: the product is exact in a double. */
	if (scale)
		single = exact_element(SD_F32, exact_value(SD_F32, single) * exact_value(SD_F32, *scale));
	return exact_element(to, exact_value(SD_F32, single));
}

/* A code of 4 bits: E2M1, whose code 8 is a zero with the sign of zero8, or a whole number. */
static inline double exact_e2m1(unsigned code, double zero8)
{
	static const double numbers[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

	return code < 8 ? numbers[code] : code == 8 ? zero8 : -numbers[code - 8];
}

/* The product of a value and a scale, as float32, then as dtype. */
static inline uint64_t exact_product(enum sd_dtype to, double value, double scale)
{
	/* The product is exact in a double: at most 24 by 24 bits. */
	uint64_t single = exact_element(SD_F32, value * scale);

	return exact_element(to, exact_value(SD_F32, single));
}

static inline bool exact_is_nan(enum sd_dtype dtype, uint64_t bits)
{
	return isnan(exact_value(dtype, bits));
}

/* Deterministic numbers (splitmix64), a sequence for each seed. */
static inline uint64_t exact_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15U;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
	z = (z ^ z >> 27) * 0x94d049bb133111ebU;
	return z ^ z >> 31;
}

#endif
