/* SPDX-License-Identifier: Apache-2.0 */
/* A compiled map as text again: flat, with every pattern written out, and a map itself. */
#include "base/text.h"
#include "map/compiled.h"

#include <inttypes.h>

static void put_guards(FILE *out, const struct sd_map *map, const struct sd_map_guard *guards, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct sd_map_option *option = &map->options[guards[i].option];

		fprintf(out, "@%s=%s ", option->name, option->values[guards[i].value]);
	}
}

static void put_place(FILE *out, const struct sd_pattern *key, const struct sd_axes *axes, uint8_t dtype)
{
	fputs(key->text, out);
	if (axes->text)
		fprintf(out, " %s", axes->text);
	if (dtype)
		fprintf(out, " %s", sd_dtype_name(dtype));
}

/* A side, or the outcome that stands in its place. */
static void put_side(FILE *out, const struct sd_rule *rule, int number)
{
	const struct sd_map_side *side = &rule->side[number];
	enum sd_map_outcome outcome = rule->outcome[!number];

	if (!side->key.text) {
		fputs(outcome == DROP ? "drop" : outcome == KEEP ? "keep" : "refuse", out);
		if (outcome == REFUSE)
			fprintf(out, " \"%s\"", rule->why);
		return;
	}
	put_place(out, &side->key, &side->axes, side->dtype);
	if (side->scale) {
		fputs(" + ", out);
		put_place(out, &side->scale->key, &side->scale->axes, side->scale->dtype);
	}
}

/* What a stage's adapters are called, a line each. */
static void put_pefts(FILE *out, const struct sd_map *map, uint32_t stage)
{
	for (uint32_t i = 0; i < map->npefts; i++) {
		const struct sd_map_peft *peft = &map->pefts[i];

		if (peft->stage != stage)
			continue;
		fprintf(out, "  peft %s ", peft->group);
		put_guards(out, map, peft->guards, peft->nguards);
		fprintf(out, "%s %s\n", peft->parameter ? "target_parameters" : "target_modules", peft->text);
	}
}

/* All of it but its place in a file. */
static void put_whole(FILE *out, const struct sd_map *map, const struct sd_rule *rule)
{
	static const char *const arrows[] = {
		[BOTH_WAYS] = "<->", [RIGHTWARDS] = "->", [LEFTWARDS] = "<-", [COPY] = "<=", [COPY_RIGHTWARDS] = "=>"};

	put_guards(out, map, rule->guards, rule->nguards);
	if (rule->outcome[LEFT] == KEEP && rule->outcome[RIGHT] == KEEP) {
		fprintf(out, "keep %s", rule->side[LEFT].key.text);
	} else {
		put_side(out, rule, LEFT);
		fprintf(out, " %s ", arrows[rule->direction]);
		put_side(out, rule, RIGHT);
	}
	if (rule->arithmetic != NO_ARITHMETIC)
		fprintf(out, " : %s", rule->arithmetic_text);
	for (uint32_t i = 0; i < rule->nexcepts; i++)
		fprintf(out, " except %s", rule->excepts[i].pattern.text);
	for (uint32_t i = 0; i < rule->nconditions; i++) {
		fprintf(out, " %s %s", rule->conditions[i].wanted ? "if" : "unless", rule->conditions[i].key.text);
		if (rule->conditions[i].dtype)
			fprintf(out, " %s", sd_dtype_name(rule->conditions[i].dtype));
	}
	for (uint32_t i = 0; i < rule->nbounds; i++)
		fprintf(out, " if %s", rule->bounds[i].text);
	if (rule->if_complete)
		fputs(" if complete", out);
	if (rule->note)
		fprintf(out, " note \"%s\"", rule->note);
}

static void put_rule(FILE *out, const struct sd_map *map, const struct sd_rule *rule)
{
	fputs("  ", out);
	put_whole(out, map, rule);
	fputs("\t# ", out);
	sd_text_print(out, rule->file);
	fprintf(out, ":%u\n", rule->line);
}

