/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that share a number of jobs. */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct helper {
	pthread_t thread;
	struct sd_pool *pool;
	unsigned number;
};

struct sd_pool {
	pthread_mutex_t lock;
	pthread_cond_t more, done;
	/* Under the lock: */
	void (*job)(void *user, size_t number, unsigned thread);
	void *user;
	size_t next, count; /* jobs that nobody has taken */
	unsigned busy;      /* helpers that are at a job */
	bool closing;
	unsigned nhelpers;
	struct helper helpers[];
};

/* Takes jobs while there are some. The lock is held, but while a job is done. */
static void work(struct sd_pool *pool, unsigned thread)
{
	while (pool->next < pool->count) {
		size_t number = pool->next++;

		pthread_mutex_unlock(&pool->lock);
		pool->job(pool->user, number, thread);
		pthread_mutex_lock(&pool->lock);
	}
}

static void *help(void *argument)
{
	struct helper *helper = argument;
	struct sd_pool *pool = helper->pool;

	pthread_mutex_lock(&pool->lock);
	while (!pool->closing) {
		pool->busy++;
		work(pool, helper->number);
		pool->busy--;
		if (!pool->busy)
			pthread_cond_signal(&pool->done);
		pthread_cond_wait(&pool->more, &pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Signals are for the thread that runs the tool. */
static bool start(struct sd_pool *pool, unsigned helpers)
{
	sigset_t all, before;
	bool ok = true;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; i < helpers && ok; i++) {
		pool->helpers[i] = (struct helper){.pool = pool, .number = i + 1};
		ok = pthread_create(&pool->helpers[i].thread, NULL, help, &pool->helpers[i]) == 0;
		pool->nhelpers += ok;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ok;
}

struct sd_pool *sd_pool_new(unsigned threads)
{
	struct sd_pool *pool = calloc(1, sizeof(*pool) + (threads - 1) * sizeof(*pool->helpers));

	if (!pool)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->more, NULL);
	pthread_cond_init(&pool->done, NULL);
	if (start(pool, threads - 1))
		return pool;
	sd_pool_free(pool);
	return NULL;
}

void sd_pool_free(struct sd_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->closing = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->nhelpers; i++)
		pthread_join(pool->helpers[i].thread, NULL);
	pthread_cond_destroy(&pool->done);
	pthread_cond_destroy(&pool->more);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

void sd_pool_run(struct sd_pool *pool, size_t count, void (*job)(void *user, size_t number, unsigned thread),
		 void *user)
{
	pthread_mutex_lock(&pool->lock);
	pool->job = job;
	pool->user = user;
	pool->next = 0;
	pool->count = count;
	if (count > 1)
		pthread_cond_broadcast(&pool->more);
	work(pool, 0);
	while (pool->busy)
		pthread_cond_wait(&pool->done, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}
