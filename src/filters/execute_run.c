/* SPDX-License-Identifier: Apache-2.0 */
/* Executes pending steps: the worker. */
#include "filters/execute.h"
#include "filters/tiling.h"
#include "flow/spool.h"
#include "flow/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A record that passes and has at most so many bytes is sooner read into memory than all is given that comes before it.
 * Measured on two cores, from a pipe, behind each 1 MiB that is turned: with 10 of 8 KiB it all takes 0.91 to 0.96 of
 * the time, with 6 of 48 KiB 0.97 to 1.06, with 2 of 200 KiB 1.11.
 */
#define PASSING_MOST (16u << 10)
/* What the buffer has for them beyond its units. */
#define PASSING_ROOM (4 * PASSING_MOST)

/* Makes an error of what a device says. */
static enum sd_result check(const struct sd_device *device, enum sd_device_result result, const char *name,
			    struct sd_error *err)
{
	switch (result) {
	case SD_DEVICE_OK:
		return SD_OK;
	case SD_DEVICE_NOMEM:
		return sd_fail(err, SD_IO, "%s: %s is out of memory", name, device->name);
	default:
		return sd_fail(err, SD_IO, "%s: %s failed: %s", name, device->name, device->failure);
	}
}

static enum sd_result begin(const struct sd_execution *c, struct sd_job *job, struct sd_flight *flight,
			    struct sd_error *err)
{
	if (!job->scale.data)
		sd_move_normalise(&job->move);
	return check(c->device, c->device->ops->begin(c->device, job, &flight->ticket), flight->name, err);
}

static enum sd_result wait_for(const struct sd_execution *c, const struct sd_flight *flight, struct sd_error *err)
{
	return check(c->device, c->device->ops->wait(c->device, flight->ticket), flight->name, err);
}

static struct sd_extent in_memory(const void *memory, uint64_t length)
{
	return (struct sd_extent){.length = length, .memory = memory, .fd = -1, .offset = -1};
}

/* What has been read needs no room on the disk any more, if the file system can do that. */
static void forget(const struct sd_execution *c, uint32_t record)
{
	(void)!fallocate(c->spool, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)c->work[record].aside,
			 (off_t)c->in->records[record].bytes);
}

static void let_go(struct sd_execution *c, uint32_t record, uint64_t *count)
{
	if (!c->work[record].held)
		return;
	*count -= c->in->records[record].bytes;
	free(c->work[record].held);
	c->work[record].held = NULL;
}

/* A step has done with an operand. */
static void let_operand_go(struct sd_execution *c, uint32_t operand)
{
	struct sd_execution_work *work = &c->work[operand];

	work->left--;
	if (c->spills ? --work->readers == 0 : work->left == 0)
		let_go(c, operand, &c->holding);
	if (c->spills && work->left == 0)
		forget(c, operand);
}

/* Gives up what a record's steps needed, where nobody else does, and what waited for it. */
static void release(struct sd_execution *c, uint32_t record)
{
	for (uint32_t i = c->targets_begin[record]; i < c->targets_begin[record + 1]; i++) {
		const struct sd_target *t = &c->in->targets[c->targets[i]];

		for (uint32_t k = 0; k < t->nsteps; k++) {
			uint32_t operand = t->steps[k].operand;

			if (operand != SD_NO_RECORD)
				let_operand_go(c, operand);
		}
	}
	free(c->work[record].derived);
	c->work[record].derived = NULL;
	if (c->work[record].uses == 0)
		let_go(c, record, &c->waiting);
}

/* Waits for the oldest flight, and gives it to the sink. */
static enum sd_result land_one(struct sd_execution *c, struct sd_sink *sink, struct sd_error *err)
{
	struct sd_flight *flight = &c->flight[c->oldest];
	int fd = flight->parcel.extent.fd;
	enum sd_result result = wait_for(c, flight, err);

	c->oldest = (c->oldest + 1) % SD_FLIGHTS;
	c->flights--;
	c->units -= flight->made;
	if (result == SD_OK)
		result = sd_parcel_give(&flight->parcel, sink, err);
	/* The source may have looked at it for the last time before it was given. */
	if (result == SD_OK && flight->file)
		result = sd_fd_unchanged(fd, NULL, &flight->then, err);
	if (result != SD_OK)
		c->worker.blamed = c->in->records[flight->record].key;
	if (flight->file)
		close(fd);
	if (flight->ends)
		release(c, flight->record);
	return result;
}

