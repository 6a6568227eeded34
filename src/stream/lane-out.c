/* SPDX-License-Identifier: Apache-2.0 */
/* The producer's end of a lane. */
#include "base/signals.h"
#include "stream/lane-socket.h"
#include "stream/lane.h"

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

struct sd_lane_out {
	int pipe;     /* the caller's */
	int listener; /* -1 when the consumer is there, or will not come any more */
	int caller;   /* who holds the pipe's other end, and has not said yet that it sees this one; or -1 */
	int socket;   /* -1: nobody there */
	int patience; /* milliseconds left to wait for the consumer */
	bool eager;   /* SD_LANES=wait: everything is worth it */
	uint64_t files;
	struct sd_lane_offer file[SD_LANE_FILES]; /* number n at n % SD_LANE_FILES */
	struct sd_lane_taken taken;
	bool ringless; /* a ring cannot be had */
	unsigned char *ring;
	uint64_t head; /* bytes of the ring used since it is there: all before is the consumer's */
	/* Memory that is the caller's just now, the oldest at oldest % GIVEN. */
	struct {
		uint64_t begin, length;
	} given[GIVEN];
	unsigned oldest, ngiven;
};

struct sd_lane_out *sd_lane_out_open(int pipe)
{
	struct sockaddr_un address;
	socklen_t length = sd_lane_address(pipe, &address);
	struct sd_lane_out *lane = length ? calloc(1, sizeof(*lane)) : NULL;

	if (!lane)
		return NULL;
	lane->pipe = pipe;
	lane->socket = lane->caller = -1;
	lane->eager = sd_lane_mode("wait");
	lane->patience = lane->eager ? WAIT_MS : MOMENT_MS;
	lane->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (lane->listener < 0 || bind(lane->listener, (struct sockaddr *)&address, length) != 0 ||
	    !sd_lane_show(pipe, F_WRLCK) || listen(lane->listener, SOMAXCONN) != 0) {
		sd_lane_out_close(lane);
		return NULL;
	}
	return lane;
}

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The next one who has connected and holds the pipe's other end. False: nobody for now. */
static bool take_caller(struct sd_lane_out *lane)
{
	for (int i = 0; i < CALLERS; i++) {
		lane->caller = accept4(lane->listener, NULL, NULL, SOCK_CLOEXEC);
		if (lane->caller < 0)
			return false;
		if (sd_lane_shown(lane->caller, lane->pipe, F_RDLCK))
			return true;
		drop(&lane->caller);
	}
	return false;
}

/* Whoever has connected is the consumer once it says that it has taken nothing: then it has seen this end as well. */
static void look(struct sd_lane_out *lane)
{
	struct sd_lane_taken nothing;
	ssize_t n;

	if (lane->caller < 0 && !take_caller(lane))
		return;
	n = recv(lane->caller, &nothing, sizeof(nothing), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof(nothing) && nothing.files == 0 && nothing.ring == 0) {
		lane->socket = lane->caller;
		lane->caller = -1;
		drop(&lane->listener);
	}
	drop(&lane->caller);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * (int64_t)1000 + now.tv_nsec / 1000000;
}

bool sd_lane_out_attached(struct sd_lane_out *lane)
{
	int64_t until;

	if (lane->socket >= 0 || lane->listener < 0)
		return lane->socket >= 0;
	look(lane);
	until = lane->patience > 0 ? now_ms() + lane->patience : 0;
	while (lane->socket < 0 && lane->patience > 0 && !sd_signals_came()) {
		struct pollfd wait[2] = {{.fd = lane->caller >= 0 ? lane->caller : lane->listener, .events = POLLIN},
					 {.fd = lane->pipe}};

		(void)poll(wait, 2, lane->patience);
		look(lane);
		lane->patience = wait[1].revents ? 0 : (int)(until - now_ms());
	}
	lane->patience = 0;
	return lane->socket >= 0;
}

bool sd_lane_out_worth(const struct sd_lane_out *lane, uint64_t length)
{
	return length >= (lane->eager ? 1 : WORTH);
}

/* What the consumer has said. Its end, or nonsense, closes the lane: the pipe will tell what became of it. */
static void hear(struct sd_lane_out *lane)
{
	struct sd_lane_taken taken;

	while (lane->socket >= 0) {
		ssize_t n = recv(lane->socket, &taken, sizeof(taken), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != sizeof(taken) || taken.files < lane->taken.files || taken.files > lane->files ||
		    taken.ring < lane->taken.ring || taken.ring > lane->head) {
			drop(&lane->socket);
			return;
		}
		lane->taken = taken;
	}
}

/* Waits for the consumer to say something, or to be gone: from the socket or from the pipe. */
static enum sd_result wait_for_consumer(struct sd_lane_out *lane, struct sd_error *err)
{
	struct pollfd wait[2] = {{.fd = lane->socket, .events = POLLIN}, {.fd = lane->pipe}};

	if (poll(wait, 2, -1) < 0)
		return errno == EINTR ? sd_signals_check(err) : sd_fail_errno(err, errno, "cannot wait");
	hear(lane);
	if (wait[1].revents & (POLLERR | POLLNVAL))
		drop(&lane->socket);
	return SD_OK;
}

