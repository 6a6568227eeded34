/* SPDX-License-Identifier: Apache-2.0 */
/* Folding and patterns: a folded line expands to exactly the names that it stands for, and a pattern takes these. */
#include "base/fold.h"
#include "base/glob.h"
#include "base/names.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what bash makes of braces, in the plainest way: one pair after another ---- */

struct words {
	char **at;
	size_t n, room;
};

static void add_word(struct words *w, const char *text)
{
	cr_assert(sd_array_grow(&w->at, w->n, &w->room, sizeof(*w->at)));
	w->at[w->n++] = strdup(text);
}

static void free_words(struct words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->at[i]);
	free(w->at);
}

static const char *closing(const char *open)
{
	int depth = 0;

	for (;; open++) {
		cr_assert(*open);
		depth += *open == '{' ? 1 : *open == '}' ? -1 : 0;
		if (!depth)
			return open;
	}
}

static void expand(const char *text, struct words *out);

/* In front of the braces, what one word of them is, and what is behind. */
static void expand_with(const char *text, size_t front, const char *word, size_t length, const char *behind,
			struct words *out)
{
	char *all;

	cr_assert(asprintf(&all, "%.*s%.*s%s", (int)front, text, (int)length, word, behind) >= 0);
	expand(all, out);
	free(all);
}

static void expand(const char *text, struct words *out)
{
	const char *open = strchr(text, '{'), *close, *p;
	unsigned from, to, step = 1;
	char number[16];

	if (!open) {
		add_word(out, text);
		return;
	}
	close = closing(open);
	if (!memchr(open, ',', (size_t)(close - open))) {
		cr_assert(sscanf(open, "{%u..%u..%u}", &from, &to, &step) >= 2, "%s", text);
		for (unsigned i = from; i <= to; i += step)
			expand_with(text, (size_t)(open - text), number,
				    (size_t)snprintf(number, sizeof(number), "%u", i), close + 1, out);
		return;
	}
	for (p = open + 1; p <= close; p++) {
		const char *end = p;

		for (; *end != ',' && end < close; end++)
			if (*end == '{')
				end = closing(end);
		expand_with(text, (size_t)(open - text), p, (size_t)(end - p), close + 1, out);
		p = end;
	}
}

/* ---- folding ---- */

static char *line_text(const struct sd_fold_line *line)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	cr_assert(out);
	sd_fold_print(out, line);
	fclose(out);
	return text;
}

static bool matches(struct sd_glob *glob, const char *name)
{
	bool yes;

	cr_assert_eq(sd_glob_matches(glob, name, &yes, NULL), SD_OK);
	return yes;
}

/* Every name is in one line and of its kind, what the lines expand to are the names, and so it is with patterns. */
static void check_fold(const char *const *names, const uint32_t *kinds, size_t n)
{
	struct sd_fold fold;
	struct sd_names known = {0};
	unsigned char *seen = calloc(n + 1, 1);
	size_t all = 0;

	for (size_t i = 0; i < n; i++)
		cr_assert_eq(sd_names_add(&known, names[i], (uint32_t)i), i, "%s is there twice", names[i]);
	cr_assert_eq(sd_fold(names, kinds, n, &fold, NULL), SD_OK);
	for (size_t i = 0; i < fold.nlines; i++) {
		const struct sd_fold_line *line = &fold.lines[i];
		char *text = line_text(line);
		struct words words = {0};
		struct sd_glob *glob;
		uint32_t member = line->first, least = UINT32_MAX;
		size_t taken = 0;

		expand(text, &words);
		cr_assert_eq(words.n, line->count, "%s", text);
		cr_assert_eq(sd_glob_new(text, &glob, NULL), SD_OK);
		for (size_t k = 0; k < words.n; k++, member = fold.next[member]) {
			uint32_t number = sd_names_find(&known, words.at[k]);

			cr_assert_neq(number, SD_NO_NAME, "%s: there is no %s", text, words.at[k]);
			cr_assert(!seen[number]++, "%s: %s is in another line too", text, words.at[k]);
			cr_assert(!kinds || kinds[number] == kinds[line->first], "%s: %s", text, words.at[k]);
			cr_assert_eq(number, member, "%s: %s", text, words.at[k]);
			least = number < least ? number : least;
		}
		cr_assert_eq(least, line->least);
		cr_assert(i == 0 || fold.lines[i - 1].least < least);
		for (size_t k = 0; k < n; k++)
			taken += matches(glob, names[k]);
		cr_assert_eq(taken, words.n, "%s", text);
		all += words.n;
		sd_glob_free(glob);
		free_words(&words);
		free(text);
	}
	cr_assert_eq(all, n);
	sd_fold_free(&fold);
	sd_names_free(&known);
	free(seen);
}

