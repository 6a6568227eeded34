/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the shapes and dtypes of tensors that are the same in other layers and experts. */
#include "model/siblings_search.h"

#include <stdlib.h>
#include <string.h>

/* Members of a class that are unlike the others. */
struct odd {
	const struct sd_sibling_class *class;
	struct sd_sibling_variant is, right;
	bool shape, swapped, sure; /* sure: that no layer is of another design */
};

/* What is odd in all classes. */
struct odds {
	struct odd *at;
	size_t n, room;
	enum sd_config_layers design;
};

static bool same_shape(const struct sd_target *a, const struct sd_target *b)
{
	return sd_shape_equal(a->shape, a->rank, b->shape, b->rank);
}

/* Whether so many members as there are of right say what those of odd should be, at hosts to one. */
static bool weighs(const struct sd_sibling_variant *odd, const struct sd_sibling_variant *right, size_t hosts)
{
	return odd->spread ? sd_siblings_outweighs(right->n, odd->n) : right->n / hosts >= odd->n;
}

/* One layer, or few of many, has another shape or dtype, n is how many variants there are. */
static bool is_odd(const struct sd_siblings *s, struct odd *odd, size_t n)
{
	const struct sd_target *is = odd->is.first, *right = odd->right.first;

	odd->shape = !same_shape(is, right);
	odd->swapped = sd_shape_is_transposed(is->shape, is->rank, right->shape, right->rank);
	if (odd->swapped)
		return weighs(&odd->is, &odd->right, KNOWN_HOSTS) ||
		       (odd->right.n >= KNOWN_HOSTS && sd_siblings_outweighs(odd->right.n, odd->is.n));
	if (!odd->shape)
		return !odd->is.spread && !s->quantised && weighs(&odd->is, &odd->right, KNOWN_HOSTS);
	if (odd->sure)
		return weighs(&odd->is, &odd->right, KNOWN_HOSTS);
	return n == 2 && !odd->is.spread && weighs(&odd->is, &odd->right, SHAPE_HOSTS);
}

/* Compares the variants of a class, all of layers that may be alike. */
static void compare_variants(struct sd_siblings *s, struct odds *odds, const struct sd_sibling_class *class,
			     const struct sd_sibling_variant *variants, size_t n, bool sure)
{
	const struct sd_sibling_variant *right = variants;

	for (size_t v = 1; v < n; v++)
		if (variants[v].n > right->n)
			right = &variants[v];
	for (size_t v = 0; v < n && s->memory; v++) {
		struct odd odd = {.class = class, .is = variants[v], .right = *right, .sure = sure};

		if (&variants[v] == right || !is_odd(s, &odd, n))
			continue;
		s->memory = sd_array_grow(&odds->at, odds->n, &odds->room, sizeof(*odds->at));
		if (s->memory)
			odds->at[odds->n++] = odd;
	}
}

/* The variants of one type, into room for all; how many. */
static size_t pick_type(const struct sd_sibling_class *class, uint32_t type, struct sd_sibling_variant *picked)
{
	size_t n = 0;

	for (size_t v = 0; v < class->nvariants; v++)
		if (class->variants[v].type == type)
			picked[n++] = class->variants[v];
	return n;
}

/* The variants, those that differ in the type of layers alone as one; how many. */
static size_t join_types(const struct sd_sibling_class *class, struct sd_sibling_variant *joined)
{
	size_t n = 0;

	for (size_t v = 0; v < class->nvariants; v++) {
		const struct sd_sibling_variant *variant = &class->variants[v];
		size_t k = 0;

		while (k < n && !sd_siblings_same_data(joined[k].first, variant->first))
			k++;
		if (k == n) {
			joined[n++] = *variant;
			continue;
		}
		joined[k].n += variant->n;
		joined[k].spread = true;
	}
	return n;
}

/* Layers of one type are alike in all that config.json does not tell apart. */
static void compare_members(struct sd_siblings *s, struct odds *odds, const struct sd_sibling_class *class)
{
	struct sd_sibling_variant variants[VARIANTS_MAX];
	size_t n, before = odds->n;

	if (class->nvariants < 2 || class->nvariants > VARIANTS_MAX)
		return;
	for (size_t v = 0; v < class->nvariants && s->memory; v++) {
		bool seen = !class->variants[v].type;

		for (size_t k = 0; k < v; k++)
			seen = seen || class->variants[k].type == class->variants[v].type;
		n = seen ? 0 : pick_type(class, class->variants[v].type, variants);
		if (n > 1)
			compare_variants(s, odds, class, variants, n, odds->design != SD_CONFIG_LAYERS_DIFFER);
	}
	if (odds->n > before || !s->memory)
		return;
	n = join_types(class, variants);
	compare_variants(s, odds, class, variants, n, odds->design == SD_CONFIG_LAYERS_ALIKE && !s->ntypes);
}

static void tell(struct sd_siblings *s, const struct odd *odd)
{
	struct sd_finding *f =
		sd_siblings_add_finding(s, odd->shape ? SD_ODD_SHAPE : SD_ODD_DTYPE, odd->is.first->name);
	char is_text[SD_SHAPE_TEXT], right_text[SD_SHAPE_TEXT];
	const char *is, *others, *more = "";

	if (!f)
		return;
	f->is = odd->is.first;
	f->right = odd->right.first;
	f->tensors = odd->is.n;
	is = odd->shape ? sd_shape_brief(f->is->shape, f->is->rank, is_text, sizeof(is_text))
			: sd_dtype_name(f->is->dtype);
	others = odd->shape ? sd_shape_brief(f->right->shape, f->right->rank, right_text, sizeof(right_text))
			    : sd_dtype_name(f->right->dtype);
	if (odd->is.n > 1)
		more = sd_arena_printf(s->arena, ", with %zu more,", odd->is.n - 1);
	if (!s->memory || !more)
		return;
	f->line = sd_arena_printf(s->arena, "%s%s is %s, the other %zu of %s are %s%s", f->name, more, is, odd->right.n,
				  odd->class->pattern, others, odd->swapped ? ": transposed?" : "");
}

/* Whether a layer has other shapes in more than one class: it may be of another design then. */
static bool is_designed(const struct odds *odds, const struct odd *odd)
{
	for (size_t i = 0; i < odds->n; i++) {
		const struct odd *other = &odds->at[i];

		if (other != odd && other->shape && other->is.unit == odd->is.unit && other->class != odd->class)
			return true;
	}
	return false;
}

void sd_siblings_compare_shapes(struct sd_siblings *s)
{
	struct odds odds = {.design = sd_config_layers(s->m)};

	for (size_t i = 0; i < s->nclasses && s->memory; i++)
		compare_members(s, &odds, &s->classes[i]);
	for (size_t i = 0; i < odds.n && s->memory; i++) {
		const struct odd *odd = &odds.at[i];

		if (!odd->shape || odd->swapped || odd->sure || !is_designed(&odds, odd))
			tell(s, odd);
	}
	free(odds.at);
}
