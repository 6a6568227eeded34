/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes allocations fail, from within a process: to be loaded with LD_PRELOAD. In the environment:
 *
 *   MEMORY_TOOL   the program that is meant
 *   MEMORY_AT     which one of its allocations fails, counted from 1
 *   MEMORY_FROM   set: all that come later fail too
 *   MEMORY_HIT    a file that is made when it has happened
 *
 * The C library's own functions that allocate (strdup, getline, opendir) come here too. Counted is from main on: what
 * libraries do before that (CUDA's crashes where an allocation fails) is not ours.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What glibc has behind its names. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);

static atomic_bool begun;

static bool fails(void)
{
	static atomic_long count;
	static atomic_int meant; /* 0: not known yet, 1: no, 2: yes */
	const char *tool, *at, *hit;
	long n, due;

	if (!atomic_load(&begun))
		return false;
	n = atomic_fetch_add(&count, 1) + 1;
	if (atomic_load(&meant) == 0) {
		tool = getenv("MEMORY_TOOL");
		atomic_store(&meant,
			     tool && program_invocation_short_name && strcmp(tool, program_invocation_short_name) == 0
				     ? 2
				     : 1);
	}
	at = getenv("MEMORY_AT");
	if (atomic_load(&meant) == 1 || !at)
		return false;
	due = strtol(at, NULL, 10);
	if (n < due || (n > due && !getenv("MEMORY_FROM")))
		return false;
	hit = getenv("MEMORY_HIT");
	if (n == due && hit) {
		long fd = syscall(SYS_open, hit, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);

		if (fd >= 0)
			syscall(SYS_close, fd);
	}
	errno = ENOMEM;
	return true;
}

typedef int main_function(int, char **, char **);
static main_function *real_main;

static int counted_main(int argc, char **argv, char **env)
{
	atomic_store(&begun, true);
	return real_main(argc, argv, env);
}

typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
start_function __libc_start_main;
int __libc_start_main(main_function *main, int argc, char **argv, void (*init)(void), void (*fini)(void),
		      void (*rtld_fini)(void), void *stack_end)
{
	start_function *start = (start_function *)dlsym(RTLD_NEXT, "__libc_start_main");

	real_main = main;
	return start(counted_main, argc, argv, init, fini, rtld_fini, stack_end);
}

void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
	return fails() ? NULL : __libc_realloc(p, size);
}

void *reallocarray(void *p, size_t count, size_t size);
void *reallocarray(void *p, size_t count, size_t size)
{
	size_t bytes;

	return fails() || __builtin_mul_overflow(count, size, &bytes) ? NULL : __libc_realloc(p, bytes);
}

void *memalign(size_t align, size_t size);
void *memalign(size_t align, size_t size)
{
	return fails() ? NULL : __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	return memalign(align, size);
}

int posix_memalign(void **p, size_t align, size_t size)
{
	void *made = memalign(align, size);

	if (!made)
		return ENOMEM;
	*p = made;
	return 0;
}
