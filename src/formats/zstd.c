/* SPDX-License-Identifier: Apache-2.0 */
/* zstd in front of a source or behind a sink. */
#include "formats/zstd.h"
#include "base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

/* What comes from the pipe or the file at a time, and what is made of it. */
#define STEP (256u << 10)
/* How far, and how long, to look on for the cause of what came out wrong. */
#define LOOK_BYTES (64u << 20)
#define LOOK_SECONDS 2

struct sd_zstd {
	pthread_t thread;
	bool running;      /* neither joined nor left to itself */
	atomic_int owners; /* the thread and the caller: the last one frees */
	int in, out;       /* what the thread reads and writes */
	int own;           /* which of these two it closes: its end of the pipe */
	int file;          /* that is taken over, or -1 */
	int plain;         /* what comes out, to look on, or -1: the caller's alone */
	struct stat then;  /* of file, where it is a regular one; otherwise without a mode */
	ZSTD_DCtx *d;      /* one of the two */
	ZSTD_CCtx *c;
	size_t filled; /* of input, at the start */
	unsigned char input[STEP], output[STEP];
	/* The thread's, and everybody's once done is set. */
	struct sd_error err;
	enum sd_result result;
	atomic_bool done;
};

static enum sd_result fail(struct sd_zstd *z, size_t code)
{
	if (ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge)
		return sd_fail(
			&z->err, SD_INPUT,
			"compressed by zstd with a window of more than 128 MiB; put zstd -dc --long=31 in front");
	if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation)
		return sd_fail_memory(&z->err);
	return sd_fail(&z->err, SD_INPUT, "damaged zstd data: %s", ZSTD_getErrorName(code));
}

static enum sd_result expand(struct sd_zstd *z)
{
	ZSTD_inBuffer in = {z->input, z->filled, 0};
	size_t wants = 1;  /* 0: a frame has ended */
	bool full = false; /* there may be more to come without more input */

	for (;;) {
		ZSTD_outBuffer out = {z->output, sizeof(z->output), 0};
		enum sd_result result;

		if (in.pos == in.size && !full) {
			in.pos = 0;
			if (sd_read_some(z->in, z->input, sizeof(z->input), &in.size, &z->err) != SD_OK)
				return z->err.result;
			if (in.size == 0)
				return wants ? sd_fail(&z->err, SD_INPUT, "truncated zstd data") : SD_OK;
		}
		wants = ZSTD_decompressStream(z->d, &out, &in);
		if (ZSTD_isError(wants))
			return fail(z, wants);
		/* Not at the end of a frame: the decoder would take being asked once more for the start of another. */
		full = wants && out.pos == out.size;
		result = sd_write_all(z->out, z->output, out.pos, &z->err);
		if (result != SD_OK)
			return result;
	}
}

static enum sd_result compress(struct sd_zstd *z)
{
	ZSTD_inBuffer in = {z->input, 0, 0};
	ZSTD_EndDirective how = ZSTD_e_continue;

	for (;;) {
		ZSTD_outBuffer out = {z->output, sizeof(z->output), 0};
		size_t left;

		if (in.pos == in.size && how == ZSTD_e_continue) {
			in.pos = 0;
			if (sd_read_some(z->in, z->input, sizeof(z->input), &in.size, &z->err) != SD_OK)
				return z->err.result;
			how = in.size == 0 ? ZSTD_e_end : ZSTD_e_continue;
		}
		left = ZSTD_compressStream2(z->c, &out, &in, how);
		if (ZSTD_isError(left))
			return ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation
				       ? sd_fail_memory(&z->err)
				       : sd_fail(&z->err, SD_IO, "zstd: %s", ZSTD_getErrorName(left));
		if (sd_write_all(z->out, z->output, out.pos, &z->err) != SD_OK)
			return z->err.result;
		if (how == ZSTD_e_end && left == 0)
			return SD_OK;
	}
}

static void leave(struct sd_zstd *z)
{
	if (atomic_fetch_sub(&z->owners, 1) > 1)
		return;
	if (z->own >= 0)
		close(z->own);
	if (z->file >= 0)
		close(z->file);
	ZSTD_freeDCtx(z->d);
	ZSTD_freeCCtx(z->c);
	free(z);
}

static void *work(void *arg)
{
	struct sd_zstd *z = arg;
	int own = z->own;

	z->result = z->d ? expand(z) : compress(z);
	if (z->then.st_mode && (z->result == SD_OK || z->result == SD_INPUT)) {
		struct sd_error changed;

		if (sd_fd_unchanged(z->file, NULL, &z->then, &changed) != SD_OK) {
			z->err = changed;
			z->result = changed.result;
		}
	}
	z->own = -1;
	atomic_store(&z->done, true);
	close(own);
	leave(z);
	return NULL;
}

/* The thread and the pipe; signals are for the thread that runs the tool. */
static enum sd_result start(struct sd_zstd *z, bool expands, int *plain, struct sd_error *err)
{
	sigset_t all, before;
	int ends[2], failed;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return sd_fail_errno(err, errno, "cannot make a pipe");
	z->own = expands ? ends[1] : ends[0];
	*plain = expands ? ends[0] : ends[1];
	*(expands ? &z->out : &z->in) = z->own;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	atomic_store(&z->owners, 2);
	failed = pthread_create(&z->thread, NULL, work, z);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	z->running = !failed;
	if (!failed) {
		z->plain = expands ? fcntl(*plain, F_DUPFD_CLOEXEC, 0) : -1;
		return SD_OK;
	}
	atomic_store(&z->owners, 1);
	close(*plain);
	return sd_fail_errno(err, failed, "cannot start a thread");
}

