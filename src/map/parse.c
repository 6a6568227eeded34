/* SPDX-License-Identifier: Apache-2.0 */
/* Text to rules: statement by statement, with the line of each for errors. */
#include "base/text.h"
#include "map/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 256
#define USE_DEPTH 8

enum token_kind { WORD, LIST, STRING };

struct token {
	enum token_kind kind;
	char *text;
};

/* One file being read: the map itself, or one that it uses. */
struct parser {
	struct sd_map *map;
	struct sd_map_library *library;
	const char *file;
	uint32_t line;
	const char *line_text;
	struct token tokens[TOKENS_MAX];
	uint32_t ntokens, at;
	uint32_t stage; /* the open one, or NONE */
	const char *under[2];
	bool skip; /* the open stage is not among the wanted ones */
	/* For a map that is used: what is wanted of it, and what is put on it. */
	const struct parser *user;
	struct token *wanted;
	uint32_t nwanted;
	bool *found;
	const char *prefix[2];
	bool prefix_all; /* in front of every pattern, not only of those that begin with "." */
	const struct guard *guards;
	uint32_t nguards;
	int depth;
	bool named;
	struct sd_error *err;
};

enum sd_result sd_map_fail(struct sd_error *err, const char *file, uint32_t line, const char *format, ...)
{
	va_list args;
	char text[1024];

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return sd_fail(err, SD_INPUT, "%s:%u: %s", file, line, text);
}

#define fail(p, ...) sd_map_fail((p)->err, (p)->file, (p)->line, __VA_ARGS__)

/* Appends a zeroed element to one of the map's arrays. */
#define ADD(array, count, room) (sd_array_grow(&(array), (count), &(room), sizeof(*(array))) ? \
	(memset(&(array)[count], 0, sizeof(*(array))), &(array)[(count)++]) : NULL)

/* Tokens */

static enum sd_result split_line(struct parser *p, const char *text, size_t length)
{
	const char *end = text + length, *start;

	p->ntokens = p->at = 0;
	for (;;) {
		struct token *token = &p->tokens[p->ntokens];

		while (text < end && isspace((unsigned char)*text))
			text++;
		if (text == end || *text == '#')
			return SD_OK;
		if (p->ntokens == TOKENS_MAX)
			return fail(p, "the line is too long");
		start = text;
		if (*text == '"') {
			text = memchr(text + 1, '"', (size_t)(end - text - 1));
			if (!text)
				return fail(p, "a \" is not closed");
			*token = (struct token){STRING, sd_arena_text(&p->map->arena, start + 1, (size_t)(text++ - start - 1))};
		} else if (*text == '[') {
			text = memchr(text, ']', (size_t)(end - text));
			if (!text)
				return fail(p, "a [ is not closed");
			*token = (struct token){LIST, sd_arena_text(&p->map->arena, start, (size_t)(++text - start))};
		} else {
			while (text < end && !isspace((unsigned char)*text))
				text++;
			*token = (struct token){WORD, sd_arena_text(&p->map->arena, start, (size_t)(text - start))};
		}
		if (!token->text)
			return sd_fail_memory(p->err);
		p->ntokens++;
	}
}

static const char *peek(const struct parser *p)
{
	return p->at < p->ntokens && p->tokens[p->at].kind == WORD ? p->tokens[p->at].text : "";
}

static bool accept(struct parser *p, const char *word)
{
	if (strcmp(peek(p), word) != 0)
		return false;
	p->at++;
	return true;
}

static enum sd_result want(struct parser *p, enum token_kind kind, const char *what, const char **text)
{
	if (p->at == p->ntokens || p->tokens[p->at].kind != kind)
		return fail(p, "%s is missing", what);
	*text = p->tokens[p->at++].text;
	return SD_OK;
}

static enum sd_result want_end(struct parser *p)
{
	return p->at == p->ntokens ? SD_OK : fail(p, "\"%s\" is not understood here", p->tokens[p->at].text);
}

static enum sd_result split_words(struct parser *p, const char *text, const char ***words, uint32_t *n)
{
	const char **out = sd_arena_array(&p->map->arena, strlen(text) + 1, sizeof(*out));

	*n = 0;
	for (; out; text++) {
		size_t length = strcspn(text, "|");

		out[*n] = sd_arena_text(&p->map->arena, text, length);
		if (!out[(*n)++])
			break;
		text += length;
		if (!*text) {
			*words = out;
			return SD_OK;
		}
	}
	return sd_fail_memory(p->err);
}

