/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a job, source or target: how it lies at the host, in runs of bytes with gaps between them, and that it
 * lies on the device without them.
 */
#ifndef SD_CUDA_STRIDED_H
#define SD_CUDA_STRIDED_H

#include "move/transpose.h"

struct sd_strided {
	uint64_t from;  /* where it begins in the job's buffer; this and what follows in bytes */
	uint64_t bytes; /* on the device */
	uint64_t run;   /* that lie together on both sides */
	uint32_t rank;
	struct {
		uint64_t size, step;
	} dim[SD_MOVE_RANK + 2]; /* how the runs follow each other at the host, the fastest dimension first */
};

/*
 * Plans both sides, and gives the plan the offsets and strides that elements have on the device. Small gaps of a source
 * go along; those of a target do not, for what lies in them is not ours to write. False where a number does not fit.
 */
SD_MUST_CHECK bool sd_strided_plan(struct sd_transpose *plan, struct sd_strided *source, struct sd_strided *target);

/* How many bytes it reaches over at the host. */
uint64_t sd_strided_reach(const struct sd_strided *side);

/* Between the job's buffer and memory that has it as the device has. */
void sd_strided_gather(const struct sd_strided *side, const void *buffer, void *packed);
void sd_strided_scatter(const struct sd_strided *side, const void *packed, void *buffer);

#endif
