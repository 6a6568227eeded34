/* SPDX-License-Identifier: Apache-2.0 */
/* Directories as folders of files. */
#include "formats/folder.h"
#include "formats/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum sd_result sd_folder_path(const struct sd_folder *folder, struct sd_arena *arena, const char *name,
			      const char **path, struct sd_error *err)
{
	const char *dir = folder->path;
	size_t length = strlen(dir);

	while (length > 1 && dir[length - 1] == '/')
		length--;
	*path = sd_arena_printf(arena, "%.*s%s%s", (int)length, dir, dir[length - 1] == '/' ? "" : "/", name);
	return *path ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_folder_fail(const struct sd_folder *folder, const char *name, struct sd_error *err,
			      const char *format, ...)
{
	struct sd_arena arena = {0};
	char text[1024];
	const char *path;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (sd_folder_path(folder, &arena, name, &path, err) == SD_OK)
		sd_fail(err, SD_INPUT, "%s%s", path, text);
	sd_arena_free(&arena);
	return err->result;
}

static enum sd_result list_all(DIR *dir, const char *path, sd_folder_take *take, void *user, struct sd_error *err)
{
	enum sd_result result = SD_OK;
	struct dirent *entry;

	for (errno = 0; result == SD_OK && (entry = readdir(dir)); errno = 0)
		result = take(user, entry->d_name, err);
	return result == SD_OK && errno ? sd_fail_errno(err, errno, "%s", path) : result;
}

static enum sd_result directory_list(struct sd_folder *folder, const char *below, sd_folder_take *take, void *user,
				     struct sd_error *err)
{
	struct sd_arena arena = {0};
	const char *path = folder->path;
	enum sd_result result = below ? sd_folder_path(folder, &arena, below, &path, err) : SD_OK;
	DIR *dir = result == SD_OK ? opendir(path) : NULL;

	if (dir)
		result = list_all(dir, path, take, user, err);
	else if (result == SD_OK && !(below && (errno == ENOENT || errno == ENOTDIR)))
		result = sd_fail_errno(err, errno, "%s", path);
	if (dir)
		closedir(dir);
	sd_arena_free(&arena);
	return result;
}

static bool directory_has(struct sd_folder *folder, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	int length = snprintf(path, sizeof(path), "%s/%s", folder->path, name);

	return length > 0 && (size_t)length < sizeof(path) && (stat(path, &st) == 0 || errno != ENOENT);
}

/* The path lives as long as what watches it. */
static enum sd_result directory_read(struct sd_folder *folder, const char *name, uint64_t limit,
				     struct sd_source *source, void **data, uint64_t *size, struct sd_error *err)
{
	struct sd_arena arena = {0};
	struct stat st;
	const char *path;
	enum sd_result result = sd_folder_path(folder, source ? &source->manifest->arena : &arena, name, &path, err);

	if (result == SD_OK)
		result = sd_file_read(path, limit, data, &st, err);
	if (result == SD_OK)
		*size = (uint64_t)st.st_size;
	if (result == SD_OK && *data && source)
		result = sd_extents_watch(source, path, &st, err);
	sd_arena_free(&arena);
	return result;
}

static enum sd_result directory_open(struct sd_folder *folder, const char *name, struct sd_source *source,
				     uint32_t *input, struct sd_error *err)
{
	const char *path;
	enum sd_result result = sd_folder_path(folder, &source->manifest->arena, name, &path, err);
	int fd;

	if (result != SD_OK)
		return result;
	fd = sd_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (fd < 0)
		return sd_fail_errno(err, errno, "%s", path);
	result = sd_extents_input(source, fd, path, input, err);
	if (result != SD_OK || sd_extents_at(source, *input)->seekable)
		return result;
	sd_extents_drop(source);
	return sd_fail(err, SD_INPUT, "%s is not a file", path);
}

static const struct sd_folder_ops directory_ops = {
	.list = directory_list, .has = directory_has, .read = directory_read, .open = directory_open};

struct sd_folder sd_folder_directory(const char *path)
{
	return (struct sd_folder){.ops = &directory_ops, .path = path};
}
