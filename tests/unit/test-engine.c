/* SPDX-License-Identifier: Apache-2.0 */
/* The engine, on a GPU that does what is queued in any order that is allowed, against the naive reference. */
#include "../../cuda/engine.h"
#include "../../cuda/job_slice.h"
#include "gpu-mock.h"
#include "jobs.h"

#include <criterion/criterion.h>

#define JOBS_MAX 12
/* Lists of jobs that each of three tests does. */
#ifndef LISTS
#define LISTS 700
#endif

/* Slices so small that jobs are many of them, or large enough that many jobs are one. */
static struct sd_engine_sizes some_sizes(uint64_t *seed)
{
	struct sd_engine_sizes sizes = {.slice = (size_t)32768 << pick(seed, 4), .slice_least = 32768};

	sizes.direct = pick(seed, 2) == 0 ? 1 : 4096;
	sizes.run = 1 + pick(seed, 64);
	return sizes;
}

static struct sd_device *open_engine(struct mock *mock, const struct sd_engine_sizes *sizes)
{
	struct sd_device *device;

	cr_assert_eq(sd_engine_open(&mock->gpu, sizes, &device), SD_DEVICE_OK);
	return device;
}

/* A job as the engine gets it: source or target may be in memory of the device, or the target in the ring. */
struct placed {
	struct case_ c;
	struct sd_job job;
	void *source, *target; /* the device's, or NULL */
};

#define RING ((size_t)1 << 20)

static void place_job(struct placed *p, struct sd_device *device, uint8_t *ring, size_t *used, uint64_t *seed)
{
	size_t source_bytes = sd_element_bytes(p->c.job.source_dtype, p->c.job.source_count);
	size_t room = (p->c.target_bytes + 64) / 64 * 64;

	p->job = p->c.job;
	p->source = p->target = NULL;
	if (pick(seed, 3) == 0) {
		p->job.source = p->source = sd_device_allocate(device, (source_bytes + 64) / 64 * 64);
		cr_assert_not_null(p->source);
		memcpy(p->source, p->c.job.source, source_bytes);
	}
	if (pick(seed, 3) == 0) {
		p->job.target = p->target = sd_device_allocate(device, room);
		cr_assert_not_null(p->target);
	} else if (pick(seed, 2) == 0 && room <= RING - *used) {
		p->job.target = ring + *used;
		*used += room;
	}
	memset(p->job.target, POISON, p->c.target_bytes);
}

static void check_and_release(struct placed *p, struct sd_device *device)
{
	if (p->job.target != p->c.job.target)
		memcpy(p->c.job.target, p->job.target, p->c.target_bytes);
	cr_assert(case_holds(&p->c), "%s", p->c.text);
	case_free(&p->c);
	sd_device_release(device, p->source);
	sd_device_release(device, p->target);
}

static void refused(struct sd_device *device)
{
	struct sd_job job = {.move = {.rank = 1, .dim = {{1, 1, 1}}}, .source_dtype = SD_U8, .target_dtype = SD_U8};
	uint64_t ticket;

	cr_assert_eq(device->ops->begin(device, &job, &ticket), SD_DEVICE_FAILED);
	cr_assert_not_null(strstr(device->failure, "leaves its buffers"), "%s", device->failure);
}

/* Any of the jobs that have been begun are awaited while others come, and what is done is looked at, and released, at
 * once; a job between them is refused. */
static void in_flight(struct sd_device *device, struct placed *placed, unsigned count, uint64_t *seed)
{
	uint64_t first = 0, ticket = 0;
	unsigned done = 0;

	for (unsigned begun = 0; done < count;) {
		if (begun < count && pick(seed, 3) > 0) {
			cr_assert_eq(device->ops->begin(device, &placed[begun].job, &ticket), SD_DEVICE_OK);
			first = begun == 0 ? ticket : first;
			cr_assert_eq(ticket, first + begun);
			begun++;
		} else if (begun > 0 && pick(seed, 10) == 0) {
			refused(device);
		} else if (begun > 0) {
			uint64_t until = pick(seed, begun);

			cr_assert_eq(device->ops->wait(device, first + until), SD_DEVICE_OK, "%s", device->failure);
			while (done <= until)
				check_and_release(&placed[done++], device);
		}
	}
}

