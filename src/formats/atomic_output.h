/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output that appears whole or not at all: a single file, a new directory, or a checkpoint that takes another's place
 * in an existing directory. Until the end everything is written where no reader looks, and no old file is touched.
 */
#ifndef SD_FORMATS_ATOMIC_OUTPUT_H
#define SD_FORMATS_ATOMIC_OUTPUT_H

#include "base/error.h"

#include <stdint.h>
#include <sys/stat.h>

struct sd_output;

enum sd_output_role {
	SD_OUTPUT_WEIGHTS,
	SD_OUTPUT_SIDE,
	SD_OUTPUT_ENTRY, /* by which a reader knows that a checkpoint is there: the index, or the only weights. It
			     comes last */
};

struct sd_output_file {
	const char
		*name; /* in the directory, or FOLDER/NAME, all of a folder together; not looked at for a single file */
	uint64_t size; /* reserved at once */
	enum sd_output_role role;
	bool kept; /* stays as it is in the directory; it is not to be written to */
};

/* How the new directory is called where it outlives a run that is killed: .NAME and this; so much of the name at most.
 */
#define SD_OUTPUT_LASTING ".sd-resume"
#define SD_OUTPUT_NAME 200

enum sd_output_lasting {
	SD_OUTPUT_GOES, /* what is unfinished goes, or if it was killed, is nothing that anybody uses */
	SD_OUTPUT_STAYS,
	SD_OUTPUT_IS_THERE, /* and its files have their sizes */
};

struct sd_output_options {
	bool directory; /* path is one, or becomes one; else the single file */
	/*
	 * Not 0: these are files of one rank of so many, of a directory (made if need be) in which those of other ranks
	 * stand, and may be written at the same time. Nothing is replaced but what has the same name.
	 */
	uint64_t ranks;
	enum sd_output_lasting lasting; /* of a directory that is not there yet */
	bool locked; /* the caller has the lock of the directory, and keeps it until the end (sd_recover_lock) */
	bool beside; /* old weights that are not among these files stay beside them */
	bool force;  /* an existing file, or the checkpoint in an existing directory, may be replaced */
	bool sync;   /* files and directories reach the disk before it is said that all is well */
	void (*note)(const char *format, ...) SD_PRINTF(1, 2); /* told of what a killed run left behind; may be NULL */
};

/*
 * Begins: checks that the place may be taken and that nobody else is about to, that all that is needed at the end can
 * be done there, that there is room on its file system, and creates the files (borrowed until the close) under
 * temporary names. They get the permissions of those whose place they take.
 */
SD_MUST_CHECK enum sd_result sd_output_begin(const char *path, const struct sd_output_file *files, size_t count,
					     const struct sd_output_options *options, struct sd_output **publish,
					     struct sd_error *err);

/* A file to write to (and read from), open until the next call. */
SD_MUST_CHECK enum sd_result sd_output_fd(struct sd_output *publish, size_t file, int *fd, struct sd_error *err);

/* All that was written so far, and where it stands, reaches the disk. */
SD_MUST_CHECK enum sd_result sd_output_sync_all(struct sd_output *publish, struct sd_error *err);

/* From now on what is written stays, unless it gets its place. */
void sd_output_keep(struct sd_output *publish);

/* Everything is written: it gets its place. */
SD_MUST_CHECK enum sd_result sd_output_end(struct sd_output *publish, struct sd_error *err);

/* Frees; without an end before it, nothing is left behind. Does nothing for NULL. */
void sd_output_close(struct sd_output *publish);

/* Whether the file system of the directory dir has room for bytes more; where is for the error. */
SD_MUST_CHECK enum sd_result sd_output_room(int dir, const char *where, uint64_t bytes, struct sd_error *err);

/* fsync(2), where it means something. After a signal it goes on only if it is told to. path is for errors. */
SD_MUST_CHECK enum sd_result sd_output_sync(int fd, const char *path, bool go_on, struct sd_error *err);

/* Random letters for the name of a file; no NUL behind them. */
#define SD_OUTPUT_LETTERS 6
void sd_output_letters(char letters[SD_OUTPUT_LETTERS]);

/* A new file may be read by whom the one could be read (like) that it takes the place of, and by nobody else. */
SD_MUST_CHECK enum sd_result sd_output_permissions(int fd, const struct stat *like, mode_t mode, struct sd_error *err);

/* Reserves the space of a file of size bytes. */
SD_MUST_CHECK enum sd_result sd_output_reserve(int fd, uint64_t size, struct sd_error *err);

#endif
