/* SPDX-License-Identifier: Apache-2.0 */
/* Reads names into stacks, units, parts and classes. */
#include "model/siblings_search.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

bool sd_siblings_parse(const char *name, struct sd_sibling_name *p)
{
	*p = (struct sd_sibling_name){.name = name, .length = strlen(name)};
	if (p->length > NAME_MAX_LENGTH || memchr(name, '*', p->length))
		return false;
	for (size_t at = 0; at < p->length; at += strcspn(name + at, ".") + 1) {
		size_t digits = strspn(name + at, "0123456789");

		if (!digits || digits > NUMBER_DIGITS || (name[at + digits] && name[at + digits] != '.'))
			continue;
		if (p->n == NUMBERS_MAX)
			return false;
		p->number[p->n].at = at;
		p->number[p->n].end = at + digits;
		p->number[p->n++].value = (uint32_t)strtoul(name + at, NULL, 10);
	}
	return true;
}

/* Whether a prefix ends in a word for things of one design that are counted, layers or experts; *word is where. */
static bool is_stack(const char *prefix, size_t length, const char **word)
{
	size_t begin;

	if (length < 2 || prefix[length - 1] != '.')
		return false;
	for (begin = length - 1; begin && prefix[begin - 1] != '.'; begin--)
		;
	*word = prefix + begin;
	return sd_stack_is_word(*word, length - 1 - begin) || strncmp(*word, EXPERTS, length - begin) == 0;
}

void sd_siblings_write_pattern(const struct sd_sibling_name *p, size_t begin, size_t end, char *out)
{
	size_t at = begin;

	for (size_t i = 0; i < p->n; i++) {
		if (p->number[i].at < begin || p->number[i].end > end)
			continue;
		memcpy(out, p->name + at, p->number[i].at - at);
		out += p->number[i].at - at;
		*out++ = '*';
		at = p->number[i].end;
	}
	memcpy(out, p->name + at, end - at);
	out[end - at] = '\0';
}

/* The number of a text in a table; new ones get the next number. *text is the table's own copy then. */
static uint32_t intern(struct sd_siblings *s, struct sd_names *names, const char **text, size_t next)
{
	uint32_t number = sd_names_find(names, *text);

	if (number != SD_NO_NAME)
		return number;
	*text = sd_arena_text(s->arena, *text, strlen(*text));
	number = *text ? sd_names_add(names, *text, (uint32_t)next) : SD_NO_NAME;
	s->memory = s->memory && number != SD_NO_NAME;
	return number;
}

static uint32_t add_stack(struct sd_siblings *s, const struct sd_sibling_name *p, size_t i, const char *word)
{
	char prefix[NAME_MAX_LENGTH + 1], pattern[NAME_MAX_LENGTH + 1];
	const char *text = prefix, *alike = pattern;
	uint32_t number;

	memcpy(prefix, p->name, p->number[i].at);
	prefix[p->number[i].at] = '\0';
	number = intern(s, &s->prefixes, &text, s->nstacks);
	if (number != s->nstacks)
		return number;
	sd_siblings_write_pattern(p, 0, p->number[i].at, pattern);
	if (!sd_array_grow(&s->stacks, s->nstacks, &s->stacks_room, sizeof(*s->stacks))) {
		s->memory = false;
		return SD_NO_NAME;
	}
	s->stacks[s->nstacks++] = (struct sd_sibling_stack){.prefix = text, .word = text + (word - p->name)};
	s->stacks[number].pattern = intern(s, &s->patterns, &alike, s->patterns.used);
	return number;
}

/* The type of the layer that the ith number counts. */
static uint32_t find_type(const struct sd_siblings *s, const struct sd_sibling_name *p, size_t i)
{
	if (!s->layers || p->number[i].at != s->layers_length + 1 ||
	    memcmp(p->name, s->layers, s->layers_length) != 0 || p->number[i].value >= s->ntypes)
		return 0;
	return s->types[p->number[i].value] + 1;
}

static uint32_t add_unit(struct sd_siblings *s, const struct sd_sibling_name *p, size_t i, const char *word)
{
	char name[NAME_MAX_LENGTH + 1];
	const char *text = name;
	uint32_t number, stack;

	memcpy(name, p->name, p->number[i].end);
	name[p->number[i].end] = '\0';
	number = intern(s, &s->unit_names, &text, s->nunits);
	if (number != s->nunits || !s->memory)
		return number;
	stack = add_stack(s, p, i, word);
	if (stack == SD_NO_NAME || !sd_array_grow(&s->units, s->nunits, &s->units_room, sizeof(*s->units))) {
		s->memory = false;
		return SD_NO_NAME;
	}
	s->units[s->nunits++] =
		(struct sd_sibling_unit){.stack = stack, .number = p->number[i].value, .type = find_type(s, p, i)};
	return number;
}

