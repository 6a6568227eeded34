/* SPDX-License-Identifier: Apache-2.0 */
/* Opens anything that holds a checkpoint. */
#include "formats/open.h"
#include "base/signals.h"
#include "formats/archive.h"
#include "formats/checkpoint.h"
#include "formats/unpack.h"
#include "formats/zstd.h"
#include "pipe/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST SD_FORMAT_FIRST

_Static_assert(FIRST == SD_STREAM_MAGIC_LENGTH && FIRST == SD_SAFETENSORS_LENGTH, "one look tells them apart");

static enum sd_result fail_neither(const char *name, const char *what, struct sd_error *err)
{
	const struct sd_format *format = sd_format_of_name(name);
	const char *slash = strrchr(name, '/');

	if (sd_format_of_mark(slash ? slash + 1 : name))
		return sd_fail(err, SD_INPUT, "%s tells of a checkpoint, which is its directory: name that", name);
	if (format && format->role == SD_ROLE_INDEX)
		return sd_fail(err, SD_INPUT, "%s is the index of a checkpoint, which is its directory: name that",
			       name);
	return sd_fail(err, SD_INPUT, "%s is neither a stream nor a safetensors file, but %s", name, what);
}

static enum sd_result check_no_archive(const char *name, const struct sd_limits *limits, struct sd_error *err)
{
	return limits && limits->dir ? sd_fail(err, SD_INPUT, "%s is no archive, for which --dir is", name) : SD_OK;
}

/* What has no mark of its own: a safetensors file. */
static enum sd_result open_file(const struct sd_opened *in, const unsigned char first[FIRST],
				const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	struct sd_safetensors_read reading;
	enum sd_result result = check_no_archive(in->name, limits, err);

	if (result == SD_OK)
		result = sd_safetensors_read_begin(&reading, limits, err);
	if (result != SD_OK) {
		close(in->fd);
		return result;
	}
	result = sd_safetensors_read_add(&reading, in->fd, in->name, first, NULL, true, err);
	if (result == SD_OK)
		result = sd_extents_values(reading.source, err);
	sd_safetensors_read_free(&reading);
	if (result == SD_OK)
		*source = reading.source;
	else
		sd_source_close(reading.source);
	return result;
}

static bool is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

enum sd_result sd_open_stream(const struct sd_opened *in, const unsigned char first[FIRST],
			      const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	(void)first;
	if (check_no_archive(in->name, limits, err) != SD_OK) {
		close(in->fd);
		return err->result;
	}

	enum sd_result result = sd_stream_open_behind(in->fd, in->kept, limits, source, err);

	if (result != SD_OK)
		sd_error_at(err, "%s", in->name);
	if (result == SD_OK && (*source)->lack) {
		struct sd_source *s = *source;

		s->lack = sd_arena_printf(&s->manifest->arena, "%s: %s", in->name, s->lack);
		if (!s->lack) {
			sd_source_close(s);
			*source = NULL;
			return sd_fail_memory(err);
		}
	}
	return result;
}

static enum sd_result open_any(const struct sd_opened *in, const struct sd_limits *limits, struct sd_source **source,
			       struct sd_error *err);

/* Data that is compressed, and is read only where an archive is in it. */
enum sd_result sd_open_packed(const struct sd_opened *in, const unsigned char first[FIRST],
			      const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	enum sd_result result = sd_archive_open(in, first, FIRST, limits, source, err);

	if (result != SD_OK || *source)
		return result;
	close(in->fd);
	return fail_neither(in->name, sd_format_of_bytes(first)->instead, err);
}

enum sd_result sd_open_zip(const struct sd_opened *in, const unsigned char first[FIRST], const struct sd_limits *limits,
			   struct sd_source **source, struct sd_error *err)
{
	enum sd_result result = sd_archive_open(in, first, FIRST, limits, source, err);

	return result != SD_OK || *source ? result : open_file(in, first, limits, source, err);
}

