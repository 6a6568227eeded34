/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff: A and B, opened, brought into one layout by a map, and their tensors chosen. */
#include "base/names.h"
#include "base/text.h"
#include "formats/open.h"
#include "flow/planned.h"
#include "tools/selection_options.h"
#include "tools/diff.h"
#include "tools/maps.h"
#include "tools/sum_list.h"
#include "tools/tool.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Takes back what sd_text_escape has done; in place. */
static char *unescape(char *text)
{
	char *to = text;

	for (const char *at = text; *at; at++) {
		if (*at != '\\' || !at[1]) {
			*to++ = *at;
		} else if (*++at == 'x' && hex_digit(at[1]) >= 0 && hex_digit(at[2]) >= 0) {
			*to++ = (char)(hex_digit(at[1]) * 16 + hex_digit(at[2]));
			at += 2;
		} else {
			*to++ = *at == 't' ? '\t' : *at == 'n' ? '\n' : *at;
		}
	}
	*to = '\0';
	return text;
}

/* "[768,2048]" */
static bool read_shape(const char *text, uint64_t *shape, uint32_t *rank)
{
	char number[24];

	*rank = 0;
	if (*text++ != '[')
		return false;
	while (*text != ']') {
		size_t length = strcspn(text, ",]");

		if (!length || length >= sizeof(number) || *rank == SD_RANK_MAX)
			return false;
		memcpy(number, text, length);
		number[length] = '\0';
		if (!sd_text_number(number, &shape[(*rank)++]))
			return false;
		text += length + (text[length] == ',');
	}
	return !text[1];
}

static enum sd_result add_line(struct diff_side *side, const struct sum_line *line, struct sd_error *err)
{
	enum sd_dtype dtype = sd_dtype_parse(line->dtype, strlen(line->dtype));
	uint64_t shape[SD_RANK_MAX], count, bytes;
	char *name = strdup(line->name);
	uint32_t rank;
	enum sd_result result = SD_OK;

	if (!name)
		return sd_fail_memory(err);
	if (!dtype || !read_shape(line->shape, shape, &rank) || !sd_shape_count(shape, rank, &count) ||
	    !sd_dtype_bytes(dtype, count, &bytes))
		result = sd_fail(err, SD_INPUT, "%s: %s: %s %s is no dtype and shape", side->name, line->name,
				 line->dtype, line->shape);
	else if (!sd_manifest_add_tensor(side->listed, unescape(name), dtype, shape, rank))
		result = sd_fail_memory(err);
	free(name);
	return result;
}

static enum sd_result open_list(struct diff_side *side, struct sd_error *err)
{
	struct sum_list list = {.n = 0};
	enum sd_result result = sum_list_read(&list, side->name, err);

	side->listed = sd_manifest_new();
	side->sums = calloc(list.n + 1, sizeof(*side->sums));
	if (result == SD_OK && (!side->listed || !side->sums))
		result = sd_fail_memory(err);
	for (size_t i = 0; i < list.n && result == SD_OK; i++) {
		side->sums[i] = list.lines[i].sum;
		result = add_line(side, &list.lines[i], err);
	}
	sum_list_free(&list);
	side->m = side->listed;
	return result;
}

/* ---- sources ---- */

static enum sd_result open_source(const struct diff_options *opt, struct diff_side *side, struct sd_error *err)
{
	bool is_stdin = strcmp(side->name, "-") == 0, is_list = false;
	enum sd_result result = is_stdin ? SD_OK : sum_list_is(side->name, &is_list, err);

	if (result != SD_OK)
		return result;
	if (is_list)
		return open_list(side, err);
	if (is_stdin) {
		side->name = "standard input";
		result = sd_open_stdin(&opt->limits, &side->opened, err);
	} else {
		result = sd_open(side->name, &opt->limits, &side->opened, err);
	}
	if (result != SD_OK)
		return result;
	if (side->opened->note)
		sd_note("%s", side->opened->note);
	if (side->opened->lack && !opt->names)
		return sd_fail(err, SD_INPUT, "%s", side->opened->lack);
	side->source = side->opened;
	side->m = side->source->manifest;
	return SD_OK;
}

