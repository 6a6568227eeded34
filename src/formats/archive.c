/* SPDX-License-Identifier: Apache-2.0 */
/* Archives as sources. */
#include "formats/archive.h"
#include "base/text.h"
#include "formats/archive_members.h"
#include "formats/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_PLACE "a plain tar in a file is read in place"

/* A record whose data passes by. */
struct passing {
	struct sd_made base;
	struct sd_archive_file *member;
	uint64_t offset, bytes;
};

/* ---- the folder that counts ---- */

/* How much a file says that its folder is a checkpoint: 0: nothing. */
static unsigned weight_of(const struct sd_archive_file *m)
{
	const struct sd_format *format = sd_format_of_name(m->base);
	enum sd_file_role role = sd_checkpoint_role(m->base);

	if (sd_format_of_mark(m->base) || role == SD_ROLE_WEIGHTS || role == SD_ROLE_INDEX)
		return 3;
	if (m->base[0] == '.' || !format)
		return 0;
	return format->second ? 2 : format->add ? 1 : 0;
}

/* The length of what stands before the last part of a path: "a/b" of "a/b/c". */
static size_t folder_length_of(const char *path)
{
	size_t length = (size_t)(sd_archive_base(path) - path);

	return length ? length - 1 : 0;
}

static size_t folder_length(const struct sd_archive_file *m)
{
	return folder_length_of(m->name);
}

static bool is_below(const struct sd_archive_file *m, const struct sd_archive_file *outer)
{
	size_t n = folder_length(outer);

	return n == 0 || (folder_length(m) >= n && memcmp(m->name, outer->name, n) == 0 && m->name[n] == '/');
}

/* The outer of two folders, or the one whose name comes first. */
static bool is_better(const struct sd_archive_file *m, const struct sd_archive_file *other)
{
	size_t a = folder_length(m), b = folder_length(other);

	return a != b ? a < b : memcmp(m->name, other->name, a) < 0;
}

/* The folder with a checkpoint: the only one, or the one that all others are in. */
static enum sd_result choose_by_weight(struct sd_archive *x, unsigned weight, struct sd_error *err)
{
	const struct sd_archive_file *best = NULL;

	for (size_t i = 0; i < x->count; i++)
		if (weight_of(&x->members[i]) >= weight && (!best || is_better(&x->members[i], best)))
			best = &x->members[i];
	if (!best)
		return SD_OK;
	for (size_t i = 0; i < x->count; i++)
		if (weight_of(&x->members[i]) >= weight && !is_below(&x->members[i], best))
			return sd_fail(err, SD_INPUT,
				       "there are checkpoints in its folders %.*s and %.*s; sd-cat --dir=%.*s takes "
				       "the first one",
				       (int)folder_length(best), best->name, (int)folder_length(&x->members[i]),
				       x->members[i].name, (int)folder_length(best), best->name);
	x->root = sd_arena_text(&x->arena, best->name, folder_length(best));
	return x->root ? SD_OK : sd_fail_memory(err);
}

static enum sd_result find_chosen(struct sd_archive *x, struct sd_error *err)
{
	char *root;
	size_t n;

	if (sd_archive_clean(x, x->limits.dir, &root, err) != SD_OK)
		return err->result;
	n = strlen(root);
	x->root = root;
	for (size_t i = 0; i < x->count; i++)
		if (n == 0 || (strncmp(x->members[i].name, root, n) == 0 && x->members[i].name[n] == '/'))
			return SD_OK;
	return sd_fail(err, SD_INPUT, "it has no folder %s, for --dir", x->limits.dir);
}

/* Gives the files in the folder that counts, and below it, the names that they have from there. */
static enum sd_result name_files(struct sd_archive *x, struct sd_error *err)
{
	size_t n = strlen(x->root);

	for (uint32_t i = 0; i < x->count; i++) {
		const char *name = x->members[i].name;

		if (n && (strncmp(name, x->root, n) != 0 || name[n] != '/'))
			continue;
		if (sd_names_add(&x->inside, name + (n ? n + 1 : 0), i) == SD_NO_NAME)
			return sd_fail_memory(err);
	}
	return SD_OK;
}

static enum sd_result choose_folder(struct sd_archive *x, struct sd_error *err)
{
	enum sd_result result = x->limits.dir ? find_chosen(x, err) : SD_OK;

	for (unsigned weight = 3; weight && !x->root && result == SD_OK; weight--)
		result = choose_by_weight(x, weight, err);
	if (result == SD_OK && !x->root)
		x->root = "";
	if (result != SD_OK)
		return sd_error_at(err, "%s", x->in.name);
	x->folder.path = *x->root ? sd_arena_printf(&x->arena, "%s/%s", x->in.name, x->root) : x->in.name;
	return x->folder.path ? name_files(x, err) : sd_fail_memory(err);
}

