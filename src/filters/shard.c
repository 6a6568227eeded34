/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting tensors into the shards of ranks. */
#include "filters/shard.h"
#include "model/companions.h"
#include "model/parts.h"
#include "model/selection.h"
#include "model/scales.h"
#include "flow/checksum.h"
#include "flow/identity.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER (256 * 1024)

bool sd_rank_part(uint64_t size, enum sd_cut_how how, struct sd_rank part, uint64_t *begin, uint64_t *count)
{
	uint64_t each = size / part.of, more = size % part.of;

	if (how == SD_CUT_EQUAL && more)
		return false;
	*count = each + (part.part < more);
	*begin = part.part * each + (part.part < more ? part.part : more);
	return true;
}

void sd_shard_free(struct sd_shard *shard)
{
	sd_manifest_free(shard->manifest);
	free(shard->ranges);
	*shard = (struct sd_shard){0};
}

/* ---- the plan ---- */

/* The box of a tensor that a rank gets. */
struct box {
	uint64_t begin[SD_RANK_MAX], size[SD_RANK_MAX];
	bool cut;     /* some cut is about the tensor */
	bool nothing; /* a dimension has something, and none of it falls to the rank */
	bool later;   /* some cut's part is not the first */
	bool dealt;   /* it is an expert of another rank */
};

static bool has_label(const struct sd_manifest *m, const struct sd_target *t, const char *label)
{
	return t->labels & sd_manifest_label_bit(m, label);
}

static enum sd_result applies(const struct sd_shard_cut *cut, const struct sd_manifest *m, const struct sd_target *t,
			      bool *yes, struct sd_error *err)
{
	if (!cut->experts)
		return sd_selection_takes(cut->choice, t->name, yes, err);
	*yes = has_label(m, t, SD_LABEL_EXPERT) || has_label(m, t, SD_LABEL_EP);
	return SD_OK;
}

static enum sd_result cut_box(const struct sd_shard_cut *cut, const struct sd_target *t, struct box *box,
			      struct sd_error *err)
{
	uint32_t dim = (uint32_t)(cut->dim < 0 ? cut->dim + (int)t->rank : cut->dim);
	uint64_t begin, count;

	if (dim >= t->rank) {
		char shape[SD_SHAPE_TEXT];

		return sd_fail(err, SD_INPUT, "%s has the shape %s: it has no dimension %d to cut", t->name,
			       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)), cut->dim);
	}
	if (!sd_rank_part(box->size[dim], cut->how, cut->part, &begin, &count))
		return sd_fail(err, SD_INPUT,
			       "%s: dimension %" PRIu32 " has %" PRIu64 ", which is not divisible by %" PRIu64, t->name,
			       dim, box->size[dim], cut->part.of);
	box->nothing = box->nothing || (count == 0 && box->size[dim] > 0);
	box->later = box->later || cut->part.part > 0;
	box->begin[dim] += begin;
	box->size[dim] = count;
	box->cut = true;
	return SD_OK;
}

static enum sd_result fail_small(const struct sd_manifest *in, const struct sd_target *t, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s: %s elements are smaller than a byte and cannot be cut", t->name,
		       sd_dtype_name(in->records[t->record].dtype));
}

/* Adds what is left of a target: its moves after the slice, or an empty one. */
static enum sd_result add_cut_target(const struct sd_manifest *in, const struct sd_target *t, const struct box *box,
				     bool keep_global, struct sd_manifest *out, struct sd_error *err)
{
	struct sd_move slice, room;
	struct sd_target part = *t;
	size_t added;

	if (!sd_dtype_size(in->records[t->record].dtype))
		return fail_small(in, t, err);
	if (!keep_global) {
		part.shape = sd_arena_copy(&out->arena, box->size, t->rank * sizeof(*box->size));
		if (!part.shape)
			return sd_fail_memory(err);
	}
	if (!sd_move_slice(&slice, t->shape, t->rank, box->begin, box->size))
		return sd_fail(err, SD_INPUT, "%s: its shape is too large to be cut", t->name);
	if (keep_global) {
		slice.to = slice.from;
		for (uint32_t i = 0; i < slice.rank; i++)
			slice.dim[i].to = slice.dim[i].from;
	}
	return sd_manifest_add_moved(out, &part, sd_target_move(in, t, &room), &slice, &added, err);
}

