/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest as bytes. */
#include "model/manifest_codec.h"
#include "base/text.h"

#include <errno.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum {
	TARGET_MOVED = 1,    /* flags of a target: a move is written down */
	FIELD_NUMBER = 1,    /* of a target that was one of several */
	FIELD_LACK = 2,      /* of a record that is missing */
	FIELD_VALUE = 3,     /* of a record: its data */
	FIELD_STEP = 0x8001, /* fields with the highest bit set must be understood */
	FIELD_REQUIRED = 0x8000,
	PART = 32 * 1024,
};

static bool make_room(struct sd_bytes *bytes, size_t length)
{
	size_t room = bytes->room ? bytes->room : 4096;
	unsigned char *p;

	while (room - bytes->length < length) {
		if (room > SIZE_MAX / 2)
			return false;
		room *= 2;
	}
	p = realloc(bytes->data, room);
	if (!p)
		return false;
	bytes->data = p;
	bytes->room = room;
	return true;
}

/* A manifest is some dozen numbers a tensor: inline, each is one store. */
static inline bool add(struct sd_bytes *bytes, const void *data, size_t length)
{
	if (length > bytes->room - bytes->length && !make_room(bytes, length))
		return false;
	if (length)
		memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
	return true;
}

bool sd_bytes_add(struct sd_bytes *bytes, const void *data, size_t length)
{
	return add(bytes, data, length);
}

bool sd_bytes_pad(struct sd_bytes *bytes, size_t step)
{
	static const char zeros[64];

	return sd_bytes_add(bytes, zeros, (step - bytes->length % step) % step);
}

bool sd_bytes_u32(struct sd_bytes *bytes, uint32_t value)
{
	value = htole32(value);
	return add(bytes, &value, sizeof(value));
}

bool sd_bytes_u64(struct sd_bytes *bytes, uint64_t value)
{
	value = htole64(value);
	return add(bytes, &value, sizeof(value));
}

bool sd_bytes_text(struct sd_bytes *bytes, const char *text)
{
	size_t length = strlen(text);

	return length <= UINT32_MAX && sd_bytes_u32(bytes, (uint32_t)length) && sd_bytes_add(bytes, text, length + 1) &&
	       sd_bytes_pad(bytes, 8);
}

bool sd_view_u32(struct sd_view *view, uint32_t *value)
{
	if ((size_t)(view->end - view->at) < sizeof(*value))
		return false;
	memcpy(value, view->at, sizeof(*value));
	*value = le32toh(*value);
	view->at += sizeof(*value);
	return true;
}

bool sd_view_u64(struct sd_view *view, uint64_t *value)
{
	if ((size_t)(view->end - view->at) < sizeof(*value))
		return false;
	memcpy(value, view->at, sizeof(*value));
	*value = le64toh(*value);
	view->at += sizeof(*value);
	return true;
}

bool sd_view_text(struct sd_view *view, const char **text)
{
	uint32_t length;
	size_t whole;

	if (!sd_view_u32(view, &length))
		return false;
	whole = ((size_t)length + 4 + 1 + 7) / 8 * 8 - 4;
	if ((size_t)(view->end - view->at) < whole || view->at[length] != '\0' ||
	    !sd_text_is_utf8((const char *)view->at, length))
		return false;
	*text = (const char *)view->at;
	view->at += whole;
	return true;
}

/* Numbers that lie in the payload as an array: in place. */
static bool view_array(struct sd_view *view, size_t count, const uint64_t **array)
{
	uint64_t *p = (uint64_t *)(void *)view->at;

	if ((size_t)(view->end - view->at) / sizeof(*p) < count)
		return false;
	for (size_t i = 0; i < count; i++)
		p[i] = le64toh(p[i]);
	*array = p;
	view->at += count * sizeof(*p);
	return true;
}

static bool encode_array(struct sd_bytes *out, const uint64_t *array, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!sd_bytes_u64(out, array[i]))
			return false;
	return true;
}

/* An entry begins with its size, which is known when it is there. */
static bool end_entry(struct sd_bytes *out, size_t begin)
{
	size_t size = out->length - begin;
	uint32_t value;

	if (size > UINT32_MAX)
		return false;
	value = htole32((uint32_t)size);
	memcpy(out->data + begin, &value, sizeof(value));
	return true;
}

static bool encode_lack(const char *lack, struct sd_bytes *out)
{
	size_t begin;
	uint32_t length;

	if (!sd_bytes_u32(out, FIELD_LACK) || !sd_bytes_u32(out, 0))
		return false;
	begin = out->length;
	if (!sd_bytes_text(out, lack))
		return false;
	length = htole32((uint32_t)(out->length - begin));
	memcpy(out->data + begin - sizeof(length), &length, sizeof(length));
	return true;
}

