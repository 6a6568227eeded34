/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename: decides names and places, by a map or by hand. Never changes a byte of data. */
#include "base/names.h"
#include "base/nearest.h"
#include "base/text.h"
#include "map/rename.h"
#include "stream/config.h"
#include "stream/storage.h"
#include "tools/maps.h"
#include "tools/tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "Usage: sd-rename [OPTION]...\n"
			    "Give the tensors of a stream other names and places, by a map between two layouts\n"
			    "or by hand. What has to change in the data is left for sd-transpose.\n"
			    "\n"
			    "      --map=MAP         a map by name (see --list-maps), by path (with a slash, or\n"
			    "                        ending in .map), or auto\n"
			    "      --to=LAYOUT       the layout to write; found from the keys if not given\n"
			    "  -D NAME=VALUE         an option of the map; dtype=DTYPE casts the experts\n"
			    "      --strict          refuse keys that no rule of the map takes\n"
			    "  -e 's/RE/REPL/[gi]'   edit names by hand, after the map; may be repeated. RE is\n"
			    "                        PCRE2; in REPL & is the match, \\1 a group\n"
			    "      --exclude=RE      drop tensors whose new name matches RE; may be repeated\n"
			    "      --drop-unequal    drop what the map takes for a copy of another tensor, also\n"
			    "                        where the two are not equal\n"
			    "      --keep-config     leave config.json as it is, also where the last quantised\n"
			    "                        weight goes or most weights get another dtype\n"
			    "      --dry-run         only print what would change: key, new name, dtype, shape,\n"
			    "                        pending steps\n"
			    "      --explain [KEY]   print the rules that KEY (an old or a new name) goes through,\n"
			    "                        or, without KEY, how many tensors each rule takes\n"
			    "      --list-maps       print the maps, their layouts and their options\n"
			    "      --check-map=MAP   only check a map and its samples; print its one-way rules\n"
			    "      --expand=MAP      print a map flat: with what it uses, all patterns written out\n"
			    "      --checksum        make checksums of data that comes without\n"
			    "      --stats           tell on standard error which way the data went\n"
			    "      --limit=NAME=N    take more of NAME than usual, or less: header, manifest,\n"
			    "                        name, tensors or rank; see sd-tools(7)\n"
			    "      --help            print this text\n"
			    "      --version         print the version\n";

enum what { RENAME, DRY_RUN, EXPLAIN, LIST_MAPS, CHECK_MAP, EXPAND };

#define SHORTS ":e:D:"
static const struct option longs[] = {
	{"map", required_argument, NULL, 'm'},
	{"to", required_argument, NULL, 't'},
	{"strict", no_argument, NULL, 's'},
	{"exclude", required_argument, NULL, 'x'},
	{"dry-run", no_argument, NULL, 'd'},
	{"explain", optional_argument, NULL, 'E'},
	{"list-maps", no_argument, NULL, 'l'},
	{"check-map", required_argument, NULL, 'c'},
	{"expand", required_argument, NULL, 'f'},
	{"limit", required_argument, NULL, 'L'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{"checksum", no_argument, NULL, 'C'},
	{"stats", no_argument, NULL, 'S'},
	{"keep-config", no_argument, NULL, 'k'},
	{"drop-unequal", no_argument, NULL, 'u'},
	{NULL, 0, NULL, 0},
};

struct options {
	struct sd_limits limits;
	enum what what;
	const char *map, *to, *key, *check;
	struct sd_define *defines;
	size_t ndefines, defines_room;
	struct sd_edit **edits;
	size_t nedits, edits_room;
	struct sd_regex_list exclude;
	bool strict, drop_unequal, keep_config, checksum, stats;
};

static void add_define(struct options *opt, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text)
		sd_misuse("-D %s: it is -D NAME=VALUE", text);
	*equals = '\0';
	if (!sd_array_grow(&opt->defines, opt->ndefines, &opt->defines_room, sizeof(*opt->defines)))
		sd_no_memory();
	opt->defines[opt->ndefines++] = (struct sd_define){text, equals + 1};
}

