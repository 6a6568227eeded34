/* SPDX-License-Identifier: Apache-2.0 */
/* One move after the other: what two reorderings are together. */
#ifndef SD_MOVE_COMPOSE_H
#define SD_MOVE_COMPOSE_H

#include "move/move.h"

#define SD_COMPOSE_EACH 16

/* More moves than this are refused: nobody needs them, and hostile input could ask for any number. */
#define SD_COMPOSE_MAX 65536

/* A growable array; {0} is empty. The caller frees at. */
struct sd_moves {
	struct sd_move *at;
	size_t count, room;
};

/*
 * Appends what first and then do together: elements go from the source of first to the target of then. Both have passed
 * sd_move_check with one array between them. Elements that first does not write or then does not take are left out;
 * nothing may be left. Normally it is one move; several where offsets or sizes do not match (reshapes). All are in
 * normal form, and no element is in two of them. SD_INPUT when there would be more than SD_COMPOSE_MAX, or the
 * dimensions are too many.
 */
SD_MUST_CHECK enum sd_result sd_move_compose(const struct sd_move *first, const struct sd_move *then,
					     struct sd_moves *moves, struct sd_error *err);

/*
 * What many compositions come to together; {0} at first. One may make many moves, and all of them a few each, but not
 * all of them many: what is made stays in proportion to what came. SD_INPUT when it does not.
 */
struct sd_compose_sum {
	uint64_t asked, made;
};
SD_MUST_CHECK enum sd_result sd_compose_count(struct sd_compose_sum *sum, size_t made, struct sd_error *err);

#endif
