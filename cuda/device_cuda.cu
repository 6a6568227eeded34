/* SPDX-License-Identifier: Apache-2.0 */
/* A CUDA GPU: what the engine asks of one. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

extern "C" {
#include "engine.h"
}
#include "kernel.cuh"

static_assert(SD_GRID_ALIGN <= 256, "cudaMalloc gives multiples of 256");

/* A check may want fewer multiprocessors than there are, so that a block does many tiles. */
#ifndef SD_CUDA_PROCESSORS
#define SD_CUDA_PROCESSORS ((unsigned)properties.multiProcessorCount)
#endif

struct cuda {
	struct sd_gpu gpu; /* first */
	int number;
	unsigned processors;
	unsigned blocks[4][4]; /* of each kernel that the GPU can hold at one time; 0: nobody has asked yet */
	cudaStream_t stream[SD_GPU_STREAMS];
	cudaEvent_t event[SD_GPU_EVENTS];
	char name[320];
};

static bool good(struct sd_gpu *gpu, cudaError_t error)
{
	if (error == cudaSuccess)
		return true;
	snprintf(gpu->error, sizeof(gpu->error), "%s", cudaGetErrorString(error));
	return false;
}

static void *allocate(struct sd_gpu *gpu, size_t bytes)
{
	void *memory = NULL;

	(void)gpu;
	if (cudaMalloc(&memory, bytes) == cudaSuccess)
		return memory;
	cudaGetLastError(); /* forget it: the engine asks for less */
	return NULL;
}

static void release(struct sd_gpu *gpu, void *memory)
{
	(void)gpu;
	cudaFree(memory);
}

static void *allocate_pinned(struct sd_gpu *gpu, size_t bytes)
{
	void *memory = NULL;

	(void)gpu;
	if (cudaHostAlloc(&memory, bytes, cudaHostAllocDefault) == cudaSuccess)
		return memory;
	cudaGetLastError();
	return NULL;
}

static void release_pinned(struct sd_gpu *gpu, void *memory)
{
	(void)gpu;
	cudaFreeHost(memory);
}

static bool pin(struct sd_gpu *gpu, void *memory, size_t bytes)
{
	(void)gpu;
	if (cudaHostRegister(memory, bytes, cudaHostRegisterDefault) == cudaSuccess)
		return true;
	cudaGetLastError();
	return false;
}

static void unpin(struct sd_gpu *gpu, void *memory)
{
	(void)gpu;
	cudaHostUnregister(memory);
}

/* Each thread has a current GPU of its own. */
static bool enter(struct sd_gpu *gpu)
{
	return good(gpu, cudaSetDevice(((struct cuda *)gpu)->number));
}

static bool copy(struct sd_gpu *gpu, enum sd_gpu_stream stream, const struct sd_gpu_copy *c)
{
	enum cudaMemcpyKind kind = stream == SD_GPU_IN ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
	cudaStream_t queue = ((struct cuda *)gpu)->stream[stream];

	if (c->rows == 1)
		return good(gpu, cudaMemcpyAsync(c->to, c->from, c->width, kind, queue));
	return good(gpu, cudaMemcpy2DAsync(c->to, c->to_step, c->from, c->from_step, c->width, c->rows, kind, queue));
}

/* Asked once for each kernel: it takes as long as a small launch. */
static bool count_blocks(struct cuda *cuda, kernel *turn, unsigned *blocks)
{
	int resident;

	/* Tiles are in shared memory, and nothing is worth a cache. */
	if (!good(&cuda->gpu, cudaFuncSetAttribute(turn, cudaFuncAttributePreferredSharedMemoryCarveout,
						   cudaSharedmemCarveoutMaxShared)) ||
	    !good(&cuda->gpu, cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, turn, SD_GRID_THREADS, 0)))
		return false;
	*blocks = cuda->processors * (resident > 0 ? (unsigned)resident : 1);
	return true;
}

