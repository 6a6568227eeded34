/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: what is where in a slice, and what waits for what. */
#include "engine.h"
#include "job_slice.h"

#include <stdio.h>
#include <stdlib.h>

/*
 * Slices on their way at one time: one in each stage, and one that the host fills. A slot's memory is used again when
 * its slice has come back: that is the one event that the host waits for, and all else follows from it.
 */
#define SLOTS 4
/* Parts in a slice. */
#define PARTS 64
/* A job that finds nothing on its way is cut into slices of this part of the full size, if it is little, so that even
 * then stages overlap. */
#define SHARE 8
/* Jobs that are best begun before the first is awaited: small ones go together, and all stages have something to do. */
#define AHEAD 8
/* Regions of pinned memory: the caller's buffers, a ring. */
#define REGIONS 8
/* No GPU takes rows further apart than some GiB. */
#define STEP_MAX ((uint64_t)1 << 30)

const struct sd_engine_sizes sd_engine_sizes = {
	.slice = (size_t)8 << 20,
	.slice_least = (size_t)64 << 10,
	.direct = (size_t)64 << 10,
	.run = 512,
};

enum { ARRIVED, TURNED, BACK, EVENTS };
_Static_assert(SLOTS *EVENTS <= SD_GPU_EVENTS, "a slot has an event for each stage");

/* A part in a slice. */
struct cargo {
	struct sd_job_slice part;
	void *target;  /* the job's */
	uint64_t out;  /* where its target is in the slot */
	bool straight; /* it is copied to where it belongs at once */
};

/*
 * The memory of a slice, in each direction: at the device, and pinned at the host. What goes through the host's is at
 * the front, in one piece; what is copied from or to its own place is at the end.
 */
struct hold {
	uint8_t *device, *host;
	uint64_t front, end; /* used up to, and from */
};

struct slot {
	struct hold in, out;
	struct cargo cargo[PARTS];
	unsigned count;
	bool flying;   /* queued, and not yet awaited */
	uint64_t upto; /* flying: all jobs before this one are done when it has come back */
};

struct region {
	uint8_t *begin;
	size_t bytes; /* 0: it cannot be pinned */
	bool adopted; /* pinned by us, but not ours */
};

struct engine {
	struct sd_device device; /* first */
	struct sd_gpu *gpu;
	struct sd_engine_sizes sizes;
	struct slot slot[SLOTS];
	unsigned current;         /* the slot that is being filled */
	uint64_t room;            /* bytes of it, each way */
	const struct sd_job *job; /* whose parts are coming */
	uint64_t begun, done;     /* jobs: so many, and all before this one */
	bool broken;              /* the GPU has failed: jobs that were not done by then never are */
	struct region region[REGIONS];
	unsigned regions;
};

static enum sd_device_result fail(struct engine *e, const char *what)
{
	snprintf(e->device.failure, sizeof(e->device.failure), "%s: %s", what, e->gpu->error);
	e->broken = true;
	return SD_DEVICE_FAILED;
}

static unsigned event(const struct engine *e, const struct slot *slot, unsigned stage)
{
	return (unsigned)(slot - e->slot) * EVENTS + stage;
}

static void empty(const struct engine *e, struct slot *slot)
{
	slot->count = 0;
	slot->in.front = slot->out.front = 0;
	slot->in.end = slot->out.end = e->room;
}

static bool is_pinned(const struct engine *e, const uint8_t *begin, uint64_t bytes)
{
	for (unsigned i = 0; i < e->regions; i++) {
		const struct region *r = &e->region[i];

		if (begin >= r->begin && begin < r->begin + r->bytes)
			return bytes <= (uint64_t)(r->begin + r->bytes - begin);
	}
	return false;
}

