/* SPDX-License-Identifier: Apache-2.0 */
/* Finds what one layer has and no other: a bias. */
#include "model/siblings_search.h"

#include <stdio.h>
#include <string.h>

#define BIAS ".bias"
#define WEIGHT ".weight"

/* The class of a name with another end; NULL: there is none. */
static const struct sd_sibling_class *find_class(const struct sd_siblings *s, const char *name, size_t length,
						 const char *end)
{
	char other[NAME_MAX_LENGTH + 1], pattern[NAME_MAX_LENGTH + 1];
	struct sd_sibling_name p;
	uint32_t number;

	if ((size_t)snprintf(other, sizeof(other), "%.*s%s", (int)length, name, end) >= sizeof(other) ||
	    !sd_siblings_parse(other, &p) || !p.n)
		return NULL;
	sd_siblings_write_pattern(&p, 0, p.length, pattern);
	number = sd_names_find(&s->class_names, pattern);
	return number == SD_NO_NAME ? NULL : &s->classes[number];
}

static void tell_bias(struct sd_siblings *s, const struct sd_target *t, const struct sd_sibling_class *weights)
{
	struct sd_finding *f = sd_siblings_add_finding(s, SD_ODD_COUNT, t->name);

	if (!f)
		return;
	f->is = t;
	f->tensors = 1;
	f->line = sd_arena_printf(s->arena, "%s is there, and the other %zu of %s have no bias", t->name,
				  weights->n - 1, weights->pattern);
}

void sd_siblings_find_extras(struct sd_siblings *s)
{
	for (size_t i = 0; i < s->m->ntargets && s->memory; i++) {
		const struct sd_target *t = &s->m->targets[i];
		size_t length = strlen(t->name), end = strlen(BIAS);
		const struct sd_sibling_class *biases, *weights;

		if (length <= end || strcmp(t->name + length - end, BIAS) != 0)
			continue;
		biases = find_class(s, t->name, length - end, BIAS);
		weights = find_class(s, t->name, length - end, WEIGHT);
		if (biases && biases->n == 1 && weights && weights->n > SHAPE_HOSTS)
			tell_bias(s, t, weights);
	}
}
