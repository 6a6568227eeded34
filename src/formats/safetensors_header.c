/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of safetensors files, read with all checks and written as the safetensors library writes them. */
#include "formats/safetensors_header.h"
#include "base/checked.h"
#include "base/json.h"
#include "base/memstream.h"
#include "base/names.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum field {
	NO_FIELD,
	DTYPE = 1,
	SHAPE = 2,
	OFFSETS = 4,
	ALL_FIELDS = DTYPE | SHAPE | OFFSETS,
};

struct reader {
	const struct sd_limits *limits;
	struct sd_safetensors *st;
	struct sd_names names, metadata_names;
	bool in_metadata, had_metadata;
	const char *metadata_key;
	/* The tensor that is being read. */
	struct sd_tensor tensor;
	uint64_t shape[SD_RANK_MAX];
	unsigned fields;
	enum field field; /* whose value comes next */
	unsigned noffsets;
};

uint64_t sd_safetensors_length(const unsigned char bytes[SD_SAFETENSORS_LENGTH])
{
	uint64_t length = 0;

	for (int i = SD_SAFETENSORS_LENGTH; i-- > 0;)
		length = length << 8 | bytes[i];
	return length;
}

/* A copy of a text that may be a C string. */
static enum sd_result take_text(struct reader *r, const struct sd_json_token *token, const char **text,
				struct sd_error *err)
{
	if (memchr(token->text, '\0', token->length))
		return sd_fail(err, SD_INPUT, "a NUL character in \"%.*s\"", (int)token->length, token->text);
	*text = sd_arena_text(&r->st->arena, token->text, token->length);
	return *text ? SD_OK : sd_fail_memory(err);
}

static enum sd_result begin_tensor(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	uint32_t number = (uint32_t)r->st->ntensors, known;

	if (sd_json_is(token, "__metadata__")) {
		if (r->had_metadata)
			return sd_fail(err, SD_INPUT, "__metadata__ is there twice");
		r->had_metadata = r->in_metadata = true;
		return SD_OK;
	}
	r->in_metadata = false;
	r->tensor = (struct sd_tensor){0};
	r->fields = 0;
	r->field = NO_FIELD;
	if (sd_limits_check_name(r->limits, token->text, token->length, err) != SD_OK ||
	    sd_limits_check(r->limits, SD_LIMIT_TENSORS, r->st->ntensors + 1, "the header has at least", err) !=
		    SD_OK ||
	    take_text(r, token, &r->tensor.name, err) != SD_OK)
		return err->result;
	known = sd_names_add(&r->names, r->tensor.name, number);
	if (known == SD_NO_NAME)
		return sd_fail_memory(err);
	return known == number ? SD_OK : sd_fail(err, SD_INPUT, "the key %s is there twice", r->tensor.name);
}

static enum sd_result take_metadata(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	struct sd_safetensors *st = r->st;
	struct sd_entry entry = {.key = r->metadata_key};

	if (token->kind == SD_JSON_OBJECT_END && token->depth == 1)
		return SD_OK;
	if (token->kind == SD_JSON_OBJECT && token->depth == 1)
		return SD_OK;
	/* As the safetensors library reads it: there is none. */
	if (token->kind == SD_JSON_WORD && token->depth == 1 && sd_json_is(token, "null"))
		return SD_OK;
	if (token->kind == SD_JSON_KEY) {
		if (take_text(r, token, &r->metadata_key, err) != SD_OK)
			return err->result;
		if (sd_names_find(&r->metadata_names, r->metadata_key) != SD_NO_NAME)
			return sd_fail(err, SD_INPUT, "__metadata__ has %s twice", r->metadata_key);
		return sd_names_add(&r->metadata_names, r->metadata_key, 0) == 0 ? SD_OK : sd_fail_memory(err);
	}
	if (token->kind != SD_JSON_STRING || token->depth != 2)
		return sd_fail(err, SD_INPUT, "__metadata__ must hold texts only%s%s",
			       r->metadata_key ? ", but not so its entry " : "",
			       r->metadata_key ? r->metadata_key : "");
	if (take_text(r, token, &entry.value, err) != SD_OK)
		return err->result;
	if (st->nmetadata == SD_METADATA_MAX)
		return sd_fail(err, SD_INPUT, "__metadata__ has more than %d entries", SD_METADATA_MAX);
	if (!sd_array_grow(&st->metadata, st->nmetadata, &st->metadata_room, sizeof(*st->metadata)))
		return sd_fail_memory(err);
	st->metadata[st->nmetadata++] = entry;
	return SD_OK;
}

