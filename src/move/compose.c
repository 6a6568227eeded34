/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Composition: finds the dimensions that two moves have in common on the array between them.
 *
 * Each move is a set of positions in that array, a sum of dimensions (size, stride) in which a stride is larger than
 * all that lies below it. From the outside in: where both outermost strides are equal, the two indices differ by a
 * constant (two constants, where the offsets make an inner part reach over into the next period). Where one stride
 * divides the other, the finer side is cut into periods of the coarser one. Where neither does, both are cut at the
 * least common multiple, and what is left inside goes index by index.
 */
#include "move/compose.h"
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

/* Positions are signed here, and sums of a few of them must fit. */
#define POSITION_MAX (INT64_MAX / 8)
#define STEPS_MAX (64 * SD_COMPOSE_MAX)
/* Each dimension has two elements or more. */
#define COMMON_MAX 64

struct axis {
	int64_t size, stride; /* on the array between */
	uint64_t other;       /* stride on the far side */
};

/* The innermost dimension is the first. A cut adds one, and it goes before the next. */
struct side {
	uint32_t rank;
	struct axis axis[SD_MOVE_RANK + 4];
};

/* What is still to be matched: side 0 is the first move, side 1 the second. */
struct frame {
	struct side side[2];
	uint64_t offset[2]; /* on the far sides */
	int64_t gap;        /* from the first position of side 0 to that of side 1 */
};

struct composer {
	struct sd_dim common[COMMON_MAX];
	uint32_t rank;
	uint32_t steps;
	size_t limit;
	struct sd_moves *moves;
	struct sd_error *err;
};

static enum sd_result meet(struct composer *c, struct frame *f);

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t ceil_div(int64_t a, int64_t b)
{
	return -floor_div(-a, b);
}

static struct axis *outer(struct side *s)
{
	return &s->axis[s->rank - 1];
}

/* From the first to the last position of the innermost dimensions. */
static int64_t reach(const struct side *s, uint32_t rank)
{
	int64_t sum = 0;

	for (uint32_t k = 0; k < rank; k++)
		sum += (s->axis[k].size - 1) * s->axis[k].stride;
	return sum;
}

static enum sd_result too_many(struct composer *c)
{
	return sd_fail(c->err, SD_INPUT, "the two reorderings together are more than %d strided copies",
		       SD_COMPOSE_MAX);
}

enum sd_result sd_compose_count(struct sd_compose_sum *sum, size_t made, struct sd_error *err)
{
	sum->asked++;
	sum->made += made;
	if (sum->made <= SD_COMPOSE_MAX + SD_COMPOSE_EACH * sum->asked)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "the reorderings up to this one are more than %d strided copies each, and %d",
		       SD_COMPOSE_EACH, SD_COMPOSE_MAX);
}

/* Side w begins at its index start. */
static void begin_at(struct frame *f, int w, int64_t start)
{
	struct axis *a = outer(&f->side[w]);

	f->gap += w ? start * a->stride : -start * a->stride;
	f->offset[w] += (uint64_t)start * a->other;
}

static enum sd_result emit(struct composer *c, const struct frame *f)
{
	struct sd_moves *m = c->moves;
	struct sd_dim dim[COMMON_MAX];

	if (m->count >= c->limit)
		return too_many(c);
	if (!sd_array_grow(&m->at, m->count, &m->room, sizeof(*m->at)))
		return sd_fail_memory(c->err);
	memcpy(dim, c->common, sizeof(dim));
	if (!sd_move_make(&m->at[m->count], f->offset[0], f->offset[1], dim, c->rank))
		return sd_fail(c->err, SD_INPUT, "the two reorderings together have more than %d dimensions",
			       SD_MOVE_RANK);
	m->count++;
	return SD_OK;
}

/* Both outermost strides are equal: index 0 is index 1 plus a constant. */
static enum sd_result align(struct composer *c, const struct frame *f)
{
	struct side x = f->side[0], y = f->side[1];
	struct axis a = *outer(&x), b = *outer(&y);
	int64_t last = floor_div(f->gap + reach(&y, y.rank - 1), a.stride);
	enum sd_result r = SD_OK;

	for (int64_t q = ceil_div(f->gap - reach(&x, x.rank - 1), a.stride); q <= last && r == SD_OK; q++) {
		int64_t lo = q > 0 ? q : 0, hi = a.size < b.size + q ? a.size : b.size + q;
		uint32_t rank = c->rank;
		struct frame g = *f;

		if (lo >= hi)
			continue;
		g.side[0].rank--;
		g.side[1].rank--;
		g.gap -= q * a.stride;
		g.offset[0] += (uint64_t)lo * a.other;
		g.offset[1] += (uint64_t)(lo - q) * b.other;
		if (hi - lo > 1)
			c->common[c->rank++] = (struct sd_dim){(uint64_t)(hi - lo), a.other, b.other};
		r = meet(c, &g);
		c->rank = rank;
	}
	return r;
}

/* A part of side w, from index start on: count periods of size indices each. */
static enum sd_result take(struct composer *c, const struct frame *f, int w, int64_t start, int64_t size,
			   int64_t period, int64_t count)
{
	struct frame g = *f;
	struct side *s = &g.side[w];
	struct axis *a = outer(s);

	if (size <= 0 || count <= 0)
		return SD_OK;
	begin_at(&g, w, start);
	a->size = size;
	s->axis[s->rank++] = (struct axis){count, period, count > 1 ? (uint64_t)(period / a->stride) * a->other : 0};
	return meet(c, &g);
}

