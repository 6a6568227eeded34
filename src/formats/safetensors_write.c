/* SPDX-License-Identifier: Apache-2.0 */
/* The sink that writes safetensors. */
#include "formats/safetensors_write.h"
#include "base/checked.h"
#include "base/signals.h"
#include "flow/spool.h"
#include "formats/atomic_output.h"
#include "formats/part_files.h"
#include "formats/resume.h"
#include "formats/zstd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER (1u << 20)
#define AT_ONCE (64u << 20)  /* between looks for signals */
#define STRAIGHT (64u << 10) /* runs of at least this many bytes are copied by the kernel, without a buffer */

/* Where the bytes go. */
enum mode {
	NOWHERE,
	TO_PLACES, /* of the files that are being published */
	IN_PLACE,  /* of a regular file that was open already */
	IN_FLOW,   /* one byte after the other, into a pipe */
	TO_SPOOL,  /* a temporary file, which goes into the pipe at the end */
};

/* A target of the current record: the run of bytes that it takes next. */
struct cursor {
	uint64_t from; /* in the record */
	uint64_t to;   /* in the file */
	uint64_t left; /* of the run */
	uint64_t run;  /* length of every run */
	uint32_t file;
	uint32_t outer;                  /* dimensions that runs are repeated over, outermost first */
	struct sd_dim dim[SD_MOVE_RANK]; /* in bytes */
	uint64_t index[SD_MOVE_RANK];
};

/* Bytes that belong one after another, on their way into a file. */
struct writer {
	uint32_t file;
	uint64_t offset;
	size_t used;
	char buffer[BUFFER];
};

struct pack {
	struct sd_sink sink;
	const struct sd_safetensors_sink_options *options;
	const struct sd_manifest *m;
	struct sd_manifest *pieces; /* of shards: then it is m */
	struct sd_output_plan layout;
	struct sd_archive_layout archive;
	size_t nput;          /* IN_FLOW: how many of its fixed bytes have been written */
	uint64_t at;          /* IN_FLOW: bytes that have been written */
	struct sd_zstd *zstd; /* NULL: nothing is compressed */
	int plain;            /* what is to be compressed goes there, or -1 */
	struct sd_output *publish;
	struct sd_output_file *files; /* weights, then: */
	struct sd_side_file *small;   /* what is written as it is */
	size_t nfiles, nsmall;
	struct sd_part_output *part; /* NULL: the whole is written */
	struct sd_resume *resume;    /* NULL: what is unfinished goes */
	enum mode mode;
	int spool;
	uint64_t base;          /* IN_PLACE: where the file begins */
	uint64_t end;           /* of what was in the regular file that is open */
	bool appends;           /* to it */
	bool in_file;           /* what is compressed goes into it, from where it stands and ends */
	uint32_t *first_target; /* of each record, in targets; one more at the end */
	uint32_t *targets;      /* record by record */
	uint32_t record;        /* that is coming, or SD_NO_RECORD */
	uint64_t position;      /* in it */
	struct cursor *cursors;
	struct cursor **heap; /* of cursors, the one that begins first on top */
	size_t ncursors, cursors_room;
	uint64_t in, out;
	uint64_t total; /* that will come in */
	struct writer writer;
	char buffer[BUFFER];
};

/* ---- where bytes go ---- */

static enum sd_result open_file(struct pack *p, uint32_t file, int *fd, struct sd_error *err)
{
	if (p->mode == TO_PLACES)
		return sd_output_fd(p->publish, file, fd, err);
	*fd = p->mode == TO_SPOOL ? p->spool : p->plain >= 0 ? p->plain : p->options->fd;
	return SD_OK;
}

/* Of all that goes into one file. */
static uint64_t whole_size(const struct pack *p)
{
	return p->options->archive ? p->archive.size : p->layout.files[0].size;
}

/* All that was to be compressed has been; a failure of the compressor is why it could not be written. */
static enum sd_result end_packed(struct pack *p, enum sd_result result, struct sd_error *err)
{
	struct sd_error told;

	if (p->plain >= 0)
		close(p->plain);
	p->plain = -1;
	if (sd_zstd_wait(p->zstd, &told) == SD_OK)
		return result;
	*err = told;
	if (told.told == SD_LOST)
		sd_signals_pass(SIGPIPE);
	return sd_error_at(err, "writing %s", p->options->path ? p->options->path : p->options->name);
}

/* That nobody reads what is to be compressed only says that the compressor has failed. */
static enum sd_result blame_packer(struct pack *p, struct sd_error *err)
{
	sd_signals_forget(SIGPIPE);
	return end_packed(p, err->result, err);
}

