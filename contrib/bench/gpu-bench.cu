/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast a GPU is: its kernels, as fractions of a copy on the GPU; the engine, as a fraction of what the bus carries
 * in both directions at one time; and from what size on it is worth its start. Built and run by contrib/gpu-check.
 *     gpu-bench [kernels]    the kernels alone
 */
#include "../../cuda/device_cuda.cu"

extern "C" {
#include "job_slice.h"
}

#include <time.h>

#define REPEATS 21
/* Launches, or copies, between two marks: the first waits for the host, the others do not. */
#define TOGETHER 10
#define MATRICES 64
#define MIB ((size_t)1 << 20)

struct kind {
	const char *name;
	uint8_t from, to;
	bool scaled;
};

static const struct kind kinds[] = {
	{"1 byte", SD_U8, SD_U8, false},
	{"2 bytes", SD_BF16, SD_BF16, false},
	{"4 bytes", SD_F32, SD_F32, false},
	{"8 bytes", SD_F64, SD_F64, false},
	{"F32 to BF16", SD_F32, SD_BF16, false},
	{"BF16 to F32", SD_BF16, SD_F32, false},
	{"F8_E4M3 * F32 to BF16", SD_F8_E4M3, SD_BF16, true},
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double times[REPEATS])
{
	qsort(times, REPEATS, sizeof(*times), by_value);
	return times[REPEATS / 2];
}

static void must(bool ok, const char *what, const char *why)
{
	if (ok)
		return;
	fprintf(stderr, "gpu-bench: %s: %s\n", what, why);
	exit(1);
}

static void must_cuda(cudaError_t error, const char *what)
{
	must(error == cudaSuccess, what, cudaGetErrorString(error));
}

/* Matrices next to each other, each to be turned, in blocks of 128 by 128 with a scale. */
static struct sd_job make_job(uint64_t matrices, uint64_t rows, uint64_t columns, const struct kind *kind)
{
	struct sd_job job;

	memset(&job, 0, sizeof(job));
	job.source_count = job.target_count = matrices * rows * columns;
	job.move.rank = 3;
	job.move.dim[0] = (struct sd_dim){matrices, rows * columns, rows * columns};
	job.move.dim[1] = (struct sd_dim){columns, 1, rows};
	job.move.dim[2] = (struct sd_dim){rows, columns, 1};
	job.source_dtype = kind->from;
	job.target_dtype = kind->to;
	if (!kind->scaled)
		return job;
	job.scale.dtype = SD_F32;
	job.scale.dim[0].block = 1;
	job.scale.dim[1].block = job.scale.dim[2].block = 128;
	job.scale.dim[1].stride = 1;
	job.scale.dim[2].stride = (columns + 127) / 128;
	job.scale.dim[0].stride = job.scale.dim[2].stride * ((rows + 127) / 128);
	return job;
}

static enum sd_device_result keep(void *context, const struct sd_job_slice *part)
{
	*(struct sd_job_slice *)context = *part;
	return SD_DEVICE_OK;
}

/* Memory on the GPU, and a stand-in for the GPU without an engine. */
struct bare {
	struct cuda cuda;
	void *source, *target, *scales, *grid;
};

/* Seconds: batch NULL: a copy of bytes instead. */
static double on_gpu(struct bare *bare, const struct sd_batch *batch, size_t bytes)
{
	cudaStream_t stream = bare->cuda.stream[SD_GPU_COMPUTE];
	cudaEvent_t begin, end;
	double times[REPEATS];

	must_cuda(cudaEventCreate(&begin), "an event");
	must_cuda(cudaEventCreate(&end), "an event");
	for (int r = -2; r < REPEATS; r++) {
		float ms;

		must_cuda(cudaEventRecord(begin, stream), "a mark");
		for (unsigned i = 0; i < TOGETHER; i++)
			if (batch)
				must(launch(&bare->cuda.gpu, batch), "the kernel", bare->cuda.gpu.error);
			else
				must_cuda(cudaMemcpyAsync(bare->target, bare->source, bytes, cudaMemcpyDeviceToDevice,
							  stream),
					  "a copy");
		must_cuda(cudaEventRecord(end, stream), "a mark");
		must_cuda(cudaEventSynchronize(end), "running");
		must_cuda(cudaEventElapsedTime(&ms, begin, end), "the time");
		if (r >= 0)
			times[r] = ms * 1e-3 / TOGETHER;
	}
	cudaEventDestroy(begin);
	cudaEventDestroy(end);
	return median(times);
}