enum sd_result sd_shard_add_empty(const struct sd_manifest *in, const struct sd_target *t, const uint64_t *shape,
				  struct sd_manifest *out, struct sd_error *err)
{
	static const struct sd_move nothing = {.rank = 1};
	const struct sd_record *r = &in->records[t->record];
	struct sd_target part = *t;

	part.shape = sd_arena_copy(&out->arena, shape, t->rank * sizeof(*shape));
	if (!part.shape)
		return sd_fail_memory(err);
	/* Records of elements smaller than a byte have no move; an empty one needs none. */
	if (sd_dtype_size(r->dtype))
		part.move = &nothing;
	else if (r->bytes)
		return fail_small(in, t, err);
	return sd_manifest_add_target(out, &part) ? SD_OK : sd_fail_memory(err);
}

/* A manifest while it is cut. */
struct cutting {
	const struct sd_manifest *in;
	const struct sd_shard_cut *cuts;
	size_t ncuts;
	bool *used; /* of each cut: whether a tensor was found */
	bool keep_global;
	struct sd_scales scales;
};

/* Whether a tensor of experts has one of them: a map has taken them apart, or the name says so (".experts.7."). */
static bool is_single(const struct sd_target *t)
{
	static const char *const words[] = {".expert.", ".experts."};

	if (t->of)
		return true;
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		for (const char *at = t->name; (at = strstr(at, words[i])); at++) {
			size_t digits = strspn(at + strlen(words[i]), "0123456789");
			char end = at[strlen(words[i]) + digits];

			if (digits && (end == '.' || end == '\0'))
				return true;
		}
	return false;
}

/* Whole experts, to the rank whose numbers they have. */
static enum sd_result deal_out(const struct sd_shard_cut *cut, const struct sd_target *t, struct box *box,
			       struct sd_error *err)
{
	uint64_t begin, count;

	if (!t->of || t->of == SD_OF_UNKNOWN)
		return sd_fail(
			err, SD_INPUT,
			"%s is one expert, and nothing tells of how many: sd-shard --ep cuts what a map stacks, or "
			"takes apart by the first dimension",
			t->name);
	if (cut->dim != 0)
		return sd_fail(err, SD_INPUT,
			       "%s is one expert: --ep-shard cuts the tensors in which the experts of a layer are "
			       "together; cut it by --dim and -n or --include",
			       t->name);
	if (!sd_rank_part(t->of, cut->how, cut->part, &begin, &count))
		return sd_fail(err, SD_INPUT, "%s is one of %" PRIu64 ", which is not divisible by %" PRIu64, t->name,
			       t->of, cut->part.of);
	box->dealt = box->dealt || t->number < begin || t->number - begin >= count;
	return SD_OK;
}

/* What the cuts leave of a target. */
static enum sd_result find_box(struct cutting *c, const struct sd_target *t, struct box *box, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*box = (struct box){0};
	memcpy(box->size, t->shape, t->rank * sizeof(*t->shape));
	for (size_t k = 0; k < c->ncuts && result == SD_OK; k++) {
		bool yes;

		result = applies(&c->cuts[k], c->in, t, &yes, err);
		if (result == SD_OK && yes) {
			c->used[k] = true;
			result = c->cuts[k].experts && is_single(t) ? deal_out(&c->cuts[k], t, box, err)
								    : cut_box(&c->cuts[k], t, box, err);
		}
	}
	return result;
}

/* The box of the scales that go with a box of their weight: SD_INPUT where a block would be cut. */
static enum sd_result scale_box(const struct sd_target *weight, const struct box *whole, const struct sd_target *scale,
				struct box *box, struct sd_error *err)
{
	enum sd_result result = sd_scale_is_single(scale->shape, scale->rank) || !whole->cut
					? SD_OK
					: sd_scales_fit(weight, scale, err);

