/* SPDX-License-Identifier: Apache-2.0 */
/* How much of input that may be hostile is taken: no checkpoint meets these limits, and each can be set otherwise. */
#ifndef SD_BASE_LIMITS_H
#define SD_BASE_LIMITS_H

#include "base/error.h"

#include <stdint.h>

enum sd_limit {
	SD_LIMIT_HEADER,   /* bytes of the header of a safetensors file */
	SD_LIMIT_MANIFEST, /* bytes of the head of a stream, all of its frames together, and of the index of a directory
			    */
	SD_LIMIT_NAME,     /* bytes of a name */
	SD_LIMIT_TENSORS,  /* in a header, an index, or a manifest: there records and targets each */
	SD_LIMIT_RANK,     /* dimensions of a tensor */
	SD_LIMITS,
};

struct sd_limits {
	uint64_t most[SD_LIMITS];
	/* A source whose data ends early, or of which a file is not there, is opened too: sd_source.lack says so. For
	 * who looks at names, and not at data. */
	bool short_data;
	bool incomplete;  /* what says of itself that it is not finished is opened too */
	bool keep_dtypes; /* what a checkpoint says of the dtypes that its tensors should have does not count */
	const char *root; /* the key of the dict that counts in a file of torch.save; "": all; NULL: see there */
};

/* What holds where nobody says otherwise. Whoever takes a struct sd_limits * takes NULL for these. */
extern const struct sd_limits sd_limits_default;

/* Sets one by "NAME=VALUE". SD_USAGE where there is no such limit, and where none can be so high. */
SD_MUST_CHECK enum sd_result sd_limits_set(struct sd_limits *limits, const char *text, struct sd_error *err);

/* SD_INPUT where the value is beyond the limit. what is for the error, which goes on with the value: "the header has".
 */
SD_MUST_CHECK enum sd_result sd_limits_check(const struct sd_limits *limits, enum sd_limit limit, uint64_t value,
					     const char *what, struct sd_error *err);

/* The same for a name of length bytes. */
SD_MUST_CHECK enum sd_result sd_limits_check_name(const struct sd_limits *limits, const char *name, size_t length,
						  struct sd_error *err);

#endif
