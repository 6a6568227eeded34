/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of maps share: maps and manifests from a few lines of text. */
#ifndef TEST_MAP_H
#define TEST_MAP_H

#include "renaming/rename.h"

#include <criterion/criterion.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A second map, for `use`: its text is the library's user. */
struct one_map {
	struct sd_map_library base;
	const char *name, *text;
};

static enum sd_result read_one(struct sd_map_library *base, const char *name, const char **text, const char **file,
			       struct sd_error *err)
{
	struct one_map *library = (struct one_map *)base;

	if (!library->name || strcmp(name, library->name) != 0)
		return sd_fail(err, SD_INPUT, "there is no map %s", name);
	*text = library->text;
	*file = "used.map";
	return SD_OK;
}

/* Compiles "map t hf nemo\n" and the text. */
static inline enum sd_result compile(const char *text, const char *used, struct sd_map **map, struct sd_error *err)
{
	struct one_map library = {{read_one}, used ? "used" : NULL, used};
	char *whole;
	enum sd_result result;

	cr_assert(asprintf(&whole, "map t hf nemo\n%s", text) > 0);
	result = sd_map_parse("t.map", whole, &library.base, map, err);
	free(whole);
	return result;
}

/* A manifest from "NAME DTYPE SIZE SIZE ..\n" lines. */
static inline struct sd_manifest *manifest(const char *lines)
{
	struct sd_manifest *m = sd_manifest_new();
	char *copy = strdup(lines), *rest = copy, *line;

	cr_assert(m && copy);
	while ((line = strsep(&rest, "\n")) && *line) {
		char *name = strsep(&line, " "), *dtype = strsep(&line, " "), *size;
		uint64_t shape[SD_RANK_MAX];
		uint32_t rank = 0;

		while ((size = strsep(&line, " ")))
			shape[rank++] = strtoull(size, NULL, 10);
		cr_assert(sd_manifest_add_tensor(m, name, sd_dtype_parse(dtype, strlen(dtype)), shape, rank), "%s",
			  name);
	}
	free(copy);
	return m;
}

/* One case: a map, what goes in, and what is asked for. */
struct
try {
	const char *map, *used, *in, *to;
	const char *config, *stamp; /* of config.json and stamp.json */
	struct sd_define defines[4];
	bool strict;
};

/* The plan as lines "NAME DTYPE SIZE .. < KEY\n" in the order of targets, then notes, or the error; steps show as "cast
 * F32". */
static inline void run_plan(const struct try *t, enum sd_result *result, char *text, size_t size)
{
	struct sd_error err = {0};
	struct sd_map *map = NULL;
	struct sd_manifest *in = manifest(t->in);
	const char *const files[][2] = {{"config.json", t->config}, {"stamp.json", t->stamp}};
	struct sd_rename rename = {.strict = t->strict, .to = -1, .defines = t->defines};
	struct sd_plan plan;
	size_t used = 0;

	*text = '\0';
	for (int i = 0; i < 2; i++)
		if (files[i][1])
			cr_assert(sd_manifest_add_side(
				in, &(struct sd_side_file){files[i][0], files[i][1], strlen(files[i][1])}));
	while (rename.ndefines < 4 && t->defines[rename.ndefines].name)
		rename.ndefines++;
	*result = compile(t->map, t->used, &map, &err);
	rename.map = map;
	if (t->to)
		rename.to = strcmp(t->to, "nemo") == 0;
	if (*result == SD_OK)
		*result = sd_rename_plan(&rename, in, &plan, &err);
	if (*result != SD_OK) {
		snprintf(text, size, "%s", err.text);
	} else {
		cr_assert(sd_manifest_check(plan.manifest, &err) == SD_OK, "%s", err.text);
		for (size_t i = 0; i < plan.manifest->ntargets; i++) {
			const struct sd_target *target = &plan.manifest->targets[i];

			used += (size_t)snprintf(text + used, size - used, "%s %s", target->name,
						 sd_dtype_name(target->dtype));
			for (uint32_t d = 0; d < target->rank; d++)
				used += (size_t)snprintf(text + used, size - used, " %" PRIu64, target->shape[d]);
			used += (size_t)snprintf(text + used, size - used, " < %s",
						 plan.manifest->records[target->record].key);
			for (uint32_t s = 0; s < target->nsteps; s++)
				used += (size_t)snprintf(text + used, size - used, ", %s %s",
							 target->steps[s].kind == SD_STEP_BLOCK_SCALE
								 ? "times scale"
								 : sd_step_word(target->steps[s].kind),
							 sd_dtype_name(target->steps[s].dtype));
			used += (size_t)snprintf(text + used, size - used, "%s\n",
						 sd_target_is_reordered(target) ? ", reorder" : "");
		}
		for (size_t i = 0; i < rename.nnotes; i++)
			used += (size_t)snprintf(text + used, size - used, "note: %s\n", rename.notes[i]);
		sd_plan_free(&plan);
	}
	sd_map_free(map);
	sd_manifest_free(in);
}

static inline void expect(struct try t, const char *want)
{
	enum sd_result result;
	char got[8192];

	run_plan(&t, &result, got, sizeof(got));
	cr_expect(result == SD_OK && strcmp(got, want) == 0, "\n%s\n%s\nwanted:\n%sgot:\n%s", t.map, t.in, want, got);
}

static inline void expect_error(struct try t, enum sd_result want_result, const char *want)
{
	enum sd_result result;
	char got[8192];

	run_plan(&t, &result, got, sizeof(got));
	cr_expect(result == want_result && strcmp(got, want) == 0, "\n%s\n%s\nwanted %d:\n%s\ngot %d:\n%s", t.map, t.in,
		  want_result, want, result, got);
}

#endif
