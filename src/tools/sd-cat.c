/* SPDX-License-Identifier: Apache-2.0 */
/* sd-cat: opens checkpoints and writes them as one stream. */
#include "base/signals.h"
#include "config/config_cut.h"
#include "filters/cut.h"
#include "formats/open.h"
#include "formats/resume.h"
#include "formats/zstd.h"
#include "flow/concat.h"
#include "flow/driver.h"
#include "flow/identity.h"
#include "model/parts.h"
#include "pipe/stream.h"
#include "tools/selection_options.h"
#include "tools/tool.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "Usage: sd-cat [OPTION]... [SOURCE]...\n"
			    "Write checkpoints as one stream to standard output, for the other sd-tools.\n"
			    "\n"
			    "A SOURCE is a safetensors file, a file of torch.save (.pt, .bin), a checkpoint\n"
			    "directory (with or without an index), an archive of one (.tar, .tar.zst, .zip,\n"
			    ".nemo...), a stream, or - for standard input, which is also what is read when\n"
			    "there is no SOURCE.\n"
			    "\n"
			    "  -n, --name=PATTERN  send only tensors whose whole name is as PATTERN says: * is any\n"
			    "                      text, {a,b} and {0..39} as in bash; may be given several times\n"
			    "      --include=RE    and those whose name matches RE (PCRE2, found anywhere);\n"
			    "                      likewise\n"
			    "      --exclude=RE    leave out tensors whose name matches RE; likewise\n"
			    "      --layers=NUMBERS\n"
			    "                      cut out these layers, such as 0-3: what is left is a smaller\n"
			    "                      model, and config.json says so\n"
			    "      --experts=NUMBERS\n"
			    "                      cut out these experts of each layer, and their rows of the\n"
			    "                      router\n"
			    "      --renumber      count the layers and experts that are left from 0\n"
			    "      --keep-config   leave config.json as it is\n"
			    "      --part=K/N      send part K of N, counted from 0: all of some layers, about as\n"
			    "                      many bytes in each part; sd-pack --join makes them whole\n"
			    "      --resume=DIR        send what sd-pack --resume -o DIR/ has not written yet\n"
			    "      --override      take a tensor that several SOURCEs have from the last of them\n"
			    "      --manifest      send the manifest only, no data\n"
			    "      --checksum      send checksums (XXH3) along, which the other tools renew and\n"
			    "                      sd-pack checks; those that a SOURCE has are checked here\n"
			    "      --no-index      take the safetensors files that are in a directory, all of\n"
			    "                      them, whatever its index says\n"
			    "      --strict        make an error of what is noted otherwise, and of names that are\n"
			    "                      odd among their siblings\n"
			    "      --zstd[=LEVEL]  compress the stream, which every tool reads as well;\n"
			    "                      LEVEL is 1 to 19 (3)\n"
			    "      --stats         tell on standard error which way the data went\n"
			    "      --root=KEY      of a file of torch.save, take what is under KEY of its top\n"
			    "                      (model, state_dict); nothing behind the = takes all\n"
			    "      --skip-objects  leave out what is an object of an unknown kind in a pickle;\n"
			    "                      nothing is run all the same\n"
			    "      --allow-expand  make tensors of a file that have far more bytes than it\n"
			    "      --dir=FOLDER    of an archive, take the checkpoint in this folder of it\n"
			    "      --incomplete    read a checkpoint too that says that it is not finished\n"
			    "      --keep-dtypes   do not cast what .hf_metadata of NeMo AutoModel says\n"
			    "      --limit=NAME=N  raise or lower a safety limit: header, manifest,\n"
			    "                      name, tensors, rank, members, ratio or\n"
			    "                      spool; see sd-tools(7)\n"
			    "      --help          print this text\n"
			    "      --version       print the version\n"
			    "\n"
			    "What is left out stays in the manifest, so that the rest is planned as a part\n"
			    "of the whole; what is cut is gone.\n";

struct options {
	struct sd_limits limits;
	struct sd_selection choice, cut; /* names; layers and experts */
	bool override, renumber, keep_config;
	uint64_t part, of;  /* of --part; of 0: not given */
	const char *resume; /* NULL: not given */
	bool manifest_only, checksum, stats, strict;
	uint64_t level; /* of --zstd; 0: not compressed */
	char **names;
	int count;
};