static void add_edit(struct options *opt, const char *text)
{
	struct sd_error err;

	if (!sd_array_grow(&opt->edits, opt->nedits, &opt->edits_room, sizeof(*opt->edits)))
		sd_no_memory();
	if (sd_edit_new(text, &opt->edits[opt->nedits], &err) != SD_OK)
		sd_bad_value(&err);
	opt->nedits++;
}

static void set_what(struct options *opt, enum what what)
{
	if (opt->what != RENAME && opt->what != what)
		sd_misuse("--dry-run, --explain, --list-maps, --check-map and --expand exclude each other");
	opt->what = what;
}

static void check_use(const struct options *opt)
{
	if (opt->what > EXPLAIN)
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
			break;
		case 't':
			opt.to = optarg;
			break;
		case 'D':
			add_define(&opt, optarg);
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
			opt.key = optarg;
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
	if (opt.what == EXPLAIN && !opt.key && optind < argc)
		opt.key = argv[optind++];
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
		return result == SD_OK ? sd_maps_note_other(in, *map, err) : result;
	}
	result = sd_maps_find(in, opt->to, map, err);
	if (result == SD_OK && *map)
		sd_note("map %s", sd_map_name(*map));
	else if (result == SD_OK)
		sd_note("an adapter without experts: its names are the same in all layouts, and pass");
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

/* As sd-ls has them: name, dtype, shape. */
static void print_tensor(const char *name, enum sd_dtype dtype, const uint64_t *shape, uint32_t rank)
{
	print(name);
	printf("\t%s\t[", sd_dtype_name(dtype));
	for (uint32_t i = 0; i < rank; i++)
		printf("%s%" PRIu64, i ? "," : "", shape[i]);
	putchar(']');
}

/* As sd-ls has them: "cast:BF16>F32,reorder", or "-". */
static void print_steps(const struct sd_target *t, enum sd_dtype dtype)
{
	const char *between = "";

	for (uint32_t i = 0; i < t->nsteps; i++) {
		printf("%s%s:%s>%s", between, sd_step_word(t->steps[i].kind), sd_dtype_name(dtype),
		       sd_dtype_name(t->steps[i].dtype));
		dtype = t->steps[i].dtype;
		between = ",";
	}
	if (sd_target_is_reordered(t))
		printf("%sreorder", between);
	puts(t->nsteps || sd_target_is_reordered(t) ? "" : "-");
}

static bool is_untouched(const struct sd_record *r, const struct sd_target *t)
{
	return strcmp(r->key, t->name) == 0 && r->dtype == t->dtype && !t->nsteps && !t->move &&
	       sd_shape_equal(r->shape, r->rank, t->shape, t->rank);
}

/* One line for each target that is not as its record was, and one for each record that is dropped. */
static void print_plan(const struct sd_manifest *in, const struct sd_plan *plan)
{
	const struct sd_manifest *m = plan->manifest;

	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];
		const struct sd_record *r = &m->records[t->record];

		if (is_untouched(r, t))
			continue;
		print(r->key);
		putchar('\t');
		print_tensor(t->name, t->dtype, t->shape, t->rank);
		putchar('\t');
		print_steps(t, r->dtype);
	}
	for (size_t i = 0; i < in->nrecords; i++)
		if (plan->becomes[i] == SD_DROP) {
			print(in->records[i].key);
			puts("\t-\t-\t-\tdrop");
		}
}

/* A rule, and how many tensors it took. */
struct count {
	const char *stage, *file, *text;
	uint32_t line;
	size_t taken;
};

/* What one stage does to a tensor. */
struct step {
	const char *file, *text, *from, *to, *holes;
	uint32_t line;
};

