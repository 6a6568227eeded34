/* SPDX-License-Identifier: Apache-2.0 */
/* sd-pack: writes a stream's checkpoint as safetensors. */
#include "base/text.h"
#include "formats/hf_metadata.h"
#include "formats/loss.h"
#include "flow/concat.h"
#include "formats/open.h"
#include "formats/part_files.h"
#include "formats/patch.h"
#include "formats/recover.h"
#include "formats/resume.h"
#include "formats/safetensors_write.h"
#include "flow/driver.h"
#include "tools/pack_form.h"
#include "tools/progress.h"
#include "tools/tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SHARD_SIZE 5000000000u

static const char usage[] = "Usage: sd-pack [OPTION]... [-]\n"
			    "Write the checkpoint on standard input, a stream, as safetensors: to a file, to\n"
			    "a directory of shards with their index, to an archive of such a directory, or,\n"
			    "without -o, as one file to standard output.\n"
			    "\n"
			    "  -o PATH                write to PATH: a directory if it ends in / or is one,\n"
			    "                         else a file, an archive if it ends in .tar, .tar.zst\n"
			    "                         or .zip; it appears whole or not at all\n"
			    "  -f                     replace an existing file, or the checkpoint in an\n"
			    "                         existing directory; -ff: also one that has more\n"
			    "      --strict           make an error of what is noted otherwise: names that are\n"
			    "                         odd among their siblings, tensors that are left out\n"
			    "      --shard-size=SIZE  bytes of tensors in a shard (5GB); a larger tensor gets\n"
			    "                         a shard of its own\n"
			    "      --dcp-all=N        write the shards of N ranks as PyTorch DCP has them\n"
			    "      --dcp=K/N          the same, of rank K alone, counted from 0\n"
			    "      --format=ARCHIVE   write an archive whatever its name is: tar, tar.zst or zip;\n"
			    "                         a tar to standard output, too\n"
			    "      --zstd[=LEVEL]     compress a .tar.zst at LEVEL, 1 to 19 (3)\n"
			    "      --like=DIR         take the files of this checkpoint directory as they are:\n"
			    "                         which tensor is in which, headers, index, side files\n"
			    "      --parts=N          end files where N parts would: see --part of sd-cat\n"
			    "      --join=DIR         make a checkpoint of the parts in DIR, if all are there\n"
			    "      --patch            of a checkpoint in DIR (-o DIR/), write just the bytes of\n"
			    "                         these tensors, which keep dtype and shape\n"
			    "      --update           put these tensors into the checkpoint in DIR, in the place of\n"
			    "                         those that it has or beside them; other files stay\n"
			    "      --resume           go on with what a run that was killed has written of DIR\n"
			    "                         (-o DIR/): sd-cat --resume=DIR sends the rest\n"
			    "      --recover=DIR      end what a run that was killed has begun in DIR\n"
			    "      --keep-config      with --like: config.json too, even if its dtypes are others\n"
			    "      --metadata=K=V     put this entry into the files' __metadata__\n"
			    "      --no-sync          do not wait until all is on the disk\n"
			    "      --dry-run          print the files that would be written, with their number\n"
			    "                         of tensors and their bytes; read no data\n"
			    "      --progress         show progress, also where standard error is no terminal\n"
			    "      --no-progress      show none; SIGUSR1 asks for one line all the same\n"
			    "      --stats            tell on standard error how many bytes came and went\n"
			    "      --limit=NAME=N     raise or lower a safety limit: header, manifest,\n"
			    "                         name, tensors, rank, members, ratio or\n"
			    "                         spool; see sd-tools(7)\n"
			    "      --help             print this text\n"
			    "      --version          print the version\n";

struct options {
	struct sd_limits limits;
	struct sd_safetensors_sink_options pack;
	struct sd_entry *metadata;
	const char *like_path, *join, *recover;
	struct sd_template like;
	struct pack_form form;
	enum progress progress;
	bool shard_size, keep_config, dry_run, stats;
	bool patch, update; /* what stands there is changed */
	int lock;           /* of the directory that is updated; -1: none */
	bool lose;          /* what stands there may have more than what comes */
};