/* The oldest unit, and what passes behind it. */
static enum sd_result land(struct sd_execution *c, struct sd_sink *sink, struct sd_error *err)
{
	enum sd_result result;

	do
		result = land_one(c, sink, err);
	while (result == SD_OK && c->flights > 0 && !c->flight[c->oldest].made);
	return result;
}

enum sd_result sd_execution_settle(struct sd_worker *worker, struct sd_sink *sink, struct sd_error *err)
{
	struct sd_execution *c = (struct sd_execution *)worker;
	enum sd_result result = SD_OK;

	while (c->flights > 0 && result == SD_OK)
		result = land(c, sink, err);
	return result;
}

static struct sd_flight *last_flight(struct sd_execution *c)
{
	return &c->flight[(c->oldest + c->flights + SD_FLIGHTS - 1) % SD_FLIGHTS];
}

/* A unit has begun, or something that passes is behind one. Others can be read meanwhile, but not more units than the
 * device likes. */
static enum sd_result depart(struct sd_execution *c, const struct sd_flight *flight, struct sd_sink *sink,
			     struct sd_error *err)
{
	unsigned most = c->device->ahead < SD_UNITS ? c->device->ahead : SD_UNITS;
	enum sd_result result = SD_OK;

	c->flights++;
	c->units += flight->made;
	*last_flight(c) = *flight;
	while ((c->units >= most || c->flights == SD_FLIGHTS) && result == SD_OK)
		result = land(c, sink, err);
	return result;
}

/* The buffer: as many of the largest units as the device likes, and something for what passes behind them, if there is
 * the memory. Some is left for what is held, which stays longer where several units are on their way. */
static enum sd_result open_buffer(struct sd_execution *c, struct sd_error *err)
{
	uint64_t least = sd_buffer_aligned(c->room > 0 ? c->room : 1), most = c->memory - c->held;
	uint64_t spare = most > least ? (most - least) / 8 * (c->waits ? 4 : 7) : 0;

	if (c->buffer)
		return SD_OK;
	c->size = least;
	for (unsigned i = 1; i < c->device->ahead && spare > 0; i++) {
		uint64_t more = least < spare ? least : spare;

		c->size += more;
		spare -= more;
	}
	if (c->device->ahead > 1)
		c->size += PASSING_ROOM < spare ? PASSING_ROOM : spare;
	c->size = sd_buffer_aligned(c->size);
	c->buffer = sd_device_allocate(c->device, c->size);
	return c->buffer ? SD_OK : sd_fail_memory(err);
}

static bool is_free(const struct sd_span *used, size_t count, uint64_t begin, uint64_t end)
{
	for (size_t i = 0; i < count; i++)
		if (begin < used[i].end && used[i].begin < end)
			return false;
	return true;
}

/* The lowest place in the buffer for so many bytes; a box, which stays while units come and go, is at one of its ends.
 */
static bool find(const struct sd_execution *c, uint64_t bytes, bool box, struct sd_span *place)
{
	struct sd_span used[2 * SD_FLIGHTS + 2] = {c->box};
	size_t count = 1;

	for (unsigned i = 0; i < c->flights; i++) {
		const struct sd_flight *flight = &c->flight[(c->oldest + i) % SD_FLIGHTS];

		for (unsigned k = 0; k < 2; k++)
			if (flight->used[k].end > 0)
				used[count++] = flight->used[k];
	}
	*place = (struct sd_span){UINT64_MAX, UINT64_MAX};
	for (size_t i = 0; i <= count; i++) {
		uint64_t at = i == count ? 0 : box ? c->size - bytes : used[i].end;

		if (at < place->begin && bytes <= c->size - at && is_free(used, count, at, at + bytes))
			*place = (struct sd_span){at, at + bytes};
	}
	return place->begin < UINT64_MAX;
}

/* The same, where units that are being made may have to be done first. There is room for any one alone. */
static enum sd_result make_room(struct sd_execution *c, struct sd_sink *sink, uint64_t bytes, bool box,
				struct sd_span *place, struct sd_error *err)
{
	enum sd_result result = open_buffer(c, err);

