/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes: what goes into the ring comes out of it, and neither end believes everything that the other one says. */
#include "handoff/socket.h"
#include "handoff/handoff.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RING (32u << 20)

/* A pipe with an end of a handoff at either side. */
struct pair {
	int pipe[2];
	struct sd_handoff_out *out;
	struct sd_handoff_in *in;
};

static struct pair join(void)
{
	struct pair p;

	cr_assert_eq(setenv("SD_HANDOFF", "wait", 1), 0);
	cr_assert_eq(pipe2(p.pipe, O_CLOEXEC), 0);
	p.out = sd_handoff_out_open(p.pipe[1]);
	cr_assert_not_null(p.out);
	p.in = sd_handoff_in_open(p.pipe[0]);
	cr_assert_not_null(p.in);
	cr_assert(sd_handoff_out_attached(p.out));
	return p;
}

static void part(struct pair *p)
{
	sd_handoff_out_close(p->out);
	sd_handoff_in_close(p->in);
	close(p->pipe[0]);
	close(p->pipe[1]);
}

/* The frames of a run, the same for both ends: lengths at all the edges, and any. */
#define FRAMES 120

static uint64_t length_of(unsigned frame)
{
	static const uint64_t edges[] = {1, 63, 64, 65, RING, RING - 1, RING / 2, RING / 2 + 1, RING, 1, RING - 64};
	unsigned seed = frame * 2654435761u;

	return frame < sizeof(edges) / sizeof(*edges) ? edges[frame] : 1 + seed % (frame % 3 ? 3000000 : RING);
}

/* What stands at the begin and at the end of a frame. */
static unsigned char mark_of(unsigned frame)
{
	return (unsigned char)(frame * 7 + 1);
}

static void *consume(void *arg)
{
	struct pair *p = arg;

	for (unsigned frame = 0; frame < FRAMES; frame++) {
		struct sd_handoff_place place;
		const unsigned char *data;
		const void *memory;

		if (read(p->pipe[0], &place, sizeof(place)) != sizeof(place) || place.length != length_of(frame) ||
		    sd_handoff_in_ring(p->in, &place, &memory, NULL) != SD_OK)
			return arg;
		if (frame % 10 == 9)
			usleep(2000);
		data = memory;
		if (data[0] != mark_of(frame) || data[place.length - 1] != mark_of(frame) ||
		    data[place.length / 2] != mark_of(frame))
			return arg;
		sd_handoff_in_give_back(p->in);
	}
	return NULL;
}

Test(handoff, ring)
{
	struct pair p = join();
	pthread_t thread;
	void *failed;

	cr_assert_eq(pthread_create(&thread, NULL, consume, &p), 0);
	for (unsigned frame = 0; frame < FRAMES; frame++) {
		uint64_t length = length_of(frame);
		struct sd_handoff_place place;
		unsigned char *data;
		void *memory;

		cr_assert_eq(sd_handoff_out_room(p.out, length, &memory, &(bool){0}, NULL), SD_OK);
		cr_assert_not_null(memory);
		data = memory;
		data[0] = data[length / 2] = data[length - 1] = mark_of(frame);
		cr_assert(sd_handoff_out_take(p.out, memory, length, &place));
		cr_assert_eq(write(p.pipe[1], &place, sizeof(place)), (ssize_t)sizeof(place));
	}
	pthread_join(thread, &failed);
	cr_assert_null(failed);
	part(&p);
}

/* Less than was asked for may be taken, once, and nothing else. */
Test(handoff, taking)
{
	struct pair p = join();
	struct sd_handoff_place place;
	unsigned char *memory;
	void *room;

	cr_assert_eq(sd_handoff_out_room(p.out, (uint64_t)RING + 1, &room, &(bool){0}, NULL), SD_OK);
	cr_assert_null(room);
	cr_assert_eq(sd_handoff_out_room(p.out, 100, &room, &(bool){0}, NULL), SD_OK);
	memory = room;
	cr_assert(!sd_handoff_out_take(p.out, memory + 1, 10, &place));
	cr_assert(!sd_handoff_out_take(p.out, memory, 101, &place));
	cr_assert(sd_handoff_out_take(p.out, memory, 70, &place));
	cr_assert_eq(place.length, 70);
	cr_assert_eq(place.offset, 0);
	cr_assert_eq(place.number, 128);
	cr_assert(!sd_handoff_out_take(p.out, memory, 10, &place));
	part(&p);
}

