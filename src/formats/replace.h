/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One checkpoint takes another's place in a directory. At no moment is there anything that a reader takes for a
 * checkpoint but the whole old one or the whole new one, and until the new one stands there is a way back.
 */
#ifndef SD_FORMATS_REPLACE_H
#define SD_FORMATS_REPLACE_H

#include "formats/atomic_output.h"

#include <limits.h>
#include <sys/stat.h>

/* In the directory of the new files: the folder for the old ones, and before that, the names of the guard and of all
 * new files, with a NUL each. No file that is written has a hidden name. */
#define SD_REPLACE_ASIDE ".old"
#define SD_REPLACE_LIST ".list"

struct sd_replace;

/*
 * Looks at the directory: fails if the new files (borrowed, as path and place are) cannot take the place of what is
 * there, or if another run has begun to do so, which it keeps out from then on where the file system has locks. Only
 * with options->force may there be anything. A folder of the new files takes the place of the old one as a whole. With
 * options->ranks other files of so many ranks stay, and runs for other ranks are not kept out.
 */
SD_MUST_CHECK enum sd_result sd_replace_begin(int place, const char *path, const struct sd_output_file *files,
					      size_t count, const struct sd_output_options *options,
					      struct sd_replace **replace, struct sd_error *err);

/* The file whose permissions a new one should have, for it takes its place or that of the like; NULL: none is there. */
const struct stat *sd_replace_template(const struct sd_replace *replace, size_t file);

/*
 * Moves the new files from the directory staging, called by this name in place, to their places, and the old ones into
 * a folder in staging. A failure is undone; *stuck if that failed too, and all must stay as it is then.
 */
SD_MUST_CHECK enum sd_result sd_replace_run(struct sd_replace *replace, int staging, const char *name, bool *stuck,
					    struct sd_error *err);

/* After that the new checkpoint stands there, on the disk too: removes the old one, and staging. */
SD_MUST_CHECK enum sd_result sd_replace_end(struct sd_replace *replace, int staging, const char *name,
					    struct sd_error *err);

/* Frees. Does nothing for NULL. */
void sd_replace_close(struct sd_replace *replace);

/* What keeps a file from being renamed or replaced, for an error: "a directory", "immutable". NULL: nothing that can be
 * seen, perhaps because there is no such file. An empty name is dir itself. */
const char *sd_replace_obstacle(int dir, const char *name);

/* The role of a file in a directory whose checkpoint is replaced: the marks of parts go with the index. */
enum sd_file_role sd_replace_role(const char *name);

/* Removes a file, or a folder with all that is in it; false and errno. */
bool sd_replace_remove(int dir, const char *name);

/* The folder in which a file of this name (FOLDER/NAME) is to be, in folder. False where it is in none. */
bool sd_replace_folder(const char *name, char folder[NAME_MAX + 1]);

/* renameat(2). Replaces nothing unless that is wanted: -1 and EEXIST then. */
int sd_replace_rename(int from_dir, const char *from, int to_dir, const char *to, bool replace);

#endif
