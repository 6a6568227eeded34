/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd-diff where one side comes in its own order only: out of a pipe, or made by pending steps. It flows by once, and
 * each piece of it is compared with what is read of the other side, or of a list of checksums.
 */
#include "base/names.h"
#include "move/device.h"
#include "filters/execute.h"
#include "flow/driver.h"
#include "flow/checksum.h"
#include "flow/spooled.h"
#include "tools/diff.h"

#include <stdlib.h>
#include <string.h>

/* Bytes that are taken at a time. */
#define WINDOW (256u << 10)
/* Of these are compared: whole elements of every dtype, and whole bytes of those that are smaller than a byte. */
#define WHOLE (WINDOW / 24 * 24)
#define MEMORY (64u << 20)

/* A tensor of the side that flows. */
struct passing {
	struct diff_pair *pair; /* NULL: it was not chosen */
	struct sd_view other;   /* of the same tensor of the other side; no parts: there is none to be compared with */
	struct sd_comparison comparison;
	uint64_t compared; /* elements */
	bool summed;       /* it comes as one record, and its sum is wanted */
	uint64_t sum;
};

struct flow {
	struct sd_sink sink;
	struct diff *diff;
	struct sd_execution execution; /* of what is pending */
	int side;                      /* that flows */
	const struct sd_manifest *m;
	struct sd_listing listing;
	struct passing *passing;           /* of each tensor of the listing */
	uint32_t *tensor;                  /* of each target */
	uint32_t *targets_begin, *targets; /* of each record */
	uint32_t *uses;                    /* of each record of the other side: targets that are still to be compared */
	struct sd_view_cache cache;
	struct sd_checksum *sum;
	unsigned char *memory; /* two windows */
	uint32_t record;       /* that comes just now */
	uint64_t done;         /* elements of it that were compared */
	uint64_t taken;        /* bytes of it */
	uint64_t filled;       /* and those of them that wait in memory */
	struct sd_error other; /* what was wrong with the other side */
};

/* ---- a piece of a record ---- */

/* Elements of a record, in memory, that are compared with those of a tensor. */
struct piece {
	struct flow *f;
	struct passing *p;
	uint64_t first; /* of the record */
	const unsigned char *data;
	enum sd_result result;
	struct sd_error *err;
};

static enum sd_result compare_run(struct piece *c, uint64_t from, uint64_t to, uint64_t count)
{
	struct flow *f = c->f;
	struct passing *p = c->p;
	const unsigned char *data = c->data + (from - c->first) * sd_dtype_bits(f->m->records[f->record].dtype) / 8;
	unsigned char *other = f->memory + WINDOW;
	unsigned each = sd_numbers_each((enum sd_dtype)p->other.dtype);
	uint64_t step = (uint64_t)WINDOW * 8 / sd_dtype_bits(p->other.dtype) / SD_VIEW_STEP * SD_VIEW_STEP;
	uint64_t bits = sd_dtype_bits(f->m->records[f->record].dtype);
	struct diff_pair *pair = p->pair;
	size_t room = (size_t)(f->diff->opt->count - pair->nlist);

	for (uint64_t at = 0; at < count && c->result == SD_OK; at += step) {
		uint64_t n = count - at < step ? count - at : step;
		const void *mine = data + at * bits / 8;
		const void *a = f->side ? (const void *)other : mine, *b = f->side ? mine : other;
		size_t before = pair->nlist;

		c->result = sd_view_read(&p->other, &f->cache, to + at, n, other, c->err);
		if (c->result != SD_OK)
			break;
		sd_compare(&p->comparison, a, b, (to + at) * each, n * each, &pair->d);
		p->compared += n;
		if (!room || !pair->d.differ)
			continue;
		pair->nlist +=
			sd_compare_list(&p->comparison, a, b, (to + at) * each, n * each, pair->list + before, room);
		for (size_t i = before; i < pair->nlist; i++) {
			sd_numbers_read(&p->comparison.a, a, pair->list[i] - (to + at) * each, 1, &pair->values[i].a);
			sd_numbers_read(&p->comparison.b, b, pair->list[i] - (to + at) * each, 1, &pair->values[i].b);
		}
		room -= pair->nlist - before;
	}
	return c->result;
}

/* The move goes from the tensor to the record here, so that its runs are those of the piece. */
static void take_run(void *user, const struct sd_run *run)
{
	struct piece *c = user;

	if (run->from_step == 1 && run->to_step == 1) {
		if (c->result == SD_OK)
			compare_run(c, run->to, run->from, run->count);
		return;
	}
	for (uint64_t i = 0; i < run->count && c->result == SD_OK; i++)
		compare_run(c, run->to + i * run->to_step, run->from + i * run->from_step, 1);
}

