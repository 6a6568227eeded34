/* SPDX-License-Identifier: Apache-2.0 */
/* Every cast, of every element where there are few enough, against the exact value rounded slowly. */
#include "move/kernels.h"
#include "move/transpose.h"
#include "exact.h"

#include <criterion/criterion.h>
#include <inttypes.h>

static const enum sd_dtype makes[] = {SD_BF16, SD_F16, SD_F32, SD_F64};
#define MAKES (sizeof(makes) / sizeof(*makes))

/* Elements collected, to be cast by every converter as a run. */
struct run {
	enum sd_dtype from;
	size_t count;
	uint8_t data[SD_CONVERT_RUN * 8];
};

static void check_one(const char *who, enum sd_dtype from, enum sd_dtype to, uint64_t bits, uint64_t got)
{
	uint64_t want = exact_cast(from, to, bits, NULL);

	if (got != want)
		cr_assert_fail("%s: %s %#" PRIx64 " to %s: %#" PRIx64 ", not %#" PRIx64, who, sd_dtype_name(from), bits,
			       sd_dtype_name(to), got, want);
}

static uint64_t element(const uint8_t *data, unsigned size, size_t i)
{
	uint64_t bits = 0;

	memcpy(&bits, data + i * size, size);
	return bits;
}

static void check_run(const char *who, const struct sd_converter *converter, const struct run *run)
{
	unsigned size = sd_dtype_size(run->from);

	for (size_t k = 0; k < MAKES; k++) {
		float values[SD_CONVERT_RUN];
		uint8_t out[SD_CONVERT_RUN * 8 + 1];
		unsigned to_size = sd_dtype_size(makes[k]);

		memset(out, 0xa5, sizeof(out));
		converter->decode(run->from, run->data, run->count, values);
		converter->encode(makes[k], values, out, run->count);
		for (size_t i = 0; i < run->count; i++)
			check_one(who, run->from, makes[k], element(run->data, size, i), element(out, to_size, i));
		cr_assert_eq(out[run->count * to_size], 0xa5, "written too far");
	}
}

static const char *const names[] = {"plain", "v128", "avx2", "avx512"};
#define NAMES (sizeof(names) / sizeof(*names))

static bool can_run(const char *name)
{
	return strcmp(sd_kernels_pick(name)->name, name) == 0;
}

/* The same in one go, from one element at an odd address and to another. */
static void check_at_once(const struct sd_kernels *kernels, const struct run *run, const uint32_t *scale)
{
	unsigned size = sd_dtype_size(run->from);

	for (size_t k = 0; kernels->convert.ready && k < MAKES; k++) {
		struct sd_cast cast = {.from = run->from,
				       .to = makes[k],
				       .scaled = scale != NULL,
				       .by = scale ? sd_float_of_bits(*scale) : 0,
				       .often = true,
				       .count = run->count,
				       .rows = 1};
		uint8_t in[SD_CONVERT_RUN * 8 + 1], out[SD_CONVERT_RUN * 8 + 2];
		unsigned to_size = sd_dtype_size(makes[k]);

		memcpy(in + 1, run->data, run->count * size);
		memset(out, 0xa5, sizeof(out));
		if (!kernels->convert.ready(&cast))
			continue;
		cast.go(&cast, in + 1, out + 1);
		for (size_t i = 0; i < run->count; i++) {
			uint64_t bits = element(run->data, size, i), got = element(out + 1, to_size, i);
			uint64_t want = exact_cast(run->from, makes[k], bits, scale);

			if (got != want)
				cr_assert_fail("%s: %s %#" PRIx64 " by %#" PRIx32 " to %s: %#" PRIx64 ", not %#" PRIx64,
					       kernels->name, sd_dtype_name(run->from), bits, scale ? *scale : 0,
					       sd_dtype_name(makes[k]), got, want);
		}
		cr_assert(out[0] == 0xa5 && out[1 + run->count * to_size] == 0xa5, "written too far");
	}
}

