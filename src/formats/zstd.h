/* SPDX-License-Identifier: Apache-2.0 */
/* zstd (RFC 8878) in front of a source or behind a sink: a thread that works between a pipe of ours and the file. */
#ifndef SD_FORMATS_ZSTD_H
#define SD_FORMATS_ZSTD_H

#include "flow/source.h"

/* The first bytes of a zstd frame. */
#define SD_ZSTD_MAGIC "\x28\xb5\x2f\xfd"
#define SD_ZSTD_MAGIC_LENGTH 4

/* zstd(1) takes more than that only with --ultra. */
#define SD_ZSTD_LEVEL_MOST 19

struct sd_zstd;

/*
 * Expands what is in fd, which is taken over and of which the first `length` bytes (at most 64) have been read already:
 * *plain is the end of a pipe, the caller's, to read the plain bytes from. Several frames one behind another are one.
 */
SD_MUST_CHECK enum sd_result sd_zstd_expand(int fd, const void *first, size_t length, struct sd_zstd **zstd, int *plain,
					    struct sd_error *err);

/*
 * Compresses to fd, which stays the caller's: *plain is the end of a pipe, the caller's, to write the plain bytes to;
 * the frame ends when that is closed. level: as zstd(1) has them, 1 to SD_ZSTD_LEVEL_MOST.
 */
SD_MUST_CHECK enum sd_result sd_zstd_compress(int fd, int level, struct sd_zstd **zstd, int *plain,
					      struct sd_error *err);

/* Waits for the thread to have done all, and says how that went. Once. */
SD_MUST_CHECK enum sd_result sd_zstd_wait(struct sd_zstd *zstd, struct sd_error *err);

/*
 * What came out ended early, or was not what it should be: puts the cause into err, if it was the thread's failure.
 * What is damaged may come out wrong before zstd sees that it is: looks on for a while.
 */
void sd_zstd_explain(struct sd_zstd *zstd, struct sd_error *err);

/* The thread is left to itself if it has not ended: it does when its pipe is closed. Does nothing for NULL. */
void sd_zstd_close(struct sd_zstd *zstd);

/* A source whose bytes come from here: what the thread has met is its failure. Takes both over, also on failure. */
struct sd_source *sd_zstd_source(struct sd_zstd *zstd, struct sd_source *inner);

#endif
