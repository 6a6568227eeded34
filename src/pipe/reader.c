/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a stream: a source. */
#include "base/checked.h"
#include "base/text.h"
#include "pipe/frame.h"
#include "handoff/handoff.h"
#include "pipe/stream.h"
#include "flow/checksum.h"
#include "model/manifest_codec.h"
#include "model/parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER (64 * 1024)

/* A frame of the head, and its sum: that of all its bytes, and for the first one of those before it. */
struct part {
	uint32_t kind;
	const char *file; /* of SIDE */
	uint64_t sum;
};

/* Bytes of a frame of the head. */
#define SMALL 4096

struct reader {
	struct sd_source source;
	struct sd_limits limits;
	int fd;
	struct sd_bytes *held; /* payloads of the head: the manifest points into them */
	size_t nheld, held_room;
	uint64_t head_bytes;     /* of all frames of the head so far */
	uint64_t records, bytes; /* that came */
	uint64_t position;       /* in the current record: what frames have announced */
	uint64_t left;           /* of the current frame, not yet given out */
	size_t pad;              /* that stands before the next frame */
	unsigned char buffer[BUFFER];
	size_t at, filled;
	struct sd_handoff_in *handoff; /* NULL: all data is in the stream */
	bool shared;                   /* the last extent given out lies in the ring */
	bool seekable;                 /* a regular file: its data can be copied or left out without being read */
	bool kept;                     /* nobody writes this just now: who has met an abort may be long gone */
	struct stat then;              /* of it, when it was opened */
	struct sd_checksum *head;      /* while the head of a stream with sums is read */
	struct part *parts;            /* of it, up to the manifest */
	size_t nparts, parts_room;
	bool strict;  /* what is said to be zero must be: in a stream with sums, of a version that is known here */
	uint64_t sum; /* of the record that came last */
};

static enum sd_result truncated(struct sd_error *err)
{
	return sd_fail(err, SD_INPUT,
		       "the stream ends before its end: truncated, or the program before this one was stopped");
}

/* Exactly length bytes, through the buffer. */
static enum sd_result take(struct reader *r, void *out, size_t length, struct sd_error *err)
{
	while (length) {
		size_t n = r->filled - r->at;

		if (n == 0) {
			enum sd_result result;

			r->at = 0;
			result = r->handoff ? sd_handoff_in_before_read(r->handoff, r->fd, err) : SD_OK;
			if (result == SD_OK)
				result = sd_read_some(r->fd, r->buffer, sizeof(r->buffer), &r->filled, err);
			if (result != SD_OK)
				return result;
			if (r->filled == 0)
				return truncated(err);
			continue;
		}
		if (n > length)
			n = length;
		memcpy(out, r->buffer + r->at, n);
		if (r->head)
			sd_checksum_add(r->head, out, n);
		r->at += n;
		out = (char *)out + n;
		length -= n;
	}
	return SD_OK;
}

static enum sd_result damaged(struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "damaged stream: what should be zero is not");
}

static bool is_zero(const unsigned char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i])
			return false;
	return true;
}

/* Zeros up to the next frame. */
static enum sd_result take_padding(struct reader *r, size_t length, struct sd_error *err)
{
	unsigned char zeros[SD_FRAME_ALIGN];
	enum sd_result result = take(r, zeros, length, err);

	return result == SD_OK && r->strict && !r->head && !is_zero(zeros, length) ? damaged(err) : result;
}

/* A payload that is held in memory, or passed over (out is NULL): room grows with what really comes, whatever the
 * header says. */
static enum sd_result take_payload(struct reader *r, const struct sd_frame *f, uint64_t limit, struct sd_bytes *out,
				   struct sd_error *err)
{
	unsigned char piece[4096];
	uint64_t left = f->length;

	if (left > limit)
		return sd_fail(err, SD_INPUT, "a frame of %" PRIu64 " bytes, where at most %" PRIu64 " are allowed",
			       left, limit);
	while (left) {
		size_t n = left < sizeof(piece) ? (size_t)left : sizeof(piece);
		enum sd_result result = take(r, piece, n, err);

		if (result != SD_OK)
			return result;
		if (out && !sd_bytes_add(out, piece, n))
			return sd_fail_memory(err);
		left -= n;
	}
	return out ? take_padding(r, sd_frame_padding(f->length), err)
		   : take(r, piece, sd_frame_padding(f->length), err);
}

