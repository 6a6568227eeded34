/* SPDX-License-Identifier: Apache-2.0 */
/* Moves, their composition and their coverage, against loops over single elements. */
#include "base/dtype.h"
#include "move/compose.h"
#include "move/coverage.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CASES 20000
#define NOWHERE UINT64_MAX

static uint64_t state;

static uint64_t any(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % below;
}

static void begin(uint64_t seed)
{
	state = UINT64_C(0x9e3779b97f4a7c15) * (seed + 1);
	for (int i = 0; i < 8; i++)
		any(2);
}

/* Writes target positions by source position; says false for an element read or written twice or outside. */
static bool expand(const struct sd_move *m, uint64_t *to_of, uint64_t from_count, uint64_t to_count)
{
	uint64_t index[SD_MOVE_RANK] = {0};
	bool *written = calloc(to_count + 1, sizeof(*written)), good = true;

	for (uint64_t n = sd_move_count(m); n > 0 && good; n--) {
		uint64_t from = m->from, to = m->to;

		for (uint32_t k = 0; k < m->rank; k++) {
			from += index[k] * m->dim[k].from;
			to += index[k] * m->dim[k].to;
		}
		good = from < from_count && to < to_count && to_of[from] == NOWHERE && !written[to];
		if (good) {
			to_of[from] = to;
			written[to] = true;
		}
		for (uint32_t k = m->rank; k-- > 0 && ++index[k] == m->dim[k].size;)
			index[k] = 0;
	}
	free(written);
	return good;
}

static uint64_t *nowhere(uint64_t count)
{
	uint64_t *p = malloc((count + 1) * sizeof(*p));

	for (uint64_t i = 0; i < count; i++)
		p[i] = NOWHERE;
	return p;
}

/* Any shape of count elements, or of some fewer. */
static uint32_t any_shape(uint64_t count, uint64_t *shape)
{
	uint32_t rank = 0;

	while (rank < 5 && count > 1 && any(4)) {
		uint64_t size = 1 + any(count < 7 ? count : 7);

		shape[rank++] = size;
		count /= size;
	}
	shape[rank++] = count;
	return rank;
}

/* Any box of an array of count elements, turned in any way, in any place of another array, of which *outside is the
 * size. */
static struct sd_move any_move(uint64_t count, uint64_t *outside)
{
	uint64_t shape[8], first, room, step = 1;
	bool whole = any(3) == 0, tight = any(2) == 0;
	uint32_t rank = any_shape(count, shape), order[8];
	struct sd_dim dim[8];
	struct sd_move m;
	uint64_t from = 0, to = 0;

	for (uint32_t k = rank; k-- > 0; step *= shape[k]) {
		first = whole ? 0 : any(shape[k]);
		dim[k] = (struct sd_dim){whole ? shape[k] : 1 + any(shape[k] - first), step, 0};
		from += first * step;
		order[k] = k;
	}
	for (uint32_t k = rank; k-- > 1;) {
		uint32_t other = (uint32_t)any(k + 1), o = order[k];

		order[k] = order[other];
		order[other] = o;
	}
	*outside = 1;
	for (uint32_t k = rank; k-- > 0;) {
		struct sd_dim *d = &dim[order[k]];

		first = tight ? 0 : any(3);
		room = d->size + first + (tight ? 0 : any(2));
		d->to = *outside;
		to += first * *outside;
		*outside *= room;
	}
	cr_assert(sd_move_make(&m, from, to, dim, rank));
	return m;
}

static uint64_t any_count(void)
{
	static const uint64_t counts[] = {1, 2, 7, 12, 24, 30, 36, 48, 60, 64, 72, 96, 100, 120};

	return counts[any(sizeof(counts) / sizeof(counts[0]))];
}

