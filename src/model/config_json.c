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
	[SD_CONFIG_HIDDEN] = {"hidden_size", "d_model", "n_embd"},
	[SD_CONFIG_VOCABULARY] = {"vocab_size"},
	[SD_CONFIG_EXPERT_WIDTH] = {"moe_intermediate_size"},
};
static const char *const OBJECTS[] = {"", "text_config.", "llm_config.", "language_config.",
				      "thinker_config.text_config."};

struct count {
	uint64_t number;
	bool found, several; /* several: that others follow */
};

static void take_count(void *user, const char *value)
{
	struct count *count = user;

	uint64_t number;

	if (!count->found)
		count->found = sd_text_number(value, &count->number);
	else if (!sd_text_number(value, &number) || number != count->number)
		count->several = true;
}

/* The first of the names that config.json has; NULL: none. */
static const char *find_number(const struct sd_manifest *m, enum sd_config_number which, struct count *count)
{
	const struct sd_side_file *config = sd_manifest_side(m, "config.json");
	char path[128];

	for (size_t o = 0; config && o < sizeof(OBJECTS) / sizeof(*OBJECTS); o++)
		for (size_t n = 0; NAMES[which][n]; n++) {
			snprintf(path, sizeof(path), "%s%s", OBJECTS[o], NAMES[which][n]);
			sd_config_find(config, path, take_count, count);
			if (count->found)
				return NAMES[which][n];
		}
	return NULL;
}

bool sd_config_count(const struct sd_manifest *m, enum sd_config_number which, uint64_t *count)
{
	struct count found = {.found = false};
	bool any = find_number(m, which, &found);

	*count = found.number;
	return any;
}

bool sd_config_size(const struct sd_manifest *m, enum sd_config_number which, uint64_t *size, const char **field)
{
	struct count found = {.found = false};

	*field = find_number(m, which, &found);
	*size = found.number;
	return *field && !found.several;
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

/* Words in the names of fields that tell layers apart, where their values are something. */
static const char *const TYPE_WORDS[] = {"pattern", "swa",        "global",        "interval",
					 "hybrid",  "_type_list", "other_setting", "layers_block_type"};
static const char *const ONE_WORDS[] = {"double_wide",     "kv_shared",    "block_configs",  "per_layer_heads",
					"heads_per_layer", "rank_pattern", "sizes_per_layer"};
/* And those of which a list is one value for each layer. */
static const char *const LIST_WORDS[] = {"intermediate", "num_heads", "attention_heads", "key_value_heads", "head_dim"};

struct differences {
	enum sd_config_layers found, word; /* word: what the last field with such a word says */
	unsigned depth;                    /* of it */
	bool list;                         /* that a list of that field would say it */
};

static bool has_word(const struct sd_json_token *token, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memmem(token->text, token->length, words[i], strlen(words[i])))
			return true;
	return false;
}

#define HAS_WORD(token, words) has_word(token, words, sizeof(words) / sizeof(*(words)))

static enum sd_result note_difference(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct differences *d = user;
	bool says = false;

	(void)err;
	switch (token->kind) {
	case SD_JSON_KEY:
		/* An object that is not empty says something. */
		says = d->word && !d->list && token->depth > d->depth;
		break;
	case SD_JSON_ARRAY:
		if (d->list)
			d->list = false;
		break;
	case SD_JSON_WORD:
		says = token->text[0] == 't' && !d->list;
		break;
	case SD_JSON_STRING:
	case SD_JSON_NUMBER:
		says = !d->list && !(token->length == 1 && token->text[0] == '0');
		break;
	default:
		break;
	}
	if (says && d->word > d->found)
		d->found = d->word;
	if (token->kind != SD_JSON_KEY)
		return SD_OK;
	d->depth = token->depth;
	d->list = false;
	d->word = SD_CONFIG_LAYERS_UNKNOWN;
	if (HAS_WORD(token, ONE_WORDS))
		d->word = SD_CONFIG_LAYERS_DIFFER;
	else if (HAS_WORD(token, TYPE_WORDS))
		d->word = SD_CONFIG_LAYERS_TYPES;
	else if (HAS_WORD(token, LIST_WORDS)) {
		d->word = SD_CONFIG_LAYERS_DIFFER;
		d->list = true;
	}
	return SD_OK;
}

enum sd_config_layers sd_config_layers(const struct sd_manifest *m)
{
	static const char *const names[] = {"config.json", "adapter_config.json"};
	struct differences d = {.found = SD_CONFIG_LAYERS_UNKNOWN};

	for (size_t i = 0; i < 2; i++) {
		const struct sd_side_file *file = sd_manifest_side(m, names[i]);

		d.word = SD_CONFIG_LAYERS_UNKNOWN;
		if (!file || sd_json_parse(file->data, file->size, note_difference, &d, NULL) != SD_OK)
			continue;
		d.found = d.found ? d.found : SD_CONFIG_LAYERS_ALIKE;
	}
	return d.found;
}
