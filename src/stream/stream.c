/* SPDX-License-Identifier: Apache-2.0 */
/* The stream on the wire: a prelude, then frames of a 64-byte header and a payload that is padded to 64. */
#include "stream/stream.h"
#include "stream/wire.h"

#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	MAJOR = 1,
	MINOR = 0,
	ALIGN = 64,
	BUFFER = 64 * 1024,
	FRAME_OPTIONAL = 1, /* flag: whoever does not know the kind passes it on (before the manifest) or over it */
};

#define FRAME_DATA_MAX (8u << 20) /* an abort can only stand between frames: none is longer than this */
#define HEAD_MAX (1ull << 32)     /* of a frame that is held in memory */
#define ABORT_MAX (64u << 10)
#define PIPE_SIZE (1 << 20)

#define KIND(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define KIND_META KIND('M', 'E', 'T', 'A')
#define KIND_SIDE KIND('S', 'I', 'D', 'E')
#define KIND_MANIFEST KIND('M', 'A', 'N', 'I')
#define KIND_DATA KIND('D', 'A', 'T', 'A')
#define KIND_END KIND('E', 'N', 'D', ' ')
#define KIND_ABORT KIND('A', 'B', 'R', 'T')

struct frame {
	uint32_t kind, flags;
	uint64_t length; /* of the payload, without its padding */
	uint32_t record, encoding;
	uint64_t offset; /* in the record's data */
};

static void frame_pack(const struct frame *f, unsigned char out[ALIGN])
{
	const uint32_t kind[2] = {htole32(f->kind), htole32(f->flags)};
	const uint64_t length = htole64(f->length), offset = htole64(f->offset);
	const uint32_t record[2] = {htole32(f->record), htole32(f->encoding)};

	memset(out, 0, ALIGN);
	memcpy(out, kind, 8);
	memcpy(out + 8, &length, 8);
	memcpy(out + 16, record, 8);
	memcpy(out + 24, &offset, 8);
}

static struct frame frame_unpack(const unsigned char in[ALIGN])
{
	struct sd_view view = {(unsigned char *)in, (unsigned char *)in + ALIGN};
	struct frame f = {0};

	/* 64 bytes are there: none of these fails. */
	if (!sd_view_u32(&view, &f.kind) || !sd_view_u32(&view, &f.flags) || !sd_view_u64(&view, &f.length) ||
	    !sd_view_u32(&view, &f.record) || !sd_view_u32(&view, &f.encoding) || !sd_view_u64(&view, &f.offset))
		f.kind = 0;
	return f;
}

static size_t padding(uint64_t length)
{
	return (size_t)((ALIGN - length % ALIGN) % ALIGN);
}

/* ---- reading ---- */

struct reader {
	struct sd_source source;
	int fd;
	struct sd_bytes manifest; /* the decoded manifest points into it */
	uint64_t records, bytes;  /* that came */
	uint64_t position;        /* in the current record: what frames have announced */
	uint64_t left;            /* of the current frame, not yet given out */
	size_t pad;               /* that stands before the next frame */
	unsigned char buffer[BUFFER];
	size_t at, filled;
};

static enum sd_result truncated(struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "the stream ends before its end: truncated, or the program before this one was stopped");
}

/* Exactly length bytes, through the buffer. */
static enum sd_result take(struct reader *r, void *out, size_t length, struct sd_error *err)
{
	while (length) {
		size_t n = r->filled - r->at;

		if (n == 0) {
			enum sd_result result;

			r->at = 0;
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
		r->at += n;
		out = (char *)out + n;
		length -= n;
	}
	return SD_OK;
}

/* A payload that is held in memory: room grows with what really comes, whatever the header says. */
static enum sd_result take_payload(struct reader *r, const struct frame *f, uint64_t limit, struct sd_bytes *out,
				   struct sd_error *err)
{
	unsigned char piece[BUFFER];
	uint64_t left = f->length;

