/* SPDX-License-Identifier: Apache-2.0 */
/* What the options of a map are: said by -D, told by the keys, by a stamp, or the first value. */
#include "renaming/planner.h"
#include "base/text.h"
#include "model/config_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <inttypes.h>
#include <string.h>

static void first_number(void *user, const char *value)
{
	uint64_t *number = user;

	if (*number == SIZE_OPEN && !sd_text_number(value, number))
		*number = SIZE_OPEN;
}

static uint64_t config_size(const struct sd_planner *p, const struct sd_map_size *size)
{
	const struct sd_side_file *config = sd_manifest_side(p->in, "config.json");
	uint64_t number = SIZE_OPEN;

	for (uint32_t i = 0; config && i < size->nconfig && number == SIZE_OPEN; i++)
		sd_config_find(config, size->config[i], first_number, &number);
	return number;
}

/* Puts a name behind others, unless it is there. */
static void list_name(char *text, size_t *used, size_t size, const char *name)
{
	if (*used < size && !(*used && strstr(text, name)))
		*used += (size_t)snprintf(text + *used, size - *used, "%s%s", *used ? ", " : "", name);
}

static enum sd_result unknown_define(const struct sd_planner *p, const struct sd_define *define)
{
	char text[1024] = "";
	size_t used = 0;

	if (sd_map_has_dtype(p->map))
		list_name(text, &used, sizeof(text), "dtype");
	for (uint32_t i = 0; i < p->map->noptions; i++)
		if (!p->map->options[i].idle)
			list_name(text, &used, sizeof(text), p->map->options[i].name);
	for (uint32_t i = 0; i < p->map->nsizes; i++)
		if (!p->map->sizes[i].idle)
			list_name(text, &used, sizeof(text), p->map->sizes[i].option);
	return sd_fail(p->err, SD_USAGE, "-D %s: map %s has no such option; it has %s", define->name, p->map->name,
		       used ? text : "none");
}

static enum sd_result take_define(struct sd_planner *p, const struct sd_define *define, uint32_t *defined)
{
	bool known = false;

	if (strcmp(define->name, "dtype") == 0 && sd_map_has_dtype(p->map)) {
		p->dtype = (uint8_t)sd_dtype_typed(define->value);
		if (p->dtype != SD_BF16 && p->dtype != SD_F16 && p->dtype != SD_F32 && p->dtype != SD_F64)
			return sd_fail(p->err, SD_USAGE, "-D dtype=%s: it can be bf16, f16, f32 or f64", define->value);
		return SD_OK;
	}
	for (uint32_t i = 0; i < p->map->noptions; i++) {
		const struct sd_map_option *option = &p->map->options[i];

		if (option->idle || strcmp(option->name, define->name) != 0)
			continue;
		for (uint32_t v = 0; v < option->nvalues; v++)
			if (strcmp(option->values[v], define->value) == 0) {
				defined[i] = v;
				return SD_OK;
			}
		return sd_fail(p->err, SD_USAGE, "-D %s=%s: %s is %s", define->name, define->value, define->name,
			       option->text);
	}
	for (uint32_t i = 0; i < p->map->nsizes; i++) {
		if (p->map->sizes[i].idle || strcmp(p->map->sizes[i].option, define->name) != 0)
			continue;
		known = true;
		if (!sd_text_number(define->value, &p->sizes[i]) || p->sizes[i] >= SIZE_OPEN)
			return sd_fail(p->err, SD_USAGE, "-D %s=%s: a number is wanted", define->name, define->value);
	}
	return known ? SD_OK : unknown_define(p, define);
}

struct stamp {
	const struct sd_map_option *option;
	uint32_t value;
	bool unknown;
};

static void match_stamp(void *user, const char *value)
{
	struct stamp *stamp = user;

	stamp->unknown = true;
	for (uint32_t v = 0; v < stamp->option->nvalues; v++)
		if (stamp->option->stamps[v] && strcmp(stamp->option->stamps[v], value) == 0) {
			stamp->value = v;
			stamp->unknown = false;
		}
}

enum sd_result sd_planner_stamp(const struct sd_planner *p, const struct sd_map_option *option, uint32_t *value)
{
	struct stamp stamp = {.option = option, .value = OPEN};
	const struct sd_side_file *file = option->stamp_file ? sd_manifest_side(p->in, option->stamp_file) : NULL;

	if (file)
		sd_config_find(file, option->stamp_field, match_stamp, &stamp);
	if (stamp.unknown && !option->from_config)
		return sd_fail(p->err, SD_INPUT, "%s: %s is none of the words that map %s knows", option->stamp_file,
			       option->stamp_field, p->map->name);
	*value = stamp.value;
	return SD_OK;
}