enum sd_result sd_open_zstd(const struct sd_opened *in, const unsigned char first[FIRST],
			    const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	struct sd_opened plain = {-1, in->name, true, in->kept};
	struct sd_source *inner, *outer;
	struct sd_zstd *zstd;
	enum sd_result result = SD_OK;

	/* An archive in a file is gone through more than once. */
	if (is_file(in->fd))
		result = sd_archive_open(in, first, FIRST, limits, source, err);
	if (result != SD_OK || *source)
		return result;
	result = sd_zstd_expand(in->fd, first, FIRST, &zstd, &plain.fd, err);
	if (result != SD_OK)
		return sd_error_at(err, "%s", in->name);
	result = open_any(&plain, limits, &inner, err);
	if (result != SD_OK) {
		sd_zstd_explain(zstd, err);
		sd_zstd_close(zstd);
		return err->result;
	}
	outer = sd_zstd_source(zstd, inner);
	*source = outer;
	return outer ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_open_fd(int fd, const char *name, const struct sd_limits *limits, struct sd_source **source,
			  struct sd_error *err)
{
	return open_any(&(struct sd_opened){fd, name, false, !sd_fd_is_pipe(fd)}, limits, source, err);
}

/* The byte behind those that were read from a pipe, which stays there; -1: nobody can tell. */
static int peek(int fd)
{
	unsigned char byte;
	int ends[2], got = -1;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	if (tee(fd, ends[1], 1, 0) == 1 && read(ends[0], &byte, 1) == 1)
		got = byte;
	close(ends[0]);
	close(ends[1]);
	return got;
}

/* A tar begins with a name. What might be the length of a header, too, has a { behind it, and that of a tar nothing. */
static bool may_be_tar(const struct sd_opened *in, const struct sd_format *format, const unsigned char first[FIRST])
{
	if (!sd_tar_may_begin(first) || (format && (format->open || format->add)))
		return false;
	return is_file(in->fd) || sd_safetensors_length(first) > SD_SAFETENSORS_HEADER_MAX || peek(in->fd) == 0;
}

/* *source is NULL where it is no tar: of a pipe, what no safetensors file has was read then. */
static enum sd_result open_tar(const struct sd_opened *in, const unsigned char first[FIRST],
			       const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	unsigned char block[SD_TAR_BLOCK];
	size_t got = 0;
	enum sd_result result;

	if (is_file(in->fd))
		return sd_archive_open(in, first, FIRST, limits, source, err);
	memcpy(block, first, FIRST);
	result = sd_read_upto(in->fd, block + FIRST, sizeof(block) - FIRST, &got, err);
	if (result == SD_OK && got == sizeof(block) - FIRST && sd_tar_is_header(block))
		return sd_archive_open(in, block, sizeof(block), limits, source, err);
	if (result != SD_OK)
		close(in->fd);
	return result;
}

static enum sd_result open_any(const struct sd_opened *in, const struct sd_limits *limits, struct sd_source **source,
			       struct sd_error *err)
{
	unsigned char first[FIRST];
	const struct sd_format *format;
	size_t got = 0;
	enum sd_result result = sd_read_upto(in->fd, first, sizeof(first), &got, err);

	*source = NULL;
	if (result != SD_OK) {
		close(in->fd);
		return sd_error_at(err, "%s", in->name);
	}
	if (got == sizeof(first)) {
		format = sd_format_of_bytes(first);
		if (may_be_tar(in, format, first)) {
			result = open_tar(in, first, limits, source, err);
			if (result != SD_OK || *source)
				return result;
		}
		if (format && format->open && !(in->expanded && format->instead))
			return format->open(in, first, limits, source, err);
		result = open_file(in, first, limits, source, err);
		/* Any 8 bytes may be a length field: only after the file has failed as safetensors is it taken for
		 * something else. */
		return result == SD_INPUT && format && !format->add ? fail_neither(in->name, format->instead, err)
								    : result;
	}
	if (got == 0 && !in->expanded && sd_fd_is_pipe(in->fd))
		sd_fail(err, SD_INPUT, "%s is empty: nothing came from the program before this one", in->name);
	else
		fail_neither(in->name, got ? "shorter than 8 bytes" : "empty", err);
	close(in->fd);
	return SD_INPUT;
}

/* Whether a path that is not there looks like OWNER/NAME on the Hub: one slash, and no such folder. */
static bool looks_remote(const char *path)
{
	const char *slash = strchr(path, '/');
	char owner[256];

	if (!slash || slash == path || !slash[1] || strchr(slash + 1, '/') || *path == '.' ||
	    snprintf(owner, sizeof(owner), "%.*s", (int)(slash - path), path) >= (int)sizeof(owner))
		return false;
	return access(owner, F_OK) != 0;
}

enum sd_result sd_open(const char *path, const struct sd_limits *limits, struct sd_source **source,
		       struct sd_error *err)
{
	enum sd_result result;
	struct stat st;
	int fd;

	*source = NULL;
	if (strcmp(path, "-") == 0) {
		fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return sd_fail_errno(err, errno, "standard input");
		return sd_open_fd(fd, "standard input", limits, source, err);
	}
	fd = sd_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0); /* a FIFO waits for its writer */
	if (fd < 0 && errno == EINTR)
		return sd_signals_check(err);
	if (fd < 0 || fstat(fd, &st) != 0) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		sd_fail_errno(err, error, "%s", path);
		return error == ENOENT && looks_remote(path)
			       ? sd_fail(err, SD_IO,
					 "there is no %s; if that is on the Hub: hf download %s --local-dir %s", path,
					 path, strchr(path, '/') + 1)
			       : SD_IO;
	}
	if (S_ISDIR(st.st_mode)) {
		close(fd);
		if (check_no_archive(path, limits, err) != SD_OK)
			return err->result;
		return sd_checkpoint_open(path, limits, source, err);
	}
	result = sd_open_fd(fd, path, limits, source, err);
	if (result == SD_OK)
		(*source)->name = path;
	return result;
}
