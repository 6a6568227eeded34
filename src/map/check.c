/* SPDX-License-Identifier: Apache-2.0 */
/* What is known to be wrong with a map before it meets a checkpoint. */
#include "map/compiled.h"

#include <string.h>

#define fail(rule, ...) sd_map_fail(err, (rule)->file, (rule)->line, __VA_ARGS__)

static bool writes(const struct sd_rule *rule, int side)
{
	return rule->outcome[!side] == MOVE;
}

/* Where a number hole of one side's key is an axis of the other. */
static const struct sd_map_stack *find_stack(const struct sd_rule *rule, uint32_t hole)
{
	for (uint32_t i = 0; i < rule->stacks; i++)
		if (rule->stack[i].hole == hole)
			return &rule->stack[i];
	return NULL;
}

static enum sd_result find_stacks(const struct sd_map *map, struct sd_rule *rule, struct sd_error *err)
{
	for (uint32_t h = 0; h < rule->holes.n; h++)
		for (int side = LEFT; side <= RIGHT; side++) {
			const struct sd_map_side *key = &rule->side[side], *other = &rule->side[!side];

			if (rule->holes.hole[h].kind != HOLE_NUMBER || !key->key.text || !other->key.text ||
			    !sd_pattern_has(&key->key, h) || sd_pattern_has(&other->key, h))
				continue;
			for (uint32_t a = 0; a < map->axes.n; a++)
				if (strcmp(map->axes.name[a], rule->holes.hole[h].name) == 0 &&
				    sd_axes_have(&other->axes, a)) {
					if (rule->stacks == STACKS_MAX)
						return fail(rule, "more than %d numbers become axes", STACKS_MAX);
					rule->stack[rule->stacks++] = (struct sd_map_stack){h, a, side};
				}
		}
	return SD_OK;
}

bool sd_rule_knows(const struct sd_rule *rule, int side, uint32_t hole)
{
	const struct sd_pattern *key = &rule->side[side].key;

	if (sd_pattern_has(key, hole))
		return true;
	for (uint32_t h = 0; h < rule->holes.n; h++)
		if (rule->holes.hole[h].shifted && rule->holes.hole[h].base == hole && sd_pattern_has(key, h))
			return true;
	return rule->holes.hole[hole].shifted && sd_pattern_has(key, rule->holes.hole[hole].base);
}

/* A shifted number is the same on both sides, once plain and once shifted. */
static enum sd_result check_numbers(struct sd_rule *rule, struct sd_error *err)
{
	for (uint32_t h = 0; h < rule->holes.n; h++) {
		const struct sd_map_hole *hole = &rule->holes.hole[h], *base = &rule->holes.hole[hole->base];

		if (!hole->shifted)
			continue;
		rule->counts = true;
		for (int side = LEFT; side <= RIGHT; side++)
			if (sd_pattern_has(&rule->side[side].key, h) &&
			    sd_pattern_has(&rule->side[side].key, hole->base))
				return fail(rule, "holes {%s} and {%s} stand in one pattern", base->name, hole->name);
	}
	for (uint32_t i = 0; i < rule->nbounds; i++) {
		rule->counts = true;
		for (int side = LEFT; side <= RIGHT; side++)
			if (rule->outcome[side] != NOT_READ && !sd_rule_knows(rule, side, rule->bounds[i].hole))
				return fail(rule, "hole {%s} of the bound is not in the key",
					    rule->holes.hole[rule->bounds[i].hole].name);
	}
	return SD_OK;
}

