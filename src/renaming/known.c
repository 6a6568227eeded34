/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map knows the words that names are made of. */
#include "renaming/known.h"
#include "renaming/experts.h"
#include "renaming/follow.h"
#include "base/advice.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMED_MAX 5
#define SPELLINGS_MAX 64 /* of one part of a pattern, by its choices */
#define SLIPS 3
#define ASKED_MAX 16 /* names with unknown words that are looked at where they may pass */

struct words {
	struct sd_names names;
	const char **at; /* all of them */
	size_t n, room;
	struct sd_arena *arena;
	bool memory;
};

/* A copy, in which a number behind a last _ is 0: words that count are all the same. */
static char *copy_word(struct words *w, const char *text, size_t length)
{
	char *word = sd_arena_text(w->arena, text, length), *last = word ? strrchr(word, '_') : NULL;

	w->memory = w->memory && word;
	if (last && last[1] && !last[1 + strspn(last + 1, "0123456789")])
		strcpy(last + 1, "0");
	return word;
}

static void add_word(struct words *w, const char *text, size_t length)
{
	char *word = copy_word(w, text, length);
	uint32_t number = word ? sd_names_add(&w->names, word, (uint32_t)w->n) : SD_NO_NAME;

	w->memory = w->memory && number != SD_NO_NAME;
	if (!w->memory || number != w->n)
		return;
	w->memory = sd_array_grow(&w->at, w->n, &w->room, sizeof(*w->at));
	if (w->memory)
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

static void end_part(struct words *w, struct part *part)
{
	for (size_t i = 0; i < part->n; i++)
		add_word(w, part->spelling[i], strlen(part->spelling[i]));
	begin_part(part);
}

/* Text behind all spellings; at each dot a part ends and another one begins. */
static void put_text(struct words *w, struct part *part, const char *text, size_t length)
{
	for (;;) {
		const char *dot = memchr(text, '.', length);
		size_t piece = dot ? (size_t)(dot - text) : length;

		for (size_t i = 0; i < part->n && piece; i++) {
			part->spelling[i] = sd_arena_printf(w->arena, "%s%.*s", part->spelling[i], (int)piece, text);
			w->memory = w->memory && part->spelling[i];
			if (!w->memory)
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
static void put_choice(struct words *w, struct part *part, const char *const *choice, size_t n)
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

static void read_pattern(struct words *w, const struct sd_planner *p, const struct sd_pattern *pattern,
			 const struct sd_map_holes *holes)
{
	struct part part;

	begin_part(&part);
	for (uint32_t i = 0; pattern->text && i < pattern->n && w->memory; i++) {
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

static void read_map(struct words *w, const struct sd_planner *p)
{
	const struct sd_map *map = p->map;

	for (uint32_t i = 0; i < map->nknown; i++)
		add_word(w, map->known[i], strlen(map->known[i]));
	for (uint32_t s = 0; s < map->nstages; s++)
		for (uint32_t i = 0; i < map->stages[s].nrules; i++)
			for (int side = LEFT; side <= RIGHT; side++) {
				const struct sd_rule *rule = &map->stages[s].rules[i];

				read_pattern(w, p, &rule->side[side].key, &rule->holes);
				if (rule->side[side].scale)
					read_pattern(w, p, &rule->side[side].scale->key, &rule->holes);
			}
}

/* Where the part of a name begins up to which another one has the same parts. */
static const char *skip_same(const char *name, const char *other)
{
	const char *part = name;

	for (size_t i = 0; name[i] && name[i] == other[i]; i++)
		part = name[i] == '.' ? name + i + 1 : part;
	return part;
}

/* The first part of a name that is no word, in the arena; NULL: there is none. known: a name of words, or "". */
static const char *find_unknown(struct words *w, const char *name, const char *known)
{
	for (const char *at = skip_same(name, known); w->memory; at += strcspn(at, ".") + 1) {
		size_t length = strcspn(at, ".");
		char *word = strspn(at, "0123456789") < length ? copy_word(w, at, length) : NULL;

		if (word && sd_names_find(&w->names, word) == SD_NO_NAME)
			return word;
		if (word)
			sd_arena_undo(w->arena, word);
		if (!at[length])
			return NULL;
	}
	return NULL;
}

static const char *nearest(const struct words *w, const char *word, unsigned slips)
{
	const char *best = NULL;
	unsigned third = (unsigned)strlen(word) / 3, distance = (third < slips ? third : slips) + 1;

	for (size_t i = 0; i < w->n && distance > 1; i++) {
		unsigned now = sd_text_distance(word, w->at[i], distance - 1);

		if (now < distance) {
			distance = now;
			best = w->at[i];
		}
	}
	return best;
}

/* Names with words that the map does not know, as far as they are told. */
struct strangers {
	size_t n;
	char text[1024];
	size_t used;
	bool near_only; /* those alone are told that are near a word */
};

static void add_stranger(struct strangers *s, const char *name, const char *near)
{
	if (s->n++ >= NAMED_MAX || s->used >= sizeof(s->text))
		return;
	s->used += (size_t)snprintf(s->text + s->used, sizeof(s->text) - s->used, "%s%s%s%s%s", s->n > 1 ? ", " : "",
				    name, near ? " (" : "", near ? near : "", near ? "?)" : "");
}

/* Whether it is said already that a name is odd. */
static bool is_told(const struct sd_planner *p, const char *name)
{
	for (size_t i = 0; i < p->findings.n; i++) {
		const struct sd_finding *f = &p->findings.at[i];
		size_t length = strlen(f->name);

		if (f->kind == SD_ODD_PREFIX || strcmp(f->name, name) == 0 ||
		    (f->kind == SD_ODD_TYPO && f->name[length - 1] == '.' && strncmp(f->name, name, length) == 0))
			return true;
	}
	return false;
}

static enum sd_result fail_untaken(struct sd_planner *p)
{
	struct strangers s = {.n = 0};

	for (size_t i = 0; i < p->ntensors; i++)
		if (!p->tensors[i].taken)
			add_stranger(&s, p->tensors[i].name, NULL);
	return s.n ? sd_fail(p->err, SD_INPUT, "no rule of map %s takes %zu of the keys: %s%s", p->map->name, s.n,
			     s.text, s.n > NAMED_MAX ? ", ..." : "")
		   : SD_OK;
}

/* Whether each name with this piece gets one that is not there yet once the piece is another one. */
static bool mends(struct sd_planner *p, const char *is, const char *meant)
{
	struct sd_names names = {0};
	bool yes = sd_names_reserve(&names, p->in->ntargets);

	for (size_t i = 0; i < p->in->ntargets && yes; i++)
		yes = sd_names_add(&names, p->in->targets[i].name, (uint32_t)i) != SD_NO_NAME;
	for (size_t i = 0; i < p->in->ntargets && yes; i++) {
		const char *name = p->in->targets[i].name, *at = strstr(name, is), *edited;

		if (!at)
			continue;
		edited = sd_arena_printf(&p->out->arena, "%.*s%s%s", (int)(at - name), name, meant, at + strlen(is));
		yes = edited && sd_names_find(&names, edited) == SD_NO_NAME;
	}
	sd_names_free(&names);
	return yes;
}

/* The edit of the part alone. */
static void advise_word(struct sd_planner *p, const char *name, const char *word, const char *near)
{
	const char *at = strstr(name, word), *end = at && at[strlen(word)] ? "." : "", *is, *meant;

	if (*p->rename->advised || !at || at == name)
		return;
	is = sd_arena_printf(&p->out->arena, ".%s%s", word, end);
	meant = sd_arena_printf(&p->out->arena, ".%s%s", near, end);
	if (is && meant && mends(p, is, meant))
		sd_planner_advise(p, sd_advice_edit(&p->out->arena, SD_ADVICE_PIECE, is, strlen(is), meant));
}

static void look_at(struct strangers *s, struct words *w, struct sd_planner *p)
{
	const char *known = "";
	size_t asked = 0;

	read_map(w, p);
	for (size_t i = 0; i < p->in->ntargets && w->memory; i++) {
		const char *name = p->in->targets[i].name, *word = find_unknown(w, name, known), *near;

		known = word ? known : name;
		if (!word || (!p->rename->strict && asked++ >= ASKED_MAX))
			continue;
		near = s->n < NAMED_MAX ? nearest(w, word, p->rename->strict ? SLIPS : SLIPS - 1) : NULL;
		/* What the map leaves out may be called as it likes. */
		if (!near && (s->near_only || sd_follow(p, name).dropped))
			continue;
		if (!p->rename->strict && (!near || is_told(p, name) || !sd_siblings_is_alone(p->in, name)))
			continue;
		add_stranger(s, name, near);
		if (near)
			advise_word(p, name, word, near);
	}
}

/* Whether what is wrong with the beginning of names says more: it is what is to be done, or no word is near. */
static bool blame_beginning(struct sd_planner *p)
{
	char word[sizeof(p->rename->advised)];

	memcpy(word, p->rename->advised, sizeof(word));
	return sd_planner_experts(p) != SD_OK && (!*word || strcmp(word, p->rename->advised) != 0);
}

/* Tells the names that have words which the map does not know. */
static enum sd_result tell_strangers(struct sd_planner *p, bool near_only)
{
	struct words w = {.arena = &p->out->arena, .memory = true};
	struct strangers s = {.near_only = near_only};
	const char *line;

	look_at(&s, &w, p);
	sd_names_free(&w.names);
	free(w.at);
	if (!w.memory)
		return sd_fail_memory(p->err);
	if (!s.n)
		return SD_OK;
	/* Where most names are strange, what stands in front of them may be so. */
	if (!near_only && p->rename->strict && 2 * s.n > p->in->ntargets && blame_beginning(p))
		return p->err->result;
	if (strcmp(p->map->layout[LEFT], p->map->layout[RIGHT]) == 0)
		line = sd_arena_printf(&p->out->arena, "%zu %s words that no map knows: %s%s", s.n,
				       s.n > 1 ? "keys have" : "key has", s.text, s.n > NAMED_MAX ? ", ..." : "");
	else
		line = sd_arena_printf(&p->out->arena, "%zu %s in no layout of map %s: %s%s", s.n,
				       s.n > 1 ? "keys are" : "key is", p->map->name, s.text,
				       s.n > NAMED_MAX ? ", ..." : "");
	return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
}

enum sd_result sd_planner_known(struct sd_planner *p)
{
	if (p->rename->all_taken || (p->rename->strict && !p->map->nknown))
		return fail_untaken(p);
	return p->map->nknown ? tell_strangers(p, false) : SD_OK;
}

enum sd_result sd_planner_blame(struct sd_planner *p)
{
	struct sd_error first = *p->err;

	if (first.result != SD_INPUT || !p->rename->strict || !p->map->nknown || tell_strangers(p, true) == SD_OK)
		*p->err = first;
	return p->err->result;
}
