/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inner loops for elements of 8 bits and less, a part of statistics_simd.h. Whole numbers are summed as such; so
 * are those of F4, which are halves of whole numbers. F6 become codes of F8 with as many bits of mantissa, whose
 * numbers are smaller by a power of two. Whoever includes it says TRIPLES(at), which makes 24 bytes 8 numbers of 32
 * bits; and where the machine has such instructions LOOK_UP(table, indices), where the table is 16 bytes twice and 32
 * indices are below 16, FLOATS_OF_HALVES(h, half), of 8 F16 of 16, HALVES_OF_BYTES(at), and SUMS_OF_PRODUCTS(a, b), of
 * 4 bytes without a sign and 4 with one in each of 8 lanes.
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

/* How codes are read: bits of mantissa and exponent. */
struct reading {
	unsigned mantissa, exponents;
};

/* Codes with a sign in the first bit: with all others turned over where they are negative, they are in the order of
 * their numbers. */
struct codes {
	signed_bytes min, max;
	bytes zeros, largest; /* largest: without the sign */
};

ALWAYS void add_codes(const struct reading *how, const bytes *code, struct codes *k)
{
	bytes size = *code & 0x7f;
	signed_bytes order = (signed_bytes)(*code ^ ((bytes)((signed_bytes)*code < 0) & 0x7f));

	k->min = LESSER_SIGNED(order, k->min);
	k->max = GREATER_SIGNED(order, k->max);
	/* All codes of 6 bits are numbers. */
	if (how->mantissa + how->exponents == 7)
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
	int8_t min = k->min[0], max = k->max[0];
	uint8_t largest = 0;
	int64_t zeros = 0;

	for (size_t i = 0; i < BYTES; i++) {
		min = k->min[i] < min ? k->min[i] : min;
		max = k->max[i] > max ? k->max[i] : max;
		largest = k->largest[i] > largest ? k->largest[i] : largest;
		zeros += k->zeros[i];
	}
	add_extremes(s, number_of(table, min), number_of(table, max), -zeros);
	if (!isfinite(table[largest]))
		s->sum = NAN;
}

/* Codes from one on, as codes of F8: the first bit is the sign. Of codes of 6 bits the last 5 stay. */
ALWAYS void load_bytes(const struct reading *how, const uint8_t *source, size_t i, bytes *code)
{
	pairs p;

	if (how->mantissa + how->exponents == 7) {
		memcpy(code, source + i, sizeof(*code));
		return;
	}
	p = TRIPLES(source + i / 4 * 3);
	p = (p & 0xfff) | (p << 4 & 0xfff0000);
	p = (p & 0x3f003f) | (p << 2 & 0x3f003f00);
	*code = (((bytes)p + 0x60) ^ 0x60) & 0x9f;
}

#ifdef SUMS_OF_PRODUCTS

/*
 * Codes with few exponents are summed as whole numbers: a mantissa m, with its first bit, times 2^e. 8 of the exponents
 * make a byte of 2^e; 4 of them, one of 4^e, for squares. Sums are exact, as they are in F64: the bits are the same.
 */
struct whole_codes {
	marks sum_0, sum_8, squares_0, squares_4, squares_8, squares_12;
};

#define TWICE(...)                                                                                                     \
	{                                                                                                              \
		__VA_ARGS__, __VA_ARGS__                                                                               \
	}

/* By the exponent, the powers of 2 and of 4, each from another one on; by the mantissa, its square. */
static const bytes powers_of_2[2] = {TWICE(1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0),
				     TWICE(0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128)};
