/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GPU as a device. Jobs are cut into parts, and small ones packed together, to slices that go through three stages,
 * each in a stream of its own: copied to the device, turned there, copied back. Several slices, of one
 * job or of several, are on their way at one time, so that both directions of the bus and the GPU work at once. Memory
 * that is pinned is copied where it lies; all other goes through pinned buffers.
 */
#ifndef SD_CUDA_ENGINE_H
#define SD_CUDA_ENGINE_H

#include "gpu.h"
#include "move/device.h"

/* In bytes. */
struct sd_engine_sizes {
	size_t slice;       /* each way, at most; with its halves, a multiple of 1024 */
	size_t slice_least; /* where the device has not so much: eight times SD_JOB_SLICE_LEAST or more */
	size_t direct, run; /* what is worth a copy of its own from or to pinned memory: so much, in runs of so much */
};

/* Good for GPUs behind a bus of 10 to 60 GB/s. */
extern const struct sd_engine_sizes sd_engine_sizes;

/*
 * Takes gpu over and closes it, also where it fails. NOMEM: there is no memory for the smallest slices. Of the device's
 * memory it takes eight slices or less, and as much pinned memory.
 */
SD_MUST_CHECK enum sd_device_result sd_engine_open(struct sd_gpu *gpu, const struct sd_engine_sizes *sizes,
						   struct sd_device **device);

#endif
