/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that set a flag. */
#include "base/signals.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
static volatile sig_atomic_t came, asked;
static void (*volatile answer)(void);

/*
 * A signal that comes just before a system call blocks would interrupt nothing: the alarm interrupts again, every
 * second, until somebody has looked.
 */
static void note(int number)
{
	if (number == SIGUSR1)
		asked = answer != NULL;
	else if (number != SIGALRM && number != SIGXFSZ)
		came = number;
	if (came || asked)
		alarm(1);
}

/* Without SA_RESTART a blocking read notices. */
static void take(int number, int flags)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = note;
	action.sa_flags = flags;
	sigemptyset(&action.sa_mask);
	sigaction(number, &action, NULL);
}

void sd_signals_take(void)
{
	struct sigaction old;

	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
		if (sigaction(taken[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			take(taken[i], 0);
	take(SIGALRM, 0);
	/* A file that may not grow any more is a failure like a full disk. */
	take(SIGXFSZ, 0);
	sd_signals_report(NULL);
}

void sd_signals_report(void (*report)(void))
{
	answer = report;
	asked = 0;
	/* Where nobody answers, nothing is interrupted: stdio loses what it was writing. */
	take(SIGUSR1, report ? 0 : SA_RESTART);
}

int sd_signals_came(void)
{
	return came;
}

void sd_signals_forget(int number)
{
	if (came == number)
		came = 0;
}

void sd_signals_pass(int number)
{
	struct sigaction now;

	if (!came && sigaction(number, NULL, &now) == 0 && now.sa_handler == note)
		note(number);
}

enum sd_result sd_signals_check(struct sd_error *err)
{
	if (asked) {
		asked = 0;
		if (answer)
			answer();
	}
	if (!came)
		return SD_OK;
	sd_fail(err, SD_IO, "interrupted by signal %d", (int)came);
	if (err)
		err->told = SD_LOST;
	return SD_IO;
}

void sd_signals_again(void)
{
	if (came) {
		signal(came, SIG_DFL);
		raise(came);
	}
}
