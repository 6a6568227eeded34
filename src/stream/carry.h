/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out pending steps: a pure plan, and the worker that does with a device what the plan says. */
#ifndef SD_STREAM_CARRY_H
#define SD_STREAM_CARRY_H

#include "base/regex.h"
#include "move/device.h"
#include "stream/pump.h"

struct sd_carry {
	struct sd_worker worker;  /* for sd_pump */
	struct sd_plan plan;      /* likewise */
	struct sd_device *device; /* set by the caller before the worker runs; stays the caller's */
	/* The rest is its own. */
	const struct sd_manifest *in;
	uint64_t memory;
	struct sd_carry_work *work;            /* for each record */
	uint32_t *targets_begin, *targets;     /* for each record, its targets */
	unsigned char *buffer;
	uint64_t room; /* bytes of it */
};

/*
 * Plans: targets with steps or in another order come out in records of their own, in the order of the tensor and with nothing
 * left to do; all others pass, and what nobody wants is dropped. Neighbours that fill one box together come out as one record. At
 * most memory bytes are in use when it runs. in must outlive it. Needs no data and no device. SD_INPUT where steps cannot be
 * carried out or memory is too small for them; the line says what would mend it. sd_carry_free in any case.
 */
SD_UNUSED_RESULT enum sd_result sd_carry_plan(const struct sd_manifest *in, uint64_t memory, struct sd_carry *carry,
					      struct sd_error *err);

void sd_carry_free(struct sd_carry *carry);

/*
 * The same manifest, in which dimensions a and b (negative ones count from the end) of all tensors are exchanged whose name
 * matches one of include (none: all tensors). SD_USAGE where such a tensor has no such dimension or its elements cannot be moved.
 * Record numbers stay. *out borrows from in.
 */
SD_UNUSED_RESULT enum sd_result sd_carry_exchange(const struct sd_manifest *in, int64_t a, int64_t b,
						  const struct sd_regex_list *include, struct sd_manifest **out,
						  struct sd_error *err);

#endif
