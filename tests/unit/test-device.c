/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU device, with every kernel that this machine can run, against the naive reference. */
#include "move/kernels.h"
#include "jobs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ThreadSanitizer makes each case take fifty times as long. */
#ifdef __SANITIZE_THREAD__
#define CASES 60
#define STEP 23
#else
#define CASES 900
#define STEP 1
#endif

static struct sd_device *open_cpu(const char *kernels, unsigned threads)
{
	struct sd_device *device;

	setenv("SD_KERNELS", kernels, 1);
	cr_assert_eq(sd_device_open_cpu(threads, &device), SD_DEVICE_OK);
	cr_assert_not_null(strstr(device->name, "cpu"));
	return device;
}

static bool can_run(const char *kernels)
{
	return strcmp(sd_kernels_pick(kernels)->name, kernels) == 0;
}

static void check(struct sd_device *device, uint64_t seed, uint64_t elements)
{
	struct case_ c;

	case_make(&c, seed, elements);
	cr_assert_eq(sd_device_run(device, &c.job, 1), SD_DEVICE_OK, "%s: %s", c.text, device->failure);
	cr_assert(case_holds(&c), "%s: %s", device->name, c.text);
	case_free(&c);
}

static void many(const char *kernels)
{
	static const unsigned threads[] = {1, 2, 3, 7};

	if (!can_run(kernels))
		cr_skip_test("this machine cannot run it");
	for (unsigned t = 0; t < 4; t++) {
		struct sd_device *device = open_cpu(kernels, threads[t]);

		for (uint64_t seed = 0; seed < CASES; seed++)
			check(device, seed * 4 + t, seed % 3 == 0 ? 60 : 6000);
		for (uint64_t seed = 0; seed < 5; seed++)
			check(device, 100000 + seed * 4 + t, 1 << 20);
		device->ops->close(device);
	}
}

Test(device, plain)
{
	many("plain");
}

Test(device, v128)
{
	many("v128");
}

Test(device, avx2)
{
	many("avx2");
}

Test(device, avx512)
{
	many("avx512");
}

/* A matrix of rows by columns, its target off bytes from a line. What lies around the target must stay. */
static void check_matrix(struct sd_device *device, uint8_t dtype, uint64_t rows, uint64_t columns, size_t off)
{
	size_t bytes = rows * columns * sd_dtype_size((enum sd_dtype)dtype);
	uint8_t *room = malloc(bytes + 16), *target = aligned_alloc(64, (bytes + 255) / 64 * 64), *want = malloc(bytes);
	uint8_t *source = room + off % 16;
	uint64_t seed = bytes + off;
	struct sd_job job = {
		.source = source,
		.target = target + off,
		.source_count = rows * columns,
		.target_count = rows * columns,
		.move = {.rank = 2, .dim = {{rows, columns, 1}, {columns, 1, rows}}},
		.source_dtype = dtype,
		.target_dtype = dtype,
	};

	cr_assert(room && target && want);
	for (size_t i = 0; i < bytes; i++)
		source[i] = (uint8_t)exact_random(&seed);
	memset(target, POISON, off + bytes + 64);
	naive(&job, want);
	cr_assert_eq(sd_device_run(device, &job, 1), SD_DEVICE_OK);
	cr_assert(memcmp(target + off, want, bytes) == 0, "%s: %zu by %zu of %s, off by %zu", device->name,
		  (size_t)rows, (size_t)columns, sd_dtype_name((enum sd_dtype)dtype), off);
	for (size_t i = 0; i < 64; i++)
		cr_assert(target[off + bytes + i] == POISON && (i >= off || target[i] == POISON), "%s", device->name);
	free(room);
	free(target);
	free(want);
}

static const uint8_t dtypes[] = {SD_U8, SD_U16, SD_U32, SD_U64};

/* Two sizes, just on and off a kernel's tile, at a line and off it, of every size of element. */
static void around_the_tile(const char *kernels)
{
	static const uint64_t sizes[] = {1, 2, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 200};
	enum { count = sizeof(sizes) / sizeof(*sizes) };
	struct sd_device *device;
	uint64_t seed = 7;

	if (!can_run(kernels))
		return;
	device = open_cpu(kernels, 1);
	for (size_t n = 0; n < count * count * 4; n += STEP)
		check_matrix(device, dtypes[n / count / count], sizes[n % count], sizes[n / count % count],
			     pick(&seed, 2) * pick(&seed, 64));
	device->ops->close(device);
}

