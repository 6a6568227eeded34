/* SPDX-License-Identifier: Apache-2.0 */
/* Several sources as one: the records of the first, then those of the second, and so on. */
#ifndef SD_FLOW_CONCAT_H
#define SD_FLOW_CONCAT_H

#include "flow/source.h"

/* How sources become one, and what was found then. */
struct sd_concat {
	bool later_wins;     /* of a tensor that several have data of, the last one's is taken; else it is an error */
	size_t replaced;     /* how many tensors of an earlier source were not taken */
	const char *differs; /* the name of a side file that differs between the sources; NULL: none does */
};

/*
 * Concatenates count sources. They belong to the result; on failure they are closed. names are for errors. A single
 * source is returned as it is. how may be NULL: the first one counts, and nothing is to be told.
 *
 * Records: a record that one source lacks (SD_ELSEWHERE) may come from another, so that parts of a checkpoint make a
 * whole; records that are not taken stay, without a target. If two sources have the data of one tensor, that is an
 * error that names both, unless later_wins; then a source that has it has to have all of it, and the weight that a
 * tensor is stored with, or that is stored with it, too. Metadata: the entries on which all sources agree. Unknown
 * frames of the head: each different one once. Side files: all of them; if two of one name differ, the first is taken,
 * or with later_wins the last. Parts (model/parts.h)
 * make a whole: SD_INPUT where one is missing, there twice, or of another checkpoint.
 */
SD_MUST_CHECK enum sd_result sd_concat(struct sd_source **sources, const char *const *names, size_t count,
				       struct sd_source **joined, struct sd_concat *how, struct sd_error *err);

#endif
