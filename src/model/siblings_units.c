/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the units of a stack with each other: misspelt, missing and foreign parts. */
#include "model/siblings_search.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- telling ---- */

struct sd_finding *sd_siblings_add_finding(struct sd_siblings *s, enum sd_oddity kind, const char *name)
{
	struct sd_findings *f = s->findings;

	if (f->n == FINDINGS_MAX)
		return NULL;
	s->memory = s->memory && name && sd_array_grow(&f->at, f->n, &f->room, sizeof(*f->at));
	if (!s->memory)
		return NULL;
	f->at[f->n] = (struct sd_finding){.kind = kind, .name = name};
	return &f->at[f->n++];
}

bool sd_siblings_has_part(const struct sd_siblings *s, const struct sd_sibling_unit *u, uint32_t part)
{
	size_t low = u->begin, high = u->end;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if ((uint32_t)s->entries[middle] < part)
			low = middle + 1;
		else
			high = middle;
	}
	return low < u->end && (uint32_t)s->entries[low] == part;
}

/* The numbers of the units of a stack that have a part. */
static void find_siblings(struct sd_siblings *s, struct sd_finding *f, const struct sd_sibling_stack *stack,
			  uint32_t part)
{
	uint32_t *numbers = sd_arena_array(s->arena, stack->end - stack->begin, sizeof(*numbers));

	s->memory = s->memory && numbers;
	for (size_t i = stack->begin; i < stack->end && s->memory; i++) {
		const struct sd_sibling_unit *u = &s->units[s->order[i]];

		if (sd_siblings_has_part(s, u, part))
			numbers[f->nsiblings++] = u->number;
	}
	f->siblings = numbers;
	f->among = sd_arena_text(s->arena, stack->word, strcspn(stack->word, "."));
	s->memory = s->memory && f->among;
}

const char *sd_siblings_one_of(const char *among, size_t n, char out[32])
{
	size_t length = strlen(among);

	snprintf(out, 32, "%.*s", (int)(length && n == 1 && among[length - 1] == 's' ? length - 1 : length), among);
	return out;
}

const struct sd_target *sd_siblings_find_target(const struct sd_siblings *s, const char *name)
{
	uint32_t number = sd_names_find(&s->names, name);

	return number == SD_NO_NAME ? NULL : &s->m->targets[number];
}

static char *name_of(struct sd_siblings *s, const struct sd_sibling_stack *stack, uint32_t number, const char *part)
{
	return sd_arena_printf(s->arena, "%s%" PRIu32 "%s", stack->prefix, number, part);
}

/* ---- kinds ---- */

struct kind {
	uint64_t print;
	uint32_t type;
	const struct sd_sibling_unit *unit; /* the first one */
	size_t n;
};

/* What two kinds have that the other one has not. */
struct difference {
	uint32_t lacks[8], has[8];
	size_t nlacks, nhas; /* at most 8 are kept; more are counted */
	size_t size;         /* about how many parts the larger kind has in the module */
};

static void note(uint32_t *parts, size_t *n, uint32_t part)
{
	if (*n < 8)
		parts[*n] = part;
	++*n;
}

/* The next entry of a unit that is of a module, from at on; the unit's end if there is none. */
static size_t next_entry(const struct sd_siblings *s, const struct sd_sibling_unit *u, size_t at, uint32_t module)
{
	while (at < u->end && s->parts[(uint32_t)s->entries[at]].module != module)
		at++;
	return at;
}

static struct difference compare(const struct sd_siblings *s, const struct sd_sibling_unit *odd,
				 const struct sd_sibling_unit *host, uint32_t module)
{
	struct difference d = {.nlacks = 0};
	size_t a = next_entry(s, odd, odd->begin, module), b = next_entry(s, host, host->begin, module);

	while (a < odd->end || b < host->end) {
		uint32_t x = a < odd->end ? (uint32_t)s->entries[a] : UINT32_MAX;
		uint32_t y = b < host->end ? (uint32_t)s->entries[b] : UINT32_MAX;

		if (x < y)
			note(d.has, &d.nhas, x);
		else if (y < x)
			note(d.lacks, &d.nlacks, y);
		d.size += y != UINT32_MAX;
		if (x <= y)
			a = next_entry(s, odd, a + 1, module);
		if (y <= x)
			b = next_entry(s, host, b + 1, module);
	}
	return d;
}