static void add_metadata(struct options *opt, const char *text)
{
	const char *equals = strchr(text, '=');
	struct sd_output_plan_options *layout = &opt->pack.layout;
	struct sd_entry *larger = realloc(opt->metadata, (layout->nmetadata + 1) * sizeof(*larger));
	char *key = equals ? strndup(text, (size_t)(equals - text)) : NULL;

	if (!equals || equals == text)
		sd_misuse("--metadata: \"%s\" is not KEY=VALUE", text);
	if (!sd_text_is_utf8(text, strlen(text)))
		sd_misuse("--metadata: \"%s\" is not UTF-8", text);
	if (!larger || !key)
		sd_no_memory();
	larger[layout->nmetadata++] = (struct sd_entry){key, equals + 1};
	opt->metadata = larger;
}

static void free_options(struct options *opt)
{
	for (size_t i = 0; i < opt->pack.layout.nmetadata; i++)
		free((char *)opt->metadata[i].key);
	free(opt->metadata);
	if (opt->lock >= 0)
		close(opt->lock);
}

#define SUFFIX ".safetensors"

/* Whether -o names a directory, one that is there or one that is to be made. */
static bool is_directory(const char *path)
{
	struct stat st;

	return path[strlen(path) - 1] == '/' || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

/* Whether it looks like that of a safetensors file, and no directory has it. */
static bool is_file_name(const char *path)
{
	size_t length = strlen(path), suffix = strlen(SUFFIX);

	return length > suffix && strcmp(path + length - suffix, SUFFIX) == 0 && !is_directory(path);
}

/* --dcp=K/N, or with all --dcp-all=N. */
static void set_dcp(struct options *opt, bool all, const char *text)
{
	struct sd_dcp_ranks *dcp = &opt->pack.dcp;

	if (dcp->of && all != (dcp->count == dcp->of))
		sd_misuse("--dcp writes the shard of one rank, --dcp-all those of all: not both");
	*dcp = (struct sd_dcp_ranks){.count = 1};
	if (all)
		dcp->of = dcp->count = sd_option_number("--dcp-all", text);
	else
		sd_option_part("--dcp", text, &dcp->first, &dcp->of);
	if (dcp->of < 1 || dcp->of > SD_DCP_RANKS_MAX)
		sd_misuse("%s: a number of ranks from 1 to %d", all ? "--dcp-all" : "--dcp", SD_DCP_RANKS_MAX);
}

static void check_dcp(const struct options *opt)
{
	const char *path = opt->pack.path;

	if (!opt->pack.dcp.of)
		return;
	if (opt->like_path)
		sd_misuse("--like takes the files of DIR as they are, --dcp and --dcp-all write shards: not both");
	if (opt->pack.layout.parts || opt->patch || opt->update)
		sd_misuse("--dcp and --dcp-all write all shards anew: no --parts, --patch, --update");
	if (!path)
		sd_misuse("--dcp and --dcp-all write into a directory: they need -o DIR/");
	if (is_file_name(path))
		sd_misuse("--dcp and --dcp-all write into a directory, and -o %s is the name of a file: -o %.*s/", path,
			  (int)(strlen(path) - strlen(SUFFIX)), path);
}

static void check_resume(const struct options *opt)
{
	const struct sd_safetensors_sink_options *o = &opt->pack;

	if (!o->resume)
		return;
	if (o->force || o->layout.parts || o->dcp.of || opt->patch || opt->update || opt->join || opt->recover ||
	    opt->dry_run)
		sd_misuse("--resume writes a new directory: no -f, --parts, --dcp, --dcp-all, --patch, --update, "
			  "--join, --recover, --dry-run");
	if (!o->path || o->path[strlen(o->path) - 1] != '/' || opt->form.format)
		sd_misuse("--resume writes a new directory: -o DIR/ says which");
}

static uint32_t parse_parts(const char *text)
{
	uint64_t parts = sd_option_number("--parts", text);

	if (parts < 1 || parts > SD_PARTS_MAX)
		sd_misuse("--parts: a number from 1 to %d", SD_PARTS_MAX);
	return (uint32_t)parts;
}

/* What changes a checkpoint that is there takes all else as it is. */
static void check_changes(const struct options *opt)
{
	const char *name = opt->patch ? "--patch" : opt->update ? "--update" : "--recover";
	int count = opt->patch + opt->update + !!opt->recover;

	if (!count)
		return;
	if (opt->shard_size || opt->like_path || opt->join || opt->metadata || opt->pack.force ||
	    opt->pack.layout.parts || count > 1)
		sd_misuse("%s takes the files that are there as they are: no -f, --shard-size, --like, --metadata, "
			  "--parts, --join, and one of --patch, --update and --recover",
			  name);
	if (!opt->recover && (!opt->pack.path || !is_directory(opt->pack.path)))
		sd_misuse("%s changes a checkpoint directory: -o DIR/ says which", name);
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"shard-size", required_argument, NULL, 's'}, {"like", required_argument, NULL, 'l'},
		{"keep-config", no_argument, NULL, 'k'},      {"metadata", required_argument, NULL, 'm'},
		{"no-sync", no_argument, NULL, 'n'},          {"strict", no_argument, NULL, 'S'},
		{"dry-run", no_argument, NULL, 'd'},          {"progress", no_argument, NULL, 'p'},
		{"no-progress", no_argument, NULL, 'q'},      {"stats", no_argument, NULL, 't'},
		{"limit", required_argument, NULL, 'L'},      {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},          {"parts", required_argument, NULL, 'P'},
		{"join", required_argument, NULL, 'J'},       {"patch", no_argument, NULL, 'A'},
		{"recover", required_argument, NULL, 'R'},    {"update", no_argument, NULL, 'U'},
		{"resume", no_argument, NULL, 'r'},           {"dcp", required_argument, NULL, 'D'},
		{"dcp-all", required_argument, NULL, 'E'},    {"format", required_argument, NULL, 'F'},
		{"zstd", optional_argument, NULL, 'z'},       {NULL, 0, NULL, 0},
	};
	struct options opt = {.limits = sd_limits_default,
			      .lock = -1,
			      .pack = {.fd = STDOUT_FILENO,
				       .name = "standard output",
				       .layout.shard_size = SHARD_SIZE,
				       .sync = true,
				       .note = sd_note,
				       .progress = progress_tell}};
	int c;

	while ((c = getopt_long(argc, argv, ":o:f", longs, NULL)) != -1) {
		switch (c) {
		case 'o':
			if (!*optarg)
				sd_misuse("-o: the path is empty");
			opt.pack.path = optarg;
			break;
		case 'f':
			opt.lose = opt.pack.force;
			opt.pack.force = true;
			break;
		case 'S':
			opt.pack.strict = true;
			break;
		case 's':
			opt.pack.layout.shard_size = sd_option_size("--shard-size", optarg);
			if (!opt.pack.layout.shard_size)
				sd_misuse("--shard-size: a shard must have room for something");
			opt.shard_size = true;
			break;
		case 'D':
			set_dcp(&opt, false, optarg);
			break;
		case 'E':
			set_dcp(&opt, true, optarg);
			break;
		case 'P':
			opt.pack.layout.parts = parse_parts(optarg);
			break;
		case 'A':
			opt.patch = true;
			break;
		case 'U':
			opt.update = true;
			break;
		case 'r':
			opt.pack.resume = true;
			break;
		case 'R':
			opt.recover = optarg;
			break;
		case 'J':
			opt.join = optarg;
			break;
		case 'l':
			opt.like_path = optarg;
			break;
		case 'k':
			opt.keep_config = true;
			break;
		case 'm':
			add_metadata(&opt, optarg);
			break;
		case 'F':
			opt.form.format = optarg;
			break;
		case 'z':
			opt.form.level = pack_level(optarg);
			break;
		case 'n':
			opt.pack.sync = false;
			break;
		case 'd':
			opt.dry_run = true;
			break;
		case 'p':
			opt.progress = PROGRESS_YES;
			break;
		case 'q':
			opt.progress = PROGRESS_NO;
			break;
		case 't':
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
			sd_bad_option(c, argv, longs);
		}
	}
	if (optind < argc && (argc - optind > 1 || strcmp(argv[optind], "-") != 0))
		sd_misuse("no operand is taken: \"%s\"; sd-pack -o %s writes there, sd-cat %s | sd-pack reads it",
			  argv[optind], argv[optind], argv[optind]);
	if (opt.pack.path && strcmp(opt.pack.path, "-") == 0)
		opt.pack.path = NULL;
	check_changes(&opt);
	if (opt.join && (opt.pack.path || opt.like_path || opt.pack.layout.parts || opt.metadata || opt.dry_run))
		sd_misuse("--join takes what is in its directory as it is: no other option but --no-sync");
	opt.pack.layout.metadata = opt.metadata;
	if (opt.like_path && !opt.pack.path)
		sd_misuse("--like makes a directory: it needs -o DIR/");
	if (opt.like_path && is_file_name(opt.pack.path))
		sd_misuse("--like writes a directory, and -o %s is the name of a file: -o %.*s/", opt.pack.path,
			  (int)(strlen(opt.pack.path) - strlen(SUFFIX)), opt.pack.path);
	check_dcp(&opt);
	check_resume(&opt);
	if (opt.like_path && (opt.shard_size || opt.metadata))
		sd_misuse("--like takes shards and metadata as they are: no --shard-size, no --metadata");
	if (opt.keep_config && !opt.like_path)
		sd_misuse("--keep-config needs --like: otherwise config.json comes as it is");
	if (opt.like_path && opt.pack.layout.parts)
		sd_misuse("--like takes shards as they are: no --parts");
	if (opt.pack.path)
		opt.pack.layout.directory = is_directory(opt.pack.path);
	pack_settle_form(&opt.form, &opt.pack);
	if (opt.pack.archive && opt.pack.dcp.of)
		sd_misuse("--dcp and --dcp-all write into a directory, not into an archive");
	opt.pack.layout.directory = opt.pack.layout.directory || opt.like_path || opt.pack.dcp.of;
	if (!opt.pack.path && isatty(STDOUT_FILENO) && !opt.dry_run && !opt.join && !opt.recover)
		sd_misuse(
			"standard output is a terminal and a safetensors file is binary; name a file: sd-pack -o FILE");
	if (opt.pack.layout.parts && !opt.pack.layout.directory)
		sd_misuse("--parts makes files of a directory: it needs -o DIR/");
	return opt;
}

