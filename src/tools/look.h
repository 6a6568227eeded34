/* SPDX-License-Identifier: Apache-2.0 */
/* How output looks: for people on a terminal, or for programs in a pipe; how wide, and with which colours. */
#ifndef SD_TOOLS_LOOK_H
#define SD_TOOLS_LOOK_H

#include "base/fold.h"
#include "base/memstream.h"

#include <stdbool.h>
#include <stdio.h>

/* --color */
enum sd_when { SD_AUTO, SD_ALWAYS, SD_NEVER };

struct sd_look {
	bool human;   /* for people: standard output is a terminal, or --color=always says that it leads to one */
	bool colour;  /* human, and the terminal has colours, and NO_COLOR is not set */
	size_t width; /* of the terminal, in columns */
};

enum sd_ink {
	SD_INK_NONE,
	SD_INK_HEADING,
	SD_INK_NUMBERS,
	SD_INK_FAULT,
};

/* The value of --color, or misuse. */
enum sd_when sd_option_when(const char *text);

/* What standard output is. */
struct sd_look sd_look_at_stdout(enum sd_when colour);

/* Changes the colour of what is written from here on; SD_INK_NONE ends it. Does nothing without colours. */
void sd_ink(FILE *out, const struct sd_look *look, enum sd_ink ink);

/*
 * Writes a piece of a folded name. Numbers that are too many to be read are {0..38:30}: 30 numbers from 0 to 38. around
 * is the ink of the text.
 */
void sd_look_print_piece(FILE *out, const struct sd_look *look, const struct sd_fold_piece *piece, enum sd_ink around);

/*
 * Writes text for people: a line that is longer than the terminal goes on in further ones, indented by 4 more than
 * itself. Options, their values and what is quoted stay in one piece, so that commands can be pasted.
 */
void sd_look_wrap(FILE *out, const struct sd_look *look, const char *text);

/* Closes a stream of such text and writes it to standard output. False when memory was out. */
SD_MUST_CHECK bool sd_look_close(struct sd_memstream *stream, const struct sd_look *look);

/*
 * How many pieces of a folded name stand in a heading over those of the same layers: up to the first number that is a
 * part of the name of its own, and has more behind it. 0: it has no heading.
 */
size_t sd_look_heading(const struct sd_fold_line *line);

/* Writes the heading, and what is not in a heading of so many pieces. */
void sd_look_print_heading(FILE *out, const struct sd_look *look, const struct sd_fold_line *line, size_t pieces);
void sd_look_print_rest(FILE *out, const struct sd_look *look, const struct sd_fold_line *line, size_t pieces);

/* Writes n spaces. */
void sd_look_pad(FILE *out, size_t n);

/* How many columns a text takes that sd_text_escape has made. */
size_t sd_look_columns(const char *text);

#endif
