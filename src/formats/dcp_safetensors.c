/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch's distributed checkpoints (DCP) in safetensors form. */
#include "formats/dcp_safetensors.h"
#include "base/checked.h"
#include "base/json.h"
#include "move/coverage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char info_key[] = "DCP_SHARDING_INFO", version_key[] = "DCP_VERSION", version[] = "1.0";

bool sd_dcp_claims(const struct sd_safetensors *header)
{
	return sd_safetensors_metadata(header, info_key) != NULL;
}

/* "shard-00001-" is what torch puts in front of the name that the file would have without ranks. */
bool sd_dcp_is_shard(const char *name, const char **rest)
{
	static const char word[] = "shard-";
	const char *p = name + strlen(word);

	if (strncmp(name, word, strlen(word)) != 0 || *p < '0' || *p > '9')
		return false;
	while (*p >= '0' && *p <= '9')
		p++;
	*rest = p + 1;
	return *p == '-';
}

/* ---- what a file says ---- */

struct info {
	const struct sd_safetensors *header;
	struct sd_names names; /* of the header's tensors, to their numbers */
	struct sd_arena *arena;
	const uint64_t **begin;
	const struct sd_tensor *tensor; /* that is being told of */
	uint64_t at[SD_RANK_MAX];
	uint32_t rank;
};

static enum sd_result fail_form(const struct info *in, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s%s%s: it must be {\"TENSOR\": {\"saved_offsets\": [NUMBER, ..]}, ..}",
		       in->tensor ? in->tensor->name : "", in->tensor ? ", " : "", info_key);
}

static enum sd_result begin_told(struct info *in, const struct sd_json_token *token, struct sd_error *err)
{
	char *name = sd_arena_text(in->arena, token->text, token->length);
	uint32_t number;

	if (!name)
		return sd_fail_memory(err);
	number = strlen(name) == token->length ? sd_names_find(&in->names, name) : SD_NO_NAME;
	if (number == SD_NO_NAME)
		return sd_fail(err, SD_INPUT, "%s tells of %s, which is not in this file", info_key, name);
	sd_arena_undo(in->arena, name);
	in->tensor = &in->header->tensors[number];
	if (in->begin[number])
		return sd_fail(err, SD_INPUT, "%s tells of %s twice", info_key, in->tensor->name);
	return SD_OK;
}

static enum sd_result end_told(struct info *in, struct sd_error *err)
{
	const struct sd_tensor *t = in->tensor;
	const uint64_t **begin = &in->begin[t - in->header->tensors];

	if (*begin)
		return fail_form(in, err);
	if (in->rank != t->rank)
		return sd_fail(err, SD_INPUT, "%s has %" PRIu32 " dimensions, but %" PRIu32 " saved_offsets", t->name,
			       t->rank, in->rank);
	*begin = sd_arena_copy(in->arena, in->at, in->rank * sizeof(*in->at));
	return *begin ? SD_OK : sd_fail_memory(err);
}

static enum sd_result take_offset(struct info *in, const struct sd_json_token *token, struct sd_error *err)
{
	if (in->rank == SD_RANK_MAX || !sd_json_integer(token, &in->at[in->rank]))
		return fail_form(in, err);
	in->rank++;
	return SD_OK;
}

static enum sd_result take(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct info *in = user;

	switch (token->depth) {
	case 0:
		if (token->kind == SD_JSON_OBJECT || token->kind == SD_JSON_OBJECT_END)
			return SD_OK;
		break;
	case 1:
		if (token->kind == SD_JSON_KEY)
			return begin_told(in, token, err);
		if (token->kind == SD_JSON_OBJECT)
			return SD_OK;
		if (token->kind == SD_JSON_OBJECT_END && in->begin[in->tensor - in->header->tensors])
			return SD_OK;
		break;
	case 2:
		if (token->kind == SD_JSON_KEY && sd_json_is(token, "saved_offsets"))
			return SD_OK;
		if (token->kind == SD_JSON_ARRAY) {
			in->rank = 0;
			return SD_OK;
		}
		if (token->kind == SD_JSON_ARRAY_END)
			return end_told(in, err);
		break;
	case 3:
		return take_offset(in, token, err);
	default:
		break;
	}
	return fail_form(in, err);
}

