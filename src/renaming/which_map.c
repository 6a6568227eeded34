/* SPDX-License-Identifier: Apache-2.0 */
/* Which map a checkpoint is for: by config.json, by the base model of an adapter, by the keys. */
#include "renaming/which_map.h"
#include "base/advice.h"
#include "base/json.h"
#include "model/config_json.h"
#include "model/siblings.h"
#include "renaming/rename.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a side file says which model this is, the surest first: kin share an architecture and differ in their type. */
static const struct {
	const char *file, *field;
} names_of_model[] = {
	{"config.json", "model_type"},
	{"config.json", "architectures"},
	{"adapter_config.json", "auto_mapping.base_model_class"},
};

/* Maps that an error or a note names. */
#define NAMED_MAX 5

/* A map, and how many keys it knows where it was found by them. */
struct fit {
	struct sd_map *map;
	size_t keys;
};

struct finding {
	struct sd_maps *maps;
	const struct sd_manifest *in;
	const char *to;                  /* a layout that the map has to know, or NULL */
	const char *file, *field;        /* what by_config looks at */
	const struct sd_side_file *base; /* a file in place of that */
	const struct sd_map *asked;      /* by take_model */
	bool is_for;
	const char *other; /* about a map that is for the model and does not know the layout; or NULL */
	struct sd_arena arena;
	struct fit *fits;
	size_t n, room;
};

static void free_finding(struct finding *f)
{
	while (f->n)
		sd_map_free(f->fits[--f->n].map);
	free(f->fits);
	sd_arena_free(&f->arena);
}

static void take_model(void *user, const char *value)
{
	struct finding *f = user;

	f->is_for = f->is_for || sd_map_is_for(f->asked, value);
}

static bool is_asked_for(const struct finding *f, const struct sd_map *map)
{
	return !f->to || strcmp(f->to, sd_map_layout(map, 0)) == 0 || strcmp(f->to, sd_map_layout(map, 1)) == 0;
}

static enum sd_result keep(struct finding *f, struct sd_map **map, size_t keys, struct sd_error *err)
{
	if (!sd_array_grow(&f->fits, f->n, &f->room, sizeof(*f->fits)))
		return sd_fail_memory(err);
	f->fits[f->n++] = (struct fit){*map, keys};
	*map = NULL;
	return SD_OK;
}

static enum sd_result keep_other(struct finding *f, const struct sd_map *map, struct sd_error *err)
{
	f->other = sd_arena_printf(&f->arena, "what %s says, whose map is %s, with %s and %s", f->file,
				   sd_map_name(map), sd_map_layout(map, 0), sd_map_layout(map, 1));
	return f->other ? SD_OK : sd_fail_memory(err);
}

static enum sd_result by_config(void *user, struct sd_map **map, struct sd_error *err)
{
	struct finding *f = user;

	f->asked = *map;
	f->is_for = false;
	sd_config_find(f->base ? f->base : sd_manifest_side(f->in, f->file), f->field, take_model, f);
	if (!f->is_for)
		return SD_OK;
	if (is_asked_for(f, *map))
		return keep(f, map, 0, err);
	return f->other ? SD_OK : keep_other(f, *map, err);
}

/* How many keys the map knows: those of the layout that is not asked for, else of the one of which there are more. */
static enum sd_result count_keys(const struct finding *f, const struct sd_map *map, size_t *keys, struct sd_error *err)
{
	struct sd_evidence evidence;
	enum sd_result result = sd_rename_evidence(&(struct sd_rename){.map = map}, f->in, &evidence, err);

	*keys = 0;
	for (int side = 0; result == SD_OK && side < 2; side++)
		if (evidence.keys[side] > *keys && (!f->to || strcmp(f->to, sd_map_layout(map, side)) != 0))
			*keys = evidence.keys[side];
	return result;
}

static enum sd_result knows_keys(const struct finding *f, const struct sd_map *map, bool *yes, struct sd_error *err)
{
	size_t keys;
	enum sd_result result = count_keys(f, map, &keys, err);

	*yes = keys;
	return result;
}

static enum sd_result is_first_choice(const struct finding *f, const struct sd_map *map, bool *yes,
				      struct sd_error *err)
{
	(void)f;
	(void)err;
	*yes = !sd_map_is_for_if_alone(map);
	return SD_OK;
}

