/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds keys that two rules of a stage match, by running all patterns of the stage at once: small automata, made
 * deterministic as far as they are reached. Patterns are regular languages, so this is exact; a stage that needs more
 * nodes or states than there is time for when a map is loaded is let through, and so is what comes behind it when the
 * time for the whole map is used up.
 */
#include "map/compiled.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define RULES_MAX 64
#define STATES_MAX 4096 /* real maps need a few hundred */
#define NODES_MAX 16384 /* and about a thousand; closures take 32 MiB then */
/* Words of sets, for a whole map: a tenth of a second. Real maps need two million at most. */
#define WORK_MAX (UINT64_C(1) << 26)
#define SLOTS (4 * STATES_MAX)
#define COMBINATIONS_MAX 64
#define NO_RANK (SD_RANK_MAX + 1)

enum node_kind { SPLIT, BYTE, DIGIT, NO_DOT, ANY_BYTE, ACCEPT };

struct node {
	enum node_kind kind;
	unsigned char byte;
	uint32_t to, other; /* other: of a SPLIT; the rule of an ACCEPT is to */
};

/* A set of nodes is words uint64_t. */
struct state {
	uint32_t parent; /* the state it was reached from, NONE for the first */
	unsigned char by;
};

struct automaton {
	struct node *nodes;
	uint32_t nnodes;
	size_t nodes_room;
	uint64_t *closures; /* of each node, nnodes sets */
	size_t words;
	unsigned char alphabet[256];
	uint32_t nalphabet;
	struct state *states;
	size_t nstates, states_room;
	uint64_t *sets; /* of each state */
	size_t sets_room;
	uint32_t *slots; /* hash table of states, NONE: free */
	uint64_t *work;  /* words of sets that may still be looked at, for all automata of a map */
	bool memory;     /* ran out */
};

/* What is seen of a pair of rules: a key that both match and that the first takes; one that the first takes alone. */
struct pair {
	uint32_t both;
	bool alone;
};

static uint32_t add_node(struct automaton *a, enum node_kind kind, unsigned char byte, uint32_t to, uint32_t other)
{
	if (a->nnodes > NODES_MAX)
		return 0; /* more are not looked at */
	if (a->memory || !sd_array_grow(&a->nodes, a->nnodes, &a->nodes_room, sizeof(*a->nodes))) {
		a->memory = true;
		return 0;
	}
	a->nodes[a->nnodes] = (struct node){kind, byte, to, other};
	return a->nnodes++;
}

static void know_byte(struct automaton *a, unsigned char byte)
{
	if (!memchr(a->alphabet, byte, a->nalphabet))
		a->alphabet[a->nalphabet++] = byte;
}

static uint32_t add_text(struct automaton *a, const char *text, uint32_t next)
{
	for (size_t i = strlen(text); i-- > 0 && a->nnodes <= NODES_MAX;) {
		know_byte(a, (unsigned char)text[i]);
		next = add_node(a, BYTE, (unsigned char)text[i], next, 0);
	}
	return next;
}

/* One or more, or any number, of a kind of characters. */
static uint32_t add_run(struct automaton *a, enum sd_map_hole_kind kind, uint32_t next)
{
	uint32_t one = add_node(a, kind == HOLE_NUMBER ? DIGIT : kind == HOLE_WORD ? NO_DOT : ANY_BYTE, 0, 0, 0);
	uint32_t again = add_node(a, SPLIT, 0, one, next);

	if (a->memory || a->nnodes > NODES_MAX)
		return 0;
	a->nodes[one].to = again;
	return kind == HOLE_ANY ? again : one;
}

/* The nodes of a pattern, from its end to its beginning, which is returned. */
static uint32_t add_pattern(struct automaton *a, const struct sd_map *map, const struct sd_pattern *p,
			    const struct sd_map_holes *holes, uint32_t rule)
{
	uint32_t next = add_node(a, ACCEPT, 0, rule, 0);

	for (uint32_t i = p->n; i-- > 0;) {
		const struct sd_map_element *e = &p->elements[i];
		const struct sd_map_hole *hole = &holes->hole[e->kind == HOLE ? e->number : 0];

		if (e->kind == LITERAL) {
			next = add_text(a, e->text, next);
		} else if (e->kind == TEXT) {
			uint32_t then = add_text(a, map->texts[e->number].then, next);

			next = add_node(a, SPLIT, 0, then, add_text(a, map->texts[e->number].otherwise, next));
		} else if (hole->kind == HOLE_CHOICE) {
			uint32_t all = add_text(a, hole->words[p->side][0], next);

			for (uint32_t w = 1; w < hole->nwords; w++)
				all = add_node(a, SPLIT, 0, all, add_text(a, hole->words[p->side][w], next));
			next = all;
		} else {
			next = add_run(a, hole->kind, next);
		}
	}
	return next;
}

