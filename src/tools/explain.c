/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --explain. */
#include "tools/explain.h"
#include "base/glob.h"
#include "base/json.h"
#include "base/memstream.h"
#include "base/names.h"
#include "base/nearest.h"
#include "base/text.h"
#include "move/box.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

/* No way is longer: a stage, an edit and --exclude have one step each. */
#define WAY_MAX 256

/* A tensor goes from one name to the next. */
struct edge {
	uint32_t from, to; /* names; NONE: it is dropped */
	uint32_t rule, step;
	uint32_t next;     /* of the same from, or NONE */
	const char *text;  /* of an edit, or of --exclude */
	const char *holes; /* of a rule */
	bool joins;
};

enum asked { UNKNOWN, NO, YES };

struct name {
	const char *text;
	uint32_t first, last; /* edges */
	bool taken;           /* by a rule, with this name */
	enum asked asked;
	uint32_t target; /* the first target of the plan with this name, or NONE */
};

/* One source of one tensor that comes out. */
struct row {
	uint32_t source;                /* target of what came in; NONE: a record that is missing */
	uint32_t name;                  /* of what comes out; NONE: it is dropped */
	const struct sd_record *record; /* what is missing */
	const struct sd_target *target; /* NULL: it does not come out, or takes part as an operand */
	const uint32_t *way;            /* edges */
	uint32_t length;
	const char *kind; /* for people: what rows that are folded have in common */
	bool joins;
};

struct explanation {
	const struct explain_options *opt;
	const struct sd_manifest *in;
	const struct sd_map *map;
	const struct sd_plan *plan;
	struct sd_arena arena;
	struct sd_names names;
	struct name *name;
	size_t nnames, names_room;
	struct edge *edges;
	size_t nedges, edges_room;
	size_t *counts; /* by rule */
	size_t ncounts, counts_room;
	uint32_t base, steps; /* of this rename: its first step; and the number behind the last one */
	uint32_t *first;      /* of each record that comes out: its first target */
	struct row *rows;
	size_t nrows, rows_room;
	struct sd_glob **globs; /* of the keys */
	bool *used;
	bool failed; /* memory is out */
};

/* ---- gathering ---- */

struct explanation *explain_begin(const struct explain_options *opt, const struct sd_manifest *in)
{
	struct explanation *e = calloc(1, sizeof(*e));

	if (e) {
		e->opt = opt;
		e->in = in;
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
	free(e->rows);
	free(e->counts);
	free(e->edges);
	free(e->name);
	sd_names_free(&e->names);
	sd_arena_free(&e->arena);
	free(e);
}

static const char *keep(struct explanation *e, const char *text)
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
	kept = keep(e, text);
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

