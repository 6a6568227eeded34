/* SPDX-License-Identifier: Apache-2.0 */
/* How missing keys are told: "layer 3: experts 17 and 40 of 128 have no up_proj.weight, 2 keys are missing: ..". */
#include "renaming/missing_keys.h"
#include "model/siblings.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A text that is written piece by piece, cut where it is full. */
struct line {
	char text[1024];
	size_t used;
};

static void put(struct line *line, const char *format, ...) SD_PRINTF(2, 3);

static void put(struct line *line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (line->used < sizeof(line->text))
		line->used += (size_t)vsnprintf(line->text + line->used, sizeof(line->text) - line->used, format, args);
	va_end(args);
}

/* What stands in front of a number in a key: "experts" of "a.experts.7.b", else the hole's name. */
static void put_word(struct line *line, const char *key, const struct sd_map_value *number, const char *hole, bool one)
{
	const char *end = number->text, *start;

	if (end > key && (end[-1] == '.' || end[-1] == '_'))
		end--;
	for (start = end; start > key && (isalpha((unsigned char)start[-1]) || start[-1] == '_'); start--)
		;
	if (start == end || (start > key && start[-1] != '.')) {
		put(line, "%s ", hole);
		return;
	}
	if (one && end - start > 1 && end[-1] == 's')
		end--;
	put(line, "%.*s ", (int)(end - start), start);
}

/* "layer 3", by the first number of the key that is not stacked over; else the target's name. */
static void put_place(struct line *line, const struct sd_planner *p, const struct sd_planner_missing *m,
		      const struct sd_map_values *values)
{
	const struct sd_pattern *key = &m->part->side[p->from].key;

	for (uint32_t i = 0; i < key->n; i++) {
		uint32_t h = key->elements[i].number;

		if (key->elements[i].kind != HOLE || m->part->holes.hole[h].kind != HOLE_NUMBER ||
		    h == m->part->stack[0].hole)
			continue;
		put_word(line, m->keys[0], &values->value[h], m->part->holes.hole[h].name, true);
		put(line, "%.*s: ", (int)values->value[h].length, values->value[h].text);
		return;
	}
	put(line, "%s: ", m->target);
}

/* "experts 1, 2 and 7 more of 128" */
static void put_numbers(struct line *line, const struct sd_planner_missing *m, const struct sd_map_values *values)
{
	const struct sd_map_stack *stack = &m->part->stack[0];
	const struct sd_map_value *number = &values->value[stack->hole];
	bool one = m->numbers == 1;

	put_word(line, m->keys[0], number, m->part->holes.hole[stack->hole].name, one);
	for (uint32_t i = 0; i < m->numbers && i < MISSING_MAX; i++)
		put(line, "%s%" PRIu64, !i ? "" : i + 1 == m->numbers ? " and " : ", ", m->number[i]);
	if (m->numbers > MISSING_MAX)
		put(line, " and %" PRIu64 " more", m->numbers - MISSING_MAX);
	put(line, " of %" PRIu64, m->of);
}

/* " have no down_proj.weight, " */
static void put_rest(struct line *line, const struct sd_planner_missing *m, const struct sd_map_values *values)
{
	const struct sd_map_value *number = &values->value[m->part->stack[0].hole];
	const char *rest = number->text + number->length;
	bool one = m->numbers == 1;

	rest += *rest == '.';
	if (m->mixed || !*rest)
		put(line, " %s, ", one ? "is incomplete" : "are incomplete");
	else
		put(line, " %s no %s, ", one ? "has" : "have", rest);
}

#define LOOKED_MAX 16 /* lines for which all names are looked at */
#define PARTS_MAX 8

/* Whether any name begins so. */
static bool begins_any(const struct sd_planner *p, const char *text, size_t length)
{
	for (size_t i = 0; i < p->in->ntargets; i++)
		if (strncmp(p->in->targets[i].name, text, length) == 0)
			return true;
	return false;
}

/* " (down_proj, gate_proj)": what the first expert that is there has. stem: "model.layers.0.mlp.experts." */
static void put_parts(struct line *line, const struct sd_planner *p, const char *stem, size_t length)
{
	const char *expert = NULL;
	size_t whole = 0, n = 0;

	for (size_t i = 0; i < p->in->ntargets && n < PARTS_MAX; i++) {
		const char *name = p->in->targets[i].name, *part, *end;

		if (strncmp(name, stem, length) != 0 || (expert && strncmp(name, expert, whole) != 0))
			continue;
		if (!expert) {
			expert = name;
			whole = length + strspn(name + length, "0123456789") + 1;
		}
		part = name + whole;
		end = strstr(part, ".weight");
		put(line, "%s%.*s", n++ ? ", " : " (", (int)(end ? (size_t)(end - part) : strlen(part)), part);
	}
	put(line, n ? ")" : "");
}

