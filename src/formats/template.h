/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint directory as the pattern for another: which tensor stands in which file, headers, index, side files. */
#ifndef SD_FORMATS_TEMPLATE_H
#define SD_FORMATS_TEMPLATE_H

#include "base/limits.h"
#include "base/names.h"
#include "formats/safetensors_header.h"
#include "flow/source.h"

struct sd_template_file {
	const char *name;
	char *header; /* with its length field */
	size_t header_length;
	struct sd_safetensors content;
};

/* {0} is empty; sd_template_close frees it. */
struct sd_template {
	const char *path;
	struct sd_source *source; /* the checkpoint; only its manifest is used */
	struct sd_template_file *files;
	size_t nfiles;
	struct sd_names file_of; /* tensors */
	const char *index_name;  /* NULL: none */
	char *index;
	size_t index_length;
	struct sd_arena arena;
};

/* Reads the header of a file that is open at its beginning. Errors do not name it; what is filled is the caller's, also
 * then. limits may be NULL. */
SD_MUST_CHECK enum sd_result sd_template_read_file(int fd, const struct sd_limits *limits,
						   struct sd_template_file *file, struct sd_error *err);

/* Reads all but the data. path is borrowed, limits may be NULL. Errors name the files. sd_template_close in any case.
 */
SD_MUST_CHECK enum sd_result sd_template_open(const char *path, const struct sd_limits *limits,
					      struct sd_template *like, struct sd_error *err);

void sd_template_close(struct sd_template *like);

/*
 * Gives the manifest the directory's side files (borrowed) in place of its own. config.json then follows what its
 * tensors are otherwise than the directory's (stream/storage.h), unless it is to be kept.
 */
SD_MUST_CHECK enum sd_result sd_template_take_side(const struct sd_template *like, struct sd_manifest *m,
						   bool keep_config, struct sd_error *err);

#endif
