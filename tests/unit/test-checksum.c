/* SPDX-License-Identifier: Apache-2.0 */
/* Sums: they are XXH3, they go with the data, and in a stream that has them no flipped bit stays unseen. */
#include "flow/checksum.h"
#include "pipe/frame.h"
#include "flow/concat.h"
#include "flow/driver.h"
#include "pipe/stream.h"
#include "memory-source.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Byte i of what is summed here; record r begins at byte r of it. */
static unsigned char byte(uint64_t i)
{
	return (unsigned char)(i * 7 % 251);
}

static void fill(unsigned char *data, uint64_t first, size_t length)
{
	for (size_t i = 0; i < length; i++)
		data[i] = byte(first + i);
}

/* As xxhash.xxh3_64 of Python has them. */
static const struct {
	size_t length;
	uint64_t sum;
} vectors[] = {{0, 0x2d06800538d394c2ull},      {1, 0xc44bdff4074eecdbull},    {3, 0xc3489259e968ad9eull},
	       {8, 0xb88dee77f6bf6980ull},      {16, 0x9da23836adf2be1eull},   {17, 0xf34c3c9cf5a112d1ull},
	       {128, 0x4c659b745f435148ull},    {129, 0xb85222b83902b6e5ull},  {240, 0xd6dfbf67b0675b54ull},
	       {241, 0xc614c8c3575348c1ull},    {1024, 0xf22ef3dc84ff47eaull}, {307200, 0x1207085acb6f2488ull},
	       {1048576, 0x931fb38ab0469ad0ull}};

#define NVECTORS (sizeof(vectors) / sizeof(*vectors))

Test(sums, are_xxh3_however_the_data_is_cut)
{
	struct sd_checksum *sum = sd_checksum_new();
	unsigned char *data = malloc(vectors[NVECTORS - 1].length);

	cr_assert(sum && data);
	fill(data, 0, vectors[NVECTORS - 1].length);
	for (size_t i = 0; i < NVECTORS; i++)
		for (size_t step = 1; step < 2 << 20; step = step * 37 + 1) {
			sd_checksum_begin(sum);
			for (size_t at = 0; at < vectors[i].length; at += step)
				sd_checksum_add(sum, data + at,
						vectors[i].length - at < step ? vectors[i].length - at : step);
			cr_expect(sd_checksum_value(sum) == vectors[i].sum, "%zu bytes by %zu", vectors[i].length,
				  step);
		}
	free(data);
	sd_checksum_free(sum);
	sd_checksum_free(NULL);
}

static int file_of(const unsigned char *data, size_t length)
{
	int fd = memfd_create("data", MFD_CLOEXEC);

	cr_assert(fd >= 0 && write(fd, data, length) == (ssize_t)length);
	return fd;
}

/* Takes a extent to its end; what came is what is in data, in memory. */
static void take_all(struct sd_checksum *sum, struct sd_extent extent, const unsigned char *data)
{
	uint64_t length = extent.length, at = 0;
	struct sd_error err;

	sd_checksum_begin(sum);
	while (extent.length) {
		struct sd_extent piece;

		cr_assert(sd_checksum_take(sum, &extent, &piece, &err) == SD_OK, "%s", err.text);
		cr_assert(piece.memory && piece.length && piece.length + extent.length + at == length);
		cr_expect(memcmp(piece.memory, data + at, piece.length) == 0);
		at += piece.length;
	}
}

