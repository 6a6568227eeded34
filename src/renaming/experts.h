/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map has found the experts of a checkpoint. */
#ifndef SD_RENAMING_EXPERTS_H
#define SD_RENAMING_EXPERTS_H

#include "renaming/planner.h"

/*
 * Behind the last stage of a map that marks experts. SD_INPUT where the checkpoint has keys of experts (".experts.")
 * and no tensor is marked: half of a conversion. The line names such a key and, where the map knows it behind another
 * beginning, the edit that gives it that.
 */
SD_MUST_CHECK enum sd_result sd_planner_experts(struct sd_planner *p);

#endif