/* Says which file an I/O error is about. */
static enum sd_result fail_writing(struct pack *p, uint32_t file, struct sd_error *err)
{
	const struct sd_safetensors_sink_options *o = p->options;

	if (err->result != SD_IO)
		return err->result;
	if (p->plain >= 0 && err->told == SD_LOST)
		return blame_packer(p, err);
	if (p->mode == TO_SPOOL)
		return sd_error_at(err, "writing a temporary file");
	if (p->mode != TO_PLACES && !o->path)
		return sd_error_at(err, "writing %s", p->options->name);
	if (!o->layout.directory || o->archive)
		return sd_error_at(err, "writing %s", o->path);
	return sd_error_at(err, "writing %s in %s", p->files[file].name, o->path);
}

static enum sd_result write_raw(struct pack *p, uint32_t file, uint64_t offset, const void *data, size_t length,
				struct sd_error *err)
{
	int fd;
	enum sd_result result = open_file(p, file, &fd, err);

	if (result != SD_OK)
		return result;
	p->out += length;
	p->at += length;
	if (p->mode == IN_FLOW)
		result = sd_write_all(fd, data, length, err);
	else
		result = sd_pwrite_all(fd, data, length, (off_t)(p->base + offset), err);
	return result == SD_OK ? SD_OK : fail_writing(p, file, err);
}

/* What of an archive stands in front of an offset, where everything goes one after the other. */
static enum sd_result put_fixed(struct pack *p, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	while (p->mode == IN_FLOW && result == SD_OK && p->nput < p->archive.nfixed &&
	       p->archive.fixed[p->nput].offset == p->at) {
		const struct sd_fixed *fixed = &p->archive.fixed[p->nput++];

		result = write_raw(p, 0, fixed->offset, fixed->bytes, fixed->length, err);
	}
	return result;
}

static enum sd_result write_at(struct pack *p, uint32_t file, uint64_t offset, const void *data, size_t length,
			       struct sd_error *err)
{
	enum sd_result result = put_fixed(p, err);

	return result == SD_OK ? write_raw(p, file, offset, data, length, err) : result;
}

static enum sd_result flush(struct pack *p, struct sd_error *err)
{
	struct writer *w = &p->writer;
	size_t used = w->used;

	w->used = 0;
	return used ? write_at(p, w->file, w->offset, w->buffer, used, err) : SD_OK;
}

/* Bytes to a place: those that belong behind the ones before are written together with them. */
static enum sd_result put(struct pack *p, uint32_t file, uint64_t offset, const void *data, size_t length,
			  struct sd_error *err)
{
	struct writer *w = &p->writer;
	enum sd_result result;

	if (file != w->file || offset != w->offset + w->used || length > sizeof(w->buffer) - w->used) {
		result = flush(p, err);
		if (result != SD_OK)
			return result;
		if (length > sizeof(w->buffer) / 2)
			return write_at(p, file, offset, data, length, err);
		w->file = file;
		w->offset = offset;
	}
	memcpy(w->buffer + w->used, data, length);
	w->used += length;
	return SD_OK;
}

/* Bytes from the front of a extent to a place, by the kernel alone where it can. */
static enum sd_result copy_straight(struct pack *p, struct sd_extent *extent, const struct cursor *c, uint64_t length,
				    struct sd_error *err)
{
	off_t position = (off_t)(p->base + c->to);
	enum sd_result result = flush(p, err);
	int fd;

	if (result == SD_OK)
		result = put_fixed(p, err);
	if (result == SD_OK)
		result = open_file(p, c->file, &fd, err);
	if (result != SD_OK)
		return result;
	p->out += length;
	p->at += length;
	result = sd_extent_copy(extent, fd, p->mode == IN_FLOW ? NULL : &position, length, err);
	return result == SD_OK ? SD_OK : fail_writing(p, c->file, err);
}

/* ---- cursors ---- */

