/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of quantised weights: how each is known, and the steps that make numbers of it. */
#include "model/dequant.h"
#include "base/checked.h"
#include "move/decode.h"
#include "move/quantise.h"
#include "base/json_tree.h"
#include "base/text.h"
#include "model/config_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* ---- the table ---- */

/* How a form's numbers are made. */
enum how {
	SCALED,   /* elements are numbers: they are multiplied with their scales */
	UNPACKED, /* codes of E2M1, by scales that are powers of two */
	DECODED,  /* by a form of move/decode.h */
};

/* Which scale is for which elements. */
enum grid {
	ANY,    /* one, one for each row, or one for each block or group: by its shape */
	BLOCKS, /* one, or one for each block of said->block */
	GROUPS, /* one for so many columns of a row: scheme.group */
	FLAT,   /* one for so many elements, from row to row */
	ROWS,   /* one for each row */
};

/* The dtype that the library computes in and stores: it is rounded to before anything else. */
enum native { TARGET, SCALES, BRAIN, STATE, SINGLE };

/* What a form is stored with. word: what a name has behind the module's, less "weight". */
struct need {
	const char *word;
	enum sd_codes_part part;
	uint32_t dtypes;
	bool optional;
};

struct scheme {
	const char *name;
	uint32_t methods;
	const char *weight; /* the same of the weight's own name */
	uint32_t dtypes;
	enum how how;
	enum sd_form_number form;
	enum grid grid;
	uint32_t group;
	enum native native;
	struct need needs[7];
};

#define M(method) (1U << SD_QUANT_##method | 1U << SD_QUANT_UNSAID)
#define D(dtype) (1U << SD_##dtype)
#define FLOATS (D(F32) | D(BF16) | D(F16))
#define EXPONENTS (D(U8) | D(F8_E8M0))
#define FP8 (D(F8_E4M3) | D(F8_E5M2))

/* Sources: compressed-tensors 0.20, modelopt 0.47, transformers 5.18, bitsandbytes 0.50, AutoAWQ 0.2.9, GPTQModel 7.7.
 * The first that fits is taken. */
/* clang-format off */
static const struct scheme SCHEMES[] = {
	{"FP8", M(FP8), "weight", FP8, SCALED, 0, BLOCKS, 0, TARGET,
	 {{"scale_inv", SD_PART_SCALE, FLOATS | EXPONENTS, false}}},
	{"FP8", M(FP8), "", FP8, SCALED, 0, BLOCKS, 0, TARGET,
	 {{"scale_inv", SD_PART_SCALE, FLOATS | EXPONENTS, false}}},
	{"MXFP8", M(COMPRESSED_TENSORS), "weight", FP8, SCALED, 0, GROUPS, 32, BRAIN,
	 {{"scale", SD_PART_SCALE, EXPONENTS, false}}},
	{"MXFP8", M(MODELOPT), "weight", FP8, SCALED, 0, GROUPS, 32, TARGET,
	 {{"scale", SD_PART_SCALE, EXPONENTS, false}}},
	{"FP8", M(MODELOPT) | M(FBGEMM), "weight", FP8, SCALED, 0, ANY, 0, TARGET,
	 {{"scale", SD_PART_SCALE, D(F32), false}}},
	{"FP8", M(MODELOPT), "", FP8, SCALED, 0, ANY, 0, TARGET,
	 {{"scale", SD_PART_SCALE, D(F32), false}}},
	{"FP8", M(COMPRESSED_TENSORS), "weight", FP8, SCALED, 0, ANY, 0, SCALES,
	 {{"scale", SD_PART_SCALE, FLOATS, false}}},
	{"INT8", M(COMPRESSED_TENSORS), "weight", D(I8), DECODED, SD_FORM_BYTES, ANY, 0, SCALES,
	 {{"scale", SD_PART_SCALE, FLOATS, false}, {"zero_point", SD_PART_ZERO, D(I8), true}}},
	{"packed integers", M(COMPRESSED_TENSORS), "packed", D(I32), DECODED, SD_FORM_INTEGERS, ANY, 0, SCALES,
	 {{"scale", SD_PART_SCALE, FLOATS, false}, {"zero_point", SD_PART_ZERO, D(I32), true},
	  {"shape", SD_PART_CHECK, D(I32) | D(I64), true}, {"g_idx", SD_PART_INDEX, D(I32), true}}},
	{"NVFP4", M(COMPRESSED_TENSORS), "packed", D(U8), DECODED, SD_FORM_NVFP4_BY, GROUPS, 16, BRAIN,
	 {{"scale", SD_PART_SCALE, D(F8_E4M3), false}, {"global_scale", SD_PART_SECOND, D(F32), false}}},
	{"MXFP4", M(COMPRESSED_TENSORS), "packed", D(U8), UNPACKED, 0, GROUPS, 32, BRAIN,
	 {{"scale", SD_PART_SCALE, EXPONENTS, false}}},
	{"NVFP4", M(MODELOPT), "weight", D(U8), DECODED, SD_FORM_NVFP4, GROUPS, 16, TARGET,
	 {{"scale", SD_PART_SCALE, D(F8_E4M3), false}, {"scale_2", SD_PART_SECOND, D(F32), false}}},
	{"NVFP4", M(MODELOPT), "", D(U8), DECODED, SD_FORM_NVFP4_DOWN, GROUPS, 16, TARGET,
	 {{"scale", SD_PART_SCALE, D(F8_E4M3), false}, {"scale_2", SD_PART_SECOND, D(F32), false}}},
	{"MXFP4", M(MODELOPT), "weight", D(U8), UNPACKED, 0, GROUPS, 32, TARGET,
	 {{"scale", SD_PART_SCALE, EXPONENTS, false}}},
	{"GPTQ", M(GPTQ), "qweight", D(I32), DECODED, SD_FORM_GPTQ, ANY, 0, SCALES,
	 {{"qzeros", SD_PART_ZERO, D(I32), false}, {"scales", SD_PART_SCALE, FLOATS, false},
	  {"g_idx", SD_PART_INDEX, D(I32), true}}},
	{"AWQ", 1U << SD_QUANT_AWQ, "qweight", D(I32), DECODED, SD_FORM_AWQ, ANY, 0, SCALES,
	 {{"qzeros", SD_PART_ZERO, D(I32), true}, {"scales", SD_PART_SCALE, FLOATS, false}}},
	{"bitsandbytes NF4", M(BITSANDBYTES), "weight", D(U8) | D(I8) | FLOATS, DECODED, SD_FORM_NF4, FLAT, 0, STATE,
	 {{"absmax", SD_PART_SCALE, D(F32) | D(U8), false}, {"quant_map", SD_PART_CHECK, D(F32), true},
	  {"nested_absmax", SD_PART_NESTED, D(F32), true}, {"nested_quant_map", SD_PART_TABLE, D(F32), true},
	  {"quant_state.bitsandbytes__nf4", SD_PART_CHECK, D(U8), false}}},
	{"bitsandbytes FP4", M(BITSANDBYTES), "weight", D(U8) | D(I8) | FLOATS, DECODED, SD_FORM_FP4, FLAT, 0, STATE,
	 {{"absmax", SD_PART_SCALE, D(F32) | D(U8), false}, {"quant_map", SD_PART_CHECK, D(F32), true},
	  {"nested_absmax", SD_PART_NESTED, D(F32), true}, {"nested_quant_map", SD_PART_TABLE, D(F32), true},
	  {"quant_state.bitsandbytes__fp4", SD_PART_CHECK, D(U8), false}}},
	{"LLM.int8", M(BITSANDBYTES), "weight", D(I8), DECODED, SD_FORM_INT8, ROWS, 0, SINGLE,
	 {{"SCB", SD_PART_SCALE, D(F32), false}, {"weight_format", SD_PART_CHECK, D(U8), true}}},
};
/* clang-format on */

