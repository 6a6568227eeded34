/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PyTorch's distributed checkpoints (DCP) in their own form: .metadata is a pickle that says which box of which tensor
 * is where in the files __R_N.distcp, and each box there is a whole file of torch.save. Source of the format:
 * torch/distributed/checkpoint/metadata.py and filesystem.py of PyTorch 2.1 to 2.11.
 */
#ifndef SD_FORMATS_DCP_NATIVE_H
#define SD_FORMATS_DCP_NATIVE_H

#include "formats/folder.h"
#include "formats/safetensors_read.h"

/* Stands in the directory of a checkpoint that was saved to its end. */
#define SD_DCP_METADATA ".metadata"

/*
 * Adds all tensors of a folder to the reading. Boxes are opened when their data is asked for; until then only
 * .metadata was read, and the files' sizes. What is no tensor is noted. Errors name the file.
 */
SD_MUST_CHECK enum sd_result sd_dcp_native_add(struct sd_safetensors_read *reading, struct sd_folder *folder,
					       struct sd_error *err);

#endif
