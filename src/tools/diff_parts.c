/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd-diff: tensors of one side that lie in a larger one of the other under another name: an expert in a stack, q in a
 * fused qkv. A row of the larger one that is the first row of a smaller one tells where to look.
 */
#include "flow/checksum.h"
#include "tools/diff.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROW_LEAST 16        /* bytes; shorter rows are too often the same */
#define ROW_MOST (8u << 20) /* bytes; of longer ones a window would be too large */
#define WINDOW (256u << 10) /* bytes that are read at a time, or one row */
#define TRIES 16            /* so many places are tried for each */

/* A tensor that is in one side only, and may be a part of one that is in the other. */
struct part {
	struct diff_pair *pair;
	const struct sd_listed *t;
	uint64_t row, sum; /* elements of a row, and the sum of the first one */
	unsigned tries;
	bool found;
};

struct parts {
	struct diff *diff;
	int side; /* of the small ones */
	struct part *at;
	size_t n;
	struct sd_checksum *sum;
	struct sd_view_cache cache;
};

static uint64_t last_dim(const struct sd_listed *t)
{
	return t->rank ? t->shape[t->rank - 1] : 1;
}

static bool is_loose(const struct diff_pair *p, int side)
{
	return p->status == (side ? DIFF_ADDED : DIFF_REMOVED) && p->tensor[side] != DIFF_NONE;
}

/* Whether tensors of this dtype have rows that can be looked for. */
static bool has_rows(const struct sd_listed *t, uint64_t row)
{
	unsigned size = sd_dtype_size((enum sd_dtype)t->dtype);

	return size && t->elements && row && row <= ROW_MOST / size && row * size >= ROW_LEAST;
}

static int order(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_row(const void *left, const void *right)
{
	const struct part *a = left, *b = right;
	int way = order(a->t->dtype, b->t->dtype);

	way = way ? way : order(a->row, b->row);
	way = way ? way : order(a->sum, b->sum);
	return way ? way : order((uintptr_t)a->pair, (uintptr_t)b->pair);
}

static uint64_t sum_of(struct parts *parts, const void *data, uint64_t bytes)
{
	sd_checksum_begin(parts->sum);
	sd_checksum_add(parts->sum, data, bytes);
	return sd_checksum_value(parts->sum);
}

/* ---- the small ones ---- */

static enum sd_result read_first_row(struct parts *parts, struct part *part, struct sd_error *err)
{
	const struct diff_side *side = &parts->diff->side[parts->side];
	uint64_t bytes = part->row * sd_dtype_size((enum sd_dtype)part->t->dtype);
	void *row = malloc(bytes);
	struct sd_view view = {0};
	enum sd_result result = row ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK)
		result = sd_view_make(&view, side->source, side->m, &side->listing, part->pair->tensor[parts->side],
				      NULL, err);
	if (result == SD_OK)
		result = sd_view_read(&view, &parts->cache, 0, part->row, row, err);
	if (result == SD_OK)
		part->sum = sum_of(parts, row, bytes);
	sd_view_free(&view);
	free(row);
	return result;
}

static enum sd_result gather(struct parts *parts, struct sd_error *err)
{
	struct diff *diff = parts->diff;
	enum sd_result result = SD_OK;

	parts->at = calloc(diff->npairs + 1, sizeof(*parts->at));
	if (!parts->at)
		return sd_fail_memory(err);
	for (size_t i = 0; i < diff->npairs && result == SD_OK; i++) {
		struct diff_pair *p = &diff->pairs[i];
		struct part part = {.pair = p, .t = diff_tensor(diff, p, parts->side)};

		if (!is_loose(p, parts->side) || !has_rows(part.t, last_dim(part.t)))
			continue;
		part.row = last_dim(part.t);
		result = read_first_row(parts, &part, err);
		parts->at[parts->n++] = part;
	}
	if (parts->n)
		qsort(parts->at, parts->n, sizeof(*parts->at), by_row);
	return result;
}

/* ---- a large one ---- */

/* "[3]", "[3,0:16]": where elements from begin on lie; false where they are no range of one dimension. */
static bool write_range(const struct sd_listed *t, uint64_t begin, uint64_t count, char *text, size_t size)
{
	uint64_t stride = t->elements, index = begin;
	size_t used = (size_t)snprintf(text, size, "[");

	for (uint32_t k = 0; k < t->rank && used < size; k++) {
		uint64_t at;

		stride /= t->shape[k];
		at = index / stride;
		index %= stride;
		if (count >= stride) {
			if (index || count % stride || at + count / stride > t->shape[k])
				return false;
			if (count == stride)
				snprintf(text + used, size - used, "%" PRIu64 "]", at);
			else
				snprintf(text + used, size - used, "%" PRIu64 ":%" PRIu64 "]", at, at + count / stride);
			return true;
		}
		used += (size_t)snprintf(text + used, size - used, "%" PRIu64 ",", at);
	}
	return false;
}

static enum sd_result tell(struct parts *parts, struct part *part, struct diff_pair *large, uint64_t begin,
			   struct sd_error *err)
{
	const struct sd_listed *t = diff_tensor(parts->diff, large, !parts->side);
	const char *small_name = parts->side ? "B" : "A", *large_name = parts->side ? "A" : "B";
	char text[SD_SHAPE_TEXT];

	part->found = true;
	part->pair->status = DIFF_PART;
	part->pair->tensor[!parts->side] = large->tensor[!parts->side];
	if (write_range(t, begin, part->t->elements, text, sizeof(text)))
		return diff_note(parts->diff, part->pair, err, "%s is %s%s", small_name, large_name, text);
	return diff_note(parts->diff, part->pair, err, "%s is the elements of %s from number %" PRIu64 " on",
			 small_name, large_name, begin);
}

