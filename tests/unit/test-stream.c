/* SPDX-License-Identifier: Apache-2.0 */
/* The stream: what is written is read back; what is malformed is refused, and never more than that. */
#include "flow/concat.h"
#include "flow/driver.h"
#include "pipe/stream.h"
#include "model/manifest_codec.h"
#include "memory-source.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Record i is filled with the byte 'a' + i. */
static void fill(unsigned char *data, uint32_t record, size_t bytes)
{
	memset(data, 'a' + (int)record, bytes);
}

/* Everything that a manifest can hold. */
static struct sd_source *full_source(void)
{
	struct sd_source *source = memory_source(fill);
	struct sd_manifest *m = source->manifest;
	const uint64_t shape[] = {3, 4}, scale_shape[] = {1, 2}, large[] = {300, 1024};
	static const struct sd_move turn = {.rank = 2, .dim = {{4, 1, 3}, {3, 4, 1}}};
	static const uint64_t turned[] = {4, 3};
	static const struct sd_block blocks[] = {{128, 2}, {2, 1}};
	static struct sd_step steps[2];
	struct sd_side_file side = {"config.json", "{}\n", 3};

	cr_assert(sd_manifest_add_tensor(m, "scale", SD_F32, scale_shape, 2));
	cr_assert(sd_manifest_add_tensor(m, "weight", SD_F8_E4M3, shape, 2));
	cr_assert(sd_manifest_add_tensor(m, "empty", SD_I64, (const uint64_t[]){0}, 1));
	cr_assert(sd_manifest_add_tensor(m, "scalar", SD_BF16, NULL, 0));
	cr_assert(sd_manifest_add_tensor(m, "large", SD_U8, large, 2));
	steps[0] = (struct sd_step){
		.kind = SD_STEP_BLOCK_SCALE, .dtype = SD_F32, .operand = 0, .rank = 2, .blocks = blocks};
	steps[1] = (struct sd_step){.kind = SD_STEP_CAST, .dtype = SD_BF16, .operand = SD_NO_RECORD};
	m->targets[1].name = "turned";
	m->targets[1].shape = turned;
	m->targets[1].dtype = SD_BF16;
	m->targets[1].move = &turn;
	m->targets[1].steps = steps;
	m->targets[1].nsteps = 2;
	m->targets[1].labels = sd_manifest_label(m, "expert");
	cr_assert(sd_manifest_add_metadata(m, "format", "pt"));
	cr_assert(sd_manifest_add_side(m, &side));
	return source;
}

/* Codes with their scales, and a constant made beside them: the last two targets, of the last record. */
static struct sd_source *packed_source(void)
{
	struct sd_source *source = memory_source(fill);
	struct sd_manifest *m = source->manifest;
	static const uint64_t packed[] = {3, 8}, unpacked[] = {3, 16}, exponents[] = {3, 1};
	static const struct sd_block blocks[] = {{1, 1}, {16, 1}};
	static const struct sd_move pick = {.rank = 1, .dim = {{3, 8, 1}}};
	static const struct sd_step fill = {
		.kind = SD_STEP_FILL, .dtype = SD_F16, .operand = SD_NO_RECORD, .param = 0x3f800000};
	static struct sd_step steps[2];
	struct sd_target ones;

	cr_assert(sd_manifest_add_tensor(m, "exponents", SD_U8, exponents, 2));
	cr_assert(sd_manifest_add_tensor(m, "codes", SD_U8, packed, 2));
	steps[0] = (struct sd_step){
		.kind = SD_STEP_UNPACK, .dtype = SD_F32, .operand = SD_NO_RECORD, .param = SD_UNPACK_E2M1_PLUS};
	steps[1] = (struct sd_step){SD_STEP_BLOCK_SCALE,
				    SD_BF16,
				    (uint32_t)m->nrecords - 2,
				    SD_EXPONENT_ZERO | SD_EXPONENT_2_128,
				    2,
				    blocks};
	ones = m->targets[m->ntargets - 1];
	m->targets[m->ntargets - 1].shape = unpacked;
	m->targets[m->ntargets - 1].dtype = SD_BF16;
	m->targets[m->ntargets - 1].steps = steps;
	m->targets[m->ntargets - 1].nsteps = 2;
	ones.name = "ones";
	ones.rank = 1;
	ones.dtype = SD_F16;
	ones.move = &pick;
	ones.steps = &fill;
	ones.nsteps = 1;
	cr_assert(sd_manifest_add_target(m, &ones));
	return source;
}

