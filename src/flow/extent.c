/* SPDX-License-Identifier: Apache-2.0 */
/* Moving the bytes of a extent: through a buffer, by splice, or by copy_file_range. */
#include "flow/extent.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

/* One system call moves at most this much, so that a signal is noticed soon. */
#define AT_ONCE (16u << 20)
#define BUFFER (16 * 1024)
/* Through a buffer of this size, files are copied twice as fast as by copy_file_range, which goes in steps of 64 KiB.
 */
#define COPY_BUFFER (256 * 1024)
/*
 * One write has at most this much: for larger ones the kernel looks for larger folios than a used machine has at hand.
 * Measured on Linux 6.18 and ext4: writes of 1 MiB go at 7 GB/s, those of 8 MiB at 0.5 GB/s, compacting memory.
 */
#define WRITE_MOST (1u << 20)

int sd_openat(int dir, const char *path, int flags, mode_t mode)
{
	int fd;

	do
		fd = openat(dir, path, flags, mode);
	while (fd < 0 && errno == EINTR && sd_signals_check(NULL) == SD_OK);
	return fd;
}

const char *sd_fd_name(int fd, char *text, size_t size)
{
	char link[64], *colon;
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, text + 2, size - 3);
	text[2 + (length > 0 ? length : 0)] = '\0';
	if (text[2] == '/')
		return text + 2;
	colon = strchr(text + 2, ':');
	if (!colon)
		return "a file";
	*colon = '\0';
	return memcpy(text, "a ", 2);
}

bool sd_fd_is_pipe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* After a system call failed: whether to call again. what is not to be done to fd, or (-1) to something. */
static enum sd_result again(int error, const char *what, int fd, struct sd_error *err)
{
	bool named = fd >= 0 && error != EBADF; /* of a standard stream that is closed */
	char name[1024];

	if (error == EINTR)
		return sd_signals_check(err);
	sd_fail_errno(err, error, "%s%s%s", what, named ? " " : "", named ? sd_fd_name(fd, name, sizeof(name)) : "");
	if (error == EPIPE && err)
		err->said = err->lost = true;
	return SD_IO;
}

/* Waits for a pipe that somebody else has made non-blocking. */
static enum sd_result wait_until(int fd, short events, struct sd_error *err)
{
	struct pollfd wait = {.fd = fd, .events = events};

	if (poll(&wait, 1, -1) >= 0)
		return SD_OK;
	return errno == EINTR ? sd_signals_check(err) : sd_fail_errno(err, errno, "cannot wait");
}

enum sd_result sd_read_some(int fd, void *buffer, size_t length, size_t *got, struct sd_error *err)
{
	*got = 0;
	for (;;) {
		ssize_t n = read(fd, buffer, length);

		if (n >= 0) {
			*got = (size_t)n;
			return SD_OK;
		}
		if ((errno == EAGAIN ? wait_until(fd, POLLIN, err) : again(errno, "cannot read", fd, err)) != SD_OK)
			return SD_IO;
	}
}

enum sd_result sd_read_upto(int fd, void *buffer, size_t length, size_t *got, struct sd_error *err)
{
	*got = 0;
	while (*got < length) {
		size_t n;
		enum sd_result result = sd_read_some(fd, (char *)buffer + *got, length - *got, &n, err);

		if (result != SD_OK)
			return result;
		if (n == 0)
			break;
		*got += n;
		if (*got < length && sd_signals_check(err) != SD_OK)
			return SD_IO;
	}
	return SD_OK;
}

/* *done counts what has been written, also where the rest could not be. */
static enum sd_result write_counted(int fd, const void *buffer, size_t length, size_t *done, struct sd_error *err)
{
	for (*done = 0; *done < length;) {
		size_t left = length - *done;
		ssize_t n = write(fd, (const char *)buffer + *done, left < WRITE_MOST ? left : WRITE_MOST);

		if (n >= 0) {
			*done += (size_t)n;
			if (*done < length && sd_signals_check(err) != SD_OK)
				return SD_IO;
		} else if ((errno == EAGAIN ? wait_until(fd, POLLOUT, err) : again(errno, "cannot write", fd, err)) !=
			   SD_OK) {
			return SD_IO;
		}
	}
	return SD_OK;
}

