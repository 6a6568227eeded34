/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of config.json that have another place in another layout. */
#ifndef SD_CONFIG_CONFIG_FIELDS_H
#define SD_CONFIG_CONFIG_FIELDS_H

#include "model/manifest.h"

/*
 * A field, by its paths on both sides ("rope_parameters.rope_theta"). Where key is set, the right one is an object, of
 * which the key has one of the values: the first alone is what the left one being null stands for.
 */
struct sd_config_row {
	const char *path[2];
	const char *key;
	const char *const *values;
	uint32_t nvalues;
};

/*
 * m's config.json becomes that of the side, by a text in m's arena: in the outermost object and all others, each row's
 * field is moved, towards the right in the rows' order, towards the left in the opposite one. What is not as a row
 * says, or there already, stays. SD_INPUT where the file is no JSON.
 */
SD_MUST_CHECK enum sd_result sd_config_fields_follow(struct sd_manifest *m, const struct sd_config_row *rows, size_t n,
						     int side, struct sd_error *err);

#endif
