/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --explain: gathers which rules tensors go through, and prints what was asked for. */
#include "tools/explanation.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- gathering ---- */

struct explanation *explain_begin(const struct explain_options *opt, const struct sd_manifest *in)
{
	struct explanation *e = calloc(1, sizeof(*e));

	if (e) {
		e->opt = opt;
		e->in = e->to_map = in;
	}
	return e;
}

void explain_end(struct explanation *e)
{
	if (!e)
		return;
	for (size_t i = 0; e->globs && i < e->opt->nkeys; i++)
		sd_glob_free(e->globs[i]);
	free(e->globs);
	free(e->used);
	free(e->first);
	free(e->taken);
	free(e->rows);
	free(e->counts);
	free(e->edges);
	free(e->name);
	sd_names_free(&e->names);
	sd_arena_free(&e->arena);
	free(e);
}

const char *explain_keep(struct explanation *e, const char *text)
{
	const char *kept = text ? sd_arena_text(&e->arena, text, strlen(text)) : NULL;

	e->failed = e->failed || (text && !kept);
	return kept;
}

/* The number of a name, new or not. NONE: memory is out. */
static uint32_t intern(struct explanation *e, const char *text)
{
	uint32_t number = sd_names_find(&e->names, text);
	const char *kept;

	if (number != SD_NO_NAME)
		return number;
	kept = explain_keep(e, text);
	if (!kept || !sd_array_grow(&e->name, e->nnames, &e->names_room, sizeof(*e->name)) ||
	    sd_names_add(&e->names, kept, (uint32_t)e->nnames) == SD_NO_NAME) {
		e->failed = true;
		return NONE;
	}
	e->name[e->nnames] = (struct name){.text = kept, .first = NONE, .last = NONE, .target = NONE};
	return (uint32_t)e->nnames++;
}

static void count(struct explanation *e, uint32_t rule)
{
	while (rule != SD_NO_RULE && e->ncounts <= rule && !e->failed) {
		if (!sd_array_grow(&e->counts, e->ncounts, &e->counts_room, sizeof(*e->counts)))
			e->failed = true;
		else
			e->counts[e->ncounts++] = 0;
	}
	if (rule != SD_NO_RULE && !e->failed)
		e->counts[rule]++;
}

static void add_edge(struct explanation *e, const struct sd_rename_event *event, uint32_t from)
{
	struct edge edge = {.from = from,
			    .to = event->to ? intern(e, event->to) : NONE,
			    .rule = event->rule,
			    .step = event->step + e->base,
			    .next = NONE,
			    .joins = event->joins};

	edge.text = event->rule == SD_NO_RULE ? explain_keep(e, event->text) : NULL;
	edge.holes = *event->holes ? explain_keep(e, event->holes) : "";
	if (e->failed || !sd_array_grow(&e->edges, e->nedges, &e->edges_room, sizeof(*e->edges))) {
		e->failed = true;
		return;
	}
	if (e->name[from].first == NONE)
		e->name[from].first = (uint32_t)e->nedges;
	else
		e->edges[e->name[from].last].next = (uint32_t)e->nedges;
	e->name[from].last = (uint32_t)e->nedges;
	e->edges[e->nedges++] = edge;
}

/* That a tensor passes a stage is worth a word only where the stage makes something more of it. */
static bool is_worth(const struct explanation *e, const struct sd_rename_event *event, uint32_t from)
{
	uint32_t last = e->name[from].last;

	return event->rule != SD_NO_RULE || !event->stage ||
	       (last != NONE && e->edges[last].step == event->step + e->base);
}

/* Whether the very text of a name is that of a target of what comes to the map, the last one or the next: e->at. */
static bool find_target(struct explanation *e, const struct sd_rename_event *event)
{
	const struct sd_manifest *m = e->to_map;

	if (event->step != e->at_step) {
		e->at = 0;
		e->at_step = event->step;
	}
	for (size_t i = e->at; i < e->at + 2 && i < m->ntargets; i++)
		if (m->targets[i].name == event->from) {
			e->at = i;
			return true;
		}
	return false;
}