static bool encode_value(const struct sd_record *r, struct sd_bytes *out)
{
	return sd_bytes_u32(out, FIELD_VALUE) && sd_bytes_u32(out, (uint32_t)r->bytes) &&
	       sd_bytes_add(out, r->value, r->bytes) && sd_bytes_pad(out, 8);
}

static bool encode_record(const struct sd_record *r, struct sd_bytes *out)
{
	const unsigned char head[4] = {r->dtype, r->state, (unsigned char)r->rank, 0};
	size_t begin = out->length;

	return sd_bytes_u32(out, 0) && sd_bytes_add(out, head, sizeof(head)) && encode_array(out, r->shape, r->rank) &&
	       sd_bytes_text(out, r->key) && (!r->lack || encode_lack(r->lack, out)) &&
	       (!r->value || encode_value(r, out)) && sd_bytes_add(out, r->extra.data, r->extra.length) &&
	       end_entry(out, begin);
}

static bool encode_move(const struct sd_move *move, struct sd_bytes *out)
{
	if (!sd_bytes_u64(out, move->from) || !sd_bytes_u64(out, move->to))
		return false;
	for (uint32_t i = 0; i < move->rank; i++)
		if (!sd_bytes_u64(out, move->dim[i].size) || !sd_bytes_u64(out, move->dim[i].from) ||
		    !sd_bytes_u64(out, move->dim[i].to))
			return false;
	return true;
}

static bool encode_step(const struct sd_step *step, struct sd_bytes *out)
{
	const uint16_t head[2] = {htole16(step->kind), htole16(step->dtype)};

	if (!sd_bytes_u32(out, FIELD_STEP) || !sd_bytes_u32(out, 16 + step->rank * 16) ||
	    !sd_bytes_add(out, head, sizeof(head)) || !sd_bytes_u32(out, step->operand) ||
	    !sd_bytes_u32(out, step->param) || !sd_bytes_u32(out, step->rank))
		return false;
	for (uint32_t i = 0; i < step->rank; i++)
		if (!sd_bytes_u64(out, step->blocks[i].block) || !sd_bytes_u64(out, step->blocks[i].stride))
			return false;
	return true;
}

static bool encode_target(const struct sd_target *t, struct sd_bytes *out)
{
	const unsigned char head[4] = {t->dtype, (unsigned char)t->rank, t->move ? TARGET_MOVED : 0,
				       t->move ? (unsigned char)t->move->rank : 0};
	size_t begin = out->length;

	if (!sd_bytes_u32(out, 0) || !sd_bytes_u32(out, t->record) || !sd_bytes_add(out, head, sizeof(head)) ||
	    !sd_bytes_u32(out, t->labels) || !encode_array(out, t->shape, t->rank) ||
	    (t->move && !encode_move(t->move, out)) || !sd_bytes_text(out, t->name))
		return false;
	for (uint32_t i = 0; i < t->nsteps; i++)
		if (!encode_step(&t->steps[i], out))
			return false;
	if (t->of && (!sd_bytes_u32(out, FIELD_NUMBER) || !sd_bytes_u32(out, 16) || !sd_bytes_u64(out, t->number) ||
		      !sd_bytes_u64(out, t->of)))
		return false;
	return sd_bytes_add(out, t->extra.data, t->extra.length) && end_entry(out, begin);
}

static bool encode_head(const struct sd_manifest *m, struct sd_bytes *out)
{
	if (!sd_bytes_u64(out, m->nrecords) || !sd_bytes_u64(out, m->ntargets) || !sd_bytes_u32(out, m->nlabels) ||
	    !sd_bytes_u32(out, 0))
		return false;
	for (uint32_t i = 0; i < m->nlabels; i++)
		if (!sd_bytes_text(out, m->labels[i]))
			return false;
	return true;
}

/* Whole entries are given on when there is much of them; all are multiples of 8, so the padding stays right. */
static enum sd_result give(struct sd_bytes *part, size_t least, sd_manifest_take_bytes *take, void *context,
			   struct sd_error *err)
{
	enum sd_result result;

	if (part->length < least)
		return SD_OK;
	result = take(context, part, err);
	part->length = 0;
	return result;
}

