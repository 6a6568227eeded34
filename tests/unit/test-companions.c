/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what quantised weights are stored with: names, boxes, and that no map parts a weight from its companions. */
#include "base/checked.h"
#include "map/compiled.h"
#include "renaming/rename.h"
#include "move/box.h"
#include "filters/cast.h"
#include "filters/quantise_weights.h"
#include "model/companions.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static void is_role(const char *name, enum sd_role role, const char *stem)
{
	struct sd_name_role got = sd_name_role(name);

	cr_expect_eq(got.role, role, "%s: role %d, not %d", name, got.role, role);
	cr_expect(got.stem == strlen(stem) && strncmp(name, stem, got.stem) == 0, "%s: stem %.*s, not %s", name,
		  (int)got.stem, name, stem);
}

Test(names, have_roles)
{
	is_role("a.weight", SD_ROLE_WEIGHT, "a");
	is_role("a.weight_packed", SD_ROLE_CODES, "a");
	is_role("a.qweight", SD_ROLE_CODES, "a");
	is_role("a.weight_scale_inv", SD_ROLE_BLOCK_SCALE, "a");
	is_role("a.weight_scale", SD_ROLE_FACTOR, "a");
	is_role("a.weight_shape", SD_ROLE_SHAPE, "a");
	is_role("a.input_scale", SD_ROLE_ACTIVATION, "a");
	is_role("a.weight.absmax", SD_ROLE_FACTOR, "a");
	is_role("a.weight.quant_state.bitsandbytes__nf4", SD_ROLE_FACTOR, "a");
	is_role("a.gate_up_proj_scale_inv", SD_ROLE_BLOCK_SCALE, "a.gate_up_proj");
	is_role("a.gate_up_proj_weight_scale_2", SD_ROLE_FACTOR, "a.gate_up_proj");
	is_role("a.down_proj_blocks", SD_ROLE_CODES, "a.down_proj");
	is_role("a.down_proj_scales", SD_ROLE_FACTOR, "a.down_proj");
	is_role("a.w2_weight", SD_ROLE_PLAIN, "a.w2");
	is_role("a.w2_weight_scale_inv", SD_ROLE_BLOCK_SCALE, "a.w2");
	is_role("a.bias", SD_ROLE_PLAIN, "a.bias");
	is_role("a.gate_up_proj", SD_ROLE_PLAIN, "a.gate_up_proj");
	is_role("weight", SD_ROLE_PLAIN, "weight");
	is_role("", SD_ROLE_PLAIN, "");
	is_role("_scale", SD_ROLE_PLAIN, "_scale");
}

static void add(struct sd_manifest *m, const char *key, enum sd_dtype dtype, uint32_t rank, const uint64_t *shape)
{
	cr_assert(sd_manifest_add_tensor(m, key, dtype, shape, rank), "%s", key);
}

Test(names, of_other_things_are_no_companions)
{
	/* Real parameters that end as companions do: their would-be weights are numbers, or not there. */
	static const char *const keys[] = {"a.router.proj.weight", "a.router.scale", "a.router.per_expert_scale",
					   "a.norm.weight",        "a.norm.scale",   "logit_scale",
					   "a.layer_scale",        "a.conv.scales",  "a.act.scales"};
	const uint64_t shape[] = {4, 4};
	struct sd_manifest *m = sd_manifest_new();
	struct sd_companions c;

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		add(m, keys[i], SD_BF16, 2, shape);
	cr_assert(sd_companions_find(m, &c, NULL) == SD_OK);
	for (size_t i = 0; c.role && i < m->nrecords; i++)
		cr_expect(c.weight[i] == SD_NO_RECORD && c.first[i] == SD_NO_RECORD, "%s", keys[i]);
	sd_companions_free(&c);
	sd_manifest_free(m);
}

/* ---- targets that are only reshaped ---- */

/* A manifest of one record of 65,536 elements whose target is [256,256], and scales [2,2] of it, as a stream may have.
 */
static struct sd_manifest *reshaped(enum sd_dtype dtype, uint32_t rank, const uint64_t *shape)
{
	static const uint64_t square[] = {256, 256}, scales[] = {2, 2};
	struct sd_manifest *m = sd_manifest_new();

	add(m, "w", dtype, rank, shape);
	m->targets[0].shape = square;
	m->targets[0].rank = 2;
	if (dtype == SD_F8_E4M3)
		add(m, "w_scale_inv", SD_F32, 2, scales);
	return m;
}

