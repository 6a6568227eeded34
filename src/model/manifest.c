/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: building it, and checking one that came from outside. */
#include "model/manifest.h"
#include "base/checked.h"
#include "base/names.h"
#include "base/text.h"
#include "move/convert.h"
#include "move/decode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct sd_manifest *sd_manifest_new(void)
{
	return calloc(1, sizeof(struct sd_manifest));
}

void sd_manifest_free(struct sd_manifest *m)
{
	if (!m)
		return;
	sd_arena_free(&m->arena);
	free(m->records);
	free(m->targets);
	free(m->metadata);
	free(m->side);
	free(m);
}

/* Appends *item to the array member NAME. */
#define APPEND(m, name, item)                                                                                          \
	((m)->n##name < UINT32_MAX &&                                                                                  \
	 sd_array_grow(&(m)->name, (m)->n##name, &(m)->name##_room, sizeof(*(m)->name)) &&                             \
	 ((m)->name[(m)->n##name++] = (item), true))

bool sd_manifest_add_record(struct sd_manifest *m, const struct sd_record *record)
{
	return APPEND(m, records, *record);
}

bool sd_manifest_add_target(struct sd_manifest *m, const struct sd_target *target)
{
	return APPEND(m, targets, *target);
}

bool sd_manifest_add_metadata(struct sd_manifest *m, const char *key, const char *value)
{
	struct sd_entry entry = {key, value};

	return APPEND(m, metadata, entry);
}

bool sd_manifest_add_side(struct sd_manifest *m, const struct sd_side_file *file)
{
	return APPEND(m, side, *file);
}

const char *sd_manifest_metadata(const struct sd_manifest *m, const char *key)
{
	for (size_t i = 0; i < m->nmetadata; i++)
		if (strcmp(m->metadata[i].key, key) == 0)
			return m->metadata[i].value;
	return NULL;
}

const struct sd_side_file *sd_manifest_side(const struct sd_manifest *m, const char *name)
{
	for (size_t i = 0; i < m->nside; i++)
		if (strcmp(m->side[i].name, name) == 0)
			return &m->side[i];
	return NULL;
}

bool sd_file_name_good(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length <= 255 && name[0] != '.' && name[0] != '-' && !strpbrk(name, "/\t") &&
	       !sd_text_harm(name, length);
}

enum sd_result sd_manifest_side_fits(const struct sd_manifest *m, uint64_t size, struct sd_error *err)
{
	uint64_t left = SD_SIDE_SUM_MAX;

	if (m->nside == SD_SIDE_FILES_MAX)
		return sd_fail(err, SD_INPUT, "more than %d side files", SD_SIDE_FILES_MAX);
	if (size > SD_SIDE_FILE_MAX)
		return sd_fail(err, SD_INPUT, "side files of more than %llu bytes", SD_SIDE_FILE_MAX);
	for (size_t i = 0; i < m->nside; i++)
		left -= m->side[i].size < left ? m->side[i].size : left;
	if (size > left)
		return sd_fail(err, SD_INPUT, "more than %llu bytes of side files", SD_SIDE_SUM_MAX);
	return SD_OK;
}

bool sd_manifest_copy_head(struct sd_manifest *to, const struct sd_manifest *from)
{
	for (size_t i = 0; i < from->nmetadata; i++)
		if (!sd_manifest_add_metadata(to, from->metadata[i].key, from->metadata[i].value))
			return false;
	for (size_t i = 0; i < from->nside; i++)
		if (!sd_manifest_add_side(to, &from->side[i]))
			return false;
	memcpy(to->labels, from->labels, sizeof(to->labels));
	to->nlabels = from->nlabels;
	to->extra = from->extra;
	to->parts = from->parts;
	return true;
}

bool sd_manifest_add_tensor(struct sd_manifest *m, const char *key, enum sd_dtype dtype, const uint64_t *shape,
			    uint32_t rank)
{
	struct sd_record record = {.rank = rank, .dtype = (uint8_t)dtype, .state = SD_HERE};
	struct sd_target target = {.rank = rank, .dtype = (uint8_t)dtype};
	uint64_t count;

	if (m->nrecords >= SD_NO_RECORD || !sd_shape_count(shape, rank, &count) ||
	    !sd_dtype_bytes(dtype, count, &record.bytes))
		return false;
	record.key = sd_arena_text(&m->arena, key, strlen(key));
	record.shape = sd_arena_copy(&m->arena, shape, rank * sizeof(*shape));
	target.name = record.key;
	target.shape = record.shape;
	target.record = (uint32_t)m->nrecords;
	return record.key && record.shape && sd_manifest_add_record(m, &record) && sd_manifest_add_target(m, &target);
}

uint32_t sd_manifest_label_bit(const struct sd_manifest *m, const char *label)
{
	for (uint32_t i = 0; i < m->nlabels; i++)
		if (strcmp(m->labels[i], label) == 0)
			return 1u << i;
	return 0;
}

uint32_t sd_manifest_label(struct sd_manifest *m, const char *label)
{
	uint32_t bit = sd_manifest_label_bit(m, label);
	char *copy;

	if (bit || m->nlabels == SD_LABELS_MAX)
		return bit;
	copy = sd_arena_text(&m->arena, label, strlen(label));
	if (!copy)
		return 0;
	m->labels[m->nlabels] = copy;
	return 1u << m->nlabels++;
}

uint64_t sd_target_codes(const struct sd_manifest *m, const struct sd_target *t)
{
	unsigned bits = sd_dtype_bits(m->records[t->record].dtype);

	return t->nsteps && t->steps[0].kind == SD_STEP_UNPACK && bits > 4 ? bits / 4 : 1;
}

static bool is_decoded(const struct sd_target *t)
{
	return t->nsteps && t->steps[0].kind == SD_STEP_DECODE;
}

const uint64_t *sd_target_decoded(const struct sd_manifest *m, const struct sd_target *t, uint64_t room[SD_RANK_MAX],
				  uint32_t *rank)
{
	const struct sd_record *r = &m->records[t->record];
	uint64_t codes = sd_target_codes(m, t);

	*rank = is_decoded(t) ? t->steps[0].rank : r->rank;
	if (!is_decoded(t) && codes == 1)
		return r->shape;
	for (uint32_t k = 0; k < *rank; k++)
		room[k] = is_decoded(t) ? t->steps[0].blocks[k].block : r->shape[k] * (k + 1 == *rank ? codes : 1);
	return room;
}

/* How many elements there are after the first step. */
static bool count_decoded(const struct sd_manifest *m, const struct sd_target *t, uint64_t *count)
{
	const struct sd_record *r = &m->records[t->record];
	uint64_t room[SD_RANK_MAX];
	uint32_t rank;

	if (is_decoded(t))
		return sd_shape_count(sd_target_decoded(m, t, room, &rank), t->steps[0].rank, count);
	return sd_shape_count(r->shape, r->rank, count) && sd_mul(*count, sd_target_codes(m, t), count);
}

const char *sd_step_word(uint32_t kind)
{
	static const char *const words[] = {
		[SD_STEP_CAST] = "cast", [SD_STEP_BLOCK_SCALE] = "dequant", [SD_STEP_UNPACK] = "unpack",
		[SD_STEP_FILL] = "fill", [SD_STEP_DECODE] = "dequant",      [SD_STEP_WITH] = "with"};

	return kind > 0 && kind < sizeof(words) / sizeof(*words) ? words[kind] : "unknown";
}

bool sd_target_is_record(const struct sd_manifest *m, const struct sd_target *t)
{
	const struct sd_record *r = &m->records[t->record];

	return !t->nsteps && !t->move && sd_shape_equal(t->shape, t->rank, r->shape, r->rank);
}

enum sd_result sd_target_fail_missing(const struct sd_manifest *m, const struct sd_target *t, struct sd_error *err)
{
	const char *key = m->records[t->record].key;
	size_t missing = 0;

	if (m->records[t->record].lack)
		return sd_fail(err, SD_INPUT, "%s", m->records[t->record].lack);
	for (size_t i = 0; i < m->nrecords; i++)
		missing += m->records[i].state == SD_MISSING;
	if (missing > 1)
		return sd_fail(err, SD_INPUT, "%s needs %s, which no source has (%zu keys are missing in all)", t->name,
			       key, missing);
	return sd_fail(err, SD_INPUT, "%s needs %s, which no source has", t->name, key);
}

bool sd_target_is_reordered(const struct sd_target *t)
{
	struct sd_move normal;

	/* What is known without a look: most targets are runs, and each stage asks several times. */
	if (!t->move || t->move->rank < 2)
		return false;
	normal = sd_move_load(t->move);
	sd_move_normalise(&normal);
	return !sd_move_keeps_order(&normal);
}

bool sd_target_is_pending(const struct sd_target *t)
{
	return t->nsteps > 0 || sd_target_is_reordered(t);
}

const struct sd_move *sd_target_move(const struct sd_manifest *m, const struct sd_target *t, struct sd_move *room)
{
	uint64_t count = 0;

	if (t->move)
		return t->move;
	if (!count_decoded(m, t, &count))
		count = 0; /* such a target was never added */
	*room = sd_move_identity(count);
	return room;
}

enum sd_result sd_manifest_add_moved(struct sd_manifest *m, const struct sd_target *t, const struct sd_move *first,
				     const struct sd_move *then, size_t *added, struct sd_error *err)
{
	struct sd_moves moves = {0};
	struct sd_target part = *t;
	enum sd_result result = sd_move_compose(first, then, &moves, err);

	if (result == SD_OK)
		result = sd_compose_count(&m->composed, moves.count, err);
	if (result != SD_OK)
		sd_error_at(err, "%s", t->name);
	for (size_t i = 0; i < moves.count && result == SD_OK; i++) {
		part.move = sd_arena_copy(&m->arena, &moves.at[i], sd_move_size(&moves.at[i]));
		if (!part.move || !sd_manifest_add_target(m, &part))
			result = sd_fail_memory(err);
	}
	*added = moves.count;
	free(moves.at);
	return result;
}

bool sd_target_renumber(struct sd_manifest *m, struct sd_target *t, const uint32_t *becomes)
{
	struct sd_step *steps = NULL;

	t->record = becomes[t->record];
	for (uint32_t k = 0; k < t->nsteps; k++) {
		uint32_t operand = t->steps[k].operand;

		if (operand == SD_NO_RECORD || becomes[operand] == operand)
			continue;
		if (!steps) {
			steps = sd_arena_copy(&m->arena, t->steps, t->nsteps * sizeof(*steps));
			if (!steps)
				return false;
			t->steps = steps;
		}
		steps[k].operand = becomes[operand];
	}
	return true;
}

/* Elements of a shape whose bytes fit 64 bits too; rank within bounds. */
static bool countable(const uint64_t *shape, uint32_t rank, uint8_t dtype, uint64_t *count, uint64_t *bytes)
{
	return rank <= SD_RANK_MAX && sd_shape_count(shape, rank, count) && sd_dtype_bytes(dtype, *count, bytes);
}

static enum sd_result check_record(const struct sd_record *r, struct sd_error *err)
{
	uint64_t count, bytes;

	if (!sd_dtype_bits(r->dtype))
		return sd_fail(err, SD_INPUT, "%s: unknown dtype %u", r->key, r->dtype);
	if (!countable(r->shape, r->rank, r->dtype, &count, &bytes) || bytes != r->bytes)
		return sd_fail(err, SD_INPUT, "%s: its shape and dtype give no size", r->key);
	if (r->state > SD_MISSING)
		return sd_fail(err, SD_INPUT, "%s: unknown state %u", r->key, r->state);
	return SD_OK;
}

/* What a step of a kind that is known here has to be. Returns what is wrong with it, or NULL. */
static const char *wrong_with(const struct sd_manifest *m, const struct sd_record *r, const struct sd_step *step,
			      bool first)
{
	bool alone = step->operand == SD_NO_RECORD && step->rank == 0 && sd_convert_makes((enum sd_dtype)step->dtype);
	uint8_t operand = SD_NO_DTYPE;

	switch (step->kind) {
	case SD_STEP_BLOCK_SCALE:
		if (step->operand != SD_NO_RECORD)
			operand = m->records[step->operand].dtype;
		if (step->param == 0 || (step->param < (SD_EXPONENT_INFINITY | SD_EXPONENT_2_128) &&
					 (operand == SD_U8 || operand == SD_F8_E8M0)))
			return NULL;
		return "a scale that is read in no known way";
	case SD_STEP_UNPACK:
		if (!first || r->rank == 0 || r->dtype == SD_BOOL || sd_dtype_is_float(r->dtype) ||
		    r->shape[r->rank - 1] > UINT64_MAX / 16)
			return "an unpacking that is not the first step of whole numbers";
		return alone && step->param >= SD_UNPACK_E2M1 && step->param <= SD_UNPACK_INT4
			       ? NULL
			       : "an unpacking of no known kind";
	case SD_STEP_FILL:
		return alone ? NULL : "a constant of no known kind";
	case SD_STEP_DECODE:
		return first && step->operand == SD_NO_RECORD && step->rank > 0 &&
				       sd_form_of(SD_DECODE_FORM(step->param), SD_DECODE_BITS(step->param))
			       ? NULL
			       : "codes of no known form";
	default:
		return NULL;
	}
}

/* Steps lead from the record's dtype to the target's. */
static enum sd_result check_steps(const struct sd_manifest *m, const struct sd_target *t, struct sd_error *err)
{
	const struct sd_record *r = &m->records[t->record];
	uint8_t dtype = r->dtype;

	for (uint32_t i = 0; i < t->nsteps; i++) {
		const struct sd_step *step = &t->steps[i];
		const char *wrong;

		if (!sd_dtype_bits(step->dtype))
			return sd_fail(err, SD_INPUT, "%s: a step to the unknown dtype %u", t->name, step->dtype);
		if (step->operand != SD_NO_RECORD && step->operand >= m->nrecords)
			return sd_fail(err, SD_INPUT, "%s: a step with record %" PRIu32 " of %zu", t->name,
				       step->operand, m->nrecords);
		if (step->rank != 0 && step->rank != r->rank && step->kind != SD_STEP_DECODE &&
		    step->kind != SD_STEP_WITH)
			return sd_fail(err, SD_INPUT, "%s: a step with %" PRIu32 " dimensions where %s has %" PRIu32,
				       t->name, step->rank, r->key, r->rank);
		for (uint32_t k = 0; k < step->rank; k++)
			if (step->blocks[k].block == 0 && step->kind != SD_STEP_DECODE)
				return sd_fail(err, SD_INPUT, "%s: a step with blocks of size 0", t->name);
		if (step->kind == SD_STEP_WITH && (!is_decoded(t) || step->dtype != dtype))
			return sd_fail(err, SD_INPUT, "%s: a part of codes that are not decoded", t->name);
		wrong = wrong_with(m, r, step, i == 0);
		if (wrong)
			return sd_fail(err, SD_INPUT, "%s: %s, from %s %s", t->name, wrong, sd_dtype_name(r->dtype),
				       r->key);
		dtype = (uint8_t)step->dtype;
	}
	if (dtype != t->dtype)
		return sd_fail(err, SD_INPUT, "%s: %s data for a tensor of %s", t->name, sd_dtype_name(dtype),
			       sd_dtype_name(t->dtype));
	return SD_OK;
}

static enum sd_result check_target(const struct sd_manifest *m, const struct sd_target *t, struct sd_error *err)
{
	uint64_t count, bytes, record_count;
	const struct sd_record *r;

	if (t->record >= m->nrecords)
		return sd_fail(err, SD_INPUT, "%s: made from record %" PRIu32 " of %zu", t->name, t->record,
			       m->nrecords);
	r = &m->records[t->record];
	if (!sd_dtype_bits(t->dtype))
		return sd_fail(err, SD_INPUT, "%s: unknown dtype %u", t->name, t->dtype);
	if (!countable(t->shape, t->rank, t->dtype, &count, &bytes) || !count_decoded(m, t, &record_count))
		return sd_fail(err, SD_INPUT, "%s: its shape and dtype give no size", t->name);
	if (t->move ? !sd_move_check(t->move, record_count, count) : count != record_count)
		return sd_fail(err, SD_INPUT, "%s: its place does not fit %s", t->name, r->key);
	if (t->of && t->of != SD_OF_UNKNOWN && t->number >= t->of)
		return sd_fail(err, SD_INPUT, "%s: number %" PRIu64 " of %" PRIu64 " tensors", t->name, t->number,
			       t->of);
	if (t->move && !sd_dtype_size(r->dtype))
		return sd_fail(err, SD_INPUT, "%s: %s elements are smaller than a byte and cannot be moved one by one",
			       t->name, sd_dtype_name(r->dtype));
	return check_steps(m, t, err);
}

enum sd_result sd_manifest_check(const struct sd_manifest *m, struct sd_error *err)
{
	struct sd_names names = {0};
	enum sd_result result = sd_names_reserve(&names, m->ntargets) ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++)
		result = check_record(&m->records[i], err);
	for (size_t i = 0; i < m->ntargets && result == SD_OK; i++) {
		const struct sd_target *t = &m->targets[i], *first;
		uint32_t number;

		result = check_target(m, t, err);
		if (result != SD_OK)
			break;
		number = sd_names_add(&names, t->name, (uint32_t)i);
		if (number == SD_NO_NAME) {
			result = sd_fail_memory(err);
			break;
		}
		first = &m->targets[number];
		if (first->dtype != t->dtype || !sd_shape_equal(first->shape, first->rank, t->shape, t->rank)) {
			char a[SD_SHAPE_TEXT], b[SD_SHAPE_TEXT];

			result = sd_fail(err, SD_INPUT, "%s is %s %s from %s, but %s %s from %s", t->name,
					 sd_dtype_name(first->dtype),
					 sd_shape_text(first->shape, first->rank, a, sizeof(a)),
					 m->records[first->record].key, sd_dtype_name(t->dtype),
					 sd_shape_text(t->shape, t->rank, b, sizeof(b)), m->records[t->record].key);
		}
	}
	sd_names_free(&names);
	return result;
}
