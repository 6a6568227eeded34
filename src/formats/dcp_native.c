/* SPDX-License-Identifier: Apache-2.0 */
/* PyTorch's distributed checkpoints (DCP) in their own form. */
#include "formats/dcp_native.h"
#include "base/checked.h"
#include "base/text.h"
#include "formats/assembly.h"
#include "formats/torch_save.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum meaning { OTHER, DTYPE = SD_TORCH_DTYPE, METADATA, TENSOR, BYTES, PROPERTIES, CHUNK, INDEX, PLACE, SIZE };

#define METADATA_MODULE "torch.distributed.checkpoint.metadata"
#define OLD_MODULE "torch.distributed._shard.sharded_tensor.metadata"
#define PLANNER_MODULE "torch.distributed.checkpoint.planner"
#define MEGATRON_MODULE "megatron.core.dist_checkpointing.strategies.torch"
#define AUTOMODEL_MODULE "nemo_automodel.components.checkpoint._backports.filesystem"

/* PyTorch 2.1 to 2.11, Megatron-Core and NeMo AutoModel. Save plans come with Megatron-Core, and say nothing more. */
static const struct sd_pickle_global globals[] = {
	{METADATA_MODULE, "Metadata", METADATA, 0},
	{METADATA_MODULE, "TensorStorageMetadata", TENSOR, 0},
	{METADATA_MODULE, "BytesStorageMetadata", BYTES, 0},
	{METADATA_MODULE, "ChunkStorageMetadata", CHUNK, 0},
	{METADATA_MODULE, "TensorProperties", PROPERTIES, 0},
	{METADATA_MODULE, "_MEM_FORMAT_ENCODING", OTHER, SD_PICKLE_ENUM},
	{METADATA_MODULE, "MetadataIndex", INDEX, 0},
	{METADATA_MODULE, "StorageMeta", OTHER, 0},
	{OLD_MODULE, "TensorProperties", PROPERTIES, 0},
	{OLD_MODULE, "MEM_FORMAT_ENCODING", OTHER, SD_PICKLE_ENUM},
	{"torch.distributed.checkpoint.filesystem", "_StorageInfo", PLACE, 0},
	{"torch.distributed.checkpoint.filesystem", "_StoragePrefix", OTHER, 0},
	{PLANNER_MODULE, "SavePlan", OTHER, 0},
	{PLANNER_MODULE, "WriteItem", OTHER, 0},
	{PLANNER_MODULE, "WriteItemType", OTHER, SD_PICKLE_ENUM},
	{PLANNER_MODULE, "TensorWriteData", OTHER, 0},
	{MEGATRON_MODULE, "MCoreMetadata", METADATA, 0},
	{MEGATRON_MODULE, "MCoreSavePlan", OTHER, 0},
	{AUTOMODEL_MODULE, "_StorageInfo", PLACE, 0},
	{AUTOMODEL_MODULE, "_StoragePrefix", OTHER, 0},
	{"torch", "Size", SIZE, 0},
	{"torch.serialization", "_get_layout", OTHER, 0},
	{"pathlib", "PosixPath", OTHER, 0},
	{"pathlib", "WindowsPath", OTHER, 0},
	{"pathlib", "PurePosixPath", OTHER, 0},
	{"pathlib", "PureWindowsPath", OTHER, 0},
	{"pathlib._local", "PosixPath", OTHER, 0},
	{"pathlib._local", "WindowsPath", OTHER, 0},
	{"pathlib._local", "PurePosixPath", OTHER, 0},
	{"pathlib._local", "PureWindowsPath", OTHER, 0},
	{"collections", "OrderedDict", OTHER, 0},
	{"builtins", "getattr", OTHER, SD_PICKLE_GETATTR},
	{"builtins", "set", OTHER, 0},
	{"builtins", "list", OTHER, 0},
	{"builtins", "dict", OTHER, 0},
	{"builtins", "tuple", OTHER, 0},
};

static const struct sd_pickle_rules listed = {
	.globals = globals, .nglobals = sizeof(globals) / sizeof(*globals), .more = &sd_torch_dtype_rules};

