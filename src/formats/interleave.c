/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor that is cut across its rows, made whole from all of its pieces at once. */
#include "formats/interleave.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK (UINT64_C(2) << 20)
#define SHORT_RUN (64u << 10)

bool sd_interleave_helps(const uint64_t *shape, const uint64_t *size, uint32_t rank, uint32_t item)
{
	uint64_t run = item, runs = 1;
	uint32_t k = rank;

	while (k > 0 && size[k - 1] == shape[k - 1])
		run *= size[--k];
	if (k > 0)
		run *= size[--k];
	while (k > 0)
		runs *= size[--k];
	return runs > 1 && run < SHORT_RUN;
}

/* The bytes of one index of dim in a box of this size. */
static uint64_t row_of(const struct sd_interleave *in, const uint64_t *size)
{
	uint64_t bytes = in->item;

	for (uint32_t k = in->dim + 1; k < in->rank; k++)
		bytes *= size[k];
	return bytes;
}

static enum sd_result open_part(struct sd_interleave *in, struct sd_interleave_part *part, struct sd_error *err)
{
	const struct sd_input *input;

	if (sd_extents_open(in->source, part->input, err) != SD_OK)
		return err->result;
	input = sd_extents_at(in->source, part->input);
	if (part->made)
		return part->made->give(part->made, input, &part->extent, &part->memory, err);
	part->extent = sd_extents_of(input, part->offset, part->bytes);
	return SD_OK;
}

/* Copies an array of dimensions from k on into its place in a larger one. */
static const char *place(const struct sd_interleave *in, const struct sd_interleave_part *part, uint32_t k, char *to,
			 const char *from)
{
	uint64_t whole = in->item, mine = in->item;

	for (uint32_t j = k + 1; j < in->rank; j++) {
		whole *= in->shape[j];
		mine *= part->size[j];
	}
	to += part->begin[k] * whole;
	if (whole == mine) {
		memcpy(to, from, part->size[k] * mine);
		return from + part->size[k] * mine;
	}
	for (uint64_t i = 0; i < part->size[k]; i++, to += whole)
		from = place(in, part, k + 1, to, from);
	return from;
}

/* Where a block is: the index in each dimension before dim, and the first index of dim. */
struct position {
	uint64_t index[SD_RANK_MAX];
};

static struct position position_of(const struct sd_interleave *in, uint64_t done)
{
	struct position p = {0};
	uint64_t rest = done / in->row;

	for (uint32_t k = in->dim + 1; k-- > 0; rest /= in->shape[k])
		p.index[k] = rest % in->shape[k];
	return p;
}

/* Reads what a part has of the block of count indices, and puts it there. */
static enum sd_result take_part(struct sd_interleave *in, const struct sd_interleave_part *part,
				const struct position *p, uint64_t count, struct sd_error *err)
{
	uint64_t first = p->index[in->dim], last = first + count, mine = row_of(in, part->size), offset = 0;
	char *read = in->buffer + in->at_once * in->row, *to;
	const char *from = read;
	struct sd_extent extent = part->extent;

	for (uint32_t k = 0; k < in->dim; k++) {
		if (p->index[k] < part->begin[k] || p->index[k] - part->begin[k] >= part->size[k])
			return SD_OK;
		offset = offset * part->size[k] + (p->index[k] - part->begin[k]);
	}
	first = first > part->begin[in->dim] ? first : part->begin[in->dim];
	last = last < part->begin[in->dim] + part->size[in->dim] ? last : part->begin[in->dim] + part->size[in->dim];
	if (first >= last)
		return SD_OK;
	offset = (offset * part->size[in->dim] + (first - part->begin[in->dim])) * mine;
	to = in->buffer + (first - p->index[in->dim]) * in->row;
	if (extent.memory)
		extent.memory = (const char *)extent.memory + offset;
	else
		extent.offset += (off_t)offset;
	extent.length -= offset;
	if (mine == in->row)
		return sd_extent_read(&extent, to, (last - first) * mine, err);
	if (sd_extent_read(&extent, read, (last - first) * mine, err) != SD_OK)
		return err->result;
	for (; first < last; first++, to += in->row)
		from = place(in, part, in->dim + 1, to, from);
	return SD_OK;
}

static enum sd_result more(struct sd_made *base, uint64_t done, struct sd_extent *extent, struct sd_error *err)
{
	struct sd_interleave *in = (struct sd_interleave *)base;
	struct position p = position_of(in, done);
	uint64_t left = in->shape[in->dim] - p.index[in->dim], count = left < in->at_once ? left : in->at_once;

	for (uint32_t i = 0; i < in->nparts; i++)
		if (take_part(in, &in->parts[i], &p, count, err) != SD_OK)
			return err->told ? err->result
					 : sd_error_at(err, "%s", sd_extents_at(in->source, in->parts[i].input)->path);
	*extent = (struct sd_extent){.length = count * in->row, .memory = in->buffer, .fd = -1};
	return SD_OK;
}

static enum sd_result give(struct sd_made *base, const struct sd_input *input, struct sd_extent *extent, void **memory,
			   struct sd_error *err)
{
	struct sd_interleave *in = (struct sd_interleave *)base;

	(void)input;
	*memory = NULL;
	in->buffer = malloc((size_t)(2 * in->at_once * in->row));
	if (!in->buffer)
		return sd_fail_memory(err);
	for (uint32_t i = 0; i < in->nparts; i++)
		if (open_part(in, &in->parts[i], err) != SD_OK)
			return err->result;
	return more(base, 0, extent, err);
}

static void close_parts(struct sd_made *base)
{
	struct sd_interleave *in = (struct sd_interleave *)base;

	for (uint32_t i = 0; i < in->nparts; i++) {
		free(in->parts[i].memory);
		in->parts[i].memory = NULL;
	}
	free(in->buffer);
	in->buffer = NULL;
}

void sd_interleave_begin(struct sd_interleave *in)
{
	in->base = (struct sd_made){.give = give, .more = more, .close = close_parts};
	in->dim = 0;
	in->row = row_of(in, in->shape);
	while (in->row > BLOCK && in->dim + 1 < in->rank) {
		in->dim++;
		in->row = row_of(in, in->shape);
	}
	in->at_once = in->row < BLOCK ? BLOCK / in->row : 1;
	if (in->at_once > in->shape[in->dim])
		in->at_once = in->shape[in->dim];
}
