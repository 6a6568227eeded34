/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out pending steps on a device. */
#include "tools/carrying.h"
#include "stream/carry.h"
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

static void parse_device(struct carrying *c, const char *text)
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

bool carrying_option(struct carrying *c, int letter, const char *value)
{
	switch (letter) {
	case 'd':
		parse_device(c, value);
		return true;
	case 't':
		c->threads = small("--threads", value);
		return true;
	case 'm':
		c->memory = sd_option_size("--memory", value);
		return true;
	case 'S':
		c->stats = true;
		return true;
	default:
		return false;
	}
}

static enum sd_result open_device(const struct carrying *c, struct sd_device **device, struct sd_error *err)
{
	if (c->cuda) {
		enum sd_device_result r = sd_device_open_cuda(c->gpu, device);

		if (r == SD_DEVICE_OK)
			return SD_OK;
		if (!c->cpu)
			return sd_fail(err, SD_IO, "no CUDA device %u: %s; use --device=cpu or --device=auto", c->gpu,
				       r == SD_DEVICE_ABSENT ? "no driver, no such GPU, or built without CUDA"
							     : "it cannot be used");
	}
	if (sd_device_open_cpu(c->threads, device) != SD_DEVICE_OK)
		return sd_fail(err, SD_IO, "no memory or threads to work with; --threads=1 needs least");
	return SD_OK;
}

static bool any_work(const struct sd_carry *carry)
{
	for (size_t i = 0; i < carry->in->nrecords; i++)
		if (carry->plan.becomes[i] == SD_WORK && carry->in->records[i].state == SD_HERE)
			return true;
	return false;
}

/* The plan, and a device if there is work or somebody asked for one. */
static enum sd_result prepare(const struct carrying *c, const struct sd_manifest *in, struct sd_carry *carry,
			      struct sd_error *err)
{
	enum sd_result result = sd_carry_plan(in, c->memory, carry, err);

	if (result == SD_OK && (any_work(carry) || !c->cpu))
		result = open_device(c, &carry->device, err);
	return result;
}

enum sd_result carrying_run(const struct carrying *c, struct sd_source *source, const struct sd_manifest *manifest,
			    struct sd_sink *sink, struct sd_error *err)
{
	struct sd_carry carry = {0};
	enum sd_result result = prepare(c, manifest, &carry, err);

	if (result == SD_OK)
		result = sd_pump(source, &carry.plan, &carry.worker, sink, err);
	if (carry.device)
		carry.device->ops->close(carry.device);
	sd_carry_free(&carry);
	return result;
}