static void bench_kernel(struct bare *bare, uint64_t rows, uint64_t columns, const struct kind *kind)
{
	struct sd_job job = make_job(MATRICES, rows, columns, kind);
	size_t bytes =
		job.source_count * (sd_dtype_size((enum sd_dtype)kind->from) + sd_dtype_size((enum sd_dtype)kind->to));
	struct sd_transpose plan;
	struct sd_job_slice part;
	struct sd_batch batch;
	char failure[256] = "";
	double turned, copied;

	job.scale.data = kind->scaled ? bare->scales : NULL;
	must(sd_transpose_plan(&job, &plan, failure) == SD_DEVICE_OK &&
		     sd_job_slice_cut(&plan, UINT64_MAX, keep, &part) == SD_DEVICE_OK,
	     "a plan", failure);
	part.grid.source = bare->source;
	part.grid.target = bare->target;
	part.grid.scales = bare->scales;
	must_cuda(cudaMemcpy(bare->grid, &part.grid, sizeof(part.grid), cudaMemcpyHostToDevice), "the grid");
	/* What is pageable may still be on its way, and our streams wait for no other. */
	must_cuda(cudaDeviceSynchronize(), "the grid");
	batch = (struct sd_batch){(const struct sd_grid *)bare->grid, 1, part.grid.tiles, part.grid.plan.source_size,
				  part.grid.plan.target_size};
	turned = on_gpu(bare, &batch, 0);
	copied = on_gpu(bare, NULL, bytes / 2);
	printf("%-24s [%d, %4d, %4d] %10.0f %10.0f %8.2f\n", kind->name, MATRICES, (int)rows, (int)columns,
	       (double)bytes / copied * 1e-9, (double)bytes / turned * 1e-9, copied / turned);
}

static void bench_kernels(void)
{
	size_t most = (size_t)MATRICES * 1024 * 2048 * 8;
	struct cudaDeviceProp properties;
	struct bare bare;

	memset(&bare, 0, sizeof(bare));
	must_cuda(cudaGetDeviceProperties(&properties, 0), "the GPU");
	bare.cuda.processors = (unsigned)properties.multiProcessorCount;
	must(open_queues(&bare.cuda), "streams", "none can be had");
	must_cuda(cudaMalloc(&bare.source, most), "memory");
	must_cuda(cudaMalloc(&bare.target, most), "memory");
	must_cuda(cudaMalloc(&bare.scales, MIB), "memory");
	must_cuda(cudaMalloc(&bare.grid, sizeof(struct sd_grid)), "memory");
	must_cuda(cudaMemset(bare.source, 0x38, most), "filling");
	must_cuda(cudaMemset(bare.scales, 0, MIB), "filling");
	printf("Kernels: GB/s read and written on the GPU; medians of %d times %d\n", REPEATS, TOGETHER);
	printf("%-24s %-16s %10s %10s %8s\n", "elements", "matrices", "copy", "turned", "ratio");
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		bench_kernel(&bare, 1024, 2048, &kinds[k]);
		bench_kernel(&bare, 2048, 512, &kinds[k]);
	}
	for (unsigned i = 0; i < SD_GPU_EVENTS; i++)
		cudaEventDestroy(bare.cuda.event[i]);
	for (unsigned i = 0; i < SD_GPU_STREAMS; i++)
		cudaStreamDestroy(bare.cuda.stream[i]);
	cudaFree(bare.source);
	cudaFree(bare.target);
	cudaFree(bare.scales);
	cudaFree(bare.grid);
}

/* Bytes each second in each direction, both at one time, from and to pinned memory. */
static double bench_bus(void *source, void *target, size_t bytes)
{
	double times[REPEATS];
	cudaStream_t in, out;
	void *memory;

	must_cuda(cudaMalloc(&memory, 2 * bytes), "memory");
	must_cuda(cudaStreamCreateWithFlags(&in, cudaStreamNonBlocking), "a stream");
	must_cuda(cudaStreamCreateWithFlags(&out, cudaStreamNonBlocking), "a stream");
	for (int r = -2; r < REPEATS; r++) {
		double begin = now();

		must_cuda(cudaMemcpyAsync(memory, source, bytes, cudaMemcpyHostToDevice, in), "a copy");
		must_cuda(cudaMemcpyAsync(target, (uint8_t *)memory + bytes, bytes, cudaMemcpyDeviceToHost, out),
			  "a copy");
		must_cuda(cudaStreamSynchronize(in), "a copy");
		must_cuda(cudaStreamSynchronize(out), "a copy");
		if (r >= 0)
			times[r] = now() - begin;
	}
	cudaStreamDestroy(in);
	cudaStreamDestroy(out);
	cudaFree(memory);
	return (double)bytes / median(times);
}