/* Whether the map knows each name as one of its models'. */
static enum sd_result knows_all(const struct finding *f, const struct sd_map *map, bool *yes, struct sd_error *err)
{
	size_t unknown;
	enum sd_result result = sd_rename_unknown(&(struct sd_rename){.map = map}, f->in, &unknown, err);

	*yes = !unknown;
	return result;
}

/* What is another map under its own name does the same. */
static enum sd_result by_keys(void *user, struct sd_map **map, struct sd_error *err)
{
	struct finding *f = user;
	size_t keys = 0;

	if (!sd_map_is_alias(*map) && is_asked_for(f, *map) && count_keys(f, *map, &keys, err) != SD_OK)
		return err->result;
	return keys ? keep(f, map, keys, err) : SD_OK;
}

/* Of several maps that fit, those are left for which it is so, if it is for any. */
static enum sd_result narrow(struct finding *f,
			     enum sd_result (*is_so)(const struct finding *f, const struct sd_map *map, bool *yes,
						     struct sd_error *err),
			     struct sd_error *err)
{
	size_t n = 0;

	for (size_t i = 0; f->n > 1 && i < f->n; i++) {
		struct fit fit = f->fits[i];
		bool yes = false;

		if (is_so(f, fit.map, &yes, err) != SD_OK)
			return err->result;
		if (yes) {
			f->fits[i] = f->fits[n];
			f->fits[n++] = fit;
		}
	}
	while (n && f->n > n)
		sd_map_free(f->fits[--f->n].map);
	return SD_OK;
}

/* A file that cannot be read is blamed, before keys are asked instead of it. */
static enum sd_result check_config(const struct sd_side_file *file, struct sd_error *err)
{
	if (sd_json_parse(file->data, file->size, NULL, NULL, err) == SD_OK)
		return SD_OK;
	return sd_error_at(err, "%s", file->name);
}

/* Those that know most keys first, else by name, as they were found. */
static int compare_fits(const void *a, const void *b)
{
	const struct fit *left = a, *right = b;

	if (left->keys != right->keys)
		return left->keys < right->keys ? 1 : -1;
	return strcmp(sd_map_name(left->map), sd_map_name(right->map));
}

/* The names of the maps that fit, the best ones if there are many; NULL: out of memory. */
static const char *name_fits(const struct finding *f, struct sd_arena *arena)
{
	const char *names = "";

	qsort(f->fits, f->n, sizeof(*f->fits), compare_fits);
	for (size_t i = 0; i < f->n && i < NAMED_MAX && names; i++)
		names = sd_arena_printf(arena, "%s%s%s", names, i ? ", " : "", sd_map_name(f->fits[i].map));
	if (names && f->n > NAMED_MAX)
		names = sd_arena_printf(arena, "%s and %zu more", names, f->n - NAMED_MAX);
	return names;
}

struct model_type {
	struct sd_arena arena;
	const char *text;
};

static void take_text(void *user, const char *value)
{
	struct model_type *type = user;

	type->text = sd_arena_text(&type->arena, value, strlen(value));
}

/* config.json's model_type, or NULL. */
static const char *model_type_of(const struct sd_manifest *in, struct model_type *type)
{
	const struct sd_side_file *config = sd_manifest_side(in, "config.json");

	*type = (struct model_type){.text = NULL};
	if (config)
		sd_config_find(config, "model_type", take_text, type);
	return type->text;
}

/* Takes the first text of a field. */
static void take_first(void *user, const char *value)
{
	struct model_type *type = user;

	if (!type->text)
		take_text(user, value);
}

/* Fails where config.json says what the model is, and no map is for that: the keys of other families look alike. */
static enum sd_result check_known(const struct sd_side_file *config, const char *name, struct sd_error *err)
{
	static const char *const fields[] = {"model_type", "architectures"};
	enum sd_result result = SD_OK;

	for (size_t i = 0; config && result == SD_OK && i < 2; i++) {
		struct model_type said = {.text = NULL};

		sd_config_find(config, fields[i], take_first, &said);
		if (said.text)
			result = sd_fail(err, SD_INPUT,
					 "%s %s of %s has no map; where the map of another family fits, say --map "
					 "NAME",
					 i ? "architecture" : "model_type", said.text, name);
		sd_arena_free(&said.arena);
	}
	return result;
}

/* Whether all tensors are those of a LoRA adapter of attention: no map has other names for these. */
static bool is_plain_adapter(const struct sd_manifest *in)
{
	for (size_t i = 0; i < in->ntargets; i++)
		if (!strstr(in->targets[i].name, ".lora_") || !strstr(in->targets[i].name, "_attn.") ||
		    strncmp(in->targets[i].name, "base_model.model.model.", 23) != 0)
			return false;
	return in->ntargets;
}

