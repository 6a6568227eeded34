/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes DCP's own form: a directory of .metadata, __0_0.distcp and __1_0.distcp. The input is all three, the lengths of
 * the first two in two bytes each in front.
 */
#include "formats/open.h"
#include "fuzz.h"
#include "flow/source.h"

#include <fcntl.h>
#include <sys/stat.h>

/* Nobody waits for more than that of one input. */
#define DATA_MAX (UINT64_C(16) << 20)

static char directory[64];

static void remove_all(void)
{
	static const char *const names[] = {".metadata", "__0_0.distcp", "__1_0.distcp"};

	for (int i = 0; i < 3; i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		unlink(path);
	}
	rmdir(directory);
}

static void make_directory(void)
{
	const char *shm = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	snprintf(directory, sizeof(directory), "%s/sd-fuzz-XXXXXX", shm);
	SURE(mkdtemp(directory));
	atexit(remove_all);
}

static void put_file(const char *name, const uint8_t *data, size_t size)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	SURE(fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size) && close(fd) == 0);
}

/* Takes all data of the source: each record has as much as the manifest says, or is refused. */
static void take_all(struct sd_source *source)
{
	struct sd_error err = {0};
	enum sd_result result = SD_OK;
	char *buffer = malloc(DATA_MAX);

	SURE(buffer);
	for (uint32_t i = 0; i < source->manifest->nrecords && result == SD_OK; i++) {
		uint64_t left = source->manifest->records[i].bytes;
		struct sd_extent extent = {.length = 1};

		if (left > DATA_MAX)
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

/* The part that the next two bytes count. */
static size_t part(const uint8_t **data, size_t *size)
{
	size_t length;

	if (*size < 2)
		return 0;
	length = (*data)[0] | (size_t)(*data)[1] << 8;
	*data += 2;
	*size -= 2;
	return length < *size ? length : *size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sd_source *source = NULL;
	struct sd_error err = {0};
	size_t metadata = part(&data, &size), first = part(&data, &size);
	enum sd_result result;

	if (!directory[0])
		make_directory();
	metadata = metadata < size ? metadata : size;
	first = first < size - metadata ? first : size - metadata;
	put_file(".metadata", data, metadata);
	put_file("__0_0.distcp", data + metadata, first);
	put_file("__1_0.distcp", data + metadata + first, size - metadata - first);
	result = sd_open(directory, NULL, &source, &err);
	if (result != SD_OK) {
		sure_of_failure(result, &err);
		return 0;
	}
	SURE(sd_manifest_check(source->manifest, &err) == SD_OK, "%s", err.text);
	take_all(source);
	sd_source_close(source);
	return 0;
}
