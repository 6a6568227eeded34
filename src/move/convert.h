/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every cast means, element by element, in one place for all devices: each goes through float32, bit by bit, so
 * that neither the machine's rounding mode nor a flush of subnormals has a say. Rounds to nearest, ties to even; too
 * large is infinity; every NaN becomes the one positive quiet NaN of its dtype. F64 to a 16-bit dtype rounds twice, as
 * torch does.
 *
 * Below are scalars, in C and CUDA alike (elements are their bits), then runs of elements for the CPU.
 */
#ifndef SD_MOVE_CONVERT_H
#define SD_MOVE_CONVERT_H

#include "base/dtype.h"

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define SD_SCALAR static __host__ __device__ __forceinline__
#else
#define SD_SCALAR static inline __attribute__((always_inline))
#endif

/* How a dtype of 16 bits or less uses its largest codes. */
enum sd_top {
	SD_TOP_FINITE,  /* as numbers */
	SD_TOP_ONE_NAN, /* the very last one is a NaN, no infinity: F8_E4M3 */
	SD_TOP_IEEE,    /* the largest exponent holds infinity and NaNs */
};

/*
 * Beside the dtypes of files there are elements that steps make of bytes, with numbers behind those of dtypes. Codes
 * have 4 bits and lie two in a byte, the low half first:
 */
enum {
	SD_E2M1 = 32,      /* a sign, two bits of exponent, one of mantissa; flags may be added: */
	SD_E2M1_TWICE = 1, /* numbers twice as large: 0, 1, 2, 3, 4, 6, 8, 12 */
	SD_E2M1_PLUS = 2,  /* code 8 is +0, not -0 */
	SD_INT4 = 36,      /* code - 8 */
};

/* A scale of one byte is an exponent: 2^(byte - 127). */
enum {
	SD_E8M0 = 40,         /* byte 255 is NaN; flags may be added: */
	SD_E8M0_ZERO = 1,     /* byte 0 is 0, not 2^-127 */
	SD_E8M0_INFINITY = 2, /* byte 255 is infinity */
	SD_E8M0_HALF = 4,     /* numbers half as large, and byte 255 is one of them */
	SD_E8M0_END = 48,
};

#define SD_F32_NAN 0x7fc00000U
#define SD_F32_INFINITY 0x7f800000U

SD_SCALAR float sd_float_of_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

