/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes maps: one that is accepted is the same when written flat and read again, and what it plans for a checkpoint,
 * in both directions, is a manifest without faults.
 */
#include "fuzz.h"
#include "renaming/rename.h"

/* What there is for `use`: a map that is always the same, and the input itself. */
struct fuzz_library {
	struct sd_map_library base;
	const char *own;
};

static enum sd_result read_map(struct sd_map_library *library, const char *name, const char **text, const char **file,
			       struct sd_error *err)
{
	static const char part[] = "map part hf nemo\n"
				   "table names left=right up=down\n"
				   "stage fp8\n"
				   "  {k*}.{E}.{j}.weight [o i] + {k*}.{E}.{j}.weight_scale_inv [o~2 i~2] -> "
				   "{k*}.{E}.{j}.weight [o i] BF16 : fp8\n"
				   "stage experts\n"
				   "  .{E}.gate_proj.weight [I H] <-> .gate_and_up_projs [E H I|]\n"
				   "  .{E}.up_proj.weight   [I H] <-> .gate_and_up_projs [E H |I]\n"
				   "  .{E}.down_proj.weight [H I] <-> .down_projs        [E I H]\n";

	*file = "part.map";
	*text = strcmp(name, "part") == 0 ? part : ((struct fuzz_library *)library)->own;
	return strcmp(name, "part") == 0 || strcmp(name, "self") == 0 ? SD_OK
								      : sd_fail(err, SD_INPUT, "there is no map");
}

/* A checkpoint of either side. */
static struct sd_manifest *sample(int side)
{
	static const struct {
		const char *key;
		enum sd_dtype dtype;
		uint32_t rank;
		uint64_t shape[3];
		int side; /* 2: both */
	} tensors[] = {
		{"model.embed_tokens.weight", SD_BF16, 2, {6, 4}, 2},
		{"model.layers.0.self_attn.q_proj.weight", SD_BF16, 2, {4, 4}, 2},
		{"model.layers.0.self_attn.q_proj.bias", SD_F32, 1, {4}, 2},
		{"model.layers.0.mlp.experts.0.gate_proj.weight", SD_BF16, 2, {2, 4}, 0},
		{"model.layers.0.mlp.experts.0.up_proj.weight", SD_BF16, 2, {2, 4}, 0},
		{"model.layers.0.mlp.experts.0.down_proj.weight", SD_BF16, 2, {4, 2}, 0},
		{"model.layers.0.mlp.experts.1.gate_proj.weight", SD_BF16, 2, {2, 4}, 0},
		{"model.layers.0.mlp.experts.1.up_proj.weight", SD_BF16, 2, {2, 4}, 0},
		{"model.layers.0.mlp.experts.1.down_proj.weight", SD_BF16, 2, {4, 2}, 0},
		{"model.layers.1.mlp.experts.0.down_proj.weight", SD_F8_E4M3, 2, {4, 2}, 0},
		{"model.layers.1.mlp.experts.0.down_proj.weight_scale_inv", SD_F32, 2, {2, 1}, 0},
		{"model.layers.0.mlp.experts.gate_and_up_projs", SD_BF16, 3, {2, 4, 4}, 1},
		{"model.layers.0.mlp.experts.down_projs", SD_BF16, 3, {2, 2, 4}, 1},
		{"model.layers.2.mlp.gate_up_proj", SD_U8, 3, {2, 4, 2}, 2},
		{"a", SD_F16, 0, {0}, 2},
		{"empty", SD_I8, 2, {0, 3}, 2},
		{"lm_head.weight", SD_F4, 2, {6, 4}, 2},
	};
	static const char config[] =
		"{\"model_type\":\"qwen\",\"num_hidden_layers\":1,\"num_experts\":2,\"a\":{\"b\":[4]}}";
	const struct sd_side_file file = {"config.json", config, sizeof(config) - 1};
	struct sd_manifest *m = sd_manifest_new();

	SURE(m && sd_manifest_add_side(m, &file));
	for (size_t i = 0; i < sizeof(tensors) / sizeof(*tensors); i++)
		if (tensors[i].side == 2 || tensors[i].side == side)
			SURE(sd_manifest_add_tensor(m, tensors[i].key, tensors[i].dtype, tensors[i].shape,
						    tensors[i].rank));
	return m;
}

/* What the map makes of the manifest, there and, where that works, back. */
static void plan(const struct sd_map *map, const struct sd_manifest *in, int to, bool back)
{
	struct sd_rename rename = {.map = map, .to = to};
	struct sd_plan made = {0};
	struct sd_error err = {0};
	enum sd_result result = sd_rename_plan(&rename, in, &made, &err);

	if (result != SD_OK) {
		sure_of_failure(result, &err);
	} else {
		SURE(sd_manifest_check(made.manifest, &err) == SD_OK, "%s", err.text);
		if (back)
			plan(map, made.manifest, !to, false);
	}
	sd_plan_free(&made);
}

static char *expanded(const struct sd_map *map)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	SURE(out);
	sd_map_expand(map, out);
	SURE(fclose(out) == 0);
	return text;
}

/* Takes off what comments say, which is where a rule stood. */
static void strip(char *text)
{
	char *to = text;

	for (char *p = text; *p; p++) {
		if (p[0] == '\t' && p[1] == '#')
			p += strcspn(p, "\n");
		*to++ = *p;
	}
	*to = '\0';
}

static void read_again(const struct sd_map *map)
{
	char *flat = expanded(map), *second;
	struct sd_map *again = NULL;
	struct sd_error err = {0};

	SURE(sd_map_parse("flat.map", flat, NULL, &again, &err) == SD_OK, "%s\n%s", err.text, flat);
	second = expanded(again);
	strip(flat);
	strip(second);
	SURE(strcmp(flat, second) == 0, "\n%s\n%s", flat, second);
	free(flat);
	free(second);
	sd_map_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = text_of(data, size);
	struct fuzz_library library = {{read_map}, text};
	struct sd_map *map = NULL;
	struct sd_error err = {0};
	enum sd_result result;

	if (!text)
		return 0;
	result = sd_map_parse("fuzz.map", text, &library.base, &map, &err);
	if (result != SD_OK) {
		sure_of_failure(result, &err);
	} else {
		result = sd_map_check_samples(map, &err);
		if (result != SD_OK)
			sure_of_failure(result, &err);
		for (int side = 0; side < 2; side++) {
			struct sd_manifest *in = sample(side);

			plan(map, in, !side, true);
			sd_manifest_free(in);
		}
		read_again(map);
	}
	sd_map_free(map);
	free(text);
	return 0;
}