/* Whether the directory has this file, by whatever name. */
static bool holds(const char *directory, const struct stat *file)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	struct stat st;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && st.st_dev == file->st_dev &&
			st.st_ino == file->st_ino;
	if (dir)
		closedir(dir);
	return found;
}

/* A file that is open as standard input must not be written to, nor the directory that it lies in. */
static enum sd_result check_input(const struct options *opt, struct sd_error *err)
{
	struct stat in, out;
	bool there = opt->pack.path ? stat(opt->pack.path, &out) == 0 : fstat(STDOUT_FILENO, &out) == 0;

	if (!there || fstat(STDIN_FILENO, &in) != 0 || !S_ISREG(in.st_mode))
		return SD_OK;
	if (in.st_dev == out.st_dev && in.st_ino == out.st_ino)
		return sd_fail(err, SD_IO, "%s is the input: write to another file",
			       opt->pack.path ? opt->pack.path : "standard output");
	if (S_ISDIR(out.st_mode) && holds(opt->pack.path, &in))
		return sd_fail(err, SD_IO, "%s holds the input, which would be replaced: write to another directory",
			       opt->pack.path);
	return SD_OK;
}

#define FOREIGN (-2)
#define LINKS_MAX 40

/* What a name in this directory stands for, if that is /proc/PID/fd. */
static int descriptor_in(int dir, const char *name)
{
	struct statfs fs;
	struct stat here, own;
	uint64_t number;

	if (fstatfs(dir, &fs) != 0 || fs.f_type != PROC_SUPER_MAGIC || !sd_text_number(name, &number))
		return -1;
	if (fstat(dir, &here) != 0 || stat("/proc/self/fd", &own) != 0 || here.st_ino != own.st_ino ||
	    here.st_dev != own.st_dev || number > INT_MAX)
		return FOREIGN;
	return (int)number;
}

