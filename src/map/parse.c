/* SPDX-License-Identifier: Apache-2.0 */
/* A map statement by statement. */
#include "base/text.h"
#include "map/parser.h"

#include <ctype.h>
#include <stdlib.h>

#define USE_DEPTH 8
#define USES_MAX 256 /* a map that uses itself is soon at their end; real maps use a dozen */

static enum sd_result parse_map(struct sd_parser *p)
{
	const char *name = NULL, *left = NULL, *right = NULL;

	if (sd_token_want(p, WORD, "the map's name", &name) != SD_OK ||
	    sd_token_want(p, WORD, "the left layout's name", &left) != SD_OK ||
	    sd_token_want(p, WORD, "the right layout's name", &right) != SD_OK || sd_token_end(p) != SD_OK)
		return p->err->result;
	if (p->named)
		return sd_parse_fail(p, "a file is one map");
	p->named = true;
	if (!p->user) {
		p->map->name = name;
		p->map->layout[LEFT] = left;
		p->map->layout[RIGHT] = right;
		p->map->part = strcmp(left, "*") == 0;
		return SD_OK;
	}
	if (strcmp(left, "*") == 0 && strcmp(right, "*") == 0)
		return SD_OK;
	if (strcmp(left, p->map->layout[LEFT]) != 0 || strcmp(right, p->map->layout[RIGHT]) != 0)
		return sd_parse_fail(p, "the map goes from %s to %s, and %s uses it from %s to %s", left, right,
				     p->map->name, p->map->layout[LEFT], p->map->layout[RIGHT]);
	return SD_OK;
}

static enum sd_result parse_model(struct sd_parser *p)
{
	struct sd_map *map = p->map;
	const char **models;

	if (p->user)
		return SD_OK;
	models = sd_arena_array(&map->arena, map->nmodels + p->ntokens, sizeof(*models));
	if (!models)
		return sd_fail_memory(p->err);
	if (map->nmodels)
		memcpy(models, map->models, map->nmodels * sizeof(*models));
	map->models = models;
	while (p->at < p->ntokens && !sd_token_accept(p, "if"))
		if (sd_token_want(p, WORD, "a model's name", &models[map->nmodels++]) != SD_OK)
			return p->err->result;
	if (p->at == p->ntokens)
		return SD_OK;
	if (!sd_token_accept(p, "alone"))
		return sd_parse_fail(p, "behind \"if\" comes \"alone\"");
	map->if_alone = true;
	return sd_token_end(p);
}

/* `FIELD TEXT=VALUE ..` behind an option: what a file says for its values. */
static enum sd_result parse_stamp(struct sd_parser *p, struct sd_map_option *option)
{
	option->stamps = sd_arena_array(&p->map->arena, option->nvalues, sizeof(*option->stamps));
	if (!option->stamps)
		return sd_fail_memory(p->err);
	if (sd_token_want(p, WORD, "the field's name", &option->stamp_field) != SD_OK)
		return p->err->result;
	while (p->at < p->ntokens) {
		char *text, *value = sd_token_pair(p, &text);
		uint32_t v = 0;

		while (value && v < option->nvalues && strcmp(option->values[v], value) != 0)
			v++;
		if (!value || v == option->nvalues)
			return sd_parse_fail(
				p, "behind the field's name comes what it says for each value, as TEXT=VALUE");
		option->stamps[v] = text;
	}
	return SD_OK;
}

/* Whether an option has all values of another. */
static bool has_values(const struct sd_map_option *option, const struct sd_map_option *other)
{
	for (uint32_t i = 0; i < other->nvalues; i++) {
		uint32_t k = 0;

		while (k < option->nvalues && strcmp(option->values[k], other->values[i]) != 0)
			k++;
		if (k == option->nvalues)
			return false;
	}
	return true;
}

static enum sd_result parse_option(struct sd_parser *p)
{
	struct sd_map_option option = {0};
	struct sd_map_option *added;

