/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The formats of checkpoints: one row each, those that are read and those that are only told by their name. A format is
 * one file and its row in format.c.
 */
#ifndef SD_FORMATS_FORMAT_H
#define SD_FORMATS_FORMAT_H

#include "formats/folder.h"
#include "formats/safetensors_read.h"

/* So many bytes tell what a file is. */
#define SD_FORMAT_FIRST 8

/* What a file of this name is in a checkpoint directory. */
enum sd_file_role {
	SD_ROLE_SIDE,
	SD_ROLE_WEIGHTS, /* that are read */
	SD_ROLE_INDEX,   /* of such */
	SD_ROLE_OTHER,   /* hidden, other formats' weights and indexes: nothing of ours */
};

/* Bytes to be looked at, and where they are from. */
struct sd_opened {
	int fd;
	const char *name;
	bool expanded; /* from compressed data */
	bool kept;     /* in a file, or made of one */
};

struct sd_format {
	/* How its files begin. NULL: nothing tells. */
	const char *magic;
	size_t magic_length;
	/* Opens what begins so, which is taken over, also on failure; *first has been read. NULL: it is not read. */
	enum sd_result (*open)(const struct sd_opened *in, const unsigned char first[SD_FORMAT_FIRST],
			       const struct sd_limits *limits, struct sd_source **source, struct sd_error *err);
	/* Adds the tensors of a file that begins so, input, whose path no error names. It must be a file, no pipe. */
	enum sd_result (*add)(struct sd_safetensors_read *reading, uint32_t input, struct sd_chooser *chooser,
			      struct sd_error *err);
	/* Where it is not read: what it is, and perhaps what to do: "a NumPy array". A row with open has it for what is
	 * in compressed data too, where it is not read again. */
	const char *instead;

	/* How the names of its files end (or, where there is a *, what they match), with NULL behind the last, and what
	 * they are in a directory. NULL: none. */
	const char *const *suffixes;
	enum sd_file_role role;
	/* Of SD_ROLE_OTHER: what they are where a directory has nothing else to be read. */
	enum sd_file_role second;
	/* Said of such a name where a directory has nothing that is read; NULL: nothing. */
	const char *directory;

	/* Of a directory: the file in it that says that it is of this format, and what adds its tensors to the reading.
	 * Errors name the file. */
	const char *mark;
	enum sd_result (*add_directory)(struct sd_safetensors_read *reading, struct sd_folder *folder,
					struct sd_error *err);

	/*
	 * Formats whose tensors are in several safetensors files each: whether a header is of it; what puts the tensors
	 * together; what to say of a file that is opened alone; and whether a name says that the file is one of
	 * several with the same rest of their names, which is then *rest.
	 */
	bool (*claims)(const struct sd_safetensors *header);
	struct sd_gather *(*gather)(struct sd_source *source, const struct sd_limits *limits);
	const char *alone;
	bool (*is_shard)(const char *name, const char **rest);
};

/* The format of bytes: the first row whose magic they begin with, or NULL. */
const struct sd_format *sd_format_of_bytes(const unsigned char first[SD_FORMAT_FIRST]);

/* The format of a file's name: the first row with a suffix of it, or NULL. */
const struct sd_format *sd_format_of_name(const char *name);

/* The format that a file of this name says a directory is of, or NULL. */
const struct sd_format *sd_format_of_mark(const char *name);

/* The format of what a safetensors header describes, or NULL: whole tensors. */
const struct sd_format *sd_format_of_header(const struct sd_safetensors *header);

/* What is left of the name of a file, less what tells it from others of one checkpoint; *is_shard: whether any does. */
const char *sd_format_rest(const char *name, bool *is_shard);

#endif
