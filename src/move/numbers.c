/* SPDX-License-Identifier: Apache-2.0 */
/* Elements of every dtype as numbers. */
#include "move/numbers.h"
#include "move/convert.h"

#include <math.h>
#include <string.h>

/* Formats of 8 bits or less: a sign, exponent bits with their bias, mantissa bits. */
struct small {
	int exponent, mantissa, bias;
	enum { FINITE, ONE_NAN, IEEE, NEGATIVE_ZERO_NAN } top; /* how the codes are used that are no numbers */
};

static bool find_small(enum sd_dtype dtype, struct small *format)
{
	switch (dtype) {
	case SD_F8_E4M3:
		*format = (struct small){4, 3, 7, ONE_NAN};
		return true;
	case SD_F8_E5M2:
		*format = (struct small){5, 2, 15, IEEE};
		return true;
	case SD_F8_E4M3FNUZ:
		*format = (struct small){4, 3, 8, NEGATIVE_ZERO_NAN};
		return true;
	case SD_F8_E5M2FNUZ:
		*format = (struct small){5, 2, 16, NEGATIVE_ZERO_NAN};
		return true;
	case SD_F6_E3M2:
		*format = (struct small){3, 2, 3, FINITE};
		return true;
	case SD_F6_E2M3:
		*format = (struct small){2, 3, 1, FINITE};
		return true;
	case SD_F4:
		*format = (struct small){2, 1, 1, FINITE};
		return true;
	default:
		return false;
	}
}

static double small_number(const struct small *f, unsigned code)
{
	unsigned bits = (unsigned)(f->exponent + f->mantissa), magnitude = code & ((1u << bits) - 1);
	unsigned exponent = magnitude >> f->mantissa, top = (1u << f->exponent) - 1;
	unsigned mantissa = magnitude & ((1u << f->mantissa) - 1);
	double sign = code >> bits & 1 ? -1.0 : 1.0;

	if (f->top == NEGATIVE_ZERO_NAN && code == 1u << bits)
		return NAN;
	if (f->top == ONE_NAN && magnitude == (1u << bits) - 1)
		return NAN;
	if (f->top == IEEE && exponent == top)
		return mantissa ? NAN : sign * INFINITY;
	if (exponent)
		mantissa |= 1u << f->mantissa;
	else
		exponent = 1;
	return sign * ldexp(mantissa, (int)exponent - f->bias - f->mantissa);
}

static double wide_number(enum sd_dtype dtype, uint64_t code)
{
	double wide;

	switch (dtype) {
	case SD_F64:
		memcpy(&wide, &code, sizeof(wide));
		return wide;
	case SD_F32:
	case SD_C64:
		return sd_float_of_bits((uint32_t)code);
	case SD_BF16:
		return sd_float_of_bits((uint32_t)code << 16);
	case SD_F16:
		return sd_float_of_bits(sd_f32_of_f16((uint16_t)code));
	case SD_I64:
		return (double)(int64_t)code;
	case SD_I32:
		return (int32_t)code;
	case SD_I16:
		return (int16_t)code;
	default: /* U64, U32, U16 */
		return (double)code;
	}
}

double sd_number_of_code(enum sd_dtype dtype, uint64_t code)
{
	struct small format;

	if (find_small(dtype, &format))
		return small_number(&format, (unsigned)code);
	if (dtype == SD_F8_E8M0)
		return code == 255 ? NAN : ldexp(1, (int)code - 127);
	if (dtype == SD_I8)
		return (int8_t)code;
	return wide_number(dtype, code);
}

void sd_numbers_begin(struct sd_number_table *numbers, enum sd_dtype dtype)
{
	unsigned bits = sd_number_bits(dtype);

	numbers->dtype = dtype;
	for (unsigned code = 0; bits <= 8 && code < 1u << bits; code++)
		numbers->table[code] = sd_number_of_code(dtype, code);
}

uint64_t sd_number_code(enum sd_dtype dtype, const void *data, uint64_t i)
{
	const uint8_t *bytes = data;
	unsigned bits = sd_number_bits(dtype);
	uint64_t code = 0;

	if (bits >= 8) {
		memcpy(&code, bytes + i * (bits / 8), bits / 8);
		return code;
	}
	/* An F6 may lie in two bytes. */
	code = bytes[i * bits / 8];
	if (i * bits % 8 + bits > 8)
		code |= (uint64_t)bytes[i * bits / 8 + 1] << 8;
	return code >> (i * bits % 8) & ((1u << bits) - 1);
}

/* Loops without branches, which the compiler makes vectors of. Elements may lie anywhere. */
#define EACH(type, expression)                                                                                         \
	for (size_t i = 0; i < count; i++) {                                                                           \
		type in;                                                                                               \
                                                                                                                       \
		memcpy(&in, (const uint8_t *)data + (first + i) * sizeof(in), sizeof(in));                             \
		into[i] = (expression);                                                                                \
	}                                                                                                              \
	return

void sd_numbers_read(const struct sd_number_table *numbers, const void *restrict data, uint64_t first, size_t count,
		     double *restrict into)
{
	switch (numbers->dtype) {
	case SD_F64:
		EACH(double, in);
	case SD_F32:
	case SD_C64:
		EACH(float, in);
	case SD_BF16:
		EACH(uint16_t, sd_float_of_bits((uint32_t)in << 16));
	case SD_F16:
		EACH(uint16_t, sd_float_of_bits(sd_f32_of_f16(in)));
	case SD_I32:
		EACH(int32_t, in);
	case SD_I16:
		EACH(int16_t, in);
	case SD_U16:
		EACH(uint16_t, in);
	default:
		break;
	}
	if (sd_number_bits(numbers->dtype) == 8) {
		EACH(uint8_t, numbers->table[in]);
	}
	for (size_t i = 0; i < count; i++) {
		uint64_t code = sd_number_code(numbers->dtype, data, first + i);

		into[i] = sd_number_bits(numbers->dtype) < 8 ? numbers->table[code] : wide_number(numbers->dtype, code);
	}
}

/* Codes of numbers with a sign, in the order of the numbers, 0 and -0 being one. */
static int64_t place_of(unsigned bits, uint64_t code)
{
	uint64_t sign = UINT64_C(1) << (bits - 1);

	return code & sign ? -(int64_t)(code & (sign - 1)) : (int64_t)code;
}

static uint64_t sign_extended(unsigned bits, uint64_t code)
{
	return bits < 64 ? (uint64_t)((int64_t)(code << (64 - bits)) >> (64 - bits)) : code;
}

uint64_t sd_number_steps(enum sd_dtype dtype, uint64_t a, uint64_t b)
{
	unsigned bits = sd_number_bits(dtype);
	int64_t left, right;

	if (a == b)
		return 0;
	if (isnan(sd_number_of_code(dtype, a)) || isnan(sd_number_of_code(dtype, b)))
		return UINT64_MAX;
	switch (dtype) {
	case SD_U64:
	case SD_U32:
	case SD_U16:
	case SD_U8:
	case SD_BOOL:
	case SD_F8_E8M0:
		return a < b ? b - a : a - b;
	case SD_I64:
	case SD_I32:
	case SD_I16:
	case SD_I8:
		left = (int64_t)sign_extended(bits, a);
		right = (int64_t)sign_extended(bits, b);
		break;
	default:
		left = place_of(bits, a);
		right = place_of(bits, b);
	}
	return left < right ? (uint64_t)right - (uint64_t)left : (uint64_t)left - (uint64_t)right;
}
