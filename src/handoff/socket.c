/* SPDX-License-Identifier: Apache-2.0 */
/* What both ends of a handoff need to find each other. */
#include "handoff/socket.h"
#include "handoff/handoff.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool sd_handoff_mode(const char *word)
{
	const char *mode = getenv("SD_HANDOFF");

	return mode && strcmp(mode, word) == 0;
}

bool sd_handoff_mode_known(void)
{
	const char *mode = getenv("SD_HANDOFF");

	return !mode || !*mode || sd_handoff_mode("inline") || sd_handoff_mode("wait");
}

socklen_t sd_handoff_address(int fd, struct sockaddr_un *address)
{
	struct stat st;
	int length;

	if (sd_handoff_mode("inline") || fstat(fd, &st) != 0 || !S_ISFIFO(st.st_mode))
		return 0;
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	/* The number is the version of all that passes here: another release has another name. */
	length = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "sd2/%lu/%llu-%llu",
			  (unsigned long)geteuid(), (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* A byte of its own for each process and each end: whoever else has the pipe open locks others. */
static struct flock mark(pid_t pid, short type)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = 2 * (off_t)pid + (type == F_WRLCK), .l_len = 1};
}

bool sd_handoff_show(int pipe, short type)
{
	struct flock mine = mark(getpid(), type);

	return fcntl(pipe, F_SETLK, &mine) == 0;
}

bool sd_handoff_shown(int socket, int pipe, short type)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	struct flock theirs;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.uid != geteuid() || peer.pid <= 0)
		return false;
	theirs = mark(peer.pid, type);
	theirs.l_type = F_WRLCK; /* which no other lock allows */
	/* F_GETLK passes over the locks of this process, which may have both ends. */
	return fcntl(pipe, F_OFD_GETLK, &theirs) == 0 && theirs.l_type == type && theirs.l_pid == peer.pid;
}

bool sd_handoff_offer_file(int fd, struct sd_handoff_offer *offer)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return false;
	*offer = (struct sd_handoff_offer){.kind = SD_HANDOFF_FILE,
					   .size = (uint64_t)st.st_size,
					   .device = st.st_dev,
					   .inode = st.st_ino,
					   .modified = st.st_mtim.tv_sec,
					   .modified_ns = st.st_mtim.tv_nsec,
					   .changed = st.st_ctim.tv_sec,
					   .changed_ns = st.st_ctim.tv_nsec,
					   .links = st.st_nlink};
	return true;
}