/* What another stage says: it becomes this stage's failure, word for word. */
static enum sd_result take_abort(struct reader *r, const struct sd_frame *f, struct sd_error *err)
{
	struct sd_bytes payload = {0};
	struct sd_view view;
	const char *tool = "", *text = "";
	uint32_t code = SD_IO, told;
	enum sd_result result = take_payload(r, f, SD_ABORT_MAX, &payload, err);

	if (result != SD_OK) {
		free(payload.data);
		return result;
	}
	view = sd_bytes_view(&payload);
	if (!payload.data || !sd_view_u32(&view, &code) || !sd_view_u32(&view, &told) || !sd_view_text(&view, &tool) ||
	    !sd_view_text(&view, &text) || code < SD_DIFFERENT || code > SD_IO) {
		result = sd_fail(err, SD_INPUT, "the stream has a malformed abort");
	} else if (r->kept) {
		result = sd_fail(err, SD_INPUT, "this stream was given up when it was made: %s: %s", tool, text);
	} else {
		result = sd_fail(err, (enum sd_result)code, "%s", text);
		if (err) {
			strncpy(err->tool, tool, sizeof(err->tool) - 1);
			err->tool[sizeof(err->tool) - 1] = '\0';
			sd_text_mend(err->tool); /* it may be cut inside of a character */
			err->told = told ? SD_TOLD : SD_UNTOLD;
		}
	}
	free(payload.data);
	return result;
}

/* Whether a header behind the manifest has zeros where they are said to be. What stands in a frame that is passed over
 * is not known here. */
static bool is_tidy(const struct sd_frame *f, const unsigned char head[SD_FRAME_ALIGN])
{
	bool data = f->kind == SD_KIND_DATA, end = f->kind == SD_KIND_END;
	bool sum = f->kind == SD_KIND_CHECKSUM, sums = f->kind == SD_KIND_CHECKSUMS;

	if (!data && !end && !sum && !sums)
		return true;
	return is_zero(head + 32, SD_FRAME_ALIGN - 32) && f->flags == (sum || sums ? SD_FRAME_OPTIONAL : 0) &&
	       (data || sum || f->record == 0) && (data || (f->encoding == 0 && f->offset == 0));
}

/* The next frame's header; an abort is a failure. */
static enum sd_result take_frame(struct reader *r, struct sd_frame *f, struct sd_error *err)
{
	unsigned char head[SD_FRAME_ALIGN];
	enum sd_result result = take_padding(r, r->pad, err);

	r->pad = 0;
	if (result == SD_OK)
		result = take(r, head, sizeof(head), err);
	if (result != SD_OK)
		return result;
	*f = sd_frame_unpack(head);
	if (r->strict && !is_tidy(f, head))
		return damaged(err);
	return f->kind == SD_KIND_ABORT ? take_abort(r, f, err) : SD_OK;
}

static enum sd_result unexpected(const struct sd_frame *f, const char *where, struct sd_error *err)
{
	char kind[5];

	for (int i = 0; i < 4; i++) {
		kind[i] = (char)(f->kind >> 8 * i);
		if (kind[i] < ' ' || kind[i] > '~')
			kind[i] = '?';
	}
	kind[4] = '\0';
	return sd_fail(err, SD_INPUT, "malformed stream: a frame \"%s\" %s", kind, where);
}

/* Kinds that have their place: no flag makes them something to pass on, or over, elsewhere. */
static bool is_known(uint32_t kind)
{
	return kind == SD_KIND_META || kind == SD_KIND_SIDE || kind == SD_KIND_PART || kind == SD_KIND_MANIFEST ||
	       kind == SD_KIND_CHECKSUMS || kind == SD_KIND_DATA || kind == SD_KIND_CHECKSUM || kind == SD_KIND_END;
}

