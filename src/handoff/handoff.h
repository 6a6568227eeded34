/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: the ways around a pipe for the data between two of our programs on one machine. The pipe always carries the
 * manifest, the order and the frames; what a frame holds may be a reference instead of bytes:
 *
 *   a file's bytes    an open file, offset, length: bytes of a source that nobody has changed
 *   a ring's bytes    a place in a ring of shared memory: bytes that the producer has made
 *
 * A producer whose output is a pipe listens on an abstract socket named after that pipe, before its first byte; the
 * consumer that has read the first bytes from a pipe connects to the name of its input. Both ends of a pipe have one
 * name, so whoever stands between two programs (tee, ssh, a file) keeps them apart, and they use bytes. Files and the
 * ring's memory are handed over as open descriptors, once each side has seen that the other one is of the same user and
 * holds the other end of this pipe. Abstract sockets are for everybody: who else connects is left, and who else listens
 * too. What the consumer has taken comes back on the socket, whose end says that the other side is gone. No lock lives
 * in shared memory, and every wait ends with the life of the other.
 *
 * SD_HANDOFF in the environment: "inline" switches handoffs off; with "wait" a producer waits up to 10 seconds for its
 * consumer and sends everything that can be by reference, however short, for tests. Another word is like none here;
 * programs refuse it.
 */
#ifndef SD_HANDOFF_HANDOFF_H
#define SD_HANDOFF_HANDOFF_H

#include "base/error.h"

#include <stdint.h>

/* Whether SD_HANDOFF is a word that is known, or not set, or empty. */
bool sd_handoff_mode_known(void);

/* The encoding of a data frame. */
enum sd_handoff_kind {
	SD_HANDOFF_BYTES = 0, /* the data itself */
	SD_HANDOFF_FILE = 1,  /* struct sd_handoff_place: number is the file's */
	SD_HANDOFF_RING = 2,  /* struct sd_handoff_place: number is the place that is free again with the frame taken */
};

/* Where a frame's data is. */
struct sd_handoff_place {
	uint64_t number, offset, length;
};

/* ---- the producer's end ---- */

struct sd_handoff_out;

/* Listens for whoever reads from this pipe. NULL: no pipe, switched off, the name taken, no memory: bytes it is. */
struct sd_handoff_out *sd_handoff_out_open(int pipe);

/* Whether the consumer is there. Looks without waiting, but for a moment in all the producer's life. */
bool sd_handoff_out_attached(struct sd_handoff_out *handoff);

/* Whether so much data is worth a reference. */
bool sd_handoff_out_worth(const struct sd_handoff_out *handoff, uint64_t length);

/*
 * The number of an open regular file, which the consumer gets the first time. *number is UINT64_MAX if the consumer
 * cannot be given the file: bytes it is. May wait for the consumer: what has been written so far must have gone into
 * the pipe.
 */
SD_MUST_CHECK enum sd_result sd_handoff_out_file(struct sd_handoff_out *handoff, int fd, uint64_t *number,
						 struct sd_error *err);

/*
 * Memory of the ring for length bytes, which is the caller's until it is taken or forgotten; that goes in the order in
 * which it was given. NULL if the ring has not that much, or none can be had; *later if it can be had once the oldest
 * that was given has been taken. Waits, where nothing is given, until the consumer has taken enough: what has been
 * written so far must have gone into the pipe.
 */
SD_MUST_CHECK enum sd_result sd_handoff_out_room(struct sd_handoff_out *handoff, uint64_t length, void **memory,
						 bool *later, struct sd_error *err);

/* All of the ring's memory, once sd_handoff_out_room has given some; it is there until the handoff is closed. */
void sd_handoff_out_region(const struct sd_handoff_out *handoff, void **begin, size_t *length);

/* Whether memory that sd_handoff_out_room gave is still the caller's: what is given now comes behind it in the ring. */
bool sd_handoff_out_owed(const struct sd_handoff_out *handoff);

/* Whether this is the oldest memory that sd_handoff_out_room gave; its place then, and it is the consumer's from now
 * on.
 */
bool sd_handoff_out_take(struct sd_handoff_out *handoff, const void *memory, uint64_t length,
			 struct sd_handoff_place *place);

/* If it is, then it is not needed any more. Does nothing for NULL. */
void sd_handoff_out_forget(struct sd_handoff_out *handoff, const void *memory);

/* Does nothing for NULL. What the consumer has not yet taken stays there for it. */
void sd_handoff_out_close(struct sd_handoff_out *handoff);

/* ---- the consumer's end ---- */

struct sd_handoff_in;

/* Connects to whoever writes into this pipe. NULL: nobody who could be known does, and bytes it is. */
struct sd_handoff_in *sd_handoff_in_open(int pipe);

/* The file of a reference, which stays the handoff's: readable until another one is asked for. SD_INPUT if the file has
 * changed since its header was read, or is too short. */
SD_MUST_CHECK enum sd_result sd_handoff_in_file(struct sd_handoff_in *handoff, const struct sd_handoff_place *place,
						int *fd, struct sd_error *err);

/* The bytes of a reference into the ring, which stay until they are given back. */
SD_MUST_CHECK enum sd_result sd_handoff_in_ring(struct sd_handoff_in *handoff, const struct sd_handoff_place *place,
						const void **memory, struct sd_error *err);

/* Everything that came from the ring so far has been taken: the producer may write there again. */
void sd_handoff_in_give_back(struct sd_handoff_in *handoff);

/* To be called before a read from the pipe that may block: the producer may wait for what is not told yet. */
SD_MUST_CHECK enum sd_result sd_handoff_in_before_read(struct sd_handoff_in *handoff, int pipe, struct sd_error *err);

/* After the last record: that the files which were read last are still what they were. */
SD_MUST_CHECK enum sd_result sd_handoff_in_finish(struct sd_handoff_in *handoff, struct sd_error *err);

/* Does nothing for NULL. */
void sd_handoff_in_close(struct sd_handoff_in *handoff);

#endif
