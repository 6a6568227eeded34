/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device carries out moves with casts and block scales fused into the same pass: the CPU always, a GPU where there is
 * one. The interface has no type of any vendor in it.
 */
#ifndef SD_MOVE_DEVICE_H
#define SD_MOVE_DEVICE_H

#include "base/dtype.h"
#include "move/move.h"

#include <stdlib.h>

enum sd_device_result {
	SD_DEVICE_OK = 0,
	SD_DEVICE_ABSENT, /* no such device on this machine, or this program was built without it */
	SD_DEVICE_NOMEM,  /* there is not the memory, or there are not the threads, to work with */
	SD_DEVICE_FAILED, /* it began and broke */
};

/*
 * Block scales: element (i0, i1, ...) of the move (in the move's dimensions) is multiplied by the operand's element
 *     from + sum over k of (begin[k] + ik) / block[k] * stride[k]
 * as float32(element) * float32(scale), one rounding, before the cast to the target's dtype.
 */
struct sd_scale {
	const void *data; /* NULL: no scale */
	uint8_t dtype;    /* F32, BF16, F16, or SD_E8M0 with flags: see sd_convert_scales */
	uint64_t from;
	struct {
		uint64_t begin, block, stride; /* block >= 1; stride 0: this dimension does not matter */
	} dim[SD_MOVE_RANK];
};

/* One piece of work in memory. Buffers need only the alignment of a byte, and may not overlap. */
struct sd_job {
	const void *source; /* element 0 of the move's source side */
	void *target;
	uint64_t source_count, target_count; /* elements of the two buffers: the move stays within */
	struct sd_move move;                 /* in normal form, unless a scale needs its dimensions apart; a source's
						stride of 0 gives the same element again */
	uint8_t source_dtype, target_dtype; /* equal: bytes are moved. Else a cast: see sd_cast_exists. The source's may
					       be codes (move/convert.h), whose number 0 is the first half of its first
					       byte */
	struct sd_scale scale;
};

struct sd_device;

struct sd_device_ops {
	/*
	 * Takes a copy of the job, which is carried out from now on, beside those that were begun before it; its
	 * buffers are the device's until it is awaited. *ticket counts from 0. Waits only where the device has too many
	 * jobs already. Where it fails, this job is none: nothing of it is read or written any more. One caller at a
	 * time.
	 */
	enum sd_device_result (*begin)(struct sd_device *device, const struct sd_job *job, uint64_t *ticket);
	/*
	 * Waits until a job that was begun, and all before it, are done: sources may be overwritten, targets read.
	 * Where it fails, nothing is read or written any more either, for these jobs.
	 */
	enum sd_device_result (*wait)(struct sd_device *device, uint64_t ticket);
	/* Jobs that nobody has awaited are left half-done; nothing is read or written any more. */
	void (*close)(struct sd_device *device);
	/* Memory in which the device likes to find sources and targets, NULL where there is none; to be released before
	 * the device is closed. May be NULL themselves: any memory is as good. */
	void *(*allocate)(struct sd_device *device, size_t bytes);
	void (*release)(struct sd_device *device, void *memory);
	/* Memory that is there, and in which jobs will lie again and again until the device is closed. May be told as
	 * often as one likes. May be NULL itself. */
	void (*adopt)(struct sd_device *device, void *memory, size_t bytes);
	/*
	 * Calls back for each part from 0 on, from several threads at a time, and returns when all are done. May be
	 * NULL itself: the device has no threads to lend.
	 */
	enum sd_device_result (*share)(struct sd_device *device, void (*call)(void *context, uint64_t part),
				       void *context, uint64_t parts);
};

/* The first member of every device. */
struct sd_device {
	const struct sd_device_ops *ops;
	const char *name;  /* for people: "cpu, 2 threads, avx2", "cuda:0 NVIDIA H100" */
	unsigned ahead;    /* jobs that are best begun before the first is awaited: 1 or more */
	char failure[256]; /* after SD_DEVICE_FAILED: why */
};

/* Carries out all jobs, and waits for them, also where it fails. */
static inline enum sd_device_result sd_device_run(struct sd_device *device, const struct sd_job *jobs, size_t count)
{
	enum sd_device_result result = SD_DEVICE_OK, waited = SD_DEVICE_OK;
	uint64_t ticket = 0;
	size_t begun = 0;

	while (begun < count && result == SD_DEVICE_OK) {
		result = device->ops->begin(device, &jobs[begun], &ticket);
		begun += result == SD_DEVICE_OK;
	}
	if (begun > 0)
		waited = device->ops->wait(device, ticket);
	return result == SD_DEVICE_OK ? waited : result;
}

/* Calls back for each part, beside each other where the device has threads. */
static inline enum sd_device_result
sd_device_share(struct sd_device *device, void (*call)(void *context, uint64_t part), void *context, uint64_t parts)
{
	if (device->ops->share && parts > 1)
		return device->ops->share(device, call, context, parts);
	for (uint64_t part = 0; part < parts; part++)
		call(context, part);
	return SD_DEVICE_OK;
}

/* What buffers of the caller's own are best made of: bytes, a multiple of 64, at a multiple of 64. NULL: no memory. */
static inline void *sd_device_allocate(struct sd_device *device, size_t bytes)
{
	return device->ops->allocate ? device->ops->allocate(device, bytes) : aligned_alloc(64, bytes);
}

/* Does nothing for NULL. */
static inline void sd_device_release(struct sd_device *device, void *memory)
{
	if (device && device->ops->release)
		device->ops->release(device, memory);
	else
		free(memory);
}

static inline void sd_device_adopt(struct sd_device *device, void *memory, size_t bytes)
{
	if (device->ops->adopt)
		device->ops->adopt(device, memory, bytes);
}

/* How many threads the process may run on at one time. */
unsigned sd_device_threads(void);

/*
 * threads 0: sd_device_threads. NOMEM when threads or memory cannot be had. SD_KERNELS in the
 * environment (plain, v128, avx2, avx512) picks the instruction set, for tests. Results are the same with any of them.
 */
enum sd_device_result sd_device_open_cpu(unsigned threads, struct sd_device **device);

/* number: which GPU. ABSENT where the program was built without CUDA, and where there is no driver or no such GPU;
 * NOMEM where the GPU has no memory to spare. */
enum sd_device_result sd_device_open_cuda(unsigned number, struct sd_device **device);

/*
 * Whether a device can turn elements of one dtype into the other: equal ones of 1, 2, 4 or 8 bytes; BF16, F16, F32 and
 * F64 among each other, and F8_E4M3, F8_E5M2 and codes into these. What is cast or scaled goes through float32:
 * move/convert.h.
 */
bool sd_cast_exists(enum sd_dtype from, enum sd_dtype to);

#endif
