/* SPDX-License-Identifier: Apache-2.0 */
/* An explanation while it is being made, as the explain*.c files share it. */
#ifndef SD_TOOLS_EXPLANATION_H
#define SD_TOOLS_EXPLANATION_H

#include "tools/explain.h"
#include "base/glob.h"
#include "base/json.h"
#include "base/memstream.h"
#include "base/names.h"
#include "base/nearest.h"
#include "base/text.h"
#include "move/box.h"
#include "tools/why.h"

#define NONE UINT32_MAX

/* Of names that no rule takes so many are looked at, and so many rules told that are near. */
#define NEAREST_TRIED 64
#define NEAREST_MAX 3

/* No way is longer: a stage, an edit and --exclude have one step each. */
#define WAY_MAX 256

/* A tensor goes from one name to the next. */
struct edge {
	uint32_t from, to; /* names; NONE: it is dropped */
	uint32_t rule, step;
	uint32_t next;     /* of the same from, or NONE */
	const char *text;  /* of an edit, or of --exclude */
	const char *holes; /* of a rule */
	bool joins;
};

enum asked { UNKNOWN, NO, YES };

struct name {
	const char *text;
	uint32_t first, last; /* edges */
	bool taken;           /* by a rule, with this name */
	enum asked asked;
	uint32_t target; /* the first target of the plan with this name, or NONE */
};

/* One source of one tensor that comes out. */
struct row {
	uint32_t source;                /* target of what came in; NONE: a record that is missing */
	uint32_t name;                  /* of what comes out; NONE: it is dropped */
	const struct sd_record *record; /* what is missing */
	const struct sd_target *target; /* NULL: it does not come out, or takes part as an operand */
	const uint32_t *way;            /* edges */
	uint32_t length;
	const char *kind; /* for people: what rows that are folded have in common */
	bool joins;
};

struct explanation {
	const struct explain_options *opt;
	const struct sd_manifest *in;
	const struct sd_map *map;
	const struct sd_plan *plan;
	const struct sd_rename *rename;
	FILE *out; /* standard output, or, for people, what is wrapped on its way there */
	struct sd_arena arena;
	struct sd_names names;
	struct name *name;
	size_t nnames, names_room;
	struct edge *edges;
	size_t nedges, edges_room;
	size_t *counts; /* by rule */
	size_t ncounts, counts_room;
	uint32_t base, steps; /* of this rename: its first step; and the number behind the last one */
	uint32_t *first;      /* of each record that comes out: its first target */
	struct row *rows;
	size_t nrows, rows_room;
	struct sd_glob **globs; /* of the keys */
	bool *used;
	/* Without keys only this is known of names: which targets of what comes to the map a rule takes. Tensors mostly
	 * come in their order, under the manifest's own texts; others are in names. */
	const struct sd_manifest *to_map;
	bool *taken;
	size_t at; /* the target that came last, in this step */
	uint32_t at_step;
	bool failed; /* memory is out */
};

/* The tensor of a source: what came in, or what is missing. */
struct came {
	const char *name;
	enum sd_dtype dtype;
	const uint64_t *shape;
	uint32_t rank;
};

/* A copy of a text in the arena, or "" where memory is out. */
const char *explain_keep(struct explanation *e, const char *text);

/* The key that a row comes from. */
const char *explain_key_of(const struct explanation *e, const struct row *row);

/* What a row comes from. */
struct came explain_what_came(const struct explanation *e, const struct row *row);

/* What is to be done on the way, or why there is nothing. */
void explain_write_steps(FILE *out, const struct explanation *e, const struct row *row);

/* The part of the source that a row takes. */
void explain_write_source_part(FILE *out, const struct explanation *e, const struct row *row);

/* The part of what comes out that a row fills. */
void explain_write_part(FILE *out, const struct explanation *e, const struct row *row);

/* For people: the part of what comes out, or, of that which is taken apart, "from" a part; "" where both are whole. */
void explain_write_parts(FILE *out, const struct explanation *e, const struct row *row, unsigned *numbered);

/* The rules that a row goes through. */
void explain_write_rules(FILE *out, const struct explanation *e, const struct row *row);

/* The tensor that comes out, by one of its targets: an operand has none of its own. */
const struct sd_target *explain_made_by(const struct explanation *e, const struct row *row);

/* A row as a line with tabs, and as JSON. */
void explain_print_tsv(const struct explanation *e, const struct row *row);

void explain_print_json(struct explanation *e, const struct row *row);

/* Names in folded lines, each behind a beginning and in front of an end, and how many they are; twice the same is once.
 */
void explain_print_folded(struct explanation *e, const char **names, size_t n, bool counts, const char *before,
			  const char *behind);

/* All rows for people. */
void explain_print_for_people(struct explanation *e);

#endif