bool sd_adapter_passes(const struct sd_manifest *in)
{
	bool lora = false;

	for (size_t i = 0; i < in->ntargets; i++) {
		lora = lora || strstr(in->targets[i].name, ".lora_");
		if (strstr(in->targets[i].name, ".experts."))
			return false;
	}
	return lora;
}

/* The one map that is left, or why there is none. file: what told of it, NULL if the keys did. */
static enum sd_result take_one(struct finding *f, const char *file, struct sd_map **map, struct sd_error *err)
{
	struct model_type type;
	const char *names;

	if (f->n == 1) {
		*map = f->fits[--f->n].map;
		return SD_OK;
	}
	if (!f->n)
		return sd_fail(err, SD_INPUT, "no map%s%s fits, neither by config.json nor by the keys: say --map NAME",
			       f->to ? " with a layout " : "", f->to ? f->to : "");
	type = (struct model_type){.text = NULL};
	names = name_fits(f, &type.arena);
	if (!names)
		sd_fail_memory(err);
	else if (file)
		sd_fail(err, SD_INPUT, "by %s these maps fit: %s; say which: --map NAME", file, names);
	else
		sd_fail(err, SD_INPUT,
			"no config.json tells the model_type, and by the keys these maps fit: %s; say which: --map "
			"NAME",
			names);
	sd_arena_free(&type.arena);
	return err->result;
}

/* How many of the maps are for their models in the first place. */
static size_t count_first_choices(const struct finding *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		n += !sd_map_is_for_if_alone(f->fits[i].map);
	return n;
}

/*
 * A map between transformers 4 and 5 is meant where the keys are those of 5. Where they are those of 4, the other map
 * is for them, whatever stands in front of them.
 */
static enum sd_result drop_second_choices(struct finding *f, struct sd_error *err)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++) {
		struct fit fit = f->fits[i];
		struct sd_evidence evidence = {.key = {NULL}};

		if (sd_map_is_for_if_alone(fit.map) &&
		    sd_rename_evidence(&(struct sd_rename){.map = fit.map}, f->in, &evidence, err) != SD_OK)
			return err->result;
		if (evidence.key[0] && !evidence.key[1] && (!f->to || strcmp(f->to, sd_map_layout(fit.map, 1)) != 0)) {
			f->fits[i] = f->fits[n];
			f->fits[n++] = fit;
		}
	}
	/* Those to be dropped stand in front. */
	for (size_t i = 0; i < n; i++)
		sd_map_free(f->fits[i].map);
	memmove(f->fits, f->fits + n, (f->n - n) * sizeof(*f->fits));
	f->n -= n;
	return SD_OK;
}

/*
 * By the keys one map is left, which is not the first choice. It has to be for what they are, and not only for whatever
 * stands in front of them.
 */
static enum sd_result check_second_choice(struct finding *f, const char *first, struct sd_error *err)
{
	const struct sd_map *map;
	const char *key, *edit;
	size_t extra = 0;

	if (!*first || !f->n || count_first_choices(f))
		return SD_OK;
	map = f->fits[0].map;
	key = sd_unusual_beginning(f->in, &extra);
	if (!key)
		return SD_OK;
	edit = sd_advice_edit(&f->arena, SD_ADVICE_FRONT, key, extra, "");
	if (!edit)
		return sd_fail_memory(err);
	return sd_fail(err, SD_INPUT,
		       "%s begins otherwise than map %s has it, and map %s takes any beginning: put sd-rename -e '%s' "
		       "before this, or say --map NAME",
		       key, first, sd_map_name(map), edit);
}

/* By the config.json of an adapter's base model, where that is on this machine. */
static enum sd_result by_base_model(struct finding *f, struct sd_error *err)
{
	struct sd_side_file config = {.data = NULL};
	enum sd_result result = f->maps->base_config ? f->maps->base_config(f->in, &f->arena, &config, err) : SD_OK;

	if (result != SD_OK || !config.data)
		return result;
	f->base = &config;
	f->file = config.name;
	result = check_config(&config, err);
	for (size_t i = 0; i < 2 && result == SD_OK && !f->n; i++) {
		f->field = names_of_model[i].field;
		result = f->maps->each(f->maps, by_config, f, err);
	}
	if (result == SD_OK && !f->n && !f->other && !is_plain_adapter(f->in))
		result = check_known(&config, config.name, err);
	f->base = NULL;
	return result;
}

