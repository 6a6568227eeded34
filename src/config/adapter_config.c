/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_config.json follows the form of the adapter. */
#include "config/adapter_config.h"
#include "model/config_json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char CONFIG[] = "adapter_config.json";

struct editor {
	struct sd_json_tree tree;
	const struct sd_peft_target *targets;
	size_t n;
	uint32_t old;  /* the form that the file is of, or NO_FORM */
	bool to_names; /* the wanted form has modules */
	struct sd_error *err;
};

#define NO_FORM UINT32_MAX

static enum sd_result no_memory(struct editor *e)
{
	return sd_fail_memory(e->err);
}

/* ---- what an entry names ---- */

/* Takes a last part, or all that is there, off a text of parts with dots between them. */
static bool cut_part(const char *text, size_t *length, const char *part)
{
	size_t n = strlen(part);

	if (*length < n || memcmp(text + *length - n, part, n) != 0)
		return false;
	if (*length == n) {
		*length = 0;
		return true;
	}
	if (text[*length - n - 1] != '.')
		return false;
	*length -= n + 1;
	return true;
}

/* The number of an expert. */
static bool cut_number(const char *text, size_t *length)
{
	size_t n = *length;

	while (n && isdigit((unsigned char)text[n - 1]))
		n--;
	if (n == *length || (n && text[n - 1] != '.'))
		return false;
	*length = n ? n - 1 : 0;
	return true;
}

/* Whether the shorter of two texts is the end of the other, part by part. */
static bool ends_alike(const char *text, size_t length, const char *other)
{
	size_t n = strlen(other);

	if (length == 0)
		return true;
	if (length < n)
		return memcmp(other + n - length, text, length) == 0 && other[n - length - 1] == '.';
	return cut_part(text, &length, other);
}

enum naming {
	NOT_NAMED,
	BARE,    /* the name alone */
	NAMED,   /* with the module that has the experts, or some of its last parts */
	SPECIAL, /* one expert, or one layer */
};

/* How an entry of target_modules or target_parameters, or a pattern's key, names a target. */
static enum naming naming_of(const struct sd_peft_target *t, const char *entry, size_t length)
{
	bool number;

	if (!cut_part(entry, &length, t->name))
		return NOT_NAMED;
	if (length == 0)
		return BARE;
	number = !t->parameter && cut_number(entry, &length);
	if (!ends_alike(entry, length, t->container))
		return NOT_NAMED;
	return number || length > strlen(t->container) ? SPECIAL : NAMED;
}

static enum naming naming_by(const struct sd_peft_target *t, const struct sd_json_node *entry)
{
	return entry->kind == SD_JSON_STRING ? naming_of(t, entry->text, entry->text_length) : NOT_NAMED;
}

/* Whether one of the wanted form has the same place. */
static bool is_wanted(const struct editor *e, const struct sd_peft_target *t)
{
	for (size_t i = 0; i < e->n; i++)
		if (e->targets[i].wanted && e->targets[i].parameter == t->parameter &&
		    strcmp(e->targets[i].name, t->name) == 0 && strcmp(e->targets[i].container, t->container) == 0)
			return true;
	return false;
}

static struct sd_json_node *list_of(const struct editor *e, bool parameters)
{
	return sd_json_get(e->tree.root, parameters ? "target_parameters" : "target_modules");
}

static bool is_listed(const struct editor *e, const struct sd_peft_target *t)
{
	const struct sd_json_node *list = list_of(e, t->parameter);

	for (const struct sd_json_node *entry = list ? list->first : NULL; entry; entry = entry->next)
		if (naming_by(t, entry))
			return true;
	return false;
}

/* Whether an entry is for a form that is not wanted, and for nothing else. */
static bool is_stale(const struct editor *e, const struct sd_json_node *entry, bool parameters)
{
	for (size_t i = 0; i < e->n; i++) {
		const struct sd_peft_target *t = &e->targets[i];
		enum naming naming = t->parameter == parameters ? naming_by(t, entry) : NOT_NAMED;

		if (naming && !(naming == BARE && t->outside) && !is_wanted(e, t))
			return true;
	}
	return false;
}

static bool has_stale(const struct editor *e, bool parameters)
{
	const struct sd_json_node *list = list_of(e, parameters);

	for (const struct sd_json_node *entry = list ? list->first : NULL; entry; entry = entry->next)
		if (is_stale(e, entry, parameters))
			return true;
	return false;
}

