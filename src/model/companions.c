/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the companions of quantised weights, by their names. */
#include "model/companions.h"
#include "base/names.h"
#include "model/config_json.h"
#include "model/dequant.h"
#include "model/scales.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A word of names and what it says. */
struct word {
	const char *text;
	enum sd_role role;
	bool weak;
};

/* clang-format off: a word a line */

/*
 * The last part of a key, behind a module's name and a dot. Sources: compressed-tensors 0.20, modelopt 0.47,
 * transformers 5.18 (fp8, fbgemm_fp8, bitsandbytes, mxfp4), AutoAWQ, GPTQModel, torchao, HQQ, EETQ, MLX, ComfyUI,
 * Mistral, AQLM, HIGGS, FP-Quant, ExLlamaV2.
 */
static const struct word MODULE_WORDS[] = {
	{"weight", SD_ROLE_WEIGHT, false},
	{"weight_packed", SD_ROLE_CODES, false},
	{"qweight", SD_ROLE_CODES, false},
	{"W_q", SD_ROLE_CODES, false},
	{"_weight_qdata", SD_ROLE_CODES, false},
	{"q_weight", SD_ROLE_CODES, false},
	{"codes", SD_ROLE_CODES, false},
	{"weight_scale_inv", SD_ROLE_BLOCK_SCALE, false},
	{"weight_scale", SD_ROLE_FACTOR, true},
	{"weight_scale_2", SD_ROLE_FACTOR, true},
	{"weight_scales", SD_ROLE_FACTOR, true},
	{"weight_global_scale", SD_ROLE_FACTOR, true},
	{"weight_zero_point", SD_ROLE_FACTOR, true},
	{"weight_g_idx", SD_ROLE_FACTOR, true},
	{"weight_absmax", SD_ROLE_FACTOR, false},
	{"weight_quant_map", SD_ROLE_FACTOR, false},
	{"weight_nested_absmax", SD_ROLE_FACTOR, false},
	{"weight_nested_quant_map", SD_ROLE_FACTOR, false},
	{"weight_quant_state", SD_ROLE_FACTOR, false},
	{"weight_scb", SD_ROLE_FACTOR, false},
	{"weight_format", SD_ROLE_FACTOR, true},
	{"_weight_scale", SD_ROLE_FACTOR, true},
	{"_weight_zero_point", SD_ROLE_FACTOR, true},
	{"_weight_per_tensor_scale", SD_ROLE_FACTOR, true},
	{"scale_weight", SD_ROLE_FACTOR, true},
	{"qzeros", SD_ROLE_FACTOR, false},
	{"g_idx", SD_ROLE_FACTOR, false},
	{"SCB", SD_ROLE_FACTOR, false},
	{"pre_quant_scale", SD_ROLE_FACTOR, true},
	{"svdquant_lora_a", SD_ROLE_FACTOR, true},
	{"svdquant_lora_b", SD_ROLE_FACTOR, true},
	{"scale", SD_ROLE_FACTOR, true},
	{"scales", SD_ROLE_FACTOR, true},
	{"zero", SD_ROLE_FACTOR, true},
	{"biases", SD_ROLE_FACTOR, true},
	{"codebooks", SD_ROLE_FACTOR, true},
	{"qscale_weight", SD_ROLE_FACTOR, true},
	{"nbits", SD_ROLE_FACTOR, true},
	{"shape", SD_ROLE_FACTOR, true},
	{"group_size", SD_ROLE_FACTOR, true},
	{"tables", SD_ROLE_FACTOR, true},
	{"tables2", SD_ROLE_FACTOR, true},
	{"forward_hadamard_matrix", SD_ROLE_FACTOR, true},
	{"backward_hadamard_matrix", SD_ROLE_FACTOR, true},
	{"q_scale_max", SD_ROLE_FACTOR, true},
	{"q_groups", SD_ROLE_FACTOR, true},
	{"q_group_map", SD_ROLE_FACTOR, true},
	{"q_perm", SD_ROLE_FACTOR, true},
	{"q_invperm", SD_ROLE_FACTOR, true},
	{"weight_shape", SD_ROLE_SHAPE, false},
	{"input_scale", SD_ROLE_ACTIVATION, true},
	{"input_scale_ub", SD_ROLE_ACTIVATION, true},
	{"input_global_scale", SD_ROLE_ACTIVATION, true},
	{"input_zero_point", SD_ROLE_ACTIVATION, true},
	{"activation_scale", SD_ROLE_ACTIVATION, true},
	{"output_scale", SD_ROLE_ACTIVATION, true},
	{"scale_input", SD_ROLE_ACTIVATION, true},
	{"qscale_act", SD_ROLE_ACTIVATION, true},
	{"act_global_scale", SD_ROLE_ACTIVATION, true},
	{"k_scale", SD_ROLE_ACTIVATION, true},
	{"v_scale", SD_ROLE_ACTIVATION, true},
	{"q_scale", SD_ROLE_ACTIVATION, true},
	{"kv_scale", SD_ROLE_ACTIVATION, true},
	{"k_zero_point", SD_ROLE_ACTIVATION, true},
	{"v_zero_point", SD_ROLE_ACTIVATION, true},
};

