/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: names with holes. Matching one takes time proportional to its length times the name's. */
#ifndef SD_MAP_PATTERN_H
#define SD_MAP_PATTERN_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define HOLES_MAX 16

enum sd_map_hole_kind {
	HOLE_NUMBER, /* {L}: digits */
	HOLE_WORD,   /* {x}: one or more characters, no dot */
	HOLE_ANY,    /* {x*}: anything or nothing */
	HOLE_CHOICE, /* {x=a|b|}, and tables */
};

/* A number that a map counts with: said as such, or the size of an axis. */
struct sd_map_amount {
	bool is_axis;
	uint32_t axis;
	uint64_t number; /* if it is no axis */
};

struct sd_map_hole {
	const char *name;
	enum sd_map_hole_kind kind;
	bool shifted, minus; /* {L-N}: the number of hole `base`, less (or more) by an amount */
	uint32_t base;
	struct sd_map_amount by;
	const char *const *words[2]; /* of a choice: left and right (the same but for tables) */
	uint32_t nwords;
};

/* The holes of a rule, shared by all its patterns. */
struct sd_map_holes {
	struct sd_map_hole hole[HOLES_MAX];
	uint32_t n;
};

/*
 * What a text is made of, for a quick no: a bit for each run of three characters, by its hash. A pattern can match only
 * names that have all its bits.
 */
struct sd_map_fingerprint {
	uint64_t bits[4];
};

enum sd_map_element_kind { LITERAL, HOLE, TEXT };

struct sd_map_element {
	enum sd_map_element_kind kind;
	uint32_t number;  /* of the hole, or of the map's text */
	const char *text; /* of a literal */
	size_t length;
};

struct sd_pattern {
	const char *text; /* as written; NULL: there is none */
	int side;
	struct sd_map_element *elements;
	uint32_t n;
	size_t shortest; /* length that every match has at least */
	bool straight;   /* what stands behind a hole tells where it ends */
	struct sd_map_fingerprint print;
};

/* What a hole holds after a match. */
struct sd_map_value {
	const char *text;
	size_t length;
	uint32_t word; /* of a choice */
};

struct sd_map_values {
	struct sd_map_value value[HOLES_MAX];
};

/* Room that matching needs, kept from one to the next; {0} at first. */
struct sd_map_scratch {
	void *room;
	size_t size;
};

void sd_scratch_free(struct sd_map_scratch *scratch);

/* The fingerprint of a name. */
struct sd_map_fingerprint sd_pattern_print(const char *name, size_t length);

/* False where the pattern cannot match a name with this fingerprint. */
static inline bool sd_pattern_may_match(const struct sd_pattern *pattern, const struct sd_map_fingerprint *name)
{
	uint64_t lacking = 0;

	for (int i = 0; i < 4; i++)
		lacking |= pattern->print.bits[i] & ~name->bits[i];
	return lacking == 0;
}

/*
 * Whether the whole name matches; fills values for the holes of the pattern (texts point into name). Holes take as much
 * as they can, those on the left first; choices take the first word that will do. texts are what the map's texts are
 * now. False too when memory is out; scratch->size is then SIZE_MAX.
 */
bool sd_pattern_match(const struct sd_pattern *pattern, const struct sd_map_holes *holes, const char *const *texts,
		      const char *name, size_t length, struct sd_map_scratch *scratch, struct sd_map_values *values);

/* The name that the pattern gives with these values; NULL when memory is out. */
char *sd_pattern_fill(const struct sd_pattern *pattern, const struct sd_map_holes *holes, const char *const *texts,
		      const struct sd_map_values *values, struct sd_arena *arena);

/* Whether the pattern has this hole. */
bool sd_pattern_has(const struct sd_pattern *pattern, uint32_t hole);

/* Whether two patterns, each with its rule's holes, stand for the same names. */
bool sd_pattern_same(const struct sd_pattern *a, const struct sd_map_holes *a_holes, const struct sd_pattern *b,
		     const struct sd_map_holes *b_holes);

/* Works out what the matcher looks at first, once all elements are there. */
void sd_pattern_finish(struct sd_pattern *pattern, const struct sd_map_holes *holes);

#endif
