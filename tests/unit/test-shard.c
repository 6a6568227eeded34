/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting for ranks: what all ranks get together is the whole, and each gets what the formula says. */
#include "filters/shard.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(shard, parts_of_a_size)
{
	uint64_t begin, count;

	/* Uneven expert parallelism: q, m = divmod(n, s); the first m ranks get q + 1. */
	for (uint64_t n = 0; n < 40; n++)
		for (uint64_t s = 1; s < 12; s++) {
			uint64_t next = 0;

			for (uint64_t k = 0; k < s; k++) {
				uint64_t expected = n / s + (k < n % s ? 1 : 0);

				cr_assert(sd_rank_part(n, SD_CUT_UNEVEN, (struct sd_rank){k, s}, &begin, &count));
				cr_expect(begin == next && count == expected);
				next += count;
			}
			cr_expect(next == n);
			cr_expect(sd_rank_part(n, SD_CUT_EQUAL, (struct sd_rank){0, s}, &begin, &count) ==
				  (n % s == 0));
		}
}

/* A source whose records hold the numbers 0, 1, 2, ... as U16, given in odd extents. */
struct counting {
	struct sd_source source;
	uint16_t *data;
	uint64_t given;
	uint32_t record;
};

static enum sd_result counting_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
				    struct sd_error *err)
{
	struct counting *c = (struct counting *)source;
	uint64_t bytes = source->manifest->records[record].bytes, n;

	(void)err;
	if (record != c->record) {
		c->record = record;
		c->given = 0;
	}
	n = bytes - c->given < 37 ? bytes - c->given : 37;
	*extent = (struct sd_extent){.memory = (const char *)c->data + c->given, .length = n};
	c->given += n;
	return SD_OK;
}

static enum sd_result counting_finish(struct sd_source *source, struct sd_error *err)
{
	(void)source;
	(void)err;
	return SD_OK;
}

static void counting_close(struct sd_source *source)
{
	free(((struct counting *)source)->data);
	sd_manifest_free(source->manifest);
	free(source);
}

static const struct sd_source_ops counting_ops = {
	.next = counting_next, .finish = counting_finish, .close = counting_close};

static struct counting *counting(uint64_t elements)
{
	struct counting *c = calloc(1, sizeof(*c));

	c->source.ops = &counting_ops;
	c->source.manifest = sd_manifest_new();
	c->record = SD_NO_RECORD;
	c->data = malloc(elements * sizeof(*c->data));
	for (uint64_t i = 0; i < elements; i++)
		c->data[i] = (uint16_t)i;
	return c;
}

/* A sink that puts every element where its target says. */
struct placing {
	struct sd_sink sink;
	const struct sd_manifest *manifest;
	uint16_t *tensor; /* of the only target; 0xffff where nothing came */
	uint16_t *record;
	uint64_t got, elements;
};

static enum sd_result placing_begin(struct sd_sink *sink, const struct sd_manifest *m, struct sd_error *err)
{
	struct placing *p = (struct placing *)sink;

	(void)err;
	p->manifest = m;
	if (!m->ntargets)
		return SD_OK;
	cr_assert(sd_shape_count(m->targets[0].shape, m->targets[0].rank, &p->elements));
	p->tensor = malloc(p->elements * sizeof(*p->tensor) + 1);
	memset(p->tensor, 0xff, p->elements * sizeof(*p->tensor));
	p->record = malloc(m->records[0].bytes + 1);
	return SD_OK;
}

static enum sd_result placing_data(struct sd_sink *sink, uint32_t record, struct sd_extent *extent,
				   struct sd_error *err)
{
	struct placing *p = (struct placing *)sink;
	uint64_t n = extent->length;

	cr_assert(record == 0 && p->got + n <= p->manifest->records[0].bytes);
	cr_assert(sd_extent_read(extent, (char *)p->record + p->got, n, err) == SD_OK);
	p->got += n;
	return SD_OK;
}