/* Large enough to be written past the caches, with lines that begin anywhere, and once with rows of no whole lines. */
static void past_the_caches(const char *kernels)
{
	struct sd_device *device;

	if (!can_run(kernels))
		return;
	device = open_cpu(kernels, 2);
	for (size_t d = 0; d < 4; d++) {
		unsigned size = sd_dtype_size((enum sd_dtype)dtypes[d]);
		uint64_t columns = 300 * 1024 / 192 + d;

		for (size_t off = 0; off < 64; off += STEP * (off < 8 ? 1 : 8))
			check_matrix(device, dtypes[d], 192 / size, columns, off);
		check_matrix(device, dtypes[d], 192 / size + 1, columns, 0);
	}
	device->ops->close(device);
}

/* A matrix, and the blocks that have a scale each; across 0: whole rows. */
struct blocks {
	uint8_t from, to, scale;
	uint64_t rows, columns, down, across;
	bool turned;
};

static float any_factor(uint64_t *seed)
{
	static const float special[] = {0.0F, -0.0F, NAN, -1e-38F};
	uint64_t choice = pick(seed, 16);

	if (choice < 4)
		return special[choice];
	return ldexpf((float)(exact_random(seed) >> 40), (int)pick(seed, 40) - 44);
}

/* Scales of any kind; tame: such as are in a model, which have ways of their own. */
static void make_scales(uint64_t *seed, uint8_t dtype, uint8_t *scales, size_t count, bool tame)
{
	const unsigned size = sd_element_size(dtype);

	for (size_t i = 0; i < count; i++) {
		float factor = any_factor(seed);
		uint32_t bits = sd_bits_of_float(factor);

		if (size == 1)
			bits = (uint32_t)(tame ? 27 + pick(seed, 201) : pick(seed, 256));
		else if (dtype == SD_BF16)
			bits = tame ? (uint32_t)(pick(seed, 0x7f80) | pick(seed, 2) << 15) : bits >> 16;
		memcpy(scales + i * size, &bits, size);
	}
}

/* The matrix turned, or as it is. */
static void check_blocks(struct sd_device *device, const struct blocks *is, uint64_t seed)
{
	uint64_t wide = is->across ? is->across : is->columns, across = (is->columns + wide - 1) / wide;
	uint64_t count = is->rows * is->columns;
	size_t bytes = count * sd_dtype_size((enum sd_dtype)is->to);
	size_t scales = across * ((is->rows + is->down - 1) / is->down);
	uint8_t *source = malloc(count * 4), *target = aligned_alloc(64, (bytes + 127) / 64 * 64),
		*want = malloc(bytes), *by = malloc(scales * 4);
	struct sd_job job = {
		.source = source,
		.target = target,
		.source_count = count,
		.target_count = count,
		.move = {.rank = 2,
			 .dim = {{is->rows, is->columns, is->turned ? 1 : is->columns},
				 {is->columns, 1, is->turned ? is->rows : 1}}},
		.source_dtype = is->from,
		.target_dtype = is->to,
		.scale = {.data = by, .dtype = is->scale, .dim = {{0, is->down, across}, {0, wide, 1}}},
	};

	cr_assert(source && target && want && by);
	for (size_t i = 0; i < count * 4; i++)
		source[i] = (uint8_t)exact_random(&seed);
	make_scales(&seed, is->scale, by, scales, pick(&seed, 3) > 0);
	memset(target + bytes, POISON, 64);
	naive(&job, want);
	cr_assert_eq(sd_device_run(device, &job, 1), SD_DEVICE_OK);
	cr_assert(memcmp(target, want, bytes) == 0, "%s: %zu by %zu of %u to %u in blocks of %zu by %zu of %u%s",
		  device->name, (size_t)is->rows, (size_t)is->columns, is->from, is->to, (size_t)is->down, (size_t)wide,
		  is->scale, is->turned ? ", turned" : "");
	for (size_t i = 0; i < 64; i++)
		cr_assert_eq(target[bytes + i], POISON);
	free(source);
	free(target);
	free(want);
	free(by);
}