/* ---- a folder of files ---- */

/* Whether a file is in the folder around the one that counts. */
static bool is_beside(const struct sd_archive *x, const struct sd_archive_file *m)
{
	size_t outer = folder_length_of(x->root);

	return *x->root && folder_length(m) == outer && memcmp(m->name, x->root, outer) == 0;
}

/* The file of a name in the folder that counts, or in the one around it ("../NAME"). */
static struct sd_archive_file *find(struct sd_archive *x, const char *name)
{
	uint32_t number = sd_names_find(&x->inside, name);

	if (number != SD_NO_NAME)
		return &x->members[number];
	for (size_t i = 0; i < x->count && strncmp(name, "../", 3) == 0; i++)
		if (is_beside(x, &x->members[i]) && strcmp(x->members[i].base, name + 3) == 0)
			return &x->members[i];
	return NULL;
}

static struct sd_archive *archive_of(struct sd_folder *folder)
{
	return (struct sd_archive *)((char *)folder - offsetof(struct sd_archive, folder));
}

static enum sd_result archive_list(struct sd_folder *folder, const char *below, sd_folder_take *take_name, void *user,
				   struct sd_error *err)
{
	struct sd_archive *x = archive_of(folder);
	struct sd_arena arena = {0};
	const char *path =
		sd_arena_printf(&arena, "%s%s%s%s", x->root, *x->root ? "/" : "", below ? below : "", below ? "/" : "");
	enum sd_result result = path ? SD_OK : sd_fail_memory(err);
	size_t n = path ? strlen(path) : 0;

	for (size_t i = 0; i < x->count && result == SD_OK; i++)
		if ((size_t)(x->members[i].base - x->members[i].name) == n && memcmp(x->members[i].name, path, n) == 0)
			result = take_name(user, x->members[i].base, err);
	sd_arena_free(&arena);
	return result;
}

static bool archive_has(struct sd_folder *folder, const char *name)
{
	return find(archive_of(folder), name);
}

static uint64_t archive_rank(struct sd_folder *folder, const char *name)
{
	struct sd_archive *x = archive_of(folder);
	const struct sd_archive_file *m = find(x, name);

	return m && m->begin == SD_ARCHIVE_NOWHERE ? (uint64_t)m->number + 1 : 0;
}

/* What was not kept as the archive passed by, because it can be gone to again. */
static enum sd_result keep_now(struct sd_archive *x, struct sd_archive_file *m, struct sd_error *err)
{
	if (m->begin != SD_ARCHIVE_NOWHERE || m->held || m->spool >= 0 || !m->size || !x->seekable)
		return SD_OK;
	return sd_archive_go_to(x, m, 0, err) == SD_OK ? sd_archive_keep(x, m, err) : err->result;
}

static enum sd_result copy_bytes(struct sd_archive *x, const struct sd_archive_file *m, void **data,
				 struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*data = malloc((size_t)m->size + 1);
	if (!*data)
		return sd_fail_memory(err);
	if (m->begin == SD_ARCHIVE_NOWHERE)
		memcpy(*data, m->held ? m->held : "", (size_t)m->size);
	else
		result = sd_pread_all(x->in.fd, *data, (size_t)m->size, (off_t)m->begin, err);
	if (result == SD_OK && m->verify.run)
		result = sd_archive_verify((struct sd_verify *)(uintptr_t)&m->verify, err);
	if (result == SD_OK)
		return SD_OK;
	free(*data);
	*data = NULL;
	return result;
}

static enum sd_result archive_read_file(struct sd_folder *folder, const char *name, uint64_t limit,
					struct sd_source *source, void **data, uint64_t *size, struct sd_error *err)
{
	struct sd_archive *x = archive_of(folder);
	struct sd_archive_file *m = find(x, name);

	(void)source;
	*data = NULL;
	*size = m ? m->size : 0;
	if (!m || m->size > limit)
		return SD_OK;
	if (keep_now(x, m, err) != SD_OK)
		return sd_error_at(err, "%s", folder->path);
	if (m->begin == SD_ARCHIVE_NOWHERE && m->nheld < m->size)
		return sd_folder_fail(folder, name, err, ": a file of this name is not read out of compressed data");
	return copy_bytes(x, m, data, err);
}

