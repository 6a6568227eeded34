/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that come from input: their order, their being UTF-8, and how they are shown; sizes that people type. */
#ifndef SD_BASE_TEXT_H
#define SD_BASE_TEXT_H

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* Natural order: runs of digits compare as numbers ("layers.9" before "layers.10"), all else bytewise. A total order.
 */
int sd_text_natural(const char *a, const char *b);

/* Whether length bytes are well-formed UTF-8 (RFC 3629) without NUL. */
bool sd_text_is_utf8(const char *text, size_t length);

/* Puts a ? in the place of every byte that makes a text ill-formed: names of files and cut texts may have such. */
void sd_text_mend(char *text);

/*
 * Copies text into out (size bytes, always terminated), cut where it does not fit, with what would harm a terminal or a
 * TSV escaped: \t \n \\ as such, other control characters and bidirectional marks as \xHH bytes. Returns out.
 */
char *sd_text_escape(const char *text, char *out, size_t size);

/* Writes a text, whole and so escaped. */
void sd_text_print(FILE *out, const char *text);

/* The first of length bytes that would be escaped, tabs and backslashes apart, or NULL. */
const char *sd_text_harm(const char *text, size_t length);

/* "4096", "32MiB", "5GB", "1.5GB": bytes; K M G T with B are decimal, with iB binary. False for anything else. */
SD_MUST_CHECK bool sd_text_size(const char *text, uint64_t *bytes);

/*
 * How many letters of a must be added, taken away, replaced or exchanged with the next one to make it b; limit + 1
 * where it is more than limit, which is small: the time grows with 4 to the power of it.
 */
unsigned sd_text_distance(const char *a, const char *b, unsigned limit);

/* Decimal digits only, the whole text. */
SD_MUST_CHECK bool sd_text_number(const char *text, uint64_t *number);

#endif
