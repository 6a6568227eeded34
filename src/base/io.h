/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing whole, through interruptions and short counts; and whether a file has changed. */
#ifndef SD_BASE_IO_H
#define SD_BASE_IO_H

#include "base/error.h"

#include <dirent.h>

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

/*
 * Exactly length bytes, through interruptions and short counts; sd_signals_check between calls. sd_read_upto stops at
 * the end of the file and says how many bytes it got; sd_read_some takes what one call gives, 0 at the end; SD_INPUT
 * where sd_pread_all or sd_preadv_all (IOV_MAX parts at most, which it uses up) meets the end. sd_write_counted says
 * how many bytes it wrote, also on failure. EPIPE fails silently (err->told is SD_LOST). Errors name the file; those of
 * sd_pwrite_all do not, for its file may have no name yet.
 */
SD_MUST_CHECK enum sd_result sd_read_some(int fd, void *buffer, size_t length, size_t *got, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_read_upto(int fd, void *buffer, size_t length, size_t *got, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_write_all(int fd, const void *buffer, size_t length, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_write_counted(int fd, const void *buffer, size_t length, size_t *done,
					      struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_pread_all(int fd, void *buffer, size_t length, off_t offset, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_preadv_all(int fd, struct iovec *parts, int count, off_t offset, struct sd_error *err);
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

/* A directory, by its name in another one ("." too: its position is its own then). A link is not followed. NULL: errno. */
DIR *sd_opendirat(int dir, const char *name);

/* What is open as fd, for an error: its path, or "a pipe", "a socket". */
const char *sd_fd_name(int fd, char *text, size_t size);

/*
 * For calls that read and write themselves. sd_io_again, after one failed with error: SD_OK to call again, or what the
 * failure is, "cannot WHAT" and fd's name (-1: none). sd_io_wait: until a pipe that somebody made non-blocking is ready
 * for events of poll(2). sd_io_early: SD_INPUT, the data ends early.
 */
SD_MUST_CHECK enum sd_result sd_io_again(int error, const char *what, int fd, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_io_wait(int fd, short events, struct sd_error *err);
enum sd_result sd_io_early(struct sd_error *err);

#endif