	if (left > limit)
		return sd_fail(err, SD_INPUT, "a frame of %" PRIu64 " bytes, where at most %" PRIu64 " are allowed", left, limit);
	while (left) {
		size_t n = left < sizeof(piece) ? left : sizeof(piece);
		enum sd_result result = take(r, piece, n, err);

		if (result != SD_OK)
			return result;
		if (!sd_bytes_add(out, piece, n))
			return sd_fail_memory(err);
		left -= n;
	}
	return take(r, piece, padding(f->length), err);
}

/* What another stage says: it becomes this stage's failure, word for word. */
static enum sd_result take_abort(struct reader *r, const struct frame *f, struct sd_error *err)
{
	struct sd_bytes payload = {0};
	struct sd_view view;
	const char *tool = "", *text = "";
	uint32_t code = SD_IO, zero;
	enum sd_result result = take_payload(r, f, ABORT_MAX, &payload, err);

	if (result != SD_OK) {
		free(payload.data);
		return result;
	}
	view = (struct sd_view){payload.data, payload.data + payload.length};
	if (!payload.data || !sd_view_u32(&view, &code) || !sd_view_u32(&view, &zero) || !sd_view_text(&view, &tool) ||
	    !sd_view_text(&view, &text) || code < SD_DIFFERENT || code > SD_IO) {
		result = sd_fail(err, SD_INPUT, "the stream has a malformed abort");
	} else {
		result = sd_fail(err, (enum sd_result)code, "%s", text);
		if (err) {
			strncpy(err->tool, tool, sizeof(err->tool) - 1);
			err->tool[sizeof(err->tool) - 1] = '\0';
		}
	}
	free(payload.data);
	return result;
}

/* The next frame's header; an abort is a failure. */
static enum sd_result take_frame(struct reader *r, struct frame *f, struct sd_error *err)
{
	unsigned char head[ALIGN];
	enum sd_result result = take(r, head, r->pad, err);

	r->pad = 0;
	if (result == SD_OK)
		result = take(r, head, sizeof(head), err);
	if (result != SD_OK)
		return result;
	*f = frame_unpack(head);
	return f->kind == KIND_ABORT ? take_abort(r, f, err) : SD_OK;
}

static enum sd_result unexpected(const struct frame *f, const char *where, struct sd_error *err)
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

static enum sd_result take_meta(struct reader *r, const struct frame *f, struct sd_error *err)
{
	struct sd_manifest *m = r->source.manifest;
	struct sd_bytes payload = {0};
	struct sd_view view;
	uint32_t count = 0, zero;
	enum sd_result result = take_payload(r, f, HEAD_MAX, &payload, err);
	unsigned char *kept;

	kept = result == SD_OK ? sd_arena_copy(&m->arena, payload.data, payload.length) : NULL;
	free(payload.data);
	if (result != SD_OK)
		return result;
	if (!kept)
		return sd_fail_memory(err);
	view = (struct sd_view){kept, kept + payload.length};
	if (!sd_view_u32(&view, &count) || !sd_view_u32(&view, &zero))
		return sd_fail(err, SD_INPUT, "malformed stream: metadata");
	for (uint32_t i = 0; i < count; i++) {
		const char *key, *value;

		if (!sd_view_text(&view, &key) || !sd_view_text(&view, &value) || sd_manifest_metadata(m, key))
			return sd_fail(err, SD_INPUT, "malformed stream: metadata entry %" PRIu32, i);
		if (!sd_manifest_add_metadata(m, key, value))
			return sd_fail_memory(err);
	}
	return SD_OK;
}

static enum sd_result take_side(struct reader *r, const struct frame *f, struct sd_error *err)
{
	struct sd_manifest *m = r->source.manifest;
	struct sd_bytes payload = {0};
	struct sd_side_file file = {0};
	struct sd_view view;
	unsigned char *kept;
	enum sd_result result = take_payload(r, f, SD_SIDE_FILE_MAX + 4096, &payload, err);

