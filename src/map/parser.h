/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a map: the state of it, and its parts from tokens up to rules. */
#ifndef SD_MAP_PARSER_H
#define SD_MAP_PARSER_H

#include "map/internal.h"

#include <string.h>

#define TOKENS_MAX 256
/* Bytes, also of a pattern with all that it stands under. What matching takes grows with the square of it. */
#define TOKEN_MAX 4096

enum token_kind { WORD, LIST, STRING };

struct token {
	enum token_kind kind;
	char *text;
};

/* One file being read: the map itself, or one that it uses. */
struct parser {
	struct sd_map *map;
	struct sd_map_library *library;
	const char *file;
	uint32_t line;
	const char *line_text;
	struct token tokens[TOKENS_MAX];
	uint32_t ntokens, at;
	uint32_t stage; /* the open one, or NONE */
	const char *under[2];
	bool skip; /* the open stage is not among the wanted ones */
	/* For a map that is used: what is wanted of it, and what is put on it. */
	const struct parser *user;
	bool whole; /* all stages, labels and samples, whatever `wanted` has */
	struct token *wanted;
	uint32_t nwanted;
	bool *found;
	const char *prefix[2];
	bool prefix_all; /* in front of every pattern, not only of those that begin with "." */
	const struct guard *guards;
	uint32_t nguards;
	int depth;
	bool named;
	struct sd_error *err;
};

/* Fails with the file and the line. */
#define sd_parse_fail(p, ...) sd_map_fail((p)->err, (p)->file, (p)->line, __VA_ARGS__)

/* Appends a zeroed element to one of the map's arrays. */
#define SD_PARSE_ADD(array, count, room)                                                                               \
	(sd_array_grow(&(array), (count), &(room), sizeof(*(array)))                                                   \
		 ? (memset(&(array)[count], 0, sizeof(*(array))), &(array)[(count)++])                                 \
		 : NULL)

/* token.c: a line in words, lists in [] and texts in "". */
SD_UNUSED_RESULT enum sd_result sd_token_split(struct parser *p, const char *text, size_t length);

/* Takes the word at hand, which is LEFT=RIGHT: cuts it in two and returns RIGHT. NULL where it is no such word. */
char *sd_token_pair(struct parser *p, char **left);

/* The word at hand, "" if it is none; and whether it is this one, which is then taken. */
const char *sd_token_peek(const struct parser *p);
bool sd_token_accept(struct parser *p, const char *word);

/* Takes a token of this kind; what is for the error. */
SD_UNUSED_RESULT enum sd_result sd_token_want(struct parser *p, enum token_kind kind, const char *what,
					      const char **text);
SD_UNUSED_RESULT enum sd_result sd_token_end(struct parser *p);

/* "a|b" as words. */
SD_UNUSED_RESULT enum sd_result sd_token_words(struct parser *p, const char *text, const char ***words, uint32_t *n);

/* Whether it may be the name of something: letters, digits and _. */
bool sd_token_is_name(const char *text);

/* Whether it can stand where patterns and what is none stand, and is a pattern: what is put together is written so by
 * --expand. */
bool sd_token_is_plain(const char *text);

/* Cuts "NAME=REST" in two and returns REST, or NULL. */
char *sd_token_cut(char *text);

/* parse_pattern.c: the table of that name, or NULL. */
struct table *sd_parse_table(struct sd_map *map, const char *name);

/* "3", or the axis of a size that was said before. */
SD_UNUSED_RESULT enum sd_result sd_parse_amount(struct parser *p, const char *text, struct amount *amount);

/* Holes as {L-N} are for the sides of rules. */
SD_UNUSED_RESULT enum sd_result sd_parse_no_shift(struct parser *p, const struct holes *holes);

/* A pattern as it stands; and the next word as one, with what stands in front of all patterns of the file. */
SD_UNUSED_RESULT enum sd_result sd_parse_pattern(struct parser *p, const char *text, int side, struct holes *holes,
						 struct pattern *pattern);
SD_UNUSED_RESULT enum sd_result sd_parse_want_pattern(struct parser *p, int side, struct holes *holes,
						      struct pattern *pattern);
SD_UNUSED_RESULT enum sd_result sd_parse_full_pattern(struct parser *p, const char *text, int side, const char **full);

/* parse_rule.c: the axis list that may stand here. */
SD_UNUSED_RESULT enum sd_result sd_parse_axes(struct parser *p, struct axes *axes);

/* "NAME=VALUE"; all @NAME=VALUE that stand here, behind those of the map that uses this one; a rule. */
SD_UNUSED_RESULT enum sd_result sd_parse_guard(struct parser *p, char *text, struct guard *guard);
SD_UNUSED_RESULT enum sd_result sd_parse_guards(struct parser *p, struct guard **guards, uint32_t *n);
SD_UNUSED_RESULT enum sd_result sd_parse_rule(struct parser *p);

/* fields.c: `config`. */
SD_UNUSED_RESULT enum sd_result sd_parse_config(struct parser *p);

/* adapter.c: `peft`. */
SD_UNUSED_RESULT enum sd_result sd_parse_peft(struct parser *p);

/* sample.c: `sample`. */
SD_UNUSED_RESULT enum sd_result sd_parse_sample(struct parser *p);

#endif
