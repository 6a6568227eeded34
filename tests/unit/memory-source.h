/* SPDX-License-Identifier: Apache-2.0 */
/* A source in memory, for tests: its records hold what fill makes of their numbers. */
#ifndef TESTS_UNIT_MEMORY_SOURCE_H
#define TESTS_UNIT_MEMORY_SOURCE_H

#include "flow/source.h"

#include <criterion/criterion.h>
#include <stdlib.h>

struct memory_source {
	struct sd_source source;
	void (*fill)(unsigned char *data, uint32_t record, size_t bytes);
	unsigned char *data;
	uint64_t given;   /* a record, and one more */
	uint32_t fail_at; /* a record whose data cannot be read */
};

static inline enum sd_result memory_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
					 struct sd_error *err)
{
	struct memory_source *s = (struct memory_source *)source;
	uint64_t bytes = source->manifest->records[record].bytes;

	if (record == s->fail_at)
		return sd_fail(err, SD_IO, "disk on fire");
	free(s->data);
	s->data = malloc(bytes + 1);
	s->fill(s->data, record, bytes);
	*extent = (struct sd_extent){.memory = s->data, .length = s->given == record + 1 ? 0 : bytes};
	s->given = record + 1;
	return SD_OK;
}

static inline enum sd_result memory_finish(struct sd_source *source, struct sd_error *err)
{
	(void)source;
	(void)err;
	return SD_OK;
}

static inline void memory_close(struct sd_source *source)
{
	struct memory_source *s = (struct memory_source *)source;

	sd_manifest_free(source->manifest);
	free(s->data);
	free(s);
}

/* With an empty manifest, which is for the test to fill. */
static inline struct sd_source *memory_source(void (*fill)(unsigned char *data, uint32_t record, size_t bytes))
{
	static const struct sd_source_ops ops = {.next = memory_next, .finish = memory_finish, .close = memory_close};
	struct memory_source *s = calloc(1, sizeof(*s));

	cr_assert(s);
	*s = (struct memory_source){
		.source = {.ops = &ops, .manifest = sd_manifest_new()}, .fill = fill, .fail_at = SD_NO_RECORD};
	cr_assert(s->source.manifest);
	return &s->source;
}

#endif
