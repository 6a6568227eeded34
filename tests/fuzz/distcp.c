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
