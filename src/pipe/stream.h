/* SPDX-License-Identifier: Apache-2.0 */
/* The stream of sd-stream(5): a source that reads it, and a sink that writes it. */
#ifndef SD_PIPE_STREAM_H
#define SD_PIPE_STREAM_H

#include "base/limits.h"
#include "flow/sink.h"
#include "flow/source.h"

/* The first bytes of every stream. */
#define SD_STREAM_MAGIC "\x93SDS\r\n\x1a\n"
#define SD_STREAM_MAGIC_LENGTH 8

/*
 * Opens a stream in fd, of which the caller has read the first SD_STREAM_MAGIC_LENGTH bytes. The source owns fd, also
 * on failure. limits may be NULL. If the stream ends in an abort, the error has the tool, code and text of the program
 * that sent it; if the stream is a file, the error is SD_INPUT and SD_UNTOLD.
 */
SD_MUST_CHECK enum sd_result sd_stream_open(int fd, const struct sd_limits *limits, struct sd_source **source,
					    struct sd_error *err);

/* The same if fd is a pipe inside this program, as in front of a decompressor. kept: its input is a file. */
SD_MUST_CHECK enum sd_result sd_stream_open_behind(int fd, bool kept, const struct sd_limits *limits,
						   struct sd_source **source, struct sd_error *err);

/*
 * Writes a stream to fd, which the caller closes. An abort carries the name of the tool. NULL when memory is out.
 */
struct sd_sink *sd_stream_sink(int fd, const char *tool);

/* The same if this program reads fd itself, as a compressor does, and writes the result to leads_to. */
struct sd_sink *sd_stream_sink_before(int fd, int leads_to, const char *tool);

/* How many bytes of data were written, and how. */
struct sd_stream_counts {
	uint64_t piped, referenced, shared;      /* in the pipe; left in their file; in the shared ring */
	struct sd_checksum_count summed, passed; /* checksums that were computed, and that came with the data */
};
struct sd_stream_counts sd_stream_sink_counts(const struct sd_sink *sink);

#endif