/* Sizes on and off tiles and blocks. */
static void large_blocks(struct sd_device *device)
{
	static const uint64_t sizes[] = {1, 31, 64, 65, 127, 128, 129, 300, 520, 1030};
	static const uint8_t from[] = {SD_F8_E4M3, SD_F8_E5M2, SD_F16, SD_BF16, SD_F32};
	static const uint8_t to[] = {SD_BF16, SD_F16, SD_F32};
	enum { count = sizeof(sizes) / sizeof(*sizes) };
	uint64_t seed = 11;

	for (size_t n = 0; n < count * count * 2; n += STEP) {
		uint64_t block = pick(&seed, 3) == 0 ? pick(&seed, 140) * pick(&seed, 2) : 128;
		struct blocks blocks = {
			.from = from[pick(&seed, 5)],
			.to = to[pick(&seed, 3)],
			.scale = SD_F32,
			.rows = sizes[n / 2 % count],
			.columns = sizes[n / 2 / count],
			.down = block == 0 ? 1 : block,
			.across = block,
			.turned = n % 2 == 0,
		};

		check_blocks(device, &blocks, n);
	}
}

/* Blocks of a few elements of a row, of codes above all, in matrices small and too large for one step. */
static void small_blocks(struct sd_device *device)
{
	static const uint8_t from[] = {SD_F8_E4M3, SD_F8_E5M2, SD_BF16, SD_E2M1, SD_E2M1 + SD_E2M1_PLUS, SD_INT4};
	static const uint8_t to[] = {SD_BF16, SD_BF16, SD_BF16, SD_F16, SD_F32, SD_F64};
	static const uint8_t scale[] = {SD_E8M0, SD_E8M0 + SD_E8M0_ZERO, SD_BF16, SD_BF16, SD_F32};
	static const uint64_t across[] = {32, 32, 32, 64, 16, 8, 100, 33, 1};
	uint64_t seed = 13;

	for (size_t n = 0; n < 160; n += STEP) {
		uint64_t round = pick(&seed, 3) == 0 ? 1 : 64;
		struct blocks blocks = {
			.from = from[pick(&seed, 6)],
			.to = to[pick(&seed, 6)],
			.scale = scale[pick(&seed, 5)],
			.rows = 1 + pick(&seed, 300),
			.columns = round * (1 + pick(&seed, (n % 8 == 0 ? 4800 : 900) / round)),
			.down = pick(&seed, 3) == 0 ? 32 : 1,
			.across = across[pick(&seed, 9)],
			.turned = n % 2 == 0,
		};

		check_blocks(device, &blocks, n);
	}
}

static void scaled_blocks(const char *kernels)
{
	struct sd_device *device;

	if (!can_run(kernels))
		return;
	device = open_cpu(kernels, 2);
	large_blocks(device);
	small_blocks(device);
	device->ops->close(device);
}

Test(device, scaled_blocks)
{
	scaled_blocks("plain");
	scaled_blocks("v128");
	scaled_blocks("avx2");
	scaled_blocks("avx512");
}

Test(device, past_the_caches)
{
	past_the_caches("plain");
	past_the_caches("v128");
	past_the_caches("avx2");
	past_the_caches("avx512");
}

Test(device, sizes_around_the_tile)
{
	around_the_tile("plain");
	around_the_tile("v128");
	around_the_tile("avx2");
	around_the_tile("avx512");
}

/* More jobs than are planned at a time, in one call. */
Test(device, many_jobs_at_once)
{
	enum { count = 150 };
	static struct case_ cases[count];
	static struct sd_job jobs[count];
	struct sd_device *device = open_cpu("", 3);

	for (size_t i = 0; i < count; i++) {
		case_make(&cases[i], 5000 + i, i % 7 == 0 ? 100000 : 500);
		jobs[i] = cases[i].job;
	}
	cr_assert_eq(sd_device_run(device, jobs, count), SD_DEVICE_OK);
	for (size_t i = 0; i < count; i++) {
		cr_assert(case_holds(&cases[i]), "%s", cases[i].text);
		case_free(&cases[i]);
	}
	cr_assert_eq(sd_device_run(device, NULL, 0), SD_DEVICE_OK);
	device->ops->close(device);
}

/* Any of the jobs that have been begun are awaited while others come, one of which is refused. */
static void in_flight(struct sd_device *device, uint64_t *seed)
{
	enum { count = 100 };
	static struct case_ cases[count];
	struct sd_job wrong = {.move = {.rank = 1, .dim = {{1, 1, 1}}}, .source_dtype = SD_U8, .target_dtype = SD_U8};
	uint64_t ticket, first = 0, done = 0, begun = 0;
	uint64_t far = 1 + pick(seed, count);

	for (size_t i = 0; i < count; i++)
		case_make(&cases[i], exact_random(seed), pick(seed, 6) == 0 ? 200000 : 500);
	while (done < count) {
		if (begun < count && begun - done < far) {
			cr_assert_eq(device->ops->begin(device, &cases[begun].job, &ticket), SD_DEVICE_OK);
			first = begun == 0 ? ticket : first;
			cr_assert_eq(ticket, first + begun);
			begun++;
			if (begun == count / 2)
				cr_assert_eq(device->ops->begin(device, &wrong, &ticket), SD_DEVICE_FAILED);
		} else {
			uint64_t until = done + pick(seed, begun - done);

			cr_assert_eq(device->ops->wait(device, first + until), SD_DEVICE_OK);
			while (done <= until) {
				cr_assert(case_holds(&cases[done]), "%s: %s", device->name, cases[done].text);
				case_free(&cases[done++]);
			}
		}
	}
}

