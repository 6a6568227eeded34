/* SPDX-License-Identifier: Apache-2.0 */
/* What all tools share. */
#include "config.h"
#include "tools/tool.h"
#include "base/signals.h"
#include "base/text.h"
#include "flow/rest.h"
#include "formats/open.h"
#include "handoff/handoff.h"
#include "model/siblings.h"
#include "pipe/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* More than anything here or in zstd uses. */
#define THREAD_STACK (1u << 20)

static const char *program = "sd";
static bool writes_stream;
static void (*clear)(void);

/* Something that can neither be read nor written, also where there is no /dev/null. */
static int open_useless(void)
{
	int fd = open("/dev/null", O_PATH);

	return fd >= 0 ? fd : epoll_create1(0);
}

/* A standard stream that is closed stays so: nothing else that is opened may get its number and what is written to it.
 */
static void fill_closed(void)
{
	int fd;

	do
		fd = open_useless();
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			exit(SD_IO);
}

static ssize_t write_stdout(void *nothing, const char *data, size_t length)
{
	(void)nothing;
	return sd_write_all(STDOUT_FILENO, data, length, NULL) == SD_OK ? (ssize_t)length : 0;
}

/* What stdio itself writes gets lost where another program has made a pipe or a terminal non-blocking. */
static void wait_for_stdout(void)
{
	FILE *waiting = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_stdout});

	if (!waiting)
		return;
	if (isatty(STDOUT_FILENO))
		setvbuf(waiting, NULL, _IOLBF, BUFSIZ);
	stdout = waiting;
}