	while (result == SD_OK && !find(c, bytes, box, place))
		result = c->flights > 0 ? land(c, sink, err) : sd_fail_memory(err);
	return result;
}

/* Where the sink would have bytes that are made for it, or NULL. */
static enum sd_result choose(struct sd_execution *c, struct sd_sink *sink, uint64_t bytes, unsigned char **place,
			     struct sd_error *err)
{
	void *memory, *region;
	enum sd_result result;
	size_t length;
	bool later;

	do
		result = sd_sink_room(sink, bytes, &memory, &later, err);
	while (result == SD_OK && later && c->flights > 0 && (result = land(c, sink, err)) == SD_OK);
	*place = memory;
	if (result == SD_OK && memory) {
		sink->ops->region(sink, &region, &length);
		sd_device_adopt(c->device, region, length);
	}
	return result;
}

/* What of the record a job reads, whose move is still the one from the record: bytes. */
static struct sd_span needs(const struct sd_execution *c, const struct sd_cut *cut, const struct sd_job *job,
			    const struct sd_window *w)
{
	uint64_t size = sd_dtype_size(c->in->records[w->record].dtype);
	struct sd_span bytes;

	if (cut->links.decode) {
		sd_codes_span(&cut->packed, job->move.from, job->move.from + sd_unit_span(&job->move) - 1, &bytes.begin,
			      &bytes.end);
		return bytes;
	}
	uint64_t first = job->move.from / cut->codes, last = job->move.from + sd_unit_span(&job->move) - 1;

	return (struct sd_span){first * size, (last / cut->codes + 1) * size};
}

/* Bytes of memory for a window with this span; what comes later in the record and is there already must stay. */
static uint64_t window_bytes(const struct sd_window *w, const struct sd_span *span)
{
	return sd_buffer_aligned((w->end > span->end ? w->end : span->end) - span->begin);
}

/* Bytes of the numbers that a job's codes are decoded to; 0 where they are not. */
static uint64_t decoded_bytes(const struct sd_cut *cut, const struct sd_job *job)
{
	return cut->links.decode ? sd_unit_span(&job->move) * sd_dtype_size(cut->links.dtype[0]) : 0;
}

/* Codes that are decoded in parts, each by some thread. */
struct decoding {
	const struct sd_codes *codes;
	const struct sd_kernels *kernels;
	const unsigned char *bytes;
	uint64_t begin, first, count;
	unsigned char *numbers;
};

#define DECODE_PART (64u << 10)

static void decode_part(void *context, uint64_t part)
{
	const struct decoding *d = context;
	uint64_t skipped = part * DECODE_PART, left = d->count - skipped;

	sd_codes_decode(d->codes, d->kernels, d->bytes, d->begin, d->first + skipped,
			left < DECODE_PART ? left : DECODE_PART,
			d->numbers + skipped * sd_dtype_size((enum sd_dtype)d->codes->native));
}

/* Decodes what a job reads, to where its source is then; NULL: behind the window. */
static enum sd_result load_decoded(const struct sd_execution *c, const struct sd_cut *cut, struct sd_job *job,
				   struct sd_window *w, unsigned char *memory, unsigned char *numbers,
				   struct sd_error *err)
{
	const struct sd_span span = needs(c, cut, job, w);
	struct decoding d = {.codes = &cut->packed,
			     .kernels = c->kernels,
			     .begin = span.begin,
			     .first = job->move.from,
			     .count = sd_unit_span(&job->move)};
	enum sd_result result = SD_OK;

	d.numbers = numbers;
	if (!numbers)
		d.numbers = w->whole ? memory : memory + window_bytes(w, &span);
	if (!w->whole)
		result = sd_window_slide(w, memory, span.begin, span.end, err);
	d.bytes = w->whole ? w->memory + span.begin : w->memory;
	job->source = d.numbers;
	job->source_count = d.count;
	job->move.from = 0;
	if (result != SD_OK)
		return result;
	return check(c->device, sd_device_share(c->device, decode_part, &d, (d.count + DECODE_PART - 1) / DECODE_PART),
		     c->in->targets[cut->target].name, err);
}

