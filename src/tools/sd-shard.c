/* SPDX-License-Identifier: Apache-2.0 */
/* sd-shard: cuts tensors into the shards of ranks. */
#include "base/signals.h"
#include "filters/shard.h"
#include "pipe/stream.h"
#include "tools/selection_options.h"
#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"

static const char usage[] = "Usage: sd-shard [OPTION]...\n"
			    "Cut the tensors of a stream into the shards of ranks: one rank to standard\n"
			    "output, or all of them, each to a command of its own.\n"
			    "\n"
			    "      --ep=K/N          expert parallelism: rank K of N, counted from 0, gets its\n"
			    "                        experts (dimension 0 of the tensors that the map marks as\n"
			    "                        experts; the first ranks get one more if need be)\n"
			    "      --ep-shard=K/N    cut dimension 1 of the same tensors into N equal parts\n"
			    "      --dim=D           cut dimension D (-1 is the last) of any tensors\n"
			    "      --part=K/N          into N parts, the first ones larger by one if need be\n"
			    "  -n, --name=PATTERN      whose whole name is as PATTERN says: * is any text,\n"
			    "                          {a,b} and {0..39} as in bash; may be given several times\n"
			    "      --include=RE        and those whose name matches RE (PCRE2); likewise\n"
			    "      --exclude=RE        but not those whose name matches RE; likewise\n"
			    "      --keep-global     slices keep their place in the whole tensor\n"
			    "      --all=N           every rank of N: in place of --ep=K/N, or of --part=K/N\n"
			    "                        where --dim is given; needs --filter\n"
			    "      --filter=CMD      with --all: run CMD for each rank, with its stream as\n"
			    "                        standard input and its number in $SD_RANK\n"
			    "      --checksum        make checksums of data that comes without\n"
			    "      --stats           tell on standard error which way the data went\n"
			    "      --limit=NAME=N    raise or lower a safety limit: header, manifest,\n"
			    "                        name, tensors, rank, members, ratio or\n"
			    "                        spool; see sd-tools(7)\n"
			    "      --help            print this text\n"
			    "      --version         print the version\n"
			    "\n"
			    "A rank that has no part of a tensor gets an empty one.\n";

struct options {
	struct sd_limits limits;
	struct sd_rank ep, ep_shard, part; /* of 0: not given */
	struct sd_selection choice;
	int dim;
	bool has_dim, keep_global, checksum, stats;
	uint64_t all;
	const char *filter;
};

static struct sd_rank parse_part(const char *option, const char *text)
{
	struct sd_rank p;

	sd_option_part(option, text, &p.part, &p.of);
	return p;
}

static int parse_dim(const char *text)
{
	uint64_t number;
	bool minus = *text == '-';

	if (!sd_text_number(text + minus, &number) || number > SD_RANK_MAX || (minus && number == 0))
		sd_misuse("--dim: \"%s\" is no dimension", text);
	return minus ? -(int)number : (int)number;
}

static void check(const struct options *opt)
{
	if (!opt->filter != !opt->all)
		sd_misuse("--all and --filter go together");
	if (opt->has_dim && !opt->part.of && !opt->all)
		sd_misuse("--dim needs --part=K/N (or --all=N)");
	if (!opt->has_dim && (opt->part.of || sd_selection_chooses(&opt->choice) || opt->choice.exclude.count))
		sd_misuse("--part, -n, --include and --exclude need --dim");
	if (opt->all && (opt->has_dim ? opt->part.of : opt->ep.of))
		sd_misuse("--all=N takes the place of %s", opt->has_dim ? "--part" : "--ep");
	if (!opt->ep.of && !opt->ep_shard.of && !opt->has_dim && !opt->all)
		sd_misuse("nothing to cut: give --ep, --ep-shard or --dim");
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"ep", required_argument, NULL, 'e'},
		{"ep-shard", required_argument, NULL, 's'},
		{"dim", required_argument, NULL, 'd'},
		{"part", required_argument, NULL, 'p'},
		SELECTION_OPTIONS,
		{"keep-global", no_argument, NULL, 'k'},
		{"all", required_argument, NULL, 'a'},
		{"filter", required_argument, NULL, 'f'},
		{"checksum", no_argument, NULL, 'c'},
		{"stats", no_argument, NULL, 'S'},
		{"limit", required_argument, NULL, 'L'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct options opt = {.limits = sd_limits_default};
	int c;

	while ((c = getopt_long(argc, argv, ":" SELECTION_SHORT, longs, NULL)) != -1) {
		switch (c) {
		case 'e':
			opt.ep = parse_part("--ep", optarg);
			break;
		case 's':
			opt.ep_shard = parse_part("--ep-shard", optarg);
			break;
		case 'd':
			opt.dim = parse_dim(optarg);
			opt.has_dim = true;
			break;
		case 'p':
			opt.part = parse_part("--part", optarg);
			break;
		case 'k':
			opt.keep_global = true;
			break;
		case 'a':
			opt.all = sd_option_number("--all", optarg);
			if (opt.all < 1 || opt.all > 4096)
				sd_misuse("--all: a number of ranks from 1 to 4096");
			break;
		case 'f':
			opt.filter = optarg;
			break;
		case 'c':
			opt.checksum = true;
			break;
		case 'S':
			opt.stats = true;
			break;
		case 'L':
			sd_option_limit(&opt.limits, optarg);
			break;
		case 'h':
			sd_help(usage);
		case 'v':
			sd_version();
		default:
			if (!selection_option(&opt.choice, c, optarg))
				sd_bad_option(c, argv, longs);
		}
	}
	if (optind < argc)
		sd_misuse("no operand is taken: \"%s\"; sd-cat %s | sd-shard reads it", argv[optind], argv[optind]);
	check(&opt);
	return opt;
}

