/* SPDX-License-Identifier: Apache-2.0 */
/* Groups that number the same things. */
#include "renaming/family.h"
#include "renaming/missing_keys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct family {
	const char *name;
	const struct sd_rule *rule;  /* of the first member */
	struct sd_map_values values; /* of the first member */
	const char *owner;           /* the tensor that said the sizes, of those that are written one by one */
	uint64_t size[STACKS_MAX];
};

static bool is_stacked(const struct sd_rule *rule, uint32_t hole, int side)
{
	for (uint32_t i = 0; i < rule->stacks; i++)
		if (rule->stack[i].hole == hole && rule->stack[i].key_side == side)
			return true;
	return false;
}

static size_t put(char *at, const char *text, size_t length)
{
	if (length)
		memcpy(at, text, length);
	return length;
}

/* "E,;L=3;a=model.;": what the members of a family share. side: where the numbers are in the key. */
static char *family_name(struct sd_planner *p, const struct sd_rule *rule, const struct sd_map_values *values, int side)
{
	size_t length = 1, used = 0;
	char *name;

	for (uint32_t h = 0; h < rule->holes.n; h++)
		length += strlen(rule->holes.hole[h].name) + 2 +
			  (is_stacked(rule, h, side) ? 0 : values->value[h].length);
	name = sd_arena_alloc(&p->out->arena, length);
	for (uint32_t h = 0; name && h < rule->holes.n; h++) {
		bool stacked = is_stacked(rule, h, side);

		used += put(name + used, rule->holes.hole[h].name, strlen(rule->holes.hole[h].name));
		used += put(name + used, stacked ? "," : "=", 1);
		if (!stacked)
			used += put(name + used, values->value[h].text, values->value[h].length);
		used += put(name + used, ";", 1);
	}
	return name;
}

/* The family, a new one if need be, and its number; NULL when memory is out. */
static struct family *find_family(struct sd_planner_families *families, struct sd_planner *p,
				  const struct sd_rule *rule, const struct sd_map_values *values, int side,
				  uint32_t *number)
{
	char *name = family_name(p, rule, values, side);

	*number = name ? sd_names_add(&families->names, name, (uint32_t)families->n) : SD_NO_NAME;
	if (*number == SD_NO_NAME)
		return NULL;
	if (*number < families->n) {
		sd_arena_undo(&p->out->arena, name);
	} else {
		if (!sd_array_grow(&families->at, families->n, &families->room, sizeof(*families->at)))
			return NULL;
		families->at[families->n++] = (struct family){.name = name, .rule = rule, .values = *values};
	}
	return &families->at[*number];
}

enum sd_result sd_family_note(struct sd_planner_families *families, struct sd_planner *p, const struct sd_rule *rule,
			      const struct sd_planner_member *member, const struct sd_map_values *values,
			      uint32_t *family)
{
	struct family *f = find_family(families, p, rule, values, p->from, family);

	if (!f)
		return sd_fail_memory(p->err);
	for (uint32_t i = 0; i < rule->stacks; i++)
		if (member->index[i] >= f->size[i])
			f->size[i] = member->index[i] + 1;
	return SD_OK;
}

enum sd_result sd_family_agree(struct sd_planner_families *families, struct sd_planner *p, const struct sd_rule *rule,
			       const struct sd_planner_tensor *t, const struct sd_map_values *values,
			       const axis_sizes sizes)
{
	uint32_t number;
	struct family *f = find_family(families, p, rule, values, !p->from, &number);

	if (!f)
		return sd_fail_memory(p->err);
	for (uint32_t i = 0; i < rule->stacks; i++) {
		uint32_t axis = rule->stack[i].axis;

		if (rule->stack[i].key_side == p->from)
			continue;
		if (!f->owner)
			f->size[i] = sizes[axis];
		else if (f->size[i] != sizes[axis])
			return sd_fail(p->err, SD_INPUT,
				       "%s is %" PRIu64 " in %s and %" PRIu64
				       " in %s, which number the same things (%s:%u)",
				       p->map->axes.name[axis], f->size[i], f->owner, sizes[axis], t->name, rule->file,
				       rule->line);
	}
	if (!f->owner)
		f->owner = t->name;
	return SD_OK;
}

