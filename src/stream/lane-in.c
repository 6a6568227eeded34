/* SPDX-License-Identifier: Apache-2.0 */
/* The consumer's end of a lane. */
#include "base/signals.h"
#include "stream/chunk.h"
#include "stream/lane-socket.h"
#include "stream/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct held_file {
	int fd; /* -1: none */
	struct sd_lane_offer offer;
};

struct sd_lane_in {
	int socket;
	struct held_file file[SD_LANE_FILES]; /* number n at n % SD_LANE_FILES */
	const unsigned char *ring;
	uint64_t ring_bytes;
	uint64_t ring_came; /* the place that is free when all that came is taken */
	struct sd_lane_taken taken, told;
};

struct sd_lane_in *sd_lane_in_open(int pipe)
{
	const struct sd_lane_taken nothing = {0};
	struct sockaddr_un address;
	socklen_t length = sd_lane_address(pipe, &address);
	struct sd_lane_in *lane = length ? calloc(1, sizeof(*lane)) : NULL;

	if (!lane)
		return NULL;
	for (int i = 0; i < SD_LANE_FILES; i++)
		lane->file[i].fd = -1;
	/* Nothing here waits: whoever listens may be a stranger, and whoever connects too. */
	lane->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (lane->socket < 0 || !sd_lane_show(pipe, F_RDLCK) ||
	    connect(lane->socket, (struct sockaddr *)&address, length) != 0 ||
	    !sd_lane_shown(lane->socket, pipe, F_WRLCK) ||
	    send(lane->socket, &nothing, sizeof(nothing), MSG_NOSIGNAL) < 0) {
		sd_lane_in_close(lane);
		return NULL;
	}
	return lane;
}

/* Tells the producer what has been taken, if it can be told at once. */
static void tell(struct sd_lane_in *lane)
{
	const struct sd_lane_taken taken = lane->taken;

	if (taken.files == lane->told.files && taken.ring == lane->told.ring)
		return;
	/* A producer that is done has closed its end: then nobody waits to be told. */
	if (send(lane->socket, &taken, sizeof(taken), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
	    (errno != EAGAIN && errno != EINTR))
		lane->told = taken;
}

static enum sd_result gone(struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "the program before this one was stopped");
}

static enum sd_result nonsense(struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "malformed stream: a reference to what the program before this one did not give");
}

/* The next offer and its descriptor, which are there: a producer sends them before it writes what refers to them. */
static enum sd_result take_offer(struct sd_lane_in *lane, struct sd_lane_offer *offer, int *fd, struct sd_error *err)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {offer, sizeof(*offer)};
	struct msghdr message;
	const struct cmsghdr *head;
	ssize_t n;
	bool reset = false;

	*fd = -1;
	for (;;) {
		message = (struct msghdr){.msg_iov = &part,
					  .msg_iovlen = 1,
					  .msg_control = control.room,
					  .msg_controllen = CMSG_LEN(sizeof(int))}; /* there is room for two */
		n = recvmsg(lane->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (n >= 0)
			break;
		/* A producer that ends before it has heard all of us resets the socket; what it sent is still there. */
		if (errno == ECONNRESET && !reset)
			reset = true;
		else if (errno == ECONNRESET)
			return gone(err);
		else if (errno == EAGAIN)
			return nonsense(err);
		else if (errno != EINTR)
			return sd_fail_errno(err, errno, "cannot receive what the program before this one hands over");
		else if (sd_signals_check(err) != SD_OK)
			return SD_IO;
	}
	if (n == 0)
		return gone(err);
	head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(head), sizeof(int));
	if (*fd < 0 && message.msg_flags & MSG_CTRUNC)
		return sd_fail(err, SD_IO, "too many open files: raise the limit (ulimit -n)");
	if (*fd >= 0 && n == sizeof(*offer))
		return SD_OK;
	if (*fd >= 0)
		close(*fd);
	return nonsense(err);
}

static enum sd_result fail_changed(const struct held_file *file, struct sd_error *err)
{
	char name[1024];

	return sd_fail(err, SD_INPUT, "%s changed while it was being read", sd_fd_name(file->fd, name, sizeof(name)));
}

/* That a file is still what it was when the producer offered it. */
static enum sd_result check_unchanged(const struct held_file *file, struct sd_error *err)
{
	const struct sd_lane_offer *then = &file->offer;
	struct sd_lane_offer now = {0};

	if (sd_lane_offer_file(file->fd, &now) && now.size == then->size && now.modified == then->modified &&
	    now.modified_ns == then->modified_ns && now.device == then->device && now.inode == then->inode &&
	    ((now.changed == then->changed && now.changed_ns == then->changed_ns) || now.links != then->links))
		return SD_OK;
	return fail_changed(file, err);
}

