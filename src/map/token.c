/* SPDX-License-Identifier: Apache-2.0 */
/* A line of a map in tokens. */
#include "map/parser.h"

#include <ctype.h>

enum sd_result sd_token_split(struct sd_parser *p, const char *text, size_t length)
{
	const char *end = text + length, *start;

	p->ntokens = p->at = 0;
	for (;;) {
		struct sd_map_token *token = &p->tokens[p->ntokens];

		while (text < end && isspace((unsigned char)*text))
			text++;
		if (text == end || *text == '#')
			return SD_OK;
		if (p->ntokens == TOKENS_MAX)
			return sd_parse_fail(p, "the line is too long");
		start = text;
		if (*text == '"') {
			text = memchr(text + 1, '"', (size_t)(end - text - 1));
			if (!text)
				return sd_parse_fail(p, "a \" is not closed");
			*token = (struct sd_map_token){
				STRING, sd_arena_text(&p->map->arena, start + 1, (size_t)(text++ - start - 1))};
		} else if (*text == '[') {
			text = memchr(text, ']', (size_t)(end - text));
			if (!text)
				return sd_parse_fail(p, "a [ is not closed");
			*token = (struct sd_map_token){LIST,
						       sd_arena_text(&p->map->arena, start, (size_t)(++text - start))};
		} else {
			while (text < end && !isspace((unsigned char)*text))
				text++;
			*token = (struct sd_map_token){WORD,
						       sd_arena_text(&p->map->arena, start, (size_t)(text - start))};
		}
		if (!token->text)
			return sd_fail_memory(p->err);
		if (text - start > TOKEN_MAX)
			return sd_parse_fail(p, "a word of %zu bytes; at most %d are allowed", (size_t)(text - start),
					     TOKEN_MAX);
		p->ntokens++;
	}
}

const char *sd_token_peek(const struct sd_parser *p)
{
	return p->at < p->ntokens && p->tokens[p->at].kind == WORD ? p->tokens[p->at].text : "";
}

bool sd_token_accept(struct sd_parser *p, const char *word)
{
	if (strcmp(sd_token_peek(p), word) != 0)
		return false;
	p->at++;
	return true;
}

enum sd_result sd_token_want(struct sd_parser *p, enum sd_map_token_kind kind, const char *what, const char **text)
{
	if (p->at == p->ntokens || p->tokens[p->at].kind != kind)
		return sd_parse_fail(p, "%s is missing", what);
	*text = p->tokens[p->at++].text;
	return SD_OK;
}

enum sd_result sd_token_end(struct sd_parser *p)
{
	return p->at == p->ntokens ? SD_OK : sd_parse_fail(p, "\"%s\" is not understood here", p->tokens[p->at].text);
}

enum sd_result sd_token_words(struct sd_parser *p, const char *text, const char ***words, uint32_t *n)
{
	const char **out = sd_arena_array(&p->map->arena, strlen(text) + 1, sizeof(*out));

	*n = 0;
	for (; out; text++) {
		size_t length = strcspn(text, "|");

		out[*n] = sd_arena_text(&p->map->arena, text, length);
		if (!out[(*n)++])
			break;
		text += length;
		if (!*text) {
			*words = out;
			return SD_OK;
		}
	}
	return sd_fail_memory(p->err);
}

bool sd_token_is_name(const char *text)
{
	if (!isalpha((unsigned char)*text) && *text != '_')
		return false;
	while (isalnum((unsigned char)*text) || *text == '_')
		text++;
	return !*text;
}

char *sd_token_pair(struct sd_parser *p, char **left)
{
	*left = p->tokens[p->at].text;
	return p->tokens[p->at++].kind == WORD ? sd_token_cut(*left) : NULL;
}

bool sd_token_is_plain(const char *text)
{
	return *text && !strchr("@#\"[", *text) && strcmp(text, "drop") != 0 && strcmp(text, "keep") != 0 &&
	       strcmp(text, "refuse") != 0;
}

/* "NAME=REST": cuts the text in two. */
char *sd_token_cut(char *text)
{
	char *equals = strchr(text, '=');

	if (equals)
		*equals++ = '\0';
	return equals;
}