/* As many blocks as the GPU can hold at one time, each of which does many tiles. */
static bool launch(struct sd_gpu *gpu, const struct sd_batch *batch)
{
	struct cuda *cuda = (struct cuda *)gpu;
	kernel *turn = kernel_for(batch->source_size, batch->target_size);
	unsigned *most = &cuda->blocks[number_of(batch->source_size)][number_of(batch->target_size)];
	unsigned blocks;

	if (*most == 0 && !count_blocks(cuda, turn, most))
		return false;
	blocks = *most < batch->tiles ? *most : (unsigned)batch->tiles;
	turn<<<blocks, SD_GRID_THREADS, 0, cuda->stream[SD_GPU_COMPUTE]>>>(batch->grids, batch->tiles);
	return good(gpu, cudaGetLastError());
}

static bool record(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event)
{
	struct cuda *cuda = (struct cuda *)gpu;

	return good(gpu, cudaEventRecord(cuda->event[event], cuda->stream[stream]));
}

static bool wait(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event)
{
	struct cuda *cuda = (struct cuda *)gpu;

	return good(gpu, cudaStreamWaitEvent(cuda->stream[stream], cuda->event[event], 0));
}

static bool await(struct sd_gpu *gpu, unsigned event)
{
	return good(gpu, cudaEventSynchronize(((struct cuda *)gpu)->event[event]));
}

static bool drain(struct sd_gpu *gpu)
{
	struct cuda *cuda = (struct cuda *)gpu;
	bool ok = true;

	for (unsigned i = 0; i < SD_GPU_STREAMS; i++)
		ok = good(gpu, cudaStreamSynchronize(cuda->stream[i])) && ok;
	return ok;
}

static void close_cuda(struct sd_gpu *gpu)
{
	struct cuda *cuda = (struct cuda *)gpu;

	for (unsigned i = 0; i < SD_GPU_EVENTS; i++)
		if (cuda->event[i])
			cudaEventDestroy(cuda->event[i]);
	for (unsigned i = 0; i < SD_GPU_STREAMS; i++)
		if (cuda->stream[i])
			cudaStreamDestroy(cuda->stream[i]);
	free(cuda);
}

static bool open_queues(struct cuda *cuda)
{
	bool ok = true;

	for (unsigned i = 0; i < SD_GPU_STREAMS && ok; i++)
		ok = cudaStreamCreateWithFlags(&cuda->stream[i], cudaStreamNonBlocking) == cudaSuccess;
	for (unsigned i = 0; i < SD_GPU_EVENTS && ok; i++)
		ok = cudaEventCreateWithFlags(&cuda->event[i], cudaEventDisableTiming) == cudaSuccess;
	return ok;
}

static const struct sd_gpu_ops ops = {allocate, release, allocate_pinned, release_pinned, pin,   unpin, enter,
				      copy,     launch,  record,          wait,           await, drain, close_cuda};

extern "C" enum sd_device_result sd_device_open_cuda(unsigned number, struct sd_device **device)
{
	struct cudaDeviceProp properties;
	struct cudaFuncAttributes attributes;
	struct cuda *cuda;
	int count;

	*device = NULL;
	if (cudaGetDeviceCount(&count) != cudaSuccess || number >= (unsigned)count ||
	    cudaSetDevice((int)number) != cudaSuccess ||
	    cudaGetDeviceProperties(&properties, (int)number) != cudaSuccess)
		return SD_DEVICE_ABSENT;
	/* A GPU that none of the kernels was built for is as good as none. */
	if (cudaFuncGetAttributes(&attributes, turn<uint16_t, uint16_t>) != cudaSuccess)
		return SD_DEVICE_ABSENT;
	cuda = (struct cuda *)calloc(1, sizeof(*cuda));
	if (!cuda)
		return SD_DEVICE_NOMEM;
	cuda->gpu.ops = &ops;
	cuda->number = (int)number;
	cuda->processors = SD_CUDA_PROCESSORS;
	snprintf(cuda->name, sizeof(cuda->name), "cuda:%u %s", number, properties.name);
	cuda->gpu.name = cuda->name;
	if (!open_queues(cuda)) {
		close_cuda(&cuda->gpu);
		return SD_DEVICE_NOMEM;
	}
	return sd_engine_open(&cuda->gpu, &sd_engine_sizes, device);
}