enum sd_result sd_manifest_encode(const struct sd_manifest *m, sd_manifest_take_bytes *take, void *context,
				  struct sd_error *err)
{
	struct sd_bytes part = {0};
	enum sd_result result = encode_head(m, &part) ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < m->nrecords && result == SD_OK; i++)
		result = encode_record(&m->records[i], &part) ? give(&part, PART, take, context, err)
							      : sd_fail_memory(err);
	for (size_t i = 0; i < m->ntargets && result == SD_OK; i++)
		result = encode_target(&m->targets[i], &part) ? give(&part, PART, take, context, err)
							      : sd_fail_memory(err);
	if (result == SD_OK)
		result = give(&part, 1, take, context, err);
	free(part.data);
	return result;
}

/* Cuts the next entry, a multiple of 8 bytes, off the view; at stands behind its size. */
static bool next_entry(struct sd_view *view, struct sd_view *entry)
{
	unsigned char *begin = view->at;
	uint32_t size;

	if (!sd_view_u32(view, &size) || size < 8 || size % 8 || size > (size_t)(view->end - begin))
		return false;
	*entry = (struct sd_view){begin + 4, begin + size};
	view->at = begin + size;
	return true;
}

static bool decode_step(struct sd_view field, struct sd_manifest *m, struct sd_step *step)
{
	uint32_t head;
	const uint64_t *numbers;
	struct sd_block *blocks;

	if (!sd_view_u32(&field, &head) || !sd_view_u32(&field, &step->operand) || !sd_view_u32(&field, &step->param) ||
	    !sd_view_u32(&field, &step->rank) || step->rank > SD_RANK_MAX ||
	    !view_array(&field, step->rank * 2, &numbers))
		return false;
	step->kind = (uint16_t)head;
	step->dtype = (uint16_t)(head >> 16);
	blocks = sd_arena_array(&m->arena, step->rank, sizeof(*blocks));
	if (!blocks)
		return false;
	for (uint32_t i = 0; i < step->rank; i++)
		blocks[i] = (struct sd_block){numbers[2 * i], numbers[2 * i + 1]};
	step->blocks = blocks;
	return true;
}

/*
 * The fields behind an entry, a record's or a target's: u32 tag, u32 length, data padded to 8. Those that are known are
 * taken, others that need not be understood are kept as they came.
 */
static bool decode_fields(struct sd_view view, struct sd_manifest *m, struct sd_record *record,
			  struct sd_target *target)
{
	struct sd_extra *extra = record ? &record->extra : &target->extra;
	struct sd_bytes unknown = {0};
	struct sd_step *steps = NULL;
	size_t nsteps = 0, room = 0;
	bool good = true;

	while (good && view.at < view.end) {
		unsigned char *begin = view.at;
		uint32_t tag, length;
		struct sd_view field;

		good = sd_view_u32(&view, &tag) && sd_view_u32(&view, &length) &&
		       length <= (size_t)(view.end - view.at);
		if (!good)
			break;
		field = (struct sd_view){view.at, view.at + length};
		view.at += ((size_t)length + 7) / 8 * 8; /* the entry's size is a multiple of 8 */
		if (target && tag == FIELD_STEP)
			good = sd_array_grow(&steps, nsteps, &room, sizeof(*steps)) && nsteps < 64 &&
			       decode_step(field, m, &steps[nsteps++]);
		else if (target && tag == FIELD_NUMBER)
			good = sd_view_u64(&field, &target->number) && sd_view_u64(&field, &target->of) && target->of;
		else if (record && tag == FIELD_LACK)
			good = sd_view_text(&field, &record->lack);
		else if (record && tag == FIELD_VALUE && length == record->bytes && length <= SD_VALUE_MAX)
			record->value = field.at;
		else
			good = !(tag & FIELD_REQUIRED) && sd_bytes_add(&unknown, begin, (size_t)(view.at - begin));
	}
	if (good && nsteps) {
		target->steps = sd_arena_copy(&m->arena, steps, nsteps * sizeof(*steps));
		target->nsteps = (uint32_t)nsteps;
		good = target->steps;
	}
	if (good && unknown.length) {
		extra->data = sd_arena_copy(&m->arena, unknown.data, unknown.length);
		extra->length = unknown.length;
		good = extra->data;
	}
	free(steps);
	free(unknown.data);
	return good;
}

static bool decode_record(struct sd_view entry, struct sd_manifest *m)
{
	struct sd_record r = {0};
	uint64_t count;

	r.dtype = entry.at[0];
	r.state = entry.at[1];
	r.rank = entry.at[2];
	entry.at += 4;
	if (r.rank > SD_RANK_MAX || !view_array(&entry, r.rank, &r.shape) || !sd_view_text(&entry, &r.key))
		return false;
	/* What has no size is found by sd_manifest_check, which names it. */
	if (!sd_shape_count(r.shape, r.rank, &count) || !sd_dtype_bytes(r.dtype, count, &r.bytes))
		r.bytes = 0;
	return decode_fields(entry, m, &r, NULL) && sd_manifest_add_record(m, &r);
}

