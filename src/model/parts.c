/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a checkpoint: the units that stay together, and which part each is in. */
#include "model/parts.h"
#include "base/checked.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- units ---- */

size_t sd_parts_unit_length(const char *key)
{
	const char *begin = key, *end;

	for (;; begin = end + 1) {
		end = begin + strcspn(begin, ".");
		if (end > begin && strspn(begin, "0123456789") == (size_t)(end - begin))
			return (size_t)(end - key);
		if (!*end)
			break;
	}
	return begin > key ? (size_t)(begin - 1 - key) : strlen(key);
}

/* PEFT reads an adapter as one file only: all of it is one unit, without a name. */
static size_t unit_length(const struct sd_manifest *m, const char *key)
{
	return sd_manifest_side(m, "adapter_config.json") ? 0 : sd_parts_unit_length(key);
}

struct units {
	struct sd_parts_unit *at;
	size_t count, room;
	struct sd_names names;
};

static bool find_unit(struct units *units, struct sd_arena *arena, const char *key, size_t length, size_t *found)
{
	char *name = sd_arena_text(arena, key, length);
	uint32_t number = name ? sd_names_add(&units->names, name, (uint32_t)units->count) : SD_NO_NAME;

	if (number == SD_NO_NAME || !sd_array_grow(&units->at, units->count, &units->room, sizeof(*units->at)))
		return false;
	if (number == units->count)
		units->at[units->count++] = (struct sd_parts_unit){name, 0};
	else
		sd_arena_undo(arena, name);
	*found = number;
	return true;
}

static int natural(const void *a, const void *b)
{
	return sd_text_natural(((const struct sd_parts_unit *)a)->name, ((const struct sd_parts_unit *)b)->name);
}

static enum sd_result count_units(const struct sd_manifest *m, struct units *units, struct sd_arena *arena,
				  struct sd_error *err)
{
	const char *last = NULL;
	size_t length = 0, n, unit = 0;

	for (size_t i = 0; i < m->nrecords; i++) {
		const struct sd_record *r = &m->records[i];

		if (r->state != SD_HERE)
			continue;
		n = unit_length(m, r->key);
		if (!last || n != length || strncmp(last, r->key, n) != 0)
			if (!find_unit(units, arena, r->key, n, &unit))
				return sd_fail_memory(err);
		last = r->key;
		length = n;
		if (!sd_add(units->at[unit].bytes, r->bytes, &units->at[unit].bytes))
			return sd_fail(err, SD_INPUT, "%s and what is beside it have more than 2^64 bytes", r->key);
	}
	if (units->count)
		qsort(units->at, units->count, sizeof(*units->at), natural);
	return SD_OK;
}

/* The units of what is here, in the arena. */
static enum sd_result list_units(const struct sd_manifest *m, struct sd_arena *arena, struct sd_parts *parts,
				 struct sd_error *err)
{
	struct units units = {0};
	enum sd_result result = count_units(m, &units, arena, err);

	if (result == SD_OK) {
		parts->nunits = units.count;
		parts->units = sd_arena_copy(arena, units.at, units.count * sizeof(*units.at));
		if (!parts->units)
			result = sd_fail_memory(err);
	}
	sd_names_free(&units.names);
	free(units.at);
	return result;
}

static bool same_units(const struct sd_parts *a, const struct sd_parts *b)
{
	if (a->nunits != b->nunits)
		return false;
	for (size_t i = 0; i < a->nunits; i++)
		if (a->units[i].bytes != b->units[i].bytes || strcmp(a->units[i].name, b->units[i].name) != 0)
			return false;
	return true;
}

/* Whether the same records are here, the cheap way: they are those of in, one by one. */
static bool same_records(const struct sd_manifest *out, const struct sd_manifest *in)
{
	if (out->nrecords != in->nrecords)
		return false;
	for (size_t i = 0; i < in->nrecords; i++)
		if (out->records[i].key != in->records[i].key || out->records[i].bytes != in->records[i].bytes ||
		    out->records[i].state != in->records[i].state)
			return false;
	return true;
}

enum sd_result sd_parts_keep(struct sd_manifest *out, const struct sd_manifest *in, struct sd_error *err)
{
	struct sd_parts before = {0}, after = {0};
	struct sd_arena scratch = {0};
	enum sd_result result = SD_OK;

	if (out->parts || same_records(out, in))
		return SD_OK;
	result = list_units(in, &out->arena, &before, err);
	if (result == SD_OK)
		result = list_units(out, &scratch, &after, err);
	if (result == SD_OK && !same_units(&before, &after)) {
		out->parts = sd_arena_copy(&out->arena, &before, sizeof(before));
		if (!out->parts)
			result = sd_fail_memory(err);
	}
	sd_arena_free(&scratch);
	return result;
}

/* ---- which part ---- */

