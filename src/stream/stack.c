/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks: what is counted in names. */
#include "stream/stack.h"

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

bool sd_stack_layer(const char *name, size_t *stack, uint32_t *number)
{
	static const char *const words[] = {
		"layers", "layer", "blocks", "block", "h", "blk", "resblocks", "transformer_blocks", "decoder_layers"};

	for (size_t i = 0; i < COUNT(words); i++)
		if (sd_stack_number(name, words[i], strlen(words[i]), stack, number))
			return true;
	return false;
}