/* Makes memory the window, if not all is there already, and what a job reads in it the job's source. */
static enum sd_result load(const struct sd_execution *c, const struct sd_cut *cut, struct sd_job *job,
			   struct sd_window *w, unsigned char *memory, struct sd_error *err)
{
	struct sd_span span = needs(c, cut, job, w);

	if (cut->links.decode)
		return load_decoded(c, cut, job, w, memory, NULL, err);
	if (cut->links.scale) {
		sd_unit_scale(c->in, cut, &job->move, &job->scale);
		job->scale.data = c->work[w->record].derived;
		if (!job->scale.data)
			job->scale.data = c->work[cut->links.scale->operand].held;
	}
	job->source = w->whole ? w->memory + span.begin : memory;
	job->source_count = (span.end - span.begin) / sd_dtype_size(c->in->records[w->record].dtype) * cut->codes;
	job->move.from %= cut->codes;
	return w->whole ? SD_OK : sd_window_slide(w, memory, span.begin, span.end, err);
}

/* All elements come from one. */
static void load_constant(const uint32_t *constant, uint64_t count, struct sd_job *job)
{
	job->source = constant;
	job->source_count = 1;
	job->move = sd_move_identity(count);
	if (job->move.rank)
		job->move.dim[0].from = 0;
}

/* Begins what the links make, one after the other: the last into place, or NULL, all others below at. */
static enum sd_result run_links(const struct sd_execution *c, const struct sd_links *links, struct sd_job *job,
				unsigned char *place, unsigned char *at, struct sd_flight *flight, struct sd_error *err)
{
	uint64_t count = sd_move_count(&job->move);
	enum sd_result result = SD_OK;

	for (uint32_t k = 1; k <= links->count && result == SD_OK; k++) {
		if (k > 1) {
			result = wait_for(c, flight, err);
			job->source = job->target;
			job->source_count = count;
			job->move = sd_move_identity(count);
			job->scale = (struct sd_scale){0};
		}
		if (k < links->count || !place)
			at -= sd_buffer_aligned(count * sd_dtype_size(links->dtype[k]));
		job->target = k == links->count && place ? place : at;
		job->target_count = count;
		job->source_dtype = links->dtype[k - 1];
		job->target_dtype = links->dtype[k];
		if (result == SD_OK)
			result = begin(c, job, flight, err);
	}
	flight->parcel.extent.memory = job->target;
	return result;
}

static struct sd_flight unit_of(const struct sd_execution *c, const struct sd_cut *cut, uint32_t record, uint32_t out)
{
	return (struct sd_flight){.name = c->in->targets[cut->target].name,
				  .record = record,
				  .parcel = {.record = out, .extent = in_memory(NULL, 0)},
				  .made = true};
}

/* Makes one unit: in the buffer, the window lies behind what becomes of it. */
static enum sd_result make_unit(struct sd_execution *c, const struct sd_cut *cut, uint64_t unit, struct sd_window *w,
				uint32_t out, struct sd_sink *sink, struct sd_error *err)
{
	const struct sd_links *links = &cut->links;
	struct sd_flight flight = unit_of(c, cut, w->record, out);
	struct sd_job job = {0};
	uint64_t count, made = 0, window = 0;
	struct sd_span span;
	unsigned char *place, *at;
	enum sd_result result;

	sd_unit_move(cut, unit, &job.move);
	count = sd_move_count(&job.move);
	flight.parcel.extent.length = count * sd_dtype_size(links->dtype[links->count]);
	result = choose(c, sink, flight.parcel.extent.length, &place, err);
	for (uint32_t k = 1; k <= links->count - (place != NULL); k++)
		made += sd_buffer_aligned(count * sd_dtype_size(links->dtype[k]));
	if (!links->fill && !w->whole) {
		span = needs(c, cut, &job, w);
		window = window_bytes(w, &span);
	}
	window += sd_buffer_aligned(decoded_bytes(cut, &job));
	if (result == SD_OK)
		result = make_room(c, sink, made + window, false, &flight.used[0], err);
	if (result != SD_OK)
		return result;
	at = c->buffer + flight.used[0].begin + made;
	if (links->fill)
		load_constant(&links->fill->param, count, &job);
	else
		result = load(c, cut, &job, w, at, err);
	if (result == SD_OK)
		result = run_links(c, links, &job, place, at, &flight, err);
	return result == SD_OK ? depart(c, &flight, sink, err) : result;
}