static enum sd_result leave_file(struct held_file *file, struct sd_error *err)
{
	enum sd_result result = file->fd < 0 ? SD_OK : check_unchanged(file, err);

	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	return result;
}

static enum sd_result take_file(struct sd_lane_in *lane, const struct sd_lane_offer *offer, int fd,
				struct sd_error *err)
{
	struct held_file *file = &lane->file[offer->number % SD_LANE_FILES];
	enum sd_result result = leave_file(file, err);

	*file = (struct held_file){fd, *offer};
	if (offer->number != lane->taken.files)
		return nonsense(err);
	lane->taken.files++;
	tell(lane);
	return result == SD_OK ? check_unchanged(file, err) : result;
}

static enum sd_result take_ring(struct sd_lane_in *lane, const struct sd_lane_offer *offer, int fd,
				struct sd_error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *ring = MAP_FAILED;

	/* Shorter than it says, or made so later, the first touch of what is missing would end us. */
	if (!lane->ring && offer->size <= SIZE_MAX && seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &st) == 0 &&
	    (uint64_t)st.st_size == offer->size)
		ring = mmap(NULL, (size_t)offer->size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (ring == MAP_FAILED)
		return sd_fail(err, SD_IO,
			       "the memory shared with the program before this one cannot be had; "
			       "SD_LANES=inline does without");
	lane->ring = ring;
	lane->ring_bytes = offer->size;
	return SD_OK;
}

static enum sd_result take_next(struct sd_lane_in *lane, struct sd_error *err)
{
	struct sd_lane_offer offer;
	int fd;
	enum sd_result result = take_offer(lane, &offer, &fd, err);

	if (result != SD_OK)
		return result;
	return offer.kind == SD_LANE_FILE ? take_file(lane, &offer, fd, err) : take_ring(lane, &offer, fd, err);
}

enum sd_result sd_lane_in_file(struct sd_lane_in *lane, const struct sd_lane_place *place, int *fd,
			       struct sd_error *err)
{
	const struct held_file *file = &lane->file[place->number % SD_LANE_FILES];

	/* Offers come in the order in which they are first used, perhaps one of the ring in between. */
	if (place->number > lane->taken.files)
		return nonsense(err);
	while (lane->taken.files == place->number) {
		enum sd_result result = take_next(lane, err);

		if (result != SD_OK)
			return result;
	}
	if (file->fd < 0 || file->offer.number != place->number)
		return nonsense(err);
	/* The producer goes by the file's header: it has become shorter since. */
	if (place->offset > file->offer.size || place->length > file->offer.size - place->offset)
		return fail_changed(file, err);
	*fd = file->fd;
	return SD_OK;
}

enum sd_result sd_lane_in_ring(struct sd_lane_in *lane, const struct sd_lane_place *place, const void **memory,
			       struct sd_error *err)
{
	while (!lane->ring) {
		enum sd_result result = take_next(lane, err);

		if (result != SD_OK)
			return result;
	}
	if (place->offset > lane->ring_bytes || place->length > lane->ring_bytes - place->offset ||
	    place->number < lane->ring_came)
		return nonsense(err);
	lane->ring_came = place->number;
	*memory = lane->ring + place->offset;
	return SD_OK;
}

void sd_lane_in_give_back(struct sd_lane_in *lane)
{
	lane->taken.ring = lane->ring_came;
	tell(lane);
}

enum sd_result sd_lane_in_before_read(struct sd_lane_in *lane, int pipe, struct sd_error *err)
{
	struct pollfd wait[2] = {{.fd = pipe, .events = POLLIN}, {.fd = lane->socket, .events = POLLOUT}};

	for (;;) {
		tell(lane);
		if (lane->told.files == lane->taken.files && lane->told.ring == lane->taken.ring)
			return SD_OK;
		if (poll(wait, 2, -1) < 0) {
			if (errno != EINTR)
				return sd_fail_errno(err, errno, "cannot wait");
			if (sd_signals_check(err) != SD_OK)
				return SD_IO;
		} else if (wait[0].revents) {
			return SD_OK;
		}
	}
}

enum sd_result sd_lane_in_finish(struct sd_lane_in *lane, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (int i = 0; i < SD_LANE_FILES && result == SD_OK; i++)
		result = leave_file(&lane->file[i], err);
	return result;
}

void sd_lane_in_close(struct sd_lane_in *lane)
{
	if (!lane)
		return;
	for (int i = 0; i < SD_LANE_FILES; i++)
		if (lane->file[i].fd >= 0)
			close(lane->file[i].fd);
	if (lane->ring)
		munmap((void *)(uintptr_t)lane->ring, (size_t)lane->ring_bytes);
	if (lane->socket >= 0)
		close(lane->socket);
	free(lane);
}
