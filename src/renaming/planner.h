/* SPDX-License-Identifier: Apache-2.0 */
/* A plan while it is being made: the tensors as they are between two stages, as the files of this room share them. */
#ifndef SD_RENAMING_PLANNER_H
#define SD_RENAMING_PLANNER_H

#include "base/names.h"
#include "map/compiled.h"
#include "renaming/rename.h"
#include "model/companions.h"
#include "model/siblings.h"

/* A record's (or a part's) way into a tensor. */
struct sd_planner_piece {
	uint32_t record;
	uint32_t target; /* the incoming target that it comes from; NONE: nothing comes, the record is missing */
	uint32_t next;   /* of the same tensor, or NONE */
	uint32_t nsteps;
	const struct sd_step *steps;
	const struct sd_move *move; /* NULL: the whole record, in order */
};

struct sd_planner_tensor {
	const char *name;
	const uint64_t *shape;
	uint32_t rank;
	uint32_t labels;
	uint32_t first, last; /* pieces */
	uint8_t dtype;
	uint64_t number, of; /* as a target has them */
	bool taken;          /* by some rule, so far */
	const char *mixed;   /* that it would have several dtypes; only -D dtype can make them one. NULL: it has one */
	struct sd_map_fingerprint print; /* of the name */
	struct sd_planner_spans *spans;  /* its pieces by place; NULL until somebody asks (spans.h) */
};

/* What is to be said of a rule: of the first key that it took, and how many there were. */
struct sd_planner_note {
	const struct sd_rule *rule;
	const char *text;
	const char *key;
	size_t taken;
};

struct sd_planner {
	const struct sd_map *map;
	struct sd_rename *rename;
	const struct sd_manifest
		*in; /* what comes in; once something is missing, with records for that behind all others */
	struct sd_manifest with_missing;
	size_t nmissing;
	struct sd_manifest *out; /* new names, shapes, moves and steps live in its arena */
	int from;                /* the side that is read */
	uint32_t *option;        /* values; OPEN: not found yet */
	const uint32_t *defined; /* by -D, or OPEN */
	const char **texts;
	uint64_t *sizes; /* by the map's sizes; SIZE_OPEN: not known */
	uint8_t dtype;   /* of -D dtype=, or SD_NO_DTYPE */
	bool *decided;   /* by stage: a rule that an option decides took a key */
	bool changes;    /* a rule took a key that does more than to let it pass, or -D dtype cast one */
	struct sd_planner_tensor *tensors;
	size_t ntensors, tensors_room;
	/* The tensors in front of the stage; their names only once a rule, or a size of the map, looks for others. */
	const struct sd_planner_tensor *before;
	size_t nbefore;
	bool named;
	struct sd_names names;
	struct sd_findings findings;   /* what is odd among the names that came in */
	struct sd_planner_note *notes; /* by the map's rules that have one */
	size_t nnotes, notes_room;
	struct sd_planner_piece *pieces;
	size_t npieces, pieces_room;
	struct sd_equal *equal; /* records, as the plan has them */
	size_t nequal, equal_room;
	struct sd_map_scratch scratch;
	struct sd_companions companions; /* of the records */
	const char *asked, *asked_next;  /* the name that the asked tensor has in front of the stage, and behind it */
	uint32_t step;                   /* of the rename, for those who look on */
	bool borne;                      /* something was wrong, and the rest went on: see first */
	struct sd_error first;
	struct sd_error *err;
	unsigned nlooked; /* lines on missing keys for which all names were looked at */
};

/* The manifest's targets as tensors: those of one name are the pieces of one. */
SD_MUST_CHECK enum sd_result sd_planner_read(struct sd_planner *p);

/* Frees what the planner holds; the manifest `out`, the options and what was handed in stay the caller's. */
void sd_planner_free(struct sd_planner *p);

/* Keeps an edit that a line advises, for who made the rename; NULL: none. */
void sd_planner_advise(struct sd_planner *p, const char *edit);

/* SD_OK in place of SD_INPUT where all that is wrong is asked for; the first error is kept. */
SD_MUST_CHECK enum sd_result sd_planner_bear(struct sd_planner *p, enum sd_result result);

/* The key of the record that a tensor comes from: what the user knows it by. */
const char *sd_planner_source(const struct sd_planner *p, const struct sd_planner_tensor *t);

/* Notes a line that is about no rule; SD_INPUT, and the line, with strict. */
SD_MUST_CHECK enum sd_result sd_planner_tell(struct sd_planner *p, const char *line);

/* Gives a tensor a name. */
void sd_planner_name(struct sd_planner_tensor *t, const char *name);

/*
 * The number, in front of the stage, of the tensor that a pattern names with these holes, or NONE; that too when memory
 * is out, and scratch.size is SIZE_MAX then.
 */
uint32_t sd_planner_other(struct sd_planner *p, const struct sd_pattern *key, const struct sd_map_holes *holes,
			  const struct sd_map_values *values);

/* Counts a key for what a rule has to say: one line for each rule and text. */
SD_MUST_CHECK enum sd_result sd_planner_note(struct sd_planner *p, const struct sd_rule *rule, const char *text,
					     const struct sd_planner_tensor *t);

