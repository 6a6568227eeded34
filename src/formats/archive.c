/* SPDX-License-Identifier: Apache-2.0 */
/* Archives as sources. */
#include "formats/archive.h"
#include "base/checked.h"
#include "base/names.h"
#include "base/text.h"
#include "formats/checkpoint.h"
#include "formats/index.h"
#include "formats/torch_save.h"
#include "formats/unpack.h"
#include "formats/zip.h"

#include <errno.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEP (1u << 20)
#define EXPANDED_FREE (16u << 20) /* that little data may expand as far as it likes */
#define NOWHERE UINT64_MAX
#define BEGINNING UINT32_MAX
#define IN_PLACE "a plain tar in a file is read in place"
#define HOW_TO_MAKE "put it into a file, or make it by sd-pack, which puts config and index first"

struct archive;

/* A file in the archive. */
struct member {
	struct sd_verify verify; /* of one that is stored in a zip */
	struct archive *in;
	const char *name; /* without "./" */
	const char *base; /* the last part of it */
	uint64_t size;
	uint64_t begin;  /* in the file, where its bytes are there as they are; else NOWHERE */
	uint32_t number; /* among the files, in the order of the archive */
	uint32_t crc;    /* in a zip */
	char *held;      /* its first bytes, malloc'd */
	size_t nheld;
	int spool; /* a file in memory that has all of it, or -1 */
};

/* A record whose data passes by. */
struct passing {
	struct sd_made base;
	struct member *member;
	uint64_t offset, bytes;
};

struct archive {
	struct sd_guest guest;
	struct sd_folder folder;
	struct sd_limits limits;
	struct sd_opened in;
	struct stat then;
	uint64_t begin; /* of the archive in the file */
	bool seekable, is_zip, packed;
	struct sd_arena arena;
	struct member *members;
	size_t count, room;
	struct sd_names names; /* to members */
	const char *root;      /* the folder that counts: "" or "a/b" */
	struct member *opened; /* last */
	uint64_t held, spooled;

	struct sd_unpacking *pass;
	uint32_t at;   /* the file that it is at, by its number; BEGINNING: none */
	uint32_t seen; /* files that it came by */
	uint64_t done; /* bytes of this one that were read */
	uint32_t crc;  /* of them, in a zip */
	int head;      /* a file in memory: a header, where one of weights would have it */
	char *buffer;  /* STEP bytes */
};

/* ---- names ---- */

static enum sd_result fail_name(const char *name, const char *why, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s in the archive %s: it is not read", name, why);
}

/* The name of a member as a path in the archive. */
static enum sd_result clean(struct archive *x, const char *raw, char **name, struct sd_error *err)
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

static const char *base_of(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

static enum sd_result fail_kind(const char *name, const char *what, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s in the archive is %s: only files are read%s", name, what,
		       strstr(what, "link") ? "; tar --dereference --hard-dereference has files in place of links"
					    : "");
}

/* Adds a file; *added points to it until the next one. */
static enum sd_result add_member(struct archive *x, const char *raw, uint64_t size, struct member **added,
				 struct sd_error *err)
{
	struct member m = {.in = x, .size = size, .begin = NOWHERE, .number = (uint32_t)x->count, .spool = -1};
	uint32_t known;
	char *name;

	if (sd_limits_check(&x->limits, SD_LIMIT_MEMBERS, x->count + 1, "the archive has at least", err) != SD_OK ||
	    clean(x, raw, &name, err) != SD_OK)
		return err->result;
	m.name = name;
	m.base = base_of(name);
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

static enum sd_result begin_pass(struct archive *x, const void *first, size_t n, bool *is_archive, struct sd_error *err)
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
static enum sd_result next_file(struct archive *x, struct sd_unpack_entry *entry, struct sd_error *err)
{
	char *ignored;