Test(device, jobs_in_flight)
{
	uint64_t seed = 17;

	for (unsigned threads = 1; threads <= 8; threads++) {
		struct sd_device *device = open_cpu("", threads);

		cr_assert_geq(device->ahead, 1);
		for (unsigned round = 0; round < 4; round++)
			in_flight(device, &seed);
		device->ops->close(device);
	}
}

/* Nobody waits for what is on its way, and nobody touches it once the device is closed. */
Test(device, closed_in_flight)
{
	enum { count = 30 };
	struct case_ cases[count];
	uint64_t ticket;

	for (uint64_t round = 0; round < 24; round++) {
		struct sd_device *device = open_cpu("", 1 + (unsigned)round % 8);

		for (size_t i = 0; i < count; i++) {
			case_make(&cases[i], 7000 + round * count + i, i % 5 == 0 ? 200000 : 500);
			cr_assert_eq(device->ops->begin(device, &cases[i].job, &ticket), SD_DEVICE_OK);
		}
		if (round % 3 == 0)
			cr_assert_eq(device->ops->wait(device, ticket - pick(&(uint64_t){round}, count)), SD_DEVICE_OK);
		device->ops->close(device);
		for (size_t i = 0; i < count; i++)
			case_free(&cases[i]);
	}
}

Test(device, nothing_to_move)
{
	struct sd_device *device = open_cpu("", 2);
	struct sd_job job = {
		.move = {.rank = 2, .dim = {{0, 5, 1}, {5, 1, 0}}},
		.source_dtype = SD_BF16,
		.target_dtype = SD_F32,
	};

	cr_assert_eq(sd_device_run(device, &job, 1), SD_DEVICE_OK);
	device->ops->close(device);
}

static void refused(struct sd_job job, const char *why)
{
	struct sd_device *device = open_cpu("", 1);

	cr_assert_eq(sd_device_run(device, &job, 1), SD_DEVICE_FAILED, "%s", why);
	cr_assert_not_null(strstr(device->failure, why), "%s, not %s", device->failure, why);
	device->ops->close(device);
}

Test(device, what_cannot_be_is_refused)
{
	uint8_t source[64] = {0}, target[64];
	struct sd_job good = {
		.source = source,
		.target = target,
		.source_count = 8,
		.target_count = 8,
		.move = {.rank = 1, .dim = {{8, 1, 1}}},
		.source_dtype = SD_BF16,
		.target_dtype = SD_F32,
	};
	struct sd_job job = good;

	job.target_dtype = SD_U32;
	refused(job, "no such cast");
	job = good;
	job.source_dtype = job.target_dtype = SD_F4;
	refused(job, "no such cast");
	job = good;
	job.source_count = 7;
	refused(job, "leaves its buffers");
	job = good;
	job.move.to = UINT64_MAX;
	refused(job, "leaves its buffers");
	job = good;
	job.scale.data = source;
	job.scale.dtype = SD_F64;
	job.scale.dim[0].block = 1;
	refused(job, "no such scale");
	job = good;
	job.scale.data = source;
	job.scale.dtype = SD_F32;
	refused(job, "no such scale");
}

/* A machine with more CPUs than a cpu_set_t has, where the kernel takes no smaller set. */
#define NUMBERS 4096
static unsigned cpus;

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	if (cpus == 0)
		return (int)syscall(SYS_sched_getaffinity, pid, size, set) < 0 ? -1 : 0;
	if (size < NUMBERS / 8) {
		errno = EINVAL;
		return -1;
	}
	CPU_ZERO_S(size, set);
	for (unsigned i = 0; i < cpus; i++)
		CPU_SET_S(NUMBERS - 1 - i, size, set);
	return 0;
}

Test(device, many_cpus)
{
	for (cpus = 1; cpus <= NUMBERS; cpus = cpus * 3 + 1)
		cr_expect_eq(sd_device_threads(), cpus);
	cpus = 0;
	cr_expect_geq(sd_device_threads(), 1u);
}
