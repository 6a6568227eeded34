/* SPDX-License-Identifier: Apache-2.0 */
/* Data at offsets of files, as a source. */
#include "formats/extents.h"
#include "model/companions.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_MAX_FILES 64
#define COMPARE_READ (1u << 18)

/* A file that is not open any more. */
struct watched {
	const char *path;
	struct stat stat; /* when it was read */
};

/* Where a record's bytes are. */
struct place {
	uint32_t input;
	uint64_t offset;      /* in a seekable one */
	struct sd_made *made; /* NULL: its bytes are there */
};

struct extents {
	struct sd_source source;
	struct sd_input *inputs;
	size_t ninputs, inputs_room;
	struct watched *watched;
	size_t nwatched, watched_room;
	struct place *places; /* of each record */
	size_t nplaces, places_room;
	size_t open;
	uint64_t clock;       /* counts what was asked for */
	uint64_t done;        /* bytes of the record that have been given out */
	uint32_t given;       /* the record whose extent has been given out */
	void *memory;         /* that it is in, where it was made */
	pthread_mutex_t lock; /* of readers, and of opening and closing while read_at is in use */
	struct sd_guest *guest;
	uint32_t *readers; /* of each input: threads that read it just now; NULL: read_at has not been called */
};

static void close_input(struct extents *x, struct sd_input *input)
{
	if (input->fd >= 0 && !input->lent) {
		close(input->fd);
		input->fd = -1;
		x->open--;
	}
}

/* That an open file is what it was when it was opened. */
static enum sd_result check_unchanged(const struct sd_input *input, struct sd_error *err)
{
	return input->seekable && input->stat.st_mode ? sd_fd_unchanged(input->fd, input->path, &input->stat, err)
						      : SD_OK;
}

/* Closes the open file that nobody has asked for for the longest time, and that no thread reads just now. */
static enum sd_result close_one(struct extents *x, struct sd_error *err)
{
	struct sd_input *oldest = NULL;

	for (size_t i = 0; i < x->ninputs; i++) {
		struct sd_input *input = &x->inputs[i];
		bool idle = input->fd >= 0 && input->seekable && !input->lent && !(x->readers && x->readers[i]);

		if (idle && (!oldest || input->used < oldest->used))
			oldest = input;
	}
	if (!oldest)
		return SD_OK;
	if (check_unchanged(oldest, err) != SD_OK)
		return err->result;
	close_input(x, oldest);
	return SD_OK;
}

static enum sd_result verify(struct sd_input *input, struct sd_error *err)
{
	enum sd_result result = input->verify ? input->verify->run(input->verify, err) : SD_OK;

	input->verify = NULL;
	return result;
}

static enum sd_result open_input(struct extents *x, struct sd_input *input, struct sd_error *err)
{
	input->used = ++x->clock;
	if (input->fd >= 0)
		return verify(input, err);
	if (x->open >= OPEN_MAX_FILES && close_one(x, err) != SD_OK)
		return err->result;
	/* What it has become since may be a FIFO, which nobody writes to. */
	input->fd = sd_openat(AT_FDCWD, input->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (input->fd < 0)
		return sd_fail_errno(err, errno, "%s", input->path);
	x->open++;
	return check_unchanged(input, err);
}

/* Gives back what the record that was given out last has kept. */
static void leave(struct extents *x)
{
	struct sd_made *made = x->given == SD_NO_RECORD ? NULL : x->places[x->given].made;

	if (made && made->close)
		made->close(made);
	free(x->memory);
	x->memory = NULL;
}

/* The first bytes of a record. */
static enum sd_result begin_record(struct extents *x, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	const struct place *place = &x->places[record];
	struct sd_input *input = &x->inputs[place->input];

	leave(x);
	x->given = SD_NO_RECORD;
	if (open_input(x, input, err) != SD_OK)
		return err->result;
	x->given = record;
	if (place->made)
		return place->made->give(place->made, input, extent, &x->memory, err);
	*extent = sd_extents_of(input, place->offset, x->source.manifest->records[record].bytes);
	return SD_OK;
}

static enum sd_result extents_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
				   struct sd_error *err)
{
	struct extents *x = (struct extents *)source;
	struct sd_made *made = x->places[record].made;
	enum sd_result result = SD_OK;

