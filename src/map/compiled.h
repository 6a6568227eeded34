/* SPDX-License-Identifier: Apache-2.0 */
/* A compiled map, as the files of this room share it. */
#ifndef SD_MAP_COMPILED_H
#define SD_MAP_COMPILED_H

#include "base/arena.h"
#include "map/axes.h"
#include "map/map.h"
#include "map/pattern.h"
#include "config/config_fields.h"

enum { LEFT = 0, RIGHT = 1, NO_SIDE = -1 };

#define NONE UINT32_MAX

/* What an option's value is when it is not known yet. */
#define OPEN NONE

struct sd_map_option {
	const char *name;
	const char *text; /* "a|b" */
	const char **values;
	uint32_t nvalues;
	bool from_keys;
	bool from_config; /* the stamp is a field of config.json: it may have other words, and -D is stronger */
	/* A field of a side file that tells the value where the keys do not, and what it says for each value. */
	const char *stamp_file, *stamp_field;
	const char **stamps; /* nvalues, NULL where there is none */
	uint32_t line;       /* of the map itself; 0: it came along */
	bool idle;           /* it came along with stages of another map, none of which asks for it: it is not there */
};

struct sd_map_guard {
	uint32_t option, value;
};

/* A text that a condition decides. */
struct sd_map_text {
	const char *name;
	const char *then, *otherwise;
	int any_side; /* `any LAYOUT PATTERN`: the side, and the pattern; NO_SIDE: the guard decides */
	struct sd_pattern any;
	struct sd_map_holes holes;
	struct sd_map_guard guard;
};

struct sd_map_table {
	const char *name;
	const char **words[2];
	uint32_t nwords;
};

struct sd_map_label {
	const char *name;
	struct sd_pattern pattern;
	struct sd_map_holes holes;
};

/* The size of an axis that shapes do not give. */
struct sd_map_size {
	const char *option; /* -D OPTION=NUMBER */
	uint32_t axis;
	const char **stages; /* the stages that it is for */
	uint32_t nstages;    /* 0: all */
	const char **config; /* paths in config.json */
	uint32_t nconfig;
	bool optional; /* where it is not known, rules that count with it are left out */
	uint32_t line; /* as of an option */
	bool idle;
	/* `of LAYOUT KEY [axes]`: the shape of another tensor of the stage tells it; NO_SIDE: none does. */
	int of_side;
	struct sd_pattern of;
	struct sd_map_holes of_holes;
	struct sd_axes of_axes;
};

/* `known PATTERN`: a name that the map knows, though none of its rules has to take it. */
struct sd_map_place {
	struct sd_pattern key[2]; /* by the layout that is read */
	struct sd_map_holes holes;
	bool module[2]; /* `PATTERN.*`: a parameter's name stands behind it */
	int depth;      /* how many maps lie between that are used as a whole */
};

enum sd_map_arithmetic {
	NO_ARITHMETIC,
	CAST,        /* to rule.cast, both ways */
	TO_DTYPE,    /* `dtype`: to what -D dtype says */
	BLOCK_SCALE, /* `fp8`, `fp4`, `int4`: multiplied by the blocks of SCALE, as float32 */
	TIMES,       /* `times`: multiplied by SCALE, in the wider of both dtypes */
	CONSTANT,    /* `zeros`, `ones` */
};

enum sd_map_rule_direction { BOTH_WAYS, RIGHTWARDS, LEFTWARDS, COPY, COPY_RIGHTWARDS };

enum sd_map_outcome {
	NOT_READ = 0, /* the rule does not go this way */
	MOVE,
	KEEP,
	DROP,
	REFUSE,
	COPIED, /* the tensor of the other side has it already */
};

struct sd_map_scale {
	struct sd_pattern key;
	struct sd_axes axes;
	uint8_t dtype; /* condition, or SD_NO_DTYPE */
};

struct sd_map_side {
	struct sd_pattern key;
	struct sd_axes axes;
	uint8_t dtype; /* read: a condition; written: a cast; SD_NO_DTYPE: neither */
	struct sd_map_scale *scale;
};

