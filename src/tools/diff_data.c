/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff: reads the data of tensors that can be had in any order, window by window, on several threads. */
#include "move/device.h"
#include "flow/checksum.h"
#include "tools/diff.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a window, of the wider one of two dtypes: both stay in a level-2 cache. */
#define WINDOW (256u << 10)

/* All threads together keep so much of records that lie in another order. */
#define CACHE_ALL (256u << 20)

/* A task that has begun. */
struct running {
	struct diff_task *task;
	struct sd_view view[2];
	struct sd_comparison comparison;
	uint64_t elements, step;    /* of both; of a window */
	uint64_t windows;           /* how many there are, */
	uint64_t taken, done;       /* are being worked on or done, are done */
	struct sd_difference *each; /* of each window, to be added in their order */
};

struct pool {
	const struct diff *diff;
	struct diff_task *tasks;
	size_t n, next;
	bool first, stop;
	struct running *running; /* the one of which windows are left, or NULL */
	pthread_mutex_t lock;    /* of all of it */
	struct sd_error *err;
};

/* What a thread has of its own. */
struct worker {
	struct pool *pool;
	pthread_t thread;
	struct sd_view_cache cache[2];
	struct sd_checksum *sum;
	unsigned char *memory; /* two windows */
	struct sd_error err;
};

/* ---- tasks; under the lock ---- */

static void fail(struct pool *pool, const struct sd_error *err)
{
	if (pool->err->result == SD_OK)
		*pool->err = *err;
	pool->stop = true;
}

static void free_running(struct running *r)
{
	sd_view_free(&r->view[0]);
	sd_view_free(&r->view[1]);
	free(r->each);
	free(r);
}

static enum sd_result open_views(const struct pool *pool, struct running *r, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	for (int i = 0; i < (r->task->kind == DIFF_SUM ? 1 : 2) && result == SD_OK; i++) {
		const struct diff_side *side = &pool->diff->side[r->task->of[i]];

		result = sd_view_make(&r->view[i], side->source, side->m, &side->listing, r->task->tensor[i],
				      r->task->then[i], err);
		if (result != SD_OK)
			sd_error_at(err, "%s", side->name);
	}
	return result;
}

/* Elements of a window: all of a tensor that is summed, for sums are made in order. */
static uint64_t step_of(const struct running *r)
{
	unsigned a = sd_dtype_bits(r->view[0].dtype), b = r->view[1].parts ? sd_dtype_bits(r->view[1].dtype) : a;

	return (uint64_t)WINDOW * 8 / (a > b ? a : b) / SD_VIEW_STEP * SD_VIEW_STEP;
}

static enum sd_result begin_task(struct pool *pool, struct diff_task *task, struct sd_error *err)
{
	struct running *r = calloc(1, sizeof(*r));

	if (!r)
		return sd_fail_memory(err);
	r->task = task;
	if (open_views(pool, r, err) != SD_OK) {
		free_running(r);
		return err->result;
	}
	sd_difference_begin(&task->d);
	r->elements = r->view[0].elements;
	r->step = step_of(r);
	r->windows = (r->elements + r->step - 1) / r->step;
	if (task->kind == DIFF_SUM)
		r->windows = 1;
	if (task->kind == DIFF_NUMBERS) {
		sd_comparison_begin(&r->comparison, &pool->diff->opt->tolerance, (enum sd_dtype)r->view[0].dtype,
				    (enum sd_dtype)r->view[1].dtype);
		r->each = calloc(r->windows + 1, sizeof(*r->each));
		if (!r->each) {
			free_running(r);
			return sd_fail_memory(err);
		}
	}
	pool->running = r;
	return SD_OK;
}

/* The next window of a task, or NULL: there is nothing left to do. */
static struct running *take_window(struct pool *pool, uint64_t *window, struct sd_error *err)
{
	struct running *r;

	while (!pool->stop && !pool->running && pool->next < pool->n) {
		if (begin_task(pool, &pool->tasks[pool->next++], err) != SD_OK) {
			fail(pool, err);
		} else if (!pool->running->windows) {
			free_running(pool->running);
			pool->running = NULL;
		}
	}
	r = pool->running;
	if (pool->stop || !r)
		return NULL;
	*window = r->taken++;
	if (r->taken == r->windows)
		pool->running = NULL;
	return r;
}

