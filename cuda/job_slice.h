/* SPDX-License-Identifier: Apache-2.0 */
/* Parts: what of a job goes to the device at one time, and how a job is cut into them. */
#ifndef SD_CUDA_JOB_SLICE_H
#define SD_CUDA_JOB_SLICE_H

#include "grid.h"
#include "strided.h"

struct sd_job_slice {
	struct sd_grid grid; /* but for its place in a batch and in memory */
	struct sd_strided source, target;
	uint64_t scale_from, scale_bytes; /* of the job's scales: the first byte, and how many */
};

/* n, rounded up to where something may begin on the device. */
static inline uint64_t sd_job_slice_aligned(uint64_t n)
{
	return (n + SD_GRID_ALIGN - 1) / SD_GRID_ALIGN * SD_GRID_ALIGN;
}

/* What it takes on the device: source, scales and grid; and target. */
uint64_t sd_job_slice_in(const struct sd_job_slice *part);
uint64_t sd_job_slice_out(const struct sd_job_slice *part);

/* A part of any single element is smaller than this. */
#define SD_JOB_SLICE_LEAST 4096

typedef enum sd_device_result sd_job_slice_take(void *context, const struct sd_job_slice *part);

/*
 * Cuts a plan, which has loops, into parts that take at most room bytes (SD_JOB_SLICE_LEAST or more) in each direction,
 * and calls take for each until one is not OK. So that copies between host and device are of long runs, it is cut where
 * runs stay longest, on both sides; that is the outermost dimension where both sides have the same one. NOMEM where a
 * number does not fit.
 */
SD_MUST_CHECK enum sd_device_result sd_job_slice_cut(const struct sd_transpose *plan, uint64_t room,
						     sd_job_slice_take *take, void *context);

#endif