/* The target as runs of bytes. False if it copies nothing. */
static bool set_cursor(const struct pack *p, uint32_t target, struct cursor *c)
{
	const struct sd_target *t = &p->m->targets[target];
	const struct sd_record *r = &p->m->records[t->record];
	const struct sd_output_plan_place *place = &p->layout.places[target];
	uint64_t size = sd_dtype_size(r->dtype);
	struct sd_move normal;

	*c = (struct cursor){.to = place->offset, .file = place->file, .run = r->bytes, .left = r->bytes};
	if (!t->move)
		return r->bytes > 0;
	normal = sd_move_load(t->move);
	sd_move_normalise(&normal);
	c->from = normal.from * size;
	c->to += normal.to * size;
	c->run = size;
	for (uint32_t k = 0; k < normal.rank; k++) {
		const struct sd_dim *d = &normal.dim[k];

		if (d->size == 0)
			return false;
		if (k == normal.rank - 1 && d->from == 1 && d->to == 1)
			c->run = d->size * size;
		else
			c->dim[c->outer++] = (struct sd_dim){d->size, d->from * size, d->to * size};
	}
	c->left = c->run;
	return true;
}

/* Moves a cursor on by bytes of its run, to the next run where it is used up. False after the last. */
static bool advance(struct cursor *c, uint64_t length)
{
	c->from += length;
	c->to += length;
	c->left -= length;
	if (c->left)
		return true;
	c->from -= c->run;
	c->to -= c->run;
	c->left = c->run;
	for (uint32_t k = c->outer; k-- > 0;) {
		const struct sd_dim *d = &c->dim[k];

		if (++c->index[k] < d->size) {
			c->from += d->from;
			c->to += d->to;
			return true;
		}
		c->index[k] = 0;
		c->from -= (d->size - 1) * d->from;
		c->to -= (d->size - 1) * d->to;
	}
	return false;
}

static void sift_down(struct pack *p, size_t i)
{
	for (;;) {
		size_t least = i;
		struct cursor *c = p->heap[i];

		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < p->ncursors; child++)
			if (p->heap[child]->from < p->heap[least]->from)
				least = child;
		if (least == i)
			return;
		p->heap[i] = p->heap[least];
		p->heap[least] = c;
		i = least;
	}
}

/* The cursor on top has taken length bytes. */
static void advance_top(struct pack *p, uint64_t length)
{
	if (!advance(p->heap[0], length))
		p->heap[0] = p->heap[--p->ncursors];
	if (p->ncursors)
		sift_down(p, 0);
}

/* Where the second cursor begins. */
static uint64_t second_from(const struct pack *p)
{
	uint64_t from = UINT64_MAX;

	for (size_t child = 1; child <= 2 && child < p->ncursors; child++)
		if (p->heap[child]->from < from)
			from = p->heap[child]->from;
	return from;
}

/* Whether a target's data is in its file already. */
static bool is_kept(const struct pack *p, uint32_t target)
{
	const struct sd_target *t = &p->m->targets[target];

	return p->m->records[t->record].state == SD_HERE && p->layout.files[p->layout.places[target].file].kept;
}

static enum sd_result set_cursors(struct pack *p, uint32_t record, struct sd_error *err)
{
	size_t first = p->first_target[record], count = p->first_target[record + 1] - first;

	p->ncursors = 0;
	if (count > p->cursors_room) {
		free(p->cursors);
		free(p->heap);
		p->cursors_room = 0;
		p->cursors = calloc(count, sizeof(*p->cursors));
		p->heap = calloc(count, sizeof(*p->heap));
		if (!p->cursors || !p->heap)
			return sd_fail_memory(err);
		p->cursors_room = count;
	}
	for (size_t i = 0; i < count; i++)
		if (!is_kept(p, p->targets[first + i]) &&
		    set_cursor(p, p->targets[first + i], &p->cursors[p->ncursors]))
			p->ncursors++;
	for (size_t i = 0; i < p->ncursors; i++)
		p->heap[i] = &p->cursors[i];
	for (size_t i = p->ncursors / 2; i-- > 0;)
		sift_down(p, i);
	return SD_OK;
}

/* ---- data ---- */

/* That the current record, and all between it and next, are whole. */
static enum sd_result check_complete(const struct pack *p, size_t next, struct sd_error *err)
{
	const struct sd_record *records = p->m->records;
	size_t i = p->record == SD_NO_RECORD ? 0 : p->record;
	uint64_t came = p->record == SD_NO_RECORD ? 0 : p->position;

	for (; i < next; i++, came = 0)
		if (records[i].state == SD_HERE && came != records[i].bytes &&
		    !(p->resume && sd_resume_has(p->resume, i)))
			return sd_fail(err, SD_INPUT, "%s: %" PRIu64 " of %" PRIu64 " bytes came", records[i].key, came,
				       records[i].bytes);
	return SD_OK;
}

