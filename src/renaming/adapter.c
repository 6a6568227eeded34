/* SPDX-License-Identifier: Apache-2.0 */
/* LoRA adapters: the files beside them follow the form that they get. */
#include "config/adapter_config.h"
#include "renaming/planner.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>

static bool holds(const struct sd_planner *p, const struct sd_map_peft *peft)
{
	for (uint32_t i = 0; i < peft->nguards; i++)
		if (p->option[peft->guards[i].option] != peft->guards[i].value)
			return false;
	return true;
}

/*
 * Looks at what LoRA has for a module of the target's name: whether it is elsewhere than in the container; there, which
 * expert's it is.
 */
static void look(const struct sd_planner *p, const char *name, struct sd_peft_target *t, uint64_t *experts)
{
	const char *lora = strstr(name, ".lora_"), *end = lora, *digits;
	size_t length = strlen(t->name), container = strlen(t->container);
	uint64_t number = 0;

	if (!lora || (size_t)(lora - name) < length || memcmp(lora - length, t->name, length) != 0)
		return;
	end -= length;
	if (end > name && *--end != '.')
		return;
	for (digits = end; digits > name && isdigit((unsigned char)digits[-1]);)
		digits--;
	if (digits < end && digits > name && digits[-1] == '.') {
		number = strtoull(digits, NULL, 10);
		end = digits - 1;
	}
	if ((size_t)(end - name) < container || memcmp(end - container, t->container, container) != 0 ||
	    ((size_t)(end - name) > container && end[-(ptrdiff_t)container - 1] != '.'))
		t->outside = true;
	else if (number >= *experts && number < p->ntensors)
		*experts = number + 1;
}

/* Two statements are of one form where they have the same values. */
static bool same_form(const struct sd_map_peft *a, const struct sd_map_peft *b)
{
	return a->nguards == b->nguards &&
	       (!a->nguards || memcmp(a->guards, b->guards, a->nguards * sizeof(*a->guards)) == 0);
}

static void fill_target(const struct sd_planner *p, uint32_t number, struct sd_peft_target *t)
{
	const struct sd_map_peft *peft = &p->map->pefts[number];
	uint64_t experts = 0;

	*t = (struct sd_peft_target){.container = peft->container,
				     .name = peft->name,
				     .parameter = peft->parameter,
				     .wanted = holds(p, peft)};
	while (strcmp(p->map->pefts[t->group].group, peft->group) != 0)
		t->group++;
	while (t->form < number && !same_form(&p->map->pefts[t->form], peft))
		t->form++;
	for (size_t i = 0; i < p->ntensors; i++)
		look(p, p->tensors[i].name, t, &experts);
	if (!peft->parameter && sd_map_is_elsewhere(p->map, peft->name))
		t->numbers = experts;
}

/* What the keys said of the form, a file may say too. */
static enum sd_result follow_stamps(struct sd_planner *p)
{
	for (uint32_t i = 0; i < p->map->noptions; i++) {
		const struct sd_map_option *option = &p->map->options[i];
		uint32_t said;

		if (!option->from_keys || !option->stamp_file || option->idle)
			continue;
		if (p->defined[i] == OPEN && sd_planner_stamp(p, option, &said) != SD_OK)
			return p->err->result;
		if (sd_stamp_follow(p->out, option->stamp_file, option->stamp_field, option->stamps[p->option[i]],
				    p->err) != SD_OK)
			return p->err->result;
	}
	return SD_OK;
}

/* Whether the adapter has tensors of this group, in the form that it gets. */
static bool is_there(const struct sd_planner *p, const char *group)
{
	for (uint32_t i = 0; i < p->map->npefts; i++)
		if (p->decided[p->map->pefts[i].stage] && holds(p, &p->map->pefts[i]) &&
		    strcmp(p->map->pefts[i].group, group) == 0)
			return true;
	return false;
}

enum sd_result sd_planner_adapter(struct sd_planner *p)
{
	struct sd_peft_target *targets = calloc(p->map->npefts + 1, sizeof(*targets));
	enum sd_result result = targets ? SD_OK : sd_fail_memory(p->err);
	size_t n = 0;

	for (uint32_t i = 0; targets && p->from == RIGHT && i < p->map->npefts; i++)
		if (is_there(p, p->map->pefts[i].group))
			fill_target(p, i, &targets[n++]);
	if (n)
		result = sd_adapter_config_follow(p->out, targets, n, p->err);
	if (result == SD_OK && n)
		result = follow_stamps(p);
	free(targets);
	return result;
}
