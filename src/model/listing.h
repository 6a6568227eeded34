/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of a manifest, each once, with what is to be done to it. */
#ifndef SD_MODEL_LISTING_H
#define SD_MODEL_LISTING_H

#include "model/manifest.h"

/* A tensor: all targets of one name. */
struct sd_listed {
	const char *name;
	const uint64_t *shape;
	const char
		*steps; /* "reorder,cast:BF16>F32": what its targets need, words with commas between; "" is nothing */
	uint64_t elements, bytes;
	uint64_t number, of; /* as in its first target */
	uint32_t target;     /* the first one; sd_listing.next has the others */
	uint32_t labels;     /* of its first target */
	uint32_t rank;
	uint8_t dtype;
	bool elsewhere; /* no part of its data comes along */
	bool missing;   /* a part of it is in no source */
};

struct sd_listing {
	struct sd_arena arena;
	struct sd_listed *tensors; /* in the order of their first targets */
	size_t n;
	uint32_t *next; /* of each target: the next one of its tensor, or UINT32_MAX */
};

/* The listing borrows from the manifest. Only memory can be missing. sd_listing_free in any case. */
SD_MUST_CHECK enum sd_result sd_listing_make(const struct sd_manifest *m, struct sd_listing *listing,
					     struct sd_error *err);
void sd_listing_free(struct sd_listing *listing);

/*
 * Numbers for sd_fold: two tensors have the same one if their dtype, shape and steps are the same. kinds has room for
 * one of each tensor. Only memory can be missing.
 */
SD_MUST_CHECK enum sd_result sd_listing_kinds(const struct sd_listing *listing, uint32_t *kinds, struct sd_error *err);

#endif
