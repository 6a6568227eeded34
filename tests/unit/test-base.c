/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of base/: numbers, texts and dtypes as they come from input. */
#include "base/checked.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/names.h"
#include "base/regex.h"
#include "base/text.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

Test(checked, refuses_what_does_not_fit)
{
	uint64_t n;

	cr_assert(sd_add(UINT64_MAX - 1, 1, &n) && n == UINT64_MAX);
	cr_assert(!sd_add(UINT64_MAX, 1, &n));
	cr_assert(sd_mul(UINT32_MAX, UINT32_MAX, &n) && n == UINT64_C(18446744065119617025));
	cr_assert(!sd_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &n));
	cr_assert(sd_round_up(65, 64, &n) && n == 128);
	cr_assert(sd_round_up(64, 64, &n) && n == 64);
	cr_assert(!sd_round_up(UINT64_MAX - 3, 64, &n));
}

Test(text, mended_is_utf8)
{
	char text[] = "a\xff\xc3\xa9\xed\xa0\x80z\xe2\x82";

	sd_text_mend(text);
	cr_expect_str_eq(text, "a?\xc3\xa9???z??");
	cr_expect(sd_text_is_utf8(text, strlen(text)));
}

Test(text, natural_order_reads_digits_as_numbers)
{
	static const char *const ascending[] = {"", "a", "a.2.x", "a.9", "a.10", "a.10.b", "a.100", "b"};
	size_t count = sizeof ascending / sizeof *ascending;

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < count; j++) {
			int order = sd_text_natural(ascending[i], ascending[j]);

			cr_assert((order < 0) == (i < j) && (order > 0) == (i > j), "'%s' and '%s'", ascending[i],
				  ascending[j]);
		}
	}
	cr_assert_neq(sd_text_natural("a.01", "a.1"), 0, "a total order tells all texts apart");
	cr_assert(sd_text_natural("a.18446744073709551616", "a.18446744073709551617") < 0, "numbers of any length");
}

Test(text, utf8)
{
	static const char *const good[] = {
		"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"};
	static const char *const bad[] = {"\x80",         "\xc0\xaf",         "\xc3", "\xe0\x80\x80",
					  "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"};

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		cr_assert(sd_text_is_utf8(good[i], strlen(good[i])), "good text %zu", i);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_assert(!sd_text_is_utf8(bad[i], strlen(bad[i])), "bad text %zu", i);
	cr_assert(!sd_text_is_utf8("a\0b", 3), "NUL");
	/* Anywhere in a text that is looked at in larger steps. */
	for (size_t i = 0; i < 20; i++) {
		static const char wrong[] = {'\0', '\x80', '\xC3', '\xFF'};
		char text[] = "model.layers.0.mlp.up";

		for (size_t k = 0; k < sizeof(wrong); k++) {
			text[i] = wrong[k];
			cr_assert(!sd_text_is_utf8(text, sizeof(text) - 1), "byte %zu, %zu", i, k);
		}
		memcpy(text + i, "\xc3\xa9", 2);
		cr_assert(sd_text_is_utf8(text, sizeof(text) - 1), "byte %zu", i);
	}
}

Test(text, escapes_what_harms_a_terminal)
{
	char out[64];

	cr_assert_str_eq(sd_text_escape("a\tb\nc\\d", out, sizeof out), "a\\tb\\nc\\\\d");
	cr_assert_str_eq(sd_text_escape("\x1b[31m", out, sizeof out), "\\x1b[31m");
	cr_assert_str_eq(sd_text_escape("\xe2\x80\xae", out, sizeof out), "\\xe2\\x80\\xae");
	cr_assert_str_eq(sd_text_escape("\xc3\xa9", out, sizeof out), "\xc3\xa9");
	cr_assert_str_eq(sd_text_escape("layers.0\\\xc3\xa9.w", out, sizeof out), "layers.0\\\\\xc3\xa9.w");
	cr_assert_str_eq(sd_text_escape("layers.0", out, 7), "layers");
}

Test(text, escaping_stays_in_its_room)
{
	for (size_t size = 1; size < 16; size++) {
		char out[17];

		memset(out, 'X', sizeof out);
		sd_text_escape("a\x1b\xe2\x80\xae\tb", out, size);
		cr_assert(strlen(out) < size);
		cr_assert_eq(out[size], 'X');
	}
}

Test(text, sizes)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"64KiB", 65536},
		{"32MiB", UINT64_C(32) << 20},
		{"5GB", UINT64_C(5000000000)},
		{"1.5GB", UINT64_C(1500000000)},
		{"2TiB", UINT64_C(2) << 40},
	};
	static const char *const bad[] = {
		"", "x", "-1", "+1", " 1", "1 ", "1x", "5GBs", "GB", ".", "99999999999999999999", "99999999TiB"};
	uint64_t bytes;

	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		cr_assert(sd_text_size(good[i].text, &bytes) && bytes == good[i].bytes, "%s", good[i].text);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_assert(!sd_text_size(bad[i], &bytes), "'%s'", bad[i]);
}

Test(text, numbers)
{
	uint64_t number;

	cr_assert(sd_text_number("18446744073709551615", &number) && number == UINT64_MAX);
	cr_assert(!sd_text_number("18446744073709551616", &number));
	cr_assert(!sd_text_number("", &number));
	cr_assert(!sd_text_number("-1", &number));
	cr_assert(!sd_text_number("0x10", &number));
}

