/* SPDX-License-Identifier: Apache-2.0 */
/* sd-rename --explain: which rules a tensor goes through, and which tensors a rule takes. */
#ifndef SD_TOOLS_EXPLAIN_H
#define SD_TOOLS_EXPLAIN_H

#include "renaming/rename.h"
#include "tools/look.h"

struct explain_options {
	char *const *keys; /* names or patterns of names, that come in or that come out; none: all rules */
	size_t nkeys;
	bool json;
	struct sd_look look;
};

struct explanation;

/* What is going to be explained: the way of the tensors of a manifest. NULL: memory is out. in has to outlive it. */
struct explanation *explain_begin(const struct explain_options *opt, const struct sd_manifest *in);
void explain_end(struct explanation *e);

/* Gathers what happens: the event of a struct sd_rename, with the explanation as its user. Where several renames follow
 * each other, explain_next stands between them, with what the first one has made for the map. */
void explain_take(void *user, const struct sd_rename_event *event);
void explain_next(struct explanation *e, const struct sd_manifest *to_map);

/*
 * Prints it. rename is the last one, plan its plan, and without a manifest nothing came out. SD_DIFFERENT where a key
 * is unknown.
 */
SD_MUST_CHECK enum sd_result explain_print(struct explanation *e, const struct sd_rename *rename,
					   const struct sd_plan *plan, struct sd_error *err);

/* "name<TAB>dtype<TAB>[shape]", and the pending steps of a target as sd-ls has them. */
void explain_tensor(FILE *out, const char *name, enum sd_dtype dtype, const uint64_t *shape, uint32_t rank);
void explain_steps(FILE *out, const struct sd_target *t, enum sd_dtype dtype);

#endif
