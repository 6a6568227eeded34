/* SPDX-License-Identifier: Apache-2.0 */
/* The base model of an adapter. */
#include "tools/base_model.h"
#include "base/text.h"
#include "base/io.h"
#include "model/config_json.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No config.json is larger. */
#define CONFIG_BYTES_MAX (1u << 20)

struct field {
	struct sd_arena *arena;
	const char *text;
};

static void take_first(void *user, const char *value)
{
	struct field *field = user;

	if (!field->text)
		field->text = sd_arena_text(field->arena, value, strlen(value));
}

static const char *field_of(const struct sd_side_file *file, const char *name, struct sd_arena *arena)
{
	struct field field = {.arena = arena};

	sd_config_find(file, name, take_first, &field);
	return field.text;
}

/* All of a regular file that is not too large, with a NUL behind it, or NULL. */
static char *read_file(struct sd_arena *arena, const char *path, size_t *length)
{
	int fd = path ? sd_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0) : -1;
	struct stat st;
	char *text = NULL;
	bool whole = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= CONFIG_BYTES_MAX;

	if (whole) {
		text = sd_arena_alloc(arena, (size_t)st.st_size + 1);
		whole = text && sd_read_upto(fd, text, (size_t)st.st_size, length, NULL) == SD_OK;
	}
	if (fd >= 0)
		close(fd);
	return whole ? text : NULL;
}

/* Whether it can be one of a model of the hub, "NAME" or "OWNER/NAME", and so a part of a path. */
static bool is_hub_name(const char *name)
{
	const char *slash = strchr(name, '/');

	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_./", *c))
			return false;
	return *name && !strstr(name, "..") && (!slash || (slash != name && slash[1] && !strchr(slash + 1, '/')));
}

/* The folder of huggingface_hub's cache, as it is found there. */
static const char *find_cache(struct sd_arena *arena)
{
	static const struct {
		const char *variable, *below;
	} places[] = {{"HF_HUB_CACHE", ""},
		      {"HUGGINGFACE_HUB_CACHE", ""},
		      {"HF_HOME", "/hub"},
		      {"XDG_CACHE_HOME", "/huggingface/hub"},
		      {"HOME", "/.cache/huggingface/hub"}};

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		const char *value = getenv(places[i].variable);

		if (value && *value)
			return sd_arena_printf(arena, "%s%s", value, places[i].below);
	}
	return NULL;
}

/* The path of a model's config.json in the cache: that of the commit which the revision is, there. */
static const char *find_cached(struct sd_arena *arena, const char *name, const char *revision)
{
	const char *cache = find_cache(arena), *slash = strchr(name, '/');
	size_t length;
	char *folder, *commit;

	if (!cache || !is_hub_name(name) || !is_hub_name(revision))
		return NULL;
	folder = slash ? sd_arena_printf(arena, "%s/models--%.*s--%s", cache, (int)(slash - name), name, slash + 1)
		       : sd_arena_printf(arena, "%s/models--%s", cache, name);
	commit = folder ? read_file(arena, sd_arena_printf(arena, "%s/refs/%s", folder, revision), &length) : NULL;
	if (commit)
		commit[strcspn(commit, "\n")] = '\0';
	if (commit && !is_hub_name(commit))
		return NULL;
	return folder ? sd_arena_printf(arena, "%s/snapshots/%s/config.json", folder, commit ? commit : revision)
		      : NULL;
}

enum sd_result sd_base_model_config(const struct sd_manifest *in, struct sd_arena *arena, struct sd_side_file *file,
				    struct sd_error *err)
{
	const struct sd_side_file *config = sd_manifest_side(in, "adapter_config.json");
	const char *name = config ? field_of(config, "base_model_name_or_path", arena) : NULL;
	const char *revision = name ? field_of(config, "revision", arena) : NULL;

	*file = (struct sd_side_file){.data = NULL};
	if (name && *name) {
		file->name = sd_arena_printf(arena, "%s/config.json", name);
		file->data = read_file(arena, file->name, &file->size);
	}
	if (name && *name && !file->data) {
		file->name = find_cached(arena, name, revision ? revision : "main");
		file->data = read_file(arena, file->name, &file->size);
	}
	return arena->failed ? sd_fail_memory(err) : SD_OK;
}
