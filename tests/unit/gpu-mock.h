/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GPU that does as little as cuda/gpu.h allows: what is queued happens later, in any order that streams and events
 * leave open; its memory is full of garbage, and every step outside of it, or in memory of the host that is not pinned,
 * is a failure. So an engine that forgets a dependency, or uses memory too early again, gives a wrong result.
 */
#ifndef TESTS_GPU_MOCK_H
#define TESTS_GPU_MOCK_H

#include "exact.h"
#include "grid-host.h"

#include <stdio.h>

/* The kernel's arithmetic; or, where that is linked, its code (kernel-host.cc). */
#ifdef MOCK_KERNEL
const char *kernel_turn(const struct sd_batch *batch, uint64_t seed);
#else
#define kernel_turn(batch, seed) grid_turn(batch)
#endif

#define MOCK_QUEUE 1024
#define MOCK_BLOCKS 64

enum mock_kind { MOCK_DEVICE, MOCK_PINNED, MOCK_ADOPTED };

struct mock_block {
	enum mock_kind kind;
	uint8_t *begin;
	size_t bytes;
};

struct mock_work {
	enum { MOCK_COPY, MOCK_LAUNCH, MOCK_RECORD, MOCK_WAIT } what;
	struct sd_gpu_copy copy;
	struct sd_batch batch;
	unsigned event;
	uint64_t time; /* of the event that is recorded or waited for */
};

struct mock_queue {
	struct mock_work work[MOCK_QUEUE];
	unsigned head, count;
};

struct mock {
	struct sd_gpu gpu; /* first */
	uint64_t seed;
	size_t memory;     /* bytes of device memory that are left */
	bool pins;         /* memory can be pinned that is there */
	long failing;      /* calls until one fails; negative: none does */
	const char *wrong; /* what went wrong on the device: all that follows fails */
	struct mock_queue stream[SD_GPU_STREAMS];
	unsigned favourite;               /* the stream that is fast just now */
	uint64_t recorded[SD_GPU_EVENTS]; /* how often so far */
	uint64_t come[SD_GPU_EVENTS];     /* and how many of these have come */
	struct mock_block block[MOCK_BLOCKS];
	unsigned blocks;
	unsigned long copies, launches, overlaps, direct; /* done; of the copies, those while another stream was at
							     work; those with rows apart */
	bool *closed;                                     /* set when it is */
};

static inline struct mock *mock_of(struct sd_gpu *gpu)
{
	return (struct mock *)gpu;
}

static inline bool mock_fail(struct mock *m, const char *why)
{
	if (!m->wrong)
		m->wrong = why;
	snprintf(m->gpu.error, sizeof(m->gpu.error), "%s", m->wrong);
	return false;
}

static inline bool mock_call(struct mock *m)
{
	if (m->failing == 0)
		return mock_fail(m, "a failure that was asked for");
	m->failing -= m->failing > 0;
	return m->wrong ? mock_fail(m, NULL) : true;
}

static inline bool mock_inside(const struct mock *m, bool device, const uint8_t *begin, size_t bytes)
{
	for (unsigned i = 0; i < m->blocks; i++) {
		const struct mock_block *b = &m->block[i];

		if ((b->kind == MOCK_DEVICE) == device && begin >= b->begin && begin <= b->begin + b->bytes &&
		    bytes <= (size_t)(b->begin + b->bytes - begin))
			return true;
	}
	return false;
}

static inline void mock_garbage(struct mock *m, uint8_t *memory, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		memory[i] = (uint8_t)exact_random(&m->seed);
}

static inline void mock_keep(struct mock *m, enum mock_kind kind, void *memory, size_t bytes)
{
	if (m->blocks == MOCK_BLOCKS)
		abort();
	m->block[m->blocks++] = (struct mock_block){kind, memory, bytes};
}

static inline struct mock_block mock_forget(struct mock *m, enum mock_kind kind, const void *memory)
{
	for (unsigned i = 0; i < m->blocks; i++)
		if (m->block[i].begin == memory && m->block[i].kind == kind) {
			struct mock_block block = m->block[i];

			m->block[i] = m->block[--m->blocks];
			return block;
		}
	abort();
}

static inline void *mock_allocate(struct sd_gpu *gpu, size_t bytes)
{
	struct mock *m = mock_of(gpu);
	void *memory = bytes <= m->memory ? aligned_alloc(SD_GRID_ALIGN, bytes) : NULL;

	if (!memory)
		return NULL;
	m->memory -= bytes;
	mock_garbage(m, memory, bytes);
	mock_keep(m, MOCK_DEVICE, memory, bytes);
	return memory;
}

