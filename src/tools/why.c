/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --why-not. */
#include "tools/why.h"
#include "base/advice.h"
#include "base/json.h"
#include "base/text.h"
#include "tools/explain.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* People see so many rules that do not take it. */
#define NEAREST_MAX 5

/* No name is longer where it is shown with a mark below it, and so many columns are for what is said beside that. */
#define NAME_SHOWN 4096
#define BESIDE 30

struct whys {
	struct sd_arena arena;
	struct sd_why *at;
	size_t n, room;
	bool failed; /* memory is out */
};

static const char *keep(struct whys *w, const char *text)
{
	const char *kept = text ? sd_arena_text(&w->arena, text, strlen(text)) : NULL;

	w->failed = w->failed || (text && !kept);
	return kept;
}

static void take(void *user, const struct sd_why *why)
{
	struct whys *w = user;

	if (w->failed || !sd_array_grow(&w->at, w->n, &w->room, sizeof(*w->at))) {
		w->failed = true;
		return;
	}
	w->at[w->n] = *why;
	w->at[w->n].name = keep(w, why->name);
	w->at[w->n].expected = keep(w, why->expected);
	w->at[w->n++].found = keep(w, why->found);
}

static void free_whys(struct whys *w)
{
	free(w->at);
	sd_arena_free(&w->arena);
}

/* What takes it comes first; then the rules of which much is found in the name, and little is not. */
static int64_t rank_of(const struct sd_why *why)
{
	size_t missing = why->behind ? 1 : why->missing;

	return why->reason == SD_WHY_TAKES ? INT64_MIN : 2 * (int64_t)missing - (int64_t)why->letters;
}

static int by_rank(const void *a, const void *b)
{
	const struct sd_why *left = a, *right = b;
	int64_t l = rank_of(left), r = rank_of(right);

	if (l != r)
		return l < r ? -1 : 1;
	return left->rule < right->rule ? -1 : left->rule > right->rule;
}

/* Whether a rule is meant by file:line, by line or by the name of its stage. */
static bool is_meant(const char *asked, const struct sd_map_rule *rule)
{
	const char *colon = asked ? strrchr(asked, ':') : NULL;
	uint64_t line;

	if (!asked || strcmp(asked, rule->stage) == 0)
		return true;
	if (sd_text_number(asked, &line))
		return line == rule->line;
	return colon && (size_t)(colon - asked) == strlen(rule->file) &&
	       memcmp(asked, rule->file, (size_t)(colon - asked)) == 0 && sd_text_number(colon + 1, &line) &&
	       line == rule->line;
}

static bool is_known(const struct sd_map *map, const char *asked)
{
	struct sd_map_rule rule;

	for (uint32_t i = 0; sd_map_rule(map, i, &rule); i++)
		if (is_meant(asked, &rule))
			return true;
	return false;
}

/* ---- for programs ---- */

static void print_tsv(const struct sd_why *why, const struct sd_map_rule *rule)
{
	sd_text_print(stdout, rule->file);
	printf(":%" PRIu32 "\t%s\t%s\t", rule->line, rule->stage, sd_why_word(why->reason));
	if (why->reason == SD_WHY_TEXT)
		printf("%zu\t", why->position);
	else
		printf("-\t");
	sd_text_print(stdout, why->expected ? why->expected : "-");
	putchar('\t');
	sd_text_print(stdout, why->found ? why->found : "-");
	putchar('\n');
}

static void print_json(const struct sd_why *why, const struct sd_map_rule *rule)
{
	printf("{\"line\":%" PRIu32, rule->line);
	sd_json_member(stdout, "file", rule->file);
	sd_json_member(stdout, "stage", rule->stage);
	sd_json_member(stdout, "rule", rule->text);
	sd_json_member(stdout, "name", why->name);
	sd_json_member(stdout, "reason", sd_why_word(why->reason));
	if (why->reason == SD_WHY_TEXT)
		printf(",\"position\":%zu,\"behind\":%zu", why->position, why->behind);
	sd_json_member(stdout, "expected", why->expected);
	sd_json_member(stdout, "found", why->found);
	puts("}");
}

/* ---- for people ---- */

/* From where on a name is shown so that a place in it has room beside it, on a line so wide: from a part on. */
static size_t find_window(const char *name, size_t place, size_t width)
{
	size_t from = 0;

	if (place + BESIDE <= width)
		return 0;
	while (place - from + BESIDE > width && name[from + strcspn(name + from, ".")] && from < place) {
		size_t part = strcspn(name + from, ".") + 1;

		if (from + part > place)
			break;
		from += part;
	}
	return from;
}

