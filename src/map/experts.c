/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map has found the experts of a checkpoint: where not, why not. */
#include "map/experts.h"
#include "map/follow.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPERTS ".experts."

/* What the names of layers begin with. */
static const char *const beginnings[] = {"",
					 "model.",
					 "model.language_model.",
					 "language_model.model.",
					 "language_model.",
					 "backbone.",
					 "language_model.backbone.",
					 "thinker.model."};

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

/* How to take the first length bytes of the key away, and to put a beginning in their place. */
static enum sd_result tell_beginning(struct planner *p, const char *key, size_t length, const char *beginning,
				     const struct rule *rule, const char **text)
{
	const char *quoted = quote(p, key, length);

	*text = quoted ? sd_arena_printf(&p->out->arena,
					 "%s begins otherwise than its rule does (%s:%u); put sd-rename -e "
					 "'s/^%s/%s/' before this",
					 key, rule ? rule->file : p->map->file, rule ? rule->line : 0, quoted,
					 beginning)
		       : NULL;
	return *text ? SD_OK : sd_fail_memory(p->err);
}

/* Whether a key begins with this, and then as rest does up to its first dot: other layers are called so. */
static bool is_used(const struct planner *p, const char *beginning, const char *rest)
{
	size_t length = strlen(beginning), more = strcspn(rest, ".");

	for (size_t i = 0; i < p->in->ntargets; i++) {
		const char *name = p->in->targets[i].name;

		if (strncmp(name, beginning, length) == 0 && strncmp(name + length, rest, more) == 0 &&
		    name[length + more] == '.')
			return true;
	}
	return false;
}

/*
 * Looks whether the map would move the key behind another beginning: *text says which then, and is NULL otherwise. One
 * that other keys have comes first.
 */
static enum sd_result try_beginnings(struct planner *p, const char *key, const char **text)
{
	size_t n = sizeof(beginnings) / sizeof(*beginnings);

	for (const char *rest = key; rest; rest = strchr(rest, '.') ? strchr(rest, '.') + 1 : NULL)
		for (size_t i = 0; i < 2 * n; i++) {
			const char *beginning = beginnings[i % n], *name;
			struct sd_followed end;

			if (i < n && !is_used(p, beginning, rest))
				continue;
			name = sd_arena_printf(&p->out->arena, "%s%s", beginning, rest);
			if (!name)
				return sd_fail_memory(p->err);
			end = sd_follow(p, name);
			if (end.moved && strcmp(name, key) != 0)
				return tell_beginning(p, key, (size_t)(rest - key), beginning, end.rule, text);
		}
	return SD_OK;
}

/* Whether a key is of a part of the model whose experts may be of a form of their own. */
static bool is_aside(const char *name)
{
	static const char *const words[] = {"mtp.", "talker.", "vis", "audio", "draft", ".lora_", "bias", "shared"};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strstr(name, words[i]))
			return true;
	return false;
}

#define TRIED_MAX 16
#define TRIED_IDLE_MAX 512

/* Of some experts the map makes what it should; others begin otherwise, and pass: half a conversion. */
static enum sd_result tell_half(struct planner *p)
{
	uint32_t bit = sd_manifest_label_bit(p->out, SD_LABEL_EXPERT);
	size_t tried = 0;

	for (size_t i = 0; i < p->ntensors && tried < TRIED_MAX; i++) {
		const struct tensor *t = &p->tensors[i];
		const char *key = sd_planner_source(p, t), *text = NULL, *line;

		if ((t->labels & bit) || !strstr(key, EXPERTS) || is_aside(key) ||
		    sd_name_role(key).role >= SD_ROLE_BLOCK_SCALE || is_done(p, key))
			continue;
		tried++;
		if (try_beginnings(p, key, &text) != SD_OK)
			return p->err->result;
		if (!text)
			continue;
		line = sd_arena_printf(&p->out->arena, "map %s leaves some experts as they are: %s", p->map->name,
				       text);
		return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
	}
	return SD_OK;
}

/* Whether a name is of one of the first layers: the others are like them. */
static bool is_early(const char *name)
{
	for (const char *at = name; *at; at++)
		if (isdigit((unsigned char)*at) && at > name && at[-1] == '.' && strtoul(at, NULL, 10) > 3)
			return false;
	return true;
}

/* A map that changes nothing may be kept from it by what stands in front of the names. */
static enum sd_result check_idle(struct planner *p)
{
	const char *text = NULL;

	for (size_t i = 0, tried = 0; i < p->in->ntargets && tried < TRIED_IDLE_MAX; i++) {
		const char *name = p->in->targets[i].name;

		if (is_aside(name) || !is_early(name) || is_done(p, name))
			continue;
		tried++;
		if (try_beginnings(p, name, &text) != SD_OK)
			return p->err->result;
		if (text)
			return sd_fail(p->err, SD_INPUT, "map %s changes no key: %s", p->map->name, text);
	}
	return SD_OK;
}

/* How much of a name stands in front of the longest beginning that layers may have. */
static size_t measure_extra(const char *name, size_t prefix)
{
	size_t longest = 0;

	for (size_t k = 0; k < sizeof(beginnings) / sizeof(*beginnings); k++) {
		size_t length = strlen(beginnings[k]);

		if (length > longest && length <= prefix &&
		    strncmp(name + prefix - length, beginnings[k], length) == 0 &&
		    (length == prefix || name[prefix - length - 1] == '.'))
			longest = length;
	}
	return prefix - longest;
}

const char *sd_unusual_beginning(const struct sd_manifest *m, size_t *extra)
{
	static const char layers[] = "layers.", adapter[] = "base_model.model.";

	for (size_t i = 0; i < m->ntargets; i++) {
		const char *name = m->targets[i].name, *at = strstr(name, layers);
		size_t skip = strncmp(name, adapter, strlen(adapter)) == 0 ? strlen(adapter) : 0;

		if (!at || is_aside(name))
			continue;
		*extra = measure_extra(name + skip, (size_t)(at - name) - skip);
		if (*extra)
			return name + skip;
	}
	return NULL;
}

enum sd_result sd_planner_experts(struct planner *p)
{
	bool marked = any_marked(p);
	const char *key = marked ? NULL : find_expert(p), *of, *text = NULL;

	if (!key)
		return p->changes ? (marked ? tell_half(p) : SD_OK) : check_idle(p);
	if (try_beginnings(p, key, &text) != SD_OK)
		return p->err->result;
	if (text)
		return sd_fail(p->err, SD_INPUT, "map %s finds no experts: %s", p->map->name, text);
	of = strstr(key, EXPERTS) + strlen(EXPERTS);
	return sd_fail(p->err, SD_INPUT, "map %s finds no experts: it has no rule for %s, %s", p->map->name, key,
		       isdigit((unsigned char)*of)
			       ? "which is of one expert; sd-rename --list-maps lists the maps"
			       : "which is of all experts, as transformers 5 has them; a map of v4 and v5 (sd-rename "
				 "--list-maps) makes single ones of them");
}