Test(reshaped, is_not_measured_as_its_record)
{
	static const uint64_t shapes[][2] = {{65536}, {1, 65536}, {512, 128}};
	static const char *const names[] = {"^w$"};

	for (uint32_t i = 0; i < 3; i++) {
		struct sd_manifest *m = reshaped(SD_BF16, i ? 2 : 1, shapes[i]), *out = NULL;
		struct sd_selection include = {0};
		struct sd_quant quant;
		struct sd_error err = {0};

		cr_assert(sd_regex_list_add(&include.include, names[0], &err) == SD_OK);
		cr_expect_eq(sd_quant_plan(m, &include, SD_QUANTISE_BLOCKS, SD_F32, &quant, &err), SD_INPUT);
		cr_expect(strstr(err.text, "sd-transpose"), "%s", err.text);
		sd_quant_free(&quant);
		sd_selection_free(&include);
		sd_manifest_free(m);
		m = reshaped(SD_F8_E4M3, i ? 2 : 1, shapes[i]);
		cr_expect_eq(sd_cast_dequant(m, SD_BF16, &(struct sd_selection){0}, &out, &err), SD_INPUT);
		cr_expect(strstr(err.text, "sd-transpose"), "%s", err.text);
		sd_manifest_free(out);
		sd_manifest_free(m);
	}
}

/* ---- boxes ---- */

Test(box, of_what_moves_are_made_of)
{
	const uint64_t whole[] = {3, 4, 5}, begin[] = {1, 2, 0}, size[] = {1, 2, 5}, turned[] = {3, 5, 4};
	const uint32_t order[] = {0, 2, 1};
	struct sd_move move;
	struct sd_box box;

	cr_assert(sd_move_slice(&move, whole, 3, begin, size));
	cr_assert(sd_box_of(&move, whole, 3, size, 3, &box));
	cr_expect(box.from[0] == 1 && box.from[1] == 2 && box.from[2] == 0);
	cr_expect(box.size[0] == 1 && box.size[1] == 2 && box.size[2] == 5);
	cr_expect(box.dim[0] == SD_NO_DIM && box.dim[1] == 1 && box.dim[2] == 2);
	cr_assert(sd_move_permute(&move, whole, 3, order));
	cr_assert(sd_box_of(&move, whole, 3, turned, 3, &box));
	cr_expect(box.dim[0] == 0 && box.dim[1] == 2 && box.dim[2] == 1);
	cr_expect(box.size[0] == 3 && box.size[1] == 4 && box.size[2] == 5);
	/* The same elements in order, in other dimensions, are no box. */
	move = sd_move_identity(60);
	cr_expect(!sd_box_of(&move, whole, 3, turned, 3, &box));
	cr_expect(sd_box_of(&move, whole, 3, whole, 3, &box));
	cr_expect(!sd_box_of(&move, (const uint64_t[]){60}, 1, whole, 3, &box));
	/* Every second element is no box, and nothing is none. */
	move = (struct sd_move){.rank = 1, .dim = {{30, 2, 1}}};
	cr_expect(!sd_box_of(&move, (const uint64_t[]){60}, 1, (const uint64_t[]){30}, 1, &box));
	move = (struct sd_move){.rank = 1, .dim = {{0, 1, 1}}};
	cr_expect(!sd_box_of(&move, whole, 3, whole, 3, &box));
	move = sd_move_identity(0);
	cr_expect(!sd_box_of(&move, (const uint64_t[]){0}, 1, (const uint64_t[]){0}, 1, &box));
}

