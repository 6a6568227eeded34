/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for the CUDA device in tests/sd-transpose-grid: what the GPU would compute, computed on the host by the
 * same functions, so that whole pipelines prove the kernel's arithmetic on a machine without a GPU.
 */
#include "grid-host.h"

#include <stdio.h>
#include <stdlib.h>

struct buffers {
	void *source, *scales, *packed;
	uint8_t *written;
};

/* Just the size that the device has of them, so that a sanitizer sees every step outside. */
static void *copied(const void *data, size_t bytes)
{
	void *copy = malloc(bytes + 1);

	if (copy && bytes)
		memcpy(copy, data, bytes);
	return copy;
}

static const char *carry_out(const struct sd_job *job, const struct sd_grid *grid, struct buffers *b)
{
	const struct sd_transpose *plan = &grid->plan;
	const char *wrong;
	uint64_t bytes;
	const void *source = sd_grid_source(grid, job->source, &bytes);

	b->source = copied(source, bytes);
	b->scales = copied(job->scale.data, sd_transpose_scales(plan) * sd_element_size(job->scale.dtype));
	b->packed = malloc(grid->target_count * plan->target_size + 1);
	b->written = calloc(grid->target_count + 1, 1);
	if (!b->source || !b->scales || !b->packed || !b->written)
		return "no memory";
	wrong = grid_turn(grid, b->source, b->scales, b->packed, b->written);
	for (uint64_t i = 0; i < grid->target_count && !wrong; i++)
		if (b->written[i] != 1)
			wrong = "an element is not written once";
	if (!wrong)
		sd_grid_unpack(grid, b->packed, job->target);
	return wrong;
}

static enum sd_device_result run(struct sd_device *device, const struct sd_job *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct buffers b = {0};
		struct sd_transpose plan;
		struct sd_grid grid;
		const char *wrong = NULL;
		enum sd_device_result result = sd_transpose_plan(&jobs[i], &plan, device->failure);

		if (result != SD_DEVICE_OK)
			return result;
		if (plan.loops == 0)
			continue;
		if (!sd_grid_plan(&plan, &grid))
			wrong = "a number does not fit";
		else
			wrong = carry_out(&jobs[i], &grid, &b);
		free(b.source);
		free(b.scales);
		free(b.packed);
		free(b.written);
		if (wrong) {
			snprintf(device->failure, sizeof(device->failure), "%s", wrong);
			return SD_DEVICE_FAILED;
		}
	}
	return SD_DEVICE_OK;
}

static void end(struct sd_device *device)
{
	free(device);
}

enum sd_device_result sd_device_open_cuda(unsigned number, struct sd_device **device)
{
	static const struct sd_device_ops ops = {run, end};

	(void)number;
	*device = calloc(1, sizeof(**device));
	if (!*device)
		return SD_DEVICE_NOMEM;
	(*device)->ops = &ops;
	(*device)->name = "the CUDA grid on the host";
	return SD_DEVICE_OK;
}
