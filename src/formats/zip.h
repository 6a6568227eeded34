/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a zip archive, so that stored members are found where they lie. Source of the format: PKWARE's
 * APPNOTE 6.3. The central directory counts; sizes in local headers are often zero.
 */
#ifndef SD_FORMATS_ZIP_H
#define SD_FORMATS_ZIP_H

#include "base/arena.h"
#include "base/limits.h"
#include "base/names.h"
#include "flow/extent.h"

#define SD_ZIP_MAGIC "PK\x03\x04"
#define SD_ZIP_MAGIC_LENGTH 4

struct sd_zip_member {
	const char *name;
	uint64_t packed, size; /* bytes in the archive, and when they are expanded */
	uint64_t header;       /* offset of its local header */
	uint32_t crc;          /* 0 of some bytes: none was made */
	bool deflated;         /* else stored */
	uint32_t mode;         /* as of stat(2), where Unix made it; else 0 */
};

/* {0} is empty; sd_zip_free frees it. */
struct sd_zip {
	struct sd_arena arena;
	struct sd_zip_member *members;
	size_t count, room;
	struct sd_names names; /* to members */
};

/*
 * Reads the directory of an archive: whole is all of its bytes, in memory or at an offset of a file. SD_INPUT for what
 * is truncated, encrypted, packed in another way than by deflate, or there twice. limits may be NULL.
 */
SD_MUST_CHECK enum sd_result sd_zip_read(const struct sd_extent *whole, const struct sd_limits *limits,
					 struct sd_zip *zip, struct sd_error *err);

void sd_zip_free(struct sd_zip *zip);

/* The member of a name, or NULL. */
const struct sd_zip_member *sd_zip_find(const struct sd_zip *zip, const char *name);

/* The bytes of a member as they are in the archive, as a part of whole. */
SD_MUST_CHECK enum sd_result sd_zip_locate(const struct sd_extent *whole, const struct sd_zip_member *member,
					   struct sd_extent *packed, struct sd_error *err);

/* What is in a member, of at most `most` bytes, expanded and its CRC checked; *data is malloc'd, a NUL behind it. */
SD_MUST_CHECK enum sd_result sd_zip_member_read(const struct sd_extent *whole, const struct sd_zip_member *member,
						uint64_t most, void **data, struct sd_error *err);

/* Bytes that are packed as a member is, expanded into size bytes that the caller frees. */
SD_MUST_CHECK enum sd_result sd_zip_expand(const struct sd_extent *packed, bool deflated, uint64_t size, void **data,
					   struct sd_error *err);

/* That bytes have this CRC. */
SD_MUST_CHECK enum sd_result sd_zip_check(const struct sd_extent *bytes, uint32_t crc, struct sd_error *err);

/* The bytes [offset, offset + length) of a chunk that is in memory or at an offset of a file; false: it is shorter. */
SD_MUST_CHECK bool sd_zip_part(const struct sd_extent *whole, uint64_t offset, uint64_t length, struct sd_extent *part);

#endif
