/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels for vectors of 16 bytes, which every machine of today has (SSE2, NEON), left to the compiler. */
#include "move/kernels.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

typedef uint8_t v8 __attribute__((vector_size(16)));
typedef uint16_t v16 __attribute__((vector_size(16)));
typedef uint32_t v32 __attribute__((vector_size(16)));
typedef uint64_t v64 __attribute__((vector_size(16)));

#define ISA
#define VECTOR v8
#define LANES 1
#ifdef __clang__
#define MIX(type, a, b, ...) ((v8)__builtin_shufflevector((type)(a), (type)(b), __VA_ARGS__))
#else
#define MIX(type, a, b, ...) ((v8)__builtin_shuffle((type)(a), (type)(b), (type){__VA_ARGS__}))
#endif
#define LO_8(a, b) MIX(v8, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HI_8(a, b) MIX(v8, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define LO_16(a, b) MIX(v16, a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HI_16(a, b) MIX(v16, a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LO_32(a, b) MIX(v32, a, b, 0, 4, 1, 5)
#define HI_32(a, b) MIX(v32, a, b, 2, 6, 3, 7)
#define LO_64(a, b) MIX(v64, a, b, 0, 2)
#define HI_64(a, b) MIX(v64, a, b, 1, 3)
#define STORE(at, vector) memcpy(at, &(vector), sizeof(vector))
#ifdef __SSE2__
#define STREAM(at, vector) _mm_stream_si128((__m128i *)(void *)(at), (__m128i)(vector))
#define FENCE _mm_sfence()
/* A cast in parts writes through the caches, which costs more here than a tile does. */
#define READY NULL
#else
#define STREAM STORE
#define FENCE (void)0
#define READY sd_cast_ready_plain
#endif

static inline v8 load_pieces(const uint8_t *at, size_t apart)
{
	v8 piece;

	(void)apart;
	memcpy(&piece, at, sizeof(piece));
	return piece;
}

#define CAST_ROWS SD_CONVERT_RUN
#include "move/transpose_simd.h"

const struct sd_kernels sd_kernels_v128 = {
	"v128", {turn1, turn2, turn4, turn8}, {sd_decode_plain, sd_encode_plain, READY}, end};