/* A stream's bytes in an unlinked file. */
static int write_stream(struct sd_source *source)
{
	int fd = memfd_create("stream", 0);
	struct sd_sink *sink = sd_stream_sink(fd, "sd-test");
	struct sd_error err;

	cr_assert(sd_drive_all(source, sink, &err) == SD_OK, "%s", err.text);
	sink->ops->close(sink);
	sd_source_close(source);
	lseek(fd, SD_STREAM_MAGIC_LENGTH, SEEK_SET);
	return fd;
}

static int reopen(int fd)
{
	int again = dup(fd);

	lseek(fd, SD_STREAM_MAGIC_LENGTH, SEEK_SET);
	return again;
}

static enum sd_result append(void *context, const struct sd_bytes *part, struct sd_error *err)
{
	return sd_bytes_add(context, part->data, part->length) ? SD_OK : sd_fail_memory(err);
}

Test(stream, round_trip)
{
	int fd = write_stream(full_source());
	struct sd_source *original = full_source(), *read;
	struct sd_error err;
	struct sd_bytes a = {0}, b = {0};

	cr_assert(sd_stream_open(fd, NULL, &read, &err) == SD_OK, "%s", err.text);
	cr_assert(sd_manifest_encode(original->manifest, append, &a, &err) == SD_OK &&
		  sd_manifest_encode(read->manifest, append, &b, &err) == SD_OK);
	cr_expect(a.length == b.length && memcmp(a.data, b.data, a.length) == 0);
	cr_expect_str_eq(sd_manifest_metadata(read->manifest, "format"), "pt");
	cr_expect(sd_manifest_side(read->manifest, "config.json")->size == 3);
	cr_expect(read->manifest->targets[1].steps[0].blocks[0].block == 128);
	cr_expect(sd_target_is_pending(&read->manifest->targets[1]) &&
		  !sd_target_is_pending(&read->manifest->targets[0]));
	for (uint32_t i = 0; i < read->manifest->nrecords; i++) {
		uint64_t bytes = 0;
		struct sd_extent extent;

		for (;;) {
			unsigned char data[4096];

			cr_assert(sd_source_next(read, i, &extent, &err) == SD_OK, "%s", err.text);
			if (!extent.length)
				break;
			while (extent.length) {
				uint64_t n = extent.length < sizeof(data) ? extent.length : sizeof(data);

				cr_assert(sd_extent_read(&extent, data, n, &err) == SD_OK, "%s", err.text);
				for (uint64_t k = 0; k < n; k++)
					cr_assert(data[k] == 'a' + i);
				bytes += n;
			}
		}
		cr_expect(bytes == read->manifest->records[i].bytes);
	}
	cr_expect(sd_source_finish(read, &err) == SD_OK, "%s", err.text);
	sd_source_close(read);
	sd_source_close(original);
	free(a.data);
	free(b.data);
}

/* Reads a whole stream as a filter would; the result, and err. */
static enum sd_result drain(int fd, struct sd_error *err)
{
	struct sd_source *source;
	enum sd_result result = sd_stream_open(fd, NULL, &source, err);
	int null = open("/dev/null", O_WRONLY);
	struct sd_sink *sink = sd_stream_sink(null, "sd-test");

	if (result == SD_OK) {
		result = sd_drive_all(source, sink, err);
		sd_source_close(source);
	}
	sink->ops->close(sink);
	close(null);
	return result;
}

Test(stream, truncated_anywhere)
{
	int fd = write_stream(full_source());
	off_t size = lseek(fd, 0, SEEK_END);
	struct sd_error err;

	cr_assert(drain(reopen(fd), &err) == SD_OK, "%s", err.text);
	for (off_t cut = SD_STREAM_MAGIC_LENGTH; cut < size; cut += cut < 2048 || cut > size - 256 ? 1 : 4099) {
		int part = memfd_create("part", 0);
		off_t from = 0;

		while (from < cut)
			cr_assert(copy_file_range(fd, &from, part, NULL, (size_t)(cut - from), 0) > 0);
		cr_expect(drain(reopen(part), &err) == SD_INPUT, "cut at %jd: %s", (intmax_t)cut, err.text);
		cr_expect(strstr(err.text, "ends") != NULL, "cut at %jd: %s", (intmax_t)cut, err.text);
		close(part);
	}
	close(fd);
}

