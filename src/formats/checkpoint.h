/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint directory: safetensors files, with an index or without, and side files. */
#ifndef SD_FORMATS_CHECKPOINT_H
#define SD_FORMATS_CHECKPOINT_H

#include "formats/folder.h"
#include "formats/format.h"

/* Opens a directory as a source. Errors name the directory's files by their paths. limits may be NULL. */
SD_MUST_CHECK enum sd_result sd_checkpoint_open(const char *path, const struct sd_limits *limits,
						struct sd_source **source, struct sd_error *err);

/* The files that hold the weights, and the index that says so. All is the caller's: names in the arena, index malloc'd.
 */
struct sd_checkpoint_files {
	struct sd_arena arena;
	const char **weights; /* natural order */
	size_t nweights;
	const char *index_name; /* NULL: none */
	char *index;
	size_t index_length;
};

/* Lists a directory that sd_checkpoint_open takes. files is filled only if that went well. */
SD_MUST_CHECK enum sd_result sd_checkpoint_list(const char *path, const struct sd_limits *limits,
						struct sd_checkpoint_files *files, struct sd_error *err);

/* Reads the checkpoint in a folder into a reading that has begun. */
SD_MUST_CHECK enum sd_result sd_checkpoint_read(struct sd_folder *folder, struct sd_safetensors_read *reading,
						struct sd_error *err);

/* Whether there is anything in a folder that could be read. */
bool sd_checkpoint_is_there(struct sd_folder *folder);

/* Adds a file of a folder as a side file of the name as, unless it is no file or too large for one. Errors name it. */
SD_MUST_CHECK enum sd_result sd_checkpoint_add_side(struct sd_source *source, struct sd_folder *folder,
						    const char *name, const char *as, struct sd_error *err);

/* Whether a name says that there are other files of the same checkpoint: "model-00001-of-00002.safetensors". */
bool sd_checkpoint_is_shard(const char *name);

/* What a file of this name is in a checkpoint directory. */
enum sd_file_role sd_checkpoint_role(const char *name);

/*
 * Stands in a directory while one checkpoint takes another's place there. Files that no index names are a checkpoint
 * whichever of them are there; with one that says that it is the first of two, and is alone, they are none. It is
 * empty, so that who takes every *.safetensors fails, too. Its six letters are drawn anew each time: a name that
 * input could have is not ours to make or to remove.
 */
#define SD_CHECKPOINT_GUARD "unfinished-%.6s-00001-of-00002.safetensors"

#endif
