/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the CUDA device give what the CPU device gives? Built and run by contrib/gpu-check. Exits 0 yes, 1 no, 4 no GPU.
 *     gpu-check [RANDOM [ELEMENTS]]    how many random jobs; the largest shape: then memory is not poisoned, for what
 *                                      watches every step of the GPU
 */
#include "engine.h"
#include "../../tests/unit/jobs.h"

#include <sys/mman.h>
#include <unistd.h>

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
	{"a few tiles", 3, {9, 40, 40}, {0, 2, 1}, 0},
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

/* Random jobs in one call. */
#define LIST 12

struct check {
	struct sd_device *cpu, *gpu;
	uint8_t *scales, *by_cpu;
	uint8_t *source[2], *by_gpu[3]; /* in any memory; in memory from the device; in shared memory, as rings are */
	size_t room;
	uint64_t most; /* elements */
	unsigned long done, wrong;
};

/* Lines that tell of wrong results. */
#define TOLD 40

static void run(struct sd_device *device, const struct sd_job *jobs, size_t count)
{
	enum sd_device_result result = sd_device_run(device, jobs, count);

	if (result == SD_DEVICE_OK)
		return;
	printf("%s: result %d: %s\n", device->name, result, device->failure);
	exit(1);
}

/* Fills what the GPU has left of its last targets, so that an element that is not written cannot be right by chance. */
static void poison(const struct check *check)
{
	struct sd_job fill = {
		.source = check->by_gpu[0],
		.target = check->by_cpu,
		.source_count = check->room,
		.target_count = check->room,
		.move = {.rank = 1, .dim = {{check->room, 1, 1}}},
		.source_dtype = SD_U8,
		.target_dtype = SD_U8,
	};

	if (check->most < UINT64_MAX)
		return;
	memset(check->by_gpu[0], POISON, check->room);
	run(check->gpu, &fill, 1);
}

static void compare(struct check *check, struct sd_job *job, const char *name)
{
	size_t bytes = job->target_count * sd_dtype_size((enum sd_dtype)job->target_dtype);
	uint8_t *by_gpu = check->by_gpu[check->done / 2 % 3];

	poison(check);
	memset(check->by_cpu, POISON, bytes);
	memset(by_gpu, POISON, bytes);
	job->source = check->source[check->done % 2];
	job->target = check->by_cpu;
	run(check->cpu, job, 1);
	job->target = by_gpu;
	run(check->gpu, job, 1);
	check->done++;
	if (memcmp(check->by_cpu, by_gpu, bytes) == 0)
		return;
	if (++check->wrong > TOLD)
		return;
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

/* Random shapes, strides, gaps and blocks, several in one call, against the naive reference. */
static void check_random(struct check *check, uint64_t count)
{
	for (uint64_t seed = 0; seed < count; seed += LIST) {
		struct case_ cases[LIST];
		struct sd_job jobs[LIST];

		for (unsigned i = 0; i < LIST; i++) {
			case_make(&cases[i], seed + i, (seed + i) % 10 == 0 && check->most > 300000 ? 300000 : 5000);
			jobs[i] = cases[i].job;
		}
		poison(check);
		run(check->gpu, jobs, LIST);
		for (unsigned i = 0; i < LIST; i++) {
			check->done++;
			if (!case_holds(&cases[i]) && ++check->wrong <= TOLD)
				printf("WRONG: %s\n", cases[i].text);
			case_free(&cases[i]);
		}
	}
	printf("  %-26s %lu\n", "random", (unsigned long)count);
}

/* Memory as that of the ring between two tools, told to the device. */
static uint8_t *make_shared(struct check *check)
{
	int fd = memfd_create("gpu-check", MFD_CLOEXEC);
	void *memory = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, (off_t)check->room) == 0)
		memory = mmap(NULL, check->room, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (memory == MAP_FAILED)
		return NULL;
	sd_device_adopt(check->gpu, memory, check->room);
	return memory;
}

static bool prepare(struct check *check)
{
	uint64_t seed = 1;

	/* As much as all slices of the engine. */
	check->room = 4 * sd_engine_sizes.slice;
	check->scales = malloc(check->room);
	check->by_cpu = malloc(check->room);
	check->source[0] = malloc(check->room);
	check->by_gpu[0] = malloc(check->room);
	check->source[1] = sd_device_allocate(check->gpu, check->room);
	check->by_gpu[1] = sd_device_allocate(check->gpu, check->room);
	check->by_gpu[2] = make_shared(check);
	if (!check->scales || !check->by_cpu || !check->source[0] || !check->by_gpu[0] || !check->source[1] ||
	    !check->by_gpu[1] || !check->by_gpu[2] || sd_device_open_cpu(0, &check->cpu) != SD_DEVICE_OK)
		return false;
	for (size_t i = 0; i < check->room; i++) {
		check->source[0][i] = check->source[1][i] = (uint8_t)exact_random(&seed);
		check->scales[i] = (uint8_t)exact_random(&seed);
	}
	return true;
}

int main(int argc, char **argv)
{
	struct check check = {0};
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 6000;
	enum sd_device_result result;

	check.most = argc > 2 ? strtoull(argv[2], NULL, 10) : UINT64_MAX;
	/* So that what is known is seen, if the GPU takes this program down or is slow. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	result = sd_device_open_cuda(0, &check.gpu);
	if (result == SD_DEVICE_ABSENT) {
		printf("no GPU here that this program can use: nothing was run on a device\n");
		return 4;
	}
	if (result != SD_DEVICE_OK || !prepare(&check)) {
		printf("out of memory\n");
		return 1;
	}
	printf("%s against %s\n", check.gpu->name, check.cpu->name);
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
		if (make_job(&shapes[i], SD_U8, SD_U8).source_count <= check.most)
			check_shape(&check, &shapes[i]);
	check_random(&check, count);
	sd_device_release(check.gpu, check.source[1]);
	sd_device_release(check.gpu, check.by_gpu[1]);
	check.cpu->ops->close(check.cpu);
	check.gpu->ops->close(check.gpu);
	munmap(check.by_gpu[2], check.room);
	free(check.source[0]);
	free(check.by_gpu[0]);
	free(check.scales);
	free(check.by_cpu);
	printf("%lu jobs, %lu wrong\n", check.done, check.wrong);
	return check.wrong > 0;
}