	if (sd_token_want(p, WORD, "the option's name", &option.name) != SD_OK ||
	    sd_token_want(p, WORD, "the option's values", &option.text) != SD_OK ||
	    sd_token_words(p, option.text, &option.values, &option.nvalues) != SD_OK)
		return p->err->result;
	if (!sd_token_is_name(option.name) || strcmp(option.name, "dtype") == 0)
		return sd_parse_fail(p, "\"%s\" cannot be the name of an option", option.name);
	if (sd_token_accept(p, "from")) {
		option.from_keys = sd_token_accept(p, "keys");
		option.from_config = !option.from_keys && sd_token_accept(p, "config");
		if (!option.from_keys && !option.from_config)
			return sd_parse_fail(p, "an option can be found \"from keys\" or \"from config\"");
	}
	if (option.from_config)
		option.stamp_file = "config.json";
	else if (sd_token_accept(p, "stamp") && sd_token_want(p, WORD, "the stamp's file", &option.stamp_file) != SD_OK)
		return p->err->result;
	if (option.stamp_file && parse_stamp(p, &option) != SD_OK)
		return p->err->result;
	if (sd_token_end(p) != SD_OK)
		return p->err->result;
	for (uint32_t i = 0; i < p->map->noptions; i++)
		if (strcmp(p->map->options[i].name, option.name) == 0)
			return p->user && has_values(&p->map->options[i], &option)
				       ? SD_OK
				       : sd_parse_fail(p, "option %s is there already, with %s", option.name,
						       p->map->options[i].text);
	added = SD_PARSE_ADD(p->map->options, p->map->noptions, p->map->options_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = option;
	added->line = p->user ? 0 : p->line;
	return SD_OK;
}

/* A layout's name as its side. */
static enum sd_result parse_layout(struct sd_parser *p, int *side)
{
	const char *word = NULL;

	if (sd_token_want(p, WORD, "the layout", &word) != SD_OK)
		return p->err->result;
	for (*side = LEFT; *side <= RIGHT; ++*side)
		if (strcmp(word, p->map->layout[*side]) == 0)
			return SD_OK;
	return sd_parse_fail(p, "\"%s\" is none of the layouts %s and %s", word, p->map->layout[LEFT],
			     p->map->layout[RIGHT]);
}

static enum sd_result parse_set(struct sd_parser *p)
{
	struct sd_map_text text = {.any_side = NO_SIDE}, *added;
	const char *word = NULL;

	if (sd_token_want(p, WORD, "the name of the text", &text.name) != SD_OK ||
	    sd_token_want(p, STRING, "a text in \"\"", &text.then) != SD_OK)
		return p->err->result;
	if (!sd_token_is_name(text.name))
		return sd_parse_fail(p, "\"%s\" cannot be the name of a text", text.name);
	if (!sd_token_accept(p, "if"))
		return sd_parse_fail(p, "behind the text comes \"if\"");
	if (sd_token_accept(p, "any")) {
		if (parse_layout(p, &text.any_side) != SD_OK || sd_token_want(p, WORD, "a pattern", &word) != SD_OK ||
		    sd_parse_pattern(p, word, text.any_side, &text.holes, &text.any) != SD_OK ||
		    sd_parse_no_shift(p, &text.holes) != SD_OK)
			return p->err->result;
	} else if (sd_token_want(p, WORD, "a condition", &word) != SD_OK ||
		   sd_parse_guard(p, p->tokens[p->at - 1].text, &text.guard) != SD_OK) {
		return p->err->result;
	}
	if (!sd_token_accept(p, "else"))
		return sd_parse_fail(p, "behind the condition comes \"else\"");
	if (sd_token_want(p, STRING, "a text in \"\"", &text.otherwise) != SD_OK || sd_token_end(p) != SD_OK)
		return p->err->result;
	for (uint32_t i = 0; i < p->map->ntexts; i++)
		if (strcmp(p->map->texts[i].name, text.name) == 0)
			return p->user ? SD_OK : sd_parse_fail(p, "%s is set already", text.name);
	added = SD_PARSE_ADD(p->map->texts, p->map->ntexts, p->map->texts_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = text;
	return SD_OK;
}

static enum sd_result parse_table(struct sd_parser *p)
{
	struct sd_map_table table = {0}, *added;
	uint32_t n = p->ntokens - p->at;