static bool is_name(const char *text)
{
	if (!isalpha((unsigned char)*text) && *text != '_')
		return false;
	while (isalnum((unsigned char)*text) || *text == '_')
		text++;
	return !*text;
}

/* "NAME=REST": cuts the text in two. */
static char *cut(char *text)
{
	char *equals = strchr(text, '=');

	if (equals)
		*equals++ = '\0';
	return equals;
}

/* Patterns */

static struct table *find_table(struct sd_map *map, const char *name)
{
	for (uint32_t i = 0; i < map->ntables; i++)
		if (strcmp(map->tables[i].name, name) == 0)
			return &map->tables[i];
	return NULL;
}

static enum sd_result new_hole(struct parser *p, const char *name, enum hole_kind kind, const char *words, struct hole *hole)
{
	const struct table *table = find_table(p->map, name);

	*hole = (struct hole){.name = name, .kind = kind};
	if (words) {
		const char **list;

		hole->kind = HOLE_CHOICE;
		if (split_words(p, words, &list, &hole->nwords) != SD_OK)
			return p->err->result;
		hole->words[LEFT] = hole->words[RIGHT] = list;
	} else if (kind == HOLE_WORD && table) {
		hole->kind = HOLE_CHOICE;
		hole->words[LEFT] = table->words[LEFT];
		hole->words[RIGHT] = table->words[RIGHT];
		hole->nwords = table->nwords;
	} else if (kind == HOLE_WORD && isupper((unsigned char)*name) && !name[1]) {
		hole->kind = HOLE_NUMBER;
	}
	return SD_OK;
}

static bool same_hole(const struct hole *a, const struct hole *b)
{
	if (a->kind != b->kind || a->nwords != b->nwords)
		return false;
	for (uint32_t i = 0; i < a->nwords; i++)
		if (strcmp(a->words[LEFT][i], b->words[LEFT][i]) != 0)
			return false;
	return true;
}

/* "x", "x*" or "x=a|b": the hole's number among the rule's holes. */
static enum sd_result parse_hole(struct parser *p, char *text, struct holes *holes, uint32_t *number)
{
	char *words = cut(text);
	size_t length = strlen(text);
	bool any = !words && length && text[length - 1] == '*';
	struct hole hole;

	if (any)
		text[length - 1] = '\0';
	if (!is_name(text))
		return fail(p, "\"{%s}\" is no hole: a hole is {x}, {x*} or {x=a|b}", text);
	if (new_hole(p, text, any ? HOLE_ANY : HOLE_WORD, words, &hole) != SD_OK)
		return p->err->result;
	for (*number = 0; *number < holes->n; ++*number) {
		const struct hole *old = &holes->hole[*number];

		if (strcmp(old->name, text) != 0)
			continue;
		if ((!any && !words) || same_hole(old, &hole))
			return SD_OK;
		return fail(p, "hole {%s} is said twice, and not the same", text);
	}
	if (holes->n == HOLES_MAX)
		return fail(p, "a rule can have %d holes", HOLES_MAX);
	holes->hole[holes->n++] = hole;
	return SD_OK;
}

static enum sd_result parse_text_name(struct parser *p, const char *name, uint32_t *number)
{
	for (*number = 0; *number < p->map->ntexts; ++*number)
		if (strcmp(p->map->texts[*number].name, name) == 0)
			return SD_OK;
	return fail(p, "${%s} is not set", name);
}

static enum sd_result parse_pattern(struct parser *p, const char *text, int side, struct holes *holes,
				    struct pattern *pattern)
{
	const char *at = text;

	*pattern = (struct pattern){.text = text, .side = side};
	pattern->elements = sd_arena_array(&p->map->arena, strlen(text), sizeof(*pattern->elements));
	if (!pattern->elements)
		return sd_fail_memory(p->err);
	while (*at) {
		struct element *e = &pattern->elements[pattern->n];
		bool is_text = at[0] == '$' && at[1] == '{';

		if (is_text || *at == '{') {
			const char *start = at + 1 + is_text, *end = strchr(at, '}');
			char *inside;

			if (!end)
				return fail(p, "a { is not closed");
			inside = sd_arena_text(&p->map->arena, start, (size_t)(end - start));
			if (!inside)
				return sd_fail_memory(p->err);
			e->kind = is_text ? TEXT : HOLE;
			if ((is_text ? parse_text_name(p, inside, &e->number) :
				       parse_hole(p, inside, holes, &e->number)) != SD_OK)
				return p->err->result;
			if (!is_text && sd_pattern_has(pattern, e->number))
				return fail(p, "hole {%s} stands twice in one pattern", holes->hole[e->number].name);
			at = end + 1;
		} else {
			const char *start = at++;

			while (*at && *at != '{' && !(at[0] == '$' && at[1] == '{'))
				at++;
			e->kind = LITERAL;
			e->length = (size_t)(at - start);
			e->text = sd_arena_text(&p->map->arena, start, e->length);
			if (!e->text)
				return sd_fail_memory(p->err);
			if (strchr(e->text, '}'))
				return fail(p, "a } that closes nothing");
		}
		pattern->n++;
	}
	sd_pattern_finish(pattern, holes);
	return SD_OK;
}

