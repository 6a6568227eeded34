/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of sd-rename: the manifest's tensors through the stages of a map, then edits, exclusion, and a manifest
 * again. */
#include "renaming/rename.h"
#include "renaming/experts.h"
#include "renaming/known.h"
#include "renaming/planner.h"
#include "renaming/quantised.h"
#include "base/text.h"
#include "model/config_json.h"
#include "model/parts.h"
#include "model/stack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Marks the tensors whose right-hand names the map's labels are for. */
static enum sd_result put_labels(struct sd_planner *p)
{
	struct sd_map_values ignored;

	for (uint32_t l = 0; l < p->map->nlabels; l++) {
		const struct sd_map_label *label = &p->map->labels[l];
		uint32_t bit = sd_manifest_label(p->out, label->name);

		if (!bit)
			return sd_fail(p->err, SD_INPUT, "no room for label %s", label->name);
		for (size_t i = 0; i < p->ntensors; i++)
			if (sd_pattern_match(&label->pattern, &label->holes, p->texts, p->tensors[i].name,
					     strlen(p->tensors[i].name), &p->scratch, &ignored))
				p->tensors[i].labels |= bit;
	}
	return SD_OK;
}

/* What several dtypes went into is of one by -D dtype, where that is for it. */
static enum sd_result check_mixed(struct sd_planner *p)
{
	uint32_t bit = sd_manifest_label_bit(p->out, SD_LABEL_EXPERT);

	for (size_t i = 0; i < p->ntensors; i++) {
		const struct sd_planner_tensor *t = &p->tensors[i];
		bool expert = t->labels & bit, right = p->from == LEFT;

		if (t->mixed && !(expert && p->dtype))
			return sd_fail(p->err, SD_INPUT, expert && right ? "%s: say -D dtype=DTYPE" : "%s", t->mixed);
	}
	return SD_OK;
}

/* Of experts in one tensor a layer has as many as config.json counts: fewer are worth a word. */
static enum sd_result tell_count(struct sd_planner *p, const struct sd_planner_tensor *t)
{
	const char *line, *experts = strstr(t->name, "experts.");
	size_t before = experts ? (size_t)(experts - t->name) : strlen(t->name);
	uint64_t of;

	if (p->from != RIGHT || sd_manifest_label_bit(p->in, SD_LABEL_EP) || sd_stack_is_other(t->name, before) ||
	    !sd_config_count(p->in, SD_CONFIG_EXPERTS, &of) || t->shape[0] == of)
		return SD_OK;
	line = sd_arena_printf(&p->out->arena, "%s has %" PRIu64 " experts, and config.json counts %" PRIu64, t->name,
			       t->shape[0], of);
	return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
}

/* The tensor beside experts' projections up whose name is nearly that of a projection down, or NULL. */
static const char *find_down_slip(const struct sd_planner *p, const char *up)
{
	size_t length = (size_t)(strrchr(up, '.') + 1 - up);

	for (size_t i = 0; i < p->ntensors; i++) {
		const char *name = p->tensors[i].name;

		if (strncmp(name, up, length) == 0 && strcmp(name, up) != 0 &&
		    (sd_text_distance(name + length, "down_proj", 2) <= 2 ||
		     sd_text_distance(name + length, "down_projs", 2) <= 2))
			return name;
	}
	return NULL;
}

/*
 * Experts that have projections up and none down: no layer tells, where all lack it. Few tensors beside experts are no
 * model, but a part that somebody has chosen.
 */
static enum sd_result tell_half(struct sd_planner *p, uint32_t bit)
{
	const char *up = NULL, *slip, *line;
	size_t experts = 0;

	for (size_t i = 0; i < p->ntensors; i++) {
		const char *name = p->tensors[i].name, *word = strrchr(name, '.');

		experts += (p->tensors[i].labels & bit) != 0;
		if (!(p->tensors[i].labels & bit) || !word || strstr(name, "lora_"))
			continue;
		if (strstr(word, "down"))
			return SD_OK;
		up = strstr(word, "gate_and_up_projs") ? name : up;
	}
	if (!up || p->rename->some || p->ntensors < 4 * experts)
		return SD_OK;
	slip = find_down_slip(p, up);
	line = slip ? sd_arena_printf(&p->out->arena, "%s: down_proj? no expert has a projection down", slip)
		    : sd_arena_printf(&p->out->arena, "no expert has a projection down: there is %s alone", up);
	return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
}