/* The maps that fit, the best ones only. *file: what told of them, NULL if the keys did. */
static enum sd_result find_fits(struct finding *f, const char **file, struct sd_error *err)
{
	enum sd_result result = SD_OK;
	char first[64] = "";

	for (size_t i = 0; i < sizeof(names_of_model) / sizeof(*names_of_model) && result == SD_OK && !f->n; i++) {
		*file = f->file = names_of_model[i].file;
		f->field = names_of_model[i].field;
		if (!sd_manifest_side(f->in, f->file))
			continue;
		result = check_config(sd_manifest_side(f->in, f->file), err);
		if (result == SD_OK)
			result = f->maps->each(f->maps, by_config, f, err);
	}
	if (result == SD_OK && !f->n) {
		result = by_base_model(f, err);
		*file = f->file;
	}
	/* Another family's map may know the keys as well, and give them other names. */
	if (result == SD_OK && !f->n && f->other)
		result = sd_fail(err, SD_INPUT, "no map with a layout %s is for %s: say --map NAME", f->to, f->other);
	if (result == SD_OK && !f->n)
		result = check_known(sd_manifest_side(f->in, "config.json"), "config.json", err);
	if (result == SD_OK && !f->n && is_plain_adapter(f->in))
		return SD_OK;
	/* One of which neither a file tells nor experts: whatever a map made of it would be a guess. */
	if (result == SD_OK && !f->n && sd_adapter_passes(f->in))
		result = sd_fail(err, SD_INPUT, "nothing tells which model this adapter is for: say --map NAME");
	if (result == SD_OK && !f->n) {
		*file = NULL;
		result = f->maps->each(f->maps, by_keys, f, err);
	}
	for (size_t i = 0; i < f->n; i++)
		if (!sd_map_is_for_if_alone(f->fits[i].map))
			snprintf(first, sizeof(first), "%s", sd_map_name(f->fits[i].map));
	if (result == SD_OK && *first)
		result = drop_second_choices(f, err);
	if (result == SD_OK)
		result = narrow(f, knows_keys, err);
	if (result == SD_OK && !*file)
		result = narrow(f, knows_all, err);
	if (result == SD_OK && *file)
		result = check_second_choice(f, first, err);
	return result == SD_OK ? narrow(f, is_first_choice, err) : result;
}

enum sd_result sd_which_map(struct sd_maps *maps, const struct sd_manifest *in, const char *to, struct sd_map **map,
			    struct sd_error *err)
{
	struct finding f = {.maps = maps, .in = in, .to = to};
	const char *file = NULL;
	/* A wrapper hides the keys from one map and not from the next: that is no reason for either. */
	enum sd_result result = sd_siblings_wrapper(in, err);
	bool known = true;

	*map = NULL;
	if (result == SD_OK)
		result = find_fits(&f, &file, err);
	/* A map that knows none of an adapter's keys has nothing to do. */
	if (result == SD_OK && is_plain_adapter(in)) {
		known = false;
		for (size_t i = 0; i < f.n && result == SD_OK && !known; i++)
			result = knows_keys(&f, f.fits[i].map, &known, err);
	}
	if (result == SD_OK && known)
		result = take_one(&f, file, map, err);
	free_finding(&f);
	return result;
}

enum sd_result sd_which_map_nearest(struct sd_maps *maps, const struct sd_manifest *in, struct sd_map **map,
				    struct sd_error *err)
{
	struct finding f = {.maps = maps, .in = in};
	size_t least = SIZE_MAX, best = 0;
	enum sd_result result = is_plain_adapter(in) ? SD_OK : f.maps->each(f.maps, by_keys, &f, err);

	*map = NULL;
	/* Of those that know as many, one that is for its models in the first place. */
	for (size_t i = 0; i < f.n && result == SD_OK && least; i++) {
		size_t unknown;
		bool second = sd_map_is_for_if_alone(f.fits[i].map);

		result = sd_rename_unknown(&(struct sd_rename){.map = f.fits[i].map}, in, &unknown, err);
		if (result != SD_OK || unknown > least ||
		    (unknown == least && (second || !sd_map_is_for_if_alone(f.fits[best].map))))
			continue;
		best = i;
		least = unknown;
	}
	if (result == SD_OK && f.n && least) {
		*map = f.fits[best].map;
		f.fits[best].map = NULL;
	}
	free_finding(&f);
	return result;
}