/* Adds a node, or what a split leads to, to a set. */
static void close_over(const struct automaton *a, uint32_t node, uint64_t *set, uint64_t *seen)
{
	while (!(seen[node / 64] >> node % 64 & 1)) {
		seen[node / 64] |= UINT64_C(1) << node % 64;
		if (a->nodes[node].kind != SPLIT) {
			set[node / 64] |= UINT64_C(1) << node % 64;
			return;
		}
		close_over(a, a->nodes[node].other, set, seen);
		node = a->nodes[node].to;
	}
}

/* Whether there is time to look at so many sets. */
static bool may_work(struct automaton *a, uint64_t sets)
{
	uint64_t words = sets * a->words;

	if (words > *a->work)
		return false;
	*a->work -= words;
	return true;
}

static bool make_closures(struct automaton *a)
{
	uint64_t *seen;

	a->closures = calloc((size_t)a->nnodes * a->words, sizeof(*a->closures));
	seen = calloc(a->words, sizeof(*seen));
	for (uint32_t i = 0; a->closures && seen && i < a->nnodes; i++) {
		memset(seen, 0, a->words * sizeof(*seen));
		close_over(a, i, a->closures + i * a->words, seen);
	}
	free(seen);
	return a->closures && seen;
}

/* A byte of each kind that no pattern names stands for all of them. */
static void complete_alphabet(struct automaton *a)
{
	static const char digits[] = "0123456789", others[] = "xyzwvutsrqponmlkjihgfedcba_-/ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	know_byte(a, '.');
	for (const char *kind = digits; kind; kind = kind == digits ? others : NULL)
		for (const char *c = kind; *c; c++)
			if (!memchr(a->alphabet, *c, a->nalphabet)) {
				know_byte(a, (unsigned char)*c);
				break;
			}
}

static bool consumes(const struct node *node, unsigned char byte)
{
	switch (node->kind) {
	case BYTE:
		return node->byte == byte;
	case DIGIT:
		return byte >= '0' && byte <= '9';
	case NO_DOT:
		return byte != '.';
	case ANY_BYTE:
		return true;
	default:
		return false;
	}
}

/* Adds the state of this set unless it is there. False when memory or the number of states is at its end. */
static bool add_state(struct automaton *a, const uint64_t *set, uint32_t parent, unsigned char by)
{
	size_t bytes = a->words * sizeof(*set), mask = SLOTS - 1;
	size_t slot = XXH3_64bits(set, bytes) & mask;

	for (; a->slots[slot] != NONE; slot = (slot + 1) & mask)
		if (memcmp(a->sets + a->slots[slot] * a->words, set, bytes) == 0)
			return true;
	if (a->nstates == STATES_MAX || !sd_array_grow(&a->states, a->nstates, &a->states_room, sizeof(*a->states)))
		return false;
	while (a->sets_room < (a->nstates + 1) * a->words)
		if (!sd_array_grow(&a->sets, a->sets_room, &a->sets_room, sizeof(*a->sets)))
			return false;
	a->slots[slot] = (uint32_t)a->nstates;
	memcpy(a->sets + a->nstates * a->words, set, bytes);
	a->states[a->nstates++] = (struct state){parent, by};
	return true;
}

/* The first node from this one on that is in the set of the state, nnodes if none is: sets are large and hold few. */
static uint32_t next_of(const struct automaton *a, size_t state, uint32_t node)
{
	const uint64_t *set = a->sets + state * a->words;

	for (size_t w = node / 64; w < a->words; w++) {
		uint64_t rest = w == node / 64 ? set[w] >> node % 64 << node % 64 : set[w];

		if (rest)
			return (uint32_t)w * 64 + (uint32_t)__builtin_ctzll(rest);
	}
	return a->nnodes;
}

static bool explore(struct automaton *a, const uint64_t *start)
{
	uint64_t *set = malloc(a->words * sizeof(*set));
	bool done = set && add_state(a, start, NONE, 0);

	for (size_t s = 0; done && s < a->nstates; s++)
		for (uint32_t c = 0; done && c < a->nalphabet; c++) {
			uint64_t any = 0;

			done = may_work(a, 2);
			memset(set, 0, a->words * sizeof(*set));
			for (uint32_t n = next_of(a, s, 0); n < a->nnodes; n = next_of(a, s, n + 1))
				if (consumes(&a->nodes[n], a->alphabet[c]) && (done = done && may_work(a, 1)))
					for (size_t w = 0; w < a->words; w++)
						any |= set[w] |= a->closures[a->nodes[n].to * a->words + w];
			if (done && any)
				done = add_state(a, set, (uint32_t)s, a->alphabet[c]);
		}
	free(set);
	return done;
}