	*extent = (struct sd_extent){.fd = -1, .offset = -1};
	if (x->given != record) {
		x->done = 0;
		result = begin_record(x, record, extent, err);
	} else if (made && made->more && x->done < source->manifest->records[record].bytes) {
		result = made->more(made, x->done, extent, err);
	} else {
		leave(x);
	}
	x->done += result == SD_OK ? extent->length : 0;
	return result;
}

static enum sd_result extents_finish(struct sd_source *source, struct sd_error *err)
{
	struct extents *x = (struct extents *)source;

	for (size_t i = 0; i < x->ninputs; i++) {
		const struct sd_input *input = &x->inputs[i];
		enum sd_result result;
		size_t got;
		char more;

		if (input->fd < 0)
			continue;
		if (input->seekable) {
			result = check_unchanged(input, err);
		} else {
			result = sd_read_upto(input->fd, &more, 1, &got, err);
			if (result == SD_OK && got)
				result = sd_fail(
					err, SD_INPUT,
					"%s goes on after its last tensor; several files are joined by sd-cat A B",
					input->path);
		}
		if (result != SD_OK)
			return result;
	}
	return x->guest && x->guest->finish ? x->guest->finish(x->guest, err) : SD_OK;
}

static void extents_close(struct sd_source *source)
{
	struct extents *x = (struct extents *)source;

	for (size_t i = 0; i < x->ninputs; i++)
		close_input(x, &x->inputs[i]);
	free(x->inputs);
	free(x->watched);
	leave(x);
	free(x->places);
	free(x->readers);
	pthread_mutex_destroy(&x->lock);
	if (x->guest)
		x->guest->close(x->guest);
	sd_manifest_free(source->manifest);
	free(x);
}

static bool extents_place(const struct sd_source *source, uint32_t record, const char **path, uint64_t *offset)
{
	const struct extents *x = (const struct extents *)source;
	const struct place *place = &x->places[record];
	const struct sd_input *input = &x->inputs[place->input];

	*path = input->path;
	*offset = place->offset;
	return input->seekable;
}

/* Opens an input for a thread, until let_go: others may have to be closed, but none that is being read. */
static enum sd_result hold(struct extents *x, uint32_t number, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	pthread_mutex_lock(&x->lock);
	if (!x->readers && !(x->readers = calloc(x->ninputs + 1, sizeof(*x->readers))))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = open_input(x, &x->inputs[number], err);
	if (result == SD_OK)
		x->readers[number]++;
	pthread_mutex_unlock(&x->lock);
	return result;
}

static void let_go(struct extents *x, uint32_t number)
{
	pthread_mutex_lock(&x->lock);
	x->readers[number]--;
	pthread_mutex_unlock(&x->lock);
}

/* By pread, not by mmap: a file that is cut off meanwhile is an error then, and not the end of the program. */
static enum sd_result extents_read_at(struct sd_source *source, uint32_t record, uint64_t offset, void *buffer,
				      uint64_t length, struct sd_error *err)
{
	struct extents *x = (struct extents *)source;
	const struct place *place = &x->places[record];
	const struct sd_input *input = &x->inputs[place->input];
	struct sd_extent extent;
	enum sd_result result;

	result = hold(x, place->input, err);
	if (result != SD_OK)
		return result;
	extent = sd_extents_of(input, place->offset + offset, length);
	result = sd_extent_read(&extent, buffer, length, err);
	if (result == SD_OK || result == SD_INPUT) {
		struct sd_error changed;

		/* A file that was written to may be shorter now: that is the cause then. */
		if (check_unchanged(input, &changed) != SD_OK) {
			*err = changed;
			result = changed.result;
		}
	}
	let_go(x, place->input);
	return result;
}

static const struct sd_source_ops extents_ops = {.next = extents_next,
						 .finish = extents_finish,
						 .close = extents_close,
						 .place = extents_place,
						 .read_at = extents_read_at};