/*
 * Looks at the size of a frame of the head, alone (what is for the error) and together with all before it. Small ones
 * do not count there: side files have a number, and metadata comes once.
 */
static enum sd_result check_head(struct reader *r, const struct sd_frame *f, const char *what, struct sd_error *err)
{
	if (sd_limits_check(&r->limits, SD_LIMIT_MANIFEST, f->length, what, err) != SD_OK)
		return SD_INPUT;
	if (f->length > SMALL && !sd_add(r->head_bytes, f->length, &r->head_bytes))
		r->head_bytes = UINT64_MAX;
	return sd_limits_check(&r->limits, SD_LIMIT_MANIFEST, r->head_bytes,
			       "the metadata, side files and manifest of the stream have", err);
}

/* Keeps a payload for as long as the manifest lives, without the room that it does not need. */
static enum sd_result keep(struct reader *r, struct sd_bytes *payload, struct sd_error *err)
{
	void *fitting = payload->length ? realloc(payload->data, payload->length) : NULL;

	if (fitting) {
		payload->data = fitting;
		payload->room = payload->length;
	}
	if (!sd_array_grow(&r->held, r->nheld, &r->held_room, sizeof(*r->held))) {
		free(payload->data);
		return sd_fail_memory(err);
	}
	r->held[r->nheld++] = *payload;
	return SD_OK;
}

/* A payload that lives as long as the manifest. */
static enum sd_result take_kept(struct reader *r, const struct sd_frame *f, uint64_t limit, struct sd_view *view,
				struct sd_error *err)
{
	struct sd_bytes payload = {0};
	enum sd_result result = take_payload(r, f, limit, &payload, err);

	if (result != SD_OK) {
		free(payload.data);
		return result;
	}
	result = keep(r, &payload, err);
	*view = sd_bytes_view(&payload);
	return result;
}

static enum sd_result take_meta(struct reader *r, const struct sd_frame *f, struct sd_error *err)
{
	struct sd_manifest *m = r->source.manifest;
	struct sd_view view;
	uint32_t count = 0, zero;
	enum sd_result result = check_head(r, f, "the metadata has", err);

	if (result == SD_OK)
		result = take_kept(r, f, SD_HEAD_MAX, &view, err);
	if (result != SD_OK)
		return result;
	if (!sd_view_u32(&view, &count) || !sd_view_u32(&view, &zero))
		return sd_fail(err, SD_INPUT, "malformed stream: metadata");
	if (count > SD_METADATA_MAX - m->nmetadata)
		return sd_fail(err, SD_INPUT, "the stream has more than %d entries of metadata", SD_METADATA_MAX);
	for (uint32_t i = 0; i < count; i++) {
		const char *key, *value;

		if (!sd_view_text(&view, &key) || !sd_view_text(&view, &value) || sd_manifest_metadata(m, key))
			return sd_fail(err, SD_INPUT, "malformed stream: metadata entry %" PRIu32, i);
		if (!sd_manifest_add_metadata(m, key, value))
			return sd_fail_memory(err);
	}
	return SD_OK;
}

static enum sd_result take_side(struct reader *r, const struct sd_frame *f, struct sd_error *err)
{
	struct sd_manifest *m = r->source.manifest;
	struct sd_side_file file = {0};
	struct sd_view view;
	/* Before it is held: its name has some of these bytes. */
	enum sd_result result = sd_manifest_side_fits(m, f->length < 4096 ? 0 : f->length - 4096, err);

	if (result == SD_OK)
		result = check_head(r, f, "a side file has", err);
	if (result == SD_OK)
		result = take_kept(r, f, SD_SIDE_FILE_MAX + 4096, &view, err);
	if (result != SD_OK)
		return result;
	if (!sd_view_text(&view, &file.name) || sd_manifest_side(m, file.name))
		return sd_fail(err, SD_INPUT, "malformed stream: the name of a side file");
	if (!sd_file_name_good(file.name))
		return sd_fail(err, SD_INPUT, "malformed stream: %s is no name for a side file", file.name);
	file.data = view.at;
	file.size = (size_t)(view.end - view.at);
	if (sd_manifest_side_fits(m, file.size, err) != SD_OK)
		return SD_INPUT;
	return sd_manifest_add_side(m, &file) ? SD_OK : sd_fail_memory(err);
}

