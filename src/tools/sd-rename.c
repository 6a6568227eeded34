/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename: decides names and places, by a map or by hand. Never changes a byte of data. */
#include "base/json.h"
#include "base/nearest.h"
#include "base/text.h"
#include "renaming/rename.h"
#include "model/config_json.h"
#include "config/config_dtypes.h"
#include "tools/back.h"
#include "tools/explain.h"
#include "tools/maps.h"
#include "tools/sample.h"
#include "tools/suggest.h"
#include "tools/tool.h"
#include "tools/why.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSES "an adapter without experts: its names are the same in all layouts, and pass"

static const char usage[] = "Usage: sd-rename [OPTION]...\n"
			    "Give the tensors of a stream other names and places, by a map between two layouts\n"
			    "or by hand. What has to change in the data is left for sd-transpose.\n"
			    "\n"
			    "      --map=MAP         a map by name (see --list-maps), by path (with a slash, or\n"
			    "                        ending in .map), or auto\n"
			    "      --to=LAYOUT       the layout to write; found from the keys if not given\n"
			    "  -D NAME=VALUE         an option of the map; dtype=DTYPE casts the experts\n"
			    "      --strict          make an error of what is noted otherwise, and refuse names\n"
			    "                        of words that the map does not know\n"
			    "  -e 's/RE/REPL/[gi]'   edit names by hand: those of the input where it stands in\n"
			    "                        front of --map, else new ones; may be repeated. RE is\n"
			    "                        PCRE2; in REPL & is the match, \\1 a group\n"
			    "      --exclude=RE      drop tensors whose new name matches RE; may be repeated (for\n"
			    "                        names of the input: sd-cat --exclude)\n"
			    "      --drop-unequal    drop what the map takes for a copy of another tensor, also\n"
			    "                        where the two are not equal\n"
			    "      --keep-config     leave config.json as it is, also where the last quantised\n"
			    "                        weight goes or most weights get another dtype\n"
			    "      --dry-run         only print what would change: key, new name, dtype, shape,\n"
			    "                        pending steps\n"
			    "      --explain [KEY]   print the rules that KEY goes through (a name that comes in or\n"
			    "                        out, or a pattern as *.{0..39}.*; may be repeated), and\n"
			    "                        what it becomes or is made of; without KEY, all rules and\n"
			    "                        how many tensors each takes\n"
			    "      --why-not[=RULE] KEY  print of each rule, or of RULE (file:line, line or stage),\n"
			    "                        why it does not take KEY, the nearest first\n"
			    "      --suggest         print edits and maps by which more keys would be turned, best\n"
			    "                        first: each has been tried\n"
			    "      --sample=TENSOR   look at such tensors, not at standard input: KEY DTYPE\n"
			    "                        [SIZE ...], with braces in KEY as in bash; may be repeated\n"
			    "      --json            what is printed, as JSON: an object in each line\n"
			    "      --color=WHEN      tables for people and colours: auto, always or never\n"
			    "      --list-maps       print the maps, their layouts and their options\n"
			    "      --check-map=MAP   only check a map and its samples; print its one-way rules; with\n"
			    "                        a checkpoint (< FILE, or - for standard input) go there\n"
			    "                        and back, and print what is not as it was\n"
			    "      --expand=MAP      print a map flat: with what it uses, all patterns written out\n"
			    "      --checksum        make checksums of data that comes without\n"
			    "      --stats           tell on standard error which way the data went\n"
			    "      --limit=NAME=N    raise or lower a safety limit: header, manifest,\n"
			    "                        name, tensors, rank, members, ratio or\n"
			    "                        spool; see sd-tools(7)\n"
			    "      --help            print this text\n"
			    "      --version         print the version\n";

enum what { RENAME, DRY_RUN, EXPLAIN, WHY_NOT, SUGGEST, LIST_MAPS, CHECK_MAP, EXPAND };

