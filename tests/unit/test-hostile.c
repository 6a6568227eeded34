/* SPDX-License-Identifier: Apache-2.0 */
/* Small streams that are made to take endless time or memory: each is refused or done at once. */
#include "base/regex.h"
#include "filters/execute.h"
#include "filters/quantise_weights.h"
#include "filters/cast.h"
#include "pipe/stream.h"

#include <criterion/criterion.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What a reader says of a manifest's stream. */
static struct sd_error read_back(const struct sd_manifest *m)
{
	int fd = memfd_create("stream", 0);
	struct sd_sink *sink = sd_stream_sink(fd, "sd-test");
	struct sd_source *source = NULL;
	struct sd_error err = {.result = SD_OK};

	cr_assert(fd >= 0 && sink);
	cr_assert_eq(sink->ops->begin(sink, m, &err), SD_OK);
	cr_assert_eq(sink->ops->end(sink, &err), SD_OK);
	sink->ops->close(sink);
	cr_assert_eq(lseek(fd, SD_STREAM_MAGIC_LENGTH, SEEK_SET), SD_STREAM_MAGIC_LENGTH);
	err.text[0] = '\0';
	err.result = sd_stream_open(fd, NULL, &source, &err);
	sd_source_close(source);
	return err;
}

/* Names that differ. */
static const char *name(struct sd_manifest *m, size_t i)
{
	return sd_arena_printf(&m->arena, "n%zu", i);
}

Test(hostile, endless_metadata, .timeout = 20)
{
	struct sd_manifest *m = sd_manifest_new();
	struct sd_error err;

	for (size_t i = 0; i < SD_METADATA_MAX; i++)
		cr_assert(sd_manifest_add_metadata(m, name(m, i), "v"));
	err = read_back(m);
	cr_expect_eq(err.result, SD_OK, "%s", err.text);
	for (size_t i = SD_METADATA_MAX; i < 300000; i++)
		cr_assert(sd_manifest_add_metadata(m, name(m, i), "v"));
	err = read_back(m);
	cr_expect_eq(err.result, SD_INPUT);
	cr_expect(strstr(err.text, "metadata"), "%s", err.text);
	sd_manifest_free(m);
}

Test(hostile, endless_side_files, .timeout = 20)
{
	struct sd_manifest *m = sd_manifest_new();
	struct sd_error err;

	for (size_t i = 0; i < SD_SIDE_FILES_MAX; i++)
		cr_assert(sd_manifest_add_side(m, &(struct sd_side_file){name(m, i), "x", 1}));
	err = read_back(m);
	cr_expect_eq(err.result, SD_OK, "%s", err.text);
	cr_assert(sd_manifest_add_side(m, &(struct sd_side_file){"one more", "x", 1}));
	err = read_back(m);
	cr_expect_eq(err.result, SD_INPUT);
	cr_expect(strstr(err.text, "side files"), "%s", err.text);
	sd_manifest_free(m);
}

static enum sd_result nothing(struct sd_source *source, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	(void)source;
	(void)record;
	(void)err;
	*extent = (struct sd_extent){.fd = -1, .offset = -1};
	return SD_OK;
}

/* A tensor without elements, of more matrices than can be counted up to. */
Test(hostile, quantising_nothing_2_to_60_times, .timeout = 20)
{
	static const struct sd_source_ops ops = {.next = nothing};
	static const uint64_t shapes[][3] = {{UINT64_C(1) << 60, 1, 0}, {UINT64_C(1) << 60, 0, 1}};

	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		struct sd_source source = {.ops = &ops, .manifest = sd_manifest_new()};
		struct sd_selection choice = {0};
		struct sd_quant quant = {0};
		struct sd_error err;

		cr_assert(sd_manifest_add_tensor(source.manifest, "w", SD_BF16, shapes[i], 3));
		cr_assert_eq(sd_selection_add_name(&choice, "*w*", &err), SD_OK);
		cr_assert_eq(sd_quant_plan(source.manifest, &choice, SD_QUANTISE_BLOCKS, SD_F32, &quant, &err), SD_OK,
			     "%s", err.text);
		cr_expect_eq(quant.worker.record(&quant.worker, 0, &source, NULL, &err), SD_OK);
		sd_quant_free(&quant);
		sd_selection_free(&choice);
		sd_manifest_free(source.manifest);
	}
}

