/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: their headers as bytes. */
#include "pipe/frame.h"
#include "model/manifest_codec.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define PIPE_SIZE (1 << 20)

void sd_frame_pack(const struct sd_frame *f, unsigned char out[SD_FRAME_ALIGN])
{
	const uint32_t kind[2] = {htole32(f->kind), htole32(f->flags)};
	const uint64_t length = htole64(f->length), offset = htole64(f->offset);
	const uint32_t record[2] = {htole32(f->record), htole32(f->encoding)};

	memset(out, 0, SD_FRAME_ALIGN);
	memcpy(out, kind, 8);
	memcpy(out + 8, &length, 8);
	memcpy(out + 16, record, 8);
	memcpy(out + 24, &offset, 8);
}

struct sd_frame sd_frame_unpack(const unsigned char in[SD_FRAME_ALIGN])
{
	struct sd_view view = {(unsigned char *)in, (unsigned char *)in + SD_FRAME_ALIGN};
	struct sd_frame f = {0};

	/* 64 bytes are there: none of these fails. */
	if (!sd_view_u32(&view, &f.kind) || !sd_view_u32(&view, &f.flags) || !sd_view_u64(&view, &f.length) ||
	    !sd_view_u32(&view, &f.record) || !sd_view_u32(&view, &f.encoding) || !sd_view_u64(&view, &f.offset))
		f.kind = 0;
	return f;
}

size_t sd_frame_padding(uint64_t length)
{
	return (size_t)((SD_FRAME_ALIGN - length % SD_FRAME_ALIGN) % SD_FRAME_ALIGN);
}

void sd_pipe_enlarge(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
		(void)fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE);
}
