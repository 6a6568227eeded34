/* SPDX-License-Identifier: Apache-2.0 */
/* Which name was meant: an edit distance over letters and whole numbers. */
#include "base/nearest.h"

#include <stdbool.h>
#include <string.h>

/* A cost: how many numbers are wrong, then what the slips of letters cost, then how far off the numbers are. */
#define SLIP (UINT64_C(1) << 20)
#define EXCHANGED (2 * SLIP)
#define ADDED (2 * SLIP)
#define REPLACED (3 * SLIP)
#define NUMBER (UINT64_C(1) << 40)
#define FAR 4095u

/* What is as bad as this, is no slip any more. */
#define TOO_MANY_NUMBERS 3
#define TOO_MANY_SLIPS 12u

/* Of two names, what differs: more than so many tokens of it are no slip. */
#define TOKENS_MAX 256

/* A letter, a whole number, or a * of the key. */
struct token {
	unsigned char letter; /* '0' for a number */
	uint32_t length;      /* of the number's text */
	uint64_t number;
};

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t price(const struct token *t)
{
	return t->letter == '0' ? NUMBER : ADDED;
}

static uint64_t price_to_replace(const struct token *a, const struct token *b)
{
	uint64_t far = a->number < b->number ? b->number - a->number : a->number - b->number;

	if (a->letter != b->letter)
		return a->letter == '0' || b->letter == '0' ? NUMBER + REPLACED : REPLACED;
	if (a->letter != '0' || (far == 0 && a->length == b->length))
		return 0;
	return NUMBER + (far < FAR ? far : FAR);
}

/* The tokens of a text: how many, or TOKENS_MAX + 1 where there are more. Numbers are as good as their 19 digits. */
static size_t cut(const char *text, const char *end, struct token *tokens)
{
	size_t n = 0;

	while (text < end) {
		struct token *t = &tokens[n];

		if (n++ == TOKENS_MAX)
			break;
		*t = (struct token){.letter = digit(*text) ? '0' : (unsigned char)*text};
		if (!digit(*text)) {
			text++;
			continue;
		}
		for (; text < end && digit(*text); text++)
			if (t->length++ < 19)
				t->number = t->number * 10 + (uint64_t)(*text - '0');
	}
	return n;
}

/* What it takes to make a (with its *) into b; more than limit is limit + 1. */
static uint64_t distance(const struct token *a, size_t na, const struct token *b, size_t nb, uint64_t limit)
{
	uint64_t rows[3][TOKENS_MAX + 1], *before = rows[0], *last = rows[1], *row = rows[2];

	last[0] = 0;
	for (size_t k = 0; k < nb; k++)
		last[k + 1] = last[k] + price(&b[k]);
	for (size_t i = 0; i < na; i++) {
		bool star = a[i].letter == '*';
		uint64_t lowest = row[0] = last[0] + (star ? 0 : price(&a[i])), *free_row = before;

		for (size_t k = 0; k < nb; k++) {
			uint64_t cost =
				least(last[k + 1] + (star ? 0 : price(&a[i])), row[k] + (star ? 0 : price(&b[k])));

			if (!star)
				cost = least(cost, last[k] + price_to_replace(&a[i], &b[k]));
			if (i && k && a[i].letter != '0' && b[k].letter != '0' && a[i].letter == b[k - 1].letter &&
			    a[i - 1].letter == b[k].letter)
				cost = least(cost, before[k - 1] + EXCHANGED);
			row[k + 1] = cost;
			lowest = least(lowest, cost);
		}
		if (lowest > limit)
			return limit + 1;
		before = last;
		last = row;
		row = free_row;
	}
	return least(last[nb], limit + 1);
}

/* How much two names have in common in front. Half a number is nothing. */
static size_t common_front(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n] && a[n] != '*')
		n++;
	if (digit(a[n]) || digit(b[n]))
		while (n && digit(a[n - 1]))
			n--;
	return n;
}

/* And at the end of a and b, whose lengths are given. */
static size_t common_back(const char *a, size_t na, const char *b, size_t nb)
{
	size_t n = 0;

	while (n < na && n < nb && a[na - n - 1] == b[nb - n - 1] && a[na - n - 1] != '*')
		n++;
	while (n && digit(a[na - n]))
		n--;
	return n;
}

/* Whether it is more than slips make of a key; of a short one there has to be something left. */
static bool is_too_much(uint64_t cost, const char *key)
{
	size_t length = strlen(key);

	return cost / NUMBER >= TOO_MANY_NUMBERS ||
	       cost % NUMBER / SLIP >= (length < TOO_MANY_SLIPS ? length : TOO_MANY_SLIPS);
}

struct sd_nearest sd_nearest_begin(const char *key)
{
	return (struct sd_nearest){.key = key, .cost = TOO_MANY_NUMBERS * NUMBER};
}

static bool ends_in_part(const char *key, const char *name)
{
	size_t nkey = strlen(key), nname = strlen(name);

	return nname && nkey > nname && key[nkey - nname - 1] == '.' && strcmp(key + nkey - nname, name) == 0;
}

static void look_at_pieces(struct sd_nearest *n, const char *name)
{
	if ((!n->whole || strlen(name) < strlen(n->whole)) && *n->key && strstr(name, n->key))
		n->whole = name;
	if ((!n->bare || strlen(name) > strlen(n->bare)) && ends_in_part(n->key, name))
		n->bare = name;
}

void sd_nearest_look(struct sd_nearest *n, const char *name)
{
	struct token a[TOKENS_MAX + 1], b[TOKENS_MAX + 1];
	size_t front = common_front(n->key, name), na = strlen(n->key) - front, nb = strlen(name) - front;
	const char *key_rest = n->key + front, *rest = name + front;
	size_t back = common_back(key_rest, na, rest, nb);
	uint64_t cost;

	look_at_pieces(n, name);
	na = cut(key_rest, key_rest + na - back, a);
	nb = cut(rest, rest + nb - back, b);
	if (na > TOKENS_MAX || nb > TOKENS_MAX || n->cost == 0)
		return;
	cost = distance(a, na, b, nb, n->cost - 1);
	if (cost < n->cost && !is_too_much(cost, n->key)) {
		n->name = name;
		n->cost = cost;
	}
}

const char *sd_nearest_name(const struct sd_nearest *n)
{
	return n->name ? n->name : n->whole ? n->whole : n->bare;
}
