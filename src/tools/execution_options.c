/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out pending steps on a device. */
#include "tools/execution_options.h"
#include "base/checked.h"
#include "filters/execute.h"
#include "tools/tool.h"

#include <limits.h>
#include <string.h>

static unsigned small(const char *option, const char *text)
{
	uint64_t number = sd_option_number(option, text);

	if (number > INT_MAX)
		sd_misuse("%s: %s is too large", option, text);
	return (unsigned)number;
}

static void parse_device(struct execution_options *c, const char *text)
{
	c->cpu = strcmp(text, "auto") == 0 || strcmp(text, "cpu") == 0;
	c->cuda = strcmp(text, "auto") == 0 || strncmp(text, "cuda", 4) == 0;
	c->gpu = 0;
	if (strncmp(text, "cuda:", 5) == 0)
		c->gpu = small("--device", text + 5);
	else if (c->cuda && !c->cpu && text[4] != '\0')
		c->cuda = false;
	if (!c->cpu && !c->cuda)
		sd_misuse("--device: \"%s\" is none of auto, cpu, cuda and cuda:N", text);
}

bool execution_option(struct execution_options *c, int letter, const char *value)
{
	switch (letter) {
	case 'd':
		parse_device(c, value);
		return true;
	case 't':
		c->threads = small("--threads", value);
		if (c->threads == 0)
			sd_misuse("--threads: at least 1; without it there are as many as the process may use");
		return true;
	case 'm':
		c->memory = sd_option_size("--memory", value);
		return true;
	case 'C':
		c->checksum = true;
		return true;
	case 'S':
		c->stats = true;
		return true;
	default:
		return false;
	}
}

/*
 * What --device=auto goes by, and sd-transpose(1) tells: a GPU is worth it where it saves more time than its start
 * takes. It turns what the bus carries, and a few threads do as much. What a thread turns is measured, with
 * sd-transpose and files in the page cache; what a GPU does is estimated from the width of the bus (16 handoffs of PCIe
 * 4), until it is measured: contrib/gpu-check prints all three.
 */
#define GPU_START_MS 400u
#define GPU_MIB_PER_S 20000u
#define THREAD_MIB_PER_S 8000u

static bool gpu_is_worth(uint64_t bytes, unsigned threads)
{
	uint64_t cpu_mib_per_s = (uint64_t)threads * THREAD_MIB_PER_S;

	if (cpu_mib_per_s >= GPU_MIB_PER_S)
		return false;
	return bytes >> 20 >= GPU_START_MS * cpu_mib_per_s / 1000 * GPU_MIB_PER_S / (GPU_MIB_PER_S - cpu_mib_per_s);
}

static enum sd_result open_device(const struct execution_options *c, uint64_t work, struct sd_device **device,
				  struct sd_error *err)
{
	unsigned threads = c->threads > 0 ? c->threads : sd_device_threads();

	if (c->cuda && (!c->cpu || gpu_is_worth(work, threads))) {
		enum sd_device_result r = sd_device_open_cuda(c->gpu, device);

		if (r == SD_DEVICE_OK)
			return SD_OK;
		if (r == SD_DEVICE_NOMEM)
			sd_note("CUDA device %u has no memory to spare: the CPU does its work", c->gpu);
		else if (!c->cpu)
			return sd_fail(err, SD_IO,
				       "no CUDA device %u: no driver, no such GPU, or built without CUDA; use "
				       "--device=cpu or --device=auto",
				       c->gpu);
	}
	if (sd_device_open_cpu(c->threads, device) != SD_DEVICE_OK)
		return sd_fail(err, SD_IO, "no memory or threads to work with; --threads=1 needs least");
	return SD_OK;
}

/* Whether there is work, on an empty tensor too; and the bytes of it, and of a few that are only kept for others. */
static bool work_of(const struct sd_execution *execution, uint64_t *bytes)
{
	bool any = false;

	*bytes = 0;
	for (size_t i = 0; i < execution->in->nrecords; i++) {
		if (execution->plan.becomes[i] != SD_WORK || execution->in->records[i].state != SD_HERE)
			continue;
		any = true;
		if (!sd_add(*bytes, execution->in->records[i].bytes, bytes))
			*bytes = UINT64_MAX;
	}
	return any;
}

/* The plan, and a device if there is work or somebody asked for one. */
static enum sd_result prepare(const struct execution_options *c, const struct sd_manifest *in,
			      struct sd_execution *execution, struct sd_error *err)
{
	enum sd_result result = sd_execution_plan(in, c->memory, execution, err);
	uint64_t bytes;

	if (result == SD_OK && (work_of(execution, &bytes) || !c->cpu))
		result = open_device(c, bytes, &execution->device, err);
	if (result == SD_OK && execution->device && c->stats)
		sd_note("works on %s", execution->device->name);
	return result;
}

enum sd_result execution_run(const struct execution_options *c, struct sd_source *source,
			     const struct sd_manifest *manifest, struct sd_sink *sink, struct sd_error *err)
{
	struct sd_execution execution = {0};
	struct sd_device *device;
	enum sd_result result = prepare(c, manifest, &execution, err);

	if (result == SD_OK)
		result = sd_drive(source, &execution.plan, &execution.worker, sink, err);
	device = execution.device;
	sd_execution_free(&execution);
	if (device)
		device->ops->close(device);
	return result;
}