/* Cuts side w into periods, which its stride divides, so that they begin where those of the other side do. */
static enum sd_result cut(struct composer *c, const struct frame *f, int w, int64_t period)
{
	struct side s = f->side[w], t = f->side[!w];
	struct axis a = *outer(&s);
	int64_t each = period / a.stride, begin = w ? f->gap : -f->gap;
	int64_t phase = begin - floor_div(begin, period) * period, shift = phase % a.stride;
	int64_t lead = (each - phase / a.stride) % each, whole, rest;
	enum sd_result r;

	if (lead > a.size)
		lead = a.size;
	whole = (a.size - lead) / each;
	rest = (a.size - lead) % each;
	/* The last period may be short where the other side has nothing behind it: one box instead of two. */
	if (whole && rest && outer(&t)->stride == period && shift + rest * a.stride > reach(&t, t.rank - 1) &&
	    shift + reach(&s, s.rank - 1) < a.stride) {
		whole++;
		rest = 0;
	}
	r = take(c, f, w, 0, lead, period, 1);
	if (r == SD_OK)
		r = take(c, f, w, lead, each, period, whole);
	if (r == SD_OK)
		r = take(c, f, w, lead + whole * each, rest, period, 1);
	return r;
}

/* No common dimension: index by index of side w. */
static enum sd_result each(struct composer *c, const struct frame *f, int w)
{
	int64_t size = f->side[w].axis[f->side[w].rank - 1].size;
	enum sd_result r = SD_OK;

	for (int64_t i = 0; i < size && r == SD_OK; i++) {
		struct frame g = *f;

		begin_at(&g, w, i);
		g.side[w].rank--;
		r = meet(c, &g);
	}
	return r;
}

/* Leaves out indices of side w that lie outside of all of the other side. False where none is left. */
static bool clip(struct frame *f, int w)
{
	struct side *s = &f->side[w];
	const struct side *t = &f->side[!w];
	struct axis *a = outer(s);
	int64_t begin = w ? f->gap : -f->gap;
	int64_t lo = ceil_div(-begin - reach(s, s->rank - 1), a->stride);
	int64_t hi = floor_div(reach(t, t->rank) - begin, a->stride) + 1;

	if (lo < 0)
		lo = 0;
	if (hi > a->size)
		hi = a->size;
	if (lo >= hi)
		return false;
	begin_at(f, w, lo);
	a->size = hi - lo;
	return true;
}

/* The least common multiple, or POSITION_MAX where nothing reaches so far. */
static int64_t common_multiple(int64_t a, int64_t b)
{
	int64_t x = a, y = b, multiple;

	while (y) {
		int64_t rest = x % y;

		x = y;
		y = rest;
	}
	return __builtin_mul_overflow(a / x, b, &multiple) || multiple > POSITION_MAX ? POSITION_MAX : multiple;
}

static void add_outer(struct side *s, int64_t stride)
{
	s->axis[s->rank++] = (struct axis){1, stride, 0};
}

static enum sd_result meet(struct composer *c, struct frame *f)
{
	int64_t s, t, multiple;

	if (c->steps++ == STEPS_MAX)
		return too_many(c);
	if (f->side[0].rank == 0 && f->side[1].rank == 0)
		return f->gap == 0 ? emit(c, f) : SD_OK;
	if (f->side[0].rank == 0)
		add_outer(&f->side[0], outer(&f->side[1])->stride);
	if (f->side[1].rank == 0)
		add_outer(&f->side[1], outer(&f->side[0])->stride);
	if (!clip(f, 0) || !clip(f, 1))
		return SD_OK;
	s = outer(&f->side[0])->stride;
	t = outer(&f->side[1])->stride;
	if (s == t)
		return align(c, f);
	if (s % t == 0)
		return cut(c, f, 1, s);
	if (t % s == 0)
		return cut(c, f, 0, t);
	multiple = common_multiple(s, t);
	for (int w = 0; w < 2; w++)
		if (outer(&f->side[w])->size > multiple / outer(&f->side[w])->stride)
			return cut(c, f, w, multiple);
	return each(c, f, t > s);
}

/* The dimensions of a move as one side sees them, the smallest stride first. False where positions are too large. */
static bool side_of(const struct sd_move *m, int w, struct side *s)
{
	uint64_t last = w ? m->from : m->to;

	s->rank = 0;
	if (last > POSITION_MAX)
		return false;
	for (uint32_t i = 0; i < m->rank; i++) {
		const struct sd_dim *d = &m->dim[i];
		uint64_t stride = w ? d->from : d->to;
		uint32_t k = s->rank;

		if (d->size == 1)
			continue;
		if (stride > POSITION_MAX || d->size > POSITION_MAX / stride)
			return false;
		last += (d->size - 1) * stride;
		if (last > POSITION_MAX)
			return false;
		for (; k > 0 && s->axis[k - 1].stride > (int64_t)stride; k--)
			s->axis[k] = s->axis[k - 1];
		s->axis[k] = (struct axis){(int64_t)d->size, (int64_t)stride, w ? d->to : d->from};
		s->rank++;
	}
	return true;
}

enum sd_result sd_move_compose(const struct sd_move *first, const struct sd_move *then, struct sd_moves *moves,
			       struct sd_error *err)
{
	struct composer c = {.moves = moves, .limit = moves->count + SD_COMPOSE_MAX, .err = err};
	struct frame f;

	if (sd_move_count(first) == 0 || sd_move_count(then) == 0)
		return SD_OK;
	if (!side_of(first, 0, &f.side[0]) || !side_of(then, 1, &f.side[1]))
		return sd_fail(err, SD_INPUT, "a tensor of more than 2^60 elements cannot be reordered");
	f.offset[0] = first->from;
	f.offset[1] = then->to;
	f.gap = (int64_t)then->from - (int64_t)first->to;
	return meet(&c, &f);
}