/* `if KEY [DTYPE]`, `unless KEY [DTYPE]`: another tensor of the same stage. */
struct sd_map_condition {
	struct sd_pattern key;
	uint8_t dtype;
	bool wanted;
};

/* `if L>=N`, `if L<N`. */
struct sd_map_bound {
	const char *text;
	uint32_t hole;
	bool least; /* L>=N */
	struct sd_map_amount amount;
};

struct sd_map_except {
	struct sd_pattern pattern;
	struct sd_map_holes holes;
};

/* A number hole in the key of one side that is an axis of the other. */
struct sd_map_stack {
	uint32_t hole, axis;
	int key_side;
};

#define STACKS_MAX 2

struct sd_rule {
	const char *file;
	uint32_t line;
	const char *text;
	struct sd_map_guard *guards;
	uint32_t nguards;
	enum sd_map_rule_direction direction;
	enum sd_map_outcome outcome[2]; /* by the side that is read */
	struct sd_map_holes holes;
	struct sd_map_side side[2];
	enum sd_map_arithmetic arithmetic;
	const char *arithmetic_text;
	uint8_t cast;
	uint8_t unpack;    /* BLOCK_SCALE: enum sd_unpack of the codes, or 0 */
	uint8_t exponents; /* and enum sd_exponent of scales of one byte */
	uint32_t constant; /* the bits of the number as float32 */
	const char *why;   /* of a refusal */
	struct sd_map_except *excepts;
	uint32_t nexcepts;
	struct sd_map_condition *conditions;
	uint32_t nconditions;
	struct sd_map_bound *bounds;
	uint32_t nbounds;
	bool counts;      /* it has bounds or shifted holes */
	const char *note; /* what is to be said where it takes a key, or NULL */
	bool if_complete;
	uint32_t stacks;
	struct sd_map_stack stack[STACKS_MAX];
	/* Rules of the stage that read parts of the same key: number in the stage, or NONE. By the side that is read.
	 */
	uint32_t next_part[2];
	bool first_part[2];
};

/* `peft target_modules PATTERN ..`: what adapter_config.json calls what a stage is for, in one form of adapter. */
struct sd_map_peft {
	struct sd_map_guard *guards;
	uint32_t nguards;
	const char *group;     /* the same for what different forms have other names for */
	const char *text;      /* the pattern as it stands, whole */
	const char *container; /* what is behind its holes, without the name: "mlp.experts" */
	const char *name;      /* its last part */
	uint32_t stage;
	bool parameter; /* target_parameters */
};

struct sd_map_stage {
	const char *name;
	struct sd_rule *rules;
	uint32_t nrules;
	size_t rules_room;
	bool siblings; /* some rule looks at another tensor of the stage */
	bool beside;   /* some rule makes something beside what becomes of a tensor */
};

struct sd_map_sample_tensor {
	const char *key;
	uint64_t *shape;
	uint32_t rank;
	uint8_t dtype;
};

/*
 * A key of the left layout that goes to the right one, and comes back unless it is said what becomes of it there. Those
 * with the same defines are one checkpoint.
 */
struct sd_map_sample {
	const char *file;
	uint32_t line;
	const char *group; /* the defines as text */
	const struct sd_define *defines;
	size_t ndefines;
	struct sd_map_sample_tensor left;
	bool one_way;
	struct sd_map_sample_tensor
		right; /* of one that goes one way; no key: it is dropped, or goes along with another */
};

