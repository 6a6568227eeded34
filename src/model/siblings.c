/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares the names of a checkpoint with each other.
 *
 * A stack is what a prefix counts: "model.layers.", or "model.layers.3.mlp.experts.". Each of its numbers is a unit,
 * and a unit has parts: what follows behind the number, in which later numbers are "*"
 * ("mlp.experts.*.up_proj.weight"). The first word of a part is a module ("self_attn"). Of each module, units with the
 * same parts are of one kind; a kind that is much like a larger one lacks what that has more: it is odd. So is a unit
 * that lacks a module, unless it has another one in its place: full attention among linear ones. Where config.json has
 * layer_types, only layers of one type are compared.
 */
#include "model/siblings.h"
#include "base/names.h"
#include "base/text.h"
#include "model/companions.h"
#include "model/config_json.h"
#include "model/ends.h"
#include "model/stack.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPERTS "experts."
#define NAME_MAX_LENGTH 480 /* longer names are not looked at */
#define NUMBER_DIGITS 6
#define NUMBERS_MAX 4   /* in a name */
#define KINDS_MAX 32    /* of a module in a stack; where there are more, they are no kinds at all */
#define MODULES_MAX 64  /* of a unit, that are looked at */
#define TYPES_MAX 65536 /* layer_types that are read */
#define SLIPS 3         /* letters that may be wrong in a name that was meant */
#define VARIANTS_MAX 4  /* shapes and dtypes of one class */
#define NAMED_MAX 5
#define FINDINGS_MAX 1000
#define TOLD_MAX 5      /* findings with a line of their own */
#define NEAR_MAX 16     /* missing names for which a near one is looked for among all */
#define SHAPE_HOSTS 8   /* tensors that say what shape another one should have */
#define LACKING_MAX 64  /* units that may lack a module; where more do, that is a choice */
#define MISSING_HOSTS 3 /* siblings that say what a unit should have */

struct stack {
	const char *prefix; /* "model.layers." */
	const char *word;   /* "layers", in the prefix */
	uint32_t pattern;   /* of the prefix with numbers as "*": stacks that are alike have the same */
	size_t begin, end;  /* its units, in order of their numbers */
};

struct unit {
	uint32_t stack, number;
	size_t begin, end; /* its parts */
	uint32_t type;     /* by layer_types; 0: not told */
	bool told;         /* that its type is another one */
};

struct part {
	const char *text; /* ".mlp.experts.*.up_proj.weight" */
	uint32_t module;  /* its first word */
};

/* A unit's parts that are of one module. */
struct slot {
	uint32_t module, unit;
	uint64_t print;
};

/* One shape and dtype that members of a class have. */
struct variant {
	const struct sd_target *first;
	size_t n;
};

/* All names that are the same but for their numbers. */
struct class
{
	const char *pattern;
	size_t n;                    /* members */
	uint32_t parts[NUMBERS_MAX]; /* behind each number, up to the first one that no stack has */
	size_t nparts;
	struct variant variants[VARIANTS_MAX];
	size_t nvariants; /* VARIANTS_MAX + 1: more */
};

/* A stack whose beginning is another one's with a slip. */
struct slip {
	const struct sd_stack *is, *meant;
};

struct search {
	const struct sd_manifest *m;
	struct sd_arena *arena;
	struct sd_findings *findings;
	struct sd_error *err;
	struct sd_names names, prefixes, patterns, unit_names, part_names, class_names;
	struct stack *stacks;
	size_t nstacks, stacks_room;
	struct unit *units;
	size_t nunits, units_room;
	struct recent {
		const char *name;
		size_t length;
		uint32_t unit;
	} recent[NUMBERS_MAX]; /* of each number of a name the last unit: the next name mostly is of the same */
	struct sd_names module_names;
	struct part *parts; /* by number */
	size_t nparts, parts_room;
	uint64_t *entries; /* unit << 32 | part; sorted, each once */
	size_t nentries, entries_room;
	uint32_t *order; /* units by stack and number */
	struct class *classes;
	size_t nclasses, classes_room;
	struct sd_names type_names;
	uint32_t *types; /* of layer_types, by the layer's number */
	size_t ntypes, types_room, near;
	struct sd_stack stacks_of[SD_STACKS_MAX]; /* layers by what stands in front of them */
	struct slip slips[SD_STACKS_MAX];
	size_t nslips, nzeros;
	const char *zero; /* the first name that has a number with a 0 in front */
	bool adapter, quantised, memory;
};

const char *sd_oddity_word(enum sd_oddity kind)
{
	static const char *const words[] = {
		[SD_ODD_PREFIX] = "prefix", [SD_ODD_GAP] = "gap",         [SD_ODD_COUNT] = "count",
		[SD_ODD_TYPO] = "typo",     [SD_ODD_MISSING] = "missing", [SD_ODD_SHAPE] = "shape",
		[SD_ODD_DTYPE] = "dtype",
	};

	return words[kind];
}

/* ---- reading ---- */

/* A name and where its numbers stand. */
struct parsed {
	const char *name;
	size_t length;
	size_t n;
	struct {
		size_t at, end;
		uint32_t value;
	} number[NUMBERS_MAX];
};