static void end_window(struct pool *pool, struct running *r, bool apart)
{
	struct diff_task *task = r->task;

	r->done++;
	if (apart) {
		task->differ = true;
		/* More windows would tell no more. */
		if (pool->running == r)
			pool->running = NULL;
		r->windows = r->taken;
	}
	if (r->done < r->windows)
		return;
	for (uint64_t i = 0; i < r->windows && task->kind == DIFF_NUMBERS; i++)
		sd_difference_add(&task->d, &r->each[i]);
	if (task->kind == DIFF_NUMBERS)
		task->differ = task->d.differ > 0;
	pool->stop = pool->stop || (pool->first && task->differ);
	free_running(r);
}

/* ---- windows ---- */

static enum sd_result read_window(struct worker *w, const struct running *r, int i, uint64_t first, uint64_t count,
				  struct sd_error *err)
{
	enum sd_result result = sd_view_read(&r->view[i], &w->cache[i], first, count, w->memory + i * WINDOW, err);

	return result == SD_OK ? result : sd_error_at(err, "%s", w->pool->diff->side[r->task->of[i]].name);
}

static enum sd_result sum_tensor(struct worker *w, const struct running *r, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	sd_checksum_begin(w->sum);
	for (uint64_t first = 0; first < r->elements && result == SD_OK; first += r->step) {
		uint64_t count = r->elements - first < r->step ? r->elements - first : r->step;

		result = read_window(w, r, 0, first, count, err);
		if (result == SD_OK)
			sd_checksum_add(w->sum, w->memory, (count * sd_dtype_bits(r->view[0].dtype) + 7) / 8);
	}
	r->task->sum = sd_checksum_value(w->sum);
	return result;
}

static enum sd_result do_window(struct worker *w, struct running *r, uint64_t window, bool *apart, struct sd_error *err)
{
	uint64_t first = window * r->step, left = r->elements - first, count = left < r->step ? left : r->step;
	enum sd_result result = SD_OK;

	*apart = false;
	if (r->task->kind == DIFF_SUM)
		return sum_tensor(w, r, err);
	for (int i = 0; i < 2 && result == SD_OK; i++)
		result = read_window(w, r, i, first, count, err);
	if (result != SD_OK)
		return result;
	if (r->task->kind == DIFF_BYTES) {
		uint64_t bytes = (count * sd_dtype_bits(r->view[0].dtype) + 7) / 8;

		*apart = memcmp(w->memory, w->memory + WINDOW, bytes) != 0;
	} else {
		unsigned each = sd_numbers_each((enum sd_dtype)r->view[0].dtype);

		sd_difference_begin(&r->each[window]);
		sd_compare(&r->comparison, w->memory, w->memory + WINDOW, first * each, count * each, &r->each[window]);
	}
	return SD_OK;
}

/* ---- threads ---- */

