/* SPDX-License-Identifier: Apache-2.0 */
/* Several sources as one: their records one after another. */
#ifndef SD_FLOW_CONCAT_H
#define SD_FLOW_CONCAT_H

#include "flow/source.h"

/*
 * Joins count sources, which are taken over (closed on failure too); names are for errors. One source is returned as it
 * is. What one source has left out (SD_ELSEWHERE) another one may have: parts of a checkpoint join to the whole. A
 * tensor of which two sources have the data, whole, is an error that names both. Metadata: the entries that all have
 * alike. Frames of the head that are unknown here: all of them, but once where sources have the same. Side files: all
 * of them; two of one name must have the same bytes, else *differs (which may be NULL) names one such file, the first
 * source's is taken, and the caller may tell the user.
 */
SD_MUST_CHECK enum sd_result sd_concat(struct sd_source **sources, const char *const *names, size_t count,
				       struct sd_source **joined, const char **differs, struct sd_error *err);

#endif
