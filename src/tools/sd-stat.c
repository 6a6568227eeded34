/* SPDX-License-Identifier: Apache-2.0 */
/* sd-stat: statistics of the numbers in a checkpoint, and what is wrong with them. */
#include "base/names.h"
#include "base/text.h"
#include "formats/open.h"
#include "move/device.h"
#include "pipe/stream.h"
#include "flow/tap.h"
#include "filters/values.h"
#include "tools/selection_options.h"
#include "tools/stat.h"
#include "tools/tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "Usage: sd-stat [OPTION]... [SOURCE]...\n"
			    "Count the numbers in checkpoints, or in what flows in a pipeline: mean, deviation,\n"
			    "extremes, zeros, NaN. Quantised weights are read with their scales.\n"
			    "\n"
			    "A SOURCE is a safetensors file, a checkpoint directory, an archive of one, a\n"
			    "stream, or - for standard input, which is also what is read when there is no\n"
			    "SOURCE.\n"
			    "\n"
			    "      --by=GROUP       pool by pattern (names that differ in numbers only, the\n"
			    "                       default on a terminal), tensor (the default elsewhere),\n"
			    "                       layer or expert\n"
			    "      --check          tell what is wrong: NaN, Inf, zeros only, rows and experts of\n"
			    "                       zeros, an expert unlike its siblings; exit status 1 if\n"
			    "                       something is\n"
			    "      --pass           the same in a pipeline: the stream goes on unchanged, and is\n"
			    "                       aborted where something is wrong\n"
			    "      --hist[=N]       histograms of N bins (20) from the least to the largest; reads\n"
			    "                       the data twice. --hist=log10: of decades of |x|, once\n"
			    "      --range=LOW:HIGH\n"
			    "                       bins from LOW to HIGH, for data that comes only once\n"
			    "      --values=NAME[SLICE]\n"
			    "                       elements as numpy would choose them: w[3,0:4]; without SLICE\n"
			    "                       the corners; may be given several times\n"
			    "  -n, --name=PATTERN   only tensors whose whole name is as PATTERN says: * is any\n"
			    "                       text, {a,b} and {0..39} as in bash; may be given several times\n"
			    "      --include=RE     and those whose name matches RE (PCRE2, found anywhere);\n"
			    "                       likewise\n"
			    "      --exclude=RE     but not those whose name matches RE; likewise\n"
			    "      --layers=NUMBERS\n"
			    "                       of layers only these, such as 0-3,7\n"
			    "      --experts=NUMBERS\n"
			    "                       of experts only these\n"
			    "  -a, --all            a line a tensor on a terminal, too: --by=tensor\n"
			    "      --json           print each as a JSON object on a line of its own\n"
			    "      --tsv            a terminal gets what a pipe gets\n"
			    "      --color=WHEN     auto, always (a pipe gets what a terminal gets), never\n"
			    "  -q, --quiet          with --check: print nothing, and stop at the first thing\n"
			    "      --threads=N      threads (as many as there are CPUs); they change no result\n"
			    "      --memory=SIZE    memory for data that is being worked on (32MiB)\n"
			    "      --limit=NAME=N   take more of NAME than usual, or less: header, manifest,\n"
			    "                       name, tensors, rank, members, ratio or\n"
			    "                       spool; see sd-tools(7)\n"
			    "      --help           print this text\n"
			    "      --version        print the version\n"
			    "\n"
			    "In a pipe a line has, with tabs between: name, dtype, shape, elements, mean, std,\n"
			    "min, max, absmax, rms, zeros, NaN, Inf, rows of zeros, what is wrong, tensors.\n";

/* Bins of a histogram, where nobody says how many; and at most. */
#define BINS 20
#define BINS_MOST 100000

static const struct option longs[] = {
	{"by", required_argument, NULL, 'B'},
	{"check", no_argument, NULL, 'K'},
	{"pass", no_argument, NULL, 'P'},
	{"hist", optional_argument, NULL, 'H'},
	{"range", required_argument, NULL, 'R'},
	{"values", required_argument, NULL, 'V'},
	SELECTION_OPTIONS,
	SELECTION_NUMBERS,
	{"all", no_argument, NULL, 'a'},
	LOOK_OPTIONS,
	{"quiet", no_argument, NULL, 'q'},
	{"threads", required_argument, NULL, 't'},
	{"memory", required_argument, NULL, 'm'},
	SD_TOOL_OPTIONS,
	{NULL, 0, NULL, 0},
};