/* Whether a side is copied from or to where it lies at the host. */
static bool goes_straight(const struct engine *e, const struct sd_strided *side, const void *buffer)
{
	return side->bytes >= e->sizes.direct && side->run >= e->sizes.run && side->rank <= 1 &&
	       (side->rank == 0 || side->dim[0].step <= STEP_MAX) &&
	       is_pinned(e, (const uint8_t *)buffer + side->from, sd_strided_reach(side));
}

/* Room in a slice, which has enough. */
static uint64_t take(struct hold *hold, uint64_t bytes, bool straight)
{
	bytes = sd_job_slice_aligned(bytes);
	if (straight)
		return hold->end -= bytes;
	hold->front += bytes;
	return hold->front - bytes;
}

/* What is copied between the host and the device; where to and where from is for the caller to fill in. */
static struct sd_gpu_copy rectangle(const struct sd_strided *side, bool out)
{
	struct sd_gpu_copy copy = {.width = side->run, .rows = 1, .to_step = side->run, .from_step = side->run};

	if (side->rank > 0) {
		copy.rows = side->dim[0].size;
		*(out ? &copy.to_step : &copy.from_step) = side->dim[0].step;
	}
	return copy;
}

static struct sd_gpu_copy line(void *to, const void *from, uint64_t bytes)
{
	return (struct sd_gpu_copy){to, from, bytes, 1, bytes, bytes};
}

/* Waits for a slice that is on its way, and puts what has come back in its places. */
static enum sd_device_result land(struct engine *e, struct slot *slot)
{
	if (!slot->flying)
		return SD_DEVICE_OK;
	if (!e->gpu->ops->await(e->gpu, event(e, slot, BACK)))
		return fail(e, "turning on the GPU");
	for (unsigned i = 0; i < slot->count; i++) {
		const struct cargo *cargo = &slot->cargo[i];

		if (!cargo->straight)
			sd_strided_scatter(&cargo->part.target, slot->out.host + cargo->out, cargo->target);
	}
	slot->flying = false;
	slot->count = 0;
	e->done = slot->upto;
	return SD_DEVICE_OK;
}

/* Puts the grids with elements of these sizes behind one another into the slice. Returns the batch. */
static struct sd_batch batch_of(struct slot *slot, unsigned source_size, unsigned target_size)
{
	struct sd_batch batch = {.grids = (const struct sd_grid *)(slot->in.device + slot->in.front),
				 .source_size = (uint8_t)source_size,
				 .target_size = (uint8_t)target_size};
	struct sd_grid *grids = (struct sd_grid *)(slot->in.host + slot->in.front);

	for (unsigned i = 0; i < slot->count; i++) {
		struct sd_grid *grid = &slot->cargo[i].part.grid;

		if (grid->plan.source_size != source_size || grid->plan.target_size != target_size)
			continue;
		grid->first = batch.tiles;
		batch.tiles += grid->tiles;
		grids[batch.count++] = *grid;
	}
	slot->in.front += batch.count * sizeof(*grids);
	return batch;
}

static unsigned batches_of(struct slot *slot, struct sd_batch batches[16])
{
	unsigned count = 0;

	for (unsigned kind = 0; kind < 16; kind++) {
		batches[count] = batch_of(slot, 1U << kind / 4, 1U << kind % 4);
		count += batches[count].count > 0;
	}
	return count;
}

static bool copy_back(struct engine *e, struct slot *slot)
{
	const struct sd_gpu_ops *ops = e->gpu->ops;
	struct sd_gpu_copy staged = line(slot->out.host, slot->out.device, slot->out.front);

	if (slot->out.front > 0 && !ops->copy(e->gpu, SD_GPU_OUT, &staged))
		return false;
	for (unsigned i = 0; i < slot->count; i++) {
		const struct cargo *cargo = &slot->cargo[i];
		struct sd_gpu_copy copy = rectangle(&cargo->part.target, true);

		copy.from = slot->out.device + cargo->out;
		copy.to = (uint8_t *)cargo->target + cargo->part.target.from;
		if (cargo->straight && !ops->copy(e->gpu, SD_GPU_OUT, &copy))
			return false;
	}
	return true;
}

