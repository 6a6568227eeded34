/* SPDX-License-Identifier: Apache-2.0 */
/* The stream on the wire, as sd-stream(5) has it: reading one is a source, writing one is a sink. */
#ifndef SD_PIPE_STREAM_H
#define SD_PIPE_STREAM_H

#include "base/limits.h"
#include "flow/sink.h"
#include "flow/source.h"

/* The first bytes of every stream. */
#define SD_STREAM_MAGIC "\x93SDS\r\n\x1a\n"
#define SD_STREAM_MAGIC_LENGTH 8

/*
 * Reads a stream from fd, whose first SD_STREAM_MAGIC_LENGTH bytes have been read already (that is how its reader knew
 * that it is one). Takes fd over; limits may be NULL. An abort in the stream is a failure with the tool, code and text
 * of who sent it; in one that is kept in a file, it is SD_INPUT that nobody has told yet.
 */
SD_MUST_CHECK enum sd_result sd_stream_open(int fd, const struct sd_limits *limits, struct sd_source **source,
					    struct sd_error *err);

/* The same where the bytes in fd, a pipe of this program, are made of what it reads from elsewhere: kept in a file, or
 * not. */
SD_MUST_CHECK enum sd_result sd_stream_open_behind(int fd, bool kept, const struct sd_limits *limits,
						   struct sd_source **source, struct sd_error *err);

/*
 * Writes a stream to fd, which stays the caller's. tool is the name that an abort carries. Never fails but for memory
 * (NULL).
 */
struct sd_sink *sd_stream_sink(int fd, const char *tool);

/* The same where what goes to fd is worked on once more, by this program, and then goes to leads_to. */
struct sd_sink *sd_stream_sink_before(int fd, int leads_to, const char *tool);

/* Bytes of data that went out, by the way that they took. */
struct sd_stream_counts {
	uint64_t piped, referenced, shared;      /* in the pipe; left in their file; in the shared ring */
	struct sd_checksum_count summed, passed; /* sums that were made, and those that were passed on */
};
struct sd_stream_counts sd_stream_sink_counts(const struct sd_sink *sink);

#endif