/* ---- options ---- */

static enum stat_by by_of(const char *text)
{
	static const char *const words[] = {"pattern", "tensor", "layer", "expert"};

	for (int i = 0; i < 4; i++)
		if (strcmp(text, words[i]) == 0)
			return (enum stat_by)(STAT_BY_PATTERN + i);
	sd_misuse("--by: \"%s\" is none of pattern, tensor, layer, expert", text);
}

static void set_hist(struct stat_options *opt, const char *text)
{
	opt->hist = true;
	opt->log10 = text && strcmp(text, "log10") == 0;
	opt->bins = !text || opt->log10 ? BINS : sd_option_number("--hist", text);
	if (opt->bins < 1 || opt->bins > BINS_MOST)
		sd_misuse("--hist: \"%s\": 1 to %d bins, or log10", text, BINS_MOST);
}

static void set_range(struct stat_options *opt, const char *text)
{
	char *end;

	opt->range = true;
	opt->low = strtod(text, &end);
	if (end != text && *end == ':') {
		const char *high = end + 1;

		opt->high = strtod(high, &end);
		if (end != high && !*end && isfinite(opt->low) && isfinite(opt->high) && opt->low < opt->high)
			return;
	}
	sd_misuse("--range: \"%s\" is not LOW:HIGH, such as -0.1:0.1", text);
}

static void add_values(struct stat_options *opt, char *text)
{
	if (!sd_array_grow(&opt->values, opt->nvalues, &opt->values_room, sizeof(*opt->values)))
		sd_no_memory();
	opt->values[opt->nvalues++] = text;
}

static void take_option(struct stat_options *opt, int c, char **argv)
{
	switch (c) {
	case 'B':
		opt->by = by_of(optarg);
		break;
	case 'K':
		opt->check = true;
		break;
	case 'P':
		opt->pass = true;
		break;
	case 'H':
		set_hist(opt, optarg);
		break;
	case 'R':
		set_range(opt, optarg);
		break;
	case 'V':
		add_values(opt, optarg);
		break;
	case 'a':
		opt->by = STAT_BY_TENSOR;
		break;
	case 'q':
		opt->quiet = true;
		break;
	default:
		if (!((c == 't' || c == 'm') && execution_option(&opt->execution, c, optarg)) &&
		    !look_option(&opt->form, c, optarg) && !selection_option(&opt->choice, c, optarg) &&
		    !sd_tool_option(&opt->limits, usage, c, optarg))
			sd_bad_option(c, argv, longs);
	}
}

/* What is shown in the place of statistics goes alone. */
static void check(const struct stat_options *opt)
{
	const char *view = opt->pass ? "--pass" : opt->check ? "--check" : opt->nvalues ? "--values" : "--hist";

	if (opt->quiet && !opt->check)
		sd_misuse("-q needs --check");
	if ((opt->check || opt->pass) + (opt->nvalues > 0) + opt->hist > 1)
		sd_misuse("--check, --pass, --hist and --values exclude each other");
	if ((opt->pass || opt->check || opt->nvalues) && opt->by)
		sd_misuse("%s prints no statistics: leave out --by and --all", view);
	if (opt->hist && opt->by == STAT_BY_EXPERT)
		sd_misuse("--hist is by pattern, tensor or layer; for experts choose them: --experts, or -n");
	if (opt->range && (!opt->hist || opt->log10))
		sd_misuse("--range needs --hist, and not log10");
	if (opt->nvalues && sd_selection_chooses(&opt->choice))
		sd_misuse("--values names its tensors: leave out -n and what else chooses");
	if (opt->pass && (opt->count > 1 || strcmp(opt->names[0], "-") != 0))
		sd_misuse("--pass takes no operand: sd-cat %s | sd-stat --pass", opt->names[0]);
	for (int i = 0; i < opt->count && opt->hist && !opt->range && !opt->log10; i++)
		if (strcmp(opt->names[i], "-") == 0)
			sd_misuse("--hist reads twice, and standard input comes once: say --range=LOW:HIGH, or "
				  "--hist=log10");
}