static void *work(void *user)
{
	struct worker *w = user;
	struct pool *pool = w->pool;
	struct running *r;
	uint64_t window;

	pthread_mutex_lock(&pool->lock);
	while ((r = take_window(pool, &window, &w->err))) {
		enum sd_result result;
		bool apart;

		pthread_mutex_unlock(&pool->lock);
		result = do_window(w, r, window, &apart, &w->err);
		pthread_mutex_lock(&pool->lock);
		if (result != SD_OK)
			fail(pool, &w->err);
		end_window(pool, r, apart && result == SD_OK);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static bool open_worker(struct worker *w, struct pool *pool, unsigned threads)
{
	*w = (struct worker){.pool = pool, .sum = sd_checksum_new(), .memory = malloc(2 * WINDOW)};
	w->cache[0].most = w->cache[1].most = CACHE_ALL / 2 / threads;
	return w->sum && w->memory;
}

static void close_worker(struct worker *w)
{
	sd_view_cache_free(&w->cache[0]);
	sd_view_cache_free(&w->cache[1]);
	sd_checksum_free(w->sum);
	free(w->memory);
}

/* Signals are for the first thread. Fewer threads than wanted are enough. */
static unsigned start(struct worker *workers, unsigned threads)
{
	unsigned started = 1;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (started < threads && pthread_create(&workers[started].thread, NULL, work, &workers[started]) == 0)
		started++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

enum sd_result diff_do(const struct diff *diff, struct diff_task *tasks, size_t n, bool first, struct sd_error *err)
{
	struct pool pool = {.diff = diff, .tasks = tasks, .n = n, .first = first, .err = err};
	unsigned threads = diff->opt->threads ? diff->opt->threads : sd_device_threads(), opened = 0, started;
	struct worker *workers = calloc(threads, sizeof(*workers));

	*err = (struct sd_error){.result = SD_OK};
	while (workers && opened < threads && open_worker(&workers[opened], &pool, threads))
		opened++;
	if (opened) {
		pthread_mutex_init(&pool.lock, NULL);
		started = start(workers, opened);
		work(&workers[0]);
		for (unsigned i = 1; i < started; i++)
			pthread_join(workers[i].thread, NULL);
		pthread_mutex_destroy(&pool.lock);
		if (pool.running && pool.running->done == pool.running->taken)
			free_running(pool.running);
	} else {
		(void)!sd_fail_memory(err);
	}
	for (unsigned i = 0; i < threads && workers && i <= opened; i++)
		close_worker(&workers[i]);
	free(workers);
	return err->result;
}

/* ---- a list of what differs ---- */

static enum sd_result read_both(struct worker *w, const struct sd_view view[2], uint64_t first, uint64_t count,
				struct sd_error *err)
{
	enum sd_result result = sd_view_read(&view[0], &w->cache[0], first, count, w->memory, err);

	return result == SD_OK ? sd_view_read(&view[1], &w->cache[1], first, count, w->memory + WINDOW, err) : result;
}

static void keep_values(const struct sd_comparison *c, struct diff_pair *p, const unsigned char *memory, uint64_t first,
			size_t from)
{
	for (size_t i = from; i < p->nlist; i++) {
		sd_numbers_read(&c->a, memory, p->list[i] - first, 1, &p->values[i].a);
		sd_numbers_read(&c->b, memory + WINDOW, p->list[i] - first, 1, &p->values[i].b);
	}
}

static enum sd_result list_numbers(const struct diff *diff, struct diff_pair *p, struct worker *w,
				   const struct sd_view view[2], struct sd_error *err)
{
	unsigned each = sd_numbers_each((enum sd_dtype)view[0].dtype);
	struct running r = {.view = {view[0], view[1]}};
	uint64_t step = step_of(&r), wanted = diff->opt->count < p->d.differ ? diff->opt->count : p->d.differ;
	struct sd_comparison c;
	enum sd_result result = SD_OK;

	p->list = calloc(wanted + 1, sizeof(*p->list));
	p->values = calloc(wanted + 1, sizeof(*p->values));
	if (!p->list || !p->values)
		return sd_fail_memory(err);
	sd_comparison_begin(&c, &diff->opt->tolerance, (enum sd_dtype)view[0].dtype, (enum sd_dtype)view[1].dtype);
	for (uint64_t first = p->d.first / each / step * step; p->nlist < wanted && result == SD_OK; first += step) {
		uint64_t left = view[0].elements - first, count = left < step ? left : step;
		size_t before = p->nlist;

		result = read_both(w, view, first, count, err);
		if (result != SD_OK)
			break;
		p->nlist += sd_compare_list(&c, w->memory, w->memory + WINDOW, first * each, count * each,
					    p->list + before, wanted - before);
		keep_values(&c, p, w->memory, first * each, before);
		if (left <= step)
			break;
	}
	return result;
}

enum sd_result diff_list(struct diff *diff, struct diff_pair *p, struct sd_error *err)
{
	struct sd_view view[2] = {{0}, {0}};
	struct worker w;
	enum sd_result result = open_worker(&w, NULL, 1) ? SD_OK : sd_fail_memory(err);

	for (int i = 0; i < 2 && result == SD_OK; i++) {
		const struct diff_side *side = &diff->side[i];

		result = sd_view_make(&view[i], side->source, side->m, &side->listing, p->tensor[i], NULL, err);
	}
	if (result == SD_OK)
		result = list_numbers(diff, p, &w, view, err);
	sd_view_free(&view[0]);
	sd_view_free(&view[1]);
	close_worker(&w);
	return result;
}
