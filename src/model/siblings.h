/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares the names of a checkpoint with each other, and with config.json: layers with layers, experts with experts.
 * No map is needed. What one of them has otherwise than its siblings is odd.
 */
#ifndef SD_MODEL_SIBLINGS_H
#define SD_MODEL_SIBLINGS_H

#include "model/manifest.h"

enum sd_oddity {
	SD_ODD_PREFIX,  /* all names begin with the word of a wrapper: "module." */
	SD_ODD_GAP,     /* a layer or an expert is not there at all, or the embedding, the last norm, the head */
	SD_ODD_COUNT,   /* the experts of a layer are not as many as those of others; or all layers are twice, or one has a bias alone */
	SD_ODD_TYPO,    /* a name that no sibling has, near one that is missing here */
	SD_ODD_MISSING, /* a name that all siblings have */
	SD_ODD_SHAPE,   /* the siblings have another one, or config.json says so */
	SD_ODD_DTYPE,   /* the siblings have another dtype */
	SD_ODD_REFUSED, /* a program of the pipeline refuses it; no comparison finds it */
	SD_ODD_CONFIG,  /* config.json cannot be read */
};

/* The word for a kind: "prefix", "gap" and so on. */
const char *sd_oddity_word(enum sd_oddity kind);

struct sd_finding {
	enum sd_oddity kind;
	const char *name; /* the odd one; of what is missing its name, or the first part of several names ("...mlp.") */
	const char *near; /* TYPO: what it should be called; else NULL */
	const char *edit; /* of sd-rename -e, which mends it; NULL: none is known, or sd_findings_write_edits is to be
			     asked */
	const char *line; /* all that is to say, in one line, the name included */
	size_t tensors;   /* how many tensors are concerned, as far as that is known; else 0 */
	const char *among;          /* "layers", "experts": what the siblings are; NULL: whatever there is */
	const uint32_t *siblings;   /* their numbers, ascending, as many as have it right */
	size_t nsiblings;           /* PREFIX, GAP: 0 */
	const struct sd_target *is; /* SHAPE, DTYPE, TYPO: the odd one; else NULL */
	const struct sd_target
		*right; /* one of the siblings; NULL for PREFIX, GAP, COUNT and CONFIG, or where none tells */
};

struct sd_findings {
	struct sd_finding *at; /* by kind, then in natural order */
	size_t n, room;
};

/*
 * Finds what is odd among the targets of a manifest; targets whose data is elsewhere count as being there. Texts and
 * lists are made in the arena, targets are the manifest's; the array is to be freed (sd_findings_free) in any case. An
 * adapter may be of some layers only: of that only typos, shapes and dtypes are found. Only memory can be missing.
 */
SD_MUST_CHECK enum sd_result sd_siblings_check(const struct sd_manifest *m, struct sd_arena *arena,
					       struct sd_findings *findings, struct sd_error *err);
/*
 * Writes the edits of those that one mends; like the texts they are made in the arena. Only memory can be missing.
 */
SD_MUST_CHECK enum sd_result sd_findings_write_edits(struct sd_findings *findings, const struct sd_manifest *m,
						     struct sd_arena *arena, struct sd_error *err);

/* Where two names begin to differ and where they end to do so, by their parts: a[*begin..*end] is not in b. */
void sd_name_difference(const char *a, const char *b, size_t *begin, size_t *end);

void sd_findings_free(struct sd_findings *findings);

/* Gives tell the lines of the first ones, and a line that counts the others, which it makes in the arena. Ends with
 * what tell returns where that is no SD_OK. */
SD_MUST_CHECK enum sd_result sd_findings_tell(const struct sd_findings *findings, struct sd_arena *arena,
					      enum sd_result (*tell)(void *user, const char *line), void *user,
					      struct sd_error *err);

/* What wrappers put in front of names, or between: "module.", with NULL behind the last. */
extern const char *const sd_wrapper_words[];

/* SD_INPUT, and the line that tells how to mend it, where names have the word of a wrapper. */
SD_MUST_CHECK enum sd_result sd_siblings_wrapper(const struct sd_manifest *m, struct sd_error *err);

/*
 * The name that was perhaps meant to be one that is missing: nearly the same, with the same numbers, and seldom found
 * with other numbers. NULL: there is none.
 */
const char *sd_siblings_near(const struct sd_manifest *m, const char *missing);

/* Whether no other name is the same but for its numbers. */
bool sd_siblings_is_alone(const struct sd_manifest *m, const char *name);

#endif