/* Without keys: notes which names a rule takes. */
static void note_taken(struct explanation *e, const struct sd_rename_event *event)
{
	bool found = find_target(e, event);
	uint32_t name;

	if (event->rule == SD_NO_RULE)
		return;
	if (!e->taken)
		e->taken = calloc(e->to_map->ntargets + 1, sizeof(*e->taken));
	e->failed = e->failed || !e->taken;
	if (e->failed)
		return;
	/* A tensor in pieces has several targets. */
	if (found && !e->to_map->targets[e->at].move) {
		e->taken[e->at] = true;
		return;
	}
	name = intern(e, event->from);
	if (name != NONE)
		e->name[name].taken = true;
}

void explain_take(void *user, const struct sd_rename_event *event)
{
	struct explanation *e = user;
	uint32_t from;

	if (event->step + e->base >= e->steps)
		e->steps = event->step + e->base + 1;
	count(e, event->rule);
	if (!e->opt->nkeys) {
		note_taken(e, event);
		return;
	}
	from = e->failed ? NONE : intern(e, event->from);
	if (from != NONE && is_worth(e, event, from))
		add_edge(e, event, from);
}

void explain_next(struct explanation *e, const struct sd_manifest *to_map)
{
	e->base = e->steps;
	e->to_map = to_map;
}

/* ---- what is asked for ---- */

static enum sd_result compile_keys(struct explanation *e, struct sd_error *err)
{
	e->globs = calloc(e->opt->nkeys + 1, sizeof(struct sd_glob *));
	e->used = calloc(e->opt->nkeys + 1, sizeof(*e->used));
	if (!e->globs || !e->used)
		return sd_fail_memory(err);
	for (size_t i = 0; i < e->opt->nkeys; i++)
		if (sd_glob_new(e->opt->keys[i], &e->globs[i], err) != SD_OK)
			return err->result;
	return SD_OK;
}

static bool is_asked(struct explanation *e, uint32_t number)
{
	struct name *name = &e->name[number];
	struct sd_error err;

	for (size_t i = 0; name->asked == UNKNOWN && i < e->opt->nkeys; i++) {
		bool yes = strcmp(e->opt->keys[i], name->text) == 0;

		if (!yes && sd_glob_matches(e->globs[i], name->text, &yes, &err) != SD_OK)
			e->failed = true;
		e->used[i] = e->used[i] || yes;
		name->asked = yes ? YES : name->asked;
	}
	if (name->asked == UNKNOWN)
		name->asked = NO;
	return name->asked == YES;
}

static enum sd_result fail_unknown(const struct explanation *e, size_t key, struct sd_error *err)
{
	struct sd_nearest nearest = sd_nearest_begin(e->opt->keys[key]);
	const struct sd_manifest *out = e->plan->manifest;
	const char *meant;

	for (size_t i = 0; i < e->in->ntargets; i++)
		sd_nearest_look(&nearest, e->in->targets[i].name);
	for (size_t i = 0; out && i < out->ntargets; i++)
		sd_nearest_look(&nearest, out->targets[i].name);
	meant = sd_nearest_name(&nearest);
	return sd_fail(err, SD_DIFFERENT, meant ? "there is no key %s; did you mean %s?" : "there is no key %s",
		       e->opt->keys[key], meant);
}

/* ---- ways ---- */

struct walk {
	struct explanation *e;
	uint32_t source;
	uint32_t way[WAY_MAX];
	bool asked;
};

static void add_row(struct explanation *e, const struct row *row)
{
	if (!e->failed && sd_array_grow(&e->rows, e->nrows, &e->rows_room, sizeof(*e->rows)))
		e->rows[e->nrows++] = *row;
	else
		e->failed = true;
}

/* The targets that a record which came in has under a name: a row for each, or one without. */
static void add_targets(struct walk *w, struct row *row)
{
	struct explanation *e = w->e;
	const struct sd_manifest *out = e->plan->manifest;
	uint32_t record = out ? e->plan->becomes[e->in->targets[w->source].record] : SD_DROP;
	bool found = false;

	for (size_t i = record < SD_WORK ? e->first[record] : 0;
	     out && record < SD_WORK && i < out->ntargets && out->targets[i].record == record; i++) {
		if (row->name == NONE || strcmp(out->targets[i].name, e->name[row->name].text) != 0)
			continue;
		row->target = &out->targets[i];
		add_row(e, row);
		found = true;
	}
	if (!found)
		add_row(e, row);
}

static void end_way(struct walk *w, uint32_t name, uint32_t length, bool joins)
{
	struct explanation *e = w->e;
	struct row row = {.source = w->source, .name = name, .length = length, .joins = joins};
	bool asked = name != NONE && is_asked(e, name);

	if (!w->asked && !asked)
		return;
	row.way = sd_arena_copy(&e->arena, w->way, length * sizeof(*w->way) + !length);
	if (!row.way)
		e->failed = true;
	else
		add_targets(w, &row);
}

