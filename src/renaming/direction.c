/* SPDX-License-Identifier: Apache-2.0 */
/* Towards which layout a checkpoint goes: what its keys tell. */
#include "renaming/planner.h"
#include "renaming/rename.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whether a rule would take what it makes of a key once more: a.{x*} from b.a.{x*}, of which every a.key could come. */
static bool takes_again(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
			const struct sd_planner_tensor *t, const struct sd_map_values *values)
{
	struct sd_map_values filled = *values, ignored;
	struct sd_planner_tensor made = *t;
	char *name;
	bool again;

	for (uint32_t i = 0; i < rule->stacks; i++)
		if (rule->stack[i].key_side != p->from)
			filled.value[rule->stack[i].hole] = (struct sd_map_value){.text = "0", .length = 1};
	name = sd_pattern_fill(&rule->side[!p->from].key, &rule->holes, p->texts, &filled, &p->out->arena);
	if (!name)
		return false;
	sd_planner_name(&made, name);
	again = sd_planner_fit(p, stage, rule, &made, &ignored) != NO_MATCH;
	sd_arena_undo(&p->out->arena, name);
	return again;
}

/* Whether a rule both ways takes the tensor and gives it a name of the other layout alone. misfit: whatever its shape.
 */
static bool is_renamed(struct sd_planner *p, const struct sd_planner_tensor *t, bool misfit)
{
	struct sd_map_values values;

	for (uint32_t s = 0; s < p->map->nstages; s++) {
		const struct sd_map_stage *stage = &p->map->stages[s];

		for (uint32_t r = 0; r < stage->nrules; r++) {
			const struct sd_rule *rule = &stage->rules[r];
			enum sd_planner_fit fit;

			if (rule->direction != BOTH_WAYS || rule->outcome[p->from] != MOVE ||
			    sd_rule_same_names(rule) || !sd_planner_guards(p, rule))
				continue;
			fit = sd_planner_fit(p, stage, rule, t, &values);
			if ((fit == MATCH || (fit == MISFIT && misfit)) && !takes_again(p, stage, rule, t, &values))
				return true;
		}
	}
	return false;
}

/* Counts what tells each layout. */
static void count_evidence(struct sd_planner sides[2], bool misfit, struct sd_evidence *evidence)
{
	for (size_t i = 0; i < sides[LEFT].ntensors; i++) {
		const struct sd_planner_tensor *t = &sides[LEFT].tensors[i];
		bool left = is_renamed(&sides[LEFT], t, misfit), right = is_renamed(&sides[RIGHT], t, misfit);
		const char **key = &evidence->key[left ? LEFT : RIGHT];

		evidence->keys[LEFT] += left;
		evidence->keys[RIGHT] += right;
		if (left != right && !*key)
			*key = t->name;
	}
}

enum sd_result sd_rename_evidence(const struct sd_rename *rename, const struct sd_manifest *in,
				  struct sd_evidence *evidence, struct sd_error *err)
{
	struct sd_rename asked = {.map = rename->map, .defines = rename->defines, .ndefines = rename->ndefines};
	struct sd_planner sides[2];
	enum sd_result result = SD_OK;

	*evidence = (struct sd_evidence){.keys = {0}};
	for (int side = LEFT; side <= RIGHT; side++) {
		struct sd_planner *p = &sides[side];

		*p = (struct sd_planner){.map = asked.map,
					 .rename = &asked,
					 .in = in,
					 .out = sd_manifest_new(),
					 .from = side,
					 .err = err};
		if (result == SD_OK)
			result = p->out ? sd_planner_read(p) : sd_fail_memory(err);
		if (result == SD_OK)
			result = sd_planner_options(p);
		p->before = p->tensors;
		p->nbefore = p->ntensors;
	}
	if (result == SD_OK)
		count_evidence(sides, false, evidence);
	/* Wrong shapes hide no names. */
	if (result == SD_OK && !evidence->keys[LEFT] && !evidence->keys[RIGHT])
		count_evidence(sides, true, evidence);
	for (int side = LEFT; side <= RIGHT; side++) {
		sd_planner_free(&sides[side]);
		sd_manifest_free(sides[side].out);
	}
	return result;
}

/* Where no key is of one layout alone, why there is no way to the right is worth more than that. */
static enum sd_result fail_direction(struct sd_rename *rename, const struct sd_manifest *in, struct sd_error *err)
{
	const struct sd_map *map = rename->map;
	struct sd_rename tried = *rename;
	struct sd_error why;
	struct sd_plan plan;
	enum sd_result result;

	tried.to = RIGHT;
	tried.event = NULL;
	tried.why = NULL;
	result = sd_rename_plan(&tried, in, &plan, &why);
	sd_plan_free(&plan);
	memcpy(rename->advised, tried.advised, sizeof(rename->advised));
	if (result != SD_OK && in->ntargets) {
		*err = why;
		return result;
	}
	return sd_fail(err, SD_INPUT, "no key tells whether this is layout %s or %s%s%s%s: say --to %s or --to %s",
		       map->layout[LEFT], map->layout[RIGHT], in->ntargets ? " (" : "",
		       in->ntargets ? in->targets[0].name : "", in->ntargets ? ", for one, does not)" : "",
		       map->layout[LEFT], map->layout[RIGHT]);
}

enum sd_result sd_rename_direction(struct sd_rename *rename, const struct sd_manifest *in, struct sd_error *err)
{
	const struct sd_map *map = rename->map;
	struct sd_evidence evidence;
	const char **key = evidence.key;

	if (sd_rename_evidence(rename, in, &evidence, err) != SD_OK)
		return err->result;
	if (key[LEFT] && key[RIGHT])
		return sd_fail(err, SD_INPUT, "%s is a key of layout %s, %s is one of %s: say --to %s or --to %s",
			       key[LEFT], map->layout[LEFT], key[RIGHT], map->layout[RIGHT], map->layout[LEFT],
			       map->layout[RIGHT]);
	if (!key[LEFT] && !key[RIGHT])
		return sd_siblings_wrapper(in, err) == SD_OK ? fail_direction(rename, in, err) : err->result;
	rename->to = key[LEFT] ? RIGHT : LEFT;
	return SD_OK;
}
