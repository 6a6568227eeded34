/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-off: how two of our programs on one machine pass data around the pipe between them. The pipe carries the
 * manifest and the frames in their order. A frame holds the data, or a reference to it:
 *
 *   to a file         an open file, offset, length: data that no program has changed
 *   to a ring         a place in a ring of shared memory: data that the producer has made
 *
 * A producer whose output is a pipe listens on an abstract socket that is named after the pipe, before it writes its
 * first byte. The consumer reads the first bytes and connects to the socket that is named after its input. Both ends of
 * a pipe have the same name; if another program (tee, ssh) stands between the two, the names differ and the data stays
 * in the pipe. Each side first checks that the other belongs to the same user and holds the other end of this pipe;
 * then files and the ring's memory go over the socket as open descriptors. Anybody can reach an abstract socket, so a
 * peer that fails the check is dropped. The consumer reports on the socket what it has taken. When a side dies, the
 * socket closes, and so every wait ends. There are no locks in shared memory.
 *
 * SD_HANDOFF in the environment: "inline" leaves all data in the pipe. "wait" is for tests: the producer waits up to 10
 * seconds for its consumer, and sends every frame as a reference that can be one, however short. Tools refuse other
 * words; the functions here ignore them.
 */
#ifndef SD_HANDOFF_HANDOFF_H
#define SD_HANDOFF_HANDOFF_H

#include "base/error.h"

#include <stdint.h>

/* Whether SD_HANDOFF is a known word, empty, or not set. */
bool sd_handoff_mode_known(void);

/* The encoding of a data frame. */
enum sd_handoff_kind {
	SD_HANDOFF_BYTES = 0, /* the data itself */
	SD_HANDOFF_FILE = 1,  /* struct sd_handoff_place: number is the file's */
	SD_HANDOFF_RING = 2,  /* struct sd_handoff_place: number is where the ring is free once this frame is taken */
};

/* Where a frame's data is. */
struct sd_handoff_place {
	uint64_t number, offset, length;
};

/* ---- the producer's end ---- */

struct sd_handoff_out;

/* Listens for the program that reads this pipe. NULL: data stays in the pipe, because fd is no pipe, the hand-off is
 * switched off, the name is taken, or memory is out. */
struct sd_handoff_out *sd_handoff_out_open(int pipe);

/* Whether the consumer is there. Does not wait, but once in the producer's life for a moment. */
bool sd_handoff_out_attached(struct sd_handoff_out *handoff);

/* Whether so much data is worth a reference. */
bool sd_handoff_out_worth(const struct sd_handoff_out *handoff, uint64_t length);

/*
 * Sends an open regular file to the consumer, unless it has it already, and sets *number to the file's number.
 * UINT64_MAX: the file cannot be sent, and its data goes into the pipe. May wait for the consumer, so the caller first
 * flushes what it has written.
 */
SD_MUST_CHECK enum sd_result sd_handoff_out_file(struct sd_handoff_out *handoff, int fd, uint64_t *number,
						 struct sd_error *err);

/*
 * Gives the caller length bytes of the ring, until sd_handoff_out_take or sd_handoff_out_forget, which are called in
 * the order in which memory was given. *memory is NULL if the ring is too small or cannot be had; with *later, the
 * caller first has to give up its oldest memory. If the caller has none, waits until the consumer has taken enough, so
 * the caller first flushes what it has written.
 */
SD_MUST_CHECK enum sd_result sd_handoff_out_room(struct sd_handoff_out *handoff, uint64_t length, void **memory,
						 bool *later, struct sd_error *err);

/* The whole ring, once sd_handoff_out_room has given some of it. It exists until sd_handoff_out_close. */
void sd_handoff_out_region(const struct sd_handoff_out *handoff, void **begin, size_t *length);

/* Whether the caller still has memory from sd_handoff_out_room. */
bool sd_handoff_out_owed(const struct sd_handoff_out *handoff);

/* If this is the oldest memory that the caller has from sd_handoff_out_room: sets its place and gives it to the
 * consumer. Otherwise false. */
bool sd_handoff_out_take(struct sd_handoff_out *handoff, const void *memory, uint64_t length,
			 struct sd_handoff_place *place);

/* Frees memory from sd_handoff_out_room that the caller does not need. Does nothing for other memory and for NULL. */
void sd_handoff_out_forget(struct sd_handoff_out *handoff, const void *memory);

/* The consumer can still take what it was given. Does nothing for NULL. */
void sd_handoff_out_close(struct sd_handoff_out *handoff);

/* ---- the consumer's end ---- */

struct sd_handoff_in;

/* Connects to the program that writes this pipe. NULL: it is none of ours, and data comes in the pipe. */
struct sd_handoff_in *sd_handoff_in_open(int pipe);

/* The file of a reference. The hand-off owns *fd; it is valid until the next call. SD_INPUT if the file has changed
 * since its header was read, or is too short. */
SD_MUST_CHECK enum sd_result sd_handoff_in_file(struct sd_handoff_in *handoff, const struct sd_handoff_place *place,
						int *fd, struct sd_error *err);

/* The bytes of a reference into the ring. They are valid until sd_handoff_in_give_back. */
SD_MUST_CHECK enum sd_result sd_handoff_in_ring(struct sd_handoff_in *handoff, const struct sd_handoff_place *place,
						const void **memory, struct sd_error *err);

/* Tells the producer that it may overwrite all that sd_handoff_in_ring gave so far. */
void sd_handoff_in_give_back(struct sd_handoff_in *handoff);

/* Call this before a read from the pipe that may block: the producer may wait for a report that is not sent yet. */
SD_MUST_CHECK enum sd_result sd_handoff_in_before_read(struct sd_handoff_in *handoff, int pipe, struct sd_error *err);

/* Call this after the last record: SD_INPUT if a file that was read has changed. */
SD_MUST_CHECK enum sd_result sd_handoff_in_finish(struct sd_handoff_in *handoff, struct sd_error *err);

/* Does nothing for NULL. */
void sd_handoff_in_close(struct sd_handoff_in *handoff);

#endif
