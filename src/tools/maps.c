/* SPDX-License-Identifier: Apache-2.0 */
/* Where maps lie. */
#include "tools/maps.h"
#include "tools/base_model.h"
#include "base/advice.h"
#include "base/json.h"
#include "base/text.h"
#include "renaming/rename.h"
#include "model/config_json.h"
#include "model/siblings.h"
#include "tools/tool.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* No map is larger. */
#define MAP_BYTES_MAX (1 << 20)

#define FOLDERS_MAX 16

struct folders {
	struct sd_arena arena;
	const char *path[FOLDERS_MAX];
	int n;
};

struct library {
	struct sd_map_library base;
	struct sd_arena arena;
	struct folders *folders;
	const char *beside; /* the folder of the map that uses others */
};

static void add_folder(struct folders *f, const char *path)
{
	struct stat st;

	if (path && f->n < FOLDERS_MAX && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		f->path[f->n++] = path;
}

/* The path of a map by name, or NULL. */
static const char *locate(struct sd_arena *arena, const char *folder, const char *name)
{
	const char *path = folder ? sd_arena_printf(arena, "%s/%s.map", folder, name) : NULL;

	return path && access(path, F_OK) == 0 ? path : NULL;
}

/* Cuts off the last part of a path. False where there is none. */
static bool go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash)
		*slash = '\0';
	return slash != NULL;
}

/*
 * The maps of the source tree, where the program lies in a build tree: config.status is beside it, and the build tree
 * lies in the source tree or is that. NULL: the program is installed.
 */
static const char *source_maps(struct sd_arena *arena)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	const char *status;

	path[n > 0 ? n : 0] = '\0';
	status = go_up(path) ? sd_arena_printf(arena, "%s/config.status", path) : NULL;
	if (!status || access(status, F_OK) != 0)
		return NULL;
	for (int up = 0; up < 4; up++) {
		const char *folder = sd_arena_printf(arena, "%s/src/maps", path);

		if (locate(arena, folder, "moe"))
			return folder;
		if (!go_up(path))
			break;
	}
	return NULL;
}

/* SD_MAPPATH alone, if it is set: folders with colons between them. Else the maps of the source tree, for a program in
 * a build tree, or those that are installed. */
static void find_folders(struct folders *f)
{
	const char *set = getenv("SD_MAPPATH");

	if (!set) {
		const char *source = source_maps(&f->arena);

		add_folder(f, source ? source : SD_MAPDIR);
		return;
	}
	while (*set) {
		size_t length = strcspn(set, ":");

		add_folder(f, sd_arena_text(&f->arena, set, length));
		set += length + (set[length] == ':');
	}
}

static enum sd_result read_text(const char *path, struct sd_arena *arena, const char **text, struct sd_error *err)
{
	FILE *file = fopen(path, "re");
	char *room = file ? malloc(MAP_BYTES_MAX + 1) : NULL;
	enum sd_result result = SD_OK;
	size_t n;

	if (!file)
		return sd_fail_errno(err, errno, "%s", path);
	errno = 0;
	n = room ? fread(room, 1, MAP_BYTES_MAX + 1, file) : 0;
	if (ferror(file))
		result = sd_fail_errno(err, errno, "%s", path);
	else if (n > MAP_BYTES_MAX)
		result = sd_fail(err, SD_INPUT, "%s: larger than any map", path);
	else if (room && !sd_text_is_utf8(room, n))
		result = sd_fail(err, SD_INPUT, "%s: not a text file in UTF-8", path);
	else if (!(*text = room ? sd_arena_text(arena, room, n) : NULL))
		result = sd_fail_memory(err);
	fclose(file);
	free(room);
	return result;
}

static enum sd_result library_read(struct sd_map_library *base, const char *name, const char **text, const char **file,
				   struct sd_error *err)
{
	struct library *library = (struct library *)base;
	const char *path = strchr(name, '/') ? NULL : locate(&library->arena, library->beside, name);

