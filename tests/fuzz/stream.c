/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes streams. An input is a stream, or the payload of a manifest, from which a stream is made. What is accepted is
 * encoded as it came, passes through a filter unchanged, and every plan for it gives a manifest without faults.
 */
#include "formats/output_plan.h"
#include "formats/open.h"
#include "fuzz.h"
#include "renaming/rename.h"
#include "move/device.h"
#include "filters/execute.h"
#include "filters/quantise_weights.h"
#include "filters/swap_dims.h"
#include "filters/cast.h"
#include "filters/shard.h"
#include "pipe/stream.h"
#include "model/manifest_codec.h"

/* What is made up to go into a stream, at most. */
#define DATA_MAX (1u << 16)
#define MEMORY (1u << 20)

static enum sd_result take_bytes(void *context, const struct sd_bytes *part, struct sd_error *err)
{
	return sd_bytes_add(context, part->data, part->length) ? SD_OK : sd_fail_memory(err);
}

static struct sd_bytes encoded(const struct sd_manifest *m)
{
	struct sd_bytes bytes = {0};
	struct sd_error err = {0};

	SURE(sd_manifest_encode(m, take_bytes, &bytes, &err) == SD_OK, "%s", err.text);
	return bytes;
}

/* What a plan gives is what the next program accepts, as it is. */
static void sure_of_manifest(const struct sd_manifest *m)
{
	struct sd_bytes first = encoded(m), second, copy = {0};
	struct sd_manifest *again = sd_manifest_new();
	struct sd_error err = {0};

	SURE(again && sd_bytes_add(&copy, first.data, first.length));
	SURE(sd_manifest_decode(copy.data, copy.length, NULL, again, &err) == SD_OK, "%s", err.text);
	second = encoded(again);
	SURE(first.length == second.length && memcmp(first.data, second.data, first.length) == 0);
	sd_manifest_free(again);
	free(first.data);
	free(second.data);
	free(copy.data);
}

/* A manifest that a plan has given, or its failure. */
static void planned(enum sd_result result, const struct sd_manifest *m, const struct sd_error *err)
{
	if (result == SD_OK)
		sure_of_manifest(m);
	else
		sure_of_failure(result, err);
}

static void plan_rename(const struct sd_manifest *in)
{
	struct sd_edit *edit = NULL;
	struct sd_regex_list exclude = {0};
	struct sd_plan plan = {0};
	struct sd_error err = {0};
	struct sd_rename rename = {.to = -1, .edits = (const struct sd_edit *const *)&edit, .nedits = 1};
	enum sd_result result;

	SURE(sd_edit_new("s/[ab]/c/g", &edit, &err) == SD_OK && sd_regex_list_add(&exclude, "d", &err) == SD_OK);
	rename.exclude = &exclude;
	result = sd_rename_plan(&rename, in, &plan, &err);
	planned(result, plan.manifest, &err);
	sd_plan_free(&plan);
	sd_regex_list_free(&exclude);
	sd_edit_free(edit);
}

static void plan_shard(const struct sd_manifest *in)
{
	struct sd_selection all = {0};
	const struct sd_shard_cut cuts[] = {{.experts = true, .choice = &all, .dim = 0, .part = {1, 2}},
					    {.choice = &all, .dim = -1, .part = {0, 3}}};

	for (size_t n = 0; n < 4; n++) {
		struct sd_shard shard = {0};
		struct sd_error err = {0};
		enum sd_result result = sd_shard_plan(in, &cuts[n & 1], 1, n & 2, &shard, &err);

		planned(result, shard.manifest, &err);
		sd_shard_free(&shard);
	}
}

static void plan_casts(const struct sd_manifest *in)
{
	struct sd_selection all = {0};
	struct sd_manifest *out[3] = {0};
	struct sd_quant quant = {0};
	struct sd_error err = {0};

	for (int i = 0; i < 3; i++) {
		enum sd_result result = i == 0   ? sd_cast_to(in, SD_F32, &all, &out[i], &err)
					: i == 1 ? sd_cast_dequant(in, SD_BF16, &all, &out[i], &err)
						 : sd_swap_dims(in, 0, -1, &all, &out[i], &err);

		planned(result, out[i], &err);
		sd_manifest_free(out[i]);
	}
	if (sd_quant_plan(in, &all, SD_QUANTISE_BLOCKS, SD_F32, &quant, &err) != SD_OK)
		sure_of_failure(err.result, &err);
	else
		sure_of_manifest(quant.plan.manifest);
	sd_quant_free(&quant);
}

static void plan_layout(const struct sd_manifest *in)
{
	for (int directory = 0; directory < 2; directory++) {
		struct sd_output_plan_options options = {.directory = directory, .shard_size = 1000};
		struct sd_output_plan layout = {0};
		struct sd_error err = {0};
		enum sd_result result = sd_output_plan_make(in, &options, &layout, &err);

		if (result != SD_OK)
			sure_of_failure(result, &err);
		sd_output_plan_free(&layout);
	}
}

static void plan_all(const struct sd_manifest *in)
{
	struct sd_execution carry;
	struct sd_error err = {0};
	enum sd_result result;

	sure_of_manifest(in);
	plan_rename(in);
	result = sd_execution_plan(in, MEMORY, &carry, &err);
	planned(result, carry.plan.manifest, &err);
	sd_execution_free(&carry);
	plan_shard(in);
	plan_casts(in);
	plan_layout(in);
}