Test(sums, of_chunks_wherever_they_lie)
{
	const size_t length = 307200;
	unsigned char *data = malloc(length);
	struct sd_checksum *sum = sd_checksum_new();
	struct sd_extent piece, extent = {.length = length, .fd = -1, .offset = -1};
	struct sd_error err;
	int fd;

	cr_assert(data && sum);
	fill(data, 0, length);
	fd = file_of(data, length);
	extent.memory = data;
	take_all(sum, extent, data);
	cr_expect(sd_checksum_value(sum) == 0x1207085acb6f2488ull);
	take_all(sum, (struct sd_extent){.length = length, .fd = fd, .offset = 0}, data);
	cr_expect(sd_checksum_value(sum) == 0x1207085acb6f2488ull);
	cr_assert(lseek(fd, 0, SEEK_SET) == 0);
	take_all(sum, (struct sd_extent){.length = length, .fd = fd, .offset = -1}, data);
	cr_expect(sd_checksum_value(sum) == 0x1207085acb6f2488ull);
	extent = (struct sd_extent){.length = 2, .fd = fd, .offset = (off_t)length - 1};
	cr_expect(sd_checksum_take(sum, &extent, &piece, &err) == SD_INPUT, "a file that is too short");
	close(fd);
	free(data);
	sd_checksum_free(sum);
}

/* ---- streams ---- */

static void fill_record(unsigned char *data, uint32_t record, size_t bytes)
{
	fill(data, record, bytes);
}

/* Records w0, w1, ... of so many bytes, with metadata and side files. */
static struct sd_source *source_of(const char *prefix, size_t count, const uint64_t *sizes)
{
	struct sd_source *source = memory_source(fill_record);
	struct sd_manifest *m = source->manifest;
	const struct sd_side_file files[] = {{"config.json", "{}\n", 3}, {"notes.txt", "hello\n", 6}};
	static const unsigned char frame[128] = {'N', 'E', 'W', 'S', 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0};
	char name[32];

	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s%zu", prefix, i);
		cr_assert(sd_manifest_add_tensor(m, name, SD_U8, &sizes[i], 1));
	}
	cr_assert(sd_manifest_add_metadata(m, "format", "pt"));
	cr_assert(sd_manifest_add_side(m, &files[0]) && sd_manifest_add_side(m, &files[1]));
	m->extra = (struct sd_extra){frame, sizeof(frame)};
	return source;
}

