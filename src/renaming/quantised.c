/* SPDX-License-Identifier: Apache-2.0 */
/* Quantised weights behind a map: what it dequantises takes the scales of activations along, and what it cannot read is
 * told. */
#include "renaming/quantised.h"
#include "renaming/follow.h"
#include "model/dequant.h"
#include "base/text.h"
#include "model/config_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- in front of the map ---- */

/* Whether a rule multiplies the weight with this companion, its only one. */
static bool reads(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *weight,
		  const char *companion)
{
	const struct sd_map_side *side = &rule->side[LEFT];
	struct sd_map_values values;
	char *name;
	bool same;

	if (!side->scale || (side->dtype && side->dtype != weight->dtype) ||
	    !sd_pattern_may_match(&side->key, &weight->print) ||
	    !sd_pattern_match(&side->key, &rule->holes, p->texts, weight->name, strlen(weight->name), &p->scratch,
			      &values))
		return false;
	name = sd_pattern_fill(&side->scale->key, &rule->holes, p->texts, &values, &p->out->arena);
	same = name && strcmp(name, companion) == 0;
	if (name)
		sd_arena_undo(&p->out->arena, name);
	return same;
}

static bool map_reads(struct sd_planner *p, const struct sd_planner_tensor *weight, uint32_t record)
{
	const struct sd_companions *c = &p->companions;
	uint32_t own = SD_NO_RECORD;

	for (uint32_t i = c->first[record]; i != SD_NO_RECORD; i = c->next[i]) {
		if (c->role[i] != SD_ROLE_BLOCK_SCALE && c->role[i] != SD_ROLE_FACTOR)
			continue;
		if (own != SD_NO_RECORD)
			return false;
		own = i;
	}
	for (uint32_t s = 0; s < p->map->nstages && own != SD_NO_RECORD; s++)
		for (uint32_t r = 0; r < p->map->stages[s].nrules; r++)
			if (reads(p, &p->map->stages[s].rules[r], weight, p->in->records[own].key))
				return true;
	return false;
}

/* The record that is all of a tensor, as it came; SD_NO_RECORD where it is not so. */
static uint32_t record_of(const struct sd_planner *p, const struct sd_planner_tensor *t)
{
	const struct sd_planner_piece *piece = t->first == NONE ? NULL : &p->pieces[t->first];

	return piece && piece->next == NONE && piece->target != NONE &&
			       sd_target_is_record(p->in, &p->in->targets[piece->target])
		       ? piece->record
		       : SD_NO_RECORD;
}

/* Makes numbers of a weight, if it is one that the map does not read. */
static enum sd_result open_weight(struct sd_planner *p, const struct sd_quant_said *said, enum sd_dtype dtype,
				  struct sd_planner_tensor *t, bool *spent)
{
	const struct sd_companions *c = &p->companions;
	uint32_t record = record_of(p, t);
	struct sd_dequantised becomes;
	struct sd_planner_piece *piece;

	if (record == SD_NO_RECORD || sd_companion_of(c, record) == SD_NO_RECORD ||
	    !sd_dtype_is_codes((enum sd_dtype)t->dtype) || map_reads(p, t, record))
		return SD_OK;
	/* What cannot be read is told of, if the map would part it from its companions. */
	if (sd_dequantise(p->in, c, said, record, t->name, dtype, &p->out->arena, &becomes, NULL) != SD_OK ||
	    becomes.packs_input)
		return SD_OK;
	piece = &p->pieces[t->first];
	piece->steps = becomes.steps;
	piece->nsteps = becomes.nsteps;
	t->shape = becomes.shape;
	t->rank = becomes.rank;
	t->dtype = (uint8_t)dtype;
	if (p->rename->event)
		p->rename->event(p->rename->user,
				 &(struct sd_rename_event){.step = p->step,
							   .rule = SD_NO_RULE,
							   .text = "it is stored quantised: dequantised before the map",
							   .from = t->name,
							   .to = becomes.name,
							   .holes = ""});
	if (p->asked && strcmp(p->asked, t->name) == 0)
		p->asked = becomes.name;
	sd_planner_name(t, becomes.name);
	for (uint32_t i = c->first[record]; i != SD_NO_RECORD; i = c->next[i])
		spent[i] = true;
	return SD_OK;
}

