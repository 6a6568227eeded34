/* SPDX-License-Identifier: Apache-2.0 */
/* One stage: every tensor takes the first rule that matches it, and what gets the same name is joined. */
#include "renaming/planner.h"
#include "base/text.h"
#include "renaming/arithmetic.h"
#include "renaming/family.h"
#include "map/why.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More tensors than this from one are refused: nobody has as many experts, and a hostile shape could ask for any
 * number. */
#define PARTS_MAX (1u << 20)

/* The work on one stage. */
struct work {
	struct sd_planner *p;
	const struct sd_map_stage *stage;
	uint32_t first;                   /* the number of the stage's first rule in the map */
	struct sd_planner_tensor *before; /* the tensors in front of the stage */
	size_t nbefore;
	bool *consumed;  /* scales that a weight has taken, if so */
	uint32_t *heads; /* rules that are read here, one of each that share a tensor */
	uint32_t nheads;
	struct sd_planner_member *members;
	size_t nmembers, members_room;
	struct sd_planner_group *groups;
	size_t ngroups, groups_room;
	struct sd_names group_names;
	struct sd_planner_families families; /* of what is read */
	struct sd_planner_families written;  /* of what is written one by one */
};

static const char *left_name(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
			     const struct sd_map_values *values)
{
	struct sd_map_values filled = *values;

	if (p->from == LEFT)
		return t->name;
	for (uint32_t i = 0; i < rule->stacks; i++)
		if (rule->stack[i].key_side == LEFT)
			filled.value[rule->stack[i].hole] = (struct sd_map_value){.text = "0", .length = 1};
	return sd_pattern_fill(&rule->side[LEFT].key, &rule->holes, p->texts, &filled, &p->out->arena);
}

/* Whether an `except` of the rule speaks against the key. It is about left-hand names, whatever is read. */
static bool is_excepted(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
			const struct sd_map_values *values)
{
	struct sd_map_values ignored;
	const char *name;

	if (!rule->nexcepts)
		return false;
	name = left_name(p, rule, t, values);
	for (uint32_t i = 0; name && i < rule->nexcepts; i++)
		if (sd_pattern_match(&rule->excepts[i].pattern, &rule->excepts[i].holes, p->texts, name, strlen(name),
				     &p->scratch, &ignored))
			return true;
	return false;
}

enum sd_planner_fit sd_planner_fit(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
				   const struct sd_planner_tensor *t, struct sd_map_values *values)
{
	const struct sd_map_side *side = &rule->side[p->from];
	axis_sizes sizes;
	enum sd_planner_fit fit;

	if (!sd_pattern_may_match(&side->key, &t->print) || (side->dtype && side->dtype != t->dtype) ||
	    !sd_pattern_match(&side->key, &rule->holes, p->texts, t->name, strlen(t->name), &p->scratch, values))
		return NO_MATCH;
	fit = sd_planner_count(p, stage, rule, p->from, values);
	if (fit != MATCH)
		return fit;
	if (is_excepted(p, rule, t, values))
		return NO_MATCH;
	if (!side->axes.text)
		return MATCH;
	sd_planner_sizes(p, stage, rule, values, sizes);
	return sd_axes_bind(&side->axes, t->shape, t->rank, sizes) ? MATCH : MISFIT;
}

/* Whether the other tensors are as the rule wants them; *scale is that of its scale. */
static bool siblings_fit(struct work *w, const struct sd_rule *rule, const struct sd_map_values *values,
			 uint32_t *scale)
{
	const struct sd_map_scale *own = rule->side[w->p->from].scale;

	*scale = NONE;
	for (uint32_t i = 0; i < rule->nconditions && w->p->from == sd_rule_condition_side(rule); i++) {
		const struct sd_map_condition *c = &rule->conditions[i];
		uint32_t at = sd_planner_other(w->p, &c->key, &rule->holes, values);
		bool there = at != NONE && (!c->dtype || w->before[at].dtype == c->dtype);

		if (there != c->wanted)
			return false;
	}
	if (!own)
		return true;
	*scale = sd_planner_other(w->p, &own->key, &rule->holes, values);
	return *scale != NONE && (!own->dtype || own->dtype == w->before[*scale].dtype);
}

