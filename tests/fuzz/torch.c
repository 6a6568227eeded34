/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes files of torch.save: their pickles alone, and whole files, whose tensors have the bytes that they say. */
#include "formats/open.h"
#include "formats/torch_tensor.h"
#include "fuzz.h"
#include "flow/source.h"

/* Nobody waits for more than that of one input. */

/* Every node is what it says that it is; each is looked at once. */
static void look(const struct sd_pickle_node *node, bool *seen, unsigned depth)
{
	struct sd_pickle_node *const *items = NULL;

	SURE(node->kind <= SD_PICKLE_ID);
	if (node->kind == SD_PICKLE_ID && depth < 1000)
		look(node->id, seen, depth + 1);
	if (node->kind == SD_PICKLE_TEXT || node->kind == SD_PICKLE_BYTES)
		SURE(node->count == 0 || node->text[node->count - 1] == node->text[node->count - 1]);
	if (node->kind < SD_PICKLE_TUPLE || node->kind == SD_PICKLE_GLOBAL || node->kind == SD_PICKLE_ID ||
	    seen[node->number] || depth == 1000)
		return;
	seen[node->number] = true;
	items = node->kind == SD_PICKLE_OBJECT ? node->object->items : node->items;
	if (node->kind == SD_PICKLE_OBJECT) {
		look(node->object->args, seen, depth + 1);
		if (node->object->state)
			look(node->object->state, seen, depth + 1);
	}
	for (uint32_t i = 0; i < node->count; i++)
		look(items[i], seen, depth + 1);
}

/* others: what is not listed may be there, too. */
static void read_pickle(const uint8_t *data, size_t size, bool others)
{
	struct sd_pickle_rules rules = sd_torch_rules;
	struct sd_pickle pickle;
	struct sd_error err = {0};
	enum sd_result result;

	rules.others = others;
	result = sd_pickle_read(data, size, &rules, &pickle, &err);

	if (result == SD_OK) {
		bool *seen = calloc(pickle.holders + (size_t)1, sizeof(*seen));

		SURE(seen && pickle.used <= size);
		look(pickle.top, seen, 0);
		free(seen);
	} else {
		sure_of_failure(result, &err);
	}
	sd_pickle_free(&pickle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sd_source *source = NULL;
	struct sd_error err = {0};
	enum sd_result result;

	read_pickle(data, size, false);
	read_pickle(data, size, true);
	if (size < 4 || (memcmp(data, "PK\x03\x04", 4) != 0 && memcmp(data, "\x80\x02\x8a\x0a", 4) != 0))
		return 0;
	result = sd_open_fd(file_of(data, size), "fuzz", NULL, &source, &err);
	if (result != SD_OK) {
		sure_of_failure(result, &err);
		return 0;
	}
	SURE(sd_manifest_check(source->manifest, &err) == SD_OK, "%s", err.text);
	take_all(source);
	sd_source_close(source);
	return 0;
}
