/* SPDX-License-Identifier: Apache-2.0 */
/* config.json follows how the weights are stored. */
#include "config/config_dtypes.h"
#include "base/checked.h"
#include "base/json.h"
#include "base/memstream.h"
#include "base/names.h"
#include "base/text.h"
#include "model/config_json.h"
#include "model/dequant.h"
#include "model/scales.h"

#include <stdlib.h>
#include <string.h>

/* ---- what a plan changes ---- */

struct change {
	bool plain; /* nothing is quantised any longer */
	bool mixed; /* other weights than before are block FP8: modules names the rest */
	/* What most elements had, and what they have now; SD_NO_DTYPE where the dtypes are not to be corrected. */
	enum sd_dtype before, after;
	const char **modules;
	size_t nmodules, room;
	enum sd_quant_method method; /* that config.json names */
	bool partly;                 /* modules are those that are plain now, while others stay as they were */
	struct sd_arena arena;       /* of their names */
};

static bool is_scale(const struct sd_target *t)
{
	return sd_scale_stem(t->name) > 0;
}

/* Matrices of codes: small floating-point numbers, and the integers that other schemes pack theirs into. A table of
 * tokens is none. */
static bool is_codes(const struct sd_target *t)
{
	bool integer =
		t->dtype == SD_I8 || t->dtype == SD_U8 || (t->dtype == SD_I32 && strstr(t->name, "weight") != NULL);

	return t->rank >= 2 && (integer || (sd_dtype_is_float(t->dtype) && sd_dtype_bits(t->dtype) <= 8));
}

/* Codes by their dtype or, where they are stored as another one, by what is stored beside them. */
static bool is_quantised(const struct sd_manifest *m, const struct sd_companions *c, const struct sd_target *t)
{
	return is_codes(t) || (!t->nsteps && sd_is_quantised(m, c, t->record));
}

static bool any_quantised(const struct sd_manifest *m, const struct sd_companions *c)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if (is_scale(&m->targets[i]) || is_quantised(m, c, &m->targets[i]))
			return true;
	return false;
}

/* Whether only some of what a method has quantised can become plain by its own list, or not at all. */
static bool has_own_list(enum sd_quant_method method)
{
	return method != SD_QUANT_UNSAID && method != SD_QUANT_FP8;
}

/* The floating-point dtype that most elements have, scales and codes left aside; SD_NO_DTYPE where there are none. */
static enum sd_dtype main_dtype(const struct sd_manifest *m, const struct sd_companions *c)
{
	uint64_t elements[SD_DTYPES] = {0};
	enum sd_dtype most = SD_NO_DTYPE;
	struct sd_move room;

	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];

		if (!sd_dtype_is_float(t->dtype) || sd_dtype_bits(t->dtype) <= 8 || is_scale(t) ||
		    is_quantised(m, c, t))
			continue;
		if (!sd_add(elements[t->dtype], sd_move_count(sd_target_move(m, t, &room)), &elements[t->dtype]))
			elements[t->dtype] = UINT64_MAX;
	}
	for (int dtype = 0; dtype < SD_DTYPES; dtype++)
		if (elements[dtype] > elements[most])
			most = (enum sd_dtype)dtype;
	return most;
}

/* Whether a tensor that keeps its name is codes on one side only, and F8 is among what comes out. */
static enum sd_result look_for_mixed(struct change *c, const struct sd_manifest *to, const struct sd_manifest *from,
				     struct sd_error *err)
{
	struct sd_names names = {0};
	bool turned = false, fp8 = false;
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < from->ntargets && result == SD_OK; i++)
		if (sd_names_add(&names, from->targets[i].name, (uint32_t)i) == SD_NO_NAME)
			result = sd_fail_memory(err);
	for (size_t i = 0; i < to->ntargets && result == SD_OK; i++) {
		const struct sd_target *t = &to->targets[i];
		uint32_t before = sd_names_find(&names, t->name);

		turned |= before != SD_NO_NAME && is_codes(&from->targets[before]) != is_codes(t);
		fp8 |= t->dtype == SD_F8_E4M3;
	}
	c->mixed = turned && fp8;
	sd_names_free(&names);
	return result;
}

