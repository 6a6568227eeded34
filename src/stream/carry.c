/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out pending steps: the plan and the worker. */
#include "stream/carry.h"
#include "base/checked.h"
#include "move/compose.h"
#include "stream/pieces.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What the worker has to know of a record. */
struct sd_carry_work {
	uint32_t out; /* the first outgoing record */
	bool begins, ends; /* of the records that fill the joint box, the first and the last one */
	const struct sd_move *joint; /* NULL: this record comes out by itself. Else from the box to the tensor, dimension by dimension */
};

/* An outgoing target. They come in the order of those that they are made from. */
struct made {
	size_t origin, number;
	struct sd_target target;
};

struct planner {
	struct sd_carry *carry;
	struct sd_manifest *out;
	struct made *made;
	size_t count, room;
	struct sd_error *err;
};

static size_t targets_of(const struct sd_carry *c, size_t record, const uint32_t **targets)
{
	*targets = c->targets + c->targets_begin[record];
	return c->targets_begin[record + 1] - c->targets_begin[record];
}

/* Sorts target numbers by record. */
static bool index_targets(struct sd_carry *c)
{
	const struct sd_manifest *in = c->in;
	uint32_t *begin = calloc(in->nrecords + 2, sizeof(*begin));

	c->targets_begin = begin;
	c->targets = malloc((in->ntargets + 1) * sizeof(*c->targets));
	if (!begin || !c->targets)
		return false;
	for (size_t i = 0; i < in->ntargets; i++)
		begin[in->targets[i].record + 2]++;
	for (size_t i = 2; i < in->nrecords + 2; i++)
		begin[i] += begin[i - 1];
	for (size_t i = 0; i < in->ntargets; i++)
		c->targets[begin[in->targets[i].record + 1]++] = (uint32_t)i;
	return true;
}

static bool any_pending(const struct sd_carry *c, size_t record)
{
	const uint32_t *targets;
	size_t n = targets_of(c, record, &targets);

	for (size_t i = 0; i < n; i++)
		if (sd_target_is_pending(&c->in->targets[targets[i]]))
			return true;
	return false;
}

static enum sd_result cut(const struct sd_carry *c, size_t record, struct sd_pieces *pieces, struct sd_error *err)
{
	const uint32_t *targets;
	size_t n = targets_of(c, record, &targets);

	return sd_pieces_cut(c->in, (uint32_t)record, targets, n, c->memory, pieces, err);
}

static enum sd_result add_target(struct planner *p, size_t origin, const struct sd_target *target)
{
	if (!sd_array_grow(&p->made, p->count, &p->room, sizeof(*p->made)))
		return sd_fail_memory(p->err);
	p->made[p->count] = (struct made){origin, p->count, *target};
	p->made[p->count].target.record = (uint32_t)(p->out->nrecords - 1);
	p->count++;
	return SD_OK;
}

static enum sd_result pass(struct planner *p, size_t record)
{
	const struct sd_carry *c = p->carry;
	const uint32_t *targets;
	size_t n = targets_of(c, record, &targets);
	enum sd_result result = SD_OK;

	c->plan.becomes[record] = (uint32_t)p->out->nrecords;
	if (!sd_manifest_add_record(p->out, &c->in->records[record]))
		return sd_fail_memory(p->err);
	for (size_t i = 0; i < n && result == SD_OK; i++)
		result = add_target(p, targets[i], &c->in->targets[targets[i]]);
	return result;
}

/* An outgoing record with nothing left to do: a box of a target, and its place in the tensor, dimension by dimension. */
static enum sd_result add_box(struct planner *p, size_t origin, const struct sd_move *place)
{
	struct sd_target target = p->carry->in->targets[origin];
	const struct sd_record *from = &p->carry->in->records[target.record];
	struct sd_record record = {.key = from->key, .dtype = target.dtype, .state = from->state};
	struct sd_arena *arena = &p->out->arena;
	struct sd_move normal = *place, whole;
	uint64_t *shape, count;

