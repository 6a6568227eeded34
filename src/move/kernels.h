/* SPDX-License-Identifier: Apache-2.0 */
/* What differs from one instruction set to the next: turning a 2-D piece, and casts. All give the same results. */
#ifndef SD_MOVE_KERNELS_H
#define SD_MOVE_KERNELS_H

#include "move/convert.h"

/*
 * Turns na by nb elements of one size: target[ia * target_step + ib * size] = source[ib * source_step + ia * size], in
 * bytes, with no alignment asked for. streaming: whole lines of the target may go past the caches; call sd_kernels_end
 * before anyone else looks at them. after: rows, as far apart, that the caller will turn next, or NULL; only ever asked
 * for, not read. casts: NULL, or what is done to elements, which have a size of their own in the target.
 */
struct sd_turn_cast;
typedef void sd_turn(const uint8_t *source, size_t source_step, uint8_t *target, size_t target_step, size_t na,
		     size_t nb, bool streaming, const uint8_t *after, const struct sd_turn_cast *casts);

/* A line of memory: pieces of this many bytes each way are what the kernels work in. */
#define SD_LINE 64

struct sd_turn_cast {
	sd_cast_ready *ready; /* the kernels' */
	struct sd_cast cast;  /* from, to, scaled, often, factors; codes: and pairs, and a source element is a byte */
	/* One of these, where scaled: */
	const float *by; /* as many as a source row has lines or begins: of all elements there, in all rows; often */
	/* As each of sd_cast, as many as there are rows for each block of their elements, which begins at a whole
	 * multiple of SD_SHARE; not often. */
	const void *each;
	size_t step;         /* from one block's to the next's */
	size_t begin, block; /* the first element's number in its block, and a block's elements */
};

/* How many source elements of so many bytes are turned and cast together; of codes, twice as many. */
#define SD_SHARE(size) ((size) == 1 ? 8 : 16 / (size))

/* Target rows that a source element makes: a byte of codes two. */
static inline size_t sd_turn_cast_rows(const struct sd_turn_cast *casts)
{
	return casts && sd_is_code((uint8_t)casts->cast.from) ? 2 : 1;
}

/* The factors of element a of rows b and on. */
static inline const void *sd_turn_cast_each(const struct sd_turn_cast *casts, size_t a, size_t b)
{
	size_t at = (casts->begin + a) / casts->block * casts->step + b;

	return (const uint8_t *)casts->each + at * sd_factor_size(&casts->cast);
}

/*
 * Rows (step bytes apart, length bytes of each) that come next, and how far they have been asked for. No machine
 * guesses that they come, for they are far from one another; in address order it goes on by itself where a row has
 * begun.
 */
struct sd_ahead {
	const uint8_t *row; /* NULL: none */
	size_t step, length, at;
};

static inline void sd_ahead_ask(struct sd_ahead *ahead, size_t lines)
{
	if (!ahead->row)
		return;
	for (size_t i = 0; i < lines; i++) {
		__builtin_prefetch(ahead->row + ahead->at);
		ahead->at += SD_LINE;
		if (ahead->at >= ahead->length) {
			ahead->at = 0;
			ahead->row += ahead->step;
		}
	}
}

struct sd_kernels {
	const char *name;
	sd_turn *turn[4]; /* of 1, 2, 4 and 8 bytes */
	struct sd_converter convert;
	void (*end)(void); /* makes streamed lines visible to other threads */
};

extern const struct sd_kernels sd_kernels_plain, sd_kernels_v128;
#ifdef __x86_64__
extern const struct sd_kernels sd_kernels_avx2, sd_kernels_avx512;
#endif

#ifdef __x86_64__
/* Whether the processor has F16C: not every compiler's __builtin_cpu_supports knows the name. */
bool sd_kernels_have_f16c(void);
#endif

/* The best that this machine can run; or, if it can, the one of that name ("plain", "v128", "avx2", "avx512"; NULL: no
 * wish). */
const struct sd_kernels *sd_kernels_pick(const char *name);

/* The number of a size in turn[]. */
static inline unsigned sd_kernels_size(unsigned size)
{
	return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
}

#endif