/* What sd_box_of says of any box is how the elements lie. */
Test(box, any)
{
	unsigned state = 1;

	for (int round = 0; round < 3000; round++) {
		uint64_t shape[4], target[4], begin[4], at[4], own[4], size[4];
		uint32_t rank = 1 + rand_r(&state) % 4, order[4];
		struct sd_move move = {0};
		struct sd_dim dims[4];
		struct sd_box box;
		uint64_t stride = 1, strides[4], to = 1, tos[4];

		for (uint32_t k = 0; k < rank; k++) {
			shape[k] = 1 + rand_r(&state) % 4;
			size[k] = 1 + rand_r(&state) % shape[k];
			begin[k] = rand_r(&state) % (shape[k] - size[k] + 1);
			order[k] = k;
		}
		for (uint32_t k = rank; k-- > 1;) {
			uint32_t j = rand_r(&state) % (k + 1), other = order[j];

			order[j] = order[k];
			order[k] = other;
		}
		for (uint32_t k = 0; k < rank; k++) {
			at[order[k]] = rand_r(&state) % 3;
			target[order[k]] = at[order[k]] + size[k] + rand_r(&state) % 2;
		}
		for (uint32_t k = rank; k-- > 0;) {
			strides[k] = stride;
			stride *= shape[k];
			tos[k] = to;
			to *= target[k];
		}
		for (uint32_t k = 0; k < rank; k++)
			dims[k] = (struct sd_dim){size[k], strides[k], tos[order[k]]};
		cr_assert(sd_move_make(&move, 0, 0, dims, rank));
		for (uint32_t k = 0; k < rank; k++) {
			move.from += begin[k] * strides[k];
			move.to += at[k] * tos[k];
			own[k] = order[k];
		}
		cr_assert(sd_box_of(&move, shape, rank, target, rank, &box), "round %d", round);
		for (uint32_t k = 0; k < rank; k++) {
			cr_expect(box.from[k] == begin[k] && box.size[k] == size[k] && box.to[k] == at[k], "round %d",
				  round);
			cr_expect(box.dim[k] == (size[k] > 1 ? own[k] : SD_NO_DIM) || size[k] == 1, "round %d", round);
		}
	}
}

/* ---- every map, every form ---- */

/* A shape by the weight's rows o and columns i (and what stands before them): what a companion has. */
enum form {
	END,
	SCALAR,   /* [] */
	ONE,      /* [1] */
	ROWS,     /* [o] */
	COLUMNS,  /* [i] */
	CHANNEL,  /* [.. o 1] */
	SAME,     /* [.. o i] */
	HALF,     /* [.. o ceil(i/2)] */
	EIGHTH,   /* [.. o ceil(i/8)] */
	GROUPS32, /* [.. o ceil(i/32)] */
	GROUPS16, /* [.. o ceil(i/16)] */
	BLOCKS,   /* [.. ceil(o/128) ceil(i/128)] */
	TURNED8,  /* [ceil(i/8) o] */
	GROUPST,  /* [ceil(i/32) o] */
	FLAT,     /* [ceil(o*i/2) 1] */
	TWO,      /* [2] */
};

struct member {
	const char *name; /* behind M. or X */
	enum sd_dtype dtype;
	enum form form;
};

/* A way to store a weight; the first member is the weight. */
struct way {
	const char *what;
	bool parameter; /* of X and not of M.weight */
	struct member members[6];
};