static bool is_linear(const struct sd_json_node *modules)
{
	return sd_json_node_is(modules, SD_JSON_STRING, "all-linear");
}

/* An expression, or all-linear, names what it names; that all of the wanted form is there then shows in what is not. */
static bool is_as_wanted(const struct editor *e)
{
	const struct sd_json_node *modules = list_of(e, false);
	bool text = modules && modules->kind == SD_JSON_STRING;

	if (has_stale(e, true) || has_stale(e, false))
		return false;
	for (size_t i = 0; i < e->n; i++)
		if (e->targets[i].wanted && !is_listed(e, &e->targets[i]) && !(text && !e->targets[i].parameter))
			return false;
	return true;
}

/* ---- targets ---- */

static enum sd_result refuse_expression(struct editor *e)
{
	return sd_fail(e->err, SD_INPUT,
		       "target_modules is an expression, and the experts' modules have to be among them: write them "
		       "as a list");
}

static enum sd_result drop_stale(struct editor *e, bool parameters)
{
	struct sd_json_node *list = list_of(e, parameters);

	for (struct sd_json_node *entry = list ? list->first : NULL, *next; entry; entry = next) {
		next = entry->next;
		if (is_stale(e, entry, parameters))
			sd_json_detach(entry);
	}
	if (parameters && list && list->kind == SD_JSON_ARRAY && !list->first && e->to_names) {
		struct sd_json_node *none = sd_json_new(&e->tree, SD_JSON_WORD, "null");

		if (!none || !sd_json_set(&e->tree, e->tree.root, "target_parameters", none))
			return no_memory(e);
	}
	return SD_OK;
}

/* The list that a target goes into, which is made if there is none. */
static struct sd_json_node *open_list(struct editor *e, bool parameters)
{
	struct sd_json_node *list = list_of(e, parameters);

	if (list && list->kind == SD_JSON_ARRAY)
		return list;
	list = sd_json_new(&e->tree, SD_JSON_ARRAY, NULL);
	if (!list || !sd_json_set(&e->tree, e->tree.root, parameters ? "target_parameters" : "target_modules", list))
		return NULL;
	return list;
}

/* As a parameter is named, or the module of one expert, or of all. */
static const char *full_name(struct editor *e, const struct sd_peft_target *t, uint64_t number)
{
	struct sd_arena *arena = e->tree.arena;

	if (t->parameter)
		return sd_arena_printf(arena, "%s.%s", t->container, t->name);
	return t->numbers ? sd_arena_printf(arena, "%s.%" PRIu64 ".%s", t->container, number, t->name) : t->name;
}

static enum sd_result add_wanted(struct editor *e)
{
	for (size_t i = 0; i < e->n; i++) {
		const struct sd_peft_target *t = &e->targets[i];
		struct sd_json_node *list;

		if (!t->wanted || is_listed(e, t) || (!t->parameter && is_linear(list_of(e, false))))
			continue;
		list = open_list(e, t->parameter);
		for (uint64_t k = 0; k == 0 || k < t->numbers; k++) {
			const char *name = list ? full_name(e, t, k) : NULL;
			struct sd_json_node *entry = name ? sd_json_new(&e->tree, SD_JSON_STRING, name) : NULL;

			if (!entry || !sd_json_append(&e->tree, list, entry))
				return no_memory(e);
		}
	}
	return SD_OK;
}

/* ---- patterns ---- */

static const char *const ANY_NUMBER[] = {"[0-9]+.", "[0-9]+\\.", "\\d+.", "\\d+\\."};

/* A pattern's key without what an expression has around a name, and for the number of any expert: "^.*\.a\.\d+\.b$" is
 * a.b. NULL: memory is out. */
static char *plain_key(struct editor *e, const struct sd_json_node *key)
{
	const char *from = key->key, *end = from + key->key_length;
	char *text = sd_arena_alloc(e->tree.arena, key->key_length + 1), *at = text;

	if (!text)
		return NULL;
	from += from < end && *from == '^';
	if (end - from > 4 && memcmp(from, ".*\\.", 4) == 0)
		from += 4;
	else if (end - from > 3 && memcmp(from, ".*.", 3) == 0)
		from += 3;
	end -= end > from && end[-1] == '$';
	while (from < end) {
		size_t skip = *from == '\\' && from + 1 < end && from[1] == '.';

		for (size_t i = 0; i < sizeof(ANY_NUMBER) / sizeof(*ANY_NUMBER); i++)
			if (strncmp(from, ANY_NUMBER[i], strlen(ANY_NUMBER[i])) == 0)
				skip = strlen(ANY_NUMBER[i]);
		from += skip;
		if (!skip)
			*at++ = *from++;
	}
	return text;
}

