/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for x86 with AVX-512 (F, BW, DQ and VL). */
#include "move/kernels.h"

#ifdef __x86_64__
#include <immintrin.h>

#define ISA __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
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

typedef __m512 floats;
typedef __m512i words;
typedef __m256i half;

ISA static inline words load_bytes(const uint8_t *at)
{
	return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

ISA static inline words load_words(const uint8_t *at)
{
	return _mm512_loadu_si512(at);
}

ISA static inline void store_words(uint8_t *at, words all)
{
	_mm512_storeu_si512(at, all);
}

ISA static inline void store_half(uint8_t *at, half all)
{
	_mm256_storeu_si256((__m256i *)(void *)at, all);
}

ISA static inline floats load_floats(const uint8_t *at)
{
	return _mm512_loadu_ps(at);
}

ISA static inline void store_floats(uint8_t *at, floats all)
{
	_mm512_storeu_ps(at, all);
}

ISA static inline half first(words all)
{
	return _mm512_castsi512_si256(all);
}

ISA static inline half second(words all)
{
	return _mm512_extracti64x4_epi64(all, 1);
}

ISA static inline words shifted(words all, int bits)
{
	return _mm512_slli_epi16(all, (unsigned)bits);
}

ISA static inline words masked(words all, int mask)
{
	return _mm512_and_si512(all, _mm512_set1_epi16((short)mask));
}

ISA static inline bool has_word(words all, int word)
{
	return _mm512_cmpeq_epi16_mask(all, _mm512_set1_epi16((short)word)) != 0;
}

ISA static inline bool any_nan(floats a, floats b)
{
	return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q) != 0;
}

ISA static inline floats floats_of_f16(half all)
{
	return _mm512_cvtph_ps(all);
}

ISA static inline half f16_of_floats(floats all)
{
	return _mm512_cvtps_ph(all, _MM_FROUND_TO_NEAREST_INT);
}

ISA static inline floats floats_of_bf16(half all)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(all), 16));
}

/* Rounded to the nearest in the upper 16 bits, ties to even. (The machine's own, of AVX512_BF16, flushes subnormals.)
 */
ISA static inline __m512i rounded(floats all)
{
	__m512i bits = _mm512_castps_si512(all);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));

	return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
}

ISA static inline words bf16_of_floats(floats a, floats b)
{
	static const uint16_t upper[] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
					 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};

	return _mm512_permutex2var_epi16(rounded(a), _mm512_loadu_si512(upper), rounded(b));
}

#include "move/convert_simd.h"

const struct sd_kernels sd_kernels_avx512 = {
	"avx512", {turn1, turn2, turn4, turn8}, {sd_decode_avx512, sd_encode_avx512, cast_rows}, end};
#endif
