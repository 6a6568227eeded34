/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor of a source that is read in any order. */
#include "flow/view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where nobody says how much may be kept; and bytes of a stretch that is read at least, where elements lie apart. */
#define CACHE_MOST (64u << 20)
#define STRETCH (1u << 16)

/* ---- making ---- */

static bool add_part(struct sd_view *view, uint32_t record, const struct sd_move *move)
{
	if (!sd_array_grow(&view->parts, view->nparts, &view->room, sizeof(*view->parts)))
		return false;
	view->parts[view->nparts++] = (struct sd_view_part){record, *move};
	return true;
}

static enum sd_result add_moved(struct sd_view *view, uint32_t record, const struct sd_move *move,
				const struct sd_move *then, struct sd_error *err)
{
	struct sd_moves moves = {0};
	enum sd_result result = sd_move_compose(move, then, &moves, err);

	for (size_t i = 0; i < moves.count && result == SD_OK; i++)
		if (!add_part(view, record, &moves.at[i]))
			result = sd_fail_memory(err);
	free(moves.at);
	return result;
}

static enum sd_result add_target(struct sd_view *view, const struct sd_manifest *m, const struct sd_target *t,
				 const struct sd_move *then, struct sd_error *err)
{
	struct sd_move room, move;

	if (m->records[t->record].state != SD_HERE)
		return sd_fail(err, SD_INPUT, "%s: its data does not come along", t->name);
	if (t->nsteps)
		return sd_fail(err, SD_INPUT, "%s is still to be made, by pending steps", t->name);
	move = sd_move_load(sd_target_move(m, t, &room));
	if (then)
		return add_moved(view, t->record, &move, then, err);
	sd_move_normalise(&move);
	return add_part(view, t->record, &move) ? SD_OK : sd_fail_memory(err);
}

static bool is_whole(const struct sd_move *move, uint64_t elements)
{
	struct sd_move whole = sd_move_identity(elements);

	sd_move_normalise(&whole);
	return move->from == 0 && move->to == 0 && move->rank == whole.rank &&
	       memcmp(move->dim, whole.dim, whole.rank * sizeof(*whole.dim)) == 0;
}

enum sd_result sd_view_make(struct sd_view *view, struct sd_source *source, const struct sd_manifest *m,
			    const struct sd_listing *listing, uint32_t tensor, const struct sd_move *then,
			    struct sd_error *err)
{
	const struct sd_listed *t = &listing->tensors[tensor];
	enum sd_result result = SD_OK;

	*view = (struct sd_view){.source = source, .dtype = t->dtype, .elements = t->elements};
	if (then)
		view->elements = sd_move_count(then);
	for (uint32_t i = t->target; i != UINT32_MAX && result == SD_OK; i = listing->next[i])
		result = add_target(view, m, &m->targets[i], then, err);
	view->straight = view->nparts == 1 && is_whole(&view->parts[0].move, view->elements);
	if (result == SD_OK && !view->straight && !sd_dtype_size((enum sd_dtype)t->dtype))
		return sd_fail(err, SD_INPUT, "%s comes in pieces or in another order, which is not read of %s",
			       t->name, sd_dtype_name((enum sd_dtype)t->dtype));
	return result;
}

void sd_view_free(struct sd_view *view)
{
	free(view->parts);
	*view = (struct sd_view){0};
}

void sd_view_cache_free(struct sd_view_cache *cache)
{
	free(cache->memory);
	*cache = (struct sd_view_cache){.most = cache->most};
}

/* ---- runs ---- */

struct walk {
	const struct sd_move *move;
	uint64_t begin, end;
	sd_take_run take;
	void *user;
};

/* How many target elements lie from the first to the last one of dimensions k and on. */
static uint64_t extent(const struct sd_move *move, uint32_t k)
{
	uint64_t last = 0;

	for (; k < move->rank; k++)
		last += (move->dim[k].size - 1) * move->dim[k].to;
	return last + 1;
}

