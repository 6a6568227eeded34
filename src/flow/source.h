/* SPDX-License-Identifier: Apache-2.0 */
/* A source: a manifest, and then the data of its records in their order. */
#ifndef SD_FLOW_SOURCE_H
#define SD_FLOW_SOURCE_H

#include "flow/extent.h"
#include "model/manifest.h"

struct sd_source;
struct sd_sink;

struct sd_source_ops {
	/*
	 * The next extent of a record's data. Records are asked for in ascending order, each until length 0 says that
	 * it is whole. A source may be asked for fewer records than it has only if it is not a pipe; drivers ask for
	 * all that are here.
	 */
	enum sd_result (*next)(struct sd_source *source, uint32_t record, struct sd_extent *extent,
			       struct sd_error *err);
	/* After the last record: checks that the source ends as it should. */
	enum sd_result (*finish)(struct sd_source *source, struct sd_error *err);
	/* Frees everything, the manifest too. */
	void (*close)(struct sd_source *source);
	/* Data that ended early: puts the cause into err, if the source knows better. May be NULL: it does not. */
	void (*explain)(struct sd_source *source, struct sd_error *err);
	/*
	 * Whether a sum comes with this record's data. *sum is it once next has said that the record is whole, and
	 * until the next one is asked for. May be NULL: none does.
	 */
	bool (*sum)(const struct sd_source *source, uint32_t record, uint64_t *sum);
	/*
	 * Where a record's data begins: the path of a file and the byte there. May be NULL, and say no, where the data
	 * is in no file, or nobody knows.
	 */
	bool (*place)(const struct sd_source *source, uint32_t record, const char **file, uint64_t *offset);
	/*
	 * Reads length bytes of a record from an offset in it on, in any order and from several threads at a time;
	 * independent of next. SD_INPUT where the data has changed or ends early. May be NULL: data comes in order
	 * only.
	 */
	enum sd_result (*read_at)(struct sd_source *source, uint32_t record, uint64_t offset, void *buffer,
				  uint64_t length, struct sd_error *err);
};

/* The first member of every kind of source. */
struct sd_source {
	const struct sd_source_ops *ops;
	struct sd_manifest *manifest;
	const char *name; /* of what was opened, for errors; NULL: it goes without saying */
	const char *note; /* what is odd about it, for people; lives as long as the manifest. NULL: nothing is */
	const char *lack; /* what is not there, though sd_limits.short_data let it pass; an error; NULL: nothing */
	/* Set by who asks for the next extent and gives it to this sink, untouched, before the next one: what is made
	 * in memory may be made in its room. NULL: nobody does. */
	struct sd_sink *into;
	bool sums;   /* sums come with the data of some records at least */
	bool random; /* read_at works: what ops has it for may be a pipe all the same */
};

SD_MUST_CHECK static inline enum sd_result sd_source_next(struct sd_source *source, uint32_t record,
							  struct sd_extent *extent, struct sd_error *err)
{
	return source->ops->next(source, record, extent, err);
}

SD_MUST_CHECK static inline enum sd_result sd_source_finish(struct sd_source *source, struct sd_error *err)
{
	return source->ops->finish(source, err);
}

/* To be called when taking the source's data has failed with err. */
static inline void sd_source_explain(struct sd_source *source, struct sd_error *err)
{
	if (source->ops->explain && err->result == SD_INPUT && !err->told && !err->tool[0])
		source->ops->explain(source, err);
	if (source->name && err->result == SD_INPUT)
		sd_error_about(err, source->name);
}

static inline bool sd_source_checksum(const struct sd_source *source, uint32_t record, uint64_t *sum)
{
	return source->ops->sum && source->ops->sum(source, record, sum);
}

/* Only where the source is random. */
SD_MUST_CHECK static inline enum sd_result sd_source_read_at(struct sd_source *source, uint32_t record, uint64_t offset,
							     void *buffer, uint64_t length, struct sd_error *err)
{
	return source->ops->read_at(source, record, offset, buffer, length, err);
}

/* Does nothing for NULL. */
static inline void sd_source_close(struct sd_source *source)
{
	if (source)
		source->ops->close(source);
}

#endif
