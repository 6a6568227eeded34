/* SPDX-License-Identifier: Apache-2.0 */
/* sd-transpose: carries out pending steps, reorderings, casts and dequantisation, on the CPU or a GPU. */
#include "base/text.h"
#include "filters/execute.h"
#include "filters/swap_dims.h"
#include "tools/execution_options.h"
#include "tools/selection_options.h"
#include "tools/tool.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"Usage: sd-transpose [OPTION]...\n"
	"Carry out the pending steps of a stream, reorderings, casts and dequantisation,\n"
	"from standard input to standard output. What has none passes untouched.\n"
	"\n" EXECUTION_USAGE "      --dims=A,B       exchange dimensions A and B too, counted from 0, or from the\n"
	"                       end if negative\n"
	"  -n, --name=PATTERN   with --dims: only of tensors whose whole name is as PATTERN\n"
	"                       says: * is any text, {a,b} and {0..39} as in bash; may be\n"
	"                       given several times\n"
	"      --include=RE     and of those whose name matches RE (PCRE2, found anywhere);\n"
	"                       likewise\n"
	"      --exclude=RE     but not of those whose name matches RE; likewise\n"
	"      --limit=NAME=N   raise or lower a safety limit: header, manifest,\n"
	"                       name, tensors, rank, members, ratio or\n"
	"                       spool; see sd-tools(7)\n"
	"      --help           print this text\n"
	"      --version        print the version\n";

struct options {
	struct sd_limits limits;
	struct sd_selection choice;
	int64_t a, b;
	bool dims;
	struct execution_options execution;
};

static void parse_dims(struct options *opt, const char *text)
{
	uint64_t numbers[2];
	bool negative[2];
	char first[32];
	const char *comma = strchr(text, ',');
	size_t length = comma ? (size_t)(comma - text) : sizeof(first);

	if (length < sizeof(first)) {
		memcpy(first, text, length);
		first[length] = '\0';
		negative[0] = first[0] == '-';
		negative[1] = comma[1] == '-';
		if (sd_text_number(first + negative[0], &numbers[0]) &&
		    sd_text_number(comma + 1 + negative[1], &numbers[1]) && numbers[0] <= SD_RANK_MAX &&
		    numbers[1] <= SD_RANK_MAX) {
			opt->a = negative[0] ? -(int64_t)numbers[0] : (int64_t)numbers[0];
			opt->b = negative[1] ? -(int64_t)numbers[1] : (int64_t)numbers[1];
			opt->dims = true;
			return;
		}
	}
	sd_misuse("--dims: \"%s\" is not two numbers of dimensions, such as 1,2 or -2,-1", text);
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		EXECUTION_OPTIONS,
		{"dims", required_argument, NULL, 'D'},
		SELECTION_OPTIONS,
		{"limit", required_argument, NULL, 'L'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct options opt = {.limits = sd_limits_default, .execution = EXECUTION_DEFAULTS};
	int c;

	while ((c = getopt_long(argc, argv, ":" SELECTION_SHORT, longs, NULL)) != -1) {
		switch (c) {
		case 'D':
			parse_dims(&opt, optarg);
			break;
		case 'L':
			sd_option_limit(&opt.limits, optarg);
			break;
		case 'h':
			sd_help(usage);
		case 'v':
			sd_version();
		default:
			if (!execution_option(&opt.execution, c, optarg) && !selection_option(&opt.choice, c, optarg))
				sd_bad_option(c, argv, longs);
		}
	}
	if (optind < argc)
		sd_misuse("no operand is taken: \"%s\"; sd-cat %s | sd-transpose reads it", argv[optind], argv[optind]);
	if ((sd_selection_chooses(&opt.choice) || opt.choice.exclude.count) && !opt.dims)
		sd_misuse("-n, --include and --exclude need --dims");
	return opt;
}

static enum sd_result run(const struct options *opt, struct sd_error *err)
{
	struct sd_sink *sink = sd_stdout_stream();
	struct sd_manifest *exchanged = NULL;
	struct sd_source *source = NULL;
	enum sd_result result = sd_open_stdin(&opt->limits, &source, err);

	sink->sums = opt->execution.checksum;
	if (result == SD_OK)
		result = selection_note(&opt->choice, source->manifest, false, err);
	if (result == SD_OK && opt->dims)
		result = sd_swap_dims(source->manifest, opt->a, opt->b, &opt->choice, &exchanged, err);
	if (result == SD_OK)
		result = execution_run(&opt->execution, source, exchanged ? exchanged : source->manifest, sink, err);
	if (result == SD_OK && opt->execution.stats)
		sd_tell_stats(&sink, 1);
	if (result != SD_OK)
		sink->ops->abort(sink, err);
	sd_manifest_free(exchanged);
	sd_source_close(source);
	sink->ops->close(sink);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;
	enum sd_result result;

	sd_start("sd-transpose", true);
	opt = parse(argc, argv);
	result = run(&opt, &err);
	sd_selection_free(&opt.choice);
	return sd_finish(result, &err);
}
