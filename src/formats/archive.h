/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives as sources: tar, tar.gz, tar.zst, tar.xz, tar.bz2, zip, and NeMo's .nemo. A folder in one is what a
 * directory is. What lies in the file as it is, in a plain tar or stored in a zip, is read from there; what is
 * compressed passes by, in the order of the archive; what its format does not read in order is kept in memory, up to a
 * limit.
 */
#ifndef SD_FORMATS_ARCHIVE_H
#define SD_FORMATS_ARCHIVE_H

#include "formats/format.h"

/*
 * Opens an archive: in->fd, which is taken over, also on failure, and of which first (n bytes) has been read. *source
 * is NULL where it is none, and in->fd is then still the caller's; so it can only be asked of a file, no pipe, or where
 * nobody else would read it. limits may be NULL. Errors name in->name.
 */
SD_MUST_CHECK enum sd_result sd_archive_open(const struct sd_opened *in, const void *first, size_t n,
					     const struct sd_limits *limits, struct sd_source **source,
					     struct sd_error *err);

#endif