/* What stands in front of the patterns of this file: its `under`, and what the map that uses it says. */
static enum sd_result full_pattern(struct parser *p, const char *text, int side, const char **full)
{
	*full = text;
	if (*text == '.' && p->under[side])
		*full = sd_arena_printf(&p->map->arena, "%s%s", p->under[side], text);
	if (*full && p->prefix[side] && (p->prefix_all || **full == '.'))
		*full = sd_arena_printf(&p->map->arena, "%s%s", p->prefix[side], *full);
	if (!*full)
		return sd_fail_memory(p->err);
	if (**full == '.')
		p->map->part = true;
	return SD_OK;
}

static enum sd_result want_pattern(struct parser *p, int side, struct holes *holes, struct pattern *pattern)
{
	const char *text = NULL, *full = NULL;

	if (want(p, WORD, "a pattern", &text) != SD_OK || full_pattern(p, text, side, &full) != SD_OK)
		return p->err->result;
	return parse_pattern(p, full, side, holes, pattern);
}

/* Statements in front of the stages */

static enum sd_result parse_guard(struct parser *p, char *text, struct guard *guard)
{
	const char *value = cut(text);

	if (!value)
		return fail(p, "a condition on an option is NAME=VALUE");
	for (uint32_t i = 0; i < p->map->noptions; i++) {
		const struct option *option = &p->map->options[i];

		if (strcmp(option->name, text) != 0)
			continue;
		for (uint32_t v = 0; v < option->nvalues; v++)
			if (strcmp(option->values[v], value) == 0) {
				*guard = (struct guard){i, v};
				return SD_OK;
			}
		return fail(p, "option %s is %s, never \"%s\"", text, option->text, value);
	}
	return fail(p, "there is no option \"%s\"", text);
}

static enum sd_result parse_map(struct parser *p)
{
	const char *name = NULL, *left = NULL, *right = NULL;

	if (want(p, WORD, "the map's name", &name) != SD_OK || want(p, WORD, "the left layout's name", &left) != SD_OK ||
	    want(p, WORD, "the right layout's name", &right) != SD_OK || want_end(p) != SD_OK)
		return p->err->result;
	if (p->named)
		return fail(p, "a file is one map");
	p->named = true;
	if (!p->user) {
		p->map->name = name;
		p->map->layout[LEFT] = left;
		p->map->layout[RIGHT] = right;
		return SD_OK;
	}
	if (strcmp(left, p->map->layout[LEFT]) != 0 || strcmp(right, p->map->layout[RIGHT]) != 0)
		return fail(p, "the map goes from %s to %s, and %s uses it from %s to %s", left, right, p->map->name,
			    p->map->layout[LEFT], p->map->layout[RIGHT]);
	return SD_OK;
}

static enum sd_result parse_model(struct parser *p)
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
	while (p->at < p->ntokens)
		models[map->nmodels++] = p->tokens[p->at++].text;
	return SD_OK;
}

/* `stamp FILE FIELD TEXT=VALUE ..` behind an option. */
static enum sd_result parse_stamp(struct parser *p, struct option *option)
{
	option->stamps = sd_arena_array(&p->map->arena, option->nvalues, sizeof(*option->stamps));
	if (!option->stamps)
		return sd_fail_memory(p->err);
	if (want(p, WORD, "the stamp's file", &option->stamp_file) != SD_OK ||
	    want(p, WORD, "the stamp's field", &option->stamp_field) != SD_OK)
		return p->err->result;
	while (p->at < p->ntokens) {
		char *text = p->tokens[p->at++].text, *value = cut(text);
		uint32_t v = 0;

		while (value && v < option->nvalues && strcmp(option->values[v], value) != 0)
			v++;
		if (!value || v == option->nvalues)
			return fail(p, "behind the stamp's field comes what it says for each value, as TEXT=VALUE");
		option->stamps[v] = text;
	}
	return SD_OK;
}