/* A tensor of the other side that has been compared needs no room in its spool. */
static void release(struct flow *f, const struct passing *p)
{
	struct sd_source *spooled = f->diff->side[!f->side].spooled;

	for (size_t i = 0; i < p->other.nparts && spooled; i++)
		if (--f->uses[p->other.parts[i].record] == 0)
			sd_spooled_release(spooled, p->other.parts[i].record);
}

static enum sd_result take_piece(struct flow *f, const unsigned char *data, uint64_t bytes, struct sd_error *err)
{
	uint64_t count = bytes * 8 / sd_dtype_bits(f->m->records[f->record].dtype);

	for (uint32_t i = f->targets_begin[f->record]; i < f->targets_begin[f->record + 1]; i++) {
		const struct sd_target *t = &f->m->targets[f->targets[i]];
		struct passing *p = &f->passing[f->tensor[f->targets[i]]];
		struct piece c = {.f = f, .p = p, .first = f->done, .data = data, .result = SD_OK, .err = err};
		struct sd_move room, move;

		if (p->summed)
			sd_checksum_add(f->sum, data, bytes);
		if (!p->other.source)
			continue;
		move = sd_move_inverse(sd_target_move(f->m, t, &room));
		sd_move_runs(&move, f->done, f->done + count, take_run, &c);
		if (c.result != SD_OK) {
			sd_error_about(err, f->diff->side[!f->side].name);
			f->other = *err;
			return c.result;
		}
		if (p->compared == p->other.elements)
			release(f, p);
	}
	f->done += count;
	return SD_OK;
}

/* ---- the sink ---- */

static struct passing *first_passing(struct flow *f, uint32_t record)
{
	return f->targets_begin[record] == f->targets_begin[record + 1]
		       ? NULL
		       : &f->passing[f->tensor[f->targets[f->targets_begin[record]]]];
}

static void end_record(struct flow *f)
{
	struct passing *p = f->record == SD_NO_RECORD ? NULL : first_passing(f, f->record);

	if (p && p->summed)
		p->sum = sd_checksum_value(f->sum);
}

/* Chunks may end anywhere: what is compared are windows of whole elements, the same however the data comes. */
static enum sd_result data(struct sd_sink *sink, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct flow *f = (struct flow *)sink;
	enum sd_result result = SD_OK;

	if (record != f->record) {
		end_record(f);
		f->record = record;
		f->done = f->taken = f->filled = 0;
		sd_checksum_begin(f->sum);
	}
	while (result == SD_OK && extent->length) {
		uint64_t room = WHOLE - f->filled, n = extent->length < room ? extent->length : room;

		result = sd_extent_read(extent, f->memory + f->filled, n, err);
		f->filled += n;
		f->taken += n;
		if (result != SD_OK || (f->filled < WHOLE && f->taken < f->m->records[record].bytes))
			continue;
		result = take_piece(f, f->memory, f->filled, err);
		f->filled = 0;
	}
	return result;
}

/* Which tensors each record and target are of. */
static bool index_targets(struct flow *f)
{
	const struct sd_manifest *m = f->m, *other = f->diff->side[!f->side].m;

	f->tensor = malloc((m->ntargets + 1) * sizeof(*f->tensor));
	f->targets = malloc((m->ntargets + 1) * sizeof(*f->targets));
	f->targets_begin = calloc(m->nrecords + 2, sizeof(*f->targets_begin));
	f->passing = calloc(f->listing.n + 1, sizeof(*f->passing));
	f->uses = calloc(other->nrecords + 1, sizeof(*f->uses));
	if (!f->tensor || !f->targets || !f->targets_begin || !f->passing || !f->uses)
		return false;
	for (size_t i = 0; i < other->ntargets; i++)
		f->uses[other->targets[i].record]++;
	for (size_t i = 0; i < f->listing.n; i++)
		for (uint32_t t = f->listing.tensors[i].target; t != UINT32_MAX; t = f->listing.next[t])
			f->tensor[t] = (uint32_t)i;
	for (size_t i = 0; i < m->ntargets; i++)
		f->targets_begin[m->targets[i].record + 1]++;
	for (size_t i = 0; i < m->nrecords; i++)
		f->targets_begin[i + 1] += f->targets_begin[i];
	for (size_t i = m->ntargets; i-- > 0;)
		f->targets[--f->targets_begin[m->targets[i].record + 1]] = (uint32_t)i;
	for (size_t i = 0; i <= m->nrecords; i++)
		f->targets_begin[i] = f->targets_begin[i + 1];
	f->targets_begin[m->nrecords] = (uint32_t)m->ntargets;
	return true;
}

