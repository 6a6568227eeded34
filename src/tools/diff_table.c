/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff for people: a table in which what differs alike stands in one line, and those of one layer together. */
#include "base/json.h"
#include "base/memstream.h"
#include "base/names.h"
#include "base/text.h"
#include "tools/diff.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INDENT 2
#define WORD 9    /* columns of a status */
#define NUMBERS 9 /* and of each number */
#define BAR 28
#define BAR_LEAST 4

/* A line: pairs that differ alike. */
struct row {
	const struct sd_fold_line *line;
	const struct diff_pair *first;
	size_t heading; /* pieces of the name that are in it */
	const char *title;
	uint32_t next;          /* the next row under the same heading, or DIFF_NONE */
	struct sd_difference d; /* of all of them */
};

struct table {
	const struct diff *diff;
	const struct diff_pair **shown;
	size_t nshown;
	struct sd_fold fold;
	struct sd_arena arena;
	struct row *rows;
};

/* ---- alike ---- */

static bool begins_word(const char *name, size_t at)
{
	return at == 0 || name[at - 1] == '.';
}

/* What has become of a name: its first part that is not the same, in whole words between dots. */
static void find_change(const char *a, const char *b, const char *part[2], size_t length[2])
{
	size_t front = 0, back = 0, length_a = strlen(a), length_b = strlen(b);

	while (a[front] && a[front] == b[front])
		front++;
	while (back < length_a - front && back < length_b - front && a[length_a - 1 - back] == b[length_b - 1 - back])
		back++;
	while (!begins_word(a, front))
		front--;
	/* As much of the end is the same as begins with a dot, or follows one. */
	while (back && a[length_a - back] != '.' && !begins_word(a, length_a - back))
		back--;
	part[0] = a + front;
	part[1] = b + front;
	length[0] = length_a - back - front;
	length[1] = length_b - back - front;
}

static const char *change_text(struct sd_arena *arena, const char *a, const char *b)
{
	const char *part[2];
	size_t length[2];

	find_change(a, b, part, length);
	return sd_arena_printf(arena, "%.*s -> %.*s", (int)length[0], part[0], (int)length[1], part[1]);
}

static const char *shape_of(const struct sd_listed *t, char text[SD_SHAPE_TEXT])
{
	return t ? sd_shape_brief(t->shape, t->rank, text, SD_SHAPE_TEXT) : "";
}

/* A text that is the same for pairs that may stand in one line. */
static const char *kind_text(struct table *t, const struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(t->diff, p, 0), *b = diff_tensor(t->diff, p, 1);
	char shape[2][SD_SHAPE_TEXT];

	return sd_arena_printf(&t->arena, "%d %d %d %s %s %d %s %s", p->status, a ? a->dtype : 0, b ? b->dtype : 0,
			       shape_of(a, shape[0]), shape_of(b, shape[1]), p->compared, p->note ? p->note : "",
			       a && b && p->status >= DIFF_RENAMED ? change_text(&t->arena, a->name, b->name) : "");
}

/* Numbers for sd_fold; each its own where nothing is to be folded. */
static bool make_kinds(struct table *t, uint32_t *kinds)
{
	struct sd_names names = {0};
	bool memory = true;

	for (size_t i = 0; i < t->nshown && memory; i++) {
		const char *text = t->diff->opt->fold ? kind_text(t, t->shown[i]) : NULL;

		kinds[i] = (uint32_t)i;
		if (!t->diff->opt->fold)
			continue;
		kinds[i] = text ? sd_names_add(&names, text, (uint32_t)i) : SD_NO_NAME;
		memory = kinds[i] != SD_NO_NAME;
	}
	sd_names_free(&names);
	return memory;
}

static enum sd_result fold(struct table *t, struct sd_error *err)
{
	const char **names = malloc((t->nshown + 1) * sizeof(*names));
	uint32_t *kinds = malloc((t->nshown + 1) * sizeof(*kinds));
	enum sd_result result = names && kinds && make_kinds(t, kinds) ? SD_OK : sd_fail_memory(err);