static enum sd_result parse_option(struct parser *p)
{
	struct option option = {0};
	struct option *added;

	if (want(p, WORD, "the option's name", &option.name) != SD_OK ||
	    want(p, WORD, "the option's values", &option.text) != SD_OK ||
	    split_words(p, option.text, &option.values, &option.nvalues) != SD_OK)
		return p->err->result;
	if (!is_name(option.name) || strcmp(option.name, "dtype") == 0)
		return fail(p, "\"%s\" cannot be the name of an option", option.name);
	if (accept(p, "from")) {
		if (!accept(p, "keys"))
			return fail(p, "an option can be found \"from keys\"");
		option.from_keys = true;
	}
	if (accept(p, "stamp") && parse_stamp(p, &option) != SD_OK)
		return p->err->result;
	if (want_end(p) != SD_OK)
		return p->err->result;
	for (uint32_t i = 0; i < p->map->noptions; i++)
		if (strcmp(p->map->options[i].name, option.name) == 0)
			return p->user && strcmp(p->map->options[i].text, option.text) == 0 ?
				       SD_OK : fail(p, "option %s is there already, with %s", option.name, p->map->options[i].text);
	added = ADD(p->map->options, p->map->noptions, p->map->options_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = option;
	return SD_OK;
}

static enum sd_result parse_set(struct parser *p)
{
	struct text text = {.any_side = NO_SIDE}, *added;
	const char *word = NULL;

	if (want(p, WORD, "the name of the text", &text.name) != SD_OK || want(p, STRING, "a text in \"\"", &text.then) != SD_OK)
		return p->err->result;
	if (!is_name(text.name))
		return fail(p, "\"%s\" cannot be the name of a text", text.name);
	if (!accept(p, "if"))
		return fail(p, "behind the text comes \"if\"");
	if (accept(p, "any")) {
		if (want(p, WORD, "the layout", &word) != SD_OK)
			return p->err->result;
		text.any_side = strcmp(word, p->map->layout[LEFT]) == 0 ? LEFT :
				strcmp(word, p->map->layout[RIGHT]) == 0 ? RIGHT : NO_SIDE;
		if (text.any_side == NO_SIDE)
			return fail(p, "\"%s\" is none of the layouts %s and %s", word, p->map->layout[LEFT],
				    p->map->layout[RIGHT]);
		if (want(p, WORD, "a pattern", &word) != SD_OK ||
		    parse_pattern(p, word, text.any_side, &text.holes, &text.any) != SD_OK)
			return p->err->result;
	} else if (want(p, WORD, "a condition", &word) != SD_OK ||
		   parse_guard(p, p->tokens[p->at - 1].text, &text.guard) != SD_OK) {
		return p->err->result;
	}
	if (!accept(p, "else"))
		return fail(p, "behind the condition comes \"else\"");
	if (want(p, STRING, "a text in \"\"", &text.otherwise) != SD_OK || want_end(p) != SD_OK)
		return p->err->result;
	for (uint32_t i = 0; i < p->map->ntexts; i++)
		if (strcmp(p->map->texts[i].name, text.name) == 0)
			return p->user ? SD_OK : fail(p, "%s is set already", text.name);
	added = ADD(p->map->texts, p->map->ntexts, p->map->texts_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = text;
	return SD_OK;
}

static enum sd_result parse_table(struct parser *p)
{
	struct table table = {0}, *added;
	uint32_t n = p->ntokens - p->at;

	if (want(p, WORD, "the table's name", &table.name) != SD_OK)
		return p->err->result;
	if (!is_name(table.name))
		return fail(p, "\"%s\" cannot be the name of a table", table.name);
	table.words[LEFT] = sd_arena_array(&p->map->arena, n, sizeof(char *));
	table.words[RIGHT] = sd_arena_array(&p->map->arena, n, sizeof(char *));
	if (!table.words[LEFT] || !table.words[RIGHT])
		return sd_fail_memory(p->err);
	while (p->at < p->ntokens) {
		char *left = p->tokens[p->at++].text, *right = cut(left);

		if (!right)
			return fail(p, "an entry of a table is LEFT=RIGHT");
		for (uint32_t i = 0; i < table.nwords; i++)
			if (strcmp(table.words[LEFT][i], left) == 0 || strcmp(table.words[RIGHT][i], right) == 0)
				return fail(p, "\"%s=%s\": one of the two is in the table already", left, right);
		table.words[LEFT][table.nwords] = left;
		table.words[RIGHT][table.nwords++] = right;
	}
	if (!table.nwords)
		return fail(p, "the table is empty");
	if (find_table(p->map, table.name))
		return p->user ? SD_OK : fail(p, "table %s is there already", table.name);
	added = ADD(p->map->tables, p->map->ntables, p->map->tables_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = table;
	return SD_OK;
}

static enum sd_result parse_label(struct parser *p)
{
	struct label label = {0}, *added;

