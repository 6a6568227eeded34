/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inner loops for elements of 8 bits and less, a part of statistics_simd.h. Whole numbers are summed as such; so
 * are those of F4, which are halves of whole numbers. F6 become codes of F8 with as many bits of mantissa, whose
 * numbers are smaller by a power of two. Whoever includes it says TRIPLES(at), which makes 24 bytes of 28 that can be
 * read 8 numbers of 32 bits; and where the machine has such instructions LOOK_UP(table, indices), where the table is 16
 * bytes twice and 32 indices are below 16, FLOATS_OF_HALVES(h, half), of 8 F16 of 16, and HALVES_OF_BYTES(at).
 */

#define BYTES 32

typedef uint8_t bytes __attribute__((vector_size(BYTES)));
typedef int8_t signed_bytes __attribute__((vector_size(BYTES)));
typedef uint16_t halves __attribute__((vector_size(BYTES)));
typedef int16_t signed_halves __attribute__((vector_size(BYTES)));

_Static_assert(SD_STATISTICS_RUN / BYTES * 510 <= UINT16_MAX, "what a lane of 16 bits sums up in a run");
_Static_assert(SD_STATISTICS_RUN / BYTES <= UINT8_MAX, "how many zeros a lane of 8 bits counts in a run");

/* ---- whole numbers ---- */

/* Numbers of a byte: more by bias than they are. */
struct whole {
	bytes min, max, zeros;
	halves sum;
	pairs squares;
};

ALWAYS void add_whole(struct whole *w, const bytes *b, uint8_t bias)
{
	halves even = (halves)*b & 0xff, odd = (halves)*b >> 8, a = even * even, c = odd * odd;

	w->min = LESSER_BYTES(*b, w->min);
	w->max = GREATER_BYTES(*b, w->max);
	w->zeros -= (bytes)(*b == bias);
	w->sum += even + odd;
	w->squares += ((pairs)a & 0xffff) + ((pairs)a >> 16);
	w->squares += ((pairs)c & 0xffff) + ((pairs)c >> 16);
}

/* What was counted of so many numbers, each of which stands for so many units. */
ALWAYS void end_whole(struct sd_statistics *s, const struct whole *w, size_t count, int64_t bias, double unit)
{
	int64_t sum = 0, squares = 0, all = (int64_t)count;

	for (size_t i = 0; i < BYTES / 2; i++)
		sum += w->sum[i];
	for (size_t i = 0; i < BYTES / 4; i++)
		squares += w->squares[i];
	*s = (struct sd_statistics){.sum = (double)(sum - bias * all) * unit,
				    .m2 = (double)(squares - 2 * bias * sum + bias * bias * all) * unit * unit,
				    .min = INFINITY,
				    .max = -INFINITY};
	for (size_t i = 0; i < BYTES && count; i++)
		add_extremes(s, (double)(w->min[i] - bias) * unit, (double)(w->max[i] - bias) * unit, -w->zeros[i]);
}

/* U8 and I8; returns how many were counted. */
ALWAYS size_t count_whole(uint8_t bias, const uint8_t *source, size_t count, struct sd_statistics *s)
{
	struct whole w = {.min = (bytes){0} + 255};
	size_t i = 0;

	for (; i + BYTES <= count; i += BYTES) {
		bytes b;

		memcpy(&b, source + i, sizeof(b));
		b ^= bias;
		add_whole(&w, &b, bias);
	}
	end_whole(s, &w, i, bias, 1);
	return i;
}

/* Twice the numbers of E2M1, more by 12; once for each half of a vector. */
#define HALVES_OF_E2M1 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0

/* Makes indices what the table has there. */
ALWAYS void look_up(const bytes *table, bytes *indices)
{
#ifdef LOOK_UP
	*indices = LOOK_UP(*table, *indices);
#else
	for (unsigned i = 0; i < BYTES; i++)
		(*indices)[i] = (*table)[(*indices)[i]];
#endif
}

ALWAYS size_t count_f4(const uint8_t *source, size_t count, struct sd_statistics *s)
{
	const bytes table = {HALVES_OF_E2M1, HALVES_OF_E2M1};
	struct whole w = {.min = (bytes){0} + 255};
	size_t i = 0;

	for (; i + 2 * BYTES <= count; i += 2 * BYTES) {
		bytes b, low, high;

		memcpy(&b, source + i / 2, sizeof(b));
		low = b & 15;
		high = (bytes)((halves)b >> 4) & 15;
		look_up(&table, &low);
		look_up(&table, &high);
		add_whole(&w, &low, 12);
		add_whole(&w, &high, 12);
	}
	end_whole(s, &w, i, 12, 0.5);
	return i;
}

/* ---- F8 ---- */

/* Codes with a sign in the first bit: with all others turned over where they are negative, they are in the order of
 * their numbers. */
struct codes {
	signed_bytes min, max;
	bytes zeros, largest; /* largest: without the sign */
};

