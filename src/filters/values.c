/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers that tensors stand for. */
#include "filters/values.h"
#include "move/device.h"
#include "model/companions.h"
#include "model/config_json.h"
#include "model/scales.h"

#include <string.h>

/* What is known of a weight: its form once it is unpacked, and what it is multiplied with. */
struct weight {
	const struct sd_record *record, *scale;
	uint32_t unpack;             /* enum sd_unpack, or 0 */
	uint64_t shape[SD_RANK_MAX]; /* unpacked */
	struct sd_block blocks[SD_RANK_MAX];
	uint32_t param;
};

/* The one companion that has a part in the values, or NULL: there are none, or more. */
static const struct sd_record *only_scale(const struct sd_manifest *in, const struct sd_companions *c, uint32_t weight,
					  uint32_t *number)
{
	const struct sd_record *scale = NULL;

	for (uint32_t i = c->first[weight]; i != SD_NO_RECORD; i = c->next[i]) {
		if (c->role[i] != SD_ROLE_BLOCK_SCALE && c->role[i] != SD_ROLE_FACTOR)
			continue;
		if (scale)
			return NULL;
		scale = &in->records[i];
		*number = i;
	}
	return scale;
}

static bool ends_in(const char *name, const char *end)
{
	size_t length = strlen(name), n = strlen(end);

	return length >= n && strcmp(name + length - n, end) == 0;
}

/*
 * How codes lie in the elements of a weight: numbers of 8 bits as they are; X_blocks of MXFP4 (transformers) two in a
 * byte; weight_packed of compressed-tensors' pack-quantized, eight of 4 bits in an I32.
 */
static bool find_form(struct weight *w)
{
	const struct sd_record *r = w->record;

	memcpy(w->shape, r->shape, r->rank * sizeof(*r->shape));
	if (r->dtype == SD_F8_E4M3 || r->dtype == SD_F8_E5M2)
		return true;
	if (r->dtype == SD_U8 && ends_in(r->key, "_blocks") && r->rank >= 3)
		w->unpack = SD_UNPACK_E2M1;
	else if (r->dtype == SD_I32 && ends_in(r->key, ".weight_packed") && r->rank >= 2)
		w->unpack = SD_UNPACK_INT4;
	else
		return false;
	return !__builtin_mul_overflow(w->shape[r->rank - 1], sd_dtype_bits(r->dtype) / 4, &w->shape[r->rank - 1]);
}

/* Scales are numbers, or of a byte, an exponent. */
static bool find_kind(struct weight *w)
{
	if (w->scale->dtype == SD_U8 || w->scale->dtype == SD_F8_E8M0)
		w->param = w->unpack == SD_UNPACK_E2M1 ? SD_EXPONENT_2_128 : 0;
	else if (w->scale->dtype != SD_F32 && w->scale->dtype != SD_BF16 && w->scale->dtype != SD_F16)
		return false;
	return true;
}

/* One scale for each of so many blocks of a dimension. */
static bool find_block(const struct weight *w, uint32_t k, uint64_t blocks, uint64_t *block)
{
	uint64_t size = w->shape[k];

	if (ends_in(w->scale->key, SD_SCALE_SUFFIX)) {
		*block = sd_scale_block(w->record->rank, k);
		return size / *block + (size % *block != 0) == blocks;
	}
	*block = blocks ? size / blocks : 0;
	return *block && size % blocks == 0;
}

/* Which scale is for which element: one for all, one for each row, or one for each block. */
static bool find_blocks(struct weight *w)
{
	const struct sd_record *s = w->scale;
	uint32_t rank = w->record->rank;
	uint64_t stride = 1;
	bool rows = s->rank + 1 == rank, single = sd_scale_is_single(s->shape, s->rank);

	for (uint32_t k = rank; k-- > 0;) {
		uint64_t blocks = single || (rows && k == rank - 1) ? 1 : k < s->rank ? s->shape[k] : 0;

		if (blocks == 1)
			w->blocks[k] = (struct sd_block){w->shape[k] ? w->shape[k] : 1, 0};
		else if (!find_block(w, k, blocks, &w->blocks[k].block))
			return false;
		else
			w->blocks[k].stride = stride;
		stride *= blocks;
	}
	return single || rows || s->rank == rank;
}