	*box = (struct box){.nothing = whole->nothing, .later = whole->later};
	memcpy(box->size, scale->shape, scale->rank * sizeof(*scale->shape));
	if (result != SD_OK || sd_scale_is_single(scale->shape, scale->rank))
		return result;
	box->cut = whole->cut;
	for (uint32_t k = 0; k < weight->rank && whole->cut; k++) {
		uint64_t block = sd_scale_block(weight->rank, k), end = whole->begin[k] + whole->size[k];

		if (whole->begin[k] % block || (end % block && end != weight->shape[k]))
			return sd_fail(
				err, SD_INPUT,
				"%s: dimension %" PRIu32 " of %" PRIu64 " would be cut inside the blocks of %" PRIu64
				" that its scales (%s) are for; choose N so that each part is whole blocks, or put "
				"sd-cast --dequant=BF16 before sd-shard",
				weight->name, k, weight->shape[k], block, scale->name);
		box->begin[k] = whole->begin[k] / block;
		box->size[k] = whole->size[k] / block + (whole->size[k] % block != 0);
	}
	return SD_OK;
}

/*
 * The same with a look at block scales: they are cut as their weight is, never by themselves. Slices that keep their
 * places need none of that, as only all of them are a tensor again.
 */
static enum sd_result find_paired_box(struct cutting *c, size_t target, struct box *box, struct sd_error *err)
{
	const struct sd_target *t = &c->in->targets[target], *scale = sd_scale_of(&c->scales, c->in, target),
			       *weight = sd_weight_of(&c->scales, c->in, target);
	struct box other;
	enum sd_result result = SD_OK;

	if (weight) {
		result = find_box(c, weight, &other, err);
		if (result == SD_OK && other.dealt) {
			*box = other;
			return SD_OK;
		}
	}
	if (weight && !c->keep_global) {
		struct box own;

		if (result == SD_OK && !other.cut)
			result = find_box(c, t, &own, err);
		if (result == SD_OK && !other.cut && own.cut)
			return sd_fail(err, SD_INPUT, "%s cannot be cut without %s, which it has the scales of",
				       t->name, weight->name);
		return result == SD_OK ? scale_box(weight, &other, t, box, err) : result;
	}
	if (result == SD_OK)
		result = find_box(c, t, box, err);
	if (result == SD_OK && scale && !c->keep_global)
		result = scale_box(t, box, scale, &other, err);
	return result;
}

/*
 * Adds what the box leaves of a target. Where that is nothing, it is an empty tensor, but for stacked ones. Slices that
 * keep their place say nothing then, unless the whole tensor is empty: the first rank has it, as somebody must.
 */
static enum sd_result add_box(const struct cutting *c, const struct sd_target *t, const struct box *box,
			      struct sd_manifest *out, struct sd_error *err)
{
	const struct sd_manifest *in = c->in;

	if (box->dealt)
		return SD_OK;
	if (!box->cut || (c->keep_global && !box->later && sd_shape_is_empty(t->shape, t->rank)))
		return sd_manifest_add_target(out, t) ? SD_OK : sd_fail_memory(err);
	if (!sd_shape_is_empty(box->size, t->rank))
		return add_cut_target(in, t, box, c->keep_global, out, err);
	if (c->keep_global || (box->nothing && has_label(in, t, SD_LABEL_STACKED)))
		return SD_OK;
	return sd_shard_add_empty(in, t, box->size, out, err);
}

static enum sd_result cut_targets(struct cutting *c, struct sd_manifest *out, struct sd_error *err)
{
	const struct sd_manifest *in = c->in;