/* Experts of one layer, which are all in one module, are as many in each of its tensors. */
static enum sd_result check_experts(struct sd_planner *p)
{
	struct sd_names modules = {0};
	struct sd_planner_tensor **first = calloc(p->ntensors + 1, sizeof(struct sd_planner_tensor *));
	uint32_t bit = sd_manifest_label_bit(p->out, SD_LABEL_EXPERT);
	enum sd_result result = first ? SD_OK : sd_fail_memory(p->err);

	for (size_t i = 0, n = 0; result == SD_OK && i < p->ntensors; i++) {
		struct sd_planner_tensor *t = &p->tensors[i];
		const char *dot = strrchr(t->name, '.');
		char *module;
		uint32_t number;

		if (!(t->labels & bit) || !dot || !t->rank)
			continue;
		module = sd_arena_text(&p->out->arena, t->name, (size_t)(dot - t->name));
		number = module ? sd_names_add(&modules, module, (uint32_t)n) : SD_NO_NAME;
		if (number == SD_NO_NAME)
			result = sd_fail_memory(p->err);
		else if (number == n)
			first[n++] = t;
		if (result == SD_OK && number == 0 && n == 1 && first[0] == t)
			result = tell_count(p, t);
		if (result == SD_OK && first[number]->shape[0] != t->shape[0])
			result = sd_fail(p->err, SD_INPUT, "%s has %" PRIu64 " experts, %s has %" PRIu64,
					 first[number]->name, first[number]->shape[0], t->name, t->shape[0]);
	}
	free(first);
	sd_names_free(&modules);
	return result == SD_OK ? tell_half(p, bit) : result;
}

/* -D dtype: what has the label "expert" is cast. */
static enum sd_result cast_labelled(struct sd_planner *p)
{
	uint32_t bit = sd_manifest_label_bit(p->out, SD_LABEL_EXPERT);

	for (size_t i = 0; i < p->ntensors; i++) {
		struct sd_planner_tensor *t = &p->tensors[i];

		if (!(t->labels & bit) || t->dtype == p->dtype || !sd_planner_castable(t->dtype))
			continue;
		for (uint32_t k = t->first; k != NONE; k = p->pieces[k].next)
			if (sd_planner_cast(p, &p->pieces[k], p->dtype) != SD_OK)
				return p->err->result;
		t->dtype = p->dtype;
		p->changes = true;
	}
	return SD_OK;
}

static enum sd_result tell_finding(void *user, const char *line)
{
	return sd_planner_tell(user, line);
}

/* Whether -D dtype is given; with strict, findings are told before the options are taken. */
static bool casts_experts(const struct sd_planner *p)
{
	for (size_t i = 0; i < p->rename->ndefines; i++)
		if (strcmp(p->rename->defines[i].name, "dtype") == 0)
			return true;
	return p->dtype;
}

/* What is odd about the names is worth a word: the rest converts as well without it. */
static enum sd_result tell_findings(struct sd_planner *p)
{
	size_t kept = 0;
	bool cast = casts_experts(p);

	for (size_t i = 0; i < p->findings.n; i++) {
		const struct sd_finding *f = &p->findings.at[i];
		bool expert = strstr(f->name, ".experts.");

		if (p->borne && f->line && strcmp(f->line, p->first.text) == 0)
			continue;
		/* Of experts that are missing the plan tells more; -D dtype makes those alike that are of several. */
		if (!expert || (!p->nmissing && !(cast && f->kind == SD_ODD_DTYPE)))
			p->findings.at[kept++] = *f;
	}
	p->findings.n = kept;
	return sd_findings_tell(&p->findings, &p->out->arena, tell_finding, p, p->err);
}

/* What the rules that were taken have to say: "KEY and 3 more: TEXT (FILE:LINE)". */
static enum sd_result write_notes(struct sd_planner *p)
{
	struct sd_rename *rename = p->rename;
	size_t n = 0;
	const char **texts = sd_arena_array(&p->out->arena, p->nnotes + 1, sizeof(*texts));

	if (!texts)
		return sd_fail_memory(p->err);
	for (size_t i = 0; i < p->nnotes; i++) {
		const struct sd_planner_note *note = &p->notes[i];
		char more[32] = "";

		if (note->taken > 1)
			snprintf(more, sizeof(more), " and %zu more", note->taken - 1);
		texts[n++] = note->rule ? sd_arena_printf(&p->out->arena, "%s%s: %s (%s:%u)", note->key, more,
							  note->text, note->rule->file, note->rule->line)
					: note->text;
		if (!texts[n - 1])
			return sd_fail_memory(p->err);
	}
	rename->notes = texts;
	rename->nnotes = n;
	return SD_OK;
}

