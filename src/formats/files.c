/* SPDX-License-Identifier: Apache-2.0 */
/* One or many safetensors files as a source. */
#include "formats/files.h"
#include "base/names.h"
#include "formats/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_MAX_FILES 64
#define FIRST_READ (1u << 20)

struct file {
	const char *path;
	int fd; /* -1: not open now */
	bool seekable;
	uint64_t data;    /* where the tensors begin, in a seekable file */
	struct stat stat; /* when its header was read */
};

/* A file that is not open any more. */
struct watched {
	const char *path;
	struct stat stat; /* when it was read */
};

/* Where a record's bytes are. */
struct place {
	uint32_t file;
	uint64_t offset; /* from the first tensor's */
};

struct files {
	struct sd_source source;
	struct sd_limits limits;
	struct file *files;
	size_t nfiles, files_room;
	struct watched *watched;
	size_t nwatched, watched_room;
	struct place *places; /* of each record */
	size_t nplaces, places_room;
	struct sd_names names;
	size_t open;
	size_t current; /* file */
	uint32_t given; /* the record whose chunk has been given out */
};

static void close_file(struct files *f, struct file *file)
{
	if (file->fd >= 0) {
		close(file->fd);
		file->fd = -1;
		f->open--;
	}
}

/* That an open file is what it was when its header was read. */
static enum sd_result check_unchanged(const struct file *file, struct sd_error *err)
{
	return file->seekable ? sd_fd_unchanged(file->fd, file->path, &file->stat, err) : SD_OK;
}

/* Leaves the files before this one, and opens it. */
static enum sd_result go_to(struct files *f, size_t number, struct sd_error *err)
{
	struct file *file = &f->files[number];

	for (; f->current < number; f->current++) {
		struct file *left = &f->files[f->current];

		if (left->fd < 0)
			continue;
		if (check_unchanged(left, err) != SD_OK)
			return err->result;
		close_file(f, left);
	}
	if (file->fd >= 0)
		return SD_OK;
	/* What it has become since may be a FIFO, which nobody writes to. */
	file->fd = sd_openat(AT_FDCWD, file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
	if (file->fd < 0)
		return sd_fail_errno(err, errno, "%s", file->path);
	f->open++;
	return check_unchanged(file, err);
}

static enum sd_result files_next(struct sd_source *source, uint32_t record, struct sd_chunk *chunk,
				 struct sd_error *err)
{
	struct files *f = (struct files *)source;
	const struct place *place = &f->places[record];
	const struct file *file = &f->files[place->file];
	enum sd_result result;

	*chunk = (struct sd_chunk){.fd = -1, .offset = -1};
	if (f->given == record)
		return SD_OK;
	result = go_to(f, place->file, err);
	if (result != SD_OK)
		return result;
	f->given = record;
	chunk->length = source->manifest->records[record].bytes;
	chunk->fd = file->fd;
	if (file->seekable)
		chunk->offset = (off_t)(file->data + place->offset);
	return SD_OK;
}

static enum sd_result files_finish(struct sd_source *source, struct sd_error *err)
{
	struct files *f = (struct files *)source;

