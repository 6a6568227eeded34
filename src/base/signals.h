/* SPDX-License-Identifier: Apache-2.0 */
/* INT, TERM, HUP and PIPE only set a flag; whoever waits looks at it, cleans up, and the signal is raised again at the
 * end. USR1 asks for a report. XFSZ does nothing: the system call that caused it says what is wrong. */
#ifndef SD_BASE_SIGNALS_H
#define SD_BASE_SIGNALS_H

#include "base/error.h"

/* Takes the signals over, but for those that the parent had ignored. Call it once, at the start of a tool. */
void sd_signals_take(void);

/* The signal that came, or 0. Interrupted system calls fail with EINTR: ask then whether to go on. */
int sd_signals_came(void);

/* Who answers USR1, from within sd_signals_check. NULL, as at first: nobody, and it does nothing. */
void sd_signals_report(void (*report)(void));

/* If it is this one, it was none. */
void sd_signals_forget(int number);

/* Fails (silently: err->told is SD_LOST) if a signal has come. Lets a report be made that was asked for. */
SD_MUST_CHECK enum sd_result sd_signals_check(struct sd_error *err);

/* If a signal came, gives it back its old meaning and raises it: the process ends as the user's shell expects. */
void sd_signals_again(void);

#endif