static void *room_of(struct pair *p, uint64_t length, bool *later)
{
	void *room;

	cr_assert_eq(sd_handoff_out_room(p->out, length, &room, later, NULL), SD_OK);
	cr_assert(!room || !*later);
	return room;
}

static uint64_t taken(struct pair *p, const void *room, uint64_t length)
{
	struct sd_handoff_place place;

	cr_assert(sd_handoff_out_take(p->out, room, length, &place));
	return place.number;
}

/* Several results are in the ring before the first is taken; only their order counts. */
Test(handoff, several_at_a_time)
{
	struct pair p = join();
	struct sd_handoff_place place;
	bool later;
	unsigned char *a = room_of(&p, 100, &later), *b = room_of(&p, 200, &later), *c = room_of(&p, 300, &later);

	cr_assert(a && b == a + 128 && c == b + 256);
	cr_assert(!sd_handoff_out_take(p.out, b, 200, &place), "it is not its turn");
	cr_assert_eq(taken(&p, a, 100), 128);
	sd_handoff_out_forget(p.out, c);
	sd_handoff_out_forget(p.out, b);
	cr_assert(!sd_handoff_out_take(p.out, b, 200, &place));
	cr_assert_eq(taken(&p, c, 300), 128 + 256 + 320);
	sd_handoff_out_forget(p.out, NULL);
	part(&p);
}

/* Nobody waits for a consumer that waits itself for what is not taken yet. */
Test(handoff, later)
{
	struct pair p = join();
	unsigned char *a, *b;
	const void *memory;
	bool later;
	unsigned n = 0;

	a = room_of(&p, RING / 4 * 3, &later);
	cr_assert_not_null(a);
	cr_assert_null(room_of(&p, RING / 2, &later));
	cr_assert(later);
	b = room_of(&p, RING / 8, &later);
	cr_assert_not_null(b);
	cr_assert_null(room_of(&p, RING + 1ul, &later));
	cr_assert(!later, "that is never");
	cr_assert_eq(taken(&p, a, RING / 4 * 3), RING / 4 * 3);
	cr_assert_null(room_of(&p, RING / 2, &later));
	cr_assert(later);
	taken(&p, b, RING / 8);
	/* What is forgotten leaves the ring as it was. */
	a = room_of(&p, RING / 8, &later);
	sd_handoff_out_forget(p.out, a);
	cr_assert_eq(room_of(&p, RING / 8, &later), a);
	sd_handoff_out_forget(p.out, a);
	cr_assert_eq(sd_handoff_in_ring(p.in, &(struct sd_handoff_place){RING / 8 * 7, RING / 4 * 3, RING / 8}, &memory,
					NULL),
		     SD_OK);
	sd_handoff_in_give_back(p.in);
	/* More at a time than anybody needs. */
	while (room_of(&p, 1, &later))
		n++;
	cr_assert(later && n >= 16, "%u", n);
	part(&p);
}

static void *tell(void *arg)
{
	struct pair *p = arg;

	return sd_handoff_in_before_read(p->in, p->pipe[0], NULL) == SD_OK ? NULL : arg;
}

/* A consumer that has taken more than a socket holds the news of, and then waits, has still told it all. */
Test(handoff, more_news_than_the_socket_holds, .timeout = 60)
{
	enum { frames = 4096 };
	static struct sd_handoff_place places[frames];
	struct pair p = join();
	const void *memory;
	pthread_t thread;
	void *failed;
	bool later;

	for (unsigned i = 0; i < frames; i++)
		cr_assert(sd_handoff_out_take(p.out, room_of(&p, RING / frames, &later), RING / frames, &places[i]));
	for (unsigned i = 0; i < frames; i++) {
		cr_assert_eq(sd_handoff_in_ring(p.in, &places[i], &memory, NULL), SD_OK);
		sd_handoff_in_give_back(p.in);
	}
	cr_assert_eq(pthread_create(&thread, NULL, tell, &p), 0);
	cr_assert_not_null(room_of(&p, RING, &later));
	pthread_join(thread, &failed);
	cr_assert_null(failed);
	part(&p);
}

