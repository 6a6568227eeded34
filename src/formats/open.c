/* SPDX-License-Identifier: Apache-2.0 */
/* Opens anything that holds a checkpoint. */
#include "formats/open.h"
#include "base/signals.h"
#include "formats/checkpoint.h"
#include "formats/files.h"
#include "formats/safetensors.h"
#include "formats/zstd.h"
#include "stream/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST 8

_Static_assert(FIRST == SD_STREAM_MAGIC_LENGTH && FIRST == SD_SAFETENSORS_LENGTH, "one look tells them apart");

/* What people take for a checkpoint too. */
static const struct {
	const char *bytes;
	size_t length;
	const char *what;
} others[] = {
	{"PK\x03\x04", 4, "a zip archive (PyTorch .pt, .bin or .pth?)"},
	{"\x80\x02\x8a", 3, "an old PyTorch file"},
	{"\x80\x04\x95", 3, "a Python pickle"},
	{"GGUF", 4, "a GGUF file"},
	{"\x1f\x8b", 2, "compressed by gzip: put gunzip in front"},
	{SD_ZSTD_MAGIC, SD_ZSTD_MAGIC_LENGTH, "compressed by zstd a second time: put zstd -dc in front"},
	{"\xfd"
	 "7zXZ",
	 5, "compressed by xz: put xz -dc in front"},
	{"\x93NUMPY", 6, "a NumPy array"},
	{"\x89HDF", 4, "an HDF5 file"},
	{"version ", 8, "a Git LFS pointer: the file itself is still to be fetched by git lfs pull"},
};

static bool is_text(const unsigned char first[FIRST])
{
	for (int i = 0; i < FIRST; i++)
		if ((first[i] < ' ' || first[i] > '~') && first[i] != '\n' && first[i] != '\r' && first[i] != '\t')
			return false;
	return true;
}

/* NULL: nothing that is known. */
static const char *recognise(const unsigned char first[FIRST])
{
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (memcmp(first, others[i].bytes, others[i].length) == 0)
			return others[i].what;
	return is_text(first) ? "text" : NULL;
}

static enum sd_result fail_neither(const char *name, const char *what, struct sd_error *err)
{
	static const char index[] = ".safetensors.index.json";
	size_t length = strlen(name), end = strlen(index);

	if (length > end && strcmp(name + length - end, index) == 0)
		return sd_fail(err, SD_INPUT, "%s is the index of a checkpoint, which is its directory: name that",
			       name);
	return sd_fail(err, SD_INPUT, "%s is neither a stream nor a safetensors file, but %s", name, what);
}

static enum sd_result open_file(int fd, const char *name, const unsigned char first[FIRST],
				const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	enum sd_result result;

	*source = sd_files_new(limits);
	if (!*source) {
		close(fd);
		return sd_fail_memory(err);
	}
	result = sd_files_add(*source, fd, name, first, NULL, err);
	if (result != SD_OK) {
		sd_source_close(*source);
		*source = NULL;
	}
	/* Any 8 bytes may be a length field: only after the file has failed as safetensors is it taken for something
	 * else. */
	if (result == SD_INPUT && recognise(first))
		return fail_neither(name, recognise(first), err);
	return result;
}

/* Bytes to be looked at, and where they are from. */
struct bytes {
	int fd;
	const char *name;
	bool expanded; /* from compressed data */
	bool kept;     /* in a file, or made of one */
};

static enum sd_result open_stream(const struct bytes *in, const struct sd_limits *limits, struct sd_source **source,
				  struct sd_error *err)
{
	enum sd_result result = sd_stream_open_behind(in->fd, in->kept, limits, source, err);

	/* What another stage says is told in its own words. */
	if (result != SD_OK && !err->said && !err->tool[0])
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

static enum sd_result open_any(const struct bytes *in, const struct sd_limits *limits, struct sd_source **source,
			       struct sd_error *err);

/* The source in compressed data. */
static enum sd_result open_zstd(const struct bytes *in, const unsigned char first[FIRST],
				const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	struct bytes plain = {-1, in->name, true, in->kept};
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
	return open_any(&(struct bytes){fd, name, false, !sd_fd_is_pipe(fd)}, limits, source, err);
}

static enum sd_result open_any(const struct bytes *in, const struct sd_limits *limits, struct sd_source **source,
			       struct sd_error *err)
{
	unsigned char first[FIRST];
	size_t got = 0;
	enum sd_result result = sd_read_upto(in->fd, first, sizeof(first), &got, err);

	*source = NULL;
	if (result != SD_OK) {
		close(in->fd);
		return err->said ? result : sd_error_at(err, "%s", in->name);
	}
	if (got == sizeof(first) && memcmp(first, SD_STREAM_MAGIC, sizeof(first)) == 0)
		return open_stream(in, limits, source, err);
	if (got == sizeof(first) && !in->expanded && memcmp(first, SD_ZSTD_MAGIC, SD_ZSTD_MAGIC_LENGTH) == 0)
		return open_zstd(in, first, limits, source, err);
	if (got == sizeof(first))
		return open_file(in->fd, in->name, first, limits, source, err);
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
