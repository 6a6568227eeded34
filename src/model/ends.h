/* SPDX-License-Identifier: Apache-2.0 */
/* What stands before the layers of a language model and behind them: embeddings, the last norm, the head. */
#ifndef SD_MODEL_ENDS_H
#define SD_MODEL_ENDS_H

#include "model/manifest.h"

/*
 * Calls take with the name of each of them that should be there, named as transformers does, and is not. Looked for
 * are those of a checkpoint that has config.json and at least one of the three. The head is looked for where
 * tie_word_embeddings is false and no architecture says that it has another one. The name lasts for the call.
 */
void sd_ends_missing(const struct sd_manifest *m, void (*take)(void *user, const char *name), void *user);

#endif