/* What --explain gathers: the way of one key, or, without a key, how often each rule was taken. */
struct explanation {
	const char *key;
	struct sd_names names; /* those that the key has had */
	struct step *steps;
	size_t nsteps, steps_room;
	struct count *counts;
	size_t ncounts, counts_room;
	struct sd_arena arena;
	bool failed; /* out of memory */
};

static const char *copy_of(struct explanation *e, const char *text)
{
	return text ? sd_arena_text(&e->arena, text, strlen(text)) : NULL;
}

/* Notes what happens to the key, under all the names that it gets. */
static void note_step(struct explanation *e, const struct sd_rename_event *event)
{
	struct step *step;

	if (sd_names_find(&e->names, event->from) == SD_NO_NAME || !event->text)
		return;
	if (!sd_array_grow(&e->steps, e->nsteps, &e->steps_room, sizeof(*e->steps))) {
		e->failed = true;
		return;
	}
	step = &e->steps[e->nsteps];
	*step = (struct step){.file = copy_of(e, event->file),
			      .text = copy_of(e, event->text),
			      .line = event->line,
			      .from = copy_of(e, event->from),
			      .to = copy_of(e, event->to),
			      .holes = copy_of(e, event->holes)};
	if (!step->text || !step->from || !step->holes ||
	    (step->to && sd_names_add(&e->names, step->to, 0) == SD_NO_NAME))
		e->failed = true;
	else
		e->nsteps++;
}

static void print_step(const struct step *step)
{
	if (step->file) {
		print(step->file);
		printf(":%u\t", step->line);
	}
	print(step->text);
	if (*step->holes) {
		printf("\n\twhere ");
		print(step->holes);
	}
	if (!step->to)
		printf("\n\tdrops it");
	else if (strcmp(step->from, step->to) != 0) {
		printf("\n\tgives ");
		print(step->to);
	}
	putchar('\n');
}

/* The steps of the key; where a name that comes out was asked for, those that lead to it. */
static bool print_steps_of(const struct explanation *e, const char *name)
{
	struct sd_names wanted = {0};
	bool *leads = calloc(e->nsteps + 1, sizeof(*leads)), all = strcmp(name, e->key) == 0;
	bool done = leads && sd_names_add(&wanted, name, 0) != SD_NO_NAME;

	for (size_t i = e->nsteps; done && i-- > 0;) {
		const struct step *step = &e->steps[i];

		leads[i] = all || (step->to && sd_names_find(&wanted, step->to) != SD_NO_NAME);
		if (leads[i])
			done = sd_names_add(&wanted, step->from, 0) != SD_NO_NAME;
	}
	for (size_t i = 0; done && i < e->nsteps; i++)
		if (leads[i])
			print_step(&e->steps[i]);
	free(leads);
	sd_names_free(&wanted);
	return done;
}

static void count_rule(struct explanation *e, const struct sd_rename_event *event)
{
	if (!event->file)
		return;
	for (size_t i = 0; i < e->ncounts; i++)
		if (e->counts[i].line == event->line && strcmp(e->counts[i].stage, event->stage) == 0 &&
		    strcmp(e->counts[i].file, event->file) == 0 && strcmp(e->counts[i].text, event->text) == 0) {
			e->counts[i].taken++;
			return;
		}
	if (!sd_array_grow(&e->counts, e->ncounts, &e->counts_room, sizeof(*e->counts))) {
		e->failed = true;
		return;
	}
	e->counts[e->ncounts] = (struct count){copy_of(e, event->stage), copy_of(e, event->file),
					       copy_of(e, event->text), event->line, 1};
	e->failed =
		e->failed || !e->counts[e->ncounts].stage || !e->counts[e->ncounts].file || !e->counts[e->ncounts].text;
	e->ncounts += !e->failed;
}

static void take_event(void *user, const struct sd_rename_event *event)
{
	struct explanation *e = user;

	if (!e->failed)
		(e->key ? note_step : count_rule)(e, event);
}

