/* SPDX-License-Identifier: Apache-2.0 */
/* One or many safetensors files as a source. */
#ifndef SD_FORMATS_FILES_H
#define SD_FORMATS_FILES_H

#include "base/limits.h"
#include "stream/source.h"

/* A source of no files, which takes no more of each than limits (may be NULL). NULL when memory is out. Its manifest
 * may be given side files. */
struct sd_source *sd_files_new(const struct sd_limits *limits);

/*
 * Chooses among the tensors of a file. wants: whether this one is meant; *doubt may be set to a line, which lives as
 * long as the source, for one that is an error where nobody leaves it out.
 */
struct sd_files_chooser {
	bool (*wants)(struct sd_files_chooser *chooser, const char *key, const char **doubt);
};

/*
 * Adds a file or pipe, whose first 8 bytes have been read: reads and checks its header, adds its tensors to the
 * manifest in the order of the file, and keeps of the manifest's metadata what this file has too. path is for errors
 * and opens the file again where that is needed (no more than 64 are open at a time). fd is taken over, also on
 * failure. chooser: NULL takes all tensors. Errors name the path.
 */
SD_UNUSED_RESULT enum sd_result sd_files_add(struct sd_source *files, int fd, const char *path,
					     const unsigned char first[8], struct sd_files_chooser *chooser,
					     struct sd_error *err);

/* Keeps what is not there, the first one told, as the source's lack. Only memory can be missing. */
SD_UNUSED_RESULT enum sd_result sd_files_lack(struct sd_source *files, const struct sd_error *lack,
					      struct sd_error *err);

/* Adds to what sd_files_still looks at: a file (path is borrowed) of which something else was read. */
SD_UNUSED_RESULT enum sd_result sd_files_watch(struct sd_source *files, const char *path, const struct stat *then,
					       struct sd_error *err);

/*
 * That each path is still the file that was opened by it, unchanged: if so now, then all of them belonged together when
 * the last one was opened.
 */
SD_UNUSED_RESULT enum sd_result sd_files_still(const struct sd_source *files, struct sd_error *err);

#endif
