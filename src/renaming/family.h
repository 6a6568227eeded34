/* SPDX-License-Identifier: Apache-2.0 */
/* Groups that number the same things: the experts of one layer have gate, up and down each. */
#ifndef SD_RENAMING_FAMILY_H
#define SD_RENAMING_FAMILY_H

#include "renaming/planner.h"

/* {0} is empty. */
struct sd_planner_families {
	struct family *at;
	size_t n, room;
	struct sd_names names;
};

/*
 * Notes a member whose rule stacks over numbers of its key: members of the stage belong to one family if their rules
 * stack over the same holes and their other holes are equal. values are the holes of its key. *family is its number.
 */
SD_MUST_CHECK enum sd_result sd_family_note(struct sd_planner_families *families, struct sd_planner *p,
					    const struct sd_rule *rule, const struct sd_planner_member *member,
					    const struct sd_map_values *values, uint32_t *family);

/*
 * Takes over how many a tensor has that is written one by one; others whose numbers are of the same family have as
 * many, or it fails.
 */
SD_MUST_CHECK enum sd_result sd_family_agree(struct sd_planner_families *families, struct sd_planner *p,
					     const struct sd_rule *rule, const struct sd_planner_tensor *t,
					     const struct sd_map_values *values, const axis_sizes sizes);

/* How many numbers the family has for the i-th stack of its rules. */
uint64_t sd_family_size(const struct sd_planner_families *families, uint32_t family, uint32_t i);

/*
 * Every rule of the stage that stacks over the same holes has its group in each family, unless it is `if complete`: a
 * layer with gate and up but no down at all is refused. groups: the names of the groups that there are.
 */
SD_MUST_CHECK enum sd_result sd_family_check(const struct sd_planner_families *families, struct sd_planner *p,
					     const struct sd_map_stage *stage, const struct sd_names *groups);

void sd_family_free(struct sd_planner_families *families);

#endif
