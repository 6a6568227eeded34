/* SPDX-License-Identifier: Apache-2.0 */
/* What a map says that names are made of: words, places, parameters. */
#include "map/parser.h"

#include <limits.h>

/* Appends a word to a list of the map's. */
static enum sd_result add_word(struct sd_parser *p, const char *word, const char ***list, uint32_t *n, size_t *room)
{
	if (!sd_array_grow(list, *n, room, sizeof(**list)))
		return sd_fail_memory(p->err);
	(*list)[(*n)++] = word;
	return SD_OK;
}

/* Takes `.*` from the end of a pattern; *word is NULL when memory is out. */
static bool cut_module(struct sd_parser *p, const char **word)
{
	size_t length = strlen(*word);

	if (length < 3 || strcmp(*word + length - 2, ".*") != 0)
		return false;
	*word = sd_arena_text(&p->map->arena, *word, length - 2);
	return true;
}

/* PATTERN, or LEFT <-> RIGHT; `.*` at the end stands for a parameter. */
static enum sd_result add_place(struct sd_parser *p, const char *word)
{
	struct sd_map_place *place = SD_PARSE_ADD(p->map->places, p->map->nplaces, p->map->places_room);
	const char *words[2] = {word, word}, *full;

	if (!place)
		return sd_fail_memory(p->err);
	place->depth = p->whole_depth;
	if (sd_token_accept(p, "<->") && sd_token_want(p, WORD, "a pattern", &words[RIGHT]) != SD_OK)
		return p->err->result;
	for (int side = LEFT; side <= RIGHT; side++) {
		place->module[side] = cut_module(p, &words[side]);
		if (!words[side])
			return sd_fail_memory(p->err);
		if (sd_parse_full_pattern(p, words[side], side, &full) != SD_OK ||
		    sd_parse_pattern(p, full, side, &place->holes, &place->key[side]) != SD_OK)
			return p->err->result;
	}
	return sd_parse_no_shift(p, &place->holes);
}

/* known WORD..: words come along whatever of the map is used, places with the stage that they stand in, or with all. */
enum sd_result sd_parse_known(struct sd_parser *p)
{
	if (p->at == p->ntokens)
		return sd_parse_fail(p, "behind \"known\" come words and patterns");
	while (p->at < p->ntokens) {
		const char *word = NULL;
		bool place;

		if (sd_token_want(p, WORD, "a word", &word) != SD_OK)
			return p->err->result;
		place = word[strcspn(word, ".{$")] != '\0';
		if (place && (p->skip || (p->user && !p->whole && p->stage == NONE))) {
			p->at += sd_token_accept(p, "<->");
			continue;
		}
		if ((place ? add_place(p, word)
			   : add_word(p, word, &p->map->known, &p->map->nknown, &p->map->known_room)) != SD_OK)
			return p->err->result;
	}
	return SD_OK;
}

/* Words without holes, for a list of the map's. */
static enum sd_result parse_words(struct sd_parser *p, const char ***list, uint32_t *n, size_t *room)
{
	if (p->at == p->ntokens)
		return sd_parse_fail(p, "behind \"%s\" come words", p->tokens[0].text);
	while (p->at < p->ntokens) {
		const char *word = NULL;

		if (sd_token_want(p, WORD, "a word", &word) != SD_OK)
			return p->err->result;
		if (word[strcspn(word, "{}$*")])
			return sd_parse_fail(p, "\"%s\": holes stand in patterns", word);
		if (add_word(p, word, list, n, room) != SD_OK)
			return p->err->result;
	}
	return SD_OK;
}

/* parameter WORD..: what stands behind the name of a module. One that begins with a _ continues a parameter's own. */
enum sd_result sd_parse_parameter(struct sd_parser *p)
{
	return parse_words(p, &p->map->parameters, &p->map->nparameters, &p->map->parameters_room);
}

/* root WORD..: what may stand in front, where a pattern begins with a hole for anything. */
enum sd_result sd_parse_root(struct sd_parser *p)
{
	return parse_words(p, &p->map->roots, &p->map->nroots, &p->map->roots_room);
}

void sd_parse_finish_places(struct sd_map *map)
{
	int least = INT_MAX;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < map->nplaces; i++)
		least = map->places[i].depth < least ? map->places[i].depth : least;
	for (uint32_t i = 0; i < map->nplaces; i++)
		if (map->places[i].depth == least)
			map->places[kept++] = map->places[i];
	map->nplaces = kept;
}
