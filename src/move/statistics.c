/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of elements. */
#include "move/statistics.h"
#include "move/convert.h"
#include "move/kernels.h"

#include <math.h>
#include <stdlib.h>

#define COUNT sd_statistics_count_plain
#define DECODE sd_decode_plain
#define ADD_SQUARE(sum, a) ((sum) += (a) * (a))
#define DOUBLES_OF_FLOATS(v, half)                                                                                     \
	((doubles){(v)[4 * (half)], (v)[4 * (half) + 1], (v)[4 * (half) + 2], (v)[4 * (half) + 3]})
#define PICK(type, marks, yes, a, b) ((type)(((yes) & (marks)(a)) | (~(yes) & (marks)(b))))
#define LESSER(a, b) PICK(floats, marks, (a) < (b), a, b)
#define GREATER(a, b) PICK(floats, marks, (a) > (b), a, b)
#define LESSER_WIDE(a, b) PICK(doubles, wide_marks, (a) < (b), a, b)
#define GREATER_WIDE(a, b) PICK(doubles, wide_marks, (a) > (b), a, b)
#define LESSER_BYTES(a, b) PICK(bytes, signed_bytes, (a) < (b), a, b)
#define GREATER_BYTES(a, b) PICK(bytes, signed_bytes, (a) > (b), a, b)
#define LESSER_SIGNED(a, b) PICK(signed_bytes, signed_bytes, (a) < (b), a, b)
#define GREATER_SIGNED(a, b) PICK(signed_bytes, signed_bytes, (a) > (b), a, b)
#define TRIPLES(at)                                                                                                    \
	((pairs){TRIPLE(at, 0), TRIPLE(at, 1), TRIPLE(at, 2), TRIPLE(at, 3), TRIPLE(at, 4), TRIPLE(at, 5),             \
		 TRIPLE(at, 6), TRIPLE(at, 7)})
#define TRIPLE(at, i) ((at)[3 * i] | (uint32_t)(at)[3 * i + 1] << 8 | (uint32_t)(at)[3 * i + 2] << 16)
#include "move/statistics_simd.h"

static sd_statistics_counter *pick(const char *name)
{
	if (name && strcmp(name, "plain") == 0)
		return sd_statistics_count_plain;
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && sd_kernels_have_f16c())
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
	/* As a code of F8, it has its sign in the first bit. */
	case SD_F6_E3M2:
		return sd_f32_of_small(code < 128 ? code & 63 : 32 | (code & 31), 3, 2, 3, SD_TOP_FINITE);
	case SD_F6_E2M3:
		return sd_f32_of_small(code < 128 ? code & 63 : 32 | (code & 31), 2, 3, 1, SD_TOP_FINITE);
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

static int by_number(const void *a, const void *b, void *table)
{
	float x = ((const float *)table)[*(const uint8_t *)a], y = ((const float *)table)[*(const uint8_t *)b];

	if (!isfinite(x) || !isfinite(y))
		return !isfinite(x) - !isfinite(y);
	return (x > y) - (x < y);
}

void sd_statistics_kind_of(enum sd_dtype dtype, struct sd_statistics_kind *kind)
{
	*kind = (struct sd_statistics_kind){.dtype = dtype, .count = pick(getenv("SD_KERNELS"))};
	if (sd_dtype_bits(dtype) > 8)
		return;
	for (unsigned i = 0; i < 256; i++) {
		kind->table[i] = sd_float_of_bits(bits_of_code(dtype, (uint8_t)i));
		kind->order[i] = (uint8_t)i;
		kind->nfinite += isfinite(kind->table[i]) != 0;
	}
	qsort_r(kind->order, 256, 1, by_number, kind->table);
	for (unsigned i = 0; i < kind->nfinite; i++) {
		kind->number[i] = kind->table[kind->order[i]];
		kind->zero_end = kind->number[i] <= 0 ? i + 1 : kind->zero_end;
		kind->zero_begin = kind->number[i] < 0 ? i + 1 : kind->zero_begin;
	}
}

void sd_statistics_values(const struct sd_statistics_kind *kind, const void *source, size_t count, double *values)
{
	const size_t size = kind->dtype == SD_C64 ? 32 : sd_dtype_bits(kind->dtype);
	float narrow[SD_CONVERT_RUN];
	double wide[SD_CONVERT_RUN];

	for (size_t i = 0, n; i < count; i += n) {
		const uint8_t *at = (const uint8_t *)source + i * size / 8;

		n = count - i < SD_CONVERT_RUN ? count - i : SD_CONVERT_RUN;
		if (is_wide(kind->dtype))
			decode_wide(kind->dtype, at, n, wide);
		else
			decode_narrow(kind->dtype, kind->table, at, n, narrow);
		for (size_t k = 0; k < n; k++)
			values[i + k] = is_wide(kind->dtype) ? wide[k] : (double)narrow[k];
	}
}

/* ---- runs ---- */

unsigned sd_statistics_parts(enum sd_dtype dtype)
{
	return dtype == SD_C64 ? 2 : 1;
}

