/* SPDX-License-Identifier: Apache-2.0 */
/* A stream that is written to memory, and knows when that was out: glibc's open_memstream may lose text without a word.
 */
#ifndef SD_BASE_MEMSTREAM_H
#define SD_BASE_MEMSTREAM_H

#include "base/error.h"

#include <stdio.h>

struct sd_memstream;

/* A new stream, or NULL when memory is out. What is written to *file is gathered. */
struct sd_memstream *sd_memstream_open(FILE **file);

/* How much has been written so far. */
size_t sd_memstream_length(struct sd_memstream *stream);

/*
 * Closes it and gives its text, malloc'd with a NUL behind it, and its length. False when memory was out at any time:
 * *text is NULL then. text may be NULL: nobody wants it.
 */
SD_MUST_CHECK bool sd_memstream_close(struct sd_memstream *stream, char **text, size_t *length);

#endif
