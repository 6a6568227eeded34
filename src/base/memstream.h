/* SPDX-License-Identifier: Apache-2.0 */
/* A stdio stream that writes to memory and reports when memory was out; glibc's open_memstream may lose text silently.
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
 * Closes the stream. Sets *text to what was written, malloc'd and with a NUL added, and *length. If memory was out at
 * any time, returns false and sets *text to NULL. text may be NULL.
 */
SD_MUST_CHECK bool sd_memstream_close(struct sd_memstream *stream, char **text, size_t *length);

#endif
