/* SPDX-License-Identifier: Apache-2.0 */
/* Which names a map knows: all those of the golden cases, in the layout that they are of, and none in which a word of
 * another family stands in the place of one. */
#include "base/json.h"
#include "formats/open.h"
#include "flow/source.h"
#include "map/compiled.h"
#include "renaming/follow.h"
#include "renaming/places.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CASES_MAX 512
#define DEFINES_MAX 8
#define NAME 512

/* The maps of the source tree, whose texts live until the test ends. */
struct shelf {
	struct sd_map_library base;
	struct sd_arena arena;
};

/* A golden case: case.json, and what is opened of it. */
struct golden {
	char map[64], to[16], name[128];
	bool ep, error, odd;
	char texts[DEFINES_MAX][2][64];
	struct sd_define defines[DEFINES_MAX];
	size_t ndefines;
	char key[64]; /* of the token that is read */
	struct sd_source *source;
};

static struct golden cases[CASES_MAX];
static size_t ncases;
static struct sd_arena kept;
static struct sd_names words, forms; /* of all cases */
static const char **word;
static size_t nwords, words_room;

static char *read_text(struct sd_arena *arena, const char *path)
{
	char *text = sd_arena_alloc(arena, 1 << 20);
	FILE *file = fopen(path, "r");

	cr_assert(file && text, "%s", path);
	text[fread(text, 1, (1 << 20) - 1, file)] = '\0';
	fclose(file);
	return text;
}

static enum sd_result take_down(struct sd_map_library *base, const char *name, const char **text, const char **file,
				struct sd_error *err)
{
	struct shelf *shelf = (struct shelf *)base;

	(void)err;
	*file = sd_arena_printf(&shelf->arena, "%s.map", name);
	*text = read_text(&shelf->arena, sd_arena_printf(&shelf->arena, "%s/%s.map", MAPS, name));
	return SD_OK;
}

static struct sd_map *open_map(struct shelf *shelf, const char *name)
{
	const char *text, *file;
	struct sd_map *map = NULL;
	struct sd_error err = {0};

	cr_assert(take_down(&shelf->base, name, &text, &file, &err) == SD_OK);
	cr_assert(sd_map_parse(file, text, &shelf->base, &map, &err) == SD_OK, "%s", err.text);
	return map;
}

/* case.json: map, to, set, ep. */
static enum sd_result take_token(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct golden *g = user;

	(void)err;
	if (token->kind == SD_JSON_KEY) {
		snprintf(g->key, sizeof(g->key), "%.*s", (int)token->length, token->text);
		g->ep = g->ep || strcmp(g->key, "ep") == 0;
		g->error = g->error || strcmp(g->key, "error") == 0;
		g->odd = g->odd || strcmp(g->key, "odd") == 0;
	} else if (token->depth == 1 && strcmp(g->key, "map") == 0) {
		snprintf(g->map, sizeof(g->map), "%.*s", (int)token->length, token->text);
	} else if (token->depth == 1 && strcmp(g->key, "to") == 0) {
		snprintf(g->to, sizeof(g->to), "%.*s", (int)token->length, token->text);
	} else if (token->depth == 2 && token->kind >= SD_JSON_STRING && g->ndefines < DEFINES_MAX) {
		char(*text)[64] = g->texts[g->ndefines];
		bool yes = sd_json_is(token, "true"), no = sd_json_is(token, "false");

		snprintf(text[0], sizeof(text[0]), "%s", g->key);
		snprintf(text[1], sizeof(text[1]), "%.*s", yes || no ? 3 - no : (int)token->length,
			 yes  ? "yes"
			 : no ? "no"
			      : token->text);
		g->defines[g->ndefines++] = (struct sd_define){text[0], text[1]};
	}
	return SD_OK;
}

/* A name with its numbers as "#", and without what stands in front of layers. */
static void write_form(const char *name, char out[NAME])
{
	const char *layers = strstr(name, "layers.");
	size_t used = 0;

	for (name = layers ? layers : name; *name && used + 1 < NAME; name++) {
		bool digit = *name >= '0' && *name <= '9';

		if (!digit || !used || out[used - 1] != '#')
			out[used++] = digit ? '#' : *name;
	}
	out[used] = '\0';
}

static void add_words(const char *name)
{
	char form[NAME];

	write_form(name, form);
	cr_assert(sd_names_add(&forms, sd_arena_text(&kept, form, strlen(form)), 0) != SD_NO_NAME);
	for (size_t length; *name; name += length + (name[length] == '.')) {
		char *one;

		length = strcspn(name, ".");
		one = sd_arena_text(&kept, name, length);
		if (strspn(one, "0123456789") == length || sd_names_find(&words, one) != SD_NO_NAME)
			continue;
		cr_assert(sd_names_add(&words, one, (uint32_t)nwords) != SD_NO_NAME);
		cr_assert(sd_array_grow(&word, nwords, &words_room, sizeof(*word)));
		word[nwords++] = one;
	}
}

static void open_case(const char *file)
{
	struct golden *g = &cases[ncases];
	char pattern[NAME], *text = read_text(&kept, file), *end;
	struct sd_error err = {0};
	glob_t found = {0};

	*g = (struct golden){.map = ""};
	cr_assert(sd_json_parse(text, strlen(text), take_token, g, &err) == SD_OK, "%s: %s", file, err.text);
	snprintf(pattern, sizeof(pattern), "%s", file);
	end = strrchr(pattern, '/');
	*end = '\0';
	snprintf(g->name, sizeof(g->name), "%s", strrchr(pattern, '/') + 1);
	strcpy(end, "/in*");
	if (!*g->map || g->ep || g->error || g->odd || strstr(g->name, "error") || glob(pattern, 0, NULL, &found) != 0)
		return;
	if (sd_open(sd_arena_text(&kept, found.gl_pathv[0], strlen(found.gl_pathv[0])), NULL, &g->source, &err) ==
	    SD_OK) {
		for (size_t i = 0; i < g->source->manifest->ntargets; i++)
			add_words(g->source->manifest->targets[i].name);
		cr_assert(++ncases < CASES_MAX);
	}
	globfree(&found);
}

