/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a map knows a name: each of its words in its place, in the layout that is read. */
#ifndef SD_RENAMING_PLACES_H
#define SD_RENAMING_PLACES_H

#include "renaming/words.h"

struct sd_places {
	struct sd_planner *p;
	struct sd_words words;    /* that may stand wherever the map leaves it open */
	struct sd_words patterns; /* those of its patterns */
	struct sd_words roots;    /* that may stand in front of them, where that is open */
	struct sd_names forms;    /* names with "#" for numbers: 1 where they are known, else 0 */
	bool adapter;             /* all that comes in is of one */
	bool closed;              /* places with an open end are left out, for now */
	bool failed;              /* memory is out */
};

/* What may have been meant by a name. */
struct sd_meant {
	const char *word; /* the part of the name that is wrong; NULL: it is not known which */
	const char *near; /* the word that was meant, by its spelling; NULL: none is so near */
	const char *text; /* "k_proj", "gate or gate_proj": to be shown; NULL: nothing is found */
};

/* Reads what the planner's map knows. To be freed in any case. */
void sd_places_open(struct sd_places *places, struct sd_planner *p);

/*
 * Whether the map knows a name. Of a map that says no places, each word has to be one of its words; of others, the name
 * has to fit a place, or the pattern of a rule that leaves no word open.
 */
bool sd_places_know(struct sd_places *places, const char *name);

/*
 * Finds what was meant by a name that is not known: another word in the place of one, with so many slips at most; far:
 * else any that is not there already. there: the names that come in. Texts are in the arena of the planner's out.
 */
struct sd_meant sd_places_meant(struct sd_places *places, const struct sd_names *there, const char *name,
				unsigned slips, bool far);

/* A name with "#" in the place of each number, in the arena; the name itself when memory is out. */
const char *sd_places_form(struct sd_places *places, const char *name);

void sd_places_free(struct sd_places *places);

#endif
