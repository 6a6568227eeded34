/* SPDX-License-Identifier: Apache-2.0 */
/* A sink: takes a manifest, then the data of its records in their order, then the end or an abort. */
#ifndef SD_FLOW_SINK_H
#define SD_FLOW_SINK_H

#include "flow/extent.h"
#include "model/manifest.h"

struct sd_sink;

struct sd_sink_ops {
	/* The manifest, which must outlive the sink. A sink that cannot take it (pending steps, holes) says so here. */
	enum sd_result (*begin)(struct sd_sink *sink, const struct sd_manifest *manifest, struct sd_error *err);
	/* Takes all of the extent: the next bytes of this record, which is SD_HERE. Records ascend. */
	enum sd_result (*data)(struct sd_sink *sink, uint32_t record, struct sd_extent *extent, struct sd_error *err);
	/* Everything came: finishes, publishes. */
	enum sd_result (*end)(struct sd_sink *sink, struct sd_error *err);
	/*
	 * Instead of end, at any point, before begin too: leaves nothing half-written behind. A sink with somebody
	 * behind it who is known to tell the user passes err on and sets err->told. Does nothing a second time.
	 */
	void (*abort)(struct sd_sink *sink, struct sd_error *err);
	/* Frees; without end before it, as abort. */
	void (*close)(struct sd_sink *sink);
	/*
	 * Memory in which the sink would like length bytes of data to come, so that they need not be copied: a extent
	 * that begins there. It is the caller's until it comes back so, each in its turn. *memory is NULL where any
	 * other is as good; but with *later, what the caller has must come before it can be given more. May be NULL
	 * itself: any memory is.
	 */
	enum sd_result (*room)(struct sd_sink *sink, uint64_t length, void **memory, bool *later, struct sd_error *err);
	/*
	 * Once room has given memory: what all memory lies in that it ever gives, and that is there until the sink is
	 * closed, for a device that wants to know it beforehand. NULL where room is.
	 */
	void (*region)(struct sd_sink *sink, void **begin, size_t *length);
	/*
	 * Before the first data of a record: its sum is known and will be told behind the last, so that none has to be
	 * made; and that. Both NULL: the sink has no use for sums.
	 */
	void (*await_sum)(struct sd_sink *sink, uint32_t record);
	enum sd_result (*sum)(struct sd_sink *sink, uint32_t record, uint64_t sum, struct sd_error *err);
};

/* Records whose data was summed, and their bytes. */
struct sd_checksum_count {
	uint64_t records, bytes;
};

/* The first member of every kind of sink. */
struct sd_sink {
	const struct sd_sink_ops *ops;
	bool sums;   /* set before begin: what it writes is to have sums; so it is set where the source has them */
	bool checks; /* all data is to be checked that comes with a sum, not only what is worked on */
	struct sd_checksum_count checked; /* by those who gave it the data */
};

SD_MUST_CHECK static inline enum sd_result sd_sink_room(struct sd_sink *sink, uint64_t length, void **memory,
							bool *later, struct sd_error *err)
{
	*memory = NULL;
	*later = false;
	return sink->ops->room ? sink->ops->room(sink, length, memory, later, err) : SD_OK;
}

#endif
