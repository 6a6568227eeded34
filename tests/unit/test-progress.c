/* SPDX-License-Identifier: Apache-2.0 */
/* The line that tells how far a job is: its numbers, and what of it fits. */
#include "base/progress.h"

#include <criterion/criterion.h>

#include <string.h>

#define GB 1000000000u

static const char *line(uint64_t done, uint64_t total, double rate, const char *what, size_t width)
{
	static char text[256];
	const struct sd_progress p = {done, total, rate, what};

	sd_progress_text(&p, width, text, sizeof(text));
	cr_expect_leq(strlen(text), width);
	return text;
}

Test(progress, numbers)
{
	cr_expect_str_eq(line(0, 0, 0, NULL, 80), "100%  0 of 0 B");
	cr_expect_str_eq(line(999, 2000, 0, NULL, 80), " 49%  1.00 of 2.00 kB");
	cr_expect_str_eq(line(0, 999, 1, NULL, 80), "  0%  0 of 999 B  16:39 left  1 B/s");
	cr_expect_str_eq(line(12345678901, 801 * (uint64_t)GB, 1.5e9, NULL, 80),
			 "  1%  12.3 of 801 GB  8:46 left  1.50 GB/s");
	cr_expect_str_eq(line(1, 801 * (uint64_t)GB, 5e6, NULL, 80), "  0%  0.00 of 801 GB  44:30:00 left  5.00 MB/s");
	cr_expect_str_eq(line(0, UINT64_MAX, 1e-9, NULL, 80), "  0%  0.00 of 18.4 EB  99:59:59 left  0 B/s");
	cr_expect_str_eq(line(UINT64_MAX, UINT64_MAX, 1e19, NULL, 80), "100%  18.4 of 18.4 EB  0:00 left  10.0 EB/s");
	cr_expect_str_eq(line(GB - 1, GB, 999500, NULL, 80), " 99%  1.00 of 1.00 GB  0:00 left  1.00 MB/s");
}

Test(progress, fits_the_width)
{
	const char *name = "model.layers.3.mlp.experts.gate_up_proj";

	cr_expect_str_eq(line(GB, 4 * (uint64_t)GB, 1e9, name, 80),
			 " 25%  1.00 of 4.00 GB  0:03 left  1.00 GB/s  ...ayers.3.mlp.experts.gate_up_proj");
	cr_expect_str_eq(line(GB, 4 * (uint64_t)GB, 1e9, name, 84),
			 " 25%  1.00 of 4.00 GB  0:03 left  1.00 GB/s  model.layers.3.mlp.experts.gate_up_proj");
	cr_expect_str_eq(line(GB, 4 * (uint64_t)GB, 1e9, name, 53),
			 " 25%  1.00 of 4.00 GB  0:03 left  1.00 GB/s  ..._proj");
	cr_expect_str_eq(line(GB, 4 * (uint64_t)GB, 1e9, name, 52), " 25%  1.00 of 4.00 GB  0:03 left  1.00 GB/s");
	cr_expect_str_eq(line(GB, 4 * (uint64_t)GB, 1e9, name, 33), " 25%  1.00 of 4.00 GB  0:03 left");
	cr_expect_str_eq(line(GB, 4 * (uint64_t)GB, 1e9, name, 20), " 25%");
	cr_expect_str_eq(line(GB, 4 * (uint64_t)GB, 1e9, name, 3), "");
	cr_expect_str_eq(line(1, 4, 0, "\x1b[31m\n", 80), " 25%  1 of 4 B  \\x1b[31m\\n");
	cr_expect_str_eq(line(1, 4, 0, "aaaaaaa\xc3\xbc\xc3\xbc\xc3\xbcx", 25), " 25%  1 of 4 B  ...\xc3\xbc\xc3\xbcx");
}
