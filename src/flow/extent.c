/* SPDX-License-Identifier: Apache-2.0 */
/* Moving the bytes of an extent: through a buffer, by splice, or by copy_file_range. */
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
		result = sd_pread_all(extent->fd, buffer, length, extent->offset, err);
	else
		result = sd_read_upto(extent->fd, buffer, length, &got, err);
	if (result != SD_OK)
		return result;
	if (got < length)
		return sd_io_early(err);
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
					 : sd_write_counted(out, data, length, &done, err);

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
			return sd_io_early(err);
		if (done > 0) {
			advance(extent, (uint64_t)done);
			*length -= (uint64_t)done;
			/* An interrupted call that has moved something says how much, not EINTR. */
			if (sd_signals_check(err) != SD_OK)
				return SD_IO;
		} else if (cannot(errno)) {
			return SD_OK;
		} else if (errno == EAGAIN) {
			if (sd_io_wait(extent->fd, POLLIN, err) != SD_OK || sd_io_wait(out, POLLOUT, err) != SD_OK)
				return SD_IO;
		} else if (sd_io_again(errno, "cannot copy", extent->fd, err) != SD_OK) {
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
