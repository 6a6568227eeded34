/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels in plain C, for any machine and for what is left at the edges of the others; and the choice among all. */
#include "move/kernels.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

/* As many source rows at a time as fill a few lines of the target: what is read of them stays in the cache until it is
 * used. */
#define BAND (4 * SD_LINE)

#define TURN(name, type)                                                                                               \
	static void name(const uint8_t *source, size_t source_step, uint8_t *target, size_t target_step, size_t na,    \
			 size_t nb, bool streaming, const uint8_t *after, const struct sd_turn_cast *casts)            \
	{                                                                                                              \
		const size_t band = BAND / sizeof(type);                                                               \
                                                                                                                       \
		(void)streaming, (void)after, (void)casts;                                                             \
		for (size_t b = 0; b < nb; b += band)                                                                  \
			for (size_t a = 0; a < na; a++)                                                                \
				for (size_t i = b; i < nb && i < b + band; i++)                                        \
					memcpy(target + a * target_step + i * sizeof(type),                            \
					       source + i * source_step + a * sizeof(type), sizeof(type));             \
	}

TURN(turn1, uint8_t)
TURN(turn2, uint16_t)
TURN(turn4, uint32_t)
TURN(turn8, uint64_t)

static void end(void)
{
}

const struct sd_kernels sd_kernels_plain = {
	"plain", {turn1, turn2, turn4, turn8}, {sd_decode_plain, sd_encode_plain, NULL}, end};

#ifdef __x86_64__
bool sd_kernels_have_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const struct sd_kernels *sd_kernels_pick(const char *name)
{
#ifdef __x86_64__
	static const struct sd_kernels *const all[] = {&sd_kernels_avx512, &sd_kernels_avx2, &sd_kernels_v128,
						       &sd_kernels_plain};
	bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
	bool can[] = {avx512, __builtin_cpu_supports("avx2") && sd_kernels_have_f16c(), true, true};
#else
	static const struct sd_kernels *const all[] = {&sd_kernels_v128, &sd_kernels_plain};
	bool can[] = {true, true};
#endif
	const size_t count = sizeof(all) / sizeof(*all);

	for (size_t i = 0; name && i < count; i++)
		if (can[i] && strcmp(all[i]->name, name) == 0)
			return all[i];
	for (size_t i = 0; i < count; i++)
		if (can[i])
			return all[i];
	return &sd_kernels_plain;
}
