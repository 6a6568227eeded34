/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the two matrices of each LoRA module, and their rank with adapter_config.json. */
#include "model/siblings_search.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ADAPTER_SLIPS 2 /* letters that may be wrong in the name of a matrix */

/* Where a name has the A or B of its matrix: "lora_A.weight", "lora_embedding_B", "lora_down_A"; NULL: nowhere. */
static const char *find_letter(const char *name)
{
	const char *part = strstr(name, "lora_"), *end;

	if (!part)
		return NULL;
	end = part + strcspn(part, ".");
	return end[-2] == '_' && (end[-1] == 'A' || end[-1] == 'B') ? end - 1 : NULL;
}

/* The dimension of a matrix that is the rank. Those of all experts are [E in r] and [E r out]. */
static uint32_t find_rank(const struct sd_target *t, char letter)
{
	if (t->rank == 3)
		return letter == 'A' ? 2 : 1;
	return letter == 'A' ? 0 : 1;
}

/* The rank that adapter_config.json says for all modules; 0: none. */
static uint64_t read_rank(const struct sd_siblings *s)
{
	const struct sd_side_file *config = sd_manifest_side(s->m, "adapter_config.json");
	char text[24], type[16];
	uint64_t rank;

	sd_config_text(config, "r", text, sizeof(text));
	sd_config_text(config, "peft_type", type, sizeof(type));
	if (sd_config_layers(s->m) == SD_CONFIG_LAYERS_DIFFER || strcmp(type, "LORA") != 0)
		return 0;
	return sd_text_number(text, &rank) ? rank : 0;
}

/* What is the matter with modules: the first one, and how many. */
struct fault {
	const struct sd_target *first, *other;
	const char *name; /* of the other one */
	size_t n;
};

static void note(struct fault *f, const struct sd_target *t, const struct sd_target *other, const char *name)
{
	if (!f->n++)
		*f = (struct fault){t, other, name, 1};
}

static void tell(struct sd_siblings *s, const struct fault *f, enum sd_oddity kind, const char *name, const char *text)
{
	struct sd_finding *finding = f->n && text ? sd_siblings_add_finding(s, kind, name) : NULL;

	s->memory = s->memory && (!f->n || text);
	if (!finding)
		return;
	finding->is = kind == SD_ODD_SHAPE ? f->first : NULL;
	finding->tensors = f->n;
	finding->line = f->n > 1 ? sd_arena_printf(s->arena, "%s; and so it is with %zu more", text, f->n - 1) : text;
}

/* A name that is no matrix of an adapter and nearly the one that is missing; NULL: there is none. */
static const struct sd_target *find_near(const struct sd_siblings *s, const char *missing)
{
	for (size_t i = 0; i < s->m->ntargets; i++) {
		const struct sd_target *t = &s->m->targets[i];

		if (!find_letter(t->name) && sd_text_distance(t->name, missing, ADAPTER_SLIPS) <= ADAPTER_SLIPS)
			return t;
	}
	return NULL;
}

/* Whether it is told already that a name is misspelt. */
static bool is_told(const struct sd_siblings *s, const char *name)
{
	for (size_t i = 0; i < s->findings->n; i++)
		if (s->findings->at[i].kind == SD_ODD_TYPO && strcmp(s->findings->at[i].name, name) == 0)
			return true;
	return false;
}

/* A matrix is there without the other one of its module: that may be misspelt. */
static void tell_alone(struct sd_siblings *s, const struct fault *alone)
{
	const struct sd_target *near = find_near(s, alone->name);
	struct sd_finding *f;

	if (!near) {
		tell(s, alone, SD_ODD_MISSING, alone->name,
		     sd_arena_printf(s->arena, "%s is not there, and %s is", alone->name, alone->first->name));
		return;
	}
	f = is_told(s, near->name) ? NULL : sd_siblings_add_finding(s, SD_ODD_TYPO, near->name);
	if (!f)
		return;
	f->near = alone->name;
	f->is = near;
	f->tensors = alone->n;
	f->line = sd_arena_printf(s->arena, "%s: %s? that is not there, and %s is", near->name,
				  strstr(alone->name, "lora_"), alone->first->name);
}

/* Whether a piece of a name is the same in another one but for its numbers. */
static bool same_module(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t x = 0, y = 0;

	while (x < a_length && y < b_length) {
		size_t digits = strspn(a + x, "0123456789"), others = strspn(b + y, "0123456789");

		if (digits && others) {
			x += digits;
			y += others;
		} else if (a[x++] != b[y++]) {
			return false;
		}
	}
	return x == a_length && y == b_length;
}

