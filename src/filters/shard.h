/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting tensors into the shards of ranks: what one rank gets of a manifest, and one pass over the data for many
 * ranks. */
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

/* One dimension of some tensors, cut. */
struct sd_shard_cut {
	bool experts;                      /* tensors that a map has marked as experts'; or else: */
	const struct sd_selection *choice; /* these tensors */
	int dim;                           /* from 0; negative ones count from the last */
	enum sd_cut_how how;
	struct sd_rank part;
};

/* begin and size of a part of `size` things. False for SD_CUT_EQUAL where it cannot be divided. */
bool sd_rank_part(uint64_t size, enum sd_cut_how how, struct sd_rank part, uint64_t *begin, uint64_t *count);

/* What a rank gets: its manifest, and of each incoming record the bytes that it needs. */
struct sd_shard {
	struct sd_manifest *manifest; /* borrows from the incoming one */
	struct sd_shard_range {
		uint32_t record;     /* in manifest, or SD_NO_RECORD: not needed at all */
		uint64_t begin, end; /* bytes of the incoming record */
	} * ranges;
	bool whole; /* an adapter, of which no tensor is marked as experts': every rank gets all of it */
};

void sd_shard_free(struct sd_shard *shard);

/*
 * Cuts. Each cut slice becomes a tensor of its own, or keeps its place in the whole one (keep_global). Records of which
 * only some rows are needed are trimmed to these. A rank that gets nothing of a tensor gets an empty one, unless the
 * tensor is stacked from single ones (label "stacked"): then it gets none. Block scales (stream/scales.h) are cut as
 * their weight is, whether a cut names them or not. Tensors that a map has taken apart expert by expert go whole to the
 * rank that their numbers belong to. SD_INPUT where a cut finds no tensor at all, a tensor has too few
 * dimensions, a size cannot be divided, or a weight would be cut inside a block of its scales (but for keep_global).
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
 * Reads the source once and gives each of count sinks its shard. On failure all sinks have been aborted, and *failed
 * says which sink it was whose reader had gone, or is count. Several sinks are told that the user is told: by the
 * caller, then.
 */
SD_MUST_CHECK enum sd_result sd_shard_drive(struct sd_source *source, const struct sd_shard *shards,
					    struct sd_sink *const *sinks, size_t count, size_t *failed,
					    struct sd_error *err);

/* Aborts those of the sinks that are there (not NULL). One may tell the user; of several none does, so that it is told
 * once. */
void sd_shard_abort(struct sd_sink *const *sinks, size_t count, struct sd_error *err);

#endif
