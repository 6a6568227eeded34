/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the name that a misspelt one was meant to be. */
#ifndef SD_BASE_NEAREST_H
#define SD_BASE_NEAREST_H

#include <stdint.h>

/* A name that was not found, and the nearest ones among the names seen so far. All texts are borrowed. */
struct sd_nearest {
	const char *key;
	const char *name;  /* the nearest one by letters; NULL: none is near */
	const char *whole; /* the shortest one that contains key */
	const char *bare;  /* the longest one that key ends with */
	uint64_t cost;     /* of name; without one, the limit */
};

/* Begins a search. In key, a * stands for any text. */
struct sd_nearest sd_nearest_begin(const char *key);

/*
 * Compares one more name. A name with the same numbers is nearer than one with others. Next counts the number of edits:
 * two letters exchanged, or a letter too many or too few, weigh less than a replaced letter. Next counts how close the
 * numbers are. Of equally near names the first is kept. Time and memory are bounded for any names.
 */
void sd_nearest_look(struct sd_nearest *n, const char *name);

/* The name that was probably meant: the nearest one, else one that contains the key, else one that the key ends with;
 * NULL if there is none. */
const char *sd_nearest_name(const struct sd_nearest *n);

#endif