/* A frame of the head that this version does not know: passed on as it came. */
static enum sd_result take_unknown(struct reader *r, const struct sd_frame *f, struct sd_bytes *unknown,
				   struct sd_error *err)
{
	unsigned char head[SD_FRAME_ALIGN];

	if (!(f->flags & SD_FRAME_OPTIONAL))
		return unexpected(f, "that this version does not know", err);
	sd_frame_pack(f, head);
	/* So many empty frames are something, too. */
	if (check_head(r, f, "what is unknown here in front of the manifest has", err) != SD_OK)
		return SD_INPUT;
	r->head_bytes += sizeof(head) + (f->length > SMALL ? 0 : f->length);
	if (!sd_bytes_add(unknown, head, sizeof(head)))
		return sd_fail_memory(err);
	if (take_payload(r, f, SD_HEAD_MAX, unknown, err) != SD_OK)
		return err ? err->result : SD_INPUT;
	return sd_bytes_pad(unknown, SD_FRAME_ALIGN) ? SD_OK : sd_fail_memory(err);
}

/* What part of a checkpoint the stream is. */
static enum sd_result take_parts(struct reader *r, const struct sd_frame *f, struct sd_error *err)
{
	struct sd_manifest *m = r->source.manifest;
	struct sd_view view;
	enum sd_result result = check_head(r, f, "the table of the units that parts are made of has", err);

	if (result == SD_OK)
		result = take_kept(r, f, SD_HEAD_MAX, &view, err);
	return result == SD_OK ? sd_parts_decode(view, &m->arena, &m->parts, err) : result;
}

static enum sd_result take_manifest(struct reader *r, const struct sd_frame *f, struct sd_view *view,
				    struct sd_error *err)
{
	enum sd_result result = check_head(r, f, "the manifest is said to have", err);

	return result == SD_OK ? take_kept(r, f, SD_HEAD_MAX, view, err) : result;
}

/* Keeps the sum of a frame of the head. */
static enum sd_result end_part(struct reader *r, uint32_t kind, struct sd_error *err)
{
	const struct sd_manifest *m = r->source.manifest;
	struct part *part;

	if (!r->head)
		return SD_OK;
	if (!sd_array_grow(&r->parts, r->nparts, &r->parts_room, sizeof(*r->parts)))
		return sd_fail_memory(err);
	part = &r->parts[r->nparts++];
	*part = (struct part){.kind = kind, .sum = sd_checksum_value(r->head)};
	if (kind == SD_KIND_SIDE)
		part->file = m->side[m->nside - 1].name;
	sd_checksum_begin(r->head);
	return SD_OK;
}

static enum sd_result compare_part(const struct part *part, uint64_t sum, struct sd_error *err)
{
	const char *what = "a part of the head that this version does not know";

	if (part->sum == sum)
		return SD_OK;
	if (part->kind == SD_KIND_SIDE)
		return sd_fail(err, SD_INPUT,
			       "damaged stream: its side file %s is not what the checksum of the head says",
			       part->file);
	if (part->kind == SD_KIND_PART)
		what = "what it says of its parts";
	else if (part->kind == SD_KIND_META)
		what = "its beginning, with the metadata,";
	else if (part->kind == SD_KIND_MANIFEST)
		what = "its manifest";
	return sd_fail(err, SD_INPUT, "damaged stream: %s is not what the checksum of the head says", what);
}

/* The sums of the head, which stand right behind it. */
static enum sd_result take_head_sums(struct reader *r, struct sd_error *err)
{
	struct sd_bytes payload = {0};
	struct sd_view view;
	struct sd_frame f;
	enum sd_result result = take_frame(r, &f, err);
	uint64_t sum;