/* A scale's list is a condition by its rank: one number for all, or one for each block, may be two rules. */
static bool scale_has_rank(const struct work *w, const struct sd_rule *rule, uint32_t scale)
{
	return scale == NONE || w->before[scale].rank == rule->side[w->p->from].scale->axes.n;
}

/* joins: a scale goes along with another tensor in front of the stage. */
static void tell_way(struct work *w, const struct sd_rule *rule, const struct sd_planner_tensor *t, const char *to,
		     const struct sd_map_values *values, bool joins)
{
	struct sd_planner *p = w->p;
	struct sd_rename_event event = {
		.step = p->step, .rule = SD_NO_RULE, .stage = w->stage->name, .from = t->name, .to = to, .holes = ""};
	char holes[512];
	size_t used = 0;

	if (!p->rename->event)
		return;
	if (rule) {
		event.rule = w->first + (uint32_t)(rule - w->stage->rules);
		event.joins = joins;
		event.file = rule->file;
		event.line = rule->line;
		event.text = rule->text;
		for (uint32_t h = 0; !p->rename->no_holes && h < rule->holes.n && used < sizeof(holes); h++)
			if (sd_pattern_has(&rule->side[p->from].key, h))
				used += (size_t)snprintf(holes + used, sizeof(holes) - used, "%s%s=%.*s",
							 used ? ", " : "", rule->holes.hole[h].name,
							 (int)values->value[h].length, values->value[h].text);
		event.holes = used ? holes : "";
	}
	p->rename->event(p->rename->user, &event);
}

static void tell(struct work *w, const struct sd_rule *rule, const struct sd_planner_tensor *t, const char *to,
		 const struct sd_map_values *values)
{
	tell_way(w, rule, t, to, values, false);
}

/* Adds to the group of that name, a text that was made last. */
static enum sd_result add_member(struct work *w, char *name, const struct sd_planner_member *member)
{
	struct sd_planner *p = w->p;
	const char *before = w->before[member->tensor].name;
	/* Only names that are new are kept: all experts of a layer give one, and many rules leave names alone. */
	bool same = strcmp(name, before) == 0;
	const char *kept = same ? before : name;
	uint32_t number = sd_names_add(&w->group_names, kept, (uint32_t)w->ngroups);
	struct sd_planner_group *group;

	if (number == SD_NO_NAME || !sd_array_grow(&w->members, w->nmembers, &w->members_room, sizeof(*w->members)))
		return sd_fail_memory(p->err);
	if (same || number != w->ngroups)
		sd_arena_undo(&p->out->arena, name);
	if (number == w->ngroups) {
		if (!sd_array_grow(&w->groups, w->ngroups, &w->groups_room, sizeof(*w->groups)))
			return sd_fail_memory(p->err);
		w->groups[w->ngroups++] = (struct sd_planner_group){.name = kept, .first = (uint32_t)w->nmembers};
	} else {
		w->members[w->groups[number].last].next = (uint32_t)w->nmembers;
	}
	group = &w->groups[number];
	group->last = (uint32_t)w->nmembers;
	group->members++;
	w->members[w->nmembers] = *member;
	w->members[w->nmembers++].next = NONE;
	if (p->asked && !p->asked_next && strcmp(p->asked, before) == 0)
		p->asked_next = group->name;
	return SD_OK;
}

static enum sd_result add_output(struct work *w, const struct sd_rule *rule, const struct sd_map_values *values,
				 const struct sd_planner_member *member)
{
	struct sd_planner *p = w->p;
	char *name = sd_pattern_fill(&rule->side[!p->from].key, &rule->holes, p->texts, values, &p->out->arena);

	if (!name)
		return sd_fail_memory(p->err);
	tell(w, rule, &w->before[member->tensor], name, values);
	return add_member(w, name, member);
}

