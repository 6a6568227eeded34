/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of sd-rename: the manifest's tensors through the stages of a map, then edits, exclusion, and a manifest
 * again. */
#include "renaming/rename.h"
#include "renaming/experts.h"
#include "renaming/known.h"
#include "renaming/planner.h"
#include "renaming/quantised.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sd_planner_source(const struct sd_planner *p, const struct sd_planner_tensor *t)
{
	return t->first == NONE ? t->name : p->in->records[p->pieces[t->first].record].key;
}

enum sd_result sd_planner_bear(struct sd_planner *p, enum sd_result result)
{
	if (result != SD_INPUT || !p->rename->go_on)
		return result;
	if (!p->borne)
		p->first = *p->err;
	p->borne = true;
	return SD_OK;
}

void sd_planner_name(struct sd_planner_tensor *t, const char *name)
{
	t->name = name;
	t->print = sd_pattern_print(name, strlen(name));
}

enum sd_result sd_planner_tell(struct sd_planner *p, const char *line)
{
	if (p->rename->strict)
		return sd_fail(p->err, SD_INPUT, "%s", line);
	if (!sd_array_grow(&p->notes, p->nnotes, &p->notes_room, sizeof(*p->notes)))
		return sd_fail_memory(p->err);
	p->notes[p->nnotes++] = (struct sd_planner_note){.text = line};
	return SD_OK;
}

enum sd_result sd_planner_note(struct sd_planner *p, const struct sd_rule *rule, const char *text,
			       const struct sd_planner_tensor *t)
{
	for (size_t i = 0; i < p->nnotes; i++)
		if (p->notes[i].rule == rule && p->notes[i].text == text) {
			p->notes[i].taken++;
			return SD_OK;
		}
	if (!sd_array_grow(&p->notes, p->nnotes, &p->notes_room, sizeof(*p->notes)))
		return sd_fail_memory(p->err);
	p->notes[p->nnotes++] = (struct sd_planner_note){rule, text, sd_planner_source(p, t), 1};
	return SD_OK;
}

enum sd_result sd_planner_add(struct sd_planner *p, const struct sd_planner_tensor *t)
{
	if (p->ntensors == NONE || !sd_array_grow(&p->tensors, p->ntensors, &p->tensors_room, sizeof(*p->tensors)))
		return sd_fail_memory(p->err);
	p->tensors[p->ntensors++] = *t;
	return SD_OK;
}

enum sd_result sd_planner_add_piece(struct sd_planner *p, struct sd_planner_tensor *t,
				    const struct sd_planner_piece *piece)
{
	if (p->npieces == NONE || !sd_array_grow(&p->pieces, p->npieces, &p->pieces_room, sizeof(*p->pieces)))
		return sd_fail_memory(p->err);
	p->pieces[p->npieces] = *piece;
	p->pieces[p->npieces].next = NONE;
	if (t->first == NONE)
		t->first = (uint32_t)p->npieces;
	else
		p->pieces[t->last].next = (uint32_t)p->npieces;
	t->last = (uint32_t)p->npieces++;
	return SD_OK;
}

enum sd_result sd_planner_missing(struct sd_planner *p, const struct sd_record *record, uint32_t *number)
{
	struct sd_manifest *more = &p->with_missing;

	if (p->in != more) {
		more->records = calloc(p->in->nrecords + 1, sizeof(*more->records));
		if (!more->records)
			return sd_fail_memory(p->err);
		memcpy(more->records, p->in->records, p->in->nrecords * sizeof(*more->records));
		more->nrecords = p->in->nrecords;
		more->records_room = p->in->nrecords + 1;
		more->targets = p->in->targets;
		more->ntargets = p->in->ntargets;
		more->side = p->in->side;
		more->nside = p->in->nside;
		p->in = more;
	}
	*number = (uint32_t)more->nrecords;
	p->nmissing++;
	return sd_manifest_add_record(more, record) ? SD_OK : sd_fail_memory(p->err);
}

enum sd_result sd_planner_step(struct sd_planner *p, struct sd_planner_piece *piece, const struct sd_step *step)
{
	struct sd_step *steps = sd_arena_array(&p->out->arena, (size_t)piece->nsteps + 1, sizeof(*steps));

	if (!steps)
		return sd_fail_memory(p->err);
	if (piece->nsteps)
		memcpy(steps, piece->steps, piece->nsteps * sizeof(*steps));
	steps[piece->nsteps++] = *step;
	piece->steps = steps;
	return SD_OK;
}

enum sd_result sd_planner_cast(struct sd_planner *p, struct sd_planner_piece *piece, enum sd_dtype dtype)
{
	struct sd_step step = {.kind = SD_STEP_CAST, .operand = SD_NO_RECORD};