/* Whether all tensors keep their names, shapes and places; *casts: how many are cast. */
static bool leaves_all(const struct sd_planner *p, size_t *casts)
{
	*casts = 0;
	if (p->ntensors != p->in->ntargets)
		return false;
	for (size_t i = 0; i < p->ntensors; i++) {
		const struct sd_planner_tensor *t = &p->tensors[i];
		const struct sd_planner_piece *piece = t->first == NONE ? NULL : &p->pieces[t->first];
		const struct sd_target *was;

		if (!piece || piece->next != NONE || piece->target == NONE)
			return false;
		was = &p->in->targets[piece->target];
		if (strcmp(t->name, was->name) != 0 || piece->move != was->move ||
		    !sd_shape_equal(t->shape, t->rank, was->shape, was->rank))
			return false;
		*casts += t->dtype != was->dtype;
	}
	return true;
}

/* Whether nothing was to do: rules let keys pass that have the names of the other layout already. */
static enum sd_result find_idle(struct sd_planner *p)
{
	struct sd_evidence evidence;
	size_t casts;

	p->rename->idle = !p->changes;
	if (p->rename->idle || !leaves_all(p, &casts))
		return SD_OK;
	if (sd_rename_evidence(p->rename, p->in, &evidence, p->err) != SD_OK)
		return p->err->result;
	/* What is cast may be called the same in both. */
	p->rename->idle = !evidence.keys[p->from] && evidence.keys[!p->from] > casts;
	return SD_OK;
}

static enum sd_result run_map(struct sd_planner *p)
{
	uint32_t n = p->map->nstages;
	enum sd_result result = SD_OK;

	if (!p->rename->compared && !sd_manifest_label_bit(p->in, SD_LABEL_COMPARED))
		result = sd_siblings_check(p->in, &p->out->arena, &p->findings, p->err);

	/* Where each note is an error, the one that says most comes first. */
	if (result == SD_OK && p->rename->strict)
		result = sd_planner_bear(p, tell_findings(p));
	if (result == SD_OK)
		result = sd_planner_options(p);
	if (result == SD_OK && p->dtype && p->from == RIGHT)
		result = sd_fail(p->err, SD_USAGE, "-D dtype is for the way to %s", p->map->layout[RIGHT]);
	if (result == SD_OK && p->from == LEFT)
		result = sd_planner_open(p);
	if (result == SD_OK && p->from == RIGHT)
		result = put_labels(p);
	if (result == SD_OK && p->from == RIGHT)
		result = sd_planner_bear(p, check_experts(p));
	for (uint32_t i = 0; i < n && result == SD_OK; i++) {
		const struct sd_map_stage *stage = &p->map->stages[p->from == LEFT ? i : n - 1 - i];

		/* A stage of places alone has nothing to do. */
		if (!stage->nrules)
			continue;
		sd_names_free(&p->names);
		p->named = false;
		p->before = p->tensors;
		p->nbefore = p->ntensors;
		p->asked = p->asked_next ? p->asked_next : p->asked;
		p->asked_next = NULL;
		result = sd_planner_find_options(p, stage);
		if (result == SD_OK)
			result = sd_planner_stage(p, stage);
		p->step++;
	}
	/* No stage is there any more to look for other tensors in. */
	sd_names_free(&p->names);
	p->before = NULL;
	p->nbefore = 0;
	p->named = false;
	if (result != SD_OK && p->step)
		result = sd_planner_blame(p);
	if (result == SD_OK && p->from == LEFT)
		result = put_labels(p);
	if (result == SD_OK)
		result = sd_planner_bear(p, check_mixed(p));
	if (result == SD_OK && p->from == LEFT)
		result = sd_planner_bear(p, check_experts(p));
	if (result == SD_OK && p->dtype)
		result = cast_labelled(p);
	if (result == SD_OK)
		result = find_idle(p);
	if (result == SD_OK)
		result = sd_planner_bear(p, sd_planner_known(p));
	if (result == SD_OK && p->scratch.size == SIZE_MAX)
		result = sd_fail_memory(p->err);
	if (result == SD_OK)
		result = sd_planner_bear(p, sd_planner_quantised(p));
	if (result == SD_OK)
		result = sd_planner_bear(p, sd_planner_experts(p));
	if (result == SD_OK && !p->rename->strict)
		result = tell_findings(p);
	/* Where there is no room for the label, the next program tells it again. */
	(void)!sd_manifest_label(p->out, SD_LABEL_COMPARED);
	if (p->findings.n)
		(void)!sd_manifest_label(p->out, SD_LABEL_ODD);
	return result;
}

