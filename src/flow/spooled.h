/* SPDX-License-Identifier: Apache-2.0 */
/* Data that comes in order only, made such that any of it can be read: what comes before it is wanted waits in a spool.
 */
#ifndef SD_FLOW_SPOOLED_H
#define SD_FLOW_SPOOLED_H

#include "flow/sink.h"
#include "flow/source.h"

/*
 * A random source of the same records. It takes from source as much as is asked for, and compares sums that come along;
 * finish takes the rest. Closing it leaves the source open. NULL: memory is out.
 */
struct sd_source *sd_spooled_new(struct sd_source *source);

/* A record of such a source is not read any more: it needs no room. */
void sd_spooled_release(struct sd_source *spooled, uint32_t record);

/* A random source of what the sink takes, all of it, before anything is read. Its manifest is the sink's, which has to
 * outlive it. Closing the source closes the sink. NULL: memory is out. */
struct sd_source *sd_spooled_sink(struct sd_sink **sink);

#endif
