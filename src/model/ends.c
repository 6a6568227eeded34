/* SPDX-License-Identifier: Apache-2.0 */
/* What stands before the layers of a language model and behind them. */
#include "model/ends.h"
#include "model/config_json.h"
#include "model/stack.h"

#include <stdio.h>
#include <string.h>

enum end { EMBEDDING, NORM, HEAD, ENDS };

/* Whether a name that is of no layer is one of these, as any family may call it. */
static bool is_end(const char *name, enum end which)
{
	static const char *const words[ENDS][8] = {
		[EMBEDDING] = {"embed", "wte"},
		[NORM] = {"norm", "ln_f"},
		[HEAD] = {"head", "output", "embed_out", "unembed", "score", "classifier", "heads"},
	};

	for (size_t i = 0; words[which][i]; i++)
		if (strstr(name, words[which][i]))
			return true;
	return false;
}

/* The module that holds the layers: "model." of "model.layers"; only where transformers' names can be told from it. */
static bool find_holder(const struct sd_manifest *m, char *holder, size_t size)
{
	static const char word[] = "layers";
	size_t length, end = sizeof(word) - 1;
	const char *stack = sd_stack_main(m, &length);

	if (!stack || length <= end || length >= size || memcmp(stack + length - end, word, end) != 0)
		return false;
	snprintf(holder, size, "%.*s", (int)(length - end), stack);
	return strcmp(holder, "model.") == 0 || strcmp(holder, "model.language_model.") == 0 ||
	       strcmp(holder, "language_model.model.") == 0;
}

/* Whether a name is the language model's, and of no layer. */
static bool is_outside(const char *name, const char *holder)
{
	size_t stack, length = strlen(holder);
	uint32_t number;

	if (sd_stack_layer(name, &stack, &number) || sd_stack_is_other(name, strlen(name)))
		return false;
	return strncmp(name, holder, length) == 0 || strncmp(name, "lm_head.", 8) == 0 ||
	       strncmp(name, "language_model.", 15) == 0 || !strchr(name, '.') ||
	       strchr(name, '.') == strrchr(name, '.');
}

static void note_other(void *user, const char *value)
{
	if (!strstr(value, "ForCausalLM") && !strstr(value, "ForConditionalGeneration"))
		*(bool *)user = true;
}

/* Whether config.json says that the head is a tensor of its own. */
static bool wants_head(const struct sd_manifest *m)
{
	static const char *const paths[] = {"tie_word_embeddings", "text_config.tie_word_embeddings"};
	const struct sd_side_file *config = sd_manifest_side(m, "config.json");
	bool other = false, untied = false;

	sd_config_find(config, "architectures", note_other, &other);
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths) && !untied && !other; i++) {
		char text[8];

		sd_config_text(config, paths[i], text, sizeof(text));
		if (strcmp(text, "true") == 0)
			return false;
		untied = strcmp(text, "false") == 0;
	}
	return untied && !other;
}

void sd_ends_missing(const struct sd_manifest *m, void (*take)(void *user, const char *name), void *user)
{
	bool there[ENDS] = {false};
	char holder[64], name[128];
	uint64_t layers;

	if (!sd_config_count(m, SD_CONFIG_LAYERS, &layers) || !find_holder(m, holder, sizeof(holder)))
		return;
	for (size_t i = 0; i < m->ntargets; i++)
		for (int end = 0; end < ENDS; end++)
			there[end] = there[end] || (is_outside(m->targets[i].name, holder) &&
						    is_end(m->targets[i].name, (enum end)end));
	if (!there[EMBEDDING] && !there[NORM] && !there[HEAD])
		return;
	if (!there[EMBEDDING]) {
		snprintf(name, sizeof(name), "%sembed_tokens.weight", holder);
		take(user, name);
	}
	if (!there[NORM]) {
		snprintf(name, sizeof(name), "%snorm.weight", holder);
		take(user, name);
	}
	if (!there[HEAD] && wants_head(m))
		take(user, "lm_head.weight");
}