static void settle(struct stat_options *opt)
{
	check(opt);
	if (!opt->execution.threads)
		opt->execution.threads = sd_device_threads();
	if (opt->pass)
		return;
	opt->look = look_of(&opt->form);
	if (!opt->by)
		opt->by = opt->look.human ? STAT_BY_PATTERN : STAT_BY_TENSOR;
}

static struct stat_options parse(int argc, char **argv)
{
	static char *only_stdin[] = {"-"};
	struct stat_options opt = {.limits = sd_limits_default, .execution = EXECUTION_DEFAULTS};
	int c;

	opt.execution.cuda = false;
	while ((c = getopt_long(argc, argv, ":aq" SELECTION_SHORT, longs, NULL)) != -1)
		take_option(&opt, c, argv);
	opt.names = optind < argc ? argv + optind : only_stdin;
	opt.count = optind < argc ? argc - optind : 1;
	settle(&opt);
	return opt;
}

/* ---- counting ---- */

/* A source that is being counted. */
struct counted {
	const struct stat_options *opt;
	struct sd_source *source;
	struct sd_counting *counting;
	struct stat_source s;
	struct stat_findings findings;
	struct stat_observer *observer; /* or NULL */
	struct sd_selection choice;
};

/* For --pass and -q: the first thing that is wrong is enough. */
static enum sd_result stop_at(struct counted *c, const struct stat_findings *findings, struct sd_error *err)
{
	char text[1024] = "";
	FILE *out;

	if (!findings->n)
		return SD_OK;
	if (!c->opt->pass) {
		*err = (struct sd_error){.result = SD_DIFFERENT, .told = SD_TOLD};
		return SD_DIFFERENT;
	}
	out = fmemopen(text, sizeof(text), "w");
	if (!out)
		return sd_fail_memory(err);
	stat_write_name(out, findings->at);
	fputs(": ", out);
	stat_write_finding(out, findings->at);
	fclose(out);
	return sd_fail(err, SD_DIFFERENT, "%s", text);
}

static enum sd_result look_at(void *user, const struct sd_counted *tensor, struct sd_error *err)
{
	struct counted *c = user;
	struct stat_findings findings = {0};
	enum sd_result result = stat_check_tensor(tensor, &findings, err);

	if (result == SD_OK)
		result = stop_at(c, &findings, err);
	free(findings.at);
	return result;
}

/* What is chosen, and its numbers. */
static enum sd_result plan(const struct counted *c, struct sd_values *values, struct sd_error *err)
{
	const struct sd_manifest *m = c->source->manifest;
	struct sd_selection choice = c->choice; /* which layers are meant is another thing in each source */
	enum sd_result result;

	sd_selection_settle(&choice, m);
	result = sd_selection_check(&choice, m, err);
	if (result == SD_OK)
		result = selection_note(&choice, m, false, err);
	if (result == SD_OK)
		result = sd_values_plan(m, &choice, values, err);
	if (result == SD_OK && values->codes)
		sd_note("%zu quantised weight%s counted as codes: %s", values->codes,
			values->codes == 1 ? " is" : "s are", values->why);
	return result;
}

/* Tensors of which only some parts come along. */
static void tell_parts(const struct sd_counting *counting)
{
	const char *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < counting->ntensors; i++) {
		if (sd_counted_is_complete(&counting->tensors[i]))
			continue;
		first = n++ ? first : counting->tensors[i].name;
	}
	if (n)
		sd_note("%s: only a part of it comes along, and is counted%s", first, n > 1 ? "; others likewise" : "");
}

/* The order of the names in the source, and the dtypes there. */
struct order {
	struct sd_names names;
	bool natural;
};

static int compare(const void *left, const void *right, void *user)
{
	const struct sd_counted *a = left, *b = right;
	const struct order *order = user;
	uint32_t x = sd_names_find(&order->names, a->name), y = sd_names_find(&order->names, b->name);

	return order->natural ? sd_text_natural(a->name, b->name) : x < y ? -1 : x > y;
}

static bool put_in_order(const struct counted *c)
{
	const struct sd_manifest *m = c->source->manifest;
	struct order order = {.natural = c->opt->look.human};
	bool memory = true;

	for (size_t i = 0; i < m->ntargets && memory; i++)
		memory = sd_names_add(&order.names, m->targets[i].name, (uint32_t)i) != SD_NO_NAME;
	for (size_t i = 0; i < c->counting->ntensors && memory; i++) {
		struct sd_counted *t = &c->counting->tensors[i];

		t->stored = m->targets[sd_names_find(&order.names, t->name)].dtype;
	}
	if (memory && c->counting->ntensors)
		qsort_r(c->counting->tensors, c->counting->ntensors, sizeof(*c->counting->tensors), compare, &order);
	sd_names_free(&order.names);
	return memory;
}

