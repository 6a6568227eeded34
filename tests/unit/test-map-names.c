/* SPDX-License-Identifier: Apache-2.0 */
/* What every map that is shipped has to do with names: what hangs under one module is renamed alike, adapters of LoRA as
 * much as weights, and every option of it does something. */
#include "map/internal.h"
#include "map/rename.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT 8192
#define KEYS_MAX 256 /* of one rule */

/* What stands in front of the keys of an adapter. */
static const char peft[] = "base_model.model.";

/* What may hang under a module beside its weight. */
static const char *const siblings[] = {"bias",
				       "lora_A.weight",
				       "lora_B.weight",
				       "lora_A.default.weight",
				       "lora_embedding_A",
				       "lora_magnitude_vector",
				       "base_layer.weight",
				       "weight_scale",
				       "weight_scale_inv",
				       "weight_packed",
				       "input_scale"};

/* The maps of the source tree, whose texts live until the test ends. */
struct shelf {
	struct sd_map_library base;
	struct sd_arena arena;
};

static char *read_map(struct sd_arena *arena, const char *name)
{
	char path[1024], *text = sd_arena_alloc(arena, 1 << 20);
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s.map", MAPS, name);
	file = fopen(path, "r");
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
	*text = read_map(&shelf->arena, name);
	*file = sd_arena_printf(&shelf->arena, "%s.map", name);
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

/* Calls a function with each map that is no part of others. */
static void with_each(void (*look)(const struct sd_map *map))
{
	DIR *folder = opendir(MAPS);
	struct dirent *entry;
	int n = 0;

	cr_assert(folder, MAPS);
	while ((entry = readdir(folder))) {
		char *end = strstr(entry->d_name, ".map");
		struct shelf shelf = {{take_down}, {0}};
		struct sd_map *map;

		if (!end || end[4])
			continue;
		*end = '\0';
		map = open_map(&shelf, entry->d_name);
		if (!sd_map_is_part(map)) {
			look(map);
			n++;
		}
		sd_map_free(map);
		sd_arena_free(&shelf.arena);
	}
	closedir(folder);
	cr_assert(n > 70, "%d maps", n);
}

/* Whether a comment that begins with the word ("# alone: ..", "# alone, bare: ..") stands above the line, with rules alone between them, or at the head of its file. */
static bool is_marked_in(const char *word, const char *file, uint32_t line)
{
	struct sd_arena arena = {0};
	char name[256], *at;
	bool head = true, marked = false, everywhere = false;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(file, "."), file);
	for (at = read_map(&arena, name); (line > 0 || head) && *at; line -= line > 0) {
		bool is_mark, is_rule;

		at += strspn(at, " ");
		is_mark = *at == '#' && memmem(at, strcspn(at, ":\n"), word, strlen(word));
		is_rule = *at != '#' && *at != '\n';
		head = head && *at == '#';
		everywhere |= head && is_mark;
		marked = is_mark || (marked && is_rule);
		at += strcspn(at, "\n");
		at += *at == '\n';
	}
	sd_arena_free(&arena);
	return marked || everywhere;
}

/* One rule, as a map of one stage has it. */
struct case_of {
	const struct sd_map *map;
	struct sd_map one;
	const struct rule *rule;
	int from;
	struct sd_define defines[8];
	size_t ndefines;
};

/* Whether the rule, or the whole map, is marked. */
static bool is_marked(const struct case_of *c, const char *word)
{
	return is_marked_in(word, c->rule->file, c->rule->line) || is_marked_in(word, c->map->file, 1);
}

/* What the stage makes of a key; "" where it drops it, or refuses it, or makes several of it. */
static const char *becomes(struct case_of *c, const char *key, char *name)
{
	struct sd_rename rename = {
		.map = &c->one, .to = !c->from, .defines = c->defines, .ndefines = c->ndefines};
	struct sd_manifest *in = sd_manifest_new();
	struct sd_error err = {0};
	struct sd_plan plan;

	*name = '\0';
	cr_assert(in && sd_manifest_add_tensor(in, key, SD_F32, (uint64_t[]){2, 3}, 2));
	if (sd_rename_plan(&rename, in, &plan, &err) == SD_OK) {
		if (plan.manifest->ntargets == 1)
			snprintf(name, TEXT, "%s", plan.manifest->targets[0].name);
		sd_plan_free(&plan);
	} else {
		cr_assert(err.result == SD_INPUT, "%s: %s", c->map->name, err.text);
	}
	sd_manifest_free(in);
	return name;
}

/* Whether text is the others, one behind the other. */
static bool is_made_of(const char *text, const char *a, const char *b, const char *c)
{
	char whole[3 * TEXT];

	snprintf(whole, sizeof(whole), "%s%s%s", a, b, c);
	return strcmp(text, whole) == 0;
}

