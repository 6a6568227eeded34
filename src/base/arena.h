/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is freed all at once, and arrays that grow. */
#ifndef SD_BASE_ARENA_H
#define SD_BASE_ARENA_H

#include "base/error.h"

struct sd_arena {
	struct sd_arena_block *blocks;
	bool failed; /* memory was out at least once */
};

/* Allocates size zeroed bytes, aligned for any type, valid until sd_arena_free. NULL when memory is out. {0} is an
 * empty arena. */
void *sd_arena_alloc(struct sd_arena *arena, size_t size);

/* Allocates count elements of size bytes. NULL when memory is out or the product overflows. */
void *sd_arena_array(struct sd_arena *arena, size_t count, size_t size);

/* Copies length bytes and adds a NUL. */
char *sd_arena_text(struct sd_arena *arena, const char *text, size_t length);

/* A copy of size bytes. */
void *sd_arena_copy(struct sd_arena *arena, const void *data, size_t size);

/* A formatted text. */
char *sd_arena_printf(struct sd_arena *arena, const char *format, ...) SD_PRINTF(2, 3);

/* Frees the last allocation, for texts that turn out not to be needed. Large ones may stay until sd_arena_free. */
void sd_arena_undo(struct sd_arena *arena, void *last);

void sd_arena_free(struct sd_arena *arena);

/*
 * Makes room for one more element at the end of a malloc'd array (*array has count elements, and room for *room).
 * Doubles, so appending n elements costs O(n). False when memory is out; the array is then as it was.
 */
SD_MUST_CHECK bool sd_array_grow(void *array, size_t count, size_t *room, size_t element);

#endif
