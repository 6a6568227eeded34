/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors put together from boxes that lie in several places. */
#include "formats/assembly.h"
#include "base/checked.h"
#include "base/dtype.h"
#include "formats/interleave.h"
#include "model/companions.h"
#include "move/coverage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The box [begin, end) of a tensor. */
struct piece {
	uint32_t tensor, input;
	uint64_t data; /* offset in the input */
	uint64_t bytes;
	const uint64_t *begin, *end, *size;
	struct sd_made *made;
	const char *lack;
	bool left_out;
};

struct tensor {
	const char *name;
	uint64_t *shape;
	uint32_t rank;
	uint8_t dtype;
	bool told;      /* its shape does not follow from the pieces */
	bool joined;    /* it is read whole: a quantised weight, or a companion of one */
	uint32_t first; /* piece */
	size_t count, filled;
	struct piece **pieces; /* once all are there */
};

struct sd_assembly {
	struct sd_source *source;
	bool short_data;
	struct piece *pieces;
	size_t count, room;
	struct tensor *tensors;
	size_t ntensors, tensors_room;
	struct sd_names names; /* of tensors, to their numbers */
};

static const char *path_of(const struct sd_assembly *d, const struct piece *p)
{
	return sd_extents_at(d->source, p->input)->path;
}

const char *sd_box_text(const uint64_t *begin, const uint64_t *end, uint32_t rank, char text[SD_BOX_TEXT])
{
	size_t used = 1;

	text[0] = '[';
	for (uint32_t k = 0; k < rank && used < SD_BOX_TEXT; k++)
		used += (size_t)snprintf(text + used, SD_BOX_TEXT - used, "%s%" PRIu64 ":%" PRIu64, k ? ", " : "",
					 begin[k], end[k]);
	if (used < SD_BOX_TEXT)
		snprintf(text + used, SD_BOX_TEXT - used, "]");
	return text;
}

/* Whether a tensor has pieces: one that only a failed file had has none. */
static bool is_known(const struct sd_assembly *d, uint32_t number)
{
	uint32_t first = d->tensors[number].first;

	return first < d->count && d->pieces[first].tensor == number;
}

/* A tensor whose first piece comes next; number: its own, or that of a new one. */
static enum sd_result begin_tensor(struct sd_assembly *d, const struct sd_assembly_box *box, uint32_t number,
				   struct sd_error *err)
{
	struct sd_arena *arena = &d->source->manifest->arena;
	struct tensor made = {.name = sd_arena_text(arena, box->name, strlen(box->name)),
			      .shape = sd_arena_array(arena, box->rank + 1, sizeof(*made.shape)),
			      .rank = box->rank,
			      .dtype = box->dtype,
			      .told = box->whole,
			      .first = (uint32_t)d->count};

	if (!made.name || !made.shape ||
	    !sd_array_grow(&d->tensors, d->ntensors, &d->tensors_room, sizeof(*d->tensors)) ||
	    sd_names_add(&d->names, made.name, number) == SD_NO_NAME)
		return sd_fail_memory(err);
	if (box->whole && box->rank)
		memcpy(made.shape, box->whole, box->rank * sizeof(*made.shape));
	d->tensors[number] = made;
	d->ntensors += number == d->ntensors;
	return SD_OK;
}

/* The number of a box's tensor. */
static enum sd_result find_tensor(struct sd_assembly *d, const struct sd_assembly_box *box, uint32_t *number,
				  struct sd_error *err)
{
	const struct tensor *known;
	char a[SD_SHAPE_TEXT], b[SD_SHAPE_TEXT];

	*number = sd_names_find(&d->names, box->name);
	if (*number == SD_NO_NAME)
		*number = (uint32_t)d->ntensors;
	if (*number == d->ntensors || !is_known(d, *number))
		return begin_tensor(d, box, *number, err);
	known = &d->tensors[*number];
	if (known->rank == box->rank && known->dtype == box->dtype)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "%s: a piece of %s %s here, but one of %s %s in %s", box->name,
		       sd_dtype_name(box->dtype), sd_shape_text(box->size, box->rank, a, sizeof(a)),
		       sd_dtype_name(known->dtype),
		       sd_shape_text(d->pieces[known->first].size, known->rank, b, sizeof(b)),
		       path_of(d, &d->pieces[known->first]));
}

