/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting layers and experts out of a model. */
#include "filters/cut.h"
#include "base/names.h"
#include "model/companions.h"
#include "model/config_json.h"
#include "model/scales.h"
#include "model/stack.h"

#include <inttypes.h>
#include <string.h>

static const char EXPERTS[] = "experts";

struct cutting {
	const struct sd_manifest *in;
	const struct sd_selection *numbers;
	bool renumber;
	bool router;             /* its rows are cut */
	uint64_t experts;        /* of a layer */
	struct sd_names modules; /* that experts are in: "model.layers.3.mlp" */
	struct sd_arena arena;   /* of their names */
	struct sd_manifest *out;
};

/* ---- names ---- */

/* Whether the experts of this layer are those of config.json: of the language model, or of its prediction. */
static bool is_ours(const char *name)
{
	size_t stack;
	uint32_t layer;

	return !sd_stack_layer(name, &stack, &layer) || !sd_stack_is_other(name, stack) ||
	       memmem(name, stack, "mtp", 3);
}

/* Where the part "experts" of a name begins, or NULL. */
static const char *experts_part(const char *name)
{
	for (const char *at = name; (at = strstr(at, EXPERTS)); at++)
		if ((at == name || at[-1] == '.') && at[strlen(EXPERTS)] == '.')
			return at;
	return NULL;
}

/* Whether a name in a module of experts is of its router: "gate.weight", "router_bias". */
static bool is_router(const char *rest)
{
	static const char *const modules[] = {"gate.", "router.", "moe_statics."}, *const biases[] = {"correction_bias",
												      "expert_bias",
												      "router_bias"};
	size_t n = strlen(rest);

	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules); i++)
		if (strncmp(rest, modules[i], strlen(modules[i])) == 0)
			return true;
	for (size_t i = 0; i < sizeof(biases) / sizeof(*biases); i++)
		if (n >= strlen(biases[i]) && strcmp(rest + n - strlen(biases[i]), biases[i]) == 0)
			return true;
	return false;
}

/* Whether some end of a name is of a router. */
static bool ends_in_router(const char *name)
{
	while (name && !is_router(name)) {
		name = strchr(name, '.');
		name += name != NULL;
	}
	return name != NULL;
}

static bool is_labelled(const struct cutting *c, const struct sd_target *t)
{
	return t->labels & sd_manifest_label_bit(c->in, SD_LABEL_EXPERT);
}

static bool expert_number(const char *name, size_t *stack, uint32_t *number)
{
	return sd_stack_number(name, EXPERTS, strlen(EXPERTS), stack, number);
}

/* The number of one of the layers that are cut. */
static bool layer_number(const struct cutting *c, const char *name, size_t *stack, uint32_t *number)
{
	const struct sd_selection *chosen = c->numbers;

	return chosen->layers.text && sd_stack_number(name, chosen->stack, chosen->stack_length, stack, number) &&
	       !sd_stack_is_other(name, *stack);
}

/* Gives the number behind so many bytes of a name its new value; false when memory is out. */
static bool renumber(struct cutting *c, const char **name, size_t stack, uint64_t number)
{
	const char *digits = *name + stack + 1;

	*name = sd_arena_printf(&c->out->arena, "%.*s.%" PRIu64 "%s", (int)stack, *name, number,
				digits + strspn(digits, "0123456789"));
	return *name != NULL;
}

/* ---- how many experts there are ---- */

/* The end of a name without its last part. */
static size_t without_last(const char *name, size_t length)
{
	while (length && name[length - 1] != '.')
		length--;
	return length ? length - 1 : 0;
}

