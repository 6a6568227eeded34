/* SPDX-License-Identifier: Apache-2.0 */
/* sd-cast: changes dtypes by hand: casts, dequantisation, and quantisation. */
#include "filters/cast.h"
#include "filters/quantise_weights.h"
#include "model/quant_config.h"
#include "config/config_dtypes.h"
#include "tools/execution_options.h"
#include "tools/selection_options.h"
#include "tools/tool.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: sd-cast --to=DTYPE|--dequant=DTYPE|--quant=FORM [OPTION]...\n"
	"Change the dtypes of a stream's tensors, from standard input to standard output.\n"
	"\n"
	"      --to=DTYPE       cast floating-point tensors to BF16, F16, F32 or F64\n"
	"      --dequant=DTYPE  make plain numbers of quantised weights (FP8, INT8, NVFP4, MXFP4,\n"
	"                       GPTQ, AWQ, bitsandbytes...: see sd-quant(7)); the scales go\n"
	"      --quant=FORM     quantise: fp8-block as DeepSeek has it, fp8-channel, fp8-tensor,\n"
	"                       mxfp4 or nvfp4 as compressed-tensors has them; needs -n or\n"
	"                       --include\n"
	"      --scale=DTYPE    with --quant: the dtype of scales of FP8, F32 (the default) or BF16\n"
	"  -n, --name=PATTERN   only tensors whose whole name is as PATTERN says: * is any\n"
	"                       text, {a,b} and {0..39} as in bash; may be given several times\n"
	"      --include=RE     and those whose name matches RE (PCRE2, found anywhere);\n"
	"                       likewise\n"
	"      --exclude=RE     leave tensors as they are whose name matches RE; likewise\n"
	"      --keep-config    leave config.json as it is\n" EXECUTION_USAGE
	"      --limit=NAME=N   raise or lower a safety limit: header, manifest,\n"
	"                       name, tensors, rank, members, ratio or\n"
	"                       spool; see sd-tools(7)\n"
	"      --help           print this text\n"
	"      --version        print the version\n"
	"\n"
	"Other pending steps are carried out on the way, as sd-transpose does; --quant takes\n"
	"only tensors that have none.\n";

enum action { NOTHING, TO, DEQUANT, QUANT };

struct options {
	struct sd_limits limits;
	enum action action;
	enum sd_dtype dtype, scale;
	enum sd_quantiser kind;
	struct sd_selection choice;
	bool keep_config;
	struct execution_options execution;
};

static void set_action(struct options *opt, enum action action)
{
	if (opt->action != NOTHING)
		sd_misuse("only one of --to, --dequant and --quant");
	opt->action = action;
}

static enum sd_dtype parse_dtype(const char *option, const char *text, const char *choice)
{
	enum sd_dtype dtype = sd_dtype_typed(text);
	char word[32];

	snprintf(word, sizeof(word), " %s ", sd_dtype_name(dtype));
	if (dtype == SD_NO_DTYPE || !strstr(choice, word))
		sd_misuse("%s: \"%s\" is none of%.*s", option, text, (int)strlen(choice) - 1, choice);
	return dtype;
}