static void refused(struct pair *p, uint64_t number, uint64_t offset, uint64_t length)
{
	struct sd_handoff_place place = {number, offset, length};
	const void *memory;

	cr_assert_eq(sd_handoff_in_ring(p->in, &place, &memory, NULL), SD_INPUT);
}

Test(handoff, wrong_places)
{
	struct pair p = join();
	struct sd_handoff_place place;
	const void *memory;
	void *room;

	cr_assert_eq(sd_handoff_out_room(p.out, 100, &room, &(bool){0}, NULL), SD_OK);
	cr_assert(sd_handoff_out_take(p.out, room, 100, &place));
	cr_assert_eq(sd_handoff_in_ring(p.in, &place, &memory, NULL), SD_OK);
	refused(&p, 200, RING, 1);
	refused(&p, 200, 0, (uint64_t)RING + 1);
	refused(&p, 200, UINT64_MAX, 2);
	refused(&p, 64, 0, 1);
	part(&p);
}

/* More files than may be on their way, each asked for while it is among the last. */
Test(handoff, files)
{
	struct pair p = join();
	char name[] = "/tmp/sd-test-handoff-XXXXXX";
	uint64_t number;

	cr_assert_not_null(mkdtemp(name));
	for (unsigned i = 0; i < 100; i++) {
		char path[64], content[3];
		struct sd_handoff_place place = {.length = 3};
		int fd, got;

		snprintf(path, sizeof(path), "%s/%u", name, i);
		fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		cr_assert_geq(fd, 0);
		cr_assert_eq(write(fd, "abc", 3), 3);
		cr_assert_eq(sd_handoff_out_file(p.out, fd, &number, NULL), SD_OK);
		cr_assert_eq(number, i);
		cr_assert_eq(sd_handoff_out_file(p.out, fd, &number, NULL), SD_OK);
		cr_assert_eq(number, i, "a file has one number");
		place.number = i;
		cr_assert_eq(sd_handoff_in_file(p.in, &place, &got, NULL), SD_OK);
		cr_assert_eq(pread(got, content, 3, 0), 3);
		cr_assert_arr_eq(content, "abc", 3);
		place.offset = 1;
		cr_assert_eq(sd_handoff_in_file(p.in, &place, &got, NULL), SD_INPUT, "beyond the file's end");
		place = (struct sd_handoff_place){.number = i - SD_HANDOFF_FILES, .length = 1};
		if (i >= SD_HANDOFF_FILES)
			cr_assert_eq(sd_handoff_in_file(p.in, &place, &got, NULL), SD_INPUT, "given up");
		close(fd);
		cr_assert_eq(unlink(path), 0);
	}
	cr_assert_eq(rmdir(name), 0);
	/* Unlinking has not changed them. */
	cr_assert_eq(sd_handoff_in_finish(p.in, NULL), SD_OK);
	part(&p);
}

Test(handoff, changed_file)
{
	struct pair p = join();
	char name[] = "/tmp/sd-test-handoff-XXXXXX";
	int fd = mkstemp(name), got;
	struct sd_handoff_place place = {.length = 1};
	struct sd_error err;

	cr_assert_eq(write(fd, "abc", 3), 3);
	cr_assert_eq(sd_handoff_out_file(p.out, fd, &place.number, NULL), SD_OK);
	cr_assert_eq(sd_handoff_in_file(p.in, &place, &got, NULL), SD_OK);
	cr_assert_eq(write(fd, "d", 1), 1);
	cr_assert_eq(sd_handoff_in_finish(p.in, &err), SD_INPUT);
	cr_assert_not_null(strstr(err.text, "changed while"));
	close(fd);
	unlink(name);
	part(&p);
}

