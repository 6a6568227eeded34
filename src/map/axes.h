/* SPDX-License-Identifier: Apache-2.0 */
/* Axis lists: what the two sides of a rule say about shapes, and the move that follows from them. */
#ifndef SD_MAP_AXES_H
#define SD_MAP_AXES_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"
#include "move/move.h"

#define AXES_MAX 64
#define SIZE_OPEN UINT64_MAX /* a size that is not known */
#define NO_AXIS UINT32_MAX   /* a literal 1 */

/* The axis names of a map. A literal in an axis list is an axis too, with a size of its own: the n-th "2" of each side
 * is one. */
struct sd_map_axis_names {
	uint32_t n;
	const char *name[AXES_MAX];
	uint64_t fixed[AXES_MAX]; /* SIZE_OPEN, or the literal */
};

struct sd_map_factor {
	uint32_t axis;
	uint32_t slot, slots; /* slots 0: no bars */
	uint64_t per;         /* of "i~128": 128; else 1 */
	uint64_t packed;      /* of "v/2": 2, that many of the axis lie in one element; else 1 */
};

struct sd_map_axis_dim {
	struct sd_map_factor *factors;
	uint32_t n;
};

struct sd_axes {
	const char *text; /* as written; NULL: there is no list */
	struct sd_map_axis_dim *dims;
	uint32_t n;
	/* What stands in each slot of the one factor that has bars: axes, from all rules that share the tensor. */
	uint32_t nslots;
	uint32_t *slot_axis;
};

typedef uint64_t axis_sizes[AXES_MAX];

/* The number of an axis name, new if need be; NO_AXIS when there are too many. */
uint32_t sd_axis_number(struct sd_map_axis_names *names, const char *name, uint64_t fixed);

/* Parses "[E H (2 I|)]", "[o~128 i~128]", "[o i/2]". Returns NULL, or why it cannot be. */
const char *sd_axes_parse(const char *text, struct sd_map_axis_names *names, struct sd_arena *arena,
			  struct sd_axes *axes);

/* Whether the axis is in the list. */
bool sd_axes_have(const struct sd_axes *axes, uint32_t axis);

/* The factor that is packed, or NULL: the last one. */
const struct sd_map_factor *sd_axes_packed(const struct sd_axes *axes);

/* The factor with bars, or NULL. */
const struct sd_map_factor *sd_axes_slot(const struct sd_axes *axes);

/*
 * Finds the sizes that a shape gives the axes of the list; those known already must agree. False where the shape does
 * not fit. What cannot be told stays SIZE_OPEN.
 */
bool sd_axes_bind(const struct sd_axes *axes, const uint64_t *shape, uint32_t rank, axis_sizes sizes);

/* The shape that the sizes make (axes->n numbers). The axis whose size is not known, or NO_AXIS: then the shape is
 * whole. */
uint32_t sd_axes_shape(const struct sd_axes *axes, const axis_sizes sizes, uint64_t *shape, bool *overflow);

/*
 * The stride of each axis in a row-major tensor, and the offset at which the part begins: index[axis] is an index that
 * is fixed (a hole's number), or SIZE_OPEN. All sizes are known, and the tensor's count fits. What is packed counts as
 * unpacked.
 */
void sd_axes_place(const struct sd_axes *axes, const axis_sizes sizes, const axis_sizes index, uint64_t *strides,
		   uint64_t *offset);

#endif
