/* SPDX-License-Identifier: Apache-2.0 */
/* An extent: a run of a record's bytes, wherever it lies, and the ways to move it. */
#ifndef SD_FLOW_EXTENT_H
#define SD_FLOW_EXTENT_H

#include "base/io.h"

#include <stdint.h>
#include <sys/types.h>

/*
 * Three places: in memory (memory set); in a file at an offset (fd, offset >= 0); or the next bytes of fd (offset -1),
 * a pipe for instance. The next bytes of fd must be taken, whole and in order, before the source is asked for more.
 */
struct sd_extent {
	uint64_t length;
	const void *memory;
	int fd;
	off_t offset;
};

/* All functions take bytes from the front: extent's length shrinks and its place moves on. SD_INPUT if the data ends
 * early. */

/* Reads exactly length bytes (length <= extent->length). */
SD_MUST_CHECK enum sd_result sd_extent_read(struct sd_extent *extent, void *buffer, uint64_t length,
					    struct sd_error *err);

/*
 * Writes exactly length bytes to out: at *position, which moves on (a seekable file), or where out stands (position
 * NULL): by splice(2) from pipes, by copy_file_range(2) where files may share what they have, and through a
 * buffer elsewhere.
 */
SD_MUST_CHECK enum sd_result sd_extent_copy(struct sd_extent *extent, int out, off_t *position, uint64_t length,
					    struct sd_error *err);

/* The first length bytes (length <= extent->length) as an extent of their own, which is to be taken before the rest. */
struct sd_extent sd_extent_take(struct sd_extent *extent, uint64_t length);

/* Leaves the rest of the extent. */
SD_MUST_CHECK enum sd_result sd_extent_skip(struct sd_extent *extent, struct sd_error *err);

#endif