/* By where its middle is among all bytes. Less of the numbers' precision is used where they are huge. */
static uint32_t part_at(uint64_t middle, uint64_t total, uint32_t of)
{
	while (total >> 47) {
		total >>= 1;
		middle >>= 1;
	}
	/* Those without a byte behind all others. */
	if (total && middle >= total)
		return of - 1;
	return total ? (uint32_t)(middle * of / total) : 0;
}

static enum sd_result fill_table(const struct sd_parts *parts, uint32_t of, struct sd_parts_table *table,
				 struct sd_error *err)
{
	uint64_t total = 0, before = 0;

	table->part = sd_arena_array(&table->arena, parts->nunits + 1, sizeof(*table->part));
	if (!table->part)
		return sd_fail_memory(err);
	for (size_t i = 0; i < parts->nunits; i++)
		if (!sd_add(total, parts->units[i].bytes, &total))
			return sd_fail(err, SD_INPUT, "the checkpoint has more than 2^64 bytes");
	for (uint32_t i = 0; i < parts->nunits; i++) {
		table->part[i] = part_at(before + parts->units[i].bytes / 2, total, of);
		before += parts->units[i].bytes;
		if (sd_names_add(&table->units, parts->units[i].name, i) == SD_NO_NAME)
			return sd_fail_memory(err);
	}
	table->one = parts->nunits == 1 && !*parts->units[0].name;
	return SD_OK;
}

enum sd_result sd_parts_divide(const struct sd_manifest *m, uint32_t of, struct sd_parts_table *table,
			       struct sd_error *err)
{
	struct sd_parts parts = {0};
	enum sd_result result = SD_OK;

	*table = (struct sd_parts_table){0};
	if (m->parts && m->parts->of && m->parts->of != of)
		return sd_fail(err, SD_INPUT, "the stream is a part of %" PRIu32 ", not of %" PRIu32, m->parts->of, of);
	if (!m->parts)
		result = list_units(m, &table->arena, &parts, err);
	return result == SD_OK ? fill_table(m->parts ? m->parts : &parts, of, table, err) : result;
}

void sd_parts_table_free(struct sd_parts_table *table)
{
	sd_names_free(&table->units);
	sd_arena_free(&table->arena);
	*table = (struct sd_parts_table){0};
}

/* What was made of a tensor of a module's own may have its key, and more behind it: name is shortened. */
static uint32_t find_part(const struct sd_parts_table *table, char *name, size_t length)
{
	uint32_t unit = sd_names_find(&table->units, name);

	while (unit == SD_NO_NAME && length-- > 1) {
		name[length] = '\0';
		unit = sd_names_find(&table->units, name);
	}
	return unit == SD_NO_NAME ? SD_NO_PART : table->part[unit];
}

enum sd_result sd_parts_find(struct sd_parts_table *table, const char *key, uint32_t *part, struct sd_error *err)
{
	size_t n = table->one ? 0 : sd_parts_unit_length(key);

	if (!table->last || n != table->length || strncmp(table->last, key, n) != 0) {
		char *name = sd_arena_text(&table->arena, key, n);

		if (!name)
			return sd_fail_memory(err);
		table->found = find_part(table, name, n);
		sd_arena_undo(&table->arena, name);
		table->last = key;
		table->length = n;
	}
	*part = table->found;
	return SD_OK;
}

/* ---- one part ---- */

bool sd_parts_is_other(const struct sd_manifest *m, const struct sd_target *t)
{
	return m->parts && m->parts->of && m->records[t->record].state == SD_ELSEWHERE &&
	       !(t->labels & sd_manifest_label_bit(m, SD_LABEL_LEFT_OUT));
}

/* Marks what is not here before the checkpoint is divided: no part has it. */
static enum sd_result label_left_out(struct sd_manifest *m, struct sd_error *err)
{
	uint32_t bit = 0;

	for (size_t i = 0; i < m->ntargets; i++) {
		if (m->records[m->targets[i].record].state != SD_ELSEWHERE)
			continue;
		bit = bit ? bit : sd_manifest_label(m, SD_LABEL_LEFT_OUT);
		if (!bit)
			return sd_fail(err, SD_INPUT, "the stream has %d labels: there is no room for \"%s\"",
				       SD_LABELS_MAX, SD_LABEL_LEFT_OUT);
		m->targets[i].labels |= bit;
	}
	return SD_OK;
}

/* Which records the part has: its own, and what the steps of its targets need. */
static enum sd_result find_own(const struct sd_manifest *m, uint32_t part, struct sd_parts_table *table, bool *own,
			       struct sd_error *err)
{
	for (size_t i = 0; i < m->nrecords; i++) {
		uint32_t found;

		if (sd_parts_find(table, m->records[i].key, &found, err) != SD_OK)
			return err->result;
		own[i] = found == part;
	}
	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];

		for (uint32_t k = 0; k < t->nsteps && own[t->record]; k++)
			if (t->steps[k].operand != SD_NO_RECORD)
				own[t->steps[k].operand] = true;
	}
	return SD_OK;
}

