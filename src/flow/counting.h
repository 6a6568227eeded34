/* SPDX-License-Identifier: Apache-2.0 */
/* A sink that counts: statistics of each tensor whose data comes. What is counted never depends on threads, nor on how
 * the data comes. */
#ifndef SD_FLOW_COUNTING_H
#define SD_FLOW_COUNTING_H

#include "move/statistics.h"
#include "flow/sink.h"

/* A tensor. */
struct sd_counted {
	const char *name;
	const uint64_t *shape;
	uint32_t rank;
	uint8_t dtype;                /* of the numbers that were counted */
	uint8_t stored;               /* that of the source, for the caller to set; the same at first */
	bool floats;                  /* its numbers are floating-point numbers */
	bool whole;                   /* its parts are of whole rows: what is below is known */
	struct sd_statistics all;     /* elements are numbered in the order of the tensor */
	uint64_t rows, dead;          /* rows of its last dimension, and those of zeros only */
	uint64_t first_dead;          /* only where dead */
	uint64_t nexperts;            /* of a tensor that holds several: they lie along dimension 0; else 0 */
	struct sd_statistics *expert; /* elements are numbered as in all */
};

/* Shorter rows may be zeros by chance: they are not counted. */
#define SD_ROW_LEAST 16

struct sd_counting {
	struct sd_sink sink; /* first; checks is set: sums that come along are compared */
	/* In the order in which their data begins. */
	struct sd_counted *tensors;
	size_t ntensors;
	/* Set by the caller before begin: is told of each tensor that is counted, whole or a part more. May be NULL.
	 * What it fails with stops the pump. */
	enum sd_result (*told)(void *user, const struct sd_counted *tensor, struct sd_error *err);
	void *user;
	/* The same: gets all numbers of each tensor, those of C64 in pairs, from this element on. Runs come in the
	 * order of the data. May be NULL. */
	void (*values)(void *user, const struct sd_target *tensor, uint64_t first, const double *values, size_t count);
};

/* threads: at least 1. NULL when memory is out. Its manifest has nothing pending (sd_execution_plan's). sink.ops->close
 * frees it, and the tensors. */
struct sd_counting *sd_counting_new(unsigned threads);

/* Whether all of a tensor has come. */
bool sd_counted_is_complete(const struct sd_counted *t);

/* Whether a tensor of this name and rank holds several experts, one behind the other. */
bool sd_is_stack_of_experts(const struct sd_manifest *m, const struct sd_target *t);

#endif