/* Finds the joint box a place, if that has not been done for a record before this one. */
static enum sd_result open_joint(struct sd_execution *c, uint64_t bytes, struct sd_sink *sink, struct sd_error *err)
{
	enum sd_result result;

	if (c->joint)
		return SD_OK;
	result = choose(c, sink, bytes, &c->joint, err);
	if (result != SD_OK || c->joint)
		return result;
	result = make_room(c, sink, sd_buffer_aligned(bytes), true, &c->box, err);
	if (result == SD_OK)
		c->joint = c->buffer + c->box.begin;
	return result;
}

/* The joint box is whole with this unit. */
static void close_joint(struct sd_execution *c, uint64_t bytes, struct sd_flight *flight)
{
	flight->parcel.extent.memory = c->joint;
	flight->parcel.extent.length = bytes;
	flight->used[1] = c->box;
	c->joint = NULL;
	c->box = (struct sd_span){0};
}

/* Puts a record into the joint box, which goes to the sink when it is full. */
static enum sd_result make_joined(struct sd_execution *c, const struct sd_cut *cut,
				  const struct sd_execution_work *work, struct sd_window *w, struct sd_sink *sink,
				  struct sd_error *err)
{
	const struct sd_move *joint = work->joint;
	uint64_t count = sd_move_count(joint), bytes = count * sd_dtype_size(cut->links.dtype[1]);
	struct sd_flight flight = unit_of(c, cut, w->record, work->out);
	struct sd_job job = {.target_count = count,
			     .move = cut->move,
			     .source_dtype = cut->links.dtype[0],
			     .target_dtype = cut->links.dtype[1]};
	struct sd_span span = needs(c, cut, &job, w);
	enum sd_result result = open_joint(c, bytes, sink, err);

	if (result == SD_OK)
		result = make_room(c, sink, window_bytes(w, &span) + sd_buffer_aligned(decoded_bytes(cut, &job)), false,
				   &flight.used[0], err);
	if (result != SD_OK)
		return result;
	job.target = c->joint;
	for (uint32_t k = 0; k < joint->rank; k++)
		job.move.dim[k].to = joint->dim[k].from;
	job.move.to = (cut->move.to - joint->to) / joint->dim[joint->rank - 1].to;
	result = load(c, cut, &job, w, c->buffer + flight.used[0].begin, err);
	if (result == SD_OK)
		result = begin(c, &job, &flight, err);
	if (result == SD_OK && work->ends)
		close_joint(c, bytes, &flight);
	return result == SD_OK ? depart(c, &flight, sink, err) : result;
}

static enum sd_result make_units(struct sd_execution *c, const struct sd_tiling *tiling, uint32_t out,
				 struct sd_window *w, struct sd_sink *sink, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < tiling->nruns; i++) {
		const struct sd_unit_run *run = &tiling->runs[i];

		for (uint64_t k = 0; k < run->units && result == SD_OK; k++)
			result = make_unit(c, run->cut, run->first + k, w, out + (uint32_t)i, sink, err);
	}
	return result;
}

/* What a record's steps needed is given up when its last unit is done. */
static void release_later(struct sd_execution *c, uint32_t record)
{
	if (c->flights > 0 && last_flight(c)->record == record)
		last_flight(c)->ends = true;
	else
		release(c, record);
}

/* Scales that devices can take, where those that came are not so. */
static enum sd_result derive(const struct sd_execution *c, const struct sd_cut *cut, uint32_t record,
			     struct sd_error *err)
{
	struct sd_execution_work *work = &c->work[record];

	if (!cut->packed.part[SD_PART_SECOND].count || work->derived)
		return SD_OK;
	work->derived = malloc((cut->packed.part[SD_PART_SCALE].count + 1) * sizeof(*work->derived));
	if (!work->derived)
		return sd_fail_memory(err);
	sd_codes_scales(&cut->packed, c->kernels, work->derived);
	return SD_OK;
}

/* Makes what a cut's codes are decoded with ready: all of it is held. */
static enum sd_result prepare(const struct sd_execution *c, struct sd_cut *cut, struct sd_error *err)
{
	const struct sd_target *t = &c->in->targets[cut->target];
	const struct sd_record *part[SD_PARTS] = {NULL};
	const char *wrong;
	enum sd_codes_part which;