/* Goes on from dir to the directory of a path: the rest of the path, or NULL where there is none. */
static const char *enter(int *dir, char *path)
{
	char *slash = strrchr(path, '/');
	int parent;

	if (!slash)
		return path;
	*slash = '\0';
	parent = sd_openat(*dir, slash == path ? "/" : path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	close(*dir);
	*dir = parent;
	return parent >= 0 ? slash + 1 : NULL;
}

/*
 * The descriptor that a path such as /dev/stdout, /dev/fd/3, or a link to them stands for: the path leads to what is
 * open, and a file that is renamed to it would take the place of the link. -1 if it is no such path, FOREIGN if it is
 * another program's.
 */
static int descriptor_of(const char *path)
{
	int dir = sd_openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0), found = -1;
	char rest[PATH_MAX], link[PATH_MAX];
	ssize_t length = snprintf(rest, sizeof(rest), "%s", path);

	for (int links = 0; dir >= 0 && length > 0 && length < PATH_MAX && links < LINKS_MAX; links++) {
		const char *name = enter(&dir, rest);

		found = name ? descriptor_in(dir, name) : -1;
		length = name && found == -1 ? readlinkat(dir, name, link, sizeof(link) - 1) : -1;
		if (length > 0) {
			memcpy(rest, link, (size_t)length);
			rest[length] = '\0';
		}
	}
	if (dir >= 0)
		close(dir);
	return found;
}

