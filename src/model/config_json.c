/* SPDX-License-Identifier: Apache-2.0 */
/* Looks a value up in config.json or a file like it, and puts such a file back. */
#include "model/config_json.h"
#include "base/json.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_DEPTH 8

struct sd_side_file *sd_config_file(struct sd_manifest *m, const char *name)
{
	const struct sd_side_file *file = sd_manifest_side(m, name);

	return file ? &m->side[file - m->side] : NULL;
}

enum sd_result sd_config_store(struct sd_manifest *m, struct sd_side_file *file, const struct sd_json_tree *tree,
			       struct sd_error *err)
{
	size_t length;
	char *text;
	enum sd_result result = sd_json_tree_write(tree, &text, &length, err);

	if (result == SD_OK) {
		file->data = sd_arena_copy(&m->arena, text, length);
		file->size = length;
		if (!file->data)
			result = sd_fail_memory(err);
	}
	free(text);
	return result;
}

struct search {
	const char *path;
	size_t matched[PATH_MAX_DEPTH]; /* by depth: how much of the path the keys so far make */
	void (*take)(void *user, const char *value);
	void *user;
};

/* How much of the path is there with this key behind what its parents made; 0 if it leads elsewhere. */
static size_t extend(const struct search *s, size_t from, const char *key, size_t length)
{
	const char *rest = s->path + from;

	if (strncmp(rest, key, length) != 0 || (rest[length] && rest[length] != '.'))
		return 0;
	return from + length + (rest[length] == '.');
}

static enum sd_result take_token(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct search *s = user;
	unsigned depth = token->depth;
	size_t whole = strlen(s->path);

	if (depth == 0 || depth >= PATH_MAX_DEPTH)
		return SD_OK;
	switch (token->kind) {
	case SD_JSON_KEY:
		if (depth == 1 || s->matched[depth - 1])
			s->matched[depth] = extend(s, s->matched[depth - 1], token->text, token->length);
		else
			s->matched[depth] = 0;
		break;
	case SD_JSON_ARRAY:
		s->matched[depth + 1 < PATH_MAX_DEPTH ? depth + 1 : depth] = s->matched[depth];
		break;
	case SD_JSON_WORD:
		if (token->text[0] == 'n')
			break;
		/* fall through */
	case SD_JSON_STRING:
	case SD_JSON_NUMBER:
		if (s->matched[depth] == whole) {
			char *value = strndup(token->text, token->length);

			if (!value)
				return sd_fail_memory(err);
			s->take(s->user, value);
			free(value);
		}
		break;
	default:
		break;
	}
	return SD_OK;
}

void sd_config_find(const struct sd_side_file *file, const char *path, void (*take)(void *user, const char *value),
		    void *user)
{
	struct search search = {.path = path, .take = take, .user = user};

	if (sd_json_parse(file->data, file->size, take_token, &search, NULL) != SD_OK)
		return; /* what a tool cannot read there it does without */
}

struct place {
	char *text;
	size_t size;
};

static void take_first(void *user, const char *value)
{
	struct place *place = user;

	if (!*place->text)
		snprintf(place->text, place->size, "%s", value);
}

void sd_config_text(const struct sd_side_file *file, const char *path, char *text, size_t size)
{
	struct place place = {text, size};

	*text = '\0';
	if (file)
		sd_config_find(file, path, take_first, &place);
}

/* The names of a number, and the objects of config.json that may have it. */
static const char *const NAMES[][6] = {
	[SD_CONFIG_LAYERS] = {"num_hidden_layers", "num_layers", "n_layer", "n_layers"},
	[SD_CONFIG_EXPERTS] = {"num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts",
			       "num_routed_experts"},
};
static const char *const OBJECTS[] = {"", "text_config.", "llm_config.", "language_config.",
				      "thinker_config.text_config."};

struct count {
	uint64_t number;
	bool found;
};

static void take_count(void *user, const char *value)
{
	struct count *count = user;

	if (!count->found)
		count->found = sd_text_number(value, &count->number);
}

bool sd_config_count(const struct sd_manifest *m, enum sd_config_number which, uint64_t *count)
{
	const struct sd_side_file *config = sd_manifest_side(m, "config.json");
	struct count found = {.found = false};
	char path[128];

	for (size_t o = 0; config && o < sizeof(OBJECTS) / sizeof(*OBJECTS); o++)
		for (size_t n = 0; NAMES[which][n] && !found.found; n++) {
			snprintf(path, sizeof(path), "%s%s", OBJECTS[o], NAMES[which][n]);
			sd_config_find(config, path, take_count, &found);
		}
	*count = found.number;
	return found.found;
}

/* The object at a path that ends in a dot; the root for "". */
static const struct sd_json_node *object_at(const struct sd_json_node *object, const char *path)
{
	char key[64];

	for (const char *dot; object && (dot = strchr(path, '.')); path = dot + 1) {
		snprintf(key, sizeof(key), "%.*s", (int)(dot - path), path);
		object = sd_json_get(object, key);
	}
	return object;
}

size_t sd_config_numbers(const struct sd_json_tree *tree, enum sd_config_number which, struct sd_json_node **nodes,
			 size_t room)
{
	size_t found = 0;

	for (size_t o = 0; o < sizeof(OBJECTS) / sizeof(*OBJECTS); o++)
		for (size_t n = 0; NAMES[which][n] && found < room; n++) {
			struct sd_json_node *node = sd_json_get(object_at(tree->root, OBJECTS[o]), NAMES[which][n]);

			if (node)
				nodes[found++] = node;
		}
	return found;
}

/* The two numbers of a list. */
struct pair {
	uint64_t *number;
	unsigned found;
};

static void take_side(void *user, const char *value)
{
	struct pair *pair = user;

	if (pair->found < 2 && sd_text_number(value, &pair->number[pair->found]))
		pair->found++;
}

bool sd_config_blocks(const struct sd_manifest *m, uint64_t block[2])
{
	const struct sd_side_file *config = sd_manifest_side(m, "config.json");
	struct pair pair = {block, 0};

	if (config)
		sd_config_find(config, "quantization_config.weight_block_size", take_side, &pair);
	if (config && !pair.found)
		sd_config_find(config, "text_config.quantization_config.weight_block_size", take_side, &pair);
	return pair.found == 2;
}