/* Queues all that remains to be done for the slice. Copies of sources from their own place are queued already. */
static bool queue(struct engine *e, struct slot *slot)
{
	const struct sd_gpu_ops *ops = e->gpu->ops;
	struct sd_batch batches[16];
	unsigned count = batches_of(slot, batches);
	struct sd_gpu_copy staged = line(slot->in.device, slot->in.host, slot->in.front);

	slot->flying = true;
	slot->upto = e->begun;
	if (!ops->copy(e->gpu, SD_GPU_IN, &staged) || !ops->record(e->gpu, SD_GPU_IN, event(e, slot, ARRIVED)) ||
	    !ops->wait(e->gpu, SD_GPU_COMPUTE, event(e, slot, ARRIVED)))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (!ops->launch(e->gpu, &batches[i]))
			return false;
	return ops->record(e->gpu, SD_GPU_COMPUTE, event(e, slot, TURNED)) &&
	       ops->wait(e->gpu, SD_GPU_OUT, event(e, slot, TURNED)) && copy_back(e, slot) &&
	       ops->record(e->gpu, SD_GPU_OUT, event(e, slot, BACK));
}

/* Sends the current slice off, if there is something in it, and makes the next slot the current one. */
static enum sd_device_result send(struct engine *e)
{
	struct slot *slot = &e->slot[e->current];

	if (slot->count == 0)
		return SD_DEVICE_OK;
	if (!queue(e, slot))
		return fail(e, "giving work to the GPU");
	e->current = (e->current + 1) % SLOTS;
	return land(e, &e->slot[e->current]);
}

/* The source of a part: a copy of its own, or one to the front of the slice. */
static bool load(struct engine *e, struct slot *slot, struct cargo *cargo)
{
	const struct sd_strided *side = &cargo->part.source;
	bool straight = goes_straight(e, side, e->job->source);
	uint64_t at = take(&slot->in, side->bytes, straight);
	struct sd_gpu_copy copy = rectangle(side, false);

	cargo->part.grid.source = slot->in.device + at;
	if (!straight) {
		sd_strided_gather(side, e->job->source, slot->in.host + at);
		return true;
	}
	copy.from = (const uint8_t *)e->job->source + side->from;
	copy.to = slot->in.device + at;
	return e->gpu->ops->copy(e->gpu, SD_GPU_IN, &copy);
}

static bool fits(const struct slot *slot, const struct sd_job_slice *part)
{
	return slot->count < PARTS &&
	       slot->in.end - slot->in.front >=
		       slot->count * sd_job_slice_aligned(sizeof(part->grid)) + sd_job_slice_in(part) &&
	       slot->out.end - slot->out.front >= sd_job_slice_out(part);
}

static enum sd_device_result add(void *context, const struct sd_job_slice *part)
{
	struct engine *e = context;
	struct slot *slot = &e->slot[e->current];
	struct cargo *cargo;
	uint64_t scales;

	if (slot->count > 0 && !fits(slot, part)) {
		enum sd_device_result result = send(e);

		if (result != SD_DEVICE_OK)
			return result;
		slot = &e->slot[e->current];
	}
	if (slot->count == 0)
		empty(e, slot);
	cargo = &slot->cargo[slot->count++];
	cargo->part = *part;
	cargo->target = e->job->target;
	cargo->straight = goes_straight(e, &part->target, cargo->target);
	cargo->out = take(&slot->out, part->target.bytes, cargo->straight);
	cargo->part.grid.target = slot->out.device + cargo->out;
	scales = take(&slot->in, part->scale_bytes, false);
	if (part->scale_bytes > 0)
		memcpy(slot->in.host + scales, (const uint8_t *)e->job->scale.data + part->scale_from,
		       part->scale_bytes);
	cargo->part.grid.scales = slot->in.device + scales;
	return load(e, slot, cargo) ? SD_DEVICE_OK : fail(e, "giving work to the GPU");
}

