/* SPDX-License-Identifier: Apache-2.0 */
/* Compares sizes of the language model's tensors with config.json: hidden, vocabulary, experts. */
#include "model/siblings_search.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum holder { LAYERS, BESIDE, TOP }; /* behind the number of a layer, beside the layers, in front of all */

/* Where a size stands in tensors. */
struct place {
	enum holder holder;
	const char *name; /* with numbers as "*" */
	uint32_t rank, dimension;
	bool plain; /* that no design has another size there */
};

static const struct place HIDDEN[] = {
	{BESIDE, "embed_tokens.weight", 2, 1, true},
	{TOP, "lm_head.weight", 2, 1, true},
	{BESIDE, "norm.weight", 1, 0, true},
	{LAYERS, "input_layernorm.weight", 1, 0, true},
	{LAYERS, "post_attention_layernorm.weight", 1, 0, true},
	{LAYERS, "mlp.gate.weight", 2, 1, false},
	{LAYERS, "mlp.experts.*.gate_proj.weight", 2, 1, false},
	{LAYERS, "mlp.experts.*.up_proj.weight", 2, 1, false},
	{LAYERS, "mlp.experts.*.down_proj.weight", 2, 0, false},
	{LAYERS, "mlp.experts.gate_and_up_projs", 3, 1, false},
	{LAYERS, "mlp.experts.down_projs", 3, 2, false},
};

static const struct place VOCABULARY[] = {
	{BESIDE, "embed_tokens.weight", 2, 0, true},
	{TOP, "lm_head.weight", 2, 0, true},
};

static const struct place ROUTERS[] = {
	{LAYERS, "mlp.gate.weight", 2, 0, true},
	{LAYERS, "block_sparse_moe.gate.weight", 2, 0, true},
};

static const struct place WIDTHS[] = {
	{LAYERS, "mlp.experts.*.gate_proj.weight", 2, 0, true},
	{LAYERS, "mlp.experts.*.down_proj.weight", 2, 1, true},
	{LAYERS, "mlp.experts.down_projs", 3, 1, true},
};

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* What most tensors are that stand at a place; NULL: there are none, or they are of another kind. */
static const struct sd_sibling_variant *find_tensor(const struct sd_siblings *s, const struct place *place)
{
	static const char *const between[] = {[LAYERS] = ".*.", [BESIDE] = "", [TOP] = ""};
	size_t length = place->holder == TOP ? 0 : s->layers_length;
	const struct sd_sibling_variant *most = NULL;
	const struct sd_sibling_class *class;
	char pattern[NAME_MAX_LENGTH + 1];
	uint32_t number;

	while (place->holder == BESIDE && length && s->layers[length - 1] != '.')
		length--;
	if (snprintf(pattern, sizeof(pattern), "%.*s%s%s", (int)length, s->layers, between[place->holder],
		     place->name) > NAME_MAX_LENGTH)
		return NULL;
	number = sd_names_find(&s->class_names, pattern);
	class = number == SD_NO_NAME ? NULL : &s->classes[number];
	for (size_t v = 0; class && v < class->nvariants && v < VARIANTS_MAX; v++)
		if (!most || class->variants[v].n > most->n)
			most = &class->variants[v];
	return most && most->first->rank == place->rank && sd_dtype_is_float(most->first->dtype) ? most : NULL;
}

/* The size that more than half of the tensors have which say the hidden size; 0: none. */
static uint64_t most_hidden(const struct sd_siblings *s)
{
	uint64_t size = 0;
	size_t votes = 0, n = 0, have = 0;

	for (int counting = 0; counting < 2; counting++)
		for (size_t i = 0; i < COUNT(HIDDEN); i++) {
			const struct sd_sibling_variant *found = HIDDEN[i].plain ? find_tensor(s, &HIDDEN[i]) : NULL;
			uint64_t now = found ? found->first->shape[HIDDEN[i].dimension] : 0;

			if (!found)
				continue;
			n += !counting;
			have += counting && now == size;
			size = counting || votes ? size : now;
			if (!counting)
				votes = now == size ? votes + 1 : votes - 1;
		}
	return have >= 2 && 2 * have > n ? size : 0;
}

static struct sd_finding *add(struct sd_siblings *s, const struct sd_sibling_variant *odd)
{
	struct sd_finding *f = sd_siblings_add_finding(s, SD_ODD_SHAPE, odd->first->name);

