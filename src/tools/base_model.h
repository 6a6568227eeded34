/* SPDX-License-Identifier: Apache-2.0 */
/* The base model of an adapter, where it is on this machine. */
#ifndef SD_TOOLS_BASE_MODEL_H
#define SD_TOOLS_BASE_MODEL_H

#include "model/manifest.h"

/*
 * The config.json of the model that adapter_config.json names as base_model_name_or_path: a directory, or a model in
 * the cache of huggingface_hub. A name that leads to none, or to what is no such file, has none: file->data is NULL
 * then. The file lives in the arena, under its path. SD_IO when memory is out.
 */
SD_MUST_CHECK enum sd_result sd_base_model_config(const struct sd_manifest *in, struct sd_arena *arena,
						  struct sd_side_file *file, struct sd_error *err);

#endif