/* Every hole of the side that is written has a value. */
static enum sd_result check_holes(const struct sd_rule *rule, struct sd_error *err)
{
	for (int side = LEFT; side <= RIGHT; side++) {
		const struct sd_map_side *written = &rule->side[side];

		if (!writes(rule, side))
			continue;
		for (uint32_t h = 0; h < rule->holes.n; h++)
			if (sd_pattern_has(&written->key, h) && !sd_rule_knows(rule, !side, h) && !find_stack(rule, h))
				return fail(rule, "hole {%s} is written on the %s, and the %s does not have it",
					    rule->holes.hole[h].name, side ? "right" : "left", side ? "left" : "right");
	}
	for (uint32_t h = 0; h < rule->holes.n && (rule->direction == COPY || rule->direction == COPY_RIGHTWARDS);
	     h++) {
		int copy = rule->direction == COPY ? LEFT : RIGHT;

		if (sd_pattern_has(&rule->side[!copy].key, h) && !sd_rule_knows(rule, copy, h))
			return fail(rule,
				    "hole {%s} is not in the name of the copy: what it is a copy of cannot be "
				    "told from it",
				    rule->holes.hole[h].name);
	}
	for (uint32_t i = 0; i < rule->nconditions; i++)
		for (uint32_t h = 0; h < rule->holes.n; h++)
			if (sd_pattern_has(&rule->conditions[i].key, h) &&
			    !sd_rule_knows(rule, sd_rule_condition_side(rule), h))
				return fail(rule, "hole {%s} of the condition is not in the key",
					    rule->holes.hole[h].name);
	return SD_OK;
}

static uint32_t count_axis(const struct sd_axes *axes, uint32_t axis)
{
	uint32_t n = 0;

	for (uint32_t d = 0; d < axes->n; d++)
		for (uint32_t f = 0; f < axes->dims[d].n; f++)
			n += axes->dims[d].factors[f].axis == axis;
	return n;
}

/*
 * Both sides have the same axes, each once: the rule permutes elements, so its inverse exists and is exact. A constant
 * has some of those of the tensor that it is made beside.
 */
static enum sd_result check_axes(const struct sd_map *map, const struct sd_rule *rule, struct sd_error *err)
{
	const struct sd_map_side *left = &rule->side[LEFT], *right = &rule->side[RIGHT];
	uint32_t used = 0;

	if (!left->key.text || !right->key.text)
		return SD_OK;
	if (!left->axes.text != !right->axes.text)
		return fail(rule, "one side has an axis list, the other has none");
	for (uint32_t a = 0; a < map->axes.n; a++) {
		uint32_t n[2] = {count_axis(&left->axes, a), count_axis(&right->axes, a)};
		size_t length = strcspn(map->axes.name[a], "#");
		bool stacked = false;

		for (uint32_t i = 0; i < rule->stacks; i++)
			if (rule->stack[i].axis == a) {
				stacked = true;
				n[rule->stack[i].key_side]++;
			}
		used += n[LEFT] && !stacked;
		if (n[LEFT] > 1 || n[RIGHT] > 1)
			return fail(rule, "axis %.*s stands twice on one side", (int)length, map->axes.name[a]);
		if (n[LEFT] != n[RIGHT] && !(rule->arithmetic == CONSTANT && n[rule->outcome[LEFT] ? LEFT : RIGHT]))
			return fail(rule, "axis %.*s is on the %s side only", (int)length, map->axes.name[a],
				    n[LEFT] ? "left" : "right");
	}
	if (used > SD_MOVE_RANK)
		return fail(rule, "more than %d axes", SD_MOVE_RANK);
	if (sd_axes_slot(&left->axes) && sd_axes_slot(&right->axes))
		return fail(rule, "only one side can have bars");
	return SD_OK;
}

static enum sd_result check_scale(const struct sd_rule *rule, struct sd_error *err)
{
	const struct sd_map_side *left = &rule->side[LEFT], *right = &rule->side[RIGHT];

