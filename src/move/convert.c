/* SPDX-License-Identifier: Apache-2.0 */
/* Casts for the CPU, a run of elements at a time. */
#include "move/convert.h"
#include "move/device.h"

bool sd_convert_reads(enum sd_dtype dtype)
{
	return dtype == SD_F8_E4M3 || dtype == SD_F8_E5M2 || sd_convert_makes(dtype);
}

bool sd_convert_makes(enum sd_dtype dtype)
{
	return dtype == SD_BF16 || dtype == SD_F16 || dtype == SD_F32 || dtype == SD_F64;
}

bool sd_cast_exists(enum sd_dtype from, enum sd_dtype to)
{
	return (from == to && sd_dtype_size(from) > 0) || (sd_convert_reads(from) && sd_convert_makes(to));
}

/* Loops have a fixed count and no branches, so that the compiler makes vectors of them whatever the level. */
#define LOOP(to_type, to, from_type, from, expression)                                                                 \
	for (size_t i = 0; i < SD_CONVERT_RUN; i++) {                                                                  \
		from_type in = ((const from_type *)(from))[i];                                                         \
		((to_type *)(to))[i] = (expression);                                                                   \
	}

#define INLINE static inline __attribute__((always_inline))

INLINE void decode_run(enum sd_dtype from, const void *restrict source, uint32_t *restrict bits)
{
	switch (from) {
	case SD_F8_E4M3:
		LOOP(uint32_t, bits, uint8_t, source, sd_f32_of_f8_e4m3(in))
		break;
	case SD_F8_E5M2:
		LOOP(uint32_t, bits, uint8_t, source, sd_f32_of_f8_e5m2(in))
		break;
	case SD_BF16:
		LOOP(uint32_t, bits, uint16_t, source, sd_f32_of_bf16(in))
		break;
	case SD_F16:
		LOOP(uint32_t, bits, uint16_t, source, sd_f32_of_f16(in))
		break;
	case SD_F64:
		LOOP(uint32_t, bits, uint64_t, source, sd_f32_of_f64(in))
		break;
	default: /* F32 */
		LOOP(uint32_t, bits, uint32_t, source, in)
		break;
	}
}

INLINE void encode_run(enum sd_dtype to, const uint32_t *restrict bits, void *restrict target)
{
	switch (to) {
	case SD_BF16:
		LOOP(uint16_t, target, uint32_t, bits, sd_bf16_of_f32(in))
		break;
	case SD_F16:
		LOOP(uint16_t, target, uint32_t, bits, sd_f16_of_f32(in))
		break;
	case SD_F64:
		LOOP(uint64_t, target, uint32_t, bits, sd_f64_of_f32(in))
		break;
	default: /* F32 */
		LOOP(uint32_t, target, uint32_t, bits, sd_f32_of_f32(in))
		break;
	}
}

/* Through aligned copies: the buffers of a job may lie anywhere, and a run may be short. */
INLINE void decode(enum sd_dtype from, const void *source, size_t count, float values[SD_CONVERT_RUN])
{
	uint64_t in[SD_CONVERT_RUN];
	uint32_t bits[SD_CONVERT_RUN];
	size_t size = sd_dtype_size(from);

	if (count < SD_CONVERT_RUN)
		memset(in, 0, sizeof(in));
	memcpy(in, source, count * size);
	decode_run(from, in, bits);
	memcpy(values, bits, sizeof(bits));
}

INLINE void encode(enum sd_dtype to, const float values[SD_CONVERT_RUN], void *target, size_t count)
{
	uint64_t out[SD_CONVERT_RUN];
	uint32_t bits[SD_CONVERT_RUN];

	memcpy(bits, values, sizeof(bits));
	encode_run(to, bits, out);
	memcpy(target, out, count * sd_dtype_size(to));
}

void sd_decode_plain(enum sd_dtype from, const void *source, size_t count, float values[SD_CONVERT_RUN])
{
	decode(from, source, count, values);
}

void sd_encode_plain(enum sd_dtype to, const float values[SD_CONVERT_RUN], void *target, size_t count)
{
	encode(to, values, target, count);
}

#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2")))

AVX2 void sd_decode_avx2(enum sd_dtype from, const void *source, size_t count, float values[SD_CONVERT_RUN])
{
	decode(from, source, count, values);
}

AVX2 void sd_encode_avx2(enum sd_dtype to, const float values[SD_CONVERT_RUN], void *target, size_t count)
{
	encode(to, values, target, count);
}
#endif