/* The slot whose slice comes back next, if any is on its way. */
static struct slot *next_to_land(struct engine *e)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *slot = &e->slot[(e->current + i) % SLOTS];

		if (slot->flying)
			return slot;
	}
	return NULL;
}

/* Waits until all jobs before end are done. What is not needed for that stays where more may come to it. */
static enum sd_device_result land_until(struct engine *e, uint64_t end)
{
	const struct slot *last = &e->slot[(e->current + SLOTS - 1) % SLOTS];
	enum sd_device_result result = SD_DEVICE_OK;

	if (e->done < end && (!last->flying || last->upto < end))
		result = send(e);
	while (e->done < end && result == SD_DEVICE_OK) {
		struct slot *slot = next_to_land(e);

		if (slot)
			result = land(e, slot);
		else
			end = e->done = e->begun;
	}
	return result;
}

/* Bytes of a job's larger side. */
static uint64_t bytes_of(const struct sd_job *job)
{
	unsigned from = sd_element_size(job->source_dtype), to = sd_element_size(job->target_dtype);

	return sd_move_count(&job->move) * (from > to ? from : to);
}

/* How large the slices of work for a GPU that has nothing to do are to be: such that little is not a single one. */
static uint64_t share(const struct engine *e, uint64_t bytes)
{
	uint64_t part = bytes / SLOTS / SD_GRID_ALIGN * SD_GRID_ALIGN;

	if (part > e->sizes.slice)
		return e->sizes.slice;
	return part > e->sizes.slice / SHARE ? part : e->sizes.slice / SHARE;
}

/* What is too little to be worth a slice waits for more, or until somebody waits for it. */
static enum sd_device_result begin_job(struct engine *e, const struct sd_job *job)
{
	bool idle = !next_to_land(e) && e->slot[e->current].count == 0;
	struct sd_transpose plan;
	enum sd_device_result result = sd_transpose_plan(job, &plan, e->device.failure);

	if (result != SD_DEVICE_OK)
		return result;
	e->job = job;
	e->room = idle ? share(e, bytes_of(job)) : e->sizes.slice;
	if (plan.loops > 0)
		result = sd_job_slice_cut(&plan, e->room, add, e);
	if (result != SD_DEVICE_OK)
		return result;
	e->begun++;
	return idle && bytes_of(job) >= e->sizes.slice / SHARE ? send(e) : SD_DEVICE_OK;
}

/* After a failure: nothing that is queued writes into the caller's memory any more. */
static void settle(struct engine *e)
{
	if (!e->broken)
		(void)land_until(e, UINT64_MAX);
	if (!e->broken)
		return;
	(void)e->gpu->ops->drain(e->gpu);
	for (unsigned i = 0; i < SLOTS; i++) {
		e->slot[i].flying = false;
		e->slot[i].count = 0;
	}
}

static enum sd_device_result begin(struct sd_device *device, const struct sd_job *job, uint64_t *ticket)
{
	struct engine *e = (struct engine *)device;
	uint64_t number = e->begun;
	enum sd_device_result result = SD_DEVICE_FAILED;

	if (e->broken)
		return result;
	result = e->gpu->ops->enter(e->gpu) ? begin_job(e, job) : fail(e, "choosing the GPU");
	if (result == SD_DEVICE_OK)
		*ticket = number;
	else
		settle(e);
	return result;
}

static enum sd_device_result wait_for(struct sd_device *device, uint64_t ticket)
{
	struct engine *e = (struct engine *)device;
	enum sd_device_result result = SD_DEVICE_FAILED;

	if (ticket < e->done)
		return SD_DEVICE_OK;
	if (e->broken)
		return result;
	result = e->gpu->ops->enter(e->gpu) ? land_until(e, ticket + 1) : fail(e, "choosing the GPU");
	if (result != SD_DEVICE_OK)
		settle(e);
	return result;
}

