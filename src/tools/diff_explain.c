/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff: what tensors that are not the same have to do with each other, found by their bytes: renamed, transposed, a
 * part. */
#include "tools/diff.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of tensors of the same bytes so many names are compared, to find the nearest. */
#define NEAREST_LOOKS 64
/* So many places of a slice are tried. */
#define SLICES_MOST 4096
/* Of more dimensions than this only the last two are exchanged. */
#define PERMUTED_RANK 4
#define PERMUTATIONS 24

/* ---- renamed ---- */

/* A tensor that is in one side only. */
struct loose {
	struct diff_pair *pair;
	const struct sd_listed *t;
	uint64_t sum;
	bool wanted, used;
	struct sd_move turned; /* its last two dimensions exchanged */
};

/* Those of both sides; of A the ones that are removed. */
struct loose_all {
	struct loose *at[2];
	size_t n[2];
	size_t *joined; /* where B's of one sum begin: how many of them, the first ones, are joined already */
};

static bool gather(struct diff *diff, struct loose_all *all)
{
	for (int i = 0; i < 2; i++)
		all->at[i] = calloc(diff->npairs + 1, sizeof(*all->at[i]));
	all->joined = calloc(diff->npairs + 1, sizeof(*all->joined));
	for (size_t i = 0; i < diff->npairs && all->at[0] && all->at[1]; i++) {
		struct diff_pair *p = &diff->pairs[i];
		int side = p->status == DIFF_ADDED;

		if (p->status == DIFF_REMOVED || p->status == DIFF_ADDED)
			all->at[side][all->n[side]++] = (struct loose){.pair = p, .t = diff_tensor(diff, p, side)};
	}
	return all->at[0] && all->at[1] && all->joined;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_size(const void *left, const void *right)
{
	const struct loose *a = left, *b = right;
	int order = compare_numbers(a->t->dtype, b->t->dtype);

	return order ? order : compare_numbers(a->t->elements, b->t->elements);
}

/* And by sums, those that are used already last, and then as they came. */
static int by_sum(const void *left, const void *right)
{
	const struct loose *a = left, *b = right;
	int order = by_size(a, b);

	order = order ? order : compare_numbers(a->sum, b->sum);
	order = order ? order : a->used - b->used;
	return order ? order : (a->pair > b->pair) - (a->pair < b->pair);
}

/* Only what has another of its dtype and size on the other side is read, if it can be and its sum is not known. */
static void want(const struct diff *diff, struct loose_all *all)
{
	for (int i = 0; i < 2; i++)
		qsort(all->at[i], all->n[i], sizeof(*all->at[i]), by_size);
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < all->n[i]; k++) {
			struct loose *l = &all->at[i][k];

			l->sum = l->pair->sum;
			l->wanted = l->t->elements && (diff->side[i].random || l->pair->summed) &&
				    bsearch(l, all->at[!i], all->n[!i], sizeof(*l), by_size) != NULL;
		}
}

static enum sd_result sum_loose(const struct diff *diff, struct loose_all *all, bool turned, struct sd_error *err)
{
	struct diff_task *tasks = calloc(all->n[0] + all->n[1] + 1, sizeof(*tasks));
	size_t n = 0;
	enum sd_result result;

	if (!tasks)
		return sd_fail_memory(err);
	for (int i = 0; i < (turned ? 1 : 2); i++)
		for (size_t k = 0; k < all->n[i]; k++) {
			struct loose *l = &all->at[i][k];

			if (l->wanted && !l->used && (turned || !l->pair->summed))
				tasks[n++] = (struct diff_task){.kind = DIFF_SUM,
								.tensor = {l->pair->tensor[i]},
								.then = {turned ? &l->turned : NULL},
								.of = {i},
								.user = l};
		}
	result = diff_do(diff, tasks, n, false, err);
	for (size_t i = 0; i < n && result == SD_OK; i++)
		((struct loose *)tasks[i].user)->sum = tasks[i].sum;
	free(tasks);
	return result;
}

static size_t likeness(const char *a, const char *b)
{
	size_t front = 0, back = 0, length_a = strlen(a), length_b = strlen(b);

	while (front < length_a && front < length_b && a[front] == b[front])
		front++;
	while (back < length_a - front && back < length_b - front && a[length_a - 1 - back] == b[length_b - 1 - back])
		back++;
	return front + back;
}