	kept = result == SD_OK ? sd_arena_copy(&m->arena, payload.data, payload.length) : NULL;
	free(payload.data);
	if (result != SD_OK)
		return result;
	if (!kept)
		return sd_fail_memory(err);
	view = (struct sd_view){kept, kept + payload.length};
	if (!sd_view_text(&view, &file.name) || !sd_side_file_name_good(file.name) || sd_manifest_side(m, file.name))
		return sd_fail(err, SD_INPUT, "malformed stream: the name of a side file");
	file.data = view.at;
	file.size = (size_t)(view.end - view.at);
	return sd_manifest_add_side(m, &file) ? SD_OK : sd_fail_memory(err);
}

/* A frame of the head that this version does not know: passed on as it came. */
static enum sd_result take_unknown(struct reader *r, const struct frame *f, struct sd_bytes *unknown, struct sd_error *err)
{
	unsigned char head[ALIGN];

	if (!(f->flags & FRAME_OPTIONAL))
		return unexpected(f, "that this version does not know", err);
	frame_pack(f, head);
	if (!sd_bytes_add(unknown, head, sizeof(head)))
		return sd_fail_memory(err);
	if (take_payload(r, f, HEAD_MAX, unknown, err) != SD_OK)
		return err ? err->result : SD_INPUT;
	return sd_bytes_pad(unknown, ALIGN) ? SD_OK : sd_fail_memory(err);
}

/* Everything up to the manifest. */
static enum sd_result take_head(struct reader *r, struct sd_error *err)
{
	struct sd_manifest *m = r->source.manifest;
	struct sd_bytes unknown = {0};
	enum sd_result result;
	struct frame f;

	do {
		result = take_frame(r, &f, err);
		if (result != SD_OK)
			break;
		if (f.kind == KIND_META)
			result = take_meta(r, &f, err);
		else if (f.kind == KIND_SIDE)
			result = take_side(r, &f, err);
		else if (f.kind == KIND_MANIFEST)
			result = take_payload(r, &f, HEAD_MAX, &r->manifest, err);
		else if (f.kind == KIND_DATA || f.kind == KIND_END)
			result = unexpected(&f, "before the manifest", err);
		else
			result = take_unknown(r, &f, &unknown, err);
	} while (result == SD_OK && f.kind != KIND_MANIFEST);
	if (result == SD_OK && unknown.length) {
		m->extra.data = sd_arena_copy(&m->arena, unknown.data, unknown.length);
		m->extra.length = unknown.length;
		if (!m->extra.data)
			result = sd_fail_memory(err);
	}
	free(unknown.data);
	return result == SD_OK ? sd_wire_decode(r->manifest.data, r->manifest.length, m, err) : result;
}

/* Data frames stand one after another: the right record, the right place, nothing beyond it. */
static enum sd_result check_data_frame(struct reader *r, const struct frame *f, uint32_t record, struct sd_error *err)
{
	const struct sd_record *expected = &r->source.manifest->records[record];

	if (f->kind != KIND_DATA)
		return unexpected(f, "where data is due", err);
	if (f->encoding != 0)
		return sd_fail(err, SD_INPUT, "%s: data in the encoding %" PRIu32 ", which this version does not know",
			       expected->key, f->encoding);
	if (f->record != record || f->offset != r->position || f->length == 0 ||
	    f->length > expected->bytes - r->position)
		return sd_fail(err, SD_INPUT,
			       "%s: a frame of bytes %" PRIu64 " to %" PRIu64 " of record %" PRIu32 ", where byte %" PRIu64
			       " of record %" PRIu32 " is due",
			       expected->key, f->offset, f->offset + f->length, f->record, r->position, record);
	return SD_OK;
}

/* The next data frame's header, over frames that may be passed over. */
static enum sd_result take_data_frame(struct reader *r, uint32_t record, struct sd_error *err)
{
	enum sd_result result;
	struct frame f;