/* A told shape has to hold the piece. */
static enum sd_result check_inside(const struct tensor *t, const struct piece *p, struct sd_error *err)
{
	char text[SD_BOX_TEXT], shape[SD_SHAPE_TEXT];

	for (uint32_t k = 0; k < t->rank && t->told; k++)
		if (p->end[k] > t->shape[k])
			return sd_fail(err, SD_INPUT, "%s: the piece %s goes outside of the tensor, which is %s",
				       t->name, sd_box_text(p->begin, p->end, t->rank, text),
				       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)));
	return SD_OK;
}

enum sd_result sd_assembly_add(struct sd_assembly *d, const struct sd_assembly_box *box, struct sd_error *err)
{
	struct piece piece = {.input = box->input,
			      .data = box->offset,
			      .bytes = box->bytes,
			      .begin = box->begin,
			      .size = box->size,
			      .made = box->made,
			      .lack = box->lack};
	uint64_t *end = sd_arena_array(&d->source->manifest->arena, box->rank + 1, sizeof(*end));

	piece.end = end;
	if (!end || !sd_array_grow(&d->pieces, d->count, &d->room, sizeof(*d->pieces)))
		return sd_fail_memory(err);
	if (find_tensor(d, box, &piece.tensor, err) != SD_OK)
		return err->result;
	for (uint32_t k = 0; k < box->rank; k++)
		if (!sd_add(box->begin[k], box->size[k], &end[k]))
			return sd_fail(err, SD_INPUT,
				       "%s: a piece of %" PRIu64 " from %" PRIu64 " on is no possible one", box->name,
				       box->size[k], box->begin[k]);
	if (check_inside(&d->tensors[piece.tensor], &piece, err) != SD_OK)
		return err->result;
	d->pieces[d->count++] = piece;
	return SD_OK;
}

size_t sd_assembly_count(const struct sd_assembly *assembly)
{
	return assembly->count;
}

/* Tensors that have no box any more stay, and have none. */
void sd_assembly_cut(struct sd_assembly *assembly, size_t count)
{
	assembly->count = count;
}

/* ---- whole tensors ---- */

static int compare_numbers(const uint64_t *a, const uint64_t *b, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		if (a[k] != b[k])
			return a[k] < b[k] ? -1 : 1;
	return 0;
}

static int by_box(const void *a, const void *b, void *user)
{
	const struct piece *x = *(const struct piece *const *)a, *y = *(const struct piece *const *)b;
	uint32_t rank = *(const uint32_t *)user;
	int order = compare_numbers(x->begin, y->begin, rank);

	if (!order)
		order = compare_numbers(x->end, y->end, rank);
	return order ? order : (x > y) - (x < y);
}

/* Gathers the pieces of each tensor, and finds how large it is. pieces: room for all. */
static void group(struct sd_assembly *d, struct piece **pieces)
{
	for (size_t i = 0; i < d->count; i++)
		d->tensors[d->pieces[i].tensor].count++;
	for (size_t i = 0; i < d->ntensors; pieces += d->tensors[i++].count)
		d->tensors[i].pieces = pieces;
	for (size_t i = 0; i < d->count; i++) {
		struct piece *p = &d->pieces[i];
		struct tensor *t = &d->tensors[p->tensor];

		t->pieces[t->filled++] = p;
		for (uint32_t k = 0; k < t->rank; k++)
			t->shape[k] = p->end[k] > t->shape[k] && !t->told ? p->end[k] : t->shape[k];
	}
}

/* Of equal boxes the first is taken, if they have the same data. */
static enum sd_result leave_out_replicas(struct sd_assembly *d, struct tensor *t, struct sd_error *err)
{
	char box[SD_BOX_TEXT];
	size_t kept = 1;
	bool same;

