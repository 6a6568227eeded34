/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what maps make of manifests: names, shapes, places, options, and what is refused. */
#include "map.h"

Test(map_names, holes_take_as_much_as_they_can)
{
	static const char map[] = "stage s\n {p*}.a.{x*} <-> {p*}.b.{x*}\n";

	expect((struct try){map, .in = "m.a.n.a.o F32 1\n", .to = "nemo"}, "m.a.n.b.o F32 1 < m.a.n.a.o\n");
	expect((struct try){map, .in = "m.b.n F32 1\n", .to = "hf"}, "m.a.n F32 1 < m.b.n\n");
	expect((struct try){map, .in = ".a. F32 1\n", .to = "nemo"}, ".b. F32 1 < .a.\n");
	expect((struct try){map, .in = "a. F32 1\n", .to = "nemo"}, "a. F32 1 < a.\n");
}

Test(map_names, words_have_no_dot_and_numbers_are_digits)
{
	static const char map[] = "stage s\n l.{L}.{x} <-> m.{L}.{x}\n";

	expect((struct try){map, .in = "l.12.w F32\nl.x.w F32\nl.1.w.v F32\nl.1. F32\nl..w F32\nl.007.w F32\n",
			    .to = "nemo"},
	       "m.12.w F32 < l.12.w\nl.x.w F32 < l.x.w\nl.1.w.v F32 < l.1.w.v\nl.1. F32 < l.1.\nl..w F32 < l..w\n"
	       "m.007.w F32 < l.007.w\n"
	       "note: l.007.w: a number with a 0 in front: put sd-rename -e "
	       "'s/(?<=[.])0+(?=[0-9]+([.]|$))//g' before this\n");
}

Test(map_names, choices_and_tables_are_tried_in_order)
{
	static const char map[] = "table g ab=x a=yy\nstage s\n p.{a=q.|}{g}.{e=w|} <-> {g}/{a}/{e}\n";

	expect((struct try){map, .in = "p.q.ab.w F32\np.a. F32\np.abc.w F32\n", .to = "nemo"},
	       "x/q./w F32 < p.q.ab.w\nyy// F32 < p.a.\np.abc.w F32 < p.abc.w\n");
	expect((struct try){map, .in = "yy/q./ F32\n", .to = "hf"}, "p.q.a. F32 < yy/q./\n");
}

Test(map_names, a_dot_is_a_dot)
{
	expect((struct try){"stage s\n a.b <-> c\n", .in = "axb F32\na.b F32\n", .to = "nemo"},
	       "axb F32 < axb\nc F32 < a.b\n");
}

Test(map_names, first_rule_that_matches)
{
	static const char map[] = "stage s\n a.{x} -> b.{x}\n {x*} -> c.{x*}\n";

	expect((struct try){map, .in = "a.1 F32\na.1.2 F32\n", .to = "nemo"}, "b.1 F32 < a.1\nc.a.1.2 F32 < a.1.2\n");
}

Test(map_names, stages_run_down_and_up)
{
	static const char map[] = "stage one\n a <-> b\nstage two\n b <-> c\n";

	expect((struct try){map, .in = "a F32\n", .to = "nemo"}, "c F32 < a\n");
	expect((struct try){map, .in = "c F32\n", .to = "hf"}, "a F32 < c\n");
}

Test(map_names, cycles_need_no_care)
{
	static const char map[] = "table n a=b b=c c=a\nstage s\n {n}.w <-> {n}.w\n";

	expect((struct try){map, .in = "a.w F32\nb.w F32\nc.w F32\n", .to = "nemo"},
	       "b.w F32 < a.w\nc.w F32 < b.w\na.w F32 < c.w\n");
}

Test(map_names, keep_drop_refuse_and_strict)
{
	static const char map[] = "stage s\n keep k.{x}\n d.{x} -> drop\n r.{x} -> refuse \"it is bad\"\n";

	expect((struct try){map, .in = "k.a F32\nd.a F32\nu F32\n", .to = "nemo"}, "k.a F32 < k.a\nu F32 < u\n");
	expect_error((struct try){map, .in = "r.a F32\n", .to = "nemo"}, SD_INPUT, "r.a: it is bad (t.map:5)");
	expect((struct try){map, .in = "r.a F32\n", .to = "hf"}, "r.a F32 < r.a\n");
	expect_error((struct try){map, .in = "k.a F32\nu F32\nv F32\n", .to = "nemo", .strict = true}, SD_INPUT,
		     "no rule of map t takes 2 of the keys: u, v");
	expect((struct try){map, .in = "k.a F32\n", .to = "nemo", .strict = true}, "k.a F32 < k.a\n");
}

Test(map_names, one_way_rules)
{
	static const char map[] = "stage s\n a.{x} -> b.{x}\n c -> d\n keep <- d\n";

	expect_error((struct try){map, .in = "b.1 F32\n", .to = "hf"}, SD_INPUT,
		     "b.1: its rule goes one way, from hf to nemo (t.map:3: a.{x} -> b.{x})");
	expect((struct try){map, .in = "d F32\n", .to = "hf"}, "d F32 < d\n");
}

Test(map_names, two_sources_for_one_name)
{
	static const char map[] = "stage s\n x.a -> a\n";

	expect_error((struct try){map, .in = "a F32\nx.a F32\n", .to = "nemo"}, SD_INPUT, "both a and x.a become a");
	expect_error((struct try){"stage s\n {x}.a -> a\n", .in = "p.a F32\nq.a F32\n", .to = "nemo"}, SD_INPUT,
		     "both p.a and q.a become a (t.map:3, t.map:3)");
}

Test(map_names, except_is_about_left_names)
{
	static const char map[] = "stage s\n {p*}.a.{x*} <-> {p*}.a.h.{x*} except {y*}.h.{z*}\n";

	expect((struct try){map, .in = "m.a.w F32\nm.a.h.v F32\n", .to = "nemo"},
	       "m.a.h.w F32 < m.a.w\nm.a.h.v F32 < m.a.h.v\n");
	expect((struct try){map, .in = "m.a.h.w F32\n", .to = "hf"}, "m.a.w F32 < m.a.h.w\n");
}

Test(map_names, under_and_use)
{
	static const char used[] = "map used hf nemo\nstage s\n .a <-> .b\n p <-> q\nstage t\n under .u\n .c <-> .d\n";
	static const char map[] = "use used s t under {k=x|y}\n";

	expect((struct try){map, used, .in = "x.a F32\ny.u.c F32\np F32\n", .to = "nemo"},
	       "x.b F32 < x.a\ny.u.d F32 < y.u.c\nq F32 < p\n");
	expect((struct try){"use used s under l. r.\n", used, .in = "l.p F32\nl..a F32\n", .to = "nemo"},
	       "r.q F32 < l.p\nr..b F32 < l..a\n");
	expect((struct try){"stage s\n under m.{L}\n .a <-> .b\n c <-> d\n", .in = "m.3.a F32\nc F32\n", .to = "nemo"},
	       "m.3.b F32 < m.3.a\nd F32 < c\n");
}

