/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors as torch.save has them: what the calls in its pickles mean. */
#include "formats/torch_tensor.h"
#include "base/checked.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What a global means. The functions' arguments are as torch/_utils.py has them. */
enum meaning {
	HARMLESS,               /* a value that is no tensor and holds none; 0, as all that is left out */
	DTYPE = SD_TORCH_DTYPE, /* by its name one of dtypes[] */
	DICT,
	STORAGE,      /* a class, by its name one of dtypes[] */
	UNTYPED,      /* of bytes */
	TENSOR_CLASS, /* that says nothing more than that it is a tensor */
	PARAMETER,    /* the same, and may also be called */
	TENSOR,       /* storage, offset, size, stride, .. */
	TENSOR_DTYPE, /* the same, and a dtype, as the storage has none */
	WRAPPED,      /* the first argument is the tensor */
	DEVICE,       /* the same, and then its dtype */
	TYPED,        /* function, type, args, state */
	QUANTIZED,    /* kinds of tensors that safetensors does not have, or not so */
	SPARSE,
	NESTED,
	META,
	SUBCLASS,
	OF_NUMPY,
};

/* Name, class of storage, dtype of safetensors, bytes of an element, and of what is one number in it. */
#define DTYPES_OF_TORCH(ROW)                                                                                           \
	ROW("float32", "FloatStorage", SD_F32, 4, 4)                                                                   \
	ROW("bfloat16", "BFloat16Storage", SD_BF16, 2, 2)                                                              \
	ROW("float16", "HalfStorage", SD_F16, 2, 2)                                                                    \
	ROW("float64", "DoubleStorage", SD_F64, 8, 8)                                                                  \
	ROW("int64", "LongStorage", SD_I64, 8, 8)                                                                      \
	ROW("int32", "IntStorage", SD_I32, 4, 4)                                                                       \
	ROW("int16", "ShortStorage", SD_I16, 2, 2)                                                                     \
	ROW("int8", "CharStorage", SD_I8, 1, 1)                                                                        \
	ROW("uint8", "ByteStorage", SD_U8, 1, 1)                                                                       \
	ROW("bool", "BoolStorage", SD_BOOL, 1, 1)                                                                      \
	ROW("complex64", "ComplexFloatStorage", SD_C64, 8, 4)                                                          \
	ROW("complex128", "ComplexDoubleStorage", SD_NO_DTYPE, 16, 8)                                                  \
	ROW("complex32", "", SD_NO_DTYPE, 4, 2)                                                                        \
	ROW("uint16", "", SD_U16, 2, 2)                                                                                \
	ROW("uint32", "", SD_U32, 4, 4)                                                                                \
	ROW("uint64", "", SD_U64, 8, 8)                                                                                \
	ROW("float8_e4m3fn", "", SD_F8_E4M3, 1, 1)                                                                     \
	ROW("float8_e4m3fnuz", "", SD_F8_E4M3FNUZ, 1, 1)                                                               \
	ROW("float8_e5m2", "", SD_F8_E5M2, 1, 1)                                                                       \
	ROW("float8_e5m2fnuz", "", SD_F8_E5M2FNUZ, 1, 1)                                                               \
	ROW("float8_e8m0fnu", "", SD_F8_E8M0, 1, 1)                                                                    \
	ROW("float4_e2m1fn_x2", "", SD_F4, 1, 1)                                                                       \
	ROW("qint8", "QInt8Storage", SD_NO_DTYPE, 1, 1)                                                                \
	ROW("quint8", "QUInt8Storage", SD_NO_DTYPE, 1, 1)                                                              \
	ROW("qint32", "QInt32Storage", SD_NO_DTYPE, 4, 4)                                                              \
	ROW("quint4x2", "QUInt4x2Storage", SD_NO_DTYPE, 1, 1)                                                          \
	ROW("quint2x4", "QUInt2x4Storage", SD_NO_DTYPE, 1, 1)

#define AS_DTYPE(name, storage, dtype, item, swap) {name, storage, dtype, item, swap},
#define AS_GLOBAL(name, storage, dtype, item, swap) {"torch", name, SD_TORCH_DTYPE, 0},
#define AS_STORAGE(name, storage, dtype, item, swap) {"torch", storage, STORAGE, 0},
#define AS_CUDA_STORAGE(name, storage, dtype, item, swap) {"torch.cuda", storage, STORAGE, 0},

