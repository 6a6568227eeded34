/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a zip archive. */
#include "formats/zip.h"
#include "base/checked.h"

#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#define END_LENGTH 22      /* of the end record, without its comment */
#define END64_LENGTH 56    /* of the zip64 one */
#define LOCATOR_LENGTH 20  /* which says where that is */
#define ENTRY_LENGTH 46    /* of an entry of the directory, without its texts */
#define LOCAL_LENGTH 30    /* of a local header, likewise */
#define TAIL_LENGTH 65557u /* an end record with the longest comment */
#define MADE_BY_UNIX 3
#define CHECK_LENGTH (1u << 18)

static const unsigned char end_mark[] = {'P', 'K', 5, 6}, end64_mark[] = {'P', 'K', 6, 6};
static const unsigned char locator_mark[] = {'P', 'K', 6, 7}, entry_mark[] = {'P', 'K', 1, 2};
static const unsigned char local_mark[] = {'P', 'K', 3, 4};

static uint64_t number(const unsigned char *p, unsigned width)
{
	uint64_t n = 0;

	while (width-- > 0)
		n = n << 8 | p[width];
	return n;
}

bool sd_zip_part(const struct sd_extent *whole, uint64_t offset, uint64_t length, struct sd_extent *part)
{
	if (offset > whole->length || length > whole->length - offset)
		return false;
	*part = *whole;
	part->length = length;
	if (part->memory)
		part->memory = (const char *)part->memory + offset;
	else
		part->offset += (off_t)offset;
	return true;
}

/* Reads what has to be there. */
static enum sd_result read_at(const struct sd_extent *whole, uint64_t offset, void *buffer, size_t length,
			      struct sd_error *err)
{
	struct sd_extent part;

	if (!sd_zip_part(whole, offset, length, &part))
		return sd_fail(err, SD_INPUT, "damaged zip: it points to byte %" PRIu64 ", and has %" PRIu64, offset,
			       whole->length);
	return sd_extent_read(&part, buffer, length, err);
}

/* ---- the directory ---- */

struct directory {
	uint64_t offset, length, count;
};

/* The last end record in the tail of an archive, or NULL. */
static const unsigned char *find_end(const unsigned char *tail, size_t length)
{
	for (size_t i = length < END_LENGTH ? 0 : length - END_LENGTH + 1; i-- > 0;)
		if (memcmp(tail + i, end_mark, 4) == 0 && number(tail + i + 20, 2) == length - i - END_LENGTH)
			return tail + i;
	return NULL;
}

/* The zip64 end record, where there is one and the other one refers to it. */
static enum sd_result read_end64(const struct sd_extent *whole, uint64_t end, struct directory *d, struct sd_error *err)
{
	unsigned char locator[LOCATOR_LENGTH], record[END64_LENGTH];

	if (end < LOCATOR_LENGTH)
		return SD_OK;
	if (read_at(whole, end - LOCATOR_LENGTH, locator, sizeof(locator), err) != SD_OK)
		return err->result;
	if (memcmp(locator, locator_mark, 4) != 0)
		return SD_OK;
	if (read_at(whole, number(locator + 8, 8), record, sizeof(record), err) != SD_OK)
		return err->result;
	if (memcmp(record, end64_mark, 4) != 0)
		return sd_fail(err, SD_INPUT, "damaged zip: no zip64 record where it says that one is");
	*d = (struct directory){number(record + 48, 8), number(record + 40, 8), number(record + 32, 8)};
	return SD_OK;
}

static enum sd_result find_directory(const struct sd_extent *whole, struct directory *d, struct sd_error *err)
{
	uint64_t length = whole->length < TAIL_LENGTH ? whole->length : TAIL_LENGTH;
	unsigned char *tail = malloc((size_t)length + 1);
	const unsigned char *end = NULL;
	enum sd_result result = tail ? SD_OK : sd_fail_memory(err);

	/* Most have no comment: their last bytes are enough. */
	for (uint64_t part = length < END_LENGTH ? length : END_LENGTH; result == SD_OK && !end; part = length) {
		result = read_at(whole, whole->length - part, tail, (size_t)part, err);
		end = result == SD_OK ? find_end(tail, (size_t)part) : NULL;
		if (end) {
			*d = (struct directory){number(end + 16, 4), number(end + 12, 4), number(end + 10, 2)};
			result = read_end64(whole, whole->length - part + (uint64_t)(end - tail), d, err);
		} else if (part == length && result == SD_OK) {
			result = sd_fail(err, SD_INPUT, "truncated zip: no central directory at its end");
		}
	}
	free(tail);
	return result;
}