static enum sd_result keep_part(struct sd_manifest *m, uint32_t part, struct sd_parts_table *table,
				struct sd_error *err)
{
	bool *own = calloc(m->nrecords + 1, sizeof(*own));
	enum sd_result result = own ? find_own(m, part, table, own, err) : sd_fail_memory(err);

	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++)
		if (m->records[i].state == SD_HERE && !own[i])
			m->records[i].state = SD_ELSEWHERE;
	free(own);
	return result;
}

static enum sd_result divide_records(struct sd_manifest *m, uint32_t part, uint32_t of, struct sd_error *err)
{
	struct sd_parts_table table = {0};
	enum sd_result result = sd_parts_divide(m, of, &table, err);

	if (result == SD_OK)
		result = keep_part(m, part, &table, err);
	sd_parts_table_free(&table);
	return result;
}

enum sd_result sd_parts_choose(struct sd_manifest *m, uint32_t part, uint32_t of, uint64_t id, struct sd_error *err)
{
	struct sd_parts *parts = sd_arena_alloc(&m->arena, sizeof(*parts));
	enum sd_result result = SD_OK;

	if (!parts)
		return sd_fail_memory(err);
	if (m->parts && m->parts->of)
		return sd_fail(err, SD_INPUT, "this is part %" PRIu32 "/%" PRIu32 " already: it is not divided again",
			       m->parts->here[0], m->parts->of);
	if (m->parts)
		*parts = *m->parts;
	else
		result = list_units(m, &m->arena, parts, err);
	if (result == SD_OK)
		result = label_left_out(m, err);
	if (result == SD_OK)
		result = divide_records(m, part, of, err);
	parts->of = of;
	parts->here = sd_arena_copy(&m->arena, &part, sizeof(part));
	parts->nhere = 1;
	parts->id = id;
	m->parts = parts;
	return result == SD_OK && !parts->here ? sd_fail_memory(err) : result;
}

enum sd_result sd_parts_leave_out(struct sd_manifest *m, const bool *units, struct sd_error *err)
{
	struct sd_parts_table table = {0};
	enum sd_result result = sd_parts_divide(m, 1, &table, err);

	for (size_t i = 0; i < m->parts->nunits && result == SD_OK; i++)
		table.part[i] = units[i];
	if (result == SD_OK)
		result = keep_part(m, 0, &table, err);
	sd_parts_table_free(&table);
	return result;
}

enum sd_result sd_parts_suppose(struct sd_manifest *m, struct sd_error *err)
{
	uint32_t left_out = sd_manifest_label_bit(m, SD_LABEL_LEFT_OUT);
	struct sd_parts_table table = {0};
	enum sd_result result = sd_parts_divide(m, m->parts->of, &table, err);

	for (size_t i = 0; i < m->ntargets && result == SD_OK; i++) {
		struct sd_record *r = &m->records[m->targets[i].record];
		uint32_t part;

		result = sd_parts_find(&table, r->key, &part, err);
		if (result == SD_OK && r->state == SD_ELSEWHERE && part == m->parts->here[0] &&
		    !(m->targets[i].labels & left_out))
			r->state = SD_HERE;
	}
	sd_parts_table_free(&table);
	return result;
}

/* ---- several parts ---- */

/* The numbers that nobody has: "1", "0, 2", "0, 1, 2, ...". */
static void list_missing(const uint32_t *holder, uint32_t of, char *text, size_t size)
{
	size_t used = 0, count = 0;

	*text = '\0';
	for (uint32_t k = 0; k < of && count < 5 && used < size; k++) {
		if (holder[k])
			continue;
		if (++count == 5)
			snprintf(text + used, size - used, ", ...");
		else
			used += (size_t)snprintf(text + used, size - used, "%s%" PRIu32, count > 1 ? ", " : "", k);
	}
}

/* Notes who has each part, by the number of the source plus 1. */
static enum sd_result take_holders(const struct sd_parts *const *parts, const char *const *names, size_t i,
				   uint32_t *holder, struct sd_error *err)
{
	for (uint32_t k = 0; k < parts[i]->nhere; k++) {
		uint32_t part = parts[i]->here[k];

		if (holder[part])
			return sd_fail(err, SD_INPUT, "part %" PRIu32 "/%" PRIu32 " is there twice: in %s and in %s",
				       part, parts[i]->of, names[holder[part] - 1], names[i]);
		holder[part] = (uint32_t)i + 1;
	}
	return SD_OK;
}