/* Which of the parts that are too many is near one that is lacking; SD_NO_NAME: none. */
static uint32_t find_slip(const struct sd_siblings *s, const struct difference *d, uint32_t lacking)
{
	const char *meant = s->parts[lacking].text;
	uint32_t best = SD_NO_NAME;
	unsigned distance = SLIPS + 1;

	for (size_t i = 0; i < d->nhas; i++) {
		unsigned now = sd_text_distance(s->parts[d->has[i]].text, meant, distance - 1);

		if (now < distance) {
			distance = now;
			best = d->has[i];
		}
	}
	return best;
}

/*
 * Whether units that differ so are still of one design: the one lacks little, and what it has of its own are slips. One
 * that is alone may lack more, or have one thing of its own.
 */
static bool is_near(const struct sd_siblings *s, const struct difference *d, bool alone)
{
	size_t slips = 0;

	if (!d->nlacks || d->nlacks > 8 || d->nhas > 8)
		return false;
	if (alone && !d->nhas)
		return true;
	for (size_t i = 0; i < d->nlacks; i++)
		slips += find_slip(s, d, d->lacks[i]) != SD_NO_NAME;
	if (slips == d->nlacks && slips == d->nhas)
		return true;
	if (d->nlacks > 2 + d->size / 5)
		return false;
	return slips >= d->nhas || (alone && d->nhas == 1 && d->nlacks == 1 && d->size > 2);
}

bool sd_siblings_outweighs(size_t host, size_t odd)
{
	return host > odd && (odd == 1 ? host >= 2 : host >= 8 * odd);
}

/* The larger kind that is most like this one. */
static const struct kind *find_host(const struct sd_siblings *s, const struct kind *kinds, size_t n, size_t odd,
				    uint32_t module, struct difference *d)
{
	const struct kind *best = NULL;

	for (size_t i = 0; i < n; i++) {
		struct difference now;

		if (!sd_siblings_outweighs(kinds[i].n, kinds[odd].n) || kinds[i].type != kinds[odd].type)
			continue;
		now = compare(s, kinds[odd].unit, kinds[i].unit, module);
		if (is_near(s, &now, kinds[odd].n == 1) && (!best || now.nlacks + now.nhas < d->nlacks + d->nhas)) {
			best = &kinds[i];
			*d = now;
		}
	}
	return best;
}

/* The word in which two names differ, of the first. */
static const char *differing_word(struct sd_siblings *s, const char *name, const char *other)
{
	size_t begin = 0, end = strlen(name), other_end = strlen(other);
	const char *word;

	while (begin < end && name[begin] == other[begin])
		begin++;
	while (end > begin && other_end > begin && name[end - 1] == other[other_end - 1]) {
		end--;
		other_end--;
	}
	while (begin && name[begin - 1] != '.')
		begin--;
	while (name[end] && name[end] != '.')
		end++;
	word = sd_arena_text(s->arena, name + begin, end - begin);
	s->memory = s->memory && word;
	return word;
}

/* How many tensors have a name in which a * may stand for a number. */
static size_t count_tensors(const struct sd_siblings *s, const char *name)
{
	size_t star = strcspn(name, "*"), n = 0;

	for (size_t i = 0; name[star] && i < s->m->ntargets; i++) {
		const char *other = s->m->targets[i].name, *rest = other + star;

		if (strncmp(name, other, star) != 0)
			continue;
		rest += strspn(rest, "0123456789");
		n += strcmp(rest, name + star + 1) == 0;
	}
	return n ? n : 1;
}