/* How a pattern's key names the target; SD_INPUT where that cannot be told. */
static enum sd_result key_naming(struct editor *e, const struct sd_peft_target *t, const struct sd_json_node *key,
				 enum naming *naming)
{
	char *text = plain_key(e, key);

	if (!text)
		return no_memory(e);
	if (strpbrk(text, "\\[](){}|*+?^$") && strstr(text, t->name))
		return sd_fail(e->err, SD_INPUT, "%s is an expression that cannot be made one for other modules",
			       key->key);
	*naming = naming_of(t, text, strlen(text));
	if (*naming == SPECIAL)
		return sd_fail(e->err, SD_INPUT, "%s is for one expert, or for one layer, which cannot be followed",
			       key->key);
	return SD_OK;
}

/* What the pattern says for a target: a value, or the default. Its keys are taken out where they are for it alone. */
static enum sd_result take_value(struct editor *e, const struct sd_peft_target *t, struct sd_json_node *pattern,
				 const struct sd_json_node **value)
{
	for (struct sd_json_node *key = pattern->first, *next; key; key = next) {
		enum naming naming = NOT_NAMED;

		next = key->next;
		if (key_naming(e, t, key, &naming) != SD_OK)
			return e->err->result;
		if (!naming)
			continue;
		*value = key;
		if (!(naming == BARE && t->outside))
			sd_json_detach(key);
	}
	return SD_OK;
}

static bool same_value(const struct sd_json_node *a, const struct sd_json_node *b)
{
	return a && b && a->text && b->text && a->text_length == b->text_length &&
	       memcmp(a->text, b->text, a->text_length) == 0;
}

static bool peft_overwrites(const struct editor *e)
{
	const struct sd_json_node *version = sd_json_get(e->tree.root, "peft_version");
	unsigned major = 0, minor = 0;

	if (version && version->kind == SD_JSON_STRING)
		(void)!sscanf(version->text, "%u.%u", &major, &minor);
	return major > 0 || minor >= 21;
}

static enum sd_result set_value(struct editor *e, struct sd_json_node *pattern, uint32_t group,
				const struct sd_json_node *value)
{
	for (size_t i = 0; i < e->n; i++) {
		const struct sd_peft_target *t = &e->targets[i];
		struct sd_json_node *made;
		const char *name;

		if (!t->wanted || t->group != group)
			continue;
		name = t->numbers ? sd_arena_printf(e->tree.arena, "%s.%s%s", t->container, ANY_NUMBER[0], t->name)
				  : full_name(e, t, 0);
		made = name && value->text ? sd_json_new(&e->tree, value->kind, value->text) : NULL;
		if (!made || !sd_json_set(&e->tree, pattern, name, made))
			return no_memory(e);
	}
	return SD_OK;
}

/* What the old form has of a group has one value, which what the wanted form has of it gets. */
static enum sd_result move_group(struct editor *e, const char *field, const char *general, uint32_t group)
{
	struct sd_json_node *pattern = sd_json_get(e->tree.root, field);
	const struct sd_json_node *normal = sd_json_get(e->tree.root, general), *said = NULL, *said_other = NULL;
	const struct sd_peft_target *first = NULL;
	bool any = false;

	for (size_t i = 0; i < e->n; i++) {
		const struct sd_peft_target *t = &e->targets[i];
		const struct sd_json_node *value = NULL;

		if (t->form != e->old || t->group != group)
			continue;
		if (take_value(e, t, pattern, &value) != SD_OK)
			return e->err->result;
		any = any || value;
		said_other = value ? value : normal;
		if (first && !same_value(said, said_other))
			return sd_fail(e->err, SD_INPUT, "%s and %s have different values, and become one", first->name,
				       t->name);
		first = t;
		said = said_other;
	}
	if (!any)
		return SD_OK;
	if (e->to_names && peft_overwrites(e))
		return sd_fail(e->err, SD_INPUT,
			       "PEFT 0.21 overwrites it for single experts, which would get other values");
	return set_value(e, pattern, group, said);
}