/* That a part is of the same whole as the first one. */
static enum sd_result check_same(const struct sd_parts *first, const char *first_name, const struct sd_parts *other,
				 const char *name, struct sd_error *err)
{
	if (!other || !other->of)
		return sd_fail(err, SD_INPUT, "%s is a part of a checkpoint, and %s is none: they do not join",
			       first_name, name);
	if (other->of != first->of)
		return sd_fail(err, SD_INPUT, "%s is one of %" PRIu32 " parts, and %s one of %" PRIu32, first_name,
			       first->of, name, other->of);
	if (other->id != first->id || !same_units(first, other))
		return sd_fail(err, SD_INPUT,
			       "%s and %s are parts of two checkpoints, or were made in two ways: they do not join",
			       first_name, name);
	return SD_OK;
}

static enum sd_result prove(const struct sd_parts *const *parts, const char *const *names, size_t count, size_t first,
			    uint32_t *holder, struct sd_error *err)
{
	char missing[64];

	for (size_t i = 0; i < count; i++)
		if (check_same(parts[first], names[first], parts[i], names[i], err) != SD_OK ||
		    take_holders(parts, names, i, holder, err) != SD_OK)
			return err->result;
	list_missing(holder, parts[first]->of, missing, sizeof(missing));
	return *missing
		       ? sd_fail(err, SD_INPUT, "of %" PRIu32 " parts these are missing: %s", parts[first]->of, missing)
		       : SD_OK;
}

enum sd_result sd_parts_join(const struct sd_parts *const *parts, const char *const *names, size_t count,
			     struct sd_arena *arena, const struct sd_parts **whole, struct sd_error *err)
{
	struct sd_parts *made;
	uint32_t *holder;
	enum sd_result result;
	size_t first = 0;

	*whole = NULL;
	while (first < count && !(parts[first] && parts[first]->of))
		first++;
	if (first == count)
		return SD_OK;
	made = sd_arena_alloc(arena, sizeof(*made));
	holder = calloc(parts[first]->of, sizeof(*holder));
	if (made)
		*made = (struct sd_parts){.units = parts[first]->units, .nunits = parts[first]->nunits};
	result = made && holder ? prove(parts, names, count, first, holder, err) : sd_fail_memory(err);
	free(holder);
	if (result == SD_OK && made->nunits)
		*whole = made;
	return result;
}

/* ---- as bytes ---- */

bool sd_parts_encode(const struct sd_parts *parts, struct sd_bytes *payload)
{
	if (!sd_bytes_u32(payload, parts->nhere ? parts->here[0] : 0) || !sd_bytes_u32(payload, parts->of) ||
	    !sd_bytes_u64(payload, parts->id) || !sd_bytes_u64(payload, parts->nunits))
		return false;
	for (size_t i = 0; i < parts->nunits; i++)
		if (!sd_bytes_text(payload, parts->units[i].name) || !sd_bytes_u64(payload, parts->units[i].bytes))
			return false;
	return true;
}

static enum sd_result fail_malformed(const char *what, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "malformed stream: its frame \"PART\": %s", what);
}

static enum sd_result decode_units(struct sd_view *view, struct sd_arena *arena, struct sd_parts *parts,
				   struct sd_error *err)
{
	struct sd_parts_unit *units = sd_arena_array(arena, parts->nunits + 1, sizeof(*units));

	parts->units = units;
	if (!units)
		return sd_fail_memory(err);
	for (size_t i = 0; i < parts->nunits; i++) {
		if (!sd_view_text(view, &units[i].name) || !sd_view_u64(view, &units[i].bytes))
			return fail_malformed("a unit", err);
		if (i > 0 && natural(&units[i - 1], &units[i]) >= 0)
			return fail_malformed("the order of its units", err);
	}
	return SD_OK;
}

enum sd_result sd_parts_decode(struct sd_view payload, struct sd_arena *arena, const struct sd_parts **found,
			       struct sd_error *err)
{
	struct sd_parts *parts = sd_arena_alloc(arena, sizeof(*parts));
	uint32_t *here = sd_arena_alloc(arena, sizeof(*here));
	uint64_t count;

	if (!parts || !here)
		return sd_fail_memory(err);
	if (!sd_view_u32(&payload, here) || !sd_view_u32(&payload, &parts->of) || !sd_view_u64(&payload, &parts->id) ||
	    !sd_view_u64(&payload, &count))
		return fail_malformed("its beginning", err);
	if (parts->of > SD_PARTS_MAX || (parts->of ? *here >= parts->of : *here > 0))
		return fail_malformed("the number of the part", err);
	/* A text has 8 bytes at least, and then comes a number. */
	if (count > (uint64_t)(payload.end - payload.at) / 16)
		return fail_malformed("more units than bytes", err);
	parts->here = here;
	parts->nhere = parts->of ? 1 : 0;
	parts->nunits = (size_t)count;
	*found = parts;
	return decode_units(&payload, arena, parts, err);
}