/* A consumer that is gone does not hold up anybody. */
Test(handoff, consumer_gone)
{
	struct pair p = join();
	struct sd_handoff_place place;
	uint64_t number;
	void *room;

	cr_assert_eq(sd_handoff_out_room(p.out, RING, &room, &(bool){0}, NULL), SD_OK);
	cr_assert(sd_handoff_out_take(p.out, room, RING, &place));
	sd_handoff_in_close(p.in);
	p.in = NULL;
	cr_assert_eq(sd_handoff_out_room(p.out, RING, &room, &(bool){0}, NULL), SD_OK);
	cr_assert_null(room);
	cr_assert(!sd_handoff_out_attached(p.out));
	cr_assert_eq(sd_handoff_out_file(p.out, STDIN_FILENO, &number, NULL), SD_OK);
	cr_assert_eq(number, UINT64_MAX);
	part(&p);
}

/* A producer that is done has left all that its consumer needs. */
Test(handoff, producer_done)
{
	struct pair p = join();
	struct sd_handoff_place place;
	const void *memory;
	void *room;

	cr_assert_eq(sd_handoff_out_room(p.out, 5, &room, &(bool){0}, NULL), SD_OK);
	memcpy(room, "hello", 5);
	cr_assert(sd_handoff_out_take(p.out, room, 5, &place));
	sd_handoff_out_close(p.out);
	p.out = NULL;
	cr_assert_eq(sd_handoff_in_ring(p.in, &place, &memory, NULL), SD_OK);
	cr_assert_arr_eq(memory, "hello", 5);
	sd_handoff_in_give_back(p.in);
	cr_assert_eq(sd_handoff_in_before_read(p.in, p.pipe[0], NULL), SD_OK);
	place.number++;
	place.offset = 0;
	cr_assert_eq(sd_handoff_in_file(p.in, &place, &(int){0}, NULL), SD_INPUT, "it gave no file");
	part(&p);
}

/* ---- strangers: processes of the same user that see the socket's name and do not hold the pipe ---- */

#define CALLS 100

static struct sockaddr_un address;

static socklen_t name_of(const int ends[2])
{
	socklen_t length = sd_handoff_address(ends[0], &address);

	cr_assert_neq(length, 0);
	return length;
}

static int call(socklen_t length)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	return connect(fd, (struct sockaddr *)&address, length) == 0 ? fd : -1;
}

static int listen_there(socklen_t length)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	return bind(fd, (struct sockaddr *)&address, length) == 0 && listen(fd, 8) == 0 ? fd : -1;
}

static const struct sd_handoff_taken hello;
static const char rubbish[4096] = {1};

/* What a stranger sends once it has connected, or length 0; how often it connects; which end of the pipe it has. */
struct stranger {
	const char *does;
	const void *message;
	size_t length;
	int calls;
	int end;    /* -1: none */
	short lock; /* what it shows then */
};

static const struct stranger strangers[] = {
	{"is silent", NULL, 0, 1, -1, 0},
	{"greets", &hello, sizeof(hello), 1, -1, 0},
	{"sends rubbish", rubbish, sizeof(rubbish), 1, -1, 0},
	{"connects again and again", &hello, sizeof(hello), CALLS, -1, 0},
	{"holds the wrong end", &hello, sizeof(hello), 1, 1, F_WRLCK},
	{"holds an end and does not show it", &hello, sizeof(hello), 1, 0, 0},
};

/* What is sent to a stranger: nothing, until it is left. */
static bool is_left(int fd)
{
	char byte[64];
	ssize_t n = recv(fd, byte, sizeof(byte), 0);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* Closes all that a stranger has not. */
static void keep(int a, int b)
{
	for (int fd = STDERR_FILENO + 1; fd < 64; fd++)
		if (fd != a && fd != b)
			close(fd);
}

/* A stranger's whole life; its exit status is whether it was left with nothing. */
static int live(const struct stranger *s, const int ends[2], socklen_t length, int ready)
{
	int fd[CALLS];
	bool left = true;

	keep(ready, s->end < 0 ? ready : ends[s->end]);
	if (s->lock && !sd_handoff_show(ends[s->end], s->lock))
		return 2;
	for (int i = 0; i < s->calls; i++) {
		fd[i] = call(length);
		if (fd[i] < 0)
			return 3;
		if (s->length && send(fd[i], s->message, s->length, MSG_NOSIGNAL) < 0)
			return 4;
	}
	if (write(ready, "", 1) != 1)
		return 5;
	for (int i = 0; i < s->calls; i++)
		left = is_left(fd[i]) && left;
	return !left;
}

/* Starts a stranger, and returns when it has connected. */
static pid_t begin(const struct stranger *s, const int ends[2])
{
	socklen_t length = name_of(ends);
	int ready[2];
	pid_t pid;
	char byte;

	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		_exit(live(s, ends, length, ready[1]));
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 1, "%s: it cannot connect", s->does);
	close(ready[0]);
	return pid;
}