/* The numbers of the key that is read become indices. */
static enum sd_result read_numbers(struct work *w, const struct sd_rule *rule, const struct sd_map_values *values,
				   struct sd_planner_member *member)
{
	struct sd_planner *p = w->p;

	for (uint32_t i = 0; i < rule->stacks; i++) {
		const struct sd_map_value *value = &values->value[rule->stack[i].hole];
		char number[16];

		if (rule->stack[i].key_side != p->from)
			continue;
		snprintf(number, sizeof(number), "%.*s", value->length < 12 ? (int)value->length : 0, value->text);
		if (!sd_text_number(number, &member->index[i]) || member->index[i] >= PARTS_MAX)
			return sd_fail(p->err, SD_INPUT, "%s: the number %.*s is too large",
				       w->before[member->tensor].name, (int)value->length, value->text);
	}
	return SD_OK;
}

/* One key for each index of the axes that become numbers; from the i-th stack on. */
static enum sd_result write_numbers(struct work *w, const struct sd_rule *rule, struct sd_map_values *values,
				    struct sd_planner_member *member, const axis_sizes sizes, uint32_t i)
{
	struct sd_planner *p = w->p;
	uint64_t n;

	while (i < rule->stacks && rule->stack[i].key_side == p->from)
		i++;
	if (i == rule->stacks)
		return add_output(w, rule, values, member);
	n = sizes[rule->stack[i].axis];
	if (n == 0)
		return sd_fail(p->err, SD_INPUT,
			       "%s: %s is 0 in its shape, so that nothing would become of it; sd-cat --exclude leaves "
			       "it out (%s:%u)",
			       w->before[member->tensor].name, p->map->axes.name[rule->stack[i].axis], rule->file,
			       rule->line);
	if (n > PARTS_MAX)
		return sd_fail(p->err, SD_INPUT, "%s: one tensor cannot become %" PRIu64 " (%s:%u)",
			       w->before[member->tensor].name, n, rule->file, rule->line);
	for (member->index[i] = 0; member->index[i] < n; member->index[i]++) {
		char number[24];
		int length = snprintf(number, sizeof(number), "%" PRIu64, member->index[i]);

		values->value[rule->stack[i].hole] = (struct sd_map_value){.text = number, .length = (size_t)length};
		if (write_numbers(w, rule, values, member, sizes, i + 1) != SD_OK)
			return p->err->result;
	}
	return SD_OK;
}

/* "a: shape [6] does not fit [(n r)], where n is 4"; of a weight with scales: "a, with its scales b: ..." */
static enum sd_result fail_shape(struct work *w, const struct sd_rule *rule, const struct sd_planner_tensor *t,
				 const struct sd_map_values *values, uint32_t scale)
{
	struct sd_planner *p = w->p;
	const struct sd_axes *axes = &rule->side[p->from].axes;
	char shape[SD_SHAPE_TEXT], known[256] = "";
	size_t used = 0;
	axis_sizes sizes;

	sd_planner_sizes(p, w->stage, rule, values, sizes);
	for (uint32_t a = 0; a < p->map->axes.n && used < sizeof(known); a++)
		if (sizes[a] != SIZE_OPEN && p->map->axes.fixed[a] == SIZE_OPEN && sd_axes_have(axes, a))
			used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s is %" PRIu64,
						 used ? ", " : ", where ", p->map->axes.name[a], sizes[a]);
	return sd_fail(p->err, SD_INPUT, "%s%s%s: shape %s does not fit %s%s (%s:%u)", t->name,
		       scale == NONE ? "" : ", with its scales ", scale == NONE ? "" : w->before[scale].name,
		       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)), axes->text, known, rule->file,
		       rule->line);
}

/* Whether a rule leaves the tensor as it is: one that stands there as an exception to others. */
static bool lets_pass(const struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t)
{
	return sd_rule_same_names(rule) && !rule->side[LEFT].axes.text &&
	       (rule->arithmetic == NO_ARITHMETIC || rule->arithmetic == CAST || rule->arithmetic == TO_DTYPE) &&
	       sd_arithmetic_dtype(p, rule, t->dtype) == t->dtype;
}