Test(move, composes)
{
	size_t moves = 0, single = 0;

	for (uint64_t seed = 0; seed < CASES; seed++) {
		uint64_t between, source, target, *a, *b, *both;
		struct sd_move first, then;
		struct sd_moves list = {0};
		struct sd_error err;

		begin(seed);
		between = any_count();
		first = any_move(between, &source);
		first = sd_move_inverse(&first);
		then = any_move(between, &target);
		cr_assert(sd_move_check(&first, source, between), "seed %" PRIu64, seed);
		cr_assert(sd_move_check(&then, between, target), "seed %" PRIu64, seed);
		cr_assert_eq(sd_move_compose(&first, &then, &list, &err), SD_OK);
		a = nowhere(source);
		b = nowhere(between);
		both = nowhere(source);
		cr_assert(expand(&first, a, source, between));
		cr_assert(expand(&then, b, between, target));
		for (size_t k = 0; k < list.count; k++) {
			struct sd_move again = list.at[k];

			cr_assert(sd_move_check(&list.at[k], source, target), "seed %" PRIu64, seed);
			cr_assert(expand(&list.at[k], both, source, target), "seed %" PRIu64, seed);
			sd_move_normalise(&again);
			cr_assert_eq(memcmp(&again, &list.at[k], sizeof(again)), 0);
		}
		for (uint64_t k = 0; k < source; k++)
			cr_assert_eq(both[k], a[k] == NOWHERE ? NOWHERE : b[a[k]], "seed %" PRIu64 ", element %" PRIu64,
				     seed, k);
		moves += list.count;
		single += list.count <= 1;
		free(list.at);
		free(a);
		free(b);
		free(both);
	}
	cr_log_info("%zu moves of %d compositions, %zu of them single", moves, CASES, single);
}

static struct sd_move only(struct sd_moves *list)
{
	struct sd_move m;

	cr_assert_eq(list->count, 1, "%zu moves", list->count);
	m = list->at[0];
	free(list->at);
	*list = (struct sd_moves){0};
	return m;
}

/* What maps ask for comes out as one move: experts stacked, halves put side by side, turned, and cut again. */
Test(move, composes_experts_as_one_move)
{
	const uint64_t n = 5, rows = 6, half = 4, grouped[] = {n, rows, 2 * half};
	struct sd_moves list = {0};
	struct sd_error err;

	for (uint64_t e = 0; e < n; e++)
		for (uint64_t h = 0; h < 2; h++) {
			const uint64_t expert[] = {half, rows}, turned[] = {1, rows, half}, place[] = {e, 0, h * half};
			struct sd_move turn, put, back, m;

			cr_assert(sd_move_permute(&turn, expert, 2, (uint32_t[]){1, 0}));
			cr_assert(sd_move_slice(&back, grouped, 3, place, turned));
			put = sd_move_inverse(&back);
			cr_assert_eq(sd_move_compose(&turn, &put, &list, &err), SD_OK);
			m = only(&list);
			cr_assert_eq(m.to, (e * rows * 2 + h) * half);
			cr_assert_eq(m.rank, 2);
			/* The last two dimensions of the whole exchanged, and back. */
			cr_assert(sd_move_permute(&turn, grouped, 3, (uint32_t[]){0, 2, 1}));
			cr_assert_eq(sd_move_compose(&m, &turn, &list, &err), SD_OK);
			m = only(&list);
			cr_assert(sd_move_keeps_order(&m));
			turn = sd_move_inverse(&turn);
			cr_assert_eq(sd_move_compose(&m, &turn, &list, &err), SD_OK);
			m = only(&list);
			/* And into a list of the tensor's rows. */
			cr_assert_eq(sd_move_compose(&m, &back, &list, &err), SD_OK);
			m = only(&list);
			cr_assert_eq(sd_move_count(&m), half * rows);
		}
}

Test(move, refuses_more_than_can_be)
{
	/* These strides have nothing in common. */
	struct sd_move a = {.rank = 2, .dim = {{1000000, 1, 100003}, {100000, 1000000, 1}}};
	struct sd_move b = {.rank = 2, .dim = {{1000000, 100019, 1}, {100000, 1, 1000000}}};
	struct sd_moves list = {0};
	struct sd_error err;

	cr_assert_eq(sd_move_compose(&a, &b, &list, &err), SD_INPUT);
	cr_assert(strstr(err.text, "65536"));
	free(list.at);
}

Test(move, inverse_and_order)
{
	for (uint64_t seed = 0; seed < CASES; seed++) {
		uint64_t count, outside, *to, *back, last = 0;
		struct sd_move m, inverse, again;
		bool keeps = true;

		begin(seed);
		count = any_count();
		m = any_move(count, &outside);
		inverse = sd_move_inverse(&m);
		again = sd_move_inverse(&inverse);
		cr_assert_eq(memcmp(&m, &again, sizeof(m)), 0, "seed %" PRIu64, seed);
		to = nowhere(count);
		back = nowhere(outside);
		cr_assert(expand(&m, to, count, outside));
		cr_assert(expand(&inverse, back, outside, count));
		for (uint64_t k = 0; k < count; k++) {
			if (to[k] == NOWHERE)
				continue;
			cr_assert_eq(back[to[k]], k);
			keeps = keeps && to[k] + 1 > last;
			last = to[k] + 1;
		}
		cr_assert_eq(sd_move_keeps_order(&m), keeps, "seed %" PRIu64, seed);
		free(to);
		free(back);
	}
}