static bool add_steps(struct sd_manifest *m, const struct weight *w, uint32_t operand, struct sd_target *t)
{
	uint32_t rank = w->record->rank, n = 0;
	struct sd_step *steps = sd_arena_array(&m->arena, 2, sizeof(*steps));
	struct sd_block *blocks = sd_arena_array(&m->arena, rank, sizeof(*blocks));
	uint64_t *shape = sd_arena_array(&m->arena, rank, sizeof(*shape));

	if (!steps || !blocks || !shape)
		return false;
	memcpy(blocks, w->blocks, rank * sizeof(*blocks));
	memcpy(shape, w->shape, rank * sizeof(*shape));
	if (w->unpack)
		steps[n++] = (struct sd_step){
			.kind = SD_STEP_UNPACK, .dtype = SD_F32, .operand = SD_NO_RECORD, .param = w->unpack};
	steps[n++] = (struct sd_step){.kind = SD_STEP_BLOCK_SCALE,
				      .dtype = SD_F32,
				      .operand = operand,
				      .param = w->param,
				      .rank = rank,
				      .blocks = blocks};
	t->steps = steps;
	t->nsteps = n;
	t->shape = shape;
	t->dtype = SD_F32;
	return true;
}

/* A weight that is codes as it came gets the steps that make numbers of it. */
static bool make_numbers(struct sd_values *v, const struct sd_manifest *in, const struct sd_companions *c,
			 struct sd_target *t)
{
	struct weight w = {.record = &in->records[t->record]};
	uint32_t companion, number = SD_NO_RECORD;

	if (!c->role || t->record >= c->n || !sd_target_is_record(in, t) || c->weight[t->record] != SD_NO_RECORD)
		return true;
	companion = sd_companion_of(c, t->record);
	if (companion == SD_NO_RECORD && c->role[t->record] != SD_ROLE_CODES)
		return true;
	w.scale = only_scale(in, c, t->record, &number);
	if (w.scale && w.scale->state == SD_HERE && w.record->rank && find_form(&w) && find_kind(&w) && find_blocks(&w))
		return add_steps(v->manifest, &w, number, t);
	if (!v->codes++) {
		v->first_codes = t->name;
		v->companion = companion == SD_NO_RECORD ? NULL : in->records[companion].key;
	}
	return true;
}

static enum sd_result add(struct sd_values *v, const struct sd_manifest *in, const struct sd_companions *c,
			  const struct sd_target *target, struct sd_error *err)
{
	struct sd_target t = *target;

	if (in->records[t.record].state == SD_MISSING)
		return sd_target_fail_missing(in, &t, err);
	if (in->records[t.record].state != SD_HERE) {
		v->first_elsewhere = v->first_elsewhere ? v->first_elsewhere : t.name;
		return SD_OK;
	}
	if (in->records[t.record].lack)
		return sd_fail(err, SD_INPUT, "%s", in->records[t.record].lack);
	if (!make_numbers(v, in, c, &t) || !sd_manifest_add_target(v->manifest, &t))
		return sd_fail_memory(err);
	return SD_OK;
}

enum sd_result sd_values_plan(const struct sd_manifest *in, const struct sd_selection *choice, struct sd_values *values,
			      struct sd_error *err)
{
	struct sd_companions companions;
	enum sd_result result = sd_companions_find(in, &companions, err);

	*values = (struct sd_values){.manifest = sd_manifest_new()};
	if (result == SD_OK && (!values->manifest || !sd_manifest_copy_head(values->manifest, in)))
		result = sd_fail_memory(err);
	for (size_t i = 0; i < in->nrecords && result == SD_OK; i++)
		if (!sd_manifest_add_record(values->manifest, &in->records[i]))
			result = sd_fail_memory(err);
	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++) {
		bool yes;

		result = sd_selection_takes(choice, in->targets[i].name, &yes, err);
		if (result == SD_OK && yes)
			result = add(values, in, &companions, &in->targets[i], err);
	}
	if (result == SD_OK && !values->manifest->ntargets && values->first_elsewhere)
		result = sd_fail(err, SD_INPUT, "%s: its data does not come along: there is nothing to count",
				 values->first_elsewhere);
	if (result == SD_OK)
		result = sd_manifest_check(values->manifest, err);
	sd_companions_free(&companions);
	return result;
}

void sd_values_free(struct sd_values *values)
{
	sd_manifest_free(values->manifest);
	values->manifest = NULL;
}
