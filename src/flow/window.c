/* SPDX-License-Identifier: Apache-2.0 */
/* A window over the data of a record. */
#include "flow/window.h"

#include <string.h>

static enum sd_result next_extent(struct sd_window *w, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (w->extent.length == 0 && w->source)
		result = sd_source_next(w->source, w->record, &w->extent, err);
	if (result == SD_OK && w->extent.length == 0)
		result = sd_fail(err, SD_INPUT, "the data of %s ends early", w->key);
	return result;
}

static enum sd_result skip(struct sd_window *w, uint64_t length, struct sd_error *err)
{
	while (length > 0) {
		enum sd_result result = next_extent(w, err);
		uint64_t n = w->extent.length < length ? w->extent.length : length;
		struct sd_extent part;

		if (result != SD_OK)
			return result;
		part = sd_extent_take(&w->extent, n);
		length -= n;
		w->end += n;
		result = sd_extent_skip(&part, err);
		if (result != SD_OK)
			return result;
	}
	return SD_OK;
}

enum sd_result sd_window_slide(struct sd_window *w, unsigned char *memory, uint64_t begin, uint64_t end,
			       struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (begin >= w->end) {
		result = skip(w, begin - w->end, err);
		w->begin = w->end;
	} else {
		memmove(memory, w->memory + (begin - w->begin), w->end - begin);
		w->begin = begin;
	}
	w->memory = memory;
	while (result == SD_OK && w->end < end) {
		uint64_t length = end - w->end;

		result = next_extent(w, err);
		if (result != SD_OK)
			break;
		if (length > w->extent.length)
			length = w->extent.length;
		result = sd_extent_read(&w->extent, w->memory + (w->end - w->begin), length, err);
		w->end += length;
	}
	return result;
}

enum sd_result sd_window_leave(struct sd_window *w, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (!w->source)
		return SD_OK;

	do {
		if (w->extent.length > 0)
			result = sd_extent_skip(&w->extent, err);
		if (result == SD_OK)
			result = sd_source_next(w->source, w->record, &w->extent, err);
	} while (result == SD_OK && w->extent.length > 0);
	return result;
}
