/* SPDX-License-Identifier: Apache-2.0 */
/* The one driver: source, plan, data step, sink. */
#include "flow/driver.h"
#include "flow/checksum.h"

#include <stdlib.h>
#include <string.h>

void sd_plan_free(struct sd_plan *plan)
{
	sd_manifest_free(plan->manifest);
	free(plan->becomes);
	free(plan->equal);
	*plan = (struct sd_plan){0};
}

/* Marks the records that targets and their steps need. */
static void mark_needed(const struct sd_manifest *m, uint32_t *becomes)
{
	for (size_t i = 0; i < m->ntargets; i++) {
		becomes[m->targets[i].record] = 0;
		for (uint32_t k = 0; k < m->targets[i].nsteps; k++)
			if (m->targets[i].steps[k].operand != SD_NO_RECORD)
				becomes[m->targets[i].steps[k].operand] = 0;
	}
}

enum sd_result sd_plan_records(struct sd_plan *plan, const struct sd_manifest *in, struct sd_error *err)
{
	struct sd_manifest *m = plan->manifest;

	plan->becomes = malloc((in->nrecords + 1) * sizeof(*plan->becomes));
	if (!plan->becomes)
		return sd_fail_memory(err);
	for (size_t i = 0; i < in->nrecords; i++)
		plan->becomes[i] = SD_DROP;
	mark_needed(m, plan->becomes);
	for (size_t i = 0; i < in->nrecords; i++) {
		if (plan->becomes[i] == SD_DROP)
			continue;
		plan->becomes[i] = (uint32_t)m->nrecords;
		if (!sd_manifest_add_record(m, &in->records[i]))
			return sd_fail_memory(err);
	}
	for (size_t i = 0; i < m->ntargets; i++)
		if (!sd_target_renumber(m, &m->targets[i], plan->becomes))
			return sd_fail_memory(err);
	return SD_OK;
}

enum sd_result sd_parcel_give(struct sd_parcel *parcel, struct sd_sink *sink, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (parcel->awaits)
		sink->ops->await_sum(sink, parcel->record);
	if (parcel->extent.length > 0)
		result = sink->ops->data(sink, parcel->record, &parcel->extent, err);
	return result == SD_OK && parcel->summed ? sink->ops->sum(sink, parcel->record, parcel->sum, err) : result;
}

/* The rest of one record's data, untouched. */
static enum sd_result pass_on(struct sd_source *source, uint32_t record, struct sd_parcel *parcel, bool summed,
			      struct sd_worker *worker, struct sd_sink *sink, struct sd_error *err)
{
	bool more;

	do {
		enum sd_result result = sd_source_next(source, record, &parcel->extent, err);

		more = parcel->extent.length > 0;
		parcel->summed = !more && summed && sd_source_checksum(source, record, &parcel->sum);
		if (result == SD_OK && (more || parcel->summed))
			result = worker && worker->pass ? worker->pass(worker, record, parcel, sink, err)
							: sd_parcel_give(parcel, sink, err);
		if (result != SD_OK)
			return result;
		parcel->awaits = false;
	} while (more);
	return SD_OK;
}

static enum sd_result pass(struct sd_source *source, uint32_t record, uint32_t as, struct sd_worker *worker,
			   struct sd_sink *sink, struct sd_error *err)
{
	struct sd_parcel parcel = {.record = as};
	bool summed = sink->sums && sink->ops->sum && sd_source_checksum(source, record, &parcel.sum);
	enum sd_result result;

	parcel.awaits = summed;
	source->into = worker ? NULL : sink;
	result = pass_on(source, record, &parcel, summed, worker, sink, err);
	source->into = NULL;
	return result;
}

static enum sd_result drop(struct sd_source *source, uint32_t record, struct sd_error *err)
{
	for (;;) {
		struct sd_extent extent;
		enum sd_result result = sd_source_next(source, record, &extent, err);

		if (result != SD_OK || extent.length == 0)
			return result;
		result = sd_extent_skip(&extent, err);
		if (result != SD_OK)
			return result;
	}
}

/* What becomes of one record whose data is here. */
static enum sd_result take(struct sd_source *source, uint32_t record, uint32_t as, struct sd_worker *worker,
			   struct sd_sink *sink, struct sd_error *err)
{
	if (as == SD_WORK)
		return worker->record(worker, record, source, sink, err);
	return as == SD_DROP ? drop(source, record, err) : pass(source, record, as, worker, sink, err);
}

/* Says where bad input comes from, and what it is about, as far as that is known. */
static void blame(struct sd_source *source, const struct sd_worker *worker, const char *key, struct sd_error *err)
{
	if (worker && worker->blamed)
		key = worker->blamed;
	sd_source_explain(source, err);
	if (key)
		sd_error_about(err, key);
}

static enum sd_result run(struct sd_source *source, const struct sd_manifest *out, const uint32_t *becomes,
			  struct sd_equals *equals, struct sd_worker *worker, struct sd_sink *sink,
			  struct sd_error *err)
{
	const struct sd_manifest *in = source->manifest;
	struct sd_source *checked = NULL;
	enum sd_result result = sd_checked_source(source, sink, &checked, err);

	if (result == SD_OK)
		result = sink->ops->begin(sink, out, err);
	for (size_t i = 0; i < in->nrecords && result == SD_OK; i++) {
		uint32_t record = (uint32_t)i, as = becomes ? becomes[i] : record;
		/* What passes untouched takes its sum along; whoever uses the data checks it. */
		struct sd_source *from =
			checked && (as == SD_WORK || (sink->checks && as != SD_DROP)) ? checked : source;

		if (in->records[i].state != SD_HERE)
			continue;
		if (equals)
			from = sd_equals_source(equals, from, record);
		result = take(from, record, as, worker, sink, err);
		if (result == SD_INPUT)
			blame(source, worker, in->records[i].key, err);
	}
	if (result == SD_OK && worker && worker->settle) {
		result = worker->settle(worker, sink, err);
		if (result == SD_INPUT)
			blame(source, worker, NULL, err);
	}
	if (result == SD_OK) {
		result = sd_source_finish(source, err);
		if (result == SD_INPUT)
			blame(source, NULL, NULL, err);
	}
	if (result == SD_OK)
		result = sink->ops->end(sink, err);
	if (result != SD_OK)
		sink->ops->abort(sink, err);
	sd_source_close(checked);
	return result;
}

enum sd_result sd_drive(struct sd_source *source, const struct sd_plan *plan, struct sd_worker *worker,
			struct sd_sink *sink, struct sd_error *err)
{
	struct sd_equals *equals = plan->nequal ? sd_equals_new(plan->equal, plan->nequal, source->manifest) : NULL;
	enum sd_result result;

	if (plan->nequal && !equals) {
		result = sd_fail_memory(err);
		sink->ops->abort(sink, err);
		return result;
	}
	result = run(source, plan->manifest, plan->becomes, equals, worker, sink, err);
	sd_equals_free(equals);
	return result;
}

enum sd_result sd_drive_all(struct sd_source *source, struct sd_sink *sink, struct sd_error *err)
{
	return run(source, source->manifest, NULL, NULL, NULL, sink, err);
}
