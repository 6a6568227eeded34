/* SPDX-License-Identifier: Apache-2.0 */
/* The words that the names of a map are made of: texts between dots. */
#include "renaming/words.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define SPELLINGS_MAX 64 /* of one part of a pattern, by its choices */

/* A copy, in which a number behind a last _ is 0: words that count are all the same. */
static char *copy_word(struct sd_words *w, const char *text, size_t length)
{
	char *word = sd_arena_text(w->arena, text, length), *last = word ? strrchr(word, '_') : NULL;

	w->failed = w->failed || !word;
	if (last && last[1] && !last[1 + strspn(last + 1, "0123456789")])
		strcpy(last + 1, "0");
	return word;
}

static void add_word(struct sd_words *w, const char *text, size_t length)
{
	char *word = copy_word(w, text, length);
	uint32_t number = word ? sd_names_add(&w->names, word, (uint32_t)w->n) : SD_NO_NAME;

	w->failed = w->failed || number == SD_NO_NAME;
	if (w->failed || number != w->n)
		return;
	w->failed = !sd_array_grow(&w->at, w->n, &w->room, sizeof(*w->at));
	if (!w->failed)
		w->at[w->n++] = word;
}

/* One part of a pattern, between dots, as it is being read: all that it may be so far. */
struct part {
	const char *spelling[SPELLINGS_MAX];
	size_t n; /* 0: it has a hole that may be anything, or too many choices */
};

static void begin_part(struct part *part)
{
	part->spelling[0] = "";
	part->n = 1;
}

static void end_part(struct sd_words *w, struct part *part)
{
	for (size_t i = 0; i < part->n; i++)
		add_word(w, part->spelling[i], strlen(part->spelling[i]));
	begin_part(part);
}

/* Text behind all spellings; at each dot a part ends and another one begins. */
static void put_text(struct sd_words *w, struct part *part, const char *text, size_t length)
{
	for (;;) {
		const char *dot = memchr(text, '.', length);
		size_t piece = dot ? (size_t)(dot - text) : length;

		for (size_t i = 0; i < part->n && piece; i++) {
			part->spelling[i] = sd_arena_printf(w->arena, "%s%.*s", part->spelling[i], (int)piece, text);
			w->failed = w->failed || !part->spelling[i];
			if (w->failed)
				part->n = 0;
		}
		if (!dot)
			return;
		end_part(w, part);
		text += piece + 1;
		length -= piece + 1;
	}
}

/* A choice: each spelling goes on with each of the words. What a word with dots goes on with is not known then. */
static void put_choice(struct sd_words *w, struct part *part, const char *const *choice, size_t n)
{
	struct part made = {.n = 0};
	bool fits = true;

	for (size_t i = 0; i < n; i++) {
		struct part one = *part;

		put_text(w, &one, choice[i], strlen(choice[i]));
		for (size_t k = 0; k < one.n; k++) {
			fits = fits && made.n < SPELLINGS_MAX;
			if (fits)
				made.spelling[made.n++] = one.spelling[k];
		}
	}
	if (!fits)
		made.n = 0;
	*part = made;
}

static void read_pattern(struct sd_words *w, const struct sd_planner *p, const struct sd_pattern *pattern,
			 const struct sd_map_holes *holes)
{
	struct part part;

	begin_part(&part);
	for (uint32_t i = 0; pattern->text && i < pattern->n && !w->failed; i++) {
		const struct sd_map_element *e = &pattern->elements[i];
		const struct sd_map_hole *hole = e->kind == HOLE ? &holes->hole[e->number] : NULL;

		if (e->kind == LITERAL)
			put_text(w, &part, e->text, e->length);
		else if (e->kind == TEXT)
			put_text(w, &part, p->texts[e->number], strlen(p->texts[e->number]));
		else if (hole->kind == HOLE_CHOICE)
			put_choice(w, &part, hole->words[pattern->side == RIGHT], hole->nwords);
		else
			part.n = 0;
	}
	if (pattern->text)
		end_part(w, &part);
}

/* The words of a text with dots. */
static void add_words(struct sd_words *w, const char *text)
{
	for (size_t length; *text; text += length + (text[length] == '.')) {
		length = strcspn(text, ".");
		add_word(w, text, length);
	}
}

void sd_words_read_known(struct sd_words *w, const struct sd_map *map)
{
	for (uint32_t i = 0; i < map->nknown; i++)
		add_word(w, map->known[i], strlen(map->known[i]));
	for (uint32_t i = 0; i < map->nroots; i++)
		add_word(w, map->roots[i], strlen(map->roots[i]));
	for (uint32_t i = 0; i < map->nparameters; i++)
		add_words(w, map->parameters[i]);
}

void sd_words_read_roots(struct sd_words *w, const struct sd_map *map)
{
	for (uint32_t i = 0; i < map->nroots; i++)
		add_word(w, map->roots[i], strlen(map->roots[i]));
}

void sd_words_read_patterns(struct sd_words *w, const struct sd_planner *p)
{
	const struct sd_map *map = p->map;

	for (uint32_t i = 0; i < map->nparameters; i++)
		add_words(w, map->parameters[i]);
	for (uint32_t i = 0; i < map->nplaces; i++)
		for (int side = LEFT; side <= RIGHT; side++)
			read_pattern(w, p, &map->places[i].key[side], &map->places[i].holes);
	for (uint32_t s = 0; s < map->nstages; s++)
		for (uint32_t i = 0; i < map->stages[s].nrules; i++)
			for (int side = LEFT; side <= RIGHT; side++) {
				const struct sd_rule *rule = &map->stages[s].rules[i];

				read_pattern(w, p, &rule->side[side].key, &rule->holes);
				if (rule->side[side].scale)
					read_pattern(w, p, &rule->side[side].scale->key, &rule->holes);
			}
}

char *sd_words_find_unknown(struct sd_words *w, const char *name, size_t length)
{
	for (size_t at = 0, part; at < length && !w->failed; at += part + 1) {
		char *word;

		for (part = 0; at + part < length && name[at + part] != '.';)
			part++;
		if (strspn(name + at, "0123456789") >= part)
			continue;
		word = copy_word(w, name + at, part);
		if (word && sd_names_find(&w->names, word) == SD_NO_NAME)
			return word;
		if (word)
			sd_arena_undo(w->arena, word);
	}
	return NULL;
}

const char *sd_words_nearest(const struct sd_words *words, const char *text, unsigned slips)
{
	const char *best = NULL;
	unsigned third = (unsigned)strlen(text) / 3, distance = (third < slips ? third : slips) + 1;

	for (size_t i = 0; i < words->n && distance > 1; i++) {
		unsigned now = sd_text_distance(text, words->at[i], distance - 1);

		if (now < distance) {
			distance = now;
			best = words->at[i];
		}
	}
	return best;
}

void sd_words_free(struct sd_words *words)
{
	sd_names_free(&words->names);
	free(words->at);
	*words = (struct sd_words){.arena = words->arena};
}