static void automaton_free(struct automaton *a)
{
	free(a->nodes);
	free(a->closures);
	free(a->states);
	free(a->sets);
	free(a->slots);
}

/* The shortest key that leads to a state, cut at size. */
static const char *key_of(const struct automaton *a, uint32_t state, char *key, size_t size)
{
	size_t length = 0;

	for (uint32_t s = state; a->states[s].parent != NONE; s = a->states[s].parent)
		length++;
	key[length < size ? length : size - 1] = '\0';
	for (uint32_t s = state; a->states[s].parent != NONE; s = a->states[s].parent)
		if (--length < size - 1)
			key[length] = (char)a->states[s].by;
	return key;
}

/* Whether the list fits some shapes of its rank and not others: a size in it is known beforehand. */
static bool tells_shapes(const struct sd_map *map, const struct sd_axes *axes)
{
	for (uint32_t d = 0; d < axes->n; d++)
		for (uint32_t f = 0; f < axes->dims[d].n; f++) {
			uint32_t axis = axes->dims[d].factors[f].axis;

			if (axis == NO_AXIS || map->axes.fixed[axis] != SIZE_OPEN)
				return true;
			for (uint32_t i = 0; i < map->nsizes; i++)
				if (map->sizes[i].axis == axis)
					return true;
		}
	return false;
}

/* Whether a rule may pass a key on that its pattern and its rank match, so that others have to be able to take it. */
static bool may_decline(const struct sd_map *map, const struct sd_rule *rule, int side)
{
	return rule->nexcepts || rule->nconditions || rule->counts || rule->side[side].dtype ||
	       rule->side[side].scale || tells_shapes(map, &rule->side[side].axes);
}

/* A list is a condition: the rule is for tensors of one rank. NO_RANK: for tensors of ranks that no list has. */
static bool is_for_rank(const struct sd_rule *rule, int side, uint32_t rank)
{
	const struct sd_axes *axes = &rule->side[side].axes;

	return !axes->text || axes->n == rank;
}

static bool is_same_outcome(const struct sd_rule *a, const struct sd_rule *b, int side)
{
	return a->outcome[side] == b->outcome[side] && a->outcome[side] != MOVE;
}

/* The rules of the stage that read tensors of this rank on this side with these values of the options. */
static uint32_t choose(const struct sd_map *map, const struct sd_map_stage *stage, int side, uint32_t rank,
		       const uint32_t *values, const struct sd_rule **rules)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < stage->nrules && n < RULES_MAX; i++) {
		const struct sd_rule *rule = &stage->rules[i];
		bool wanted = rule->outcome[side] != NOT_READ && rule->first_part[side] &&
			      !sd_rule_is_beside(rule, side) && is_for_rank(rule, side, rank) &&
			      !may_decline(map, rule, side);

		for (uint32_t g = 0; g < rule->nguards; g++)
			wanted = wanted && values[rule->guards[g].option] == rule->guards[g].value;
		if (wanted)
			rules[n++] = rule;
	}
	return n;
}

/* Goes through all states and notes which rules match there. first[i]: a key that rule i takes, or NONE. */
static void compare(const struct automaton *a, uint32_t n, struct pair *pairs, uint32_t *first)
{
	for (uint32_t s = 0; s < a->nstates; s++) {
		bool matches[RULES_MAX] = {false};
		uint32_t taker = NONE;

		for (uint32_t k = next_of(a, s, 0); k < a->nnodes; k = next_of(a, s, k + 1))
			if (a->nodes[k].kind == ACCEPT)
				matches[a->nodes[k].to] = true;
		for (uint32_t i = n; i-- > 0;)
			if (matches[i])
				taker = i;
		if (taker == NONE)
			continue;
		if (first[taker] == NONE)
			first[taker] = s;
		for (uint32_t j = taker + 1; j < n; j++) {
			struct pair *pair = &pairs[taker * n + j];

			if (!matches[j])
				pair->alone = true;
			else if (pair->both == NONE)
				pair->both = s;
		}
	}
}

static enum sd_result judge(const struct automaton *a, const struct sd_rule **rules, uint32_t n, int side,
			    uint32_t rank, const struct pair *pairs, const uint32_t *first, struct sd_error *err)
{
	char key[256];

	for (uint32_t j = 1; j < n; j++) {
		if (first[j] == NONE && (rank == NO_RANK || rules[j]->side[side].axes.text))
			return sd_map_fail(err, rules[j]->file, rules[j]->line,
					   "no key gets here: rules above take all that %s matches",
					   rules[j]->side[side].key.text);
		for (uint32_t i = 0; i < j; i++) {
			const struct pair *pair = &pairs[i * n + j];

			if (pair->both != NONE && pair->alone && !is_same_outcome(rules[i], rules[j], side))
				return sd_map_fail(err, rules[j]->file, rules[j]->line,
						   "\"%s\" fits this rule and that of line %u, and neither is an "
						   "exception to the other",
						   key_of(a, pair->both, key, sizeof(key)), rules[i]->line);
		}
	}
	return SD_OK;
}

