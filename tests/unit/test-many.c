/* SPDX-License-Identifier: Apache-2.0 */
/* Tests with many tensors: done at once by plans that are linear, and not in minutes by any that is quadratic. */
#include "map.h"

#include "formats/output_plan.h"
#include "filters/execute.h"

#define EXPERTS 100000u

static const char merges[] =
	"stage s\n m.{E}.gate [I H] <-> m.gate_up [E H I|]\n m.{E}.up [I H] <-> m.gate_up [E H |I]\n";

/* Two tensors for each expert, those with odd numbers first. */
static struct sd_manifest *experts(void)
{
	struct sd_manifest *m = sd_manifest_new();
	const uint64_t shape[] = {2, 3};

	cr_assert(m);
	for (unsigned i = 0; i < 2 * EXPERTS; i++) {
		char key[32];

		snprintf(key, sizeof(key), "m.%u.%s", (2 * (i / 2) + 1) % (EXPERTS + 1), i % 2 ? "up" : "gate");
		cr_assert(sd_manifest_add_tensor(m, key, SD_BF16, shape, 2));
	}
	return m;
}

static struct sd_plan renamed(const struct sd_manifest *in, int to)
{
	struct sd_error err = {0};
	struct sd_map *map = NULL;
	struct sd_rename rename = {.to = to};
	struct sd_plan plan;

	cr_assert_eq(compile(merges, NULL, &map, &err), SD_OK, "%s", err.text);
	rename.map = map;
	cr_assert_eq(sd_rename_plan(&rename, in, &plan, &err), SD_OK, "%s", err.text);
	sd_map_free(map);
	return plan;
}

/* A tensor that is still in its pieces is split without a look at all of them for each part. */
Test(many, experts_merged_and_split_again_are_as_they_were)
{
	struct sd_manifest *in = experts();
	struct sd_plan merged = renamed(in, 1), split = renamed(merged.manifest, 0);

	cr_assert_eq(merged.manifest->ntargets, in->ntargets);
	cr_assert_eq(split.manifest->ntargets, in->ntargets);
	for (size_t i = 0; i < in->ntargets; i++) {
		const struct sd_target *t = &split.manifest->targets[i];

		cr_assert_str_eq(t->name, in->targets[i].name);
		cr_assert_eq(t->record, i);
		cr_assert(sd_shape_equal(t->shape, t->rank, in->targets[i].shape, 2) && !sd_target_is_pending(t));
	}
	sd_plan_free(&split);
	sd_plan_free(&merged);
	sd_manifest_free(in);
}

/* The pieces of one tensor are cut, joined, put into order, and proven to fill it. */
Test(many, pieces_of_one_tensor_are_carried_out_and_fill_it)
{
	struct sd_manifest *in = experts();
	struct sd_plan merged = renamed(in, 1);
	const struct sd_output_plan_options options = {.shard_size = UINT64_MAX, .directory = true};
	struct sd_error err = {0};
	struct sd_output_plan layout;
	struct sd_execution carry;

	cr_assert_eq(sd_execution_plan(merged.manifest, 1 << 20, &carry, &err), SD_OK, "%s", err.text);
	cr_assert_eq(carry.plan.manifest->ntargets, EXPERTS, "gate and up of an expert come out together");
	cr_assert_eq(sd_output_plan_make(carry.plan.manifest, &options, &layout, &err), SD_OK, "%s", err.text);
	cr_assert_eq(layout.ntensors, 1);
	cr_assert_eq(layout.bytes, 2 * 2 * 3 * 2 * (uint64_t)EXPERTS);
	sd_output_plan_free(&layout);
	sd_execution_free(&carry);
	sd_plan_free(&merged);
	sd_manifest_free(in);
}

/* As many tensors as there are records: names, files and the index of a checkpoint of experts. */
Test(many, tensors_have_their_places)
{
	struct sd_manifest *in = experts();
	const struct sd_output_plan_options options = {.shard_size = 2 * 3 * 2 * 1000, .directory = true};
	struct sd_error err = {0};
	struct sd_output_plan layout;

	cr_assert_eq(sd_output_plan_make(in, &options, &layout, &err), SD_OK, "%s", err.text);
	cr_assert_eq(layout.nfiles, 2 * EXPERTS / 1000);
	cr_assert_eq(layout.ntensors, 2 * EXPERTS);
	/* m.N.gate and m.N.up, N from 0 on: a thousand tensors in each file, in bytewise order there. */
	for (size_t i = 0; i < in->ntargets; i++) {
		unsigned number = (unsigned)strtoul(in->targets[i].name + 2, NULL, 10);

		cr_assert_eq(layout.places[i].file, number / 500, "%s", in->targets[i].name);
	}
	sd_output_plan_free(&layout);
	sd_manifest_free(in);
}

Test(many, a_header_that_could_not_be_read_again_is_refused)
{
	struct sd_manifest *m = sd_manifest_new();
	const struct sd_output_plan_options options = {.shard_size = UINT64_MAX};
	const uint64_t shape[] = {1};
	struct sd_error err = {0};
	struct sd_output_plan layout;
	char *name = malloc(SD_SAFETENSORS_HEADER_MAX + 1u);

	cr_assert(m && name);
	memset(name, 'x', SD_SAFETENSORS_HEADER_MAX);
	name[SD_SAFETENSORS_HEADER_MAX] = '\0';
	cr_assert(sd_manifest_add_tensor(m, name, SD_U8, shape, 1));
	cr_assert_eq(sd_output_plan_make(m, &options, &layout, &err), SD_INPUT);
	cr_assert_str_eq(err.text,
			 "the header of 1 tensors has 100000088 bytes, more than safetensors allows (100000000): "
			 "write a directory of smaller shards, with --shard-size");
	sd_output_plan_free(&layout);
	sd_manifest_free(m);
	free(name);
}
