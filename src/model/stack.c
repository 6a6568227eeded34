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

/* A stack of layers, and how many names have it. */
struct stack {
	const char *name;
	size_t length, keys;
};

static bool is_stack(const struct stack *stack, const char *name, size_t length)
{
	return stack->length == length && memcmp(stack->name, name, length) == 0;
}

static struct stack *find_stack(struct stack *stacks, size_t *n, size_t room, const char *name, size_t length)
{
	for (size_t i = 0; i < *n; i++)
		if (is_stack(&stacks[i], name, length))
			return &stacks[i];
	if (*n == room)
		return NULL;
	stacks[*n] = (struct stack){name, length, 0};
	return &stacks[(*n)++];
}

const char *sd_stack_main(const struct sd_manifest *m, size_t *length)
{
	struct stack stacks[32], *best = NULL; /* no model has as many; further ones do not count */
	struct stack other = {"", 0, 0};       /* the last one that is no main one */
	size_t n = 0;

	for (size_t i = 0; i < m->ntargets; i++) {
		const char *name = m->targets[i].name;
		struct stack *stack;
		uint32_t number;

		if (!sd_stack_layer(name, length, &number) || is_stack(&other, name, *length))
			continue;
		if (!(best && is_stack(best, name, *length)) && sd_stack_is_other(name, *length)) {
			other = (struct stack){name, *length, 0};
			continue;
		}
		stack = find_stack(stacks, &n, COUNT(stacks), name, *length);
		if (stack && ++stack->keys && (!best || stack->keys > best->keys))
			best = stack;
	}
	*length = best ? best->length : 0;
	return best ? best->name : NULL;
}
