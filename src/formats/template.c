/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint directory as the pattern for another. */
#include "formats/template.h"
#include "formats/checkpoint.h"
#include "formats/extents.h"
#include "config/config_dtypes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The checkpoint has been opened by then: the length is what it was found to be, or the file has changed. */
enum sd_result sd_template_read_file(int fd, const struct sd_limits *limits, struct sd_template_file *file,
				     struct sd_error *err)
{
	unsigned char first[SD_SAFETENSORS_LENGTH];
	uint64_t length;
	size_t got;
	enum sd_result result = sd_read_upto(fd, first, sizeof(first), &got, err);

	if (result != SD_OK)
		return result;
	length = got == sizeof(first) ? sd_safetensors_length(first) : 0;
	if (sd_limits_check(limits, SD_LIMIT_HEADER, length, "", NULL) != SD_OK)
		return sd_fail(err, SD_INPUT, "changed while it was being read");
	file->header_length = sizeof(first) + (size_t)length;
	file->header = malloc(file->header_length);
	if (!file->header)
		return sd_fail_memory(err);
	memcpy(file->header, first, sizeof(first));
	result = sd_read_upto(fd, file->header + sizeof(first), (size_t)length, &got, err);
	if (result == SD_OK && got < length)
		result = sd_fail(err, SD_INPUT, "changed while it was being read");
	if (result == SD_OK)
		result = sd_safetensors_parse(file->header + sizeof(first), (size_t)length, SD_UNKNOWN_SIZE, limits,
					      &file->content, err);
	return result;
}

static enum sd_result add_file(struct sd_template *like, const char *name, const struct sd_limits *limits,
			       struct sd_error *err)
{
	struct sd_template_file *file = &like->files[like->nfiles];
	const char *path = sd_arena_printf(&like->arena, "%s/%s", like->path, name);
	enum sd_result result;
	int fd;

	file->name = name;
	if (!path)
		return sd_fail_memory(err);
	if (!sd_file_name_good(name))
		return sd_fail(err, SD_INPUT, "%s: no file of this name is made: rename it", path);
	fd = sd_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (fd < 0)
		return sd_fail_errno(err, errno, "%s", path);
	like->nfiles++;
	result = sd_template_read_file(fd, limits, file, err);
	close(fd);
	if (result == SD_OK && sd_format_of_header(&file->content))
		result = sd_fail(err, SD_INPUT, "its tensors are in pieces, and such files are not written");
	if (result != SD_OK)
		return sd_error_at(err, "%s", path);
	for (size_t i = 0; i < file->content.ntensors; i++)
		if (sd_names_add(&like->file_of, file->content.tensors[i].name, (uint32_t)like->nfiles - 1) ==
		    SD_NO_NAME)
			return sd_fail_memory(err);
	return SD_OK;
}

static bool is_safetensors(const char *name)
{
	size_t n = strlen(name), end = strlen(".safetensors");

	return n > end && strcmp(name + n - end, ".safetensors") == 0;
}

enum sd_result sd_template_open(const char *path, const struct sd_limits *limits, struct sd_template *like,
				struct sd_error *err)
{
	struct sd_checkpoint_files list = {0};
	size_t others = 0;
	enum sd_result result = sd_checkpoint_open(path, limits, &like->source, err);

	like->path = path;
	if (result == SD_OK)
		result = sd_checkpoint_list(path, limits, &list, err);
	if (result != SD_OK)
		return result;
	like->arena = list.arena;
	for (size_t i = 0; i < list.nweights; i++)
		others += !is_safetensors(list.weights[i]);
	like->index_name = list.index_name;
	like->index = list.index;
	like->index_length = list.index_length;
	like->files = calloc(list.nweights + 1, sizeof(*like->files));
	if (!like->files)
		result = sd_fail_memory(err);
	else if (!list.nweights || others)
		result = sd_fail(err, SD_INPUT,
				 "%s is not made of safetensors files: sd-cat %s | sd-pack -o NEW/ makes them", path,
				 path);
	for (size_t i = 0; i < list.nweights && result == SD_OK; i++)
		result = add_file(like, list.weights[i], limits, err);
	/* The source is looked at again: what was read since then is of the same files. */
	return result == SD_OK ? sd_extents_still(like->source, err) : result;
}

void sd_template_close(struct sd_template *like)
{
	for (size_t i = 0; i < like->nfiles; i++) {
		free(like->files[i].header);
		sd_safetensors_free(&like->files[i].content);
	}
	free(like->files);
	free(like->index);
	sd_names_free(&like->file_of);
	sd_source_close(like->source);
	sd_arena_free(&like->arena);
	*like = (struct sd_template){0};
}

enum sd_result sd_template_take_side(const struct sd_template *like, struct sd_manifest *m, bool keep_config,
				     struct sd_error *err)
{
	const struct sd_manifest *from = like->source->manifest;

	m->nside = 0;
	for (size_t i = 0; i < from->nside; i++)
		if (!sd_manifest_add_side(m, &from->side[i]))
			return sd_fail_memory(err);
	return keep_config ? SD_OK : sd_config_dtypes_follow(m, from, err);
}