/* Where something is not finite, or so large that its square is not: one by one. */
static void count_finite(const double *values, size_t count, struct sd_statistics *s)
{
	*s = (struct sd_statistics){.min = INFINITY, .max = -INFINITY};
	for (size_t i = 0; i < count; i++) {
		s->nan += isnan(values[i]);
		s->inf += isinf(values[i]) != 0;
		s->finite += isfinite(values[i]) != 0;
		if (isfinite(values[i]))
			add_one(s, values[i]);
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

/* Whether elements are counted by their codes: those that are not decoded with vectors. */
static bool has_codes(enum sd_dtype dtype)
{
	return dtype == SD_F8_E5M2FNUZ || dtype == SD_F8_E4M3FNUZ || dtype == SD_F8_E8M0 || dtype == SD_BOOL;
}

/* How often there is each byte. Several tables, so that equal bytes in a row do not wait for each other. */
static void find_often(const uint8_t *source, size_t count, uint32_t often[256])
{
	uint32_t tables[4][256] = {{0}};
	size_t i = 0;

	for (; i + 8 <= count; i += 8) {
		uint64_t word;

		memcpy(&word, source + i, sizeof(word));
#pragma GCC unroll 8
		for (unsigned k = 0; k < 8; k++)
			tables[k % 4][(uint8_t)(word >> 8 * k)]++;
	}
	for (; i < count; i++)
		tables[0][source[i]]++;
	for (size_t k = 0; k < 256; k++)
		often[k] = tables[0][k] + tables[1][k] + tables[2][k] + tables[3][k];
}

/* The sums of weight * (number - mean)^power of codes, in four lanes. */
static double sum_codes(const struct sd_statistics_kind *kind, const double weight[256], double mean, bool squares)
{
	double sum[4] = {0};

	for (unsigned i = 0; i < 256; i += 4)
		for (unsigned k = 0; k < 4; k++) {
			double d = kind->number[i + k] - mean;

			sum[k] += (squares ? d * d : d) * weight[i + k];
		}
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Codes: of each number what it is and how often it is there. */
static void count_codes(const struct sd_statistics_kind *kind, const uint8_t *source, size_t count,
			struct sd_statistics *s)
{
	unsigned low = 0, high = kind->nfinite;
	double weight[256] = {0};
	uint32_t often[256];

	*s = (struct sd_statistics){.finite = count};
	find_often(source, count, often);
	for (unsigned i = kind->nfinite; i < 256; i++) {
		uint32_t n = often[kind->order[i]];

		s->nan += isnan(kind->table[kind->order[i]]) ? n : 0;
		s->inf += isinf(kind->table[kind->order[i]]) ? n : 0;
		s->finite -= n;
	}
	if (!s->finite)
		return;
	for (unsigned i = 0; i < kind->nfinite; i++)
		weight[i] = often[kind->order[i]];
	while (weight[low] == 0)
		low++;
	while (weight[high - 1] == 0)
		high--;
	s->min = kind->number[low];
	s->max = kind->number[high - 1];
	for (unsigned i = kind->zero_begin; i < kind->zero_end; i++)
		s->zeros += (uint64_t)weight[i];
	s->sum = sum_codes(kind, weight, 0, false);
	s->mean = s->sum / (double)s->finite;
	s->m2 = sum_codes(kind, weight, s->mean, true);
}

/* Where the first ones are that are no numbers. */
static void find_first(const double *values, size_t count, unsigned parts, struct sd_statistics *s)
{
	for (size_t i = count; i-- > 0;) {
		if (isnan(values[i]))
			s->first_nan = i / parts;
		else if (!isfinite(values[i]))
			s->first_inf = i / parts;
	}
}

/* Mean and m2 of sums and of sums of squares. values has the numbers themselves where decoded, or room for them. */
static void settle(const struct sd_statistics_kind *kind, const void *source, size_t count, bool decoded,
		   double *values, struct sd_statistics *s)
{
	double squares = s->m2;

	s->mean = s->sum / (double)s->finite;
	s->m2 = squares - s->sum * s->mean;
	if (!(s->m2 >= squares * EXACT_ENOUGH) && squares > 0) {
		if (!decoded)
			sd_statistics_values(kind, source, count, values);
		s->m2 = deviations(values, count, s->mean, s->finite);
	}
	s->m2 = s->m2 < 0 ? 0 : s->m2;
}

void sd_statistics_count(const struct sd_statistics_kind *kind, const void *source, size_t count,
			 double scratch[SD_STATISTICS_RUN], struct sd_statistics *s)
{
	const unsigned parts = sd_statistics_parts(kind->dtype);
	const bool codes = has_codes(kind->dtype);
	bool odd;

	count *= parts;
	*s = (struct sd_statistics){0};
	if (!count)
		return;
	if (codes) {
		count_codes(kind, source, count, s);
	} else {
		kind->count(kind->dtype, kind->table, source, count, s);
		s->finite = count;
	}
	odd = codes ? s->nan || s->inf : !isfinite(s->sum) || !isfinite(s->m2);
	if (odd)
		sd_statistics_values(kind, source, count, scratch);
	if (odd && !codes)
		count_finite(scratch, count, s);
	if (odd)
		find_first(scratch, count, parts, s);
	if (!s->finite)
		return;
	if (!codes)
		settle(kind, source, count, odd, scratch, s);
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
