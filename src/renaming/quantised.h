/* SPDX-License-Identifier: Apache-2.0 */
/* What a map is told about quantised weights: what goes with them, and what it cannot read. */
#ifndef SD_RENAMING_QUANTISED_H
#define SD_RENAMING_QUANTISED_H

#include "renaming/planner.h"

/*
 * Behind the last stage of a map. Scales of the activations of weights that are dequantised now are left out. SD_INPUT
 * where a weight is packed under a name for which the map has no rule, though it would change the weight under its own;
 * and, with strict, where there are scales of no weight, which are noted otherwise.
 */
SD_MUST_CHECK enum sd_result sd_planner_quantised(struct sd_planner *p);

#endif