static const char *const shapes[] = {"model.layers.%u.mlp.experts.%u.up_proj.weight",
				     "blk.%u.e%u.w1",
				     "%u.%u",
				     "a.%u.conv%ud.%u",
				     "layers.%u",
				     "x%u.y.%u.z%u.weight",
				     "h%u_%u",
				     "0%u.%u.00%u",
				     "lm_head.weight",
				     "v.%u.%u.%u"};

Test(fold, random_lists)
{
	srand(7);
	for (int round = 0; round < 400; round++) {
		struct words names = {0};
		struct sd_names known = {0};
		uint32_t kinds[1000];
		unsigned a = 1 + (unsigned)rand() % 9, b = 1 + (unsigned)rand() % 9, holes = (unsigned)rand() % 12;

		for (int tries = 0; tries < 3; tries++) {
			const char *shape = shapes[(size_t)rand() % (sizeof(shapes) / sizeof(*shapes))];

			for (unsigned i = 0; i < a; i++)
				for (unsigned k = 0; k < b; k++) {
					char name[128];

					snprintf(name, sizeof(name), shape, i, k, (i + k) % 2);
					if (names.n == 1000 || (unsigned)rand() % 12 < holes / 4 ||
					    sd_names_find(&known, name) != SD_NO_NAME)
						continue;
					kinds[names.n] = rand() % 20 == 0;
					add_word(&names, name);
					cr_assert_neq(sd_names_add(&known, names.at[names.n - 1], 0), SD_NO_NAME);
				}
		}
		check_fold((const char *const *)names.at, round % 2 ? kinds : NULL, names.n);
		sd_names_free(&known);
		free_words(&names);
	}
}

/* folds NAMES LINES: each has spaces between. */
static void folds(const char *names, const char *lines)
{
	struct words words = {0};
	struct sd_fold fold;
	char *copy = strdup(names), *got = NULL, *at = copy, *word;
	size_t length;
	FILE *out;

	while ((word = strsep(&at, " ")))
		if (*word)
			expand(word, &words);
	cr_assert_eq(sd_fold((const char *const *)words.at, NULL, words.n, &fold, NULL), SD_OK);
	out = open_memstream(&got, &length);
	for (size_t i = 0; i < fold.nlines; i++) {
		fputs(i ? " " : "", out);
		sd_fold_print(out, &fold.lines[i]);
	}
	fclose(out);
	cr_expect_str_eq(got, lines);
	sd_fold_free(&fold);
	free_words(&words);
	free(copy);
	free(got);
}

Test(fold, as_it_is_read)
{
	folds("a.0.w a.1.w a.2.w", "a.{0..2}.w");
	folds("a.0.w a.1.w", "a.{0,1}.w");
	folds("a.5.w", "a.5.w");
	folds("a.{3..39..4}.w", "a.{3..39..4}.w");
	folds("a.{0,2,4}.w", "a.{0,2,4}.w");
	folds("a.{0,1,3,4,5}.w", "a.{0,1,{3..5}}.w");
	folds("l.{0..5}.e.{0..7}.w", "l.{0..5}.e.{0..7}.w");
	/* What is odd stands apart. */
	folds("l.{0,1,3}.e.{0..3}.w l.2.e.{0,1,3}.w", "l.{0,1,3}.e.{0..3}.w l.2.e.{0,1,3}.w");
	folds("l.{0..3}.k_proj l.4.k_porj l.5.k_proj", "l.{{0..3},5}.k_proj l.4.k_porj");
}