static const struct way ways[] = {
	{"modelopt FP8",
	 false,
	 {{"weight", SD_F8_E4M3, SAME}, {"weight_scale", SD_F32, SCALAR}, {"input_scale", SD_F32, SCALAR}}},
	{"FP8 by rows", false, {{"weight", SD_F8_E4M3, SAME}, {"weight_scale", SD_BF16, CHANNEL}}},
	{"modelopt FP8 by rows", false, {{"weight", SD_F8_E4M3, SAME}, {"weight_scale", SD_F32, ROWS}}},
	{"fbgemm",
	 false,
	 {{"weight", SD_F8_E4M3, SAME}, {"weight_scale", SD_F32, CHANNEL}, {"input_scale_ub", SD_F32, ONE}}},
	{"FP8 by blocks, under weight_scale", false, {{"weight", SD_F8_E4M3, SAME}, {"weight_scale", SD_F32, BLOCKS}}},
	{"MXFP8", false, {{"weight", SD_F8_E4M3, SAME}, {"weight_scale", SD_U8, GROUPS32}}},
	{"modelopt NVFP4",
	 false,
	 {{"weight", SD_U8, HALF},
	  {"weight_scale", SD_F8_E4M3, GROUPS16},
	  {"weight_scale_2", SD_F32, SCALAR},
	  {"input_scale", SD_F32, SCALAR}}},
	{"compressed-tensors NVFP4",
	 false,
	 {{"weight_packed", SD_U8, HALF},
	  {"weight_scale", SD_F8_E4M3, GROUPS16},
	  {"weight_global_scale", SD_F32, ONE}}},
	{"compressed-tensors INT4, asymmetric",
	 false,
	 {{"weight_packed", SD_I32, EIGHTH},
	  {"weight_scale", SD_BF16, GROUPS32},
	  {"weight_shape", SD_I64, TWO},
	  {"weight_zero_point", SD_I32, GROUPS32}}},
	{"compressed-tensors INT4, act-order",
	 false,
	 {{"weight_packed", SD_I32, EIGHTH},
	  {"weight_scale", SD_BF16, GROUPS32},
	  {"weight_shape", SD_I64, TWO},
	  {"weight_g_idx", SD_I32, COLUMNS}}},
	{"INT8",
	 false,
	 {{"weight", SD_I8, SAME}, {"weight_scale", SD_BF16, CHANNEL}, {"weight_zero_point", SD_I8, CHANNEL}}},
	{"GPTQ",
	 false,
	 {{"qweight", SD_I32, TURNED8},
	  {"qzeros", SD_I32, GROUPST},
	  {"scales", SD_F16, GROUPST},
	  {"g_idx", SD_I32, COLUMNS}}},
	{"AWQ", false, {{"qweight", SD_I32, EIGHTH}, {"qzeros", SD_I32, GROUPST}, {"scales", SD_F16, GROUPST}}},
	{"bitsandbytes 4 bit",
	 false,
	 {{"weight", SD_U8, FLAT},
	  {"weight.absmax", SD_F32, ROWS},
	  {"weight.quant_map", SD_F32, ROWS},
	  {"weight.quant_state.bitsandbytes__nf4", SD_U8, ROWS}}},
	{"bitsandbytes 4 bit, kept as BF16",
	 false,
	 {{"weight", SD_BF16, FLAT},
	  {"weight.absmax", SD_F32, ROWS},
	  {"weight.quant_state.bitsandbytes__nf4", SD_U8, ROWS}}},
	{"bitsandbytes 8 bit",
	 false,
	 {{"weight", SD_I8, SAME}, {"SCB", SD_F32, ROWS}, {"weight_format", SD_U8, SCALAR}}},
	{"torchao",
	 false,
	 {{"_weight_qdata", SD_I8, SAME}, {"_weight_scale", SD_F32, CHANNEL}, {"_weight_zero_point", SD_I8, CHANNEL}}},
	{"quanto", false, {{"weight._data", SD_I8, SAME}, {"weight._scale", SD_BF16, CHANNEL}}},
	{"HQQ", false, {{"W_q", SD_U8, HALF}, {"scale", SD_F16, CHANNEL}, {"zero", SD_F16, CHANNEL}}},
	{"EETQ", false, {{"weight", SD_I8, SAME}, {"weight_scales", SD_F16, ROWS}}},
	{"MLX", false, {{"weight", SD_U32, EIGHTH}, {"scales", SD_BF16, GROUPS32}, {"biases", SD_BF16, GROUPS32}}},
	{"ComfyUI",
	 false,
	 {{"weight", SD_F8_E4M3, SAME}, {"scale_weight", SD_F32, SCALAR}, {"scale_input", SD_F32, SCALAR}}},
	{"DeepSeek FP8", false, {{"weight", SD_F8_E4M3, SAME}, {"scale", SD_F8_E8M0, BLOCKS}}},
	{"block FP8", false, {{"weight", SD_F8_E4M3, SAME}, {"weight_scale_inv", SD_F32, BLOCKS}}},
	{"block FP8, static activations",
	 false,
	 {{"weight", SD_F8_E4M3, SAME}, {"weight_scale_inv", SD_F32, BLOCKS}, {"input_scale", SD_F32, SCALAR}}},
	{"block FP8 and a factor of the activations",
	 false,
	 {{"weight", SD_F8_E4M3, SAME}, {"weight_scale_inv", SD_F32, BLOCKS}, {"pre_quant_scale", SD_F32, COLUMNS}}},
	{"FP8 with one scale_inv",
	 false,
	 {{"weight", SD_F8_E4M3, SAME}, {"weight_scale_inv", SD_BF16, SCALAR}, {"activation_scale", SD_BF16, SCALAR}}},
	{"FP8 with a scale_inv by rows", false, {{"weight", SD_F8_E4M3, SAME}, {"weight_scale_inv", SD_F32, CHANNEL}}},
	{"packed codes alone", false, {{"weight", SD_U8, HALF}}},
	{"INT8 alone", false, {{"weight", SD_I8, SAME}}},
	{"a parameter in FP8",
	 true,
	 {{"", SD_F8_E4M3, SAME}, {"_weight_scale", SD_F32, SCALAR}, {"_input_scale", SD_F32, SCALAR}}},
	{"a parameter in FP8 by rows", true, {{"", SD_F8_E4M3, SAME}, {"_scale", SD_F32, CHANNEL}}},
	{"a parameter in NVFP4",
	 true,
	 {{"", SD_U8, HALF}, {"_weight_scale", SD_F8_E4M3, GROUPS16}, {"_weight_scale_2", SD_F32, SCALAR}}},
	{"a parameter in block FP8", true, {{"", SD_F8_E4M3, SAME}, {"_scale_inv", SD_F32, BLOCKS}}},
	{"a parameter in FP8 with one scale_inv", true, {{"", SD_F8_E4M3, SAME}, {"_scale_inv", SD_F32, SCALAR}}},
	{"a parameter in MXFP4", true, {{"_blocks", SD_U8, HALF}, {"_scales", SD_U8, GROUPS32}}},
};

