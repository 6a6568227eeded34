/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of an output. */
#include "formats/output_plan.h"
#include "base/checked.h"
#include "base/names.h"
#include "base/text.h"
#include "formats/checkpoint.h"
#include "formats/index.h"
#include "model/parts.h"
#include "move/coverage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	HERE = 1,
	ELSEWHERE = 2,
};

#define NO_ITEM UINT32_MAX

/* A tensor while it is being planned. */
struct item {
	struct sd_tensor tensor;
	uint64_t bytes;
	size_t first, ntargets; /* in by_tensor */
	uint32_t file;
	uint32_t place; /* in layout->tensors */
	uint32_t part;  /* of the checkpoint */
};

struct planner {
	const struct sd_manifest *m;
	const struct sd_output_plan_options *options;
	struct sd_output_plan *layout;
	struct item *items;
	size_t nitems;
	struct item **order; /* file by file */
	uint32_t *first_of;  /* of each target: the first target of its tensor */
	uint8_t *has;        /* of each such first target: HERE, ELSEWHERE */
	uint32_t *item_of;   /* of each target */
	uint32_t *by_tensor; /* targets, tensor by tensor */
	const char **wished; /* names of the files, where an index says them; or NULL */
	bool alike;          /* options->like: all headers are the same there */
	bool added;          /* some tensors are not there */
	uint32_t of;         /* parts that the files are divided into; 0: none */
	bool is_part;        /* only one of them is here */
};

/* ---- what a target must be ---- */

static enum sd_result check_steps(const struct sd_target *t, struct sd_error *err)
{
	for (uint32_t i = 0; i < t->nsteps; i++) {
		const struct sd_step *step = &t->steps[i];

		if (step->kind == SD_STEP_CAST)
			return sd_fail(err, SD_INPUT, "%s has a pending cast to %s: put sd-transpose before sd-pack",
				       t->name, sd_dtype_name(step->dtype));
		if (step->kind == SD_STEP_FILL)
			return sd_fail(err, SD_INPUT,
				       "%s is a constant yet to be made: put sd-transpose before sd-pack", t->name);
		if (step->kind == SD_STEP_BLOCK_SCALE || step->kind == SD_STEP_UNPACK || step->kind == SD_STEP_DECODE)
			return sd_fail(err, SD_INPUT,
				       "%s has a pending dequantisation: put sd-transpose before sd-pack", t->name);
		return sd_fail(err, SD_INPUT, "%s has a step of kind %u, which this version does not know", t->name,
			       step->kind);
	}
	if (sd_target_is_reordered(t))
		return sd_fail(err, SD_INPUT, "%s is still to be reordered: put sd-transpose before sd-pack", t->name);
	return SD_OK;
}

/* ---- tensors ---- */

static enum sd_result check_alike(const struct planner *p, const struct sd_target *a, const struct sd_target *b,
				  struct sd_error *err)
{
	char x[SD_SHAPE_TEXT], y[SD_SHAPE_TEXT];

	if (a->dtype == b->dtype && sd_shape_equal(a->shape, a->rank, b->shape, b->rank))
		return SD_OK;
	return sd_fail(err, SD_INPUT, "%s would be %s %s from %s, but %s %s from %s", a->name, sd_dtype_name(a->dtype),
		       sd_shape_text(a->shape, a->rank, x, sizeof(x)), p->m->records[a->record].key,
		       sd_dtype_name(b->dtype), sd_shape_text(b->shape, b->rank, y, sizeof(y)),
		       p->m->records[b->record].key);
}

static enum sd_result begin_item(struct planner *p, const struct sd_target *t, struct sd_error *err)
{
	struct item *item = &p->items[p->nitems++];
	uint64_t count;

	*item = (struct item){.tensor = {.name = t->name, .shape = t->shape, .rank = t->rank, .dtype = t->dtype}};
	if (strcmp(t->name, "__metadata__") == 0 || !sd_text_is_utf8(t->name, strlen(t->name)))
		return sd_fail(err, SD_INPUT, "%s: a tensor in a safetensors file cannot have this name", t->name);
	if (!sd_shape_count(t->shape, t->rank, &count) || !sd_dtype_bytes(t->dtype, count, &item->bytes))
		return sd_fail(err, SD_INPUT, "%s has no possible size", t->name);
	return SD_OK;
}

/* Finds the first target of each target's tensor, and what each tensor has: data that is here, elsewhere, or both. */
static enum sd_result look_over(struct planner *p, struct sd_error *err)
{
	const struct sd_manifest *m = p->m;
	struct sd_names names = {0};
	enum sd_result result = SD_OK;

