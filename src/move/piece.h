/* SPDX-License-Identifier: Apache-2.0 */
/* A rectangle of a job's 2-D piece, done by the CPU. */
#ifndef SD_MOVE_PIECE_H
#define SD_MOVE_PIECE_H

#include "move/kernels.h"
#include "move/transpose.h"

/* Source rows that are turned together: pieces of whole multiples are the fastest. */
#define SD_PIECE_ROWS 64

struct sd_piece_how {
	const struct sd_kernels *kernels;
	const struct sd_transpose *plan;
	const void *scales; /* the job's */
	bool streaming;     /* write past the caches: call kernels->end before anyone else reads it */
};

struct sd_piece {
	const uint8_t *source; /* the job's, and the number of the piece's first element there */
	uint64_t from;
	uint8_t *target; /* its first element */
	uint64_t scale;  /* of the place that its loop begins at */
	uint64_t a, b;   /* where it begins in its lanes, and how far it goes */
	uint64_t na, nb;
	const uint8_t *after; /* the source of what this thread does next, if it is like this one; or NULL */
};

void sd_piece_do(const struct sd_piece_how *how, const struct sd_piece *piece);

#endif
