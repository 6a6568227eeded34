/* SPDX-License-Identifier: Apache-2.0 */
/* The producer's end of a handoff. */
#include "base/signals.h"
#include "handoff/socket.h"
#include "handoff/handoff.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Less than this is as soon written into the pipe. */
#define WORTH 4096
/* Larger than what two units of work make, smaller than the caches of a server's CPU. */
#define RING_BYTES (32u << 20)
/* Frames begin at cache lines. */
#define RING_ALIGN 64
/* Results that are being made at one time, at most. */
#define GIVEN 32
/* Who has connected and is looked at in one go: anybody can come, again and again. */
#define CALLERS 64
/* How long a producer looks out for its consumer, in all. */
#define MOMENT_MS 20
#define WAIT_MS 10000

struct sd_handoff_out {
	int pipe;     /* the caller's */
	int listener; /* -1 when the consumer is there, or will not come any more */
	int caller;   /* who holds the pipe's other end, and has not said yet that it sees this one; or -1 */
	int socket;   /* -1: nobody there */
	int patience; /* milliseconds left to wait for the consumer */
	bool eager;   /* SD_HANDOFF=wait: everything is worth it */
	uint64_t files;
	struct sd_handoff_offer file[SD_HANDOFF_FILES]; /* number n at n % SD_HANDOFF_FILES */
	struct sd_handoff_taken taken;
	bool ringless; /* a ring cannot be had */
	unsigned char *ring;
	uint64_t head; /* bytes of the ring used since it is there: all before is the consumer's */
	/* Memory that is the caller's just now, the oldest at oldest % GIVEN. */
	struct {
		uint64_t begin, length;
	} given[GIVEN];
	unsigned oldest, ngiven;
};

struct sd_handoff_out *sd_handoff_out_open(int pipe)
{
	struct sockaddr_un address;
	socklen_t length = sd_handoff_address(pipe, &address);
	struct sd_handoff_out *handoff = length ? calloc(1, sizeof(*handoff)) : NULL;

	if (!handoff)
		return NULL;
	handoff->pipe = pipe;
	handoff->socket = handoff->caller = -1;
	handoff->eager = sd_handoff_mode("wait");
	handoff->patience = handoff->eager ? WAIT_MS : MOMENT_MS;
	handoff->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (handoff->listener < 0 || bind(handoff->listener, (struct sockaddr *)&address, length) != 0 ||
	    !sd_handoff_show(pipe, F_WRLCK) || listen(handoff->listener, SOMAXCONN) != 0) {
		sd_handoff_out_close(handoff);
		return NULL;
	}
	return handoff;
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The next one who has connected and holds the pipe's other end. False: nobody for now. */
static bool take_caller(struct sd_handoff_out *handoff)
{
	for (int i = 0; i < CALLERS; i++) {
		handoff->caller = accept4(handoff->listener, NULL, NULL, SOCK_CLOEXEC);
		if (handoff->caller < 0)
			return false;
		if (sd_handoff_shown(handoff->caller, handoff->pipe, F_RDLCK))
			return true;
		drop(&handoff->caller);
	}
	return false;
}

/* Whoever has connected is the consumer once it says that it has taken nothing: then it has seen this end as well. */
static void look(struct sd_handoff_out *handoff)
{
	struct sd_handoff_taken nothing;
	ssize_t n;

	if (handoff->caller < 0 && !take_caller(handoff))
		return;
	n = recv(handoff->caller, &nothing, sizeof(nothing), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof(nothing) && nothing.files == 0 && nothing.ring == 0) {
		handoff->socket = handoff->caller;
		handoff->caller = -1;
		drop(&handoff->listener);
	}
	drop(&handoff->caller);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * (int64_t)1000 + now.tv_nsec / 1000000;
}

bool sd_handoff_out_attached(struct sd_handoff_out *handoff)
{
	int64_t until;

	if (handoff->socket >= 0 || handoff->listener < 0)
		return handoff->socket >= 0;
	look(handoff);
	until = handoff->patience > 0 ? now_ms() + handoff->patience : 0;
	while (handoff->socket < 0 && handoff->patience > 0 && !sd_signals_came()) {
		struct pollfd wait[2] = {
			{.fd = handoff->caller >= 0 ? handoff->caller : handoff->listener, .events = POLLIN},
			{.fd = handoff->pipe}};

		(void)poll(wait, 2, handoff->patience);
		look(handoff);
		handoff->patience = wait[1].revents ? 0 : (int)(until - now_ms());
	}
	handoff->patience = 0;
	return handoff->socket >= 0;
}

bool sd_handoff_out_worth(const struct sd_handoff_out *handoff, uint64_t length)
{
	return length >= (handoff->eager ? 1 : WORTH);
}

/* What the consumer has said. Its end, or nonsense, closes the handoff: the pipe will tell what became of it. */
static void hear(struct sd_handoff_out *handoff)
{
	struct sd_handoff_taken taken;

	while (handoff->socket >= 0) {
		ssize_t n = recv(handoff->socket, &taken, sizeof(taken), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != sizeof(taken) || taken.files < handoff->taken.files || taken.files > handoff->files ||
		    taken.ring < handoff->taken.ring || taken.ring > handoff->head) {
			drop(&handoff->socket);
			return;
		}
		handoff->taken = taken;
	}
}

/* Waits for the consumer to say something, or to be gone: from the socket or from the pipe. */
static enum sd_result wait_for_consumer(struct sd_handoff_out *handoff, struct sd_error *err)
{
	struct pollfd wait[2] = {{.fd = handoff->socket, .events = POLLIN}, {.fd = handoff->pipe}};

