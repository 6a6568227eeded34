/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the tensors of a manifest with their siblings in other layers and experts, and with config.json. */
#include "model/siblings_search.h"

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
		[SD_ODD_DTYPE] = "dtype",   [SD_ODD_REFUSED] = "refused",
	};

	return words[kind];
}

/* ---- shapes and dtypes ---- */

static bool is_swapped(const struct sd_target *a, const struct sd_target *b)
{
	return sd_shape_is_transposed(a->shape, a->rank, b->shape, b->rank);
}

/* One alone of many has another shape, and the others all have the same. */
static bool is_odd_shape(const struct sd_sibling_class *class, const struct sd_sibling_variant *odd,
			 const struct sd_sibling_variant *right)
{
	return odd->n == 1 && class->nvariants == 2 && right->n >= SHAPE_HOSTS &&
	       !sd_shape_equal(odd->first->shape, odd->first->rank, right->first->shape, right->first->rank);
}

static void tell_variant(struct sd_siblings *s, const struct sd_sibling_class *class,
			 const struct sd_sibling_variant *odd, const struct sd_sibling_variant *right)
{
	bool swapped = is_swapped(odd->first, right->first);
	bool shape = swapped || is_odd_shape(class, odd, right);
	struct sd_finding *f = sd_siblings_add_finding(s, shape ? SD_ODD_SHAPE : SD_ODD_DTYPE, odd->first->name);
	char odd_text[SD_SHAPE_TEXT], right_text[SD_SHAPE_TEXT];
	const char *is, *others, *more = "";

	if (!f)
		return;
	f->is = odd->first;
	f->right = right->first;
	f->tensors = odd->n;
	is = shape ? sd_shape_brief(f->is->shape, f->is->rank, odd_text, sizeof(odd_text))
		   : sd_dtype_name(f->is->dtype);
	others = shape ? sd_shape_brief(f->right->shape, f->right->rank, right_text, sizeof(right_text))
		       : sd_dtype_name(f->right->dtype);
	if (odd->n > 1)
		more = sd_arena_printf(s->arena, ", with %zu more,", odd->n - 1);
	if (!s->memory || !more)
		return;
	f->line = sd_arena_printf(s->arena, "%s%s is %s, the other %zu of %s are %s%s", f->name, more, is, right->n,
				  class->pattern, others, swapped ? ": transposed?" : "");
}

/* Of one class nearly all are alike: what is swapped, or of another dtype, is odd. */
static void compare_members(struct sd_siblings *s, const struct sd_sibling_class *class)
{
	const struct sd_sibling_variant *right = &class->variants[0];

	if (class->nvariants < 2 || class->nvariants > VARIANTS_MAX)
		return;
	for (size_t v = 1; v < class->nvariants; v++)
		if (class->variants[v].n > right->n)
			right = &class->variants[v];
	for (size_t v = 0; v < class->nvariants && s->memory; v++) {
		const struct sd_sibling_variant *odd = &class->variants[v];

		if (odd == right || !sd_siblings_outweighs(right->n, odd->n) || right->n < 3)
			continue;
		if (is_swapped(odd->first, right->first) || is_odd_shape(class, odd, right) ||
		    (odd->n == 1 && odd->first->dtype != right->first->dtype && !s->quantised))
			tell_variant(s, class, odd, right);
	}
}

/* ---- all of it ---- */

static int compare_findings(const void *a, const void *b)
{
	const struct sd_finding *x = a, *y = b;

	return x->kind != y->kind ? (x->kind > y->kind) - (x->kind < y->kind) : sd_text_natural(x->name, y->name);
}

static void run(struct sd_siblings *s)
{
	const struct sd_side_file *config = sd_manifest_side(s->m, "config.json");
	struct sd_sibling_stack *layers;

	s->memory = sd_names_reserve(&s->names, s->m->ntargets);
	for (size_t i = 0; i < s->m->ntargets && s->memory; i++)
		sd_siblings_read_name(s, &s->m->targets[i]);
	if (s->memory)
		sd_siblings_compare_beginnings(s);
	for (size_t i = 0; i < s->m->ntargets && s->memory; i++)
		if (sd_names_find(&s->names, s->m->targets[i].name) == i)
			sd_siblings_read_target(s, &s->m->targets[i]);
	if (s->memory && s->nzeros)
		sd_siblings_tell_zeros(s);
	if (s->memory)
		sd_siblings_sort_parts(s);
	if (s->memory)
		sd_siblings_sort_units(s);
	if (config && s->memory)
		sd_config_find(config, "layer_types", sd_siblings_take_type, s);
	if (config && s->memory && !s->ntypes)
		sd_config_find(config, "text_config.layer_types", sd_siblings_take_type, s);
	layers = s->memory ? sd_siblings_main_stack(s) : NULL;
	if (layers)
		sd_siblings_give_types(s, layers);
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
	for (size_t i = 0; i < s->nclasses && s->memory; i++)
		compare_members(s, &s->classes[i]);
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
	struct sd_findings findings;
	enum sd_result result = sd_siblings_check(m, &arena, &findings, err);

	/* By kind, it stands first. */
	if (result == SD_OK && findings.n && findings.at[0].kind == SD_ODD_PREFIX)
		result = sd_fail(err, SD_INPUT, "%s", findings.at[0].line);
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
