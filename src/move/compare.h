/* SPDX-License-Identifier: Apache-2.0 */
/* How the numbers of two runs of elements differ. */
#ifndef SD_MOVE_COMPARE_H
#define SD_MOVE_COMPARE_H

#include "move/numbers.h"

/* Which numbers are as good as the same, though their bits are not: by any of these. */
struct sd_tolerance {
	bool by_abs, by_rel, by_steps;
	double abs;     /* |b - a| is not more than this */
	double rel;     /* nor this times the larger one of |a| and |b| */
	uint64_t steps; /* sd_number_steps is not more; of two dtypes only with cast */
	bool cast;      /* of two dtypes that can be cast: compared in the narrower one */
	bool nan_equal; /* a NaN is the same as any other */
};

/* Two dtypes that are compared. */
struct sd_comparison {
	const struct sd_tolerance *tolerance;
	struct sd_number_table a, b;
	enum sd_dtype in; /* in which they are compared, for steps; SD_NO_DTYPE: as numbers only */
	bool exact;       /* one dtype and no tolerance: what is not the same byte by byte differs */
	bool avx2;        /* the machine has it; the results are the same */
};

/* What is known of numbers that were compared. Infinities and NaNs are in no sum. */
struct sd_difference {
	uint64_t numbers, differ;
	uint64_t first;        /* the first one that differs, where any does */
	double max;            /* the largest |b - a| of those that differ */
	uint64_t at;           /* the first one where it is that */
	double at_a, at_b;     /* and the numbers there */
	double dd, aa, bb, ab; /* sums of (b - a)^2, a^2, b^2, a * b */
	struct sd_difference_side {
		uint64_t nans, infinities;
		uint64_t first_nan; /* where there is one */
		bool zero;          /* all are 0, or -0 */
	} side[2];
};

/* Numbers of the two dtypes per element have to be as many. Whatever tolerance points to must stay. */
void sd_comparison_begin(struct sd_comparison *c, const struct sd_tolerance *tolerance, enum sd_dtype a,
			 enum sd_dtype b);

/* Of no numbers. */
void sd_difference_begin(struct sd_difference *d);

/*
 * Adds count numbers, which lie in both runs from number 0 on, and are those from place on of all. The same numbers
 * that are added in the same runs give the same bits on every machine.
 */
void sd_compare(const struct sd_comparison *c, const void *a, const void *b, uint64_t place, size_t count,
		struct sd_difference *d);

/* Adds what was found in the numbers that follow. */
void sd_difference_add(struct sd_difference *d, const struct sd_difference *next);

/* |b - a| / |a|, of all together as vectors; 0 where they are the same, infinite where a is 0. And the cosine of the
 * angle between both; NaN where one of them is 0. */
double sd_difference_rel(const struct sd_difference *d);
double sd_difference_cos(const struct sd_difference *d);

/* Writes the places of numbers that differ, at most room, to list; returns how many. */
size_t sd_compare_list(const struct sd_comparison *c, const void *a, const void *b, uint64_t place, size_t count,
		       uint64_t *list, size_t room);

#endif