SD_SCALAR uint32_t sd_bits_of_float(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/*
 * yes ? a : b, without a branch, and so that the compiler sees none to make of it: casts are worked on as vectors. A
 * GPU has an instruction for it.
 */
SD_SCALAR uint32_t sd_pick(bool yes, uint32_t a, uint32_t b)
{
#ifdef __CUDA_ARCH__
	return yes ? a : b;
#else
	return b ^ ((a ^ b) & (0U - (uint32_t)yes));
#endif
}

SD_SCALAR uint64_t sd_pick64(bool yes, uint64_t a, uint64_t b)
{
#ifdef __CUDA_ARCH__
	return yes ? a : b;
#else
	return b ^ ((a ^ b) & ((uint64_t)0 - (uint64_t)yes));
#endif
}

/* A sign, then exponent bits with their bias, then mantissa bits. All of these are exact in float32. */
SD_SCALAR uint32_t sd_f32_of_small(uint32_t code, int exponent, int mantissa, int bias, enum sd_top top)
{
	uint32_t magnitude = code & ((1U << (exponent + mantissa)) - 1);
	uint32_t infinity = ((1U << exponent) - 1) << mantissa;
	uint32_t last = (1U << (exponent + mantissa)) - 1;
	uint32_t normal = (magnitude << (23 - mantissa)) + ((uint32_t)(127 - bias) << 23);
	/* A small whole number times a power of two: exact, and never subnormal in float32. */
	float step = sd_float_of_bits((uint32_t)(127 + 1 - bias - mantissa) << 23);
	uint32_t subnormal = sd_bits_of_float((float)(int32_t)magnitude * step);
	uint32_t bits = sd_pick(magnitude >> mantissa != 0, normal, subnormal);

	if (top == SD_TOP_IEEE) {
		bits = sd_pick(magnitude >= infinity, SD_F32_INFINITY, bits);
		bits = sd_pick(magnitude > infinity, SD_F32_NAN, bits);
	} else if (top == SD_TOP_ONE_NAN) {
		bits = sd_pick(magnitude == last, SD_F32_NAN, bits);
	}
	return bits | (code >> (exponent + mantissa)) << 31;
}

SD_SCALAR uint32_t sd_f32_of_f8_e4m3(uint8_t code)
{
	return sd_f32_of_small(code, 4, 3, 7, SD_TOP_ONE_NAN);
}

SD_SCALAR uint32_t sd_f32_of_f8_e5m2(uint8_t code)
{
	return sd_f32_of_small(code, 5, 2, 15, SD_TOP_IEEE);
}

/* Whether it is a kind of codes; bits beyond the low 4 do not matter where one is decoded. */
SD_SCALAR bool sd_is_code(uint8_t element)
{
	return element >= SD_E2M1 && element <= SD_INT4;
}

/* kind: sd_is_code. */
SD_SCALAR uint32_t sd_f32_of_code(uint8_t kind, uint32_t code)
{
	uint32_t bits;

	if (kind == SD_INT4)
		return sd_bits_of_float((float)((int32_t)(code & 15) - 8));
	/* With a bias less by one, all numbers are twice as large. */
	bits = sd_f32_of_small(code & 15, 2, 1, kind & SD_E2M1_TWICE ? 0 : 1, SD_TOP_FINITE);
	return kind & SD_E2M1_PLUS ? sd_pick(bits == 0x80000000U, 0, bits) : bits;
}

/* kind: SD_E8M0 and flags. The two smallest halves are subnormal. */
SD_SCALAR uint32_t sd_f32_of_e8m0(uint8_t kind, uint8_t byte)
{
	uint32_t half = kind & SD_E8M0_HALF ? 1 : 0, exponent = byte - half;
	uint32_t subnormal = sd_pick(exponent == 0, 0x00400000U, 0x00200000U);
	uint32_t bits = sd_pick(exponent - 1 < 255, exponent << 23, subnormal);
	uint32_t last = kind & SD_E8M0_INFINITY ? SD_F32_INFINITY : SD_F32_NAN;

	bits = sd_pick(exponent == 255, last, bits);
	return sd_pick((byte == 0) & ((kind & SD_E8M0_ZERO) != 0), 0, bits);
}

SD_SCALAR uint32_t sd_f32_of_f16(uint16_t half)
{
	return sd_f32_of_small(half, 5, 10, 15, SD_TOP_IEEE);
}

SD_SCALAR uint32_t sd_f32_of_bf16(uint16_t brain)
{
	return (uint32_t)brain << 16;
}

SD_SCALAR uint32_t sd_f32_of_f64(uint64_t wide)
{
	uint64_t magnitude = wide & 0x7fffffffffffffffU;
	uint64_t normal = ((magnitude + 0x0fffffffU + (magnitude >> 29 & 1)) >> 29) - ((uint64_t)896 << 23);
	/* Below 2^-126 what counts is the number of steps of 2^-149. */
	uint64_t drop = 926 - sd_pick64(magnitude >> 52 > 871, magnitude >> 52, 871);
	uint64_t whole = (magnitude & 0xfffffffffffffU) | 0x10000000000000U;
	uint64_t tie = ((uint64_t)1 << (drop & 63)) >> 1;
	uint64_t subnormal = (whole + tie - 1 + (whole >> (drop & 63) & 1)) >> (drop & 63);
	uint64_t bits = sd_pick64(magnitude >= 0x3810000000000000U, normal, subnormal);

	bits = sd_pick64(magnitude >= 0x47f0000000000000U, SD_F32_INFINITY, bits);
	bits = sd_pick64(magnitude > 0x7ff0000000000000U, SD_F32_NAN, bits & 0xffffffffU);
	return (uint32_t)bits | (uint32_t)(wide >> 63) << 31;
}

SD_SCALAR uint16_t sd_bf16_of_f32(uint32_t bits)
{
	uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;

	return (uint16_t)sd_pick((bits & 0x7fffffffU) > SD_F32_INFINITY, 0x7fc0, rounded);
}

/*
 * The way back, for a magnitude (no sign): the nearest code, ties to even. What is too large, and a NaN, gives a code
 * beyond the largest: the caller's to see.
 */
SD_SCALAR uint32_t sd_small_of_f32(uint32_t magnitude, int mantissa, int bias)
{
	int shift = 23 - mantissa;
	uint32_t half = (1U << (shift - 1)) - 1;
	uint32_t normal =
		((magnitude + half + (magnitude >> shift & 1)) >> shift) - ((uint32_t)(127 - bias) << mantissa);
	/* Below the smallest normal number what counts is the number of steps of 2^(1 - bias - mantissa). (Shifts are
	 * masked for the lanes that are not picked.) */
	uint32_t most = (uint32_t)(151 - bias - mantissa);
	uint32_t drop = most - sd_pick(magnitude >> 23 > most - 25, magnitude >> 23, most - 25);
	uint32_t whole = (magnitude & 0x7fffff) | 0x800000;
	uint32_t tie = (1U << (drop & 31)) >> 1;
	uint32_t subnormal = (whole + tie - 1 + (whole >> (drop & 31) & 1)) >> (drop & 31);

	return sd_pick(magnitude >= (uint32_t)(128 - bias) << 23, normal, subnormal);
}

SD_SCALAR uint16_t sd_f16_of_f32(uint32_t bits)
{
	uint32_t magnitude = bits & 0x7fffffffU;
	uint32_t half = sd_small_of_f32(magnitude, 10, 15);

	half = sd_pick(magnitude >= 0x47800000U, 0x7c00, half); /* from 65520 on, it has carried into infinity */
	return (uint16_t)sd_pick(magnitude > SD_F32_INFINITY, 0x7e00, half | (bits >> 16 & 0x8000));
}

SD_SCALAR uint32_t sd_f32_of_f32(uint32_t bits)
{
	return sd_pick((bits & 0x7fffffffU) > SD_F32_INFINITY, SD_F32_NAN, bits);
}

SD_SCALAR uint64_t sd_f64_of_f32(uint32_t bits)
{
	uint32_t magnitude = bits & 0x7fffffffU;
	uint64_t normal = ((uint64_t)magnitude << 29) + ((uint64_t)896 << 52);
	double small = (double)(int32_t)magnitude * 0x1p-149;
	uint64_t wide;

	memcpy(&wide, &small, sizeof(wide));
	wide = sd_pick64(magnitude >= 0x00800000U, normal, wide);
	wide = sd_pick64(magnitude >= SD_F32_INFINITY, 0x7ff0000000000000U, wide);
	wide |= (uint64_t)(bits >> 31) << 63;
	return sd_pick64(magnitude > SD_F32_INFINITY, 0x7ff8000000000000U, wide);
}

/* Whether elements of the dtype can be turned into float32 (codes, F8_E4M3, F8_E5M2 and those below), and made of it
 * (BF16, F16, F32, F64). */
bool sd_convert_reads(enum sd_dtype dtype);
bool sd_convert_makes(enum sd_dtype dtype);

/* Whether the elements can be a scale: F32, BF16, F16 and SD_E8M0 with flags. */
bool sd_convert_scales(uint8_t element);

/* Bytes of one element, 0 for codes; bytes of count elements, of which the first one begins a byte. */
static inline unsigned sd_element_size(uint8_t element)
{
	return element >= SD_E8M0 && element < SD_E8M0_END ? 1 : sd_dtype_size((enum sd_dtype)element);
}

static inline uint64_t sd_element_bytes(uint8_t element, uint64_t count)
{
	return sd_is_code(element) ? count / 2 + count % 2 : count * sd_element_size(element);
}

/* Runs are worked on in pieces of this many elements at most. */
#define SD_CONVERT_RUN 128

/* The two halves of a cast: 1 to SD_CONVERT_RUN elements, or scales, to float32 and back. Every NaN is made the quiet
 * one on the way back. */
typedef void sd_decode(enum sd_dtype from, const void *source, size_t count, float values[SD_CONVERT_RUN]);
typedef void sd_encode(enum sd_dtype to, const float values[SD_CONVERT_RUN], void *target, size_t count);

/* What factors are, where each element or a few together have one. */
enum sd_factors {
	SD_FLOATS,
	SD_BRAINS, /* BF16, none of them infinite or a NaN */
	SD_POWERS, /* of two: what is to be added to the bits of a BF16 */
};
/* Those powers by which every F8 and every code, but for zeros, infinities and NaNs, gives a normal number. */
#define SD_POWER_LEAST ((127U - 100) << 23) /* as the bits of a float */
#define SD_POWER_MOST ((127U + 100) << 23)
#define SD_POWER_ONE 0x3f80 /* as BF16: what is less by this is to be added */

/* Both at once, of rows of any number of elements. The results are the same. */
struct sd_cast {
	enum sd_dtype from, to;
	bool scaled; /* multiplied by a number on the way: */
	float by;
	bool often;      /* that number stays the same for thousands of elements */
	uint8_t factors; /* what each points to: enum sd_factors */
	bool pairs; /* codes: a row of bytes becomes two rows, of the first halves and of the second; count and each
		       are those of bytes */
	/* Made of these by sd_cast_ready, and what it goes by: */
	void (*go)(const struct sd_cast *cast, const uint8_t *source, uint8_t *target);
	uint8_t table[4][16];
	/* Free to change after: */
	/* NULL, or factors for a row's elements, instead of by, if not often: number i has the one at i >> shared,
	   which is 0, or 5 or more; then one behind the last may be read */
	const void *each;
	unsigned shared;
	size_t source_step, target_step; /* bytes from one row to the next */
	size_t count, rows;
	bool streaming; /* past the caches; then rows of the target begin at a line: see sd_turn */
};
/* Again after another by, if often. False if there is no such cast of rows, or not by these factors; by floats there is
 * if there is any. */
typedef bool sd_cast_ready(struct sd_cast *cast);

static inline size_t sd_factor_size(const struct sd_cast *cast)
{
	return cast->factors == SD_FLOATS ? sizeof(float) : sizeof(uint16_t);
}

struct sd_converter {
	sd_decode *decode;
	sd_encode *encode;
	sd_cast_ready *ready; /* NULL: it casts only runs */
};

sd_decode sd_decode_plain;
sd_encode sd_encode_plain;
sd_cast_ready sd_cast_ready_plain; /* by a decode and an encode */
#ifdef __x86_64__
/* The same results; for machines that have these, AVX-512 with F, BW, DQ and VL. */
sd_decode sd_decode_avx2, sd_decode_avx512;
sd_encode sd_encode_avx2, sd_encode_avx512;
sd_cast_ready sd_cast_ready_avx2, sd_cast_ready_avx512;
#endif

#endif