static const struct {
	const char *name, *storage; /* "": it has no class of its own */
	uint8_t dtype, item;
	uint8_t swap; /* bytes that are one number */
} dtypes[] = {DTYPES_OF_TORCH(AS_DTYPE)};

static const struct sd_pickle_global dtype_globals[] = {DTYPES_OF_TORCH(AS_GLOBAL)};

const struct sd_pickle_rules sd_torch_dtype_rules = {.globals = dtype_globals,
						     .nglobals = sizeof(dtype_globals) / sizeof(*dtype_globals)};

static const struct sd_pickle_global storage_globals[] = {DTYPES_OF_TORCH(AS_STORAGE) DTYPES_OF_TORCH(AS_CUDA_STORAGE)};

static const struct sd_pickle_rules storage_rules = {.globals = storage_globals,
						     .nglobals = sizeof(storage_globals) / sizeof(*storage_globals),
						     .more = &sd_torch_dtype_rules};

#define DTYPES (sizeof(dtypes) / sizeof(*dtypes))

static const struct sd_pickle_global globals[] = {
	{"torch._utils", "_rebuild_tensor_v2", TENSOR, 0},
	{"torch._utils", "_rebuild_tensor_v3", TENSOR_DTYPE, 0},
	{"torch._utils", "_rebuild_tensor", TENSOR, 0},
	{"torch._utils", "_rebuild_parameter", WRAPPED, 0},
	{"torch._utils", "_rebuild_parameter_with_state", WRAPPED, 0},
	{"torch._tensor", "_rebuild_from_type_v2", TYPED, 0},
	{"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", DEVICE, 0},
	{"torch._utils", "_rebuild_device_tensor_from_numpy", OF_NUMPY, 0},
	{"torch._utils", "_rebuild_xla_tensor", OF_NUMPY, 0},
	{"torch._utils", "_rebuild_qtensor", QUANTIZED, 0},
	{"torch._utils", "_rebuild_sparse_tensor", SPARSE, 0},
	{"torch._utils", "_rebuild_sparse_csr_tensor", SPARSE, 0},
	{"torch._utils", "_rebuild_nested_tensor", NESTED, 0},
	{"torch._utils", "_rebuild_meta_tensor_no_storage", META, 0},
	{"torch._utils", "_rebuild_wrapper_subclass", SUBCLASS, 0},
	{"torch.nn.parameter", "Parameter", PARAMETER, 0},
	{"torch.nn", "Parameter", PARAMETER, 0},
	{"torch", "Tensor", TENSOR_CLASS, 0},
	{"torch._tensor", "Tensor", TENSOR_CLASS, 0},
	{"torch.storage", "UntypedStorage", UNTYPED, 0},
	{"torch.storage", "TypedStorage", UNTYPED, 0},
	{"collections", "OrderedDict", DICT, 0},
	{"collections", "defaultdict", DICT, 0},
	{"collections", "Counter", HARMLESS, 0},
	{"torch", "Size", HARMLESS, 0},
	{"torch", "device", HARMLESS, 0},
	{"torch", "per_tensor_affine", HARMLESS, 0},
	{"torch", "per_tensor_symmetric", HARMLESS, 0},
	{"torch", "per_channel_affine", HARMLESS, 0},
	{"torch", "per_channel_symmetric", HARMLESS, 0},
	{"torch", "per_channel_affine_float_qparams", HARMLESS, 0},
	{"torch.serialization", "_get_layout", HARMLESS, 0},
	{"_codecs", "encode", HARMLESS, 0},
	{"builtins", "set", HARMLESS, 0},
	{"builtins", "frozenset", HARMLESS, 0},
	{"builtins", "bytearray", HARMLESS, 0},
	{"builtins", "complex", HARMLESS, 0},
	{"builtins", "list", HARMLESS, 0},
	{"builtins", "dict", HARMLESS, 0},
	{"builtins", "int", HARMLESS, 0},
	{"builtins", "float", HARMLESS, 0},
	{"__builtin__", "set", HARMLESS, 0},
	{"__builtin__", "frozenset", HARMLESS, 0},
	{"__builtin__", "bytearray", HARMLESS, 0},
	{"__builtin__", "complex", HARMLESS, 0},
	{"__builtin__", "list", HARMLESS, 0},
	{"__builtin__", "dict", HARMLESS, 0},
	{"__builtin__", "int", HARMLESS, 0},
	{"__builtin__", "long", HARMLESS, 0},
	{"__builtin__", "float", HARMLESS, 0},
	{"argparse", "Namespace", HARMLESS, 0},
	{"types", "SimpleNamespace", HARMLESS, 0},
	{"numpy", "dtype", HARMLESS, 0},
	{"numpy", "ndarray", HARMLESS, 0},
	{"numpy.core.multiarray", "scalar", HARMLESS, 0},
	{"numpy.core.multiarray", "_reconstruct", HARMLESS, 0},
	{"numpy._core.multiarray", "scalar", HARMLESS, 0},
	{"numpy._core.multiarray", "_reconstruct", HARMLESS, 0},
	{"datetime", "*", HARMLESS, 0},
	{"pathlib", "*", HARMLESS, 0},
	{"pathlib._local", "*", HARMLESS, 0},
	{"transformers.training_args", "*", HARMLESS, 0},
	{"transformers.trainer_utils", "*", HARMLESS, 0},
	{"transformers.trainer_pt_utils", "*", HARMLESS, 0},
	{"omegaconf.dictconfig", "*", HARMLESS, 0},
	{"omegaconf.listconfig", "*", HARMLESS, 0},
	{"omegaconf.base", "*", HARMLESS, 0},
	{"omegaconf.nodes", "*", HARMLESS, 0},
	{"pytorch_lightning.utilities.parsing", "*", HARMLESS, 0},
	{"lightning.fabric.utilities.data", "*", HARMLESS, 0},
	{"lightning_fabric.utilities.data", "*", HARMLESS, 0},
	{"pytorch_lightning.callbacks.model_checkpoint", "*", HARMLESS, 0},
	{"torch.optim.lr_scheduler", "*", HARMLESS, 0},
};