	/* The product of a block scale is an F32 number, rounded once: to give it to F32 and cast that is one and the
	 * same. */
	if (piece->nsteps) {
		const struct sd_step *last = &piece->steps[piece->nsteps - 1];

		if (last->kind == SD_STEP_BLOCK_SCALE && last->dtype == SD_F32) {
			step = *last;
			piece->nsteps--;
		}
	}
	step.dtype = (uint16_t)dtype;
	return sd_planner_step(p, piece, &step);
}

/* The manifest's targets as tensors: those of one name are the pieces of one. */
static enum sd_result read_manifest(struct sd_planner *p)
{
	struct sd_names names = {0};
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < p->in->ntargets && result == SD_OK; i++) {
		const struct sd_target *target = &p->in->targets[i];
		uint32_t number = sd_names_add(&names, target->name, (uint32_t)p->ntensors);
		struct sd_planner_piece piece = {.record = target->record,
						 .target = (uint32_t)i,
						 .nsteps = target->nsteps,
						 .steps = target->steps,
						 .move = target->move};

		if (number == SD_NO_NAME) {
			result = sd_fail_memory(p->err);
		} else if (number == p->ntensors) {
			struct sd_planner_tensor t = {.shape = target->shape,
						      .rank = target->rank,
						      .labels = target->labels,
						      .first = NONE,
						      .last = NONE,
						      .dtype = target->dtype,
						      .number = target->number,
						      .of = target->of};

			sd_planner_name(&t, target->name);
			result = sd_planner_add(p, &t);
		} else if (!target->move || !p->pieces[p->tensors[number].first].move) {
			result = sd_fail(p->err, SD_INPUT, "%s comes twice, from %s and %s", target->name,
					 sd_planner_source(p, &p->tensors[number]), p->in->records[target->record].key);
		}
		if (result == SD_OK)
			result = sd_planner_add_piece(p, &p->tensors[number], &piece);
	}
	sd_names_free(&names);
	return result;
}

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

bool sd_planner_castable(uint8_t dtype)
{
	return sd_dtype_is_float(dtype) && dtype != SD_F8_E8M0;
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
		else if (first[number]->shape[0] != t->shape[0])
			result = sd_fail(p->err, SD_INPUT, "%s has %" PRIu64 " experts, %s has %" PRIu64,
					 first[number]->name, first[number]->shape[0], t->name, t->shape[0]);
	}
	free(first);
	sd_names_free(&modules);
	return result;
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

uint32_t sd_planner_other(struct sd_planner *p, const struct sd_pattern *key, const struct sd_map_holes *holes,
			  const struct sd_map_values *values)
{
	char *name = sd_pattern_fill(key, holes, p->texts, values, &p->out->arena);
	uint32_t number;

	for (size_t i = 0; !p->named && i < p->nbefore; i++)
		if (sd_names_add(&p->names, p->before[i].name, (uint32_t)i) == SD_NO_NAME)
			p->scratch.size = SIZE_MAX;
	p->named = true;
	if (!name) {
		p->scratch.size = SIZE_MAX;
		return NONE;
	}
	number = sd_names_find(&p->names, name);
	sd_arena_undo(&p->out->arena, name);
	return number;
}

static enum sd_result tell_finding(void *user, const char *line)
{
	return sd_planner_tell(user, line);
}

/* What is odd about the names is worth a word: the rest converts as well without it. */
static enum sd_result tell_findings(struct sd_planner *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->findings.n; i++) {
		const struct sd_finding *f = &p->findings.at[i];
		bool expert = strstr(f->name, ".experts.");

		/* Of experts that are missing the plan tells more; -D dtype makes those alike that are of several. */
		if (!expert || (!p->nmissing && !(p->dtype && f->kind == SD_ODD_DTYPE)))
			p->findings.at[kept++] = *f;
	}
	p->findings.n = kept;
	return sd_findings_tell(&p->findings, &p->out->arena, tell_finding, p, p->err);
}

/* What config.json decided, and what the rules that were taken have to say: "KEY and 3 more: TEXT (FILE:LINE)". */
static enum sd_result write_notes(struct sd_planner *p)
{
	struct sd_rename *rename = p->rename;
	size_t n = 0;
	const uint32_t options = p->map ? p->map->noptions : 0;
	const char **texts = sd_arena_array(&p->out->arena, options + p->nnotes + 1, sizeof(*texts));