/* What one rule makes of its part of the tensor. values: the holes of the key, where they are known already. */
static enum sd_result apply(struct work *w, const struct sd_rule *rule, uint32_t number, uint32_t tensor,
			    uint32_t scale, struct sd_map_values *values)
{
	struct sd_planner *p = w->p;
	const struct sd_planner_tensor *t = &w->before[tensor];
	const struct sd_map_side *side = &rule->side[p->from];
	struct sd_planner_member member = {.tensor = tensor, .rule = number, .scale = scale, .family = NONE};
	struct sd_map_values own;
	axis_sizes sizes;

	if (!values) {
		values = &own;
		if (!sd_pattern_match(&side->key, &rule->holes, p->texts, t->name, strlen(t->name), &p->scratch,
				      values) ||
		    sd_planner_count(p, w->stage, rule, p->from, values) != MATCH)
			return sd_fail_memory(p->err); /* it has matched before */
	}
	p->changes = p->changes || !lets_pass(p, rule, t);
	p->decided[w->stage - p->map->stages] |= rule->nguards > 0;
	if (read_numbers(w, rule, values, &member) != SD_OK)
		return p->err->result;
	if (sd_rule_stacks(rule, p->from) &&
	    sd_family_note(&w->families, p, rule, &member, values, &member.family) != SD_OK)
		return p->err->result;
	if (side->axes.text) {
		sd_planner_sizes(p, w->stage, rule, values, sizes);
		if (!sd_axes_bind(&side->axes, t->shape, t->rank, sizes))
			return fail_shape(w, rule, t, values, NONE);
		for (uint32_t i = 0; i < rule->stacks; i++)
			if (rule->stack[i].key_side != p->from && sizes[rule->stack[i].axis] == SIZE_OPEN)
				return sd_fail(p->err, SD_INPUT, "%s: the shape does not tell %s (%s:%u)", t->name,
					       p->map->axes.name[rule->stack[i].axis], rule->file, rule->line);
		if (sd_rule_stacks(rule, !p->from) && sd_family_agree(&w->written, p, rule, t, values, sizes) != SD_OK)
			return p->err->result;
	}
	return write_numbers(w, rule, values, &member, sizes, 0);
}

/* A key that no rule takes, though one would the other way round. */
static enum sd_result check_wrong_way(struct work *w, const struct sd_planner_tensor *t)
{
	struct sd_planner *p = w->p;
	struct sd_map_values ignored;

	for (uint32_t i = 0; i < w->stage->nrules; i++) {
		const struct sd_rule *rule = &w->stage->rules[i];

		if (rule->outcome[p->from] != NOT_READ || rule->outcome[!p->from] != MOVE ||
		    sd_rule_is_beside(rule, !p->from) || !sd_pattern_may_match(&rule->side[p->from].key, &t->print) ||
		    sd_rule_same_names(rule) || !sd_planner_guards(p, rule) ||
		    !sd_pattern_match(&rule->side[p->from].key, &rule->holes, p->texts, t->name, strlen(t->name),
				      &p->scratch, &ignored))
			continue;
		return sd_fail(p->err, SD_INPUT, "%s: its rule goes one way, from %s to %s (%s:%u: %s)", t->name,
			       p->map->layout[!p->from], p->map->layout[p->from], rule->file, rule->line, rule->text);
	}
	return SD_OK;
}

/* The first rule that takes the tensor, or NONE. */
static enum sd_result find_rule(struct work *w, const struct sd_planner_tensor *t, uint32_t *number, uint32_t *scale,
				struct sd_map_values *values)
{
	struct sd_planner *p = w->p;
	const struct sd_rule *misfit = NULL;
	uint32_t misfit_scale = NONE;
	enum sd_planner_fit misfit_fit = NO_MATCH;
	struct sd_map_values misfit_values;