static inline void mock_free(struct sd_gpu *gpu, void *memory)
{
	mock_of(gpu)->memory += mock_forget(mock_of(gpu), MOCK_DEVICE, memory).bytes;
	free(memory);
}

static inline void *mock_allocate_pinned(struct sd_gpu *gpu, size_t bytes)
{
	void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (memory)
		mock_keep(mock_of(gpu), MOCK_PINNED, memory, bytes);
	return memory;
}

static inline void mock_free_pinned(struct sd_gpu *gpu, void *memory)
{
	mock_forget(mock_of(gpu), MOCK_PINNED, memory);
	free(memory);
}

static inline bool mock_pin(struct sd_gpu *gpu, void *memory, size_t bytes)
{
	if (!mock_of(gpu)->pins)
		return false;
	mock_keep(mock_of(gpu), MOCK_ADOPTED, memory, bytes);
	return true;
}

static inline void mock_unpin(struct sd_gpu *gpu, void *memory)
{
	mock_forget(mock_of(gpu), MOCK_ADOPTED, memory);
}

static inline void mock_do_copy(struct mock *m, const struct sd_gpu_copy *c, bool in)
{
	size_t to = (c->rows - 1) * c->to_step + c->width, from = (c->rows - 1) * c->from_step + c->width;

	if (c->width == 0 || c->rows == 0 || (c->rows > 1 && (c->to_step < c->width || c->from_step < c->width)) ||
	    !mock_inside(m, in, c->to, to) || !mock_inside(m, !in, c->from, from)) {
		mock_fail(m, "a copy outside of its memory");
		return;
	}
	for (size_t i = 0; i < c->rows; i++)
		memcpy((uint8_t *)c->to + i * c->to_step, (const uint8_t *)c->from + i * c->from_step, c->width);
	m->copies++;
	m->direct += c->rows > 1;
	m->overlaps += (m->stream[in ? SD_GPU_OUT : SD_GPU_IN].count > 0);
}

static inline void mock_do_launch(struct mock *m, const struct sd_batch *batch)
{
	const char *wrong = NULL;

	if (batch->count == 0 ||
	    !mock_inside(m, true, (const uint8_t *)batch->grids, batch->count * sizeof(*batch->grids)))
		wrong = "grids that are not on the device";
	for (uint32_t i = 0; i < batch->count && !wrong; i++) {
		const struct sd_grid *g = &batch->grids[i];
		unsigned scale = sd_element_size(g->plan.scale_dtype);

		/* Garbage in place of a grid may be anything. */
		if (g->first > batch->tiles || g->tiles > batch->tiles || g->plan.outer > SD_MOVE_RANK ||
		    !mock_inside(m, true, g->source, grid_source_bytes(&g->plan)) ||
		    !mock_inside(m, true, g->target, grid_count(&g->plan, false) * batch->target_size) ||
		    !mock_inside(m, true, g->scales, sd_transpose_scales(&g->plan) * scale))
			wrong = "a grid outside of its memory";
	}
	if (!wrong)
		wrong = kernel_turn(batch, m->seed);
	if (wrong)
		mock_fail(m, wrong);
	m->launches++;
}

/* Whether the first work of a stream may be done now. */
static inline bool mock_ready(const struct mock *m, unsigned stream)
{
	const struct mock_queue *q = &m->stream[stream];
	const struct mock_work *w = &q->work[q->head];

	return q->count > 0 && (w->what != MOCK_WAIT || m->come[w->event] >= w->time);
}

static inline void mock_do(struct mock *m, unsigned stream)
{
	struct mock_queue *q = &m->stream[stream];
	const struct mock_work *w = &q->work[q->head];

	if (w->what == MOCK_COPY && !m->wrong)
		mock_do_copy(m, &w->copy, stream == SD_GPU_IN);
	else if (w->what == MOCK_LAUNCH && !m->wrong)
		mock_do_launch(m, &w->batch);
	else if (w->what == MOCK_RECORD)
		m->come[w->event] = w->time;
	q->head = (q->head + 1) % MOCK_QUEUE;
	q->count--;
}