static bool is_cut(int letter)
{
	return letter == SELECTION_LAYERS || letter == SELECTION_EXPERTS;
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		SELECTION_OPTIONS,
		SELECTION_NUMBERS,
		{"override", no_argument, NULL, 'o'},
		{"part", required_argument, NULL, 'p'},
		{"resume", required_argument, NULL, 'u'},
		{"renumber", no_argument, NULL, 'r'},
		{"keep-config", no_argument, NULL, 'k'},
		{"manifest", no_argument, NULL, 'm'},
		{"stats", no_argument, NULL, 's'},
		{"no-index", no_argument, NULL, 'N'},
		{"strict", no_argument, NULL, 'S'},
		{"zstd", optional_argument, NULL, 'z'},
		{"checksum", no_argument, NULL, 'c'},
		{"root", required_argument, NULL, 'R'},
		{"skip-objects", no_argument, NULL, 'O'},
		{"allow-expand", no_argument, NULL, 'e'},
		{"dir", required_argument, NULL, 'D'},
		{"incomplete", no_argument, NULL, 'i'},
		{"keep-dtypes", no_argument, NULL, 'd'},
		SD_TOOL_OPTIONS,
		{NULL, 0, NULL, 0},
	};
	static char *only_stdin[] = {"-"};
	struct options opt = {.limits = sd_limits_default};
	int c;

	while ((c = getopt_long(argc, argv, ":" SELECTION_SHORT, longs, NULL)) != -1) {
		switch (c) {
		case 'o':
			opt.override = true;
			break;
		case 'p':
			sd_option_part("--part", optarg, &opt.part, &opt.of);
			if (opt.of > SD_PARTS_MAX)
				sd_misuse("--part: at most %d parts", SD_PARTS_MAX);
			break;
		case 'u':
			opt.resume = optarg;
			break;
		case 'r':
			opt.renumber = true;
			break;
		case 'k':
			opt.keep_config = true;
			break;
		case 'm':
			opt.manifest_only = true;
			break;
		case 's':
			opt.stats = true;
			break;
		case 'N':
			opt.limits.no_index = true;
			break;
		case 'S':
			opt.strict = true;
			break;
		case 'c':
			opt.checksum = true;
			break;
		case 'z':
			opt.level = optarg ? sd_option_number("--zstd", optarg) : 3;
			if (opt.level < 1 || opt.level > SD_ZSTD_LEVEL_MOST)
				sd_misuse("--zstd: the level is 1 to %d", SD_ZSTD_LEVEL_MOST);
			break;
		case 'R':
			opt.limits.root = optarg;
			break;
		case 'O':
			opt.limits.skip_objects = true;
			break;
		case 'e':
			opt.limits.allow_expand = true;
			break;
		case 'D':
			opt.limits.dir = optarg;
			break;
		case 'i':
			opt.limits.incomplete = true;
			break;
		case 'd':
			opt.limits.keep_dtypes = true;
			break;
		default:
			if (!selection_option(is_cut(c) ? &opt.cut : &opt.choice, c, optarg) &&
			    !sd_tool_option(&opt.limits, usage, c, optarg))
				sd_bad_option(c, argv, longs);
		}
	}
	opt.names = optind < argc ? argv + optind : only_stdin;
	opt.count = optind < argc ? argc - optind : 1;
	opt.limits.parts = opt.count > 1;
	if (opt.resume && (opt.of || opt.manifest_only || !*opt.resume))
		sd_misuse("--resume=DIR sends what is left of the whole: no --part, no --manifest");
	if (opt.override && opt.count < 2)
		sd_misuse("--override needs two SOURCEs at least: the later one wins");
	if (!sd_selection_chooses(&opt.cut) && (opt.renumber || opt.keep_config))
		sd_misuse("--%s needs --layers or --experts", opt.renumber ? "renumber" : "keep-config");
	return opt;
}

static enum sd_result open_all(const struct options *opt, struct sd_source **joined, struct sd_error *err)
{
	struct sd_source **sources = calloc((size_t)opt->count, sizeof(struct sd_source *));
	enum sd_result result = sources ? SD_OK : sd_fail_memory(err);
	struct sd_concat how = {.later_wins = opt->override};
	int n = 0;