/* Follows a name from a step on, through all that becomes of it. */
static void follow(struct walk *w, uint32_t name, uint32_t step, uint32_t length, bool joins)
{
	struct explanation *e = w->e;
	uint32_t i = name == NONE ? NONE : e->name[name].first, at;

	while (i != NONE && e->edges[i].step < step)
		i = e->edges[i].next;
	if (i == NONE || length == WAY_MAX) {
		end_way(w, name, length, joins);
		return;
	}
	at = e->edges[i].step;
	for (; i != NONE && e->edges[i].step == at; i = e->edges[i].next) {
		w->way[length] = i;
		follow(w, e->edges[i].to, e->edges[i].joins ? at : at + 1, length + 1, joins || e->edges[i].joins);
	}
}

/* Records that are missing, for what is asked for. */
static void add_missing(struct explanation *e)
{
	const struct sd_manifest *out = e->plan->manifest;

	for (size_t i = 0; i < out->ntargets && !e->failed; i++) {
		const struct sd_record *r = &out->records[out->targets[i].record];
		uint32_t name, key;

		if (r->state != SD_MISSING)
			continue;
		name = intern(e, out->targets[i].name);
		key = e->failed ? NONE : intern(e, r->key);
		if (key != NONE && (is_asked(e, name) || is_asked(e, key)))
			add_row(e,
				&(struct row){.source = NONE, .name = name, .record = r, .target = &out->targets[i]});
	}
}

static void index_targets(struct explanation *e)
{
	const struct sd_manifest *out = e->plan->manifest;

	e->first = calloc(out->nrecords + 1, sizeof(*e->first));
	e->failed = e->failed || !e->first;
	for (size_t i = out->ntargets; i-- > 0 && !e->failed;) {
		uint32_t name = intern(e, out->targets[i].name);

		e->first[out->targets[i].record] = (uint32_t)i;
		if (name != NONE)
			e->name[name].target = (uint32_t)i;
	}
}

static void find_rows(struct explanation *e)
{
	struct walk w = {.e = e};
	uint32_t before = NONE;

	if (e->plan->manifest)
		index_targets(e);
	for (size_t i = 0; i < e->in->ntargets && !e->failed; i++) {
		uint32_t name = intern(e, e->in->targets[i].name);

		if (name == NONE || (name == before && !e->in->targets[i].move))
			continue;
		before = name;
		w.source = (uint32_t)i;
		w.asked = is_asked(e, name);
		follow(&w, name, 0, 0, false);
	}
	if (e->plan->manifest && !e->failed)
		add_missing(e);
}

/* ---- all rules ---- */

static int width_of_places(const struct explanation *e, int to)
{
	struct sd_map_rule rule;
	int width = 0;

	for (uint32_t i = 0; e->map && sd_map_rule(e->map, i, &rule); i++) {
		int length = snprintf(NULL, 0, "%s:%u", rule.file, rule.line);

		width = rule.ways[to] && length > width ? length : width;
	}
	return width;
}

static void print_count(const struct explanation *e, uint32_t number, const struct sd_map_rule *rule, int width)
{
	size_t taken = number < e->ncounts ? e->counts[number] : 0;
	char place[256];

	snprintf(place, sizeof(place), "%s:%u", rule->file, rule->line);
	if (e->opt->look.human) {
		fprintf(e->out, "%7zu  %-10s  %-*s  ", taken, rule->stage, width, place);
		sd_map_write_rule(e->map, number, e->out);
	} else if (e->opt->json) {
		fprintf(e->out, "{\"taken\":%zu,\"stage\":", taken);
		sd_json_write(e->out, rule->stage, SD_JSON_ASCII);
		fprintf(e->out, ",\"file\":");
		sd_json_write(e->out, rule->file, SD_JSON_ASCII);
		fprintf(e->out, ",\"line\":%" PRIu32 ",\"rule\":", rule->line);
		sd_json_write(e->out, rule->text, SD_JSON_ASCII);
		fputc('}', e->out);
	} else {
		fprintf(e->out, "%zu\t", taken);
		sd_text_print(e->out, rule->stage);
		fputc('\t', e->out);
		sd_text_print(e->out, rule->file);
		fprintf(e->out, ":%u\t", rule->line);
		sd_text_print(e->out, rule->text);
	}
	fputc('\n', e->out);
}