	edge.text = event->rule == SD_NO_RULE ? keep(e, event->text) : NULL;
	edge.holes = *event->holes ? keep(e, event->holes) : "";
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

void explain_take(void *user, const struct sd_rename_event *event)
{
	struct explanation *e = user;
	uint32_t from;

	if (event->step + e->base >= e->steps)
		e->steps = event->step + e->base + 1;
	count(e, event->rule);
	if (!e->opt->nkeys && event->rule == SD_NO_RULE)
		return;
	from = e->failed ? NONE : intern(e, event->from);
	if (from == NONE)
		return;
	e->name[from].taken |= event->rule != SD_NO_RULE;
	if (e->opt->nkeys && is_worth(e, event, from))
		add_edge(e, event, from);
}

void explain_next(struct explanation *e)
{
	e->base = e->steps;
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

/* ---- words ---- */

void explain_tensor(FILE *out, const char *name, enum sd_dtype dtype, const uint64_t *shape, uint32_t rank)
{
	sd_text_print(out, name);
	fprintf(out, "\t%s\t", sd_dtype_name(dtype));
	sd_shape_print(out, shape, rank);
}

void explain_steps(FILE *out, const struct sd_target *t, enum sd_dtype dtype)
{
	const char *between = "";

	for (uint32_t i = 0; i < t->nsteps; i++) {
		if (t->steps[i].kind == SD_STEP_WITH)
			continue;
		fprintf(out, "%s%s:%s>%s", between, sd_step_word(t->steps[i].kind), sd_dtype_name(dtype),
			sd_dtype_name(t->steps[i].dtype));
		dtype = t->steps[i].dtype;
		between = ",";
	}
	if (sd_target_is_reordered(t))
		fprintf(out, "%sreorder", between);
	fputs(t->nsteps || sd_target_is_reordered(t) ? "" : "-", out);
}

static const char *key_of(const struct explanation *e, const struct row *row)
{
	return row->source == NONE ? row->record->key : e->in->targets[row->source].name;
}

static const struct sd_record *record_of(const struct explanation *e, const struct row *row)
{
	return row->source == NONE ? row->record : &e->in->records[e->in->targets[row->source].record];
}

/* The tensor of a source: what came in, or what is missing. */
struct came {
	const char *name;
	enum sd_dtype dtype;
	const uint64_t *shape;
	uint32_t rank;
};

static struct came what_came(const struct explanation *e, const struct row *row)
{
	const struct sd_target *t = row->source == NONE ? NULL : &e->in->targets[row->source];

	return t ? (struct came){t->name, t->dtype, t->shape, t->rank}
		 : (struct came){row->record->key, row->record->dtype, row->record->shape, row->record->rank};
}

/* What is to be done on the way, or why there is nothing. */
static void write_steps(FILE *out, const struct explanation *e, const struct row *row)
{
	if (row->source == NONE)
		fputs("missing", out);
	else if (row->name == NONE)
		fputs("drop", out);
	else if (row->target)
		explain_steps(out, row->target, record_of(e, row)->dtype);
	else
		fputs(row->joins ? "operand" : "fails", out);
}

/* The box between a record and its tensor; false where its part of either is none. */
static bool box_of(const struct explanation *e, const struct row *row, struct sd_box *box)
{
	const struct sd_record *r = record_of(e, row);
	const struct sd_target *t = row->target;
	struct sd_move room;
	uint64_t count = 1;

	if (!t || r->rank > SD_RANK_MAX || t->rank > SD_RANK_MAX || sd_target_codes(e->plan->manifest, t) != 1 ||
	    (t->nsteps && t->steps[0].kind == SD_STEP_DECODE) ||
	    (row->source != NONE && e->in->targets[row->source].move))
		return false;
	if (!t->move && !sd_shape_count(r->shape, r->rank, &count))
		return false;
	if (!t->move && !count)
		return false;
	if (!t->move)
		room = sd_move_identity(count);
	return sd_box_of(t->move ? t->move : &room, r->shape, r->rank, t->shape, t->rank, box);
}

static void write_range(FILE *out, uint64_t from, uint64_t size, uint64_t whole)
{
	if (size == whole)
		fputc(':', out);
	else if (size == 1)
		fprintf(out, "%" PRIu64, from);
	else
		fprintf(out, "%" PRIu64 ":%" PRIu64, from, from + size);
}

/* Where in a key a number stands as a part of its own: which one of those it is, from 1 on; 0: nowhere. */
static unsigned number_in(const char *key, uint64_t number)
{
	unsigned found = 0, n = 0;

	for (const char *at = key; *at; at += strcspn(at, ".") + (at[strcspn(at, ".")] == '.')) {
		size_t length = strcspn(at, ".");
		uint64_t value = 0;
		char part[24];

		if (!length || length >= sizeof(part) || strspn(at, "0123456789") != length)
			continue;
		memcpy(part, at, length);
		part[length] = '\0';
		n++;
		if (sd_text_number(part, &value) && value == number)
			found = n;
	}
	return found;
}

/*
 * Writes a box of an array. name: one that may have the place along a dimension as a number of its own, which is N
 * then, and *numbered says which one of its numbers that is; NULL: numbers are written as such.
 */
static void write_box(FILE *out, const uint64_t *from, const uint64_t *size, const uint64_t *shape, uint32_t rank,
		      const char *name, unsigned *numbered)
{
	fputc('[', out);
	for (uint32_t d = 0; d < rank; d++) {
		unsigned at = name && !*numbered && size[d] == 1 && shape[d] > 1 ? number_in(name, from[d]) : 0;

		fputs(d ? "," : "", out);
		if (at)
			*numbered = at;
		if (at)
			fputc('N', out);
		else
			write_range(out, from[d], size[d], shape[d]);
	}
	fputc(']', out);
}

static void write_source_part(FILE *out, const struct explanation *e, const struct row *row)
{
	const struct sd_record *r = record_of(e, row);
	struct sd_box box;

	if (box_of(e, row, &box))
		write_box(out, box.from, box.size, r->shape, r->rank, NULL, NULL);
	else
		fputc('-', out);
}

/* The sizes of a box in the target. */
static void turn_sizes(const struct explanation *e, const struct row *row, const struct sd_box *box, uint64_t *size)
{
	for (uint32_t d = 0; d < row->target->rank; d++)
		size[d] = 1;
	for (uint32_t k = 0; k < record_of(e, row)->rank; k++)
		if (box->dim[k] != SD_NO_DIM)
			size[box->dim[k]] = box->size[k];
}

static void write_part(FILE *out, const struct explanation *e, const struct row *row)
{
	uint64_t size[SD_RANK_MAX];
	struct sd_box box;

	if (!box_of(e, row, &box)) {
		fputc('-', out);
		return;
	}
	turn_sizes(e, row, &box, size);
	write_box(out, box.to, size, row->target->shape, row->target->rank, NULL, NULL);
}

static bool is_whole(const uint64_t *size, const uint64_t *shape, uint32_t rank)
{
	return !rank || memcmp(size, shape, rank * sizeof(*size)) == 0;
}

/* For people: the part of what comes out, or, of that which is taken apart, "from" a part; "" where both are whole. */
static void write_parts(FILE *out, const struct explanation *e, const struct row *row, unsigned *numbered)
{
	const struct sd_record *r = record_of(e, row);
	uint64_t size[SD_RANK_MAX];
	struct sd_box box;

	if (!row->target || !box_of(e, row, &box))
		return;
	turn_sizes(e, row, &box, size);
	if (!is_whole(size, row->target->shape, row->target->rank))
		write_box(out, box.to, size, row->target->shape, row->target->rank, key_of(e, row), numbered);
	if (is_whole(box.size, r->shape, r->rank))
		return;
	fputs(is_whole(size, row->target->shape, row->target->rank) ? "from " : " from ", out);
	write_box(out, box.from, box.size, r->shape, r->rank, row->target->name, numbered);
}

static void write_rule_place(FILE *out, const struct sd_map *map, const struct edge *edge)
{
	struct sd_map_rule rule;

	if (!map || !sd_map_rule(map, edge->rule, &rule)) {
		sd_text_print(out, edge->text ? edge->text : "-");
		return;
	}
	sd_text_print(out, rule.file);
	fprintf(out, ":%u", rule.line);
}

static void write_rules(FILE *out, const struct explanation *e, const struct row *row)
{
	for (uint32_t i = 0; i < row->length; i++) {
		fputs(i ? "," : "", out);
		write_rule_place(out, e->map, &e->edges[row->way[i]]);
	}
	fputs(row->length ? "" : "-", out);
}

/* The tensor that comes out, by one of its targets: an operand has none of its own. */
static const struct sd_target *made_by(const struct explanation *e, const struct row *row)
{
	if (row->target || row->name == NONE || e->name[row->name].target == NONE)
		return row->target;
	return &e->plan->manifest->targets[e->name[row->name].target];
}

/* ---- for programs ---- */

static void print_tsv(const struct explanation *e, const struct row *row)
{
	struct came from = what_came(e, row);
	const struct sd_target *t = made_by(e, row);

	explain_tensor(stdout, from.name, from.dtype, from.shape, from.rank);
	putchar('\t');
	write_source_part(stdout, e, row);
	putchar('\t');
	if (t)
		explain_tensor(stdout, t->name, t->dtype, t->shape, t->rank);
	else if (row->name != NONE)
		sd_text_print(stdout, e->name[row->name].text);
	fputs(t ? "\t" : row->name != NONE ? "\t-\t-\t" : "-\t-\t-\t", stdout);
	write_part(stdout, e, row);
	putchar('\t');
	write_steps(stdout, e, row);
	putchar('\t');
	write_rules(stdout, e, row);
	putchar('\n');
}

/* What a writer writes, as a string of JSON, "-" as null. */
static void print_json_text(struct explanation *e, const struct row *row,
			    void (*write)(FILE *out, const struct explanation *e, const struct row *row))
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	char *text = NULL;
	size_t length;

	if (stream)
		write(out, e, row);
	if (!stream || !sd_memstream_close(stream, &text, &length))
		e->failed = true;
	else if (strcmp(text, "-") == 0)
		fputs("null", stdout);
	else
		sd_json_write(stdout, text, SD_JSON_ASCII);
	free(text);
}

static void print_json_tensor(const char *name, const char *text, enum sd_dtype dtype, const uint64_t *shape,
			      uint32_t rank)
{
	printf("\"%s\":{\"name\":", name);
	sd_json_write(stdout, text, SD_JSON_ASCII);
	printf(",\"dtype\":\"%s\",\"shape\":", sd_dtype_name(dtype));
	sd_shape_print(stdout, shape, rank);
}

static void print_json_way(const struct explanation *e, const struct row *row)
{
	struct sd_map_rule rule;

	for (uint32_t i = 0; i < row->length; i++) {
		const struct edge *edge = &e->edges[row->way[i]];

		if (e->map && sd_map_rule(e->map, edge->rule, &rule)) {
			printf("%s{\"stage\":", i ? "," : "");
			sd_json_write(stdout, rule.stage, SD_JSON_ASCII);
			printf(",\"file\":");
			sd_json_write(stdout, rule.file, SD_JSON_ASCII);
			printf(",\"line\":%" PRIu32 ",\"rule\":", rule.line);
			sd_json_write(stdout, rule.text, SD_JSON_ASCII);
		} else {
			printf("%s{\"edit\":", i ? "," : "");
			sd_json_write(stdout, edge->text, SD_JSON_ASCII);
		}
		printf(",\"holes\":");
		sd_json_write(stdout, edge->holes, SD_JSON_ASCII);
		printf(",\"from\":");
		sd_json_write(stdout, e->name[edge->from].text, SD_JSON_ASCII);
		printf(",\"to\":");
		if (edge->to == NONE)
			printf("null");
		else
			sd_json_write(stdout, e->name[edge->to].text, SD_JSON_ASCII);
		putchar('}');
	}
}

static void print_json(struct explanation *e, const struct row *row)
{
	struct came from = what_came(e, row);
	const struct sd_target *t = made_by(e, row);

	putchar('{');
	print_json_tensor("source", from.name, from.dtype, from.shape, from.rank);
	printf(",\"part\":");
	print_json_text(e, row, write_source_part);
	printf("},");
	if (t) {
		print_json_tensor("target", t->name, t->dtype, t->shape, t->rank);
		printf(",\"part\":");
		print_json_text(e, row, write_part);
		putchar('}');
	} else if (row->name != NONE) {
		printf("\"target\":{\"name\":");
		sd_json_write(stdout, e->name[row->name].text, SD_JSON_ASCII);
		putchar('}');
	} else {
		printf("\"target\":null");
	}
	printf(",\"steps\":");
	print_json_text(e, row, write_steps);
	printf(",\"rules\":[");
	print_json_way(e, row);
	puts("]}");
}

/* ---- for people ---- */

/* The text that a writer makes, in the arena. */
static const char *text_of(struct explanation *e, struct sd_memstream *stream)
{
	const char *kept = NULL;
	char *text = NULL;
	size_t length;

	if (stream && sd_memstream_close(stream, &text, &length))
		kept = keep(e, text);
	e->failed = e->failed || !kept;
	free(text);
	return kept ? kept : "";
}

/* What rows have in common that are one line, cells with tabs between them. */
static const char *make_kind(struct explanation *e, const struct row *row, bool inwards)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	struct came from = what_came(e, row);
	const struct sd_target *t = made_by(e, row);
	unsigned numbered = 0;

