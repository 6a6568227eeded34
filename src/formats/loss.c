/* SPDX-License-Identifier: Apache-2.0 */
/* What is lost where one checkpoint takes another's place. */
#include "formats/loss.h"
#include "base/checked.h"
#include "base/names.h"
#include "formats/open.h"
#include "model/companions.h"
#include "flow/source.h"

enum sd_result sd_census_take(const struct sd_manifest *m, struct sd_census *census, struct sd_error *err)
{
	struct sd_names names = {0};
	enum sd_result result = SD_OK;

	*census = (struct sd_census){0};
	for (size_t i = 0; i < m->ntargets && result == SD_OK; i++) {
		const struct sd_target *t = &m->targets[i];
		uint64_t count;
		uint32_t number;

		if (m->records[t->record].state != SD_HERE || sd_name_role(t->name).role >= SD_ROLE_BLOCK_SCALE)
			continue;
		number = sd_names_add(&names, t->name, (uint32_t)i);
		if (number == SD_NO_NAME)
			result = sd_fail_memory(err);
		if (number != i)
			continue;
		census->tensors++;
		if (!sd_shape_count(t->shape, t->rank, &count) || !sd_add(census->elements, count, &census->elements))
			census->elements = UINT64_MAX;
	}
	sd_names_free(&names);
	return result;
}

enum sd_result sd_census_at(const char *path, const struct sd_limits *limits, struct sd_census *census,
			    struct sd_error *err)
{
	struct sd_source *source = NULL;
	struct sd_error ignored;
	enum sd_result result = sd_open(path, limits, &source, &ignored);

	*census = (struct sd_census){0};
	if (result == SD_OK)
		result = sd_census_take(source->manifest, census, err);
	else
		result = SD_OK;
	sd_source_close(source);
	return result;
}

bool sd_census_loses(const struct sd_census *before, const struct sd_census *after)
{
	return after->tensors < before->tensors && after->elements < before->elements;
}
