/* SPDX-License-Identifier: Apache-2.0 */
/* A compiled map: what it says of itself, and its end. */
#include "map/compiled.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum sd_result sd_map_fail(struct sd_error *err, const char *file, uint32_t line, const char *format, ...)
{
	va_list args;
	char text[1024];

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* What sd_axes_parse has to say of itself. */
	if (strcmp(text, "out of memory") == 0)
		return sd_fail_memory(err);
	return sd_fail(err, SD_INPUT, "%s:%u: %s", file, line, text);
}

void sd_map_free(struct sd_map *map)
{
	if (!map)
		return;
	for (uint32_t i = 0; i < map->nstages; i++)
		free(map->stages[i].rules);
	free(map->stages);
	free(map->options);
	free(map->texts);
	free(map->tables);
	free(map->labels);
	free(map->sizes);
	free(map->samples);
	free(map->known);
	free(map->roots);
	free(map->parameters);
	free(map->places);
	free(map->elsewhere);
	free(map->pefts);
	free(map->rows);
	sd_arena_free(&map->arena);
	free(map);
}

const char *sd_map_name(const struct sd_map *map)
{
	return map->name;
}

const char *sd_map_layout(const struct sd_map *map, int side)
{
	return map->layout[side];
}

bool sd_map_is_part(const struct sd_map *map)
{
	return map->part;
}

bool sd_map_has_label(const struct sd_map *map, const char *name)
{
	for (uint32_t i = 0; i < map->nlabels; i++)
		if (strcmp(map->labels[i].name, name) == 0)
			return true;
	return false;
}

bool sd_map_is_alias(const struct sd_map *map)
{
	return !map->own;
}

bool sd_map_is_for(const struct sd_map *map, const char *model)
{
	for (uint32_t i = 0; i < map->nmodels; i++)
		if (strcmp(map->models[i], model) == 0)
			return true;
	return false;
}

const char *sd_map_model(const struct sd_map *map)
{
	return map->nmodels ? map->models[0] : NULL;
}

bool sd_map_is_for_if_alone(const struct sd_map *map)
{
	return map->if_alone;
}

bool sd_map_option(const struct sd_map *map, size_t number, const char **name, const char **values, bool *from_keys)
{
	for (uint32_t i = 0; i < map->noptions; i++) {
		const struct sd_map_option *option = &map->options[i];

		if (option->idle || number--)
			continue;
		*name = option->name;
		*values = option->text;
		*from_keys = option->from_keys;
		return true;
	}
	return false;
}

bool sd_map_rule(const struct sd_map *map, uint32_t number, struct sd_map_rule *rule)
{
	const struct sd_map_stage *stage = map->stages, *end = stage + map->nstages;

	for (; stage < end && number >= stage->nrules; stage++)
		number -= stage->nrules;
	if (stage == end)
		return false;
	*rule = (struct sd_map_rule){.stage = stage->name,
				     .file = stage->rules[number].file,
				     .text = stage->rules[number].text,
				     .line = stage->rules[number].line,
				     .ways = {stage->rules[number].outcome[RIGHT] != NOT_READ,
					      stage->rules[number].outcome[LEFT] != NOT_READ}};
	return true;
}

bool sd_map_is_elsewhere(const struct sd_map *map, const char *name)
{
	for (uint32_t i = 0; i < map->nelsewhere; i++)
		if (strcmp(map->elsewhere[i], name) == 0)
			return true;
	return false;
}
