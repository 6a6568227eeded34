/* SPDX-License-Identifier: Apache-2.0 */
/* A comparison of siblings while it is being made: stacks (layers, experts), their units, the parts of units, and
 * classes of names. For the siblings*.c files alone. */
#ifndef SD_MODEL_SIBLINGS_SEARCH_H
#define SD_MODEL_SIBLINGS_SEARCH_H

#include "model/siblings.h"
#include "base/names.h"
#include "base/text.h"
#include "model/companions.h"
#include "model/config_json.h"
#include "model/ends.h"
#include "model/stack.h"

#define EXPERTS "experts."
#define NAME_MAX_LENGTH 480 /* longer names are not looked at */
#define NUMBER_DIGITS 6
#define NUMBERS_MAX 4   /* in a name */
#define KINDS_MAX 32    /* of a module in a stack; where there are more, they are no kinds at all */
#define MODULES_MAX 64  /* of a unit, that are looked at */
#define TYPES_MAX 65536 /* layer_types that are read */
#define SLIPS 3         /* letters that may be wrong in a name that was meant */
#define VARIANTS_MAX 12 /* shapes and dtypes of one class, by types of layers */
#define NAMED_MAX 5
#define FINDINGS_MAX 1000
#define TOLD_MAX 5  /* findings with a line of their own */
#define NEAR_MAX 16 /* missing names for which a near one is looked for among all */
#define SHAPE_HOSTS                                                                                                    \
	5 /* layers that say what shape one should have, where config.json does not say that all are alike */
#define KNOWN_HOSTS 3   /* where it does, or where it is about dtypes or swapped sizes */
#define LACKING_MAX 64  /* units that may lack a module; where more do, that is a choice */
#define MISSING_HOSTS 3 /* siblings that say what a unit should have */

struct sd_sibling_stack {
	const char *prefix; /* "model.layers." */
	const char *word;   /* "layers", in the prefix */
	uint32_t pattern;   /* of the prefix with numbers as "*": stacks that are alike have the same */
	size_t begin, end;  /* its units, in order of their numbers */
};

struct sd_sibling_unit {
	uint32_t stack, number;
	size_t begin, end; /* its parts */
	uint32_t type;     /* by layer_types; 0: not told */
	bool told;         /* that its type is another one */
};

struct sd_sibling_part {
	const char *text; /* ".mlp.experts.*.up_proj.weight" */
	uint32_t module;  /* its first word */
};

/* A unit's parts that are of one module. */
struct sd_sibling_slot {
	uint32_t module, unit;
	uint64_t print;
};

/* One shape and dtype that members of a class have, in layers of one type. */
struct sd_sibling_variant {
	const struct sd_target *first;
	size_t n;
	uint32_t type, unit; /* unit: of the first one, the outermost; SD_NO_NAME: it is in none */
	bool spread;         /* that others are in other units */
};

/* All names that are the same but for their numbers. */
struct sd_sibling_class {
	const char *pattern;
	size_t n;                    /* members */
	uint32_t parts[NUMBERS_MAX]; /* behind each number, up to the first one that no stack has */
	size_t nparts;
	struct sd_sibling_variant variants[VARIANTS_MAX];
	size_t nvariants; /* VARIANTS_MAX + 1: more */
};

/* A stack whose beginning is another one's with a slip. */
struct sd_sibling_slip {
	const struct sd_stack *is, *meant;
};

/* A name and where its numbers stand. */
struct sd_sibling_name {
	const char *name;
	size_t length;
	size_t n;
	struct {
		size_t at, end;
		uint32_t value;
	} number[NUMBERS_MAX];
};

struct sd_siblings {
	const struct sd_manifest *m;
	struct sd_arena *arena;
	struct sd_findings *findings;
	struct sd_error *err;
	struct sd_names names, prefixes, patterns, unit_names, part_names, class_names;
	struct sd_sibling_stack *stacks;
	size_t nstacks, stacks_room;
	struct sd_sibling_unit *units;
	size_t nunits, units_room;
	struct recent {
		const char *name;
		size_t length;
		uint32_t unit;
	} recent[NUMBERS_MAX]; /* of each number of a name the last unit: the next name mostly is of the same */
	struct sd_names module_names;
	struct sd_sibling_part *parts; /* by number */
	size_t nparts, parts_room;
	uint64_t *entries; /* unit << 32 | part; sorted, each once */
	size_t nentries, entries_room;
	uint32_t *order; /* units by stack and number */
	struct sd_sibling_class *classes;
	size_t nclasses, classes_room;
	struct sd_names type_names;
	uint32_t *types; /* of layer_types, by the layer's number */
	size_t ntypes, types_room, near;
	const char *layers; /* what stands in front of the numbers of the layers that layer_types is about */
	size_t layers_length;
	struct sd_stack stacks_of[SD_STACKS_MAX]; /* layers by what stands in front of them */
	struct sd_sibling_slip slips[SD_STACKS_MAX];
	size_t nslips, nzeros, lora; /* lora: names that are of an adapter */
	const char *zero; /* the first name that has a number with a 0 in front */
	bool adapter, quantised, memory;
};