/* A pipe or device with a name (-o /dev/null), or what is open already (-o /dev/stdout), is written to as standard
 * output is. */
static enum sd_result open_special(struct options *opt, struct sd_error *err)
{
	const char *path = opt->pack.path;
	struct stat st;
	int open;

	if (!path || (opt->pack.layout.directory && !opt->pack.archive) || stat(path, &st) != 0)
		return SD_OK;
	open = descriptor_of(path);
	if (open == FOREIGN)
		return sd_fail(err, SD_USAGE, "%s is a file that another program has open: name the file itself", path);
	if (open < 0 && !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		return SD_OK;
	opt->pack.fd = open >= 0 ? fcntl(open, F_DUPFD_CLOEXEC, 3)
				 : sd_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC | O_NOCTTY, 0);
	if (opt->pack.fd < 0)
		return sd_fail_errno(err, errno, "%s", path);
	if (isatty(opt->pack.fd))
		return sd_fail(err, SD_USAGE, "%s is a terminal and a safetensors file is binary", path);
	if (opt->pack.archive == SD_ARCHIVE_ZIP)
		return sd_fail(err, SD_USAGE,
			       "%s: a zip needs a file of its own, as its checksums are made at the end: -o FILE.zip",
			       path);
	opt->pack.name = path;
	opt->pack.path = NULL;
	return SD_OK;
}

static void print_file(const char *name, size_t tensors, uint64_t bytes)
{
	sd_text_print(stdout, name);
	printf("\t%zu\t%" PRIu64 "\n", tensors, bytes);
}

static bool has_data(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->nrecords; i++)
		if (m->records[i].state == SD_HERE)
			return true;
	return false;
}

/*
 * A manifest that came without any data (sd-cat --manifest) stands for the checkpoint that it tells of. *data is
 * whether data came.
 */
static enum sd_result suppose_data(struct sd_manifest *m, bool *data, struct sd_error *err)
{
	*data = has_data(m);
	if (*data)
		return SD_OK;
	if (m->parts && m->parts->of)
		return sd_parts_suppose(m, err);
	for (size_t i = 0; i < m->nrecords; i++)
		if (m->records[i].state == SD_ELSEWHERE)
			m->records[i].state = SD_HERE;
	return SD_OK;
}

#define REPLACED "%s: %" PRIu64 " tensors are replaced by %" PRIu64