Test(map_names, numbers_are_counted_with)
{
	static const char map[] = "size N layers config num_layers\nstage s\n"
				  " m.{L}.{x*} <-> mtp.{L-N}.{x*}\n m.{L}.{x*} <-> t.{L}.{x*} if L<N\n";

	expect((struct try){map, .in = "m.3.w F32\nm.2.a.b F32\nm.10.w F32\nm.x.w F32\n", .to = "nemo",
			    .defines = {{"layers", "3"}}},
	       "mtp.0.w F32 < m.3.w\nt.2.a.b F32 < m.2.a.b\nmtp.7.w F32 < m.10.w\nm.x.w F32 < m.x.w\n");
	expect((struct try){map, .in = "mtp.0.w F32\nt.2.a.b F32\n", .to = "hf", .config = "{\"num_layers\": 3}"},
	       "m.3.w F32 < mtp.0.w\nm.2.a.b F32 < t.2.a.b\n");
	expect((struct try){map, .in = "t.3.w F32\n", .to = "hf", .defines = {{"layers", "3"}}}, "t.3.w F32 < t.3.w\n");
	expect_error((struct try){map, .in = "m.0.w F32\n", .to = "nemo"}, SD_INPUT,
		     "m.0.w: its rule counts with N, which nothing tells: say -D layers (t.map:4)");
	expect((struct try){map, .in = "other F32\n", .to = "nemo"}, "other F32 < other\n");
	expect((struct try){map, .in = "m.18446744073709551616.w F32\nm.007.w F32\n", .to = "nemo",
			    .defines = {{"layers", "3"}}},
	       "m.18446744073709551616.w F32 < m.18446744073709551616.w\nmtp.4.w F32 < m.007.w\n"
	       "note: m.007.w: a number with a 0 in front: put sd-rename -e "
	       "'s/(?<=[.])0+(?=[0-9]+([.]|$))//g' before this\n");
	expect((struct try){map, .in = "mtp.18446744073709551615.w F32\n", .to = "hf", .defines = {{"layers", "3"}}},
	       "mtp.18446744073709551615.w F32 < mtp.18446744073709551615.w\n");
	expect_error((struct try){map, .in = "m.7.w F32\nm.07.w F32\n", .to = "nemo", .defines = {{"layers", "3"}}},
		     SD_INPUT, "both m.7.w and m.07.w become mtp.4.w (t.map:4, t.map:4)");
}

Test(map_names, numbers_that_are_said)
{
	static const char map[] = "stage s\n a.{L+1}.{E} [x] <-> b.{L} [E x]\n c.{L} -> drop if L>=2 if L<4\n";

	expect((struct try){map, .in = "a.1.0 F32 2\na.1.1 F32 2\na.0.0 F32 2\n", .to = "nemo"},
	       "b.0 F32 2 2 < a.1.0\nb.0 F32 2 2 < a.1.1\na.0.0 F32 2 < a.0.0\n");
	expect((struct try){map, .in = "b.0 F32 2 2\n", .to = "hf"}, "a.1.0 F32 2 < b.0\na.1.1 F32 2 < b.0\n");
	expect((struct try){map, .in = "c.1 F32\nc.2 F32\nc.3 F32\nc.4 F32\n", .to = "nemo"},
	       "c.1 F32 < c.1\nc.4 F32 < c.4\n");
}

Test(map_names, a_size_that_may_be_unknown)
{
	static const char map[] = "size N layers or none\nstage s\n m.{L}.{x*} -> drop if L>=N\n m.{x*} <-> t.{x*}\n";

	expect((struct try){map, .in = "m.0.w F32\nm.5.w F32\n", .to = "nemo"},
	       "t.0.w F32 < m.0.w\nt.5.w F32 < m.5.w\n");
	expect((struct try){map, .in = "m.0.w F32\nm.5.w F32\n", .to = "nemo", .defines = {{"layers", "1"}}},
	       "t.0.w F32 < m.0.w\n");
}

Test(map_names, notes_are_made_once_for_each_rule)
{
	static const char map[] = "stage s\n a.{x} <-> b.{x} note \"it is odd\"\n c -> drop note \"not needed\"\n";

	expect((struct try){map, .in = "a.1 F32\na.2 F32\nc F32\na.3 F32\n", .to = "nemo"},
	       "b.1 F32 < a.1\nb.2 F32 < a.2\nb.3 F32 < a.3\n"
	       "note: a.1 and 2 more: it is odd (t.map:3)\nnote: c: not needed (t.map:4)\n");
	expect((struct try){map, .in = "d F32\n", .to = "nemo"}, "d F32 < d\n");
}

Test(map_options, defines_choose_rules_and_texts)
{
	static const char map[] =
		"option o one|two\nset T \"t.\" if o=two else \"\"\nset A \"y.\" if any hf yes.{x*} else \"n.\"\n"
		"stage s\n @o=one a <-> b\n @o=two a <-> ${T}c\n d -> ${A}d\n";

	expect((struct try){map, .in = "a F32\nd F32\n", .to = "nemo"}, "b F32 < a\nn.d F32 < d\n");
	expect((struct try){map, .in = "a F32\nd F32\nyes.x F32\n", .to = "nemo", .defines = {{"o", "two"}}},
	       "t.c F32 < a\ny.d F32 < d\nyes.x F32 < yes.x\n");
	expect((struct try){map, .in = "t.c F32\n", .to = "hf", .defines = {{"o", "two"}}}, "a F32 < t.c\n");
	expect_error((struct try){map, .in = "a F32\n", .to = "nemo", .defines = {{"o", "three"}}}, SD_USAGE,
		     "-D o=three: o is one|two");
	expect_error((struct try){map, .in = "a F32\n", .to = "nemo", .defines = {{"p", "one"}}}, SD_USAGE,
		     "-D p: map t has no such option; it has o");
}

Test(map_options, found_from_keys)
{
	static const char map[] =
		"option o one|two from keys\nstage s\n @o=one a.{x} <-> n.{x}\n @o=two b.{x} <-> n.{x}\n";

	expect((struct try){map, .in = "a.1 F32\na.2 F32\n", .to = "nemo"}, "n.1 F32 < a.1\nn.2 F32 < a.2\n");
	expect((struct try){map, .in = "b.1 F32\n", .to = "nemo"}, "n.1 F32 < b.1\n");
	expect_error((struct try){map, .in = "a.1 F32\nb.2 F32\n", .to = "nemo"}, SD_INPUT,
		     "a.1 is of o one, and b.2 is of o two: one checkpoint has one of them");
	expect_error((struct try){map, .in = "a.1 F32\n", .to = "nemo", .defines = {{"o", "two"}}}, SD_INPUT,
		     "-D o=two, but a.1 is of o one");
	expect((struct try){map, .in = "n.1 F32\n", .to = "hf"}, "a.1 F32 < n.1\n");
	expect((struct try){map, .in = "n.1 F32\n", .to = "hf", .defines = {{"o", "two"}}}, "b.1 F32 < n.1\n");
}

Test(map_options, told_by_shapes)
{
	static const char map[] = "option o new|old from keys\nsize I inter\nstage s\n @o=new w [r I] <-> n [I r]\n "
				  "@o=old w [r H] <-> m [r H]\n";

	expect((struct try){map, .in = "w F32 2 3\n", .to = "nemo", .defines = {{"inter", "4"}}}, "m F32 2 3 < w\n");
	expect_error((struct try){map, .in = "w F32 2 4\n", .to = "nemo", .defines = {{"inter", "4"}}}, SD_INPUT,
		     "nothing tells which o w is of: say -D o=new|old");
	expect_error((struct try){map, .in = "w F32 2 4\n", .to = "nemo"}, SD_INPUT,
		     "nothing tells which o w is of: say -D o=new|old, or what would tell: -D inter");
	expect((struct try){map, .in = "w F32 2 4\n", .to = "nemo", .defines = {{"inter", "4"}, {"o", "new"}}},
	       "n F32 4 2 < w, reorder\n");
	expect_error((struct try){map, .in = "w F32 2 3\n", .to = "nemo", .defines = {{"inter", "4"}, {"o", "new"}}},
		     SD_INPUT, "-D o=new, but w is of o old");
}