/* The module that a weight belongs to, all experts of a layer being one; "": none; NULL when memory is out. */
static const char *module_of(struct change *c, const char *name)
{
	static const char experts[] = ".experts.";
	const char *end = strstr(name, experts);

	end = end ? end + sizeof(experts) - 2 : strrchr(name, '.');
	return end ? sd_arena_text(&c->arena, name, (size_t)(end - name)) : "";
}

static int natural(const void *a, const void *b)
{
	return sd_text_natural(*(const char *const *)a, *(const char *const *)b);
}

static enum sd_result list_modules(struct change *c, const struct sd_manifest *to, struct sd_error *err)
{
	struct sd_names seen = {0};
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < to->ntargets && result == SD_OK; i++) {
		const struct sd_target *t = &to->targets[i];
		const char *module = "";

		if (t->rank >= 2 && !is_codes(t) && !is_scale(t))
			module = module_of(c, t->name);
		if (module && (!*module || sd_names_find(&seen, module) != SD_NO_NAME))
			continue;
		if (!module || sd_names_add(&seen, module, 0) == SD_NO_NAME ||
		    !sd_array_grow(&c->modules, c->nmodules, &c->room, sizeof(*c->modules)))
			result = sd_fail_memory(err);
		else
			c->modules[c->nmodules++] = module;
	}
	sd_names_free(&seen);
	if (c->nmodules)
		qsort(c->modules, c->nmodules, sizeof(*c->modules), natural);
	return result;
}

/* Adds a module once. */
static enum sd_result add_module(struct change *c, struct sd_names *seen, const char *module, struct sd_error *err)
{
	if (sd_names_find(seen, module) != SD_NO_NAME)
		return SD_OK;
	if (sd_names_add(seen, module, 0) == SD_NO_NAME ||
	    !sd_array_grow(&c->modules, c->nmodules, &c->room, sizeof(*c->modules)))
		return sd_fail_memory(err);
	c->modules[c->nmodules++] = module;
	return SD_OK;
}

/* Lists the modules whose weights were quantised and are plain tensors now. */
static enum sd_result list_opened(struct change *c, const struct sd_manifest *to, const struct sd_companions *has,
				  const struct sd_manifest *from, const struct sd_companions *had, struct sd_error *err)
{
	struct sd_names plain = {0}, seen = {0};
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < to->ntargets && result == SD_OK; i++)
		if (!is_quantised(to, has, &to->targets[i]) &&
		    sd_names_add(&plain, to->targets[i].name, (uint32_t)i) == SD_NO_NAME)
			result = sd_fail_memory(err);
	for (size_t i = 0; i < from->ntargets && result == SD_OK; i++) {
		const char *name = from->targets[i].name;
		size_t stem = sd_name_role(name).stem;
		const char *module = sd_arena_text(&c->arena, name, stem),
			   *weight = sd_arena_printf(&c->arena, "%.*s.weight", (int)stem, name);

		if (!module || !weight)
			result = sd_fail_memory(err);
		else if (is_quantised(from, had, &from->targets[i]) &&
			 (sd_names_find(&plain, weight) != SD_NO_NAME || sd_names_find(&plain, module) != SD_NO_NAME))
			result = add_module(c, &seen, module, err);
	}
	sd_names_free(&plain);
	sd_names_free(&seen);
	return result;
}

static enum sd_result compare(struct change *c, const struct sd_manifest *to, const struct sd_manifest *from,
			      struct sd_error *err)
{
	struct sd_companions had, has = {0};
	enum sd_result result = sd_companions_find(from, &had, err);
	bool before, after = false;

	if (result == SD_OK)
		result = sd_companions_find(to, &has, err);
	if (result == SD_OK) {
		before = any_quantised(from, &had);
		after = any_quantised(to, &has);
		c->plain = before && !after;
		result = sd_quant_method_of(from, &c->method, err);
	}
	if (result == SD_OK && after && has_own_list(c->method)) {
		result = list_opened(c, to, &has, from, &had, err);
		c->partly = c->nmodules > 0;
	}
	if (result == SD_OK) {
		c->before = main_dtype(from, &had);
		c->after = main_dtype(to, &has);
	}
	sd_companions_free(&had);
	sd_companions_free(&has);
	if (result != SD_OK)
		return result;
	if (after && !has_own_list(c->method))
		result = look_for_mixed(c, to, from, err);
	if (result == SD_OK && c->mixed)
		result = list_modules(c, to, err);
	if (after || (c->before == c->after && !c->plain))
		c->before = c->after = SD_NO_DTYPE;
	return result;
}