/* Whether none of its data has to be waited for, or made by steps. */
static bool is_random(const struct diff_side *side)
{
	if (!side->source || !side->source->random)
		return false;
	for (size_t i = 0; i < side->m->ntargets; i++)
		if (side->m->targets[i].nsteps)
			return false;
	return true;
}

/* ---- maps ---- */

static enum sd_result open_map(const struct diff_options *opt, struct diff_side *side, struct sd_error *err)
{
	enum sd_result result;

	if (strcmp(opt->map, "auto") != 0)
		return sd_maps_open(opt->map, &side->map, err);
	result = sd_maps_find(side->m, opt->to, &side->map, err);
	return result == SD_OK ? result : sd_error_at(err, "%s", side->name);
}

/* The layout that a side has: that from which alone a map turns keys, or from which it turns more; -1: no key tells. */
static enum sd_result find_layout(const struct diff_options *opt, const struct diff_side *side, int *layout,
				  struct sd_error *err)
{
	const struct sd_rename rename = {.map = side->map, .defines = opt->defines, .ndefines = opt->ndefines};
	struct sd_evidence evidence = {.keys = {0, 0}};
	enum sd_result result = sd_rename_evidence(&rename, side->m, &evidence, err);

	if (!evidence.key[0] != !evidence.key[1])
		*layout = evidence.key[1] != NULL;
	else
		*layout = evidence.keys[0] == evidence.keys[1] ? -1 : evidence.keys[1] > evidence.keys[0];
	return result == SD_OK ? result : sd_error_at(err, "%s", side->name);
}

static enum sd_result plan_turn(const struct diff_options *opt, const struct diff_side *side, int to,
				struct sd_plan *plan, struct sd_error *err)
{
	struct sd_rename rename = {
		.map = side->map, .to = to, .defines = opt->defines, .ndefines = opt->ndefines, .keep_config = true};
	enum sd_result result = sd_rename_plan(&rename, side->opened->manifest, plan, err);

	return result == SD_OK ? result : sd_error_at(err, "%s", side->name);
}

static enum sd_result turn(const struct diff_options *opt, struct diff_side *side, int to, struct sd_error *err)
{
	if (plan_turn(opt, side, to, &side->plan, err) != SD_OK)
		return err->result;
	side->m = side->plan.manifest;
	side->source = side->turned = sd_planned_source(side->opened, &side->plan);
	return side->source ? SD_OK : sd_fail_memory(err);
}

/* How many names two manifests have in common. */
static bool count_common(const struct sd_manifest *a, const struct sd_manifest *b, size_t *common)
{
	struct sd_names names = {0};
	bool memory = true;

	*common = 0;
	for (size_t i = 0; i < a->ntargets && memory; i++)
		memory = sd_names_add(&names, a->targets[i].name, 0) != SD_NO_NAME;
	for (size_t i = 0; i < b->ntargets && memory; i++)
		*common += sd_names_find(&names, b->targets[i].name) != SD_NO_NAME;
	sd_names_free(&names);
	return memory;
}

/* Where no key tells the layout of a side: whether it has more names of the other side as it is, or turned. */
static enum sd_result guess_layout(const struct diff_options *opt, const struct diff_side *side,
				   const struct diff_side *other, int to, int *layout, struct sd_error *err)
{
	struct sd_plan plan = {0};
	struct sd_error ignored;
	size_t as_it_is, turned = 0;
	bool memory = count_common(other->m, side->opened->manifest, &as_it_is);

	if (memory && plan_turn(opt, side, to, &plan, &ignored) == SD_OK)
		memory = count_common(other->m, plan.manifest, &turned);
	sd_plan_free(&plan);
	*layout = turned > as_it_is ? !to : to;
	return memory ? SD_OK : sd_fail_memory(err);
}

