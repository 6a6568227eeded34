/* SPDX-License-Identifier: Apache-2.0 */
/* `peft` and `elsewhere`: what adapter_config.json calls the modules that a map is about. */
#include "map/parser.h"

#include <stdlib.h>

/* Cuts a whole pattern into what is behind its holes and its last part, neither of which has one. */
static enum sd_result cut_pattern(struct sd_parser *p, const char *text, struct sd_map_peft *peft)
{
	const char *dot = strrchr(text, '.'), *end = dot, *from = text;

	if (dot && dot > text && dot[-1] == '}')
		while (end > text && *--end != '.') {
		}
	for (const char *at = text; dot && at < end; at++)
		if (*at == '}')
			from = at + 1;
	from += *from == '.';
	/* Of a part of other maps, what stands in front is still to come. */
	if (*text == '.' && from > end)
		from = end;
	if (!dot || !dot[1] || strpbrk(dot, "{}") || (from >= end && *text != '.'))
		return sd_parse_fail(p, "\"%s\": it ends in a name, behind the module that has the experts", text);
	peft->text = text;
	peft->name = dot + 1;
	peft->container = sd_arena_text(&p->map->arena, from, (size_t)(end - from));
	return peft->container ? SD_OK : sd_fail_memory(p->err);
}

enum sd_result sd_parse_peft(struct sd_parser *p)
{
	struct sd_map_peft peft = {.stage = p->stage}, *added;

	if (sd_token_want(p, WORD, "a name for what the tensors are of", &peft.group) != SD_OK ||
	    sd_parse_guards(p, &peft.guards, &peft.nguards) != SD_OK)
		return p->err->result;
	peft.parameter = sd_token_accept(p, "target_parameters");
	if (!peft.parameter && !sd_token_accept(p, "target_modules"))
		return sd_parse_fail(p, "behind \"peft\" and a name comes target_modules or target_parameters");
	do {
		const char *word = NULL, *text = NULL;

		if (sd_token_want(p, WORD, "a pattern", &word) != SD_OK ||
		    sd_parse_full_pattern(p, word, LEFT, &text) != SD_OK || cut_pattern(p, text, &peft) != SD_OK)
			return p->err->result;
		added = SD_PARSE_ADD(p->map->pefts, p->map->npefts, p->map->pefts_room);
		if (!added)
			return sd_fail_memory(p->err);
		*added = peft;
	} while (p->at < p->ntokens);
	return SD_OK;
}

enum sd_result sd_parse_elsewhere(struct sd_parser *p)
{
	do {
		const char *name = NULL, **added;

		if (sd_token_want(p, WORD, "the name of a module", &name) != SD_OK)
			return p->err->result;
		if (sd_map_is_elsewhere(p->map, name))
			continue;
		added = SD_PARSE_ADD(p->map->elsewhere, p->map->nelsewhere, p->map->elsewhere_room);
		if (!added)
			return sd_fail_memory(p->err);
		*added = name;
	} while (p->at < p->ntokens);
	return SD_OK;
}