/* For people: which rules names that none takes are nearest to, each once. */
static void print_nearest(struct explanation *e, const uint32_t *targets, size_t n)
{
	const char *told[NEAREST_MAX];
	size_t ntold = 0;

	for (size_t i = 0; i < n && i < NEAREST_TRIED && ntold < NEAREST_MAX; i++) {
		const char *text = why_nearest(e->rename, e->to_map, targets[i], &e->arena);
		size_t k = 0;

		while (text && k < ntold && strcmp(told[k], text) != 0)
			k++;
		if (!text || k < ntold)
			continue;
		told[ntold++] = text;
		fputs("       nearest     ", e->out);
		sd_text_print(e->out, e->to_map->targets[targets[i]].name);
		fputs(": ", e->out);
		sd_text_print(e->out, text);
		fputc('\n', e->out);
	}
}

static void print_untaken(struct explanation *e, const uint32_t *targets, size_t n)
{
	const char **names = calloc(n + 1, sizeof(*names));

	e->failed = e->failed || !names;
	for (size_t i = 0; i < n && names; i++)
		names[i] = e->to_map->targets[targets[i]].name;
	if (e->opt->look.human && names) {
		explain_print_folded(e, names, n, true, "  no rule     ", "");
		print_nearest(e, targets, n);
	}
	for (size_t i = 0; i < n && names && !e->opt->look.human; i++) {
		if (e->opt->json) {
			fprintf(e->out, "{\"no_rule\":");
			sd_json_write(e->out, names[i], SD_JSON_ASCII);
			fputc('}', e->out);
		} else {
			fprintf(e->out, "1\tno rule\t-\t");
			sd_text_print(e->out, names[i]);
		}
		fputc('\n', e->out);
	}
	free(names);
}

static bool is_taken(const struct explanation *e, size_t target)
{
	uint32_t name;

	if (e->taken && e->taken[target])
		return true;
	name = sd_names_find(&e->names, e->to_map->targets[target].name);
	return name != SD_NO_NAME && e->name[name].taken;
}

/* The names that reach the map: as edits in front of it leave them. */
static void print_rules(struct explanation *e, int to)
{
	const struct sd_manifest *m = e->to_map;
	uint32_t *untaken = calloc(m->ntargets + 1, sizeof(*untaken));
	struct sd_map_rule rule;
	int width = width_of_places(e, to);
	size_t n = 0;

	if (!untaken) {
		e->failed = true;
		return;
	}
	for (uint32_t i = 0; e->map && sd_map_rule(e->map, i, &rule); i++)
		if (rule.ways[to])
			print_count(e, i, &rule, width);
	for (size_t i = 0; i < m->ntargets && e->map; i++)
		if (!is_taken(e, i))
			untaken[n++] = (uint32_t)i;
	print_untaken(e, untaken, n);
	free(untaken);
}

static enum sd_result print(struct explanation *e, struct sd_error *err)
{
	if (!e->opt->nkeys) {
		print_rules(e, e->rename->to);
		return SD_OK;
	}
	if (compile_keys(e, err) != SD_OK)
		return err->result;
	find_rows(e);
	if (e->opt->look.human && !e->failed)
		explain_print_for_people(e);
	for (size_t i = 0; i < e->nrows && !e->opt->look.human && !e->failed; i++)
		if (e->opt->json)
			explain_print_json(e, &e->rows[i]);
		else
			explain_print_tsv(e, &e->rows[i]);
	for (size_t i = 0; i < e->opt->nkeys && !e->failed; i++)
		if (!e->used[i])
			return fail_unknown(e, i, err);
	return SD_OK;
}

enum sd_result explain_print(struct explanation *e, const struct sd_rename *rename, const struct sd_plan *plan,
			     struct sd_error *err)
{
	struct sd_memstream *stream = NULL;
	enum sd_result result;

	e->rename = rename;
	e->map = rename->map;
	e->plan = plan;
	e->out = stdout;
	if (e->opt->look.human && !(stream = sd_memstream_open(&e->out)))
		return sd_fail_memory(err);
	result = print(e, err);
	if (stream && !sd_look_close(stream, &e->opt->look))
		e->failed = true;
	return e->failed ? sd_fail_memory(err) : result;
}
