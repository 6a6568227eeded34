/* SPDX-License-Identifier: Apache-2.0 */
/* sd-stat --hist: how many numbers there are in each interval; its edges are those of numpy.histogram. */
#include "base/json.h"
#include "base/names.h"
#include "base/text.h"
#include "tools/stat.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Decades that F64 has: from 10^-324 on. */
#define DECADE_LEAST (-324)
#define DECADES 633

/* Of one group. Bin i is from edge[i] up to edge[i + 1], the last one with its end. */
struct histogram {
	double *edge;
	uint64_t *count;
	size_t bins;
	uint64_t below, above, zeros; /* outside of the range; with log10 */
};

struct hist {
	struct stat_observer observer; /* first */
	const struct stat_options *opt;
	const struct stat_source *s;
	const struct stat_groups *groups;
	struct sd_names names; /* to tensors */
	struct histogram *at;
	/* Where nothing was counted before: */
	struct stat_source own;
	struct sd_counted *tensors;
	struct stat_groups own_groups;
};

/* numpy.linspace, and what numpy.histogram makes of a range without width. */
static void set_edges(struct histogram *h, double low, double high)
{
	double step;

	if (low == high) {
		/* Numbers so large that a half is nothing to them have a width of their own. */
		double half = low + 0.5 > low && low - 0.5 < low ? 0.5 : fabs(low) * 0x1p-20;

		low -= half;
		high += half;
	}
	step = isfinite(high - low) ? (high - low) / (double)h->bins : high / (double)h->bins - low / (double)h->bins;
	for (size_t i = 0; i < h->bins; i++)
		h->edge[i] = (double)i * step + low;
	h->edge[h->bins] = high;
}

static bool make(const struct stat_options *opt, const struct stat_group *g, struct histogram *h)
{
	h->bins = opt->log10 ? DECADES : (size_t)opt->bins;
	h->edge = calloc(h->bins + 1, sizeof(*h->edge));
	h->count = calloc(h->bins + 1, sizeof(*h->count));
	if (!h->edge || !h->count)
		return false;
	for (size_t i = 0; i <= h->bins && opt->log10; i++) {
		char text[16];

		/* The nearest number to each power, whatever pow makes of it. */
		snprintf(text, sizeof(text), "1e%d", DECADE_LEAST + (int)i);
		h->edge[i] = strtod(text, NULL);
	}
	if (!opt->log10 && opt->range)
		set_edges(h, opt->low, opt->high);
	else if (!opt->log10 && g->s.finite)
		set_edges(h, g->s.min, g->s.max);
	return true;
}

/* The bin that a number in the range is in. */
static size_t bin_of(const struct histogram *h, double v)
{
	double low = h->edge[0], high = h->edge[h->bins];
	size_t i = (size_t)((v - low) / (high - low) * (double)h->bins);

	i = i < h->bins ? i : h->bins - 1;
	while (i && v < h->edge[i])
		i--;
	while (i + 1 < h->bins && v >= h->edge[i + 1])
		i++;
	return i;
}

static size_t decade_of(const struct histogram *h, double v)
{
	int power = (int)floor(log10(v));
	size_t i = power < DECADE_LEAST ? 0 : (size_t)(power - DECADE_LEAST);

	i = i < h->bins ? i : h->bins - 1;
	while (i && v < h->edge[i])
		i--;
	while (i + 1 < h->bins && v >= h->edge[i + 1])
		i++;
	return i;
}

static void add(const struct hist *hist, struct histogram *h, double v)
{
	if (!isfinite(v))
		return;
	if (hist->opt->log10 && v == 0)
		h->zeros++;
	else if (hist->opt->log10)
		h->count[decade_of(h, fabs(v))]++;
	else if (v < h->edge[0])
		h->below++;
	else if (v > h->edge[h->bins])
		h->above++;
	else
		h->count[bin_of(h, v)]++;
}

static void take(void *observer, const struct sd_target *tensor, uint64_t first, const double *values, size_t count)
{
	struct hist *hist = observer;
	uint32_t number = sd_names_find(&hist->names, tensor->name);

	(void)first;
	for (size_t i = 0; number != SD_NO_NAME && i < count; i++)
		add(hist, &hist->at[hist->groups->of[number]], values[i]);
}

