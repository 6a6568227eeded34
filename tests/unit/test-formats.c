/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of safetensors headers, indexes and layouts, with no I/O. */
#include "formats/index.h"
#include "formats/output_plan.h"
#include "formats/safetensors_header.h"

#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"

static enum sd_result parse(const char *header, uint64_t data, struct sd_safetensors *st, struct sd_error *err)
{
	*st = (struct sd_safetensors){0};
	return sd_safetensors_parse(header, strlen(header), data, NULL, st, err);
}

Test(safetensors, reads_tensors_in_the_order_of_their_bytes)
{
	struct sd_safetensors st;
	struct sd_error err;

	cr_assert_eq(
		parse("{\"b\":" T("F32", "2,2", "3,19") ",\"e2\":" T(
			      "I64", "0",
			      "3,3") ",\"__metadata__\":{\"k\":\"v\"},\"a\":" T("U8", "3",
										"0,3") ",\"e1\":" T("I64", "5,0",
												    "3,3") ",\"s\""
													   ":" T("F1"
														 "6",
														 "",
														 "19,"
														 "21") "}   ",
		      21, &st, &err),
		SD_OK, "%s", err.text);
	cr_assert_eq(st.ntensors, 5);
	cr_assert_str_eq(st.tensors[0].name, "a");
	cr_assert_str_eq(st.tensors[1].name, "e2");
	cr_assert_str_eq(st.tensors[2].name, "e1");
	cr_assert_str_eq(st.tensors[3].name, "b");
	cr_assert_eq(st.tensors[3].shape[1], 2);
	cr_assert_eq(st.tensors[4].rank, 0);
	cr_assert_eq(st.nmetadata, 1);
	cr_assert_str_eq(st.metadata[0].value, "v");
	cr_assert_eq(st.data_bytes, 21);
	sd_safetensors_free(&st);
}

