/* SPDX-License-Identifier: Apache-2.0 */
/* Sums: made of what goes by, and compared with what came along. */
#include "config.h"
#include "flow/checksum.h"
#include "base/signals.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>
#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#endif

/* Small enough that what is summed is still in the cache for whoever takes it then. */
#define BUFFER (256u << 10)

struct sd_checksum {
	XXH3_state_t *state;
	unsigned char *buffer; /* NULL until it is needed */
};

struct sd_checksum *sd_checksum_new(void)
{
	struct sd_checksum *sum = calloc(1, sizeof(*sum));

	if (!sum)
		return NULL;
	sum->state = XXH3_createState();
	if (!sum->state) {
		free(sum);
		return NULL;
	}
	sd_checksum_begin(sum);
	return sum;
}

void sd_checksum_free(struct sd_checksum *sum)
{
	if (!sum)
		return;
	XXH3_freeState(sum->state);
	free(sum->buffer);
	free(sum);
}

void sd_checksum_begin(struct sd_checksum *sum)
{
	(void)XXH3_64bits_reset(sum->state);
}

void sd_checksum_add(struct sd_checksum *sum, const void *data, size_t length)
{
	if (length)
		(void)XXH3_64bits_update(sum->state, data, length);
}

void sd_checksum_add_text(struct sd_checksum *sum, const char *text)
{
	sd_checksum_add(sum, text, strlen(text) + 1);
}

uint64_t sd_checksum_value(const struct sd_checksum *sum)
{
	return XXH3_64bits_digest(sum->state);
}

enum sd_result sd_checksum_take(struct sd_checksum *sum, struct sd_extent *extent, struct sd_extent *piece,
				struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (extent->memory) {
		*piece = sd_extent_take(extent, extent->length);
	} else {
		if (!sum->buffer)
			sum->buffer = malloc(BUFFER);
		if (!sum->buffer)
			return sd_fail_memory(err);
		*piece = (struct sd_extent){.memory = sum->buffer, .fd = -1, .offset = -1};
		piece->length = extent->length < BUFFER ? extent->length : BUFFER;
		result = sd_extent_read(extent, sum->buffer, piece->length, err);
	}
	if (result != SD_OK)
		return result;
	sd_checksum_add(sum, piece->memory, piece->length);
	return sd_signals_check(err);
}

/* ---- a source ---- */

struct checked {
	struct sd_source source;
	struct sd_source *inner;
	struct sd_sink *sink;
	struct sd_checksum *sum;
	uint32_t record; /* that is being taken, or SD_NO_RECORD */
	bool summed;     /* whether it has a sum */
	struct sd_extent extent;
	int file; /* that its last extent was in, or -1 */
};

static void begin_record(struct checked *c, uint32_t record)
{
	uint64_t sum;

	c->record = record;
	c->summed = sd_source_checksum(c->inner, record, &sum);
	c->extent.length = 0;
	c->file = -1;
	sd_checksum_begin(c->sum);
}

static enum sd_result end_record(struct checked *c, struct sd_error *err)
{
	const struct sd_record *r = &c->inner->manifest->records[c->record];
	char name[1024];
	uint64_t sum;
	bool good = !c->summed || (sd_source_checksum(c->inner, c->record, &sum) && sum == sd_checksum_value(c->sum));

	c->record = SD_NO_RECORD;
	if (good) {
		c->sink->checked.records += c->summed;
		c->sink->checked.bytes += c->summed ? r->bytes : 0;
		return SD_OK;
	}
	if (c->file >= 0)
		return sd_fail(err, SD_INPUT,
			       "%s: its data in %s is not what its checksum says: damaged, or changed since", r->key,
			       sd_fd_name(c->file, name, sizeof(name)));
	return sd_fail(err, SD_INPUT, "%s: its data is not what its checksum says: damaged on its way here", r->key);
}

static enum sd_result checked_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
				   struct sd_error *err)
{
	struct checked *c = (struct checked *)source;
	struct sd_extent piece;

	*extent = (struct sd_extent){.fd = -1, .offset = -1};
	if (record != c->record)
		begin_record(c, record);
	if (c->extent.length == 0) {
		enum sd_result result = sd_source_next(c->inner, record, &c->extent, err);

		if (result != SD_OK)
			return result;
		if (c->extent.length == 0)
			return end_record(c, err);
	}
	if (!c->extent.memory && c->extent.offset >= 0)
		c->file = c->extent.fd;
	piece = sd_extent_take(&c->extent, c->summed && c->extent.length > BUFFER ? BUFFER : c->extent.length);
	if (c->summed)
		return sd_checksum_take(c->sum, &piece, extent, err);
	*extent = piece;
	return SD_OK;
}

static enum sd_result checked_finish(struct sd_source *source, struct sd_error *err)
{
	return sd_source_finish(((struct checked *)source)->inner, err);
}

static void checked_close(struct sd_source *source)
{
	struct checked *c = (struct checked *)source;

	sd_checksum_free(c->sum);
	free(c);
}

static bool checked_sum(const struct sd_source *source, uint32_t record, uint64_t *sum)
{
	return sd_source_checksum(((const struct checked *)source)->inner, record, sum);
}

static const struct sd_source_ops checked_ops = {
	.next = checked_next, .finish = checked_finish, .close = checked_close, .sum = checked_sum};

enum sd_result sd_checked_source(struct sd_source *source, struct sd_sink *sink, struct sd_source **checked,
				 struct sd_error *err)
{
	struct checked *c;

	*checked = NULL;
	if (!source->sums)
		return SD_OK;
	sink->sums = true;
	c = calloc(1, sizeof(*c));
	if (!c)
		return sd_fail_memory(err);
	*c = (struct checked){.source = {.ops = &checked_ops, .manifest = source->manifest, .sums = true},
			      .inner = source,
			      .sink = sink,
			      .sum = sd_checksum_new(),
			      .record = SD_NO_RECORD};
	*checked = &c->source;
	return c->sum ? SD_OK : sd_fail_memory(err);
}
