/* SPDX-License-Identifier: Apache-2.0 */
/* `config FIELD <-> FIELD`: fields of config.json that have another place in the other layout. */
#include "map/parser.h"

#include <stdlib.h>

/* `if KEY=VALUE|VALUE..` behind a row. */
static enum sd_result parse_key(struct sd_parser *p, struct sd_config_row *row)
{
	const char *word = NULL;
	char *key;

	if (sd_token_want(p, WORD, "a condition", &word) != SD_OK)
		return p->err->result;
	key = p->tokens[p->at - 1].text;
	word = sd_token_cut(key);
	if (!word || !*key)
		return sd_parse_fail(p, "behind \"if\" comes KEY=VALUE, with | between several values");
	row->key = key;
	return sd_token_words(p, word, (const char ***)&row->values, &row->nvalues);
}

enum sd_result sd_parse_config(struct sd_parser *p)
{
	struct sd_map *map = p->map;
	struct sd_config_row row = {.key = NULL}, *added;

	if (sd_token_want(p, WORD, "a field of the left layout's config.json", &row.path[LEFT]) != SD_OK)
		return p->err->result;
	if (!sd_token_accept(p, "<->"))
		return sd_parse_fail(p, "between the two fields stands <->");
	if (sd_token_want(p, WORD, "a field of the right layout's config.json", &row.path[RIGHT]) != SD_OK ||
	    (sd_token_accept(p, "if") && parse_key(p, &row) != SD_OK) || sd_token_end(p) != SD_OK)
		return p->err->result;
	for (uint32_t i = 0; i < map->nrows; i++)
		if (strcmp(map->rows[i].path[LEFT], row.path[LEFT]) == 0 ||
		    strcmp(map->rows[i].path[RIGHT], row.path[RIGHT]) == 0)
			return p->user ? SD_OK
				       : sd_parse_fail(p, "field %s or %s is said already", row.path[LEFT],
						       row.path[RIGHT]);
	added = SD_PARSE_ADD(map->rows, map->nrows, map->rows_room);
	if (!added)
		return sd_fail_memory(p->err);
	*added = row;
	return SD_OK;
}