	if (p->user)
		return SD_OK;
	if (want(p, WORD, "the label's name", &label.name) != SD_OK ||
	    want_pattern(p, RIGHT, &label.holes, &label.pattern) != SD_OK || want_end(p) != SD_OK)
		return p->err->result;
	added = ADD(p->map->labels, p->map->nlabels, p->map->labels_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = label;
	return SD_OK;
}

static enum sd_result parse_size(struct parser *p)
{
	struct size size = {0}, *added;
	const char *name = NULL;

	if (want(p, WORD, "the axis", &name) != SD_OK || want(p, WORD, "the option's name", &size.option) != SD_OK)
		return p->err->result;
	if (!is_name(name) || !is_name(size.option))
		return fail(p, "a size is: size AXIS OPTION [config NAME ..] [in STAGE ..]");
	size.axis = sd_axis_number(&p->map->axes, name, SIZE_OPEN);
	if (size.axis == NO_AXIS)
		return fail(p, "too many axis names");
	size.config = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*size.config));
	size.stages = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*size.stages));
	if (!size.config || !size.stages)
		return sd_fail_memory(p->err);
	if (accept(p, "config"))
		while (p->at < p->ntokens && strcmp(peek(p), "in") != 0)
			size.config[size.nconfig++] = p->tokens[p->at++].text;
	if (accept(p, "in"))
		while (p->at < p->ntokens)
			size.stages[size.nstages++] = p->tokens[p->at++].text;
	if (want_end(p) != SD_OK)
		return p->err->result;
	added = ADD(p->map->sizes, p->map->nsizes, p->map->sizes_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = size;
	return SD_OK;
}

/* Stages and rules */

static bool is_wanted(struct parser *p, const char *stage)
{
	bool wanted = false;

	for (uint32_t i = 0; i < p->nwanted; i++)
		if (strcmp(p->wanted[i].text, stage) == 0)
			wanted = p->found[i] = true;
	return wanted;
}

static enum sd_result open_stage(struct parser *p, const char *name)
{
	struct stage *stage;

	p->under[LEFT] = p->under[RIGHT] = NULL;
	p->skip = p->user && !is_wanted(p, name);
	p->stage = NONE;
	if (p->skip)
		return SD_OK;
	stage = ADD(p->map->stages, p->map->nstages, p->map->stages_room);
	if (!stage)
		return sd_fail_memory(p->err);
	stage->name = name;
	p->stage = p->map->nstages - 1;
	return SD_OK;
}

static enum sd_result parse_stage(struct parser *p)
{
	const char *name = NULL;

	if (want(p, WORD, "the stage's name", &name) != SD_OK || want_end(p) != SD_OK)
		return p->err->result;
	return open_stage(p, name);
}

static enum sd_result parse_under(struct parser *p)
{
	const char *left = NULL, *right;

	if (want(p, WORD, "a pattern", &left) != SD_OK)
		return p->err->result;
	right = left;
	if (p->at < p->ntokens && want(p, WORD, "a pattern", &right) != SD_OK)
		return p->err->result;
	p->under[LEFT] = left;
	p->under[RIGHT] = right;
	return want_end(p);
}

static enum sd_result parse_guards(struct parser *p, struct guard **guards, uint32_t *n)
{
	*guards = sd_arena_array(&p->map->arena, p->nguards + p->ntokens, sizeof(**guards));
	if (!*guards)
		return sd_fail_memory(p->err);
	*n = p->nguards;
	if (p->nguards)
		memcpy(*guards, p->guards, p->nguards * sizeof(**guards));
	while (*peek(p) == '@')
		if (parse_guard(p, p->tokens[p->at++].text + 1, &(*guards)[(*n)++]) != SD_OK)
			return p->err->result;
	return SD_OK;
}

static enum sd_result read_file(struct parser *p, const char *text);

/* use MAP STAGE.. [@NAME=a] [under PATTERN [PATTERN]] */
static enum sd_result parse_use(struct parser *p)
{
	struct parser *used;
	struct guard *guards;
	const char *name = NULL, *text = NULL;
	struct token wanted[TOKENS_MAX];
	bool found[TOKENS_MAX] = {false};
	enum sd_result result;

