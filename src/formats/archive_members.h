/* SPDX-License-Identifier: Apache-2.0 */
/* What is in an archive: its files, where their data is, and what is kept of those that pass by. */
#ifndef SD_FORMATS_ARCHIVE_MEMBERS_H
#define SD_FORMATS_ARCHIVE_MEMBERS_H

#include "base/names.h"
#include "formats/format.h"
#include "formats/index.h"
#include "formats/unpack.h"

#define SD_ARCHIVE_STEP (1u << 20)
#define SD_ARCHIVE_NOWHERE UINT64_MAX

/* A file in the archive. */
struct sd_archive_file {
	struct sd_verify verify; /* of one that is stored in a zip */
	struct sd_archive *in;
	const char *name; /* without "./" */
	const char *base; /* the last part of it */
	uint64_t size;
	uint64_t begin;  /* in the file, where its bytes are there as they are; else SD_ARCHIVE_NOWHERE */
	uint32_t number; /* among the files, in the order of the archive */
	uint32_t crc;    /* in a zip */
	char *held;      /* its first bytes, malloc'd */
	size_t nheld;
	int spool; /* a file in memory that has all of it, or -1 */
};

struct sd_archive {
	struct sd_guest guest;
	struct sd_folder folder;
	struct sd_limits limits;
	struct sd_opened in;
	struct stat then;
	uint64_t begin; /* of the archive in the file */
	bool seekable, is_zip;
	struct sd_arena arena;
	struct sd_archive_file *members;
	size_t count, room;
	struct sd_names names;          /* to members */
	const char *root;               /* the folder that counts: "" or "a/b" */
	struct sd_names inside;         /* to members, by their names from there */
	struct sd_archive_file *opened; /* last */
	uint64_t held, spooled;
	/* Of a pipe: the index, in which folder (NULL: it has not), and how many of its files have. */
	struct sd_index index;
	const char *indexed;
	size_t came;

	struct sd_unpacking *pass;
	uint32_t at;   /* the file that it is at, by its number; UINT32_MAX: none */
	uint32_t seen; /* files that it came by */
	uint64_t done; /* bytes of this one that were read */
	uint32_t crc;  /* of them, in a zip */
	int head;      /* a file in memory: a header, where one of weights would have it */
	char *buffer;  /* SD_ARCHIVE_STEP bytes */
};

/* A path in the archive without "./", in its arena. SD_INPUT for one that leads out of it. */
SD_MUST_CHECK enum sd_result sd_archive_clean(struct sd_archive *x, const char *raw, char **name, struct sd_error *err);

/* The last part of a path. */
const char *sd_archive_base(const char *name);

/*
 * Lists all files, of whose first bytes n have been read, and keeps what will be needed of those that pass by; from a
 * pipe, up to the last file of weights. *is_archive: whether it is one of a checkpoint, and not of torch.save, say.
 */
SD_MUST_CHECK enum sd_result sd_archive_list(struct sd_archive *x, const void *first, size_t n, bool *is_archive,
					     struct sd_error *err);

/* Goes to a byte of a file that passes by: again from the beginning, if that has to be. */
SD_MUST_CHECK enum sd_result sd_archive_go_to(struct sd_archive *x, const struct sd_archive_file *m, uint64_t offset,
					      struct sd_error *err);

/* The next length bytes of that file; with the last one its checksum is looked at, where it has one. */
SD_MUST_CHECK enum sd_result sd_archive_take(struct sd_archive *x, const struct sd_archive_file *m, char *buffer,
					     size_t length, struct sd_error *err);

/* Keeps what will be needed of the file that is just gone to. */
SD_MUST_CHECK enum sd_result sd_archive_keep(struct sd_archive *x, struct sd_archive_file *m, struct sd_error *err);

/* Whether data of this file is read in its order, once its header is known. */
bool sd_archive_is_in_order(const struct sd_archive_file *m);

/* A file in memory of this size, all of it zeros: *fd, made where it is -1. */
SD_MUST_CHECK enum sd_result sd_archive_memory(uint64_t size, int *fd, struct sd_error *err);

/* That what is stored in a zip has its CRC. */
SD_MUST_CHECK enum sd_result sd_archive_verify(struct sd_verify *verify, struct sd_error *err);

/* From a pipe, after the data: what comes behind the weights would be lost. */
SD_MUST_CHECK enum sd_result sd_archive_finish(struct sd_archive *x, struct sd_error *err);

#endif
