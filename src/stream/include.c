/* SPDX-License-Identifier: Apache-2.0 */
/* --include: which tensors are meant. */
#include "stream/include.h"

enum sd_result sd_include_takes(const struct sd_regex_list *include, const char *name, bool *yes, struct sd_error *err)
{
	*yes = include->count == 0;
	return *yes ? SD_OK : sd_regex_list_search(include, name, yes, err);
}

enum sd_result sd_include_check(const struct sd_regex_list *include, const struct sd_manifest *m, struct sd_error *err)
{
	bool found = include->count == 0;

	for (size_t i = 0; i < m->ntargets && !found; i++) {
		enum sd_result result = sd_include_takes(include, m->targets[i].name, &found, err);

		if (result != SD_OK)
			return result;
	}
	return found ? SD_OK : sd_fail(err, SD_INPUT, "no tensor's name matches --include");
}
