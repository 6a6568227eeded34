/* SPDX-License-Identifier: Apache-2.0 */
/* config.json follows a cut. */
#include "config/config_cut.h"
#include "base/text.h"
#include "model/config_json.h"
#include "model/stack.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define NODES 32

struct editor {
	struct sd_json_tree tree;
	const struct sd_numbers *layers, *experts; /* NULL: all stay, with their numbers */
	bool renumber;
	bool changed;
	uint64_t nlayers, nnext; /* as it was: of the model, and those behind that predict, */
	bool next_elsewhere;     /* which are not numbered behind the model's, but apart */
	uint64_t nexperts;
	struct sd_json_node *nodes[NODES]; /* what counts the layers, or the experts */
	size_t n;
};

/* ---- numbers in the tree ---- */

static bool read_number(const struct sd_json_node *node, uint64_t *number)
{
	char text[24];

	if (!node || node->kind != SD_JSON_NUMBER || node->text_length >= sizeof(text))
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)node->text_length, node->text);
	return sd_text_number(text, number);
}

static struct sd_json_node *new_number(struct editor *e, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	return sd_json_new(&e->tree, SD_JSON_NUMBER, text);
}

/* Puts a number in the place of a member; false when memory is out. */
static bool put_number(struct editor *e, struct sd_json_node *member, uint64_t number)
{
	struct sd_json_node *value;
	uint64_t is;

	if (read_number(member, &is) && is == number)
		return true;
	value = new_number(e, number);
	e->changed = true;
	return value && sd_json_set(&e->tree, member->parent, member->key, value);
}

/* Puts a number in the place of each of a list's. */
static bool put_numbers(struct editor *e, struct sd_json_node *list, uint64_t number)
{
	struct sd_json_node *end = list->last;

	for (struct sd_json_node *node = list->first, *next; node; node = next) {
		struct sd_json_node *value = new_number(e, number);

		next = node == end ? NULL : node->next;
		sd_json_detach(node);
		if (!value || !sd_json_append(&e->tree, list, value))
			return false;
	}
	e->changed = true;
	return true;
}

/* The number that a node is, or that all of a list are. */
static bool read_numbers(const struct sd_json_node *node, uint64_t *number)
{
	uint64_t other;

	if (node->kind != SD_JSON_ARRAY)
		return read_number(node, number);
	if (!read_number(node->first, number))
		return false;
	for (const struct sd_json_node *at = node->first; at; at = at->next)
		if (!read_number(at, &other) || other != *number)
			return false;
	return true;
}

/* Every member that counts what the first one counts now counts so many. */
static bool put_count(struct editor *e, uint64_t before, uint64_t after)
{
	for (size_t i = 0; i < e->n; i++) {
		uint64_t number;

		if (!read_numbers(e->nodes[i], &number) || number != before)
			continue;
		if (!(e->nodes[i]->kind == SD_JSON_ARRAY ? put_numbers(e, e->nodes[i], after)
							 : put_number(e, e->nodes[i], after)))
			return false;
	}
	return true;
}

/* ---- experts ---- */

/* The largest number of a member, or of a list of them; 0 where there is none. */
static uint64_t largest(const struct sd_json_node *node)
{
	uint64_t number, most = 0;

	if (node && node->kind == SD_JSON_ARRAY)
		for (const struct sd_json_node *at = node->first; at; at = at->next)
			most = read_number(at, &number) && number > most ? number : most;
	else if (read_number(node, &number))
		most = number;
	return most;
}

/* That a token's experts are there. */
static enum sd_result check_top(const struct editor *e, const struct sd_json_node *object, uint64_t left,
				struct sd_error *err)
{
	static const char *const names[] = {
		"num_experts_per_tok", "num_experts_per_token", "experts_per_token",   "moe_topk", "moe_top_k", "moe_k",
		"top_k_experts",       "num_experts_per_topk",  "num_selected_experts"};

	for (size_t i = 0; i < COUNT(names); i++) {
		uint64_t top = largest(sd_json_get(object, names[i]));

		if (top > left)
			return sd_fail(err, SD_INPUT,
				       "--experts %s: config.json has %s %" PRIu64 ", and there would be %" PRIu64
				       " experts",
				       e->experts->text, names[i], top, left);
	}
	return SD_OK;
}

