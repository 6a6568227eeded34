/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coverage: proves that images of moves fill a tensor, without looking at elements.
 *
 * An image is a set of positions: a start and dimensions (size, stride), each stride larger than all that lies below
 * it. Sorted by their starts, images fall into clusters whose spans overlap. A cluster of one run is filled. Any other
 * has a largest stride, its period: every image is cut into parts that repeat with this period or lie within one, and
 * what one period looks like is a smaller problem of the same kind, to be solved once for all periods in which the same
 * parts are.
 */
#include "move/coverage.h"
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

/* Work, and with it memory, in images looked at: what is cut like arrays needs a few for each piece. */
#define STEPS_BASE (UINT64_C(1) << 18)
#define STEPS_EACH 64
#define DEPTH_MAX 64

struct extent {
	uint64_t size, stride;
};

/* The outermost dimension comes first, none has size 1, and the last one is fused to a run if it has stride 1. */
struct image {
	uint64_t start;
	uint32_t rank;
	struct extent dim[SD_MOVE_RANK];
	size_t owner;
};

/* An image that lies within one period, in periods begin to end. */
struct part {
	uint64_t begin, end;
	struct image image;
};

struct parts {
	struct part *at;
	size_t count, room;
};

struct prover {
	uint64_t steps, limit;
	unsigned depth;
	struct sd_coverage_fault *fault;
};

static enum sd_coverage fill(struct prover *p, struct image *images, size_t count, uint64_t elements);

/* The position behind the last one. */
static uint64_t end_of(const struct image *i)
{
	uint64_t last = i->start;

	for (uint32_t k = 0; k < i->rank; k++)
		last += (i->dim[k].size - 1) * i->dim[k].stride;
	return last + 1;
}

static bool is_run(const struct image *i)
{
	return i->rank == 0 || (i->rank == 1 && i->dim[0].stride == 1);
}

static int by_start(const void *a, const void *b)
{
	const struct image *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->owner > y->owner) - (x->owner < y->owner);
}

static int by_begin(const void *a, const void *b)
{
	const struct part *x = a, *y = b;

	return (x->begin > y->begin) - (x->begin < y->begin);
}

static enum sd_coverage hole(struct prover *p, uint64_t element)
{
	p->fault->element = element;
	p->fault->first = p->fault->second = 0;
	return SD_HOLE;
}

static struct image without_outer(const struct image *i)
{
	struct image inner = *i;

	inner.rank--;
	memmove(inner.dim, inner.dim + 1, inner.rank * sizeof(inner.dim[0]));
	return inner;
}

static void append(struct image *i, uint64_t size, uint64_t stride)
{
	if (size != 1)
		i->dim[i->rank++] = (struct extent){size, stride};
}

/* The first size indices of the outermost dimension. */
static struct image first_of(const struct image *i, uint64_t size)
{
	struct image first = *i;

	if (size == 1)
		return without_outer(i);
	first.dim[0].size = size;
	return first;
}

static void drop_first(struct image *i, uint64_t size)
{
	i->start += size * i->dim[0].stride;
	i->dim[0].size -= size;
	if (i->dim[0].size == 1)
		*i = without_outer(i);
}

static enum sd_coverage add_part(struct parts *parts, const struct image *i, uint64_t period, uint64_t repeats)
{
	struct part *part;

	if (!sd_array_grow(&parts->at, parts->count, &parts->room, sizeof(*parts->at)))
		return SD_COVERAGE_NOMEM;
	part = &parts->at[parts->count++];
	*part = (struct part){i->start / period, i->start / period + repeats, *i};
	part->image.start %= period;
	return SD_COVERED;
}

/* Cuts an image without a dimension of stride period, there repeats times, into parts that cross no border of a period.
 */
static enum sd_coverage place(struct prover *p, struct parts *parts, struct image i, uint64_t period, uint64_t repeats)
{
	enum sd_coverage r = SD_COVERED;

	while (r == SD_COVERED) {
		uint64_t start = i.start % period, border = period - start, below = end_of(&i) - i.start, n, each;
		struct extent outer;

		if (p->steps++ >= p->limit)
			return SD_COVERAGE_TOO_HARD;
		if (below <= border)
			return add_part(parts, &i, period, repeats);
		outer = i.dim[0];
		below -= (outer.size - 1) * outer.stride;
		/* As many indices as end before the border; none: the one that lies across it is cut further in. */
		n = border < below ? 0 : (border - below) / outer.stride + 1;
		if (n == 0) {
			r = place(p, parts, without_outer(&i), period, repeats);
			n = 1;
		} else {
			struct image head = first_of(&i, n);

			r = add_part(parts, &head, period, repeats);
		}
		drop_first(&i, n);
		each = period / outer.stride;
		if (r == SD_COVERED && repeats == 1 && period % outer.stride == 0 && i.rank &&
		    i.dim[0].stride == outer.stride && i.dim[0].size > each) {
			uint64_t whole = i.dim[0].size / each, rest = i.dim[0].size % each;

			r = place(p, parts, first_of(&i, each), period, whole);
			if (rest == 0)
				return r;
			drop_first(&i, whole * each);
		}
	}
	return r;
}

static enum sd_coverage cut(struct prover *p, struct parts *parts, const struct image *i, uint64_t period)
{
	if (i->rank && i->dim[0].stride == period)
		return place(p, parts, without_outer(i), period, i->dim[0].size);
	return place(p, parts, *i, period, 1);
}