enum sd_result sd_zstd_expand(int fd, const void *first, size_t length, struct sd_zstd **zstd, int *plain,
			      struct sd_error *err)
{
	struct sd_zstd *z = calloc(1, sizeof(*z));
	enum sd_result result = SD_OK;

	*zstd = NULL;
	if (!z) {
		close(fd);
		return sd_fail_memory(err);
	}
	z->in = z->file = fd;
	if (fstat(fd, &z->then) != 0 || !S_ISREG(z->then.st_mode))
		z->then.st_mode = 0;
	z->own = z->plain = -1;
	atomic_init(&z->owners, 1);
	memcpy(z->input, first, length);
	z->filled = length;
	z->d = ZSTD_createDCtx();
	result = z->d ? start(z, true, plain, err) : sd_fail_memory(err);
	if (result == SD_OK)
		*zstd = z;
	else
		sd_zstd_close(z);
	return result;
}

enum sd_result sd_zstd_compress(int fd, int level, struct sd_zstd **zstd, int *plain, struct sd_error *err)
{
	long threads = sysconf(_SC_NPROCESSORS_ONLN);
	enum sd_result result = SD_OK;
	struct sd_zstd *z;

	*zstd = NULL;
	if (level < 1 || level > SD_ZSTD_LEVEL_MOST)
		return sd_fail(err, SD_USAGE, "zstd has the levels 1 to %d", SD_ZSTD_LEVEL_MOST);
	z = calloc(1, sizeof(*z));
	if (!z)
		return sd_fail_memory(err);
	z->out = fd;
	z->file = z->own = z->plain = -1;
	atomic_init(&z->owners, 1);
	z->c = ZSTD_createCCtx();
	if (!z->c || ZSTD_isError(ZSTD_CCtx_setParameter(z->c, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(z->c, ZSTD_c_checksumFlag, 1)))
		result = sd_fail_memory(err);
	/* One worker or more give the same bytes; a library without threads has none. */
	if (result == SD_OK)
		(void)ZSTD_CCtx_setParameter(z->c, ZSTD_c_nbWorkers, threads > 1 ? (int)threads : 1);
	if (result == SD_OK)
		result = start(z, false, plain, err);
	if (result == SD_OK)
		*zstd = z;
	else
		sd_zstd_close(z);
	return result;
}

enum sd_result sd_zstd_wait(struct sd_zstd *z, struct sd_error *err)
{
	/* In steps, for a signal does not end the waiting. */
	while (z->running) {
		struct timespec until;

		if (sd_signals_check(err) != SD_OK)
			return SD_IO;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 50 * 1000 * 1000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		z->running = pthread_timedjoin_np(z->thread, NULL, &until) != 0;
	}
	if (z->result != SD_OK && err)
		*err = z->err;
	return z->result;
}

/* Until the thread is done: it is before the pipe comes to its end. */
static void look_on(struct sd_zstd *z)
{
	struct pollfd plain = {.fd = z->plain, .events = POLLIN};
	time_t end = time(NULL) + LOOK_SECONDS;
	char *buffer = malloc(STEP);
	ssize_t got = buffer && z->plain >= 0 ? 1 : 0;

	for (size_t seen = 0; got > 0 && seen < LOOK_BYTES && !atomic_load(&z->done) && time(NULL) <= end;
	     seen += (size_t)got)
		got = poll(&plain, 1, LOOK_SECONDS * 1000) > 0 ? read(z->plain, buffer, STEP) : 0;
	free(buffer);
}

void sd_zstd_explain(struct sd_zstd *z, struct sd_error *err)
{
	if (err->result == SD_INPUT && !err->told)
		look_on(z);
	if (atomic_load(&z->done) && z->result != SD_OK && !z->err.told)
		*err = z->err;
}

void sd_zstd_close(struct sd_zstd *z)
{
	if (!z)
		return;
	/* It may wait for data that never comes: it ends when its pipe is closed, or with the process. */
	if (z->plain >= 0)
		close(z->plain);
	if (z->running)
		pthread_detach(z->thread);
	leave(z);
}

/* ---- a source ---- */

struct expanded {
	struct sd_source source;
	struct sd_source *inner;
	struct sd_zstd *zstd;
};

static enum sd_result expanded_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
				    struct sd_error *err)
{
	return sd_source_next(((struct expanded *)source)->inner, record, extent, err);
}

static void expanded_explain(struct sd_source *source, struct sd_error *err)
{
	sd_zstd_explain(((struct expanded *)source)->zstd, err);
}

static enum sd_result expanded_finish(struct sd_source *source, struct sd_error *err)
{
	enum sd_result result = sd_source_finish(((struct expanded *)source)->inner, err);

	if (result == SD_OK)
		err->result = SD_OK;
	if (result == SD_OK || result == SD_INPUT)
		expanded_explain(source, err);
	return err->result;
}

static void expanded_close(struct sd_source *source)
{
	struct expanded *e = (struct expanded *)source;

	sd_source_close(e->inner);
	sd_zstd_close(e->zstd);
	free(e);
}

static bool expanded_sum(const struct sd_source *source, uint32_t record, uint64_t *sum)
{
	return sd_source_checksum(((const struct expanded *)source)->inner, record, sum);
}

static const struct sd_source_ops expanded_ops = {.next = expanded_next,
						  .finish = expanded_finish,
						  .close = expanded_close,
						  .explain = expanded_explain,
						  .sum = expanded_sum};

struct sd_source *sd_zstd_source(struct sd_zstd *zstd, struct sd_source *inner)
{
	struct expanded *e = calloc(1, sizeof(*e));

	if (!e) {
		sd_source_close(inner);
		sd_zstd_close(zstd);
		return NULL;
	}
	*e = (struct expanded){{.ops = &expanded_ops, .manifest = inner->manifest, .sums = inner->sums}, inner, zstd};
	return &e->source;
}