	if (!cut->packed.form || cut->units == 0)
		return SD_OK;
	for (uint32_t k = 1; k < t->nsteps && t->steps[k].kind == SD_STEP_WITH; k++) {
		const struct sd_step *with = &t->steps[k];
		struct sd_part_data data = {.count = 0};

		if (with->operand == SD_NO_RECORD || with->param >= SD_PARTS)
			continue;
		part[with->param] = &c->in->records[with->operand];
		data = cut->packed.part[with->param];
		data.data = c->work[with->operand].held;
		data.dtype = part[with->param]->dtype;
		if (with->param == SD_PART_CHECK) {
			(void)!sd_shape_count(part[with->param]->shape, part[with->param]->rank, &data.count);
			if (!sd_codes_agree(&cut->packed, &data))
				return sd_fail(err, SD_INPUT,
					       "%s: it says something else than the shape, or the "
					       "codes, of %s",
					       part[with->param]->key, c->in->records[t->record].key);
		}
		cut->packed.part[with->param] = data;
	}
	wrong = sd_codes_ready(&cut->packed, &which);
	if (!wrong)
		return cut->links.decode ? SD_OK : derive(c, cut, t->record, err);
	return *wrong && part[which] ? sd_fail(err, SD_INPUT, "%s: %s", part[which]->key, wrong) : sd_fail_memory(err);
}

static void free_tiling(struct sd_tiling *tiling)
{
	for (size_t i = 0; i < tiling->ncuts; i++)
		sd_codes_free(&tiling->cuts[i].packed);
	sd_tiling_free(tiling);
}

/* Makes sure of memory for a record that is held, beside the buffer and what the plan wants to hold; *there: whether it
 * is there. Units that are being made may have to be done first. */
static enum sd_result find_memory(struct sd_execution *c, uint64_t bytes, uint64_t beside, bool *there,
				  struct sd_sink *sink, struct sd_error *err)
{
	enum sd_result result = open_buffer(c, err);

	for (;;) {
		uint64_t used = c->waiting + (beside > c->holding ? beside : c->holding);
		uint64_t room = c->memory > c->size ? c->memory - c->size : 0;

		*there = used <= room && bytes <= room - used;
		if (result != SD_OK || *there || c->flights == 0)
			return result;
		result = land(c, sink, err);
	}
}

/* Reads an operand from the spool, if it is not in memory. */
static enum sd_result fetch(struct sd_execution *c, uint32_t operand, struct sd_sink *sink, struct sd_error *err)
{
	struct sd_execution_work *work = &c->work[operand];
	uint64_t bytes = c->in->records[operand].bytes;
	struct sd_extent extent = {.length = bytes, .fd = c->spool, .offset = (off_t)work->aside};
	enum sd_result result = SD_OK;
	bool there;

	work->readers++;
	if (work->held)
		return SD_OK;
	result = find_memory(c, bytes, 0, &there, sink, err);
	if (result != SD_OK)
		return result;
	work->held = malloc(bytes + 1);
	if (!work->held)
		return sd_fail_memory(err);
	c->holding += bytes;
	return bytes > 0 ? sd_extent_read(&extent, work->held, bytes, err) : SD_OK;
}

/* Reads what a record's steps need, where that is in the spool. */
static enum sd_result fetch_operands(struct sd_execution *c, uint32_t record, struct sd_sink *sink,
				     struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (uint32_t i = c->targets_begin[record]; c->spills && i < c->targets_begin[record + 1]; i++) {
		const struct sd_target *t = &c->in->targets[c->targets[i]];

		for (uint32_t k = 0; k < t->nsteps && result == SD_OK; k++)
			if (t->steps[k].operand != SD_NO_RECORD)
				result = fetch(c, t->steps[k].operand, sink, err);
	}
	return result;
}

/* Makes all that becomes of a record whose data is in the window's source. */
static enum sd_result make_record(struct sd_execution *c, struct sd_window *w, struct sd_sink *sink,
				  struct sd_error *err)
{
	const struct sd_execution_work *work = &c->work[w->record];
	struct sd_tiling tiling;
	enum sd_result result = fetch_operands(c, w->record, sink, err);

