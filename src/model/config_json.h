/* SPDX-License-Identifier: Apache-2.0 */
/* Looks a value up in config.json or a file like it, and puts such a file back. */
#ifndef SD_MODEL_CONFIG_JSON_H
#define SD_MODEL_CONFIG_JSON_H

#include "base/json_tree.h"
#include "model/manifest.h"

/* The side file of that name, to be changed, or NULL. */
struct sd_side_file *sd_config_file(struct sd_manifest *m, const char *name);

/* Gives it the tree's text, in m's arena. */
SD_MUST_CHECK enum sd_result sd_config_store(struct sd_manifest *m, struct sd_side_file *file,
					     const struct sd_json_tree *tree, struct sd_error *err);

/*
 * Calls take for every text, number, true or false at this path of a JSON file ("text_config.model_type"; all elements
 * of an array).
 * A file that is no JSON has none.
 */
void sd_config_find(const struct sd_side_file *file, const char *path, void (*take)(void *user, const char *value),
		    void *user);

/* Copies the first text, number, true or false at a path into text, cut at size; "" where there is none. file may be
 * NULL. */
void sd_config_text(const struct sd_side_file *file, const char *path, char *text, size_t size);

/* Numbers of a model that config.json has under several names. */
enum sd_config_number {
	SD_CONFIG_LAYERS,
	SD_CONFIG_EXPERTS, /* of a layer */
	SD_CONFIG_HIDDEN,
	SD_CONFIG_VOCABULARY,
	SD_CONFIG_EXPERT_WIDTH, /* between an expert's projections up and down */
};

/* The first of its names that the manifest's config.json has; false where it has none. */
SD_MUST_CHECK bool sd_config_count(const struct sd_manifest *m, enum sd_config_number which, uint64_t *count);

/*
 * All members that have that number under one of its names, in the objects where sd_config_count looks; the first is
 * the one that it takes. How many; room for nodes, no more are found.
 */
SD_MUST_CHECK size_t sd_config_numbers(const struct sd_json_tree *tree, enum sd_config_number which,
				       struct sd_json_node **nodes, size_t room);

/* The same, and the name; false also where it is a list of several numbers. */
SD_MUST_CHECK bool sd_config_size(const struct sd_manifest *m, enum sd_config_number which, uint64_t *size,
				  const char **field);

/* What the fields of config.json, or of an adapter_config.json, say of how layers differ. */
enum sd_config_layers {
	SD_CONFIG_LAYERS_UNKNOWN, /* there is no such file */
	SD_CONFIG_LAYERS_ALIKE,   /* nothing tells them apart */
	SD_CONFIG_LAYERS_TYPES,   /* only that there are types, which layer_types may tell */
	SD_CONFIG_LAYERS_DIFFER,  /* they may differ one by one */
};

enum sd_config_layers sd_config_layers(const struct sd_manifest *m);

/* quantization_config.weight_block_size, rows and columns; false where config.json has none. */
SD_MUST_CHECK bool sd_config_blocks(const struct sd_manifest *m, uint64_t block[2]);

#endif