/* A box of a tensor, which is a whole file of torch.save inside of a file. */
struct item {
	struct sd_made base;
	const char *name; /* of the tensor */
	const char *file; /* while the files are not open yet */
	const uint64_t *begin, *size, *whole;
	uint64_t offset, length, bytes;
	uint32_t rank;
	uint8_t dtype;
	bool zstd;
};

struct native {
	struct sd_safetensors_read *reading;
	struct sd_arena *arena; /* of the manifest */
	struct sd_arena texts;  /* until all is read */
	struct sd_folder *folder;
	struct sd_names places; /* of boxes, to storage_data's values */
	const struct sd_pickle_node *const *values;
	struct item **items;
	size_t nitems, room;
	size_t left_out;
	const char *first; /* of what is left out, in bytewise order */
};

static enum sd_result fail_form(const struct sd_pickle_node *node, const char *what, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s, at byte %" PRIu32 " of the pickle", what, node->at);
}

/* ---- data ---- */

/* Expands zstd streams, one or more, of at most `most` bytes. *data is malloc'd. */
static enum sd_result expand(const struct sd_extent *packed, uint64_t most, void **data, uint64_t *length,
			     struct sd_error *err)
{
	struct sd_extent part = *packed;
	char *in = malloc((size_t)packed->length + 1), *out = malloc((size_t)most);
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer from = {in, (size_t)packed->length, 0};
	ZSTD_outBuffer to = {out, (size_t)most, 0};
	enum sd_result result = in && out && context ? SD_OK : sd_fail_memory(err);
	size_t left = 0;

	if (result == SD_OK)
		result = sd_extent_read(&part, in, packed->length, err);
	while (result == SD_OK && from.pos < from.size) {
		left = ZSTD_decompressStream(context, &to, &from);
		if (ZSTD_isError(left))
			result = sd_fail(err, SD_INPUT, "damaged zstd data: %s", ZSTD_getErrorName(left));
		else if (to.pos == to.size && (left || from.pos < from.size))
			result = sd_fail(err, SD_INPUT, "its zstd data expands to more than %" PRIu64 " bytes", most);
	}
	if (result == SD_OK && left)
		result = sd_fail(err, SD_INPUT, "truncated zstd data");
	ZSTD_freeDCtx(context);
	free(in);
	if (result != SD_OK) {
		free(out);
		return result;
	}
	*data = out;
	*length = to.pos;
	return SD_OK;
}

/* What a file of torch.save has besides its data. */
#define AROUND_MOST (UINT64_C(1) << 20)

static enum sd_result check_item(const struct item *item, const struct sd_torch_view *v, struct sd_error *err)
{
	char a[SD_SHAPE_TEXT], b[SD_SHAPE_TEXT];

	if (v->dtype == item->dtype && sd_shape_equal(v->elements, v->rank, item->size, item->rank))
		return SD_OK;
	return sd_fail(err, SD_INPUT, "it is %s %s, and " SD_DCP_METADATA " says %s %s", sd_dtype_name(v->dtype),
		       sd_shape_text(v->elements, v->rank, a, sizeof(a)), sd_dtype_name(item->dtype),
		       sd_shape_text(item->size, item->rank, b, sizeof(b)));
}

/* The data of the one tensor that a file of torch.save has. */
static enum sd_result give_whole(const struct item *item, const struct sd_extent *whole, struct sd_extent *chunk,
				 void **memory, struct sd_error *err)
{
	struct sd_torch_single single;
	struct sd_extent first;
	enum sd_result result;
	char magic[SD_ZIP_MAGIC_LENGTH] = "";

	if (sd_zip_part(whole, 0, sizeof(magic), &first) && sd_extent_read(&first, magic, sizeof(magic), err) != SD_OK)
		return err->result;
	if (memcmp(magic, SD_ZIP_MAGIC, sizeof(magic)) != 0)
		return sd_fail(err, SD_INPUT, "no file of torch.save begins at byte %" PRIu64, item->offset);
	result = sd_torch_single_read(whole, &sd_limits_default, &single, err);
	if (result == SD_OK)
		result = check_item(item, &single.view, err);
	if (result == SD_OK)
		result = sd_torch_data(&single.view, whole, chunk, memory, err);
	sd_torch_single_free(&single);
	return result;
}

