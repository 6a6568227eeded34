/* SPDX-License-Identifier: Apache-2.0 */
/* Quantises weights by hand: a plan and a worker. */
#ifndef SD_FILTERS_QUANTISE_WEIGHTS_H
#define SD_FILTERS_QUANTISE_WEIGHTS_H

#include "move/quantise.h"
#include "model/selection.h"
#include "flow/driver.h"

/*
 * Quantises the selected tensors. SD_QUANTISE_BLOCKS makes of X [..., o, i] (BF16, F16 or F32) X in F8_E4M3 and
 * X_scale_inv [..., ceil(o/128), ceil(i/128)] in scale_dtype (F32 or BF16), as sd_quantise_band computes them. The
 * other kinds make of a matrix M.weight the tensors of compressed-tensors, as sd_quantise_rows computes them: M.weight
 * and M.weight_scale, or M.weight_packed, M.weight_scale and, for NVFP4, M.weight_global_scale.
 */
struct sd_quant {
	struct sd_worker worker; /* for sd_drive */
	struct sd_plan plan;     /* likewise */
	const struct sd_manifest *in;
	uint32_t *first; /* for each quantised record, its number in the output manifest; the scales' is one more */
	enum sd_quantiser kind;
	enum sd_dtype scale_dtype;
	const char *note; /* what is odd about what comes out, for people; lives as long as the plan. NULL: nothing */
	unsigned char *band, *codes, *scales; /* room for the largest */
};

/* SD_INPUT if a selected tensor is no such weight or has pending steps, or if none is selected. Call sd_quant_free in
 * any case. */
SD_MUST_CHECK enum sd_result sd_quant_plan(const struct sd_manifest *in, const struct sd_selection *choice,
					   enum sd_quantiser kind, enum sd_dtype scale_dtype, struct sd_quant *quant,
					   struct sd_error *err);
void sd_quant_free(struct sd_quant *quant);

#endif