const struct sd_pickle_rules sd_torch_rules = {
	.globals = globals, .nglobals = sizeof(globals) / sizeof(*globals), .more = &storage_rules, .ids = true};

void sd_torch_free(struct sd_torch *torch)
{
	free(torch->storages);
	sd_names_free(&torch->keys);
}

/* ---- kinds ---- */

bool sd_torch_is_tensor(const struct sd_pickle_node *node)
{
	int meaning = sd_pickle_meaning(node, SD_PICKLE_OBJECT);

	return meaning >= TENSOR || meaning == PARAMETER;
}

bool sd_torch_is_dict(const struct sd_pickle_node *node)
{
	return node->kind == SD_PICKLE_DICT || sd_pickle_meaning(node, SD_PICKLE_OBJECT) == DICT;
}

/* The row of dtypes that a global is, by either of its names; DTYPES: none. */
static size_t row_of(const struct sd_pickle_node *node, enum meaning meaning)
{
	size_t i = 0;

	if (sd_pickle_meaning(node, SD_PICKLE_GLOBAL) != (int)meaning)
		return DTYPES;
	while (i < DTYPES && strcmp(meaning == STORAGE ? dtypes[i].storage : dtypes[i].name, node->global->name) != 0)
		i++;
	return i;
}

enum sd_dtype sd_torch_dtype(const char *name)
{
	for (size_t i = 0; i < DTYPES; i++)
		if (strcmp(dtypes[i].name, name) == 0)
			return dtypes[i].dtype;
	return SD_NO_DTYPE;
}

/* ---- storages ---- */

static enum sd_result fail_at(const struct sd_pickle_node *node, const char *what, struct sd_error *err)
{
	return sd_fail(err, SD_INPUT, "%s, at byte %" PRIu32 " of the pickle", what, node->at);
}

static enum sd_result new_storage(struct sd_torch *torch, const char *key, const struct sd_torch_storage *like,
				  struct sd_torch_storage **storage, struct sd_error *err)
{
	struct sd_torch_storage *made = sd_arena_copy(torch->arena, like, sizeof(*like));

	if (!made)
		return sd_fail_memory(err);
	if (torch->finder->find(torch->finder, key, made, err) != SD_OK)
		return err->result;
	if (!sd_array_grow(&torch->storages, torch->count, &torch->room, sizeof(struct sd_torch_storage *)) ||
	    sd_names_add(&torch->keys, key, (uint32_t)torch->count) == SD_NO_NAME)
		return sd_fail_memory(err);
	torch->storages[torch->count++] = *storage = made;
	return SD_OK;
}

