/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map knows a name, by the places that it says and by the patterns of its rules. */
#include "renaming/places.h"
#include "renaming/follow.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADAPTER "base_model.model."
#define ENDS_MAX 8 /* ways to take a parameter from the end of a name */
#define FAR_MAX 4  /* words that are named where none is near */

/* Whether a text may stand in front: words for the parts of models, and layers with their numbers. */
static bool is_front(struct sd_places *k, const char *text, size_t length)
{
	bool counted = false;

	for (size_t at = 0, part; at < length; at += part + 1) {
		bool number;

		for (part = 0; at + part < length && text[at + part] != '.';)
			part++;
		number = part && strspn(text + at, "0123456789") >= part;
		if (number != counted || (!number && sd_words_find_unknown(&k->roots, text + at, part)))
			return false;
		counted = part == strlen("layers") && memcmp(text + at, "layers", part) == 0;
	}
	return !counted;
}

/* Whether the words in the holes that may be anything are known. */
static bool open_words_known(struct sd_places *k, const struct sd_pattern *pattern, const struct sd_map_holes *holes,
			     const struct sd_map_values *values)
{
	for (uint32_t i = 0; i < pattern->n; i++) {
		const struct sd_map_element *e = &pattern->elements[i];
		const struct sd_map_value *value = &values->value[e->number];

		if (e->kind != HOLE || holes->hole[e->number].kind != HOLE_ANY)
			continue;
		if (i ? sd_words_find_unknown(&k->words, value->text, value->length) != NULL
		      : !is_front(k, value->text, value->length))
			return false;
	}
	return true;
}

static bool ends_open(const struct sd_pattern *pattern, const struct sd_map_holes *holes)
{
	const struct sd_map_element *last = &pattern->elements[pattern->n - 1];

	return last->kind == HOLE && holes->hole[last->number].kind == HOLE_ANY;
}

static bool fits(struct sd_places *k, const struct sd_pattern *pattern, const struct sd_map_holes *holes,
		 const char *name, size_t length)
{
	struct sd_map_values values;

	if (k->closed && pattern->n > 1 && ends_open(pattern, holes))
		return false;
	return sd_pattern_match(pattern, holes, k->p->texts, name, length, &k->p->scratch, &values) &&
	       open_words_known(k, pattern, holes, &values);
}

static bool is_parameter(const struct sd_map *map, const char *text, size_t length)
{
	for (uint32_t i = 0; i < map->nparameters; i++)
		if (strlen(map->parameters[i]) == length && memcmp(map->parameters[i], text, length) == 0)
			return true;
	return false;
}

/* Whether a pattern says all words but for those in front, and more than a parameter. */
static bool is_definite(const struct sd_map *map, const struct sd_pattern *pattern, const struct sd_map_holes *holes)
{
	bool said = false;

	for (uint32_t i = 0; i < pattern->n; i++) {
		const struct sd_map_element *e = &pattern->elements[i];
		enum sd_map_hole_kind kind = e->kind == HOLE ? holes->hole[e->number].kind : HOLE_CHOICE;
		bool dot = e->kind == LITERAL && *e->text == '.';

		if (kind == HOLE_WORD || (kind == HOLE_ANY && i > 0))
			return false;
		if (e->kind == LITERAL)
			said = said || (e->length > 1 && !is_parameter(map, e->text + dot, e->length - dot));
		else
			said = said || (e->kind == HOLE && kind != HOLE_ANY);
	}
	return pattern->text && said;
}

/* Whether a rule has a pattern that knows the name for its own sake. */
static bool rule_knows(struct sd_places *k, const struct sd_rule *rule, const char *name,
		       const struct sd_map_fingerprint *print)
{
	const struct sd_map_side *side = &rule->side[k->p->from];

	if (rule->outcome[k->p->from] == NOT_READ || rule->outcome[k->p->from] == REFUSE)
		return false;
	for (int i = 0; i < 1 + !!side->scale; i++) {
		const struct sd_pattern *pattern = i ? &side->scale->key : &side->key;

		if (is_definite(k->p->map, pattern, &rule->holes) && sd_pattern_may_match(pattern, print) &&
		    fits(k, pattern, &rule->holes, name, strlen(name)))
			return true;
	}
	return false;
}

static bool look(void *user, const struct sd_rule *rule, const char *name)
{
	struct sd_map_fingerprint print = sd_pattern_print(name, strlen(name));

	return rule_knows(user, rule, name, &print);
}

/* Whether a rule knows the name, as it stands or as it is in front of a later stage. */
static bool rules_know(struct sd_places *k, const char *name)
{
	struct sd_map_fingerprint print = sd_pattern_print(name, strlen(name));
	const struct sd_map *map = k->p->map;

	for (uint32_t s = 0; s < map->nstages; s++)
		for (uint32_t i = 0; i < map->stages[s].nrules; i++)
			if (rule_knows(k, &map->stages[s].rules[i], name, &print))
				return true;
	return sd_follow_looking(k->p, name, &(struct sd_follow_look){look, k}).said;
}