	for (uint32_t i = 0; i < w->nheads; i++) {
		const struct sd_rule *rule = &w->stage->rules[w->heads[i]];
		enum sd_planner_fit fit = sd_planner_fit(p, w->stage, rule, t, values);

		*number = w->heads[i];
		if (fit == UNKNOWN && sd_planner_unknown(p, w->stage, rule, t) != SD_OK)
			return p->err->result;
		if (fit == NO_MATCH || fit == UNKNOWN || !siblings_fit(w, rule, values, scale))
			continue;
		if (fit == MATCH && scale_has_rank(w, rule, *scale))
			return SD_OK;
		if (misfit)
			continue;
		misfit = rule;
		misfit_values = *values;
		misfit_scale = *scale;
		misfit_fit = fit;
	}
	*number = NONE;
	if (misfit_fit == MATCH)
		return sd_arithmetic_misfit(p, misfit, t, &w->before[misfit_scale],
					    misfit->side[p->from].scale->axes.text);
	return misfit ? fail_shape(w, misfit, t, &misfit_values, misfit_scale) : check_wrong_way(w, t);
}

/* The rule and all others that have a part of the same tensor. */
static enum sd_result apply_all(struct work *w, uint32_t number, uint32_t tensor, uint32_t scale,
				struct sd_map_values *values)
{
	int from = w->p->from;
	bool parts = sd_axes_slot(&w->stage->rules[number].side[from].axes) != NULL;

	for (uint32_t i = number; i != NONE; i = w->stage->rules[i].next_part[from]) {
		const struct sd_rule *rule = &w->stage->rules[i];

		if (rule->outcome[from] == NOT_READ || (i != number && !parts && rule->direction != COPY))
			continue;
		if (apply(w, rule, i, tensor, scale, i == number ? values : NULL) != SD_OK)
			return w->p->err->result;
	}
	return SD_OK;
}

/* Whether the rule has something to say of what it takes: of a copy, where it goes, not where it is made. */
static bool has_note(const struct sd_rule *rule, int from)
{
	return rule->note &&
	       !((rule->direction == COPY || rule->direction == COPY_RIGHTWARDS) && rule->outcome[from] == MOVE);
}

/* What rules make beside what becomes of a tensor. */
static enum sd_result make_beside(struct work *w, uint32_t tensor)
{
	struct sd_planner *p = w->p;
	const struct sd_planner_tensor *t = &w->before[tensor];

	for (uint32_t i = 0; i < w->stage->nrules; i++) {
		const struct sd_rule *rule = &w->stage->rules[i];
		struct sd_map_values values;
		uint32_t scale;

		if (!sd_rule_is_beside(rule, p->from) || !sd_planner_guards(p, rule) ||
		    sd_planner_fit(p, w->stage, rule, t, &values) != MATCH || !siblings_fit(w, rule, &values, &scale))
			continue;
		if (apply(w, rule, i, tensor, NONE, &values) != SD_OK ||
		    (has_note(rule, p->from) && sd_planner_note(p, rule, rule->note, t) != SD_OK))
			return p->err->result;
	}
	return SD_OK;
}

/* The companion of the weight that a tensor comes from, or SD_NO_RECORD. */
static uint32_t companion_of(const struct sd_planner *p, const struct sd_planner_tensor *t)
{
	return t->first == NONE ? SD_NO_RECORD : sd_companion_of(&p->companions, p->pieces[t->first].record);
}

const char *sd_why_word(enum sd_why_reason reason)
{
	static const char *const words[] = {"takes",     "earlier", "direction", "option", "dtype", "except",
					    "condition", "scale",   "axes",      "size",   "text"};

	return words[reason];
}

