/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Casts of one instruction set that stay in registers, included once by each, which defines before:
 *     ISA                     the attribute that lets a function use it
 *     floats, words, half     vectors of as many numbers of 32 bits, of twice as many of 16, and half of the latter
 *     load_*, store_*         at any address; load_bytes gives words, with the sign of the bytes
 *     first, second           the halves of words
 *     floats_of_f16, floats_of_bf16, f16_of_floats, bf16_of_floats, any_nan, has_word, shifted, masked
 *
 * A step works on as many elements as words has. What is rare takes the plain way: a step with a NaN in it, and the
 * last elements. So all others need not be looked at one by one, and nothing is decided twice. The conversions of F16
 * by the machine neither flush subnormals nor look at the rounding mode.
 */
#define STEP (sizeof(words) / 2)
#define ALWAYS ISA static inline __attribute__((always_inline))

static void cast_plainly(const struct sd_cast *cast, const uint8_t *source, size_t count, uint8_t *target)
{
	float values[SD_CONVERT_RUN];

	sd_decode_plain(cast->from, source, count, values);
	for (size_t i = 0; cast->by && i < count; i++)
		values[i] *= *cast->by;
	sd_encode_plain(cast->to, values, target, count);
}

/*
 * Both formats of 8 bits are F16 where they are shifted to: F8_E5M2 is its upper half, and F8_E4M3 an F16 that is 2^-8
 * of what it should be, subnormals and all, as its exponent is biased by 8 less. False where there is a NaN.
 */
ALWAYS bool load(enum sd_dtype from, const uint8_t *at, floats value[2])
{
	words all;

	if (from == SD_F32) {
		value[0] = load_floats(at);
		value[1] = load_floats(at + sizeof(floats));
		return true;
	}
	all = from == SD_BF16 || from == SD_F16 ? load_words(at) : load_bytes(at);
	if (from == SD_F8_E5M2)
		all = shifted(all, 8);
	if (from == SD_F8_E4M3) {
		all = masked(shifted(all, 7), 0xbfff);
		if (has_word(masked(all, 0x7fff), 0x3f80))
			return false;
	}
	value[0] = from == SD_BF16 ? floats_of_bf16(first(all)) : floats_of_f16(first(all));
	value[1] = from == SD_BF16 ? floats_of_bf16(second(all)) : floats_of_f16(second(all));
	return true;
}

ALWAYS bool store(enum sd_dtype to, const floats value[2], uint8_t *at)
{
	if (any_nan(value[0], value[1]))
		return false;
	if (to == SD_BF16) {
		store_words(at, bf16_of_floats(value[0], value[1]));
	} else if (to == SD_F16) {
		store_half(at, f16_of_floats(value[0]));
		store_half(at + sizeof(half), f16_of_floats(value[1]));
	} else {
		store_floats(at, value[0]);
		store_floats(at + sizeof(floats), value[1]);
	}
	return true;
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
		if (!store(to, value, target + i * to_size))
			break;
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
