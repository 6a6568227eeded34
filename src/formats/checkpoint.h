/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint directory: safetensors files, with an index or without, and side files. */
#ifndef SD_FORMATS_CHECKPOINT_H
#define SD_FORMATS_CHECKPOINT_H

#include "stream/source.h"

/* Opens a directory as a source. Errors name the directory's files by their paths. */
SD_UNUSED_RESULT enum sd_result sd_checkpoint_open(const char *path, struct sd_source **source, struct sd_error *err);

/* What a file of this name is in a checkpoint directory. */
enum sd_role {
	SD_ROLE_SIDE,
	SD_ROLE_WEIGHTS, /* safetensors */
	SD_ROLE_INDEX,   /* of safetensors files */
	SD_ROLE_OTHER,   /* hidden, other formats' weights and indexes: nothing of ours */
};

enum sd_role sd_checkpoint_role(const char *name);

#endif