	for (uint32_t i = 0; i < m->ntargets && result == SD_OK; i++) {
		const struct sd_target *t = &m->targets[i];
		uint32_t first = sd_names_add(&names, t->name, i);

		if (first == SD_NO_NAME) {
			result = sd_fail_memory(err);
			break;
		}
		p->first_of[i] = first;
		if (m->records[t->record].state == SD_MISSING)
			result = sd_target_fail_missing(m, t, err);
		else if (m->records[t->record].state == SD_HERE)
			p->has[first] |= HERE;
		else
			p->has[first] |= ELSEWHERE;
	}
	sd_names_free(&names);
	return result;
}

static enum sd_result fail_torn(const struct planner *p, const struct sd_target *t, struct sd_error *err)
{
	const char *key = p->m->records[t->record].key;

	if (p->is_part)
		return sd_fail(err, SD_INPUT,
			       "%s is here only in part: %s is in another part; this checkpoint cannot be divided so",
			       t->name, key);
	return sd_fail(err, SD_INPUT,
		       "%s is here only in part: %s was left out of the stream; convert all of it, then cut with "
		       "sd-shard",
		       t->name, key);
}

/* Makes a list of the tensors that are here, and counts their targets. */
static enum sd_result list_tensors(struct planner *p, struct sd_error *err)
{
	const struct sd_manifest *m = p->m;

	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];
		uint32_t first = p->first_of[i];
		enum sd_result result = SD_OK;

		if (p->has[first] == ELSEWHERE && !sd_parts_is_other(m, t)) {
			p->layout->left_out += first == i;
			p->item_of[i] = NO_ITEM;
			continue;
		}
		if (m->records[t->record].state == SD_ELSEWHERE && p->has[first] != ELSEWHERE)
			return fail_torn(p, t, err);
		result = check_steps(t, err);
		if (result == SD_OK && first == i) {
			p->item_of[i] = (uint32_t)p->nitems;
			result = begin_item(p, t, err);
		}
		if (result == SD_OK)
			result = check_alike(p, &m->targets[first], t, err);
		if (result != SD_OK)
			return result;
		p->item_of[i] = p->item_of[first];
		p->items[p->item_of[i]].ntargets++;
	}
	return SD_OK;
}

/* Gathers the targets of each tensor. */
static void group(struct planner *p)
{
	size_t sum = 0;

	for (size_t i = 0; i < p->nitems; i++) {
		p->items[i].first = sum;
		sum += p->items[i].ntargets;
		p->items[i].ntargets = 0;
		p->order[i] = &p->items[i];
	}
	for (size_t i = 0; i < p->m->ntargets; i++)
		if (p->item_of[i] != NO_ITEM) {
			struct item *item = &p->items[p->item_of[i]];

			p->by_tensor[item->first + item->ntargets++] = (uint32_t)i;
		}
}

/* "[3, 0, 17]": where an element stands in its tensor. */
static char *coordinates(const struct sd_tensor *t, uint64_t element, char *text, size_t size)
{
	uint64_t at[SD_RANK_MAX];

	for (uint32_t k = t->rank; k-- > 0;) {
		at[k] = t->shape[k] ? element % t->shape[k] : 0;
		element = t->shape[k] ? element / t->shape[k] : 0;
	}
	return sd_shape_text(at, t->rank, text, size);
}

static enum sd_result fail_cover(const struct planner *p, const struct item *item, enum sd_coverage cover,
				 const struct sd_coverage_fault *fault, struct sd_error *err)
{
	const struct sd_tensor *t = &item->tensor;
	const uint32_t *targets = &p->by_tensor[item->first];
	char shape[SD_SHAPE_TEXT], at[SD_SHAPE_TEXT];

	sd_shape_text(t->shape, t->rank, shape, sizeof(shape));
	if (cover == SD_HOLE)
		return sd_fail(err, SD_INPUT, "%s %s is not whole: nothing fills it from element %s on", t->name, shape,
			       coordinates(t, fault->element, at, sizeof(at)));
	if (cover == SD_OVERLAP)
		return sd_fail(err, SD_INPUT, "two sources for %s %s: element %s comes from %s and from %s", t->name,
			       shape, coordinates(t, fault->element, at, sizeof(at)),
			       p->m->records[p->m->targets[targets[fault->first]].record].key,
			       p->m->records[p->m->targets[targets[fault->second]].record].key);
	if (cover == SD_COVERAGE_NOMEM)
		return sd_fail_memory(err);
	return sd_fail(err, SD_INPUT,
		       "%s %s is cut into its %zu pieces in too many ways for it to be sure that they fill it", t->name,
		       shape, item->ntargets);
}

/* Every element must be written exactly once. */
static enum sd_result check_cover(const struct planner *p, const struct item *item, struct sd_error *err)
{
	struct sd_move *rooms = calloc(item->ntargets, sizeof(*rooms));
	const struct sd_move **moves = calloc(item->ntargets, sizeof(*moves));
	struct sd_coverage_fault fault = {0};
	enum sd_coverage cover = SD_COVERAGE_NOMEM;
	uint64_t elements = 0;

