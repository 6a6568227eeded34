/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are in what torch.save was given, and what they are called: dicts and lists, walked. */
#ifndef SD_FORMATS_TORCH_DICT_H
#define SD_FORMATS_TORCH_DICT_H

#include "formats/safetensors_read.h"
#include "formats/torch_tensor.h"

/*
 * Adds all tensors below a pickle's top to the reading, as records of the input. Where the top has a model beside other
 * things, the model is taken. Notes what is left out, and which names are one tensor.
 */
SD_MUST_CHECK enum sd_result sd_torch_dict_add(struct sd_safetensors_read *reading, uint32_t input,
					       const struct sd_pickle *pickle, struct sd_torch *torch,
					       struct sd_chooser *chooser, struct sd_error *err);

#endif
