/* SPDX-License-Identifier: Apache-2.0 */
/* The progress of a job as one line: "42%  1.41 of 3.36 GB  0:04 left  512 MB/s  layers.3.mlp.gate". */
#ifndef SD_BASE_PROGRESS_H
#define SD_BASE_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

struct sd_progress {
	uint64_t done, total; /* bytes */
	double rate;          /* bytes a second; 0: not known yet */
	const char *what;     /* what is being done now; NULL: nothing */
};

/*
 * Writes the line into text (size bytes, always terminated), in at most width columns. Leaves out what does not fit,
 * the least important part first, and cuts what at its beginning. Returns text.
 */
char *sd_progress_text(const struct sd_progress *p, size_t width, char *text, size_t size);

#endif
