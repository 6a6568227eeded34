/* SPDX-License-Identifier: Apache-2.0 */
/* Folding: names that differ in numbers only, as one line. */
#include "base/fold.h"
#include "base/memstream.h"
#include "base/names.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* So many have to follow each other to be {a..b}, to be {a..b..step}, and to be folded inside of a part. */
#define RUN 3
#define STEPS 4
#define INSIDE 4

/* Stands for a number in a skeleton: no name has it, for names are UTF-8. */
#define HOLE '\xff'

/* In a row: a set, by its number, in the place of a number. */
#define SET 0x80000000u

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* ---- sets ---- */

/* How many of the numbers are so far apart from each other, from the first one on. */
static size_t run_of(const uint32_t *numbers, size_t count, uint32_t step)
{
	size_t n = 1;

	while (n < count && numbers[n] - numbers[n - 1] == step)
		n++;
	return n;
}

static void write_list(FILE *out, const uint32_t *numbers, size_t count)
{
	for (size_t i = 0, n; i < count; i += n) {
		n = run_of(numbers + i, count - i, 1);
		n = n < RUN ? 1 : n;
		fprintf(out, n == 1 ? "%s%" PRIu32 : "%s{%" PRIu32 "..%" PRIu32 "}", i ? "," : "{", numbers[i],
			numbers[i + n - 1]);
	}
	fputc('}', out);
}

static void write_numbers(FILE *out, const uint32_t *numbers, size_t count)
{
	uint32_t step = count > 1 ? numbers[1] - numbers[0] : 0;
	bool even = count > 1 && run_of(numbers, count, step) == count;

	if (count == 1)
		fprintf(out, "%" PRIu32, *numbers);
	else if (even && step == 1 && count >= RUN)
		fprintf(out, "{%" PRIu32 "..%" PRIu32 "}", numbers[0], numbers[count - 1]);
	else if (even && step > 1 && count >= STEPS)
		fprintf(out, "{%" PRIu32 "..%" PRIu32 "..%" PRIu32 "}", numbers[0], numbers[count - 1], step);
	else
		write_list(out, numbers, count);
}

const char *sd_fold_numbers(struct sd_arena *arena, const uint32_t *numbers, size_t count)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	const char *kept = NULL;
	char *text;
	size_t length;

	if (!stream)
		return NULL;
	write_numbers(out, numbers, count);
	if (sd_memstream_close(stream, &text, &length))
		kept = sd_arena_text(arena, text, length);
	free(text);
	return kept;
}

/* ---- names taken apart ---- */

/* One name, or names that were folded: numbers, or sets of them, in the places of their skeleton. */
struct row {
	uint32_t part[SD_FOLD_NUMBERS];
	uint32_t first, last; /* of the names, by sd_fold.next */
	uint32_t least, count;
};

/* Names of one skeleton and one kind. */
struct group {
	const char *skeleton; /* a name with a HOLE for each number */
	size_t holes;
	uint32_t count; /* of rows */
};

struct folding {
	struct sd_fold *fold;
	struct sd_names skeletons, set_texts;
	struct group *groups;
	size_t ngroups, groups_room;
	struct sd_fold_set *sets;
	size_t nsets, sets_room;
	uint32_t *numbers; /* room for those of one set */
	char *text;        /* and for a skeleton */
	size_t room;
};

/* Reads a number as it is written without need: no zeros in front, and not too large. The bytes of it, or 0. */
static size_t read_number(const char *text, uint32_t *number)
{
	uint64_t value = 0;
	size_t n = 0;

	for (; digit(text[n]); n++)
		value = value < SD_FOLD_NUMBER_MAX ? value * 10 + (uint64_t)(text[n] - '0') : value;
	*number = (uint32_t)value;
	return value < SD_FOLD_NUMBER_MAX && (n == 1 || *text != '0') ? n : 0;
}

/* Makes the skeleton of a name, with its kind in front, and takes the numbers out: how many. */
static size_t take_apart(struct folding *f, const char *name, uint32_t kind, uint32_t part[SD_FOLD_NUMBERS])
{
	char *out = f->text + sprintf(f->text, "%" PRIx32 ".", kind);
	size_t holes = 0, n;

	while (*name) {
		n = digit(*name) && holes < SD_FOLD_NUMBERS ? read_number(name, &part[holes]) : 0;
		if (n) {
			*out++ = HOLE;
			holes++;
			name += n;
			continue;
		}
		do
			*out++ = *name++;
		while (digit(name[-1]) && digit(*name));
	}
	*out = '\0';
	return holes;
}

static bool has_room(struct folding *f, const char *name)
{
	size_t need = strlen(name) + 16;
	char *larger;

	if (need <= f->room)
		return true;
	larger = realloc(f->text, 2 * need);
	if (!larger)
		return false;
	f->text = larger;
	f->room = 2 * need;
	return true;
}

