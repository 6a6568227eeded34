/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing numbers, and tensors that are read in any order. tests/diff-reference compares with numpy. */
#include "formats/extents.h"
#include "move/compare.h"
#include "flow/view.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- steps ---- */

/* The next number above, found by looking at all codes; NaN: there is none. */
static double next_above(const double *numbers, size_t n, double x)
{
	double next = NAN;

	for (size_t i = 0; i < n; i++)
		if (numbers[i] > x && !(numbers[i] >= next))
			next = numbers[i];
	return next;
}

/* Every pair of codes of 8 bits and less, against walking from one number to the other. */
Test(compare, steps_of_small_dtypes)
{
	for (int dtype = SD_NO_DTYPE + 1; dtype < SD_DTYPES; dtype++) {
		unsigned bits = sd_number_bits((enum sd_dtype)dtype), n = 1u << (bits < 9 ? bits : 0);
		double numbers[256];

		if (bits > 8)
			continue;
		for (unsigned i = 0; i < n; i++)
			numbers[i] = sd_number_of_code((enum sd_dtype)dtype, i);
		for (unsigned a = 0; a < n; a++) {
			double at = numbers[a];

			for (uint64_t steps = 0; !isnan(at); steps++, at = next_above(numbers, n, at))
				for (unsigned b = 0; b < n; b++)
					if (numbers[b] == at)
						cr_assert_eq(sd_number_steps((enum sd_dtype)dtype, a, b), steps,
							     "%s %u %u", sd_dtype_name((enum sd_dtype)dtype), a, b);
			for (unsigned b = 0; b < n; b++)
				if (a != b && (isnan(numbers[a]) || isnan(numbers[b])))
					cr_assert_eq(sd_number_steps((enum sd_dtype)dtype, a, b), UINT64_MAX);
		}
	}
}