enum sd_result sd_write_all(int fd, const void *buffer, size_t length, struct sd_error *err)
{
	size_t done;

	return write_counted(fd, buffer, length, &done, err);
}

static enum sd_result early(struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "the data ends early: truncated, or its writer was stopped");
}

static enum sd_result pread_all(int fd, void *buffer, size_t length, off_t offset, struct sd_error *err)
{
	while (length) {
		ssize_t n = pread(fd, buffer, length, offset);

		if (n == 0)
			return early(err);
		if (n > 0) {
			buffer = (char *)buffer + n;
			offset += n;
			length -= (size_t)n;
		} else if (again(errno, "cannot read", fd, err) != SD_OK) {
			return SD_IO;
		}
	}
	return SD_OK;
}

enum sd_result sd_pwrite_all(int fd, const void *buffer, size_t length, off_t offset, struct sd_error *err)
{
	while (length) {
		ssize_t n = pwrite(fd, buffer, length < WRITE_MOST ? length : WRITE_MOST, offset);

		if (n >= 0) {
			buffer = (const char *)buffer + n;
			offset += n;
			length -= (size_t)n;
		} else if (again(errno, "cannot write", -1, err) != SD_OK) {
			return SD_IO;
		}
	}
	return SD_OK;
}

static void advance(struct sd_extent *extent, uint64_t length)
{
	extent->length -= length;
	if (extent->memory)
		extent->memory = (const char *)extent->memory + length;
	else if (extent->offset >= 0)
		extent->offset += (off_t)length;
}

enum sd_result sd_extent_read(struct sd_extent *extent, void *buffer, uint64_t length, struct sd_error *err)
{
	enum sd_result result = SD_OK;
	size_t got = length;

	if (extent->memory)
		memcpy(buffer, extent->memory, length);
	else if (extent->offset >= 0)
		result = pread_all(extent->fd, buffer, length, extent->offset, err);
	else
		result = sd_read_upto(extent->fd, buffer, length, &got, err);
	if (result != SD_OK)
		return result;
	if (got < length)
		return early(err);
	advance(extent, length);
	return SD_OK;
}

/* Writes the next bytes of the extent, which are in memory at data. On failure the extent has still moved on by what
 * was written: a frame that is cut off there can be filled up. */
static enum sd_result write_front(struct sd_extent *extent, const void *data, size_t length, int out, off_t *position,
				  struct sd_error *err)
{
	size_t done = length;
	enum sd_result result = position ? sd_pwrite_all(out, data, length, *position, err)
					 : write_counted(out, data, length, &done, err);

	if (position)
		*position += (off_t)length;
	advance(extent, done);
	return result;
}

/* Through a buffer: what always works. */
static enum sd_result copy_plainly(struct sd_extent *extent, int out, off_t *position, uint64_t length,
				   struct sd_error *err)
{
	size_t size = length < COPY_BUFFER ? length : COPY_BUFFER;
	char *buffer = malloc(size);
	enum sd_result result = buffer ? SD_OK : sd_fail_memory(err);

	while (length && result == SD_OK) {
		size_t n = length < size ? length : size;
		struct sd_extent front = *extent;

		result = sd_extent_read(&front, buffer, n, err);
		if (result == SD_OK)
			result = sd_signals_check(err);
		if (result == SD_OK)
			result = write_front(extent, buffer, n, out, position, err);
		length -= n;
	}
	free(buffer);
	return result;
}

/* The kernel's answers that mean "not between these two": then it is done plainly. */
static bool cannot(int error)
{
	return error == EINVAL || error == ENOSYS || error == EXDEV || error == EOPNOTSUPP || error == EBADF ||
	       error == EPERM;
}

typedef ssize_t transfer(int in, off_t *in_offset, int out, off_t *out_offset, size_t length);

static ssize_t by_range(int in, off_t *in_offset, int out, off_t *out_offset, size_t length)
{
	return copy_file_range(in, in_offset, out, out_offset, length, 0);
}

static ssize_t by_splice(int in, off_t *in_offset, int out, off_t *out_offset, size_t length)
{
	return splice(in, in_offset, out, out_offset, length, SPLICE_F_MOVE | SPLICE_F_MORE);
}

