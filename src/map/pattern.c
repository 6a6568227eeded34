/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: names with holes. */
#include "map/pattern.h"

#include <stdlib.h>
#include <string.h>

void sd_scratch_free(struct scratch *scratch)
{
	free(scratch->room);
	*scratch = (struct scratch){0};
}

static uint8_t *scratch_room(struct scratch *scratch, size_t rows, size_t columns)
{
	size_t bytes;
	uint8_t *room;

	if (__builtin_mul_overflow(rows, columns, &bytes) || scratch->size == SIZE_MAX)
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

static size_t word_length(const struct hole *hole, int side, uint32_t word)
{
	return strlen(hole->words[side][word]);
}

void sd_pattern_finish(struct pattern *pattern, const struct holes *holes)
{
	pattern->shortest = 0;
	pattern->middle = NULL;
	for (uint32_t i = 0; i < pattern->n; i++) {
		const struct element *e = &pattern->elements[i];

		if (e->kind == LITERAL) {
			pattern->shortest += e->length;
			if (!pattern->middle || e->length > pattern->middle->length)
				pattern->middle = e;
		} else if (e->kind == HOLE && holes->hole[e->number].kind <= HOLE_WORD) {
			pattern->shortest++;
		}
	}
}

bool sd_pattern_has(const struct pattern *pattern, uint32_t hole)
{
	for (uint32_t i = 0; i < pattern->n; i++)
		if (pattern->elements[i].kind == HOLE && pattern->elements[i].number == hole)
			return true;
	return false;
}

static bool same_hole(const struct hole *a, int a_side, const struct hole *b, int b_side)
{
	if (a->kind != b->kind || a->nwords != b->nwords || strcmp(a->name, b->name) != 0)
		return false;
	for (uint32_t i = 0; i < a->nwords; i++)
		if (strcmp(a->words[a_side][i], b->words[b_side][i]) != 0)
			return false;
	return true;
}

bool sd_pattern_same(const struct pattern *a, const struct holes *a_holes, const struct pattern *b,
		     const struct holes *b_holes)
{
	if (a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++) {
		const struct element *x = &a->elements[i], *y = &b->elements[i];

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
static bool may_match(const struct pattern *p, const char *name, size_t length)
{
	const struct element *first = p->elements, *last = p->elements + p->n - 1;

	if (length < p->shortest)
		return false;
	if (!p->n)
		return true;
	if (first->kind == LITERAL && memcmp(name, first->text, first->length) != 0)
		return false;
	if (last->kind == LITERAL && memcmp(name + length - last->length, last->text, last->length) != 0)
		return false;
	return !p->middle || p->middle == first || p->middle == last ||
	       memmem(name, length, p->middle->text, p->middle->length) != NULL;
}

static bool fits(enum hole_kind kind, char c)
{
	return kind == HOLE_NUMBER ? c >= '0' && c <= '9' : kind == HOLE_WORD ? c != '.' : true;
}

static bool stands_at(const char *name, size_t length, size_t at, const char *text, size_t n)
{
	return n <= length - at && memcmp(name + at, text, n) == 0;
}

/* One row of the table: from which places of the name the elements from e on match the rest, given that for those behind e. */
static void fill_row(const struct element *e, const struct holes *holes, int side, const char *const *texts, const char *name,
		     size_t length, uint8_t *row, const uint8_t *behind)
{
	const struct hole *hole = e->kind == HOLE ? &holes->hole[e->number] : NULL;
	const char *text = e->kind == TEXT ? texts[e->number] : e->text;
	size_t n = e->kind == LITERAL ? e->length : e->kind == TEXT ? strlen(text) : 0;
	bool inside = false; /* a hole that is open here can end further right */

	for (size_t at = length + 1; at-- > 0;) {
		row[at] = 0;
		if (!hole) {
			row[at] = stands_at(name, length, at, text, n) && behind[at + n];
		} else if (hole->kind == HOLE_CHOICE) {
			for (uint32_t w = 0; w < hole->nwords && !row[at]; w++) {
				n = word_length(hole, side, w);
				row[at] = stands_at(name, length, at, hole->words[side][w], n) && behind[at + n];
			}
		} else {
			inside = at < length && fits(hole->kind, name[at]) && (inside || behind[at + 1]);
			row[at] = inside || (hole->kind == HOLE_ANY && behind[at]);
		}
	}
}

/* What an element takes at this place, given that the rest can match. */
static size_t take(const struct element *e, const struct holes *holes, int side, const char *const *texts, const char *name,
		   size_t length, size_t at, const uint8_t *behind, struct values *values)
{
	const struct hole *hole;
	struct value *value;
	size_t end = at;

	if (e->kind == LITERAL)
		return e->length;
	if (e->kind == TEXT)
		return strlen(texts[e->number]);
	hole = &holes->hole[e->number];
	value = &values->value[e->number];
	*value = (struct value){.text = name + at};
	if (hole->kind == HOLE_CHOICE) {
		while (!stands_at(name, length, at, hole->words[side][value->word],
				  word_length(hole, side, value->word)) ||
		       !behind[at + word_length(hole, side, value->word)])
			value->word++;
		value->length = word_length(hole, side, value->word);
		return value->length;
	}
	while (end < length && fits(hole->kind, name[end]))
		end++;
	while (!behind[end])
		end--;
	value->length = end - at;
	return value->length;
}

bool sd_pattern_match(const struct pattern *pattern, const struct holes *holes, const char *const *texts, const char *name,
		      size_t length, struct scratch *scratch, struct values *values)
{
	size_t columns = length + 1, at = 0;
	uint8_t *table;

	if (!may_match(pattern, name, length))
		return false;
	table = scratch_room(scratch, (size_t)pattern->n + 1, columns);
	if (!table)
		return false;
	memset(table + pattern->n * columns, 0, length);
	table[pattern->n * columns + length] = 1;
	for (uint32_t i = pattern->n; i-- > 0;)
		fill_row(&pattern->elements[i], holes, pattern->side, texts, name, length, table + i * columns,
			 table + (i + 1) * columns);
	if (!table[0])
		return false;
	for (uint32_t i = 0; i < pattern->n; i++)
		at += take(&pattern->elements[i], holes, pattern->side, texts, name, length, at,
			   table + (i + 1) * columns, values);
	return true;
}

static const char *element_text(const struct pattern *p, const struct element *e, const struct holes *holes,
				const char *const *texts, const struct values *values, size_t *length)
{
	const struct value *value;
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

char *sd_pattern_fill(const struct pattern *pattern, const struct holes *holes, const char *const *texts,
		      const struct values *values, struct sd_arena *arena)
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
