/* SPDX-License-Identifier: Apache-2.0 */
/* Several sources as one. */
#include "flow/concat.h"
#include "base/checked.h"
#include "base/names.h"
#include "model/companions.h"
#include "model/parts.h"

#include <stdlib.h>
#include <string.h>

struct join {
	struct sd_source source;
	struct sd_source **parts;
	uint32_t *first; /* the number of each part's first record; one more at the end */
	size_t count, current;
	struct sd_concat how;
};

static enum sd_result join_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
				struct sd_error *err)
{
	struct join *j = (struct join *)source;

	/* A part that is done with is finished before the next one begins: a truncated one is found here. */
	while (record >= j->first[j->current + 1]) {
		enum sd_result result = sd_source_finish(j->parts[j->current], err);

		if (result != SD_OK)
			return result;
		j->current++;
	}
	return sd_source_next(j->parts[j->current], record - j->first[j->current], extent, err);
}

static enum sd_result join_finish(struct sd_source *source, struct sd_error *err)
{
	struct join *j = (struct join *)source;

	for (; j->current < j->count; j->current++) {
		enum sd_result result = sd_source_finish(j->parts[j->current], err);

		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

static void join_close(struct sd_source *source)
{
	struct join *j = (struct join *)source;

	sd_manifest_free(source->manifest);
	for (size_t i = 0; i < j->count; i++)
		sd_source_close(j->parts[i]);
	free(j->parts);
	free(j->first);
	free(j);
}

static void join_explain(struct sd_source *source, struct sd_error *err)
{
	const struct join *j = (const struct join *)source;

	if (j->current < j->count)
		sd_source_explain(j->parts[j->current], err);
}

static bool join_sum(const struct sd_source *source, uint32_t record, uint64_t *sum)
{
	const struct join *j = (const struct join *)source;
	size_t part = j->current;

	while (record >= j->first[part + 1])
		part++;
	return sd_source_checksum(j->parts[part], record - j->first[part], sum);
}

static enum sd_result join_read_at(struct sd_source *source, uint32_t record, uint64_t offset, void *buffer,
				   uint64_t length, struct sd_error *err)
{
	const struct join *j = (const struct join *)source;
	size_t part = 0;

	while (record >= j->first[part + 1])
		part++;
	return sd_source_read_at(j->parts[part], record - j->first[part], offset, buffer, length, err);
}

static bool join_place(const struct sd_source *source, uint32_t record, const char **file, uint64_t *offset)
{
	const struct join *j = (const struct join *)source;
	const struct sd_source *from;
	size_t part = 0;

	while (record >= j->first[part + 1])
		part++;
	from = j->parts[part];
	return from->ops->place && from->ops->place(from, record - j->first[part], file, offset);
}

static const struct sd_source_ops join_ops = {.next = join_next,
					      .finish = join_finish,
					      .close = join_close,
					      .explain = join_explain,
					      .sum = join_sum,
					      .place = join_place,
					      .read_at = join_read_at};

/* The entries of the first part that all others have alike. */
static bool join_metadata(struct sd_manifest *m, const struct join *j)
{
	const struct sd_manifest *first = j->parts[0]->manifest;

	for (size_t e = 0; e < first->nmetadata; e++) {
		bool alike = true;

		for (size_t i = 1; i < j->count && alike; i++) {
			const char *value = sd_manifest_metadata(j->parts[i]->manifest, first->metadata[e].key);

			alike = value && strcmp(value, first->metadata[e].value) == 0;
		}
		if (alike && !sd_manifest_add_metadata(m, first->metadata[e].key, first->metadata[e].value))
			return false;
	}
	return true;
}

static enum sd_result join_side(struct sd_manifest *m, struct join *j, struct sd_error *err)
{
	for (size_t i = 0; i < j->count; i++) {
		const struct sd_manifest *part = j->parts[j->how.later_wins ? j->count - 1 - i : i]->manifest;

		for (size_t k = 0; k < part->nside; k++) {
			const struct sd_side_file *file = &part->side[k], *there = sd_manifest_side(m, file->name);

			if (!there) {
				if (sd_manifest_side_fits(m, file->size, err) != SD_OK)
					return sd_error_at(err, "the sources have");
				if (!sd_manifest_add_side(m, file))
					return sd_fail_memory(err);
			} else if (there->size != file->size || memcmp(there->data, file->data, file->size) != 0) {
				j->how.differs = file->name;
			}
		}
	}
	return SD_OK;
}

/* Parts have to be all there are of one checkpoint. */
static enum sd_result join_parts(struct join *j, const char *const *names, struct sd_error *err)
{
	const struct sd_parts **parts = calloc(j->count, sizeof(*parts));
	struct sd_manifest *m = j->source.manifest;
	enum sd_result result;

	for (size_t i = 0; i < j->count && parts; i++)
		parts[i] = j->parts[i]->manifest->parts;
	result = parts ? sd_parts_join(parts, names, j->count, &m->arena, &m->parts, err) : sd_fail_memory(err);
	free(parts);
	return result;
}

/* What is unknown in the head of an earlier part too, word for word. */
static bool is_repeated(const struct join *j, size_t part)
{
	const struct sd_extra *extra = &j->parts[part]->manifest->extra;

	for (size_t i = 0; i < part; i++) {
		const struct sd_extra *other = &j->parts[i]->manifest->extra;

		if (other->length == extra->length && memcmp(other->data, extra->data, extra->length) == 0)
			return true;
	}
	return false;
}

/* Frames that are unknown here, of all parts, one behind another. */
static bool join_extra(struct sd_manifest *m, const struct join *j)
{
	size_t length = 0;
	char *all;

	for (size_t i = 0; i < j->count; i++)
		length += j->parts[i]->manifest->extra.length; /* they are in memory, so their sum is a size */
	if (!length)
		return true;
	all = sd_arena_alloc(&m->arena, length);
	m->extra.data = all;
	for (size_t i = 0; i < j->count && all; i++) {
		const struct sd_extra *extra = &j->parts[i]->manifest->extra;

		if (!extra->length || is_repeated(j, i))
			continue;
		memcpy(all + m->extra.length, extra->data, extra->length);
		m->extra.length += extra->length;
	}
	return all;
}

/* A part's labels have other bits in the joined manifest. */
static bool join_labels(struct sd_manifest *m, const struct sd_manifest *part, uint32_t labels, uint32_t *joined)
{
	*joined = 0;
	for (uint32_t i = 0; i < part->nlabels; i++)
		if (labels & 1u << i) {
			uint32_t bit = sd_manifest_label(m, part->labels[i]);

			if (!bit)
				return false;
			*joined |= bit;
		}
	return true;
}

/* Steps with an operand: record numbers move by first. */
static bool join_steps(struct sd_manifest *m, struct sd_target *t, uint32_t first)
{
	struct sd_step *steps;

	if (!t->nsteps || !first)
		return true;
	steps = sd_arena_copy(&m->arena, t->steps, t->nsteps * sizeof(*steps));
	if (!steps)
		return false;
	for (uint32_t k = 0; k < t->nsteps; k++)
		if (steps[k].operand != SD_NO_RECORD)
			steps[k].operand += first;
	t->steps = steps;
	return true;
}

static bool whole(const struct sd_manifest *m, const struct sd_target *t)
{
	struct sd_move room;
	uint64_t count;

	return sd_shape_count(t->shape, t->rank, &count) && sd_move_count(sd_target_move(m, t, &room)) == count;
}

/* Which sources have a tensor. */
struct holder {
	uint32_t first; /* that names it */
	uint32_t here;  /* the first that has data of it, or the last if that one wins; or NOBODY */
	bool several;   /* others have data of it too */
	uint64_t taken; /* how many elements of it the winner has */
};

#define NOBODY UINT32_MAX

struct holders {
	struct sd_names names;
	struct holder *at;
	size_t count, room;
};

static bool find_holders(const struct join *j, struct holders *h)
{
	for (uint32_t i = 0; i < j->count; i++) {
		const struct sd_manifest *part = j->parts[i]->manifest;

		for (size_t k = 0; k < part->ntargets; k++) {
			uint32_t number = sd_names_add(&h->names, part->targets[k].name, (uint32_t)h->count);
			struct holder *holder;

			if (number == SD_NO_NAME || !sd_array_grow(&h->at, h->count, &h->room, sizeof(*h->at)))
				return false;
			if (number == h->count)
				h->at[h->count++] = (struct holder){i, NOBODY, false, 0};
			holder = &h->at[number];
			if (part->records[part->targets[k].record].state != SD_HERE)
				continue;
			holder->several = holder->several || (holder->here != NOBODY && holder->here != i);
			if (holder->here == NOBODY || j->how.later_wins)
				holder->here = i;
		}
	}
	return true;
}

/* Whether another source has what this one has left out: parts of one checkpoint join to the whole. */
static bool is_filled_by_others(const struct holder *holder, uint32_t i)
{
	if (holder->here == NOBODY)
		return holder->first != i;
	return holder->several || holder->here != i;
}

/* Whether the data that a source has of a tensor gives way to that of a later one. */
static bool is_replaced(const struct join *j, const struct holder *holder, uint32_t i)
{
	return j->how.later_wins && holder->several && holder->here != i;
}

static const struct holder *holder_of(const struct holders *holders, const char *name)
{
	return &holders->at[sd_names_find(&holders->names, name)];
}

/* Counts the tensors that later sources replace, each of which has to be whole there. */
static enum sd_result check_replaced(struct join *j, struct holders *holders, const char *const *names,
				     struct sd_error *err)
{
	for (uint32_t i = 0; i < j->count; i++) {
		const struct sd_manifest *part = j->parts[i]->manifest;

		for (size_t k = 0; k < part->ntargets; k++) {
			const struct sd_target *t = &part->targets[k];
			struct holder *holder = &holders->at[sd_names_find(&holders->names, t->name)];
			struct sd_move room;

			if (holder->several && holder->here == i &&
			    !sd_add(holder->taken, sd_move_count(sd_target_move(part, t, &room)), &holder->taken))
				return sd_fail(err, SD_INPUT, "%s is too large", t->name);
		}
		for (size_t k = 0; k < part->ntargets; k++) {
			const struct sd_target *t = &part->targets[k];
			const struct holder *holder = holder_of(holders, t->name);
			uint64_t count;

			if (holder->several && holder->here == i &&
			    (!sd_shape_count(t->shape, t->rank, &count) || holder->taken != count))
				return sd_fail(
					err, SD_INPUT,
					"%s is in an earlier source, and %s, which is to replace it, has only a part "
					"of it",
					t->name, names[i]);
		}
	}
	for (size_t k = 0; k < holders->count; k++)
		j->how.replaced += holders->at[k].several;
	return SD_OK;
}

/* That no weight of a source is replaced without what it is stored with, nor that without the weight. */
static enum sd_result check_companions(const struct join *j, uint32_t i, const struct holders *holders,
				       const char *const *names, struct sd_error *err)
{
	const struct sd_manifest *part = j->parts[i]->manifest;
	struct sd_companions companions = {0};
	uint32_t *target = malloc((part->nrecords + 1) * sizeof(*target));
	enum sd_result result = target ? sd_companions_find(part, &companions, err) : sd_fail_memory(err);

	for (size_t k = 0; k < part->nrecords && result == SD_OK; k++)
		target[k] = UINT32_MAX;
	for (size_t k = 0; k < part->ntargets && result == SD_OK; k++)
		target[part->targets[k].record] = (uint32_t)k;
	for (size_t k = 0; k < part->nrecords && result == SD_OK && companions.weight; k++) {
		uint32_t weight = companions.weight[k];
		const char *name, *other;
		bool gone;

		if (weight == SD_NO_RECORD || target[k] == UINT32_MAX || target[weight] == UINT32_MAX)
			continue;
		name = part->targets[target[k]].name;
		other = part->targets[target[weight]].name;
		gone = is_replaced(j, holder_of(holders, name), i);
		if (gone != is_replaced(j, holder_of(holders, other), i))
			result = sd_fail(
				err, SD_INPUT,
				"%s is to be replaced, and %s, which %s has beside it, not: they belong together",
				gone ? name : other, gone ? other : name, names[i]);
	}
	sd_companions_free(&companions);
	free(target);
	return result;
}

static enum sd_result join_part(struct join *j, uint32_t i, const struct holders *holders, const char *const *names,
				struct sd_error *err)
{
	struct sd_manifest *m = j->source.manifest;
	const struct sd_manifest *part = j->parts[i]->manifest;
	uint32_t first = (uint32_t)m->nrecords;

	if (part->nrecords >= SD_NO_RECORD - m->nrecords)
		return sd_fail(err, SD_INPUT, "more than %u records", SD_NO_RECORD - 1);
	for (size_t k = 0; k < part->nrecords; k++)
		if (!sd_manifest_add_record(m, &part->records[k]))
			return sd_fail_memory(err);
	for (size_t k = 0; k < part->ntargets; k++) {
		struct sd_target t = part->targets[k];
		const struct holder *holder = holder_of(holders, t.name);
		bool elsewhere = part->records[t.record].state == SD_ELSEWHERE;

		if ((elsewhere && is_filled_by_others(holder, i)) || is_replaced(j, holder, i))
			continue;
		if (!elsewhere && holder->here != NOBODY && holder->here != i && whole(part, &t))
			return sd_fail(err, SD_INPUT,
				       "%s is in %s and in %s: which shall it be? --override takes the last", t.name,
				       names[holder->here], names[i]);
		t.record += first;
		if (!join_labels(m, part, t.labels, &t.labels) || !join_steps(m, &t, first) ||
		    !sd_manifest_add_target(m, &t))
			return sd_fail_memory(err);
	}
	return SD_OK;
}

enum sd_result sd_concat(struct sd_source **sources, const char *const *names, size_t count, struct sd_source **joined,
			 struct sd_concat *how, struct sd_error *err)
{
	struct join *j;
	struct holders holders = {0};
	enum sd_result result = SD_OK;

	*joined = NULL;
	if (count == 1) {
		*joined = sources[0];
		return SD_OK;
	}
	j = calloc(1, sizeof(*j));
	if (j) {
		j->source.ops = &join_ops;
		j->source.random = true;
		j->source.manifest = sd_manifest_new();
		j->parts = calloc(count, sizeof(*j->parts));
		j->first = calloc(count + 1, sizeof(*j->first));
	}
	if (!j || !j->source.manifest || !j->parts || !j->first) {
		for (size_t i = 0; i < count; i++)
			sd_source_close(sources[i]);
		if (j)
			join_close(&j->source);
		return sd_fail_memory(err);
	}
	memcpy(j->parts, sources, count * sizeof(*sources));
	j->count = count;
	j->how.later_wins = how && how->later_wins;
	if (!join_metadata(j->source.manifest, j) || !join_extra(j->source.manifest, j) || !find_holders(j, &holders))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = join_parts(j, names, err);
	if (result == SD_OK)
		result = join_side(j->source.manifest, j, err);
	if (result == SD_OK && j->how.later_wins)
		result = check_replaced(j, &holders, names, err);
	for (size_t i = 0; i < count && result == SD_OK && j->how.later_wins; i++)
		result = check_companions(j, (uint32_t)i, &holders, names, err);
	for (size_t i = 0; i < count && result == SD_OK; i++) {
		result = join_part(j, (uint32_t)i, &holders, names, err);
		j->source.sums = j->source.sums || j->parts[i]->sums;
		j->source.random = j->source.random && j->parts[i]->random;
		j->first[i + 1] = (uint32_t)j->source.manifest->nrecords;
	}
	sd_names_free(&holders.names);
	free(holders.at);
	if (result == SD_OK)
		result = sd_manifest_check(j->source.manifest, err);
	if (result != SD_OK) {
		join_close(&j->source);
		return result;
	}
	if (how)
		*how = j->how;
	*joined = &j->source;
	return SD_OK;
}