	if (result == SD_OK && f.kind != SD_KIND_CHECKSUMS)
		result = unexpected(&f, "where the checksums of the head are due", err);
	if (result == SD_OK && f.length != r->nparts * sizeof(sum))
		result = sd_fail(err, SD_INPUT,
				 "damaged stream: checksums of %" PRIu64 " bytes for a head of %zu frames", f.length,
				 r->nparts);
	if (result == SD_OK)
		result = take_payload(r, &f, SD_HEAD_MAX, &payload, err);
	view = sd_bytes_view(&payload);
	for (size_t i = 0; i < r->nparts && result == SD_OK; i++)
		result = sd_view_u64(&view, &sum) ? compare_part(&r->parts[i], sum, err) : truncated(err);
	free(payload.data);
	return result;
}

/* Everything up to the manifest. */
static enum sd_result take_head(struct reader *r, struct sd_error *err)
{
	struct sd_manifest *m = r->source.manifest;
	struct sd_bytes unknown = {0};
	struct sd_view manifest = {0};
	enum sd_result result;
	struct sd_frame f;
	bool described = false;

	do {
		result = take_frame(r, &f, err);
		if (result != SD_OK)
			break;
		if (f.kind == SD_KIND_META && !described)
			result = take_meta(r, &f, err);
		else if (f.kind == SD_KIND_SIDE && described)
			result = take_side(r, &f, err);
		else if (f.kind == SD_KIND_PART && described && !m->parts)
			result = take_parts(r, &f, err);
		else if (f.kind == SD_KIND_MANIFEST && described)
			result = take_manifest(r, &f, &manifest, err);
		else if (is_known(f.kind))
			result = unexpected(&f, "out of its order, before the manifest", err);
		else
			result = take_unknown(r, &f, &unknown, err);
		described = described || f.kind == SD_KIND_META;
		if (result == SD_OK)
			result = end_part(r, f.kind, err);
	} while (result == SD_OK && f.kind != SD_KIND_MANIFEST);
	if (result == SD_OK && unknown.length) {
		result = keep(r, &unknown, err);
		m->extra = (struct sd_extra){unknown.data, unknown.length};
	} else {
		free(unknown.data);
	}
	sd_checksum_free(r->head);
	r->head = NULL;
	if (result == SD_OK && r->source.sums)
		result = take_head_sums(r, err);
	return result == SD_OK
		       ? sd_manifest_decode(manifest.at, (size_t)(manifest.end - manifest.at), &r->limits, m, err)
		       : result;
}

/* Data frames stand one after another: the right record, the right place, nothing beyond it. */
static enum sd_result check_data_frame(const struct reader *r, const struct sd_frame *f, uint32_t record,
				       uint64_t length, struct sd_error *err)
{
	const struct sd_record *expected = &r->source.manifest->records[record];

	if (f->record != record || f->offset != r->position || length == 0 || length > expected->bytes - r->position)
		return sd_fail(err, SD_INPUT,
			       "%s: a frame of bytes %" PRIu64 " to %" PRIu64 " of record %" PRIu32
			       ", where byte %" PRIu64 " of record %" PRIu32 " is due",
			       expected->key, f->offset, f->offset + length, f->record, r->position, record);
	return SD_OK;
}

/* The header of the next frame behind the manifest, over those that may be passed over. */
static enum sd_result take_due_frame(struct reader *r, struct sd_frame *f, struct sd_error *err)
{
	for (;;) {
		enum sd_result result = take_frame(r, f, err);

		if (result != SD_OK || is_known(f->kind) || !(f->flags & SD_FRAME_OPTIONAL))
			return result;
		result = take_payload(r, f, UINT64_MAX, NULL, err);
		if (result != SD_OK)
			return result;
	}
}

static enum sd_result take_data_frame(struct reader *r, struct sd_frame *frame, struct sd_error *err)
{
	enum sd_result result = take_due_frame(r, frame, err);

	if (result == SD_OK && frame->kind != SD_KIND_DATA)
		result = unexpected(frame, "where data is due", err);
	return result;
}

/* The sum behind a record's data. */
static enum sd_result take_sum(struct reader *r, uint32_t record, struct sd_error *err)
{
	const struct sd_record *expected = &r->source.manifest->records[record];
	struct sd_bytes payload = {0};
	struct sd_view view;
	struct sd_frame f;
	enum sd_result result = take_due_frame(r, &f, err);