	do {
		if (sd_unpack_next(x->pass, entry, err) != SD_OK)
			return err->result;
		if (entry->kind == SD_UNPACK_OTHER)
			return fail_kind(entry->name, entry->what, err);
		if (entry->kind == SD_UNPACK_FOLDER && clean(x, entry->name, &ignored, err) != SD_OK)
			return err->result;
	} while (entry->kind == SD_UNPACK_FOLDER);
	x->done = 0;
	x->crc = 0;
	x->at = entry->kind == SD_UNPACK_END ? BEGINNING : x->seen++;
	return SD_OK;
}

static enum sd_result take(struct archive *x, void *buffer, size_t length, size_t *got, struct sd_error *err)
{
	if (sd_unpack_read(x->pass, buffer, length, got, err) != SD_OK)
		return err->result;
	x->done += *got;
	if (x->is_zip)
		x->crc = libdeflate_crc32(x->crc, buffer, *got);
	return SD_OK;
}

static enum sd_result fail_early(const struct member *m, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s in the archive ends early", m->name);
}

/* The next length bytes of the member. libarchive takes a CRC from where it likes: that of the directory counts. */
static enum sd_result take_all(struct archive *x, const struct member *m, char *buffer, size_t length,
			       struct sd_error *err)
{
	size_t got;

	for (size_t filled = 0; filled < length; filled += got) {
		if (take(x, buffer + filled, length - filled, &got, err) != SD_OK)
			return err->result;
		if (!got)
			return fail_early(m, err);
	}
	if (x->is_zip && x->done == m->size && x->crc != m->crc)
		return sd_fail(err, SD_INPUT,
			       "%s in the archive is damaged: its CRC is %08" PRIx32 ", and should be %08" PRIx32,
			       m->name, x->crc, m->crc);
	return SD_OK;
}

/* Goes to a byte of a member. */
static enum sd_result go_to(struct archive *x, const struct member *m, uint64_t offset, struct sd_error *err)
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
		part = offset - x->done < STEP ? (size_t)(offset - x->done) : STEP;
		result = take_all(x, m, x->buffer, part, err);
	}
	return result;
}

/* ---- what is kept of members that pass by ---- */

/* Holds the next bytes of a member, up to the first `length` ones. Memory grows with what really comes. */
static enum sd_result hold(struct archive *x, struct member *m, uint64_t length, struct sd_error *err)
{
	uint64_t sum = UINT64_MAX;

	if (length > m->nheld && !sd_add(x->held, length - m->nheld, &sum))
		sum = UINT64_MAX;
	if (length > m->nheld && sd_limits_check(&x->limits, SD_LIMIT_MANIFEST, sum,
						 "headers and side files of the archive have", err) != SD_OK)
		return err->result;
	while (m->nheld < length) {
		size_t step = m->nheld < STEP ? STEP : m->nheld;
		size_t part = length - m->nheld < step ? (size_t)(length - m->nheld) : step;
		char *larger = realloc(m->held, m->nheld + part + 1);

		if (!larger)
			return sd_fail_memory(err);
		m->held = larger;
		if (take_all(x, m, m->held + m->nheld, part, err) != SD_OK)
			return err->result;
		m->nheld += part;
		x->held += part;
	}
	return SD_OK;
}

/* Holds the header of a safetensors file; what is none is found out when it is read. */
static enum sd_result hold_head(struct archive *x, struct member *m, struct sd_error *err)
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

static enum sd_result open_memory(uint64_t size, int *fd, struct sd_error *err)
{
	if (*fd < 0)
		*fd = memfd_create("sd-archive", MFD_CLOEXEC);
	if (*fd < 0)
		return sd_fail_errno(err, errno, "cannot make a file in memory");
	if (size > INT64_MAX)
		return sd_fail(err, SD_INPUT, "no file has %" PRIu64 " bytes", size);
	return ftruncate(*fd, 0) == 0 && ftruncate(*fd, (off_t)size) == 0
		       ? SD_OK
		       : sd_fail_errno(err, errno, "cannot make a file in memory of %" PRIu64 " bytes", size);
}

/* Puts all of a member into a file in memory, unless that is too much: then it has none. */
static enum sd_result spool(struct archive *x, struct member *m, struct sd_error *err)
{
	uint64_t sum;
	enum sd_result result;