	if (f) {
		f->is = odd->first;
		f->tensors = odd->n;
	}
	return f;
}

/* "KEY, with 5 more, is [16,64], and config.json says num_experts 8" */
static void tell(struct sd_siblings *s, const struct sd_sibling_variant *odd, const char *field, uint64_t size,
		 const char *more)
{
	struct sd_finding *f = add(s, odd);
	char shape[SD_SHAPE_TEXT], others[48] = "";

	if (!f)
		return;
	sd_shape_brief(odd->first->shape, odd->first->rank, shape, sizeof(shape));
	if (odd->n > 1)
		snprintf(others, sizeof(others), ", with %zu more,", odd->n - 1);
	f->line = field ? sd_arena_printf(s->arena, "%s%s is %s, and config.json says %s %" PRIu64 "%s", f->name,
					  others, shape, field, size, more)
			: sd_arena_printf(s->arena, "%s%s is %s, and the hidden size is %" PRIu64 " elsewhere%s",
					  f->name, others, shape, size, more);
}

/* Whether the sizes of a place are exchanged: the one that should be there is in the other one of the last two. */
static bool is_swapped(const struct place *place, const struct sd_target *t, uint64_t size)
{
	uint32_t first = place->rank - 2, other;

	if (place->rank < 2)
		return false;
	other = place->dimension == first ? first + 1 : first;
	return t->shape[place->dimension] != size && t->shape[other] == size;
}

/* config.json says another size than the tensors have, which are of one mind. */
static bool contradict(struct sd_siblings *s, uint64_t size, const char *field, uint64_t most)
{
	const struct sd_sibling_variant *first = NULL;

	for (size_t i = 0; i < COUNT(HIDDEN) && !first; i++) {
		first = HIDDEN[i].plain ? find_tensor(s, &HIDDEN[i]) : NULL;
		if (first && first->first->shape[HIDDEN[i].dimension] != most)
			first = NULL;
	}
	if (!field || !most || size == most || !first)
		return false;
	/* Programs that quantise write a config.json of their own, in which sizes are seldom looked at. */
	if (!s->quantised)
		tell(s, first, field, size, "");
	return true;
}

/* The hidden size; 0: unknown. It takes two tensors of one mind that a third one, or config.json, is compared with. */
static uint64_t compare_hidden(struct sd_siblings *s)
{
	uint64_t size, most = most_hidden(s);
	const char *field;

	if (!sd_config_size(s->m, SD_CONFIG_HIDDEN, &size, &field) || contradict(s, size, field, most)) {
		size = most;
		field = NULL;
	}
	if (size != most)
		return 0;
	for (size_t i = 0; i < COUNT(HIDDEN) && size && s->memory; i++) {
		const struct sd_sibling_variant *found = find_tensor(s, &HIDDEN[i]);
		bool swapped = found && is_swapped(&HIDDEN[i], found->first, size);

		if (found && (swapped || (HIDDEN[i].plain && found->first->shape[HIDDEN[i].dimension] != size)))
			tell(s, found, field, size, swapped ? ": transposed?" : "");
	}
	return size;
}

/* Compares places that have this number with it. least: more is no fault. hidden: the hidden size. */
static void compare_places(struct sd_siblings *s, const struct place *places, size_t n, enum sd_config_number which,
			   bool least, uint64_t hidden)
{
	uint64_t size;
	const char *field;

	if (!sd_config_size(s->m, which, &size, &field))
		return;
	for (size_t i = 0; i < n && s->memory; i++) {
		const struct sd_sibling_variant *found = find_tensor(s, &places[i]);
		uint64_t is = found ? found->first->shape[places[i].dimension] : size;

		/* What stands in the other order is told by the hidden size. */
		if ((least ? is >= size : is == size) || is == hidden)
			continue;
		tell(s, found, field, size, "");
		return;
	}
}

void sd_siblings_compare_sizes(struct sd_siblings *s)
{
	uint64_t hidden;

	if (!s->layers)
		return;
	hidden = compare_hidden(s);
	if (!hidden)
		return;
	compare_places(s, VOCABULARY, COUNT(VOCABULARY), SD_CONFIG_VOCABULARY, true, hidden);
	compare_places(s, ROUTERS, COUNT(ROUTERS), SD_CONFIG_EXPERTS, false, hidden);
	compare_places(s, WIDTHS, COUNT(WIDTHS), SD_CONFIG_EXPERT_WIDTH, false, hidden);
}