/* The current record, and all up to next, are whole: now and then they are brought to the disk, and that is noted. */
static enum sd_result note_complete(struct pack *p, size_t next, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = p->record == SD_NO_RECORD ? 0 : p->record; i < next; i++)
		sd_resume_came(p->resume, i);
	if (!sd_resume_due(p->resume))
		return SD_OK;
	result = flush(p, err);
	if (result == SD_OK)
		result = sd_output_sync_all(p->publish, err);
	return result == SD_OK ? sd_resume_write(p->resume, err) : result;
}

/* The next bytes of the record, in memory: each target takes its part. */
static enum sd_result scatter(struct pack *p, const char *data, size_t length, struct sd_error *err)
{
	uint64_t end = p->position + length;

	while (p->ncursors && p->heap[0]->from < end) {
		const struct cursor *c = p->heap[0];
		uint64_t n = end - c->from < c->left ? end - c->from : c->left;
		enum sd_result result = put(p, c->file, c->to, data + (c->from - p->position), (size_t)n, err);

		if (result != SD_OK)
			return result;
		advance_top(p, n);
	}
	p->position = end;
	return SD_OK;
}

/* Bytes from here that only the top cursor wants, in one run: they can be copied straight. */
static uint64_t straight(const struct pack *p, uint64_t length)
{
	const struct cursor *c = p->heap[0];
	uint64_t n = c->left < length ? c->left : length, second = second_from(p);

	if (c->from != p->position)
		return 0;
	if (second - c->from < n)
		n = second - c->from;
	if (n > AT_ONCE)
		n = AT_ONCE;
	return n >= STRAIGHT ? n : 0;
}

static enum sd_result take_some(struct pack *p, struct sd_extent *extent, struct sd_error *err)
{
	uint64_t n;
	enum sd_result result;

	if (!p->ncursors || p->heap[0]->from - p->position >= extent->length) {
		p->position += extent->length;
		return sd_extent_skip(extent, err);
	}
	n = straight(p, extent->length);
	if (n) {
		result = copy_straight(p, extent, p->heap[0], n, err);
		if (result != SD_OK)
			return result;
		p->position += n;
		advance_top(p, n);
		return SD_OK;
	}
	n = extent->length < sizeof(p->buffer) ? extent->length : sizeof(p->buffer);
	result = sd_extent_read(extent, p->buffer, n, err);
	return result == SD_OK ? scatter(p, p->buffer, (size_t)n, err) : result;
}

static void tell_progress(const struct pack *p, uint64_t done)
{
	const char *tensor = NULL;

	if (p->record != SD_NO_RECORD && p->first_target[p->record] < p->first_target[p->record + 1])
		tensor = p->m->targets[p->targets[p->first_target[p->record]]].name;
	if (p->options->progress)
		p->options->progress(done, p->total, tensor);
}

static enum sd_result pack_data(struct sd_sink *sink, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct pack *p = (struct pack *)sink;
	enum sd_result result = SD_OK;

	if (record != p->record) {
		result = check_complete(p, record, err);
		if (result == SD_OK && p->resume)
			result = note_complete(p, record, err);
		if (result == SD_OK)
			result = set_cursors(p, record, err);
		p->record = record;
		p->position = 0;
	}
	if (result == SD_OK && extent->length > p->m->records[record].bytes - p->position)
		result = sd_fail(err, SD_INPUT, "%s: more bytes came than its %" PRIu64, p->m->records[record].key,
				 p->m->records[record].bytes);
	p->in += extent->length;
	while (result == SD_OK && extent->length) {
		result = take_some(p, extent, err);
		if (result == SD_INPUT)
			sd_error_at(err, "%s", p->m->records[record].key);
		else if (result == SD_OK)
			result = sd_signals_check(err);
		tell_progress(p, p->in - extent->length);
	}
	return result;
}

/* ---- the beginning ---- */

/* The targets of each record, record by record. */
static enum sd_result sort_targets(struct pack *p, struct sd_error *err)
{
	const struct sd_manifest *m = p->m;
	uint32_t sum = 0;

	p->first_target = calloc(m->nrecords + 2, sizeof(*p->first_target));
	p->targets = calloc(m->ntargets + 1, sizeof(*p->targets));
	if (!p->first_target || !p->targets)
		return sd_fail_memory(err);
	for (size_t i = 0; i < m->ntargets; i++)
		p->first_target[m->targets[i].record + 2]++;
	for (size_t i = 2; i < m->nrecords + 2; i++) {
		sum += p->first_target[i];
		p->first_target[i] = sum;
	}
	/* first_target[r + 1] is where record r's targets begin, and, when they are all placed, where they end. */
	for (size_t i = 0; i < m->ntargets; i++)
		p->targets[p->first_target[m->targets[i].record + 1]++] = (uint32_t)i;
	return SD_OK;
}