	for (size_t i = 0; i < t->nshown && names; i++)
		names[i] = diff_name(t->diff, t->shown[i]);
	if (result == SD_OK)
		result = sd_fold(names, kinds, t->nshown, &t->fold, err);
	free(names);
	free(kinds);
	return result;
}

/* ---- rows ---- */

static const char *title_of(struct table *t, const struct row *row)
{
	static const struct sd_look plain;
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	char *text = NULL;
	const char *title = NULL;
	size_t length;

	if (!stream)
		return NULL;
	sd_look_print_heading(out, &plain, row->line, row->heading);
	if (sd_memstream_close(stream, &text, &length))
		title = sd_arena_text(&t->arena, text, length);
	free(text);
	return title;
}

/* Appends a row to those under its heading. */
static bool link_row(struct table *t, struct sd_names *titles, uint32_t *last, uint32_t number)
{
	uint32_t first;

	t->rows[number].next = DIFF_NONE;
	last[number] = number;
	if (!t->rows[number].heading)
		return true;
	t->rows[number].title = title_of(t, &t->rows[number]);
	first = t->rows[number].title ? sd_names_add(titles, t->rows[number].title, number) : SD_NO_NAME;
	if (first == SD_NO_NAME)
		return false;
	if (first != number) {
		t->rows[last[first]].next = number;
		last[first] = number;
		t->rows[number].title = NULL; /* it is printed with the first one */
	}
	return true;
}

static bool make_rows(struct table *t)
{
	struct sd_names titles = {0};
	uint32_t *last = malloc((t->fold.nlines + 1) * sizeof(*last));
	bool memory = last;

	t->rows = calloc(t->fold.nlines + 1, sizeof(*t->rows));
	for (size_t i = 0; i < t->fold.nlines && memory && t->rows; i++) {
		const struct sd_fold_line *line = &t->fold.lines[i];
		struct row *row = &t->rows[i];

		*row = (struct row){.line = line, .first = t->shown[line->first], .heading = sd_look_heading(line)};
		sd_difference_begin(&row->d);
		for (uint32_t k = line->first; k != UINT32_MAX; k = t->fold.next[k])
			sd_difference_add(&row->d, &t->shown[k]->d);
		memory = link_row(t, &titles, last, (uint32_t)i);
	}
	sd_names_free(&titles);
	free(last);
	return memory && t->rows;
}

/* ---- printing ---- */

static void write_share(FILE *out, const struct sd_difference *d)
{
	char text[64];
	double share = 100.0 * (double)d->differ / (double)d->numbers;

	if (d->differ == d->numbers)
		snprintf(text, sizeof(text), "100%%");
	else if (share < 1 && d->numbers < 1000000)
		snprintf(text, sizeof(text), "%" PRIu64 "/%" PRIu64, d->differ, d->numbers);
	else if (share > 99)
		snprintf(text, sizeof(text), ">99%%");
	else
		snprintf(text, sizeof(text), "%.2g%%", share);
	fprintf(out, "%*s", NUMBERS, text);
}

static void write_number(FILE *out, double number)
{
	char text[32];

	snprintf(text, sizeof(text), isnan(number) ? "nan" : "%.3g", number);
	fprintf(out, "%*s", NUMBERS, text);
}

static void write_tensor(FILE *out, const struct sd_listed *t)
{
	fprintf(out, "%s ", sd_dtype_name((enum sd_dtype)t->dtype));
	sd_shape_print(out, t->shape, t->rank);
}

/* Whether more than a count stands there. */
static bool has_more(const struct row *row)
{
	enum diff_status status = row->first->status;

	return (status != DIFF_SAME && status != DIFF_RENAMED && status != DIFF_PART) ||
	       (row->first->compared && row->d.differ);
}