/* The shape of a member; its rank. */
static uint32_t shape_of(enum form form, const uint64_t *weight, uint32_t rank, uint64_t *shape)
{
	uint64_t o = rank > 1 ? weight[rank - 2] : 1, i = weight[rank - 1];

	memcpy(shape, weight, rank * sizeof(*shape));
	switch (form) {
	case SCALAR:
		return 0;
	case ONE:
		return shape[0] = 1, 1;
	case TWO:
		return shape[0] = 2, 1;
	case ROWS:
		return shape[0] = o, 1;
	case COLUMNS:
		return shape[0] = i, 1;
	case CHANNEL:
		return shape[rank - 1] = 1, rank;
	case HALF:
		return shape[rank - 1] = (i + 1) / 2, rank;
	case EIGHTH:
		return shape[rank - 1] = (i + 7) / 8, rank;
	case GROUPS32:
		return shape[rank - 1] = (i + 31) / 32, rank;
	case GROUPS16:
		return shape[rank - 1] = (i + 15) / 16, rank;
	case BLOCKS:
		return shape[rank - 2] = (o + 127) / 128, shape[rank - 1] = (i + 127) / 128, rank;
	case TURNED8:
		return shape[0] = (i + 7) / 8, shape[1] = o, 2;
	case GROUPST:
		return shape[0] = (i + 31) / 32, shape[1] = o, 2;
	case FLAT:
		return shape[0] = (o * i + 1) / 2, shape[1] = 1, 2;
	default:
		return rank;
	}
}

/* Adds a weight as the way has it; false where the way is for other names. */
static bool store(struct sd_manifest *m, const struct way *way, const struct sd_record *r)
{
	size_t length = strlen(r->key), suffix = strlen(".weight");
	bool module = length > suffix && strcmp(r->key + length - suffix, ".weight") == 0;
	char key[512];

	if (way->parameter == module)
		return false;
	for (const struct member *member = way->members; member->form; member++) {
		uint64_t shape[SD_RANK_MAX];
		uint32_t rank = shape_of(member->form, r->shape, r->rank, shape);

		snprintf(key, sizeof(key), "%.*s%s%s", (int)(module ? length - suffix : length), r->key,
			 module ? "." : "", member->name);
		add(m, key, member->dtype, rank, shape);
	}
	return true;
}

/* Every form through every plan by hand: refused, or the weight is what it was, or the scales are cut and turned too.
 */