	if (!sd_add(x->spooled, m->size, &sum) || sum > x->limits.most[SD_LIMIT_SPOOL])
		return SD_OK;
	x->spooled = sum;
	result = open_memory(m->size, &m->spool, err);
	for (uint64_t done = 0; done < m->size && result == SD_OK;) {
		size_t part = m->size - done < STEP ? (size_t)(m->size - done) : STEP;

		result = take_all(x, m, x->buffer, part, err);
		if (result == SD_OK)
			result = sd_pwrite_all(m->spool, x->buffer, part, (off_t)done, err);
		done += part;
	}
	return result;
}

/* Files that are small and read whole: indexes, side files, and what says that a folder is of a format. */
static bool is_small(const struct member *m)
{
	const struct sd_format *format = sd_format_of_name(m->base);
	enum sd_file_role role = sd_checkpoint_role(m->base);

	return sd_format_of_mark(m->base) || role == SD_ROLE_SIDE || role == SD_ROLE_INDEX ||
	       (format && format->second == SD_ROLE_INDEX);
}

/* Whether data of this file is read in its order, once its header is known. */
static bool is_in_order(const struct member *m)
{
	bool is_shard;

	sd_format_rest(m->base, &is_shard);
	return sd_checkpoint_role(m->base) == SD_ROLE_WEIGHTS && !is_shard;
}

/* Whether it holds weights that are read, but not in order. */
static bool is_at_random(const struct member *m)
{
	const struct sd_format *format = sd_format_of_name(m->base);

	return format && m->base[0] != '.' && !is_in_order(m) &&
	       (format->add || format->mark || format->role == SD_ROLE_WEIGHTS || format->second == SD_ROLE_WEIGHTS);
}

/* Keeps what will be needed of the member that the pass is at. */
static enum sd_result keep(struct archive *x, struct member *m, struct sd_error *err)
{
	uint64_t most =
		sd_checkpoint_role(m->base) == SD_ROLE_SIDE ? SD_SIDE_FILE_MAX : x->limits.most[SD_LIMIT_MANIFEST];

	if (is_in_order(m))
		return hold_head(x, m, err);
	if (is_at_random(m))
		return spool(x, m, err);
	if (is_small(m) && m->size <= most)
		return hold(x, m, m->size, err);
	return SD_OK;
}

/* ---- listing ---- */

/* Where the data of a member of a plain tar is. The first bytes are compared, for libarchive only tells by the way. */
static enum sd_result place_member(struct archive *x, struct member *m, uint64_t begin, struct sd_error *err)
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
	if (take_all(x, m, here, length, err) != SD_OK ||
	    sd_pread_all(x->in.fd, there, length, (off_t)m->begin, err) != SD_OK)
		return err->result;
	return memcmp(here, there, length) == 0
		       ? SD_OK
		       : sd_fail(err, SD_INPUT, "%s in the archive is not where it should be", m->name);
}

/* The index in the folder of a member that has come before it, or NULL. */
static const struct member *index_of(const struct archive *x, const struct member *m)
{
	size_t folder = (size_t)(m->base - m->name);

	for (size_t i = 0; i < x->count; i++) {
		const struct member *other = &x->members[i];

		if ((size_t)(other->base - other->name) == folder && memcmp(other->name, m->name, folder) == 0 &&
		    sd_checkpoint_role(other->base) == SD_ROLE_INDEX)
			return other;
	}
	return NULL;
}

/* Whether all files that the index names have come. */
static enum sd_result count_files(struct archive *x, const struct member *at, bool *all, struct sd_error *err)
{
	struct sd_index index = {0};
	enum sd_result result = sd_index_parse(at->held, at->nheld, &x->limits, &index, err);

	*all = true;
	if (result != SD_OK)
		sd_error_at(err, "%s in the archive", at->name);
	for (size_t i = 0; i < index.nfiles && result == SD_OK && *all; i++) {
		const char *path =
			sd_arena_printf(&x->arena, "%.*s%s", (int)(at->base - at->name), at->name, index.files[i]);

		if (!path)
			result = sd_fail_memory(err);
		else
			*all = sd_names_find(&x->names, path) != SD_NO_NAME;
	}
	sd_index_free(&index);
	return result;
}

