/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a stream: a sink. */
#include "base/signals.h"
#include "base/text.h"
#include "pipe/frame.h"
#include "handoff/handoff.h"
#include "pipe/stream.h"
#include "flow/checksum.h"
#include "model/manifest_codec.h"
#include "model/parts.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER (64 * 1024)

struct writer {
	struct sd_sink sink;
	int fd, leads_to;
	char tool[24];
	const struct sd_manifest *manifest;
	bool begun, ended;
	struct sd_handoff_out *handoff; /* NULL: nobody can be there to take references */
	struct sd_stream_counts counts;
	uint32_t record;         /* the current one */
	uint64_t position;       /* in it */
	uint64_t left;           /* of the current frame's payload */
	uint64_t owed;           /* payload and padding that the last header promised and that is not written */
	struct sd_checksum *sum; /* of the frame of the head, or of the record, that is being written */
	struct sd_bytes parts;   /* sums of the frames of the head */
	bool heading;            /* the head is being written, and summed */
	bool summing;            /* the sum of the current record is made here */
	uint32_t awaited;        /* the record whose sum will be told */
	unsigned char buffer[BUFFER];
	size_t filled;
};

/* Where it fails, nobody knows how much went out: no abort could be understood behind that. */
static enum sd_result write_all(struct writer *w, const void *data, size_t length, struct sd_error *err)
{
	enum sd_result result = sd_write_all(w->fd, data, length, err);

	if (result != SD_OK)
		w->ended = true;
	return result;
}

static enum sd_result flush(struct writer *w, struct sd_error *err)
{
	size_t n = w->filled;

	w->filled = 0;
	return write_all(w, w->buffer, n, err);
}

static enum sd_result put(struct writer *w, const void *data, size_t length, struct sd_error *err)
{
	if (w->heading)
		sd_checksum_add(w->sum, data, length);
	if (length > sizeof(w->buffer) - w->filled) {
		enum sd_result result = flush(w, err);

		if (result != SD_OK)
			return result;
	}
	if (length > sizeof(w->buffer))
		return write_all(w, data, length, err);
	if (length)
		memcpy(w->buffer + w->filled, data, length);
	w->filled += length;
	return SD_OK;
}

static enum sd_result put_zeros(struct writer *w, uint64_t length, struct sd_error *err)
{
	static const char zeros[4096];
	enum sd_result result = SD_OK;

	while (length && result == SD_OK) {
		size_t n = length < sizeof(zeros) ? (size_t)length : sizeof(zeros);

		result = put(w, zeros, n, err);
		length -= n;
	}
	return result;
}

static enum sd_result put_header(struct writer *w, const struct sd_frame *f, struct sd_error *err)
{
	unsigned char head[SD_FRAME_ALIGN];
	enum sd_result result;

	sd_frame_pack(f, head);
	result = put(w, head, sizeof(head), err);
	if (result == SD_OK)
		w->owed = f->length + sd_frame_padding(f->length);
	return result;
}

/* A frame whose payload is in memory; its length is filled in. */
static enum sd_result put_framed(struct writer *w, struct sd_frame *f, const struct sd_bytes *payload,
				 struct sd_error *err)
{
	enum sd_result result;

	f->length = payload->length;
	result = put_header(w, f, err);
	if (result == SD_OK)
		result = put(w, payload->data, payload->length, err);
	if (result == SD_OK)
		result = put_zeros(w, sd_frame_padding(payload->length), err);
	if (result == SD_OK)
		w->owed = 0;
	return result;
}

static enum sd_result put_frame(struct writer *w, uint32_t kind, const struct sd_bytes *payload, struct sd_error *err)
{
	/* Programs that do not know of parts pass them on. */
	struct sd_frame f = {.kind = kind, .flags = kind == SD_KIND_PART ? SD_FRAME_OPTIONAL : 0};

	return put_framed(w, &f, payload, err);
}

static enum sd_result put_prelude(struct writer *w, struct sd_error *err)
{
	unsigned char prelude[SD_FRAME_ALIGN] = SD_STREAM_MAGIC;

	if (w->sink.sums) {
		prelude[SD_STREAM_MAGIC_LENGTH + 4] = SD_STREAM_CHECKSUMS;
		w->sum = sd_checksum_new();
		if (!w->sum)
			return sd_fail_memory(err);
		w->heading = true;
	}
	w->begun = true;
	prelude[SD_STREAM_MAGIC_LENGTH] = SD_STREAM_MAJOR;
	prelude[SD_STREAM_MAGIC_LENGTH + 2] = SD_STREAM_MINOR;
	sd_pipe_enlarge(w->fd);
	if (w->leads_to == w->fd)
		w->handoff = sd_handoff_out_open(w->fd);
	return put(w, prelude, sizeof(prelude), err);
}