/* One move written in different dimensions has one normal form. */
Test(move, normal_form)
{
	for (uint64_t seed = 0; seed < CASES; seed++) {
		uint64_t outside;
		struct sd_dim dim[64];
		struct sd_move m, n;
		uint32_t rank = 0;

		begin(seed);
		m = any_move(any_count(), &outside);
		for (uint32_t k = 0; k < m.rank; k++) {
			struct sd_dim d = m.dim[k];

			for (uint64_t f = 2; f < 6 && rank < 40; f++)
				if (d.size % f == 0 && any(2)) {
					dim[rank++] = (struct sd_dim){f, d.from, d.to};
					d = (struct sd_dim){d.size / f, d.from * f, d.to * f};
				}
			dim[rank++] = d;
			if (any(3) == 0)
				dim[rank++] = (struct sd_dim){1, any(100), any(100)};
		}
		for (uint32_t k = rank; k-- > 1;) {
			uint64_t other = any(k + 1);
			struct sd_dim d = dim[k];

			dim[k] = dim[other];
			dim[other] = d;
		}
		cr_assert(sd_move_make(&n, m.from, m.to, dim, rank));
		cr_assert_eq(memcmp(&m, &n, sizeof(m)), 0, "seed %" PRIu64, seed);
	}
	struct sd_move none = {.from = 3, .rank = 2, .dim = {{5, 1, 1}, {0, 5, 5}}};

	sd_move_normalise(&none);
	cr_assert_eq(none.rank, 1);
	cr_assert_eq(sd_move_count(&none), 0);
}

/* The check takes no move that does harm, and every one that was made from shapes. */
Test(move, check)
{
	size_t good = 0;

	for (uint64_t seed = 0; seed < CASES; seed++) {
		uint64_t source = 1 + any(40), target = 1 + any(40), *to;
		struct sd_move m = {.from = any(5), .to = any(5)};

		begin(seed);
		m.rank = (uint32_t)any(4);
		for (uint32_t k = 0; k < m.rank; k++)
			m.dim[k] = (struct sd_dim){any(5), any(12), any(12)};
		to = nowhere(source);
		if (sd_move_check(&m, source, target)) {
			good++;
			cr_assert(expand(&m, to, source, target), "seed %" PRIu64, seed);
		}
		free(to);
	}
	cr_assert_gt(good, 100);
	cr_assert(!sd_move_check(&(struct sd_move){.rank = 17}, 100, 100));
	cr_assert(!sd_move_check(&(struct sd_move){.from = UINT64_MAX, .rank = 1, .dim = {{2, 1, 1}}}, 100, 100));
	cr_assert(!sd_move_check(&(struct sd_move){.rank = 1, .dim = {{UINT64_MAX, UINT64_MAX, 1}}}, UINT64_MAX,
				 UINT64_MAX));
	cr_assert(!sd_move_check(&(struct sd_move){.rank = 1, .dim = {{2, 0, 1}}}, 100, 100));
	cr_assert(sd_move_check(&(struct sd_move){.from = 99}, 100, 1));
	cr_assert(!sd_move_check(&(struct sd_move){.from = 100}, 100, 1));
}

Test(move, builders_refuse)
{
	const uint64_t shape[] = {4, 5}, huge[] = {UINT64_MAX, 3, 2};
	struct sd_move m;

	cr_assert(!sd_move_permute(&m, shape, 2, (uint32_t[]){0, 0}));
	cr_assert(!sd_move_permute(&m, shape, 2, (uint32_t[]){0, 2}));
	cr_assert(!sd_move_permute(&m, huge, 3, (uint32_t[]){2, 1, 0}));
	cr_assert(!sd_move_slice(&m, shape, 2, (uint64_t[]){1, 0}, (uint64_t[]){4, 1}));
	cr_assert(!sd_move_slice(&m, shape, 2, (uint64_t[]){UINT64_MAX, 0}, (uint64_t[]){2, 1}));
	cr_assert(sd_move_slice(&m, shape, 2, (uint64_t[]){4, 0}, (uint64_t[]){0, 5}));
	cr_assert_eq(sd_move_count(&m), 0);
}