static void place(const struct sd_move *move, uint32_t dim, uint64_t from, uint64_t to, struct placing *p)
{
	if (dim == move->rank) {
		cr_assert(from < p->manifest->records[0].bytes / 2 && to < p->elements);
		p->tensor[to] = p->record[from];
		return;
	}
	for (uint64_t i = 0; i < move->dim[dim].size; i++)
		place(move, dim + 1, from + i * move->dim[dim].from, to + i * move->dim[dim].to, p);
}

static enum sd_result placing_end(struct sd_sink *sink, struct sd_error *err)
{
	struct placing *p = (struct placing *)sink;
	struct sd_move room;

	(void)err;
	for (size_t i = 0; i < p->manifest->ntargets; i++) {
		const struct sd_move *move = sd_target_move(p->manifest, &p->manifest->targets[i], &room);

		cr_assert(p->got == p->manifest->records[0].bytes);
		place(move, 0, move->from, move->to, p);
	}
	return SD_OK;
}

static void placing_abort(struct sd_sink *sink, struct sd_error *err)
{
	(void)sink;
	cr_assert_fail("%s", err->text);
}

static const struct sd_sink_ops placing_ops = {
	.begin = placing_begin, .data = placing_data, .end = placing_end, .abort = placing_abort};

/* Cuts one tensor of this shape (turned round if so) among ranks, and puts the slices together again. */
static void there_and_back(const uint64_t shape[3], bool turned, int dim, uint64_t ranks)
{
	const uint64_t count = shape[0] * shape[1] * shape[2];
	const uint64_t whole_shape[3] = {shape[0], turned ? shape[2] : shape[1], turned ? shape[1] : shape[2]};
	const uint32_t order[3] = {0, 2, 1};
	struct counting *c = counting(count);
	struct sd_manifest *m = c->source.manifest;
	struct sd_shard shards[8];
	struct placing placing[8] = {0};
	struct sd_sink *sinks[8];
	struct sd_selection all = {0};
	struct sd_move move;
	struct sd_error err;
	uint16_t *whole = malloc(count * sizeof(*whole) + 1);
	uint64_t inner = 1, outer = 1, done = 0;
	size_t failed;

	cr_assert(sd_manifest_add_tensor(m, "t", SD_U16, shape, 3));
	if (turned) {
		cr_assert(sd_move_permute(&move, shape, 3, order));
		m->targets[0].move = &move;
		m->targets[0].shape = whole_shape;
	}
	for (uint64_t k = 0; k < ranks; k++) {
		const struct sd_shard_cut cut = {false, &all, dim, SD_CUT_UNEVEN, {k, ranks}};

		cr_assert(sd_shard_plan(m, &cut, 1, false, &shards[k], &err) == SD_OK, "%s", err.text);
		placing[k].sink.ops = &placing_ops;
		sinks[k] = &placing[k].sink;
	}
	cr_assert(sd_shard_drive(&c->source, shards, sinks, ranks, &failed, &err) == SD_OK, "%s", err.text);
	for (int i = 0; i < dim; i++)
		outer *= whole_shape[i];
	for (int i = dim + 1; i < 3; i++)
		inner *= whole_shape[i];
	for (uint64_t k = 0; k < ranks; k++) {
		uint64_t size = shards[k].manifest->targets[0].shape[dim];

		cr_expect(placing[k].elements == outer * size * inner);
		for (uint64_t i = 0; i < outer; i++)
			for (uint64_t j = 0; j < size * inner; j++)
				whole[i * whole_shape[dim] * inner + done * inner + j] =
					placing[k].tensor[i * size * inner + j];
		done += size;
		free(placing[k].tensor);
		free(placing[k].record);
		sd_shard_free(&shards[k]);
	}
	for (uint64_t i = 0; i < shape[0]; i++)
		for (uint64_t j = 0; j < shape[1]; j++)
			for (uint64_t k = 0; k < shape[2]; k++) {
				uint64_t at =
					turned ? (i * shape[2] + k) * shape[1] + j : (i * shape[1] + j) * shape[2] + k;

				cr_assert(whole[at] == (i * shape[1] + j) * shape[2] + k);
			}
	free(whole);
	sd_source_close(&c->source);
}

