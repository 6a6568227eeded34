/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code of the CUDA kernel itself, compiled for the host: the threads of a block are contexts that run one after
 * another from barrier to barrier, in another order each time. A barrier that is missing gives a wrong result, one that
 * not all threads come to is told. Copies to shared memory are done at once or as late as they may be, as it happens,
 * so that a wait that is missing, and memory that is used again too early, give wrong results too.
 */
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

extern "C" {
#include "../../cuda/grid.h"
const char *kernel_turn(const struct sd_batch *batch, uint64_t seed);
}

#define __global__ static
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static

static struct {
	unsigned x;
} threadIdx, blockIdx, gridDim;
static void __syncthreads();
static void __pipeline_memcpy_async(void *to, const void *from, size_t bytes);
static void __pipeline_commit();
static void __pipeline_wait_prior(unsigned groups);

struct uint2 {
	unsigned x, y;
};
struct uint4 {
	unsigned x, y, z, w;
};

static uint2 make_uint2(unsigned x, unsigned y)
{
	return uint2{x, y};
}

static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
	return uint4{x, y, z, w};
}

/* One access, which has to be aligned to its size; plain structs would not tell. */
template <typename T> static void must_align(const T *at)
{
	if ((uintptr_t)at % sizeof(T) != 0)
		abort();
}

template <typename T> static T __ldcs(const T *at)
{
	must_align(at);
	return *at;
}

template <typename T> static void __stcs(T *at, T value)
{
	must_align(at);
	*at = value;
}

/* Bytes of the two words, the first word's first, picked by four digits. */
static unsigned __byte_perm(unsigned low, unsigned high, unsigned digits)
{
	uint64_t both = (uint64_t)high << 32 | low;
	unsigned made = 0;

	for (unsigned i = 0; i < 4; i++)
		made |= (unsigned)(both >> (digits >> i * 4 & 7) * 8 & 255) << i * 8;
	return made;
}

#include "../../cuda/kernel.cuh"

#define STACK (64 * 1024)

/* Copies that a thread may have queued, and groups of them. */
#define COPIES (2 * SD_GRID_VECTORS / SD_GRID_THREADS)

static struct thread {
	ucontext_t context;
	unsigned barriers;
	bool ended, late;
	unsigned queued, group; /* the group that is being filled */
	struct {
		void *to;
		const void *from;
		unsigned group;
	} copy[COPIES];
} threads[SD_GRID_THREADS];
static ucontext_t scheduler;
static unsigned current;
static kernel *running;
static const struct sd_batch *launched;

static void __syncthreads()
{
	threads[current].barriers++;
	swapcontext(&threads[current].context, &scheduler);
}

static void __pipeline_memcpy_async(void *to, const void *from, size_t bytes)
{
	struct thread *t = &threads[current];

	if (bytes != SD_GRID_VECTOR || t->queued == COPIES)
		abort();
	must_align((const uint4 *)to);
	must_align((const uint4 *)from);
	if (!t->late) {
		memcpy(to, from, bytes);
		return;
	}
	t->copy[t->queued].to = to;
	t->copy[t->queued].from = from;
	t->copy[t->queued++].group = t->group;
}

static void __pipeline_commit()
{
	threads[current].group++;
}

static void __pipeline_wait_prior(unsigned groups)
{
	struct thread *t = &threads[current];
	unsigned left = 0;

	for (unsigned i = 0; i < t->queued; i++)
		if (t->copy[i].group + groups < t->group)
			memcpy(t->copy[i].to, t->copy[i].from, SD_GRID_VECTOR);
		else
			t->copy[left++] = t->copy[i];
	t->queued = left;
}

static void begin()
{
	running(launched->grids, launched->tiles);
	threads[current].ended = true;
}

static unsigned below(uint64_t *seed, unsigned count)
{
	*seed = *seed * 6364136223846793005U + 1442695040888963407U;
	return (unsigned)((*seed >> 33) % count);
}

/* Every thread to its next barrier, or its end. */
static void go_on(uint64_t *seed)
{
	unsigned order[SD_GRID_THREADS];

	for (unsigned i = 0; i < SD_GRID_THREADS; i++) {
		unsigned j = below(seed, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (unsigned i = 0; i < SD_GRID_THREADS; i++) {
		current = order[i];
		threadIdx.x = current;
		swapcontext(&scheduler, &threads[current].context);
	}
}

static const char *run_block(uint64_t *seed, char *stacks)
{
	for (unsigned i = 0; i < SD_GRID_THREADS; i++) {
		struct thread *t = &threads[i];

		*t = (struct thread){};
		t->late = below(seed, 2);
		getcontext(&t->context);
		t->context.uc_stack.ss_sp = stacks + (size_t)i * STACK;
		t->context.uc_stack.ss_size = STACK;
		t->context.uc_link = &scheduler;
		makecontext(&t->context, begin, 0);
	}
	while (!threads[0].ended) {
		go_on(seed);
		for (unsigned i = 1; i < SD_GRID_THREADS; i++)
			if (threads[i].barriers != threads[0].barriers || threads[i].ended != threads[0].ended)
				return "a barrier that not all threads come to";
	}
	for (unsigned i = 0; i < SD_GRID_THREADS; i++)
		if (threads[i].queued > 0)
			return "a copy that nobody waits for";
	return NULL;
}

/* Turns what the device would, in a few blocks. Returns what the kernel did wrong as far as it can be told, or NULL. */
const char *kernel_turn(const struct sd_batch *batch, uint64_t seed)
{
	char *stacks = (char *)malloc((size_t)SD_GRID_THREADS * STACK);
	const char *wrong = NULL;

	if (!stacks)
		abort();
	running = kernel_for(batch->source_size, batch->target_size);
	launched = batch;
	gridDim.x = 1 + below(&seed, 4);
	for (blockIdx.x = 0; blockIdx.x < gridDim.x && !wrong; blockIdx.x++)
		wrong = run_block(&seed, stacks);
	free(stacks);
	return wrong;
}
