/* SPDX-License-Identifier: Apache-2.0 */
/* Records that have to be the same bytes. */
#include "flow/equal.h"
#include "flow/checksum.h"

#include <stdlib.h>

/* A record of a pair. */
struct half {
	uint32_t record;
	const struct sd_equal *pair;
	struct half *other;
	uint64_t sum, bytes;
	bool known;
};

struct sd_equals {
	struct sd_source source;
	struct sd_source *inner;
	struct sd_checksum *sum;
	struct half *halves; /* by record */
	size_t n;
	struct sd_extent extent;
	uint64_t bytes; /* of the record so far */
	uint32_t record;
};

static int by_record(const void *a, const void *b)
{
	const struct half *x = a, *y = b;

	return x->record < y->record ? -1 : x->record > y->record;
}

/* The first half with the record, or NULL. */
static struct half *find(const struct sd_equals *e, uint32_t record)
{
	size_t low = 0, high = e->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (e->halves[middle].record < record)
			low = middle + 1;
		else
			high = middle;
	}
	return low < e->n && e->halves[low].record == record ? &e->halves[low] : NULL;
}

/* The record is whole. */
static enum sd_result compare(struct sd_equals *e, struct sd_error *err)
{
	struct half *end = e->halves + e->n;

	for (struct half *h = find(e, e->record); h && h < end && h->record == e->record; h++) {
		h->sum = sd_checksum_value(e->sum);
		h->bytes = e->bytes;
		h->known = true;
		if (h->other->known && (h->other->sum != h->sum || h->other->bytes != h->bytes))
			return sd_fail(err, SD_INPUT, "%s", h->pair->why);
	}
	return SD_OK;
}

static enum sd_result next(struct sd_source *source, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct sd_equals *e = (struct sd_equals *)source;
	enum sd_result result = SD_OK;

	*extent = (struct sd_extent){.fd = -1, .offset = -1};
	if (e->extent.length == 0)
		result = sd_source_next(e->inner, record, &e->extent, err);
	if (result != SD_OK)
		return result;
	if (e->extent.length == 0)
		return compare(e, err);
	result = sd_checksum_take(e->sum, &e->extent, extent, err);
	e->bytes += extent->length;
	return result;
}

static bool sum(const struct sd_source *source, uint32_t record, uint64_t *value)
{
	return sd_source_checksum(((const struct sd_equals *)source)->inner, record, value);
}

/* It is the pump's alone, which finishes and closes what is behind it. */
static const struct sd_source_ops ops = {.next = next, .sum = sum};

struct sd_equals *sd_equals_new(const struct sd_equal *pairs, size_t n, const struct sd_manifest *manifest)
{
	struct sd_equals *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	*e = (struct sd_equals){.source = {.ops = &ops, .manifest = (struct sd_manifest *)manifest},
				.sum = sd_checksum_new(),
				.halves = calloc(2 * n, sizeof(*e->halves)),
				.n = 2 * n};
	if (!e->sum || !e->halves) {
		sd_equals_free(e);
		return NULL;
	}
	for (size_t i = 0; i < 2 * n; i++)
		e->halves[i] = (struct half){.record = pairs[i / 2].record[i % 2], .pair = &pairs[i / 2]};
	qsort(e->halves, e->n, sizeof(*e->halves), by_record);
	for (size_t i = 0; i < e->n; i++) {
		struct half *h = &e->halves[i];

		for (h->other = find(e, h->pair->record[h->pair->record[0] == h->record]); h->other->pair != h->pair;)
			h->other++;
	}
	return e;
}

void sd_equals_free(struct sd_equals *equals)
{
	if (!equals)
		return;
	sd_checksum_free(equals->sum);
	free(equals->halves);
	free(equals);
}

struct sd_source *sd_equals_source(struct sd_equals *equals, struct sd_source *from, uint32_t record)
{
	if (!find(equals, record))
		return from;
	equals->inner = from;
	equals->source.sums = from->sums;
	equals->record = record;
	equals->bytes = 0;
	equals->extent.length = 0;
	sd_checksum_begin(equals->sum);
	return &equals->source;
}