/* Cuts a box of the tensor into two, again and again, so that the pieces fill it. */
static size_t any_pieces(const uint64_t *shape, uint32_t rank, struct sd_move *pieces, size_t want)
{
	struct {
		uint64_t begin[8], size[8];
	} box[64] = {0};
	size_t n = 1;

	memcpy(box[0].size, shape, rank * sizeof(*shape));
	for (int tries = 0; n < want && tries < 100; tries++) {
		size_t b = any(n);
		uint32_t k = (uint32_t)any(rank);
		uint64_t at;

		if (box[b].size[k] < 2)
			continue;
		at = 1 + any(box[b].size[k] - 1);
		box[n] = box[b];
		box[n].begin[k] += at;
		box[n].size[k] -= at;
		box[b].size[k] = at;
		n++;
	}
	for (size_t i = 0; i < n; i++) {
		cr_assert(sd_move_slice(&pieces[i], shape, rank, box[i].begin, box[i].size));
		pieces[i] = sd_move_inverse(&pieces[i]);
	}
	return n;
}

Test(cover, finds_first_hole_and_overlap)
{
	size_t seen[3] = {0};

	for (uint64_t seed = 0; seed < CASES; seed++) {
		uint64_t shape[8], count, at;
		uint32_t rank;
		struct sd_move pieces[80];
		const struct sd_move *list[80];
		struct sd_coverage_fault fault = {0};
		enum sd_coverage found, expected;
		unsigned *times;
		size_t n;

		begin(seed);
		count = any_count();
		rank = any_shape(count, shape);
		cr_assert(sd_shape_count(shape, rank, &count));
		n = any_pieces(shape, rank, pieces, 1 + any(12));
		/* Other arrays of as many elements, other pieces: anything at all may lie in the tensor. */
		if (any(3) == 0) {
			uint64_t outside;

			pieces[n] = any_move(count, &outside);
			pieces[n] = sd_move_inverse(&pieces[n]);
			n++;
		}
		if (any(3) == 0 && n > 1)
			n--, pieces[any(n)] = pieces[n];
		times = calloc(count + 1, sizeof(*times));
		for (size_t k = 0; k < n; k++) {
			struct sd_move alone = pieces[k];
			uint64_t elements = sd_move_count(&alone), *to = nowhere(count);

			/* A piece's elements in order are what it reads. */
			for (uint32_t d = 0; d < alone.rank; d++) {
				alone.dim[d].from = 1;
				for (uint32_t e = d + 1; e < alone.rank; e++)
					alone.dim[d].from *= alone.dim[e].size;
			}
			alone.from = 0;
			cr_assert(expand(&alone, to, elements, count));
			for (uint64_t i = 0; i < elements; i++)
				times[to[i]]++;
			free(to);
			list[k] = &pieces[k];
		}
		for (at = 0; at < count && times[at] == 1; at++)
			;
		expected = at == count ? SD_COVERED : times[at] ? SD_OVERLAP : SD_HOLE;
		found = sd_coverage_check(list, n, count, &fault);
		cr_assert_eq(found, expected, "seed %" PRIu64 ": %d, not %d", seed, found, expected);
		if (found != SD_COVERED)
			cr_assert_eq(fault.element, at, "seed %" PRIu64, seed);
		if (found == SD_OVERLAP)
			cr_assert(fault.first != fault.second && fault.first < n && fault.second < n);
		seen[found]++;
		free(times);
	}
	cr_assert(seen[SD_COVERED] > 100 && seen[SD_HOLE] > 100 && seen[SD_OVERLAP] > 100);
}

static struct sd_move box(const uint64_t *shape, uint64_t b0, uint64_t b1, uint64_t b2, uint64_t n0, uint64_t n1,
			  uint64_t n2)
{
	struct sd_move m;

	cr_assert(sd_move_slice(&m, shape, 3, (uint64_t[]){b0, b1, b2}, (uint64_t[]){n0, n1, n2}));
	return sd_move_inverse(&m);
}

