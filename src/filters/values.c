/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers that tensors stand for. */
#include "filters/values.h"
#include "move/device.h"
#include "model/companions.h"
#include "model/config_json.h"
#include "model/dequant.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* What is read of a manifest. */
struct reading {
	struct sd_values *values;
	const struct sd_manifest *in;
	struct sd_companions companions;
	struct sd_quant_said said;
	struct sd_error *err;
};

static bool ends_in(const char *name, const char *end)
{
	size_t length = strlen(name), n = strlen(end);

	return length >= n && strcmp(name + length - n, end) == 0;
}

/* ---- MXFP4 as transformers has it ---- */

/* X_blocks, U8 [.., n, 16], and X_scales, U8 [.., n]: an exponent for 32 codes, two in a byte. */
static const struct sd_record *scales_of_blocks(const struct reading *r, const struct sd_record *weight,
						uint32_t *number)
{
	const struct sd_record *scale;

	*number = sd_companion_of(&r->companions, (uint32_t)(weight - r->in->records));
	if (*number == SD_NO_RECORD || weight->dtype != SD_U8 || weight->rank < 2 || !ends_in(weight->key, "_blocks"))
		return NULL;
	scale = &r->in->records[*number];
	if ((scale->dtype != SD_U8 && scale->dtype != SD_F8_E8M0) || scale->state != SD_HERE ||
	    scale->rank + 1 != weight->rank || weight->shape[scale->rank] > UINT64_MAX / 2 ||
	    memcmp(scale->shape, weight->shape, scale->rank * sizeof(*scale->shape)) != 0)
		return NULL;
	return scale;
}

static bool add_block_steps(const struct reading *r, const struct sd_record *scale, uint32_t number,
			    struct sd_target *t)
{
	struct sd_arena *arena = &r->values->manifest->arena;
	struct sd_step *steps = sd_arena_array(arena, 2, sizeof(*steps));
	struct sd_block *blocks = sd_arena_array(arena, t->rank, sizeof(*blocks));
	uint64_t *shape = sd_arena_copy(arena, t->shape, t->rank * sizeof(*shape)), stride = 1;

	if (!steps || !blocks || !shape)
		return false;
	shape[t->rank - 1] *= 2;
	blocks[t->rank - 1] = (struct sd_block){shape[t->rank - 1] ? shape[t->rank - 1] : 1, 0};
	for (uint32_t k = scale->rank; k-- > 0; stride *= scale->shape[k])
		blocks[k] = (struct sd_block){1, stride};
	steps[0] = (struct sd_step){
		.kind = SD_STEP_UNPACK, .dtype = SD_F32, .operand = SD_NO_RECORD, .param = SD_UNPACK_E2M1};
	steps[1] = (struct sd_step){.kind = SD_STEP_BLOCK_SCALE,
				    .dtype = SD_F32,
				    .operand = number,
				    .param = SD_EXPONENT_2_128,
				    .rank = t->rank,
				    .blocks = blocks};
	t->steps = steps;
	t->nsteps = 2;
	t->shape = shape;
	t->dtype = SD_F32;
	return true;
}

/* ---- all others ---- */

/* Gives a target what its weight becomes. */
static bool become(const struct reading *r, const struct sd_dequantised *as, struct sd_target *t)
{
	static const uint32_t order[] = {1, 0};
	const uint64_t turned[] = {as->shape[1], as->shape[0]};
	struct sd_move move;

	t->shape = as->shape;
	t->rank = as->rank;
	t->steps = as->steps;
	t->nsteps = as->nsteps;
	t->dtype = SD_F32;
	if (!as->turned || sd_shape_is_empty(as->shape, as->rank))
		return true;
	t->move = sd_move_permute(&move, turned, 2, order)
			  ? sd_arena_copy(&r->values->manifest->arena, &move, sd_move_size(&move))
			  : NULL;
	return t->move;
}

/* Whether the numbers can be made here: what they are made with comes along, and they are not too many. */
static bool can_be_made(const struct reading *r, const struct sd_dequantised *as)
{
	uint64_t count, bytes;

	for (uint32_t i = 0; i < as->nsteps; i++)
		if (as->steps[i].operand != SD_NO_RECORD && r->in->records[as->steps[i].operand].state != SD_HERE)
			return false;
	return sd_shape_count(as->shape, as->rank, &count) && sd_dtype_bytes(SD_F32, count, &bytes);
}

