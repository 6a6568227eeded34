/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel: what each thread of a launch does, as grid.h says. Tests run it on the host, thread by thread. */
#ifndef SD_CUDA_KERNEL_CUH
#define SD_CUDA_KERNEL_CUH

#include "grid.h"

#ifdef __CUDACC__
#include <cuda_pipeline_primitives.h>
#endif

/* A vector of elements of any size, in words, the first element in the lowest bits: what a thread has in registers. */
template <unsigned Bytes> struct vector {
	uint32_t word[(Bytes + 3) / 4];

	template <typename Element> __device__ __forceinline__ Element get(uint32_t j) const
	{
		if (sizeof(Element) == 8)
			return (Element)(word[2 * j] | (uint64_t)word[(2 * j + 1) % ((Bytes + 3) / 4)] << 32);
		return (Element)(word[j * sizeof(Element) / 4] >> j * sizeof(Element) % 4 * 8);
	}

	/* Where there are zeros. */
	template <typename Element> __device__ __forceinline__ void put(uint32_t j, Element value)
	{
		word[j * sizeof(Element) / 4] |= (uint32_t)value << j * sizeof(Element) % 4 * 8;
		if (sizeof(Element) == 8)
			word[(2 * j + 1) % ((Bytes + 3) / 4)] = (uint32_t)((uint64_t)value >> 32);
	}
};

#if SD_GRID_PAST
#define STORE(at, value) __stcs(at, value)
#else
#define STORE(at, value) (*(at) = (value))
#endif

/* A whole vector in one access. Neither what is read nor what is written is looked at again. */
__device__ __forceinline__ void load_whole(const void *at, vector<16> &read)
{
	uint4 value = __ldcs((const uint4 *)at);

	read = {{value.x, value.y, value.z, value.w}};
}

__device__ __forceinline__ void load_whole(const void *at, vector<8> &read)
{
	uint2 value = __ldcs((const uint2 *)at);

	read = {{value.x, value.y}};
}

__device__ __forceinline__ void load_whole(const void *at, vector<4> &read)
{
	read = {{__ldcs((const unsigned *)at)}};
}

__device__ __forceinline__ void load_whole(const void *at, vector<2> &read)
{
	read = {{__ldcs((const unsigned short *)at)}};
}

__device__ __forceinline__ void store_whole(void *at, const vector<16> &made)
{
	STORE((uint4 *)at, make_uint4(made.word[0], made.word[1], made.word[2], made.word[3]));
}

__device__ __forceinline__ void store_whole(void *at, const vector<8> &made)
{
	STORE((uint2 *)at, make_uint2(made.word[0], made.word[1]));
}

__device__ __forceinline__ void store_whole(void *at, const vector<4> &made)
{
	STORE((unsigned *)at, made.word[0]);
}

/* Element by element, at the edges of a tensor and where rows begin anywhere. */
template <typename Element, unsigned Bytes>
__device__ __noinline__ vector<Bytes> load_elements(const struct sd_grid *grid, uint64_t at, uint64_t step,
						    uint32_t count)
{
	vector<Bytes> read = {};

#pragma unroll
	for (uint32_t j = 0; j < Bytes / sizeof(Element); j++)
		if (j < count)
			read.put(j, (Element)sd_grid_get_source(grid, at + j * step, sizeof(Element)));
	return read;
}

template <typename Element, unsigned Bytes>
__device__ __noinline__ void store_elements(Element *target, uint64_t step, uint32_t count, vector<Bytes> made)
{
#pragma unroll
	for (uint32_t j = 0; j < Bytes / sizeof(Element); j++)
		if (j < count)
			target[j * step] = made.template get<Element>(j);
}

template <typename Element, unsigned Bytes>
__device__ __forceinline__ vector<Bytes> load(const struct sd_grid &grid, const struct sd_vector &v)
{
	vector<Bytes> read;

	if (!v.whole)
		return load_elements<Element, Bytes>(&grid, v.at, v.step, v.count);
	load_whole((const Element *)grid.source + v.at, read);
	return read;
}

template <typename Element, unsigned Bytes>
__device__ __forceinline__ void store(const struct sd_grid &grid, const struct sd_vector &v, const vector<Bytes> &made)
{
	Element *target = (Element *)grid.target + v.at;

	if (v.whole)
		store_whole(target, made);
	else
		store_elements(target, v.step, v.count, made);
}

/*
 * What becomes of the elements of a tile: they are moved as they are; they are cast from and to dtypes that are known
 * here, all with the same scale; or, with SD_NO_DTYPE, from and to any, each with a scale of its own. Code for any is
 * long, so it is called, and the first two are for what checkpoints are mostly made of.
 */
