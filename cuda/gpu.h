/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine asks of a GPU: memory, and work that is queued in three streams. The real one is device_cuda.cu;
 * tests have one that keeps the letter of this and nothing more.
 */
#ifndef SD_CUDA_GPU_H
#define SD_CUDA_GPU_H

#include "grid.h"

/* Work in one stream is done in its order; between streams there is no order but by events. */
enum sd_gpu_stream {
	SD_GPU_IN,      /* copies to the device */
	SD_GPU_COMPUTE, /* launches */
	SD_GPU_OUT,     /* copies to the host */
	SD_GPU_STREAMS,
};

/* Events have numbers below this. One that is recorded again stands for the last time. */
#define SD_GPU_EVENTS 16

/* A rectangle of bytes: rows of width bytes, each step after the one before. */
struct sd_gpu_copy {
	void *to;
	const void *from;
	size_t width, rows, to_step, from_step;
};

struct sd_gpu;

struct sd_gpu_ops {
	/* Memory of the device, at a multiple of SD_GRID_ALIGN; NULL: there is not so much. */
	void *(*allocate)(struct sd_gpu *gpu, size_t bytes);
	void (*free)(struct sd_gpu *gpu, void *memory);
	/* Pinned memory of the host; NULL likewise. */
	void *(*allocate_pinned)(struct sd_gpu *gpu, size_t bytes);
	void (*free_pinned)(struct sd_gpu *gpu, void *memory);
	/* Pins memory that is there; false: it cannot be, and is as it was. */
	bool (*pin)(struct sd_gpu *gpu, void *memory, size_t bytes);
	void (*unpin)(struct sd_gpu *gpu, void *memory);
	/* The rest: false: it failed, gpu->error says why, and what was queued may fail too. */
	/* To be called before others by whoever may be another thread than last time. */
	bool (*enter)(struct sd_gpu *gpu);
	/* Queued: the memory is read and written later. All memory of the host must be pinned. */
	bool (*copy)(struct sd_gpu *gpu, enum sd_gpu_stream stream, const struct sd_gpu_copy *copy);
	/* Queued in SD_GPU_COMPUTE. The batch itself is read now, its grids on the device later. */
	bool (*launch)(struct sd_gpu *gpu, const struct sd_batch *batch);
	bool (*record)(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event);
	/* What is queued in stream from now on begins when the event, as it was recorded last, has come. */
	bool (*wait)(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event);
	/* Waits until it has come. */
	bool (*await)(struct sd_gpu *gpu, unsigned event);
	/* Waits until nothing is queued any more, whether it fails or not. */
	bool (*drain)(struct sd_gpu *gpu);
	void (*close)(struct sd_gpu *gpu);
};

/* The first member of every GPU. */
struct sd_gpu {
	const struct sd_gpu_ops *ops;
	const char *name;
	char error[192];
};

#endif