/* The slip of which this one is another part: the same word of the same module is wrong. NULL: there is none. */
static struct sd_finding *find_same_slip(const struct sd_siblings *s, const char *is, const char *meant)
{
	size_t begin, end;

	sd_name_difference(is, meant, &begin, &end);
	for (size_t i = s->findings->n; is[end] && i-- > 0;) {
		struct sd_finding *f = &s->findings->at[i];

		if (f->kind == SD_ODD_TYPO && f->near && f->among && strncmp(f->name, is, end + 1) == 0 &&
		    strncmp(f->near, meant, strlen(meant) - strlen(is + end) + 1) == 0)
			return f;
	}
	return NULL;
}

/* "model.layers.2.mlp.exprets.*.up_proj.weight, with 23 more: experts? the other 5 layers have that" */
static void write_slip(struct sd_siblings *s, struct sd_finding *f)
{
	const char *word = differing_word(s, f->near, f->name);
	uint32_t odd = sd_text_unusual(f->name);
	char among[32], letter[24] = "", more[40] = "";

	if (odd)
		snprintf(letter, sizeof(letter), " (with U+%04" PRIX32 ")", odd);
	if (f->tensors > 1)
		snprintf(more, sizeof(more), ", with %zu more", f->tensors - 1);
	f->line = word ? sd_arena_printf(s->arena, "%s%s%s: %s? the other %zu %s have that", f->name, letter, more,
					 word, f->nsiblings, sd_siblings_one_of(f->among, f->nsiblings, among))
		       : NULL;
}

/* A name that should be another one, by what the sibling host has. */
static void tell_slip(struct sd_siblings *s, const struct sd_sibling_stack *stack, const char *is, const char *meant,
		      uint32_t part, const struct sd_sibling_unit *host)
{
	struct sd_finding *f = is && meant ? find_same_slip(s, is, meant) : NULL;
	const char *right = name_of(s, stack, host->number, s->parts[part].text);
	bool same = f != NULL;

	f = f ? f : sd_siblings_add_finding(s, SD_ODD_TYPO, is);
	if (!f || !right || !meant)
		return;
	if (!same) {
		f->near = meant;
		find_siblings(s, f, stack, part);
		f->is = sd_siblings_find_target(s, f->name);
		f->right = sd_siblings_find_target(s, right);
	}
	f->tensors += count_tensors(s, is);
	if (s->memory)
		write_slip(s, f);
}

static void tell_typo(struct sd_siblings *s, const struct sd_sibling_stack *stack, const struct sd_sibling_unit *u,
		      uint32_t is, uint32_t meant, const struct sd_sibling_unit *host)
{
	const char *name = name_of(s, stack, u->number, s->parts[is].text);

	s->memory = s->memory && name;
	if (s->memory)
		tell_slip(s, stack, name, name_of(s, stack, u->number, s->parts[meant].text), meant, host);
}

/* How much of a part's text all of the parts begin with, up to a dot: 0 if nothing. */
static size_t common_module(const struct sd_siblings *s, const uint32_t *parts, size_t n)
{
	const char *text = s->parts[parts[0]].text;
	size_t length = strlen(text);

	for (size_t i = 1; i < n; i++) {
		size_t same = 0;

		while (same < length && s->parts[parts[i]].text[same] == text[same])
			same++;
		length = same;
	}
	while (length && text[length - 1] != '.')
		length--;
	/* Of one name, the module that it is in: of ".self_attn.q_proj.weight" that is "self_attn". */
	if (n == 1 && strchr(text + 1, '.') != strrchr(text, '.'))
		length = strcspn(text + 1, ".") + 2;
	else if (n == 1)
		length = 0;
	/* ".mlp.experts.*." is that of "mlp.experts". */
	if (length > 2 && text[length - 2] == '*')
		length -= 2;
	return length > 1 ? length : 0;
}