	if (result == SD_OK && f.kind != SD_KIND_CHECKSUM)
		result = unexpected(&f, "where a checksum is due", err);
	if (result == SD_OK && (f.record != record || f.length != sizeof(r->sum)))
		result = sd_fail(err, SD_INPUT,
				 "%s: a checksum of %" PRIu64 " bytes for record %" PRIu32
				 ", where that of record %" PRIu32 " is due",
				 expected->key, f.length, f.record, record);
	if (result == SD_OK)
		result = take_payload(r, &f, sizeof(r->sum), &payload, err);
	view = sd_bytes_view(&payload);
	if (result == SD_OK && !sd_view_u64(&view, &r->sum))
		result = truncated(err);
	free(payload.data);
	return result;
}

/* Where the data of a frame is that has only a reference. */
static enum sd_result take_place(struct reader *r, const struct sd_frame *f, struct sd_handoff_place *place,
				 struct sd_error *err)
{
	struct sd_bytes payload = {0};
	struct sd_view view;
	enum sd_result result = SD_OK;

	if (!r->handoff || (f->encoding != SD_HANDOFF_FILE && f->encoding != SD_HANDOFF_RING))
		return sd_fail(err, SD_INPUT, "data in the encoding %" PRIu32 ", which %s", f->encoding,
			       f->encoding == SD_HANDOFF_FILE || f->encoding == SD_HANDOFF_RING
				       ? "only means something to the program that it was written for"
				       : "this version does not know");
	result = take_payload(r, f, SD_FRAME_ALIGN, &payload, err);
	view = sd_bytes_view(&payload);
	if (result == SD_OK &&
	    (!payload.data || !sd_view_u64(&view, &place->number) || !sd_view_u64(&view, &place->offset) ||
	     !sd_view_u64(&view, &place->length) || (r->strict && view.at != view.end)))
		result = sd_fail(err, SD_INPUT, "malformed stream: a reference");
	free(payload.data);
	return result;
}

/* The data of a frame that has only a reference. */
static enum sd_result follow(struct reader *r, const struct sd_frame *f, uint32_t record, struct sd_extent *extent,
			     struct sd_error *err)
{
	struct sd_handoff_place place;
	enum sd_result result = take_place(r, f, &place, err);

	if (result == SD_OK)
		result = check_data_frame(r, f, record, place.length, err);
	if (result != SD_OK)
		return result;
	r->position += place.length;
	r->bytes += place.length;
	extent->length = place.length;
	r->shared = f->encoding == SD_HANDOFF_RING;
	if (r->shared)
		return sd_handoff_in_ring(r->handoff, &place, &extent->memory, err);
	extent->offset = (off_t)place.offset;
	return sd_handoff_in_file(r->handoff, &place, &extent->fd, err);
}

/* In a regular file: where the current frame's data lies; the file stands behind it then. False if it is in the buffer
 * already, or not all in the file. */
static bool seek_over(struct reader *r, struct sd_extent *extent)
{
	size_t buffered = r->filled - r->at;
	off_t here = r->seekable && r->left > buffered ? lseek(r->fd, 0, SEEK_CUR) : -1;
	struct stat st;

	if (here < 0 || fstat(r->fd, &st) != 0 || here > st.st_size ||
	    r->left - buffered > (uint64_t)(st.st_size - here))
		return false;
	extent->offset = here - (off_t)buffered;
	if (lseek(r->fd, extent->offset + (off_t)r->left, SEEK_SET) < 0)
		return false;
	extent->length = r->left;
	r->left = 0;
	r->at = r->filled = 0;
	return true;
}

static bool reader_sum(const struct sd_source *source, uint32_t record, uint64_t *sum)
{
	*sum = ((const struct reader *)source)->sum;
	return source->sums && source->manifest->records[record].bytes > 0;
}

static enum sd_result reader_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
				  struct sd_error *err)
{
	struct reader *r = (struct reader *)source;
	size_t buffered = r->filled - r->at;
	uint64_t sum;

