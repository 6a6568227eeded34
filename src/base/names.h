/* SPDX-License-Identifier: Apache-2.0 */
/* A table from names to numbers. */
#ifndef SD_BASE_NAMES_H
#define SD_BASE_NAMES_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define SD_NO_NAME UINT32_MAX

/* {0} is an empty table. The texts are borrowed: they must outlive the table. */
struct sd_names {
	struct sd_names_slot *slots;
	size_t used, room;
	uint64_t seed;
};

/* The number of a name, or SD_NO_NAME. */
uint32_t sd_names_find(const struct sd_names *names, const char *name);

/*
 * Gives the name this number, unless it has one already. Returns the number that the name has now,
 * or SD_NO_NAME when memory is out.
 */
SD_MUST_CHECK uint32_t sd_names_add(struct sd_names *names, const char *name, uint32_t number);

/* Makes room for n names, so that the table need not grow later. False when memory is out. */
SD_MUST_CHECK bool sd_names_reserve(struct sd_names *names, size_t n);

void sd_names_free(struct sd_names *names);

#endif