/* Gives a name its row, and says of which group it is. False when memory is out. */
static bool add_name(struct folding *f, const char *name, uint32_t kind, struct row *row, uint32_t *group)
{
	size_t holes;

	if (!has_room(f, name))
		return false;
	holes = take_apart(f, name, kind, row->part);
	*group = sd_names_find(&f->skeletons, f->text);
	if (*group == SD_NO_NAME) {
		const char *kept = sd_arena_text(&f->fold->arena, f->text, strlen(f->text));

		*group = kept ? sd_names_add(&f->skeletons, kept, (uint32_t)f->ngroups) : SD_NO_NAME;
		if (*group == SD_NO_NAME || !sd_array_grow(&f->groups, f->ngroups, &f->groups_room, sizeof(*f->groups)))
			return false;
		f->groups[f->ngroups++] = (struct group){strchr(kept, '.') + 1, holes, 0};
	}
	f->groups[*group].count++;
	return true;
}

/* Whether the i-th hole of a skeleton is a part of its own: what is in front of the skeleton is a dot. */
static bool is_own(const char *skeleton, size_t i)
{
	const char *at = skeleton - 1;

	for (size_t k = 0; k <= i; k++)
		at = strchr(at + 1, HOLE);
	return at[-1] == '.' && (at[1] == '.' || !at[1]);
}

/* ---- folding ---- */

static int compare_rows(const void *a, const void *b)
{
	const struct row *left = a, *right = b;

	for (size_t i = 0; i < SD_FOLD_NUMBERS; i++)
		if (left->part[i] != right->part[i])
			return left->part[i] < right->part[i] ? -1 : 1;
	return 0;
}

/* Names mostly come in order. */
static void sort_by_numbers(struct row *rows, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (compare_rows(&rows[i - 1], &rows[i]) > 0) {
			qsort(rows, n, sizeof(*rows), compare_rows);
			return;
		}
}

/* The number of a set of numbers, SET added; 0 when memory is out. */
static uint32_t set_of(struct folding *f, const uint32_t *numbers, size_t count)
{
	char *text = (char *)sd_fold_numbers(&f->fold->arena, numbers, count);
	uint32_t number = text ? sd_names_add(&f->set_texts, text, (uint32_t)f->nsets) : SD_NO_NAME;

	if (number == SD_NO_NAME)
		return 0;
	if (number < f->nsets) {
		sd_arena_undo(&f->fold->arena, text);
		return SET | number;
	}
	if (!sd_array_grow(&f->sets, f->nsets, &f->sets_room, sizeof(*f->sets)))
		return 0;
	f->sets[f->nsets++] = (struct sd_fold_set){text, numbers[0], numbers[count - 1], (uint32_t)count};
	return SET | number;
}

/* Makes one row of count rows that differ in the number in this place only, and ascend. */
static bool merge(struct folding *f, struct row *rows, size_t count, size_t place)
{
	if (count == 1)
		return true;
	for (size_t i = 0; i < count; i++) {
		f->numbers[i] = rows[i].part[place];
		if (i == 0)
			continue;
		f->fold->next[rows->last] = rows[i].first;
		rows->last = rows[i].last;
		rows->least = rows[i].least < rows->least ? rows[i].least : rows->least;
		rows->count += rows[i].count;
	}
	rows->part[place] = set_of(f, f->numbers, count);
	return rows->part[place];
}

/* How many rows, from the first one on, become one. */
static size_t foldable(const struct row *rows, size_t count, size_t place, bool own)
{
	size_t alike = 1, run = 1;

	while (alike < count && memcmp(rows->part, rows[alike].part, place * sizeof(*rows->part)) == 0)
		alike++;
	if (own)
		return alike;
	while (run < alike && rows[run].part[place] == rows[run - 1].part[place] + 1)
		run++;
	return run < INSIDE ? 1 : run;
}

/* The last of the numbers becomes the first one, so that the one before it is the last. */
static void rotate(struct row *row, size_t holes)
{
	uint32_t last = row->part[holes - 1];

	memmove(row->part + 1, row->part, (holes - 1) * sizeof(*row->part));
	row->part[0] = last;
}

/* Folds the rows of a group over one number after another, from the last one on. *count is how many are left. */
static bool fold_group(struct folding *f, const struct group *g, struct row *rows, size_t *count)
{
	*count = g->count;
	for (size_t hole = g->holes; hole-- > 0;) {
		bool own = is_own(g->skeleton, hole);
		size_t kept = 0, n;

		sort_by_numbers(rows, *count);
		for (size_t i = 0; i < *count; i += n) {
			n = foldable(rows + i, *count - i, g->holes - 1, own);
			if (!merge(f, rows + i, n, g->holes - 1))
				return false;
			rotate(&rows[i], g->holes);
			rows[kept++] = rows[i];
		}
		*count = kept;
	}
	return true;
}

/* ---- lines ---- */

