/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors as torch.save has them: views of storages, told by calls in a pickle, of which none is carried out. Source of
 * the format: torch/serialization.py and torch/_utils.py of PyTorch 0.4 to 2.11.
 */
#ifndef SD_FORMATS_TORCH_TENSOR_H
#define SD_FORMATS_TORCH_TENSOR_H

#include "base/dtype.h"
#include "base/names.h"
#include "formats/pickle.h"
#include "flow/extent.h"

/* The globals that torch.save writes, and those that people's own values in it often have. */
extern const struct sd_pickle_rules sd_torch_rules;

/* The globals that are PyTorch's dtypes, and what all of them mean. */
extern const struct sd_pickle_rules sd_torch_dtype_rules;
#define SD_TORCH_DTYPE 1

/* The bytes that tensors are views of. */
struct sd_torch_storage {
	const char *name;        /* "data/0", for errors */
	uint64_t bytes;          /* as its tensors say */
	uint64_t offset, packed; /* where it is among all bytes of the file, and how many these are */
	uint32_t crc;            /* 0: none is known, or it was checked */
	bool deflated;
	uint8_t dtype; /* enum sd_dtype; SD_NO_DTYPE: none of safetensors, or untyped */
};

/* A tensor: element (i0, i1, ..) is at offset + i0 * stride[0] + .. of its storage. */
struct sd_torch_view {
	struct sd_torch_storage *storage;
	const uint64_t *shape, *stride; /* as PyTorch counts */
	const uint64_t *elements;       /* the shape in elements of dtype: two of F4 are one of PyTorch's */
	uint64_t offset;                /* elements, as PyTorch counts */
	uint64_t bytes;                 /* of its elements one behind another */
	uint32_t rank;
	uint8_t dtype;
	uint8_t item; /* bytes of an element, as PyTorch counts */
	uint8_t swap; /* bytes of what has to be turned to little-endian, or 0 */
	bool conjugate, negate;
};

/* Finds the storage of a key in a file: sets offset, packed, crc and deflated. Errors name it. */
struct sd_torch_finder {
	enum sd_result (*find)(struct sd_torch_finder *finder, const char *key, struct sd_torch_storage *storage,
			       struct sd_error *err);
};

/* The storages of a pickle. */
struct sd_torch {
	struct sd_arena *arena; /* for what is found: lives as long as the tensors */
	struct sd_torch_finder *finder;
	bool big_endian;
	struct sd_torch_storage **storages;
	size_t count, room;
	struct sd_names keys; /* to storages */
};

void sd_torch_free(struct sd_torch *torch);

/* Whether a node is a tensor of any kind, also of one that is not read; or something that is walked like a dict. */
bool sd_torch_is_tensor(const struct sd_pickle_node *node);
bool sd_torch_is_dict(const struct sd_pickle_node *node);

/* The storage of a persistent id, and how many elements of it come before what is meant (legacy views). */
SD_MUST_CHECK enum sd_result sd_torch_storage(struct sd_torch *torch, const struct sd_pickle_node *id,
					      struct sd_torch_storage **storage, uint64_t *before,
					      struct sd_error *err);

/*
 * The tensor that a node is. SD_INPUT, with a line that does not name it, for kinds that are no plain tensor, dtypes
 * that safetensors does not have, and what lies outside of its storage.
 */
SD_MUST_CHECK enum sd_result sd_torch_view(struct sd_torch *torch, const struct sd_pickle_node *node,
					   struct sd_torch_view *view, struct sd_error *err);

/* The dtype that PyTorch calls so ("bfloat16"); SD_NO_DTYPE: safetensors does not have it. */
enum sd_dtype sd_torch_dtype(const char *name);

/*
 * The data of a tensor, whose storage's CRC is checked first. whole: all bytes of the file. *chunk is a part of it
 * where the elements lie one behind another; else they are made in *memory, which is malloc'd (NULL: nothing was).
 */
SD_MUST_CHECK enum sd_result sd_torch_data(const struct sd_torch_view *view, const struct sd_extent *whole,
					   struct sd_extent *chunk, void **memory, struct sd_error *err);

#endif
