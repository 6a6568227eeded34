/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folding: names that differ in numbers only, as one line in the notation of bash: model.layers.{0..39}.norm.weight.
 * A line is exact: it stands for each name that it expands to, and for no other.
 */
#ifndef SD_BASE_FOLD_H
#define SD_BASE_FOLD_H

#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>

/* Larger numbers are treated as text. */
#define SD_FOLD_NUMBER_MAX 1000000000u

/* At most this many numbers of a name are folded, the first ones. */
#define SD_FOLD_NUMBERS 8

/*
 * Numbers in ascending order, none of them twice, as bash writes them: "7", "{0..39}", "{3..39..4}", "{0,1,{3..5}}". In
 * the arena; NULL: out of memory. count is at least 1.
 */
const char *sd_fold_numbers(struct sd_arena *arena, const uint32_t *numbers, size_t count);

/* A set of numbers. */
struct sd_fold_set {
	const char *text; /* as sd_fold_numbers has it */
	uint32_t low, high, count;
};

/* A piece of text, and the number or numbers that follow it. */
struct sd_fold_piece {
	const char *text;              /* not terminated */
	size_t length;                 /* of text */
	const struct sd_fold_set *set; /* NULL in the last piece, and where one number only is behind the text */
	uint32_t number;               /* that one */
	bool last;                     /* nothing is behind the text */
	bool own;                      /* the number is a part of the name of its own, with a dot, or nothing, around */
};

/* Names in one line. */
struct sd_fold_line {
	const struct sd_fold_piece *pieces;
	size_t npieces;
	uint32_t first; /* the name whose numbers are lowest; sd_fold.next has the others, in ascending order */
	uint32_t least; /* the one that was given first */
	uint32_t count;
};

struct sd_fold {
	struct sd_arena arena;
	struct sd_fold_line *lines; /* in the order of their least */
	size_t nlines, lines_room;
	uint32_t *next; /* of each name: the next one in its line, or UINT32_MAX */
};

/*
 * Folds n different names, which are borrowed. Names of different kinds never share a line (kinds may be NULL). A
 * number between dots is folded; another number is folded only in a run of at least four without a gap. Numbers are
 * folded from the last to the first: names that agree in all later numbers are folded in an earlier one. Fails only
 * when memory is out. Call sd_fold_free in any case.
 */
SD_MUST_CHECK enum sd_result sd_fold(const char *const *names, const uint32_t *kinds, size_t n, struct sd_fold *fold,
				     struct sd_error *err);
void sd_fold_free(struct sd_fold *fold);

/*
 * Writes a line as a pattern that sd_glob reads. Escapes what sd_text_print escapes, and { } * with a backslash. Unless
 * something is escaped, bash expands the line to the names.
 */
void sd_fold_print(FILE *out, const struct sd_fold_line *line);

/* Writes the text of a piece, or a name that is not folded, escaped in the same way. */
void sd_fold_print_text(FILE *out, const char *text, size_t length);

#endif
