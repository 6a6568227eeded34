/* SPDX-License-Identifier: Apache-2.0 */
/* The words of --explain: tensors, steps, and the parts that sources fill. */
#include "tools/explanation.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void explain_tensor(FILE *out, const char *name, enum sd_dtype dtype, const uint64_t *shape, uint32_t rank)
{
	sd_text_print(out, name);
	fprintf(out, "\t%s\t", sd_dtype_name(dtype));
	sd_shape_print(out, shape, rank);
}

void explain_steps(FILE *out, const struct sd_target *t, enum sd_dtype dtype)
{
	const char *between = "";

	for (uint32_t i = 0; i < t->nsteps; i++) {
		if (t->steps[i].kind == SD_STEP_WITH)
			continue;
		fprintf(out, "%s%s:%s>%s", between, sd_step_word(t->steps[i].kind), sd_dtype_name(dtype),
			sd_dtype_name(t->steps[i].dtype));
		dtype = t->steps[i].dtype;
		between = ",";
	}
	if (sd_target_is_reordered(t))
		fprintf(out, "%sreorder", between);
	fputs(t->nsteps || sd_target_is_reordered(t) ? "" : "-", out);
}

const char *explain_key_of(const struct explanation *e, const struct row *row)
{
	return row->source == NONE ? row->record->key : e->in->targets[row->source].name;
}

static const struct sd_record *record_of(const struct explanation *e, const struct row *row)
{
	return row->source == NONE ? row->record : &e->in->records[e->in->targets[row->source].record];
}

struct came explain_what_came(const struct explanation *e, const struct row *row)
{
	const struct sd_target *t = row->source == NONE ? NULL : &e->in->targets[row->source];

	return t ? (struct came){t->name, t->dtype, t->shape, t->rank}
		 : (struct came){row->record->key, row->record->dtype, row->record->shape, row->record->rank};
}

void explain_write_steps(FILE *out, const struct explanation *e, const struct row *row)
{
	if (row->source == NONE)
		fputs("missing", out);
	else if (row->name == NONE)
		fputs("drop", out);
	else if (row->target)
		explain_steps(out, row->target, record_of(e, row)->dtype);
	else
		fputs(row->joins ? "operand" : "fails", out);
}

/* The box between a record and its tensor; false where its part of either is none. */
static bool box_of(const struct explanation *e, const struct row *row, struct sd_box *box)
{
	const struct sd_record *r = record_of(e, row);
	const struct sd_target *t = row->target;
	struct sd_move room;
	uint64_t count = 1;

	if (!t || r->rank > SD_RANK_MAX || t->rank > SD_RANK_MAX || sd_target_codes(e->plan->manifest, t) != 1 ||
	    (t->nsteps && t->steps[0].kind == SD_STEP_DECODE) ||
	    (row->source != NONE && e->in->targets[row->source].move))
		return false;
	if (!t->move && !sd_shape_count(r->shape, r->rank, &count))
		return false;
	if (!t->move && !count)
		return false;
	if (!t->move)
		room = sd_move_identity(count);
	return sd_box_of(t->move ? t->move : &room, r->shape, r->rank, t->shape, t->rank, box);
}

static void write_range(FILE *out, uint64_t from, uint64_t size, uint64_t whole)
{
	if (size == whole)
		fputc(':', out);
	else if (size == 1)
		fprintf(out, "%" PRIu64, from);
	else
		fprintf(out, "%" PRIu64 ":%" PRIu64, from, from + size);
}

/* Where in a key a number stands as a part of its own: which one of those it is, from 1 on; 0: nowhere. */
static unsigned number_in(const char *key, uint64_t number)
{
	unsigned found = 0, n = 0;

	for (const char *at = key; *at; at += strcspn(at, ".") + (at[strcspn(at, ".")] == '.')) {
		size_t length = strcspn(at, ".");
		uint64_t value = 0;
		char part[24];

		if (!length || length >= sizeof(part) || strspn(at, "0123456789") != length)
			continue;
		memcpy(part, at, length);
		part[length] = '\0';
		n++;
		if (sd_text_number(part, &value) && value == number)
			found = n;
	}
	return found;
}