static const bytes powers_of_4[4] = {TWICE(1, 4, 16, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
				     TWICE(0, 0, 0, 0, 1, 4, 16, 64, 0, 0, 0, 0, 0, 0, 0, 0),
				     TWICE(0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 16, 64, 0, 0, 0, 0),
				     TWICE(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 16, 64)};
static const bytes squares_of_numbers = TWICE(0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144, 169, 196, 225);

/* Codes without an exponent have that of 1, but not the first bit. */
ALWAYS void add_whole_codes(const struct reading *how, const bytes *code, struct whole_codes *w)
{
	const uint8_t first = (uint8_t)(1U << how->mantissa), most = (uint8_t)((1U << how->exponents) - 1);
	const bytes e = (bytes)((halves)*code >> how->mantissa) & most, is_normal = (bytes)(e != 0);
	const bytes m = (*code & (uint8_t)(first - 1)) | (is_normal & first), by = e + is_normal;
	const bytes minus = (bytes)((signed_bytes)*code < 0);
	const bytes number = (m ^ minus) - minus, square = LOOK_UP(squares_of_numbers, m);

	w->sum_0 += SUMS_OF_PRODUCTS(LOOK_UP(powers_of_2[0], by), number);
	w->squares_0 += SUMS_OF_PRODUCTS(square, LOOK_UP(powers_of_4[0], by));
	if (how->exponents > 2)
		w->squares_4 += SUMS_OF_PRODUCTS(square, LOOK_UP(powers_of_4[1], by));
	if (how->exponents > 3) {
		w->sum_8 += SUMS_OF_PRODUCTS(LOOK_UP(powers_of_2[1], by), number);
		w->squares_8 += SUMS_OF_PRODUCTS(square, LOOK_UP(powers_of_4[2], by));
		w->squares_12 += SUMS_OF_PRODUCTS(square, LOOK_UP(powers_of_4[3], by));
	}
}

ALWAYS void count_products(const struct reading *how, const float *table, const uint8_t *source, size_t count,
			   struct codes *k, struct sd_statistics *s)
{
	const double unit = table[1];
	struct whole_codes w = {0};

	*s = (struct sd_statistics){.min = INFINITY, .max = -INFINITY};
	for (size_t i = 0; i < count; i += BYTES) {
		bytes code;

		load_bytes(how, source, i, &code);
		add_whole_codes(how, &code, &w);
		add_codes(how, &code, k);
	}
	for (unsigned i = 0; i < BYTES / 4; i++) {
		s->sum += w.sum_0[i] + 0x1p8 * w.sum_8[i];
		s->m2 += w.squares_0[i] + 0x1p8 * w.squares_4[i] + 0x1p16 * w.squares_8[i] + 0x1p24 * w.squares_12[i];
	}
	s->sum *= unit;
	s->m2 *= unit * unit;
}

#endif

/* LANES codes as numbers. With instructions for them, only E5M2 is read so, which F16 begins with. */
ALWAYS void load_codes(const float *table, const uint8_t *source, floats v[2])
{
#ifdef FLOATS_OF_HALVES
	halves h = HALVES_OF_BYTES(source) << 8;

	(void)table;
	v[0] = FLOATS_OF_HALVES(h, 0);
	v[1] = FLOATS_OF_HALVES(h, 1);
#else
	for (unsigned i = 0; i < LANES; i++)
		v[i / 8][i % 8] = table[source[i]];
#endif
}

/* BYTES of them. */
ALWAYS void add_code_moments(const float *table, const uint8_t *codes, struct moments *m)
{
	for (unsigned i = 0; i < BYTES; i += LANES) {
		floats v[2];

		load_codes(table, codes + i, v);
		add_moments(m, 0, &v[0]);
		add_moments(m, 1, &v[1]);
	}
}

/* Of how many codes: whole vectors. Extremes and zeros are looked at as well. */
ALWAYS void count_vectors(const struct reading *how, const float *table, const uint8_t *source, size_t count,
			  struct codes *k, struct sd_statistics *s)
{
	struct moments m = {0};

	for (size_t i = 0; i < count; i += BYTES) {
		bytes code;

		load_bytes(how, source, i, &code);
		add_code_moments(table, how->exponents == 5 ? source + i : (const uint8_t *)&code, &m);
		add_codes(how, &code, k);
	}
	begin(s, &m);
}

ALWAYS size_t count_coded(struct reading how, const float *table, const uint8_t *source, size_t count,
			  struct sd_statistics *s)
{
	struct codes k = {.min = (signed_bytes){0} + 127, .max = (signed_bytes){0} - 127 - 1};
	const size_t done = count / BYTES * BYTES;

#ifdef SUMS_OF_PRODUCTS
	if (how.exponents < 5)
		count_products(&how, table, source, done, &k, s);
	else
#endif
		count_vectors(&how, table, source, done, &k, s);
	if (done)
		end_codes(s, &k, table);
	return done;
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
		return count_coded((struct reading){3, 2}, table, source, count, s);
	case SD_F6_E3M2:
		return count_coded((struct reading){2, 3}, table, source, count, s);
	case SD_F8_E4M3:
		return count_coded((struct reading){3, 4}, table, source, count, s);
	default:
		return count_coded((struct reading){2, 5}, table, source, count, s);
	}
}
