/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs all files of a target's corpus in the place of a fuzzer: a test case for each that has a name of its own, and
 * one for all those that are named by their hash.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static int wanted(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* The file as it is, in memory of just that size, so that every byte too far is seen. */
static void run_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;

	SURE(fd >= 0 && fstat(fd, &st) == 0, "%s", name);
	data = malloc((size_t)st.st_size);
	SURE((data || !st.st_size) && read(fd, data, (size_t)st.st_size) == st.st_size, "%s", name);
	close(fd);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
}

static bool is_hash(const char *name)
{
	return strspn(name, "0123456789abcdef") == strlen(name);
}

/* Run as .../test-NAME: for the corpus NAME. */
int main(int argc, char **argv)
{
	const char *target = strrchr(argv[0], '-');
	char path[4096];
	struct dirent **files;
	int count, dir, named = 0;

	SURE(argc == 1 && target);
	snprintf(path, sizeof(path), FUZZ_CORPUS "/%s", target + 1);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	count = scandir(path, &files, wanted, alphasort);
	SURE(dir >= 0 && count > 0, "%s", path);
	for (int i = 0; i < count; i++)
		named += !is_hash(files[i]->d_name);
	printf("1..%d\n", named + 1);
	for (int i = 0; i < count; i++) {
		printf("# %s\n", files[i]->d_name);
		fflush(stdout);
		run_file(dir, files[i]->d_name);
		if (!is_hash(files[i]->d_name))
			printf("ok - %s\n", files[i]->d_name);
		free(files[i]);
	}
	printf("ok - the other %d files of the corpus\n", count - named);
	free(files);
	close(dir);
	return 0;
}