Test(map_options, sizes_from_config)
{
	static const char map[] =
		"size n experts config num_experts text_config.n\nstage s\n a [(n r) I] <-> b [n I r]\n";
	static const char six[] = "b F32 2 5 3 < a, reorder\n";
	static const char *const good[] = {
		"{\"num_experts\": 2}",
		"{\"text_config\": {\"m\": 7, \"n\": 2}, \"n\": 3}",
		"{\"x\": {\"num_experts\": 3, \"text_config\": {\"n\": 3}}, \"num_experts\": 2}",
		"{\"num_experts\": [2, 3]}",
		"{\"a\": [{\"num_experts\": 3}], \"num_experts\": \"2\"}",
	};
	static const char *const bad[] = {"{}", "{\"num_experts\": 2.5}", "{\"num_experts\": null}", "[2]", "no JSON"};

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		expect((struct try){map, .in = "a F32 6 5\n", .to = "nemo", .config = good[i]}, six);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		expect_error((struct try){map, .in = "a F32 6 5\n", .to = "nemo", .config = bad[i]}, SD_INPUT,
			     "b: the shapes do not tell n; say -D experts (t.map:4)");
	expect((struct try){map, .in = "a F32 6 5\n", .to = "nemo", .config = "{\"num_experts\": 2}",
			    .defines = {{"experts", "2"}}},
	       six);
	expect_error((struct try){map, .in = "a F32 6 5\n", .to = "nemo", .config = "{\"num_experts\": 3}",
				  .defines = {{"experts", "2"}}},
		     SD_INPUT,
		     "-D experts=2, and config.json counts 3: sd-cat --experts 0-1 in front cuts it, and the routers, too");
}

Test(map_options, a_stamp_tells)
{
	static const char map[] = "option o new|old from keys stamp stamp.json layout n1=new o1=old\nsize I inter\n"
				  "stage s\n @o=new w [r I] <-> n [I r]\n @o=old w [r H] <-> m [r H]\n";

	expect((struct try){map, .in = "w F32 2 4\n", .to = "nemo", .stamp = "{\"layout\": \"n1\"}"},
	       "n F32 4 2 < w, reorder\n");
	expect((struct try){map, .in = "w F32 2 4\n", .to = "nemo", .stamp = "{\"layout\": \"o1\"}"},
	       "m F32 2 4 < w\n");
	expect_error((struct try){map, .in = "w F32 2 4\n", .to = "nemo", .stamp = "{\"layout\": \"x\"}"}, SD_INPUT,
		     "stamp.json: layout is none of the words that map t knows");
	expect_error((struct try){map, .in = "w F32 2 3\n", .to = "nemo", .stamp = "{\"layout\": \"n1\"}",
				  .defines = {{"inter", "4"}}},
		     SD_INPUT, "stamp.json says o new, but w is of o old");
	expect_error((struct try){map, .in = "w F32 2 4\n", .to = "nemo", .stamp = "{\"layout\": \"n1\"}",
				  .defines = {{"o", "old"}}},
		     SD_INPUT, "stamp.json says o new, but -D o=old");
}

Test(map_options, sizes_may_be_wrong_where_keys_disagree)
{
	static const char map[] = "option o new|old from keys\nsize I inter\n"
				  "stage s\n @o=new {k}.w [r I] <-> {k}.n [I r]\n @o=old {k}.w [I r] <-> {k}.m [I r]\n";

	expect_error((struct try){map, .in = "a.w F32 2 4\nb.w F32 4 2\n", .to = "nemo", .defines = {{"inter", "4"}}},
		     SD_INPUT,
		     "a.w is of o new, and b.w is of o old: one checkpoint has one of them; or -D inter=4 is wrong");
}

Test(map_options, config_tells)
{
	static const char map[] = "option o no|yes from config model_type t_text=yes\n"
				  "set P \"x.\" if o=yes else \"\"\nstage s\n a -> ${P}b\n";
	struct try t = {map, .in = "a F32\n", .to = "nemo", .config = "{\"model_type\": \"t_text\"}"};

	expect(t, "x.b F32 < a\n");
	t.defines[0] = (struct sd_define){"o", "no"};
	expect(t, "b F32 < a\n");
	expect((struct try){map, .in = "a F32\n", .to = "nemo", .config = "{\"model_type\": \"t\"}"}, "b F32 < a\n");
	expect((struct try){map, .in = "a F32\n", .to = "nemo"}, "b F32 < a\n");
}

Test(map_options, direction_from_the_keys)
{
	static const char map[] = "stage s\n a.{x} <-> b.{x}\n c -> d\n";

	expect((struct try){map, .in = "a.1 F32\n"}, "b.1 F32 < a.1\n");
	expect((struct try){map, .in = "b.1 F32\n"}, "a.1 F32 < b.1\n");
	expect_error((struct try){map, .in = "a.1 F32\nb.2 F32\n"}, SD_INPUT,
		     "a.1 is a key of layout hf, b.2 is one of nemo: say --to hf or --to nemo");
	expect_error((struct try){map, .in = "x F32\n"}, SD_INPUT,
		     "no key tells whether this is layout hf or nemo (x, for one, does not): say --to hf or --to nemo");
}

Test(map_options, direction_from_what_is_of_one_layout)
{
	static const char broad[] = "stage s\n m.a.{x*} <-> m.{x*}\n";
	static const char both[] = "option o x|y\nstage s\n r <-> s\n s <-> r2\n @o=y u <-> v\n";

	expect((struct try){broad, .in = "m.a.x F32\nm.y F32\n"}, "m.x F32 < m.a.x\nm.y F32 < m.y\n");
	expect_error(
		(struct try){broad, .in = "m.y F32\n"}, SD_INPUT,
		"no key tells whether this is layout hf or nemo (m.y, for one, does not): say --to hf or --to nemo");
	expect_error((struct try){both, .in = "s F32\n"}, SD_INPUT,
		     "no key tells whether this is layout hf or nemo (s, for one, does not): say --to hf or --to nemo");
	expect((struct try){both, .in = "r F32\nu F32\n"}, "s F32 < r\nu F32 < u\n");
	expect((struct try){both, .in = "v F32\n", .defines = {{"o", "y"}}}, "u F32 < v\n");
}

Test(map_dtypes, casts_are_for_floats)
{
	static const char map[] = "stage s\n a.{x} <-> b.{x} : F32\n c BF16 -> d\n c -> e F16\n";

	expect((struct try){map, .in = "a.1 BF16\na.2 I64\na.3 F32\n", .to = "nemo"},
	       "b.1 F32 < a.1, cast F32\nb.2 I64 < a.2\nb.3 F32 < a.3\n");
	expect((struct try){map, .in = "b.1 F16\n", .to = "hf"}, "a.1 F32 < b.1, cast F32\n");
	expect((struct try){map, .in = "c BF16\n", .to = "nemo"}, "d BF16 < c\n");
	expect((struct try){map, .in = "c F32\n", .to = "nemo"}, "e F16 < c, cast F16\n");
}

Test(map_dtypes, dtype_casts_experts)
{
	static const char map[] = "label expert {x*}.e\nstage s\n {p}.f <-> {p}.e\n";

	expect((struct try){map, .in = "a.f F32\na.g F32\n", .to = "nemo", .defines = {{"dtype", "bf16"}}},
	       "a.e BF16 < a.f, cast BF16\na.g F32 < a.g\n");
	expect_error((struct try){map, .in = "a.e F32\n", .to = "hf", .defines = {{"dtype", "bf16"}}}, SD_USAGE,
		     "-D dtype is for the way to nemo");
	expect_error((struct try){map, .in = "a.e F32\n", .to = "nemo", .defines = {{"dtype", "i8"}}}, SD_USAGE,
		     "-D dtype=i8: it can be bf16, f16, f32 or f64");
}