Test(by_hand, nothing_is_parted)
{
	static const uint64_t shape[] = {256, 512};
	const struct sd_record module = {.key = "a.weight", .shape = shape, .rank = 2},
			       parameter = {.key = "a.x", .shape = shape, .rank = 2};
	size_t changed = 0, refused = 0;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		struct sd_manifest *m = sd_manifest_new(), *out = NULL;
		struct sd_selection all = {0}, weight = {0};
		const struct sd_selection *include[] = {&all, &weight};
		struct sd_error err = {0};
		char name[64];
		bool numbers;

		cr_assert(store(m, &ways[i], ways[i].parameter ? &parameter : &module));
		numbers = sd_dtype_is_float(m->records[0].dtype);
		snprintf(name, sizeof(name), "^%s$", m->records[0].key);
		cr_assert(sd_regex_list_add(&weight.include, name, &err) == SD_OK);
		for (size_t k = 0; k < 2; k++) {
			static const enum sd_dtype dtypes[] = {SD_F32, SD_BF16, SD_F16};

			for (size_t d = 0; d < 3; d++) {
				enum sd_result result = sd_cast_to(m, dtypes[d], include[k], &out, &err);
				bool cast = result == SD_OK && out->targets[0].dtype != m->records[0].dtype;

				cr_expect(!cast || (out->targets[0].nsteps == 0), "%s: cast", ways[i].what);
				cr_expect(result == SD_INPUT || !numbers || dtypes[d] == m->records[0].dtype,
					  "%s: %s is not refused", ways[i].what, sd_dtype_name(dtypes[d]));
				refused += result == SD_INPUT;
				sd_manifest_free(out);
				out = NULL;
			}
			if (ways[i].members[1].form) {
				enum sd_result result = sd_cast_dequant(m, SD_BF16, include[k], &out, &err);

				cr_expect(result == SD_INPUT || out->ntargets == 1, "%s: --dequant leaves %zu",
					  ways[i].what, out->ntargets);
				cr_expect(result == SD_OK || !strstr(err.text, "--to"), "%s", err.text);
				changed += result == SD_OK;
				sd_manifest_free(out);
				out = NULL;
			}
		}
		sd_selection_free(&weight);
		sd_manifest_free(m);
	}
	cr_expect(changed > 3 && refused > 30, "%zu dequantised, %zu refused", changed, refused);
}

/* The maps in src/maps. */
struct folder {
	struct sd_map_library base;
	const char *path;
	char *texts[256];
	size_t n;
};

static enum sd_result read_map(struct sd_map_library *base, const char *name, const char **text, const char **file,
			       struct sd_error *err)
{
	struct folder *folder = (struct folder *)base;
	char path[4096];
	FILE *in;
	char *buffer = malloc(1 << 20);
	size_t length;

	snprintf(path, sizeof(path), "%s/%s.map", folder->path, name);
	in = fopen(path, "r");
	cr_assert(in && buffer && folder->n < 256, "%s", path);
	length = fread(buffer, 1, (1 << 20) - 1, in);
	buffer[length] = '\0';
	fclose(in);
	folder->texts[folder->n++] = buffer;
	*text = buffer;
	*file = name;
	(void)err;
	return SD_OK;
}

/* The manifest of all samples of one group, with matrices so many times larger. */
static struct sd_manifest *samples(const struct sd_map *map, const struct sd_map_sample *first, uint64_t times)
{
	struct sd_manifest *m = sd_manifest_new();

	for (uint32_t i = 0; i < map->nsamples; i++) {
		const struct sd_map_sample_tensor *t = &map->samples[i].left;
		uint64_t shape[SD_RANK_MAX];

		memcpy(shape, t->shape, t->rank * sizeof(*shape));
		for (uint32_t k = t->rank < 2 ? t->rank : t->rank - 2; k < t->rank; k++)
			shape[k] *= shape[k] > 1 ? times : 1;
		if (strcmp(map->samples[i].group, first->group) == 0)
			add(m, t->key, t->dtype, t->rank, shape);
	}
	return m;
}

static struct sd_manifest *tensors_of(const struct sd_manifest *plan)
{
	struct sd_manifest *m = sd_manifest_new();

	for (size_t i = 0; i < plan->ntargets; i++) {
		bool there = false;

		for (size_t k = 0; k < m->nrecords; k++)
			there = there || strcmp(m->records[k].key, plan->targets[i].name) == 0;
		if (!there)
			add(m, plan->targets[i].name, plan->targets[i].dtype, plan->targets[i].rank,
			    plan->targets[i].shape);
	}
	return m;
}

struct count {
	size_t refused, dequantised, together;
};

/* Of which targets a record is made into: all, and those that are multiplied with this operand. */
static void look(const struct sd_manifest *m, uint32_t record, uint32_t operand, size_t *all, size_t *multiplied)
{
	*all = *multiplied = 0;
	for (size_t i = 0; i < m->ntargets; i++) {
		bool found = false;

		if (m->targets[i].record != record)
			continue;
		(*all)++;
		for (uint32_t k = 0; k < m->targets[i].nsteps; k++)
			found = found || m->targets[i].steps[k].operand == operand;
		*multiplied += found;
	}
}