static void flush(struct run *run)
{
	unsigned size = sd_dtype_size(run->from);

	if (run->count == 0)
		return;
	for (size_t n = 0; n < NAMES; n++) {
		if (!can_run(names[n]))
			continue;
		check_run(names[n], &sd_kernels_pick(names[n])->convert, run);
		check_at_once(sd_kernels_pick(names[n]), run, NULL);
	}
	for (size_t k = 0; k < MAKES; k++)
		for (size_t i = 0; i < run->count; i++) {
			uint64_t bits = element(run->data, size, i);

			check_one("scalar", run->from, makes[k], bits,
				  sd_element_encode((uint8_t)makes[k], sd_element_decode((uint8_t)run->from, bits)));
		}
	run->count = 0;
}

static void add(struct run *run, uint64_t bits)
{
	unsigned size = sd_dtype_size(run->from);

	memcpy(run->data + run->count++ * size, &bits, size);
	if (run->count == SD_CONVERT_RUN)
		flush(run);
}

/* Scales: what is special, the ends of where a way to do it is taken, and any bits. */
static uint32_t scale_number(unsigned i)
{
	static const uint32_t special[] = {0,          0x80000000, 1,          0x007fffff, 0x00800000, 0x0d800000,
					   0x0d7fffff, 0x0d800001, 0x71800000, 0x717fffff, 0x71800001, 0xf1800000,
					   0x3f800000, 0xbf800000, 0x3f8ccccd, 0x7b000000, 0x7b800000, 0x7f7fffff,
					   0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001};
	uint64_t seed = i;

	return i < sizeof(special) / sizeof(*special) ? special[i] : (uint32_t)exact_random(&seed);
}

static void all_by_scales(enum sd_dtype from, unsigned scales)
{
	for (unsigned i = 0; i < scales; i++)
		for (size_t n = 0; n < NAMES; n++)
			for (uint32_t first = 0; first >> sd_dtype_bits(from) == 0; first += SD_CONVERT_RUN) {
				struct run run = {from, SD_CONVERT_RUN, {0}};
				uint32_t scale = scale_number(i);

				for (uint32_t k = 0; k < SD_CONVERT_RUN; k++) {
					uint32_t bits = first + k;

					memcpy(run.data + k * sd_dtype_size(from), &bits, sd_dtype_size(from));
				}
				if (can_run(names[n]))
					check_at_once(sd_kernels_pick(names[n]), &run, &scale);
			}
}

Test(convert, every_f8_by_scales)
{
	all_by_scales(SD_F8_E4M3, 700);
	all_by_scales(SD_F8_E5M2, 100);
}

Test(convert, every_f16_and_bf16_by_scales)
{
	all_by_scales(SD_F16, 6);
	all_by_scales(SD_BF16, 6);
}

/* Rows of any length, with gaps between them that stay as they are, and a NaN here and there; by one scale, or by one
 * for each element. */
Test(convert, rows_of_any_length)
{
	enum { most = 150, rows = 3 };
	static const enum sd_dtype reads[] = {SD_F8_E4M3, SD_F8_E5M2, SD_F16, SD_BF16, SD_F32};
	uint64_t seed = 3;

	for (size_t n = 0; n < NAMES; n++)
		for (size_t count = 1; count < most; count++)
			for (size_t d = 0; d < sizeof(reads) / sizeof(*reads) * MAKES; d++) {
				enum sd_dtype from = reads[d / MAKES], to = makes[d % MAKES];
				unsigned size = sd_dtype_size(from), to_size = sd_dtype_size(to);
				uint32_t scale = scale_number((unsigned)exact_random(&seed) % 100);
				const struct sd_converter *convert = &sd_kernels_pick(names[n])->convert;
				struct sd_cast cast = {.from = from,
						       .to = to,
						       .scaled = true,
						       .by = sd_float_of_bits(scale),
						       .source_step = count * size + 3,
						       .target_step = count * to_size + 5,
						       .count = count,
						       .rows = rows};
				uint8_t source[rows * (most * 4 + 3)], target[rows * (most * 8 + 5)];
				uint32_t scales[most];
				float each[most];
				bool alike = count % 3 != 0;

				for (size_t i = 0; i < sizeof(source); i++)
					source[i] = (uint8_t)exact_random(&seed);
				memset(target, 0xa5, sizeof(target));
				for (size_t i = 0; i < count; i++) {
					scales[i] = alike ? scale : scale_number((unsigned)exact_random(&seed) % 100);
					each[i] = sd_float_of_bits(scales[i]);
				}
				cast.each = alike ? NULL : each;
				cast.often = alike && count % 2 == 0;
				if (!can_run(names[n]) || !convert->ready || !convert->ready(&cast))
					continue;
				cast.go(&cast, source, target);
				for (size_t r = 0; r < rows; r++) {
					const uint8_t *in = source + r * cast.source_step;
					const uint8_t *out = target + r * cast.target_step;

					for (size_t i = 0; i < count; i++)
						cr_assert_eq(element(out, to_size, i),
							     exact_cast(from, to, element(in, size, i), &scales[i]));
					for (size_t i = 0; i < 5; i++)
						cr_assert_eq(out[count * to_size + i], 0xa5);
				}
			}
}