static bool add_line(struct folding *f, const struct group *g, const struct row *row)
{
	struct sd_fold *fold = f->fold;
	struct sd_fold_piece *pieces = sd_arena_array(&fold->arena, g->holes + 1, sizeof(*pieces));
	const char *text = g->skeleton;

	if (!pieces || !sd_array_grow(&fold->lines, fold->nlines, &fold->lines_room, sizeof(*fold->lines)))
		return false;
	for (size_t i = 0; i <= g->holes; i++) {
		size_t length = strcspn(text, (char[]){HOLE, '\0'});

		pieces[i] = (struct sd_fold_piece){.text = text, .length = length, .last = i == g->holes};
		text += length + 1;
		if (pieces[i].last)
			break;
		pieces[i].own = is_own(g->skeleton, i);
		if (row->part[i] & SET)
			pieces[i].set =
				sd_arena_copy(&fold->arena, &f->sets[row->part[i] & ~SET], sizeof(*pieces[i].set));
		else
			pieces[i].number = row->part[i];
		if (row->part[i] & SET && !pieces[i].set)
			return false;
	}
	fold->lines[fold->nlines++] = (struct sd_fold_line){pieces, g->holes + 1, row->first, row->least, row->count};
	return true;
}

static int compare_lines(const void *a, const void *b)
{
	const struct sd_fold_line *left = a, *right = b;

	return left->least < right->least ? -1 : left->least > right->least;
}

/* rows: those of all groups, one group after another. */
static bool fold_groups(struct folding *f, struct row *rows)
{
	for (size_t i = 0; i < f->ngroups; i++) {
		size_t count;

		if (!fold_group(f, &f->groups[i], rows, &count))
			return false;
		for (size_t k = 0; k < count; k++)
			if (!add_line(f, &f->groups[i], &rows[k]))
				return false;
		rows += f->groups[i].count;
	}
	if (f->fold->nlines)
		qsort(f->fold->lines, f->fold->nlines, sizeof(*f->fold->lines), compare_lines);
	return true;
}

/* Brings the rows of names in the order of their groups. places: room for one of each group. */
static void sort_rows(const struct folding *f, const struct row *from, const uint32_t *group_of, size_t n,
		      struct row *to, uint32_t *places)
{
	uint32_t at = 0;

	for (size_t i = 0; i < f->ngroups; i++) {
		places[i] = at;
		at += f->groups[i].count;
	}
	for (size_t i = 0; i < n; i++)
		to[places[group_of[i]]++] = from[i];
}

static bool fold_names(struct folding *f, const char *const *names, const uint32_t *kinds, size_t n)
{
	struct row *rows = calloc(n + 1, sizeof(*rows)), *sorted = calloc(n + 1, sizeof(*sorted));
	uint32_t *group_of = calloc(n + 1, sizeof(*group_of)), *places = calloc(n + 1, sizeof(*places));
	bool memory = rows && sorted && group_of && places;

	for (size_t i = 0; i < n && memory; i++) {
		rows[i].first = rows[i].last = rows[i].least = (uint32_t)i;
		rows[i].count = 1;
		memory = add_name(f, names[i], kinds ? kinds[i] : 0, &rows[i], &group_of[i]);
	}
	if (memory)
		sort_rows(f, rows, group_of, n, sorted, places);
	free(rows);
	free(group_of);
	free(places);
	memory = memory && fold_groups(f, sorted);
	free(sorted);
	return memory;
}

enum sd_result sd_fold(const char *const *names, const uint32_t *kinds, size_t n, struct sd_fold *fold,
		       struct sd_error *err)
{
	struct folding f = {.fold = fold, .numbers = calloc(n + 1, sizeof(*f.numbers))};
	bool memory;

	*fold = (struct sd_fold){.next = malloc((n + 1) * sizeof(*fold->next))};
	memory = f.numbers && fold->next && n < SET;
	if (memory) {
		memset(fold->next, 0xff, (n + 1) * sizeof(*fold->next));
		memory = fold_names(&f, names, kinds, n);
	}
	sd_names_free(&f.skeletons);
	sd_names_free(&f.set_texts);
	free(f.groups);
	free(f.sets);
	free(f.numbers);
	free(f.text);
	return memory ? SD_OK : sd_fail_memory(err);
}

void sd_fold_free(struct sd_fold *fold)
{
	free(fold->lines);
	free(fold->next);
	sd_arena_free(&fold->arena);
	*fold = (struct sd_fold){0};
}

/* ---- text ---- */

void sd_fold_print_text(FILE *out, const char *text, size_t length)
{
	char piece[256];

	while (length) {
		size_t n = 0;

		while (n < length && n < sizeof(piece) - 5 && !strchr("{}*", text[n]))
			n++;
		/* A character stays whole. */
		while (n < length && n > 4 && ((unsigned char)text[n] & 0xC0) == 0x80)
			n--;
		memcpy(piece, text, n);
		piece[n] = '\0';
		sd_text_print(out, piece);
		text += n;
		length -= n;
		if (length && strchr("{}*", *text)) {
			fprintf(out, "\\%c", *text++);
			length--;
		}
	}
}

void sd_fold_print(FILE *out, const struct sd_fold_line *line)
{
	for (size_t i = 0; i < line->npieces; i++) {
		const struct sd_fold_piece *piece = &line->pieces[i];

		sd_fold_print_text(out, piece->text, piece->length);
		if (piece->set)
			fputs(piece->set->text, out);
		else if (!piece->last)
			fprintf(out, "%" PRIu32, piece->number);
	}
}