/* ---- the text ---- */

#define QUANTISATION "quantization_config"
#define MODULES "modules_to_not_convert"

enum key { OTHER, DTYPE, QUANT, SKIPPED };

/* Of the object around a member. */
struct level {
	size_t before; /* where the member before ends, or the brace is */
	bool first;
	enum key key;   /* of the member */
	size_t key_end; /* of it, too */
};

struct editor {
	const struct change *change;
	const char *json;
	size_t length, copied;
	FILE *out;
	unsigned inside; /* the depth of the quantization_config that the parse is in; 0: in none */
	bool has_quant, has_modules;
	struct level level[SD_JSON_DEPTH + 2];
};

static const char *torch_name(enum sd_dtype dtype)
{
	static const char *const names[SD_DTYPES] = {[SD_NO_DTYPE] = "none",
						     [SD_BF16] = "bfloat16",
						     [SD_F16] = "float16",
						     [SD_F32] = "float32",
						     [SD_F64] = "float64"};

	return names[dtype];
}

static enum key key_of(const struct editor *e, const struct sd_json_token *token)
{
	if (e->inside)
		return token->depth == e->inside + 1 && sd_json_is(token, MODULES) ? SKIPPED : OTHER;
	if (sd_json_is(token, QUANTISATION))
		return QUANT;
	return sd_json_is(token, "dtype") || sd_json_is(token, "torch_dtype") ? DTYPE : OTHER;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Copies up to from, and goes on behind to; what is written in between takes the place of the bytes there. */
static void cut(struct editor *e, size_t from, size_t to)
{
	fwrite(e->json + e->copied, 1, from - e->copied, e->out);
	e->copied = to;
}

/* Where the value of the current member begins. */
static size_t value_of(const struct editor *e, const struct level *l)
{
	size_t at = l->key_end;

	while (at < e->length && (is_space(e->json[at]) || e->json[at] == ':'))
		at++;
	return at;
}

/* With the comma on one side of it. Returns where the member after it ends up behind. */
static size_t remove_member(struct editor *e, const struct level *l, size_t end)
{
	size_t at = end;

	while (l->first && at < e->length && is_space(e->json[at]))
		at++;
	if (l->first && at < e->length && e->json[at] == ',')
		end = at + 1;
	cut(e, l->before, end);
	return end;
}

static void write_modules(const struct editor *e, unsigned depth)
{
	const struct change *c = e->change;

	putc('[', e->out);
	for (size_t i = 0; i < c->nmodules; i++) {
		fprintf(e->out, "%s\n%*s", i ? "," : "", 2 * (int)depth + 2, "");
		sd_json_write(e->out, c->modules[i], SD_JSON_ASCII);
	}
	if (c->nmodules)
		fprintf(e->out, "\n%*s", 2 * (int)depth, "");
	putc(']', e->out);
}

static void write_quantisation(const struct editor *e, unsigned depth)
{
	int indent = 2 * (int)depth;

	fprintf(e->out,
		"{\n%*s\"activation_scheme\": \"dynamic\",\n%*s\"fmt\": \"e4m3\",\n%*s\"" MODULES "\": ", indent + 2,
		"", indent + 2, "", indent + 2, "");
	write_modules(e, depth + 1);
	fprintf(e->out, ",\n%*s\"quant_method\": \"fp8\",\n%*s\"weight_block_size\": [\n%*s128,\n%*s128\n%*s]\n%*s}",
		indent + 2, "", indent + 2, "", indent + 4, "", indent + 4, "", indent + 2, "", indent, "");
}

/* A new member at the end of an object. */
static void append(struct editor *e, unsigned depth, const char *key,
		   void (*value)(const struct editor *e, unsigned depth))
{
	const struct level *l = &e->level[depth];

	cut(e, l->before, l->before);
	fprintf(e->out, "%s\n%*s\"%s\": ", l->first ? "" : ",", 2 * (int)depth, "", key);
	value(e, depth);
}

static void edit_dtype(struct editor *e, const struct level *l, const struct sd_json_token *token)
{
	const struct change *c = e->change;
	bool quantised = token->length >= 6 && memcmp(token->text, "float8", 6) == 0;

	if (token->kind != SD_JSON_STRING || c->after == SD_NO_DTYPE)
		return;
	if (token->depth > 1 && !quantised && !sd_json_is(token, torch_name(c->before)))
		return;
	cut(e, value_of(e, l), token->end);
	fprintf(e->out, "\"%s\"", torch_name(c->after));
}

/* Another value for the current member. */
static void replace_value(struct editor *e, const struct sd_json_token *token,
			  void (*value)(const struct editor *e, unsigned depth))
{
	cut(e, value_of(e, &e->level[token->depth]), token->end);
	value(e, token->depth);
}

/* The member's value is read. */
static void edit_member(struct editor *e, const struct sd_json_token *token)
{
	struct level *l = &e->level[token->depth], next = {.before = token->end};
	const struct change *c = e->change;

	if (l->key == QUANT)
		e->inside = 0;
	if (l->key == DTYPE)
		edit_dtype(e, l, token);
	else if (l->key == QUANT && c->plain)
		next = (struct level){.before = remove_member(e, l, token->end), .first = l->first};
	else if (l->key == QUANT && c->mixed && token->kind != SD_JSON_OBJECT_END)
		replace_value(e, token, write_quantisation);
	else if (l->key == SKIPPED && c->mixed)
		replace_value(e, token, write_modules);
	*l = next;
}

static enum sd_result take(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct editor *e = user;
	struct level *l = &e->level[token->depth];
	bool mixed = e->change->mixed;

	if (token->depth == 0 && token->kind != SD_JSON_OBJECT && token->kind != SD_JSON_OBJECT_END)
		return sd_fail(err, SD_INPUT, "it is no JSON object");
	switch (token->kind) {
	case SD_JSON_KEY:
		l->key = key_of(e, token);
		l->key_end = token->end;
		if (l->key == QUANT) {
			e->inside = token->depth;
			e->has_quant = true;
			e->has_modules = false;
		}
		e->has_modules |= l->key == SKIPPED;
		return SD_OK;
	case SD_JSON_OBJECT:
	case SD_JSON_ARRAY:
		l[1] = (struct level){.before = token->end, .first = true};
		return SD_OK;
	case SD_JSON_OBJECT_END:
		if (mixed && e->inside && token->depth == e->inside && !e->has_modules)
			append(e, token->depth + 1, MODULES, write_modules);
		if (mixed && token->depth == 0 && !e->has_quant)
			append(e, 1, QUANTISATION, write_quantisation);
		break;
	default:
		break;
	}
	edit_member(e, token);
	return SD_OK;
}

static enum sd_result edit(const struct change *change, const struct sd_side_file *config, char **text, size_t *length,
			   struct sd_error *err)
{
	struct editor e = {.change = change, .json = config->data, .length = config->size};
	struct sd_memstream *stream = sd_memstream_open(&e.out);
	enum sd_result result;

