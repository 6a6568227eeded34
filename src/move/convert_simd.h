/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Casts of one instruction set that stay in registers, included once by each, which defines before:
 *     ISA                      the attribute that lets a function use it
 *     VECTOR, LO_8, HI_8       as for transpose_simd.h, which stands before
 *     bytes, words, floats     whole vectors of numbers of 8, 16 and 32 bits; half: half of words
 *     load_bytes               as many bytes as words has numbers, as words, with their sign
 *     load_spread              a vector in the order from which LO_8 and HI_8 give the first and the second half
 *     load_table, look_up      bytes by their numbers (of 4 bits) in a table of 16
 *     first, second            the halves of words
 *     any                      whether there is a bit in a vector
 *     any_nan                  whether there is a NaN in two
 *     floats_of_f16, f16_of_floats, floats_of_bf16, bf16_of_rounded
 *
 * A step works on as many elements as words has. What is rare takes the plain way: a step with a NaN in it, and the
 * last elements. So all others need not be looked at one by one, and nothing is decided twice. The conversions of F16
 * by the machine neither flush subnormals nor look at the rounding mode.
 */
#define STEP (sizeof(words) / 2)

static void cast_plainly(const struct sd_cast *cast, const uint8_t *source, size_t count, uint8_t *target)
{
	float values[SD_CONVERT_RUN];

	sd_decode_plain(cast->from, source, count, values);
	for (size_t i = 0; cast->by && i < count; i++)
		values[i] *= *cast->by;
	sd_encode_plain(cast->to, values, target, count);
}

/* BF16 in the upper half of each number, to the nearest, ties to even; no NaNs. */
ALWAYS floats rounded(floats value)
{
	typedef uint32_t integers __attribute__((vector_size(sizeof(floats))));
	integers bits = (integers)value;

	return (floats)(bits + 0x7fff + (bits >> 16 & 1));
}

/*
 * Both formats of 8 bits are F16 where they are shifted to: F8_E5M2 is its upper half, and F8_E4M3 an F16 that is 2^-8
 * of what it should be, subnormals and all, as its exponent is biased by 8 less. False where there is such a NaN.
 */
ALWAYS bool load(enum sd_dtype from, const uint8_t *at, floats value[2])
{
	half part[2];
	words all;

	if (from == SD_F32) {
		memcpy(&value[0], at, sizeof(floats));
		memcpy(&value[1], at + sizeof(floats), sizeof(floats));
		return true;
	}
	if (from == SD_BF16 || from == SD_F16) {
		memcpy(&part[0], at, sizeof(half));
		memcpy(&part[1], at + sizeof(half), sizeof(half));
	} else {
		all = load_bytes(at);
		all = from == SD_F8_E5M2 ? all << 8 : (all << 7 & 0xbfff);
		if (from == SD_F8_E4M3 && any((bytes)((all & 0x7fff) == 0x3f80)))
			return false;
		part[0] = first(all);
		part[1] = second(all);
	}
	value[0] = from == SD_BF16 ? floats_of_bf16(part[0]) : floats_of_f16(part[0]);
	value[1] = from == SD_BF16 ? floats_of_bf16(part[1]) : floats_of_f16(part[1]);
	return true;
}

ALWAYS void store(enum sd_dtype to, const floats value[2], uint8_t *at)
{
	words all;
	half part;

	if (to == SD_BF16) {
		all = bf16_of_rounded(rounded(value[0]), rounded(value[1]));
		memcpy(at, &all, sizeof(all));
	} else if (to == SD_F16) {
		part = f16_of_floats(value[0]);
		memcpy(at, &part, sizeof(part));
		part = f16_of_floats(value[1]);
		memcpy(at + sizeof(part), &part, sizeof(part));
	} else {
		memcpy(at, &value[0], sizeof(floats));
		memcpy(at + sizeof(floats), &value[1], sizeof(floats));
	}
}

/* Steps from element i on, as long as they are whole and without NaNs. Returns where the next one begins. */
ALWAYS size_t cast_steps(enum sd_dtype from, enum sd_dtype to, bool multiplied, float factor, const uint8_t *source,
			 size_t i, size_t count, uint8_t *target)
{
	const size_t from_size = from == SD_F32 ? 4 : from == SD_BF16 || from == SD_F16 ? 2 : 1;
	const size_t to_size = to == SD_F32 ? 4 : 2;

	for (; i + STEP <= count; i += STEP) {
		floats value[2];

		if (!load(from, source + i * from_size, value))
			break;
		if (multiplied) {
			value[0] *= factor;
			value[1] *= factor;
		}
		if (any_nan(value[0], value[1]))
			break;
		store(to, value, target + i * to_size);
	}
	return i;
}