struct bytes {
};
template <uint8_t From, uint8_t To> struct cast {
};
typedef cast<SD_NO_DTYPE, SD_NO_DTYPE> cast_any;

static __device__ __noinline__ uint64_t make_any(const struct sd_grid *grid, const struct sd_tile *tile, uint64_t a,
						 uint64_t b, uint64_t value)
{
	const struct sd_transpose *plan = &grid->plan;
	uint32_t scale = tile->scale.even ? tile->scale.bits : sd_grid_scale_at(grid, &tile->place, a, b);

	return sd_grid_element(plan, plan->source_dtype, plan->target_dtype, scale, value);
}

template <uint8_t From, uint8_t To>
__device__ __forceinline__ uint64_t make(cast<From, To>, const struct sd_grid &grid, const struct sd_tile &tile,
					 uint64_t a, uint64_t b, uint64_t value)
{
	if (From == SD_NO_DTYPE)
		return make_any(&grid, &tile, a, b, value);
	return sd_grid_element(&grid.plan, From, To, tile.scale.bits, value);
}

/*
 * F8_E4M3 to BF16 has three bytes to move for each element, and so few instructions to spend. Where no NaN is about and
 * the scale is not large, which is nearly always, these are enough: an F8's bits, put where float32 has its own, are a
 * float32 that is 2^-120 times as large, subnormal where the F8 is; the scale makes up for that, and its multiplication
 * still rounds once. (GPUs have subnormal numbers at full speed.)
 */
struct f8_scale {
	float by;
	bool small;
};

__device__ __forceinline__ struct f8_scale f8_scale_of(const struct sd_grid &grid, const struct sd_tile &tile)
{
	float scale = grid.plan.scale_dtype == SD_NO_DTYPE ? 1 : sd_float_of_bits(tile.scale.bits);

	return {scale * 0x1p120f, scale > -128 && scale < 128};
}

/* The highest bit of each byte: whether that code is a NaN; others are whatever they are. */
__device__ __forceinline__ uint32_t f8_nans(uint32_t codes)
{
	return (codes & 0x7f7f7f7f) + 0x01010101;
}

__device__ __forceinline__ float f8_times(uint32_t codes, uint32_t k, float by)
{
	return sd_float_of_bits((uint32_t)((int32_t)(codes << (24 - 8 * k)) >> 4) & 0x87f00000) * by;
}

/* Two numbers that are no NaNs as BF16, the first in the low half. */
__device__ __forceinline__ uint32_t bf16_pair(float first, float second)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
	uint32_t pair;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
	return pair;
#else
	return sd_bf16_of_f32(sd_bits_of_float(first)) | (uint32_t)sd_bf16_of_f32(sd_bits_of_float(second)) << 16;
#endif
}

/* Turns the elements of a lot without looking at them: vectors of Deep elements to Deep vectors. */
template <typename Element, unsigned Deep, unsigned Wide> struct shuffle;

template <unsigned Wide> struct shuffle<uint8_t, 4, Wide> {
	static __device__ __forceinline__ void go(const vector<4> read[Wide], vector<Wide> made[4])
	{
#pragma unroll
		for (uint32_t j = 0; j < Wide / 4; j++) {
			const vector<4> *row = read + 4 * j;
			uint32_t low[2] = {__byte_perm(row[0].word[0], row[1].word[0], 0x5140),
					   __byte_perm(row[2].word[0], row[3].word[0], 0x5140)};
			uint32_t high[2] = {__byte_perm(row[0].word[0], row[1].word[0], 0x7362),
					    __byte_perm(row[2].word[0], row[3].word[0], 0x7362)};

			made[0].word[j] = __byte_perm(low[0], low[1], 0x5410);
			made[1].word[j] = __byte_perm(low[0], low[1], 0x7632);
			made[2].word[j] = __byte_perm(high[0], high[1], 0x5410);
			made[3].word[j] = __byte_perm(high[0], high[1], 0x7632);
		}
	}
};

template <unsigned Wide> struct shuffle<uint16_t, 2, Wide> {
	static __device__ __forceinline__ void go(const vector<4> read[Wide], vector<2 * Wide> made[2])
	{
#pragma unroll
		for (uint32_t j = 0; j < Wide / 2; j++) {
			made[0].word[j] = __byte_perm(read[2 * j].word[0], read[2 * j + 1].word[0], 0x5410);
			made[1].word[j] = __byte_perm(read[2 * j].word[0], read[2 * j + 1].word[0], 0x7632);
		}
	}
};

