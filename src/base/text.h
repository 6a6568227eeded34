/* SPDX-License-Identifier: Apache-2.0 */
/* Texts from input: their order, UTF-8, and how they are shown; sizes and numbers that people type. */
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

/* Replaces each byte that is no UTF-8 by "?". File names and texts that were cut may have such bytes. */
void sd_text_mend(char *text);

/*
 * Copies text into out (size bytes, always terminated; cut if it does not fit). Escapes what would harm a terminal or a
 * TSV: tab, newline and backslash as \t \n \\, other control characters and bidirectional marks as bytes \xHH. Returns
 * out.
 */
char *sd_text_escape(const char *text, char *out, size_t size);

/* Writes the whole text, escaped in the same way. */
void sd_text_print(FILE *out, const char *text);

/* Writes a number in decimal digits; printf takes five times as long. */
void sd_text_print_number(FILE *out, uint64_t number);

/* The first of length bytes that sd_text_escape would escape, except for tabs and backslashes; NULL: none. */
const char *sd_text_harm(const char *text, size_t length);

/* The first character that looks like another one or like nothing: a blank, or one that is not in ASCII. 0: none. */
uint32_t sd_text_unusual(const char *text);

/* "4096", "32MiB", "5GB", "1.5GB": bytes; K M G T with B are decimal, with iB binary. False for anything else. */
SD_MUST_CHECK bool sd_text_size(const char *text, uint64_t *bytes);

/*
 * The edit distance of a and b: letters added, removed, replaced, or exchanged with the next one. limit + 1 if it
 * exceeds limit. Keep limit small: the time grows with 4 to the power of it.
 */
unsigned sd_text_distance(const char *a, const char *b, unsigned limit);

/* Decimal digits only, the whole text. */
SD_MUST_CHECK bool sd_text_number(const char *text, uint64_t *number);

#endif
