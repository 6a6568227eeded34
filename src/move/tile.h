/* SPDX-License-Identifier: Apache-2.0 */
/* A rectangle of a job's 2-D piece, done by the CPU. */
#ifndef SD_MOVE_TILE_H
#define SD_MOVE_TILE_H

#include "move/kernels.h"
#include "move/transpose.h"

/* Source rows that are turned together: pieces of whole multiples are the fastest. */
#define SD_TILE_ROWS 64

/* Factors for cast.each: as they are, and the same of 16 bits, if they can be such. Worked on in whole runs. */
#define SD_TILE_BLOCKS 65
#define SD_TILE_FACTORS (SD_TILE_BLOCKS * 2 * SD_TILE_ROWS)
struct sd_tile_factors {
	float by[SD_TILE_FACTORS + 1];
	uint16_t brief[SD_TILE_FACTORS + 1];
};

/* What a thread works with: too much for its stack, which may be small. */
struct sd_tile_scratch {
	_Alignas(SD_LINE) uint8_t tile[SD_TILE_ROWS * SD_CONVERT_RUN * 8];
	struct sd_tile_factors factors;
	uint8_t rows[SD_TILE_FACTORS * sizeof(float)], columns[SD_TILE_FACTORS * sizeof(float)];
};

struct sd_tile_how {
	const struct sd_kernels *kernels;
	const struct sd_transpose *plan;
	const void *scales; /* the job's */
	struct sd_tile_scratch *scratch;
	bool streaming; /* write past the caches: call kernels->end before anyone else reads it */
};

struct sd_tile {
	const uint8_t *source; /* the job's, and the number of the piece's first element there */
	uint64_t from;
	uint8_t *target; /* its first element */
	uint64_t scale;  /* of the place that its loop begins at */
	uint64_t a, b;   /* where it begins in its lanes, and how far it goes */
	uint64_t na, nb;
	const uint8_t *after; /* the source of what this thread does next, if it is like this one; or NULL */
};

void sd_tile_do(const struct sd_tile_how *how, const struct sd_tile *piece);

#endif