/* What goes on behind the name of a tensor: bitsandbytes and quanto. */
static const struct word TAILS[] = {
	{".absmax", SD_ROLE_FACTOR, false},
	{".quant_map", SD_ROLE_FACTOR, false},
	{".nested_absmax", SD_ROLE_FACTOR, false},
	{".nested_quant_map", SD_ROLE_FACTOR, false},
	{".quant_state.bitsandbytes__nf4", SD_ROLE_FACTOR, false},
	{".quant_state.bitsandbytes__fp4", SD_ROLE_FACTOR, false},
	{"._data", SD_ROLE_CODES, false},
	{"._scale", SD_ROLE_FACTOR, false},
	{"._shift", SD_ROLE_FACTOR, false},
};

/* The end of a parameter's name: X_scale beside X; gpt-oss, Llama 4, experts as one tensor. The longer ones first. */
static const struct word PARAMETER_ENDS[] = {
	{"_activation_scale", SD_ROLE_ACTIVATION, true},
	{"_input_scale", SD_ROLE_ACTIVATION, true},
	{SD_SCALE_SUFFIX, SD_ROLE_BLOCK_SCALE, false},
	{"_scale_2", SD_ROLE_FACTOR, true},
	{"_global_scale", SD_ROLE_FACTOR, true},
	{"_scale", SD_ROLE_FACTOR, true},
	{"_scales", SD_ROLE_FACTOR, true},
	{"_zero_point", SD_ROLE_FACTOR, true},
	{"_blocks", SD_ROLE_CODES, false},
	{"_packed", SD_ROLE_CODES, false},
};

/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static bool ends_in(const char *name, size_t length, const char *end)
{
	size_t own = strlen(end);

	return length > own && memcmp(name + length - own, end, own) == 0;
}

/* The first of the words that the name ends in, or NULL. */
static const struct word *find_end(const char *name, size_t length, const struct word *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ends_in(name, length, words[i].text))
			return &words[i];
	return NULL;
}

struct sd_name_role sd_name_role(const char *name)
{
	size_t length = strlen(name);
	const char *dot = strrchr(name, '.'), *last = dot ? dot + 1 : name;
	const struct word *word;

	if (strcmp(last, "bias") == 0)
		return (struct sd_name_role){SD_ROLE_PLAIN, length, false};
	for (size_t i = 0; dot && dot > name && i < COUNT(MODULE_WORDS); i++)
		if (strcmp(last, MODULE_WORDS[i].text) == 0)
			return (struct sd_name_role){MODULE_WORDS[i].role, (size_t)(dot - name), MODULE_WORDS[i].weak};
	word = find_end(name, length, TAILS, COUNT(TAILS));
	if (word) {
		length -= strlen(word->text);
		if (ends_in(name, length, ".weight"))
			length -= strlen(".weight");
		return (struct sd_name_role){word->role, length, word->weak};
	}
	word = find_end(last, strlen(last), PARAMETER_ENDS, COUNT(PARAMETER_ENDS));
	length -= word ? strlen(word->text) : 0;
	/* w2_weight_scale_inv is beside w2_weight, and gate_up_proj_weight_scale beside gate_up_proj. */
	while (ends_in(name, length, "_weight"))
		length -= strlen("_weight");
	return (struct sd_name_role){word ? word->role : SD_ROLE_PLAIN, length, word && word->weak};
}

bool sd_names_belong(const char *a, const char *b)
{
	size_t length = sd_name_role(a).stem;

	return sd_name_role(b).stem == length && memcmp(a, b, length) == 0;
}

bool sd_dtype_is_codes(enum sd_dtype dtype)
{
	switch (dtype) {
	case SD_F8_E5M2FNUZ:
	case SD_F8_E4M3FNUZ:
	case SD_F8_E8M0:
	case SD_F8_E4M3:
	case SD_F8_E5M2:
	case SD_F6_E3M2:
	case SD_F6_E2M3:
	case SD_F4:
	case SD_I8:
	case SD_U8:
	case SD_I16:
	case SD_U16:
	case SD_I32:
	case SD_U32:
		return true;
	default:
		return false;
	}
}

static bool is_companion(enum sd_role role)
{
	return role >= SD_ROLE_BLOCK_SCALE;
}

/* The search: one entry for each stem that companions have. */
struct search {
	const struct sd_manifest *m;
	const char **names; /* by record: of its target, where that is the record as it came; else the key */
	struct sd_companions *c;
	struct sd_names stems;
	struct sd_arena arena;
	uint32_t *weights; /* of each stem */
	size_t nstems, room;
};