static void open_cases(void)
{
	for (int real = 0; real < 2; real++) {
		glob_t found = {0};

		cr_assert(glob(real ? GOLDEN "/real/*/case.json" : GOLDEN "/*/case.json", 0, NULL, &found) == 0);
		for (size_t i = 0; i < found.gl_pathc; i++)
			open_case(found.gl_pathv[i]);
		globfree(&found);
	}
	cr_assert(ncases > 150, "%zu cases", ncases);
}

/* A planner that has begun: what it knows can be asked. */
static void begin(struct sd_planner *p, struct sd_rename *rename, const struct sd_map *map, struct golden *g,
		  struct sd_error *err)
{
	*rename = (struct sd_rename){.map = map, .defines = g->defines, .ndefines = g->ndefines, .strict = true};
	*p = (struct sd_planner){.map = map,
				 .rename = rename,
				 .in = g->source->manifest,
				 .out = sd_manifest_new(),
				 .from = strcmp(map->layout[LEFT], g->to) == 0 ? RIGHT : LEFT,
				 .err = err};
	cr_assert(sd_planner_read(p) == SD_OK && sd_planner_options(p) == SD_OK, "%s: %s", g->name, err->text);
	p->before = p->tensors;
	p->nbefore = p->ntensors;
}

static void look_at_each(void (*look)(struct sd_places *places, const struct golden *g))
{
	open_cases();
	for (size_t i = 0; i < ncases; i++) {
		struct shelf shelf = {{take_down}, {0}};
		struct sd_map *map = open_map(&shelf, cases[i].map);
		struct sd_error err = {0};
		struct sd_rename rename;
		struct sd_planner p;
		struct sd_places places;

		begin(&p, &rename, map, &cases[i], &err);
		sd_places_open(&places, &p);
		look(&places, &cases[i]);
		cr_assert(!places.failed);
		sd_places_free(&places);
		sd_planner_free(&p);
		sd_manifest_free(p.out);
		sd_map_free(map);
		sd_arena_free(&shelf.arena);
	}
	for (size_t i = 0; i < ncases; i++)
		cases[i].source->ops->close(cases[i].source);
	sd_names_free(&words);
	sd_names_free(&forms);
	free(word);
	sd_arena_free(&kept);
}

static void expect_known(struct sd_places *places, const struct golden *g)
{
	for (size_t i = 0; i < g->source->manifest->ntargets; i++) {
		const char *name = g->source->manifest->targets[i].name;

		cr_expect(sd_places_know(places, name) || sd_follow(places->p, name).dropped, "%s: %s", g->name, name);
	}
}

Test(places, what_the_golden_cases_have_is_known)
{
	look_at_each(expect_known);
}

static size_t tried, passed;

/* Whether the word is none that the map itself has, or no golden case has the name; parameters may stand behind any
 * module. */
static bool is_fair(const struct sd_places *places, const char *name, const char *foreign)
{
	const struct sd_map *map = places->p->map;
	char form[NAME];

	for (uint32_t i = 0; i < map->nparameters; i++)
		if (strcmp(map->parameters[i], foreign) == 0)
			return false;
	write_form(name, form);
	return sd_names_find(&places->patterns.names, foreign) == SD_NO_NAME ||
	       sd_names_find(&forms, form) == SD_NO_NAME;
}

/* Whether the map leaves open what stands at this place: what it drops, and a tower of vision or sound, of which it
 * knows only words. */
static bool is_open(struct sd_places *places, const char *name)
{
	const struct sd_map *map = places->p->map;
	int from = places->p->from;
	struct sd_map_values values;

	for (uint32_t i = 0; i < map->nplaces; i++) {
		const struct sd_pattern *key = &map->places[i].key[from];
		const struct sd_map_element *last = &key->elements[key->n - 1];

		if (last->kind == HOLE && map->places[i].holes.hole[last->number].kind == HOLE_ANY &&
		    sd_pattern_match(key, &map->places[i].holes, places->p->texts, name, strlen(name),
				     &places->p->scratch, &values))
			return true;
	}
	return sd_follow(places->p, name).dropped;
}

/* Each part of each name, but for numbers: other words in its place. */
static void expect_strange(struct sd_places *places, const struct golden *g)
{
	char last[NAME] = "", form[NAME];

	if (!places->p->map->nplaces)
		return;
	for (size_t i = 0; i < g->source->manifest->ntargets; i++) {
		const char *name = g->source->manifest->targets[i].name;

		write_form(name, form);
		if (strcmp(form, last) == 0)
			continue;
		strcpy(last, form);
		for (size_t at = 0, length; name[at]; at += length + (name[at + length] == '.')) {
			length = strcspn(name + at, ".");
			if (strspn(name + at, "0123456789") == length)
				continue;
			for (size_t w = (i * 7 + at) % 16; w < nwords; w += 16) {
				char made[NAME * 2];

				snprintf(made, sizeof(made), "%.*s%s%s", (int)at, name, word[w], name + at + length);
				if (!is_fair(places, made, word[w]))
					continue;
				tried++;
				passed += sd_places_know(places, made) && !is_open(places, made);
			}
		}
	}
}

Test(places, no_word_of_another_family_is_known)
{
	look_at_each(expect_strange);
	cr_assert(tried > 100000, "%zu", tried);
	cr_assert(passed * 1000 < tried, "%zu of %zu pass", passed, tried);
}
