/* SPDX-License-Identifier: Apache-2.0 */
/* A source as a plan makes it that touches no data. */
#include "flow/planned.h"

#include <stdlib.h>

struct planned {
	struct sd_source source;
	struct sd_source *inner;
	struct sd_equals *equals; /* or NULL */
	const uint32_t *becomes;
	uint32_t *from; /* of each record: that of inner */
	uint32_t at;    /* the record of inner that is asked for next, if it is one that is dropped */
};

static enum sd_result drop(struct sd_source *source, uint32_t record, struct sd_error *err)
{
	struct sd_extent extent;
	enum sd_result result;

	do
		result = sd_source_next(source, record, &extent, err);
	while (result == SD_OK && extent.length && (result = sd_extent_skip(&extent, err)) == SD_OK);
	return result;
}

static struct sd_source *inner_for(struct planned *p, uint32_t record)
{
	return p->equals ? sd_equals_source(p->equals, p->inner, record) : p->inner;
}

/* What comes before a record and is dropped has to be taken all the same: it may be a pipe. */
static enum sd_result drop_until(struct planned *p, uint32_t record, struct sd_error *err)
{
	const struct sd_manifest *m = p->inner->manifest;
	enum sd_result result = SD_OK;

	for (; p->at < record && result == SD_OK; p->at++)
		if (m->records[p->at].state == SD_HERE && p->becomes[p->at] == SD_DROP)
			result = drop(inner_for(p, p->at), p->at, err);
	return result;
}

static enum sd_result next(struct sd_source *source, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct planned *p = (struct planned *)source;
	uint32_t from = p->from[record];
	enum sd_result result = drop_until(p, from, err);

	return result == SD_OK ? sd_source_next(inner_for(p, from), from, extent, err) : result;
}

static enum sd_result finish(struct sd_source *source, struct sd_error *err)
{
	struct planned *p = (struct planned *)source;
	enum sd_result result = drop_until(p, (uint32_t)p->inner->manifest->nrecords, err);

	return result == SD_OK ? sd_source_finish(p->inner, err) : result;
}

static void explain(struct sd_source *source, struct sd_error *err)
{
	sd_source_explain(((struct planned *)source)->inner, err);
}

static bool sum(const struct sd_source *source, uint32_t record, uint64_t *value)
{
	const struct planned *p = (const struct planned *)source;

	return sd_source_checksum(p->inner, p->from[record], value);
}

static bool place(const struct sd_source *source, uint32_t record, const char **file, uint64_t *offset)
{
	const struct planned *p = (const struct planned *)source;

	return p->inner->ops->place && p->inner->ops->place(p->inner, p->from[record], file, offset);
}

static enum sd_result read_at(struct sd_source *source, uint32_t record, uint64_t offset, void *buffer, uint64_t length,
			      struct sd_error *err)
{
	const struct planned *p = (const struct planned *)source;

	return sd_source_read_at(p->inner, p->from[record], offset, buffer, length, err);
}

static void close_planned(struct sd_source *source)
{
	struct planned *p = (struct planned *)source;

	sd_equals_free(p->equals);
	free(p->from);
	free(p);
}

static const struct sd_source_ops ops = {.next = next,
					 .finish = finish,
					 .close = close_planned,
					 .explain = explain,
					 .sum = sum,
					 .place = place,
					 .read_at = read_at};

struct sd_source *sd_planned_source(struct sd_source *source, const struct sd_plan *plan)
{
	const struct sd_manifest *in = source->manifest;
	struct planned *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	*p = (struct planned){.source = *source,
			      .inner = source,
			      .becomes = plan->becomes,
			      .from = calloc(plan->manifest->nrecords + 1, sizeof(*p->from))};
	p->source.ops = &ops;
	p->source.manifest = plan->manifest;
	p->source.random = source->random && !plan->nequal;
	if (plan->nequal)
		p->equals = sd_equals_new(plan->equal, plan->nequal, in);
	if (!p->from || (plan->nequal && !p->equals)) {
		close_planned(&p->source);
		return NULL;
	}
	for (uint32_t i = 0; i < in->nrecords; i++)
		if (plan->becomes[i] != SD_DROP)
			p->from[plan->becomes[i]] = i;
	return &p->source;
}