static enum sd_quantiser parse_kind(const char *text)
{
	static const char *const words[] = {[SD_QUANTISE_BLOCKS] = "fp8-block",
					    [SD_QUANTISE_ROWS] = "fp8-channel",
					    [SD_QUANTISE_ALL] = "fp8-tensor",
					    [SD_QUANTISE_MXFP4] = "mxfp4",
					    [SD_QUANTISE_NVFP4] = "nvfp4"};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strcmp(text, words[i]) == 0)
			return (enum sd_quantiser)i;
	sd_misuse("--quant: \"%s\" is none of fp8-block, fp8-channel, fp8-tensor, mxfp4, nvfp4", text);
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		EXECUTION_OPTIONS,
		{"to", required_argument, NULL, 'T'},
		{"dequant", required_argument, NULL, 'D'},
		{"quant", required_argument, NULL, 'Q'},
		{"scale", required_argument, NULL, 's'},
		SELECTION_OPTIONS,
		{"keep-config", no_argument, NULL, 'k'},
		{"limit", required_argument, NULL, 'L'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct options opt = {.limits = sd_limits_default, .execution = EXECUTION_DEFAULTS};
	int c;

	while ((c = getopt_long(argc, argv, ":" SELECTION_SHORT, longs, NULL)) != -1) {
		switch (c) {
		case 'T':
			set_action(&opt, TO);
			opt.dtype = parse_dtype("--to", optarg, " BF16 F16 F32 F64 ");
			break;
		case 'D':
			set_action(&opt, DEQUANT);
			opt.dtype = parse_dtype("--dequant", optarg, " BF16 F16 F32 F64 ");
			break;
		case 'Q':
			set_action(&opt, QUANT);
			opt.kind = parse_kind(optarg);
			break;
		case 's':
			opt.scale = parse_dtype("--scale", optarg, " F32 BF16 ");
			break;
		case 'k':
			opt.keep_config = true;
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
		sd_misuse("no operand is taken: \"%s\"; sd-cat %s | sd-cast reads it", argv[optind], argv[optind]);
	if (opt.action == NOTHING)
		sd_misuse("one of --to, --dequant and --quant is needed");
	if (opt.action == QUANT && !sd_selection_chooses(&opt.choice))
		sd_misuse("--quant needs -n or --include: which tensors are weights, only you know");
	if (opt.scale && opt.action == QUANT && opt.kind >= SD_QUANTISE_MXFP4)
		sd_misuse("--scale is for FP8: scales of FP4 have a dtype of their own");
	if (opt.action != QUANT && opt.scale)
		sd_misuse("--scale needs --quant");
	if (!opt.scale)
		opt.scale = SD_F32;
	return opt;
}

static enum sd_result run_quant(const struct options *opt, struct sd_source *source, struct sd_sink *sink,
				struct sd_error *err)
{
	struct sd_quant quant;
	enum sd_result result = sd_quant_plan(source->manifest, &opt->choice, opt->kind, opt->scale, &quant, err);

	if (result == SD_OK && quant.note)
		sd_note("%s", quant.note);
	if (result == SD_OK && !opt->keep_config)
		result = opt->kind == SD_QUANTISE_BLOCKS
				 ? sd_config_dtypes_follow(quant.plan.manifest, source->manifest, err)
				 : sd_quant_config_add(quant.plan.manifest, opt->kind, err);
	if (result == SD_OK)
		result = sd_drive(source, &quant.plan, &quant.worker, sink, err);
	sd_quant_free(&quant);
	return result;
}

static enum sd_result run_steps(const struct options *opt, struct sd_source *source, struct sd_sink *sink,
				struct sd_error *err)
{
	struct sd_manifest *more = NULL;
	enum sd_result result = (opt->action == TO ? sd_cast_to : sd_cast_dequant)(source->manifest, opt->dtype,
										   &opt->choice, &more, err);

	if (result == SD_OK && !opt->keep_config)
		result = sd_config_dtypes_follow(more, source->manifest, err);
	if (result == SD_OK)
		result = execution_run(&opt->execution, source, more, sink, err);
	sd_manifest_free(more);
	return result;
}

static enum sd_result run(const struct options *opt, struct sd_error *err)
{
	struct sd_sink *sink = sd_stdout_stream();
	struct sd_source *source = NULL;
	enum sd_result result = sd_open_stdin(&opt->limits, &source, err);

	sink->sums = opt->execution.checksum;
	if (result == SD_OK)
		result = selection_note(&opt->choice, source->manifest, false, err);
	if (result == SD_OK)
		result = (opt->action == QUANT ? run_quant : run_steps)(opt, source, sink, err);
	if (result == SD_OK && opt->execution.stats)
		sd_tell_stats(&sink, 1);
	if (result != SD_OK)
		sink->ops->abort(sink, err);
	sd_source_close(source);
	sink->ops->close(sink);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;
	enum sd_result result;

	sd_start("sd-cast", true);
	opt = parse(argc, argv);
	result = run(&opt, &err);
	sd_selection_free(&opt.choice);
	return sd_finish(result, &err);
}
