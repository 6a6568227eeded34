/* SPDX-License-Identifier: Apache-2.0 */
/* What every map that is shipped has to do with names: what hangs under one module is renamed alike, adapters of LoRA
 * as much as weights, and every option of it does something. */
#include "map/compiled.h"
#include "renaming/rename.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT 8192

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

/* Whether a comment that begins with the word ("# alone: ..", "# alone, bare: ..") stands above the line, with rules
 * alone between them, or at the head of its file. */
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
	const struct sd_rule *rule;
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
	struct sd_rename rename = {.map = &c->one, .to = !c->from, .defines = c->defines, .ndefines = c->ndefines};
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
		cr_expect(is_made_of(got, given, siblings[i], ""), "%s: %s:%u: %s becomes %sweight, and %s becomes %s",
			  c->map->name, c->rule->file, c->rule->line, key, given, sibling, got);
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
static const char *word_of(const struct sd_map_hole *hole, int side, uint32_t i, bool first)
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
static void fill(struct case_of *c, const struct sd_pattern *pattern, uint32_t i, const char *so_far)
{
	const struct sd_map_element *e = &pattern->elements[i];
	char key[TEXT];

	if (i == pattern->n) {
		look_at_weight(c, so_far);
		look_at_prefix(c, so_far);
		return;
	}
	if (e->kind == HOLE) {
		const struct sd_map_hole *hole = &c->rule->holes.hole[e->number];
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
static bool only_renames(const struct sd_rule *rule, int from)
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
				const struct sd_rule *rule = &map->stages[s].rules[r];
				struct case_of c = {.map = map, .one = *map, .rule = rule, .from = from};

				if (!only_renames(rule, from))
					continue;
				c.one.stages = &map->stages[s];
				c.one.nstages = 1;
				/* Target modules know the stages by number. */
				c.one.npefts = 0;
				for (uint32_t g = 0; g < rule->nguards && g < 8; g++) {
					const struct sd_map_option *option = &map->options[rule->guards[g].option];

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

static bool has_option(const struct sd_map *map, const char *name)
{
	for (uint32_t i = 0; i < map->noptions; i++)
		if (strcmp(map->options[i].name, name) == 0)
			return !map->options[i].idle;
	return false;
}

/* An adapter of two experts, which maps know without a sample of it. Those under mixer have no gate. */
static struct sd_manifest *adapter(void)
{
	static const struct {
		const char *name;
		uint64_t shape[2];
	} tensors[] = {{"model.layers.0.mlp.experts.lora_A", {10, 4}},
		       {"model.layers.0.mlp.experts.lora_B", {3, 10}},
		       {"model.layers.0.mlp.experts.base_layer.lora_A", {10, 3}},
		       {"model.layers.0.mlp.experts.base_layer.lora_B", {8, 10}},
		       {"backbone.layers.0.mixer.experts.base_layer.lora_B", {4, 10}},
		       {"language_model.backbone.layers.0.mixer.experts.base_layer.lora_B", {4, 10}}};
	static char name[sizeof(tensors) / sizeof(*tensors)][256];
	struct sd_manifest *m = sd_manifest_new();

	for (size_t i = 0; i < sizeof(tensors) / sizeof(*tensors); i++) {
		snprintf(name[i], sizeof(*name), "%s%s.weight", peft, tensors[i].name);
		cr_assert(m && sd_manifest_add_tensor(m, name[i], SD_BF16, tensors[i].shape, 2));
	}
	return m;
}

/* The samples of one checkpoint, or what came of them. */
static struct sd_manifest *manifest_of(const struct sd_map *map, const char *group)
{
	struct sd_manifest *m = sd_manifest_new();

	for (uint32_t i = 0; i < map->nsamples; i++) {
		const struct sd_map_sample_tensor *t = &map->samples[i].left;

		if (strcmp(map->samples[i].group, group) == 0)
			cr_assert(m && sd_manifest_add_tensor(m, t->key, t->dtype, t->shape, t->rank));
	}
	return m;
}

static struct sd_manifest *next_manifest(const struct sd_manifest *from)
{
	struct sd_manifest *m = sd_manifest_new();

	for (size_t i = 0; i < from->ntargets; i++) {
		const struct sd_target *t = &from->targets[i];
		bool there = false;

		for (size_t k = 0; k < i; k++)
			there |= strcmp(from->targets[k].name, t->name) == 0;
		cr_assert(m && (there || sd_manifest_add_tensor(m, t->name, t->dtype, t->shape, t->rank)));
	}
	return m;
}

/* All that a plan says, as a text; or the error. *next: the manifest that comes out, or NULL. */
static void plan_text(const struct sd_rename *asked, const struct sd_manifest *in, char *text,
		      struct sd_manifest **next)
{
	struct sd_rename rename = *asked;
	struct sd_error err = {0};
	struct sd_plan plan;
	size_t used = 0;

	*text = '\0';
	*next = NULL;
	if (sd_rename_plan(&rename, in, &plan, &err) != SD_OK) {
		snprintf(text, 16 * TEXT, "%s", err.text);
		return;
	}
	for (size_t i = 0; i < plan.manifest->ntargets && used < 15 * TEXT; i++) {
		const struct sd_target *t = &plan.manifest->targets[i];

		used += (size_t)snprintf(text + used, 16 * TEXT - used, "%s %s %u %u\n", t->name,
					 sd_dtype_name(t->dtype), t->rank, t->nsteps);
		for (uint32_t d = 0; d < t->rank; d++)
			used += (size_t)snprintf(text + used, 16 * TEXT - used, " %u", (unsigned)t->shape[d]);
	}
	for (size_t i = 0; i < rename.nnotes && used < 15 * TEXT; i++)
		used += (size_t)snprintf(text + used, 16 * TEXT - used, "%s\n", rename.notes[i]);
	*next = next_manifest(plan.manifest);
	sd_plan_free(&plan);
}

/* What comes of a checkpoint on the way to the right, and back. value: of the option, or NULL. */
static void there_and_back(const struct sd_map *map, const struct sd_manifest *in, const struct sd_define *defines,
			   size_t ndefines, struct sd_define asked, char *text)
{
	struct sd_define all[16];
	struct sd_rename rename = {.map = map, .to = RIGHT, .defines = all};
	struct sd_manifest *out, *end;

	for (size_t d = 0; d < ndefines; d++)
		if (strcmp(defines[d].name, asked.name) != 0)
			all[rename.ndefines++] = defines[d];
	if (asked.value)
		all[rename.ndefines++] = asked;
	plan_text(&rename, in, text, &out);
	if (!out)
		return;
	rename.to = LEFT;
	plan_text(&rename, out, text + strlen(text), &end);
	sd_manifest_free(end);
	sd_manifest_free(out);
}

static bool differs_for(const struct sd_map *map, struct sd_manifest *in, const struct sd_define *defines,
			size_t ndefines, const char *name, const char *a, const char *b)
{
	static char text[2][32 * TEXT];

	there_and_back(map, in, defines, ndefines, (struct sd_define){name, a}, text[0]);
	there_and_back(map, in, defines, ndefines, (struct sd_define){name, b}, text[1]);
	sd_manifest_free(in);
	return strcmp(text[0], text[1]) != 0;
}

/* Whether it makes a difference for any sample, one way or the other, which of two values an option has; NULL: it is
 * not said. */
static bool differs(const struct sd_map *map, const char *name, const char *a, const char *b)
{
	static const struct sd_define lora[] = {{"experts", "2"}, {"expert_inter", "4"}, {"lora", "paramwrapper"}};

	for (uint32_t i = 0; i < map->nsamples; i++) {
		const struct sd_map_sample *sample = &map->samples[i];

		if ((!i || strcmp(sample->group, map->samples[i - 1].group) != 0) &&
		    differs_for(map, manifest_of(map, sample->group), sample->defines, sample->ndefines, name, a, b))
			return true;
	}
	return has_option(map, "lora") && differs_for(map, adapter(), lora, 3, name, a, b);
}

static void look_at_options(const struct sd_map *map)
{
	for (uint32_t i = 0; i < map->noptions; i++)
		for (uint32_t v = 1; v < map->options[i].nvalues && !map->options[i].idle; v++)
			cr_expect(differs(map, map->options[i].name, map->options[i].values[0],
					  map->options[i].values[v]),
				  "%s: -D %s=%s does nothing to any sample", map->name, map->options[i].name,
				  map->options[i].values[v]);
	for (uint32_t i = 0; i < map->nsizes; i++)
		if (!map->sizes[i].idle)
			cr_expect(differs(map, map->sizes[i].option, "0", "1") ||
					  differs(map, map->sizes[i].option, NULL, "8") ||
					  differs(map, map->sizes[i].option, NULL, "1000003"),
				  "%s: -D %s does nothing to any sample", map->name, map->sizes[i].option);
	if (sd_map_has_dtype(map))
		cr_expect(differs(map, "dtype", "f32", "f64"), "%s: -D dtype does nothing to any sample", map->name);
}

Test(shipped_maps, every_option_does_something)
{
	with_each(look_at_options);
}

static bool is_expert(const struct sd_manifest *m, const struct sd_target *t)
{
	for (uint32_t i = 0; i < m->nlabels; i++)
		if (strcmp(m->labels[i], "expert") == 0)
			return t->labels & 1u << i;
	return false;
}

/* The manifest of a group, in which every second expert that is BF16 is F32; *changed: whether there is any. */
static struct sd_manifest *mixed_manifest(const struct sd_map *map, const char *group, bool *changed)
{
	struct sd_manifest *m = sd_manifest_new();
	bool second = false;

	*changed = false;
	for (uint32_t i = 0; i < map->nsamples; i++) {
		const struct sd_map_sample_tensor *t = &map->samples[i].left;
		bool expert = t->dtype == SD_BF16 && strstr(t->key, "experts.") && !strstr(t->key, "lora");

		if (strcmp(map->samples[i].group, group) != 0)
			continue;
		second = expert && !second;
		*changed |= second;
		cr_assert(m && sd_manifest_add_tensor(m, t->key, second ? SD_F32 : t->dtype, t->shape, t->rank));
	}
	return m;
}

static void mix_dtypes(const struct sd_map *map)
{
	for (uint32_t i = 0; i < map->nsamples; i++) {
		const struct sd_map_sample *sample = &map->samples[i];
		struct sd_define defines[16] = {{"dtype", "bf16"}};
		struct sd_rename rename = {.map = map, .to = RIGHT, .defines = defines, .ndefines = 1};
		struct sd_manifest *in;
		struct sd_error err = {0};
		struct sd_plan plan;
		bool changed;

		if (i && strcmp(sample->group, map->samples[i - 1].group) == 0)
			continue;
		for (size_t d = 0; d < sample->ndefines; d++)
			defines[rename.ndefines++] = sample->defines[d];
		in = mixed_manifest(map, sample->group, &changed);
		if (changed && sd_map_has_dtype(map)) {
			cr_expect(sd_rename_plan(&rename, in, &plan, &err) == SD_OK, "%s: %s", map->name, err.text);
			for (size_t t = 0; err.result == SD_OK && t < plan.manifest->ntargets; t++)
				cr_expect(!is_expert(plan.manifest, &plan.manifest->targets[t]) ||
						  plan.manifest->targets[t].dtype == SD_BF16,
					  "%s: %s", map->name, plan.manifest->targets[t].name);
			if (err.result == SD_OK)
				sd_plan_free(&plan);
		}
		sd_manifest_free(in);
	}
}

Test(shipped_maps, experts_of_several_dtypes_become_one)
{
	with_each(mix_dtypes);
}

/* With one expert more in one tensor than in the others of its module, nothing goes to the left. */
static void disagree(const struct sd_map *map, const struct sd_plan *plan, const struct sd_map_sample *sample)
{
	struct sd_rename rename = {.map = map, .to = LEFT, .defines = sample->defines, .ndefines = sample->ndefines};
	const struct sd_manifest *out = plan->manifest;
	struct sd_manifest *in = next_manifest(out);
	const struct sd_target *last = NULL, *other = NULL;
	struct sd_error err = {0};
	struct sd_plan back;

	for (size_t i = 0; i < out->ntargets; i++) {
		const struct sd_target *t = &out->targets[i];
		const char *dot = strrchr(t->name, '.');

		if (!is_expert(out, t))
			continue;
		if (last && strcmp(last->name, t->name) != 0 &&
		    strncmp(last->name, t->name, (size_t)(dot - t->name) + 1) == 0)
			other = t;
		last = t;
	}
	for (size_t i = 0; other && i < in->nrecords; i++)
		if (strcmp(in->records[i].key, other->name) == 0) {
			uint64_t *shape = (uint64_t *)in->targets[i].shape;

			shape[0]++;
			cr_expect(sd_rename_plan(&rename, in, &back, &err) == SD_INPUT, "%s: %s", map->name,
				  other->name);
			cr_expect(strstr(err.text, other->name), "%s: %s", map->name, err.text);
		}
	sd_manifest_free(in);
}

static void with_more_experts(const struct sd_map *map)
{
	for (uint32_t i = 0; i < map->nsamples; i++) {
		const struct sd_map_sample *sample = &map->samples[i];
		struct sd_rename rename = {
			.map = map, .to = RIGHT, .defines = sample->defines, .ndefines = sample->ndefines};
		struct sd_manifest *in;
		struct sd_error err = {0};
		struct sd_plan plan;

		if (i && strcmp(sample->group, map->samples[i - 1].group) == 0)
			continue;
		in = manifest_of(map, sample->group);
		cr_assert(sd_rename_plan(&rename, in, &plan, &err) == SD_OK, "%s: %s", map->name, err.text);
		disagree(map, &plan, sample);
		sd_plan_free(&plan);
		sd_manifest_free(in);
	}
}

Test(shipped_maps, experts_that_disagree_on_their_number)
{
	with_each(with_more_experts);
}
