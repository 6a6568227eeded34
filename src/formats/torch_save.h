/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of torch.save (.pt, .pth, .bin, .ckpt): a zip archive with one pickle and a member for each storage, or, before
 * PyTorch 1.6, five pickles and then all storages. Names are the keys of nested dicts and lists, joined by ".".
 */
#ifndef SD_FORMATS_TORCH_SAVE_H
#define SD_FORMATS_TORCH_SAVE_H

#include "formats/safetensors_read.h"
#include "formats/torch_tensor.h"
#include "formats/zip.h"

#define SD_TORCH_LEGACY_MAGIC "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"
#define SD_TORCH_LEGACY_MAGIC_LENGTH 8

/* Adds the tensors of such a file, an input of the reading: those of one row of formats/format.c each. */
SD_MUST_CHECK enum sd_result sd_torch_add_zip(struct sd_safetensors_read *reading, uint32_t input,
					      struct sd_chooser *chooser, struct sd_error *err);
SD_MUST_CHECK enum sd_result sd_torch_add_legacy(struct sd_safetensors_read *reading, uint32_t input,
						 struct sd_chooser *chooser, struct sd_error *err);

/* Whether a zip is one of torch.save: its pickle is in its only folder. */
bool sd_torch_is_zip(const struct sd_zip *zip);

/* A file of one tensor, as DCP has many in one file. Memory that it needs is in the arena. */
struct sd_torch_single {
	struct sd_zip zip;
	struct sd_pickle pickle;
	struct sd_arena arena;
	void *text; /* of the pickle */
	struct sd_torch_view view;
};

/* whole: the bytes of the file. sd_torch_single_free also after a failure. */
SD_MUST_CHECK enum sd_result sd_torch_single_read(const struct sd_extent *whole, const struct sd_limits *limits,
						  struct sd_torch_single *single, struct sd_error *err);
void sd_torch_single_free(struct sd_torch_single *single);

#endif
