/* SPDX-License-Identifier: Apache-2.0 */
/* sd-transpose: carries out pending steps, reorderings and casts, on the CPU or a GPU. */
#include "base/text.h"
#include "stream/carry.h"
#include "tools/tool.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "Usage: sd-transpose [OPTION]...\n"
			    "Carry out the pending steps of a stream, reorderings and casts, from standard\n"
			    "input to standard output. What has none passes untouched.\n"
			    "\n"
			    "      --device=DEVICE  cpu, cuda or cuda:N (GPU number N), or auto: a GPU if there\n"
			    "                       is one, else the CPU (the default)\n"
			    "      --threads=N      threads on the CPU (as many as it has)\n"
			    "      --memory=SIZE    memory for data that is being worked on (32MiB)\n"
			    "      --dims=A,B       exchange dimensions A and B too, counted from 0, or from the\n"
			    "                       end if negative\n"
			    "      --include=RE     with --dims: only of tensors whose name matches RE (PCRE2,\n"
			    "                       found anywhere); may be given several times: one is enough\n"
			    "      --help           print this text\n"
			    "      --version        print the version\n";

struct options {
	struct sd_regex_list include;
	int64_t a, b;
	bool dims;
	bool cpu, cuda; /* may be used */
	unsigned gpu, threads;
	uint64_t memory;
};

static unsigned small(const char *option, const char *text)
{
	uint64_t number = sd_option_number(option, text);

	if (number > INT_MAX)
		sd_misuse("%s: %s is too large", option, text);
	return (unsigned)number;
}

static void parse_device(struct options *opt, const char *text)
{
	opt->cpu = strcmp(text, "auto") == 0 || strcmp(text, "cpu") == 0;
	opt->cuda = strcmp(text, "auto") == 0 || strncmp(text, "cuda", 4) == 0;
	opt->gpu = 0;
	if (strncmp(text, "cuda:", 5) == 0)
		opt->gpu = small("--device", text + 5);
	else if (opt->cuda && !opt->cpu && text[4] != '\0')
		opt->cuda = false;
	if (!opt->cpu && !opt->cuda)
		sd_misuse("--device: \"%s\" is none of auto, cpu, cuda and cuda:N", text);
}

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
		{"device", required_argument, NULL, 'd'},  {"threads", required_argument, NULL, 't'},
		{"memory", required_argument, NULL, 'm'},  {"dims", required_argument, NULL, 'D'},
		{"include", required_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},       {NULL, 0, NULL, 0},
	};
	struct options opt = {.cpu = true, .cuda = true, .memory = 32u << 20};
	struct sd_error err;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			parse_device(&opt, optarg);
			break;
		case 't':
			opt.threads = small("--threads", optarg);
			break;
		case 'm':
			opt.memory = sd_option_size("--memory", optarg);
			break;
		case 'D':
			parse_dims(&opt, optarg);
			break;
		case 'i':
			if (sd_regex_list_add(&opt.include, optarg, &err) != SD_OK)
				sd_misuse("%s", err.text);
			break;
		case 'h':
			sd_help(usage);
		case 'v':
			sd_version();
		default:
			sd_misuse(NULL);
		}
	}
	if (optind < argc)
		sd_misuse("no operand is taken: \"%s\"; sd-cat %s | sd-transpose reads it", argv[optind], argv[optind]);
	if (opt.include.count && !opt.dims)
		sd_misuse("--include needs --dims");
	return opt;
}

static enum sd_result open_device(const struct options *opt, struct sd_device **device, struct sd_error *err)
{
	if (opt->cuda) {
		enum sd_device_result r = sd_device_open_cuda(opt->gpu, device);

		if (r == SD_DEVICE_OK)
			return SD_OK;
		if (!opt->cpu)
			return sd_fail(err, SD_IO, "no CUDA device %u: %s; use --device=cpu or --device=auto", opt->gpu,
				       r == SD_DEVICE_ABSENT ? "no driver, no such GPU, or built without CUDA"
							     : "it cannot be used");
	}
	if (sd_device_open_cpu(opt->threads, device) != SD_DEVICE_OK)
		return sd_fail(err, SD_IO, "no memory or threads to work with; --threads=1 needs least");
	return SD_OK;
}

static bool any_work(const struct sd_carry *carry)
{
	for (size_t i = 0; i < carry->in->nrecords; i++)
		if (carry->plan.becomes[i] == SD_WORK && carry->in->records[i].state == SD_HERE)
			return true;
	return false;
}

/* The plan, and a device if there is work or somebody asked for one. */
static enum sd_result prepare(const struct options *opt, const struct sd_manifest *in, struct sd_carry *carry,
			      struct sd_error *err)
{
	enum sd_result result = sd_carry_plan(in, opt->memory, carry, err);

	if (result == SD_OK && (any_work(carry) || !opt->cpu))
		result = open_device(opt, &carry->device, err);
	return result;
}

static enum sd_result run(const struct options *opt, struct sd_error *err)
{
	struct sd_sink *sink = sd_stdout_stream();
	struct sd_manifest *exchanged = NULL;
	struct sd_source *source = NULL;
	struct sd_carry carry = {0};
	enum sd_result result = sd_open_stdin(&source, err);

	if (result == SD_OK && opt->dims)
		result = sd_carry_exchange(source->manifest, opt->a, opt->b, &opt->include, &exchanged, err);
	if (result == SD_OK)
		result = prepare(opt, exchanged ? exchanged : source->manifest, &carry, err);
	if (result == SD_OK)
		result = sd_pump(source, &carry.plan, &carry.worker, sink, err);
	if (result != SD_OK)
		sink->ops->abort(sink, err);
	if (carry.device)
		carry.device->ops->close(carry.device);
	sd_carry_free(&carry);
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

	sd_start("sd-transpose");
	opt = parse(argc, argv);
	result = run(&opt, &err);
	sd_regex_list_free(&opt.include);
	return sd_finish(result, &err);
}
