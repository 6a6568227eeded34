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

/* "experts 1, 2 and 7 more of 128 have no down_proj.weight, " */
static void put_numbers(struct line *line, const struct sd_planner_missing *m, const struct sd_map_values *values)
{
	const struct sd_map_stack *stack = &m->part->stack[0];
	const struct sd_map_value *number = &values->value[stack->hole];
	const char *rest = number->text + number->length;
	bool one = m->numbers == 1;

	put_word(line, m->keys[0], number, m->part->holes.hole[stack->hole].name, one);
	for (uint32_t i = 0; i < m->numbers && i < MISSING_MAX; i++)
		put(line, "%s%" PRIu64, !i ? "" : i + 1 == m->numbers ? " and " : ", ", m->number[i]);
	if (m->numbers > MISSING_MAX)
		put(line, " and %" PRIu64 " more", m->numbers - MISSING_MAX);
	put(line, " of %" PRIu64, m->of);
	rest += *rest == '.';
	if (m->mixed || !*rest)
		put(line, " %s, ", one ? "is incomplete" : "are incomplete");
	else
		put(line, " %s no %s, ", one ? "has" : "have", rest);
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
		put_numbers(&line, m, &values);
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
