/* SPDX-License-Identifier: Apache-2.0 */
/* The index of a checkpoint in several files. */
#include "formats/index.h"
#include "base/json.h"
#include "base/memstream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	const struct sd_limits *limits;
	struct sd_index *index;
	struct sd_names files; /* to index->files */
	struct sd_index_entry entry;
	bool in_map, had_map;
};

static enum sd_result take_key(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	uint32_t number = (uint32_t)r->index->nentries, known;

	if (sd_limits_check_name(r->limits, token->text, token->length, err) != SD_OK ||
	    sd_limits_check(r->limits, SD_LIMIT_TENSORS, r->index->nentries + 1, "the index has at least", err) !=
		    SD_OK)
		return err->result;
	if (memchr(token->text, '\0', token->length))
		return sd_fail(err, SD_INPUT, "a NUL character in \"%.*s\"", (int)token->length, token->text);
	r->entry.key = sd_arena_text(&r->index->arena, token->text, token->length);
	if (!r->entry.key)
		return sd_fail_memory(err);
	known = sd_names_add(&r->index->keys, r->entry.key, number);
	if (known == SD_NO_NAME)
		return sd_fail_memory(err);
	return known == number ? SD_OK : sd_fail(err, SD_INPUT, "the key %s is there twice", r->entry.key);
}

/* Neighbours are in one file, as a rule. */
static bool is_last_file(const struct sd_index *index, const struct sd_json_token *token)
{
	const char *last = index->nentries ? index->entries[index->nentries - 1].file : NULL;

	return last && strlen(last) == token->length && memcmp(last, token->text, token->length) == 0;
}

static enum sd_result add_entry(struct reader *r, struct sd_error *err)
{
	struct sd_index *index = r->index;

	if (!sd_array_grow(&index->entries, index->nentries, &index->room, sizeof(*index->entries)))
		return sd_fail_memory(err);
	index->entries[index->nentries++] = r->entry;
	return SD_OK;
}

static enum sd_result take_file(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	struct sd_index *index = r->index;
	uint32_t number;
	char *file;

	if (sd_limits_check_name(r->limits, token->text, token->length, err) != SD_OK)
		return err->result;
	if (token->length == 0 || memchr(token->text, '\0', token->length) || memchr(token->text, '/', token->length))
		return sd_fail(err, SD_INPUT, "%s: \"%.*s\" is not the name of a file beside the index", r->entry.key,
			       (int)token->length, token->text);
	if (is_last_file(index, token)) {
		r->entry.file = index->entries[index->nentries - 1].file;
		return add_entry(r, err);
	}
	file = sd_arena_text(&index->arena, token->text, token->length);
	number = file ? sd_names_add(&r->files, file, (uint32_t)index->nfiles) : SD_NO_NAME;
	if (number == SD_NO_NAME ||
	    !sd_array_grow(&index->files, index->nfiles, &index->files_room, sizeof(*index->files)))
		return sd_fail_memory(err);
	if (number == index->nfiles)
		index->files[index->nfiles++] = file;
	else
		sd_arena_undo(&index->arena, file);
	r->entry.file = index->files[number];
	return add_entry(r, err);
}

static enum sd_result take(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct reader *r = user;

	if (token->depth == 0)
		return token->kind == SD_JSON_OBJECT || token->kind == SD_JSON_OBJECT_END
			       ? SD_OK
			       : sd_fail(err, SD_INPUT, "the index is no JSON object");
	if (token->depth == 1 && token->kind == SD_JSON_KEY) {
		r->in_map = sd_json_is(token, "weight_map");
		if (r->in_map && r->had_map)
			return sd_fail(err, SD_INPUT, "weight_map is there twice");
		r->had_map |= r->in_map;
		return SD_OK;
	}
	if (!r->in_map)
		return SD_OK;
	if (token->depth == 1 && (token->kind == SD_JSON_OBJECT || token->kind == SD_JSON_OBJECT_END))
		return SD_OK;
	if (token->depth == 2 && token->kind == SD_JSON_KEY)
		return take_key(r, token, err);
	if (token->depth == 2 && token->kind == SD_JSON_STRING)
		return take_file(r, token, err);
	return sd_fail(err, SD_INPUT, "weight_map must give each key the name of a file%s%s",
		       r->entry.key ? ", but not so " : "", r->entry.key ? r->entry.key : "");
}