	sd_move_normalise(&normal);
	if (!sd_shape_count(target.shape, target.rank, &count) ||
	    !sd_dtype_bytes(target.dtype, sd_move_count(&normal), &record.bytes))
		return sd_fail(p->err, SD_INPUT, "%s: too large", target.name);
	whole = sd_move_identity(count);
	target.steps = NULL;
	target.nsteps = 0;
	target.move = NULL;
	record.shape = target.shape;
	record.rank = target.rank;
	if (memcmp(&normal, &whole, sizeof(whole)) != 0) {
		shape = sd_arena_array(arena, place->rank + 1, sizeof(*shape));
		target.move = sd_arena_copy(arena, &normal, sizeof(normal));
		if (!shape || !target.move)
			return sd_fail_memory(p->err);
		for (uint32_t k = 0; k < place->rank; k++)
			shape[k] = place->dim[k].size;
		record.shape = shape;
		record.rank = place->rank;
	}
	if (!sd_manifest_add_record(p->out, &record))
		return sd_fail_memory(p->err);
	return add_target(p, origin, &target);
}

static void need_room(struct sd_carry *c, uint64_t bytes)
{
	if (bytes > c->room)
		c->room = bytes;
}

static enum sd_result carry_out(struct planner *p, size_t record, const struct sd_pieces *pieces)
{
	struct sd_carry *c = p->carry;
	uint64_t bytes = pieces->window * pieces->each;
	const struct sd_record *r = &c->in->records[record];
	enum sd_result result = SD_OK;

	/* A small record needs less than the window that it could have. */
	if (r->bytes / sd_dtype_size(r->dtype) < pieces->window)
		bytes = r->bytes / sd_dtype_size(r->dtype) * pieces->each;
	need_room(c, bytes + SD_BUFFER_ALIGN * (SD_LINKS_MAX + 2));
	c->plan.becomes[record] = SD_WORK;
	c->work[record].out = (uint32_t)p->out->nrecords;
	for (size_t i = 0; i < pieces->npieces && result == SD_OK; i++) {
		struct sd_move place;

		sd_piece_place(&pieces->pieces[i], &place);
		result = add_box(p, pieces->pieces[i].cut->target, &place);
	}
	return result;
}

/* Gives the box of a move's target side its own strides as the source side. */
static void pack(struct sd_move *m)
{
	uint64_t step = 1;

	m->from = 0;
	for (uint32_t k = m->rank; k-- > 0; step *= m->dim[k].size)
		m->dim[k].from = step;
}

static bool is_run(const struct sd_move *place)
{
	struct sd_move normal = *place;

	sd_move_normalise(&normal);
	return normal.rank == 0 || (normal.rank == 1 && normal.dim[0].to == 1);
}

/* Whether a record is made in one go, and would come out in short runs. */
static const struct sd_cut *joinable(const struct sd_pieces *pieces)
{
	const struct sd_cut *cut = pieces->cuts;

	if (pieces->ncuts != 1 || cut->units != 1 || cut->links.count != 1 || cut->move.rank < 2 || is_run(&cut->move))
		return NULL;
	return cut;
}

/* Whether two targets differ in nothing but the parts of the tensor that they fill. */
static bool same_kind(const struct sd_manifest *m, const struct sd_target *a, const struct sd_target *b)
{
	return strcmp(a->name, b->name) == 0 && a->labels == b->labels && a->extra.length == 0 && b->extra.length == 0 &&
	       m->records[a->record].state == m->records[b->record].state;
}

/* Makes the joint box larger by that of another target, if both lie side by side in the innermost dimension. */
static bool grow(struct sd_move *joint, const struct sd_move *other)
{
	uint32_t last = joint->rank - 1;
	struct sd_dim *d = &joint->dim[last];
	const struct sd_dim *o = &other->dim[last];

	if (joint->rank != other->rank || d->to != o->to)
		return false;
	for (uint32_t k = 0; k < last; k++)
		if (joint->dim[k].size != other->dim[k].size || joint->dim[k].to != other->dim[k].to)
			return false;
	if (other->to == joint->to + d->size * d->to)
		d->size += o->size;
	else if (joint->to == other->to + o->size * d->to) {
		d->size += o->size;
		joint->to = other->to;
	} else
		return false;
	return true;
}

