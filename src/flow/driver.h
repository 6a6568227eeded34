/* SPDX-License-Identifier: Apache-2.0 */
/* The driver: it runs a source through a plan and a worker into a sink. */
#ifndef SD_FLOW_DRIVER_H
#define SD_FLOW_DRIVER_H

#include "flow/equal.h"
#include "flow/sink.h"
#include "flow/source.h"

/* What happens to the data of an input record: one of these, or the number of the output record that it becomes
 * unchanged. */
#define SD_DROP UINT32_MAX       /* nobody wants it */
#define SD_WORK (UINT32_MAX - 1) /* the worker takes it */

/* A plan: the output manifest, and for each input record what happens to its data. */
struct sd_plan {
	struct sd_manifest *manifest; /* borrows from the input manifest */
	uint32_t *becomes;            /* malloc'd */
	struct sd_equal *equal;       /* pairs of records that must be equal, or the driver fails; malloc'd */
	size_t nequal;
};

void sd_plan_free(struct sd_plan *plan);

/*
 * Completes a plan that only chooses targets. plan->manifest has its head and its targets, whose record numbers are
 * those of in, and no records. Adds the records that a target or a step needs, in the order of in, and renumbers.
 */
SD_MUST_CHECK enum sd_result sd_plan_records(struct sd_plan *plan, const struct sd_manifest *in, struct sd_error *err);

/* What the sink gets next of a record: data, or its checksum, or both. */
struct sd_parcel {
	uint32_t record;         /* of the outgoing manifest */
	struct sd_extent extent; /* may be empty */
	bool awaits;             /* this is the first parcel, and the last one will have the checksum */
	bool summed;             /* this is the last parcel, and sum is the checksum */
	uint64_t sum;
};

/* Gives a parcel to the sink: calls its await_sum, data and sum. */
SD_MUST_CHECK enum sd_result sd_parcel_give(struct sd_parcel *parcel, struct sd_sink *sink, struct sd_error *err);

/* The data step of a filter that changes bytes. */
struct sd_worker {
	/* Reads all data of the record from the source. Gives the sink what is ready, in the order of the output
	 * manifest. */
	enum sd_result (*record)(struct sd_worker *worker, uint32_t record, struct sd_source *source,
				 struct sd_sink *sink, struct sd_error *err);
	/* Takes a parcel that passes unchanged, and gives it to the sink after all that the worker has begun before.
	 * The extent belongs to the source: the worker copies what it does not give at once. May be NULL if record
	 * gives everything at once. */
	enum sd_result (*pass)(struct sd_worker *worker, uint32_t record, struct sd_parcel *parcel,
			       struct sd_sink *sink, struct sd_error *err);
	/* Finishes what the worker has begun and gives it to the sink; called once, before the sink's end. May be
	 * NULL. */
	enum sd_result (*settle)(struct sd_worker *worker, struct sd_sink *sink, struct sd_error *err);
	/* A worker that fails sets this to the key of the record at fault; NULL: the record that it was called for. */
	const char *blamed;
};

/*
 * Calls the sink's begin, then handles each record in order, then calls the source's finish and the sink's end. On
 * failure it has called the sink's abort with err. worker may be NULL if no record is SD_WORK. If the source has
 * checksums, so has the sink: data that passes keeps its checksum, and data for the worker is compared with it.
 */
SD_MUST_CHECK enum sd_result sd_drive(struct sd_source *source, const struct sd_plan *plan, struct sd_worker *worker,
				      struct sd_sink *sink, struct sd_error *err);

/* Copies source to sink unchanged. */
SD_MUST_CHECK enum sd_result sd_drive_all(struct sd_source *source, struct sd_sink *sink, struct sd_error *err);

#endif
