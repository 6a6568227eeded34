/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel: what each thread of a launch does, as grid.h says. Tests run it on the host, thread by thread. */
#ifndef SD_CUDA_KERNEL_CUH
#define SD_CUDA_KERNEL_CUH

#include "grid.h"

/* Elements that one thread reads or writes at one time: one access, or a few of SD_GRID_VECTOR bytes. */
template <typename Word, unsigned Count>
struct alignas(Count * sizeof(Word) < SD_GRID_VECTOR ? Count * sizeof(Word) : SD_GRID_VECTOR) words {
	Word at[Count];
};

template <typename Word, unsigned Count>
__device__ __forceinline__ words<Word, Count> load(const struct sd_grid &grid, const struct sd_vector &v)
{
	words<Word, Count> read;

	if (v.whole)
		return *(const words<Word, Count> *)((const Word *)grid.source + v.at);
#pragma unroll
	for (uint32_t j = 0; j < Count; j++)
		if (j < v.count)
			read.at[j] = (Word)sd_grid_get_source(&grid, v.at + j * v.step, sizeof(Word));
	return read;
}

template <typename Word, unsigned Count>
__device__ __forceinline__ void store(Word *target, const struct sd_vector &v, const words<Word, Count> &written)
{
	if (v.whole) {
		*(words<Word, Count> *)(target + v.at) = written;
		return;
	}
#pragma unroll
	for (uint32_t j = 0; j < Count; j++)
		if (j < v.count)
			target[v.at + j * v.step] = written.at[j];
}

/*
 * Casts and scales what was read, in place. One function for all kernels, called and not inlined: its code is long, and
 * the bus, not the GPU's arithmetic, is what conversions wait for.
 */
static __device__ __noinline__ void cast(const struct sd_grid &grid, const struct sd_tile &tile,
					 const struct sd_vector &v, uint64_t *values)
{
	struct sd_grid_scale scale = {0, 0};

#pragma unroll 1
	for (uint32_t j = 0; j < v.count; j++)
		values[j] = sd_grid_element(&grid, &tile, &v, j, values[j], &scale);
}

/* From and To: the elements as words. A vector as it is to be in the target. */
template <typename From, typename To, unsigned Count, bool Bytes>
__device__ __forceinline__ words<To, Count> read_vector(const struct sd_grid &grid, const struct sd_tile &tile,
							const struct sd_vector &v)
{
	words<From, Count> read = load<From, Count>(grid, v);
	words<To, Count> made;
	uint64_t values[Count];

#pragma unroll
	for (uint32_t j = 0; j < Count; j++)
		values[j] = read.at[j];
	if (!Bytes)
		cast(grid, tile, v, values);
#pragma unroll
	for (uint32_t j = 0; j < Count; j++)
		made.at[j] = (To)values[j];
	return made;
}

template <typename From, typename To, bool Bytes>
__device__ __forceinline__ void turn_tile(const struct sd_grid &grid, const struct sd_tile &tile, To *slots)
{
	constexpr unsigned from = sizeof(From), to = sizeof(To);
	constexpr uint32_t read_width = SD_GRID_VECTOR / (from < to ? from : to), write_width = SD_GRID_VECTOR / to;
	constexpr uint32_t reads = SD_GRID_LINE * write_width * SD_GRID_LINE,
			   writes = SD_GRID_LINE * read_width * SD_GRID_LINE;

#pragma unroll(Bytes &&read_width < 16 ? 2 : 1)
	for (uint32_t i = threadIdx.x; i < reads; i += SD_GRID_THREADS) {
		struct sd_vector v = sd_grid_read_vector(&grid, &tile, i, from, to);
		words<To, read_width> read = read_vector<From, To, read_width, Bytes>(grid, tile, v);
		uint32_t a = (uint32_t)(v.a - tile.a), b = (uint32_t)(v.b - tile.b);

#pragma unroll
		for (uint32_t j = 0; j < read_width; j++)
			if (j < v.count)
				slots[sd_grid_slot(a + j, b, from, to)] = read.at[j];
	}
	__syncthreads();
#pragma unroll(write_width < 16 ? 2 : 1)
	for (uint32_t i = threadIdx.x; i < writes; i += SD_GRID_THREADS) {
		struct sd_vector v = sd_grid_write_vector(&grid, &tile, i, from, to);
		uint32_t a = (uint32_t)(v.a - tile.a), b = (uint32_t)(v.b - tile.b);
		words<To, write_width> written;

#pragma unroll
		for (uint32_t j = 0; j < write_width; j++)
			if (j < v.count)
				written.at[j] = slots[sd_grid_slot(a, b + j, from, to)];
		store<To, write_width>((To *)grid.target, v, written);
	}
}