static int by_number(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Every code of 16 bits and a random other one, by their places among all numbers. */
Test(compare, steps_of_16_bits)
{
	static const enum sd_dtype dtypes[] = {SD_BF16, SD_F16, SD_I16, SD_U16};
	static double sorted[65536];

	srandom(3);
	for (size_t k = 0; k < 4; k++) {
		size_t n = 0, distinct = 0;

		for (unsigned i = 0; i < 65536; i++) {
			double x = sd_number_of_code(dtypes[k], i);

			if (!isnan(x))
				sorted[n++] = x + 0.0;
		}
		qsort(sorted, n, sizeof(*sorted), by_number);
		for (size_t i = 0; i < n; i++)
			if (!distinct || sorted[i] != sorted[distinct - 1])
				sorted[distinct++] = sorted[i];
		for (unsigned a = 0; a < 65536; a++) {
			unsigned b = (unsigned)random() % 65536;
			double x = sd_number_of_code(dtypes[k], a) + 0.0, y = sd_number_of_code(dtypes[k], b) + 0.0;
			const double *at_x = bsearch(&x, sorted, distinct, sizeof(*sorted), by_number);
			const double *at_y = bsearch(&y, sorted, distinct, sizeof(*sorted), by_number);

			if (isnan(x) || isnan(y) || a == b)
				continue;
			cr_assert_eq(sd_number_steps(dtypes[k], a, b), (uint64_t)llabs(at_x - at_y), "%s %u %u",
				     sd_dtype_name(dtypes[k]), a, b);
		}
	}
}

/* ---- blocks ---- */

/* What is found in runs that are added is what is found in one, and what a plain loop finds. */
Test(compare, runs_add_up)
{
	static const struct sd_tolerance none;
	static uint16_t a[5000], b[5000];
	struct sd_comparison c;
	struct sd_difference whole, parts, part;
	double dd = 0, max = 0;
	uint64_t differ = 0;

	srandom(5);
	for (size_t i = 0; i < 5000; i++) {
		a[i] = (uint16_t)(0x3b00 + random() % 512);
		b[i] = random() % 3 ? a[i] : (uint16_t)(a[i] ^ 0x8001);
	}
	for (size_t i = 0; i < 5000; i++) {
		double x = sd_number_of_code(SD_BF16, a[i]), y = sd_number_of_code(SD_BF16, b[i]);

		differ += a[i] != b[i];
		dd += (y - x) * (y - x);
		max = fabs(y - x) > max ? fabs(y - x) : max;
	}
	sd_comparison_begin(&c, &none, SD_BF16, SD_BF16);
	sd_difference_begin(&whole);
	sd_compare(&c, a, b, 0, 5000, &whole);
	sd_difference_begin(&parts);
	for (size_t at = 0; at < 5000; at += 777) {
		size_t n = 5000 - at < 777 ? 5000 - at : 777;

		sd_difference_begin(&part);
		sd_compare(&c, a + at, b + at, at, n, &part);
		sd_difference_add(&parts, &part);
	}
	/* The same bits without vectors. */
	c.avx2 = false;
	sd_difference_begin(&part);
	sd_compare(&c, a, b, 0, 5000, &part);
	cr_assert_eq(memcmp(&part, &whole, sizeof(part)), 0);
	cr_assert_eq(whole.differ, differ);
	cr_assert_eq(parts.differ, differ);
	cr_assert_eq(whole.numbers, 5000u);
	cr_assert_eq(parts.numbers, 5000u);
	cr_assert_eq(whole.max, max);
	cr_assert_eq(parts.at, whole.at);
	cr_assert_eq(parts.first, whole.first);
	cr_assert_float_eq(whole.dd, dd, 1e-9 * dd);
	cr_assert_float_eq(parts.dd, dd, 1e-9 * dd);
}

/* ---- views ---- */

#define ROWS 37
#define COLUMNS 53

static char path[] = "/tmp/sd-test-compare.XXXXXX";

/* A file of ROWS * COLUMNS numbers of two bytes, each its own place, as the one tensor of a source. */
static struct sd_source *new_source(void)
{
	static const uint64_t shape[] = {ROWS, COLUMNS};
	static uint16_t data[ROWS * COLUMNS];
	const struct sd_record record = {.key = "w", .shape = shape, .rank = 2, .dtype = SD_U16, .bytes = sizeof(data)};
	const struct sd_target target = {.name = "w", .shape = shape, .rank = 2, .dtype = SD_U16};
	struct sd_source *source = sd_extents_new();
	struct sd_error err;
	uint32_t input;
	int fd;

	strcpy(path + strlen(path) - 6, "XXXXXX");
	fd = mkstemp(path);
	cr_assert(source && fd >= 0);
	for (unsigned i = 0; i < ROWS * COLUMNS; i++)
		data[i] = (uint16_t)i;
	cr_assert_eq(write(fd, data, sizeof(data)), (ssize_t)sizeof(data));
	cr_assert_eq(sd_extents_input(source, fd, path, &input, &err), SD_OK);
	cr_assert_eq(sd_extents_add(source, &record, &target, input, 0, &err), SD_OK);
	cr_assert(source->random);
	return source;
}

/* Windows of a view, in any order, have what its move says. */
static void check_view(struct sd_source *source, const struct sd_listing *listing, const struct sd_move *then,
		       uint64_t most, uint64_t (*from)(uint64_t to))
{
	struct sd_view_cache cache = {.most = most};
	struct sd_view view;
	struct sd_error err;

	cr_assert_eq(sd_view_make(&view, source, source->manifest, listing, 0, then, &err), SD_OK);
	for (int i = 0; i < 200; i++) {
		uint64_t first = (uint64_t)random() % view.elements, count = 1 + (uint64_t)random() % 300;
		uint16_t window[300];

		count = count < view.elements - first ? count : view.elements - first;
		cr_assert_eq(sd_view_read(&view, &cache, first, count, window, &err), SD_OK);
		for (uint64_t k = 0; k < count; k++) {
			uint32_t record;
			uint64_t number;

			cr_assert_eq(window[k], from(first + k));
			cr_assert(sd_view_place(&view, first + k, &record, &number));
			cr_assert_eq(number, from(first + k));
		}
	}
	sd_view_free(&view);
	sd_view_cache_free(&cache);
}

static uint64_t as_it_is(uint64_t to)
{
	return to;
}

static uint64_t turned(uint64_t to)
{
	return to % ROWS * COLUMNS + to / ROWS;
}

static uint64_t cut(uint64_t to)
{
	return (3 + to / 40) * COLUMNS + 5 + to % 40;
}

Test(compare, views)
{
	static const uint64_t shape[] = {ROWS, COLUMNS}, begin[] = {3, 5}, size[] = {20, 40};
	static const uint32_t order[] = {1, 0};
	struct sd_source *source = new_source();
	struct sd_listing listing;
	struct sd_move turn, slice;
	struct sd_error err;

	srandom(9);
	cr_assert_eq(sd_listing_make(source->manifest, &listing, &err), SD_OK);
	cr_assert(sd_move_permute(&turn, shape, 2, order));
	cr_assert(sd_move_slice(&slice, shape, 2, begin, size));
	check_view(source, &listing, NULL, 0, as_it_is);
	/* Where all of it may be kept, and where next to nothing may. */
	check_view(source, &listing, &turn, 0, turned);
	check_view(source, &listing, &turn, 64, turned);
	check_view(source, &listing, &slice, 0, cut);
	check_view(source, &listing, &slice, 64, cut);
	sd_listing_free(&listing);
	sd_source_close(source);
	unlink(path);
}

/* Elements that are smaller than a byte are read as they lie, or not. */
Test(compare, views_of_small_elements)
{
	struct sd_source *source = new_source();
	struct sd_move slice = sd_move_identity(ROWS);
	struct sd_listing listing;
	struct sd_view view;
	struct sd_error err;

	slice.from = 3;
	source->manifest->records[0].dtype = SD_F4;
	source->manifest->targets[0].dtype = SD_F4;
	cr_assert_eq(sd_listing_make(source->manifest, &listing, &err), SD_OK);
	cr_assert_eq(sd_view_make(&view, source, source->manifest, &listing, 0, NULL, &err), SD_OK);
	sd_view_free(&view);
	cr_assert_eq(sd_view_make(&view, source, source->manifest, &listing, 0, &slice, &err), SD_INPUT);
	cr_assert(strstr(err.text, "w comes in pieces"), "%s", err.text);
	sd_view_free(&view);
	sd_listing_free(&listing);
	sd_source_close(source);
	unlink(path);
}

/* What is read of a file that has changed is refused, and so is what is not there any more. */
Test(compare, read_at_of_a_changed_file)
{
	for (int how = 0; how < 2; how++) {
		struct sd_source *source = new_source();
		const struct timespec times[2] = {{1, 0}, {1, 0}}; /* clocks may be coarse */
		struct sd_error err;
		uint16_t data[8];
		int fd = open(path, O_WRONLY);

		cr_assert_eq(sd_source_read_at(source, 0, 100, data, sizeof(data), &err), SD_OK);
		cr_assert_eq(data[0], 50);
		if (how)
			cr_assert_eq(ftruncate(fd, 64), 0);
		else
			cr_assert_eq(pwrite(fd, "new data", 8, 1000), 8);
		cr_assert_eq(futimens(fd, times), 0);
		close(fd);
		cr_assert_eq(sd_source_read_at(source, 0, 100, data, sizeof(data), &err), SD_INPUT);
		cr_assert(strstr(err.text, "changed while it was being read"), "%s", err.text);
		sd_source_close(source);
		unlink(path);
	}
}