	if (sd_token_want(p, WORD, "the table's name", &table.name) != SD_OK)
		return p->err->result;
	if (!sd_token_is_name(table.name))
		return sd_parse_fail(p, "\"%s\" cannot be the name of a table", table.name);
	table.words[LEFT] = sd_arena_array(&p->map->arena, n, sizeof(char *));
	table.words[RIGHT] = sd_arena_array(&p->map->arena, n, sizeof(char *));
	if (!table.words[LEFT] || !table.words[RIGHT])
		return sd_fail_memory(p->err);
	while (p->at < p->ntokens) {
		char *left, *right = sd_token_pair(p, &left);

		if (!right)
			return sd_parse_fail(p, "an entry of a table is LEFT=RIGHT");
		for (uint32_t i = 0; i < table.nwords; i++)
			if (strcmp(table.words[LEFT][i], left) == 0 || strcmp(table.words[RIGHT][i], right) == 0)
				return sd_parse_fail(p, "\"%s=%s\": one of the two is in the table already", left,
						     right);
		table.words[LEFT][table.nwords] = left;
		table.words[RIGHT][table.nwords++] = right;
	}
	if (!table.nwords)
		return sd_parse_fail(p, "the table is empty");
	if (sd_parse_table(p->map, table.name))
		return p->user ? SD_OK : sd_parse_fail(p, "table %s is there already", table.name);
	added = SD_PARSE_ADD(p->map->tables, p->map->ntables, p->map->tables_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = table;
	return SD_OK;
}

static enum sd_result parse_label(struct sd_parser *p)
{
	struct sd_map_label label = {0}, *added;

	if (p->user && !p->whole)
		return SD_OK;
	if (sd_token_want(p, WORD, "the label's name", &label.name) != SD_OK ||
	    sd_parse_want_pattern(p, RIGHT, &label.holes, &label.pattern) != SD_OK ||
	    sd_parse_no_shift(p, &label.holes) != SD_OK || sd_token_end(p) != SD_OK)
		return p->err->result;
	added = SD_PARSE_ADD(p->map->labels, p->map->nlabels, p->map->labels_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = label;
	return SD_OK;
}

/* `of LAYOUT PATTERN [axes]`: the tensor whose shape tells the size. */
static enum sd_result parse_size_of(struct sd_parser *p, struct sd_map_size *size)
{
	if (parse_layout(p, &size->of_side) != SD_OK ||
	    sd_parse_want_pattern(p, size->of_side, &size->of_holes, &size->of) != SD_OK ||
	    sd_parse_no_shift(p, &size->of_holes) != SD_OK || sd_parse_axes(p, &size->of_axes) != SD_OK)
		return p->err->result;
	for (uint32_t d = 0; d < size->of_axes.n; d++)
		for (uint32_t f = 0; f < size->of_axes.dims[d].n; f++)
			if (size->of_axes.dims[d].factors[f].slots || size->of_axes.dims[d].factors[f].per != 1)
				return sd_parse_fail(p, "%s: bars and blocks stand in rules", size->of_axes.text);
	return sd_axes_have(&size->of_axes, size->axis)
		       ? SD_OK
		       : sd_parse_fail(p, "behind the key stand its axes, %s among them",
				       p->map->axes.name[size->axis]);
}

static enum sd_result parse_size(struct sd_parser *p)
{
	struct sd_map_size size = {.of_side = NO_SIDE}, *added;
	const char *name = NULL;

