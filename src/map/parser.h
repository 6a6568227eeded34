/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a map: the state of it, and its parts from tokens up to rules. */
#ifndef SD_MAP_PARSER_H
#define SD_MAP_PARSER_H

#include "map/compiled.h"

#include <string.h>

#define TOKENS_MAX 256
/* Bytes, also of a pattern with all that it stands under. What matching takes grows with the square of it. */
#define TOKEN_MAX 4096

enum sd_map_token_kind { WORD, LIST, STRING };

struct sd_map_token {
	enum sd_map_token_kind kind;
	char *text;
};

/* One file being read: the map itself, or one that it uses. */
struct sd_parser {
	struct sd_map *map;
	struct sd_map_library *library;
	const char *file;
	uint32_t line;
	const char *line_text;
	struct sd_map_token tokens[TOKENS_MAX];
	uint32_t ntokens, at;
	uint32_t stage; /* the open one, or NONE */
	const char *under[2];
	bool skip; /* the open stage is not among the wanted ones */
	/* For a map that is used: what is wanted of it, and what is put on it. */
	const struct sd_parser *user;
	bool whole; /* all stages, labels and samples, whatever `wanted` has */
	struct sd_map_token *wanted;
	uint32_t nwanted;
	bool *found;
	const char *prefix[2];
	bool prefix_all; /* in front of every pattern, not only of those that begin with "." */
	const struct sd_map_guard *guards;
	uint32_t nguards;
	int depth, whole_depth; /* of uses, and of those that take over all of a map */
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
SD_MUST_CHECK enum sd_result sd_token_split(struct sd_parser *p, const char *text, size_t length);

/* Takes the word at hand, which is LEFT=RIGHT: cuts it in two and returns RIGHT. NULL where it is no such word. */
char *sd_token_pair(struct sd_parser *p, char **left);

/* The word at hand, "" if it is none; and whether it is this one, which is then taken. */
const char *sd_token_peek(const struct sd_parser *p);
bool sd_token_accept(struct sd_parser *p, const char *word);

/* Takes a token of this kind; what is for the error. */
SD_MUST_CHECK enum sd_result sd_token_want(struct sd_parser *p, enum sd_map_token_kind kind, const char *what,
					   const char **text);
SD_MUST_CHECK enum sd_result sd_token_end(struct sd_parser *p);

/* "a|b" as words. */
SD_MUST_CHECK enum sd_result sd_token_words(struct sd_parser *p, const char *text, const char ***words, uint32_t *n);

/* Whether it may be the name of something: letters, digits and _. */
bool sd_token_is_name(const char *text);

/* Whether it can stand where patterns and what is none stand, and is a pattern: what is put together is written so by
 * --expand. */
bool sd_token_is_plain(const char *text);

/* Cuts "NAME=REST" in two and returns REST, or NULL. */
char *sd_token_cut(char *text);

/* parse_pattern.c: the table of that name, or NULL. */
struct sd_map_table *sd_parse_table(struct sd_map *map, const char *name);

/* "3", or the axis of a size that was said before. */
SD_MUST_CHECK enum sd_result sd_parse_amount(struct sd_parser *p, const char *text, struct sd_map_amount *amount);

/* Holes as {L-N} are for the sides of rules. */
SD_MUST_CHECK enum sd_result sd_parse_no_shift(struct sd_parser *p, const struct sd_map_holes *holes);

/* A pattern as it stands; and the next word as one, with what stands in front of all patterns of the file. */
SD_MUST_CHECK enum sd_result sd_parse_pattern(struct sd_parser *p, const char *text, int side,
					      struct sd_map_holes *holes, struct sd_pattern *pattern);
SD_MUST_CHECK enum sd_result sd_parse_want_pattern(struct sd_parser *p, int side, struct sd_map_holes *holes,
						   struct sd_pattern *pattern);
SD_MUST_CHECK enum sd_result sd_parse_full_pattern(struct sd_parser *p, const char *text, int side, const char **full);

/* parse_rule.c: the axis list that may stand here. */
SD_MUST_CHECK enum sd_result sd_parse_axes(struct sd_parser *p, struct sd_axes *axes);

/* "NAME=VALUE"; all @NAME=VALUE that stand here, behind those of the map that uses this one; a rule. */
SD_MUST_CHECK enum sd_result sd_parse_guard(struct sd_parser *p, char *text, struct sd_map_guard *guard);
SD_MUST_CHECK enum sd_result sd_parse_guards(struct sd_parser *p, struct sd_map_guard **guards, uint32_t *n);
SD_MUST_CHECK enum sd_result sd_parse_rule(struct sd_parser *p);

/* fields.c: `config`. */
SD_MUST_CHECK enum sd_result sd_parse_config(struct sd_parser *p);

/* adapter.c: `peft`, and `elsewhere`. */
SD_MUST_CHECK enum sd_result sd_parse_peft(struct sd_parser *p);
SD_MUST_CHECK enum sd_result sd_parse_elsewhere(struct sd_parser *p);

/* parse_known.c: `known`, `parameter` and `root`. */
SD_MUST_CHECK enum sd_result sd_parse_known(struct sd_parser *p);
SD_MUST_CHECK enum sd_result sd_parse_parameter(struct sd_parser *p);
SD_MUST_CHECK enum sd_result sd_parse_root(struct sd_parser *p);

/* Leaves the places of the map itself, or else those of the nearest one that it uses as a whole. */
void sd_parse_finish_places(struct sd_map *map);

/* sample.c: `sample`. */
SD_MUST_CHECK enum sd_result sd_parse_sample(struct sd_parser *p);

#endif
