/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff: tells how two checkpoints differ, in names, dtypes, shapes and values. */
#include "base/text.h"
#include "tools/maps.h"
#include "tools/selection_options.h"
#include "tools/diff.h"
#include "tools/tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "Usage: sd-diff [OPTION]... A B\n"
			    "Tell how two checkpoints differ: names, dtypes, shapes, and then values.\n"
			    "\n"
			    "A and B are safetensors files, checkpoint directories, archives of them, streams,\n"
			    "lists that sd-ls --checksum has made in a pipe, or - for standard input. Nothing\n"
			    "is printed where they are the same. The exit status is 0 where they are, 1 where\n"
			    "they differ, 2 or more where something is wrong.\n"
			    "\n"
			    "On a terminal, tensors that differ alike stand in one line, with the largest\n"
			    "difference of all. Elsewhere a line is a pair of tensors, separated by tabs.\n"
			    "\n"
			    "      --names          compare names, dtypes and shapes only: no data is read\n"
			    "  -q, --quiet          print nothing, stop at the first difference\n"
			    "  -s, --report         say also that both are the same\n"
			    "  -a, --all            also show what is the same\n"
			    "      --stat           a line a layer, with a bar\n"
			    "      --count=N        list up to N elements of each tensor that differ\n"
			    "      --config         also compare metadata and the files beside the weights\n"
			    "\n"
			    "The same is, with any of these,\n"
			    "      --abs=X          what is not more than X apart,\n"
			    "      --rel=X          nor more than X times the larger of both,\n"
			    "      --ulp=N          nor more than N steps of the dtype;\n"
			    "      --nan-equal      any NaN and any other;\n"
			    "      --cast           and of two dtypes what the narrower one cannot tell apart\n"
			    "\n"
			    "      --map=MAP        compare across layouts: bring both into that of A by this\n"
			    "                       map; auto finds it. Nothing is written\n"
			    "      --to=LAYOUT      into this one instead\n"
			    "  -D NAME=VALUE        an option of the map; see sd-rename(1)\n"
			    "\n"
			    "  -n, --name=PATTERN   only tensors whose whole name is as PATTERN says: * is any\n"
			    "                       text, {a,b} and {0..39} as in bash; may be given several times\n"
			    "      --include=RE     and those whose name matches RE (PCRE2, found anywhere);\n"
			    "                       likewise\n"
			    "      --exclude=RE     but not those whose name matches RE; likewise\n"
			    "      --layers=NUMBERS\n"
			    "                       of layers only these, such as 0-3,7\n"
			    "      --experts=NUMBERS\n"
			    "                       of experts only these\n"
			    "      --unfold         a line a pair on a terminal, too\n"
			    "      --json           print each as a JSON object on a line of its own\n"
			    "      --tsv            a terminal gets what a pipe gets\n"
			    "      --color=WHEN     auto, always (a pipe gets what a terminal gets), never\n"
			    "      --threads=N      threads that read and compare (as many as the CPU has)\n"
			    "      --limit=NAME=N   take more of NAME than usual, or less: header, manifest,\n"
			    "                       name, tensors, rank, members, ratio or\n"
			    "                       spool; see sd-tools(7)\n"
			    "      --help           print this text\n"
			    "      --version        print the version\n";

static const struct option longs[] = {
	{"names", no_argument, NULL, 'N'},
	{"quiet", no_argument, NULL, 'q'},
	{"report", no_argument, NULL, 's'},
	{"all", no_argument, NULL, 'a'},
	{"stat", no_argument, NULL, 'T'},
	{"count", required_argument, NULL, 'c'},
	{"config", no_argument, NULL, 'C'},
	{"abs", required_argument, NULL, 'A'},
	{"rel", required_argument, NULL, 'R'},
	{"ulp", required_argument, NULL, 'U'},
	{"nan-equal", no_argument, NULL, 'E'},
	{"cast", no_argument, NULL, 'K'},
	{"map", required_argument, NULL, 'm'},
	{"to", required_argument, NULL, 'o'},
	SELECTION_OPTIONS,
	SELECTION_NUMBERS,
	{"unfold", no_argument, NULL, 'u'},
	LOOK_OPTIONS,
	{"threads", required_argument, NULL, 'p'},
	SD_TOOL_OPTIONS,
	{NULL, 0, NULL, 0},
};

/* ---- options ---- */

static double parse_bound(const char *option, const char *text)
{
	char *end;
	double bound = strtod(text, &end);

	if (end == text || *end || !isfinite(bound) || bound < 0)
		sd_misuse("%s: \"%s\" is no number of 0 or more", option, text);
	return bound;
}

static bool take_tolerance(struct sd_tolerance *t, int c)
{
	switch (c) {
	case 'A':
		t->by_abs = true;
		t->abs = parse_bound("--abs", optarg);
		return true;
	case 'R':
		t->by_rel = true;
		t->rel = parse_bound("--rel", optarg);
		return true;
	case 'U':
		t->by_steps = true;
		t->steps = sd_option_number("--ulp", optarg);
		return true;
	case 'E':
		t->nan_equal = true;
		return true;
	case 'K':
		t->cast = true;
		return true;
	default:
		return false;
	}
}