static void end(const struct stranger *s, pid_t pid)
{
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a stranger that %s: status %#x", s->does, status);
}

/* Strangers that come first keep nobody from anything, and get nothing. */
Test(handoff, strangers_connect, .timeout = 60)
{
	for (size_t i = 0; i < sizeof(strangers) / sizeof(*strangers); i++) {
		struct pair p;
		pid_t pid;

		cr_assert_eq(setenv("SD_HANDOFF", "wait", 1), 0);
		cr_assert_eq(pipe2(p.pipe, O_CLOEXEC), 0);
		p.out = sd_handoff_out_open(p.pipe[1]);
		cr_assert_not_null(p.out);
		pid = begin(&strangers[i], p.pipe);
		p.in = sd_handoff_in_open(p.pipe[0]);
		cr_assert_not_null(p.in);
		cr_expect(sd_handoff_out_attached(p.out), "a stranger that %s", strangers[i].does);
		end(&strangers[i], pid);
		part(&p);
	}
}

/* Nor do those that come and nobody else does. */
Test(handoff, strangers_alone, .timeout = 60)
{
	for (size_t i = 0; i < sizeof(strangers) / sizeof(*strangers); i++) {
		struct pair p = {0};
		pid_t pid;

		cr_assert_eq(unsetenv("SD_HANDOFF"), 0);
		cr_assert_eq(pipe2(p.pipe, O_CLOEXEC), 0);
		p.out = sd_handoff_out_open(p.pipe[1]);
		cr_assert_not_null(p.out);
		pid = begin(&strangers[i], p.pipe);
		for (int look = 0; look < CALLS; look++)
			cr_assert(!sd_handoff_out_attached(p.out), "a stranger that %s", strangers[i].does);
		sd_handoff_out_close(p.out);
		p.out = NULL;
		end(&strangers[i], pid);
		part(&p);
	}
}

enum listener { HOLDS_NOTHING, HOLDS_WRONG_END, IS_GONE, LISTENERS };

/* Somebody listens under the pipe's name, and is left by whoever connects; the exit status is whether it was. */
static int listen_first(enum listener kind, const int ends[2], socklen_t length, int ready)
{
	int fd;

	keep(ready, kind == HOLDS_WRONG_END ? ends[0] : ready);
	fd = listen_there(length);
	if (fd < 0 || (kind == HOLDS_WRONG_END && !sd_handoff_show(ends[0], F_RDLCK)) || write(ready, "", 1) != 1)
		return 2;
	return kind != IS_GONE && !is_left(accept(fd, NULL, NULL));
}

/* Who listens under the name and does not hold the pipe's other end is left, and nobody waits for it. */
Test(handoff, strangers_listen, .timeout = 60)
{
	for (enum listener kind = HOLDS_NOTHING; kind < LISTENERS; kind++) {
		int ends[2], ready[2], status;
		socklen_t length;
		pid_t pid;
		char byte;

		cr_assert_eq(setenv("SD_HANDOFF", "wait", 1), 0);
		cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
		cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
		length = name_of(ends);
		pid = fork();
		if (pid == 0)
			_exit(listen_first(kind, ends, length, ready[1]));
		close(ready[1]);
		cr_assert_eq(read(ready[0], &byte, 1), 1);
		close(ready[0]);
		if (kind == IS_GONE)
			cr_assert_eq(waitpid(pid, &status, 0), pid);
		else
			cr_expect_null(sd_handoff_out_open(ends[1]), "the name is taken");
		cr_expect_null(sd_handoff_in_open(ends[0]));
		if (kind != IS_GONE)
			cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%d: status %#x", kind, status);
		close(ends[0]);
		close(ends[1]);
	}
}