/* Finds the numbers that are parts of a name by themselves. False for a name that is not looked at. */
bool sd_siblings_parse(const char *name, struct sd_sibling_name *p);

/* Writes a piece of a name, from byte begin to end, with its numbers as "*". */
void sd_siblings_write_pattern(const struct sd_sibling_name *p, size_t begin, size_t end, char *out);

/* Enters a name into the table of names. */
void sd_siblings_read_name(struct sd_siblings *s, const struct sd_target *t);

/* Whether a name is of a stack. */
bool sd_siblings_is_in(const char *name, const struct sd_stack *stack);

/* The same name in another stack, in room for it; NULL: it has none. */
const char *sd_siblings_move_name(const char *name, const struct sd_stack *from, const struct sd_stack *to,
				  char room[NAME_MAX_LENGTH + 1]);

/* Takes the 0 from the front of a name's numbers. */
bool sd_siblings_strip_zeros(const char *name, char room[NAME_MAX_LENGTH + 1]);

/* Enters a tensor into its units and its class. */
void sd_siblings_read_target(struct sd_siblings *s, const struct sd_target *t);

/* Gives each unit its parts, in order, each once. */
void sd_siblings_sort_parts(struct sd_siblings *s);

/* Sorts units by stack and number. */
void sd_siblings_sort_units(struct sd_siblings *s);

/* Takes one value of layer_types; user is the struct sd_siblings. */
void sd_siblings_take_type(void *user, const char *value);

/* The stack that config.json counts; NULL: none. */
struct sd_sibling_stack *sd_siblings_main_stack(struct sd_siblings *s);

/* Whether two tensors are of one dtype and shape. */
bool sd_siblings_same_data(const struct sd_target *a, const struct sd_target *b);

/* Compares the two matrices of each module of an adapter. */
void sd_siblings_compare_adapters(struct sd_siblings *s);

/* Compares the modules of an adapter with those that adapter_config.json names. */
void sd_siblings_compare_targets(struct sd_siblings *s);

/* Tells of matrices that have the adapter's name in their own, as they have it in training alone. */
void sd_siblings_tell_live(struct sd_siblings *s);

/* Compares sizes of the language model's tensors with each other, and with what config.json says. */
void sd_siblings_compare_sizes(struct sd_siblings *s);

/* Compares the shapes and dtypes of each class. */
void sd_siblings_compare_shapes(struct sd_siblings *s);

/* Adds a finding, for the caller to fill in. NULL: there are too many, or memory is out. */
struct sd_finding *sd_siblings_add_finding(struct sd_siblings *s, enum sd_oddity kind, const char *name);

/* Whether a unit has a part. */
bool sd_siblings_has_part(const struct sd_siblings *s, const struct sd_sibling_unit *u, uint32_t part);

/* "layers" or "experts", of which one is meant if there is one. */
const char *sd_siblings_one_of(const char *among, size_t n, char out[32]);

/* The tensor of a name, or NULL. */
const struct sd_target *sd_siblings_find_target(const struct sd_siblings *s, const char *name);

/* Whether so many units say what one of the others should be like. */
bool sd_siblings_outweighs(size_t host, size_t odd);

/* Whether a unit has a module. */
bool sd_siblings_has(const struct sd_siblings *s, const struct sd_sibling_unit *u, uint32_t module);

/* Compares the units of a stack. */
void sd_siblings_compare_units(struct sd_siblings *s, const struct sd_sibling_stack *stack);

/* Finds missing numbers and wrong counts in all stacks. layers: the stack that config.json counts, or NULL. */
void sd_siblings_find_all_gaps(struct sd_siblings *s, const struct sd_sibling_stack *layers);

/* Tells of a missing embedding, norm or head; user is the struct sd_siblings. */
void sd_siblings_tell_end(void *user, const char *missing);

/* Finds what one layer has and no other. */
void sd_siblings_find_extras(struct sd_siblings *s);

/* Finds names with a wrapper's word. */
void sd_siblings_find_wrapper(struct sd_siblings *s);

/* Compares what stands in front of layers. What a slip has is compared as if it were right. */
void sd_siblings_compare_beginnings(struct sd_siblings *s);

/* Tells of numbers with a 0 in front. */
void sd_siblings_tell_zeros(struct sd_siblings *s);

#endif