struct sd_source *sd_extents_new(void)
{
	struct extents *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->source.ops = &extents_ops;
	x->source.random = true;
	x->given = SD_NO_RECORD;
	x->source.manifest = sd_manifest_new();
	if (!x->source.manifest) {
		free(x);
		return NULL;
	}
	pthread_mutex_init(&x->lock, NULL);
	return &x->source;
}

enum sd_result sd_extents_input(struct sd_source *source, int fd, const char *path, uint32_t *number,
				struct sd_error *err)
{
	struct extents *x = (struct extents *)source;
	struct sd_input input = {.path = sd_arena_text(&source->manifest->arena, path, strlen(path)), .fd = fd};
	enum sd_result result = SD_OK;

	if (!input.path || !sd_array_grow(&x->inputs, x->ninputs, &x->inputs_room, sizeof(*x->inputs)))
		result = sd_fail_memory(err);
	else if (fstat(fd, &input.stat) != 0)
		result = sd_fail_errno(err, errno, "%s: cannot be looked at", path);
	if (result != SD_OK) {
		close(fd);
		return result;
	}
	input.seekable = S_ISREG(input.stat.st_mode);
	input.size = input.seekable ? (uint64_t)input.stat.st_size : 0;
	source->random = source->random && input.seekable;
	/* All but the last one have been looked at. */
	if (x->open >= OPEN_MAX_FILES && x->inputs[x->ninputs - 1].seekable)
		close_input(x, &x->inputs[x->ninputs - 1]);
	x->open++;
	*number = (uint32_t)x->ninputs;
	x->inputs[x->ninputs++] = input;
	return SD_OK;
}

enum sd_result sd_extents_part(struct sd_source *source, const struct sd_input *part, uint32_t *number,
			       struct sd_error *err)
{
	struct extents *x = (struct extents *)source;
	struct sd_input input = *part;

	input.path = sd_arena_text(&source->manifest->arena, part->path, strlen(part->path));
	input.seekable = input.lent = true;
	if (!input.path || !sd_array_grow(&x->inputs, x->ninputs, &x->inputs_room, sizeof(*x->inputs)))
		return sd_fail_memory(err);
	*number = (uint32_t)x->ninputs;
	x->inputs[x->ninputs++] = input;
	return SD_OK;
}

void sd_extents_invite(struct sd_source *source, struct sd_guest *guest)
{
	((struct extents *)source)->guest = guest;
}

struct sd_extent sd_extents_of(const struct sd_input *input, uint64_t offset, uint64_t length)
{
	return (struct sd_extent){
		.length = length, .fd = input->fd, .offset = input->seekable ? (off_t)(input->begin + offset) : -1};
}

const struct sd_input *sd_extents_at(const struct sd_source *source, uint32_t number)
{
	return &((const struct extents *)source)->inputs[number];
}

enum sd_result sd_extents_open(struct sd_source *source, uint32_t number, struct sd_error *err)
{
	struct extents *x = (struct extents *)source;

	return open_input(x, &x->inputs[number], err);
}

void sd_extents_drop(struct sd_source *source)
{
	struct extents *x = (struct extents *)source;

	close_input(x, &x->inputs[--x->ninputs]);
}

static enum sd_result add(struct sd_source *source, const struct sd_record *record, const struct sd_target *target,
			  const struct place *place, struct sd_error *err)
{
	struct extents *x = (struct extents *)source;
	struct sd_manifest *m = source->manifest;
	struct sd_target made = *target;

	made.record = (uint32_t)m->nrecords;
	if (!sd_manifest_add_record(m, record) || !sd_manifest_add_target(m, &made) ||
	    !sd_array_grow(&x->places, x->nplaces, &x->places_room, sizeof(*x->places)))
		return sd_fail_memory(err);
	x->places[x->nplaces++] = *place;
	return SD_OK;
}

enum sd_result sd_extents_add(struct sd_source *source, const struct sd_record *record, const struct sd_target *target,
			      uint32_t input, uint64_t offset, struct sd_error *err)
{
	return add(source, record, target, &(struct place){.input = input, .offset = offset}, err);
}

