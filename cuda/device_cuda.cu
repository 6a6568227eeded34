/* SPDX-License-Identifier: Apache-2.0 */
/* A CUDA GPU as a device: one job at a time goes there, is turned, and comes back. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

extern "C" {
#include "grid.h"
}

/* Device memory for one job's source, and again for its target. Larger jobs are for the caller to cut. */
#define BUFFER_BYTES ((size_t)512 << 20)
/* Blocks of a grid: enough to fill any GPU many times over. Each goes on to a tile this much further on. */
#define BLOCKS 65536

/* A parameter whose address may be taken without a copy for each thread; GPUs before Volta have no such thing. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
#define GRID_CONSTANT __grid_constant__
#else
#define GRID_CONSTANT
#endif

/* From and To: the elements as words. A slot is as wide as a target's element. */
template <typename From, typename To>
__global__ void __launch_bounds__(SD_GRID_X *SD_GRID_Y)
	turn(const GRID_CONSTANT struct sd_grid grid, const From *source, const void *scales, To *target)
{
	__shared__ To slots[SD_GRID_SLOTS];
	__shared__ struct sd_tile tile;

	for (uint64_t number = blockIdx.x; number < grid.tiles; number += gridDim.x) {
		/* Divisions are dear: one thread finds the tile. The barrier also keeps the last tile's slots until
		 * they are written. */
		__syncthreads();
		if (threadIdx.x == 0 && threadIdx.y == 0)
			tile = sd_grid_tile(&grid, number);
		__syncthreads();
#pragma unroll
		for (uint32_t step = 0; step < SD_GRID_STEPS; step++) {
			uint32_t i = sd_grid_number(threadIdx.x, threadIdx.y, step), slot;
			uint64_t value;

			if (sd_grid_read(&grid, &tile, i, source, scales, sizeof(From), &slot, &value))
				slots[slot] = (To)value;
		}
		__syncthreads();
#pragma unroll
		for (uint32_t step = 0; step < SD_GRID_STEPS; step++) {
			uint32_t i = sd_grid_number(threadIdx.x, threadIdx.y, step), slot;
			uint64_t to;

			if (sd_grid_write(&grid, &tile, i, &slot, &to))
				target[to] = slots[slot];
		}
	}
}

/* Memory that grows. */
struct room {
	void *data;
	size_t size;
};

struct cuda {
	struct sd_device device; /* first */
	int number;
	struct room source, target, scales;
	struct room back; /* at the host: what comes back and then is put in its places */
	char name[320];
};

static enum sd_device_result fail(struct cuda *cuda, const char *what, cudaError_t error)
{
	snprintf(cuda->device.failure, sizeof(cuda->device.failure), "%s: %s", what, cudaGetErrorString(error));
	return SD_DEVICE_FAILED;
}

static bool grow(struct room *room, size_t size)
{
	if (room->size >= size)
		return true;
	cudaFree(room->data);
	room->data = NULL;
	room->size = 0;
	if (cudaMalloc(&room->data, size) != cudaSuccess) {
		cudaGetLastError(); /* forget it: only this piece is too large */
		return false;
	}
	room->size = size;
	return true;
}

static bool grow_host(struct room *room, size_t size)
{
	if (room->size >= size)
		return true;
	free(room->data);
	room->data = malloc(size);
	room->size = room->data ? size : 0;
	return room->data != NULL;
}

template <typename From, typename To> static void launch_as(const struct cuda *cuda, const struct sd_grid *grid)
{
	unsigned blocks = (unsigned)(grid->tiles < BLOCKS ? grid->tiles : BLOCKS);

	turn<From, To><<<blocks, dim3(SD_GRID_X, SD_GRID_Y)>>>(*grid, (const From *)cuda->source.data,
							       cuda->scales.data, (To *)cuda->target.data);
}

template <typename From> static void launch_from(const struct cuda *cuda, const struct sd_grid *grid)
{
	switch (grid->plan.target_size) {
	case 1:
		launch_as<From, uint8_t>(cuda, grid);
		break;
	case 2:
		launch_as<From, uint16_t>(cuda, grid);
		break;
	case 4:
		launch_as<From, uint32_t>(cuda, grid);
		break;
	default:
		launch_as<From, uint64_t>(cuda, grid);
	}
}

