/* SPDX-License-Identifier: Apache-2.0 */
/* Casts and dequantisation by hand, as pending steps. */
#ifndef SD_FILTERS_CAST_H
#define SD_FILTERS_CAST_H

#include "move/quantise.h"
#include "model/selection.h"
#include "flow/driver.h"

/*
 * Both make a manifest with more steps for the selected tensors; {0} selects all that can have them. Record numbers
 * stay; *out borrows from in.
 *
 * sd_cast_to: floating-point tensors get the dtype. SD_INPUT where one has no cast to it, and where one has block
 * scales: casting the codes alone would spoil it. sd_cast_dequant: tensors X with a sibling X_scale_inv, of one scale
 * for each block of 128 x 128, get the product in the dtype; the scales go. SD_INPUT for scales of another shape, for
 * an F8_E4M3 tensor without scales, and where there are no scales at all. Both: SD_INPUT where a choice matches
 * nothing.
 */
SD_MUST_CHECK enum sd_result sd_cast_to(const struct sd_manifest *in, enum sd_dtype dtype,
					const struct sd_selection *choice, struct sd_manifest **out,
					struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_cast_dequant(const struct sd_manifest *in, enum sd_dtype dtype,
					     const struct sd_selection *choice, struct sd_manifest **out,
					     struct sd_error *err);

#endif
