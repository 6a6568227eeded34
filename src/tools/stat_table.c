/* SPDX-License-Identifier: Apache-2.0 */
/* sd-stat: statistics as a table, for people. */
#include "base/memstream.h"
#include "base/names.h"
#include "tools/stat.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 5 /* behind the name: how many, mean, std, min, max */
#define GAP 2
#define CELL 24

static const char *const titles[COLUMNS] = {"", "mean", "std", "min", "max"};

/* A number in up to 9 columns, with about three digits. */
static void write_number(double number, char cell[CELL])
{
	double size = fabs(number);

	if (isnan(number))
		snprintf(cell, CELL, "-");
	else if (size == 0)
		snprintf(cell, CELL, "0");
	else if (size >= 1e-3 && size < 1)
		snprintf(cell, CELL, "%.4f", number);
	else if (size >= 1 && size < 1e5)
		snprintf(cell, CELL, "%.4g", number);
	else
		snprintf(cell, CELL, "%.1e", number);
}

static void make_cells(const struct stat_group *g, char cells[COLUMNS][CELL])
{
	const struct sd_statistics *s = &g->s;

	cells[0][0] = '\0';
	if (g->tensors > 1)
		snprintf(cells[0], CELL, "x%" PRIu64, g->tensors);
	write_number(sd_statistics_mean(s), cells[1]);
	write_number(sd_statistics_std(s), cells[2]);
	write_number(s->finite ? s->min : (double)NAN, cells[3]);
	write_number(s->finite ? s->max : (double)NAN, cells[4]);
}

/* Of a name that is folded, the number of pieces in its heading: up to the first number that is a part of its own, and
 * has more behind it. 0: it has none. */
static size_t heading_of(const struct stat_group *g)
{
	for (size_t i = 0; g->fold && i + 1 < g->fold->npieces; i++)
		if (g->fold->pieces[i].own && g->fold->pieces[i + 1].length > 1)
			return i + 1;
	return 0;
}

static void write_pieces(FILE *out, const struct sd_look *look, const struct sd_fold_line *fold, size_t from, size_t to,
			 enum sd_ink ink)
{
	for (size_t i = from; i < to; i++) {
		struct sd_fold_piece piece = fold->pieces[i];
		bool dot = i && i == from;

		piece.text += dot;
		piece.length -= dot;
		sd_look_print_piece(out, look, &piece, ink);
	}
}

static void write_name(FILE *out, const struct sd_look *look, const struct stat_group *g)
{
	if (g->fold)
		write_pieces(out, look, g->fold, heading_of(g), g->fold->npieces, SD_INK_NONE);
	else
		fputs(g->name, out);
}

static void write_heading(FILE *out, const struct sd_look *look, const struct stat_group *g)
{
	sd_ink(out, look, SD_INK_HEADING);
	write_pieces(out, look, g->fold, 0, heading_of(g), SD_INK_HEADING);
	fputc('.', out);
	sd_ink(out, look, SD_INK_NONE);
}

/* What a function writes, without colours; NULL: memory is out. */
static char *text_of(void (*write)(FILE *, const struct sd_look *, const struct stat_group *),
		     const struct stat_group *g)
{
	static const struct sd_look plain;
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	char *text = NULL;
	size_t length;

	if (!stream)
		return NULL;
	write(out, &plain, g);
	return sd_memstream_close(stream, &text, &length) ? text : NULL;
}

struct table {
	const struct stat_options *opt;
	size_t name, width[COLUMNS];
};

static size_t right_of(const struct table *t)
{
	size_t right = 0;

	for (size_t k = 0; k < COLUMNS; k++)
		right += t->width[k] ? GAP + t->width[k] : 0;
	return right;
}

static bool measure(struct table *t, const struct stat_groups *groups)
{
	char cells[COLUMNS][CELL];

	for (size_t k = 0; k < COLUMNS; k++)
		t->width[k] = strlen(titles[k]);
	for (size_t i = 0; i < groups->n; i++) {
		char *name = text_of(write_name, &groups->at[i]);
		size_t columns = name ? sd_look_columns(name) + (heading_of(&groups->at[i]) ? 2 : 0) : 0;

		if (!name)
			return false;
		free(name);
		t->name = columns > t->name ? columns : t->name;
		make_cells(&groups->at[i], cells);
		for (size_t k = 0; k < COLUMNS; k++)
			t->width[k] = strlen(cells[k]) > t->width[k] ? strlen(cells[k]) : t->width[k];
	}
	if (t->name + right_of(t) > t->opt->look.width)
		t->name = t->opt->look.width > right_of(t) ? t->opt->look.width - right_of(t) : 0;
	return true;
}

