/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Casts of one instruction set that stay in registers, included once by each, which defines before:
 *     ISA                      the attribute that lets a function use it
 *     VECTOR, LO_n, HI_n, put  as in transpose_simd.h, which stands before
 *     bytes, words, floats     whole vectors of numbers of 8, 16 and 32 bits
 *     spread                   a vector in the order from which LO_n and HI_n give the first and the second half
 *     widen                    half a vector of bytes, as words
 *     load_table, look_up      bytes by their last 4 bits in a table of 16; the first bit is zero
 *     mask, below, choose      where bytes, with signs, are below others; and of two vectors, the first one there
 *     any_above                whether one of the words, with signs, is above a number
 *     quiet                    floats, with every NaN made the one quiet NaN
 *     floats_of_f16, f16_of_floats, bf16_of_rounded
 *     READY                    a sd_cast_ready for what is not here
 *
 * All elements are worked on alike: to choose costs less than to look. The conversions of F16 by the machine neither
 * flush subnormals nor look at the rounding mode.
 */

/* How a cast is done: F8 and codes are always looked up as BF16 in tables, which may be multiplied already. */
enum way { AS_IT_IS, SCALED, BY_TABLE, BY_BRAIN, BY_POWER };

ALWAYS void floats_of_bf16(words all, floats value[2])
{
	VECTOR ordered = spread((VECTOR)all);

	value[0] = (floats)LO_16((VECTOR){0}, ordered);
	value[1] = (floats)HI_16((VECTOR){0}, ordered);
}

/* BF16 in the upper half of each number, to the nearest, ties to even; no NaNs but the quiet one. */
ALWAYS floats rounded(floats value)
{
	typedef uint32_t integers __attribute__((vector_size(sizeof(floats))));
	integers bits = (integers)value;

	return (floats)(bits + 0x7fff + (bits >> 16 & 1));
}

/* As many elements as words has. */
ALWAYS void store(enum sd_dtype to, const floats value[2], uint8_t *at, bool streaming)
{
	floats low = quiet(value[0]), high = quiet(value[1]);

	if (to == SD_BF16) {
		put(at, (VECTOR)bf16_of_rounded(rounded(low), rounded(high)), streaming);
	} else if (to == SD_F16) {
		put(at, (VECTOR)f16_of_floats(low, high), streaming);
	} else {
		put(at, (VECTOR)low, streaming);
		put(at + sizeof(floats), (VECTOR)high, streaming);
	}
}

/* Factors, floats or, BY_BRAIN and BY_POWER, of 16 bits: element number i of a row has the one at i >> shared. */
struct by {
	const uint8_t *at;
	size_t shared;
};
#define BY_ALL (8 * sizeof(size_t) - 1) /* shared: one for all */

/* For as many elements as words has, from number i on. */
ALWAYS void load_floats(struct by by, size_t i, floats factor[2])
{
	const uint8_t *at = by.at + (i >> by.shared) * sizeof(float);
	float one;

	if (by.shared == 0) {
		memcpy(&factor[0], at, sizeof(floats));
		memcpy(&factor[1], at + sizeof(floats), sizeof(floats));
	} else {
		memcpy(&one, at, sizeof(one));
		factor[0] = factor[1] = one - (floats){0}; /* not +: of a zero, it would lose the sign */
	}
}

ALWAYS words load_words(struct by by, size_t i)
{
	const uint8_t *at = by.at + (i >> by.shared) * sizeof(uint16_t);
	uint16_t one;
	words all;

	if (by.shared == 0) {
		memcpy(&all, at, sizeof(all));
	} else {
		memcpy(&one, at, sizeof(one));
		all = (words){0} + one;
	}
	return all;
}

/* Elements from number i on. */
ALWAYS void finish(enum sd_dtype to, enum way way, struct by by, size_t i, floats value[2], uint8_t *target,
		   bool streaming)
{
	floats factor[2];

	if (way == SCALED) {
		load_floats(by, i, factor);
		value[0] *= factor[0];
		value[1] *= factor[1];
	}
	store(to, value, target, streaming);
}

