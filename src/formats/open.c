/* SPDX-License-Identifier: Apache-2.0 */
/* Opens anything that holds a checkpoint. */
#include "formats/open.h"
#include "base/signals.h"
#include "formats/checkpoint.h"
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

/* What has no mark of its own: a safetensors file. */
static enum sd_result open_file(const struct sd_opened *in, const unsigned char first[FIRST],
				const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	struct sd_safetensors_read reading;
	enum sd_result result = sd_safetensors_read_begin(&reading, limits, err);

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

enum sd_result sd_open_stream(const struct sd_opened *in, const unsigned char first[FIRST],
			      const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	(void)first;

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

enum sd_result sd_open_zstd(const struct sd_opened *in, const unsigned char first[FIRST],
			    const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	struct sd_opened plain = {-1, in->name, true, in->kept};
	struct sd_source *inner, *outer;
	struct sd_zstd *zstd;
	enum sd_result result = sd_zstd_expand(in->fd, first, FIRST, &zstd, &plain.fd, err);

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
		return sd_checkpoint_open(path, limits, source, err);
	}
	result = sd_open_fd(fd, path, limits, source, err);
	if (result == SD_OK)
		(*source)->name = path;
	return result;
}
