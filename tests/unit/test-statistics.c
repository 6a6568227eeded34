/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics: whatever the threads, the pieces in which data comes, and the instruction set, not a bit of them changes;
 * and their error is that of F64.
 */
#include "flow/counting.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t state;
static double scratch[SD_STATISTICS_RUN];

static uint64_t number(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* How the data of a record comes. */
enum way { MEMORY, FILE_AT, PIPE };

/* Three tensors: experts in one, with rows of zeros; a matrix; and a vector of any length. */
static struct sd_manifest *manifest_of(enum sd_dtype dtype)
{
	struct sd_manifest *m = sd_manifest_new();

	cr_assert(m);
	cr_assert(sd_manifest_add_tensor(m, "mlp.experts.down_proj", dtype, (const uint64_t[]){5, 24, 300}, 3));
	cr_assert(sd_manifest_add_tensor(m, "w", dtype, (const uint64_t[]){40, 9000}, 2));
	cr_assert(sd_manifest_add_tensor(m, "v", dtype, (const uint64_t[]){4096 * 3 + 8}, 1));
	return m;
}

static unsigned char *data_of(const struct sd_record *r, enum sd_dtype dtype)
{
	unsigned char *data = malloc(r->bytes + 8);
	uint64_t row = r->rank > 1 ? r->shape[r->rank - 1] * sd_dtype_bits(dtype) / 8 : r->bytes;

	cr_assert(data);
	for (uint64_t i = 0; i < r->bytes; i++)
		data[i] = (unsigned char)(number() >> 40);
	for (uint64_t i = 0; r->rank > 1 && i < r->bytes / row; i += 3)
		memset(data + i * row, 0, row);
	return data;
}

static int file_of(const unsigned char *data, size_t length)
{
	int fd = memfd_create("data", 0);

	cr_assert(fd >= 0 && pwrite(fd, data, length, 0) == (ssize_t)length);
	return fd;
}

/* Gives a record in pieces of odd lengths, most of them up to most bytes. */
static void give(struct sd_counting *c, uint32_t record, const unsigned char *data, size_t length, enum way way,
		 size_t most)
{
	struct sd_error err;
	int fd = way == MEMORY ? -1 : file_of(data, length), ends[2];

	for (size_t i = 0, n; i < length; i += n) {
		struct sd_extent extent;

		n = number() % most + 1;
		n = n < length - i ? n : length - i;
		extent = (struct sd_extent){.length = n, .memory = data + i, .fd = -1};
		if (way == FILE_AT)
			extent = (struct sd_extent){.length = n, .fd = fd, .offset = (off_t)i};
		if (way == PIPE) {
			n = n < 60000 ? n : 60000;
			cr_assert(pipe(ends) == 0 && write(ends[1], data + i, n) == (ssize_t)n);
			extent = (struct sd_extent){.length = n, .fd = ends[0], .offset = -1};
		}
		cr_assert_eq(c->sink.ops->data(&c->sink, record, &extent, &err), SD_OK);
		cr_assert_eq(extent.length, 0);
		if (way == PIPE) {
			close(ends[0]);
			close(ends[1]);
		}
	}
	if (fd >= 0)
		close(fd);
}

static struct sd_counting *count(const struct sd_manifest *m, unsigned char *const *data, unsigned threads,
				 enum way way, size_t most)
{
	struct sd_counting *c = sd_counting_new(threads);
	struct sd_error err;

	cr_assert(c);
	cr_assert_eq(c->sink.ops->begin(&c->sink, m, &err), SD_OK);
	for (uint32_t i = 0; i < m->nrecords; i++)
		give(c, i, data[i], m->records[i].bytes, way, most);
	cr_assert_eq(c->sink.ops->end(&c->sink, &err), SD_OK);
	cr_assert_eq(c->ntensors, m->nrecords);
	return c;
}

static void assert_same(const struct sd_counting *a, const struct sd_counting *b)
{
	for (size_t i = 0; i < a->ntensors; i++) {
		const struct sd_counted *x = &a->tensors[i], *y = &b->tensors[i];

		cr_assert(memcmp(&x->all, &y->all, sizeof(x->all)) == 0, "%s", x->name);
		cr_assert(x->rows == y->rows && x->dead == y->dead && x->first_dead == y->first_dead);
		cr_assert_eq(x->nexperts, y->nexperts);
		for (uint64_t k = 0; k < x->nexperts; k++)
			cr_assert(memcmp(&x->expert[k], &y->expert[k], sizeof(x->all)) == 0);
	}
}

Test(statistics, do_not_depend_on_threads_or_pieces)
{
	for (int dtype = SD_NO_DTYPE + 1; dtype < SD_DTYPES; dtype++) {
		struct sd_manifest *m = manifest_of((enum sd_dtype)dtype);
		struct sd_counting *once, *plain;
		unsigned char *data[3];

		state = 0x9e3779b97f4a7c15 + (uint64_t)dtype;
		for (uint32_t i = 0; i < 3; i++)
			data[i] = data_of(&m->records[i], (enum sd_dtype)dtype);
		once = count(m, data, 1, MEMORY, SIZE_MAX);
		cr_assert_eq(once->tensors[0].nexperts, 5);
		if (sd_dtype_is_float((enum sd_dtype)dtype)) {
			/* E8M0 has no zero: its zero bytes are numbers. */
			cr_assert_eq(once->tensors[0].dead, dtype == SD_F8_E8M0 ? 0 : 40);
			cr_assert_eq(once->tensors[1].dead, dtype == SD_F8_E8M0 ? 0 : 14);
			cr_assert_eq(once->tensors[1].first_dead, 0);
		}
		for (unsigned threads = 1; threads <= 8; threads++) {
			const size_t most[] = {700, 20000, 3000000};
			struct sd_counting *again = count(m, data, threads, (enum way)(threads % 3), most[threads / 3]);

			assert_same(once, again);
			again->sink.ops->close(&again->sink);
		}
		setenv("SD_KERNELS", "plain", 1);
		plain = count(m, data, 2, MEMORY, 50000);
		unsetenv("SD_KERNELS");
		assert_same(once, plain);
		plain->sink.ops->close(&plain->sink);
		once->sink.ops->close(&once->sink);
		for (uint32_t i = 0; i < 3; i++)
			free(data[i]);
		sd_manifest_free(m);
	}
}

/* What one number after the other makes, all in F64 or better. */
static struct sd_statistics slowly(const struct sd_statistics_kind *kind, const unsigned char *codes, size_t count)
{
	struct sd_statistics s = {.min = INFINITY, .max = -INFINITY, .first_nan = 0, .first_inf = 0};
	static double values[SD_STATISTICS_RUN];
	long double sum = 0, squares = 0;

	sd_statistics_values(kind, codes, count, values);
	for (size_t i = count; i-- > 0;) {
		double v = values[i];

		s.nan += isnan(v);
		s.inf += isinf(v) != 0;
		s.first_nan = isnan(v) ? i : s.first_nan;
		s.first_inf = isinf(v) ? i : s.first_inf;
		if (!isfinite(v))
			continue;
		s.finite++;
		s.zeros += v == 0;
		s.min = v < s.min ? v : s.min;
		s.max = v > s.max ? v : s.max;
		sum += v;
		squares += (long double)v * v;
	}
	s.sum = (double)sum;
	s.mean = (double)(sum / s.finite);
	s.m2 = (double)(squares - sum * sum / s.finite);
	return s;
}

static void assert_near(double a, double b, double size)
{
	cr_assert(fabs(a - b) <= 1e-12 * size, "%.17g %.17g", a, b);
}

static void assert_counted(const struct sd_statistics_kind *kind, const unsigned char *codes, size_t count)
{
	struct sd_statistics want = slowly(kind, codes, count), s;
	double largest = fmax(fabs(want.min), fabs(want.max));

	sd_statistics_count(kind, codes, count, scratch, &s);
	cr_assert(s.finite == want.finite && s.zeros == want.zeros && s.nan == want.nan && s.inf == want.inf,
		  "%s of %zu", sd_dtype_name(kind->dtype), count);
	cr_assert(s.first_nan == want.first_nan && s.first_inf == want.first_inf);
	if (!s.finite)
		return;
	cr_assert(s.min == want.min && s.max == want.max, "%s of %zu", sd_dtype_name(kind->dtype), count);
	assert_near(s.mean, want.mean, largest);
	assert_near(s.m2, want.m2, largest * largest * (double)count);
}

/* Runs of any length that begin anywhere, of all codes, and of such that are numbers but for one. */
Test(statistics, of_small_codes_are_those_of_their_numbers)
{
	static unsigned char codes[SD_STATISTICS_RUN];

	state = 0x2545f4914f6cdd1d;
	for (int dtype = SD_NO_DTYPE + 1; dtype < SD_DTYPES; dtype++) {
		unsigned bits = sd_dtype_bits((enum sd_dtype)dtype);
		struct sd_statistics_kind kind, plain;

		if (bits > 8)
			continue;
		sd_statistics_kind_of((enum sd_dtype)dtype, &kind);
		setenv("SD_KERNELS", "plain", 1);
		sd_statistics_kind_of((enum sd_dtype)dtype, &plain);
		unsetenv("SD_KERNELS");
		for (int i = 0; i < 1500; i++) {
			size_t count = i < 200 ? (size_t)i : 1 + number() % SD_STATISTICS_RUN;
			unsigned char *end = codes + sizeof(codes) - (count * bits + 7) / 8;
			unsigned char keep = i % 3 ? (unsigned char)(number() >> 30) : 0xff;

			for (unsigned char *at = end; at < codes + sizeof(codes); at++)
				*at = keep & (unsigned char)(number() >> 40);
			if (i % 3 == 1 && count)
				end[number() % ((count * bits + 7) / 8)] = 0xff;
			assert_counted(&kind, end, count);
			assert_counted(&plain, end, count);
		}
	}
}

/* All codes of dtypes of 8 bits, and of 16, one at a time: what a number is does not depend on its place. */
Test(statistics, one_by_one_is_all_together)
{
	static const enum sd_dtype dtypes[] = {SD_BF16, SD_F16, SD_U16, SD_I16};

	for (size_t d = 0; d < 4; d++) {
		struct sd_statistics sum = {0}, whole = {0};
		struct sd_statistics_kind kind;

		sd_statistics_kind_of(dtypes[d], &kind);
		for (uint32_t begin = 0; begin < 65536; begin += SD_STATISTICS_RUN) {
			uint16_t codes[SD_STATISTICS_RUN];
			struct sd_statistics s;

			for (uint32_t i = 0; i < SD_STATISTICS_RUN; i++) {
				codes[i] = (uint16_t)(begin + i);
				sd_statistics_count(&kind, &codes[i], 1, scratch, &s);
				sd_statistics_join(&sum, &s, begin + i);
			}
			sd_statistics_count(&kind, codes, SD_STATISTICS_RUN, scratch, &s);
			sd_statistics_join(&whole, &s, begin);
		}
		cr_assert_eq(sum.finite, whole.finite);
		cr_assert(sum.zeros == whole.zeros && sum.nan == whole.nan && sum.inf == whole.inf);
		cr_assert(sum.first_nan == whole.first_nan && sum.first_inf == whole.first_inf);
		cr_assert(sum.min == whole.min && sum.max == whole.max);
		cr_assert(fabs(sum.m2 - whole.m2) <= 1e-10 * whole.m2);
	}
}

/* The error of a sum of F64, in long runs of numbers whose sum and deviation are known. */
Test(statistics, are_exact_where_f64_is)
{
	/* (+1, -1) * 2^-20 around 1000: what squares and sums would lose of it is nearly everything. */
	float near[SD_STATISTICS_RUN];
	double far[SD_STATISTICS_RUN];
	struct sd_statistics all = {0}, s;
	struct sd_statistics_kind f32, f64;

	sd_statistics_kind_of(SD_F32, &f32);
	sd_statistics_kind_of(SD_F64, &f64);
	for (size_t i = 0; i < SD_STATISTICS_RUN; i++) {
		near[i] = i % 2 ? 1000.0f + 0x1p-10f : 1000.0f - 0x1p-10f;
		far[i] = i % 2 ? 1e9 + 0x1p-20 : 1e9 - 0x1p-20;
	}
	for (uint64_t i = 0; i < 1000; i++) {
		sd_statistics_count(&f32, near, SD_STATISTICS_RUN, scratch, &s);
		sd_statistics_join(&all, &s, i * SD_STATISTICS_RUN);
	}
	cr_assert_eq(sd_statistics_mean(&all), 1000);
	cr_assert_eq(sd_statistics_std(&all), 0x1p-10);
	all = (struct sd_statistics){0};
	for (uint64_t i = 0; i < 1000; i++) {
		sd_statistics_count(&f64, far, SD_STATISTICS_RUN, scratch, &s);
		sd_statistics_join(&all, &s, i * SD_STATISTICS_RUN);
	}
	cr_assert(fabs(sd_statistics_mean(&all) - 1e9) <= 1e9 * 0x1p-52);
	cr_assert(fabs(sd_statistics_std(&all) - 0x1p-20) <= 0x1p-20 * 1e-9);
}