static bool wants_sum(const struct flow *f, const struct diff_pair *p, const struct sd_listed *t)
{
	const struct sd_target *target = &f->m->targets[t->target];
	uint32_t first = f->targets_begin[target->record];

	return (p->tensor[!f->side] == DIFF_NONE || f->diff->side[!f->side].sums) &&
	       f->listing.next[t->target] == UINT32_MAX && sd_target_is_record(f->m, target) &&
	       f->targets_begin[target->record + 1] - first == 1;
}

/* The tensor that is compared with one that flows. */
static enum sd_result open_other(struct flow *f, struct passing *p, struct sd_error *err)
{
	const struct diff_side *other = &f->diff->side[!f->side];
	const struct sd_listed *t[2] = {diff_tensor(f->diff, p->pair, 0), diff_tensor(f->diff, p->pair, 1)};
	uint64_t count = f->diff->opt->count;

	if (!t[0] || !t[1] || p->pair->status > DIFF_DTYPE || other->sums ||
	    sd_numbers_each((enum sd_dtype)t[0]->dtype) != sd_numbers_each((enum sd_dtype)t[1]->dtype))
		return SD_OK;
	sd_comparison_begin(&p->comparison, &f->diff->opt->tolerance, (enum sd_dtype)t[0]->dtype,
			    (enum sd_dtype)t[1]->dtype);
	sd_difference_begin(&p->pair->d);
	count = count < t[0]->elements * 2 ? count : t[0]->elements * 2;
	p->pair->list = calloc(count + 1, sizeof(*p->pair->list));
	p->pair->values = calloc(count + 1, sizeof(*p->pair->values));
	if (!p->pair->list || !p->pair->values)
		return sd_fail_memory(err);
	return sd_view_make(&p->other, other->source, other->m, &other->listing, p->pair->tensor[!f->side], NULL, err);
}

static enum sd_result open_pairs(struct flow *f, struct sd_error *err)
{
	struct sd_names names = {0};
	enum sd_result result = SD_OK;

	for (uint32_t i = 0; i < f->listing.n; i++)
		if (sd_names_add(&names, f->listing.tensors[i].name, i) == SD_NO_NAME)
			result = sd_fail_memory(err);
	for (size_t i = 0; i < f->diff->npairs && result == SD_OK; i++) {
		struct diff_pair *pair = &f->diff->pairs[i];
		const struct sd_listed *t = diff_tensor(f->diff, pair, f->side);
		uint32_t number = t ? sd_names_find(&names, t->name) : SD_NO_NAME;

		if (number == SD_NO_NAME)
			continue;
		f->passing[number].pair = pair;
		f->passing[number].summed = wants_sum(f, pair, &f->listing.tensors[number]);
		result = open_other(f, &f->passing[number], err);
	}
	sd_names_free(&names);
	return result;
}

/* What was not chosen of the other side needs no room in its spool. */
static void release_unchosen(struct flow *f)
{
	const struct diff_side *other = &f->diff->side[!f->side];

	for (size_t i = 0; i < other->listing.n && other->spooled; i++) {
		if (other->chosen[i])
			continue;
		for (uint32_t t = other->listing.tensors[i].target; t != UINT32_MAX; t = other->listing.next[t])
			if (--f->uses[other->m->targets[t].record] == 0)
				sd_spooled_release(other->spooled, other->m->targets[t].record);
	}
}

static enum sd_result begin(struct sd_sink *sink, const struct sd_manifest *manifest, struct sd_error *err)
{
	struct flow *f = (struct flow *)sink;
	enum sd_result result;

	f->m = manifest;
	f->record = SD_NO_RECORD;
	f->memory = malloc(2 * WINDOW);
	f->sum = sd_checksum_new();
	result = f->memory && f->sum ? sd_listing_make(manifest, &f->listing, err) : sd_fail_memory(err);
	if (result == SD_OK && !index_targets(f))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = open_pairs(f, err);
	if (result == SD_OK)
		release_unchosen(f);
	return result;
}

static enum sd_result end(struct sd_sink *sink, struct sd_error *err)
{
	(void)err;
	end_record((struct flow *)sink);
	return SD_OK;
}

static void do_nothing(struct sd_sink *sink, struct sd_error *err)
{
	(void)sink;
	(void)err;
}

static void close_flow(struct sd_sink *sink)
{
	struct flow *f = (struct flow *)sink;

	for (size_t i = 0; i < f->listing.n && f->passing; i++)
		sd_view_free(&f->passing[i].other);
	sd_listing_free(&f->listing);
	free(f->passing);
	free(f->tensor);
	free(f->targets);
	free(f->targets_begin);
	free(f->uses);
	free(f->memory);
	sd_view_cache_free(&f->cache);
	sd_checksum_free(f->sum);
}

static const struct sd_sink_ops ops = {
	.begin = begin, .data = data, .end = end, .abort = do_nothing, .close = close_flow};

/* ---- running ---- */