/* Gate and up of 512 experts, each in four blocks of rows; then without one, and with one twice. */
Test(cover, experts)
{
	const uint64_t n = 512, rows = 2048, half = 768, shape[] = {n, rows, 2 * half}, count = n * rows * 2 * half;
	struct sd_move *pieces = malloc(n * 8 * sizeof(*pieces));
	const struct sd_move **list = malloc(n * 8 * sizeof(*list));
	struct sd_coverage_fault fault;
	size_t k = 0;

	for (uint64_t e = 0; e < n; e++)
		for (uint64_t h = 0; h < 2; h++)
			for (uint64_t r = 0; r < 4; r++, k++) {
				pieces[k] = box(shape, e, r * 512, h * half, 1, 512, half);
				list[k] = &pieces[k];
			}
	cr_assert_eq(sd_coverage_check(list, k, count, &fault), SD_COVERED);
	list[8 * 300 + 5] = &pieces[8 * 300 + 4];
	cr_assert_eq(sd_coverage_check(list, k, count, &fault), SD_OVERLAP);
	cr_assert_eq(fault.element, 300 * rows * 2 * half + half);
	cr_assert(fault.first != fault.second && fault.first / 2 == 300 * 4 + 2 && fault.second / 2 == 300 * 4 + 2);
	list[8 * 300 + 5] = list[--k];
	cr_assert_eq(sd_coverage_check(list, k, count, &fault), SD_HOLE);
	cr_assert_eq(fault.element, 300 * rows * 2 * half + 512 * 2 * half + half);
	free(pieces);
	free(list);
}

/* One column each of 20,000: no pair of pieces needs to be looked at. */
Test(cover, columns)
{
	const uint64_t columns = 20000, shape[] = {1, 3000, columns};
	struct sd_move *pieces = malloc(columns * sizeof(*pieces));
	const struct sd_move **list = malloc(columns * sizeof(*list));
	struct sd_coverage_fault fault;

	for (uint64_t k = 0; k < columns; k++) {
		pieces[k] = box(shape, 0, 0, columns - 1 - k, 1, 3000, 1);
		list[k] = &pieces[k];
	}
	cr_assert_eq(sd_coverage_check(list, columns, 3000 * columns, &fault), SD_COVERED);
	cr_assert_eq(sd_coverage_check(list, columns - 1, 3000 * columns, &fault), SD_HOLE);
	cr_assert_eq(fault.element, 0);
	free(pieces);
	free(list);
}

Test(cover, gives_up_in_time)
{
	struct sd_move pieces[500];
	const struct sd_move *list[500];
	struct sd_coverage_fault fault;

	/* Strides that have nothing in common, each over a billion elements. */
	for (uint64_t k = 0; k < 500; k++) {
		pieces[k] = (struct sd_move){.to = k, .rank = 1, .dim = {{1000000, 1, 1000 + k}}};
		list[k] = &pieces[k];
	}
	cr_assert_neq(sd_coverage_check(list, 500, UINT64_C(2000000000), &fault), SD_COVERED);
}

Test(cover, nothing)
{
	struct sd_move none = {.rank = 1, .dim = {{0, 1, 1}}}, one = {0};
	const struct sd_move *list[] = {&none, &one};
	struct sd_coverage_fault fault;

	cr_assert_eq(sd_coverage_check(NULL, 0, 0, &fault), SD_COVERED);
	cr_assert_eq(sd_coverage_check(list, 1, 0, &fault), SD_COVERED);
	cr_assert_eq(sd_coverage_check(list, 2, 1, &fault), SD_COVERED);
	cr_assert_eq(sd_coverage_check(list, 1, 1, &fault), SD_HOLE);
}

/* One composition may make many moves, but not each of many. */
Test(compose, all_together_stay_in_proportion)
{
	struct sd_compose_sum sum = {0};
	struct sd_error err;

	for (int i = 0; i < 1000; i++)
		cr_assert(sd_compose_count(&sum, i ? SD_COMPOSE_EACH : SD_COMPOSE_MAX, &err) == SD_OK, "%d", i);
	cr_assert(sd_compose_count(&sum, 2 * SD_COMPOSE_EACH, &err) == SD_OK);
	cr_assert(sd_compose_count(&sum, SD_COMPOSE_EACH + 1, &err) == SD_INPUT);
	cr_assert(strstr(err.text, "up to this one"), "%s", err.text);
}