#define SHORTS ":e:D:"
static const struct option longs[] = {
	{"map", required_argument, NULL, 'm'},       {"to", required_argument, NULL, 't'},
	{"strict", no_argument, NULL, 's'},          {"exclude", required_argument, NULL, 'x'},
	{"dry-run", no_argument, NULL, 'd'},         {"explain", optional_argument, NULL, 'E'},
	{"why-not", optional_argument, NULL, 'w'},   {"suggest", no_argument, NULL, 'g'},
	{"sample", required_argument, NULL, 'p'},    {"json", no_argument, NULL, 'j'},
	{"color", required_argument, NULL, 'o'},     {"list-maps", no_argument, NULL, 'l'},
	{"check-map", required_argument, NULL, 'c'}, {"expand", required_argument, NULL, 'f'},
	{"limit", required_argument, NULL, 'L'},     {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},         {"checksum", no_argument, NULL, 'C'},
	{"stats", no_argument, NULL, 'S'},           {"keep-config", no_argument, NULL, 'k'},
	{"drop-unequal", no_argument, NULL, 'u'},    {NULL, 0, NULL, 0},
};

struct options {
	struct sd_limits limits;
	enum what what;
	const char *map, *to, *check, *rule;
	const char **keys;
	size_t nkeys, keys_room;
	struct sd_manifest *samples; /* NULL: standard input is read */
	bool json;
	enum sd_when colour;
	struct sd_define *defines;
	size_t ndefines, defines_room;
	struct sd_edit **edits;
	size_t nedits, edits_room;
	size_t nbefore; /* so many edits come before the map */
	struct sd_regex_list exclude;
	bool back; /* --check-map goes there and back */
	bool strict, drop_unequal, keep_config, checksum, stats;
};

static void add_edit(struct options *opt, const char *text)
{
	struct sd_error err;

	if (!sd_array_grow(&opt->edits, opt->nedits, &opt->edits_room, sizeof(*opt->edits)))
		sd_no_memory();
	if (sd_edit_new(text, &opt->edits[opt->nedits], &err) != SD_OK)
		sd_bad_value(&err);
	opt->nedits++;
}

static void add_key(struct options *opt, const char *key)
{
	if (!sd_array_grow(&opt->keys, opt->nkeys, &opt->keys_room, sizeof(*opt->keys)))
		sd_no_memory();
	opt->keys[opt->nkeys++] = key;
}

static void add_sample(struct options *opt, const char *text)
{
	struct sd_error err;

	if (!opt->samples)
		opt->samples = sd_manifest_new();
	if (!opt->samples)
		sd_no_memory();
	if (sample_add(opt->samples, text, &err) != SD_OK)
		sd_bad_value(&err);
}

static void set_what(struct options *opt, enum what what)
{
	if (opt->what != RENAME && opt->what != what)
		sd_misuse("--dry-run, --explain, --why-not, --suggest, --list-maps, --check-map and --expand exclude "
			  "each other");
	opt->what = what;
}

static void check_use(const struct options *opt)
{
	if (opt->json && (opt->what < DRY_RUN || opt->what > LIST_MAPS))
		sd_misuse("--json goes with --dry-run, --explain, --why-not, --suggest or --list-maps");
	if (opt->samples && (opt->what < DRY_RUN || opt->what > SUGGEST))
		sd_misuse("--sample goes with --dry-run, --explain, --why-not or --suggest: it has no data");
	if (opt->what == WHY_NOT && !opt->map)
		sd_misuse("--why-not needs a --map");
	if (opt->what == WHY_NOT && opt->nkeys != 1)
		sd_misuse("--why-not[=RULE] takes one KEY");
	if (opt->what >= SUGGEST)
		return;
	if (!opt->map && (opt->to || opt->ndefines || opt->drop_unequal))
		sd_misuse("--to, -D and --drop-unequal need a --map");
	if (!opt->map && !opt->nedits && !opt->exclude.count)
		sd_misuse("nothing to do: --map, -e or --exclude is missing");
}

static struct options parse(int argc, char **argv)
{
	struct options opt = {.limits = sd_limits_default};
	int c;

