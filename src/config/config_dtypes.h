/* SPDX-License-Identifier: Apache-2.0 */
/* How weights are stored, as config.json tells it to whoever loads them: a plan that changes the one changes the other.
 */
#ifndef SD_CONFIG_CONFIG_DTYPES_H
#define SD_CONFIG_CONFIG_DTYPES_H

#include "model/manifest.h"

/*
 * to is what a plan has made of from. Where that changes how the weights are stored, to's config.json is replaced, by a
 * text in to's arena:
 *
 * - the last quantised weight is gone: quantization_config goes, at any depth, and the dtypes are corrected; so do
 *   hf_quant_config.json, quantize_config.json and quant_config.json, which say no more than it;
 * - single weights have become block FP8, or are it no longer: quantization_config says "fp8" in blocks of 128 x 128,
 *   and names the modules that are not quantised. One that is there already gets a new list of these, nothing else;
 * - without quantised weights, most elements have another dtype than before: the dtypes are corrected.
 *
 * dtype (in older files torch_dtype) becomes the one that most elements have; in nested objects only where it named
 * what most had before, or a quantised dtype. All other bytes stay. Without a config.json nothing happens. SD_INPUT
 * where it would have to change and is no JSON.
 */
SD_MUST_CHECK enum sd_result sd_config_dtypes_follow(struct sd_manifest *to, const struct sd_manifest *from,
						     struct sd_error *err);

#endif