/* A condition of the rule that other tensors do not meet: its text, or NULL. */
static const char *broken_condition(struct work *w, const struct sd_rule *rule, const struct sd_map_values *values)
{
	struct sd_planner *p = w->p;

	for (uint32_t i = 0; i < rule->nconditions && p->from == sd_rule_condition_side(rule); i++) {
		const struct sd_map_condition *c = &rule->conditions[i];
		uint32_t at = sd_planner_other(p, &c->key, &rule->holes, values);
		const char *key;

		if ((at != NONE && (!c->dtype || w->before[at].dtype == c->dtype)) == c->wanted)
			continue;
		key = sd_pattern_fill(&c->key, &rule->holes, p->texts, values, &p->out->arena);
		return key ? sd_arena_printf(&p->out->arena, "%s %s%s%s", c->wanted ? "if" : "unless", key,
					     c->dtype ? " " : "", c->dtype ? sd_dtype_name(c->dtype) : "")
			   : NULL;
	}
	return NULL;
}

/* "base=split", of the option that speaks against the rule; *is: what it is. */
static const char *broken_guard(const struct sd_planner *p, const struct sd_rule *rule, const char **is)
{
	for (uint32_t i = 0; i < rule->nguards; i++) {
		const struct sd_map_option *option = &p->map->options[rule->guards[i].option];
		uint32_t value = p->option[rule->guards[i].option];

		if (value == OPEN || value == rule->guards[i].value)
			continue;
		*is = sd_arena_printf(&p->out->arena, "%s=%s", option->name, option->values[value]);
		return sd_arena_printf(&p->out->arena, "%s=%s", option->name, option->values[rule->guards[i].value]);
	}
	return NULL;
}

static const char *shape_in_arena(struct sd_planner *p, const struct sd_planner_tensor *t)
{
	char shape[SD_SHAPE_TEXT];

	sd_shape_text(t->shape, t->rank, shape, sizeof(shape));
	return sd_arena_text(&p->out->arena, shape, strlen(shape));
}

/* The reason of a rule whose pattern matches; the first one that there is. */
static void find_reason(struct work *w, const struct sd_rule *rule, const struct sd_planner_tensor *t,
			struct sd_map_values *values, struct sd_why *why)
{
	struct sd_planner *p = w->p;
	const struct sd_map_side *side = &rule->side[p->from];
	uint32_t scale;
	enum sd_planner_fit fit;

	if (rule->outcome[p->from] == NOT_READ) {
		why->reason = SD_WHY_DIRECTION;
		why->expected = p->map->layout[p->from];
		why->found = p->map->layout[!p->from];
		return;
	}
	why->reason = SD_WHY_OPTION;
	if (!sd_planner_guards(p, rule)) {
		why->expected = broken_guard(p, rule, &why->found);
		return;
	}
	if (side->dtype && side->dtype != t->dtype) {
		why->reason = SD_WHY_DTYPE;
		why->expected = sd_dtype_name(side->dtype);
		why->found = sd_dtype_name(t->dtype);
		return;
	}
	fit = sd_planner_count(p, w->stage, rule, p->from, values);
	if (fit != MATCH) {
		why->reason = fit == UNKNOWN ? SD_WHY_SIZE : SD_WHY_CONDITION;
		why->expected = rule->nbounds ? sd_arena_printf(&p->out->arena, "if %s", rule->bounds[0].text) : NULL;
		return;
	}
	if (is_excepted(p, rule, t, values)) {
		why->reason = SD_WHY_EXCEPT;
		return;
	}
	if (sd_planner_fit(p, w->stage, rule, t, values) == MISFIT) {
		why->reason = SD_WHY_AXES;
		why->expected = side->axes.text;
		why->found = shape_in_arena(p, t);
		return;
	}
	if (siblings_fit(w, rule, values, &scale) && scale_has_rank(w, rule, scale)) {
		why->reason = SD_WHY_TAKES;
		return;
	}
	why->expected = broken_condition(w, rule, values);
	why->reason = why->expected ? SD_WHY_CONDITION : SD_WHY_SCALE;
	if (!why->expected && side->scale)
		why->expected = sd_pattern_fill(&side->scale->key, &rule->holes, p->texts, values, &p->out->arena);
}

