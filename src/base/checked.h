/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on sizes that came from input. Every function returns false if the result overflows. */
#ifndef SD_BASE_CHECKED_H
#define SD_BASE_CHECKED_H

#include "base/error.h"

#include <stdint.h>

SD_MUST_CHECK static inline bool sd_add(uint64_t a, uint64_t b, uint64_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

SD_MUST_CHECK static inline bool sd_mul(uint64_t a, uint64_t b, uint64_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* Rounds n up to a multiple of step, a power of two. */
SD_MUST_CHECK static inline bool sd_round_up(uint64_t n, uint64_t step, uint64_t *rounded)
{
	if (!sd_add(n, step - 1, rounded))
		return false;
	*rounded &= ~(step - 1);
	return true;
}

#endif