/* Where data goes on behind an offset: what is fixed of an archive is jumped over. */
static uint64_t behind_fixed(const struct pack *p, uint64_t offset, size_t *next)
{
	for (; *next < p->archive.nfixed && p->archive.fixed[*next].offset == offset; ++*next)
		offset += p->archive.fixed[*next].length;
	return offset;
}

/* Whether every byte leaves right behind the one that came before it. */
static bool comes_in_order(const struct pack *p)
{
	size_t next = 0;
	uint64_t position = p->options->archive ? behind_fixed(p, 0, &next) : p->layout.files[0].header_length;

	for (size_t r = 0; r < p->m->nrecords; r++) {
		uint32_t first = p->first_target[r], count = p->first_target[r + 1] - first;
		struct cursor c;

		if (count == 0)
			continue;
		if (count > 1)
			return false;
		if (!set_cursor(p, p->targets[first], &c))
			continue;
		if (c.outer || c.to != position)
			return false;
		position = behind_fixed(p, position + c.run, &next);
	}
	return position == whole_size(p);
}

static enum sd_result write_headers(struct pack *p, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (p->options->archive && p->mode == IN_FLOW)
		return put_fixed(p, err);
	for (size_t i = 0; i < p->archive.nfixed && result == SD_OK; i++)
		result = write_at(p, 0, p->archive.fixed[i].offset, p->archive.fixed[i].bytes,
				  p->archive.fixed[i].length, err);
	for (uint32_t i = 0; i < p->layout.nfiles && !p->options->archive && result == SD_OK; i++)
		if (!p->layout.files[i].kept)
			result = write_at(p, i, 0, p->layout.files[i].header, p->layout.files[i].header_length, err);
	return result;
}

static void add_file(struct pack *p, const char *name, uint64_t size, enum sd_output_role role)
{
	p->files[p->nfiles++] = (struct sd_output_file){name, size, role, false};
}

/* A file that is written as it is. */
static void add_small(struct pack *p, const char *name, const void *data, size_t size, enum sd_output_role role)
{
	p->small[p->nsmall++] = (struct sd_side_file){name, data, size};
	add_file(p, name, size, role);
}

/* All files that are to be published: weights, side files, index; of a part its own, and its mark. */
static enum sd_result list_files(struct pack *p, struct sd_error *err)
{
	const struct sd_output_plan *layout = &p->layout;
	bool rest = p->options->layout.directory && !(p->part && p->m->parts->here[0] > 0);
	size_t length;

	p->files = calloc(layout->nfiles + p->m->nside + 2, sizeof(*p->files));
	p->small = calloc(p->m->nside + 2, sizeof(*p->small));
	if (!p->files || !p->small)
		return sd_fail_memory(err);
	if (p->options->archive) {
		add_file(p, "", p->options->level ? 0 : p->archive.size, SD_OUTPUT_ENTRY);
		return SD_OK;
	}
	for (size_t i = 0; i < layout->nfiles; i++) {
		add_file(p, layout->files[i].name, layout->files[i].size,
			 layout->index ? SD_OUTPUT_WEIGHTS : SD_OUTPUT_ENTRY);
		p->files[i].kept = layout->files[i].kept;
	}
	for (size_t i = 0; i < p->m->nside && rest; i++)
		add_small(p, p->m->side[i].name, p->m->side[i].data, p->m->side[i].size, SD_OUTPUT_SIDE);
	if (layout->index && rest)
		add_small(p, p->part ? SD_PART_INDEX : layout->index_name, layout->index, layout->index_length,
			  SD_OUTPUT_ENTRY);
	if (p->part) {
		const char *text = sd_part_mark_text(p->part, &length);

		add_small(p, sd_part_mark_name(p->part), text, length, SD_OUTPUT_SIDE);
	}
	return SD_OK;
}

static enum sd_result begin_packed(struct pack *p, struct sd_error *err);

static enum sd_result begin_publishing(struct pack *p, struct sd_error *err)
{
	const struct sd_safetensors_sink_options *o = p->options;
	struct sd_output_options options = {.directory = o->layout.directory && !o->archive,
					    .force = o->force,
					    .sync = o->sync,
					    .note = o->note,
					    .locked = o->locked,
					    .beside = o->layout.adds,
					    .ranks = o->dcp.count < o->dcp.of ? o->dcp.of : 0};
	enum sd_result result = SD_OK;

