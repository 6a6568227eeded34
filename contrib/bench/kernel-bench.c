/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the CPU device turns matrices, as a fraction of memcpy over the same bytes, and of a copy past the caches,
 * with the same number of threads:
 *     make -C BUILD contrib/bench/kernel-bench && BUILD/contrib/bench/kernel-bench [THREADS [REPEATS [ELEMENTS]]]
 * ELEMENTS picks a line by the beginning of its name. Each matrix is a job of its own, and as many are on
 * their way at a time as with sd-transpose.
 * Medians of rounds, in each of which all three take their turn.
 */
#include "move/convert.h"
#include "move/device.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define COUNT 256 /* matrices in the array; what does not fit memory is gone over again */
#define ROOM (1ULL << 28)
#define SCALES (2U << 17) /* bytes: of two, for 32 elements each of 4 Mi */

struct shape {
	uint64_t rows, columns;
	bool kept; /* not turned: what remains is the cast */
};

struct kind {
	const char *name;
	uint8_t from, to, scale; /* scale SD_NO_DTYPE: none */
	uint64_t down, across;   /* a scale's block; across 0: a whole row */
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

/* A copy whose lines go past the caches; bytes is a multiple of a line, and target begins one. */
static void stream(uint8_t *target, const uint8_t *source, size_t bytes)
{
#ifdef __SSE2__
	for (size_t i = 0; i < bytes; i += sizeof(__m128i))
		_mm_stream_si128((__m128i *)(void *)(target + i),
				 _mm_loadu_si128((const __m128i *)(const void *)(source + i)));
	_mm_sfence();
#else
	memcpy(target, source, bytes);
#endif
}

static void copy_whole(uint8_t *target, const uint8_t *source, size_t bytes)
{
	memcpy(target, source, bytes);
}

struct copy {
	void (*with)(uint8_t *target, const uint8_t *source, size_t bytes);
	uint8_t *target;
	const uint8_t *source;
	size_t bytes, matrix;
};

static void *copy_part(void *arg)
{
	struct copy *copy = arg;

	for (size_t at = 0; at < copy->bytes; at += copy->matrix)
		copy->with(copy->target + at, copy->source + at, copy->matrix);
	return NULL;
}

/* A copy, a matrix at a time, on as many threads. */
static double time_copy(void (*with)(uint8_t *, const uint8_t *, size_t), uint8_t *target, const uint8_t *source,
			size_t matrix, size_t count, unsigned threads)
{
	pthread_t thread[64];
	struct copy part[64];
	double begin = now();

	for (unsigned t = 0; t < threads; t++) {
		size_t first = count * t / threads, end = count * (t + 1) / threads;

		part[t] = (struct copy){with, target + first * matrix, source + first * matrix, (end - first) * matrix,
					matrix};
		if (t > 0)
			pthread_create(&thread[t], NULL, copy_part, &part[t]);
	}
	copy_part(&part[0]);
	for (unsigned t = 1; t < threads; t++)
		pthread_join(thread[t], NULL);
	return now() - begin;
}

static void must(const struct sd_device *device, enum sd_device_result result)
{
	if (result == SD_DEVICE_OK)
		return;
	fprintf(stderr, "kernel-bench: %s\n", device->failure);
	exit(1);
}

/* Each matrix is a job of its own, and as many are on their way as sd-transpose has. */
static double time_turn(struct sd_device *device, uint8_t *target, const uint8_t *source, struct shape shape,
			const struct kind *kind, const void *scales, size_t count)
{
	uint64_t elements = shape.rows * shape.columns, ticket = 0;
	double begin = now();

	for (size_t i = 0; i < count; i++) {
		struct sd_job job = {
			.source = source + i * sd_element_bytes(kind->from, elements),
			.target = target + i * elements * sd_dtype_size(kind->to),
			.source_count = elements,
			.target_count = elements,
			.move = {.rank = 2,
				 .dim = {{shape.columns, 1, shape.kept ? 1 : shape.rows},
					 {shape.rows, shape.columns, shape.kept ? shape.columns : 1}}},
			.source_dtype = kind->from,
			.target_dtype = kind->to,
		};

		if (kind->scale != SD_NO_DTYPE) {
			uint64_t across = kind->across ? kind->across : shape.columns;

			job.scale.data = scales;
			job.scale.dtype = kind->scale;
			job.scale.dim[0].block = across;
			job.scale.dim[0].stride = 1;
			job.scale.dim[1].block = kind->down;
			job.scale.dim[1].stride = (shape.columns + across - 1) / across;
		}
		must(device, device->ops->begin(device, &job, &ticket));
		if (ticket + 1 >= device->ahead)
			must(device, device->ops->wait(device, ticket + 1 - device->ahead));
	}
	must(device, device->ops->wait(device, ticket));
	return now() - begin;
}

int main(int argc, char **argv)
{
	static const struct shape shapes[] = {{1024, 2048, false}, {2048, 512, false}, {1024, 2048, true}};
	static const struct kind kinds[] = {
		{"1 byte", SD_U8, SD_U8, SD_NO_DTYPE, 0, 0},
		{"2 bytes", SD_BF16, SD_BF16, SD_NO_DTYPE, 0, 0},
		{"4 bytes", SD_F32, SD_F32, SD_NO_DTYPE, 0, 0},
		{"8 bytes", SD_F64, SD_F64, SD_NO_DTYPE, 0, 0},
		{"F32 to BF16", SD_F32, SD_BF16, SD_NO_DTYPE, 0, 0},
		{"BF16 to F32", SD_BF16, SD_F32, SD_NO_DTYPE, 0, 0},
		{"F16 to BF16", SD_F16, SD_BF16, SD_NO_DTYPE, 0, 0},
		/* F8 with a scale for a block, a row, and 32 in a row. */
		{"F8, blocks, to BF16", SD_F8_E4M3, SD_BF16, SD_F32, 128, 128},
		{"F8, rows, to BF16", SD_F8_E4M3, SD_BF16, SD_F32, 1, 0},
		{"F8, 32s, to BF16", SD_F8_E4M3, SD_BF16, SD_E8M0, 1, 32},
		{"F8, blocks, to F16", SD_F8_E4M3, SD_F16, SD_F32, 128, 128},
		{"F8, blocks, to F32", SD_F8_E4M3, SD_F32, SD_F32, 128, 128},
		/* Codes of 4 bits with a scale for 32 in a row. */
		{"E2M1, 32s, to BF16", SD_E2M1, SD_BF16, SD_E8M0, 1, 32},
		{"INT4, 32s, to BF16", SD_INT4, SD_BF16, SD_BF16, 1, 32},
	};
	unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
	int repeats = argc > 2 ? atoi(argv[2]) : 9;
	uint8_t *source = aligned_alloc(4096, ROOM), *target = aligned_alloc(4096, ROOM);
	uint8_t *scales = malloc(SCALES);
	const char *only = argc > 3 ? argv[3] : "";
	struct sd_device *device;

	if (threads < 1 || threads > 64 || repeats < 1 || repeats > 99 || !source || !target || !scales ||
	    sd_device_open_cpu(threads, &device) != SD_DEVICE_OK) {
		fprintf(stderr, "usage: kernel-bench [THREADS [REPEATS [ELEMENTS]]]\n");
		return 2;
	}
	/* Numbers of an ordinary size. */
	for (size_t i = 0; i < ROOM; i++)
		source[i] = (uint8_t)(0x30 + (i * 2654435761U >> 24) % 16);
	memset(target, 1, ROOM);
	memset(scales, 0x3d, SCALES); /* numbers of an ordinary size in every dtype, but for E8M0 */
	printf("%s; GB/s is bytes read and written; median of %d rounds\n", device->name, repeats);
	printf("%-22s %-16s %12s %12s %12s %10s %10s\n", "elements", "matrix", "memcpy GB/s", "stream GB/s",
	       "turned GB/s", ": memcpy", ": stream");
	for (size_t s = 0; s < sizeof(shapes) / sizeof(*shapes); s++)
		for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
			uint64_t elements = shapes[s].rows * shapes[s].columns;
			size_t in = sd_element_bytes(kinds[k].from, elements),
			       out = elements * sd_dtype_size(kinds[k].to), count = ROOM / (in > out ? in : out);
			double copies[99], streams[99], turns[99], moved;
			char name[32];

			if (strncmp(kinds[k].name, only, strlen(only)) != 0)
				continue;
			count = count < COUNT ? count : COUNT;
			moved = (double)(count * (in + out));
			/* memcpy of as many bytes in all: the mean of what is read and what is written. */
			for (int r = 0; r < repeats; r++) {
				copies[r] = time_copy(copy_whole, target, source, (in + out) / 2, count, threads);
				streams[r] = time_copy(stream, target, source, (in + out) / 2, count, threads);
				turns[r] = time_turn(device, target, source, shapes[s], &kinds[k], scales, count);
			}
			qsort(copies, (size_t)repeats, sizeof(*copies), by_value);
			qsort(streams, (size_t)repeats, sizeof(*streams), by_value);
			qsort(turns, (size_t)repeats, sizeof(*turns), by_value);
			snprintf(name, sizeof(name), "%u x %u%s", (unsigned)shapes[s].rows, (unsigned)shapes[s].columns,
				 shapes[s].kept ? " kept" : "");
			printf("%-22s %-16s %12.2f %12.2f %12.2f %10.2f %10.2f\n", kinds[k].name, name,
			       moved / copies[repeats / 2] * 1e-9, moved / streams[repeats / 2] * 1e-9,
			       moved / turns[repeats / 2] * 1e-9, copies[repeats / 2] / turns[repeats / 2],
			       streams[repeats / 2] / turns[repeats / 2]);
		}
	device->ops->close(device);
	free(source);
	free(target);
	free(scales);
	return 0;
}
