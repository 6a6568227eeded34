/* SPDX-License-Identifier: Apache-2.0 */
/* What rules do to values: casts, scales of weights (`fp8` and the like, `times`), constants. Steps live in the plan's
 * arena; errors name the tensors and the rule. */
#ifndef SD_RENAMING_ARITHMETIC_H
#define SD_RENAMING_ARITHMETIC_H

#include "renaming/planner.h"

/* The dtype that a rule makes of one. Only floating-point numbers are cast. */
uint8_t sd_arithmetic_dtype(const struct sd_planner *p, const struct sd_rule *rule, uint8_t dtype);

/* The elements of a tensor as the rule reads it: unpacked. Fails where it cannot be packed so. */
SD_MUST_CHECK enum sd_result sd_arithmetic_count(struct sd_planner *p, const struct sd_rule *rule,
						 const struct sd_planner_tensor *t, uint64_t *count);

/*
 * Adds to sizes what the shape of a scale tells beyond that of its weight. Where they do not fit and all is known
 * without the scale, it is sd_arithmetic_scaled that fails, with the shape that is due.
 */
SD_MUST_CHECK enum sd_result sd_arithmetic_bind(struct sd_planner *p, const struct sd_rule *rule,
						const struct sd_planner_tensor *t,
						const struct sd_planner_tensor *scale, axis_sizes sizes);

/* Fails: the scale is not of the shape that is due. */
enum sd_result sd_arithmetic_misfit(struct sd_planner *p, const struct sd_rule *rule, const struct sd_planner_tensor *t,
				    const struct sd_planner_tensor *scale, const char *due);

/* The piece of a weight with its scale: unpacked first, if it is packed, and of dtype in the end. */
SD_MUST_CHECK enum sd_result sd_arithmetic_scaled(struct sd_planner *p, const struct sd_rule *rule,
						  const struct sd_planner_tensor *t,
						  const struct sd_planner_tensor *scale, const axis_sizes sizes,
						  uint8_t dtype, struct sd_planner_piece *piece);

/* Makes every element of a piece of t the rule's constant; made is the tensor that it goes into. */
SD_MUST_CHECK enum sd_result sd_arithmetic_constant(struct sd_planner *p, const struct sd_rule *rule,
						    const struct sd_planner_tensor *t,
						    const struct sd_planner_tensor *made,
						    struct sd_planner_piece *piece);

#endif