template <typename Element, unsigned Wide> struct shuffle<Element, 1, Wide> {
	static __device__ __forceinline__ void go(const vector<sizeof(Element)> read[Wide],
						  vector<sizeof(Element) * Wide> made[1])
	{
		made[0] = {};
#pragma unroll
		for (uint32_t j = 0; j < Wide; j++)
			made[0].put(j, read[j].template get<Element>(0));
	}
};

/* A tile that is being worked on, or is on its way. Grids are looked at where they are near. */
struct stage {
	struct sd_grid grid;
	struct sd_tile tile;
	alignas(SD_GRID_ALIGN) uint8_t cells[SD_GRID_VECTORS * SD_GRID_VECTOR];
};

/* Where a vector that was read of a tile is in its cells. */
template <typename From, typename To>
__device__ __forceinline__ uint8_t *cell_of(struct stage &stage, uint32_t a, uint32_t b)
{
	return stage.cells + sd_grid_byte(a, b, sizeof(From), sizeof(To));
}

/*
 * Queues the copies of a tile's source to its cells. A thread's vectors are in one column; mostly all of them are there
 * and whole where the first one is, and then only that one has to be reckoned.
 */
template <typename From, typename To> __device__ __forceinline__ void fill(struct stage &stage)
{
	constexpr uint32_t rows = SD_GRID_THREADS * SD_GRID_ROWS(sizeof(To)) / SD_GRID_VECTORS;
	constexpr uint32_t times = SD_GRID_VECTORS / SD_GRID_THREADS;
	const struct sd_grid &grid = stage.grid;
	const struct sd_tile &tile = stage.tile;
	struct sd_vector first = sd_grid_read_vector(&grid, &tile, threadIdx.x, sizeof(From), sizeof(To));
	uint32_t a = (uint32_t)(first.a - tile.a), b = (uint32_t)(first.b - tile.b);
	uint64_t step = rows * grid.plan.b.from;

	if (first.whole && first.b + (times - 1) * rows < grid.plan.b.size &&
	    step * sizeof(From) % SD_GRID_VECTOR == 0) {
		const From *from = (const From *)grid.source + first.at;

#pragma unroll
		for (uint32_t n = 0; n < times; n++)
			__pipeline_memcpy_async(cell_of<From, To>(stage, a, b + n * rows), from + n * step,
						SD_GRID_VECTOR);
		return;
	}
#pragma unroll 1
	for (uint32_t n = 0; n < times; n++) {
		struct sd_vector v =
			sd_grid_read_vector(&grid, &tile, threadIdx.x + n * SD_GRID_THREADS, sizeof(From), sizeof(To));
		uint8_t *cell = cell_of<From, To>(stage, a, b + n * rows);

		if (v.whole)
			__pipeline_memcpy_async(cell, (const From *)grid.source + v.at, SD_GRID_VECTOR);
		else if (v.count > 0)
			*(vector<SD_GRID_VECTOR> *)cell = load<From, SD_GRID_VECTOR>(grid, v);
	}
}

/* The vectors that a lot becomes: of words of Deep elements, Deep vectors of as many elements as there are words. */
template <typename From, typename To, unsigned Deep, unsigned Wide>
__device__ __forceinline__ void make_lot(bytes, const struct sd_grid &, const struct sd_tile &, const struct sd_lot &,
					 const vector<sizeof(From) * Deep> (&read)[Wide],
					 vector<sizeof(To) * Wide> (&made)[Deep])
{
	shuffle<From, Deep, Wide>::go(read, made);
}

/* False where it takes the longer way. */
template <unsigned From, unsigned To, unsigned Deep, unsigned Wide>
__device__ __forceinline__ bool make_f8_lot(const struct sd_grid &grid, const struct sd_tile &tile,
					    const vector<From> (&read)[Wide], vector<To> (&made)[Deep])
{
	struct f8_scale scale = f8_scale_of(grid, tile);
	uint32_t nans = 0;

#pragma unroll
	for (uint32_t j = 0; j < Wide; j++)
		nans |= f8_nans(read[j].word[0]);
	if (!scale.small || nans & 0x80808080)
		return false;
#pragma unroll
	for (uint32_t k = 0; k < Deep; k++)
#pragma unroll
		for (uint32_t j = 0; j < Wide / 2; j++)
			made[k].word[j] = bf16_pair(f8_times(read[2 * j].word[0], k, scale.by),
						    f8_times(read[2 * j + 1].word[0], k, scale.by));
	return true;
}