enum sd_result sd_extents_add_made(struct sd_source *source, const struct sd_record *record,
				   const struct sd_target *target, uint32_t input, uint64_t offset,
				   struct sd_made *made, struct sd_error *err)
{
	source->random = false;
	return add(source, record, target, &(struct place){.input = input, .offset = offset, .made = made}, err);
}

enum sd_result sd_made_read(struct sd_made *made, const struct sd_input *input, void *bytes, uint64_t length,
			    struct sd_error *err)
{
	struct sd_extent extent;
	void *memory = NULL;
	uint64_t done = 0, part;
	enum sd_result result = made->give(made, input, &extent, &memory, err);

	while (result == SD_OK && done < length) {
		part = extent.length < length - done ? extent.length : length - done;
		result = sd_extent_read(&extent, (char *)bytes + done, part, err);
		done += part;
		if (result == SD_OK && done < length && made->more)
			result = made->more(made, done, &extent, err);
		else if (result == SD_OK && done < length)
			result = sd_fail(err, SD_INPUT, "its data ends early");
	}
	if (made->close)
		made->close(made);
	free(memory);
	return result;
}

struct sd_made *sd_extents_make(struct sd_source *source, uint32_t record, struct sd_made *made, uint64_t *offset)
{
	struct place *place = &((struct extents *)source)->places[record];
	struct sd_made *before = place->made;

	*offset = place->offset;
	place->made = made;
	source->random = false;
	return before;
}

uint32_t sd_extents_input_of(const struct sd_source *source, uint32_t record)
{
	return ((const struct extents *)source)->places[record].input;
}

/* Reads what is at an offset of an input, as far as it goes. */
static enum sd_result read_at(struct extents *x, uint32_t number, uint64_t offset, void *buffer, size_t length,
			      size_t *got, struct sd_error *err)
{
	struct sd_extent extent = sd_extents_of(&x->inputs[number], offset, length);
	uint64_t size = x->inputs[number].size;

	*got = offset >= size ? 0 : size - offset < length ? (size_t)(size - offset) : length;
	if (sd_extent_read(&extent, buffer, *got, err) == SD_OK)
		return SD_OK;
	return sd_error_at(err, "%s", x->inputs[number].path);
}

static enum sd_result read_value(struct extents *x, size_t record, struct sd_error *err)
{
	struct sd_record *r = &x->source.manifest->records[record];
	const struct place *place = &x->places[record];
	enum sd_result result;
	void *value;
	size_t got;

	if (r->bytes == 0 || r->bytes > SD_VALUE_MAX || !x->inputs[place->input].seekable ||
	    (place->made && place->made->once))
		return SD_OK;
	value = sd_arena_alloc(&x->source.manifest->arena, r->bytes);
	if (!value)
		return sd_fail_memory(err);
	result = open_input(x, &x->inputs[place->input], err);
	got = r->bytes;
	if (result == SD_OK && place->made)
		result = sd_made_read(place->made, &x->inputs[place->input], value, r->bytes, err);
	else if (result == SD_OK)
		result = read_at(x, place->input, place->offset, value, r->bytes, &got, err);
	if (result == SD_OK && got == r->bytes)
		r->value = value;
	/* Files are left open as they are needed; not all can be. */
	if (x->open > OPEN_MAX_FILES)
		close_input(x, &x->inputs[place->input]);
	return result;
}

static bool ends_in(const char *key, const char *end)
{
	size_t length = strlen(key), own = strlen(end);

	return length > own && strcmp(key + length - own, end) == 0;
}

/* Whether the scales of a packed weight have one column, so that they do not tell its width. */
static bool has_one_scale(const struct sd_manifest *m, const struct sd_companions *c, uint32_t shape)
{
	uint32_t i = c->weight[shape] == SD_NO_RECORD ? SD_NO_RECORD : c->first[c->weight[shape]];

	while (i != SD_NO_RECORD && !ends_in(m->records[i].key, "weight_scale"))
		i = c->next[i];
	return i != SD_NO_RECORD && m->records[i].rank && m->records[i].shape[m->records[i].rank - 1] == 1;
}