	if (rooms && moves && sd_shape_count(item->tensor.shape, item->tensor.rank, &elements)) {
		for (size_t i = 0; i < item->ntargets; i++)
			moves[i] = sd_target_move(p->m, &p->m->targets[p->by_tensor[item->first + i]], &rooms[i]);
		cover = sd_coverage_check(moves, item->ntargets, elements, &fault);
	}
	free(moves);
	free(rooms);
	return cover == SD_COVERED ? SD_OK : fail_cover(p, item, cover, &fault, err);
}

static enum sd_result check_all_covers(const struct planner *p, struct sd_error *err)
{
	for (size_t i = 0; i < p->nitems; i++) {
		const struct item *item = &p->items[i];
		const struct sd_target *only = &p->m->targets[p->by_tensor[item->first]];
		bool plain = item->ntargets == 1 && !only->move && p->m->records[only->record].bytes == item->bytes;
		const char *first = p->m->records[only->record].key;

		/* The plain case, told in plain words: a tensor that comes whole more than once. */
		if (item->ntargets > 1 && !only->move && !p->m->targets[p->by_tensor[item->first + 1]].move)
			return sd_fail(err, SD_INPUT, "two sources for %s: %s and %s", item->tensor.name, first,
				       p->m->records[p->m->targets[p->by_tensor[item->first + 1]].record].key);
		if (!plain && check_cover(p, item, err) != SD_OK)
			return err->result;
	}
	return SD_OK;
}

/* ---- files ---- */

static int by_natural_name(const void *a, const void *b)
{
	const struct item *const *x = a, *const *y = b;

	return sd_text_natural((*x)->tensor.name, (*y)->tensor.name);
}

static enum sd_result make_files(struct planner *p, size_t count, struct sd_error *err)
{
	p->layout->nfiles = count;
	p->layout->files = sd_arena_array(&p->layout->arena, count, sizeof(*p->layout->files));
	p->layout->all = p->layout->files;
	p->layout->nall = p->layout->files ? count : 0;
	return p->layout->files ? SD_OK : sd_fail_memory(err);
}

static enum sd_result add_bytes(struct planner *p, const struct item *item, struct sd_error *err)
{
	if (sd_add(p->layout->bytes, item->bytes, &p->layout->bytes))
		return SD_OK;
	return sd_fail(err, SD_INPUT, "%s makes the checkpoint larger than 2^64 bytes", item->tensor.name);
}

/* Whether it is PEFT's: it says so, and no tensor is of a layer but behind PEFT's own prefix, as those of a model are.
 */
static bool is_adapter(const struct sd_manifest *m)
{
	if (!sd_manifest_side(m, "adapter_config.json"))
		return false;
	for (size_t i = 0; i < m->ntargets; i++) {
		const char *name = m->targets[i].name;

		if (strstr(name, "layers.") && !strstr(name, "base_model.") && !strstr(name, "lora_"))
			return false;
	}
	return true;
}

/* The part of each tensor; all that it is made of has to be of the same one. */
static enum sd_result find_parts(struct planner *p, struct sd_parts_table *table, struct sd_error *err)
{
	for (size_t i = 0; i < p->nitems; i++) {
		struct item *item = &p->items[i];

		for (size_t k = 0; k < item->ntargets; k++) {
			const struct sd_target *t = &p->m->targets[p->by_tensor[item->first + k]];
			uint32_t part;

			if (sd_parts_find(table, p->m->records[t->record].key, &part, err) != SD_OK)
				return err->result;
			part = part == SD_NO_PART ? 0 : part;
			if (k > 0 && part != item->part)
				return sd_fail(err, SD_INPUT,
					       "%s is made of tensors of two parts, %" PRIu32 "/%" PRIu32
					       " and %" PRIu32 "/%" PRIu32 ": this checkpoint cannot be divided so",
					       t->name, item->part, p->of, part, p->of);
			item->part = part;
		}
	}
	return SD_OK;
}

/* A part has all of its own tensors, and none of another's. */
static enum sd_result check_own(const struct planner *p, struct sd_error *err)
{
	uint32_t own = p->m->parts->here[0];

	for (size_t i = 0; i < p->nitems; i++) {
		const struct item *item = &p->items[i];
		bool here = p->has[p->first_of[p->by_tensor[item->first]]] & HERE;

		if (here && item->part != own)
			return sd_fail(err, SD_INPUT,
				       "%s is of part %" PRIu32 "/%" PRIu32 ", and comes with part %" PRIu32
				       ": nothing may be added behind sd-cat --part",
				       item->tensor.name, item->part, p->of, own);
		if (!here && item->part == own)
			return sd_fail(err, SD_INPUT,
				       "%s is of part %" PRIu32 "/%" PRIu32
				       ", and its data is not in the stream: leave it out where sd-cat --part is",
				       item->tensor.name, own, p->of);
	}
	return SD_OK;
}

