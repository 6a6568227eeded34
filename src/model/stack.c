/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks: what is counted in names. */
#include "model/stack.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

bool sd_stack_is_other(const char *prefix, size_t length)
{
	static const char *const words[] = {"vis",    "audio", "encoder", "tower",          "vit",
					    "talker", "mtp",   "draft",   "code_predictor", "experts."};

	for (size_t i = 0; i < COUNT(words); i++)
		if (memmem(prefix, length, words[i], strlen(words[i])))
			return true;
	return false;
}

/* The number that is a whole part of a name, and fits. */
static bool read_part(const char *text, uint32_t *number)
{
	size_t digits = strspn(text, "0123456789");

	*number = 0;
	for (size_t i = 0; i < digits && digits < 10; i++)
		*number = *number * 10 + (uint32_t)(text[i] - '0');
	return digits && digits < 10 && (!text[digits] || text[digits] == '.');
}

bool sd_stack_number(const char *name, const char *word, size_t length, size_t *stack, uint32_t *number)
{
	for (const char *part = name; part; part = strchr(part, '.') ? strchr(part, '.') + 1 : NULL) {
		if (strncmp(part, word, length) != 0 || part[length] != '.' || !read_part(part + length + 1, number))
			continue;
		*stack = (size_t)(part - name) + length;
		return true;
	}
	return false;
}

static const char *const layers[] = {
	"layers", "layer", "blocks", "block", "h", "blk", "resblocks", "transformer_blocks", "decoder_layers"};

bool sd_stack_is_word(const char *word, size_t length)
{
	for (size_t i = 0; i < COUNT(layers); i++)
		if (strlen(layers[i]) == length && memcmp(word, layers[i], length) == 0)
			return true;
	return false;
}

bool sd_stack_layer(const char *name, size_t *stack, uint32_t *number)
{
	for (size_t i = 0; i < COUNT(layers); i++)
		if (sd_stack_number(name, layers[i], strlen(layers[i]), stack, number))
			return true;
	return false;
}

static bool is_stack(const struct sd_stack *stack, const char *name, size_t length)
{
	return stack->length == length && memcmp(stack->name, name, length) == 0;
}

static struct sd_stack *find_stack(struct sd_stack *stacks, size_t *n, const char *name, size_t length)
{
	for (size_t i = 0; i < *n; i++)
		if (is_stack(&stacks[i], name, length))
			return &stacks[i];
	if (*n == SD_STACKS_MAX)
		return NULL;
	stacks[*n] = (struct sd_stack){name, length, 0};
	return &stacks[(*n)++];
}

size_t sd_stack_list(const struct sd_manifest *m, struct sd_stack stacks[SD_STACKS_MAX])
{
	struct sd_stack other = {"", 0, 0},
			*last = NULL; /* the last ones: that are other layers, and that are listed */
	size_t n = 0;

	for (size_t i = 0; i < m->ntargets; i++) {
		const char *name = m->targets[i].name;
		uint32_t number;
		size_t length;

		if (!sd_stack_layer(name, &length, &number) || is_stack(&other, name, length))
			continue;
		if (!last || !is_stack(last, name, length)) {
			if (sd_stack_is_other(name, length)) {
				other = (struct sd_stack){name, length, 0};
				continue;
			}
			last = find_stack(stacks, &n, name, length);
		}
		if (last)
			last->keys++;
	}
	return n;
}

const char *sd_stack_main(const struct sd_manifest *m, size_t *length)
{
	struct sd_stack stacks[SD_STACKS_MAX], *best = NULL;
	size_t n = sd_stack_list(m, stacks);

	for (size_t i = 0; i < n; i++)
		if (!best || stacks[i].keys > best->keys)
			best = &stacks[i];
	*length = best ? best->length : 0;
	return best ? best->name : NULL;
}
