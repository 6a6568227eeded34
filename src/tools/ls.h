/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of sd-ls share: what was asked for, and the source that is being listed. */
#ifndef SD_TOOLS_LS_H
#define SD_TOOLS_LS_H

#include "base/limits.h"
#include "base/memstream.h"
#include "model/selection.h"
#include "model/siblings.h"
#include "model/listing.h"
#include "flow/source.h"
#include "tools/look_options.h"

enum ls_sort { LS_ORDER, LS_NAME, LS_SIZE, LS_DTYPE, LS_FILE };

/* The columns of a line for programs. */
enum ls_column {
	LS_COLUMN_NAME,
	LS_COLUMN_DTYPE,
	LS_COLUMN_SHAPE,
	LS_COLUMN_BYTES,
	LS_COLUMN_STEPS,
	LS_COLUMN_COUNT, /* of a folded line */
	LS_COLUMN_FILE,
	LS_COLUMN_OFFSET,
	LS_COLUMN_LABEL,
	LS_COLUMN_PART,
	LS_COLUMN_PARAMS,
	LS_COLUMN_XXH3,
	LS_COLUMN_SOURCE,
	LS_COLUMNS,
};

struct ls_options {
	struct sd_limits limits;
	struct sd_selection choice;
	struct sd_look look;
	struct look_options form;
	bool fold, all, exact, quiet, here, itself, metadata, check, checksum, reverse, places;
	int sort;         /* enum ls_sort; -1: by name for people, else in order */
	const char *list; /* of -c */
	enum ls_column columns[LS_COLUMNS];
	size_t ncolumns;
	char **names;
	int count;
};

/* A source that is open, and those of its tensors that are to be shown, in this order. */
struct ls_source {
	const char *name;
	struct sd_source *source;
	struct sd_listing listing;
	uint32_t *shown; /* numbers of listing.tensors */
	size_t nshown;
	uint64_t *sums; /* of each tensor of the listing, or NULL */
	uint64_t sum;   /* and of all that are shown together */
};

/* What is in a line: a tensor, or tensors that are folded. */
struct ls_item {
	const struct ls_options *opt;
	const struct ls_source *s;
	const struct sd_listed *t;
	const struct sd_fold_line *fold; /* NULL: one tensor */
	bool *failed;                    /* set where memory is out */
};

/*
 * Adds to what is odd what sd-cat, and sd-rename --strict by the map of the family, would refuse, as far as no finding
 * tells of it. Only memory can be missing.
 */
SD_MUST_CHECK enum sd_result ls_refused(const struct sd_manifest *m, struct sd_arena *arena,
					struct sd_findings *findings, struct sd_error *err);

/* The name of a column, as --columns and JSON have it. */
const char *ls_column_name(enum ls_column column);

/* Where the data of a tensor's first piece lies. False where that cannot be said. */
bool ls_place(const struct ls_source *s, const struct sd_listed *t, const char **file, uint64_t *offset);

/*
 * Writes a cell, for people or as a column of TSV. Of what is folded people get the size of one tensor, programs that
 * of all. What is not there is nothing for people, and - in TSV.
 */
void ls_write_cell(FILE *out, const struct ls_item *item, enum ls_column column, bool human);

/* Folds what is shown: sd_fold's numbers are places in s->shown. */
SD_MUST_CHECK enum sd_result ls_fold(const struct ls_options *opt, const struct ls_source *s, struct sd_fold *fold,
				     struct sd_error *err);

/* Writes what is shown as lines for programs, TSV or JSON. */
SD_MUST_CHECK enum sd_result ls_print_lines(const struct ls_options *opt, const struct ls_source *s,
					    struct sd_error *err);

/* Writes it as a table for people. */
SD_MUST_CHECK enum sd_result ls_print_table(const struct ls_options *opt, const struct ls_source *s,
					    struct sd_error *err);

/* Writes what is odd; *odd: something is. Only memory can be missing. */
SD_MUST_CHECK enum sd_result ls_check(const struct ls_options *opt, const struct ls_source *s, bool *odd,
				      struct sd_error *err);

/* What several sources are, for people: a table whose columns are as wide as they have to be. */
struct ls_kinds {
	struct sd_memstream *stream;
	FILE *out;
	size_t n; /* lines, the titles among them */
};

/* False where memory is out. */
SD_MUST_CHECK bool ls_kinds_open(const struct ls_options *opt, struct ls_kinds *kinds);

/* What a source is: one line more in the table, or printed, for programs. */
SD_MUST_CHECK enum sd_result ls_kind(const struct ls_options *opt, const struct ls_source *s, struct ls_kinds *kinds,
				     struct sd_error *err);

/* Prints the table and frees it. False where memory is out. */
SD_MUST_CHECK bool ls_kinds_print(const struct ls_options *opt, struct ls_kinds *kinds);

/* Reads the data of what is shown, into s->sums and s->sum: XXH3, seed 0, of the data of each, and of lines of name,
 * dtype, shape and sum, in the order of their bytes. */
SD_MUST_CHECK enum sd_result ls_sum(const struct ls_options *opt, struct ls_source *s, struct sd_error *err);

/* Compares what is shown with a list of sums, and tells what differs. */
SD_MUST_CHECK enum sd_result ls_compare_sums(const struct ls_options *opt, struct ls_source *s, bool *differ,
					     struct sd_error *err);

/* Writes __metadata__ and the side files. */
SD_MUST_CHECK enum sd_result ls_print_metadata(const struct ls_options *opt, const struct ls_source *s,
					       struct sd_error *err);

/* Writes how many tensors, parameters and bytes are shown. */
SD_MUST_CHECK enum sd_result ls_print_total(const struct ls_options *opt, const struct ls_source *s,
					    struct sd_error *err);

#endif