Test(map_dtypes, block_scales)
{
	static const char map[] =
		"label expert {x*}.e\nstage s\n {k}.w [o i] + {k}.s [o~4 i~4] -> {k}.e [o i] BF16 : fp8\n"
		" {k}.w F8_E4M3 -> refuse \"no scale\"\n {k}.s -> drop\n";
	static const char in[] = "a.s F32 2 2\na.w F8_E4M3 5 7\n";

	expect((struct try){map, .in = in, .to = "nemo"}, "a.e BF16 5 7 < a.w, times scale BF16\n");
	expect((struct try){map, .in = in, .to = "nemo", .defines = {{"dtype", "f32"}}},
	       "a.e F32 5 7 < a.w, times scale F32\n");
	expect((struct try){map, .in = "a.w BF16 5\n", .to = "nemo"}, "a.w BF16 5 < a.w\n");
	expect_error((struct try){map, .in = "a.w F8_E4M3 5 7\n", .to = "nemo"}, SD_INPUT, "a.w: no scale (t.map:5)");
	expect_error((struct try){map, .in = "a.s F32 2 1\na.w F8_E4M3 5 7\n", .to = "nemo"}, SD_INPUT,
		     "a.s has shape [2, 1]; a.w, of shape [5, 7], needs [2, 2] (t.map:4)");
}

/* One number for all, or one for each row: the rank of the scale tells which rule it is. */
Test(map_dtypes, scales_by_their_rank)
{
	static const char map[] = "stage s\n w [o i] + s [] -> v [o i] : fp8\n w [o i] + s [o] -> v [i o] : fp8\n"
				  " s -> drop\n";

	expect((struct try){map, .in = "s F32\nw F8_E4M3 5 7\n", .to = "nemo"}, "v F32 5 7 < w, times scale F32\n");
	expect((struct try){map, .in = "s F32 5\nw F8_E4M3 5 7\n", .to = "nemo"},
	       "v F32 7 5 < w, times scale F32, reorder\n");
	expect_error((struct try){map, .in = "s F32 4\nw F8_E4M3 5 7\n", .to = "nemo"}, SD_INPUT,
		     "s has shape [4]; w, of shape [5, 7], needs [5] (t.map:4)");
	expect_error((struct try){map, .in = "s F32 5 7\nw F8_E4M3 5 7\n", .to = "nemo"}, SD_INPUT,
		     "s has shape [5, 7]; w, of shape [5, 7], needs [] (t.map:3)");
}

/* A weight that an earlier rule takes leaves its scale alone. */
Test(map_dtypes, scales_stay_with_weights_that_stay)
{
	static const char map[] = "stage s\n w U8 -> keep\n w [o i] + s [o] -> w [o i] : fp8\n";

	expect((struct try){map, .in = "s F32 5\nw U8 5 7\n", .to = "nemo"}, "s F32 5 < s\nw U8 5 7 < w\n");
	expect((struct try){map, .in = "s F32 5\nw F8_E4M3 5 7\n", .to = "nemo"}, "w F32 5 7 < w, times scale F32\n");
}

Test(map_dtypes, codes)
{
	static const char four[] = "stage s\n w [o i/2] + s [o i~32] -> v [i o] BF16 : fp4\n";
	static const char eight[] = "stage s\n w [o (g v/8)] + s [o g] -> v [o (g v)] BF16 : int4\n";
	static const char flat[] = "stage s\n w [o (g v/8)] + s [(o g)] -> v [o (g v)] BF16 : int4\n";

	expect((struct try){four, .in = "s U8 3 2\nw I8 3 20\n", .to = "nemo"},
	       "v BF16 40 3 < w, unpack F32, times scale BF16, reorder\n");
	expect((struct try){four, .in = "s F8_E8M0 3 2\nw U8 3 20\n", .to = "nemo", .defines = {{"dtype", "f32"}}},
	       "v F32 40 3 < w, unpack F32, times scale F32, reorder\n");
	expect_error((struct try){four, .in = "s U8 3 1\nw I8 3 20\n", .to = "nemo"}, SD_INPUT,
		     "s has shape [3, 1]; w, of shape [3, 20], needs [3, 2] (t.map:3)");
	expect_error((struct try){four, .in = "s U8 3 2\nw BF16 3 20\n", .to = "nemo"}, SD_INPUT,
		     "w is BF16: not whole numbers with 2 codes in each (t.map:3)");
	expect_error((struct try){four, .in = "s U8 3 2\nw I32 3 20\n", .to = "nemo"}, SD_INPUT,
		     "w is I32: not whole numbers with 2 codes in each (t.map:3)");
	expect_error((struct try){four, .in = "s I16 3 2\nw I8 3 20\n", .to = "nemo"}, SD_INPUT,
		     "w and its scale have to be whole tensors as they came, of numbers");
	expect((struct try){eight, .in = "s BF16 3 2\nw I32 3 6\n", .to = "nemo"},
	       "v BF16 3 48 < w, unpack F32, times scale BF16\n");
	expect((struct try){flat, .in = "s BF16 6\nw I32 3 6\n", .to = "nemo"},
	       "v BF16 3 48 < w, unpack F32, times scale BF16\n");
	expect_error((struct try){eight, .in = "s BF16 3 4\nw I32 3 6\n", .to = "nemo"}, SD_INPUT,
		     "s has shape [3, 4]; w, of shape [3, 6], needs [o g] (t.map:3)");
	expect_error((struct try){four, .in = "s U8 1 36028797018963968\nw I8 1 576460752303423488\n", .to = "nemo"},
		     SD_INPUT, "v: the shape is too large");
}

Test(map_dtypes, products)
{
	static const char map[] = "label expert v\nstage s\n w [E i] + s [E] -> v [i E] : times\n";

	expect((struct try){map, .in = "s BF16 3\nw BF16 3 4\n", .to = "nemo"},
	       "v BF16 4 3 < w, times scale BF16, reorder\n");
	expect((struct try){map, .in = "s F32 3\nw BF16 3 4\n", .to = "nemo"},
	       "v BF16 4 3 < w, times scale BF16, reorder\n");
	expect((struct try){map, .in = "s F16 3\nw BF16 3 4\n", .to = "nemo"},
	       "v BF16 4 3 < w, times scale BF16, reorder\n");
	expect((struct try){map, .in = "s BF16 3\nw BF16 3 4\n", .to = "nemo", .defines = {{"dtype", "f32"}}},
	       "v F32 4 3 < w, times scale BF16, cast F32, reorder\n");
	expect((struct try){map, .in = "s BF16 3\nw F32 3 4\n", .to = "nemo", .defines = {{"dtype", "f16"}}},
	       "v F16 4 3 < w, times scale F16, reorder\n");
	expect_error((struct try){map, .in = "s F64 3\nw BF16 3 4\n", .to = "nemo"}, SD_INPUT,
		     "w is BF16 and s is F64: only BF16, F16 and F32 are multiplied (t.map:4)");
	expect_error((struct try){map, .in = "s U8 3\nw BF16 3 4\n", .to = "nemo"}, SD_INPUT,
		     "w is BF16 and s is U8: only BF16, F16 and F32 are multiplied (t.map:4)");
}

Test(map_dtypes, constants)
{
	static const char map[] = "stage s\n g.{x} [E H] -> b.{x} [E] F32 : zeros unless b.{x} note \"made\"\n"
				  " g.{x} [E H] <-> h.{x} [H E]\n o.{x} [H] <- h.{x} [H E] : ones\n";

	expect((struct try){map, .in = "g.1 BF16 3 4\n", .to = "nemo"},
	       "b.1 F32 3 < g.1, fill F32\nh.1 BF16 4 3 < g.1, reorder\nnote: g.1: made (t.map:3)\n");
	expect((struct try){map, .in = "b.1 BF16 3\ng.1 BF16 3 4\n", .to = "nemo"},
	       "b.1 BF16 3 < b.1\nh.1 BF16 4 3 < g.1, reorder\n");
	expect((struct try){map, .in = "b.1 F32 3\nh.1 BF16 4 3\n", .to = "hf"},
	       "b.1 F32 3 < b.1\no.1 BF16 4 < h.1, fill BF16\ng.1 BF16 3 4 < h.1, reorder\n");
	expect_error((struct try){map, .in = "h.1 U8 4 3\n", .to = "hf"}, SD_INPUT,
		     "o.1 would be U8, as h.1 is: ones are BF16, F16, F32 or F64 (t.map:5)");
}