/* A list of jobs, some times, of any shapes and in any memory. */
static void check_list(uint64_t seed, uint8_t *ring)
{
	uint64_t s = seed * 7919 + 1;
	struct sd_engine_sizes sizes = some_sizes(&s);
	struct mock *mock = mock_open(s, SIZE_MAX);
	struct sd_device *device = open_engine(mock, &sizes);
	struct placed placed[JOBS_MAX];
	struct sd_job jobs[JOBS_MAX];

	mock->pins = pick(&s, 4) > 0;
	sd_device_adopt(device, ring, RING);
	for (unsigned round = 0; round < 4; round++) {
		unsigned count = 1 + (unsigned)pick(&s, JOBS_MAX);
		size_t used = 0;

		for (unsigned i = 0; i < count; i++) {
			case_make(&placed[i].c, exact_random(&s), pick(&s, 5) == 0 ? 30000 : 1000);
			place_job(&placed[i], device, ring, &used, &s);
			jobs[i] = placed[i].job;
		}
		if (pick(&s, 2) == 0) {
			in_flight(device, placed, count, &s);
			continue;
		}
		cr_assert_eq(sd_device_run(device, jobs, count), SD_DEVICE_OK, "list %llu: %s",
			     (unsigned long long)seed, device->failure);
		cr_assert(mock_idle(mock));
		for (unsigned i = 0; i < count; i++)
			check_and_release(&placed[i], device);
	}
	device->ops->close(device);
}

static void check_lists(uint64_t first)
{
	uint8_t *ring = malloc(RING);

	cr_assert_not_null(ring);
	for (uint64_t seed = first; seed < first + LISTS; seed++)
		check_list(seed, ring);
	free(ring);
}

/* Three tests, so that they can run beside each other. */
Test(engine, lists_1)
{
	check_lists(0);
}

Test(engine, lists_2)
{
	check_lists(LISTS);
}

Test(engine, lists_3)
{
	check_lists(2 * LISTS);
}

static const struct sd_engine_sizes small = {.slice = 65536, .slice_least = 32768, .direct = 1, .run = 1};

static struct sd_job transpose(const void *source, void *target, uint64_t rows, uint64_t columns)
{
	return (struct sd_job){.source = source,
			       .target = target,
			       .source_count = rows * columns,
			       .target_count = rows * columns,
			       .move = {.rank = 2, .dim = {{columns, 1, rows}, {rows, columns, 1}}},
			       .source_dtype = SD_U16,
			       .target_dtype = SD_U16};
}

/* Large enough for dozens of slices, all of it where the device likes it: nothing goes through other memory. */
Test(engine, copies_overlap)
{
	enum { rows = 700, columns = 900, bytes = rows * columns * 2, room = (bytes + 63) / 64 * 64 };
	struct mock *mock = mock_open(5, SIZE_MAX);
	struct sd_device *device = open_engine(mock, &small);
	uint16_t *source = sd_device_allocate(device, room), *target = sd_device_allocate(device, room);
	struct sd_job job = transpose(source, target, rows, columns);
	uint8_t *want = malloc(bytes);
	uint64_t seed = 1;

	cr_assert(source && target && want);
	for (size_t i = 0; i < rows * columns; i++)
		source[i] = (uint16_t)exact_random(&seed);
	naive(&job, want);
	cr_assert_eq(sd_device_run(device, &job, 1), SD_DEVICE_OK, "%s", device->failure);
	cr_assert_eq(memcmp(target, want, bytes), 0);
	cr_assert_geq(mock->launches, 20);
	cr_assert_gt(mock->direct, mock->launches - 2, "one side of each slice is rows of a matrix");
	cr_assert_gt(mock->overlaps, mock->copies / 4, "%lu of %lu copies", mock->overlaps, mock->copies);
	/* A slice's grid, its source, its target. */
	cr_assert_leq(mock->copies, mock->launches * 3);
	sd_device_release(device, source);
	sd_device_release(device, target);
	free(want);
	device->ops->close(device);
}