/* The source key of a name, be it one that goes in or one that comes out. */
static const char *source_of(const struct sd_manifest *in, const struct sd_manifest *out, const char *name)
{
	for (size_t i = 0; i < in->ntargets; i++)
		if (strcmp(in->targets[i].name, name) == 0)
			return name;
	for (size_t i = 0; i < out->ntargets; i++) {
		const char *key = out->records[out->targets[i].record].key;

		if (strcmp(out->targets[i].name, name) != 0)
			continue;
		for (size_t k = 0; k < in->ntargets; k++)
			if (strcmp(in->records[in->targets[k].record].key, key) == 0)
				return in->targets[k].name;
	}
	return NULL;
}

static enum sd_result fail_unknown(const struct sd_manifest *in, const struct sd_manifest *out, const char *key,
				   struct sd_error *err)
{
	struct sd_nearest nearest = sd_nearest_begin(key);
	const char *meant;

	for (size_t i = 0; i < in->ntargets; i++)
		sd_nearest_look(&nearest, in->targets[i].name);
	for (size_t i = 0; i < out->ntargets; i++)
		sd_nearest_look(&nearest, out->targets[i].name);
	meant = sd_nearest_name(&nearest);
	return sd_fail(err, SD_DIFFERENT, meant ? "there is no key %s; did you mean %s?" : "there is no key %s", key,
		       meant);
}

/* What comes of the records that the key's tensor was made of, or the name among it that was asked for. */
static void print_result(const struct sd_manifest *in, const struct sd_manifest *out, const char *key,
			 const char *asked)
{
	bool all = strcmp(key, asked) == 0;

	for (size_t i = 0; i < in->ntargets; i++) {
		const struct sd_target *before = &in->targets[i];

		if (strcmp(before->name, key) != 0)
			continue;
		print_tensor(key, before->dtype, before->shape, before->rank);
		putchar('\n');
		for (size_t k = 0; k < out->ntargets; k++) {
			const struct sd_target *t = &out->targets[k];

			if (strcmp(out->records[t->record].key, in->records[before->record].key) != 0 ||
			    (!all && strcmp(t->name, asked) != 0))
				continue;
			printf("=> ");
			print_tensor(t->name, t->dtype, t->shape, t->rank);
			putchar('\t');
			print_steps(t, out->records[t->record].dtype);
		}
		break;
	}
}

/* Makes the plan once more and looks on. */
static enum sd_result explain(struct sd_rename *rename, const struct sd_manifest *in, const struct sd_manifest *out,
			      const char *key, struct sd_error *err)
{
	struct explanation e = {.key = key ? source_of(in, out, key) : NULL};
	struct sd_plan plan = {0};
	enum sd_result result;

	if (key && !e.key)
		return fail_unknown(in, out, key, err);
	if (e.key && sd_names_add(&e.names, e.key, 0) == SD_NO_NAME)
		return sd_fail_memory(err);
	rename->event = take_event;
	rename->user = &e;
	result = sd_rename_plan(rename, in, &plan, err);
	if (result == SD_OK && (e.failed || (e.key && !print_steps_of(&e, key))))
		result = sd_fail_memory(err);
	if (result == SD_OK && e.key)
		print_result(in, out, e.key, key);
	for (size_t i = 0; result == SD_OK && i < e.ncounts; i++) {
		printf("%zu\t", e.counts[i].taken);
		print(e.counts[i].stage);
		putchar('\t');
		print(e.counts[i].file);
		printf(":%u\t", e.counts[i].line);
		print(e.counts[i].text);
		putchar('\n');
	}
	sd_plan_free(&plan);
	sd_names_free(&e.names);
	free(e.steps);
	free(e.counts);
	sd_arena_free(&e.arena);
	return result;
}

static void take_method(void *user, const char *value)
{
	snprintf(user, 64, "%s", value);
}