	for (size_t i = 0; i < f->nfiles; i++) {
		const struct file *file = &f->files[i];
		enum sd_result result;
		size_t got;
		char more;

		if (file->fd < 0)
			continue;
		if (file->seekable) {
			result = check_unchanged(file, err);
		} else {
			result = sd_read_upto(file->fd, &more, 1, &got, err);
			if (result == SD_OK && got)
				result = sd_fail(
					err, SD_INPUT,
					"%s goes on after its last tensor; several files are joined by sd-cat A B",
					file->path);
		}
		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

static void files_close(struct sd_source *source)
{
	struct files *f = (struct files *)source;

	for (size_t i = 0; i < f->nfiles; i++)
		close_file(f, &f->files[i]);
	free(f->files);
	free(f->watched);
	free(f->places);
	sd_names_free(&f->names);
	sd_manifest_free(source->manifest);
	free(f);
}

static bool files_place(const struct sd_source *source, uint32_t record, const char **path, uint64_t *offset)
{
	const struct files *f = (const struct files *)source;
	const struct place *place = &f->places[record];
	const struct file *file = &f->files[place->file];

	*path = file->path;
	*offset = file->data + place->offset;
	return file->seekable;
}

static const struct sd_source_ops files_ops = {
	.next = files_next, .finish = files_finish, .close = files_close, .place = files_place};

struct sd_source *sd_files_new(const struct sd_limits *limits)
{
	struct files *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->source.ops = &files_ops;
	f->limits = limits ? *limits : sd_limits_default;
	f->given = SD_NO_RECORD;
	f->source.manifest = sd_manifest_new();
	if (!f->source.manifest) {
		free(f);
		return NULL;
	}
	return &f->source;
}

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
static enum sd_result check_length(const struct file *file, uint64_t length, const struct sd_limits *limits,
				   uint64_t *after, struct sd_error *err)
{
	off_t at;

	*after = SD_UNKNOWN_SIZE;
	if (sd_limits_check(limits, SD_LIMIT_HEADER, length, "the header is said to have", err) != SD_OK)
		return err->result;
	if (!file->seekable)
		return SD_OK;
	at = lseek(file->fd, 0, SEEK_CUR);
	if (at < 0)
		return sd_fail_errno(err, errno, "cannot seek");
	*after = file->stat.st_size > at ? (uint64_t)(file->stat.st_size - at) : 0;
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

static enum sd_result read_file(struct file *file, const unsigned char first[8], const struct sd_limits *limits,
				struct sd_safetensors *st, struct sd_error *lack, struct sd_error *err)
{
	uint64_t length = sd_safetensors_length(first), after;
	char *header = NULL;
	enum sd_result result = check_length(file, length, limits, &after, err);

	if (result == SD_OK)
		result = read_header(file->fd, length, &header, err);
	if (result != SD_OK)
		return result;
	if (file->seekable)
		file->data = (uint64_t)file->stat.st_size - (after - length);
	result = parse_short(header, (size_t)length, after == SD_UNKNOWN_SIZE ? after : after - length, limits, st,
			     lack, err);
	free(header);
	return result;
}

static const char *metadata(const struct sd_safetensors *st, const char *key)
{
	for (size_t i = 0; i < st->nmetadata; i++)
		if (strcmp(st->metadata[i].key, key) == 0)
			return st->metadata[i].value;
	return NULL;
}

static bool add_entry(struct sd_manifest *m, const struct sd_entry *entry)
{
	char *key = sd_arena_text(&m->arena, entry->key, strlen(entry->key));
	char *value = sd_arena_text(&m->arena, entry->value, strlen(entry->value));

	return key && value && sd_manifest_add_metadata(m, key, value);
}

/* The first file's metadata, less what a later one does not have alike. */
static enum sd_result merge_metadata(struct files *f, const struct sd_safetensors *st, struct sd_error *err)
{
	struct sd_manifest *m = f->source.manifest;
	size_t kept = 0;

	if (metadata(st, "DCP_SHARDING_INFO"))
		return sd_fail(err, SD_INPUT,
			       "sharded by PyTorch DCP: it holds pieces of tensors, not a whole checkpoint");
	if (f->nfiles == 0) {
		for (size_t i = 0; i < st->nmetadata; i++)
			if (strncmp(st->metadata[i].key, "DCP_", 4) != 0 && !add_entry(m, &st->metadata[i]))
				return sd_fail_memory(err);
		return SD_OK;
	}
	for (size_t i = 0; i < m->nmetadata; i++) {
		const char *value = metadata(st, m->metadata[i].key);

		if (value && strcmp(value, m->metadata[i].value) == 0)
			m->metadata[kept++] = m->metadata[i];
	}
	m->nmetadata = kept;
	return SD_OK;
}

enum sd_result sd_files_lack(struct sd_source *files, const struct sd_error *lack, struct sd_error *err)
{
	if (!files->lack)
		files->lack = sd_arena_text(&files->manifest->arena, lack->text, strlen(lack->text));
	return files->lack ? SD_OK : sd_fail_memory(err);
}

static enum sd_result add_tensor(struct files *f, const struct sd_tensor *t, struct sd_files_chooser *chooser,
				 struct sd_error *err)
{
	struct sd_manifest *m = f->source.manifest;
	struct place place = {(uint32_t)f->nfiles, t->begin};
	uint32_t number = (uint32_t)f->nplaces, known;
	const char *doubt = NULL;

	if (chooser && !chooser->wants(chooser, t->name, &doubt))
		return SD_OK;
	if (!sd_manifest_add_tensor(m, t->name, t->dtype, t->shape, t->rank) ||
	    !sd_array_grow(&f->places, f->nplaces, &f->places_room, sizeof(*f->places)))
		return sd_fail_memory(err);
	f->places[f->nplaces++] = place;
	m->records[number].lack = doubt;
	known = sd_names_add(&f->names, m->records[number].key, number);
	if (known == SD_NO_NAME)
		return sd_fail_memory(err);
	if (known != number)
		return sd_fail(err, SD_INPUT, "the key %s is in %s too", t->name, f->files[f->places[known].file].path);
	return SD_OK;
}

static enum sd_result add_file(struct files *f, struct file *file, const unsigned char first[8],
			       struct sd_files_chooser *chooser, struct sd_error *err)
{
	struct sd_safetensors st = {0};
	struct sd_error lack = {.result = SD_OK};
	enum sd_result result;

	if (fstat(file->fd, &file->stat) != 0)
		return sd_fail_errno(err, errno, "cannot be looked at");
	file->seekable = S_ISREG(file->stat.st_mode);
	result = read_file(file, first, &f->limits, &st, &lack, err);
	if (result == SD_OK)
		result = sd_limits_check(&f->limits, SD_LIMIT_TENSORS, f->nplaces + st.ntensors,
					 "all files up to this one have", err);
	if (result == SD_OK)
		result = merge_metadata(f, &st, err);
	for (size_t i = 0; i < st.ntensors && result == SD_OK; i++)
		result = add_tensor(f, &st.tensors[i], chooser, err);
	if (result == SD_OK && lack.result != SD_OK) {
		sd_error_at(&lack, "%s", file->path);
		result = sd_files_lack(&f->source, &lack, err);
	}
	sd_safetensors_free(&st);
	return result;
}

enum sd_result sd_files_add(struct sd_source *files, int fd, const char *path, const unsigned char first[8],
			    struct sd_files_chooser *chooser, struct sd_error *err)
{
	struct files *f = (struct files *)files;
	struct file file = {.path = sd_arena_text(&files->manifest->arena, path, strlen(path)), .fd = fd};
	enum sd_result result;

	if (!file.path || !sd_array_grow(&f->files, f->nfiles, &f->files_room, sizeof(*f->files))) {
		close(fd);
		return sd_fail_memory(err);
	}
	result = add_file(f, &file, first, chooser, err);
	if (result != SD_OK) {
		close(fd);
		return err->said ? result : sd_error_at(err, "%s", path);
	}
	f->open++;
	if (file.seekable && f->open > OPEN_MAX_FILES)
		close_file(f, &file);
	f->files[f->nfiles++] = file;
	return SD_OK;
}

enum sd_result sd_files_watch(struct sd_source *files, const char *path, const struct stat *then, struct sd_error *err)
{
	struct files *f = (struct files *)files;

	if (!sd_array_grow(&f->watched, f->nwatched, &f->watched_room, sizeof(*f->watched)))
		return sd_fail_memory(err);
	f->watched[f->nwatched++] = (struct watched){path, *then};
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

enum sd_result sd_files_still(const struct sd_source *files, struct sd_error *err)
{
	const struct files *f = (const struct files *)files;
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < f->nwatched && result == SD_OK; i++)
		result = still(f->watched[i].path, &f->watched[i].stat, err);
	for (size_t i = 0; i < f->nfiles && result == SD_OK; i++)
		result = still(f->files[i].path, &f->files[i].stat, err);
	return result;
}