void sd_map_write_rule(const struct sd_map *map, uint32_t number, FILE *out)
{
	const struct sd_map_stage *stage = map->stages, *end = stage + map->nstages;

	for (; stage < end && number >= stage->nrules; stage++)
		number -= stage->nrules;
	if (stage < end)
		put_whole(out, map, &stage->rules[number]);
}

static void put_words(FILE *out, const char *word, const char *const *words, uint32_t n)
{
	if (n)
		fprintf(out, " %s", word);
	for (uint32_t i = 0; i < n; i++)
		fprintf(out, " %s", words[i]);
}

static void put_size(FILE *out, const struct sd_map *map, const struct sd_map_size *size)
{
	fprintf(out, "size %s %s", map->axes.name[size->axis], size->option);
	if (size->of_side != NO_SIDE)
		fprintf(out, " of %s %s %s", map->layout[size->of_side], size->of.text, size->of_axes.text);
	put_words(out, "config", size->config, size->nconfig);
	if (size->optional)
		fputs(" or none", out);
	put_words(out, "in", size->stages, size->nstages);
	putc('\n', out);
}

static void put_row(FILE *out, const struct sd_config_row *row)
{
	fprintf(out, "config %s <-> %s", row->path[LEFT], row->path[RIGHT]);
	if (row->key)
		fprintf(out, " if %s=", row->key);
	for (uint32_t i = 0; i < row->nvalues; i++)
		fprintf(out, "%s%s", i ? "|" : "", row->values[i]);
	putc('\n', out);
}

static void put_option(FILE *out, const struct sd_map_option *option)
{
	fprintf(out, "option %s %s%s", option->name, option->text, option->from_keys ? " from keys" : "");
	if (option->from_config)
		fprintf(out, " from config %s", option->stamp_field);
	else if (option->stamp_file)
		fprintf(out, " stamp %s %s", option->stamp_file, option->stamp_field);
	for (uint32_t i = 0; option->stamp_file && i < option->nvalues; i++)
		if (option->stamps[i])
			fprintf(out, " %s=%s", option->stamps[i], option->values[i]);
	putc('\n', out);
}

static void put_text(FILE *out, const struct sd_map *map, const struct sd_map_text *text)
{
	fprintf(out, "set %s \"%s\" if ", text->name, text->then);
	if (text->any_side == NO_SIDE)
		fprintf(out, "%s=%s", map->options[text->guard.option].name,
			map->options[text->guard.option].values[text->guard.value]);
	else
		fprintf(out, "any %s %s", map->layout[text->any_side], text->any.text);
	fprintf(out, " else \"%s\"\n", text->otherwise);
}

static void put_sample_tensor(FILE *out, const struct sd_map_sample_tensor *t)
{
	fprintf(out, " %s %s [", t->key, sd_dtype_name(t->dtype));
	for (uint32_t i = 0; i < t->rank; i++)
		fprintf(out, "%s%" PRIu64, i ? " " : "", t->shape[i]);
	putc(']', out);
}

static void put_sample(FILE *out, const struct sd_map_sample *sample)
{
	fputs("sample", out);
	for (size_t i = 0; i < sample->ndefines; i++)
		fprintf(out, " @%s=%s", sample->defines[i].name, sample->defines[i].value);
	put_sample_tensor(out, &sample->left);
	if (sample->one_way)
		fputs(sample->right.key ? " ->" : " -> drop", out);
	if (sample->right.key)
		put_sample_tensor(out, &sample->right);
	putc('\n', out);
}

static void put_one_way(FILE *out, const struct sd_rule *rule, const char *layout)
{
	sd_text_print(out, rule->file);
	fprintf(out, ":%u\tto %s only\t", rule->line, layout);
	sd_text_print(out, rule->text);
	putc('\n', out);
}

