/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls: lists the tensors of a checkpoint or a stream, without reading data. */
#include "base/names.h"
#include "base/text.h"
#include "formats/open.h"
#include "tools/selection_options.h"
#include "tools/ls.h"
#include "tools/tool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* So many bytes of data are taken from a pipe, at most, that nobody wants. */

static const char usage[] = "Usage: sd-ls [OPTION]... [SOURCE]...\n"
			    "List the tensors of checkpoints, or of what flows in a pipeline. No data is read.\n"
			    "\n"
			    "A SOURCE is a safetensors file, a checkpoint directory, an archive of one, a\n"
			    "stream, or - for standard input, which is also what is read when there is no\n"
			    "SOURCE.\n"
			    "\n"
			    "On a terminal, tensors that differ in numbers only stand in one line, as bash\n"
			    "writes them: layers.{0..39}. Elsewhere a line is a tensor: name, dtype, shape,\n"
			    "bytes and pending steps, separated by tabs.\n"
			    "\n"
			    "  -n, --name=PATTERN   only tensors whose whole name is as PATTERN says: * is any\n"
			    "                       text, {a,b} and {0..39} as in bash; may be given several times\n"
			    "      --include=RE     and those whose name matches RE (PCRE2, found anywhere);\n"
			    "                       likewise\n"
			    "      --exclude=RE     but not those whose name matches RE; likewise\n"
			    "      --layers=NUMBERS\n"
			    "                       of layers only these, such as 0-3,7; of a vision tower by its\n"
			    "                       name: visual.blocks:0-3\n"
			    "      --experts=NUMBERS\n"
			    "                       of experts only these\n"
			    "      --here           leave out tensors whose data does not come along\n"
			    "  -S                   largest first\n"
			    "      --sort=WHAT      by name, size, dtype, file or order (as they come)\n"
			    "  -r, --reverse        the other way round\n"
			    "  -a, --all            a line a tensor on a terminal, too\n"
			    "      --fold           fold in a pipe, too: name, dtype, shape, bytes of all,\n"
			    "                       steps, and how many\n"
			    "  -l                   also file and place in it, label, and the number of a part\n"
			    "      --columns=COLUMNS\n"
			    "                       these columns: name, dtype, shape, bytes, steps, file,\n"
			    "                       offset, label, part, params, source\n"
			    "      --checksum       read the data, and show the XXH3 of each tensor\n"
			    "  -b, --bytes          exact sizes on a terminal\n"
			    "      --json           print each as a JSON object on a line of its own\n"
			    "      --tsv            a terminal gets what a pipe gets\n"
			    "      --color=WHEN     auto, always (a pipe gets what a terminal gets), never\n"
			    "  -q, --quiet          print nothing; the exit status tells\n"
			    "\n"
			    "In the place of a list of tensors:\n"
			    "  -d, --directory      a line for each SOURCE itself: family and layout, layers,\n"
			    "                       experts, tensors, parameters, dtypes, size\n"
			    "      --check          tell what is odd, compared with other layers and experts\n"
			    "                       and with config.json; exit status 1 if something is\n"
			    "  -c, --compare=LIST   tell what differs from LIST, which --checksum has made in\n"
			    "                       a pipe; exit status 1 if something does\n"
			    "      --metadata       show __metadata__ and the side files\n"
			    "\n"
			    "      --limit=NAME=N   raise or lower a safety limit: header, manifest,\n"
			    "                       name, tensors, rank, members, ratio or\n"
			    "                       spool; see sd-tools(7)\n"
			    "      --help           print this text\n"
			    "      --version        print the version\n"
			    "\n"
			    "Pending steps are what is still to be done to the data: reorder (sd-transpose),\n"
			    "cast:FROM>TO (sd-transpose). - is none. A tensor whose data does not come along\n"
			    "is \"elsewhere\"; one that no source has is \"missing\".\n";

