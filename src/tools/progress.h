/* SPDX-License-Identifier: Apache-2.0 */
/* Shows progress: a line on a terminal that is drawn again and again, lines of a log, or one line for each SIGUSR1. */
#ifndef SD_TOOLS_PROGRESS_H
#define SD_TOOLS_PROGRESS_H

#include <stdint.h>

enum progress {
	PROGRESS_AUTO, /* where standard error is a terminal */
	PROGRESS_YES,  /* and where it is none, as lines of their own, now and then */
	PROGRESS_NO,
};

/* From now on; SIGUSR1 is answered whatever how says. */
void progress_start(enum progress how);

/* Tells how far the job is; as often as one likes. what: see struct sd_progress; it lives until the next call. */
void progress_tell(uint64_t done, uint64_t total, const char *what);

/* It is over, or has failed: the terminal's line is cleared. */
void progress_stop(void);

#endif