static enum sd_result give_zstd(const struct item *item, const struct sd_extent *packed, struct sd_extent *chunk,
				void **memory, struct sd_error *err)
{
	struct sd_extent whole = {.fd = -1};
	enum sd_result result;
	uint64_t most;
	void *expanded;

	if (!sd_add(item->bytes, AROUND_MOST, &most))
		return sd_fail_memory(err);
	if (expand(packed, most, &expanded, &whole.length, err) != SD_OK)
		return err->result;
	whole.memory = expanded;
	result = give_whole(item, &whole, chunk, memory, err);
	if (result == SD_OK && !*memory)
		*memory = expanded;
	else
		free(expanded);
	return result;
}

static enum sd_result give(struct sd_made *base, const struct sd_input *input, struct sd_extent *chunk, void **memory,
			   struct sd_error *err)
{
	const struct item *item = (const struct item *)base;
	struct sd_extent whole = sd_extents_of(input, item->offset, item->length);
	uint64_t end[SD_RANK_MAX];
	char text[SD_BOX_TEXT];
	enum sd_result result =
		item->zstd ? give_zstd(item, &whole, chunk, memory, err) : give_whole(item, &whole, chunk, memory, err);

	if (result == SD_OK || err->told)
		return result;
	for (uint32_t k = 0; k < item->rank; k++)
		end[k] = item->begin[k] + item->size[k];
	return sd_error_at(err, "%s: %s %s", input->path, item->name, sd_box_text(item->begin, end, item->rank, text));
}

/* ---- .metadata ---- */

/* The sizes of a torch.Size, of a dtype whose last dimension counts codes by the byte. */
static enum sd_result take_sizes(struct native *n, const struct sd_pickle_node *node, unsigned codes,
				 const uint64_t **sizes, uint32_t *rank, struct sd_error *err)
{
	const struct sd_pickle_node *tuple = node;
	uint64_t *made;

	if (node && sd_pickle_meaning(node, SD_PICKLE_OBJECT) == SIZE && node->object->args->count == 1)
		tuple = node->object->args->items[0];
	if (!tuple)
		return sd_fail(err, SD_INPUT, "a box without a size or a place");
	if (tuple->kind != SD_PICKLE_TUPLE || tuple->count > SD_RANK_MAX)
		return fail_form(tuple, "what should be a torch.Size is none", err);
	made = sd_arena_array(n->arena, tuple->count + 1, sizeof(*made));
	if (!made)
		return sd_fail_memory(err);
	for (uint32_t k = 0; k < tuple->count; k++)
		if (!sd_pickle_size(tuple->items[k], &made[k]) ||
		    (k + 1 == tuple->count && !sd_mul(made[k], codes, &made[k])))
			return fail_form(tuple, "a size is negative or no number", err);
	*sizes = made;
	*rank = tuple->count;
	return SD_OK;
}

static enum sd_result take_name(struct native *n, const struct sd_pickle_node *node, const char **name,
				struct sd_error *err)
{
	if (!node || node->kind != SD_PICKLE_TEXT || !sd_text_is_utf8(node->text, node->count))
		return sd_fail(err, SD_INPUT, "a name is no text in UTF-8");
	if (sd_limits_check_name(&n->reading->limits, node->text, node->count, err) != SD_OK)
		return err->result;
	*name = sd_arena_text(n->arena, node->text, node->count);
	return *name ? SD_OK : sd_fail_memory(err);
}

/* What a box is called among the places: its tensor's name and its offsets, which nothing else can be. */
static enum sd_result key_of(struct native *n, const struct sd_pickle_node *name, const struct sd_pickle_node *offsets,
			     char **key, struct sd_error *err)
{
	const uint64_t *at;
	uint32_t rank;
	size_t length = name->count, room;

	if (take_sizes(n, offsets, 1, &at, &rank, err) != SD_OK)
		return err->result;
	room = length + 2 + (size_t)rank * 21 + 1;
	*key = sd_arena_alloc(&n->texts, room);
	if (!*key)
		return sd_fail_memory(err);
	memcpy(*key, name->text, length);
	(*key)[length++] = ' ';
	for (uint32_t k = 0; k < rank; k++)
		length += (size_t)snprintf(*key + length, room - length, ",%" PRIu64, at[k]);
	return SD_OK;
}

