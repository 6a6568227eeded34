/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How busy the engine keeps the bus: on a GPU that does nothing but reckon. It has a clock for the host and one for
 * each stream, so its times are the same on any machine; what a copy and a launch take is a model (see struct model).
 */
#include "../../cuda/engine.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)
#define MATRIX (4 * MIB)

/* In seconds, and bytes each second. */
struct model {
	double bus;    /* in one direction, whether the other one is busy or not */
	double device; /* the kernel: bytes read and written */
	double copy;   /* from one copy of a stream to the next */
	double launch; /* likewise */
	double call;   /* what queueing takes of the host's time */
	double wake;   /* from an event to the host's knowing it */
};

/* 16 lanes of PCIe 4 and 5; the rest is what launches and copies have been seen to take on such machines. */
static const struct model models[] = {
	{25e9, 1.0e12, 2e-6, 4e-6, 3e-6, 10e-6},
	{52e9, 2.5e12, 2e-6, 4e-6, 3e-6, 10e-6},
};

struct reckoned {
	struct sd_gpu gpu; /* first */
	const struct model *model;
	double host, stream[SD_GPU_STREAMS]; /* when each has done what it was told so far */
	double come[SD_GPU_EVENTS];
	double copying[SD_GPU_STREAMS]; /* how long it has copied */
};

static struct reckoned *of(struct sd_gpu *gpu)
{
	return (struct reckoned *)gpu;
}

static double later(double a, double b)
{
	return a > b ? a : b;
}

static void *allocate(struct sd_gpu *gpu, size_t bytes)
{
	(void)gpu;
	return aligned_alloc(SD_GRID_ALIGN, bytes);
}

static void release(struct sd_gpu *gpu, void *memory)
{
	(void)gpu;
	free(memory);
}

static bool pin(struct sd_gpu *gpu, void *memory, size_t bytes)
{
	(void)gpu;
	(void)memory;
	(void)bytes;
	return true;
}

static void unpin(struct sd_gpu *gpu, void *memory)
{
	(void)gpu;
	(void)memory;
}

static bool enter(struct sd_gpu *gpu)
{
	(void)gpu;
	return true;
}

/* Queues what takes some time. */
static void queue(struct reckoned *r, enum sd_gpu_stream stream, double seconds)
{
	r->host += r->model->call;
	r->stream[stream] = later(r->stream[stream], r->host) + seconds;
}

static bool copy(struct sd_gpu *gpu, enum sd_gpu_stream stream, const struct sd_gpu_copy *c)
{
	struct reckoned *r = of(gpu);
	double seconds = (double)(c->width * c->rows) / r->model->bus;

	queue(r, stream, r->model->copy + seconds);
	r->copying[stream] += seconds;
	return true;
}

static bool launch(struct sd_gpu *gpu, const struct sd_batch *batch)
{
	struct reckoned *r = of(gpu);
	double bytes = (double)batch->tiles * SD_GRID_VECTORS * SD_GRID_VECTOR * 2;

	queue(r, SD_GPU_COMPUTE, r->model->launch + bytes / r->model->device);
	return true;
}

static bool record(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event)
{
	struct reckoned *r = of(gpu);

	r->host += r->model->call;
	r->come[event] = later(r->stream[stream], r->host);
	return true;
}

static bool wait(struct sd_gpu *gpu, enum sd_gpu_stream stream, unsigned event)
{
	struct reckoned *r = of(gpu);

	r->host += r->model->call;
	r->stream[stream] = later(r->stream[stream], r->come[event]);
	return true;
}

static bool await(struct sd_gpu *gpu, unsigned event)
{
	struct reckoned *r = of(gpu);

	if (r->come[event] > r->host)
		r->host = r->come[event] + r->model->wake;
	return true;
}

static bool drain(struct sd_gpu *gpu)
{
	struct reckoned *r = of(gpu);

	for (unsigned i = 0; i < SD_GPU_STREAMS; i++)
		r->host = later(r->host, r->stream[i]);
	return true;
}

