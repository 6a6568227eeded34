/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls for people: a table, in which the tensors of the same layers stand under one heading. */
#include "base/memstream.h"
#include "base/names.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/ls.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define INDENT 2
#define GAP 2

/* Names get no less beside the other columns. */
#define NAME_LEAST 16

#define NO_ROW UINT32_MAX

/* A line of the table. */
struct row {
	struct ls_item item;
	size_t from;      /* the first piece that is not in the heading */
	uint32_t next;    /* the next row under the same heading, or NO_ROW */
	const char *text; /* its heading or nothing, and its cells, a NUL behind each */
};

/* A heading, and the rows under it; or one row without a heading. */
struct group {
	uint32_t first, last; /* rows */
	uint64_t bytes;
};

struct table {
	const struct ls_options *opt;
	const struct ls_source *s;
	struct row *rows;
	size_t nrows;
	struct group *groups;
	size_t ngroups, groups_room;
	char *text;
	size_t width[LS_COLUMNS]; /* of each column; 0: it has nothing in it, and is left out */
	bool narrow;              /* there is no room for columns: names stand alone, and the rest below */
};

/* ---- names ---- */

/* What is not in the heading. */
static void write_name(FILE *out, const struct sd_look *look, const struct row *row)
{
	if (row->item.fold)
		sd_look_print_rest(out, look, row->item.fold, row->from);
	else
		sd_text_print(out, row->item.t->name);
}

/* ---- making ---- */

static struct row new_row(const struct table *t, const struct sd_fold_line *fold, size_t shown, bool *failed)
{
	struct row row = {.item = {t->opt, t->s, &t->s->listing.tensors[t->s->shown[shown]], fold, failed},
			  .next = NO_ROW};

	row.from = fold ? sd_look_heading(fold) : 0;
	return row;
}

static void write_cells(FILE *out, const struct table *t)
{
	static const struct sd_look plain;

	for (size_t i = 0; i < t->nrows; i++) {
		const struct row *row = &t->rows[i];

		if (row->from)
			sd_look_print_heading(out, &plain, row->item.fold, row->from);
		fputc('\0', out);
		for (size_t k = 0; k < t->opt->ncolumns; k++) {
			if (t->opt->columns[k] == LS_COLUMN_NAME)
				write_name(out, &plain, row);
			else
				ls_write_cell(out, &row->item, t->opt->columns[k], true);
			fputc('\0', out);
		}
	}
}

/* Writes all texts, and says where they are: first of each row its heading, and then its cells. */
static bool make_text(struct table *t)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	const char *at;
	size_t length;

	if (!stream)
		return false;
	write_cells(out, t);
	if (!sd_memstream_close(stream, &t->text, &length))
		return false;
	at = t->text;
	for (size_t i = 0; i < t->nrows; i++) {
		t->rows[i].text = at;
		for (size_t k = 0; k <= t->opt->ncolumns; k++)
			at += strlen(at) + 1;
	}
	return true;
}

/* Adds a row to those under its heading; one without a heading stands for itself. */
static bool add_to_group(struct table *t, struct sd_names *headings, uint32_t number)
{
	struct row *row = &t->rows[number];
	uint32_t group = row->from ? sd_names_add(headings, row->text, (uint32_t)t->ngroups) : (uint32_t)t->ngroups;

	if (group == SD_NO_NAME)
		return false;
	if (group == t->ngroups) {
		if (!sd_array_grow(&t->groups, t->ngroups, &t->groups_room, sizeof(*t->groups)))
			return false;
		t->groups[t->ngroups++] = (struct group){.first = number, .last = number};
	} else {
		t->rows[t->groups[group].last].next = number;
		t->groups[group].last = number;
	}
	t->groups[group].bytes += row->item.t->bytes * (row->item.fold ? row->item.fold->count : 1);
	return true;
}

static bool make_groups(struct table *t)
{
	struct sd_names headings = {0};
	bool memory = true;

	for (size_t i = 0; i < t->nrows && memory; i++)
		memory = add_to_group(t, &headings, (uint32_t)i);
	sd_names_free(&headings);
	return memory;
}

static size_t indent_of(const struct row *row)
{
	return row->from ? INDENT : 0;
}

static const char *size_text(const struct table *t, uint64_t bytes, char text[SD_UNITS_TEXT])
{
	if (!t->opt->exact)
		return sd_units_bytes(bytes, text);
	snprintf(text, SD_UNITS_TEXT, "%" PRIu64, bytes);
	return text;
}

static void widen(size_t *width, size_t to)
{
	*width = to > *width ? to : *width;
}

