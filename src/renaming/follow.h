/* SPDX-License-Identifier: Apache-2.0 */
/* What a map would do to a tensor of some name, whatever its shape. */
#ifndef SD_RENAMING_FOLLOW_H
#define SD_RENAMING_FOLLOW_H

#include "renaming/planner.h"

/* The end of a name's way through the stages of a map. */
struct sd_followed {
	const char *name;           /* NULL: memory is out */
	bool moved;                 /* some rule on the way stacks, splits or turns it: the name is the one so far */
	bool dropped;               /* or refused */
	const struct sd_rule *rule; /* the rule that moves it, or NULL */
	bool said;                  /* a rule on the way, with a name that it took, was what look() is for */
};

/* What looks at each rule on the way, with the name that it takes. */
struct sd_follow_look {
	bool (*look)(void *user, const struct sd_rule *rule, const char *name);
	void *user;
};

/* Behind the last stage of a map, when the planner looks for no other tensors any more. */
struct sd_followed sd_follow(struct sd_planner *p, const char *name);

/* The same; goes no further than look() is true. */
struct sd_followed sd_follow_looking(struct sd_planner *p, const char *name, const struct sd_follow_look *look);

#endif
