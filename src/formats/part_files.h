/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of a checkpoint as files. Each part has a mark beside its files, which lists them: as long as marks stand in a
 * directory, it holds parts and no checkpoint. Whoever joins them proves that all are there, and removes the marks.
 */
#ifndef SD_FORMATS_PART_FILES_H
#define SD_FORMATS_PART_FILES_H

#include "formats/output_plan.h"
#include "model/parts.h"

/* The index of the whole, as long as that is in parts; part 0 has it. */
#define SD_PART_INDEX "sd-part-index.json"

/* Whether a name is that of a mark; or of any file that only parts have. */
bool sd_part_is_mark(const char *name);
bool sd_part_is_ours(const char *name);

/* A file of a part: of so many of its first bytes this is the XXH3. */
struct sd_part_file {
	const char *name;
	uint64_t size, checked, sum;
};

struct sd_part_mark {
	const char *name; /* of its file */
	uint32_t part, of;
	uint64_t run;      /* of the whole output; parts of one run belong together */
	const char *index; /* the name that SD_PART_INDEX gets in the end; NULL: there is none */
	struct sd_part_file *files;
	size_t nfiles, room;
	const char **side; /* side files that came with it; what is in them may be changed */
	size_t nside, side_room;
};

/* The marks of a directory. {0} is empty. */
struct sd_part_set {
	struct sd_arena arena;
	struct sd_part_mark *marks; /* by part */
	size_t nmarks, room;
	bool joined; /* it was proved that all are there; only what is left of the marks is still to be removed */
};

/* Reads the marks. SD_INPUT where one is malformed, or not all are of one run. sd_part_set_free in any case. */
SD_MUST_CHECK enum sd_result sd_part_set_read(const char *path, struct sd_part_set *set, struct sd_error *err);
void sd_part_set_free(struct sd_part_set *set);

/* That each file of a part is there as its mark says, and its side files are there. */
SD_MUST_CHECK enum sd_result sd_part_check(const char *path, const struct sd_part_mark *mark, struct sd_error *err);

/* The same of all parts, and that none is missing. */
SD_MUST_CHECK enum sd_result sd_part_prove(const char *path, const struct sd_part_set *set, struct sd_error *err);

/* What the set's marks have of the whole, in the arena. */
SD_MUST_CHECK enum sd_result sd_part_describe(const struct sd_part_set *set, struct sd_arena *arena,
					      const struct sd_parts **parts, struct sd_error *err);

/* A part that is being written. */
struct sd_part_output;

/*
 * Begins part m->parts->here[0], with the files of layout, in the directory path, which is made if need be. Fails where
 * that holds anything but other parts of the same run; with force the part itself may be there.
 */
SD_MUST_CHECK enum sd_result sd_part_begin(const char *path, const struct sd_manifest *m,
					   const struct sd_output_plan *layout, bool force,
					   struct sd_part_output **part, struct sd_error *err);

/* Where the part's files are to be written first: a new directory. */
const char *sd_part_path(const struct sd_part_output *part);
/* The name and the content of its mark. */
const char *sd_part_mark_name(const struct sd_part_output *part);
const char *sd_part_mark_text(const struct sd_part_output *part, size_t *length);

/* All files are there (count, of these names): they get their places, the mark before all others. */
SD_MUST_CHECK enum sd_result sd_part_end(struct sd_part_output *part, const char *const *names, size_t count, bool sync,
					 struct sd_error *err);

/* Does nothing for NULL. */
void sd_part_close(struct sd_part_output *part);

/* Makes a checkpoint of the parts in a directory. A kill leaves parts, or what a second call makes whole. */
SD_MUST_CHECK enum sd_result sd_part_join(const char *path, bool sync, struct sd_error *err);

#endif