static enum sd_result begin_field(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	static const struct {
		const char *name;
		enum field field;
	} known[] = {{"dtype", DTYPE}, {"shape", SHAPE}, {"data_offsets", OFFSETS}};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strlen(known[i].name) == token->length && memcmp(known[i].name, token->text, token->length) == 0) {
			if (r->fields & known[i].field)
				return sd_fail(err, SD_INPUT, "%s has %s twice", r->tensor.name, known[i].name);
			r->field = known[i].field;
			r->fields |= known[i].field;
			return SD_OK;
		}
	return sd_fail(err, SD_INPUT, "%s has an unknown field \"%.*s\"", r->tensor.name, (int)token->length,
		       token->text);
}

static enum sd_result take_number(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	struct sd_tensor *t = &r->tensor;
	uint64_t number;

	if (!sd_json_integer(token, &number))
		return sd_fail(err, SD_INPUT, "%s has %.*s where its %s must have whole numbers from 0 to 2^64-1",
			       t->name, (int)token->length, token->text, r->field == SHAPE ? "shape" : "data_offsets");
	if (r->field == SHAPE) {
		if (sd_limits_check(r->limits, SD_LIMIT_RANK, t->rank + 1, "it has at least", err) != SD_OK)
			return sd_error_at(err, "%s", t->name);
		r->shape[t->rank++] = number;
	} else {
		if (r->noffsets == 2)
			return sd_fail(err, SD_INPUT, "%s has more than two data_offsets", t->name);
		*(r->noffsets++ ? &t->end : &t->begin) = number;
	}
	return SD_OK;
}

/* The tokens inside of a tensor's object. */
static enum sd_result take_field(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	struct sd_tensor *t = &r->tensor;
	bool list = r->field == SHAPE || r->field == OFFSETS;

	if (token->depth == 2) {
		if (token->kind == SD_JSON_KEY)
			return begin_field(r, token, err);
		if (token->kind == SD_JSON_STRING && r->field == DTYPE) {
			t->dtype = (uint8_t)sd_dtype_parse(token->text, token->length);
			if (t->dtype && memcmp(sd_dtype_name(t->dtype), token->text, token->length) == 0)
				return SD_OK;
			return sd_fail(err, SD_INPUT, "%s has the unknown dtype \"%.*s\"", t->name, (int)token->length,
				       token->text);
		}
		if (token->kind == SD_JSON_ARRAY && list) {
			r->noffsets = 0;
			return SD_OK;
		}
		if (token->kind == SD_JSON_ARRAY_END && list) {
			if (r->field == OFFSETS && r->noffsets != 2)
				return sd_fail(err, SD_INPUT, "%s has fewer than two data_offsets", t->name);
			return SD_OK;
		}
	} else if (token->depth == 3 && list) {
		return take_number(r, token, err);
	}
	return sd_fail(err, SD_INPUT, "%s has a %s of the wrong kind", t->name,
		       r->field == DTYPE   ? "dtype"
		       : r->field == SHAPE ? "shape"
					   : "data_offsets");
}

/* Whether the offsets are as long as the dtype and shape say. */
static enum sd_result check_size(const struct sd_tensor *t, struct sd_error *err)
{
	char shape[SD_SHAPE_TEXT];
	uint64_t count, bytes;

	if (!sd_shape_count(t->shape, t->rank, &count) || !sd_dtype_bytes(t->dtype, count, &bytes))
		return sd_fail(err, SD_INPUT, "%s: %s of %s is no possible size", t->name,
			       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)), sd_dtype_name(t->dtype));
	if (t->end < t->begin || t->end - t->begin != bytes)
		return sd_fail(err, SD_INPUT,
			       "%s: data_offsets [%" PRIu64 ", %" PRIu64 "] don't fit %s of %s, which has %" PRIu64
			       " bytes",
			       t->name, t->begin, t->end, sd_shape_text(t->shape, t->rank, shape, sizeof(shape)),
			       sd_dtype_name(t->dtype), bytes);
	return SD_OK;
}

static enum sd_result end_tensor(struct reader *r, struct sd_error *err)
{
	struct sd_safetensors *st = r->st;
	struct sd_tensor *t = &r->tensor;