static bool any_matches(struct sd_planner *p, const struct sd_map_text *text)
{
	struct sd_map_values ignored;

	for (size_t i = 0; i < p->ntensors; i++)
		if (sd_pattern_match(&text->any, &text->holes, p->texts, p->tensors[i].name, strlen(p->tensors[i].name),
				     &p->scratch, &ignored))
			return true;
	return false;
}

/* config.json would go on counting other experts than -D says, and routers would have rows for them. */
static enum sd_result check_size(const struct sd_planner *p, const struct sd_map_size *size, uint64_t defined)
{
	uint64_t counted = config_size(p, size);

	if (strcmp(size->option, "experts") != 0 || defined == SIZE_OPEN || counted == SIZE_OPEN || counted == defined)
		return SD_OK;
	if (defined < counted && defined)
		return sd_fail(p->err, SD_INPUT,
			       "-D %s=%" PRIu64 ", and config.json counts %" PRIu64 ": sd-cat --experts 0-%" PRIu64
			       " in front cuts it, and the routers, too",
			       size->option, defined, counted, defined - 1);
	return sd_fail(p->err, SD_INPUT, "-D %s=%" PRIu64 ", and config.json counts %" PRIu64, size->option, defined,
		       counted);
}

enum sd_result sd_planner_options(struct sd_planner *p)
{
	const struct sd_map *map = p->map;
	uint32_t *defined = sd_arena_array(&p->out->arena, map->noptions, sizeof(*defined));

	p->option = sd_arena_array(&p->out->arena, map->noptions, sizeof(*p->option));
	p->texts = sd_arena_array(&p->out->arena, map->ntexts, sizeof(*p->texts));
	p->sizes = sd_arena_array(&p->out->arena, map->nsizes, sizeof(*p->sizes));
	p->decided = sd_arena_array(&p->out->arena, map->nstages, sizeof(*p->decided));
	if (!defined || !p->option || !p->texts || !p->sizes || !p->decided)
		return sd_fail_memory(p->err);
	p->defined = defined;
	for (uint32_t i = 0; i < map->noptions; i++)
		defined[i] = OPEN;
	for (uint32_t i = 0; i < map->nsizes; i++)
		p->sizes[i] = SIZE_OPEN;
	for (size_t i = 0; i < p->rename->ndefines; i++)
		if (take_define(p, &p->rename->defines[i], defined) != SD_OK)
			return p->err->result;
	for (uint32_t i = 0; i < map->nsizes; i++)
		if (check_size(p, &map->sizes[i], p->sizes[i]) != SD_OK)
			return p->err->result;
	for (uint32_t i = 0; i < map->nsizes; i++)
		if (p->sizes[i] == SIZE_OPEN)
			p->sizes[i] = config_size(p, &map->sizes[i]);
	for (uint32_t i = 0; i < map->noptions; i++) {
		const struct sd_map_option *option = &map->options[i];

		p->option[i] = option->from_keys && p->from == LEFT ? OPEN : defined[i];
		if (option->from_config && defined[i] == OPEN && sd_planner_stamp(p, option, &p->option[i]) != SD_OK)
			return p->err->result;
		/* One that says what is not known matters where the option does: see sd_planner_adapter. */
		if (option->from_keys && p->from == RIGHT && defined[i] == OPEN &&
		    sd_planner_stamp(p, option, &p->option[i]) != SD_OK)
			p->option[i] = OPEN;
		if (p->option[i] == OPEN && !(option->from_keys && p->from == LEFT))
			p->option[i] = 0;
	}
	for (uint32_t i = 0; i < map->ntexts; i++) {
		const struct sd_map_text *text = &map->texts[i];
		bool holds = text->any_side == NO_SIDE ? p->option[text->guard.option] == text->guard.value
						       : text->any_side == p->from && any_matches(p, text);

		p->texts[i] = holds ? text->then : text->otherwise;
	}
	return SD_OK;
}

bool sd_planner_guards(const struct sd_planner *p, const struct sd_rule *rule)
{
	for (uint32_t i = 0; i < rule->nguards; i++) {
		uint32_t value = p->option[rule->guards[i].option];

		if (value != OPEN && value != rule->guards[i].value)
			return false;
	}
	return true;
}

static void start_sizes(const struct sd_planner *p, axis_sizes sizes)
{
	memcpy(sizes, p->map->axes.fixed, sizeof(axis_sizes));
	for (uint32_t i = p->map->axes.n; i < AXES_MAX; i++)
		sizes[i] = SIZE_OPEN;
}