	*text = NULL;
	if (!stream)
		return sd_fail_memory(err);
	result = sd_json_parse(e.json, e.length, take, &e, err);
	if (result == SD_OK)
		cut(&e, e.length, e.length);
	if (!sd_memstream_close(stream, text, length) && result == SD_OK)
		result = sd_fail_memory(err);
	return result;
}

/* ---- both ---- */

static enum sd_result replace(struct sd_manifest *to, struct sd_side_file *config, const struct change *change,
			      struct sd_error *err)
{
	size_t length = 0;
	char *text;
	enum sd_result result = edit(change, config, &text, &length, err);

	if (result == SD_OK) {
		config->data = sd_arena_copy(&to->arena, text, length);
		config->size = length;
		if (!config->data)
			result = sd_fail_memory(err);
	} else if (result == SD_INPUT) {
		sd_error_at(err, "%s has to change with the weights (--keep-config leaves it as it is)", config->name);
	}
	free(text);
	return result;
}

/* The list, of modules that are not quantised, of each method; NULL: it has none that names could be added to. */
static const char *list_of(enum sd_quant_method method)
{
	switch (method) {
	case SD_QUANT_COMPRESSED_TENSORS:
	case SD_QUANT_MODELOPT:
		return "ignore";
	case SD_QUANT_AWQ:
		return MODULES;
	case SD_QUANT_BITSANDBYTES:
		return "llm_int8_skip_modules";
	default:
		return NULL;
	}
}

/* Adds the modules to a list of an object. */
static bool add_to_list(struct sd_json_tree *tree, struct sd_json_node *object, const char *key, const struct change *c)
{
	struct sd_json_node *list = sd_json_get(object, key);
	bool memory = true;

	if (!list || list->kind != SD_JSON_ARRAY) {
		list = sd_json_new(tree, SD_JSON_ARRAY, NULL);
		memory = list && sd_json_set(tree, object, key, list);
	}
	for (size_t i = 0; i < c->nmodules && memory; i++) {
		struct sd_json_node *name = sd_json_new(tree, SD_JSON_STRING, c->modules[i]);

		memory = name && sd_json_append(tree, list, name);
	}
	return memory;
}

/* Puts the modules that are plain now onto the list of a file. inside: the object that has it, at the top or one below.
 */
static enum sd_result extend(struct sd_manifest *to, const char *file, const char *inside, const char *key,
			     const struct change *c, bool *there, struct sd_error *err)
{
	struct sd_side_file *side = sd_config_file(to, file);
	struct sd_json_tree tree;
	struct sd_json_node *object;

	if (!side)
		return SD_OK;
	if (sd_json_tree_read(&tree, side->data, side->size, &to->arena, err) != SD_OK)
		return sd_error_at(err, "%s has to change with the weights (--keep-config leaves it as it is)", file);
	object = sd_json_get(tree.root, inside);
	for (struct sd_json_node *at = tree.root->first; at && !object; at = at->next)
		object = sd_json_get(at, inside);
	if (!object || object->kind != SD_JSON_OBJECT)
		return SD_OK;
	*there = true;
	return add_to_list(&tree, object, key, c) ? sd_config_store(to, side, &tree, err) : sd_fail_memory(err);
}

static enum sd_result follow_partly(struct sd_manifest *to, const struct change *c, struct sd_error *err)
{
	const char *key = list_of(c->method);
	bool there = false;
	enum sd_result result = SD_OK;