/* Target strides descend, so what lies in the window is a range of each dimension. */
static void walk(const struct walk *w, uint32_t k, uint64_t from, uint64_t to)
{
	const struct sd_dim *dim = &w->move->dim[k];
	uint64_t below = extent(w->move, k + 1), first = 0, end = dim->size;

	if (to + below <= w->begin)
		first = (w->begin - to - below) / dim->to + 1;
	if (to >= w->end)
		return;
	if ((w->end - to - 1) / dim->to + 1 < end)
		end = (w->end - to - 1) / dim->to + 1;
	if (first >= end)
		return;
	if (k + 1 == w->move->rank) {
		w->take(w->user, &(struct sd_run){from + first * dim->from, to + first * dim->to, end - first,
						  dim->from, dim->to});
		return;
	}
	for (uint64_t i = first; i < end; i++)
		walk(w, k + 1, from + i * dim->from, to + i * dim->to);
}

void sd_move_runs(const struct sd_move *move, uint64_t begin, uint64_t end, sd_take_run take, void *user)
{
	const struct walk w = {move, begin, end, take, user};

	if (move->rank == 0) {
		if (move->to >= begin && move->to < end)
			take(user, &(struct sd_run){move->from, move->to, 1, 1, 1});
	} else if (sd_move_count(move)) {
		walk(&w, 0, move->from, move->to);
	}
}

/* ---- reading ---- */

/* A window that is being filled from a part. */
struct filling {
	const struct sd_view *view;
	struct sd_view_cache *cache;
	const struct sd_view_part *part;
	unsigned size; /* bytes of an element */
	uint64_t first;
	unsigned char *buffer;
	uint64_t low, high; /* bytes of the record that are needed */
	uint64_t runs;
	enum sd_result result;
	struct sd_error *err;
};

static void measure(void *user, const struct sd_run *run)
{
	struct filling *f = user;
	uint64_t last = run->from + (run->count - 1) * run->from_step;

	f->low = run->from < f->low ? run->from : f->low;
	f->high = last + 1 > f->high ? last + 1 : f->high;
	f->runs++;
}

static uint64_t record_bytes(const struct filling *f)
{
	return f->view->source->manifest->records[f->part->record].bytes;
}

/* Has bytes begin to end of the record in memory; false where that fails. */
static bool load(struct filling *f, uint64_t begin, uint64_t end)
{
	struct sd_view_cache *cache = f->cache;

	if (cache->source == f->view->source && cache->record == f->part->record && begin >= cache->begin &&
	    end <= cache->end)
		return true;
	cache->source = NULL;
	if (end - begin > cache->room) {
		free(cache->memory);
		cache->memory = malloc(end - begin);
		cache->room = cache->memory ? end - begin : 0;
		if (!cache->memory) {
			f->result = sd_fail_memory(f->err);
			return false;
		}
	}
	f->result = sd_source_read_at(f->view->source, f->part->record, begin, cache->memory, end - begin, f->err);
	if (f->result != SD_OK)
		return false;
	cache->source = f->view->source;
	cache->record = f->part->record;
	cache->begin = begin;
	cache->end = end;
	return true;
}

static void copy_run(unsigned size, const unsigned char *from, uint64_t from_step, unsigned char *to, uint64_t to_step,
		     uint64_t count)
{
	if (from_step == 1 && to_step == 1) {
		memcpy(to, from, count * size);
		return;
	}
	for (uint64_t i = 0; i < count; i++, from += from_step * size, to += to_step * size)
		memcpy(to, from, size);
}

/* Out of what is loaded already. */
static void take_loaded(void *user, const struct sd_run *run)
{
	struct filling *f = user;

	copy_run(f->size, f->cache->memory + (run->from * f->size - f->cache->begin), run->from_step,
		 f->buffer + (run->to - f->first) * f->size, run->to_step, run->count);
}