/* What quant_method says. */
static const struct {
	const char *word;
	enum sd_quant_method method;
} METHODS[] = {
	{"fp8", SD_QUANT_FP8},
	{"mxfp8", SD_QUANT_FP8},
	{"compressed-tensors", SD_QUANT_COMPRESSED_TENSORS},
	{"modelopt", SD_QUANT_MODELOPT},
	{"modelopt_fp4", SD_QUANT_MODELOPT},
	{"modelopt_mixed", SD_QUANT_MODELOPT},
	{"fbgemm_fp8", SD_QUANT_FBGEMM},
	{"gptq", SD_QUANT_GPTQ},
	{"gptqmodel", SD_QUANT_GPTQ},
	{"awq", SD_QUANT_AWQ},
	{"bitsandbytes", SD_QUANT_BITSANDBYTES},
};

/* ---- what is said ---- */

static const char *text_of(const struct sd_json_node *object, const char *key)
{
	const struct sd_json_node *node = sd_json_get(object, key);

	return node && node->kind == SD_JSON_STRING ? node->text : NULL;
}

static uint64_t number_of(const struct sd_json_node *node)
{
	uint64_t number = 0;

	if (node && node->kind == SD_JSON_NUMBER && !sd_text_number(node->text, &number))
		number = 0;
	return number;
}

static bool is_true(const struct sd_json_node *node)
{
	return sd_json_node_is(node, SD_JSON_WORD, "true");
}

/* Whether it is an object or a list that has something. */
static bool has_members(const struct sd_json_node *node)
{
	return node && node->first;
}

/* The object that says how weights are quantised: at the top, else in an object there. */
static const struct sd_json_node *find_config(const struct sd_json_node *root)
{
	static const char *const names[] = {"quantization_config", "compression_config"};

	for (size_t n = 0; n < COUNT(names); n++) {
		const struct sd_json_node *found = sd_json_get(root, names[n]);

		for (const struct sd_json_node *at = root->first; at && !has_members(found); at = at->next)
			found = sd_json_get(at, names[n]);
		if (has_members(found))
			return found;
	}
	return NULL;
}

static void read_block(const struct sd_json_node *list, uint64_t block[2])
{
	if (!list || list->kind != SD_JSON_ARRAY || !list->first || !list->first->next)
		return;
	block[0] = number_of(list->first);
	block[1] = number_of(list->first->next);
}

struct reading {
	struct sd_quant_said *said;
	struct sd_arena *arena;
	bool memory;
};

/* Refuses all of it; the first reason stays. */
static void refuse(struct reading *r, const char *what, const char *word)
{
	if (r->said->refused)
		return;
	r->said->refused = sd_arena_printf(r->arena, "%s%s%s", what, word ? " " : "", word ? word : "");
	r->memory = r->memory && r->said->refused;
}

static void read_groups(struct reading *r, const struct sd_json_node *config)
{
	const struct sd_json_node *groups = sd_json_get(config, "config_groups");
	struct sd_quant_said *said = r->said;

	said->symmetric = has_members(groups);
	for (const struct sd_json_node *g = groups ? groups->first : NULL; g; g = g->next) {
		const struct sd_json_node *weights = sd_json_get(g, "weights"), *type = sd_json_get(weights, "type");

		read_block(sd_json_get(weights, "block_structure"), said->block);
		said->symmetric =
			said->symmetric && !sd_json_node_is(sd_json_get(weights, "symmetric"), SD_JSON_WORD, "false");
		if (!sd_json_node_is(type, SD_JSON_STRING, "int") || said->nbits == SD_QUANT_GROUPS)
			continue;
		said->bits[said->nbits] = number_of(sd_json_get(weights, "num_bits"));
		said->group[said->nbits++] = number_of(sd_json_get(weights, "group_size"));
	}
}

