/* SPDX-License-Identifier: Apache-2.0 */
/* Quantisation: a plan, and a worker that takes bands of 128 rows, or whole matrices where one number is for all. */
#include "base/checked.h"
#include "move/quantise.h"
#include "filters/quantise_weights.h"
#include "model/companions.h"
#include "model/config_json.h"
#include "model/parts.h"
#include "model/selection.h"
#include "model/scales.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A weight seen as matrices of rows x columns. */
struct weight {
	uint64_t matrices, rows, columns, bands, blocks; /* blocks: along a row */
};

/* What a kind makes of M.weight. */
static const struct kind {
	const char *codes, *scale, *global; /* ends of names; NULL: there is none */
	uint8_t packed;                     /* codes in a byte */
	uint8_t scale_dtype;                /* SD_NO_DTYPE: the one that is asked for */
	uint64_t group;                     /* columns that have a scale; 0: all */
	bool whole;                         /* one number is for all of it */
} KINDS[] = {
	[SD_QUANTISE_BLOCKS] = {"", SD_SCALE_SUFFIX, NULL, 1, SD_NO_DTYPE, SD_QUANT_BLOCK, false},
	[SD_QUANTISE_ROWS] = {"", "_scale", NULL, 1, SD_NO_DTYPE, 0, false},
	[SD_QUANTISE_ALL] = {"", "_scale", NULL, 1, SD_NO_DTYPE, 0, true},
	[SD_QUANTISE_MXFP4] = {"_packed", "_scale", NULL, 2, SD_U8, SD_MXFP4_GROUP, false},
	[SD_QUANTISE_NVFP4] = {"_packed", "_scale", "_global_scale", 2, SD_F8_E4M3, SD_NVFP4_GROUP, true},
};

static enum sd_dtype scale_dtype_of(const struct sd_quant *q)
{
	return KINDS[q->kind].scale_dtype ? (enum sd_dtype)KINDS[q->kind].scale_dtype : q->scale_dtype;
}

static struct weight measure(const struct sd_record *r)
{
	struct weight w = {.matrices = 1, .rows = r->shape[r->rank - 2], .columns = r->shape[r->rank - 1]};

	for (uint32_t i = 0; i + 2 < r->rank; i++)
		w.matrices *= r->shape[i];
	w.bands = w.rows / SD_QUANT_BLOCK + (w.rows % SD_QUANT_BLOCK != 0);
	w.blocks = w.columns / SD_QUANT_BLOCK + (w.columns % SD_QUANT_BLOCK != 0);
	return w;
}

/* ---- the plan ---- */

/* The forms of compressed-tensors are of matrices. */
static enum sd_result check_matrix(const struct sd_target *t, uint64_t group, struct sd_error *err)
{
	size_t length = strlen(t->name);
	char shape[SD_SHAPE_TEXT];

	if (t->rank == 2 && length > 7 && strcmp(t->name + length - 7, ".weight") == 0 && t->shape[1] > 0 &&
	    (!group || t->shape[1] % group == 0))
		return SD_OK;
	sd_shape_text(t->shape, t->rank, shape, sizeof(shape));
	if (group)
		return sd_fail(err, SD_INPUT,
			       "%s %s: only matrices NAME.weight whose rows are multiples of %llu can become this; "
			       "narrow --include",
			       t->name, shape, (unsigned long long)group);
	return sd_fail(err, SD_INPUT, "%s %s: only matrices NAME.weight can become this; narrow --include", t->name,
		       shape);
}

static enum sd_result check(const struct sd_manifest *in, const struct sd_target *t, enum sd_quantiser kind,
			    struct sd_error *err)
{
	char shape[SD_SHAPE_TEXT];