	if (p->m->parts && p->m->parts->of)
		result = sd_part_begin(o->path, p->m, &p->layout, o->force, &p->part, err);
	if (result == SD_OK)
		result = list_files(p, err);
	if (result == SD_OK && o->resume)
		result = sd_resume_begin(o->path, p->m, &p->layout, o->sync, &p->resume, err);
	if (p->resume)
		options.lasting = sd_resume_goes_on(p->resume) ? SD_OUTPUT_IS_THERE : SD_OUTPUT_STAYS;
	/* A rank that gets nothing has no file. */
	if (result == SD_OK && !p->nfiles)
		return sd_dcp_check_no_shard(o->path, o->dcp.first, err);
	if (result == SD_OK)
		result = sd_output_begin(p->part ? sd_part_path(p->part) : o->path, p->files, p->nfiles, &options,
					 &p->publish, err);
	if (result != SD_OK)
		return result;
	p->mode = TO_PLACES;
	if (o->archive)
		return o->level ? begin_packed(p, err) : SD_OK;
	for (size_t i = 0; i < p->nsmall && result == SD_OK; i++)
		result = write_at(p, (uint32_t)(p->layout.nfiles + i), 0, p->small[i].data, p->small[i].size, err);
	return result;
}

/* The files of a part, which are whole now, get their places beside those of the others. */
static enum sd_result end_part(struct pack *p, struct sd_error *err)
{
	const char **names = calloc(p->nfiles + 1, sizeof(*names));
	enum sd_result result;

	for (size_t i = 0; i < p->nfiles && names; i++)
		names[i] = p->files[i].name;
	result = names ? sd_part_end(p->part, names, p->nfiles, p->options->sync, err) : sd_fail_memory(err);
	free(names);
	return result;
}

static enum sd_result open_spool(struct pack *p, struct sd_error *err)
{
	uint64_t size = whole_size(p);
	enum sd_result result = sd_spool_open(&p->spool, err);

	if (result == SD_OK)
		result = sd_output_room(p->spool, sd_spool_folder(), size, err);
	if (result == SD_OK)
		result = sd_output_reserve(p->spool, size, err);
	if (result != SD_OK)
		sd_error_at(err, "the tensors come in another order than the file has and are collected first; "
				 "-o FILE needs no temporary file, or set TMPDIR");
	return result;
}

/* A compressor between what is written and the file, or the descriptor. */
static enum sd_result begin_packed(struct pack *p, struct sd_error *err)
{
	int fd = p->options->fd;
	enum sd_result result = p->options->path ? sd_output_fd(p->publish, 0, &fd, err) : SD_OK;

	if (result == SD_OK)
		result = sd_zstd_compress(fd, p->options->level, &p->zstd, &p->plain, err);
	if (result != SD_OK)
		return result;
	p->mode = comes_in_order(p) ? IN_FLOW : TO_SPOOL;
	return p->mode == TO_SPOOL ? open_spool(p, err) : SD_OK;
}

/* A regular file that is open. What it has behind where it stands would be written over, or be left as a tail. */
static enum sd_result begin_in_place(struct pack *p, uint64_t at, struct sd_error *err)
{
	const struct sd_safetensors_sink_options *o = p->options;

	if (p->end > at)
		return sd_fail(err, SD_IO,
			       "%s has %" PRIu64 " bytes behind the place to write to: > empties a file first, >> "
			       "writes to its end, and -o FILE -f replaces it",
			       o->name, p->end - at);
	p->mode = IN_PLACE;
	p->in_file = o->level;
	p->base = o->level ? 0 : at;
	return o->level ? begin_packed(p, err) : sd_output_room(o->fd, o->name, whole_size(p), err);
}

static enum sd_result begin_on_fd(struct pack *p, struct sd_error *err)
{
	struct stat st;
	int fd = p->options->fd, flags = fcntl(fd, F_GETFL);
	off_t at;

	if (flags < 0 || fstat(fd, &st) != 0)
		return sd_fail_errno(err, errno, "%s", p->options->name);
	if ((flags & O_ACCMODE) == O_RDONLY)
		return sd_fail_errno(err, EBADF, "%s", p->options->name);
	p->appends = S_ISREG(st.st_mode) && flags & O_APPEND;
	p->end = (uint64_t)st.st_size;
	at = S_ISREG(st.st_mode) && !p->appends ? lseek(fd, 0, SEEK_CUR) : -1;
	if (at >= 0)
		return begin_in_place(p, (uint64_t)at, err);
	if (p->options->level)
		return begin_packed(p, err);
	p->mode = comes_in_order(p) ? IN_FLOW : TO_SPOOL;
	return p->mode == TO_SPOOL ? open_spool(p, err) : SD_OK;
}

