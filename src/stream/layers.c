/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the layers of a checkpoint are all there. */
#include "stream/layers.h"
#include "base/names.h"
#include "stream/config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WORD "layers."
#define LAYERS_MAX 4096 /* keys with larger numbers are not looked at */
#define PARTS_MAX 64    /* parts of a layer that are compared */
#define NAMED_MAX 5
#define OTHERS 3

/* Where a key has its layer. */
struct place {
	size_t prefix;    /* the length of what stands before "layers." */
	uint32_t number;  /* of the layer */
	const char *rest; /* behind the number and its dot */
};

static bool find_place(const char *key, struct place *place)
{
	const char *word = key;

	while ((word = strstr(word, WORD)) && word != key && word[-1] != '.')
		word++;
	if (!word || strspn(word + strlen(WORD), "0123456789") - 1 > 5)
		return false;
	place->prefix = (size_t)(word - key);
	place->number = (uint32_t)strtoul(word + strlen(WORD), (char **)&place->rest, 10);
	return *place->rest++ == '.' && place->number < LAYERS_MAX;
}

/* Layers whose keys begin alike. */
struct group {
	const char *prefix;
	size_t keys;
};

struct groups {
	struct sd_names names;
	struct group *at;
	size_t n, room;
};

/* Counts a key for its group. False when memory is out. */
static bool count_key(struct groups *g, const char *key, size_t prefix, struct sd_arena *arena)
{
	char *text = sd_arena_text(arena, key, prefix);
	uint32_t number = text ? sd_names_add(&g->names, text, (uint32_t)g->n) : SD_NO_NAME;

	if (number == SD_NO_NAME || (number == g->n && !sd_array_grow(&g->at, g->n, &g->room, sizeof(*g->at))))
		return false;
	if (number == g->n)
		g->at[g->n++] = (struct group){.prefix = text};
	else
		sd_arena_undo(arena, text);
	g->at[number].keys++;
	return true;
}

/* Whether layers are not those of the language model, by what stands before them. */
static bool is_other(const char *key, size_t prefix)
{
	static const char *const words[] = {"vis",    "audio", "encoder", "tower",         "vit",
					    "talker", "mtp",   "draft",   "code_predictor"};
	const char *at;

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		at = strstr(key, words[i]);
		if (at && at < key + prefix)
			return true;
	}
	return false;
}

/* What the layers of which there are most keys begin with; NULL where there are none, and for adapters. */
static enum sd_result find_prefix(const struct sd_manifest *m, struct sd_arena *arena, const char **prefix,
				  struct sd_error *err)
{
	struct groups groups = {.n = 0};
	const struct group *best = NULL;
	bool memory = true, adapter = false;

	for (size_t i = 0; i < m->ntargets && memory && !adapter; i++) {
		struct place place;

		adapter = strstr(m->targets[i].name, ".lora_");
		if (find_place(m->targets[i].name, &place) && !is_other(m->targets[i].name, place.prefix))
			memory = count_key(&groups, m->targets[i].name, place.prefix, arena);
	}
	for (size_t i = 0; i < groups.n; i++)
		if (!best || groups.at[i].keys > best->keys)
			best = &groups.at[i];
	*prefix = best && !adapter ? best->prefix : NULL;
	sd_names_free(&groups.names);
	free(groups.at);
	return memory ? SD_OK : sd_fail_memory(err);
}

/* A part that layers have: "mlp", or "mlp.experts", and which of them have it. */
struct part {
	char name[64];
	bool in[LAYERS_MAX];
};

struct layers {
	const char *prefix;
	bool seen[LAYERS_MAX];
	uint32_t begin, end; /* the first one that is seen, and behind the last */
	struct part parts[PARTS_MAX];
	size_t nparts;
};

/* Notes that a layer has a part. Parts with longer names, and more of them, are not compared. */
static void add_part(struct layers *l, uint32_t layer, const char *name, size_t length, const char *more)
{
	char text[sizeof(l->parts->name)];
	size_t i = 0;

	if (length + strlen(more) >= sizeof(text))
		return;
	memcpy(text, name, length);
	strcpy(text + length, more);
	while (i < l->nparts && strcmp(l->parts[i].name, text) != 0)
		i++;
	if (i == PARTS_MAX)
		return;
	if (i == l->nparts)
		strcpy(l->parts[l->nparts++].name, text);
	l->parts[i].in[layer] = true;
}

