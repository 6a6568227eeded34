/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of records that must have the same bytes: a source that compares them as their data goes by. */
#ifndef SD_FLOW_EQUAL_H
#define SD_FLOW_EQUAL_H

#include "flow/source.h"

/* Two records of the input manifest with the same dtype and shape. */
struct sd_equal {
	uint32_t record[2];
	const char *why; /* the error if they differ */
};

struct sd_equals;

/* NULL when memory is out. Both arguments must outlive it. */
struct sd_equals *sd_equals_new(const struct sd_equal *pairs, size_t n, const struct sd_manifest *manifest);
void sd_equals_free(struct sd_equals *equals);

/*
 * The source to read this record from, in place of from. It is from itself unless the record is in a pair. Of such a
 * record the data comes in memory, and its XXH3 (64 bits) is computed; next fails with SD_INPUT at the end of the
 * second record if the two differ. A pair with a record that has no data is not compared.
 */
struct sd_source *sd_equals_source(struct sd_equals *equals, struct sd_source *from, uint32_t record);

#endif