#define LEFT_OUT "%zu of %zu tensors are left out: their data is not in this stream"
#define NO_SIDE "%s: the side files (%s%s) are left out; they go along into a directory: -o DIR/"

static bool leaves_side_files(const struct pack *p)
{
	return p->options->path && !p->options->layout.directory && p->m->nside;
}

static enum sd_result check_left_out(const struct pack *p, struct sd_error *err)
{
	if (p->layout.left_out)
		return sd_fail(err, SD_INPUT, LEFT_OUT, p->layout.left_out, p->layout.left_out + p->layout.ntensors);
	if (leaves_side_files(p))
		return sd_fail(err, SD_INPUT, NO_SIDE, p->options->path, p->m->side[0].name,
			       p->m->nside > 1 ? ", ..." : "");
	return SD_OK;
}

static enum sd_result plan(struct pack *p, const struct sd_manifest *m, struct sd_error *err)
{
	const struct sd_safetensors_sink_options *o = p->options;

	p->m = m;
	if (!o->dcp.of)
		return sd_output_plan_make(m, &o->layout, &p->layout, err);
	if (sd_dcp_plan_make(m, &o->layout, &o->dcp, &p->layout, &p->pieces, err) != SD_OK)
		return err->result;
	p->m = p->pieces;
	return SD_OK;
}

/* All files are there, and what stands in front of their data: from now on a kill leaves what is of use. */
static enum sd_result begin_journal(struct pack *p, struct sd_error *err)
{
	enum sd_result result = flush(p, err);

	if (result == SD_OK)
		result = sd_output_sync_all(p->publish, err);
	if (result == SD_OK)
		result = sd_resume_open(p->resume, err);
	if (result == SD_OK)
		sd_output_keep(p->publish);
	return result;
}

static enum sd_result pack_begin(struct sd_sink *sink, const struct sd_manifest *m, struct sd_error *err)
{
	struct pack *p = (struct pack *)sink;
	enum sd_result result = plan(p, m, err);

	if (result == SD_OK && p->options->archive)
		result = sd_archive_layout_make(p->m, &p->layout, p->options->archive, &p->archive, err);
	for (size_t i = 0; i < m->nrecords; i++)
		if (m->records[i].state == SD_HERE && !sd_add(p->total, m->records[i].bytes, &p->total))
			p->total = UINT64_MAX;
	if (result == SD_OK && p->layout.left_out && !p->layout.ntensors)
		result = sd_fail(err, SD_INPUT, "no data in this stream: everything was left out of it");
	if (result == SD_OK && p->options->strict)
		result = check_left_out(p, err);
	if (result == SD_OK)
		result = sort_targets(p, err);
	if (result == SD_OK)
		result = p->options->path ? begin_publishing(p, err) : begin_on_fd(p, err);
	if (result == SD_OK)
		tell_progress(p, 0);
	if (result == SD_OK)
		result = write_headers(p, err);
	return result == SD_OK && p->resume ? begin_journal(p, err) : result;
}

/* ---- the end ---- */

static enum sd_result pour_spool(struct pack *p, struct sd_error *err)
{
	uint64_t size = whole_size(p);
	struct sd_extent extent = {.length = size, .fd = p->spool, .offset = 0};
	int fd = p->plain >= 0 ? p->plain : p->options->fd;

	if (sd_extent_copy(&extent, fd, NULL, size, err) == SD_OK)
		return SD_OK;
	if (p->plain >= 0 && err->told == SD_LOST)
		return blame_packer(p, err);
	return sd_error_at(err, "writing %s", p->options->path ? p->options->path : p->options->name);
}

/* The rest of a zip, which needs all of its data. */
static enum sd_result end_zip(struct pack *p, struct sd_error *err)
{
	int fd;
	enum sd_result result = open_file(p, 0, &fd, err);

	if (result == SD_OK)
		result = sd_archive_layout_finish(&p->archive, fd, p->base, err);
	return result == SD_OK ? SD_OK : fail_writing(p, 0, err);
}

/* What there is to do when all data has come. */
static enum sd_result end_data(struct pack *p, struct sd_error *err)
{
	enum sd_result result = flush(p, err);