static cudaError_t launch(const struct cuda *cuda, const struct sd_grid *grid)
{
	switch (grid->plan.source_size) {
	case 1:
		launch_from<uint8_t>(cuda, grid);
		break;
	case 2:
		launch_from<uint16_t>(cuda, grid);
		break;
	case 4:
		launch_from<uint32_t>(cuda, grid);
		break;
	default:
		launch_from<uint64_t>(cuda, grid);
	}
	return cudaGetLastError();
}

static enum sd_device_result bring_back(struct cuda *cuda, const struct sd_grid *grid, const struct sd_job *job)
{
	size_t bytes = grid->target_count * grid->plan.target_size;
	bool dense = grid->run == grid->target_count;
	void *to = (uint8_t *)job->target + grid->target_from * grid->plan.target_size;
	cudaError_t error;

	if (!dense && !grow_host(&cuda->back, bytes))
		return SD_DEVICE_NOMEM;
	error = cudaMemcpy(dense ? to : cuda->back.data, cuda->target.data, bytes, cudaMemcpyDeviceToHost);
	if (error != cudaSuccess)
		return fail(cuda, "turning on the GPU", error);
	if (!dense)
		sd_grid_unpack(grid, cuda->back.data, job->target);
	return SD_DEVICE_OK;
}

static enum sd_device_result run_job(struct cuda *cuda, const struct sd_job *job)
{
	struct sd_transpose plan;
	struct sd_grid grid;
	enum sd_device_result result = sd_transpose_plan(job, &plan, cuda->device.failure);
	size_t scale_bytes = sd_transpose_scales(&plan) * sd_element_size(job->scale.dtype);
	const void *source;
	uint64_t source_bytes;
	cudaError_t error;

	if (result != SD_DEVICE_OK || plan.loops == 0)
		return result;
	if (!sd_grid_plan(&plan, &grid) || grid.source_count > BUFFER_BYTES / plan.source_size ||
	    grid.target_count > BUFFER_BYTES / plan.target_size || scale_bytes > BUFFER_BYTES)
		return SD_DEVICE_NOMEM;
	source = sd_grid_source(&grid, job->source, &source_bytes);
	if (!grow(&cuda->source, source_bytes) || !grow(&cuda->target, grid.target_count * plan.target_size) ||
	    !grow(&cuda->scales, scale_bytes))
		return SD_DEVICE_NOMEM;
	error = cudaMemcpy(cuda->source.data, source, source_bytes, cudaMemcpyHostToDevice);
	if (error == cudaSuccess && scale_bytes > 0)
		error = cudaMemcpy(cuda->scales.data, job->scale.data, scale_bytes, cudaMemcpyHostToDevice);
	if (error == cudaSuccess)
		error = launch(cuda, &grid);
	if (error != cudaSuccess)
		return fail(cuda, "giving work to the GPU", error);
	return bring_back(cuda, &grid, job);
}

static enum sd_device_result run(struct sd_device *device, const struct sd_job *jobs, size_t count)
{
	struct cuda *cuda = (struct cuda *)device;
	enum sd_device_result result = SD_DEVICE_OK;
	cudaError_t error = cudaSetDevice(cuda->number); /* each thread has its own */

	if (error != cudaSuccess)
		return fail(cuda, "choosing the GPU", error);
	for (size_t i = 0; i < count && result == SD_DEVICE_OK; i++)
		result = run_job(cuda, &jobs[i]);
	return result;
}

static void close_cuda(struct sd_device *device)
{
	struct cuda *cuda = (struct cuda *)device;

	cudaFree(cuda->source.data);
	cudaFree(cuda->target.data);
	cudaFree(cuda->scales.data);
	free(cuda->back.data);
	free(cuda);
}

static const struct sd_device_ops ops = {run, close_cuda};

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
	cuda->device.ops = &ops;
	cuda->number = (int)number;
	snprintf(cuda->name, sizeof(cuda->name), "cuda:%u %s", number, properties.name);
	cuda->device.name = cuda->name;
	*device = &cuda->device;
	return SD_DEVICE_OK;
}
