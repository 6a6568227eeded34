/* SPDX-License-Identifier: Apache-2.0 */
/* Small files, read whole. */
#include "formats/file.h"
#include "flow/extent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* A whole file of a known size, malloc'd. */
static enum sd_result read_open(int fd, size_t size, void **data, struct sd_error *err)
{
	enum sd_result result;
	size_t got = 0;

	*data = malloc(size + 1);
	if (!*data)
		return sd_fail_memory(err);
	result = sd_read_upto(fd, *data, size, &got, err);
	if (result == SD_OK && got < size)
		result = sd_fail(err, SD_INPUT, "changed while it was being read");
	if (result != SD_OK) {
		free(*data);
		*data = NULL;
	}
	return result;
}

enum sd_result sd_file_read(const char *path, uint64_t limit, void **data, struct stat *st, struct sd_error *err)
{
	enum sd_result result;
	int fd;

	*data = NULL;
	/* What is no file is not even opened. */
	if (stat(path, st) != 0)
		return sd_fail_errno(err, errno, "%s", path);
	if (!S_ISREG(st->st_mode))
		return SD_OK;
	fd = sd_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (fd < 0 || fstat(fd, st) != 0) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return sd_fail_errno(err, error, "%s", path);
	}
	if (!S_ISREG(st->st_mode) || (uint64_t)st->st_size > limit) {
		close(fd);
		return SD_OK;
	}
	result = read_open(fd, (size_t)st->st_size, data, err);
	if (result == SD_OK)
		result = sd_fd_unchanged(fd, path, st, err);
	else if (!err->told)
		sd_error_at(err, "%s", path);
	close(fd);
	if (result != SD_OK) {
		free(*data);
		*data = NULL;
	}
	return result;
}
