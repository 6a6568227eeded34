/* SPDX-License-Identifier: Apache-2.0 */
/* Text to patterns. */
#include "base/text.h"
#include "map/parser.h"

#include <ctype.h>

struct sd_map_table *sd_parse_table(struct sd_map *map, const char *name)
{
	for (uint32_t i = 0; i < map->ntables; i++)
		if (strcmp(map->tables[i].name, name) == 0)
			return &map->tables[i];
	return NULL;
}

static enum sd_result new_hole(struct sd_parser *p, const char *name, enum sd_map_hole_kind kind, const char *words,
			       struct sd_map_hole *hole)
{
	const struct sd_map_table *table = sd_parse_table(p->map, name);

	*hole = (struct sd_map_hole){.name = name, .kind = kind};
	if (words) {
		const char **list;

		hole->kind = HOLE_CHOICE;
		if (sd_token_words(p, words, &list, &hole->nwords) != SD_OK)
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

static bool same_hole(const struct sd_map_hole *a, const struct sd_map_hole *b)
{
	if (a->kind != b->kind || a->nwords != b->nwords)
		return false;
	for (uint32_t i = 0; i < a->nwords; i++)
		if (strcmp(a->words[LEFT][i], b->words[LEFT][i]) != 0)
			return false;
	return true;
}

enum sd_result sd_parse_amount(struct sd_parser *p, const char *text, struct sd_map_amount *amount)
{
	*amount = (struct sd_map_amount){0};
	if (sd_text_number(text, &amount->number))
		return SD_OK;
	for (uint32_t i = 0; i < p->map->nsizes; i++)
		if (strcmp(p->map->axes.name[p->map->sizes[i].axis], text) == 0) {
			amount->is_axis = true;
			amount->axis = p->map->sizes[i].axis;
			return SD_OK;
		}
	return sd_parse_fail(p, "\"%s\" is neither a number nor a size", text);
}

static enum sd_result parse_hole(struct sd_parser *p, char *text, struct sd_map_holes *holes, uint32_t *number);

/* "L-N" or "L+N", at the sign: a hole of its own, besides {L}. */
static enum sd_result parse_shifted(struct sd_parser *p, const char *text, const char *sign, struct sd_map_holes *holes,
				    uint32_t *number)
{
	struct sd_map_hole hole = {.name = text, .kind = HOLE_NUMBER, .shifted = true, .minus = *sign == '-'};
	char *base = sd_arena_text(&p->map->arena, text, (size_t)(sign - text));

	if (!base)
		return sd_fail_memory(p->err);
	for (*number = 0; *number < holes->n; ++*number)
		if (strcmp(holes->hole[*number].name, text) == 0)
			return SD_OK;
	if (sd_parse_amount(p, sign + 1, &hole.by) != SD_OK || parse_hole(p, base, holes, &hole.base) != SD_OK)
		return p->err->result;
	if (holes->hole[hole.base].kind != HOLE_NUMBER)
		return sd_parse_fail(p, "hole {%s} is no number", base);
	if (holes->n == HOLES_MAX)
		return sd_parse_fail(p, "a rule can have %d holes", HOLES_MAX);
	*number = holes->n++;
	holes->hole[*number] = hole;
	return SD_OK;
}

/* "x", "x*", "x=a|b" or "L-N": the hole's number among the rule's holes. */
static enum sd_result parse_hole(struct sd_parser *p, char *text, struct sd_map_holes *holes, uint32_t *number)
{
	char *words = sd_token_cut(text);
	size_t length = strlen(text);
	bool any = !words && length && text[length - 1] == '*';
	const char *sign = words ? NULL : strpbrk(text, "-+");
	struct sd_map_hole hole;

	if (sign && sign == text + 1)
		return parse_shifted(p, text, sign, holes, number);
	if (any)
		text[length - 1] = '\0';
	if (!sd_token_is_name(text))
		return sd_parse_fail(p, "\"{%s}\" is no hole: a hole is {x}, {x*} or {x=a|b}", text);
	if (new_hole(p, text, any ? HOLE_ANY : HOLE_WORD, words, &hole) != SD_OK)
		return p->err->result;
	for (*number = 0; *number < holes->n; ++*number) {
		const struct sd_map_hole *old = &holes->hole[*number];

		if (strcmp(old->name, text) != 0)
			continue;
		if ((!any && !words) || same_hole(old, &hole))
			return SD_OK;
		return sd_parse_fail(p, "hole {%s} is said twice, and not the same", text);
	}
	if (holes->n == HOLES_MAX)
		return sd_parse_fail(p, "a rule can have %d holes", HOLES_MAX);
	holes->hole[holes->n++] = hole;
	return SD_OK;
}

enum sd_result sd_parse_no_shift(struct sd_parser *p, const struct sd_map_holes *holes)
{
	for (uint32_t i = 0; i < holes->n; i++)
		if (holes->hole[i].shifted)
			return sd_parse_fail(p, "{%s} can only stand in a rule", holes->hole[i].name);
	return SD_OK;
}

static enum sd_result parse_text_name(struct sd_parser *p, const char *name, uint32_t *number)
{
	for (*number = 0; *number < p->map->ntexts; ++*number)
		if (strcmp(p->map->texts[*number].name, name) == 0)
			return SD_OK;
	return sd_parse_fail(p, "${%s} is not set", name);
}

enum sd_result sd_parse_pattern(struct sd_parser *p, const char *text, int side, struct sd_map_holes *holes,
				struct sd_pattern *pattern)
{
	const char *at = text;

	*pattern = (struct sd_pattern){.text = text, .side = side};
	if (strlen(text) > TOKEN_MAX)
		return sd_parse_fail(p, "a pattern of %zu bytes; at most %d are allowed", strlen(text), TOKEN_MAX);
	pattern->elements = sd_arena_array(&p->map->arena, strlen(text), sizeof(*pattern->elements));
	if (!pattern->elements)
		return sd_fail_memory(p->err);
	while (*at) {
		struct sd_map_element *e = &pattern->elements[pattern->n];
		bool is_text = at[0] == '$' && at[1] == '{';

		if (is_text || *at == '{') {
			const char *start = at + 1 + is_text, *end = strchr(at, '}');
			char *inside;

			if (!end)
				return sd_parse_fail(p, "a { is not closed");
			inside = sd_arena_text(&p->map->arena, start, (size_t)(end - start));
			if (!inside)
				return sd_fail_memory(p->err);
			e->kind = is_text ? TEXT : HOLE;
			if ((is_text ? parse_text_name(p, inside, &e->number)
				     : parse_hole(p, inside, holes, &e->number)) != SD_OK)
				return p->err->result;
			if (!is_text && sd_pattern_has(pattern, e->number))
				return sd_parse_fail(p, "hole {%s} stands twice in one pattern",
						     holes->hole[e->number].name);
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
				return sd_parse_fail(p, "a } that closes nothing");
		}
		pattern->n++;
	}
	sd_pattern_finish(pattern, holes);
	return SD_OK;
}

/* What stands in front of the patterns of this file: its `under`, and what the map that uses it says. */
enum sd_result sd_parse_full_pattern(struct sd_parser *p, const char *text, int side, const char **full)
{
	*full = text;
	if (*text == '.' && p->under[side])
		*full = sd_arena_printf(&p->map->arena, "%s%s", p->under[side], text);
	if (*full && p->prefix[side] && (p->prefix_all || **full == '.'))
		*full = sd_arena_printf(&p->map->arena, "%s%s", p->prefix[side], *full);
	if (!*full)
		return sd_fail_memory(p->err);
	if (*full != text && !sd_token_is_plain(*full))
		return sd_parse_fail(p, "with what it stands under, this is \"%s\": no pattern", *full);
	if (**full == '.')
		p->map->part = true;
	return SD_OK;
}

enum sd_result sd_parse_want_pattern(struct sd_parser *p, int side, struct sd_map_holes *holes,
				     struct sd_pattern *pattern)
{
	const char *text = NULL, *full = NULL;

	if (sd_token_want(p, WORD, "a pattern", &text) != SD_OK || sd_parse_full_pattern(p, text, side, &full) != SD_OK)
		return p->err->result;
	return sd_parse_pattern(p, full, side, holes, pattern);
}
