/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/diff.h"
enum sd_result diff_print_table(const struct diff *diff, struct sd_error *err)
{
	return diff_print_lines(diff, err);
}
enum sd_result diff_print_stat(const struct diff *diff, struct sd_error *err)
{
	return diff_print_lines(diff, err);
}
