/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums: the XXH3 (64 bits, seed 0) of a record's data, computed or compared as the data goes by. */
#ifndef SD_FLOW_CHECKSUM_H
#define SD_FLOW_CHECKSUM_H

#include "flow/sink.h"
#include "flow/source.h"

/* A checksum that is being computed. */
struct sd_checksum;

/* Begins a checksum. NULL when memory is out. */
struct sd_checksum *sd_checksum_new(void);
/* Does nothing for NULL. */
void sd_checksum_free(struct sd_checksum *sum);

/* Begins anew. */
void sd_checksum_begin(struct sd_checksum *sum);
void sd_checksum_add(struct sd_checksum *sum, const void *data, size_t length);
/* A text with its NUL, so that two texts are not one. */
void sd_checksum_add_text(struct sd_checksum *sum, const char *text);
/* The checksum of all bytes that were added since it began. */
uint64_t sd_checksum_value(const struct sd_checksum *sum);

/*
 * Takes bytes from the front of the extent, adds them to the checksum, and sets *piece to them, in memory. Takes all of
 * an extent in memory, else as many bytes as its buffer holds, at least one. *piece is valid until the next call.
 */
SD_MUST_CHECK enum sd_result sd_checksum_take(struct sd_checksum *sum, struct sd_extent *extent,
					      struct sd_extent *piece, struct sd_error *err);

/*
 * If the source has checksums, sets sink->sums, and *checked to a source of the same records that compares their data
 * with the checksums: its next fails with SD_INPUT at the end of a record whose data differs. The caller reads each
 * record from one of the two, and closes *checked before the source. sink->checked counts what was compared. *checked
 * is NULL if the source has no checksums.
 */
SD_MUST_CHECK enum sd_result sd_checked_source(struct sd_source *source, struct sd_sink *sink,
					       struct sd_source **checked, struct sd_error *err);

#endif