struct sd_map {
	struct sd_arena arena;
	const char *name, *file;
	const char *layout[2];
	const char **models;
	uint32_t nmodels;
	bool if_alone; /* for these models only where no other map is */
	bool own;      /* it says more than `use MAP` */
	bool part;
	struct sd_map_option *options;
	uint32_t noptions;
	size_t options_room;
	struct sd_map_text *texts;
	uint32_t ntexts;
	size_t texts_room;
	struct sd_map_table *tables;
	uint32_t ntables;
	size_t tables_room;
	struct sd_map_label *labels;
	uint32_t nlabels;
	size_t labels_room;
	struct sd_map_size *sizes;
	uint32_t nsizes;
	size_t sizes_room;
	const char **known; /* words that names of both layouts are made of */
	uint32_t nknown;
	size_t known_room;
	const char **roots; /* words that may stand in front of what a pattern says */
	uint32_t nroots;
	size_t roots_room;
	const char **parameters; /* names of what a module holds */
	uint32_t nparameters;
	size_t parameters_room;
	struct sd_map_place *places; /* where names stand; none: its words may stand anywhere */
	uint32_t nplaces;
	size_t places_room;
	struct sd_map_stage *stages;
	uint32_t nstages;
	size_t stages_room;
	struct sd_config_row *rows; /* of config.json */
	uint32_t nrows;
	size_t rows_room;
	const char **elsewhere; /* names of modules that experts have, and others too */
	uint32_t nelsewhere;
	size_t elsewhere_room;
	struct sd_map_peft *pefts;
	uint32_t npefts;
	size_t pefts_room;
	struct sd_map_sample *samples;
	uint32_t nsamples;
	size_t samples_room;
	struct sd_map_axis_names axes;
	uint32_t nuses; /* how often maps were used while it was read */
};

/*
 * idle.c: an option or a size that no rule asks for is an error where the map says it itself, and is marked idle where
 * it came along.
 */
SD_MUST_CHECK enum sd_result sd_map_check_idle(struct sd_map *map, struct sd_error *err);

/* Whether other modules have this name as well as experts. */
bool sd_map_is_elsewhere(const struct sd_map *map, const char *name);

/* Whether it has a label of this name. */
bool sd_map_has_label(const struct sd_map *map, const char *name);

/* Whether -D dtype changes anything: the map marks experts, or dequantises. */
bool sd_map_has_dtype(const struct sd_map *map);

/* check.c: what can be known to be wrong with a rule alone, and links the rules of a stage that share a tensor. */
SD_MUST_CHECK enum sd_result sd_map_check_rule(struct sd_map *map, struct sd_rule *rule, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_map_check_stage(struct sd_map *map, struct sd_map_stage *stage, struct sd_error *err);

/*
 * overlap.c: of two rules of a stage that match one key, the earlier has to be an exception to the later one (it
 * matches nothing else), and every rule needs keys to take. The error shows such a key.
 */
SD_MUST_CHECK enum sd_result sd_map_check_overlap(const struct sd_map *map, struct sd_error *err);

/* Whether the numbers of a hole are known where this side of the rule is read: it has the hole, or a shift of it. */
bool sd_rule_knows(const struct sd_rule *rule, int side, uint32_t hole);

/* Whether a rule makes something more of what it reads on this side, which other rules take all the same. */
static inline bool sd_rule_is_beside(const struct sd_rule *rule, int side)
{
	return rule->outcome[side] == MOVE && (rule->direction == COPY_RIGHTWARDS || rule->arithmetic == CONSTANT);
}

/* Whether a number in the key of this side is an axis on the other one. */
static inline bool sd_rule_stacks(const struct sd_rule *rule, int side)
{
	for (uint32_t i = 0; i < rule->stacks; i++)
		if (rule->stack[i].key_side == side)
			return true;
	return false;
}

/* The side that the conditions of a rule are about. */
static inline int sd_rule_condition_side(const struct sd_rule *rule)
{
	return rule->outcome[LEFT] ? LEFT : RIGHT;
}

/* Whether a rule leaves names as they are: the same pattern on both sides. */
static inline bool sd_rule_same_names(const struct sd_rule *rule)
{
	return sd_pattern_same(&rule->side[LEFT].key, &rule->holes, &rule->side[RIGHT].key, &rule->holes);
}

/* Fails with "FILE:LINE: text". */
enum sd_result sd_map_fail(struct sd_error *err, const char *file, uint32_t line, const char *format, ...)
	SD_PRINTF(4, 5);

#endif