template <typename From, typename To, unsigned Deep, unsigned Wide, uint8_t FromDtype, uint8_t ToDtype>
__device__ __forceinline__ void make_lot(cast<FromDtype, ToDtype> cast, const struct sd_grid &grid,
					 const struct sd_tile &tile, const struct sd_lot &lot,
					 const vector<sizeof(From) * Deep> (&read)[Wide],
					 vector<sizeof(To) * Wide> (&made)[Deep])
{
	uint64_t a = tile.a + lot.a, b = tile.b + lot.b;

	if (FromDtype == SD_F8_E4M3 && ToDtype == SD_BF16 && make_f8_lot(grid, tile, read, made))
		return;
#pragma unroll
	for (uint32_t k = 0; k < Deep; k++) {
		made[k] = {};
#pragma unroll
		for (uint32_t j = 0; j < Wide; j++)
			if (FromDtype != SD_NO_DTYPE || (a + k < grid.plan.a.size && b + j < grid.plan.b.size))
				made[k].put(j, (To)make(cast, grid, tile, a + k, b + j, read[j].template get<From>(k)));
	}
}

/* Turns a tile whose cells are filled. */
template <typename From, typename To, typename Cast>
__device__ __forceinline__ void turn_tile(Cast cast, const struct stage &stage)
{
	constexpr uint32_t deep = SD_GRID_DEEP(sizeof(From)), wide = SD_GRID_VECTOR / sizeof(To);
	typedef vector<SD_GRID_WORD(sizeof(From))> word;
	const struct sd_grid &grid = stage.grid;
	const struct sd_tile &tile = stage.tile;

#pragma unroll 1
	for (uint32_t i = threadIdx.x; i < SD_GRID_LOTS(sizeof(From), sizeof(To)); i += SD_GRID_THREADS) {
		struct sd_lot lot = sd_grid_lot(i, sizeof(From), sizeof(To));
		vector<SD_GRID_VECTOR> made[deep];
		word read[wide];

		if (tile.a + lot.a >= grid.plan.a.size || tile.b + lot.b >= grid.plan.b.size)
			continue;
#pragma unroll
		for (uint32_t j = 0; j < wide; j++)
			read[j] =
				*(const word *)(stage.cells + sd_grid_byte(lot.a, lot.b + j, sizeof(From), sizeof(To)));
		make_lot<From, To>(cast, grid, tile, lot, read, made);
#pragma unroll
		for (uint32_t k = 0; k < deep; k++)
			store<To>(grid, sd_grid_lot_vector(&grid, &tile, &lot, k, sizeof(To)), made[k]);
	}
}

/* What becomes of a vector where there is nothing to turn. */
template <typename From, typename To, unsigned Bytes>
__device__ __forceinline__ vector<Bytes> make_row(bytes, const struct sd_grid &, const struct sd_tile &,
						  const struct sd_vector &, const vector<Bytes> &read)
{
	return read;
}

template <unsigned From, unsigned To>
__device__ __forceinline__ bool make_f8_row(const struct sd_grid &grid, const struct sd_tile &tile,
					    const vector<From> &read, vector<To> &made)
{
	struct f8_scale scale = f8_scale_of(grid, tile);
	uint32_t nans = 0;

#pragma unroll
	for (uint32_t i = 0; i < (From + 3) / 4; i++)
		nans |= f8_nans(read.word[i]);
	if (!scale.small || nans & 0x80808080)
		return false;
#pragma unroll
	for (uint32_t j = 0; j < To / 4; j++)
		made.word[j] = bf16_pair(f8_times(read.word[j / 2 % ((From + 3) / 4)], 2 * j % 4, scale.by),
					 f8_times(read.word[j / 2 % ((From + 3) / 4)], 2 * j % 4 + 1, scale.by));
	return true;
}

template <typename From, typename To, unsigned Bytes, uint8_t FromDtype, uint8_t ToDtype>
__device__ __forceinline__ vector<Bytes / sizeof(From) * sizeof(To)>
make_row(cast<FromDtype, ToDtype> cast, const struct sd_grid &grid, const struct sd_tile &tile,
	 const struct sd_vector &v, const vector<Bytes> &read)
{
	constexpr uint32_t wide = Bytes / sizeof(From);
	vector<wide * sizeof(To)> made = {};

	if (FromDtype == SD_F8_E4M3 && ToDtype == SD_BF16 && make_f8_row(grid, tile, read, made))
		return made;
#pragma unroll
	for (uint32_t j = 0; j < wide; j++)
		if (FromDtype != SD_NO_DTYPE || j < v.count)
			made.put(j, (To)make(cast, grid, tile, v.a + j, v.b, read.template get<From>(j)));
	return made;
}