/* Small jobs are one launch, and one copy each way. */
Test(engine, small_jobs_are_one_batch)
{
	enum { count = 40, rows = 5, columns = 7 };
	struct mock *mock = mock_open(6, SIZE_MAX);
	struct sd_device *device = open_engine(mock, &sd_engine_sizes);
	uint16_t source[count][rows * columns], target[count][rows * columns];
	struct sd_job jobs[count];

	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < rows * columns; k++)
			source[i][k] = (uint16_t)(i * 1000 + k);
		jobs[i] = transpose(source[i], target[i], rows, columns);
	}
	cr_assert_eq(sd_device_run(device, jobs, count), SD_DEVICE_OK, "%s", device->failure);
	cr_assert_eq(mock->launches, 1);
	cr_assert_eq(mock->copies, 2);
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < rows * columns; k++)
			cr_assert_eq(target[i][k % columns * rows + k / columns], source[i][k]);
	device->ops->close(device);
}

Test(engine, nothing_to_do)
{
	struct sd_device *device = open_engine(mock_open(7, SIZE_MAX), &small);
	struct sd_job job = transpose(NULL, NULL, 0, 5);

	cr_assert_eq(sd_device_run(device, NULL, 0), SD_DEVICE_OK);
	cr_assert_eq(sd_device_run(device, &job, 1), SD_DEVICE_OK);
	device->ops->close(device);
}

/* With less memory the slices are smaller; with too little, somebody else has to do it. */
Test(engine, little_memory)
{
	bool closed = false;
	struct sd_device *device;
	struct mock *mock = mock_open(8, 8 * 40000);
	struct case_ c;

	device = open_engine(mock, &small);
	cr_assert_leq(mock->memory, 8 * 40000 - 8 * 32768);
	case_make(&c, 11, 100000);
	cr_assert_eq(sd_device_run(device, &c.job, 1), SD_DEVICE_OK);
	cr_assert(case_holds(&c), "%s", c.text);
	case_free(&c);
	device->ops->close(device);

	mock = mock_open(9, 8 * 30000);
	mock->closed = &closed;
	cr_assert_eq(sd_engine_open(&mock->gpu, &small, &device), SD_DEVICE_NOMEM);
	cr_assert_null(device);
	cr_assert(closed);
}

/* Whatever fails, and whenever: it is told with the GPU's words, and nobody writes into the caller's memory any more.
 */
Test(engine, failures)
{
	unsigned failed = 0;

	for (long calls = 0; calls < 200; calls++) {
		struct mock *mock = mock_open((uint64_t)calls, SIZE_MAX);
		struct sd_device *device = open_engine(mock, &small);
		enum sd_device_result result;
		struct case_ c;

		case_make(&c, 20, 100000);
		mock->failing = calls;
		result = sd_device_run(device, &c.job, 1);
		cr_assert(mock_idle(mock));
		if (result == SD_DEVICE_OK) {
			cr_assert(case_holds(&c));
		} else {
			cr_assert_eq(result, SD_DEVICE_FAILED);
			cr_assert_not_null(strstr(device->failure, "a failure that was asked for"), "%s",
					   device->failure);
			failed++;
		}
		case_free(&c);
		device->ops->close(device);
	}
	cr_assert(failed > 20 && failed < 200, "%u", failed);
}

