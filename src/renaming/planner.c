/* SPDX-License-Identifier: Apache-2.0 */
/* A plan while it is being made: tensors, pieces, steps and notes are added to it. */
#include "renaming/planner.h"

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

void sd_planner_advise(struct sd_planner *p, const char *edit)
{
	if (edit && strlen(edit) < sizeof(p->rename->advised))
		strcpy(p->rename->advised, edit);
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

bool sd_planner_castable(uint8_t dtype)
{
	return sd_dtype_is_float(dtype) && dtype != SD_F8_E8M0;
}

uint32_t sd_planner_other(struct sd_planner *p, const struct sd_pattern *key, const struct sd_map_holes *holes,
			  const struct sd_map_values *values)
{
	char *name = sd_pattern_fill(key, holes, p->texts, values, &p->out->arena);
	uint32_t number;

	if (!p->named && !sd_names_reserve(&p->names, p->nbefore))
		p->scratch.size = SIZE_MAX;
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

void sd_planner_free(struct sd_planner *p)
{
	free(p->with_missing.records);
	free(p->tensors);
	free(p->pieces);
	sd_findings_free(&p->findings);
	free(p->notes);
	sd_companions_free(&p->companions);
	sd_names_free(&p->names);
	sd_scratch_free(&p->scratch);
}

enum sd_result sd_planner_read(struct sd_planner *p)
{
	struct sd_names names = {0};
	enum sd_result result = sd_names_reserve(&names, p->in->ntargets) ? SD_OK : sd_fail_memory(p->err);

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