/* The number of the stem of a key; added if it is new. SD_NO_NAME when memory is out. */
static uint32_t add_stem(struct search *s, const char *key, size_t length)
{
	char *stem = sd_arena_text(&s->arena, key, length);
	uint32_t number = stem ? sd_names_add(&s->stems, stem, (uint32_t)s->nstems) : SD_NO_NAME;

	if (number != s->nstems) {
		if (stem)
			sd_arena_undo(&s->arena, stem);
		return number;
	}
	if (!sd_array_grow(&s->weights, s->nstems, &s->room, sizeof(*s->weights)))
		return SD_NO_NAME;
	s->weights[s->nstems++] = SD_NO_RECORD;
	return number;
}

/* The number of the stem of a key, or SD_NO_NAME where no companion has it. *memory: whether there was enough. */
static uint32_t find_stem(struct search *s, const char *key, size_t length, bool *memory)
{
	char *stem;
	uint32_t number;

	if (!key[length])
		return sd_names_find(&s->stems, key);
	stem = sd_arena_text(&s->arena, key, length);
	*memory = *memory && stem;
	if (!stem)
		return SD_NO_NAME;
	number = sd_names_find(&s->stems, stem);
	sd_arena_undo(&s->arena, stem);
	return number;
}

/* Gives each stem its weight: the record whose name says most about being one. */
static bool find_weights(struct search *s)
{
	bool memory = true;

	for (size_t i = 0; i < s->m->nrecords && memory; i++) {
		const char *key = s->names[i];
		struct sd_name_role name = sd_name_role(key);
		uint32_t stem;

		if (is_companion(name.role))
			continue;
		stem = find_stem(s, key, name.stem, &memory);
		if (stem != SD_NO_NAME &&
		    (s->weights[stem] == SD_NO_RECORD || s->c->role[s->weights[stem]] < name.role))
			s->weights[stem] = (uint32_t)i;
	}
	return memory;
}

/* Ties each companion to its weight. Backwards, so that the lists are in the order of the records. */
static bool tie(struct search *s)
{
	struct sd_companions *c = s->c;
	bool memory = true;

	for (size_t i = s->m->nrecords; i-- > 0 && memory;) {
		const char *key = s->names[i];
		struct sd_name_role name = sd_name_role(key);
		uint32_t stem, weight;

		if (!is_companion(name.role))
			continue;
		stem = find_stem(s, key, name.stem, &memory);
		weight = stem == SD_NO_NAME ? SD_NO_RECORD : s->weights[stem];
		if (name.weak && (weight == SD_NO_RECORD || (!sd_dtype_is_codes(s->m->records[weight].dtype) &&
							     c->role[weight] != SD_ROLE_CODES))) {
			c->role[i] = SD_ROLE_PLAIN;
			continue;
		}
		c->weight[i] = weight;
		if (weight == SD_NO_RECORD)
			continue;
		c->next[i] = c->first[weight];
		c->first[weight] = (uint32_t)i;
	}
	return memory;
}

/* The roles of all keys, and the stems of those that are companions or packed weights. */
static bool read_keys(struct search *s)
{
	for (size_t i = 0; i < s->m->nrecords; i++) {
		const char *key = s->names[i];
		struct sd_name_role name = sd_name_role(key);

		s->c->role[i] = (uint8_t)name.role;
		if (name.role >= SD_ROLE_CODES && add_stem(s, key, name.stem) == SD_NO_NAME)
			return false;
	}
	return true;
}

/* What each record is called: it may have been renamed since it was read, or be joined with others by its key. */
static const char **name_records(const struct sd_manifest *m)
{
	const char **names = calloc(m->nrecords + 1, sizeof(*names));

	for (size_t i = 0; names && i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];

		if (!names[t->record] && sd_target_is_record(m, t))
			names[t->record] = t->name;
		else
			names[t->record] = m->records[t->record].key;
	}
	for (size_t i = 0; names && i < m->nrecords; i++)
		names[i] = names[i] ? names[i] : m->records[i].key;
	return names;
}

static bool any(const struct sd_manifest *m, const char *const *names)
{
	for (size_t i = 0; i < m->nrecords; i++)
		if (sd_name_role(names[i]).role >= SD_ROLE_CODES)
			return true;
	return false;
}

enum sd_result sd_companions_find(const struct sd_manifest *m, struct sd_companions *c, struct sd_error *err)
{
	struct search s = {.m = m, .names = name_records(m), .c = c};
	bool good;