static const struct option longs[] = {
	{"all", no_argument, NULL, 'a'},
	{"fold", no_argument, NULL, 'F'},
	{"columns", required_argument, NULL, 'C'},
	{"sort", required_argument, NULL, 'o'},
	{"reverse", no_argument, NULL, 'r'},
	{"check", no_argument, NULL, 'K'},
	{"checksum", no_argument, NULL, 's'},
	{"compare", required_argument, NULL, 'c'},
	{"metadata", no_argument, NULL, 'm'},
	{"directory", no_argument, NULL, 'd'},
	{"here", no_argument, NULL, 'H'},
	{"bytes", no_argument, NULL, 'b'},
	{"quiet", no_argument, NULL, 'q'},
	LOOK_OPTIONS,
	SELECTION_OPTIONS,
	SELECTION_NUMBERS,
	SD_TOOL_OPTIONS,
	{NULL, 0, NULL, 0},
};

static const char *const column_names[LS_COLUMNS] = {"name",   "dtype", "shape", "bytes",  "steps", "count", "file",
						     "offset", "label", "part",  "params", "xxh3",  "source"};

const char *ls_column_name(enum ls_column column)
{
	return column_names[column];
}

/* ---- options ---- */

/* The number of a word in a list of n, or misuse; length bytes of it are looked at. */
static size_t choose_word(const char *option, const char *word, size_t length, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(words[i]) == length && strncmp(words[i], word, length) == 0)
			return i;
	sd_misuse("%s: \"%.*s\" is none of those that --help shows", option, (int)length, word);
}

static void add_column(struct ls_options *opt, enum ls_column column)
{
	opt->columns[opt->ncolumns++] = column;
}

static void parse_columns(struct ls_options *opt, const char *list)
{
	bool there[LS_COLUMNS] = {0};

	opt->ncolumns = 0;
	for (;;) {
		size_t length = strcspn(list, ",");
		enum ls_column column =
			(enum ls_column)choose_word("--columns", list, length, column_names, LS_COLUMNS);

		if (column == LS_COLUMN_COUNT || column == LS_COLUMN_XXH3)
			sd_misuse("--columns: %s is there with %s", column_names[column],
				  column == LS_COLUMN_COUNT ? "--fold" : "--checksum");
		if (there[column])
			sd_misuse("--columns: %s is there twice", column_names[column]);
		there[column] = true;
		add_column(opt, column);
		if (!list[length])
			return;
		list += length + 1;
	}
}

static void add_columns(struct ls_options *opt, const enum ls_column *columns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_column(opt, columns[i]);
}

/* The columns that nobody has named: those that programs have got from the beginning, and then others. */
static void choose_columns(struct ls_options *opt)
{
	static const enum ls_column people[] = {LS_COLUMN_NAME,  LS_COLUMN_DTYPE, LS_COLUMN_SHAPE,
						LS_COLUMN_COUNT, LS_COLUMN_BYTES, LS_COLUMN_STEPS};
	static const enum ls_column programs[] = {LS_COLUMN_NAME, LS_COLUMN_DTYPE, LS_COLUMN_SHAPE, LS_COLUMN_BYTES,
						  LS_COLUMN_STEPS};
	static const enum ls_column places[] = {LS_COLUMN_FILE, LS_COLUMN_OFFSET, LS_COLUMN_LABEL, LS_COLUMN_PART};

	if (opt->look.human)
		add_columns(opt, people, sizeof(people) / sizeof(*people));
	else
		add_columns(opt, programs, sizeof(programs) / sizeof(*programs));
	if (opt->fold && !opt->look.human)
		add_column(opt, LS_COLUMN_COUNT);
	if (opt->places)
		add_columns(opt, places, sizeof(places) / sizeof(*places));
	if (opt->checksum)
		add_column(opt, LS_COLUMN_XXH3);
	if (opt->count > 1 && !opt->look.human)
		add_column(opt, LS_COLUMN_SOURCE);
}

static bool has_choice(const struct ls_options *opt)
{
	return sd_selection_chooses(&opt->choice) || opt->choice.exclude.count || opt->here;
}

/* What is shown in the place of a list of tensors goes alone. */
static void check(const struct ls_options *opt)
{
	bool list = opt->places || opt->ncolumns || opt->fold || (opt->all && !opt->metadata);
	const char *view = opt->check ? "--check" : opt->list ? "-c" : opt->itself ? "-d" : "--metadata";
	int views = opt->check + opt->itself + opt->metadata + (opt->list != NULL);

	if (views > 1)
		sd_misuse("--check, -c, -d and --metadata exclude each other");
	if (views && list)
		sd_misuse("%s lists no tensors: leave out -l, --columns, --fold and --all", view);
	if (views && !opt->itself && has_choice(opt))
		sd_misuse("%s chooses no tensors: leave out -n and what else does", view);
	if (views && !opt->itself && opt->checksum)
		sd_misuse("--checksum is for lists, and for -d");
	if (opt->fold && (opt->places || opt->ncolumns || opt->checksum))
		sd_misuse("--fold has columns of its own: leave out -l, --columns and --checksum");
}

