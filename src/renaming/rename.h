/* SPDX-License-Identifier: Apache-2.0 */
/* What sd-rename does to a manifest: a map, edits by hand, exclusion. Names and places change, never a byte of data. */
#ifndef SD_RENAMING_RENAME_H
#define SD_RENAMING_RENAME_H

#include "base/regex.h"
#include "map/edit.h"
#include "map/map.h"
#include "flow/driver.h"

/* One thing that happened to one tensor, for --explain. All texts are valid during the call only. */
struct sd_rename_event {
	uint32_t step; /* counts stages, edits and --exclude in the order in which tensors go through them */
	uint32_t rule; /* as sd_map_rule numbers them; SD_NO_RULE: none */
	bool joins; /* to is the tensor in front of the stage that this one goes along with, as the scale of a weight */
	const char *stage; /* NULL: not by the map, see text */
	const char *file;  /* of the rule; NULL: no rule of the stage takes the key, which passes */
	uint32_t line;
	const char *text;  /* the rule as written */
	const char *from;  /* the tensor's name before */
	const char *to;    /* and after; NULL: it is dropped */
	const char *holes; /* "L=3, x=gate_proj", or "" */
};

enum sd_why_reason {
	SD_WHY_TAKES,     /* it takes it */
	SD_WHY_EARLIER,   /* another rule of the stage has taken it before */
	SD_WHY_DIRECTION, /* the rule goes the other way */
	SD_WHY_OPTION,    /* the rule is for another value of an option */
	SD_WHY_DTYPE,
	SD_WHY_EXCEPT,    /* the rule says so itself */
	SD_WHY_CONDITION, /* another tensor is there, or is not; or a number is too large, or too small */
	SD_WHY_SCALE,     /* its scale is not there */
	SD_WHY_AXES,      /* the shape has not the dimensions of the rule */
	SD_WHY_SIZE,      /* a size is not known */
	SD_WHY_TEXT,      /* the name is another one */
};

/* The word for a reason: "takes", "earlier" and so on. */
const char *sd_why_word(enum sd_why_reason reason);

/* Why a rule does not take a tensor. All texts are valid during the call only. */
struct sd_why {
	uint32_t rule;    /* as sd_map_rule numbers them */
	const char *name; /* of the tensor, in front of the rule's stage */
	enum sd_why_reason reason;
	const char *expected, *found; /* or NULL */
	size_t letters;               /* that the rule's pattern has */
	/* SD_WHY_TEXT: the place in the name, how many letters of the rule are not found, and what has to go from the
	 * front of the name, in bytes, so that the rule would match; 0: nothing helps. */
	size_t position, missing, behind;
};

struct sd_rename {
	const struct sd_map *map; /* NULL: none */
	int to; /* the side to write: 0 left, 1 right, -1: found from the keys, and then written here */
	const struct sd_define *defines;
	size_t ndefines;
	const struct sd_edit *const *edits; /* in order, after the map */
	size_t nedits;
	const struct sd_regex_list *exclude; /* of names as they come out; NULL: none */
	/* Of tensors marked as experts', parts may be missing: they become records that are (SD_MISSING), as the rank
	 * that the plan is for may have others. */
	bool leave_missing;
	bool some;      /* the tensors are only some of a checkpoint's: no group of them has to be there */
	bool strict;    /* whatever would be noted is an error, and so are names of words that the map does not know */
	bool compared;  /* names have been compared with each other already */
	bool all_taken; /* a key that no rule takes is refused */
	bool drop_unequal; /* what a map takes for a copy is dropped whatever it is */
	bool keep_config;  /* config.json and the files beside an adapter stay as they are */
	/* To look at the plan only: what is wrong with some tensors (SD_INPUT) leaves them out of it, and the first
	 * such error is the result, with a plan. */
	bool go_on;
	void (*event)(void *user, const struct sd_rename_event *event); /* or NULL */
	bool no_holes;                                                  /* events need no text of holes */
	void *user;
	/* A tensor, by the name with which it comes to the map, of which each rule says why it does not take it; or
	 * NULL.
	 */
	const char *asked;
	void (*why)(void *user, const struct sd_why *why);
	/* Written here: what the map's notes say of this checkpoint, one line each; they live as long as the plan. */
	const char *const *notes;
	size_t nnotes;
	bool idle;         /* and whether the map does no more than to let all keys pass; */
	char advised[512]; /* and the edit for -e that a line advises first, or "" */
};

/*
 * Makes the plan. It needs no data. SD_USAGE where a define is wrong or the direction cannot be told, SD_INPUT where
 * the checkpoint does not fit the map; texts name keys and FILE:LINE of rules. The plan borrows from in and from
 * nothing else. Without success there is none (plan->manifest is NULL), but for go_on.
 */
SD_MUST_CHECK enum sd_result sd_rename_plan(struct sd_rename *rename, const struct sd_manifest *in,
					    struct sd_plan *plan, struct sd_error *err);

/* check_samples.c: takes the map's samples to the right layout and back; they have to be as they were. */
SD_MUST_CHECK enum sd_result sd_map_check_samples(const struct sd_map *map, struct sd_error *err);

/* What keys tell about a manifest: those that a rule both ways gives another name. */
struct sd_evidence {
	const char *key[2]; /* by side: the first that it does so for on the way from this side alone, or NULL */
	size_t keys[2];     /* how many it does so for, on the way from each side */
};

/* Of a rename its map and its defines matter. The keys are those of in. */
SD_MUST_CHECK enum sd_result sd_rename_evidence(const struct sd_rename *rename, const struct sd_manifest *in,
						struct sd_evidence *evidence, struct sd_error *err);

/* How many names the map does not know, in the layout of which it knows the most; all, where it says no places. Of a
 * rename its map and its defines matter. */
SD_MUST_CHECK enum sd_result sd_rename_unknown(const struct sd_rename *rename, const struct sd_manifest *in, size_t *n,
					       struct sd_error *err);

/* What the names of layers begin with in released models: "", "model." and so on, with NULL behind the last. */
extern const char *const sd_beginnings[];

/*
 * The first name of a layer with something in front of what those of released models begin with: *extra is the length
 * of that. NULL: there is none.
 */
const char *sd_unusual_beginning(const struct sd_manifest *m, size_t *extra);

#endif