/* Whether anything is inside a module but its own matrices: the inner ones, perhaps misspelt. */
static bool has_inner(const struct sd_siblings *s, const char *name, size_t length)
{
	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *other = s->m->targets[i].name;

		if (strncmp(other, name, length) == 0 && other[length] == '.' &&
		    strncmp(other + length, ".lora_", 6) != 0)
			return true;
	}
	return false;
}

/*
 * PEFT wraps a module once for each of its parameters that is trained: all layers' modules are wrapped as often as the
 * first one that is wrapped twice.
 */
static void compare_wrapped(struct sd_siblings *s)
{
	static const char inner[] = ".base_layer", lora[] = ".lora_";
	const char *first = NULL, *end = NULL;
	struct fault alone = {.n = 0};

	for (size_t i = 0; i < s->m->ntargets && !end; i++) {
		first = s->m->targets[i].name;
		end = strstr(first, ".base_layer.lora_");
	}
	for (size_t i = 0; end && i < s->m->ntargets && s->memory; i++) {
		const struct sd_target *t = &s->m->targets[i];
		const char *at = strstr(t->name, lora), *name;

		if (!at || !find_letter(t->name) ||
		    !same_module(t->name, (size_t)(at - t->name), first, (size_t)(end - first)))
			continue;
		name = sd_arena_printf(s->arena, "%.*s%s%s", (int)(at - t->name), t->name, inner, at);
		s->memory = name != NULL;
		if (name && !sd_siblings_find_target(s, name) && !has_inner(s, t->name, (size_t)(at - t->name)))
			note(&alone, t, NULL, name);
	}
	if (alone.n && s->memory)
		tell(s, &alone, SD_ODD_MISSING, alone.name,
		     sd_arena_printf(s->arena, "%s is not there, and %s is: other layers have both", alone.name,
				     alone.first->name));
}

/* A few tensors alone may be whatever they like: that each has both matrices is asked of what has adapter_config.json.
 */
void sd_siblings_compare_adapters(struct sd_siblings *s)
{
	struct fault alone = {.n = 0}, differ = {.n = 0}, other_rank = {.n = 0};
	uint64_t rank = read_rank(s);
	char shape[SD_SHAPE_TEXT], other[SD_SHAPE_TEXT];

	for (size_t i = 0; i < s->m->ntargets && s->memory; i++) {
		const struct sd_target *t = &s->m->targets[i], *partner;
		const char *letter = find_letter(t->name);
		char *name = letter ? sd_arena_text(s->arena, t->name, strlen(t->name)) : NULL;
		uint64_t is;

		s->memory = !letter || name;
		if (!name || t->rank < 2)
			continue;
		name[letter - t->name] = *letter == 'A' ? 'B' : 'A';
		partner = sd_siblings_find_target(s, name);
		is = t->shape[find_rank(t, *letter)];
		if (!partner && sd_manifest_side(s->m, "adapter_config.json"))
			note(&alone, t, NULL, name);
		if (!partner || *letter == 'B')
			continue;
		if (partner->rank == t->rank && is != partner->shape[find_rank(partner, 'B')])
			note(&differ, t, partner, name);
		else if (rank && (strstr(name, "experts") ? is % rank != 0 : is != rank))
			note(&other_rank, t, NULL, name);
	}
	if (alone.n && s->memory)
		tell_alone(s, &alone);
	if (s->memory)
		compare_wrapped(s);
	if (differ.n && s->memory)
		tell(s, &differ, SD_ODD_SHAPE, differ.first->name,
		     sd_arena_printf(s->arena, "%s is %s, and %s is %s: their ranks differ", differ.first->name,
				     sd_shape_brief(differ.first->shape, differ.first->rank, shape, sizeof(shape)),
				     differ.name,
				     sd_shape_brief(differ.other->shape, differ.other->rank, other, sizeof(other))));
	if (other_rank.n && s->memory)
		tell(s, &other_rank, SD_ODD_SHAPE, other_rank.first->name,
		     sd_arena_printf(
			     s->arena, "%s is %s, and adapter_config.json says r %" PRIu64, other_rank.first->name,
			     sd_shape_brief(other_rank.first->shape, other_rank.first->rank, shape, sizeof(shape)),
			     rank));
}