/*
 * F16 to BF16, three bits of the mantissa rounded off in place, in a third of the time that it takes by way of floats;
 * for normal numbers only. False if there is another: of weights one in hundreds, a vector in tens.
 */
ALWAYS bool f16_to_bf16(words all, VECTOR *out)
{
	words magnitude = all & 0x7fff;
	words rest = ((magnitude + 3 + (magnitude >> 3 & 1)) >> 3) + (112 << 7);

	*out = (VECTOR)(rest | (all ^ magnitude));
	return !any_above(magnitude + 0x7c00, (int16_t)0xf7ff);
}

/* As many elements as words has. */
ALWAYS void step(enum sd_dtype from, enum sd_dtype to, enum way way, struct by by, size_t i, const uint8_t *source,
		 uint8_t *target, bool streaming)
{
	floats value[2];
	VECTOR out;
	words all;

	memcpy(&all, source, sizeof(all));
	if (from == SD_F16 && to == SD_BF16 && way == AS_IT_IS && __builtin_expect(f16_to_bf16(all, &out), 1)) {
		put(target, out, streaming);
		return;
	}
	if (from == SD_F32) {
		memcpy(&value[0], source, sizeof(floats));
		memcpy(&value[1], source + sizeof(floats), sizeof(floats));
	} else if (from == SD_F16) {
		floats_of_f16(all, value);
	} else {
		floats_of_bf16(all, value);
	}
	finish(to, way, by, i, value, target, streaming);
}

/*
 * A format of 8 bits as BF16, twice as many. Of what is not special, all that have the last 4 bits in common give the
 * same but for their exponents, to which the first 3 bits (without the sign) are added; so two tables of 16 hold all,
 * one of them for subnormals, infinities and NaNs.
 */
ALWAYS void f8_to_bf16(enum sd_dtype from, const bytes table[4], const uint8_t *source, words out[2])
{
	/* How many codes are special, counted from the least, and from the largest; and the least NaN. */
	const uint8_t few = from == SD_F8_E4M3 ? 8 : 4, many = from == SD_F8_E4M3 ? 1 : 4;
	const uint8_t nan = from == SD_F8_E4M3 ? 0x7f : 0x7d;
	VECTOR code;
	bytes size, exponent, low, high;
	mask special;

	memcpy(&code, source, sizeof(code));
	code = spread(code);
	size = (bytes)code & 0x7f;
	exponent = (bytes)((words)(size & 0x70) >> (from == SD_F8_E4M3 ? 4 : 3));
	special = below(((bytes)code + many) & 0x7f, (bytes){0} + (uint8_t)(few + many));
	low = choose(special, look_up(table[2], size), look_up(table[0], size));
	high = choose(special, look_up(table[3], size), look_up(table[1], size) + exponent);
	high ^= choose(below(size, (bytes){0} + nan), (bytes)code & 0x80, (bytes){0});
	out[0] = (words)LO_8((VECTOR)low, (VECTOR)high);
	out[1] = (words)HI_8((VECTOR)low, (VECTOR)high);
}

/* Which codes a step takes: all of a row of bytes, or the one half of each. */
enum part { BOTH, FIRST, SECOND };

/* Codes, each of them in the two tables, as BF16, twice as many as words has. */
ALWAYS void codes_to_bf16(enum part part, const bytes table[4], const uint8_t *source, words out[2])
{
	bytes low, high, code;
	words all;

	if (part == BOTH) {
		all = widen(source);
		code = (bytes)((all | all << 4) & 0x0f0f);
	} else {
		memcpy(&all, source, sizeof(all));
		code = (bytes)((part == FIRST ? all : all >> 4) & 0x0f0f);
	}
	code = (bytes)spread((VECTOR)code);
	low = look_up(table[0], code);
	high = look_up(table[1], code);
	out[0] = (words)LO_8((VECTOR)low, (VECTOR)high);
	out[1] = (words)HI_8((VECTOR)low, (VECTOR)high);
}