	if (in->records[t->record].state == SD_MISSING)
		return sd_target_fail_missing(in, t, err);
	if (!sd_target_is_record(in, t))
		return sd_fail(err, SD_INPUT, "%s has pending steps: put sd-transpose before sd-cast --quant", t->name);
	if (t->rank < 2 || (t->dtype != SD_BF16 && t->dtype != SD_F16 && t->dtype != SD_F32))
		return sd_fail(err, SD_INPUT,
			       "%s is %s %s: only BF16, F16 and F32 of two or more dimensions can be quantised; narrow "
			       "--include",
			       t->name, sd_dtype_name(t->dtype),
			       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)));
	return kind == SD_QUANTISE_BLOCKS ? SD_OK : check_matrix(t, KINDS[kind].group, err);
}

/* One of the tensors that a weight becomes. */
static bool add_part(const struct sd_target *t, const struct sd_record *r, const char *end, uint8_t dtype,
		     const uint64_t *shape, uint32_t rank, struct sd_manifest *out)
{
	struct sd_record record = *r;
	struct sd_target target = *t;
	uint64_t count;

	record.key = sd_arena_printf(&out->arena, "%s%s", r->key, end);
	target.name = sd_arena_printf(&out->arena, "%s%s", t->name, end);
	record.shape = target.shape = sd_arena_copy(&out->arena, shape, (rank + 1) * sizeof(*shape));
	record.rank = target.rank = rank;
	record.dtype = target.dtype = dtype;
	record.value = NULL;
	target.record = (uint32_t)out->nrecords;
	return record.key && target.name && record.shape && sd_shape_count(shape, rank, &count) &&
	       sd_dtype_bytes(dtype, count, &record.bytes) && sd_manifest_add_record(out, &record) &&
	       sd_manifest_add_target(out, &target);
}

/* A matrix as compressed-tensors stores it. */
static bool add_matrix(const struct sd_manifest *in, const struct sd_target *t, const struct sd_quant *q,
		       struct sd_manifest *out)
{
	const struct kind *kind = &KINDS[q->kind];
	const struct sd_record *r = &in->records[t->record];
	const uint64_t codes[] = {r->shape[0], r->shape[1] / kind->packed, 0},
		       scales[] = {r->shape[0], kind->group ? r->shape[1] / kind->group : 1, 0}, one[] = {1, 0};
	bool single = kind->whole && !kind->group;

	return add_part(t, r, kind->codes, kind->packed == 2 ? SD_U8 : SD_F8_E4M3, codes, 2, out) &&
	       add_part(t, r, kind->scale, (uint8_t)scale_dtype_of(q), single ? one : scales, single ? 1 : 2, out) &&
	       (!kind->global || add_part(t, r, kind->global, SD_F32, one, 1, out));
}

/* The weight in F8 and, behind it, its scales. */
static bool add_quantised(const struct sd_manifest *in, const struct sd_target *t, enum sd_dtype scale_dtype,
			  struct sd_manifest *out)
{
	struct sd_record r = in->records[t->record];
	struct sd_target weight = *t, scale = *t;
	struct weight w = measure(&r);
	uint64_t count, *shape = sd_arena_copy(&out->arena, r.shape, r.rank * sizeof(*shape));
	const char *key = sd_arena_printf(&out->arena, "%s" SD_SCALE_SUFFIX, r.key);
	const char *name = sd_arena_printf(&out->arena, "%s" SD_SCALE_SUFFIX, t->name);

	if (!shape || !key || !name)
		return false;
	r.dtype = weight.dtype = SD_F8_E4M3;
	weight.record = (uint32_t)out->nrecords;
	if (!sd_shape_count(r.shape, r.rank, &r.bytes) || !sd_manifest_add_record(out, &r) ||
	    !sd_manifest_add_target(out, &weight))
		return false;
	shape[r.rank - 2] = w.bands;
	shape[r.rank - 1] = w.blocks;
	r.key = key;
	r.shape = scale.shape = shape;
	r.dtype = scale.dtype = (uint8_t)scale_dtype;
	scale.name = name;
	scale.record = (uint32_t)out->nrecords;
	return sd_shape_count(shape, r.rank, &count) && sd_dtype_bytes(scale_dtype, count, &r.bytes) &&
	       sd_manifest_add_record(out, &r) && sd_manifest_add_target(out, &scale);
}

