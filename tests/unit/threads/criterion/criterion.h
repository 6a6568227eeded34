/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of Criterion as the unit tests use, for ThreadSanitizer: Criterion itself keeps what its processes share
 * where that has its shadow, and does not start. A process a test; TAP. Found in place of the true one by check-threads
 * alone.
 */
#ifndef SD_TESTS_CRITERION_H
#define SD_TESTS_CRITERION_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

struct cr_test {
	const char *suite, *name;
	void (*run)(void);
	unsigned timeout; /* seconds */
	struct cr_test *next;
};

/* Without its header: one of the tests has another wait. */
pid_t waitpid(pid_t pid, int *status, int options);

#define CR_SKIPPED 77

/* What the tests of one program share; each has one source file. */
static struct cr_test *cr_tests, **cr_last = &cr_tests;
static bool cr_failed;

/* Before and after each test of a suite. */
static struct cr_hooks {
	const char *suite;
	void (*init)(void), (*fini)(void);
} cr_hooks;

#define TestSuite(group, ...)                                                                                          \
	__attribute__((constructor)) static void cr_hook_##group(void)                                                 \
	{                                                                                                              \
		cr_hooks = (struct cr_hooks){.suite = #group, __VA_ARGS__};                                            \
	}                                                                                                              \
	struct cr_hooks

/* A constructor adds each, in the order in which they stand. */
#define Test(group, title, ...)                                                                                        \
	static void cr_##group##_##title(void);                                                                        \
	__attribute__((constructor)) static void cr_add_##group##_##title(void)                                        \
	{                                                                                                              \
		static struct cr_test test = {                                                                         \
			.suite = #group, .name = #title, .run = cr_##group##_##title, __VA_ARGS__};                    \
                                                                                                                       \
		*cr_last = &test;                                                                                      \
		cr_last = &test.next;                                                                                  \
	}                                                                                                              \
	static void cr_##group##_##title(void)

__attribute__((format(printf, 4, 5))) static inline void cr_fails(const char *file, int line, const char *what,
								  const char *format, ...)
{
	va_list args;

	cr_failed = true;
	printf("# %s:%d: %s: ", file, line, what);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

#define CR_IF(not_so, what, then, ...)                                                                                 \
	do {                                                                                                           \
		if (not_so) {                                                                                          \
			cr_fails(__FILE__, __LINE__, what, " " __VA_ARGS__);                                           \
			then;                                                                                          \
		}                                                                                                      \
	} while (0)
#define CR_END (fflush(stdout), _exit(1))

#define cr_expect(so, ...) CR_IF(!(so), #so, (void)0, __VA_ARGS__)
#define cr_expect_eq(a, b, ...) CR_IF(!((a) == (b)), #a " == " #b, (void)0, __VA_ARGS__)
#define cr_expect_leq(a, b, ...) CR_IF(!((a) <= (b)), #a " <= " #b, (void)0, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) CR_IF(!((a) >= (b)), #a " >= " #b, (void)0, __VA_ARGS__)
#define cr_expect_null(a, ...) CR_IF((a) != NULL, #a " is NULL", (void)0, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) CR_IF(strcmp(a, b) != 0, #a " is " #b, (void)0, __VA_ARGS__)

#define cr_assert(so, ...) CR_IF(!(so), #so, CR_END, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) CR_IF(!((a) == (b)), #a " == " #b, CR_END, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) CR_IF(!((a) != (b)), #a " != " #b, CR_END, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) CR_IF(!((a) < (b)), #a " < " #b, CR_END, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) CR_IF(!((a) > (b)), #a " > " #b, CR_END, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) CR_IF(!((a) <= (b)), #a " <= " #b, CR_END, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) CR_IF(!((a) >= (b)), #a " >= " #b, CR_END, __VA_ARGS__)
#define cr_assert_null(a, ...) CR_IF((a) != NULL, #a " is NULL", CR_END, __VA_ARGS__)
#define cr_assert_not_null(a, ...) CR_IF((a) == NULL, #a " is not NULL", CR_END, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) CR_IF(strcmp(a, b) != 0, #a " is " #b, CR_END, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) CR_IF(memcmp(a, b, size) != 0, #a " is " #b, CR_END, __VA_ARGS__)
#define cr_assert_float_eq(a, b, near, ...) CR_IF(fabs((double)((a) - (b))) > (near), #a " == " #b, CR_END, __VA_ARGS__)
#define cr_assert_fail(...) CR_IF(true, "reached", CR_END, __VA_ARGS__)
#define cr_skip_test(...) _exit(CR_SKIPPED)
#define cr_log_info(...) ((void)0)

static int cr_run(const struct cr_test *test)
{
	bool hooked = cr_hooks.suite && strcmp(cr_hooks.suite, test->suite) == 0;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(test->timeout ? 10 * test->timeout : 600); /* it is that much slower */
		if (hooked && cr_hooks.init)
			cr_hooks.init();
		test->run();
		if (hooked && cr_hooks.fini)
			cr_hooks.fini();
		/* By exit, which tells of what ThreadSanitizer has found. */
		exit(cr_failed);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

int main(void)
{
	int count = 0, failed = 0;

	for (const struct cr_test *test = cr_tests; test; test = test->next) {
		int status = cr_run(test);
		bool skipped = WIFEXITED(status) && WEXITSTATUS(status) == CR_SKIPPED;

		failed += status != 0 && !skipped;
		printf("%s %d - %s::%s%s\n", status == 0 || skipped ? "ok" : "not ok", ++count, test->suite, test->name,
		       skipped ? " # SKIP" : "");
	}
	printf("1..%d\n", count);
	return failed != 0;
}

#endif