/* Tells of a map in which layout the checkpoint is: the one whose keys there are more of. */
static enum sd_result tell_layout(const struct finding *f, const struct sd_map *map, bool sure, sd_take_layout take,
				  void *user, struct sd_error *err)
{
	struct sd_evidence evidence;
	enum sd_result result = sd_rename_evidence(&(struct sd_rename){.map = map}, f->in, &evidence, err);
	int side;

	if (result != SD_OK)
		return result;
	side = !evidence.key[0] != !evidence.key[1] ? !evidence.key[0] : evidence.keys[1] > evidence.keys[0];
	if (evidence.keys[side])
		take(user, sd_map_name(map), sd_map_layout(map, side), sure);
	return SD_OK;
}

enum sd_result sd_which_layouts(struct sd_maps *maps, const struct sd_manifest *in, sd_take_layout take, void *user,
				struct sd_error *err)
{
	struct finding f = {.maps = maps, .in = in};
	enum sd_result result = SD_OK;
	bool sure;

	for (size_t i = 0; i < sizeof(names_of_model) / sizeof(*names_of_model) && result == SD_OK && !f.n; i++) {
		f.file = names_of_model[i].file;
		f.field = names_of_model[i].field;
		if (sd_manifest_side(in, f.file))
			result = f.maps->each(f.maps, by_config, &f, err);
	}
	if (result == SD_OK && !f.n && !is_plain_adapter(in) &&
	    check_known(sd_manifest_side(in, "config.json"), "config.json", err) == SD_OK)
		result = f.maps->each(f.maps, by_keys, &f, err);
	if (result == SD_OK && f.n && f.fits[0].keys)
		result = narrow(&f, knows_all, err);
	if (result == SD_OK && f.n)
		qsort(f.fits, f.n, sizeof(*f.fits), compare_fits);
	/* By keys it is sure where --map auto would take it: other families may know more of them. */
	sure = !f.n || !f.fits[0].keys || count_first_choices(&f) == 1;
	for (int first = 1; first >= 0; first--)
		for (size_t i = 0; i < f.n && result == SD_OK; i++)
			if (sd_map_is_for_if_alone(f.fits[i].map) != first)
				result = tell_layout(&f, f.fits[i].map, sure, take, user, err);
	free_finding(&f);
	return result;
}

/* Whether any value of a field of config.json is a model that the map is for. */
struct use {
	const struct sd_map *map;
	bool found;
};

static void take_use(void *user, const char *value)
{
	struct use *use = user;

	use->found = use->found || sd_map_is_for(use->map, value);
}

/* Whether config.json names an architecture as transformers has them, and in no way one of the map's. */
static bool is_for_others(const struct sd_manifest *in, const struct sd_map *map)
{
	static const char *const fields[] = {"model_type", "architectures", "text_config.model_type"};
	const struct sd_side_file *config = sd_manifest_side(in, "config.json");
	struct use use = {map, false};
	char architecture[128];

	sd_config_text(config, "architectures", architecture, sizeof(architecture));
	for (size_t i = 0; config && i < sizeof(fields) / sizeof(*fields); i++)
		sd_config_find(config, fields[i], take_use, &use);
	return sd_map_model(map) && strstr(architecture, "For") && !use.found;
}

enum sd_result sd_which_others(struct sd_maps *maps, const struct sd_manifest *in, const struct sd_map *map,
			       struct sd_other_maps *other, struct sd_error *err)
{
	struct finding f = {.maps = maps, .in = in, .file = "config.json", .field = "model_type"};
	enum sd_result result = SD_OK;
	struct model_type type;

	*other = (struct sd_other_maps){.model_type = NULL};
	if (model_type_of(in, &type) && !sd_map_is_for(map, type.text)) {
		result = maps->each(maps, by_config, &f, err);
		other->model_type = sd_arena_text(&other->arena, type.text, strlen(type.text));
		if (result == SD_OK && f.n)
			other->maps = name_fits(&f, &other->arena);
		if (result == SD_OK && (!other->model_type || (f.n && !other->maps)))
			result = sd_fail_memory(err);
		if (result == SD_OK && !f.n && !is_for_others(in, map))
			other->model_type = NULL;
	}
	free_finding(&f);
	sd_arena_free(&type.arena);
	return result;
}