/* The holes of a size's key as a rule has them; false if the rule lacks one. */
static bool carry_holes(const struct sd_map_size *size, const struct sd_rule *rule, const struct sd_map_values *values,
			struct sd_map_values *carried)
{
	for (uint32_t h = 0; h < size->of_holes.n; h++) {
		const struct sd_map_hole *hole = &size->of_holes.hole[h];
		bool found = false;

		for (uint32_t k = 0; k < rule->holes.n && !found; k++)
			if (strcmp(rule->holes.hole[k].name, hole->name) == 0 &&
			    rule->holes.hole[k].nwords == hole->nwords && sd_rule_knows(rule, size->of_side, k)) {
				carried->value[h] = values->value[k];
				found = true;
			}
		if (!found)
			return false;
	}
	return true;
}

/* The size that another tensor of the stage tells for this key, or SIZE_OPEN. */
static uint64_t size_of_other(struct sd_planner *p, const struct sd_map_size *size, const struct sd_rule *rule,
			      const struct sd_map_values *values)
{
	struct sd_map_values carried;
	const struct sd_planner_tensor *t;
	axis_sizes sizes;
	uint32_t number;

	if (size->of_side != p->from || !carry_holes(size, rule, values, &carried))
		return SIZE_OPEN;
	number = sd_planner_other(p, &size->of, &size->of_holes, &carried);
	if (number == NONE)
		return SIZE_OPEN;
	t = &p->before[number];
	start_sizes(p, sizes);
	return sd_axes_bind(&size->of_axes, t->shape, t->rank, sizes) ? sizes[size->axis] : SIZE_OPEN;
}

void sd_planner_sizes(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
		      const struct sd_map_values *values, axis_sizes sizes)
{
	start_sizes(p, sizes);
	for (uint32_t i = 0; i < p->map->nsizes; i++) {
		const struct sd_map_size *size = &p->map->sizes[i];
		bool wanted = size->nstages == 0;

		for (uint32_t s = 0; s < size->nstages && !wanted; s++)
			wanted = strcmp(size->stages[s], stage->name) == 0;
		if (!wanted)
			continue;
		sizes[size->axis] = rule ? size_of_other(p, size, rule, values) : SIZE_OPEN;
		if (sizes[size->axis] == SIZE_OPEN)
			sizes[size->axis] = p->sizes[i];
	}
}

/* What the keys say about one option. */
struct votes {
	uint32_t option;
	const char **key; /* by value: the first that fits this value only */
	const char *open; /* the first that fits several */
	bool *hit;        /* by value, for the key at hand */
};

static const struct sd_map_guard *guard_of(const struct sd_rule *rule, uint32_t option)
{
	for (uint32_t i = 0; i < rule->nguards; i++)
		if (rule->guards[i].option == option)
			return &rule->guards[i];
	return NULL;
}

/* Marks the values that the key fits, of those that a key has spoken for, or of the others. */
static bool ask(struct sd_planner *p, const struct sd_planner_tensor *t, struct votes *votes, bool voted)
{
	struct sd_map_values ignored;
	bool any = false;

	for (uint32_t s = 0; s < p->map->nstages; s++)
		for (uint32_t i = 0; i < p->map->stages[s].nrules; i++) {
			const struct sd_rule *rule = &p->map->stages[s].rules[i];
			const struct sd_map_guard *guard = guard_of(rule, votes->option);

			if (guard && !votes->key[guard->value] == !voted && !votes->hit[guard->value] &&
			    rule->outcome[p->from] != NOT_READ && sd_planner_guards(p, rule) &&
			    sd_planner_fit(p, &p->map->stages[s], rule, t, &ignored) == MATCH)
				any = votes->hit[guard->value] = true;
		}
	return any;
}

static void vote(struct sd_planner *p, const struct sd_planner_tensor *t, struct votes *votes)
{
	uint32_t nvalues = p->map->options[votes->option].nvalues, hits = 0, value = 0;

	memset(votes->hit, 0, nvalues * sizeof(*votes->hit));
	/* Where a key has spoken for a value already, one more only matters if it speaks for another. */
	if (!ask(p, t, votes, false))
		return;
	(void)ask(p, t, votes, true);
	for (uint32_t v = 0; v < nvalues; v++)
		if (votes->hit[v]) {
			hits++;
			value = v;
		}
	if (hits == 1 && !votes->key[value])
		votes->key[value] = t->name;
	if (hits > 1 && !votes->open)
		votes->open = t->name;
}

/* Whether a shape is compared with the size: in one dimension, nothing else is unknown. */
static bool is_compared(const struct sd_map *map, const struct sd_axes *axes, uint32_t axis)
{
	for (uint32_t d = 0; d < axes->n; d++) {
		uint32_t unknown = 0;
		bool found = false;

		for (uint32_t f = 0; f < axes->dims[d].n; f++) {
			uint32_t a = axes->dims[d].factors[f].axis;

			found |= a == axis;
			unknown += a != NO_AXIS && map->axes.fixed[a] == SIZE_OPEN;
		}
		if (found && unknown == 1)
			return true;
	}
	return false;
}