/* compressed-tensors: what makes of its weights something that they do not say. */
static void read_compressed(struct reading *r, const struct sd_json_node *config)
{
	static const char *const good[] = {
		"dense",          "float-quantized",      "naive-quantized",      "int-quantized",
		"pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized",
		"mixed-precision"};
	const struct sd_json_node *groups = sd_json_get(config, "config_groups");
	const char *format = text_of(config, "format"), *status = text_of(config, "quantization_status"),
		   *sparse = text_of(sd_json_get(config, "sparsity_config"), "format");
	size_t i = 0;

	for (const struct sd_json_node *g = groups ? groups->first : NULL; format; g = g->next) {
		for (i = 0; i < COUNT(good) && strcmp(format, good[i]) != 0; i++)
			;
		if (i == COUNT(good))
			refuse(r, "its format is", format);
		while (g && !text_of(g, "format"))
			g = g->next;
		if (!g)
			break;
		format = text_of(g, "format");
	}
	if (sparse && strcmp(sparse, "dense") != 0)
		refuse(r, "its sparsity_config has the format", sparse);
	if (has_members(sd_json_get(config, "transform_config")))
		refuse(r, "it has a transform_config: the weights are rotated, and alone they are not the model's",
		       NULL);
	if (status && strcmp(status, "compressed") != 0)
		refuse(r, "its quantization_status is", status);
}

static void read_modelopt(struct reading *r, const char *algo)
{
	if (algo && (strstr(algo, "_AWQ") || strstr(algo, "SVD") || strcmp(algo, "W8A8_SQ_PER_CHANNEL") == 0))
		refuse(r, "activations are scaled too by its quant_algo", algo);
}

static void read_gptq(struct reading *r, const struct sd_json_node *config)
{
	const char *format = text_of(config, "checkpoint_format");

	r->said->bits[0] = number_of(sd_json_get(config, "bits"));
	r->said->group[0] = number_of(sd_json_get(config, "group_size"));
	r->said->nbits = 1;
	r->said->sym = is_true(sd_json_get(config, "sym"));
	r->said->v2 = format && strcmp(format, "gptq_v2") == 0;
	if (format && !r->said->v2 && strcmp(format, "gptq") != 0)
		refuse(r, "its checkpoint_format is", format);
}

static bool same_word(const char *a, const char *b)
{
	while (*a && (*a | 32) == (*b | 32)) {
		a++;
		b++;
	}
	return !*a && !*b;
}

static void read_awq(struct reading *r, const struct sd_json_node *config)
{
	const char *version = text_of(config, "version");

	if (version && !same_word(version, "gemm"))
		refuse(r, "its version is", version);
	r->said->bits[0] = number_of(sd_json_get(config, "bits"));
	r->said->nbits = 1;
}

/* auto-round stores in the forms of others. */
static const char *auto_round(struct reading *r, const struct sd_json_node *config)
{
	const char *packing = text_of(config, "packing_format");

	if (packing && strstr(packing, "auto_gptq"))
		return "gptq";
	if (packing && strstr(packing, "auto_awq"))
		return "awq";
	if (packing && strstr(packing, "llm_compressor"))
		return "compressed-tensors";
	refuse(r, "its packing_format is", packing ? packing : "not said");
	return "auto-round";
}

static void read_method(struct reading *r, const struct sd_json_node *config, const char *method)
{
	struct sd_quant_said *said = r->said;
	size_t i = 0;

	if (strcmp(method, "auto-round") == 0)
		method = auto_round(r, config);
	while (i < COUNT(METHODS) && strcmp(METHODS[i].word, method) != 0)
		i++;
	said->method = i < COUNT(METHODS) ? METHODS[i].method : SD_QUANT_OTHER;
	if (said->method == SD_QUANT_OTHER)
		refuse(r, "its quant_method is", method);
	read_block(sd_json_get(config, "weight_block_size"), said->block);
	if (said->method == SD_QUANT_COMPRESSED_TENSORS)
		read_compressed(r, config);
	if (said->method == SD_QUANT_COMPRESSED_TENSORS || said->method == SD_QUANT_MODELOPT)
		read_groups(r, config);
	if (said->method == SD_QUANT_MODELOPT)
		read_modelopt(r, text_of(config, "quant_algo"));
	if (said->method == SD_QUANT_GPTQ)
		read_gptq(r, config);
	if (said->method == SD_QUANT_AWQ)
		read_awq(r, config);
}

/* The tree of a side file; its root is NULL where it is not there, or no JSON. */
static struct sd_json_tree read_side(const struct sd_manifest *m, const char *name, struct sd_arena *arena)
{
	const struct sd_side_file *file = sd_manifest_side(m, name);
	struct sd_json_tree tree = {0};

	if (!file || sd_json_tree_read(&tree, file->data, file->size, arena, NULL) != SD_OK)
		tree.root = NULL;
	return tree;
}

enum sd_result sd_quant_read(const struct sd_manifest *m, struct sd_arena *arena, struct sd_quant_said *said,
			     struct sd_error *err)
{
	static const char *const others[] = {"quantize_config.json", "quant_config.json"};
	struct reading r = {said, arena, true};
	struct sd_json_tree tree = read_side(m, "config.json", arena);
	const struct sd_json_node *config = tree.root ? find_config(tree.root) : NULL;
	const char *method = text_of(config, "quant_method");