static enum sd_result fail_not_kept(const struct sd_archive *x, const struct sd_archive_file *m, struct sd_error *err)
{
	if (m->size > x->limits.most[SD_LIMIT_SPOOL] - x->spooled)
		return sd_fail(
			err, SD_INPUT,
			"%s/%s: what is not read in order is kept in memory where it is compressed, and its %" PRIu64
			" bytes are more than --limit=spool=%" PRIu64 "; " IN_PLACE,
			x->in.name, m->name, m->size, x->limits.most[SD_LIMIT_SPOOL]);
	return sd_fail(err, SD_INPUT, "%s/%s: a file of this name is not read out of compressed data; " IN_PLACE,
		       x->in.name, m->name);
}

/* A file in memory that looks like the member, as far as its header goes. */
static enum sd_result show_head(struct sd_archive *x, const struct sd_archive_file *m, struct sd_input *part,
				struct sd_error *err)
{
	part->fd = -1;
	if (sd_archive_memory(m->size, &x->head, err) != SD_OK)
		return err->result;
	part->fd = x->head;
	return sd_pwrite_all(x->head, m->held, m->nheld, 0, err) == SD_OK
		       ? SD_OK
		       : sd_error_at(err, "%s: its header, in memory", m->name);
}

static enum sd_result archive_open_file(struct sd_folder *folder, const char *name, struct sd_source *source,
					uint32_t *input, struct sd_error *err)
{
	struct sd_archive *x = archive_of(folder);
	struct sd_archive_file *m = find(x, name);
	struct sd_input part = {.fd = x->in.fd, .size = m->size};
	enum sd_result result = keep_now(x, m, err);

	if (result != SD_OK)
		return sd_error_at(err, "%s", x->in.name);
	if (m->begin != SD_ARCHIVE_NOWHERE) {
		part.begin = m->begin;
		part.stat = x->then;
		part.verify = m->verify.run ? &m->verify : NULL;
	} else if (m->spool >= 0) {
		part.fd = m->spool;
	} else if (m->nheld && sd_archive_is_in_order(m)) {
		result = show_head(x, m, &part, err);
	} else if (m->size) {
		result = fail_not_kept(x, m, err);
	}
	part.path = sd_arena_printf(&source->manifest->arena, "%s/%s", x->in.name, m->name);
	if (result == SD_OK && !part.path)
		result = sd_fail_memory(err);
	x->opened = m;
	return result == SD_OK ? sd_extents_part(source, &part, input, err) : result;
}

/* ---- data that passes by ---- */

static enum sd_result more(struct sd_made *made, uint64_t done, struct sd_extent *extent, struct sd_error *err)
{
	const struct passing *p = (const struct passing *)made;
	struct sd_archive *x = p->member->in;
	uint64_t left = p->bytes - done;
	size_t part = left < SD_ARCHIVE_STEP ? (size_t)left : SD_ARCHIVE_STEP;

	if (sd_archive_go_to(x, p->member, p->offset + done, err) != SD_OK ||
	    sd_archive_take(x, p->member, x->buffer, part, err) != SD_OK)
		return sd_error_at(err, "%s", x->in.name);
	*extent = (struct sd_extent){.length = part, .memory = x->buffer, .fd = -1};
	return SD_OK;
}

static enum sd_result give(struct sd_made *made, const struct sd_input *input, struct sd_extent *extent, void **memory,
			   struct sd_error *err)
{
	(void)input;
	(void)memory;
	return more(made, 0, extent, err);
}

/* Records of a member that is not there as it is are taken as it passes by. */
static enum sd_result archive_added(struct sd_folder *folder, struct sd_safetensors_read *reading, uint32_t input,
				    size_t first, struct sd_error *err)
{
	struct sd_archive *x = archive_of(folder);
	struct sd_manifest *m = reading->source->manifest;

	if (x->opened->begin != SD_ARCHIVE_NOWHERE || x->opened->spool >= 0)
		return SD_OK;
	if (reading->gather && m->nrecords == first)
		return sd_fail(err, SD_INPUT, "%s: its tensors are in pieces, which are not in order; " IN_PLACE,
			       sd_extents_at(reading->source, input)->path);
	for (size_t i = first; i < m->nrecords; i++) {
		struct passing *p = sd_arena_alloc(&m->arena, sizeof(*p));

		if (!p)
			return sd_fail_memory(err);
		*p = (struct passing){.base = {.give = give, .more = more, .once = !x->seekable},
				      .member = x->opened,
				      .bytes = m->records[i].bytes};
		if (sd_extents_make(reading->source, (uint32_t)i, &p->base, &p->offset))
			return sd_fail(err, SD_INPUT, "%s in the archive: its tensors are not there as they are",
				       x->opened->name);
	}
	return SD_OK;
}

static const struct sd_folder_ops archive_ops = {.list = archive_list,
						 .has = archive_has,
						 .rank = archive_rank,
						 .read = archive_read_file,
						 .open = archive_open_file,
						 .added = archive_added};

/* ---- the archive ---- */