/* What stands at the right end of a line. */
static void write_right(FILE *out, const struct table *t, const struct row *row)
{
	const struct diff_pair *p = row->first;
	const struct sd_listed *a = diff_tensor(t->diff, p, 0), *b = diff_tensor(t->diff, p, 1);

	if (row->line->count > 1)
		fprintf(out, "x%" PRIu32 "%s", row->line->count, has_more(row) ? " " : "");
	if (p->status == DIFF_SHAPE) {
		sd_shape_print(out, a->shape, a->rank);
		fputc(' ', out);
		sd_shape_print(out, b->shape, b->rank);
	}
	if (p->status == DIFF_DTYPE || (p->status == DIFF_SHAPE && a->dtype != b->dtype))
		fprintf(out, " %s %s", sd_dtype_name((enum sd_dtype)a->dtype), sd_dtype_name((enum sd_dtype)b->dtype));
	if (p->status == DIFF_REMOVED || p->status == DIFF_ADDED)
		write_tensor(out, a ? a : b);
	if (p->compared && row->d.differ) {
		write_share(out, &row->d);
		write_number(out, row->d.max);
		write_number(out, sd_difference_rel(&row->d));
	}
}

static enum sd_ink ink_of(enum diff_status status)
{
	return status == DIFF_REMOVED || status == DIFF_SHAPE ? SD_INK_FAULT
	       : status == DIFF_SAME                          ? SD_INK_NONE
							      : SD_INK_NUMBERS;
}

static bool print_to_memory(const struct table *t, const struct row *row, bool left, char **text)
{
	static const struct sd_look plain;
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	size_t length;

	if (!stream)
		return false;
	if (left)
		sd_look_print_rest(out, &plain, row->line, row->heading);
	else
		write_right(out, t, row);
	return sd_memstream_close(stream, text, &length);
}

/* The other name without what stands in the heading already; rest: what stands behind that of a name. */
static const char *behind_heading(const char *name, const char *rest, const char *other)
{
	size_t length = strlen(name), n = strlen(rest), heading = length > n ? length - n : 0;

	return strcmp(name + heading, rest) == 0 && strncmp(name, other, heading) == 0 ? other + heading : other;
}

/* What more is known of a row, in lines of its own. rest: its name as it stands there. */
static bool print_below(struct table *t, const struct row *row, const char *rest, size_t indent)
{
	const struct diff_pair *p = row->first;
	const struct sd_listed *a = diff_tensor(t->diff, p, 0), *b = diff_tensor(t->diff, p, 1);

	if (p->status == DIFF_RENAMED || p->status == DIFF_PART) {
		const char *change = row->line->count > 1 ? change_text(&t->arena, a->name, b->name) : NULL;

		sd_look_pad(stdout, indent);
		if (row->line->count > 1 && !change)
			return false;
		if (!change)
			fputs("-> ", stdout);
		sd_text_print(stdout, change ? change : behind_heading(a->name, rest, b->name));
		putchar('\n');
	}
	if (p->note) {
		sd_look_pad(stdout, indent);
		sd_text_print(stdout, p->note);
		putchar('\n');
	}
	for (size_t i = 0; i < p->nlist; i++) {
		sd_look_pad(stdout, indent);
		diff_write_index(stdout, a, p->list[i]);
		printf("  A %.6g  B %.6g\n", p->values[i].a, p->values[i].b);
		for (int k = 0; k < 2; k++) {
			FILE *out;
			struct sd_memstream *stream = sd_memstream_open(&out);
			char *text = NULL;
			size_t length;
			bool is = stream && diff_write_origin(out, t->diff, p, k, p->list[i]);

			if (!stream || !sd_memstream_close(stream, &text, &length))
				return false;
			if (is) {
				sd_look_pad(stdout, indent);
				printf("%c: %s\n", "AB"[k], text);
			}
			free(text);
		}
	}
	return true;
}

static bool print_row(struct table *t, const struct row *row)
{
	const struct sd_look *look = &t->diff->opt->look;
	size_t indent = row->heading ? INDENT : 0, at, width;
	char *left, *right;
	bool memory;

	if (!print_to_memory(t, row, true, &left))
		return false;
	if (!print_to_memory(t, row, false, &right)) {
		free(left);
		return false;
	}
	sd_look_pad(stdout, indent);
	sd_ink(stdout, look, ink_of(row->first->status));
	printf("%-*s", WORD, diff_word(row->first->status));
	sd_ink(stdout, look, SD_INK_NONE);
	sd_look_print_rest(stdout, look, row->line, row->heading);
	at = indent + WORD + sd_look_columns(left);
	width = sd_look_columns(right);
	if (width) {
		if (at + 1 + width > look->width) {
			putchar('\n');
			at = 0;
		}
		sd_look_pad(stdout, look->width > at + width ? look->width - at - width : 0);
		fputs(right, stdout);
	}
	putchar('\n');
	memory = print_below(t, row, left, indent + WORD + INDENT);
	free(left);
	free(right);
	return memory;
}