/* False if the consumer cannot be given it. */
static bool send_offer(struct sd_lane_out *lane, const struct sd_lane_offer *offer, int fd)
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
		n = sendmsg(lane->socket, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR && !sd_signals_came());
	return n == sizeof(*offer);
}

static bool same_file(const struct sd_lane_offer *a, const struct sd_lane_offer *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size && a->modified == b->modified &&
	       a->modified_ns == b->modified_ns;
}

enum sd_result sd_lane_out_file(struct sd_lane_out *lane, int fd, uint64_t *number, struct sd_error *err)
{
	uint64_t first = lane->files > SD_LANE_FILES ? lane->files - SD_LANE_FILES : 0;
	struct sd_lane_offer offer;

	*number = UINT64_MAX;
	if (!sd_lane_offer_file(fd, &offer))
		return SD_OK;
	for (uint64_t i = lane->files; i-- > first;)
		if (same_file(&lane->file[i % SD_LANE_FILES], &offer)) {
			*number = i;
			return SD_OK;
		}
	hear(lane);
	while (lane->socket >= 0 && lane->files - lane->taken.files >= SD_LANE_AHEAD)
		if (wait_for_consumer(lane, err) != SD_OK)
			return SD_IO;
	offer.number = lane->files;
	if (lane->socket < 0 || !send_offer(lane, &offer, fd))
		return SD_OK;
	lane->file[offer.number % SD_LANE_FILES] = offer;
	lane->files++;
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
static void open_ring(struct sd_lane_out *lane)
{
	struct sd_lane_offer offer = {.kind = SD_LANE_RING, .size = RING_BYTES};
	int fd = memfd_create("sd-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *ring = MAP_FAILED;

	lane->ringless = true;
	if (fd < 0)
		return;
	if (ftruncate(fd, RING_BYTES) == 0)
		ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring != MAP_FAILED && seal(&fd) && send_offer(lane, &offer, fd)) {
		lane->ring = ring;
		lane->ringless = false;
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
static uint64_t next_place(const struct sd_lane_out *lane, uint64_t length)
{
	unsigned last = (lane->oldest + lane->ngiven - 1) % GIVEN;
	uint64_t end = lane->ngiven ? lane->given[last].begin + aligned(lane->given[last].length) : lane->head;
	uint64_t left = RING_BYTES - end % RING_BYTES;

	return length <= left ? end : end + left;
}

/* An empty ring has room wherever it begins. */
static bool is_free(const struct sd_lane_out *lane, uint64_t begin, uint64_t length)
{
	return (lane->ngiven == 0 && lane->taken.ring == lane->head) || begin + length - lane->taken.ring <= RING_BYTES;
}

enum sd_result sd_lane_out_room(struct sd_lane_out *lane, uint64_t length, void **memory, bool *later,
				struct sd_error *err)
{
	uint64_t begin;

	*memory = NULL;
	*later = false;
	hear(lane);
	if (lane->socket >= 0 && !lane->ring && !lane->ringless)
		open_ring(lane);
	if (!lane->ring || length == 0 || length > RING_BYTES)
		return SD_OK;
	begin = next_place(lane, length);
	while (lane->socket >= 0 && (lane->ngiven == GIVEN || !is_free(lane, begin, length))) {
		/* The consumer may wait for what has not been made yet. */
		*later = lane->ngiven > 0;
		if (*later)
			return SD_OK;
		if (wait_for_consumer(lane, err) != SD_OK)
			return SD_IO;
	}
	if (lane->socket < 0)
		return SD_OK;
	lane->given[(lane->oldest + lane->ngiven) % GIVEN].begin = begin;
	lane->given[(lane->oldest + lane->ngiven++) % GIVEN].length = length;
	*memory = lane->ring + begin % RING_BYTES;
	return SD_OK;
}

void sd_lane_out_region(const struct sd_lane_out *lane, void **begin, size_t *length)
{
	*begin = lane->ring;
	*length = RING_BYTES;
}

bool sd_lane_out_owed(const struct sd_lane_out *lane)
{
	return lane->ngiven > 0;
}

static bool is_oldest(const struct sd_lane_out *lane, const void *memory)
{
	return lane->ngiven > 0 && memory == lane->ring + lane->given[lane->oldest].begin % RING_BYTES;
}

void sd_lane_out_forget(struct sd_lane_out *lane, const void *memory)
{
	if (!lane || !is_oldest(lane, memory))
		return;
	lane->oldest = (lane->oldest + 1) % GIVEN;
	lane->ngiven--;
}

bool sd_lane_out_take(struct sd_lane_out *lane, const void *memory, uint64_t length, struct sd_lane_place *place)
{
	uint64_t begin = lane->given[lane->oldest].begin;

	if (length == 0 || !is_oldest(lane, memory) || length > lane->given[lane->oldest].length)
		return false;
	lane->head = begin + aligned(length);
	*place = (struct sd_lane_place){lane->head, begin % RING_BYTES, length};
	sd_lane_out_forget(lane, memory);
	return true;
}

void sd_lane_out_close(struct sd_lane_out *lane)
{
	if (!lane)
		return;
	if (lane->ring)
		munmap(lane->ring, RING_BYTES);
	drop(&lane->socket);
	drop(&lane->caller);
	drop(&lane->listener);
	free(lane);
}