/* Bytes to make a joint box: all of it, and the largest record that goes in. */
static bool joint_room(const struct sd_carry *c, size_t first, size_t end, const struct sd_move *joint, uint8_t dtype,
		       uint64_t *room)
{
	uint64_t largest = 0;

	for (size_t i = first; i < end; i++)
		if (c->in->records[i].bytes > largest)
			largest = c->in->records[i].bytes;
	return sd_dtype_bytes(dtype, sd_move_count(joint), room) && sd_add(*room, largest, room) &&
	       sd_add(*room, SD_BUFFER_ALIGN * 3, room) && *room <= c->memory;
}

/* Finds the records from first on that fill one box together; *end is behind the last, first + 1 where there is no such thing. */
static enum sd_result join(struct planner *p, size_t first, const struct sd_pieces *pieces, struct sd_move *joint, size_t *end)
{
	struct sd_carry *c = p->carry;
	const struct sd_cut *begin = joinable(pieces);
	const struct sd_target *targets = c->in->targets;

	*end = first + 1;
	if (!begin)
		return SD_OK;
	*joint = begin->move;
	while (*end < c->in->nrecords && any_pending(c, *end) && !is_run(joint)) {
		struct sd_move larger = *joint;
		const struct sd_cut *next;
		struct sd_pieces more;
		uint64_t room;
		bool fits;

		if (cut(c, *end, &more, p->err) != SD_OK)
			return p->err->result;
		next = joinable(&more);
		fits = next && same_kind(c->in, &targets[begin->target], &targets[next->target]) &&
		       grow(&larger, &next->move) &&
		       joint_room(c, first, *end + 1, &larger, targets[begin->target].dtype, &room);
		sd_pieces_free(&more);
		if (!fits)
			break;
		need_room(c, room);
		*joint = larger;
		++*end;
	}
	pack(joint);
	return SD_OK;
}

static enum sd_result carry_out_joined(struct planner *p, size_t first, size_t end, size_t target, const struct sd_move *joint)
{
	struct sd_carry *c = p->carry;
	const struct sd_move *kept = sd_arena_copy(&p->out->arena, joint, sizeof(*joint));

	if (!kept)
		return sd_fail_memory(p->err);
	for (size_t i = first; i < end; i++) {
		c->plan.becomes[i] = SD_WORK;
		c->work[i] = (struct sd_carry_work){(uint32_t)p->out->nrecords, i == first, i == end - 1, kept};
	}
	return add_box(p, target, joint);
}

static enum sd_result plan_from(struct planner *p, size_t record, size_t *end)
{
	const uint32_t *targets;
	struct sd_pieces pieces;
	struct sd_move joint;
	enum sd_result result;

	*end = record + 1;
	p->carry->plan.becomes[record] = SD_DROP;
	if (targets_of(p->carry, record, &targets) == 0)
		return SD_OK;
	if (!any_pending(p->carry, record))
		return pass(p, record);
	result = cut(p->carry, record, &pieces, p->err);
	if (result != SD_OK)
		return result;
	result = join(p, record, &pieces, &joint, end);
	if (result == SD_OK && *end > record + 1)
		result = carry_out_joined(p, record, *end, targets[0], &joint);
	else if (result == SD_OK)
		result = carry_out(p, record, &pieces);
	sd_pieces_free(&pieces);
	return result;
}

