/* SPDX-License-Identifier: Apache-2.0 */
/* Axis lists. */
#include "map/axes.h"
#include "base/checked.h"
#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

uint32_t sd_axis_number(struct sd_map_axis_names *names, const char *name, uint64_t fixed)
{
	for (uint32_t i = 0; i < names->n; i++)
		if (strcmp(names->name[i], name) == 0)
			return i;
	if (names->n == AXES_MAX)
		return NO_AXIS;
	names->name[names->n] = name;
	names->fixed[names->n] = fixed;
	return names->n++;
}

/* The n-th literal of this value in the list. */
static uint32_t literals_before(const struct sd_axes *axes, const struct sd_map_axis_dim *dim,
				const struct sd_map_axis_names *names, uint64_t value)
{
	uint32_t n = 0;

	for (uint32_t d = 0; d <= axes->n; d++) {
		const struct sd_map_axis_dim *at = d < axes->n ? &axes->dims[d] : dim;

		for (uint32_t f = 0; f < at->n; f++)
			n += at->factors[f].axis != NO_AXIS && names->fixed[at->factors[f].axis] == value;
	}
	return n;
}

static const char *parse_factor(const char **text, struct sd_map_axis_names *names, struct sd_arena *arena,
				const struct sd_axes *axes, struct sd_map_axis_dim *dim)
{
	struct sd_map_factor *factor = &dim->factors[dim->n];
	const char *p = *text, *start;
	uint32_t before = 0, after = 0;
	uint64_t number;
	char *name;

	*factor = (struct sd_map_factor){.axis = NO_AXIS, .per = 1, .packed = 1};
	while (*p == '|')
		before++, p++;
	start = p;
	while (isalnum((unsigned char)*p) || *p == '_')
		p++;
	if (p == start)
		return "an axis is a name or a number";
	name = sd_arena_text(arena, start, (size_t)(p - start));
	if (!name)
		return "out of memory";
	if (sd_text_number(name, &number)) {
		if (number == 0 || number > UINT32_MAX)
			return "a size in an axis list is 1 or more";
		if (number != 1) {
			name = sd_arena_printf(arena, "%s#%u", name, literals_before(axes, dim, names, number));
			factor->axis = name ? sd_axis_number(names, name, number) : NO_AXIS;
		}
	} else {
		if (isdigit((unsigned char)*name))
			return "an axis name begins with a letter";
		number = 0;
		factor->axis = sd_axis_number(names, name, SIZE_OPEN);
	}
	if (factor->axis == NO_AXIS && number != 1)
		return "too many axis names";
	if (*p == '~' || *p == '/') {
		uint64_t *by = *p == '~' ? &factor->per : &factor->packed;

		start = ++p;
		while (isdigit((unsigned char)*p))
			p++;
		name = sd_arena_text(arena, start, (size_t)(p - start));
		if (!name || !sd_text_number(name, by) || !*by)
			return by == &factor->per ? "behind ~ comes the size of a block"
						  : "behind / comes how many lie in one element";
	}
	while (*p == '|')
		after++, p++;
	if (before + after) {
		factor->slot = before;
		factor->slots = before + after + 1;
	}
	dim->n++;
	*text = p;
	return NULL;
}

const char *sd_axes_parse(const char *text, struct sd_map_axis_names *names, struct sd_arena *arena,
			  struct sd_axes *axes)
{
	size_t most = strlen(text);
	const char *p = text + 1, *why;
	bool slotted = false;

	*axes = (struct sd_axes){.text = text, .dims = sd_arena_array(arena, most, sizeof(*axes->dims))};
	if (!axes->dims)
		return "out of memory";
	for (;;) {
		struct sd_map_axis_dim dim = {0};
		bool product;

		while (*p == ' ' || *p == '\t')
			p++;
		if (*p == ']')
			break;
		product = *p == '(';
		p += product;
		dim.factors = sd_arena_array(arena, product ? most : 1, sizeof(*dim.factors));
		if (!dim.factors)
			return "out of memory";
		do {
			while (product && (*p == ' ' || *p == '\t'))
				p++;
			if (product && *p == ')')
				break;
			why = parse_factor(&p, names, arena, axes, &dim);
			if (why)
				return why;
			if (dim.factors[dim.n - 1].slots && slotted)
				return "only one axis of a list can have bars";
			slotted |= dim.factors[dim.n - 1].slots > 0;
		} while (product);
		p += product;
		if (!dim.n)
			return "an empty product";
		if (*p != ' ' && *p != '\t' && *p != ']')
			return "axes are set apart by spaces";
		axes->dims[axes->n++] = dim;
	}
	return axes->n > SD_RANK_MAX ? "too many axes" : NULL;
}

bool sd_axes_have(const struct sd_axes *axes, uint32_t axis)
{
	for (uint32_t d = 0; d < axes->n; d++)
		for (uint32_t f = 0; f < axes->dims[d].n; f++)
			if (axes->dims[d].factors[f].axis == axis)
				return true;
	return false;
}

const struct sd_map_factor *sd_axes_packed(const struct sd_axes *axes)
{
	for (uint32_t d = 0; d < axes->n; d++)
		for (uint32_t f = 0; f < axes->dims[d].n; f++)
			if (axes->dims[d].factors[f].packed > 1)
				return &axes->dims[d].factors[f];
	return NULL;
}

