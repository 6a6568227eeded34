/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --sample: tensors that are only said, to see what would become of them. */
#ifndef SD_TOOLS_SAMPLE_H
#define SD_TOOLS_SAMPLE_H

#include "model/manifest.h"

/*
 * Adds the tensors of 'KEY DTYPE [SIZE ...]' to a manifest. Braces in KEY are as in bash: {a,b}, {0..39}, {3..39..4};
 * each combination is a tensor. SD_USAGE, and a line, for what is no sample.
 */
SD_MUST_CHECK enum sd_result sample_add(struct sd_manifest *m, const char *text, struct sd_error *err);

#endif