static void tell(const struct sd_planner *p, const char *text, const char *from, const char *to)
{
	struct sd_rename_event event = {
		.step = p->step, .rule = SD_NO_RULE, .text = text, .from = from, .to = to, .holes = ""};

	if (p->rename->event)
		p->rename->event(p->rename->user, &event);
}

/* Notes what was asked for and has found nothing. */
static enum sd_result tell_unused(struct sd_planner *p, const char *option, const char *text)
{
	const char *line = sd_arena_printf(&p->out->arena, "%s '%s' matches no tensor's name", option, text);

	return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
}

static enum sd_result edit_names_by(struct sd_planner *p, const struct sd_edit *edit)
{
	bool used = false;

	for (size_t i = 0; i < p->ntensors; i++) {
		struct sd_planner_tensor *t = &p->tensors[i];
		const char *name;

		if (sd_edit_apply(edit, t->name, &p->out->arena, &name, p->err) != SD_OK)
			return p->err->result;
		if (!*name && name != t->name)
			return sd_fail(p->err, SD_INPUT, "-e '%s' leaves nothing of the name %s", sd_edit_text(edit),
				       t->name);
		if (name != t->name)
			tell(p, sd_edit_text(edit), t->name, name);
		used = used || name != t->name;
		t->name = name;
	}
	return used || !p->ntensors ? SD_OK : tell_unused(p, "-e", sd_edit_text(edit));
}

static enum sd_result edit_names(struct sd_planner *p)
{
	enum sd_result result = SD_OK;

	for (size_t e = 0; e < p->rename->nedits && result == SD_OK; e++) {
		result = sd_planner_bear(p, edit_names_by(p, p->rename->edits[e]));
		p->step++;
	}
	return result;
}

static enum sd_result exclude(struct sd_planner *p)
{
	size_t kept = 0, n = p->ntensors;

	for (size_t i = 0; i < p->ntensors; i++) {
		bool found = false;

		if (p->rename->exclude &&
		    sd_regex_list_search(p->rename->exclude, p->tensors[i].name, &found, p->err) != SD_OK)
			return p->err->result;
		if (found)
			tell(p, "--exclude", p->tensors[i].name, NULL);
		else
			p->tensors[kept++] = p->tensors[i];
	}
	p->ntensors = kept;
	if (p->rename->exclude && p->rename->exclude->count && n && kept == n)
		return sd_planner_tell(p, "--exclude matches no tensor's name");
	if (n && !kept)
		return sd_planner_tell(p, "--exclude leaves out all tensors: what comes out is empty");
	return SD_OK;
}

static enum sd_result check_names(struct sd_planner *p)
{
	struct sd_names names = {0};
	enum sd_result result = sd_names_reserve(&names, p->ntensors) ? SD_OK : sd_fail_memory(p->err);

	for (size_t i = 0; i < p->ntensors && result == SD_OK; i++) {
		uint32_t number = sd_names_add(&names, p->tensors[i].name, (uint32_t)i);

		if (number == SD_NO_NAME)
			result = sd_fail_memory(p->err);
		else if (number != i)
			result = sd_fail(p->err, SD_INPUT, "both %s and %s become %s",
					 sd_planner_source(p, &p->tensors[number]),
					 sd_planner_source(p, &p->tensors[i]), p->tensors[i].name);
	}
	sd_names_free(&names);
	return result;
}

/* What is missing may be so in tensors of experts alone, of which a rank needs only its own. */
static enum sd_result check_missing(struct sd_planner *p)
{
	const struct sd_record *records = p->in->records;
	size_t first = p->in->nrecords - p->nmissing, left = 0;
	uint32_t bit = p->nmissing ? sd_manifest_label(p->out, SD_LABEL_EXPERT) : 0;

	for (size_t i = 0; i < p->ntensors && p->nmissing; i++)
		for (uint32_t k = p->tensors[i].first; k != NONE; k = p->pieces[k].next) {
			if (p->pieces[k].record < first)
				continue;
			if (!(p->tensors[i].labels & bit))
				return sd_fail(p->err, SD_INPUT, "%s", records[p->pieces[k].record].lack);
			left++;
		}
	/* Also where a name was left out: whether it may be is for a stage to say that knows what a rank needs. */
	return left < p->nmissing ? sd_fail(p->err, SD_INPUT, "%s", records[first].lack) : SD_OK;
}