	*said = (struct sd_quant_said){.block = {SD_QUANT_BLOCK, SD_QUANT_BLOCK}};
	if (method)
		read_method(&r, config, method);
	tree = method ? tree : read_side(m, "hf_quant_config.json", arena);
	if (!method && tree.root && text_of(sd_json_get(tree.root, "producer"), "name")) {
		method = "modelopt";
		said->method = SD_QUANT_MODELOPT;
		read_modelopt(&r, text_of(sd_json_get(tree.root, "quantization"), "quant_algo"));
	}
	for (size_t i = 0; i < COUNT(others) && !method; i++) {
		tree = read_side(m, others[i], arena);
		if (!tree.root || !sd_json_get(tree.root, "bits"))
			continue;
		method = text_of(tree.root, "quant_method");
		method = method ? method : sd_json_get(tree.root, "zero_point") ? "awq" : "gptq";
		read_method(&r, tree.root, method);
	}
	return r.memory ? SD_OK : sd_fail_memory(err);
}

enum sd_result sd_quant_method_of(const struct sd_manifest *m, enum sd_quant_method *method, struct sd_error *err)
{
	struct sd_arena arena = {0};
	struct sd_quant_said said;
	enum sd_result result = sd_quant_read(m, &arena, &said, err);

	*method = said.method;
	sd_arena_free(&arena);
	return result;
}

/* ---- a weight and its companions ---- */

struct weight {
	const struct sd_manifest *m;
	const struct sd_companions *companions;
	const struct sd_quant_said *said;
	struct sd_arena *arena;
	const struct scheme *scheme;
	uint32_t record;
	enum sd_dtype dtype;                    /* that is asked for */
	uint32_t part[COUNT(SCHEMES[0].needs)]; /* records of the scheme's needs */
	struct sd_dequantised *becomes;
	struct sd_step *steps;
	struct sd_error *err;
};

/* What a name has behind the module's: "scale" of M.weight_scale and of X_weight_scale. */
static const char *word_of(const char *name)
{
	static const char *const fronts[] = {"weight_", "weight."};
	const char *word = name + sd_name_role(name).stem;

	word += *word == '.' || *word == '_';
	for (size_t i = 0; i < COUNT(fronts); i++)
		if (strncmp(word, fronts[i], strlen(fronts[i])) == 0 && strcmp(word, "weight_format") != 0)
			return word + strlen(fronts[i]);
	return word;
}

/* Whether a companion has a part in the values, or says what shape they have. */
static bool counts(enum sd_role role)
{
	return role == SD_ROLE_BLOCK_SCALE || role == SD_ROLE_FACTOR || role == SD_ROLE_SHAPE;
}

/* The name of the form's own, which tells M.scale from M.weight_scale. */
static bool has_word(const char *name, const char *word)
{
	size_t length = strlen(name);

	return strcmp(word_of(name), word) == 0 && !(length > 6 && strcmp(name + length - 6, ".scale") == 0);
}

/* Finds the companions that a scheme wants. *left: one that it does not know; *lacks: the word of one that is not
 * there, or has another dtype. */
static bool fits(struct weight *w, const struct scheme *s, uint32_t *left, const char **lacks)
{
	const struct sd_companions *c = w->companions;
	bool all = true;

	*left = SD_NO_RECORD;
	*lacks = NULL;
	for (size_t n = 0; n < COUNT(s->needs); n++)
		w->part[n] = SD_NO_RECORD;
	for (uint32_t i = c->first[w->record]; i != SD_NO_RECORD; i = c->next[i]) {
		const char *key = w->m->records[i].key;
		size_t n = 0;

		if (!counts((enum sd_role)c->role[i]))
			continue;
		while (n < COUNT(s->needs) && s->needs[n].word && !has_word(key, s->needs[n].word))
			n++;
		if (n < COUNT(s->needs) && s->needs[n].word && s->needs[n].dtypes >> w->m->records[i].dtype & 1)
			w->part[n] = i;
		else
			*left = i;
	}
	for (size_t n = 0; n < COUNT(s->needs) && s->needs[n].word; n++)
		if (w->part[n] == SD_NO_RECORD && !s->needs[n].optional) {
			*lacks = *lacks ? *lacks : s->needs[n].word;
			all = false;
		}
	return all && *left == SD_NO_RECORD;
}

static enum sd_result fail(const struct weight *w, uint32_t companion, const char *problem)
{
	return sd_companions_fail(w->m, w->companions, w->record, companion, problem, w->err);
}

/* What is refused as a whole is told of the weight that shows why, if one does. */
static enum sd_result fail_refused(struct weight *w, uint32_t first)
{
	const struct sd_companions *c = w->companions;

	for (uint32_t i = 0; c->role && i < c->n; i++)
		if (c->weight[i] != SD_NO_RECORD && strcmp(word_of(w->m->records[i].key), "pre_quant_scale") == 0) {
			w->record = c->weight[i];
			return fail(w, i, w->said->refused);
		}
	return fail(w, first, w->said->refused);
}

/* Finds the scheme of the weight. */
static enum sd_result find_scheme(struct weight *w)
{
	const struct sd_record *r = &w->m->records[w->record];
	const char *word = word_of(r->key), *lacks, *lacking = NULL;
	uint32_t left, odd = SD_NO_RECORD, first = sd_companion_of(w->companions, w->record);
	char problem[128];