	if (right->scale)
		return fail(rule, "a + SCALE stands on the left of a ->");
	if (!left->scale != (rule->arithmetic != BLOCK_SCALE && rule->arithmetic != TIMES))
		return fail(rule, "a + SCALE and \": fp8\", \": fp4\", \": int4\" or \": times\" need each other");
	if (!left->scale)
		return SD_OK;
	if (rule->direction != RIGHTWARDS || rule->outcome[LEFT] != MOVE)
		return fail(rule, "\": %s\" goes one way: ->", rule->arithmetic_text);
	for (uint32_t h = 0; h < rule->holes.n; h++)
		if (sd_pattern_has(&left->scale->key, h) && !sd_rule_knows(rule, LEFT, h))
			return fail(rule, "hole {%s} of the scale is not in the weight's key",
				    rule->holes.hole[h].name);
	if (!left->axes.text || !left->scale->axes.text)
		return fail(rule, "the weight and its scale need axis lists, e.g. [o i] and [o~128 i~128]");
	for (uint32_t d = 0; d < left->axes.n; d++)
		for (uint32_t f = 0; f < left->axes.dims[d].n; f++) {
			const struct sd_map_factor *factor = &left->axes.dims[d].factors[f];

			if (factor->slots || factor->per != 1)
				return fail(rule, "a weight with a scale has plain axes");
			if (f > 0 && sd_axes_have(&left->scale->axes, factor->axis))
				return fail(rule, "of a product, the first axis alone can be in the scale");
		}
	for (uint32_t d = 0; d < left->scale->axes.n; d++)
		for (uint32_t f = 0; f < left->scale->axes.dims[d].n; f++) {
			const struct sd_map_factor *factor = &left->scale->axes.dims[d].factors[f];

			if (factor->slots || factor->packed > 1 ||
			    (factor->axis != NO_AXIS && !sd_axes_have(&left->axes, factor->axis)))
				return fail(rule,
					    "the axes of a scale are those of its weight, each by its block: i~128");
		}
	return SD_OK;
}

/* Codes lie one behind another in the last dimension, and nowhere else. */
static enum sd_result check_packed(const struct sd_rule *rule, struct sd_error *err)
{
	const struct sd_axes *axes = &rule->side[LEFT].axes;
	const struct sd_map_axis_dim *last = axes->n ? &axes->dims[axes->n - 1] : NULL;
	const struct sd_map_factor *packed = sd_axes_packed(axes);

	if (rule->unpack ? !packed || packed != &last->factors[last->n - 1] : packed != NULL)
		return fail(rule,
			    "\": fp4\" and \": int4\" need the last axis of the weight as in i/2, and nothing else "
			    "does");
	if (sd_axes_packed(&rule->side[RIGHT].axes))
		return fail(rule, "what is written is not packed: i/2 is for the left of a ->");
	return SD_OK;
}

/* What is made beside other tensors. */
static enum sd_result check_constant(const struct sd_rule *rule, struct sd_error *err)
{
	if (rule->arithmetic != CONSTANT)
		return SD_OK;
	if ((rule->direction != RIGHTWARDS && rule->direction != LEFTWARDS) || !rule->side[LEFT].key.text ||
	    !rule->side[RIGHT].key.text)
		return fail(rule, "\": %s\" goes one way, from a key to a key", rule->arithmetic_text);
	if (sd_axes_slot(&rule->side[LEFT].axes) || sd_axes_slot(&rule->side[RIGHT].axes) || rule->stacks)
		return fail(rule, "\": %s\" has plain axes, and numbers that stay numbers", rule->arithmetic_text);
	return SD_OK;
}

enum sd_result sd_map_check_rule(struct sd_map *map, struct sd_rule *rule, struct sd_error *err)
{
	if (rule->nconditions && rule->outcome[LEFT] && rule->outcome[RIGHT] && rule->direction != COPY_RIGHTWARDS)
		return fail(rule, "if and unless stand behind a one-way rule: the other layout has other names");
	if (find_stacks(map, rule, err) != SD_OK || check_holes(rule, err) != SD_OK ||
	    check_numbers(rule, err) != SD_OK || check_axes(map, rule, err) != SD_OK ||
	    check_scale(rule, err) != SD_OK || check_packed(rule, err) != SD_OK || check_constant(rule, err) != SD_OK)
		return err->result;
	return SD_OK;
}

static bool moves(const struct sd_rule *rule)
{
	return rule->outcome[LEFT] == MOVE || rule->outcome[RIGHT] == MOVE;
}

