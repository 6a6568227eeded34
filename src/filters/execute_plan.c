/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out pending steps: the plan. */
#include "filters/execute.h"
#include "base/checked.h"
#include "flow/identity.h"
#include "model/parts.h"
#include "move/kernels.h"
#include "filters/tiling.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct planner {
	struct sd_execution *execution;
	struct sd_manifest *out;
	uint32_t *origin; /* of each outgoing target: the one that it is made from */
	size_t room;
	size_t pieces; /* above one for each target */
	struct sd_error *err;
};

static size_t targets_of(const struct sd_execution *c, size_t record, const uint32_t **targets)
{
	*targets = c->targets + c->targets_begin[record];
	return c->targets_begin[record + 1] - c->targets_begin[record];
}

/* Sorts target numbers by record. */
static bool index_targets(struct sd_execution *c)
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

static bool any_pending(const struct sd_execution *c, size_t record)
{
	const uint32_t *targets;
	size_t n = targets_of(c, record, &targets);

	for (size_t i = 0; i < n; i++)
		if (sd_target_is_pending(&c->in->targets[targets[i]]))
			return true;
	return false;
}

enum sd_result sd_execution_cut(const struct sd_execution *c, uint32_t record, struct sd_tiling *tiling,
				struct sd_error *err)
{
	const uint32_t *targets;
	size_t n = targets_of(c, record, &targets);

	return sd_tiling_cut(c->in, record, targets, n, c->memory, c->held, tiling, err);
}

static enum sd_result add_target(struct planner *p, size_t origin, const struct sd_target *target)
{
	struct sd_target made = *target;

	made.record = (uint32_t)(p->out->nrecords - 1);
	if (!sd_array_grow(&p->origin, p->out->ntargets, &p->room, sizeof(*p->origin)) ||
	    !sd_manifest_add_target(p->out, &made))
		return sd_fail_memory(p->err);
	p->origin[p->out->ntargets - 1] = (uint32_t)origin;
	return SD_OK;
}

/* Puts the outgoing targets into the order of those that they are made from. */
static enum sd_result order_targets(struct planner *p)
{
	struct sd_manifest *out = p->out;
	size_t origins = p->execution->in->ntargets, ordered = 0;
	uint32_t *place;
	struct sd_target *targets;

	while (ordered < out->ntargets && (ordered == 0 || p->origin[ordered - 1] <= p->origin[ordered]))
		ordered++;
	if (ordered == out->ntargets)
		return SD_OK;
	place = calloc(origins + 1, sizeof(*place));
	targets = malloc(out->ntargets * sizeof(*targets));
	if (!place || !targets) {
		free(place);
		free(targets);
		return sd_fail_memory(p->err);
	}
	for (size_t i = 0; i < out->ntargets; i++)
		place[p->origin[i] + 1]++;
	for (size_t i = 0; i < origins; i++)
		place[i + 1] += place[i];
	for (size_t i = 0; i < out->ntargets; i++)
		targets[place[p->origin[i]]++] = out->targets[i];
	free(place);
	free(out->targets);
	out->targets = targets;
	out->targets_room = out->ntargets;
	return SD_OK;
}

static enum sd_result pass(struct planner *p, size_t record)
{
	const struct sd_execution *c = p->execution;
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

/* An outgoing record with nothing left to do: a box of a target, and its place, dimension by dimension. */
static enum sd_result add_box(struct planner *p, size_t origin, const struct sd_move *place)
{
	struct sd_target target = p->execution->in->targets[origin];
	const struct sd_record *from = &p->execution->in->records[target.record];
	struct sd_record record = {.key = from->key,
				   .dtype = target.dtype,
				   .state = p->execution->work[target.record].state,
				   .lack = from->lack};
	struct sd_arena *arena = &p->out->arena;
	struct sd_move normal = *place, whole;
	uint64_t *shape, count;
	bool is_part;

