/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: names with holes. */
#include "map/pattern.h"

#include <stdlib.h>
#include <string.h>

/* Ways in which choices may be tried with each other. */
#define TRIED_MAX 64

void sd_scratch_free(struct sd_map_scratch *scratch)
{
	free(scratch->room);
	*scratch = (struct sd_map_scratch){0};
}

static void *scratch_room(struct sd_map_scratch *scratch, size_t bytes)
{
	void *room;

	if (scratch->size == SIZE_MAX)
		return NULL;
	if (bytes > scratch->size) {
		room = realloc(scratch->room, bytes);
		if (!room) {
			scratch->size = SIZE_MAX;
			return NULL;
		}
		scratch->room = room;
		scratch->size = bytes;
	}
	return scratch->room;
}

static void add_print(struct sd_map_fingerprint *print, const char *text, size_t length)
{
	for (size_t i = 2; i < length; i++) {
		uint32_t hash = ((uint32_t)(unsigned char)text[i - 2] << 16 |
				 (uint32_t)(unsigned char)text[i - 1] << 8 | (uint32_t)(unsigned char)text[i]) *
					UINT32_C(2654435761) >>
				24;

		print->bits[hash / 64] |= UINT64_C(1) << hash % 64;
	}
}

struct sd_map_fingerprint sd_pattern_print(const char *name, size_t length)
{
	struct sd_map_fingerprint print = {0};

	add_print(&print, name, length);
	return print;
}

static bool fits(enum sd_map_hole_kind kind, char c)
{
	return kind == HOLE_NUMBER ? c >= '0' && c <= '9' : kind == HOLE_WORD ? c != '.' : true;
}

/* Whether one word of a choice begins with another one. */
static bool begins_alike(const struct sd_map_hole *hole, int side)
{
	for (uint32_t i = 0; i < hole->nwords; i++)
		for (uint32_t k = 0; k < hole->nwords; k++)
			if (i != k &&
			    strncmp(hole->words[side][i], hole->words[side][k], strlen(hole->words[side][k])) == 0)
				return true;
	return false;
}

/* Whether a hole ends where this stands behind it, whatever it holds. */
static bool ends_at(enum sd_map_hole_kind kind, const struct sd_map_element *next)
{
	return next->kind == LITERAL && next->length && !fits(kind, *next->text);
}

static bool begins_with_any(const struct sd_pattern *p, const struct sd_map_holes *holes)
{
	return p->n > 1 && p->elements->kind == HOLE && holes->hole[p->elements->number].kind == HOLE_ANY;
}

/* Whether numbers and words end where a letter stands that none of them has, what is anything stands at an end, and few
 * choices have to be tried with each other. */
static bool is_straight(const struct sd_pattern *p, const struct sd_map_holes *holes)
{
	uint64_t tried = 1;

	for (uint32_t i = 0; i < p->n; i++) {
		const struct sd_map_element *e = &p->elements[i], *next = i + 1 < p->n ? e + 1 : NULL;
		const struct sd_map_hole *hole = e->kind == HOLE ? &holes->hole[e->number] : NULL;

		if (!hole)
			continue;
		if (hole->kind == HOLE_CHOICE)
			tried *= tried <= TRIED_MAX && begins_alike(hole, p->side) ? hole->nwords : 1;
		else if (hole->kind == HOLE_ANY ? i && next : next && !ends_at(hole->kind, next))
			return false;
	}
	return tried <= TRIED_MAX;
}

void sd_pattern_finish(struct sd_pattern *pattern, const struct sd_map_holes *holes)
{
	pattern->straight = is_straight(pattern, holes);
	pattern->shortest = 0;
	pattern->print = (struct sd_map_fingerprint){0};
	for (uint32_t i = 0; i < pattern->n; i++) {
		const struct sd_map_element *e = &pattern->elements[i];

		if (e->kind == LITERAL) {
			pattern->shortest += e->length;
			add_print(&pattern->print, e->text, e->length);
		} else if (e->kind == HOLE && holes->hole[e->number].kind <= HOLE_WORD) {
			pattern->shortest++;
		}
	}
}