/* Fills periods of a cluster in which the same parts are; active has room for all of them. */
static enum sd_coverage fill_periods(struct prover *p, const struct parts *parts, struct image *active, uint64_t period,
				     uint64_t elements)
{
	uint64_t periods = (elements + period - 1) / period, at = 0;
	size_t *in = malloc((parts->count + 1) * sizeof(*in)), count = 0, next = 0;
	enum sd_coverage r = in ? SD_COVERED : SD_COVERAGE_NOMEM;

	while (r == SD_COVERED && at < periods) {
		uint64_t until = periods, size = period;
		size_t kept = 0;

		for (; next < parts->count && parts->at[next].begin <= at; next++)
			in[count++] = next;
		for (size_t k = 0; k < count; k++) {
			const struct part *part = &parts->at[in[k]];

			if (part->end <= at)
				continue;
			if (part->end < until)
				until = part->end;
			active[kept] = part->image;
			in[kept++] = in[k];
		}
		count = kept;
		if (next < parts->count && parts->at[next].begin < until)
			until = parts->at[next].begin;
		/* The last period may be a short one: what goes on into it leaves a hole in those before it. */
		if (at == periods - 1 && elements % period)
			size = elements % period;
		r = fill(p, active, count, size);
		if (r == SD_HOLE || r == SD_OVERLAP)
			p->fault->element += at * period;
		at = until;
	}
	free(in);
	return r;
}

/* Images whose spans hang together, from position 0 to elements. */
static enum sd_coverage fill_cluster(struct prover *p, const struct image *images, size_t count, uint64_t elements)
{
	struct parts parts = {0};
	struct image *active = NULL;
	enum sd_coverage r = SD_COVERED;
	uint64_t period = 1;

	for (size_t k = 0; k < count; k++)
		if (!is_run(&images[k]) && images[k].dim[0].stride > period)
			period = images[k].dim[0].stride;
	if (period == 1) {
		/* Nothing but runs: the second one in order begins inside of the first. */
		if (count > 1)
			*p->fault = (struct sd_coverage_fault){images[1].start, images[0].owner, images[1].owner};
		return count > 1 ? SD_OVERLAP : SD_COVERED;
	}
	for (size_t k = 0; k < count && r == SD_COVERED; k++)
		r = cut(p, &parts, &images[k], period);
	if (r == SD_COVERED) {
		qsort(parts.at, parts.count, sizeof(*parts.at), by_begin);
		active = malloc(parts.count * sizeof(*active));
		r = active ? fill_periods(p, &parts, active, period, elements) : SD_COVERAGE_NOMEM;
	}
	free(active);
	free(parts.at);
	return r;
}

/* Whether images, all of them within elements, fill these. */
static enum sd_coverage fill(struct prover *p, struct image *images, size_t count, uint64_t elements)
{
	uint64_t filled = 0;
	enum sd_coverage r = SD_COVERED;

	if (p->depth == DEPTH_MAX || (p->steps += count) > p->limit)
		return SD_COVERAGE_TOO_HARD;
	p->depth++;
	qsort(images, count, sizeof(*images), by_start);
	for (size_t k = 0; k < count && r == SD_COVERED;) {
		uint64_t begin = images[k].start, end = end_of(&images[k]);
		size_t first = k;

		if (begin > filled)
			break;
		for (k++; k < count && images[k].start < end; k++)
			if (end_of(&images[k]) > end)
				end = end_of(&images[k]);
		for (size_t i = first; i < k; i++)
			images[i].start -= begin;
		r = fill_cluster(p, images + first, k - first, end - begin);
		if (r == SD_HOLE || r == SD_OVERLAP)
			p->fault->element += begin;
		filled = end;
	}
	p->depth--;
	return r == SD_COVERED && filled < elements ? hole(p, filled) : r;
}

/* The target side of a move; false where it writes nothing. */
static bool image_of(const struct sd_move *move, size_t owner, struct image *i)
{
	struct sd_dim dim[SD_MOVE_RANK];
	struct sd_move side;

	/* Only the target counts: with equal strides on both sides everything is fused that can be. */
	for (uint32_t k = 0; k < move->rank; k++) {
		if (move->dim[k].size == 0)
			return false;
		dim[k] = (struct sd_dim){move->dim[k].size, move->dim[k].to, move->dim[k].to};
	}
	*i = (struct image){.start = move->to, .owner = owner};
	if (!sd_move_make(&side, 0, 0, dim, move->rank))
		return false;
	for (uint32_t k = 0; k < side.rank; k++)
		append(i, side.dim[k].size, side.dim[k].to);
	return true;
}

enum sd_coverage sd_coverage_check(const struct sd_move *const *moves, size_t count, uint64_t elements,
				   struct sd_coverage_fault *fault)
{
	struct prover p = {.limit = STEPS_BASE + STEPS_EACH * (uint64_t)count, .fault = fault};
	struct image one, *images = &one;
	enum sd_coverage r;
	size_t n = 0;

	/* Most tensors are one whole piece. */
	if (count > 1)
		images = count <= SIZE_MAX / sizeof(*images) ? malloc(count * sizeof(*images)) : NULL;
	if (!images)
		return SD_COVERAGE_NOMEM;
	for (size_t k = 0; k < count; k++)
		n += image_of(moves[k], k, &images[n]);
	r = fill(&p, images, n, elements);
	if (images != &one)
		free(images);
	return r;
}
