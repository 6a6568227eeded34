/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of elements with AVX2, FMA and F16C. */
#ifdef __x86_64__
#ifndef __clang__
#pragma GCC target("avx2,fma,f16c")
#endif
#include <immintrin.h>

#define COUNT sd_statistics_count_avx2
#define DECODE sd_decode_avx2
#define ADD_SQUARE(sum, a) ((sum) = (doubles)_mm256_fmadd_pd((__m256d)(a), (__m256d)(a), (__m256d)(sum)))
#define LESSER(a, b) _mm256_min_ps(a, b)
#define LESSER_WIDE(a, b) _mm256_min_pd(a, b)
#define GREATER(a, b) _mm256_max_ps(a, b)
#define GREATER_WIDE(a, b) _mm256_max_pd(a, b)
#define FLOATS_OF_F16(at) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(at)))
#define DOUBLES_OF_FLOATS(v, half) ((doubles)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)(v), half)))
#define HALVES_OF_BYTES(at) ((halves)_mm256_cvtepu8_epi16(LOAD_16(at)))
#define FLOATS_OF_HALVES(h, half) ((floats)_mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)(h), half)))
#define LESSER_BYTES(a, b) ((bytes)_mm256_min_epu8((__m256i)(a), (__m256i)(b)))
#define GREATER_BYTES(a, b) ((bytes)_mm256_max_epu8((__m256i)(a), (__m256i)(b)))
#define LESSER_SIGNED(a, b) ((signed_bytes)_mm256_min_epi8((__m256i)(a), (__m256i)(b)))
#define GREATER_SIGNED(a, b) ((signed_bytes)_mm256_max_epi8((__m256i)(a), (__m256i)(b)))
#define LOOK_UP(table, indices) ((bytes)_mm256_shuffle_epi8((__m256i)(table), (__m256i)(indices)))
#define LOAD_16(at) _mm_loadu_si128((const __m128i *)(const void *)(at))
#define SUMS_OF_PRODUCTS(a, b)                                                                                         \
	((marks)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)(a), (__m256i)(b)), _mm256_set1_epi16(1)))
#define TRIPLES(at)                                                                                                    \
	((pairs)_mm256_shuffle_epi8(_mm256_set_m128i(LOAD_16((at) + 8), LOAD_16(at)),                                  \
				    _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 4, 5, 6,    \
						     -1, 7, 8, 9, -1, 10, 11, 12, -1, 13, 14, 15, -1)))
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#endif
#include "move/statistics_simd.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