/* What follows from all options together. */
static void settle(struct ls_options *opt)
{
	check(opt);
	opt->look = look_of(&opt->form);
	if (opt->look.human && !opt->all && !opt->places && !opt->ncolumns && !opt->checksum)
		opt->fold = true;
	if (opt->sort < 0)
		opt->sort = opt->look.human ? LS_NAME : LS_ORDER;
	if (!opt->ncolumns)
		choose_columns(opt);
	else if (opt->checksum)
		add_column(opt, LS_COLUMN_XXH3);
}

static void take_option(struct ls_options *opt, int c, char **argv)
{
	static const char *const sorts[] = {"order", "name", "size", "dtype", "file"};

	switch (c) {
	case 'a':
		opt->all = true;
		opt->fold = false;
		break;
	case 'F':
		opt->fold = true;
		opt->all = false;
		break;
	case 'l':
		opt->places = true;
		break;
	case 'C':
		parse_columns(opt, optarg);
		break;
	case 'S':
		opt->sort = LS_SIZE;
		break;
	case 'o':
		opt->sort = (int)choose_word("--sort", optarg, strlen(optarg), sorts, 5);
		break;
	case 'r':
		opt->reverse = true;
		break;
	case 'K':
		opt->check = true;
		break;
	case 's':
		opt->checksum = true;
		break;
	case 'c':
		opt->list = optarg;
		break;
	case 'm':
		opt->metadata = true;
		break;
	case 'd':
		opt->itself = true;
		break;
	case 'H':
		opt->here = true;
		break;
	case 'b':
		opt->exact = true;
		break;
	case 'q':
		opt->quiet = true;
		break;
	default:
		if (!look_option(&opt->form, c, optarg) && !selection_option(&opt->choice, c, optarg) &&
		    !sd_tool_option(&opt->limits, usage, c, optarg))
			sd_bad_option(c, argv, longs);
	}
}

static struct ls_options parse(int argc, char **argv)
{
	static char *only_stdin[] = {"-"};
	struct ls_options opt = {.limits = sd_limits_default, .sort = -1};
	int c;

	opt.limits.short_data = true;
	while ((c = getopt_long(argc, argv, ":abc:dlqrS" SELECTION_SHORT, longs, NULL)) != -1)
		take_option(&opt, c, argv);
	opt.names = optind < argc ? argv + optind : only_stdin;
	opt.count = optind < argc ? argc - optind : 1;
	settle(&opt);
	return opt;
}

/* ---- a source ---- */

bool ls_place(const struct ls_source *s, const struct sd_listed *t, const char **file, uint64_t *offset)
{
	const struct sd_source *source = s->source;

	return source->ops->place &&
	       source->ops->place(source, source->manifest->targets[t->target].record, file, offset);
}

static int compare_lines(const void *a, const void *b, void *user)
{
	const struct sd_fold_line *left = a, *right = b;
	const char *const *names = user;

	return sd_text_natural(names[left->first], names[right->first]);
}

/* Whether lines are sorted once they are folded: they are far fewer than tensors, and first is the least name of each.
 */
static bool sorts_lines(const struct ls_options *opt)
{
	return opt->fold && opt->sort == LS_NAME && !opt->reverse;
}

enum sd_result ls_fold(const struct ls_options *opt, const struct ls_source *s, struct sd_fold *fold,
		       struct sd_error *err)
{
	uint32_t *all = malloc((s->listing.n + 1) * sizeof(*all)), *kinds = malloc((s->nshown + 1) * sizeof(*kinds));
	const char **names = malloc((s->nshown + 1) * sizeof(*names));
	enum sd_result result = all && kinds && names ? sd_listing_kinds(&s->listing, all, err) : sd_fail_memory(err);

