/* SPDX-License-Identifier: Apache-2.0 */
/* Casts for the CPU, a run of elements at a time. */
#include "move/convert.h"
#include "move/device.h"

#ifdef __FAST_MATH__
#error "-ffast-math flushes subnormals: products of scales would differ from other machines'"
#endif

bool sd_convert_reads(enum sd_dtype dtype)
{
	return sd_is_code(dtype) || dtype == SD_F8_E4M3 || dtype == SD_F8_E5M2 || sd_convert_makes(dtype);
}

bool sd_convert_scales(uint8_t element)
{
	return element == SD_F32 || element == SD_BF16 || element == SD_F16 ||
	       (element >= SD_E8M0 && element < SD_E8M0_END);
}

bool sd_convert_makes(enum sd_dtype dtype)
{
	return dtype == SD_BF16 || dtype == SD_F16 || dtype == SD_F32 || dtype == SD_F64;
}

bool sd_cast_exists(enum sd_dtype from, enum sd_dtype to)
{
	return (from == to && sd_dtype_size(from) > 0) || (sd_convert_reads(from) && sd_convert_makes(to));
}

/*
 * Loops have a fixed count and no branches, so that the compiler makes vectors of them whatever the level. Elements are
 * loaded and stored by memcpy, for the buffers of a job may lie anywhere.
 */
#define LOOP(to_type, to, from_type, from, expression)                                                                 \
	for (size_t i = 0; i < SD_CONVERT_RUN; i++) {                                                                  \
		from_type in;                                                                                          \
		to_type out;                                                                                           \
                                                                                                                       \
		memcpy(&in, (const uint8_t *)(from) + i * sizeof(in), sizeof(in));                                     \
		out = (expression);                                                                                    \
		memcpy((uint8_t *)(to) + i * sizeof(out), &out, sizeof(out));                                          \
	}                                                                                                              \
	break

#define INLINE static inline __attribute__((always_inline))

INLINE void decode_codes(uint8_t kind, const uint8_t *restrict source, float *restrict values)
{
	for (size_t i = 0; i < SD_CONVERT_RUN / 2; i++) {
		values[2 * i] = sd_float_of_bits(sd_f32_of_code(kind, source[i]));
		values[2 * i + 1] = sd_float_of_bits(sd_f32_of_code(kind, source[i] >> 4));
	}
}

INLINE void decode_run(enum sd_dtype from, const void *restrict source, float *restrict values)
{
	switch ((int)from) {
	case SD_F8_E4M3:
		LOOP(uint32_t, values, uint8_t, source, sd_f32_of_f8_e4m3(in));
	case SD_F8_E5M2:
		LOOP(uint32_t, values, uint8_t, source, sd_f32_of_f8_e5m2(in));
	case SD_BF16:
		LOOP(uint32_t, values, uint16_t, source, sd_f32_of_bf16(in));
	case SD_F16:
		LOOP(uint32_t, values, uint16_t, source, sd_f32_of_f16(in));
	case SD_F64:
		LOOP(uint32_t, values, uint64_t, source, sd_f32_of_f64(in));
#define CODES(kind)                                                                                                    \
	case kind:                                                                                                     \
		decode_codes(kind, source, values);                                                                    \
		break
		CODES(SD_E2M1);
		CODES(SD_E2M1 + SD_E2M1_TWICE);
		CODES(SD_E2M1 + SD_E2M1_PLUS);
		CODES(SD_E2M1 + SD_E2M1_PLUS + SD_E2M1_TWICE);
		CODES(SD_INT4);
	case SD_F32:
		LOOP(uint32_t, values, uint32_t, source, in);
	default: /* SD_E8M0 and flags */
		LOOP(uint32_t, values, uint8_t, source, sd_f32_of_e8m0((uint8_t)from, in));
	}
}

INLINE void encode_run(enum sd_dtype to, const float *restrict values, void *restrict target)
{
	switch (to) {
	case SD_BF16:
		LOOP(uint16_t, target, uint32_t, values, sd_bf16_of_f32(in));
	case SD_F16:
		LOOP(uint16_t, target, uint32_t, values, sd_f16_of_f32(in));
	case SD_F64:
		LOOP(uint64_t, target, uint32_t, values, sd_f64_of_f32(in));
	default: /* F32 */
		LOOP(uint32_t, target, uint32_t, values, sd_f32_of_f32(in));
	}
}

/* Short runs go through a whole one. */
INLINE void decode(enum sd_dtype from, const void *source, size_t count, float values[SD_CONVERT_RUN])
{
	uint64_t whole[SD_CONVERT_RUN];

	if (count < SD_CONVERT_RUN) {
		memset(whole, 0, sizeof(whole));
		memcpy(whole, source, sd_element_bytes(from, count));
		source = whole;
	}
	decode_run(from, source, values);
}

INLINE void encode(enum sd_dtype to, const float values[SD_CONVERT_RUN], void *target, size_t count)
{
	uint64_t whole[SD_CONVERT_RUN];

	encode_run(to, values, count < SD_CONVERT_RUN ? whole : target);
	if (count < SD_CONVERT_RUN)
		memcpy(target, whole, count * sd_dtype_size(to));
}

INLINE void cast_rows(const struct sd_cast *cast, const uint8_t *source, uint8_t *target)
{
	const size_t from_size = sd_dtype_size(cast->from), to_size = sd_dtype_size(cast->to);
	const float *each = cast->each;
	size_t count;

	for (size_t row = 0; row < cast->rows; row++, source += cast->source_step, target += cast->target_step)
		for (size_t i = 0; i < cast->count; i += count) {
			float values[SD_CONVERT_RUN];

			count = cast->count - i < SD_CONVERT_RUN ? cast->count - i : SD_CONVERT_RUN;
			decode(cast->from, source + i * from_size, count, values);
			for (size_t k = 0; cast->scaled && !each && k < SD_CONVERT_RUN; k++)
				values[k] *= cast->by;
			for (size_t k = 0; each && k < count; k++)
				values[k] *= each[(i + k) >> cast->shared];
			encode(cast->to, values, target + i * to_size, count);
		}
}

#define CONVERTER(name, isa)                                                                                           \
	isa void sd_decode_##name(enum sd_dtype from, const void *source, size_t count, float values[SD_CONVERT_RUN])  \
	{                                                                                                              \
		decode(from, source, count, values);                                                                   \
	}                                                                                                              \
                                                                                                                       \
	isa void sd_encode_##name(enum sd_dtype to, const float values[SD_CONVERT_RUN], void *target, size_t count)    \
	{                                                                                                              \
		encode(to, values, target, count);                                                                     \
	}                                                                                                              \
                                                                                                                       \
	isa static void cast_rows_##name(const struct sd_cast *cast, const uint8_t *source, uint8_t *target)           \
	{                                                                                                              \
		cast_rows(cast, source, target);                                                                       \
	}                                                                                                              \
                                                                                                                       \
	bool sd_cast_ready_##name(struct sd_cast *cast)                                                                \
	{                                                                                                              \
		cast->go = cast_rows_##name;                                                                           \
		return !sd_is_code(cast->from) && cast->factors == SD_FLOATS && sd_convert_reads(cast->from) &&        \
		       sd_convert_makes(cast->to);                                                                     \
	}

CONVERTER(plain, )
#ifdef __x86_64__
CONVERTER(avx2, __attribute__((target("avx2"))))
CONVERTER(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#endif