	if (r->fields != ALL_FIELDS)
		return sd_fail(err, SD_INPUT, "%s has no %s", t->name,
			       !(r->fields & DTYPE)   ? "dtype"
			       : !(r->fields & SHAPE) ? "shape"
						      : "data_offsets");
	t->shape = sd_arena_copy(&st->arena, r->shape, t->rank * sizeof(*r->shape));
	if (!t->shape || !sd_array_grow(&st->tensors, st->ntensors, &st->tensors_room, sizeof(*st->tensors)))
		return sd_fail_memory(err);
	if (check_size(t, err) != SD_OK)
		return err->result;
	st->tensors[st->ntensors++] = *t;
	return SD_OK;
}

static enum sd_result take(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct reader *r = user;

	if (token->depth == 0) {
		if (token->kind == SD_JSON_OBJECT || token->kind == SD_JSON_OBJECT_END)
			return SD_OK;
		return sd_fail(err, SD_INPUT, "the header is no JSON object");
	}
	if (token->depth == 1 && token->kind == SD_JSON_KEY)
		return begin_tensor(r, token, err);
	if (r->in_metadata)
		return take_metadata(r, token, err);
	if (token->depth > 1)
		return take_field(r, token, err);
	if (token->kind == SD_JSON_OBJECT)
		return SD_OK;
	if (token->kind == SD_JSON_OBJECT_END)
		return end_tensor(r, err);
	return sd_fail(err, SD_INPUT, "%s is no tensor: it must be an object", r->tensor.name);
}

static int by_place(const void *a, const void *b)
{
	const struct sd_tensor *const *x = a, *const *y = b;

	if ((*x)->begin != (*y)->begin)
		return (*x)->begin < (*y)->begin ? -1 : 1;
	if ((*x)->end != (*y)->end)
		return (*x)->end < (*y)->end ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

static enum sd_result sort(struct sd_safetensors *st, struct sd_error *err)
{
	const struct sd_tensor **order;
	struct sd_tensor *sorted;
	size_t n = 1;

	/* The library writes them in order, and so does everybody. */
	while (n < st->ntensors && st->tensors[n - 1].end <= st->tensors[n].begin)
		n++;
	if (n >= st->ntensors)
		return SD_OK;
	order = calloc(st->ntensors + 1, sizeof(*order));
	sorted = calloc(st->ntensors + 1, sizeof(*sorted));
	if (!order || !sorted) {
		free(order);
		free(sorted);
		return sd_fail_memory(err);
	}
	for (size_t i = 0; i < st->ntensors; i++)
		order[i] = &st->tensors[i];
	qsort(order, st->ntensors, sizeof(*order), by_place);
	for (size_t i = 0; i < st->ntensors; i++)
		sorted[i] = *order[i];
	free(order);
	free(st->tensors);
	st->tensors = sorted;
	st->tensors_room = st->ntensors + 1;
	return SD_OK;
}

/* Tensors must fill the data without holes and overlaps. */
static enum sd_result check_places(struct sd_safetensors *st, uint64_t data_bytes, struct sd_error *err)
{
	uint64_t position = 0;

	for (size_t i = 0; i < st->ntensors; i++) {
		const struct sd_tensor *t = &st->tensors[i];

		if (t->begin > position && i == 0)
			return sd_fail(err, SD_INPUT,
				       "the first tensor, %s, begins at byte %" PRIu64 " of the data, not at 0",
				       t->name, t->begin);
		if (t->begin > position)
			return sd_fail(err, SD_INPUT,
				       "a hole of %" PRIu64 " bytes between %s and %s, at byte %" PRIu64 " of the data",
				       t->begin - position, st->tensors[i - 1].name, t->name, position);
		if (t->begin < position)
			return sd_fail(err, SD_INPUT, "%s and %s overlap at byte %" PRIu64 " of the data",
				       st->tensors[i - 1].name, t->name, t->begin);
		position = t->end;
	}
	st->data_bytes = position;
	if (data_bytes == SD_UNKNOWN_SIZE || data_bytes == position)
		return SD_OK;
	if (position > data_bytes)
		return sd_fail(err, SD_INPUT,
			       "truncated: the header announces %" PRIu64 " bytes of data, the file has %" PRIu64,
			       position, data_bytes);
	return sd_fail(err, SD_INPUT,
		       "%" PRIu64 " bytes too many: the header announces %" PRIu64
		       " bytes of data, the file has %" PRIu64,
		       data_bytes - position, position, data_bytes);
}

/* A tensor takes about so many bytes of a header: with fewer, the table of names grows once. */
#define TENSOR_BYTES 128

enum sd_result sd_safetensors_parse(const char *header, size_t length, uint64_t data_bytes,
				    const struct sd_limits *limits, struct sd_safetensors *out, struct sd_error *err)
{
	struct reader r = {.limits = limits, .st = out};
	enum sd_result result;

	if (length == 0 || header[0] != '{')
		return sd_fail(err, SD_INPUT, "the header does not begin with {");
	result = sd_names_reserve(&r.names, length / TENSOR_BYTES) ? SD_OK : sd_fail_memory(err);
	if (result == SD_OK)
		result = sd_json_parse(header, length, take, &r, err);
	sd_names_free(&r.names);
	sd_names_free(&r.metadata_names);
	if (result == SD_OK)
		result = sort(out, err);
	if (result == SD_OK)
		result = check_places(out, data_bytes, err);
	return result;
}

void sd_safetensors_free(struct sd_safetensors *st)
{
	sd_arena_free(&st->arena);
	free(st->tensors);
	free(st->metadata);
	*st = (struct sd_safetensors){0};
}

const char *sd_safetensors_metadata(const struct sd_safetensors *st, const char *key)
{
	for (size_t i = 0; i < st->nmetadata; i++)
		if (strcmp(st->metadata[i].key, key) == 0)
			return st->metadata[i].value;
	return NULL;
}

int sd_safetensors_order(const void *a, const void *b)
{
	const struct sd_tensor *x = a, *y = b;

	return x->dtype != y->dtype ? (x->dtype < y->dtype ? -1 : 1) : strcmp(x->name, y->name);
}

static void write_tensor(FILE *out, const struct sd_tensor *t)
{
	sd_json_write(out, t->name, SD_JSON_UTF8);
	fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", sd_dtype_name(t->dtype));
	for (uint32_t i = 0; i < t->rank; i++)
		fprintf(out, "%s%" PRIu64, i ? "," : "", t->shape[i]);
	fprintf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t->begin, t->end);
}