/* The first of B that is not less; B is sorted. */
static size_t find_first(const struct loose_all *all, const struct loose *a)
{
	size_t low = 0, high = all->n[1];
	struct loose key = *a;

	key.pair = NULL;
	key.used = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (by_sum(&all->at[1][middle], &key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void swap(struct loose *a, struct loose *b)
{
	struct loose kept = *a;

	*a = *b;
	*b = kept;
}

/* The one of B with the same sum whose name is nearest, or NULL; it is to be joined. The first names are looked at
 * only: there may be any number of tensors of zeros. */
static struct loose *find_same(struct loose_all *all, const struct loose *a)
{
	size_t group = find_first(all, a), first = group < all->n[1] ? group + all->joined[group] : group;
	size_t best = 0, at = SIZE_MAX;

	for (size_t i = first; i < all->n[1] && i - first < NEAREST_LOOKS; i++) {
		const struct loose *b = &all->at[1][i];
		size_t alike;

		if (by_size(a, b) != 0 || a->sum != b->sum)
			break;
		alike = b->wanted && !b->used ? likeness(a->t->name, b->t->name) + 1 : 0;
		if (alike > best) {
			at = i;
			best = alike;
		}
	}
	if (at == SIZE_MAX)
		return NULL;
	swap(&all->at[1][first], &all->at[1][at]);
	all->joined[group]++;
	return &all->at[1][first];
}

/* b's pair becomes nothing: it is the other half of a's. */
static void join(struct loose *a, struct loose *b)
{
	a->used = b->used = true;
	a->pair->tensor[1] = b->pair->tensor[1];
	a->pair->status = DIFF_RENAMED;
	b->pair->tensor[1] = DIFF_NONE;
}

static enum sd_result join_same(struct diff *diff, struct loose_all *all, bool turned, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	memset(all->joined, 0, all->n[1] * sizeof(*all->joined));
	for (int i = 0; i < 2; i++)
		qsort(all->at[i], all->n[i], sizeof(*all->at[i]), by_sum);
	for (size_t i = 0; i < all->n[0] && result == SD_OK; i++) {
		struct loose *a = &all->at[0][i];
		struct loose *b = a->wanted && !a->used ? find_same(all, a) : NULL;

		if (!b)
			continue;
		join(a, b);
		if (turned)
			result = diff_note(diff, a->pair, err, "B is the transpose of A");
		else if (!sd_shape_equal(a->t->shape, a->t->rank, b->t->shape, b->t->rank))
			result = diff_note(diff, a->pair, err, "B is A in another shape");
	}
	return result;
}

/* Which can be turned and still be looked for. */
static void turn_loose(struct loose_all *all)
{
	for (size_t i = 0; i < all->n[0]; i++) {
		struct loose *a = &all->at[0][i];
		uint32_t order[SD_RANK_MAX];

		for (uint32_t k = 0; k < a->t->rank; k++)
			order[k] = k;
		if (a->t->rank >= 2) {
			order[a->t->rank - 2] = a->t->rank - 1;
			order[a->t->rank - 1] = a->t->rank - 2;
		}
		a->wanted = a->wanted && a->t->rank >= 2 && sd_dtype_size((enum sd_dtype)a->t->dtype) &&
			    sd_move_permute(&a->turned, a->t->shape, a->t->rank, order);
	}
}

/* Pairs of which nothing is left. */
static void drop_joined(struct diff *diff)
{
	size_t kept = 0;

	for (size_t i = 0; i < diff->npairs; i++)
		if (diff->pairs[i].tensor[0] != DIFF_NONE || diff->pairs[i].tensor[1] != DIFF_NONE)
			diff->pairs[kept++] = diff->pairs[i];
	diff->npairs = kept;
}

static enum sd_result find_renamed(struct diff *diff, struct sd_error *err)
{
	struct loose_all all = {.n = {0, 0}};
	enum sd_result result = gather(diff, &all) ? SD_OK : sd_fail_memory(err);

	if (result == SD_OK && all.n[0] && all.n[1]) {
		want(diff, &all);
		result = sum_loose(diff, &all, false, err);
		if (result == SD_OK)
			result = join_same(diff, &all, false, err);
		turn_loose(&all);
		if (result == SD_OK && diff->side[0].random)
			result = sum_loose(diff, &all, true, err);
		if (result == SD_OK && diff->side[0].random)
			result = join_same(diff, &all, true, err);
	}
	free(all.at[0]);
	free(all.at[1]);
	free(all.joined);
	return result;
}

/* ---- transposed, reshaped, a slice ---- */

/* Something that one tensor of a pair may be of the other. */
struct guess {
	struct diff_pair *pair;
	struct sd_move then; /* of the tensor of this side */
	int side;
	bool has_move;
	uint64_t from, to;                /* of a slice, in dimension dim */
	uint32_t dim, order[SD_RANK_MAX]; /* of a permutation */
	enum { AS_IT_IS, PERMUTED, SLICED } kind;
};

struct guesses {
	struct guess *at;
	size_t n, room;
	bool failed;
};

static void add_guess(struct guesses *g, const struct guess *guess)
{
	g->failed = g->failed || !sd_array_grow(&g->at, g->n, &g->room, sizeof(*g->at));
	if (!g->failed)
		g->at[g->n++] = *guess;
}

static void guess_order(const struct diff *diff, struct guesses *g, struct diff_pair *p, const uint32_t *order)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);
	struct guess guess = {.pair = p, .has_move = true, .kind = PERMUTED};
	bool moves = false;

	for (uint32_t k = 0; k < a->rank; k++) {
		if (a->shape[order[k]] != b->shape[k])
			return;
		moves = moves || order[k] != k;
		guess.order[k] = order[k];
	}
	if (moves && sd_move_permute(&guess.then, a->shape, a->rank, order))
		add_guess(g, &guess);
}

/* All orders of the dimensions that are not in order yet. */
static void guess_orders(const struct diff *diff, struct guesses *g, struct diff_pair *p, uint32_t *order,
			 uint32_t done)
{
	uint32_t rank = diff_tensor(diff, p, 0)->rank;

	if (done == rank)
		guess_order(diff, g, p, order);
	for (uint32_t k = done; k < rank; k++) {
		uint32_t here = order[done];

		order[done] = order[k];
		order[k] = here;
		guess_orders(diff, g, p, order, done + 1);
		order[k] = order[done];
		order[done] = here;
	}
}

static void guess_turned(const struct diff *diff, struct guesses *g, struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);
	uint32_t order[SD_RANK_MAX];

	if (a->rank != b->rank || a->rank < 2 || !sd_dtype_size((enum sd_dtype)a->dtype))
		return;
	for (uint32_t k = 0; k < a->rank; k++)
		order[k] = k;
	if (a->rank <= PERMUTED_RANK) {
		guess_orders(diff, g, p, order, 0);
		return;
	}
	order[a->rank - 2] = a->rank - 1;
	order[a->rank - 1] = a->rank - 2;
	guess_order(diff, g, p, order);
}

