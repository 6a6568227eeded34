/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tensor that is cut across its rows, made whole from all of its pieces at once. Sent piece by piece, each row would
 * be written in as many bits as there are pieces.
 */
#ifndef SD_FORMATS_INTERLEAVE_H
#define SD_FORMATS_INTERLEAVE_H

#include "base/dtype.h"
#include "formats/extents.h"

/* A box of the tensor: its bytes at an offset of an input, or made from there. */
struct sd_interleave_part {
	uint32_t input;
	uint64_t offset, bytes;
	const uint64_t *begin, *size;
	struct sd_made *made;    /* or NULL */
	struct sd_extent extent; /* while it is open */
	void *memory;
};

/* Its parts, which are not empty, fill the tensor. Numbers live as long as the source. */
struct sd_interleave {
	struct sd_made base;
	struct sd_source *source;
	const uint64_t *shape;
	uint32_t rank;
	uint32_t nparts;
	struct sd_interleave_part *parts;
	uint64_t bytes;
	uint32_t item; /* bytes of an element */
	uint32_t dim;  /* that is cut into blocks; those before it are gone through one by one */
	uint64_t row;  /* bytes of one index of dim */
	char *buffer;  /* a block, and what is read of a part whose runs are short */
	char *block;   /* where the block is: in the buffer, or where it goes next */
	struct runs *runs;
	uint64_t at_once; /* indices of dim in a block */
};

/* Whether pieces of this size lie in such short runs in the tensor that it is worth it. */
bool sd_interleave_helps(const uint64_t *shape, const uint64_t *size, uint32_t rank, uint32_t item);

/* So many inputs can be open at a time; more parts that are made cannot be. */
#define SD_INTERLEAVE_MOST 48

/* Fills the rest of a struct of which all up to item is set. */
void sd_interleave_begin(struct sd_interleave *interleave);

#endif