bool sd_pattern_has(const struct sd_pattern *pattern, uint32_t hole)
{
	for (uint32_t i = 0; i < pattern->n; i++)
		if (pattern->elements[i].kind == HOLE && pattern->elements[i].number == hole)
			return true;
	return false;
}

static bool same_hole(const struct sd_map_hole *a, int a_side, const struct sd_map_hole *b, int b_side)
{
	if (a->kind != b->kind || a->nwords != b->nwords || strcmp(a->name, b->name) != 0)
		return false;
	for (uint32_t i = 0; i < a->nwords; i++)
		if (strcmp(a->words[a_side][i], b->words[b_side][i]) != 0)
			return false;
	return true;
}

bool sd_pattern_same(const struct sd_pattern *a, const struct sd_map_holes *a_holes, const struct sd_pattern *b,
		     const struct sd_map_holes *b_holes)
{
	if (a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++) {
		const struct sd_map_element *x = &a->elements[i], *y = &b->elements[i];

		if (x->kind != y->kind)
			return false;
		if (x->kind == LITERAL && (x->length != y->length || memcmp(x->text, y->text, x->length) != 0))
			return false;
		if (x->kind == TEXT && x->number != y->number)
			return false;
		if (x->kind == HOLE &&
		    !same_hole(&a_holes->hole[x->number], a->side, &b_holes->hole[y->number], b->side))
			return false;
	}
	return true;
}

/* Turns most names away without looking closer. */
static bool may_match(const struct sd_pattern *p, const char *name, size_t length)
{
	const struct sd_map_element *first = p->elements, *last = p->elements + p->n - 1;

	if (length < p->shortest)
		return false;
	if (!p->n)
		return true;
	if (first->kind == LITERAL && memcmp(name, first->text, first->length) != 0)
		return false;
	return last->kind != LITERAL || memcmp(name + length - last->length, last->text, last->length) == 0;
}

static bool match_straight(const struct sd_pattern *p, const struct sd_map_holes *holes, const char *const *texts,
			   uint32_t element, const char *name, size_t length, size_t at, struct sd_map_values *values);

/* The first word of a choice with which the rest matches. */
static bool match_choice(const struct sd_pattern *p, const struct sd_map_holes *holes, const char *const *texts,
			 uint32_t element, const char *name, size_t length, size_t at, struct sd_map_values *values)
{
	uint32_t number = p->elements[element].number;
	const struct sd_map_hole *hole = &holes->hole[number];

	for (uint32_t w = 0; w < hole->nwords; w++) {
		const char *word = hole->words[p->side][w];
		size_t n = strlen(word);

		if (n > length - at || memcmp(name + at, word, n) != 0)
			continue;
		values->value[number] = (struct sd_map_value){name + at, n, w};
		if (match_straight(p, holes, texts, element + 1, name, length, at + n, values))
			return true;
	}
	return false;
}

/* From left to right, from an element and a place of the name on. */
static bool match_straight(const struct sd_pattern *p, const struct sd_map_holes *holes, const char *const *texts,
			   uint32_t element, const char *name, size_t length, size_t at, struct sd_map_values *values)
{
	for (; element < p->n; element++) {
		const struct sd_map_element *e = &p->elements[element];
		enum sd_map_hole_kind kind = e->kind == HOLE ? holes->hole[e->number].kind : HOLE_ANY;
		size_t end = at;

		if (kind == HOLE_CHOICE)
			return match_choice(p, holes, texts, element, name, length, at, values);
		if (e->kind != HOLE) {
			const char *text = e->kind == LITERAL ? e->text : texts[e->number];
			size_t n = e->kind == LITERAL ? e->length : strlen(text);

			if (n > length - at || memcmp(name + at, text, n) != 0)
				return false;
			at += n;
			continue;
		}
		while (end < length && fits(kind, name[end]))
			end++;
		if (end == at && kind != HOLE_ANY)
			return false;
		values->value[e->number] = (struct sd_map_value){name + at, end - at, 0};
		at = end;
	}
	return at == length;
}

