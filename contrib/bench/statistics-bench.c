/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast one core counts numbers, beside a sum of the same bytes from memory: the seconds of both, and of their
 * ratios in rounds that take turns the median, the lowest and the highest. Built and run by contrib/bench/run.
 *     statistics-bench [ROUNDS]
 */
#include "move/statistics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BYTES ((size_t)256 << 20)
#define ROUNDS_MOST 99

/* Of this thread: whatever else runs on the machine. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double sum(const uint8_t *data)
{
	double begin = now();
	uint64_t all = 0;

	for (size_t i = 0; i < BYTES; i += sizeof(all)) {
		uint64_t word;

		memcpy(&word, data + i, sizeof(word));
		all += word;
	}
	__asm__ volatile("" : : "r"(all));
	return now() - begin;
}

static double count(const struct sd_statistics_kind *kind, const uint8_t *data)
{
	const size_t run = (size_t)SD_STATISTICS_RUN * sd_dtype_bits(kind->dtype) / 8;
	static double scratch[SD_STATISTICS_RUN];
	struct sd_statistics all = {0}, s;
	double begin = now();

	for (size_t i = 0; i + run <= BYTES; i += run) {
		sd_statistics_count(kind, data + i, SD_STATISTICS_RUN, scratch, &s);
		sd_statistics_join(&all, &s, i);
	}
	__asm__ volatile("" : : "r"(&all) : "memory");
	return now() - begin;
}

/* Numbers of an ordinary size, of either sign. */
static void fill(enum sd_dtype dtype, uint8_t *data)
{
	uint64_t state = 88172645463325252, keep = 0x83ff83ff83ff83ff, set = 0x3000300030003000;

	if (sd_dtype_bits(dtype) == 8)
		keep = 0x8f8f8f8f8f8f8f8f, set = 0x3030303030303030;
	else if (sd_dtype_bits(dtype) == 32)
		keep = 0x83ffffff83ffffff, set = 0x3800000038000000;
	else if (sd_dtype_bits(dtype) == 64)
		keep = 0x801fffffffffffff, set = 0x3f00000000000000;
	for (size_t i = 0; i < BYTES; i += sizeof(state)) {
		uint64_t word;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		word = (state & keep) | set;
		memcpy(data + i, &word, sizeof(word));
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static const enum sd_dtype dtypes[] = {SD_BF16, SD_F16, SD_F32, SD_F64, SD_F8_E4M3, SD_F8_E5M2,
					       SD_I8,   SD_U8,  SD_I32, SD_F4,  SD_F6_E2M3, SD_F6_E3M2};
	int rounds = argc > 1 ? atoi(argv[1]) : 7;
	uint8_t *data = malloc(BYTES);

	if (rounds < 1 || rounds > ROUNDS_MOST || !data) {
		fprintf(stderr, "usage: statistics-bench [ROUNDS]\n");
		return 2;
	}
	for (size_t d = 0; d < sizeof(dtypes) / sizeof(*dtypes); d++) {
		double ours[ROUNDS_MOST], peer[ROUNDS_MOST], ratio[ROUNDS_MOST];
		struct sd_statistics_kind kind;

		sd_statistics_kind_of(dtypes[d], &kind);
		fill(dtypes[d], data);
		for (int i = 0; i < rounds; i++) {
			peer[i] = sum(data);
			ours[i] = count(&kind, data);
			ratio[i] = peer[i] / ours[i];
		}
		qsort(ours, (size_t)rounds, sizeof(*ours), by_size);
		qsort(peer, (size_t)rounds, sizeof(*peer), by_size);
		qsort(ratio, (size_t)rounds, sizeof(*ratio), by_size);
		printf("%s %.3f %.3f %.2f %.2f-%.2f\n", sd_dtype_name(dtypes[d]), ours[rounds / 2], peer[rounds / 2],
		       ratio[rounds / 2], ratio[0], ratio[rounds - 1]);
	}
	free(data);
	return 0;
}
