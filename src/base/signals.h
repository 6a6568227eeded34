/* SPDX-License-Identifier: Apache-2.0 */
/* Signals of a tool. INT, TERM, HUP and PIPE only set a flag: the tool sees it after a system call, cleans up, and
 * raises the signal again when it ends. USR1 asks for a report. XFSZ does nothing: the system call fails with EFBIG. */
#ifndef SD_BASE_SIGNALS_H
#define SD_BASE_SIGNALS_H

#include "base/error.h"

/* Handles these signals, except those that the parent ignores. Call it once, at the start of a tool. */
void sd_signals_take(void);

/* The signal that came, or 0. Call this when a system call fails with EINTR. */
int sd_signals_came(void);

/* Sets the function that sd_signals_check calls after USR1. NULL, the default: USR1 does nothing. */
void sd_signals_report(void (*report)(void));

/* Forgets the signal that came, if it is this one. */
void sd_signals_forget(int number);

/* As if this signal had come, if it is handled and none came before: a program that this one started has ended by it. */
void sd_signals_pass(int number);

/* Fails with SD_IO and SD_LOST if a signal has come. After USR1 it calls the report function. */
SD_MUST_CHECK enum sd_result sd_signals_check(struct sd_error *err);

/* If a signal came, restores its default action and raises it, so that the shell sees how the process ended. */
void sd_signals_again(void);

#endif
