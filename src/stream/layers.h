/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the layers of a checkpoint are all there: as many as config.json says, and each with what the others have. */
#ifndef SD_STREAM_LAYERS_H
#define SD_STREAM_LAYERS_H

#include "stream/manifest.h"

/*
 * What is missing, as one line in the arena: "layers 2 and 5 of 48 are not there: no key begins with model.layers.2.";
 * or "layer 3 has no mlp, which the other 47 have". *line is NULL where nothing is, and for adapters, which may be of
 * some layers only. Looked at are the layers of which there are most keys: those of the language model. Only memory can
 * be missing.
 */
SD_UNUSED_RESULT enum sd_result sd_layers_missing(const struct sd_manifest *m, struct sd_arena *arena,
						  const char **line, struct sd_error *err);

#endif