static int by_origin(const void *a, const void *b)
{
	const struct made *x = a, *y = b;

	if (x->origin != y->origin)
		return x->origin < y->origin ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

static enum sd_result carry_record(struct sd_worker *worker, uint32_t record, struct sd_source *source, struct sd_sink *sink,
				   struct sd_error *err);

enum sd_result sd_carry_plan(const struct sd_manifest *in, uint64_t memory, struct sd_carry *c, struct sd_error *err)
{
	struct planner p = {.carry = c, .err = err};
	enum sd_result result = SD_OK;

	*c = (struct sd_carry){.worker = {carry_record}, .in = in, .memory = memory};
	c->plan.manifest = p.out = sd_manifest_new();
	c->plan.becomes = malloc((in->nrecords + 1) * sizeof(*c->plan.becomes));
	c->work = calloc(in->nrecords + 1, sizeof(*c->work));
	if (!p.out || !c->plan.becomes || !c->work || !index_targets(c) || !sd_manifest_copy_head(p.out, in))
		return sd_fail_memory(err);
	for (size_t i = 0; i < in->nrecords && result == SD_OK;)
		result = plan_from(&p, i, &i);
	if (p.count)
		qsort(p.made, p.count, sizeof(*p.made), by_origin);
	for (size_t i = 0; i < p.count && result == SD_OK; i++)
		if (!sd_manifest_add_target(p.out, &p.made[i].target))
			result = sd_fail_memory(err);
	free(p.made);
	return result;
}

void sd_carry_free(struct sd_carry *c)
{
	sd_plan_free(&c->plan);
	free(c->work);
	free(c->targets);
	free(c->targets_begin);
	free(c->buffer);
	*c = (struct sd_carry){0};
}

/* A part of a record's data that moves on: bytes begin to end are in memory, and nothing before begin is to be had any more. */
struct window {
	struct sd_source *source;
	uint32_t record;
	struct sd_chunk chunk;
	unsigned char *memory;
	uint64_t begin, end;
};

static enum sd_result next_chunk(struct window *w, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (w->chunk.length == 0) {
		result = sd_source_next(w->source, w->record, &w->chunk, err);
		if (result == SD_OK && w->chunk.length == 0)
			result = sd_fail(err, SD_INPUT, "the data of %s ends early",
					 w->source->manifest->records[w->record].key);
	}
	return result;
}

static enum sd_result skip(struct window *w, uint64_t length, struct sd_error *err)
{
	while (length > 0) {
		enum sd_result result = next_chunk(w, err);
		struct sd_chunk part = w->chunk;

		if (result != SD_OK)
			return result;
		part.length = part.length < length ? part.length : length;
		length -= part.length;
		w->chunk.length -= part.length;
		w->end += part.length;
		if (part.memory)
			w->chunk.memory = (const unsigned char *)part.memory + part.length;
		else if (part.offset >= 0)
			w->chunk.offset += (off_t)part.length;
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

	do {
		if (w->chunk.length > 0)
			result = sd_chunk_skip(&w->chunk, err);
		if (result == SD_OK)
			result = sd_source_next(w->source, w->record, &w->chunk, err);
	} while (result == SD_OK && w->chunk.length > 0);
	return result;
}

static enum sd_device_result run_job(struct sd_device *device, const struct sd_job *job);

/* Indices first to end of the outermost dimension. */
static enum sd_device_result run_part(struct sd_device *device, const struct sd_job *job, uint64_t first, uint64_t end)
{
	struct sd_job part = *job;

	part.move.from += first * job->move.dim[0].from;
	part.move.to += first * job->move.dim[0].to;
	part.move.dim[0].size = end - first;
	sd_move_normalise(&part.move);
	return run_job(device, &part);
}

/* A device without enough memory gets halves, and halves of these. */
static enum sd_device_result run_job(struct sd_device *device, const struct sd_job *job)
{
	enum sd_device_result result = device->ops->run(device, job, 1);
	uint64_t size = job->move.rank ? job->move.dim[0].size : 1;

	if (result != SD_DEVICE_NOMEM || size < 2)
		return result;
	result = run_part(device, job, 0, size / 2);
	return result == SD_DEVICE_OK ? run_part(device, job, size / 2, size) : result;
}

static enum sd_result run(struct sd_device *device, struct sd_job *job, const char *name, struct sd_error *err)
{
	sd_move_normalise(&job->move);
	switch (run_job(device, job)) {
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

static enum sd_result give(struct sd_sink *sink, uint32_t record, const void *data, uint64_t length, struct sd_error *err)
{
	struct sd_chunk chunk = {.length = length, .memory = data, .fd = -1, .offset = -1};

	return length ? sink->ops->data(sink, record, &chunk, err) : SD_OK;
}

/* Slides the window to what a move reads; then the move reads from the window's begin. */
static enum sd_result load(struct window *w, struct sd_move *move, unsigned size, uint64_t *span, struct sd_error *err)
{
	uint64_t from = move->from;

	*span = sd_unit_span(move);
	move->from = 0;
	return slide(w, from * size, (from + *span) * size, err);
}

/* Makes one unit and gives it to the sink. */
static enum sd_result carry_unit(struct sd_carry *c, const struct sd_cut *cut, uint64_t unit, struct window *w, uint32_t out,
				 struct sd_sink *sink, struct sd_error *err)
{
	const uint8_t *dtype = cut->links.dtype;
	unsigned char *at = w->memory;
	struct sd_job job = {.source = w->memory};
	uint64_t count, bytes = 0;
	enum sd_result result;

	sd_unit_move(cut, unit, &job.move);
	count = sd_move_count(&job.move);
	result = load(w, &job.move, sd_dtype_size(dtype[0]), &job.source_count, err);
	for (uint32_t k = 1; k <= cut->links.count && result == SD_OK; k++) {
		bytes = count * sd_dtype_size(dtype[k]);
		at -= aligned(bytes);
		job.target = at;
		job.target_count = count;
		job.source_dtype = dtype[k - 1];
		job.target_dtype = dtype[k];
		result = run(c->device, &job, c->in->targets[cut->target].name, err);
		job.source = at;
		job.source_count = count;
		job.move = sd_move_identity(count);
	}
	return result == SD_OK ? give(sink, out, at, bytes, err) : result;
}

/* Puts a record into the joint box, which goes to the sink when it is full. */
static enum sd_result carry_joined(struct sd_carry *c, const struct sd_cut *cut, const struct sd_carry_work *work,
				   struct window *w, struct sd_sink *sink, struct sd_error *err)
{
	const struct sd_move *joint = work->joint;
	uint64_t count = sd_move_count(joint), bytes = count * sd_dtype_size(cut->links.dtype[1]);
	struct sd_job job = {.source = w->memory,
			     .target = c->buffer,
			     .target_count = count,
			     .move = cut->move,
			     .source_dtype = cut->links.dtype[0],
			     .target_dtype = cut->links.dtype[1]};
	enum sd_result result;

	for (uint32_t k = 0; k < joint->rank; k++)
		job.move.dim[k].to = joint->dim[k].from;
	job.move.to = (cut->move.to - joint->to) / joint->dim[joint->rank - 1].to;
	result = load(w, &job.move, sd_dtype_size(cut->links.dtype[0]), &job.source_count, err);
	if (result == SD_OK)
		result = run(c->device, &job, c->in->targets[cut->target].name, err);
	if (result == SD_OK && work->ends)
		result = give(sink, work->out, c->buffer, bytes, err);
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

static enum sd_result carry_record(struct sd_worker *worker, uint32_t record, struct sd_source *source, struct sd_sink *sink,
				   struct sd_error *err)
{
	struct sd_carry *c = (struct sd_carry *)worker;
	const struct sd_carry_work *work = &c->work[record];
	const struct sd_record *r = &c->in->records[record];
	struct window w = {.source = source, .record = record};
	struct sd_pieces pieces;
	enum sd_result result;
	uint64_t window;

	if (!c->buffer)
		c->buffer = aligned_alloc(SD_BUFFER_ALIGN, aligned(c->room));
	if (!c->buffer)
		return sd_fail_memory(err);
	result = cut(c, record, &pieces, err);
	if (result != SD_OK)
		return result;
	/* The window lies at the end, what is made of it in front. */
	window = pieces.window * sd_dtype_size(r->dtype);
	w.memory = c->buffer + aligned(c->room) - aligned(window < r->bytes ? window : r->bytes);
	if (work->joint)
		result = carry_joined(c, pieces.cuts, work, &w, sink, err);
	else
		result = carry_pieces(c, &pieces, work->out, &w, sink, err);
	if (result == SD_OK)
		result = leave(&w, err);
	sd_pieces_free(&pieces);
	return result;
}

/* The number of a dimension in a tensor of this rank; false where there is none. */
static bool dimension(int64_t number, uint32_t rank, uint32_t *k)
{
	if (number < 0)
		number += rank;
	*k = (uint32_t)number;
	return number >= 0 && number < rank;
}

/* Adds what an exchange of two dimensions makes of a target. */
static enum sd_result exchange(struct sd_manifest *m, struct sd_target t, uint32_t a, uint32_t b, struct sd_error *err)
{
	uint32_t order[SD_RANK_MAX];
	uint64_t *shape = sd_arena_copy(&m->arena, t.shape, t.rank * sizeof(*shape));
	struct sd_moves moves = {0};
	struct sd_move turn, room;
	enum sd_result result;

	if (!shape)
		return sd_fail_memory(err);
	for (uint32_t k = 0; k < t.rank; k++)
		order[k] = k;
	order[a] = b;
	order[b] = a;
	if (!sd_dtype_size(m->records[t.record].dtype))
		return sd_fail(err, SD_USAGE, "%s: elements of %s are smaller than a byte and cannot be moved one by one",
			       t.name, sd_dtype_name(m->records[t.record].dtype));
	if (!sd_move_permute(&turn, t.shape, t.rank, order))
		return sd_fail(err, SD_INPUT, "%s: too large", t.name);
	result = sd_move_compose(sd_target_move(m, &t, &room), &turn, &moves, err);
	if (result != SD_OK)
		sd_error_at(err, "%s", t.name);
	shape[a] = t.shape[b];
	shape[b] = t.shape[a];
	t.shape = shape;
	/* A tensor without elements is one all the same. */
	if (result == SD_OK && moves.count == 0 && !sd_manifest_add_target(m, &t))
		result = sd_fail_memory(err);
	for (size_t i = 0; i < moves.count && result == SD_OK; i++) {
		t.move = sd_arena_copy(&m->arena, &moves.at[i], sizeof(moves.at[i]));
		if (!t.move || !sd_manifest_add_target(m, &t))
			result = sd_fail_memory(err);
	}
	free(moves.at);
	return result;
}

static enum sd_result exchange_if(struct sd_manifest *m, const struct sd_target *t, int64_t a, int64_t b,
				  const struct sd_regex_list *include, struct sd_error *err)
{
	char shape[SD_SHAPE_TEXT];
	bool included = include->count == 0;
	enum sd_result result = SD_OK;
	uint32_t i, j;

	if (!included)
		result = sd_regex_list_search(include, t->name, &included, err);
	if (result != SD_OK)
		return result;
	if (!included)
		return sd_manifest_add_target(m, t) ? SD_OK : sd_fail_memory(err);
	if (!dimension(a, t->rank, &i) || !dimension(b, t->rank, &j))
		return sd_fail(err, SD_USAGE, "%s has the shape %s: no dimensions %" PRId64 " and %" PRId64
			       "; choose tensors with --include",
			       t->name, sd_shape_text(t->shape, t->rank, shape, sizeof(shape)), a, b);
	return exchange(m, *t, i, j, err);
}

enum sd_result sd_carry_exchange(const struct sd_manifest *in, int64_t a, int64_t b, const struct sd_regex_list *include,
				 struct sd_manifest **out, struct sd_error *err)
{
	struct sd_manifest *m = sd_manifest_new();
	enum sd_result result = m && sd_manifest_copy_head(m, in) ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < in->nrecords && result == SD_OK; i++)
		if (!sd_manifest_add_record(m, &in->records[i]))
			result = sd_fail_memory(err);
	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++)
		result = exchange_if(m, &in->targets[i], a, b, include, err);
	if (result != SD_OK) {
		sd_manifest_free(m);
		m = NULL;
	}
	*out = m;
	return result;
}
