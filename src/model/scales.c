/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are the block scales of which weights. */
#include "model/scales.h"
#include "base/names.h"
#include "move/quantise.h"

#include <stdlib.h>
#include <string.h>

size_t sd_scale_stem(const char *name)
{
	size_t length = strlen(name), suffix = strlen(SD_SCALE_SUFFIX);

	return length > suffix && strcmp(name + length - suffix, SD_SCALE_SUFFIX) == 0 ? length - suffix : 0;
}

static bool any(const struct sd_manifest *m)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if (sd_scale_stem(m->targets[i].name))
			return true;
	return false;
}

/* Pairs the targets of scales with the first of their weight, and that with the first of theirs. */
static bool pair(const struct sd_manifest *m, const struct sd_names *names, struct sd_scales *scales)
{
	for (size_t i = 0; i < m->ntargets; i++) {
		size_t length = sd_scale_stem(m->targets[i].name);
		char *name;
		uint32_t weight;

		if (!length)
			continue;
		name = strndup(m->targets[i].name, length);
		if (!name)
			return false;
		weight = sd_names_find(names, name);
		free(name);
		if (weight == SD_NO_NAME)
			continue;
		scales->weight[i] = weight;
		if (scales->scale[weight] == SD_NO_TARGET)
			scales->scale[weight] = (uint32_t)i;
	}
	for (size_t i = 0; i < m->ntargets; i++)
		scales->scale[i] = scales->scale[sd_names_find(names, m->targets[i].name)];
	return true;
}

enum sd_result sd_scales_find(const struct sd_manifest *m, struct sd_scales *scales, struct sd_error *err)
{
	struct sd_names names = {0};
	bool good = true;

	*scales = (struct sd_scales){0};
	if (!any(m))
		return SD_OK;
	scales->scale = malloc(m->ntargets * sizeof(*scales->scale));
	scales->weight = malloc(m->ntargets * sizeof(*scales->weight));
	good = scales->scale && scales->weight;
	for (size_t i = 0; i < m->ntargets && good; i++) {
		scales->scale[i] = scales->weight[i] = SD_NO_TARGET;
		good = sd_names_add(&names, m->targets[i].name, (uint32_t)i) != SD_NO_NAME;
	}
	good = good && pair(m, &names, scales);
	sd_names_free(&names);
	return good ? SD_OK : sd_fail_memory(err);
}

void sd_scales_free(struct sd_scales *scales)
{
	free(scales->scale);
	free(scales->weight);
	*scales = (struct sd_scales){0};
}

static const struct sd_target *look(const uint32_t *numbers, const struct sd_manifest *m, size_t target)
{
	return numbers && numbers[target] != SD_NO_TARGET ? &m->targets[numbers[target]] : NULL;
}

const struct sd_target *sd_scale_of(const struct sd_scales *scales, const struct sd_manifest *m, size_t target)
{
	return look(scales->scale, m, target);
}

const struct sd_target *sd_weight_of(const struct sd_scales *scales, const struct sd_manifest *m, size_t target)
{
	return look(scales->weight, m, target);
}

uint64_t sd_scale_block(uint32_t rank, uint32_t k)
{
	return k + 2 >= rank ? SD_QUANT_BLOCK : 1;
}

enum sd_result sd_scales_fit(const struct sd_target *weight, const struct sd_target *scale, struct sd_error *err)
{
	char shape[SD_SHAPE_TEXT], scales[SD_SHAPE_TEXT];
	bool fits = weight->rank >= 2 && scale->rank == weight->rank;

	for (uint32_t k = 0; k < weight->rank && fits; k++) {
		uint64_t block = sd_scale_block(weight->rank, k);

		fits = scale->shape[k] == weight->shape[k] / block + (weight->shape[k] % block != 0);
	}
	return fits ? SD_OK
		    : sd_fail(err, SD_INPUT, "%s has the shape %s and its scales %s: not one for each block of %d x %d",
			      weight->name, sd_shape_text(weight->shape, weight->rank, shape, sizeof(shape)),
			      sd_shape_text(scale->shape, scale->rank, scales, sizeof(scales)), SD_QUANT_BLOCK,
			      SD_QUANT_BLOCK);
}

bool sd_scale_is_single(const uint64_t *shape, uint32_t rank)
{
	uint64_t count;

	return sd_shape_count(shape, rank, &count) && count == 1;
}