/* A consumer that the producer's end is shown to, without any of ours behind it. */
static int greet(const int ends[2], const struct sd_handoff_taken *first)
{
	int fd;

	cr_assert(sd_handoff_show(ends[0], F_RDLCK));
	fd = call(name_of(ends));
	cr_assert_geq(fd, 0);
	cr_assert_eq(send(fd, first, sizeof(*first), 0), (ssize_t)sizeof(*first));
	return fd;
}

/* The descriptor that comes with the next message. */
static int descriptor(int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct sd_handoff_offer offer;
	struct iovec part = {&offer, sizeof(offer)};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
	int got = -1;

	cr_assert_eq(recvmsg(fd, &message, MSG_CMSG_CLOEXEC), (ssize_t)sizeof(offer));
	cr_assert_not_null(CMSG_FIRSTHDR(&message));
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return got;
}

static bool can_be_written(int fd)
{
	void *memory = mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (memory != MAP_FAILED)
		munmap(memory, RING);
	return memory != MAP_FAILED || pwrite(fd, "x", 1, 0) == 1;
}

static bool has_seal_for_writing(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	bool has = fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;

	close(fd);
	return has;
}

/* Who gets the ring reads it, and cannot write there. */
Test(handoff, ring_is_for_reading)
{
	struct pair p = {0};
	void *room;
	int fd, ring;

	cr_assert_eq(setenv("SD_HANDOFF", "wait", 1), 0);
	cr_assert_eq(pipe2(p.pipe, O_CLOEXEC), 0);
	p.out = sd_handoff_out_open(p.pipe[1]);
	fd = greet(p.pipe, &hello);
	cr_assert(sd_handoff_out_attached(p.out));
	cr_assert_eq(sd_handoff_out_room(p.out, 100, &room, &(bool){0}, NULL), SD_OK);
	cr_assert_not_null(room);
	ring = descriptor(fd);
	cr_expect(!can_be_written(ring));
	if (has_seal_for_writing()) {
		char path[64];
		int again;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", ring);
		again = open(path, O_RDWR | O_CLOEXEC);
		cr_expect(again < 0 || !can_be_written(again));
		close(again);
	}
	close(ring);
	close(fd);
	part(&p);
}

/* Who begins with anything else than having taken nothing is no consumer. */
Test(handoff, wrong_greeting)
{
	struct pair p = {0};
	int fd;

	cr_assert_eq(unsetenv("SD_HANDOFF"), 0);
	cr_assert_eq(pipe2(p.pipe, O_CLOEXEC), 0);
	p.out = sd_handoff_out_open(p.pipe[1]);
	fd = greet(p.pipe, &(struct sd_handoff_taken){1, 0});
	cr_expect(!sd_handoff_out_attached(p.out));
	cr_expect(is_left(fd));
	close(fd);
	part(&p);
}

/* A producer that shows its end, refers to what it does not give, and stays: nobody waits for it. */
Test(handoff, nothing_given, .timeout = 60)
{
	struct sd_handoff_place place = {.length = 1};
	struct pair p = {0};
	const void *memory;
	int fd;

	cr_assert_eq(setenv("SD_HANDOFF", "wait", 1), 0);
	cr_assert_eq(pipe2(p.pipe, O_CLOEXEC), 0);
	fd = listen_there(name_of(p.pipe));
	cr_assert(sd_handoff_show(p.pipe[1], F_WRLCK));
	p.in = sd_handoff_in_open(p.pipe[0]);
	cr_assert_not_null(p.in);
	cr_expect_eq(sd_handoff_in_file(p.in, &place, &(int){0}, NULL), SD_INPUT);
	cr_expect_eq(sd_handoff_in_ring(p.in, &place, &memory, NULL), SD_INPUT);
	close(fd);
	part(&p);
}

Test(handoff, switched_off)
{
	int ends[2];

	cr_assert_eq(setenv("SD_HANDOFF", "inline", 1), 0);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	cr_assert_null(sd_handoff_out_open(ends[1]));
	cr_assert_null(sd_handoff_in_open(ends[0]));
	cr_assert_eq(unsetenv("SD_HANDOFF"), 0);
	cr_assert_null(sd_handoff_in_open(ends[0]), "nobody listens");
	cr_assert_null(sd_handoff_out_open(STDERR_FILENO + 1000), "no pipe");
	close(ends[0]);
	close(ends[1]);
}
