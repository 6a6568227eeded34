/* SPDX-License-Identifier: Apache-2.0 */
/* How near a pattern comes to a name. */
#include "map/why.h"

#include <stdlib.h>
#include <string.h>

#define NOWHERE UINT32_MAX
#define EXPECTED_MAX 8

/*
 * One pass from left to right. score[i * columns + at]: the most letters of the pattern found on any way by which its
 * first i elements take the first at bytes of the name.
 */
struct near {
	const struct sd_pattern *pattern;
	const struct sd_map_holes *holes;
	const char *const *texts;
	const char *name;
	size_t length, columns;
	uint32_t *score;
	struct sd_arena *arena;
	uint32_t best; /* of all places where it does not go on */
	size_t position;
	const char *expected[EXPECTED_MAX]; /* there */
	size_t lengths[EXPECTED_MAX];
	size_t nexpected;
	bool any;
};

static void reach(struct near *n, uint32_t element, size_t at, uint32_t score)
{
	uint32_t *cell = &n->score[element * n->columns + at];

	if (*cell == NOWHERE || score > *cell)
		*cell = score;
}

/* It does not go on here: the best such place is kept, and all that could stand there. */
static void stop(struct near *n, size_t position, uint32_t score, const char *expected, size_t length)
{
	bool better = !n->any || score > n->best || (score == n->best && position > n->position);

	if (better) {
		n->nexpected = n->any && position == n->position ? n->nexpected : 0;
		n->best = score;
		n->position = position;
		n->any = true;
	}
	if (position != n->position || !length)
		return;
	for (size_t i = 0; i < n->nexpected; i++)
		if (n->lengths[i] == length && memcmp(n->expected[i], expected, length) == 0)
			return;
	if (n->nexpected == EXPECTED_MAX)
		return;
	n->expected[n->nexpected] = expected;
	n->lengths[n->nexpected++] = length;
}

/* A text, whole, which is worth so many letters, or the word of it that is another one. */
static void take_text(struct near *n, uint32_t element, size_t at, uint32_t score, const char *text, size_t length,
		      uint32_t worth)
{
	size_t same = 0, word;

	while (same < length && at + same < n->length && n->name[at + same] == text[same])
		same++;
	if (same == length) {
		reach(n, element + 1, at + length, score + worth);
		return;
	}
	word = same;
	while (word && text[word - 1] != '.')
		word--;
	stop(n, at + word, score + (uint32_t)same, text + word, length - word);
}

static bool fits(enum sd_map_hole_kind kind, char c)
{
	return kind == HOLE_NUMBER ? c >= '0' && c <= '9' : kind == HOLE_WORD ? c != '.' : true;
}

static void take_run(struct near *n, uint32_t element, size_t at, uint32_t score, enum sd_map_hole_kind kind)
{
	size_t end = at;

	if (kind == HOLE_ANY)
		reach(n, element + 1, at, score);
	while (end < n->length && fits(kind, n->name[end]))
		reach(n, element + 1, ++end, score);
	if (end == at && kind == HOLE_NUMBER)
		stop(n, at, score, "a number", strlen("a number"));
	else if (end == at && kind == HOLE_WORD)
		stop(n, at, score, "a word", strlen("a word"));
}

static void take_element(struct near *n, uint32_t number, size_t at, uint32_t score)
{
	const struct sd_map_element *e = &n->pattern->elements[number];
	const struct sd_map_hole *hole = e->kind == HOLE ? &n->holes->hole[e->number] : NULL;

	if (e->kind == LITERAL) {
		take_text(n, number, at, score, e->text, e->length, (uint32_t)e->length);
	} else if (e->kind == TEXT) {
		take_text(n, number, at, score, n->texts[e->number], strlen(n->texts[e->number]), 0);
	} else if (hole->kind == HOLE_CHOICE) {
		for (uint32_t w = 0; w < hole->nwords; w++) {
			const char *word = hole->words[n->pattern->side][w];

			take_text(n, number, at, score, word, strlen(word), *word != '\0');
		}
	} else {
		take_run(n, number, at, score, hole->kind);
	}
}

/* How many letters of the pattern, and how many bytes of the name, are found from the end on. */
struct tail {
	uint32_t score;
	size_t bytes;
};

/* A text that ends here; what there is of it may be the end of the way. */
static void lead_text(struct near *n, uint32_t element, size_t end, uint32_t score, const char *text, size_t length,
		      uint32_t worth, struct tail *tail)
{
	uint32_t found;
	size_t same = 0;

	while (same < length && same < end && n->name[end - same - 1] == text[length - same - 1])
		same++;
	found = score + (same < worth ? (uint32_t)same : worth);
	if (found > tail->score)
		*tail = (struct tail){found, n->length - end + same};
	if (same == length)
		reach(n, element, end - length, score + worth);
}

