/* SPDX-License-Identifier: Apache-2.0 */
/* Takes what a source brings behind its names. */
#include "flow/rest.h"

#define REST_MAX (4u << 20)

/* Takes a record; *left is how much data itself may be taken, and *enough says that there is more. */
static enum sd_result take_record(struct sd_source *source, uint32_t record, uint64_t *left, bool *enough,
				  struct sd_error *err)
{
	struct sd_extent extent;
	enum sd_result result = sd_source_next(source, record, &extent, err);

	while (result == SD_OK && extent.length) {
		bool reference = !extent.memory && extent.offset >= 0;

		*enough = !reference && extent.length > *left;
		if (*enough)
			return SD_OK;
		*left -= reference ? 0 : extent.length;
		result = sd_extent_skip(&extent, err);
		if (result == SD_OK)
			result = sd_source_next(source, record, &extent, err);
	}
	return result;
}

enum sd_result sd_source_take_rest(struct sd_source *source, struct sd_error *err)
{
	const struct sd_manifest *m = source->manifest;
	uint64_t left = REST_MAX;
	enum sd_result result = SD_OK;
	bool enough = false;

	for (size_t i = 0; i < m->nrecords && result == SD_OK && !enough; i++)
		if (m->records[i].state == SD_HERE)
			result = take_record(source, (uint32_t)i, &left, &enough, err);
	if (result == SD_OK && !enough)
		result = sd_source_finish(source, err);
	if (result != SD_OK)
		sd_source_explain(source, err);
	return result;
}