	if (sd_token_want(p, WORD, "the axis", &name) != SD_OK ||
	    sd_token_want(p, WORD, "the option's name", &size.option) != SD_OK)
		return p->err->result;
	if (!sd_token_is_name(name) || !sd_token_is_name(size.option))
		return sd_parse_fail(
			p,
			"a size is: size AXIS OPTION [of LAYOUT KEY [axes]] [config NAME ..] [or none] [in STAGE ..]");
	size.axis = sd_axis_number(&p->map->axes, name, SIZE_OPEN);
	if (size.axis == NO_AXIS)
		return sd_parse_fail(p, "too many axis names");
	size.config = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*size.config));
	size.stages = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*size.stages));
	if (!size.config || !size.stages)
		return sd_fail_memory(p->err);
	if (sd_token_accept(p, "of") && parse_size_of(p, &size) != SD_OK)
		return p->err->result;
	if (sd_token_accept(p, "config"))
		while (p->at < p->ntokens && strcmp(sd_token_peek(p), "in") != 0 && strcmp(sd_token_peek(p), "or") != 0)
			if (sd_token_want(p, WORD, "a field of config.json", &size.config[size.nconfig++]) != SD_OK)
				return p->err->result;
	if (sd_token_accept(p, "or")) {
		if (!sd_token_accept(p, "none"))
			return sd_parse_fail(p, "behind \"or\" comes \"none\"");
		size.optional = true;
	}
	if (sd_token_accept(p, "in"))
		while (p->at < p->ntokens)
			if (sd_token_want(p, WORD, "a stage's name", &size.stages[size.nstages++]) != SD_OK)
				return p->err->result;
	if (sd_token_end(p) != SD_OK)
		return p->err->result;
	added = SD_PARSE_ADD(p->map->sizes, p->map->nsizes, p->map->sizes_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = size;
	added->line = p->user ? 0 : p->line;
	return SD_OK;
}

static bool is_wanted(struct sd_parser *p, const char *stage)
{
	bool wanted = p->whole;

	for (uint32_t i = 0; i < p->nwanted; i++)
		if (strcmp(p->wanted[i].text, stage) == 0)
			wanted = p->found[i] = true;
	return wanted;
}

static enum sd_result open_stage(struct sd_parser *p, const char *name)
{
	struct sd_map_stage *stage;

	p->under[LEFT] = p->under[RIGHT] = NULL;
	p->skip = p->user && !is_wanted(p, name);
	p->stage = NONE;
	if (p->skip)
		return SD_OK;
	p->map->own = p->map->own || !p->user;
	stage = SD_PARSE_ADD(p->map->stages, p->map->nstages, p->map->stages_room);
	if (!stage)
		return sd_fail_memory(p->err);
	stage->name = name;
	p->stage = p->map->nstages - 1;
	return SD_OK;
}

static enum sd_result parse_stage(struct sd_parser *p)
{
	const char *name = NULL;

	if (sd_token_want(p, WORD, "the stage's name", &name) != SD_OK || sd_token_end(p) != SD_OK)
		return p->err->result;
	return open_stage(p, name);
}

static enum sd_result parse_under(struct sd_parser *p)
{
	const char *left = NULL, *right;

	if (sd_token_want(p, WORD, "a pattern", &left) != SD_OK)
		return p->err->result;
	right = left;
	if (p->at < p->ntokens && sd_token_want(p, WORD, "a pattern", &right) != SD_OK)
		return p->err->result;
	p->under[LEFT] = left;
	p->under[RIGHT] = right;
	return sd_token_end(p);
}

static enum sd_result read_file(struct sd_parser *p, const char *text);

/* All of a used map, or what is wanted of the map that uses it. */
static void want_all(const struct sd_parser *p, struct sd_parser *used)
{
	used->whole = p->whole || !p->user;
	used->wanted = p->wanted;
	used->nwanted = p->nwanted;
	used->found = p->found;
	memcpy(used->prefix, p->prefix, sizeof(used->prefix));
	used->prefix_all = p->prefix_all;
	used->guards = p->guards;
	used->nguards = p->nguards;
}

/* STAGE.. [@NAME=a] [under PATTERN [PATTERN]] */
static enum sd_result want_stages(struct sd_parser *p, struct sd_parser *used)
{
	struct sd_map_guard *guards;
	const char *text = NULL;