	for (int i = 0; i < library->folders->n && !path; i++)
		if (!strchr(name, '/'))
			path = locate(&library->arena, library->folders->path[i], name);
	if (library->arena.failed)
		return sd_fail_memory(err);
	if (!path)
		return sd_fail(err, SD_INPUT, "there is no map %s", name);
	*file = strrchr(path, '/') + 1;
	return read_text(path, &library->arena, text, err);
}

/* A map that was found by its name is called by its file's name alone in errors. */
static enum sd_result open_path(struct folders *folders, const char *path, bool by_name, struct sd_map **map,
				struct sd_error *err)
{
	struct library library = {.base = {library_read}, .folders = folders, .beside = "."};
	const char *slash = strrchr(path, '/'), *text;
	enum sd_result result = read_text(path, &library.arena, &text, err);

	if (slash)
		library.beside = sd_arena_text(&library.arena, path, (size_t)(slash - path));
	if (result == SD_OK)
		result = library.beside
				 ? sd_map_parse(by_name && slash ? slash + 1 : path, text, &library.base, map, err)
				 : sd_fail_memory(err);
	sd_arena_free(&library.arena);
	return result;
}

static int is_map(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > 4 && strcmp(entry->d_name + length - 4, ".map") == 0;
}

/* Whether two names have the same letters and digits. */
static bool is_spelt_alike(const char *a, const char *b)
{
	for (;; a++, b++) {
		while (*a && !isalnum((unsigned char)*a))
			a++;
		while (*b && !isalnum((unsigned char)*b))
			b++;
		if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
			return false;
		if (!*a)
			return true;
	}
}

/* The map whose name was meant, or NULL. */
static const char *find_alike(struct folders *folders, const char *name)
{
	const char *found = NULL;

	for (int i = 0; i < folders->n && !found; i++) {
		struct dirent **entries;
		int n = scandir(folders->path[i], &entries, is_map, alphasort);

		folders->arena.failed = folders->arena.failed || (n < 0 && errno == ENOMEM);
		for (int k = 0; k < n; k++) {
			size_t length = strlen(entries[k]->d_name) - strlen(".map");
			const char *other = sd_arena_text(&folders->arena, entries[k]->d_name, length);

			if (other && !found && is_spelt_alike(name, other))
				found = other;
			free(entries[k]);
		}
		if (n >= 0)
			free(entries);
	}
	return found;
}

enum sd_result sd_maps_open(const char *name, struct sd_map **map, struct sd_error *err)
{
	size_t length = strlen(name);
	struct folders folders = {0};
	const char *path = NULL;
	enum sd_result result;

	find_folders(&folders);
	if (strchr(name, '/') || (length > 4 && strcmp(name + length - 4, ".map") == 0))
		path = name;
	for (int i = 0; i < folders.n && !path; i++)
		path = locate(&folders.arena, folders.path[i], name);
	if (folders.arena.failed) {
		result = sd_fail_memory(err);
	} else if (path) {
		result = open_path(&folders, path, path != name, map, err);
	} else {
		const char *alike = find_alike(&folders, name);
		const char *here = sd_arena_printf(&folders.arena, "./%s.map", name);
		bool is_here = here && access(here, R_OK) == 0;

		result = folders.arena.failed ? sd_fail_memory(err)
					      : sd_fail(err, SD_USAGE,
							is_here ? "there is no map \"%s\"%s%s; for the file here: "
								  "--map ./%s.map"
								: "there is no map \"%s\"%s%s; sd-rename --list-maps "
								  "shows them, and a path to one has a slash in it",
							name, alike ? ", but " : "", alike ? alike : "", name);
	}
	sd_arena_free(&folders.arena);
	return result;
}

