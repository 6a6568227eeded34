/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map knows the words that names are made of. */
#ifndef SD_RENAMING_KNOWN_H
#define SD_RENAMING_KNOWN_H

#include "renaming/planner.h"

/*
 * Each part of each name that comes in, numbers apart, should be a word that the map knows: one of its `known` words,
 * or one that stands in its patterns. With strict, fails with the names that have others, and the nearest words: "2
 * keys are in no layout of map M: model.layers.2.self_attn.k_porj.weight (k_proj?), ..."; of a map without `known`
 * words, with those that its rules do not take. Otherwise names are noted that are misspelt: the word is nearly one
 * that is known, and no other layer has it.
 */
SD_MUST_CHECK enum sd_result sd_planner_known(struct sd_planner *p);

/* A stage has failed. With strict, a misspelt name is the error in its place: it says more than what fails for it. */
SD_MUST_CHECK enum sd_result sd_planner_blame(struct sd_planner *p);

#endif