/* That groups of experts, of which a token takes some, are as large as each other and large enough. */
static enum sd_result check_groups(const struct editor *e, const struct sd_json_node *object, uint64_t left,
				   struct sd_error *err)
{
	uint64_t groups = largest(sd_json_get(object, "n_group")), some = largest(sd_json_get(object, "topk_group")),
		 top = largest(sd_json_get(object, "num_experts_per_tok"));

	if (groups < 2)
		return SD_OK;
	if (left % groups)
		return sd_fail(err, SD_INPUT,
			       "--experts %s: config.json has n_group %" PRIu64 ", which does not divide the %" PRIu64
			       " experts that there would be",
			       e->experts->text, groups, left);
	if (left / groups < 2 || (some && some < groups && left / groups * some < top))
		return sd_fail(err, SD_INPUT,
			       "--experts %s: config.json has n_group %" PRIu64 ", topk_group %" PRIu64
			       " and num_experts_per_tok %" PRIu64 ", and groups of %" PRIu64
			       " experts are too small for that",
			       e->experts->text, groups, some, top, left / groups);
	return SD_OK;
}

static enum sd_result cut_experts(struct editor *e, struct sd_error *err)
{
	const struct sd_json_node *object;
	uint64_t left;
	enum sd_result result;

	e->n = sd_config_numbers(&e->tree, SD_CONFIG_EXPERTS, e->nodes, NODES);
	if (!e->n || !read_numbers(e->nodes[0], &e->nexperts))
		return SD_OK;
	object = e->nodes[0]->parent;
	left = sd_numbers_below(e->experts, e->nexperts);
	result = check_top(e, object, left, err);
	if (result == SD_OK)
		result = check_groups(e, object, left, err);
	if (result == SD_OK && !put_count(e, e->nexperts, left))
		result = sd_fail_memory(err);
	return result;
}

/* ---- layers ---- */

/* A field that says how many layers are so, or from which on: those in front, those at the end. */
static bool cut_leading(struct editor *e, struct sd_json_node *object)
{
	static const char *const first[] = {"first_k_dense_replace", "num_dense_layers", "n_dense_layers",
					    "n_dense_first_layers",  "num_hash_layers",  "moe_layer_start_index",
					    "max_window_layers"};
	struct sd_json_node *shared = sd_json_get(object, "num_kv_shared_layers"),
			    *end = sd_json_get(object, "moe_layer_end_index");
	uint64_t number;

	for (size_t i = 0; i < COUNT(first); i++) {
		struct sd_json_node *member = sd_json_get(object, first[i]);

		if (read_number(member, &number) &&
		    !put_number(e, member, sd_numbers_below(e->layers, number < e->nlayers ? number : e->nlayers)))
			return false;
	}
	if (read_number(end, &number) && number < e->nlayers && sd_numbers_below(e->layers, number + 1) &&
	    !put_number(e, end, sd_numbers_below(e->layers, number + 1) - 1))
		return false;
	if (!read_number(shared, &number) || number > e->nlayers)
		return true;
	return put_number(e, shared,
			  sd_numbers_below(e->layers, e->nlayers) - sd_numbers_below(e->layers, e->nlayers - number));
}

/* That layers whose kind goes by their number, every third one say, are of the same kind under their new numbers. */
static enum sd_result check_periods(const struct editor *e, const struct sd_json_node *object, struct sd_error *err)
{
	/* The period, and the list that is taken in its place where it is there. */
	static const char *const periods[][2] = {
		{"decoder_sparse_step", "mlp_layer_types"},    {"moe_layer_freq", "mlp_layer_types"},
		{"moe_layer_interval", "mlp_layer_types"},     {"interleave_moe_layer_step", "moe_layers"},
		{"full_attention_interval", "layer_types"},    {"sliding_window_pattern", "layer_types"},
		{"global_attn_every_n_layers", "layer_types"}, {"no_rope_layer_interval", "no_rope_layers"},
		{"attn_layer_period", "layers_block_type"},    {"expert_layer_period", NULL}};

	for (size_t i = 0; i < COUNT(periods); i++) {
		const struct sd_json_node *list = periods[i][1] ? sd_json_get(object, periods[i][1]) : NULL;
		uint64_t period;

		if (!read_number(sd_json_get(object, periods[i][0]), &period) || period < 2 ||
		    (list && list->kind == SD_JSON_ARRAY))
			continue;
		for (uint64_t k = 0; k < e->nlayers; k++)
			if (sd_numbers_have(e->layers, k) && (k - sd_numbers_below(e->layers, k)) % period)
				return sd_fail(err, SD_INPUT,
					       "--layers %s: layer %" PRIu64 " would be %" PRIu64 ", and by %s %" PRIu64
					       " in config.json be of another kind; leave out a "
					       "multiple of %" PRIu64 " layers in front of it",
					       e->layers->text, k, sd_numbers_below(e->layers, k), periods[i][0],
					       period, period);
	}
	return SD_OK;
}

