/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff: which tensors belong together by their names, and what their data says. */
#include "base/names.h"
#include "base/text.h"
#include "tools/diff.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static bool add_pair(struct diff *diff, uint32_t a, uint32_t b, enum diff_status status)
{
	if (!sd_array_grow(&diff->pairs, diff->npairs, &diff->pairs_room, sizeof(*diff->pairs)))
		return false;
	diff->pairs[diff->npairs++] = (struct diff_pair){.tensor = {a, b}, .status = status};
	return true;
}

static enum diff_status status_of(const struct sd_listed *a, const struct sd_listed *b)
{
	if (!sd_shape_equal(a->shape, a->rank, b->shape, b->rank))
		return DIFF_SHAPE;
	return a->dtype == b->dtype ? DIFF_SAME : DIFF_DTYPE;
}

static int by_name(const void *left, const void *right, void *user)
{
	const struct diff *diff = user;
	const struct diff_pair *a = left, *b = right;
	int order = sd_text_natural(diff_name(diff, a), diff_name(diff, b));

	return order ? order : (a->tensor[0] == DIFF_NONE) - (b->tensor[0] == DIFF_NONE);
}

/* found: of each tensor of B, whether it is in A. */
static bool pair_names(struct diff *diff, struct sd_names *names, bool *found)
{
	const struct diff_side *a = &diff->side[0], *b = &diff->side[1];

	for (uint32_t i = 0; i < b->listing.n; i++)
		if (b->chosen[i] && sd_names_add(names, b->listing.tensors[i].name, i) == SD_NO_NAME)
			return false;
	for (uint32_t i = 0; i < a->listing.n; i++) {
		const struct sd_listed *t = &a->listing.tensors[i];
		uint32_t other = a->chosen[i] ? sd_names_find(names, t->name) : SD_NO_NAME;

		if (!a->chosen[i])
			continue;
		if (other != SD_NO_NAME)
			found[other] = true;
		if (!add_pair(diff, i, other,
			      other == SD_NO_NAME ? DIFF_REMOVED : status_of(t, &b->listing.tensors[other])))
			return false;
	}
	for (uint32_t i = 0; i < b->listing.n; i++)
		if (b->chosen[i] && !found[i] && !add_pair(diff, DIFF_NONE, i, DIFF_ADDED))
			return false;
	return true;
}

enum sd_result diff_pair_names(struct diff *diff, struct sd_error *err)
{
	struct sd_names names = {0};
	bool *found = calloc(diff->side[1].listing.n + 1, sizeof(*found));
	bool memory = found && pair_names(diff, &names, found);

	free(found);
	sd_names_free(&names);
	if (!memory)
		return sd_fail_memory(err);
	if (diff->npairs)
		qsort_r(diff->pairs, diff->npairs, sizeof(*diff->pairs), by_name, diff);
	return SD_OK;
}

/* ---- notes ---- */

enum sd_result diff_note(struct diff *diff, struct diff_pair *p, struct sd_error *err, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	p->note = p->note ? sd_arena_printf(&diff->arena, "%s; %s", p->note, text)
			  : sd_arena_printf(&diff->arena, "%s", text);
	return p->note ? SD_OK : sd_fail_memory(err);
}

static void index_text(const struct sd_listed *t, uint64_t i, char text[SD_SHAPE_TEXT])
{
	uint64_t index[SD_RANK_MAX + 1];
	uint32_t rank = t->rank;

	if (t->dtype == SD_C64) {
		index[rank] = i % 2;
		i /= 2;
	}
	for (uint32_t k = t->rank; k-- > 0;) {
		index[k] = i % t->shape[k];
		i /= t->shape[k];
	}
	sd_shape_brief(index, rank + (t->dtype == SD_C64), text, SD_SHAPE_TEXT);
}

void diff_write_index(FILE *out, const struct sd_listed *t, uint64_t i)
{
	char text[SD_SHAPE_TEXT];

	index_text(t, i, text);
	fputs(text, out);
}

static enum sd_result note_side(struct diff *diff, struct diff_pair *p, int side, struct sd_error *err)
{
	const struct sd_difference_side *d = &p->d.side[side], *other = &p->d.side[!side];
	const char *name = side ? "B" : "A";
	char text[SD_SHAPE_TEXT];
	enum sd_result result = SD_OK;

	if (d->zero && !other->zero)
		result = diff_note(diff, p, err, "%s is all 0", name);
	if (result == SD_OK && d->nans) {
		index_text(diff_tensor(diff, p, side), d->first_nan, text);
		result = diff_note(diff, p, err, "%s has %" PRIu64 " nan, first at %s", name, d->nans, text);
	}
	if (result == SD_OK && d->infinities != other->infinities)
		result = diff_note(diff, p, err, "%s has %" PRIu64 " inf", name, d->infinities);
	return result;
}

