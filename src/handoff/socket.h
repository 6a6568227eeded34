/* SPDX-License-Identifier: Apache-2.0 */
/* The messages on the socket of a hand-off. For producer.c and consumer.c. */
#ifndef SD_HANDOFF_SOCKET_H
#define SD_HANDOFF_SOCKET_H

#include "base/error.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* How many files the consumer keeps open: file number n replaces number n - SD_HANDOFF_FILES. */
#define SD_HANDOFF_FILES 16
/* How many files may be on their way to a consumer that has not read them yet. */
#define SD_HANDOFF_AHEAD 32

/* From the producer, with the descriptor of the file or the ring. */
struct sd_handoff_offer {
	uint32_t kind; /* SD_HANDOFF_FILE, SD_HANDOFF_RING */
	uint32_t zero;
	uint64_t number; /* of the file, counted from 0 */
	uint64_t size;   /* of the file or the ring */
	uint64_t device, inode;
	int64_t modified, modified_ns, changed, changed_ns;
	uint64_t links; /* of the file: a change of them alone does not change its data */
};

/* From the consumer: how much it has taken so far. The first message, zeros, says that it has checked the producer. */
struct sd_handoff_taken {
	uint64_t files, ring;
};

/* Fills in the offer of an open file as it is now. False if it is no regular file. */
bool sd_handoff_offer_file(int fd, struct sd_handoff_offer *offer);

/* The address of the socket for the pipe that is open as fd. Returns its length, or 0: fd is no pipe, or SD_HANDOFF is
 * "inline". */
socklen_t sd_handoff_address(int fd, struct sockaddr_un *address);

/* Whether SD_HANDOFF is this word. */
bool sd_handoff_mode(const char *word);

/*
 * Each side proves to the other that it holds its end of the pipe, by a lock on the pipe's inode. The kernel gives a
 * write lock (F_WRLCK) only to a process that has the pipe open for writing, a read lock (F_RDLCK) only to one that has
 * it open for reading, and tells the owner of a lock only to processes that have the pipe open. It also tells which
 * process made the other end of a socket. So each side knows the other before anything is sent.
 */

/* Takes the lock of that type. False if this process does not hold that end of the pipe, or the kernel has no locks. */
bool sd_handoff_show(int pipe, short type);

/* Whether the other end of the socket is a process of the same user that holds the lock of that type. */
bool sd_handoff_shown(int socket, int pipe, short type);

#endif