/* Takes from the zip64 field of an entry's extra data what does not fit into 32 bits, in the order of the format. */
static bool widen(const unsigned char *extra, size_t length, uint64_t *const fields[3])
{
	while (length >= 4) {
		size_t size = (size_t)number(extra + 2, 2);

		if (size > length - 4)
			return false;
		if (number(extra, 2) == 1) {
			const unsigned char *p = extra + 4;

			for (int i = 0; i < 3; i++) {
				if (*fields[i] != UINT32_MAX)
					continue;
				if (extra + 4 + size < p + 8)
					return false;
				*fields[i] = number(p, 8);
				p += 8;
			}
			return true;
		}
		extra += 4 + size;
		length -= 4 + size;
	}
	return *fields[0] != UINT32_MAX && *fields[1] != UINT32_MAX && *fields[2] != UINT32_MAX;
}

static enum sd_result check_entry(const struct sd_zip_member *m, uint64_t flags, uint64_t method, struct sd_error *err)
{
	if (flags & 1)
		return sd_fail(err, SD_INPUT, "%s in the zip is encrypted", m->name);
	if (method != 0 && method != 8)
		return sd_fail(err, SD_INPUT,
			       "%s in the zip is packed by method %" PRIu64 "; stored and deflated ones "
			       "are read",
			       m->name, method);
	if (!m->deflated && m->packed != m->size)
		return sd_fail(err, SD_INPUT, "damaged zip: %s is stored, but %" PRIu64 " bytes are %" PRIu64, m->name,
			       m->size, m->packed);
	return SD_OK;
}

static enum sd_result add_member(struct sd_zip *zip, const struct sd_zip_member *m, struct sd_error *err)
{
	uint32_t known = sd_names_add(&zip->names, m->name, (uint32_t)zip->count);

	if (known == SD_NO_NAME || !sd_array_grow(&zip->members, zip->count, &zip->room, sizeof(*zip->members)))
		return sd_fail_memory(err);
	if (known != zip->count)
		return sd_fail(err, SD_INPUT, "%s is in the zip twice", m->name);
	zip->members[zip->count++] = *m;
	return SD_OK;
}

/* Takes one entry; *used: its bytes. */
static enum sd_result take_entry(struct sd_zip *zip, const unsigned char *p, size_t length, size_t *used,
				 struct sd_error *err)
{
	struct sd_zip_member m = {0};
	uint64_t *const wide[3] = {&m.size, &m.packed, &m.header};
	size_t name, extra;

	if (length < ENTRY_LENGTH || memcmp(p, entry_mark, 4) != 0)
		return sd_fail(err, SD_INPUT, "damaged zip: its directory ends early");
	name = (size_t)number(p + 28, 2);
	extra = (size_t)number(p + 30, 2);
	*used = ENTRY_LENGTH + name + extra + (size_t)number(p + 32, 2);
	if (*used > length)
		return sd_fail(err, SD_INPUT, "damaged zip: its directory ends early");
	m.name = sd_arena_text(&zip->arena, (const char *)p + ENTRY_LENGTH, name);
	if (!m.name)
		return sd_fail_memory(err);
	m.packed = number(p + 20, 4);
	m.size = number(p + 24, 4);
	m.header = number(p + 42, 4);
	m.crc = (uint32_t)number(p + 16, 4);
	m.deflated = number(p + 10, 2) == 8;
	m.mode = p[5] == MADE_BY_UNIX ? (uint32_t)number(p + 40, 2) : 0;
	if (strlen(m.name) != name || !widen(p + ENTRY_LENGTH + name, extra, wide))
		return sd_fail(err, SD_INPUT, "damaged zip: the entry of %s in its directory", m.name);
	if (check_entry(&m, number(p + 8, 2), number(p + 10, 2), err) != SD_OK)
		return err->result;
	return add_member(zip, &m, err);
}

enum sd_result sd_zip_read(const struct sd_extent *whole, const struct sd_limits *limits, struct sd_zip *zip,
			   struct sd_error *err)
{
	struct directory d = {0};
	enum sd_result result = find_directory(whole, &d, err);
	unsigned char *entries = NULL;
	struct sd_extent part;
	size_t at = 0, used = 0;

	if (result == SD_OK)
		result = sd_limits_check(limits, SD_LIMIT_HEADER, d.length, "the directory of the zip has", err);
	if (result == SD_OK && !sd_zip_part(whole, d.offset, d.length, &part))
		result =
			sd_fail(err, SD_INPUT, "truncated zip: its directory is said to be at byte %" PRIu64, d.offset);
	if (result == SD_OK && !(entries = malloc((size_t)d.length + 1)))
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = sd_extent_read(&part, entries, d.length, err);
	for (uint64_t i = 0; i < d.count && result == SD_OK; i++, at += used)
		result = take_entry(zip, entries + at, (size_t)d.length - at, &used, err);
	free(entries);
	return result;
}

void sd_zip_free(struct sd_zip *zip)
{
	free(zip->members);
	sd_names_free(&zip->names);
	sd_arena_free(&zip->arena);
}

/* ---- members ---- */