/* A config.json can say one method, which cannot stand beside another. */
static enum sd_result check_method(const struct sd_manifest *in, enum sd_quantiser kind, struct sd_error *err)
{
	char method[64];

	sd_config_text(sd_manifest_side(in, "config.json"), "quantization_config.quant_method", method, sizeof(method));
	if (!*method || (kind == SD_QUANTISE_BLOCKS && strcmp(method, "fp8") == 0))
		return SD_OK;
	return sd_fail(err, SD_INPUT, "config.json says quant_method %s, beside which there can be no %s", method,
		       kind == SD_QUANTISE_BLOCKS ? "block FP8" : "other");
}

/* Which records are quantised: *their[record] is the number of their target, plus one. */
static enum sd_result choose(const struct sd_manifest *in, const struct sd_selection *choice, enum sd_quantiser kind,
			     uint32_t *their, struct sd_error *err)
{
	enum sd_result result = sd_selection_check(choice, in, err);

	if (result == SD_OK)
		result = check_method(in, kind, err);
	for (size_t i = 0; i < in->ntargets && result == SD_OK; i++) {
		bool yes;

		result = sd_selection_takes(choice, in->targets[i].name, &yes, err);
		if (result == SD_OK && yes)
			result = check(in, &in->targets[i], kind, err);
		if (result == SD_OK && yes && their[in->targets[i].record])
			result = sd_fail(err, SD_INPUT, "%s becomes two tensors: %s and %s",
					 in->records[in->targets[i].record].key,
					 in->targets[their[in->targets[i].record] - 1].name, in->targets[i].name);
		if (result == SD_OK && yes)
			their[in->targets[i].record] = (uint32_t)i + 1;
	}
	return result;
}

/* Room for the largest weight's band, its codes and all its scales. */
static enum sd_result make_room(struct sd_quant *q, const uint32_t *their, struct sd_error *err)
{
	uint64_t band = 1, codes = 1, scales = 1;

	for (size_t i = 0; i < q->in->nrecords; i++) {
		const struct sd_record *r = &q->in->records[i];
		struct weight w;
		uint64_t b, s, height;

		if (!their[i] || !r->bytes)
			continue;
		w = measure(r);
		height = KINDS[q->kind].whole ? w.rows : SD_QUANT_BLOCK;
		if (!sd_mul(w.columns, height * sd_dtype_size(r->dtype), &b) ||
		    !sd_mul(w.matrices * w.bands, w.blocks * sd_dtype_size(q->scale_dtype), &s))
			return sd_fail_memory(err);
		if (q->kind != SD_QUANTISE_BLOCKS)
			s = w.rows * (w.columns / SD_NVFP4_GROUP + 4);
		band = b > band ? b : band;
		codes = w.columns * height > codes ? w.columns * height : codes;
		scales = s > scales ? s : scales;
	}
	q->band = malloc(band);
	q->codes = malloc(codes);
	q->scales = malloc(scales);
	return q->band && q->codes && q->scales ? SD_OK : sd_fail_memory(err);
}

/* The outgoing manifest: quantised records become two, others pass. */
static enum sd_result plan_records(struct sd_quant *q, const uint32_t *their, struct sd_error *err)
{
	struct sd_manifest *out = q->plan.manifest;

