/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of elements. */
#include "move/statistics.h"
#include "move/convert.h"

#include <math.h>

#define COUNT sd_statistics_count_plain
#define DECODE sd_decode_plain
#define PICK(type, marks, yes, a, b) ((type)(((yes) & (marks)(a)) | (~(yes) & (marks)(b))))
#define LESSER(a, b) PICK(floats, marks, (a) < (b), a, b)
#define GREATER(a, b) PICK(floats, marks, (a) > (b), a, b)
#define LESSER_WIDE(a, b) PICK(doubles, wide_marks, (a) < (b), a, b)
#define GREATER_WIDE(a, b) PICK(doubles, wide_marks, (a) > (b), a, b)
#include "move/statistics_simd.h"

static sd_statistics_counter *pick(void)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"))
		return sd_statistics_count_avx2;
#endif
	return sd_statistics_count_plain;
}

/* ---- dtypes ---- */

static uint32_t bits_of_fnuz(uint8_t code, int exponent, int mantissa, int bias)
{
	return code == 0x80 ? SD_F32_NAN : sd_f32_of_small(code, exponent, mantissa, bias, SD_TOP_FINITE);
}

/* The number of a code of 8 bits or less, as the bits of its float. */
static uint32_t bits_of_code(enum sd_dtype dtype, uint8_t code)
{
	switch (dtype) {
	case SD_F8_E5M2FNUZ:
		return bits_of_fnuz(code, 5, 2, 16);
	case SD_F8_E4M3FNUZ:
		return bits_of_fnuz(code, 4, 3, 8);
	case SD_F8_E8M0:
		return sd_f32_of_e8m0(SD_E8M0, code);
	case SD_F8_E4M3:
		return sd_f32_of_f8_e4m3(code);
	case SD_F8_E5M2:
		return sd_f32_of_f8_e5m2(code);
	case SD_F6_E3M2:
		return sd_f32_of_small(code & 63, 3, 2, 3, SD_TOP_FINITE);
	case SD_F6_E2M3:
		return sd_f32_of_small(code & 63, 2, 3, 1, SD_TOP_FINITE);
	case SD_F4:
		return sd_f32_of_code(SD_E2M1, code);
	case SD_I8:
		return sd_bits_of_float((int8_t)code);
	case SD_BOOL:
		return sd_bits_of_float(code != 0);
	default:
		return sd_bits_of_float(code);
	}
}

static void make_table(enum sd_dtype dtype, float table[256])
{
	for (unsigned i = 0; i < 256; i++)
		table[i] = sd_float_of_bits(bits_of_code(dtype, (uint8_t)i));
}

void sd_statistics_values(enum sd_dtype dtype, const void *source, size_t count, double *values)
{
	const size_t size = dtype == SD_C64 ? 32 : sd_dtype_bits(dtype);
	float table[256], narrow[SD_CONVERT_RUN];
	double wide[SD_CONVERT_RUN];

	make_table(dtype, table);
	for (size_t i = 0, n; i < count; i += n) {
		const uint8_t *at = (const uint8_t *)source + i * size / 8;

		n = count - i < SD_CONVERT_RUN ? count - i : SD_CONVERT_RUN;
		if (is_wide(dtype))
			decode_wide(dtype, at, n, wide);
		else
			decode_narrow(dtype, table, at, n, narrow);
		for (size_t k = 0; k < n; k++)
			values[i + k] = is_wide(dtype) ? wide[k] : (double)narrow[k];
	}
}

/* ---- runs ---- */

unsigned sd_statistics_parts(enum sd_dtype dtype)
{
	return dtype == SD_C64 ? 2 : 1;
}

/* Where something is not finite, or so large that its square is not: one by one. */
static void count_finite(const double *values, size_t count, unsigned parts, struct sd_statistics *s)
{
	*s = (struct sd_statistics){.min = INFINITY, .max = -INFINITY};
	for (size_t i = 0; i < count; i++) {
		if (isfinite(values[i])) {
			s->finite++;
			add_one(s, values[i]);
		} else if (isnan(values[i])) {
			s->first_nan = s->nan++ ? s->first_nan : i / parts;
		} else {
			s->first_inf = s->inf++ ? s->first_inf : i / parts;
		}
	}
}

/* Deviations from the mean; what rounding has left in it is taken off. */
static double deviations(const double *values, size_t count, double mean, uint64_t finite)
{
	double sum = 0, squares = 0;

	for (size_t i = 0; i < count; i++) {
		double d = values[i] - mean;

		if (!isfinite(values[i]))
			continue;
		sum += d;
		squares += d * d;
	}
	return squares - sum * sum / (double)finite;
}

/* Of what is left of squares after the mean is taken off, as much is exact as this says; else it is done again. */
#define EXACT_ENOUGH 0x1p-10

void sd_statistics_count(enum sd_dtype dtype, const void *source, size_t count, struct sd_statistics *s)
{
	const unsigned parts = sd_statistics_parts(dtype);
	double values[SD_STATISTICS_RUN];
	float table[256];
	bool decoded = false;
	double squares;

	count *= parts;
	*s = (struct sd_statistics){0};
	if (!count)
		return;
	if (sd_dtype_bits(dtype) <= 8)
		make_table(dtype, table);
	pick()(dtype, table, source, count, s);
	s->finite = count;
	if (!isfinite(s->sum) || !isfinite(s->m2)) {
		sd_statistics_values(dtype, source, count, values);
		count_finite(values, count, parts, s);
		decoded = true;
	}
	if (!s->finite)
		return;
	s->mean = s->sum / (double)s->finite;
	squares = s->m2;
	s->m2 = squares - s->sum * s->mean;
	if (!(s->m2 >= squares * EXACT_ENOUGH) && squares > 0) {
		if (!decoded)
			sd_statistics_values(dtype, source, count, values);
		s->m2 = deviations(values, count, s->mean, s->finite);
	}
	s->m2 = s->m2 < 0 ? 0 : s->m2;
	s->min += 0.0;
	s->max += 0.0;
}

/* What rounding takes off a sum is kept in rest (Neumaier). */
static void add_exactly(struct sd_statistics *s, double v)
{
	double sum = s->sum + v;

	s->rest += fabs(s->sum) >= fabs(v) ? (s->sum - sum) + v : (v - sum) + s->sum;
	s->sum = sum;
}

void sd_statistics_join(struct sd_statistics *s, const struct sd_statistics *after, uint64_t first)
{
	double n = (double)s->finite, m = (double)after->finite, apart = after->mean - s->mean;

	if (after->nan && !s->nan)
		s->first_nan = first + after->first_nan;
	if (after->inf && !s->inf)
		s->first_inf = first + after->first_inf;
	s->nan += after->nan;
	s->inf += after->inf;
	s->zeros += after->zeros;
	if (!after->finite)
		return;
	s->min = !s->finite || after->min < s->min ? after->min : s->min;
	s->max = !s->finite || after->max > s->max ? after->max : s->max;
	s->m2 += after->m2 + apart * apart * (n / (n + m)) * m;
	add_exactly(s, after->sum);
	add_exactly(s, after->rest);
	s->finite += after->finite;
	s->mean = (s->sum + s->rest) / (double)s->finite;
}

double sd_statistics_mean(const struct sd_statistics *s)
{
	return s->finite ? s->mean : (double)NAN;
}

double sd_statistics_std(const struct sd_statistics *s)
{
	return s->finite ? sqrt(s->m2 / (double)s->finite) : (double)NAN;
}

double sd_statistics_rms(const struct sd_statistics *s)
{
	return s->finite ? sqrt(s->m2 / (double)s->finite + s->mean * s->mean) : (double)NAN;
}