static void print_numbers_title(const struct table *t)
{
	size_t width = t->diff->opt->look.width;

	for (size_t i = 0; i < t->fold.nlines; i++)
		if (t->rows[i].first->compared && t->rows[i].d.differ) {
			sd_look_pad(stdout, width - 3 * NUMBERS);
			printf("%*s%*s%*s\n", NUMBERS, "differ", NUMBERS, "max|d|", NUMBERS, "rel");
			return;
		}
}

static bool print_total(const struct diff *diff)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	size_t counts[DIFF_STATUSES] = {0}, n[2] = {0, 0};
	const char *between = ":";

	if (!stream)
		return false;
	for (size_t i = 0; i < diff->npairs; i++)
		counts[diff->pairs[i].status]++;
	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < diff->side[k].listing.n; i++)
			n[k] += diff->side[k].chosen[i];
	if (n[0] == n[1] && n[0] == diff->npairs)
		fprintf(out, "%zu in both", n[0]);
	else
		fprintf(out, "%zu in A, %zu in B", n[0], n[1]);
	for (int i = 0; i < DIFF_STATUSES; i++) {
		if (!counts[i])
			continue;
		fprintf(out, "%s %zu %s", between, counts[i], diff_word((enum diff_status)i));
		between = ",";
	}
	fputc('\n', out);
	return sd_look_close(stream, &diff->opt->look);
}

static bool print_rows(struct table *t)
{
	bool memory = true;

	print_numbers_title(t);
	for (size_t i = 0; i < t->fold.nlines && memory; i++) {
		if (t->rows[i].heading && !t->rows[i].title)
			continue;
		if (t->rows[i].heading) {
			sd_look_print_heading(stdout, &t->diff->opt->look, t->rows[i].line, t->rows[i].heading);
			putchar('\n');
		}
		for (uint32_t k = (uint32_t)i; k != DIFF_NONE && memory; k = t->rows[k].next)
			memory = print_row(t, &t->rows[k]);
	}
	return memory;
}

enum sd_result diff_print_table(const struct diff *diff, struct sd_error *err)
{
	struct table t = {.diff = diff, .shown = malloc((diff->npairs + 1) * sizeof(*t.shown))};
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < diff->npairs && t.shown; i++)
		if (diff_shows(diff, &diff->pairs[i]))
			t.shown[t.nshown++] = &diff->pairs[i];
	if (!t.shown)
		result = sd_fail_memory(err);
	else if (t.nshown)
		result = fold(&t, err);
	if (result == SD_OK && t.nshown) {
		if (!make_rows(&t) || !print_rows(&t) || !print_total(diff))
			result = sd_fail_memory(err);
	}
	sd_fold_free(&t.fold);
	sd_arena_free(&t.arena);
	free(t.rows);
	free(t.shown);
	return result;
}

/* ---- --stat ---- */

/* A layer, or what stands outside of all layers. */
struct layer {
	const char *name;
	size_t differ, tensors;
	struct sd_difference d; /* of those that differ */
};

/* "model.layers.3" of model.layers.3.mlp.up.weight; elsewhere the name without its last word. */
static size_t layer_length(const char *name)
{
	size_t length = strlen(name), word = 0;

	for (size_t i = 0; i < length; i++) {
		if (name[i] != '.')
			continue;
		if (i > word && strspn(name + word, "0123456789") == i - word)
			return i;
		word = i + 1;
	}
	return word > 1 ? word - 1 : length;
}

