/* SPDX-License-Identifier: Apache-2.0 */
/* dtypes by hand: casts and dequantisation as pending steps, and quantisation as a plan and a worker of its own. */
#ifndef SD_FILTERS_CAST_H
#define SD_FILTERS_CAST_H

#include "move/quantise.h"
#include "model/selection.h"
#include "flow/driver.h"

/*
 * Both: the same manifest with more steps, for the tensors that are chosen (choice {0}: all that can be).
 * Record numbers stay. *out borrows from in.
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

/*
 * Quantisation of tensors whose name matches. With SD_QUANTISE_BLOCKS: X [..., o, i] of BF16, F16 or F32 becomes X in
 * F8_E4M3 and X_scale_inv
 * [..., ceil(o/128), ceil(i/128)] in scale_dtype (F32 or BF16), which follows it in the stream. What the numbers are,
 * see sd_quantise_band. With all others: a matrix M.weight becomes M.weight and M.weight_scale, or M.weight_packed,
 * M.weight_scale and, of NVFP4, M.weight_global_scale, as compressed-tensors has them: sd_quantise_rows.
 */
struct sd_quant {
	struct sd_worker worker; /* for sd_drive */
	struct sd_plan plan;     /* likewise */
	const struct sd_manifest *in;
	uint32_t *first; /* for each quantised record, its number in the outgoing manifest; the scales' is one more */
	enum sd_quantiser kind;
	enum sd_dtype scale_dtype;
	const char *note; /* what is odd about what comes out, for people; lives as long as the plan. NULL: nothing */
	unsigned char *band, *codes, *scales; /* room for the largest */
};

/* SD_INPUT where a tensor is no such weight or has pending steps; where none matches, too. sd_quant_free in any
 * case. */
SD_MUST_CHECK enum sd_result sd_quant_plan(const struct sd_manifest *in, const struct sd_selection *choice,
					   enum sd_quantiser kind, enum sd_dtype scale_dtype, struct sd_quant *quant,
					   struct sd_error *err);
void sd_quant_free(struct sd_quant *quant);

#endif