/* The same where several jobs are on their way: those that were done stay done, all others are told to have failed. */
Test(engine, failures_in_flight)
{
	enum { count = 6 };
	unsigned broken = 0;

	for (long calls = 0; calls < 150; calls++) {
		struct mock *mock = mock_open((uint64_t)calls, SIZE_MAX);
		struct sd_device *device = open_engine(mock, &small);
		struct case_ c[count];
		uint64_t ticket[count];
		unsigned begun = 0, done = 0;

		for (unsigned i = 0; i < count; i++)
			case_make(&c[i], 30 + i, 30000);
		mock->failing = calls;
		while (begun < count && device->ops->begin(device, &c[begun].job, &ticket[begun]) == SD_DEVICE_OK)
			begun++;
		while (done < begun && device->ops->wait(device, ticket[done]) == SD_DEVICE_OK)
			cr_assert(case_holds(&c[done++]));
		for (unsigned i = 0; i < begun; i++)
			cr_assert_eq(device->ops->wait(device, ticket[i]), i < done ? SD_DEVICE_OK : SD_DEVICE_FAILED);
		if (done < count) {
			cr_assert(mock_idle(mock));
			cr_assert_not_null(strstr(device->failure, "a failure that was asked for"));
			cr_assert_eq(device->ops->begin(device, &c[0].job, &ticket[0]), SD_DEVICE_FAILED);
			broken++;
		}
		for (unsigned i = 0; i < count; i++)
			case_free(&c[i]);
		device->ops->close(device);
	}
	cr_assert(broken > 20 && broken < 150, "%u", broken);
}

/* Nobody waits for what is on its way. */
Test(engine, closed_in_flight)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct sd_device *device = open_engine(mock_open(seed, SIZE_MAX), &small);
		struct case_ c[5];
		uint64_t ticket;

		for (unsigned i = 0; i < 5; i++) {
			case_make(&c[i], seed * 5 + i, 30000);
			cr_assert_eq(device->ops->begin(device, &c[i].job, &ticket), SD_DEVICE_OK);
		}
		device->ops->close(device);
		for (unsigned i = 0; i < 5; i++)
			case_free(&c[i]);
	}
}

/* A job that cannot be is refused like by any device, also behind others that are on their way. */
Test(engine, a_bad_job_behind_good_ones)
{
	struct mock *mock = mock_open(10, SIZE_MAX);
	struct sd_device *device = open_engine(mock, &small);
	struct sd_job jobs[2];
	struct case_ c;

	case_make(&c, 21, 200000);
	jobs[0] = jobs[1] = c.job;
	jobs[1].source_count = 0;
	cr_assert_eq(sd_device_run(device, jobs, 2), SD_DEVICE_FAILED);
	cr_assert_not_null(strstr(device->failure, "leaves its buffers"), "%s", device->failure);
	cr_assert(mock_idle(mock));
	case_free(&c);
	device->ops->close(device);
}

/* Memory that cannot be pinned goes through other memory, and only once the device is asked for memory that it has. */
Test(engine, memory_to_work_in)
{
	struct mock *mock = mock_open(12, SIZE_MAX);
	struct sd_device *device = open_engine(mock, &small);
	unsigned blocks = mock->blocks;
	uint8_t *adopted = malloc(1000);
	void *memory = sd_device_allocate(device, 640), *many[20];

	cr_assert_not_null(memory);
	cr_assert_eq(mock->blocks, blocks + 1);
	sd_device_adopt(device, adopted, 1000);
	sd_device_adopt(device, adopted, 1000);
	cr_assert_eq(mock->blocks, blocks + 2);
	sd_device_release(device, memory);
	cr_assert_eq(mock->blocks, blocks + 1);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_not_null(many[i] = sd_device_allocate(device, 64));
	for (unsigned i = 0; i < 20; i++)
		sd_device_release(device, many[i]);
	cr_assert_eq(mock->blocks, blocks + 1);
	device->ops->close(device);
	free(adopted);
}
