/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename: decides names and places, by a map or by hand. Never changes a byte of data. */
#include "base/text.h"
#include "map/rename.h"
#include "tools/maps.h"
#include "tools/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"Usage: sd-rename [OPTION]...\n"
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
	"      --dry-run         only print what would change\n"
	"      --explain [KEY]   print what each stage of the map does to KEY, or to all\n"
	"      --list-maps       print the maps, their layouts and their options\n"
	"      --check-map=FILE  only read a map and check it\n"
	"      --help            print this text\n"
	"      --version         print the version\n";

enum what { RENAME, DRY_RUN, EXPLAIN, LIST_MAPS, CHECK_MAP };

struct options {
	enum what what;
	const char *map, *to, *key, *check;
	struct sd_define *defines;
	size_t ndefines, defines_room;
	struct sd_edit **edits;
	size_t nedits, edits_room;
	struct sd_regex_list exclude;
	bool strict;
};

static void add_define(struct options *opt, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text)
		sd_misuse("-D %s: it is -D NAME=VALUE", text);
	*equals = '\0';
	if (!sd_array_grow(&opt->defines, opt->ndefines, &opt->defines_room, sizeof(*opt->defines)))
		sd_misuse("out of memory");
	opt->defines[opt->ndefines++] = (struct sd_define){text, equals + 1};
}

static void add_edit(struct options *opt, const char *text)
{
	struct sd_error err;

	if (!sd_array_grow(&opt->edits, opt->nedits, &opt->edits_room, sizeof(*opt->edits)))
		sd_misuse("out of memory");
	if (sd_edit_new(text, &opt->edits[opt->nedits], &err) != SD_OK)
		sd_misuse("%s", err.text);
	opt->nedits++;
}

static void add_exclude(struct options *opt, const char *text)
{
	struct sd_error err;

	if (sd_regex_list_add(&opt->exclude, text, &err) != SD_OK)
		sd_misuse("%s", err.text);
}

static void check_use(const struct options *opt)
{
	if (opt->what > EXPLAIN)
		return;
	if (!opt->map && (opt->to || opt->ndefines || opt->strict))
		sd_misuse("--to, -D and --strict need a --map");
	if (!opt->map && !opt->nedits && !opt->exclude.count)
		sd_misuse("nothing to do: --map, -e or --exclude is missing");
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"map", required_argument, NULL, 'm'},	   {"to", required_argument, NULL, 't'},
		{"strict", no_argument, NULL, 's'},	   {"exclude", required_argument, NULL, 'x'},
		{"dry-run", no_argument, NULL, 'd'},	   {"explain", optional_argument, NULL, 'E'},
		{"list-maps", no_argument, NULL, 'l'},	   {"check-map", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},	   {"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct options opt = {0};
	int c;

	while ((c = getopt_long(argc, argv, "e:D:", longs, NULL)) != -1) {
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
			add_exclude(&opt, optarg);
			break;
		case 's':
			opt.strict = true;
			break;
		case 'd':
			opt.what = DRY_RUN;
			break;
		case 'E':
			opt.what = EXPLAIN;
			opt.key = optarg;
			break;
		case 'l':
			opt.what = LIST_MAPS;
			break;
		case 'c':
			opt.what = CHECK_MAP;
			opt.check = optarg;
			break;
		case 'h':
			sd_help(usage);
		case 'v':
			sd_version();
		default:
			sd_misuse(NULL);
		}
	}
	if (opt.what == EXPLAIN && !opt.key && optind < argc)
		opt.key = argv[optind++];
	if (optind < argc)
		sd_misuse("\"%s\" is not wanted: a source is read from standard input", argv[optind]);
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
	if (strcmp(opt->map, "auto") != 0)
		return sd_maps_open(opt->map, map, err);
	result = sd_maps_find(in, map, err);
	if (result == SD_OK)
		sd_note("map %s", sd_map_name(*map));
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
	return *side >= 0 ? SD_OK : sd_fail(err, SD_USAGE, "--to %s: map %s knows the layouts %s and %s", opt->to,
					    sd_map_name(map), sd_map_layout(map, 0), sd_map_layout(map, 1));
}

/* Names that have come from the key to explain. */
struct trail {
	const char *key;
	const char *now;
	struct sd_arena arena;
	bool found;
};

static void print(const char *text)
{
	char escaped[4096];

	fputs(sd_text_escape(text, escaped, sizeof(escaped)), stdout);
}

static void print_event(const struct sd_rename_event *e)
{
	if (e->stage)
		printf("stage %s\t", e->stage);
	if (e->file)
		printf("%s:%u\t", e->file, e->line);
	if (e->text)
		print(e->text);
	else
		printf("no rule");
	putchar('\n');
	if (*e->holes) {
		printf("\twhere ");
		print(e->holes);
		putchar('\n');
	}
	putchar('\t');
	print(e->from);
	if (!e->to || strcmp(e->from, e->to) != 0) {
		printf(" => ");
		print(e->to ? e->to : "(dropped)");
	}
	putchar('\n');
}

