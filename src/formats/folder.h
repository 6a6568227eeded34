/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of files with a checkpoint: a directory, or what stands for one, such as a folder in an archive. */
#ifndef SD_FORMATS_FOLDER_H
#define SD_FORMATS_FOLDER_H

#include "formats/extents.h"

struct sd_folder;
struct sd_safetensors_read;

typedef enum sd_result sd_folder_take(void *user, const char *name, struct sd_error *err);

/* Names are those of files in the folder, or below it: ".hf_metadata/config.json". Errors name the file. */
struct sd_folder_ops {
	/* Calls take for each name in the folder, or in one below it; nothing is called where that is not there. */
	enum sd_result (*list)(struct sd_folder *folder, const char *below, sd_folder_take *take, void *user,
			       struct sd_error *err);
	bool (*has)(struct sd_folder *folder, const char *name);
	/* The place of a file among those whose data comes in an order of its own; 0: any will do. May be NULL: 0. */
	uint64_t (*rank)(struct sd_folder *folder, const char *name);
	/* Reads a whole file, malloc'd. *data is NULL where it is no file, or larger than limit; *size is set all the
	 * same. source (NULL: none) is to watch whether it changes. */
	enum sd_result (*read)(struct sd_folder *folder, const char *name, uint64_t limit, struct sd_source *source,
			       void **data, uint64_t *size, struct sd_error *err);
	/* Adds a file of data as an input of the source. */
	enum sd_result (*open)(struct sd_folder *folder, const char *name, struct sd_source *source, uint32_t *input,
			       struct sd_error *err);
	/* After such an input was read: its records are those from number first on. May be NULL. */
	enum sd_result (*added)(struct sd_folder *folder, struct sd_safetensors_read *reading, uint32_t input,
				size_t first, struct sd_error *err);
};

/* The first member of every kind of folder. */
struct sd_folder {
	const struct sd_folder_ops *ops;
	const char *path; /* what stands before "/NAME" in errors */
	bool archive;     /* a file of torch.save by any name is read, where there is nothing else */
};

/* A directory; path is borrowed. */
struct sd_folder sd_folder_directory(const char *path);

/* "PATH/NAME", in the arena. */
SD_MUST_CHECK enum sd_result sd_folder_path(const struct sd_folder *folder, struct sd_arena *arena, const char *name,
					    const char **path, struct sd_error *err);

/* SD_INPUT: "PATH/NAME" and then what is formatted: " is not there". */
enum sd_result sd_folder_fail(const struct sd_folder *folder, const char *name, struct sd_error *err,
			      const char *format, ...) SD_PRINTF(4, 5);

#endif