/* The cuts of one rank, at most three; rank only counts with --all. */
static size_t cuts_of(const struct options *opt, uint64_t rank, struct sd_shard_cut cuts[3])
{
	struct sd_rank all = {rank, opt->all};
	size_t n = 0;

	if (opt->ep.of || (opt->all && !opt->has_dim))
		cuts[n++] = (struct sd_shard_cut){true, NULL, 0, SD_CUT_UNEVEN, opt->ep.of ? opt->ep : all};
	if (opt->ep_shard.of)
		cuts[n++] = (struct sd_shard_cut){true, NULL, 1, SD_CUT_EQUAL, opt->ep_shard};
	if (opt->has_dim)
		cuts[n++] = (struct sd_shard_cut){false, &opt->choice, opt->dim, SD_CUT_UNEVEN,
						  opt->part.of ? opt->part : all};
	return n;
}

/* The ranks that are written in this run: one to standard output, or all to commands. */
struct ranks {
	size_t count;
	struct sd_shard *shards;
	struct sd_sink **sinks;
	int *fds;
	pid_t *pids;
};

static enum sd_result ranks_plan(const struct options *opt, const struct sd_manifest *in, struct ranks *ranks,
				 struct sd_error *err)
{
	ranks->count = opt->all ? opt->all : 1;
	ranks->shards = calloc(ranks->count, sizeof(*ranks->shards));
	ranks->sinks = calloc(ranks->count, sizeof(struct sd_sink *));
	ranks->fds = calloc(ranks->count, sizeof(*ranks->fds));
	ranks->pids = calloc(ranks->count, sizeof(*ranks->pids));
	if (!ranks->shards || !ranks->sinks || !ranks->fds || !ranks->pids)
		return sd_fail_memory(err);
	if (selection_note(&opt->choice, in, false, err) != SD_OK)
		return err->result;
	for (size_t i = 0; i < ranks->count; i++) {
		struct sd_shard_cut cuts[3];
		size_t n = cuts_of(opt, i, cuts);
		enum sd_result result = sd_shard_plan(in, cuts, n, opt->keep_global, &ranks->shards[i], err);

		if (result != SD_OK)
			return result;
	}
	if (ranks->shards[0].whole)
		sd_note("no tensor of this adapter is marked as \"" SD_LABEL_EXPERT "\": every rank gets all of it");
	return SD_OK;
}

