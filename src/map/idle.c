/* SPDX-License-Identifier: Apache-2.0 */
/* Options and sizes that nothing depends on. */
#include "map/compiled.h"
#include "model/manifest.h"

#include <string.h>

static bool has_text(const struct sd_pattern *pattern, uint32_t text)
{
	for (uint32_t i = 0; i < pattern->n; i++)
		if (pattern->elements[i].kind == TEXT && pattern->elements[i].number == text)
			return true;
	return false;
}

static bool writes_text(const struct sd_rule *rule, uint32_t text)
{
	bool found = false;

	for (int side = LEFT; side <= RIGHT; side++)
		found |= has_text(&rule->side[side].key, text) ||
			 (rule->side[side].scale && has_text(&rule->side[side].scale->key, text));
	for (uint32_t i = 0; i < rule->nconditions; i++)
		found |= has_text(&rule->conditions[i].key, text);
	for (uint32_t i = 0; i < rule->nexcepts; i++)
		found |= has_text(&rule->excepts[i].pattern, text);
	return found;
}

/* By a guard, or by a text that it decides. */
static bool asks_option(const struct sd_map *map, const struct sd_rule *rule, uint32_t option)
{
	for (uint32_t i = 0; i < rule->nguards; i++)
		if (rule->guards[i].option == option)
			return true;
	for (uint32_t i = 0; i < map->ntexts; i++)
		if (map->texts[i].any_side == NO_SIDE && map->texts[i].guard.option == option && writes_text(rule, i))
			return true;
	return false;
}

static bool is_axis(const struct sd_map_amount *amount, uint32_t axis)
{
	return amount->is_axis && amount->axis == axis;
}

static bool asks_axis(const struct sd_rule *rule, uint32_t axis)
{
	bool found = false;

	for (int side = LEFT; side <= RIGHT; side++)
		found |= sd_axes_have(&rule->side[side].axes, axis) ||
			 (rule->side[side].scale && sd_axes_have(&rule->side[side].scale->axes, axis));
	for (uint32_t i = 0; i < rule->stacks; i++)
		found |= rule->stack[i].axis == axis;
	for (uint32_t i = 0; i < rule->nbounds; i++)
		found |= is_axis(&rule->bounds[i].amount, axis);
	for (uint32_t i = 0; i < rule->holes.n; i++)
		found |= rule->holes.hole[i].shifted && is_axis(&rule->holes.hole[i].by, axis);
	return found;
}

static bool is_for(const struct sd_map_size *size, const struct sd_map_stage *stage)
{
	for (uint32_t i = 0; i < size->nstages; i++)
		if (strcmp(size->stages[i], stage->name) == 0)
			return true;
	return size->nstages == 0;
}

/* Whether a label, or the key that tells a size, has a text that the option decides. */
static bool is_in_keys(const struct sd_map *map, uint32_t option)
{
	for (uint32_t t = 0; t < map->ntexts; t++) {
		if (map->texts[t].any_side != NO_SIDE || map->texts[t].guard.option != option)
			continue;
		for (uint32_t i = 0; i < map->nlabels; i++)
			if (has_text(&map->labels[i].pattern, t))
				return true;
		for (uint32_t i = 0; i < map->nsizes; i++)
			if (has_text(&map->sizes[i].of, t))
				return true;
	}
	return false;
}

/* Whether any rule asks for the option, or, where there is a size, for that. */
static bool is_asked(const struct sd_map *map, uint32_t option, const struct sd_map_size *size)
{
	for (uint32_t s = 0; s < map->nstages; s++)
		for (uint32_t i = 0; i < map->stages[s].nrules; i++) {
			const struct sd_rule *rule = &map->stages[s].rules[i];

			if (size ? is_for(size, &map->stages[s]) && asks_axis(rule, size->axis)
				 : asks_option(map, rule, option))
				return true;
		}
	return false;
}

static enum sd_result fail_idle(const struct sd_map *map, const char *what, const char *name, uint32_t line,
				struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s:%u: no rule asks for the %s %s", map->file, line, what, name);
}

enum sd_result sd_map_check_idle(struct sd_map *map, struct sd_error *err)
{
	for (uint32_t i = 0; i < map->noptions && !map->part; i++) {
		struct sd_map_option *option = &map->options[i];

		option->idle = !is_asked(map, i, NULL) && !is_in_keys(map, i);
		if (option->idle && option->line)
			return fail_idle(map, "option", option->name, option->line, err);
	}
	for (uint32_t i = 0; i < map->nsizes && !map->part; i++) {
		struct sd_map_size *size = &map->sizes[i];

		size->idle = !is_asked(map, 0, size);
		if (size->idle && size->line)
			return fail_idle(map, "size", size->option, size->line, err);
	}
	return SD_OK;
}

bool sd_map_has_dtype(const struct sd_map *map)
{
	if (sd_map_has_label(map, SD_LABEL_EXPERT))
		return true;
	for (uint32_t s = 0; s < map->nstages; s++)
		for (uint32_t i = 0; i < map->stages[s].nrules; i++)
			switch (map->stages[s].rules[i].arithmetic) {
			case BLOCK_SCALE:
			case TIMES:
			case TO_DTYPE:
				return true;
			default:
				break;
			}
	return false;
}
