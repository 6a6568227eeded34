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

#endif