static unsigned parse_threads(const char *text)
{
	uint64_t threads = sd_option_number("--threads", text);

	if (!threads || threads > 1024)
		sd_misuse("--threads: \"%s\" is not 1 to 1024", text);
	return (unsigned)threads;
}

static void take_option(struct diff_options *opt, int c, char **argv)
{
	switch (c) {
	case 'N':
		opt->names = true;
		break;
	case 'q':
		opt->quiet = true;
		break;
	case 's':
		opt->report = true;
		break;
	case 'a':
		opt->all = true;
		break;
	case 'T':
		opt->stat = true;
		break;
	case 'c':
		opt->count = sd_option_number("--count", optarg);
		break;
	case 'C':
		opt->config = true;
		break;
	case 'm':
		opt->map = optarg;
		break;
	case 'o':
		opt->to = optarg;
		break;
	case 'D':
		sd_option_define(&opt->defines, &opt->ndefines, &opt->defines_room, optarg);
		break;
	case 'u':
		opt->unfold = true;
		break;
	case 'p':
		opt->threads = parse_threads(optarg);
		break;
	default:
		if (!take_tolerance(&opt->tolerance, c) && !look_option(&opt->form, c, optarg) &&
		    !selection_option(&opt->choice, c, optarg) && !sd_tool_option(&opt->limits, usage, c, optarg))
			sd_bad_option(c, argv, longs);
	}
}

/* What does not go together. */
static void check(const struct diff_options *opt)
{
	const struct sd_tolerance *t = &opt->tolerance;

	if (opt->names && (opt->stat || opt->count || t->by_abs || t->by_rel || t->by_steps || t->cast || t->nan_equal))
		sd_misuse("--names compares no values: leave out --stat, --count, --abs, --rel, --ulp, --cast and "
			  "--nan-equal");
	if (!opt->map && (opt->to || opt->ndefines))
		sd_misuse("--to and -D are for a map: say --map");
	if (opt->stat && (opt->all || opt->count || opt->unfold))
		sd_misuse("--stat shows layers: leave out --all, --count and --unfold");
}

static struct diff_options parse(int argc, char **argv)
{
	struct diff_options opt = {.limits = sd_limits_default};
	int c;

	while ((c = getopt_long(argc, argv, ":aqsD:" SELECTION_SHORT, longs, NULL)) != -1)
		take_option(&opt, c, argv);
	opt.limits.short_data = opt.names;
	if (argc - optind != 2)
		sd_misuse("two operands are wanted, A and B");
	opt.operand[0] = argv[optind];
	opt.operand[1] = argv[optind + 1];
	check(&opt);
	opt.look = look_of(&opt.form);
	opt.fold = opt.look.human && !opt.unfold && !opt.count;
	return opt;
}

/* ---- running ---- */

static enum sd_result compare(struct diff *diff, struct sd_error *err)
{
	enum sd_result result = diff_pair_names(diff, err);

	if (result != SD_OK || diff->opt->names)
		return result;
	result = diff_compare_data(diff, err);
	if (result == SD_OK && !diff->opt->quiet)
		result = diff_explain(diff, err);
	/* What is wrong with the rest of it, and how it ends. */
	for (int i = 0; i < 2 && result == SD_OK && !(diff->opt->quiet && diff->differ); i++)
		if (diff->side[i].spooled && (result = sd_source_finish(diff->side[i].spooled, err)) != SD_OK)
			sd_error_about(err, diff->side[i].name);
	return result;
}

static enum sd_result print(struct diff *diff, struct sd_error *err)
{
	if (diff->opt->stat)
		return diff_print_stat(diff, err);
	return diff->opt->look.human ? diff_print_table(diff, err) : diff_print_lines(diff, err);
}

static enum sd_result run(const struct diff_options *opt, struct sd_error *err)
{
	struct diff diff = {.opt = opt};
	enum sd_result result = diff_open(&diff, err);

	if (result == SD_OK)
		result = compare(&diff, err);
	for (size_t i = 0; i < diff.npairs; i++)
		diff.differ = diff.differ || diff.pairs[i].status != DIFF_SAME;
	if (result == SD_OK && !opt->quiet)
		result = print(&diff, err);
	if (result == SD_OK && opt->config)
		result = diff_print_config(&diff, err);
	if (result == SD_OK && opt->report && !opt->quiet && !diff.differ)
		printf("the same: %zu tensor%s\n", diff.npairs, diff.npairs == 1 ? "" : "s");
	for (int i = 0; i < 2 && result == SD_OK; i++)
		if (diff.side[i].opened && diff.side[i].opened->lack)
			result = sd_fail(err, SD_INPUT, "%s", diff.side[i].opened->lack);
	if (result == SD_OK && diff.differ) {
		result = SD_DIFFERENT;
		*err = (struct sd_error){.result = SD_DIFFERENT, .told = SD_TOLD};
	}
	diff_close(&diff);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err = {.result = SD_OK};
	struct diff_options opt;
	enum sd_result result;

	sd_start("sd-diff", false);
	opt = parse(argc, argv);
	result = run(&opt, &err);
	sd_selection_free(&opt.choice);
	free(opt.defines);
	return sd_finish(result, &err);
}
