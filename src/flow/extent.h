/* SPDX-License-Identifier: Apache-2.0 */
/* A extent: a run of a record's bytes, wherever it lies, and the ways to move it. */
#ifndef SD_FLOW_EXTENT_H
#define SD_FLOW_EXTENT_H

#include "base/error.h"

#include <stdint.h>
#include <sys/stat.h>
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

/* The first length bytes (length <= extent->length) as a extent of their own, which is to be taken before the rest. */
struct sd_extent sd_extent_take(struct sd_extent *extent, uint64_t length);

/* Leaves the rest of the extent. */
SD_MUST_CHECK enum sd_result sd_extent_skip(struct sd_extent *extent, struct sd_error *err);

/*
 * The plain ways underneath: exactly length bytes, through interruptions and short counts; sd_signals_check between
 * calls. sd_read_upto stops at the end of the file and says how many bytes it got; sd_read_some takes what one call
 * gives, 0 at the end. EPIPE fails silently (err->said). All but sd_pwrite_all, whose files may have names that nobody
 * knows, say what they could not read or write.
 */
SD_MUST_CHECK enum sd_result sd_read_some(int fd, void *buffer, size_t length, size_t *got, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_read_upto(int fd, void *buffer, size_t length, size_t *got, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_write_all(int fd, const void *buffer, size_t length, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_pwrite_all(int fd, const void *buffer, size_t length, off_t offset,
					   struct sd_error *err);

/* openat(2), through interruptions: -1 with EINTR only if a signal ends the program. */
int sd_openat(int dir, const char *path, int flags, mode_t mode);

/*
 * Whether a file is what it was when it was looked at: the same one, of the same size and times. The time of the last
 * change of any kind counts too, for the other one can be set; but not where that was a change of its links, its owner
 * or its mode.
 */
bool sd_stat_same(const struct stat *then, const struct stat *now);

/* SD_INPUT if what is open as fd, and called name (NULL: as sd_fd_name has it), is no longer what it was then. */
SD_MUST_CHECK enum sd_result sd_fd_unchanged(int fd, const char *name, const struct stat *then, struct sd_error *err);

/* Whether what is open as fd is a pipe or a socket: another program is at its other end. */
bool sd_fd_is_pipe(int fd);

/* What is open as fd, for an error: its path, or "a pipe", "a socket". */
const char *sd_fd_name(int fd, char *text, size_t size);

#endif
