/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks: what is counted in names, layers and experts. */
#ifndef SD_MODEL_STACK_H
#define SD_MODEL_STACK_H

#include "model/manifest.h"

/* Whether the layers behind this beginning of a name are others than those of the language model. */
bool sd_stack_is_other(const char *prefix, size_t length);

/* Whether a part of a name is a word for layers: "layers", "blocks", "h" and so on. */
bool sd_stack_is_word(const char *word, size_t length);

/*
 * The number of the layer in a name, and the length of what stands in front of it and its dot: "model.layers" of
 * model.layers.3.norm. False where the name has none.
 */
bool sd_stack_layer(const char *name, size_t *stack, uint32_t *number);

/* The number behind a part of a name, or behind parts with dots between, that is word; false where there is none. */
bool sd_stack_number(const char *name, const char *word, size_t length, size_t *stack, uint32_t *number);

/* Layers behind one beginning: "model.layers", and how many names have it. */
struct sd_stack {
	const char *name; /* of the manifest; length bytes count */
	size_t length, keys;
};

#define SD_STACKS_MAX 32 /* no model has as many; further ones do not count */

/* The stacks of layers of a manifest but those of other models; how many. */
size_t sd_stack_list(const struct sd_manifest *m, struct sd_stack stacks[SD_STACKS_MAX]);

/*
 * The layers of the language model, of which there are most names: what stands in front of their numbers, length bytes
 * of a name of the manifest; NULL where there are none.
 */
const char *sd_stack_main(const struct sd_manifest *m, size_t *length);

#endif