/*
 * Writes a box of an array. name: one that may have the place along a dimension as a number of its own, which is N
 * then, and *numbered says which one of its numbers that is; NULL: numbers are written as such.
 */
static void write_box(FILE *out, const uint64_t *from, const uint64_t *size, const uint64_t *shape, uint32_t rank,
		      const char *name, unsigned *numbered)
{
	fputc('[', out);
	for (uint32_t d = 0; d < rank; d++) {
		unsigned at = name && !*numbered && size[d] == 1 && shape[d] > 1 ? number_in(name, from[d]) : 0;

		fputs(d ? "," : "", out);
		if (at)
			*numbered = at;
		if (at)
			fputc('N', out);
		else
			write_range(out, from[d], size[d], shape[d]);
	}
	fputc(']', out);
}

void explain_write_source_part(FILE *out, const struct explanation *e, const struct row *row)
{
	const struct sd_record *r = record_of(e, row);
	struct sd_box box;

	if (box_of(e, row, &box))
		write_box(out, box.from, box.size, r->shape, r->rank, NULL, NULL);
	else
		fputc('-', out);
}

/* The sizes of a box in the target. */
static void turn_sizes(const struct explanation *e, const struct row *row, const struct sd_box *box, uint64_t *size)
{
	for (uint32_t d = 0; d < row->target->rank; d++)
		size[d] = 1;
	for (uint32_t k = 0; k < record_of(e, row)->rank; k++)
		if (box->dim[k] != SD_NO_DIM)
			size[box->dim[k]] = box->size[k];
}

void explain_write_part(FILE *out, const struct explanation *e, const struct row *row)
{
	uint64_t size[SD_RANK_MAX];
	struct sd_box box;

	if (!box_of(e, row, &box)) {
		fputc('-', out);
		return;
	}
	turn_sizes(e, row, &box, size);
	write_box(out, box.to, size, row->target->shape, row->target->rank, NULL, NULL);
}

static bool is_whole(const uint64_t *size, const uint64_t *shape, uint32_t rank)
{
	return !rank || memcmp(size, shape, rank * sizeof(*size)) == 0;
}

void explain_write_parts(FILE *out, const struct explanation *e, const struct row *row, unsigned *numbered)
{
	const struct sd_record *r = record_of(e, row);
	uint64_t size[SD_RANK_MAX];
	struct sd_box box;

	if (!row->target || !box_of(e, row, &box))
		return;
	turn_sizes(e, row, &box, size);
	if (!is_whole(size, row->target->shape, row->target->rank))
		write_box(out, box.to, size, row->target->shape, row->target->rank, explain_key_of(e, row), numbered);
	if (is_whole(box.size, r->shape, r->rank))
		return;
	fputs(is_whole(size, row->target->shape, row->target->rank) ? "from " : " from ", out);
	write_box(out, box.from, box.size, r->shape, r->rank, row->target->name, numbered);
}

static void write_rule_place(FILE *out, const struct sd_map *map, const struct edge *edge)
{
	struct sd_map_rule rule;

	if (!map || !sd_map_rule(map, edge->rule, &rule)) {
		sd_text_print(out, edge->text ? edge->text : "-");
		return;
	}
	sd_text_print(out, rule.file);
	fprintf(out, ":%u", rule.line);
}

void explain_write_rules(FILE *out, const struct explanation *e, const struct row *row)
{
	for (uint32_t i = 0; i < row->length; i++) {
		fputs(i ? "," : "", out);
		write_rule_place(out, e->map, &e->edges[row->way[i]]);
	}
	fputs(row->length ? "" : "-", out);
}

const struct sd_target *explain_made_by(const struct explanation *e, const struct row *row)
{
	if (row->target || row->name == NONE || e->name[row->name].target == NONE)
		return row->target;
	return &e->plan->manifest->targets[e->name[row->name].target];
}
