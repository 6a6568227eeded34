/* SPDX-License-Identifier: Apache-2.0 */
/* Swaps two dimensions of tensors, as a pending move. */
#ifndef SD_FILTERS_SWAP_DIMS_H
#define SD_FILTERS_SWAP_DIMS_H

#include "model/selection.h"

/*
 * Makes a manifest in which dimensions a and b (negative ones count from the end) of the selected tensors are swapped;
 * {0} selects all tensors. Block scales (model/scales.h) follow their weight. Record numbers stay; *out borrows from
 * in. SD_USAGE if a selected tensor lacks the dimension or its elements cannot be moved, SD_INPUT if none is selected.
 */
SD_MUST_CHECK enum sd_result sd_swap_dims(const struct sd_manifest *in, int64_t a, int64_t b,
					  const struct sd_selection *choice, struct sd_manifest **out,
					  struct sd_error *err);

#endif