/* Where each box is: {MetadataIndex: _StorageInfo}. Those of what is no tensor have no offset. */
static enum sd_result read_places(struct native *n, const struct sd_pickle_node *data, struct sd_error *err)
{
	if (!data || data->kind != SD_PICKLE_DICT)
		return sd_fail(err, SD_INPUT, "it has no storage_data");
	n->values = (const struct sd_pickle_node *const *)data->items;
	for (uint32_t i = 0; i < data->count; i += 2) {
		const struct sd_pickle_node *index = data->items[i], *name, *offset;
		char *key;

		if (sd_pickle_meaning(index, SD_PICKLE_OBJECT) != INDEX)
			return fail_form(index, "a key of storage_data is no MetadataIndex", err);
		name = sd_pickle_attribute(index, "fqn");
		offset = sd_pickle_attribute(index, "offset");
		if (!name || name->kind != SD_PICKLE_TEXT)
			return fail_form(index, "a MetadataIndex has no fqn", err);
		if (!offset || offset->kind == SD_PICKLE_NONE)
			continue;
		if (key_of(n, name, offset, &key, err) != SD_OK)
			return err->result;
		if (sd_names_add(&n->places, key, i + 1) == SD_NO_NAME)
			return sd_fail_memory(err);
	}
	return SD_OK;
}

/* ["stream.zstd/1"]: name[@domain][/version] */
static enum sd_result take_transforms(struct item *item, const struct sd_pickle_node *list, struct sd_error *err)
{
	static const char zstd[] = "stream.zstd";
	const struct sd_pickle_node *only;

	if (!list || list->kind == SD_PICKLE_NONE || (list->kind == SD_PICKLE_LIST && !list->count))
		return SD_OK;
	only = list->kind == SD_PICKLE_LIST ? list->items[0] : list;
	if (only->kind != SD_PICKLE_TEXT)
		return fail_form(list, "transform_descriptors are no texts", err);
	item->zstd =
		only->count >= strlen(zstd) && memcmp(only->text, zstd, strlen(zstd)) == 0 &&
		(only->count == strlen(zstd) || only->text[strlen(zstd)] == '/' || only->text[strlen(zstd)] == '@');
	for (uint32_t i = 0; i < only->count && item->zstd; i++)
		if (only->text[i] == '/')
			item->zstd = i + 1 < only->count && only->text[i + 1] == '1' &&
				     (i + 2 == only->count || only->text[i + 2] == '.');
	if (item->zstd && list->count > 1)
		only = list->items[1];
	if (item->zstd && only == list->items[0])
		return SD_OK;
	return sd_fail(err, SD_INPUT, "%s is transformed by %.*s; only stream.zstd/1, alone, is read", item->name,
		       only->kind == SD_PICKLE_TEXT ? (int)(only->count < 200 ? only->count : 200) : 1,
		       only->kind == SD_PICKLE_TEXT ? only->text : "?");
}

/* A name in the directory: nothing that leads out of it. */
static enum sd_result take_file(struct native *n, struct item *item, const struct sd_pickle_node *path,
				struct sd_error *err)
{
	char *file;

	if (!path || path->kind != SD_PICKLE_TEXT)
		return sd_fail(err, SD_INPUT, "%s is in a file without a name", item->name);
	file = sd_arena_text(&n->texts, path->text, path->count);
	if (!file)
		return sd_fail_memory(err);
	if (strlen(file) != path->count || !*file || strchr(file, '/') || strcmp(file, ".") == 0 ||
	    strcmp(file, "..") == 0)
		return sd_fail(err, SD_INPUT, "%s is said to be in %s, which is no name of a file of this directory",
			       item->name, file);
	item->file = file;
	return SD_OK;
}