	for (size_t i = 0; i < s->nshown && result == SD_OK; i++) {
		kinds[i] = all[s->shown[i]];
		names[i] = s->listing.tensors[s->shown[i]].name;
	}
	if (result == SD_OK)
		result = sd_fold(names, kinds, s->nshown, fold, err);
	if (result == SD_OK && sorts_lines(opt) && fold->nlines)
		qsort_r(fold->lines, fold->nlines, sizeof(*fold->lines), compare_lines, names);
	free(all);
	free(kinds);
	free(names);
	return result;
}

/* That all data is elsewhere is no word for people in each line: it is a manifest that is looked at. */
static void hide_elsewhere(struct sd_listing *listing)
{
	static const char word[] = "elsewhere";

	for (size_t i = 0; i < listing->n; i++)
		if (!listing->tensors[i].elsewhere || listing->tensors[i].missing)
			return;
	for (size_t i = 0; i < listing->n; i++) {
		const char **steps = &listing->tensors[i].steps;

		*steps += strlen(word);
		*steps += **steps == ',';
	}
}

/* By what the options say; what is alike stays as it comes. */
struct order {
	const struct ls_options *opt;
	const struct ls_source *s;
};

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int compare_places(const struct ls_source *s, const struct sd_listed *a, const struct sd_listed *b)
{
	const char *file_a, *file_b;
	uint64_t offset_a, offset_b;
	int order;

	if (!ls_place(s, a, &file_a, &offset_a) || !ls_place(s, b, &file_b, &offset_b))
		return 0;
	order = sd_text_natural(file_a, file_b);
	return order ? order : compare_numbers(offset_a, offset_b);
}

static int compare(const void *left, const void *right, void *user)
{
	const struct order *o = user;
	uint32_t x = *(const uint32_t *)left, y = *(const uint32_t *)right;
	const struct sd_listed *a = &o->s->listing.tensors[x], *b = &o->s->listing.tensors[y];
	int order = 0;

	if (o->opt->sort == LS_SIZE)
		order = -compare_numbers(a->bytes, b->bytes);
	else if (o->opt->sort == LS_DTYPE)
		order = strcmp(sd_dtype_name(a->dtype), sd_dtype_name(b->dtype));
	else if (o->opt->sort == LS_FILE)
		order = compare_places(o->s, a, b);
	if (!order && o->opt->sort != LS_ORDER && (o->opt->sort != LS_FILE))
		order = sd_text_natural(a->name, b->name);
	order = order ? order : compare_numbers(x, y);
	return o->opt->reverse ? -order : order;
}

static enum sd_result choose(const struct ls_options *opt, struct ls_source *s, struct sd_error *err)
{
	const struct sd_manifest *m = s->source->manifest;
	struct sd_selection choice = opt->choice; /* which layers are meant is another thing in each source */
	enum sd_result result;

	sd_selection_settle(&choice, m);
	result = sd_selection_check(&choice, m, err);
	if (result == SD_OK)
		result = selection_note(&choice, m, false, err);
	for (size_t i = 0; i < s->listing.n && result == SD_OK; i++) {
		const struct sd_listed *t = &s->listing.tensors[i];
		bool chosen = false;

		if (!opt->here || !t->elsewhere)
			result = sd_selection_takes(&choice, t->name, &chosen, err);
		if (chosen)
			s->shown[s->nshown++] = (uint32_t)i;
	}
	return result;
}

/* Which tensors are shown, and in which order. */
static enum sd_result show(const struct ls_options *opt, struct ls_source *s, struct sd_error *err)
{
	s->shown = malloc((s->listing.n + 1) * sizeof(*s->shown));
	if (!s->shown)
		return sd_fail_memory(err);
	if (choose(opt, s, err) != SD_OK)
		return s->source->name || opt->count == 1 ? err->result : sd_error_at(err, "%s", s->name);
	if (opt->look.human)
		hide_elsewhere(&s->listing);
	if (s->nshown && (opt->sort != LS_ORDER || opt->reverse) && !sorts_lines(opt))
		qsort_r(s->shown, s->nshown, sizeof(*s->shown), compare, &(struct order){opt, s});
	return SD_OK;
}

/* What is known when all sources are listed. */
struct outcome {
	struct ls_kinds kinds;
	bool odd; /* --check or -c found something */
};

static bool is_view(const struct ls_options *opt)
{
	return opt->check || opt->list || opt->itself || opt->metadata;
}

