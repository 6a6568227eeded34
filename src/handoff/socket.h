/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends of a handoff say to each other on their socket; for these two alone. */
#ifndef SD_HANDOFF_SOCKET_H
#define SD_HANDOFF_SOCKET_H

#include "base/error.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Files that the consumer has at one time: file number n takes the place of number n - SD_HANDOFF_FILES. */
#define SD_HANDOFF_FILES 16
/* Files that are on their way to a consumer that has not looked yet. */
#define SD_HANDOFF_AHEAD 32

/* From the producer, together with the open file or the ring's memory. */
struct sd_handoff_offer {
	uint32_t kind; /* SD_HANDOFF_FILE, SD_HANDOFF_RING */
	uint32_t zero;
	uint64_t number; /* of the file, counted from 0 */
	uint64_t size;   /* of the file or the ring */
	uint64_t device, inode;
	int64_t modified, modified_ns, changed, changed_ns;
	uint64_t links; /* of the file: what changes them leaves its data alone */
};

/* From the consumer: all that it has taken so far. Each message replaces the one before; the first one, nothing, says
 * that the consumer has seen who the producer is. */
struct sd_handoff_taken {
	uint64_t files, ring;
};

/* The offer of an open file as it is now. False where it is not a regular file. */
bool sd_handoff_offer_file(int fd, struct sd_handoff_offer *offer);

/* The socket's address, for the pipe that is open as fd: the length, or 0 where there is none (or handoffs are off). */
socklen_t sd_handoff_address(int fd, struct sockaddr_un *address);

/* Whether SD_HANDOFF is this word. */
bool sd_handoff_mode(const char *word);

/*
 * Each side shows the other one that it holds its end of the pipe, by a lock on the pipe's inode: the kernel gives it
 * only to who has the pipe open, for writing (F_WRLCK) or for reading (F_RDLCK), and tells who that is to nobody but
 * those who have it open too. A socket is known by the process that made it. So neither side has to send anything
 * before it knows the other one, and a stranger is found out at once, whatever it says or does not say.
 */

/* Shows that this process holds the pipe's end of that type. False where it does not, or locks cannot be had. */
bool sd_handoff_show(int pipe, short type);

/* Whether the other end of the socket is a process of the same user that has shown the pipe's end of that type. */
bool sd_handoff_shown(int socket, int pipe, short type);

#endif