static enum sd_result divide(struct planner *p, struct sd_error *err)
{
	struct sd_parts_table table = {0};
	enum sd_result result = SD_OK;

	if (p->of)
		result = sd_parts_divide(p->m, p->of, &table, err);
	if (result == SD_OK && p->of)
		result = find_parts(p, &table, err);
	if (result == SD_OK && p->is_part)
		result = check_own(p, err);
	sd_parts_table_free(&table);
	return result;
}

static int by_part(const void *a, const void *b)
{
	const struct item *const *x = a, *const *y = b;

	return (*x)->part != (*y)->part ? ((*x)->part < (*y)->part ? -1 : 1) : by_natural_name(a, b);
}

/* Gives each tensor its file: greedily, in natural order of names. PEFT reads an adapter in one file only. */
static enum sd_result choose_shards(struct planner *p, struct sd_error *err)
{
	uint64_t filled = 0;
	uint32_t shard = 0;
	bool sharded = p->options->directory && !is_adapter(p->m);
	enum sd_result result = SD_OK;

	if (p->options->directory)
		qsort(p->order, p->nitems, sizeof(*p->order), by_part);
	for (size_t i = 0; i < p->nitems && result == SD_OK; i++) {
		uint64_t bytes = p->order[i]->bytes;

		bool full = filled > p->options->shard_size || bytes > p->options->shard_size - filled;

		if (sharded && i > 0 && (full || p->order[i]->part != p->order[i - 1]->part)) {
			shard++;
			filled = 0;
		}
		filled += bytes;
		p->order[i]->file = shard;
		result = add_bytes(p, p->order[i], err);
	}
	return result == SD_OK ? make_files(p, (size_t)shard + 1, err) : result;
}

static int by_natural_file(const void *a, const void *b)
{
	return sd_text_natural(*(const char *const *)a, *(const char *const *)b);
}

/* The files that the index has for the tensors, in natural order; *count is 0 where it lacks one. */
static enum sd_result list_wished(struct planner *p, const struct sd_index *index, const char **names, size_t *count,
				  struct sd_error *err)
{
	struct sd_names known = {0};
	enum sd_result result = SD_OK;
	bool fits = true;

	*count = 0;
	for (size_t i = 0; i < p->nitems && fits && result == SD_OK; i++) {
		uint32_t entry = sd_names_find(&index->keys, p->items[i].tensor.name);
		const char *file = entry == SD_NO_NAME ? NULL : index->entries[entry].file;

		fits = file && sd_file_name_good(file) && sd_checkpoint_role(file) == SD_ROLE_WEIGHTS;
		if (!fits || sd_names_find(&known, file) != SD_NO_NAME)
			continue;
		names[*count] = sd_arena_text(&p->layout->arena, file, strlen(file));
		if (!names[*count] || sd_names_add(&known, names[*count], 0) == SD_NO_NAME)
			result = sd_fail_memory(err);
		++*count;
	}
	sd_names_free(&known);
	*count = fits ? *count : 0;
	if (*count)
		qsort(names, *count, sizeof(*names), by_natural_file);
	return result;
}

/* Gives each tensor the file that the index says; *fits: it has all of them. */
static enum sd_result take_wished(struct planner *p, const struct sd_index *index, bool *fits, struct sd_error *err)
{
	struct sd_names numbers = {0};
	const char **names = sd_arena_array(&p->layout->arena, index->nfiles + 1, sizeof(*names));
	size_t count = 0;
	enum sd_result result = names ? list_wished(p, index, names, &count, err) : sd_fail_memory(err);

	*fits = result == SD_OK && count > 0;
	for (size_t k = 0; k < count && result == SD_OK; k++)
		if (sd_names_add(&numbers, names[k], (uint32_t)k) == SD_NO_NAME)
			result = sd_fail_memory(err);
	for (size_t i = 0; i < p->nitems && *fits && result == SD_OK; i++) {
		uint32_t entry = sd_names_find(&index->keys, p->items[i].tensor.name);

		p->items[i].file = sd_names_find(&numbers, index->entries[entry].file);
		result = add_bytes(p, &p->items[i], err);
	}
	sd_names_free(&numbers);
	if (result != SD_OK || !*fits)
		return result;
	p->wished = names;
	return make_files(p, count, err);
}

/* By the index that the checkpoint came with, where it still has every tensor; else by size. */
static enum sd_result choose_files(struct planner *p, struct sd_error *err)
{
	struct sd_index index = {0};
	bool fits = false;
	enum sd_result result = SD_OK;

	if (p->options->wished && p->options->directory && !p->of)
		result = sd_index_parse(p->options->wished, p->options->wished_length, NULL, &index, err);
	if (result != SD_OK)
		sd_error_at(err, "the side file that says which tensor is in which file");
	if (result == SD_OK && index.nentries)
		result = take_wished(p, &index, &fits, err);
	sd_index_free(&index);
	return result != SD_OK || fits ? result : choose_shards(p, err);
}