/* Pumps the source, which is closed, into a stream in memory, which stands at its beginning. */
static int stream_of(struct sd_source *source, bool sums)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct sd_sink *sink = sd_stream_sink(fd, "sd-test");
	struct sd_error err;

	sink->sums = sums;
	cr_assert(sd_drive_all(source, sink, &err) == SD_OK, "%s", err.text);
	sink->ops->close(sink);
	sd_source_close(source);
	cr_assert(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static const uint64_t small[] = {3, 0, 17, 64};

static int small_stream(bool sums)
{
	return stream_of(source_of("w", 4, small), sums);
}

static int again(int fd)
{
	char path[64];
	int copy;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(copy >= 0 && lseek(copy, SD_STREAM_MAGIC_LENGTH, SEEK_SET) == SD_STREAM_MAGIC_LENGTH);
	return copy;
}

/* Reads a stream, as a last stage that checks, or as a filter that passes everything on to out. */
static enum sd_result drain(int fd, bool checks, int out, struct sd_checksum_count *checked, struct sd_error *err)
{
	struct sd_source *source;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct sd_sink *sink = sd_stream_sink(out < 0 ? null : out, "sd-test");
	enum sd_result result = sd_stream_open(again(fd), NULL, &source, err);

	sink->checks = checks;
	if (result == SD_OK) {
		result = sd_drive_all(source, sink, err);
		sd_source_close(source);
	}
	if (checked)
		*checked = sink->checked;
	sink->ops->close(sink);
	close(null);
	return result;
}

static void read_at(int fd, off_t at, void *data, size_t length)
{
	cr_assert(pread(fd, data, length, at) == (ssize_t)length);
}

static void write_at(int fd, off_t at, const void *data, size_t length)
{
	cr_assert(pwrite(fd, data, length, at) == (ssize_t)length);
}

/* Where the n-th frame of a kind begins. */
static off_t find(int fd, uint32_t kind, int n)
{
	off_t at = SD_FRAME_ALIGN, size = lseek(fd, 0, SEEK_END);

	while (at < size) {
		unsigned char head[SD_FRAME_ALIGN];
		struct sd_frame f;

		read_at(fd, at, head, sizeof(head));
		f = sd_frame_unpack(head);
		if (f.kind == kind && n-- == 0)
			return at;
		at += SD_FRAME_ALIGN + (off_t)f.length + (off_t)sd_frame_padding(f.length);
	}
	cr_assert_fail("no such frame");
	return -1;
}

Test(sums, go_with_the_data)
{
	const uint64_t sizes[] = {1024, 1, 20 << 20};
	int fd = stream_of(source_of("w", 3, sizes), true);
	int passed = memfd_create("passed", MFD_CLOEXEC);
	struct sd_checksum *sum = sd_checksum_new();
	struct sd_checksum_count checked;
	struct sd_error err;
	uint64_t said;

	cr_expect(drain(fd, true, -1, &checked, &err) == SD_OK, "%s", err.text);
	cr_expect(checked.records == 3 && checked.bytes == 1025 + (20 << 20));
	for (int i = 0; i < 3; i++) {
		unsigned char *data = malloc(sizes[i]);

		read_at(fd, find(fd, SD_KIND_CHECKSUM, i) + SD_FRAME_ALIGN, &said, 8);
		fill(data, (uint64_t)i, sizes[i]);
		sd_checksum_begin(sum);
		sd_checksum_add(sum, data, sizes[i]);
		cr_expect(le64toh(said) == sd_checksum_value(sum), "record %d", i);
		free(data);
	}
	read_at(fd, find(fd, SD_KIND_CHECKSUM, 0) + SD_FRAME_ALIGN, &said, 8);
	cr_expect(le64toh(said) == 0xf22ef3dc84ff47eaull, "as others make it");
	cr_expect(drain(fd, false, passed, &checked, &err) == SD_OK, "%s", err.text);
	cr_expect(checked.records == 0, "what passes is not read");
	cr_expect(lseek(passed, 0, SEEK_END) == lseek(fd, 0, SEEK_END));
	cr_expect(drain(passed, true, -1, &checked, &err) == SD_OK && checked.records == 3, "%s", err.text);
	sd_checksum_free(sum);
	close(fd);
	close(passed);
}

Test(sums, are_not_there_without_being_asked_for)
{
	int fd = small_stream(false);
	struct sd_checksum_count checked;
	struct sd_error err;
	unsigned char flags[2];

	read_at(fd, 12, flags, 2);
	cr_expect(!flags[0] && !flags[1]);
	cr_expect(drain(fd, true, -1, &checked, &err) == SD_OK && checked.records == 0, "%s", err.text);
	close(fd);
}

Test(sums, every_flipped_bit_is_found)
{
	int fd = small_stream(true);
	off_t size = lseek(fd, 0, SEEK_END);
	struct sd_error err;

	cr_assert(drain(fd, true, -1, NULL, &err) == SD_OK, "%s", err.text);
	for (off_t bit = SD_STREAM_MAGIC_LENGTH * 8; bit < size * 8; bit++) {
		unsigned char old, new;

		read_at(fd, bit / 8, &old, 1);
		new = old ^ (unsigned char)(1u << bit % 8);
		write_at(fd, bit / 8, &new, 1);
		cr_expect(drain(fd, true, -1, NULL, &err) == SD_INPUT, "bit %jd of byte %jd", (intmax_t)(bit % 8),
			  (intmax_t)(bit / 8));
		cr_expect(err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
		write_at(fd, bit / 8, &old, 1);
	}
	close(fd);
}

/* What is said when a byte at this place is another one; its old value comes back. */
static const char *said(int fd, off_t at, struct sd_error *err)
{
	unsigned char old, new;

	read_at(fd, at, &old, 1);
	new = old ^ 0x20;
	write_at(fd, at, &new, 1);
	cr_expect(drain(fd, true, -1, NULL, err) == SD_INPUT, "byte %jd", (intmax_t)at);
	write_at(fd, at, &old, 1);
	return err->text;
}

Test(sums, damage_is_named)
{
	int fd = small_stream(true);
	struct sd_error err;

	/* w1 is empty. */
	cr_expect(strncmp(said(fd, find(fd, SD_KIND_DATA, 1) + 64, &err), "w2: its data ", 13) == 0, "%s", err.text);
	cr_expect(strstr(err.text, "checksum") != NULL, "%s", err.text);
	cr_expect(strstr(said(fd, find(fd, SD_KIND_CHECKSUM, 2) + 64, &err), "w3") != NULL, "%s", err.text);
	cr_expect(strstr(said(fd, find(fd, SD_KIND_SIDE, 1) + 64 + 16, &err), "side file notes.txt") != NULL, "%s",
		  err.text);
	cr_expect(strstr(said(fd, find(fd, SD_KIND_MANIFEST, 0) + 64 + 24 + 8, &err), "manifest") != NULL, "%s",
		  err.text);
	cr_expect(strstr(said(fd, 50, &err), "beginning") != NULL, "%s", err.text);
	cr_expect(strstr(said(fd, find(fd, SD_KIND('N', 'E', 'W', 'S'), 0) + 64, &err), "part of the head") != NULL,
		  "%s", err.text);
	close(fd);
}

Test(sums, damage_passes_a_filter_and_is_found_behind)
{
	int fd = small_stream(true), passed = memfd_create("passed", MFD_CLOEXEC);
	off_t at = find(fd, SD_KIND_DATA, 0) + 64;
	struct sd_error err;
	unsigned char other = 99;

	write_at(fd, at, &other, 1);
	cr_expect(drain(fd, false, passed, NULL, &err) == SD_OK, "%s", err.text);
	cr_expect(drain(passed, true, -1, NULL, &err) == SD_INPUT);
	cr_expect(strncmp(err.text, "w0: ", 4) == 0, "%s", err.text);
	close(fd);
	close(passed);
}

/* The stream without the n-th frame of a kind. */
static int without(int fd, uint32_t kind, int n)
{
	off_t at = find(fd, kind, n), from = 0, behind, size = lseek(fd, 0, SEEK_END);
	int out = memfd_create("less", MFD_CLOEXEC);
	unsigned char head[SD_FRAME_ALIGN];
	struct sd_frame f;

	read_at(fd, at, head, sizeof(head));
	f = sd_frame_unpack(head);
	behind = at + SD_FRAME_ALIGN + (off_t)f.length + (off_t)sd_frame_padding(f.length);
	cr_assert(copy_file_range(fd, &from, out, NULL, (size_t)at, 0) == at);
	cr_assert(copy_file_range(fd, &behind, out, NULL, (size_t)(size - behind), 0) > 0);
	close(fd);
	return out;
}

Test(sums, that_are_not_there_are_missed)
{
	struct sd_error err;
	int fd = without(small_stream(true), SD_KIND_CHECKSUM, 1);

	cr_expect(drain(fd, false, -1, NULL, &err) == SD_INPUT);
	cr_expect(strstr(err.text, "w2") && strstr(err.text, "where a checksum is due"), "%s", err.text);
	close(fd);
	fd = without(small_stream(true), SD_KIND_CHECKSUMS, 0);
	cr_expect(drain(fd, false, -1, NULL, &err) == SD_INPUT);
	cr_expect(strstr(err.text, "where the checksums of the head are due") != NULL, "%s", err.text);
	close(fd);
}

Test(sums, of_later_versions_leave_room)
{
	int fd = small_stream(true);
	const unsigned char seven = 7, one = 1;
	struct sd_error err;
	struct sd_checksum *sum = sd_checksum_new();
	unsigned char head[4096];
	off_t meta = find(fd, SD_KIND_META, 0), side = find(fd, SD_KIND_SIDE, 0);
	uint64_t value;

	cr_assert(meta == SD_FRAME_ALIGN);
	write_at(fd, find(fd, SD_KIND_DATA, 0) + 60, &one, 1);
	cr_expect(drain(fd, true, -1, NULL, &err) == SD_INPUT);
	cr_expect(strstr(err.text, "should be zero") != NULL, "%s", err.text);
	write_at(fd, 10, &seven, 1);
	read_at(fd, 0, head, (size_t)side);
	sd_checksum_add(sum, head, (size_t)side);
	value = htole64(sd_checksum_value(sum));
	write_at(fd, find(fd, SD_KIND_CHECKSUMS, 0) + 64, &value, 8);
	cr_expect(drain(fd, true, -1, NULL, &err) == SD_OK, "%s", err.text);
	sd_checksum_free(sum);
	close(fd);
}

Test(sums, are_made_for_sources_that_have_none)
{
	const char *names[] = {"a", "b"};
	struct sd_source *sources[2], *joined;
	struct sd_checksum_count checked;
	struct sd_error err;
	int first = stream_of(source_of("a", 4, small), false), second = stream_of(source_of("b", 4, small), true);
	int fd;

	cr_assert(sd_stream_open(again(first), NULL, &sources[0], &err) == SD_OK);
	cr_assert(sd_stream_open(again(second), NULL, &sources[1], &err) == SD_OK);
	cr_assert(sd_concat(sources, names, 2, &joined, NULL, &err) == SD_OK, "%s", err.text);
	cr_expect(joined->sums);
	fd = stream_of(joined, false);
	cr_expect(drain(fd, true, -1, &checked, &err) == SD_OK, "%s", err.text);
	cr_expect(checked.records == 6 && checked.bytes == 2 * 84);
	close(first);
	close(second);
	close(fd);
}

/* A worker that gives the data on with every byte one larger. */
static enum sd_result increase(struct sd_worker *worker, uint32_t record, struct sd_source *source,
			       struct sd_sink *sink, struct sd_error *err)
{
	(void)worker;
	for (;;) {
		unsigned char data[4096];
		struct sd_extent extent, made = {.memory = data};
		enum sd_result result = sd_source_next(source, record, &extent, err);

		if (result != SD_OK || extent.length == 0)
			return result;
		made.length = extent.length;
		result = sd_extent_read(&extent, data, extent.length, err);
		for (size_t i = 0; i < made.length; i++)
			data[i]++;
		if (result == SD_OK)
			result = sink->ops->data(sink, record, &made, err);
		if (result != SD_OK)
			return result;
	}
}

static enum sd_result work(int fd, int out, struct sd_checksum_count *checked, struct sd_error *err)
{
	struct sd_worker worker = {.record = increase};
	uint32_t becomes[] = {SD_WORK, 1, 2, SD_DROP};
	struct sd_sink *sink = sd_stream_sink(out, "sd-test");
	struct sd_source *source;
	struct sd_plan plan = {.becomes = becomes};
	enum sd_result result;

	cr_assert(sd_stream_open(again(fd), NULL, &source, err) == SD_OK);
	plan.manifest = source->manifest;
	source->manifest->records[3].state = SD_HERE;
	result = sd_drive(source, &plan, &worker, sink, err);
	*checked = sink->checked;
	sink->ops->close(sink);
	sd_source_close(source);
	return result;
}

Test(sums, of_what_is_worked_on_are_checked_and_made_anew)
{
	int fd = small_stream(true), out = memfd_create("out", MFD_CLOEXEC);
	off_t at = find(fd, SD_KIND_DATA, 0) + 64;
	const unsigned char other = 99;
	uint64_t before, after;
	struct sd_checksum_count checked;
	struct sd_error err;

	cr_expect(work(fd, out, &checked, &err) == SD_OK, "%s", err.text);
	cr_expect(checked.records == 1 && checked.bytes == 3);
	for (int i = 0; i < 2; i++) {
		read_at(fd, find(fd, SD_KIND_CHECKSUM, i) + 64, &before, 8);
		read_at(out, find(out, SD_KIND_CHECKSUM, i) + 64, &after, 8);
		cr_expect((before == after) == (i == 1), "record %d", i);
	}
	write_at(fd, at, &other, 1);
	cr_expect(work(fd, out, &checked, &err) == SD_INPUT);
	cr_expect(strncmp(err.text, "w0: ", 4) == 0, "%s", err.text);
	close(fd);
	close(out);
}