/* Parameters that only adapters have. */
static bool is_of_adapter(const char *parameter)
{
	return strncmp(parameter, "lora_", 5) == 0 || strncmp(parameter, "base_layer", 10) == 0 ||
	       strncmp(parameter, "modules_to_save", 15) == 0;
}

/*
 * The lengths of a name without the parameter at its end: modules, the dot left out. continued: of those that begin
 * with a _, which go on behind the name of another parameter.
 */
static size_t find_ends(const struct sd_places *k, const char *name, bool adapter, bool continued,
			size_t ends[ENDS_MAX])
{
	const struct sd_map *map = k->p->map;
	size_t n = 0, length = strlen(name);

	for (uint32_t i = 0; i < map->nparameters && n < ENDS_MAX; i++) {
		const char *parameter = map->parameters[i];
		size_t own = strlen(parameter) + !continued;

		if ((*parameter == '_') != continued || own >= length || (is_of_adapter(parameter) && !adapter) ||
		    (!continued && name[length - own] != '.') ||
		    strcmp(name + length - own + !continued, parameter) != 0)
			continue;
		ends[n++] = length - own;
	}
	return n;
}

/* Whether a name fits a place of the map. */
static bool places_know(struct sd_places *k, const char *name)
{
	const struct sd_map *map = k->p->map;
	bool adapter = strncmp(name, ADAPTER, strlen(ADAPTER)) == 0;
	const char *rest = adapter ? name + strlen(ADAPTER) : name;
	size_t ends[2][ENDS_MAX], n[2];

	n[true] = find_ends(k, rest, adapter || k->adapter, false, ends[true]);
	n[false] = find_ends(k, rest, adapter || k->adapter, true, ends[false]);
	for (uint32_t i = 0; i < map->nplaces; i++) {
		const struct sd_map_place *place = &map->places[i];
		bool module = place->module[k->p->from];

		if (!module && fits(k, &place->key[k->p->from], &place->holes, rest, strlen(rest)))
			return true;
		for (size_t e = 0; e < n[module]; e++)
			if (fits(k, &place->key[k->p->from], &place->holes, rest, ends[module][e]))
				return true;
	}
	return false;
}

/* Whether a rule knows the weight that a name's parameter goes along with: "w.qweight" with "w.weight", "w_scale" with
 * "w". */
static bool rules_know_beside(struct sd_places *k, const char *name)
{
	size_t ends[ENDS_MAX], n;

	for (int continued = 0; continued < 2; continued++) {
		n = find_ends(k, name, k->adapter || strncmp(name, ADAPTER, strlen(ADAPTER)) == 0, continued, ends);
		for (size_t e = 0; e < n; e++) {
			char *made = sd_arena_printf(&k->p->out->arena, "%.*s%s", (int)ends[e], name,
						     continued ? "" : ".weight");

			k->failed = k->failed || !made;
			if (made && strcmp(made, name) != 0 && rules_know(k, made))
				return true;
		}
	}
	return false;
}

static bool know_anew(struct sd_places *k, const char *name)
{
	/* What the map leaves out only has to be made of words. */
	if (k->p->map->nplaces)
		return places_know(k, name) || rules_know(k, name) || rules_know_beside(k, name) ||
		       (sd_follow(k->p, name).dropped && !sd_words_find_unknown(&k->words, name, strlen(name)));
	return !sd_words_find_unknown(&k->words, name, strlen(name));
}

/* A name with "#" in the place of each number, in room; false where it does not fit. */
static bool write_form(const char *name, char *room, size_t size)
{
	size_t used = 0;

	while (*name) {
		size_t digits = strspn(name, "0123456789"), part = strcspn(name, ".");
		bool number = digits && digits == part;

		part += name[part] == '.';
		if (used + part >= size)
			return false;
		memcpy(room + used, number ? "#." : name, number ? part - digits + 1 : part);
		used += number ? part - digits + 1 : part;
		name += part;
	}
	room[used] = '\0';
	return true;
}

bool sd_places_know(struct sd_places *k, const char *name)
{
	char form[512], *kept;
	uint32_t known;

	if (!write_form(name, form, sizeof(form)))
		return know_anew(k, name);
	known = sd_names_find(&k->forms, form);
	if (known != SD_NO_NAME)
		return known;
	known = know_anew(k, name);
	kept = sd_arena_text(&k->p->out->arena, form, strlen(form));
	k->failed = k->failed || !kept || sd_names_add(&k->forms, kept, known) == SD_NO_NAME;
	return known;
}

const char *sd_places_form(struct sd_places *k, const char *name)
{
	char *form = sd_arena_alloc(&k->p->out->arena, strlen(name) + 1);

	k->failed = k->failed || !form;
	return form && write_form(name, form, strlen(name) + 1) ? form : name;
}

/* A name with another text in the place of length bytes at a part; in the arena. */
static char *replace(struct sd_places *k, const char *name, const char *part, size_t length, const char *text)
{
	char *made = sd_arena_printf(&k->p->out->arena, "%.*s%s%s", (int)(part - name), name, text, part + length);

	k->failed = k->failed || !made;
	return made;
}

