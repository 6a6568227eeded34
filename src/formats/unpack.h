/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over an archive, by libarchive: its members in their order, and the data of each. A tar, plain or compressed
 * by gzip, zstd, xz or bzip2, or a zip.
 */
#ifndef SD_FORMATS_UNPACK_H
#define SD_FORMATS_UNPACK_H

#include "base/limits.h"

struct sd_unpacking;

/* What is to be unpacked: limits may be NULL. */
struct sd_unpack_input {
	int fd;         /* stays the caller's */
	bool seekable;  /* it is read from byte begin on, and stands where it stood; else first has been read from it */
	uint64_t begin; /* of the archive in fd */
	const void *first;
	size_t nfirst; /* at most SD_TAR_BLOCK */
	const struct sd_limits *limits;
};

enum sd_unpack_kind {
	SD_UNPACK_FILE,
	SD_UNPACK_FOLDER,
	SD_UNPACK_OTHER, /* what: "a symbolic link" */
	SD_UNPACK_END,   /* there are no more */
};

struct sd_unpack_entry {
	enum sd_unpack_kind kind;
	const char *name; /* as the archive has it, until the next one */
	const char *what;
	uint64_t size;
	uint64_t begin; /* of its data in a plain tar, counted from the archive's begin; elsewhere UINT64_MAX */
};

/* A tar has blocks of so many bytes; the first one tells that it is a tar. */
#define SD_TAR_BLOCK 512
bool sd_tar_is_header(const unsigned char block[SD_TAR_BLOCK]);

/* Whether a tar could begin with these 8 bytes, which are those of a name. */
bool sd_tar_may_begin(const unsigned char first[8]);

/* Begins. *is_archive: whether it is one; if not, only sd_unpack_close is to be called. */
SD_MUST_CHECK enum sd_result sd_unpack_open(const struct sd_unpack_input *input, struct sd_unpacking **unpack,
					    bool *is_archive, struct sd_error *err);

/* Whether it is compressed as a whole. */
bool sd_unpack_is_packed(const struct sd_unpacking *unpack);

/* The next member. After the last one, all that is behind it has been read and is as it should be. */
SD_MUST_CHECK enum sd_result sd_unpack_next(struct sd_unpacking *unpack, struct sd_unpack_entry *entry,
					    struct sd_error *err);

/* The next bytes of the member, as many as there are up to length; *got is 0 at its end, when they have been checked.
 */
SD_MUST_CHECK enum sd_result sd_unpack_read(struct sd_unpacking *unpack, void *buffer, size_t length, size_t *got,
					    struct sd_error *err);

/* Does nothing for NULL. */
void sd_unpack_close(struct sd_unpacking *unpack);

#endif