/* The first few of some names, and how many they are. */
struct names {
	char text[512];
	size_t count;
};

static void add_name(struct names *names, const char *name)
{
	size_t used = strlen(names->text);

	if (names->count++ < 3)
		snprintf(names->text + used, sizeof(names->text) - used, "%s%s", used ? ", " : "", name);
	else if (names->count == 4)
		snprintf(names->text + used, sizeof(names->text) - used, ", ...");
}

static enum sd_result fail_other_tensors(const char *path, const struct names *missing, const struct names *extra,
					 struct sd_error *err)
{
	const char *plural = (missing->count ? missing : extra)->count == 1 ? "" : "s";

	if (missing->count && extra->count)
		return sd_fail(err, SD_INPUT, "not the tensors of %s: missing here are %zu (%s), too many %zu (%s)",
			       path, missing->count, missing->text, extra->count, extra->text);
	if (missing->count)
		return sd_fail(err, SD_INPUT, "%s has %zu tensor%s that this stream has not: %s", path, missing->count,
			       plural, missing->text);
	return sd_fail(err, SD_INPUT, "this stream has %zu tensor%s that %s has not: %s", extra->count, plural, path,
		       extra->text);
}

struct neighbour {
	const char *name;
	uint32_t file;
};

static int by_name(const void *a, const void *b)
{
	return sd_text_natural(((const struct neighbour *)a)->name, ((const struct neighbour *)b)->name);
}

/* The tensors of the other directory in natural order of names, malloc'd. */
static struct neighbour *list_neighbours(const struct sd_template *like, size_t *count)
{
	struct neighbour *all;

	*count = 0;
	for (size_t k = 0; k < like->nfiles; k++)
		*count += like->files[k].content.ntensors;
	all = calloc(*count + 1, sizeof(*all));
	for (size_t k = 0, n = 0; k < like->nfiles && all; k++)
		for (size_t i = 0; i < like->files[k].content.ntensors; i++)
			all[n++] = (struct neighbour){like->files[k].content.tensors[i].name, (uint32_t)k};
	if (all)
		qsort(all, *count, sizeof(*all), by_name);
	return all;
}

/* Tensors that are not there go into the file of the last one before them. */
static enum sd_result place_added(struct planner *p, struct sd_error *err)
{
	size_t count;
	struct neighbour *all = list_neighbours(p->options->like, &count);

	for (size_t i = 0; i < p->nitems && all; i++) {
		struct neighbour wanted = {p->items[i].tensor.name, 0};
		size_t low = 0, high = count;

		if (p->items[i].file != SD_NO_NAME)
			continue;
		while (low < high) {
			size_t middle = low + (high - low) / 2;

			if (by_name(&all[middle], &wanted) < 0)
				low = middle + 1;
			else
				high = middle;
		}
		p->items[i].file = count ? all[low ? low - 1 : 0].file : 0;
		p->added = true;
	}
	free(all);
	return all ? SD_OK : sd_fail_memory(err);
}

/* Gives each tensor the file in which it stands in the other directory, which must have the same ones. */
static enum sd_result choose_alike(struct planner *p, struct sd_error *err)
{
	const struct sd_template *like = p->options->like;
	struct names extra = {0}, missing = {0};
	struct sd_names here = {0};
	enum sd_result result = SD_OK;

	for (uint32_t i = 0; i < p->nitems && result == SD_OK; i++) {
		const char *name = p->items[i].tensor.name;

		p->items[i].file = sd_names_find(&like->file_of, name);
		if (p->items[i].file == SD_NO_NAME && !p->options->adds)
			add_name(&extra, name);
		result = add_bytes(p, &p->items[i], err);
		if (result == SD_OK && sd_names_add(&here, name, i) == SD_NO_NAME)
			result = sd_fail_memory(err);
	}
	for (size_t k = 0; k < like->nfiles; k++)
		for (size_t i = 0; i < like->files[k].content.ntensors; i++)
			if (sd_names_find(&here, like->files[k].content.tensors[i].name) == SD_NO_NAME)
				add_name(&missing, like->files[k].content.tensors[i].name);
	sd_names_free(&here);
	if (result == SD_OK && (extra.count || missing.count))
		result = fail_other_tensors(like->path, &missing, &extra, err);
	if (result == SD_OK && p->options->adds)
		result = place_added(p, err);
	return result == SD_OK ? make_files(p, like->nfiles, err) : result;
}

/* What the names of weight files begin with: PEFT reads an adapter only under its own name. */
static const char *stem(const struct sd_manifest *m)
{
	return is_adapter(m) ? "adapter_model" : "model";
}