/* A key and its file take about so many: with fewer, the table grows once. */
#define ENTRY_BYTES 128

enum sd_result sd_index_parse(const char *json, size_t length, const struct sd_limits *limits, struct sd_index *out,
			      struct sd_error *err)
{
	struct reader r = {.limits = limits, .index = out};
	enum sd_result result = sd_names_reserve(&out->keys, length / ENTRY_BYTES) ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK)
		result = sd_json_parse(json, length, take, &r, err);

	sd_names_free(&r.files);
	if (result == SD_OK && !r.had_map)
		return sd_fail(err, SD_INPUT, "the index has no weight_map");
	return result;
}

void sd_index_free(struct sd_index *index)
{
	sd_arena_free(&index->arena);
	free(index->entries);
	free(index->files);
	sd_names_free(&index->keys);
	*index = (struct sd_index){0};
}

static int by_key(const void *a, const void *b)
{
	const struct sd_index_entry *x = a, *y = b;

	return strcmp(x->key, y->key);
}

enum sd_result sd_index_write(struct sd_index_entry *entries, size_t nentries, uint64_t parameters, uint64_t bytes,
			      char **json, size_t *length, struct sd_error *err)
{
	struct sd_memstream *stream;
	FILE *out;

	*json = NULL;
	stream = sd_memstream_open(&out);
	if (!stream)
		return sd_fail_memory(err);
	if (nentries)
		qsort(entries, nentries, sizeof(*entries), by_key);
	fprintf(out,
		"{\n  \"metadata\": {\n    \"total_parameters\": %" PRIu64 ",\n    \"total_size\": %" PRIu64
		"\n  },\n  \"weight_map\": {",
		parameters, bytes);
	for (size_t i = 0; i < nentries; i++) {
		fputs(i ? ",\n    " : "\n    ", out);
		sd_json_write(out, entries[i].key, SD_JSON_ASCII);
		fputs(": ", out);
		sd_json_write(out, entries[i].file, SD_JSON_ASCII);
	}
	fputs(nentries ? "\n  }\n}\n" : "}\n}\n", out);
	return sd_memstream_close(stream, json, length) ? SD_OK : sd_fail_memory(err);
}

struct resizer {
	const char *json;
	size_t copied;
	FILE *out;
	uint64_t parameters, bytes;
	bool in_metadata;
	const uint64_t *number; /* of the key that was read last; NULL: it keeps its value */
};

static enum sd_result resize_token(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct resizer *r = user;

	(void)err;
	if (token->depth == 1 && token->kind == SD_JSON_KEY)
		r->in_metadata = sd_json_is(token, "metadata");
	if (token->depth == 2 && token->kind == SD_JSON_KEY)
		r->number = sd_json_is(token, "total_parameters") ? &r->parameters
			    : sd_json_is(token, "total_size")     ? &r->bytes
								  : NULL;
	if (token->depth == 2 && token->kind == SD_JSON_NUMBER && r->in_metadata && r->number) {
		fwrite(r->json + r->copied, 1, token->end - token->length - r->copied, r->out);
		fprintf(r->out, "%" PRIu64, *r->number);
		r->copied = token->end;
	}
	return SD_OK;
}

enum sd_result sd_index_resize(const char *json, size_t length, uint64_t parameters, uint64_t bytes, char **out,
			       size_t *out_length, struct sd_error *err)
{
	struct resizer r = {.json = json, .parameters = parameters, .bytes = bytes};
	struct sd_memstream *stream = sd_memstream_open(&r.out);
	enum sd_result result;

	*out = NULL;
	if (!stream)
		return sd_fail_memory(err);
	result = sd_json_parse(json, length, resize_token, &r, err);
	if (result == SD_OK)
		fwrite(json + r.copied, 1, length - r.copied, r.out);
	if (!sd_memstream_close(stream, out, out_length) && result == SD_OK)
		result = sd_fail_memory(err);
	if (result != SD_OK) {
		free(*out);
		*out = NULL;
	}
	return result;
}
