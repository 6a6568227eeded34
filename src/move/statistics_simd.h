/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inner loop of statistics.c, once for each instruction set. Whoever includes it says COUNT (the function's name),
 * DECODE (a function as sd_decode), ADD_SQUARE(sum, a) where the square is exact, LESSER, LESSER_WIDE, LESSER_BYTES and
 * LESSER_SIGNED (a < b ? a : b of vectors), GREATER and so on (a > b ? a : b), DOUBLES_OF_FLOATS(v, half), of 4 of 8,
 * and FLOATS_OF_F16 where the machine has such an instruction; and what statistics_bytes.h wants.
 *
 * A run is counted in lanes, always the same ones, so that vectors of any width give the same sums. Of dtypes of up to
 * 32 bits squares are exact in F64; in others, too, no product and sum may become one instruction (-std=c11 keeps the
 * compiler from that).
 */
#include "move/convert.h"
#include "move/statistics.h"

#include <math.h>

#define LANES 16

typedef float floats __attribute__((vector_size(32)));
typedef uint32_t pairs __attribute__((vector_size(32)));
typedef int32_t marks __attribute__((vector_size(32)));
typedef double doubles __attribute__((vector_size(32)));
typedef int64_t wide_marks __attribute__((vector_size(32)));

#define ALWAYS static inline __attribute__((always_inline))

/*
 * Counts count numbers. m2 is the sum of their squares as yet, and what is not finite shows in the sums only. table:
 * the numbers of 256 codes, for dtypes of up to 8 bits.
 */
typedef void sd_statistics_counter(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count,
				   struct sd_statistics *s);
sd_statistics_counter sd_statistics_count_plain;
#ifdef __x86_64__
sd_statistics_counter sd_statistics_count_avx2;
#endif

/* ---- elements ---- */

#define EACH(type, expression)                                                                                         \
	for (size_t i = 0; i < count; i++) {                                                                           \
		type in;                                                                                               \
                                                                                                                       \
		memcpy(&in, source + i * sizeof(in), sizeof(in));                                                      \
		values[i] = (expression);                                                                              \
	}                                                                                                              \
	break

/* Codes of 4 or 6 bits; count of them end a byte, or are the last ones. */
ALWAYS void decode_packed(unsigned bits, const float *table, const uint8_t *source, size_t count, float *values)
{
	for (size_t i = 0; i < count; i++) {
		size_t at = i * bits;
		unsigned shift = at % 8, code = source[at / 8];

		if (shift + bits > 8)
			code |= (unsigned)source[at / 8 + 1] << 8;
		values[i] = table[code >> shift & ((1U << bits) - 1)];
	}
}

/* 1 to SD_CONVERT_RUN elements that are exact in F32. */
ALWAYS void decode_narrow(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count, float *values)
{
	switch (dtype) {
	case SD_F16:
	case SD_BF16:
	case SD_F8_E4M3:
	case SD_F8_E5M2:
		DECODE(dtype, source, count, values);
		break;
	case SD_F32:
	case SD_C64:
		memcpy(values, source, count * sizeof(*values));
		break;
	case SD_U16:
		EACH(uint16_t, in);
	case SD_I16:
		EACH(int16_t, in);
	case SD_U8:
		EACH(uint8_t, in);
	case SD_I8:
		EACH(int8_t, in);
	case SD_F4:
		decode_packed(4, table, source, count, values);
		break;
	case SD_F6_E2M3:
	case SD_F6_E3M2:
		decode_packed(6, table, source, count, values);
		break;
	default:
		EACH(uint8_t, table[in]);
	}
}

/* All others. */
ALWAYS bool is_wide(enum sd_dtype dtype)
{
	return dtype == SD_F64 || dtype == SD_U64 || dtype == SD_I64 || dtype == SD_U32 || dtype == SD_I32;
}

ALWAYS void decode_wide(enum sd_dtype dtype, const uint8_t *source, size_t count, double *values)
{
	switch (dtype) {
	case SD_U64:
		EACH(uint64_t, (double)in);
	case SD_I64:
		EACH(int64_t, (double)in);
	case SD_U32:
		EACH(uint32_t, in);
	case SD_I32:
		EACH(int32_t, in);
	default:
		memcpy(values, source, count * sizeof(*values));
	}
}

/* ---- lanes ---- */

/* Vector i has lanes 4 i to 4 i + 3. */
struct moments {
	doubles sum[4], squares[4];
};

struct narrow {
	struct moments moments;
	floats min, max; /* of lanes i and i + 8 */
	marks zeros;     /* less than nothing */
};

struct wide {
	struct moments moments;
	doubles min, max; /* of lanes i, i + 4, i + 8, i + 12 */
	wide_marks zeros;
};

ALWAYS void add_moments(struct moments *m, unsigned i, const floats *v)
{
	doubles a = DOUBLES_OF_FLOATS(*v, 0), b = DOUBLES_OF_FLOATS(*v, 1);

	m->sum[2 * i] += a;
	ADD_SQUARE(m->squares[2 * i], a);
	m->sum[2 * i + 1] += b;
	ADD_SQUARE(m->squares[2 * i + 1], b);
}

ALWAYS void add_floats(struct narrow *n, unsigned i, const floats *v)
{
	n->min = LESSER(*v, n->min);
	n->max = GREATER(*v, n->max);
	n->zeros += *v == 0;
	add_moments(&n->moments, i, v);
}

/* LANES elements. */
ALWAYS void load(enum sd_dtype dtype, const uint8_t *source, floats v[2])
{
	pairs pair;

	if (dtype == SD_BF16) {
		/* Which lane an element is in does not matter as long as it is always the same. */
		memcpy(&pair, source, sizeof(pair));
		v[0] = (floats)(pair << 16);
		v[1] = (floats)(pair & 0xffff0000U);
#ifdef FLOATS_OF_F16
	} else if (dtype == SD_F16) {
		v[0] = FLOATS_OF_F16(source);
		v[1] = FLOATS_OF_F16(source + 16);
#endif
	} else {
		memcpy(&v[0], source, sizeof(*v));
		memcpy(&v[1], source + sizeof(*v), sizeof(*v));
	}
}

ALWAYS double total(const doubles v[4])
{
	doubles sum = (v[0] + v[1]) + (v[2] + v[3]);

	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

ALWAYS void add_extremes(struct sd_statistics *s, double min, double max, int64_t zeros)
{
	s->min = min < s->min ? min : s->min;
	s->max = max > s->max ? max : s->max;
	s->zeros += (uint64_t)-zeros;
}

/* What is behind the last whole step. */
ALWAYS void add_one(struct sd_statistics *s, double v)
{
	s->sum += v;
	s->m2 += v * v;
	add_extremes(s, v, v, -(v == 0));
}

ALWAYS void begin(struct sd_statistics *s, const struct moments *m)
{
	*s = (struct sd_statistics){.sum = total(m->sum), .m2 = total(m->squares), .min = INFINITY, .max = -INFINITY};
}

#include "move/statistics_bytes.h"

/* Elements of size bytes that load reads as they are. */
ALWAYS void count_loaded(enum sd_dtype dtype, size_t size, const uint8_t *source, size_t count, struct narrow *n)
{
	for (size_t i = 0; i + LANES <= count; i += LANES) {
		floats v[2];

		load(dtype, source + i * size, v);
		add_floats(n, 0, &v[0]);
		add_floats(n, 1, &v[1]);
	}
}

ALWAYS void count_decoded(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count,
			  struct narrow *n)
{
	const size_t bits = sd_dtype_bits(dtype);
	float values[SD_CONVERT_RUN];

	for (size_t i = 0, more; i + LANES <= count; i += more) {
		more = (count - i < SD_CONVERT_RUN ? count - i : SD_CONVERT_RUN) / LANES * LANES;
		/* The compiler makes vectors of a loop whose length it knows. */
		if (more == SD_CONVERT_RUN)
			decode_narrow(dtype, table, source + i * bits / 8, SD_CONVERT_RUN, values);
		else
			decode_narrow(dtype, table, source + i * bits / 8, more, values);
		count_loaded(SD_F32, sizeof(*values), (const uint8_t *)values, more, n);
	}
}

/* Elements of more than 8 bits; returns how many were counted, as count_bytes does. */
ALWAYS size_t count_floats(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count,
			   struct sd_statistics *s)
{
	struct narrow n = {.min = INFINITY + (floats){0}, .max = -INFINITY + (floats){0}};

	if (dtype == SD_BF16)
		count_loaded(SD_BF16, 2, source, count, &n);
#ifdef FLOATS_OF_F16
	else if (dtype == SD_F16)
		count_loaded(SD_F16, 2, source, count, &n);
#endif
	else if (dtype == SD_F32 || dtype == SD_C64)
		count_loaded(SD_F32, 4, source, count, &n);
	else
		count_decoded(dtype, table, source, count, &n);
	begin(s, &n.moments);
	for (size_t i = 0; i < LANES / 2; i++)
		add_extremes(s, n.min[i], n.max[i], n.zeros[i]);
	return count / LANES * LANES;
}

ALWAYS void count_narrow(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count,
			 struct sd_statistics *s)
{
	const size_t bits = dtype == SD_C64 ? 32 : sd_dtype_bits(dtype),
		     done = (has_bytes(dtype) ? count_bytes : count_floats)(dtype, table, source, count, s);
	float values[SD_CONVERT_RUN]; /* DECODE may write all of them */

	if (done == count)
		return;
	decode_narrow(dtype, table, source + done * bits / 8, count - done, values);
	for (size_t i = 0; i < count - done; i++)
		add_one(s, values[i]);
}

ALWAYS void count_wide(enum sd_dtype dtype, const uint8_t *source, size_t count, struct sd_statistics *s)
{
	const size_t size = sd_dtype_size(dtype), whole = count / LANES * LANES;
	struct wide w = {.min = INFINITY + (doubles){0}, .max = -INFINITY + (doubles){0}};
	double values[LANES];

	for (size_t i = 0; i < whole; i += LANES) {
		decode_wide(dtype, source + i * size, LANES, values);
		for (unsigned k = 0; k < 4; k++) {
			doubles v;

			memcpy(&v, values + 4 * k, sizeof(v));
			w.min = LESSER_WIDE(v, w.min);
			w.max = GREATER_WIDE(v, w.max);
			w.zeros += v == 0;
			w.moments.sum[k] += v;
			w.moments.squares[k] += v * v;
		}
	}
	begin(s, &w.moments);
	for (size_t i = 0; i < LANES / 4; i++)
		add_extremes(s, w.min[i], w.max[i], w.zeros[i]);
	decode_wide(dtype, source + whole * size, count - whole, values);
	for (size_t i = 0; i < count - whole; i++)
		add_one(s, values[i]);
}

void COUNT(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count, struct sd_statistics *s)
{
	if (is_wide(dtype))
		count_wide(dtype, source, count, s);
	else
		count_narrow(dtype, table, source, count, s);
}