/* Whether a tensor is of experts that are cut, and how much of its name is that of the module around them. */
static bool is_expert(const struct cutting *c, const struct sd_target *t, size_t *module)
{
	const char *part = experts_part(t->name), *dot = strrchr(t->name, '.');

	if (!is_ours(t->name) || (!part && (!is_labelled(c, t) || ends_in_router(t->name))))
		return false;
	*module = part ? (size_t)(part - t->name) : strlen(t->name);
	*module = part ? *module - (*module > 0) : without_last(t->name, *module);
	if (!part && dot && (strncmp(dot, ".weight", 7) == 0 || strcmp(dot, ".bias") == 0))
		*module = without_last(t->name, *module);
	return true;
}

/* Finds the modules of experts, and how many experts names and shapes tell of. */
static enum sd_result find_modules(struct cutting *c, uint64_t *most, struct sd_error *err)
{
	for (size_t i = 0; i < c->in->ntargets; i++) {
		const struct sd_target *t = &c->in->targets[i];
		size_t stack, length;
		uint32_t number;
		char *module;

		if (!is_expert(c, t, &length))
			continue;
		if (expert_number(t->name, &stack, &number))
			*most = *most > number ? *most : (uint64_t)number + 1;
		else if (t->rank > 1 && t->shape[0] > *most)
			*most = t->shape[0];
		module = sd_arena_text(&c->arena, t->name, length);
		if (!module)
			return sd_fail_memory(err);
		if (sd_names_find(&c->modules, module) != SD_NO_NAME)
			sd_arena_undo(&c->arena, module);
		else if (sd_names_add(&c->modules, module, 0) == SD_NO_NAME)
			return sd_fail_memory(err);
	}
	return SD_OK;
}

static enum sd_result count_experts(struct cutting *c, struct sd_error *err)
{
	const char *text = c->numbers->experts.text;
	uint64_t found = 0;
	enum sd_result result = find_modules(c, &found, err);

	if (result != SD_OK)
		return result;
	if (!found)
		return sd_fail(err, SD_INPUT, "--experts %s: there are no experts", text);
	if (!sd_config_count(c->in, SD_CONFIG_EXPERTS, &c->experts))
		c->experts = found;
	if (found > c->experts)
		return sd_fail(err, SD_INPUT,
			       "--experts %s: config.json counts %" PRIu64 " experts, and the tensors have %" PRIu64,
			       text, c->experts, found);
	if (!sd_numbers_below(&c->numbers->experts, c->experts))
		return sd_fail(err, SD_INPUT, "--experts %s: there is none of them; experts are 0 to %" PRIu64, text,
			       c->experts - 1);
	return SD_OK;
}

/* ---- cutting a dimension ---- */

/* The move that takes some of a dimension to their new place; false where it has too many dimensions. */
static bool move_some(const struct sd_target *t, const uint64_t *shape, uint32_t dim, uint64_t begin, uint64_t count,
		      uint64_t at, struct sd_move *move)
{
	struct sd_dim dims[SD_RANK_MAX];
	uint64_t from = 1, to = 1, first = 0, place = 0;

	for (uint32_t k = t->rank; k-- > 0;) {
		dims[k] = (struct sd_dim){k == dim ? count : t->shape[k], from, to};
		first = k == dim ? begin * from : first;
		place = k == dim ? at * to : place;
		from *= t->shape[k];
		to *= shape[k];
	}
	return sd_move_make(move, first, place, dims, t->rank);
}