/* What is asked for in the place of a list. */
static enum sd_result print_view(const struct ls_options *opt, struct ls_source *s, struct outcome *outcome,
				 struct sd_error *err)
{
	if (opt->check)
		return ls_check(opt, s, &outcome->odd, err);
	if (opt->list)
		return ls_compare_sums(opt, s, &outcome->odd, err);
	if (opt->itself)
		return ls_kind(opt, s, &outcome->kinds, err);
	return opt->quiet ? SD_OK : ls_print_metadata(opt, s, err);
}

static enum sd_result print_list(const struct ls_options *opt, const struct ls_source *s, struct sd_error *err)
{
	enum sd_result result;

	if (opt->quiet)
		return SD_OK;
	if (!opt->look.human)
		return ls_print_lines(opt, s, err);
	result = ls_print_table(opt, s, err);
	return result == SD_OK ? ls_print_total(opt, s, err) : result;
}

static void print_title(const struct ls_options *opt, int number)
{
	if (number)
		putchar('\n');
	sd_ink(stdout, &opt->look, SD_INK_HEADING);
	printf("==> ");
	sd_text_print(stdout, opt->names[number]);
	printf(" <==");
	sd_ink(stdout, &opt->look, SD_INK_NONE);
	putchar('\n');
}

/* Whether data may still come on standard input. */
static bool has_rest(const struct ls_options *opt, const struct ls_source *s)
{
	return !s->source->lack && !opt->checksum && !opt->list && strcmp(s->name, "-") == 0;
}

static enum sd_result list(const struct ls_options *opt, int number, struct outcome *outcome, struct sd_error *err)
{
	struct ls_source s = {.name = opt->names[number]};
	enum sd_result result = strcmp(s.name, "-") == 0 ? sd_open_stdin(&opt->limits, &s.source, err)
							 : sd_open(s.name, &opt->limits, &s.source, err);

	if (result == SD_OK && s.source->note)
		sd_note("%s", s.source->note);
	if (result == SD_OK)
		result = sd_listing_make(s.source->manifest, &s.listing, err);
	if (result == SD_OK)
		result = show(opt, &s, err);
	if (result == SD_OK && opt->checksum)
		result = ls_sum(opt, &s, err);
	if (result == SD_OK && opt->look.human && opt->count > 1 && !opt->quiet && (!is_view(opt) || opt->metadata))
		print_title(opt, number);
	if (result == SD_OK)
		result = is_view(opt) ? print_view(opt, &s, outcome, err) : print_list(opt, &s, err);
	if (result == SD_OK && s.source->lack)
		result = sd_fail(err, SD_INPUT, "%s", s.source->lack);
	if (result == SD_OK && has_rest(opt, &s))
		result = sd_take_rest(s.source, err);
	free(s.shown);
	free(s.sums);
	sd_listing_free(&s.listing);
	sd_source_close(s.source);
	return result;
}

/* What fails does not keep others from being listed. All failures are told; the worst one is the exit status. */
static enum sd_result run(const struct ls_options *opt, struct sd_error *err)
{
	struct sd_error one;
	struct outcome outcome = {.odd = false};

	if (!ls_kinds_open(opt, &outcome.kinds))
		return sd_fail_memory(err);
	*err = (struct sd_error){.result = SD_OK};
	for (int i = 0; i < opt->count; i++) {
		bool odd = outcome.odd;
		enum sd_result result = list(opt, i, &outcome, &one);

		outcome.odd = outcome.odd || odd;
		if (result == SD_OK)
			continue;
		if (err->result != SD_OK && !err->told)
			sd_note("%s", err->text);
		one.result = err->result > result ? err->result : result;
		*err = one;
		if (one.told == SD_LOST)
			break;
	}
	if (!ls_kinds_print(opt, &outcome.kinds))
		return sd_fail_memory(err);
	if (err->result == SD_OK && outcome.odd)
		*err = (struct sd_error){.result = SD_DIFFERENT, .told = SD_TOLD};
	return err->result;
}

int main(int argc, char **argv)
{
	struct sd_error err;
	struct ls_options opt;
	enum sd_result result;

	sd_start("sd-ls", false);
	opt = parse(argc, argv);
	result = run(&opt, &err);
	sd_selection_free(&opt.choice);
	return sd_finish(result, &err);
}
