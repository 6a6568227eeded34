/* SPDX-License-Identifier: Apache-2.0 */
/* The form of what sd-pack writes, where that is an archive: by the name of the file, or by --format. */
#ifndef SD_TOOLS_PACK_FORM_H
#define SD_TOOLS_PACK_FORM_H

#include "formats/safetensors_write.h"

struct pack_form {
	const char *format; /* of --format, or NULL */
	uint64_t level;     /* of --zstd; 0: it was not given */
};

/* The value of --zstd (NULL: none), or misuse. */
uint64_t pack_level(const char *text);

/* Sets archive, level and layout.directory of the options, whose path is set; what cannot be is misuse. */
void pack_settle_form(const struct pack_form *form, struct sd_safetensors_sink_options *pack);

#endif
