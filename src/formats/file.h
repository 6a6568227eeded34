/* SPDX-License-Identifier: Apache-2.0 */
/* Small files, read whole. */
#ifndef SD_FORMATS_FILE_H
#define SD_FORMATS_FILE_H

#include "base/error.h"

#include <stdint.h>
#include <sys/stat.h>

/* A whole regular file, malloc'd. *data is NULL where it is no regular file or larger than limit; *st is set also then.
 * Errors name the path. */
SD_MUST_CHECK enum sd_result sd_file_read(const char *path, uint64_t limit, void **data, struct stat *st,
					  struct sd_error *err);

#endif
