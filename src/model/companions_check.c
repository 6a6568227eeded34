/* SPDX-License-Identifier: Apache-2.0 */
/* The proof that a plan keeps weights and their companions together. */
#include "move/box.h"
#include "model/companions.h"
#include "model/scales.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The targets of a manifest by record, in their order. */
struct view {
	const struct sd_manifest *m;
	uint32_t *first; /* by record, or SD_NO_TARGET */
	uint32_t *next;  /* by target */
};

struct check {
	struct view in, out;
	const uint32_t *becomes;
	struct sd_companions companions;
	struct sd_error *err;
};

/* What a plan does to a record. */
enum fate {
	KEPT,    /* it is as it was, perhaps under another name */
	LEFT,    /* nothing is made of it, where something was before */
	CHANGED, /* more than renamed */
};

static bool look(struct view *v, const struct sd_manifest *m)
{
	*v = (struct view){m, malloc((m->nrecords + 1) * sizeof(*v->first)),
			   malloc((m->ntargets + 1) * sizeof(*v->next))};
	if (!v->first || !v->next)
		return false;
	for (size_t i = 0; i < m->nrecords; i++)
		v->first[i] = SD_NO_TARGET;
	for (size_t i = m->ntargets; i-- > 0;) {
		v->next[i] = v->first[m->targets[i].record];
		v->first[m->targets[i].record] = (uint32_t)i;
	}
	return true;
}

static const struct sd_target *first_of(const struct view *v, uint32_t record)
{
	uint32_t t = record < v->m->nrecords ? v->first[record] : SD_NO_TARGET;

	return t == SD_NO_TARGET ? NULL : &v->m->targets[t];
}

static const struct sd_target *next_of(const struct view *v, const struct sd_target *t)
{
	uint32_t next = v->next[t - v->m->targets];

	return next == SD_NO_TARGET ? NULL : &v->m->targets[next];
}

/* The outgoing number of an incoming record; SD_NO_RECORD where it has none. */
static uint32_t number_of(const struct check *c, uint32_t record)
{
	uint32_t number = c->becomes ? c->becomes[record] : record;

	return number < c->out.m->nrecords ? number : SD_NO_RECORD;
}

static bool same_move(const struct sd_move *a, const struct sd_move *b)
{
	return a == b || (a && b && a->rank == b->rank && memcmp(a, b, sd_move_size(a)) == 0);
}

/* Whether two targets differ in their names at most. */
static bool same_but_name(const struct sd_target *a, const struct sd_target *b)
{
	if (a->dtype != b->dtype || a->nsteps != b->nsteps || !same_move(a->move, b->move) ||
	    !sd_shape_equal(a->shape, a->rank, b->shape, b->rank))
		return false;
	for (uint32_t k = 0; k < a->nsteps; k++)
		if (a->steps[k].kind != b->steps[k].kind || a->steps[k].dtype != b->steps[k].dtype)
			return false;
	return true;
}

static enum fate fate_of(const struct check *c, uint32_t record)
{
	const struct sd_target *a = first_of(&c->in, record), *b = first_of(&c->out, number_of(c, record));

	if (a && !b)
		return LEFT;
	while (a && b && same_but_name(a, b)) {
		a = next_of(&c->in, a);
		b = next_of(&c->out, b);
	}
	return a || b ? CHANGED : KEPT;
}

static enum sd_result fail(const struct check *c, uint32_t weight, uint32_t companion, const char *problem)
{
	return sd_companions_fail(c->in.m, &c->companions, weight, companion, problem, c->err);
}

/* Whether any target of the record has another name than it came with. */
static bool is_renamed(const struct check *c, uint32_t record)
{
	const struct sd_target *a = first_of(&c->in, record), *b = first_of(&c->out, number_of(c, record));

	for (; a && b; a = next_of(&c->in, a), b = next_of(&c->out, b))
		if (strcmp(a->name, b->name) != 0)
			return true;
	return false;
}

/* Whether what a weight and a companion become have names that belong together, target by target. */
static bool names_belong(const struct check *c, uint32_t weight, uint32_t companion)
{
	const struct sd_target *w = first_of(&c->out, number_of(c, weight)),
			       *s = first_of(&c->out, number_of(c, companion));

	while (w && s) {
		const struct sd_target *next = next_of(&c->out, s);

		if (!sd_names_belong(w->name, s->name))
			return false;
		w = next_of(&c->out, w);
		s = next || !w ? next : s;
	}
	return true;
}