static enum sd_result find_place(struct native *n, struct item *item, const struct sd_pickle_node *name,
				 const struct sd_pickle_node *offsets, struct sd_error *err)
{
	const struct sd_pickle_node *place;
	uint64_t end[SD_RANK_MAX];
	char text[SD_BOX_TEXT], *key;
	uint32_t number;

	if (key_of(n, name, offsets, &key, err) != SD_OK)
		return err->result;
	number = sd_names_find(&n->places, key);
	if (number == SD_NO_NAME) {
		for (uint32_t k = 0; k < item->rank; k++)
			if (!sd_add(item->begin[k], item->size[k], &end[k]))
				end[k] = UINT64_MAX;
		return sd_fail(err, SD_INPUT, "no storage for %s %s", item->name,
			       sd_box_text(item->begin, end, item->rank, text));
	}
	place = n->values[number];
	if (sd_pickle_meaning(place, SD_PICKLE_OBJECT) != PLACE)
		return fail_form(place, "a value of storage_data is no _StorageInfo", err);
	if (!sd_pickle_attribute(place, "offset") || !sd_pickle_attribute(place, "length") ||
	    !sd_pickle_size(sd_pickle_attribute(place, "offset"), &item->offset) ||
	    !sd_pickle_size(sd_pickle_attribute(place, "length"), &item->length) || item->offset > INT64_MAX ||
	    item->length > INT64_MAX)
		return fail_form(place, "a _StorageInfo has no place", err);
	if (take_file(n, item, sd_pickle_attribute(place, "relative_path"), err) != SD_OK)
		return err->result;
	return take_transforms(item, sd_pickle_attribute(place, "transform_descriptors"), err);
}

static enum sd_result add_chunk(struct native *n, const struct item *tensor, const struct sd_pickle_node *name,
				const struct sd_pickle_node *chunk, struct sd_error *err)
{
	struct item *item = sd_arena_copy(n->arena, tensor, sizeof(*tensor));
	const struct sd_pickle_node *offsets = sd_pickle_attribute(chunk, "offsets");
	unsigned codes = tensor->dtype == SD_F4 ? 2 : 1;
	uint64_t elements;
	uint32_t rank, begins;

	if (!item || !sd_array_grow(&n->items, n->nitems, &n->room, sizeof(struct item *)))
		return sd_fail_memory(err);
	if (sd_pickle_meaning(chunk, SD_PICKLE_OBJECT) != CHUNK)
		return fail_form(chunk, "a chunk is no ChunkStorageMetadata", err);
	if (take_sizes(n, offsets, codes, &item->begin, &begins, err) != SD_OK ||
	    take_sizes(n, sd_pickle_attribute(chunk, "sizes"), codes, &item->size, &rank, err) != SD_OK)
		return sd_error_at(err, "%s", item->name);
	if (rank != item->rank || begins != item->rank)
		return sd_fail(err, SD_INPUT, "%s has %" PRIu32 " dimensions, and a chunk of %" PRIu32, item->name,
			       item->rank, rank);
	if (!sd_shape_count(item->size, rank, &elements) || !sd_dtype_bytes(item->dtype, elements, &item->bytes))
		return sd_fail(err, SD_INPUT, "%s has a chunk of no possible size", item->name);
	item->base.give = give;
	n->items[n->nitems++] = item;
	return find_place(n, item, name, offsets, err);
}

static enum sd_result take_dtype(const struct item *item, const struct sd_pickle_node *properties, enum sd_dtype *dtype,
				 struct sd_error *err)
{
	const struct sd_pickle_node *state, *node;

	if (!properties || sd_pickle_meaning(properties, SD_PICKLE_OBJECT) != PROPERTIES)
		return sd_fail(err, SD_INPUT, "%s has no properties", item->name);
	state = properties->object->state;
	node = state && state->kind == SD_PICKLE_TUPLE && state->count ? state->items[0]
								       : sd_pickle_attribute(properties, "dtype");
	if (!node || sd_pickle_meaning(node, SD_PICKLE_GLOBAL) != DTYPE)
		return sd_fail(err, SD_INPUT, "%s has no dtype", item->name);
	*dtype = sd_torch_dtype(node->global->name);
	if (*dtype == SD_NO_DTYPE)
		return sd_fail(err, SD_INPUT, "%s is %s, which safetensors does not have", item->name,
			       node->global->name);
	return SD_OK;
}

