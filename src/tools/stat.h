/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of sd-stat share: what was asked for, and what was counted. */
#ifndef SD_TOOLS_STAT_H
#define SD_TOOLS_STAT_H

#include "base/fold.h"
#include "base/limits.h"
#include "model/selection.h"
#include "flow/counting.h"
#include "tools/execution_options.h"
#include "tools/look_options.h"

enum stat_by { STAT_BY_DEFAULT, STAT_BY_PATTERN, STAT_BY_TENSOR, STAT_BY_LAYER, STAT_BY_EXPERT };

struct stat_options {
	struct sd_limits limits;
	struct sd_selection choice;
	struct execution_options execution;
	struct sd_look look;
	struct look_options form;
	bool all, quiet, check, pass;
	enum stat_by by;
	bool hist, log10, range;
	uint64_t bins;
	double low, high; /* with range */
	char **values;    /* of --values */
	size_t nvalues, values_room;
	char **names;
	int count;
};

/* What is counted together: a tensor, several, or experts of several. */
struct stat_group {
	const char *name;                /* as sd_text_print would write it; of several a pattern, as -n takes it */
	const struct sd_counted *one;    /* the first of them */
	const struct sd_fold_line *fold; /* by pattern: the name */
	struct sd_statistics s;
	uint64_t tensors, elements, dead;
	unsigned kinds; /* bit k: something of enum stat_kind k is wrong with one of them */
};

struct stat_groups {
	struct sd_arena arena;
	struct sd_fold fold;
	struct stat_group *at;
	size_t n, room;
	uint32_t *of; /* by tensor, its group (by expert, the last one of them) */
};

/* Somebody who looks at each number. */
struct stat_observer {
	/* Once it is known which tensors come. */
	enum sd_result (*prepare)(struct stat_observer *observer, const struct sd_manifest *m, struct sd_error *err);
	/* As sd_counting has it. */
	void (*values)(void *observer, const struct sd_target *tensor, uint64_t first, const double *values,
		       size_t count);
};

/* What was counted of a source. */
struct stat_source {
	const char *name;
	const struct sd_counted *tensors;
	size_t n;
};

/* Something that --check finds. */
enum stat_kind { STAT_NAN, STAT_INF, STAT_ZERO, STAT_DEAD, STAT_UNLIKE };
#define STAT_NO_EXPERT UINT64_MAX
struct stat_finding {
	enum stat_kind kind;
	const struct sd_counted *tensor;
	uint64_t expert; /* of a tensor that holds several, or STAT_NO_EXPERT */
	uint64_t count;  /* of numbers, or rows */
	uint64_t first;  /* the element, or the row */
	double std, usual;
};

struct stat_findings {
	struct stat_finding *at;
	size_t n, room;
};

/* What is wrong with one tensor by itself. Only memory can be missing. */
SD_MUST_CHECK enum sd_result stat_check_tensor(const struct sd_counted *t, struct stat_findings *findings,
					       struct sd_error *err);

/* The same of all, and compared with each other, in the order of the tensors. */
SD_MUST_CHECK enum sd_result stat_check(const struct stat_source *s, struct stat_findings *findings,
					struct sd_error *err);

/* The word for a kind, and what is wrong, as one line: "1 nan, first at [12,9]". */
const char *stat_word(enum stat_kind kind);
void stat_write_finding(FILE *out, const struct stat_finding *f);
/* The name of what it is about: of an expert in a tensor NAME[5]. */
void stat_write_name(FILE *out, const struct stat_finding *f);

/* Prints findings, for people or for programs. Only memory can be missing. */
SD_MUST_CHECK enum sd_result stat_print_findings(const struct stat_options *opt, const struct stat_source *s,
						 const struct stat_findings *findings, struct sd_error *err);

/* The name without its number of a layer, or of an expert, which is a * then; NULL where it has none, or memory is
 * out. For the caller to free. */
char *stat_key(const char *name, bool layers, bool *memory);

/* Pools what was counted. Only memory can be missing. stat_groups_free in any case. */
SD_MUST_CHECK enum sd_result stat_pool(const struct stat_source *s, enum stat_by by,
				       const struct stat_findings *findings, struct stat_groups *groups,
				       struct sd_error *err);
void stat_groups_free(struct stat_groups *groups);

/*
 * Histograms of groups whose extremes are known; both NULL: of --range or of decades, for which extremes do not matter.
 * The names in it are those of the source that is read. NULL: memory is out.
 */
struct stat_observer *stat_hist_new(const struct stat_options *opt, const struct stat_source *s,
				    const struct stat_groups *groups);
void stat_hist_print(const struct stat_options *opt, const struct stat_source *s, const struct stat_observer *observer);
void stat_hist_free(struct stat_observer *observer);

/* Elements of tensors. SD_USAGE where --values has something that is no NAME[SLICE]. stat_values_free in any case. */
SD_MUST_CHECK enum sd_result stat_values_new(const struct stat_options *opt, struct sd_selection *choice,
					     struct stat_observer **observer, struct sd_error *err);
void stat_values_print(const struct stat_options *opt, const struct stat_source *s,
		       const struct stat_observer *observer);
void stat_values_free(struct stat_observer *observer);

/* Prints statistics, a line a group: for programs, or for people. */
void stat_print_lines(const struct stat_options *opt, const struct stat_source *s, const struct stat_groups *groups);
SD_MUST_CHECK enum sd_result stat_print_table(const struct stat_options *opt, const struct stat_groups *groups,
					      struct sd_error *err);

#endif