	sd_move_normalise(&normal);
	if (!sd_shape_count(target.shape, target.rank, &count) ||
	    !sd_dtype_bytes(target.dtype, sd_move_count(&normal), &record.bytes))
		return sd_fail(p->err, SD_INPUT, "%s: too large", target.name);
	whole = sd_move_identity(count);
	target.steps = NULL;
	target.nsteps = 0;
	/* An empty tensor of several parts is told from one that comes twice by their moves. */
	is_part = memcmp(&normal, &whole, sizeof(whole)) != 0 || (count == 0 && target.move);
	target.move = NULL;
	record.shape = target.shape;
	record.rank = target.rank;
	if (is_part) {
		shape = sd_arena_array(arena, place->rank + 1, sizeof(*shape));
		target.move = sd_arena_copy(arena, &normal, sd_move_size(&normal));
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

static void need_room(struct sd_execution *c, uint64_t bytes)
{
	if (bytes > c->room)
		c->room = bytes;
}

/* For any unit: where several targets take turns, one's may have to keep what was there for another. */
static uint64_t room_of(const struct sd_execution *c, const struct sd_tiling *tiling)
{
	uint64_t most_window = 0, most_made = 0;

	for (size_t i = 0; i < tiling->ncuts; i++) {
		uint64_t window, made;

		sd_cut_room(c->in, &tiling->cuts[i], &window, &made);
		most_window = window > most_window ? window : most_window;
		most_made = made > most_made ? made : most_made;
	}
	return most_window + most_made;
}

static enum sd_result execute(struct planner *p, size_t record, const struct sd_tiling *tiling)
{
	struct sd_execution *c = p->execution;
	const struct sd_record *r = &c->in->records[record];
	enum sd_result result = SD_OK;

	need_room(c, room_of(c, tiling));
	if (tiling->nruns > tiling->ncuts)
		p->pieces += tiling->nruns - tiling->ncuts;
	if (p->pieces > SD_UNIT_RUNS_MAX)
		return sd_fail(p->err, SD_INPUT,
			       "%s: with it, records would be cut into more than %u pieces; use more --memory", r->key,
			       SD_UNIT_RUNS_MAX);
	c->plan.becomes[record] = c->work[record].state == SD_HERE ? SD_WORK : SD_DROP;
	c->work[record].out = (uint32_t)p->out->nrecords;
	for (size_t i = 0; i < tiling->nruns && result == SD_OK; i++) {
		struct sd_move place;

		sd_unit_run_place(&tiling->runs[i], &place);
		result = add_box(p, tiling->runs[i].cut->target, &place);
	}
	return result;
}

static bool is_run(const struct sd_move *place)
{
	struct sd_move normal = *place;

	sd_move_normalise(&normal);
	return normal.rank == 0 || (normal.rank == 1 && normal.dim[0].to == 1);
}

/* Whether a record is made in one go, and would come out in short runs. */
static const struct sd_cut *joinable(const struct sd_tiling *tiling)
{
	const struct sd_cut *cut = tiling->cuts;

	if (tiling->ncuts != 1 || cut->units != 1 || cut->links.count != 1 || cut->links.fill || cut->move.rank < 2 ||
	    is_run(&cut->move))
		return NULL;
	return cut;
}

/* Whether a record's only target differs from another one in nothing but the part of the tensor that it fills. */
static bool same_kind(const struct sd_execution *c, const struct sd_target *a, size_t record)
{
	const uint32_t *targets;
	const struct sd_target *b;

	if (targets_of(c, record, &targets) != 1)
		return false;
	b = &c->in->targets[*targets];
	return a->labels == b->labels && strcmp(a->name, b->name) == 0 && a->extra.length == 0 &&
	       b->extra.length == 0 && c->work[a->record].state == c->work[record].state;
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
static bool joint_room(const struct sd_execution *c, uint64_t largest, const struct sd_move *joint, uint8_t dtype,
		       uint64_t *room)
{
	return sd_dtype_bytes(dtype, sd_move_count(joint), room) && sd_add(*room, largest, room) &&
	       sd_add(*room, SD_BUFFER_ALIGN * 3, room) && *room <= c->memory - c->held;
}

/* Finds the records from first on that fill one box together. *end is behind the last: first + 1 if it is alone. */
static enum sd_result join(struct planner *p, size_t first, const struct sd_tiling *tiling, struct sd_move *joint,
			   size_t *end)
{
	struct sd_execution *c = p->execution;
	const struct sd_cut *begin = joinable(tiling);
	const struct sd_target *targets = c->in->targets;
	uint64_t largest = c->in->records[first].bytes;

	*end = first + 1;
	if (!begin)
		return SD_OK;
	*joint = begin->move;
	while (*end < c->in->nrecords && same_kind(c, &targets[begin->target], *end) && any_pending(c, *end) &&
	       c->work[*end].at == *end && !is_run(joint)) {
		struct sd_move larger = *joint;
		const struct sd_cut *next;
		struct sd_tiling more;
		uint64_t room;
		bool fits;

		if (c->in->records[*end].bytes > largest)
			largest = c->in->records[*end].bytes;
		if (sd_execution_cut(c, (uint32_t)*end, &more, p->err) != SD_OK)
			return p->err->result;
		next = joinable(&more);
		fits = next && grow(&larger, &next->move) &&
		       joint_room(c, largest, &larger, targets[begin->target].dtype, &room);
		sd_tiling_free(&more);
		if (!fits)
			break;
		need_room(c, room);
		*joint = larger;
		++*end;
	}
	sd_move_pack_source(joint);
	return SD_OK;
}

static enum sd_result execute_joined(struct planner *p, size_t first, size_t end, size_t target,
				     const struct sd_move *joint)
{
	struct sd_execution *c = p->execution;
	const struct sd_move *kept = sd_arena_copy(&p->out->arena, joint, sd_move_size(joint));

	if (!kept)
		return sd_fail_memory(p->err);
	for (size_t i = first; i < end; i++) {
		c->plan.becomes[i] = c->work[i].state == SD_HERE ? SD_WORK : SD_DROP;
		c->work[i].out = (uint32_t)p->out->nrecords;
		c->work[i].joint = kept;
		c->work[i].ends = i == end - 1;
	}
	return add_box(p, target, joint);
}

static enum sd_result plan_work(struct planner *p, size_t record, size_t *end)
{
	size_t target = p->execution->targets[p->execution->targets_begin[record]];
	struct sd_tiling tiling;
	struct sd_move joint;
	enum sd_result result = sd_execution_cut(p->execution, (uint32_t)record, &tiling, p->err);

	if (result != SD_OK)
		return result;
	result = join(p, record, &tiling, &joint, end);
	if (result == SD_OK && *end > record + 1)
		result = execute_joined(p, record, *end, target, &joint);
	else if (result == SD_OK)
		result = execute(p, record, &tiling);
	sd_tiling_free(&tiling);
	return result;
}

/* A record whose operands come later: it has been put aside. */
static enum sd_result plan_aside(struct planner *p, uint32_t record)
{
	struct sd_tiling tiling;
	enum sd_result result = sd_execution_cut(p->execution, record, &tiling, p->err);

	if (result != SD_OK)
		return result;
	result = execute(p, record, &tiling);
	sd_tiling_free(&tiling);
	return result;
}

/* What comes out when a record has come, in the order in which the worker gives it. *end is the next to look at. */
static enum sd_result plan_from(struct planner *p, size_t record, size_t *end)
{
	struct sd_execution *c = p->execution;
	struct sd_execution_work *work = &c->work[record];
	enum sd_result result = SD_OK;
	const uint32_t *targets;

	*end = record + 1;
	c->plan.becomes[record] = SD_DROP;
	if (targets_of(c, record, &targets) == 0) {
		work->passes = false;
	} else if (!any_pending(c, record)) {
		work->passes = true;
		work->out = (uint32_t)p->out->nrecords;
		result = pass(p, record);
	} else if (work->at > record) {
		c->plan.becomes[record] = SD_WORK;
	} else {
		result = plan_work(p, record, end);
	}
	if (work->uses > 0)
		c->plan.becomes[record] = SD_WORK;
	for (uint32_t i = work->waiting; i != SD_NO_RECORD && result == SD_OK; i = c->work[i].next)
		result = plan_aside(p, i);
	return result;
}

/* Calls back for each operand of a record's steps. */
static enum sd_result each_operand(struct sd_execution *c, uint32_t record,
				   enum sd_result (*operand)(struct sd_execution *c, uint32_t record, uint32_t operand,
							     struct sd_error *err),
				   struct sd_error *err)
{
	const uint32_t *targets;
	size_t n = targets_of(c, record, &targets);
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < c->in->targets[targets[i]].nsteps && result == SD_OK; k++) {
			uint32_t number = c->in->targets[targets[i]].steps[k].operand;

			if (number != SD_NO_RECORD)
				result = operand(c, record, number, err);
		}
	return result;
}

/* A record is there when all is there that its steps need, and not before the last of it. */
static enum sd_result needs(struct sd_execution *c, uint32_t record, uint32_t operand, struct sd_error *err)
{
	struct sd_execution_work *work = &c->work[record];

	if (any_pending(c, operand))
		return sd_fail(err, SD_INPUT, "%s is needed for %s, but has pending steps itself",
			       c->in->records[operand].key, c->in->records[record].key);
	if (c->in->records[operand].state > work->state)
		work->state = c->in->records[operand].state;
	if (operand > work->at)
		work->at = operand;
	return SD_OK;
}

static enum sd_result uses(struct sd_execution *c, uint32_t record, uint32_t operand, struct sd_error *err)
{
	(void)err;
	if (c->work[record].state == SD_HERE)
		c->work[operand].uses++;
	return SD_OK;
}

static enum sd_result releases(struct sd_execution *c, uint32_t record, uint32_t operand, struct sd_error *err)
{
	(void)err;
	if (c->work[record].state == SD_HERE && --c->work[operand].left == 0)
		c->holding -= c->in->records[operand].bytes;
	return SD_OK;
}

/* The most memory that operands take at one time. */
static void measure_held(struct sd_execution *c)
{
	const struct sd_manifest *in = c->in;

	for (uint32_t i = 0; i < in->nrecords; i++)
		c->work[i].left = c->work[i].uses;
	for (uint32_t i = 0; i < in->nrecords; i++) {
		if (c->work[i].uses > 0 && __builtin_add_overflow(c->holding, in->records[i].bytes, &c->holding))
			c->holding = UINT64_MAX;
		if (c->holding > c->held)
			c->held = c->holding;
		if (c->work[i].at == i)
			(void)!each_operand(c, i, releases, NULL);
		for (uint32_t k = c->work[i].waiting; k != SD_NO_RECORD; k = c->work[k].next)
			(void)!each_operand(c, k, releases, NULL);
	}
	for (uint32_t i = 0; i < in->nrecords; i++)
		c->work[i].left = c->work[i].uses;
	c->holding = 0;
}

static enum sd_result adds(struct sd_execution *c, uint32_t record, uint32_t operand, struct sd_error *err)
{
	(void)err;
	if (c->work[record].state == SD_HERE &&
	    __builtin_add_overflow(c->holding, c->in->records[operand].bytes, &c->holding))
		c->holding = UINT64_MAX;
	return SD_OK;
}

/* The same, where operands are in memory only while one record needs them. */
static void measure_spilled(struct sd_execution *c)
{
	c->spills = true;
	c->held = 0;
	for (uint32_t i = 0; i < c->in->nrecords; i++) {
		c->holding = 0;
		(void)!each_operand(c, i, adds, NULL);
		if (c->work[i].passes && c->work[i].uses > 0 && c->in->records[i].bytes > c->holding)
			c->holding = c->in->records[i].bytes;
		if (c->holding > c->held)
			c->held = c->holding;
	}
	c->holding = 0;
}

/* Finds out what waits for what. */
static enum sd_result plan_operands(struct sd_execution *c, struct sd_error *err)
{
	const struct sd_manifest *in = c->in;
	enum sd_result result = SD_OK;

	for (uint32_t i = 0; i < in->nrecords; i++) {
		c->work[i].at = i;
		c->work[i].waiting = c->work[i].next = SD_NO_RECORD;
		c->work[i].state = in->records[i].state;
	}
	for (uint32_t i = 0; i < in->nrecords && result == SD_OK; i++) {
		result = each_operand(c, i, needs, err);
		/* Where the data does not come, nothing is waited for. */
		if (c->work[i].state != SD_HERE)
			c->work[i].at = i;
		if (result == SD_OK)
			result = each_operand(c, i, uses, err);
	}
	for (uint32_t i = (uint32_t)in->nrecords; i-- > 0 && result == SD_OK;) {
		uint32_t at = c->work[i].at;

		if (at == i)
			continue;
		c->waits = true;
		c->work[i].next = c->work[at].waiting;
		c->work[at].waiting = i;
	}
	if (result != SD_OK)
		return result;
	measure_held(c);
	if (c->held > c->memory / 2)
		measure_spilled(c);
	if (c->held > c->memory / 2)
		return sd_fail(err, SD_INPUT,
			       "the block scales of one tensor take %" PRIu64 " bytes; use --memory=%" PRIu64
			       " or more",
			       c->held, c->held < UINT64_MAX / 4 ? c->held * 4 : UINT64_MAX);
	return SD_OK;
}

enum sd_result sd_execution_plan(const struct sd_manifest *in, uint64_t memory, struct sd_execution *c,
				 struct sd_error *err)
{
	struct planner p = {.execution = c, .err = err};
	enum sd_result result;

	*c = (struct sd_execution){.worker = {sd_execution_record, sd_execution_pass, sd_execution_settle},
				   .in = in,
				   .memory = memory,
				   .spool = -1};
	c->kernels = sd_kernels_pick(getenv("SD_KERNELS"));
	c->plan.manifest = p.out = sd_manifest_new();
	c->plan.becomes = malloc((in->nrecords + 1) * sizeof(*c->plan.becomes));
	c->work = calloc(in->nrecords + 1, sizeof(*c->work));
	if (!p.out || !c->plan.becomes || !c->work || !index_targets(c) || !sd_manifest_copy_head(p.out, in))
		return sd_fail_memory(err);
	result = plan_operands(c, err);
	for (size_t i = 0; i < in->nrecords && result == SD_OK;)
		result = plan_from(&p, i, &i);
	if (result == SD_OK)
		result = order_targets(&p);
	if (result == SD_OK)
		result = sd_parts_keep(p.out, in, err);
	if (result == SD_OK)
		result = sd_identity_fold(p.out, in, NULL, 0, err);
	free(p.origin);
	return result;
}

void sd_execution_free(struct sd_execution *c)
{
	/* Where it went wrong, units may still be on their way. */
	if (c->flights > 0)
		(void)c->device->ops->wait(c->device, c->flight[(c->oldest + c->flights - 1) % SD_FLIGHTS].ticket);
	for (unsigned i = 0; i < c->flights; i++)
		if (c->flight[(c->oldest + i) % SD_FLIGHTS].file)
			close(c->flight[(c->oldest + i) % SD_FLIGHTS].parcel.extent.fd);
	for (size_t i = 0; c->work && i < c->in->nrecords; i++) {
		free(c->work[i].held);
		free(c->work[i].derived);
	}
	if (c->in && c->spool >= 0)
		close(c->spool);
	sd_plan_free(&c->plan);
	free(c->work);
	free(c->targets);
	free(c->targets_begin);
	sd_device_release(c->device, c->buffer);
	*c = (struct sd_execution){0};
}
