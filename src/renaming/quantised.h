/* SPDX-License-Identifier: Apache-2.0 */
/* What a map is told about quantised weights: what goes with them, and what it cannot read. */
#ifndef SD_RENAMING_QUANTISED_H
#define SD_RENAMING_QUANTISED_H

#include "renaming/planner.h"

/*
 * In front of the first stage, on the way to the layout nemo: weights that are stored quantised, in a form that no rule
 * of the map reads, become numbers of -D dtype, or BF16, as sd-cast --dequant would make them. All rules then see plain
 * weights. GPTQ and AWQ, whose codes lie the other way round, stay for sd-cast, and so does what cannot be read.
 */
SD_MUST_CHECK enum sd_result sd_planner_open(struct sd_planner *p);

/*
 * Behind the last stage of a map. Scales of the activations of weights that are dequantised now are left out. SD_INPUT
 * where a weight is packed under a name for which the map has no rule, though it would change the weight under its own;
 * and, with strict, where there are scales of no weight, which are noted otherwise.
 */
SD_MUST_CHECK enum sd_result sd_planner_quantised(struct sd_planner *p);

#endif