static enum sd_result run_counting(struct counted *c, struct sd_source *from, struct sd_error *err)
{
	struct sd_values values = {0};
	enum sd_result result = plan(c, &values, err);

	c->counting = sd_counting_new(c->opt->execution.threads);
	if (!c->counting && result == SD_OK)
		result = sd_fail_memory(err);
	if (result == SD_OK && (c->opt->pass || c->opt->quiet)) {
		c->counting->told = look_at;
		c->counting->user = c;
	}
	if (result == SD_OK && c->observer) {
		c->counting->values = c->observer->values;
		c->counting->user = c->observer;
		if (c->observer->prepare)
			result = c->observer->prepare(c->observer, values.manifest, err);
	}
	if (result == SD_OK)
		result = execution_run(&c->opt->execution, from, values.manifest, &c->counting->sink, err);
	if (result == SD_OK)
		tell_parts(c->counting);
	if (result == SD_OK && !put_in_order(c))
		result = sd_fail_memory(err);
	if (result == SD_OK) {
		c->s.tensors = c->counting->tensors;
		c->s.n = c->counting->ntensors;
		result = stat_check(&c->s, &c->findings, err);
	}
	sd_values_free(&values);
	return result;
}

static enum sd_result open_source(const struct stat_options *opt, const char *name, struct sd_source **source,
				  struct sd_error *err)
{
	enum sd_result result = strcmp(name, "-") == 0 ? sd_open_stdin(&opt->limits, source, err)
						       : sd_open(name, &opt->limits, source, err);

	if (result == SD_OK && (*source)->note)
		sd_note("%s", (*source)->note);
	return result;
}

static void close_all(struct counted *c)
{
	free(c->findings.at);
	if (c->counting)
		c->counting->sink.ops->close(&c->counting->sink);
	sd_source_close(c->source);
}

static enum sd_result print(struct counted *c, const struct stat_groups *groups, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (!c->opt->look.human) {
		stat_print_lines(c->opt, &c->s, groups);
		return SD_OK;
	}
	result = stat_print_table(c->opt, groups, err);
	return result == SD_OK ? stat_print_findings(c->opt, &c->s, &c->findings, err) : result;
}

static void print_title(const struct stat_options *opt, int number)
{
	if (!opt->look.human || opt->count == 1 || opt->check)
		return;
	printf(number ? "\n==> " : "==> ");
	sd_text_print(stdout, opt->names[number]);
	puts(" <==");
}

/* Counts a source by itself, with somebody who looks at each number. */
static enum sd_result count_again(const struct counted *first, struct stat_observer *observer, struct sd_error *err)
{
	struct counted c = {
		.opt = first->opt, .choice = first->choice, .s = {.name = first->s.name}, .observer = observer};
	enum sd_result result = open_source(c.opt, c.s.name, &c.source, err);

	if (result == SD_OK)
		result = run_counting(&c, c.source, err);
	close_all(&c);
	return result;
}

/* The bins follow from what was counted, and the numbers are read once more. */
static enum sd_result histograms(const struct counted *c, const struct stat_groups *groups, struct sd_error *err)
{
	struct stat_observer *observer = stat_hist_new(c->opt, &c->s, groups);
	enum sd_result result = observer ? count_again(c, observer, err) : sd_fail_memory(err);

	if (result == SD_OK)
		stat_hist_print(c->opt, &c->s, observer);
	stat_hist_free(observer);
	return result;
}

static enum sd_result statistics(struct counted *c, int number, struct sd_error *err)
{
	struct stat_groups groups = {.n = 0};
	enum sd_result result = stat_pool(&c->s, c->opt->by, &c->findings, &groups, err);

	if (result == SD_OK)
		print_title(c->opt, number);
	if (result == SD_OK)
		result = c->opt->hist ? histograms(c, &groups, err) : print(c, &groups, err);
	stat_groups_free(&groups);
	return result;
}

/* A histogram whose bins are known beforehand. */
static bool is_simple(const struct stat_options *opt)
{
	return opt->hist && (opt->range || opt->log10);
}

