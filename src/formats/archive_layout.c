/* SPDX-License-Identifier: Apache-2.0 */
/* An archive as a layout. */
#include "formats/archive_layout.h"
#include "base/checked.h"
#include "base/io.h"
#include "formats/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#define STEP (1u << 20)
#define BLOCK SD_TAR_BLOCK
#define LOCAL_LENGTH 30
#define LOCAL_CRC 14 /* where the checksum is */
#define ENTRY_LENGTH 46
#define WIDE UINT32_MAX /* a number that stands in the zip64 field */
#define UNIX_FILE (0100644u << 16)
#define DAY 0x0021 /* 1 January 1980, the first that there is */

static const char zeros[2 * BLOCK];

static enum sd_result add_fixed(struct sd_archive_layout *l, const void *bytes, size_t length, struct sd_error *err)
{
	if (length == 0)
		return SD_OK;
	if (!sd_array_grow(&l->fixed, l->nfixed, &l->room, sizeof(*l->fixed)))
		return sd_fail_memory(err);
	l->fixed[l->nfixed++] = (struct sd_fixed){l->size, bytes, length};
	return sd_add(l->size, length, &l->size) ? SD_OK : sd_fail(err, SD_INPUT, "the archive is too large");
}

/* ---- tar ---- */

/* What libarchive writes for a member in front of its data. */
struct header {
	struct sd_arena *arena;
	char *bytes;
	size_t length;
	bool whole; /* it is there: what comes now is filled in for data that it has not got */
};

static la_ssize_t catch_header(struct archive *a, void *user, const void *bytes, size_t length)
{
	struct header *h = user;
	char *larger = h->whole ? NULL : sd_arena_alloc(h->arena, h->length + length);

	if (!larger) {
		archive_set_error(a, ENOMEM, "out of memory");
		return -1;
	}
	if (h->length)
		memcpy(larger, h->bytes, h->length);
	memcpy(larger + h->length, bytes, length);
	h->bytes = larger;
	h->length += length;
	return (la_ssize_t)length;
}

static bool write_header(struct archive *a, struct archive_entry *entry, const char *name, uint64_t size,
			 struct header *h)
{
	archive_entry_set_pathname(entry, name);
	archive_entry_set_size(entry, (la_int64_t)size);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_mtime(entry, 0, 0);
	return archive_write_set_format_pax_restricted(a) == ARCHIVE_OK &&
	       archive_write_add_filter_none(a) == ARCHIVE_OK &&
	       archive_write_set_bytes_per_block(a, 0) == ARCHIVE_OK &&
	       archive_write_open(a, h, NULL, catch_header, NULL) == ARCHIVE_OK &&
	       archive_write_header(a, entry) >= ARCHIVE_WARN;
}

static enum sd_result add_tar_header(struct sd_archive_layout *l, const char *name, uint64_t size, struct sd_error *err)
{
	struct header h = {.arena = &l->arena};
	struct archive *a = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	bool written = a && entry && size <= INT64_MAX && write_header(a, entry, name, size, &h);

	h.whole = true;
	archive_entry_free(entry);
	archive_write_free(a);
	return written ? add_fixed(l, h.bytes, h.length, err) : sd_fail_memory(err);
}

/* ---- zip ---- */

static unsigned char *number(unsigned char *p, uint64_t n, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		p[i] = (unsigned char)(n >> 8 * i);
	return p + width;
}

static uint64_t narrow(uint64_t n)
{
	return n < WIDE ? n : WIDE;
}

static size_t extra_length(const struct sd_archive_member *m, bool with_header)
{
	size_t wide = (m->size >= WIDE ? 16 : 0) + (with_header && m->header >= WIDE ? 8 : 0);

	return wide ? wide + 4 : 0;
}

static unsigned char *put_extra(unsigned char *p, const struct sd_archive_member *m, bool with_header)
{
	size_t length = extra_length(m, with_header);

	if (!length)
		return p;
	p = number(number(p, 1, 2), length - 4, 2);
	if (m->size >= WIDE)
		p = number(number(p, m->size, 8), m->size, 8);
	return with_header && m->header >= WIDE ? number(p, m->header, 8) : p;
}

