/* SPDX-License-Identifier: Apache-2.0 */
/* config.json counts the layers and experts that a cut has left. */
#ifndef SD_CONFIG_CONFIG_CUT_H
#define SD_CONFIG_CONFIG_CUT_H

#include "model/selection.h"

/*
 * m, of which sd_cut_plan has left these layers and experts, gets a config.json that counts them, by a text in its
 * arena: num_hidden_layers, num_experts and their other names; lists with an entry for each layer, and lists of numbers
 * of layers; how many layers come first that are unlike the others, and the like; names of modules, where they have
 * other numbers now. Layers or experts that keep numbers with gaps are not counted anew. SD_INPUT where no config.json
 * can say what is left: more experts for a token than there are, groups of experts that come out uneven, layers whose
 * kind goes by their number. All other bytes stay.
 */
SD_MUST_CHECK enum sd_result sd_config_cut_follow(struct sd_manifest *m, const struct sd_selection *numbers,
						  bool renumber, struct sd_error *err);

#endif
