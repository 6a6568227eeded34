/* SPDX-License-Identifier: Apache-2.0 */
/* What is in an archive. */
#include "formats/archive_members.h"
#include "base/checked.h"
#include "base/signals.h"
#include "formats/checkpoint.h"
#include "formats/torch_save.h"
#include "formats/zip.h"

#include <errno.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPANDED_FREE (16u << 20) /* that little data may expand as far as it likes */
#define BEGINNING UINT32_MAX
#define HOW_TO_MAKE "put it into a file, or make it by sd-pack, which puts config and index first"

/* ---- names ---- */

static enum sd_result fail_name(const char *name, const char *why, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s in the archive %s: it is not read", name, why);
}

/* The name of a member as a path in the archive. */
enum sd_result sd_archive_clean(struct sd_archive *x, const char *raw, char **name, struct sd_error *err)
{
	size_t length = strlen(raw);
	char *to;

	if (sd_limits_check_name(&x->limits, raw, length, err) != SD_OK)
		return err->result;
	if (raw[0] == '/')
		return fail_name(raw, "has an absolute path", err);
	if (strchr(raw, '\\'))
		return fail_name(raw, "has a backslash in its name", err);
	*name = to = sd_arena_text(&x->arena, raw, length);
	if (!to)
		return sd_fail_memory(err);
	for (const char *p = raw; *p; p += strspn(p, "/")) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return fail_name(raw, "leads out of it", err);
		if (n != 1 || *p != '.') {
			if (to != *name)
				*to++ = '/';
			memcpy(to, p, n);
			to += n;
		}
		p += n;
	}
	*to = '\0';
	return SD_OK;
}