/* The only dimension in which two shapes of one rank differ; false where there are others. */
static bool find_dim(const struct sd_listed *a, const struct sd_listed *b, uint32_t *dim)
{
	uint32_t n = 0;

	for (uint32_t k = 0; k < a->rank && a->rank == b->rank; k++)
		if (a->shape[k] != b->shape[k]) {
			*dim = k;
			n++;
		}
	return n == 1;
}

static void guess_slice(const struct diff *diff, struct guesses *g, struct diff_pair *p, int side, uint32_t dim,
			uint64_t from)
{
	const struct sd_listed *large = diff_tensor(diff, p, side), *small = diff_tensor(diff, p, !side);
	struct guess guess = {.pair = p, .side = side, .has_move = true, .kind = SLICED, .dim = dim, .from = from};
	uint64_t begin[SD_RANK_MAX] = {0};

	begin[dim] = from;
	guess.to = from + small->shape[dim];
	if (sd_move_slice(&guess.then, large->shape, large->rank, begin, small->shape))
		add_guess(g, &guess);
}

static void guess_slices(const struct diff *diff, struct guesses *g, struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);
	uint32_t dim;
	uint64_t places;
	int side;

	if (!find_dim(a, b, &dim) || !sd_dtype_size((enum sd_dtype)a->dtype) || !a->elements || !b->elements)
		return;
	side = b->shape[dim] > a->shape[dim];
	places = side ? b->shape[dim] - a->shape[dim] : a->shape[dim] - b->shape[dim];
	guess_slice(diff, g, p, side, dim, 0);
	guess_slice(diff, g, p, side, dim, places);
	for (uint64_t i = 1; i < places && i < SLICES_MOST; i++)
		guess_slice(diff, g, p, side, dim, i);
}

/* Where numbers only have other places, the sums of their squares are the same but for rounding. */
static bool may_be_turned(const struct diff_pair *p)
{
	return p->compared && p->d.differ > 1 && fabs(p->d.aa - p->d.bb) <= 1e-9 * p->d.aa;
}