	if (!texts)
		return sd_fail_memory(p->err);
	for (uint32_t i = 0; i < options; i++) {
		const struct sd_map_option *option = &p->map->options[i];
		uint32_t value = OPEN;

		if (!option->from_config || option->idle || p->defined[i] != OPEN)
			continue;
		if (sd_planner_stamp(p, option, &value) != SD_OK)
			return p->err->result;
		if (value == OPEN)
			continue;
		texts[n++] = sd_arena_printf(&p->out->arena, "%s=%s, for config.json says %s %s", option->name,
					     option->values[value], option->stamp_field, option->stamps[value]);
		if (!texts[n - 1])
			return sd_fail_memory(p->err);
	}
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

static enum sd_result run_map(struct sd_planner *p)
{
	uint32_t n = p->map->nstages;
	enum sd_result result = SD_OK;

	if (!sd_manifest_label_bit(p->in, SD_LABEL_COMPARED))
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
	if (result == SD_OK && p->from == LEFT)
		result = put_labels(p);
	if (result == SD_OK)
		result = sd_planner_bear(p, check_mixed(p));
	if (result == SD_OK && p->from == LEFT)
		result = sd_planner_bear(p, check_experts(p));
	if (result == SD_OK && p->dtype)
		result = cast_labelled(p);
	if (result == SD_OK)
		result = sd_planner_bear(p, sd_planner_known(p));
	p->rename->idle = !p->changes;
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
	return SD_OK;
}

static enum sd_result check_names(struct sd_planner *p)
{
	struct sd_names names = {0};
	enum sd_result result = SD_OK;

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

/* Whether a rule both ways takes the tensor and gives it a name of the other layout alone. */
static bool is_renamed(struct sd_planner *p, const struct sd_planner_tensor *t)
{
	struct sd_map_values values;

	for (uint32_t s = 0; s < p->map->nstages; s++) {
		const struct sd_map_stage *stage = &p->map->stages[s];

		for (uint32_t r = 0; r < stage->nrules; r++) {
			const struct sd_rule *rule = &stage->rules[r];

			if (rule->direction == BOTH_WAYS && rule->outcome[p->from] == MOVE &&
			    !sd_rule_same_names(rule) && sd_planner_guards(p, rule) &&
			    sd_planner_fit(p, stage, rule, t, &values) == MATCH &&
			    !takes_again(p, stage, rule, t, &values))
				return true;
		}
	}
	return false;
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
			result = p->out ? read_manifest(p) : sd_fail_memory(err);
		if (result == SD_OK)
			result = sd_planner_options(p);
	}
	for (size_t i = 0; result == SD_OK && i < sides[LEFT].ntensors; i++) {
		const struct sd_planner_tensor *t = &sides[LEFT].tensors[i];
		bool left = is_renamed(&sides[LEFT], t), right = is_renamed(&sides[RIGHT], t);
		const char **key = &evidence->key[left ? LEFT : RIGHT];

		evidence->keys[LEFT] += left;
		evidence->keys[RIGHT] += right;
		if (left != right && !*key)
			*key = t->name;
	}
	for (int side = LEFT; side <= RIGHT; side++) {
		free(sides[side].tensors);
		free(sides[side].pieces);
		sd_scratch_free(&sides[side].scratch);
		sd_manifest_free(sides[side].out);
	}
	return result;
}

/* Where no key is of one layout alone, why there is no way to the right is worth more than that. */
static enum sd_result fail_direction(const struct sd_rename *rename, const struct sd_manifest *in, struct sd_error *err)
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
	if (result != SD_OK && in->ntargets) {
		*err = why;
		return result;
	}
	return sd_fail(err, SD_INPUT, "no key tells whether this is layout %s or %s%s%s%s: say --to %s or --to %s",
		       map->layout[LEFT], map->layout[RIGHT], in->ntargets ? " (" : "",
		       in->ntargets ? in->targets[0].name : "", in->ntargets ? ", for one, does not)" : "",
		       map->layout[LEFT], map->layout[RIGHT]);
}

static enum sd_result find_direction(struct sd_rename *rename, const struct sd_manifest *in, struct sd_error *err)
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
		result = find_direction(rename, in, p.err);
	p.from = rename->to == LEFT ? RIGHT : LEFT;
	p.asked = rename->why ? rename->asked : NULL;
	if (result == SD_OK)
		result = sd_companions_find(in, &p.companions, p.err);
	if (result == SD_OK)
		result = read_manifest(&p);
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
		result = sd_planner_bear(&p, sd_companions_check(p.in, p.nmissing ? NULL : &p.companions,
								 plan->manifest, plan->becomes, p.err));
	plan->equal = p.equal;
	plan->nequal = p.nequal;
	if (result != SD_OK)
		sd_plan_free(plan);
	else if (p.borne)
		result = (*p.err = p.first).result;
	free(p.with_missing.records);
	free(p.tensors);
	free(p.pieces);
	sd_findings_free(&p.findings);
	free(p.notes);
	sd_companions_free(&p.companions);
	sd_names_free(&p.names);
	sd_scratch_free(&p.scratch);
	return result;
}