	for (size_t i = 0; i < q->in->nrecords; i++) {
		q->first[i] = (uint32_t)out->nrecords;
		q->plan.becomes[i] = their[i] ? SD_WORK : q->first[i];
		if (their[i] && q->kind != SD_QUANTISE_BLOCKS
			    ? !add_matrix(q->in, &q->in->targets[their[i] - 1], q, out)
		    : their[i] ? !add_quantised(q->in, &q->in->targets[their[i] - 1], q->scale_dtype, out)
			       : !sd_manifest_add_record(out, &q->in->records[i]))
			return sd_fail_memory(err);
	}
	for (size_t i = 0; i < q->in->ntargets; i++) {
		struct sd_target t = q->in->targets[i];

		if (their[t.record] == i + 1)
			continue;
		if (their[t.record])
			return sd_fail(err, SD_INPUT, "%s becomes two tensors: %s and %s", q->in->records[t.record].key,
				       q->in->targets[their[t.record] - 1].name, t.name);
		if (!sd_target_renumber(out, &t, q->first) || !sd_manifest_add_target(out, &t))
			return sd_fail_memory(err);
	}
	return sd_manifest_check(out, err);
}

/* ---- the data ---- */

/* Exactly length bytes of a record, over its extents. */
static enum sd_result take(struct sd_source *source, uint32_t record, struct sd_extent *extent, void *buffer,
			   uint64_t length, struct sd_error *err)
{
	while (length) {
		enum sd_result result = SD_OK;
		uint64_t n;

		if (!extent->length)
			result = sd_source_next(source, record, extent, err);
		n = extent->length < length ? extent->length : length;
		if (result == SD_OK)
			result = sd_extent_read(extent, buffer, n, err);
		if (result != SD_OK)
			return result;
		buffer = (char *)buffer + n;
		length -= n;
	}
	return SD_OK;
}

static enum sd_result give(struct sd_sink *sink, uint32_t record, const void *data, uint64_t length,
			   struct sd_error *err)
{
	struct sd_extent extent = {.memory = data, .length = length};

	return length ? sink->ops->data(sink, record, &extent, err) : SD_OK;
}

/* A matrix as compressed-tensors has it. */
static enum sd_result quantise_matrix(struct sd_quant *q, uint32_t record, struct sd_source *source,
				      struct sd_sink *sink, struct sd_error *err)
{
	const struct kind *kind = &KINDS[q->kind];
	const struct sd_record *r = &q->in->records[record];
	const struct weight w = measure(r);
	const uint64_t height = kind->whole ? w.rows : SD_QUANT_BLOCK;
	const uint64_t each = (kind->group ? w.columns / kind->group : 1) * sd_dtype_size(scale_dtype_of(q));
	struct sd_extent extent = {0};
	enum sd_result result = SD_OK;
	float global = 1;

	for (uint64_t row = 0; row < w.rows && result == SD_OK; row += height) {
		uint64_t rows = w.rows - row < height ? w.rows - row : height;

		result = take(source, record, &extent, q->band, rows * w.columns * sd_dtype_size(r->dtype), err);
		if (result == SD_OK && !sd_quantise_rows(q->kind, (enum sd_dtype)r->dtype, q->band, rows, w.columns,
							 q->scale_dtype, q->codes, q->scales + row * each, &global))
			result = sd_fail(err, SD_INPUT, "%s has an infinity or a NaN: it cannot be quantised", r->key);
		if (result == SD_OK)
			result = give(sink, q->first[record], q->codes, rows * w.columns / kind->packed, err);
	}
	if (result == SD_OK)
		result = sd_source_next(source, record, &extent, err);
	if (result == SD_OK && w.rows)
		result = give(sink, q->first[record] + 1, q->scales, kind->whole && !kind->group ? each : w.rows * each,
			      err);
	return result == SD_OK && w.rows && kind->global
		       ? give(sink, q->first[record] + 2, &global, sizeof(global), err)
		       : result;
}

static enum sd_result quantise(struct sd_worker *worker, uint32_t record, struct sd_source *source,
			       struct sd_sink *sink, struct sd_error *err)
{
	struct sd_quant *q = (struct sd_quant *)worker;
	const struct sd_record *r = &q->in->records[record];
	const uint64_t size = sd_dtype_size(r->dtype), scale_size = sd_dtype_size(q->scale_dtype);
	struct weight w = measure(r);
	/* Without elements there is nothing to do, however many bands there are. */
	uint64_t matrices = r->bytes ? w.matrices : 0;
	struct sd_extent extent = {0};
	uint64_t made = 0;

