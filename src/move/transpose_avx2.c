/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for x86 with AVX2. */
#include "move/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define ISA __attribute__((target("avx2,f16c")))
#define VECTOR __m256i
#define LANES 2
#define LO_8 _mm256_unpacklo_epi8
#define HI_8 _mm256_unpackhi_epi8
#define LO_16 _mm256_unpacklo_epi16
#define HI_16 _mm256_unpackhi_epi16
#define LO_32 _mm256_unpacklo_epi32
#define HI_32 _mm256_unpackhi_epi32
#define LO_64 _mm256_unpacklo_epi64
#define HI_64 _mm256_unpackhi_epi64
#define STORE(at, vector) _mm256_storeu_si256((__m256i *)(void *)(at), vector)
#define STREAM(at, vector) _mm256_stream_si256((__m256i *)(void *)(at), vector)
#define FENCE _mm_sfence()

ISA static inline __m256i load_pieces(const uint8_t *at, size_t apart)
{
	__m256i near = _mm256_castsi128_si256(_mm_load_si128((const __m128i *)(const void *)at));

	return _mm256_inserti128_si256(near, _mm_load_si128((const __m128i *)(const void *)(at + apart)), 1);
}

#include "move/transpose_simd.h"

typedef __m256 floats;
typedef __m256i words;
typedef __m128i half;

ISA static inline words load_bytes(const uint8_t *at)
{
	return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)at));
}

ISA static inline words load_words(const uint8_t *at)
{
	return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

ISA static inline void store_words(uint8_t *at, words all)
{
	_mm256_storeu_si256((__m256i *)(void *)at, all);
}

ISA static inline void store_half(uint8_t *at, half all)
{
	_mm_storeu_si128((__m128i *)(void *)at, all);
}

ISA static inline floats load_floats(const uint8_t *at)
{
	return _mm256_loadu_ps((const float *)(const void *)at);
}

ISA static inline void store_floats(uint8_t *at, floats all)
{
	_mm256_storeu_ps((float *)(void *)at, all);
}

ISA static inline half first(words all)
{
	return _mm256_castsi256_si128(all);
}

ISA static inline half second(words all)
{
	return _mm256_extracti128_si256(all, 1);
}

ISA static inline words shifted(words all, int bits)
{
	return _mm256_slli_epi16(all, bits);
}

ISA static inline words masked(words all, int mask)
{
	return _mm256_and_si256(all, _mm256_set1_epi16((short)mask));
}

ISA static inline bool has_word(words all, int word)
{
	return _mm256_movemask_epi8(_mm256_cmpeq_epi16(all, _mm256_set1_epi16((short)word))) != 0;
}

ISA static inline bool any_nan(floats a, floats b)
{
	return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q)) != 0;
}

ISA static inline floats floats_of_f16(half all)
{
	return _mm256_cvtph_ps(all);
}

ISA static inline half f16_of_floats(floats all)
{
	return _mm256_cvtps_ph(all, _MM_FROUND_TO_NEAREST_INT);
}

ISA static inline floats floats_of_bf16(half all)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(all), 16));
}

/* The upper 16 bits of the nearest, ties to even. */
ISA static inline __m256i rounded(floats all)
{
	__m256i bits = _mm256_castps_si256(all);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));

	bits = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
	return _mm256_srli_epi32(bits, 16);
}

ISA static inline words bf16_of_floats(floats a, floats b)
{
	return _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded(a), rounded(b)), 0xd8);
}

#include "move/convert_simd.h"

const struct sd_kernels sd_kernels_avx2 = {
	"avx2", {turn1, turn2, turn4, turn8}, {sd_decode_avx2, sd_encode_avx2, cast_rows}, end};
#endif
