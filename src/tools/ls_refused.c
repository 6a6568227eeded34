/* SPDX-License-Identifier: Apache-2.0 */
/* sd-ls --check: what sd-rename would refuse, by the map of the checkpoint's family, and sd-cat. */
#include "base/names.h"
#include "renaming/rename.h"
#include "model/siblings.h"
#include "tools/ls.h"
#include "tools/maps.h"

#include <stdlib.h>
#include <string.h>

static enum sd_result add(struct sd_findings *findings, struct sd_arena *arena, struct sd_finding f,
			  struct sd_error *err)
{
	if (!f.name || !f.line || arena->failed ||
	    !sd_array_grow(&findings->at, findings->n, &findings->room, sizeof(*findings->at)))
		return sd_fail_memory(err);
	findings->at[findings->n++] = f;
	return SD_OK;
}

/* What a source has and sd-cat does not take, such as a key that the index does not name. */
static enum sd_result look_at_records(const struct sd_manifest *m, struct sd_arena *arena, struct sd_findings *findings,
				      struct sd_error *err)
{
	const struct sd_record *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < m->nrecords; i++)
		if (m->records[i].lack && m->records[i].state != SD_MISSING) {
			first = first ? first : &m->records[i];
			n++;
		}
	return n ? add(findings, arena,
		       (struct sd_finding){
			       .kind = SD_ODD_REFUSED, .name = first->key, .line = first->lack, .tensors = n},
		       err)
		 : SD_OK;
}

/* Nothing is odd where a line asks for an option, or where a format of quantised weights has no way through the map. */
static bool is_choice(const char *line)
{
	static const char *const words[] = {"-D ", " is stored with ", "no key tells whether"};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strstr(line, words[i]))
			return true;
	return false;
}

/* Whether a line names what a finding does, as far as that has no * for a number. */
static bool has_name(const char *line, const char *name)
{
	size_t length = strcspn(name, "*");

	while ((line = strchr(line, *name)) && strncmp(line, name, length) != 0)
		line++;
	return line != NULL;
}

/* Whether a finding tells of it already: it names the same. */
static bool is_told(const struct sd_findings *findings, const char *line)
{
	for (size_t i = 0; i < findings->n; i++) {
		const struct sd_finding *f = &findings->at[i];

		if (f->kind == SD_ODD_PREFIX || has_name(line, f->name) || strcmp(line, f->line) == 0)
			return true;
	}
	return false;
}

/* The first word of a line that is a name of the manifest; NULL: there is none. */
static const char *find_name(const struct sd_manifest *m, struct sd_names *names, char *line)
{
	char *rest = NULL;

	for (size_t i = 0; i < m->ntargets; i++)
		if (sd_names_add(names, m->targets[i].name, (uint32_t)i) == SD_NO_NAME)
			return NULL;
	for (char *word = strtok_r(line, " ,;", &rest); word; word = strtok_r(NULL, " ,;", &rest)) {
		size_t length = strlen(word);
		uint32_t number;

		if (length && word[length - 1] == ':')
			word[length - 1] = '\0';
		number = sd_names_find(names, word);
		if (number != SD_NO_NAME)
			return m->targets[number].name;
	}
	return NULL;
}

static enum sd_result add_refusal(const struct sd_manifest *m, const struct sd_map *map, const struct sd_rename *rename,
				  const char *line, struct sd_arena *arena, struct sd_findings *findings,
				  struct sd_error *err)
{
	struct sd_finding f = {.kind = SD_ODD_REFUSED, .line = sd_arena_text(arena, line, strlen(line))};
	char *words = sd_arena_text(arena, line, strlen(line));
	struct sd_names names = {0};

	f.name = words ? find_name(m, &names, words) : NULL;
	sd_names_free(&names);
	if (!f.name)
		f.name = sd_arena_text(arena, sd_map_name(map), strlen(sd_map_name(map)));
	if (*rename->advised)
		f.edit = sd_arena_text(arena, rename->advised, strlen(rename->advised));
	return add(findings, arena, f, err);
}

/* By keys alone a map is a guess: it counts where each name that it does not know has a word that is nearly another. */
static bool is_misspelt(const char *line)
{
	const char *names = strstr(line, " in no layout of map "), *end;

	for (names = names ? strstr(names, ": ") : NULL; names; names = *end ? end : NULL) {
		names += 2;
		end = names + strcspn(names, ",");
		if (end - names < 2 || strncmp(end - 2, "?)", 2) != 0)
			return false;
		if (!*end)
			return true;
	}
	return false;
}

enum sd_result ls_refused(const struct sd_manifest *m, struct sd_arena *arena, struct sd_findings *findings,
			  struct sd_error *err)
{
	struct sd_rename rename = {.to = -1, .strict = true, .compared = true};
	bool guess = !sd_manifest_side(m, "config.json");
	struct sd_plan plan = {0};
	struct sd_map *map = NULL;
	struct sd_error own;
	enum sd_result result = look_at_records(m, arena, findings, err), planned;

	if (result != SD_OK || !m->ntargets ||
	    (guess ? sd_maps_nearest(m, &map, &own) : sd_maps_find(m, NULL, &map, &own)) != SD_OK || !map)
		return result;
	rename.map = map;
	planned = sd_rename_plan(&rename, m, &plan, &own);
	if (planned == SD_INPUT && (guess ? is_misspelt(own.text) : !is_choice(own.text)) &&
	    !is_told(findings, own.text))
		result = add_refusal(m, map, &rename, own.text, arena, findings, err);
	else if (planned == SD_IO)
		result = sd_fail_memory(err);
	sd_plan_free(&plan);
	sd_map_free(map);
	return result;
}