	if (!stream)
		return text_of(e, NULL);
	write_parts(out, e, row, &numbered);
	fprintf(out, "\t%s ", sd_dtype_name(from.dtype));
	sd_shape_print(out, from.shape, from.rank);
	fputc('\t', out);
	write_steps(out, e, row);
	fprintf(out, "\t%u\t", numbered);
	if (!inwards) {
		write_rules(out, e, row);
		fprintf(out, "\t%s ", t ? sd_dtype_name(t->dtype) : "");
		if (t)
			sd_shape_print(out, t->shape, t->rank);
	}
	return text_of(e, stream);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names in folded lines, each behind a beginning and in front of an end, and how many they are; twice the same is once.
 */
static void print_folded(struct explanation *e, const char **names, size_t n, bool counts, const char *before,
			 const char *behind)
{
	struct sd_fold fold = {0};
	struct sd_names seen = {0};
	struct sd_error err;
	size_t kept = 0;

	for (size_t i = 0; i < n && !e->failed; i++) {
		uint32_t number = sd_names_add(&seen, names[i], (uint32_t)kept);

		e->failed = e->failed || number == SD_NO_NAME;
		if (number == kept)
			names[kept++] = names[i];
	}
	if (e->failed || sd_fold(names, NULL, kept, &fold, &err) != SD_OK)
		e->failed = true;
	for (size_t i = 0; i < fold.nlines && !e->failed; i++) {
		if (counts)
			printf("%7" PRIu32, fold.lines[i].count);
		fputs(before, stdout);
		for (size_t k = 0; k < fold.lines[i].npieces; k++)
			sd_look_print_piece(stdout, &e->opt->look, &fold.lines[i].pieces[k], SD_INK_NONE);
		fputs(behind, stdout);
		putchar('\n');
	}
	sd_fold_free(&fold);
	sd_names_free(&seen);
}

/* What one hole holds in several rows. */
struct held {
	const char *name;
	size_t length;
	const char **values;
	size_t n, room;
};

#define HELD_MAX 16
#define HELD_SHOWN 4

static void hold(struct explanation *e, struct held *held, size_t *nheld, const char *holes)
{
	while (*holes && !e->failed) {
		const char *equals = strchr(holes, '='), *end = strstr(holes, ", ");
		size_t at = 0, length = equals ? (size_t)(equals - holes) : 0;
		struct held *h;

		if (!equals)
			return;
		if (!end || end < equals)
			end = holes + strlen(holes);
		while (at < *nheld && !(held[at].length == length && memcmp(held[at].name, holes, length) == 0))
			at++;
		if (at == HELD_MAX)
			return;
		h = &held[at];
		if (at == *nheld) {
			*h = (struct held){.name = holes, .length = length};
			++*nheld;
		}
		if (!sd_array_grow(&h->values, h->n, &h->room, sizeof(*h->values)))
			e->failed = true;
		else
			h->values[h->n] = sd_arena_text(&e->arena, equals + 1, (size_t)(end - equals - 1));
		e->failed = e->failed || !h->values[h->n];
		h->n += !e->failed;
		holes = *end ? end + 2 : end;
	}
}

static int by_number(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

/* "E={0..7}": where all are numbers. */
static bool print_numbers(struct explanation *e, const struct held *h, size_t n)
{
	uint32_t *numbers = calloc(n + 1, sizeof(*numbers));
	const char *text;
	bool all = numbers != NULL;

	e->failed = e->failed || !numbers;
	for (size_t i = 0; i < n && all; i++) {
		uint64_t value;

		all = *h->values[i] && strspn(h->values[i], "0123456789") == strlen(h->values[i]) &&
		      sd_text_number(h->values[i], &value) && value < SD_FOLD_NUMBER_MAX;
		if (all)
			numbers[i] = (uint32_t)value;
	}
	if (all) {
		size_t kept = 0;

		qsort(numbers, n, sizeof(*numbers), by_number);
		for (size_t i = 0; i < n; i++)
			if (!i || numbers[i] != numbers[kept - 1])
				numbers[kept++] = numbers[i];
		text = sd_fold_numbers(&e->arena, numbers, kept);
		e->failed = e->failed || !text;
		printf(" %.*s=%s", (int)h->length, h->name, text ? text : "");
	}
	free(numbers);
	return all;
}

static void print_held(struct explanation *e, struct held *h)
{
	size_t n = 0;

	qsort(h->values, h->n, sizeof(*h->values), by_text);
	for (size_t i = 0; i < h->n; i++)
		if (!i || strcmp(h->values[i], h->values[n - 1]) != 0)
			h->values[n++] = h->values[i];
	if (print_numbers(e, h, n))
		return;
	printf(" %.*s=", (int)h->length, h->name);
	for (size_t i = 0; i < n && i < HELD_SHOWN; i++) {
		fputs(i ? "|" : "", stdout);
		sd_text_print(stdout, h->values[i]);
	}
	fputs(n > HELD_SHOWN ? "|..." : "", stdout);
}

/* What all rows that take a rule hold in its holes. */
static void print_holes(struct explanation *e, const struct row *const *rows, size_t n, const struct edge *edge)
{
	struct held held[HELD_MAX];
	size_t nheld = 0;

	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < rows[i]->length; k++) {
			const struct edge *other = &e->edges[rows[i]->way[k]];

			if (other->rule == edge->rule && other->step == edge->step)
				hold(e, held, &nheld, other->holes);
		}
	if (nheld)
		printf("                   where");
	for (size_t i = 0; i < nheld; i++) {
		print_held(e, &held[i]);
		free(held[i].values);
	}
	if (nheld)
		putchar('\n');
}

static int by_step(const void *a, const void *b)
{
	const struct edge *left = *(const struct edge *const *)a, *right = *(const struct edge *const *)b;

	if (left->step != right->step)
		return left->step < right->step ? -1 : 1;
	if (left->rule != right->rule)
		return left->rule < right->rule ? -1 : 1;
	return left < right ? -1 : left > right;
}

static void print_rule(struct explanation *e, const struct edge *edge)
{
	struct sd_map_rule rule;

	if (!e->map || !sd_map_rule(e->map, edge->rule, &rule)) {
		printf("  %-10s ", "by hand");
		sd_text_print(stdout, edge->text);
		putchar('\n');
		return;
	}
	printf("  %-10s ", rule.stage);
	sd_text_print(stdout, rule.file);
	printf(":%u  ", rule.line);
	sd_map_write_rule(e->map, edge->rule, stdout);
	putchar('\n');
}

/* The rules of rows, each once, in the order in which tensors go through them. */
static void print_ways(struct explanation *e, const struct row *const *rows, size_t n)
{
	const struct edge **edges;
	size_t count = 0, at = 0;

	for (size_t i = 0; i < n; i++)
		count += rows[i]->length;
	edges = calloc(count + 1, sizeof(struct edge *));
	if (!edges) {
		e->failed = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < rows[i]->length; k++)
			edges[at++] = &e->edges[rows[i]->way[k]];
	qsort(edges, count, sizeof(struct edge *), by_step);
	for (size_t i = 0; i < count && !e->failed; i++) {
		if (i && edges[i]->step == edges[i - 1]->step && edges[i]->rule == edges[i - 1]->rule)
			continue;
		print_rule(e, edges[i]);
		print_holes(e, rows, n, edges[i]);
	}
	if (!count)
		puts("  no rule takes it");
	free(edges);
}

static int by_kind(const void *a, const void *b)
{
	const struct row *left = *(const struct row *const *)a, *right = *(const struct row *const *)b;
	int order = strcmp(left->kind, right->kind);

	if (order)
		return order;
	return left < right ? -1 : left > right;
}

/* The cell of a kind. */
static const char *cell(const char *kind, int number, size_t *length)
{
	for (; number; number--)
		kind += strcspn(kind, "\t") + 1;
	*length = strcspn(kind, "\t");
	return kind;
}

static int widest(const struct row *const *rows, size_t n)
{
	size_t length, most = 0;

	for (size_t i = 0; i < n; i++) {
		cell(rows[i]->kind, 0, &length);
		length = rows[i]->source == NONE && length < strlen("missing") ? strlen("missing") : length;
		most = length > most ? length : most;
	}
	return (int)most;
}

/* The sources of one tensor, those that are alike in one line. */
static void print_sources(struct explanation *e, const struct row **rows, size_t n)
{
	const char **names = calloc(n + 1, sizeof(*names));
	int width = widest(rows, n);

	e->failed = e->failed || !names;
	qsort(rows, n, sizeof(struct row *), by_kind);
	for (size_t i = 0, k; i < n && !e->failed; i = k) {
		char before[160], behind[200];
		size_t part, shape, steps;
		const char *p = cell(rows[i]->kind, 0, &part), *s = cell(rows[i]->kind, 1, &shape),
			   *d = cell(rows[i]->kind, 2, &steps);
		bool missing = steps == strlen("missing") && memcmp(d, "missing", steps) == 0;

		for (k = i; k < n && strcmp(rows[k]->kind, rows[i]->kind) == 0; k++)
			names[k - i] = key_of(e, rows[k]);
		snprintf(before, sizeof(before), width || missing ? "  %-*.*s  " : "  ", width, missing ? 7 : (int)part,
			 missing ? "missing" : p);
		snprintf(behind, sizeof(behind), "  %.*s%s%.*s", (int)shape, s, steps > 1 && !missing ? "  " : "",
			 steps > 1 && !missing ? (int)steps : 0, d);
		print_folded(e, names, k - i, false, before, behind);
	}
	free(names);
}

static bool any_numbered(const struct row *const *rows, size_t n)
{
	size_t length;

	for (size_t i = 0; i < n; i++)
		if (*cell(rows[i]->kind, 3, &length) != '0')
			return true;
	return false;
}

static void print_made(struct explanation *e, uint32_t name)
{
	const struct sd_manifest *out = e->plan->manifest;
	const struct sd_target *t = e->name[name].target == NONE ? NULL : &out->targets[e->name[name].target];

	sd_ink(stdout, &e->opt->look, SD_INK_HEADING);
	sd_text_print(stdout, e->name[name].text);
	sd_ink(stdout, &e->opt->look, SD_INK_NONE);
	if (t) {
		printf("  %s ", sd_dtype_name(t->dtype));
		sd_shape_print(stdout, t->shape, t->rank);
		for (uint32_t k = 0; k < out->nlabels; k++)
			if (t->labels & (UINT32_C(1) << k)) {
				printf("  ");
				sd_text_print(stdout, out->labels[k]);
			}
	} else {
		printf("  does not come out");
	}
	putchar('\n');
}

/* A tensor that comes out: all its sources. */
static void print_target(struct explanation *e, const struct row **rows, size_t n)
{
	size_t missing = 0;

	print_made(e, rows[0]->name);
	for (size_t i = 0; i < n; i++) {
		missing += rows[i]->source == NONE;
		((struct row *)rows[i])->kind = make_kind(e, rows[i], true);
	}
	if (missing)
		printf("  %zu of ", n - missing);
	else
		printf("  ");
	printf("%zu source%s%s\n", n, n == 1 ? "" : "s", any_numbered(rows, n) ? "; N is the number in the name" : "");
	print_sources(e, rows, n);
	print_ways(e, rows, n);
}

/* Tensors that come in, and what becomes of them, those that are alike at once. */
static void print_alike(struct explanation *e, const struct row **rows, size_t n)
{
	const char **names = calloc(n + 1, sizeof(*names));
	char behind[200];
	size_t part, shape, steps, made;
	const char *p = cell(rows[0]->kind, 0, &part), *s = cell(rows[0]->kind, 1, &shape),
		   *d = cell(rows[0]->kind, 2, &steps), *m = cell(rows[0]->kind, 5, &made);

	if (!names) {
		e->failed = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		names[i] = key_of(e, rows[i]);
	snprintf(behind, sizeof(behind), "  %.*s", (int)shape, s);
	print_folded(e, names, n, false, "", behind);
	for (size_t i = 0; i < n && rows[0]->name != NONE; i++)
		names[i] = e->name[rows[i]->name].text;
	snprintf(behind, sizeof(behind), "  %.*s  %.*s  %.*s", (int)made, m, (int)part, p, steps > 1 ? (int)steps : 0,
		 d);
	for (size_t end = strlen(behind); end && behind[end - 1] == ' ';)
		behind[--end] = '\0';
	if (rows[0]->name == NONE)
		puts("=> dropped");
	else
		print_folded(e, names, n, false, "=> ", behind);
	print_ways(e, rows, n);
	free(names);
}

static int by_name(const void *a, const void *b)
{
	const struct row *left = *(const struct row *const *)a, *right = *(const struct row *const *)b;

	if (left->name != right->name)
		return left->name < right->name ? -1 : 1;
	return left < right ? -1 : left > right;
}

static bool came_in(const struct explanation *e, const struct row *row)
{
	uint32_t name = sd_names_find(&e->names, key_of(e, row));

	return name != SD_NO_NAME && e->name[name].asked == YES && row->source != NONE;
}

/* Puts the rows of tensors that came in behind those that are asked for by what comes out. */
static size_t split_rows(struct explanation *e, const struct row **rows)
{
	size_t n = 0, end = e->nrows;

	for (size_t i = 0; i < e->nrows; i++)
		if (!came_in(e, &e->rows[i]))
			rows[n++] = &e->rows[i];
	for (size_t i = e->nrows; i-- > 0;)
		if (came_in(e, &e->rows[i]))
			rows[--end] = &e->rows[i];
	return n;
}

static void print_for_people(struct explanation *e)
{
	const struct row **rows = calloc(e->nrows + 1, sizeof(struct row *));
	size_t n, k;

	if (!rows) {
		e->failed = true;
		return;
	}
	n = split_rows(e, rows);
	for (size_t i = n; i < e->nrows; i++)
		((struct row *)rows[i])->kind = make_kind(e, rows[i], false);
	qsort(rows, n, sizeof(struct row *), by_name);
	qsort(rows + n, e->nrows - n, sizeof(struct row *), by_kind);
	for (size_t i = 0; i < n && !e->failed; i = k) {
		for (k = i; k < n && rows[k]->name == rows[i]->name; k++)
			;
		print_target(e, rows + i, k - i);
	}
	for (size_t i = n; i < e->nrows && !e->failed; i = k) {
		for (k = i; k < e->nrows && strcmp(rows[k]->kind, rows[i]->kind) == 0; k++)
			;
		print_alike(e, rows + i, k - i);
	}
	free(rows);
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
		printf("%7zu  %-10s  %-*s  ", taken, rule->stage, width, place);
		sd_map_write_rule(e->map, number, stdout);
	} else if (e->opt->json) {
		printf("{\"taken\":%zu,\"stage\":", taken);
		sd_json_write(stdout, rule->stage, SD_JSON_ASCII);
		printf(",\"file\":");
		sd_json_write(stdout, rule->file, SD_JSON_ASCII);
		printf(",\"line\":%" PRIu32 ",\"rule\":", rule->line);
		sd_json_write(stdout, rule->text, SD_JSON_ASCII);
		putchar('}');
	} else {
		printf("%zu\t", taken);
		sd_text_print(stdout, rule->stage);
		putchar('\t');
		sd_text_print(stdout, rule->file);
		printf(":%u\t", rule->line);
		sd_text_print(stdout, rule->text);
	}
	putchar('\n');
}

static void print_untaken(struct explanation *e, const char **names, size_t n)
{
	if (e->opt->look.human) {
		print_folded(e, names, n, true, "  no rule     ", "");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (e->opt->json) {
			printf("{\"no_rule\":");
			sd_json_write(stdout, names[i], SD_JSON_ASCII);
			putchar('}');
		} else {
			printf("1\tno rule\t-\t");
			sd_text_print(stdout, names[i]);
		}
		putchar('\n');
	}
}

/* The names that reach the map: as edits in front of it leave them. */
static void print_rules(struct explanation *e, int to, const struct sd_manifest *in)
{
	const char **names = calloc(in->ntargets + 1, sizeof(*names));
	struct sd_map_rule rule;
	int width = width_of_places(e, to);
	size_t n = 0;

	if (!names) {
		e->failed = true;
		return;
	}
	for (uint32_t i = 0; e->map && sd_map_rule(e->map, i, &rule); i++)
		if (rule.ways[to])
			print_count(e, i, &rule, width);
	for (size_t i = 0; i < in->ntargets && e->map; i++) {
		uint32_t name = sd_names_find(&e->names, in->targets[i].name);

		if (name == SD_NO_NAME || !e->name[name].taken)
			names[n++] = in->targets[i].name;
	}
	print_untaken(e, names, n);
	free(names);
}

enum sd_result explain_print(struct explanation *e, const struct sd_map *map, int to, const struct sd_manifest *before,
			     const struct sd_plan *plan, struct sd_error *err)
{
	e->map = map;
	e->plan = plan;
	if (!e->opt->nkeys) {
		print_rules(e, to, before);
		return e->failed ? sd_fail_memory(err) : SD_OK;
	}
	if (compile_keys(e, err) != SD_OK)
		return err->result;
	find_rows(e);
	if (e->opt->look.human && !e->failed)
		print_for_people(e);
	for (size_t i = 0; i < e->nrows && !e->opt->look.human && !e->failed; i++)
		if (e->opt->json)
			print_json(e, &e->rows[i]);
		else
			print_tsv(e, &e->rows[i]);
	if (e->failed)
		return sd_fail_memory(err);
	for (size_t i = 0; i < e->opt->nkeys; i++)
		if (!e->used[i])
			return fail_unknown(e, i, err);
	return SD_OK;
}