static int by_place(const void *a, const void *b)
{
	const struct item *x = *(const struct item *const *)a, *y = *(const struct item *const *)b;

	return x->file != y->file ? (x->file < y->file ? -1 : 1) : sd_safetensors_order(&x->tensor, &y->tensor);
}

/* Puts the tensors file by file, each file's in order. */
static enum sd_result fill_files(struct planner *p, struct sd_error *err)
{
	struct sd_output_plan *layout = p->layout;
	const struct sd_template *like = p->options->like;
	const char *name = stem(p->m);
	size_t sum = 0;

	layout->ntensors = p->nitems;
	layout->tensors = sd_arena_array(&layout->arena, p->nitems + 1, sizeof(*layout->tensors));
	layout->index_name =
		like ? like->index_name : sd_arena_printf(&layout->arena, "%s.safetensors.index.json", name);
	if (!layout->tensors || (!like && !layout->index_name))
		return sd_fail_memory(err);
	for (size_t i = 0; i < p->nitems; i++)
		layout->files[p->items[i].file].ntensors++;
	for (size_t k = 0; k < layout->nfiles; k++) {
		struct sd_output_plan_file *file = &layout->files[k];

		file->name = like                  ? like->files[k].name
			     : p->wished           ? p->wished[k]
			     : layout->nfiles == 1 ? sd_arena_printf(&layout->arena, "%s.safetensors", name)
						   : sd_arena_printf(&layout->arena, "%s-%05zu-of-%05zu.safetensors",
								     name, k + 1, layout->nfiles);
		if (!file->name)
			return sd_fail_memory(err);
		file->tensors = layout->tensors + sum;
		sum += file->ntensors;
	}
	qsort(p->order, p->nitems, sizeof(*p->order), by_place);
	for (size_t i = 0; i < p->nitems; i++) {
		p->order[i]->place = (uint32_t)i;
		layout->tensors[i] = p->order[i]->tensor;
	}
	return SD_OK;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct sd_entry *)a)->key, ((const struct sd_entry *)b)->key);
}

/* A later entry of the same key takes the place of the earlier one. */
static void put_entry(struct sd_entry *entries, size_t *count, const char *key, const char *value)
{
	size_t i = 0;

	while (i < *count && strcmp(entries[i].key, key) != 0)
		i++;
	entries[i] = (struct sd_entry){key, value};
	if (i == *count)
		++*count;
}

struct sd_entry *sd_output_plan_metadata(const struct sd_manifest *m, const struct sd_output_plan_options *options,
					 struct sd_arena *arena, size_t *count)
{
	struct sd_entry *entries = sd_arena_array(arena, m->nmetadata + options->nmetadata + 1, sizeof(*entries));

	*count = 0;
	if (!entries)
		return NULL;
	put_entry(entries, count, "format", "pt");
	for (size_t i = 0; i < m->nmetadata; i++)
		put_entry(entries, count, m->metadata[i].key, m->metadata[i].value);
	for (size_t i = 0; i < options->nmetadata; i++)
		put_entry(entries, count, options->metadata[i].key, options->metadata[i].value);
	qsort(entries, *count, sizeof(*entries), by_key);
	return entries;
}

/* Whether the file has the same tensors there, of the same dtypes and shapes; they get the same places then. */
static bool is_alike(const struct sd_output_plan_file *file, const struct sd_template_file *like)
{
	if (file->ntensors != like->content.ntensors)
		return false;
	for (size_t i = 0; i < like->content.ntensors; i++) {
		const struct sd_tensor *there = &like->content.tensors[i];
		struct sd_tensor *here;

		here = bsearch(there, file->tensors, file->ntensors, sizeof(*here), sd_safetensors_order);
		if (!here || !sd_shape_equal(here->shape, here->rank, there->shape, there->rank))
			return false;
		here->begin = there->begin;
		here->end = there->end;
	}
	return true;
}

static enum sd_result copy(const char *bytes, size_t length, char **out, size_t *out_length, struct sd_error *err)
{
	*out = malloc(length);
	if (!*out)
		return sd_fail_memory(err);
	memcpy(*out, bytes, length);
	*out_length = length;
	return SD_OK;
}

static enum sd_result make_header(struct planner *p, size_t number, const struct sd_entry *metadata, size_t nmetadata,
				  struct sd_error *err)
{
	struct sd_output_plan_file *file = &p->layout->files[number];
	const struct sd_template_file *like = p->options->like ? &p->options->like->files[number] : NULL;

	/* The same header, whoever has written it, in whatever order. */
	if (like && is_alike(file, like))
		return copy(like->header, like->header_length, &file->header, &file->header_length, err);
	p->alike = false;
	return sd_safetensors_header(file->tensors, file->ntensors, like ? like->content.metadata : metadata,
				     like ? like->content.nmetadata : nmetadata, &file->header, &file->header_length,
				     err);
}