	p->stage = NONE;
	p->skip = false;
	if (want(p, WORD, "the map's name", &name) != SD_OK)
		return p->err->result;
	if (p->user && !p->library)
		return fail(p, "map %s cannot be found from here", name);
	if (p->depth == USE_DEPTH)
		return fail(p, "maps use each other %d deep", USE_DEPTH);
	used = calloc(1, sizeof(*used));
	if (!used)
		return sd_fail_memory(p->err);
	*used = (struct parser){.map = p->map, .library = p->library, .user = p, .stage = NONE, .found = found,
				.depth = p->depth + 1, .err = p->err, .wanted = wanted};
	for (; *peek(p) && *peek(p) != '@' && strcmp(peek(p), "under") != 0; p->at++)
		if (!p->user || is_wanted(p, peek(p)))
			wanted[used->nwanted++] = p->tokens[p->at];
	result = parse_guards(p, &guards, &used->nguards);
	used->guards = guards;
	if (result == SD_OK && accept(p, "under")) {
		for (int side = LEFT; side <= RIGHT && result == SD_OK && p->at < p->ntokens; side++) {
			result = want(p, WORD, "a pattern", &text);
			if (result == SD_OK)
				result = full_pattern(p, text, side, &used->prefix[side]);
			used->prefix_all = side == RIGHT;
		}
		if (!used->prefix[RIGHT])
			used->prefix[RIGHT] = used->prefix[LEFT];
	}
	if (result == SD_OK)
		result = want_end(p);
	if (result == SD_OK && !used->nwanted)
		result = p->user ? SD_OK : fail(p, "behind the map's name come the stages to use");
	if (result == SD_OK && used->nwanted) {
		result = p->library ? p->library->read(p->library, name, &text, &used->file, p->err) :
				      fail(p, "map %s cannot be found from here", name);
		if (result == SD_OK)
			result = read_file(used, text);
		for (uint32_t i = 0; result == SD_OK && i < used->nwanted; i++)
			if (!found[i])
				result = fail(p, "map %s has no stage \"%s\"", name, used->wanted[i].text);
	}
	free(used);
	p->stage = NONE;
	return result;
}

static enum sd_result parse_axes(struct parser *p, struct axes *axes)
{
	const char *why;

	if (p->at == p->ntokens || p->tokens[p->at].kind != LIST)
		return SD_OK;
	why = sd_axes_parse(p->tokens[p->at++].text, &p->map->axes, &p->map->arena, axes);
	return why ? fail(p, "%s: %s", p->tokens[p->at - 1].text, why) : SD_OK;
}

static void parse_dtype(struct parser *p, uint8_t *dtype)
{
	*dtype = (uint8_t)sd_dtype_parse(peek(p), strlen(peek(p)));
	if (*dtype)
		p->at++;
}

/* What may stand on one side of a rule: its outcome, if it is one, or a pattern with what belongs to it. */
static enum sd_result parse_side(struct parser *p, struct rule *rule, int number, enum outcome *outcome)
{
	struct side *side = &rule->side[number];

	*outcome = accept(p, "drop") ? DROP : accept(p, "keep") ? KEEP : accept(p, "refuse") ? REFUSE : MOVE;
	if (*outcome == REFUSE)
		return want(p, STRING, "why it is refused, in \"\",", &rule->why);
	if (*outcome != MOVE)
		return SD_OK;
	if (want_pattern(p, number, &rule->holes, &side->key) != SD_OK || parse_axes(p, &side->axes) != SD_OK)
		return p->err->result;
	parse_dtype(p, &side->dtype);
	if (!accept(p, "+"))
		return SD_OK;
	side->scale = sd_arena_alloc(&p->map->arena, sizeof(*side->scale));
	if (!side->scale)
		return sd_fail_memory(p->err);
	if (want_pattern(p, number, &rule->holes, &side->scale->key) != SD_OK || parse_axes(p, &side->scale->axes) != SD_OK)
		return p->err->result;
	parse_dtype(p, &side->scale->dtype);
	return SD_OK;
}

static enum sd_result parse_arithmetic(struct parser *p, struct rule *rule)
{
	const char *word = NULL;

