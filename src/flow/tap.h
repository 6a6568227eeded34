/* SPDX-License-Identifier: Apache-2.0 */
/* A source whose data goes to a sink, unchanged, while somebody else takes it. */
#ifndef SD_FLOW_TAP_H
#define SD_FLOW_TAP_H

#include "flow/sink.h"
#include "flow/source.h"

/*
 * The same source; whatever it gives, sums too, the sink has got before, which has begun with the source's manifest.
 * All records are to be asked for. What is in a file stays there, and what comes in a pipe is read into memory. The
 * sink is neither ended nor aborted. Closing it leaves the source open. NULL when memory is out.
 */
struct sd_source *sd_tap_new(struct sd_source *source, struct sd_sink *sink);

#endif