/* A size that is not known and that shapes would be compared with by the rules of an option, or NULL. */
static const char *open_size(const struct sd_planner *p, uint32_t option)
{
	for (uint32_t i = 0; i < p->map->nsizes; i++)
		for (uint32_t s = 0; s < p->map->nstages && p->sizes[i] == SIZE_OPEN; s++)
			for (uint32_t r = 0; r < p->map->stages[s].nrules; r++) {
				const struct sd_rule *rule = &p->map->stages[s].rules[r];

				if (guard_of(rule, option) && rule->outcome[p->from] != NOT_READ &&
				    is_compared(p->map, &rule->side[p->from].axes, p->map->sizes[i].axis))
					return p->map->sizes[i].option;
			}
	return NULL;
}

/* "; or -D experts=3 -D expert_inter=4 is wrong": what -D says of sizes, which shapes are compared with. */
static const char *doubt_sizes(const struct sd_planner *p)
{
	const char *text = "";

	for (size_t i = 0; i < p->rename->ndefines && text; i++)
		for (uint32_t s = 0; s < p->map->nsizes && text; s++)
			if (strcmp(p->map->sizes[s].option, p->rename->defines[i].name) == 0) {
				text = sd_arena_printf(&p->out->arena, "%s -D %s=%s", *text ? text : "; or",
						       p->rename->defines[i].name, p->rename->defines[i].value);
				break;
			}
	if (text && *text)
		text = sd_arena_printf(&p->out->arena, "%s is wrong", text);
	return text ? text : "";
}

static enum sd_result decide(struct sd_planner *p, const struct votes *votes)
{
	const struct sd_map_option *option = &p->map->options[votes->option];
	uint32_t defined = p->defined[votes->option], stamp = OPEN, voted = OPEN;

	if (sd_planner_stamp(p, option, &stamp) != SD_OK)
		return p->err->result;
	for (uint32_t v = 0; v < option->nvalues; v++) {
		if (!votes->key[v])
			continue;
		if (voted != OPEN)
			return sd_fail(p->err, SD_INPUT,
				       "%s is of %s %s, and %s is of %s %s: one checkpoint has one of them%s",
				       votes->key[voted], option->name, option->values[voted], votes->key[v],
				       option->name, option->values[v], doubt_sizes(p));
		voted = v;
	}
	if (voted != OPEN && defined != OPEN && defined != voted)
		return sd_fail(p->err, SD_INPUT, "-D %s=%s, but %s is of %s %s", option->name, option->values[defined],
			       votes->key[voted], option->name, option->values[voted]);
	if (voted != OPEN && stamp != OPEN && stamp != voted)
		return sd_fail(p->err, SD_INPUT, "%s says %s %s, but %s is of %s %s", option->stamp_file, option->name,
			       option->values[stamp], votes->key[voted], option->name, option->values[voted]);
	if (voted == OPEN && defined != OPEN && stamp != OPEN && defined != stamp)
		return sd_fail(p->err, SD_INPUT, "%s says %s %s, but -D %s=%s", option->stamp_file, option->name,
			       option->values[stamp], option->name, option->values[defined]);
	if (voted == OPEN)
		voted = defined != OPEN ? defined : stamp;
	if (voted == OPEN && votes->open) {
		const char *size = open_size(p, votes->option);

		return sd_fail(p->err, SD_INPUT, "nothing tells which %s %s is of: say -D %s=%s%s%s", option->name,
			       votes->open, option->name, option->text, size ? ", or what would tell: -D " : "",
			       size ? size : "");
	}
	p->option[votes->option] = voted == OPEN ? 0 : voted;
	return SD_OK;
}

static enum sd_result find_option(struct sd_planner *p, uint32_t number)
{
	uint32_t nvalues = p->map->options[number].nvalues;
	struct votes votes = {.option = number,
			      .key = calloc(nvalues, sizeof(*votes.key)),
			      .hit = calloc(nvalues, sizeof(*votes.hit))};
	enum sd_result result;

	if (votes.key && votes.hit) {
		for (size_t i = 0; i < p->ntensors; i++)
			vote(p, &p->tensors[i], &votes);
		result = decide(p, &votes);
	} else {
		result = sd_fail_memory(p->err);
	}
	free(votes.key);
	free(votes.hit);
	return result;
}

enum sd_result sd_planner_find_options(struct sd_planner *p, const struct sd_map_stage *stage)
{
	for (uint32_t i = 0; i < stage->nrules; i++)
		for (uint32_t g = 0; g < stage->rules[i].nguards; g++) {
			uint32_t option = stage->rules[i].guards[g].option;

			if (p->option[option] == OPEN && find_option(p, option) != SD_OK)
				return p->err->result;
		}
	return SD_OK;
}
