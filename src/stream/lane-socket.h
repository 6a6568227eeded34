/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ends of a lane say to each other on their socket; for these two alone. */
#ifndef SD_STREAM_LANE_SOCKET_H
#define SD_STREAM_LANE_SOCKET_H

#include "base/error.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Files that the consumer has at one time: file number n takes the place of number n - SD_LANE_FILES. */
#define SD_LANE_FILES 16
/* Files that are on their way to a consumer that has not looked yet. */
#define SD_LANE_AHEAD 32

/* From the producer, together with the open file or the ring's memory. */
struct sd_lane_offer {
	uint32_t kind; /* SD_LANE_FILE, SD_LANE_RING */
	uint32_t zero;
	uint64_t number; /* of the file, counted from 0 */
	uint64_t size;   /* of the file or the ring */
	uint64_t device, inode;
	int64_t modified, modified_ns, changed, changed_ns;
	uint64_t links; /* of the file: what changes them leaves its data alone */
};

/* From the consumer: all that it has taken so far. Each message replaces the one before. */
struct sd_lane_taken {
	uint64_t files, ring;
};

/* The offer of an open file as it is now. False where it is not a regular file. */
bool sd_lane_offer_file(int fd, struct sd_lane_offer *offer);

/* The socket's address, for the pipe that is open as fd: the length, or 0 where there is none (or lanes are off). */
socklen_t sd_lane_address(int fd, struct sockaddr_un *address);

/* Whether SD_LANES is this word. */
bool sd_lane_mode(const char *word);

/* Whether the other end is a process of the same user. */
bool sd_lane_same_user(int socket);

#endif