static enum sd_result add_tensor(struct native *n, const struct sd_pickle_node *name,
				 const struct sd_pickle_node *tensor, struct sd_error *err)
{
	const struct sd_pickle_node *chunks = sd_pickle_attribute(tensor, "chunks");
	struct item item = {0};
	enum sd_dtype dtype = SD_NO_DTYPE;
	char shape[SD_SHAPE_TEXT];

	if (take_name(n, name, &item.name, err) != SD_OK ||
	    take_dtype(&item, sd_pickle_attribute(tensor, "properties"), &dtype, err) != SD_OK)
		return err->result;
	item.dtype = (uint8_t)dtype;
	if (take_sizes(n, sd_pickle_attribute(tensor, "size"), dtype == SD_F4 ? 2 : 1, &item.whole, &item.rank, err) !=
	    SD_OK)
		return sd_error_at(err, "%s", item.name);
	if (!chunks || chunks->kind != SD_PICKLE_LIST || !chunks->count)
		return sd_fail(err, SD_INPUT, "%s %s has no chunks, so nothing is there of it", item.name,
			       sd_shape_text(item.whole, item.rank, shape, sizeof(shape)));
	if (sd_limits_check(&n->reading->limits, SD_LIMIT_TENSORS, n->nitems + chunks->count,
			    "up to this tensor there are, in chunks,", err) != SD_OK)
		return err->result;
	for (uint32_t i = 0; i < chunks->count; i++)
		if (add_chunk(n, &item, name, chunks->items[i], err) != SD_OK)
			return err->result;
	return SD_OK;
}

static enum sd_result leave_out(struct native *n, const struct sd_pickle_node *name, struct sd_error *err)
{
	const char *text;

	if (take_name(n, name, &text, err) != SD_OK)
		return err->result;
	if (!n->left_out++ || strcmp(text, n->first) < 0)
		n->first = text;
	return SD_OK;
}

static enum sd_result read_tensors(struct native *n, const struct sd_pickle_node *all, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	if (!all || all->kind != SD_PICKLE_DICT)
		return sd_fail(err, SD_INPUT, "it has no state_dict_metadata");
	for (uint32_t i = 0; i < all->count && result == SD_OK; i += 2) {
		int meaning = sd_pickle_meaning(all->items[i + 1], SD_PICKLE_OBJECT);

		if (meaning == TENSOR)
			result = add_tensor(n, all->items[i], all->items[i + 1], err);
		else if (meaning == BYTES)
			result = leave_out(n, all->items[i], err);
		else
			result = fail_form(all->items[i + 1], "an entry is neither a tensor nor bytes", err);
	}
	return result;
}

/* ---- files ---- */

static int by_place(const void *a, const void *b)
{
	const struct item *x = *(const struct item *const *)a, *y = *(const struct item *const *)b;
	int order = sd_text_natural(x->file, y->file);

	order = order ? order : (x->offset > y->offset) - (x->offset < y->offset);
	return order ? order : strcmp(x->name, y->name);
}

static enum sd_result open_file(struct native *n, const char *file, uint32_t *input, struct sd_error *err)
{
	if (!n->folder->ops->has(n->folder, file))
		return sd_folder_fail(n->folder, file, err, " is not there, but " SD_DCP_METADATA " names it");
	return n->folder->ops->open(n->folder, file, n->reading->source, input, err);
}

static enum sd_result place_item(struct native *n, struct sd_assembly *assembly, struct item *item, uint32_t input,
				 struct sd_error *err)
{
	const struct sd_input *in = sd_extents_at(n->reading->source, input);
	uint64_t size = in->size;
	struct sd_assembly_box box = {.name = item->name,
				      .begin = item->begin,
				      .size = item->size,
				      .whole = item->whole,
				      .rank = item->rank,
				      .input = input,
				      .dtype = item->dtype,
				      .offset = item->offset,
				      .bytes = item->bytes,
				      .made = &item->base};

