/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU as a device: jobs are cut into units that threads take in turn. */
#include "move/piece.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * Bytes that a unit has about. Threads end together the better the more units there are; but where two write to pieces
 * of the same rows, both lose a fifth of their speed: so each gets but two units of a matrix of ordinary size.
 */
#define UNIT_LEAST (256U << 10)
#define UNIT_MOST (2U << 20)
#define UNITS_A_THREAD 2
/*
 * The longest stretch of a source row in one unit, in bytes: a band of rows, and the one that is asked for meanwhile,
 * stay in a level-2 cache also where rows are a power of two apart. Shorter runs are read more slowly.
 */
#define UNIT_STRETCH 2048U
/* Results of this size and more are written past the caches. */
#define STREAM_BYTES (256U << 10)
/* Jobs that are planned at a time. */
#define BATCH 32
/* How often a thread looks again, giving way to others, before it sleeps: to be woken takes as long as a small matrix.
 */
#define LOOKS 100

struct work {
	struct sd_transpose plan;
	const struct sd_job *job;
	uint64_t loops, a, b; /* what a unit has of each */
	uint64_t first, end;  /* its units, counted over the whole batch */
	bool streaming;
};

struct cpu {
	struct sd_device device; /* first */
	const struct sd_kernels *kernels;
	char name[64];
	unsigned helpers; /* threads beside the caller's */
	pthread_t *threads;
	pthread_mutex_t lock;
	pthread_cond_t begin, done;
	/* Changed under the lock, looked at without it: */
	atomic_uint_fast64_t round; /* counts batches: helpers wait for the next */
	atomic_uint busy;           /* helpers that have not finished this round */
	atomic_bool closing;
	size_t count; /* of work */
	struct work work[BATCH];
	atomic_uint_fast64_t next; /* unit */
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t pieces_of(uint64_t size, uint64_t piece)
{
	return size / piece + (size % piece != 0);
}

/* One thread's way through a batch. */
struct walk {
	struct cpu *cpu;
	size_t at;            /* of work */
	uint64_t unit;        /* of that work */
	uint64_t loop, loops; /* of that unit: the next one, and where it ends */
};

/*
 * The next piece of a thread, whose work is walk->at; false if there is none. Units are numbered along b first, then a,
 * then the loops, so that threads write to neighbouring places.
 */
static bool take_piece(struct walk *walk, struct sd_piece *piece)
{
	struct cpu *cpu = walk->cpu;
	const struct work *work;
	const struct sd_transpose *plan;
	uint64_t units_a, units_b, a, b;
	struct sd_place place;

	if (walk->loop == walk->loops) {
		walk->unit = atomic_fetch_add(&cpu->next, 1);
		while (walk->at < cpu->count && walk->unit >= cpu->work[walk->at].end)
			walk->at++;
		if (walk->at == cpu->count)
			return false;
	}
	work = &cpu->work[walk->at];
	plan = &work->plan;
	units_b = pieces_of(plan->b.size, work->b);
	units_a = pieces_of(plan->a.size, work->a);
	b = (walk->unit - work->first) % units_b * work->b;
	a = (walk->unit - work->first) / units_b % units_a * work->a;
	if (walk->loop == walk->loops) {
		walk->loop = (walk->unit - work->first) / units_b / units_a * work->loops;
		walk->loops = walk->loop + least(work->loops, plan->loops - walk->loop);
	}
	place = sd_transpose_place(plan, walk->loop++);
	*piece = (struct sd_piece){
		.source = work->job->source,
		.from = place.from + a * plan->a.from + b * plan->b.from,
		.target =
			(uint8_t *)work->job->target + (place.to + a * plan->a.to + b * plan->b.to) * plan->target_size,
		.scale = place.scale,
		.a = a,
		.b = b,
		.na = least(work->a, plan->a.size - a),
		.nb = least(work->b, plan->b.size - b),
	};
	return true;
}

/* Whether a thread may take its next piece before it has done the last: something is left for each of the others. */
static bool may_take_early(const struct walk *walk)
{
	const struct cpu *cpu = walk->cpu;

	return walk->loop < walk->loops || atomic_load(&cpu->next) + cpu->helpers < cpu->work[cpu->count - 1].end;
}

/* Takes pieces until there are none left: early if it can, to know what memory to ask for while it is busy. */
static void do_batch(struct cpu *cpu)
{
	struct walk walk = {.cpu = cpu};
	struct sd_piece piece, next;

	for (bool more = take_piece(&walk, &piece); more; piece = next) {
		const struct work *work = &cpu->work[walk.at];
		struct sd_piece_how how = {cpu->kernels, &work->plan, work->job->scale.data, work->streaming};
		bool early = may_take_early(&walk);

		if (early) {
			more = take_piece(&walk, &next);
			piece.after = more && work == &cpu->work[walk.at]
					      ? sd_transpose_source(&work->plan, next.source, next.from)
					      : NULL;
		}
		sd_piece_do(&how, &piece);
		if (!early)
			more = take_piece(&walk, &next);
	}
	cpu->kernels->end();
}

static void *help(void *arg)
{
	struct cpu *cpu = arg;
	uint64_t seen = 0;

	for (;;) {
		for (int i = 0; i < LOOKS && cpu->round == seen && !cpu->closing; i++)
			sched_yield();
		pthread_mutex_lock(&cpu->lock);
		while (cpu->round == seen && !cpu->closing)
			pthread_cond_wait(&cpu->begin, &cpu->lock);
		seen = cpu->round;
		pthread_mutex_unlock(&cpu->lock);
		if (cpu->closing)
			return NULL;
		do_batch(cpu);
		pthread_mutex_lock(&cpu->lock);
		if (--cpu->busy == 0)
			pthread_cond_signal(&cpu->done);
		pthread_mutex_unlock(&cpu->lock);
	}
}

/* Cuts the work into units and has all threads do them. One unit is not worth waking anybody. */
static void run_batch(struct cpu *cpu)
{
	uint64_t units = cpu->count > 0 ? cpu->work[cpu->count - 1].end : 0;
	bool alone = cpu->helpers == 0 || units < 2;

	atomic_store(&cpu->next, 0);
	if (alone) {
		do_batch(cpu);
		return;
	}
	pthread_mutex_lock(&cpu->lock);
	cpu->busy = cpu->helpers;
	cpu->round++;
	pthread_cond_broadcast(&cpu->begin);
	pthread_mutex_unlock(&cpu->lock);
	do_batch(cpu);
	for (int i = 0; i < LOOKS && cpu->busy > 0; i++)
		sched_yield();
	pthread_mutex_lock(&cpu->lock);
	while (cpu->busy > 0)
		pthread_cond_wait(&cpu->done, &cpu->lock);
	pthread_mutex_unlock(&cpu->lock);
}

/* How much of a, b and the loops a unit has: whole lines, where there is something to turn. */
static void cut(struct work *work, uint64_t first, unsigned threads)
{
	const struct sd_transpose *plan = &work->plan;
	uint64_t line = plan->rows ? 1 : SD_PIECE_ROWS;
	uint64_t elements = plan->a.size * plan->b.size * plan->loops;
	uint64_t least_room = UNIT_LEAST / plan->target_size, most_room = UNIT_MOST / plan->target_size;
	uint64_t room = least(elements / threads / UNITS_A_THREAD, most_room);
	uint64_t band;

	room = room > least_room ? room : least_room;
	work->a = least(plan->a.size, plan->rows ? room : UNIT_STRETCH / plan->source_size);
	band = room / work->a / line * line;
	work->b = least(plan->b.size, band > line ? band : line);
	work->loops = room / work->a / work->b;
	work->loops = work->loops > 1 ? work->loops : 1;
	work->first = first;
	work->end = first + pieces_of(plan->a.size, work->a) * pieces_of(plan->b.size, work->b) *
				    pieces_of(plan->loops, work->loops);
	work->streaming = elements >= STREAM_BYTES / plan->target_size;
}

static enum sd_device_result run(struct sd_device *device, const struct sd_job *jobs, size_t count)
{
	struct cpu *cpu = (struct cpu *)device;
	uint64_t units = 0;

