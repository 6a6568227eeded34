/* SPDX-License-Identifier: Apache-2.0 */
/* A number that tells a checkpoint from others: of its manifest and side files, and of samples of its data. */
#ifndef SD_FLOW_IDENTITY_H
#define SD_FLOW_IDENTITY_H

#include "flow/source.h"

/*
 * The XXH3 of all records (key, dtype, shape, state), of the side files, and, where the source's data can be read in
 * any order, of a few bytes of up to 1024 records. m has the source's side files and what was chosen of its records.
 */
SD_MUST_CHECK enum sd_result sd_source_identity(struct sd_source *source, const struct sd_manifest *m, uint64_t *id,
						struct sd_error *err);

/*
 * For a source whose data passes by: *id tells of the files that it was opened from too, by the size of each and 64 kB
 * of its head, middle and tail. "-" is standard input. *unsure is set where one of them is no file, so that its data
 * tells nothing. Errors name the file.
 */
SD_MUST_CHECK enum sd_result sd_identity_of_inputs(const char *const *names, size_t count, uint64_t *id, bool *unsure,
						   struct sd_error *err);

/*
 * For a plan that changes the bytes of records: the lower half of a part's id (model/parts.h) tells of it too, so that
 * nothing is joined that was made in two ways. in: what the plan was made for; more: numbers that tell what else it
 * does. Each part gets the same id. Does nothing where out is no part.
 */
SD_MUST_CHECK enum sd_result sd_identity_fold(struct sd_manifest *out, const struct sd_manifest *in,
					      const uint64_t *more, size_t count, struct sd_error *err);

/* The same number as sd_source_identity, and of the size and the time of each file that the source's data is in. */
SD_MUST_CHECK enum sd_result sd_source_identity_of_files(struct sd_source *source, const struct sd_manifest *m,
							 uint64_t *id, struct sd_error *err);

#endif
