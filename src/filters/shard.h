/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts tensors into the shards of ranks: a plan for each rank, and one pass over the data for several ranks. */
#ifndef SD_FILTERS_SHARD_H
#define SD_FILTERS_SHARD_H

#include "model/selection.h"
#include "flow/sink.h"
#include "flow/source.h"

/* Part number `part` of `of`, counted from 0. */
struct sd_rank {
	uint64_t part, of;
};

enum sd_cut_how {
	SD_CUT_UNEVEN, /* the first size % of parts get one more (expert parallelism) */
	SD_CUT_EQUAL,  /* all alike; a size that cannot be divided is an error */
};

/* One cut: which tensors, and along which dimension. */
struct sd_shard_cut {
	bool experts;                      /* tensors that a map has marked as experts'; or else: */
	const struct sd_selection *choice; /* these tensors */
	int dim;                           /* from 0; negative ones count from the last */
	enum sd_cut_how how;
	struct sd_rank part;
};

/* The begin and the size of a rank's part of size things. False if SD_CUT_EQUAL does not divide them. */
bool sd_rank_part(uint64_t size, enum sd_cut_how how, struct sd_rank part, uint64_t *begin, uint64_t *count);

/* What a rank gets: its manifest, and which bytes of each input record. */
struct sd_shard {
	struct sd_manifest *manifest; /* borrows from the incoming one */
	struct sd_shard_range {
		uint32_t record;     /* in manifest, or SD_NO_RECORD: not needed at all */
		uint64_t begin, end; /* bytes of the incoming record */
	} * ranges;
	bool whole; /* an adapter without experts: every rank gets all of it */
};

void sd_shard_free(struct sd_shard *shard);

/*
 * Plans the shard of one rank. Each slice becomes a tensor of its own or, with keep_global, keeps its place in the
 * whole tensor. Records are trimmed to the rows that the rank needs. Where the rank's slice is empty it gets an empty
 * tensor; of a tensor that is stacked from single ones (label "stacked") it gets none. Block scales (model/scales.h)
 * are cut as their weight is, whether a cut names them or not. A tensor that a map has made of one expert goes whole to
 * the rank that owns the expert.
 *
 * SD_INPUT if a cut finds no tensor, a tensor has too few dimensions, a size cannot be divided, or, without
 * keep_global, a weight would be cut inside a block of its scales.
 */
SD_MUST_CHECK enum sd_result sd_shard_plan(const struct sd_manifest *in, const struct sd_shard_cut *cuts, size_t ncuts,
					   bool keep_global, struct sd_shard *shard, struct sd_error *err);

/*
 * For other plans that take parts of records, in three steps: begin makes an empty manifest with the head of in; the
 * caller adds targets on the records as they come in; records adds what they need of these, trimmed, and checks all of
 * it. sd_shard_free in any case.
 */
SD_MUST_CHECK enum sd_result sd_shard_begin(const struct sd_manifest *in, struct sd_shard *shard, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_shard_records(const struct sd_manifest *in, struct sd_shard *shard,
					      struct sd_error *err);

/* Adds a target like t, but of a tensor of this shape that is empty: nothing of the record. */
SD_MUST_CHECK enum sd_result sd_shard_add_empty(const struct sd_manifest *in, const struct sd_target *t,
						const uint64_t *shape, struct sd_manifest *out, struct sd_error *err);

/*
 * Reads the source once and gives each of count sinks its shard. On failure it has aborted all sinks; *failed is the
 * number of the sink whose reader has gone, or count. If there are several sinks, their readers print nothing, and the
 * caller tells the user.
 */
SD_MUST_CHECK enum sd_result sd_shard_drive(struct sd_source *source, const struct sd_shard *shards,
					    struct sd_sink *const *sinks, size_t count, size_t *failed,
					    struct sd_error *err);

/* Aborts the sinks that are not NULL. A single sink's reader may tell the user; the readers of several print nothing.
 */
void sd_shard_abort(struct sd_sink *const *sinks, size_t count, struct sd_error *err);

#endif
