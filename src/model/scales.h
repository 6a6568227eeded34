/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are the block scales of which weights: X_scale_inv is what X is multiplied with. */
#ifndef SD_MODEL_SCALES_H
#define SD_MODEL_SCALES_H

#include "model/manifest.h"

/* What the name of a weight's block scales ends in, as in DeepSeek's and Qwen's FP8 checkpoints. */
#define SD_SCALE_SUFFIX "_scale_inv"

/* The length of the weight's name in that of its scales; 0 where it is no name of scales. */
size_t sd_scale_stem(const char *name);

#define SD_NO_TARGET UINT32_MAX

/* For each target of a manifest: the first target of its scales, and of the weight that it is the scales of; or
 * SD_NO_TARGET. Both are NULL where there are no scales at all. */
struct sd_scales {
	uint32_t *scale, *weight;
};

/* Only memory can be missing. sd_scales_free in any case. */
SD_MUST_CHECK enum sd_result sd_scales_find(const struct sd_manifest *m, struct sd_scales *scales,
					    struct sd_error *err);
void sd_scales_free(struct sd_scales *scales);

/* The two of a target, or NULL. */
const struct sd_target *sd_scale_of(const struct sd_scales *scales, const struct sd_manifest *m, size_t target);
const struct sd_target *sd_weight_of(const struct sd_scales *scales, const struct sd_manifest *m, size_t target);

/* How many indices of dimension k of a weight one scale is for: 128 in the last two, 1 in those before. */
uint64_t sd_scale_block(uint32_t rank, uint32_t k);

/* Whether there is a scale for each block of the weight; SD_INPUT and both shapes if not. */
SD_MUST_CHECK enum sd_result sd_scales_fit(const struct sd_target *weight, const struct sd_target *scale,
					   struct sd_error *err);

/* Whether scales of this shape are one for all of their weight. */
bool sd_scale_is_single(const uint64_t *shape, uint32_t rank);

#endif