	for (size_t i = 1; i < t->count; i++) {
		struct piece *first = t->pieces[kept - 1], *p = t->pieces[i];
		uint32_t inputs[] = {first->input, p->input};
		uint64_t places[] = {first->data, p->data};

		if (compare_numbers(first->begin, p->begin, t->rank) || compare_numbers(first->end, p->end, t->rank)) {
			t->pieces[kept++] = p;
			continue;
		}
		/* What is told twice is the same, and needs no look. */
		same = first->input == p->input && first->data == p->data;
		if (!same && sd_extents_same(d->source, inputs, places, p->bytes, &same, err) != SD_OK)
			return err->result;
		if (!same)
			return sd_fail(err, SD_INPUT, "%s %s differs between %s and %s", t->name,
				       sd_box_text(p->begin, p->end, t->rank, box), path_of(d, first), path_of(d, p));
		p->left_out = true;
	}
	t->count = kept;
	return SD_OK;
}

/* Pieces without elements say no more than how large the tensor is. One stays where that has none either. */
static void leave_out_empty(struct tensor *t)
{
	bool all = sd_shape_is_empty(t->shape, t->rank);
	size_t kept = 0;

	for (size_t i = 0; i < t->count; i++) {
		struct piece *p = t->pieces[i];

		p->left_out = p->bytes == 0 && (!all || kept);
		if (!p->left_out)
			t->pieces[kept++] = p;
	}
	t->count = kept;
}

static bool meets(const struct piece *p, const uint64_t *begin, const uint64_t *end, uint32_t rank)
{
	for (uint32_t k = 0; k < rank; k++)
		if (p->begin[k] >= end[k] || p->end[k] <= begin[k])
			return false;
	return true;
}

/* The box from an element that no piece has to where a piece begins: along the last dimension first. */
static void find_hole(const struct tensor *t, uint64_t element, uint64_t *begin, uint64_t *end)
{
	for (uint32_t k = t->rank; k-- > 0; element /= t->shape[k]) {
		begin[k] = element % t->shape[k];
		end[k] = begin[k] + 1;
	}
	for (uint32_t k = t->rank; k-- > 0;) {
		end[k] = t->shape[k];
		for (size_t i = 0; i < t->count; i++)
			if (meets(t->pieces[i], begin, end, t->rank))
				end[k] = t->pieces[i]->begin[k];
	}
}

static enum sd_result fail_cover(const struct sd_assembly *d, const struct tensor *t, enum sd_coverage cover,
				 const struct sd_coverage_fault *fault, struct sd_error *err)
{
	uint64_t begin[SD_RANK_MAX], end[SD_RANK_MAX];
	const struct piece *a = t->pieces[fault->first], *b = t->pieces[fault->second];
	char shape[SD_SHAPE_TEXT], x[SD_BOX_TEXT], y[SD_BOX_TEXT];

	if (cover == SD_COVERAGE_NOMEM)
		return sd_fail_memory(err);
	if (cover == SD_HOLE) {
		find_hole(t, fault->element, begin, end);
		return sd_fail(err, SD_INPUT, "%s %s is not whole: no file has %s of it; is a shard missing?", t->name,
			       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)),
			       sd_box_text(begin, end, t->rank, x));
	}
	if (cover == SD_OVERLAP)
		return sd_fail(err, SD_INPUT, "%s: %s in %s and %s in %s overlap: are they of two runs?", t->name,
			       sd_box_text(a->begin, a->end, t->rank, x), path_of(d, a),
			       sd_box_text(b->begin, b->end, t->rank, y), path_of(d, b));
	return sd_fail(err, SD_INPUT,
		       "%s is cut into its %zu pieces in too many ways for it to be sure that they fill it", t->name,
		       t->count);
}

/* The move of a piece to its place in the tensor. */
static bool move_of(const struct tensor *t, const struct piece *p, struct sd_move *move)
{
	if (!sd_move_slice(move, t->shape, t->rank, p->begin, p->size))
		return false;
	*move = sd_move_inverse(move);
	return true;
}

static enum sd_result check_cover(const struct sd_assembly *d, const struct tensor *t, struct sd_error *err)
{
	struct sd_move *moves = calloc(t->count, sizeof(*moves));
	const struct sd_move **each = calloc(t->count, sizeof(*each));
	struct sd_coverage_fault fault = {0};
	enum sd_coverage cover = SD_COVERAGE_NOMEM;
	uint64_t elements = 0;
	bool fits = sd_shape_count(t->shape, t->rank, &elements);

