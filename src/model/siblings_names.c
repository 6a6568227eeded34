/* SPDX-License-Identifier: Apache-2.0 */
/* Compares what stands in front of layers, and single names. */
#include "base/advice.h"
#include "model/siblings_search.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- wrappers ---- */

const char *const sd_wrapper_words[] = {
	"module.", "_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.", "_checkpoint_wrapped_module.", NULL};

static bool has_wrapper(const char *name, const char *word)
{
	size_t length = strlen(word);
	const char *at;

	if (strncmp(name, word, length) == 0)
		return true;
	/* "module." alone is a name of modules too: where it is a wrapper's, it stands in front. */
	at = *word == '_' ? strstr(name, "._") : NULL;
	for (; at; at = strstr(at + 1, "._"))
		if (strncmp(at + 1, word, length) == 0)
			return true;
	return false;
}

/* How many names have a wrapper's word, and the first one. */
struct wrapped {
	size_t n;
	const char *first;
};

/* "module." is a wrapper's in front alone, and there may be several; the others' words are nowhere else. */
static const char *write_unwrapping(struct sd_siblings *s, const char *word)
{
	const char *regex = sd_advice_regex(s->arena, word, strlen(word));

	if (!regex)
		return NULL;
	return sd_arena_printf(s->arena, *word == '_' ? "s/%s//g" : "s/^(%s)+//", regex);
}

static void tell_wrapper(struct sd_siblings *s, const char *word, const struct wrapped *wrapped)
{
	size_t length = strlen(word);
	struct sd_finding *f = sd_siblings_add_finding(s, SD_ODD_PREFIX, sd_arena_text(s->arena, word, length));

	if (!f)
		return;
	f->tensors = wrapped->n;
	f->edit = write_unwrapping(s, word);
	s->memory = s->memory && f->edit;
	f->line = f->edit ? sd_arena_printf(s->arena,
					    "%zu of %zu names have the %s of a wrapper, such as %s: put sd-rename -e "
					    "'%s' before this",
					    wrapped->n, s->m->ntargets, word, wrapped->first, f->edit)
			  : NULL;
}

void sd_siblings_find_wrapper(struct sd_siblings *s)
{
	struct wrapped wrapped[sizeof(sd_wrapper_words) / sizeof(*sd_wrapper_words)] = {0};

	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *name = s->m->targets[i].name;

		if (*name != '_' && strncmp(name, sd_wrapper_words[0], strlen(sd_wrapper_words[0])) != 0 &&
		    !strstr(name, "._"))
			continue;
		for (size_t w = 0; sd_wrapper_words[w]; w++)
			if (has_wrapper(name, sd_wrapper_words[w]))
				wrapped[w].first = wrapped[w].n++ ? wrapped[w].first : name;
	}
	for (size_t w = 0; sd_wrapper_words[w] && s->memory; w++)
		if (wrapped[w].n)
			tell_wrapper(s, sd_wrapper_words[w], &wrapped[w]);
}

/* ---- beginnings ---- */

/* Whether two beginnings differ in one word, and in that by a slip. */
static bool is_slip(const struct sd_stack *a, const struct sd_stack *b)
{
	size_t begin = 0, x = a->length, y = b->length;
	char is[64], meant[64];

	while (begin < x && begin < y && a->name[begin] == b->name[begin])
		begin++;
	while (x > begin && y > begin && a->name[x - 1] == b->name[y - 1]) {
		x--;
		y--;
	}
	while (begin && a->name[begin - 1] != '.')
		begin--;
	while (x < a->length && a->name[x] != '.') {
		x++;
		y++;
	}
	snprintf(is, sizeof(is), "%.*s", (int)(x - begin), a->name + begin);
	snprintf(meant, sizeof(meant), "%.*s", (int)(y - begin), b->name + begin);
	return !strchr(is, '.') && !strchr(meant, '.') && strlen(is) + 1 < sizeof(is) &&
	       sd_text_distance(is, meant, SLIPS) <= (strlen(meant) + 1) / 3;
}

/* How many names of one stack the other one sd_siblings_has, too. */
static size_t count_shared(const struct sd_siblings *s, const struct sd_stack *a, const struct sd_stack *b)
{
	char room[NAME_MAX_LENGTH + 1];
	size_t n = 0;

	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *name = s->m->targets[i].name;

		if (sd_siblings_is_in(name, a)) {
			name = sd_siblings_move_name(name, a, b, room);
			n += name && sd_names_find(&s->names, name) != SD_NO_NAME;
		}
	}
	return n;
}

static void tell_stack_slip(struct sd_siblings *s, const struct sd_stack *is, const struct sd_stack *meant)
{
	const char *name = sd_arena_printf(s->arena, "%.*s.", (int)is->length, is->name);
	struct sd_finding *f = sd_siblings_add_finding(s, SD_ODD_TYPO, name);

	if (!f)
		return;
	f->near = sd_arena_printf(s->arena, "%.*s.", (int)meant->length, meant->name);
	f->tensors = is->keys;
	f->edit = f->near ? sd_advice_edit(s->arena, SD_ADVICE_FRONT, name, strlen(name), f->near) : NULL;
	s->memory = s->memory && f->near && !s->arena->failed;
	if (s->memory)
		f->line = sd_arena_printf(s->arena, "%zu names begin with %s and %zu with %s%s%s%s", is->keys, name,
					  meant->keys, f->near, f->edit ? ": put sd-rename -e '" : "",
					  f->edit ? f->edit : "", f->edit ? "' before this" : "");
}

