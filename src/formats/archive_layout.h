/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An archive as a layout: which bytes of it stand where before any data comes, so that the data is written straight to
 * its place. Config, side files and index come first, and then the weights; names of users, groups and times are in
 * none. Sources of the formats: pax of POSIX.1-2001 by libarchive; PKWARE's APPNOTE 6.3.
 */
#ifndef SD_FORMATS_ARCHIVE_LAYOUT_H
#define SD_FORMATS_ARCHIVE_LAYOUT_H

#include "formats/output_plan.h"

enum sd_archive_form {
	SD_ARCHIVE_NONE,
	SD_ARCHIVE_TAR,
	SD_ARCHIVE_ZIP, /* its members are stored */
};

/* Bytes that are known beforehand. */
struct sd_fixed {
	uint64_t offset;
	const void *bytes;
	size_t length;
};

struct sd_archive_member {
	const char *name;
	uint64_t header, data, size; /* offsets of the two, and bytes of data */
	uint32_t crc;
};

/* {0} is empty; sd_archive_layout_free frees it. */
struct sd_archive_layout {
	struct sd_arena arena;
	struct sd_fixed *fixed; /* in ascending order, none of them empty */
	size_t nfixed, room;
	struct sd_archive_member *members;
	size_t count, members_room;
	uint64_t directory; /* of a zip: where it begins */
	uint64_t size;      /* of the whole archive */
};

/*
 * Lays out the files of a plan for a directory, and the manifest's side files, as one archive. The places of the plan
 * are then those in the archive, as its file 0. Borrows from the manifest and the plan.
 */
SD_MUST_CHECK enum sd_result sd_archive_layout_make(const struct sd_manifest *manifest, struct sd_output_plan *plan,
						    enum sd_archive_form form, struct sd_archive_layout *layout,
						    struct sd_error *err);

/* The rest of a zip, when all data is in fd from byte base on: checksums, which are made of what was written, and its
 * directory. */
SD_MUST_CHECK enum sd_result sd_archive_layout_finish(struct sd_archive_layout *layout, int fd, uint64_t base,
						      struct sd_error *err);

void sd_archive_layout_free(struct sd_archive_layout *layout);

#endif