/* Random factors of a kind, as floats and as a cast has them. */
static void make_factors(uint64_t *seed, enum sd_factors kind, size_t count, float *by, uint16_t *brief)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t bits = scale_number((unsigned)exact_random(seed) % 100);

		if (kind == SD_BRAINS)
			bits = (uint32_t)(exact_random(seed) % 0x7f80) << 16 | (bits & 0x80000000U);
		if (kind == SD_POWERS)
			bits = SD_POWER_LEAST + ((uint32_t)(exact_random(seed) % 201) << 23);
		by[i] = sd_float_of_bits(bits);
		brief[i] = (uint16_t)((bits >> 16) - (kind == SD_POWERS ? SD_POWER_ONE : 0));
	}
}

/* Rows of count elements, of codes too, by factors of a kind, each for 1 << shared elements. */
static void check_factors(const struct sd_kernels *kernels, struct sd_cast cast, uint64_t *seed)
{
	enum { most = 150, rows = 3 };
	const bool codes = sd_is_code((uint8_t)cast.from), halves = codes && !cast.pairs;
	const unsigned size = codes ? 1 : sd_dtype_size(cast.from), to_size = sd_dtype_size(cast.to);
	const size_t count = cast.count;
	uint8_t source[rows * (most * 4 + 3)], target[2 * rows * (most * 8 + 5)];
	uint16_t brief[most];
	float by[most];

	cast.scaled = true;
	cast.rows = rows;
	cast.source_step = (halves ? (count + 1) / 2 : count * size) + 3;
	cast.target_step = count * to_size + 5;
	make_factors(seed, (enum sd_factors)cast.factors, most, by, brief);
	cast.each = cast.factors == SD_FLOATS ? (const void *)by : brief;
	for (size_t i = 0; i < sizeof(source); i++)
		source[i] = (uint8_t)exact_random(seed);
	memset(target, 0xa5, sizeof(target));
	if (!kernels->convert.ready || !kernels->convert.ready(&cast))
		return;
	cast.go(&cast, source, target);
	for (size_t r = 0; r < (cast.pairs ? 2 * rows : rows); r++) {
		const uint8_t *in = source + (cast.pairs ? r / 2 : r) * cast.source_step;
		const uint8_t *out = target + r * cast.target_step;

		for (size_t i = 0; i < count; i++) {
			uint64_t bits = element(in, size, halves ? i / 2 : i);
			uint32_t value, scale = sd_bits_of_float(by[i >> cast.shared]);

			if (codes && (halves ? i : r) % 2 == 1)
				bits >>= 4;
			value = sd_element_scale(sd_element_decode((uint8_t)cast.from, bits), scale);
			cr_assert_eq(element(out, to_size, i), sd_element_encode((uint8_t)cast.to, value),
				     "%s: number %zu of %zu of %u, factors %u for %u", kernels->name, i, count,
				     cast.from, cast.factors, 1U << cast.shared);
		}
		for (size_t i = 0; i < 5; i++)
			cr_assert_eq(out[count * to_size + i], 0xa5);
	}
}

