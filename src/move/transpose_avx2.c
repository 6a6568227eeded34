/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for x86 with AVX2. */
#include "move/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define ISA __attribute__((target("avx2")))
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

const struct sd_kernels sd_kernels_avx2 = {"avx2", {turn1, turn2, turn4, turn8}, {sd_decode_avx2, sd_encode_avx2}, end};
#endif