static void close_gpu(struct sd_gpu *gpu)
{
	free(gpu);
}

static const struct sd_gpu_ops ops = {allocate, release, allocate, release, pin,   unpin, enter,
				      copy,     launch,  record,   wait,    await, drain, close_gpu};

/* Matrices of BF16 next to each other, as stacked experts have them. */
static struct sd_job job_of(uint64_t matrices)
{
	struct sd_job job = {.source_dtype = SD_BF16, .target_dtype = SD_BF16};
	uint64_t elements = MATRIX / 2;

	job.source_count = job.target_count = matrices * elements;
	job.move.rank = 3;
	job.move.dim[0] = (struct sd_dim){matrices, elements, elements};
	job.move.dim[1] = (struct sd_dim){2048, 1, 1024};
	job.move.dim[2] = (struct sd_dim){1024, 2048, 1};
	return job;
}

/* The fraction of the bus's speed, in both directions at one time, that size bytes in such jobs go through with; ahead:
 * so many at most are on their way at one time, if not 0, else as many as with sd-transpose. */
static double fraction(const struct model *model, uint64_t matrices, size_t size, unsigned ahead)
{
	struct reckoned *r = calloc(1, sizeof(*r));
	struct sd_job job = job_of(matrices);
	struct sd_device *device;
	uint8_t *source, *target;
	uint64_t ticket = 0;
	double time;

	cr_assert_not_null(r);
	r->gpu.ops = &ops;
	r->model = model;
	cr_assert_eq(sd_engine_open(&r->gpu, &sd_engine_sizes, &device), SD_DEVICE_OK);
	ahead = ahead > 0 ? ahead : device->ahead;
	source = sd_device_allocate(device, matrices * MATRIX);
	target = sd_device_allocate(device, matrices * MATRIX);
	job.source = source;
	job.target = target;
	for (size_t at = 0; at < size; at += matrices * MATRIX) {
		cr_assert_eq(device->ops->begin(device, &job, &ticket), SD_DEVICE_OK);
		if (ticket + 1 >= ahead)
			cr_assert_eq(device->ops->wait(device, ticket + 1 - ahead), SD_DEVICE_OK);
	}
	cr_assert_eq(device->ops->wait(device, ticket), SD_DEVICE_OK);
	cr_assert_float_eq(r->copying[SD_GPU_OUT], (double)size / model->bus, 1e-9);
	time = r->host;
	sd_device_release(device, source);
	sd_device_release(device, target);
	device->ops->close(device);
	return (double)size / model->bus / time;
}

Test(engine_bus, is_busy_both_ways)
{
	for (size_t m = 0; m < sizeof(models) / sizeof(*models); m++)
		for (uint64_t matrices = 1; matrices <= 64; matrices *= 4) {
			double of_bus = fraction(&models[m], matrices, 1024 * MIB, 0);

			cr_expect_geq(of_bus, 0.85, "bus %zu, %d matrices in a job: %.3f", m, (int)matrices, of_bus);
			cr_expect_leq(of_bus, 1.0);
		}
}

/* A single matrix is cut, so that its way there, its being turned and its way back overlap. */
Test(engine_bus, single_matrices_overlap)
{
	for (size_t m = 0; m < sizeof(models) / sizeof(*models); m++) {
		const struct model *model = &models[m];
		double way = (double)MATRIX / model->bus;
		double apart = 2 * way + 2 * (double)MATRIX / model->device + 3 * model->copy + model->launch +
			       10 * model->call + model->wake;
		double of_bus = fraction(model, 1, MATRIX, 0);

		cr_expect_geq(of_bus, 1.15 * way / apart, "bus %zu: %.3f, apart %.3f", m, of_bus, way / apart);
	}
}

/* The test of the test: jobs that are awaited one by one leave the bus idle. */
Test(engine_bus, waiting_is_seen)
{
	cr_assert_leq(fraction(&models[0], 1, 256 * MIB, 1), 0.75);
	cr_assert_leq(fraction(&models[1], 1, 256 * MIB, 1), 0.55);
}