static uint32_t find_unit(struct sd_siblings *s, const struct sd_sibling_name *p, size_t i)
{
	struct recent *recent = &s->recent[i];
	size_t length = p->number[i].end;
	const char *word;

	if (recent->length == length && memcmp(recent->name, p->name, length) == 0)
		return recent->unit;
	is_stack(p->name, p->number[i].at, &word);
	*recent = (struct recent){p->name, length, add_unit(s, p, i, word)};
	return recent->unit;
}

static uint32_t intern_module(struct sd_siblings *s, const char *part)
{
	char module[NAME_MAX_LENGTH + 1];
	const char *text = module;

	part += *part == '.';
	snprintf(module, sizeof(module), "%.*s", (int)strcspn(part, "."), part);
	return intern(s, &s->module_names, &text, s->module_names.used);
}

static uint32_t add_part(struct sd_siblings *s, const struct sd_sibling_name *p, size_t i)
{
	char part[NAME_MAX_LENGTH + 1];
	const char *text = part;
	uint32_t number;

	sd_siblings_write_pattern(p, p->number[i].end, p->length, part);
	number = intern(s, &s->part_names, &text, s->nparts);
	if (number == s->nparts && s->memory) {
		s->memory = sd_array_grow(&s->parts, s->nparts, &s->parts_room, sizeof(*s->parts));
		if (s->memory)
			s->parts[s->nparts++] = (struct sd_sibling_part){text, intern_module(s, text)};
	}
	return number;
}

/* The class of a name; NULL: memory is out. */
static struct sd_sibling_class *find_class(struct sd_siblings *s, const struct sd_sibling_name *p)
{
	char pattern[NAME_MAX_LENGTH + 1];
	const char *text = pattern, *word;
	struct sd_sibling_class *class;
	uint32_t number;

	sd_siblings_write_pattern(p, 0, p->length, pattern);
	number = intern(s, &s->class_names, &text, s->nclasses);
	if (number != s->nclasses)
		return s->memory ? &s->classes[number] : NULL;
	s->memory = s->memory && sd_array_grow(&s->classes, s->nclasses, &s->classes_room, sizeof(*s->classes));
	if (!s->memory)
		return NULL;
	class = &s->classes[s->nclasses++];
	*class = (struct sd_sibling_class){.pattern = text};
	while (class->nparts < p->n && is_stack(p->name, p->number[class->nparts].at, &word)) {
		class->parts[class->nparts] = add_part(s, p, class->nparts);
		class->nparts++;
	}
	return s->memory ? class : NULL;
}

static void add_entry(struct sd_siblings *s, uint32_t unit, uint32_t part)
{
	s->memory = s->memory && sd_array_grow(&s->entries, s->nentries, &s->entries_room, sizeof(*s->entries));
	if (s->memory)
		s->entries[s->nentries++] = (uint64_t)unit << 32 | part;
}

bool sd_siblings_same_data(const struct sd_target *a, const struct sd_target *b)
{
	return a->dtype == b->dtype && sd_shape_equal(a->shape, a->rank, b->shape, b->rank);
}

/* unit: the outermost one that it is in, or SD_NO_NAME. */
static void count_member(const struct sd_siblings *s, struct sd_sibling_class *class, const struct sd_target *t,
			 uint32_t unit)
{
	uint32_t type = unit == SD_NO_NAME ? 0 : s->units[unit].type;
	struct sd_sibling_variant *variant;
	size_t v = 0;

	class->n++;
	while (v < class->nvariants && v < VARIANTS_MAX &&
	       (class->variants[v].type != type || !sd_siblings_same_data(class->variants[v].first, t)))
		v++;
	if (v == class->nvariants)
		class->nvariants++;
	if (v == VARIANTS_MAX)
		return;
	variant = &class->variants[v];
	if (!variant->n++)
		*variant = (struct sd_sibling_variant){.first = t, .n = 1, .type = type, .unit = unit};
	variant->spread = variant->spread || variant->unit != unit;
}

void sd_siblings_read_name(struct sd_siblings *s, const struct sd_target *t)
{
	uint32_t number = (uint32_t)(t - s->m->targets);

	s->memory = sd_names_add(&s->names, t->name, number) != SD_NO_NAME;
	s->lora += strstr(t->name, ".lora_") != NULL;
}

bool sd_siblings_is_in(const char *name, const struct sd_stack *stack)
{
	return strncmp(name, stack->name, stack->length) == 0 && name[stack->length] == '.';
}

const char *sd_siblings_move_name(const char *name, const struct sd_stack *from, const struct sd_stack *to,
				  char room[NAME_MAX_LENGTH + 1])
{
	int n = snprintf(room, NAME_MAX_LENGTH + 1, "%.*s%s", (int)to->length, to->name, name + from->length);

	return n <= NAME_MAX_LENGTH ? room : NULL;
}