/* Whether the unit has any part in a module. */
static bool has_module(const struct sd_siblings *s, const struct sd_sibling_unit *u, const char *text, size_t length)
{
	for (size_t i = u->begin; i < u->end; i++)
		if (strncmp(s->parts[(uint32_t)s->entries[i]].text, text, length) == 0)
			return true;
	return false;
}

static void tell_missing(struct sd_siblings *s, const struct sd_sibling_stack *stack, const struct sd_sibling_unit *u,
			 uint32_t part, const struct sd_sibling_unit *host)
{
	const char *name = name_of(s, stack, u->number, s->parts[part].text), *near;
	const char *right = name_of(s, stack, host->number, s->parts[part].text);
	struct sd_finding *f;
	char among[32];

	near = name && s->near++ < NEAR_MAX ? sd_siblings_near(s->m, name) : NULL;
	if (near) {
		tell_slip(s, stack, near, name, part, host);
		return;
	}
	f = sd_siblings_add_finding(s, SD_ODD_MISSING, name);
	if (!f || !right)
		return;
	find_siblings(s, f, stack, part);
	f->right = sd_siblings_find_target(s, right);
	f->tensors = 1;
	if (s->memory)
		f->line = sd_arena_printf(s->arena, "%s is not there, and the other %zu %s have it", f->name,
					  f->nsiblings, sd_siblings_one_of(f->among, f->nsiblings, among));
}

/* "layer 2 has no mlp.experts, which the other 5 have" */
static void tell_module(struct sd_siblings *s, const struct sd_sibling_stack *stack, const struct sd_sibling_unit *u,
			const uint32_t *parts, size_t n, size_t length)
{
	const char *text = s->parts[parts[0]].text;
	char *module = sd_arena_text(s->arena, text, length);
	struct sd_finding *f =
		module ? sd_siblings_add_finding(s, SD_ODD_MISSING, name_of(s, stack, u->number, module)) : NULL;
	char among[32];

	s->memory = s->memory && f;
	if (!f)
		return;
	find_siblings(s, f, stack, parts[0]);
	f->tensors = n;
	if (s->memory)
		f->line = sd_arena_printf(s->arena, "%s %" PRIu32 " has no %.*s, which the other %zu have",
					  sd_siblings_one_of(f->among, 1, among), u->number, (int)(length - 2),
					  text + 1, f->nsiblings);
}

/* A layer has what others have whose type is another one by layer_types. */
static void tell_type(struct sd_siblings *s, const struct sd_sibling_stack *stack, const struct sd_sibling_unit *u,
		      uint32_t instead, uint32_t lacks, size_t n)
{
	const char *is = s->parts[instead].text + 1, *should = s->parts[lacks].text + 1;
	struct sd_finding *f;
	char among[32];

	if (u->told)
		return;
	s->units[u - s->units].told = true;
	f = sd_siblings_add_finding(s, SD_ODD_MISSING, name_of(s, stack, u->number, ""));
	if (!f)
		return;
	find_siblings(s, f, stack, lacks);
	if (s->memory)
		f->line = sd_arena_printf(s->arena,
					  "%s %" PRIu32 " has %.*s and no %.*s, which the other %zu have that "
					  "config.json's layer_types calls the same",
					  sd_siblings_one_of(f->among, 1, among), u->number, (int)strcspn(is, "."), is,
					  (int)strcspn(should, "."), should, n);
}

/* Tells of one unit how it differs from its kind. */
static void tell_unit(struct sd_siblings *s, const struct sd_sibling_stack *stack, const struct sd_sibling_unit *u,
		      const struct kind *hosts, const struct difference *d)
{
	const struct sd_sibling_unit *host = hosts->unit;
	uint32_t lacking[8];
	size_t n = 0, length;

	for (size_t i = 0; i < d->nlacks; i++) {
		uint32_t slip = find_slip(s, d, d->lacks[i]);

		if (slip != SD_NO_NAME)
			tell_typo(s, stack, u, slip, d->lacks[i], host);
		else
			lacking[n++] = d->lacks[i];
	}
	if (!n || s->adapter || hosts->n < MISSING_HOSTS)
		return;
	length = common_module(s, lacking, n);
	if (length && !has_module(s, u, s->parts[lacking[0]].text, length))
		tell_module(s, stack, u, lacking, n, length);
	else
		for (size_t i = 0; i < n && s->memory; i++)
			tell_missing(s, stack, u, lacking[i], host);
}