/*
 * From a pipe, only the last file of weights can pass by: all else that is needed has to have come before it. An index
 * tells which one is the last.
 */
static enum sd_result keep_from_pipe(struct archive *x, struct member *m, bool *last, struct sd_error *err)
{
	const struct member *index = is_in_order(m) ? index_of(x, m) : NULL;
	enum sd_result result = SD_OK;

	*last = is_in_order(m);
	if (!*last)
		return keep(x, m, err);
	if (!index && sd_checkpoint_is_shard(m->base))
		return sd_fail(
			err, SD_INPUT,
			"%s in the archive comes before its index, and from a pipe nothing is read twice: " HOW_TO_MAKE,
			m->name);
	if (index)
		result = count_files(x, index, last, err);
	if (result != SD_OK || *last)
		return result == SD_OK ? keep(x, m, err) : result;
	result = spool(x, m, err);
	if (result == SD_OK && m->spool < 0)
		result = sd_fail(err, SD_INPUT,
				 "%s in the archive: from a pipe, all shards but the last are kept in memory, and that "
				 "is more than --limit=spool=%" PRIu64 "; put it into a file",
				 m->name, x->limits.most[SD_LIMIT_SPOOL]);
	return result;
}

static enum sd_result list_tar(struct archive *x, struct sd_error *err)
{
	struct sd_unpack_entry entry;
	struct member *m;
	bool last = false;
	enum sd_result result = next_file(x, &entry, err);