	for (;;) {
		struct sd_bytes over = {0};

		result = take_frame(r, &f, err);
		if (result != SD_OK || f.kind == KIND_DATA || f.kind == KIND_END || !(f.flags & FRAME_OPTIONAL))
			break;
		result = take_payload(r, &f, HEAD_MAX, &over, err);
		free(over.data);
		if (result != SD_OK)
			break;
	}
	if (result == SD_OK)
		result = check_data_frame(r, &f, record, err);
	if (result == SD_OK) {
		r->left = f.length;
		r->pad = padding(f.length);
		r->position += f.length;
		r->bytes += f.length;
	}
	return result;
}

static enum sd_result reader_next(struct sd_source *source, uint32_t record, struct sd_chunk *chunk, struct sd_error *err)
{
	struct reader *r = (struct reader *)source;
	size_t buffered = r->filled - r->at;

	*chunk = (struct sd_chunk){.fd = r->fd, .offset = -1};
	if (r->left == 0) {
		enum sd_result result;

		if (r->position == source->manifest->records[record].bytes) {
			r->position = 0;
			r->records++;
			return SD_OK;
		}
		result = take_data_frame(r, record, err);
		if (result != SD_OK)
			return result;
		buffered = r->filled - r->at;
	}
	/* First what the buffer has of this frame, then the rest straight from the pipe. */
	chunk->length = r->left;
	if (buffered) {
		chunk->memory = r->buffer + r->at;
		if (buffered < r->left)
			chunk->length = buffered;
		r->at += (size_t)chunk->length;
	}
	r->left -= chunk->length;
	return SD_OK;
}

static enum sd_result reader_finish(struct sd_source *source, struct sd_error *err)
{
	struct reader *r = (struct reader *)source;
	struct sd_bytes payload = {0};
	struct sd_view view;
	uint64_t records = 0, bytes = 0;
	struct frame f;
	size_t more = r->filled - r->at;
	enum sd_result result = take_frame(r, &f, err);

	if (result == SD_OK && f.kind != KIND_END)
		result = unexpected(&f, "where the end is due", err);
	if (result == SD_OK)
		result = take_payload(r, &f, ALIGN, &payload, err);
	if (result != SD_OK) {
		free(payload.data);
		return result;
	}
	view = (struct sd_view){payload.data, payload.data + payload.length};
	if (!payload.data || !sd_view_u64(&view, &records) || !sd_view_u64(&view, &bytes) || records != r->records ||
	    bytes != r->bytes)
		result = sd_fail(err, SD_INPUT, "the stream's end counts %" PRIu64 " records and %" PRIu64
				 " bytes, but %" PRIu64 " and %" PRIu64 " came",
				 records, bytes, r->records, r->bytes);
	free(payload.data);
	more = r->filled - r->at;
	if (result == SD_OK && more == 0)
		result = sd_read_some(r->fd, r->buffer, 1, &more, err);
	if (result == SD_OK && more)
		result = sd_fail(err, SD_INPUT,
				 "there are bytes after the end of the stream; to join streams use: sd-cat a.sds b.sds");
	return result;
}

static void reader_close(struct sd_source *source)
{
	struct reader *r = (struct reader *)source;

	sd_manifest_free(source->manifest);
	free(r->manifest.data);
	close(r->fd);
	free(r);
}

static const struct sd_source_ops reader_ops = {reader_next, reader_finish, reader_close};

static void ask_for_room(int fd)
{
	struct stat st;

	/* A larger pipe is three times faster; unprivileged users may be refused one. */
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
		(void)fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE);
}

enum sd_result sd_stream_open(int fd, struct sd_source **source, struct sd_error *err)
{
	unsigned char rest[ALIGN - SD_STREAM_MAGIC_LENGTH];
	struct reader *r = calloc(1, sizeof(*r));
	enum sd_result result;

	*source = NULL;
	if (!r) {
		close(fd);
		return sd_fail_memory(err);
	}
	r->fd = fd;
	r->source.ops = &reader_ops;
	r->source.manifest = sd_manifest_new();
	ask_for_room(fd);
	result = r->source.manifest ? take(r, rest, sizeof(rest), err) : sd_fail_memory(err);
	if (result == SD_OK && (rest[0] | rest[1] << 8) != MAJOR)
		result = sd_fail(err, SD_INPUT, "a stream of version %d.%d, but this program reads version %d: use the same release of sd-tools throughout",
				 rest[0] | rest[1] << 8, rest[2] | rest[3] << 8, MAJOR);
	if (result == SD_OK)
		result = take_head(r, err);
	if (result != SD_OK) {
		reader_close(&r->source);
		return result;
	}
	*source = &r->source;
	return SD_OK;
}

