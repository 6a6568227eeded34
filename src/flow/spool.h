/* SPDX-License-Identifier: Apache-2.0 */
/* A spool: a temporary file without a name, for data that has to wait. */
#ifndef SD_FLOW_SPOOL_H
#define SD_FLOW_SPOOL_H

#include "base/error.h"

/* The folder of spools: TMPDIR, or /tmp. */
const char *sd_spool_folder(void);

/* Opens a spool, which the caller closes. Errors name the folder. */
SD_MUST_CHECK enum sd_result sd_spool_open(int *fd, struct sd_error *err);

#endif
