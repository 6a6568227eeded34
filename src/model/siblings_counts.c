/* SPDX-License-Identifier: Apache-2.0 */
/* Compares how many units a stack has with their numbers and with config.json. */
#include "model/siblings_search.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "2 and 5", "0, 1, 2, 3, 4 and 7 more": the numbers from begin to end that no unit of a stack has. */
static const char *list_gaps(struct sd_siblings *s, const struct sd_sibling_stack *stack, uint64_t begin, uint64_t end,
			     uint64_t *first, uint64_t *n)
{
	const char *text = "";
	uint64_t named = 0;

	*n = 0;
	for (int telling = 0; telling < 2; telling++) {
		size_t k = stack->begin;

		for (uint64_t i = begin; i < end && text; i++) {
			while (k < stack->end && s->units[s->order[k]].number < i)
				k++;
			if (k < stack->end && s->units[s->order[k]].number == i)
				continue;
			if (!telling) {
				*first = *n ? *first : i;
				++*n;
			} else if (named++ < NAMED_MAX) {
				text = sd_arena_printf(s->arena, "%s%s%" PRIu64, text,
						       named == 1                       ? ""
						       : named == *n && *n <= NAMED_MAX ? " and "
											: ", ",
						       i);
			}
		}
	}
	if (text && *n > NAMED_MAX)
		text = sd_arena_printf(s->arena, "%s and %" PRIu64 " more", text, *n - NAMED_MAX);
	s->memory = s->memory && text;
	return text;
}

/* ", and model.layers.-1. is there": what stands in the place of a number and can be none; "" where nothing does. */
static const char *say_instead(struct sd_siblings *s, const struct sd_sibling_stack *stack)
{
	size_t length = strlen(stack->prefix);
	const char *text = "";

	for (size_t i = 0; i < s->m->ntargets && text && !*text; i++) {
		const char *name = s->m->targets[i].name, *number = name + length;
		size_t part;

		if (strncmp(name, stack->prefix, length) != 0)
			continue;
		part = strcspn(number, ".");
		if (*number == '-' || (part > NUMBER_DIGITS && strspn(number, "0123456789") == part))
			text = sd_arena_printf(s->arena, ", and %.*s is there", (int)(length + part + 1), name);
	}
	s->memory = s->memory && text;
	return text ? text : "";
}

static void find_gaps(struct sd_siblings *s, const struct sd_sibling_stack *stack, uint64_t begin, uint64_t end)
{
	uint64_t first = 0, n;
	const char *text = list_gaps(s, stack, begin, end, &first, &n);
	struct sd_finding *f;
	char one[32], among[32];

	if (!n || !s->memory)
		return;
	f = sd_siblings_add_finding(s, SD_ODD_GAP, sd_arena_printf(s->arena, "%s%" PRIu64 ".", stack->prefix, first));
	if (!f)
		return;
	snprintf(among, sizeof(among), "%.*s", (int)strcspn(stack->word, "."), stack->word);
	f->line = sd_arena_printf(s->arena, "%s %s of %" PRIu64 " %s not there: no key begins with %s%s",
				  sd_siblings_one_of(among, n, one), text, end, n > 1 ? "are" : "is", f->name,
				  say_instead(s, stack));
}

static bool is_experts(const struct sd_sibling_stack *stack)
{
	return strncmp(stack->word, EXPERTS, strlen(EXPERTS)) == 0;
}

/* Whether experts are not those that config.json counts. */
static bool is_other_expert(const char *prefix)
{
	return strstr(prefix, "vis") || strstr(prefix, "audio") || strstr(prefix, "talker") || strstr(prefix, "mtp") ||
	       strstr(prefix, "shared");
}

/* How many experts the layers of one pattern have. */
struct census {
	size_t stacks, usual, votes; /* how many stacks; what more than half of them have, if any number is so */
	size_t have;                 /* how many of them have that */
};

/* What more than half of them have wins each vote (Boyer and Moore). */
static void vote(struct census *c, const struct sd_sibling_stack *stack)
{
	size_t n = stack->end - stack->begin;

	c->stacks++;
	if (!c->votes)
		c->usual = n;
	c->votes = n == c->usual ? c->votes + 1 : c->votes - 1;
}

static void count_stacks(struct sd_siblings *s, struct census *census)
{
	for (size_t i = 0; i < s->nstacks; i++)
		if (is_experts(&s->stacks[i]))
			vote(&census[s->stacks[i].pattern], &s->stacks[i]);
	for (size_t i = 0; i < s->nstacks; i++) {
		struct census *c = &census[s->stacks[i].pattern];

		c->have += is_experts(&s->stacks[i]) && s->stacks[i].end - s->stacks[i].begin == c->usual;
	}
}

/* No layer has as many experts as config.json counts, though they begin with the first one. */
static void compare_with_config(struct sd_siblings *s, const struct sd_sibling_stack *stack, const struct census *c)
{
	uint64_t of;
	struct sd_finding *f;

	if (is_other_expert(stack->prefix) || c->have < c->stacks || !sd_config_count(s->m, SD_CONFIG_EXPERTS, &of) ||
	    of <= c->usual || s->units[s->order[stack->end - 1]].number + 1 != c->usual)
		return;
	f = sd_siblings_add_finding(s, SD_ODD_COUNT, stack->prefix);
	if (f)
		f->line = sd_arena_printf(s->arena,
					  "of the %" PRIu64
					  " experts that config.json counts %zu are there: no key begins with %s%zu.",
					  of, c->usual, stack->prefix, c->usual);
}