static enum sd_result find_side(const struct diff_options *opt, const struct sd_map *map, int *side,
				struct sd_error *err)
{
	for (int i = 0; i < 2; i++)
		if (strcmp(opt->to, sd_map_layout(map, i)) == 0) {
			*side = i;
			return SD_OK;
		}
	return sd_fail(err, SD_USAGE, "--to %s: map %s knows the layouts %s and %s", opt->to, sd_map_name(map),
		       sd_map_layout(map, 0), sd_map_layout(map, 1));
}

static void tell_layouts(const struct diff *diff, const struct sd_map *map, const int layout[2], int to)
{
	sd_note("map %s: %s is %s, %s is %s; compared as %s", sd_map_name(map), diff->side[0].name,
		sd_map_layout(map, layout[0]), diff->side[1].name, sd_map_layout(map, layout[1]),
		sd_map_layout(map, to));
}

/* Those whose layout no key tells come last. */
static enum sd_result turn_both(struct diff *diff, int layout[2], int to, struct sd_error *err)
{
	const struct diff_options *opt = diff->opt;
	int first = layout[0] < 0;

	for (int k = 0; k < 2; k++) {
		int i = k ? !first : first;
		struct diff_side *side = &diff->side[i];

		if (layout[i] < 0 && guess_layout(opt, side, &diff->side[!i], to, &layout[i], err) != SD_OK)
			return err->result;
		if (layout[i] != to && turn(opt, side, to, err) != SD_OK)
			return err->result;
	}
	if (!opt->quiet)
		tell_layouts(diff, diff->side[0].map, layout, to);
	return SD_OK;
}

/* Brings both into one layout: that of --to, or that of A. */
static enum sd_result map_sides(struct diff *diff, struct sd_error *err)
{
	const struct diff_options *opt = diff->opt;
	int layout[2] = {-1, -1}, to = -1;

	for (int i = 0; i < 2; i++) {
		if (!diff->side[i].opened)
			return sd_fail(err, SD_USAGE, "--map: %s is a list of checksums, which no map can turn",
				       diff->side[i].name);
		if (open_map(opt, &diff->side[i], err) != SD_OK ||
		    (diff->side[i].map && find_layout(opt, &diff->side[i], &layout[i], err) != SD_OK))
			return err->result;
	}
	if (!diff->side[0].map || !diff->side[1].map)
		return SD_OK; /* adapters, whose names are the same in all layouts */
	if (strcmp(sd_map_name(diff->side[0].map), sd_map_name(diff->side[1].map)) != 0)
		return sd_fail(err, SD_INPUT, "%s wants map %s, and %s map %s: say --map NAME for both",
			       diff->side[0].name, sd_map_name(diff->side[0].map), diff->side[1].name,
			       sd_map_name(diff->side[1].map));
	if (layout[0] < 0 && layout[1] < 0)
		return sd_fail(
			err, SD_INPUT,
			"no key tells in which layouts of map %s %s and %s are: turn one of them by sd-rename first",
			sd_map_name(diff->side[0].map), diff->side[0].name, diff->side[1].name);
	to = layout[0] < 0 ? layout[1] : layout[0];
	if (opt->to && find_side(opt, diff->side[0].map, &to, err) != SD_OK)
		return err->result;
	return turn_both(diff, layout, to, err);
}

/* ---- choosing ---- */

static enum sd_result check_side(const struct diff_options *opt, const struct diff_side *side, struct sd_error *err)
{
	struct sd_selection choice = opt->choice; /* which layers are meant is another thing in each source */

	sd_selection_settle(&choice, side->m);
	return sd_selection_check(&choice, side->m, err);
}

/* What chooses has to match a tensor of one side at least. */
static enum sd_result check_choice(const struct diff *diff, struct sd_error *err)
{
	const struct sd_selection *choice = &diff->opt->choice;
	struct sd_error other;
	enum sd_result result = check_side(diff->opt, &diff->side[0], err);

