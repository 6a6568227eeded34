/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for x86 with AVX-512 (F, BW, DQ and VL). */
#include "move/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define ISA __attribute__((target("avx512f,avx512bw")))
#define VECTOR __m512i
#define LANES 4
#define LO_8 _mm512_unpacklo_epi8
#define HI_8 _mm512_unpackhi_epi8
#define LO_16 _mm512_unpacklo_epi16
#define HI_16 _mm512_unpackhi_epi16
#define LO_32 _mm512_unpacklo_epi32
#define HI_32 _mm512_unpackhi_epi32
#define LO_64 _mm512_unpacklo_epi64
#define HI_64 _mm512_unpackhi_epi64
#define STORE(at, vector) _mm512_storeu_si512((void *)(at), vector)
#define STREAM(at, vector) _mm512_stream_si512((__m512i *)(void *)(at), vector)
#define FENCE _mm_sfence()

ISA static inline __m128i load_piece(const uint8_t *at)
{
	return _mm_load_si128((const __m128i *)(const void *)at);
}

ISA static inline __m512i load_pieces(const uint8_t *at, size_t apart)
{
	__m512i line = _mm512_castsi128_si512(load_piece(at));

	line = _mm512_inserti32x4(line, load_piece(at + apart), 1);
	line = _mm512_inserti32x4(line, load_piece(at + 2 * apart), 2);
	return _mm512_inserti32x4(line, load_piece(at + 3 * apart), 3);
}

#include "move/transpose_simd.h"

const struct sd_kernels sd_kernels_avx512 = {
	"avx512", {turn1, turn2, turn4, turn8}, {sd_decode_avx512, sd_encode_avx512}, end};
#endif
