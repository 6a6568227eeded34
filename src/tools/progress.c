/* SPDX-License-Identifier: Apache-2.0 */
/* Shows progress. */
#include "tools/progress.h"
#include "base/progress.h"
#include "base/signals.h"
#include "tools/tool.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define REDRAW 0.2 /* seconds between two drawings on a terminal */
#define LOG 10.0   /* seconds between two lines of a log */
#define RECENT 5.0 /* the rate is that of the last one or two times so many seconds */
#define COLUMNS 80 /* of a terminal that does not tell */

/* A process has one standard error. */
static struct {
	bool terminal, log, drawn;
	struct sd_progress now;
	double last;           /* when something was shown */
	double mark_time[2];   /* two moments, the older one first */
	uint64_t mark_done[2]; /* and how far the job was then */
	size_t width;          /* of what is on the line, in bytes: columns are no more than these */
} shown;

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static size_t columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : COLUMNS;
}

/* Line in place of what is there. Blanks, not an escape sequence: that works on every terminal. In the last column some
 * wrap, and so would blanks after it has become narrower. */
static void put(const char *line, size_t room)
{
	fprintf(stderr, "\r%*s\r%s", (int)(shown.width < room ? shown.width : room), "", line);
	shown.width = strlen(line);
	shown.drawn = shown.width > 0;
}

static void clear(void)
{
	if (shown.drawn)
		put("", columns() - 1);
}

static void draw(void)
{
	char line[1024];
	size_t room = columns() - 1;

	/* In the background the terminal is somebody else's. */
	if (tcgetpgrp(STDERR_FILENO) == getpgrp())
		put(sd_progress_text(&shown.now, room, line, sizeof(line)), room);
}

static void measure(double now)
{
	uint64_t done = shown.now.done;

	if (now - shown.mark_time[1] >= RECENT) {
		shown.mark_time[0] = shown.mark_time[1];
		shown.mark_done[0] = shown.mark_done[1];
		shown.mark_time[1] = now;
		shown.mark_done[1] = done;
	}
	if (now > shown.mark_time[0])
		shown.now.rate = (double)(done - shown.mark_done[0]) / (now - shown.mark_time[0]);
}

/* One line by itself. */
static void say(void)
{
	char line[1024];

	sd_note("%s", sd_progress_text(&shown.now, sizeof(line), line, sizeof(line)));
}

/* SIGUSR1: the data may have stopped long ago. */
static void report(void)
{
	measure(seconds());
	say();
}

void progress_start(enum progress how)
{
	bool terminal = isatty(STDERR_FILENO) == 1;

	shown.terminal = terminal && how != PROGRESS_NO;
	shown.log = !terminal && how == PROGRESS_YES;
	shown.last = shown.mark_time[0] = shown.mark_time[1] = seconds();
	sd_before_saying(clear);
	sd_signals_report(report);
}

void progress_tell(uint64_t done, uint64_t total, const char *what)
{
	double now = seconds();
	bool end = done == total;

	shown.now.done = done;
	shown.now.total = total;
	shown.now.what = what;
	measure(now);
	if (shown.terminal && (now - shown.last >= REDRAW || (end && shown.drawn)))
		draw();
	else if (shown.log && (now - shown.last >= LOG || end))
		say();
	else
		return;
	shown.last = now;
}

void progress_stop(void)
{
	clear();
	sd_signals_report(NULL);
}