Test(convert, factors_of_every_kind)
{
	static const uint8_t reads[] = {SD_F8_E4M3, SD_F8_E5M2, SD_F16, SD_F32, SD_E2M1, SD_E2M1 + SD_E2M1_PLUS,
					SD_INT4};
	uint64_t seed = 5;

	for (size_t n = 0; n < NAMES; n++)
		for (size_t count = 1; count < 150; count++)
			for (size_t d = 0; d < sizeof(reads) * MAKES * 3; d++) {
				struct sd_cast cast = {
					.from = (enum sd_dtype)reads[d / MAKES / 3],
					.to = makes[d / 3 % MAKES],
					.factors = (uint8_t)(d % 3),
					.pairs = sd_is_code(reads[d / MAKES / 3]) && exact_random(&seed) % 2,
					.count = count,
					.shared = exact_random(&seed) % 2 ? 5 + exact_random(&seed) % 3 : 0,
				};

				if (can_run(names[n]))
					check_factors(sd_kernels_pick(names[n]), cast, &seed);
			}
}

/* Those who have vectors to work with know more than floats. */
Test(convert, which_factors_there_are)
{
	for (size_t n = 2; n < NAMES; n++)
		for (uint8_t factors = SD_FLOATS; factors <= SD_POWERS; factors++) {
			struct sd_cast cast = {.from = (enum sd_dtype)SD_E2M1, .to = SD_BF16, .scaled = true};

			cast.factors = factors;
			cr_assert(!can_run(names[n]) || sd_kernels_pick(names[n])->convert.ready(&cast), "%s: %u",
				  names[n], factors);
		}
}

static void all_of(enum sd_dtype from)
{
	struct run run = {from, 0, {0}};

	for (uint64_t bits = 0; bits >> sd_dtype_bits(from) == 0; bits++)
		add(&run, bits);
	flush(&run);
}

Test(convert, every_f8)
{
	all_of(SD_F8_E4M3);
	all_of(SD_F8_E5M2);
}

Test(convert, every_bf16)
{
	all_of(SD_BF16);
}

Test(convert, every_f16)
{
	all_of(SD_F16);
}

/* What lies halfway between neighbours of a narrower dtype, exactly and a bit to either side. */
static void halfways(enum sd_dtype from, enum sd_dtype narrow, uint64_t first, uint64_t count, uint64_t step)
{
	struct run run = {from, 0, {0}};
	uint64_t sign = 1ULL << (sd_dtype_bits(from) - 1);

	for (uint64_t i = 0; i < count; i++) {
		uint64_t bits = first + i * step;
		double low = exact_value(narrow, bits), high = exact_value(narrow, bits + 1);
		uint64_t middle;

		/* Infinity stands for the number that would follow the largest. */
		if (isinf(high))
			high = low + (low - exact_value(narrow, bits - 1));
		if (isnan(low) || isnan(high) || isinf(low))
			continue;
		middle = exact_element(from, low / 2 + high / 2);
		for (uint64_t near = middle - 2; near <= middle + 2; near++) {
			add(&run, near);
			add(&run, near | sign);
		}
	}
	flush(&run);
}

Test(convert, halfway_of_16_bits)
{
	halfways(SD_F32, SD_F16, 1, 0x7c00, 1);
	halfways(SD_F32, SD_BF16, 1, 0x7f80, 1);
	halfways(SD_F64, SD_F16, 1, 0x7c00, 1);
	halfways(SD_F64, SD_BF16, 1, 0x7f80, 1);
}

Test(convert, halfway_of_32_bits)
{
	halfways(SD_F64, SD_F32, 1, 20000, 1);
	halfways(SD_F64, SD_F32, 0x007f0000, 0x10100, 1);
	halfways(SD_F64, SD_F32, 0x7f7ff000, 0x1000, 1);
	halfways(SD_F64, SD_F32, 0x12345, 20000, 0x187f3);
}

