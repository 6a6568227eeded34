/* SPDX-License-Identifier: Apache-2.0 */
/* --include: which tensors are meant. */
#ifndef SD_STREAM_INCLUDE_H
#define SD_STREAM_INCLUDE_H

#include "base/regex.h"
#include "stream/manifest.h"

/* Whether a tensor of this name is meant: an empty list is all. Fails as sd_regex_search does. */
SD_UNUSED_RESULT enum sd_result sd_include_takes(const struct sd_regex_list *include, const char *name, bool *yes,
						 struct sd_error *err);

/* SD_INPUT where regexes are given and no tensor's name matches: likely one is mistyped. */
SD_UNUSED_RESULT enum sd_result sd_include_check(const struct sd_regex_list *include, const struct sd_manifest *m,
						 struct sd_error *err);

#endif