	while ((c = getopt_long(argc, argv, SHORTS, longs, NULL)) != -1) {
		switch (c) {
		case 'm':
			opt.map = optarg;
			opt.nbefore = opt.nedits;
			break;
		case 't':
			opt.to = optarg;
			break;
		case 'D':
			sd_option_define(&opt.defines, &opt.ndefines, &opt.defines_room, optarg);
			break;
		case 'e':
			add_edit(&opt, optarg);
			break;
		case 'x':
			sd_option_regex(&opt.exclude, optarg);
			break;
		case 's':
			opt.strict = true;
			break;
		case 'u':
			opt.drop_unequal = true;
			break;
		case 'k':
			opt.keep_config = true;
			break;
		case 'd':
			set_what(&opt, DRY_RUN);
			break;
		case 'E':
			set_what(&opt, EXPLAIN);
			if (optarg)
				add_key(&opt, optarg);
			break;
		case 'w':
			set_what(&opt, WHY_NOT);
			opt.rule = optarg;
			break;
		case 'g':
			set_what(&opt, SUGGEST);
			break;
		case 'p':
			add_sample(&opt, optarg);
			break;
		case 'j':
			opt.json = true;
			break;
		case 'o':
			opt.colour = sd_option_when(optarg);
			break;
		case 'l':
			set_what(&opt, LIST_MAPS);
			break;
		case 'c':
			set_what(&opt, CHECK_MAP);
			opt.check = optarg;
			break;
		case 'f':
			set_what(&opt, EXPAND);
			opt.check = optarg;
			break;
		case 'C':
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
			sd_bad_option(c, argv, longs);
		}
	}
	while ((opt.what == EXPLAIN || opt.what == WHY_NOT) && optind < argc)
		add_key(&opt, argv[optind++]);
	if (opt.what == CHECK_MAP && optind < argc && strcmp(argv[optind], "-") == 0) {
		opt.back = true;
		optind++;
	}
	if (optind < argc)
		sd_misuse("no operand is taken: \"%s\"; a source is read by sd-cat: sd-cat %s | sd-rename --map MAP",
			  argv[optind], argv[optind]);
	check_use(&opt);
	return opt;
}

static enum sd_result open_map(const struct options *opt, const struct sd_manifest *in, struct sd_map **map,
			       struct sd_error *err)
{
	enum sd_result result;

	*map = NULL;
	if (!opt->map)
		return SD_OK;
	if (strcmp(opt->map, "auto") != 0) {
		result = sd_maps_open(opt->map, map, err);
		return result == SD_OK ? sd_maps_note_other(in, *map, opt->strict, err) : result;
	}
	result = sd_maps_find(in, opt->to, map, err);
	if (result == SD_OK && *map)
		sd_note("map %s", sd_map_name(*map));
	else if (result == SD_OK)
		sd_note(PASSES);
	return result;
}

static enum sd_result choose_side(const struct options *opt, const struct sd_map *map, int *side, struct sd_error *err)
{
	*side = -1;
	if (!map || !opt->to)
		return SD_OK;
	for (int i = 0; i < 2; i++)
		if (strcmp(opt->to, sd_map_layout(map, i)) == 0)
			*side = i;
	return *side >= 0 ? SD_OK
			  : sd_fail(err, SD_USAGE, "--to %s: map %s knows the layouts %s and %s", opt->to,
				    sd_map_name(map), sd_map_layout(map, 0), sd_map_layout(map, 1));
}

static void print(const char *text)
{
	sd_text_print(stdout, text);
}

static bool is_untouched(const struct sd_record *r, const struct sd_target *t)
{
	return strcmp(r->key, t->name) == 0 && r->dtype == t->dtype && !t->nsteps && !t->move &&
	       sd_shape_equal(r->shape, r->rank, t->shape, t->rank);
}

/* The same for programs that read JSON. t: NULL where the record is dropped. */
static void print_change(const struct sd_record *r, const struct sd_target *t)
{
	printf("{\"key\":");
	sd_json_write(stdout, r->key, SD_JSON_ASCII);
	sd_json_member(stdout, "name", t ? t->name : NULL);
	if (t) {
		printf(",\"dtype\":\"%s\",\"shape\":", sd_dtype_name(t->dtype));
		sd_shape_print(stdout, t->shape, t->rank);
	}
	printf(",\"steps\":\"");
	if (t)
		explain_steps(stdout, t, r->dtype);
	else
		printf("drop");
	puts("\"}");
}

/* One line for each target that is not as its record was, and one for each record that is dropped. */
static void print_plan(const struct sd_manifest *in, const struct sd_plan *plan, bool json)
{
	const struct sd_manifest *m = plan->manifest;

	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];
		const struct sd_record *r = &m->records[t->record];

		if (is_untouched(r, t))
			continue;
		if (json) {
			print_change(r, t);
			continue;
		}
		print(r->key);
		putchar('\t');
		explain_tensor(stdout, t->name, t->dtype, t->shape, t->rank);
		putchar('\t');
		explain_steps(stdout, t, r->dtype);
		putchar('\n');
	}
	for (size_t i = 0; i < in->nrecords; i++)
		if (plan->becomes[i] == SD_DROP && json) {
			print_change(&in->records[i], NULL);
		} else if (plan->becomes[i] == SD_DROP) {
			print(in->records[i].key);
			puts("\t-\t-\t-\tdrop");
		}
}

