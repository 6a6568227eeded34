/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU as a device: one queue of jobs, cut into units, which all threads take from; nobody waits for the others
 * where a job begins or ends. Who waits for a job does units meanwhile.
 */
#include "move/tile.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Bytes that a unit has about. Threads end together the better the more units there are. */
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
/* As many numbers of CPUs are looked at, at most. */
#define CPUS_MOST (1U << 20)
/* Jobs that are on their way at a time. */
#define QUEUE 64
/* Jobs that are best begun before the first is awaited: for each thread, and in all. */
#define AHEAD_A_THREAD 2
#define AHEAD_MOST 16
/*
 * How often a thread looks again before it sleeps, some 20 us: to be woken takes as long. It does not give way
 * meanwhile: who does is left where others run, however idle another core is.
 */
#define LOOKS 400

struct work {
	struct sd_job job;
	struct sd_transpose plan;
	uint64_t loops, a, b; /* what a unit has of each */
	uint64_t units;
	void (*call)(void *context, uint64_t part); /* in place of a job: a unit is a part */
	void *context;
	bool streaming;
	/* Under the lock: */
	uint64_t taken, done; /* units */
	unsigned threads;     /* that do one just now */
};

struct cpu {
	struct sd_device device; /* first */
	const struct sd_kernels *kernels;
	struct sd_tile_scratch *scratch; /* the caller's */
	char name[64];
	unsigned nhelpers; /* threads beside the caller's */
	struct helper {
		pthread_t thread;
		struct cpu *cpu;
		struct sd_tile_scratch *scratch;
	} * helpers;
	pthread_mutex_t lock;
	pthread_cond_t more, less; /* work to do; done */
	struct work work[QUEUE];   /* job number n at n % QUEUE */
	/* Changed under the lock; the atomic ones are looked at without it. */
	uint64_t begun;            /* jobs */
	atomic_uint_fast64_t done; /* all jobs before this one are */
	atomic_uint_fast64_t left; /* units that nobody has taken */
	atomic_bool closing;
	unsigned asleep; /* helpers */
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Some 50 ns, in which another thread of the core has it for itself. */
static void pause_a_moment(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

static uint64_t pieces_of(uint64_t size, uint64_t piece)
{
	return size / piece + (size % piece != 0);
}

/* The loops of a unit: from the first to before *end. */
static uint64_t loops_of(const struct work *work, uint64_t unit, uint64_t *end)
{
	uint64_t across = pieces_of(work->plan.a.size, work->a) * pieces_of(work->plan.b.size, work->b);
	uint64_t first = unit / across * work->loops;

	*end = first + least(work->loops, work->plan.loops - first);
	return first;
}

/*
 * What a unit has of one loop. Units are numbered along b first, then a, then the loops, so that one thread's follow
 * each other in the target.
 */
static struct sd_tile piece_of(const struct work *work, uint64_t unit, uint64_t loop)
{
	const struct sd_transpose *plan = &work->plan;
	struct sd_place place = sd_transpose_place(plan, loop);
	uint64_t units_b = pieces_of(plan->b.size, work->b), units_a = pieces_of(plan->a.size, work->a);
	uint64_t b = unit % units_b * work->b, a = unit / units_b % units_a * work->a;

	return (struct sd_tile){
		.source = work->job.source,
		.from = place.from + a * plan->a.from + b * plan->b.from,
		.target =
			(uint8_t *)work->job.target + (place.to + a * plan->a.to + b * plan->b.to) * plan->target_size,
		.scale = place.scale,
		.a = a,
		.b = b,
		.na = least(work->a, plan->a.size - a),
		.nb = least(work->b, plan->b.size - b),
	};
}

/* What is to be asked for while the piece before it is done: a guess, for another thread may take the next unit. */
static const uint8_t *source_of(const struct work *work, uint64_t unit, uint64_t loop)
{
	struct sd_tile piece = piece_of(work, unit, loop);

	return sd_transpose_source(&work->plan, piece.source, piece.from);
}

static void do_unit(const struct sd_kernels *kernels, struct sd_tile_scratch *scratch, const struct work *work,
		    uint64_t unit)
{
	struct sd_tile_how how = {kernels, &work->plan, work->job.scale.data, scratch, work->streaming};
	uint64_t end, after, loop;

	if (work->call) {
		work->call(work->context, unit);
		return;
	}
	loop = loops_of(work, unit, &end);
	for (; loop < end; loop++) {
		struct sd_tile piece = piece_of(work, unit, loop);

		if (loop + 1 < end)
			piece.after = source_of(work, unit, loop + 1);
		else if (unit + 1 < work->units)
			piece.after = source_of(work, unit + 1, loops_of(work, unit + 1, &after));
		sd_tile_do(&how, &piece);
	}
	kernels->end();
}

/*
 * A unit of the job that the fewest threads are at, the oldest of these; NULL: there is none. Two that write to pieces
 * of the same rows lose a fifth of their speed, so each keeps to a matrix of its own as long as there are enough.
 */
static struct work *take_unit(struct cpu *cpu, uint64_t *unit)
{
	struct work *best = NULL;

	for (uint64_t n = cpu->done; n < cpu->begun && cpu->left > 0; n++) {
		struct work *work = &cpu->work[n % QUEUE];

		if (work->taken < work->units && (!best || work->threads < best->threads))
			best = work;
	}
	if (!best)
		return NULL;
	best->threads++;
	*unit = best->taken++;
	cpu->left--;
	return best;
}

static void note_done(struct cpu *cpu)
{
	uint64_t done = cpu->done;

	while (done < cpu->begun && cpu->work[done % QUEUE].done == cpu->work[done % QUEUE].units)
		done++;
	if (done == cpu->done)
		return;
	cpu->done = done;
	pthread_cond_signal(&cpu->less);
}

/* Does units, under the lock but for the work itself, until there are none or all jobs before end are done. */
static void do_units(struct cpu *cpu, struct sd_tile_scratch *scratch, uint64_t end)
{
	struct work *work;
	uint64_t unit;

	while (cpu->done < end && !cpu->closing && (work = take_unit(cpu, &unit))) {
		pthread_mutex_unlock(&cpu->lock);
		do_unit(cpu->kernels, scratch, work, unit);
		pthread_mutex_lock(&cpu->lock);
		work->threads--;
		work->done++;
		note_done(cpu);
	}
}

static void *help(void *arg)
{
	struct helper *helper = arg;
	struct cpu *cpu = helper->cpu;

	pthread_mutex_lock(&cpu->lock);
	while (!cpu->closing) {
		do_units(cpu, helper->scratch, UINT64_MAX);
		pthread_mutex_unlock(&cpu->lock);
		for (int i = 0; i < LOOKS && cpu->left == 0 && !cpu->closing; i++)
			pause_a_moment();
		pthread_mutex_lock(&cpu->lock);
		cpu->asleep++;
		while (cpu->left == 0 && !cpu->closing)
			pthread_cond_wait(&cpu->more, &cpu->lock);
		cpu->asleep--;
	}
	pthread_mutex_unlock(&cpu->lock);
	return NULL;
}

/* Until all jobs before end are done. */
static void wait_until(struct cpu *cpu, uint64_t end)
{
	pthread_mutex_lock(&cpu->lock);
	while (cpu->done < end) {
		do_units(cpu, cpu->scratch, end);
		pthread_mutex_unlock(&cpu->lock);
		for (int i = 0; i < LOOKS && cpu->done < end; i++)
			pause_a_moment();
		pthread_mutex_lock(&cpu->lock);
		if (cpu->done < end && cpu->left == 0)
			pthread_cond_wait(&cpu->less, &cpu->lock);
	}
	pthread_mutex_unlock(&cpu->lock);
}

/* How much of a, b and the loops a unit has: whole lines, where there is something to turn. */
static void cut(struct work *work, unsigned threads)
{
	const struct sd_transpose *plan = &work->plan;
	uint64_t line = plan->rows ? 1 : SD_TILE_ROWS;
	uint64_t elements = plan->a.size * plan->b.size * plan->loops;
	uint64_t least_room = UNIT_LEAST / plan->target_size, most_room = UNIT_MOST / plan->target_size;
	uint64_t room = least(elements / threads / UNITS_A_THREAD, most_room);
	uint64_t band;

	if (plan->loops == 0)
		return;
	room = room > least_room ? room : least_room;
	work->a = least(plan->a.size, plan->rows ? room : UNIT_STRETCH / plan->source_size);
	band = room / work->a / line * line;
	work->b = least(plan->b.size, band > line ? band : line);
	work->loops = room / work->a / work->b;
	work->loops = work->loops > 1 ? work->loops : 1;
	work->units = pieces_of(plan->a.size, work->a) * pieces_of(plan->b.size, work->b) *
		      pieces_of(plan->loops, work->loops);
	work->streaming = elements >= STREAM_BYTES / plan->target_size;
}

/* One small unit is not worth waking anybody. */
static void wake(struct cpu *cpu, const struct work *work)
{
	uint64_t count = least(cpu->asleep, cpu->left);

	if (cpu->left > 1 || work->streaming)
		for (uint64_t i = 0; i < count; i++)
			pthread_cond_signal(&cpu->more);
}

static uint64_t enqueue(struct cpu *cpu, const struct work *as)
{
	struct work *work = &cpu->work[cpu->begun % QUEUE];
	uint64_t ticket;

	if (cpu->begun >= QUEUE)
		wait_until(cpu, cpu->begun - QUEUE + 1);
	*work = *as;
	pthread_mutex_lock(&cpu->lock);
	ticket = cpu->begun++;
	cpu->left += work->units;
	note_done(cpu);
	wake(cpu, work);
	pthread_mutex_unlock(&cpu->lock);
	return ticket;
}

static enum sd_device_result begin(struct sd_device *device, const struct sd_job *job, uint64_t *ticket)
{
	struct cpu *cpu = (struct cpu *)device;
	struct work work = {.job = *job};
	enum sd_device_result result = sd_transpose_plan(job, &work.plan, device->failure);

	if (result != SD_DEVICE_OK)
		return result;
	cut(&work, cpu->nhelpers + 1);
	*ticket = enqueue(cpu, &work);
	return SD_DEVICE_OK;
}

static enum sd_device_result share(struct sd_device *device, void (*call)(void *context, uint64_t part), void *context,
				   uint64_t parts)
{
	struct cpu *cpu = (struct cpu *)device;
	const struct work work = {.call = call, .context = context, .units = parts};

	wait_until(cpu, enqueue(cpu, &work) + 1);
	return SD_DEVICE_OK;
}

static enum sd_device_result wait_for(struct sd_device *device, uint64_t ticket)
{
	wait_until((struct cpu *)device, ticket + 1);
	return SD_DEVICE_OK;
}

static void close_cpu(struct sd_device *device)
{
	struct cpu *cpu = (struct cpu *)device;

	pthread_mutex_lock(&cpu->lock);
	cpu->closing = true;
	pthread_cond_broadcast(&cpu->more);
	pthread_mutex_unlock(&cpu->lock);
	for (unsigned i = 0; i < cpu->nhelpers; i++) {
		pthread_join(cpu->helpers[i].thread, NULL);
		free(cpu->helpers[i].scratch);
	}
	pthread_cond_destroy(&cpu->less);
	pthread_cond_destroy(&cpu->more);
	pthread_mutex_destroy(&cpu->lock);
	free(cpu->helpers);
	free(cpu->scratch);
	free(cpu);
}

/* 0: there are more than that many numbers of CPUs. */
static unsigned threads_of(size_t cpus)
{
	cpu_set_t *set = CPU_ALLOC(cpus);
	unsigned count = 0;

	if (!set)
		return 1;
	if (sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0)
		count = (unsigned)CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set);
	else if (errno != EINVAL)
		count = 1;
	CPU_FREE(set);
	return count;
}

unsigned sd_device_threads(void)
{
	unsigned count = 0;

	for (size_t cpus = CPU_SETSIZE; count == 0 && cpus <= CPUS_MOST; cpus *= 2)
		count = threads_of(cpus);
	return count ? count : 1;
}

static struct sd_tile_scratch *new_scratch(void)
{
	return aligned_alloc(SD_LINE, (sizeof(struct sd_tile_scratch) + SD_LINE - 1) / SD_LINE * SD_LINE);
}

static bool start_helper(struct cpu *cpu)
{
	struct helper *helper = &cpu->helpers[cpu->nhelpers];

	*helper = (struct helper){.cpu = cpu, .scratch = new_scratch()};
	if (helper->scratch && pthread_create(&helper->thread, NULL, help, helper) == 0) {
		cpu->nhelpers++;
		return true;
	}
	free(helper->scratch);
	return false;
}

/* Signals are for the thread that runs the tool. */
static bool start_helpers(struct cpu *cpu, unsigned count)
{
	sigset_t all, before;
	bool ok = true;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; i < count && ok; i++)
		ok = start_helper(cpu);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ok;
}