	if (poll(wait, 2, -1) < 0)
		return errno == EINTR ? sd_signals_check(err) : sd_fail_errno(err, errno, "cannot wait");
	hear(handoff);
	if (wait[1].revents & (POLLERR | POLLNVAL))
		drop(&handoff->socket);
	return SD_OK;
}

/* False if the consumer cannot be given it. */
static bool send_offer(struct sd_handoff_out *handoff, const struct sd_handoff_offer *offer, int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {(void *)(uintptr_t)offer, sizeof(*offer)};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	ssize_t n;

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof(int));
	do
		n = sendmsg(handoff->socket, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR && !sd_signals_came());
	return n == sizeof(*offer);
}

static bool same_file(const struct sd_handoff_offer *a, const struct sd_handoff_offer *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified == b->modified &&
	       a->modified_ns == b->modified_ns;
}

enum sd_result sd_handoff_out_file(struct sd_handoff_out *handoff, int fd, uint64_t *number, struct sd_error *err)
{
	uint64_t first = handoff->files > SD_HANDOFF_FILES ? handoff->files - SD_HANDOFF_FILES : 0;
	struct sd_handoff_offer offer;

	*number = UINT64_MAX;
	if (!sd_handoff_offer_file(fd, &offer))
		return SD_OK;
	for (uint64_t i = handoff->files; i-- > first;)
		if (same_file(&handoff->file[i % SD_HANDOFF_FILES], &offer)) {
			*number = i;
			return SD_OK;
		}
	hear(handoff);
	while (handoff->socket >= 0 && handoff->files - handoff->taken.files >= SD_HANDOFF_AHEAD)
		if (wait_for_consumer(handoff, err) != SD_OK)
			return SD_IO;
	offer.number = handoff->files;
	if (handoff->socket < 0 || !send_offer(handoff, &offer, fd))
		return SD_OK;
	handoff->file[offer.number % SD_HANDOFF_FILES] = offer;
	handoff->files++;
	*number = offer.number;
	return SD_OK;
}

/*
 * Neither side can make the other one fall off the ring's end, and from now on nobody can write there who does not yet.
 * Linux before 5.1 has no seal for that: then the consumer gets a descriptor for reading.
 */
static bool seal(int *fd)
{
	const int length = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	char path[64];
	int writable = *fd;

	if (fcntl(writable, F_ADD_SEALS, length | F_SEAL_FUTURE_WRITE) == 0)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", writable);
	*fd = fcntl(writable, F_ADD_SEALS, length) == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	close(writable);
	return *fd >= 0;
}