/* What a local header and an entry of the directory have in common: from the version that is needed to the lengths. */
static unsigned char *put_common(unsigned char *p, const struct sd_archive_member *m, bool with_header)
{
	p = number(p, extra_length(m, with_header) ? 45 : 20, 2);
	p = number(p, 0x0800, 2); /* names are UTF-8 */
	p = number(number(number(p, 0, 2), 0, 2), DAY, 2);
	p = number(number(number(p, m->crc, 4), narrow(m->size), 4), narrow(m->size), 4);
	return number(number(p, strlen(m->name), 2), extra_length(m, with_header), 2);
}

static enum sd_result add_zip_header(struct sd_archive_layout *l, const struct sd_archive_member *m,
				     struct sd_error *err)
{
	size_t name = strlen(m->name), length = LOCAL_LENGTH + name + extra_length(m, false);
	unsigned char *bytes = sd_arena_alloc(&l->arena, length), *p = bytes;

	if (!bytes)
		return sd_fail_memory(err);
	p = put_common(number(p, 0x04034b50, 4), m, false);
	memcpy(p, m->name, name);
	put_extra(p + name, m, false);
	return add_fixed(l, bytes, length, err);
}

static unsigned char *put_entry(unsigned char *p, const struct sd_archive_member *m)
{
	size_t name = strlen(m->name);

	p = number(number(p, 0x02014b50, 4), 3 << 8 | 45, 2); /* made by Unix */
	p = put_common(p, m, true);
	p = number(number(number(p, 0, 2), 0, 2), 0, 2);
	p = number(number(p, UNIX_FILE, 4), narrow(m->header), 4);
	memcpy(p, m->name, name);
	return put_extra(p + name, m, true);
}

static bool is_wide(const struct sd_archive_layout *l, uint64_t length)
{
	return l->count >= UINT16_MAX || l->directory >= WIDE || length >= WIDE;
}

static unsigned char *put_end(unsigned char *p, const struct sd_archive_layout *l, uint64_t length)
{
	uint64_t end = l->directory + length, count = l->count;

	if (is_wide(l, length)) {
		p = number(number(number(p, 0x06064b50, 4), 44, 8), 3 << 8 | 45, 2);
		p = number(number(number(p, 45, 2), 0, 4), 0, 4);
		p = number(number(number(number(p, count, 8), count, 8), length, 8), l->directory, 8);
		p = number(number(number(number(p, 0x07064b50, 4), 0, 4), end, 8), 1, 4);
	}
	count = count < UINT16_MAX ? count : UINT16_MAX;
	p = number(number(number(p, 0x06054b50, 4), 0, 2), 0, 2);
	p = number(number(p, count, 2), count, 2);
	return number(number(number(p, narrow(length), 4), narrow(l->directory), 4), 0, 2);
}

static uint64_t directory_length(const struct sd_archive_layout *l)
{
	uint64_t length = 0;

	for (size_t i = 0; i < l->count; i++)
		length += ENTRY_LENGTH + strlen(l->members[i].name) + extra_length(&l->members[i], true);
	return length;
}

static uint64_t end_length(const struct sd_archive_layout *l, uint64_t length)
{
	return 22 + (is_wide(l, length) ? 56 + 20 : 0);
}

/* ---- the layout ---- */

/* A member, and its header; its data begins where the layout ends then. */
static enum sd_result begin_member(struct sd_archive_layout *l, enum sd_archive_form form, const char *name,
				   uint64_t size, struct sd_error *err)
{
	struct sd_archive_member m = {.name = name, .header = l->size, .size = size};
	enum sd_result result;

	if (!sd_array_grow(&l->members, l->count, &l->members_room, sizeof(*l->members)))
		return sd_fail_memory(err);
	result = form == SD_ARCHIVE_TAR ? add_tar_header(l, name, size, err) : add_zip_header(l, &m, err);
	m.data = l->size;
	l->members[l->count++] = m;
	return result;
}

static enum sd_result end_member(struct sd_archive_layout *l, enum sd_archive_form form, struct sd_error *err)
{
	size_t behind = (size_t)(l->size % BLOCK);

	return form == SD_ARCHIVE_TAR && behind ? add_fixed(l, zeros, BLOCK - behind, err) : SD_OK;
}

static enum sd_result add_small(struct sd_archive_layout *l, enum sd_archive_form form, const char *name,
				const void *bytes, size_t length, struct sd_error *err)
{
	enum sd_result result = begin_member(l, form, name, length, err);

	if (result == SD_OK)
		result = add_fixed(l, bytes, length, err);
	return result == SD_OK ? end_member(l, form, err) : result;
}

