/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output that goes on after its run was killed: what is written stands in a directory beside it, and a journal there
 * says which units (model/parts.h) of the source are all in it, on the disk.
 */
#ifndef SD_FORMATS_RESUME_H
#define SD_FORMATS_RESUME_H

#include "flow/driver.h"
#include "formats/output_plan.h"

/*
 * For who sends a checkpoint, which id tells from others: all units of m that a run for the directory out has written
 * become SD_ELSEWHERE. SD_INPUT where that run was given another checkpoint.
 */
SD_MUST_CHECK enum sd_result sd_resume_choose(const char *out, struct sd_manifest *m, uint64_t id,
					      struct sd_error *err);

/*
 * For who receives that: a plan for a sink that has what is elsewhere from the run before. SD_USAGE where the stream
 * does not come from sd_resume_choose, SD_INPUT where it lacks what was not written yet.
 */
SD_MUST_CHECK enum sd_result sd_resume_plan(const char *out, const struct sd_manifest *in, struct sd_plan *plan,
					    struct sd_error *err);

/* Who writes. */
struct sd_resume;

/*
 * Reads the journal, or removes what a run left that had none yet. m is the plan's, and outlives it. SD_INPUT where the
 * run before was to write other files, or the same ones of something else.
 */
SD_MUST_CHECK enum sd_result sd_resume_begin(const char *out, const struct sd_manifest *m,
					     const struct sd_output_plan *layout, bool sync, struct sd_resume **resume,
					     struct sd_error *err);

/* Whether there was a run before. */
bool sd_resume_goes_on(const struct sd_resume *resume);

/* All files are there: opens the journal, and makes it if need be. */
SD_MUST_CHECK enum sd_result sd_resume_open(struct sd_resume *resume, struct sd_error *err);

/* Whether the run before has written a record. */
bool sd_resume_has(const struct sd_resume *resume, size_t record);

/* All of a record was given to its files. */
void sd_resume_came(struct sd_resume *resume, size_t record);

/* Whether it is time to bring all to the disk, and then to call sd_resume_write, which notes what is there. */
bool sd_resume_due(const struct sd_resume *resume);
SD_MUST_CHECK enum sd_result sd_resume_write(struct sd_resume *resume, struct sd_error *err);

/* The output has its place: the journal goes. */
void sd_resume_end(struct sd_resume *resume);

/* Frees; the journal stays. Does nothing for NULL. */
void sd_resume_close(struct sd_resume *resume);

#endif