/* The bytes of a storage of these many elements of a class. */
static bool storage_bytes(const struct sd_pickle_node *class, uint64_t count, struct sd_torch_storage *s)
{
	size_t row = row_of(class, STORAGE);

	s->dtype = SD_NO_DTYPE;
	if (sd_pickle_meaning(class, SD_PICKLE_GLOBAL) == UNTYPED) {
		s->bytes = count;
		return true;
	}
	return row < DTYPES && sd_mul(count, dtypes[row].item, &s->bytes);
}

/* ("storage", class, key, location, count[, None or (key, before, count)]) */
enum sd_result sd_torch_storage(struct sd_torch *torch, const struct sd_pickle_node *id,
				struct sd_torch_storage **storage, uint64_t *before, struct sd_error *err)
{
	struct sd_torch_storage said = {0};
	const struct sd_pickle_node *tuple = id->kind == SD_PICKLE_ID ? id->id : id, *view = NULL;
	uint64_t count;
	uint32_t known;
	char *key;

	*before = 0;
	if (id->kind != SD_PICKLE_ID || tuple->kind != SD_PICKLE_TUPLE || tuple->count < 5 || tuple->count > 6 ||
	    !sd_pickle_is(tuple->items[0], "storage") || tuple->items[2]->kind != SD_PICKLE_TEXT ||
	    !sd_pickle_size(tuple->items[4], &count) || !storage_bytes(tuple->items[1], count, &said))
		return fail_at(id, "what should be a storage is none", err);
	if (tuple->count == 6 && tuple->items[5]->kind != SD_PICKLE_NONE) {
		view = tuple->items[5];
		if (view->kind != SD_PICKLE_TUPLE || view->count != 3 || !sd_pickle_size(view->items[1], before))
			return fail_at(id, "what should be a storage is none", err);
	}
	key = sd_arena_text(torch->arena, tuple->items[2]->text, tuple->items[2]->count);
	if (!key)
		return sd_fail_memory(err);
	known = sd_names_find(&torch->keys, key);
	if (known == SD_NO_NAME)
		return new_storage(torch, key, &said, storage, err);
	sd_arena_undo(torch->arena, key);
	*storage = torch->storages[known];
	if ((*storage)->bytes != said.bytes)
		return sd_fail(err, SD_INPUT,
			       "%s has %" PRIu64 " bytes in one place and %" PRIu64 " in another, at "
			       "byte %" PRIu32 " of the pickle",
			       (*storage)->name, (*storage)->bytes, said.bytes, id->at);
	return SD_OK;
}

/* ---- tensors ---- */

/* A tuple of sizes, as it is or as a torch.Size. */
static enum sd_result numbers(struct sd_torch *torch, const struct sd_pickle_node *node, const uint64_t **at,
			      uint32_t *count, struct sd_error *err)
{
	uint64_t *made;

	if (node->kind == SD_PICKLE_OBJECT && strcmp(node->object->global->name, "Size") == 0 &&
	    node->object->args->count == 1)
		node = node->object->args->items[0];
	if (node->kind != SD_PICKLE_TUPLE && node->kind != SD_PICKLE_LIST)
		return fail_at(node, "a shape or a stride is no tuple", err);
	if (node->count > SD_RANK_MAX)
		return sd_fail(err, SD_INPUT, "%" PRIu32 " dimensions; at most %d are read", node->count, SD_RANK_MAX);
	made = sd_arena_array(torch->arena, node->count + 1, sizeof(*made));
	if (!made)
		return sd_fail_memory(err);
	for (uint32_t k = 0; k < node->count; k++)
		if (!sd_pickle_size(node->items[k], &made[k]))
			return fail_at(node, "a size or a stride is negative or no number", err);
	*at = made;
	*count = node->count;
	return SD_OK;
}

/* That the view is inside of its storage. */
static enum sd_result check_inside(const struct sd_torch_view *v, struct sd_error *err)
{
	uint64_t last = v->offset, step, end, count;
	bool fits = sd_shape_count(v->shape, v->rank, &count);