/* "sd-cat --experts 0-3 if those in front are all": of numbers that are the last ones. It cuts config.json and routers,
 * too, where it can; else a size that -D says. */
static void put_advice(struct line *line, const struct sd_planner *p, const struct sd_planner_missing *m)
{
	const struct sd_map_stack *stack = &m->part->stack[0];

	if (m->number[0] == 0 || m->last + 1 != m->of || m->number[0] + m->numbers != m->of)
		return;
	for (uint32_t i = 0; i < p->map->nsizes; i++)
		if (p->map->sizes[i].axis == stack->axis && p->map->sizes[i].option && p->map->sizes[i].nconfig) {
			if (strcmp(p->map->sizes[i].option, "experts") == 0)
				put(line, "; sd-cat --experts 0-%" PRIu64 " if those in front are all",
				    m->number[0] - 1);
			else
				put(line, "; -D %s=%" PRIu64 " if those in front are all", p->map->sizes[i].option,
				    m->number[0]);
			return;
		}
}

/*
 * "expert 7 of 8 is missing: no key begins with model.layers.2.mlp.experts.7. (down_proj, gate_proj, up_proj)", where
 * nothing at all is there of the experts. False where something is.
 */
static bool put_whole(struct line *line, struct sd_planner *p, const struct sd_planner_missing *m,
		      const struct sd_map_values *values)
{
	const struct sd_map_value *number = &values->value[m->part->stack[0].hole];
	size_t stem = (size_t)(number->text - m->keys[0]), length = stem + number->length + 1;

	static const char word[] = "experts.";

	if (stem < sizeof(word) || strncmp(number->text - (sizeof(word) - 1), word, sizeof(word) - 1) != 0)
		return false;
	if (m->keys[0][length - 1] != '.' || p->nlooked++ >= LOOKED_MAX || !begins_any(p, m->keys[0], stem))
		return false;
	for (uint32_t i = 0; i < m->count && i < MISSING_MAX; i++)
		if (begins_any(p, m->keys[i], stem + strcspn(m->keys[i] + stem, ".") + 1))
			return false;
	put_numbers(line, m, values);
	put(line, m->numbers == 1 ? " is" : " are");
	put(line, " missing: no key begins with %.*s", (int)length, m->keys[0]);
	put_parts(line, p, m->keys[0], stem);
	put_advice(line, p, m);
	return true;
}

void sd_missing_add(struct sd_planner_missing *m, const struct sd_rule *part, uint64_t number, const char *key)
{
	m->mixed = m->mixed || (m->part && m->part != part);
	m->part = m->part ? m->part : part;
	if (m->count < MISSING_MAX)
		m->keys[m->count] = key;
	m->count++;
	if (m->numbers && m->last == number)
		return;
	if (m->numbers < MISSING_MAX)
		m->number[m->numbers] = number;
	m->numbers++;
	m->last = number;
}

const char *sd_missing_text(const struct sd_planner_missing *m, struct sd_planner *p)
{
	struct line line = {.used = 0};
	struct sd_map_values values = {0};
	/* One alone may be misspelt; many are with another rank. */
	const char *near = m->count == 1 ? sd_siblings_near(p->in, m->keys[0]) : NULL;

	if (m->part && m->part->stacks == 1 &&
	    sd_pattern_match(&m->part->side[p->from].key, &m->part->holes, p->texts, m->keys[0], strlen(m->keys[0]),
			     &p->scratch, &values)) {
		put_place(&line, p, m, &values);
		if (put_whole(&line, p, m, &values))
			return sd_arena_printf(&p->out->arena, "%s (%s:%u)", line.text, m->rule->file, m->rule->line);
		put_numbers(&line, m, &values);
		put_rest(&line, m, &values);
	} else {
		put(&line, "%s: ", m->target);
	}
	if (m->count > MISSING_COUNTED)
		put(&line, "more than %u keys are missing: ", MISSING_COUNTED);
	else
		put(&line, "%" PRIu64 " %s missing: ", m->count, m->count == 1 ? "key is" : "keys are");
	for (uint32_t i = 0; i < m->count && i < MISSING_MAX; i++)
		put(&line, "%s%s", i ? ", " : "", m->keys[i]);
	return sd_arena_printf(&p->out->arena, "%s%s%s%s (%s:%u)", line.text, m->count > MISSING_MAX ? ", ..." : "",
			       near ? "; there is " : "", near ? near : "", m->rule->file, m->rule->line);
}

enum sd_result sd_missing_fail(const struct sd_planner_missing *m, struct sd_planner *p)
{
	const char *text = sd_missing_text(m, p);

	return text ? sd_fail(p->err, SD_INPUT, "%s", text) : sd_fail_memory(p->err);
}