/* The name, and below it a mark where it is another one than the rule wants. */
static void print_place(FILE *out, const struct why_options *opt, const struct sd_why *why)
{
	size_t from = find_window(why->name, why->position, opt->look.width);
	char front[NAME_SHOWN];

	fprintf(out, "    %s", from ? "..." : "");
	sd_text_print(out, why->name + from);
	snprintf(front, sizeof(front), "%.*s", (int)(why->position - from), why->name + from);
	fprintf(out, "\n    %*s^ here has to stand ", (int)sd_look_columns(front) + (from ? 3 : 0), "");
	sd_text_print(out, why->expected);
	fputc('\n', out);
	if (why->behind) {
		fprintf(out, "    behind ");
		snprintf(front, sizeof(front), "%.*s", (int)why->behind, why->name);
		sd_text_print(out, front);
		fprintf(out, " it would match\n");
	}
}

static void print_reason(FILE *out, const struct why_options *opt, const struct sd_why *why)
{
	static const char *const texts[][3] = {
		[SD_WHY_TAKES] = {"takes it"},
		[SD_WHY_EARLIER] = {"would take it, but ", NULL, " took it before"},
		[SD_WHY_DIRECTION] = {"goes the other way: from ", ", this is "},
		[SD_WHY_OPTION] = {"only with -D ", "; here is "},
		[SD_WHY_DTYPE] = {"is for ", ", this is "},
		[SD_WHY_EXCEPT] = {"excepts it"},
		[SD_WHY_CONDITION] = {"only "},
		[SD_WHY_SCALE] = {"wants a scale: "},
		[SD_WHY_AXES] = {"wants the shape ", ", this is "},
		[SD_WHY_SIZE] = {"counts with a size that is not known"},
	};
	const char *const *text = texts[why->reason];

	if (why->reason == SD_WHY_TEXT) {
		print_place(out, opt, why);
		return;
	}
	fprintf(out, "    %s", text[0]);
	if (why->reason == SD_WHY_EARLIER)
		sd_text_print(out, why->found);
	else if (why->expected)
		sd_text_print(out, why->expected);
	if (text[1] && why->found && why->reason != SD_WHY_EARLIER) {
		fputs(text[1], out);
		sd_text_print(out, why->found);
	}
	fprintf(out, "%s\n", text[2] ? text[2] : "");
}

static void print_for_people(FILE *out, const struct why_options *opt, const struct sd_map *map,
			     const struct sd_why *why, const struct sd_map_rule *rule)
{
	sd_ink(out, &opt->look, SD_INK_HEADING);
	sd_text_print(out, rule->file);
	fprintf(out, ":%" PRIu32, rule->line);
	sd_ink(out, &opt->look, SD_INK_NONE);
	fprintf(out, "  %s  ", rule->stage);
	sd_map_write_rule(map, why->rule, out);
	fputc('\n', out);
	print_reason(out, opt, why);
}

/* Whether a rule takes the key once it is edited: the plan is made for that. */
static enum sd_result is_taken(const struct sd_rename *rename, const struct sd_manifest *in, const char *name,
			       const char *text, uint32_t rule, bool *yes, struct sd_error *err)
{
	struct sd_edit *edit = NULL;
	const struct sd_edit *edits[1];
	struct sd_plan first = {0}, second = {0};
	struct whys w = {.n = 0};
	struct sd_rename again = *rename;
	enum sd_result result = sd_edit_new(text, &edit, err);

	*yes = false;
	edits[0] = edit;
	if (result == SD_OK)
		result = sd_rename_plan(&(struct sd_rename){.edits = edits, .nedits = 1}, in, &first, err);
	again.asked = name;
	again.user = &w;
	if (result == SD_OK)
		result = sd_rename_plan(&again, first.manifest, &second, err);
	for (size_t i = 0; i < w.n && second.manifest; i++)
		*yes = *yes || (w.at[i].rule == rule && w.at[i].reason == SD_WHY_TAKES);
	if (w.failed)
		result = sd_fail_memory(err);
	sd_plan_free(&second);
	sd_plan_free(&first);
	sd_edit_free(edit);
	free_whys(&w);
	return result == SD_IO ? result : SD_OK;
}

/* Of the nearest rule, what would make it take the key: only what has been tried. */
static enum sd_result print_try(FILE *out, const struct why_options *opt, struct whys *w,
				const struct sd_rename *rename, const struct sd_manifest *in, const struct sd_why *why,
				struct sd_error *err)
{
	const char *edit;
	bool yes;

