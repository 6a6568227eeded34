/* SPDX-License-Identifier: Apache-2.0 */
/* A source as a plan makes it that touches no data: other names, other records. */
#ifndef SD_FLOW_PLANNED_H
#define SD_FLOW_PLANNED_H

#include "flow/driver.h"

/*
 * A source with the manifest of a plan in which no record is SD_WORK, over the source that the plan is for. Both must
 * outlive it; closing it closes neither. Records that the plan wants to be equal are looked at as their data goes by,
 * and then it is not random. NULL when memory is out.
 */
struct sd_source *sd_planned_source(struct sd_source *source, const struct sd_plan *plan);

#endif