/* A list of numbers of layers, which begin with base. */
static bool cut_index_list(struct editor *e, struct sd_json_node *list, uint64_t base)
{
	struct sd_json_node *end = list->last;

	for (struct sd_json_node *node = list->first, *next; node; node = next) {
		struct sd_json_node *value;
		uint64_t number;

		next = node == end ? NULL : node->next;
		if (!read_number(node, &number) || number < base)
			continue;
		sd_json_detach(node);
		e->changed = true;
		if (!sd_numbers_have(e->layers, number - base))
			continue;
		value = new_number(e, sd_numbers_below(e->layers, number - base) + base);
		if (!value || !sd_json_append(&e->tree, list, value))
			return false;
	}
	return true;
}

/* A list with an entry for each layer. */
static void cut_entries(struct editor *e, struct sd_json_node *list)
{
	uint64_t k = 0;

	for (struct sd_json_node *node = list->first, *next; node; node = next, k++) {
		next = node->next;
		if (sd_numbers_have(e->layers, k) || (k >= e->nlayers && e->next_elsewhere))
			continue;
		sd_json_detach(node);
		e->changed = true;
	}
}

/* A text with a letter for each layer. */
static bool cut_letters(struct editor *e, struct sd_json_node *member)
{
	char *text = sd_arena_text(e->tree.arena, member->text, member->text_length);
	struct sd_json_node *value;
	size_t n = 0;

	for (size_t k = 0; text && k < member->text_length; k++)
		if (sd_numbers_have(e->layers, k))
			text[n++] = text[k];
	if (!text)
		return false;
	text[n] = '\0';
	value = sd_json_new(&e->tree, SD_JSON_STRING, text);
	e->changed = true;
	return value && sd_json_set(&e->tree, member->parent, member->key, value);
}

/* A text of numbers of layers, "3,4,5". */
static bool cut_index_text(struct editor *e, struct sd_json_node *member)
{
	char *text = sd_arena_text(e->tree.arena, "", 0),
	     *rest = sd_arena_text(e->tree.arena, member->text, member->text_length);
	struct sd_json_node *value;

	for (char *word; text && rest && (word = strsep(&rest, ","));) {
		uint64_t number;

		if (sd_text_number(word, &number) && sd_numbers_have(e->layers, number))
			text = sd_arena_printf(e->tree.arena, "%s%s%" PRIu64, text, *text ? "," : "",
					       sd_numbers_below(e->layers, number));
	}
	value = text ? sd_json_new(&e->tree, SD_JSON_STRING, text) : NULL;
	e->changed = true;
	return value && sd_json_set(&e->tree, member->parent, member->key, value);
}

/* Whether a list of as many entries as there are layers has one for each: by its name. mrope_section has not. */
static bool is_by_layer(const char *key)
{
	static const char *const words[] = {
		"layer", "block", "type",    "attn",   "attention",        "moe", "mlp", "expert",
		"head",  "ratio", "pattern", "window", "intermediate_size"};

	for (size_t i = 0; i < COUNT(words); i++)
		if (strstr(key, words[i]))
			return true;
	return false;
}

static bool cut_list(struct editor *e, struct sd_json_node *list)
{
	static const char *const numbers[] = {
		"mlp_only_layers",         "moe_layers",         "full_attn_idxs",  "cross_attention_layers",
		"global_attention_layers", "attn_layer_indices", "hybrid_layer_ids"};
	static const char *const from_one[] = {"full_attn_layers", "kda_layers"};
	uint64_t length = 0;

	for (size_t i = 0; i < COUNT(numbers); i++)
		if (strcmp(list->key, numbers[i]) == 0)
			return cut_index_list(e, list, 0);
	for (size_t i = 0; i < COUNT(from_one); i++)
		if (strcmp(list->key, from_one[i]) == 0)
			return cut_index_list(e, list, 1);
	for (const struct sd_json_node *node = list->first; node; node = node->next)
		length++;
	/* Layers that predict may have a list of their own. */
	if ((length == e->nlayers || length == e->nlayers + e->nnext) && is_by_layer(list->key) &&
	    strncmp(list->key, "mtp", 3) != 0)
		cut_entries(e, list);
	return true;
}

