/* SPDX-License-Identifier: Apache-2.0 */
/* gzip, expanded, with its checksums checked. */
#include "formats/gunzip.h"

#include <stdint.h>

#define WINDOW (15 + 16) /* the largest, and gzip around it */

enum sd_result sd_gunzip_begin(struct sd_gunzip *g, sd_gunzip_more *more, void *user, struct sd_error *err)
{
	*g = (struct sd_gunzip){.more = more, .user = user, .between = true};
	return inflateInit2(&g->z, WINDOW) == Z_OK ? SD_OK : sd_fail_memory(err);
}

/* Takes more compressed bytes in, where there are none left. */
static enum sd_result fill(struct sd_gunzip *g, struct sd_error *err)
{
	const void *bytes;
	size_t got;

	if (g->z.avail_in)
		return SD_OK;
	if (g->more(g->user, &bytes, &got, err) != SD_OK)
		return err->result;
	g->z.next_in = (Bytef *)(uintptr_t)bytes;
	g->z.avail_in = (uInt)got;
	return SD_OK;
}

/* Between members: zeros are padding, anything else begins another one. *ended: nothing does. */
static enum sd_result begin_member(struct sd_gunzip *g, bool *ended, struct sd_error *err)
{
	bool first = !g->z.total_in;

	for (;;) {
		if (fill(g, err) != SD_OK)
			return err->result;
		*ended = !g->z.avail_in;
		if (*ended || first || *g->z.next_in)
			break;
		g->z.next_in++;
		g->z.avail_in--;
	}
	if (*ended || first)
		return SD_OK;
	if (*g->z.next_in != 0x1f)
		return sd_fail(err, SD_INPUT, "damaged gzip data: what is behind its end is no gzip data");
	return inflateReset2(&g->z, WINDOW) == Z_OK ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_gunzip_read(struct sd_gunzip *g, void *buffer, size_t length, size_t *got, struct sd_error *err)
{
	bool ended = false;

	g->z.next_out = buffer;
	g->z.avail_out = (uInt)length;
	*got = 0;
	while (g->z.avail_out) {
		int status;

		if (g->between && begin_member(g, &ended, err) != SD_OK)
			return err->result;
		if (ended)
			break;
		g->between = false;
		if (fill(g, err) != SD_OK)
			return err->result;
		if (!g->z.avail_in)
			return sd_fail(err, SD_INPUT, "truncated gzip data");
		status = inflate(&g->z, Z_NO_FLUSH);
		if (status == Z_MEM_ERROR)
			return sd_fail_memory(err);
		if (status != Z_OK && status != Z_STREAM_END)
			return sd_fail(err, SD_INPUT, "damaged gzip data: %s", g->z.msg ? g->z.msg : "no gzip data");
		g->between = status == Z_STREAM_END;
	}
	*got = length - g->z.avail_out;
	return SD_OK;
}

void sd_gunzip_end(struct sd_gunzip *g)
{
	inflateEnd(&g->z);
}
