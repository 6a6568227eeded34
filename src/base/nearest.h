/* SPDX-License-Identifier: Apache-2.0 */
/* Which name was meant by one that is not there. */
#ifndef SD_BASE_NEAREST_H
#define SD_BASE_NEAREST_H

#include <stdint.h>

/* A name that is looked for in vain, and the nearest of those looked at so far. All texts are borrowed. */
struct sd_nearest {
	const char *key;
	const char *name;  /* a few slips away from key; NULL: none is */
	const char *whole; /* the shortest that key is a piece of */
	const char *bare;  /* the longest that key is, behind a prefix */
	uint64_t cost;     /* of name, or what is too much */
};

/* Begins a search. In key, a * stands for any text. */
struct sd_nearest sd_nearest_begin(const char *key);

/*
 * Looks at one more name. Nearer is what has the same numbers; then what has fewer slips, where two letters in the
 * wrong order, and one too many or too few, are less than a letter in another's place; then what has numbers that are
 * closer. Of several that are equally near the first stays. Time and memory are bounded, whatever the names.
 */
void sd_nearest_look(struct sd_nearest *n, const char *name);

/* What was meant, or NULL: the nearest; else a name that has the key in it; else one that the key has a prefix too many
 * for. */
const char *sd_nearest_name(const struct sd_nearest *n);

#endif
