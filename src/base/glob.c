/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of names that people type. Braces are never expanded, for {0..999999}{0..999999} would be many: each node of
 * a pattern makes, of all places in the name where it may begin, all places where it may end.
 */
#include "base/glob.h"
#include "base/arena.h"
#include "base/memstream.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32
#define DIGITS_MAX 18

enum kind { TEXT, STAR, NUMBERS, LETTERS, CHOICE };

struct branch;

struct node {
	enum kind kind;
	struct node *next;
	const char *text; /* TEXT */
	size_t length;
	uint64_t from, to, step; /* NUMBERS, LETTERS; from may be larger than to */
	size_t width;            /* NUMBERS: at least so many digits, with zeros in front */
	struct branch *branches; /* CHOICE */
};

struct branch {
	struct node *nodes;
	struct branch *next;
};

struct sd_glob {
	struct sd_arena arena;
	const char *text, *first;
	struct node *nodes;
	size_t depth; /* how deep its braces nest */
	/* Of each depth two sets of places, for a name of room bytes. */
	unsigned char *places;
	size_t room;
};

/* ---- parsing ---- */

struct parser {
	struct sd_glob *glob;
	struct sd_error *err;
	char *letters; /* room for a TEXT */
};

/* The } of the { in front of p, or NULL; whether there is a comma between, outside of other braces. */
static const char *find_close(const char *p, const char *end, bool *comma)
{
	size_t depth = 1;

	*comma = false;
	for (; p < end; p++) {
		if (*p == '\\' && p + 1 < end)
			p++;
		else if (*p == '{')
			depth++;
		else if (*p == '}' && --depth == 0)
			return p;
		else if (*p == ',' && depth == 1)
			*comma = true;
	}
	return NULL;
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The digits from p on: how many, 0 also where they are more than a number has. */
static size_t read_digits(const char *p, const char *end, uint64_t *number)
{
	size_t n = 0;

	for (*number = 0; p + n < end && digit(p[n]); n++)
		if (n < DIGITS_MAX)
			*number = *number * 10 + (uint64_t)(p[n] - '0');
	return n <= DIGITS_MAX ? n : 0;
}

static bool takes_dots(const char **p, const char *end)
{
	if (end - *p < 2 || memcmp(*p, "..", 2) != 0)
		return false;
	*p += 2;
	return true;
}

/* What stands between braces as 0..39, 3..39..4 or a..c. False for anything else. */
static bool read_sequence(const char *p, const char *end, struct node *node)
{
	size_t n = read_digits(p, end, &node->from), m;

	node->kind = n ? NUMBERS : LETTERS;
	node->step = 1;
	if (!n && (p == end || !letter(*p)))
		return false;
	node->from = n ? node->from : (unsigned char)*p;
	node->width = n > 1 && *p == '0' ? n : 0;
	p += n ? n : 1;
	if (!takes_dots(&p, end))
		return false;
	m = n ? read_digits(p, end, &node->to) : p < end && letter(*p);
	if (!m)
		return false;
	node->to = n ? node->to : (unsigned char)*p;
	if (node->width || (n && m > 1 && *p == '0'))
		node->width = n > m ? n : m;
	p += m;
	if (p == end)
		return true;
	if (!takes_dots(&p, end))
		return false;
	m = read_digits(p, end, &node->step);
	node->step = node->step ? node->step : 1;
	return m && p + m == end;
}

/* One letter from p on, escaped or not. */
static char read_letter(const char **p, const char *end)
{
	static const char hex[] = "0123456789abcdef";
	const char *high, *low;
	char c = *(*p)++;

	if (c != '\\' || *p == end)
		return c;
	c = *(*p)++;
	if (c == 't' || c == 'n')
		return c == 't' ? '\t' : '\n';
	if (c != 'x' || end - *p < 2)
		return c;
	high = memchr(hex, (*p)[0], 16);
	low = memchr(hex, (*p)[1], 16);
	if (!high || !low)
		return c;
	*p += 2;
	return (char)((high - hex) * 16 + (low - hex));
}

static struct node *add_node(struct parser *parser, struct node ***end, enum kind kind)
{
	struct node *node = sd_arena_alloc(&parser->glob->arena, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	**end = node;
	*end = &node->next;
	return node;
}

/* All letters up to what is more than a letter. */
static bool add_text(struct parser *parser, const char **p, const char *end, struct node ***last)
{
	size_t length = 0;
	struct node *node;

	do
		parser->letters[length++] = read_letter(p, end);
	while (*p < end && !strchr("{*", **p));
	node = add_node(parser, last, TEXT);
	if (!node)
		return false;
	node->length = length;
	node->text = sd_arena_text(&parser->glob->arena, parser->letters, length);
	return node->text;
}

static enum sd_result parse(struct parser *parser, const char *p, const char *end, size_t depth, struct node **nodes);

/* The branches between braces. */
static enum sd_result add_branches(struct parser *parser, const char *p, const char *end, size_t depth,
				   struct node *node)
{
	struct branch **last = &node->branches;

	for (;;) {
		struct branch *branch = sd_arena_alloc(&parser->glob->arena, sizeof(*branch));
		const char *comma = p;
		enum sd_result result;

		for (size_t inside = 0; comma < end && (inside || *comma != ','); comma++) {
			if (*comma == '\\' && comma + 1 < end)
				comma++;
			else if (*comma == '{')
				inside++;
			else if (*comma == '}')
				inside--;
		}
		if (!branch)
			return sd_fail_memory(parser->err);
		result = parse(parser, p, comma, depth + 1, &branch->nodes);
		if (result != SD_OK)
			return result;
		*last = branch;
		last = &branch->next;
		if (comma == end)
			return SD_OK;
		p = comma + 1;
	}
}

/* What begins with a brace. *is_letter: it is one. */
static enum sd_result add_braces(struct parser *parser, const char **p, const char *end, size_t depth,
				 struct node ***last, bool *is_letter)
{
	bool comma;
	const char *close = find_close(*p + 1, end, &comma), *open = *p + 1;
	struct node sequence = {0}, *node;
	bool is_sequence = close && !comma && read_sequence(open, close, &sequence);

	*is_letter = !close || (!comma && !is_sequence);
	if (*is_letter)
		return SD_OK;
	node = add_node(parser, last, is_sequence ? sequence.kind : CHOICE);
	if (!node)
		return sd_fail_memory(parser->err);
	*p = close + 1;
	if (!is_sequence)
		return add_branches(parser, open, close, depth, node);
	sequence.next = node->next;
	*node = sequence;
	return SD_OK;
}

static enum sd_result parse(struct parser *parser, const char *p, const char *end, size_t depth, struct node **nodes)
{
	struct node **last = nodes;

	if (depth > DEPTH_MAX)
		return sd_fail(parser->err, SD_USAGE, "\"%s\" nests braces more than %d deep", parser->glob->text,
			       DEPTH_MAX);
	if (depth > parser->glob->depth)
		parser->glob->depth = depth;
	while (p < end) {
		bool is_letter = *p != '{' && *p != '*';
		enum sd_result result = SD_OK;

		if (*p == '*') {
			p++;
			result = add_node(parser, &last, STAR) ? SD_OK : sd_fail_memory(parser->err);
		} else if (*p == '{') {
			result = add_braces(parser, &p, end, depth, &last, &is_letter);
		}
		if (result == SD_OK && is_letter && !add_text(parser, &p, end, &last))
			result = sd_fail_memory(parser->err);
		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

/* ---- what it says ---- */

static void write_first(FILE *out, const struct node *node)
{
	for (; node; node = node->next) {
		if (node->kind == TEXT)
			fwrite(node->text, 1, node->length, out);
		else if (node->kind == STAR)
			fputc('*', out);
		else if (node->kind == NUMBERS)
			fprintf(out, "%0*llu", (int)node->width, (unsigned long long)node->from);
		else if (node->kind == LETTERS)
			fputc((int)node->from, out);
		else
			write_first(out, node->branches->nodes);
	}
}

static bool make_first(struct sd_glob *g)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	size_t length;
	char *text;

	if (!stream)
		return false;
	write_first(out, g->nodes);
	if (!sd_memstream_close(stream, &text, &length))
		return false;
	g->first = sd_arena_text(&g->arena, text, length);
	free(text);
	return g->first;
}

enum sd_result sd_glob_new(const char *pattern, struct sd_glob **glob, struct sd_error *err)
{
	size_t length = strlen(pattern);
	struct sd_glob *g = calloc(1, sizeof(*g));
	struct parser parser = {g, err, malloc(length + 1)};
	enum sd_result result = SD_OK;

	*glob = NULL;
	if (g && parser.letters)
		g->text = sd_arena_text(&g->arena, pattern, length);
	if (!g || !g->text)
		result = sd_fail_memory(err);
	if (result == SD_OK)
		result = parse(&parser, g->text, g->text + length, 0, &g->nodes);
	if (result == SD_OK && !make_first(g))
		result = sd_fail_memory(err);
	free(parser.letters);
	if (result == SD_OK)
		*glob = g;
	else
		sd_glob_free(g);
	return result;
}

void sd_glob_free(struct sd_glob *glob)
{
	if (!glob)
		return;
	sd_arena_free(&glob->arena);
	free(glob->places);
	free(glob);
}

const char *sd_glob_text(const struct sd_glob *glob)
{
	return glob->text;
}

const char *sd_glob_first(const struct sd_glob *glob)
{
	return glob->first;
}

/* ---- matching ---- */

/* A name, and how many places it has: those between its bytes, in front of it, and behind it. */
struct subject {
	struct sd_glob *glob;
	const char *name;
	size_t places;
};

static bool is_in(const struct node *node, uint64_t value)
{
	uint64_t low = node->from < node->to ? node->from : node->to, high = node->from + node->to - low;
	uint64_t far = value < node->from ? node->from - value : value - node->from;

	return value >= low && value <= high && far % node->step == 0;
}

/* Where numbers from this place on may end. */
static void step_numbers(const struct subject *s, const struct node *node, size_t at, unsigned char *ends)
{
	const char *text = s->name + at;
	uint64_t value = 0;

	for (size_t n = 0; n < DIGITS_MAX && digit(text[n]); n++) {
		value = value * 10 + (uint64_t)(text[n] - '0');
		if ((node->width ? n + 1 == node->width : n == 0 || *text != '0') && is_in(node, value))
			ends[at + n + 1] = 1;
	}
}

/* Where a node that is no CHOICE may end that begins at this place. */
static void step(const struct subject *s, const struct node *node, size_t at, unsigned char *ends)
{
	size_t left = s->places - 1 - at;

	if (node->kind == TEXT) {
		if (left >= node->length && memcmp(s->name + at, node->text, node->length) == 0)
			ends[at + node->length] = 1;
	} else if (node->kind == STAR) {
		memset(ends + at, 1, left + 1);
	} else if (node->kind == NUMBERS) {
		step_numbers(s, node, at, ends);
	} else if (left && letter(s->name[at]) && is_in(node, (unsigned char)s->name[at])) {
		ends[at + 1] = 1;
	}
}

/* Adds to ends where these nodes may end that begin at one of the places in begins. */
static void walk(const struct subject *s, const struct node *node, size_t depth, const unsigned char *begins,
		 unsigned char *ends)
{
	unsigned char *now = s->glob->places + 2 * depth * s->places, *then = now + s->places;

	memcpy(now, begins, s->places);
	for (; node; node = node->next) {
		unsigned char *swap = now;

		memset(then, 0, s->places);
		if (node->kind == CHOICE)
			for (const struct branch *b = node->branches; b; b = b->next)
				walk(s, b->nodes, depth + 1, now, then);
		for (size_t at = 0; at < s->places && node->kind != CHOICE; at++) {
			if (!now[at])
				continue;
			step(s, node, at, then);
			if (node->kind == STAR)
				break;
		}
		now = then;
		then = swap;
	}
	for (size_t i = 0; i < s->places; i++)
		ends[i] |= now[i];
}

static bool make_room(struct sd_glob *g, size_t places)
{
	size_t need;
	unsigned char *larger;

	if (__builtin_mul_overflow(places, 2 * g->depth + 4, &need))
		return false;
	if (need <= g->room)
		return true;
	larger = realloc(g->places, need);
	if (!larger)
		return false;
	g->places = larger;
	g->room = need;
	return true;
}

enum sd_result sd_glob_matches(struct sd_glob *glob, const char *name, bool *yes, struct sd_error *err)
{
	struct subject s = {glob, name, strlen(name) + 1};
	const struct node *first = glob->nodes;
	unsigned char *begins, *ends;

	*yes = false;
	/* What most names differ in is seen at once. */
	if (first && first->kind == TEXT && strncmp(name, first->text, first->length) != 0)
		return SD_OK;
	if (!make_room(glob, s.places))
		return sd_fail_memory(err);
	begins = glob->places + (2 * glob->depth + 2) * s.places;
	ends = begins + s.places;
	memset(begins, 0, 2 * s.places);
	begins[0] = 1;
	walk(&s, glob->nodes, 0, begins, ends);
	*yes = ends[s.places - 1];
	return SD_OK;
}