	if (key)
		result = extend(to, "config.json", QUANTISATION, key, c, &there, err);
	if (result == SD_OK && c->method == SD_QUANT_MODELOPT)
		result = extend(to, "hf_quant_config.json", "quantization", "exclude_modules", c, &there, err);
	if (result == SD_OK && !there)
		result = sd_fail(err, SD_INPUT,
				 "%s would be plain and others stay quantised, which config.json cannot say of this "
				 "method: dequantise all of them, or take --keep-config",
				 c->modules[0]);
	return result;
}

/* Leaves out what only tells how weights are quantised: modelopt's file, GPTQ's and AWQ's. */
static void drop_quantisation(struct sd_manifest *m)
{
	static const char *const names[] = {"hf_quant_config.json", "quantize_config.json", "quant_config.json"};
	size_t kept = 0;

	for (size_t i = 0; i < m->nside; i++) {
		bool found = false;

		for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++)
			found = found || strcmp(m->side[i].name, names[n]) == 0;
		if (!found)
			m->side[kept++] = m->side[i];
	}
	m->nside = kept;
}

enum sd_result sd_config_dtypes_follow(struct sd_manifest *to, const struct sd_manifest *from, struct sd_error *err)
{
	const struct sd_side_file *config = sd_manifest_side(to, "config.json");
	struct change change = {0};
	enum sd_result result;

	if (!config)
		return SD_OK;
	result = compare(&change, to, from, err);
	if (result == SD_OK && change.partly)
		result = follow_partly(to, &change, err);
	if (result == SD_OK && (change.plain || change.mixed || change.after != SD_NO_DTYPE))
		result = replace(to, &to->side[config - to->side], &change, err);
	if (result == SD_OK && change.plain)
		drop_quantisation(to);
	free(change.modules);
	sd_arena_free(&change.arena);
	return result;
}