/* Whether all of a small one lies there. */
static enum sd_result try_place(struct parts *parts, const struct part *part, const struct diff_pair *large,
				uint64_t begin, bool *same, struct sd_error *err)
{
	struct sd_move slice = sd_move_identity(part->t->elements);
	struct diff_task task = {.kind = DIFF_BYTES,
				 .tensor = {part->pair->tensor[parts->side], large->tensor[!parts->side]},
				 .then = {NULL, &slice},
				 .of = {parts->side, !parts->side}};
	enum sd_result result;

	slice.from = begin;
	result = diff_do(parts->diff, &task, 1, false, err);
	*same = !task.differ;
	return result;
}

/* The first of those that have this row, or parts->n. */
static size_t find_row(const struct parts *parts, uint8_t dtype, uint64_t row, uint64_t sum)
{
	const struct sd_listed t = {.dtype = dtype};
	const struct part key = {.t = &t, .row = row, .sum = sum};
	size_t low = 0, high = parts->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (by_row(&parts->at[middle], &key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A row of a large one, which begins with that element. */
static enum sd_result look_up(struct parts *parts, struct diff_pair *large, uint64_t row, uint64_t sum, uint64_t begin,
			      uint64_t *covered, struct sd_error *err)
{
	const struct sd_listed *t = diff_tensor(parts->diff, large, !parts->side);
	enum sd_result result = SD_OK;

	for (size_t i = find_row(parts, t->dtype, row, sum); i < parts->n && result == SD_OK; i++) {
		struct part *part = &parts->at[i];
		bool same;

		if (part->t->dtype != t->dtype || part->row != row || part->sum != sum)
			break;
		if (part->found || part->t->elements >= t->elements || part->t->elements > t->elements - begin ||
		    part->tries++ >= TRIES)
			continue;
		result = try_place(parts, part, large, begin, &same, err);
		if (result != SD_OK || !same)
			continue;
		*covered += part->t->elements;
		result = tell(parts, part, large, begin, err);
		break;
	}
	return result;
}

/* Looks at all rows of a large one. */
static enum sd_result scan(struct parts *parts, struct diff_pair *large, uint64_t row, uint64_t *covered,
			   struct sd_error *err)
{
	const struct diff_side *side = &parts->diff->side[!parts->side];
	const struct sd_listed *t = diff_tensor(parts->diff, large, !parts->side);
	uint64_t bytes = row * sd_dtype_size((enum sd_dtype)t->dtype);
	uint64_t step = bytes < WINDOW ? WINDOW / bytes : 1, rows = t->elements / row;
	unsigned char *memory = malloc(step * bytes);
	struct sd_view view = {0};
	enum sd_result result = memory ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK)
		result = sd_view_make(&view, side->source, side->m, &side->listing, large->tensor[!parts->side], NULL,
				      err);
	for (uint64_t at = 0; at < rows && result == SD_OK; at += step) {
		uint64_t n = rows - at < step ? rows - at : step;

		result = sd_view_read(&view, &parts->cache, at * row, n * row, memory, err);
		for (uint64_t i = 0; i < n && result == SD_OK; i++)
			result = look_up(parts, large, row, sum_of(parts, memory + i * bytes, bytes), (at + i) * row,
					 covered, err);
	}
	sd_view_free(&view);
	free(memory);
	return result;
}

/* Whether one of the small ones has such rows. Those of vectors are whole vectors. */
static bool is_wanted(const struct parts *parts, const struct sd_listed *large, uint64_t row)
{
	size_t i = find_row(parts, large->dtype, row, 0);

	return i < parts->n && parts->at[i].t->dtype == large->dtype && parts->at[i].row == row && has_rows(large, row);
}

static enum sd_result search(struct parts *parts, struct diff_pair *large, struct sd_error *err)
{
	const struct sd_listed *t = diff_tensor(parts->diff, large, !parts->side);
	uint64_t covered = 0, row = last_dim(t);
	enum sd_result result = SD_OK;

	if (t->rank > 1 && is_wanted(parts, t, row))
		result = scan(parts, large, row, &covered, err);
	for (size_t i = 0; i < parts->n && t->rank == 1 && result == SD_OK; i++) {
		const struct part *part = &parts->at[i];

		if (part->t->rank == 1 && part->row < t->elements && part->t->dtype == t->dtype &&
		    (!i || part[-1].row != part->row) && is_wanted(parts, t, part->row))
			result = scan(parts, large, part->row, &covered, err);
	}
	if (result != SD_OK || !covered)
		return result;
	if (covered < t->elements)
		return diff_note(parts->diff, large, err, "%" PRIu64 " of %" PRIu64 " elements are in %s", covered,
				 t->elements, parts->side ? "B" : "A");
	large->tensor[!parts->side] = DIFF_NONE;
	return SD_OK;
}

static enum sd_result find_in(struct diff *diff, int side, struct sd_error *err)
{
	struct parts parts = {.diff = diff, .side = side, .sum = sd_checksum_new()};
	enum sd_result result = parts.sum ? gather(&parts, err) : sd_fail_memory(err);

	for (size_t i = 0; i < diff->npairs && parts.n && result == SD_OK; i++)
		if (is_loose(&diff->pairs[i], !side))
			result = search(&parts, &diff->pairs[i], err);
	sd_view_cache_free(&parts.cache);
	sd_checksum_free(parts.sum);
	free(parts.at);
	return result;
}

enum sd_result diff_find_parts(struct diff *diff, struct sd_error *err)
{
	enum sd_result result = find_in(diff, 0, err);

	return result == SD_OK ? find_in(diff, 1, err) : result;
}