/* The name gets what the other columns leave; a longer one has a line of its own. */
static void measure(struct table *t)
{
	char text[SD_UNITS_TEXT];
	size_t right = 0;

	for (size_t i = 0; i < t->nrows; i++) {
		const char *cell = t->rows[i].text;

		for (size_t k = 0; k < t->opt->ncolumns; k++) {
			cell += strlen(cell) + 1;
			widen(&t->width[k], sd_look_columns(cell) + (k ? 0 : indent_of(&t->rows[i])));
		}
	}
	for (size_t k = 1; k < t->opt->ncolumns; k++) {
		for (size_t i = 0; i < t->ngroups && t->opt->columns[k] == LS_COLUMN_BYTES; i++)
			widen(&t->width[k], strlen(size_text(t, t->groups[i].bytes, text)));
		right += t->width[k] ? GAP + t->width[k] : 0;
	}
	t->narrow = right + NAME_LEAST > t->opt->look.width;
	if (!t->narrow && t->width[0] + right > t->opt->look.width)
		t->width[0] = t->opt->look.width - right;
}

/* ---- printing ---- */

static bool is_number(enum ls_column column)
{
	return column == LS_COLUMN_BYTES || column == LS_COLUMN_COUNT || column == LS_COLUMN_OFFSET ||
	       column == LS_COLUMN_PARAMS;
}

/* Goes on to a column, in a new line where no gap would be left. */
static void go_to(size_t *at, size_t to)
{
	if (*at + GAP > to) {
		putchar('\n');
		*at = 0;
	}
	sd_look_pad(stdout, to - *at);
	*at = to;
}

/* All cells behind the first one, in their columns; at: where the line stands. */
static void print_cells(const struct table *t, const char *cell, size_t at)
{
	size_t begin = t->width[0];

	for (size_t k = 1; k < t->opt->ncolumns; k++) {
		size_t columns;

		cell += strlen(cell) + 1;
		columns = sd_look_columns(cell);
		if (!t->width[k])
			continue;
		begin += GAP;
		if (*cell) {
			go_to(&at, begin + (is_number(t->opt->columns[k]) ? t->width[k] - columns : 0));
			fputs(cell, stdout);
			at += columns;
		}
		begin += t->width[k];
	}
	putchar('\n');
}

/* The same where there are no columns: in lines below, a cell that does not fit in one of its own. */
static void print_below(const struct table *t, const char *cell, size_t indent)
{
	size_t width = t->opt->look.width, at = width;

	for (size_t k = 1; k < t->opt->ncolumns; k++) {
		size_t columns;

		cell += strlen(cell) + 1;
		columns = sd_look_columns(cell);
		if (!columns)
			continue;
		if (at + GAP + columns > width) {
			putchar('\n');
			sd_look_pad(stdout, indent);
			at = indent;
		}
		sd_look_pad(stdout, GAP);
		fputs(cell, stdout);
		at += GAP + columns;
	}
	putchar('\n');
}

static void print_row(const struct table *t, const struct row *row)
{
	const char *cell = row->text + strlen(row->text) + 1;

	sd_look_pad(stdout, indent_of(row));
	if (t->opt->columns[0] == LS_COLUMN_NAME)
		write_name(stdout, &t->opt->look, row);
	else
		fputs(cell, stdout);
	if (t->narrow)
		print_below(t, cell, indent_of(row));
	else
		print_cells(t, cell, indent_of(row) + sd_look_columns(cell));
}

static void print_heading(const struct table *t, const struct group *g)
{
	const struct row *row = &t->rows[g->first];
	size_t at = sd_look_columns(row->text), begin = t->width[0];
	char text[SD_UNITS_TEXT];

	sd_look_print_heading(stdout, &t->opt->look, row->item.fold, row->from);
	for (size_t k = 1; !t->narrow && k < t->opt->ncolumns; k++) {
		begin += t->width[k] ? GAP + t->width[k] : 0;
		if (t->opt->columns[k] != LS_COLUMN_BYTES)
			continue;
		size_text(t, g->bytes, text);
		go_to(&at, begin - strlen(text));
		fputs(text, stdout);
		break;
	}
	putchar('\n');
}

static void print_groups(const struct table *t)
{
	for (size_t i = 0; i < t->ngroups; i++) {
		if (t->rows[t->groups[i].first].from)
			print_heading(t, &t->groups[i]);
		for (uint32_t k = t->groups[i].first; k != NO_ROW; k = t->rows[k].next)
			print_row(t, &t->rows[k]);
	}
}

