/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the samples of a map: keys and shapes go to the right layout and come back as they were. */
#include "base/text.h"
#include "map/compiled.h"
#include "renaming/rename.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A target by name or by the key of its record, or NULL. */
static const struct sd_target *find_target(const struct sd_manifest *m, const char *name, const char *key)
{
	for (size_t i = 0; i < m->ntargets; i++)
		if ((!name || strcmp(m->targets[i].name, name) == 0) &&
		    (!key || strcmp(m->records[m->targets[i].record].key, key) == 0))
			return &m->targets[i];
	return NULL;
}

static bool is_tensor(const struct sd_target *t, const struct sd_map_sample_tensor *wanted)
{
	return strcmp(t->name, wanted->key) == 0 && t->dtype == wanted->dtype &&
	       sd_shape_equal(t->shape, t->rank, wanted->shape, wanted->rank);
}

/* A sample that goes one way is there as the map says. */
static enum sd_result compare_there(const struct sd_map_sample *sample, const struct sd_manifest *there,
				    struct sd_error *err)
{
	const struct sd_target *found = find_target(there, sample->right.key, sample->left.key);
	char shape[SD_SHAPE_TEXT];

	if (!sample->one_way || (found ? sample->right.key && is_tensor(found, &sample->right) : !sample->right.key))
		return SD_OK;
	if (!found)
		found = find_target(there, NULL, sample->left.key);
	if (!found)
		return sd_map_fail(err, sample->file, sample->line, "nothing becomes of sample %s", sample->left.key);
	return sd_map_fail(err, sample->file, sample->line, "sample %s becomes %s %s %s", sample->left.key, found->name,
			   sd_dtype_name(found->dtype), sd_shape_text(found->shape, found->rank, shape, sizeof(shape)));
}

/* A sample is there again, from its own data or, where it was a copy, from what it is a copy of. */
static enum sd_result compare_back(const struct sd_map_sample *sample, const struct sd_manifest *back,
				   struct sd_error *err)
{
	const char *key = sample->left.key;
	const struct sd_target *own = find_target(back, key, key), *found = own ? own : find_target(back, key, NULL);
	char shape[SD_SHAPE_TEXT];

	if (sample->one_way)
		return SD_OK;
	if (!found)
		found = find_target(back, NULL, key);
	if (!found)
		return sd_map_fail(err, sample->file, sample->line, "sample %s does not come back", key);
	if (!is_tensor(found, &sample->left))
		return sd_map_fail(err, sample->file, sample->line, "sample %s comes back as %s %s %s", key,
				   found->name, sd_dtype_name(found->dtype),
				   sd_shape_text(found->shape, found->rank, shape, sizeof(shape)));
	if (own && (own->nsteps || sd_target_is_reordered(own)))
		return sd_map_fail(err, sample->file, sample->line, "sample %s comes back with other %s", key,
				   own->nsteps ? "values" : "places of its elements");
	return SD_OK;
}

/* A plan for samples; what is wrong with it is wrong with the map, -D included. */
static enum sd_result make_plan(struct sd_rename *rename, const struct sd_manifest *in, struct sd_plan *plan,
				const char *file, uint32_t line, struct sd_error *err)
{
	enum sd_result result = sd_rename_plan(rename, in, plan, err);

	if (result == SD_OK || result == SD_IO)
		return result;
	sd_error_at(err, "%s:%u: samples%s", file, line, rename->to == LEFT ? " on their way back" : "");
	return err->result = SD_INPUT;
}

/* One checkpoint of samples, there and back. */
static enum sd_result check_group(const struct sd_map *map, uint32_t first, struct sd_error *err)
{
	const struct sd_map_sample *lead = &map->samples[first];
	struct sd_rename rename = {
		.map = map, .to = RIGHT, .defines = lead->defines, .ndefines = lead->ndefines, .all_taken = true};
	struct sd_manifest *in = sd_manifest_new();
	struct sd_plan there = {0}, back = {0};
	enum sd_result result = in ? SD_OK : sd_fail_memory(err);
	bool returns = false;

	for (uint32_t i = first; i < map->nsamples && result == SD_OK; i++) {
		const struct sd_map_sample *s = &map->samples[i];

		if (strcmp(s->group, lead->group) != 0)
			continue;
		returns |= !s->one_way;
		errno = 0;
		if (!sd_manifest_add_tensor(in, s->left.key, s->left.dtype, s->left.shape, s->left.rank))
			result = errno == ENOMEM
					 ? sd_fail_memory(err)
					 : sd_map_fail(err, s->file, s->line, "sample %s is too large", s->left.key);
	}
	if (result == SD_OK)
		result = make_plan(&rename, in, &there, lead->file, lead->line, err);
	for (uint32_t i = first; i < map->nsamples && result == SD_OK; i++)
		if (strcmp(map->samples[i].group, lead->group) == 0)
			result = compare_there(&map->samples[i], there.manifest, err);
	rename.to = LEFT;
	rename.all_taken = false;
	if (result == SD_OK && returns)
		result = make_plan(&rename, there.manifest, &back, lead->file, lead->line, err);
	for (uint32_t i = first; i < map->nsamples && result == SD_OK && returns; i++)
		if (strcmp(map->samples[i].group, lead->group) == 0)
			result = compare_back(&map->samples[i], back.manifest, err);
	sd_plan_free(&back);
	sd_plan_free(&there);
	sd_manifest_free(in);
	return result;
}

enum sd_result sd_map_check_samples(const struct sd_map *map, struct sd_error *err)
{
	for (uint32_t i = 0; i < map->nsamples; i++) {
		bool leads = true;

		for (uint32_t k = 0; k < i; k++)
			leads = leads && strcmp(map->samples[k].group, map->samples[i].group) != 0;
		if (leads && check_group(map, i, err) != SD_OK)
			return err->result;
	}
	return SD_OK;
}