	while (result == SD_OK && entry.kind == SD_UNPACK_FILE) {
		result = add_member(x, entry.name, entry.size, &m, err);
		if (result == SD_OK && entry.begin != NOWHERE)
			result = place_member(x, m, entry.begin, err);
		else if (result == SD_OK)
			result = x->seekable ? keep(x, m, err) : keep_from_pipe(x, m, &last, err);
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

static enum sd_result verify_stored(struct sd_verify *verify, struct sd_error *err)
{
	const struct member *m = (const struct member *)verify;
	struct sd_extent all = {.length = m->size, .fd = m->in->in.fd, .offset = (off_t)m->begin};

	if (sd_zip_check(&all, m->crc, err) == SD_OK)
		return SD_OK;
	return sd_error_at(err, "%s/%s", m->in->in.name, m->name);
}

static enum sd_result add_zip_member(struct archive *x, const struct sd_extent *whole, const struct sd_zip_member *z,
				     struct sd_error *err)
{
	struct sd_extent packed;
	struct member *m;
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
	m->verify.run = verify_stored;
	return SD_OK;
}

static int by_header(const void *a, const void *b)
{
	const struct sd_zip_member *x = a, *y = b;

	return (x->header > y->header) - (x->header < y->header);
}

/* The members of a zip, in the order of the file. None may lie in another: few bytes would be many then. */
static enum sd_result list_zip(struct archive *x, struct sd_zip *zip, struct sd_error *err)
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

/* ---- the folder that counts ---- */

/* How much a file says that its folder is a checkpoint: 0: nothing. */
static unsigned weight_of(const struct member *m)
{
	const struct sd_format *format = sd_format_of_name(m->base);
	enum sd_file_role role = sd_checkpoint_role(m->base);

	if (sd_format_of_mark(m->base) || role == SD_ROLE_WEIGHTS || role == SD_ROLE_INDEX)
		return 3;
	if (m->base[0] == '.' || !format)
		return 0;
	return format->second ? 2 : format->add ? 1 : 0;
}

static size_t folder_length(const struct member *m)
{
	size_t length = (size_t)(m->base - m->name);

	return length ? length - 1 : 0;
}

static bool is_below(const struct member *m, const struct member *outer)
{
	size_t n = folder_length(outer);

	return n == 0 || (folder_length(m) >= n && memcmp(m->name, outer->name, n) == 0 && m->name[n] == '/');
}

/* The outer of two folders, or the one whose name comes first. */
static bool is_better(const struct member *m, const struct member *other)
{
	size_t a = folder_length(m), b = folder_length(other);

	return a != b ? a < b : memcmp(m->name, other->name, a) < 0;
}

/* The folder with a checkpoint: the only one, or the one that all others are in. */
static enum sd_result choose_by_weight(struct archive *x, unsigned weight, struct sd_error *err)
{
	const struct member *best = NULL;

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

static enum sd_result find_chosen(struct archive *x, struct sd_error *err)
{
	char *root;
	size_t n;

	if (clean(x, x->limits.dir, &root, err) != SD_OK)
		return err->result;
	n = strlen(root);
	x->root = root;
	for (size_t i = 0; i < x->count; i++)
		if (n == 0 || (strncmp(x->members[i].name, root, n) == 0 && x->members[i].name[n] == '/'))
			return SD_OK;
	return sd_fail(err, SD_INPUT, "it has no folder %s, for --dir", x->limits.dir);
}

static enum sd_result choose_folder(struct archive *x, struct sd_error *err)
{
	enum sd_result result = x->limits.dir ? find_chosen(x, err) : SD_OK;

	for (unsigned weight = 3; weight && !x->root && result == SD_OK; weight--)
		result = choose_by_weight(x, weight, err);
	if (result == SD_OK && !x->root)
		x->root = "";
	if (result != SD_OK)
		return sd_error_at(err, "%s", x->in.name);
	x->folder.path = *x->root ? sd_arena_printf(&x->arena, "%s/%s", x->in.name, x->root) : x->in.name;
	return x->folder.path ? SD_OK : sd_fail_memory(err);
}

/* ---- a folder of files ---- */

/* The file of a name in the folder that counts, or in the one around it ("../NAME"). */
static struct member *find(struct archive *x, const char *name)
{
	const char *end = x->root + strlen(x->root);
	struct sd_arena arena = {0};
	const char *path;
	uint32_t number;

	if (strncmp(name, "../", 3) == 0) {
		if (end == x->root)
			return NULL;
		while (end > x->root && *end != '/')
			end--;
		name += 3;
	}
	path = sd_arena_printf(&arena, "%.*s%s%s", (int)(end - x->root), x->root, end > x->root ? "/" : "", name);
	number = path ? sd_names_find(&x->names, path) : SD_NO_NAME;
	sd_arena_free(&arena);
	return number == SD_NO_NAME ? NULL : &x->members[number];
}

static struct archive *archive_of(struct sd_folder *folder)
{
	return (struct archive *)((char *)folder - offsetof(struct archive, folder));
}

static enum sd_result archive_list(struct sd_folder *folder, const char *below, sd_folder_take *take_name, void *user,
				   struct sd_error *err)
{
	struct archive *x = archive_of(folder);
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
	struct archive *x = archive_of(folder);
	const struct member *m = find(x, name);

	return m && m->begin == NOWHERE ? (uint64_t)m->number + 1 : 0;
}

/* What was not kept as the archive passed by, because a member of a zip can be gone to. */
static enum sd_result keep_now(struct archive *x, struct member *m, struct sd_error *err)
{
	if (!x->is_zip || m->begin != NOWHERE || m->held || m->spool >= 0)
		return SD_OK;
	return go_to(x, m, 0, err) == SD_OK ? keep(x, m, err) : err->result;
}

static enum sd_result copy_bytes(struct archive *x, const struct member *m, void **data, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*data = malloc((size_t)m->size + 1);
	if (!*data)
		return sd_fail_memory(err);
	if (m->begin == NOWHERE)
		memcpy(*data, m->held ? m->held : "", (size_t)m->size);
	else
		result = sd_pread_all(x->in.fd, *data, (size_t)m->size, (off_t)m->begin, err);
	if (result == SD_OK && m->verify.run)
		result = verify_stored((struct sd_verify *)(uintptr_t)&m->verify, err);
	if (result == SD_OK)
		return SD_OK;
	free(*data);
	*data = NULL;
	return result;
}

static enum sd_result archive_read_file(struct sd_folder *folder, const char *name, uint64_t limit,
					struct sd_source *source, void **data, uint64_t *size, struct sd_error *err)
{
	struct archive *x = archive_of(folder);
	struct member *m = find(x, name);

	(void)source;
	*data = NULL;
	*size = m ? m->size : 0;
	if (!m || m->size > limit)
		return SD_OK;
	if (keep_now(x, m, err) != SD_OK)
		return sd_error_at(err, "%s", folder->path);
	if (m->begin == NOWHERE && m->nheld < m->size)
		return sd_folder_fail(folder, name, err, ": a file of this name is not read out of compressed data");
	return copy_bytes(x, m, data, err);
}

static enum sd_result fail_not_kept(const struct archive *x, const struct member *m, struct sd_error *err)
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
static enum sd_result show_head(struct archive *x, const struct member *m, struct sd_input *part, struct sd_error *err)
{
	part->fd = -1;
	if (open_memory(m->size, &x->head, err) != SD_OK)
		return err->result;
	part->fd = x->head;
	return sd_pwrite_all(x->head, m->held, m->nheld, 0, err);
}

static enum sd_result archive_open_file(struct sd_folder *folder, const char *name, struct sd_source *source,
					uint32_t *input, struct sd_error *err)
{
	struct archive *x = archive_of(folder);
	struct member *m = find(x, name);
	struct sd_input part = {.fd = x->in.fd, .size = m->size};
	enum sd_result result = keep_now(x, m, err);

	if (result == SD_OK && m->begin != NOWHERE) {
		part.begin = m->begin;
		part.stat = x->then;
		part.verify = m->verify.run ? &m->verify : NULL;
	} else if (result == SD_OK && m->spool >= 0) {
		part.fd = m->spool;
	} else if (result == SD_OK && m->nheld && is_in_order(m)) {
		result = show_head(x, m, &part, err);
	} else if (result == SD_OK && m->size) {
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
	struct archive *x = p->member->in;
	uint64_t left = p->bytes - done;
	size_t part = left < STEP ? (size_t)left : STEP, behind;

	if (go_to(x, p->member, p->offset + done, err) != SD_OK ||
	    take_all(x, p->member, x->buffer, part, err) != SD_OK)
		return err->result;
	*extent = (struct sd_extent){.length = part, .memory = x->buffer, .fd = -1};
	/* At the end of a member it has a checksum, perhaps, which libarchive looks at when it is asked for more. */
	if (x->done < p->member->size)
		return SD_OK;
	return take(x, &behind, 1, &behind, err);
}

static enum sd_result give(struct sd_made *made, const struct sd_input *input, struct sd_extent *extent, void **memory,
			   struct sd_error *err)
{
	enum sd_result result = more(made, 0, extent, err);

	(void)memory;
	return result == SD_OK || err->told ? result : sd_error_at(err, "%s", input->path);
}

/* Records of a member that is not there as it is are taken as it passes by. */
static enum sd_result archive_added(struct sd_folder *folder, struct sd_safetensors_read *reading, uint32_t input,
				    size_t first, struct sd_error *err)
{
	struct archive *x = archive_of(folder);
	struct sd_manifest *m = reading->source->manifest;

	if (x->opened->begin != NOWHERE || x->opened->spool >= 0)
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

/* From a pipe: what comes behind the weights would be lost. */
static enum sd_result finish_pipe(struct archive *x, struct sd_error *err)
{
	struct sd_unpack_entry entry = {.kind = x->at == BEGINNING ? SD_UNPACK_END : SD_UNPACK_FILE};
	enum sd_result result = SD_OK;
	char *name;

	while (result == SD_OK && entry.kind == SD_UNPACK_FILE) {
		result = next_file(x, &entry, err);
		if (result == SD_OK && entry.kind == SD_UNPACK_FILE)
			result = clean(x, entry.name, &name, err);
		if (result == SD_OK && entry.kind == SD_UNPACK_FILE && base_of(name)[0] != '.')
			result = sd_fail(err, SD_INPUT,
					 "%s in the archive comes behind the weights, and from a pipe that is too "
					 "late: " HOW_TO_MAKE,
					 name);
	}
	return result;
}

static enum sd_result archive_finish(struct sd_guest *guest, struct sd_error *err)
{
	struct archive *x = (struct archive *)guest;

	enum sd_result result;

	if (x->seekable)
		return sd_fd_unchanged(x->in.fd, x->in.name, &x->then, err);
	result = finish_pipe(x, err);
	return result == SD_OK || err->told ? result : sd_error_at(err, "%s", x->in.name);
}

static void archive_close(struct sd_guest *guest)
{
	struct archive *x = (struct archive *)guest;

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
	sd_arena_free(&x->arena);
	free(x);
}

/* The names of the files of a tar of PyTorch before 0.2. */
static enum sd_result check_old_torch(const struct archive *x, struct sd_error *err)
{
	static const char *const names[] = {"sys_info", "pickle", "storages", "tensors"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (sd_names_find(&x->names, names[i]) == SD_NO_NAME)
			return SD_OK;
	return sd_fail(err, SD_INPUT,
		       "a tar of PyTorch before 0.2, which is not read: load it in an old PyTorch, and save it anew");
}

static enum sd_result list_members(struct archive *x, const void *first, size_t n, bool *is_archive,
				   struct sd_error *err)
{
	struct sd_extent whole = {
		.length = (uint64_t)x->then.st_size - x->begin, .fd = x->in.fd, .offset = (off_t)x->begin};
	struct sd_zip zip = {0};
	enum sd_result result;

	x->is_zip = x->seekable && memcmp(first, SD_ZIP_MAGIC, SD_ZIP_MAGIC_LENGTH) == 0;
	if (!x->is_zip) {
		result = begin_pass(x, first, n, is_archive, err);
		return result == SD_OK && *is_archive ? list_tar(x, err) : result;
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

/* The weights of what NeMo saves are in a folder; beside it are its other files. */
static enum sd_result add_nemo_files(struct archive *x, struct sd_source *source, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (!find(x, "../model_config.yaml"))
		return SD_OK;
	for (size_t i = 0; i < x->count && result == SD_OK; i++) {
		const struct member *m = &x->members[i];
		const char *name = sd_arena_printf(&x->arena, "../%s", m->base);

		if (!name)
			result = sd_fail_memory(err);
		else if (find(x, name) == m && sd_checkpoint_role(m->base) == SD_ROLE_SIDE &&
			 !sd_manifest_side(source->manifest, m->base))
			result = sd_checkpoint_add_side(source, &x->folder, name, m->base, err);
	}
	return result;
}

/* The source has the archive as its guest. */
static enum sd_result read_checkpoint(struct archive *x, struct sd_source **source, struct sd_error *err)
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
				   struct archive **made, struct sd_error *err)
{
	struct archive *x = calloc(1, sizeof(*x));
	off_t at = lseek(in->fd, 0, SEEK_CUR);

	*made = x;
	if (!x)
		return sd_fail_memory(err);
	x->guest = (struct sd_guest){archive_finish, archive_close};
	x->folder = (struct sd_folder){.ops = &archive_ops, .path = in->name, .archive = true};
	x->limits = limits ? *limits : sd_limits_default;
	x->in = *in;
	x->head = -1;
	x->buffer = malloc(STEP);
	if (!x->buffer)
		return sd_fail_memory(err);
	if (fstat(in->fd, &x->then) != 0)
		return sd_fail_errno(err, errno, "%s: cannot be looked at", in->name);
	x->seekable = S_ISREG(x->then.st_mode) && at >= (off_t)n;
	x->begin = x->seekable ? (uint64_t)at - n : 0;
	return SD_OK;
}

enum sd_result sd_archive_open(const struct sd_opened *in, const void *first, size_t n, const struct sd_limits *limits,
			       struct sd_source **source, struct sd_error *err)
{
	struct archive *x;
	bool is_archive = true;
	enum sd_result result = make_archive(in, n, limits, &x, err);

	*source = NULL;
	if (result == SD_OK)
		result = list_members(x, first, n, &is_archive, err);
	if (result == SD_OK && is_archive)
		result = check_old_torch(x, err);
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