/* Appends a tensor with all pieces of another. */
SD_MUST_CHECK enum sd_result sd_planner_add(struct sd_planner *p, const struct sd_planner_tensor *t);

/* Appends a piece to a tensor. */
SD_MUST_CHECK enum sd_result sd_planner_add_piece(struct sd_planner *p, struct sd_planner_tensor *t,
						  const struct sd_planner_piece *piece);

/*
 * copies.c: that a copy, which is dropped, has to be equal to the tensor that is kept. SD_INPUT where it cannot be, or
 * where the data step could not tell.
 */
SD_MUST_CHECK enum sd_result sd_planner_equal(struct sd_planner *p, const struct sd_rule *rule,
					      const struct sd_planner_tensor *kept,
					      const struct sd_planner_tensor *copy);

/* Adds a record of data that should be there. *number is its number. */
SD_MUST_CHECK enum sd_result sd_planner_missing(struct sd_planner *p, const struct sd_record *record, uint32_t *number);

/* Puts a step behind a piece's. */
SD_MUST_CHECK enum sd_result sd_planner_step(struct sd_planner *p, struct sd_planner_piece *piece,
					     const struct sd_step *step);

/* Puts a cast behind a piece's steps. */
SD_MUST_CHECK enum sd_result sd_planner_cast(struct sd_planner *p, struct sd_planner_piece *piece, enum sd_dtype dtype);

/* Whether -D dtype casts it: numbers with a fraction, but for exponents, which are scales. */
bool sd_planner_castable(uint8_t dtype);

/* direction.c: the side to write, where it is not said, from the keys. */
SD_MUST_CHECK enum sd_result sd_rename_direction(struct sd_rename *rename, const struct sd_manifest *in,
						 struct sd_error *err);

/* options.c: what -D says, what the keys tell. */
SD_MUST_CHECK enum sd_result sd_planner_options(struct sd_planner *p);
SD_MUST_CHECK enum sd_result sd_planner_find_options(struct sd_planner *p, const struct sd_map_stage *stage);

/* The value that the option's stamp says, or OPEN. */
SD_MUST_CHECK enum sd_result sd_planner_stamp(const struct sd_planner *p, const struct sd_map_option *option,
					      uint32_t *value);

/* Whether the rule is for the options as they are; one that is still open speaks against nothing. */
bool sd_planner_guards(const struct sd_planner *p, const struct sd_rule *rule);

/* The sizes that are known from the start in this stage; with a rule and the holes of a key, those that other tensors
 * tell too. */
void sd_planner_sizes(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
		      const struct sd_map_values *values, axis_sizes sizes);

/* adapter.c: the files beside a LoRA adapter, in out, follow the form that it gets. */
SD_MUST_CHECK enum sd_result sd_planner_adapter(struct sd_planner *p);

/* config.c: config.json, in out, follows the layout. */
SD_MUST_CHECK enum sd_result sd_planner_config(struct sd_planner *p);

/* stage.c */

enum sd_planner_fit {
	NO_MATCH,
	MATCH,   /* and everything fits */
	MISFIT,  /* the key matches, its shape does not fit the axis list */
	UNKNOWN, /* the key matches, the rule counts with a size that is not known */
};

/*
 * number.c: gives the holes that are shifts of those of this side their numbers, or the other way round, and looks at
 * the rule's bounds. MATCH, NO_MATCH or UNKNOWN.
 */
enum sd_planner_fit sd_planner_count(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
				     int side, struct sd_map_values *values);

/* Fails for a key whose rule is UNKNOWN, unless the map says that it can do without the size. */
SD_MUST_CHECK enum sd_result sd_planner_unknown(struct sd_planner *p, const struct sd_map_stage *stage,
						const struct sd_rule *rule, const struct sd_planner_tensor *t);

/* Whether a rule takes a tensor, but for its guards and what it wants of other tensors. */
enum sd_planner_fit sd_planner_fit(struct sd_planner *p, const struct sd_map_stage *stage, const struct sd_rule *rule,
				   const struct sd_planner_tensor *t, struct sd_map_values *values);

/* Turns the tensors of the planner into those behind the stage. */
SD_MUST_CHECK enum sd_result sd_planner_stage(struct sd_planner *p, const struct sd_map_stage *stage);

/* What a rule makes of a tensor: the tensors of one name are a group. */
struct sd_planner_member {
	uint32_t tensor;
	uint32_t next; /* of the group, or NONE */
	uint32_t rule;
	uint32_t scale;  /* the tensor of its scale, or NONE */
	uint32_t family; /* see family.h, or NONE */
	uint64_t index[STACKS_MAX];
};

struct sd_planner_group {
	const char *name;
	uint32_t first, last;
	uint32_t members;
};

struct sd_planner_families;

/*
 * merge.c: makes one tensor of a group, or several where it lacks a member and may (`if complete`). before: the tensors
 * in front of the stage.
 */
SD_MUST_CHECK enum sd_result sd_planner_merge(struct sd_planner *p, const struct sd_map_stage *stage,
					      struct sd_planner_tensor *before, const struct sd_planner_member *members,
					      const struct sd_planner_families *families,
					      const struct sd_planner_group *group);

#endif
