/* SPDX-License-Identifier: Apache-2.0 */
/* --explain for people: what is alike in one view. */
#include "tools/explanation.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The text that a writer makes, in the arena. */
static const char *text_of(struct explanation *e, struct sd_memstream *stream)
{
	const char *kept = NULL;
	char *text = NULL;
	size_t length;

	if (stream && sd_memstream_close(stream, &text, &length))
		kept = explain_keep(e, text);
	e->failed = e->failed || !kept;
	free(text);
	return kept ? kept : "";
}

/* What rows have in common that are one line, cells with tabs between them. */
static const char *make_kind(struct explanation *e, const struct row *row, bool inwards)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	struct came from = explain_what_came(e, row);
	const struct sd_target *t = explain_made_by(e, row);
	unsigned numbered = 0;

	if (!stream)
		return text_of(e, NULL);
	explain_write_parts(out, e, row, &numbered);
	fprintf(out, "\t%s ", sd_dtype_name(from.dtype));
	sd_shape_print(out, from.shape, from.rank);
	fputc('\t', out);
	explain_write_steps(out, e, row);
	fprintf(out, "\t%u\t", numbered);
	if (!inwards) {
		explain_write_rules(out, e, row);
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

void explain_print_folded(struct explanation *e, const char **names, size_t n, bool counts, const char *before,
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
			fprintf(e->out, "%7" PRIu32, fold.lines[i].count);
		fputs(before, e->out);
		for (size_t k = 0; k < fold.lines[i].npieces; k++)
			sd_look_print_piece(e->out, &e->opt->look, &fold.lines[i].pieces[k], SD_INK_NONE);
		fputs(behind, e->out);
		fputc('\n', e->out);
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
		fprintf(e->out, " %.*s=%s", (int)h->length, h->name, text ? text : "");
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
	fprintf(e->out, " %.*s=", (int)h->length, h->name);
	for (size_t i = 0; i < n && i < HELD_SHOWN; i++) {
		fputs(i ? "|" : "", e->out);
		sd_text_print(e->out, h->values[i]);
	}
	fputs(n > HELD_SHOWN ? "|..." : "", e->out);
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
		fprintf(e->out, "                   where");
	for (size_t i = 0; i < nheld; i++) {
		print_held(e, &held[i]);
		free(held[i].values);
	}
	if (nheld)
		fputc('\n', e->out);
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
		fprintf(e->out, "  %-10s ", "by hand");
		sd_text_print(e->out, edge->text);
		fputc('\n', e->out);
		return;
	}
	fprintf(e->out, "  %-10s ", rule.stage);
	sd_text_print(e->out, rule.file);
	fprintf(e->out, ":%u  ", rule.line);
	sd_map_write_rule(e->map, edge->rule, e->out);
	fputc('\n', e->out);
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
		fputs("  no rule takes it\n", e->out);
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
			names[k - i] = explain_key_of(e, rows[k]);
		snprintf(before, sizeof(before), width || missing ? "  %-*.*s  " : "  ", width, missing ? 7 : (int)part,
			 missing ? "missing" : p);
		snprintf(behind, sizeof(behind), "  %.*s%s%.*s", (int)shape, s, steps > 1 && !missing ? "  " : "",
			 steps > 1 && !missing ? (int)steps : 0, d);
		explain_print_folded(e, names, k - i, false, before, behind);
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

	sd_ink(e->out, &e->opt->look, SD_INK_HEADING);
	sd_text_print(e->out, e->name[name].text);
	sd_ink(e->out, &e->opt->look, SD_INK_NONE);
	if (t) {
		fprintf(e->out, "  %s ", sd_dtype_name(t->dtype));
		sd_shape_print(e->out, t->shape, t->rank);
		for (uint32_t k = 0; k < out->nlabels; k++)
			if (t->labels & (UINT32_C(1) << k)) {
				fprintf(e->out, "  ");
				sd_text_print(e->out, out->labels[k]);
			}
	} else {
		fprintf(e->out, "  does not come out");
	}
	fputc('\n', e->out);
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
		fprintf(e->out, "  %zu of ", n - missing);
	else
		fprintf(e->out, "  ");
	fprintf(e->out, "%zu source%s%s\n", n, n == 1 ? "" : "s",
		any_numbered(rows, n) ? "; N is the number in the name" : "");
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
		names[i] = explain_key_of(e, rows[i]);
	snprintf(behind, sizeof(behind), "  %.*s", (int)shape, s);
	explain_print_folded(e, names, n, false, "", behind);
	for (size_t i = 0; i < n && rows[0]->name != NONE; i++)
		names[i] = e->name[rows[i]->name].text;
	snprintf(behind, sizeof(behind), "  %.*s  %.*s  %.*s", (int)made, m, (int)part, p, steps > 1 ? (int)steps : 0,
		 d);
	for (size_t end = strlen(behind); end && behind[end - 1] == ' ';)
		behind[--end] = '\0';
	if (rows[0]->name == NONE)
		fputs("=> dropped\n", e->out);
	else
		explain_print_folded(e, names, n, false, "=> ", behind);
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
	uint32_t name = sd_names_find(&e->names, explain_key_of(e, row));

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

void explain_print_for_people(struct explanation *e)
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