Test(safetensors, refuses_what_is_not_as_it_must_be)
{
	static const struct {
		const char *header;
		uint64_t data;
		const char *why;
	} bad[] = {
		{" {}", 0, "does not begin with {"},
		{"[]", 0, "does not begin with {"},
		{"{\"a\":1}", 0, "a is no tensor"},
		{"{\"a\":[]}", 0, "a is no tensor"},
		{"{\"a\":{}}", 0, "a has no dtype"},
		{"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0, "a has no data_offsets"},
		{"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, "a has dtype twice"},
		{"{\"a\":{\"dtype\":\"U8\",\"shape\":3,\"data_offsets\":[0,3]}}", 3, "a has a shape of the wrong kind"},
		{"{\"a\":{\"dtype\":\"U8\",\"shape\":[[3]],\"data_offsets\":[0,3]}}", 3, "a has"},
		{"{\"a\":{\"dtype\":8}}", 0, "a has a dtype of the wrong kind"},
		{"{\"a\":{\"color\":1}}", 0, "unknown field \"color\""},
		{"{\"a\":" T("U9", "1", "0,1") "}", 1, "unknown dtype \"U9\""},
		{"{\"a\":" T("u8", "1", "0,1") "}", 1, "unknown dtype \"u8\""},
		{"{\"a\":" T("U8", "1.0", "0,1") "}", 1, "1.0"},
		{"{\"a\":" T("U8", "-1", "0,1") "}", 1, "-1"},
		{"{\"a\":" T("U8", "1", "0,1,2") "}", 1, "more than two data_offsets"},
		{"{\"a\":" T("U8", "1", "0") "}", 1, "fewer than two data_offsets"},
		{"{\"a\":" T("F32", "2,2", "0,15") "}", 15, "[2, 2] of F32, which has 16 bytes"},
		{"{\"a\":" T("F4", "3", "0,1") "}", 1, "no possible size"},
		{"{\"a\":" T("U8", "4294967296,4294967296", "0,0") "}", 0, "no possible size"},
		{"{\"a\":" T("F64", "2305843009213693952", "0,0") "}", 0, "no possible size"},
		{"{\"a\":" T("U8", "1", "1,0") "}", 1, "don't fit"},
		{"{\"a\":" T("U8", "1", "1,2") "}", 2, "the first tensor, a, begins at byte 1"},
		{"{\"a\":" T("U8", "2", "0,2") ",\"b\":" T("U8", "2", "3,5") "}", 5,
		 "a hole of 1 bytes between a and b"},
		{"{\"a\":" T("U8", "2", "0,2") ",\"b\":" T("U8", "2", "1,3") "}", 3, "a and b overlap at byte 1"},
		{"{\"a\":" T("U8", "2", "0,2") "}", 1, "truncated"},
		{"{\"a\":" T("U8", "2", "0,2") "}", 3, "1 bytes too many"},
		{"{\"a\":" T("U8", "2", "0,2") ",\"a\":" T("U8", "2", "2,4") "}", 4, "the key a is there twice"},
		{"{\"a\\u0000b\":" T("U8", "2", "0,2") "}", 2, "NUL"},
		{"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ must hold texts"},
		{"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "__metadata__ must hold texts"},
		{"{\"__metadata__\":\"a\"}", 0, "__metadata__ must hold texts"},
		{"{\"__metadata__\":true}", 0, "__metadata__ must hold texts"},
		{"{\"__metadata__\":[]}", 0, "__metadata__ must hold texts"},
		{"{\"__metadata__\":{\"a\":null}}", 0, "__metadata__ must hold texts"},
		{"{\"__metadata__\":null,\"__metadata__\":null}", 0, "__metadata__ is there twice"},
		{"{\"__metadata__\":null,\"__metadata__\":{\"a\":\"1\"}}", 0, "__metadata__ is there twice"},
		{"{\"a\":null}", 0, "a is no tensor"},
		{"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ is there twice"},
		{"{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}}", 0, "__metadata__ has a twice"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct sd_safetensors st;
		struct sd_error err;

		cr_assert_eq(parse(bad[i].header, bad[i].data, &st, &err), SD_INPUT, "%s", bad[i].header);
		cr_assert(strstr(err.text, bad[i].why), "%s: %s", bad[i].header, err.text);
		sd_safetensors_free(&st);
	}
}

Test(safetensors, data_of_unknown_size_may_have_any)
{
	struct sd_safetensors st;
	struct sd_error err;

	cr_assert_eq(parse("{\"a\":" T("U8", "2", "0,2") "}", SD_UNKNOWN_SIZE, &st, &err), SD_OK);
	cr_assert_eq(st.data_bytes, 2);
	sd_safetensors_free(&st);
}

Test(safetensors, rank_is_limited)
{
	char header[1024] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1";
	struct sd_safetensors st;
	struct sd_error err;

	for (int i = 1; i < SD_RANK_MAX; i++)
		strcat(header, ",1");
	for (int more = 0; more < 2; more++) {
		char whole[1200];

		snprintf(whole, sizeof whole, "%s%s],\"data_offsets\":[0,1]}}", header, more ? ",1" : "");
		cr_assert_eq(parse(whole, 1, &st, &err), more ? SD_INPUT : SD_OK);
		sd_safetensors_free(&st);
	}
	cr_assert(strstr(err.text, "65 dimensions; more than 64 cannot be"), "%s", err.text);
}

/* A header as the library writes it, read and written again. */
Test(safetensors, writes_what_the_library_writes)
{
	static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"z\":" T("I64", "1", "0,8") ",\"b\":" T(
		"BF16", "2,1", "8,12") ",\"é\\n\":" T("BF16", "0,3", "12,12") ",\"a\":" T("BOOL", "", "12,13") "}";
	struct sd_safetensors st;
	struct sd_error err;
	char *again;
	size_t length;

	cr_assert_eq(parse(header, 13, &st, &err), SD_OK, "%s", err.text);
	for (size_t i = st.ntensors; i-- > 1;) {
		struct sd_tensor t = st.tensors[i];

		st.tensors[i] = st.tensors[i - 1];
		st.tensors[i - 1] = t;
	}
	qsort(st.tensors, st.ntensors, sizeof *st.tensors, sd_safetensors_order);
	cr_assert_eq(sd_safetensors_header(st.tensors, st.ntensors, st.metadata, st.nmetadata, &again, &length, &err),
		     SD_OK);
	cr_assert_eq(length % 8, 0);
	cr_assert_eq(sd_safetensors_length((const unsigned char *)again), length - 8);
	cr_assert_eq(memcmp(again + 8, header, strlen(header)), 0, "%.*s", (int)length - 8, again + 8);
	for (size_t i = 8 + strlen(header); i < length; i++)
		cr_assert_eq(again[i], ' ');
	free(again);
	sd_safetensors_free(&st);
}

static enum sd_result parse_index(const char *json, struct sd_index *index, struct sd_error *err)
{
	*index = (struct sd_index){0};
	return sd_index_parse(json, strlen(json), NULL, index, err);
}

/* The form of json.dumps(..., indent=2, sort_keys=True). */
Test(index, is_read_and_written_as_transformers_does)
{
	static const char json[] =
		"{\n  \"metadata\": {\n    \"total_parameters\": 7,\n    \"total_size\": 14\n  },\n"
		"  \"weight_map\": {\n    \"a.10\": \"x\",\n    \"a.9\": \"y\",\n    \"\\u00fc\": \"x\"\n  }\n}\n";
	struct sd_index index;
	struct sd_error err;
	char *again;
	size_t length;

	cr_assert_eq(parse_index(json, &index, &err), SD_OK, "%s", err.text);
	cr_assert_eq(index.nentries, 3);
	cr_assert_str_eq(index.entries[2].key, "ü");
	index.entries[2] = index.entries[0];
	index.entries[0].key = "ü";
	cr_assert_eq(sd_index_write(index.entries, 3, 7, 14, &again, &length, &err), SD_OK);
	cr_assert_str_eq(again, json);
	cr_assert_eq(length, strlen(json));
	free(again);
	sd_index_free(&index);
}

Test(index, refuses_what_is_not_as_it_must_be)
{
	static const struct {
		const char *json, *why;
	} bad[] = {
		{"[]", "no JSON object"},
		{"{}", "no weight_map"},
		{"{\"metadata\":{\"weight_map\":{}}}", "no weight_map"},
		{"{\"weight_map\":[]}", "must give each key"},
		{"{\"weight_map\":{\"a\":1}}", "must give each key the name of a file, but not so a"},
		{"{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", "the key a is there twice"},
		{"{\"weight_map\":{\"a\":\"../x\"}}", "a: \"../x\" is not the name of a file"},
		{"{\"weight_map\":{\"a\":\"\"}}", "a: \"\" is not the name of a file"},
		{"{\"weight_map\":{\"a\\u0000\":\"x\"}}", "NUL"},
		{"{\"weight_map\":{},\"weight_map\":{}}", "weight_map is there twice"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct sd_index index;
		struct sd_error err;

		cr_assert_eq(parse_index(bad[i].json, &index, &err), SD_INPUT, "%s", bad[i].json);
		cr_assert(strstr(err.text, bad[i].why), "%s: %s", bad[i].json, err.text);
		sd_index_free(&index);
	}
}

static struct sd_manifest *manifest_of(const char *const *names, const uint64_t *sizes, size_t count)
{
	struct sd_manifest *m = sd_manifest_new();

	for (size_t i = 0; i < count; i++)
		cr_assert(sd_manifest_add_tensor(m, names[i], SD_U8, &sizes[i], 1));
	return m;
}

Test(layout, shards_are_filled_in_natural_order)
{
	static const char *const names[] = {"l.10", "l.9", "big", "l.11", "empty", "l.1"};
	static const uint64_t sizes[] = {40, 60, 250, 1, 0, 40};
	struct sd_manifest *m = manifest_of(names, sizes, 6);
	const struct sd_output_plan_options options = {.directory = true, .shard_size = 100};
	struct sd_output_plan layout;
	struct sd_error err;

	cr_assert_eq(sd_output_plan_make(m, &options, &layout, &err), SD_OK, "%s", err.text);
	cr_assert_eq(layout.nfiles, 3);
	cr_assert_str_eq(layout.files[0].name, "model-00001-of-00003.safetensors");
	cr_assert_eq(layout.files[0].ntensors, 1); /* big, larger than a shard */
	cr_assert_str_eq(layout.files[0].tensors[0].name, "big");
	cr_assert_eq(layout.files[1].ntensors, 3); /* empty, l.1 and l.9: just full */
	cr_assert_str_eq(layout.files[1].tensors[2].name, "l.9");
	cr_assert_eq(layout.files[2].ntensors, 2); /* l.10, l.11 */
	cr_assert_eq(layout.bytes, 391);
	sd_output_plan_free(&layout);
	sd_manifest_free(m);
}

Test(layout, one_file_has_no_index_and_bytewise_order)
{
	static const char *const names[] = {"l.10", "l.9"};
	static const uint64_t sizes[] = {4, 6};
	static const struct sd_entry more[] = {{"zz", "1"}, {"format", "x"}};
	struct sd_manifest *m = manifest_of(names, sizes, 2);
	const struct sd_output_plan_options options = {.shard_size = 1, .metadata = more, .nmetadata = 2};
	struct sd_output_plan layout;
	struct sd_error err;

	cr_assert(sd_manifest_add_metadata(m, "a", "b"));
	cr_assert_eq(sd_output_plan_make(m, &options, &layout, &err), SD_OK, "%s", err.text);
	cr_assert_eq(layout.nfiles, 1);
	cr_assert_null(layout.index);
	cr_assert_eq(layout.places[1].offset, layout.files[0].header_length + 4);
	cr_assert(strstr(layout.files[0].header + 8,
			 "{\"__metadata__\":{\"a\":\"b\",\"format\":\"x\",\"zz\":\"1\"},\"l.10\""));
	sd_output_plan_free(&layout);
	sd_manifest_free(m);
}

/* A manifest of two records, k0 and k1, whose targets t0 and t1 are both pieces of t, and what the layout says of it.
 */
static void expect_refusal(void (*change)(struct sd_manifest *m), const char *why)
{
	static const uint64_t half[] = {2, 3}, whole[] = {4, 3};
	static const struct sd_move moves[] = {
		{0, 0, 1, {{6, 1, 1}}},
		{0, 6, 1, {{6, 1, 1}}},
	};
	const struct sd_output_plan_options options = {.directory = true, .shard_size = 100};
	struct sd_manifest *m = sd_manifest_new();
	struct sd_output_plan layout;
	struct sd_error err = {.result = SD_OK};
	enum sd_result result;

	for (uint32_t i = 0; i < 2; i++) {
		const struct sd_record record = {
			.key = i ? "k1" : "k0", .shape = half, .rank = 2, .bytes = 12, .dtype = SD_BF16};
		const struct sd_target target = {
			.name = "t", .shape = whole, .rank = 2, .move = &moves[i], .record = i, .dtype = SD_BF16};

		cr_assert(sd_manifest_add_record(m, &record) && sd_manifest_add_target(m, &target));
	}
	if (change)
		change(m);
	result = sd_output_plan_make(m, &options, &layout, &err);
	cr_assert_eq(result, why ? SD_INPUT : SD_OK, "%s", err.text);
	cr_assert(!why || strcmp(err.text, why) == 0, "%s", err.text);
	sd_output_plan_free(&layout);
	sd_manifest_free(m);
}

static void no_change(struct sd_manifest *m)
{
	(void)m;
}

static void overlap(struct sd_manifest *m)
{
	static const struct sd_move move = {0, 5, 1, {{6, 1, 1}}};

	m->targets[1].move = &move;
}

static void hole(struct sd_manifest *m)
{
	m->ntargets = 1;
}

static void whole_twice(struct sd_manifest *m)
{
	for (int i = 0; i < 2; i++) {
		m->records[i].shape = m->targets[i].shape;
		m->records[i].bytes = 24;
		m->targets[i].move = NULL;
	}
}

static void other_dtype(struct sd_manifest *m)
{
	m->records[1].dtype = m->targets[1].dtype = SD_F16;
}

static void turned(struct sd_manifest *m)
{
	static const struct sd_move move = {0, 6, 2, {{2, 3, 1}, {3, 1, 2}}};

	m->targets[1].move = &move;
}

static void cast(struct sd_manifest *m)
{
	static const struct sd_step step = {.kind = SD_STEP_CAST, .dtype = SD_BF16, .operand = SD_NO_RECORD};

	m->targets[0].steps = &step;
	m->targets[0].nsteps = 1;
}

static void unknown_step(struct sd_manifest *m)
{
	static const struct sd_step step = {.kind = 77, .dtype = SD_BF16, .operand = SD_NO_RECORD};

	m->targets[0].steps = &step;
	m->targets[0].nsteps = 1;
}

static void missing(struct sd_manifest *m)
{
	m->records[1].state = SD_MISSING;
}

static void elsewhere(struct sd_manifest *m)
{
	m->records[1].state = SD_ELSEWHERE;
}

static void metadata_name(struct sd_manifest *m)
{
	m->targets[0].name = m->targets[1].name = "__metadata__";
}

Test(layout, refuses_what_makes_no_whole_checkpoint)
{
	expect_refusal(no_change, NULL);
	expect_refusal(overlap, "two sources for t [4, 3]: element [1, 2] comes from k0 and from k1");
	expect_refusal(hole, "t [4, 3] is not whole: nothing fills it from element [2, 0] on");
	expect_refusal(whole_twice, "two sources for t: k0 and k1");
	expect_refusal(other_dtype, "t would be BF16 [4, 3] from k0, but F16 [4, 3] from k1");
	expect_refusal(turned, "t is still to be reordered: put sd-transpose before sd-pack");
	expect_refusal(cast, "t has a pending cast to BF16: put sd-transpose before sd-pack");
	expect_refusal(unknown_step, "t has a step of kind 77, which this version does not know");
	expect_refusal(missing, "t needs k1, which no source has");
	expect_refusal(
		elsewhere,
		"t is here only in part: k1 was left out of the stream; convert all of it, then cut with sd-shard");
	expect_refusal(metadata_name, "__metadata__: a tensor in a safetensors file cannot have this name");
}

Test(layout, tensors_that_are_all_elsewhere_are_left_out)
{
	static const char *const names[] = {"a", "b", "c"};
	static const uint64_t sizes[] = {4, 6, 8};
	struct sd_manifest *m = manifest_of(names, sizes, 3);
	const struct sd_output_plan_options options = {.directory = true, .shard_size = 100};
	struct sd_output_plan layout;
	struct sd_error err;

	m->records[0].state = SD_ELSEWHERE;
	cr_assert_eq(sd_output_plan_make(m, &options, &layout, &err), SD_OK, "%s", err.text);
	cr_assert_eq(layout.ntensors, 2);
	cr_assert_eq(layout.left_out, 1);
	cr_assert_eq(layout.places[2].offset, layout.files[0].header_length + 6);
	sd_output_plan_free(&layout);
	sd_manifest_free(m);
}