/* Calls take for every map that is no part of others, by name. take keeps the map if it sets it to NULL. */
static enum sd_result each_map(enum sd_result (*take)(void *user, struct sd_map **map, struct sd_error *err),
			       void *user, struct sd_error *err)
{
	struct folders folders = {0};
	enum sd_result result = SD_OK;

	find_folders(&folders);
	for (int i = 0; i < folders.n && result == SD_OK; i++) {
		struct dirent **entries;
		int n = scandir(folders.path[i], &entries, is_map, alphasort);

		if (n < 0 && errno == ENOMEM)
			result = sd_fail_memory(err);
		for (int k = 0; k < n; k++) {
			const char *path =
				sd_arena_printf(&folders.arena, "%s/%s", folders.path[i], entries[k]->d_name);
			struct sd_map *map = NULL;

			if (result == SD_OK)
				result = path ? open_path(&folders, path, true, &map, err) : sd_fail_memory(err);
			if (result == SD_OK && !sd_map_is_part(map))
				result = take(user, &map, err);
			sd_map_free(map);
			free(entries[k]);
		}
		if (n >= 0)
			free(entries);
	}
	if (result == SD_OK && folders.arena.failed)
		result = sd_fail_memory(err);
	sd_arena_free(&folders.arena);
	return result;
}

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

static enum sd_result pass_token(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	(void)user;
	(void)token;
	(void)err;
	return SD_OK;
}

/* A file that cannot be read is blamed, before keys are asked instead of it. */
static enum sd_result check_config(const struct sd_side_file *file, struct sd_error *err)
{
	if (sd_json_parse(file->data, file->size, pass_token, NULL, err) == SD_OK)
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

bool sd_maps_pass(const struct sd_manifest *in)
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
	struct sd_side_file config;
	enum sd_result result = sd_base_model_config(f->in, &f->arena, &config, err);

