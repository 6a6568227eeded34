/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is freed all at once, and arrays that grow. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK (64 * 1024)

struct sd_arena_block {
	struct sd_arena_block *next;
	size_t used, size;
	alignas(max_align_t) char data[];
};

void *sd_arena_alloc(struct sd_arena *arena, size_t size)
{
	struct sd_arena_block *block = arena->blocks;
	const size_t align = alignof(max_align_t);
	void *p;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + align - 1) / align * align;
	if (!block || block->size - block->used < size) {
		size_t room = size > BLOCK / 4 ? size : BLOCK;

		block = calloc(1, sizeof(*block) + room);
		if (!block) {
			arena->failed = true;
			return NULL;
		}
		block->size = room;
		/* A large piece goes behind the block that still has room. */
		if (room != BLOCK && arena->blocks) {
			block->next = arena->blocks->next;
			arena->blocks->next = block;
		} else {
			block->next = arena->blocks;
			arena->blocks = block;
		}
	}
	p = block->data + block->used;
	block->used += size;
	return p;
}

void *sd_arena_array(struct sd_arena *arena, size_t count, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(count, size, &bytes) ? NULL : sd_arena_alloc(arena, bytes);
}

void *sd_arena_copy(struct sd_arena *arena, const void *data, size_t size)
{
	void *p = sd_arena_alloc(arena, size);

	if (p && size)
		memcpy(p, data, size);
	return p;
}

char *sd_arena_text(struct sd_arena *arena, const char *text, size_t length)
{
	char *p = length < SIZE_MAX ? sd_arena_alloc(arena, length + 1) : NULL;

	if (p && length)
		memcpy(p, text, length);
	return p;
}

char *sd_arena_printf(struct sd_arena *arena, const char *format, ...)
{
	va_list args;
	char *p = NULL;
	int n;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (n >= 0)
		p = sd_arena_alloc(arena, (size_t)n + 1);
	if (p) {
		va_start(args, format);
		vsnprintf(p, (size_t)n + 1, format, args);
		va_end(args);
	}
	return p;
}

void sd_arena_undo(struct sd_arena *arena, void *last)
{
	struct sd_arena_block *block = arena->blocks;
	size_t offset = (uintptr_t)last - (uintptr_t)block->data;

	if (offset >= block->used)
		return;
	memset(last, 0, block->used - offset);
	block->used = offset;
}

void sd_arena_free(struct sd_arena *arena)
{
	while (arena->blocks) {
		struct sd_arena_block *next = arena->blocks->next;

		free(arena->blocks);
		arena->blocks = next;
	}
}

bool sd_array_grow(void *array, size_t count, size_t *room, size_t element)
{
	size_t more = *room ? *room * 2 : 16, bytes;
	void *old, *p;

	if (count < *room)
		return true;
	if (more < *room || __builtin_mul_overflow(more, element, &bytes))
		return false;
	memcpy(&old, array, sizeof(old));
	p = realloc(old, bytes);
	if (!p)
		return false;
	memcpy(array, &p, sizeof(p));
	*room = more;
	return true;
}