static void lead_element(struct near *n, uint32_t number, size_t end, uint32_t score, struct tail *tail)
{
	const struct sd_map_element *e = &n->pattern->elements[number];
	const struct sd_map_hole *hole = e->kind == HOLE ? &n->holes->hole[e->number] : NULL;

	if (e->kind == LITERAL) {
		lead_text(n, number, end, score, e->text, e->length, (uint32_t)e->length, tail);
	} else if (e->kind == TEXT) {
		lead_text(n, number, end, score, n->texts[e->number], strlen(n->texts[e->number]), 0, tail);
	} else if (hole->kind == HOLE_CHOICE) {
		for (uint32_t w = 0; w < hole->nwords; w++) {
			const char *word = hole->words[n->pattern->side][w];

			lead_text(n, number, end, score, word, strlen(word), *word != '\0', tail);
		}
	} else {
		if (hole->kind == HOLE_ANY)
			reach(n, number, end, score);
		for (size_t at = end; at && fits(hole->kind, n->name[at - 1]);)
			reach(n, number, --at, score);
	}
}

static struct tail find_tail(struct near *n, size_t cells)
{
	struct tail tail = {0};

	memset(n->score, 0xff, cells * sizeof(*n->score));
	n->score[n->pattern->n * n->columns + n->length] = 0;
	for (uint32_t i = n->pattern->n; i-- > 0;)
		for (size_t at = 0; at <= n->length; at++)
			if (n->score[(i + 1) * n->columns + at] != NOWHERE)
				lead_element(n, i, at, n->score[(i + 1) * n->columns + at], &tail);
	return tail;
}

size_t sd_pattern_letters(const struct sd_pattern *pattern)
{
	size_t letters = 0;

	for (uint32_t i = 0; i < pattern->n; i++)
		letters += pattern->elements[i].kind == LITERAL ? pattern->elements[i].length : 0;
	return letters;
}

/* The letters, and one for each choice: what a whole match is worth. */
static size_t whole_worth(const struct near *n)
{
	size_t worth = sd_pattern_letters(n->pattern);

	for (uint32_t i = 0; i < n->pattern->n; i++)
		worth += n->pattern->elements[i].kind == HOLE &&
			 n->holes->hole[n->pattern->elements[i].number].kind == HOLE_CHOICE;
	return worth;
}

/* What of pattern and name is found neither from the front nor from the end. */
static size_t count_missing(const struct near *n, struct tail tail)
{
	size_t letters = whole_worth(n), found = n->best + tail.score, seen = n->position + tail.bytes;

	return (found < letters ? letters - found : 0) + (seen < n->length ? n->length - seen : 0);
}

/* "model., language_model. or layers." */
static const char *join_expected(const struct near *n)
{
	const char *text = n->nexpected ? "" : "the end of the name";

	for (size_t i = 0; i < n->nexpected && text; i++)
		text = sd_arena_printf(n->arena, "%s%s%.*s", text,
				       !i                      ? ""
				       : i + 1 == n->nexpected ? " or "
							       : ", ",
				       (int)n->lengths[i], n->expected[i]);
	return text;
}

/* How much has to go from the front of the name. */
static size_t find_behind(const struct near *n, struct sd_map_scratch *scratch)
{
	struct sd_map_values ignored;

	for (const char *dot = strchr(n->name, '.'); dot; dot = strchr(dot + 1, '.'))
		if (sd_pattern_match(n->pattern, n->holes, n->texts, dot + 1, strlen(dot + 1), scratch, &ignored))
			return (size_t)(dot + 1 - n->name);
	return 0;
}

bool sd_pattern_near(const struct sd_pattern *pattern, const struct sd_map_holes *holes, const char *const *texts,
		     const char *name, struct sd_map_scratch *scratch, struct sd_arena *arena,
		     struct sd_map_near_miss *miss)
{
	struct near n = {.pattern = pattern,
			 .holes = holes,
			 .texts = texts,
			 .name = name,
			 .length = strlen(name),
			 .arena = arena};
	struct tail tail;
	size_t cells;

	n.columns = n.length + 1;
	if (__builtin_mul_overflow(n.columns, (size_t)pattern->n + 1, &cells))
		return false;
	n.score = calloc(cells, sizeof(*n.score));
	if (!n.score)
		return false;
	memset(n.score, 0xff, cells * sizeof(*n.score));
	n.score[0] = 0;
	for (uint32_t i = 0; i < pattern->n; i++)
		for (size_t at = 0; at <= n.length; at++)
			if (n.score[i * n.columns + at] != NOWHERE)
				take_element(&n, i, at, n.score[i * n.columns + at]);
	for (size_t at = 0; at < n.length; at++)
		if (n.score[pattern->n * n.columns + at] != NOWHERE)
			stop(&n, at, n.score[pattern->n * n.columns + at], "", 0);
	tail = find_tail(&n, cells);
	free(n.score);
	*miss = (struct sd_map_near_miss){.position = n.position,
					  .missing = count_missing(&n, tail),
					  .expected = join_expected(&n),
					  .behind = find_behind(&n, scratch)};
	return miss->expected && scratch->size != SIZE_MAX;
}
