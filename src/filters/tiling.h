/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiling: how the data of a record is cut into units, so that a target with pending steps can be made in little
 * memory. The manifest and the size of that memory alone decide it.
 */
#ifndef SD_FILTERS_TILING_H
#define SD_FILTERS_TILING_H

#include "move/decode.h"
#include "move/device.h"
#include "model/manifest.h"

#define SD_LINKS_MAX 4
/* At most so many runs of units: a record is cut into no more, and all that are in a manifest into no more than that
 * above one for each target. Their plan is in memory, and the sizes are only what a stream says. */
#define SD_UNIT_RUNS_MAX (1u << 18)

/* Every buffer begins at a multiple of this. */
#define SD_BUFFER_ALIGN 64

/*
 * The dtypes that an element has on its way, and a link from each to the next. Exact casts are merged. There is at
 * least one link, perhaps from a dtype to itself. The first dtype may be codes.
 */
struct sd_links {
	uint32_t count;
	uint8_t dtype[SD_LINKS_MAX + 1];
	const struct sd_step *scale;  /* NULL, or block scales that the first link multiplies with */
	uint8_t scale_element;        /* their elements, as devices have them */
	const struct sd_step *decode; /* NULL, or what makes the first dtype of packed codes */
	const struct sd_step *fill;   /* NULL, or the constant that all elements are, whatever the record has; F32 */
};

/*
 * A target that is cut into units. A unit is a box of the target's elements. Units follow each other in the order of
 * the record; none spans more elements of the record than the window has.
 */
struct sd_cut {
	size_t target;          /* its number in the manifest */
	uint64_t codes;         /* elements that each of the record's is; 1 of those that are decoded */
	struct sd_codes packed; /* where links.decode; without the data of its parts */
	struct sd_move move;    /* dimensions in the order of the target: in normal form, but apart for block scales */
	uint32_t order[SD_MOVE_RANK]; /* its dimensions in the order of the record */
	uint32_t depth;               /* how many of these are cut: index by index, but for the last one */
	uint64_t step;                /* the last one, in blocks of so many indices */
	uint64_t units;
	struct sd_links links;
	bool in_order; /* all units, one after the other, are the target's box in its order */
};

/* An outgoing record: units of one target. */
struct sd_unit_run {
	const struct sd_cut *cut;
	uint64_t first, units;
};

/* The output records that are made from one input record. */
struct sd_tiling {
	struct sd_cut *cuts;
	size_t ncuts;
	struct sd_unit_run *runs; /* in the order in which they come out */
	size_t nruns;
	uint64_t window; /* elements of the record that are there at one time, at most */
	uint64_t each;   /* bytes for each of them and what all links make of it (of its codes), at most */
};

/*
 * Cuts a record with count targets, given by their numbers in m, for memory bytes, of which held are in use. SD_INPUT
 * for unknown steps, elements smaller than a byte, and memory too small for a row; the error says what would help.
 */
SD_MUST_CHECK enum sd_result sd_tiling_cut(const struct sd_manifest *m, uint32_t record, const uint32_t *targets,
					   size_t count, uint64_t memory, uint64_t held, struct sd_tiling *tiling,
					   struct sd_error *err);

void sd_tiling_free(struct sd_tiling *tiling);

/*
 * The elements of a unit: from the record into a box of their own, in the order of the target. Not in normal form:
 * dimension k is dimension k of the cut's move. The unit's first element in the record is move->from.
 */
void sd_unit_move(const struct sd_cut *cut, uint64_t unit, struct sd_move *move);

/* The block scales of a unit, but for their data: its move is as sd_unit_move gives it, and cut->links.scale is not
 * NULL. */
void sd_unit_scale(const struct sd_manifest *m, const struct sd_cut *cut, const struct sd_move *unit,
		   struct sd_scale *scale);

/*
 * The most bytes that a unit takes of a buffer: of the record and, where it is decoded, the numbers; and of what all
 * links make of it.
 */
void sd_cut_room(const struct sd_manifest *m, const struct sd_cut *cut, uint64_t *window, uint64_t *made);

/* What so many bytes take of a buffer. */
uint64_t sd_buffer_aligned(uint64_t bytes);

/* Gives the source side of a move the strides of its own box, in the order of the target. */
void sd_move_pack_source(struct sd_move *move);

/* How far in the record a unit reaches from its first element: 1 for one element. */
uint64_t sd_unit_span(const struct sd_move *unit);

/* Where a run of units lies in the tensor: from its own box, in normal form, in order. */
void sd_unit_run_place(const struct sd_unit_run *piece, struct sd_move *place);

#endif