static bool make_all(struct hist *hist)
{
	bool memory;

	hist->at = calloc(hist->groups->n + 1, sizeof(*hist->at));
	memory = hist->at;
	for (size_t i = 0; i < hist->groups->n && memory; i++)
		memory = make(hist->opt, &hist->groups->at[i], &hist->at[i]);
	for (size_t i = 0; i < hist->s->n && memory; i++)
		memory = sd_names_add(&hist->names, hist->s->tensors[i].name, (uint32_t)i) != SD_NO_NAME;
	return memory;
}

static int by_name(const void *a, const void *b)
{
	return sd_text_natural(((const struct sd_counted *)a)->name, ((const struct sd_counted *)b)->name);
}

/* The tensors that will come. Names and shapes are the source's. */
static bool find_tensors(struct hist *hist, const struct sd_manifest *m)
{
	struct sd_names seen = {0};
	bool memory;

	hist->tensors = calloc(m->ntargets + 1, sizeof(*hist->tensors));
	memory = hist->tensors;
	for (size_t i = 0; i < m->ntargets && memory; i++) {
		const struct sd_target *t = &m->targets[i];
		uint32_t number = sd_names_add(&seen, t->name, (uint32_t)i);
		uint64_t *shape = malloc((t->rank + 1) * sizeof(*shape));

		memory = number != SD_NO_NAME && shape;
		if (memory && t->rank)
			memcpy(shape, t->shape, t->rank * sizeof(*shape));
		if (memory && number == i)
			hist->tensors[hist->own.n++] = (struct sd_counted){.name = t->name,
									   .shape = shape,
									   .rank = t->rank,
									   .dtype = t->dtype,
									   .stored = t->dtype};
		else
			free(shape);
	}
	sd_names_free(&seen);
	if (memory && hist->opt->look.human)
		qsort(hist->tensors, hist->own.n, sizeof(*hist->tensors), by_name);
	hist->own.tensors = hist->tensors;
	return memory;
}

static enum sd_result prepare(struct stat_observer *observer, const struct sd_manifest *m, struct sd_error *err)
{
	struct hist *hist = (struct hist *)observer;
	const struct stat_findings none = {0};

	if (hist->groups)
		return SD_OK;
	if (!find_tensors(hist, m))
		return sd_fail_memory(err);
	hist->s = &hist->own;
	hist->groups = &hist->own_groups;
	if (stat_pool(hist->s, hist->opt->by, &none, &hist->own_groups, err) != SD_OK)
		return err->result;
	return make_all(hist) ? SD_OK : sd_fail_memory(err);
}

struct stat_observer *stat_hist_new(const struct stat_options *opt, const struct stat_source *s,
				    const struct stat_groups *groups)
{
	struct hist *hist = calloc(1, sizeof(*hist));

	if (!hist)
		return NULL;
	hist->observer = (struct stat_observer){prepare, take};
	hist->opt = opt;
	hist->s = s;
	hist->groups = groups;
	if (!groups || make_all(hist))
		return &hist->observer;
	stat_hist_free(&hist->observer);
	return NULL;
}

void stat_hist_free(struct stat_observer *observer)
{
	struct hist *hist = (struct hist *)observer;

	if (!hist)
		return;
	for (size_t i = 0; hist->at && i < hist->groups->n; i++) {
		free(hist->at[i].edge);
		free(hist->at[i].count);
	}
	for (size_t i = 0; i < hist->own.n; i++)
		free((void *)hist->tensors[i].shape);
	stat_groups_free(&hist->own_groups);
	sd_names_free(&hist->names);
	free(hist->tensors);
	free(hist->at);
	free(hist);
}

/* ---- printing ---- */

