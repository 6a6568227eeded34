/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that a map takes for copies of others, and drops: they have to be equal, or something is lost. */
#include "renaming/planner.h"

static bool same_move(const struct sd_move *a, const struct sd_move *b)
{
	if (!a || !b)
		return a == b;
	if (a->from != b->from || a->to != b->to || a->rank != b->rank)
		return false;
	for (uint32_t d = 0; d < a->rank; d++)
		if (a->dim[d].size != b->dim[d].size || a->dim[d].from != b->dim[d].from ||
		    a->dim[d].to != b->dim[d].to)
			return false;
	return true;
}

static bool same_steps(const struct sd_planner_piece *a, const struct sd_planner_piece *b)
{
	if (a->nsteps != b->nsteps)
		return false;
	for (uint32_t i = 0; i < a->nsteps; i++)
		if (a->steps[i].kind != SD_STEP_CAST || b->steps[i].kind != SD_STEP_CAST ||
		    a->steps[i].dtype != b->steps[i].dtype)
			return false;
	return true;
}

static enum sd_result fail_pending(struct sd_planner *p, const struct sd_rule *rule,
				   const struct sd_planner_tensor *kept, const struct sd_planner_tensor *copy)
{
	return sd_fail(p->err, SD_INPUT,
		       "%s and %s have to be equal, and have pending steps: put sd-transpose in front, or say "
		       "--drop-unequal (%s:%u)",
		       kept->name, copy->name, rule->file, rule->line);
}

/* That two pieces have to be equal. *told: whether their records tell it, for what becomes of these is the same. */
static enum sd_result hold_pieces(struct sd_planner *p, const struct sd_planner_piece *kept,
				  const struct sd_planner_piece *copy, const char *why, bool *told)
{
	*told = same_move(kept->move, copy->move) && same_steps(kept, copy) &&
		p->in->records[kept->record].dtype == p->in->records[copy->record].dtype;
	if (!*told || kept->record == copy->record)
		return SD_OK;
	if (!sd_array_grow(&p->equal, p->nequal, &p->equal_room, sizeof(*p->equal)))
		return sd_fail_memory(p->err);
	p->equal[p->nequal++] = (struct sd_equal){{kept->record, copy->record}, why};
	return SD_OK;
}

enum sd_result sd_planner_equal(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *kept,
				const struct sd_planner_tensor *copy)
{
	uint32_t one = kept->first, other = copy->first;
	const char *why;
	bool told;

	if (p->rename->drop_unequal)
		return SD_OK;
	why = sd_arena_printf(&p->out->arena,
			      "%s and %s differ, and would become one tensor, without what is in the second: "
			      "--drop-unequal does that (%s:%u)",
			      kept->name, copy->name, rule->file, rule->line);
	if (!why)
		return sd_fail_memory(p->err);
	if (kept->dtype != copy->dtype || !sd_shape_equal(kept->shape, kept->rank, copy->shape, copy->rank))
		return sd_fail(p->err, SD_INPUT, "%s", why);
	for (; one != NONE && other != NONE; one = p->pieces[one].next, other = p->pieces[other].next)
		if (hold_pieces(p, &p->pieces[one], &p->pieces[other], why, &told) != SD_OK)
			return p->err->result;
		else if (!told)
			return fail_pending(p, rule, kept, copy);
	return one == other ? SD_OK : fail_pending(p, rule, kept, copy);
}
