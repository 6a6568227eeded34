/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes system calls fail, from within a process: to be loaded with LD_PRELOAD. In the environment:
 *
 *   FAULT_TOOL   the program that is meant; *: every one
 *   FAULT_CALL   the call, as in the list at the end; *: every one
 *   FAULT_AT     which one of its calls, counted from 1; 0: every other one; -1: every one
 *   FAULT_HOW    an error number; 0: what reads or writes moves one byte only; -N: it gets signal N before the call
 *   FAULT_HIT    a file that gets the process's number when it has happened first
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static long number(const char *name)
{
	const char *text = getenv(name);

	return text ? strtol(text, NULL, 10) : -1;
}

static bool is(const char *name, const char *value)
{
	const char *text = getenv(name);

	return text && (strcmp(text, value) == 0 || strcmp(text, "*") == 0);
}

static void *real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		abort();
	return function;
}

/* Whether this call is the one that goes wrong. */
static bool meant(const char *call)
{
	static atomic_long count;
	static atomic_bool told;
	long at = number("FAULT_AT"), n;
	const char *hit = getenv("FAULT_HIT");
	int error = errno, fd;

	if (!is("FAULT_TOOL", program_invocation_short_name) || !is("FAULT_CALL", call))
		return false;
	n = atomic_fetch_add(&count, 1) + 1;
	if (at > 0 ? n != at : at == 0 && n % 2 == 0)
		return false;
	fd = hit && !atomic_exchange(&told, true)
		     ? ((int (*)(const char *, int, ...))real("open"))(hit, O_CREAT | O_WRONLY | O_CLOEXEC, 0666)
		     : -1;
	if (fd >= 0) {
		dprintf(fd, "%d\n", (int)getpid());
		((int (*)(int))real("close"))(fd);
	}
	if (number("FAULT_HOW") < 0)
		raise((int)-number("FAULT_HOW"));
	errno = error;
	return number("FAULT_HOW") >= 0;
}

/* Whether it fails. */
static bool fails(const char *call)
{
	if (number("FAULT_HOW") == 0 || !meant(call))
		return false;
	errno = (int)number("FAULT_HOW");
	return true;
}

/* The length for a call that moves data; false if it fails. */
static bool allows(const char *call, size_t *length)
{
	if (!meant(call))
		return true;
	if (number("FAULT_HOW") == 0) {
		*length = *length ? 1 : 0;
		return true;
	}
	errno = (int)number("FAULT_HOW");
	return false;
}

/* A call that may fail. */
#define FAILS(type, bad, name, parameters, ...)                                                                        \
	type name parameters;                                                                                          \
	type name parameters                                                                                           \
	{                                                                                                              \
		if (fails(#name))                                                                                      \
			return bad;                                                                                    \
		return ((type(*) parameters)real(#name))(__VA_ARGS__);                                                 \
	}

/* One that may also move less than length. */
#define MOVES(name, parameters, ...)                                                                                   \
	ssize_t name parameters;                                                                                       \
	ssize_t name parameters                                                                                        \
	{                                                                                                              \
		if (!allows(#name, &length))                                                                           \
			return -1;                                                                                     \
		return ((ssize_t(*) parameters)real(#name))(__VA_ARGS__);                                              \
	}

/* Closed all the same, as Linux does it. */
int close(int fd)
{
	bool bad = fails("close");
	int error = errno, result = ((int (*)(int))real("close"))(fd);

	if (!bad)
		return result;
	errno = error;
	return -1;
}

/* The mode is only there where a file may be created; it does no harm to pass on anything else. */
#define MODE(last)                                                                                                     \
	va_list args;                                                                                                  \
	mode_t mode;                                                                                                   \
	va_start(args, last);                                                                                          \
	mode = last & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;                                              \
	va_end(args);

int open(const char *path, int flags, ...)
{
	MODE(flags)
	return fails("open") ? -1 : ((int (*)(const char *, int, ...))real("open"))(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	MODE(flags)
	return fails("openat") ? -1 : ((int (*)(int, const char *, int, ...))real("openat"))(dir, path, flags, mode);
}

MOVES(read, (int fd, void *data, size_t length), fd, data, length)
MOVES(write, (int fd, const void *data, size_t length), fd, data, length)
MOVES(pread, (int fd, void *data, size_t length, off_t offset), fd, data, length, offset)
MOVES(pwrite, (int fd, const void *data, size_t length, off_t offset), fd, data, length, offset)
MOVES(splice, (int in, off_t *from, int out, off_t *to, size_t length, unsigned flags), in, from, out, to, length,
      flags)
MOVES(copy_file_range, (int in, off_t *from, int out, off_t *to, size_t length, unsigned flags), in, from, out, to,
      length, flags)
FAILS(int, -1, fsync, (int fd), fd)
FAILS(int, -1, fallocate, (int fd, int mode, off_t offset, off_t length), fd, mode, offset, length)
FAILS(int, -1, ftruncate, (int fd, off_t length), fd, length)
FAILS(off_t, -1, lseek, (int fd, off_t offset, int whence), fd, offset, whence)
FAILS(int, -1, mkdirat, (int dir, const char *name, mode_t mode), dir, name, mode)
FAILS(int, -1, unlinkat, (int dir, const char *name, int flags), dir, name, flags)
FAILS(int, -1, renameat, (int dir, const char *from, int to_dir, const char *to), dir, from, to_dir, to)
FAILS(int, -1, renameat2, (int dir, const char *from, int to_dir, const char *to, unsigned flags), dir, from, to_dir,
      to, flags)
FAILS(int, -1, linkat, (int dir, const char *from, int to_dir, const char *to, int flags), dir, from, to_dir, to, flags)
FAILS(int, -1, mkostemp, (char *name, int flags), name, flags)
FAILS(int, -1, pipe2, (int ends[2], int flags), ends, flags)
FAILS(pid_t, -1, fork, (void))
FAILS(void *, MAP_FAILED, mmap, (void *at, size_t length, int protect, int flags, int fd, off_t offset), at, length,
      protect, flags, fd, offset)
FAILS(int, -1, memfd_create, (const char *name, unsigned flags), name, flags)
FAILS(int, -1, socket, (int domain, int type, int protocol), domain, type, protocol)
FAILS(int, -1, bind, (int fd, const struct sockaddr *name, socklen_t length), fd, name, length)
FAILS(int, -1, connect, (int fd, const struct sockaddr *name, socklen_t length), fd, name, length)
FAILS(int, -1, accept4, (int fd, struct sockaddr *name, socklen_t *length, int flags), fd, name, length, flags)
FAILS(ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), fd, message, flags)
FAILS(ssize_t, -1, recvmsg, (int fd, struct msghdr *message, int flags), fd, message, flags)
FAILS(ssize_t, -1, send, (int fd, const void *data, size_t length, int flags), fd, data, length, flags)
FAILS(ssize_t, -1, recv, (int fd, void *data, size_t length, int flags), fd, data, length, flags)