/* Compares the units that have a module in what they have of it. */
static void compare_kinds(struct sd_siblings *s, const struct sd_sibling_stack *stack,
			  const struct sd_sibling_slot *slots, size_t count)
{
	struct kind kinds[KINDS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct sd_sibling_unit *u = &s->units[slots[i].unit];
		size_t k = 0;

		while (k < n && (kinds[k].print != slots[i].print || kinds[k].type != u->type))
			k++;
		if (k == KINDS_MAX)
			return;
		if (k == n)
			kinds[n++] = (struct kind){slots[i].print, u->type, u, 0};
		kinds[k].n++;
	}
	for (size_t k = 0; k < n && n > 1 && s->memory; k++) {
		struct difference d;
		const struct kind *host = find_host(s, kinds, n, k, slots->module, &d);

		for (size_t i = 0; host && i < count && s->memory; i++) {
			const struct sd_sibling_unit *u = &s->units[slots[i].unit];

			if (slots[i].print == kinds[k].print && u->type == kinds[k].type)
				tell_unit(s, stack, u, host, &d);
		}
	}
}

bool sd_siblings_has(const struct sd_siblings *s, const struct sd_sibling_unit *u, uint32_t module)
{
	return next_entry(s, u, u->begin, module) < u->end;
}

/* Whether no unit that has one module has the other one too. */
static bool excludes(const struct sd_siblings *s, const struct sd_sibling_slot *having, size_t n, uint32_t other)
{
	for (size_t i = 0; i < n; i++)
		if (sd_siblings_has(s, &s->units[having[i].unit], other))
			return false;
	return true;
}

/*
 * A part of the unit that stands in the place of a module which it lacks: no unit that has that has this. One that is a
 * slip of it comes first. SD_NO_NAME: there is none.
 */
static uint32_t find_instead(const struct sd_siblings *s, const struct sd_sibling_unit *u,
			     const struct sd_sibling_slot *having, size_t n, uint32_t meant, bool *slip)
{
	uint32_t found = SD_NO_NAME;

	*slip = false;
	for (size_t i = u->begin; i < u->end && !*slip; i++) {
		uint32_t number = (uint32_t)s->entries[i];

		if (!excludes(s, having, n, s->parts[number].module))
			continue;
		found = number;
		*slip = sd_text_distance(s->parts[number].text, s->parts[meant].text, SLIPS) <= SLIPS;
	}
	return found;
}

static void tell_absent(struct sd_siblings *s, const struct sd_sibling_stack *stack, const struct sd_sibling_unit *u,
			const struct sd_sibling_slot *having, size_t n)
{
	const struct sd_sibling_unit *host = &s->units[having->unit];
	uint32_t parts[8], instead;
	size_t count = 0;
	bool slip;

	for (size_t i = next_entry(s, host, host->begin, having->module); i < host->end && count < 8;
	     i = next_entry(s, host, i + 1, having->module))
		parts[count++] = (uint32_t)s->entries[i];
	instead = find_instead(s, u, having, n, parts[0], &slip);
	if (slip)
		tell_typo(s, stack, u, instead, parts[0], host);
	else if (instead != SD_NO_NAME && u->type)
		tell_type(s, stack, u, instead, parts[0], n);
	else if (instead != SD_NO_NAME || n < MISSING_HOSTS || s->adapter)
		return;
	else if (count == 1)
		tell_missing(s, stack, u, parts[0], host);
	else
		tell_module(s, stack, u, parts, count, strcspn(s->parts[parts[0]].text + 1, ".") + 2);
}