/* Finds the numbers that are parts of a name by themselves. False for a name that is not looked at. */
static bool parse(const char *name, struct parsed *p)
{
	*p = (struct parsed){.name = name, .length = strlen(name)};
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

/* Writes a piece of a name, from byte begin to end, with its numbers as "*". */
static void write_pattern(const struct parsed *p, size_t begin, size_t end, char *out)
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
static uint32_t intern(struct search *s, struct sd_names *names, const char **text, size_t next)
{
	uint32_t number = sd_names_find(names, *text);

	if (number != SD_NO_NAME)
		return number;
	*text = sd_arena_text(s->arena, *text, strlen(*text));
	number = *text ? sd_names_add(names, *text, (uint32_t)next) : SD_NO_NAME;
	s->memory = s->memory && number != SD_NO_NAME;
	return number;
}

static uint32_t add_stack(struct search *s, const struct parsed *p, size_t i, const char *word)
{
	char prefix[NAME_MAX_LENGTH + 1], pattern[NAME_MAX_LENGTH + 1];
	const char *text = prefix, *alike = pattern;
	uint32_t number;

	memcpy(prefix, p->name, p->number[i].at);
	prefix[p->number[i].at] = '\0';
	number = intern(s, &s->prefixes, &text, s->nstacks);
	if (number != s->nstacks)
		return number;
	write_pattern(p, 0, p->number[i].at, pattern);
	if (!sd_array_grow(&s->stacks, s->nstacks, &s->stacks_room, sizeof(*s->stacks))) {
		s->memory = false;
		return SD_NO_NAME;
	}
	s->stacks[s->nstacks++] = (struct stack){.prefix = text, .word = text + (word - p->name)};
	s->stacks[number].pattern = intern(s, &s->patterns, &alike, s->patterns.used);
	return number;
}

static uint32_t add_unit(struct search *s, const struct parsed *p, size_t i, const char *word)
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
	s->units[s->nunits++] = (struct unit){.stack = stack, .number = p->number[i].value};
	return number;
}

static uint32_t find_unit(struct search *s, const struct parsed *p, size_t i)
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

static uint32_t intern_module(struct search *s, const char *part)
{
	char module[NAME_MAX_LENGTH + 1];
	const char *text = module;

	part += *part == '.';
	snprintf(module, sizeof(module), "%.*s", (int)strcspn(part, "."), part);
	return intern(s, &s->module_names, &text, s->module_names.used);
}

static uint32_t add_part(struct search *s, const struct parsed *p, size_t i)
{
	char part[NAME_MAX_LENGTH + 1];
	const char *text = part;
	uint32_t number;

	write_pattern(p, p->number[i].end, p->length, part);
	number = intern(s, &s->part_names, &text, s->nparts);
	if (number == s->nparts && s->memory) {
		s->memory = sd_array_grow(&s->parts, s->nparts, &s->parts_room, sizeof(*s->parts));
		if (s->memory)
			s->parts[s->nparts++] = (struct part){text, intern_module(s, text)};
	}
	return number;
}

/* The class of a name; NULL: memory is out. */
static struct class *find_class(struct search *s, const struct parsed *p)
{
	char pattern[NAME_MAX_LENGTH + 1];
	const char *text = pattern, *word;
	struct class *class;
	uint32_t number;

	write_pattern(p, 0, p->length, pattern);
	number = intern(s, &s->class_names, &text, s->nclasses);
	if (number != s->nclasses)
		return s->memory ? &s->classes[number] : NULL;
	s->memory = s->memory && sd_array_grow(&s->classes, s->nclasses, &s->classes_room, sizeof(*s->classes));
	if (!s->memory)
		return NULL;
	class = &s->classes[s->nclasses++];
	*class = (struct class){.pattern = text};
	while (class->nparts < p->n && is_stack(p->name, p->number[class->nparts].at, &word)) {
		class->parts[class->nparts] = add_part(s, p, class->nparts);
		class->nparts++;
	}
	return s->memory ? class : NULL;
}

static void add_entry(struct search *s, uint32_t unit, uint32_t part)
{
	s->memory = s->memory && sd_array_grow(&s->entries, s->nentries, &s->entries_room, sizeof(*s->entries));
	if (s->memory)
		s->entries[s->nentries++] = (uint64_t)unit << 32 | part;
}

static bool same_data(const struct sd_target *a, const struct sd_target *b)
{
	return a->dtype == b->dtype && sd_shape_equal(a->shape, a->rank, b->shape, b->rank);
}

static void count_member(struct class *class, const struct sd_target *t)
{
	size_t v = 0;

	class->n++;
	while (v < class->nvariants && v < VARIANTS_MAX && !same_data(class->variants[v].first, t))
		v++;
	if (v == class->nvariants && v < VARIANTS_MAX)
		class->variants[v] = (struct variant){.first = t};
	if (v == class->nvariants)
		class->nvariants++;
	if (v < VARIANTS_MAX)
		class->variants[v].n++;
}

static void read_name(struct search *s, const struct sd_target *t)
{
	uint32_t number = (uint32_t)(t - s->m->targets);

	s->memory = sd_names_add(&s->names, t->name, number) != SD_NO_NAME;
	s->adapter = s->adapter || strstr(t->name, ".lora_");
}

/* Whether a name is of a stack. */
static bool is_in(const char *name, const struct sd_stack *stack)
{
	return strncmp(name, stack->name, stack->length) == 0 && name[stack->length] == '.';
}

/* The same name in another stack, in room for it; NULL: it has none. */
static const char *move_name(const char *name, const struct sd_stack *from, const struct sd_stack *to,
			     char room[NAME_MAX_LENGTH + 1])
{
	int n = snprintf(room, NAME_MAX_LENGTH + 1, "%.*s%s", (int)to->length, to->name, name + from->length);

	return n <= NAME_MAX_LENGTH ? room : NULL;
}

