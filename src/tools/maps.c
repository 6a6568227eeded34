/* SPDX-License-Identifier: Apache-2.0 */
/* Where maps lie. */
#include "tools/maps.h"
#include "tools/base_model.h"
#include "base/json.h"
#include "base/text.h"
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

static enum sd_result each_map(struct sd_maps *maps,
			       enum sd_result (*take)(void *user, struct sd_map **map, struct sd_error *err),
			       void *user, struct sd_error *err)
{
	struct folders folders = {0};
	enum sd_result result = SD_OK;

	(void)maps;
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

/* The maps that are found here, and the base models. */
static struct sd_maps all_maps(void)
{
	return (struct sd_maps){.each = each_map, .base_config = sd_base_model_config};
}

enum sd_result sd_maps_find(const struct sd_manifest *in, const char *to, struct sd_map **map, struct sd_error *err)
{
	struct sd_maps maps = all_maps();

	return sd_which_map(&maps, in, to, map, err);
}

enum sd_result sd_maps_nearest(const struct sd_manifest *in, struct sd_map **map, struct sd_error *err)
{
	struct sd_maps maps = all_maps();

	return sd_which_map_nearest(&maps, in, map, err);
}

enum sd_result sd_maps_layouts(const struct sd_manifest *in, sd_take_layout take, void *user, struct sd_error *err)
{
	struct sd_maps maps = all_maps();

	return sd_which_layouts(&maps, in, take, user, err);
}

enum sd_result sd_maps_note_other(const struct sd_manifest *in, const struct sd_map *map, bool strict,
				  struct sd_error *err)
{
	struct sd_maps maps = all_maps();
	struct sd_other_maps other;
	enum sd_result result = sd_which_others(&maps, in, map, &other, err);

	if (result == SD_OK && other.model_type && other.maps)
		result = sd_doubt(strict, err, "config.json says model_type %s, for which there is map %s",
				  other.model_type, other.maps);
	else if (result == SD_OK && other.model_type)
		result = sd_doubt(strict, err, "config.json says model_type %s, and map %s is for %s", other.model_type,
				  sd_map_name(map), sd_map_model(map));
	sd_arena_free(&other.arena);
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
	return each_map(NULL, json ? print_map_json : print_map, NULL, err);
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
