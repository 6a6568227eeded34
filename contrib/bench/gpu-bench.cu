/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the CUDA kernel turns matrices that lie on the GPU, as a fraction of a copy on the GPU. Built by
 * contrib/gpu-check. */
#include "../../cuda/device_cuda.cu"

#define REPEATS 21
#define MATRICES 64

struct kind {
	const char *name;
	uint8_t from, to;
	bool scaled;
};

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void must(cudaError_t error, const char *what)
{
	if (error == cudaSuccess)
		return;
	fprintf(stderr, "gpu-bench: %s: %s\n", what, cudaGetErrorString(error));
	exit(1);
}

/* Milliseconds: the median. grid NULL: a copy of bytes instead. */
static float median(const struct cuda *cuda, const struct sd_grid *grid, size_t bytes)
{
	cudaEvent_t begin, end;
	float times[REPEATS];

	must(cudaEventCreate(&begin), "an event");
	must(cudaEventCreate(&end), "an event");
	for (int r = -2; r < REPEATS; r++) {
		must(cudaEventRecord(begin), "a mark");
		if (grid)
			must(launch(cuda, grid), "the kernel");
		else
			must(cudaMemcpyAsync(cuda->target.data, cuda->source.data, bytes, cudaMemcpyDeviceToDevice),
			     "a copy");
		must(cudaEventRecord(end), "a mark");
		must(cudaEventSynchronize(end), "running");
		if (r >= 0)
			must(cudaEventElapsedTime(&times[r], begin, end), "the time");
	}
	cudaEventDestroy(begin);
	cudaEventDestroy(end);
	qsort(times, REPEATS, sizeof(*times), by_value);
	return times[REPEATS / 2];
}

static void bench(struct cuda *cuda, uint64_t rows, uint64_t columns, const struct kind *kind)
{
	uint64_t count = MATRICES * rows * columns;
	size_t in = count * sd_dtype_size((enum sd_dtype)kind->from),
	       out = count * sd_dtype_size((enum sd_dtype)kind->to);
	struct sd_transpose plan;
	struct sd_job job;
	struct sd_grid grid;
	char failure[256];
	float turned, copied;

	memset(&job, 0, sizeof(job));
	job.source_count = job.target_count = count;
	job.move.rank = 3;
	job.move.dim[0] = (struct sd_dim){MATRICES, rows * columns, rows * columns};
	job.move.dim[1] = (struct sd_dim){columns, 1, rows};
	job.move.dim[2] = (struct sd_dim){rows, columns, 1};
	job.source_dtype = kind->from;
	job.target_dtype = kind->to;
	if (kind->scaled) {
		job.scale.data = cuda->scales.data;
		job.scale.dtype = SD_F32;
		job.scale.dim[0].block = 1;
		job.scale.dim[1].block = job.scale.dim[2].block = 128;
		job.scale.dim[1].stride = 1;
		job.scale.dim[2].stride = (columns + 127) / 128;
		job.scale.dim[0].stride = job.scale.dim[2].stride * ((rows + 127) / 128);
	}
	if (sd_transpose_plan(&job, &plan, failure) != SD_DEVICE_OK || !sd_grid_plan(&plan, &grid)) {
		fprintf(stderr, "gpu-bench: %s\n", failure);
		exit(1);
	}
	turned = median(cuda, &grid, 0);
	copied = median(cuda, NULL, (in + out) / 2);
	printf("%-24s [%d, %4d, %4d] %10.0f %10.0f %8.2f\n", kind->name, MATRICES, (int)rows, (int)columns,
	       (double)(in + out) / copied * 1e-6, (double)(in + out) / turned * 1e-6, copied / turned);
}

int main(void)
{
	static const struct kind kinds[] = {
		{"1 byte", SD_U8, SD_U8, false},
		{"2 bytes", SD_BF16, SD_BF16, false},
		{"4 bytes", SD_F32, SD_F32, false},
		{"8 bytes", SD_F64, SD_F64, false},
		{"F32 to BF16", SD_F32, SD_BF16, false},
		{"BF16 to F32", SD_BF16, SD_F32, false},
		{"F8_E4M3 * F32 to BF16", SD_F8_E4M3, SD_BF16, true},
	};
	struct sd_device *device;
	struct cuda *cuda;
	size_t most = (size_t)MATRICES * 1024 * 2048 * 8;

	if (sd_device_open_cuda(0, &device) != SD_DEVICE_OK)
		return 4;
	cuda = (struct cuda *)device;
	if (!grow(&cuda->source, most) || !grow(&cuda->target, most) || !grow(&cuda->scales, 1 << 20)) {
		fprintf(stderr, "gpu-bench: the GPU has not %zu MiB to spare\n", 2 * (most >> 20));
		return 1;
	}
	must(cudaMemset(cuda->source.data, 0x38, most), "filling");
	must(cudaMemset(cuda->scales.data, 0, 1 << 20), "filling");
	printf("%s; GB/s is bytes read and written on the device; medians of %d\n", device->name, REPEATS);
	printf("%-24s %-16s %10s %10s %8s\n", "elements", "matrices", "copy GB/s", "turned", "ratio");
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		bench(cuda, 1024, 2048, &kinds[k]);
		bench(cuda, 2048, 512, &kinds[k]);
	}
	device->ops->close(device);
	return 0;
}