/* Numbers inside of a part fold where four follow each other; a layer or an expert does not have to. */
Test(fold, numbers_inside_of_a_part)
{
	folds("b.e0.w1 b.e0.w2 b.e0.w3", "b.e0.w1 b.e0.w2 b.e0.w3");
	folds("b.e{0..3}.w1", "b.e{0..3}.w1");
	folds("b.{1,2}.e{0..3}.w{1..3}", "b.{1,2}.e{0..3}.w1 b.{1,2}.e{0..3}.w2 b.{1,2}.e{0..3}.w3");
	folds("b.e{0..4}.w b.e6.w b.e{8..11}.w", "b.e{0..4}.w b.e6.w b.e{8..11}.w");
	folds("conv1d.w conv2d.w conv3d.w", "conv1d.w conv2d.w conv3d.w");
}

/* Zeros in front and numbers that are too large are letters, and braces and stars are not taken for ours. */
Test(fold, other_names)
{
	folds("a.00 a.01 a.02", "a.00 a.01 a.02");
	folds("a.9999999990 a.9999999991 a.9999999992", "a.9999999990 a.9999999991 a.9999999992");
	folds("a.999999998 a.999999999", "a.{999999998,999999999}");
	folds("1.2.3.4.5.6.7.8.9.0 1.2.3.4.5.6.7.9.9.0 1.2.3.4.5.6.7.9.9.1",
	      "1.2.3.4.5.6.7.{8,9}.9.0 1.2.3.4.5.6.7.9.9.1");
	folds("", "");
}

static void takes_back(const char *name)
{
	struct sd_fold fold;
	struct sd_glob *glob;
	char *text;

	cr_assert_eq(sd_fold(&name, NULL, 1, &fold, NULL), SD_OK);
	text = line_text(&fold.lines[0]);
	cr_assert_eq(sd_glob_new(text, &glob, NULL), SD_OK);
	cr_expect(matches(glob, name), "%s of %s", text, name);
	cr_expect_str_eq(sd_glob_first(glob), name);
	sd_glob_free(glob);
	sd_fold_free(&fold);
	free(text);
}

Test(fold, patterns_of_strange_names)
{
	char long_name[3000];

	for (size_t i = 0; i + 1 < sizeof(long_name); i++)
		long_name[i] = i % 3 == 2 ? '{' : i % 3 ? '\xa4' : '\xc3';
	long_name[sizeof(long_name) - 1] = '\0';
	takes_back("a{b,c}.*.\\n");
	takes_back("tab\tnewline\n\x1b[31mred\\t");
	takes_back("\xe2\x80\xae{}*");
	takes_back(long_name);
	takes_back("");
}

static size_t lines_of(const struct words *names)
{
	struct sd_fold fold;
	size_t lines;

	cr_assert_eq(sd_fold((const char *const *)names->at, NULL, names->n, &fold, NULL), SD_OK);
	lines = fold.nlines;
	sd_fold_free(&fold);
	return lines;
}

/* As a large model has them, and as bad as can be. */
Test(fold, many_names)
{
	struct words names = {0};
	char name[256];

	for (unsigned i = 0; i < 98304; i++) {
		snprintf(name, sizeof(name), "model.layers.%u.mlp.experts.%u.%s_proj.weight", i / 1536, i / 3 % 512,
			 (const char *[]){"gate", "up", "down"}[i % 3]);
		add_word(&names, name);
	}
	cr_expect_eq(lines_of(&names), 3);
	free_words(&names);
	names = (struct words){0};
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(name, sizeof(name), "%u.%u.%u.%u.%u.%u.%u.%u", i % 3, i % 5, i % 7, i % 11, i % 13, i % 17,
			 i % 19, i);
		add_word(&names, name);
	}
	cr_expect_gt(lines_of(&names), 90000);
	free_words(&names);
}

/* ---- patterns ---- */