static enum sd_result parse(struct info *in, const char *text, struct sd_error *err)
{
	const struct sd_safetensors *header = in->header;
	enum sd_result result;

	for (size_t i = 0; i < header->ntensors; i++)
		if (sd_names_add(&in->names, header->tensors[i].name, (uint32_t)i) == SD_NO_NAME)
			return sd_fail_memory(err);
	result = sd_json_parse(text, strlen(text), take, in, err);
	for (size_t i = 0; i < header->ntensors && result == SD_OK; i++)
		if (!in->begin[i])
			result = sd_fail(err, SD_INPUT, "%s does not tell where %s begins", info_key,
					 header->tensors[i].name);
	return result;
}

enum sd_result sd_dcp_parse(const char *text, const struct sd_safetensors *header, struct sd_arena *arena,
			    const uint64_t **begin, struct sd_error *err)
{
	struct info in = {.header = header, .arena = arena, .begin = begin};
	enum sd_result result = parse(&in, text, err);

	sd_names_free(&in.names);
	return result;
}

/* ---- pieces ---- */

/* The box [begin, end) of a tensor. */
struct piece {
	uint32_t tensor, input;
	uint64_t data; /* offset in the input */
	uint64_t bytes;
	const uint64_t *begin, *end, *size;
	const char *lack;
	bool left_out;
};

struct tensor {
	const char *name;
	uint64_t *shape;
	uint32_t rank;
	uint8_t dtype;
	uint32_t first; /* piece */
	size_t count, filled;
	struct piece **pieces; /* once all are there */
};

struct dcp {
	struct sd_gather base;
	struct sd_source *source;
	bool short_data;
	struct piece *pieces; /* base.count of them */
	size_t room;
	struct tensor *tensors;
	size_t ntensors, tensors_room;
	struct sd_names names; /* of tensors, to their numbers */
};

static const char *path_of(const struct dcp *d, const struct piece *p)
{
	return sd_extents_at(d->source, p->input)->path;
}

#define BOX_TEXT 512

/* "[5:10, 0:8]" */
static const char *box_text(const uint64_t *begin, const uint64_t *end, uint32_t rank, char text[BOX_TEXT])
{
	size_t used = 1;

	text[0] = '[';
	for (uint32_t k = 0; k < rank && used < BOX_TEXT; k++)
		used += (size_t)snprintf(text + used, BOX_TEXT - used, "%s%" PRIu64 ":%" PRIu64, k ? ", " : "",
					 begin[k], end[k]);
	if (used < BOX_TEXT)
		snprintf(text + used, BOX_TEXT - used, "]");
	return text;
}

/* Whether a tensor has pieces: one that only a failed file had has none. */
static bool is_known(const struct dcp *d, uint32_t number)
{
	uint32_t first = d->tensors[number].first;

	return first < d->base.count && d->pieces[first].tensor == number;
}

/* A tensor whose first piece comes next; number: its own, or that of a new one. */
static enum sd_result begin_tensor(struct dcp *d, const struct sd_tensor *t, uint32_t number, struct sd_error *err)
{
	struct sd_arena *arena = &d->source->manifest->arena;
	struct tensor made = {.name = sd_arena_text(arena, t->name, strlen(t->name)),
			      .shape = sd_arena_array(arena, t->rank + 1, sizeof(*made.shape)),
			      .rank = t->rank,
			      .dtype = t->dtype,
			      .first = (uint32_t)d->base.count};

	if (!made.name || !made.shape ||
	    !sd_array_grow(&d->tensors, d->ntensors, &d->tensors_room, sizeof(*d->tensors)) ||
	    sd_names_add(&d->names, made.name, number) == SD_NO_NAME)
		return sd_fail_memory(err);
	d->tensors[number] = made;
	d->ntensors += number == d->ntensors;
	return SD_OK;
}