	used->wanted = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*used->wanted));
	used->found = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*used->found));
	if (!used->wanted || !used->found)
		return sd_fail_memory(p->err);
	for (; *sd_token_peek(p) && *sd_token_peek(p) != '@' && strcmp(sd_token_peek(p), "under") != 0; p->at++)
		if (!p->user || is_wanted(p, sd_token_peek(p)))
			used->wanted[used->nwanted++] = p->tokens[p->at];
	if (sd_parse_guards(p, &guards, &used->nguards) != SD_OK)
		return p->err->result;
	used->guards = guards;
	if (sd_token_accept(p, "under")) {
		for (int side = LEFT; side <= RIGHT && p->at < p->ntokens; side++) {
			if (sd_token_want(p, WORD, "a pattern", &text) != SD_OK ||
			    sd_parse_full_pattern(p, text, side, &used->prefix[side]) != SD_OK)
				return p->err->result;
			used->prefix_all = side == RIGHT;
		}
		if (!used->prefix[RIGHT])
			used->prefix[RIGHT] = used->prefix[LEFT];
	}
	if (sd_token_end(p) != SD_OK)
		return p->err->result;
	return used->nwanted || p->user ? SD_OK : sd_parse_fail(p, "behind the map's name come the stages to use");
}

static enum sd_result read_used(struct sd_parser *p, struct sd_parser *used, const char *name)
{
	const char *text = NULL;
	enum sd_result result = p->library ? p->library->read(p->library, name, &text, &used->file, p->err)
					   : sd_parse_fail(p, "map %s cannot be found from here", name);

	if (result == SD_INPUT && p->library) {
		struct sd_error why = *p->err;

		return sd_parse_fail(p, "%s", why.text);
	}
	if (result == SD_OK)
		result = read_file(used, text);
	for (uint32_t i = 0; result == SD_OK && used->found != p->found && i < used->nwanted; i++)
		if (!used->found[i])
			result = sd_parse_fail(p, "map %s has no stage \"%s\"", name, used->wanted[i].text);
	return result;
}

/* use MAP [STAGE.. [@NAME=a] [under PATTERN [PATTERN]]] */
static enum sd_result parse_use(struct sd_parser *p)
{
	struct sd_parser *used;
	const char *name = NULL;
	enum sd_result result = SD_OK;

	p->stage = NONE;
	p->skip = false;
	if (sd_token_want(p, WORD, "the map's name", &name) != SD_OK)
		return p->err->result;
	if (p->user && !p->library)
		return sd_parse_fail(p, "map %s cannot be found from here", name);
	if (p->depth == USE_DEPTH)
		return sd_parse_fail(p, "maps use each other %d deep", USE_DEPTH);
	if (++p->map->nuses > USES_MAX)
		return sd_parse_fail(p, "maps use each other more than %d times", USES_MAX);
	used = calloc(1, sizeof(*used));
	if (!used)
		return sd_fail_memory(p->err);
	*used = (struct sd_parser){.map = p->map,
				   .library = p->library,
				   .user = p,
				   .stage = NONE,
				   .depth = p->depth + 1,
				   .whole_depth = p->whole_depth,
				   .err = p->err};
	if (p->at < p->ntokens) {
		p->map->own = p->map->own || !p->user;
		result = want_stages(p, used);
	} else {
		want_all(p, used);
		used->whole_depth = p->whole_depth + 1;
	}
	if (result == SD_OK && (used->whole || used->nwanted))
		result = read_used(p, used, name);
	free(used);
	p->stage = NONE;
	return result;
}