/* A tile without anything to turn. What a thread reads is on its way at one time. */
template <typename From, typename To, typename Cast>
__device__ __forceinline__ void copy_tile(Cast cast, const struct stage &stage)
{
	constexpr uint32_t wide = SD_GRID_VECTOR / (sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));
	constexpr uint32_t ahead = SD_GRID_VECTORS / SD_GRID_THREADS;
	const struct sd_grid &grid = stage.grid;
	const struct sd_tile &tile = stage.tile;
	vector<wide * sizeof(From)> read[ahead];

#pragma unroll
	for (uint32_t n = 0; n < ahead; n++)
		read[n] = load<From, wide * sizeof(From)>(
			grid,
			sd_grid_read_vector(&grid, &tile, threadIdx.x + n * SD_GRID_THREADS, sizeof(From), sizeof(To)));
#pragma unroll
	for (uint32_t n = 0; n < ahead; n++) {
		struct sd_vector v =
			sd_grid_read_vector(&grid, &tile, threadIdx.x + n * SD_GRID_THREADS, sizeof(From), sizeof(To));

		if (v.count > 0)
			store<To>(grid, sd_grid_row_vector(&grid, &tile, &v, sizeof(From), sizeof(To)),
				  make_row<From, To>(cast, grid, tile, v, read[n]));
	}
}

template <typename From, typename To, typename Cast>
__device__ __forceinline__ void do_tile(Cast cast, const struct stage &stage)
{
	if (stage.grid.plan.rows)
		copy_tile<From, To>(cast, stage);
	else
		turn_tile<From, To>(cast, stage);
}

/* Which dtypes of these sizes have code of their own. */
template <typename From, typename To> struct known {
	typedef cast<SD_NO_DTYPE, SD_NO_DTYPE> type;
};
template <> struct known<uint8_t, uint16_t> {
	typedef cast<SD_F8_E4M3, SD_BF16> type;
};
template <> struct known<uint16_t, uint32_t> {
	typedef cast<SD_BF16, SD_F32> type;
};
template <> struct known<uint32_t, uint16_t> {
	typedef cast<SD_F32, SD_BF16> type;
};

template <uint8_t From, uint8_t To> __device__ __forceinline__ bool is_known(cast<From, To>, const struct stage &stage)
{
	return From != SD_NO_DTYPE && stage.grid.plan.source_dtype == From && stage.grid.plan.target_dtype == To &&
	       stage.tile.scale.even;
}

template <typename From, typename To> struct tiles_of {
	static __device__ __forceinline__ void go(const struct stage &stage)
	{
		typename known<From, To>::type cast;

		if (is_known(cast, stage))
			do_tile<From, To>(cast, stage);
		else
			do_tile<From, To>(cast_any(), stage);
	}
};

template <typename Word> struct tiles_of<Word, Word> {
	static __device__ __forceinline__ void go(const struct stage &stage)
	{
		if (sizeof(Word) == 1 || stage.grid.plan.bytes)
			do_tile<Word, Word>(bytes(), stage);
		else
			do_tile<Word, Word>(cast_any(), stage);
	}
};

/* Looks up a tile and queues the copies of its source. grids is, or comes before, the grid that the tile is of. */
template <typename From, typename To>
__device__ __forceinline__ const struct sd_grid *begin_tile(struct stage &stage, const struct sd_grid *grids,
							    uint64_t number)
{
	while (number >= grids->first + grids->tiles)
		grids++;
	for (uint32_t i = threadIdx.x; i < sizeof(stage.grid) / 8; i += SD_GRID_THREADS)
		((uint64_t *)&stage.grid)[i] = ((const uint64_t *)grids)[i];
	/* Divisions are dear: one thread does them. */
	if (threadIdx.x == SD_GRID_THREADS - 1)
		stage.tile = sd_grid_tile(grids, number - grids->first);
	__syncthreads();
	if (!stage.grid.plan.rows)
		fill<From, To>(stage);
	return grids;
}

/* Each block begins a tile before it does the one that it has begun last. */
template <typename From, typename To>
__global__ void __launch_bounds__(SD_GRID_THREADS, SD_GRID_BLOCKS) turn(const struct sd_grid *grids, uint64_t tiles)
{
	__shared__ struct stage stages[2];
	uint64_t number = blockIdx.x;

	for (uint32_t round = 0; number < tiles || round > 0; number += gridDim.x, round++) {
		bool last = number >= tiles;

		if (!last)
			grids = begin_tile<From, To>(stages[round % 2], grids, number);
		__pipeline_commit();
		if (round == 0)
			continue;
		__pipeline_wait_prior(1);
		__syncthreads();
		tiles_of<From, To>::go(stages[(round + 1) % 2]);
		if (last)
			return;
		/* Until nobody needs its memory any more. */
		__syncthreads();
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
