/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/diff.h"
enum sd_result diff_print_config(struct diff *diff, struct sd_error *err)
{
	(void)diff;
	(void)err;
	return SD_OK;
}