/* Starts a rank's command at the other end of a pipe. */
static enum sd_result start_filter(const char *command, struct ranks *ranks, size_t rank, struct sd_error *err)
{
	char number[24];
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return sd_fail_errno(err, errno, "cannot make a pipe for rank %zu", rank);
	snprintf(number, sizeof(number), "%zu", rank);
	ranks->pids[rank] = fork();
	if (ranks->pids[rank] == 0) {
		signal(SIGPIPE, SIG_DFL);
		if (setenv("SD_RANK", number, 1) == 0 && dup2(ends[0], STDIN_FILENO) >= 0)
			execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(ends[0]);
	ranks->fds[rank] = ends[1];
	ranks->sinks[rank] = sd_stream_sink(ends[1], "sd-shard");
	if (ranks->pids[rank] < 0)
		return sd_fail_errno(err, errno, "cannot start the command of rank %zu", rank);
	return ranks->sinks[rank] ? SD_OK : sd_fail_memory(err);
}

/* Closes the streams and waits for the commands; the first one that failed is the failure, if there is no earlier one.
 */
static enum sd_result ranks_end(struct ranks *ranks, enum sd_result result, struct sd_error *err)
{
	for (size_t i = 0; i < ranks->count && ranks->sinks; i++) {
		if (ranks->sinks[i])
			ranks->sinks[i]->ops->close(ranks->sinks[i]);
		if (ranks->fds && ranks->fds[i])
			close(ranks->fds[i]);
	}
	for (size_t i = 0; i < ranks->count && ranks->pids; i++) {
		int status;

		if (ranks->pids[i] <= 0)
			continue;
		while (waitpid(ranks->pids[i], &status, 0) < 0 && errno == EINTR)
			;
		if (status == 0 || result != SD_OK)
			continue;
		if (WIFEXITED(status))
			result = sd_fail(err, SD_IO, "the command of rank %zu ended with status %d", i,
					 WEXITSTATUS(status));
		else
			result = sd_fail(err, SD_IO, "the command of rank %zu was ended by signal %d", i,
					 WTERMSIG(status));
	}
	for (size_t i = 0; i < ranks->count && ranks->shards; i++)
		sd_shard_free(&ranks->shards[i]);
	free(ranks->shards);
	free(ranks->sinks);
	free(ranks->fds);
	free(ranks->pids);
	return result;
}

static enum sd_result run_all(const struct options *opt, struct sd_source *source, struct sd_error *err)
{
	struct ranks ranks = {0};
	enum sd_result result = ranks_plan(opt, source->manifest, &ranks, err);
	size_t failed = ranks.count;

	/* A command that ends early is told as what it is, not as a signal to this program. */
	signal(SIGPIPE, SIG_IGN);
	/* Where the parent ignores it, how a command ended cannot be known. */
	signal(SIGCHLD, SIG_DFL);
	for (size_t i = 0; i < ranks.count && result == SD_OK; i++) {
		result = start_filter(opt->filter, &ranks, i, err);
		if (result == SD_OK)
			ranks.sinks[i]->sums = opt->checksum;
	}
	if (result != SD_OK && ranks.sinks)
		sd_shard_abort(ranks.sinks, ranks.count, err);
	else if (result == SD_OK)
		result = sd_shard_drive(source, ranks.shards, ranks.sinks, ranks.count, &failed, err);
	if (result != SD_OK && failed < ranks.count && !sd_signals_came())
		result = sd_fail(err, SD_IO, "the command of rank %zu stopped reading", failed);
	if (result == SD_OK && opt->stats)
		sd_tell_stats(ranks.sinks, ranks.count);
	return ranks_end(&ranks, result, err);
}

static enum sd_result run_one(const struct options *opt, struct sd_source *source, struct sd_sink *sink,
			      struct sd_error *err)
{
	struct ranks ranks = {0};
	enum sd_result result = ranks_plan(opt, source->manifest, &ranks, err);
	size_t failed;

	sink->sums = opt->checksum;
	if (result == SD_OK)
		result = sd_shard_drive(source, ranks.shards, &sink, 1, &failed, err);
	return ranks_end(&ranks, result, err);
}

static enum sd_result run(const struct options *opt, struct sd_error *err)
{
	struct sd_sink *sink = opt->all ? NULL : sd_stdout_stream();
	struct sd_source *source = NULL;
	enum sd_result result = sd_open_stdin(&opt->limits, &source, err);

	if (result == SD_OK)
		result = opt->all ? run_all(opt, source, err) : run_one(opt, source, sink, err);
	if (sink && result == SD_OK && opt->stats)
		sd_tell_stats(&sink, 1);
	if (sink && result != SD_OK)
		sink->ops->abort(sink, err);
	if (sink)
		sink->ops->close(sink);
	sd_source_close(source);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;
	enum sd_result result;

	sd_start("sd-shard", true);
	opt = parse(argc, argv);
	result = run(&opt, &err);
	sd_selection_free(&opt.choice);
	return sd_finish(result, &err);
}