static enum sd_result move_patterns(struct editor *e, const char *field, const char *general)
{
	const struct sd_json_node *pattern = sd_json_get(e->tree.root, field);
	uint32_t groups = 0;

	for (size_t i = 0; i < e->n; i++)
		if (e->targets[i].group >= groups)
			groups = e->targets[i].group + 1;
	for (uint32_t group = 0; pattern && pattern->first && pattern->kind == SD_JSON_OBJECT && group < groups;
	     group++)
		if (move_group(e, field, general, group) != SD_OK)
			return e->err->result == SD_INPUT ? sd_error_at(e->err, "%s", field) : e->err->result;
	return SD_OK;
}

/* The form that the file is of: that of which it lists something, else any that is not wanted. */
static void find_old(struct editor *e)
{
	for (size_t i = 0; i < e->n; i++)
		if (!e->targets[i].wanted && !is_wanted(e, &e->targets[i]) &&
		    (e->old == NO_FORM || is_listed(e, &e->targets[i]))) {
			e->old = e->targets[i].form;
			if (is_listed(e, &e->targets[i]))
				return;
		}
}

static enum sd_result edit(struct editor *e)
{
	const struct sd_json_node *modules = list_of(e, false), *parameters = list_of(e, true);
	bool listed = modules && modules->kind == SD_JSON_ARRAY;

	if (e->to_names && modules && modules->kind == SD_JSON_STRING && !is_linear(modules))
		return refuse_expression(e);
	if (e->to_names && !listed && !is_linear(modules) && !(parameters && parameters->first))
		return sd_fail(e->err, SD_INPUT, "it says neither target_modules nor target_parameters");
	find_old(e);
	if (drop_stale(e, false) != SD_OK || drop_stale(e, true) != SD_OK || add_wanted(e) != SD_OK)
		return e->err->result;
	return move_patterns(e, "rank_pattern", "r") == SD_OK ? move_patterns(e, "alpha_pattern", "lora_alpha")
							      : e->err->result;
}

/* ---- files ---- */

static enum sd_result blame(const char *file, struct sd_error *err)
{
	return sd_error_at(err, "%s has to change with the adapter's form (--keep-config leaves it as it is)", file);
}

enum sd_result sd_adapter_config_follow(struct sd_manifest *m, const struct sd_peft_target *targets, size_t n,
					struct sd_error *err)
{
	struct sd_side_file *file = sd_config_file(m, CONFIG);
	struct editor e = {.targets = targets, .n = n, .old = NO_FORM, .err = err};
	struct sd_arena arena = {0};
	enum sd_result result;

	if (!file)
		return SD_OK;
	for (size_t i = 0; i < n; i++)
		e.to_names |= targets[i].wanted && !targets[i].parameter;
	result = sd_json_tree_read(&e.tree, file->data, file->size, &arena, err);
	if (result == SD_OK && !is_as_wanted(&e)) {
		result = edit(&e);
		if (result == SD_OK)
			result = sd_config_store(m, file, &e.tree, err);
	}
	sd_arena_free(&arena);
	return result == SD_INPUT ? blame(CONFIG, err) : result;
}

enum sd_result sd_stamp_follow(struct sd_manifest *m, const char *name, const char *field, const char *text,
			       struct sd_error *err)
{
	struct sd_side_file *file = sd_config_file(m, name);
	struct sd_arena arena = {0};
	struct sd_json_tree tree;
	const struct sd_json_node *old;
	struct sd_json_node *value;
	enum sd_result result;

	if (!file)
		return SD_OK;
	result = sd_json_tree_read(&tree, file->data, file->size, &arena, err);
	old = result == SD_OK ? sd_json_get(tree.root, field) : NULL;
	if (result == SD_OK && (text ? !sd_json_node_is(old, SD_JSON_STRING, text) : old != NULL)) {
		value = text ? sd_json_new(&tree, SD_JSON_STRING, text) : NULL;
		if (!text)
			sd_json_remove(tree.root, field);
		else if (!value || !sd_json_set(&tree, tree.root, field, value))
			result = sd_fail_memory(err);
		if (result == SD_OK)
			result = sd_config_store(m, file, &tree, err);
	}
	sd_arena_free(&arena);
	return result == SD_INPUT ? blame(name, err) : result;
}