static enum sd_result add_weights(struct sd_archive_layout *l, enum sd_archive_form form,
				  const struct sd_output_plan_file *file, struct sd_error *err)
{
	enum sd_result result = begin_member(l, form, file->name, file->size, err);

	if (result == SD_OK)
		result = add_fixed(l, file->header, file->header_length, err);
	if (result == SD_OK && !sd_add(l->size, file->size - file->header_length, &l->size))
		result = sd_fail(err, SD_INPUT, "the archive is too large");
	return result == SD_OK ? end_member(l, form, err) : result;
}

/* config.json, and then the others as they come. */
static enum sd_result add_side_files(struct sd_archive_layout *l, enum sd_archive_form form,
				     const struct sd_manifest *m, struct sd_error *err)
{
	static const char config[] = "config.json";
	enum sd_result result = SD_OK;

	for (int others = 0; others < 2; others++)
		for (size_t i = 0; i < m->nside && result == SD_OK; i++)
			if ((strcmp(m->side[i].name, config) != 0) == others)
				result = add_small(l, form, m->side[i].name, m->side[i].data, m->side[i].size, err);
	return result;
}

static enum sd_result add_all(struct sd_archive_layout *l, enum sd_archive_form form, const struct sd_manifest *m,
			      const struct sd_output_plan *plan, struct sd_error *err)
{
	enum sd_result result = add_side_files(l, form, m, err);

	if (result == SD_OK && plan->index)
		result = add_small(l, form, plan->index_name, plan->index, plan->index_length, err);
	for (size_t k = 0; k < plan->nfiles && result == SD_OK; k++)
		result = add_weights(l, form, &plan->files[k], err);
	if (result == SD_OK && form == SD_ARCHIVE_TAR)
		result = add_fixed(l, zeros, sizeof(zeros), err);
	if (result == SD_OK && form == SD_ARCHIVE_ZIP) {
		uint64_t length = directory_length(l);

		l->directory = l->size;
		if (!sd_add(l->size, length + end_length(l, length), &l->size))
			result = sd_fail(err, SD_INPUT, "the archive is too large");
	}
	return result;
}

enum sd_result sd_archive_layout_make(const struct sd_manifest *manifest, struct sd_output_plan *plan,
				      enum sd_archive_form form, struct sd_archive_layout *layout, struct sd_error *err)
{
	const struct sd_archive_member *weights;

	if (add_all(layout, form, manifest, plan, err) != SD_OK)
		return err->result;
	weights = layout->members + (layout->count - plan->nfiles);
	for (size_t i = 0; i < manifest->ntargets && plan->nfiles; i++) {
		struct sd_output_plan_place *place = &plan->places[i];

		*place = (struct sd_output_plan_place){0, weights[place->file].data + place->offset};
	}
	return SD_OK;
}

static enum sd_result make_crc(struct sd_archive_member *m, int fd, uint64_t base, char *buffer, struct sd_error *err)
{
	for (uint64_t done = 0; done < m->size;) {
		size_t part = m->size - done < STEP ? (size_t)(m->size - done) : STEP;

		if (sd_pread_all(fd, buffer, part, (off_t)(base + m->data + done), err) != SD_OK)
			return err->result;
		m->crc = libdeflate_crc32(m->crc, buffer, part);
		done += part;
	}
	return SD_OK;
}

enum sd_result sd_archive_layout_finish(struct sd_archive_layout *l, int fd, uint64_t base, struct sd_error *err)
{
	uint64_t length = directory_length(l);
	size_t all = (size_t)(l->size - l->directory);
	unsigned char *bytes = malloc(all), *p = bytes, crc[4];
	char *buffer = malloc(STEP);
	enum sd_result result = bytes && buffer ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < l->count && result == SD_OK; i++) {
		struct sd_archive_member *m = &l->members[i];

		result = make_crc(m, fd, base, buffer, err);
		number(crc, m->crc, sizeof(crc));
		if (result == SD_OK)
			result = sd_pwrite_all(fd, crc, sizeof(crc), (off_t)(base + m->header + LOCAL_CRC), err);
		p = put_entry(p, m);
	}
	if (result == SD_OK) {
		put_end(p, l, length);
		result = sd_pwrite_all(fd, bytes, all, (off_t)(base + l->directory), err);
	}
	free(bytes);
	free(buffer);
	return result;
}

void sd_archive_layout_free(struct sd_archive_layout *layout)
{
	free(layout->fixed);
	free(layout->members);
	sd_arena_free(&layout->arena);
	*layout = (struct sd_archive_layout){0};
}
