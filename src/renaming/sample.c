/* SPDX-License-Identifier: Apache-2.0 */
/* Samples of a map: keys and shapes that go to the right layout and come back as they were. */
#include "base/text.h"
#include "map/parser.h"
#include "renaming/rename.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define SAMPLES_MAX 1000

/* "[2 3]" */
static enum sd_result parse_shape(struct sd_parser *p, struct sd_map_sample_tensor *t)
{
	const char *text = NULL;
	char *list, *number, *rest = NULL;

	if (sd_token_want(p, LIST, "the shape, as in [2 3],", &text) != SD_OK)
		return p->err->result;
	list = sd_arena_text(&p->map->arena, text + 1, strlen(text) - 2);
	t->shape = sd_arena_array(&p->map->arena, SD_RANK_MAX, sizeof(*t->shape));
	if (!list || !t->shape)
		return sd_fail_memory(p->err);
	for (number = strtok_r(list, " \t", &rest); number; number = strtok_r(NULL, " \t", &rest))
		if (t->rank == SD_RANK_MAX || !sd_text_number(number, &t->shape[t->rank++]))
			return sd_parse_fail(p, "%s is no shape: a shape is as in [2 3]", text);
	return SD_OK;
}

/* @NAME=VALUE .., as -D has them. */
static enum sd_result parse_defines(struct sd_parser *p, struct sd_map_sample *sample)
{
	struct sd_define *defines = sd_arena_array(&p->map->arena, p->ntokens, sizeof(*defines));

	sample->group = "";
	if (!defines)
		return sd_fail_memory(p->err);
	while (*sd_token_peek(p) == '@') {
		char *text = p->tokens[p->at++].text + 1;

		sample->group = sd_arena_printf(&p->map->arena, "%s %s", sample->group, text);
		defines[sample->ndefines].name = text;
		defines[sample->ndefines].value = sd_token_cut(text);
		if (!defines[sample->ndefines++].value)
			return sd_parse_fail(p, "in front of a sample stand options and sizes as @NAME=VALUE");
		if (!sample->group)
			return sd_fail_memory(p->err);
	}
	sample->defines = defines;
	return SD_OK;
}

/* The next combination of the words of all holes; false after the last. */
static bool next_words(const struct sd_map_holes *holes, struct sd_map_values *values)
{
	for (uint32_t h = holes->n; h-- > 0;) {
		if (++values->value[h].word < holes->hole[h].nwords)
			return true;
		values->value[h].word = 0;
	}
	return false;
}

/* One side's key, whose holes are choices. */
static enum sd_result parse_key(struct sd_parser *p, const char *text, int side, struct sd_map_holes *holes,
				struct sd_pattern *key)
{
	if (sd_parse_pattern(p, text, side, holes, key) != SD_OK)
		return p->err->result;
	for (uint32_t i = 0; i < key->n; i++)
		if (key->elements[i].kind == TEXT ||
		    (key->elements[i].kind == HOLE && holes->hole[key->elements[i].number].kind != HOLE_CHOICE))
			return sd_parse_fail(p, "the holes of a sample are choices, as {x=a|b}");
	return SD_OK;
}

/* Whether a key, choices filled in, can stand in a sample again, as --expand writes it. */
static bool is_plain(const char *key)
{
	return sd_token_is_plain(key) && !strpbrk(key, "{}");
}

/* One sample for each choice that the key leaves. */
static enum sd_result add_samples(struct sd_parser *p, struct sd_map_sample *sample)
{
	struct sd_map_holes holes = {0};
	struct sd_map_values values = {0};
	struct sd_pattern key, right = {0};

	if (parse_key(p, sample->left.key, LEFT, &holes, &key) != SD_OK ||
	    (sample->right.key && parse_key(p, sample->right.key, RIGHT, &holes, &right) != SD_OK))
		return p->err->result;
	do {
		struct sd_map_sample *added = SD_PARSE_ADD(p->map->samples, p->map->nsamples, p->map->samples_room);

		sample->left.key = sd_pattern_fill(&key, &holes, NULL, &values, &p->map->arena);
		if (right.text)
			sample->right.key = sd_pattern_fill(&right, &holes, NULL, &values, &p->map->arena);
		if (!added || !sample->left.key || (right.text && !sample->right.key))
			return sd_fail_memory(p->err);
		if (!is_plain(sample->left.key) || (right.text && !is_plain(sample->right.key)))
			return sd_parse_fail(p, "\"%s\" cannot be the key of a sample",
					     is_plain(sample->left.key) ? sample->right.key : sample->left.key);
		*added = *sample;
		if (p->map->nsamples > SAMPLES_MAX)
			return sd_parse_fail(p, "more than %d samples", SAMPLES_MAX);
	} while (next_words(&holes, &values));
	return SD_OK;
}

static enum sd_result parse_tensor(struct sd_parser *p, struct sd_map_sample_tensor *t)
{
	if (sd_token_want(p, WORD, "the sample's key", &t->key) != SD_OK)
		return p->err->result;
	t->dtype = (uint8_t)sd_dtype_parse(sd_token_peek(p), strlen(sd_token_peek(p)));
	if (!t->dtype)
		return sd_parse_fail(p, "behind the sample's key comes its dtype");
	p->at++;
	return parse_shape(p, t);
}

enum sd_result sd_parse_sample(struct sd_parser *p)
{
	struct sd_map_sample sample = {.file = sd_arena_text(&p->map->arena, p->file, strlen(p->file)),
				       .line = p->line};

	if (p->user && !p->whole)
		return SD_OK;
	if (!sample.file)
		return sd_fail_memory(p->err);
	if (parse_defines(p, &sample) != SD_OK || parse_tensor(p, &sample.left) != SD_OK)
		return p->err->result;
	sample.one_way = sd_token_accept(p, "->");
	if (sample.one_way && !sd_token_accept(p, "drop") && parse_tensor(p, &sample.right) != SD_OK)
		return p->err->result;
	return sd_token_end(p) == SD_OK ? add_samples(p, &sample) : p->err->result;
}

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