/* A stream from a file, through a filter that leaves it alone or one that carries out all steps, to another file. */
static enum sd_result pump(int from, bool carry_out, int to, struct sd_error *err)
{
	struct sd_source *source = NULL;
	struct sd_sink *sink = sd_stream_sink(to, "fuzz");
	struct sd_execution carry = {0};
	struct sd_device *device = NULL;
	int fd = dup(from);
	enum sd_result result;

	SURE(sink && fd >= 0 && lseek(fd, 0, SEEK_SET) == 0);
	sink->sums = sink->checks = carry_out;
	result = sd_open_fd(fd, "fuzz", NULL, &source, err);
	if (result == SD_OK && carry_out) {
		result = sd_execution_plan(source->manifest, MEMORY, &carry, err);
		if (result == SD_OK) {
			SURE(sd_device_open_cpu(1, &device) == SD_DEVICE_OK);
			carry.device = device;
			result = sd_drive(source, &carry.plan, &carry.worker, sink, err);
		}
	} else if (result == SD_OK) {
		result = sd_drive_all(source, sink, err);
	}
	sink->ops->close(sink);
	if (source && carry_out)
		sd_execution_free(&carry);
	if (device)
		device->ops->close(device);
	sd_source_close(source);
	return result;
}

/* What passes is the same the second time, and so is what is carried out. */
static void pump_twice(int from, bool carry_out)
{
	int first = file_of("", 0), second = file_of("", 0);
	struct sd_error err = {0};
	enum sd_result result = pump(from, carry_out, first, &err);

	if (result != SD_OK) {
		sure_of_failure(result, &err);
	} else {
		size_t a, b;
		char *x, *y;

		SURE(pump(first, carry_out, second, &err) == SD_OK, "%s", err.text);
		x = bytes_of(first, &a);
		y = bytes_of(second, &b);
		SURE(a == b && memcmp(x, y, a) == 0);
		free(x);
		free(y);
	}
	close(first);
	close(second);
}

static void try_stream(int fd)
{
	struct sd_source *source = NULL;
	struct sd_error err = {0};
	int copy = dup(fd);
	enum sd_result result;

	SURE(copy >= 0 && lseek(copy, 0, SEEK_SET) == 0);
	result = sd_open_fd(copy, "fuzz", NULL, &source, &err);
	if (result != SD_OK) {
		/* A failure that came down the stream may say anything. */
		SURE(result == err.result && result >= SD_DIFFERENT && result <= SD_IO);
		return;
	}
	plan_all(source->manifest);
	sd_source_close(source);
	pump_twice(fd, false);
	pump_twice(fd, true);
}

/* The data of records that are here: something that is not all alike. With checksums, which no fuzzer would guess. */
static bool write_stream(const struct sd_manifest *m, bool sums, int to)
{
	static unsigned char bytes[DATA_MAX];
	struct sd_sink *sink;
	struct sd_error err = {0};
	uint64_t sum = 0;

	for (size_t i = 0; i < m->nrecords; i++) {
		if (m->records[i].state != SD_HERE)
			continue;
		if (m->records[i].bytes > DATA_MAX - sum)
			return false;
		sum += m->records[i].bytes;
	}
	for (size_t i = 0; i < DATA_MAX; i++)
		bytes[i] = (unsigned char)(i * 7 + i / 256);
	sink = sd_stream_sink(to, "fuzz");
	SURE(sink);
	sink->sums = sums;
	SURE(sink->ops->begin(sink, m, &err) == SD_OK, "%s", err.text);
	for (size_t i = 0; i < m->nrecords; i++) {
		struct sd_extent chunk = {.memory = bytes, .length = m->records[i].bytes, .fd = -1, .offset = -1};

		if (m->records[i].state == SD_HERE && chunk.length)
			SURE(sink->ops->data(sink, (uint32_t)i, &chunk, &err) == SD_OK, "%s", err.text);
	}
	SURE(sink->ops->end(sink, &err) == SD_OK, "%s", err.text);
	sink->ops->close(sink);
	return true;
}

static void try_manifest(const uint8_t *data, size_t size)
{
	struct sd_manifest *m = sd_manifest_new();
	struct sd_error err = {0};
	unsigned char *copy = malloc(size + 8);
	enum sd_result result;
	int fd;

	SURE(m && copy);
	memcpy(copy, data, size);
	result = sd_manifest_decode(copy, size, NULL, m, &err);
	if (result != SD_OK) {
		sure_of_failure(result, &err);
	} else {
		fd = file_of("", 0);
		/* Where a zero should be: it is passed over. */
		if (write_stream(m, data[20] & 1, fd))
			try_stream(fd);
		else
			plan_all(m);
		close(fd);
	}
	sd_manifest_free(m);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= SD_STREAM_MAGIC_LENGTH && memcmp(data, SD_STREAM_MAGIC, SD_STREAM_MAGIC_LENGTH) == 0) {
		int fd = file_of(data, size);

		try_stream(fd);
		close(fd);
	} else {
		try_manifest(data, size);
	}
	return 0;
}
