/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a checkpoint: units, how they are divided, and the frame that says so. */
#include "base/checked.h"
#include "model/parts.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(parts, units_of_keys)
{
	static const struct {
		const char *key, *unit;
	} cases[] = {
		{"model.layers.3.mlp.experts.7.up_proj.weight", "model.layers.3"},
		{"model.layers.30.mlp.gate.weight", "model.layers.30"},
		{"model.visual.blocks.0.attn.qkv.weight", "model.visual.blocks.0"},
		{"model.embed_tokens.weight", "model.embed_tokens"},
		{"lm_head.weight", "lm_head"},
		{"3.weight", "3"},
		{"model.layers.3", "model.layers.3"},
		{"w", "w"},
		{"w1", "w1"},
		{"a.4b.c", "a.4b"},
		{"a..b", "a."},
		{"", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t n = sd_parts_unit_length(cases[i].key);

		cr_expect(n == strlen(cases[i].unit) && strncmp(cases[i].key, cases[i].unit, n) == 0, "%s: %.*s",
			  cases[i].key, (int)n, cases[i].key);
	}
}

/* A manifest of layers of so many bytes. */
static struct sd_manifest *layers(const uint64_t *bytes, size_t count)
{
	struct sd_manifest *m = sd_manifest_new();

	for (size_t i = 0; m && i < count; i++) {
		char key[64];

		/* Not in their order. */
		snprintf(key, sizeof(key), "model.layers.%zu.mlp.weight", count - 1 - i);
		cr_assert(sd_manifest_add_tensor(m, key, SD_U8, &bytes[count - 1 - i], 1));
	}
	return m;
}

/* Layers are in parts that ascend, each of them where its middle is. */
static void divides(const uint64_t *bytes, size_t count, uint32_t of, const uint32_t *want)
{
	struct sd_manifest *m = layers(bytes, count);
	struct sd_parts_table table;
	struct sd_error err;

	cr_assert(sd_parts_divide(m, of, &table, &err) == SD_OK, "%s", err.text);
	for (size_t i = 0; i < count; i++) {
		char key[64];
		uint32_t part;

		snprintf(key, sizeof(key), "model.layers.%zu.attn.weight", i);
		cr_assert(sd_parts_find(&table, key, &part, &err) == SD_OK);
		cr_expect(part == want[i], "layer %zu of %zu is in part %u of %u", i, count, part, of);
		/* The key that was looked for last has to live. */
		table.last = NULL;
	}
	sd_parts_table_free(&table);
	sd_manifest_free(m);
}

Test(parts, by_bytes)
{
	const uint64_t same[12] = {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, one[] = {1, 1, 100, 1, 1},
		       huge[] = {1ull << 60, 1ull << 60, 1ull << 60, 1ull << 60}, none[] = {0, 0};

	divides(same, 12, 4, (uint32_t[]){0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3});
	divides(same, 12, 1, (uint32_t[12]){0});
	divides(one, 5, 3, (uint32_t[]){0, 0, 1, 2, 2});
	divides(huge, 4, 2, (uint32_t[]){0, 0, 1, 1});
	divides(huge, 4, SD_PARTS_MAX, (uint32_t[]){8191, 24575, 40959, 57343});
	divides(none, 2, 3, (uint32_t[]){0, 0});
}

Test(parts, what_behind_was_made_of_a_key)
{
	struct sd_manifest *m = sd_manifest_new();
	const uint64_t shape[] = {8};
	struct sd_parts_table table;
	struct sd_error err;
	uint32_t part;

	cr_assert(sd_manifest_add_tensor(m, "a", SD_U8, shape, 1) && sd_manifest_add_tensor(m, "b", SD_U8, shape, 1));
	cr_assert(sd_parts_divide(m, 2, &table, &err) == SD_OK);
	cr_expect(sd_parts_find(&table, "b_scale", &part, &err) == SD_OK && part == 1);
	cr_expect(sd_parts_find(&table, "c", &part, &err) == SD_OK && part == SD_NO_PART);
	sd_parts_table_free(&table);
	sd_manifest_free(m);
}

Test(parts, frame)
{
	const struct sd_parts_unit units[] = {{"a", 1}, {"layers.9", UINT64_MAX}, {"layers.10", 0}};
	const uint32_t here = 2;
	const struct sd_parts parts = {3, &here, 1, 0x0123456789abcdef, units, 3}, *back;
	struct sd_bytes bytes = {0};
	struct sd_arena arena = {0};
	struct sd_error err;

	cr_assert(sd_parts_encode(&parts, &bytes));
	cr_assert(sd_parts_decode(sd_bytes_view(&bytes), &arena, &back, &err) == SD_OK, "%s", err.text);
	cr_expect(back->of == 3 && back->nhere == 1 && back->here[0] == 2 && back->id == parts.id && back->nunits == 3);
	for (size_t i = 0; i < 3; i++)
		cr_expect(strcmp(back->units[i].name, units[i].name) == 0 && back->units[i].bytes == units[i].bytes);
	/* Cut off anywhere, it is malformed. */
	for (size_t n = 0; n < bytes.length; n++) {
		unsigned char *copy = malloc(n + 1);
		struct sd_view view = {copy, copy + n};

		memcpy(copy, bytes.data, n);
		cr_expect(sd_parts_decode(view, &arena, &back, &err) == SD_INPUT, "%zu bytes", n);
		free(copy);
	}
	sd_arena_free(&arena);
	free(bytes.data);
}

static enum sd_result decode(uint32_t part, uint32_t of, uint64_t count, const char *first, const char *second)
{
	struct sd_bytes bytes = {0};
	struct sd_arena arena = {0};
	const struct sd_parts *parts;
	struct sd_error err;
	enum sd_result result;

	cr_assert(sd_bytes_u32(&bytes, part) && sd_bytes_u32(&bytes, of) && sd_bytes_u64(&bytes, 0) &&
		  sd_bytes_u64(&bytes, count) && sd_bytes_text(&bytes, first) && sd_bytes_u64(&bytes, 1) &&
		  sd_bytes_text(&bytes, second) && sd_bytes_u64(&bytes, 1));
	result = sd_parts_decode(sd_bytes_view(&bytes), &arena, &parts, &err);
	sd_arena_free(&arena);
	free(bytes.data);
	return result;
}

Test(parts, frames_that_are_refused)
{
	cr_expect(decode(0, 1, 2, "a", "b") == SD_OK);
	cr_expect(decode(0, 0, 2, "a", "b") == SD_OK);
	cr_expect(decode(1, 1, 2, "a", "b") == SD_INPUT);
	cr_expect(decode(1, 0, 2, "a", "b") == SD_INPUT);
	cr_expect(decode(0, SD_PARTS_MAX + 1, 2, "a", "b") == SD_INPUT);
	cr_expect(decode(0, 1, 3, "a", "b") == SD_INPUT);
	cr_expect(decode(0, 1, UINT64_MAX / 8, "a", "b") == SD_INPUT);
	cr_expect(decode(0, 1, 2, "b", "a") == SD_INPUT);
	cr_expect(decode(0, 1, 2, "a", "a") == SD_INPUT);
}
