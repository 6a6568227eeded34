/* SPDX-License-Identifier: Apache-2.0 */
/* config.json follows how the weights are stored, and not a byte more of it changes. */
#include "config/config_dtypes.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "NAME DTYPE ROWS" tensors of rows x 8, or of 8 elements where ROWS is 0; NULL ends them. */
static struct sd_manifest *manifest(const char *config, const char *const *tensors)
{
	struct sd_manifest *m = sd_manifest_new();
	const struct sd_side_file other = {"generation_config.json", "{\"dtype\": \"bfloat16\"}", 21};
	const struct sd_side_file file = {"config.json", config, config ? strlen(config) : 0};

	cr_assert(sd_manifest_add_side(m, &other));
	if (config)
		cr_assert(sd_manifest_add_side(m, &file));
	for (; *tensors; tensors++) {
		char name[64], dtype[16];
		uint64_t shape[2] = {0, 8};

		cr_assert_eq(sscanf(*tensors, "%63s %15s %lu", name, dtype, &shape[0]), 3);
		cr_assert(sd_manifest_add_tensor(m, name, sd_dtype_parse(dtype, strlen(dtype)),
						 shape[0] ? shape : shape + 1, shape[0] ? 2 : 1));
	}
	return m;
}

/* What config.json becomes; the error's text where it is refused. */
static const char *followed(const char *config, const char *const *from, const char *const *to)
{
	static char text[4096];
	struct sd_manifest *in = manifest(config, from), *out = manifest(config, to);
	struct sd_error err = {0};
	enum sd_result result = sd_config_dtypes_follow(out, in, &err);
	const struct sd_side_file *file = sd_manifest_side(out, "config.json");

	cr_expect_eq(out->nside, in->nside);
	cr_expect_eq(out->side[0].data, in->side[0].data, "only config.json is looked at");
	if (result == SD_OK)
		snprintf(text, sizeof(text), "%.*s", file ? (int)file->size : 0, file ? (const char *)file->data : "");
	else
		snprintf(text, sizeof(text), "%s", err.text);
	sd_manifest_free(out);
	sd_manifest_free(in);
	return text;
}

#define TENSORS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char *const fp8[] = {"a.q.weight F8_E4M3 64", "a.q.weight_scale_inv F32 1", "a.norm.weight BF16 0", NULL};
static const char *const bf16[] = {"a.q.weight BF16 64", "a.norm.weight BF16 0", NULL};
static const char *const f32[] = {"a.q.weight F32 64", "a.norm.weight BF16 0", NULL};

Test(storage, nothing_changes_where_nothing_changed)
{
	const char *config = "{ \"dtype\" :\"float64\", \"quantization_config\": {\"bits\": 4}}\n";

	cr_expect_str_eq(followed(config, fp8, fp8), config);
	cr_expect_str_eq(followed(config, bf16, bf16), config);
	cr_expect_str_eq(followed(config, f32, f32), config);
	cr_expect_str_eq(followed("{not JSON", bf16, bf16), "{not JSON");
	cr_expect_str_eq(followed(NULL, fp8, bf16), "");
	/* Other names, and fewer of them, but still quantised. */
	cr_expect_str_eq(followed(config, fp8, TENSORS("b.q.weight F8_E4M3 64", "b.q.weight_scale_inv F32 1")), config);
}

Test(storage, quantisation_goes_with_the_last_quantised_weight)
{
	cr_expect_str_eq(followed("{\n  \"a\": 1e-06,\n  \"quantization_config\": {\n    \"dtype\": \"bfloat16\",\n"
				  "    \"weight_block_size\": [\n      128,\n      128\n    ]\n  },\n  \"z\": [ ]\n}\n",
				  fp8, bf16),
			 "{\n  \"a\": 1e-06,\n  \"z\": [ ]\n}\n");
	cr_expect_str_eq(followed("{\n  \"quantization_config\": {\"a\": {}} ,\n  \"z\": \"\\u00fc\"\n}", fp8, bf16),
			 "{\n  \"z\": \"\\u00fc\"\n}");
	cr_expect_str_eq(followed("{\"a\": 1, \"quantization_config\": null}", fp8, bf16), "{\"a\": 1}");
	cr_expect_str_eq(followed("{\"quantization_config\": {\"a\": [1]}}", fp8, bf16), "{}");
	cr_expect_str_eq(followed("{\"quantization_config\": 1, \"quantization_config\": 2 , \"a\": {}}", fp8, bf16),
			 "{ \"a\": {}}");
	cr_expect_str_eq(followed("{\"text_config\": {\"quantization_config\": {}, \"a\": 1}, \"b\": "
				  "[{\"quantization_config\": 1}]}",
				  fp8, bf16),
			 "{\"text_config\": { \"a\": 1}, \"b\": [{}]}");
	/* Dropped, not dequantised; a scale alone tells, too; packed integers are weights like others. */
	cr_expect_str_eq(followed("{\"quantization_config\": 1}", fp8, TENSORS("a.norm.weight BF16 0")), "{}");
	cr_expect_str_eq(followed("{\"quantization_config\": 1}",
				  TENSORS("a.q.weight BF16 64", "a.q.weight_scale_inv F32 1"), bf16),
			 "{}");
	cr_expect_str_eq(followed("{\"quantization_config\": 1}", TENSORS("a.q_blocks U8 64", "a.q_scales U8 2"), bf16),
			 "{}");
	cr_expect_str_eq(
		followed("{\"quantization_config\": 1}", fp8, TENSORS("a.q.weight BF16 64", "a.gate.tid2eid I32 4")),
		"{}");
	cr_expect_str_eq(
		followed("{\"quantization_config\": {}}", fp8, TENSORS("a.q.weight BF16 64", "b.weight_packed I32 4")),
		"{\"quantization_config\": {}}", "other codes than FP8 are left");
}