/* What a plan made of a weight, whose members are the records from first on. */
static void hold(const struct sd_map *map, const struct way *way, const struct sd_manifest *in, uint32_t first,
		 const struct sd_plan *plan, struct count *count)
{
	const char *key = in->records[first].key;
	size_t all, multiplied, n;
	bool dequantised = false;

	for (uint32_t i = 1; way->members[i].form; i++) {
		const char *name = way->members[i].name;
		enum sd_role role = sd_name_role(in->records[first + i].key).role;
		uint32_t companion = plan->becomes[first + i];

		look(plan->manifest, plan->becomes[first], companion, &all, &multiplied);
		look(plan->manifest, companion, 0, &n, &(size_t){0});
		if (companion < plan->manifest->nrecords && all && multiplied == all) {
			cr_expect(n == 0, "%s, %s: %s goes into %s and stays", map->name, way->what, name, key);
			dequantised = true;
			continue;
		}
		if (role == SD_ROLE_SHAPE || role == SD_ROLE_ACTIVATION) {
			cr_expect(n == 0, "%s, %s: %s stays behind %s", map->name, way->what, name, key);
			continue;
		}
		cr_expect(!dequantised && n == all && all > 0, "%s, %s: %s and its %s are parted", map->name, way->what,
			  key, name);
		for (size_t t = 0; t < plan->manifest->ntargets; t++) {
			const struct sd_target *target = &plan->manifest->targets[t];
			bool found = false;

			if (target->record != companion)
				continue;
			for (size_t w = 0; w < plan->manifest->ntargets; w++)
				found = found || (plan->manifest->targets[w].record == plan->becomes[first] &&
						  sd_names_belong(plan->manifest->targets[w].name, target->name));
			cr_expect(found, "%s, %s: %s is not beside its weight", map->name, way->what, target->name);
		}
	}
	cr_expect(way->members[1].form, "%s, %s: %s has been changed", map->name, way->what, key);
	count->dequantised += dequantised;
	count->together += !dequantised;
}

/* Whether a plan moves the elements of a record. */
static bool is_moved(const struct sd_manifest *in, const struct sd_plan *plan, size_t record)
{
	size_t n = 0;
	bool changed = false;

	for (size_t i = 0; i < plan->manifest->ntargets; i++) {
		const struct sd_target *t = &plan->manifest->targets[i];

		if (t->record != plan->becomes[record])
			continue;
		n++;
		changed = changed || t->move ||
			  !sd_shape_equal(t->shape, t->rank, in->records[record].shape, in->records[record].rank);
	}
	return n > 1 || changed;
}

/* Whether a record belongs to one of those that are stored in another way, and goes with it. */
static bool is_beside(const struct sd_manifest *m, const bool *chosen, size_t record)
{
	bool found = false;

	if (sd_name_role(m->records[record].key).role < SD_ROLE_BLOCK_SCALE)
		return false;
	for (size_t i = 0; i < m->nrecords; i++)
		found = found || (chosen[i] && sd_names_belong(m->records[i].key, m->records[record].key));
	return found;
}

/* Whether a text names a weight or a companion that are stored so. */
static bool mentions(const char *text, const struct sd_manifest *in, const uint32_t *first, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char stem[512], *last;

		snprintf(stem, sizeof(stem), "%.*s", (int)sd_name_role(in->records[first[i]].key).stem,
			 in->records[first[i]].key);
		/* What stands before it may be another in a later stage of the map. */
		last = strrchr(stem, '.');
		if (strstr(text, last ? last : stem))
			return true;
	}
	return false;
}

/* The weights of a checkpoint that are chosen, in one form. */
static void try(const struct sd_map *map, const struct sd_map_sample *sample, const struct sd_manifest *plain,
		const bool *chosen, bool all, int to, const struct way *way, struct count *count)
{
	struct sd_rename rename = {.map = map, .defines = sample->defines, .ndefines = sample->ndefines, .to = to};
	struct sd_manifest *in = sd_manifest_new();
	struct sd_plan plan = {0};
	struct sd_error err = {0};
	uint32_t first[256];
	size_t n = 0;

	for (size_t i = 0; i < plain->nrecords; i++) {
		const struct sd_record *r = &plain->records[i];

		cr_assert(n < 256);
		first[n] = (uint32_t)in->nrecords;
		if (chosen[i] && store(in, way, r))
			n++;
		else if (!is_beside(plain, chosen, i))
			add(in, r->key, r->dtype, r->rank, r->shape);
	}
	if (n) {
		enum sd_result result = sd_rename_plan(&rename, in, &plan, &err);

		for (size_t i = 0; i < n && result == SD_OK; i++)
			hold(map, way, in, first[i], &plan, count);
		count->refused += result != SD_OK;
		cr_expect(result == SD_OK || (result == SD_INPUT && (!all || mentions(err.text, in, first, n))),
			  "%s, %s: %s", map->name, way->what, err.text);
	}
	sd_plan_free(&plan);
	sd_manifest_free(in);
}