static enum sd_result check_rules(const struct sd_map *map, const struct sd_rule **rules, uint32_t n, int side,
				  uint32_t rank, uint64_t *work, struct sd_error *err)
{
	struct automaton a = {.work = work};
	struct pair *pairs = malloc((size_t)n * n * sizeof(*pairs));
	uint32_t first[RULES_MAX], starts[RULES_MAX];
	uint64_t *start = NULL;
	enum sd_result result = SD_OK;

	for (uint32_t i = 0; i < n; i++)
		starts[i] = add_pattern(&a, map, &rules[i]->side[side].key, &rules[i]->holes, i);
	a.slots = malloc(SLOTS * sizeof(*a.slots));
	a.words = a.nnodes / 64 + 1;
	if (a.nnodes > NODES_MAX || !may_work(&a, a.nnodes)) {
		result = SD_OK; /* let through */
	} else if (!pairs || !a.slots || a.memory || !make_closures(&a) || !(start = calloc(a.words, sizeof(*start)))) {
		result = sd_fail_memory(err);
	} else {
		complete_alphabet(&a);
		memset(a.slots, 0xFF, SLOTS * sizeof(*a.slots));
		for (uint32_t i = 0; i < n; i++) {
			first[i] = NONE;
			for (size_t w = 0; w < a.words; w++)
				start[w] |= a.closures[starts[i] * a.words + w];
		}
		for (uint32_t i = 0; i < n * n; i++)
			pairs[i] = (struct pair){NONE, false};
		if (explore(&a, start)) {
			compare(&a, n, pairs, first);
			result = judge(&a, rules, n, side, rank, pairs, first, err);
		}
	}
	free(pairs);
	free(start);
	automaton_free(&a);
	return result;
}

/* The next combination of the options that guard rules of the stage; false after the last. */
static bool next_values(const struct sd_map *map, const bool *guarded, uint32_t *values)
{
	for (uint32_t i = 0; i < map->noptions; i++) {
		if (!guarded[i])
			continue;
		if (++values[i] < map->options[i].nvalues)
			return true;
		values[i] = 0;
	}
	return false;
}

static bool has_rank(const struct sd_map_stage *stage, int side, uint32_t rank)
{
	bool found = rank == NO_RANK;

	for (uint32_t i = 0; i < stage->nrules; i++)
		found |= stage->rules[i].side[side].axes.text && stage->rules[i].side[side].axes.n == rank;
	return found;
}

static enum sd_result check_side(const struct sd_map *map, const struct sd_map_stage *stage, int side,
				 const uint32_t *values, uint64_t *work, struct sd_error *err)
{
	const struct sd_rule *rules[RULES_MAX];

	for (uint32_t rank = 0; rank <= NO_RANK; rank++) {
		uint32_t n = has_rank(stage, side, rank) ? choose(map, stage, side, rank, values, rules) : 0;

		if (n > 1 && check_rules(map, rules, n, side, rank, work, err) != SD_OK)
			return err->result;
	}
	return SD_OK;
}

static enum sd_result check_stage(const struct sd_map *map, const struct sd_map_stage *stage, bool *guarded,
				  uint32_t *values, uint64_t *work, struct sd_error *err)
{
	uint32_t combinations = 0;

	memset(guarded, 0, map->noptions * sizeof(*guarded));
	memset(values, 0, map->noptions * sizeof(*values));
	for (uint32_t i = 0; i < stage->nrules; i++)
		for (uint32_t g = 0; g < stage->rules[i].nguards; g++)
			guarded[stage->rules[i].guards[g].option] = true;
	do {
		for (int side = LEFT; side <= RIGHT; side++)
			if (check_side(map, stage, side, values, work, err) != SD_OK)
				return err->result;
	} while (++combinations < COMBINATIONS_MAX && next_values(map, guarded, values));
	return SD_OK;
}

enum sd_result sd_map_check_overlap(const struct sd_map *map, struct sd_error *err)
{
	bool *guarded = calloc(map->noptions + 1, sizeof(*guarded));
	uint32_t *values = calloc(map->noptions + 1, sizeof(*values));
	uint64_t work = WORK_MAX;
	enum sd_result result = guarded && values ? SD_OK : sd_fail_memory(err);

	for (uint32_t i = 0; i < map->nstages && result == SD_OK; i++)
		result = check_stage(map, &map->stages[i], guarded, values, &work, err);
	free(guarded);
	free(values);
	return result;
}
