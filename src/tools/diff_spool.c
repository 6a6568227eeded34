/* SPDX-License-Identifier: Apache-2.0 */
/* sd-diff where both sides come in their own order only: the data of one of them waits in a spool. */
#include "filters/execute.h"
#include "flow/spooled.h"
#include "move/device.h"
#include "tools/diff.h"

#include <stdlib.h>

#define MEMORY (64u << 20)

static bool has_steps(const struct diff_side *side)
{
	for (size_t i = 0; i < side->m->ntargets; i++)
		if (side->m->targets[i].nsteps)
			return true;
	return false;
}

/* As much of it as is asked for. */
static enum sd_result spool_in_order(struct diff_side *side, struct sd_error *err)
{
	side->spooled = sd_spooled_new(side->source);
	return side->spooled ? SD_OK : sd_fail_memory(err);
}

/* All of it, with what is pending carried out. */
static enum sd_result spool_all(const struct diff *diff, struct diff_side *side, struct sd_error *err)
{
	struct sd_device *device = NULL;
	struct sd_sink *sink = NULL;
	enum sd_result result = SD_OK;

	side->execution = calloc(1, sizeof(*side->execution));
	side->spooled = sd_spooled_sink(&sink);
	if (!side->execution || !side->spooled)
		return sd_fail_memory(err);
	result = sd_execution_plan(side->m, MEMORY, side->execution, err);
	if (result == SD_OK && sd_device_open_cpu(diff->opt->threads, &device) != SD_DEVICE_OK)
		result = sd_fail_memory(err);
	side->execution->device = device;
	if (result == SD_OK)
		result = sd_drive(side->source, &side->execution->plan, &side->execution->worker, sink, err);
	if (device)
		device->ops->close(device);
	side->execution->device = NULL;
	side->m = side->execution->plan.manifest;
	return result == SD_OK ? result : sd_error_at(err, "%s", side->name);
}

enum sd_result diff_spool(struct diff *diff, struct sd_error *err)
{
	const struct diff_side *a = &diff->side[0], *b = &diff->side[1];
	struct diff_side *side = &diff->side[has_steps(b) && !has_steps(a) ? 0 : 1];
	enum sd_result result;

	if (a->sums || b->sums || a->random || b->random)
		return SD_OK;
	result = has_steps(side) ? spool_all(diff, side, err) : spool_in_order(side, err);
	if (result == SD_OK) {
		side->source = side->spooled;
		side->random = true;
	}
	return result;
}

void diff_spool_free(struct diff_side *side)
{
	sd_source_close(side->spooled);
	if (side->execution)
		sd_execution_free(side->execution);
	free(side->execution);
}
