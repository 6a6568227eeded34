/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers that tensors stand for: quantised weights as the libraries that store them compute with them. For those
 * who look at numbers, and write none. */
#ifndef SD_FILTERS_VALUES_H
#define SD_FILTERS_VALUES_H

#include "model/selection.h"

struct sd_values {
	struct sd_manifest *manifest; /* record numbers stay; borrows from the incoming one */
	size_t codes;                 /* weights of which no numbers can be made here: they stay codes */
	char why[2048];               /* of the first of them; names it */
	const char *first_elsewhere;  /* a tensor whose data does not come along, which is left out; or NULL */
};

/*
 * The tensors of a manifest that are chosen (sd_selection_settle was called), with what makes numbers of them as
 * pending steps, to F32. Scales stay tensors of their own, too. SD_INPUT where nothing that is chosen has data here.
 * sd_values_free in any case.
 */
SD_MUST_CHECK enum sd_result sd_values_plan(const struct sd_manifest *in, const struct sd_selection *choice,
					    struct sd_values *values, struct sd_error *err);
void sd_values_free(struct sd_values *values);

#endif