/* That a map knows nothing of a checkpoint is worth a word, and an error where all keys should be known. */
static enum sd_result tell_idle(const struct options *opt, const struct sd_map *map, int to,
				const struct sd_manifest *in, struct sd_error *err)
{
	const struct sd_side_file *config = sd_manifest_side(in, "config.json");
	char method[64];

	if (sd_adapter_passes(in)) {
		sd_note(PASSES);
		return SD_OK;
	}

	sd_config_text(config, "quantization_config.quant_method", method, sizeof(method));
	sd_fail(err, SD_INPUT, "map %s changes no key on the way from %s to %s%s%s", sd_map_name(map),
		sd_map_layout(map, !to), sd_map_layout(map, to), *method ? "; the weights stay quantised, by " : "",
		method);
	if (opt->strict)
		return err->result;
	sd_note("%s", err->text);
	return SD_OK;
}

/* A rename as the options have it, and what it is for. */
struct job {
	const struct options *opt;
	struct sd_rename before; /* edits in front of the map */
	struct sd_rename rename;
	struct sd_plan edited, plan; /* edited has a manifest only where there are such edits */
	struct sd_manifest *in;      /* what comes in, and what the map gets of it */
	struct sd_manifest *to_map;
	struct sd_map *map;
	struct explain_options look;
	struct why_options why;
	struct explanation *explanation;
};

static struct sd_rename make_rename(const struct options *opt)
{
	bool explains = opt->what == EXPLAIN || opt->what == WHY_NOT;

	return (struct sd_rename){.defines = opt->defines,
				  .ndefines = opt->ndefines,
				  .nedits = opt->nedits - opt->nbefore,
				  .edits = (const struct sd_edit *const *)opt->edits + opt->nbefore,
				  .exclude = &opt->exclude,
				  .drop_unequal = opt->drop_unequal,
				  .keep_config = opt->keep_config,
				  .leave_missing = opt->what == RENAME || explains || opt->samples,
				  .some = opt->samples,
				  .go_on = explains,
				  .strict = opt->strict};
}

static void tell_notes(const struct sd_rename *rename)
{
	for (size_t i = 0; i < rename->nnotes; i++)
		sd_note("%s", rename->notes[i]);
}

/* The edits in front of the map. */
static enum sd_result edit_first(struct job *job, struct sd_error *err)
{
	enum sd_result result;

	job->to_map = job->in;
	if (!job->opt->nbefore)
		return SD_OK;
	job->before = (struct sd_rename){.nedits = job->opt->nbefore,
					 .edits = (const struct sd_edit *const *)job->opt->edits,
					 .strict = job->opt->strict,
					 .event = job->rename.event,
					 .user = job->rename.user};
	result = sd_rename_plan(&job->before, job->in, &job->edited, err);
	if (result != SD_OK)
		return result;
	tell_notes(&job->before);
	job->to_map = job->edited.manifest;
	if (job->explanation)
		explain_next(job->explanation, job->to_map);
	return SD_OK;
}

/* A key, under the name that edits in front of the map give it. */
static enum sd_result ask_why(struct job *job, struct sd_error *err)
{
	const struct sd_manifest *in = job->in;
	struct sd_nearest nearest = sd_nearest_begin(job->opt->keys[0]);
	const char *meant;

	if (!job->map)
		return sd_fail(err, SD_DIFFERENT, "there is no map whose rules could take it");
	job->why = (struct why_options){.key = job->opt->keys[0],
					.rule = job->opt->rule,
					.json = job->opt->json,
					.look = sd_look_at_stdout(job->opt->colour)};
	job->why.look.human = job->why.look.human && !job->opt->json;
	for (size_t i = 0; i < in->ntargets; i++) {
		if (strcmp(in->targets[i].name, job->why.key) == 0)
			job->why.name = job->to_map->targets[i].name;
		sd_nearest_look(&nearest, in->targets[i].name);
	}
	if (job->why.name)
		return why_print(&job->why, &job->rename, job->to_map, &job->plan, err);
	meant = sd_nearest_name(&nearest);
	return sd_fail(err, SD_DIFFERENT, meant ? "there is no key %s; did you mean %s?" : "there is no key %s",
		       job->why.key, meant);
}