enum sd_device_result sd_device_open_cpu(unsigned threads, struct sd_device **device)
{
	static const struct sd_device_ops ops = {.begin = begin, .wait = wait_for, .share = share, .close = close_cpu};
	struct cpu *cpu = calloc(1, sizeof(*cpu));

	*device = NULL;
	if (!cpu)
		return SD_DEVICE_NOMEM;
	if (threads == 0)
		threads = sd_device_threads();
	cpu->device.ops = &ops;
	cpu->kernels = sd_kernels_pick(getenv("SD_KERNELS"));
	pthread_mutex_init(&cpu->lock, NULL);
	pthread_cond_init(&cpu->more, NULL);
	pthread_cond_init(&cpu->less, NULL);
	snprintf(cpu->name, sizeof(cpu->name), "cpu, %u thread%s, %s", threads, threads == 1 ? "" : "s",
		 cpu->kernels->name);
	cpu->device.name = cpu->name;
	cpu->device.ahead = threads == 1 ? 1 : (unsigned)least((uint64_t)threads * AHEAD_A_THREAD, AHEAD_MOST);
	cpu->helpers = calloc(threads, sizeof(*cpu->helpers));
	cpu->scratch = new_scratch();
	if (!cpu->helpers || !cpu->scratch || !start_helpers(cpu, threads - 1)) {
		close_cpu(&cpu->device);
		return SD_DEVICE_NOMEM;
	}
	*device = &cpu->device;
	return SD_DEVICE_OK;
}
