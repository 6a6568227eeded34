/* SPDX-License-Identifier: Apache-2.0 */
/* Several sources as one: the records of the first, then those of the second, and so on. */
#ifndef SD_FLOW_CONCAT_H
#define SD_FLOW_CONCAT_H

#include "flow/source.h"

/*
 * Concatenates count sources. They belong to the result; on failure they are closed. names are for errors. A single
 * source is returned as it is.
 *
 * Records: a record that one source lacks (SD_ELSEWHERE) may come from another, so that parts of a checkpoint make a
 * whole. If two sources have the data of one tensor, that is an error that names both. Metadata: the entries on which
 * all sources agree. Unknown frames of the head: each different one once. Side files: all of them; if two of one name
 * differ, the first is taken and *differs (which may be NULL) is its name.
 */
SD_MUST_CHECK enum sd_result sd_concat(struct sd_source **sources, const char *const *names, size_t count,
				       struct sd_source **joined, const char **differs, struct sd_error *err);

#endif
