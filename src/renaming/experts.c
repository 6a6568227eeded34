/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map has found the experts of a checkpoint: where not, why not. */
#include "renaming/experts.h"
#include "base/advice.h"
#include "renaming/follow.h"
#include "model/config_json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPERTS ".experts."

const char *const sd_beginnings[] = {"",
				     "model.",
				     "model.language_model.",
				     "language_model.model.",
				     "language_model.",
				     "backbone.",
				     "language_model.backbone.",
				     "thinker.model.",
				     NULL};

static bool any_marked(const struct sd_planner *p)
{
	uint32_t bit = sd_manifest_label_bit(p->out, SD_LABEL_EXPERT);

	for (size_t i = 0; i < p->ntensors; i++)
		if (p->tensors[i].labels & bit)
			return true;
	return false;
}

/* Whether the map leaves a key out, or knows it as one of the layout that is asked for. */
static bool is_done(struct sd_planner *p, const char *name)
{
	bool done = sd_follow(p, name).dropped;

	p->from = !p->from;
	done = done || sd_follow(p, name).moved;
	p->from = !p->from;
	return done;
}

/* Whether a key is of a part of the model whose experts may be of a form of their own. */
static bool is_aside(const char *name)
{
	static const char *const words[] = {"talker.", "vis",    "audio",    "draft",    ".lora_",
					    "bias",    "shared", "code2wav", "token2wav"};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strstr(name, words[i]))
			return true;
	return false;
}

/* The part of a key that a layer for prediction begins with; NULL: it is of none. */
static const char *find_predictor(const char *name)
{
	const char *at = strstr(name, "mtp.");

	return at && (at == name || at[-1] == '.') ? at : NULL;
}

/* Whether a key is one of an expert's weight, of the language model or of its layers for prediction. */
static bool is_expert(const char *name)
{
	return strstr(name, EXPERTS) && !is_aside(name) && sd_name_role(name).role < SD_ROLE_BLOCK_SCALE;
}

/* The first key of an expert that is neither left out nor of the layout that is asked for already. */
static const char *find_expert(struct sd_planner *p)
{
	for (size_t i = 0; i < p->in->ntargets; i++)
		if (is_expert(p->in->targets[i].name) && !find_predictor(p->in->targets[i].name) &&
		    !is_done(p, p->in->targets[i].name))
			return p->in->targets[i].name;
	return NULL;
}

/* Whether a key is this beginning with this behind it. */
static bool is_key(const struct sd_planner *p, const char *beginning, const char *rest)
{
	size_t length = strlen(beginning);

	for (size_t i = 0; i < p->in->ntargets; i++) {
		const char *name = p->in->targets[i].name;

		if (strncmp(name, beginning, length) == 0 && strcmp(name + length, rest) == 0)
			return true;
	}
	return false;
}

/* What to do where a key is there with this beginning, too. */
static enum sd_result tell_copies(struct sd_planner *p, const char *key, size_t length, const char *beginning,
				  const char **text)
{
	const char *regex = sd_advice_regex(&p->out->arena, key, length);

	*text = regex ? sd_arena_printf(&p->out->arena,
					"%s is there as %s%s, too: put sd-rename --exclude '^%s' before this, which "
					"leaves out those that begin so",
					key, beginning, key + length, regex)
		      : NULL;
	return *text ? SD_OK : sd_fail_memory(p->err);
}

/* How much stands in front of the beginning that is right: to take that off mends the head, too. 0: all is otherwise.
 */
static size_t measure_front(const char *key, size_t length, const char *beginning)
{
	size_t kept = strlen(beginning), extra = length > kept ? length - kept : 0;

	return extra && strchr("./", key[extra - 1]) && strncmp(key + extra, beginning, kept) == 0 ? extra : 0;
}

/* How to take the first length bytes of the key away, and to put a beginning in their place. */
static enum sd_result tell_beginning(struct sd_planner *p, const char *key, size_t length, const char *beginning,
				     const struct sd_rule *rule, const char **text)
{
	const char *rest = key + length, *edit;
	struct sd_arena *arena = &p->out->arena;
	size_t kept = strlen(beginning), extra;

	/* What is right begins so, too: the edit is for those that have it twice. */
	if (length && length >= kept && strncmp(beginning, key, kept) == 0 &&
	    strncmp(rest, key + kept, length - kept) == 0) {
		size_t more = strcspn(rest, ".") + 1;

		beginning = sd_arena_printf(arena, "%s%.*s", beginning, (int)more, rest);
		length += more;
	}
	if (!beginning)
		return sd_fail_memory(p->err);
	extra = measure_front(key, length, beginning);
	if (extra) {
		length = extra;
		beginning = "";
	}
	if (is_key(p, beginning, key + length))
		return tell_copies(p, key, length, beginning, text);
	edit = sd_advice_edit(arena, SD_ADVICE_FRONT, key, length, beginning);
	sd_planner_advise(p, edit);
	*text = arena->failed ? NULL
			      : sd_arena_printf(arena, "%s begins otherwise than its rule does (%s:%u)%s%s%s", key,
						rule ? rule->file : p->map->file, rule ? rule->line : 0,
						edit ? "; put sd-rename -e '" : "", edit ? edit : "",
						edit ? "' before this" : "");
	return *text ? SD_OK : sd_fail_memory(p->err);
}

