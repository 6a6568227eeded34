/* SPDX-License-Identifier: Apache-2.0 */
/* A source whose data goes to a sink, too. */
#include "flow/tap.h"

#include <stdlib.h>

/* What is read of a pipe at a time. */
#define ROOM (256u << 10)

struct tap {
	struct sd_source source; /* first */
	struct sd_source *inner;
	struct sd_sink *sink;
	uint32_t record;        /* whose data comes; the number before: none yet */
	struct sd_extent piped; /* what is still to be read of a pipe */
	unsigned char room[ROOM];
};

static enum sd_result more(struct tap *tap, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	enum sd_result result = SD_OK;
	size_t length;

	if (!tap->piped.length) {
		result = sd_source_next(tap->inner, record, extent, err);
		if (result != SD_OK || !extent->length || extent->memory || extent->offset >= 0)
			return result;
		tap->piped = *extent;
	}
	length = tap->piped.length < ROOM ? (size_t)tap->piped.length : ROOM;
	result = sd_extent_read(&tap->piped, tap->room, length, err);
	*extent = (struct sd_extent){.length = length, .memory = tap->room, .fd = -1};
	return result;
}

static enum sd_result next(struct sd_source *source, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct tap *tap = (struct tap *)source;
	struct sd_sink *sink = tap->sink;
	struct sd_extent given;
	uint64_t sum;
	bool summed = sink->sums && sink->ops->sum && sd_source_checksum(tap->inner, record, &sum);

	if (summed && tap->record != record)
		sink->ops->await_sum(sink, record);
	tap->record = record;
	if (more(tap, record, extent, err) != SD_OK)
		return err->result;
	given = *extent;
	if (given.length)
		return sink->ops->data(sink, record, &given, err);
	return summed && sd_source_checksum(tap->inner, record, &sum) ? sink->ops->sum(sink, record, sum, err) : SD_OK;
}

static enum sd_result finish(struct sd_source *source, struct sd_error *err)
{
	return sd_source_finish(((struct tap *)source)->inner, err);
}

static void close_tap(struct sd_source *source)
{
	free(source);
}

static void explain(struct sd_source *source, struct sd_error *err)
{
	sd_source_explain(((struct tap *)source)->inner, err);
}

static bool sum_of(const struct sd_source *source, uint32_t record, uint64_t *sum)
{
	return sd_source_checksum(((const struct tap *)source)->inner, record, sum);
}

struct sd_source *sd_tap_new(struct sd_source *source, struct sd_sink *sink)
{
	static const struct sd_source_ops ops = {
		.next = next, .finish = finish, .close = close_tap, .explain = explain, .sum = sum_of};
	struct tap *tap = malloc(sizeof(*tap));

	if (!tap)
		return NULL;
	tap->source = (struct sd_source){.ops = &ops, .manifest = source->manifest, .sums = source->sums};
	tap->inner = source;
	tap->sink = sink;
	tap->record = SD_NO_RECORD;
	tap->piped = (struct sd_extent){.length = 0};
	return &tap->source;
}