/* An object whose keys are the numbers of layers. */
static bool cut_numbered(struct editor *e, struct sd_json_node *object)
{
	struct sd_json_node *end = object->last;

	for (struct sd_json_node *member = object->first, *next; member; member = next) {
		uint64_t number;
		char key[24];

		next = member == end ? NULL : member->next;
		if (!sd_text_number(member->key, &number))
			continue;
		sd_json_detach(member);
		e->changed = true;
		snprintf(key, sizeof(key), "%" PRIu64, sd_numbers_below(e->layers, number));
		if (sd_numbers_have(e->layers, number) && !sd_json_set(&e->tree, object, key, member))
			return false;
	}
	return true;
}

/* The lists and texts of an object, and of those in it that are of the same layers. */
static bool cut_lists(struct editor *e, struct sd_json_node *object)
{
	for (struct sd_json_node *member = object->first, *next; member; member = next) {
		bool done = true;

		next = member->next;
		if (member->kind == SD_JSON_OBJECT && strcmp(member->key, "per_layer_config") == 0)
			done = cut_numbered(e, member);
		else if (member->kind == SD_JSON_OBJECT && !sd_stack_is_other(member->key, member->key_length))
			done = cut_lists(e, member);
		else if (member->kind == SD_JSON_ARRAY)
			done = cut_list(e, member);
		else if (member->kind == SD_JSON_STRING && strcmp(member->key, "hybrid_override_pattern") == 0)
			done = member->text_length != e->nlayers || cut_letters(e, member);
		else if (member->kind == SD_JSON_STRING && strcmp(member->key, "moe_layers_enum") == 0)
			done = cut_index_text(e, member);
		if (!done)
			return false;
	}
	return true;
}

/* Where no number counts the layers, the list of their kinds does: the object that has it; or NULL. */
static struct sd_json_node *count_list(struct editor *e, struct sd_json_node *object)
{
	static const char *const lists[] = {"layers_block_type", "layer_types"};
	struct sd_json_node *found = NULL;

	for (size_t i = 0; i < COUNT(lists); i++) {
		const struct sd_json_node *list = sd_json_get(object, lists[i]);

		if (!list || list->kind != SD_JSON_ARRAY)
			continue;
		for (const struct sd_json_node *node = list->first; node; node = node->next)
			e->nlayers++;
		return object;
	}
	for (struct sd_json_node *member = object->first; member && !found; member = member->next)
		if (member->kind == SD_JSON_OBJECT && !sd_stack_is_other(member->key, member->key_length))
			found = count_list(e, member);
	return found;
}

static enum sd_result cut_layers(struct editor *e, struct sd_error *err)
{
	struct sd_json_node *object, *next;
	enum sd_result result;

	e->n = sd_config_numbers(&e->tree, SD_CONFIG_LAYERS, e->nodes, NODES);
	if (e->n && read_number(e->nodes[0], &e->nlayers))
		object = e->nodes[0]->parent;
	else if (!(object = count_list(e, e->tree.root)))
		return SD_OK;
	result = e->renumber ? check_periods(e, object, err) : SD_OK;
	next = sd_json_get(object, "num_nextn_predict_layers");
	(void)!read_number(next, &e->nnext);
	if (result == SD_OK && !(put_count(e, e->nlayers, sd_numbers_below(e->layers, e->nlayers)) &&
				 cut_leading(e, object) && cut_lists(e, object) &&
				 (!e->nnext || e->next_elsewhere ||
				  put_number(e, next,
					     sd_numbers_below(e->layers, e->nlayers + e->nnext) -
						     sd_numbers_below(e->layers, e->nlayers)))))
		result = sd_fail_memory(err);
	return result;
}

/* ---- names of modules ---- */

/* The text with another number behind a part of it; NULL when memory is out. */
static char *with_number(struct editor *e, const char *text, size_t stack, uint64_t number)
{
	const char *digits = text + stack + 1;

	return sd_arena_printf(e->tree.arena, "%.*s.%" PRIu64 "%s", (int)stack, text, number,
			       digits + strspn(digits, "0123456789"));
}