/* Takes the 0 from the front of a name's numbers. */
static bool strip_zeros(const char *name, char room[NAME_MAX_LENGTH + 1])
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
static const char *correct(struct search *s, const char *name, char room[NAME_MAX_LENGTH + 1])
{
	if (strlen(name) > NAME_MAX_LENGTH)
		return name;
	for (size_t i = 0; i < s->nslips; i++)
		if (is_in(name, s->slips[i].is)) {
			const char *moved = move_name(name, s->slips[i].is, s->slips[i].meant, room);

			return moved ? moved : name;
		}
	if (!strstr(name, ".0") || !strip_zeros(name, room))
		return name;
	s->zero = s->nzeros++ ? s->zero : name;
	return room;
}

static void read_target(struct search *s, const struct sd_target *t)
{
	char room[NAME_MAX_LENGTH + 1];
	const char *name;
	struct class *class;
	struct parsed p;

	/* Which layers are quantised is a choice: what that makes beside weights is not compared. */
	if (sd_name_role(t->name).role >= SD_ROLE_CODES) {
		s->quantised = true;
		return;
	}
	name = correct(s, t->name, room);
	if (name == room)
		name = sd_arena_text(s->arena, room, strlen(room));
	s->memory = s->memory && name;
	class = name && parse(name, &p) ? find_class(s, &p) : NULL;
	if (!class)
		return;
	for (size_t i = 0; i < class->nparts && s->memory; i++)
		add_entry(s, find_unit(s, &p, i), class->parts[i]);
	if (class->nparts == p.n)
		count_member(class, t);
}

