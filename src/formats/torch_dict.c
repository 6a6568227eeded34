/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are in what torch.save was given, and what they are called. */
#include "formats/torch_dict.h"
#include "base/checked.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MOST 1000

/* Values that are no tensors: where there are more, a dict of them is named as one; and where far more, it is an error,
 * for nobody has so many, and a pickle that is small may hold a large dict again and again. */
#define LEAVES_NAMED (UINT64_C(1) << 20)
#define LEAVES_MOST (UINT64_C(1) << 26)

/* Memory of the tensors of a file, together, in bytes of its storages: views of one may be large, but not for long. */
#define EXPANDED_MOST 1000
#define EXPANDED_FREE (UINT64_C(64) << 20)

/* A tensor that is made when it is asked for. */
struct made_tensor {
	struct sd_made base;
	struct sd_torch_view view;
	const char *name;
};

/* What is below a node, each as often as it has a name. */
struct below {
	uint64_t tensors, leaves;
	bool open, done;
};

struct walk {
	struct sd_safetensors_read *reading;
	struct sd_torch *torch;
	struct sd_chooser *chooser;
	uint32_t input;
	struct below *below; /* of nodes that hold others, by their numbers */
	char *path;
	size_t length, room;
	const struct made_tensor **made;
	size_t count, made_room;
	uint64_t bytes;    /* of all tensors */
	bool names_leaves; /* there are not too many */
	uint64_t left_out;
	char *first; /* the first name that is left out, in bytewise order; malloc'd */
};

/* ---- counting ---- */

/* What a node holds: every step-th of the items from first on is a value. */
struct held {
	struct sd_pickle_node *const *items;
	uint32_t count, step;
};

static struct held held_by(const struct sd_pickle_node *node)
{
	if (node->kind == SD_PICKLE_LIST || node->kind == SD_PICKLE_TUPLE)
		return (struct held){node->items, node->count, 1};
	if (node->kind == SD_PICKLE_DICT)
		return (struct held){node->items, node->count, 2};
	if (sd_torch_is_dict(node) && node->object->pairs)
		return (struct held){node->object->items, node->count, 2};
	return (struct held){NULL, 0, 1};
}

static bool is_walked(const struct sd_pickle_node *node)
{
	return node->kind == SD_PICKLE_LIST || node->kind == SD_PICKLE_TUPLE || sd_torch_is_dict(node);
}