uint64_t sd_family_size(const struct sd_planner_families *families, uint32_t family, uint32_t i)
{
	return families->at[family].size[i];
}

/* The family's values for the holes of another rule; false if the two have different ones. */
static bool carry_over(const struct sd_planner *p, const struct family *f, const struct sd_rule *rule,
		       struct sd_map_values *values)
{
	if (rule->stacks != f->rule->stacks || rule->holes.n != f->rule->holes.n)
		return false;
	for (uint32_t h = 0; h < rule->holes.n; h++) {
		const struct sd_map_hole *hole = &rule->holes.hole[h], *same = NULL;

		for (uint32_t k = 0; k < f->rule->holes.n; k++)
			if (strcmp(f->rule->holes.hole[k].name, hole->name) == 0 &&
			    f->rule->holes.hole[k].nwords == hole->nwords &&
			    is_stacked(f->rule, k, p->from) == is_stacked(rule, h, p->from)) {
				same = &f->rule->holes.hole[k];
				values->value[h] = f->values.value[k];
			}
		if (!same)
			return false;
	}
	return true;
}

/* The key with the i-th combination of numbers, or NULL. */
static const char *key_at(const struct family *f, struct sd_planner *p, const struct sd_rule *rule,
			  struct sd_map_values *values, uint64_t i)
{
	for (uint32_t s = rule->stacks; s-- > 0; i /= f->size[s]) {
		char *number = sd_arena_printf(&p->out->arena, "%" PRIu64, i % f->size[s]);

		if (!number)
			return NULL;
		values->value[rule->stack[s].hole] = (struct sd_map_value){.text = number, .length = strlen(number)};
	}
	return sd_pattern_fill(&rule->side[p->from].key, &rule->holes, p->texts, values, &p->out->arena);
}

/* A group of the family that is not there at all. */
static enum sd_result fail_group(const struct family *f, struct sd_planner *p, const struct sd_rule *rule,
				 const char *target, struct sd_map_values *values)
{
	struct sd_planner_missing missing = {.target = target, .rule = rule, .of = f->size[0]};
	uint64_t n = 1;

	for (uint32_t s = 0; s < rule->stacks; s++)
		n *= f->size[s]; /* each is at most 2^20, and there are two */
	for (uint64_t i = 0; i < n && missing.count <= MISSING_COUNTED; i++) {
		const char *key = i < MISSING_MAX ? key_at(f, p, rule, values, i) : NULL;

		if (i < MISSING_MAX && !key)
			return sd_fail_memory(p->err);
		sd_missing_add(&missing, rule, i, key);
	}
	return sd_missing_fail(&missing, p);
}

static enum sd_result check_one(const struct family *f, struct sd_planner *p, const struct sd_rule *rule,
				const struct sd_names *groups)
{
	struct sd_map_values values;
	const char *target;

	if (rule->outcome[p->from] != MOVE || rule->if_complete || !rule->stacks || !sd_planner_guards(p, rule) ||
	    !carry_over(p, f, rule, &values))
		return SD_OK;
	target = sd_pattern_fill(&rule->side[!p->from].key, &rule->holes, p->texts, &values, &p->out->arena);
	if (!target)
		return sd_fail_memory(p->err);
	if (sd_names_find(groups, target) != SD_NO_NAME)
		return SD_OK;
	return fail_group(f, p, rule, target, &values);
}

enum sd_result sd_family_check(const struct sd_planner_families *families, struct sd_planner *p,
			       const struct sd_map_stage *stage, const struct sd_names *groups)
{
	for (size_t i = 0; i < families->n; i++)
		for (uint32_t r = 0; r < stage->nrules; r++)
			if (check_one(&families->at[i], p, &stage->rules[r], groups) != SD_OK)
				return p->err->result;
	return SD_OK;
}

void sd_family_free(struct sd_planner_families *families)
{
	free(families->at);
	sd_names_free(&families->names);
	*families = (struct sd_planner_families){0};
}