	if (w->said->refused)
		return fail_refused(w, first);
	for (size_t i = 0; i < COUNT(SCHEMES); i++) {
		const struct scheme *s = &SCHEMES[i];
		if (strcmp(s->weight, word) != 0 || !(s->methods >> w->said->method & 1) ||
		    !(s->dtypes >> r->dtype & 1))
			continue;
		w->scheme = s;
		if (fits(w, s, &left, &lacks))
			return SD_OK;
		/* The one that lacks least is what it is meant to be. */
		if (!lacks)
			odd = left;
		lacking = lacking ? lacking : lacks;
	}
	if (odd != SD_NO_RECORD)
		return fail(w, odd, "it is no part of any form that is read");
	if (lacking)
		snprintf(problem, sizeof(problem), "its %s is not there, or of another dtype", lacking);
	return fail(w, first, lacking ? problem : "that is no form that is read");
}

static const struct sd_record *part_of(const struct weight *w, enum sd_codes_part part, uint32_t *number)
{
	for (size_t n = 0; n < COUNT(w->scheme->needs); n++)
		if (w->scheme->needs[n].word && w->scheme->needs[n].part == part && w->part[n] != SD_NO_RECORD) {
			if (number)
				*number = w->part[n];
			return &w->m->records[w->part[n]];
		}
	return NULL;
}

/* ---- which scale is for what ---- */

/* The shape of scales without the dimensions that only modelopt has, and with those of a row that has one. */
static bool squeeze(const struct sd_record *scale, const uint64_t *shape, uint32_t rank, uint64_t own[SD_RANK_MAX])
{
	uint32_t n = scale->rank, drop = n > rank ? n - rank : 0;

	if (n == 4 && rank == 2 && scale->shape[1] == 1 && scale->shape[3] == 1) {
		own[0] = scale->shape[0];
		own[1] = scale->shape[2];
		return true;
	}
	for (uint32_t k = 0; k < drop; k++)
		if (scale->shape[k] != 1)
			return false;
	for (uint32_t k = drop; k < n; k++)
		own[k - drop] = scale->shape[k];
	n -= drop;
	if (n + 1 == rank && n > 0 && own[n - 1] == shape[rank - 2])
		own[n++] = 1;
	return n == rank;
}

/* How many indices one scale is for, of size with count scales; block: as is said, or 0. 0: that cannot be. */
static uint64_t block_for(uint64_t size, uint64_t count, uint64_t block)
{
	if (block && size / block + (size % block != 0) == count)
		return block;
	if (count == size)
		return 1;
	return count == 1 ? (size ? size : 1) : 0;
}

/* The blocks of a weight's numbers, [.., o, i], in its scales. False where they are not for these. */
static bool lay_grid(const struct weight *w, const struct sd_record *scale, const uint64_t *shape, uint32_t rank,
		     uint64_t group, struct sd_block *b)
{
	const uint64_t *block = w->said->block;
	uint64_t own[SD_RANK_MAX], count, stride = 1;
	enum grid grid = w->scheme->grid;

	if (!sd_shape_count(scale->shape, scale->rank, &count))
		return false;
	if (count == 1 && grid != GROUPS && grid != ROWS && !(grid == BLOCKS && scale->rank == rank)) {
		for (uint32_t k = 0; k < rank; k++)
			b[k] = (struct sd_block){1, 0};
		return true;
	}
	if (rank < 2 || !squeeze(scale, shape, rank, own))
		return false;
	for (uint32_t k = rank; k-- > 0;) {
		bool row = k + 2 == rank, column = k + 1 == rank;

		if (column && group)
			b[k].block = shape[k] % group == 0 ? block_for(shape[k], own[k], group) : 0;
		else if (column && grid == ANY && own[rank - 2] == shape[rank - 2] && own[k] > 1)
			b[k].block = shape[k] % own[k] == 0 ? shape[k] / own[k] : 0;
		else
			b[k].block = block_for(shape[k], own[k],
					       column && grid != ROWS                  ? block[1]
					       : row && grid != GROUPS && grid != ROWS ? block[0]
										       : 1);
		if (grid == BLOCKS && (row || column) && b[k].block != block[column])
			return false;
		if (!b[k].block || (column && grid == ROWS && own[k] != 1))
			return false;
		b[k].stride = own[k] > 1 ? stride : 0;
		stride *= own[k];
	}
	return true;
}

static enum sd_result fail_shape(const struct weight *w, const struct sd_record *part)
{
	const struct sd_record *r = &w->m->records[w->record];
	char a[SD_SHAPE_TEXT], b[SD_SHAPE_TEXT];

	return sd_fail(w->err, SD_INPUT, "%s, %s, has the shape %s, which does not fit %s, %s %s", part->key,
		       w->scheme->name, sd_shape_text(part->shape, part->rank, b, sizeof(b)), r->key,
		       sd_dtype_name(r->dtype), sd_shape_text(r->shape, r->rank, a, sizeof(a)));
}

/* ---- steps ---- */

static struct sd_step *add_step(struct weight *w, enum sd_step_kind kind, enum sd_dtype dtype)
{
	struct sd_step *step = &w->steps[w->becomes->nsteps++];

	*step = (struct sd_step){.kind = (uint16_t)kind, .dtype = (uint16_t)dtype, .operand = SD_NO_RECORD};
	return step;
}

static enum sd_dtype native_of(const struct weight *w, enum sd_dtype state)
{
	switch (w->scheme->native) {
	case SCALES:
		return (enum sd_dtype)part_of(w, SD_PART_SCALE, NULL)->dtype;
	case BRAIN:
		return SD_BF16;
	case STATE:
		return state;
	case SINGLE:
		return SD_F32;
	default:
		return w->dtype;
	}
}