static bool pack_meta(const struct sd_manifest *m, struct sd_bytes *out)
{
	bool good = sd_bytes_u32(out, (uint32_t)m->nmetadata) && sd_bytes_u32(out, 0);

	for (size_t i = 0; i < m->nmetadata && good; i++)
		good = sd_bytes_text(out, m->metadata[i].key) && sd_bytes_text(out, m->metadata[i].value);
	return good;
}

static enum sd_result count_part(void *context, const struct sd_bytes *part, struct sd_error *err)
{
	(void)err;
	*(uint64_t *)context += part->length;
	return SD_OK;
}

static enum sd_result put_part(void *context, const struct sd_bytes *part, struct sd_error *err)
{
	return put(context, part->data, part->length, err);
}

/* Encoded twice: once for its length, which comes first. */
static enum sd_result put_manifest(struct writer *w, const struct sd_manifest *m, struct sd_error *err)
{
	struct sd_frame f = {.kind = SD_KIND_MANIFEST};
	enum sd_result result = sd_manifest_encode(m, count_part, &f.length, err);

	if (result == SD_OK && f.length > SD_HEAD_MAX)
		result = sd_fail(err, SD_INPUT, "a manifest of more than 4 GiB");
	if (result == SD_OK)
		result = put_header(w, &f, err);
	if (result == SD_OK)
		result = sd_manifest_encode(m, put_part, w, err);
	if (result == SD_OK)
		result = put_zeros(w, sd_frame_padding(f.length), err);
	if (result == SD_OK)
		w->owed = 0;
	return result;
}

/* A frame of the head is written: the next one has a sum of its own. */
static enum sd_result end_part(struct writer *w, struct sd_error *err)
{
	if (!w->heading)
		return SD_OK;
	if (!sd_bytes_u64(&w->parts, sd_checksum_value(w->sum)))
		return sd_fail_memory(err);
	sd_checksum_begin(w->sum);
	return SD_OK;
}

static enum sd_result put_part_of_head(struct writer *w, uint32_t kind, const struct sd_bytes *payload,
				       struct sd_error *err)
{
	enum sd_result result = put_frame(w, kind, payload, err);

	return result == SD_OK ? end_part(w, err) : result;
}

/* Frames that nobody here knows, as they came. */
static enum sd_result put_unknown(struct writer *w, const unsigned char *data, size_t length, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	while (length && result == SD_OK) {
		struct sd_frame f = sd_frame_unpack(data);
		size_t n = SD_FRAME_ALIGN + (size_t)f.length + sd_frame_padding(f.length);

		result = put(w, data, n, err);
		if (result == SD_OK)
			result = end_part(w, err);
		data += n;
		length -= n;
	}
	return result;
}

static enum sd_result put_parts(struct writer *w, const struct sd_parts *parts, struct sd_bytes *payload,
				struct sd_error *err)
{
	if (!sd_parts_encode(parts, payload))
		return sd_fail_memory(err);
	return put_part_of_head(w, SD_KIND_PART, payload, err);
}

static enum sd_result put_head_sums(struct writer *w, struct sd_error *err)
{
	struct sd_frame f = {.kind = SD_KIND_CHECKSUMS, .flags = SD_FRAME_OPTIONAL};

	if (!w->heading)
		return SD_OK;
	w->heading = false;
	return put_framed(w, &f, &w->parts, err);
}

static bool has_data(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->nrecords; i++)
		if (m->records[i].state == SD_HERE && m->records[i].bytes)
			return true;
	return false;
}

static enum sd_result writer_begin(struct sd_sink *sink, const struct sd_manifest *m, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	struct sd_bytes payload = {0};
	enum sd_result result = put_prelude(w, err);

	w->manifest = m;
	if (result == SD_OK)
		result =
			pack_meta(m, &payload) ? put_part_of_head(w, SD_KIND_META, &payload, err) : sd_fail_memory(err);
	for (size_t i = 0; i < m->nside && result == SD_OK; i++) {
		payload.length = 0;
		if (!sd_bytes_text(&payload, m->side[i].name) ||
		    !sd_bytes_add(&payload, m->side[i].data, m->side[i].size))
			result = sd_fail_memory(err);
		else
			result = put_part_of_head(w, SD_KIND_SIDE, &payload, err);
	}
	if (result == SD_OK)
		result = put_unknown(w, m->extra.data, m->extra.length, err);
	payload.length = 0;
	if (result == SD_OK && m->parts)
		result = put_parts(w, m->parts, &payload, err);
	free(payload.data);
	if (result == SD_OK)
		result = put_manifest(w, m, err);
	if (result == SD_OK)
		result = end_part(w, err);
	if (result == SD_OK)
		result = put_head_sums(w, err);
	/* Where nothing follows but the end, it goes along: a reader that only wants the manifest may leave then. */
	return result == SD_OK && has_data(m) ? flush(w, err) : result;
}

