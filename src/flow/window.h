/* SPDX-License-Identifier: Apache-2.0 */
/* A window over the data of a record: the part of it that is in memory, which moves on and never goes back. */
#ifndef SD_FLOW_WINDOW_H
#define SD_FLOW_WINDOW_H

#include "flow/source.h"

/* Bytes begin to end of the record are in memory. {.source, .record, .key} begins one. */
struct sd_window {
	struct sd_source *source; /* NULL: extent has the whole record, or memory has */
	bool whole;               /* memory has the whole record, and keeps it until its last unit is done */
	uint32_t record;
	const char *key;         /* of the record, for errors */
	struct sd_extent extent; /* what the source has given and nobody has read yet */
	unsigned char *memory;
	uint64_t begin, end;
};

/*
 * Makes bytes begin to end of the record the window, in other memory, which is the caller's and large enough. begin
 * never goes back. What the old window has of them is copied; the old memory is not written to, so that a device may
 * still read it. SD_INPUT where the record ends early.
 */
SD_MUST_CHECK enum sd_result sd_window_slide(struct sd_window *w, unsigned char *memory, uint64_t begin, uint64_t end,
					     struct sd_error *err);

/* Skips the rest of the record: a source has to be asked for a record until there is no more of it. */
SD_MUST_CHECK enum sd_result sd_window_leave(struct sd_window *w, struct sd_error *err);

#endif