/* A companion goes along with its weight. */
static void tell_spent(struct sd_planner *p, const struct sd_planner_tensor *t)
{
	uint32_t weight = p->companions.weight[p->pieces[t->first].record];

	if (p->rename->event)
		p->rename->event(p->rename->user, &(struct sd_rename_event){.step = p->step,
									    .rule = SD_NO_RULE,
									    .joins = true,
									    .text = "it goes into its weight",
									    .from = t->name,
									    .to = p->in->records[weight].key,
									    .holes = ""});
}

static enum sd_dtype wanted_dtype(const struct sd_planner *p)
{
	return p->dtype == SD_F16 || p->dtype == SD_F32 || p->dtype == SD_F64 ? (enum sd_dtype)p->dtype : SD_BF16;
}

enum sd_result sd_planner_open(struct sd_planner *p)
{
	struct sd_quant_said said;
	enum sd_result result;
	size_t kept = 0;
	bool *spent;

	if (!p->companions.role || strcmp(p->map->layout[RIGHT], "nemo") != 0)
		return SD_OK;
	spent = calloc(p->in->nrecords + 1, sizeof(*spent));
	result = spent ? sd_quant_read(p->in, &p->out->arena, &said, p->err) : sd_fail_memory(p->err);
	for (size_t i = 0; i < p->ntensors && result == SD_OK; i++)
		result = open_weight(p, &said, wanted_dtype(p), &p->tensors[i], spent);
	for (size_t i = 0; i < p->ntensors && result == SD_OK; i++) {
		const struct sd_planner_tensor *t = &p->tensors[i];

		if (t->first == NONE || !spent[p->pieces[t->first].record])
			p->tensors[kept++] = *t;
		else
			tell_spent(p, t);
	}
	if (result == SD_OK) {
		p->step += kept < p->ntensors;
		p->changes = p->changes || kept < p->ntensors;
		p->ntensors = kept;
	}
	free(spent);
	return result;
}

/* ---- behind it ---- */

/* What has become of the records. */
struct quantised {
	struct sd_planner *p;
	const char **name; /* by record: of the last tensor that it is in, or NULL */
	bool *dequantised; /* by record: of a weight, in all tensors that it is in */
	bool *changed;     /* by record: more than renamed */
};

static bool is_changed(const struct sd_planner *p, const struct sd_planner_tensor *t,
		       const struct sd_planner_piece *piece)
{
	const struct sd_target *was = piece->target == NONE ? NULL : &p->in->targets[piece->target];

	return !was || piece->move != was->move || piece->nsteps != was->nsteps ||
	       !sd_shape_equal(t->shape, t->rank, was->shape, was->rank);
}

static bool look(struct quantised *q)
{
	struct sd_planner *p = q->p;
	size_t n = p->in->nrecords + 1;

	q->name = calloc(n, sizeof(*q->name));
	q->dequantised = malloc(n * sizeof(*q->dequantised));
	q->changed = calloc(n, sizeof(*q->changed));
	if (!q->name || !q->dequantised || !q->changed)
		return false;
	memset(q->dequantised, true, n * sizeof(*q->dequantised));
	for (size_t i = 0; i < p->ntensors; i++)
		for (uint32_t k = p->tensors[i].first; k != NONE; k = p->pieces[k].next) {
			const struct sd_planner_piece *piece = &p->pieces[k];
			struct sd_target target = {.steps = piece->steps, .nsteps = piece->nsteps};

			q->changed[piece->record] = q->name[piece->record] || is_changed(p, &p->tensors[i], piece);
			q->name[piece->record] = p->tensors[i].name;
			q->dequantised[piece->record] = q->dequantised[piece->record] &&
							sd_is_dequantised(&p->companions, &target, piece->record);
		}
	return true;
}

static bool is_dequantised(const struct quantised *q, uint32_t record)
{
	return q->name[record] && q->dequantised[record];
}

