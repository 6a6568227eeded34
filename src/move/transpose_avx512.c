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
	return _mm_loadu_si128((const __m128i *)(const void *)at);
}

ISA static inline __m512i load_pieces(const uint8_t *at, size_t apart)
{
	__m512i line = _mm512_castsi128_si512(load_piece(at));

	line = _mm512_inserti32x4(line, load_piece(at + apart), 1);
	line = _mm512_inserti32x4(line, load_piece(at + 2 * apart), 2);
	return _mm512_inserti32x4(line, load_piece(at + 3 * apart), 3);
}

#define CAST_ROWS 64
#include "move/transpose_simd.h"

typedef uint8_t bytes __attribute__((vector_size(64)));
typedef uint16_t words __attribute__((vector_size(64)));
typedef __m512 floats;

ISA static inline __m512i spread(__m512i all)
{
	return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), all);
}

ISA static inline words widen(const uint8_t *at)
{
	return (words)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

ISA static inline bytes load_table(const uint8_t at[16])
{
	return (bytes)_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)at));
}

ISA static inline bytes look_up(bytes table, bytes number)
{
	return (bytes)_mm512_shuffle_epi8((__m512i)table, (__m512i)number);
}

typedef __mmask64 mask;

ISA static inline mask below(bytes a, bytes b)
{
	return _mm512_cmplt_epi8_mask((__m512i)a, (__m512i)b);
}

ISA static inline bytes choose(mask where, bytes a, bytes b)
{
	return (bytes)_mm512_mask_blend_epi8(where, (__m512i)b, (__m512i)a);
}

ISA static inline bool any_above(words all, int16_t number)
{
	return _mm512_cmpgt_epi16_mask((__m512i)all, _mm512_set1_epi16(number)) != 0;
}

ISA static inline floats quiet(floats all)
{
	return _mm512_mask_mov_ps(all, _mm512_cmp_ps_mask(all, all, _CMP_UNORD_Q),
				  _mm512_castsi512_ps(_mm512_set1_epi32(SD_F32_NAN)));
}

ISA static inline void floats_of_f16(words all, floats value[2])
{
	value[0] = _mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)all));
	value[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)all, 1));
}

ISA static inline words f16_of_floats(floats low, floats high)
{
	__m256i half = _mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT);

	return (words)_mm512_inserti64x4(_mm512_castsi256_si512(half), _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT),
					 1);
}

/* (The machine's own rounding to BF16, of AVX512_BF16, would flush subnormals.) */
ISA static inline words bf16_of_rounded(floats a, floats b)
{
	static const uint16_t upper[] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
					 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};

	return (words)_mm512_permutex2var_epi16((__m512i)a, _mm512_loadu_si512(upper), (__m512i)b);
}

#define READY sd_cast_ready_avx512
#include "move/convert_simd.h"

const struct sd_kernels sd_kernels_avx512 = {
	"avx512", {turn1, turn2, turn4, turn8}, {sd_decode_avx512, sd_encode_avx512, ready}, end};
#endif
