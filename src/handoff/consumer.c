/* SPDX-License-Identifier: Apache-2.0 */
/* The consumer's end of a handoff. */
#include "base/signals.h"
#include "base/io.h"
#include "handoff/socket.h"
#include "handoff/handoff.h"

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
	struct sd_handoff_offer offer;
};

struct sd_handoff_in {
	int socket;
	struct held_file file[SD_HANDOFF_FILES]; /* number n at n % SD_HANDOFF_FILES */
	const unsigned char *ring;
	uint64_t ring_bytes;
	uint64_t ring_came; /* the place that is free when all that came is taken */
	struct sd_handoff_taken taken, told;
};

struct sd_handoff_in *sd_handoff_in_open(int pipe)
{
	const struct sd_handoff_taken nothing = {0};
	struct sockaddr_un address;
	socklen_t length = sd_handoff_address(pipe, &address);
	struct sd_handoff_in *handoff = length ? calloc(1, sizeof(*handoff)) : NULL;

	if (!handoff)
		return NULL;
	for (int i = 0; i < SD_HANDOFF_FILES; i++)
		handoff->file[i].fd = -1;
	/* Nothing here waits: whoever listens may be a stranger, and whoever connects too. */
	handoff->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (handoff->socket < 0 || !sd_handoff_show(pipe, F_RDLCK) ||
	    connect(handoff->socket, (struct sockaddr *)&address, length) != 0 ||
	    !sd_handoff_shown(handoff->socket, pipe, F_WRLCK) ||
	    send(handoff->socket, &nothing, sizeof(nothing), MSG_NOSIGNAL) < 0) {
		sd_handoff_in_close(handoff);
		return NULL;
	}
	return handoff;
}

/* Tells the producer what has been taken, if it can be told at once. */
static void tell(struct sd_handoff_in *handoff)
{
	const struct sd_handoff_taken taken = handoff->taken;

	if (taken.files == handoff->told.files && taken.ring == handoff->told.ring)
		return;
	/* A producer that is done has closed its end: then nobody waits to be told. */
	if (send(handoff->socket, &taken, sizeof(taken), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
	    (errno != EAGAIN && errno != EINTR))
		handoff->told = taken;
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
static enum sd_result take_offer(struct sd_handoff_in *handoff, struct sd_handoff_offer *offer, int *fd,
				 struct sd_error *err)
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
		n = recvmsg(handoff->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
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
	const struct sd_handoff_offer *then = &file->offer;
	struct sd_handoff_offer now = {0};

	if (sd_handoff_offer_file(file->fd, &now) && now.size == then->size && now.modified == then->modified &&
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

static enum sd_result take_file(struct sd_handoff_in *handoff, const struct sd_handoff_offer *offer, int fd,
				struct sd_error *err)
{
	struct held_file *file = &handoff->file[offer->number % SD_HANDOFF_FILES];
	enum sd_result result = leave_file(file, err);

	*file = (struct held_file){fd, *offer};
	if (offer->number != handoff->taken.files)
		return nonsense(err);
	handoff->taken.files++;
	tell(handoff);
	return result == SD_OK ? check_unchanged(file, err) : result;
}

static enum sd_result take_ring(struct sd_handoff_in *handoff, const struct sd_handoff_offer *offer, int fd,
				struct sd_error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *ring = MAP_FAILED;

	/* Shorter than it says, or made so later, the first touch of what is missing would end us. */
	if (!handoff->ring && offer->size <= SIZE_MAX && seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &st) == 0 &&
	    (uint64_t)st.st_size == offer->size)
		ring = mmap(NULL, (size_t)offer->size, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (ring == MAP_FAILED)
		return sd_fail(err, SD_IO,
			       "the memory shared with the program before this one cannot be had; "
			       "SD_HANDOFF=inline does without");
	handoff->ring = ring;
	handoff->ring_bytes = offer->size;
	return SD_OK;
}

static enum sd_result take_next(struct sd_handoff_in *handoff, struct sd_error *err)
{
	struct sd_handoff_offer offer;
	int fd;
	enum sd_result result = take_offer(handoff, &offer, &fd, err);

	if (result != SD_OK)
		return result;
	return offer.kind == SD_HANDOFF_FILE ? take_file(handoff, &offer, fd, err)
					     : take_ring(handoff, &offer, fd, err);
}

enum sd_result sd_handoff_in_file(struct sd_handoff_in *handoff, const struct sd_handoff_place *place, int *fd,
				  struct sd_error *err)
{
	const struct held_file *file = &handoff->file[place->number % SD_HANDOFF_FILES];

	/* Offers come in the order in which they are first used, perhaps one of the ring in between. */
	if (place->number > handoff->taken.files)
		return nonsense(err);
	while (handoff->taken.files == place->number) {
		enum sd_result result = take_next(handoff, err);

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

enum sd_result sd_handoff_in_ring(struct sd_handoff_in *handoff, const struct sd_handoff_place *place,
				  const void **memory, struct sd_error *err)
{
	while (!handoff->ring) {
		enum sd_result result = take_next(handoff, err);

		if (result != SD_OK)
			return result;
	}
	if (place->offset > handoff->ring_bytes || place->length > handoff->ring_bytes - place->offset ||
	    place->number < handoff->ring_came)
		return nonsense(err);
	handoff->ring_came = place->number;
	*memory = handoff->ring + place->offset;
	return SD_OK;
}

void sd_handoff_in_give_back(struct sd_handoff_in *handoff)
{
	handoff->taken.ring = handoff->ring_came;
	tell(handoff);
}

enum sd_result sd_handoff_in_before_read(struct sd_handoff_in *handoff, int pipe, struct sd_error *err)
{
	struct pollfd wait[2] = {{.fd = pipe, .events = POLLIN}, {.fd = handoff->socket, .events = POLLOUT}};

	for (;;) {
		tell(handoff);
		if (handoff->told.files == handoff->taken.files && handoff->told.ring == handoff->taken.ring)
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

enum sd_result sd_handoff_in_finish(struct sd_handoff_in *handoff, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (int i = 0; i < SD_HANDOFF_FILES && result == SD_OK; i++)
		result = leave_file(&handoff->file[i], err);
	return result;
}

void sd_handoff_in_close(struct sd_handoff_in *handoff)
{
	if (!handoff)
		return;
	for (int i = 0; i < SD_HANDOFF_FILES; i++)
		if (handoff->file[i].fd >= 0)
			close(handoff->file[i].fd);
	if (handoff->ring)
		munmap((void *)(uintptr_t)handoff->ring, (size_t)handoff->ring_bytes);
	if (handoff->socket >= 0)
		close(handoff->socket);
	free(handoff);
}