static void keep_region(struct engine *e, void *memory, size_t bytes, bool adopted)
{
	e->region[e->regions++] = (struct region){memory, bytes, adopted};
}

static void *allocate(struct sd_device *device, size_t bytes)
{
	struct engine *e = (struct engine *)device;
	void *memory = NULL;

	if (e->regions < REGIONS && e->gpu->ops->enter(e->gpu))
		memory = e->gpu->ops->allocate_pinned(e->gpu, bytes);
	if (!memory)
		return aligned_alloc(64, bytes);
	keep_region(e, memory, bytes, false);
	return memory;
}

static void release(struct sd_device *device, void *memory)
{
	struct engine *e = (struct engine *)device;

	for (unsigned i = 0; i < e->regions; i++)
		if (e->region[i].begin == memory) {
			(void)e->gpu->ops->enter(e->gpu);
			e->gpu->ops->free_pinned(e->gpu, memory);
			e->region[i] = e->region[--e->regions];
			return;
		}
	free(memory);
}

static void adopt(struct sd_device *device, void *memory, size_t bytes)
{
	struct engine *e = (struct engine *)device;

	for (unsigned i = 0; i < e->regions; i++)
		if (e->region[i].begin == memory)
			return;
	if (e->regions == REGIONS || !e->gpu->ops->enter(e->gpu))
		return;
	if (e->gpu->ops->pin(e->gpu, memory, bytes))
		keep_region(e, memory, bytes, true);
	else
		keep_region(e, memory, 0, false);
}

static void free_slots(struct engine *e)
{
	const struct sd_gpu_ops *ops = e->gpu->ops;

	for (unsigned i = 0; i < SLOTS; i++) {
		struct hold *holds[] = {&e->slot[i].in, &e->slot[i].out};

		for (unsigned k = 0; k < 2; k++) {
			if (holds[k]->device)
				ops->free(e->gpu, holds[k]->device);
			if (holds[k]->host)
				ops->free_pinned(e->gpu, holds[k]->host);
			*holds[k] = (struct hold){0};
		}
	}
}

static bool allocate_hold(struct engine *e, struct hold *hold)
{
	hold->device = e->gpu->ops->allocate(e->gpu, e->sizes.slice);
	hold->host = e->gpu->ops->allocate_pinned(e->gpu, e->sizes.slice);
	return hold->device && hold->host;
}

static bool allocate_slots(struct engine *e)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (!allocate_hold(e, &e->slot[i].in) || !allocate_hold(e, &e->slot[i].out)) {
			free_slots(e);
			return false;
		}
	return true;
}

static void end(struct sd_device *device)
{
	struct engine *e = (struct engine *)device;

	(void)e->gpu->ops->enter(e->gpu);
	(void)e->gpu->ops->drain(e->gpu);
	for (unsigned i = 0; i < e->regions; i++)
		if (e->region[i].adopted)
			e->gpu->ops->unpin(e->gpu, e->region[i].begin);
	free_slots(e);
	e->gpu->ops->close(e->gpu);
	free(e);
}

enum sd_device_result sd_engine_open(struct sd_gpu *gpu, const struct sd_engine_sizes *sizes, struct sd_device **device)
{
	static const struct sd_device_ops ops = {begin, wait_for, end, allocate, release, adopt, NULL};
	struct engine *e = calloc(1, sizeof(*e));

	*device = NULL;
	if (!e) {
		gpu->ops->close(gpu);
		return SD_DEVICE_NOMEM;
	}
	e->device.ops = &ops;
	e->device.name = gpu->name;
	e->device.ahead = AHEAD;
	e->gpu = gpu;
	e->sizes = *sizes;
	while (!allocate_slots(e)) {
		e->sizes.slice /= 2;
		if (e->sizes.slice < sizes->slice_least) {
			end(&e->device);
			return SD_DEVICE_NOMEM;
		}
	}
	*device = &e->device;
	return SD_DEVICE_OK;
}
