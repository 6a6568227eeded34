/* SPDX-License-Identifier: Apache-2.0 */
/* The name that was meant: as people slip, and as a wrong name could hurt. */
#include "base/nearest.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
	"lm_head.weight",
	"model.embed_tokens.weight",
	"model.layers.0.self_attn.k_proj.weight",
	"model.layers.0.self_attn.o_proj.weight",
	"model.layers.0.self_attn.q_proj.weight",
	"model.layers.1.self_attn.k_proj.weight",
	"model.layers.1.self_attn.o_proj.weight",
	"model.layers.1.self_attn.q_proj.weight",
	"model.layers.2.self_attn.o_proj.weight",
	"model.layers.2.self_attn.q_proj.weight",
	"model.layers.2.self_attn.k_porj.weight",
	"model.layers.2.mlp.experts.3.upproj.weight",
	"model.layers.2.mlp.experts.13.up_proj.weight",
	"model.norm.weight",
};

static const char *nearest(const char *key)
{
	struct sd_nearest n = sd_nearest_begin(key);

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		sd_nearest_look(&n, names[i]);
	return sd_nearest_name(&n);
}

static void is(const char *key, const char *wanted)
{
	const char *got = nearest(key);

	if (wanted)
		cr_expect(got && strcmp(got, wanted) == 0, "%s: %s, not %s", key, got ? got : "nothing", wanted);
	else
		cr_expect(!got, "%s: %s, not nothing", key, got);
}

Test(nearest, slips)
{
	is("lm_haed.weight", "lm_head.weight");
	is("lm_head.wieght", "lm_head.weight");
	is("lmhead.weight", "lm_head.weight");
	is("model.layers.1.attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight");
	is("model.layers.1.self_attn.q_proj.wheight", "model.layers.1.self_attn.q_proj.weight");
	is("model.norm.weight", "model.norm.weight");
}

/* What has the same numbers was meant, though the very name is there with others. */
Test(nearest, same_numbers)
{
	is("model.layers.2.self_attn.k_proj.weight", "model.layers.2.self_attn.k_porj.weight");
	is("model.layers.2.mlp.experts.3.up_proj.weight", "model.layers.2.mlp.experts.3.upproj.weight");
}

/* A number is one slip, however many digits it has, and the one that is closest is nearest. */
Test(nearest, other_numbers)
{
	is("model.layers.1.self_attn.k_porj.weight", "model.layers.1.self_attn.k_proj.weight");
	is("model.layers.6.self_attn.o_proj.weight", "model.layers.2.self_attn.o_proj.weight");
	is("model.layers.100.self_attn.o_proj.weight", "model.layers.2.self_attn.o_proj.weight");
	is("model.layers.2.mlp.experts.14.up_proj.weight", "model.layers.2.mlp.experts.13.up_proj.weight");
}

Test(nearest, pieces)
{
	is("lm_head", "lm_head.weight");
	is("self_attn.o_proj", "model.layers.0.self_attn.o_proj.weight");
	is("base_model.model.model.norm.weight", "model.norm.weight");
	is("model.module.lm_head.weight", "lm_head.weight");
}

Test(nearest, stars)
{
	is("model.layers.*.self_attn.k_porj.weight", "model.layers.2.self_attn.k_porj.weight");
	is("model.layers.*.self_atn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight");
	is("*.embed_token.weight", "model.embed_tokens.weight");
	is("*nrom*", "model.norm.weight");
}

Test(nearest, nothing)
{
	is("nope", NULL);
	is("", NULL);
	is("transformer.wte.bias", NULL);
	is("3", "model.layers.2.mlp.experts.3.upproj.weight");
}

/* The plain recursion over letters, with the prices that the header tells in words. */
static unsigned plain(const char *a, const char *b)
{
	unsigned cost;

	if (!*a || !*b)
		return 2 * (unsigned)(strlen(a) + strlen(b));
	cost = plain(a + 1, b + 1) + (*a == *b ? 0 : 3);
	if (2 + plain(a + 1, b) < cost)
		cost = 2 + plain(a + 1, b);
	if (2 + plain(a, b + 1) < cost)
		cost = 2 + plain(a, b + 1);
	if (a[1] && b[1] && a[0] == b[1] && a[1] == b[0] && 2 + plain(a + 2, b + 2) < cost)
		cost = 2 + plain(a + 2, b + 2);
	return cost;
}

Test(nearest, agrees_with_a_plain_recursion)
{
	srand(1);
	for (int i = 0; i < 3000; i++) {
		char key[8] = "", name[8] = "", other[8] = "";
		struct sd_nearest n;
		unsigned first, second;

		for (int k = rand() % 8; k > 0; k--)
			key[k - 1] = "abc"[rand() % 3];
		for (int k = 1 + rand() % 7; k > 0; k--)
			name[k - 1] = "abc"[rand() % 3];
		for (int k = 1 + rand() % 7; k > 0; k--)
			other[k - 1] = "abc"[rand() % 3];
		n = sd_nearest_begin(key);
		sd_nearest_look(&n, name);
		sd_nearest_look(&n, other);
		first = plain(key, name);
		second = plain(key, other);
		if ((first < second ? first : second) >= strlen(key))
			cr_expect_null(n.name, "%s: %s", key, n.name);
		else
			cr_expect_str_eq(n.name ? n.name : "nothing", second < first ? other : name, "of %s", key);
	}
}

/* Long names, and names all of numbers, are looked at in bounded memory. */
Test(nearest, long_names)
{
	static char key[100001], name[100001];
	struct sd_nearest n;

	for (size_t i = 0; i + 1 < sizeof(key); i++) {
		key[i] = i % 2 ? '.' : '7';
		name[i] = i % 2 ? '-' : '8';
	}
	n = sd_nearest_begin(key);
	sd_nearest_look(&n, name);
	cr_expect_null(sd_nearest_name(&n));
	memcpy(name, key, sizeof(name));
	name[50000] = 'x';
	sd_nearest_look(&n, name);
	cr_expect_str_eq(sd_nearest_name(&n), name);
	n = sd_nearest_begin("99999999999999999999999999999999999");
	sd_nearest_look(&n, "99999999999999999999999999999999998");
	cr_expect_str_eq(sd_nearest_name(&n), "99999999999999999999999999999999998");
}