/* The new name of a module: *name is NULL where it is gone. False when memory is out. */
static bool rename_module(struct editor *e, char **name)
{
	size_t stack;
	uint32_t number;

	if (sd_stack_number(*name, "experts", 7, &stack, &number) && e->experts) {
		if (!sd_numbers_have(e->experts, number))
			*name = NULL;
		else if (!(*name = with_number(e, *name, stack, sd_numbers_below(e->experts, number))))
			return false;
	}
	if (*name && sd_stack_layer(*name, &stack, &number) && !sd_stack_is_other(*name, stack) && e->layers) {
		if (!sd_numbers_have(e->layers, number))
			*name = NULL;
		else if (!(*name = with_number(e, *name, stack, sd_numbers_below(e->layers, number))))
			return false;
	}
	return true;
}

/* The names in a list, of modules that are not quantised say. */
static bool rename_list(struct editor *e, struct sd_json_node *list)
{
	struct sd_json_node *end = list->last;

	/* All are put behind the last one, in their order. */
	for (struct sd_json_node *node = list->first, *next; node; node = next) {
		struct sd_json_node *value = node;
		char *name;

		next = node == end ? NULL : node->next;
		sd_json_detach(node);
		if (node->kind == SD_JSON_STRING) {
			name = sd_arena_text(e->tree.arena, node->text, node->text_length);
			if (!name || !rename_module(e, &name))
				return false;
			if (!name)
				continue;
			value = sd_json_new(&e->tree, SD_JSON_STRING, name);
		}
		if (!value || !sd_json_append(&e->tree, list, value))
			return false;
	}
	e->changed = true;
	return true;
}

/* Whether a list has names of layers. */
static bool names_modules(const struct sd_json_node *list)
{
	size_t stack;
	uint32_t number;

	for (const struct sd_json_node *node = list->first; node; node = node->next)
		if (node->kind == SD_JSON_STRING && sd_stack_layer(node->text, &stack, &number))
			return true;
	return false;
}

static enum sd_result rename_modules(struct editor *e, struct sd_json_node *object, struct sd_error *err)
{
	for (struct sd_json_node *member = object->first; member; member = member->next) {
		size_t stack;
		uint32_t number;

		if (member->key && sd_stack_layer(member->key, &stack, &number))
			return sd_fail(
				err, SD_INPUT,
				"--renumber: config.json has the key \"%s\", and the layer would have another number",
				member->key);
		if (member->kind == SD_JSON_ARRAY && names_modules(member) && !rename_list(e, member))
			return sd_fail_memory(err);
		if ((member->kind == SD_JSON_OBJECT || member->kind == SD_JSON_ARRAY) &&
		    rename_modules(e, member, err) != SD_OK)
			return err->result;
	}
	return SD_OK;
}

/* ---- all of it ---- */

static enum sd_result follow(struct editor *e, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (e->layers)
		result = cut_layers(e, err);
	if (result == SD_OK && e->experts)
		result = cut_experts(e, err);
	if (result == SD_OK && e->renumber)
		result = rename_modules(e, e->tree.root, err);
	return result;
}

static bool predicts_elsewhere(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if (strstr(m->targets[i].name, "mtp"))
			return true;
	return false;
}

/* Numbers that config.json has to follow: not those that keep gaps. */
static const struct sd_numbers *followed(const struct sd_numbers *numbers, bool renumber)
{
	return numbers->text && (renumber || sd_numbers_are_first(numbers)) ? numbers : NULL;
}

enum sd_result sd_config_cut_follow(struct sd_manifest *m, const struct sd_selection *numbers, bool renumber,
				    struct sd_error *err)
{
	static const char *const files[] = {"config.json", "hf_quant_config.json"};
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < COUNT(files) && result == SD_OK; i++) {
		struct sd_side_file *file = sd_config_file(m, files[i]);
		struct sd_arena arena = {0};
		struct editor e = {.layers = followed(&numbers->layers, renumber),
				   .experts = followed(&numbers->experts, renumber),
				   .renumber = renumber,
				   .next_elsewhere = predicts_elsewhere(m)};

		if (!file || (!e.layers && !e.experts))
			continue;
		result = sd_json_tree_read(&e.tree, file->data, file->size, &arena, err);
		if (result == SD_INPUT)
			sd_error_at(err, "%s has to change with the cut (--keep-config leaves it as it is)",
				    file->name);
		else if (result == SD_OK)
			result = follow(&e, err);
		if (result == SD_OK && e.changed)
			result = sd_config_store(m, file, &e.tree, err);
		sd_arena_free(&arena);
	}
	return result;
}
