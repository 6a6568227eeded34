/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls for programs: a line a tensor, TSV or JSON. */
#include "base/json.h"
#include "base/memstream.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/ls.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint64_t count_of(const struct ls_item *i)
{
	return i->fold ? i->fold->count : 1;
}

/* The words of a list with commas as an array of JSON. */
static void print_array(const char *words)
{
	for (const char *open = "["; *words; open = ",") {
		size_t length = strcspn(words, ",");

		printf("%s\"%.*s\"", open, (int)length, words);
		words += length + (words[length] == ',');
	}
}

/* The labels of a tensor, each written by write, with commas between. */
static size_t write_labels(FILE *out, const struct ls_item *i, void (*write)(FILE *out, const char *label))
{
	const struct sd_manifest *m = i->s->source->manifest;
	size_t n = 0;

	for (uint32_t k = 0; k < m->nlabels; k++) {
		if (!(i->t->labels & (UINT32_C(1) << k)))
			continue;
		if (n++)
			fputc(',', out);
		write(out, m->labels[k]);
	}
	return n;
}

static void write_string(FILE *out, const char *text)
{
	sd_json_write(out, text, SD_JSON_ASCII);
}

/* "3/128": number 3, from 0 on, of 128; of an unknown number "3". */
static bool write_part(FILE *out, const struct sd_listed *t)
{
	if (!t->of)
		return false;
	fprintf(out, "%" PRIu64, t->number);
	if (t->of != SD_OF_UNKNOWN)
		fprintf(out, "/%" PRIu64, t->of);
	return true;
}

static void write_bytes(FILE *out, uint64_t bytes, bool units)
{
	char text[SD_UNITS_TEXT];

	if (units)
		fputs(sd_units_bytes(bytes, text), out);
	else
		sd_text_print_number(out, bytes);
}

/* The cells that not every tensor has. */
static bool write_rare_cell(FILE *out, const struct ls_item *i, enum ls_column column)
{
	const char *file;
	uint64_t offset;

	if (column == LS_COLUMN_STEPS)
		return *i->t->steps && fputs(i->t->steps, out) != EOF;
	if (column == LS_COLUMN_LABEL)
		return write_labels(out, i, sd_text_print);
	if (column == LS_COLUMN_PART)
		return write_part(out, i->t);
	if (!ls_place(i->s, i->t, &file, &offset))
		return false;
	if (column == LS_COLUMN_FILE)
		sd_text_print(out, file);
	else
		fprintf(out, "%" PRIu64, offset);
	return true;
}

void ls_write_cell(FILE *out, const struct ls_item *i, enum ls_column column, bool human)
{
	const struct sd_listed *t = i->t;
	char text[SD_UNITS_TEXT];

	switch (column) {
	case LS_COLUMN_NAME:
		if (i->fold)
			sd_fold_print(out, i->fold);
		else
			sd_text_print(out, t->name);
		return;
	case LS_COLUMN_DTYPE:
		fputs(sd_dtype_name(t->dtype), out);
		return;
	case LS_COLUMN_SHAPE:
		sd_shape_print(out, t->shape, t->rank);
		return;
	case LS_COLUMN_BYTES:
		/* People see the size of one, and how many there are. */
		write_bytes(out, human ? t->bytes : t->bytes * count_of(i), human && !i->opt->exact);
		return;
	case LS_COLUMN_COUNT:
		if (!human)
			fprintf(out, "%" PRIu64, count_of(i));
		else if (count_of(i) > 1)
			fprintf(out, "x%" PRIu64, count_of(i));
		return;
	case LS_COLUMN_PARAMS:
		if (human)
			fputs(sd_units_count(t->elements, text), out);
		else
			fprintf(out, "%" PRIu64, t->elements * count_of(i));
		return;
	case LS_COLUMN_XXH3:
		fprintf(out, "%016" PRIx64, i->s->sums[t - i->s->listing.tensors]);
		return;
	case LS_COLUMN_SOURCE:
		sd_text_print(out, i->s->name);
		return;
	default:
		if (!write_rare_cell(out, i, column) && !human)
			fputc('-', out);
	}
}

/* The pattern as a string: what it escapes is escaped once more. */
static void write_pattern(const struct ls_item *i)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	char *text = NULL;
	size_t length;

	if (stream) {
		sd_fold_print(out, i->fold);
		if (sd_memstream_close(stream, &text, &length))
			write_string(stdout, text);
	}
	*i->failed = *i->failed || !text;
	free(text);
}

/* Whether the cell is a string in JSON. */
static bool is_text(enum ls_column column)
{
	return column == LS_COLUMN_DTYPE || column == LS_COLUMN_PART || column == LS_COLUMN_XXH3;
}

static bool is_there(const struct ls_item *i, enum ls_column column)
{
	const char *file;
	uint64_t offset;

	if (column == LS_COLUMN_PART)
		return i->t->of;
	return (column != LS_COLUMN_FILE && column != LS_COLUMN_OFFSET) || ls_place(i->s, i->t, &file, &offset);
}

static void print_value(const struct ls_item *i, enum ls_column column)
{
	const char *file;
	uint64_t offset;

	if (column == LS_COLUMN_NAME && i->fold) {
		write_pattern(i);
	} else if (column == LS_COLUMN_NAME || column == LS_COLUMN_SOURCE) {
		write_string(stdout, column == LS_COLUMN_NAME ? i->t->name : i->s->name);
	} else if (column == LS_COLUMN_STEPS) {
		print_array(i->t->steps);
		fputs(*i->t->steps ? "]" : "[]", stdout);
	} else if (column == LS_COLUMN_LABEL) {
		putchar('[');
		write_labels(stdout, i, write_string);
		putchar(']');
	} else if (!is_there(i, column)) {
		fputs("null", stdout);
	} else if (column == LS_COLUMN_FILE) {
		if (ls_place(i->s, i->t, &file, &offset))
			write_string(stdout, file);
	} else {
		fputs(is_text(column) ? "\"" : "", stdout);
		ls_write_cell(stdout, i, column, false);
		fputs(is_text(column) ? "\"" : "", stdout);
	}
}

static void print_item(const struct ls_item *i)
{
	for (size_t k = 0; k < i->opt->ncolumns; k++) {
		enum ls_column column = i->opt->columns[k];

		if (i->opt->form.json)
			printf("%s\"%s\":", k ? "," : "{", ls_column_name(column));
		else if (k)
			putchar('\t');
		if (i->opt->form.json)
			print_value(i, column);
		else
			ls_write_cell(stdout, i, column, false);
	}
	puts(i->opt->form.json ? "}" : "");
}

enum sd_result ls_print_lines(const struct ls_options *opt, const struct ls_source *s, struct sd_error *err)
{
	struct sd_fold fold = {0};
	bool failed = false;
	enum sd_result result = opt->fold ? ls_fold(opt, s, &fold, err) : SD_OK;

	for (size_t i = 0; i < s->nshown && !opt->fold; i++)
		print_item(&(struct ls_item){opt, s, &s->listing.tensors[s->shown[i]], NULL, &failed});
	for (size_t i = 0; i < fold.nlines && result == SD_OK; i++) {
		const struct sd_listed *t = &s->listing.tensors[s->shown[fold.lines[i].first]];

		print_item(&(struct ls_item){opt, s, t, &fold.lines[i], &failed});
	}
	sd_fold_free(&fold);
	return failed ? sd_fail_memory(err) : result;
}