bool sd_siblings_strip_zeros(const char *name, char room[NAME_MAX_LENGTH + 1])
{
	char *out = room;
	bool any = false;

	for (const char *at = name; *at; at++) {
		bool begins = at == name || at[-1] == '.';
		size_t digits = strspn(at, "0123456789"), zeros = begins ? strspn(at, "0") : 0;

		zeros -= zeros && zeros == digits;
		if (zeros && (at[digits] == '.' || !at[digits])) {
			at += zeros;
			any = true;
		}
		*out++ = *at;
	}
	*out = '\0';
	return any;
}

/* What a name is compared as: itself, or what it should have been where that is told once for all. */
static const char *correct(struct sd_siblings *s, const char *name, char room[NAME_MAX_LENGTH + 1])
{
	if (strlen(name) > NAME_MAX_LENGTH)
		return name;
	for (size_t i = 0; i < s->nslips; i++)
		if (sd_siblings_is_in(name, s->slips[i].is)) {
			const char *moved = sd_siblings_move_name(name, s->slips[i].is, s->slips[i].meant, room);

			return moved ? moved : name;
		}
	if (!strstr(name, ".0") || !sd_siblings_strip_zeros(name, room))
		return name;
	s->zero = s->nzeros++ ? s->zero : name;
	return room;
}

void sd_siblings_read_target(struct sd_siblings *s, const struct sd_target *t)
{
	char room[NAME_MAX_LENGTH + 1];
	const char *name;
	struct sd_sibling_class *class;
	struct sd_sibling_name p;
	uint32_t unit = SD_NO_NAME;

	/* Which layers are quantised is a choice: what that makes beside weights is not compared. */
	if (sd_name_role(t->name).role >= SD_ROLE_CODES) {
		s->quantised = true;
		return;
	}
	name = correct(s, t->name, room);
	if (name == room)
		name = sd_arena_text(s->arena, room, strlen(room));
	s->memory = s->memory && name;
	class = name && sd_siblings_parse(name, &p) ? find_class(s, &p) : NULL;
	if (!class)
		return;
	for (size_t i = class->nparts; i-- > 0 && s->memory;) {
		unit = find_unit(s, &p, i);
		add_entry(s, unit, class->parts[i]);
	}
	if (class->nparts == p.n && s->memory)
		count_member(s, class, t, unit);
}

static int compare_entries(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void sd_siblings_sort_parts(struct sd_siblings *s)
{
	size_t kept = 0;

	if (s->nentries)
		qsort(s->entries, s->nentries, sizeof(*s->entries), compare_entries);
	for (size_t i = 0; i < s->nentries; i++)
		if (!i || s->entries[i] != s->entries[i - 1])
			s->entries[kept++] = s->entries[i];
	s->nentries = kept;
	for (size_t i = 0; i < kept; i++) {
		struct sd_sibling_unit *u = &s->units[s->entries[i] >> 32];

		u->begin = u->end ? u->begin : i;
		u->end = i + 1;
	}
}

/* By stack, number; qsort has no argument to hand on: the keys say it all. */
struct place {
	uint32_t stack, number, unit;
};

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->stack != y->stack)
		return x->stack < y->stack ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

void sd_siblings_sort_units(struct sd_siblings *s)
{
	struct place *places = calloc(s->nunits + 1, sizeof(*places));

	s->order = calloc(s->nunits + 1, sizeof(*s->order));
	s->memory = places && s->order;
	for (size_t i = 0; i < s->nunits && s->memory; i++)
		places[i] = (struct place){s->units[i].stack, s->units[i].number, (uint32_t)i};
	if (s->nunits && s->memory)
		qsort(places, s->nunits, sizeof(*places), compare_places);
	for (size_t i = 0; i < s->nunits && s->memory; i++) {
		struct sd_sibling_stack *stack = &s->stacks[places[i].stack];

		s->order[i] = places[i].unit;
		stack->begin = stack->end ? stack->begin : i;
		stack->end = i + 1;
	}
	free(places);
}

void sd_siblings_take_type(void *user, const char *value)
{
	struct sd_siblings *s = user;
	const char *text = value;

	if (s->ntypes == TYPES_MAX || !s->memory)
		return;
	s->memory = sd_array_grow(&s->types, s->ntypes, &s->types_room, sizeof(*s->types));
	if (s->memory)
		s->types[s->ntypes++] = intern(s, &s->type_names, &text, s->type_names.used);
}

/* ---- which layers are those of the language model ---- */

struct sd_sibling_stack *sd_siblings_main_stack(struct sd_siblings *s)
{
	size_t length;
	const char *name = sd_stack_main(s->m, &length);
	char *prefix = name ? sd_arena_printf(s->arena, "%.*s.", (int)length, name) : NULL;
	uint32_t number = prefix ? sd_names_find(&s->prefixes, prefix) : SD_NO_NAME;

	s->memory = s->memory && (prefix || !name);
	return number == SD_NO_NAME ? NULL : &s->stacks[number];
}