/* Adds what the chosen ones have of a tensor in which dimension dim has the same for each of so many in all. */
static enum sd_result cut_dim(struct cutting *c, const struct sd_target *t, uint32_t dim,
			      const struct sd_numbers *chosen, uint64_t all, struct sd_error *err)
{
	uint64_t each = t->shape[dim] / all;
	uint64_t *shape = sd_arena_copy(&c->out->arena, t->shape, t->rank * sizeof(*shape));
	struct sd_target part = *t;
	struct sd_move room;
	size_t added;

	if (!shape)
		return sd_fail_memory(err);
	shape[dim] = sd_numbers_below(chosen, all) * each;
	if (shape[dim] == t->shape[dim])
		return sd_manifest_add_target(c->out, t) ? SD_OK : sd_fail_memory(err);
	if (sd_shape_is_empty(t->shape, t->rank))
		return sd_shard_add_empty(c->in, t, shape, c->out, err);
	if (!sd_dtype_size(c->in->records[t->record].dtype))
		return sd_fail(err, SD_INPUT, "%s: %s elements are smaller than a byte and cannot be cut", t->name,
			       sd_dtype_name(c->in->records[t->record].dtype));
	part.shape = shape;
	for (size_t i = 0; i < chosen->count && chosen->ranges[i].first < all; i++) {
		uint64_t begin = chosen->ranges[i].first, end = (uint64_t)chosen->ranges[i].last + 1;
		struct sd_move some;

		end = end < all ? end : all;
		if (!move_some(t, shape, dim, begin * each, (end - begin) * each,
			       sd_numbers_below(chosen, begin) * each, &some))
			return sd_fail(err, SD_INPUT, "%s has too many dimensions to be cut", t->name);
		if (sd_manifest_add_moved(c->out, &part, sd_target_move(c->in, t, &room), &some, &added, err) != SD_OK)
			return err->result;
	}
	return SD_OK;
}

static enum sd_result fail_dim(const struct cutting *c, const struct sd_target *t, const char *problem,
			       struct sd_error *err)
{
	char shape[SD_SHAPE_TEXT];

	return sd_fail(err, SD_INPUT, "--experts %s: %s (%s, %s): %s", c->numbers->experts.text, t->name,
		       sd_dtype_name(t->dtype), sd_shape_text(t->shape, t->rank, shape, sizeof(shape)), problem);
}

/* ---- experts ---- */

/* One that has a tensor of its own. */
static enum sd_result cut_single(struct cutting *c, const struct sd_target *t, size_t stack, uint32_t number,
				 struct sd_error *err)
{
	const struct sd_numbers *experts = &c->numbers->experts;
	struct sd_target part = *t;

	if (!sd_numbers_have(experts, number))
		return SD_OK;
	if (c->renumber && !renumber(c, &part.name, stack, sd_numbers_below(experts, number)))
		return sd_fail_memory(err);
	if (t->of && t->of != SD_OF_UNKNOWN && c->router) {
		part.number = sd_numbers_below(experts, t->number);
		part.of = sd_numbers_below(experts, t->of);
	}
	return sd_manifest_add_target(c->out, &part) ? SD_OK : sd_fail_memory(err);
}

/* Those of a layer that are together. */
static enum sd_result cut_together(struct cutting *c, const struct sd_target *t, struct sd_error *err)
{
	if (sd_scale_is_single(t->shape, t->rank))
		return sd_manifest_add_target(c->out, t) ? SD_OK : sd_fail_memory(err);
	if (t->shape[0] != c->experts)
		return fail_dim(c, t, "its first dimension does not count the experts", err);
	if (!c->router)
		return fail_dim(c, t,
				"its experts are in one tensor, and have no numbers to keep; --renumber counts "
				"what is left from 0",
				err);
	return cut_dim(c, t, 0, &c->numbers->experts, c->experts, err);
}

/* ---- routers ---- */

/* The module of experts whose router a name is of, as it is written in the table; NULL where it is of none. */
static const char *router_module(struct cutting *c, const char *name)
{
	const char *found = NULL;

	for (const char *dot = name; (dot = strchr(dot, '.')) && !found; dot++) {
		char *module = is_router(dot + 1) ? sd_arena_text(&c->arena, name, (size_t)(dot - name)) : NULL;

		if (module && sd_names_find(&c->modules, module) != SD_NO_NAME)
			found = module;
		else if (module)
			sd_arena_undo(&c->arena, module);
	}
	return found;
}

static enum sd_result cut_router(struct cutting *c, const struct sd_target *t, struct sd_error *err)
{
	bool counts_first = t->rank && t->shape[0] == c->experts;

