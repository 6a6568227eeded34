/* SPDX-License-Identifier: Apache-2.0 */
/* What a source brings behind its names, for those who want no more than the names. */
#ifndef SD_FLOW_REST_H
#define SD_FLOW_REST_H

#include "flow/source.h"

/*
 * Takes the data of all records that are here, so that the program at the other end of a pipe ends well, and an error
 * of its own is known. Mostly what comes only says where the data lies. Of data itself 4 MiB are taken: nobody has
 * asked for it, and the other program then ends as its pipe does. The errors are those of the source.
 */
SD_MUST_CHECK enum sd_result sd_source_take_rest(struct sd_source *source, struct sd_error *err);

#endif
