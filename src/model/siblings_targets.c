/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the modules of a LoRA adapter with those that its adapter_config.json names, and the names of its matrices
 * with those of PEFT. */
#include "model/siblings_search.h"
#include "base/advice.h"

#include <stdio.h>
#include <string.h>

#define TARGETS_MAX 64
#define REGEX "*+?()[]{}|\\^$"

/* What adapter_config.json names: "q_proj", "self_attn.q_proj"; of parameters the module that has them. */
struct targets {
	struct sd_siblings *s;
	const char *name[TARGETS_MAX];
	bool parameter[TARGETS_MAX], found[TARGETS_MAX];
	size_t n;
	bool parameters; /* what is read are target_parameters */
	bool regex;      /* one is no name: nothing is compared */
};

static void take_target(void *user, const char *value)
{
	struct targets *t = user;
	const char *end = t->parameters ? strrchr(value, '.') : NULL;

	t->regex = t->regex || value[strcspn(value, REGEX)] || strcmp(value, "all-linear") == 0 || t->n == TARGETS_MAX;
	if (t->regex || (t->parameters && !end))
		return;
	t->parameter[t->n] = t->parameters;
	t->name[t->n] = sd_arena_text(t->s->arena, value, end ? (size_t)(end - value) : strlen(value));
	t->s->memory = t->s->memory && t->name[t->n];
	t->n += t->s->memory;
}

/* The length of the module's name in front of a matrix of PEFT's, as "lora_A"; 0: it is none of these. */
static size_t module_length(const char *name)
{
	const char *lora = strstr(name, ".lora_");
	const char *base = strstr(name, ".base_layer.");

	if (!lora || (strncmp(lora, ".lora_A.", 8) != 0 && strncmp(lora, ".lora_B.", 8) != 0))
		return 0;
	return (size_t)((base && base < lora ? base : lora) - name);
}

/* Marks the targets that are for a module; false: none is. */
static bool mark(struct targets *t, const char *name, size_t length)
{
	bool any = false;

	for (size_t i = 0; i < t->n; i++) {
		size_t own = strlen(t->name[i]);
		bool yes = own < length && name[length - own - 1] == '.' &&
			   strncmp(name + length - own, t->name[i], own) == 0;

		t->found[i] = t->found[i] || yes;
		any = any || yes;
	}
	return any;
}

/* Whether two words differ by more than other letters: q_proj is no slip of v_proj, and q_porj is one of q_proj. */
static bool is_slip(const char *a, const char *b)
{
	size_t length = strlen(a), same = 0;
	bool used[64] = {false};

	if (sd_text_distance(a, b, SLIPS - 1) >= SLIPS)
		return false;
	if (length != strlen(b) || length >= sizeof(used))
		return true;
	for (size_t i = 0; i < length; i++)
		for (size_t k = 0; k < length; k++)
			if (!used[k] && a[i] == b[k]) {
				used[k] = true;
				same++;
				break;
			}
	return same == length;
}

/* A target that no key is of, and that a word is nearly; NULL: there is none. */
static const char *find_near(const struct targets *t, const char *word)
{
	for (size_t i = 0; i < t->n; i++)
		if (!t->found[i] && is_slip(t->name[i], word))
			return t->name[i];
	return NULL;
}

/* PEFT makes no module for it, and so takes no notice of its matrices. */
static void tell_unnamed(struct targets *t, const struct sd_target *first, size_t n)
{
	struct sd_arena *arena = t->s->arena;
	size_t length = module_length(first->name), begin = length;
	const char *word, *near;
	struct sd_finding *f;
	char more[40] = "";

	while (begin && first->name[begin - 1] != '.')
		begin--;
	word = sd_arena_text(arena, first->name + begin, length - begin);
	near = word ? find_near(t, word) : NULL;
	f = sd_siblings_add_finding(t->s, near ? SD_ODD_TYPO : SD_ODD_REFUSED, first->name);
	if (!f || !word)
		return;
	f->tensors = n;
	if (n > 1)
		snprintf(more, sizeof(more), ", with %zu more", n - 1);
	if (near)
		f->near = sd_arena_printf(arena, "%.*s%s%s", (int)begin, first->name, near, first->name + length);
	f->line = near ? sd_arena_printf(arena, "%s%s: %s? adapter_config.json has that among its target_modules",
					 first->name, more, near)
		       : sd_arena_printf(arena,
					 "%s%s: target_modules of adapter_config.json has no %s, and PEFT leaves out "
					 "what it does not name: put it there",
					 first->name, more, word);
}

static void tell_unused(struct targets *t, size_t i)
{
	struct sd_finding *f = sd_siblings_add_finding(t->s, SD_ODD_MISSING, t->name[i]);

	if (f)
		f->line = sd_arena_printf(t->s->arena,
					  "%s of adapter_config.json has %s, and no key is of it: take it out, or add "
					  "its lora_A and lora_B",
					  t->parameter[i] ? "target_parameters" : "target_modules", t->name[i]);
}

void sd_siblings_compare_targets(struct sd_siblings *s)
{
	const struct sd_side_file *config = sd_manifest_side(s->m, "adapter_config.json");
	struct targets t = {.s = s};
	const struct sd_target *first = NULL;
	size_t n = 0, named = 0;

	if (!config)
		return;
	sd_config_find(config, "target_modules", take_target, &t);
	t.parameters = true;
	sd_config_find(config, "target_parameters", take_target, &t);
	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *name = s->m->targets[i].name;
		size_t length = module_length(name);

		/* Other forms have other names, which do not tell the modules. */
		if (strstr(name, "lora_") && !length)
			return;
		named += length > 0;
		if (length && !mark(&t, name, length) && !n++)
			first = &s->m->targets[i];
	}
	if (t.regex || !t.n || !named)
		return;
	/* What is not named may be what is misspelt of those that are. */
	if (n)
		tell_unnamed(&t, first, n);
	for (size_t i = 0; i < t.n && s->memory && !n; i++)
		if (!t.found[i])
			tell_unused(&t, i);
}

void sd_siblings_tell_live(struct sd_siblings *s)
{
	const struct sd_target *first = NULL;
	const char *part = NULL;
	struct sd_finding *f;
	size_t n = 0, length = 0;

	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *name = s->m->targets[i].name, *lora = strstr(name, ".lora_"), *word, *end;

		word = lora && module_length(name) ? lora + strlen(".lora_A") : NULL;
		end = word ? strchr(word + 1, '.') : NULL;
		if (!end || strcmp(end, ".weight") != 0 || (n && strncmp(word, part, length) != 0))
			continue;
		if (!n++) {
			first = &s->m->targets[i];
			part = word;
			length = (size_t)(end + 1 - word);
		}
	}
	f = n ? sd_siblings_add_finding(s, SD_ODD_REFUSED, first->name) : NULL;
	if (!f)
		return;
	f->tensors = n;
	f->edit = sd_advice_edit(s->arena, SD_ADVICE_PIECE, part, length, ".");
	f->line = f->edit ? sd_arena_printf(s->arena,
					    "%zu names have %.*s, which PEFT puts in while an adapter is trained, and "
					    "does not find in files, such as %s: put sd-rename -e '%s' before this",
					    n, (int)length, part, first->name, f->edit)
			  : NULL;
}