static void pattern(const char *pattern, const char *yes, const char *no)
{
	const char *lists[] = {no, yes};
	struct sd_glob *glob;

	cr_assert_eq(sd_glob_new(pattern, &glob, NULL), SD_OK);
	for (int is = 0; is < 2; is++) {
		char *copy = lists[is] ? strdup(lists[is]) : NULL, *at = copy, *name;

		while ((name = strsep(&at, " ")))
			cr_expect_eq(matches(glob, name), is, "%s: %s", pattern, name);
		free(copy);
	}
	sd_glob_free(glob);
}

Test(glob, patterns)
{
	pattern("lm_head", "lm_head", "lm_head.weight xlm_head lm_hea");
	pattern("*", "a a.b.c ", NULL);
	pattern("a*b", "ab axxb abab", "abx xab a b");
	pattern("l.{0..39}.w", "l.0.w l.39.w l.7.w", "l.40.w l.07.w l..w l.3x.w l.399.w");
	pattern("l.{3..39..4}", "l.3 l.7 l.39", "l.4 l.1 l.43 l.03");
	pattern("l.{39..3..-4}", "l.{39..3..-4}", "l.39");
	pattern("l.{39..0..4}", "l.39 l.35 l.3", "l.0 l.43");
	pattern("{a,b}{1,2}", "a1 a2 b1 b2", "a b 1 12 ab a12");
	pattern("{0..2}{0..2}", "00 21 12", "0 222 30");
	pattern("{0..20}{0..20}", "00 2020 120 201", "0 21201 2121");
	pattern("l.{0,1,{3..5}}.w", "l.0.w l.1.w l.4.w", "l.2.w l.6.w l.{3.w");
	pattern("x{,.weight,.bias}", "x x.weight x.bias", "x. xweight");
	pattern("{01..12}", "01 09 12", "1 9 13 00 012");
	pattern("w{a..c}", "wa wb wc", "wd w wab");
	pattern("{*proj,norm}.w", "q_proj.w norm.w proj.w", "q_norm.w projx.w");
}

/* Braces that say nothing are letters, as in bash. */
Test(glob, letters)
{
	pattern("a{b}", "a{b}", "ab a{b");
	pattern("a{", "a{", "a");
	pattern("a}", "a}", "a");
	pattern("{}", "{}", "");
	pattern("{a,b", "{a,b", "a b");
	pattern("{a,{b,c}", "{a,b {a,c", "a b c");
	pattern("{{a,b}}", "{a} {b}", "a b");
	pattern("{a,b}}", "a} b}", "a b");
	pattern("{1..x}", "{1..x}", "1");
	pattern("{1..2..}", "{1..2..}", "1");
	pattern("a,b", "a,b", "a b");
	pattern("\\{a,b\\}", "{a,b}", "a b");
	pattern("\\*", "*", "a \\*");
	pattern("{\\,,b}", ", b", "\\,");
	pattern("a\\", "a\\", "a");
	pattern("\\x41\\xg", "Axg", "x41xg");
	pattern("?[a]", "?[a]", "xa");
}

Test(glob, first)
{
	struct sd_glob *glob;

	cr_assert_eq(sd_glob_new("m.{0..39}.{a,b}*.{w{1,2},v}.{08..10}{x..z}", &glob, NULL), SD_OK);
	cr_expect_str_eq(sd_glob_first(glob), "m.0.a*.w1.08x");
	sd_glob_free(glob);
}

/* What other matchers take years for. */
Test(glob, no_pattern_is_slow)
{
	char stars[200] = "", braces[] = "{0..999999}{0..999999}{0..999999}{0..999999}{0..999999}x", name[2000],
	     deep[200];
	struct sd_glob *glob;
	struct sd_error err;

	for (int i = 0; i < 60; i++)
		strcat(stars, "a*");
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	strcat(stars, "b");
	pattern(stars, NULL, name);
	memset(name, '1', sizeof(name) - 1);
	pattern(braces, "11111x", name);
	memset(deep, '{', 100);
	memset(deep + 100, 0, 1);
	for (int i = 0; i < 49; i++)
		strcat(deep, ",}");
	cr_expect_eq(sd_glob_new(deep, &glob, &err), SD_USAGE);
	cr_expect(strstr(err.text, "more than 32 deep"), "%s", err.text);
}
