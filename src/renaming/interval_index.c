/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pieces of a tensor by their places in it. Without them a tensor of many pieces that is split again is compared
 * piece by piece with each of its parts: of 100,000 experts, merged and split, that took most of the time.
 */
#include "renaming/interval_index.h"

#include <stdlib.h>

/* From the first to behind the last element. Moves have passed sd_move_check or are made of shapes that have a size. */
static uint64_t length(const struct sd_move *move, bool read)
{
	uint64_t last = 0;

	for (uint32_t k = 0; k < move->rank; k++) {
		if (move->dim[k].size == 0)
			return 0;
		last += (move->dim[k].size - 1) * (read ? move->dim[k].from : move->dim[k].to);
	}
	return last + 1;
}

static struct sd_planner_span span_of(const struct sd_move *move)
{
	if (!move)
		return (struct sd_planner_span){.end = UINT64_MAX};
	return (struct sd_planner_span){.begin = move->to, .end = move->to + length(move, false)};
}

static int by_begin(const void *a, const void *b)
{
	const struct sd_planner_span *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->piece < y->piece ? -1 : x->piece > y->piece;
}

static bool fill(struct sd_planner *p, const struct sd_planner_tensor *t, struct sd_planner_spans *spans)
{
	uint64_t reach = 0;

	for (uint32_t i = t->first; i != NONE; i = p->pieces[i].next)
		spans->n++;
	spans->at = sd_arena_array(&p->out->arena, spans->n, sizeof(*spans->at));
	if (!spans->at)
		return false;
	for (uint32_t i = t->first, n = 0; i != NONE; i = p->pieces[i].next, n++) {
		spans->at[n] = span_of(p->pieces[i].move);
		spans->at[n].piece = i;
	}
	qsort(spans->at, spans->n, sizeof(*spans->at), by_begin);
	for (size_t i = 0; i < spans->n; i++) {
		reach = spans->at[i].end > reach ? spans->at[i].end : reach;
		spans->at[i].reach = reach;
	}
	return true;
}

enum sd_result sd_intervals_begin(struct sd_planner *p, struct sd_planner_tensor *t, const struct sd_move *move,
				  struct sd_planner_overlap *overlap)
{
	size_t low = 0, high;

	*overlap = (struct sd_planner_overlap){.first = t->first};
	/* All pieces; those of an empty tensor have no places. */
	if (!move || t->first == t->last || sd_move_count(move) == 0)
		return SD_OK;
	if (!t->spans) {
		t->spans = sd_arena_alloc(&p->out->arena, sizeof(*t->spans));
		if (!t->spans || !fill(p, t, t->spans))
			return sd_fail_memory(p->err);
	}
	overlap->spans = t->spans;
	overlap->begin = move->from;
	overlap->end = move->from + length(move, true);
	for (high = t->spans->n; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (t->spans->at[middle].reach > overlap->begin)
			high = middle;
		else
			low = middle + 1;
	}
	overlap->next = low;
	return SD_OK;
}

uint32_t sd_intervals_next(const struct sd_planner *p, struct sd_planner_overlap *overlap)
{
	const struct sd_planner_spans *spans = overlap->spans;

	if (!spans) {
		uint32_t piece = overlap->first;

		if (piece != NONE)
			overlap->first = p->pieces[piece].next;
		return piece;
	}
	while (overlap->next < spans->n && spans->at[overlap->next].begin < overlap->end) {
		const struct sd_planner_span *span = &spans->at[overlap->next++];

		if (span->end > overlap->begin)
			return span->piece;
	}
	return NONE;
}