/* Where no map has anything to do, names are compared with each other, and with the words that all maps know. */
static enum sd_result check_words(const struct job *job, struct sd_error *err)
{
	struct sd_rename words = {.to = 1, .strict = job->opt->strict};
	struct sd_plan plan = {0};
	struct sd_map *map = NULL;
	enum sd_result result = sd_maps_open("names", &map, err);

	words.map = map;
	if (result == SD_OK)
		result = sd_rename_plan(&words, job->to_map, &plan, err);
	if (result == SD_OK)
		tell_notes(&words);
	/* Where there is no room for a label, the next program tells it again. */
	(void)!sd_manifest_label(job->to_map, SD_LABEL_COMPARED);
	if (words.nnotes)
		(void)!sd_manifest_label(job->to_map, SD_LABEL_ODD);
	sd_plan_free(&plan);
	sd_map_free(map);
	return result;
}

/* The plan. Where there is one also without success, it is to be looked at. */
static enum sd_result make_plan(struct job *job, struct sd_error *err)
{
	const struct options *opt = job->opt;
	enum sd_result result = edit_first(job, err);

	if (result == SD_OK)
		result = open_map(opt, job->to_map, &job->map, err);
	job->rename.map = job->map;
	if (result == SD_OK && opt->map && !job->map)
		result = check_words(job, err);
	if (result == SD_OK)
		result = choose_side(opt, job->map, &job->rename.to, err);
	if (result == SD_OK && opt->what == WHY_NOT)
		result = ask_why(job, err);
	else if (result == SD_OK)
		result = sd_rename_plan(&job->rename, job->to_map, &job->plan, err);
	if (result == SD_OK && !opt->keep_config)
		result = sd_config_dtypes_follow(job->plan.manifest, job->in, err);
	if (!job->plan.manifest)
		return result;
	if (job->map && !opt->to)
		sd_note("from %s to %s", sd_map_layout(job->map, !job->rename.to),
			sd_map_layout(job->map, job->rename.to));
	tell_notes(&job->rename);
	if (result == SD_OK && job->map && job->rename.idle && job->in->ntargets)
		result = tell_idle(opt, job->map, job->rename.to, job->in, err);
	return result;
}

/* What is missing is an error where nothing can be left to a later program. */
static enum sd_result check_missing(const struct sd_plan *plan, struct sd_error *err)
{
	const struct sd_manifest *m = plan->manifest;

	for (size_t i = 0; i < m->nrecords; i++)
		if (m->records[i].state == SD_MISSING && m->records[i].lack)
			return sd_fail(err, SD_INPUT, "%s", m->records[i].lack);
	return SD_OK;
}

/* Explains what there is of a plan; what is wrong with it comes last. */
static enum sd_result explain(struct job *job, enum sd_result planned, struct sd_error *err)
{
	struct sd_error own;
	enum sd_result result;

	if (planned == SD_OK && !job->opt->samples)
		planned = check_missing(&job->plan, err);
	if (!job->plan.manifest)
		return planned;
	result = explain_print(job->explanation, &job->rename, &job->plan, &own);
	if (result == SD_OK || (planned != SD_OK && result == SD_DIFFERENT)) {
		if (result != SD_OK)
			sd_note("%s", own.text);
		return planned;
	}
	*err = own;
	return result;
}

static enum sd_result suggest(struct job *job, struct sd_error *err)
{
	const struct options *opt = job->opt;
	struct suggest_options asked = {.map = opt->map,
					.to = opt->to,
					.defines = opt->defines,
					.ndefines = opt->ndefines,
					.json = opt->json,
					.look = sd_look_at_stdout(opt->colour)};

	asked.look.human = asked.look.human && !opt->json;
	return edit_first(job, err) == SD_OK ? suggest_print(&asked, job->to_map, err) : err->result;
}

static void end_job(struct job *job)
{
	explain_end(job->explanation);
	sd_plan_free(&job->plan);
	sd_plan_free(&job->edited);
	sd_map_free(job->map);
}

/* Does what was asked for with a manifest, whose data comes from the source, if there is one. */
static enum sd_result rename_manifest(const struct options *opt, struct sd_manifest *in, struct sd_source *source,
				      struct sd_sink *sink, struct sd_error *err)
{
	struct job job = {.opt = opt, .in = in, .rename = make_rename(opt)};
	enum sd_result result;