static int compare_entries(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Gives each unit its parts, in order, each once. */
static void sort_parts(struct search *s)
{
	size_t kept = 0;

	if (s->nentries)
		qsort(s->entries, s->nentries, sizeof(*s->entries), compare_entries);
	for (size_t i = 0; i < s->nentries; i++)
		if (!i || s->entries[i] != s->entries[i - 1])
			s->entries[kept++] = s->entries[i];
	s->nentries = kept;
	for (size_t i = 0; i < kept; i++) {
		struct unit *u = &s->units[s->entries[i] >> 32];

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

static void sort_units(struct search *s)
{
	struct place *places = calloc(s->nunits + 1, sizeof(*places));

	s->order = calloc(s->nunits + 1, sizeof(*s->order));
	s->memory = places && s->order;
	for (size_t i = 0; i < s->nunits && s->memory; i++)
		places[i] = (struct place){s->units[i].stack, s->units[i].number, (uint32_t)i};
	if (s->nunits && s->memory)
		qsort(places, s->nunits, sizeof(*places), compare_places);
	for (size_t i = 0; i < s->nunits && s->memory; i++) {
		struct stack *stack = &s->stacks[places[i].stack];

		s->order[i] = places[i].unit;
		stack->begin = stack->end ? stack->begin : i;
		stack->end = i + 1;
	}
	free(places);
}

static void take_type(void *user, const char *value)
{
	struct search *s = user;
	const char *text = value;

	if (s->ntypes == TYPES_MAX || !s->memory)
		return;
	s->memory = sd_array_grow(&s->types, s->ntypes, &s->types_room, sizeof(*s->types));
	if (s->memory)
		s->types[s->ntypes++] = intern(s, &s->type_names, &text, s->type_names.used);
}

/* ---- which layers are those of the language model ---- */

/* The stack that config.json counts; NULL: none. */
static struct stack *main_stack(struct search *s)
{
	size_t length;
	const char *name = sd_stack_main(s->m, &length);
	char *prefix = name ? sd_arena_printf(s->arena, "%.*s.", (int)length, name) : NULL;
	uint32_t number = prefix ? sd_names_find(&s->prefixes, prefix) : SD_NO_NAME;

	s->memory = s->memory && (prefix || !name);
	return number == SD_NO_NAME ? NULL : &s->stacks[number];
}

static void give_types(struct search *s, const struct stack *stack)
{
	for (size_t i = stack->begin; i < stack->end; i++) {
		struct unit *u = &s->units[s->order[i]];

		u->type = u->number < s->ntypes ? s->types[u->number] + 1 : 0;
	}
}

/* ---- telling ---- */

static struct sd_finding *add_finding(struct search *s, enum sd_oddity kind, const char *name)
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

static bool has_part(const struct search *s, const struct unit *u, uint32_t part)
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
static void find_siblings(struct search *s, struct sd_finding *f, const struct stack *stack, uint32_t part)
{
	uint32_t *numbers = sd_arena_array(s->arena, stack->end - stack->begin, sizeof(*numbers));

	s->memory = s->memory && numbers;
	for (size_t i = stack->begin; i < stack->end && s->memory; i++) {
		const struct unit *u = &s->units[s->order[i]];

		if (has_part(s, u, part))
			numbers[f->nsiblings++] = u->number;
	}
	f->siblings = numbers;
	f->among = sd_arena_text(s->arena, stack->word, strcspn(stack->word, "."));
	s->memory = s->memory && f->among;
}

/* "layers" or "experts", of which one is meant if there is one. */
static const char *one_of(const char *among, size_t n, char out[32])
{
	size_t length = strlen(among);

	snprintf(out, 32, "%.*s", (int)(length && n == 1 && among[length - 1] == 's' ? length - 1 : length), among);
	return out;
}

static const struct sd_target *find_target(const struct search *s, const char *name)
{
	uint32_t number = sd_names_find(&s->names, name);

	return number == SD_NO_NAME ? NULL : &s->m->targets[number];
}

static char *name_of(struct search *s, const struct stack *stack, uint32_t number, const char *part)
{
	return sd_arena_printf(s->arena, "%s%" PRIu32 "%s", stack->prefix, number, part);
}

/* ---- kinds ---- */

struct kind {
	uint64_t print;
	uint32_t type;
	const struct unit *unit; /* the first one */
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
static size_t next_entry(const struct search *s, const struct unit *u, size_t at, uint32_t module)
{
	while (at < u->end && s->parts[(uint32_t)s->entries[at]].module != module)
		at++;
	return at;
}

static struct difference compare(const struct search *s, const struct unit *odd, const struct unit *host,
				 uint32_t module)
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
static uint32_t find_slip(const struct search *s, const struct difference *d, uint32_t lacking)
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
static bool is_near(const struct search *s, const struct difference *d, bool alone)
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

/* Whether so many units say what one of the others should be like. */
static bool outweighs(size_t host, size_t odd)
{
	return host > odd && (odd == 1 ? host >= 2 : host >= 8 * odd);
}

/* The larger kind that is most like this one. */
static const struct kind *find_host(const struct search *s, const struct kind *kinds, size_t n, size_t odd,
				    uint32_t module, struct difference *d)
{
	const struct kind *best = NULL;

	for (size_t i = 0; i < n; i++) {
		struct difference now;

		if (!outweighs(kinds[i].n, kinds[odd].n) || kinds[i].type != kinds[odd].type)
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
static const char *differing_word(struct search *s, const char *name, const char *other)
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

/* A name that should be another one, by what the sibling host has. */
static void tell_slip(struct search *s, const struct stack *stack, const char *is, const char *meant, uint32_t part,
		      const struct unit *host)
{
	struct sd_finding *f = add_finding(s, SD_ODD_TYPO, is);
	const char *right = name_of(s, stack, host->number, s->parts[part].text), *word;
	char among[32];

	if (!f || !right || !meant)
		return;
	f->near = meant;
	find_siblings(s, f, stack, part);
	f->is = find_target(s, f->name);
	f->right = find_target(s, right);
	f->tensors = 1;
	if (!s->memory)
		return;
	word = differing_word(s, f->near, f->name);
	f->line = word ? sd_arena_printf(s->arena, "%s: %s? the other %zu %s have that", f->name, word, f->nsiblings,
					 one_of(f->among, f->nsiblings, among))
		       : NULL;
}

static void tell_typo(struct search *s, const struct stack *stack, const struct unit *u, uint32_t is, uint32_t meant,
		      const struct unit *host)
{
	const char *name = name_of(s, stack, u->number, s->parts[is].text);

	s->memory = s->memory && name;
	if (s->memory)
		tell_slip(s, stack, name, name_of(s, stack, u->number, s->parts[meant].text), meant, host);
}

/* How much of a part's text all of the parts begin with, up to a dot: 0 if nothing. */
static size_t common_module(const struct search *s, const uint32_t *parts, size_t n)
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
static bool has_module(const struct search *s, const struct unit *u, const char *text, size_t length)
{
	for (size_t i = u->begin; i < u->end; i++)
		if (strncmp(s->parts[(uint32_t)s->entries[i]].text, text, length) == 0)
			return true;
	return false;
}

static void tell_missing(struct search *s, const struct stack *stack, const struct unit *u, uint32_t part,
			 const struct unit *host)
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
	f = add_finding(s, SD_ODD_MISSING, name);
	if (!f || !right)
		return;
	find_siblings(s, f, stack, part);
	f->right = find_target(s, right);
	f->tensors = 1;
	if (s->memory)
		f->line = sd_arena_printf(s->arena, "%s is not there, and the other %zu %s have it", f->name,
					  f->nsiblings, one_of(f->among, f->nsiblings, among));
}

/* "layer 2 has no mlp.experts, which the other 5 have" */
static void tell_module(struct search *s, const struct stack *stack, const struct unit *u, const uint32_t *parts,
			size_t n, size_t length)
{
	const char *text = s->parts[parts[0]].text;
	char *module = sd_arena_text(s->arena, text, length);
	struct sd_finding *f = module ? add_finding(s, SD_ODD_MISSING, name_of(s, stack, u->number, module)) : NULL;
	char among[32];

	s->memory = s->memory && f;
	if (!f)
		return;
	find_siblings(s, f, stack, parts[0]);
	f->tensors = n;
	if (s->memory)
		f->line = sd_arena_printf(s->arena, "%s %" PRIu32 " has no %.*s, which the other %zu have",
					  one_of(f->among, 1, among), u->number, (int)(length - 2), text + 1,
					  f->nsiblings);
}

/* A layer has what others have whose type is another one by layer_types. */
static void tell_type(struct search *s, const struct stack *stack, const struct unit *u, uint32_t instead,
		      uint32_t lacks, size_t n)
{
	const char *is = s->parts[instead].text + 1, *should = s->parts[lacks].text + 1;
	struct sd_finding *f;
	char among[32];

	if (u->told)
		return;
	s->units[u - s->units].told = true;
	f = add_finding(s, SD_ODD_MISSING, name_of(s, stack, u->number, ""));
	if (!f)
		return;
	find_siblings(s, f, stack, lacks);
	if (s->memory)
		f->line = sd_arena_printf(s->arena,
					  "%s %" PRIu32 " has %.*s and no %.*s, which the other %zu have that "
					  "config.json's layer_types calls the same",
					  one_of(f->among, 1, among), u->number, (int)strcspn(is, "."), is,
					  (int)strcspn(should, "."), should, n);
}

/* Tells of one unit how it differs from its kind. */
static void tell_unit(struct search *s, const struct stack *stack, const struct unit *u, const struct kind *hosts,
		      const struct difference *d)
{
	const struct unit *host = hosts->unit;
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
static void compare_kinds(struct search *s, const struct stack *stack, const struct slot *slots, size_t count)
{
	struct kind kinds[KINDS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct unit *u = &s->units[slots[i].unit];
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
			const struct unit *u = &s->units[slots[i].unit];

			if (slots[i].print == kinds[k].print && u->type == kinds[k].type)
				tell_unit(s, stack, u, host, &d);
		}
	}
}

static bool has(const struct search *s, const struct unit *u, uint32_t module)
{
	return next_entry(s, u, u->begin, module) < u->end;
}

/* Whether no unit that has one module has the other one too. */
static bool excludes(const struct search *s, const struct slot *having, size_t n, uint32_t other)
{
	for (size_t i = 0; i < n; i++)
		if (has(s, &s->units[having[i].unit], other))
			return false;
	return true;
}

/*
 * A part of the unit that stands in the place of a module which it lacks: no unit that has that has this. One that is a
 * slip of it comes first. SD_NO_NAME: there is none.
 */
static uint32_t find_instead(const struct search *s, const struct unit *u, const struct slot *having, size_t n,
			     uint32_t meant, bool *slip)
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

static void tell_absent(struct search *s, const struct stack *stack, const struct unit *u, const struct slot *having,
			size_t n)
{
	const struct unit *host = &s->units[having->unit];
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
static size_t sort_out(const struct search *s, const struct stack *stack, const struct slot *slots, size_t count,
		       uint32_t type, struct slot *same, size_t *lacking)
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
static void compare_absent(struct search *s, const struct stack *stack, const struct slot *slots, size_t count,
			   struct slot *same)
{
	size_t n = 0, lacking = 0, seen = 0;
	uint32_t type = UINT32_MAX;

	for (size_t i = stack->begin; i < stack->end && seen < LACKING_MAX && s->memory; i++) {
		const struct unit *u = &s->units[s->order[i]];

		if (has(s, u, slots->module))
			continue;
		seen++;
		if (u->type != type)
			n = sort_out(s, stack, slots, count, u->type, same, &lacking);
		type = u->type;
		if (n && lacking <= LACKING_MAX && outweighs(n, lacking))
			tell_absent(s, stack, u, same, n);
	}
}

static int compare_slots(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;

	if (x->module != y->module)
		return x->module < y->module ? -1 : 1;
	return (x->unit > y->unit) - (x->unit < y->unit);
}

/* What the units of a stack have of each module. */
static size_t find_slots(const struct search *s, const struct stack *stack, struct slot *slots)
{
	size_t n = 0;

	for (size_t i = stack->begin; i < stack->end; i++) {
		const struct unit *u = &s->units[s->order[i]];
		size_t first = n;

		for (size_t e = u->begin; e < u->end; e++) {
			uint32_t part = (uint32_t)s->entries[e], module = s->parts[part].module;
			size_t k = first;

			while (k < n && slots[k].module != module)
				k++;
			if (k == n && n - first == MODULES_MAX)
				continue;
			if (k == n)
				slots[n++] = (struct slot){module, s->order[i], 0};
			slots[k].print = (slots[k].print ^ part) * 0x9e3779b97f4a7c15u;
			slots[k].print ^= slots[k].print >> 29;
		}
	}
	return n;
}

static void compare_units(struct search *s, const struct stack *stack)
{
	size_t room = 1, n, units = stack->end - stack->begin;
	struct slot *slots, *same;

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

/* ---- gaps and counts ---- */

/* "2 and 5", "0, 1, 2, 3, 4 and 7 more": the numbers from begin to end that no unit of a stack has. */
static const char *list_gaps(struct search *s, const struct stack *stack, uint64_t begin, uint64_t end, uint64_t *first,
			     uint64_t *n)
{
	const char *text = "";
	uint64_t named = 0;

	*n = 0;
	for (int telling = 0; telling < 2; telling++) {
		size_t k = stack->begin;

		for (uint64_t i = begin; i < end && text; i++) {
			while (k < stack->end && s->units[s->order[k]].number < i)
				k++;
			if (k < stack->end && s->units[s->order[k]].number == i)
				continue;
			if (!telling) {
				*first = *n ? *first : i;
				++*n;
			} else if (named++ < NAMED_MAX) {
				text = sd_arena_printf(s->arena, "%s%s%" PRIu64, text,
						       named == 1                       ? ""
						       : named == *n && *n <= NAMED_MAX ? " and "
											: ", ",
						       i);
			}
		}
	}
	if (text && *n > NAMED_MAX)
		text = sd_arena_printf(s->arena, "%s and %" PRIu64 " more", text, *n - NAMED_MAX);
	s->memory = s->memory && text;
	return text;
}

static void find_gaps(struct search *s, const struct stack *stack, uint64_t begin, uint64_t end)
{
	uint64_t first = 0, n;
	const char *text = list_gaps(s, stack, begin, end, &first, &n);
	struct sd_finding *f;
	char one[32], among[32];

	if (!n || !s->memory)
		return;
	f = add_finding(s, SD_ODD_GAP, sd_arena_printf(s->arena, "%s%" PRIu64 ".", stack->prefix, first));
	if (!f)
		return;
	snprintf(among, sizeof(among), "%.*s", (int)strcspn(stack->word, "."), stack->word);
	f->line = sd_arena_printf(s->arena, "%s %s of %" PRIu64 " %s not there: no key begins with %s",
				  one_of(among, n, one), text, end, n > 1 ? "are" : "is", f->name);
}

static bool is_experts(const struct stack *stack)
{
	return strncmp(stack->word, EXPERTS, strlen(EXPERTS)) == 0;
}

/* Whether experts are not those that config.json counts. */
static bool is_other_expert(const char *prefix)
{
	return strstr(prefix, "vis") || strstr(prefix, "audio") || strstr(prefix, "talker") || strstr(prefix, "mtp") ||
	       strstr(prefix, "shared");
}

/* How many experts the layers of one pattern have. */
struct census {
	size_t stacks, most, have; /* how many stacks; the largest; how many of them are as large as that */
};

static void count_stack(struct census *c, const struct stack *stack)
{
	size_t n = stack->end - stack->begin;

	c->stacks++;
	if (n > c->most) {
		c->most = n;
		c->have = 0;
	}
	c->have += n == c->most;
}

/* No layer has as many experts as config.json counts, though they begin with the first one. */
static void compare_with_config(struct search *s, const struct stack *stack, const struct census *c)
{
	uint64_t of;
	struct sd_finding *f;

	if (is_other_expert(stack->prefix) || c->have < c->stacks || !sd_config_count(s->m, SD_CONFIG_EXPERTS, &of) ||
	    of <= c->most || s->units[s->order[stack->end - 1]].number + 1 != c->most)
		return;
	f = add_finding(s, SD_ODD_COUNT, stack->prefix);
	if (f)
		f->line = sd_arena_printf(s->arena,
					  "of the %" PRIu64
					  " experts that config.json counts %zu are there: no key begins with %s%zu.",
					  of, c->most, stack->prefix, c->most);
}

/* The experts of a layer against those of the layers that are alike. */
static void compare_counts(struct search *s)
{
	struct census *census = calloc(s->patterns.used + 1, sizeof(*census));
	bool compared = false;

	s->memory = census;
	for (size_t i = 0; i < s->nstacks && s->memory; i++)
		if (is_experts(&s->stacks[i]))
			count_stack(&census[s->stacks[i].pattern], &s->stacks[i]);
	for (size_t i = 0; i < s->nstacks && s->memory; i++) {
		const struct stack *stack = &s->stacks[i];
		const struct census *c = &census[stack->pattern];
		size_t n = stack->end - stack->begin;
		struct sd_finding *f;

		if (is_experts(stack) && !compared) {
			compare_with_config(s, stack, c);
			compared = true;
		}
		/* A gap is told already. */
		if (!is_experts(stack) || n == c->most || c->have < 2 || 2 * c->have <= c->stacks ||
		    s->units[s->order[stack->end - 1]].number >= n)
			continue;
		f = add_finding(s, SD_ODD_COUNT, stack->prefix);
		if (f)
			f->line = sd_arena_printf(s->arena, "%s has %zu experts, and %zu other layers have %zu",
						  stack->prefix, n, c->have, c->most);
	}
	free(census);
}

/* Whether a unit has something that none of those in front of it has: a layer for prediction, among layers. */
static bool is_unlike(const struct search *s, const struct stack *stack, size_t at, uint64_t end)
{
	const struct unit *u = &s->units[s->order[at]];

	for (size_t e = u->begin; e < u->end; e++) {
		bool found = false;

		for (size_t i = stack->begin; i < at && !found && s->units[s->order[i]].number < end; i++)
			found = has_part(s, &s->units[s->order[i]], (uint32_t)s->entries[e]);
		if (!found)
			return true;
	}
	return false;
}

/* More layers than config.json counts, and of the same kinds. */
static void find_surplus(struct search *s, const struct stack *stack, uint64_t of)
{
	size_t at = stack->begin;
	struct sd_finding *f;

	while (at < stack->end && s->units[s->order[at]].number < of)
		at++;
	if (at == stack->begin || at == stack->end || is_unlike(s, stack, at, of))
		return;
	f = add_finding(s, SD_ODD_COUNT, sd_arena_printf(s->arena, "%s%" PRIu64 ".", stack->prefix, of));
	if (f)
		f->line = sd_arena_printf(s->arena,
					  "config.json counts %" PRIu64 " layers, and there are %" PRIu32
					  ": keys begin with %s",
					  of, s->units[s->order[stack->end - 1]].number + 1, f->name);
}

static void find_all_gaps(struct search *s, const struct stack *layers)
{
	for (size_t i = 0; i < s->nstacks && s->memory; i++) {
		const struct stack *stack = &s->stacks[i];
		uint64_t begin = s->units[s->order[stack->begin]].number;
		uint64_t end = (uint64_t)s->units[s->order[stack->end - 1]].number + 1, of;
		bool counted = false;

		if (stack == layers && sd_config_count(s->m, SD_CONFIG_LAYERS, &of) && of <= TYPES_MAX) {
			begin = 0;
			end = of;
			counted = true;
			find_surplus(s, stack, of);
		}
		/* A few of many numbers are a choice, and no gaps. */
		if (counted || end - begin <= 2 * (stack->end - stack->begin))
			find_gaps(s, stack, begin, end);
	}
	compare_counts(s);
}

/* A name of no layer that is nearly this one, or NULL. */
static const char *find_near(const struct search *s, const char *missing)
{
	size_t length = strlen(missing), stack;
	uint32_t number;

	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *name = s->m->targets[i].name;
		size_t now = strlen(name);

		if (now <= length + SLIPS && length <= now + SLIPS && !sd_stack_layer(name, &stack, &number) &&
		    sd_text_distance(name, missing, SLIPS) <= SLIPS)
			return name;
	}
	return NULL;
}

static void tell_end(void *user, const char *missing)
{
	struct search *s = user;
	const char *near = find_near(s, missing), *name = sd_arena_text(s->arena, missing, strlen(missing));
	struct sd_finding *f = add_finding(s, near ? SD_ODD_TYPO : SD_ODD_GAP, near && name ? near : name);

	if (!f)
		return;
	f->tensors = 1;
	f->near = near ? name : NULL;
	f->is = near ? find_target(s, near) : NULL;
	f->line = near ? sd_arena_printf(s->arena, "%s: %s? that is not there", near, name)
		       : sd_arena_printf(s->arena, "%s is not there, nor another one in its place", name);
}

/* ---- shapes and dtypes ---- */

static bool is_swapped(const struct sd_target *a, const struct sd_target *b)
{
	return sd_shape_is_transposed(a->shape, a->rank, b->shape, b->rank);
}

/* One alone of many has another shape, and the others all have the same. */
static bool is_odd_shape(const struct class *class, const struct variant *odd, const struct variant *right)
{
	return odd->n == 1 && class->nvariants == 2 && right->n >= SHAPE_HOSTS &&
	       !sd_shape_equal(odd->first->shape, odd->first->rank, right->first->shape, right->first->rank);
}

static void tell_variant(struct search *s, const struct class *class, const struct variant *odd,
			 const struct variant *right)
{
	bool swapped = is_swapped(odd->first, right->first);
	bool shape = swapped || is_odd_shape(class, odd, right);
	struct sd_finding *f = add_finding(s, shape ? SD_ODD_SHAPE : SD_ODD_DTYPE, odd->first->name);
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
static void compare_members(struct search *s, const struct class *class)
{
	const struct variant *right = &class->variants[0];

	if (class->nvariants < 2 || class->nvariants > VARIANTS_MAX)
		return;
	for (size_t v = 1; v < class->nvariants; v++)
		if (class->variants[v].n > right->n)
			right = &class->variants[v];
	for (size_t v = 0; v < class->nvariants && s->memory; v++) {
		const struct variant *odd = &class->variants[v];

		if (odd == right || !outweighs(right->n, odd->n) || right->n < 3)
			continue;
		if (is_swapped(odd->first, right->first) || is_odd_shape(class, odd, right) ||
		    (odd->n == 1 && odd->first->dtype != right->first->dtype && !s->quantised))
			tell_variant(s, class, odd, right);
	}
}

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

static void tell_wrapper(struct search *s, const char *word, const struct wrapped *wrapped)
{
	size_t length = strlen(word);
	struct sd_finding *f = add_finding(s, SD_ODD_PREFIX, sd_arena_text(s->arena, word, length));

	if (!f)
		return;
	f->tensors = wrapped->n;
	f->line = sd_arena_printf(s->arena,
				  "%zu of %zu names have the %s of a wrapper, such as %s: put sd-rename -e "
				  "'s/%s%.*s[.]//g' before this",
				  wrapped->n, s->m->ntargets, word, wrapped->first, *word == '_' ? "" : "^",
				  (int)length - 1, word);
}

static void find_wrapper(struct search *s)
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

/* How many names of one stack the other one has, too. */
static size_t count_shared(const struct search *s, const struct sd_stack *a, const struct sd_stack *b)
{
	char room[NAME_MAX_LENGTH + 1];
	size_t n = 0;

	for (size_t i = 0; i < s->m->ntargets; i++) {
		const char *name = s->m->targets[i].name;

		if (is_in(name, a)) {
			name = move_name(name, a, b, room);
			n += name && sd_names_find(&s->names, name) != SD_NO_NAME;
		}
	}
	return n;
}

/* "^model[.]layers[.]", for the line of an edit or --exclude. */
static const char *quote_stack(struct search *s, const struct sd_stack *stack)
{
	char *text = sd_arena_alloc(s->arena, 3 * stack->length + 1), *end = text;

	for (size_t i = 0; text && i < stack->length; i++)
		end += sprintf(end, stack->name[i] == '.' ? "[%c]" : "%c", stack->name[i]);
	s->memory = s->memory && text;
	return text ? text : "";
}

static void tell_stack_slip(struct search *s, const struct sd_stack *is, const struct sd_stack *meant)
{
	const char *name = sd_arena_printf(s->arena, "%.*s.", (int)is->length, is->name);
	struct sd_finding *f = add_finding(s, SD_ODD_TYPO, name);

	if (!f)
		return;
	f->near = sd_arena_printf(s->arena, "%.*s.", (int)meant->length, meant->name);
	f->tensors = is->keys;
	f->line = sd_arena_printf(s->arena,
				  "%zu names begin with %s and %zu with %s: put sd-rename -e 's/^%s[.]/%s/' "
				  "before this",
				  is->keys, name, meant->keys, f->near ? f->near : "", quote_stack(s, is),
				  f->near ? f->near : "");
	s->memory = s->memory && f->near;
}

static void tell_twice(struct search *s, const struct sd_stack *a, const struct sd_stack *b)
{
	const char *name = sd_arena_printf(s->arena, "%.*s.", (int)a->length, a->name);
	struct sd_finding *f = add_finding(s, SD_ODD_COUNT, name);

	if (!f)
		return;
	f->tensors = a->keys;
	f->line = sd_arena_printf(s->arena,
				  "the layers are there twice, behind %s and behind %.*s.: two checkpoints in one? "
				  "sd-cat --exclude '^%s[.]' leaves out the first ones",
				  name, (int)b->length, b->name, quote_stack(s, a));
}

/* Compares what stands in front of layers. What a slip has is compared as if it were right. */
static void compare_beginnings(struct search *s)
{
	size_t n = sd_stack_list(s->m, s->stacks_of);

	for (size_t i = 0; i < n && s->memory; i++)
		for (size_t k = 0; k < n && s->memory; k++) {
			const struct sd_stack *a = &s->stacks_of[i], *b = &s->stacks_of[k];
			bool fewer = 2 * a->keys <= b->keys && is_slip(a, b);
			bool same = a->keys == b->keys && i < k && a->keys > 1 && !s->adapter;
			size_t shared = fewer || same ? count_shared(s, a, b) : 0;

			if (fewer && !shared) {
				s->slips[s->nslips++] = (struct slip){a, b};
				tell_stack_slip(s, a, b);
				break;
			}
			if (same && shared == a->keys)
				tell_twice(s, a, b);
		}
}

static void tell_zeros(struct search *s)
{
	char room[NAME_MAX_LENGTH + 1], more[48] = "";
	struct sd_finding *f = add_finding(s, SD_ODD_TYPO, s->zero);

	if (!f || !strip_zeros(s->zero, room))
		return;
	if (s->nzeros > 1)
		snprintf(more, sizeof(more), " and %zu more names", s->nzeros - 1);
	f->near = sd_arena_text(s->arena, room, strlen(room));
	f->is = find_target(s, s->zero);
	f->tensors = s->nzeros;
	f->line = sd_arena_printf(s->arena,
				  "%s%s: a number with a 0 in front: put sd-rename -e "
				  "'s/(?<=[.])0+(?=[0-9]+([.]|$))//g' before this",
				  s->zero, more);
	s->memory = s->memory && f->near;
}

/* ---- one name ---- */

/* How many names are the same but for their numbers. */
static size_t count_alike(const struct sd_manifest *m, const struct parsed *like)
{
	char pattern[NAME_MAX_LENGTH + 1], other[NAME_MAX_LENGTH + 1];
	size_t n = 0;

	write_pattern(like, 0, like->length, pattern);
	for (size_t i = 0; i < m->ntargets; i++) {
		struct parsed p;

		if (!parse(m->targets[i].name, &p) || p.n != like->n)
			continue;
		write_pattern(&p, 0, p.length, other);
		n += strcmp(other, pattern) == 0;
	}
	return n;
}

static bool same_numbers(const struct parsed *a, const struct parsed *b)
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
	struct parsed p;

	return parse(name, &p) && count_alike(m, &p) == 1;
}

const char *sd_siblings_near(const struct sd_manifest *m, const char *missing)
{
	const char *best = NULL;
	unsigned distance = SLIPS + 1;
	size_t alike = 0, counted = 0;
	struct parsed wanted, p;

	if (!parse(missing, &wanted))
		return NULL;
	for (size_t i = 0; i < m->ntargets && counted < NEAR_MAX; i++) {
		const char *name = m->targets[i].name;
		unsigned now;

		if (!parse(name, &p) || p.length + SLIPS < wanted.length || wanted.length + SLIPS < p.length ||
		    !same_numbers(&p, &wanted))
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

/* ---- all of it ---- */

static int compare_findings(const void *a, const void *b)
{
	const struct sd_finding *x = a, *y = b;

	return x->kind != y->kind ? (x->kind > y->kind) - (x->kind < y->kind) : sd_text_natural(x->name, y->name);
}

static void run(struct search *s)
{
	const struct sd_side_file *config = sd_manifest_side(s->m, "config.json");
	struct stack *layers;

	s->memory = sd_names_reserve(&s->names, s->m->ntargets);
	for (size_t i = 0; i < s->m->ntargets && s->memory; i++)
		read_name(s, &s->m->targets[i]);
	if (s->memory)
		compare_beginnings(s);
	for (size_t i = 0; i < s->m->ntargets && s->memory; i++)
		if (sd_names_find(&s->names, s->m->targets[i].name) == i)
			read_target(s, &s->m->targets[i]);
	if (s->memory && s->nzeros)
		tell_zeros(s);
	if (s->memory)
		sort_parts(s);
	if (s->memory)
		sort_units(s);
	if (config && s->memory)
		sd_config_find(config, "layer_types", take_type, s);
	if (config && s->memory && !s->ntypes)
		sd_config_find(config, "text_config.layer_types", take_type, s);
	layers = s->memory ? main_stack(s) : NULL;
	if (layers)
		give_types(s, layers);
	if (s->memory)
		find_wrapper(s);
	if (s->memory && !s->adapter) {
		find_all_gaps(s, layers);
		sd_ends_missing(s->m, tell_end, s);
	}
	for (size_t i = 0; i < s->nstacks && s->memory; i++)
		compare_units(s, &s->stacks[i]);
	for (size_t i = 0; i < s->nclasses && s->memory; i++)
		compare_members(s, &s->classes[i]);
}

static void free_search(struct search *s)
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
	struct search s = {.m = m, .arena = arena, .findings = findings, .err = err, .memory = true};

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
