/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a set of maps a checkpoint is for. */
#ifndef SD_RENAMING_WHICH_MAP_H
#define SD_RENAMING_WHICH_MAP_H

#include "map/map.h"
#include "model/manifest.h"

/* A set of maps, wherever they lie. */
struct sd_maps {
	/* Calls take for every map that is no part of others, by name. take keeps the map if it sets *map to NULL. */
	enum sd_result (*each)(struct sd_maps *maps,
			       enum sd_result (*take)(void *user, struct sd_map **map, struct sd_error *err),
			       void *user, struct sd_error *err);
	/* The config.json of an adapter's base model, in the arena; file->data is NULL where there is none. NULL:
	 * nobody looks for one. */
	enum sd_result (*base_config)(const struct sd_manifest *in, struct sd_arena *arena, struct sd_side_file *file,
				      struct sd_error *err);
};

/*
 * The map for a manifest: by config.json's model_type and architectures; where it says neither, by the keys. to: a
 * layout that it has to know, or NULL. Of several the keys decide, and then what maps say of being a second choice; two
 * that are left are an error, and so is a model_type or architecture that no map is for. *map is NULL for a LoRA
 * adapter without experts whose model nothing tells: its names are the same in all layouts.
 */
SD_MUST_CHECK enum sd_result sd_which_map(struct sd_maps *maps, const struct sd_manifest *in, const char *to,
					  struct sd_map **map, struct sd_error *err);

/* The map that knows the most names, of those that have something to do with the keys. NULL: one knows them all, or
 * none has anything to do. */
SD_MUST_CHECK enum sd_result sd_which_map_nearest(struct sd_maps *maps, const struct sd_manifest *in,
						  struct sd_map **map, struct sd_error *err);

/*
 * Tells for each map that may be for a manifest, the first choice first, in which of its layouts it is: by config.json,
 * or where that says nothing by the keys. A map that knows no key is not told. take's texts are its own during the call
 * only; not sure: only keys tell, and another map knows as many.
 */
typedef void (*sd_take_layout)(void *user, const char *map, const char *layout, bool sure);
SD_MUST_CHECK enum sd_result sd_which_layouts(struct sd_maps *maps, const struct sd_manifest *in, sd_take_layout take,
					      void *user, struct sd_error *err);

/* What config.json says that a map is not for. */
struct sd_other_maps {
	const char *model_type; /* NULL: the map is for it, or may be */
	const char *maps;       /* the names of those that are for it; NULL: there are none */
	struct sd_arena arena;  /* of these texts: the caller frees it, whatever the result */
};

SD_MUST_CHECK enum sd_result sd_which_others(struct sd_maps *maps, const struct sd_manifest *in,
					     const struct sd_map *map, struct sd_other_maps *other,
					     struct sd_error *err);

/* Whether a manifest is an adapter's without experts, whose names are the same in all layouts. */
bool sd_adapter_passes(const struct sd_manifest *in);

#endif
