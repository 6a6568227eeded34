/* SPDX-License-Identifier: Apache-2.0 */
/* The list of checksums that sd-ls --checksum prints in a pipe, read. */
#ifndef SD_TOOLS_SUM_LIST_H
#define SD_TOOLS_SUM_LIST_H

#include "base/arena.h"
#include "base/names.h"

/* A line: a tensor, as it was. */
struct sum_line {
	const char *name; /* escaped, as it stands there */
	const char *dtype, *shape;
	uint64_t sum;
	bool there; /* the caller's */
};

/* {0} is an empty one. */
struct sum_list {
	struct sd_arena arena;
	struct sd_names names;
	struct sum_line *lines;
	size_t n, room;
};

/* Whether what lies at path begins as such a list does; false for what cannot be read. Only memory can be missing. */
SD_MUST_CHECK enum sd_result sum_list_is(const char *path, bool *is, struct sd_error *err);

/* SD_INPUT for what is no such list. sum_list_free in any case. */
SD_MUST_CHECK enum sd_result sum_list_read(struct sum_list *list, const char *path, struct sd_error *err);
void sum_list_free(struct sum_list *list);

#endif