static void write_header(FILE *out, const struct sd_tensor *tensors, size_t ntensors, const struct sd_entry *metadata,
			 size_t nmetadata)
{
	fputs("01234567{", out); /* room for the length */
	if (nmetadata) {
		fputs("\"__metadata__\":{", out);
		for (size_t i = 0; i < nmetadata; i++) {
			if (i)
				putc(',', out);
			sd_json_write(out, metadata[i].key, SD_JSON_UTF8);
			putc(':', out);
			sd_json_write(out, metadata[i].value, SD_JSON_UTF8);
		}
		fputs(ntensors ? "}," : "}", out);
	}
	for (size_t i = 0; i < ntensors; i++) {
		if (i)
			putc(',', out);
		write_tensor(out, &tensors[i]);
	}
	putc('}', out);
}

enum sd_result sd_safetensors_header(struct sd_tensor *tensors, size_t ntensors, const struct sd_entry *metadata,
				     size_t nmetadata, char **header, size_t *length, struct sd_error *err)
{
	uint64_t position = 0, json;
	struct sd_memstream *stream;
	FILE *out;

	*header = NULL;
	for (size_t i = 0; i < ntensors; i++) {
		uint64_t count, bytes;

		tensors[i].begin = position;
		if (!sd_shape_count(tensors[i].shape, tensors[i].rank, &count) ||
		    !sd_dtype_bytes(tensors[i].dtype, count, &bytes) || !sd_add(position, bytes, &position))
			return sd_fail(err, SD_INPUT, "%s makes the file too large", tensors[i].name);
		tensors[i].end = position;
	}
	stream = sd_memstream_open(&out);
	if (!stream)
		return sd_fail_memory(err);
	write_header(out, tensors, ntensors, metadata, nmetadata);
	for (size_t n = sd_memstream_length(stream); n % 8; n++)
		putc(' ', out);
	if (!sd_memstream_close(stream, header, length))
		return sd_fail_memory(err);
	json = *length - SD_SAFETENSORS_LENGTH;
	if (json > SD_SAFETENSORS_HEADER_MAX) {
		free(*header);
		*header = NULL;
		return sd_fail(err, SD_INPUT,
			       "the header of %zu tensors has %" PRIu64 " bytes, more than safetensors allows (%u): "
			       "write a directory of smaller shards, with --shard-size",
			       ntensors, json, SD_SAFETENSORS_HEADER_MAX);
	}
	for (int i = 0; i < SD_SAFETENSORS_LENGTH; i++)
		(*header)[i] = (char)(json >> (8 * i) & 0xFF);
	return SD_OK;
}
