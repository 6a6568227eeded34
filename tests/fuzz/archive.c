/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes archives, from a file and from a pipe: what is accepted makes a manifest without faults, and has the data that it says. */
#include "formats/open.h"
#include "fuzz.h"
#include "flow/source.h"

/* Nobody waits for more than that of one input. */
#define DATA_MAX (UINT64_C(1) << 20)
/* So much goes into a pipe that nobody reads yet. */
#define PIPE_MAX 60000

static int pipe_of(const void *data, size_t size)
{
	int ends[2];

	SURE(pipe(ends) == 0 && write(ends[1], data, size) == (ssize_t)size && close(ends[1]) == 0);
	return ends[0];
}

/* Takes the data of one record; false: it is too much, or failed. */
static bool take_record(struct sd_source *source, uint32_t record, char *buffer, struct sd_error *err)
{
	uint64_t bytes = source->manifest->records[record].bytes;
	struct sd_extent part;
	enum sd_result result;

	for (uint64_t done = 0;; done += part.length) {
		uint64_t length;

		result = sd_source_next(source, record, &part, err);
		if (result == SD_OK && part.length == 0) {
			SURE(done == bytes);
			return true;
		}
		length = part.length;
		SURE(result != SD_OK || (done <= bytes && length <= bytes - done));
		if (result == SD_OK && length > DATA_MAX)
			return false;
		if (result == SD_OK)
			result = sd_extent_read(&part, buffer, length, err);
		if (result != SD_OK) {
			sure_of_failure(result, err);
			return false;
		}
		part.length = length;
	}
}

static void take_all(struct sd_source *source)
{
	struct sd_error err = {0};
	char *buffer = malloc(DATA_MAX);
	bool whole = true;
	enum sd_result result;

	SURE(buffer);
	for (uint32_t i = 0; i < source->manifest->nrecords && whole; i++)
		whole = source->manifest->records[i].bytes <= DATA_MAX && take_record(source, i, buffer, &err);
	result = whole ? sd_source_finish(source, &err) : SD_OK;
	if (result != SD_OK)
		sure_of_failure(result, &err);
	free(buffer);
}

static void read_archive(int fd)
{
	struct sd_source *source = NULL;
	struct sd_error err = {0};
	enum sd_result result = sd_open_fd(fd, "fuzz", NULL, &source, &err);

	if (result != SD_OK) {
		sure_of_failure(result, &err);
		return;
	}
	SURE(sd_manifest_check(source->manifest, &err) == SD_OK, "%s", err.text);
	for (size_t i = 0; i < source->manifest->nside; i++)
		SURE(sd_file_name_good(source->manifest->side[i].name), "%s", source->manifest->side[i].name);
	take_all(source);
	sd_source_close(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_archive(file_of(data, size));
	if (size <= PIPE_MAX)
		read_archive(pipe_of(data, size));
	return 0;
}
