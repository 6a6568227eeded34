/* SPDX-License-Identifier: Apache-2.0 */
/* gzip (RFC 1952), expanded, with its checksums checked: libarchive 3.6 does not look at them. */
#ifndef SD_FORMATS_GUNZIP_H
#define SD_FORMATS_GUNZIP_H

#include "base/error.h"

#include <zlib.h>

/* Gives the next compressed bytes; *got is 0 at their end. */
typedef enum sd_result sd_gunzip_more(void *user, const void **bytes, size_t *got, struct sd_error *err);

struct sd_gunzip {
	z_stream z;
	sd_gunzip_more *more;
	void *user;
	bool between; /* a member has ended, or none has begun */
};

SD_MUST_CHECK enum sd_result sd_gunzip_begin(struct sd_gunzip *gunzip, sd_gunzip_more *more, void *user,
					     struct sd_error *err);

/* The next plain bytes; *got is 0 at the end of the last member. Zeros behind it are padding. */
SD_MUST_CHECK enum sd_result sd_gunzip_read(struct sd_gunzip *gunzip, void *buffer, size_t length, size_t *got,
					    struct sd_error *err);

void sd_gunzip_end(struct sd_gunzip *gunzip);

#endif