static void change_any_byte(struct sd_source *source)
{
	int fd = write_stream(source);
	off_t size = lseek(fd, 0, SEEK_END);
	unsigned seed = 1;

	for (off_t at = SD_STREAM_MAGIC_LENGTH; at < 2600 && at < size; at++) {
		unsigned char old, new;
		struct sd_error err;

		cr_assert(pread(fd, &old, 1, at) == 1);
		new = (unsigned char)(old ^ (1u << rand_r(&seed) % 8));
		cr_assert(pwrite(fd, &new, 1, at) == 1);
		if (drain(reopen(fd), &err) != SD_OK)
			cr_expect(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
		cr_assert(pwrite(fd, &old, 1, at) == 1);
	}
	close(fd);
}

Test(stream, any_changed_byte_is_refused_or_harmless)
{
	change_any_byte(full_source());
	change_any_byte(packed_source());
}

Test(stream, bytes_after_the_end)
{
	int fd = write_stream(full_source());
	struct sd_error err;

	cr_assert(lseek(fd, 0, SEEK_END) > 0 && write(fd, "x", 1) == 1);
	cr_expect(drain(reopen(fd), &err) == SD_INPUT);
	cr_expect(strstr(err.text, "sd-cat a.sds b.sds") != NULL, "%s", err.text);
	close(fd);
}

Test(stream, unknown_versions_and_fields)
{
	int fd = write_stream(full_source());
	struct sd_error err;
	const unsigned char two = 2, seven = 7, one = 1;

	cr_assert(pwrite(fd, &two, 1, 8) == 1);
	cr_expect(drain(reopen(fd), &err) == SD_INPUT);
	cr_expect(strstr(err.text, "version 2.1") != NULL, "%s", err.text);
	cr_assert(pwrite(fd, &one, 1, 8) == 1 && pwrite(fd, &seven, 1, 10) == 1);
	cr_expect(drain(reopen(fd), &err) == SD_OK, "a later minor version: %s", err.text);
	close(fd);
}

Test(stream, unknown_optional_things_are_passed_on)
{
	struct sd_source *source = full_source();
	static const unsigned char field[] = {5, 0, 0, 0, 3, 0, 0, 0, 'x', 'y', 'z', 0, 0, 0, 0, 0};
	static const unsigned char frame[128] = {'N', 'E', 'W', 'S', 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0};
	struct sd_source *read;
	struct sd_error err;
	int fd;

	source->manifest->records[0].extra = (struct sd_extra){field, sizeof(field)};
	source->manifest->targets[1].extra = (struct sd_extra){field, sizeof(field)};
	source->manifest->extra = (struct sd_extra){frame, sizeof(frame)};
	fd = write_stream(source);
	cr_assert(sd_stream_open(fd, NULL, &read, &err) == SD_OK, "%s", err.text);
	cr_expect(read->manifest->records[0].extra.length == sizeof(field) &&
		  memcmp(read->manifest->records[0].extra.data, field, sizeof(field)) == 0);
	cr_expect(read->manifest->targets[1].extra.length == sizeof(field) && read->manifest->targets[1].nsteps == 2);
	cr_expect(read->manifest->extra.length == sizeof(frame) &&
		  memcmp(read->manifest->extra.data, frame, sizeof(frame)) == 0);
	sd_source_close(read);
}

Test(stream, abort_reaches_the_reader_even_inside_a_record)
{
	struct sd_source *source = full_source();
	int pipes[2];
	struct sd_sink *sink;
	struct sd_error err, read_err;
	enum sd_result result;

	((struct memory_source *)source)->fail_at = 4;
	cr_assert(pipe(pipes) == 0);
	sink = sd_stream_sink(pipes[1], "sd-test");
	result = sd_drive_all(source, sink, &err);
	cr_expect(result == SD_IO && !err.told, "who reads the pipe is not known: it is to be told here");
	sink->ops->close(sink);
	close(pipes[1]);
	cr_assert(read(pipes[0], (char[8]){0}, 8) == 8);
	cr_expect(drain(pipes[0], &read_err) == SD_IO);
	cr_expect_str_eq(read_err.tool, "sd-test");
	cr_expect_str_eq(read_err.text, "disk on fire");
	cr_expect(read_err.told, "and nowhere else");
	sd_source_close(source);
}

Test(manifest, what_does_not_fit_is_refused)
{
	static const struct sd_move outside = {.rank = 1, .to = 1, .dim = {{12, 1, 1}}};
	static const struct sd_move twice = {.rank = 2, .dim = {{3, 4, 0}, {4, 1, 1}}};
	struct sd_error err;
	struct sd_source *source = full_source();
	struct sd_manifest *m = source->manifest;
	const struct sd_move *good = m->targets[1].move;

	cr_assert(sd_manifest_check(m, &err) == SD_OK, "%s", err.text);
	m->targets[1].move = &outside;
	cr_expect(sd_manifest_check(m, &err) == SD_INPUT && strstr(err.text, "turned"));
	m->targets[1].move = &twice;
	cr_expect(sd_manifest_check(m, &err) == SD_INPUT);
	m->targets[1].move = good;
	m->targets[1].dtype = SD_F16;
	cr_expect(sd_manifest_check(m, &err) == SD_INPUT, "the steps give BF16");
	m->targets[1].dtype = SD_BF16;
	m->targets[2].record = 9;
	cr_expect(sd_manifest_check(m, &err) == SD_INPUT && strstr(err.text, "empty"));
	m->targets[2].record = 2;
	m->targets[3].name = "large";
	cr_expect(sd_manifest_check(m, &err) == SD_INPUT && strstr(err.text, "[300, 1024]"),
		  "two shapes for one tensor");
	sd_source_close(source);
}

Test(join, two_sources)
{
	struct sd_source *parts[2] = {full_source(), memory_source(fill)}, *joined;
	static const char *const names[] = {"a", "b"};
	struct sd_side_file side = {"config.json", "{ }", 3};
	struct sd_concat how = {.later_wins = false};
	struct sd_error err;
	int fd;

	cr_assert(sd_manifest_add_tensor(parts[1]->manifest, "more", SD_U8, (const uint64_t[]){5}, 1));
	cr_assert(sd_manifest_add_side(parts[1]->manifest, &side));
	cr_assert(sd_concat(parts, names, 2, &joined, &how, &err) == SD_OK, "%s", err.text);
	cr_expect_str_eq(how.differs, "config.json");
	cr_expect(joined->manifest->nrecords == 6 && joined->manifest->targets[5].record == 5);
	cr_expect(joined->manifest->nmetadata == 0, "b has no metadata");
	fd = write_stream(joined);
	cr_expect(drain(fd, &err) == SD_OK, "%s", err.text);
}

Test(join, unknown_frames_of_all_sources)
{
	static const char one[64] = "one", two[64] = "two";
	struct sd_source *parts[4] = {full_source(), memory_source(fill), memory_source(fill), memory_source(fill)},
			 *joined;
	static const char *const names[] = {"a", "b", "c", "d"};
	const struct sd_extra *extra;
	struct sd_error err;

	parts[0]->manifest->extra = (struct sd_extra){one, sizeof(one)};
	parts[2]->manifest->extra = (struct sd_extra){two, sizeof(two)};
	parts[3]->manifest->extra = (struct sd_extra){one, sizeof(one)};
	cr_assert(sd_concat(parts, names, 4, &joined, NULL, &err) == SD_OK, "%s", err.text);
	extra = &joined->manifest->extra;
	cr_expect(extra->length == sizeof(one) + sizeof(two) && memcmp(extra->data, one, sizeof(one)) == 0 &&
			  memcmp((const char *)extra->data + sizeof(one), two, sizeof(two)) == 0,
		  "%zu bytes", extra->length);
	sd_source_close(joined);
}

/* What a reader would refuse is not written. */
Test(join, more_side_files_than_a_stream_may_have)
{
	static const char *const names[] = {"a", "b"};
	char *content = calloc(1, SD_SIDE_FILE_MAX + 1);
	struct sd_error err;

	cr_assert(content);
	for (int many = 0; many < 2; many++) {
		struct sd_source *parts[2] = {memory_source(fill), memory_source(fill)}, *joined = NULL;
		int each = many ? SD_SIDE_FILES_MAX / 2 : (int)(SD_SIDE_SUM_MAX / SD_SIDE_FILE_MAX / 2);
		struct sd_side_file file = {NULL, content, many ? 1 : SD_SIDE_FILE_MAX};

		for (int i = 0; i < 2 * each; i++) {
			struct sd_manifest *m = parts[i % 2]->manifest;

			file.name = sd_arena_printf(&m->arena, "%d.txt", i);
			cr_assert(sd_manifest_side_fits(m, file.size, &err) == SD_OK && sd_manifest_add_side(m, &file));
		}
		cr_assert(sd_concat(parts, names, 2, &joined, NULL, &err) == SD_OK, "%s", err.text);
		cr_expect(sd_manifest_side_fits(joined->manifest, 1, &err) == SD_INPUT);
		sd_source_close(joined);

		parts[0] = memory_source(fill);
		parts[1] = memory_source(fill);
		for (int i = 0; i < 2 * each + 1; i++) {
			struct sd_manifest *m = parts[i % 2]->manifest;

			file.name = sd_arena_printf(&m->arena, "%d.txt", i);
			cr_assert(sd_manifest_add_side(m, &file));
		}
		cr_expect(sd_concat(parts, names, 2, &joined, NULL, &err) == SD_INPUT);
		cr_expect(strstr(err.text, "side files"), "%s", err.text);
	}
	free(content);
}

Test(join, operands_move_with_their_records)
{
	struct sd_source *parts[2] = {memory_source(fill), full_source()}, *joined;
	static const char *const names[] = {"a", "b"};
	struct sd_error err;

	cr_assert(sd_manifest_add_tensor(parts[0]->manifest, "first", SD_U8, (const uint64_t[]){5}, 1));
	cr_assert(sd_concat(parts, names, 2, &joined, NULL, &err) == SD_OK, "%s", err.text);
	cr_expect(joined->manifest->targets[2].record == 2 && joined->manifest->targets[2].steps[0].operand == 1);
	sd_source_close(joined);
}

Test(join, a_tensor_in_both)
{
	struct sd_source *parts[2] = {full_source(), full_source()}, *joined;
	static const char *const names[] = {"left", "right"};
	struct sd_error err;

	cr_expect(sd_concat(parts, names, 2, &joined, NULL, &err) == SD_INPUT);
	cr_expect(strstr(err.text, "left") && strstr(err.text, "right") && strstr(err.text, "scale"), "%s", err.text);
}

Test(join, parts_are_the_whole)
{
	struct sd_source *parts[2] = {full_source(), full_source()}, *joined;
	static const char *const names[] = {"left", "right"};
	struct sd_error err;

	/* Each has what the other has left out; neither has the last one. */
	for (int i = 0; i < 5; i++)
		parts[i % 2]->manifest->records[i].state = SD_ELSEWHERE;
	parts[1]->manifest->records[4].state = SD_ELSEWHERE;
	cr_assert(sd_concat(parts, names, 2, &joined, NULL, &err) == SD_OK, "%s", err.text);
	cr_expect(joined->manifest->nrecords == 10 && joined->manifest->ntargets == 5);
	for (int i = 0; i < 5; i++) {
		const struct sd_target *t = &joined->manifest->targets[i];

		cr_expect((joined->manifest->records[t->record].state == SD_HERE) == (strcmp(t->name, "large") != 0),
			  "%s", t->name);
	}
	cr_expect(drain(write_stream(joined), &err) == SD_OK, "%s", err.text);
}

Test(plan, keeps_only_what_is_needed)
{
	struct sd_source *source = full_source();
	struct sd_plan plan = {.manifest = sd_manifest_new()};
	struct sd_error err;

	cr_assert(sd_manifest_add_target(plan.manifest, &source->manifest->targets[4]));
	cr_assert(sd_manifest_add_target(plan.manifest, &source->manifest->targets[1]));
	cr_assert(sd_plan_records(&plan, source->manifest, &err) == SD_OK);
	cr_expect(plan.manifest->nrecords == 3, "the weight, its scale, and large");
	cr_expect(plan.becomes[0] == 0 && plan.becomes[1] == 1 && plan.becomes[2] == SD_DROP &&
		  plan.becomes[3] == SD_DROP && plan.becomes[4] == 2);
	cr_expect(plan.manifest->targets[0].record == 2 && plan.manifest->targets[1].record == 1 &&
		  plan.manifest->targets[1].steps[0].operand == 0);
	sd_plan_free(&plan);
	sd_source_close(source);
}

static void expect_refused(const struct sd_manifest *m, const char *what)
{
	struct sd_error err = {0};

	cr_expect(sd_manifest_check(m, &err) == SD_INPUT && strstr(err.text, what), "\"%s\", not \"%s\"", err.text,
		  what);
}

/* Steps of codes, of scales of one byte and of constants, from somebody who means no good. */
Test(stream, steps_of_codes_are_checked)
{
	struct sd_source *source = packed_source();
	struct sd_manifest *m = source->manifest;
	struct sd_target *unpacked = &m->targets[m->ntargets - 2], *ones = &m->targets[m->ntargets - 1];
	struct sd_record *codes = &m->records[m->nrecords - 1], *exponents = &m->records[m->nrecords - 2];
	const struct sd_record good = *codes;
	struct sd_step steps[2], fill = ones->steps[0];
	const uint64_t odd[] = {3, 15}, huge[] = {0, UINT64_MAX / 4};
	struct sd_error err;

	cr_assert(sd_manifest_check(m, &err) == SD_OK, "%s", err.text);
	memcpy(steps, unpacked->steps, sizeof(steps));
	unpacked->steps = steps;
	ones->steps = &fill;
	unpacked->shape = odd;
	expect_refused(m, "its place does not fit codes");
	unpacked->shape = (const uint64_t[]){3, 16};
	for (uint32_t param = 0; param < 9; param += 4) {
		steps[0].param = param;
		expect_refused(m, "an unpacking of no known kind");
	}
	steps[0].param = SD_UNPACK_INT4;
	steps[0].operand = 0;
	expect_refused(m, "an unpacking of no known kind");
	steps[0].operand = SD_NO_RECORD;
	steps[0].dtype = SD_I32;
	expect_refused(m, "an unpacking of no known kind");
	steps[0].dtype = SD_F32;
	codes->dtype = SD_F8_E4M3;
	expect_refused(m, "not the first step of whole numbers");
	*codes = good;
	codes->shape = huge;
	codes->bytes = 0;
	unpacked->shape = (const uint64_t[]){0, 16};
	expect_refused(m, "not the first step of whole numbers");
	unpacked->shape = (const uint64_t[]){3, 16};
	*codes = good;
	steps[1].param = 8;
	expect_refused(m, "a scale that is read in no known way");
	steps[1].param = SD_EXPONENT_INFINITY | SD_EXPONENT_2_128;
	expect_refused(m, "a scale that is read in no known way");
	steps[1].param = SD_EXPONENT_INFINITY;
	exponents->dtype = m->targets[0].dtype = SD_I8;
	expect_refused(m, "a scale that is read in no known way");
	exponents->dtype = m->targets[0].dtype = SD_U8;
	steps[1] = steps[0];
	expect_refused(m, "not the first step");
	unpacked->nsteps = 1;
	unpacked->dtype = SD_F32;
	fill.operand = 0;
	expect_refused(m, "a constant of no known kind");
	fill.operand = SD_NO_RECORD;
	fill.dtype = SD_U8;
	expect_refused(m, "a constant of no known kind");
	fill.dtype = SD_F16;
	cr_expect(sd_manifest_check(m, &err) == SD_OK, "%s", err.text);
	sd_source_close(source);
}

Test(stream, steps_of_codes_travel)
{
	struct sd_source *original = packed_source(), *read;
	struct sd_bytes a = {0}, b = {0};
	struct sd_error err;

	cr_assert(sd_stream_open(write_stream(packed_source()), NULL, &read, &err) == SD_OK, "%s", err.text);
	cr_assert(sd_manifest_encode(original->manifest, append, &a, &err) == SD_OK &&
		  sd_manifest_encode(read->manifest, append, &b, &err) == SD_OK);
	cr_expect(a.length == b.length && memcmp(a.data, b.data, a.length) == 0);
	cr_expect_eq(read->manifest->targets[1].steps[1].param, SD_EXPONENT_ZERO | SD_EXPONENT_2_128);
	cr_expect_eq(read->manifest->targets[2].steps[0].param, 0x3f800000);
	sd_source_close(read);
	sd_source_close(original);
	free(a.data);
	free(b.data);
}

static ssize_t read_first(int fd)
{
	char magic[SD_STREAM_MAGIC_LENGTH];

	return read(fd, magic, sizeof(magic));
}

/* What a reader has given of the ring stays as it is until it is asked for more. */
Test(stream, shared_data_stays, .timeout = 60)
{
	enum { half = 16 << 20 };
	struct sd_source *source = memory_source(fill), *read;
	struct sd_extent extent;
	unsigned char *memory[2];
	struct sd_sink *sink;
	void *more;
	int ends[2];
	bool later;

	cr_assert_eq(setenv("SD_HANDOFF", "wait", 1), 0);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	for (int i = 0; i < 2; i++)
		cr_assert(sd_manifest_add_tensor(source->manifest, i ? "b" : "a", SD_U8, (const uint64_t[]){half}, 1));
	sink = sd_stream_sink(ends[1], "sd-test");
	cr_assert_eq(sink->ops->begin(sink, source->manifest, NULL), SD_OK);
	cr_assert_eq(read_first(ends[0]), SD_STREAM_MAGIC_LENGTH);
	cr_assert_eq(sd_stream_open(ends[0], NULL, &read, NULL), SD_OK);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(sd_sink_room(sink, half, (void **)&memory[i], &later, NULL), SD_OK);
		cr_assert_not_null(memory[i]);
		memset(memory[i], 'a' + i, half);
	}
	extent = (struct sd_extent){.memory = memory[0], .length = half};
	cr_assert_eq(sink->ops->data(sink, 0, &extent, NULL), SD_OK);
	cr_assert_eq(sd_source_next(read, 0, &extent, NULL), SD_OK);
	cr_assert(extent.length == half && *(const unsigned char *)extent.memory == 'a');
	cr_assert_eq(sd_sink_room(sink, half, &more, &later, NULL), SD_OK);
	cr_assert(!more && later, "it is read just now");
	cr_assert_eq(sd_source_next(read, 0, &extent, NULL), SD_OK);
	cr_assert_eq(extent.length, 0);
	cr_assert_eq(sd_sink_room(sink, half, &more, &later, NULL), SD_OK);
	cr_assert_not_null(more);
	sink->ops->close(sink);
	sd_source_close(read);
	sd_source_close(source);
	close(ends[1]);
	cr_assert_eq(unsetenv("SD_HANDOFF"), 0);
}

