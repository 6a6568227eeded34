/* SPDX-License-Identifier: Apache-2.0 */
/* Casts and dequantisation by hand, as pending steps. */
#include "filters/cast.h"
#include "move/device.h"
#include "move/quantise.h"
#include "model/companions.h"
#include "model/config_json.h"
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
	bool blocks; /* config.json says that blocks are as they are read here, or nothing */
	bool *spent; /* records that are of no use any more: scales that have gone into their weights */
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

/* The blocks of a weight in its scales. */
static enum sd_result scale_blocks(struct casting *c, const struct sd_target *t, const struct sd_block **blocks)
{
	struct sd_block *b = sd_arena_array(&c->out->arena, t->rank, sizeof(*b));
	enum sd_result result = b ? sd_scales_fit(t, c->scale, c->err) : sd_fail_memory(c->err);
	uint64_t stride = 1;

	for (uint32_t k = t->rank; result == SD_OK && k-- > 0;) {
		b[k] = (struct sd_block){sd_scale_block(t->rank, k), stride};
		stride *= c->scale->shape[k];
	}
	*blocks = b;
	return result;
}

/* Whether the name of a target says that it is a packed weight. */
static bool is_packed(const struct casting *c, const struct sd_target *t)
{
	return c->companions.role && c->companions.role[t->record] == SD_ROLE_CODES;
}

/* The scales of a weight that is dequantised, and those of its activations, are of no use any more. */
static void spend(struct casting *c, uint32_t weight, uint32_t scale)
{
	c->spent[scale] = true;
	for (uint32_t i = c->companions.role ? c->companions.first[weight] : SD_NO_RECORD; i != SD_NO_RECORD;
	     i = c->companions.next[i])
		if (c->companions.role[i] == SD_ROLE_ACTIVATION)
			c->spent[i] = true;
}

static enum sd_result dequant_one(struct casting *c, struct sd_target *t)
{
	struct sd_step step = {.kind = SD_STEP_BLOCK_SCALE, .dtype = (uint16_t)c->dtype};
	const struct sd_target *scale = c->scale;
	bool yes;
	enum sd_result result = sd_selection_takes(c->choice, t->name, &yes, c->err);

	/* Of a companion its weight decides. */
	if (result != SD_OK || !yes || (c->companions.role && c->companions.weight[t->record] != SD_NO_RECORD))
		return result;
	if (!scale) {
		uint32_t companion = sd_companion_of(&c->companions, t->record);

		if (companion != SD_NO_RECORD || is_packed(c, t))
			return sd_companions_fail(c->in, &c->companions, t->record, companion,
						  "only block scales (" SD_SCALE_SUFFIX ") are multiplied", c->err);
		if (t->dtype != SD_F8_E4M3)
			return SD_OK;
		return sd_fail(c->err, SD_INPUT,
			       "%s is F8_E4M3 and has no scales (%s" SD_SCALE_SUFFIX
			       "): are they in another file? --exclude leaves it as it is",
			       t->name, t->name);
	}
	if (!c->blocks)
		return sd_fail(c->err, SD_INPUT,
			       "%s: config.json has a weight_block_size that is not 128 x 128, which is not read yet: "
			       "take a release that is not quantised",
			       t->name);
	if (!sd_dtype_is_codes(t->dtype))
		return sd_fail(c->err, SD_INPUT,
			       "%s is %s, no codes, and has scales all the same (%s): are they left over? --exclude "
			       "leaves it as it is",
			       t->name, sd_dtype_name(t->dtype), scale->name);
	if (!sd_target_is_record(c->in, t) || !sd_target_is_record(c->in, scale))
		return sd_fail(c->err, SD_INPUT,
			       "%s or its scales have pending steps: put sd-cast --dequant before what makes them, or "
			       "behind sd-transpose | sd-pack",
			       t->name);
	result = scale_blocks(c, t, &step.blocks);
	if (result != SD_OK)
		return result;
	step.rank = t->rank;
	step.operand = scale->record;
	spend(c, t->record, scale->record);
	return add_step(c, t, &step);
}

static enum sd_result each_target(const struct sd_manifest *in, enum sd_dtype dtype, const struct sd_selection *choice,
				  enum sd_result (*one)(struct casting *, struct sd_target *), const char *none,
				  struct sd_manifest **out, struct sd_error *err)
{
	struct casting c = {.in = in, .choice = choice, .dtype = dtype, .err = err};
	struct sd_scales scales;
	uint64_t block[2];
	enum sd_result result = sd_scales_find(in, &scales, err);

	c.blocks = !sd_config_blocks(in, block) || (block[0] == SD_QUANT_BLOCK && block[1] == SD_QUANT_BLOCK);
	if (result == SD_OK)
		result = sd_companions_find(in, &c.companions, err);
	c.out = *out = sd_manifest_new();
	c.spent = calloc(in->nrecords + 1, sizeof(*c.spent));
	if (!c.out || !c.spent || !sd_manifest_copy_head(c.out, in))
		result = sd_fail_memory(err);
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

		for (size_t i = 0; i < c.out->ntargets; i++)
			if (!c.spent[c.out->targets[i].record])
				c.out->targets[kept++] = c.out->targets[i];
		c.out->ntargets = kept;
		result = sd_companions_check(in, &c.companions, c.out, NULL, err);
	}
	sd_scales_free(&scales);
	sd_companions_free(&c.companions);
	free(c.spent);
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
			   "nothing to dequantise: no tensor that is meant has scales (NAME" SD_SCALE_SUFFIX ")", out,
			   err);
}