static enum sd_result open_observer(struct counted *c, struct sd_error *err)
{
	if (c->opt->nvalues)
		return stat_values_new(c->opt, &c->choice, &c->observer, err);
	c->observer = is_simple(c->opt) ? stat_hist_new(c->opt, NULL, NULL) : NULL;
	return c->observer || !is_simple(c->opt) ? SD_OK : sd_fail_memory(err);
}

static void close_observer(struct counted *c)
{
	struct sd_selection own = {.names = c->choice.names, .nnames = c->choice.nnames};

	if (c->opt->nvalues) {
		stat_values_free(c->observer);
		sd_selection_free(&own);
	} else {
		stat_hist_free(c->observer);
	}
}

static enum sd_result show(struct counted *c, int number, struct sd_error *err)
{
	if (c->opt->check)
		return c->opt->quiet ? SD_OK : stat_print_findings(c->opt, &c->s, &c->findings, err);
	if (!c->observer)
		return statistics(c, number, err);
	print_title(c->opt, number);
	(c->opt->nvalues ? stat_values_print : stat_hist_print)(c->opt, &c->s, c->observer);
	return SD_OK;
}

/* *odd: something is wrong. */
static enum sd_result stat_one(const struct stat_options *opt, int number, bool *odd, struct sd_error *err)
{
	struct counted c = {.opt = opt, .choice = opt->choice, .s = {.name = opt->names[number]}};
	enum sd_result result = open_observer(&c, err);

	if (result == SD_OK)
		result = open_source(opt, c.s.name, &c.source, err);
	if (result == SD_OK)
		result = run_counting(&c, c.source, err);
	if (result == SD_OK)
		result = show(&c, number, err);
	*odd = *odd || c.findings.n || result == SD_DIFFERENT;
	close_observer(&c);
	close_all(&c);
	return result;
}

/* What fails does not keep others from being counted. All failures are told; the worst one is the exit status. */
static enum sd_result stat_all(const struct stat_options *opt, struct sd_error *err)
{
	struct sd_error one;
	bool odd = false;

	*err = (struct sd_error){.result = SD_OK};
	for (int i = 0; i < opt->count; i++) {
		enum sd_result result = stat_one(opt, i, &odd, &one);

		if (result == SD_OK || result == SD_DIFFERENT)
			continue;
		if (err->result != SD_OK && !err->told)
			sd_note("%s", err->text);
		one.result = err->result > result ? err->result : result;
		*err = one;
		if (one.told == SD_LOST)
			break;
	}
	if (err->result == SD_OK && opt->check && odd)
		*err = (struct sd_error){.result = SD_DIFFERENT, .told = SD_TOLD};
	return err->result;
}

/* ---- the gate ---- */

static enum sd_result pass(const struct stat_options *opt, struct sd_error *err)
{
	struct counted c = {.opt = opt, .choice = opt->choice, .s = {.name = opt->names[0]}};
	struct sd_sink *sink = sd_stdout_stream();
	struct sd_source *tap = NULL;
	enum sd_result result = open_source(opt, c.s.name, &c.source, err);

	if (result == SD_OK) {
		tap = sd_tap_new(c.source, sink);
		result = tap ? SD_OK : sd_fail_memory(err);
	}
	if (result == SD_OK) {
		sink->sums = c.source->sums;
		result = sink->ops->begin(sink, c.source->manifest, err);
	}
	if (result == SD_OK)
		result = run_counting(&c, tap, err);
	if (result == SD_OK)
		result = stop_at(&c, &c.findings, err);
	if (result == SD_OK)
		result = sink->ops->end(sink, err);
	/* What is wrong with the numbers is bad input for those behind. */
	if (result == SD_DIFFERENT)
		result = err->result = SD_INPUT;
	if (result != SD_OK)
		sink->ops->abort(sink, err);
	sd_source_close(tap);
	sink->ops->close(sink);
	close_all(&c);
	return result;
}

/* Whether standard output is for a stream: it has to be known before options are read, for misuse goes down it. */
static bool has_gate(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--pass") == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct stat_options opt;
	enum sd_result result;

	sd_start("sd-stat", has_gate(argc, argv));
	opt = parse(argc, argv);
	result = (opt.pass ? pass : stat_all)(&opt, &err);
	sd_selection_free(&opt.choice);
	free(opt.values);
	return sd_finish(result, &err);
}