/* ---- moved together ---- */

/*
 * How many indices of dimension k of the weight one index of the companion is for; 0: that cannot be told. The blocks
 * of block scales may be cut at the end. Those of others are of one size, which is a power of two: 192 rows with two
 * scales are blocks of 128 and of 64, and not of 96.
 */
static uint64_t block_of(const struct check *c, const struct sd_record *w, const struct sd_record *s,
			 uint32_t companion, uint32_t k)
{
	uint64_t block;

	if (c->companions.role[companion] == SD_ROLE_BLOCK_SCALE)
		return sd_scale_block(w->rank, k);
	if (s->shape[k] == 1)
		return w->shape[k];
	if (!s->shape[k] || w->shape[k] % s->shape[k])
		return 0;
	block = w->shape[k] / s->shape[k];
	return block & (block - 1) ? 0 : block;
}

/* Whether size indices from begin on, of a dimension of all, are whole blocks, and the companion's are theirs. */
static bool span_fits(uint64_t block, uint64_t begin, uint64_t size, uint64_t all, uint64_t own_begin,
		      uint64_t own_size)
{
	uint64_t end = begin + size;

	return begin % block == 0 && (end % block == 0 || end == all) && own_begin == begin / block &&
	       own_size == size / block + (size % block != 0);
}

static bool box_of(const struct view *v, const struct sd_target *t, struct sd_box *box)
{
	const struct sd_record *r = &v->m->records[t->record];
	struct sd_move room;

	return sd_box_of(sd_target_move(v->m, t, &room), r->shape, r->rank, t->shape, t->rank, box);
}

/* Whether codes that are packed along a dimension stay so: their dimensions are in the order that they were in. */
static bool stays_packed(const struct sd_record *weight, const struct sd_box *box)
{
	uint32_t last = 0;

	for (uint32_t k = 0; k < weight->rank && !sd_dtype_is_float(weight->dtype); k++) {
		if (box->dim[k] == SD_NO_DIM)
			continue;
		if (box->dim[k] < last)
			return false;
		last = box->dim[k] + 1;
	}
	return true;
}

/* Whether a companion's elements are where those of the weight that they are for are. */
static bool lie_together(const struct check *c, const struct sd_target *w, const struct sd_target *s,
			 uint32_t companion)
{
	const struct sd_record *weight = &c->out.m->records[w->record], *scale = &c->out.m->records[s->record];
	uint64_t blocks[SD_RANK_MAX], sizes[SD_RANK_MAX], own[SD_RANK_MAX];
	struct sd_box a, b;

	if (sd_shape_is_empty(w->shape, w->rank))
		return sd_names_belong(w->name, s->name);
	if (weight->rank != scale->rank || w->rank != s->rank || w->nsteps || s->nsteps ||
	    !sd_names_belong(w->name, s->name) || !box_of(&c->out, w, &a) || !box_of(&c->out, s, &b) ||
	    !stays_packed(weight, &a))
		return false;
	for (uint32_t d = 0; d < w->rank; d++)
		blocks[d] = sizes[d] = own[d] = 1;
	for (uint32_t k = 0; k < weight->rank; k++) {
		uint64_t block = block_of(c, weight, scale, companion, k);

		if (!block || !span_fits(block, a.from[k], a.size[k], weight->shape[k], b.from[k], b.size[k]))
			return false;
		if (b.dim[k] != SD_NO_DIM && b.dim[k] != a.dim[k])
			return false;
		if (a.dim[k] == SD_NO_DIM)
			continue;
		blocks[a.dim[k]] = block;
		sizes[a.dim[k]] = a.size[k];
		own[a.dim[k]] = b.size[k];
	}
	for (uint32_t d = 0; d < w->rank; d++)
		if (!span_fits(blocks[d], a.to[d], sizes[d], w->shape[d], b.to[d], own[d]) ||
		    s->shape[d] != w->shape[d] / blocks[d] + (w->shape[d] % blocks[d] != 0))
			return false;
	return true;
}

/* Whether the targets of a record make whole tensors by themselves: nothing else is joined with them. */
static bool is_alone(const struct check *c, uint32_t record)
{
	for (const struct sd_target *t = first_of(&c->out, record); t; t = next_of(&c->out, t)) {
		struct sd_move room;
		uint64_t count;

		if (!sd_shape_count(t->shape, t->rank, &count) ||
		    sd_move_count(sd_target_move(c->out.m, t, &room)) != count)
			return false;
	}
	return true;
}