static void explain(void *user, const struct sd_rename_event *e)
{
	struct trail *trail = user;

	if (trail->key && strcmp(e->from, trail->now) != 0)
		return;
	if (!trail->key && e->to && strcmp(e->from, e->to) == 0 && !e->file)
		return;
	print_event(e);
	trail->found = true;
	if (trail->key)
		trail->now = e->to ? sd_arena_text(&trail->arena, e->to, strlen(e->to)) : "";
}

static void print_target(const struct sd_manifest *m, const struct sd_target *t)
{
	char shape[SD_SHAPE_TEXT];

	print(m->records[t->record].key);
	putchar('\t');
	print(t->name);
	printf("\t%s\t%s\t", sd_dtype_name(t->dtype), sd_shape_text(t->shape, t->rank, shape, sizeof(shape)));
	if (sd_target_is_reordered(t))
		printf("reorder ");
	for (uint32_t i = 0; i < t->nsteps; i++)
		printf("%s %s ", t->steps[i].kind == SD_STEP_CAST ? "cast" : "dequantise", sd_dtype_name(t->steps[i].dtype));
	putchar('\n');
}

/* One line for each target that is not as its record was, and one for each record that is dropped. */
static void print_plan(const struct sd_manifest *in, const struct sd_plan *plan)
{
	const struct sd_manifest *m = plan->manifest;

	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];
		const struct sd_record *r = &m->records[t->record];

		if (strcmp(r->key, t->name) != 0 || r->dtype != t->dtype || t->nsteps || t->move ||
		    !sd_shape_equal(r->shape, r->rank, t->shape, t->rank))
			print_target(m, t);
	}
	for (size_t i = 0; i < in->nrecords; i++)
		if (plan->becomes[i] == SD_DROP) {
			print(in->records[i].key);
			puts("\t\t\t\tdropped");
		}
}

/* What becomes of the key that --explain names, at the end. */
static enum sd_result print_result(const struct sd_manifest *m, const struct trail *trail, struct sd_error *err)
{
	if (!trail->found)
		return sd_fail(err, SD_DIFFERENT, "there is no key %s", trail->key);
	for (size_t i = 0; i < m->ntargets; i++)
		if (strcmp(m->records[m->targets[i].record].key, trail->key) == 0)
			print_target(m, &m->targets[i]);
	return SD_OK;
}

/* The plan, and then what was asked for with it. */
static enum sd_result rename_source(const struct options *opt, struct sd_source *source, struct sd_sink *sink,
				    struct sd_error *err)
{
	struct trail trail = {.key = opt->key, .now = opt->key};
	struct sd_rename rename = {.defines = opt->defines, .ndefines = opt->ndefines, .nedits = opt->nedits,
				   .edits = (const struct sd_edit *const *)opt->edits, .exclude = &opt->exclude,
				   .strict = opt->strict, .user = &trail};
	struct sd_map *map = NULL;
	struct sd_plan plan = {0};
	enum sd_result result = open_map(opt, source->manifest, &map, err);

	rename.map = map;
	if (opt->what == EXPLAIN)
		rename.event = explain;
	if (result == SD_OK)
		result = choose_side(opt, map, &rename.to, err);
	if (result == SD_OK)
		result = sd_rename_plan(&rename, source->manifest, &plan, err);
	if (result == SD_OK && map && !opt->to)
		sd_note("from %s to %s", sd_map_layout(map, !rename.to), sd_map_layout(map, rename.to));
	if (result == SD_OK && opt->what == DRY_RUN)
		print_plan(source->manifest, &plan);
	if (result == SD_OK && opt->what == EXPLAIN && opt->key)
		result = print_result(plan.manifest, &trail, err);
	if (result == SD_OK && opt->what == RENAME)
		result = sd_pump(source, &plan, NULL, sink, err);
	else if (result != SD_OK && sink)
		sink->ops->abort(sink, err);
	sd_plan_free(&plan);
	sd_map_free(map);
	sd_arena_free(&trail.arena);
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
	if (opt->what == CHECK_MAP) {
		result = sd_maps_open(opt->check, &map, err);
		sd_map_free(map);
		return result;
	}
	if (opt->what == RENAME)
		sink = sd_stdout_stream();
	result = sd_open_stdin(&source, err);
	if (result == SD_OK)
		result = rename_source(opt, source, sink, err);
	else if (sink)
		sink->ops->abort(sink, err);
	sd_source_close(source);
	if (sink)
		sink->ops->close(sink);
	return result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct options opt;
	enum sd_result result;

	sd_start("sd-rename");
	opt = parse(argc, argv);
	result = run(&opt, &err);
	for (size_t i = 0; i < opt.nedits; i++)
		sd_edit_free(opt.edits[i]);
	free(opt.edits);
	free(opt.defines);
	sd_regex_list_free(&opt.exclude);
	return sd_finish(result, &err);
}
