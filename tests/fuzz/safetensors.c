/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes headers of safetensors files: what is accepted is a manifest without faults, and is the same when written. */
#include "formats/dcp_safetensors.h"
#include "formats/open.h"
#include "formats/safetensors_header.h"
#include "fuzz.h"
#include "flow/source.h"

/* Files of more data than that are not made. */
#define DATA_MAX (1u << 20)

static void same_tensors(const struct sd_safetensors *a, const struct sd_safetensors *b)
{
	SURE(a->ntensors == b->ntensors && a->nmetadata == b->nmetadata && a->data_bytes == b->data_bytes);
	for (size_t i = 0; i < a->ntensors; i++) {
		const struct sd_tensor *x = &a->tensors[i], *y = &b->tensors[i];

		SURE(strcmp(x->name, y->name) == 0 && x->dtype == y->dtype && x->begin == y->begin && x->end == y->end);
		SURE(sd_shape_equal(x->shape, x->rank, y->shape, y->rank));
	}
	for (size_t i = 0; i < a->nmetadata; i++)
		SURE(strcmp(a->metadata[i].key, b->metadata[i].key) == 0 &&
		     strcmp(a->metadata[i].value, b->metadata[i].value) == 0);
}

static void order(struct sd_safetensors *st)
{
	if (st->ntensors)
		qsort(st->tensors, st->ntensors, sizeof(*st->tensors), sd_safetensors_order);
}

/* Written in our order, read again, and so on: the second text is the first one. */
static void write_again(struct sd_safetensors *st)
{
	struct sd_safetensors again = {0};
	struct sd_error err;
	char *header, *second;
	size_t length, second_length;

	order(st);
	SURE(sd_safetensors_header(st->tensors, st->ntensors, st->metadata, st->nmetadata, &header, &length, &err) ==
		     SD_OK,
	     "%s", err.text);
	SURE(length % 8 == 0 && sd_safetensors_length((unsigned char *)header) == length - SD_SAFETENSORS_LENGTH);
	SURE(sd_safetensors_parse(header + SD_SAFETENSORS_LENGTH, length - SD_SAFETENSORS_LENGTH, st->data_bytes, NULL,
				  &again, &err) == SD_OK,
	     "%s", err.text);
	order(&again);
	same_tensors(st, &again);
	SURE(sd_safetensors_header(again.tensors, again.ntensors, again.metadata, again.nmetadata, &second,
				   &second_length, &err) == SD_OK,
	     "%s", err.text);
	SURE(length == second_length && memcmp(header, second, length) == 0);
	free(header);
	free(second);
	sd_safetensors_free(&again);
}

/* The file that such a header begins. */
static void open_file(const uint8_t *data, size_t size, const struct sd_safetensors *st)
{
	uint64_t length = size;
	struct sd_source *source = NULL;
	struct sd_error err = {0};
	int fd = file_of(&length, sizeof(length));
	enum sd_result result;

	SURE(pwrite(fd, data, size, sizeof(length)) == (ssize_t)size);
	SURE(ftruncate(fd, (off_t)(sizeof(length) + size + st->data_bytes)) == 0);
	result = sd_open_fd(fd, "fuzz", NULL, &source, &err);
	if (result == SD_OK) {
		SURE(source->manifest->nrecords == st->ntensors && source->manifest->ntargets == st->ntensors);
		SURE(sd_manifest_check(source->manifest, &err) == SD_OK, "%s", err.text);
	} else {
		sure_of_failure(result, &err);
		SURE(strstr(err.text, "DCP"), "%s", err.text);
	}
	sd_source_close(source);
}

/* A directory with that file, n times. */
static void open_files(const uint8_t *data, size_t size, const struct sd_safetensors *st, int n)
{
	uint64_t length = size;
	struct sd_safetensors_read reading;
	struct sd_error err = {0};
	enum sd_result result = sd_safetensors_read_begin(&reading, NULL, &err);

	SURE(result == SD_OK);
	for (int i = 0; i < n && result == SD_OK; i++) {
		int fd = file_of(&length, sizeof(length));

		SURE(pwrite(fd, data, size, sizeof(length)) == (ssize_t)size);
		SURE(ftruncate(fd, (off_t)(sizeof(length) + size + st->data_bytes)) == 0);
		SURE(lseek(fd, sizeof(length), SEEK_SET) == sizeof(length));
		result = sd_safetensors_read_add(&reading, fd, "fuzz", (unsigned char *)&length, NULL, false, &err);
	}
	if (result == SD_OK)
		result = sd_safetensors_read_finish(&reading, &err);
	if (result == SD_OK)
		SURE(sd_manifest_check(reading.source->manifest, &err) == SD_OK, "%s", err.text);
	else
		sure_of_failure(result, &err);
	sd_safetensors_read_free(&reading);
	sd_source_close(reading.source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sd_safetensors st = {0};
	struct sd_error err = {0};
	enum sd_result result = sd_safetensors_parse((const char *)data, size, SD_UNKNOWN_SIZE, NULL, &st, &err);

	if (result != SD_OK) {
		sure_of_failure(result, &err);
	} else {
		if (st.data_bytes <= DATA_MAX)
			open_file(data, size, &st);
		if (st.data_bytes <= DATA_MAX && sd_dcp_claims(&st))
			for (int n = 1; n <= 2; n++)
				open_files(data, size, &st, n);
		write_again(&st);
	}
	sd_safetensors_free(&st);
	return 0;
}
