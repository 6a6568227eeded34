/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out pending steps: the worker. */
#include "stream/carry.h"
#include "stream/pieces.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A part of a record's data that moves on: bytes begin to end are in memory, nothing before begin can be had again. */
struct window {
	struct sd_source *source; /* NULL: all of it is one chunk */
	uint32_t record;
	const char *key;
	struct sd_chunk chunk;
	unsigned char *memory;
	uint64_t begin, end;
};

static enum sd_result next_chunk(struct window *w, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (w->chunk.length == 0 && w->source)
		result = sd_source_next(w->source, w->record, &w->chunk, err);
	if (result == SD_OK && w->chunk.length == 0)
		result = sd_fail(err, SD_INPUT, "the data of %s ends early", w->key);
	return result;
}

static enum sd_result skip(struct window *w, uint64_t length, struct sd_error *err)
{
	while (length > 0) {
		enum sd_result result = next_chunk(w, err);
		uint64_t n = w->chunk.length < length ? w->chunk.length : length;
		struct sd_chunk part;

		if (result != SD_OK)
			return result;
		part = sd_chunk_take(&w->chunk, n);
		length -= n;
		w->end += n;
		result = sd_chunk_skip(&part, err);
		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

/* Makes bytes begin to end the window, whose memory is large enough; begin never goes back. */
static enum sd_result slide(struct window *w, uint64_t begin, uint64_t end, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (begin >= w->end) {
		result = skip(w, begin - w->end, err);
		w->begin = w->end;
	} else if (begin > w->begin) {
		memmove(w->memory, w->memory + (begin - w->begin), w->end - begin);
		w->begin = begin;
	}
	while (result == SD_OK && w->end < end) {
		uint64_t length = end - w->end;

		result = next_chunk(w, err);
		if (result != SD_OK)
			break;
		if (length > w->chunk.length)
			length = w->chunk.length;
		result = sd_chunk_read(&w->chunk, w->memory + (w->end - w->begin), length, err);
		w->end += length;
	}
	return result;
}

/* Leaves the rest of the record: the source wants to be asked until there is no more. */
static enum sd_result leave(struct window *w, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (!w->source)
		return SD_OK;

	do {
		if (w->chunk.length > 0)
			result = sd_chunk_skip(&w->chunk, err);
		if (result == SD_OK)
			result = sd_source_next(w->source, w->record, &w->chunk, err);
	} while (result == SD_OK && w->chunk.length > 0);
	return result;
}

static enum sd_result run(struct sd_device *device, struct sd_job *job, const char *name, struct sd_error *err)
{
	if (!job->scale.data)
		sd_move_normalise(&job->move);
	switch (sd_device_run(device, job, 1)) {
	case SD_DEVICE_OK:
		return SD_OK;
	case SD_DEVICE_NOMEM:
		return sd_fail(err, SD_IO, "%s: %s is out of memory", name, device->name);
	default:
		return sd_fail(err, SD_IO, "%s: %s failed: %s", name, device->name, device->failure);
	}
}

static uint64_t aligned(uint64_t bytes)
{
	return (bytes + SD_BUFFER_ALIGN - 1) / SD_BUFFER_ALIGN * SD_BUFFER_ALIGN;
}

static enum sd_result give(struct sd_sink *sink, uint32_t record, const void *data, uint64_t length,
			   struct sd_error *err)
{
	struct sd_chunk chunk = {.length = length, .memory = data, .fd = -1, .offset = -1};

	return length ? sink->ops->data(sink, record, &chunk, err) : SD_OK;
}

/* Makes what a job reads the window, and the window its source; job->move.from is still the place in the record. */
static enum sd_result load(const struct sd_carry *c, const struct sd_cut *cut, struct sd_job *job, struct window *w,
			   struct sd_error *err)
{
	const struct sd_record *r = &c->in->records[w->record];
	uint64_t first = job->move.from / cut->codes, last = job->move.from + sd_unit_span(&job->move) - 1;
	uint64_t count = last / cut->codes - first + 1, size = sd_dtype_size(r->dtype);

	if (cut->links.scale) {
		sd_unit_scale(c->in, cut, &job->move, &job->scale);
		job->scale.data = c->work[cut->links.scale->operand].held;
	}
	job->source = w->memory;
	job->source_count = count * cut->codes;
	job->move.from %= cut->codes;
	return slide(w, first * size, (first + count) * size, err);
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

/* Where to make bytes for the sink: where it would have them, or else here. */
static enum sd_result choose(const struct sd_carry *c, struct sd_sink *sink, uint64_t bytes, unsigned char *here,
			     unsigned char **place, struct sd_error *err)
{
	void *memory, *region;
	enum sd_result result = sd_sink_room(sink, bytes, &memory, err);
	size_t length;

	*place = memory ? memory : here;
	if (memory) {
		sink->ops->region(sink, &region, &length);
		sd_device_adopt(c->device, region, length);
	}
	return result;
}

/* Makes one unit and gives it to the sink. */
static enum sd_result carry_unit(struct sd_carry *c, const struct sd_cut *cut, uint64_t unit, struct window *w,
				 uint32_t out, struct sd_sink *sink, struct sd_error *err)
{
	const uint8_t *dtype = cut->links.dtype;
	unsigned char *at = w->memory;
	struct sd_job job = {0};
	uint64_t count, bytes = 0;
	enum sd_result result = SD_OK;

	sd_unit_move(cut, unit, &job.move);
	count = sd_move_count(&job.move);
	if (cut->links.fill)
		load_constant(&cut->links.fill->param, count, &job);
	else
		result = load(c, cut, &job, w, err);
	for (uint32_t k = 1; k <= cut->links.count && result == SD_OK; k++) {
		bytes = count * sd_dtype_size(dtype[k]);
		at -= aligned(bytes);
		if (k == cut->links.count)
			result = choose(c, sink, bytes, at, &at, err);
		if (result != SD_OK)
			break;
		job.target = at;
		job.target_count = count;
		job.source_dtype = dtype[k - 1];
		job.target_dtype = dtype[k];
		result = run(c->device, &job, c->in->targets[cut->target].name, err);
		job.source = at;
		job.source_count = count;
		job.move = sd_move_identity(count);
		job.scale = (struct sd_scale){0};
	}
	return result == SD_OK ? give(sink, out, at, bytes, err) : result;
}

/* Puts a record into the joint box, which goes to the sink when it is full. */
static enum sd_result carry_joined(struct sd_carry *c, const struct sd_cut *cut, const struct sd_carry_work *work,
				   struct window *w, struct sd_sink *sink, struct sd_error *err)
{
	const struct sd_move *joint = work->joint;
	uint64_t count = sd_move_count(joint), bytes = count * sd_dtype_size(cut->links.dtype[1]);
	struct sd_job job = {.target_count = count,
			     .move = cut->move,
			     .source_dtype = cut->links.dtype[0],
			     .target_dtype = cut->links.dtype[1]};
	enum sd_result result = c->joint ? SD_OK : choose(c, sink, bytes, c->buffer, &c->joint, err);

	if (result != SD_OK)
		return result;
	job.target = c->joint;
	for (uint32_t k = 0; k < joint->rank; k++)
		job.move.dim[k].to = joint->dim[k].from;
	job.move.to = (cut->move.to - joint->to) / joint->dim[joint->rank - 1].to;
	result = load(c, cut, &job, w, err);
	if (result == SD_OK)
		result = run(c->device, &job, c->in->targets[cut->target].name, err);
	if (result == SD_OK && work->ends) {
		result = give(sink, work->out, c->joint, bytes, err);
		c->joint = NULL;
	}
	return result;
}

static enum sd_result carry_pieces(struct sd_carry *c, const struct sd_pieces *pieces, uint32_t out, struct window *w,
				   struct sd_sink *sink, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < pieces->npieces; i++) {
		const struct sd_piece *piece = &pieces->pieces[i];

		for (uint64_t k = 0; k < piece->units && result == SD_OK; k++)
			result = carry_unit(c, piece->cut, piece->first + k, w, out + (uint32_t)i, sink, err);
	}
	return result;
}

/* Gives up what a record's steps needed, where nobody else does. */
static void release(struct sd_carry *c, uint32_t record)
{
	const struct sd_step *steps;

	for (uint32_t i = c->targets_begin[record]; i < c->targets_begin[record + 1]; i++) {
		const struct sd_target *t = &c->in->targets[c->targets[i]];

		steps = t->steps;
		for (uint32_t k = 0; k < t->nsteps; k++) {
			struct sd_carry_work *operand;

			if (steps[k].operand == SD_NO_RECORD)
				continue;
			operand = &c->work[steps[k].operand];
			if (--operand->left > 0)
				continue;
			free(operand->held);
			operand->held = NULL;
		}
	}
}

/* Makes all that becomes of a record whose data is in the window's source. */
static enum sd_result carry_window(struct sd_carry *c, struct window *w, struct sd_sink *sink, struct sd_error *err)
{
	const struct sd_carry_work *work = &c->work[w->record];
	const struct sd_record *r = &c->in->records[w->record];
	struct sd_pieces pieces;
	enum sd_result result;
	uint64_t window;

	if (!c->buffer)
		c->buffer = sd_device_allocate(c->device, aligned(c->room));
	if (!c->buffer)
		return sd_fail_memory(err);
	result = sd_carry_cut(c, w->record, &pieces, err);
	if (result != SD_OK)
		return result;
	/* The window lies at the end, what is made of it in front. */
	window = pieces.window * sd_dtype_size(r->dtype);
	w->memory = c->buffer + aligned(c->room) - aligned(window < r->bytes ? window : r->bytes);
	w->key = r->key;
	if (work->joint)
		result = carry_joined(c, pieces.cuts, work, w, sink, err);
	else
		result = carry_pieces(c, &pieces, work->out, w, sink, err);
	sd_pieces_free(&pieces);
	if (result == SD_OK)
		result = leave(w, err);
	release(c, w->record);
	return result;
}

/* An unnamed file that grows while records wait for what their steps need. */
static enum sd_result open_spool(struct sd_carry *c, struct sd_error *err)
{
	const char *folder = getenv("TMPDIR");
	char name[4096];

	if (c->spool >= 0)
		return SD_OK;
	if (!folder || !*folder)
		folder = "/tmp";
	snprintf(name, sizeof(name), "%s/sd-transpose.XXXXXX", folder);
	c->spool = mkostemp(name, O_CLOEXEC);
	if (c->spool < 0)
		return sd_fail_errno(err, errno, "%s", name);
	unlink(name);
	return SD_OK;
}

/* Keeps a record for later. */
static enum sd_result put_aside(struct sd_carry *c, uint32_t record, struct sd_source *source, struct sd_error *err)
{
	off_t end = (off_t)c->spooled;
	enum sd_result result = open_spool(c, err);

	c->work[record].aside = c->spooled;
	while (result == SD_OK) {
		struct sd_chunk chunk;

		result = sd_source_next(source, record, &chunk, err);
		if (result != SD_OK || chunk.length == 0)
			break;
		result = sd_chunk_copy(&chunk, c->spool, &end, chunk.length, err);
		if (result == SD_IO && !err->said)
			sd_error_at(err, "%s waits in a temporary file (TMPDIR says where)",
				    c->in->records[record].key);
	}
	c->spooled = (uint64_t)end;
	return result;
}

static enum sd_result carry_aside(struct sd_carry *c, uint32_t record, struct sd_sink *sink, struct sd_error *err)
{
	uint64_t bytes = c->in->records[record].bytes;
	off_t begin = (off_t)c->work[record].aside;
	struct window w = {.record = record, .chunk = {.length = bytes, .fd = c->spool, .offset = begin}};
	enum sd_result result = carry_window(c, &w, sink, err);

	/* What has been read needs no room on the disk any more, if the file system can do that. */
	(void)!fallocate(c->spool, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin, (off_t)bytes);
	return result;
}

/* Reads all of a record that steps need. */
static enum sd_result hold(struct sd_carry *c, uint32_t record, struct sd_source *source, struct sd_error *err)
{
	struct window w = {.source = source, .record = record, .key = c->in->records[record].key};
	uint64_t bytes = c->in->records[record].bytes;
	enum sd_result result;

	w.memory = c->work[record].held = malloc(bytes + 1);
	if (!w.memory)
		return sd_fail_memory(err);
	result = slide(&w, 0, bytes, err);
	return result == SD_OK ? leave(&w, err) : result;
}

enum sd_result sd_carry_record(struct sd_worker *worker, uint32_t record, struct sd_source *source,
			       struct sd_sink *sink, struct sd_error *err)
{
	struct sd_carry *c = (struct sd_carry *)worker;
	struct sd_carry_work *work = &c->work[record];
	struct window w = {.source = source, .record = record};
	enum sd_result result;

	if (work->uses > 0) {
		result = hold(c, record, source, err);
		if (result == SD_OK && work->passes)
			result = give(sink, work->out, work->held, c->in->records[record].bytes, err);
	} else if (work->at > record) {
		result = put_aside(c, record, source, err);
	} else {
		result = carry_window(c, &w, sink, err);
	}
	for (uint32_t i = work->waiting; i != SD_NO_RECORD && result == SD_OK; i = c->work[i].next)
		result = carry_aside(c, i, sink, err);
	return result;
}
