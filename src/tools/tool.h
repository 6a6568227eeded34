/* SPDX-License-Identifier: Apache-2.0 */
/* What all tools share: their start, their end, and the texts that every one of them prints in the same way. */
#ifndef SD_TOOLS_TOOL_H
#define SD_TOOLS_TOOL_H

#include "base/limits.h"
#include "base/regex.h"
#include "flow/sink.h"
#include "flow/source.h"

#include <getopt.h>
#include <stdint.h>

/*
 * Names the program and takes the signals over. The first call of every main. streams: standard output is for a stream,
 * so that misuse, too, travels down the pipe as an abort, and the next program does not complain about having got
 * nothing.
 */
void sd_start(const char *program, bool streams);

/*
 * The exit status: prints err as one line ("sd-x: text", control characters escaped) unless it is told already, closes
 * stdout and checks that, and raises a signal again that had come. The last call of every main.
 */
int sd_finish(enum sd_result result, const struct sd_error *err);

/* --help: the text on stdout, exit 0. --version likewise. */
_Noreturn void sd_help(const char *text);
_Noreturn void sd_version(void);

/* Memory is out before there is a sink to tell it to: one line, an abort to standard output, exit status 4. */
_Noreturn void sd_no_memory(void);

/* The value of an option was refused: misuse, unless it was memory that was out. */
_Noreturn void sd_bad_value(const struct sd_error *err);

/* Misuse: one line and "Try 'sd-x --help' for more information.", exit 2. */
_Noreturn void sd_misuse(const char *format, ...) SD_PRINTF(1, 2);

/* Misuse that getopt_long has found (c is ? or :), with short options that begin with ":". It would tell itself, but
 * not escape what is harmful in the names of files that a shell gives it. */
_Noreturn void sd_bad_option(int c, char **argv, const struct option *longs);

/* One line on stderr, for what is worth knowing and no failure: "sd-x: text". */
void sd_note(const char *format, ...) SD_PRINTF(1, 2);

/*
 * A doubt: with strict SD_INPUT and the text, else a note.
 */
SD_MUST_CHECK enum sd_result sd_doubt(bool strict, struct sd_error *err, const char *format, ...) SD_PRINTF(3, 4);

/*
 * Tells what is odd about the names of a manifest, a line each, and marks it as told; does nothing where a program
 * before this one has done it. SD_INPUT with strict.
 */
SD_MUST_CHECK enum sd_result sd_tell_odd(struct sd_manifest *m, bool strict, struct sd_error *err);

/* Options that every tool has: their entries in the array of getopt_long, and what takes one of them, ends the program,
 * or is misuse; false for other letters. usage: the text of --help. */
#define SD_TOOL_OPTIONS                                                                                                \
	{"limit", required_argument, NULL, 'L'}, {"help", no_argument, NULL, 'h'},                                     \
	{                                                                                                              \
		"version", no_argument, NULL, 'v'                                                                      \
	}
bool sd_tool_option(struct sd_limits *limits, const char *usage, int letter, const char *value);

/* What is called before anything is written to standard error, to clear a line that is being drawn there. NULL:
 * nothing. */
void sd_before_saying(void (*clear)(void));

/* Option values: the number or size, or misuse that names the option. */
uint64_t sd_option_size(const char *option, const char *text);
uint64_t sd_option_number(const char *option, const char *text);

/* K/N with 0 <= K < N, or misuse. */
void sd_option_part(const char *option, const char *text, uint64_t *part, uint64_t *of);

/* What --limit says, or misuse. */
void sd_option_limit(struct sd_limits *limits, const char *text);

/* One more regex of an option that may be given several times, or misuse that shows what is wrong with it. */
void sd_option_regex(struct sd_regex_list *list, const char *pattern);

/* SD_USAGE if SD_HANDOFF is no word that is known. Opening stdin looks too, so that only who does without it need ask.
 */
SD_MUST_CHECK enum sd_result sd_check_lanes(struct sd_error *err);

/* Stdin as a source, whatever it is by its first bytes (a stream or a safetensors file). A terminal is misuse. */
SD_MUST_CHECK enum sd_result sd_open_stdin(const struct sd_limits *limits, struct sd_source **source,
					   struct sd_error *err);

/*
 * For who is done with the names that stdin brings: where that is a pipe, writes what was printed so far and takes what
 * comes behind them (flow/rest.h), so that under pipefail a pipeline that ends here ends well.
 */
SD_MUST_CHECK enum sd_result sd_take_rest(struct sd_source *source, struct sd_error *err);

/* Stdout as a stream. A terminal is misuse that names the fix. */
struct sd_sink *sd_stdout_stream(void);

/* --stats: which ways the data of these streams took, and what was done with checksums, on stderr. */
void sd_tell_stats(struct sd_sink *const *streams, size_t count);

/* The part of it about data that was checked; says nothing where there was none. */
void sd_tell_checked(struct sd_checksum_count checked);

#endif