static bool gather_layers(const struct diff *diff, struct sd_arena *arena, struct layer *layers, size_t *n)
{
	struct sd_names names = {0};
	bool memory = true;

	for (size_t i = 0; i < diff->npairs && memory; i++) {
		const struct diff_pair *p = &diff->pairs[i];
		const char *name = diff_name(diff, p), *text = sd_arena_text(arena, name, layer_length(name));
		uint32_t number = text ? sd_names_add(&names, text, (uint32_t)*n) : SD_NO_NAME;

		memory = number != SD_NO_NAME;
		if (!memory)
			break;
		if (number == *n) {
			layers[(*n)++] = (struct layer){.name = text};
			sd_difference_begin(&layers[number].d);
		}
		layers[number].tensors++;
		layers[number].differ += p->status != DIFF_SAME;
		if (p->compared)
			sd_difference_add(&layers[number].d, &p->d);
	}
	sd_names_free(&names);
	return memory;
}

/* As long as there is room for, if any. */
static void print_bar(double share, size_t room)
{
	int most = room < BAR + 2 ? (int)room - 2 : BAR;
	int length = isfinite(share) && share > 0 ? (int)(share * most + 0.5) : 0;

	if (most < BAR_LEAST)
		return;
	printf("  ");
	for (int i = 0; i < length; i++)
		putchar('#');
}

static void print_layer(const struct diff_options *opt, const struct layer *l, size_t width, double most)
{
	double rel = sd_difference_rel(&l->d);
	char share[48];
	size_t at;

	if (!opt->look.human) {
		sd_text_print(stdout, l->name);
		printf("\t%zu\t%zu\t%.9g\t", l->differ, l->tensors, l->d.max);
		printf(isnan(rel) ? "nan\n" : "%.9g\n", rel);
		return;
	}
	sd_text_print(stdout, l->name);
	sd_look_pad(stdout, width - strlen(l->name));
	snprintf(share, sizeof(share), "%zu/%zu", l->differ, l->tensors);
	printf("%*s", NUMBERS, share);
	write_number(stdout, l->d.max);
	write_number(stdout, rel);
	at = width + 3 * NUMBERS;
	print_bar(most > 0 ? rel / most : 0, opt->look.width > at ? opt->look.width - at : 0);
	putchar('\n');
}

static void json_layer(const struct layer *l)
{
	printf("{\"layer\":");
	sd_json_write(stdout, l->name, SD_JSON_ASCII);
	printf(",\"differ\":%zu,\"tensors\":%zu", l->differ, l->tensors);
	diff_json_number("max_abs", l->d.max);
	diff_json_number("rel", sd_difference_rel(&l->d));
	puts("}");
}

static void print_layers(const struct diff *diff, const struct layer *layers, size_t n)
{
	size_t width = 0;
	double most = 0;

	for (size_t i = 0; i < n; i++) {
		double rel = sd_difference_rel(&layers[i].d);

		if (!layers[i].differ)
			continue;
		width = strlen(layers[i].name) > width ? strlen(layers[i].name) : width;
		most = isfinite(rel) && rel > most ? rel : most;
	}
	if (diff->opt->look.human && width) {
		sd_look_pad(stdout, width);
		printf("%*s%*s%*s\n", NUMBERS, "tensors", NUMBERS, "max|d|", NUMBERS, "rel");
	}
	for (size_t i = 0; i < n; i++) {
		if (!layers[i].differ)
			continue;
		if (diff->opt->form.json)
			json_layer(&layers[i]);
		else
			print_layer(diff->opt, &layers[i], width, most);
	}
}

enum sd_result diff_print_stat(const struct diff *diff, struct sd_error *err)
{
	struct sd_arena arena = {0};
	struct layer *layers = calloc(diff->npairs + 1, sizeof(*layers));
	size_t n = 0;
	bool memory = layers && gather_layers(diff, &arena, layers, &n);

	if (memory)
		print_layers(diff, layers, n);
	if (memory && diff->opt->look.human && diff->differ)
		memory = print_total(diff);
	free(layers);
	sd_arena_free(&arena);
	return memory ? SD_OK : sd_fail_memory(err);
}
