/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share: what must hold of whatever input was accepted, and open files from bytes. */
#ifndef SD_TESTS_FUZZ_H
#define SD_TESTS_FUZZ_H

#include "flow/source.h"
#include "model/manifest.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that does not hold is a finding, as a crash is. */
#define SURE(condition, ...)                                                                                           \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s:", __FILE__, __LINE__, #condition);                         \
			fprintf(stderr, " " __VA_ARGS__);                                                              \
			putc('\n', stderr);                                                                            \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* What a failure has to be: bad input, whatever came, never a lack of memory; and it says something. */
static inline void sure_of_failure(enum sd_result result, const struct sd_error *err)
{
	SURE(result == err->result, "%d, but %d", result, err->result);
	SURE(result == SD_INPUT || result == SD_USAGE, "%s", err->text);
	SURE(err->text[0] != '\0');
}

#define TAKEN_MAX (UINT64_C(16) << 20)

/* Takes all data of the source: each record has as much as the manifest says, or is refused. A large one ends it. */
static inline void take_all(struct sd_source *source)
{
	struct sd_error err = {0};
	enum sd_result result = SD_OK;
	char *buffer = malloc(TAKEN_MAX);

	SURE(buffer);
	for (uint32_t i = 0; i < source->manifest->nrecords && result == SD_OK; i++) {
		uint64_t left = source->manifest->records[i].bytes;
		struct sd_extent extent = {.length = 1};

		if (left > TAKEN_MAX)
			break;
		while (result == SD_OK && extent.length) {
			result = sd_source_next(source, i, &extent, &err);
			if (result != SD_OK)
				break;
			SURE(extent.length <= left && (extent.length || !left));
			left -= extent.length;
			if (extent.length)
				result = sd_extent_read(&extent, buffer, extent.length, &err);
			extent.length = left;
		}
	}
	if (result != SD_OK)
		sure_of_failure(result, &err);
	free(buffer);
}

/* An unnamed file with these bytes, to be read from its beginning. */
static inline int file_of(const void *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	SURE(fd >= 0 && write(fd, data, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

/* What is in such a file, malloc'd. */
static inline char *bytes_of(int fd, size_t *size)
{
	off_t end = lseek(fd, 0, SEEK_END);
	char *bytes = malloc((size_t)end + 1);

	SURE(end >= 0 && bytes && pread(fd, bytes, (size_t)end, 0) == end);
	*size = (size_t)end;
	return bytes;
}

/* The input as a C string, malloc'd; NULL where it is none. */
static inline char *text_of(const uint8_t *data, size_t size)
{
	char *text;

	if (memchr(data, '\0', size))
		return NULL;
	text = malloc(size + 1);
	SURE(text);
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

#endif
