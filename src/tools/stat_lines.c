/* SPDX-License-Identifier: Apache-2.0 */
/* sd-stat: statistics as lines, for programs. */
#include "base/json.h"
#include "base/text.h"
#include "tools/stat.h"

#include <inttypes.h>
#include <math.h>

/* Extremes are numbers of the tensor: as many digits as tell them apart. */
static int digits_of(uint8_t dtype)
{
	return sd_dtype_bits(dtype) > 32 || dtype == SD_U32 || dtype == SD_I32 ? 17 : 9;
}

static void print_number(const struct stat_options *opt, const char *name, double number, int digits)
{
	if (opt->form.json)
		printf(",\"%s\":", name);
	else
		putchar('\t');
	if (isfinite(number))
		printf("%.*g", digits, number);
	else if (opt->form.json && !isnan(number))
		fputs(number > 0 ? "\"inf\"" : "\"-inf\"", stdout);
	else if (!isnan(number))
		fputs(number > 0 ? "inf" : "-inf", stdout);
	else
		fputs(opt->form.json ? "null" : "-", stdout);
}

static void print_count(const struct stat_options *opt, const char *name, uint64_t count)
{
	if (opt->form.json)
		printf(",\"%s\":%" PRIu64, name, count);
	else
		printf("\t%" PRIu64, count);
}

static void print_numbers(const struct stat_options *opt, const struct stat_group *g)
{
	const struct sd_statistics *s = &g->s;
	int digits = digits_of(g->one->dtype);
	double min = s->finite ? s->min : (double)NAN, max = s->finite ? s->max : (double)NAN;

	print_count(opt, "elements", g->elements);
	print_number(opt, "mean", sd_statistics_mean(s), 9);
	print_number(opt, "std", sd_statistics_std(s), 9);
	print_number(opt, "min", min, digits);
	print_number(opt, "max", max, digits);
	print_number(opt, "absmax", s->finite ? fmax(fabs(min), fabs(max)) : (double)NAN, digits);
	print_number(opt, "rms", sd_statistics_rms(s), 9);
	print_count(opt, "zeros", s->zeros);
	print_count(opt, "nan", s->nan);
	print_count(opt, "inf", s->inf);
	print_count(opt, "dead", g->dead);
}

static void print_head(const struct stat_options *opt, const struct stat_group *g)
{
	if (opt->form.json) {
		printf("{\"name\":");
		sd_json_write(stdout, g->name, SD_JSON_ASCII);
		printf(",\"dtype\":\"%s\",\"shape\":", sd_dtype_name(g->one->stored));
	} else {
		printf("%s\t%s\t", g->name, sd_dtype_name(g->one->stored));
	}
	sd_shape_print(stdout, g->one->shape, g->one->rank);
}

/* What is wrong, words with commas between, or as an array. */
static void print_flags(const struct stat_options *opt, unsigned kinds)
{
	const char *between = "";

	fputs(opt->form.json ? ",\"flags\":[" : "\t", stdout);
	for (unsigned k = 0; k <= STAT_UNLIKE; k++) {
		if (!(kinds & 1U << k))
			continue;
		printf(opt->form.json ? "%s\"%s\"" : "%s%s", between, stat_word((enum stat_kind)k));
		between = ",";
	}
	if (opt->form.json)
		putchar(']');
	else if (!kinds)
		putchar('-');
}

static void print_group(const struct stat_options *opt, const struct stat_source *s, const struct stat_group *g)
{
	print_head(opt, g);
	print_numbers(opt, g);
	print_flags(opt, g->kinds);
	print_count(opt, "tensors", g->tensors);
	if (opt->count > 1 && opt->form.json) {
		sd_json_member(stdout, "source", s->name);
	} else if (opt->count > 1) {
		putchar('\t');
		sd_text_print(stdout, s->name);
	}
	puts(opt->form.json ? "}" : "");
}

void stat_print_lines(const struct stat_options *opt, const struct stat_source *s, const struct stat_groups *groups)
{
	for (size_t i = 0; i < groups->n; i++)
		print_group(opt, s, &groups->at[i]);
}
