/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the tensors of a manifest with their siblings in other layers and experts, and with config.json. */
#include "model/siblings_search.h"
#include "base/json.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sd_oddity_word(enum sd_oddity kind)
{
	static const char *const words[] = {
		[SD_ODD_PREFIX] = "prefix", [SD_ODD_GAP] = "gap",         [SD_ODD_COUNT] = "count",
		[SD_ODD_TYPO] = "typo",     [SD_ODD_MISSING] = "missing", [SD_ODD_SHAPE] = "shape",
		[SD_ODD_DTYPE] = "dtype",   [SD_ODD_CONFIG] = "config",   [SD_ODD_REFUSED] = "refused",
	};

	return words[kind];
}

static int compare_findings(const void *a, const void *b)
{
	const struct sd_finding *x = a, *y = b;

	return x->kind != y->kind ? (x->kind > y->kind) - (x->kind < y->kind) : sd_text_natural(x->name, y->name);
}

/* The types of the language model's layers. */
static void read_types(struct sd_siblings *s)
{
	const struct sd_side_file *config = sd_manifest_side(s->m, "config.json");

	s->layers = sd_stack_main(s->m, &s->layers_length);
	if (config)
		sd_config_find(config, "layer_types", sd_siblings_take_type, s);
	if (config && s->memory && !s->ntypes)
		sd_config_find(config, "text_config.layer_types", sd_siblings_take_type, s);
}

/* What config.json says is compared with nothing if it is no JSON. */
static void check_config(struct sd_siblings *s)
{
	const struct sd_side_file *file = sd_manifest_side(s->m, "config.json");
	enum sd_result result;
	struct sd_error err;
	struct sd_finding *f;

	if (!file)
		return;
	result = sd_json_parse(file->data, file->size, NULL, NULL, &err);
	s->memory = s->memory && result != SD_IO;
	if (result != SD_INPUT)
		return;
	f = sd_siblings_add_finding(s, SD_ODD_CONFIG, file->name);
	if (f)
		f->line = sd_arena_printf(s->arena, "%s: %s; nothing is compared with it", file->name, err.text);
}

static void run(struct sd_siblings *s)
{
	struct sd_sibling_stack *layers;

	s->memory = sd_names_reserve(&s->names, s->m->ntargets);
	for (size_t i = 0; i < s->m->ntargets && s->memory; i++)
		sd_siblings_read_name(s, &s->m->targets[i]);
	/* One that is left over makes no adapter of a checkpoint. */
	s->adapter = s->lora && 2 * s->lora >= s->m->ntargets;
	if (s->memory)
		sd_siblings_compare_beginnings(s);
	if (s->memory)
		read_types(s);
	for (size_t i = 0; i < s->m->ntargets && s->memory; i++)
		if (sd_names_find(&s->names, s->m->targets[i].name) == i)
			sd_siblings_read_target(s, &s->m->targets[i]);
	if (s->memory && s->nzeros)
		sd_siblings_tell_zeros(s);
	if (s->memory)
		sd_siblings_sort_parts(s);
	if (s->memory)
		sd_siblings_sort_units(s);
	layers = s->memory ? sd_siblings_main_stack(s) : NULL;
	if (s->memory)
		sd_siblings_find_wrapper(s);
	/* Behind a wrapper's word names would seem to be missing that are there. */
	if (s->findings->n && s->findings->at[s->findings->n - 1].kind == SD_ODD_PREFIX)
		return;
	if (s->memory && !s->adapter) {
		sd_siblings_find_all_gaps(s, layers);
		sd_ends_missing(s->m, sd_siblings_tell_end, s);
	}
	for (size_t i = 0; i < s->nstacks && s->memory; i++)
		sd_siblings_compare_units(s, &s->stacks[i]);
	if (s->memory)
		sd_siblings_compare_shapes(s);
	if (s->memory)
		sd_siblings_find_extras(s);
	if (s->memory && !s->adapter)
		sd_siblings_compare_sizes(s);
	if (s->memory && s->adapter)
		sd_siblings_compare_adapters(s);
	if (s->memory && s->adapter)
		sd_siblings_compare_targets(s);
	if (s->memory && s->adapter)
		sd_siblings_tell_live(s);
	if (s->memory)
		check_config(s);
}

static void free_search(struct sd_siblings *s)
{
	struct sd_names *tables[] = {&s->module_names, &s->names,      &s->prefixes,    &s->patterns,
				     &s->unit_names,   &s->part_names, &s->class_names, &s->type_names};

	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
		sd_names_free(tables[i]);
	free(s->stacks);
	free(s->units);
	free(s->parts);
	free(s->entries);
	free(s->order);
	free(s->classes);
	free(s->types);
}

enum sd_result sd_siblings_check(const struct sd_manifest *m, struct sd_arena *arena, struct sd_findings *findings,
				 struct sd_error *err)
{
	struct sd_siblings s = {.m = m, .arena = arena, .findings = findings, .err = err, .memory = true};

	*findings = (struct sd_findings){.n = 0};
	run(&s);
	for (size_t i = 0; i < findings->n; i++)
		s.memory = s.memory && findings->at[i].line;
	free_search(&s);
	if (!s.memory)
		return sd_fail_memory(err);
	if (findings->n)
		qsort(findings->at, findings->n, sizeof(*findings->at), compare_findings);
	return SD_OK;
}

enum sd_result sd_siblings_wrapper(const struct sd_manifest *m, struct sd_error *err)
{
	struct sd_arena arena = {0};
	struct sd_findings findings = {.n = 0};
	struct sd_siblings s = {.m = m, .arena = &arena, .findings = &findings, .err = err, .memory = true};
	enum sd_result result = SD_OK;

	sd_siblings_find_wrapper(&s);
	if (!s.memory)
		result = sd_fail_memory(err);
	if (result == SD_OK && findings.n) {
		qsort(findings.at, findings.n, sizeof(*findings.at), compare_findings);
		result = sd_fail(err, SD_INPUT, "%s", findings.at[0].line);
	}
	sd_findings_free(&findings);
	sd_arena_free(&arena);
	return result;
}

void sd_findings_free(struct sd_findings *findings)
{
	free(findings->at);
	*findings = (struct sd_findings){.n = 0};
}

enum sd_result sd_findings_tell(const struct sd_findings *findings, struct sd_arena *arena,
				enum sd_result (*tell)(void *user, const char *line), void *user, struct sd_error *err)
{
	enum sd_result result = SD_OK;
	const char *more;

	for (size_t i = 0; i < findings->n && i < TOLD_MAX && result == SD_OK; i++)
		result = tell(user, findings->at[i].line);
	if (result != SD_OK || findings->n <= TOLD_MAX)
		return result;
	more = sd_arena_printf(arena, "%zu more names are odd among their siblings: sd-ls --check lists them",
			       findings->n - TOLD_MAX);
	return more ? tell(user, more) : sd_fail_memory(err);
}