typedef uint32_t twos __attribute__((vector_size(sizeof(words))));

/* BF16 times BF16, which cannot be a NaN but where the first one is; every other number at a time, so that nothing has
 * to change its place. */
ALWAYS words multiply(words all, words by)
{
	const twos upper = (twos){0} + 0xffff0000;
	twos even = (twos)rounded((floats)((twos)all << 16) * (floats)((twos)by << 16));
	twos odd = (twos)rounded((floats)((twos)all & upper) * (floats)((twos)by & upper));

	return (words)(even >> 16 | (odd & upper));
}

/* BF16 times powers of two; zeros, infinities and NaNs stay what they are. */
ALWAYS words raise(words all, words power)
{
	typedef int16_t numbers __attribute__((vector_size(sizeof(words))));
	numbers size = (numbers)((all & 0x7fff) + 0x80);

	return all + (power & (words)(size > 0x80));
}

/* Elements from number i on. */
ALWAYS void small_step(enum sd_dtype from, enum part part, enum sd_dtype to, enum way way, const bytes table[4],
		       struct by by, size_t i, const uint8_t *source, uint8_t *target, bool streaming)
{
	words all[2];

	if (sd_is_code(from))
		codes_to_bf16(part, table, source, all);
	else
		f8_to_bf16(from, table, source, all);
	_Pragma("GCC unroll 2") for (size_t half = 0; half < 2; half++, i += sizeof(words) / 2)
	{
		uint8_t *at = target + half * (sizeof(words) / 2) * (to == SD_F32 ? 4 : 2);
		floats value[2];

		if (way == BY_TABLE) {
			put(at, (VECTOR)all[half], streaming);
		} else if (way == BY_BRAIN) {
			put(at, (VECTOR)multiply(all[half], load_words(by, i)), streaming);
		} else if (way == BY_POWER) {
			put(at, (VECTOR)raise(all[half], load_words(by, i)), streaming);
		} else {
			floats_of_bf16(all[half], value);
			finish(to, way, by, i, value, at, streaming);
		}
	}
}

ALWAYS void cast_row(enum sd_dtype from, enum part part, enum sd_dtype to, enum way way, const bytes table[4],
		     struct by by, const uint8_t *source, uint8_t *target, size_t count, bool streaming)
{
	const size_t from_size = from == SD_F32 ? 4 : from == SD_BF16 || from == SD_F16 ? 2 : 1;
	const size_t to_size = to == SD_F32 ? 4 : 2, most = from_size == 1 ? sizeof(bytes) : sizeof(words) / 2;
	const size_t by_size = way == SCALED ? sizeof(float) : sizeof(uint16_t);
	const size_t halved = sd_is_code(from) && part == BOTH; /* log2 of the elements of a byte */
	uint8_t in[sizeof(floats) * 2], out[sizeof(floats) * 4], last[sizeof(bytes) * sizeof(float)];
	size_t i = 0, left;

#define DO(i, source, target, streaming)                                                                               \
	from_size == 1 ? small_step(from, part, to, way, table, by, i, source, target, streaming)                      \
		       : step(from, to, way, by, i, source, target, streaming)
	for (; i + most <= count; i += most)
		DO(i, source + (i * from_size >> halved), target + i * to_size, streaming);
	left = count - i;
	if (left == 0)
		return;
	memset(in, 0, sizeof(in));
	memcpy(in, source + (i * from_size >> halved), (left * from_size + halved) >> halved);
	if ((way == SCALED || way == BY_BRAIN || way == BY_POWER) && by.shared == 0) {
		memset(last, 0, sizeof(last));
		memcpy(last, by.at + i * by_size, left * by_size);
		by.at = last;
	}
	target += i * to_size;
	DO(by.at == last ? 0 : i, in, out, false);
	memcpy(target, out, left * to_size);
}