/* What stands in the way, and is replaced, is to be told where it has another number of tensors: both are 0 if not. */
static enum sd_result check_replaced(const struct options *opt, const struct sd_manifest *m, uint64_t *before_tensors,
				     uint64_t *after_tensors, struct sd_error *err)
{
	struct sd_census before, after;
	struct stat st;
	enum sd_result result;

	/* The shard of one rank stands beside others, which may be there already. */
	if ((m->parts && m->parts->of) || opt->update || !opt->pack.path || !opt->pack.force ||
	    opt->pack.dcp.count < opt->pack.dcp.of || stat(opt->pack.path, &st) != 0 ||
	    !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return SD_OK;
	result = sd_census_at(opt->pack.path, &opt->limits, &before, err);
	if (result == SD_OK)
		result = sd_census_take(m, &after, err);
	if (result != SD_OK || before.tensors == after.tensors || !before.tensors)
		return result;
	if (sd_census_loses(&before, &after) && !opt->lose)
		return sd_fail(err, SD_IO,
			       "%s: %" PRIu64 " tensors of %" PRIu64 " elements would be replaced by %" PRIu64
			       " of %" PRIu64 "; -ff does that",
			       opt->pack.path, before.tensors, before.elements, after.tensors, after.elements);
	*before_tensors = before.tensors;
	*after_tensors = after.tensors;
	return opt->pack.strict ? sd_fail(err, SD_INPUT, REPLACED, opt->pack.path, before.tensors, after.tensors)
				: SD_OK;
}

static enum sd_result dry_run(const struct options *opt, struct sd_manifest *m, struct sd_error *err)
{
	struct sd_output_plan layout;
	struct sd_manifest *pieces = NULL;
	bool directory = opt->pack.layout.directory, whole = !m->parts || !m->parts->of;
	bool first = whole || m->parts->here[0] == 0;
	enum sd_result result;

	if (opt->pack.dcp.of) {
		result = sd_dcp_plan_make(m, &opt->pack.layout, &opt->pack.dcp, &layout, &pieces, err);
		m = pieces;
	} else {
		result = sd_output_plan_make(m, &opt->pack.layout, &layout, err);
	}
	for (size_t i = 0; i < layout.nfiles && result == SD_OK; i++)
		if (!layout.files[i].kept)
			print_file(directory        ? layout.files[i].name
				   : opt->pack.path ? opt->pack.path
						    : "-",
				   layout.files[i].ntensors, layout.files[i].size);
	if (layout.index && whole && result == SD_OK)
		print_file(layout.index_name, 0, layout.index_length);
	for (size_t i = 0; result == SD_OK && directory && first && i < m->nside; i++)
		print_file(m->side[i].name, 0, m->side[i].size);
	sd_output_plan_free(&layout);
	sd_manifest_free(pieces);
	return result;
}

/* With --resume what comes is the rest; the other records are written already. rest outlives the sink. */
static enum sd_result drive(const struct options *opt, struct sd_source *source, struct sd_sink *sink,
			    struct sd_plan *rest, struct sd_error *err)
{
	if (!opt->pack.resume)
		return sd_drive_all(source, sink, err);
	if (sd_resume_plan(opt->pack.path, source->manifest, rest, err) == SD_OK)
		return sd_drive(source, rest, NULL, sink, err);
	sink->ops->abort(sink, err);
	return err->result;
}

static enum sd_result pack(struct options *opt, struct sd_source *source, struct sd_error *err)
{
	enum sd_result result = open_special(opt, err);
	struct sd_sink *sink = sd_safetensors_sink(&opt->pack);
	struct sd_plan rest = {0};
	uint64_t in, out;

	progress_start(opt->progress);
	if (result == SD_OK)
		result = sink ? drive(opt, source, sink, &rest, err) : sd_fail_memory(err);
	progress_stop();
	if (opt->stats && result == SD_OK) {
		sd_safetensors_sink_counts(sink, &in, &out);
		sd_note("%" PRIu64 " bytes of data came, %" PRIu64 " bytes were written", in, out);
		sd_tell_checked(sink->checked);
	}
	if (sink)
		sink->ops->close(sink);
	sd_plan_free(&rest);
	if (opt->pack.fd > STDOUT_FILENO && close(opt->pack.fd) != 0 && result == SD_OK)
		result = sd_fail_errno(err, errno, "cannot close");
	return result;
}

static enum sd_result open_like(struct options *opt, struct sd_manifest *manifest, struct sd_error *err)
{
	enum sd_result result = sd_template_open(opt->like_path, &opt->limits, &opt->like, err);

	opt->pack.layout.like = &opt->like;
	return result == SD_OK ? sd_template_take_side(&opt->like, manifest, opt->keep_config, err) : result;
}

/* An index among the side files says in which files the tensors are to be; it is none that is copied. */
static void take_wished(struct options *opt, struct sd_manifest *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->nside; i++) {
		if (strcmp(m->side[i].name, SD_WISHED_INDEX) != 0) {
			m->side[kept++] = m->side[i];
			continue;
		}
		if (opt->shard_size || opt->like_path)
			continue;
		opt->pack.layout.wished = m->side[i].data;
		opt->pack.layout.wished_length = m->side[i].size;
	}
	m->nside = kept;
}

