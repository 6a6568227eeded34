/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of elements with AVX2 and F16C. */
#ifdef __x86_64__
#ifndef __clang__
#pragma GCC target("avx2,f16c")
#endif
#include <immintrin.h>

#define COUNT sd_statistics_count_avx2
#define DECODE sd_decode_avx2
#define LESSER(a, b) _mm256_min_ps(a, b)
#define LESSER_WIDE(a, b) _mm256_min_pd(a, b)
#define GREATER(a, b) _mm256_max_ps(a, b)
#define GREATER_WIDE(a, b) _mm256_max_pd(a, b)
#define FLOATS_OF_F16(at) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(at)))
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#endif
#include "move/statistics_simd.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