	for (size_t i = 0; i < t->count && moves && each && fits; i++) {
		fits = move_of(t, t->pieces[i], &moves[i]);
		each[i] = &moves[i];
	}
	if (moves && each && fits)
		cover = sd_coverage_check(each, t->count, elements, &fault);
	free(moves);
	free(each);
	if (!fits)
		return sd_fail(err, SD_INPUT, "%s is cut along more than %d dimensions", t->name, SD_MOVE_RANK);
	return cover == SD_COVERED ? SD_OK : fail_cover(d, t, cover, &fault, err);
}

static enum sd_result check_tensor(struct sd_assembly *d, struct tensor *t, const struct sd_names *whole,
				   struct sd_error *err)
{
	uint32_t record = sd_names_find(whole, t->name);
	char shape[SD_SHAPE_TEXT];
	uint64_t count, bytes;

	if (record != SD_NO_NAME)
		return sd_fail(err, SD_INPUT, "%s is a piece in %s, but whole in %s, which has no DCP_SHARDING_INFO",
			       t->name, path_of(d, t->pieces[0]),
			       sd_extents_at(d->source, sd_extents_input_of(d->source, record))->path);
	if (!sd_shape_count(t->shape, t->rank, &count) || !sd_dtype_bytes(t->dtype, count, &bytes))
		return sd_fail(err, SD_INPUT, "%s: its pieces go as far as %s of %s, which is no possible size",
			       t->name, sd_shape_text(t->shape, t->rank, shape, sizeof(shape)),
			       sd_dtype_name(t->dtype));
	qsort_r(t->pieces, t->count, sizeof(*t->pieces), by_box, &t->rank);
	leave_out_empty(t);
	if (leave_out_replicas(d, t, err) != SD_OK)
		return err->result;
	if (t->count > 1 && !sd_dtype_size(t->dtype))
		return sd_fail(err, SD_INPUT,
			       "%s: %s elements are smaller than a byte, and pieces of such are not read", t->name,
			       sd_dtype_name(t->dtype));
	return check_cover(d, t, err);
}

/* Whether the tensor is cut so that it is better made whole here. */
static bool interleaves(const struct sd_assembly *d, const struct tensor *t)
{
	uint32_t item = sd_dtype_size(t->dtype);

	if (d->short_data || t->count < 2 || (t->count > SD_INTERLEAVE_MOST && t->pieces[0]->made) || !item)
		return false;
	if (t->joined)
		return true;
	for (size_t i = 0; i < t->count; i++)
		if (sd_interleave_helps(t->shape, t->pieces[i]->size, t->rank, item))
			return true;
	return false;
}

/* All pieces of a tensor as one record. */
static enum sd_result emit_whole(struct sd_assembly *d, const struct tensor *t, struct sd_error *err)
{
	struct sd_arena *arena = &d->source->manifest->arena;
	struct sd_interleave *in = sd_arena_alloc(arena, sizeof(*in));
	struct sd_record record = {.key = t->name, .shape = t->shape, .rank = t->rank, .dtype = t->dtype};
	struct sd_target target = {.name = t->name, .shape = t->shape, .rank = t->rank, .dtype = t->dtype};
	struct sd_interleave_part *parts = sd_arena_array(arena, t->count, sizeof(*parts));

	if (!in || !parts)
		return sd_fail_memory(err);
	for (size_t i = 0; i < t->count; i++) {
		struct piece *p = t->pieces[i];

		parts[i] = (struct sd_interleave_part){.input = p->input,
						       .offset = p->data,
						       .bytes = p->bytes,
						       .begin = p->begin,
						       .size = p->size,
						       .made = p->made};
		record.bytes += p->bytes;
		record.lack = record.lack ? record.lack : p->lack;
		p->left_out = true;
	}
	record.state = SD_HERE;
	*in = (struct sd_interleave){.source = d->source,
				     .shape = t->shape,
				     .rank = t->rank,
				     .nparts = (uint32_t)t->count,
				     .parts = parts,
				     .bytes = record.bytes,
				     .item = sd_dtype_size(t->dtype)};
	sd_interleave_begin(in);
	return sd_extents_add_made(d->source, &record, &target, parts[0].input, parts[0].offset, &in->base, err);
}