/* The units of a type that have a module, into same, and how many lack it. */
static size_t sort_out(const struct sd_siblings *s, const struct sd_sibling_stack *stack,
		       const struct sd_sibling_slot *slots, size_t count, uint32_t type, struct sd_sibling_slot *same,
		       size_t *lacking)
{
	size_t n = 0, all = 0;

	for (size_t k = stack->begin; k < stack->end; k++)
		all += s->units[s->order[k]].type == type;
	for (size_t k = 0; k < count; k++)
		if (s->units[slots[k].unit].type == type)
			same[n++] = slots[k];
	*lacking = all - n;
	return n;
}

/* Looks which units lack a module that nearly all others, of their type, have. slots: those that have it. */
static void compare_absent(struct sd_siblings *s, const struct sd_sibling_stack *stack,
			   const struct sd_sibling_slot *slots, size_t count, struct sd_sibling_slot *same)
{
	size_t n = 0, lacking = 0, seen = 0;
	uint32_t type = UINT32_MAX;

	for (size_t i = stack->begin; i < stack->end && seen < LACKING_MAX && s->memory; i++) {
		const struct sd_sibling_unit *u = &s->units[s->order[i]];

		if (sd_siblings_has(s, u, slots->module))
			continue;
		seen++;
		if (u->type != type)
			n = sort_out(s, stack, slots, count, u->type, same, &lacking);
		type = u->type;
		if (n && lacking <= LACKING_MAX && sd_siblings_outweighs(n, lacking))
			tell_absent(s, stack, u, same, n);
	}
}

static int compare_slots(const void *a, const void *b)
{
	const struct sd_sibling_slot *x = a, *y = b;

	if (x->module != y->module)
		return x->module < y->module ? -1 : 1;
	return (x->unit > y->unit) - (x->unit < y->unit);
}

/* What the units of a stack have of each module. */
static size_t find_slots(const struct sd_siblings *s, const struct sd_sibling_stack *stack,
			 struct sd_sibling_slot *slots)
{
	size_t n = 0;

	for (size_t i = stack->begin; i < stack->end; i++) {
		const struct sd_sibling_unit *u = &s->units[s->order[i]];
		size_t first = n;

		for (size_t e = u->begin; e < u->end; e++) {
			uint32_t part = (uint32_t)s->entries[e], module = s->parts[part].module;
			size_t k = first;

			while (k < n && slots[k].module != module)
				k++;
			if (k == n && n - first == MODULES_MAX)
				continue;
			if (k == n)
				slots[n++] = (struct sd_sibling_slot){module, s->order[i], 0};
			slots[k].print = (slots[k].print ^ part) * 0x9e3779b97f4a7c15u;
			slots[k].print ^= slots[k].print >> 29;
		}
	}
	return n;
}

void sd_siblings_compare_units(struct sd_siblings *s, const struct sd_sibling_stack *stack)
{
	size_t room = 1, n, units = stack->end - stack->begin;
	struct sd_sibling_slot *slots, *same;

	for (size_t i = stack->begin; i < stack->end; i++)
		room += s->units[s->order[i]].end - s->units[s->order[i]].begin;
	slots = calloc(room, sizeof(*slots));
	same = calloc(units + 1, sizeof(*same));
	s->memory = slots && same;
	n = s->memory ? find_slots(s, stack, slots) : 0;
	if (n)
		qsort(slots, n, sizeof(*slots), compare_slots);
	for (size_t i = 0, k; i < n && s->memory; i = k) {
		k = i + 1;
		while (k < n && slots[k].module == slots[i].module)
			k++;
		compare_kinds(s, stack, &slots[i], k - i);
		if (k - i < units && 8 * (k - i) >= units)
			compare_absent(s, stack, &slots[i], k - i, same);
	}
	free(slots);
	free(same);
}
