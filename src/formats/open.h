/* SPDX-License-Identifier: Apache-2.0 */
/* Opens anything that holds a checkpoint: what it is, is told by its first bytes, or by its being a directory. */
#ifndef SD_FORMATS_OPEN_H
#define SD_FORMATS_OPEN_H

#include "formats/format.h"

/*
 * path: a safetensors file, a checkpoint directory (with or without an index), a stream, or "-" for fd 0. Errors name
 * the path, also those that its data has later: it must outlive the source. limits may be NULL.
 */
SD_MUST_CHECK enum sd_result sd_open(const char *path, const struct sd_limits *limits, struct sd_source **source,
				     struct sd_error *err);

/* The same for an open file or pipe, which is taken over; name is for errors, e.g. "standard input". */
SD_MUST_CHECK enum sd_result sd_open_fd(int fd, const char *name, const struct sd_limits *limits,
					struct sd_source **source, struct sd_error *err);

/* The rows of a stream, of compressed data and of zips, see formats/format.h. */
SD_MUST_CHECK enum sd_result sd_open_stream(const struct sd_opened *in, const unsigned char first[SD_FORMAT_FIRST],
					    const struct sd_limits *limits, struct sd_source **source,
					    struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_open_zstd(const struct sd_opened *in, const unsigned char first[SD_FORMAT_FIRST],
					  const struct sd_limits *limits, struct sd_source **source,
					  struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_open_packed(const struct sd_opened *in, const unsigned char first[SD_FORMAT_FIRST],
					    const struct sd_limits *limits, struct sd_source **source,
					    struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_open_zip(const struct sd_opened *in, const unsigned char first[SD_FORMAT_FIRST],
					 const struct sd_limits *limits, struct sd_source **source,
					 struct sd_error *err);

#endif