const struct sd_zip_member *sd_zip_find(const struct sd_zip *zip, const char *name)
{
	uint32_t i = sd_names_find(&zip->names, name);

	return i == SD_NO_NAME ? NULL : &zip->members[i];
}

enum sd_result sd_zip_locate(const struct sd_extent *whole, const struct sd_zip_member *member,
			     struct sd_extent *packed, struct sd_error *err)
{
	unsigned char local[LOCAL_LENGTH];
	uint64_t data;

	if (read_at(whole, member->header, local, sizeof(local), err) != SD_OK)
		return sd_error_at(err, "%s", member->name);
	if (memcmp(local, local_mark, 4) != 0)
		return sd_fail(err, SD_INPUT, "damaged zip: %s does not begin where its directory says", member->name);
	data = member->header + LOCAL_LENGTH + number(local + 26, 2) + number(local + 28, 2);
	if (!sd_zip_part(whole, data, member->packed, packed))
		return sd_fail(err, SD_INPUT,
			       "damaged zip: %s has %" PRIu64 " bytes from byte %" PRIu64 " on, the zip "
			       "ends at %" PRIu64,
			       member->name, member->packed, data, whole->length);
	return SD_OK;
}

static enum sd_result inflate(const void *packed, size_t length, void *data, size_t size, struct sd_error *err)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	size_t used = 0;
	enum libdeflate_result result;

	if (!d)
		return sd_fail_memory(err);
	result = libdeflate_deflate_decompress_ex(d, packed, length, data, size, &used, NULL);
	libdeflate_free_decompressor(d);
	if (result != LIBDEFLATE_SUCCESS || used != length)
		return sd_fail(err, SD_INPUT, "damaged: what is compressed does not expand to %zu bytes", size);
	return SD_OK;
}

enum sd_result sd_zip_expand(const struct sd_extent *packed, bool deflated, uint64_t size, void **data,
			     struct sd_error *err)
{
	struct sd_extent part = *packed;
	uint64_t possible;
	char *bytes, *compressed = NULL;
	enum sd_result result;

	/* A byte of deflate is 1032 at most; so memory is in proportion to what there is. */
	if (deflated && (!sd_mul(packed->length, 1032, &possible) || size > possible))
		return sd_fail(err, SD_INPUT, "damaged: %" PRIu64 " compressed bytes cannot be %" PRIu64,
			       packed->length, size);
	bytes = malloc((size_t)size + 1);
	if (deflated)
		compressed = malloc((size_t)packed->length + 1);
	result = bytes && (compressed || !deflated) ? SD_OK : sd_fail_memory(err);
	if (result == SD_OK)
		result = sd_extent_read(&part, deflated ? compressed : bytes, packed->length, err);
	if (result == SD_OK && deflated)
		result = inflate(compressed, (size_t)packed->length, bytes, (size_t)size, err);
	free(compressed);
	if (result != SD_OK) {
		free(bytes);
		return result;
	}
	bytes[size] = '\0';
	*data = bytes;
	return SD_OK;
}

enum sd_result sd_zip_check(const struct sd_extent *bytes, uint32_t crc, struct sd_error *err)
{
	struct sd_extent rest = *bytes;
	uint32_t made = 0;
	char *buffer;

	if (crc == 0)
		return SD_OK;
	if (rest.memory) {
		made = libdeflate_crc32(0, rest.memory, (size_t)rest.length);
	} else {
		buffer = malloc(CHECK_LENGTH);
		if (!buffer)
			return sd_fail_memory(err);
		while (rest.length) {
			size_t length = rest.length < CHECK_LENGTH ? (size_t)rest.length : CHECK_LENGTH;

			if (sd_extent_read(&rest, buffer, length, err) != SD_OK) {
				free(buffer);
				return err->result;
			}
			made = libdeflate_crc32(made, buffer, length);
		}
		free(buffer);
	}
	if (made == crc)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "damaged: its CRC is %08" PRIx32 ", and should be %08" PRIx32, made, crc);
}

enum sd_result sd_zip_member_read(const struct sd_extent *whole, const struct sd_zip_member *member, uint64_t most,
				  void **data, struct sd_error *err)
{
	struct sd_extent packed, bytes = {.length = member->size, .fd = -1};

	*data = NULL;
	if (member->size > most)
		return sd_fail(err, SD_INPUT, "%s has %" PRIu64 " bytes; at most %" PRIu64 " can be", member->name,
			       member->size, most);
	if (sd_zip_locate(whole, member, &packed, err) != SD_OK)
		return err->result;
	if (sd_zip_expand(&packed, member->deflated, member->size, data, err) != SD_OK)
		return sd_error_at(err, "%s", member->name);
	bytes.memory = *data;
	if (sd_zip_check(&bytes, member->crc, err) == SD_OK)
		return SD_OK;
	free(*data);
	*data = NULL;
	return sd_error_at(err, "%s", member->name);
}