/* Whether a key begins with this, and then as rest does up to its first dot: other layers are called so. */
static bool is_used(const struct sd_planner *p, const char *beginning, const char *rest)
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

/* What is tried first: beginnings that other keys have; then any that layers may have; nothing in front at last. */
static bool is_tried(const struct sd_planner *p, size_t round, const char *beginning, const char *rest)
{
	switch (round) {
	case 0:
		return is_used(p, beginning, rest);
	case 1:
		return *beginning && strncmp(rest, "layers.", 7) == 0;
	default:
		return !*beginning;
	}
}

/*
 * Looks whether the map would move the key behind another beginning: *text says which then, and is NULL otherwise. One
 * that other keys have comes first.
 */
static enum sd_result try_beginnings(struct sd_planner *p, const char *key, const char **text)
{
	size_t n = 0;

	/* Behind a beginning of layers these would be layers of the model. */
	if (find_predictor(key))
		return SD_OK;
	while (sd_beginnings[n])
		n++;
	for (const char *rest = key; rest; rest = strchr(rest, '.') ? strchr(rest, '.') + 1 : NULL)
		for (size_t i = 0; i < 3 * n; i++) {
			const char *beginning = sd_beginnings[i % n], *name;
			struct sd_followed end;

			if (!is_tried(p, i / n, beginning, rest))
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

/* Whether the map says that layers for prediction stay as they are: a rule for their names alone keeps them. */
static bool keeps_predictors(const struct sd_planner *p)
{
	for (uint32_t s = 0; s < p->map->nstages; s++)
		for (uint32_t i = 0; i < p->map->stages[s].nrules; i++) {
			const struct sd_rule *rule = &p->map->stages[s].rules[i];
			const struct sd_pattern *key = &rule->side[p->from].key;

			if (rule->outcome[p->from] == KEEP && key->n && key->elements->kind == LITERAL &&
			    strncmp(key->elements->text, "mtp.", 4) == 0)
				return true;
		}
	return false;
}

/* The name with which a tensor comes in: edits in front of the map may have given it another one than its key. */
static const char *incoming(const struct sd_planner *p, const struct sd_planner_tensor *t)
{
	uint32_t target = t->first == NONE ? NONE : p->pieces[t->first].target;

	return target == NONE ? sd_planner_source(p, t) : p->in->targets[target].name;
}

/* Whether an expert's tensor has kept its form. */
static bool is_left(struct sd_planner *p, const struct sd_planner_tensor *t)
{
	const char *key = incoming(p, t);

	if ((t->labels & sd_manifest_label_bit(p->out, SD_LABEL_EXPERT)) || !is_expert(key) || is_done(p, key))
		return false;
	return find_predictor(key) != key || !keeps_predictors(p);
}

/* A layer for prediction behind a beginning that its rules do not know: half a conversion, too. */
static enum sd_result check_predictors(struct sd_planner *p)
{
	for (size_t i = 0; i < p->in->ntargets; i++) {
		const char *name = p->in->targets[i].name, *rest = find_predictor(name), *edit;
		struct sd_followed is, end;

		if (!rest || rest == name || strncmp(name, "base_model.", 11) == 0)
			continue;
		is = sd_follow(p, name);
		end = sd_follow(p, rest);
		if (!is.name || !end.name)
			return sd_fail_memory(p->err);
		if (is.moved || is.dropped || strcmp(is.name, name) != 0 ||
		    !(end.moved || end.dropped || strcmp(end.name, rest) != 0))
			continue;
		edit = sd_advice_edit(&p->out->arena, SD_ADVICE_FRONT, name, (size_t)(rest - name) + 4, "mtp.");
		if (!edit)
			return sd_fail_memory(p->err);
		sd_planner_advise(p, edit);
		return sd_fail(p->err, SD_INPUT,
			       "map %s leaves %s as it is, and has a rule for %s: put sd-rename -e '%s' before this",
			       p->map->name, name, rest, edit);
	}
	return SD_OK;
}

static bool leaves_any(struct sd_planner *p)
{
	for (size_t i = 0; i < p->ntensors; i++)
		if (is_left(p, &p->tensors[i]))
			return true;
	return false;
}

#define TRIED_IDLE_MAX 512

/* What is odd about a name; NULL: nothing is known. */
static const char *find_line(const struct sd_planner *p, const char *name)
{
	for (size_t i = 0; i < p->findings.n; i++)
		if (strcmp(p->findings.at[i].name, name) == 0)
			return p->findings.at[i].line;
	return NULL;
}

/* Whether a key is of one expert. */
static bool is_single(const char *key)
{
	return isdigit((unsigned char)strstr(key, EXPERTS)[strlen(EXPERTS)]);
}

/* What a key is that no rule takes, and what would mend it: "which is of one expert; ...". */
static const char *say_form(const struct sd_planner *p, const char *key)
{
	static const char *const fused[] = {"gate_up_proj", "down_proj", "up_proj"};
	const char *of = strstr(key, EXPERTS) + strlen(EXPERTS);
	char beside[512];
	bool v5 = false;

	if (is_single(key))
		return "which is of one expert; sd-rename --list-maps lists the maps";
	for (size_t i = 0; i < sizeof(fused) / sizeof(*fused); i++)
		v5 = v5 || strcmp(of, fused[i]) == 0;
	snprintf(beside, sizeof(beside), "%s_bias", key);
	for (size_t i = 0; i < p->in->ntargets && v5; i++)
		v5 = strcmp(p->in->targets[i].name, beside) != 0;
	return v5 ? "which is of all experts, as transformers 5 has them; a map of v4 and v5 (sd-rename --list-maps) "
		    "makes single ones of them"
		  : "which is of all experts; sd-rename --list-maps lists the maps";
}

/* Of some experts the map makes what it should; others begin otherwise, and pass: half a conversion. */
static enum sd_result tell_half(struct sd_planner *p)
{
	for (size_t i = 0; i < p->ntensors; i++) {
		const char *key = incoming(p, &p->tensors[i]), *text = NULL, *line;

		if (!is_left(p, &p->tensors[i]))
			continue;
		if (try_beginnings(p, key, &text) != SD_OK)
			return p->err->result;
		if (text)
			return sd_fail(p->err, SD_INPUT, "map %s leaves some experts as they are: %s", p->map->name,
				       text);
		line = find_line(p, key);
		line = line ? sd_arena_printf(&p->out->arena, "map %s leaves some experts as they are: %s",
					      p->map->name, line)
			    : sd_arena_printf(&p->out->arena,
					      "map %s leaves some experts as they are: it has no rule for %s%s%s",
					      p->map->name, key, is_single(key) ? "" : ", ",
					      is_single(key) ? "" : say_form(p, key));
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
static enum sd_result check_idle(struct sd_planner *p)
{
	const char *text = NULL;

	for (size_t i = 0, tried = 0; i < p->in->ntargets && tried < TRIED_IDLE_MAX; i++) {
		const char *name = p->in->targets[i].name;

		if (is_aside(name) || find_predictor(name) || !is_early(name) || is_done(p, name))
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

	for (size_t k = 0; sd_beginnings[k]; k++) {
		size_t length = strlen(sd_beginnings[k]);

		if (length > longest && length <= prefix &&
		    strncmp(name + prefix - length, sd_beginnings[k], length) == 0 &&
		    (length == prefix || strchr("./", name[prefix - length - 1])))
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

		if (!at || is_aside(name) || find_predictor(name))
			continue;
		*extra = measure_extra(name + skip, (size_t)(at - name) - skip);
		if (*extra)
			return name + skip;
	}
	return NULL;
}

/* config.json counts experts, the layers are here, and no key is of one. */
static enum sd_result tell_none(struct sd_planner *p)
{
	uint64_t of;
	const char *line;
	bool layers = false;

	for (size_t i = 0; i < p->in->ntargets; i++) {
		const char *name = p->in->targets[i].name;

		if (strstr(name, EXPERTS) || strstr(name, ".lora_"))
			return SD_OK;
		layers = layers || strstr(name, "layers.");
	}
	if (!layers || !sd_config_count(p->in, SD_CONFIG_EXPERTS, &of) || of < 2)
		return SD_OK;
	line = sd_arena_printf(&p->out->arena, "config.json counts %" PRIu64 " experts, and no key is of one", of);
	return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
}

enum sd_result sd_planner_experts(struct sd_planner *p)
{
	bool marks = sd_map_has_label(p->map, SD_LABEL_EXPERT), marked = marks && any_marked(p);
	const char *key = marks && !marked ? find_expert(p) : NULL, *text = NULL;

	/* A wrapper's prefix says why, and how all of it is mended. */
	if (p->findings.n && p->findings.at[0].kind == SD_ODD_PREFIX && (key || (marked && leaves_any(p))))
		return sd_fail(p->err, SD_INPUT, "%s", p->findings.at[0].line);
	if (marks && !marked && !key && tell_none(p) != SD_OK)
		return p->err->result;
	if (check_predictors(p) != SD_OK)
		return p->err->result;
	if (!key && !p->changes)
		return check_idle(p);
	if (!key)
		return marked ? tell_half(p) : SD_OK;
	if (try_beginnings(p, key, &text) != SD_OK)
		return p->err->result;
	if (text)
		return sd_fail(p->err, SD_INPUT, "map %s finds no experts: %s", p->map->name, text);
	if (find_line(p, key))
		return sd_fail(p->err, SD_INPUT, "map %s finds no experts: %s", p->map->name, find_line(p, key));
	return sd_fail(p->err, SD_INPUT, "map %s finds no experts: it has no rule for %s, %s", p->map->name, key,
		       say_form(p, key));
}