static struct sd_block *new_blocks(const struct weight *w, uint32_t rank)
{
	return sd_arena_array(w->arena, rank + 1, sizeof(struct sd_block));
}

/* Steps of elements, or codes of E2M1, that are multiplied with their scales. */
static enum sd_result scale_elements(struct weight *w, enum sd_dtype native)
{
	const struct sd_record *r = &w->m->records[w->record], *scale;
	struct sd_dequantised *becomes = w->becomes;
	struct sd_step *step;
	struct sd_block *blocks = new_blocks(w, r->rank);
	uint64_t *shape = sd_arena_copy(w->arena, r->shape, (r->rank + 1) * sizeof(*shape));
	uint32_t number;

	if (!blocks || !shape)
		return sd_fail_memory(w->err);
	scale = part_of(w, SD_PART_SCALE, &number);
	if (w->scheme->how == UNPACKED) {
		if (!r->rank || !sd_mul(shape[r->rank - 1], 2, &shape[r->rank - 1]))
			return fail_shape(w, scale);
		add_step(w, SD_STEP_UNPACK, SD_BF16)->param = SD_UNPACK_E2M1;
	}
	becomes->shape = shape;
	becomes->rank = r->rank;
	if (!lay_grid(w, scale, shape, r->rank, w->scheme->group, blocks))
		return fail_shape(w, scale);
	step = add_step(w, SD_STEP_BLOCK_SCALE, native);
	step->operand = number;
	step->param = scale->dtype == SD_U8 ? SD_EXPONENT_INFINITY : 0;
	step->rank = r->rank;
	step->blocks = blocks;
	return SD_OK;
}

/* The geometry of codes: [.., o, i] of what comes out, as they lie in the record, and bits of each. */
struct codes {
	uint64_t shape[SD_RANK_MAX];
	uint32_t rank, bits;
	enum sd_form_number form;
	enum sd_dtype native;
	uint64_t flat, nested;
	uint32_t offset;
	bool has_offset;
};

/* Words that a row of so many numbers has. */
static bool is_row(uint64_t numbers, uint64_t bits, uint64_t words)
{
	uint64_t all;

	return bits && bits <= 8 && sd_mul(numbers, bits, &all) && all / 32 + (all % 32 != 0) == words;
}

/* The width that the data of weight_shape says, 0 where that is not there. */
static uint64_t width_of(const struct sd_record *shape)
{
	uint64_t width = 0;
	unsigned size = shape ? sd_dtype_size((enum sd_dtype)shape->dtype) : 0;

	if (shape && shape->value && shape->bytes == 2 * size)
		memcpy(&width, (const char *)shape->value + size, size);
	return width;
}

/* compressed-tensors: width and bits, by what there is: weight_shape, the index, groups of the size that is said, or
 * words that are full. */
static bool measure_integers(const struct weight *w, struct codes *c)
{
	const struct sd_record *r = &w->m->records[w->record], *scale = part_of(w, SD_PART_SCALE, NULL),
			       *index = part_of(w, SD_PART_INDEX, NULL);
	uint64_t words = r->shape[r->rank - 1], width = width_of(part_of(w, SD_PART_CHECK, NULL));

	if (index && index->rank == 1)
		width = index->shape[0];
	for (uint32_t g = 0; g < w->said->nbits; g++) {
		uint64_t bits = w->said->bits[g], own = width, groups = scale->rank ? scale->shape[scale->rank - 1] : 1;

		if (!own && groups > 1 && w->said->group[g])
			(void)!sd_mul(groups, w->said->group[g], &own);
		if (!own && bits)
			own = words * 32 / bits;
		if (!is_row(own, bits, words))
			continue;
		c->bits = (uint32_t)bits;
		c->shape[c->rank - 1] = own;
		return true;
	}
	return false;
}

/* GPTQ and AWQ: [i, o], as words lie. */
static bool measure_down(const struct weight *w, struct codes *c)
{
	const struct sd_record *r = &w->m->records[w->record], *index = part_of(w, SD_PART_INDEX, NULL);
	uint64_t bits = w->said->nbits ? w->said->bits[0] : 4;

	if (r->rank != 2 || r->shape[0] > UINT64_MAX / 32)
		return false;
	if (w->scheme->form == SD_FORM_AWQ) {
		c->bits = 4;
		return bits == 4 && sd_mul(r->shape[1], 8, &c->shape[1]);
	}
	if (index && index->rank == 1 && index->shape[0] && r->shape[0] * 32 % index->shape[0] == 0)
		bits = r->shape[0] * 32 / index->shape[0];
	if (!bits || bits > 8)
		return false;
	c->bits = (uint32_t)bits;
	c->shape[0] = r->shape[0] * 32 / bits;
	c->form = w->said->sym ? SD_FORM_GPTQ_EVEN : w->said->v2 ? SD_FORM_GPTQ_V2 : SD_FORM_GPTQ;
	return is_row(c->shape[0], bits, r->shape[0]);
}

struct list {
	uint64_t *numbers;
	uint32_t n;
	bool good;
};

static void take_size(void *user, const char *value)
{
	struct list *list = user;

	list->good = list->good && list->n < 8 && sd_text_number(value, &list->numbers[list->n]);
	list->n += list->good;
}