/* The checkpoint is there: that there is no memory to say more is no failure. */
static void tell_odd(struct sd_manifest *m)
{
	struct sd_error ignored;

	(void)!sd_tell_odd(m, false, &ignored);
}

/* A part stands beside the others, in a directory. */
static enum sd_result check_part(const struct options *opt, const struct sd_manifest *m, struct sd_error *err)
{
	bool other = opt->like_path || opt->patch || opt->update;

	if (!m->parts || !m->parts->of || opt->pack.resume)
		return SD_OK;
	if (opt->pack.dcp.of || opt->pack.archive)
		return sd_fail(err, SD_USAGE,
			       "this is part %" PRIu32 "/%" PRIu32
			       " of a checkpoint, and %s made of the whole: put the parts together with sd-cat first",
			       m->parts->here[0], m->parts->of,
			       opt->pack.archive ? "an archive is" : "the shards of ranks are");
	if (opt->pack.layout.directory && !other)
		return SD_OK;
	return sd_fail(err, SD_USAGE,
		       "this is part %" PRIu32 "/%" PRIu32
		       " of a checkpoint: it goes into a directory with the others, "
		       "-o DIR/%s",
		       m->parts->here[0], m->parts->of, other ? " without --like, --patch and --update" : "");
}

static void print_changes(const struct sd_patch *patch)
{
	const char *name;
	uint64_t bytes;
	size_t tensors;

	for (size_t i = 0; sd_patch_file(patch, i, &name, &tensors, &bytes); i++)
		if (tensors)
			print_file(name, tensors, bytes);
}

/* The tensors that come are written to a journal first. What is not among them stays as it is, and side files do. */
static enum sd_result patch(struct options *opt, struct sd_source *source, struct sd_error *err)
{
	struct sd_patch *changes = NULL;
	bool data = false;
	enum sd_result result;

	if (opt->dry_run && suppose_data(source->manifest, &data, err) != SD_OK)
		return err->result;
	result = sd_patch_begin(opt->pack.path, &opt->limits, source->manifest, opt->dry_run, opt->pack.sync, &changes,
				err);
	if (result == SD_OK && opt->dry_run) {
		print_changes(changes);
		result = data ? sd_take_rest(source, err) : SD_OK;
	} else if (result == SD_OK) {
		opt->pack.path = sd_patch_journal(changes);
		opt->pack.layout =
			(struct sd_output_plan_options){.metadata = sd_patch_metadata(changes), .nmetadata = 1};
		opt->pack.some = true;
		opt->pack.strict = false;
		result = pack(opt, source, err);
		if (result == SD_OK)
			result = sd_patch_end(changes, err);
		opt->pack.layout.nmetadata = 0;
	}
	sd_patch_close(changes);
	return result;
}