	cpu->count = 0;
	for (size_t i = 0; i < count; i++) {
		struct work *work = &cpu->work[cpu->count];
		enum sd_device_result result = sd_transpose_plan(&jobs[i], &work->plan, device->failure);

		if (result != SD_DEVICE_OK)
			return result;
		if (work->plan.loops == 0)
			continue;
		work->job = &jobs[i];
		cut(work, units, cpu->helpers + 1);
		units = work->end;
		if (++cpu->count < BATCH)
			continue;
		run_batch(cpu);
		cpu->count = 0;
		units = 0;
	}
	run_batch(cpu);
	return SD_DEVICE_OK;
}

static void close_cpu(struct sd_device *device)
{
	struct cpu *cpu = (struct cpu *)device;

	pthread_mutex_lock(&cpu->lock);
	cpu->closing = true;
	pthread_cond_broadcast(&cpu->begin);
	pthread_mutex_unlock(&cpu->lock);
	for (unsigned i = 0; i < cpu->helpers; i++)
		pthread_join(cpu->threads[i], NULL);
	pthread_cond_destroy(&cpu->done);
	pthread_cond_destroy(&cpu->begin);
	pthread_mutex_destroy(&cpu->lock);
	free(cpu->threads);
	free(cpu);
}

/* As many as may run; no more than anybody has. */
static unsigned threads_allowed(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

/* Signals are for the thread that runs the tool. */
static bool start_helpers(struct cpu *cpu, unsigned count)
{
	sigset_t all, before;
	bool ok = true;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; i < count && ok; i++) {
		ok = pthread_create(&cpu->threads[i], NULL, help, cpu) == 0;
		cpu->helpers += ok;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ok;
}

enum sd_device_result sd_device_open_cpu(unsigned threads, struct sd_device **device)
{
	static const struct sd_device_ops ops = {.run = run, .close = close_cpu};
	struct cpu *cpu = calloc(1, sizeof(*cpu));

	*device = NULL;
	if (!cpu)
		return SD_DEVICE_NOMEM;
	if (threads == 0)
		threads = threads_allowed();
	cpu->device.ops = &ops;
	cpu->kernels = sd_kernels_pick(getenv("SD_KERNELS"));
	pthread_mutex_init(&cpu->lock, NULL);
	pthread_cond_init(&cpu->begin, NULL);
	pthread_cond_init(&cpu->done, NULL);
	snprintf(cpu->name, sizeof(cpu->name), "cpu, %u thread%s, %s", threads, threads == 1 ? "" : "s",
		 cpu->kernels->name);
	cpu->device.name = cpu->name;
	cpu->threads = calloc(threads, sizeof(*cpu->threads));
	if (!cpu->threads || !start_helpers(cpu, threads - 1)) {
		close_cpu(&cpu->device);
		return SD_DEVICE_NOMEM;
	}
	*device = &cpu->device;
	return SD_DEVICE_OK;
}