/* Payload from the extent: little in the buffer with what is around it, much straight from where it lies. */
static enum sd_result put_chunk(struct writer *w, struct sd_extent *extent, uint64_t length, struct sd_error *err)
{
	uint64_t before = extent->length;
	enum sd_result result = SD_OK;

	if (length > sizeof(w->buffer) / 4) {
		result = flush(w, err);
		if (result == SD_OK)
			result = sd_extent_copy(extent, w->fd, NULL, length, err);
	} else {
		if (length > sizeof(w->buffer) - w->filled)
			result = flush(w, err);
		if (result == SD_OK)
			result = sd_extent_read(extent, w->buffer + w->filled, length, err);
		if (result == SD_OK)
			w->filled += (size_t)length;
	}
	w->owed -= before - extent->length;
	return result;
}

static enum sd_result check_expected(const struct writer *w, uint64_t length, struct sd_error *err)
{
	const struct sd_record *r = &w->manifest->records[w->record];

	if (length > r->bytes - w->position)
		return sd_fail(err, SD_INPUT, "%s: more data than its %llu bytes", r->key,
			       (unsigned long long)r->bytes);
	return SD_OK;
}

/* The next frame of a record. Its length follows from the record alone, however the extents come: same input, same
 * stream. */
static enum sd_result put_data_header(struct writer *w, struct sd_error *err)
{
	struct sd_frame f = {.kind = SD_KIND_DATA, .record = w->record, .offset = w->position};
	uint64_t left = w->manifest->records[w->record].bytes - w->position;

	f.length = left < SD_FRAME_DATA_MAX ? left : SD_FRAME_DATA_MAX;
	w->left = f.length;
	return put_header(w, &f, err);
}

/* A frame that says where its data is, at once. */
static enum sd_result put_place(struct writer *w, enum sd_handoff_kind kind, const struct sd_handoff_place *place,
				struct sd_error *err)
{
	struct sd_frame f = {.kind = SD_KIND_DATA, .record = w->record, .encoding = kind, .offset = w->position};
	struct sd_bytes payload = {0};
	enum sd_result result = SD_OK;

	if (!sd_bytes_u64(&payload, place->number) || !sd_bytes_u64(&payload, place->offset) ||
	    !sd_bytes_u64(&payload, place->length))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = put_framed(w, &f, &payload, err);
	free(payload.data);
	return result == SD_OK ? flush(w, err) : result;
}

/* As much of the extent as can lie in the ring at one time: it lies there already, or is copied, if all that lies there
 * came before it. */
static enum sd_result share(struct writer *w, struct sd_extent *extent, uint64_t *length, struct sd_error *err)
{
	uint64_t n = extent->length < SD_FRAME_DATA_MAX ? extent->length : SD_FRAME_DATA_MAX;
	struct sd_handoff_place place;
	enum sd_result result;
	void *memory;
	bool later;

	*length = 0;
	if (!sd_handoff_out_take(w->handoff, extent->memory, extent->length, &place)) {
		if (sd_handoff_out_owed(w->handoff))
			return SD_OK;
		result = flush(w, err);
		if (result == SD_OK)
			result = sd_handoff_out_room(w->handoff, n, &memory, &later, err);
		if (result != SD_OK || !memory)
			return result;
		memcpy(memory, extent->memory, n);
		if (!sd_handoff_out_take(w->handoff, memory, n, &place))
			return SD_OK;
	}
	*length = place.length;
	w->counts.shared += place.length;
	return put_place(w, SD_HANDOFF_RING, &place, err);
}

static enum sd_result refer(struct writer *w, struct sd_extent *extent, uint64_t *length, struct sd_error *err)
{
	struct sd_handoff_place place = {.offset = (uint64_t)extent->offset, .length = extent->length};
	enum sd_result result = flush(w, err);