	for (size_t i = 0; i < in->ntargets; i++) {
		const struct sd_target *t = &in->targets[i];
		struct box box;
		enum sd_result result = find_paired_box(c, i, &box, err);

		if (result == SD_OK)
			result = add_box(c, t, &box, out, err);
		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

/* The elements of a record, first and behind the last, that a move reads. */
static void reads(const struct sd_move *move, uint64_t *begin, uint64_t *end)
{
	uint64_t last = move->from;

	*begin = *end = move->from;
	for (uint32_t i = 0; i < move->rank; i++) {
		if (move->dim[i].size == 0)
			return;
		last += (move->dim[i].size - 1) * move->dim[i].from;
	}
	*end = last + 1;
}

/* What the targets need of each record: elements begin to end, begin > end where nothing does. */
static void find_needs(const struct sd_manifest *in, const struct sd_manifest *out, struct sd_shard_range *ranges)
{
	for (size_t i = 0; i < in->nrecords; i++)
		ranges[i] = (struct sd_shard_range){SD_NO_RECORD, UINT64_MAX, 0};
	for (size_t i = 0; i < out->ntargets; i++) {
		const struct sd_target *t = &out->targets[i];
		struct sd_shard_range *r = &ranges[t->record];
		uint64_t begin, end, codes = sd_target_codes(in, t);
		struct sd_move room;

		reads(sd_target_move(in, t, &room), &begin, &end);
		begin /= codes;
		end = end / codes + (end % codes != 0);
		for (uint32_t k = 0; k < t->nsteps; k++) {
			/* Steps with an operand go by the coordinates of the whole record. */
			if (t->steps[k].operand == SD_NO_RECORD)
				continue;
			ranges[t->steps[k].operand].begin = begin = 0;
			ranges[t->steps[k].operand].end = end = UINT64_MAX;
		}
		r->begin = begin < r->begin ? begin : r->begin;
		r->end = end > r->end ? end : r->end;
	}
}

/* The outgoing form of a record that is needed: whole rows of dimension 0, and range in bytes. */
static bool trim(const struct sd_record *whole, struct sd_shard_range *range, struct sd_manifest *out)
{
	struct sd_record r = *whole;
	uint64_t row = 1, first, last, *shape;
	unsigned size = sd_dtype_size(r.dtype);

	range->record = (uint32_t)out->nrecords;
	for (uint32_t i = 1; i < r.rank; i++)
		row *= r.shape[i];
	if (r.rank == 0 || row == 0 || !size || range->end == UINT64_MAX) {
		range->begin = 0;
		range->end = r.bytes;
		return sd_manifest_add_record(out, &r);
	}
	first = range->begin / row;
	last = range->end > range->begin ? (range->end + row - 1) / row : first;
	shape = sd_arena_copy(&out->arena, r.shape, r.rank * sizeof(*shape));
	if (!shape)
		return false;
	shape[0] = last - first;
	r.shape = shape;
	r.value = NULL;
	range->begin = first * row * size;
	range->end = last * row * size;
	r.bytes = range->end - range->begin;
	return sd_manifest_add_record(out, &r);
}

/* A target's numbers after its record was trimmed. */
static bool shift(const struct sd_manifest *in, const struct sd_shard_range *ranges, struct sd_target *t,
		  struct sd_manifest *out)
{
	const struct sd_record *record = &in->records[t->record];
	const struct sd_shard_range *range = &ranges[t->record];

	if (range->begin > 0 || range->end < record->bytes) {
		struct sd_move room;
		const struct sd_move *whole = sd_target_move(in, t, &room);
		struct sd_move *move = sd_arena_copy(&out->arena, whole, sd_move_size(whole));
		uint64_t skipped = range->begin / sd_dtype_size(record->dtype) * sd_target_codes(in, t);

		if (!move)
			return false;
		move->from = move->from > skipped ? move->from - skipped : 0;
		t->move = move;
	}
	t->record = range->record;
	if (t->nsteps) {
		struct sd_step *steps = sd_arena_copy(&out->arena, t->steps, t->nsteps * sizeof(*steps));

		if (!steps)
			return false;
		for (uint32_t k = 0; k < t->nsteps; k++)
			if (steps[k].operand != SD_NO_RECORD)
				steps[k].operand = ranges[steps[k].operand].record;
		t->steps = steps;
	}
	return true;
}

static bool is_adapter(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if (strstr(m->targets[i].name, "lora_"))
			return true;
	return sd_manifest_side(m, "adapter_config.json") != NULL;
}

/* Whether a manifest is an adapter's that has no experts. */
static bool is_plain_adapter(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if (strstr(m->targets[i].name, "experts."))
			return false;
	return is_adapter(m);
}

/* *whole: there are no experts to cut, which is right for an adapter. */
static enum sd_result check_used(const struct cutting *c, bool *whole, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t k = 0; k < c->ncuts && result == SD_OK; k++) {
		if (!c->cuts[k].experts)
			result = sd_selection_check(c->cuts[k].choice, c->in, err);
		else if (!c->used[k] && sd_manifest_label_bit(c->in, SD_LABEL_EXPERT) && is_adapter(c->in))
			*whole = true;
		else if (!c->used[k])
			result = sd_fail(
				err, SD_INPUT,
				is_plain_adapter(c->in)
					? "no tensor is marked as \"" SD_LABEL_EXPERT
					  "\": each rank takes an adapter without experts whole, without sd-shard"
					: "no tensor is marked as \"" SD_LABEL_EXPERT
					  "\"; maps mark them: put sd-rename --map before sd-shard");
	}
	return result;
}

/*
 * That weights are cut with their companions, by the targets on the records as they come in. Slices that keep their
 * places are a tensor again together, as it was.
 */
static enum sd_result check_companions(const struct cutting *c, const struct sd_manifest *out, struct sd_error *err)
{
	struct sd_manifest plan = *out;