enum sd_result sd_extents_values(struct sd_source *source, struct sd_error *err)
{
	static const char *const states[] = {".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"};
	struct extents *x = (struct extents *)source;
	const struct sd_manifest *m = source->manifest;
	struct sd_companions companions = {0};
	enum sd_result result = SD_OK;
	bool shapes = false;

	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++) {
		const char *key = m->records[i].key;

		shapes = shapes || ends_in(key, ".weight_shape");
		if (ends_in(key, states[0]) || ends_in(key, states[1]))
			result = read_value(x, i, err);
	}
	if (result == SD_OK && shapes)
		result = sd_companions_find(m, &companions, err);
	for (size_t i = 0; i < m->nrecords && shapes && result == SD_OK; i++)
		if (companions.role[i] == SD_ROLE_SHAPE && has_one_scale(m, &companions, (uint32_t)i))
			result = read_value(x, i, err);
	sd_companions_free(&companions);
	return result;
}

static enum sd_result compare(struct extents *x, const uint32_t number[2], const uint64_t offset[2], uint64_t bytes,
			      bool *same, struct sd_error *err)
{
	size_t got[2];
	char *buffer = malloc(2 * COMPARE_READ);
	enum sd_result result = buffer ? SD_OK : sd_fail_memory(err);

	*same = true;
	for (uint64_t done = 0; done < bytes && *same && result == SD_OK; done += COMPARE_READ) {
		size_t length = bytes - done < COMPARE_READ ? (size_t)(bytes - done) : COMPARE_READ;

		for (int i = 0; i < 2 && result == SD_OK; i++)
			result = read_at(x, number[i], offset[i] + done, buffer + i * COMPARE_READ, length, &got[i],
					 err);
		if (result == SD_OK)
			*same = memcmp(buffer, buffer + COMPARE_READ, got[0] < got[1] ? got[0] : got[1]) == 0;
	}
	free(buffer);
	return result;
}

enum sd_result sd_extents_same(struct sd_source *source, const uint32_t number[2], const uint64_t offset[2],
			       uint64_t bytes, bool *same, struct sd_error *err)
{
	struct extents *x = (struct extents *)source;
	bool opened[2] = {false, false};
	enum sd_result result = SD_OK;

	for (int i = 0; i < 2 && result == SD_OK; i++) {
		opened[i] = x->inputs[number[i]].fd < 0;
		result = open_input(x, &x->inputs[number[i]], err);
	}
	if (result == SD_OK)
		result = compare(x, number, offset, bytes, same, err);
	for (int i = 0; i < 2; i++)
		if (opened[i])
			close_input(x, &x->inputs[number[i]]);
	return result;
}

enum sd_result sd_extents_lack(struct sd_source *source, const struct sd_error *lack, struct sd_error *err)
{
	if (!source->lack)
		source->lack = sd_arena_text(&source->manifest->arena, lack->text, strlen(lack->text));
	return source->lack ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_extents_watch(struct sd_source *source, const char *path, const struct stat *then,
				struct sd_error *err)
{
	struct extents *x = (struct extents *)source;

	if (!sd_array_grow(&x->watched, x->nwatched, &x->watched_room, sizeof(*x->watched)))
		return sd_fail_memory(err);
	x->watched[x->nwatched++] = (struct watched){path, *then};
	return SD_OK;
}

static enum sd_result still(const char *path, const struct stat *then, struct sd_error *err)
{
	struct stat now;

	if (stat(path, &now) != 0) {
		if (errno != ENOENT)
			return sd_fail_errno(err, errno, "%s", path);
	} else if (sd_stat_same(then, &now)) {
		return SD_OK;
	}
	return sd_fail(err, SD_INPUT, "%s changed while it was being read", path);
}

enum sd_result sd_extents_still(const struct sd_source *source, struct sd_error *err)
{
	const struct extents *x = (const struct extents *)source;
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < x->nwatched && result == SD_OK; i++)
		result = still(x->watched[i].path, &x->watched[i].stat, err);
	for (size_t i = 0; i < x->ninputs && result == SD_OK; i++)
		if (!x->inputs[i].lent)
			result = still(x->inputs[i].path, &x->inputs[i].stat, err);
	return result;
}