	if (want(p, WORD, "what is to be done to the values", &word) != SD_OK)
		return p->err->result;
	if (strcmp(word, "fp8") == 0) {
		rule->arithmetic = BLOCK_SCALE;
		return SD_OK;
	}
	rule->arithmetic = CAST;
	rule->cast = (uint8_t)sd_dtype_parse(word, strlen(word));
	return rule->cast ? SD_OK : fail(p, "\"%s\" is neither a dtype nor an arithmetic", word);
}

/* What may stand behind a rule. */
static enum sd_result parse_tail(struct parser *p, struct rule *rule, int read)
{
	uint32_t most = p->ntokens - p->at;

	rule->excepts = sd_arena_array(&p->map->arena, most, sizeof(*rule->excepts));
	rule->conditions = sd_arena_array(&p->map->arena, most, sizeof(*rule->conditions));
	if (!rule->excepts || !rule->conditions)
		return sd_fail_memory(p->err);
	while (p->at < p->ntokens) {
		bool wanted = strcmp(peek(p), "if") == 0;

		if (accept(p, ":")) {
			if (parse_arithmetic(p, rule) != SD_OK)
				return p->err->result;
		} else if (accept(p, "except")) {
			struct except *except = &rule->excepts[rule->nexcepts++];

			if (want_pattern(p, LEFT, &except->holes, &except->pattern) != SD_OK)
				return p->err->result;
		} else if (accept(p, "if") || accept(p, "unless")) {
			struct condition *condition = &rule->conditions[rule->nconditions];

			if (wanted && accept(p, "complete")) {
				rule->if_complete = true;
				continue;
			}
			rule->nconditions++;
			condition->wanted = wanted;
			if (want_pattern(p, read, &rule->holes, &condition->key) != SD_OK)
				return p->err->result;
			parse_dtype(p, &condition->dtype);
		} else {
			return want_end(p);
		}
	}
	return SD_OK;
}

static enum sd_result set_direction(struct parser *p, struct rule *rule, const char *op, const enum outcome *outcome)
{
	bool rightwards = strcmp(op, "->") == 0, leftwards = strcmp(op, "<-") == 0;

	if (strcmp(op, "<->") == 0)
		rule->direction = BOTH_WAYS;
	else if (strcmp(op, "<=") == 0)
		rule->direction = COPY;
	else if (rightwards || leftwards)
		rule->direction = rightwards ? RIGHTWARDS : LEFTWARDS;
	else
		return fail(p, "between the two sides stands <->, ->, <- or <=, not \"%s\"", op);
	if ((outcome[LEFT] != MOVE && !leftwards) || (outcome[RIGHT] != MOVE && !rightwards))
		return fail(p, "drop, keep and refuse stand where a -> or <- points to");
	if (!leftwards)
		rule->outcome[LEFT] = rule->direction == COPY ? COPIED : outcome[RIGHT];
	if (!rightwards)
		rule->outcome[RIGHT] = outcome[LEFT];
	return SD_OK;
}

/* `keep PATTERN`: both ways. */
static enum sd_result parse_keep(struct parser *p, struct rule *rule)
{
	uint32_t start = p->at;

	rule->outcome[LEFT] = rule->outcome[RIGHT] = KEEP;
	if (want_pattern(p, LEFT, &rule->holes, &rule->side[LEFT].key) != SD_OK)
		return p->err->result;
	p->at = start;
	return want_pattern(p, RIGHT, &rule->holes, &rule->side[RIGHT].key) == SD_OK ? want_end(p) : p->err->result;
}

static enum sd_result parse_rule(struct parser *p)
{
	struct rule rule = {.file = sd_arena_text(&p->map->arena, p->file, strlen(p->file)), .line = p->line,
			    .text = p->line_text, .next_part = {NONE, NONE}};
	struct stage *stage;
	struct rule *added;
	enum outcome outcome[2];
	const char *op = "";