	if (c->keep_global)
		return SD_OK;
	plan.records = c->in->records;
	plan.nrecords = c->in->nrecords;
	return sd_companions_check(c->in, NULL, &plan, NULL, err);
}

/* The targets, still on the records as they come in. */
static enum sd_result plan_targets(struct cutting *c, struct sd_manifest *out, bool *whole, struct sd_error *err)
{
	enum sd_result result = sd_scales_find(c->in, &c->scales, err);

	c->used = calloc(c->ncuts + 1, sizeof(*c->used));
	if (!c->used)
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = cut_targets(c, out, err);
	if (result == SD_OK)
		result = check_used(c, whole, err);
	if (result == SD_OK)
		result = check_companions(c, out, err);
	sd_scales_free(&c->scales);
	free(c->used);
	return result;
}

enum sd_result sd_shard_begin(const struct sd_manifest *in, struct sd_shard *shard, struct sd_error *err)
{
	*shard = (struct sd_shard){.manifest = sd_manifest_new(),
				   .ranges = calloc(in->nrecords + 1, sizeof(*shard->ranges))};
	return shard->manifest && shard->ranges && sd_manifest_copy_head(shard->manifest, in) ? SD_OK
											      : sd_fail_memory(err);
}

enum sd_result sd_shard_records(const struct sd_manifest *in, struct sd_shard *shard, struct sd_error *err)
{
	struct sd_manifest *out = shard->manifest;

	find_needs(in, out, shard->ranges);
	for (size_t i = 0; i < in->nrecords; i++)
		if (shard->ranges[i].begin != UINT64_MAX && !trim(&in->records[i], &shard->ranges[i], out))
			return sd_fail_memory(err);
	for (size_t i = 0; i < out->ntargets; i++)
		if (!shift(in, shard->ranges, &out->targets[i], out))
			return sd_fail_memory(err);
	return sd_manifest_check(out, err);
}

/* Which ranks' shards these are is part of how a part was made. */
static enum sd_result fold_cuts(const struct cutting *c, struct sd_manifest *out, struct sd_error *err)
{
	uint64_t *told = calloc(c->ncuts * 5 + 1, sizeof(*told));
	enum sd_result result;