	if (sd_assembly_add(assembly, &box, err) != SD_OK)
		return err->told ? err->result : sd_error_at(err, "%s", in->path);
	if (item->length <= size && item->offset <= size - item->length)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "%s: %s needs the bytes %" PRIu64 " to %" PRIu64 ", the file has %" PRIu64,
		       in->path, item->name, item->offset, item->offset + item->length, size);
}

/* Opens the files in order, and puts the boxes together. */
static enum sd_result assemble(struct native *n, struct sd_error *err)
{
	struct sd_assembly *assembly = sd_assembly_new(n->reading->source, n->reading->limits.short_data);
	enum sd_result result = assembly ? SD_OK : sd_fail_memory(err);
	const char *file = NULL;
	uint32_t input = 0;

	if (n->nitems)
		qsort(n->items, n->nitems, sizeof(*n->items), by_place);
	for (size_t i = 0; i < n->nitems && result == SD_OK; i++) {
		if (!file || strcmp(file, n->items[i]->file) != 0)
			result = open_file(n, n->items[i]->file, &input, err);
		file = n->items[i]->file;
		if (result == SD_OK)
			result = place_item(n, assembly, n->items[i], input, err);
	}
	if (result == SD_OK)
		result = sd_assembly_finish(assembly, &n->reading->whole, err);
	sd_assembly_free(assembly);
	return result;
}

static enum sd_result note_left_out(struct native *n, struct sd_error *err)
{
	if (!n->left_out)
		return SD_OK;
	if (n->left_out == 1)
		return sd_safetensors_read_note(n->reading, err, "%s: %s is no tensor (left out)", n->folder->path,
						n->first);
	return sd_safetensors_read_note(n->reading, err, "%s: %zu entries are no tensors: %s, ... (left out)",
					n->folder->path, n->left_out, n->first);
}

static enum sd_result read_pickle(struct native *n, const void *data, size_t length, struct sd_pickle *pickle,
				  struct sd_error *err)
{
	struct sd_pickle_rules rules = listed;

	rules.others = n->reading->limits.skip_objects;
	if (sd_pickle_read(data, length, &rules, pickle, err) != SD_OK)
		return err->result;
	if (sd_pickle_meaning(pickle->top, SD_PICKLE_OBJECT) != METADATA)
		return sd_fail(err, SD_INPUT, "it is no Metadata of PyTorch DCP");
	if (read_places(n, sd_pickle_attribute(pickle->top, "storage_data"), err) != SD_OK)
		return err->result;
	return read_tensors(n, sd_pickle_attribute(pickle->top, "state_dict_metadata"), err);
}

static enum sd_result read_metadata(struct native *n, struct sd_error *err)
{
	struct sd_pickle pickle = {0};
	uint64_t most = n->reading->limits.most[SD_LIMIT_MANIFEST], size;
	void *data;
	enum sd_result result =
		n->folder->ops->read(n->folder, SD_DCP_METADATA, most, n->reading->source, &data, &size, err);

	if (result != SD_OK)
		return result;
	if (!data)
		return sd_folder_fail(n->folder, SD_DCP_METADATA, err, " is no file, or larger than --limit=manifest");
	result = read_pickle(n, data, (size_t)size, &pickle, err);
	sd_pickle_free(&pickle);
	free(data);
	return result == SD_OK || err->told ? result : sd_error_at(err, "%s/" SD_DCP_METADATA, n->folder->path);
}

enum sd_result sd_dcp_native_add(struct sd_safetensors_read *reading, struct sd_folder *folder, struct sd_error *err)
{
	struct native n = {.reading = reading, .arena = &reading->source->manifest->arena, .folder = folder};
	enum sd_result result = read_metadata(&n, err);

	if (result == SD_OK)
		result = assemble(&n, err);
	if (result == SD_OK)
		result = note_left_out(&n, err);
	free(n.items);
	sd_names_free(&n.places);
	sd_arena_free(&n.texts);
	return result;
}