Test(map_dtypes, copies_rightwards)
{
	static const char map[] = "stage s\n e => h unless h note \"tied\"\n {x} <-> n.{x}\n";

	expect((struct try){map, .in = "e F32 2\n", .to = "nemo"}, "h F32 2 < e\nn.e F32 2 < e\n");
	expect((struct try){map, .in = "e F32 2\nh F32 2\n", .to = "nemo"}, "n.e F32 2 < e\nn.h F32 2 < h\n");
	expect((struct try){map, .in = "n.e F32 2\nh F32 2\n", .to = "hf"}, "e F32 2 < n.e\nnote: h: tied (t.map:3)\n");
	expect_error((struct try){map, .in = "h F32 2\n", .to = "hf"}, SD_INPUT,
		     "h is a copy of what is not there (t.map:3)");
}

Test(map_dtypes, conditions_on_other_tensors)
{
	static const char map[] =
		"stage s\n {x}_s -> refuse \"lost\" if {x} F8_E4M3\n {x}_s -> drop\n a -> b unless c\n";

	expect((struct try){map, .in = "w_s F32\nw BF16\n", .to = "nemo"}, "w BF16 < w\n");
	expect_error((struct try){map, .in = "w_s F32\nw F8_E4M3\n", .to = "nemo"}, SD_INPUT, "w_s: lost (t.map:3)");
	expect((struct try){map, .in = "a F32\n", .to = "nemo"}, "b F32 < a\n");
	expect((struct try){map, .in = "a F32\nc F32\n", .to = "nemo"}, "a F32 < a\nc F32 < c\n");
}

static const char moe[] = "stage experts\n"
			  " m.{L}.{E}.gate [I H] <-> m.{L}.gate_up [E H I|]\n"
			  " m.{L}.{E}.up   [I H] <-> m.{L}.gate_up [E H |I]\n"
			  " m.{L}.{E}.down [H I] <-> m.{L}.down    [E I H]\n";

Test(map_axes, merges_and_splits_experts)
{
	expect((struct try){moe,
			    .in = "m.0.1.up F32 2 3\nm.0.0.down F32 3 2\nm.0.0.gate F32 2 3\nm.0.0.up F32 2 "
				  "3\nm.0.1.gate F32 2 3\n"
				  "m.0.1.down F32 3 2\n",
			    .to = "nemo"},
	       "m.0.gate_up F32 2 3 4 < m.0.1.up, reorder\nm.0.down F32 2 2 3 < m.0.0.down, reorder\n"
	       "m.0.gate_up F32 2 3 4 < m.0.0.gate, reorder\nm.0.gate_up F32 2 3 4 < m.0.0.up, reorder\n"
	       "m.0.gate_up F32 2 3 4 < m.0.1.gate, reorder\nm.0.down F32 2 2 3 < m.0.1.down, reorder\n");
	expect((struct try){moe, .in = "m.7.gate_up F32 1 3 4\nm.7.down F32 1 2 3\n", .to = "hf"},
	       "m.7.0.gate F32 2 3 < m.7.gate_up, reorder\nm.7.0.up F32 2 3 < m.7.gate_up, reorder\n"
	       "m.7.0.down F32 3 2 < m.7.down, reorder\n");
}

Test(map_axes, what_is_missing_is_named)
{
	expect_error(
		(struct try){moe,
			     .in = "m.0.0.gate F32 2 3\nm.0.0.up F32 2 3\nm.0.2.gate F32 2 3\nm.0.0.down F32 3 2\n",
			     .to = "nemo"},
		SD_INPUT,
		"m 0: E 1 and 2 of 3 are incomplete, 3 keys are missing: m.0.1.gate, m.0.1.up, m.0.2.up (t.map:3)");
	expect_error((struct try){moe,
				  .in = "m.0.0.gate F32 2 3\nm.0.1.gate F32 2 3\nm.0.0.up F32 2 3\nm.0.1.up F32 2 "
					"3\nm.0.0.down F32 3 2\n",
				  .to = "nemo"},
		     SD_INPUT, "m 0: E 1 of 2 has no down, 1 key is missing: m.0.1.down (t.map:5)");
	expect_error((struct try){moe, .in = "m.0.0.gate F32 2 3\nm.0.0.up F32 2 3\n", .to = "nemo"}, SD_INPUT,
		     "m 0: E 0 of 1 has no down, 1 key is missing: m.0.0.down (t.map:5)");
	expect_error(
		(struct try){moe, .in = "m.0.999999.gate F32 2 3\n", .to = "nemo"}, SD_INPUT,
		"m 0: E 0, 1, 2, 3, 4 and 999995 more of 1000000 have no down, 1000000 keys are missing: m.0.0.down, "
		"m.0.1.down, m.0.2.down, m.0.3.down, m.0.4.down, ... (t.map:5)");
	expect_error((struct try){moe, .in = "m.0.99999999999999999999.gate F32 2 3\n", .to = "nemo"}, SD_INPUT,
		     "m.0.99999999999999999999.gate: the number 99999999999999999999 is too large");
}