/*
 * Whether copy_file_range can do better than copy: on a server that has both files, or by sharing extents, which it can
 * where both places are alike within a block.
 */
static bool shares(const struct sd_extent *extent, int out, off_t position)
{
	struct statfs fs;

	if (fstatfs(out, &fs) != 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case 0x6969:     /* NFS */
	case 0xff534d42: /* CIFS */
	case 0xfe534d42: /* SMB 2 and 3 */
	case 0x00c36400: /* Ceph */
		return true;
	case 0x9123683e: /* Btrfs */
	case 0x58465342: /* XFS */
	case 0xca451a4e: /* bcachefs */
	case 0x2fc12fc1: /* ZFS */
		return (extent->offset - position) % fs.f_bsize == 0;
	default:
		return false;
	}
}

/* As much of length as the kernel takes in this way; *length is what is left when it says "not between these two". */
static enum sd_result transfer_all(transfer *way, struct sd_extent *extent, int out, off_t *position, uint64_t *length,
				   struct sd_error *err)
{
	while (*length) {
		size_t n = *length < AT_ONCE ? *length : AT_ONCE;
		off_t offset = extent->offset;
		ssize_t done = way(extent->fd, offset >= 0 ? &offset : NULL, out, position, n);

		if (done == 0)
			return early(err);
		if (done > 0) {
			advance(extent, (uint64_t)done);
			*length -= (uint64_t)done;
			/* An interrupted call that has moved something says how much, not EINTR. */
			if (sd_signals_check(err) != SD_OK)
				return SD_IO;
		} else if (cannot(errno)) {
			return SD_OK;
		} else if (errno == EAGAIN) {
			if (wait_until(extent->fd, POLLIN, err) != SD_OK || wait_until(out, POLLOUT, err) != SD_OK)
				return SD_IO;
		} else if (again(errno, "cannot copy", extent->fd, err) != SD_OK) {
			return SD_IO;
		}
	}
	return SD_OK;
}

/*
 * From a file into a pipe the bytes are copied: splice(2) would put the file's own pages there, which change with the
 * file after it has been looked at last.
 */
enum sd_result sd_extent_copy(struct sd_extent *extent, int out, off_t *position, uint64_t length, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (extent->memory)
		return write_front(extent, extent->memory, length, out, position, err);
	if (extent->offset >= 0 && position && shares(extent, out, *position))
		result = transfer_all(by_range, extent, out, position, &length, err);
	else if (extent->offset < 0)
		result = transfer_all(by_splice, extent, out, position, &length, err);
	if (result == SD_OK && length)
		result = copy_plainly(extent, out, position, length, err);
	return result;
}

struct sd_extent sd_extent_take(struct sd_extent *extent, uint64_t length)
{
	struct sd_extent first = *extent;

	first.length = length;
	advance(extent, length);
	return first;
}

enum sd_result sd_extent_skip(struct sd_extent *extent, struct sd_error *err)
{
	char buffer[BUFFER];

	if (extent->memory || extent->offset >= 0)
		advance(extent, extent->length);
	while (extent->length) {
		size_t n = extent->length < sizeof(buffer) ? extent->length : sizeof(buffer);
		enum sd_result result = sd_extent_read(extent, buffer, n, err);

		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool sd_stat_same(const struct stat *then, const struct stat *now)
{
	if (now->st_dev != then->st_dev || now->st_ino != then->st_ino || now->st_size != then->st_size ||
	    !same_time(now->st_mtim, then->st_mtim))
		return false;
	return same_time(now->st_ctim, then->st_ctim) || now->st_nlink != then->st_nlink ||
	       now->st_mode != then->st_mode || now->st_uid != then->st_uid || now->st_gid != then->st_gid;
}

enum sd_result sd_fd_unchanged(int fd, const char *name, const struct stat *then, struct sd_error *err)
{
	char text[1024];
	struct stat now;

	if (!name)
		name = sd_fd_name(fd, text, sizeof(text));
	if (fstat(fd, &now) != 0)
		return sd_fail_errno(err, errno, "%s", name);
	if (!sd_stat_same(then, &now))
		return sd_fail(err, SD_INPUT, "%s changed while it was being read", name);
	return SD_OK;
}
