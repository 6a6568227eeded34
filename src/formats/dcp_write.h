/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shards of PyTorch's distributed checkpoints (DCP) in safetensors form, planned: which rows of which tensor go to
 * which rank's file. Sources of the form: torch/distributed/checkpoint/hf_storage.py and _hf_utils.py of PyTorch 2.11,
 * and nemo_automodel/components/checkpoint of nemo-automodel 0.7.0 for what stands in .hf_metadata.
 */
#ifndef SD_FORMATS_DCP_WRITE_H
#define SD_FORMATS_DCP_WRITE_H

#include "formats/output_plan.h"

/* Whose shards are written: count ranks of `of`, from rank first (from 0) on. of is 0: no shards. */
struct sd_dcp_ranks {
	uint64_t first, count, of;
};

/* More ranks are not written for. */
#define SD_DCP_RANKS_MAX 4096

/*
 * Lays out the shards. Each tensor is cut along its first dimension as torch.chunk does; one without rows goes to rank
 * 0. A rank that gets nothing has no file. What sd_output_plan_make refuses of the whole is refused; so are dtypes that
 * PyTorch does not read from safetensors, and adapters. options: like is not looked at; files and their sizes are what
 * a consolidation is to make.
 *
 * *pieces is the manifest that the layout is of: its records are those of manifest, its targets make the tensors of the
 * shards, its side files (of rank 0) are called by their paths in the directory. It borrows from manifest; the caller
 * frees it, and the layout, also on failure. The layout's ntensors and left_out are those of the whole.
 */
SD_MUST_CHECK enum sd_result sd_dcp_plan_make(const struct sd_manifest *manifest,
					      const struct sd_output_plan_options *options,
					      const struct sd_dcp_ranks *ranks, struct sd_output_plan *layout,
					      struct sd_manifest **pieces, struct sd_error *err);

/* SD_IO where a rank, which gets no part of any tensor, has a shard in the directory from before. */
SD_MUST_CHECK enum sd_result sd_dcp_check_no_shard(const char *directory, uint64_t rank, struct sd_error *err);

/* Whether a file of this name can be a shard of so many ranks: "shard-00001-model-00001-of-00001.safetensors". */
bool sd_dcp_is_of(const char *name, uint64_t ranks);

#endif