	*extent = (struct sd_extent){.fd = r->fd, .offset = -1};
	if (r->shared)
		sd_handoff_in_give_back(r->handoff);
	r->shared = false;
	if (r->left == 0) {
		enum sd_result result;
		struct sd_frame f;

		if (r->position == source->manifest->records[record].bytes) {
			r->position = 0;
			r->records++;
			return reader_sum(source, record, &sum) ? take_sum(r, record, err) : SD_OK;
		}
		result = take_data_frame(r, &f, err);
		if (result == SD_OK && f.encoding != SD_HANDOFF_BYTES)
			return follow(r, &f, record, extent, err);
		if (result == SD_OK)
			result = check_data_frame(r, &f, record, f.length, err);
		if (result != SD_OK)
			return result;
		r->left = f.length;
		r->pad = sd_frame_padding(f.length);
		r->position += f.length;
		r->bytes += f.length;
		if (seek_over(r, extent))
			return SD_OK;
		buffered = r->filled - r->at;
	}
	/* First what the buffer has of this frame, then the rest straight from the pipe. */
	extent->length = r->left;
	if (buffered) {
		extent->memory = r->buffer + r->at;
		if (buffered < r->left)
			extent->length = buffered;
		r->at += (size_t)extent->length;
	}
	r->left -= extent->length;
	return SD_OK;
}

/* That a stream in a file is the one that was opened. */
static enum sd_result check_unchanged(const struct reader *r, struct sd_error *err)
{
	return r->seekable ? sd_fd_unchanged(r->fd, NULL, &r->then, err) : SD_OK;
}

static enum sd_result reader_finish(struct sd_source *source, struct sd_error *err)
{
	struct reader *r = (struct reader *)source;
	struct sd_bytes payload = {0};
	struct sd_view view;
	uint64_t records = 0, bytes = 0;
	struct sd_frame f;
	size_t more;
	enum sd_result result = take_due_frame(r, &f, err);

	if (result == SD_OK && f.kind != SD_KIND_END)
		result = unexpected(&f, "where the end is due", err);
	if (result == SD_OK)
		result = take_payload(r, &f, SD_FRAME_ALIGN, &payload, err);
	if (result != SD_OK) {
		free(payload.data);
		return result;
	}
	view = sd_bytes_view(&payload);
	if (!payload.data || !sd_view_u64(&view, &records) || !sd_view_u64(&view, &bytes) || records != r->records ||
	    bytes != r->bytes)
		result = sd_fail(err, SD_INPUT,
				 "the stream's end counts %" PRIu64 " records and %" PRIu64 " bytes, but %" PRIu64
				 " and %" PRIu64 " came",
				 records, bytes, r->records, r->bytes);
	if (result == SD_OK && r->strict && view.at != view.end)
		result = damaged(err);
	free(payload.data);
	if (result == SD_OK && r->handoff)
		result = sd_handoff_in_finish(r->handoff, err);
	more = r->filled - r->at;
	if (result == SD_OK && more == 0)
		result = sd_read_some(r->fd, r->buffer, 1, &more, err);
	if (result == SD_OK && more)
		result =
			sd_fail(err, SD_INPUT,
				"there are bytes after the end of the stream; to join streams use: sd-cat a.sds b.sds");
	return result == SD_OK ? check_unchanged(r, err) : result;
}

/* What makes no sense in a file that has changed meanwhile is so because of that. */
static void reader_explain(struct sd_source *source, struct sd_error *err)
{
	struct sd_error changed;

	if (check_unchanged((struct reader *)source, &changed) != SD_OK)
		*err = changed;
}

static void reader_close(struct sd_source *source)
{
	struct reader *r = (struct reader *)source;

	sd_manifest_free(source->manifest);
	for (size_t i = 0; i < r->nheld; i++)
		free(r->held[i].data);
	free(r->held);
	sd_checksum_free(r->head);
	free(r->parts);
	sd_handoff_in_close(r->handoff);
	close(r->fd);
	free(r);
}

static const struct sd_source_ops reader_ops = {.next = reader_next,
						.finish = reader_finish,
						.close = reader_close,
						.explain = reader_explain,
						.sum = reader_sum};