/* The reason of a rule whose pattern does not match. */
static enum sd_result find_difference(struct sd_planner *p, const struct sd_rule *rule,
				      const struct sd_planner_tensor *t, struct sd_why *why)
{
	struct sd_map_near_miss miss;

	if (!sd_pattern_near(&rule->side[p->from].key, &rule->holes, p->texts, t->name, &p->scratch, &p->out->arena,
			     &miss))
		return sd_fail_memory(p->err);
	why->reason = SD_WHY_TEXT;
	why->position = miss.position;
	why->missing = miss.missing;
	why->behind = miss.behind;
	why->expected = miss.expected;
	why->found = t->name + miss.position;
	return SD_OK;
}

/* Says of each rule of the stage why it does not take a tensor. */
static enum sd_result say_why(struct work *w, const struct sd_planner_tensor *t)
{
	struct sd_planner *p = w->p;
	const struct sd_rule *taker = NULL;

	for (uint32_t i = 0; i < w->stage->nrules; i++) {
		const struct sd_rule *rule = &w->stage->rules[i];
		const struct sd_map_side *side = &rule->side[p->from];
		struct sd_why why = {.rule = w->first + i, .name = t->name, .letters = sd_pattern_letters(&side->key)};
		struct sd_map_values values;

		if (!side->key.text || (rule->outcome[p->from] != NOT_READ && !rule->first_part[p->from] &&
					!sd_rule_is_beside(rule, p->from) && rule->direction == COPY))
			continue;
		if (sd_pattern_match(&side->key, &rule->holes, p->texts, t->name, strlen(t->name), &p->scratch,
				     &values))
			find_reason(w, rule, t, &values, &why);
		else if (rule->outcome[p->from] == NOT_READ)
			continue;
		else if (find_difference(p, rule, t, &why) != SD_OK)
			return p->err->result;
		if (why.reason == SD_WHY_TAKES && taker && rule->first_part[p->from] &&
		    !sd_rule_is_beside(rule, p->from)) {
			why.reason = SD_WHY_EARLIER;
			why.found = sd_arena_printf(&p->out->arena, "%s:%u", taker->file, taker->line);
		}
		if (why.reason == SD_WHY_TAKES && !taker && !sd_rule_is_beside(rule, p->from))
			taker = rule;
		if (p->out->arena.failed || p->scratch.size == SIZE_MAX)
			return sd_fail_memory(p->err);
		p->rename->why(p->rename->user, &why);
	}
	return SD_OK;
}

static enum sd_result take(struct work *w, uint32_t tensor)
{
	struct sd_planner *p = w->p;
	struct sd_planner_tensor *t = &w->before[tensor];
	uint32_t number, scale;
	const struct sd_rule *rule;
	struct sd_map_values values;

	if (p->asked && strcmp(p->asked, t->name) == 0 && say_why(w, t) != SD_OK)
		return p->err->result;
	if (w->stage->beside && make_beside(w, tensor) != SD_OK)
		return p->err->result;
	if (find_rule(w, t, &number, &scale, &values) != SD_OK)
		return p->err->result;
	if (number == NONE) {
		tell(w, NULL, t, t->name, NULL);
		return sd_planner_add(p, t);
	}
	rule = &w->stage->rules[number];
	t->taken = true;
	if (has_note(rule, p->from) && p->rename->strict)
		return sd_fail(p->err, SD_INPUT, "%s: %s (%s:%u)", t->name, rule->note, rule->file, rule->line);
	if (has_note(rule, p->from) && sd_planner_note(p, rule, rule->note, t) != SD_OK)
		return p->err->result;
	switch (rule->outcome[p->from]) {
	case REFUSE:
		if (companion_of(p, t) != SD_NO_RECORD)
			return sd_companions_fail(p->in, &p->companions, p->pieces[t->first].record, companion_of(p, t),
						  "the map has no rule for weights with this beside them", p->err);
		return sd_fail(p->err, SD_INPUT, "%s: %s (%s:%u)", t->name, rule->why, rule->file, rule->line);
	case KEEP:
		tell(w, rule, t, t->name, &values);
		return sd_planner_add(p, t);
	case DROP:
		p->changes = true;
		tell(w, rule, t, NULL, &values);
		return SD_OK;
	default:
		return apply_all(w, number, tensor, scale, &values);
	}
}