/* bitsandbytes: what its state says, which is JSON in a tensor. */
static bool measure_state(const struct weight *w, struct codes *c)
{
	const struct sd_record *r = &w->m->records[w->record], *state = &w->m->records[w->part[4]];
	struct sd_side_file file = {"state", state->value, state->bytes};
	struct list list = {c->shape, 0, true};
	char text[64], *end;
	uint64_t count, bytes;
	float offset;

	if (!state->value)
		return false;
	sd_config_find(&file, "shape", take_size, &list);
	c->rank = list.n;
	sd_config_text(&file, "blocksize", text, sizeof(text));
	if (!list.good || !list.n || !sd_text_number(text, &c->flat) || !c->flat)
		return false;
	sd_config_text(&file, "dtype", text, sizeof(text));
	c->native = sd_dtype_typed(text);
	if (c->native != SD_BF16 && c->native != SD_F16 && c->native != SD_F32)
		return false;
	if (part_of(w, SD_PART_NESTED, NULL)) {
		sd_config_text(&file, "nested_blocksize", text, sizeof(text));
		if (!sd_text_number(text, &c->nested) || !c->nested)
			return false;
		sd_config_text(&file, "nested_offset", text, sizeof(text));
		offset = strtof(text, &end);
		if (end == text || *end)
			return false;
		memcpy(&c->offset, &offset, sizeof(offset));
		c->has_offset = true;
	}
	return sd_shape_count(c->shape, c->rank, &count) && sd_dtype_bytes((enum sd_dtype)r->dtype, 1, &bytes) &&
	       r->bytes >= count / 2 + count % 2 && r->bytes < count / 2 + count % 2 + bytes;
}

/* False where the shapes are not those of such a weight. */
static bool measure(const struct weight *w, struct codes *c)
{
	const struct sd_record *r = &w->m->records[w->record];

	*c = (struct codes){.rank = r->rank, .form = w->scheme->form};
	if (r->rank < (w->scheme->grid == FLAT ? 1U : 2U) || r->rank > SD_RANK_MAX)
		return false;
	memcpy(c->shape, r->shape, r->rank * sizeof(*c->shape));
	switch (w->scheme->form) {
	case SD_FORM_INTEGERS:
		return measure_integers(w, c);
	case SD_FORM_GPTQ:
	case SD_FORM_AWQ:
		return measure_down(w, c);
	case SD_FORM_NF4:
	case SD_FORM_FP4:
		c->bits = 4;
		return measure_state(w, c);
	case SD_FORM_NVFP4_DOWN:
		c->bits = 4;
		return sd_mul(c->shape[r->rank - 2], 2, &c->shape[r->rank - 2]);
	case SD_FORM_NVFP4:
	case SD_FORM_NVFP4_BY:
		c->bits = 4;
		return sd_mul(c->shape[r->rank - 1], 2, &c->shape[r->rank - 1]);
	default:
		c->bits = 8;
		return true;
	}
}

/* The blocks of scales that lie as the codes do, groups down the rows. */
static bool lay_down(const struct weight *w, const struct codes *c, const struct sd_record *scale, struct sd_block *b)
{
	uint64_t rows = c->shape[c->rank - 2], columns = c->shape[c->rank - 1], stride = 1;
	uint64_t groups = scale->rank == c->rank ? scale->shape[c->rank - 2] : 0, group = w->scheme->group;

	if (!groups || !rows || scale->shape[c->rank - 1] != columns)
		return false;
	if (!group)
		group = w->said->nbits && w->said->group[0] ? w->said->group[0] : rows;
	if (rows / group + (rows % group != 0) != groups)
		group = rows % groups == 0 ? rows / groups : part_of(w, SD_PART_INDEX, NULL) ? rows : 0;
	for (uint32_t k = c->rank; k-- > 0; stride *= scale->shape[k]) {
		b[k] = (struct sd_block){k + 2 == c->rank ? group : 1, stride};
		if (k + 2 < c->rank && scale->shape[k] != c->shape[k])
			return false;
	}
	return group > 0;
}

static bool lay_scales(const struct weight *w, const struct codes *c, const struct sd_record *scale,
		       struct sd_step *step)
{
	struct sd_block *b = new_blocks(w, c->rank);
	const struct sd_form *form = sd_form_of(c->form, c->bits);
	bool indexed = part_of(w, SD_PART_INDEX, NULL);

	step->blocks = b;
	step->rank = c->rank;
	if (!b || !form)
		return false;
	if (form->down)
		return lay_down(w, c, scale, b);
	if (w->scheme->grid == FLAT) {
		step->rank = 1;
		b[0] = (struct sd_block){c->flat, 1};
		return true;
	}
	if (indexed && scale->rank == 2 && c->rank == 2 && scale->shape[0] == c->shape[0]) {
		b[0] = (struct sd_block){1, scale->shape[1]};
		b[1] = (struct sd_block){c->shape[1] / (scale->shape[1] ? scale->shape[1] : 1) + 1, 1};
		if (scale->shape[1] && c->shape[1] % scale->shape[1] == 0)
			b[1].block = c->shape[1] / scale->shape[1];
		return b[1].block > 0;
	}
	return lay_grid(w, scale, c->shape, c->rank, w->scheme->group, b);
}

/* Steps of codes that are decoded with their parts. */
static enum sd_result decode(struct weight *w, const struct codes *c)
{
	struct sd_dequantised *becomes = w->becomes;
	struct sd_block *sizes = new_blocks(w, c->rank);
	struct sd_step *step = add_step(w, SD_STEP_DECODE, c->native);