	*c = (struct sd_companions){.n = m->nrecords};
	if (!s.names)
		return sd_fail_memory(err);
	if (!any(m, s.names)) {
		free(s.names);
		return SD_OK;
	}
	c->role = calloc(m->nrecords, sizeof(*c->role));
	c->weight = malloc(m->nrecords * sizeof(*c->weight));
	c->first = malloc(m->nrecords * sizeof(*c->first));
	c->next = malloc(m->nrecords * sizeof(*c->next));
	good = c->role && c->weight && c->first && c->next;
	for (size_t i = 0; i < m->nrecords && good; i++)
		c->weight[i] = c->first[i] = c->next[i] = SD_NO_RECORD;
	good = good && read_keys(&s) && find_weights(&s) && tie(&s);
	sd_names_free(&s.stems);
	sd_arena_free(&s.arena);
	free(s.weights);
	free(s.names);
	return good ? SD_OK : sd_fail_memory(err);
}

void sd_companions_free(struct sd_companions *c)
{
	free(c->role);
	free(c->weight);
	free(c->first);
	free(c->next);
	*c = (struct sd_companions){0};
}

uint32_t sd_companion_of(const struct sd_companions *c, uint32_t weight)
{
	uint32_t i = c->role && weight < c->n ? c->first[weight] : SD_NO_RECORD;

	while (i != SD_NO_RECORD && c->role[i] != SD_ROLE_BLOCK_SCALE && c->role[i] != SD_ROLE_FACTOR)
		i = c->next[i];
	return i;
}

bool sd_is_dequantised(const struct sd_companions *c, const struct sd_target *t, uint32_t weight)
{
	for (uint32_t k = 0; k < t->nsteps; k++)
		if ((t->steps[k].kind == SD_STEP_BLOCK_SCALE || t->steps[k].kind == SD_STEP_WITH) &&
		    t->steps[k].operand < c->n && c->weight[t->steps[k].operand] == weight)
			return true;
	return false;
}

/* ---- what is told ---- */

/* The first value at one of these paths that is a short word; "" where there is none. */
static void look_up(const struct sd_side_file *file, const char *const *paths, size_t n, char word[32])
{
	char text[33];

	*word = '\0';
	for (size_t i = 0; i < n && !*word; i++) {
		size_t length;

		sd_config_text(file, paths[i], text, sizeof(text));
		length = strlen(text);
		if (length < 32 &&
		    strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == length)
			memcpy(word, text, length + 1);
	}
}

/* " (modelopt NVFP4)", or nothing where no file says it. */
static const char *format_text(const struct sd_manifest *m, char *text, size_t size)
{
	static const char *const methods[] = {"quantization_config.quant_method",
					      "text_config.quantization_config.quant_method"};
	static const char *const formats[] = {"quantization_config.quant_algo", "quantization_config.format",
					      "quantization_config.fmt", "text_config.quantization_config.quant_algo",
					      "text_config.quantization_config.format"};
	static const char *const producer[] = {"producer.name"}, *const algorithm[] = {"quantization.quant_algo"};
	const struct sd_side_file *config = sd_manifest_side(m, "config.json"),
				  *modelopt = sd_manifest_side(m, "hf_quant_config.json");
	char method[32], format[32];

	look_up(config, methods, COUNT(methods), method);
	look_up(config, formats, COUNT(formats), format);
	if (!*method) {
		look_up(modelopt, producer, COUNT(producer), method);
		look_up(modelopt, algorithm, COUNT(algorithm), format);
	}
	snprintf(text, size, *method || *format ? " (%s%s%s)" : "", method, *method && *format ? " " : "", format);
	return text;
}

/* Whether sd-cast --dequant can read this weight. */
static bool is_readable(const struct sd_manifest *m, const struct sd_companions *c, uint32_t weight)
{
	struct sd_arena arena = {0};
	struct sd_quant_said said;
	struct sd_dequantised becomes;
	bool readable =
		sd_quant_read(m, &arena, &said, NULL) == SD_OK &&
		sd_dequantise(m, c, &said, weight, m->records[weight].key, SD_BF16, &arena, &becomes, NULL) == SD_OK;

	sd_arena_free(&arena);
	return readable;
}

enum sd_result sd_companions_fail(const struct sd_manifest *m, const struct sd_companions *c, uint32_t weight,
				  uint32_t companion, const char *problem, struct sd_error *err)
{
	const struct sd_record *w = &m->records[weight];
	char format[80];

	if (!err)
		return SD_INPUT;
	return sd_fail(err, SD_INPUT, "%s (%s) is stored with %s%s: %s; %s", w->key, sd_dtype_name(w->dtype),
		       companion == SD_NO_RECORD ? "nothing beside it" : m->records[companion].key,
		       format_text(m, format, sizeof(format)), problem,
		       is_readable(m, c, weight) ? "put sd-cast --dequant=BF16 before this"
						 : "sd-cast --dequant does not read this format yet: take a release "
						   "that is not quantised");
}
