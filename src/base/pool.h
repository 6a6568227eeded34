/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that share a number of jobs, and are awaited: a loop whose turns do not depend on each other. */
#ifndef SD_BASE_POOL_H
#define SD_BASE_POOL_H

#include "base/error.h"

struct sd_pool;

/* threads, the caller's among them: at least 1. NULL when memory or threads cannot be had. */
struct sd_pool *sd_pool_new(unsigned threads);
/* Does nothing for NULL. */
void sd_pool_free(struct sd_pool *pool);

/* Calls job(user, 0, ..) to job(user, count - 1, ..), in any order, and returns when all have returned. thread is less
 * than the number of threads, and no two jobs have the same one at a time. */
void sd_pool_run(struct sd_pool *pool, size_t count, void (*job)(void *user, size_t number, unsigned thread),
		 void *user);

#endif
