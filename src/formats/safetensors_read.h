/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files, one or many, being read into one source. */
#ifndef SD_FORMATS_SAFETENSORS_READ_H
#define SD_FORMATS_SAFETENSORS_READ_H

#include "base/limits.h"
#include "base/names.h"
#include "formats/extents.h"
#include "formats/safetensors_header.h"

/*
 * Chooses among the tensors of a file. wants: whether this one is meant; *doubt may be set to a line, which lives as
 * long as the source, for one that is an error where nobody leaves it out.
 */
struct sd_chooser {
	bool (*wants)(struct sd_chooser *chooser, const char *key, const char **doubt);
};

/* The tensors of a file: its header, whose tensors' bytes are counted from offset data of the input on. */
struct sd_header {
	const struct sd_safetensors *content;
	uint32_t input;
	uint64_t data;
	struct sd_chooser *chooser; /* NULL: all are meant */
};

/* Puts tensors together from pieces in several files. */
struct sd_gather {
	/* Takes what a header has, or nothing of it on failure. Errors don't name the file. */
	enum sd_result (*add)(struct sd_gather *gather, const struct sd_header *header, struct sd_error *err);
	/* After the last header: adds all records to the source. whole: keys of records that are there already. */
	enum sd_result (*finish)(struct sd_gather *gather, const struct sd_names *whole, struct sd_error *err);
	void (*free)(struct sd_gather *gather);
	size_t count; /* pieces so far */
};

struct sd_safetensors_read {
	struct sd_source *source; /* of sd_extents_new, the caller's */
	struct sd_limits limits;
	struct sd_names whole; /* keys of tensors that came whole, and their records */
	struct sd_gather *gather;
	size_t nfiles;
};

/* A source of no files, which takes no more of each than limits (may be NULL). Only memory can be missing. */
SD_MUST_CHECK enum sd_result sd_safetensors_read_begin(struct sd_safetensors_read *reading,
						       const struct sd_limits *limits, struct sd_error *err);

/*
 * Adds a file or pipe, whose first 8 bytes have been read: reads and checks its header, adds its tensors to the
 * manifest in the order of the file, and keeps of the manifest's metadata what this file has too. path is copied. fd is
 * taken over, also on failure. chooser: NULL takes all tensors. alone: it is the only one, so it must have tensors
 * whole. Errors name the path.
 */
SD_MUST_CHECK enum sd_result sd_safetensors_read_add(struct sd_safetensors_read *reading, int fd, const char *path,
						     const unsigned char first[8], struct sd_chooser *chooser,
						     bool alone, struct sd_error *err);

/* The same for an input of the reading that nothing was read of, the last one: it is dropped where it has no tensors.
 */
SD_MUST_CHECK enum sd_result sd_safetensors_read_input(struct sd_safetensors_read *reading, uint32_t input,
						       const unsigned char first[8], struct sd_chooser *chooser,
						       bool alone, struct sd_error *err);

/* For a format's own parser: adds a tensor, as sd_extents_add_made does. SD_INPUT where its key is there already. */
SD_MUST_CHECK enum sd_result sd_safetensors_read_add_made(struct sd_safetensors_read *reading,
							  const struct sd_record *record,
							  const struct sd_target *target, uint32_t input,
							  uint64_t offset, struct sd_made *made, struct sd_error *err);

/* Adds to what is odd about the source. Only memory can be missing. */
SD_MUST_CHECK enum sd_result sd_safetensors_read_note(struct sd_safetensors_read *reading, struct sd_error *err,
						      const char *format, ...) SD_PRINTF(3, 4);

/* How many tensors and pieces of such there are so far. */
size_t sd_safetensors_read_count(const struct sd_safetensors_read *reading);

/* After the last file. */
SD_MUST_CHECK enum sd_result sd_safetensors_read_finish(struct sd_safetensors_read *reading, struct sd_error *err);

/* Frees all but the source. */
void sd_safetensors_read_free(struct sd_safetensors_read *reading);

#endif