/* Threads, those of libraries too, have as much stack as the main thread may have; that may be little. */
static void give_threads_stack(void)
{
	pthread_attr_t attr;
	size_t size;

	if (pthread_attr_init(&attr) != 0)
		return;
	if (pthread_attr_getstacksize(&attr, &size) == 0 && size < THREAD_STACK &&
	    pthread_attr_setstacksize(&attr, THREAD_STACK) == 0)
		(void)pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

void sd_start(const char *name, bool streams)
{
	program = name;
	writes_stream = streams;
	opterr = 0; /* sd_bad_option tells */
	fill_closed();
	wait_for_stdout();
	give_threads_stack();
	sd_signals_take();
}

void sd_before_saying(void (*function)(void))
{
	clear = function;
}

static void say(const char *who, const char *text)
{
	char line[4 * sizeof(((struct sd_error *)0)->text)], name[4 * sizeof(((struct sd_error *)0)->tool)];

	if (clear)
		clear();
	fprintf(stderr, "%s: %s\n", sd_text_escape(who, name, sizeof(name)), sd_text_escape(text, line, sizeof(line)));
}

/*
 * A signal to a whole pipeline may reach the program before this one first: what then looks like a truncated stream is
 * no failure to tell, if this program gets the signal a moment later.
 */
static void wait_for_signal(void)
{
	const struct timespec moment = {.tv_nsec = 30 * 1000 * 1000};

	(void)nanosleep(&moment, NULL);
}

int sd_finish(enum sd_result result, const struct sd_error *err)
{
	if (result == SD_INPUT && !err->told)
		wait_for_signal();
	if (result != SD_OK && !err->told && !sd_signals_came())
		say(err->tool[0] ? err->tool : program, err->text);
	errno = EIO; /* if an earlier write failed, nothing more is known */
	if (fflush(stdout) != 0 || ferror(stdout) || (close(STDOUT_FILENO) != 0 && errno != EBADF && errno != EINTR)) {
		int error = errno;

		if (result == SD_OK && error != EPIPE)
			fprintf(stderr, "%s: cannot write to standard output: %s\n", program, strerror(error));
		if (result == SD_OK)
			result = SD_IO;
	}
	sd_signals_again();
	return result;
}

void sd_help(const char *text)
{
	fputs(text, stdout);
	exit(sd_finish(SD_OK, NULL));
}

void sd_version(void)
{
	printf("%s (%s) %s\n", program, PACKAGE_NAME, PACKAGE_VERSION);
	exit(sd_finish(SD_OK, NULL));
}

/* To whoever reads standard output, if that is a pipe. */
static void send_early(enum sd_result result, const char *text)
{
	struct sd_error err;
	struct sd_sink *sink = sd_fd_is_pipe(STDOUT_FILENO) ? sd_stream_sink(STDOUT_FILENO, program) : NULL;

	if (!sink)
		return;
	sd_fail(&err, result, "%s", text);
	err.told = SD_TOLD;
	sink->ops->abort(sink, &err);
	sink->ops->close(sink);
}

void sd_misuse(const char *format, ...)
{
	char text[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say(program, text);
	fprintf(stderr, "Try '%s --help' for more information.\n", program);
	if (writes_stream)
		send_early(SD_USAGE, text);
	exit(SD_USAGE);
}

void sd_no_memory(void)
{
	say(program, "out of memory");
	if (writes_stream)
		send_early(SD_IO, "out of memory");
	exit(SD_IO);
}

void sd_bad_value(const struct sd_error *err)
{
	if (err->result == SD_IO)
		sd_no_memory();
	sd_misuse("%s", err->text);
}

void sd_bad_option(int c, char **argv, const struct option *longs)
{
	const char *option = argv[optind - 1];
	size_t length = strcspn(option, "=");
	unsigned begins = 0;

	for (; longs->name; longs++)
		begins += strncmp(option, "--", 2) == 0 && strncmp(longs->name, option + 2, length - 2) == 0;
	if (c == ':' && strncmp(option, "--", 2) != 0)
		sd_misuse("option '-%c' requires an argument", optopt);
	if (c == ':')
		sd_misuse("option '%s' requires an argument", option);
	if (begins > 1 && !optopt)
		sd_misuse("option '%s' is ambiguous", option);
	if (optopt && begins)
		sd_misuse("option '%.*s' takes no argument", (int)length, option);
	if (optopt)
		sd_misuse("invalid option -- '%c'", optopt);
	sd_misuse("unrecognized option '%s'", option);
}

void sd_note(const char *format, ...)
{
	char text[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say(program, text);
}

enum sd_result sd_doubt(bool strict, struct sd_error *err, const char *format, ...)
{
	struct sd_error said;
	va_list args;

	va_start(args, format);
	vsnprintf(said.text, sizeof(said.text), format, args);
	va_end(args);
	if (strict)
		return sd_fail(err, SD_INPUT, "%s", said.text);
	say(program, said.text);
	return SD_OK;
}

/* How a finding is told. */
struct doubt {
	bool strict;
	struct sd_error *err;
};

static enum sd_result tell_finding(void *user, const char *line)
{
	const struct doubt *doubt = user;

	return sd_doubt(doubt->strict, doubt->err, "%s", line);
}

enum sd_result sd_tell_odd(struct sd_manifest *m, bool strict, struct sd_error *err)
{
	struct doubt doubt = {strict, err};
	struct sd_findings findings;
	enum sd_result result;

	if (strict && sd_manifest_label_bit(m, SD_LABEL_ODD))
		return sd_fail(err, SD_INPUT,
			       "names are odd among their siblings, as a program before this one has told");
	if (sd_manifest_label_bit(m, SD_LABEL_COMPARED))
		return SD_OK;
	result = sd_siblings_check(m, &m->arena, &findings, err);
	if (result == SD_OK)
		result = sd_findings_tell(&findings, &m->arena, tell_finding, &doubt, err);
	sd_findings_free(&findings);
	/* Where there is no room for the label, the next program tells it again. */
	(void)!sd_manifest_label(m, SD_LABEL_COMPARED);
	return result;
}

uint64_t sd_option_size(const char *option, const char *text)
{
	uint64_t bytes;

	if (!sd_text_size(text, &bytes))
		sd_misuse("%s: \"%s\" is no size; write for instance 4096, 32MiB or 5GB", option, text);
	return bytes;
}

uint64_t sd_option_number(const char *option, const char *text)
{
	uint64_t number;

	if (!sd_text_number(text, &number))
		sd_misuse("%s: \"%s\" is no number", option, text);
	return number;
}

void sd_option_part(const char *option, const char *text, uint64_t *part, uint64_t *of)
{
	char first[32];
	const char *slash = strchr(text, '/');

	if (!slash || (size_t)(slash - text) >= sizeof(first))
		sd_misuse("%s: \"%s\" is not of the form K/N", option, text);
	memcpy(first, text, (size_t)(slash - text));
	first[slash - text] = '\0';
	if (!sd_text_number(first, part) || !sd_text_number(slash + 1, of) || *part >= *of)
		sd_misuse("%s: \"%s\" is not of the form K/N with 0 <= K < N", option, text);
}

void sd_option_limit(struct sd_limits *limits, const char *text)
{
	struct sd_error err;

	if (sd_limits_set(limits, text, &err) != SD_OK)
		sd_bad_value(&err);
}

bool sd_tool_option(struct sd_limits *limits, const char *usage, int letter, const char *value)
{
	if (letter == 'L')
		sd_option_limit(limits, value);
	else if (letter == 'h')
		sd_help(usage);
	else if (letter == 'v')
		sd_version();
	else
		return false;
	return true;
}

void sd_option_regex(struct sd_regex_list *list, const char *pattern)
{
	struct sd_error err;

	if (sd_regex_list_add(list, pattern, &err) != SD_OK)
		sd_bad_value(&err);
}

enum sd_result sd_check_lanes(struct sd_error *err)
{
	if (sd_handoff_mode_known())
		return SD_OK;
	return sd_fail(err, SD_USAGE, "SD_HANDOFF in the environment is \"%s\": it can be inline or wait, or not set",
		       getenv("SD_HANDOFF"));
}

enum sd_result sd_open_stdin(const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	struct stat st;
	enum sd_result result;
	int fd;

	if (isatty(STDIN_FILENO))
		sd_misuse("standard input is a terminal; put a source in front: sd-cat model/ | %s ...", program);
	if (fstat(STDIN_FILENO, &st) == 0 && S_ISDIR(st.st_mode))
		return sd_fail(err, SD_INPUT, "standard input is a directory; sd-cat DIR | %s ... reads it", program);
	fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return sd_fail_errno(err, errno, "standard input");
	result = sd_open_fd(fd, "standard input", limits, source, err);
	/* Behind what a program before this one has to say, which is the same. */
	return result == SD_OK ? sd_check_lanes(err) : result;
}

enum sd_result sd_take_rest(struct sd_source *source, struct sd_error *err)
{
	if (!sd_fd_is_pipe(STDIN_FILENO))
		return SD_OK;
	fflush(stdout);
	return sd_source_take_rest(source, err);
}

struct sd_sink *sd_stdout_stream(void)
{
	struct sd_sink *sink;

	if (isatty(STDOUT_FILENO))
		sd_misuse("standard output is a terminal and a stream is binary; go on with: %s ... | sd-pack -o FILE "
			  "(or | sd-ls to look at it)",
			  program);
	sink = sd_stream_sink(STDOUT_FILENO, program);
	if (!sink)
		sd_no_memory();
	return sink;
}

static void add(struct sd_checksum_count *sum, struct sd_checksum_count more)
{
	sum->records += more.records;
	sum->bytes += more.bytes;
}

void sd_tell_checked(struct sd_checksum_count checked)
{
	if (checked.records)
		sd_note("the checksums of %" PRIu64 " records (%" PRIu64 " bytes) were checked", checked.records,
			checked.bytes);
}

void sd_tell_stats(struct sd_sink *const *streams, size_t count)
{
	struct sd_stream_counts sum = {0};
	struct sd_checksum_count checked = {0};
	bool sums = false;

	for (size_t i = 0; i < count; i++) {
		struct sd_stream_counts one = sd_stream_sink_counts(streams[i]);

		sum.referenced += one.referenced;
		sum.shared += one.shared;
		sum.piped += one.piped;
		add(&sum.summed, one.summed);
		add(&sum.passed, one.passed);
		add(&checked, streams[i]->checked);
		sums = sums || streams[i]->sums;
	}
	sd_note("%" PRIu64 " bytes of data went as references to files, %" PRIu64 " in shared memory, %" PRIu64
		" in the pipe",
		sum.referenced, sum.shared, sum.piped);
	if (sums)
		sd_note("checksums of %" PRIu64 " records (%" PRIu64 " bytes) were made, of %" PRIu64 " (%" PRIu64
			" bytes) passed on",
			sum.summed.records, sum.summed.bytes, sum.passed.records, sum.passed.bytes);
	sd_tell_checked(checked);
}
