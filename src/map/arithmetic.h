/* SPDX-License-Identifier: Apache-2.0 */
/* What rules do to values: casts, scales of weights (`fp8` and the like, `times`), constants. Steps live in the plan's
 * arena; errors name the tensors and the rule. */
#ifndef SD_MAP_ARITHMETIC_H
#define SD_MAP_ARITHMETIC_H

#include "map/planner.h"

/* The dtype that a rule makes of one. Only floating-point numbers are cast. */
uint8_t sd_arithmetic_dtype(const struct planner *p, const struct rule *rule, uint8_t dtype);

/* The elements of a tensor as the rule reads it: unpacked. Fails where it cannot be packed so. */
SD_UNUSED_RESULT enum sd_result sd_arithmetic_count(struct planner *p, const struct rule *rule, const struct tensor *t,
						    uint64_t *count);

/*
 * Adds to sizes what the shape of a scale tells beyond that of its weight. Where they do not fit and all is known
 * without the scale, it is sd_arithmetic_scaled that fails, with the shape that is due.
 */
SD_UNUSED_RESULT enum sd_result sd_arithmetic_bind(struct planner *p, const struct rule *rule, const struct tensor *t,
						   const struct tensor *scale, axis_sizes sizes);

/* Fails: the scale is not of the shape that is due. */
enum sd_result sd_arithmetic_misfit(struct planner *p, const struct rule *rule, const struct tensor *t,
				    const struct tensor *scale, const char *due);

/* The piece of a weight with its scale: unpacked first, if it is packed, and of dtype in the end. */
SD_UNUSED_RESULT enum sd_result sd_arithmetic_scaled(struct planner *p, const struct rule *rule, const struct tensor *t,
						     const struct tensor *scale, const axis_sizes sizes, uint8_t dtype,
						     struct piece *piece);

/* Makes every element of a piece of t the rule's constant; made is the tensor that it goes into. */
SD_UNUSED_RESULT enum sd_result sd_arithmetic_constant(struct planner *p, const struct rule *rule,
						       const struct tensor *t, const struct tensor *made,
						       struct piece *piece);

#endif
