/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes indexes of checkpoints in several files: what is accepted is the same when written, and stays so resized. */
#include "formats/index.h"
#include "fuzz.h"

/* Both have the same keys in the same files. */
static void same_entries(const struct sd_index *a, const struct sd_index *b)
{
	SURE(a->nentries == b->nentries && a->nfiles == b->nfiles);
	for (size_t i = 0; i < a->nentries; i++) {
		uint32_t number = sd_names_find(&b->keys, a->entries[i].key);

		SURE(number != SD_NO_NAME && strcmp(a->entries[i].file, b->entries[number].file) == 0);
	}
}

static void read_again(const struct sd_index *index, const char *json, size_t length)
{
	struct sd_index again = {0};
	struct sd_error err = {0};

	SURE(sd_index_parse(json, length, NULL, &again, &err) == SD_OK, "%s", err.text);
	same_entries(index, &again);
	sd_index_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sd_index index = {0};
	struct sd_error err = {0};
	char *json, *second;
	size_t length, second_length;
	enum sd_result result = sd_index_parse((const char *)data, size, NULL, &index, &err);

	if (result != SD_OK) {
		sure_of_failure(result, &err);
		sd_index_free(&index);
		return 0;
	}
	SURE(sd_index_resize((const char *)data, size, UINT64_MAX, 7, &json, &length, &err) == SD_OK, "%s", err.text);
	read_again(&index, json, length);
	SURE(sd_index_resize(json, length, UINT64_MAX, 7, &second, &second_length, &err) == SD_OK, "%s", err.text);
	SURE(length == second_length && memcmp(json, second, length) == 0);
	free(json);
	free(second);
	/* The last, for it sorts. The table of keys is by the order of before. */
	SURE(sd_index_write(index.entries, index.nentries, UINT64_MAX, 7, &json, &length, &err) == SD_OK, "%s",
	     err.text);
	read_again(&index, json, length);
	free(json);
	sd_index_free(&index);
	return 0;
}
