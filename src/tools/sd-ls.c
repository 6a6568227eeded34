/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls: lists the tensors of a checkpoint or a stream, without reading data. */
#include "base/json.h"
#include "base/names.h"
#include "base/text.h"
#include "formats/open.h"
#include "stream/join.h"
#include "tools/tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "Usage: sd-ls [OPTION]... [SOURCE]\n"
			    "List the tensors of a checkpoint, or of what flows in a pipeline, one a line:\n"
			    "name, dtype, shape, bytes and pending steps, separated by tabs. No data is read.\n"
			    "\n"
			    "SOURCE is a safetensors file, a checkpoint directory, a stream, or - for standard\n"
			    "input, which is also what is read when there is no SOURCE.\n"
			    "\n"
			    "      --json           print each as a JSON object on a line of its own\n"
			    "      --limit=NAME=N   take more of NAME than usual, or less: header, manifest,\n"
			    "                       name, tensors or rank; see sd-tools(7)\n"
			    "      --help           print this text\n"
			    "      --version        print the version\n"
			    "\n"
			    "Pending steps are what is still to be done to the data: reorder (sd-transpose),\n"
			    "cast:FROM>TO (sd-transpose). - is none. A tensor whose data does not come along\n"
			    "is \"elsewhere\"; one that no source has is \"missing\".\n";

struct options {
	struct sd_limits limits;
	bool json;
	const char *name;
};

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"limit", required_argument, NULL, 'L'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct options opt = {.limits = sd_limits_default};
	int c;

	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		switch (c) {
		case 'j':
			opt.json = true;
			break;
		case 'L':
			sd_option_limit(&opt.limits, optarg);
			break;
		case 'h':
			sd_help(usage);
		case 'v':
			sd_version();
		default:
			sd_bad_option(c, argv, longs);
		}
	}
	if (argc - optind > 1)
		sd_misuse("only one SOURCE; to list several: sd-cat --manifest A B | sd-ls");
	opt.name = optind < argc ? argv[optind] : "-";
	return opt;
}

/* One word behind another, with a comma between. */
static void append(char *text, size_t size, const char *format, ...) SD_PRINTF(3, 4);
static void append(char *text, size_t size, const char *format, ...)
{
	char word[128];
	size_t used = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(word, sizeof(word), format, args);
	va_end(args);
	if (!strstr(text, word))
		snprintf(text + used, size - used, "%s%s", used ? "," : "", word);
}

/* What is to be done to a target, added to what its tensor's other targets need. */
static void describe(const struct sd_manifest *m, const struct sd_target *t, char *text, size_t size)
{
	const struct sd_record *record = &m->records[t->record];
	const char *from = sd_dtype_name(record->dtype);

	if (record->state == SD_MISSING)
		append(text, size, "missing");
	if (record->state == SD_ELSEWHERE)
		append(text, size, "elsewhere");
	for (uint32_t i = 0; i < t->nsteps; i++) {
		const struct sd_step *step = &t->steps[i];

		append(text, size, "%s:%s>%s", sd_step_word(step->kind), from, sd_dtype_name(step->dtype));
		from = sd_dtype_name(step->dtype);
	}
	if (sd_target_is_reordered(t))
		append(text, size, "reorder");
}

static void print_shape(const struct sd_target *t)
{
	putchar('[');
	for (uint32_t i = 0; i < t->rank; i++)
		printf("%s%" PRIu64, i ? "," : "", t->shape[i]);
	putchar(']');
}

/* The words of a list with commas as an array of JSON. */
static void print_array(const char *words)
{
	for (const char *open = "["; *words; open = ",") {
		size_t length = strcspn(words, ",");

		printf("%s\"%.*s\"", open, (int)length, words);
		words += length + (words[length] == ',');
	}
}

static void print_json(const struct sd_target *t, uint64_t bytes, const char *steps)
{
	printf("{\"name\":");
	sd_json_write(stdout, t->name, SD_JSON_ASCII);
	printf(",\"dtype\":\"%s\",\"shape\":", sd_dtype_name(t->dtype));
	print_shape(t);
	printf(",\"bytes\":%" PRIu64 ",\"steps\":", bytes);
	print_array(steps);
	puts(*steps ? "]}" : "[]}");
}

/* One line: the tensor of this target, with the steps of all targets of that name (a list through next). */
static void print(const struct sd_manifest *m, uint32_t first, const uint32_t *next, bool json)
{
	const struct sd_target *t = &m->targets[first];
	uint64_t count = 0, bytes = 0;
	char steps[512] = "";

	for (uint32_t i = first; i != SD_NO_NAME; i = next[i])
		describe(m, &m->targets[i], steps, sizeof(steps));
	if (!sd_shape_count(t->shape, t->rank, &count) || !sd_dtype_bytes(t->dtype, count, &bytes))
		bytes = 0; /* sd_manifest_check has refused such a manifest */
	if (json) {
		print_json(t, bytes, steps);
		return;
	}
	sd_text_print(stdout, t->name);
	printf("\t%s\t", sd_dtype_name(t->dtype));
	print_shape(t);
	printf("\t%" PRIu64 "\t%s\n", bytes, *steps ? steps : "-");
}

/* Tensors in the order of their first piece. */
static enum sd_result list(const struct sd_manifest *m, bool json, struct sd_error *err)
{
	struct sd_names seen = {0};
	uint32_t *next = malloc((m->ntargets + 1) * sizeof(*next));
	uint32_t *last = malloc((m->ntargets + 1) * sizeof(*last)); /* of a tensor's first target: its last one */
	enum sd_result result = next && last ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < m->ntargets && result == SD_OK; i++) {
		uint32_t first = sd_names_add(&seen, m->targets[i].name, (uint32_t)i);

		if (first == SD_NO_NAME) {
			result = sd_fail_memory(err);
			break;
		}
		next[i] = last[i] = SD_NO_NAME;
		if (first != i)
			next[last[first]] = (uint32_t)i;
		last[first] = (uint32_t)i;
	}
	for (size_t i = 0; i < m->ntargets && result == SD_OK; i++)
		if (last[i] != SD_NO_NAME)
			print(m, (uint32_t)i, next, json);
	sd_names_free(&seen);
	free(next);
	free(last);
	return result;
}

static enum sd_result run(const struct options *opt, struct sd_error *err)
{
	struct sd_source *source = NULL;
	enum sd_result result = strcmp(opt->name, "-") == 0 ? sd_open_stdin(&opt->limits, &source, err)
							    : sd_open(opt->name, &opt->limits, &source, err);

	if (result == SD_OK)
		result = list(source->manifest, opt->json, err);
	sd_source_close(source);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;

	sd_start("sd-ls", false);
	opt = parse(argc, argv);
	return sd_finish(run(&opt, &err), &err);
}
