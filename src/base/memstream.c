/* SPDX-License-Identifier: Apache-2.0 */
/* A stream that is written to memory. */
#include "base/memstream.h"
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct sd_memstream {
	FILE *file;
	char *text;
	size_t length, room;
};

/* Room for more bytes and a NUL. */
static bool make_room(struct sd_memstream *s, size_t more)
{
	size_t room = s->room ? s->room : 4096;
	char *text;

	if (s->room && more < s->room - s->length)
		return true;
	while (room - s->length <= more) {
		if (room > SIZE_MAX / 4)
			return false;
		room *= 2;
	}
	text = realloc(s->text, room);
	if (!text)
		return false;
	s->text = text;
	s->room = room;
	return true;
}

static ssize_t take(void *cookie, const char *data, size_t length)
{
	struct sd_memstream *s = cookie;

	if (!make_room(s, length))
		return 0; /* an error, to stdio */
	memcpy(s->text + s->length, data, length);
	s->length += length;
	return (ssize_t)length;
}

struct sd_memstream *sd_memstream_open(FILE **file)
{
	struct sd_memstream *s = calloc(1, sizeof(*s));

	if (s)
		s->file = fopencookie(s, "w", (cookie_io_functions_t){.write = take});
	if (s && !s->file) {
		free(s);
		s = NULL;
	}
	*file = s ? s->file : NULL;
	return s;
}

size_t sd_memstream_length(struct sd_memstream *s)
{
	return fflush(s->file) == 0 ? s->length : 0;
}

bool sd_memstream_close(struct sd_memstream *s, char **text, size_t *length)
{
	bool good = ferror(s->file) == 0;

	good = fclose(s->file) == 0 && good && make_room(s, 0);
	if (good)
		s->text[s->length] = '\0';
	if (text) {
		*text = good ? s->text : NULL;
		*length = good ? s->length : 0;
	}
	if (!text || !good)
		free(s->text);
	free(s);
	return good;
}
