/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of elements: how many, their mean, deviation, extremes, and what is no number. They are made of runs of a
 * fixed length, and runs are joined in their order: so neither threads nor the way in which data comes change a bit.
 */
#ifndef SD_MOVE_STATISTICS_H
#define SD_MOVE_STATISTICS_H

#include "base/dtype.h"

/* Elements that are counted together, at most. A multiple of SD_CONVERT_RUN. */
#define SD_STATISTICS_RUN 4096

#define SD_NO_ELEMENT UINT64_MAX

/*
 * {0} is of no elements. Moments and extremes are of those that are finite; rounding aside (of F64, as in all sums of
 * F64), they are exact. Zeros are counted without their sign, and min and max have no -0.
 */
struct sd_statistics {
	uint64_t finite, zeros, nan, inf;
	uint64_t first_nan, first_inf; /* their numbers; only where there are some */
	double sum, rest;              /* their sum is the sum of all */
	double mean;                   /* m2: the sum of (element - mean)^2 */
	double m2;
	double min, max; /* only where some are finite */
};

/* The numbers that one element makes: 2 of C64, 1 of others. */
unsigned sd_statistics_parts(enum sd_dtype dtype);

/* How elements of a dtype are read. */
struct sd_statistics_kind {
	enum sd_dtype dtype;
	float table[256];   /* the numbers of codes of up to 8 bits */
	uint8_t order[256]; /* these codes, in the order of their numbers; what is not finite comes last */
	unsigned nfinite;
	double number[256];            /* those that are finite, in this order */
	unsigned zero_begin, zero_end; /* which of them are zeros */
	/* The inner loop that this machine is best at, or the one that SD_KERNELS names; see statistics_simd.h. */
	void (*count)(enum sd_dtype dtype, const float *table, const uint8_t *source, size_t count,
		      struct sd_statistics *s);
};
void sd_statistics_kind_of(enum sd_dtype dtype, struct sd_statistics_kind *kind);

/* Counts elements that make 0 to SD_STATISTICS_RUN numbers. Parts of C64 are counted singly. Elements of 4 or 6 bits
 * lie one behind the other, the low bits first. */
void sd_statistics_count(const struct sd_statistics_kind *kind, const void *source, size_t count,
			 double scratch[SD_STATISTICS_RUN], struct sd_statistics *s);

/* Adds those of elements that come after them, whose numbers begin with first. */
void sd_statistics_join(struct sd_statistics *s, const struct sd_statistics *after, uint64_t first);

/* Of those that are finite; NaN where there are none. std: of the whole population, as numpy has it. */
double sd_statistics_mean(const struct sd_statistics *s);
double sd_statistics_std(const struct sd_statistics *s);
double sd_statistics_rms(const struct sd_statistics *s);

/* Turns elements into numbers, count of them (of C64: of its parts), as sd_statistics_count reads them. */
void sd_statistics_values(const struct sd_statistics_kind *kind, const void *source, size_t count, double *values);

#endif
