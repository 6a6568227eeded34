/* SPDX-License-Identifier: Apache-2.0 */
/* Where maps lie: SD_MAPPATH, the source tree that the program was built from, the installed folder, or any path. */
#ifndef SD_TOOLS_MAPS_H
#define SD_TOOLS_MAPS_H

#include "map/map.h"
#include "model/manifest.h"

/* A map by name, or by path if it has a slash or ends in .map. */
SD_MUST_CHECK enum sd_result sd_maps_open(const char *name, struct sd_map **map, struct sd_error *err);

/*
 * The map for a manifest: by config.json's model_type and architectures; where it says neither, by the keys. to: a
 * layout that it has to know, or NULL. Of several the keys decide, and then what maps say of being a second choice; two
 * that are left are an error, and so is a model_type or architecture that no map is for. *map is NULL for a LoRA
 * adapter without experts whose model nothing tells: its names are the same in all layouts.
 */
SD_MUST_CHECK enum sd_result sd_maps_find(const struct sd_manifest *in, const char *to, struct sd_map **map,
					  struct sd_error *err);

/* The map that knows the most names, of those that have something to do with the keys. NULL: one knows them all, or
 * none has anything to do. */
SD_MUST_CHECK enum sd_result sd_maps_nearest(const struct sd_manifest *in, struct sd_map **map, struct sd_error *err);

/*
 * Tells for each map that may be for a manifest, the first choice first, in which of its layouts it is: by config.json,
 * or where that says nothing by the keys. A map that knows no key is not told. take's texts are its own during the call
 * only; not sure: only keys tell, and another map knows as many.
 */
typedef void (*sd_maps_take_layout)(void *user, const char *map, const char *layout, bool sure);
SD_MUST_CHECK enum sd_result sd_maps_layouts(const struct sd_manifest *in, sd_maps_take_layout take, void *user,
					     struct sd_error *err);

/* Says so on standard error where config.json's model_type is one that other maps are for, and this one is not; with
 * strict, fails. */
SD_MUST_CHECK enum sd_result sd_maps_note_other(const struct sd_manifest *in, const struct sd_map *map, bool strict,
						struct sd_error *err);

/* Whether a manifest is an adapter's without experts, whose names are the same in all layouts. */
bool sd_maps_pass(const struct sd_manifest *in);

/* -D NAME=VALUE: adds it to an array that grows, or is misuse. text is cut in two and borrowed. */
void sd_option_define(struct sd_define **defines, size_t *count, size_t *room, char *text);

/* Prints all maps with their layouts and options. */
SD_MUST_CHECK enum sd_result sd_maps_list(bool json, struct sd_error *err);

#endif