/* The experts of a layer against those of the layers that are alike. */
static void compare_counts(struct sd_siblings *s)
{
	struct census *census = calloc(s->patterns.used + 1, sizeof(*census));
	bool compared = false;

	s->memory = census;
	if (s->memory)
		count_stacks(s, census);
	for (size_t i = 0; i < s->nstacks && s->memory; i++) {
		const struct sd_sibling_stack *stack = &s->stacks[i];
		const struct census *c = &census[stack->pattern];
		size_t n = stack->end - stack->begin;
		struct sd_finding *f;

		if (is_experts(stack) && !compared) {
			compare_with_config(s, stack, c);
			compared = true;
		}
		/* A gap is told already. */
		if (!is_experts(stack) || n == c->usual || c->have < 2 || 2 * c->have <= c->stacks ||
		    s->units[s->order[stack->end - 1]].number >= n)
			continue;
		f = sd_siblings_add_finding(s, SD_ODD_COUNT, stack->prefix);
		if (f)
			f->line = sd_arena_printf(s->arena, "%s has %zu experts, and %zu other layers have %zu",
						  stack->prefix, n, c->have, c->usual);
	}
	free(census);
}

/* Whether a unit has something that none of those in front of it has: a layer for prediction, among layers. */
static bool is_unlike(const struct sd_siblings *s, const struct sd_sibling_stack *stack, size_t at, uint64_t end)
{
	const struct sd_sibling_unit *u = &s->units[s->order[at]];

	for (size_t e = u->begin; e < u->end; e++) {
		bool found = false;

		for (size_t i = stack->begin; i < at && !found && s->units[s->order[i]].number < end; i++)
			found = sd_siblings_has_part(s, &s->units[s->order[i]], (uint32_t)s->entries[e]);
		if (!found)
			return true;
	}
	return false;
}

/* More layers than config.json counts, and of the same kinds. */
static void find_surplus(struct sd_siblings *s, const struct sd_sibling_stack *stack, uint64_t of)
{
	size_t at = stack->begin;
	struct sd_finding *f;

	while (at < stack->end && s->units[s->order[at]].number < of)
		at++;
	if (at == stack->begin || at == stack->end || is_unlike(s, stack, at, of))
		return;
	f = sd_siblings_add_finding(s, SD_ODD_COUNT, sd_arena_printf(s->arena, "%s%" PRIu64 ".", stack->prefix, of));
	if (f)
		f->line = sd_arena_printf(s->arena,
					  "config.json counts %" PRIu64 " layers, and there are %" PRIu32
					  ": keys begin with %s",
					  of, s->units[s->order[stack->end - 1]].number + 1, f->name);
}

void sd_siblings_find_all_gaps(struct sd_siblings *s, const struct sd_sibling_stack *layers)
{
	for (size_t i = 0; i < s->nstacks && s->memory; i++) {
		const struct sd_sibling_stack *stack = &s->stacks[i];
		uint64_t begin = s->units[s->order[stack->begin]].number;
		uint64_t end = (uint64_t)s->units[s->order[stack->end - 1]].number + 1, of;
		bool counted = false;

		if (stack == layers && sd_config_count(s->m, SD_CONFIG_LAYERS, &of) && of <= TYPES_MAX) {
			begin = 0;
			end = of;
			counted = true;
			find_surplus(s, stack, of);
		}
		/* A few of many numbers are a choice, and no gaps. */
		if (counted || end - begin <= 2 * (stack->end - stack->begin))
			find_gaps(s, stack, begin, end);
	}
	compare_counts(s);
}

/* A name of no layer that is nearly this one, or NULL. */
static const char *find_near(const struct sd_siblings *s, const char *missing)
{
	size_t length = strlen(missing), stack;
	uint32_t number;

	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *name = s->m->targets[i].name;
		size_t now = strlen(name);

		if (now <= length + SLIPS && length <= now + SLIPS && !sd_stack_layer(name, &stack, &number) &&
		    sd_text_distance(name, missing, SLIPS) <= SLIPS)
			return name;
	}
	return NULL;
}

void sd_siblings_tell_end(void *user, const char *missing)
{
	struct sd_siblings *s = user;
	const char *near = find_near(s, missing), *name = sd_arena_text(s->arena, missing, strlen(missing));
	struct sd_finding *f = sd_siblings_add_finding(s, near ? SD_ODD_TYPO : SD_ODD_GAP, near && name ? near : name);

	if (!f)
		return;
	f->tensors = 1;
	f->near = near ? name : NULL;
	f->is = near ? sd_siblings_find_target(s, near) : NULL;
	f->line = near ? sd_arena_printf(s->arena, "%s: %s? that is not there", near, name)
		       : sd_arena_printf(s->arena, "%s is not there, nor another one in its place", name);
}