/* What a list of checksums says of a tensor. */
static enum sd_result compare_sum(struct diff *diff, struct diff_pair *p, int listed, uint64_t sum,
				  struct sd_error *err)
{
	if (diff->side[listed].sums[p->tensor[listed]] == sum || p->status != DIFF_SAME)
		return SD_OK;
	p->status = DIFF_VALUES;
	return diff_note(diff, p, err, "by its checksum");
}

static enum sd_result settle_passing(struct flow *f, struct passing *p, struct sd_error *err)
{
	struct diff_pair *pair = p->pair;

	if (!pair)
		return SD_OK;
	if (p->other.source) {
		pair->compared = pair->d.differ || pair->status == DIFF_DTYPE;
		return diff_settle(f->diff, pair, err);
	}
	if (p->summed && pair->tensor[!f->side] != DIFF_NONE)
		return compare_sum(f->diff, pair, !f->side, p->sum, err);
	pair->summed = p->summed;
	pair->sum = p->sum;
	if (f->diff->side[!f->side].sums && !p->summed && pair->status == DIFF_SAME)
		return sd_fail(err, SD_INPUT, "%s comes in several pieces: put sd-pack in front for a checksum",
			       diff_name(f->diff, pair));
	return SD_OK;
}

static enum sd_result drive(struct flow *f, struct sd_error *err)
{
	struct sd_source *source = f->diff->side[f->side].source;
	struct sd_execution *execution = &f->execution;
	struct sd_device *device = NULL;
	enum sd_result result = sd_execution_plan(source->manifest, MEMORY, execution, err);

	if (result == SD_OK && sd_device_open_cpu(f->diff->opt->threads, &device) != SD_DEVICE_OK)
		result = sd_fail_memory(err);
	execution->device = device;
	if (result == SD_OK)
		result = sd_drive(source, &execution->plan, &execution->worker, &f->sink, err);
	if (f->other.result != SD_OK)
		*err = f->other;
	sd_execution_free(execution);
	if (device)
		device->ops->close(device);
	return result;
}

/* With what is pending made on the way. */
static enum sd_result flow(struct diff *diff, int side, struct sd_error *err)
{
	/* It is large for a stack. */
	struct flow *f = calloc(1, sizeof(*f));
	enum sd_result result;

	if (!f)
		return sd_fail_memory(err);
	f->sink = (struct sd_sink){.ops = &ops, .checks = true};
	f->diff = diff;
	f->side = side;
	f->execution.spool = -1;
	result = drive(f, err);
	for (size_t i = 0; i < f->listing.n && result == SD_OK; i++)
		result = settle_passing(f, &f->passing[i], err);
	close_flow(&f->sink);
	free(f);
	return result;
}

/* A list, and a side of which any tensor can be read, or another list. */
static enum sd_result compare_list(struct diff *diff, int listed, struct sd_error *err)
{
	const struct diff_side *other = &diff->side[!listed];
	struct diff_task *tasks = calloc(diff->npairs + 1, sizeof(*tasks));
	enum sd_result result = tasks ? SD_OK : sd_fail_memory(err);
	size_t n = 0;

	for (size_t i = 0; i < diff->npairs && result == SD_OK; i++) {
		struct diff_pair *p = &diff->pairs[i];

		if (p->status != DIFF_SAME)
			continue;
		if (other->sums)
			result = compare_sum(diff, p, listed, other->sums[p->tensor[!listed]], err);
		else
			tasks[n++] = (struct diff_task){
				.kind = DIFF_SUM, .tensor = {p->tensor[!listed]}, .of = {!listed}, .user = p};
	}
	if (result == SD_OK)
		result = diff_do(diff, tasks, n, false, err);
	for (size_t i = 0; i < n && result == SD_OK; i++)
		result = compare_sum(diff, tasks[i].user, listed, tasks[i].sum, err);
	free(tasks);
	return result;
}

/* Sums of what is in one side only are in its list. */
static void take_sums(struct diff *diff, int listed)
{
	for (size_t i = 0; i < diff->npairs; i++) {
		struct diff_pair *p = &diff->pairs[i];

		if (p->tensor[!listed] != DIFF_NONE)
			continue;
		p->summed = true;
		p->sum = diff->side[listed].sums[p->tensor[listed]];
	}
}

enum sd_result diff_compare_flow(struct diff *diff, struct sd_error *err)
{
	const struct diff_side *a = &diff->side[0], *b = &diff->side[1];
	enum sd_result result;

	for (int i = 0; i < 2; i++)
		if (diff->side[i].sums)
			take_sums(diff, i);
	if ((a->sums || a->random) && (b->sums || b->random))
		result = compare_list(diff, a->sums ? 0 : 1, err);
	else
		result = flow(diff, a->sums || a->random ? 1 : 0, err);
	return result;
}
