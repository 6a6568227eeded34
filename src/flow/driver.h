/* SPDX-License-Identifier: Apache-2.0 */
/* The one driver: source, plan, data step, sink. */
#ifndef SD_FLOW_DRIVER_H
#define SD_FLOW_DRIVER_H

#include "flow/equal.h"
#include "flow/sink.h"
#include "flow/source.h"

/* What becomes of a record's data. Any other value is the number it has in the outgoing manifest: it passes untouched.
 */
#define SD_DROP UINT32_MAX       /* nobody wants it */
#define SD_WORK (UINT32_MAX - 1) /* the worker takes it */

/* A plan: the outgoing manifest, and for each incoming record what becomes of its data. */
struct sd_plan {
	struct sd_manifest *manifest; /* borrows from the incoming one */
	uint32_t *becomes;            /* malloc'd */
	struct sd_equal *equal;       /* records that have to be equal, or the data step fails; malloc'd */
	size_t nequal;
};

void sd_plan_free(struct sd_plan *plan);

/*
 * The plan that keeps the given targets of an incoming manifest (an array of the outgoing manifest's targets is in
 * place, with incoming record numbers): keeps the records that some target or step needs, in their order, and
 * renumbers. For every filter that decides by names alone. plan->manifest has its head and its targets; records must be
 * empty.
 */
SD_MUST_CHECK enum sd_result sd_plan_records(struct sd_plan *plan, const struct sd_manifest *in, struct sd_error *err);

/* What the sink is to get next of a record: some of its data, or its sum, or both. */
struct sd_parcel {
	uint32_t record;         /* of the outgoing manifest */
	struct sd_extent extent; /* may be empty */
	bool awaits;             /* the first one, and the sum will be told */
	bool summed;             /* the last one, and this is the sum */
	uint64_t sum;
};

/* Gives it to the sink, by await_sum, data and sum. */
SD_MUST_CHECK enum sd_result sd_parcel_give(struct sd_parcel *parcel, struct sd_sink *sink, struct sd_error *err);

/* The data step of a filter that changes bytes. */
struct sd_worker {
	/* Takes the whole data of the record from the source, and gives the sink what is ready, in the order of the
	 * outgoing manifest. */
	enum sd_result (*record)(struct sd_worker *worker, uint32_t record, struct sd_source *source,
				 struct sd_sink *sink, struct sd_error *err);
	/* Takes what passes of an incoming record, for the sink, which gets it behind all that is still being made. The
	 * extent is the source's: what is not given at once has to be kept. May be NULL: nothing ever is being made. */
	enum sd_result (*pass)(struct sd_worker *worker, uint32_t record, struct sd_parcel *parcel,
			       struct sd_sink *sink, struct sd_error *err);
	/* Gives the sink all that is still to come before its end. May be NULL: nothing ever is. */
	enum sd_result (*settle)(struct sd_worker *worker, struct sd_sink *sink, struct sd_error *err);
	/* Set by one that fails: the key of the record that it is about, or NULL: the one that it was given. */
	const char *blamed;
};

/*
 * Runs it all: begin, each record in order, the source's finish, the sink's end. On any failure the sink's abort has
 * been called with err. worker may be NULL where no record is SD_WORK. Where the source has sums, the sink has them
 * too: what passes keeps its own, and the worker's data is checked against them as it is taken.
 */
SD_MUST_CHECK enum sd_result sd_drive(struct sd_source *source, const struct sd_plan *plan, struct sd_worker *worker,
				      struct sd_sink *sink, struct sd_error *err);

/* Source to sink, untouched. */
SD_MUST_CHECK enum sd_result sd_drive_all(struct sd_source *source, struct sd_sink *sink, struct sd_error *err);

#endif