Test(shard, all_ranks_together_are_the_whole)
{
	for (uint64_t a = 1; a < 6; a++)
		for (uint64_t b = 1; b < 6; b++)
			for (uint64_t d = 1; d < 4; d++)
				for (uint64_t ranks = 1; ranks < 8; ranks += 2)
					for (int dim = 0; dim < 3; dim++) {
						there_and_back((const uint64_t[]){a, b, d * 3}, false, dim, ranks);
						there_and_back((const uint64_t[]){a, b, d * 3}, true, dim, ranks);
					}
}

static struct sd_manifest *two_tensors(void)
{
	struct sd_manifest *m = sd_manifest_new();

	cr_assert(sd_manifest_add_tensor(m, "experts", SD_BF16, (const uint64_t[]){5, 9, 2}, 3));
	cr_assert(sd_manifest_add_tensor(m, "norm", SD_BF16, (const uint64_t[]){4}, 1));
	return m;
}

Test(shard, labels)
{
	struct sd_manifest *m = two_tensors();
	struct sd_shard_cut cut = {true, NULL, 0, SD_CUT_UNEVEN, {1, 3}};
	struct sd_shard shard;
	struct sd_error err;

	cr_expect(sd_shard_plan(m, &cut, 1, false, &shard, &err) == SD_INPUT, "no map was there");
	cr_expect(strstr(err.text, "sd-rename --map") != NULL, "%s", err.text);
	sd_shard_free(&shard);
	m->targets[0].labels = sd_manifest_label(m, SD_LABEL_EXPERT);
	cr_assert(sd_shard_plan(m, &cut, 1, false, &shard, &err) == SD_OK, "%s", err.text);
	cr_expect(shard.manifest->targets[0].shape[0] == 2 && shard.manifest->targets[1].shape[0] == 4);
	cr_expect(shard.ranges[0].begin == 2 * 9 * 2 * 2 && shard.ranges[0].end == 4 * 9 * 2 * 2,
		  "only its rows are read");
	cr_expect(shard.manifest->records[0].bytes == 2 * 9 * 2 * 2);
	sd_shard_free(&shard);

	cut = (struct sd_shard_cut){true, NULL, 1, SD_CUT_EQUAL, {0, 2}};
	cr_expect(sd_shard_plan(m, &cut, 1, false, &shard, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "experts: dimension 1 has 9, which is not divisible by 2");
	sd_shard_free(&shard);

	cut = (struct sd_shard_cut){true, NULL, 0, SD_CUT_UNEVEN, {6, 7}};
	cr_assert(sd_shard_plan(m, &cut, 1, false, &shard, &err) == SD_OK, "%s", err.text);
	cr_expect(shard.manifest->ntargets == 2 && shard.manifest->targets[0].shape[0] == 0, "an empty tensor");
	cr_expect(shard.manifest->records[0].bytes == 0, "of which nothing is read");
	sd_shard_free(&shard);

	m->targets[0].labels |= sd_manifest_label(m, SD_LABEL_STACKED);
	cr_assert(sd_shard_plan(m, &cut, 1, false, &shard, &err) == SD_OK, "%s", err.text);
	cr_expect(shard.manifest->ntargets == 1, "stacked ones do not come at all");
	sd_shard_free(&shard);
	sd_manifest_free(m);
}

Test(shard, dimensions)
{
	struct sd_manifest *m = two_tensors();
	struct sd_selection all = {0};
	struct sd_shard_cut cut = {false, &all, 1, SD_CUT_UNEVEN, {0, 2}};
	struct sd_shard shard;
	struct sd_error err;

	cr_expect(sd_shard_plan(m, &cut, 1, false, &shard, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "norm has the shape [4]: it has no dimension 1 to cut");
	sd_shard_free(&shard);
	cut.dim = -1;
	cr_assert(sd_shard_plan(m, &cut, 1, true, &shard, &err) == SD_OK, "%s", err.text);
	cr_expect(shard.manifest->targets[0].shape[2] == 2, "it keeps its place in the whole");
	cr_expect(sd_move_count(shard.manifest->targets[0].move) == 45);
	sd_shard_free(&shard);
	sd_manifest_free(m);
}