	*length = 0;
	if (result == SD_OK)
		result = sd_handoff_out_file(w->handoff, extent->fd, &place.number, err);
	if (result != SD_OK || place.number == UINT64_MAX)
		return result;
	*length = place.length;
	w->counts.referenced += place.length;
	return put_place(w, SD_HANDOFF_FILE, &place, err);
}

/* A frame without the extent's bytes, if the consumer can get at them in another way; *length is what it has, or 0. */
static enum sd_result put_reference(struct writer *w, struct sd_extent *extent, uint64_t *length, struct sd_error *err)
{
	*length = 0;
	if (!w->handoff || (!extent->memory && extent->offset < 0) ||
	    !sd_handoff_out_worth(w->handoff, extent->length) || !sd_handoff_out_attached(w->handoff))
		return SD_OK;
	return extent->memory ? share(w, extent, length, err) : refer(w, extent, length, err);
}

/* The next bytes of the current frame, or, between frames, of a new one. */
static enum sd_result put_data(struct writer *w, struct sd_extent *extent, struct sd_error *err)
{
	uint64_t n = 0;
	enum sd_result result = w->left ? SD_OK : put_reference(w, extent, &n, err);

	if (n || result != SD_OK) {
		(void)sd_extent_take(extent, n);
		w->position += n;
		return result;
	}
	if (!w->left)
		result = put_data_header(w, err);
	if (result != SD_OK)
		return result;
	n = extent->length < w->left ? extent->length : w->left;
	result = put_chunk(w, extent, n, err);
	if (result != SD_OK)
		return result;
	w->position += n;
	w->counts.piped += n;
	w->left -= n;
	if (!w->left) {
		result = put_zeros(w, w->owed, err);
		w->owed = 0;
	}
	return result;
}

/* Adds bytes of a file to the sum. */
static enum sd_result sum_file(struct writer *w, struct sd_extent extent, struct sd_error *err)
{
	enum sd_result result = SD_OK;
	struct sd_extent piece;

	while (extent.length && result == SD_OK)
		result = sd_checksum_take(w->sum, &extent, &piece, err);
	return result;
}

/* The next bytes of a extent, which are summed too: what can be referred to is read while the next program has it
 * already. */
static enum sd_result put_summed(struct writer *w, struct sd_extent *extent, struct sd_error *err)
{
	struct sd_extent piece = *extent;
	uint64_t n = 0;
	enum sd_result result = extent->memory || w->left ? SD_OK : put_reference(w, extent, &n, err);

	if (result != SD_OK)
		return result;
	if (n) {
		piece = sd_extent_take(extent, n);
		w->position += n;
		return sum_file(w, piece, err);
	}
	result = sd_checksum_take(w->sum, extent, &piece, err);
	while (piece.length && result == SD_OK)
		result = put_data(w, &piece, err);
	return result;
}

static enum sd_result put_sum(struct writer *w, uint32_t record, uint64_t sum, struct sd_error *err)
{
	struct sd_frame f = {.kind = SD_KIND_CHECKSUM, .flags = SD_FRAME_OPTIONAL, .record = record};
	struct sd_bytes payload = {0};
	enum sd_result result = sd_bytes_u64(&payload, sum) ? put_framed(w, &f, &payload, err) : sd_fail_memory(err);

	free(payload.data);
	return result;
}

static void count(struct sd_checksum_count *c, const struct sd_record *r)
{
	c->records++;
	c->bytes += r->bytes;
}

static enum sd_result writer_data(struct sd_sink *sink, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	const struct sd_record *r = &w->manifest->records[record];
	const void *memory = extent->memory;
	enum sd_result result;

	if (record != w->record) {
		w->position = 0;
		w->summing = sink->sums && record != w->awaited;
		if (w->summing)
			sd_checksum_begin(w->sum);
	}
	w->record = record;
	result = check_expected(w, extent->length, err);
	while (extent->length && result == SD_OK)
		result = w->summing ? put_summed(w, extent, err) : put_data(w, extent, err);
	/* Where it had to go as bytes, the ring's memory is free again. */
	sd_handoff_out_forget(w->handoff, memory);
	if (result != SD_OK || !w->summing || w->position < r->bytes)
		return result;
	w->summing = false;
	count(&w->counts.summed, r);
	return put_sum(w, record, sd_checksum_value(w->sum), err);
}

static void writer_await_sum(struct sd_sink *sink, uint32_t record)
{
	((struct writer *)sink)->awaited = record;
}

static enum sd_result writer_sum(struct sd_sink *sink, uint32_t record, uint64_t sum, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;

	count(&w->counts.passed, &w->manifest->records[record]);
	return put_sum(w, record, sum, err);
}