static enum sd_result archive_finish(struct sd_guest *guest, struct sd_error *err)
{
	struct sd_archive *x = (struct sd_archive *)guest;
	enum sd_result result;

	if (x->seekable)
		return sd_fd_unchanged(x->in.fd, x->in.name, &x->then, err);
	result = sd_archive_finish(x, err);
	return result == SD_OK || err->told ? result : sd_error_at(err, "%s", x->in.name);
}

static void archive_close(struct sd_guest *guest)
{
	struct sd_archive *x = (struct sd_archive *)guest;

	sd_unpack_close(x->pass);
	for (size_t i = 0; i < x->count; i++) {
		free(x->members[i].held);
		if (x->members[i].spool >= 0)
			close(x->members[i].spool);
	}
	if (x->head >= 0)
		close(x->head);
	if (x->in.fd >= 0)
		close(x->in.fd);
	free(x->members);
	free(x->buffer);
	sd_names_free(&x->names);
	sd_names_free(&x->inside);
	sd_index_free(&x->index);
	sd_arena_free(&x->arena);
	free(x);
}

/* The weights of what NeMo saves are in a folder; beside it are its other files. */
static enum sd_result add_nemo_files(struct sd_archive *x, struct sd_source *source, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (!find(x, "../model_config.yaml"))
		return SD_OK;
	for (size_t i = 0; i < x->count && result == SD_OK; i++) {
		const struct sd_archive_file *m = &x->members[i];
		const char *name;

		if (!is_beside(x, m) || sd_checkpoint_role(m->base) != SD_ROLE_SIDE ||
		    sd_manifest_side(source->manifest, m->base))
			continue;
		name = sd_arena_printf(&x->arena, "../%s", m->base);
		result = name ? sd_checkpoint_add_side(source, &x->folder, name, m->base, err) : sd_fail_memory(err);
	}
	return result;
}

/* The source has the archive as its guest. */
static enum sd_result read_checkpoint(struct sd_archive *x, struct sd_source **source, struct sd_error *err)
{
	struct sd_safetensors_read reading;
	enum sd_result result = sd_safetensors_read_begin(&reading, &x->limits, err);

	if (result != SD_OK)
		return result;
	sd_extents_invite(reading.source, &x->guest);
	result = sd_checkpoint_read(&x->folder, &reading, err);
	if (result == SD_OK && !x->limits.dir)
		result = add_nemo_files(x, reading.source, err);
	sd_safetensors_read_free(&reading);
	*source = reading.source;
	return result;
}

static enum sd_result make_archive(const struct sd_opened *in, size_t n, const struct sd_limits *limits,
				   struct sd_archive **made, struct sd_error *err)
{
	struct sd_archive *x = calloc(1, sizeof(*x));
	off_t at = lseek(in->fd, 0, SEEK_CUR);
	int error = errno;

	*made = x;
	if (!x)
		return sd_fail_memory(err);
	x->guest = (struct sd_guest){archive_finish, archive_close};
	x->folder = (struct sd_folder){.ops = &archive_ops, .path = in->name, .archive = true};
	x->limits = limits ? *limits : sd_limits_default;
	x->in = *in;
	x->head = -1;
	x->buffer = malloc(SD_ARCHIVE_STEP);
	if (!x->buffer)
		return sd_fail_memory(err);
	if (fstat(in->fd, &x->then) != 0)
		return sd_fail_errno(err, errno, "%s: cannot be looked at", in->name);
	if (S_ISREG(x->then.st_mode) && at < 0)
		return sd_fail_errno(err, error, "cannot seek");
	x->seekable = S_ISREG(x->then.st_mode) && at >= (off_t)n;
	x->begin = x->seekable ? (uint64_t)at - n : 0;
	return SD_OK;
}

enum sd_result sd_archive_open(const struct sd_opened *in, const void *first, size_t n, const struct sd_limits *limits,
			       struct sd_source **source, struct sd_error *err)
{
	struct sd_archive *x;
	bool is_archive = true;
	enum sd_result result = make_archive(in, n, limits, &x, err);

	*source = NULL;
	if (result == SD_OK)
		result = sd_archive_list(x, first, n, &is_archive, err);
	if (result != SD_OK && !err->told)
		sd_error_at(err, "%s", in->name);
	if (result == SD_OK && is_archive)
		result = choose_folder(x, err);
	if (result == SD_OK && is_archive)
		result = read_checkpoint(x, source, err);
	if (result == SD_OK && is_archive)
		return SD_OK;
	if (x && result == SD_OK)
		x->in.fd = -1;
	if (*source)
		sd_source_close(*source);
	else if (x)
		archive_close(&x->guest);
	else
		close(in->fd);
	*source = NULL;
	return result;
}
