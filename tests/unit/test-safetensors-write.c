/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the sink that places pieces: against a loop over elements, with data cut anywhere. */
#include "formats/safetensors_write.h"

#include <criterion/criterion.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A small generator of our own, so that a failure can be repeated anywhere. */
static uint64_t state = 1;

static uint64_t below(uint64_t n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % n;
}

static char folder[] = "/tmp/sd-test-pack-XXXXXX";
static char path[64];

static void enter(void)
{
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/out", folder);
}

static void leave(void)
{
	unlink(path);
	cr_assert_eq(rmdir(folder), 0, "something is left in %s", folder);
}

TestSuite(pack, .init = enter, .fini = leave);

static unsigned char *read_file(size_t *size)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	unsigned char *data;

	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	data = malloc((size_t)st.st_size);
	*size = (size_t)st.st_size;
	cr_assert_eq(read(fd, data, *size), st.st_size);
	close(fd);
	return data;
}

/* Gives a record's data to the sink, cut at random; through a pipe, or from memory. */
static enum sd_result feed(struct sd_sink *sink, uint32_t record, const unsigned char *data, size_t size,
			   struct sd_error *err)
{
	while (size) {
		size_t n = 1 + below(size < 60000 ? size : 60000);
		struct sd_extent extent = {.length = n, .memory = data, .fd = -1, .offset = -1};
		enum sd_result result;
		int ends[2] = {-1, -1};

		if (below(8) == 0) /* all that is left, in one piece */
			extent.length = n = size;
		if (below(2) && n <= 60000) { /* what a pipe holds at once */
			cr_assert_eq(pipe(ends), 0);
			cr_assert_eq(write(ends[1], data, n), (ssize_t)n);
			extent.memory = NULL;
			extent.fd = ends[0];
		}
		result = sink->ops->data(sink, record, &extent, err);
		if (ends[0] >= 0) {
			close(ends[0]);
			close(ends[1]);
		}
		if (result != SD_OK)
			return result;
		cr_assert_eq(extent.length, 0);
		data += n;
		size -= n;
	}
	return SD_OK;
}

/* Where a loop over all elements puts them. */
static void place(const struct sd_move *move, const unsigned char *source, unsigned char *target, size_t element)
{
	uint64_t index[SD_MOVE_RANK] = {0};

	for (uint64_t i = 0; i < sd_move_count(move); i++) {
		uint64_t from = move->from, to = move->to;

		for (uint32_t k = 0; k < move->rank; k++) {
			from += index[k] * move->dim[k].from;
			to += index[k] * move->dim[k].to;
		}
		memcpy(target + to * element, source + from * element, element);
		for (uint32_t k = move->rank; k-- > 0 && ++index[k] == move->dim[k].size;)
			index[k] = 0;
	}
}

enum { EXPERTS = 3, ROWS_MAX = 40, COLUMNS_MAX = 400 };

/*
 * experts [E, R, C] from a record for each expert and half: [e, :, c0:c1]; and each record goes, as a whole and as its
 * upper rows, into tensors of its own too, so that one byte has several places.
 */