static bool make_rows(struct table *t, const struct sd_fold *fold, bool *failed)
{
	t->nrows = t->opt->fold ? fold->nlines : t->s->nshown;
	t->rows = calloc(t->nrows + 1, sizeof(*t->rows));
	for (size_t i = 0; i < t->nrows && t->rows; i++)
		t->rows[i] = t->opt->fold ? new_row(t, &fold->lines[i], fold->lines[i].first, failed)
					  : new_row(t, NULL, i, failed);
	return t->rows;
}

enum sd_result ls_print_table(const struct ls_options *opt, const struct ls_source *s, struct sd_error *err)
{
	struct table t = {.opt = opt, .s = s};
	struct sd_fold fold = {0};
	bool failed = false;
	enum sd_result result = opt->fold ? ls_fold(opt, s, &fold, err) : SD_OK;

	if (result == SD_OK && !(make_rows(&t, &fold, &failed) && make_text(&t) && make_groups(&t)))
		result = sd_fail_memory(err);
	if (result == SD_OK) {
		measure(&t);
		print_groups(&t);
	}
	sd_fold_free(&fold);
	free(t.rows);
	free(t.groups);
	free(t.text);
	return result;
}

/* ---- the line below ---- */

struct share {
	enum sd_dtype dtype;
	uint64_t bytes;
};

static int by_bytes(const void *a, const void *b)
{
	const struct share *left = a, *right = b;

	if (left->bytes != right->bytes)
		return left->bytes < right->bytes ? 1 : -1;
	return left->dtype < right->dtype ? -1 : left->dtype > right->dtype;
}

/* All dtypes, that of most bytes first. */
static void write_dtypes(FILE *out, const struct ls_source *s)
{
	struct share shares[SD_DTYPES] = {0};
	bool there[SD_DTYPES] = {0};
	size_t n = 0;

	for (size_t i = 0; i < s->nshown; i++) {
		const struct sd_listed *t = &s->listing.tensors[s->shown[i]];

		there[t->dtype] = true;
		shares[t->dtype].bytes += t->bytes;
	}
	for (int i = 0; i < SD_DTYPES; i++)
		if (there[i])
			shares[n++] = (struct share){(enum sd_dtype)i, shares[i].bytes};
	qsort(shares, n, sizeof(*shares), by_bytes);
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s %s", i ? "" : ",", sd_dtype_name(shares[i].dtype));
}

static void write_total(FILE *out, const struct ls_options *opt, const struct ls_source *s)
{
	uint64_t bytes = 0, elements = 0;
	size_t elsewhere = 0, missing = 0;
	char text[SD_UNITS_TEXT];

	for (size_t i = 0; i < s->nshown; i++) {
		const struct sd_listed *t = &s->listing.tensors[s->shown[i]];

		bytes += t->bytes;
		elements += t->elements;
		elsewhere += t->elsewhere && !t->missing;
		missing += t->missing;
	}
	fprintf(out, "%zu ", s->nshown);
	if (s->nshown != s->listing.n)
		fprintf(out, "of %zu ", s->listing.n);
	fprintf(out, "tensor%s, %s parameters", s->listing.n == 1 ? "" : "s", sd_units_count(elements, text));
	write_dtypes(out, s);
	if (opt->exact)
		fprintf(out, ", %" PRIu64 " bytes", bytes);
	else
		fprintf(out, ", %s", sd_units_bytes(bytes, text));
	if (elsewhere == s->nshown && elsewhere)
		fprintf(out, ", all elsewhere");
	else if (elsewhere)
		fprintf(out, ", %zu elsewhere", elsewhere);
	if (missing)
		fprintf(out, ", %zu missing", missing);
	if (s->sums)
		fprintf(out, ", xxh3 %016" PRIx64, s->sum);
}

/* A new line begins where a word would not fit. */
static void print_wrapped(char *text, size_t width)
{
	size_t at = 0;

	for (char *word; (word = strsep(&text, " "));) {
		size_t length = strlen(word);

		if (at && at + 1 + length > width) {
			putchar('\n');
			at = 0;
		}
		at += (size_t)printf("%s%s", at ? " " : "", word);
	}
	putchar('\n');
}

enum sd_result ls_print_total(const struct ls_options *opt, const struct ls_source *s, struct sd_error *err)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	size_t length;
	char *text;

	if (!stream)
		return sd_fail_memory(err);
	write_total(out, opt, s);
	if (!sd_memstream_close(stream, &text, &length))
		return sd_fail_memory(err);
	print_wrapped(text, opt->look.width);
	free(text);
	return SD_OK;
}