/* ---- writing ---- */

struct writer {
	struct sd_sink sink;
	int fd;
	char tool[24];
	const struct sd_manifest *manifest;
	bool begun, ended;
	uint64_t records, bytes;
	uint32_t record;   /* the current one */
	uint64_t position; /* in it */
	uint64_t owed;     /* payload and padding that the last header promised and that is not written */
	unsigned char buffer[BUFFER];
	size_t filled;
};

static enum sd_result flush(struct writer *w, struct sd_error *err)
{
	size_t n = w->filled;

	w->filled = 0;
	return sd_write_all(w->fd, w->buffer, n, err);
}

static enum sd_result put(struct writer *w, const void *data, size_t length, struct sd_error *err)
{
	if (length > sizeof(w->buffer) - w->filled) {
		enum sd_result result = flush(w, err);

		if (result != SD_OK)
			return result;
	}
	if (length > sizeof(w->buffer))
		return sd_write_all(w->fd, data, length, err);
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

static enum sd_result put_header(struct writer *w, const struct frame *f, struct sd_error *err)
{
	unsigned char head[ALIGN];
	enum sd_result result;

	frame_pack(f, head);
	result = put(w, head, sizeof(head), err);
	if (result == SD_OK)
		w->owed = f->length + padding(f->length);
	return result;
}

/* A frame whose payload is in memory. */
static enum sd_result put_frame(struct writer *w, uint32_t kind, const struct sd_bytes *payload, struct sd_error *err)
{
	struct frame f = {.kind = kind, .length = payload->length};
	enum sd_result result = put_header(w, &f, err);

	if (result == SD_OK)
		result = put(w, payload->data, payload->length, err);
	if (result == SD_OK)
		result = put_zeros(w, padding(payload->length), err);
	if (result == SD_OK)
		w->owed = 0;
	return result;
}

static enum sd_result put_prelude(struct writer *w, struct sd_error *err)
{
	unsigned char prelude[ALIGN] = SD_STREAM_MAGIC;

	w->begun = true;
	prelude[SD_STREAM_MAGIC_LENGTH] = MAJOR;
	prelude[SD_STREAM_MAGIC_LENGTH + 2] = MINOR;
	ask_for_room(w->fd);
	return put(w, prelude, sizeof(prelude), err);
}

static bool pack_meta(const struct sd_manifest *m, struct sd_bytes *out)
{
	bool good = sd_bytes_u32(out, (uint32_t)m->nmetadata) && sd_bytes_u32(out, 0);

	for (size_t i = 0; i < m->nmetadata && good; i++)
		good = sd_bytes_text(out, m->metadata[i].key) && sd_bytes_text(out, m->metadata[i].value);
	return good;
}

static enum sd_result writer_begin(struct sd_sink *sink, const struct sd_manifest *m, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	struct sd_bytes payload = {0};
	enum sd_result result = put_prelude(w, err);

	w->manifest = m;
	if (result == SD_OK)
		result = pack_meta(m, &payload) ? put_frame(w, KIND_META, &payload, err) : sd_fail_memory(err);
	for (size_t i = 0; i < m->nside && result == SD_OK; i++) {
		payload.length = 0;
		if (!sd_bytes_text(&payload, m->side[i].name) ||
		    !sd_bytes_add(&payload, m->side[i].data, m->side[i].size))
			result = sd_fail_memory(err);
		else
			result = put_frame(w, KIND_SIDE, &payload, err);
	}
	if (result == SD_OK)
		result = put(w, m->extra.data, m->extra.length, err);
	payload.length = 0;
	if (result == SD_OK)
		result = sd_wire_encode(m, &payload) ? put_frame(w, KIND_MANIFEST, &payload, err) : sd_fail_memory(err);
	free(payload.data);
	return result == SD_OK ? flush(w, err) : result;
}

/* Payload from the chunk: small ones together in the buffer, large ones straight from where they lie. */
static enum sd_result put_chunk(struct writer *w, struct sd_chunk *chunk, uint64_t length, struct sd_error *err)
{
	enum sd_result result;

