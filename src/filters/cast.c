/* SPDX-License-Identifier: Apache-2.0 */
/* Casts and dequantisation by hand, as pending steps. */
#include "filters/cast.h"
#include "move/device.h"
#include "model/companions.h"
#include "model/dequant.h"
#include "model/selection.h"
#include "model/scales.h"

#include <stdlib.h>
#include <string.h>

/* A manifest while steps are added to it. */
struct casting {
	const struct sd_manifest *in;
	struct sd_manifest *out;
	const struct sd_selection *choice;
	enum sd_dtype dtype;
	const struct sd_target *scale; /* of the target that is looked at, or NULL */
	struct sd_companions companions;
	struct sd_quant_said said;
	bool *pending; /* records of which something is to be made */
	bool *spent;   /* records that are of no use any more: scales that have gone into their weights */
	size_t changed;
	struct sd_error *err;
};

static enum sd_result add_step(struct casting *c, struct sd_target *t, const struct sd_step *step)
{
	struct sd_step *steps = sd_arena_array(&c->out->arena, t->nsteps + 1, sizeof(*steps));
	uint64_t count, bytes;

	if (!steps)
		return sd_fail_memory(c->err);
	if (!sd_shape_count(t->shape, t->rank, &count) || !sd_dtype_bytes(step->dtype, count, &bytes))
		return sd_fail(c->err, SD_INPUT, "%s is too large for %s", t->name, sd_dtype_name(step->dtype));
	if (t->nsteps)
		memcpy(steps, t->steps, t->nsteps * sizeof(*steps));
	steps[t->nsteps++] = *step;
	t->steps = steps;
	t->dtype = (uint8_t)step->dtype;
	c->changed++;
	return SD_OK;
}

static enum sd_result cast_one(struct casting *c, struct sd_target *t)
{
	const struct sd_step step = {.kind = SD_STEP_CAST, .dtype = (uint16_t)c->dtype, .operand = SD_NO_RECORD};
	bool yes;
	enum sd_result result = sd_selection_takes(c->choice, t->name, &yes, c->err);

	if (result != SD_OK || !yes || t->dtype == c->dtype || !sd_dtype_is_float(t->dtype))
		return result;
	if (c->scale)
		return sd_fail(c->err, SD_INPUT, "%s has scales (%s" SD_SCALE_SUFFIX "); use --dequant=%s", t->name,
			       t->name, sd_dtype_name(c->dtype));
	if (!sd_cast_exists(t->dtype, c->dtype))
		return sd_fail(c->err, SD_INPUT,
			       "%s is %s, of which there is no cast to %s; --exclude leaves it as it is", t->name,
			       sd_dtype_name(t->dtype), sd_dtype_name(c->dtype));
	return add_step(c, t, &step);
}

/* What a weight that is dequantised was stored with is of no use any more. */
static void spend(struct casting *c, uint32_t weight)
{
	for (uint32_t i = c->companions.role ? c->companions.first[weight] : SD_NO_RECORD; i != SD_NO_RECORD;
	     i = c->companions.next[i])
		c->spent[i] = true;
}

/* Whether a weight and all that it is stored with are as they came. */
static bool is_untouched(const struct casting *c, const struct sd_target *t)
{
	bool untouched = sd_target_is_record(c->in, t);

	for (uint32_t i = c->companions.role ? c->companions.first[t->record] : SD_NO_RECORD;
	     i != SD_NO_RECORD && untouched; i = c->companions.next[i])
		untouched = !c->pending[i];
	return untouched;
}

/* Gives a target what its weight becomes. */
static enum sd_result become(struct casting *c, struct sd_target *t, const struct sd_dequantised *as)
{
	static const uint32_t order[] = {1, 0};
	const uint64_t turned[] = {as->shape[1], as->shape[0]};
	struct sd_move move;
	uint64_t count, bytes;

	if (!sd_shape_count(as->shape, as->rank, &count) || !sd_dtype_bytes(c->dtype, count, &bytes))
		return sd_fail(c->err, SD_INPUT, "%s is too large for %s", t->name, sd_dtype_name(c->dtype));
	t->name = as->name;
	t->shape = as->shape;
	t->rank = as->rank;
	t->steps = as->steps;
	t->nsteps = as->nsteps;
	t->dtype = (uint8_t)c->dtype;
	if (as->turned && count > 0) {
		if (!sd_move_permute(&move, turned, 2, order))
			return sd_fail(c->err, SD_INPUT, "%s is too large", t->name);
		t->move = sd_arena_copy(&c->out->arena, &move, sd_move_size(&move));
		if (!t->move)
			return sd_fail_memory(c->err);
	}
	c->changed++;
	spend(c, t->record);
	return SD_OK;
}

static enum sd_result dequant_one(struct casting *c, struct sd_target *t)
{
	struct sd_dequantised as;
	uint32_t companion;
	bool yes;
	enum sd_result result = sd_selection_takes(c->choice, t->name, &yes, c->err);

