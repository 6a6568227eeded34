/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files, one or many, being read into one source. */
#include "formats/safetensors_read.h"
#include "formats/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_READ (1u << 20)

/* The header, malloc'd. Memory grows with what really comes, whatever the length field says. */
static enum sd_result read_header(int fd, uint64_t length, char **header, struct sd_error *err)
{
	char *buffer = NULL;
	size_t filled = 0, room = 0;

	while (filled < length) {
		size_t more = room ? room : FIRST_READ, got;
		char *larger;

		more = length - room < more ? (size_t)(length - room) : more;
		larger = realloc(buffer, room + more);
		if (!larger) {
			free(buffer);
			return sd_fail_memory(err);
		}
		buffer = larger;
		room += more;
		if (sd_read_upto(fd, buffer + filled, room - filled, &got, err) != SD_OK) {
			free(buffer);
			return err->result;
		}
		filled += got;
		if (filled < room) {
			free(buffer);
			return sd_fail(err, SD_INPUT,
				       "truncated: a header of %" PRIu64 " bytes is announced, %zu are there", length,
				       filled);
		}
	}
	*header = buffer;
	return SD_OK;
}

/* Everything that can be said of the length field alone; *after: bytes that follow it, or SD_UNKNOWN_SIZE. */
static enum sd_result check_length(const struct sd_input *input, uint64_t length, const struct sd_limits *limits,
				   uint64_t *after, struct sd_error *err)
{
	off_t at;

	*after = SD_UNKNOWN_SIZE;
	if (sd_limits_check(limits, SD_LIMIT_HEADER, length, "the header is said to have", err) != SD_OK)
		return err->result;
	if (!input->seekable)
		return SD_OK;
	at = lseek(input->fd, 0, SEEK_CUR);
	if (at < 0)
		return sd_fail_errno(err, errno, "cannot seek");
	*after = input->begin + input->size > (uint64_t)at ? input->begin + input->size - (uint64_t)at : 0;
	if (length > *after)
		return sd_fail(err, SD_INPUT,
			       "truncated, or not a safetensors file: a header of %" PRIu64
			       " bytes is announced, %" PRIu64 " bytes follow",
			       length, *after);
	return SD_OK;
}

/* Reads the header of a file whose data may be too short; *lack is what there is to say then. */
static enum sd_result parse_short(const char *header, size_t length, uint64_t data, const struct sd_limits *limits,
				  struct sd_safetensors *st, struct sd_error *lack, struct sd_error *err)
{
	enum sd_result result = sd_safetensors_parse(header, length, data, limits, st, err);

	if (result != SD_INPUT || !limits->short_data || data == SD_UNKNOWN_SIZE)
		return result;
	*lack = *err;
	sd_safetensors_free(st);
	if (sd_safetensors_parse(header, length, SD_UNKNOWN_SIZE, limits, st, err) == SD_OK)
		return SD_OK;
	lack->result = SD_OK;
	return err->result;
}

/* *data: where the tensors begin, in a seekable file. */
static enum sd_result read_file(const struct sd_input *input, const unsigned char first[8],
				const struct sd_limits *limits, struct sd_safetensors *st, uint64_t *data,
				struct sd_error *lack, struct sd_error *err)
{
	uint64_t length = sd_safetensors_length(first), after;
	char *header = NULL;
	enum sd_result result = check_length(input, length, limits, &after, err);

	if (result == SD_OK)
		result = read_header(input->fd, length, &header, err);
	if (result != SD_OK)
		return result;
	if (input->seekable)
		*data = input->size - (after - length);
	result = parse_short(header, (size_t)length, after == SD_UNKNOWN_SIZE ? after : after - length, limits, st,
			     lack, err);
	free(header);
	return result;
}

static bool add_entry(struct sd_manifest *m, const struct sd_entry *entry)
{
	char *key = sd_arena_text(&m->arena, entry->key, strlen(entry->key));
	char *value = sd_arena_text(&m->arena, entry->value, strlen(entry->value));

	return key && value && sd_manifest_add_metadata(m, key, value);
}

/* The first file's metadata, less what a later one does not have alike. */
static enum sd_result merge_metadata(struct sd_safetensors_read *r, const struct sd_safetensors *st,
				     struct sd_error *err)
{
	struct sd_manifest *m = r->source->manifest;
	size_t kept = 0;