	if (why->reason != SD_WHY_TEXT || !why->behind || strcmp(why->name, opt->name) != 0)
		return SD_OK;
	edit = sd_advice_edit(&w->arena, SD_ADVICE_FRONT, opt->name, why->behind, "");
	if (!edit)
		return SD_OK;
	if (is_taken(rename, in, opt->name + why->behind, edit, why->rule, &yes, err) != SD_OK)
		return err->result;
	if (yes)
		fprintf(out, "try: sd-rename -e '%s'\n", edit);
	return SD_OK;
}

static enum sd_result print_all(FILE *out, const struct why_options *opt, struct whys *w,
				const struct sd_rename *rename, const struct sd_manifest *in, struct sd_error *err)
{
	const struct sd_why *nearest = NULL;
	struct sd_map_rule rule;
	size_t near = 0;

	qsort(w->at, w->n, sizeof(*w->at), by_rank);
	for (size_t i = 0; i < w->n; i++) {
		const struct sd_why *why = &w->at[i];

		if (!sd_map_rule(rename->map, why->rule, &rule) || !is_meant(opt->rule, &rule))
			continue;
		nearest = nearest || why->reason == SD_WHY_TAKES ? nearest : why;
		if (!opt->look.human) {
			(opt->json ? print_json : print_tsv)(why, &rule);
		} else if (why->reason == SD_WHY_TAKES || opt->rule || near < NEAREST_MAX) {
			near += why->reason != SD_WHY_TAKES;
			print_for_people(out, opt, rename->map, why, &rule);
		}
	}
	return nearest && opt->look.human ? print_try(out, opt, w, rename, in, nearest, err) : SD_OK;
}

/* A manifest of one target, which borrows the rest. NULL: memory is out. */
static struct sd_manifest *single_out(const struct sd_manifest *in, uint32_t target)
{
	struct sd_manifest *m = sd_manifest_new();
	struct sd_target t = in->targets[target];

	t.record = 0;
	t.nsteps = 0;
	if (!m || !sd_manifest_add_record(m, &in->records[in->targets[target].record]) ||
	    !sd_manifest_add_target(m, &t)) {
		sd_manifest_free(m);
		return NULL;
	}
	return m;
}

/* How the rule differs from the name, if that is little of it. */
static const char *tell_nearest(const struct sd_map *map, const struct sd_why *why, struct sd_arena *arena)
{
	struct sd_map_rule rule;

	if (why->reason != SD_WHY_TEXT || !why->expected || !why->found || 3 * why->missing > why->letters ||
	    !sd_map_rule(map, why->rule, &rule))
		return NULL;
	return sd_arena_printf(arena, "%s:%" PRIu32 ", which wants %s where %s is", rule.file, rule.line, why->expected,
			       why->found);
}

const char *why_nearest(const struct sd_rename *rename, const struct sd_manifest *in, uint32_t target,
			struct sd_arena *arena)
{
	struct sd_manifest *m = single_out(in, target);
	struct whys w = {.n = 0};
	struct sd_rename again = {.map = rename->map,
				  .to = rename->to,
				  .defines = rename->defines,
				  .ndefines = rename->ndefines,
				  .some = true,
				  .go_on = true,
				  .asked = in->targets[target].name,
				  .why = take,
				  .user = &w};
	struct sd_plan plan = {0};
	const char *text = NULL;
	struct sd_error ignored;

	if (m && sd_rename_plan(&again, m, &plan, &ignored) != SD_IO && w.n && !w.failed) {
		qsort(w.at, w.n, sizeof(*w.at), by_rank);
		text = tell_nearest(rename->map, &w.at[0], arena);
	}
	sd_plan_free(&plan);
	sd_manifest_free(m);
	free_whys(&w);
	return text;
}

enum sd_result why_print(const struct why_options *opt, struct sd_rename *rename, const struct sd_manifest *in,
			 struct sd_plan *plan, struct sd_error *err)
{
	struct whys w = {.n = 0};
	struct sd_memstream *stream = NULL;
	FILE *out = stdout;
	struct sd_error own;
	enum sd_result result, printed;

	if (opt->rule && !is_known(rename->map, opt->rule))
		return sd_fail(err, SD_DIFFERENT, "map %s has no rule %s", sd_map_name(rename->map), opt->rule);
	rename->asked = opt->name;
	rename->why = take;
	rename->user = &w;
	result = sd_rename_plan(rename, in, plan, err);
	if (opt->look.human && !w.failed) {
		stream = sd_memstream_open(&out);
		w.failed = !stream;
	}
	printed = w.failed ? sd_fail_memory(&own) : print_all(out, opt, &w, rename, in, &own);
	if (stream && !sd_look_close(stream, &opt->look))
		printed = sd_fail_memory(&own);
	free_whys(&w);
	if (printed == SD_OK)
		return result;
	*err = own;
	return printed;
}
