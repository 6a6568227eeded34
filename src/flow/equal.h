/* SPDX-License-Identifier: Apache-2.0 */
/* Records that have to be the same bytes: a source that looks whether they are, as their data goes by. */
#ifndef SD_FLOW_EQUAL_H
#define SD_FLOW_EQUAL_H

#include "flow/source.h"

/* Two records of the incoming manifest, of one dtype and shape. */
struct sd_equal {
	uint32_t record[2];
	const char *why; /* the line to be said where they differ */
};

struct sd_equals;

/* NULL when memory is out. Both arguments must outlive it. */
struct sd_equals *sd_equals_new(const struct sd_equal *pairs, size_t n, const struct sd_manifest *manifest);
void sd_equals_free(struct sd_equals *equals);

/*
 * A source for this record in place of from: from itself, unless the record is one of a pair. Then its data comes in
 * memory, and is summed (XXH3, 64 bits); the call that says that the second one of a pair is whole fails with SD_INPUT
 * where they differ. A pair of which one record has no data is not looked at.
 */
struct sd_source *sd_equals_source(struct sd_equals *equals, struct sd_source *from, uint32_t record);

#endif