/* The words of the keys themselves say what it is that lacks something. */
Test(map_axes, missing_experts_are_told_by_their_numbers)
{
	static const char map[] =
		"stage s\n {p*}layers.{L}.experts.{E}.gate_proj.weight [I H] <-> {p*}layers.{L}.gate_up [E H I|]\n"
		" {p*}layers.{L}.experts.{E}.up_proj.weight [I H] <-> {p*}layers.{L}.gate_up [E H |I]\n";
	static const int one[] = {17, -1}, two[] = {17, 40, -1}, many[] = {0, 1, 3, 5, 7, 9, 126, -1};
	static const struct {
		const int *lacking;
		const char *want;
	} cases[] = {
		{one, "layer 3: expert 17 of 128 has no up_proj.weight, 1 key is missing: "
		      "model.layers.3.experts.17.up_proj.weight (t.map:3)"},
		{two, "layer 3: experts 17 and 40 of 128 have no up_proj.weight, 2 keys are missing: "
		      "model.layers.3.experts.17.up_proj.weight, model.layers.3.experts.40.up_proj.weight (t.map:3)"},
		{many, "layer 3: experts 0, 1, 3, 5, 7 and 2 more of 128 have no up_proj.weight, 7 keys are missing: "
		       "model.layers.3.experts.0.up_proj.weight, model.layers.3.experts.1.up_proj.weight, "
		       "model.layers.3.experts.3.up_proj.weight, model.layers.3.experts.5.up_proj.weight, "
		       "model.layers.3.experts.7.up_proj.weight, ... (t.map:3)"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const int *lacking = cases[i].lacking;
		char in[128 * 120], *end = in;

		for (int e = 0; e < 128; e++) {
			end += sprintf(end, "model.layers.3.experts.%d.gate_proj.weight F32 2 3\n", e);
			if (e == *lacking)
				lacking++;
			else
				end += sprintf(end, "model.layers.3.experts.%d.up_proj.weight F32 2 3\n", e);
		}
		expect_error((struct try){map, .in = in, .to = "nemo"}, SD_INPUT, cases[i].want);
	}
	expect_error((struct try){"stage s\n t.shard_{E} [r] <-> t [E r]\n", .in = "t.shard_1 F32 2\n", .to = "nemo"},
		     SD_INPUT, "t: shard 0 of 2 is incomplete, 1 key is missing: t.shard_0 (t.map:3)");
	expect_error((struct try){"stage s\n a.{E}.{G} [r] <-> a [E G r]\n", .in = "a.1.1 F32 2\n", .to = "nemo"},
		     SD_INPUT, "a: 3 keys are missing: a.0.0, a.0.1, a.1.0 (t.map:3)");
	expect_error((struct try){"stage s\n a.{E}.{G} [r] <-> a [E G r]\n b.{E}.{G} [r] <-> b [E G r]\n",
				  .in = "a.0.0 F32 2\na.0.1 F32 2\na.0.2 F32 2\n", .to = "nemo"},
		     SD_INPUT, "b: 3 keys are missing: b.0.0, b.0.1, b.0.2 (t.map:4)");
}

Test(map_axes, sizes_have_to_agree)
{
	expect_error(
		(struct try){moe, .in = "m.0.0.gate F32 2 3\nm.0.0.up F32 2 4\nm.0.0.down F32 3 2\n", .to = "nemo"},
		SD_INPUT, "H is 3 in m.0.0.gate and 4 in m.0.0.up, which both go into m.0.gate_up (t.map:4)");
	expect_error(
		(struct try){moe, .in = "m.0.0.gate F32 2 3\nm.0.0.up BF16 2 3\nm.0.0.down F32 3 2\n", .to = "nemo"},
		SD_INPUT, "m.0.gate_up would be both F32 and BF16, from m.0.0.up");
	expect_error((struct try){moe, .in = "m.0.0.gate F32 2\n", .to = "nemo"}, SD_INPUT,
		     "m.0.0.gate: shape [2] does not fit [I H] (t.map:3)");
	expect_error((struct try){moe, .in = "m.0.gate_up F32 1 3 5\n", .to = "hf"}, SD_INPUT,
		     "m.0.gate_up: shape [1, 3, 5] does not fit [E H I|] (t.map:3)");
	expect_error(
		(struct try){moe,
			     .in = "m.0.0.gate F32 2 3\nm.0.00.gate F32 2 3\nm.0.0.up F32 2 3\nm.0.0.down F32 3 2\n",
			     .to = "nemo"},
		SD_INPUT, "both m.0.0.gate and m.0.00.gate become m.0.gate_up (t.map:3, t.map:3)");
	expect_error((struct try){moe, .in = "m.0.gate_up F32 2000000 0 2\n", .to = "hf"}, SD_INPUT,
		     "m.0.gate_up: one tensor cannot become 2000000 (t.map:3)");
}

Test(map_axes, what_cannot_be)
{
	static const char known[] = "size E experts\nstage s\n a.{E} [x] <-> b [E x]\n";

	expect_error((struct try){known, .in = "a.0 F32 2\na.5 F32 2\n", .to = "nemo", .defines = {{"experts", "2"}}},
		     SD_INPUT, "a.5: its number is too large for b, which has 2 (t.map:4)");
	expect_error((struct try){known, .in = "a.0 F32 2\n", .to = "nemo", .defines = {{"experts", "two"}}}, SD_USAGE,
		     "-D experts=two: a number is wanted");
	expect_error((struct try){known, .in = "b F32 3 2\n", .to = "hf", .defines = {{"experts", "2"}}}, SD_INPUT,
		     "b: shape [3, 2] does not fit [E x], where E is 2 (t.map:4)");
	expect_error((struct try){"stage s\n a.{E} [x] <-> b [(E x)]\n", .in = "b F32 6\n", .to = "hf"}, SD_INPUT,
		     "b: the shape does not tell E (t.map:3)");
	expect_error((struct try){"stage s\n a [x y] <-> b [y x]\n", .in = "a F4 2 2\n", .to = "nemo"}, SD_INPUT,
		     "a: F4 elements are smaller than a byte and cannot be moved (t.map:3)");
	expect_error((struct try){"stage s\n a [o i] + s [o~2 i~2] -> b [o i] : fp8\n",
				  .in = "a F8_E4M3 2 2\ns I32 1 1\n", .to = "nemo"},
		     SD_INPUT, "a and its scale have to be whole tensors as they came, of numbers");
	expect_error((struct try){known, .in = "a F32\na F32\n", .to = "nemo"}, SD_INPUT,
		     "a comes twice, from a and a");
}

Test(map_axes, there_is_room_for_so_many_labels)
{
	char map[2048] = "", *end = map;

	for (int i = 0; i < 33; i++)
		end += sprintf(end, "label l%d x%d\n", i, i);
	strcpy(end, "stage s\n a <-> b\n");
	expect_error((struct try){map, .in = "a F32\n", .to = "nemo"}, SD_INPUT, "no room for label l32");
}

Test(map_axes, unequal_slots_need_a_size)
{
	static const char map[] =
		"size a rows\nstage s\n q [a x] <-> qkv [a|| x]\n k [b x] <-> qkv [|b| x]\n v [b x] <-> qkv [||b x]\n";

	expect((struct try){map, .in = "v F32 1 2\nq F32 4 2\nk F32 1 2\n", .to = "nemo"},
	       "qkv F32 6 2 < v\nqkv F32 6 2 < q\nqkv F32 6 2 < k\n");
	expect((struct try){map, .in = "qkv F32 6 2\n", .to = "hf", .defines = {{"rows", "4"}}},
	       "q F32 4 2 < qkv\nk F32 1 2 < qkv\nv F32 1 2 < qkv\n");
	expect_error((struct try){map, .in = "qkv F32 6 2\n", .to = "hf"}, SD_INPUT,
		     "q: the shapes do not tell a; say -D rows (t.map:4)");
	expect_error((struct try){map, .in = "qkv F32 6 2\n", .to = "hf", .defines = {{"rows", "5"}}}, SD_INPUT,
		     "qkv: shape [6, 2] does not fit [a|| x], where a is 5 (t.map:4)");
}

/* The rows of q are the columns of the output projection, layer by layer. */
Test(map_axes, another_tensor_tells_a_size)
{
	static const char map[] =
		"size a rows of hf {L}.o [x a] config rows\nstage first\n m.{L}.o <-> {L}.o\nstage s\n"
		" {L}.q [a x] <-> {L}.qkv [a|| x]\n {L}.k [b x] <-> {L}.qkv [|b| x]\n"
		" {L}.v [b x] <-> {L}.qkv [||b x]\n";
	static const char left[] =
		"size a rows of hf {L}.o [x a] config rows\nstage s\n {L}.qkv [a|| x] <-> {L}.q [a x]\n"
		" {L}.qkv [|b| x] <-> {L}.k [b x]\n {L}.qkv [||b x] <-> {L}.v [b x]\n {L}.o <-> {L}.p\n";

	expect((struct try){left, .in = "0.qkv F32 6 2\n0.o F32 2 4\n1.qkv F32 8 2\n1.o F32 2 2\n", .to = "nemo"},
	       "0.q F32 4 2 < 0.qkv\n0.k F32 1 2 < 0.qkv\n0.v F32 1 2 < 0.qkv\n0.p F32 2 4 < 0.o\n"
	       "1.q F32 2 2 < 1.qkv\n1.k F32 3 2 < 1.qkv\n1.v F32 3 2 < 1.qkv\n1.p F32 2 2 < 1.o\n");
	expect((struct try){left, .in = "0.qkv F32 6 2\n", .to = "nemo", .defines = {{"rows", "2"}}},
	       "0.q F32 2 2 < 0.qkv\n0.k F32 2 2 < 0.qkv\n0.v F32 2 2 < 0.qkv\n");
	expect((struct try){left, .in = "0.qkv F32 6 2\n", .to = "nemo", .config = "{\"rows\": 4}"},
	       "0.q F32 4 2 < 0.qkv\n0.k F32 1 2 < 0.qkv\n0.v F32 1 2 < 0.qkv\n");
	expect_error((struct try){left, .in = "0.qkv F32 6 2\n1.o F32 2 4\n", .to = "nemo"}, SD_INPUT,
		     "0.q: the shapes do not tell a; say -D rows (t.map:4)");
	expect_error((struct try){left, .in = "0.qkv F32 6 2\n0.o F32 2 7\n", .to = "nemo"}, SD_INPUT,
		     "0.qkv: shape [6, 2] does not fit [a|| x], where a is 7 (t.map:4)");
	expect((struct try){left, .in = "0.q F32 4 2\n0.v F32 1 2\n0.k F32 1 2\n", .to = "hf"},
	       "0.qkv F32 6 2 < 0.q\n0.qkv F32 6 2 < 0.v\n0.qkv F32 6 2 < 0.k\n");
	/* In a later stage the key has the name that it has there; this way it is the left side that is told. */
	expect_error((struct try){map, .in = "0.qkv F32 6 2\n0.o F32 2 4\n", .to = "hf"}, SD_INPUT,
		     "0.q: the shapes do not tell a; say -D rows (t.map:6)");
}

/* A list with a size that is known is a condition: what does not fit goes on. */
Test(map_axes, known_sizes_choose_rules)
{
	static const char map[] = "size H hidden of hf {L}.r [n H]\nstage s\n"
				  " {L}.w [n H U] <-> {L}.v [n H U]\n {L}.w [n U H] -> {L}.v [n U H] note \"turned\"\n"
				  " {L}.w <-> {L}.v\n";

	expect((struct try){map, .in = "0.r F32 2 3\n0.w F32 2 3 8\n", .to = "nemo"},
	       "0.r F32 2 3 < 0.r\n0.v F32 2 3 8 < 0.w\n");
	expect((struct try){map, .in = "0.r F32 2 3\n0.w F32 2 8 3\n", .to = "nemo"},
	       "0.r F32 2 3 < 0.r\n0.v F32 2 8 3 < 0.w\nnote: 0.w: turned (t.map:5)\n");
	expect((struct try){map, .in = "0.r F32 2 3\n0.w F32 2 3 3\n1.w F32 2 8 3\n2.r F32 2 5\n2.w F32 2 8 3\n",
			    .to = "nemo"},
	       "0.r F32 2 3 < 0.r\n0.v F32 2 3 3 < 0.w\n1.v F32 2 8 3 < 1.w\n2.r F32 2 5 < 2.r\n"
	       "2.v F32 2 8 3 < 2.w\n");
}

Test(map_axes, products_need_one_factor)
{
	static const char map[] = "size n experts\nstage s\n a [(n r) I] <-> b [n I r]\n";

	expect((struct try){map, .in = "a F32 6 5\n", .to = "nemo", .defines = {{"experts", "2"}}},
	       "b F32 2 5 3 < a, reorder\n");
	expect((struct try){map, .in = "b F32 2 5 3\n", .to = "hf"}, "a F32 6 5 < b, reorder\n");
	expect_error((struct try){map, .in = "a F32 6 5\n", .to = "nemo"}, SD_INPUT,
		     "b: the shapes do not tell n; say -D experts (t.map:4)");
	expect_error((struct try){map, .in = "a F32 6 5\n", .to = "nemo", .defines = {{"experts", "4"}}}, SD_INPUT,
		     "a: shape [6, 5] does not fit [(n r) I], where n is 4 (t.map:4)");
}

Test(map_axes, copies_and_groups_that_may_lack_something)
{
	static const char map[] =
		"stage s\n {E}.g [r H] <-> A [E H r] if complete\n {E}.u [r H] <= A [E H r] if complete\n";

	expect((struct try){map, .in = "0.g F32 1 2\n0.u F32 1 2\n1.g F32 1 2\n1.u F32 1 2\n", .to = "nemo"},
	       "A F32 2 2 1 < 0.g\nA F32 2 2 1 < 1.g\n");
	expect((struct try){map, .in = "A F32 2 2 1\n", .to = "hf"},
	       "0.g F32 1 2 < A\n1.g F32 1 2 < A\n0.u F32 1 2 < A\n1.u F32 1 2 < A\n");
	expect((struct try){map, .in = "0.g F32 1 2\n0.u F32 1 2\n2.g F32 1 2\n", .to = "nemo"},
	       "0.g F32 1 2 < 0.g\n0.u F32 1 2 < 0.u\n2.g F32 1 2 < 2.g\n"
	       "note: 0.g and 2 more: it passes as it is, for others that would go into the same tensor are missing "
	       "(t.map:3)\n");
	expect((struct try){map, .in = "0.u F32 1 2\n", .to = "nemo"},
	       "0.u F32 1 2 < 0.u\nnote: 0.u: it passes as it is, for others that would go into the same tensor are "
	       "missing (t.map:4)\n");
	expect_error((struct try){map, .in = "0.g F32 1 2\n0.u F32 1 2\n2.g F32 1 2\n", .to = "nemo", .strict = true},
		     SD_INPUT, "A: E 1 of 3 has no g, 1 key is missing: 1.g (t.map:3)");
	expect_error((struct try){map, .in = "0.u F32 1 2\n", .to = "nemo", .strict = true}, SD_INPUT,
		     "0.u is a copy of what is not there (t.map:4)");
}

/* What passes with a word is refused where every key has to be known. */
Test(map_axes, what_is_kept_with_a_note)
{
	static const char map[] = "stage s\n {x*}.scale -> keep note \"no weight\"\n a.w -> b.w\n";

	expect((struct try){map, .in = "a.scale F32\na.w F32\n", .to = "nemo"},
	       "a.scale F32 < a.scale\nb.w F32 < a.w\nnote: a.scale: no weight (t.map:3)\n");
	expect_error((struct try){map, .in = "a.scale F32\na.w F32\n", .to = "nemo", .strict = true}, SD_INPUT,
		     "a.scale: no weight (t.map:3)");
	expect((struct try){map, .in = "a.w F32\n", .to = "nemo", .strict = true}, "b.w F32 < a.w\n");
}

static const char experts[] =
	"label expert m.{g=ud|d}\nstage s\n {E}.u [i h] <-> m.ud [E i| h]\n"
	" {E}.g [i h] <-> m.ud [E |i h]\n {E}.d [i h] <-> m.d [E i h]\nstage t\n x.{x*} <-> y.{x*}\n";

/* Members of several dtypes are one tensor where -D dtype makes them one, in whatever order they come. */
Test(map_axes, members_of_several_dtypes)
{
	static const struct sd_define to_bf16 = {"dtype", "bf16"};

	expect((struct try){experts, .in = "0.u F32 1 2\n0.g BF16 1 2\n0.d F16 1 2\n", .to = "nemo",
			    .defines = {to_bf16}},
	       "m.ud BF16 1 2 2 < 0.u, cast BF16\nm.ud BF16 1 2 2 < 0.g\nm.d BF16 1 1 2 < 0.d, cast BF16\n");
	expect((struct try){experts, .in = "0.u BF16 1 2\n0.g F32 1 2\n0.d F16 1 2\n", .to = "nemo",
			    .defines = {to_bf16}},
	       "m.ud BF16 1 2 2 < 0.u\nm.ud BF16 1 2 2 < 0.g, cast BF16\nm.d BF16 1 1 2 < 0.d, cast BF16\n");
	expect_error((struct try){experts, .in = "0.u F32 1 2\n0.g BF16 1 2\n0.d F16 1 2\n", .to = "nemo"}, SD_INPUT,
		     "m.ud would be both F32 and BF16, from 0.g: say -D dtype=DTYPE");
	/* What has no fraction stays what it is, and exponents do. */
	expect_error((struct try){experts, .in = "0.u I16 1 2\n0.g BF16 1 2\n0.d F16 1 2\n", .to = "nemo",
				  .defines = {to_bf16}},
		     SD_INPUT, "m.ud would be both I16 and BF16, from 0.g");
	expect_error((struct try){experts, .in = "0.u F8_E8M0 1 2\n0.g BF16 1 2\n0.d F16 1 2\n", .to = "nemo",
				  .defines = {to_bf16}},
		     SD_INPUT, "m.ud would be both F8_E8M0 and BF16, from 0.g");
	/* Only experts are cast. */
	expect_error((struct try){"label expert e\nstage s\n {E}.u [i] <-> m [E i]\n", .in = "0.u F32 2\n1.u BF16 2\n",
				  .to = "nemo", .defines = {to_bf16}},
		     SD_INPUT, "m would be both F32 and BF16, from 1.u");
}

/* The tensors of one module that are marked as experts have as many of them, in both layouts. */
Test(map_axes, experts_of_one_module_are_as_many)
{
	static const char grouped[] = "label expert {x*}.{g=u|d}\nstage s\n a.{g=u|d} [E x y] <-> b.{g} [E y x]\n";

	expect_error((struct try){experts, .in = "m.ud F32 2 2 2\nm.d F32 3 1 2\n", .to = "hf"}, SD_INPUT,
		     "m.ud has 2 experts, m.d has 3");
	expect_error((struct try){grouped, .in = "b.u F32 2 2 2\nb.d F32 3 1 2\n", .to = "hf"}, SD_INPUT,
		     "b.u has 2 experts, b.d has 3");
	expect_error((struct try){grouped, .in = "a.u F32 2 2 2\na.d F32 3 1 2\n", .to = "nemo"}, SD_INPUT,
		     "b.u has 2 experts, b.d has 3");
	expect((struct try){grouped, .in = "a.u F32 2 1 1\n", .to = "nemo"}, "b.u F32 2 1 1 < a.u\n");
}

/* So are those that are written one by one, whatever they are. */
Test(map_axes, what_is_written_one_by_one_is_as_many)
{
	static const char map[] =
		"stage s\n {L}.{E}.a [r i] <-> {L}.A [E i r] if complete\n {L}.{E}.b [i r] <-> {L}.B [E i r]\n";

	expect_error((struct try){map, .in = "0.A F32 2 1 1\n0.B F32 3 1 1\n", .to = "hf"}, SD_INPUT,
		     "E is 2 in 0.A and 3 in 0.B, which number the same things (t.map:4)");
	expect((struct try){map, .in = "0.A F32 1 1 1\n0.B F32 1 1 1\n1.B F32 2 1 1\n", .to = "hf"},
	       "0.0.a F32 1 1 < 0.A\n0.0.b F32 1 1 < 0.B\n1.0.b F32 1 1 < 1.B\n1.1.b F32 1 1 < 1.B\n");
}

/* ": dtype" is for the way to the right. */
Test(map_axes, what_minus_d_dtype_says)
{
	static const char map[] = "stage s\n a <-> b : dtype\n {x*} F32 -> {x*} BF16 : dtype\n keep <- {x*}\n";
	static const struct sd_define to_f16 = {"dtype", "f16"};

	expect((struct try){map, .in = "a F32 2\nc F32 2\nd I8 2\n", .to = "nemo"},
	       "b F32 2 < a\nc BF16 2 < c, cast BF16\nd I8 2 < d\n");
	expect((struct try){map, .in = "a F32 2\nc F32 2\nd I8 2\n", .to = "nemo", .defines = {to_f16}},
	       "b F16 2 < a, cast F16\nc F16 2 < c, cast F16\nd I8 2 < d\n");
	expect((struct try){map, .in = "b F16 2\nc F32 2\n", .to = "hf"}, "a F16 2 < b\nc F32 2 < c\n");
	expect_error((struct try){"stage s\n a <-> b\n", .in = "a F32 2\n", .to = "nemo", .defines = {to_f16}},
		     SD_USAGE, "-D dtype: map t has no such option; it has none");
}

Test(map_axes, copies_that_are_missing)
{
	static const char map[] = "stage s\n {E}.g [r H] <-> A [E H r]\n {E}.u [r H] <= A [E H r]\n";

	expect_error((struct try){map, .in = "0.g F32 1 2\n0.u F32 1 2\n1.g F32 1 2\n", .to = "nemo"}, SD_INPUT,
		     "A has 2 parts and 1 copies (t.map:3)");
	expect_error((struct try){map, .in = "0.u F32 1 2\n", .to = "nemo"}, SD_INPUT,
		     "0.u is a copy of what is not there (t.map:4)");
}

/* Where element (i, h) of each expert's gate and up has to lie, counted by hand. */
Test(map_axes, elements_lie_where_the_lists_say)
{
	enum { EXPERTS = 3, I = 4, H = 5 };
	struct sd_error err = {0};
	struct sd_map *map = NULL;
	struct sd_manifest *in;
	struct sd_plan plan;
	struct sd_rename rename = {.to = 1};
	char lines[2048] = "";

	for (int e = EXPERTS; e-- > 0;)
		snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines),
			 "m.0.%d.up F32 4 5\nm.0.%d.gate F32 4 5\nm.0.%d.down F32 5 4\n", e, e, e);
	in = manifest(lines);
	cr_assert(compile(moe, NULL, &map, &err) == SD_OK);
	rename.map = map;
	cr_assert(sd_rename_plan(&rename, in, &plan, &err) == SD_OK, "%s", err.text);
	for (size_t k = 0; k < plan.manifest->ntargets; k++) {
		const struct sd_target *t = &plan.manifest->targets[k];
		const char *key = plan.manifest->records[t->record].key;
		struct sd_move room;
		const struct sd_move *m = sd_target_move(plan.manifest, t, &room);
		uint64_t e = (uint64_t)(key[4] - '0'), seen = 0;

		cr_assert(m->rank == 2);
		for (uint64_t a = 0; a < m->dim[0].size; a++)
			for (uint64_t b = 0; b < m->dim[1].size; b++, seen++) {
				uint64_t from = m->from + a * m->dim[0].from + b * m->dim[1].from;
				uint64_t to = m->to + a * m->dim[0].to + b * m->dim[1].to, want;

				if (key[6] == 'd')
					want = (e * I + from % I) * H + from / I;
				else
					want = (e * H + from % H) * 2 * I + from / H + (key[6] == 'u' ? I : 0);
				cr_assert(to == want, "%s: %" PRIu64 " lies at %" PRIu64 ", not %" PRIu64, key, from,
					  to, want);
			}
		cr_assert(seen == I * H);
	}
	sd_plan_free(&plan);
	sd_map_free(map);
	sd_manifest_free(in);
}