/* at: where the line stands; a name that is too long has it for itself. */
static void print_cells(const struct table *t, size_t at, char cells[COLUMNS][CELL])
{
	if (at > t->name) {
		putchar('\n');
		at = 0;
	}
	sd_look_pad(stdout, t->name - at);
	for (size_t k = 0; k < COLUMNS; k++)
		if (t->width[k])
			printf("%*s", (int)(GAP + t->width[k]), cells[k]);
	putchar('\n');
}

static bool print_row(const struct table *t, const struct stat_group *g)
{
	char cells[COLUMNS][CELL], *name = text_of(write_name, g);
	size_t indent = heading_of(g) ? 2 : 0;

	if (!name)
		return false;
	make_cells(g, cells);
	sd_look_pad(stdout, indent);
	write_name(stdout, &t->opt->look, g);
	print_cells(t, indent + sd_look_columns(name), cells);
	free(name);
	return true;
}

/* By group, the next one under the same heading; UINT32_MAX: none. *first: whether it is the first one there. */
struct headings {
	struct sd_names names;
	struct sd_arena arena;
	uint32_t *next, *last;
	bool *first;
};

static bool find_heading(struct headings *h, const struct stat_group *groups, uint32_t i)
{
	char *heading = text_of(write_heading, &groups[i]);
	const char *kept = heading ? sd_arena_text(&h->arena, heading, strlen(heading)) : NULL;
	uint32_t number = kept ? sd_names_add(&h->names, kept, i) : SD_NO_NAME;

	free(heading);
	if (number == SD_NO_NAME)
		return false;
	h->first[i] = number == i;
	if (number != i)
		h->next[h->last[number]] = i;
	h->last[number] = i;
	return true;
}

static bool find_headings(struct headings *h, const struct stat_groups *groups)
{
	bool memory;

	h->next = malloc((groups->n + 1) * sizeof(*h->next));
	h->last = malloc((groups->n + 1) * sizeof(*h->last));
	h->first = malloc((groups->n + 1) * sizeof(*h->first));
	memory = h->next && h->last && h->first;
	for (uint32_t i = 0; i < groups->n && memory; i++) {
		h->next[i] = UINT32_MAX;
		h->first[i] = true;
		if (heading_of(&groups->at[i]))
			memory = find_heading(h, groups->at, i);
	}
	return memory;
}

static void free_headings(struct headings *h)
{
	sd_names_free(&h->names);
	sd_arena_free(&h->arena);
	free(h->next);
	free(h->last);
	free(h->first);
}

static bool print_rows(const struct table *t, const struct headings *h, const struct stat_groups *groups)
{
	for (uint32_t i = 0; i < groups->n; i++) {
		if (!h->first[i])
			continue;
		if (heading_of(&groups->at[i])) {
			write_heading(stdout, &t->opt->look, &groups->at[i]);
			putchar('\n');
		}
		for (uint32_t k = i; k != UINT32_MAX; k = h->next[k])
			if (!print_row(t, &groups->at[k]))
				return false;
	}
	return true;
}

enum sd_result stat_print_table(const struct stat_options *opt, const struct stat_groups *groups, struct sd_error *err)
{
	struct table t = {.opt = opt};
	struct headings headings = {0};
	char cells[COLUMNS][CELL];
	bool memory = find_headings(&headings, groups) && measure(&t, groups);

	for (size_t k = 0; k < COLUMNS; k++)
		snprintf(cells[k], CELL, "%s", titles[k]);
	if (memory && groups->n)
		print_cells(&t, 0, cells);
	if (memory)
		memory = print_rows(&t, &headings, groups);
	free_headings(&headings);
	return memory ? SD_OK : sd_fail_memory(err);
}