enum sd_result diff_settle(struct diff *diff, struct diff_pair *p, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	p->compared = p->compared || p->d.differ;
	if (p->d.differ && p->status == DIFF_SAME)
		p->status = DIFF_VALUES;
	if (p->status == DIFF_DTYPE && p->compared && !p->d.differ) {
		if (diff->opt->tolerance.cast)
			p->status = DIFF_SAME;
		result = diff_note(diff, p, err, "equal values");
	}
	for (int i = 0; i < 2 && result == SD_OK && p->d.differ; i++)
		result = note_side(diff, p, i, err);
	if (result == SD_OK && p->d.differ && p->d.max == 0 && p->d.dd == 0 && !p->d.side[0].nans && !p->d.side[1].nans)
		result = diff_note(diff, p, err, "only signs of 0");
	return result;
}

/* ---- data ---- */

static bool has_tolerance(const struct sd_tolerance *t)
{
	return t->by_abs || t->by_rel || t->by_steps || t->nan_equal;
}

static bool can_compare(const struct diff_pair *p)
{
	return p->status == DIFF_SAME || p->status == DIFF_DTYPE;
}

/* C64 are two numbers each: they are not compared with others. */
static bool is_of_numbers(const struct diff *diff, const struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);

	return sd_numbers_each((enum sd_dtype)a->dtype) == sd_numbers_each((enum sd_dtype)b->dtype);
}

static struct diff_task new_task(enum diff_kind kind, struct diff_pair *p)
{
	return (struct diff_task){.kind = kind, .tensor = {p->tensor[0], p->tensor[1]}, .of = {0, 1}, .user = p};
}

/* First which are the same bytes: that is quicker than to count. */
static enum sd_result compare_bytes(struct diff *diff, struct diff_task *tasks, struct sd_error *err)
{
	bool first = diff->opt->quiet && !has_tolerance(&diff->opt->tolerance);
	enum sd_result result;
	size_t n = 0;

	for (size_t i = 0; i < diff->npairs; i++)
		if (diff->pairs[i].status == DIFF_SAME)
			tasks[n++] = new_task(DIFF_BYTES, &diff->pairs[i]);
	result = diff_do(diff, tasks, n, first, err);
	for (size_t i = 0; i < n && result == SD_OK; i++) {
		struct diff_pair *p = tasks[i].user;

		/* So it is to be counted. */
		p->compared = tasks[i].differ;
		diff->differ = diff->differ || (first && tasks[i].differ);
	}
	return result;
}

static enum sd_result compare_numbers(struct diff *diff, struct diff_task *tasks, struct sd_error *err)
{
	enum sd_result result;
	size_t n = 0;

	for (size_t i = 0; i < diff->npairs; i++) {
		struct diff_pair *p = &diff->pairs[i];

		if (can_compare(p) && (p->compared || p->status == DIFF_DTYPE) && is_of_numbers(diff, p))
			tasks[n++] = new_task(DIFF_NUMBERS, p);
	}
	result = diff_do(diff, tasks, n, diff->opt->quiet, err);
	for (size_t i = 0; i < n && result == SD_OK; i++) {
		struct diff_pair *p = tasks[i].user;

		p->d = tasks[i].d;
		p->compared = true;
		result = diff_settle(diff, p, err);
		if (result == SD_OK && diff->opt->count && p->d.differ)
			result = diff_list(diff, p, err);
	}
	return result;
}

/* With -q a name, a shape or a dtype tells already. */
static bool is_known(const struct diff *diff)
{
	for (size_t i = 0; i < diff->npairs && diff->opt->quiet; i++)
		if (diff->pairs[i].status > DIFF_DTYPE ||
		    (diff->pairs[i].status == DIFF_DTYPE && !diff->opt->tolerance.cast))
			return true;
	return false;
}

static enum sd_result compare_any_order(struct diff *diff, struct sd_error *err)
{
	struct diff_task *tasks = calloc(diff->npairs + 1, sizeof(*tasks));
	enum sd_result result = tasks ? compare_bytes(diff, tasks, err) : sd_fail_memory(err);

	if (result == SD_OK && !diff->differ)
		result = compare_numbers(diff, tasks, err);
	free(tasks);
	return result;
}

enum sd_result diff_compare_data(struct diff *diff, struct sd_error *err)
{
	if (is_known(diff)) {
		diff->differ = true;
		return SD_OK;
	}
	if (diff->side[0].random && diff->side[1].random)
		return compare_any_order(diff, err);
	return diff_compare_flow(diff, err);
}
