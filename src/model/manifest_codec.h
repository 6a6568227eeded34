/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest as bytes, as sd-stream(5) has them: everything little-endian, everything aligned to 8. */
#ifndef SD_MODEL_MANIFEST_CODEC_H
#define SD_MODEL_MANIFEST_CODEC_H

#include "base/limits.h"
#include "model/manifest.h"

/* Bytes that grow. {0} is empty; free(data) ends it. */
struct sd_bytes {
	unsigned char *data;
	size_t length, room;
};

SD_MUST_CHECK bool sd_bytes_add(struct sd_bytes *bytes, const void *data, size_t length);
/* Zeros up to the next multiple of step. */
SD_MUST_CHECK bool sd_bytes_pad(struct sd_bytes *bytes, size_t step);
SD_MUST_CHECK bool sd_bytes_u32(struct sd_bytes *bytes, uint32_t value);
SD_MUST_CHECK bool sd_bytes_u64(struct sd_bytes *bytes, uint64_t value);
/* u32 length, the bytes, a NUL, zeros up to a multiple of 8. */
SD_MUST_CHECK bool sd_bytes_text(struct sd_bytes *bytes, const char *text);

/* Reading the same from memory; false at the end of it. Texts are checked to be UTF-8 without NUL, and point into it.
 */
struct sd_view {
	unsigned char *at, *end;
};

static inline struct sd_view sd_bytes_view(const struct sd_bytes *bytes)
{
	return (struct sd_view){bytes->data, bytes->length ? bytes->data + bytes->length : bytes->data};
}

SD_MUST_CHECK bool sd_view_u32(struct sd_view *view, uint32_t *value);
SD_MUST_CHECK bool sd_view_u64(struct sd_view *view, uint64_t *value);
SD_MUST_CHECK bool sd_view_text(struct sd_view *view, const char **text);

/* Takes a part of a payload; the bytes are the caller's. */
typedef enum sd_result sd_manifest_take_bytes(void *context, const struct sd_bytes *part, struct sd_error *err);

/*
 * Gives the payload of the manifest frame to take, part by part: a manifest of a million tensors is never in memory
 * twice. Fails when take does, when memory is out, or when a number does not fit its field.
 */
SD_MUST_CHECK enum sd_result sd_manifest_encode(const struct sd_manifest *m, sd_manifest_take_bytes *take,
						void *context, struct sd_error *err);

/*
 * Reads the payload of a manifest frame into m (records, targets, labels). data must be aligned to 8, is changed on
 * machines that are not little-endian, and must live as long as m, which points into it. Everything is checked,
 * sd_manifest_check included. limits may be NULL.
 */
SD_MUST_CHECK enum sd_result sd_manifest_decode(void *data, size_t length, const struct sd_limits *limits,
						struct sd_manifest *m, struct sd_error *err);

#endif