	for (size_t i = 0; i < c->ncuts && told; i++) {
		const struct sd_shard_cut *cut = &c->cuts[i];

		told[5 * i] = cut->experts;
		told[5 * i + 1] = (uint64_t)cut->dim;
		told[5 * i + 2] = cut->how;
		told[5 * i + 3] = cut->part.part;
		told[5 * i + 4] = cut->part.of;
	}
	result = told ? sd_identity_fold(out, c->in, told, c->ncuts * 5, err) : sd_fail_memory(err);
	free(told);
	return result;
}

enum sd_result sd_shard_plan(const struct sd_manifest *in, const struct sd_shard_cut *cuts, size_t ncuts,
			     bool keep_global, struct sd_shard *shard, struct sd_error *err)
{
	struct cutting cutting = {.in = in, .cuts = cuts, .ncuts = ncuts, .keep_global = keep_global};
	enum sd_result result = sd_shard_begin(in, shard, err);

	if (result == SD_OK)
		result = plan_targets(&cutting, shard->manifest, &shard->whole, err);
	if (result != SD_OK)
		return result;
	/* What a rank lacks is with the others. */
	(void)!sd_manifest_label(shard->manifest, SD_LABEL_COMPARED);
	if (sd_shard_records(in, shard, err) != SD_OK)
		return err->result;
	if (sd_parts_keep(shard->manifest, in, err) != SD_OK)
		return err->result;
	return fold_cuts(&cutting, shard->manifest, err);
}

/* ---- the data ---- */

struct fan {
	const struct sd_shard *shards;
	struct sd_sink *const *sinks;
	size_t count, *failed;
	unsigned char buffer[BUFFER];
};

static bool wants(const struct fan *fan, size_t i, uint32_t record, uint64_t position)
{
	const struct sd_shard_range *range = &fan->shards[i].ranges[record];

	return range->record != SD_NO_RECORD && position >= range->begin && position < range->end;
}

/* How many bytes from position on, at most length, go to the same sinks as the first. */
static uint64_t run_length(const struct fan *fan, uint32_t record, uint64_t position, uint64_t length)
{
	for (size_t i = 0; i < fan->count; i++) {
		const struct sd_shard_range *range = &fan->shards[i].ranges[record];

		if (range->record == SD_NO_RECORD)
			continue;
		if (position < range->begin && range->begin - position < length)
			length = range->begin - position;
		if (position < range->end && range->end - position < length)
			length = range->end - position;
	}
	return length;
}

static enum sd_result give(struct fan *fan, size_t i, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	enum sd_result result =
		fan->sinks[i]->ops->data(fan->sinks[i], fan->shards[i].ranges[record].record, extent, err);

	if (result != SD_OK && err->told == SD_LOST)
		*fan->failed = i;
	return result;
}

/* The next bytes of a run that several sinks want: all of it, where it stays when it is taken; else what is in the
 * buffer. */
static enum sd_result read_part(struct fan *fan, struct sd_extent *run, struct sd_extent *part, struct sd_error *err)
{
	if (run->memory || run->offset >= 0) {
		*part = sd_extent_take(run, run->length);
		return SD_OK;
	}
	*part = (struct sd_extent){.memory = fan->buffer, .length = run->length < BUFFER ? run->length : BUFFER};
	return sd_extent_read(run, fan->buffer, part->length, err);
}

static enum sd_result give_several(struct fan *fan, uint32_t record, uint64_t position, struct sd_extent *run,
				   struct sd_error *err)
{
	while (run->length) {
		struct sd_extent part;
		enum sd_result result = read_part(fan, run, &part, err);

		for (size_t i = 0; i < fan->count && result == SD_OK; i++) {
			struct sd_extent copy = part;

			if (wants(fan, i, record, position))
				result = give(fan, i, record, &copy, err);
		}
		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

static enum sd_result give_run(struct fan *fan, uint32_t record, uint64_t position, struct sd_extent *run,
			       struct sd_error *err)
{
	size_t takers = 0, last = 0;

	for (size_t i = 0; i < fan->count; i++)
		if (wants(fan, i, record, position)) {
			takers++;
			last = i;
		}
	if (takers == 0)
		return sd_extent_skip(run, err);
	if (takers == 1)
		return give(fan, last, record, run, err);
	return give_several(fan, record, position, run, err);
}

static bool takes(const struct fan *fan, size_t i, uint32_t record)
{
	const struct sd_shard_range *range = &fan->shards[i].ranges[record];

	return range->record != SD_NO_RECORD && range->begin < range->end;
}

/* Whether whoever takes of a record takes all of it. */
static bool is_whole(const struct fan *fan, uint32_t record, uint64_t bytes)
{
	for (size_t i = 0; i < fan->count; i++) {
		const struct sd_shard_range *range = &fan->shards[i].ranges[record];

		if (takes(fan, i, record) && (range->begin > 0 || range->end < bytes))
			return false;
	}
	return true;
}

/* The sum of a record that is whole, to all that took it; before its data (NULL): that it will come. */
static enum sd_result pass_sum(struct fan *fan, uint32_t record, const uint64_t *sum, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < fan->count && result == SD_OK; i++) {
		struct sd_sink *sink = fan->sinks[i];
		uint32_t as = fan->shards[i].ranges[record].record;

		if (!takes(fan, i, record) || !sink->ops->sum)
			continue;
		if (sum)
			result = sink->ops->sum(sink, as, *sum, err);
		else
			sink->ops->await_sum(sink, as);
		if (result != SD_OK && err->told == SD_LOST)
			*fan->failed = i;
	}
	return result;
}

/* What goes on as it is takes its sum along; what is cut is checked, and what it is cut into has other sums. */
static enum sd_result fan_record(struct fan *fan, struct sd_source *whole, struct sd_source *checked, uint32_t record,
				 struct sd_error *err)
{
	uint64_t position = 0, sum;
	bool passes = is_whole(fan, record, whole->manifest->records[record].bytes);
	bool summed = passes && sd_source_checksum(whole, record, &sum);
	struct sd_source *source = passes || !checked ? whole : checked;
	enum sd_result result = summed ? pass_sum(fan, record, NULL, err) : SD_OK;

