/* SPDX-License-Identifier: Apache-2.0 */
/* Data that comes in order only, in a spool. */
#include "flow/spooled.h"
#include "flow/checksum.h"
#include "flow/spool.h"

#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* A record. */
struct part {
	uint64_t at, come; /* where it begins in the spool, and how many bytes of it are there */
	bool released;
};

struct spooled {
	struct sd_source source; /* first */
	struct sd_sink sink;     /* of sd_spooled_sink; else it counts what was compared */
	struct sd_source *inner; /* NULL: there is a sink */
	struct sd_source *from;  /* the same; once sums are compared, the source that does so */
	struct sd_source *checked;
	struct part *parts; /* by record */
	uint32_t now;       /* the record that comes: all before it have come */
	int fd;
	off_t end;
	pthread_mutex_t lock;
	struct sd_error failed;
};

static struct spooled *of_sink(struct sd_sink *sink)
{
	return (struct spooled *)((char *)sink - offsetof(struct spooled, sink));
}

/* ---- writing ---- */

static bool open_parts(struct spooled *s, const struct sd_manifest *m)
{
	s->parts = calloc(m->nrecords + 1, sizeof(*s->parts));
	return s->parts;
}

static enum sd_result keep(struct spooled *s, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct part *p = &s->parts[record];
	uint64_t length = extent->length;
	enum sd_result result = s->fd < 0 ? sd_spool_open(&s->fd, err) : SD_OK;

	if (result != SD_OK)
		return result;
	if (!p->come)
		p->at = (uint64_t)s->end;
	result = sd_extent_copy(extent, s->fd, &s->end, length, err);
	if (result == SD_IO)
		return sd_error_at(err, "%s waits in a temporary file (TMPDIR says where)",
				   s->source.manifest->records[record].key);
	p->come += length;
	return result;
}

/* What has been read needs no room on the disk any more, if the file system can do that. */
static void give_back(struct spooled *s, const struct part *p)
{
	if (p->come)
		(void)!fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)p->at, (off_t)p->come);
}

/* ---- taking ---- */

static enum sd_result begin_taking(struct spooled *s, struct sd_error *err)
{
	enum sd_result result = s->from ? SD_OK : sd_checked_source(s->inner, &s->sink, &s->checked, err);

	s->from = s->checked ? s->checked : s->inner;
	return result;
}

/* The next bytes of the record that comes, or the next record. */
static enum sd_result take(struct spooled *s, struct sd_error *err)
{
	const struct sd_record *r = &s->source.manifest->records[s->now];
	struct sd_extent extent = {.length = 0};
	enum sd_result result = begin_taking(s, err);

	if (result == SD_OK && r->state == SD_HERE)
		result = sd_source_next(s->from, s->now, &extent, err);
	if (result == SD_OK && !extent.length)
		s->now++;
	else if (result == SD_OK)
		result = s->parts[s->now].released ? sd_extent_skip(&extent, err) : keep(s, s->now, &extent, err);
	if (result == SD_INPUT) {
		sd_source_explain(s->inner, err);
		sd_error_about(err, r->key);
	}
	return result;
}

static enum sd_result take_until(struct spooled *s, uint32_t record, uint64_t bytes, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (s->failed.result != SD_OK) {
		*err = s->failed;
		return err->result;
	}
	while (result == SD_OK && s->inner && (s->now < record || (s->now == record && s->parts[record].come < bytes)))
		result = take(s, err);
	if (result != SD_OK)
		s->failed = *err;
	return result;
}

static enum sd_result read_at(struct sd_source *source, uint32_t record, uint64_t offset, void *buffer, uint64_t length,
			      struct sd_error *err)
{
	struct spooled *s = (struct spooled *)source;
	struct sd_extent extent = {.length = length};
	enum sd_result result;

	pthread_mutex_lock(&s->lock);
	result = take_until(s, record, offset + length, err);
	pthread_mutex_unlock(&s->lock);
	if (result != SD_OK || !length)
		return result;
	extent.fd = s->fd;
	extent.offset = (off_t)(s->parts[record].at + offset);
	return sd_extent_read(&extent, buffer, length, err);
}

void sd_spooled_release(struct sd_source *spooled, uint32_t record)
{
	struct spooled *s = (struct spooled *)spooled;

	pthread_mutex_lock(&s->lock);
	s->parts[record].released = true;
	give_back(s, &s->parts[record]);
	pthread_mutex_unlock(&s->lock);
}

/* ---- the source ---- */

static enum sd_result finish(struct sd_source *source, struct sd_error *err)
{
	struct spooled *s = (struct spooled *)source;
	const uint32_t n = (uint32_t)source->manifest->nrecords;
	enum sd_result result;

	for (uint32_t i = s->now; i < n; i++)
		s->parts[i].released = true;
	result = take_until(s, n, 0, err);
	return result == SD_OK && s->inner ? sd_source_finish(s->inner, err) : result;
}

static void explain(struct sd_source *source, struct sd_error *err)
{
	struct spooled *s = (struct spooled *)source;

	if (s->inner)
		sd_source_explain(s->inner, err);
}

static bool place(const struct sd_source *source, uint32_t record, const char **file, uint64_t *offset)
{
	struct sd_source *inner = ((const struct spooled *)source)->inner;

	return inner && inner->ops->place && inner->ops->place(inner, record, file, offset);
}

static void close_spooled(struct sd_source *source)
{
	struct spooled *s = (struct spooled *)source;

	sd_source_close(s->checked);
	if (s->fd >= 0)
		close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s->parts);
	free(s);
}

static const struct sd_source_ops source_ops = {
	.finish = finish, .close = close_spooled, .explain = explain, .place = place, .read_at = read_at};

static struct spooled *new_spooled(void)
{
	struct spooled *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

struct sd_source *sd_spooled_new(struct sd_source *source)
{
	struct spooled *s = new_spooled();

	if (!s)
		return NULL;
	s->source = *source;
	s->source.ops = &source_ops;
	s->source.random = true;
	s->inner = source;
	if (open_parts(s, source->manifest))
		return &s->source;
	close_spooled(&s->source);
	return NULL;
}

/* ---- the sink ---- */

static enum sd_result begin(struct sd_sink *sink, const struct sd_manifest *manifest, struct sd_error *err)
{
	struct spooled *s = of_sink(sink);

	s->source.manifest = (struct sd_manifest *)manifest;
	return open_parts(s, manifest) ? SD_OK : sd_fail_memory(err);
}

static enum sd_result data(struct sd_sink *sink, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	return keep(of_sink(sink), record, extent, err);
}

static enum sd_result end(struct sd_sink *sink, struct sd_error *err)
{
	(void)sink;
	(void)err;
	return SD_OK;
}

static void give_up(struct sd_sink *sink, struct sd_error *err)
{
	(void)sink;
	(void)err;
}

struct sd_source *sd_spooled_sink(struct sd_sink **sink)
{
	static const struct sd_sink_ops ops = {.begin = begin, .data = data, .end = end, .abort = give_up};
	struct spooled *s = new_spooled();

	if (!s)
		return NULL;
	s->source = (struct sd_source){.ops = &source_ops, .random = true};
	s->sink = (struct sd_sink){.ops = &ops, .checks = true};
	*sink = &s->sink;
	return &s->source;
}
