/* SPDX-License-Identifier: Apache-2.0 */
/* peak FILE COMMAND..: runs the command and appends "COMMAND KiB" to FILE, the highest RssAnon + RssShmem that it was seen to have. */
#include <err.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long field(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

static long memory_of(pid_t pid)
{
	char path[64], status[8192];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	n = read(fd, status, sizeof status - 1);
	close(fd);
	if (n <= 0)
		return 0;
	status[n] = '\0';
	return field(status, "RssAnon:") + field(status, "RssShmem:");
}

int main(int argc, char **argv)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	long most = 0;
	int status;
	FILE *file;
	pid_t pid;

	if (argc < 3)
		errx(2, "usage: peak FILE COMMAND..");
	pid = fork();
	if (pid < 0)
		err(4, "fork");
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		err(4, "%s", argv[2]);
	}
	/* The pipe belongs to the child alone: else a reader would not see its end, and a writer not that nobody reads. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		long now = memory_of(pid);

		if (now > most)
			most = now;
		nanosleep(&pause, NULL);
	}
	file = fopen(argv[1], "a");
	if (!file || fprintf(file, "%s %ld\n", basename(argv[2]), most) < 0 || fclose(file) != 0)
		err(4, "%s", argv[1]);
	if (WIFSIGNALED(status))
		raise(WTERMSIG(status));
	return WEXITSTATUS(status);
}