/* Which files are there already: those with the same header, whose data all comes from them. */
static void find_kept(struct planner *p)
{
	const struct sd_template *like = p->options->like;

	for (size_t k = 0; k < p->layout->nfiles && p->options->there; k++) {
		struct sd_output_plan_file *file = &p->layout->files[k];

		file->kept = file->header_length == like->files[k].header_length &&
			     memcmp(file->header, like->files[k].header, file->header_length) == 0;
	}
	for (size_t i = 0; i < p->m->ntargets && p->options->there; i++)
		if (p->item_of[i] != NO_ITEM && p->m->targets[i].record >= p->options->there)
			p->layout->files[p->items[p->item_of[i]].file].kept = false;
}

static enum sd_result make_headers(struct planner *p, struct sd_error *err)
{
	struct sd_output_plan *layout = p->layout;
	size_t count;
	const struct sd_entry *metadata = sd_output_plan_metadata(p->m, p->options, &layout->arena, &count);

	if (!metadata)
		return sd_fail_memory(err);
	for (size_t k = 0; k < layout->nfiles; k++) {
		struct sd_output_plan_file *file = &layout->files[k];
		enum sd_result result = make_header(p, k, metadata, count, err);

		if (result != SD_OK)
			return result;
		file->size = file->header_length;
		for (size_t i = 0; i < file->ntensors; i++)
			if (!sd_add(file->size, file->tensors[i].end - file->tensors[i].begin, &file->size))
				return sd_fail(err, SD_INPUT, "%s would be larger than 2^64 bytes", file->name);
	}
	return SD_OK;
}

/* Where each target's tensor begins. */
static enum sd_result find_places(struct planner *p, struct sd_error *err)
{
	struct sd_output_plan *layout = p->layout;

	layout->places = sd_arena_array(&layout->arena, p->m->ntargets + 1, sizeof(*layout->places));
	if (!layout->places)
		return sd_fail_memory(err);
	for (size_t i = 0; i < p->m->ntargets; i++) {
		const struct item *item;

		if (p->item_of[i] == NO_ITEM)
			continue;
		item = &p->items[p->item_of[i]];
		layout->places[i] = (struct sd_output_plan_place){
			item->file, layout->files[item->file].header_length + layout->tensors[item->place].begin};
	}
	return SD_OK;
}

/* Whether these are the last parts of a name. */
static bool ends_in(const char *name, const char *parts)
{
	size_t length = strlen(name), n = strlen(parts);

	return length >= n && strcmp(name + length - n, parts) == 0 && (length == n || name[length - n - 1] == '.');
}

/* Whether transformers keeps a tensor as a buffer, which it does not count. Behind these two it is a parameter. */
static bool is_buffer(const char *name)
{
	static const char *const buffers[] = {"e_score_correction_bias",
					      "expert_bias",
					      "final_logits_bias",
					      "inv_freq",
					      "layer_scalar",
					      "num_batches_tracked",
					      "position_ids",
					      "running_mean",
					      "running_var",
					      "std_bias",
					      "std_scale",
					      "tid2eid"};
	static const char *const parameters[] = {"experts.e_score_correction_bias",
						 "moe_statics.e_score_correction_bias"};

	for (size_t i = 0; i < sizeof(parameters) / sizeof(*parameters); i++)
		if (ends_in(name, parameters[i]))
			return false;
	for (size_t i = 0; i < sizeof(buffers) / sizeof(*buffers); i++)
		if (ends_in(name, buffers[i]))
			return true;
	return false;
}

static enum sd_result count_parameters(const struct sd_output_plan *layout, uint64_t *parameters, struct sd_error *err)
{
	*parameters = 0;
	for (size_t i = 0; i < layout->ntensors; i++) {
		const struct sd_tensor *t = &layout->tensors[i];
		uint64_t count;

		if (is_buffer(t->name))
			continue;
		if (!sd_shape_count(t->shape, t->rank, &count) || !sd_add(*parameters, count, parameters))
			return sd_fail(err, SD_INPUT, "%s: more than 2^64 elements in all", t->name);
	}
	return SD_OK;
}

/* The same index; only the sizes in it may be others. */
static enum sd_result copy_index(struct planner *p, uint64_t parameters, struct sd_error *err)
{
	struct sd_output_plan *layout = p->layout;
	const struct sd_template *like = p->options->like;

	if (!p->alike)
		return sd_index_resize(like->index, like->index_length, parameters, layout->bytes, &layout->index,
				       &layout->index_length, err);
	return copy(like->index, like->index_length, &layout->index, &layout->index_length, err);
}

static enum sd_result make_index(struct planner *p, struct sd_error *err)
{
	struct sd_output_plan *layout = p->layout;
	struct sd_index_entry *entries;
	uint64_t parameters;
	enum sd_result result = count_parameters(layout, &parameters, err);
	size_t n = 0;

