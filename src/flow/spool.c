/* SPDX-License-Identifier: Apache-2.0 */
/* A spool: a temporary file without a name. */
#include "flow/spool.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *sd_spool_folder(void)
{
	const char *folder = getenv("TMPDIR");

	return folder && *folder ? folder : "/tmp";
}

enum sd_result sd_spool_open(int *fd, struct sd_error *err)
{
	const char *folder = sd_spool_folder();
	char name[4096];

	*fd = sd_openat(AT_FDCWD, folder, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (*fd >= 0)
		return SD_OK;
	/* Not every file system has files without a name. */
	snprintf(name, sizeof(name), "%s/sd-tools-XXXXXX", folder);
	*fd = mkostemp(name, O_CLOEXEC);
	if (*fd < 0)
		return sd_fail_errno(err, errno, "%s: cannot create a temporary file", folder);
	unlink(name);
	return SD_OK;
}