/* That a map knows nothing of a checkpoint is worth a word, and an error where all keys should be known. */
static enum sd_result tell_idle(const struct options *opt, const struct sd_map *map, int to,
				const struct sd_side_file *config, struct sd_error *err)
{
	char method[64] = "";

	if (config)
		sd_config_find(config, "quantization_config.quant_method", take_method, method);
	sd_fail(err, SD_INPUT, "map %s changes no key on the way from %s to %s%s%s", sd_map_name(map),
		sd_map_layout(map, !to), sd_map_layout(map, to), *method ? "; the weights stay quantised, by " : "",
		method);
	if (opt->strict)
		return err->result;
	sd_note("%s", err->text);
	return SD_OK;
}

/* The plan, and then what was asked for with it. */
static enum sd_result rename_source(const struct options *opt, struct sd_source *source, struct sd_sink *sink,
				    struct sd_error *err)
{
	struct sd_rename rename = {.defines = opt->defines,
				   .ndefines = opt->ndefines,
				   .nedits = opt->nedits,
				   .edits = (const struct sd_edit *const *)opt->edits,
				   .exclude = &opt->exclude,
				   .drop_unequal = opt->drop_unequal,
				   .keep_config = opt->keep_config,
				   .leave_missing = opt->what == RENAME,
				   .strict = opt->strict};
	struct sd_map *map = NULL;
	struct sd_plan plan = {0};
	enum sd_result result = open_map(opt, source->manifest, &map, err);

	rename.map = map;
	if (result == SD_OK)
		result = choose_side(opt, map, &rename.to, err);
	if (result == SD_OK && opt->map && !map)
		result = sd_tell_odd(source->manifest, opt->strict, err);
	if (result == SD_OK)
		result = sd_rename_plan(&rename, source->manifest, &plan, err);
	if (result == SD_OK && !opt->keep_config)
		result = sd_storage_follow(plan.manifest, source->manifest, err);
	if (result == SD_OK && map && !opt->to)
		sd_note("from %s to %s", sd_map_layout(map, !rename.to), sd_map_layout(map, rename.to));
	for (size_t i = 0; result == SD_OK && i < rename.nnotes; i++)
		sd_note("%s", rename.notes[i]);
	if (result == SD_OK && map && rename.idle && source->manifest->ntargets)
		result = tell_idle(opt, map, rename.to, sd_manifest_side(source->manifest, "config.json"), err);
	if (result == SD_OK && opt->what == DRY_RUN)
		print_plan(source->manifest, &plan);
	if (result == SD_OK && opt->what == EXPLAIN)
		result = explain(&rename, source->manifest, plan.manifest, opt->key, err);
	if (result == SD_OK && opt->what == RENAME)
		result = sd_pump(source, &plan, NULL, sink, err);
	else if (result != SD_OK && sink)
		sink->ops->abort(sink, err);
	sd_plan_free(&plan);
	sd_map_free(map);
	return result;
}

static enum sd_result run(const struct options *opt, struct sd_error *err)
{
	struct sd_source *source = NULL;
	struct sd_sink *sink = NULL;
	struct sd_map *map = NULL;
	enum sd_result result;

	if (opt->what == LIST_MAPS)
		return sd_maps_list(err);
	if (opt->what == CHECK_MAP || opt->what == EXPAND) {
		result = sd_maps_open(opt->check, &map, err);
		if (result == SD_OK && opt->what == CHECK_MAP)
			result = sd_map_check_samples(map, err);
		if (result == SD_OK && opt->what == CHECK_MAP)
			sd_map_one_way(map, stdout);
		if (result == SD_OK && opt->what == EXPAND)
			sd_map_expand(map, stdout);
		sd_map_free(map);
		return result;
	}
	if (opt->what == RENAME) {
		sink = sd_stdout_stream();
		sink->sums = opt->checksum;
	}
	result = sd_open_stdin(&opt->limits, &source, err);
	if (result == SD_OK)
		result = rename_source(opt, source, sink, err);
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
		found = found || strchr("dElcf", c);
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
	sd_regex_list_free(&opt.exclude);
	return sd_finish(result, &err);
}
