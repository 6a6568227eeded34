/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor that is cut across its rows, made whole from all of its pieces at once. */
#include "formats/interleave.h"
#include "flow/sink.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK (UINT64_C(1) << 20)
#define SHORT_RUN (64u << 10)
#define STRAIGHT 512 /* runs of so many bytes are read to their places at once, shorter ones are copied there */
#define RUNS 1024    /* that one call reads: IOV_MAX */

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

/* What is made stays open until the last byte. */
static enum sd_result open_made(struct sd_interleave *in, struct sd_interleave_part *part, struct sd_error *err)
{
	if (sd_extents_open(in->source, part->input, err) != SD_OK)
		return err->result;
	return part->made->give(part->made, sd_extents_at(in->source, part->input), &part->extent, &part->memory, err);
}

/* All bytes of a part. A file may have been closed meanwhile, for others. */
static enum sd_result part_extent(struct sd_interleave *in, const struct sd_interleave_part *part,
				  struct sd_extent *extent, struct sd_error *err)
{
	*extent = part->extent;
	if (part->made)
		return SD_OK;
	if (sd_extents_open(in->source, part->input, err) != SD_OK)
		return err->result;
	*extent = sd_extents_of(sd_extents_at(in->source, part->input), part->offset, part->bytes);
	return SD_OK;
}

/* Bytes of a part on their way into the block, one run behind the other. */
struct runs {
	struct sd_extent from;
	struct iovec parts[RUNS];
	int count;
	uint64_t bytes;
};

static enum sd_result flush(struct runs *r, struct sd_error *err)
{
	enum sd_result result = sd_preadv_all(r->from.fd, r->parts, r->count, r->from.offset, err);

	r->from.offset += (off_t)r->bytes;
	r->count = 0;
	r->bytes = 0;
	return result;
}

static enum sd_result add_run(struct runs *r, char *to, uint64_t bytes, struct sd_error *err)
{
	if (r->from.memory) {
		memcpy(to, r->from.memory, bytes);
		r->from.memory = (const char *)r->from.memory + bytes;
		return SD_OK;
	}
	r->parts[r->count++] = (struct iovec){to, bytes};
	r->bytes += bytes;
	return r->count < RUNS ? SD_OK : flush(r, err);
}

/* Copies an array of dimensions from k on into its place in a larger one. */
static enum sd_result place(const struct sd_interleave *in, const struct sd_interleave_part *part, uint32_t k, char *to,
			    struct runs *runs, struct sd_error *err)
{
	uint64_t whole = in->item, mine = in->item;
	enum sd_result result = SD_OK;

	for (uint32_t j = k + 1; j < in->rank; j++) {
		whole *= in->shape[j];
		mine *= part->size[j];
	}
	to += part->begin[k] * whole;
	if (whole == mine)
		return add_run(runs, to, part->size[k] * mine, err);
	for (uint64_t i = 0; i < part->size[k] && result == SD_OK; i++, to += whole)
		result = place(in, part, k + 1, to, runs, err);
	return result;
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

/* Bytes of the runs that a part has in the tensor. */
static uint64_t run_of(const struct sd_interleave *in, const struct sd_interleave_part *part)
{
	uint64_t run = in->item;
	uint32_t k = in->rank;

	while (k > 0 && part->size[k - 1] == in->shape[k - 1])
		run *= part->size[--k];
	return k > 0 ? run * part->size[k - 1] : run;
}

/* Reads what a part has of the block of count indices, and puts it there. */
static enum sd_result take_part(struct sd_interleave *in, const struct sd_interleave_part *part,
				const struct position *p, uint64_t count, struct sd_error *err)
{
	uint64_t first = p->index[in->dim], last = first + count, mine = row_of(in, part->size), offset = 0;
	char *to;
	enum sd_result result = SD_OK;
	struct runs *runs = in->runs;

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
	to = in->block + (first - p->index[in->dim]) * in->row;
	if (part_extent(in, part, &runs->from, err) != SD_OK)
		return err->result;
	if (runs->from.memory)
		runs->from.memory = (const char *)runs->from.memory + offset;
	else
		runs->from.offset += (off_t)offset;
	runs->from.length -= offset;
	if (mine == in->row)
		return sd_extent_read(&runs->from, to, (last - first) * mine, err);
	if (!runs->from.memory && run_of(in, part) < STRAIGHT) {
		char *read = in->buffer + in->at_once * in->row;

		result = sd_extent_read(&runs->from, read, (last - first) * mine, err);
		runs->from.memory = read;
	}
	for (; first < last && result == SD_OK; first++, to += in->row)
		result = place(in, part, in->dim + 1, to, runs, err);
	return result == SD_OK && runs->count ? flush(runs, err) : result;
}

static enum sd_result more(struct sd_made *base, uint64_t done, struct sd_extent *extent, struct sd_error *err)
{
	struct sd_interleave *in = (struct sd_interleave *)base;
	struct position p = position_of(in, done);
	uint64_t left = in->shape[in->dim] - p.index[in->dim], count = left < in->at_once ? left : in->at_once;
	void *room = NULL;
	bool later;

	if (in->source->into && sd_sink_room(in->source->into, count * in->row, &room, &later, err) != SD_OK)
		return err->result;
	in->block = room ? room : in->buffer;
	for (uint32_t i = 0; i < in->nparts; i++)
		if (take_part(in, &in->parts[i], &p, count, err) != SD_OK)
			return err->told ? err->result
					 : sd_error_at(err, "%s", sd_extents_at(in->source, in->parts[i].input)->path);
	*extent = (struct sd_extent){.length = count * in->row, .memory = in->block, .fd = -1};
	return SD_OK;
}

static enum sd_result give(struct sd_made *base, const struct sd_input *input, struct sd_extent *extent, void **memory,
			   struct sd_error *err)
{
	struct sd_interleave *in = (struct sd_interleave *)base;

	(void)input;
	*memory = NULL;
	in->buffer = malloc((size_t)(2 * in->at_once * in->row));
	in->runs = calloc(1, sizeof(*in->runs));
	if (!in->buffer || !in->runs)
		return sd_fail_memory(err);
	for (uint32_t i = 0; i < in->nparts; i++)
		if (in->parts[i].made && open_made(in, &in->parts[i], err) != SD_OK)
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
	free(in->runs);
	in->buffer = NULL;
	in->runs = NULL;
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