static enum sd_result writer_room(struct sd_sink *sink, uint64_t length, void **memory, bool *later,
				  struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	enum sd_result result;

	*memory = NULL;
	*later = false;
	if (!w->handoff || w->left || !sd_handoff_out_worth(w->handoff, length) || !sd_handoff_out_attached(w->handoff))
		return SD_OK;
	result = flush(w, err);
	return result == SD_OK ? sd_handoff_out_room(w->handoff, length, memory, later, err) : result;
}

static enum sd_result writer_end(struct sd_sink *sink, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	struct sd_bytes payload = {0};
	uint64_t records = 0, bytes = w->counts.piped + w->counts.referenced + w->counts.shared;
	enum sd_result result;

	for (size_t i = 0; i < w->manifest->nrecords; i++)
		records += w->manifest->records[i].state == SD_HERE;
	if (!sd_bytes_u64(&payload, records) || !sd_bytes_u64(&payload, bytes))
		result = sd_fail_memory(err);
	else
		result = put_frame(w, SD_KIND_END, &payload, err);
	free(payload.data);
	w->ended = true;
	return result == SD_OK ? flush(w, err) : result;
}

/* Brings the stream to where an abort may stand. */
static enum sd_result complete_frame(struct writer *w)
{
	enum sd_result result = w->begun ? SD_OK : put_prelude(w, NULL);

	return result == SD_OK ? put_zeros(w, w->owed, NULL) : result;
}

/* Whether one of our programs is known to read this, which then tells what an abort says: it connects after the first
 * bytes. */
static bool is_heard(struct writer *w)
{
	return w->handoff && flush(w, NULL) == SD_OK && sd_handoff_out_attached(w->handoff);
}

static enum sd_result put_abort(struct writer *w, const struct sd_error *why, bool told)
{
	struct sd_bytes payload = {0};
	enum sd_result result = w->ended ? SD_IO : SD_OK;

	if (result == SD_OK && sd_bytes_u32(&payload, why->result) && sd_bytes_u32(&payload, told) &&
	    sd_bytes_text(&payload, why->tool[0] ? why->tool : w->tool) && sd_bytes_text(&payload, why->text))
		result = put_frame(w, SD_KIND_ABORT, &payload, NULL);
	else
		result = SD_IO;
	if (result == SD_OK)
		result = flush(w, NULL);
	free(payload.data);
	return result;
}

static void writer_abort(struct sd_sink *sink, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	int signal = sd_signals_came();
	bool heard = false;

	if (w->ended || err->told == SD_LOST)
		return;
	/* The names of files are any bytes, and a long text may be cut inside of a character: a reader would refuse
	 * these. */
	sd_text_mend(err->text);
	if (complete_frame(w) == SD_OK) {
		heard = !err->told && is_heard(w);
		if (put_abort(w, err, !heard) == SD_OK && heard)
			err->told = SD_TOLD;
	}
	w->ended = true;
	/* That nobody reads is not why this program ends. */
	if (!heard && !signal)
		sd_signals_forget(SIGPIPE);
}

static void writer_close(struct sd_sink *sink)
{
	struct writer *w = (struct writer *)sink;

	sd_handoff_out_close(w->handoff);
	sd_checksum_free(w->sum);
	free(w->parts.data);
	free(w);
}

struct sd_stream_counts sd_stream_sink_counts(const struct sd_sink *sink)
{
	return ((const struct writer *)sink)->counts;
}

static void writer_region(struct sd_sink *sink, void **begin, size_t *length)
{
	sd_handoff_out_region(((struct writer *)sink)->handoff, begin, length);
}

static const struct sd_sink_ops writer_ops = {
	.begin = writer_begin,
	.data = writer_data,
	.end = writer_end,
	.abort = writer_abort,
	.close = writer_close,
	.room = writer_room,
	.region = writer_region,
	.await_sum = writer_await_sum,
	.sum = writer_sum,
};

struct sd_sink *sd_stream_sink_before(int fd, int leads_to, const char *tool)
{
	struct writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->sink.ops = &writer_ops;
	w->fd = fd;
	w->leads_to = leads_to;
	w->record = w->awaited = SD_NO_RECORD;
	strncpy(w->tool, tool, sizeof(w->tool) - 1);
	return &w->sink;
}

struct sd_sink *sd_stream_sink(int fd, const char *tool)
{
	return sd_stream_sink_before(fd, fd, tool);
}