static void guess_all(const struct diff *diff, struct guesses *g, struct diff_pair *p)
{
	const struct sd_listed *a = diff_tensor(diff, p, 0), *b = diff_tensor(diff, p, 1);

	if (!a || !b || a->dtype != b->dtype)
		return;
	if (p->status == DIFF_VALUES && may_be_turned(p))
		guess_turned(diff, g, p);
	if (p->status != DIFF_SHAPE)
		return;
	if (a->elements == b->elements) {
		add_guess(g, &(struct guess){.pair = p, .kind = AS_IT_IS});
		guess_turned(diff, g, p);
	} else {
		guess_slices(diff, g, p);
	}
}

static enum sd_result tell_order(struct diff *diff, const struct guess *guess, struct sd_error *err)
{
	uint32_t rank = diff_tensor(diff, guess->pair, 0)->rank;
	uint64_t order[SD_RANK_MAX];
	char text[SD_SHAPE_TEXT];
	bool swapped = true;

	for (uint32_t k = 0; k < rank; k++) {
		order[k] = guess->order[k];
		swapped = swapped && order[k] == (k == rank - 2 ? k + 1 : k == rank - 1 ? k - 1 : k);
	}
	if (swapped)
		return diff_note(diff, guess->pair, err, "B is the transpose of A");
	return diff_note(diff, guess->pair, err, "B is A with its dimensions in the order %s",
			 sd_shape_brief(order, rank, text, sizeof(text)));
}

static enum sd_result tell_slice(struct diff *diff, const struct guess *guess, struct sd_error *err)
{
	char text[SD_SHAPE_TEXT] = "";
	size_t used = 0;

	for (uint32_t k = 0; k < guess->dim && used + 4 < sizeof(text); k++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, ":,");
	return diff_note(diff, guess->pair, err, "%s is %s[%s%" PRIu64 ":%" PRIu64 "]", guess->side ? "A" : "B",
			 guess->side ? "B" : "A", text, guess->from, guess->to);
}

static enum sd_result tell_guess(struct diff *diff, const struct guess *guess, struct sd_error *err)
{
	if (guess->kind == PERMUTED)
		return tell_order(diff, guess, err);
	if (guess->kind == SLICED)
		return tell_slice(diff, guess, err);
	return diff_note(diff, guess->pair, err, "the same bytes in order");
}

/* Guesses that are true, the first one of each pair. */
static enum sd_result try_guesses(struct diff *diff, const struct guesses *g, struct sd_error *err)
{
	struct diff_task *tasks = calloc(g->n + 1, sizeof(*tasks));
	const struct diff_pair *told = NULL;
	enum sd_result result;

	if (!tasks)
		return sd_fail_memory(err);
	for (size_t i = 0; i < g->n; i++) {
		const struct guess *guess = &g->at[i];

		tasks[i] = (struct diff_task){
			.kind = DIFF_BYTES, .tensor = {guess->pair->tensor[0], guess->pair->tensor[1]}, .of = {0, 1}};
		if (guess->has_move)
			tasks[i].then[guess->side] = &guess->then;
	}
	result = diff_do(diff, tasks, g->n, false, err);
	for (size_t i = 0; i < g->n && result == SD_OK; i++) {
		if (tasks[i].differ || g->at[i].pair == told)
			continue;
		told = g->at[i].pair;
		result = tell_guess(diff, &g->at[i], err);
	}
	free(tasks);
	return result;
}

/* A pair at a time, for there may be many guesses of one. */
static enum sd_result find_turned(struct diff *diff, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < diff->npairs && result == SD_OK; i++) {
		struct guesses g = {.n = 0};

		if (diff->pairs[i].tensor[0] != DIFF_NONE && diff->pairs[i].tensor[1] != DIFF_NONE)
			guess_all(diff, &g, &diff->pairs[i]);
		if (g.failed)
			result = sd_fail_memory(err);
		else if (g.n)
			result = try_guesses(diff, &g, err);
		free(g.at);
	}
	return result;
}

enum sd_result diff_explain(struct diff *diff, struct sd_error *err)
{
	bool random = diff->side[0].random && diff->side[1].random;
	enum sd_result result = find_renamed(diff, err);

	if (result == SD_OK && random)
		result = find_turned(diff, err);
	if (result == SD_OK && random)
		result = diff_find_parts(diff, err);
	drop_joined(diff);
	return result;
}