/* The same where the pattern begins with a hole for anything, which takes as much as it can. */
static bool match_behind_any(const struct sd_pattern *p, const struct sd_map_holes *holes, const char *const *texts,
			     const char *name, size_t length, struct sd_map_values *values)
{
	const struct sd_map_element *next = p->elements + 1;

	for (size_t at = length - p->shortest + 1; at-- > 0;)
		if ((next->kind != LITERAL || name[at] == *next->text) &&
		    match_straight(p, holes, texts, 1, name, length, at, values)) {
			values->value[p->elements->number] = (struct sd_map_value){name, at, 0};
			return true;
		}
	return false;
}

/* From which places of the name an element and those behind it match the rest: at[first] to at[end - 1] say it, no
 * other does. */
struct row {
	uint8_t *at;
	size_t first, end;
};

static bool is_set(const struct row *row, size_t place)
{
	return place >= row->first && place < row->end && row->at[place];
}

/* Leaves no zeros at the two ends, so that later rows have less to look at. */
static void trim(struct row *row)
{
	while (row->first < row->end && !row->at[row->first])
		row->first++;
	while (row->first < row->end && !row->at[row->end - 1])
		row->end--;
}

/* Marks the places from which one of the words leads to a place behind it. */
static void fill_words(const char *const *words, uint32_t n, const char *name, struct row *row,
		       const struct row *behind)
{
	row->first = behind->end;
	row->end = 0;
	memset(row->at, 0, behind->end);
	for (uint32_t w = 0; w < n; w++) {
		size_t length = strlen(words[w]);

		for (size_t at = behind->first > length ? behind->first : length; at < behind->end; at++) {
			size_t begin = at - length;

			if (!behind->at[at] || memcmp(name + begin, words[w], length) != 0)
				continue;
			row->at[begin] = 1;
			row->first = begin < row->first ? begin : row->first;
			row->end = begin < row->end ? row->end : begin + 1;
		}
	}
	if (row->end == 0)
		row->first = 0;
}

/* The same for one text and one place behind it, as it mostly is. */
static void fill_literal(const struct sd_map_element *e, const char *name, struct row *row, size_t end)
{
	bool there = end >= e->length && memcmp(name + end - e->length, e->text, e->length) == 0;

	row->first = there ? end - e->length : end;
	row->end = row->first + there;
	row->at[row->first] = there;
}

/* The same for a hole of some kind of characters; from the right, because it can go on. */
static void fill_run(enum sd_map_hole_kind kind, const char *name, struct row *row, const struct row *behind)
{
	bool inside = false;

	row->first = row->end = behind->end - 1;
	if (kind == HOLE_ANY) {
		row->first = 0;
		row->end = behind->end;
		memset(row->at, 1, row->end);
		return;
	}
	while (row->first > 0 && (inside || row->first > behind->first - (behind->first > 0))) {
		size_t at = row->first - 1;

		inside = fits(kind, name[at]) && (inside || is_set(behind, at + 1));
		row->at[at] = inside;
		row->first = at;
	}
	trim(row);
}

static void fill_row(const struct sd_map_element *e, const struct sd_map_holes *holes, int side,
		     const char *const *texts, const char *name, struct row *row, const struct row *behind)
{
	const struct sd_map_hole *hole = e->kind == HOLE ? &holes->hole[e->number] : NULL;

	if (e->kind == LITERAL && behind->end - behind->first == 1)
		fill_literal(e, name, row, behind->first);
	else if (!hole)
		fill_words(e->kind == LITERAL ? &e->text : &texts[e->number], 1, name, row, behind);
	else if (hole->kind == HOLE_CHOICE)
		fill_words(hole->words[side], hole->nwords, name, row, behind);
	else
		fill_run(hole->kind, name, row, behind);
}