/* Whether any tensor could be the scale of the rule: its names have all that the scale's pattern is made of. */
static bool has_scales(const struct work *w, const struct sd_rule *rule)
{
	const struct sd_map_scale *scale = rule->side[w->p->from].scale;

	for (size_t i = 0; scale && i < w->nbefore; i++)
		if (sd_pattern_may_match(&scale->key, &w->before[i].print))
			return true;
	return !scale;
}

/* Scales that weights take with them are no tensors of their own any more. */
static void consume_scales(struct work *w)
{
	uint32_t last = 0;

	for (uint32_t h = 0; h < w->nheads; h++)
		if (w->stage->rules[w->heads[h]].side[w->p->from].scale)
			last = h + 1;
	for (size_t i = 0; i < w->nbefore; i++)
		for (uint32_t h = 0; h < last; h++) {
			const struct sd_rule *rule = &w->stage->rules[w->heads[h]];
			struct sd_map_values values;
			uint32_t scale;

			if (sd_planner_fit(w->p, w->stage, rule, &w->before[i], &values) != MATCH ||
			    !siblings_fit(w, rule, &values, &scale) || !scale_has_rank(w, rule, scale))
				continue;
			if (scale != NONE) {
				w->consumed[scale] = true;
				tell_way(w, rule, &w->before[scale], w->before[i].name, &values, true);
			}
			break;
		}
}

static enum sd_result begin(struct work *w)
{
	struct sd_planner *p = w->p;

	w->heads = calloc(w->stage->nrules + 1, sizeof(*w->heads));
	if (!w->heads)
		return sd_fail_memory(p->err);
	for (uint32_t i = 0; i < w->stage->nrules; i++) {
		const struct sd_rule *rule = &w->stage->rules[i];

		/* A rule for scaled weights is not asked about each tensor where there are no scales. */
		if (rule->outcome[p->from] != NOT_READ && rule->first_part[p->from] &&
		    !sd_rule_is_beside(rule, p->from) && sd_planner_guards(p, rule) && has_scales(w, rule))
			w->heads[w->nheads++] = i;
	}
	if (!w->stage->siblings)
		return SD_OK;
	w->consumed = calloc(w->nbefore + 1, sizeof(*w->consumed));
	if (!w->consumed)
		return sd_fail_memory(p->err);
	consume_scales(w);
	return SD_OK;
}

enum sd_result sd_planner_stage(struct sd_planner *p, const struct sd_map_stage *stage)
{
	struct work w = {.p = p, .stage = stage, .before = p->tensors, .nbefore = p->ntensors};
	enum sd_result result;

	for (const struct sd_map_stage *s = p->map->stages; s < stage; s++)
		w.first += s->nrules;
	p->tensors = NULL;
	p->ntensors = p->tensors_room = 0;
	result = begin(&w);
	for (size_t i = 0; i < w.nbefore && result == SD_OK; i++)
		if (!w.consumed || !w.consumed[i])
			result = sd_planner_bear(p, take(&w, (uint32_t)i));
	if (result == SD_OK && !p->rename->some)
		result = sd_planner_bear(p, sd_family_check(&w.families, p, stage, &w.group_names));
	for (size_t i = 0; i < w.ngroups && result == SD_OK; i++)
		result = sd_planner_bear(p, sd_planner_merge(p, stage, w.before, w.members, &w.families, &w.groups[i]));
	if (result == SD_OK && p->scratch.size == SIZE_MAX)
		result = sd_fail_memory(p->err);
	sd_names_free(&w.group_names);
	sd_family_free(&w.families);
	sd_family_free(&w.written);
	free(w.consumed);
	free(w.heads);
	free(w.members);
	free(w.groups);
	free(w.before);
	return result;
}
