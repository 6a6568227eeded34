/* SPDX-License-Identifier: Apache-2.0 */
/* Casts and dequantisation by hand, as pending steps. */
#include "stream/cast.h"
#include "move/device.h"
#include "stream/include.h"
#include "stream/scales.h"

#include <stdlib.h>
#include <string.h>

/* A manifest while steps are added to it. */
struct casting {
	const struct sd_manifest *in;
	struct sd_manifest *out;
	const struct sd_regex_list *include;
	enum sd_dtype dtype;
	const struct sd_target *scale; /* of the target that is looked at, or NULL */
	bool *scales;                  /* records that are nothing but scales, from now on */
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
	enum sd_result result = sd_include_takes(c->include, t->name, &yes, c->err);

	if (result != SD_OK || !yes || t->dtype == c->dtype || !sd_dtype_is_float(t->dtype))
		return result;
	if (c->scale)
		return sd_fail(c->err, SD_INPUT, "%s has scales (%s" SD_SCALE_SUFFIX "); use --dequant=%s", t->name,
			       t->name, sd_dtype_name(c->dtype));
	if (!sd_cast_exists(t->dtype, c->dtype))
		return sd_fail(c->err, SD_INPUT,
			       "%s is %s, of which there is no cast to %s; leave it out with --include", t->name,
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

static enum sd_result dequant_one(struct casting *c, struct sd_target *t)
{
	struct sd_step step = {.kind = SD_STEP_BLOCK_SCALE, .dtype = (uint16_t)c->dtype};
	const struct sd_target *scale = c->scale;
	bool yes;
	enum sd_result result = sd_include_takes(c->include, t->name, &yes, c->err);

	if (result != SD_OK || !yes)
		return result;
	if (!scale) {
		if (t->dtype != SD_F8_E4M3)
			return SD_OK;
		return sd_fail(c->err, SD_INPUT,
			       "%s is F8_E4M3 and has no scales (%s" SD_SCALE_SUFFIX
			       "); to take the codes as they are: --to=%s",
			       t->name, t->name, sd_dtype_name(c->dtype));
	}
	if (t->move || t->nsteps || scale->move || scale->nsteps)
		return sd_fail(c->err, SD_INPUT,
			       "%s or its scales have pending steps: put sd-cast --dequant before what makes them, or "
			       "behind sd-transpose",
			       t->name);
	result = scale_blocks(c, t, &step.blocks);
	if (result != SD_OK)
		return result;
	step.rank = t->rank;
	step.operand = scale->record;
	c->scales[scale->record] = true;
	return add_step(c, t, &step);
}

static enum sd_result each_target(const struct sd_manifest *in, enum sd_dtype dtype,
				  const struct sd_regex_list *include,
				  enum sd_result (*one)(struct casting *, struct sd_target *), const char *none,
				  struct sd_manifest **out, struct sd_error *err)
{
	struct casting c = {.in = in, .include = include, .dtype = dtype, .err = err};
	struct sd_scales scales;
	enum sd_result result = sd_scales_find(in, &scales, err);

	c.out = *out = sd_manifest_new();
	c.scales = calloc(in->nrecords + 1, sizeof(*c.scales));
	if (!c.out || !c.scales || !sd_manifest_copy_head(c.out, in))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = sd_include_check(include, in, err);
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
			if (!c.scales[c.out->targets[i].record])
				c.out->targets[kept++] = c.out->targets[i];
		c.out->ntargets = kept;
	}
	sd_scales_free(&scales);
	free(c.scales);
	return result;
}

enum sd_result sd_cast_to(const struct sd_manifest *in, enum sd_dtype dtype, const struct sd_regex_list *include,
			  struct sd_manifest **out, struct sd_error *err)
{
	return each_target(in, dtype, include, cast_one, NULL, out, err);
}

enum sd_result sd_cast_dequant(const struct sd_manifest *in, enum sd_dtype dtype, const struct sd_regex_list *include,
			       struct sd_manifest **out, struct sd_error *err)
{
	return each_target(in, dtype, include, dequant_one,
			   "nothing to dequantise: no tensor that is meant has scales (NAME" SD_SCALE_SUFFIX ")", out,
			   err);
}