/* Does one piece of work of any stream; false: there is none that may be done. */
static inline bool mock_step(struct mock *m)
{
	unsigned stream;

	if (exact_random(&m->seed) % 8 == 0)
		m->favourite = (unsigned)(exact_random(&m->seed) % SD_GPU_STREAMS);
	stream = exact_random(&m->seed) % 4 ? m->favourite : (unsigned)(exact_random(&m->seed) % SD_GPU_STREAMS);
	for (unsigned i = 0; i < SD_GPU_STREAMS; i++)
		if (mock_ready(m, (stream + i) % SD_GPU_STREAMS)) {
			mock_do(m, (stream + i) % SD_GPU_STREAMS);
			return true;
		}
	return false;
}

static inline bool mock_queue(struct mock *m, enum sd_gpu_stream stream, const struct mock_work *work)
{
	struct mock_queue *q = &m->stream[stream];

	if (!mock_call(m))
		return false;
	while (q->count == MOCK_QUEUE)
		if (!mock_step(m))
			return mock_fail(m, "nothing can go on");
	q->work[(q->head + q->count++) % MOCK_QUEUE] = *work;
	/* Mostly nothing happens at once, but sometimes much. */
	if (exact_random(&m->seed) % 4 == 0)
		for (uint64_t n = exact_random(&m->seed) % 12; n > 0 && mock_step(m); n--)
			;
	return true;
}

static inline bool mock_enter(struct sd_gpu *gpu)
{
	(void)gpu;
	return true;
}

static inline bool mock_copy(struct sd_gpu *gpu, enum sd_gpu_stream stream, const struct sd_gpu_copy *copy)
{
	return mock_queue(mock_of(gpu), stream, &(struct mock_work){.what = MOCK_COPY, .copy = *copy});
}

static inline bool mock_launch(struct sd_gpu *gpu, const struct sd_batch *batch)
{
	return mock_queue(mock_of(gpu), SD_GPU_COMPUTE, &(struct mock_work){.what = MOCK_LAUNCH, .batch = *batch});
}

static inline bool mock_record(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event)
{
	struct mock *m = mock_of(gpu);

	if (event >= SD_GPU_EVENTS)
		return mock_fail(m, "no such event");
	return mock_queue(m, stream,
			  &(struct mock_work){.what = MOCK_RECORD, .event = event, .time = ++m->recorded[event]});
}

static inline bool mock_wait(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event)
{
	struct mock *m = mock_of(gpu);

	return mock_queue(m, stream,
			  &(struct mock_work){.what = MOCK_WAIT, .event = event, .time = m->recorded[event]});
}

static inline bool mock_await(struct sd_gpu *gpu, unsigned event)
{
	struct mock *m = mock_of(gpu);

	if (!mock_call(m))
		return false;
	while (m->come[event] < m->recorded[event])
		if (!mock_step(m))
			return mock_fail(m, "an event that never comes");
	return m->wrong ? mock_fail(m, NULL) : true;
}

static inline bool mock_drain(struct sd_gpu *gpu)
{
	while (mock_step(mock_of(gpu)))
		;
	return !mock_of(gpu)->wrong;
}

static inline bool mock_idle(const struct mock *m)
{
	return m->stream[SD_GPU_IN].count + m->stream[SD_GPU_COMPUTE].count + m->stream[SD_GPU_OUT].count == 0;
}

static inline void mock_close(struct sd_gpu *gpu)
{
	struct mock *m = mock_of(gpu);

	/* What is left open would leak on a GPU. */
	if (m->blocks > 0 || !mock_idle(m))
		abort();
	if (m->closed)
		*m->closed = true;
	free(m);
}

/* With so many bytes of device memory. */
static inline struct mock *mock_open(uint64_t seed, size_t memory)
{
	static const struct sd_gpu_ops ops = {
		.allocate = mock_allocate,
		.free = mock_free,
		.allocate_pinned = mock_allocate_pinned,
		.free_pinned = mock_free_pinned,
		.pin = mock_pin,
		.unpin = mock_unpin,
		.enter = mock_enter,
		.copy = mock_copy,
		.launch = mock_launch,
		.record = mock_record,
		.wait = mock_wait,
		.await = mock_await,
		.drain = mock_drain,
		.close = mock_close,
	};
	struct mock *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->gpu.ops = &ops;
	m->gpu.name = "the CUDA engine on the host";
	m->seed = seed;
	m->memory = memory;
	m->pins = true;
	m->failing = -1;
	return m;
}

#endif
