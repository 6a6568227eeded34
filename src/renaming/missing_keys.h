/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that should be there and are not, gathered for one error. */
#ifndef SD_RENAMING_MISSING_KEYS_H
#define SD_RENAMING_MISSING_KEYS_H

#include "renaming/planner.h"

/* Keys and numbers that the error names. */
#define MISSING_MAX 5

/* Keys that are counted at most: there may be as many as a hostile number says. */
#define MISSING_COUNTED (4u << 20)

/* Begins as {.target, .rule, .of}. */
struct sd_planner_missing {
	const char *target;         /* the tensor that they would go into */
	const struct sd_rule *rule; /* that the error is about */
	uint64_t of;                /* how many numbers there should be */
	/* The rest is gathered. */
	const struct sd_rule *part; /* that would read the first key */
	bool mixed;                 /* others would be read by other rules */
	uint64_t count;
	const char *keys[MISSING_MAX];
	uint64_t numbers, last, number[MISSING_MAX]; /* of the keys, each once */
};

/* Adds a key that a rule would read, in the order of the numbers that it stacks over. After the first MISSING_MAX the
 * key may be NULL. */
void sd_missing_add(struct sd_planner_missing *m, const struct sd_rule *part, uint64_t number, const char *key);

/* The line, in the plan's arena, or NULL when memory is out. */
const char *sd_missing_text(const struct sd_planner_missing *m, struct sd_planner *p);

SD_MUST_CHECK enum sd_result sd_missing_fail(const struct sd_planner_missing *m, struct sd_planner *p);

#endif
