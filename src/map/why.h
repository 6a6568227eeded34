/* SPDX-License-Identifier: Apache-2.0 */
/* How near a pattern comes to a name that it does not match. */
#ifndef SD_MAP_WHY_H
#define SD_MAP_WHY_H

#include "map/pattern.h"

struct sd_map_near_miss {
	size_t position; /* up to here the name is as the pattern has it */
	size_t missing;  /* so many letters of pattern and name are not in the other, or about */
	const char
		*expected; /* what would have to stand there: "gate_proj.weight", "model. or layers."; in the arena */
	size_t behind;     /* without so many bytes, up to a dot, the name would match; 0: it would not */
};

/* How many letters of a pattern stand there as such. */
size_t sd_pattern_letters(const struct sd_pattern *pattern);

/* The pattern must not match. False where memory is out. */
SD_MUST_CHECK bool sd_pattern_near(const struct sd_pattern *pattern, const struct sd_map_holes *holes,
				   const char *const *texts, const char *name, struct sd_map_scratch *scratch,
				   struct sd_arena *arena, struct sd_map_near_miss *miss);

#endif
