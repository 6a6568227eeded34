/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map has found the experts of a checkpoint: where not, why not. */
#include "map/experts.h"
#include "map/follow.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define EXPERTS ".experts."

static bool any_marked(const struct planner *p)
{
	uint32_t bit = sd_manifest_label_bit(p->out, SD_LABEL_EXPERT);

	for (size_t i = 0; i < p->ntensors; i++)
		if (p->tensors[i].labels & bit)
			return true;
	return !bit;
}

/* Whether the map leaves a key out, or knows it as one of the layout that is asked for. */
static bool is_done(struct planner *p, const char *name)
{
	bool done = sd_follow(p, name).dropped;

	p->from = !p->from;
	done = done || sd_follow(p, name).moved;
	p->from = !p->from;
	return done;
}

/* The first key of an expert's weight. Layers for prediction may keep experts of their own form. */
static const char *find_expert(struct planner *p)
{
	for (size_t i = 0; i < p->in->ntargets; i++) {
		const char *name = p->in->targets[i].name;

		if (strstr(name, EXPERTS) && !strstr(name, ".lora_") && !strstr(name, "mtp.") &&
		    !strstr(name, "bias") && sd_name_role(name).role < SD_ROLE_BLOCK_SCALE && !is_done(p, name))
			return name;
	}
	return NULL;
}

/* A text as it stands in a regular expression: a dot is [.], for messages show backslashes twice. */
static const char *quote(struct planner *p, const char *text, size_t length)
{
	char *quoted = sd_arena_alloc(&p->out->arena, 3 * length + 1), *end = quoted;

	for (size_t i = 0; quoted && i < length; i++)
		end += sprintf(end, text[i] == '.' ? "[%c]" : "%c", text[i]);
	return quoted;
}

/* Fails with the edit that takes the first length bytes of the key away, and puts a beginning in their place. */
static enum sd_result fail_beginning(struct planner *p, const char *key, size_t length, const char *beginning,
				     const struct rule *rule)
{
	const char *quoted = quote(p, key, length);

	if (!quoted)
		return sd_fail_memory(p->err);
	return sd_fail(p->err, SD_INPUT,
		       "map %s finds no experts: %s begins otherwise than its rule does (%s:%u); put sd-rename -e "
		       "'s/^%s/%s/' before this",
		       p->map->name, key, rule ? rule->file : p->map->file, rule ? rule->line : 0, quoted, beginning);
}

/* Looks whether the map would move the key behind another beginning. *found, and then the error is there. */
static enum sd_result try_beginnings(struct planner *p, const char *key, bool *found)
{
	static const char *const beginnings[] = {"",
						 "model.",
						 "model.language_model.",
						 "language_model.model.",
						 "language_model.",
						 "backbone.",
						 "language_model.backbone.",
						 "thinker.model."};

	for (const char *rest = key; rest; rest = strchr(rest, '.') ? strchr(rest, '.') + 1 : NULL)
		for (size_t i = 0; i < sizeof(beginnings) / sizeof(*beginnings); i++) {
			const char *name = sd_arena_printf(&p->out->arena, "%s%s", beginnings[i], rest);
			struct sd_followed end;

			if (!name)
				return sd_fail_memory(p->err);
			end = sd_follow(p, name);
			*found = end.moved && strcmp(name, key) != 0;
			if (*found)
				return fail_beginning(p, key, (size_t)(rest - key), beginnings[i], end.rule);
		}
	return SD_OK;
}

enum sd_result sd_planner_experts(struct planner *p)
{
	const char *key = any_marked(p) ? NULL : find_expert(p), *of;
	bool found = false;

	if (!key)
		return SD_OK;
	if (try_beginnings(p, key, &found) != SD_OK || found)
		return p->err->result;
	of = strstr(key, EXPERTS) + strlen(EXPERTS);
	return sd_fail(p->err, SD_INPUT, "map %s finds no experts: it has no rule for %s, %s", p->map->name, key,
		       isdigit((unsigned char)*of)
			       ? "which is of one expert; sd-rename --list-maps lists the maps"
			       : "which is of all experts, as transformers 5 has them; a map of v4 and v5 (sd-rename "
				 "--list-maps) makes single ones of them");
}
