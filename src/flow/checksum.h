/* SPDX-License-Identifier: Apache-2.0 */
/* Sums: the XXH3 (64 bits, seed 0) of data that goes by, made here or compared with what came along. */
#ifndef SD_FLOW_CHECKSUM_H
#define SD_FLOW_CHECKSUM_H

#include "flow/sink.h"
#include "flow/source.h"

/* A sum that is being made. */
struct sd_checksum;

/* NULL when memory is out. Begins a sum. */
struct sd_checksum *sd_checksum_new(void);
/* Does nothing for NULL. */
void sd_checksum_free(struct sd_checksum *sum);

/* Forgets what was added. */
void sd_checksum_begin(struct sd_checksum *sum);
void sd_checksum_add(struct sd_checksum *sum, const void *data, size_t length);
/* The sum of all that was added since it began. */
uint64_t sd_checksum_value(const struct sd_checksum *sum);

/*
 * Takes bytes off the extent's front, adds them, and gives them in memory: all of a extent that lies there, else as
 * many as sum has room for, until the next call. At least one.
 */
SD_MUST_CHECK enum sd_result sd_checksum_take(struct sd_checksum *sum, struct sd_extent *extent,
					      struct sd_extent *piece, struct sd_error *err);

/*
 * Readies a source and a sink for each other: where the source has sums, the sink is to have them, and *checked is the
 * same source, whose data comes in memory and is compared with its sums: the call that says that a record is whole
 * fails with SD_INPUT where it is not what its sum says. Each record is to be taken from the one or from the other.
 * *checked is to be closed, before the source; what was checked is counted in sink->checked. NULL where the source has
 * no sums.
 */
SD_MUST_CHECK enum sd_result sd_checked_source(struct sd_source *source, struct sd_sink *sink,
					       struct sd_source **checked, struct sd_error *err);

#endif