/* With its tables in registers. */
ALWAYS void cast_all(enum sd_dtype from, enum sd_dtype to, enum way way, const struct sd_cast *cast,
		     const uint8_t *source, uint8_t *target, struct by by, bool streaming)
{
	const size_t source_step = cast->source_step, target_step = cast->target_step, count = cast->count;
	const bytes table[4] = {load_table(cast->table[0]), load_table(cast->table[1]), load_table(cast->table[2]),
				load_table(cast->table[3])};
	const bool pairs = sd_is_code(from) && cast->pairs;

	for (size_t left = cast->rows; left > 0; left--, source += source_step, target += target_step) {
		if (!pairs) {
			cast_row(from, BOTH, to, way, table, by, source, target, count, streaming);
			continue;
		}
		cast_row(from, FIRST, to, way, table, by, source, target, count, streaming);
		target += target_step;
		cast_row(from, SECOND, to, way, table, by, source, target, count, streaming);
	}
}

ALWAYS void cast_rows(enum sd_dtype from, enum sd_dtype to, enum way way, const struct sd_cast *cast,
		      const uint8_t *source, uint8_t *target)
{
	struct by by = {(const uint8_t *)&cast->by, BY_ALL};

	if (way == BY_BRAIN || way == BY_POWER || (way == SCALED && cast->each))
		by = (struct by){cast->each, cast->shared};
	if (cast->streaming)
		cast_all(from, to, way, cast, source, target, by, true);
	else
		cast_all(from, to, way, cast, source, target, by, false);
}