/* Whether two rules of a stage have the same tensor on this side, and may both have a part of it. */
static bool share(const struct sd_rule *a, const struct sd_rule *b, int side)
{
	if (!a->side[side].key.text || !b->side[side].key.text || !moves(a) || !moves(b) ||
	    !sd_pattern_same(&a->side[side].key, &a->holes, &b->side[side].key, &b->holes) ||
	    sd_rule_is_beside(a, side) || sd_rule_is_beside(b, side) || a->nguards != b->nguards ||
	    a->nbounds != b->nbounds || a->side[side].dtype != b->side[side].dtype)
		return false;
	for (uint32_t i = 0; i < a->nbounds; i++)
		if (strcmp(a->bounds[i].text, b->bounds[i].text) != 0)
			return false;
	for (uint32_t i = 0; i < a->nguards; i++)
		if (a->guards[i].option != b->guards[i].option || a->guards[i].value != b->guards[i].value)
			return false;
	return a->direction == COPY || b->direction == COPY ||
	       (sd_axes_slot(&a->side[side].axes) && sd_axes_slot(&b->side[side].axes));
}

/* The slots of a tensor that several rules share: what stands in each. */
static enum sd_result fill_slots(struct sd_map *map, struct sd_map_stage *stage, uint32_t first, int side,
				 struct sd_error *err)
{
	struct sd_rule *rule = &stage->rules[first];
	const struct sd_map_factor *own = sd_axes_slot(&rule->side[side].axes);
	uint32_t *slots;
	bool *filled;

	if (!own)
		return SD_OK;
	slots = sd_arena_array(&map->arena, own->slots, sizeof(*slots));
	filled = sd_arena_array(&map->arena, own->slots, sizeof(*filled));
	if (!slots || !filled)
		return sd_fail_memory(err);
	for (uint32_t i = first; i != NONE; i = stage->rules[i].next_part[side]) {
		struct sd_rule *part = &stage->rules[i];
		const struct sd_map_factor *slot = sd_axes_slot(&part->side[side].axes);

		if (!slot || part->direction == COPY)
			continue;
		if (slot->slots != own->slots)
			return fail(part, "%s has %u slots here and %u in line %u", part->side[side].key.text,
				    slot->slots, own->slots, rule->line);
		if (filled[slot->slot])
			return fail(part, "slot %u of %s is filled twice", slot->slot + 1, part->side[side].key.text);
		filled[slot->slot] = true;
		slots[slot->slot] = slot->axis;
		part->side[side].axes.nslots = own->slots;
		part->side[side].axes.slot_axis = slots;
	}
	for (uint32_t i = 0; i < own->slots; i++)
		if (!filled[i])
			return fail(rule, "slot %u of %s is filled by no rule", i + 1, rule->side[side].key.text);
	return SD_OK;
}

/* Links the rules that share a tensor on this side: next_part goes from each to the next, first_part marks the head. */
static void link_parts(struct sd_map_stage *stage, int side)
{
	for (uint32_t i = 0; i < stage->nrules; i++)
		stage->rules[i].first_part[side] = true;
	for (uint32_t i = 0; i < stage->nrules; i++)
		for (uint32_t j = i + 1; j < stage->nrules; j++)
			if (share(&stage->rules[i], &stage->rules[j], side)) {
				stage->rules[i].next_part[side] = j;
				stage->rules[j].first_part[side] = false;
				break;
			}
}

enum sd_result sd_map_check_stage(struct sd_map *map, struct sd_map_stage *stage, struct sd_error *err)
{
	for (uint32_t i = 0; i < stage->nrules; i++) {
		stage->siblings |= stage->rules[i].side[LEFT].scale || stage->rules[i].nconditions;
		stage->beside |=
			sd_rule_is_beside(&stage->rules[i], LEFT) || sd_rule_is_beside(&stage->rules[i], RIGHT);
	}
	for (int side = LEFT; side <= RIGHT; side++) {
		link_parts(stage, side);
		for (uint32_t i = 0; i < stage->nrules; i++)
			if (stage->rules[i].first_part[side] && fill_slots(map, stage, i, side, err) != SD_OK)
				return err->result;
	}
	return SD_OK;
}
