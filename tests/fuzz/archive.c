/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes archives, from a file and from a pipe: what is accepted makes a manifest without faults, and has the data that it says. */
#include "formats/open.h"
#include "fuzz.h"
#include "flow/source.h"

/* So much goes into a pipe that nobody reads yet. */
#define PIPE_MAX 60000

static int pipe_of(const void *data, size_t size)
{
	int ends[2];

	SURE(pipe(ends) == 0 && write(ends[1], data, size) == (ssize_t)size && close(ends[1]) == 0);
	return ends[0];
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