Test(convert, random_bits)
{
	struct run single = {SD_F32, 0, {0}}, wide = {SD_F64, 0, {0}};
	uint64_t seed = 1;

	for (int i = 0; i < 300000; i++) {
		uint64_t bits = exact_random(&seed);

		add(&single, bits & 0xffffffffU);
		add(&wide, bits);
		/* Few random doubles are in a float's range: make some. */
		add(&wide, (bits & 0x800fffffffffffffU) | ((840 + (bits >> 52 & 0x1ff) % 330) << 52));
	}
	flush(&single);
	flush(&wide);
}

Test(convert, boundaries)
{
	static const uint64_t singles[] = {0,          1,          0x007fffff, 0x00800000, 0x33000000, 0x33000001,
					   0x387fe000, 0x387fffff, 0x38800000, 0x477fe000, 0x477fefff, 0x477ff000,
					   0x47800000, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff, 0x7f800000, 0x7f800001,
					   0x7fbfffff, 0x7fc00000, 0x7fffffff};
	struct run run = {SD_F32, 0, {0}};

	for (size_t i = 0; i < sizeof(singles) / sizeof(*singles); i++) {
		add(&run, singles[i]);
		add(&run, singles[i] | 0x80000000U);
	}
	flush(&run);
	cr_assert_eq(sd_f16_of_f32(0x477fefff), 0x7bff, "just below 65520 is 65504");
	cr_assert_eq(sd_f16_of_f32(0x477ff000), 0x7c00, "65520 is infinity");
	cr_assert_eq(sd_f16_of_f32(0x80000000), 0x8000, "-0.0");
	cr_assert_eq(sd_bf16_of_f32(0x3f808000), 0x3f80, "a tie goes to the even neighbour below");
	cr_assert_eq(sd_bf16_of_f32(0x3f818000), 0x3f82, "a tie goes to the even neighbour above");
	cr_assert_eq(sd_f32_of_f8_e4m3(0x7e), sd_bits_of_float(448), "the largest F8_E4M3");
}

/* A code that is decoded as kind, and its value. */
static double value_of(uint8_t kind, unsigned code)
{
	if (kind == SD_INT4)
		return (int)code - 8;
	return exact_e2m1(code, kind & SD_E2M1_PLUS ? 0.0 : -0.0) * (kind & SD_E2M1_TWICE ? 2 : 1);
}

/* Two codes in each of all bytes, with every converter, in runs of whole and odd length. */
static void check_codes(const char *who, const struct sd_converter *converter, uint8_t kind)
{
	for (unsigned first = 0; first < 256; first += SD_CONVERT_RUN / 2)
		for (size_t count = SD_CONVERT_RUN; count > SD_CONVERT_RUN - 4; count--) {
			uint8_t bytes[SD_CONVERT_RUN / 2];
			float values[SD_CONVERT_RUN];

			for (unsigned i = 0; i < sizeof(bytes); i++)
				bytes[i] = (uint8_t)(first + i);
			converter->decode((enum sd_dtype)kind, bytes, count, values);
			for (unsigned i = 0; i < count; i++) {
				unsigned code = i % 2 == 0 ? bytes[i / 2] % 16 : bytes[i / 2] / 16;
				uint64_t want = exact_element(SD_F32, value_of(kind, code));

				cr_assert_eq(sd_bits_of_float(values[i]), want, "%s: kind %u, code %u", who, kind,
					     code);
				cr_assert_eq(sd_element_decode(kind, code), want, "kind %u, code %u", kind, code);
			}
		}
}

static const uint8_t code_kinds[] = {SD_E2M1, SD_E2M1 + SD_E2M1_TWICE, SD_E2M1 + SD_E2M1_PLUS,
				     SD_E2M1 + SD_E2M1_PLUS + SD_E2M1_TWICE, SD_INT4};

Test(convert, every_code)
{
	for (size_t n = 0; n < NAMES; n++)
		for (size_t k = 0; k < sizeof(code_kinds); k++)
			if (can_run(names[n]))
				check_codes(names[n], &sd_kernels_pick(names[n])->convert, code_kinds[k]);
}