	if (length <= sizeof(w->buffer) / 4) {
		if (length > sizeof(w->buffer) - w->filled) {
			result = flush(w, err);
			if (result != SD_OK)
				return result;
		}
		result = sd_chunk_read(chunk, w->buffer + w->filled, length, err);
		if (result == SD_OK)
			w->filled += (size_t)length;
	} else {
		uint64_t before = chunk->length;

		result = flush(w, err);
		if (result == SD_OK)
			result = sd_chunk_copy(chunk, w->fd, NULL, length, err);
		w->owed -= before - chunk->length;
		return result;
	}
	if (result == SD_OK)
		w->owed -= length;
	return result;
}

static enum sd_result writer_data(struct sd_sink *sink, uint32_t record, struct sd_chunk *chunk, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	enum sd_result result = SD_OK;

	if (record != w->record)
		w->position = 0;
	w->record = record;
	while (chunk->length && result == SD_OK) {
		struct frame f = {.kind = KIND_DATA, .record = record, .offset = w->position};

		f.length = chunk->length < FRAME_DATA_MAX ? chunk->length : FRAME_DATA_MAX;
		result = put_header(w, &f, err);
		if (result == SD_OK)
			result = put_chunk(w, chunk, f.length, err);
		if (result == SD_OK)
			result = put_zeros(w, padding(f.length), err);
		if (result == SD_OK) {
			w->owed = 0;
			w->position += f.length;
			w->bytes += f.length;
		}
	}
	return result;
}

static enum sd_result writer_end(struct sd_sink *sink, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	struct sd_bytes payload = {0};
	uint64_t records = 0;
	enum sd_result result;

	for (size_t i = 0; i < w->manifest->nrecords; i++)
		records += w->manifest->records[i].state == SD_HERE;
	if (!sd_bytes_u64(&payload, records) || !sd_bytes_u64(&payload, w->bytes))
		result = sd_fail_memory(err);
	else
		result = put_frame(w, KIND_END, &payload, err);
	free(payload.data);
	w->ended = true;
	return result == SD_OK ? flush(w, err) : result;
}

/* Whether a program reads what goes to fd: only then can it say what the abort says. */
static bool someone_reads(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

static void writer_abort(struct sd_sink *sink, struct sd_error *err)
{
	struct writer *w = (struct writer *)sink;
	struct sd_bytes payload = {0};
	enum sd_result result = SD_OK;

	if (w->ended || err->said) /* after an EPIPE or a signal nothing can be sent */
		return;
	w->ended = true;
	if (!w->begun)
		result = put_prelude(w, NULL);
	if (result == SD_OK)
		result = put_zeros(w, w->owed, NULL);
	if (result == SD_OK && sd_bytes_u32(&payload, err->result) && sd_bytes_u32(&payload, 0) &&
	    sd_bytes_text(&payload, err->tool[0] ? err->tool : w->tool) && sd_bytes_text(&payload, err->text) &&
	    put_frame(w, KIND_ABORT, &payload, NULL) == SD_OK && flush(w, NULL) == SD_OK)
		err->said = someone_reads(w->fd);
	free(payload.data);
}

static void writer_close(struct sd_sink *sink)
{
	free(sink);
}

static const struct sd_sink_ops writer_ops = {writer_begin, writer_data, writer_end, writer_abort, writer_close};

struct sd_sink *sd_stream_sink(int fd, const char *tool)
{
	struct writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->sink.ops = &writer_ops;
	w->fd = fd;
	w->record = SD_NO_RECORD;
	strncpy(w->tool, tool, sizeof(w->tool) - 1);
	return &w->sink;
}
