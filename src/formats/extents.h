/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data at offsets of files, as a source: that of every format whose tensors lie in files as they are. A parser says
 * where each record is, and is done; opening, closing, and looking whether a file has changed are done here.
 */
#ifndef SD_FORMATS_EXTENTS_H
#define SD_FORMATS_EXTENTS_H

#include "flow/source.h"

#include <sys/stat.h>

/* Looks, before the first data of an input is taken, whether all of it is as it should be. */
struct sd_verify {
	enum sd_result (*run)(struct sd_verify *verify, struct sd_error *err);
};

/* A file or pipe with data, or a part of a file: a member of an archive. */
struct sd_input {
	const char *path; /* for errors; opens it again, unless it is lent */
	int fd;           /* -1: not open now */
	uint64_t begin;   /* where it begins in fd */
	uint64_t size;    /* its bytes, where it is seekable */
	uint64_t used;    /* when it was asked for last, among all inputs */
	bool seekable;
	bool lent;                /* fd is the source's guest's */
	struct sd_verify *verify; /* NULL: there is nothing to look at, or not any more */
	struct stat stat;         /* when it was opened; of what is lent, without a mode: nobody looks */
};

/* A source of no inputs; NULL when memory is out. Its manifest may be given metadata and side files. */
struct sd_source *sd_extents_new(void);

/*
 * Adds an input. path (copied) opens it again where that is needed: no more than 64 are open at a time. fd is taken
 * over, also on failure. Until the next one is added it is open.
 */
SD_MUST_CHECK enum sd_result sd_extents_input(struct sd_source *source, int fd, const char *path, uint32_t *number,
					      struct sd_error *err);

/*
 * Adds a part of a file: its path (copied), fd (lent: it stays open as long as the source), begin, size, verify (lives
 * as long as the source) and stat are taken.
 */
SD_MUST_CHECK enum sd_result sd_extents_part(struct sd_source *source, const struct sd_input *part, uint32_t *number,
					     struct sd_error *err);

/* What lives as long as a source: finish (may be NULL) is called at its end, close when it is freed. */
struct sd_guest {
	enum sd_result (*finish)(struct sd_guest *guest, struct sd_error *err);
	void (*close)(struct sd_guest *guest);
};

/* Gives the source, which has none, a guest. */
void sd_extents_invite(struct sd_source *source, struct sd_guest *guest);

/* The bytes of an input that is open, from an offset in it on. */
struct sd_extent sd_extents_of(const struct sd_input *input, uint64_t offset, uint64_t length);

/* An input, valid until the next one is added. */
const struct sd_input *sd_extents_at(const struct sd_source *source, uint32_t number);

/* Opens an input again, if it is not open. It stays so while no more than 48 others are opened. */
SD_MUST_CHECK enum sd_result sd_extents_open(struct sd_source *source, uint32_t number, struct sd_error *err);

/* Takes away the last input, of which nothing was added. */
void sd_extents_drop(struct sd_source *source);

/*
 * Adds a record, its bytes from an offset of the input on, and what becomes of it (target's record is set here). What
 * both point to lives as long as the manifest. Records come in the order of the inputs, and in a pipe (offset: any),
 * which must be the only input, one behind another from where it stands.
 */
SD_MUST_CHECK enum sd_result sd_extents_add(struct sd_source *source, const struct sd_record *record,
					    const struct sd_target *target, uint32_t input, uint64_t offset,
					    struct sd_error *err);

/*
 * A record whose bytes do not lie in its input as they are, or are looked for only when they are asked for. What it is
 * a member of lives as long as the source.
 */
struct sd_made {
	/* Gives the record's bytes: a part of the input, which is open, or of *memory, which is malloc'd and
	 * taken over (NULL: there is none). Errors name all but the record. */
	enum sd_result (*give)(struct sd_made *made, const struct sd_input *input, struct sd_extent *extent,
			       void **memory, struct sd_error *err);
	/* NULL: give gave all. Else it gave the first ones, and this gives those from byte done on, in its own memory.
	 */
	enum sd_result (*more)(struct sd_made *made, uint64_t done, struct sd_extent *extent, struct sd_error *err);
	/* After the last byte, and also where it was never reached: gives memory back. May be NULL, and come twice. */
	void (*close)(struct sd_made *made);
	bool once; /* its bytes pass by, in the order of records: they cannot be looked at before */
};

/* Reads all bytes of such a record into memory. */
SD_MUST_CHECK enum sd_result sd_made_read(struct sd_made *made, const struct sd_input *input, void *bytes,
					  uint64_t length, struct sd_error *err);

/* The same for such a record; offset: where what it is made from begins, for people. */
SD_MUST_CHECK enum sd_result sd_extents_add_made(struct sd_source *source, const struct sd_record *record,
						 const struct sd_target *target, uint32_t input, uint64_t offset,
						 struct sd_made *made, struct sd_error *err);

/* Makes a record one that is made. Returns what made it before, or NULL; *offset is where it, or what that needs, is.
 */
struct sd_made *sd_extents_make(struct sd_source *source, uint32_t record, struct sd_made *made, uint64_t *offset);

/* In which input a record is. */
uint32_t sd_extents_input_of(const struct sd_source *source, uint32_t record);

/* Whether bytes at these offsets of two inputs, both files, are the same, as far as the files go. */
SD_MUST_CHECK enum sd_result sd_extents_same(struct sd_source *source, const uint32_t number[2],
					     const uint64_t offset[2], uint64_t bytes, bool *same,
					     struct sd_error *err);

/*
 * Gives records of files their data as their value, where a weight cannot be understood without it: the state of
 * bitsandbytes, and the shape of packed integers whose scales do not tell it. After the last record.
 */
SD_MUST_CHECK enum sd_result sd_extents_values(struct sd_source *source, struct sd_error *err);

/* Keeps what is not there, the first one told, as the source's lack. Only memory can be missing. */
SD_MUST_CHECK enum sd_result sd_extents_lack(struct sd_source *source, const struct sd_error *lack,
					     struct sd_error *err);

/* Adds to what sd_extents_still looks at: a file (path is borrowed) of which something else was read. */
SD_MUST_CHECK enum sd_result sd_extents_watch(struct sd_source *source, const char *path, const struct stat *then,
					      struct sd_error *err);

/*
 * That each path is still the file that was opened by it, unchanged: if so now, then all of them belonged together when
 * the last one was opened.
 */
SD_MUST_CHECK enum sd_result sd_extents_still(const struct sd_source *source, struct sd_error *err);

#endif
