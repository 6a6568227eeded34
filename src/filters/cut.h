/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting layers and experts out of a model, so that what is left is a smaller model. */
#ifndef SD_FILTERS_CUT_H
#define SD_FILTERS_CUT_H

#include "filters/shard.h"
#include "model/selection.h"

/*
 * Plans what is left of a model: of the layers of the language model, and of the experts in all of its layers, only
 * those that numbers has (sd_selection_settle was called); all else as it is. With renumber what is left is counted
 * from 0 without gaps, in names and in t->number.
 *
 * Experts that are one tensor each are taken by their names; those that are together, by their place in the first
 * dimension: tensors in a module "experts", and those that a map has labelled. What the router has for each expert is
 * cut with them wherever they get the numbers from 0 on. Without renumber other sets of experts keep their numbers, and
 * the router keeps all rows.
 *
 * SD_INPUT where no layer or expert has such a number, and where it cannot be told what goes with an expert.
 * sd_shard_free in any case; side files are as they were.
 */
SD_MUST_CHECK enum sd_result sd_cut_plan(const struct sd_manifest *in, const struct sd_selection *numbers,
					 bool renumber, struct sd_shard *shard, struct sd_error *err);

#endif