	if (!sd_dtype_is_float(t->dtype))
		return fail_dim(c, t, "it is of the router and holds numbers, perhaps those of experts", err);
	if (sd_dtype_is_codes(t->dtype))
		return fail_dim(c, t, "the router is quantised; sd-cast --dequant=BF16 in front makes it plain", err);
	if (counts_first || (t->rank && t->shape[t->rank - 1] == c->experts))
		return cut_dim(c, t, counts_first ? 0 : t->rank - 1, &c->numbers->experts, c->experts, err);
	if (t->rank > 1)
		return fail_dim(c, t, "it is of the router, and no dimension counts the experts", err);
	return sd_manifest_add_target(c->out, t) ? SD_OK : sd_fail_memory(err);
}

static enum sd_result cut_experts(struct cutting *c, const struct sd_target *t, struct sd_error *err)
{
	const char *of = c->numbers->experts.text && is_ours(t->name) ? t->name : NULL;
	size_t stack;
	uint32_t number;

	if (of && expert_number(of, &stack, &number))
		return cut_single(c, t, stack, number, err);
	if (of && is_expert(c, t, &stack))
		return t->of ? fail_dim(c, t, "it is one expert, and its name does not tell which", err)
			     : cut_together(c, t, err);
	if (of && c->router && router_module(c, of))
		return cut_router(c, t, err);
	if (of && t->rank > 2 && t->shape[0] == c->experts && t->shape[1] > 1)
		return fail_dim(c, t, "these may be experts; sd-rename --map in front tells", err);
	return sd_manifest_add_target(c->out, t) ? SD_OK : sd_fail_memory(err);
}

/* ---- layers, and all of it ---- */

/* The dimension of a tensor outside of the layers that has something for each of them; -1: none has. */
static int layered_dim(const char *name)
{
	static const struct {
		const char *end;
		int dim;
	} tensors[] = {{"embed_tokens_per_layer.weight", 1}, {"per_layer_model_projection.weight", 0}};

	for (size_t i = 0; i < sizeof(tensors) / sizeof(*tensors); i++) {
		size_t length = strlen(name), n = strlen(tensors[i].end);

		if (length >= n && strcmp(name + length - n, tensors[i].end) == 0)
			return tensors[i].dim;
	}
	return -1;
}

/* What is in no layer: whole, but for what it has for each layer, where these are counted anew. */
static enum sd_result cut_outside(struct cutting *c, const struct sd_target *t, struct sd_error *err)
{
	const struct sd_numbers *layers = &c->numbers->layers;
	int dim = layers->text && (c->renumber || sd_numbers_are_first(layers)) ? layered_dim(t->name) : -1;
	uint64_t count;

	if (dim < 0 || (uint32_t)dim >= t->rank)
		return cut_experts(c, t, err);
	if (!sd_config_count(c->in, SD_CONFIG_LAYERS, &count) || !count || t->shape[dim] % count)
		return sd_fail(err, SD_INPUT,
			       "--layers %s: %s has something for each layer, and config.json does not tell how many "
			       "there are",
			       layers->text, t->name);
	return cut_dim(c, t, (uint32_t)dim, layers, count, err);
}

/* Names are looked at as they come in, so layers get their new numbers when all else is done. */
static enum sd_result renumber_layers(struct cutting *c, struct sd_error *err)
{
	for (size_t i = 0; i < c->out->ntargets && c->renumber; i++) {
		const char **name = &c->out->targets[i].name;
		size_t stack;
		uint32_t layer;

		if (layer_number(c, *name, &stack, &layer) &&
		    !renumber(c, name, stack, sd_numbers_below(&c->numbers->layers, layer)))
			return sd_fail_memory(err);
	}
	return SD_OK;
}

/* That some layer of the language model has such a number. */
static enum sd_result check_layers(const struct cutting *c, struct sd_error *err)
{
	const struct sd_selection *chosen = c->numbers;
	uint32_t layer, most = 0;
	bool any = false;
	size_t stack;