void sd_map_one_way(const struct sd_map *map, FILE *out)
{
	for (uint32_t s = 0; s < map->nstages; s++)
		for (uint32_t i = 0; i < map->stages[s].nrules; i++) {
			const struct sd_rule *rule = &map->stages[s].rules[i];
			int from = rule->direction == RIGHTWARDS ? LEFT : RIGHT;

			if ((rule->direction == RIGHTWARDS || rule->direction == LEFTWARDS) &&
			    (rule->outcome[from] == MOVE || rule->outcome[from] == DROP))
				put_one_way(out, rule, map->layout[!from]);
		}
}

/* Sixteen words a line. */
static void put_list(FILE *out, const char *statement, const char *const *words, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		fprintf(out, "%s %s%s", i % 16 ? "" : statement, words[i], i + 1 == n || i % 16 == 15 ? "\n" : "");
}

static void put_known(FILE *out, const struct sd_map_place *place)
{
	const char *left = place->key[LEFT].text, *right = place->key[RIGHT].text;

	fprintf(out, "known %s%s", left, place->module[LEFT] ? ".*" : "");
	if (strcmp(left, right) != 0 || place->module[LEFT] != place->module[RIGHT])
		fprintf(out, " <-> %s%s", right, place->module[RIGHT] ? ".*" : "");
	putc('\n', out);
}

void sd_map_expand(const struct sd_map *map, FILE *out)
{
	fprintf(out, "map %s %s %s\n", map->name, map->layout[LEFT], map->layout[RIGHT]);
	/* A line has room for so many words and no more. */
	for (uint32_t i = 0; i < map->nmodels; i++) {
		bool ends = i + 1 == map->nmodels || i % 64 == 63;

		fprintf(out, "%s %s", i % 64 ? "" : "model", map->models[i]);
		if (ends)
			fputs(map->if_alone ? " if alone\n" : "\n", out);
	}
	for (uint32_t i = 0; i < map->noptions; i++)
		if (!map->options[i].idle)
			put_option(out, &map->options[i]);
	for (uint32_t i = 0; i < map->ntables; i++) {
		fprintf(out, "table %s", map->tables[i].name);
		for (uint32_t w = 0; w < map->tables[i].nwords; w++)
			fprintf(out, " %s=%s", map->tables[i].words[LEFT][w], map->tables[i].words[RIGHT][w]);
		putc('\n', out);
	}
	for (uint32_t i = 0; i < map->ntexts; i++)
		if (map->texts[i].any_side != NO_SIDE || !map->options[map->texts[i].guard.option].idle)
			put_text(out, map, &map->texts[i]);
	for (uint32_t i = 0; i < map->nlabels; i++)
		fprintf(out, "label %s %s\n", map->labels[i].name, map->labels[i].pattern.text);
	for (uint32_t i = 0; i < map->nsizes; i++)
		if (!map->sizes[i].idle)
			put_size(out, map, &map->sizes[i]);
	put_list(out, "known", map->known, map->nknown);
	put_list(out, "root", map->roots, map->nroots);
	put_list(out, "parameter", map->parameters, map->nparameters);
	for (uint32_t i = 0; i < map->nplaces; i++)
		put_known(out, &map->places[i]);
	for (uint32_t i = 0; i < map->nelsewhere; i++)
		fprintf(out, "elsewhere %s\n", map->elsewhere[i]);
	for (uint32_t i = 0; i < map->nrows; i++)
		put_row(out, &map->rows[i]);
	for (uint32_t s = 0; s < map->nstages; s++) {
		if (!map->stages[s].nrules)
			continue;
		fprintf(out, "\nstage %s\n", map->stages[s].name);
		put_pefts(out, map, s);
		for (uint32_t i = 0; i < map->stages[s].nrules; i++)
			put_rule(out, map, &map->stages[s].rules[i]);
	}
	if (map->nsamples)
		putc('\n', out);
	for (uint32_t i = 0; i < map->nsamples; i++)
		put_sample(out, &map->samples[i]);
}