/* All weights of a checkpoint that a map changes, in all forms: together, and each by itself. */
static void try_all(const struct sd_map *map, const struct sd_map_sample *sample, const struct sd_manifest *plain,
		    int to, const struct sd_plan *plan, struct count *count)
{
	bool *chosen = calloc(plain->nrecords + 1, sizeof(*chosen)), *one = calloc(plain->nrecords + 1, sizeof(*one));

	for (size_t i = 0; i < plain->nrecords; i++) {
		const struct sd_record *r = &plain->records[i];

		chosen[i] = r->rank >= 2 && sd_name_role(r->key).role < SD_ROLE_CODES &&
			    (sd_dtype_is_float(r->dtype) || !sd_dtype_is_codes(r->dtype)) && is_moved(plain, plan, i);
	}
	for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
		try(map, sample, plain, chosen, true, to, &ways[w], count);
		for (size_t i = 0; i < plain->nrecords; i++) {
			one[i] = true;
			if (chosen[i])
				try(map, sample, plain, one, false, to, &ways[w], count);
			one[i] = false;
		}
	}
	free(chosen);
	free(one);
}

static void try_map(struct folder *folder, const char *name, struct count *count)
{
	struct sd_map *map = NULL;
	struct sd_error err = {0};
	const char *text, *file;

	cr_assert(read_map(&folder->base, name, &text, &file, &err) == SD_OK);
	cr_assert(sd_map_parse(file, text, &folder->base, &map, &err) == SD_OK, "%s", err.text);
	for (uint32_t i = 0; i < map->nsamples; i++) {
		const struct sd_map_sample *sample = &map->samples[i];
		struct sd_rename rename = {
			.map = map, .defines = sample->defines, .ndefines = sample->ndefines, .to = RIGHT};
		bool first = true;

		for (uint32_t k = 0; k < i; k++)
			first = first && strcmp(map->samples[k].group, sample->group) != 0;
		/* Scales are moved by maps of v4 and v5 alone, where no block is cut. */
		for (uint64_t times = 1; first && times <= (strcmp(map->layout[RIGHT], "v5") == 0 ? 128 : 1);
		     times *= 128) {
			struct sd_manifest *left = samples(map, sample, times), *right;
			struct sd_plan there = {0}, back = {0};

			rename.to = RIGHT;
			cr_assert(sd_rename_plan(&rename, left, &there, &err) == SD_OK, "%s: %s", name, err.text);
			try_all(map, sample, left, RIGHT, &there, count);
			right = tensors_of(there.manifest);
			rename.to = LEFT;
			cr_assert(sd_rename_plan(&rename, right, &back, &err) == SD_OK, "%s: %s", name, err.text);
			try_all(map, sample, right, LEFT, &back, count);
			sd_plan_free(&there);
			sd_plan_free(&back);
			sd_manifest_free(left);
			sd_manifest_free(right);
		}
	}
	sd_map_free(map);
}

Test(maps, part_no_weight_from_its_companions)
{
	struct folder folder = {.base = {read_map}, .path = MAPS};
	struct count count = {0};
	struct dirent **names;
	int n;

	n = scandir(MAPS, &names, NULL, alphasort);
	cr_assert(n > 70, "%s", MAPS);
	for (int i = 0; i < n; i++) {
		char *end = strstr(names[i]->d_name, ".map");

		if (end) {
			*end = '\0';
			try_map(&folder, names[i]->d_name, &count);
			for (; folder.n; free(folder.texts[--folder.n]))
				;
		}
		free(names[i]);
	}
	free(names);
	/* Each of the three comes about; most forms are not read by any map. */
	cr_expect(count.refused > 5000 && count.dequantised > 100 && count.together > 10,
		  "%zu refused, %zu dequantised, %zu moved together", count.refused, count.dequantised, count.together);
	printf("# %zu refused, %zu dequantised, %zu moved together\n", count.refused, count.dequantised,
	       count.together);
}