	if (result == SD_OK)
		result = sd_execution_cut(c, w->record, &tiling, err);
	if (result != SD_OK)
		return result;
	w->key = c->in->records[w->record].key;
	for (size_t i = 0; i < tiling.ncuts && result == SD_OK; i++)
		result = prepare(c, &tiling.cuts[i], err);
	if (result != SD_OK) {
		free_tiling(&tiling);
		return result;
	}
	if (work->joint)
		result = make_joined(c, tiling.cuts, work, w, sink, err);
	else
		result = make_units(c, &tiling, work->out, w, sink, err);
	free_tiling(&tiling);
	if (result == SD_OK)
		result = sd_window_leave(w, err);
	if (result == SD_OK)
		release_later(c, w->record);
	return result;
}

/* Reads all of a record into memory. */
static enum sd_result hold(struct sd_execution *c, uint32_t record, struct sd_source *source, uint64_t *count,
			   struct sd_error *err)
{
	struct sd_window w = {.source = source, .record = record, .key = c->in->records[record].key};
	uint64_t bytes = c->in->records[record].bytes;
	unsigned char *memory = malloc(bytes + 1);
	enum sd_result result;

	if (!memory)
		return sd_fail_memory(err);
	c->work[record].held = memory;
	*count += bytes;
	result = sd_window_slide(&w, memory, 0, bytes, err);
	return result == SD_OK ? sd_window_leave(&w, err) : result;
}

/* Opens the spool, if it is not, where a record is to begin. */
static enum sd_result begin_aside(struct sd_execution *c, uint32_t record, struct sd_error *err)
{
	c->work[record].aside = c->spooled;
	return c->spool < 0 ? sd_spool_open(&c->spool, err) : SD_OK;
}

/* Writes more of a record into the spool. */
static enum sd_result append(struct sd_execution *c, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	off_t end = (off_t)c->spooled;
	enum sd_result result = sd_extent_copy(extent, c->spool, &end, extent->length, err);

	if (result == SD_IO)
		sd_error_at(err, "%s waits in a temporary file (TMPDIR says where)", c->in->records[record].key);
	c->spooled = (uint64_t)end;
	return result;
}

/* Writes a record into the spool. */
static enum sd_result spool(struct sd_execution *c, uint32_t record, struct sd_source *source, struct sd_error *err)
{
	enum sd_result result = begin_aside(c, record, err);

	while (result == SD_OK) {
		struct sd_extent extent;

		result = sd_source_next(source, record, &extent, err);
		if (result != SD_OK || extent.length == 0)
			break;
		result = append(c, record, &extent, err);
	}
	return result;
}

/* Keeps a record for later. */
static enum sd_result put_aside(struct sd_execution *c, uint32_t record, struct sd_source *source, struct sd_sink *sink,
				struct sd_error *err)
{
	bool there;
	enum sd_result result = find_memory(c, c->in->records[record].bytes, c->held, &there, sink, err);

	if (result != SD_OK)
		return result;
	return there ? hold(c, record, source, &c->waiting, err) : spool(c, record, source, err);
}

static enum sd_result make_waiting(struct sd_execution *c, uint32_t record, struct sd_sink *sink, struct sd_error *err)
{
	uint64_t bytes = c->in->records[record].bytes;
	off_t begin = (off_t)c->work[record].aside;
	struct sd_window w = {.record = record, .memory = c->work[record].held, .whole = c->work[record].held != NULL};
	enum sd_result result;

	if (!w.whole)
		w.extent = (struct sd_extent){.length = bytes, .fd = c->spool, .offset = begin};
	result = make_record(c, &w, sink, err);
	if (!w.whole)
		forget(c, record);
	return result;
}

/* Reads what passes into the buffer: of a small record, if units that are being made leave room for it. Else all is
 * given that comes before it. */
static enum sd_result keep_passing(struct sd_execution *c, struct sd_flight *flight, struct sd_sink *sink,
				   struct sd_error *err)
{
	struct sd_extent *extent = &flight->parcel.extent;
	uint64_t length = extent->length, bytes = sd_buffer_aligned(length);
	enum sd_result result = SD_OK;