	if (!sizes)
		return sd_fail_memory(w->err);
	for (uint32_t k = 0; k < c->rank; k++)
		sizes[k].block = c->shape[k];
	step->param = SD_DECODE(c->form, c->bits);
	step->rank = c->rank;
	step->blocks = sizes;
	for (size_t n = 0; n < COUNT(w->scheme->needs) && w->scheme->needs[n].word; n++) {
		const struct sd_record *part;

		if (w->part[n] == SD_NO_RECORD)
			continue;
		part = &w->m->records[w->part[n]];
		step = add_step(w, SD_STEP_WITH, c->native);
		step->operand = w->part[n];
		step->param = w->scheme->needs[n].part;
		if (step->param == SD_PART_SCALE && !lay_scales(w, c, part, step))
			return fail_shape(w, part);
		if (step->param == SD_PART_NESTED && c->nested) {
			struct sd_block *nested = new_blocks(w, 1);

			if (!nested)
				return sd_fail_memory(w->err);
			nested[0] = (struct sd_block){c->nested, 1};
			step->rank = 1;
			step->blocks = nested;
		}
	}
	if (c->has_offset) {
		struct sd_block *offset = new_blocks(w, 1);

		if (!offset)
			return sd_fail_memory(w->err);
		offset[0] = (struct sd_block){1, c->offset};
		step = add_step(w, SD_STEP_WITH, c->native);
		step->param = SD_PART_OFFSET;
		step->rank = 1;
		step->blocks = offset;
	}
	becomes->turned = w->scheme->form == SD_FORM_GPTQ || w->scheme->form == SD_FORM_AWQ;
	becomes->packs_input = becomes->turned;
	becomes->shape = sd_arena_copy(w->arena, c->shape, (c->rank + 1) * sizeof(*c->shape));
	becomes->rank = c->rank;
	if (!becomes->shape)
		return sd_fail_memory(w->err);
	if (becomes->turned) {
		uint64_t *shape = (uint64_t *)becomes->shape;

		shape[0] = c->shape[1];
		shape[1] = c->shape[0];
	}
	return SD_OK;
}

/* ---- all of it ---- */

static const char *plain_name(struct sd_arena *arena, const char *name)
{
	struct sd_name_role role = sd_name_role(name);

	if (role.role == SD_ROLE_CODES && name[role.stem] == '.')
		return sd_arena_printf(arena, "%.*s.weight", (int)role.stem, name);
	return sd_arena_text(arena, name, role.role == SD_ROLE_CODES ? role.stem : strlen(name));
}

static enum sd_result check_zero(const struct weight *w)
{
	uint32_t zero;

	if (w->said->method != SD_QUANT_COMPRESSED_TENSORS || !w->said->symmetric || !part_of(w, SD_PART_ZERO, &zero))
		return SD_OK;
	return fail(w, zero, "config.json says that it is symmetric");
}

static enum sd_result make_steps(struct weight *w)
{
	const struct sd_record *r = &w->m->records[w->record], *state;
	struct codes codes;
	enum sd_result result;
	enum sd_dtype native;
	char shape[SD_SHAPE_TEXT];

	if (w->scheme->how == DECODED) {
		if (!measure(w, &codes)) {
			state = w->scheme->native == STATE ? &w->m->records[w->part[4]] : NULL;
			if (state)
				return sd_fail(w->err, SD_INPUT,
					       state->value
						       ? "%s: it says nothing that %s could be"
						       : "%s: what it says of %s did not come with the manifest: let "
							 "sd-cat read the files",
					       state->key, r->key);
			return sd_fail(w->err, SD_INPUT, "%s: %s %s is no shape of %s, as config.json has them", r->key,
				       sd_dtype_name(r->dtype), sd_shape_text(r->shape, r->rank, shape, sizeof(shape)),
				       w->scheme->name);
		}
		if (w->scheme->native != STATE)
			codes.native = native_of(w, SD_NO_DTYPE);
		if (codes.native == SD_F64)
			codes.native = SD_F32;
		result = decode(w, &codes);
		native = codes.native;
	} else {
		native = native_of(w, SD_NO_DTYPE);
		result = scale_elements(w, native);
	}
	if (result == SD_OK && native != w->dtype)
		add_step(w, SD_STEP_CAST, w->dtype);
	return result;
}

enum sd_result sd_dequantise(const struct sd_manifest *m, const struct sd_companions *companions,
			     const struct sd_quant_said *said, uint32_t weight, const char *name, enum sd_dtype dtype,
			     struct sd_arena *arena, struct sd_dequantised *becomes, struct sd_error *err)
{
	struct weight w = {.m = m,
			   .companions = companions,
			   .said = said,
			   .arena = arena,
			   .record = weight,
			   .dtype = dtype,
			   .becomes = becomes,
			   .err = err};
	enum sd_result result;

	*becomes = (struct sd_dequantised){.name = plain_name(arena, name)};
	w.steps = sd_arena_array(arena, COUNT(w.part) + 4, sizeof(*w.steps));
	if (!becomes->name || !w.steps)
		return sd_fail_memory(err);
	result = find_scheme(&w);
	if (result == SD_OK)
		result = check_zero(&w);
	if (result == SD_OK)
		result = make_steps(&w);
	becomes->steps = w.steps;
	return result;
}

bool sd_is_quantised(const struct sd_manifest *m, const struct sd_companions *c, uint32_t record)
{
	const struct sd_record *r = &m->records[record];
	enum sd_role role;

	if (!c->role || record >= c->n)
		role = sd_name_role(r->key).role;
	else if (c->weight[record] != SD_NO_RECORD)
		return false;
	else
		role = (enum sd_role)c->role[record];
	if (c->role && record < c->n && sd_companion_of(c, record) != SD_NO_RECORD)
		return true;
	/* F8 are numbers whatever they are called, but not without a scale. */
	if (role == SD_ROLE_CODES || (role == SD_ROLE_PLAIN && r->dtype == SD_F8_E4M3))
		return true;
	return role == SD_ROLE_WEIGHT && r->rank >= 2 && sd_dtype_is_codes((enum sd_dtype)r->dtype);
}