/* The ring's memory, here and at the consumer's. */
static void open_ring(struct sd_handoff_out *handoff)
{
	struct sd_handoff_offer offer = {.kind = SD_HANDOFF_RING, .size = RING_BYTES};
	int fd = memfd_create("sd-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *ring = MAP_FAILED;

	handoff->ringless = true;
	if (fd < 0)
		return;
	if (ftruncate(fd, RING_BYTES) == 0)
		ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring != MAP_FAILED && seal(&fd) && send_offer(handoff, &offer, fd)) {
		handoff->ring = ring;
		handoff->ringless = false;
	} else if (ring != MAP_FAILED) {
		munmap(ring, RING_BYTES);
	}
	drop(&fd);
}

static uint64_t aligned(uint64_t length)
{
	return (length + RING_ALIGN - 1) / RING_ALIGN * RING_ALIGN;
}

/* Where the next length bytes would begin: what does not fit before the ring's end begins at its start. */
static uint64_t next_place(const struct sd_handoff_out *handoff, uint64_t length)
{
	unsigned last = (handoff->oldest + handoff->ngiven - 1) % GIVEN;
	uint64_t end =
		handoff->ngiven ? handoff->given[last].begin + aligned(handoff->given[last].length) : handoff->head;
	uint64_t left = RING_BYTES - end % RING_BYTES;

	return length <= left ? end : end + left;
}

/* An empty ring has room wherever it begins. */
static bool is_free(const struct sd_handoff_out *handoff, uint64_t begin, uint64_t length)
{
	return (handoff->ngiven == 0 && handoff->taken.ring == handoff->head) ||
	       begin + length - handoff->taken.ring <= RING_BYTES;
}

enum sd_result sd_handoff_out_room(struct sd_handoff_out *handoff, uint64_t length, void **memory, bool *later,
				   struct sd_error *err)
{
	uint64_t begin;

	*memory = NULL;
	*later = false;
	hear(handoff);
	if (handoff->socket >= 0 && !handoff->ring && !handoff->ringless)
		open_ring(handoff);
	if (!handoff->ring || length == 0 || length > RING_BYTES)
		return SD_OK;
	begin = next_place(handoff, length);
	while (handoff->socket >= 0 && (handoff->ngiven == GIVEN || !is_free(handoff, begin, length))) {
		/* The consumer may wait for what has not been made yet. */
		*later = handoff->ngiven > 0;
		if (*later)
			return SD_OK;
		if (wait_for_consumer(handoff, err) != SD_OK)
			return SD_IO;
	}
	if (handoff->socket < 0)
		return SD_OK;
	handoff->given[(handoff->oldest + handoff->ngiven) % GIVEN].begin = begin;
	handoff->given[(handoff->oldest + handoff->ngiven++) % GIVEN].length = length;
	*memory = handoff->ring + begin % RING_BYTES;
	return SD_OK;
}

void sd_handoff_out_region(const struct sd_handoff_out *handoff, void **begin, size_t *length)
{
	*begin = handoff->ring;
	*length = RING_BYTES;
}

bool sd_handoff_out_owed(const struct sd_handoff_out *handoff)
{
	return handoff->ngiven > 0;
}

static bool is_oldest(const struct sd_handoff_out *handoff, const void *memory)
{
	return handoff->ngiven > 0 && memory == handoff->ring + handoff->given[handoff->oldest].begin % RING_BYTES;
}

void sd_handoff_out_forget(struct sd_handoff_out *handoff, const void *memory)
{
	if (!handoff || !is_oldest(handoff, memory))
		return;
	handoff->oldest = (handoff->oldest + 1) % GIVEN;
	handoff->ngiven--;
}

bool sd_handoff_out_take(struct sd_handoff_out *handoff, const void *memory, uint64_t length,
			 struct sd_handoff_place *place)
{
	uint64_t begin = handoff->given[handoff->oldest].begin;

	if (length == 0 || !is_oldest(handoff, memory) || length > handoff->given[handoff->oldest].length)
		return false;
	handoff->head = begin + aligned(length);
	*place = (struct sd_handoff_place){handoff->head, begin % RING_BYTES, length};
	sd_handoff_out_forget(handoff, memory);
	return true;
}

void sd_handoff_out_close(struct sd_handoff_out *handoff)
{
	if (!handoff)
		return;
	if (handoff->ring)
		munmap(handoff->ring, RING_BYTES);
	drop(&handoff->socket);
	drop(&handoff->caller);
	drop(&handoff->listener);
	free(handoff);
}
