/* SPDX-License-Identifier: Apache-2.0 */
/* Maps: text files of two-way rules between two layouts of a checkpoint, as sd-map(5) has them. */
#ifndef SD_MAP_MAP_H
#define SD_MAP_MAP_H

#include "base/dtype.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct sd_map;

/* -D NAME=VALUE: an option of the map, a size, or dtype. */
struct sd_define {
	const char *name, *value;
};

/* Where the maps come from that a map uses. */
struct sd_map_library {
	/* The text of a map and the name to call it by in errors; both must live until sd_map_parse returns. */
	enum sd_result (*read)(struct sd_map_library *library, const char *name, const char **text, const char **file,
			       struct sd_error *err);
};

/*
 * Compiles a map and checks it. file is for errors, which begin with "FILE:LINE: ". Nothing is borrowed. library may be
 * NULL: a map that uses another is refused then.
 */
SD_MUST_CHECK enum sd_result sd_map_parse(const char *file, const char *text, struct sd_map_library *library,
					  struct sd_map **map, struct sd_error *err);
void sd_map_free(struct sd_map *map);

const char *sd_map_name(const struct sd_map *map);

/* A layout's name: side 0 is the left one, 1 the right one. */
const char *sd_map_layout(const struct sd_map *map, int side);

/* Whether the map is only there for others to use: its patterns have no beginning of their own. */
bool sd_map_is_part(const struct sd_map *map);

/* Whether the map is another one, whole, under a name of its own. */
bool sd_map_is_alias(const struct sd_map *map);

/* Whether the map says that it is for this model_type or architecture of a config.json. */
bool sd_map_is_for(const struct sd_map *map, const char *model);

/* The first model that the map says it is for; NULL: none. */
const char *sd_map_model(const struct sd_map *map);

/* Whether it is for them only where no other map is. */
bool sd_map_is_for_if_alone(const struct sd_map *map);

/* Writes the rules that change something one way only: "FILE:LINE<TAB>to LAYOUT only<TAB>RULE". */
void sd_map_one_way(const struct sd_map *map, FILE *out);

/* Writes the map flat: one map that uses no other and whose patterns are written out, each rule with its file and line.
 */
void sd_map_expand(const struct sd_map *map, FILE *out);

#define SD_NO_RULE UINT32_MAX

/* A rule, as --explain tells of it. */
struct sd_map_rule {
	const char *stage, *file, *text;
	uint32_t line;
	bool ways[2]; /* whether it is read by who writes side 0 or 1 */
};

/* One rule at a time, in the order of the stages; false when number is past the last. */
bool sd_map_rule(const struct sd_map *map, uint32_t number, struct sd_map_rule *rule);

/* Writes a rule whole, as sd_map_expand does, with what its map puts in front of patterns. */
void sd_map_write_rule(const struct sd_map *map, uint32_t number, FILE *out);

/* One option of the map at a time: its name and its values as "a|b"; false when number is past the last. */
bool sd_map_option(const struct sd_map *map, size_t number, const char **name, const char **values, bool *from_keys);

#endif