	if (fits && count == 0)
		return SD_OK;
	for (uint32_t k = 0; k < v->rank && fits; k++)
		fits = sd_mul(v->shape[k] - 1, v->stride[k], &step) && sd_add(last, step, &last);
	fits = fits && sd_add(last, 1, &end) && sd_mul(end, v->item, &end);
	if (fits && end <= v->storage->bytes)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "it goes outside of its storage %s, which has %" PRIu64 " bytes",
		       v->storage->name, v->storage->bytes);
}

static enum sd_result set_dtype(struct sd_torch_view *v, size_t row, bool big_endian, struct sd_error *err)
{
	if (row == DTYPES)
		return sd_fail(err, SD_INPUT, "its dtype is none that PyTorch has");
	if (dtypes[row].dtype == SD_NO_DTYPE)
		return sd_fail(err, SD_INPUT, "its dtype is %s, which safetensors does not have", dtypes[row].name);
	v->dtype = dtypes[row].dtype;
	v->item = dtypes[row].item;
	v->swap = big_endian && dtypes[row].swap > 1 ? dtypes[row].swap : 0;
	return SD_OK;
}

/* {"conj": True, "neg": True}, each perhaps */
static enum sd_result take_bits(struct sd_torch_view *v, const struct sd_pickle_node *bits, struct sd_error *err)
{
	if (bits->kind == SD_PICKLE_NONE)
		return SD_OK;
	if (bits->kind != SD_PICKLE_DICT)
		return fail_at(bits, "the metadata of the tensor is no dict", err);
	for (uint32_t i = 0; i + 1 < bits->count; i += 2) {
		bool *bit = sd_pickle_is(bits->items[i], "conj")  ? &v->conjugate
			    : sd_pickle_is(bits->items[i], "neg") ? &v->negate
								  : NULL;

		if (!bit || bits->items[i + 1]->kind != SD_PICKLE_BOOL)
			return fail_at(bits, "the tensor has a mark that is neither conj nor neg", err);
		*bit = bits->items[i + 1]->integer;
	}
	if ((v->conjugate && v->dtype != SD_C64) || (v->negate && v->dtype != SD_C64 && v->dtype != SD_F32 &&
						     v->dtype != SD_F64 && v->dtype != SD_F16 && v->dtype != SD_BF16))
		return sd_fail(err, SD_INPUT, "it is marked as conjugated or negated, which %s cannot be",
			       sd_dtype_name(v->dtype));
	return SD_OK;
}

/* Two elements of F4 are one of PyTorch's. */
static enum sd_result count_elements(struct sd_torch *torch, struct sd_torch_view *v, struct sd_error *err)
{
	uint64_t *twice;

	v->elements = v->shape;
	if (v->dtype != SD_F4)
		return SD_OK;
	twice = sd_arena_copy(torch->arena, v->shape, (v->rank + 1) * sizeof(*twice));
	if (!twice)
		return sd_fail_memory(err);
	if (!v->rank || !sd_mul(twice[v->rank - 1], 2, &twice[v->rank - 1]))
		return sd_fail(err, SD_INPUT,
			       "its elements are pairs of F4, and there is no dimension that they are along");
	v->elements = twice;
	return SD_OK;
}

/* (storage, offset, size, stride, requires_grad, hooks[, dtype][, metadata]) */
static enum sd_result view_storage(struct sd_torch *torch, const struct sd_pickle_node *args, bool typed,
				   struct sd_torch_view *v, struct sd_error *err)
{
	uint32_t bits = typed ? 7 : 6, strides;
	const struct sd_pickle_node *id = args->items[0];
	uint64_t before, count;
	size_t row;

	if (args->count < (typed ? 7u : 4u) || args->count > bits + 1 || !sd_pickle_size(args->items[1], &v->offset))
		return fail_at(args, "the arguments of a tensor are not as PyTorch has them", err);
	if (sd_torch_storage(torch, id, &v->storage, &before, err) != SD_OK)
		return err->result;
	row = row_of(typed ? args->items[6] : id->id->items[1], typed ? DTYPE : STORAGE);
	if (set_dtype(v, row, torch->big_endian, err) != SD_OK)
		return err->result;
	if (v->swap && sd_pickle_meaning(id->id->items[1], SD_PICKLE_GLOBAL) == UNTYPED)
		return sd_fail(err, SD_INPUT,
			       "%s of a big-endian machine, of which nobody knows how they lie: save it "
			       "as another dtype",
			       sd_dtype_name(v->dtype));
	if (numbers(torch, args->items[2], &v->shape, &v->rank, err) != SD_OK ||
	    numbers(torch, args->items[3], &v->stride, &strides, err) != SD_OK)
		return err->result;
	if (strides != v->rank || !sd_add(v->offset, before, &v->offset))
		return fail_at(args, "the tensor has other strides than dimensions", err);
	if (check_inside(v, err) != SD_OK)
		return err->result;
	if (!sd_shape_count(v->shape, v->rank, &count) || !sd_mul(count, v->item, &v->bytes))
		return sd_fail(err, SD_INPUT, "it has no possible size");
	if (args->count > bits && take_bits(v, args->items[bits], err) != SD_OK)
		return err->result;
	return count_elements(torch, v, err);
}

