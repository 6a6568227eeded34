/* SPDX-License-Identifier: Apache-2.0 */
/* Executes pending steps: a pure plan, and a worker that executes it on a device. */
#ifndef SD_FILTERS_EXECUTE_H
#define SD_FILTERS_EXECUTE_H

#include "filters/tiling.h"
#include "flow/driver.h"

/* What the worker has to do with a record. */
struct sd_execution_work {
	uint32_t out; /* the first output record */
	uint32_t at;  /* the record after which it can be executed: itself, or the last operand of its steps */
	uint32_t waiting, next; /* the first record that waits for this one, and the next that waits with it */
	uint32_t uses, left;    /* how many steps have it as an operand: all, and those still to come */
	uint8_t state;          /* enum sd_state, of all that is made of it */
	bool passes;            /* it is an operand, and is output unchanged as well */
	bool ends;              /* it is the last of the records that fill the joint box */
	void *held;             /* its data, while steps need it or it waits; or else, where it waits in the spool: */
	uint64_t aside;
	uint32_t readers; /* steps on their way that read it, where operands are in the spool */
	float *derived;   /* scales that its codes are multiplied with, if these are not as they came */
	/* From a box that several records fill to the tensor, dimension by dimension; NULL: it fills its own. */
	const struct sd_move *joint;
};

/* A part of the buffer, in bytes from its beginning. */
struct sd_span {
	uint64_t begin, end;
};

/* A unit that a device works on, or data that passes and has to wait for the units before it. */
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

/* At most this many units, and this many flights, at one time. */
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
	bool spills;                       /* operands are in the spool until a record needs them */
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
 * Plans the execution of all pending steps of in, which must outlive the plan. Needs no data and no device.
 *
 * A target with steps, or whose elements lie in another order, gets output records of its own, in the order of the
 * tensor and without steps. Other targets pass; records without a target are dropped. Neighbouring records that fill
 * one box become one record. A record whose operands come later waits for them, in memory or in a temporary file.
 * Operands wait in a temporary file if half of memory does not hold all that wait at one time. The worker uses at most
 * memory bytes.
 *
 * SD_INPUT if a step cannot be executed or memory is too small; the error says what would help. Call sd_execution_free
 * in any case.
 */
SD_MUST_CHECK enum sd_result sd_execution_plan(const struct sd_manifest *in, uint64_t memory,
					       struct sd_execution *execution, struct sd_error *err);

void sd_execution_free(struct sd_execution *execution);

/* For execute_plan.c and execute_run.c: the tiling of a record, and the functions of the worker. */
SD_MUST_CHECK enum sd_result sd_execution_cut(const struct sd_execution *c, uint32_t record, struct sd_tiling *tiling,
					      struct sd_error *err);
enum sd_result sd_execution_record(struct sd_worker *worker, uint32_t record, struct sd_source *source,
				   struct sd_sink *sink, struct sd_error *err);
enum sd_result sd_execution_pass(struct sd_worker *worker, uint32_t record, struct sd_parcel *parcel,
				 struct sd_sink *sink, struct sd_error *err);
enum sd_result sd_execution_settle(struct sd_worker *worker, struct sd_sink *sink, struct sd_error *err);

#endif
