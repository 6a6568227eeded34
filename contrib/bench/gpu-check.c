/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the CUDA device give what the CPU device gives? Built and run by contrib/gpu-check. Exits 0 yes, 1 no, 4 no GPU.
 *     gpu-check [RANDOM [ELEMENTS]]    how many random jobs; the largest shape
 */
#include "../../tests/unit/jobs.h"

struct shape {
	const char *name;
	uint32_t rank;
	uint64_t size[4];  /* of the source, row-major */
	uint32_t order[4]; /* the target's dimensions */
	uint64_t gap;      /* elements behind each innermost row of either side */
};

static const struct shape shapes[] = {
	{"nothing to turn", 1, {100003}, {0}, 0},
	{"one element", 2, {1, 1}, {1, 0}, 0},
	{"tiny", 2, {3, 5}, {1, 0}, 0},
	{"a tile", 2, {32, 32}, {1, 0}, 0},
	{"off a tile", 2, {33, 65}, {1, 0}, 0},
	{"odd", 2, {1027, 513}, {1, 0}, 0},
	{"a matrix", 2, {1024, 2048}, {1, 0}, 0},
	{"tall", 2, {100000, 3}, {1, 0}, 0},
	{"wide", 2, {3, 100000}, {1, 0}, 0},
	{"many matrices", 3, {40, 96, 130}, {0, 2, 1}, 0},
	{"many tiny matrices", 3, {20000, 3, 7}, {0, 2, 1}, 0},
	{"outer ones change places", 3, {30, 40, 130}, {1, 0, 2}, 0},
	{"four dimensions", 4, {9, 31, 17, 33}, {3, 1, 0, 2}, 0},
	{"pairs", 3, {257, 129, 2}, {1, 0, 2}, 0},
	{"slices on both sides", 3, {20, 50, 70}, {0, 2, 1}, 7},
	{"rows of slices", 3, {20, 50, 70}, {1, 0, 2}, 7},
};

/* Strides of a row-major array of these sizes in this order. Returns its elements. */
static uint64_t lay_out(struct sd_move *move, const uint32_t *order, uint64_t gap, bool source)
{
	uint64_t stride = 1;

	for (uint32_t k = move->rank; k-- > 0;) {
		struct sd_dim *dim = &move->dim[order[k]];

		*(source ? &dim->from : &dim->to) = stride;
		stride *= dim->size;
		if (k + 1 == move->rank)
			stride += gap;
	}
	return stride;
}

static struct sd_job make_job(const struct shape *shape, uint8_t from, uint8_t to)
{
	static const uint32_t in_order[] = {0, 1, 2, 3};
	struct sd_job job = {.source_dtype = from, .target_dtype = to};

	job.move.rank = shape->rank;
	for (uint32_t k = 0; k < shape->rank; k++)
		job.move.dim[k].size = shape->size[k];
	job.source_count = lay_out(&job.move, in_order, shape->gap, true);
	job.target_count = lay_out(&job.move, shape->order, shape->gap, false);
	return job;
}

/* Blocks of 128 in the two innermost dimensions, as block FP8 has them; of 1 in those outside. */
static void add_scale(struct sd_job *job, uint8_t dtype, const void *data)
{
	uint64_t count = 1;

	job->scale.data = data;
	job->scale.dtype = dtype;
	for (uint32_t k = job->move.rank; k-- > 0;) {
		job->scale.dim[k].block = k + 2 >= job->move.rank ? 128 : 1;
		job->scale.dim[k].stride = count;
		count *= (job->move.dim[k].size - 1) / job->scale.dim[k].block + 1;
	}
}

struct check {
	struct sd_device *cpu, *gpu;
	uint8_t *source, *scales, *by_cpu, *by_gpu;
	size_t room;
	unsigned long done, wrong;
};

static void run(struct sd_device *device, const struct sd_job *job)
{
	enum sd_device_result result = device->ops->run(device, job, 1);

	if (result == SD_DEVICE_OK)
		return;
	printf("%s: result %d: %s\n", device->name, result, device->failure);
	exit(1);
}