/* Whether it is a weight that is codes as it came, by its name or by what it is stored with. */
static bool is_codes(const struct reading *r, const struct sd_target *t)
{
	const struct sd_companions *c = &r->companions;

	return c->role && t->record < c->n && sd_target_is_record(r->in, t) && c->weight[t->record] == SD_NO_RECORD &&
	       (sd_companion_of(c, t->record) != SD_NO_RECORD || c->role[t->record] == SD_ROLE_CODES);
}

/* What would mend it is for those who convert. */
static void keep_reason(struct sd_values *v, const char *text)
{
	const char *advice = strstr(text, "; sd-cast");

	snprintf(v->why, sizeof(v->why), "%.*s", advice ? (int)(advice - text) : INT_MAX, text);
}

/* A weight that is codes gets the steps that make numbers of it, or stays what it is. */
static enum sd_result make_numbers(const struct reading *r, struct sd_target *t)
{
	struct sd_values *v = r->values;
	struct sd_dequantised as;
	struct sd_error why = {.text = "what it is stored with does not come along"};
	uint32_t number;
	const struct sd_record *scale =
		is_codes(r, t) ? scales_of_blocks(r, &r->in->records[t->record], &number) : NULL;
	enum sd_result result;

	if (!is_codes(r, t))
		return SD_OK;
	if (scale)
		return add_block_steps(r, scale, number, t) ? SD_OK : sd_fail_memory(r->err);
	result = sd_dequantise(r->in, &r->companions, &r->said, t->record, t->name, SD_F32, &v->manifest->arena, &as,
			       &why);
	if (result == SD_IO)
		return sd_fail_memory(r->err);
	if (result == SD_OK && can_be_made(r, &as))
		return become(r, &as, t) ? SD_OK : sd_fail_memory(r->err);
	if (sd_dtype_is_codes((enum sd_dtype)t->dtype) && !v->codes++)
		keep_reason(v, why.text);
	return SD_OK;
}

static enum sd_result add(const struct reading *r, const struct sd_target *target)
{
	const struct sd_manifest *in = r->in;
	struct sd_values *v = r->values;
	struct sd_error *err = r->err;
	struct sd_target t = *target;

	if (in->records[t.record].state == SD_MISSING)
		return sd_target_fail_missing(in, &t, err);
	if (in->records[t.record].state != SD_HERE) {
		v->first_elsewhere = v->first_elsewhere ? v->first_elsewhere : t.name;
		return SD_OK;
	}
	if (in->records[t.record].lack)
		return sd_fail(err, SD_INPUT, "%s", in->records[t.record].lack);
	if (make_numbers(r, &t) != SD_OK)
		return err->result;
	return sd_manifest_add_target(v->manifest, &t) ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_values_plan(const struct sd_manifest *in, const struct sd_selection *choice, struct sd_values *values,
			      struct sd_error *err)
{
	struct reading r = {.values = values, .in = in, .err = err};
	enum sd_result result = sd_companions_find(in, &r.companions, err);

	*values = (struct sd_values){.manifest = sd_manifest_new()};
	if (result == SD_OK && (!values->manifest || !sd_manifest_copy_head(values->manifest, in)))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = sd_quant_read(in, &values->manifest->arena, &r.said, err);
	for (size_t i = 0; i < in->nrecords && result == SD_OK; i++)
		if (!sd_manifest_add_record(values->manifest, &in->records[i]))
			result = sd_fail_memory(err);
	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++) {
		bool yes;

		result = sd_selection_takes(choice, in->targets[i].name, &yes, err);
		if (result == SD_OK && yes)
			result = add(&r, &in->targets[i]);
	}
	if (result == SD_OK && !values->manifest->ntargets && values->first_elsewhere)
		result = sd_fail(err, SD_INPUT, "%s: its data does not come along: there is nothing to count",
				 values->first_elsewhere);
	if (result == SD_OK)
		result = sd_manifest_check(values->manifest, err);
	sd_companions_free(&r.companions);
	return result;
}

void sd_values_free(struct sd_values *values)
{
	sd_manifest_free(values->manifest);
	values->manifest = NULL;
}