/* The number of a piece's tensor. */
static enum sd_result find_tensor(struct dcp *d, const struct sd_tensor *t, uint32_t *number, struct sd_error *err)
{
	const struct tensor *known;
	char a[SD_SHAPE_TEXT], b[SD_SHAPE_TEXT];

	*number = sd_names_find(&d->names, t->name);
	if (*number == SD_NO_NAME)
		*number = (uint32_t)d->ntensors;
	if (*number == d->ntensors || !is_known(d, *number))
		return begin_tensor(d, t, *number, err);
	known = &d->tensors[*number];
	if (known->rank == t->rank && known->dtype == t->dtype)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "%s: a piece of %s %s here, but one of %s %s in %s", t->name,
		       sd_dtype_name(t->dtype), sd_shape_text(t->shape, t->rank, a, sizeof(a)),
		       sd_dtype_name(known->dtype),
		       sd_shape_text(d->pieces[known->first].size, known->rank, b, sizeof(b)),
		       path_of(d, &d->pieces[known->first]));
}

static enum sd_result add_piece(struct dcp *d, const struct sd_header *h, const struct sd_tensor *t,
				const uint64_t *begin, struct sd_error *err)
{
	struct sd_arena *arena = &d->source->manifest->arena;
	struct piece piece = {
		.input = h->input, .data = h->data + t->begin, .bytes = t->end - t->begin, .begin = begin};
	uint64_t *end;

	if (h->chooser && !h->chooser->wants(h->chooser, t->name, &piece.lack))
		return SD_OK;
	end = sd_arena_array(arena, t->rank + 1, sizeof(*end));
	piece.size = sd_arena_copy(arena, t->shape, t->rank * sizeof(*t->shape));
	piece.end = end;
	if (!end || !piece.size || !sd_array_grow(&d->pieces, d->base.count, &d->room, sizeof(*d->pieces)))
		return sd_fail_memory(err);
	if (find_tensor(d, t, &piece.tensor, err) != SD_OK)
		return err->result;
	for (uint32_t k = 0; k < t->rank; k++)
		if (!sd_add(begin[k], t->shape[k], &end[k]))
			return sd_fail(err, SD_INPUT,
				       "%s: a piece of %" PRIu64 " from %" PRIu64 " on is no possible one", t->name,
				       t->shape[k], begin[k]);
	d->pieces[d->base.count++] = piece;
	return SD_OK;
}

/* A failure leaves no piece of the file. Tensors that only it has stay, and have none. */
static enum sd_result dcp_add(struct sd_gather *gather, const struct sd_header *h, struct sd_error *err)
{
	struct dcp *d = (struct dcp *)gather;
	const struct sd_safetensors *st = h->content;
	const char *said = sd_safetensors_metadata(st, version_key);
	const uint64_t **begin = calloc(st->ntensors + 1, sizeof(*begin));
	size_t before = d->base.count;
	enum sd_result result = begin ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK && said && strcmp(said, version) != 0)
		result = sd_fail(err, SD_INPUT, "%s %s of PyTorch DCP, of which only %s is known", version_key, said,
				 version);
	if (result == SD_OK)
		result = sd_dcp_parse(sd_safetensors_metadata(st, info_key), st, &d->source->manifest->arena, begin,
				      err);
	for (size_t i = 0; i < st->ntensors && result == SD_OK; i++)
		result = add_piece(d, h, &st->tensors[i], begin[i], err);
	free(begin);
	if (result != SD_OK)
		d->base.count = before;
	return result;
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
static void group(struct dcp *d, struct piece **pieces)
{
	for (size_t i = 0; i < d->base.count; i++)
		d->tensors[d->pieces[i].tensor].count++;
	for (size_t i = 0; i < d->ntensors; pieces += d->tensors[i++].count)
		d->tensors[i].pieces = pieces;
	for (size_t i = 0; i < d->base.count; i++) {
		struct piece *p = &d->pieces[i];
		struct tensor *t = &d->tensors[p->tensor];

		t->pieces[t->filled++] = p;
		for (uint32_t k = 0; k < t->rank; k++)
			t->shape[k] = p->end[k] > t->shape[k] ? p->end[k] : t->shape[k];
	}
}