/* Siblings of a weight get the name that it gets, and so they do behind base_model.model. */
static void look_at_weight(struct case_of *c, const char *key)
{
	char stem[TEXT], given[TEXT], sibling[TEXT], got[TEXT];
	size_t length = strlen(key), weight = strlen("weight"), end;

	if (length < weight || strcmp(key + length - weight, "weight") != 0 || strstr(key, "lora_"))
		return;
	snprintf(stem, sizeof(stem), "%.*s", (int)(length - weight), key);
	end = strlen(becomes(c, key, given));
	if (end < weight || strcmp(given + end - weight, "weight") != 0 || is_marked(c, "alone"))
		return;
	given[end - weight] = '\0';
	for (size_t i = 0; i < sizeof(siblings) / sizeof(*siblings); i++) {
		snprintf(sibling, sizeof(sibling), "%s%s", stem, siblings[i]);
		/* A scale that has no weight may be dropped. */
		if (!*becomes(c, sibling, got) && strstr(siblings[i], "_scale"))
			continue;
		cr_expect(is_made_of(got, given, siblings[i], ""),
			  "%s: %s:%u: %s becomes %sweight, and %s becomes %s", c->map->name, c->rule->file,
			  c->rule->line, key, given, sibling, got);
	}
}

static void look_at_prefix(struct case_of *c, const char *key)
{
	char behind[TEXT], given[TEXT], got[TEXT];

	becomes(c, key, given);
	if (!*given || strstr(key, peft) || strstr(given, peft) || is_marked(c, "bare"))
		return;
	snprintf(behind, sizeof(behind), "%s%s", peft, key);
	cr_expect(is_made_of(becomes(c, behind, got), peft, given, ""), "%s: %s:%u: %s becomes %s, and %s becomes %s",
		  c->map->name, c->rule->file, c->rule->line, key, given, behind, got);
}

/* The words that a hole may hold for a try. */
static const char *word_of(const struct hole *hole, int side, uint32_t i, bool first)
{
	switch (hole->kind) {
	case HOLE_CHOICE:
		return i < hole->nwords ? hole->words[side][i] : NULL;
	case HOLE_NUMBER:
		return i == 0 ? "7" : NULL;
	case HOLE_WORD:
		return i == 0 ? "some_proj" : NULL;
	default:
		return i > 0 ? NULL : first ? "model.layers.3" : "some_proj.weight";
	}
}

/* All keys that a pattern makes with such words, of element i and those behind it. */
static void fill(struct case_of *c, const struct pattern *pattern, uint32_t i, const char *so_far)
{
	const struct element *e = &pattern->elements[i];
	char key[TEXT];

	if (i == pattern->n) {
		look_at_weight(c, so_far);
		look_at_prefix(c, so_far);
		return;
	}
	if (e->kind == HOLE) {
		const struct hole *hole = &c->rule->holes.hole[e->number];
		const char *word;

		for (uint32_t w = 0; (word = word_of(hole, c->from, w, i == 0)); w++) {
			snprintf(key, sizeof(key), "%s%s", so_far, word);
			fill(c, pattern, i + 1, key);
		}
		return;
	}
	/* A text that depends on the keys, or on an option, is left out. */
	snprintf(key, sizeof(key), "%s%.*s", so_far, e->kind == LITERAL ? (int)e->length : 0,
		 e->kind == LITERAL ? e->text : "");
	fill(c, pattern, i + 1, key);
}

/* Rules that only give names: no axes, no values, no conditions. */
static bool only_renames(const struct rule *rule, int from)
{
	return rule->outcome[from] == MOVE && !rule->side[LEFT].axes.text && !rule->side[RIGHT].axes.text &&
	       !rule->side[LEFT].scale && !rule->side[from].dtype && !rule->nconditions && !rule->counts &&
	       rule->arithmetic != CONSTANT && !sd_rule_is_beside(rule, from);
}

static void look_at_names(const struct sd_map *map)
{
	for (uint32_t s = 0; s < map->nstages; s++)
		for (uint32_t r = 0; r < map->stages[s].nrules; r++)
			for (int from = LEFT; from <= RIGHT; from++) {
				const struct rule *rule = &map->stages[s].rules[r];
				struct case_of c = {.map = map, .one = *map, .rule = rule, .from = from};

				if (!only_renames(rule, from))
					continue;
				c.one.stages = &map->stages[s];
				c.one.nstages = 1;
				for (uint32_t g = 0; g < rule->nguards && g < 8; g++) {
					const struct option *option = &map->options[rule->guards[g].option];

					c.defines[c.ndefines++] =
						(struct sd_define){option->name, option->values[rule->guards[g].value]};
				}
				fill(&c, &rule->side[from].key, 0, "");
			}
}

Test(shipped_maps, what_hangs_under_a_module_is_renamed_alike)
{
	with_each(look_at_names);
}