	if (q->kind != SD_QUANTISE_BLOCKS)
		return quantise_matrix(q, record, source, sink, err);
	for (uint64_t m = 0; m < matrices; m++)
		for (uint64_t row = 0; row < w.rows; row += SD_QUANT_BLOCK) {
			uint64_t rows = w.rows - row < SD_QUANT_BLOCK ? w.rows - row : SD_QUANT_BLOCK;
			enum sd_result result = take(source, record, &extent, q->band, rows * w.columns * size, err);

			if (result == SD_OK && !sd_quantise_band(r->dtype, q->band, rows, w.columns, q->scale_dtype,
								 q->codes, q->scales + made * scale_size))
				result = sd_fail(
					err, SD_INPUT,
					"%s has an infinity or a NaN in rows %llu to %llu: it cannot be quantised",
					r->key, (unsigned long long)row, (unsigned long long)(row + rows - 1));
			if (result == SD_OK)
				result = give(sink, q->first[record], q->codes, rows * w.columns, err);
			if (result != SD_OK)
				return result;
			made += w.blocks;
		}
	if (sd_source_next(source, record, &extent, err) != SD_OK)
		return err->result;
	return give(sink, q->first[record] + 1, q->scales, made * scale_size, err);
}

/* Loaders find scales beside matrices; those of all experts in one tensor not everywhere. */
static enum sd_result note_fused(struct sd_quant *q, const uint32_t *their, struct sd_error *err)
{
	const char *first = NULL;
	char more[32] = "";
	size_t n = 0;

	for (size_t i = 0; i < q->in->nrecords; i++)
		if (their[i] && q->in->records[i].rank > 2) {
			first = first ? first : q->in->targets[their[i] - 1].name;
			n++;
		}
	if (!n)
		return SD_OK;
	if (n > 1)
		snprintf(more, sizeof(more), " and %zu more", n - 1);
	q->note = sd_arena_printf(&q->plan.manifest->arena,
				  "%s%s: where there is no GPU, transformers takes the codes of such fused experts for "
				  "weights; one matrix for each expert loads everywhere",
				  first, more);
	return q->note ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_quant_plan(const struct sd_manifest *in, const struct sd_selection *choice, enum sd_quantiser kind,
			     enum sd_dtype scale_dtype, struct sd_quant *q, struct sd_error *err)
{
	uint32_t *their = calloc(in->nrecords + 1, sizeof(*their));
	enum sd_result result;

	*q = (struct sd_quant){.worker = {quantise}, .in = in, .kind = kind, .scale_dtype = scale_dtype};
	q->plan.manifest = sd_manifest_new();
	q->plan.becomes = malloc((in->nrecords + 1) * sizeof(*q->plan.becomes));
	q->first = malloc((in->nrecords + 1) * sizeof(*q->first));
	if (!their || !q->plan.manifest || !q->plan.becomes || !q->first ||
	    !sd_manifest_copy_head(q->plan.manifest, in))
		result = sd_fail_memory(err);
	else
		result = choose(in, choice, kind, their, err);
	if (result == SD_OK)
		result = plan_records(q, their, err);
	if (result == SD_OK)
		result = sd_companions_check(in, NULL, q->plan.manifest, q->first, err);
	if (result == SD_OK)
		result = make_room(q, their, err);
	if (result == SD_OK)
		result = sd_parts_keep(q->plan.manifest, in, err);
	if (result == SD_OK)
		result = note_fused(q, their, err);
	free(their);
	return result;
}

void sd_quant_free(struct sd_quant *q)
{
	sd_plan_free(&q->plan);
	free(q->first);
	free(q->band);
	free(q->codes);
	free(q->scales);
}
