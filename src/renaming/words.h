/* SPDX-License-Identifier: Apache-2.0 */
/* The words that the names of a map are made of. */
#ifndef SD_RENAMING_WORDS_H
#define SD_RENAMING_WORDS_H

#include "renaming/planner.h"

/* A table of words; {0} is an empty one. */
struct sd_words {
	struct sd_names names;
	const char **at; /* all of them */
	size_t n, room;
	struct sd_arena *arena;
	bool failed; /* memory is out */
};

/* Reads the words that a map says by themselves: those of `known`, and parameters. */
void sd_words_read_known(struct sd_words *words, const struct sd_map *map);

/* Reads the words that may stand in front. */
void sd_words_read_roots(struct sd_words *words, const struct sd_map *map);

/* Reads the words of a map's patterns, of its places and its rules, and of its parameters. */
void sd_words_read_patterns(struct sd_words *words, const struct sd_planner *p);

/* The first part of length bytes of a name that is no word and no number, in the arena. NULL: there is none. */
char *sd_words_find_unknown(struct sd_words *words, const char *name, size_t length);

/* The word that a text has the fewest slips from, so many at most, and in one of three letters. NULL: there is none. */
const char *sd_words_nearest(const struct sd_words *words, const char *text, unsigned slips);

void sd_words_free(struct sd_words *words);

#endif