/* Bytes each second that a device turns, from buffers of size bytes, in jobs of matrices of 4 MiB each, as many on
 * their way at a time as with sd-transpose. */
static double bench_device(struct sd_device *device, uint8_t *source, uint8_t *target, size_t size, uint64_t matrices)
{
	struct sd_job job = make_job(matrices, 1024, 2048, &kinds[1]);
	size_t bytes = job.source_count * 2;
	uint64_t ticket = 0;
	double times[REPEATS];

	for (int r = -1; r < REPEATS; r++) {
		double begin = now();

		for (size_t at = 0; at < size; at += bytes) {
			job.source = source + at;
			job.target = target + at;
			must(device->ops->begin(device, &job, &ticket) == SD_DEVICE_OK, "turning", device->failure);
			if (ticket + 1 >= device->ahead)
				must(device->ops->wait(device, ticket + 1 - device->ahead) == SD_DEVICE_OK, "turning",
				     device->failure);
		}
		must(device->ops->wait(device, ticket) == SD_DEVICE_OK, "turning", device->failure);
		if (r >= 0)
			times[r] = now() - begin;
	}
	return (double)size / median(times);
}

/* Jobs as sd-transpose makes them, with its default memory: a matrix or a few. */
static double bench_engine(struct sd_device *device, struct sd_device *cpu, double *by_cpu)
{
	static const uint64_t jobs[] = {1, 4, 16, 64};
	size_t size = 256 * MIB;
	uint8_t *source = (uint8_t *)sd_device_allocate(device, size),
		*target = (uint8_t *)sd_device_allocate(device, size);
	uint8_t *plain = (uint8_t *)malloc(size), *made = (uint8_t *)malloc(size);
	double bus, usual = 0;

	must(source && target && plain && made, "memory", "there is not enough");
	memset(source, 1, size);
	memset(plain, 1, size);
	memset(target, 0, size);
	memset(made, 0, size);
	bus = bench_bus(source, target, size);
	*by_cpu = bench_device(cpu, plain, made, size, 4);
	printf("\nEngine: GB/s of BF16 turned, in matrices of 4 MiB; the bus carries %.1f GB/s each way at one time\n",
	       bus * 1e-9);
	printf("%-24s %10s %8s %10s %8s\n", "in a job", "pinned", "of bus", "pageable", "of bus");
	for (size_t i = 0; i < sizeof(jobs) / sizeof(*jobs); i++) {
		double pinned = bench_device(device, source, target, size, jobs[i]);
		double pageable = bench_device(device, plain, made, size, jobs[i]);

		printf("%4d MiB %16s %10.1f %8.2f %10.1f %8.2f\n", (int)jobs[i] * 4, "", pinned * 1e-9, pinned / bus,
		       pageable * 1e-9, pageable / bus);
		if (jobs[i] == 4)
			usual = pinned;
	}
	printf("%-24s %21s %8.1f\n", cpu->name, "", *by_cpu * 1e-9);
	sd_device_release(device, source);
	sd_device_release(device, target);
	free(plain);
	free(made);
	return usual;
}

int main(int argc, char **argv)
{
	struct sd_device *device, *cpu;
	double begin = now(), start, by_gpu, by_cpu;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && strcmp(argv[1], "kernels") == 0) {
		bench_kernels();
		return 0;
	}
	if (sd_device_open_cuda(0, &device) != SD_DEVICE_OK)
		return 4;
	start = now() - begin;
	must(sd_device_open_cpu(1, &cpu) == SD_DEVICE_OK, "the CPU", "no memory or threads");
	printf("%s\n", device->name);
	bench_kernels();
	by_gpu = bench_engine(device, cpu, &by_cpu);
	printf("\nFor --device=auto (src/tools/execution_options.c): GPU_START_MS %.0f, GPU_MIB_PER_S %.0f, THREAD_MIB_PER_S "
	       "%.0f\n",
	       start * 1e3, by_gpu / (double)MIB, by_cpu / (double)MIB);
	if (by_gpu > by_cpu)
		printf("a GPU is worth its start from %.0f MiB on, beside one thread\n",
		       start / (1 / by_cpu - 1 / by_gpu) / (double)MIB);
	else
		printf("one thread is as fast as the bus: a GPU is never worth its start here\n");
	device->ops->close(device);
	cpu->ops->close(cpu);
	return 0;
}