const char *sd_archive_base(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

static enum sd_result fail_kind(const char *name, const char *what, struct sd_error *err)
{
	const char *mend = strstr(what, "link") ? "; tar --dereference --hard-dereference has files in place of links"
			   : strstr(what, "sparse") ? "; tar without --sparse has it whole"
						    : "";

	return sd_fail(err, SD_INPUT, "%s in the archive is %s: only plain files are read%s", name, what, mend);
}

/* Adds a file; *added points to it until the next one. */
static enum sd_result add_member(struct sd_archive *x, const char *raw, uint64_t size, struct sd_archive_file **added,
				 struct sd_error *err)
{
	struct sd_archive_file m = {
		.in = x, .size = size, .begin = SD_ARCHIVE_NOWHERE, .number = (uint32_t)x->count, .spool = -1};
	uint32_t known;
	char *name;

	if (sd_limits_check(&x->limits, SD_LIMIT_MEMBERS, x->count + 1, "the archive has at least", err) != SD_OK ||
	    sd_archive_clean(x, raw, &name, err) != SD_OK)
		return err->result;
	m.name = name;
	m.base = sd_archive_base(name);
	if (!*m.base)
		return fail_name(raw, "has no name", err);
	known = sd_names_add(&x->names, name, m.number);
	if (known == SD_NO_NAME || !sd_array_grow(&x->members, x->count, &x->room, sizeof(*x->members)))
		return sd_fail_memory(err);
	if (known != m.number)
		return fail_name(raw, "is there twice", err);
	x->members[x->count] = m;
	*added = &x->members[x->count++];
	return SD_OK;
}

/* ---- a pass over compressed data ---- */

static enum sd_result begin_pass(struct sd_archive *x, const void *first, size_t n, bool *is_archive,
				 struct sd_error *err)
{
	struct sd_unpack_input input = {.fd = x->in.fd,
					.seekable = x->seekable,
					.begin = x->begin,
					.first = first,
					.nfirst = n,
					.limits = &x->limits};

	sd_unpack_close(x->pass);
	x->pass = NULL;
	x->at = BEGINNING;
	x->seen = 0;
	return sd_unpack_open(&input, &x->pass, is_archive, err);
}

/* The next file, or the end. */
static enum sd_result next_file(struct sd_archive *x, struct sd_unpack_entry *entry, struct sd_error *err)
{
	char *ignored;

	do {
		if (sd_unpack_next(x->pass, entry, err) != SD_OK)
			return err->result;
		if (entry->kind == SD_UNPACK_OTHER)
			return fail_kind(entry->name, entry->what, err);
		if (entry->kind == SD_UNPACK_FOLDER && sd_archive_clean(x, entry->name, &ignored, err) != SD_OK)
			return err->result;
	} while (entry->kind == SD_UNPACK_FOLDER);
	x->done = 0;
	x->crc = 0;
	x->at = entry->kind == SD_UNPACK_END ? BEGINNING : x->seen++;
	return SD_OK;
}

static enum sd_result take(struct sd_archive *x, void *buffer, size_t length, size_t *got, struct sd_error *err)
{
	if (sd_unpack_read(x->pass, buffer, length, got, err) != SD_OK)
		return err->result;
	x->done += *got;
	if (x->is_zip)
		x->crc = libdeflate_crc32(x->crc, buffer, *got);
	return SD_OK;
}

static enum sd_result fail_early(const struct sd_archive_file *m, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s in the archive ends early", m->name);
}

/* The next length bytes of the member. libarchive takes a CRC from where it likes: that of the directory counts. */
enum sd_result sd_archive_take(struct sd_archive *x, const struct sd_archive_file *m, char *buffer, size_t length,
			       struct sd_error *err)
{
	size_t got;
	char more;

	for (size_t filled = 0; filled < length; filled += got) {
		if (take(x, buffer + filled, length - filled, &got, err) != SD_OK)
			return err->told ? err->result : sd_error_at(err, "%s in the archive", m->name);
		if (!got)
			return fail_early(m, err);
	}
	if (x->done < m->size)
		return SD_OK;
	/* libarchive looks at a checksum when it is asked for more. */
	if (take(x, &more, 1, &got, err) != SD_OK)
		return err->told ? err->result : sd_error_at(err, "%s in the archive", m->name);
	if (got)
		return sd_fail(err, SD_INPUT, "%s in the archive goes on behind its size", m->name);
	if (x->is_zip && x->crc != m->crc)
		return sd_fail(err, SD_INPUT,
			       "%s in the archive is damaged: its CRC is %08" PRIx32 ", and should be %08" PRIx32,
			       m->name, x->crc, m->crc);
	return SD_OK;
}

/* Goes to a byte of a member. */
enum sd_result sd_archive_go_to(struct sd_archive *x, const struct sd_archive_file *m, uint64_t offset,
				struct sd_error *err)
{
	struct sd_unpack_entry entry = {.kind = SD_UNPACK_FILE};
	bool is_archive = true, behind = x->at == m->number ? x->done > offset : x->seen > m->number;
	enum sd_result result = SD_OK;
	size_t part;

	if (behind && !x->seekable)
		return sd_fail(err, SD_INPUT, "%s in the archive has passed already: " HOW_TO_MAKE, m->name);
	if (!x->pass || behind)
		result = begin_pass(x, NULL, 0, &is_archive, err);
	while (result == SD_OK && is_archive && x->at != m->number && entry.kind == SD_UNPACK_FILE)
		result = next_file(x, &entry, err);
	if (result == SD_OK && x->at != m->number)
		result = sd_fail(err, SD_INPUT, "%s changed while it was being read", x->in.name);
	while (result == SD_OK && x->done < offset) {
		part = offset - x->done < SD_ARCHIVE_STEP ? (size_t)(offset - x->done) : SD_ARCHIVE_STEP;
		result = sd_archive_take(x, m, x->buffer, part, err);
	}
	return result;
}

/* ---- what is kept of members that pass by ---- */

/* Holds the next bytes of a member, up to the first `length` ones. Memory grows with what really comes. */
static enum sd_result hold(struct sd_archive *x, struct sd_archive_file *m, uint64_t length, struct sd_error *err)
{
	uint64_t sum = UINT64_MAX;

	if (length > m->nheld && !sd_add(x->held, length - m->nheld, &sum))
		sum = UINT64_MAX;
	if (length > m->nheld && sd_limits_check(&x->limits, SD_LIMIT_MANIFEST, sum,
						 "headers and side files of the archive have", err) != SD_OK)
		return err->result;
	while (m->nheld < length) {
		size_t step = m->nheld < SD_ARCHIVE_STEP ? SD_ARCHIVE_STEP : m->nheld;
		size_t part = length - m->nheld < step ? (size_t)(length - m->nheld) : step;
		char *larger = realloc(m->held, m->nheld + part + 1);

		if (!larger)
			return sd_fail_memory(err);
		m->held = larger;
		if (sd_archive_take(x, m, m->held + m->nheld, part, err) != SD_OK)
			return err->result;
		m->nheld += part;
		x->held += part;
	}
	return SD_OK;
}

/* Holds the header of a safetensors file; what is none is found out when it is read. */
static enum sd_result hold_head(struct sd_archive *x, struct sd_archive_file *m, struct sd_error *err)
{
	uint64_t length;

	if (m->size < SD_SAFETENSORS_LENGTH)
		return hold(x, m, m->size, err);
	if (hold(x, m, SD_SAFETENSORS_LENGTH, err) != SD_OK)
		return err->result;
	length = sd_safetensors_length((const unsigned char *)m->held);
	if (length > x->limits.most[SD_LIMIT_HEADER] || length > m->size - SD_SAFETENSORS_LENGTH)
		return SD_OK;
	return hold(x, m, SD_SAFETENSORS_LENGTH + length, err);
}

static enum sd_result resize(int fd, uint64_t size, struct sd_error *err)
{
	while (ftruncate(fd, (off_t)size) != 0)
		if (errno != EINTR)
			return sd_fail_errno(err, errno, "cannot make a file in memory of %" PRIu64 " bytes", size);
		else if (sd_signals_check(err) != SD_OK)
			return SD_IO;
	return SD_OK;
}

enum sd_result sd_archive_memory(uint64_t size, int *fd, struct sd_error *err)
{
	if (*fd < 0)
		*fd = memfd_create("sd-archive", MFD_CLOEXEC);
	if (*fd < 0)
		return sd_fail_errno(err, errno, "cannot make a file in memory");
	if (size > INT64_MAX)
		return sd_fail(err, SD_INPUT, "no file has %" PRIu64 " bytes", size);
	/* By way of no bytes: what it had before is gone then. */
	return resize(*fd, 0, err) == SD_OK && resize(*fd, size, err) == SD_OK ? SD_OK : err->result;
}

/* Puts all of a member into a file in memory, unless that is too much: then it has none. */
static enum sd_result spool(struct sd_archive *x, struct sd_archive_file *m, struct sd_error *err)
{
	uint64_t sum;
	enum sd_result result;

	if (!sd_add(x->spooled, m->size, &sum) || sum > x->limits.most[SD_LIMIT_SPOOL])
		return SD_OK;
	x->spooled = sum;
	result = sd_archive_memory(m->size, &m->spool, err);
	for (uint64_t done = 0; done < m->size && result == SD_OK;) {
		size_t part = m->size - done < SD_ARCHIVE_STEP ? (size_t)(m->size - done) : SD_ARCHIVE_STEP;

		result = sd_archive_take(x, m, x->buffer, part, err);
		if (result == SD_OK)
			result = sd_pwrite_all(m->spool, x->buffer, part, (off_t)done, err);
		done += part;
	}
	return result;
}

/* Files that are small and read whole: indexes, side files, and what says that a folder is of a format. */
static bool is_small(const struct sd_archive_file *m)
{
	const struct sd_format *format = sd_format_of_name(m->base);
	enum sd_file_role role = sd_checkpoint_role(m->base);

	return sd_format_of_mark(m->base) || role == SD_ROLE_SIDE || role == SD_ROLE_INDEX ||
	       (format && format->second == SD_ROLE_INDEX);
}

/* Whether data of this file is read in its order, once its header is known. */
bool sd_archive_is_in_order(const struct sd_archive_file *m)
{
	bool is_shard;

	sd_format_rest(m->base, &is_shard);
	return sd_checkpoint_role(m->base) == SD_ROLE_WEIGHTS && !is_shard;
}

/* Whether it holds weights that are read, but not in order. */
static bool is_at_random(const struct sd_archive_file *m)
{
	const struct sd_format *format = sd_format_of_name(m->base);

	return format && m->base[0] != '.' && !sd_archive_is_in_order(m) &&
	       (format->add || format->mark || format->role == SD_ROLE_WEIGHTS || format->second == SD_ROLE_WEIGHTS);
}

/* Keeps what will be needed of the member that the pass is at. */
enum sd_result sd_archive_keep(struct sd_archive *x, struct sd_archive_file *m, struct sd_error *err)
{
	uint64_t most =
		sd_checkpoint_role(m->base) == SD_ROLE_SIDE ? SD_SIDE_FILE_MAX : x->limits.most[SD_LIMIT_MANIFEST];

	if (sd_archive_is_in_order(m))
		return hold_head(x, m, err);
	if (is_at_random(m))
		return spool(x, m, err);
	if (is_small(m) && m->size <= most)
		return hold(x, m, m->size, err);
	return SD_OK;
}

/* ---- listing ---- */

/* Where the data of a member of a plain tar is. The first bytes are compared, for libarchive only tells by the way. */
static enum sd_result place_member(struct sd_archive *x, struct sd_archive_file *m, uint64_t begin,
				   struct sd_error *err)
{
	char here[16], there[16];
	size_t length = m->size < sizeof(here) ? (size_t)m->size : sizeof(here);
	uint64_t end = (uint64_t)x->then.st_size;

	m->begin = x->begin + begin;
	if (m->begin > end || m->size > end - m->begin)
		return sd_fail(err, SD_INPUT,
			       "truncated archive: %s has %" PRIu64 " bytes from byte %" PRIu64
			       " on, the file ends at %" PRIu64,
			       m->name, m->size, m->begin, end);
	if (sd_archive_take(x, m, here, length, err) != SD_OK ||
	    sd_pread_all(x->in.fd, there, length, (off_t)m->begin, err) != SD_OK)
		return err->result;
	return memcmp(here, there, length) == 0
		       ? SD_OK
		       : sd_fail(err, SD_INPUT, "%s in the archive is not where it should be", m->name);
}

/* Reads an index that has come. */
static enum sd_result take_index(struct sd_archive *x, const struct sd_archive_file *m, struct sd_error *err)
{
	if (x->indexed || sd_checkpoint_role(m->base) != SD_ROLE_INDEX)
		return SD_OK;
	if (sd_index_parse(m->held ? m->held : "", m->nheld, &x->limits, &x->index, err) != SD_OK)
		return sd_error_at(err, "%s in the archive", m->name);
	x->indexed = sd_arena_text(&x->arena, m->name, (size_t)(m->base - m->name));
	return x->indexed ? SD_OK : sd_fail_memory(err);
}

/* Whether a member is in the folder of the index. */
static bool is_indexed(const struct sd_archive *x, const struct sd_archive_file *m)
{
	size_t n = (size_t)(m->base - m->name);

	return x->indexed && strlen(x->indexed) == n && memcmp(x->indexed, m->name, n) == 0;
}

/* Whether all files that the index names have come. */
static enum sd_result count_files(struct sd_archive *x, bool *all, struct sd_error *err)
{
	for (; x->came < x->index.nfiles; x->came++) {
		const char *path = sd_arena_printf(&x->arena, "%s%s", x->indexed, x->index.files[x->came]);

		if (!path)
			return sd_fail_memory(err);
		if (sd_names_find(&x->names, path) == SD_NO_NAME)
			break;
	}
	*all = x->came == x->index.nfiles;
	return SD_OK;
}

/* A shard that others come behind is kept. */
static enum sd_result keep_shard(struct sd_archive *x, struct sd_archive_file *m, struct sd_error *err)
{
	enum sd_result result = spool(x, m, err);

	if (result != SD_OK || m->spool >= 0)
		return result;
	return sd_fail(err, SD_INPUT,
		       "%s in the archive: from a pipe, all shards but the last are kept in memory, and that is more "
		       "than --limit=spool=%" PRIu64 "; put it into a file",
		       m->name, x->limits.most[SD_LIMIT_SPOOL]);
}

/*
 * From a pipe, only the last file of weights can pass by: all else that is needed has to have come before it. An index
 * tells which one is the last.
 */
static enum sd_result keep_from_pipe(struct sd_archive *x, struct sd_archive_file *m, bool *last, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*last = sd_archive_is_in_order(m);
	if (!*last) {
		result = sd_archive_keep(x, m, err);
		return result == SD_OK ? take_index(x, m, err) : result;
	}
	if (!is_indexed(x, m) && sd_checkpoint_is_shard(m->base))
		return sd_fail(err, SD_INPUT,
			       "%s in the archive comes before its index, and from a pipe nothing is read "
			       "twice: " HOW_TO_MAKE,
			       m->name);
	if (is_indexed(x, m))
		result = count_files(x, last, err);
	if (result != SD_OK)
		return result;
	return *last ? sd_archive_keep(x, m, err) : keep_shard(x, m, err);
}

/* Of a file that can be gone to again, what most readings need; whether the rest is needed is not known yet. */
static enum sd_result keep_first(struct sd_archive *x, struct sd_archive_file *m, struct sd_error *err)
{
	return is_at_random(m) ? SD_OK : sd_archive_keep(x, m, err);
}

static enum sd_result list_tar(struct sd_archive *x, struct sd_error *err)
{
	struct sd_unpack_entry entry;
	struct sd_archive_file *m;
	bool last = false;
	enum sd_result result = next_file(x, &entry, err);

	while (result == SD_OK && entry.kind == SD_UNPACK_FILE) {
		result = add_member(x, entry.name, entry.size, &m, err);
		if (result == SD_OK && entry.begin != SD_ARCHIVE_NOWHERE)
			result = place_member(x, m, entry.begin, err);
		else if (result == SD_OK)
			result = x->seekable ? keep_first(x, m, err) : keep_from_pipe(x, m, &last, err);
		if (last)
			break;
		if (result == SD_OK)
			result = next_file(x, &entry, err);
	}
	return result;
}

/* What a member of a zip is, that the file systems of Unix know. */
static enum sd_result check_zip_kind(const struct sd_zip_member *m, struct sd_error *err)
{
	if (S_ISLNK(m->mode))
		return fail_kind(m->name, "a symbolic link", err);
	if (m->mode & S_IFMT && !S_ISREG(m->mode) && !S_ISDIR(m->mode))
		return fail_kind(m->name, "no file", err);
	return SD_OK;
}

enum sd_result sd_archive_verify(struct sd_verify *verify, struct sd_error *err)
{
	const struct sd_archive_file *m = (const struct sd_archive_file *)verify;
	struct sd_extent all = {.length = m->size, .fd = m->in->in.fd, .offset = (off_t)m->begin};

	if (sd_zip_check(&all, m->crc, err) == SD_OK)
		return SD_OK;
	return sd_error_at(err, "%s/%s", m->in->in.name, m->name);
}

static enum sd_result add_zip_member(struct sd_archive *x, const struct sd_extent *whole, const struct sd_zip_member *z,
				     struct sd_error *err)
{
	struct sd_extent packed;
	struct sd_archive_file *m;
	uint64_t most = x->limits.most[SD_LIMIT_RATIO];

	if (add_member(x, z->name, z->size, &m, err) != SD_OK || sd_zip_locate(whole, z, &packed, err) != SD_OK)
		return err->result;
	m->crc = z->crc;
	if (z->deflated) {
		if (z->size > EXPANDED_FREE && z->size / most > z->packed)
			return sd_fail(err, SD_INPUT,
				       "%s in the archive: %" PRIu64 " compressed bytes are said to be %" PRIu64
				       ", which is too far for weights; --limit=ratio=N takes N for each",
				       m->name, z->packed, z->size);
		return SD_OK;
	}
	m->begin = (uint64_t)packed.offset;
	m->verify.run = sd_archive_verify;
	return SD_OK;
}

static int by_header(const void *a, const void *b)
{
	const struct sd_zip_member *x = a, *y = b;

	return (x->header > y->header) - (x->header < y->header);
}

/* The members of a zip, in the order of the file. None may lie in another: few bytes would be many then. */
static enum sd_result list_zip(struct sd_archive *x, struct sd_zip *zip, struct sd_error *err)
{
	struct sd_extent whole = {
		.length = (uint64_t)x->then.st_size - x->begin, .fd = x->in.fd, .offset = (off_t)x->begin};
	enum sd_result result = SD_OK;
	uint64_t end = 0;

	if (zip->count)
		qsort(zip->members, zip->count, sizeof(*zip->members), by_header);
	for (size_t i = 0; i < zip->count && result == SD_OK; i++) {
		const struct sd_zip_member *z = &zip->members[i];
		size_t length = strlen(z->name);

		result = check_zip_kind(z, err);
		if (result == SD_OK && z->header < end)
			result = fail_name(z->name, "overlaps another member", err);
		if (result == SD_OK && !sd_add(z->header, z->packed, &end))
			end = UINT64_MAX;
		if (result == SD_OK && !(length && z->name[length - 1] == '/'))
			result = add_zip_member(x, &whole, z, err);
	}
	return result;
}

/* The names of the files of a tar of PyTorch before 0.2. */
static enum sd_result check_old_torch(const struct sd_archive *x, struct sd_error *err)
{
	static const char *const names[] = {"sys_info", "pickle", "storages", "tensors"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (sd_names_find(&x->names, names[i]) == SD_NO_NAME)
			return SD_OK;
	return sd_fail(err, SD_INPUT,
		       "a tar of PyTorch before 0.2, which is not read: load it in an old PyTorch, and save it anew");
}

enum sd_result sd_archive_list(struct sd_archive *x, const void *first, size_t n, bool *is_archive,
			       struct sd_error *err)
{
	struct sd_extent whole = {
		.length = (uint64_t)x->then.st_size - x->begin, .fd = x->in.fd, .offset = (off_t)x->begin};
	struct sd_zip zip = {0};
	enum sd_result result;

	x->is_zip = x->seekable && memcmp(first, SD_ZIP_MAGIC, SD_ZIP_MAGIC_LENGTH) == 0;
	if (!x->is_zip) {
		result = begin_pass(x, first, n, is_archive, err);
		if (result == SD_OK && *is_archive)
			result = list_tar(x, err);
		return result == SD_OK ? check_old_torch(x, err) : result;
	}
	*is_archive = true;
	result = sd_zip_read(&whole, &x->limits, &zip, err);
	if (result == SD_OK && sd_torch_is_zip(&zip))
		*is_archive = false;
	else if (result == SD_OK)
		result = list_zip(x, &zip, err);
	sd_zip_free(&zip);
	return result;
}

/* ---- the end ---- */

/* From a pipe: what comes behind the weights would be lost. */
enum sd_result sd_archive_finish(struct sd_archive *x, struct sd_error *err)
{
	struct sd_unpack_entry entry = {.kind = x->at == BEGINNING ? SD_UNPACK_END : SD_UNPACK_FILE};
	enum sd_result result = SD_OK;
	char *name;

	while (result == SD_OK && entry.kind == SD_UNPACK_FILE) {
		result = next_file(x, &entry, err);
		if (result == SD_OK && entry.kind == SD_UNPACK_FILE)
			result = sd_archive_clean(x, entry.name, &name, err);
		if (result == SD_OK && entry.kind == SD_UNPACK_FILE && sd_archive_base(name)[0] != '.')
			result = sd_fail(err, SD_INPUT,
					 "%s in the archive comes behind the weights, and from a pipe that is too "
					 "late: " HOW_TO_MAKE,
					 name);
	}
	return result;
}
