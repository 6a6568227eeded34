/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The safetensors format: 8 bytes little-endian header length, a JSON header, the tensors' bytes. Reading checks
 * everything that the format says; writing gives the very bytes that the safetensors library gives.
 */
#ifndef SD_FORMATS_SAFETENSORS_HEADER_H
#define SD_FORMATS_SAFETENSORS_HEADER_H

#include "base/limits.h"
#include "model/manifest.h"

/* The library's own limit on headers: none that we write is longer. */
#define SD_SAFETENSORS_HEADER_MAX 100000000u

/* The length field in front of a header. */
#define SD_SAFETENSORS_LENGTH 8

/* Data of a size that cannot be known, as in a pipe. */
#define SD_UNKNOWN_SIZE UINT64_MAX

/* A tensor in a file. */
struct sd_tensor {
	const char *name;
	const uint64_t *shape;
	uint64_t begin, end; /* bytes, counted from behind the header */
	uint32_t rank;
	uint8_t dtype;
};

/* What a header says. {0} is empty; sd_safetensors_free frees it. */
struct sd_safetensors {
	struct sd_arena arena;     /* all texts and shapes */
	struct sd_tensor *tensors; /* in the order of their bytes; empty ones among equals as the header has them */
	size_t ntensors, tensors_room;
	struct sd_entry *metadata; /* in the order of the header */
	size_t nmetadata, metadata_room;
	uint64_t data_bytes;
};

uint64_t sd_safetensors_length(const unsigned char bytes[SD_SAFETENSORS_LENGTH]);

/*
 * Reads a header of length bytes (without the length field) that data_bytes of data follow. limits may be NULL.
 * SD_INPUT and one line, which does not name the file, for whatever is not as it must be.
 */
SD_MUST_CHECK enum sd_result sd_safetensors_parse(const char *header, size_t length, uint64_t data_bytes,
						  const struct sd_limits *limits, struct sd_safetensors *out,
						  struct sd_error *err);

void sd_safetensors_free(struct sd_safetensors *st);

/* The value of an entry of __metadata__, or NULL. */
const char *sd_safetensors_metadata(const struct sd_safetensors *st, const char *key);

/* The order of tensors in a file: dtype, then name bytewise. For qsort. */
int sd_safetensors_order(const void *a, const void *b);

/*
 * Gives ordered tensors (sd_safetensors_order) their begin and end, and makes the header with its length field,
 * malloc'd. metadata: in the order in which it is to be written. SD_INPUT where the header would be too long to be read
 * again; *header is NULL on failure.
 */
SD_MUST_CHECK enum sd_result sd_safetensors_header(struct sd_tensor *tensors, size_t ntensors,
						   const struct sd_entry *metadata, size_t nmetadata, char **header,
						   size_t *length, struct sd_error *err);

#endif