/* The outgoing targets, in the order of their records. */
static enum sd_result write_targets(struct sd_planner *p)
{
	size_t nrecords = p->in->nrecords;
	uint32_t *head = malloc((nrecords + 1) * sizeof(*head)), *next = malloc((p->npieces + 1) * sizeof(*next)),
		 *tensor = malloc((p->npieces + 1) * sizeof(*tensor));
	enum sd_result result = head && next && tensor ? SD_OK : sd_fail_memory(p->err);

	for (size_t r = 0; r < nrecords && result == SD_OK; r++)
		head[r] = NONE;
	for (size_t i = p->ntensors; i-- > 0 && result == SD_OK;)
		for (uint32_t k = p->tensors[i].first; k != NONE; k = p->pieces[k].next) {
			tensor[k] = (uint32_t)i;
			next[k] = head[p->pieces[k].record];
			head[p->pieces[k].record] = k;
		}
	for (size_t r = 0; r < nrecords && result == SD_OK; r++)
		for (uint32_t k = head[r]; k != NONE; k = next[k]) {
			const struct sd_planner_tensor *t = &p->tensors[tensor[k]];
			const struct sd_planner_piece *piece = &p->pieces[k];
			struct sd_target target = {.record = piece->record};

			if (piece->target != NONE)
				target = p->in->targets[piece->target];
			target.name = t->name;
			target.shape = t->shape;
			target.rank = t->rank;
			target.dtype = t->dtype;
			target.labels = t->labels;
			target.number = t->number;
			target.of = t->of;
			target.move = piece->move;
			target.steps = piece->steps;
			target.nsteps = piece->nsteps;
			if (!sd_manifest_add_target(p->out, &target)) {
				result = sd_fail_memory(p->err);
				break;
			}
		}
	free(head);
	free(next);
	free(tensor);
	return result;
}

enum sd_result sd_rename_plan(struct sd_rename *rename, const struct sd_manifest *in, struct sd_plan *plan,
			      struct sd_error *err)
{
	struct sd_error own;
	struct sd_planner p = {.map = rename->map, .rename = rename, .in = in, .err = err ? err : &own};
	enum sd_result result = SD_OK;

	*plan = (struct sd_plan){.manifest = sd_manifest_new()};
	p.out = plan->manifest;
	if (!p.out || !sd_manifest_copy_head(p.out, in))
		result = sd_fail_memory(p.err);
	if (result == SD_OK && rename->map && rename->to < 0)
		result = sd_rename_direction(rename, in, p.err);
	p.from = rename->to == LEFT ? RIGHT : LEFT;
	p.asked = rename->why ? rename->asked : NULL;
	if (result == SD_OK)
		result = sd_companions_find(in, &p.companions, p.err);
	if (result == SD_OK)
		result = sd_planner_read(&p);
	if (result == SD_OK && rename->map)
		result = run_map(&p);
	if (result == SD_OK)
		result = edit_names(&p);
	if (result == SD_OK)
		result = sd_planner_bear(&p, exclude(&p));
	if (result == SD_OK)
		result = write_notes(&p);
	if (result == SD_OK)
		result = sd_planner_bear(&p, check_missing(&p));
	if (result == SD_OK)
		result = sd_planner_bear(&p, check_names(&p));
	if (result == SD_OK && rename->map && !rename->keep_config)
		result = sd_planner_bear(&p, sd_planner_adapter(&p));
	if (result == SD_OK && rename->map && !rename->keep_config)
		result = sd_planner_bear(&p, sd_planner_config(&p));
	if (result == SD_OK)
		result = write_targets(&p);
	if (result == SD_OK)
		result = sd_plan_records(plan, p.in, p.err);
	if (result == SD_OK)
		result = sd_parts_keep(plan->manifest, in, p.err);
	if (result == SD_OK)
		result = sd_planner_bear(&p, sd_companions_check(p.in, p.nmissing ? NULL : &p.companions,
								 plan->manifest, plan->becomes, p.err));
	plan->equal = p.equal;
	plan->nequal = p.nequal;
	if (result != SD_OK)
		sd_plan_free(plan);
	else if (p.borne)
		result = (*p.err = p.first).result;
	sd_planner_free(&p);
	return result;
}