	if (result != SD_OK || !config.data)
		return result;
	f->base = &config;
	f->file = config.name;
	result = check_config(&config, err);
	for (size_t i = 0; i < 2 && result == SD_OK && !f->n; i++) {
		f->field = names_of_model[i].field;
		result = each_map(by_config, f, err);
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
			result = each_map(by_config, f, err);
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
	if (result == SD_OK && !f->n && sd_maps_pass(f->in))
		result = sd_fail(err, SD_INPUT, "nothing tells which model this adapter is for: say --map NAME");
	if (result == SD_OK && !f->n) {
		*file = NULL;
		result = each_map(by_keys, f, err);
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

enum sd_result sd_maps_find(const struct sd_manifest *in, const char *to, struct sd_map **map, struct sd_error *err)
{
	struct finding f = {.in = in, .to = to};
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
	while (f.n)
		sd_map_free(f.fits[--f.n].map);
	free(f.fits);
	sd_arena_free(&f.arena);
	return result;
}

enum sd_result sd_maps_nearest(const struct sd_manifest *in, struct sd_map **map, struct sd_error *err)
{
	struct finding f = {.in = in};
	size_t least = SIZE_MAX, best = 0;
	enum sd_result result = is_plain_adapter(in) ? SD_OK : each_map(by_keys, &f, err);

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
	while (f.n)
		sd_map_free(f.fits[--f.n].map);
	free(f.fits);
	sd_arena_free(&f.arena);
	return result;
}

/* Tells of a map in which layout the checkpoint is: the one whose keys there are more of. */
static enum sd_result tell_layout(const struct finding *f, const struct sd_map *map, bool sure,
				  sd_maps_take_layout take, void *user, struct sd_error *err)
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

enum sd_result sd_maps_layouts(const struct sd_manifest *in, sd_maps_take_layout take, void *user, struct sd_error *err)
{
	struct finding f = {.in = in};
	enum sd_result result = SD_OK;
	bool sure;

	for (size_t i = 0; i < sizeof(names_of_model) / sizeof(*names_of_model) && result == SD_OK && !f.n; i++) {
		f.file = names_of_model[i].file;
		f.field = names_of_model[i].field;
		if (sd_manifest_side(in, f.file))
			result = each_map(by_config, &f, err);
	}
	if (result == SD_OK && !f.n && !is_plain_adapter(in) &&
	    check_known(sd_manifest_side(in, "config.json"), "config.json", err) == SD_OK)
		result = each_map(by_keys, &f, err);
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
	while (f.n)
		sd_map_free(f.fits[--f.n].map);
	free(f.fits);
	sd_arena_free(&f.arena);
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

enum sd_result sd_maps_note_other(const struct sd_manifest *in, const struct sd_map *map, bool strict,
				  struct sd_error *err)
{
	struct finding f = {.in = in, .file = "config.json", .field = "model_type"};
	enum sd_result result = SD_OK;
	struct model_type type;
	const char *names = "";
	bool other = model_type_of(in, &type) && !sd_map_is_for(map, type.text);

	if (other)
		result = each_map(by_config, &f, err);
	if (result == SD_OK && f.n)
		names = name_fits(&f, &type.arena);
	if (result == SD_OK && !names)
		result = sd_fail_memory(err);
	if (result == SD_OK && f.n)
		result = sd_doubt(strict, err, "config.json says model_type %s, for which there is map %s", type.text,
				  names);
	else if (result == SD_OK && other && is_for_others(in, map))
		sd_note("config.json says model_type %s, and map %s is for %s", type.text, sd_map_name(map),
			sd_map_model(map));
	while (f.n)
		sd_map_free(f.fits[--f.n].map);
	free(f.fits);
	sd_arena_free(&type.arena);
	return result;
}

static void print_string(const char *text)
{
	sd_json_write(stdout, text, SD_JSON_ASCII);
}

/* The values of an option: "a|b" as an array. */
static void print_values(const char *values)
{
	for (const char *open = "["; *values; open = ",") {
		size_t length = strcspn(values, "|");
		char word[4097]; /* words of maps are no longer */

		snprintf(word, sizeof(word), "%.*s", (int)length, values);
		fputs(open, stdout);
		print_string(word);
		values += length + (values[length] == '|');
	}
	putchar(']');
}

static enum sd_result print_map_json(void *user, struct sd_map **map, struct sd_error *err)
{
	const char *name, *values;
	bool from_keys;

	(void)user;
	(void)err;
	printf("{\"map\":");
	print_string(sd_map_name(*map));
	for (int side = 0; side < 2; side++) {
		fputs(side ? "," : ",\"layouts\":[", stdout);
		print_string(sd_map_layout(*map, side));
	}
	printf("],\"options\":{");
	for (size_t i = 0; sd_map_option(*map, i, &name, &values, &from_keys); i++) {
		fputs(i ? "," : "", stdout);
		print_string(name);
		putchar(':');
		print_values(values);
	}
	puts("}}");
	return SD_OK;
}

static enum sd_result print_map(void *user, struct sd_map **map, struct sd_error *err)
{
	const char *name, *values;
	bool from_keys;

	(void)user;
	(void)err;
	printf("%s\t%s\t%s\t", sd_map_name(*map), sd_map_layout(*map, 0), sd_map_layout(*map, 1));
	for (size_t i = 0; sd_map_option(*map, i, &name, &values, &from_keys); i++)
		printf("%s%s=%s", i ? " " : "", name, values);
	putchar('\n');
	return SD_OK;
}

enum sd_result sd_maps_list(bool json, struct sd_error *err)
{
	return each_map(json ? print_map_json : print_map, NULL, err);
}

void sd_option_define(struct sd_define **defines, size_t *count, size_t *room, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text)
		sd_misuse("-D %s: it is -D NAME=VALUE", text);
	*equals = '\0';
	if (!sd_array_grow(defines, *count, room, sizeof(**defines)))
		sd_no_memory();
	(*defines)[(*count)++] = (struct sd_define){text, equals + 1};
}
