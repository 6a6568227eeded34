/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of names that people type, in the notation of bash: * is any text, {a,b} one of several, {0..39} and
 * {3..39..4} numbers, {a..c} letters. Braces nest; those without a comma or two dots are letters, as in bash. A
 * backslash makes a letter of what follows it; \t \n \xHH are as sd_text_print writes them.
 */
#ifndef SD_BASE_GLOB_H
#define SD_BASE_GLOB_H

#include "base/error.h"

struct sd_glob;

/* Compiles one. SD_USAGE for what is nested too deeply. */
SD_MUST_CHECK enum sd_result sd_glob_new(const char *pattern, struct sd_glob **glob, struct sd_error *err);
void sd_glob_free(struct sd_glob *glob);

/* Whether the pattern matches the whole name. Takes time proportional to the product of their lengths. Fails only when
 * memory is out. */
SD_MUST_CHECK enum sd_result sd_glob_matches(struct sd_glob *glob, const char *name, bool *yes, struct sd_error *err);

/* The pattern as it was given. */
const char *sd_glob_text(const struct sd_glob *glob);

/* The first text that the pattern expands to, in which * stays: for sd_nearest. It lives as long as the pattern. */
const char *sd_glob_first(const struct sd_glob *glob);

#endif