template <typename From, typename To, bool Bytes>
__device__ __forceinline__ void copy_tile(const struct sd_grid &grid, const struct sd_tile &tile)
{
	constexpr unsigned from = sizeof(From), to = sizeof(To);
	constexpr uint32_t width = SD_GRID_VECTOR / (from > to ? from : to);

#pragma unroll(Bytes ? 4 : 1)
	for (uint32_t i = threadIdx.x; i < SD_GRID_ROW_VECTORS; i += SD_GRID_THREADS) {
		struct sd_vector v = sd_grid_read_vector(&grid, &tile, i, from, to);
		words<To, width> made = read_vector<From, To, width, Bytes>(grid, tile, v);

		store<To, width>((To *)grid.target, sd_grid_row_vector(&grid, &tile, &v, from, to), made);
	}
}

template <typename From, typename To, bool Bytes>
__device__ __forceinline__ void do_tile(const struct sd_grid &grid, const struct sd_tile &tile, To *slots)
{
	if (grid.plan.rows)
		copy_tile<From, To, Bytes>(grid, tile);
	else
		turn_tile<From, To, Bytes>(grid, tile, slots);
}

template <typename From, typename To>
__global__ void __launch_bounds__(SD_GRID_THREADS) turn(const struct sd_grid *__restrict__ grids, uint64_t tiles)
{
	__shared__ To slots[SD_GRID_SLOTS(sizeof(From), sizeof(To))];
	__shared__ struct sd_grid grid;
	__shared__ struct sd_tile tile;
	uint64_t end = 0; /* of the tiles of the grid that is in shared memory */

	for (uint64_t number = blockIdx.x; number < tiles; number += gridDim.x) {
		/* Until the last tile's slots are written, and everybody has seen which tile it was. */
		__syncthreads();
		if (number >= end) {
			while (number >= grids->first + grids->tiles)
				grids++;
			end = grids->first + grids->tiles;
			for (uint32_t i = threadIdx.x; i < sizeof(grid) / 8; i += SD_GRID_THREADS)
				((uint64_t *)&grid)[i] = ((const uint64_t *)grids)[i];
			__syncthreads();
		}
		/* Divisions are dear: one thread finds the tile. */
		if (threadIdx.x == 0)
			tile = sd_grid_tile(&grid, number - grid.first);
		__syncthreads();
		if (sizeof(From) == sizeof(To) && grid.plan.bytes)
			do_tile<From, To, sizeof(From) == sizeof(To)>(grid, tile, slots);
		else
			do_tile<From, To, false>(grid, tile, slots);
	}
}

static_assert(sizeof(struct sd_grid) % 8 == 0, "a grid is copied in words of 8 bytes");

typedef void kernel(const struct sd_grid *grids, uint64_t tiles);

static unsigned number_of(unsigned size)
{
	return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
}

/* By the sizes of elements: 1, 2, 4 and 8 bytes. There is no cast to one byte. */
static kernel *kernel_for(unsigned source_size, unsigned target_size)
{
	static kernel *const kernels[4][4] = {
		{turn<uint8_t, uint8_t>, turn<uint8_t, uint16_t>, turn<uint8_t, uint32_t>, turn<uint8_t, uint64_t>},
		{NULL, turn<uint16_t, uint16_t>, turn<uint16_t, uint32_t>, turn<uint16_t, uint64_t>},
		{NULL, turn<uint32_t, uint16_t>, turn<uint32_t, uint32_t>, turn<uint32_t, uint64_t>},
		{NULL, turn<uint64_t, uint16_t>, turn<uint64_t, uint32_t>, turn<uint64_t, uint64_t>},
	};

	return kernels[number_of(source_size)][number_of(target_size)];
}

#endif
