/* SPDX-License-Identifier: Apache-2.0 */
/* Where maps lie: SD_MAPPATH, the source tree that the program was built from, the installed folder, or any path. */
#ifndef SD_TOOLS_MAPS_H
#define SD_TOOLS_MAPS_H

#include "map/map.h"
#include "model/manifest.h"
#include "renaming/which_map.h"

/* A map by name, or by path if it has a slash or ends in .map. */
SD_MUST_CHECK enum sd_result sd_maps_open(const char *name, struct sd_map **map, struct sd_error *err);

/* sd_which_map, sd_which_map_nearest and sd_which_layouts of all maps that are found. */
SD_MUST_CHECK enum sd_result sd_maps_find(const struct sd_manifest *in, const char *to, struct sd_map **map,
					  struct sd_error *err);

SD_MUST_CHECK enum sd_result sd_maps_nearest(const struct sd_manifest *in, struct sd_map **map, struct sd_error *err);

SD_MUST_CHECK enum sd_result sd_maps_layouts(const struct sd_manifest *in, sd_take_layout take, void *user,
					     struct sd_error *err);

/* Says so on standard error where config.json's model_type is one that other maps are for, and this one is not; with
 * strict, fails. */
SD_MUST_CHECK enum sd_result sd_maps_note_other(const struct sd_manifest *in, const struct sd_map *map, bool strict,
						struct sd_error *err);

/* -D NAME=VALUE: adds it to an array that grows, or is misuse. text is cut in two and borrowed. */
void sd_option_define(struct sd_define **defines, size_t *count, size_t *room, char *text);

/* Prints all maps with their layouts and options. */
SD_MUST_CHECK enum sd_result sd_maps_list(bool json, struct sd_error *err);

#endif