/* Whether what stands behind a module's name is of experts, or of the dense layer that may be in their place. */
static bool is_feed_forward(const char *rest)
{
	static const char *const words[] = {"experts.", "gate_proj.", "up_proj.", "down_proj.", "gate_up_proj.",
					    "w1.",      "w2.",        "w3.",      "fc1.",       "fc2."};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strncmp(rest, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

static void read_key(struct layers *l, const char *key)
{
	struct place place;
	size_t length;

	if (!find_place(key, &place) || strncmp(key, l->prefix, place.prefix) != 0 || l->prefix[place.prefix])
		return;
	l->seen[place.number] = true;
	l->begin = place.number < l->begin ? place.number : l->begin;
	l->end = place.number + 1 > l->end ? place.number + 1 : l->end;
	length = strcspn(place.rest, ".");
	add_part(l, place.number, place.rest, length, "");
	if (place.rest[length] && is_feed_forward(place.rest + length + 1))
		add_part(l, place.number, place.rest, length, ".experts");
}

/* "layers 2 and 5 of 48 are not there: no key begins with model.layers.2."; looked at are those from begin on. */
static const char *tell_layers(const struct layers *l, uint64_t begin, uint64_t of, struct sd_arena *arena)
{
	const char *text = "";
	uint64_t first = 0, n = 0, named = 0;

	for (uint64_t i = begin; i < of; i++)
		n += !l->seen[i];
	for (uint64_t i = begin; i < of && named < NAMED_MAX && text; i++) {
		if (l->seen[i])
			continue;
		first = named ? first : i;
		named++;
		text = sd_arena_printf(arena, "%s%s%" PRIu64, text,
				       named == 1                     ? ""
				       : named == n && n <= NAMED_MAX ? " and "
								      : ", ",
				       i);
	}
	if (text && n > named)
		text = sd_arena_printf(arena, "%s and %" PRIu64 " more", text, n - named);
	return text ? sd_arena_printf(arena,
				      "layer%s %s of %" PRIu64 " %s not there: no key begins with %s" WORD "%" PRIu64
				      ".",
				      n > 1 ? "s" : "", text, of, n > 1 ? "are" : "is", l->prefix, first)
		    : NULL;
}

/* Whether a layer has a part that no other has: it is of another kind, such as the one full attention among linear
 * ones. */
static bool is_of_its_own(const struct layers *l, uint32_t layer)
{
	for (size_t p = 0; p < l->nparts; p++) {
		bool other = !l->parts[p].in[layer];

		for (uint32_t i = l->begin; i < l->end && !other; i++)
			other = i != layer && l->parts[p].in[i];
		if (!other)
			return true;
	}
	return false;
}

/* The part that one layer lacks and at least OTHERS others, all that there are, have. */
static const struct part *find_part(const struct layers *l, uint32_t *layer, uint32_t *others)
{
	for (size_t p = 0; p < l->nparts; p++) {
		uint32_t lacking = 0;

		*others = 0;
		for (uint32_t i = 0; i < l->end; i++) {
			*others += l->parts[p].in[i];
			if (!l->seen[i] || l->parts[p].in[i])
				continue;
			lacking++;
			*layer = i;
		}
		if (lacking == 1 && *others >= OTHERS && !is_of_its_own(l, *layer))
			return &l->parts[p];
	}
	return NULL;
}

static const char *tell(const struct layers *l, uint64_t begin, uint64_t of, struct sd_arena *arena, bool *memory)
{
	const struct part *part;
	uint32_t layer = 0, others = 0;
	const char *line = NULL;
	bool whole = true;

	for (uint64_t i = begin; i < of && whole; i++)
		whole = l->seen[i];
	part = whole ? find_part(l, &layer, &others) : NULL;
	if (!whole)
		line = tell_layers(l, begin, of, arena);
	else if (part)
		line = sd_arena_printf(arena, "layer %" PRIu32 " has no %s, which the other %" PRIu32 " have", layer,
				       part->name, others);
	*memory = line || (whole && !part);
	return line;
}

enum sd_result sd_layers_missing(const struct sd_manifest *m, struct sd_arena *arena, const char **line,
				 struct sd_error *err)
{
	const char *prefix;
	struct layers *l;
	uint64_t begin = 0, of;
	bool memory = true;

	*line = NULL;
	if (find_prefix(m, arena, &prefix, err) != SD_OK || !prefix)
		return prefix ? err->result : SD_OK;
	l = calloc(1, sizeof(*l));
	if (!l)
		return sd_fail_memory(err);
	l->prefix = prefix;
	l->begin = LAYERS_MAX;
	for (size_t i = 0; i < m->ntargets; i++)
		read_key(l, m->targets[i].name);
	if (!sd_config_count(m, SD_CONFIG_LAYERS, &of) || of > LAYERS_MAX) {
		begin = l->begin;
		of = l->end;
	}
	/* Layers behind those that are counted are for prediction, and of their own kind. */
	l->end = of < l->end ? (uint32_t)of : l->end;
	*line = tell(l, begin, of, arena, &memory);
	free(l);
	return memory ? SD_OK : sd_fail_memory(err);
}
