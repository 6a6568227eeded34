/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of sd-diff share: what was asked for, the two sides, and what is known of each pair of tensors. */
#ifndef SD_TOOLS_DIFF_H
#define SD_TOOLS_DIFF_H

#include "base/limits.h"
#include "renaming/rename.h"
#include "move/compare.h"
#include "model/selection.h"
#include "model/listing.h"
#include "flow/source.h"
#include "flow/view.h"
#include "tools/look_options.h"

struct diff_options {
	struct sd_limits limits;
	struct sd_selection choice;
	struct sd_look look;
	struct look_options form;
	struct sd_tolerance tolerance;
	bool all, quiet, report, names, stat, config, fold, unfold;
	uint64_t count; /* of elements to be listed of each tensor */
	unsigned threads;
	const char *map, *to;
	struct sd_define *defines;
	size_t ndefines, defines_room;
	const char *operand[2];
};

#define DIFF_NONE UINT32_MAX

/* A or B. */
struct diff_side {
	const char *name;
	struct sd_source *opened;  /* NULL: a list of checksums */
	struct sd_source *turned;  /* as the map makes it; NULL: it is as it was opened */
	struct sd_source *spooled; /* the same with its data in a spool, or NULL */
	struct sd_source *source;  /* the last of these that there is */
	const struct sd_manifest *m;
	struct sd_manifest *listed; /* of a list */
	struct sd_map *map;
	struct sd_plan plan;            /* of the map */
	struct sd_execution *execution; /* of what was pending, if all of it is in the spool */
	struct sd_listing listing;
	bool *chosen;   /* of each tensor of the listing */
	uint64_t *sums; /* of each, from a list; NULL: it is none */
	bool random;    /* the data of all tensors can be had in any order */
};

enum diff_status {
	DIFF_SAME,
	DIFF_VALUES,
	DIFF_DTYPE,
	DIFF_SHAPE,
	DIFF_RENAMED, /* the same bytes under another name */
	DIFF_PART,    /* the same bytes, in a larger tensor under another name */
	DIFF_REMOVED,
	DIFF_ADDED,
	DIFF_STATUSES,
};

/* Tensors of both sides that belong together, or one alone. */
struct diff_pair {
	uint32_t tensor[2]; /* of the listings; DIFF_NONE: there is none */
	enum diff_status status;
	bool compared;          /* d holds */
	struct sd_difference d; /* numbers: two of each element of a C64 */
	const char *note;       /* what more is known, or NULL */
	bool summed;            /* of what is in one side only: its sum is known already */
	uint64_t sum;
	uint64_t *list; /* the first numbers that differ, for --count */
	size_t nlist;
	struct sd_number_pair {
		double a, b;
	} * values; /* and what they are */
};

struct diff {
	const struct diff_options *opt;
	struct diff_side side[2];
	struct diff_pair *pairs; /* in natural order of the names of A, or of B where there is none in A */
	size_t npairs, pairs_room;
	struct sd_arena arena;
	bool differ;
};

/* Opens a side, finds its tensors, and chooses among them. */
SD_MUST_CHECK enum sd_result diff_open(struct diff *diff, struct sd_error *err);
void diff_close(struct diff *diff);

static inline const struct sd_listed *diff_tensor(const struct diff *diff, const struct diff_pair *p, int side)
{
	return p->tensor[side] == DIFF_NONE ? NULL : &diff->side[side].listing.tensors[p->tensor[side]];
}

/* The name under which a pair is sorted and shown: that of A, or where it is not in A that of B. */
static inline const char *diff_name(const struct diff *diff, const struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);

	return a ? a->name : b->name;
}

/*
 * Where neither side's data can be had in any order, one is read into a spool: as its data is asked for, or all of it
 * at once if steps are pending on both sides. A side becomes random then.
 */
SD_MUST_CHECK enum sd_result diff_spool(struct diff *diff, struct sd_error *err);
void diff_spool_free(struct diff_side *side);

/* Finds the pairs, by names, and compares dtypes and shapes. */
SD_MUST_CHECK enum sd_result diff_pair_names(struct diff *diff, struct sd_error *err);

/* Compares the data of all pairs, or with -q until one differs. */
SD_MUST_CHECK enum sd_result diff_compare_data(struct diff *diff, struct sd_error *err);

/* The part of it where one side's data comes in its own order only, or is a list of checksums. */
SD_MUST_CHECK enum sd_result diff_compare_flow(struct diff *diff, struct sd_error *err);

/* What the data of pairs that are not the same has to do with each other: renamed, transposed, a part. */
SD_MUST_CHECK enum sd_result diff_explain(struct diff *diff, struct sd_error *err);

/* The part of it that finds tensors in larger ones. */
SD_MUST_CHECK enum sd_result diff_find_parts(struct diff *diff, struct sd_error *err);

/* What was found in the numbers of a pair: its status, and what more there is to say. */
SD_MUST_CHECK enum sd_result diff_settle(struct diff *diff, struct diff_pair *p, struct sd_error *err);

/* One more thing to say about a pair. */
SD_MUST_CHECK enum sd_result diff_note(struct diff *diff, struct diff_pair *p, struct sd_error *err, const char *format,
				       ...) SD_PRINTF(4, 5);

/* ---- data ---- */

enum diff_kind {
	DIFF_BYTES,   /* whether two are the same bytes; stops where they are not */
	DIFF_NUMBERS, /* how they differ */
	DIFF_SUM,     /* the XXH3 of the first one */
};

/* Something to be done with the data of one tensor, or two; of two as many elements. */
struct diff_task {
	enum diff_kind kind;
	uint32_t tensor[2];
	const struct sd_move *then[2]; /* what is to be compared in their place: see sd_view_make. May be NULL */
	int of[2];                     /* which sides they are of */
	void *user;
	/* What comes out: */
	bool differ;
	struct sd_difference d;
	uint64_t sum;
};

/* Does all tasks on threads. first: only until the first one that differs. */
SD_MUST_CHECK enum sd_result diff_do(const struct diff *diff, struct diff_task *tasks, size_t n, bool first,
				     struct sd_error *err);

/* The first numbers of a pair that differ. */
SD_MUST_CHECK enum sd_result diff_list(struct diff *diff, struct diff_pair *p, struct sd_error *err);

/* ---- printing ---- */

/* The word for a status. */
const char *diff_word(enum diff_status status);

/* Writes where number i of a pair's tensor is: "[3,7]". */
void diff_write_index(FILE *out, const struct sd_listed *t, uint64_t i);

/* Writes the key and the place in the source's own layout of number i: "key[6,7,35]". False where that is the same. */
bool diff_write_origin(FILE *out, const struct diff *diff, const struct diff_pair *p, int side, uint64_t i);

/* Writes a member of an object that is not its first; what is not finite as a string. */
void diff_json_number(const char *name, double number);

/* Whether a pair is shown. */
static inline bool diff_shows(const struct diff *diff, const struct diff_pair *p)
{
	return p->status != DIFF_SAME || diff->opt->all;
}

SD_MUST_CHECK enum sd_result diff_print_lines(const struct diff *diff, struct sd_error *err);
SD_MUST_CHECK enum sd_result diff_print_table(const struct diff *diff, struct sd_error *err);
SD_MUST_CHECK enum sd_result diff_print_stat(const struct diff *diff, struct sd_error *err);

/* Compares metadata and side files, and prints what differs. */
SD_MUST_CHECK enum sd_result diff_print_config(struct diff *diff, struct sd_error *err);

#endif
