/* SPDX-License-Identifier: Apache-2.0 */
/* The frames of a stream: their kinds, and their headers as bytes. */
#ifndef SD_PIPE_FRAME_H
#define SD_PIPE_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum {
	SD_STREAM_MAJOR = 1,
	SD_STREAM_MINOR = 1,
	SD_STREAM_CHECKSUMS = 1, /* flag of a prelude: the stream has checksums */
	SD_FRAME_ALIGN = 64,
	SD_FRAME_OPTIONAL =
		1, /* flag: a reader that does not know the kind skips it; before the manifest it passes it on */
};

#define SD_FRAME_DATA_MAX (8u << 20) /* an abort can only stand between frames: none is longer than this */
#define SD_HEAD_MAX (1ull << 32)     /* of a frame that is held in memory */
#define SD_ABORT_MAX (64u << 10)

#define SD_KIND(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define SD_KIND_META SD_KIND('M', 'E', 'T', 'A')
#define SD_KIND_SIDE SD_KIND('S', 'I', 'D', 'E')
#define SD_KIND_PART SD_KIND('P', 'A', 'R', 'T')
#define SD_KIND_MANIFEST SD_KIND('M', 'A', 'N', 'I')
#define SD_KIND_CHECKSUMS SD_KIND('S', 'U', 'M', 'S')
#define SD_KIND_DATA SD_KIND('D', 'A', 'T', 'A')
#define SD_KIND_CHECKSUM SD_KIND('S', 'U', 'M', ' ')
#define SD_KIND_END SD_KIND('E', 'N', 'D', ' ')
#define SD_KIND_ABORT SD_KIND('A', 'B', 'R', 'T')

struct sd_frame {
	uint32_t kind, flags;
	uint64_t length; /* of the payload, without its padding */
	uint32_t record, encoding;
	uint64_t offset; /* in the record's data */
};

void sd_frame_pack(const struct sd_frame *f, unsigned char out[SD_FRAME_ALIGN]);
struct sd_frame sd_frame_unpack(const unsigned char in[SD_FRAME_ALIGN]);

/* How many zeros follow a payload of this length. */
size_t sd_frame_padding(uint64_t length);

/* Asks the kernel for a larger pipe, which is three times faster. It may refuse, which does no harm. */
void sd_pipe_enlarge(int fd);

#endif