/* What a byte is as a scale. */
static double scale_of(uint8_t kind, unsigned byte)
{
	if (byte == 0 && kind & SD_E8M0_ZERO)
		return 0;
	if (kind & SD_E8M0_HALF)
		return ldexp(1, (int)byte - 128);
	if (byte == 255)
		return kind & SD_E8M0_INFINITY ? (double)INFINITY : (double)NAN;
	return ldexp(1, (int)byte - 127);
}

/* Each code and each F8_E4M3 with each byte of a scale, each way of reading them, in each dtype. */
Test(convert, every_scale_of_a_byte)
{
	for (unsigned kind = SD_E8M0; kind < SD_E8M0_END; kind++)
		for (unsigned byte = 0; byte < 256; byte++) {
			uint32_t scale = sd_element_decode((uint8_t)kind, byte);

			cr_assert_eq(scale, exact_element(SD_F32, scale_of((uint8_t)kind, byte)), "kind %u, byte %u",
				     kind, byte);
			for (size_t k = 0; k < MAKES; k++) {
				for (size_t c = 0; c < sizeof(code_kinds); c++)
					for (unsigned code = 0; code < 16; code++) {
						uint32_t bits = sd_element_decode(code_kinds[c], code);
						uint64_t got = sd_element_encode((uint8_t)makes[k],
										 sd_element_scale(bits, scale));

						cr_assert_eq(got,
							     exact_product(makes[k], value_of(code_kinds[c], code),
									   scale_of((uint8_t)kind, byte)),
							     "code %u of %u by %u of %u", code, code_kinds[c], byte,
							     kind);
					}
				for (unsigned f8 = 0; f8 < 256; f8++) {
					uint32_t bits = sd_element_scale(sd_f32_of_f8_e4m3((uint8_t)f8), scale);

					cr_assert_eq(sd_element_encode((uint8_t)makes[k], bits),
						     exact_product(makes[k], exact_value(SD_F8_E4M3, f8),
								   scale_of((uint8_t)kind, byte)),
						     "F8 %u by %u of %u", f8, byte, kind);
				}
			}
		}
}

/* The pair that reaches 2^128: zero stays zero, a half is 2^127, more is infinity. */
Test(convert, codes_by_2_128)
{
	static const uint32_t want[] = {0, 0x7f000000, 0x7f800000};

	for (unsigned code = 0; code < 3; code++)
		cr_assert_eq(sd_element_scale(sd_f32_of_code(SD_E2M1 + SD_E2M1_TWICE, code),
					      sd_f32_of_e8m0(SD_E8M0 + SD_E8M0_HALF, 255)),
			     want[code]);
	cr_assert_eq(
		sd_element_scale(sd_f32_of_code(SD_E2M1 + SD_E2M1_TWICE, 1), sd_f32_of_e8m0(SD_E8M0 + SD_E8M0_HALF, 0)),
		0x00200000, "0.5 * 2^-127");
}

/* F64 to 16 bits rounds twice, as torch does: this value is just above a tie of F16, and float32 makes it the tie. */
Test(convert, doubles_round_twice)
{
	double value = 1 + 0x1p-11 + 0x1p-40;
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	cr_assert_eq(sd_f16_of_f32(sd_f32_of_f64(bits)), 0x3c00);
}

Test(convert, which_exist)
{
	static const enum sd_dtype floats[] = {SD_BF16, SD_F16, SD_F32, SD_F64};

	for (int from = 0; from < SD_DTYPES; from++)
		for (int to = 0; to < SD_DTYPES; to++) {
			bool reads = from == SD_F8_E4M3 || from == SD_F8_E5M2, made = false;

			for (size_t i = 0; i < sizeof(floats) / sizeof(*floats); i++) {
				reads = reads || from == (int)floats[i];
				made = made || to == (int)floats[i];
			}
			cr_assert_eq(sd_cast_exists((enum sd_dtype)from, (enum sd_dtype)to),
				     (from == to && sd_dtype_size((enum sd_dtype)from) > 0) || (reads && made),
				     "%s to %s", sd_dtype_name((enum sd_dtype)from), sd_dtype_name((enum sd_dtype)to));
		}
}
