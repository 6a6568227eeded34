/* SPDX-License-Identifier: Apache-2.0 */
/* How far a job is, in one line. */
#include "base/progress.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_NAME 8 /* columns: of less nobody would recognise a name */

static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};

/* The unit in which a number of bytes has at most three digits in front of the point. */
static unsigned unit_of(double bytes, double *scale)
{
	unsigned unit = 0;

	for (*scale = 1; bytes / *scale >= 999.5 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
		*scale *= 1000;
	return unit;
}

/* Three digits, whole bytes without a point. */
static void number(double value, unsigned unit, char *text, size_t size)
{
	snprintf(text, size, "%.*f", unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value);
}

static void put_bytes(const struct sd_progress *p, char *text, size_t size)
{
	char done[32], total[32];
	double scale;
	unsigned unit = unit_of((double)p->total, &scale);

	number((double)p->done / scale, unit, done, sizeof(done));
	number((double)p->total / scale, unit, total, sizeof(total));
	snprintf(text, size, "%s of %s %s", done, total, units[unit]);
}

static void put_rate(const struct sd_progress *p, char *text, size_t size)
{
	char rate[32];
	double scale;
	unsigned unit = unit_of(p->rate, &scale);

	number(p->rate / scale, unit, rate, sizeof(rate));
	snprintf(text, size, "%s %s/s", rate, units[unit]);
}

static void put_time(const struct sd_progress *p, char *text, size_t size)
{
	double seconds = (double)(p->total - p->done) / p->rate + 0.5;
	unsigned s = seconds < 360000 ? (unsigned)seconds : 359999; /* 100 hours are long enough */

	if (s >= 3600)
		snprintf(text, size, "%u:%02u:%02u left", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(text, size, "%u:%02u left", s / 60, s % 60);
}

/* A line while it grows. */
struct line {
	char *text;
	size_t used, limit; /* bytes; columns are no more than these */
};

/* Nothing follows what does not fit. */
static void append(struct line *line, const char *part)
{
	size_t gap = line->used ? 2 : 0, length = strlen(part);

	if (line->used + gap + length > line->limit) {
		line->limit = line->used;
		return;
	}
	memset(line->text + line->used, ' ', gap);
	memcpy(line->text + line->used + gap, part, length + 1);
	line->used += gap + length;
}

/* The end of a name tells more than its beginning. */
static void append_name(struct line *line, const char *what)
{
	size_t size = 4 * strlen(what) + 1, room = line->limit - line->used;
	char *name = malloc(size), *from = name;

	if (!name || room < 2 + LEAST_NAME) {
		free(name);
		return;
	}
	sd_text_escape(what, name, size);
	if (strlen(name) + 2 > room) {
		from += strlen(name) - (room - 2 - 3);
		while ((*from & 0xC0) == 0x80)
			from++;
		from -= 3;
		memcpy(from, "...", 3);
	}
	append(line, from);
	free(name);
}

char *sd_progress_text(const struct sd_progress *p, size_t width, char *text, size_t size)
{
	struct line line = {.text = text, .limit = width < size ? width : size - 1};
	double part = p->total ? (double)p->done / (double)p->total : 1;
	char room[96];

	text[0] = '\0';
	snprintf(room, sizeof(room), "%3d%%", (int)(part * 100));
	append(&line, room);
	put_bytes(p, room, sizeof(room));
	append(&line, room);
	if (p->rate > 0) {
		put_time(p, room, sizeof(room));
		append(&line, room);
		put_rate(p, room, sizeof(room));
		append(&line, room);
	}
	if (p->what)
		append_name(&line, p->what);
	return text;
}