/* Fills what the GPU has left of its last target, so that an element that is not written cannot be right by chance. */
static void poison(const struct check *check, size_t bytes)
{
	struct sd_job fill = {
		.source = check->by_gpu,
		.target = check->by_cpu,
		.source_count = bytes,
		.target_count = bytes,
		.move = {.rank = 1, .dim = {{bytes, 1, 1}}},
		.source_dtype = SD_U8,
		.target_dtype = SD_U8,
	};

	memset(check->by_gpu, POISON, bytes);
	run(check->gpu, &fill);
}

static void compare(struct check *check, struct sd_job *job, const char *name)
{
	size_t bytes = job->target_count * sd_dtype_size((enum sd_dtype)job->target_dtype);

	poison(check, bytes);
	memset(check->by_cpu, POISON, bytes);
	memset(check->by_gpu, POISON, bytes);
	job->source = check->source;
	job->target = check->by_cpu;
	run(check->cpu, job);
	job->target = check->by_gpu;
	run(check->gpu, job);
	check->done++;
	if (memcmp(check->by_cpu, check->by_gpu, bytes) == 0)
		return;
	check->wrong++;
	printf("WRONG: %s, %s to %s, scale %s\n", name, sd_dtype_name((enum sd_dtype)job->source_dtype),
	       sd_dtype_name((enum sd_dtype)job->target_dtype), sd_dtype_name((enum sd_dtype)job->scale.dtype));
}

static void check_shape(struct check *check, const struct shape *shape)
{
	static const uint8_t scales[] = {SD_NO_DTYPE, SD_F32, SD_BF16, SD_F16};
	unsigned long before = check->done;

	for (uint8_t from = 1; from < SD_DTYPES; from++)
		for (uint8_t to = 1; to < SD_DTYPES; to++)
			for (size_t s = 0; s < sizeof(scales); s++) {
				struct sd_job job = make_job(shape, from, to);

				if (!sd_cast_exists((enum sd_dtype)from, (enum sd_dtype)to))
					continue;
				if (scales[s] &&
				    !(sd_convert_reads((enum sd_dtype)from) && sd_convert_makes((enum sd_dtype)to)))
					continue;
				if (scales[s])
					add_scale(&job, scales[s], check->scales);
				compare(check, &job, shape->name);
			}
	printf("  %-26s %lu dtypes and scales\n", shape->name, check->done - before);
}

/* Random shapes, strides, gaps and blocks, against the naive reference. */
static void check_random(struct check *check, uint64_t count)
{
	for (uint64_t seed = 0; seed < count; seed++) {
		struct case_ c;

		case_make(&c, seed, seed % 10 == 0 ? 300000 : 5000);
		run(check->gpu, &c.job);
		check->done++;
		if (!case_holds(&c)) {
			check->wrong++;
			printf("WRONG: %s\n", c.text);
		}
		case_free(&c);
	}
	printf("  %-26s %lu\n", "random", (unsigned long)count);
}

int main(int argc, char **argv)
{
	struct check check = {.room = (size_t)1024 * 2048 * 8 + 4096};
	uint64_t seed = 1, count = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000;
	uint64_t most = argc > 2 ? strtoull(argv[2], NULL, 10) : UINT64_MAX;

	if (sd_device_open_cuda(0, &check.gpu) != SD_DEVICE_OK) {
		printf("no GPU here that this program can use: nothing was run on a device\n");
		return 4;
	}
	check.source = malloc(check.room);
	check.scales = malloc(check.room);
	check.by_cpu = malloc(check.room);
	check.by_gpu = malloc(check.room);
	if (!check.source || !check.scales || !check.by_cpu || !check.by_gpu ||
	    sd_device_open_cpu(0, &check.cpu) != SD_DEVICE_OK) {
		printf("out of memory\n");
		return 1;
	}
	printf("%s against %s\n", check.gpu->name, check.cpu->name);
	for (size_t i = 0; i < check.room; i++) {
		check.source[i] = (uint8_t)exact_random(&seed);
		check.scales[i] = (uint8_t)exact_random(&seed);
	}
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		if (make_job(&shapes[i], SD_U8, SD_U8).source_count <= most)
			check_shape(&check, &shapes[i]);
	check_random(&check, count);
	check.cpu->ops->close(check.cpu);
	check.gpu->ops->close(check.gpu);
	free(check.source);
	free(check.scales);
	free(check.by_cpu);
	free(check.by_gpu);
	printf("%lu jobs, %lu wrong\n", check.done, check.wrong);
	return check.wrong > 0;
}
