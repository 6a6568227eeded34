/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of a manifest, each once. */
#include "model/listing.h"
#include "base/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_TEXT 512

/* One word behind another, with a comma between. */
static void append(char *text, const char *format, ...) SD_PRINTF(2, 3);
static void append(char *text, const char *format, ...)
{
	char word[128];
	size_t used = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(word, sizeof(word), format, args);
	va_end(args);
	if (!strstr(text, word))
		snprintf(text + used, STEPS_TEXT - used, "%s%s", used ? "," : "", word);
}

/* What is to be done to a target, added to what its tensor's other targets need. */
static void describe(const struct sd_manifest *m, const struct sd_target *t, char *text)
{
	const struct sd_record *record = &m->records[t->record];
	const char *from = sd_dtype_name(record->dtype);

	if (record->state == SD_MISSING)
		append(text, "missing");
	if (record->state == SD_ELSEWHERE)
		append(text, "elsewhere");
	for (uint32_t i = 0; i < t->nsteps; i++) {
		const struct sd_step *step = &t->steps[i];

		if (step->kind == SD_STEP_WITH)
			continue;
		append(text, "%s:%s>%s", sd_step_word(step->kind), from, sd_dtype_name(step->dtype));
		from = sd_dtype_name(step->dtype);
	}
	if (sd_target_is_reordered(t))
		append(text, "reorder");
}

/* A listing that is being made. */
struct making {
	struct sd_listing *listing;
	const struct sd_manifest *m;
	struct sd_names names, texts;
	const char **kept;
	size_t nkept, kept_room;
};

/* The text, once for all tensors that have it. NULL: out of memory. */
static const char *keep_text(struct making *making, const char *text)
{
	uint32_t number = sd_names_find(&making->texts, text);
	const char *copy;

	if (!*text)
		return "";
	if (number != SD_NO_NAME)
		return making->kept[number];
	copy = sd_arena_text(&making->listing->arena, text, strlen(text));
	if (!copy || !sd_array_grow(&making->kept, making->nkept, &making->kept_room, sizeof(*making->kept)) ||
	    sd_names_add(&making->texts, copy, (uint32_t)making->nkept) == SD_NO_NAME)
		return NULL;
	making->kept[making->nkept++] = copy;
	return copy;
}

/* Adds the tensor whose first target this is. */
static bool add_tensor(struct making *making, uint32_t first)
{
	struct sd_listing *listing = making->listing;
	const struct sd_target *t = &making->m->targets[first];
	struct sd_listed *tensor = &listing->tensors[listing->n++];
	char steps[STEPS_TEXT] = "";

	*tensor = (struct sd_listed){.name = t->name,
				     .shape = t->shape,
				     .number = t->number,
				     .of = t->of,
				     .target = first,
				     .labels = t->labels,
				     .rank = t->rank,
				     .dtype = t->dtype,
				     .elsewhere = true};
	for (uint32_t i = first; i != SD_NO_NAME; i = listing->next[i]) {
		uint8_t state = making->m->records[making->m->targets[i].record].state;

		describe(making->m, &making->m->targets[i], steps);
		tensor->elsewhere = tensor->elsewhere && state != SD_HERE;
		tensor->missing = tensor->missing || state == SD_MISSING;
	}
	/* sd_manifest_check has refused a manifest whose sizes do not fit. */
	if (!sd_shape_count(t->shape, t->rank, &tensor->elements) ||
	    !sd_dtype_bytes(t->dtype, tensor->elements, &tensor->bytes))
		tensor->bytes = 0;
	tensor->steps = keep_text(making, steps);
	return tensor->steps;
}

/* Finds the targets of each name. last: room for one of each target: of a tensor's first target its last one. */
static bool chain(struct making *making, uint32_t *last)
{
	if (!sd_names_reserve(&making->names, making->m->ntargets))
		return false;
	for (size_t i = 0; i < making->m->ntargets; i++) {
		uint32_t first = sd_names_add(&making->names, making->m->targets[i].name, (uint32_t)i);

		if (first == SD_NO_NAME)
			return false;
		making->listing->next[i] = last[i] = SD_NO_NAME;
		if (first != i)
			making->listing->next[last[first]] = (uint32_t)i;
		last[first] = (uint32_t)i;
	}
	return true;
}

enum sd_result sd_listing_make(const struct sd_manifest *m, struct sd_listing *listing, struct sd_error *err)
{
	struct making making = {.listing = listing, .m = m};
	uint32_t *last = malloc((m->ntargets + 1) * sizeof(*last));
	bool memory;

	*listing = (struct sd_listing){.tensors = malloc((m->ntargets + 1) * sizeof(*listing->tensors)),
				       .next = malloc((m->ntargets + 1) * sizeof(*listing->next))};
	memory = last && listing->tensors && listing->next && chain(&making, last);
	for (size_t i = 0; i < m->ntargets && memory; i++)
		if (last[i] != SD_NO_NAME)
			memory = add_tensor(&making, (uint32_t)i);
	free(last);
	free(making.kept);
	sd_names_free(&making.names);
	sd_names_free(&making.texts);
	return memory ? SD_OK : sd_fail_memory(err);
}

void sd_listing_free(struct sd_listing *listing)
{
	free(listing->tensors);
	free(listing->next);
	sd_arena_free(&listing->arena);
	*listing = (struct sd_listing){0};
}

/* ---- kinds ---- */

#define RECENT 16

static bool is_alike(const struct sd_listed *a, const struct sd_listed *b)
{
	return a->dtype == b->dtype && a->steps == b->steps && sd_shape_equal(a->shape, a->rank, b->shape, b->rank);
}

/* A text that is the same for tensors that are alike; in the arena. */
static const char *text_of(struct sd_arena *arena, const struct sd_listed *t)
{
	char shape[SD_RANK_MAX * 22 + 8];

	return sd_arena_printf(arena, "%d %s %s", t->dtype, t->steps,
			       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)));
}

enum sd_result sd_listing_kinds(const struct sd_listing *listing, uint32_t *kinds, struct sd_error *err)
{
	const struct sd_listed *recent[RECENT] = {0};
	struct sd_arena arena = {0};
	struct sd_names known = {0};
	uint32_t nkinds = 0;
	bool memory = true;

	for (size_t i = 0, at = 0; i < listing->n && memory; i++) {
		const struct sd_listed *t = &listing->tensors[i];
		const char *text;
		size_t k = 0;

		while (k < RECENT && (!recent[k] || !is_alike(recent[k], t)))
			k++;
		if (k < RECENT) {
			kinds[i] = kinds[recent[k] - listing->tensors];
			continue;
		}
		text = text_of(&arena, t);
		kinds[i] = text ? sd_names_add(&known, text, nkinds) : SD_NO_NAME;
		memory = kinds[i] != SD_NO_NAME;
		nkinds += kinds[i] == nkinds;
		recent[at++ % RECENT] = t;
	}
	sd_names_free(&known);
	sd_arena_free(&arena);
	return memory ? SD_OK : sd_fail_memory(err);
}
