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
	__m256i near = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));

	return _mm256_inserti128_si256(near, _mm_loadu_si128((const __m128i *)(const void *)(at + apart)), 1);
}

#define CAST_ROWS 64
#include "move/transpose_simd.h"

typedef uint8_t bytes __attribute__((vector_size(32)));
typedef uint16_t words __attribute__((vector_size(32)));
typedef __m256 floats;

ISA static inline __m256i spread(__m256i all)
{
	return _mm256_permute4x64_epi64(all, 0xd8);
}

ISA static inline words widen(const uint8_t *at)
{
	return (words)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)at));
}

ISA static inline bytes load_table(const uint8_t at[16])
{
	return (bytes)_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));
}

ISA static inline bytes look_up(bytes table, bytes number)
{
	return (bytes)_mm256_shuffle_epi8((__m256i)table, (__m256i)number);
}

typedef bytes mask;

ISA static inline mask below(bytes a, bytes b)
{
	return (mask)_mm256_cmpgt_epi8((__m256i)b, (__m256i)a);
}

ISA static inline bytes choose(mask where, bytes a, bytes b)
{
	return (bytes)_mm256_blendv_epi8((__m256i)b, (__m256i)a, (__m256i)where);
}

ISA static inline bool any_above(words all, int16_t number)
{
	return _mm256_movemask_epi8(_mm256_cmpgt_epi16((__m256i)all, _mm256_set1_epi16(number))) != 0;
}

ISA static inline floats quiet(floats all)
{
	return _mm256_blendv_ps(all, _mm256_castsi256_ps(_mm256_set1_epi32(SD_F32_NAN)),
				_mm256_cmp_ps(all, all, _CMP_UNORD_Q));
}

ISA static inline void floats_of_f16(words all, floats value[2])
{
	value[0] = _mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)all));
	value[1] = _mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)all, 1));
}

ISA static inline words f16_of_floats(floats low, floats high)
{
	__m128i half = _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT);

	return (words)_mm256_inserti128_si256(_mm256_castsi128_si256(half),
					      _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT), 1);
}

ISA static inline words bf16_of_rounded(floats a, floats b)
{
	__m256i upper_a = _mm256_srli_epi32(_mm256_castps_si256(a), 16);
	__m256i upper_b = _mm256_srli_epi32(_mm256_castps_si256(b), 16);

	return (words)_mm256_permute4x64_epi64(_mm256_packus_epi32(upper_a, upper_b), 0xd8);
}

#define READY sd_cast_ready_avx2
#include "move/convert_simd.h"

const struct sd_kernels sd_kernels_avx2 = {
	"avx2", {turn1, turn2, turn4, turn8}, {sd_decode_avx2, sd_encode_avx2, ready}, end};
#endif
