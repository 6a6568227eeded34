/* SPDX-License-Identifier: Apache-2.0 */
/* How output looks. */
#include "tools/look.h"
#include "base/text.h"
#include "tools/tool.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Longer sets are shown in short. */
#define SET_COLUMNS 20

/* A line that goes on is indented by so much more than its first part. */
#define HANG 4

#define WIDTH 80
#define WIDTH_LEAST 20
#define WIDTH_MOST 10000

enum sd_when sd_option_when(const char *text)
{
	static const char *const words[] = {"auto", "always", "never"};

	for (int i = 0; i < 3; i++)
		if (strcmp(text, words[i]) == 0)
			return (enum sd_when)i;
	sd_misuse("--color: \"%s\" is none of auto, always, never", text);
}

static bool has_colours(void)
{
	const char *term = getenv("TERM"), *none = getenv("NO_COLOR");

	return term && strcmp(term, "dumb") != 0 && (!none || !*none);
}

static size_t find_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint64_t width = 0;

	if (!columns || !sd_text_number(columns, &width) || !width)
		width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : WIDTH;
	return width < WIDTH_LEAST ? WIDTH_LEAST : width > WIDTH_MOST ? WIDTH_MOST : (size_t)width;
}

struct sd_look sd_look_at_stdout(enum sd_when colour)
{
	struct sd_look look = {.human = colour == SD_ALWAYS || isatty(STDOUT_FILENO)};

	look.colour = colour == SD_ALWAYS || (colour == SD_AUTO && look.human && has_colours());
	look.width = look.human ? find_width() : SIZE_MAX;
	return look;
}

void sd_ink(FILE *out, const struct sd_look *look, enum sd_ink ink)
{
	static const char *const codes[] = {"\033[m", "\033[1m", "\033[36m", "\033[1;31m"};

	if (look->colour)
		fputs(codes[ink], out);
}

/* Numbers are shown in their colour, with ink around them. */
static void print_set(FILE *out, const struct sd_look *look, const struct sd_fold_set *set, enum sd_ink around)
{
	sd_ink(out, look, SD_INK_NUMBERS);
	if (strlen(set->text) <= SET_COLUMNS)
		fputs(set->text, out);
	else
		fprintf(out, "{%" PRIu32 "..%" PRIu32 ":%" PRIu32 "}", set->low, set->high, set->count);
	sd_ink(out, look, SD_INK_NONE);
	if (around)
		sd_ink(out, look, around);
}

void sd_look_print_piece(FILE *out, const struct sd_look *look, const struct sd_fold_piece *piece, enum sd_ink around)
{
	sd_fold_print_text(out, piece->text, piece->length);
	if (piece->set)
		print_set(out, look, piece->set, around);
	else if (!piece->last)
		fprintf(out, "%" PRIu32, piece->number);
}

/* Whether a text begins with an option or a quote, which stay behind the word in front. */
static bool stays_behind(const char *text)
{
	return *text == '\'' || (*text == '-' && (isalpha((unsigned char)text[1]) || text[1] == '-'));
}

/* The end of what stands in one piece, and how many columns it takes: up to a space outside of quotes and brackets that
 * no option and no quote follows. */
static const char *find_break(const char *at, size_t *columns)
{
	bool quoted = false, bracket = false;

	*columns = 0;
	for (; *at && *at != '\n'; at++) {
		if (*at == '\033' && strchr(at, 'm')) { /* ink takes no room */
			at = strchr(at, 'm');
			continue;
		}
		quoted = quoted != (*at == '\'');
		bracket = *at == '[' || (bracket && *at != ']');
		if (*at == ' ' && !quoted && !bracket && !stays_behind(at + strspn(at, " ")))
			break;
		*columns += ((unsigned char)*at & 0xC0) != 0x80;
	}
	return at;
}

/* One line, and its end. */
static const char *wrap_line(FILE *out, size_t width, const char *line)
{
	size_t indent = strspn(line, " "), column = indent;

	sd_look_pad(out, indent);
	line += indent;
	for (bool first = true; *line && *line != '\n'; first = false) {
		size_t columns, spaces = strspn(line, " ");
		const char *word = line + spaces, *end = find_break(word, &columns);

		if (!first && column + spaces + columns > width) {
			fputc('\n', out);
			sd_look_pad(out, indent + HANG);
			column = indent + HANG;
		} else {
			sd_look_pad(out, spaces);
			column += spaces;
		}
		fwrite(word, 1, (size_t)(end - word), out);
		column += columns;
		line = end;
	}
	fputc('\n', out);
	return line + (*line == '\n');
}

void sd_look_wrap(FILE *out, const struct sd_look *look, const char *text)
{
	while (*text)
		text = wrap_line(out, look->width, text);
}

bool sd_look_close(struct sd_memstream *stream, const struct sd_look *look)
{
	size_t length;
	char *text;

	if (!sd_memstream_close(stream, &text, &length))
		return false;
	sd_look_wrap(stdout, look, text);
	free(text);
	return true;
}

size_t sd_look_heading(const struct sd_fold_line *line)
{
	for (size_t i = 0; i + 1 < line->npieces; i++)
		if (line->pieces[i].own && line->pieces[i + 1].length > 1)
			return i + 1;
	return 0;
}

void sd_look_print_heading(FILE *out, const struct sd_look *look, const struct sd_fold_line *line, size_t pieces)
{
	sd_ink(out, look, SD_INK_HEADING);
	for (size_t i = 0; i < pieces; i++)
		sd_look_print_piece(out, look, &line->pieces[i], SD_INK_HEADING);
	fputc('.', out);
	sd_ink(out, look, SD_INK_NONE);
}

void sd_look_print_rest(FILE *out, const struct sd_look *look, const struct sd_fold_line *line, size_t pieces)
{
	for (size_t i = pieces; i < line->npieces; i++) {
		struct sd_fold_piece piece = line->pieces[i];

		/* The dot that ends the heading. */
		piece.text += pieces && i == pieces;
		piece.length -= pieces && i == pieces;
		sd_look_print_piece(out, look, &piece, SD_INK_NONE);
	}
}

void sd_look_pad(FILE *out, size_t n)
{
	fprintf(out, "%*s", n < INT32_MAX ? (int)n : 0, "");
}

size_t sd_look_columns(const char *text)
{
	size_t columns = 0;

	for (; *text; text++)
		columns += ((unsigned char)*text & 0xC0) != 0x80;
	return columns;
}
