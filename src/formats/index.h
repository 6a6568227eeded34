/* SPDX-License-Identifier: Apache-2.0 */
/* The index of a checkpoint in several files: model.safetensors.index.json. */
#ifndef SD_FORMATS_INDEX_H
#define SD_FORMATS_INDEX_H

#include "base/arena.h"
#include "base/limits.h"
#include "base/names.h"

#include <stdint.h>

/* Which file holds a tensor. */
struct sd_index_entry {
	const char *key, *file;
};

/* {0} is empty; sd_index_free frees it. */
struct sd_index {
	struct sd_arena arena;          /* all texts */
	struct sd_index_entry *entries; /* in the order of the file */
	size_t nentries, room;
	struct sd_names keys; /* to entries */
	const char **files; /* each once, in the order in which they are named first; entries point to the same texts */
	size_t nfiles, files_room;
};

/* Reads an index. limits may be NULL. SD_INPUT, with a line that does not name it, for whatever is not as it must be.
 */
SD_MUST_CHECK enum sd_result sd_index_parse(const char *json, size_t length, const struct sd_limits *limits,
					    struct sd_index *out, struct sd_error *err);

void sd_index_free(struct sd_index *index);

/*
 * Writes an index as transformers does: keys sorted (entries is sorted for that), indent 2. *json is malloc'd.
 */
SD_MUST_CHECK enum sd_result sd_index_write(struct sd_index_entry *entries, size_t nentries, uint64_t parameters,
					    uint64_t bytes, char **json, size_t *length, struct sd_error *err);

/*
 * The same index for tensors of other sizes: the numbers total_parameters and total_size, where its metadata has them,
 * are replaced. *out is malloc'd.
 */
SD_MUST_CHECK enum sd_result sd_index_resize(const char *json, size_t length, uint64_t parameters, uint64_t bytes,
					     char **out, size_t *out_length, struct sd_error *err);

#endif
