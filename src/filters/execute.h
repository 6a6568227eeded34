/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out pending steps: a pure plan, and the worker that does with a device what the plan says. */
#ifndef SD_FILTERS_EXECUTE_H
#define SD_FILTERS_EXECUTE_H

#include "model/selection.h"
#include "filters/tiling.h"
#include "flow/driver.h"

/* What is to be done with a record; for the worker alone. */
struct sd_execution_work {
	uint32_t out;           /* the first outgoing record */
	uint32_t at;            /* the record after which it can be made: itself, or the last one that its steps need */
	uint32_t waiting, next; /* the first record that is made after this one, and the next that waits with it */
	uint32_t uses, left;    /* how many steps need it */
	uint8_t state;          /* enum sd_state, of all that is made of it */
	bool passes;            /* besides being needed, it comes out as it is */
	bool ends;              /* the last one of those that fill the joint box */
	void *held;             /* its data, while steps need it or it waits; or else, where it waits in the spool: */
	uint64_t aside;
	float *derived; /* scales that its codes are multiplied with, if these are not as they came */
	/* From a box that several records fill to the tensor, dimension by dimension; NULL: it fills its own. */
	const struct sd_move *joint;
};

/* A part of the buffer, in bytes from its beginning. */
struct sd_span {
	uint64_t begin, end;
};

/* A unit that is being made, or something that passes behind one. */
struct sd_flight {
	uint64_t ticket;         /* of the device: the unit's, or that of the unit before */
	const char *name;        /* of the target */
	uint32_t record;         /* the incoming one */
	struct sd_parcel parcel; /* for the sink; empty: nothing yet */
	struct sd_span used[2];  /* what it takes of the buffer */
	bool file;               /* what passes is in a file, whose descriptor is the flight's own, */
	struct stat then;        /* and what that was */
	bool made;               /* it is a unit */
	bool ends;               /* the record needs nothing any more when this is done */
};

/* At most so many units at one time, whatever the device would like, and so many flights. */
#define SD_UNITS 16
#define SD_FLIGHTS 64

struct sd_execution {
	struct sd_worker worker; /* for sd_drive */
	struct sd_plan plan;     /* likewise */
	struct sd_device
		*device; /* set by the caller before the worker runs; stays the caller's, until sd_execution_free */
	/* The rest is its own. */
	const struct sd_manifest *in;
	uint64_t memory;
	uint64_t held, holding;            /* bytes of operands: the most at one time by the plan, and just now */
	bool waits;                        /* some records come before what their steps need */
	uint64_t waiting;                  /* bytes of these that are in memory just now */
	struct sd_execution_work *work;    /* for each record */
	uint32_t *targets_begin, *targets; /* for each record, its targets */
	uint64_t room;                     /* bytes that the largest unit takes */
	unsigned char *buffer;
	uint64_t size;                       /* bytes of it */
	struct sd_flight flight[SD_FLIGHTS]; /* the oldest is at oldest % SD_FLIGHTS */
	unsigned oldest, flights, units;     /* the oldest one is a unit */
	const struct sd_kernels *kernels;    /* for codes that are decoded here */
	unsigned char *joint;                /* where the joint box is that is being filled, or NULL */
	struct sd_span box;                  /* what it takes of the buffer */
	int spool;                           /* an unnamed file, or -1 */
	uint64_t spooled;
};

/*
 * Plans: targets with steps or in another order come out in records of their own, in the order of the tensor and with
 * nothing left to do; all others pass, and what nobody wants is dropped. Neighbours that fill one box together come out
 * as one record. A record whose steps need a later one waits for it, in memory or in a temporary file. At most memory
 * bytes are in use when it runs. in must outlive it. Needs no data and no device. SD_INPUT where steps cannot be
 * carried out or memory is too small for them; the line says what would mend it. sd_execution_free in any case.
 */
SD_MUST_CHECK enum sd_result sd_execution_plan(const struct sd_manifest *in, uint64_t memory,
					       struct sd_execution *execution, struct sd_error *err);

void sd_execution_free(struct sd_execution *execution);

/* The parts of it: how a record is cut, and the worker's functions. */
SD_MUST_CHECK enum sd_result sd_execution_cut(const struct sd_execution *c, uint32_t record, struct sd_tiling *tiling,
					      struct sd_error *err);
enum sd_result sd_execution_record(struct sd_worker *worker, uint32_t record, struct sd_source *source,
				   struct sd_sink *sink, struct sd_error *err);
enum sd_result sd_execution_pass(struct sd_worker *worker, uint32_t record, struct sd_parcel *parcel,
				 struct sd_sink *sink, struct sd_error *err);
enum sd_result sd_execution_settle(struct sd_worker *worker, struct sd_sink *sink, struct sd_error *err);

/*
 * The same manifest, in which dimensions a and b (negative ones count from the end) of all tensors are exchanged whose
 * name is chosen (choice {0}: all tensors); block scales (stream/scales.h) go by the name of their weight.
 * SD_USAGE where such a tensor has no such dimension or its elements cannot be moved, SD_INPUT where none matches.
 * Record numbers stay. *out borrows from in.
 */
SD_MUST_CHECK enum sd_result sd_swap_dims(const struct sd_manifest *in, int64_t a, int64_t b,
					  const struct sd_selection *choice, struct sd_manifest **out,
					  struct sd_error *err);

#endif
