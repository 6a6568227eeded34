/* SPDX-License-Identifier: Apache-2.0 */
/* Results and error texts: the library fills a struct sd_error and returns a result; only tools print and exit. */
#ifndef SD_BASE_ERROR_H
#define SD_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define SD_MUST_CHECK __attribute__((warn_unused_result))
#define SD_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* The values are the exit codes of every tool. */
enum sd_result {
	SD_OK = 0,
	SD_DIFFERENT = 1, /* a comparison or a search says no */
	SD_USAGE = 2,     /* wrong options or operands */
	SD_INPUT = 3,     /* bad or truncated input, a plan that cannot be */
	SD_IO = 4,        /* I/O or resources */
};

/* Who tells the user of an error. */
enum sd_told {
	SD_UNTOLD, /* nobody yet: the tool prints it */
	SD_TOLD,   /* someone has told it or will: the tool prints nothing */
	SD_LOST,   /* the same, and nobody down the pipe can be told: a broken pipe, a signal */
};

struct sd_error {
	enum sd_result result;
	enum sd_told told;
	char tool[24];   /* the tool that failed, when the failure came down the stream; else "" */
	char text[2048]; /* one line, no newline, no program name */
};

/* Fills err (which may be NULL) with one formatted line and returns result. */
enum sd_result sd_fail(struct sd_error *err, enum sd_result result, const char *format, ...) SD_PRINTF(3, 4);

/* The same with SD_IO, followed by ": " and the system's text for the error number. */
enum sd_result sd_fail_errno(struct sd_error *err, int error, const char *format, ...) SD_PRINTF(3, 4);

/* SD_IO, "out of memory". */
enum sd_result sd_fail_memory(struct sd_error *err);

/*
 * Puts "WHERE: " in front of the text, e.g. a file name; returns err's result. Does nothing to an error that is told or
 * that another tool's words came with.
 */
enum sd_result sd_error_at(struct sd_error *err, const char *format, ...) SD_PRINTF(2, 3);

/* The same for what the failure is about, a tensor for instance, unless the text has it already. */
void sd_error_about(struct sd_error *err, const char *what);

#endif
