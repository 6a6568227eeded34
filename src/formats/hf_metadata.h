/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What NeMo AutoModel keeps beside the shards of a model that it trains, in .hf_metadata: the files that go along with
 * the weights, which tensor is to be in which file, and which dtype it is to have there. Source of the format:
 * nemo_automodel/components/checkpoint of nemo-automodel 0.7.0.
 */
#ifndef SD_FORMATS_HF_METADATA_H
#define SD_FORMATS_HF_METADATA_H

#include "formats/folder.h"
#include "formats/safetensors_read.h"

/* The folder beside the shards; and in it, {tensor: number of its file}. */
#define SD_HF_METADATA ".hf_metadata"
#define SD_HF_METADATA_FILES "fqn_to_file_index_mapping.json"

/* A side file of this name says, as the index of a directory does, in which file sd-pack is to put each tensor. */
#define SD_WISHED_INDEX "model.safetensors.index.json"

/*
 * Obeys it where a folder, whose tensors are all there, has it; notes what is cast. Errors name the file.
 */
SD_MUST_CHECK enum sd_result sd_hf_metadata_obey(struct sd_safetensors_read *reading, struct sd_folder *folder,
						 struct sd_error *err);

#endif