/* Of equal boxes the first is taken, if they have the same data. */
static enum sd_result leave_out_replicas(struct dcp *d, struct tensor *t, struct sd_error *err)
{
	char box[BOX_TEXT];
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
		if (sd_extents_same(d->source, inputs, places, p->bytes, &same, err) != SD_OK)
			return err->result;
		if (!same)
			return sd_fail(err, SD_INPUT, "%s %s differs between %s and %s", t->name,
				       box_text(p->begin, p->end, t->rank, box), path_of(d, first), path_of(d, p));
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

static enum sd_result fail_cover(const struct dcp *d, const struct tensor *t, enum sd_coverage cover,
				 const struct sd_coverage_fault *fault, struct sd_error *err)
{
	uint64_t begin[SD_RANK_MAX], end[SD_RANK_MAX];
	const struct piece *a = t->pieces[fault->first], *b = t->pieces[fault->second];
	char shape[SD_SHAPE_TEXT], x[BOX_TEXT], y[BOX_TEXT];

	if (cover == SD_COVERAGE_NOMEM)
		return sd_fail_memory(err);
	if (cover == SD_HOLE) {
		find_hole(t, fault->element, begin, end);
		return sd_fail(err, SD_INPUT, "%s %s is not whole: no file has %s of it; is a shard missing?", t->name,
			       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)),
			       box_text(begin, end, t->rank, x));
	}
	if (cover == SD_OVERLAP)
		return sd_fail(err, SD_INPUT, "%s: %s in %s and %s in %s overlap: are they of two runs?", t->name,
			       box_text(a->begin, a->end, t->rank, x), path_of(d, a),
			       box_text(b->begin, b->end, t->rank, y), path_of(d, b));
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

static enum sd_result check_cover(const struct dcp *d, const struct tensor *t, struct sd_error *err)
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

static enum sd_result check_tensor(struct dcp *d, struct tensor *t, const struct sd_names *whole, struct sd_error *err)
{
	uint32_t record = sd_names_find(whole, t->name);
	char shape[SD_SHAPE_TEXT];
	uint64_t count, bytes;

	if (record != SD_NO_NAME)
		return sd_fail(err, SD_INPUT, "%s is a piece in %s, but whole in %s, which has no %s", t->name,
			       path_of(d, t->pieces[0]),
			       sd_extents_at(d->source, sd_extents_input_of(d->source, record))->path, info_key);
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

static enum sd_result emit(struct dcp *d, const struct piece *p, struct sd_error *err)
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
	return sd_extents_add(d->source, &record, &target, p->input, p->data, err);
}

/* Where data may be missing, that is noted, and all pieces are shown. */
static enum sd_result check_all(struct dcp *d, const struct sd_names *whole, struct sd_error *err)
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

static enum sd_result dcp_finish(struct sd_gather *gather, const struct sd_names *whole, struct sd_error *err)
{
	struct dcp *d = (struct dcp *)gather;
	struct piece **pieces = calloc(d->base.count + 1, sizeof(*pieces));
	enum sd_result result = SD_OK;

	if (!pieces)
		return sd_fail_memory(err);
	group(d, pieces);
	result = check_all(d, whole, err);
	for (size_t i = 0; i < d->base.count && result == SD_OK; i++)
		if (!d->pieces[i].left_out)
			result = emit(d, &d->pieces[i], err);
	free(pieces);
	return result;
}

static void dcp_free(struct sd_gather *gather)
{
	struct dcp *d = (struct dcp *)gather;

	free(d->pieces);
	free(d->tensors);
	sd_names_free(&d->names);
	free(d);
}

struct sd_gather *sd_dcp_gather(struct sd_source *source, const struct sd_limits *limits)
{
	struct dcp *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->base = (struct sd_gather){.add = dcp_add, .finish = dcp_finish, .free = dcp_free};
	d->source = source;
	d->short_data = limits->short_data;
	return &d->base;
}
