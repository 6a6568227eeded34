/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in keys that a map counts with: {L-N}, and bounds like L>=N. */
#include "renaming/planner.h"
#include "base/checked.h"

#include <inttypes.h>
#include <string.h>

/* The number that a hole holds; the largest where there is no such number. */
static uint64_t number_of(const struct sd_map_value *value)
{
	uint64_t number = 0;

	for (size_t i = 0; i < value->length; i++)
		if (!sd_mul(number, 10, &number) || !sd_add(number, (uint64_t)(value->text[i] - '0'), &number))
			return UINT64_MAX;
	return number;
}

static bool amount_of(const struct sd_map_amount *amount, const axis_sizes sizes, uint64_t *number)
{
	*number = amount->is_axis ? sizes[amount->axis] : amount->number;
	return !amount->is_axis || *number != SIZE_OPEN;
}

/* Gives a hole the number of another, so much more or less. */
static enum sd_planner_fit shift(struct sd_planner *p, const struct sd_map_value *from, bool minus, uint64_t by,
				 struct sd_map_value *to)
{
	uint64_t number = number_of(from);
	char *text;

	if (number == UINT64_MAX || (minus ? number < by : !sd_add(number, by, &number)))
		return NO_MATCH;
	number -= minus ? by : 0;
	text = sd_arena_printf(&p->out->arena, "%" PRIu64, number);
	if (!text) {
		p->scratch.size = SIZE_MAX;
		return NO_MATCH;
	}
	*to = (struct sd_map_value){.text = text, .length = strlen(text)};
	return MATCH;
}

enum sd_planner_fit sd_planner_count(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
				     int side, struct sd_map_values *values)
{
	const struct sd_pattern *key = &rule->side[side].key;
	axis_sizes sizes;
	uint64_t by;
	enum sd_planner_fit fit = MATCH;

	if (!rule->counts)
		return MATCH;
	sd_planner_sizes(p, stage, NULL, NULL, sizes);
	for (uint32_t h = 0; h < rule->holes.n && fit == MATCH; h++) {
		const struct sd_map_hole *hole = &rule->holes.hole[h];

		if (!hole->shifted || !(sd_pattern_has(key, h) || sd_pattern_has(key, hole->base)))
			continue;
		if (!amount_of(&hole->by, sizes, &by))
			return UNKNOWN;
		fit = sd_pattern_has(key, h) ? shift(p, &values->value[h], !hole->minus, by, &values->value[hole->base])
					     : shift(p, &values->value[hole->base], hole->minus, by, &values->value[h]);
	}
	for (uint32_t i = 0; i < rule->nbounds && fit == MATCH; i++) {
		const struct sd_map_bound *bound = &rule->bounds[i];

		if (!amount_of(&bound->amount, sizes, &by))
			return UNKNOWN;
		if ((number_of(&values->value[bound->hole]) >= by) != bound->least)
			fit = NO_MATCH;
	}
	return fit;
}

/* The size that a rule counts with and that is not known. */
static const struct sd_map_size *unknown_size(struct sd_planner *p, const struct sd_map_stage *stage,
					      const struct sd_rule *rule)
{
	axis_sizes sizes;
	uint64_t by;

	sd_planner_sizes(p, stage, NULL, NULL, sizes);
	for (uint32_t i = 0; i < p->map->nsizes; i++) {
		const struct sd_map_size *size = &p->map->sizes[i];

		for (uint32_t h = 0; h < rule->holes.n; h++)
			if (rule->holes.hole[h].shifted && rule->holes.hole[h].by.is_axis &&
			    rule->holes.hole[h].by.axis == size->axis &&
			    !amount_of(&rule->holes.hole[h].by, sizes, &by))
				return size;
		for (uint32_t b = 0; b < rule->nbounds; b++)
			if (rule->bounds[b].amount.is_axis && rule->bounds[b].amount.axis == size->axis &&
			    !amount_of(&rule->bounds[b].amount, sizes, &by))
				return size;
	}
	return NULL;
}

enum sd_result sd_planner_unknown(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
				  const struct sd_planner_tensor *t)
{
	const struct sd_map_size *size = unknown_size(p, stage, rule);

	if (!size || size->optional)
		return SD_OK;
	return sd_fail(p->err, SD_INPUT, "%s: its rule counts with %s, which nothing tells: say -D %s (%s:%u)", t->name,
		       p->map->axes.name[size->axis], size->option, rule->file, rule->line);
}