/* A program of ours that is known to read tells what an abort says, and the one that fails does not. */
Test(stream, abort_is_told_by_who_is_known_to_read, .timeout = 60)
{
	struct sd_source *source = full_source(), *read;
	struct sd_error err, read_err = {0};
	struct sd_sink *sink;
	int ends[2];

	cr_assert_eq(setenv("SD_HANDOFF", "wait", 1), 0);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	sink = sd_stream_sink(ends[1], "sd-test");
	cr_assert_eq(sink->ops->begin(sink, source->manifest, NULL), SD_OK);
	cr_assert_eq(read_first(ends[0]), SD_STREAM_MAGIC_LENGTH);
	cr_assert_eq(sd_stream_open(ends[0], NULL, &read, NULL), SD_OK);
	sd_fail(&err, SD_IO, "disk on fire");
	sink->ops->abort(sink, &err);
	cr_expect(err.told);
	sink->ops->close(sink);
	close(ends[1]);
	cr_expect_eq(sd_source_next(read, 0, &(struct sd_extent){0}, &read_err), SD_IO);
	cr_expect(!read_err.told && strcmp(read_err.tool, "sd-test") == 0);
	sd_source_close(read);
	sd_source_close(source);
	cr_assert_eq(unsetenv("SD_HANDOFF"), 0);
}

/* Whoever was told of what is kept in a file is no longer there. */
Test(stream, abort_in_a_file_is_bad_input)
{
	for (unsigned told = 0; told < 2; told++) {
		int fd = memfd_create("stream", 0);
		struct sd_sink *sink = sd_stream_sink(fd, "sd-test");
		struct sd_error err, read_err;

		sd_fail(&err, SD_USAGE, "no such option");
		err.told = told ? SD_TOLD : SD_UNTOLD;
		sink->ops->abort(sink, &err);
		cr_expect_eq(err.told == SD_TOLD, told);
		sink->ops->close(sink);
		cr_assert_eq(lseek(fd, SD_STREAM_MAGIC_LENGTH, SEEK_SET), SD_STREAM_MAGIC_LENGTH);
		cr_expect_eq(drain(fd, &read_err), SD_INPUT);
		cr_expect(!read_err.told && !read_err.tool[0] && strstr(read_err.text, "sd-test: no such option"));
	}
}