static enum sd_result emit(struct sd_assembly *d, const struct piece *p, struct sd_error *err)
{
	const struct tensor *t = &d->tensors[p->tensor];
	struct sd_record record = {.key = t->name,
				   .shape = p->size,
				   .bytes = p->bytes,
				   .rank = t->rank,
				   .dtype = t->dtype,
				   .state = SD_HERE,
				   .lack = p->lack};
	struct sd_target target = {.name = t->name, .shape = t->shape, .rank = t->rank, .dtype = t->dtype};
	struct sd_move move;

	/* What has no place is noted as a lack, and shown as far as it goes. */
	if (!sd_shape_equal(t->shape, t->rank, p->size, t->rank)) {
		if (!move_of(t, p, &move))
			return SD_OK;
		target.move = sd_arena_copy(&d->source->manifest->arena, &move, sd_move_size(&move));
		if (!target.move)
			return sd_fail_memory(err);
	}
	if (p->made)
		return sd_extents_add_made(d->source, &record, &target, p->input, p->data, p->made, err);
	return sd_extents_add(d->source, &record, &target, p->input, p->data, err);
}

static enum sd_result emit_any(struct sd_assembly *d, const struct piece *p, struct sd_error *err)
{
	const struct tensor *t = &d->tensors[p->tensor];

	return interleaves(d, t) ? emit_whole(d, t, err) : emit(d, p, err);
}

/*
 * Marks what is stored with companions, and these: a weight is made of codes and scales by blocks, which a cut for
 * ranks does not look at.
 */
static enum sd_result mark_companions(struct sd_assembly *d, struct sd_error *err)
{
	struct sd_manifest *m = sd_manifest_new();
	struct sd_companions c = {0};
	enum sd_result result = m ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < d->ntensors && result == SD_OK; i++) {
		const struct tensor *t = &d->tensors[i];
		struct sd_record record = {
			.key = t->name, .shape = t->shape, .rank = t->rank, .dtype = t->dtype, .state = SD_HERE};

		if (!sd_manifest_add_record(m, &record))
			result = sd_fail_memory(err);
	}
	if (result == SD_OK)
		result = sd_companions_find(m, &c, err);
	for (size_t i = 0; i < d->ntensors && result == SD_OK && c.weight; i++)
		if (c.weight[i] != SD_NO_RECORD)
			d->tensors[i].joined = d->tensors[c.weight[i]].joined = true;
	sd_companions_free(&c);
	sd_manifest_free(m);
	return result;
}

/* Where data may be missing, that is noted, and all pieces are shown. */
static enum sd_result check_all(struct sd_assembly *d, const struct sd_names *whole, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < d->ntensors && result == SD_OK; i++) {
		if (!d->tensors[i].count)
			continue;
		result = check_tensor(d, &d->tensors[i], whole, err);
		if (result == SD_INPUT && !err->told && d->short_data) {
			struct sd_error lack = *err;

			result = sd_extents_lack(d->source, &lack, err);
		}
	}
	return result;
}

enum sd_result sd_assembly_finish(struct sd_assembly *assembly, const struct sd_names *whole, struct sd_error *err)
{
	struct piece **pieces = calloc(assembly->count + 1, sizeof(*pieces));
	enum sd_result result;

	if (!pieces)
		return sd_fail_memory(err);
	group(assembly, pieces);
	result = check_all(assembly, whole, err);
	if (result == SD_OK)
		result = mark_companions(assembly, err);
	for (size_t i = 0; i < assembly->count && result == SD_OK; i++)
		if (!assembly->pieces[i].left_out)
			result = emit_any(assembly, &assembly->pieces[i], err);
	free(pieces);
	return result;
}

void sd_assembly_free(struct sd_assembly *assembly)
{
	if (!assembly)
		return;
	free(assembly->pieces);
	free(assembly->tensors);
	sd_names_free(&assembly->names);
	free(assembly);
}

struct sd_assembly *sd_assembly_new(struct sd_source *source, bool short_data)
{
	struct sd_assembly *made = calloc(1, sizeof(*made));

	if (made) {
		made->source = source;
		made->short_data = short_data;
	}
	return made;
}