	if (result == SD_OK)
		result = put_fixed(p, err);
	if (result == SD_OK && p->mode == TO_SPOOL)
		result = pour_spool(p, err);
	if (p->zstd && p->plain >= 0)
		result = end_packed(p, result, err);
	if (result == SD_OK && p->options->archive == SD_ARCHIVE_ZIP)
		result = end_zip(p, err);
	return result;
}

/* Only when all went well: a failure is one line. */
static void tell_left_out(const struct pack *p)
{
	const struct sd_safetensors_sink_options *o = p->options;

	if (!o->note || o->some)
		return;
	if (o->dcp.of && !p->layout.nfiles)
		o->note("rank %" PRIu64 " of %" PRIu64 " gets no part of any tensor, so it has no file", o->dcp.first,
			o->dcp.of);
	if (p->layout.left_out)
		o->note(LEFT_OUT, p->layout.left_out, p->layout.left_out + p->layout.ntensors);
	if (leaves_side_files(p))
		o->note(NO_SIDE, o->path, p->m->side[0].name, p->m->nside > 1 ? ", ..." : "");
}

static enum sd_result publish(struct pack *p, struct sd_error *err)
{
	enum sd_result result = sd_output_end(p->publish, err);

	if (result == SD_OK && p->resume)
		sd_resume_end(p->resume);
	return result == SD_OK && p->part ? end_part(p, err) : result;
}

static enum sd_result pack_end(struct sd_sink *sink, struct sd_error *err)
{
	struct pack *p = (struct pack *)sink;
	enum sd_result result = check_complete(p, p->m->nrecords, err);

	if (result == SD_OK)
		result = end_data(p, err);
	if (result != SD_OK)
		return result;
	if (p->publish)
		result = publish(p, err);
	else if (p->mode == IN_PLACE && lseek(p->options->fd, (off_t)(p->base + whole_size(p)), SEEK_SET) < 0)
		result = sd_fail_errno(err, errno, "%s", p->options->name);
	if (result != SD_OK)
		return result;
	p->mode = NOWHERE;
	tell_left_out(p);
	return SD_OK;
}

/* What was written to the file that is open goes; but not where somebody else has appended more than that to it. If it
 * cannot be taken back, the exit status tells. */
static void take_back(const struct pack *p)
{
	struct stat st;

	if (p->mode == IN_PLACE || p->in_file ||
	    (fstat(p->options->fd, &st) == 0 && (uint64_t)st.st_size > p->end &&
	     (uint64_t)st.st_size - p->end <= p->out))
		(void)!ftruncate(p->options->fd, (off_t)p->end);
}

/* What stands half-written is taken back; what has gone into a pipe cannot be. */
static void pack_abort(struct sd_sink *sink, struct sd_error *err)
{
	struct pack *p = (struct pack *)sink;
	struct sd_error ignored;

	(void)err;
	/* Who compresses may still write to the file. */
	if (p->plain >= 0 && (p->in_file || p->appends || p->publish))
		(void)!end_packed(p, SD_OK, &ignored);
	if (p->plain >= 0)
		close(p->plain);
	p->plain = -1;
	if (p->mode == IN_PLACE || (p->mode != NOWHERE && (p->appends || (p->zstd && p->in_file))))
		take_back(p);
	sd_output_close(p->publish);
	p->publish = NULL;
	sd_part_close(p->part);
	p->part = NULL;
	sd_resume_close(p->resume);
	p->resume = NULL;
	p->mode = NOWHERE;
}

static void pack_close(struct sd_sink *sink)
{
	struct pack *p = (struct pack *)sink;

	pack_abort(sink, NULL);
	if (p->spool >= 0)
		close(p->spool);
	sd_zstd_close(p->zstd);
	sd_archive_layout_free(&p->archive);
	sd_output_plan_free(&p->layout);
	sd_manifest_free(p->pieces);
	free(p->files);
	free(p->small);
	free(p->first_target);
	free(p->targets);
	free(p->cursors);
	free(p->heap);
	free(p);
}

static const struct sd_sink_ops pack_ops = {
	.begin = pack_begin, .data = pack_data, .end = pack_end, .abort = pack_abort, .close = pack_close};

struct sd_sink *sd_safetensors_sink(const struct sd_safetensors_sink_options *options)
{
	struct pack *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->sink.ops = &pack_ops;
	p->sink.checks = true;
	p->options = options;
	p->spool = p->plain = -1;
	p->record = SD_NO_RECORD;
	return &p->sink;
}

void sd_safetensors_sink_counts(const struct sd_sink *sink, uint64_t *in, uint64_t *out)
{
	const struct pack *p = (const struct pack *)sink;

	*in = p->in;
	*out = p->out;
}