const struct sd_map_factor *sd_axes_slot(const struct sd_axes *axes)
{
	for (uint32_t d = 0; d < axes->n; d++)
		for (uint32_t f = 0; f < axes->dims[d].n; f++)
			if (axes->dims[d].factors[f].slots)
				return &axes->dims[d].factors[f];
	return NULL;
}

static uint64_t axis_size(uint32_t axis, const axis_sizes sizes)
{
	return axis == NO_AXIS ? 1 : sizes[axis];
}

/* The sum of the first slots; SIZE_OPEN where one is not known or it does not fit. */
static uint64_t slots_size(const struct sd_axes *axes, uint32_t slots, const axis_sizes sizes)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < slots; i++) {
		uint64_t size = axis_size(axes->slot_axis[i], sizes);

		if (size == SIZE_OPEN || !sd_add(sum, size, &sum))
			return SIZE_OPEN;
	}
	return sum;
}

static uint64_t whole_size(const struct sd_axes *axes, const struct sd_map_factor *factor, const axis_sizes sizes)
{
	uint64_t size = factor->slots ? slots_size(axes, axes->nslots, sizes) : axis_size(factor->axis, sizes);

	if (size == SIZE_OPEN)
		return size;
	return factor->packed > 1 ? size / factor->packed : size / factor->per + (size % factor->per != 0);
}

/* Gives a factor its size; the one axis of its slots that is not known gets what the others leave. */
static bool give(const struct sd_axes *axes, const struct sd_map_factor *factor, uint64_t whole, axis_sizes sizes)
{
	uint32_t open = NO_AXIS, times = 0;

	if (factor->per != 1)
		return true; /* many sizes have as many blocks */
	if (!factor->slots)
		return sd_mul(whole, factor->packed, &sizes[factor->axis]);
	for (uint32_t i = 0; i < axes->nslots; i++) {
		uint64_t size = axis_size(axes->slot_axis[i], sizes);

		if (size != SIZE_OPEN) {
			if (size > whole)
				return false;
			whole -= size;
		} else if (open == NO_AXIS || open == axes->slot_axis[i]) {
			open = axes->slot_axis[i];
			times++;
		} else {
			return true; /* two are not known: another dimension may tell */
		}
	}
	if (whole % times != 0)
		return false;
	sizes[open] = whole / times;
	return true;
}

/* One dimension; sets *open if something is left to be told. */
static bool bind_dim(const struct sd_axes *axes, const struct sd_map_axis_dim *dim, uint64_t size, axis_sizes sizes,
		     bool *progress, bool *open)
{
	const struct sd_map_factor *unknown = NULL;
	uint64_t product = 1;
	uint32_t n = 0;

	for (uint32_t f = 0; f < dim->n; f++) {
		uint64_t whole = whole_size(axes, &dim->factors[f], sizes);

		if (whole == SIZE_OPEN) {
			unknown = &dim->factors[f];
			n++;
		} else if (dim->factors[f].packed > 1 && sizes[dim->factors[f].axis] % dim->factors[f].packed != 0) {
			return false;
		} else if (!sd_mul(product, whole, &product)) {
			return false;
		}
	}
	if (!n)
		return product == size;
	if (n == 1 && product) {
		if (size % product != 0 || !give(axes, unknown, size / product, sizes))
			return false;
		if (whole_size(axes, unknown, sizes) != SIZE_OPEN) {
			*progress = true;
			return true;
		}
	}
	*open = true;
	return true;
}

bool sd_axes_bind(const struct sd_axes *axes, const uint64_t *shape, uint32_t rank, axis_sizes sizes)
{
	bool progress, open;

	if (rank != axes->n)
		return false;
	do {
		progress = open = false;
		for (uint32_t d = 0; d < rank; d++)
			if (!bind_dim(axes, &axes->dims[d], shape[d], sizes, &progress, &open))
				return false;
	} while (progress && open);
	return true;
}

uint32_t sd_axes_shape(const struct sd_axes *axes, const axis_sizes sizes, uint64_t *shape, bool *overflow)
{
	*overflow = false;
	for (uint32_t d = 0; d < axes->n; d++) {
		shape[d] = 1;
		for (uint32_t f = 0; f < axes->dims[d].n; f++) {
			const struct sd_map_factor *factor = &axes->dims[d].factors[f];
			uint64_t whole = whole_size(axes, factor, sizes);

			if (whole == SIZE_OPEN)
				return factor->axis;
			if (!sd_mul(shape[d], whole, &shape[d]))
				*overflow = true;
		}
	}
	return NO_AXIS;
}

void sd_axes_place(const struct sd_axes *axes, const axis_sizes sizes, const axis_sizes index, uint64_t *strides,
		   uint64_t *offset)
{
	uint64_t stride = 1;

	*offset = 0;
	for (uint32_t d = axes->n; d-- > 0;)
		for (uint32_t f = axes->dims[d].n; f-- > 0;) {
			const struct sd_map_factor *factor = &axes->dims[d].factors[f];

			if (factor->slots)
				*offset += slots_size(axes, factor->slot, sizes) * stride;
			if (factor->axis != NO_AXIS) {
				if (index[factor->axis] != SIZE_OPEN)
					*offset += index[factor->axis] * stride;
				else
					strides[factor->axis] = stride;
			}
			stride *= whole_size(axes, factor, sizes) * factor->packed;
		}
}