/* The prelude, whose first bytes somebody has read. */
static enum sd_result take_prelude(struct reader *r, struct sd_error *err)
{
	unsigned char prelude[SD_FRAME_ALIGN] = SD_STREAM_MAGIC, *rest = prelude + SD_STREAM_MAGIC_LENGTH;
	enum sd_result result = take(r, rest, sizeof(prelude) - SD_STREAM_MAGIC_LENGTH, err);
	unsigned major = rest[0] | rest[1] << 8, minor = rest[2] | rest[3] << 8;

	if (result != SD_OK)
		return result;
	if (major != SD_STREAM_MAJOR)
		return sd_fail(err, SD_INPUT,
			       "a stream of version %u.%u, but this program reads version %d: use the same release "
			       "of sd-tools throughout",
			       major, minor, SD_STREAM_MAJOR);
	if (!(rest[4] & SD_STREAM_CHECKSUMS))
		return SD_OK;
	r->source.sums = true;
	r->strict = minor <= SD_STREAM_MINOR;
	r->head = sd_checksum_new();
	if (!r->head)
		return sd_fail_memory(err);
	sd_checksum_add(r->head, prelude, sizeof(prelude));
	return SD_OK;
}

/* Whether the end of a stream is the end of the file that it is kept in. */
static bool ends_in_file(const struct reader *r)
{
	unsigned char last[2 * SD_FRAME_ALIGN];
	off_t at = r->then.st_size - (off_t)sizeof(last);
	struct sd_frame f;

	if (at < 0 || pread(r->fd, last, sizeof(last), at) != (ssize_t)sizeof(last))
		return false;
	f = sd_frame_unpack(last);
	return f.kind == SD_KIND_END && f.length <= SD_FRAME_ALIGN;
}

/* A stream in a file that ends without its end is gone through, to say why: its data is not there to be read any more
 * then, and nobody wants it who let that pass. */
static enum sd_result find_lack(struct reader *r, struct sd_error *err)
{
	const struct sd_manifest *m = r->source.manifest;
	struct sd_error why;
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++) {
		bool more = m->records[i].state == SD_HERE;

		while (more && result == SD_OK) {
			struct sd_extent extent;

			result = reader_next(&r->source, (uint32_t)i, &extent, &why);
			more = result == SD_OK && extent.length;
			if (more)
				result = sd_extent_skip(&extent, &why);
		}
	}
	if (result == SD_OK)
		result = reader_finish(&r->source, &why);
	if (result != SD_INPUT) {
		if (result != SD_OK && err)
			*err = why;
		return result;
	}
	r->source.lack = sd_arena_text(&r->source.manifest->arena, why.text, strlen(why.text));
	return r->source.lack ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_stream_open(int fd, const struct sd_limits *limits, struct sd_source **source, struct sd_error *err)
{
	return sd_stream_open_behind(fd, !sd_fd_is_pipe(fd), limits, source, err);
}

enum sd_result sd_stream_open_behind(int fd, bool kept, const struct sd_limits *limits, struct sd_source **source,
				     struct sd_error *err)
{
	struct reader *r = calloc(1, sizeof(*r));
	enum sd_result result;

	*source = NULL;
	if (!r) {
		close(fd);
		return sd_fail_memory(err);
	}
	r->fd = fd;
	r->limits = limits ? *limits : sd_limits_default;
	r->source.ops = &reader_ops;
	r->source.manifest = sd_manifest_new();
	sd_pipe_enlarge(fd);
	r->handoff = sd_handoff_in_open(fd);
	r->kept = kept;
	r->seekable = fstat(fd, &r->then) == 0 && S_ISREG(r->then.st_mode);
	result = r->source.manifest ? take_prelude(r, err) : sd_fail_memory(err);
	if (result == SD_OK)
		result = take_head(r, err);
	if (result == SD_OK && r->seekable && r->limits.short_data && !ends_in_file(r))
		result = find_lack(r, err);
	if (result != SD_OK) {
		reader_close(&r->source);
		return result;
	}
	*source = &r->source;
	return SD_OK;
}