	for (; n < opt->count && result == SD_OK; n++) {
		if (strcmp(opt->names[n], "-") == 0)
			result = sd_open_stdin(&opt->limits, &sources[n], err);
		else
			result = sd_open(opt->names[n], &opt->limits, &sources[n], err);
		if (result == SD_OK && sources[n]->note)
			result = sd_doubt(opt->strict, err, "%s", sources[n]->note);
	}
	if (result == SD_OK) {
		result = sd_concat(sources, (const char *const *)opt->names, (size_t)n, joined, &how, err);
		if (result == SD_OK && how.differs)
			result = sd_doubt(opt->strict && !opt->override, err,
					  "%s differs between the sources; the %s one is taken", how.differs,
					  opt->override ? "last" : "first");
		if (result == SD_OK && opt->override)
			sd_note("%zu tensors are those of a later source", how.replaced);
	} else {
		for (int i = 0; i < n && sources; i++)
			sd_source_close(sources[i]);
	}
	free(sources);
	return result;
}

/* Whether a record is wanted: a target of it is included, none of its names is excluded. */
static enum sd_result choose(const struct options *opt, const struct sd_manifest *m, bool *wanted, struct sd_error *err)
{
	if (m->ntargets && (sd_selection_check(&opt->choice, m, err) != SD_OK ||
			    selection_note(&opt->choice, m, opt->strict, err) != SD_OK))
		return err->result;
	for (size_t i = 0; i < m->ntargets; i++) {
		bool chosen;

		if (sd_selection_takes(&opt->choice, m->targets[i].name, &chosen, err) != SD_OK)
			return err->result;
		wanted[m->targets[i].record] = wanted[m->targets[i].record] || chosen;
	}
	/* What a wanted record's steps need is wanted too. */
	for (size_t i = 0; i < m->ntargets; i++)
		for (uint32_t k = 0; k < m->targets[i].nsteps && wanted[m->targets[i].record]; k++)
			if (m->targets[i].steps[k].operand != SD_NO_RECORD)
				wanted[m->targets[i].steps[k].operand] = true;
	for (size_t i = 0; i < m->nrecords; i++)
		if (wanted[i] && m->records[i].state == SD_HERE && m->records[i].lack)
			return sd_fail(err, SD_INPUT, "%s", m->records[i].lack);
	return SD_OK;
}

/* The records that a target needs get new numbers, all others SD_DROP. */
static void number_records(const struct sd_manifest *in, uint32_t *numbers)
{
	uint32_t n = 0;

	for (size_t i = 0; i < in->nrecords; i++)
		numbers[i] = SD_DROP;
	for (size_t i = 0; i < in->ntargets; i++) {
		numbers[in->targets[i].record] = 0;
		for (uint32_t k = 0; k < in->targets[i].nsteps; k++)
			if (in->targets[i].steps[k].operand != SD_NO_RECORD)
				numbers[in->targets[i].steps[k].operand] = 0;
	}
	for (size_t i = 0; i < in->nrecords; i++)
		numbers[i] = numbers[i] == SD_DROP ? SD_DROP : n++;
}

static enum sd_result add_all(const struct sd_manifest *in, const bool *wanted, const uint32_t *numbers,
			      struct sd_plan *out, struct sd_error *err)
{
	for (size_t i = 0; i < in->nrecords; i++) {
		struct sd_record record = in->records[i];
		if (record.state == SD_HERE) {
			record.lack = NULL;
			record.state = wanted[i] ? SD_HERE : SD_ELSEWHERE;
		}
		out->becomes[i] = wanted[i] ? numbers[i] : SD_DROP;
		if (numbers[i] != SD_DROP && !sd_manifest_add_record(out->manifest, &record))
			return sd_fail_memory(err);
	}
	for (size_t i = 0; i < in->ntargets; i++) {
		struct sd_target t = in->targets[i];

		if (!sd_target_renumber(out->manifest, &t, numbers) || !sd_manifest_add_target(out->manifest, &t))
			return sd_fail_memory(err);
	}
	return SD_OK;
}

/* The same manifest, where what is not wanted is elsewhere, and what no target needs is gone. */
static enum sd_result plan(const struct options *opt, const struct sd_manifest *in, struct sd_plan *out,
			   struct sd_error *err)
{
	bool *wanted = calloc(in->nrecords + 1, sizeof(*wanted));
	uint32_t *numbers = malloc((in->nrecords + 1) * sizeof(*numbers));
	enum sd_result result;