	if (r->nfiles == 0) {
		for (size_t i = 0; i < st->nmetadata; i++)
			if (strncmp(st->metadata[i].key, "DCP_", 4) != 0 && !add_entry(m, &st->metadata[i]))
				return sd_fail_memory(err);
		return SD_OK;
	}
	for (size_t i = 0; i < m->nmetadata; i++) {
		const char *value = sd_safetensors_metadata(st, m->metadata[i].key);

		if (value && strcmp(value, m->metadata[i].value) == 0)
			m->metadata[kept++] = m->metadata[i];
	}
	m->nmetadata = kept;
	return SD_OK;
}

/* The last record's key is new. */
static enum sd_result add_key(struct sd_safetensors_read *r, const char *key, struct sd_error *err)
{
	uint32_t number = (uint32_t)r->source->manifest->nrecords - 1, known = sd_names_add(&r->whole, key, number),
		 first;

	if (known == SD_NO_NAME)
		return sd_fail_memory(err);
	if (known == number)
		return SD_OK;
	first = sd_extents_input_of(r->source, known);
	if (first == sd_extents_input_of(r->source, number))
		return sd_fail(err, SD_INPUT, "the key %s is there twice", key);
	return sd_fail(err, SD_INPUT, "the key %s is in %s too", key, sd_extents_at(r->source, first)->path);
}

static enum sd_result add_tensor(struct sd_safetensors_read *r, const struct sd_header *h, const struct sd_tensor *t,
				 struct sd_error *err)
{
	struct sd_arena *arena = &r->source->manifest->arena;
	struct sd_record record = {.rank = t->rank, .dtype = t->dtype, .state = SD_HERE, .bytes = t->end - t->begin};
	struct sd_target target = {.rank = t->rank, .dtype = t->dtype};

	if (h->chooser && !h->chooser->wants(h->chooser, t->name, &record.lack))
		return SD_OK;
	record.key = target.name = sd_arena_text(arena, t->name, strlen(t->name));
	record.shape = target.shape = sd_arena_copy(arena, t->shape, t->rank * sizeof(*t->shape));
	if (!record.key || !record.shape)
		return sd_fail_memory(err);
	if (sd_extents_add(r->source, &record, &target, h->input, h->data + t->begin, err) != SD_OK)
		return err->result;
	return add_key(r, record.key, err);
}

enum sd_result sd_safetensors_read_add_made(struct sd_safetensors_read *reading, const struct sd_record *record,
					    const struct sd_target *target, uint32_t input, uint64_t offset,
					    struct sd_made *made, struct sd_error *err)
{
	if (sd_extents_add_made(reading->source, record, target, input, offset, made, err) != SD_OK)
		return err->result;
	return add_key(reading, record->key, err);
}