/*
 * One number for all of a weight is right for any part of it, as long as the part stands alone and its elements are
 * numbers.
 */
static bool is_right_for_parts(const struct check *c, uint32_t weight, uint32_t companion)
{
	const struct sd_record *w = &c->in.m->records[weight], *s = &c->in.m->records[companion];
	const struct sd_target *t = first_of(&c->out, number_of(c, weight));

	return t && !next_of(&c->out, t) && !t->nsteps && sd_dtype_bits(w->dtype) == 8 && sd_dtype_is_float(w->dtype) &&
	       sd_scale_is_single(s->shape, s->rank) && fate_of(c, companion) == KEPT &&
	       first_of(&c->out, number_of(c, companion)) && is_alone(c, number_of(c, weight)) &&
	       names_belong(c, weight, companion);
}

static bool move_together(const struct check *c, uint32_t weight, uint32_t companion)
{
	const struct sd_target *w = first_of(&c->out, number_of(c, weight)),
			       *s = first_of(&c->out, number_of(c, companion));

	if (c->companions.role[companion] == SD_ROLE_SHAPE)
		return false;
	if (is_right_for_parts(c, weight, companion))
		return true;
	while (w && s && lie_together(c, w, s, companion)) {
		w = next_of(&c->out, w);
		s = next_of(&c->out, s);
	}
	return !w && !s;
}

/* ---- the groups ---- */

static bool is_multiplied_with(const struct sd_target *t, uint32_t record)
{
	for (uint32_t k = 0; k < t->nsteps; k++)
		if ((t->steps[k].kind == SD_STEP_BLOCK_SCALE || t->steps[k].kind == SD_STEP_WITH) &&
		    t->steps[k].operand == record)
			return true;
	return false;
}

/* Whether every target of a weight is multiplied with some companion of it. */
static bool is_dequantised(const struct check *c, uint32_t weight)
{
	const struct sd_target *t = first_of(&c->out, number_of(c, weight));
	bool all = t;

	for (; t && all; t = next_of(&c->out, t)) {
		bool found = false;

		for (uint32_t i = c->companions.first[weight]; i != SD_NO_RECORD && !found; i = c->companions.next[i])
			found = is_multiplied_with(t, number_of(c, i));
		all = found;
	}
	return all;
}

/* Of a weight that is dequantised: the companion has gone into its values, or is of no use any more and is gone. */
static enum sd_result check_used(const struct check *c, uint32_t weight, uint32_t companion)
{
	enum sd_role role = c->companions.role[companion];
	uint32_t number = number_of(c, companion);

	if (first_of(&c->out, number))
		return fail(c, weight, companion, "the weight would be dequantised and the other stay");
	if (role == SD_ROLE_SHAPE || role == SD_ROLE_ACTIVATION)
		return SD_OK;
	for (const struct sd_target *t = first_of(&c->out, number_of(c, weight)); t; t = next_of(&c->out, t))
		if (number == SD_NO_RECORD || !is_multiplied_with(t, number))
			return fail(c, weight, companion, "the weight would be dequantised without it");
	return SD_OK;
}

/* Whether a block scale stands beside a weight that is no codes (any more): some adapters leave it out. */
static bool is_stale(const struct check *c, uint32_t weight, uint32_t companion)
{
	return c->companions.role[companion] == SD_ROLE_BLOCK_SCALE &&
	       !sd_dtype_is_codes(c->in.m->records[weight].dtype);
}

/* "the weight would be cast and the other not with it" */
static enum sd_result fail_changed(const struct check *c, uint32_t weight, uint32_t companion, bool is_weight)
{
	uint32_t changed = is_weight ? weight : companion;
	const struct sd_target *was = first_of(&c->in, changed), *is = first_of(&c->out, number_of(c, changed));
	char problem[128];

	snprintf(problem, sizeof(problem), "the %s would be %s and the %s not with it", is_weight ? "weight" : "other",
		 was && is && was->nsteps == is->nsteps && was->dtype == is->dtype ? "joined, turned or cut" : "cast",
		 is_weight ? "other" : "weight");
	return fail(c, weight, companion, problem);
}