Test(storage, dtypes_follow_what_most_elements_have)
{
	cr_expect_str_eq(followed("{\"dtype\": \"bfloat16\", \"b\": [{\"dtype\":\"bfloat16\"}]}", bf16, f32),
			 "{\"dtype\": \"float32\", \"b\": [{\"dtype\":\"float32\"}]}");
	cr_expect_str_eq(followed("{\"torch_dtype\" :\n\"bfloat16\"}", bf16, TENSORS("a.q.weight F16 64")),
			 "{\"torch_dtype\" :\n\"float16\"}");
	/* Nested ones that named another dtype are about other weights. */
	cr_expect_str_eq(followed("{\"text_config\": {\"dtype\": \"bfloat16\"}, \"vision_config\": {\"dtype\": "
				  "\"float16\", \"x_dtype\": \"bfloat16\"}, \"dtype\": null}",
				  bf16, f32),
			 "{\"text_config\": {\"dtype\": \"float32\"}, \"vision_config\": {\"dtype\": \"float16\", "
			 "\"x_dtype\": \"bfloat16\"}, \"dtype\": null}");
	/* As long as weights are quantised it is the dtype to compute in. */
	cr_expect_str_eq(followed("{\"dtype\": \"bfloat16\"}", fp8,
				  TENSORS("a.q.weight F8_E4M3 64", "a.q.weight_scale_inv F32 1", "n F32 0")),
			 "{\"dtype\": \"bfloat16\"}");
	cr_expect_str_eq(followed("{\"dtype\": \"float8_e4m3fn\", \"t\": {\"dtype\": \"float8_e4m3fn\"}}", fp8, bf16),
			 "{\"dtype\": \"bfloat16\", \"t\": {\"dtype\": \"bfloat16\"}}");
	cr_expect_str_eq(followed("{\"dtype\": \"bfloat16\"}", fp8, f32), "{\"dtype\": \"float32\"}");
	/* A few F32 among many BF16, as Qwen3.5 has them. */
	cr_expect_str_eq(followed("{\"dtype\": \"bfloat16\"}", bf16, TENSORS("a.q.weight BF16 64", "A_log F32 0")),
			 "{\"dtype\": \"bfloat16\"}");
}

Test(storage, quantised_weights_are_told_from_the_others)
{
	static const char *const more[] = {"a.q.weight F8_E4M3 64",
					   "a.q.weight_scale_inv F32 1",
					   "a.norm.weight BF16 0",
					   "b.10.experts.7.up.weight BF16 8",
					   "b.10.experts.8.up.weight BF16 8",
					   "b.9.gate.weight BF16 8",
					   "b.9.experts.down_proj BF16 8",
					   "lone BF16 8",
					   NULL};
	static const char *const all[] = {"a.q.weight BF16 64",
					  "b.10.experts.7.up.weight BF16 8",
					  "b.10.experts.8.up.weight BF16 8",
					  "b.9.gate.weight BF16 8",
					  "b.9.experts.down_proj BF16 8",
					  "lone BF16 8",
					  NULL};
	const char *lone = "{\n  \"dtype\": \"bfloat16\",\n  \"quantization_config\": {\n    \"activation_scheme\": "
			   "\"dynamic\",\n    \"fmt\": \"e4m3\",\n    \"modules_to_not_convert\": [],\n    "
			   "\"quant_method\": \"fp8\",\n    \"weight_block_size\": [\n      128,\n      128\n    ]\n  "
			   "}\n}\n";

	cr_expect_str_eq(followed("{\n  \"dtype\": \"bfloat16\"\n}\n", bf16, fp8), lone);
	cr_expect_str_eq(followed(lone, fp8, bf16), "{\n  \"dtype\": \"bfloat16\"\n}\n");
	/* One that is there gets the list of modules and keeps all else. */
	cr_expect_str_eq(
		followed("{\"quantization_config\": {\"modules_to_not_convert\": null, \"fmt\": \"x\"}}", all, more),
		"{\"quantization_config\": {\"modules_to_not_convert\": [\n      \"b.9.experts\",\n      "
		"\"b.9.gate\",\n      \"b.10.experts\"\n    ], \"fmt\": \"x\"}}");
	cr_expect_str_eq(
		followed("{\"t\": {\"quantization_config\": {\"fmt\": \"x\"}}}", all, more),
		"{\"t\": {\"quantization_config\": {\"fmt\": \"x\",\n      \"modules_to_not_convert\": [\n        "
		"\"b.9.experts\",\n        \"b.9.gate\",\n        \"b.10.experts\"\n      ]}}}");
}

Test(storage, what_is_no_json_is_refused_where_it_would_have_to_change)
{
	const char *whole = "{\"quantization_config\": {\"modules_to_not_convert\": [1]} , \"dtype\": \"bfloat16\"}";

	cr_expect(
		strstr(followed("{\"a\": 1", fp8, bf16), "config.json has to change with the weights (--keep-config"));
	cr_expect(strstr(followed("[]", fp8, bf16), "it is no JSON object"));

	/* Cut anywhere: refused, and nothing outside it is looked at. */
	for (size_t length = strlen(whole); length-- > 1;) {
		char *part = strndup(whole, length);

		cr_expect(strstr(followed(part, fp8, bf16), "bad JSON"), "%s", part);
		cr_expect(strstr(followed(part, bf16, fp8), "bad JSON"), "%s", part);
		free(part);
	}
}