	/* Of a companion its weight decides. */
	if (result != SD_OK || !yes || !sd_is_quantised(c->in, &c->companions, t->record))
		return result;
	companion = sd_companion_of(&c->companions, t->record);
	if (!is_untouched(c, t))
		return sd_fail(c->err, SD_INPUT,
			       "%s or its scales have pending steps: put sd-cast --dequant before what makes them, or "
			       "behind sd-transpose | sd-pack",
			       t->name);
	if (c->scale && !sd_dtype_is_codes(t->dtype))
		return sd_fail(c->err, SD_INPUT,
			       "%s is %s, no codes, and has scales all the same (%s): are they left over? --exclude "
			       "leaves it as it is",
			       t->name, sd_dtype_name(t->dtype), c->scale->name);
	if (companion == SD_NO_RECORD && t->dtype == SD_F8_E4M3 && !c->said.refused)
		return sd_fail(c->err, SD_INPUT,
			       "%s is F8_E4M3 and has no scales (%s" SD_SCALE_SUFFIX
			       "): are they in another file? --exclude leaves it as it is",
			       t->name, t->name);
	result = sd_dequantise(c->in, &c->companions, &c->said, t->record, t->name, c->dtype, &c->out->arena, &as,
			       c->err);
	return result == SD_OK ? become(c, t, &as) : result;
}

/* Once nothing is quantised any more, scales of the cache are of no use either. */
static bool is_cache_scale(const char *name)
{
	static const char *const words[] = {".k_scale",  ".v_scale",      ".q_scale",
					    ".kv_scale", ".k_zero_point", ".v_zero_point"};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < sizeof(words) / sizeof(*words); i++)
		if (strcmp(dot, words[i]) == 0)
			return true;
	return false;
}

static void spend_cache(struct casting *c)
{
	for (size_t i = 0; i < c->out->ntargets; i++) {
		const struct sd_target *t = &c->out->targets[i];

		if (!c->spent[t->record] && !t->nsteps && sd_is_quantised(c->in, &c->companions, t->record))
			return;
	}
	for (size_t i = 0; i < c->out->ntargets; i++)
		if (is_cache_scale(c->out->targets[i].name))
			c->spent[c->out->targets[i].record] = true;
}

static enum sd_result each_target(const struct sd_manifest *in, enum sd_dtype dtype, const struct sd_selection *choice,
				  enum sd_result (*one)(struct casting *, struct sd_target *), const char *none,
				  struct sd_manifest **out, struct sd_error *err)
{
	struct casting c = {.in = in, .choice = choice, .dtype = dtype, .err = err};
	struct sd_scales scales;
	enum sd_result result = sd_scales_find(in, &scales, err);

	if (result == SD_OK)
		result = sd_companions_find(in, &c.companions, err);
	c.out = *out = sd_manifest_new();
	c.spent = calloc(in->nrecords + 1, sizeof(*c.spent));
	c.pending = calloc(in->nrecords + 1, sizeof(*c.pending));
	if (!c.out || !c.spent || !c.pending || !sd_manifest_copy_head(c.out, in))
		result = sd_fail_memory(err);
	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++)
		c.pending[in->targets[i].record] |= !sd_target_is_record(in, &in->targets[i]);
	if (result == SD_OK)
		result = sd_quant_read(in, &c.out->arena, &c.said, err);
	if (result == SD_OK)
		result = sd_selection_check(choice, in, err);
	for (size_t i = 0; i < in->nrecords && result == SD_OK; i++)
		if (!sd_manifest_add_record(c.out, &in->records[i]))
			result = sd_fail_memory(err);
	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++) {
		struct sd_target t = in->targets[i];

		c.scale = sd_scale_of(&scales, in, i);
		result = one(&c, &t);
		if (result == SD_OK && !sd_manifest_add_target(c.out, &t))
			result = sd_fail_memory(err);
	}
	if (result == SD_OK && !c.changed && none)
		result = sd_fail(err, SD_INPUT, "%s", none);
	if (result == SD_OK) {
		size_t kept = 0;

		if (none)
			spend_cache(&c);
		for (size_t i = 0; i < c.out->ntargets; i++)
			if (!c.spent[c.out->targets[i].record])
				c.out->targets[kept++] = c.out->targets[i];
		c.out->ntargets = kept;
		result = sd_companions_check(in, &c.companions, c.out, NULL, err);
	}
	sd_scales_free(&scales);
	sd_companions_free(&c.companions);
	free(c.spent);
	free(c.pending);
	return result;
}

enum sd_result sd_cast_to(const struct sd_manifest *in, enum sd_dtype dtype, const struct sd_selection *choice,
			  struct sd_manifest **out, struct sd_error *err)
{
	return each_target(in, dtype, choice, cast_one, NULL, out, err);
}

enum sd_result sd_cast_dequant(const struct sd_manifest *in, enum sd_dtype dtype, const struct sd_selection *choice,
			       struct sd_manifest **out, struct sd_error *err)
{
	return each_target(in, dtype, choice, dequant_one,
			   "nothing to dequantise: no tensor that is meant is stored quantised", out, err);
}