	if (opt->what == EXPLAIN) {
		job.look = (struct explain_options){.keys = (char *const *)opt->keys,
						    .nkeys = opt->nkeys,
						    .json = opt->json,
						    .look = sd_look_at_stdout(opt->colour)};
		job.look.look.human = job.look.look.human && !opt->json;
		job.explanation = explain_begin(&job.look, in);
		if (!job.explanation)
			return sd_fail_memory(err);
		job.rename.event = explain_take;
		job.rename.no_holes = !opt->nkeys;
		job.rename.user = job.explanation;
	}
	if (opt->what == SUGGEST)
		result = suggest(&job, err);
	else
		result = make_plan(&job, err);
	if (result == SD_OK && opt->what == DRY_RUN)
		print_plan(in, &job.plan, opt->json);
	if (opt->what == EXPLAIN)
		result = explain(&job, result, err);
	/* An error comes last, also where both go to one file. */
	if (opt->what == EXPLAIN || opt->what == WHY_NOT)
		fflush(stdout);
	if (result == SD_OK && opt->what == RENAME)
		result = sd_drive(source, &job.plan, NULL, sink, err);
	else if (result == SD_OK && source)
		result = sd_take_rest(source, err);
	else if (result != SD_OK && sink)
		sink->ops->abort(sink, err);
	end_job(&job);
	return result;
}

/* There and back with what comes on standard input. */
static enum sd_result go_back(const struct options *opt, const struct sd_map *map, struct sd_error *err)
{
	struct sd_rename rename = {.map = map, .defines = opt->defines, .ndefines = opt->ndefines};
	struct sd_source *source = NULL;
	enum sd_result result = choose_side(opt, map, &rename.to, err);

	if (result == SD_OK)
		result = sd_open_stdin(&opt->limits, &source, err);
	if (result == SD_OK)
		result = back_check(&rename, source->manifest, err);
	if (result == SD_OK)
		result = sd_take_rest(source, err);
	sd_source_close(source);
	fflush(stdout);
	return result;
}

static enum sd_result look_at_map(const struct options *opt, struct sd_error *err)
{
	struct sd_map *map = NULL;
	enum sd_result result = sd_maps_open(opt->check, &map, err);

	if (result == SD_OK && opt->what == CHECK_MAP)
		result = sd_map_check_samples(map, err);
	if (result == SD_OK && opt->what == CHECK_MAP)
		sd_map_one_way(map, stdout);
	if (result == SD_OK && opt->what == CHECK_MAP && (opt->back || back_is_wanted()))
		result = go_back(opt, map, err);
	if (result == SD_OK && opt->what == EXPAND)
		sd_map_expand(map, stdout);
	sd_map_free(map);
	return result;
}

static enum sd_result run(const struct options *opt, struct sd_error *err)
{
	struct sd_source *source = NULL;
	struct sd_sink *sink = NULL;
	enum sd_result result;

	if (opt->what == LIST_MAPS)
		return sd_maps_list(opt->json, err);
	if (opt->what == CHECK_MAP || opt->what == EXPAND)
		return look_at_map(opt, err);
	if (opt->samples)
		return rename_manifest(opt, opt->samples, NULL, NULL, err);
	if (opt->what == RENAME) {
		sink = sd_stdout_stream();
		sink->sums = opt->checksum;
	}
	result = sd_open_stdin(&opt->limits, &source, err);
	if (result == SD_OK)
		result = rename_manifest(opt, source->manifest, source, sink, err);
	else if (sink)
		sink->ops->abort(sink, err);
	if (result == SD_OK && sink && opt->stats)
		sd_tell_stats(&sink, 1);
	sd_source_close(source);
	if (sink)
		sink->ops->close(sink);
	return result;
}

/* Whether text is asked for, not a stream: known before the options are, for misuse. */
static bool lists(int argc, char **argv)
{
	bool found = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, SHORTS, longs, NULL)) != -1)
		found = found || strchr("dEwglcf", c);
	optind = 0; /* once more from the start */
	return found;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;
	enum sd_result result;

	sd_start("sd-rename", !lists(argc, argv));
	opt = parse(argc, argv);
	result = run(&opt, &err);
	for (size_t i = 0; i < opt.nedits; i++)
		sd_edit_free(opt.edits[i]);
	free(opt.edits);
	free(opt.defines);
	free(opt.keys);
	sd_manifest_free(opt.samples);
	sd_regex_list_free(&opt.exclude);
	return sd_finish(result, &err);
}