	out->manifest = sd_manifest_new();
	out->becomes = calloc(in->nrecords + 1, sizeof(*out->becomes));
	if (wanted && numbers && out->manifest && out->becomes && sd_manifest_copy_head(out->manifest, in))
		result = choose(opt, in, wanted, err);
	else
		result = sd_fail_memory(err);
	if (result == SD_OK) {
		number_records(in, numbers);
		result = add_all(in, wanted, numbers, out, err);
	}
	free(numbers);
	free(wanted);
	return result;
}

/* A note where what is left keeps numbers that no class counts. */
static enum sd_result note_gaps(const struct options *opt, const struct sd_numbers *numbers, const char *what,
				struct sd_error *err)
{
	if (!numbers->text || opt->renumber || sd_numbers_are_first(numbers))
		return SD_OK;
	return sd_doubt(opt->strict, err,
			"--%s %s: they keep their numbers, and config.json is as it was: no class loads that; "
			"--renumber counts them from 0",
			what, numbers->text);
}

/* What is chosen, cut. */
static enum sd_result plan_cut(struct options *opt, const struct sd_manifest *chosen, struct sd_shard *shard,
			       struct sd_error *err)
{
	enum sd_result result;

	sd_selection_settle(&opt->cut, chosen);
	result = sd_cut_plan(chosen, &opt->cut, opt->renumber, shard, err);
	if (result == SD_OK && !opt->keep_config)
		result = sd_config_cut_follow(shard->manifest, &opt->cut, opt->renumber, err);
	if (result == SD_OK)
		result = note_gaps(opt, &opt->cut.layers, "layers", err);
	if (result == SD_OK)
		result = note_gaps(opt, &opt->cut.experts, "experts", err);
	return result;
}

/* What a cut takes of the chosen records, by the source's own numbers: of what is not sent, nothing. */
static enum sd_result renumber_ranges(const struct sd_plan *chosen, size_t nrecords, struct sd_shard *shard,
				      struct sd_error *err)
{
	struct sd_shard_range *ranges = calloc(nrecords + 1, sizeof(*ranges));

	for (size_t i = 0; i < nrecords && ranges; i++)
		ranges[i] = chosen->becomes[i] == SD_DROP ? (struct sd_shard_range){SD_NO_RECORD, 0, 0}
							  : shard->ranges[chosen->becomes[i]];
	if (ranges) {
		free(shard->ranges);
		shard->ranges = ranges;
	}
	return ranges ? SD_OK : sd_fail_memory(err);
}

/* What tells parts of this checkpoint from those of another one. */
static enum sd_result identify(const struct options *opt, struct sd_source *source, const struct sd_manifest *m,
			       uint64_t *id, struct sd_error *err)
{
	bool unsure = false;
	enum sd_result result = sd_source_identity(source, m, id, err);

	if (result == SD_OK && !source->random)
		result = sd_identity_of_inputs((const char *const *)opt->names, (size_t)opt->count, id, &unsure, err);
	if (result == SD_OK && unsure)
		sd_note("--part: what passes by is known by its names, dtypes and shapes alone: parts of other values "
			"would join with these; where the input is a file, they do not");
	return result;
}

/* Of what was chosen and cut, only a part is sent, or nothing. */
static enum sd_result withhold(const struct options *opt, struct sd_source *source, struct sd_manifest *m,
			       struct sd_error *err)
{
	enum sd_result result = SD_OK;
	uint64_t id;

	if (opt->of)
		result = identify(opt, source, m, &id, err);
	else if (opt->resume)
		result = sd_source_identity_of_files(source, m, &id, err);
	if (result == SD_OK && opt->resume)
		result = sd_resume_choose(opt->resume, m, id, err);
	if (result == SD_OK && opt->of)
		result = sd_parts_choose(m, (uint32_t)opt->part, (uint32_t)opt->of, id, err);
	for (size_t i = 0; i < m->nrecords && opt->manifest_only; i++)
		if (m->records[i].state == SD_HERE)
			m->records[i].state = SD_ELSEWHERE;
	return result;
}

static bool is_sent(const struct sd_manifest *m, uint32_t record)
{
	return record < m->nrecords && m->records[record].state == SD_HERE;
}