/* What an element takes at this place, given that the rest can match. */
static size_t take(const struct sd_map_element *e, const struct sd_map_holes *holes, int side, const char *const *texts,
		   const char *name, size_t length, size_t at, const struct row *behind, struct sd_map_values *values)
{
	const struct sd_map_hole *hole;
	struct sd_map_value *value;
	size_t end = at;

	if (e->kind == LITERAL)
		return e->length;
	if (e->kind == TEXT)
		return strlen(texts[e->number]);
	hole = &holes->hole[e->number];
	value = &values->value[e->number];
	*value = (struct sd_map_value){.text = name + at};
	if (hole->kind == HOLE_CHOICE) {
		for (;; value->word++) {
			value->length = strlen(hole->words[side][value->word]);
			if (value->length <= length - at && is_set(behind, at + value->length) &&
			    memcmp(name + at, hole->words[side][value->word], value->length) == 0)
				return value->length;
		}
	}
	while (end < length && fits(hole->kind, name[end]))
		end++;
	while (!is_set(behind, end))
		end--;
	value->length = end - at;
	return value->length;
}

bool sd_pattern_match(const struct sd_pattern *pattern, const struct sd_map_holes *holes, const char *const *texts,
		      const char *name, size_t length, struct sd_map_scratch *scratch, struct sd_map_values *values)
{
	size_t columns = length + 1, rows = (size_t)pattern->n + 1, bytes, at = 0;
	struct row *row;

	if (!may_match(pattern, name, length))
		return false;
	if (pattern->straight)
		return begins_with_any(pattern, holes)
			       ? match_behind_any(pattern, holes, texts, name, length, values)
			       : match_straight(pattern, holes, texts, 0, name, length, 0, values);
	if (__builtin_mul_overflow(rows, columns + sizeof(*row), &bytes))
		return false;
	row = scratch_room(scratch, bytes);
	if (!row)
		return false;
	for (uint32_t i = 0; i < rows; i++)
		row[i].at = (uint8_t *)(row + rows) + i * columns;
	row[pattern->n].first = length;
	row[pattern->n].end = length + 1;
	row[pattern->n].at[length] = 1;
	for (uint32_t i = pattern->n; i-- > 0;) {
		fill_row(&pattern->elements[i], holes, pattern->side, texts, name, &row[i], &row[i + 1]);
		if (row[i].first == row[i].end)
			return false;
	}
	if (!is_set(&row[0], 0))
		return false;
	for (uint32_t i = 0; i < pattern->n; i++)
		at += take(&pattern->elements[i], holes, pattern->side, texts, name, length, at, &row[i + 1], values);
	return true;
}

static const char *element_text(const struct sd_pattern *p, const struct sd_map_element *e,
				const struct sd_map_holes *holes, const char *const *texts,
				const struct sd_map_values *values, size_t *length)
{
	const struct sd_map_value *value;
	const char *text;

	switch (e->kind) {
	case LITERAL:
		*length = e->length;
		return e->text;
	case TEXT:
		text = texts[e->number];
		*length = strlen(text);
		return text;
	default:
		value = &values->value[e->number];
		if (holes->hole[e->number].kind == HOLE_CHOICE) {
			text = holes->hole[e->number].words[p->side][value->word];
			*length = strlen(text);
			return text;
		}
		*length = value->length;
		return value->text;
	}
}

char *sd_pattern_fill(const struct sd_pattern *pattern, const struct sd_map_holes *holes, const char *const *texts,
		      const struct sd_map_values *values, struct sd_arena *arena)
{
	size_t length = 0, used = 0, n;
	char *name;

	for (uint32_t i = 0; i < pattern->n; i++) {
		element_text(pattern, &pattern->elements[i], holes, texts, values, &n);
		length += n;
	}
	name = sd_arena_alloc(arena, length + 1);
	for (uint32_t i = 0; name && i < pattern->n; i++) {
		const char *text = element_text(pattern, &pattern->elements[i], holes, texts, values, &n);

		if (n)
			memcpy(name + used, text, n);
		used += n;
	}
	return name;
}