	if (!rule.file)
		return sd_fail_memory(p->err);
	if (parse_guards(p, &rule.guards, &rule.nguards) != SD_OK)
		return p->err->result;
	if (strcmp(peek(p), "keep") == 0 && p->at + 2 == p->ntokens) {
		p->at++;
		if (parse_keep(p, &rule) != SD_OK)
			return p->err->result;
	} else {
		if (parse_side(p, &rule, LEFT, &outcome[LEFT]) != SD_OK ||
		    want(p, WORD, "an arrow behind the left side", &op) != SD_OK ||
		    parse_side(p, &rule, RIGHT, &outcome[RIGHT]) != SD_OK ||
		    set_direction(p, &rule, op, outcome) != SD_OK ||
		    parse_tail(p, &rule, rule.outcome[LEFT] ? LEFT : RIGHT) != SD_OK ||
		    sd_map_check_rule(p->map, &rule, p->err) != SD_OK)
			return p->err->result;
	}
	stage = &p->map->stages[p->stage];
	added = ADD(stage->rules, stage->nrules, stage->rules_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = rule;
	return SD_OK;
}

static enum sd_result parse_line(struct parser *p)
{
	static const struct {
		const char *word;
		enum sd_result (*parse)(struct parser *p);
	} statements[] = {
		{"map", parse_map}, {"model", parse_model}, {"option", parse_option}, {"set", parse_set},
		{"table", parse_table}, {"label", parse_label}, {"size", parse_size}, {"stage", parse_stage},
		{"use", parse_use},
	};

	if (!p->ntokens)
		return SD_OK;
	if (!p->named && strcmp(peek(p), "map") != 0)
		return fail(p, "a map begins with: map NAME LEFT RIGHT");
	for (size_t i = 0; i < sizeof(statements) / sizeof(*statements); i++)
		if (accept(p, statements[i].word))
			return statements[i].parse(p);
	if (p->skip)
		return SD_OK;
	if (p->stage == NONE)
		return fail(p, "\"%s\" is no statement, and a rule stands in a stage", p->tokens[0].text);
	return accept(p, "under") ? parse_under(p) : parse_rule(p);
}

static enum sd_result read_file(struct parser *p, const char *text)
{
	for (p->line = 1; *text; p->line++) {
		size_t length = strcspn(text, "\n"), from = strspn(text, " \t"), to = length;

		while (to > from && isspace((unsigned char)text[to - 1]))
			to--;
		p->line_text = from < to ? sd_arena_text(&p->map->arena, text + from, to - from) : "";
		if (!p->line_text)
			return sd_fail_memory(p->err);
		if (split_line(p, text, length) != SD_OK || parse_line(p) != SD_OK)
			return p->err->result;
		text += length + (text[length] == '\n');
	}
	if (!p->named)
		return fail(p, "a map begins with: map NAME LEFT RIGHT");
	return SD_OK;
}

enum sd_result sd_map_parse(const char *file, const char *text, struct sd_map_library *library, struct sd_map **map,
			    struct sd_error *err)
{
	struct sd_map *made = calloc(1, sizeof(*made));
	struct parser *p = calloc(1, sizeof(*p));
	struct sd_error own;
	enum sd_result result = SD_OK;

	if (!made || !p) {
		free(made);
		free(p);
		return sd_fail_memory(err);
	}
	if (!err)
		err = &own;
	*p = (struct parser){.map = made, .library = library, .file = file, .stage = NONE, .err = err};
	made->file = sd_arena_text(&made->arena, file, strlen(file));
	result = made->file ? read_file(p, text) : sd_fail_memory(err);
	for (uint32_t i = 0; result == SD_OK && i < made->nstages; i++)
		result = sd_map_check_stage(made, &made->stages[i], err);
	if (result == SD_OK)
		result = sd_map_check_overlap(made, err);
	free(p);
	if (result == SD_OK)
		*map = made;
	else
		sd_map_free(made);
	return result;
}

void sd_map_free(struct sd_map *map)
{
	if (!map)
		return;
	for (uint32_t i = 0; i < map->nstages; i++)
		free(map->stages[i].rules);
	free(map->stages);
	free(map->options);
	free(map->texts);
	free(map->tables);
	free(map->labels);
	free(map->sizes);
	sd_arena_free(&map->arena);
	free(map);
}

const char *sd_map_name(const struct sd_map *map)
{
	return map->name;
}

const char *sd_map_layout(const struct sd_map *map, int side)
{
	return map->layout[side];
}

bool sd_map_is_part(const struct sd_map *map)
{
	return map->part;
}

bool sd_map_is_for(const struct sd_map *map, const char *model)
{
	for (uint32_t i = 0; i < map->nmodels; i++)
		if (strcmp(map->models[i], model) == 0)
			return true;
	return false;
}

bool sd_map_option(const struct sd_map *map, size_t number, const char **name, const char **values, bool *from_keys)
{
	if (number >= map->noptions)
		return false;
	*name = map->options[number].name;
	*values = map->options[number].text;
	*from_keys = map->options[number].from_keys;
	return true;
}
