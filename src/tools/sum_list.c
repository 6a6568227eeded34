/* SPDX-License-Identifier: Apache-2.0 */
/* The list of checksums that sd-ls --checksum prints, read. */
#include "tools/sum_list.h"

#include "flow/extent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No name is longer; a list is known by its first line. */
#define FIRST_LINE (64u << 10)

static bool read_sum(const char *text, uint64_t *sum)
{
	char *end;

	if (strspn(text, "0123456789abcdef") != 16 || text[16])
		return false;
	*sum = strtoull(text, &end, 16);
	return true;
}

/* Takes name, dtype, shape, bytes, steps and the sum of a line; a column more may be there, the source. */
static enum sd_result take_line(struct sum_list *list, const char *path, char *line, struct sd_error *err)
{
	struct sum_line wanted = {.there = false};
	uint32_t number;
	char *columns[7] = {0}, *at = sd_arena_text(&list->arena, line, strlen(line));
	size_t n = 0;

	if (!at)
		return sd_fail_memory(err);
	while (at && n < 7)
		columns[n++] = strsep(&at, "\t");
	if (n < 6 || !read_sum(columns[5], &wanted.sum))
		return sd_fail(err, SD_INPUT, "%s, line %zu: not what sd-ls --checksum prints", path, list->n + 1);
	wanted.name = columns[0];
	wanted.dtype = columns[1];
	wanted.shape = columns[2];
	if (!sd_array_grow(&list->lines, list->n, &list->room, sizeof(*list->lines)))
		return sd_fail_memory(err);
	number = sd_names_add(&list->names, wanted.name, (uint32_t)list->n);
	if (number == SD_NO_NAME)
		return sd_fail_memory(err);
	if (number != list->n)
		return sd_fail(err, SD_INPUT, "%s: %s is in it twice: is it the list of several sources?", path,
			       wanted.name);
	list->lines[list->n++] = wanted;
	return SD_OK;
}

/* Whether a line has a checksum in its sixth column. */
static bool has_sum(const char *line, size_t length)
{
	const char *end = memchr(line, '\n', length), *at = line;
	char sum[17] = "";
	uint64_t value;

	if (!end)
		return false;
	for (int i = 0; i < 5; i++) {
		at = memchr(at, '\t', (size_t)(end - at));
		if (!at++)
			return false;
	}
	if (end - at < 16 || (end - at > 16 && at[16] != '\t'))
		return false;
	memcpy(sum, at, 16);
	return read_sum(sum, &value);
}

enum sd_result sum_list_is(const char *path, bool *is, struct sd_error *err)
{
	struct sd_error ignored;
	struct stat stat;
	char *line = malloc(FIRST_LINE);
	int fd = line ? sd_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0) : -1;
	size_t got = 0;

	*is = fd >= 0 && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) &&
	      sd_read_upto(fd, line, FIRST_LINE, &got, &ignored) == SD_OK && has_sum(line, got);
	if (fd >= 0)
		close(fd);
	free(line);
	return line ? SD_OK : sd_fail_memory(err);
}

void sum_list_free(struct sum_list *list)
{
	sd_names_free(&list->names);
	free(list->lines);
	sd_arena_free(&list->arena);
}

enum sd_result sum_list_read(struct sum_list *list, const char *path, struct sd_error *err)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	enum sd_result result = SD_OK;

	if (!file)
		return sd_fail_errno(err, errno, "%s", path);
	errno = 0;
	while (result == SD_OK && (length = getline(&line, &room, file)) > 0) {
		line[length - (line[length - 1] == '\n')] = '\0';
		result = take_line(list, path, line, err);
	}
	if (result == SD_OK && (ferror(file) || errno == ENOMEM))
		result = sd_fail_errno(err, errno, "%s", path);
	free(line);
	fclose(file);
	if (result == SD_OK && !list->n)
		result = sd_fail(err, SD_INPUT, "%s is empty", path);
	return result;
}
