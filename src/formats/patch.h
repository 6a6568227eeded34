/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patches a checkpoint directory: writes the bytes of some of its tensors in place, all of them or none. The new
 * tensors come into a journal first, a safetensors file with a hidden name. When that is whole, the weights and the
 * index are hidden, get the bytes, and come back: until then there is nothing that a reader takes for a checkpoint.
 */
#ifndef SD_FORMATS_PATCH_H
#define SD_FORMATS_PATCH_H

#include "base/limits.h"
#include "model/manifest.h"

/* While this folder stands in a directory, what is there is neither the old state nor the new one. */
#define SD_PATCH_HIDDEN ".sd-patching"

struct sd_patch;

/*
 * Begins to patch the directory path with the tensors of m whose data is here: each has to be there, with its dtype and
 * shape. Keeps other programs from writing there, and ends a patch that was killed, which with look is an error:
 * nothing is changed then. Errors name tensor and file.
 */
SD_MUST_CHECK enum sd_result sd_patch_begin(const char *path, const struct sd_limits *limits,
					    const struct sd_manifest *m, bool look, bool sync, struct sd_patch **patch,
					    struct sd_error *err);

/* Where the new tensors are to be written as one safetensors file, and the entry that its metadata needs. */
const char *sd_patch_journal(const struct sd_patch *patch);
const struct sd_entry *sd_patch_metadata(const struct sd_patch *patch);

/* A file that will be changed: its name, how many of its tensors, and their bytes. False behind the last. */
bool sd_patch_file(const struct sd_patch *patch, size_t i, const char **name, size_t *tensors, uint64_t *bytes);

/* The journal is there: the tensors get its bytes. */
SD_MUST_CHECK enum sd_result sd_patch_end(struct sd_patch *patch, struct sd_error *err);

/* Does nothing for NULL. */
void sd_patch_close(struct sd_patch *patch);

/* Ends a patch that was killed in the directory place, called path; *found: there was one. */
SD_MUST_CHECK enum sd_result sd_patch_recover(int place, const char *path, bool sync, bool *found,
					      struct sd_error *err);

/* Fails where such a run has left something in the directory place, called path. */
SD_MUST_CHECK enum sd_result sd_patch_check_none(int place, const char *path, struct sd_error *err);

#endif