/* A line of a histogram, for programs. */
static void print_line(const struct stat_options *opt, const struct stat_source *s, const struct stat_group *g,
		       double low, double high, uint64_t count)
{
	const int digits = opt->log10 ? 6 : 17;

	if (opt->form.json) {
		printf("{\"name\":");
		sd_json_write(stdout, g->name, SD_JSON_ASCII);
		if (isfinite(low))
			printf(",\"low\":%.*g", digits, low);
		else
			printf(",\"low\":\"-inf\"");
		if (isfinite(high))
			printf(",\"high\":%.*g", digits, high);
		else
			printf(",\"high\":\"inf\"");
		printf(",\"count\":%" PRIu64, count);
		if (opt->count > 1)
			sd_json_member(stdout, "source", s->name);
		puts("}");
		return;
	}
	printf("%s\t%.*g\t%.*g\t%" PRIu64, g->name, digits, low, digits, high, count);
	if (opt->count > 1) {
		putchar('\t');
		sd_text_print(stdout, s->name);
	}
	putchar('\n');
}

/* A bar that is as long as count beside most. */
static void print_bar(const struct stat_options *opt, const char *label, uint64_t count, uint64_t most)
{
	size_t room = opt->look.width > 40 ? opt->look.width - 28 : 12;
	size_t length = most ? (size_t)((double)count / (double)most * (double)room + 0.5) : 0;

	printf("%12s %12" PRIu64 "%s", label, count, length ? "  " : "");
	sd_ink(stdout, &opt->look, SD_INK_NUMBERS);
	while (length--)
		putchar('#');
	sd_ink(stdout, &opt->look, SD_INK_NONE);
	putchar('\n');
}

static void print_bars(const struct stat_options *opt, const struct histogram *h, size_t begin, size_t end)
{
	uint64_t most = h->zeros > h->below ? h->zeros : h->below;
	char label[32];

	most = h->above > most ? h->above : most;
	for (size_t i = begin; i < end; i++)
		most = h->count[i] > most ? h->count[i] : most;
	if (h->zeros)
		print_bar(opt, "0", h->zeros, most);
	if (h->below)
		print_bar(opt, "below", h->below, most);
	for (size_t i = begin; i < end; i++) {
		snprintf(label, sizeof(label), opt->log10 ? "%.0e" : "%.4g",
			 opt->log10 ? h->edge[i] : (h->edge[i] + h->edge[i + 1]) / 2);
		print_bar(opt, label, h->count[i], most);
	}
	if (h->above)
		print_bar(opt, "above", h->above, most);
}

static void print_lines(const struct hist *hist, const struct stat_source *s, const struct stat_group *g,
			const struct histogram *h, size_t begin, size_t end)
{
	if (h->zeros)
		print_line(hist->opt, s, g, 0, 0, h->zeros);
	if (h->below)
		print_line(hist->opt, s, g, -INFINITY, h->edge[0], h->below);
	for (size_t i = begin; i < end; i++)
		print_line(hist->opt, s, g, h->edge[i], h->edge[i + 1], h->count[i]);
	if (h->above)
		print_line(hist->opt, s, g, h->edge[h->bins], INFINITY, h->above);
}

/* With log10, what is between the first and the last decade that has something. */
static void find_ends(const struct hist *hist, const struct histogram *h, size_t *begin, size_t *end)
{
	*begin = 0;
	*end = h->bins;
	while (hist->opt->log10 && *begin < *end && !h->count[*begin])
		++*begin;
	while (hist->opt->log10 && *begin < *end && !h->count[*end - 1])
		--*end;
	/* Nothing has extremes, so that there are no bins. */
	if (!hist->opt->log10 && h->edge[0] == h->edge[h->bins])
		*end = 0;
}

void stat_hist_print(const struct stat_options *opt, const struct stat_source *s, const struct stat_observer *observer)
{
	const struct hist *hist = (const struct hist *)observer;

	for (size_t i = 0; i < hist->groups->n; i++) {
		const struct stat_group *g = &hist->groups->at[i];
		const struct histogram *h = &hist->at[i];
		size_t begin, end;

		find_ends(hist, h, &begin, &end);
		if (!opt->look.human) {
			print_lines(hist, s, g, h, begin, end);
			continue;
		}
		printf("%s  %" PRIu64 " elements\n", g->name, g->elements);
		print_bars(opt, h, begin, end);
	}
}