ALWAYS void add_codes(struct codes *k, const bytes *code)
{
	bytes size = *code & 0x7f;
	signed_bytes order = (signed_bytes)(*code ^ ((bytes)((signed_bytes)*code < 0) & 0x7f));

	k->min = LESSER_SIGNED(order, k->min);
	k->max = GREATER_SIGNED(order, k->max);
	k->largest = GREATER_BYTES(size, k->largest);
	k->zeros -= (bytes)(size == 0);
}

ALWAYS float number_of(const float *table, int8_t order)
{
	return table[(uint8_t)(order < 0 ? order ^ 0x7f : order)];
}

/* Extremes, and whether one of the codes is no number, which then shows in the sum. */
ALWAYS void end_codes(struct sd_statistics *s, const struct codes *k, const float *table)
{
	for (size_t i = 0; i < BYTES; i++) {
		add_extremes(s, number_of(table, k->min[i]), number_of(table, k->max[i]), -k->zeros[i]);
		if (!isfinite(table[k->largest[i]]))
			s->sum = NAN;
	}
}

/* How codes are read: E5M2 has 2 bits of mantissa, E4M3 has 3; they are numbers of so many units. */
struct reading {
	unsigned mantissa;
	double unit;
};

/* Codes of 6 bits as codes of F8: the first bit is the sign, the last 5 stay. Returns how many; the last ones are left.
 */
ALWAYS size_t spread_six(const uint8_t *source, size_t count, uint8_t codes[SD_STATISTICS_RUN])
{
	size_t i = 0;

	/* TRIPLES may read 4 bytes more. */
	for (; i + BYTES + 8 <= count; i += BYTES) {
		pairs p = TRIPLES(source + i / 4 * 3);

		p = (p & 0x3f) | (p << 2 & 0x3f00) | (p << 4 & 0x3f0000) | (p << 6 & 0x3f000000);
		p = (p & 0x1f1f1f1f) | (p & 0x20202020) << 2;
		memcpy(codes + i, &p, sizeof(p));
	}
	return i;
}

/* 16 codes as numbers in units of their own, or as the table has them. */
ALWAYS void load_codes(const struct reading *how, const float *table, const uint8_t *source, floats v[2])
{
#ifdef FLOATS_OF_HALVES
	halves h = HALVES_OF_BYTES(source) << 8;

	(void)table;
	if (how->mantissa == 3)
		h = (halves)((signed_halves)h >> 1) & 0xbfff;
	v[0] = FLOATS_OF_HALVES(h, 0);
	v[1] = FLOATS_OF_HALVES(h, 1);
#else
	(void)how;
	for (unsigned i = 0; i < LANES; i++)
		v[i / 8][i % 8] = table[source[i]];
#endif
}

ALWAYS void add_all_codes(const float *table, const uint8_t *source, size_t count, struct sd_statistics *s)
{
	struct codes k = {.min = (signed_bytes){0} + 127, .max = (signed_bytes){0} - 127 - 1};

	for (size_t i = 0; i < count; i += BYTES) {
		bytes code;

		memcpy(&code, source + i, sizeof(code));
		add_codes(&k, &code);
	}
	if (count)
		end_codes(s, &k, table);
}

ALWAYS size_t count_f8(struct reading how, const float *table, const uint8_t *source, size_t count,
		       struct sd_statistics *s)
{
	const size_t done = count / BYTES * BYTES;
	struct moments m = {0};

	for (size_t i = 0; i < done; i += LANES) {
		floats v[2];

		load_codes(&how, table, source + i, v);
		add_moments(&m, 0, &v[0]);
		add_moments(&m, 1, &v[1]);
	}
	begin(s, &m);
#ifdef FLOATS_OF_HALVES
	s->sum *= how.unit;
	s->m2 *= how.unit * how.unit;
#endif
	add_all_codes(table, source, done, s);
	return done;
}

ALWAYS size_t count_f6(struct reading how, const float *table, const uint8_t *source, size_t count,
		       struct sd_statistics *s)
{
	uint8_t codes[SD_STATISTICS_RUN];

	return count_f8(how, table, codes, spread_six(source, count, codes), s);
}

/* ---- all ---- */

ALWAYS bool has_bytes(enum sd_dtype dtype)
{
	return dtype == SD_U8 || dtype == SD_I8 || dtype == SD_F4 || dtype == SD_F6_E2M3 || dtype == SD_F6_E3M2 ||
	       dtype == SD_F8_E4M3 || dtype == SD_F8_E5M2;
}

/* Elements of one of these; returns how many were counted: the last ones are left. */
ALWAYS size_t count_bytes(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count,
			  struct sd_statistics *s)
{
	switch (dtype) {
	case SD_U8:
		return count_whole(0, source, count, s);
	case SD_I8:
		return count_whole(128, source, count, s);
	case SD_F4:
		return count_f4(source, count, s);
	case SD_F6_E2M3:
		return count_f6((struct reading){3, 0x1p14}, table, source, count, s);
	case SD_F6_E3M2:
		return count_f6((struct reading){2, 0x1p12}, table, source, count, s);
	case SD_F8_E4M3:
		return count_f8((struct reading){3, 0x1p8}, table, source, count, s);
	default:
		return count_f8((struct reading){2, 1}, table, source, count, s);
	}
}
