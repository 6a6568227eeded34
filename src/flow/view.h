/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor of a source that is read in any order: its elements in their order, wherever their records have them. */
#ifndef SD_FLOW_VIEW_H
#define SD_FLOW_VIEW_H

#include "move/compose.h"
#include "model/listing.h"
#include "flow/source.h"

/* A part of the tensor, and the record that it comes from. */
struct sd_view_part {
	uint32_t record;
	struct sd_move move; /* from the record to the tensor; in normal form */
};

struct sd_view {
	struct sd_source *source;
	uint8_t dtype;
	uint64_t elements;
	bool straight; /* one record, whole and as it is: parts[0] */
	struct sd_view_part *parts;
	size_t nparts, room;
};

/*
 * A tensor of the manifest m, whose records are those of the source (sd_source.random), or, with then, what becomes of
 * it by that move, whole or in part. SD_INPUT where the data of a part does not come along, steps of other kinds than
 * moves are pending, or elements are smaller than a byte and not all in one record as they are. sd_view_free in any
 * case.
 */
SD_MUST_CHECK enum sd_result sd_view_make(struct sd_view *view, struct sd_source *source, const struct sd_manifest *m,
					  const struct sd_listing *listing, uint32_t tensor, const struct sd_move *then,
					  struct sd_error *err);
void sd_view_free(struct sd_view *view);

/* What one thread needs to read views; {0} is one. most: bytes that it may keep of records in which elements lie in
 * another order than in the tensor. */
struct sd_view_cache {
	uint64_t most;
	const struct sd_source *source;
	uint32_t record;
	uint64_t begin, end; /* bytes of the record that are in memory */
	unsigned char *memory;
	uint64_t room;
};
void sd_view_cache_free(struct sd_view_cache *cache);

/* Elements that views are read from and to in multiples of, but for the last: F4 and F6 begin a byte there. */
#define SD_VIEW_STEP 8

/* Reads count elements from number first on into the buffer. */
SD_MUST_CHECK enum sd_result sd_view_read(const struct sd_view *view, struct sd_view_cache *cache, uint64_t first,
					  uint64_t count, void *buffer, struct sd_error *err);

/* The record that an element comes from, and its number there. False where no part has it. */
SD_MUST_CHECK bool sd_view_place(const struct sd_view *view, uint64_t element, uint32_t *record, uint64_t *number);

/*
 * Gives the runs of a move whose targets lie from begin to end: from is the first element of the source, to that of the
 * target, count elements follow with these steps.
 */
struct sd_run {
	uint64_t from, to, count, from_step, to_step;
};
typedef void (*sd_take_run)(void *user, const struct sd_run *run);
void sd_move_runs(const struct sd_move *move, uint64_t begin, uint64_t end, sd_take_run take, void *user);

#endif