/* What an earlier stage has moved, a later one moves on. */
Test(map_axes, stages_compose)
{
	static const char map[] = "stage one\n {E}.a [x y] <-> b [E y x]\nstage two\n b [E y x] <-> c [y (E x)]\n";
	struct sd_error err = {0};
	struct sd_map *made = NULL;
	struct sd_manifest *in = manifest("1.a F32 2 3\n0.a F32 2 3\n");
	struct sd_plan plan;
	struct sd_rename rename = {.to = 1};

	cr_assert(compile(map, NULL, &made, &err) == SD_OK);
	rename.map = made;
	cr_assert(sd_rename_plan(&rename, in, &plan, &err) == SD_OK, "%s", err.text);
	cr_assert(plan.manifest->ntargets == 2);
	for (size_t k = 0; k < 2; k++) {
		const struct sd_move *m = plan.manifest->targets[k].move;
		uint64_t e = k == 0;

		for (uint64_t a = 0; a < m->dim[0].size; a++)
			for (uint64_t b = 0; b < m->dim[1].size; b++) {
				uint64_t from = m->from + a * m->dim[0].from + b * m->dim[1].from;
				uint64_t to = m->to + a * m->dim[0].to + b * m->dim[1].to;

				cr_assert(to == from % 3 * 4 + e * 2 + from / 3);
			}
	}
	sd_plan_free(&plan);
	sd_map_free(made);
	sd_manifest_free(in);
}