Test(text, distances)
{
	static const struct {
		const char *a, *b;
		unsigned limit, distance;
	} pairs[] = {
		{"weight", "weight", 0, 0}, {"weight", "weights", 0, 1}, {"weight", "weights", 3, 1},
		{"weigth", "weight", 3, 1}, {"wegiht", "weight", 3, 1},  {"eight", "weight", 1, 1},
		{"weiqht", "weight", 1, 1}, {"abc", "xyz", 3, 3},        {"abc", "xyz", 2, 3},
		{"", "abc", 3, 3},          {"abcd", "", 3, 4},          {"layers.1.q", "layers.10.k", 3, 2},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		cr_expect_eq(sd_text_distance(pairs[i].a, pairs[i].b, pairs[i].limit), pairs[i].distance, "%s %s",
			     pairs[i].a, pairs[i].b);
		cr_expect_eq(sd_text_distance(pairs[i].b, pairs[i].a, pairs[i].limit), pairs[i].distance, "%s %s",
			     pairs[i].b, pairs[i].a);
	}
}

Test(dtype, names_there_and_back)
{
	for (int dtype = SD_NO_DTYPE + 1; dtype < SD_DTYPES; dtype++) {
		const char *name = sd_dtype_name((enum sd_dtype)dtype);

		cr_assert_eq(sd_dtype_parse(name, strlen(name)), (enum sd_dtype)dtype, "%s", name);
		cr_assert_neq(sd_dtype_bits((enum sd_dtype)dtype), 0u, "%s", name);
	}
	cr_assert_eq(sd_dtype_parse("bf16", 4), SD_BF16);
	cr_assert_eq(sd_dtype_parse("BF16x", 5), SD_NO_DTYPE);
	cr_assert_eq(sd_dtype_parse("BF1", 3), SD_NO_DTYPE);
	cr_assert_eq(sd_dtype_parse("", 0), SD_NO_DTYPE);
}

Test(dtype, bytes)
{
	uint64_t bytes;

	cr_assert(sd_dtype_bytes(SD_BF16, 3, &bytes) && bytes == 6);
	cr_assert(sd_dtype_bytes(SD_F4, 2, &bytes) && bytes == 1);
	cr_assert(!sd_dtype_bytes(SD_F4, 3, &bytes), "half a byte is left");
	cr_assert(!sd_dtype_bytes(SD_F64, UINT64_MAX / 4, &bytes), "too large");
}

Test(dtype, shapes)
{
	const uint64_t shape[] = {256, 1024, 2048}, large[] = {UINT64_C(1) << 40, UINT64_C(1) << 40};
	const uint64_t empty[] = {UINT64_C(1) << 40, UINT64_C(1) << 40, 0};
	char text[SD_SHAPE_TEXT];
	uint64_t count;

	cr_assert(sd_shape_count(shape, 3, &count) && count == 536870912);
	cr_assert(sd_shape_count(shape, 0, &count) && count == 1);
	cr_assert(!sd_shape_count(large, 2, &count));
	cr_assert(!sd_shape_count(empty, 3, &count) || count == 0);
	cr_assert_str_eq(sd_shape_text(shape, 3, text, sizeof text), "[256, 1024, 2048]");
	cr_assert_str_eq(sd_shape_text(shape, 0, text, sizeof text), "[]");
}

Test(names, find_and_add)
{
	struct sd_names names = {0};
	static char text[1000][8];

	for (uint32_t i = 0; i < 1000; i++) {
		snprintf(text[i], sizeof text[i], "k%u", i);
		cr_assert_eq(sd_names_find(&names, text[i]), SD_NO_NAME);
		cr_assert_eq(sd_names_add(&names, text[i], i), i);
	}
	cr_assert_eq(sd_names_add(&names, "k7", 4711), 7u, "the first one keeps the name");
	for (uint32_t i = 0; i < 1000; i++)
		cr_assert_eq(sd_names_find(&names, text[i]), i);
	sd_names_free(&names);
}

Test(error, one_line_with_its_place_in_front)
{
	struct sd_error err = {0};

	cr_assert_eq(sd_fail(&err, SD_INPUT, "%d is odd", 3), SD_INPUT);
	cr_assert_eq(sd_error_at(&err, "%s", "a.safetensors"), SD_INPUT);
	cr_assert_str_eq(err.text, "a.safetensors: 3 is odd");
	cr_assert_eq(sd_fail(NULL, SD_IO, "nobody listens"), SD_IO);
	cr_assert_eq(sd_fail_errno(&err, 2, "open"), SD_IO);
	cr_assert_str_eq(err.text, "open: No such file or directory");
}

Test(regex, bad_ones_say_where)
{
	struct sd_regex *regex;
	struct sd_error err;
	bool found;

	cr_expect(sd_regex_new("a(b", false, &regex, &err) == SD_USAGE);
	cr_expect(strstr(err.text, "\"a(b\" at character 4") != NULL, "%s", err.text);
	cr_assert(sd_regex_new("^model\\.", false, &regex, &err) == SD_OK);
	cr_expect(sd_regex_search(regex, "model.x", &found, &err) == SD_OK && found);
	cr_expect(sd_regex_search(regex, "xmodel.x", &found, &err) == SD_OK && !found);
	sd_regex_free(regex);
	cr_assert(sd_regex_new("(a+)+$", false, &regex, &err) == SD_OK);
	cr_expect(sd_regex_search(regex, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", &found, &err) ==
			  SD_USAGE,
		  "endless backtracking is given up");
	sd_regex_free(regex);
}

/* What could be guessed would make names possible that all collide. */
Test(names, seed)
{
	struct sd_names a = {0}, b = {0};

	cr_assert(sd_names_add(&a, "x", 0) == 0 && sd_names_add(&b, "x", 0) == 0);
	cr_expect(a.seed != b.seed && a.seed != (uintptr_t)a.slots);
	sd_names_free(&a);
	sd_names_free(&b);
}