/* Where too much lies between: a stretch at a time. */
static void take_apart(void *user, const struct sd_run *run)
{
	struct filling *f = user;
	uint64_t bytes = record_bytes(f);

	for (uint64_t i = 0; i < run->count && f->result == SD_OK;) {
		uint64_t begin = (run->from + i * run->from_step) * f->size, n = 1;
		uint64_t end = bytes - begin < STRETCH ? bytes : begin + STRETCH;

		n += (end - begin - f->size) / f->size / run->from_step;
		n = n < run->count - i ? n : run->count - i;
		if (!load(f, begin, end))
			return;
		copy_run(f->size, f->cache->memory + (begin - f->cache->begin), run->from_step,
			 f->buffer + (run->to + i * run->to_step - f->first) * f->size, run->to_step, n);
		i += n;
	}
}

/*
 * The stretch of a record that a window needs. Where elements lie in another order the next window needs nearly the
 * same one, so both ends are rounded to powers of two: it stays for all windows of a matrix, for instance.
 */
static void widen(const struct filling *f, uint64_t count, uint64_t *begin, uint64_t *end)
{
	uint64_t step = STRETCH, bytes = record_bytes(f);

	*begin = f->low * f->size;
	*end = f->high * f->size;
	if (*end - *begin <= 2 * count * f->size)
		return;
	while (step < *end - *begin)
		step *= 2;
	if (2 * step > f->cache->most)
		return;
	*begin = *begin / step * step;
	*end = bytes - *begin <= 2 * step ? bytes : (*end + step - 1) / step * step;
	*end = *end < bytes ? *end : bytes;
}

static enum sd_result fill(struct filling *f, uint64_t count)
{
	const struct sd_move *move = &f->part->move;
	uint64_t begin, end;

	f->low = UINT64_MAX;
	f->high = f->runs = 0;
	sd_move_runs(move, f->first, f->first + count, measure, f);
	if (!f->runs)
		return SD_OK;
	widen(f, count, &begin, &end);
	if (end - begin > f->cache->most)
		sd_move_runs(move, f->first, f->first + count, take_apart, f);
	else if (load(f, begin, end))
		sd_move_runs(move, f->first, f->first + count, take_loaded, f);
	return f->result;
}

enum sd_result sd_view_read(const struct sd_view *view, struct sd_view_cache *cache, uint64_t first, uint64_t count,
			    void *buffer, struct sd_error *err)
{
	unsigned bits = sd_dtype_bits(view->dtype);
	struct filling f = {.view = view,
			    .cache = cache,
			    .size = bits / 8,
			    .first = first,
			    .buffer = buffer,
			    .result = SD_OK,
			    .err = err};
	enum sd_result result = SD_OK;

	if (!count)
		return SD_OK;
	if (view->straight)
		return sd_source_read_at(view->source, view->parts[0].record, first * bits / 8, buffer,
					 (count * bits + 7) / 8, err);
	if (!cache->most)
		cache->most = CACHE_MOST;
	for (size_t i = 0; i < view->nparts && result == SD_OK; i++) {
		f.part = &view->parts[i];
		result = fill(&f, count);
	}
	return result;
}

struct search {
	uint64_t element, from;
	bool found;
};

static void take_place(void *user, const struct sd_run *run)
{
	struct search *s = user;

	s->found = s->found || (s->element - run->to) % run->to_step == 0;
	s->from = run->from + (s->element - run->to) / run->to_step * run->from_step;
}

bool sd_view_place(const struct sd_view *view, uint64_t element, uint32_t *record, uint64_t *number)
{
	for (size_t i = 0; i < view->nparts; i++) {
		struct search s = {.element = element};

		sd_move_runs(&view->parts[i].move, element, element + 1, take_place, &s);
		if (!s.found)
			continue;
		*record = view->parts[i].record;
		*number = s.from;
		return true;
	}
	return false;
}