	if (chosen->stack && sd_stack_is_other(chosen->stack, chosen->stack_length))
		return sd_fail(err, SD_USAGE,
			       "--layers %s: only layers of the language model are cut; -n and --exclude choose among "
			       "all tensors",
			       chosen->layers.text);
	for (size_t i = 0; i < c->in->ntargets && chosen->stack; i++) {
		if (!layer_number(c, c->in->targets[i].name, &stack, &layer))
			continue;
		if (sd_numbers_have(&chosen->layers, layer))
			return SD_OK;
		any = true;
		most = layer > most ? layer : most;
	}
	if (!any)
		return sd_fail(err, SD_INPUT, "--layers %s: there are no such layers", chosen->layers.text);
	return sd_fail(err, SD_INPUT, "--layers %s: there is none of them; the last layer is %" PRIu32,
		       chosen->layers.text, most);
}

/* That each module of experts that is left had a router to be cut. */
static enum sd_result check_routers(struct cutting *c, struct sd_error *err)
{
	struct sd_names with = {0};
	enum sd_result result = SD_OK;

	for (size_t i = 0; i < c->in->ntargets && result == SD_OK; i++) {
		const char *module = is_ours(c->in->targets[i].name) ? router_module(c, c->in->targets[i].name) : NULL;

		if (module && sd_names_add(&with, module, 0) == SD_NO_NAME)
			result = sd_fail_memory(err);
	}
	for (size_t i = 0; i < c->in->ntargets && result == SD_OK; i++) {
		const char *name = c->in->targets[i].name;
		size_t length;
		char *module;

		if (!is_expert(c, &c->in->targets[i], &length) || strstr(name, "lora_"))
			continue;
		module = sd_arena_text(&c->arena, name, length);
		if (!module)
			result = sd_fail_memory(err);
		else if (sd_names_find(&with, module) == SD_NO_NAME)
			result = sd_fail(err, SD_INPUT,
					 "--experts %s: %s is an expert's, and there is no router beside it that could "
					 "be cut too; give all files of the checkpoint",
					 c->numbers->experts.text, name);
		if (module)
			sd_arena_undo(&c->arena, module);
	}
	sd_names_free(&with);
	return result;
}

static enum sd_result plan_targets(struct cutting *c, struct sd_error *err)
{
	const struct sd_selection *chosen = c->numbers;
	enum sd_result result = chosen->layers.text ? check_layers(c, err) : SD_OK;

	if (result == SD_OK && chosen->experts.text)
		result = count_experts(c, err);
	if (result == SD_OK && chosen->experts.text && c->router)
		result = check_routers(c, err);
	for (size_t i = 0; i < c->in->ntargets && result == SD_OK; i++) {
		const struct sd_target *t = &c->in->targets[i];
		size_t stack;
		uint32_t layer;

		if (!layer_number(c, t->name, &stack, &layer))
			result = cut_outside(c, t, err);
		else if (sd_numbers_have(&chosen->layers, layer))
			result = cut_experts(c, t, err);
	}
	return result == SD_OK ? renumber_layers(c, err) : result;
}

enum sd_result sd_cut_plan(const struct sd_manifest *in, const struct sd_selection *numbers, bool renumber,
			   struct sd_shard *shard, struct sd_error *err)
{
	struct cutting c = {.in = in,
			    .numbers = numbers,
			    .renumber = renumber,
			    .router = renumber || sd_numbers_are_first(&numbers->experts)};
	enum sd_result result = sd_shard_begin(in, shard, err);

	c.out = shard->manifest;
	if (result == SD_OK)
		result = plan_targets(&c, err);
	if (result == SD_OK)
		result = sd_shard_records(in, shard, err);
	sd_names_free(&c.modules);
	sd_arena_free(&c.arena);
	return result;
}
