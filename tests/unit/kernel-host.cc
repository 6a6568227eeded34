/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code of the CUDA kernel itself, compiled for the host: the threads of a block are contexts that run one after
 * another from barrier to barrier, in another order each time. A barrier that is missing gives a wrong result, one that
 * not all threads come to is told.
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
#define __launch_bounds__(threads)
#define __shared__ static

static struct {
	unsigned x;
} threadIdx, blockIdx, gridDim;
static void __syncthreads();

#include "../../cuda/kernel.cuh"

#define STACK (64 * 1024)

static struct thread {
	ucontext_t context;
	unsigned barriers;
	bool ended;
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