	if (result == SD_INPUT && check_side(diff->opt, &diff->side[1], &other) == SD_OK)
		result = SD_OK;
	return result == SD_OK ? selection_note(choice, diff->side[0].m, false, err) : result;
}

/* How many of a tensor's targets have data that comes along. */
static size_t count_here(const struct diff_side *side, const struct sd_listed *t, size_t *targets)
{
	size_t here = 0;

	*targets = 0;
	for (uint32_t i = t->target; i != UINT32_MAX; i = side->listing.next[i], ++*targets)
		here += side->m->records[side->m->targets[i].record].state == SD_HERE;
	return here;
}

/* What is left out of a stream is not in it, but for its name. */
static enum sd_result leave_elsewhere(const struct diff_options *opt, struct diff_side *side, struct sd_error *err)
{
	size_t left = 0;

	for (size_t i = 0; i < side->listing.n && !opt->names; i++) {
		const struct sd_listed *t = &side->listing.tensors[i];
		size_t targets, here = count_here(side, t, &targets);

		if (here && here < targets && side->chosen[i])
			return sd_fail(err, SD_INPUT, "%s: %s: its data comes only in part", side->name, t->name);
		side->chosen[i] = side->chosen[i] && here;
		left += !here;
	}
	if (left && left == side->listing.n)
		return sd_fail(err, SD_INPUT, "%s: no data comes along: --names compares without", side->name);
	return SD_OK;
}

static enum sd_result choose(const struct diff_options *opt, struct diff_side *side, struct sd_error *err)
{
	struct sd_selection choice = opt->choice;
	enum sd_result result = SD_OK;

	sd_selection_settle(&choice, side->m);
	side->chosen = calloc(side->listing.n + 1, sizeof(*side->chosen));
	if (!side->chosen)
		return sd_fail_memory(err);
	for (size_t i = 0; i < side->listing.n && result == SD_OK; i++)
		result = sd_selection_takes(&choice, side->listing.tensors[i].name, &side->chosen[i], err);
	return result == SD_OK ? leave_elsewhere(opt, side, err) : result;
}

enum sd_result diff_open(struct diff *diff, struct sd_error *err)
{
	const struct diff_options *opt = diff->opt;
	enum sd_result result = SD_OK;

	if (strcmp(opt->operand[0], "-") == 0 && strcmp(opt->operand[1], "-") == 0)
		return sd_fail(err, SD_USAGE, "standard input cannot be both A and B");
	for (int i = 0; i < 2 && result == SD_OK; i++) {
		diff->side[i].name = opt->operand[i];
		result = open_source(opt, &diff->side[i], err);
	}
	if (result == SD_OK && opt->map)
		result = map_sides(diff, err);
	for (int i = 0; i < 2; i++)
		diff->side[i].random = is_random(&diff->side[i]);
	if (result == SD_OK && !opt->names)
		result = diff_spool(diff, err);
	for (int i = 0; i < 2 && result == SD_OK; i++)
		result = sd_listing_make(diff->side[i].m, &diff->side[i].listing, err);
	if (result == SD_OK)
		result = check_choice(diff, err);
	for (int i = 0; i < 2 && result == SD_OK; i++)
		result = choose(opt, &diff->side[i], err);
	return result;
}

void diff_close(struct diff *diff)
{
	for (int i = 0; i < 2; i++) {
		struct diff_side *side = &diff->side[i];

		sd_listing_free(&side->listing);
		free(side->chosen);
		free(side->sums);
		diff_spool_free(side);
		sd_source_close(side->turned);
		sd_plan_free(&side->plan);
		sd_map_free(side->map);
		sd_manifest_free(side->listed);
		sd_source_close(side->opened);
	}
	for (size_t i = 0; i < diff->npairs; i++) {
		free(diff->pairs[i].list);
		free(diff->pairs[i].values);
	}
	free(diff->pairs);
	sd_arena_free(&diff->arena);
}
