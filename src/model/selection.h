/* SPDX-License-Identifier: Apache-2.0 */
/* Selects tensors by -n PATTERN, --include RE, --exclude RE, --layers LIST and --experts LIST, alike in every tool. */
#ifndef SD_MODEL_SELECTION_H
#define SD_MODEL_SELECTION_H

#include "base/glob.h"
#include "base/regex.h"
#include "model/manifest.h"

/* Numbers that people type: 0-3,7. */
struct sd_numbers {
	const char *text; /* as it was given, borrowed; NULL: all numbers */
	struct sd_range {
		uint32_t first, last;
	} * ranges; /* ascending, with gaps between */
	size_t count, room;
};

/* Whether a number is one of them, and how many of them are less than it. */
bool sd_numbers_have(const struct sd_numbers *numbers, uint64_t number);
uint64_t sd_numbers_below(const struct sd_numbers *numbers, uint64_t number);

/* Whether they are all from 0 to some number. */
bool sd_numbers_are_first(const struct sd_numbers *numbers);

/* {0} is all tensors. */
struct sd_selection {
	struct sd_glob *
		*names; /* -n: a tensor is meant that one of them or one of include matches, if there are any, */
	size_t nnames, names_room;
	struct sd_regex_list include, exclude; /* and none of exclude, */
	struct sd_numbers layers, experts;     /* and that has these numbers, or none */
	const char *stack; /* what stands in front of the numbers of layers; NULL: sd_selection_settle finds it */
	size_t stack_length;
};

/* Adds a pattern of -n. SD_USAGE if sd_glob_new refuses it. */
SD_MUST_CHECK enum sd_result sd_selection_add_name(struct sd_selection *choice, const char *pattern,
						   struct sd_error *err);

/*
 * --layers and --experts: LIST, of layers also STACK:LIST, where STACK is what stands in front of the number:
 * visual.blocks. text is borrowed. SD_USAGE for what is no list.
 */
SD_MUST_CHECK enum sd_result sd_selection_set_layers(struct sd_selection *choice, const char *text,
						     struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_selection_set_experts(struct sd_selection *choice, const char *text,
						      struct sd_error *err);

void sd_selection_free(struct sd_selection *choice);

/* Whether anything but --exclude is given. */
bool sd_selection_chooses(const struct sd_selection *choice);

/*
 * For --layers: finds the layers of the language model, which config.json counts. Call this before sd_selection_takes
 * if layers are given. The manifest must outlive the selection.
 */
void sd_selection_settle(struct sd_selection *choice, const struct sd_manifest *m);

/* Whether a tensor of this name is selected. Fails if sd_regex_search does. */
SD_MUST_CHECK enum sd_result sd_selection_takes(const struct sd_selection *choice, const char *name, bool *yes,
						struct sd_error *err);

/* SD_INPUT if a pattern, a regex or a list matches no tensor of the manifest. The error names it and the nearest name.
 */
SD_MUST_CHECK enum sd_result sd_selection_check(const struct sd_selection *choice, const struct sd_manifest *m,
						struct sd_error *err);

/* The first --exclude that matches no tensor, or NULL. Fails if sd_regex_search does. */
SD_MUST_CHECK enum sd_result sd_selection_idle(const struct sd_selection *choice, const struct sd_manifest *m,
					       const char **exclude, struct sd_error *err);

#endif
