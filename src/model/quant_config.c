/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of weights that have become quantised as compressed-tensors stores them. */
#include "model/quant_config.h"
#include "model/companions.h"
#include "model/config_json.h"

#include <string.h>

/* What compressed-tensors 0.20 calls the forms. */
static const struct {
	const char *format, *bits, *strategy, *group, *scale_dtype;
} FORMS[] = {
	[SD_QUANTISE_ROWS] = {"float-quantized", "8", "channel", NULL, NULL},
	[SD_QUANTISE_ALL] = {"float-quantized", "8", "tensor", NULL, NULL},
	[SD_QUANTISE_MXFP4] = {"mxfp4-pack-quantized", "4", "group", "32", "torch.uint8"},
	[SD_QUANTISE_NVFP4] = {"nvfp4-pack-quantized", "4", "tensor_group", "16", "torch.float8_e4m3fn"},
};

struct writing {
	struct sd_json_tree tree;
	bool memory;
};

/* A new member of an object, which is returned. */
static struct sd_json_node *put(struct writing *w, struct sd_json_node *object, const char *key, enum sd_json_kind kind,
				const char *text)
{
	struct sd_json_node *node = w->memory ? sd_json_new(&w->tree, kind, text) : NULL;

	w->memory = node && sd_json_set(&w->tree, object, key, node);
	return node;
}

static void put_text(struct writing *w, struct sd_json_node *object, const char *key, const char *text)
{
	put(w, object, key, text ? SD_JSON_STRING : SD_JSON_WORD, text ? text : "null");
}

static void put_group(struct writing *w, struct sd_json_node *groups, enum sd_quantiser kind)
{
	struct sd_json_node *group = put(w, groups, "group_0", SD_JSON_OBJECT, NULL), *weights, *list, *target;

	put_text(w, group, "format", FORMS[kind].format);
	put_text(w, group, "input_activations", NULL);
	put_text(w, group, "output_activations", NULL);
	list = put(w, group, "targets", SD_JSON_ARRAY, NULL);
	target = w->memory ? sd_json_new(&w->tree, SD_JSON_STRING, "Linear") : NULL;
	w->memory = target && sd_json_append(&w->tree, list, target);
	weights = put(w, group, "weights", SD_JSON_OBJECT, NULL);
	put(w, weights, "dynamic", SD_JSON_WORD, "false");
	put(w, weights, "group_size", FORMS[kind].group ? SD_JSON_NUMBER : SD_JSON_WORD,
	    FORMS[kind].group ? FORMS[kind].group : "null");
	put(w, weights, "num_bits", SD_JSON_NUMBER, FORMS[kind].bits);
	if (FORMS[kind].scale_dtype)
		put_text(w, weights, "scale_dtype", FORMS[kind].scale_dtype);
	put_text(w, weights, "strategy", FORMS[kind].strategy);
	put(w, weights, "symmetric", SD_JSON_WORD, "true");
	put_text(w, weights, "type", "float");
}

/* The modules of matrices that are plain. */
static void put_ignored(struct writing *w, struct sd_json_node *list, const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->ntargets && w->memory; i++) {
		const struct sd_target *t = &m->targets[i];
		struct sd_name_role role = sd_name_role(t->name);
		struct sd_json_node *node;
		char *module;

		if (role.role != SD_ROLE_WEIGHT || t->rank != 2 || sd_dtype_is_codes((enum sd_dtype)t->dtype))
			continue;
		module = sd_arena_text(w->tree.arena, t->name, role.stem);
		node = module ? sd_json_new(&w->tree, SD_JSON_STRING, module) : NULL;
		w->memory = node && sd_json_append(&w->tree, list, node);
	}
}

enum sd_result sd_quant_config_add(struct sd_manifest *m, enum sd_quantiser kind, struct sd_error *err)
{
	struct sd_side_file *file = sd_config_file(m, "config.json");
	struct writing w = {.memory = true};
	struct sd_json_node *config;

	if (!file)
		return SD_OK;
	if (sd_json_tree_read(&w.tree, file->data, file->size, &m->arena, err) != SD_OK)
		return sd_error_at(err,
				   "config.json has to change with the weights (--keep-config leaves it as it is)");
	config = put(&w, w.tree.root, "quantization_config", SD_JSON_OBJECT, NULL);
	put_group(&w, put(&w, config, "config_groups", SD_JSON_OBJECT, NULL), kind);
	put_text(&w, config, "format", FORMS[kind].format);
	put_ignored(&w, put(&w, config, "ignore", SD_JSON_ARRAY, NULL), m);
	put_text(&w, config, "kv_cache_scheme", NULL);
	put_text(&w, config, "quant_method", "compressed-tensors");
	put_text(&w, config, "quantization_status", "compressed");
	return w.memory ? sd_config_store(m, file, &w.tree, err) : sd_fail_memory(err);
}
