/* SPDX-License-Identifier: Apache-2.0 */
/* What is lost where one checkpoint takes another's place. */
#ifndef SD_FORMATS_LOSS_H
#define SD_FORMATS_LOSS_H

#include "base/limits.h"
#include "model/manifest.h"

/* Tensors and their elements; scales, zero points and the like, which quantised weights are stored with, do not count.
 */
struct sd_census {
	uint64_t tensors, elements;
};

/* Of the targets whose data comes in this stream. */
SD_MUST_CHECK enum sd_result sd_census_take(const struct sd_manifest *m, struct sd_census *census,
					    struct sd_error *err);

/*
 * Of the checkpoint that stands at a path. Nothing there, or nothing that is a checkpoint, has no tensors: what cannot
 * be read is not lost. Only memory can be missing.
 */
SD_MUST_CHECK enum sd_result sd_census_at(const char *path, const struct sd_limits *limits, struct sd_census *census,
					  struct sd_error *err);

/* Whether what comes has both fewer tensors and fewer elements: not only another form of the same. */
bool sd_census_loses(const struct sd_census *before, const struct sd_census *after);

#endif