static enum sd_result drive_chosen(const struct options *opt, struct sd_source *source, const struct sd_plan *chosen,
				   struct sd_sink *sink, struct sd_error *err)
{
	if (withhold(opt, source, chosen->manifest, err) != SD_OK)
		return err->result;
	for (size_t i = 0; i < source->manifest->nrecords; i++)
		if (!is_sent(chosen->manifest, chosen->becomes[i]))
			chosen->becomes[i] = SD_DROP;
	return sd_drive(source, chosen, NULL, sink, err);
}

/* Sends what the plan has chosen, or of that what is cut out. */
static enum sd_result drive(struct options *opt, struct sd_source *source, const struct sd_plan *chosen,
			    struct sd_sink *sink, struct sd_error *err)
{
	struct sd_shard shard = {0};
	size_t failed;
	enum sd_result result;

	if (!sd_selection_chooses(&opt->cut))
		return drive_chosen(opt, source, chosen, sink, err);
	result = plan_cut(opt, chosen->manifest, &shard, err);
	if (result == SD_OK)
		result = renumber_ranges(chosen, source->manifest->nrecords, &shard, err);
	if (result == SD_OK)
		result = withhold(opt, source, shard.manifest, err);
	for (size_t i = 0; i < source->manifest->nrecords && result == SD_OK; i++)
		if (!is_sent(shard.manifest, shard.ranges[i].record))
			shard.ranges[i].record = SD_NO_RECORD;
	if (result == SD_OK)
		result = sd_shard_drive(source, &shard, &sink, 1, &failed, err);
	sd_shard_free(&shard);
	return result;
}

static enum sd_result cat(struct options *opt, struct sd_sink *sink, struct sd_error *err)
{
	struct sd_source *source = NULL;
	struct sd_plan chosen = {0};
	enum sd_result result = sd_check_lanes(err);

	sink->sums = sink->checks = opt->checksum;
	if (result == SD_OK)
		result = open_all(opt, &source, err);
	if (result == SD_OK && opt->strict)
		result = sd_tell_odd(source->manifest, true, err);
	if (result == SD_OK)
		result = plan(opt, source->manifest, &chosen, err);
	if (result == SD_OK)
		result = drive(opt, source, &chosen, sink, err);
	if (result == SD_OK && opt->stats)
		sd_tell_stats(&sink, 1);
	if (result != SD_OK)
		sink->ops->abort(sink, err);
	sd_plan_free(&chosen);
	sd_source_close(source);
	return result;
}

/* The stream goes through a compressor to standard output, whose sink only tells that there is none. A failure of the
 * compressor is why the stream could not go on. */
static enum sd_result cat_zstd(struct options *opt, struct sd_sink *out, struct sd_error *err)
{
	struct sd_zstd *zstd;
	struct sd_sink *sink;
	struct sd_error told;
	int plain;
	enum sd_result result = sd_zstd_compress(STDOUT_FILENO, (int)opt->level, &zstd, &plain, err);

	if (result != SD_OK) {
		out->ops->abort(out, err);
		return result;
	}
	sink = sd_stream_sink_before(plain, STDOUT_FILENO, "sd-cat");
	result = sink ? cat(opt, sink, err) : sd_fail_memory(err);
	if (sink)
		sink->ops->close(sink);
	close(plain);
	/* Of the pipe to the compressor: that nobody reads it only says that the compressor has failed. */
	sd_signals_forget(SIGPIPE);
	if (sd_zstd_wait(zstd, &told) != SD_OK && (result == SD_OK || err->told == SD_LOST)) {
		*err = told;
		result = told.result;
		if (told.told == SD_LOST)
			sd_signals_pass(SIGPIPE);
	}
	sd_zstd_close(zstd);
	return result;
}

static enum sd_result run(struct options *opt, struct sd_error *err)
{
	struct sd_sink *sink = sd_stdout_stream();
	enum sd_result result = opt->level ? cat_zstd(opt, sink, err) : cat(opt, sink, err);

	sink->ops->close(sink);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;
	enum sd_result result;

	sd_start("sd-cat", true);
	opt = parse(argc, argv);
	result = run(&opt, &err);
	sd_selection_free(&opt.choice);
	sd_selection_free(&opt.cut);
	return sd_finish(result, &err);
}