	while (result == SD_OK) {
		struct sd_extent extent;

		result = sd_source_next(source, record, &extent, err);
		if (result != SD_OK)
			return result;
		if (extent.length == 0)
			return summed && sd_source_checksum(whole, record, &sum) ? pass_sum(fan, record, &sum, err)
										 : SD_OK;
		while (extent.length) {
			uint64_t n = run_length(fan, record, position, extent.length);
			struct sd_extent run = sd_extent_take(&extent, n);

			result = give_run(fan, record, position, &run, err);
			if (result != SD_OK)
				return result;
			position += n;
		}
	}
	return result;
}

void sd_shard_abort(struct sd_sink *const *sinks, size_t count, struct sd_error *err)
{
	if (count == 1 && sinks[0])
		sinks[0]->ops->abort(sinks[0], err);
	for (size_t i = 0; i < count && count > 1; i++) {
		struct sd_error told = *err;

		told.told = SD_TOLD;
		if (sinks[i])
			sinks[i]->ops->abort(sinks[i], &told);
	}
}

enum sd_result sd_shard_drive(struct sd_source *source, const struct sd_shard *shards, struct sd_sink *const *sinks,
			      size_t count, size_t *failed, struct sd_error *err)
{
	const struct sd_manifest *in = source->manifest;
	struct sd_source *checked = NULL;
	struct fan *fan = malloc(sizeof(*fan));
	enum sd_result result = fan ? sd_checked_source(source, sinks[0], &checked, err) : sd_fail_memory(err);

	*failed = count;
	if (fan) {
		fan->shards = shards;
		fan->sinks = sinks;
		fan->count = count;
		fan->failed = failed;
	}
	for (size_t i = 0; i < count && result == SD_OK; i++) {
		sinks[i]->sums = sinks[i]->sums || source->sums;
		result = sinks[i]->ops->begin(sinks[i], shards[i].manifest, err);
		if (result != SD_OK && err->told == SD_LOST)
			*failed = i;
	}
	for (size_t i = 0; i < in->nrecords && result == SD_OK; i++)
		if (in->records[i].state == SD_HERE) {
			result = fan_record(fan, source, checked, (uint32_t)i, err);
			if (result == SD_INPUT) {
				sd_source_explain(source, err);
				sd_error_about(err, in->records[i].key);
			}
		}
	if (result == SD_OK) {
		result = sd_source_finish(source, err);
		if (result == SD_INPUT)
			sd_source_explain(source, err);
	}
	for (size_t i = 0; i < count && result == SD_OK; i++) {
		result = sinks[i]->ops->end(sinks[i], err);
		if (result != SD_OK && err->told == SD_LOST)
			*failed = i;
	}
	if (result != SD_OK)
		sd_shard_abort(sinks, count, err);
	sd_source_close(checked);
	free(fan);
	return result;
}