	while (c->flights > 0 && result == SD_OK &&
	       (c->in->records[flight->record].bytes > PASSING_MOST || !find(c, bytes, false, &flight->used[0])))
		result = land(c, sink, err);
	if (c->flights == 0 || result != SD_OK)
		return result;
	result = sd_extent_read(extent, c->buffer + flight->used[0].begin, length, err);
	*extent = in_memory(c->buffer + flight->used[0].begin, length);
	return result;
}

/* What is in a file is left there, if that can be kept open and looked at. */
static enum sd_result keep_file(struct sd_execution *c, struct sd_flight *flight, struct sd_sink *sink,
				struct sd_error *err)
{
	int fd = fcntl(flight->parcel.extent.fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return sd_execution_settle(&c->worker, sink, err);
	if (fstat(fd, &flight->then) != 0) {
		close(fd);
		return sd_execution_settle(&c->worker, sink, err);
	}
	flight->parcel.extent.fd = fd;
	flight->file = true;
	return SD_OK;
}

enum sd_result sd_execution_pass(struct sd_worker *worker, uint32_t record, struct sd_parcel *parcel,
				 struct sd_sink *sink, struct sd_error *err)
{
	struct sd_execution *c = (struct sd_execution *)worker;
	struct sd_flight flight = {.name = c->in->records[record].key, .record = record, .parcel = *parcel};
	enum sd_result result = SD_OK;

	if (c->flights > 0 && parcel->extent.length > 0)
		result = !parcel->extent.memory && parcel->extent.offset >= 0 ? keep_file(c, &flight, sink, err)
									      : keep_passing(c, &flight, sink, err);
	if (result != SD_OK)
		return result;
	if (c->flights == 0)
		return sd_parcel_give(parcel, sink, err);
	flight.ticket = last_flight(c)->ticket;
	return depart(c, &flight, sink, err);
}

/* Writes what steps need into the spool; what is output as well is given first, from memory. */
static enum sd_result spill(struct sd_execution *c, uint32_t record, struct sd_source *source, struct sd_sink *sink,
			    struct sd_error *err)
{
	const struct sd_execution_work *work = &c->work[record];
	uint64_t bytes = c->in->records[record].bytes;
	struct sd_parcel parcel = {.record = work->out};
	struct sd_extent extent;
	enum sd_result result;

	if (!work->passes)
		return spool(c, record, source, err);
	result = sd_execution_settle(&c->worker, sink, err);
	if (result == SD_OK)
		result = hold(c, record, source, &c->holding, err);
	if (result != SD_OK)
		return result;
	parcel.extent = extent = in_memory(work->held, bytes);
	result = sd_parcel_give(&parcel, sink, err);
	if (result == SD_OK)
		result = begin_aside(c, record, err);
	if (result == SD_OK)
		result = append(c, record, &extent, err);
	let_go(c, record, &c->holding);
	return result;
}

/* Keeps what steps need. There is memory for it, by the plan. */
static enum sd_result keep(struct sd_execution *c, uint32_t record, struct sd_source *source, struct sd_sink *sink,
			   struct sd_error *err)
{
	const struct sd_execution_work *work = &c->work[record];
	struct sd_parcel parcel = {.record = work->out, .extent = in_memory(NULL, c->in->records[record].bytes)};
	bool there;
	enum sd_result result = find_memory(c, parcel.extent.length, 0, &there, sink, err);

	if (result == SD_OK)
		result = hold(c, record, source, &c->holding, err);
	parcel.extent.memory = work->held;
	return result == SD_OK && work->passes ? sd_execution_pass(&c->worker, record, &parcel, sink, err) : result;
}

enum sd_result sd_execution_record(struct sd_worker *worker, uint32_t record, struct sd_source *source,
				   struct sd_sink *sink, struct sd_error *err)
{
	struct sd_execution *c = (struct sd_execution *)worker;
	struct sd_execution_work *work = &c->work[record];
	struct sd_window w = {.source = source, .record = record};
	enum sd_result result;

	if (work->uses > 0) {
		result = c->spills ? spill(c, record, source, sink, err) : keep(c, record, source, sink, err);
	} else if (work->at > record) {
		result = put_aside(c, record, source, sink, err);
	} else {
		result = make_record(c, &w, sink, err);
	}
	for (uint32_t i = work->waiting; i != SD_NO_RECORD && result == SD_OK; i = c->work[i].next)
		result = make_waiting(c, i, sink, err);
	return result;
}
