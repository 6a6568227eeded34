/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of weights that have become quantised as compressed-tensors stores them. */
#ifndef SD_MODEL_QUANT_CONFIG_H
#define SD_MODEL_QUANT_CONFIG_H

#include "move/quantise.h"
#include "model/manifest.h"

/*
 * Gives the manifest's config.json, if there is one, the quantization_config with which Transformers and vLLM load such
 * weights: one group of weights of this kind, activations as they are, and in ignore all modules of matrices that are
 * not quantised. SD_INPUT where the file is no JSON.
 */
SD_MUST_CHECK enum sd_result sd_quant_config_add(struct sd_manifest *m, enum sd_quantiser kind, struct sd_error *err);

#endif