/* Parts that nobody has joined say how long their files are: nothing else may write these anew, or take their form. */
static enum sd_result check_joined(const char *path, struct sd_error *err)
{
	struct sd_part_set set = {0};
	enum sd_result result = sd_part_set_read(path, &set, err);

	if (result == SD_OK && set.nmarks)
		result =
			sd_fail(err, SD_INPUT, "%s has parts that are not joined: sd-pack --join=%s first", path, path);
	sd_part_set_free(&set);
	return result;
}

/* Before it is opened, and until the end: another run would change what is read. */
static enum sd_result lock_existing(struct options *opt, struct sd_error *err)
{
	bool found;
	enum sd_result result = sd_recover_lock(opt->pack.path, &opt->lock, err);

	opt->pack.locked = result == SD_OK;
	return result == SD_OK ? sd_recover_place(opt->lock, opt->pack.path, opt->pack.sync, &found, err) : result;
}

/* What the checkpoint has that is updated, and then what comes, which wins. All but the tensors is as it is there. */
static enum sd_result add_existing(struct options *opt, struct sd_source **source, struct sd_error *err)
{
	struct sd_concat how = {.later_wins = true};
	const char *names[] = {opt->pack.path, "the stream"};
	struct sd_source *sources[2] = {NULL, *source};
	enum sd_result result = opt->dry_run ? SD_OK : lock_existing(opt, err);

	if (result == SD_OK && !has_data((*source)->manifest))
		result = sd_fail(err, SD_INPUT, "no data in this stream: there is nothing to update");
	if (result == SD_OK)
		result = check_joined(opt->pack.path, err);
	if (result == SD_OK)
		result = sd_open(opt->pack.path, &opt->limits, &sources[0], err);

	if (result != SD_OK)
		return result;
	opt->pack.layout.there = (uint32_t)sources[0]->manifest->nrecords;
	opt->pack.layout.adds = opt->pack.force = true;
	opt->like_path = opt->pack.path;
	return sd_concat(sources, names, 2, source, &how, err);
}

static enum sd_result run(struct options *opt, struct sd_error *err)
{
	struct sd_source *source = NULL;
	uint64_t before = 0, after = 0;
	bool odd, data = false;
	enum sd_result result;

	if (opt->join)
		return sd_part_join(opt->join, opt->pack.sync, err);
	if (opt->recover)
		return sd_recover(opt->recover, opt->pack.sync, err);
	result = opt->dry_run ? SD_OK : check_input(opt, err);

	if (result == SD_OK)
		result = sd_open_stdin(&opt->limits, &source, err);
	if (result == SD_OK)
		result = check_part(opt, source->manifest, err);
	if (result == SD_OK && opt->patch) {
		result = patch(opt, source, err);
		sd_source_close(source);
		return result;
	}
	if (result == SD_OK)
		take_wished(opt, source->manifest);
	if (result == SD_OK && opt->dry_run)
		result = suppose_data(source->manifest, &data, err);
	if (result == SD_OK && opt->update)
		result = add_existing(opt, &source, err);
	if (result == SD_OK && opt->like_path)
		result = check_joined(opt->like_path, err);
	if (result == SD_OK && opt->like_path)
		result = open_like(opt, source->manifest, err);
	odd = result == SD_OK && !opt->like_path;
	if (odd && opt->pack.strict)
		result = sd_tell_odd(source->manifest, true, err);
	if (result == SD_OK)
		result = check_replaced(opt, source->manifest, &before, &after, err);
	if (result == SD_OK)
		result = opt->dry_run ? dry_run(opt, source->manifest, err) : pack(opt, source, err);
	if (result == SD_OK && opt->dry_run && data)
		result = sd_take_rest(source, err);
	/* Only when all went well: a failure is one line. */
	if (result == SD_OK && odd)
		tell_odd(source->manifest);
	if (result == SD_OK && before != after)
		sd_note(REPLACED, opt->pack.path, before, after);
	sd_source_close(source);
	sd_template_close(&opt->like);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;
	enum sd_result result;

	sd_start("sd-pack", false);
	opt = parse(argc, argv);
	result = run(&opt, &err);
	free_options(&opt);
	return sd_finish(result, &err);
}
