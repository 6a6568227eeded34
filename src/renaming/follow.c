/* SPDX-License-Identifier: Apache-2.0 */
/* Follows a name through the stages of a map. */
#include "renaming/follow.h"

#include <string.h>

/* Whether a rule is for tensors of the name, whatever their shape. One that counts with a size nobody tells is for
 * none. */
static bool has_name(enum sd_planner_fit fit)
{
	return fit == MATCH || fit == MISFIT;
}

/* Whether a rule of a stage makes something beside what becomes of a tensor of this name. */
static bool makes_beside(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_planner_tensor *t)
{
	struct sd_map_values values;

	for (uint32_t i = 0; stage->beside && i < stage->nrules; i++)
		if (sd_rule_is_beside(&stage->rules[i], p->from) &&
		    has_name(sd_planner_fit(p, stage, &stage->rules[i], t, &values)))
			return true;
	return false;
}

/* Whether a rule does more to a tensor than to look at its shape. */
static bool moves_elements(const struct sd_rule *rule)
{
	const char *left = rule->side[LEFT].axes.text, *right = rule->side[RIGHT].axes.text;

	return rule->stacks || (left && right && strcmp(left, right) != 0);
}

/* Whether the rule is for the options as they are. One that keys tell is not asked: packed weights do not tell it. */
static bool guards_hold(const struct sd_planner *p, const struct sd_rule *rule)
{
	for (uint32_t i = 0; i < rule->nguards; i++) {
		uint32_t value = p->option[rule->guards[i].option];

		if (!p->map->options[rule->guards[i].option].from_keys && value != OPEN &&
		    value != rule->guards[i].value)
			return false;
	}
	return true;
}

/* The first rule of a stage that is for tensors of this name, whatever their shape; NULL: none is. */
static const struct sd_rule *rule_for(struct sd_planner *p, const struct sd_map_stage *stage,
				      const struct sd_planner_tensor *t, struct sd_map_values *values)
{
	for (uint32_t i = 0; i < stage->nrules; i++) {
		const struct sd_rule *rule = &stage->rules[i];

		if (rule->outcome[p->from] != NOT_READ && !rule->side[p->from].scale && !rule->nconditions &&
		    !sd_rule_is_beside(rule, p->from) &&
		    (moves_elements(rule) ? guards_hold(p, rule) : sd_planner_guards(p, rule)) &&
		    has_name(sd_planner_fit(p, stage, rule, t, values)))
			return rule;
	}
	return NULL;
}

struct sd_followed sd_follow(struct sd_planner *p, const char *name)
{
	return sd_follow_looking(p, name, NULL);
}

struct sd_followed sd_follow_looking(struct sd_planner *p, const char *name, const struct sd_follow_look *look)
{
	uint32_t n = p->map->nstages;
	struct sd_planner_tensor t = {.first = NONE, .last = NONE, .dtype = SD_BF16};

	sd_planner_name(&t, name);
	for (uint32_t i = 0; i < n; i++) {
		const struct sd_map_stage *stage = &p->map->stages[p->from == LEFT ? i : n - 1 - i];
		struct sd_map_values values;
		const struct sd_rule *rule = rule_for(p, stage, &t, &values);

		if (look && rule && look->look(look->user, rule, t.name))
			return (struct sd_followed){.name = t.name, .said = true};
		if (makes_beside(p, stage, &t))
			return (struct sd_followed){.name = t.name, .moved = true, .rule = rule};
		if (!rule || rule->outcome[p->from] == KEEP)
			continue;
		if (rule->outcome[p->from] == COPIED || (rule->outcome[p->from] == MOVE && moves_elements(rule)))
			return (struct sd_followed){.name = t.name, .moved = true, .rule = rule};
		if (rule->outcome[p->from] != MOVE)
			return (struct sd_followed){.name = t.name, .dropped = true};
		name = sd_pattern_fill(&rule->side[!p->from].key, &rule->holes, p->texts, &values, &p->out->arena);
		if (!name)
			return (struct sd_followed){.name = NULL};
		sd_planner_name(&t, name);
	}
	return (struct sd_followed){.name = t.name};
}