static uint64_t add_up(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Counts each node once, however often it is held. */
static enum sd_result count(struct walk *w, const struct sd_pickle_node *node, unsigned depth, struct below *out,
			    struct sd_error *err)
{
	struct held held = held_by(node);
	struct below *b, one;

	*out = (struct below){.tensors = sd_torch_is_tensor(node), .leaves = !sd_torch_is_tensor(node)};
	if (!is_walked(node))
		return SD_OK;
	if (node->kind == SD_PICKLE_OBJECT && node->object->args->count &&
	    strcmp(node->object->global->name, "OrderedDict") == 0)
		return sd_fail(err, SD_INPUT,
			       "an OrderedDict as Python 2 wrote it, at byte %" PRIu32 " of the pickle: load "
			       "it and save it once more",
			       node->at);
	b = &w->below[node->number];
	if (b->open || depth == DEPTH_MOST)
		return sd_fail(err, SD_INPUT,
			       b->open ? "a list or a dict is in itself, at byte %" PRIu32 " of the pickle"
				       : "lists and dicts are nested too deep, at byte %" PRIu32 " of the pickle",
			       node->at);
	b->open = true;
	for (uint32_t i = held.step - 1; i < held.count && !b->done; i += held.step) {
		if (count(w, held.items[i], depth + 1, &one, err) != SD_OK)
			return err->result;
		b->tensors = add_up(b->tensors, one.tensors);
		b->leaves = add_up(b->leaves, one.leaves);
	}
	/* Lists without tensors are values. */
	if (!b->tensors && !sd_torch_is_dict(node))
		b->leaves = 1;
	b->open = false;
	b->done = true;
	*out = *b;
	return SD_OK;
}

/* What is below a node that was counted. */
static struct below below(const struct walk *w, const struct sd_pickle_node *node)
{
	if (is_walked(node))
		return w->below[node->number];
	return (struct below){.tensors = sd_torch_is_tensor(node), .leaves = !sd_torch_is_tensor(node)};
}

/* ---- names ---- */

static enum sd_result append(struct walk *w, const char *text, size_t length, struct sd_error *err)
{
	if (w->length + length + 2 > w->room) {
		size_t room = 2 * (w->length + length + 2);
		char *larger = realloc(w->path, room);

		if (!larger)
			return sd_fail_memory(err);
		w->path = larger;
		w->room = room;
	}
	if (w->length)
		w->path[w->length++] = '.';
	memcpy(w->path + w->length, text, length);
	w->length += length;
	w->path[w->length] = '\0';
	return SD_OK;
}

/* Appends what item number i of a node is called. Keys that are no names are shown as what they are not. */
static enum sd_result append_key(struct walk *w, struct held held, uint32_t i, struct sd_error *err)
{
	const struct sd_pickle_node *key = held.items[i - (held.step - 1)];
	char number[32];

	if (held.step == 2 && key->kind == SD_PICKLE_TEXT) {
		if (sd_text_is_utf8(key->text, key->count))
			return append(w, key->text, key->count, err);
		return sd_fail(err, SD_INPUT, "a key is no text in UTF-8, at byte %" PRIu32 " of the pickle", key->at);
	}
	if (held.step == 2 && key->kind != SD_PICKLE_INT) {
		if (!below(w, held.items[i]).tensors)
			return append(w, "?", 1, err);
		return sd_fail(err, SD_INPUT,
			       "a tensor's key is neither text nor a number, at byte %" PRIu32 " of the pickle",
			       key->at);
	}
	snprintf(number, sizeof(number), "%" PRId64, held.step == 2 ? key->integer : (int64_t)i);
	return append(w, number, strlen(number), err);
}

static void cut(struct walk *w, size_t length)
{
	w->length = length;
	if (w->path)
		w->path[length] = '\0';
}

/* ---- tensors ---- */

static enum sd_result give(struct sd_made *base, const struct sd_input *input, struct sd_extent *chunk, void **memory,
			   struct sd_error *err)
{
	struct made_tensor *t = (struct made_tensor *)base;
	struct sd_extent whole = sd_extents_of(input, 0, input->size);

	if (sd_torch_data(&t->view, &whole, chunk, memory, err) == SD_OK)
		return SD_OK;
	return err->told ? err->result : sd_error_at(err, "%s: %s", input->path, t->name);
}

/* That what comes out stays in proportion to what is there. */
static enum sd_result check_expanded(struct walk *w, uint64_t bytes, struct sd_error *err)
{
	uint64_t stored = sd_extents_at(w->reading->source, w->input)->size;

	w->bytes = add_up(w->bytes, bytes);
	if (w->reading->limits.allow_expand || w->bytes <= EXPANDED_FREE || w->bytes / EXPANDED_MOST <= stored)
		return SD_OK;
	return sd_fail(err, SD_INPUT,
		       "%s: with it, %" PRIu64 " bytes of tensors are made of a file of %" PRIu64
		       ": it is expanded too far; sd-cat "
		       "--allow-expand sends it all the same",
		       w->path, w->bytes, stored);
}

static enum sd_result add_tensor(struct walk *w, const struct sd_pickle_node *node, struct sd_error *err)
{
	struct sd_arena *arena = &w->reading->source->manifest->arena;
	struct made_tensor *t = sd_arena_alloc(arena, sizeof(*t));
	struct sd_record record = {.state = SD_HERE};
	struct sd_target target = {0};

	if (sd_limits_check_name(&w->reading->limits, w->path, w->length, err) != SD_OK)
		return err->result;
	if (w->chooser && !w->chooser->wants(w->chooser, w->path, &record.lack))
		return SD_OK;
	if (!t || !(t->name = sd_arena_text(arena, w->path, w->length)) ||
	    !sd_array_grow(&w->made, w->count, &w->made_room, sizeof(struct made_tensor *)))
		return sd_fail_memory(err);
	if (sd_torch_view(w->torch, node, &t->view, err) != SD_OK)
		return err->told ? err->result : sd_error_at(err, "%s", w->path);
	if (check_expanded(w, t->view.bytes, err) != SD_OK)
		return err->result;
	t->base.give = give;
	w->made[w->count++] = t;
	record.key = target.name = t->name;
	record.shape = target.shape = t->view.elements;
	record.rank = target.rank = t->view.rank;
	record.dtype = target.dtype = t->view.dtype;
	record.bytes = t->view.bytes;
	return sd_safetensors_read_add_made(w->reading, &record, &target, w->input,
					    t->view.storage->offset + t->view.offset * t->view.item, &t->base, err);
}

/* ---- what is left out ---- */

static enum sd_result leave_out(struct walk *w, const struct sd_pickle_node *node, unsigned depth, struct sd_error *err)
{
	struct held held = held_by(node);
	size_t length = w->length;

	if (sd_torch_is_dict(node) && w->names_leaves && depth < DEPTH_MOST) {
		for (uint32_t i = held.step - 1; i < held.count; i += held.step) {
			if (append_key(w, held, i, err) != SD_OK ||
			    leave_out(w, held.items[i], depth + 1, err) != SD_OK)
				return err->result;
			cut(w, length);
		}
		return SD_OK;
	}
	w->left_out++;
	if (w->first && strcmp(w->first, w->path) <= 0)
		return SD_OK;
	free(w->first);
	w->first = strdup(w->path ? w->path : "");
	return w->first ? SD_OK : sd_fail_memory(err);
}

static const char *path_of(const struct walk *w)
{
	return sd_extents_at(w->reading->source, w->input)->path;
}

static enum sd_result note_left_out(struct walk *w, struct sd_error *err)
{
	if (!w->left_out)
		return SD_OK;
	if (w->left_out == 1)
		return sd_safetensors_read_note(w->reading, err, "%s: %s is no tensor (left out)", path_of(w),
						w->first);
	return sd_safetensors_read_note(w->reading, err, "%s: %" PRIu64 " entries are no tensors: %s, ... (left out)",
					path_of(w), w->left_out, w->first);
}

/* ---- walking ---- */

static enum sd_result walk(struct walk *w, const struct sd_pickle_node *node, struct sd_error *err)
{
	struct held held = held_by(node);
	size_t length = w->length;

	if (sd_torch_is_tensor(node))
		return add_tensor(w, node, err);
	if (!below(w, node).tensors)
		return leave_out(w, node, 0, err);
	for (uint32_t i = held.step - 1; i < held.count; i += held.step) {
		if (append_key(w, held, i, err) != SD_OK || walk(w, held.items[i], err) != SD_OK)
			return err->result;
		cut(w, length);
	}
	return SD_OK;
}

/* ---- which dict is the model ---- */

static const char *const tops[] = {"state_dict", "model_state_dict", "model", "module"};

#define TOPS (sizeof(tops) / sizeof(*tops))

/* The value of a key of the top, or NULL. */
static const struct sd_pickle_node *value_of(const struct sd_pickle_node *top, const char *key)
{
	struct held held = held_by(top);

	return held.step == 2 ? sd_pickle_get(held.items, held.count, key) : NULL;
}

/* Says what is beside the dict that is taken. */
static enum sd_result note_root(struct walk *w, const struct sd_pickle_node *top, const char *root,
				struct sd_error *err)
{
	struct held held = held_by(top);
	char others[256] = "";
	uint32_t more = 0;

	for (uint32_t i = 0; i < held.count; i += 2) {
		const struct sd_pickle_node *key = held.items[i];
		size_t used = strlen(others);

		if (sd_pickle_is(key, root))
			continue;
		if (key->kind != SD_PICKLE_TEXT || key->count + used + 3 > sizeof(others))
			more++;
		else
			snprintf(others + used, sizeof(others) - used, "%s%.*s", used ? ", " : "", (int)key->count,
				 key->text);
	}
	if (!others[0])
		return sd_safetensors_read_note(w->reading, err, "%s: what is under %s is taken", path_of(w), root);
	return sd_safetensors_read_note(w->reading, err,
					"%s: what is under %s is taken, and not %s%s; sd-cat --root chooses",
					path_of(w), root, others, more ? ", ..." : "");
}

/* The one dict that is a model beside things that are none, or the top itself. */
static enum sd_result choose_root(struct walk *w, const struct sd_pickle_node **root, struct sd_error *err)
{
	const struct sd_pickle_node *top = *root, *value;
	const char *found = NULL;

	for (size_t i = 0; i < TOPS; i++) {
		value = value_of(top, tops[i]);
		if (!value || !sd_torch_is_dict(value) || !below(w, value).tensors)
			continue;
		if (found)
			return sd_fail(err, SD_INPUT,
				       "%s and %s may both be the model: sd-cat --root=%s or --root=%s "
				       "chooses, --root= takes all",
				       found, tops[i], found, tops[i]);
		found = tops[i];
		*root = value;
	}
	return found ? note_root(w, top, found, err) : SD_OK;
}

static enum sd_result find_root(struct walk *w, const struct sd_pickle_node **root, struct sd_error *err)
{
	const char *key = w->reading->limits.root;
	const struct sd_pickle_node *value;

	if (!key)
		return choose_root(w, root, err);
	if (!*key)
		return SD_OK;
	value = value_of(*root, key);
	if (!value || !below(w, value).tensors)
		return sd_fail(err, SD_INPUT, "--root=%s: %s", key,
			       value ? "there is no tensor under it" : "there is no such key at its top");
	*root = value;
	return SD_OK;
}

/* ---- names that are one tensor ---- */

static int by_place(const void *a, const void *b)
{
	const struct sd_torch_view *x = &(*(const struct made_tensor *const *)a)->view;
	const struct sd_torch_view *y = &(*(const struct made_tensor *const *)b)->view;
	int order = (x->storage->offset > y->storage->offset) - (x->storage->offset < y->storage->offset);

	order = order ? order : (x->offset > y->offset) - (x->offset < y->offset);
	order = order ? order : (x->rank > y->rank) - (x->rank < y->rank);
	order = order ? order : (x->dtype > y->dtype) - (x->dtype < y->dtype);
	order = order ? order : (x->conjugate - y->conjugate) * 2 + (x->negate - y->negate);
	for (uint32_t k = 0; k < x->rank && !order; k++) {
		order = (x->shape[k] > y->shape[k]) - (x->shape[k] < y->shape[k]);
		order = order ? order : (x->stride[k] > y->stride[k]) - (x->stride[k] < y->stride[k]);
	}
	return order;
}

static int by_place_and_name(const void *a, const void *b)
{
	int order = by_place(a, b);

	return order ? order
		     : strcmp((*(const struct made_tensor *const *)a)->name,
			      (*(const struct made_tensor *const *)b)->name);
}

static enum sd_result note_tied(struct walk *w, struct sd_error *err)
{
	const struct made_tensor *first = NULL, *second = NULL;
	char more[64] = "";
	size_t tied = 0;

	if (w->count)
		qsort(w->made, w->count, sizeof(*w->made), by_place_and_name);
	for (size_t i = 1; i < w->count; i++) {
		if (!w->made[i]->view.bytes || by_place(&w->made[i - 1], &w->made[i]) != 0)
			continue;
		if (!tied++) {
			first = w->made[i - 1];
			second = w->made[i];
		}
	}
	if (!tied)
		return SD_OK;
	if (tied > 1)
		snprintf(more, sizeof(more), ", and %zu more are likewise tied", tied - 1);
	return sd_safetensors_read_note(w->reading, err, "%s: %s and %s are one tensor, and come as two%s", path_of(w),
					first->name, second->name, more);
}

/* ---- all of it ---- */

static enum sd_result add_all(struct walk *w, const struct sd_pickle_node *top, struct sd_error *err)
{
	struct below all;
	enum sd_result result = count(w, top, 0, &all, err);

	if (result == SD_OK)
		result = find_root(w, &top, err);
	if (result == SD_OK)
		result = sd_limits_check(&w->reading->limits, SD_LIMIT_TENSORS,
					 add_up(sd_safetensors_read_count(w->reading), below(w, top).tensors),
					 "with lists and dicts as often as they are held, there are", err);
	if (result == SD_OK && !below(w, top).tensors)
		result = sd_fail(err, SD_INPUT, "there is no tensor in it");
	if (result == SD_OK && below(w, top).leaves > LEAVES_MOST)
		result = sd_fail(err, SD_INPUT, "there are more than %" PRIu64 " values beside its tensors",
				 LEAVES_MOST);
	w->names_leaves = result == SD_OK && below(w, top).leaves <= LEAVES_NAMED;
	if (result == SD_OK && sd_torch_is_tensor(top))
		result = append(w, "tensor", strlen("tensor"), err);
	if (result == SD_OK)
		result = walk(w, top, err);
	if (result == SD_OK)
		result = note_left_out(w, err);
	return result == SD_OK ? note_tied(w, err) : result;
}

enum sd_result sd_torch_dict_add(struct sd_safetensors_read *reading, uint32_t input, const struct sd_pickle *pickle,
				 struct sd_torch *torch, struct sd_chooser *chooser, struct sd_error *err)
{
	struct walk w = {.reading = reading, .torch = torch, .chooser = chooser, .input = input};
	enum sd_result result;

	w.below = calloc(pickle->holders + (size_t)1, sizeof(*w.below));
	result = w.below ? add_all(&w, pickle->top, err) : sd_fail_memory(err);
	free(w.below);
	free(w.path);
	free(w.made);
	free(w.first);
	return result;
}