static void round_trip(uint64_t rows, uint64_t columns, uint64_t cut, enum sd_dtype dtype)
{
	const size_t element = sd_dtype_size(dtype);
	const uint64_t whole[] = {EXPERTS, rows, columns};
	const size_t size = EXPERTS * rows * columns * element;
	unsigned char *expected = calloc(1, size), *data[2 * EXPERTS], *file;
	struct sd_move moves[2 * EXPERTS], upper = {0, 0, 1, {{0, 1, 1}}};
	uint64_t shapes[2 * EXPERTS][2], upper_shapes[2 * EXPERTS][2];
	struct sd_move uppers[2 * EXPERTS];
	char names[2 * EXPERTS][2][16];
	struct sd_manifest *m = sd_manifest_new();
	struct sd_safetensors_sink_options options = {.path = path, .force = true};
	struct sd_sink *sink = sd_safetensors_sink(&options);
	struct sd_output_plan layout;
	struct sd_error err;
	size_t length;

	for (uint32_t i = 0; i < 2 * EXPERTS; i++) {
		uint64_t width = i % 2 ? columns - cut : cut;
		struct sd_record record = {.key = names[i][0], .shape = shapes[i], .rank = 2, .dtype = (uint8_t)dtype};
		struct sd_target piece = {.name = "experts",
					  .shape = whole,
					  .move = &moves[i],
					  .rank = 3,
					  .record = i,
					  .dtype = (uint8_t)dtype};
		struct sd_target copy = {
			.name = names[i][0], .shape = shapes[i], .rank = 2, .record = i, .dtype = (uint8_t)dtype};
		struct sd_target top = {.name = names[i][1],
					.shape = upper_shapes[i],
					.move = &uppers[i],
					.rank = 2,
					.record = i,
					.dtype = (uint8_t)dtype};

		snprintf(names[i][0], sizeof names[i][0], "half.%u", i);
		snprintf(names[i][1], sizeof names[i][1], "top.%u", i);
		shapes[i][0] = rows;
		shapes[i][1] = width;
		upper_shapes[i][0] = (rows + 1) / 2;
		upper_shapes[i][1] = width;
		moves[i] = (struct sd_move){
			0, i / 2 * rows * columns + (i % 2 ? cut : 0), 2, {{rows, width, columns}, {width, 1, 1}}};
		upper.dim[0].size = upper_shapes[i][0] * width;
		uppers[i] = upper;
		record.bytes = rows * width * element;
		data[i] = malloc(record.bytes + 1);
		for (size_t k = 0; k < record.bytes; k++)
			data[i][k] = (unsigned char)below(256);
		place(&moves[i], data[i], expected, element);
		cr_assert(sd_manifest_add_record(m, &record) && sd_manifest_add_target(m, &piece));
		if (i % 3)
			cr_assert(sd_manifest_add_target(m, &copy) && sd_manifest_add_target(m, &top));
	}
	cr_assert_eq(sink->ops->begin(sink, m, &err), SD_OK, "%s", err.text);
	for (uint32_t i = 0; i < 2 * EXPERTS; i++)
		cr_assert_eq(feed(sink, i, data[i], m->records[i].bytes, &err), SD_OK, "%s", err.text);
	cr_assert_eq(sink->ops->end(sink, &err), SD_OK, "%s", err.text);
	sink->ops->close(sink);

	cr_assert_eq(sd_output_plan_make(m, &options.layout, &layout, &err), SD_OK);
	file = read_file(&length);
	cr_assert_eq(length, layout.files[0].size);
	cr_assert_eq(memcmp(file, layout.files[0].header, layout.files[0].header_length), 0);
	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];
		const unsigned char *at = file + layout.places[i].offset;

		if (strcmp(t->name, "experts") == 0)
			cr_assert_eq(memcmp(at, expected, size), 0);
		else
			cr_assert_eq(memcmp(at, data[t->record], t->shape[0] * t->shape[1] * element), 0, "%s",
				     t->name);
	}
	free(file);
	sd_output_plan_free(&layout);
	sd_manifest_free(m);
	for (int i = 0; i < 2 * EXPERTS; i++)
		free(data[i]);
	free(expected);
}

Test(pack, every_piece_comes_to_its_place)
{
	static const enum sd_dtype dtypes[] = {SD_U8, SD_BF16, SD_F32, SD_I64};

	for (int i = 0; i < 60; i++) {
		uint64_t rows = 1 + below(ROWS_MAX), columns = 2 + below(COLUMNS_MAX);

		round_trip(rows, columns, 1 + below(columns - 1), dtypes[below(4)]);
	}
	round_trip(700, 900, 500, SD_F32); /* larger than every buffer */
}

/* One tensor of 4 bytes, for what goes wrong on the way. */
static struct sd_manifest *small(void)
{
	static const uint64_t shape[] = {4};
	struct sd_manifest *m = sd_manifest_new();

	cr_assert(sd_manifest_add_tensor(m, "a", SD_U8, shape, 1) && sd_manifest_add_tensor(m, "b", SD_U8, shape, 1));
	return m;
}

Test(pack, nothing_is_there_before_the_end)
{
	const struct sd_safetensors_sink_options options = {.path = path};
	struct sd_manifest *m = small();
	struct sd_sink *sink = sd_safetensors_sink(&options);
	struct sd_extent extent = {.length = 4, .memory = "abcd"};
	struct sd_error err;

	cr_assert_eq(sink->ops->begin(sink, m, &err), SD_OK, "%s", err.text);
	cr_assert_eq(sink->ops->data(sink, 0, &extent, &err), SD_OK);
	cr_assert_neq(access(path, F_OK), 0);
	sink->ops->close(sink);
	cr_assert_neq(access(path, F_OK), 0);
	sd_manifest_free(m);
}

Test(pack, data_that_is_short_or_long_is_refused)
{
	for (int wrong = 0; wrong < 3; wrong++) {
		const struct sd_safetensors_sink_options options = {.path = path};
		struct sd_manifest *m = small();
		struct sd_sink *sink = sd_safetensors_sink(&options);
		struct sd_extent first = {.length = wrong == 0 ? 3 : wrong == 1 ? 5 : 4, .memory = "abcde"};
		struct sd_extent second = {.length = 4, .memory = "abcd"};
		struct sd_error err;
		enum sd_result result;

		cr_assert_eq(sink->ops->begin(sink, m, &err), SD_OK, "%s", err.text);
		result = sink->ops->data(sink, 0, &first, &err);
		if (result == SD_OK && wrong == 0)
			result = sink->ops->data(sink, 1, &second, &err);
		if (result == SD_OK)
			result = sink->ops->end(sink, &err);
		cr_assert_eq(result, SD_INPUT);
		cr_assert_str_eq(err.text, wrong == 0   ? "a: 3 of 4 bytes came"
					   : wrong == 1 ? "a: more bytes came than its 4"
							: "b: 0 of 4 bytes came");
		sink->ops->abort(sink, &err);
		sink->ops->close(sink);
		cr_assert_neq(access(path, F_OK), 0);
		sd_manifest_free(m);
	}
}