/* A few records, each of many pieces: what is planned for all of them has a limit. */
Test(hostile, pieces_of_all_records, .timeout = 20)
{
	const uint64_t rows = UINT64_C(1) << 21, columns = UINT64_C(1) << 20;
	const uint64_t own[] = {rows, columns}, turned[] = {columns, rows};
	const struct sd_move move = {.rank = 2, .dim = {{columns, 1, rows}, {rows, columns, 1}}};
	struct sd_manifest *m = sd_manifest_new();
	struct sd_execution carry;
	struct sd_error err;

	for (uint32_t i = 0; i < 6; i++) {
		cr_assert(sd_manifest_add_tensor(m, name(m, i), SD_BF16, own, 2));
		m->targets[i].shape = sd_arena_copy(&m->arena, turned, sizeof(turned));
		m->targets[i].move = sd_arena_copy(&m->arena, &move, sd_move_size(&move));
		cr_assert(m->targets[i].shape && m->targets[i].move);
	}
	cr_assert_eq(sd_manifest_check(m, &err), SD_OK, "%s", err.text);
	cr_expect_eq(sd_execution_plan(m, 32 << 20, &carry, &err), SD_INPUT);
	cr_expect(strstr(err.text, "pieces"), "%s", err.text);
	sd_execution_free(&carry);
	sd_manifest_free(m);
}

/* Very many records that fill one box together. */
Test(hostile, joining_200000_records, .timeout = 20)
{
	const uint64_t count = 200000, own[] = {2, 2}, all[] = {2, 2 * count};
	struct sd_manifest *m = sd_manifest_new();
	struct sd_execution carry;
	struct sd_error err;

	for (uint64_t i = 0; i < count; i++) {
		const struct sd_move move = {.to = 2 * i, .rank = 2, .dim = {{2, 1, 2 * count}, {2, 2, 1}}};
		struct sd_target *target;

		cr_assert(sd_manifest_add_tensor(m, name(m, i), SD_BF16, own, 2));
		target = &m->targets[i];
		target->name = "all";
		target->shape = sd_arena_copy(&m->arena, all, sizeof(all));
		target->move = sd_arena_copy(&m->arena, &move, sd_move_size(&move));
		cr_assert(target->shape && target->move);
	}
	cr_assert_eq(sd_manifest_check(m, &err), SD_OK, "%s", err.text);
	cr_assert_eq(sd_execution_plan(m, 32 << 20, &carry, &err), SD_OK, "%s", err.text);
	cr_expect_eq(carry.plan.manifest->nrecords, 1);
	sd_execution_free(&carry);
	sd_manifest_free(m);
}

/* Codes and constants of records as large as can be said. */
Test(hostile, codes_of_large_records, .timeout = 20)
{
	const uint64_t own[] = {UINT64_C(1) << 56}, unpacked[] = {UINT64_C(1) << 57};
	static const struct sd_step unpack = {
		.kind = SD_STEP_UNPACK, .dtype = SD_BF16, .operand = SD_NO_RECORD, .param = SD_UNPACK_INT4};
	static const struct sd_step fill = {.kind = SD_STEP_FILL, .dtype = SD_F64, .operand = SD_NO_RECORD};
	struct sd_manifest *m = sd_manifest_new();
	struct sd_target *t;
	struct sd_execution carry;
	struct sd_error err;

	for (uint32_t i = 0; i < 2; i++) {
		cr_assert(sd_manifest_add_tensor(m, name(m, i), SD_U8, own, 1));
		t = &m->targets[i];
		t->steps = i ? &fill : &unpack;
		t->nsteps = 1;
		t->dtype = i ? SD_F64 : SD_BF16;
		t->shape = i ? own : unpacked;
	}
	cr_assert_eq(sd_manifest_check(m, &err), SD_OK, "%s", err.text);
	cr_expect_eq(sd_execution_plan(m, 32 << 20, &carry, &err), SD_OK, "%s", err.text);
	sd_execution_free(&carry);
	m->records[0].shape = m->targets[1].shape = unpacked;
	cr_expect_eq(sd_manifest_check(m, &err), SD_INPUT, "more elements than there are");
	sd_manifest_free(m);
}