static bool decode_move(struct sd_view *entry, uint32_t rank, struct sd_manifest *m, const struct sd_move **out)
{
	const uint64_t *numbers;
	struct sd_move *move;

	if (rank > SD_MOVE_RANK || !view_array(entry, 2 + 3 * rank, &numbers))
		return false;
	move = sd_arena_alloc(&m->arena, offsetof(struct sd_move, dim) + rank * sizeof(move->dim[0]));
	if (!move)
		return false;
	move->from = numbers[0];
	move->to = numbers[1];
	move->rank = rank;
	for (uint32_t i = 0; i < rank; i++)
		move->dim[i] = (struct sd_dim){numbers[2 + 3 * i], numbers[3 + 3 * i], numbers[4 + 3 * i]};
	*out = move;
	return true;
}

static bool decode_target(struct sd_view entry, struct sd_manifest *m)
{
	struct sd_target t = {0};
	unsigned char flags, move_rank;

	if (entry.end - entry.at < 12 || !sd_view_u32(&entry, &t.record))
		return false;
	t.dtype = entry.at[0];
	t.rank = entry.at[1];
	flags = entry.at[2];
	move_rank = entry.at[3];
	entry.at += 4;
	return !(flags & ~TARGET_MOVED) && sd_view_u32(&entry, &t.labels) && !((uint64_t)t.labels >> m->nlabels) &&
	       t.rank <= SD_RANK_MAX && view_array(&entry, t.rank, &t.shape) &&
	       (!(flags & TARGET_MOVED) || decode_move(&entry, move_rank, m, &t.move)) &&
	       sd_view_text(&entry, &t.name) && decode_fields(entry, m, NULL, &t) && sd_manifest_add_target(m, &t);
}

/* What decodes says no more than that it cannot; where memory is out, malloc has said so in errno. */
static enum sd_result malformed(struct sd_error *err, const char *what, uint64_t number)
{
	if (errno == ENOMEM)
		return sd_fail_memory(err);
	return sd_fail(err, SD_INPUT, "the manifest is malformed at %s %llu", what, (unsigned long long)number);
}

/* What a record or a target is called, and its rank. */
static enum sd_result check_entry(const struct sd_limits *limits, const char *name, uint32_t rank, struct sd_error *err)
{
	enum sd_result result = sd_limits_check_name(limits, name, strlen(name), err);

	if (result == SD_OK && sd_limits_check(limits, SD_LIMIT_RANK, rank, "it has", err) != SD_OK)
		result = sd_error_at(err, "%s", name);
	return result;
}

enum sd_result sd_manifest_decode(void *data, size_t length, const struct sd_limits *limits, struct sd_manifest *m,
				  struct sd_error *err)
{
	struct sd_view view = sd_bytes_view(&(struct sd_bytes){.data = data, .length = length}), entry;
	uint64_t nrecords, ntargets;
	uint32_t zero;

	errno = 0;
	if (!sd_view_u64(&view, &nrecords) || !sd_view_u64(&view, &ntargets) || !sd_view_u32(&view, &m->nlabels) ||
	    !sd_view_u32(&view, &zero) || m->nlabels > SD_LABELS_MAX)
		return malformed(err, "byte", 0);
	for (uint32_t i = 0; i < m->nlabels; i++)
		if (!sd_view_text(&view, &m->labels[i]))
			return malformed(err, "label", i);
	if (sd_limits_check(limits, SD_LIMIT_TENSORS, nrecords, "the manifest has records of", err) != SD_OK ||
	    sd_limits_check(limits, SD_LIMIT_TENSORS, ntargets, "the manifest has targets for", err) != SD_OK)
		return SD_INPUT;
	for (uint64_t i = 0; i < nrecords; i++) {
		if (!next_entry(&view, &entry) || !decode_record(entry, m))
			return malformed(err, "record", i);
		if (check_entry(limits, m->records[i].key, m->records[i].rank, err) != SD_OK)
			return SD_INPUT;
	}
	for (uint64_t i = 0; i < ntargets; i++) {
		if (!next_entry(&view, &entry) || !decode_target(entry, m))
			return malformed(err, "target", i);
		if (check_entry(limits, m->targets[i].name, m->targets[i].rank, err) != SD_OK)
			return SD_INPUT;
	}
	if (view.at != view.end)
		return malformed(err, "its end, byte", (uint64_t)(view.at - (unsigned char *)data));
	return sd_manifest_check(m, err);
}