/* What stands in front of the layers of one of two checkpoints, and not of the other: the one that has more. */
static const char *find_front(const struct sd_stack *a, const struct sd_stack *b, size_t *length)
{
	const struct sd_stack *more = b->length > a->length ? b : a, *less = more == a ? b : a;
	size_t same = 0;

	while (same < less->length && less->name[less->length - 1 - same] == more->name[more->length - 1 - same])
		same++;
	/* A part that only ends in the same way is not the same. */
	*length = more->length - same;
	while (*length && more->name[*length - 1] != '.')
		++*length;
	return more->name;
}

static void tell_twice(struct sd_siblings *s, const struct sd_stack *a, const struct sd_stack *b)
{
	const char *name = sd_arena_printf(s->arena, "%.*s.", (int)a->length, a->name), *front, *regex;
	struct sd_finding *f = sd_siblings_add_finding(s, SD_ODD_COUNT, name);
	size_t length;

	if (!f)
		return;
	f->tensors = a->keys;
	front = find_front(a, b, &length);
	regex = sd_advice_regex(s->arena, front, length);
	s->memory = s->memory && regex;
	f->line = sd_arena_printf(s->arena,
				  "the layers are there twice, behind %s and behind %.*s.: two checkpoints in one? "
				  "sd-rename --exclude '^%s' before this leaves out what begins with %.*s",
				  name, (int)b->length, b->name, regex ? regex : "", (int)length, front);
}

void sd_siblings_compare_beginnings(struct sd_siblings *s)
{
	size_t n = sd_stack_list(s->m, s->stacks_of);

	for (size_t i = 0; i < n && s->memory; i++)
		for (size_t k = 0; k < n && s->memory; k++) {
			const struct sd_stack *a = &s->stacks_of[i], *b = &s->stacks_of[k];
			bool fewer = 2 * a->keys <= b->keys && is_slip(a, b);
			bool same = a->keys == b->keys && i < k && a->keys > 1 && !s->adapter;
			size_t shared = fewer || same ? count_shared(s, a, b) : 0;

			if (fewer && !shared) {
				s->slips[s->nslips++] = (struct sd_sibling_slip){a, b};
				tell_stack_slip(s, a, b);
				break;
			}
			if (same && shared == a->keys)
				tell_twice(s, a, b);
		}
}

void sd_siblings_tell_zeros(struct sd_siblings *s)
{
	char room[NAME_MAX_LENGTH + 1], more[48] = "";
	struct sd_finding *f = sd_siblings_add_finding(s, SD_ODD_TYPO, s->zero);

	if (!f || !sd_siblings_strip_zeros(s->zero, room))
		return;
	if (s->nzeros > 1)
		snprintf(more, sizeof(more), " and %zu more names", s->nzeros - 1);
	f->near = sd_arena_text(s->arena, room, strlen(room));
	f->is = sd_siblings_find_target(s, s->zero);
	f->tensors = s->nzeros;
	f->edit = "s/(?<=[.])0+(?=[0-9]+([.]|$))//g";
	f->line = sd_arena_printf(s->arena, "%s%s: a number with a 0 in front: put sd-rename -e '%s' before this",
				  s->zero, more, f->edit);
	s->memory = s->memory && f->near;
}

/* ---- one name ---- */

/* How many names are the same but for their numbers. */
static size_t count_alike(const struct sd_manifest *m, const struct sd_sibling_name *like)
{
	char pattern[NAME_MAX_LENGTH + 1], other[NAME_MAX_LENGTH + 1];
	size_t n = 0;

	sd_siblings_write_pattern(like, 0, like->length, pattern);
	for (size_t i = 0; i < m->ntargets; i++) {
		struct sd_sibling_name p;

		if (!sd_siblings_parse(m->targets[i].name, &p) || p.n != like->n)
			continue;
		sd_siblings_write_pattern(&p, 0, p.length, other);
		n += strcmp(other, pattern) == 0;
	}
	return n;
}

static bool same_numbers(const struct sd_sibling_name *a, const struct sd_sibling_name *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->number[i].value != b->number[i].value)
			return false;
	return true;
}

bool sd_siblings_is_alone(const struct sd_manifest *m, const char *name)
{
	struct sd_sibling_name p;

	return sd_siblings_parse(name, &p) && count_alike(m, &p) == 1;
}

const char *sd_siblings_near(const struct sd_manifest *m, const char *missing)
{
	const char *best = NULL;
	unsigned distance = SLIPS + 1;
	size_t alike = 0, counted = 0;
	struct sd_sibling_name wanted, p;

	if (!sd_siblings_parse(missing, &wanted))
		return NULL;
	for (size_t i = 0; i < m->ntargets && counted < NEAR_MAX; i++) {
		const char *name = m->targets[i].name;
		unsigned now;

		if (!sd_siblings_parse(name, &p) || p.length + SLIPS < wanted.length ||
		    wanted.length + SLIPS < p.length || !same_numbers(&p, &wanted))
			continue;
		now = sd_text_distance(name, missing, distance - 1);
		if (now >= distance)
			continue;
		alike = counted++ ? alike : count_alike(m, &wanted);
		if (2 * count_alike(m, &p) > alike)
			continue;
		best = name;
		distance = now;
	}
	return best;
}
