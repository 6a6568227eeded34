/* SPDX-License-Identifier: Apache-2.0 */
/* Sums: the XXH3 (64 bits, seed 0) of data that goes by, made here or compared with what came along. */
#ifndef SD_STREAM_SUMS_H
#define SD_STREAM_SUMS_H

#include "stream/sink.h"
#include "stream/source.h"

/* A sum that is being made. */
struct sd_sum;

/* NULL when memory is out. Begins a sum. */
struct sd_sum *sd_sum_new(void);
/* Does nothing for NULL. */
void sd_sum_free(struct sd_sum *sum);

/* Forgets what was added. */
void sd_sum_begin(struct sd_sum *sum);
void sd_sum_add(struct sd_sum *sum, const void *data, size_t length);
/* The sum of all that was added since it began. */
uint64_t sd_sum_value(const struct sd_sum *sum);

/*
 * Takes bytes off the chunk's front, adds them, and gives them in memory: all of a chunk that lies there, else as many
 * as sum has room for, until the next call. At least one.
 */
SD_UNUSED_RESULT enum sd_result sd_sum_take(struct sd_sum *sum, struct sd_chunk *chunk, struct sd_chunk *piece,
					    struct sd_error *err);

/*
 * Readies a source and a sink for each other: where the source has sums, the sink is to have them, and *checked is the
 * same source, whose data comes in memory and is compared with its sums: the call that says that a record is whole
 * fails with SD_INPUT where it is not what its sum says. Each record is to be taken from the one or from the other.
 * *checked is to be closed, before the source; what was checked is counted in sink->checked. NULL where the source has
 * no sums.
 */
SD_UNUSED_RESULT enum sd_result sd_checked_source(struct sd_source *source, struct sd_sink *sink,
						  struct sd_source **checked, struct sd_error *err);

#endif