enum sd_result sd_safetensors_read_note(struct sd_safetensors_read *reading, struct sd_error *err, const char *format,
					...)
{
	struct sd_source *source = reading->source;
	char text[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	source->note = sd_arena_printf(&source->manifest->arena, "%s%s%s", source->note ? source->note : "",
				       source->note ? "; " : "", text);
	return source->note ? SD_OK : sd_fail_memory(err);
}

/* What the format says of a file whose tensors are pieces. */
static enum sd_result gather(struct sd_safetensors_read *r, const struct sd_format *format, const struct sd_header *h,
			     bool alone, struct sd_error *err)
{
	if (alone)
		return sd_fail(err, SD_INPUT, "%s", format->alone);
	if (!r->gather)
		r->gather = format->gather(r->source, &r->limits);
	return r->gather ? r->gather->add(r->gather, h, err) : sd_fail_memory(err);
}

static enum sd_result add_content(struct sd_safetensors_read *r, const struct sd_header *h, bool alone,
				  struct sd_error *err)
{
	const struct sd_safetensors *st = h->content;
	const struct sd_format *format = sd_format_of_header(st);
	enum sd_result result =
		sd_limits_check(&r->limits, SD_LIMIT_TENSORS, sd_safetensors_read_count(r) + st->ntensors,
				"all files up to this one have", err);

	if (result == SD_OK && format)
		result = gather(r, format, h, alone, err);
	if (result == SD_OK)
		result = merge_metadata(r, st, err);
	for (size_t i = 0; i < st->ntensors && result == SD_OK && !format; i++)
		result = add_tensor(r, h, &st->tensors[i], err);
	return result;
}

/* A file that is read by its format's own parser. */
static enum sd_result add_by_format(struct sd_safetensors_read *r, const struct sd_format *format, uint32_t input,
				    struct sd_chooser *chooser, struct sd_error *err)
{
	const struct sd_format *named = sd_format_of_name(sd_extents_at(r->source, input)->path);
	enum sd_result result = SD_OK;

	if (named && named->mark)
		result = sd_fail(err, SD_INPUT,
				 "it holds pieces of tensors, and %s beside it says which: name the directory",
				 named->mark);
	else if (!sd_extents_at(r->source, input)->seekable)
		result = sd_fail(err, SD_INPUT, "%s cannot be read from a pipe: put it into a file", format->instead);
	if (result == SD_OK)
		result = format->add(r, input, chooser, err);
	r->source->manifest->nmetadata = 0;
	return result;
}

static enum sd_result add_safetensors(struct sd_safetensors_read *r, uint32_t input, const unsigned char first[8],
				      struct sd_chooser *chooser, bool alone, struct sd_error *err)
{
	struct sd_safetensors st = {0};
	struct sd_header header = {.content = &st, .input = input, .chooser = chooser};
	struct sd_error lack = {.result = SD_OK};
	const char *path = sd_extents_at(r->source, input)->path;
	enum sd_result result;

	if (r->limits.root)
		return sd_fail(err, SD_INPUT, "it is no file of torch.save, for which --root is");
	result = read_file(sd_extents_at(r->source, input), first, &r->limits, &st, &header.data, &lack, err);

	if (result == SD_OK)
		result = add_content(r, &header, alone, err);
	if (result == SD_OK && lack.result != SD_OK) {
		sd_error_at(&lack, "%s", path);
		result = sd_extents_lack(r->source, &lack, err);
	}
	sd_safetensors_free(&st);
	return result;
}

static enum sd_result add_input(struct sd_safetensors_read *r, uint32_t input, const unsigned char first[8],
				struct sd_chooser *chooser, bool alone, struct sd_error *err)
{
	const struct sd_format *format = sd_format_of_bytes(first);
	const char *path = sd_extents_at(r->source, input)->path;
	enum sd_result result = format && format->add ? add_by_format(r, format, input, chooser, err)
						      : add_safetensors(r, input, first, chooser, alone, err);

	return result == SD_OK ? result : sd_error_at(err, "%s", path);
}

enum sd_result sd_safetensors_read_add(struct sd_safetensors_read *reading, int fd, const char *path,
				       const unsigned char first[8], struct sd_chooser *chooser, bool alone,
				       struct sd_error *err)
{
	uint32_t input;
	enum sd_result result = sd_extents_input(reading->source, fd, path, &input, err);

	return result == SD_OK ? sd_safetensors_read_input(reading, input, first, chooser, alone, err) : result;
}

enum sd_result sd_safetensors_read_input(struct sd_safetensors_read *reading, uint32_t input,
					 const unsigned char first[8], struct sd_chooser *chooser, bool alone,
					 struct sd_error *err)
{
	size_t before = sd_safetensors_read_count(reading);
	enum sd_result result = add_input(reading, input, first, chooser, alone, err);

	reading->nfiles += result == SD_OK;
	if (result != SD_OK && sd_safetensors_read_count(reading) == before)
		sd_extents_drop(reading->source);
	return result;
}

enum sd_result sd_safetensors_read_begin(struct sd_safetensors_read *reading, const struct sd_limits *limits,
					 struct sd_error *err)
{
	*reading = (struct sd_safetensors_read){.source = sd_extents_new(),
						.limits = limits ? *limits : sd_limits_default};
	return reading->source ? SD_OK : sd_fail_memory(err);
}

size_t sd_safetensors_read_count(const struct sd_safetensors_read *reading)
{
	return reading->source->manifest->nrecords + (reading->gather ? reading->gather->count : 0);
}

enum sd_result sd_safetensors_read_finish(struct sd_safetensors_read *reading, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (reading->gather)
		result = reading->gather->finish(reading->gather, &reading->whole, err);
	return result == SD_OK ? sd_extents_values(reading->source, err) : result;
}

void sd_safetensors_read_free(struct sd_safetensors_read *reading)
{
	sd_names_free(&reading->whole);
	if (reading->gather)
		reading->gather->free(reading->gather);
}