/* Leaves out what says how activations are scaled for weights that are codes no more. */
static void drop_activations(const struct quantised *q)
{
	struct sd_planner *p = q->p;
	size_t kept = 0;

	for (size_t i = 0; i < p->ntensors; i++) {
		const struct sd_planner_tensor *t = &p->tensors[i];
		uint32_t record = t->first == NONE ? SD_NO_RECORD : p->pieces[t->first].record, weight = SD_NO_RECORD;

		if (record < p->companions.n && p->companions.role[record] == SD_ROLE_ACTIVATION)
			weight = p->companions.weight[record];
		if (weight == SD_NO_RECORD || !is_dequantised(q, weight))
			p->tensors[kept++] = *t;
		else if (p->rename->event)
			p->rename->event(p->rename->user, &(struct sd_rename_event){.text = "its weight is dequantised",
										    .from = t->name,
										    .holes = ""});
	}
	p->ntensors = kept;
}

/* The name that a weight would have if it were not packed: M.weight of M.qweight, X of X_blocks. */
static char *plain_name(struct sd_planner *p, const char *name)
{
	struct sd_name_role role = sd_name_role(name);
	size_t length = strlen(name);

	if (role.role == SD_ROLE_CODES && name[role.stem] == '.')
		return sd_arena_printf(&p->out->arena, "%.*s.weight", (int)role.stem, name);
	if (role.role == SD_ROLE_CODES)
		length = (size_t)(strrchr(name, '_') - name);
	return sd_arena_text(&p->out->arena, name, length);
}

/* Weights that are stored in a form which the map has no rule for, though it has one for the weight. */
static enum sd_result check_forms(const struct quantised *q)
{
	struct sd_planner *p = q->p;

	for (size_t i = 0; i < p->in->ntargets; i++) {
		uint32_t record = p->in->targets[i].record;
		uint32_t companion = sd_companion_of(&p->companions, record);
		const char *name = p->in->targets[i].name, *became = q->name[record];
		char *plain, problem[512];
		struct sd_followed end;

		if (!became || q->changed[record] ||
		    (companion == SD_NO_RECORD && sd_name_role(name).role != SD_ROLE_CODES))
			continue;
		plain = plain_name(p, name);
		if (!plain)
			return sd_fail_memory(p->err);
		end = sd_follow(p, plain);
		if (!end.moved && !end.name)
			return sd_fail_memory(p->err);
		if (!end.moved && (end.dropped || sd_names_belong(end.name, became)))
			continue;
		snprintf(problem, sizeof(problem), "map %s changes %.400s, and has no rule for it in this form",
			 p->map->name, plain);
		return sd_companions_fail(p->in, &p->companions, record, companion, problem, p->err);
	}
	return SD_OK;
}

/* Whether a rule of the map has said something of a key already. */
static bool is_noted(const struct sd_planner *p, const char *key)
{
	for (size_t i = 0; i < p->nnotes; i++)
		if (p->notes[i].rule && strcmp(p->notes[i].key, key) == 0)
			return true;
	return false;
}

/* Scales of no weight that is here. */
static enum sd_result tell_orphans(const struct quantised *q)
{
	struct sd_planner *p = q->p;
	const struct sd_companions *c = &p->companions;
	const char *first = NULL, *line, *out = "";
	size_t n = 0;

	for (size_t i = 0; i < c->n; i++) {
		if ((c->role[i] != SD_ROLE_BLOCK_SCALE && c->role[i] != SD_ROLE_FACTOR) || c->weight[i] != SD_NO_RECORD)
			continue;
		if (is_noted(p, p->in->records[i].key))
			continue;
		first = first ? first : p->in->records[i].key;
		out = q->name[i] ? out : ", and are left out";
		n++;
	}
	if (!n)
		return SD_OK;
	line = n > 1 ? sd_arena_printf(&p->out->arena, "%s and %zu more: scales of weights that are not here%s", first,
				       n - 1, out)
		     : sd_arena_printf(&p->out->arena, "%s: scales of a weight that is not here%s", first, out);
	return line ? sd_planner_tell(p, line) : sd_fail_memory(p->err);
}

/* A number, the first one; 0 is none. */
static void take_number(void *user, const char *value)
{
	uint64_t *number = user, found;

	if (!*number && sd_text_number(value, &found))
		*number = found;
}

