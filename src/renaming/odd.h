/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the tensors that become one is unlike the others. */
#ifndef SD_RENAMING_ODD_H
#define SD_RENAMING_ODD_H

#include "renaming/planner.h"

/*
 * "KEY is [64,32], the other 15 of TARGET are [32,64]: transposed?", in the arena of the plan: of the members of a
 * group nearly all have one shape and one has not. NULL where that is not so, or memory is out.
 */
const char *sd_odd_shape(struct sd_planner *p, const struct sd_planner_tensor *before,
			 const struct sd_planner_member *members, const struct sd_planner_group *group);

/* "KEY is F32, the other 15 of TARGET are BF16"; NULL likewise. */
const char *sd_odd_dtype(struct sd_planner *p, const struct sd_planner_tensor *before,
			 const struct sd_planner_member *members, const struct sd_planner_group *group);

#endif
