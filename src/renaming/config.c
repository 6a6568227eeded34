/* SPDX-License-Identifier: Apache-2.0 */
/* config.json follows the layout. */
#include "renaming/planner.h"

enum sd_result sd_planner_config(struct sd_planner *p)
{
	return sd_config_fields_follow(p->out, p->map->rows, p->map->nrows, !p->from, p->err);
}