static enum sd_result fail_kind(int meaning, struct sd_error *err)
{
	static const char *const kinds[] = {
		[QUANTIZED - QUANTIZED] = "a quantized tensor",  [SPARSE - QUANTIZED] = "a sparse tensor",
		[NESTED - QUANTIZED] = "a nested tensor",        [META - QUANTIZED] = "a meta tensor, without data",
		[SUBCLASS - QUANTIZED] = "a subclass of tensor", [OF_NUMPY - QUANTIZED] = "a tensor of NumPy's data"};

	return sd_fail(err, SD_INPUT, "it is %s, which is no plain tensor and is not read", kinds[meaning - QUANTIZED]);
}

/* What a wrapper has inside: *node becomes that, *args too where it is a call of its own. */
static enum sd_result unwrap(int meaning, const struct sd_pickle_node **node, const struct sd_pickle_node **args,
			     int *inner, struct sd_error *err)
{
	const struct sd_pickle_node *a = *args;

	if (meaning == TYPED) {
		int type = a->count > 1 ? sd_pickle_meaning(a->items[1], SD_PICKLE_GLOBAL) : -1;

		if (a->count != 4 || a->items[2]->kind != SD_PICKLE_TUPLE)
			return fail_at(a, "the arguments of a tensor are not as PyTorch has them", err);
		if (type != TENSOR_CLASS && type != PARAMETER)
			return sd_fail(err, SD_INPUT,
				       "it is a subclass of tensor, which is no plain tensor and is not "
				       "read");
		*inner = sd_pickle_meaning(a->items[0], SD_PICKLE_GLOBAL);
		*args = a->items[2];
		return SD_OK;
	}
	if (!a->count || a->items[0]->kind != SD_PICKLE_OBJECT)
		return fail_at(a, "the arguments of a tensor are not as PyTorch has them", err);
	*node = a->items[0];
	*inner = sd_pickle_meaning(*node, SD_PICKLE_OBJECT);
	*args = (*node)->object->args;
	return SD_OK;
}

#define WRAPPERS_MOST 8

enum sd_result sd_torch_view(struct sd_torch *torch, const struct sd_pickle_node *node, struct sd_torch_view *view,
			     struct sd_error *err)
{
	int meaning = sd_pickle_meaning(node, SD_PICKLE_OBJECT);
	const struct sd_pickle_node *args = meaning < 0 ? NULL : node->object->args, *device = NULL;

	*view = (struct sd_torch_view){0};
	for (int i = 0; meaning == WRAPPED || meaning == PARAMETER || meaning == DEVICE || meaning == TYPED; i++) {
		if (i == WRAPPERS_MOST)
			return fail_at(node, "a tensor in a tensor, too often", err);
		if (meaning == DEVICE)
			device = args->count > 1 ? args->items[1] : args;
		if (unwrap(meaning, &node, &args, &meaning, err) != SD_OK)
			return err->result;
	}
	if (meaning >= QUANTIZED)
		return fail_kind(meaning, err);
	if (meaning != TENSOR && meaning != TENSOR_DTYPE)
		return fail_at(node, "what should be a tensor is none", err);
	if (!args->count)
		return fail_at(args, "the arguments of a tensor are not as PyTorch has them", err);
	if (view_storage(torch, args, meaning == TENSOR_DTYPE, view, err) != SD_OK)
		return err->result;
	if (device && (sd_pickle_meaning(device, SD_PICKLE_GLOBAL) != DTYPE ||
		       sd_torch_dtype(device->global->name) != view->dtype))
		return sd_fail(err, SD_INPUT, "it had another dtype on its device than %s", sd_dtype_name(view->dtype));
	return SD_OK;
}
