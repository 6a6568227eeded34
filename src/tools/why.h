/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --why-not: of each rule, why it does not take a tensor. */
#ifndef SD_TOOLS_WHY_H
#define SD_TOOLS_WHY_H

#include "renaming/rename.h"
#include "tools/look.h"

struct why_options {
	const char *key;  /* as it comes in */
	const char *name; /* as it comes to the map */
	const char *rule; /* file:line, line or stage; NULL: all */
	bool json;
	struct sd_look look;
};

/* Plans a rename of this manifest for that, and prints. SD_DIFFERENT where the rule is unknown; else what the plan is.
 */
SD_MUST_CHECK enum sd_result why_print(const struct why_options *opt, struct sd_rename *rename,
				       const struct sd_manifest *in, struct sd_plan *plan, struct sd_error *err);

/*
 * The rule whose pattern is nearest to the name of a target, in words, in the arena: "FILE:LINE, where TEXT is and not
 * TEXT". NULL: none is near, or memory is out. The rename has a map and a direction.
 */
const char *why_nearest(const struct sd_rename *rename, const struct sd_manifest *in, uint32_t target,
			struct sd_arena *arena);

#endif
