/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: names with holes. */
#include "map/pattern.h"

#include <stdlib.h>
#include <string.h>

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

void sd_pattern_finish(struct sd_pattern *pattern, const struct sd_map_holes *holes)
{
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

static bool fits(enum sd_map_hole_kind kind, char c)
{
	return kind == HOLE_NUMBER ? c >= '0' && c <= '9' : kind == HOLE_WORD ? c != '.' : true;
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

	if (!may_match(pattern, name, length) || __builtin_mul_overflow(rows, columns + sizeof(*row), &bytes))
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