static enum sd_result check_companion(const struct check *c, uint32_t weight, enum fate fate, bool dequantised,
				      uint32_t companion)
{
	enum fate own = fate_of(c, companion);

	if (fate == CHANGED && dequantised)
		return check_used(c, weight, companion);
	/* It has gone into the weight's values already, as a step that is pending. */
	if (fate != CHANGED && !first_of(&c->in, companion) && !first_of(&c->out, number_of(c, companion)))
		return SD_OK;
	if (fate == CHANGED)
		return move_together(c, weight, companion) ? SD_OK : fail_changed(c, weight, companion, true);
	if (fate == KEPT && own == LEFT && is_stale(c, weight, companion))
		return SD_OK;
	if (own == CHANGED)
		return fail_changed(c, weight, companion, false);
	if (fate != own)
		return fail(c, weight, companion,
			    fate == LEFT ? "the weight would be left out and the other stay"
					 : "the weight would stay and the other be left out");
	if (fate == KEPT && (is_renamed(c, weight) || is_renamed(c, companion)) && !names_belong(c, weight, companion))
		return fail(c, weight, companion, "they would get names that do not belong together");
	return SD_OK;
}

static enum sd_result check_group(const struct check *c, uint32_t weight)
{
	enum fate fate = fate_of(c, weight);
	bool dequantised = fate == CHANGED && is_dequantised(c, weight);
	uint32_t first = sd_companion_of(&c->companions, weight);
	/* What has a part in the values comes first: it is what a message should name. */
	enum sd_result result = first == SD_NO_RECORD ? SD_OK : check_companion(c, weight, fate, dequantised, first);

	for (uint32_t i = c->companions.first[weight]; i != SD_NO_RECORD && result == SD_OK; i = c->companions.next[i])
		if (i != first)
			result = check_companion(c, weight, fate, dequantised, i);
	return result;
}

/* Whether a record without companions holds packed codes all the same. */
static bool is_packed(const struct check *c, uint32_t record)
{
	const struct sd_record *r = &c->in.m->records[record];
	enum sd_role role = sd_name_role(r->key).role;

	return (role == SD_ROLE_CODES || role == SD_ROLE_WEIGHT) && r->rank >= 2 && sd_dtype_is_codes(r->dtype) &&
	       !sd_dtype_is_float(r->dtype);
}

static bool is_unpacked(const struct check *c, uint32_t record)
{
	for (const struct sd_target *t = first_of(&c->out, number_of(c, record)); t; t = next_of(&c->out, t))
		if (!t->nsteps || (t->steps[0].kind != SD_STEP_UNPACK && t->steps[0].kind != SD_STEP_DECODE))
			return false;
	return true;
}

static enum sd_result check_alone(const struct check *c, uint32_t record)
{
	const struct sd_record *r = &c->in.m->records[record];

	if (!is_packed(c, record) || fate_of(c, record) != CHANGED || is_unpacked(c, record))
		return SD_OK;
	return sd_fail(
		c->err, SD_INPUT,
		"%s is %s and has no scales beside it: packed codes are no elements that could be joined, turned, "
		"cut or cast; take a release that is not quantised",
		r->key, sd_dtype_name(r->dtype));
}

/* Whether there is anything to look at. */
static bool any_codes(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->nrecords; i++)
		if (sd_dtype_is_codes(m->records[i].dtype))
			return true;
	return false;
}

static enum sd_result check_all(const struct check *c)
{
	enum sd_result result = SD_OK;

	/* What is missing has no data that could be parted from anything. */
	for (uint32_t i = 0; i < c->in.m->nrecords && result == SD_OK; i++) {
		if (c->in.m->records[i].state == SD_MISSING)
			continue;
		if (c->companions.role && c->companions.first[i] != SD_NO_RECORD)
			result = check_group(c, i);
		else
			result = check_alone(c, i);
	}
	return result;
}

enum sd_result sd_companions_check(const struct sd_manifest *in, const struct sd_companions *companions,
				   const struct sd_manifest *out, const uint32_t *becomes, struct sd_error *err)
{
	struct check c = {.becomes = becomes, .err = err};
	struct sd_companions own = {0};
	enum sd_result result = companions ? SD_OK : sd_companions_find(in, &own, err);

	c.companions = companions ? *companions : own;
	if (result == SD_OK && (c.companions.role || any_codes(in))) {
		result = look(&c.in, in) && look(&c.out, out) ? SD_OK : sd_fail_memory(err);
		if (result == SD_OK)
			result = check_all(&c);
		free(c.in.first);
		free(c.in.next);
		free(c.out.first);
		free(c.out.next);
	}
	sd_companions_free(&own);
	return result;
}