/* What config.json says of quantised weights; 0: nothing. */
struct said {
	uint64_t bits, block[2];
};

static struct said read_config(const struct sd_planner *p)
{
	static const char *const bits_at[] = {"quantization_config.config_groups.group_0.weights.num_bits",
					      "text_config.quantization_config.config_groups.group_0.weights.num_bits"};
	const struct sd_side_file *config = sd_manifest_side(p->in, "config.json");
	struct said said = {.bits = 0};

	for (size_t i = 0; config && i < 2; i++)
		sd_config_find(config, bits_at[i], take_number, &said.bits);
	if (!sd_config_blocks(p->in, said.block))
		said.block[0] = said.block[1] = 0;
	return said;
}

/* Whether a step multiplies with scales of other blocks than these; with one scale for all it does not. */
static bool has_other_blocks(const struct sd_step *step, const uint64_t block[2])
{
	if (step->kind != SD_STEP_BLOCK_SCALE || step->rank < 2 || !block[0])
		return false;
	for (uint32_t k = 0; k < 2; k++) {
		const struct sd_block *b = &step->blocks[step->rank - 2 + k];

		if (b->stride && b->block != block[k])
			return true;
	}
	return false;
}

/* Whether a weight is read as config.json says that it is stored. */
static enum sd_result check_reading(struct sd_planner *p, const struct sd_planner_piece *piece, uint32_t companion,
				    const struct said *said)
{
	bool blocks = p->companions.role[companion] == SD_ROLE_BLOCK_SCALE;
	char problem[128];

	for (uint32_t k = 0; k < piece->nsteps; k++) {
		const struct sd_step *step = &piece->steps[k];

		if (step->kind == SD_STEP_UNPACK && step->param == SD_UNPACK_INT4 && said->bits && said->bits != 4)
			snprintf(problem, sizeof(problem), "the map reads 4 bits, and config.json says %" PRIu64,
				 said->bits);
		else if (blocks && has_other_blocks(step, said->block))
			snprintf(problem, sizeof(problem),
				 "the map reads other blocks than the %" PRIu64 " x %" PRIu64 " of config.json",
				 said->block[0], said->block[1]);
		else
			continue;
		return sd_companions_fail(p->in, &p->companions, piece->record, companion, problem, p->err);
	}
	return SD_OK;
}

/* Of weights that are dequantised: whether they are read as they are stored. Where they are no codes, that is told. */
static enum sd_result check_readings(const struct quantised *q)
{
	struct sd_planner *p = q->p;
	const struct said said = read_config(p);
	const char *first = NULL;
	size_t plain = 0;

	for (size_t i = 0; i < p->ntensors; i++)
		for (uint32_t k = p->tensors[i].first; k != NONE; k = p->pieces[k].next) {
			uint32_t record = p->pieces[k].record, companion = sd_companion_of(&p->companions, record);

			if (companion == SD_NO_RECORD || !is_dequantised(q, record))
				continue;
			if (check_reading(p, &p->pieces[k], companion, &said) != SD_OK)
				return p->err->result;
			if (!sd_dtype_is_codes(p->in->records[record].dtype))
				first = plain++ ? first : p->in->records[record].key;
		}
	if (!plain)
		return SD_OK;
	first = sd_arena_printf(&p->out->arena,
				plain > 1 ? "%s and %zu more: no codes, and multiplied with their scales all the same"
					  : "%s: no codes, and multiplied with its scale all the same",
				first, plain - 1);
	return first ? sd_planner_tell(p, first) : sd_fail_memory(p->err);
}

enum sd_result sd_planner_quantised(struct sd_planner *p)
{
	struct quantised q = {.p = p};
	enum sd_result result = SD_OK;

	if (p->companions.role) {
		result = look(&q) ? tell_orphans(&q) : sd_fail_memory(p->err);
		if (result == SD_OK)
			result = check_readings(&q);
		if (result == SD_OK)
			drop_activations(&q);
		if (result == SD_OK)
			result = check_forms(&q);
	}
	free(q.name);
	free(q.dequantised);
	free(q.changed);
	return result;
}
