/* SPDX-License-Identifier: Apache-2.0 */
/* Safety limits on input that may be hostile. No released checkpoint reaches them, and --limit changes each. */
#ifndef SD_BASE_LIMITS_H
#define SD_BASE_LIMITS_H

#include "base/error.h"

#include <stdint.h>

enum sd_limit {
	SD_LIMIT_HEADER,   /* bytes of the header of a safetensors file */
	SD_LIMIT_MANIFEST, /* bytes of the head of a stream, all of its frames together, and of the index of a directory
			    */
	SD_LIMIT_NAME,     /* bytes of a name */
	SD_LIMIT_TENSORS,  /* in a header or an index; records, and targets, in a manifest */
	SD_LIMIT_RANK,     /* dimensions of a tensor */
	SD_LIMIT_MEMBERS,  /* of an archive */
	SD_LIMIT_RATIO,    /* plain bytes of one compressed byte in an archive */
	SD_LIMIT_SPOOL,    /* bytes of compressed members that are kept in memory, as they are not read in order */
	SD_LIMITS,
};

struct sd_limits {
	uint64_t most[SD_LIMITS];
	/* The folder of an archive that counts; NULL: the only one with a checkpoint. */
	const char *dir;
	/* Also open a source whose data ends early or lacks a file; sd_source.lack says so. For tools that read only
	 * names. */
	bool short_data;
	/* Read the safetensors files that a directory has, whatever its index and the names of its shards say. */
	bool no_index;
	bool parts;        /* a directory with only some parts of a checkpoint is opened: others come from elsewhere */
	bool incomplete;   /* what says of itself that it is not finished is opened too */
	bool keep_dtypes;  /* what a checkpoint says of the dtypes that its tensors should have does not count */
	bool skip_objects; /* what a pickle names and nobody knows is left out, and so is what it would make */
	bool allow_expand; /* views of a small storage may be as large as they like */
	const char *root;  /* the key of the dict that counts in a file of torch.save; "": all; NULL: see there */
};

/* The defaults. A function that takes a struct sd_limits * uses these for NULL. */
extern const struct sd_limits sd_limits_default;

/* Sets a limit by "NAME=VALUE". SD_USAGE if there is no such limit or the value is too high for it. */
SD_MUST_CHECK enum sd_result sd_limits_set(struct sd_limits *limits, const char *text, struct sd_error *err);

/* SD_INPUT if the value exceeds the limit. The error begins with what ("the header has") and the value. */
SD_MUST_CHECK enum sd_result sd_limits_check(const struct sd_limits *limits, enum sd_limit limit, uint64_t value,
					     const char *what, struct sd_error *err);

/* The same for a name of length bytes. */
SD_MUST_CHECK enum sd_result sd_limits_check_name(const struct sd_limits *limits, const char *name, size_t length,
						  struct sd_error *err);

#endif
