/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PyTorch's distributed checkpoints (DCP) in safetensors form: each file has pieces of tensors, and says in its
 * metadata where in their tensors they begin. How large a tensor is, is said nowhere: it goes as far as its pieces do.
 */
#ifndef SD_FORMATS_DCP_SAFETENSORS_H
#define SD_FORMATS_DCP_SAFETENSORS_H

#include "formats/safetensors_read.h"

/* The entries of a header that say so. */
#define SD_DCP_INFO_KEY "DCP_SHARDING_INFO"
#define SD_DCP_VERSION_KEY "DCP_VERSION"
#define SD_DCP_VERSION "1.0"

/* Whether a header says so. */
bool sd_dcp_claims(const struct sd_safetensors *header);

/* Whether this is the name of one rank's file; *rest is what the ranks' files of a checkpoint have alike. */
bool sd_dcp_is_shard(const char *name, const char **rest);

/*
 * Puts the tensors of a checkpoint together: each piece becomes a record, with its box of the tensor as the target.
 * Pieces of no elements are left out, and of equal ones all but the first. SD_INPUT and a line with the tensor, the box
 * and the files for holes, overlaps, and replicas that differ. NULL when memory is out.
 */
struct sd_gather *sd_dcp_gather(struct sd_source *source, const struct sd_limits *limits);

/*
 * Reads DCP_SHARDING_INFO of a header: begin gets for each of its tensors the index of its first element, `rank`
 * numbers in the arena. SD_INPUT where the text is not as it must be or does not fit the tensors.
 */
SD_MUST_CHECK enum sd_result sd_dcp_parse(const char *info, const struct sd_safetensors *header, struct sd_arena *arena,
					  const uint64_t **begin, struct sd_error *err);

#endif