static enum sd_result parse_line(struct sd_parser *p)
{
	static const struct {
		const char *word;
		enum sd_result (*parse)(struct sd_parser *p);
	} statements[] = {
		{"map", parse_map},
		{"model", parse_model},
		{"option", parse_option},
		{"set", parse_set},
		{"table", parse_table},
		{"label", parse_label},
		{"size", parse_size},
		{"stage", parse_stage},
		{"use", parse_use},
		{"sample", sd_parse_sample},
		{"config", sd_parse_config},
		{"known", sd_parse_known},
		{"parameter", sd_parse_parameter},
		{"root", sd_parse_root},
		{"elsewhere", sd_parse_elsewhere},
	};

	if (!p->ntokens)
		return SD_OK;
	if (!p->named && strcmp(sd_token_peek(p), "map") != 0)
		return sd_parse_fail(p, "a map begins with: map NAME LEFT RIGHT");
	for (size_t i = 0; i < sizeof(statements) / sizeof(*statements); i++)
		if (sd_token_accept(p, statements[i].word))
			return statements[i].parse(p);
	if (p->skip)
		return SD_OK;
	if (p->stage == NONE)
		return sd_parse_fail(p, "\"%s\" is no statement, and a rule stands in a stage", p->tokens[0].text);
	if (sd_token_accept(p, "peft"))
		return sd_parse_peft(p);
	return sd_token_accept(p, "under") ? parse_under(p) : sd_parse_rule(p);
}

static enum sd_result read_file(struct sd_parser *p, const char *text)
{
	for (p->line = 1; *text; p->line++) {
		size_t length = strcspn(text, "\n"), from = strspn(text, " \t"), to = length;
		bool dos = length && text[length - 1] == '\r';
		const char *harm = sd_text_harm(text, length - dos);

		/* What a map says is shown, as it is, and ends up in names. */
		if (harm)
			return sd_parse_fail(
				p, "byte %zu is a control character, a mark that hides what is written, or no UTF-8",
				(size_t)(harm - text) + 1);
		while (to > from && isspace((unsigned char)text[to - 1]))
			to--;
		p->line_text = from < to ? sd_arena_text(&p->map->arena, text + from, to - from) : "";
		if (!p->line_text)
			return sd_fail_memory(p->err);
		if (sd_token_split(p, text, length) != SD_OK || parse_line(p) != SD_OK)
			return p->err->result;
		text += length + (text[length] == '\n');
	}
	if (!p->named)
		return sd_parse_fail(p, "a map begins with: map NAME LEFT RIGHT");
	return SD_OK;
}

enum sd_result sd_map_parse(const char *file, const char *text, struct sd_map_library *library, struct sd_map **map,
			    struct sd_error *err)
{
	struct sd_map *made = calloc(1, sizeof(*made));
	struct sd_parser *p = calloc(1, sizeof(*p));
	struct sd_error own;
	enum sd_result result = SD_OK;

	if (!made || !p) {
		free(made);
		free(p);
		return sd_fail_memory(err);
	}
	if (!err)
		err = &own;
	*p = (struct sd_parser){.map = made, .library = library, .file = file, .stage = NONE, .err = err};
	made->file = sd_arena_text(&made->arena, file, strlen(file));
	result = made->file ? read_file(p, text) : sd_fail_memory(err);
	sd_parse_finish_places(made);
	for (uint32_t i = 0; result == SD_OK && i < made->nstages; i++)
		result = sd_map_check_stage(made, &made->stages[i], err);
	if (result == SD_OK)
		result = sd_map_check_overlap(made, err);
	if (result == SD_OK)
		result = sd_map_check_idle(made, err);
	free(p);
	if (result == SD_OK)
		*map = made;
	else
		sd_map_free(made);
	return result;
}