/* A function for each. */
#define CAST(from, to, way)                                                                                            \
	ISA static void cast_##from##_##to##_##way(const struct sd_cast *cast, const uint8_t *source, uint8_t *target) \
	{                                                                                                              \
		cast_rows((enum sd_dtype)SD_##from, SD_##to, way, cast, source, target);                               \
	}
#define CASTS_TO(from, to)                                                                                             \
	CAST(from, to, AS_IT_IS)                                                                                       \
	CAST(from, to, SCALED)
#define CASTS(from)                                                                                                    \
	CASTS_TO(from, F16)                                                                                            \
	CASTS_TO(from, F32)                                                                                            \
	CASTS_TO(from, BF16)
CASTS(E2M1) /* and all other codes */
CASTS(F8_E4M3)
CASTS(F8_E5M2)
CASTS(BF16)
CASTS(F16)
CASTS(F32)
CAST(F8_E4M3, BF16, BY_TABLE)
CAST(F8_E5M2, BF16, BY_TABLE)
CAST(F8_E4M3, BF16, BY_POWER)
CAST(F8_E5M2, BF16, BY_POWER)
CAST(E2M1, BF16, BY_POWER)
CAST(F8_E4M3, BF16, BY_BRAIN)
CAST(E2M1, BF16, BY_BRAIN)

typedef void cast_go(const struct sd_cast *cast, const uint8_t *source, uint8_t *target);

static cast_go *pick_cast(enum sd_dtype from, enum sd_dtype to, bool scaled)
{
#define IF_TO(f, t)                                                                                                    \
	if (from == (enum sd_dtype)SD_##f && to == SD_##t)                                                             \
	return scaled ? cast_##f##_##t##_SCALED : cast_##f##_##t##_AS_IT_IS
#define IF(f)                                                                                                          \
	IF_TO(f, BF16);                                                                                                \
	IF_TO(f, F16);                                                                                                 \
	IF_TO(f, F32)
	IF(E2M1);
	IF(F8_E4M3);
	IF(F8_E5M2);
	IF(BF16);
	IF(F16);
	IF(F32);
	return NULL;
}

/* What f8_to_bf16 looks up, multiplied. */
ISA static void make_tables(struct sd_cast *cast, float by)
{
	/* BF16 of codes 0x40 to 0x4f, which are normal in both formats; and of the special ones by their last 4 bits.
	 */
	static const uint16_t e4m3[32] = {0x4000, 0x4010, 0x4020, 0x4030, 0x4040, 0x4050, 0x4060, 0x4070,
					  0x4080, 0x4090, 0x40a0, 0x40b0, 0x40c0, 0x40d0, 0x40e0, 0x40f0,
					  0,      0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60,
					  0,      0,      0,      0,      0,      0,      0,      0x7fc0};
	static const uint16_t e5m2[32] = {0x4000, 0x4020, 0x4040, 0x4060, 0x4080, 0x40a0, 0x40c0, 0x40e0,
					  0x4100, 0x4120, 0x4140, 0x4160, 0x4180, 0x41a0, 0x41c0, 0x41e0,
					  0,      0x3780, 0x3800, 0x3840, 0,      0,      0,      0,
					  0,      0,      0,      0,      0x7f80, 0x7fc0, 0x7fc0, 0x7fc0};
	const uint16_t *number = cast->from == SD_F8_E4M3 ? e4m3 : e5m2;
	const uint8_t exponent = cast->from == SD_F8_E4M3 ? 4 : 8;
	uint16_t entry[32];
	const struct by all = {(const uint8_t *)&by, BY_ALL};

	for (size_t i = 0; i < 32; i += sizeof(words) / 2)
		step(SD_BF16, SD_BF16, SCALED, all, i, (const uint8_t *)&number[i], (uint8_t *)&entry[i], false);
	for (int i = 0; i < 16; i++) {
		cast->table[0][i] = (uint8_t)entry[i];
		cast->table[1][i] = (uint8_t)((entry[i] >> 8) - exponent);
		cast->table[2][i] = (uint8_t)entry[i + 16];
		cast->table[3][i] = (uint8_t)(entry[i + 16] >> 8);
	}
}

/* Products with a factor of this size are all normal numbers, so that they are rounded alike. */
static bool rounds_alike(float by)
{
	float size = by < 0 ? -by : by;

	return size > 0x1p-100F && size < 0x1p100F;
}

static void make_code_tables(struct sd_cast *cast)
{
	for (uint32_t i = 0; i < 16; i++) {
		uint32_t bits = sd_f32_of_code((uint8_t)cast->from, i);

		cast->table[0][i] = (uint8_t)(bits >> 16);
		cast->table[1][i] = (uint8_t)(bits >> 24);
	}
}

/* With factors of 16 bits; NULL: there is none. */
static cast_go *pick_factors(const struct sd_cast *cast, bool codes)
{
	if (cast->to != SD_BF16)
		return NULL;
	if (cast->factors == SD_BRAINS) /* (infinity, which F8_E5M2 has, times zero were a NaN) */
		return codes ? cast_E2M1_BF16_BY_BRAIN : cast->from == SD_F8_E4M3 ? cast_F8_E4M3_BF16_BY_BRAIN : NULL;
	return codes                      ? cast_E2M1_BF16_BY_POWER
	       : cast->from == SD_F8_E4M3 ? cast_F8_E4M3_BF16_BY_POWER
	       : cast->from == SD_F8_E5M2 ? cast_F8_E5M2_BF16_BY_POWER
					  : NULL;
}

static bool ready(struct sd_cast *cast)
{
	const bool e4m3 = cast->from == SD_F8_E4M3, f8 = e4m3 || cast->from == SD_F8_E5M2;
	const bool codes = sd_is_code((uint8_t)cast->from);
	const bool multiplied = f8 && cast->to == SD_BF16 && cast->often && (!cast->scaled || rounds_alike(cast->by));

	cast->go = cast->factors != SD_FLOATS
			   ? pick_factors(cast, codes)
			   : pick_cast(codes ? (enum sd_dtype)SD_E2M1 : cast->from, cast->to, cast->scaled);
	if (!cast->go)
		return READY(cast);
	if (codes)
		make_code_tables(cast);
	if (f8)
		make_tables(cast, multiplied && cast->scaled ? cast->by : 1);
	if (multiplied)
		cast->go = e4m3 ? cast_F8_E4M3_BF16_BY_TABLE : cast_F8_E5M2_BF16_BY_TABLE;
	return true;
}