	if (result == SD_OK && p->options->like && !p->options->like->index)
		return SD_OK;
	if (result == SD_OK && p->options->like && !p->added)
		return copy_index(p, parameters, err);
	if (result != SD_OK || (layout->nfiles == 1 && !p->wished && !p->options->like))
		return result;
	entries = calloc(layout->ntensors, sizeof(*entries));
	if (!entries)
		return sd_fail_memory(err);
	for (size_t k = 0; k < layout->nfiles; k++)
		for (size_t i = 0; i < layout->files[k].ntensors; i++)
			entries[n++] = (struct sd_index_entry){layout->files[k].tensors[i].name, layout->files[k].name};
	result = sd_index_write(entries, n, parameters, layout->bytes, &layout->index, &layout->index_length, err);
	free(entries);
	return result;
}

/* In a directory, no side file may have a name that weights or an index have there. */
static enum sd_result check_side_files(const struct planner *p, struct sd_error *err)
{
	for (size_t i = 0; i < p->m->nside && p->options->directory; i++)
		if (sd_checkpoint_role(p->m->side[i].name) != SD_ROLE_SIDE)
			return sd_fail(err, SD_INPUT,
				       "the stream has a side file named %s, which is no side file's name",
				       p->m->side[i].name);
	return SD_OK;
}

/* Of all files, those of the part that is here. */
static void keep_own(struct planner *p)
{
	struct sd_output_plan *layout = p->layout;
	uint32_t own = p->m->parts->here[0], first = 0, end = 0;

	for (size_t i = 0; i < p->nitems; i++) {
		uint32_t file = p->order[i]->file;

		if (p->order[i]->part < own)
			first = file + 1;
		if (p->order[i]->part == own)
			end = file + 1;
	}
	layout->files += first;
	layout->nfiles = end > first ? end - first : 0;
	for (size_t i = 0; i < p->m->ntargets; i++)
		layout->places[i].file -= first;
}

static enum sd_result plan(struct planner *p, struct sd_error *err)
{
	enum sd_result result = check_side_files(p, err);

	if (result == SD_OK)
		result = look_over(p, err);
	if (result == SD_OK)
		result = list_tensors(p, err);
	if (result != SD_OK)
		return result;
	group(p);
	result = check_all_covers(p, err);
	if (result == SD_OK)
		result = divide(p, err);
	if (result == SD_OK)
		result = (p->options->like ? choose_alike : choose_files)(p, err);
	if (result == SD_OK)
		result = fill_files(p, err);
	if (result == SD_OK)
		result = make_headers(p, err);
	if (result == SD_OK)
		find_kept(p);
	if (result == SD_OK)
		result = find_places(p, err);
	if (result == SD_OK)
		result = make_index(p, err);
	if (result == SD_OK && p->is_part)
		keep_own(p);
	return result;
}

enum sd_result sd_output_plan_make(const struct sd_manifest *manifest, const struct sd_output_plan_options *options,
				   struct sd_output_plan *layout, struct sd_error *err)
{
	size_t n = manifest->ntargets + 1;
	struct planner p = {.m = manifest,
			    .options = options,
			    .layout = layout,
			    .alike = true,
			    .is_part = manifest->parts && manifest->parts->of,
			    .of = options->parts};
	enum sd_result result;

	if (p.is_part && !p.of)
		p.of = manifest->parts->of;
	*layout = (struct sd_output_plan){0};
	p.items = calloc(n, sizeof(*p.items));
	p.first_of = calloc(n, sizeof(*p.first_of));
	p.has = calloc(n, sizeof(*p.has));
	p.item_of = calloc(n, sizeof(*p.item_of));
	p.by_tensor = calloc(n, sizeof(*p.by_tensor));
	p.order = calloc(n, sizeof(*p.order));
	if (p.items && p.first_of && p.has && p.item_of && p.by_tensor && p.order)
		result = plan(&p, err);
	else
		result = sd_fail_memory(err);
	free(p.items);
	free(p.first_of);
	free(p.has);
	free(p.item_of);
	free(p.by_tensor);
	free(p.order);
	return result;
}

void sd_output_plan_sum(const struct sd_output_plan *layout, const struct sd_manifest *manifest,
			struct sd_checksum *sum)
{
	for (size_t i = 0; i < layout->nall; i++) {
		sd_checksum_add_text(sum, layout->all[i].name);
		sd_checksum_add(sum, layout->all[i].header, layout->all[i].header_length);
	}
	for (size_t i = 0; i < manifest->nside; i++) {
		sd_checksum_add_text(sum, manifest->side[i].name);
		sd_checksum_add(sum, manifest->side[i].data, manifest->side[i].size);
	}
}

void sd_output_plan_free(struct sd_output_plan *layout)
{
	for (size_t k = 0; k < layout->nall; k++)
		free(layout->all[k].header);
	free(layout->index);
	sd_arena_free(&layout->arena);
	*layout = (struct sd_output_plan){0};
}