ALWAYS bool cast_all(enum sd_dtype from, enum sd_dtype to, const struct sd_cast *cast, bool scaled,
		     const uint8_t *source, uint8_t *target)
{
	/* A product with a power of two is exact, unless it is too large. */
	const float bias = from == SD_F8_E4M3 ? 256 : 1;
	const float factor = scaled ? *cast->by * bias : bias;
	const bool fits = !scaled || factor / bias == *cast->by;

	for (size_t row = 0; row < cast->rows; row++, source += cast->source_step, target += cast->target_step)
		for (size_t i = 0, left; i < cast->count; i += left) {
			if (fits)
				i = cast_steps(from, to, scaled || from == SD_F8_E4M3, factor, source, i, cast->count,
					       target);
			left = cast->count - i < STEP ? cast->count - i : STEP;
			if (left > 0)
				cast_plainly(cast, source + i * sd_dtype_size(from), left,
					     target + i * sd_dtype_size(to));
		}
	return true;
}

/*
 * F8_E4M3 by one factor to BF16, twice as fast: the product of a mantissa (of 8) and the factor is rounded once, for a
 * table, and exponents are added to it; subnormals are 8 more entries. factor is such that all products are normal.
 */
ISA static void cast_e4m3_to_bf16(const struct sd_cast *cast, float factor, const uint8_t *source, uint8_t *target)
{
	/* Of exponent 7, and the subnormals. */
	static const float numbers[16] = {1, 1.125F,  1.25F,   1.375F,  1.5F,    1.625F,  1.75F,   1.875F,
					  0, 0x1p-9F, 0x2p-9F, 0x3p-9F, 0x4p-9F, 0x5p-9F, 0x6p-9F, 0x7p-9F};
	uint8_t low[16], high[16];
	bytes low_table, high_table;

	for (int i = 0; i < 16; i++) {
		uint16_t entry = sd_bf16_of_f32(sd_bits_of_float(numbers[i] * factor)) - (i < 8 ? 7 << 7 : 0);

		low[i] = (uint8_t)entry;
		high[i] = (uint8_t)(entry >> 8);
	}
	low_table = load_table(low);
	high_table = load_table(high);
	for (size_t row = 0; row < cast->rows; row++, source += cast->source_step, target += cast->target_step)
		for (size_t i = 0, left; i < cast->count; i += left) {
			for (; i + sizeof(bytes) <= cast->count; i += sizeof(bytes)) {
				bytes code = load_spread(source + i), exponent = code & 0x78;
				bytes number = (code & 7) | ((bytes)(exponent == 0) & 8), lower, upper;
				words part[2];

				if (any((bytes)((code | 0x80) == 0xff)))
					break;
				lower = look_up(low_table, number);
				upper = look_up(high_table, number) ^ (code & 0x80);
				part[0] = (words)LO_8((VECTOR)lower, (VECTOR)upper) +
					  ((words)LO_8((VECTOR){0}, (VECTOR)exponent) >> 4);
				part[1] = (words)HI_8((VECTOR)lower, (VECTOR)upper) +
					  ((words)HI_8((VECTOR){0}, (VECTOR)exponent) >> 4);
				memcpy(target + i * 2, &part[0], sizeof(words));
				memcpy(target + i * 2 + sizeof(words), &part[1], sizeof(words));
			}
			left = cast->count - i < sizeof(bytes) ? cast->count - i : sizeof(bytes);
			if (left > 0)
				cast_plainly(cast, source + i, left, target + i * 2);
		}
}

ALWAYS bool cast_from(enum sd_dtype from, const struct sd_cast *cast, const uint8_t *source, uint8_t *target)
{
#define TO(dtype)                                                                                                      \
	case dtype:                                                                                                    \
		return cast->by ? cast_all(from, dtype, cast, true, source, target)                                    \
				: cast_all(from, dtype, cast, false, source, target)
	switch (cast->to) {
		TO(SD_BF16);
		TO(SD_F16);
		TO(SD_F32);
	default:
		return false;
	}
}

ISA static bool cast_rows(const struct sd_cast *cast, const uint8_t *source, uint8_t *target)
{
	float factor = cast->by ? *cast->by : 1, size = factor < 0 ? -factor : factor;

	if (cast->from == SD_F8_E4M3 && cast->to == SD_BF16 && size > 0x1p-100F && size < 0x1p100F) {
		cast_e4m3_to_bf16(cast, factor, source, target);
		return true;
	}
#define FROM(dtype)                                                                                                    \
	case dtype:                                                                                                    \
		return cast_from(dtype, cast, source, target)
	switch (cast->from) {
		FROM(SD_F8_E4M3);
		FROM(SD_F8_E5M2);
		FROM(SD_BF16);
		FROM(SD_F16);
		FROM(SD_F32);
	default:
		return false;
	}
}