/* The nearest word that makes the name one that the map knows and that is not there, in the place of the part. */
static void try_near(struct sd_places *k, const struct sd_names *there, const char *name, const char *part,
		     size_t length, unsigned *distance, struct sd_meant *meant)
{
	char *is = sd_arena_text(&k->p->out->arena, part, length);
	unsigned third = (unsigned)length / 3;

	k->failed = k->failed || !is;
	for (size_t i = 0; i < k->patterns.n && !k->failed; i++) {
		unsigned limit = (third < *distance ? third + 1 : *distance), now;
		char *made;

		if (limit < 2)
			return;
		now = sd_text_distance(is, k->patterns.at[i], limit - 1);
		if (now >= limit || now == 0)
			continue;
		made = replace(k, name, part, length, k->patterns.at[i]);
		if (!made || sd_names_find(there, made) != SD_NO_NAME || !know_anew(k, made))
			continue;
		*distance = now;
		*meant = (struct sd_meant){.word = is, .near = k->patterns.at[i], .text = k->patterns.at[i]};
	}
}

/* Words that make the name one that the map knows and that is not there, in the place of the part. */
static void try_far(struct sd_places *k, const struct sd_names *there, const char *name, const char *part,
		    size_t length, struct sd_meant *meant)
{
	const char *text = NULL;
	size_t n = 0;

	for (size_t i = 0; i < k->patterns.n && !k->failed && n <= FAR_MAX; i++) {
		char *made;

		if (is_parameter(k->p->map, k->patterns.at[i], strlen(k->patterns.at[i])))
			continue;
		made = replace(k, name, part, length, k->patterns.at[i]);
		if (!made || sd_names_find(there, made) != SD_NO_NAME || !know_anew(k, made))
			continue;
		n++;
		text = text ? sd_arena_printf(&k->p->out->arena, "%s or %s", text, k->patterns.at[i])
			    : k->patterns.at[i];
		k->failed = k->failed || !text;
	}
	if (n && n <= FAR_MAX)
		*meant = (struct sd_meant){.word = sd_arena_text(&k->p->out->arena, part, length), .text = text};
}

/* The name without the part, where that is not there. */
static void try_without(struct sd_places *k, const struct sd_names *there, const char *name, const char *part,
			size_t length, struct sd_meant *meant)
{
	char *made = part > name ? replace(k, name, part - 1, length + 1, "") : NULL;

	if (made && sd_names_find(there, made) == SD_NO_NAME && know_anew(k, made))
		*meant = (struct sd_meant){.text = made};
}

/* Of a map without places, or of an open end: the word that is none, and the nearest one. */
static struct sd_meant meant_word(struct sd_places *k, const char *name, unsigned slips)
{
	struct sd_meant meant = {.word = sd_words_find_unknown(&k->words, name, strlen(name))};

	if (meant.word)
		meant.near = sd_words_nearest(&k->words, meant.word, slips);
	meant.text = meant.near;
	return meant;
}

struct sd_meant sd_places_meant(struct sd_places *k, const struct sd_names *there, const char *name, unsigned slips,
				bool far)
{
	struct sd_meant meant = {.text = NULL};
	unsigned distance = slips + 1;

	if (!k->p->map->nplaces)
		return meant_word(k, name, slips);
	for (int way = 0; way < 3 && !meant.text && (far || way == 0); way++)
		for (size_t at = 0, length; name[at] && !k->failed; at += length + (name[at + length] == '.')) {
			length = strcspn(name + at, ".");
			/* Any word of a tower would do for another one. */
			k->closed = way > 0;
			if (way == 0)
				try_near(k, there, name, name + at, length, &distance, &meant);
			else if (way == 1 && !meant.text)
				try_without(k, there, name, name + at, length, &meant);
			else if (way == 2 && !meant.text)
				try_far(k, there, name, name + at, length, &meant);
		}
	k->closed = false;
	return meant;
}

/* Whether all names are of an adapter. */
static bool is_adapter(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if (!strstr(m->targets[i].name, "lora_"))
			return false;
	return m->ntargets > 0;
}

void sd_places_open(struct sd_places *k, struct sd_planner *p)
{
	*k = (struct sd_places){.p = p, .adapter = is_adapter(p->in)};
	k->words.arena = k->patterns.arena = &p->out->arena;
	k->roots.arena = &p->out->arena;
	sd_words_read_known(&k->words, p->map);
	sd_words_read_roots(&k->roots, p->map);
	sd_words_read_patterns(p->map->nplaces ? &k->patterns : &k->words, p);
	k->failed = k->words.failed || k->patterns.failed || k->roots.failed;
}

void sd_places_free(struct sd_places *k)
{
	sd_words_free(&k->words);
	sd_words_free(&k->patterns);
	sd_words_free(&k->roots);
	sd_names_free(&k->forms);
}
