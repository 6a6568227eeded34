/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the map language: what is refused, with its line and its reason. */
#include "map.h"

static void refused(const char *text, const char *want)
{
	struct sd_error err = {0};
	struct sd_map *map = NULL;
	enum sd_result result = compile(text, "map used hf nemo\nstage s\n .a <-> .b\n", &map, &err);

	cr_expect(result == SD_INPUT && strcmp(err.text, want) == 0, "\n%s\nwanted: %s\ngot %d: %s", text, want, result,
		  err.text);
	if (result == SD_OK)
		sd_map_free(map);
}

static void taken(const char *text)
{
	struct sd_error err = {0};
	struct sd_map *map = NULL;
	enum sd_result result =
		compile(text, "map used hf nemo\noption o a|b\nstage s\n .a <-> .b\nstage t\n", &map, &err);

	cr_expect(result == SD_OK, "\n%s\n%s", text, err.text);
	if (result == SD_OK)
		sd_map_free(map);
}

Test(map_parse, begins_with_its_name)
{
	struct sd_error err = {0};
	struct sd_map *map;

	cr_expect(sd_map_parse("x.map", "# nothing\n\nstage s\n", NULL, &map, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "x.map:3: a map begins with: map NAME LEFT RIGHT");
	cr_expect(sd_map_parse("x.map", "", NULL, &map, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "x.map:1: a map begins with: map NAME LEFT RIGHT");
	cr_expect(sd_map_parse("x.map", "map a b", NULL, &map, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "x.map:1: the right layout's name is missing");
	refused("map b c d\n", "t.map:2: a file is one map");
}

Test(map_parse, takes_comments_blanks_and_no_final_newline)
{
	taken("# a comment\n\n \t \nstage s # behind\n  a <-> b # behind\n\tc <-> d");
}

Test(map_parse, statements)
{
	refused("nonsense\n", "t.map:2: \"nonsense\" is no statement, and a rule stands in a stage");
	refused("stage\n", "t.map:2: the stage's name is missing");
	refused("stage a b\n", "t.map:2: \"b\" is not understood here");
	refused("option\n", "t.map:2: the option's name is missing");
	refused("option dtype a|b\n", "t.map:2: \"dtype\" cannot be the name of an option");
	refused("option o a|b from shapes\n", "t.map:2: an option can be found \"from keys\" or \"from config\"");
	refused("option o a|b\noption o c|d\n", "t.map:3: option o is there already, with a|b");
	refused("option o a|b stamp f.json x p=c\n",
		"t.map:2: behind the field's name comes what it says for each value, as TEXT=VALUE");
	refused("set P \"x\" if o=a else \"\"\n", "t.map:2: there is no option \"o\"");
	refused("option o a|b\nset P \"x\" if o=c else \"\"\n", "t.map:3: option o is a|b, never \"c\"");
	refused("set P \"x\" if any pt {x} else \"\"\n", "t.map:2: \"pt\" is none of the layouts hf and nemo");
	refused("set P \"x\n", "t.map:2: a \" is not closed");
	refused("set P \"x\" if any hf {x*}\n", "t.map:2: behind the condition comes \"else\"");
	refused("table g a=b a=c\n", "t.map:2: \"a=c\": one of the two is in the table already");
	refused("table g a=b c=b\n", "t.map:2: \"c=b\": one of the two is in the table already");
	refused("table g\n", "t.map:2: the table is empty");
	refused("table g a\n", "t.map:2: an entry of a table is LEFT=RIGHT");
	refused("size n\n", "t.map:2: the option's name is missing");
	refused("use other s\n", "t.map:2: there is no map other");
	refused("use used under p\n", "t.map:2: behind the map's name come the stages to use");
	taken("use used\n");
	taken("model m n if alone\n");
	refused("model m if x\n", "t.map:2: behind \"if\" comes \"alone\"");
	refused("model m if alone n\n", "t.map:2: \"n\" is not understood here");
	refused("use used x under p\n", "t.map:2: map used has no stage \"x\"");
	taken("use used s t under p\n");
	taken("option o a|b\nuse used s @o=b under p q\n");
	refused("use used s @o=b\n", "t.map:2: there is no option \"o\"");
}

Test(map_parse, names_and_conditions)
{
	struct sd_error err = {0};
	struct sd_map *map;

	refused("option o\n", "t.map:2: the option's values is missing");
	refused("set 1 \"x\" if o=a else \"\"\n", "t.map:2: \"1\" cannot be the name of a text");
	refused("set P \"x\" when o=a else \"\"\n", "t.map:2: behind the text comes \"if\"");
	refused("option o a|b\nset P \"x\" if o else \"\"\n", "t.map:3: a condition on an option is NAME=VALUE");
	refused("option o a|b\nset P \"x\" if o=a else \"\"\nset P \"y\" if o=b else \"\"\n",
		"t.map:4: P is set already");
	refused("table 1 a=b\n", "t.map:2: \"1\" cannot be the name of a table");
	refused("table g a=b\ntable g c=d\n", "t.map:3: table g is there already");
	refused("size 1 n\n", "t.map:2: a size is: size AXIS OPTION [of LAYOUT KEY [axes]] [config NAME ..] [or none] "
			      "[in STAGE ..]");
	cr_expect(sd_map_parse("x.map", "map a b c\nuse d s\n", NULL, &map, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "x.map:2: map d cannot be found from here");
}

/* What there can only be so much of. */
Test(map_parse, limits)
{
	char text[4096] = "stage s\n a [", *end;

	end = text + strlen(text);
	for (int i = 0; i < 65; i++)
		end += sprintf(end, "x%d ", i);
	strcpy(end, "] <-> b [x]\n");
	cr_expect(strlen(text) < sizeof(text));
	{
		struct sd_error err = {0};
		struct sd_map *map;

		cr_expect(compile(text, NULL, &map, &err) == SD_INPUT && strstr(err.text, "too many axis names"), "%s",
			  err.text);
	}
	end = text + sprintf(text, "stage s\n ");
	for (int i = 0; i < 17; i++)
		end += sprintf(end, "{x%d}.", i);
	strcpy(end, " -> drop\n");
	refused(text, "t.map:3: a rule can have 16 holes");
	end = text + sprintf(text, "model");
	for (int i = 0; i < 256; i++)
		end += sprintf(end, " m%d", i);
	strcpy(end, "\n");
	refused(text, "t.map:2: the line is too long");
	refused("stage s\n a.{A}.{B}.{C} [x] <-> b [A B C x]\n", "t.map:3: more than 2 numbers become axes");
}

Test(map_parse, rules)
{
	refused("stage s\n a <-> b c\n", "t.map:3: \"c\" is not understood here");
	refused("stage s\n a = b\n", "t.map:3: between the two sides stands <->, ->, <-, <= or =>, not \"=\"");
	refused("stage s\n a ->\n", "t.map:3: a pattern is missing");
	refused("stage s\n a <-> drop\n", "t.map:3: drop, keep and refuse stand where a -> or <- points to");
	refused("stage s\n drop -> a\n", "t.map:3: drop, keep and refuse stand where a -> or <- points to");
	refused("stage s\n a -> refuse\n", "t.map:3: why it is refused, in \"\", is missing");
	refused("stage s\n a <-> b : F31\n", "t.map:3: \"F31\" is neither a dtype nor an arithmetic");
	refused("stage s\n @o=a a <-> b\n", "t.map:3: there is no option \"o\"");
	refused("stage s\n a <-> b if c\n",
		"t.map:3: if and unless stand behind a one-way rule: the other layout has other names");
	taken("stage s\n keep a\n a.x -> keep\n keep <- a.y\n b -> drop\n drop <- c\n d -> refuse \"why\"\n");
}

Test(map_parse, holes)
{
	refused("stage s\n {x <-> b\n", "t.map:3: a { is not closed");
	refused("stage s\n x} <-> b\n", "t.map:3: a } that closes nothing");
	refused("stage s\n {} <-> b\n", "t.map:3: \"{}\" is no hole: a hole is {x}, {x*} or {x=a|b}");
	refused("stage s\n {1x} <-> b\n", "t.map:3: \"{1x}\" is no hole: a hole is {x}, {x*} or {x=a|b}");
	refused("stage s\n {x}.{x} <-> b\n", "t.map:3: hole {x} stands twice in one pattern");
	refused("stage s\n {x} <-> {x*}\n", "t.map:3: hole {x} is said twice, and not the same");
	refused("stage s\n {x=a|b} <-> {x=a|c}\n", "t.map:3: hole {x} is said twice, and not the same");
	refused("stage s\n a.{x} <-> b\n", "t.map:3: hole {x} is written on the left, and the right does not have it");
	refused("stage s\n a -> b.{x}\n", "t.map:3: hole {x} is written on the right, and the left does not have it");
	refused("stage s\n a <-> ${P}b\n", "t.map:3: ${P} is not set");
	refused("stage s\n a -> drop if {x}\n", "t.map:3: hole {x} of the condition is not in the key");
	taken("stage s\n a.{x} -> b\n a <- b.{x}\n {x=a|b|}c <-> {x}d\nstage t\n {x*}.e <-> {x}.f\n");
}

Test(map_parse, numbers)
{
	refused("stage s\n a.{L-N} <-> b.{L}\n", "t.map:3: \"N\" is neither a number nor a size");
	refused("stage s\n a.{L-} <-> b.{L}\n", "t.map:3: \"\" is neither a number nor a size");
	refused("stage s\n a.{l-1} <-> b.{l}\n", "t.map:3: hole {l} is no number");
	refused("stage s\n a.{xy-1} <-> b\n", "t.map:3: \"{xy-1}\" is no hole: a hole is {x}, {x*} or {x=a|b}");
	refused("stage s\n a.{L}.{L-1} -> b\n", "t.map:3: holes {L} and {L-1} stand in one pattern");
	refused("stage s\n a.{L-1} <-> b\n",
		"t.map:3: hole {L-1} is written on the left, and the right does not have it");
	refused("stage s\n a.{L} <-> b except c.{L-1}\n", "t.map:3: {L-1} can only stand in a rule");
	refused("label x a.{L+2}\n", "t.map:2: {L+2} can only stand in a rule");
	refused("set P \"\" if any hf a.{L+2} else \"\"\n", "t.map:2: {L+2} can only stand in a rule");
	refused("stage s\n a.{L} -> b.{L} if L>2\n", "t.map:3: \"L>2\": a bound is L>=N or L<N");
	refused("stage s\n a.{L} -> b.{L} if L<=2\n", "t.map:3: \"L<=2\": a bound is L>=N or L<N");
	refused("stage s\n a.{L} -> b.{L} if L<N\n", "t.map:3: \"N\" is neither a number nor a size");
	refused("stage s\n a.{L} -> b.{L} if M<2\n", "t.map:3: \"M<2\": the rule has no number {M}");
	refused("stage s\n a.{x} -> b.{x} if x<2\n", "t.map:3: \"x<2\": the rule has no number {x}");
	refused("stage s\n a.{L} -> b.{L} unless L<2\n", "t.map:3: a bound stands behind \"if\"");
	refused("stage s\n a.{E} [x] <-> b [E x] if E<2\n", "t.map:3: hole {E} of the bound is not in the key");
	refused("stage s\n a -> b note\n", "t.map:3: what is to be said, in \"\", is missing");
	refused("size N layers or what\n", "t.map:2: behind \"or\" comes \"none\"");
	refused("size N layers of pt a [N]\n", "t.map:2: \"pt\" is none of the layouts hf and nemo");
	refused("size N layers of hf a [x]\n", "t.map:2: behind the key stand its axes, N among them");
	refused("size N layers of hf a\n", "t.map:2: behind the key stand its axes, N among them");
	refused("size N layers of hf a [N|]\n", "t.map:2: [N|]: bars and blocks stand in rules");
	taken("size N layers config a b or none in s\nsize M more of hf {L}.a [M x] config c\n"
	      "stage s\n a.{L-N} <-> b.{L} if L<9 note \"x\"\n c.{L} -> drop if L>=N\n d.{L} [M] <-> e.{L} [M]\n");
}

/* Who says -D must not be told that all is well when nothing changes. */
Test(map_parse, what_no_rule_asks_for)
{
	struct sd_map *map;
	struct sd_error err = {0};
	const char *name = NULL, *values;
	bool from_keys;

	refused("option o a|b\nstage s\n a <-> b\n", "t.map:2: no rule asks for the option o");
	refused("option o a|b\nset P \"x\" if o=a else \"\"\nstage s\n a <-> b\n",
		"t.map:2: no rule asks for the option o");
	refused("size n number\nstage s\n a <-> b\n", "t.map:2: no rule asks for the size number");
	refused("size n number in t\nstage s\n a [n] <-> b [n]\n", "t.map:2: no rule asks for the size number");
	taken("option o a|b\nset P \"x\" if o=a else \"\"\nstage s\n a -> ${P}b\n");
	taken("option o a|b\nset P \"x\" if o=a else \"\"\nlabel expert ${P}{x*}.w\nstage s\n a <-> b\n");
	cr_assert(compile("use used s\n",
			  "map used hf nemo\noption o a|b\noption p a|b\nsize n rows\nsize m columns\nstage s\n @p=a a "
			  "[n] <-> "
			  "b [n]\n @p=b c <-> d\nstage t\n @o=a e [m] <-> f [m]\n @o=b e <-> f\n",
			  &map, &err) == SD_OK,
		  "%s", err.text);
	cr_expect(sd_map_option(map, 0, &name, &values, &from_keys));
	cr_expect_str_eq(name, "p");
	cr_expect_not(sd_map_option(map, 1, &name, &values, &from_keys));
	sd_map_free(map);
}

/* What is wrong with the samples of a map, or "". */
static void checked(const char *text, const char *want)
{
	struct sd_error err = {0};
	struct sd_map *map = NULL;

	cr_assert(compile(text, NULL, &map, &err) == SD_OK, "%s", err.text);
	cr_expect(sd_map_check_samples(map, &err) == (*want ? SD_INPUT : SD_OK) && strcmp(err.text, want) == 0,
		  "\n%s\nwanted: %s\ngot: %s", text, want, err.text);
	sd_map_free(map);
}

Test(map_parse, samples)
{
	refused("sample\n", "t.map:2: the sample's key is missing");
	refused("sample a [2]\n", "t.map:2: behind the sample's key comes its dtype");
	refused("sample a F32\n", "t.map:2: the shape, as in [2 3], is missing");
	refused("sample a F32 [2 x]\n", "t.map:2: [2 x] is no shape: a shape is as in [2 3]");
	refused("sample a.{x} F32 [2]\n", "t.map:2: the holes of a sample are choices, as {x=a|b}");
	refused("sample @o a F32 [2]\n", "t.map:2: in front of a sample stand options and sizes as @NAME=VALUE");
	refused("sample a F32 [2] ->\n", "t.map:2: the sample's key is missing");
	refused("sample a F32 [2] -> b.{x} F32 [2]\n", "t.map:2: the holes of a sample are choices, as {x=a|b}");
	refused("sample a F32 [2] -> drop b\n", "t.map:2: \"b\" is not understood here");
	refused("sample {a=1|2|3|4}{b=1|2|3|4}{c=1|2|3|4}{d=1|2|3|4}{e=1|2|3|4} F32 []\n",
		"t.map:2: more than 1000 samples");
}

Test(map_parse, samples_go_there_and_back)
{
	checked("stage s\n a.{E}.{x} [i] <-> b.{x} [E i]\nsample a.{E=0|1}.{x=p|q} F32 [3]\n", "");
	checked("stage s\n a [] <-> b []\nsample a F32 []\n", "");
	checked("option o no|yes\nsize n rows\nstage s\n @o=yes a [(n m)] <-> b [m n]\n @o=no a <-> c\n"
		"sample a F32 [6]\nsample @o=yes @rows=2 a F32 [6]\n",
		"");
	/* A copy comes back from what it is a copy of. */
	checked("stage s\n {E}.g [r] <-> A [E r]\n {E}.u [r] <= A [E r]\nsample 0.{x=g|u} F32 [3]\n", "");
	checked("stage s\n {x}.a -> {x}.b F32\n c -> drop\n"
		"sample {x=1|2}.a BF16 [2] -> {x}.b F32 [2]\nsample c F32 [2] -> drop\n",
		"");
	checked("stage s\n a -> b\nsample a F32 [2] -> c F32 [2]\n", "t.map:4: sample a becomes b F32 [2]");
	checked("stage s\n a -> b\nsample a F32 [2] -> b BF16 [2]\n", "t.map:4: sample a becomes b F32 [2]");
	checked("stage s\n a -> b\nsample a F32 [2] -> drop\n", "t.map:4: sample a becomes b F32 [2]");
	checked("stage s\n a -> drop\nsample a F32 [2] -> b F32 [2]\n", "t.map:4: nothing becomes of sample a");
	checked("stage s\n a <-> b\nsample a F32 [2]\nsample c F32 [2]\n",
		"t.map:4: samples: no rule of map t takes 1 of the keys: c");
	checked("stage s\n a -> drop\n b <-> c\nsample {x=b|a} F32 [2]\n", "t.map:5: sample a does not come back");
	checked("stage s\n a -> b\n b <- b\nsample a F32 [2]\n", "t.map:5: sample a comes back as b F32 [2]");
	checked("stage s\n a <-> b : F32\nsample a BF16 [2]\n", "t.map:4: sample a comes back as a F32 [2]");
	checked("stage s\n a F64 -> b F32\n a F64 <- b\nsample a F64 [2]\n",
		"t.map:5: sample a comes back with other values");
	checked("stage s\n a [x y] -> b [y x]\n a <- b\nsample a F32 [2 2]\n",
		"t.map:5: sample a comes back with other places of its elements");
	checked("stage s\n a -> b\nsample a F32 [2]\n",
		"t.map:4: samples on their way back: b: its rule goes one way, from hf to nemo (t.map:3: a -> b)");
	checked("stage s\n {E}.a [x] <-> b [E x]\nsample 1.a F32 [2]\n",
		"t.map:4: samples: b: E 0 of 2 has no a, 1 key is missing: 0.a (t.map:3)");
	checked("stage s\n a <-> b\nsample @p=1 a F32 [2]\n",
		"t.map:4: samples: -D p: map t has no such option; it has none");
}

Test(map_parse, files_beside_the_weights)
{
	static const char option[] = "option o a|b\nstage s\n @o=a x -> y\n @o=b z -> y\n";
	char text[512];

	refused("config a\n", "t.map:2: between the two fields stands <->");
	refused("config a -> b\n", "t.map:2: between the two fields stands <->");
	refused("config a <->\n", "t.map:2: a field of the right layout's config.json is missing");
	refused("config a <-> b if\n", "t.map:2: a condition is missing");
	refused("config a <-> b if c\n", "t.map:2: behind \"if\" comes KEY=VALUE, with | between several values");
	refused("config a <-> b c\n", "t.map:2: \"c\" is not understood here");
	refused("config a <-> b\nconfig c <-> b\n", "t.map:3: field c or b is said already");
	taken("config a <-> b if c=d|e\nconfig f <-> b.f\nstage s\n a <-> b\n");
	refused("peft g target_modules a.b\n", "t.map:2: \"peft\" is no statement, and a rule stands in a stage");
	refused("stage s\n peft\n", "t.map:3: a name for what the tensors are of is missing");
	refused("stage s\n peft g a.b\n",
		"t.map:3: behind \"peft\" and a name comes target_modules or target_parameters");
	refused("stage s\n peft g target_modules\n", "t.map:3: a pattern is missing");
	refused("stage s\n peft g @o=a target_modules a.b\n", "t.map:3: there is no option \"o\"");
	refused("stage s\n peft g target_modules b\n",
		"t.map:3: \"b\": it ends in a name, behind the module that has the experts");
	refused("stage s\n peft g target_modules {p*}.{x}\n",
		"t.map:3: \"{p*}.{x}\": it ends in a name, behind the module that has the experts");
	refused("stage s\n peft g target_modules {p*}.{E}.x\n",
		"t.map:3: \"{p*}.{E}.x\": it ends in a name, behind the module that has the experts");
	for (int i = 0; i < 2; i++) {
		snprintf(text, sizeof(text), "%s peft g @o=a target_modules {p*}.m.{E}.x m.y\n%s", option,
			 i ? " peft g @o=b target_parameters m.z\n" : "");
		taken(text);
	}
}

Test(map_parse, axes)
{
	refused("stage s\n a [x] <-> b\n", "t.map:3: one side has an axis list, the other has none");
	refused("stage s\n a [x y] <-> b [x z]\n", "t.map:3: axis y is on the left side only");
	refused("stage s\n a [x] <-> b [x y]\n", "t.map:3: axis y is on the right side only");
	refused("stage s\n a [x x] <-> b [x x]\n", "t.map:3: axis x stands twice on one side");
	refused("stage s\n a [2 x] <-> b [x]\n", "t.map:3: axis 2 is on the left side only");
	refused("stage s\n a [x -] <-> b [x]\n", "t.map:3: [x -]: an axis is a name or a number");
	refused("stage s\n a [2x] <-> b [x]\n", "t.map:3: [2x]: an axis name begins with a letter");
	refused("stage s\n a [0] <-> b [0]\n", "t.map:3: [0]: a size in an axis list is 1 or more");
	refused("stage s\n a [()] <-> b [x]\n", "t.map:3: [()]: an empty product");
	refused("stage s\n a [(x y] <-> b [x]\n", "t.map:3: [(x y]: an axis is a name or a number");
	refused("stage s\n a [x(y)] <-> b [x]\n", "t.map:3: [x(y)]: axes are set apart by spaces");
	refused("stage s\n a [x~] <-> b [x]\n", "t.map:3: [x~]: behind ~ comes the size of a block");
	refused("stage s\n a [x <-> b\n", "t.map:3: a [ is not closed");
	refused("stage s\n a [x| y|] <-> b [x y]\n", "t.map:3: [x| y|]: only one axis of a list can have bars");
	refused("stage s\n a [1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 "
		"1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1] <-> b [1]\n",
		"t.map:3: [1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 "
		"1 1 "
		"1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1]: too many axes");
	refused("stage s\n a [a b c d e f g h i j k l m n o p q] <-> b [q p o n m l k j i h g f e d c b a]\n",
		"t.map:3: more than 16 axes");
	taken("stage s\n a [1 x] <-> b [x]\n c [(x y) 2] <-> d [2 y x]\n");
}

Test(map_parse, slots_and_stacks)
{
	refused("stage s\n a [x] <-> c [x|]\n", "t.map:3: slot 2 of c is filled by no rule");
	refused("stage s\n a [x] <-> c [x|]\n b [x] <-> c [x|]\n", "t.map:4: slot 1 of c is filled twice");
	refused("stage s\n a [x] <-> c [x|]\n b [x] <-> c [|x|]\n", "t.map:4: c has 3 slots here and 2 in line 3");
	refused("stage s\n a [x|] <-> c [|x]\n", "t.map:3: only one side can have bars");
	refused("stage s\n a.{E} [x] <-> c [x]\n",
		"t.map:3: hole {E} is written on the left, and the right does not have it");
	refused("stage s\n a.{E} <-> c [E x]\n", "t.map:3: one side has an axis list, the other has none");
	taken("stage s\n a.{E} [x] <-> c [E x|]\n b.{E} [x] <-> c [E |x]\n");
	taken("stage s\n q [a x] <-> qkv [a|| x]\n k [b x] <-> qkv [|b| x]\n v [c x] <-> qkv [||c x]\n");
}

Test(map_parse, scales)
{
	static const char both[] =
		"t.map:3: a + SCALE and \": fp8\", \": fp4\", \": int4\" or \": times\" need each other";

	refused("stage s\n a [o i] -> b [o i] : fp8\n", both);
	refused("stage s\n a [o i] -> b [o i] : times\n", both);
	refused("stage s\n a [o i] + s [o~128] -> b [o i]\n", both);
	refused("stage s\n a [o i] + s [o~128] <-> b [o i] : fp8\n", "t.map:3: \": fp8\" goes one way: ->");
	refused("stage s\n a [o i] + s [k~128] -> b [o i] : fp8\n",
		"t.map:3: the axes of a scale are those of its weight, each by its block: i~128");
	refused("stage s\n a [o i] -> b [o i] + s [o~128] : fp8\n", "t.map:3: a + SCALE stands on the left of a ->");
	refused("stage s\n a [o~2 i] + s [o] -> b [o i] : fp8\n", "t.map:3: a weight with a scale has plain axes");
	refused("stage s\n a [(o p) i] + s [p] -> b [o p i] : fp8\n",
		"t.map:3: of a product, the first axis alone can be in the scale");
	refused("stage s\n a + s -> b : fp8\n",
		"t.map:3: the weight and its scale need axis lists, e.g. [o i] and [o~128 i~128]");
	refused("stage s\n a [o i] + s.{x} [o~128] -> b [o i] : fp8\n",
		"t.map:3: hole {x} of the scale is not in the weight's key");
	taken("stage s\n a [o i] + s [o~128 i~128] -> b [o i] BF16 : fp8\n");
	taken("stage s\n a [(o p) i] + s [o~2] -> b [o p i] : fp8\n");
	taken("stage s\n a [o i] + s [] -> b [o i] : fp8 byte0=0 byte255=inf\n");
}

Test(map_parse, codes)
{
	static const char last[] = "t.map:3: \": fp4\" and \": int4\" need the last axis of the weight as in i/2, and "
				   "nothing else does";

	refused("stage s\n a [o i] + s [o] -> b [o i] : fp4\n", last);
	refused("stage s\n a [o/2 i] + s [o] -> b [o i] : fp4\n", last);
	refused("stage s\n a [o (i/2 k)] + s [o] -> b [o i k] : fp4\n", last);
	refused("stage s\n a [o i/2] + s [o] -> b [o i] : fp8\n", last);
	refused("stage s\n a [o i/2] <-> b [o i]\n", last);
	refused("stage s\n a [o i] <-> b [o i/2]\n",
		"t.map:3: what is written is not packed: i/2 is for the left of a ->");
	refused("stage s\n a [o i/] + s [o] -> b [o i] : fp4\n",
		"t.map:3: [o i/]: behind / comes how many lie in one element");
	refused("stage s\n a [o i/2] + s [o] -> b [o i] : fp4 code8=-0\n",
		"t.map:3: \"code8=-0\" is not understood here");
	refused("stage s\n a [o i/8] + s [o] -> b [o i] : int4 code8=+0\n",
		"t.map:3: \"code8=+0\" is not understood here");
	refused("stage s\n a [o i/2] + s [o] -> b [o i] : fp4 byte255=inf byte255=2^128\n",
		"t.map:3: byte 255 is either infinity or 2^128");
	taken("stage s\n a [o i/2] + s [o i~32] -> b [i o] BF16 : fp4 code8=+0 byte0=0 byte255=2^128 if c\n");
	taken("stage s\n a [o (g v/8)] + s [(o g)] -> b [o (g v)] : int4\n");
}

Test(map_parse, constants_and_copies)
{
	refused("stage s\n a [x] <-> b [x] : ones\n", "t.map:3: \": ones\" goes one way, from a key to a key");
	refused("stage s\n a -> drop : zeros\n", "t.map:3: \": zeros\" goes one way, from a key to a key");
	refused("stage s\n a [x y] -> b [x z] : zeros\n", "t.map:3: axis z is on the right side only");
	refused("stage s\n a [x y] -> b [x|] : zeros\n",
		"t.map:3: \": zeros\" has plain axes, and numbers that stay numbers");
	refused("stage s\n a.{x} => b\n",
		"t.map:3: hole {x} is not in the name of the copy: what it is a copy of cannot be told from it");
	refused("stage s\n a => b.{x}\n", "t.map:3: hole {x} is written on the right, and the left does not have it");
	taken("stage s\n a.{x} => c.{x} unless c.{x}\n a.{x} <-> b.{x}\n");
	taken("stage s\n a [x y] -> b [y] F32 : ones unless b\n a [x y] <-> c [y x]\n c [] <- d [] : zeros\n");
}

Test(map_parse, rules_that_overlap)
{
	refused("stage s\n {x}.a -> c.{x}\n b.{y} -> d.{y}\n",
		"t.map:4: \"b.a\" fits this rule and that of line 3, and neither is an exception to the other");
	refused("stage s\n l.{L}.{x*} <-> m.{L}.{x*}\n l.{x}.w <-> n.{x}.w\n",
		"t.map:4: \"l.0.w\" fits this rule and that of line 3, and neither is an exception to the other");
	refused("stage s\n a.{x} <-> c.{x}.y\n b.{x} <-> c.z.{x}\n",
		"t.map:4: \"c.z.y\" fits this rule and that of line 3, and neither is an exception to the other");
	refused("stage s\n {x*} -> b.{x*}\n a -> c\n",
		"t.map:4: no key gets here: rules above take all that a matches");
	refused("stage s\n {x=a|b} -> c.{x}\n a -> d\n b -> e\n",
		"t.map:4: no key gets here: rules above take all that a matches");
	refused("stage s\n a [n] -> c [n]\n a [m] -> d [m]\n",
		"t.map:4: no key gets here: rules above take all that a matches");
	refused("stage s\n {x}.a -> c.{x}\n b.{y} [n] -> d.{y} [n]\n",
		"t.map:4: \"b.a\" fits this rule and that of line 3, and neither is an exception to the other");
	taken("stage s\n {x}.a [n] -> c.{x} [n]\n b.{y} [o i] -> d.{y} [i o]\n");
	taken("stage s\n a [1 n] <-> b [n]\n a <-> b\n");
	taken("stage s\n a.b -> c\n a.{x} -> d.{x}\n {x*} -> e.{x*}\n");
	taken("option o p|q\nstage s\n @o=p {x}.a -> c.{x}\n @o=q b.{y} -> d.{y}\n");
	taken("stage s\n {x}.a F32 -> c.{x}\n b.{y} -> d.{y}\n");
	taken("stage s\n {x}.a -> drop\n b.{y} -> drop\n");
	taken("stage one\n {x}.a -> c.{x}\nstage two\n b.{y} -> d.{y}\n");
	/* What an earlier rule takes is no matter between two later ones. */
	taken("stage s\n b.a -> c\n {x=b|c}.a -> d.{x}\n b.{y=a|b} -> e.{y}\n");
}

Test(map_parse, errors_of_a_used_map_name_its_file)
{
	struct sd_error err = {0};
	struct sd_map *map;

	cr_expect(compile("use used s\n", "map used hf nemo\nstage s\n a <-> {x\n", &map, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "used.map:3: a { is not closed");
	cr_expect(compile("use used s\n", "map used pt nemo\nstage s\n", &map, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "used.map:1: the map goes from pt to nemo, and t uses it from hf to nemo");
	cr_expect(compile("use used s\n", "map used hf nemo\nuse used s\nstage s\n a <-> b\n", &map, &err) == SD_INPUT);
	cr_expect_str_eq(err.text, "used.map:2: maps use each other 8 deep");
}

Test(map_parse, says_what_it_is)
{
	struct sd_error err = {0};
	struct sd_map *map = NULL;
	const char *name, *values;
	bool from_keys;

	cr_assert(compile("model m M\noption o a|b from keys\nstage s\n .x <-> .y\n", NULL, &map, &err) == SD_OK);
	cr_expect_str_eq(sd_map_name(map), "t");
	cr_expect_str_eq(sd_map_layout(map, 1), "nemo");
	cr_expect(sd_map_is_for(map, "M") && !sd_map_is_for(map, "x"));
	cr_expect(sd_map_is_part(map));
	cr_expect(sd_map_option(map, 0, &name, &values, &from_keys) && from_keys);
	cr_expect_str_eq(name, "o");
	cr_expect_str_eq(values, "a|b");
	cr_expect(!sd_map_option(map, 1, &name, &values, &from_keys));
	sd_map_free(map);
}

/* Without stages a map is used whole: with its labels and samples, and through another one that does the same. */
Test(map_parse, takes_over_whole_maps)
{
	static const char used[] = "map used hf nemo\nmodel u\nlabel l b\nstage s\n a <-> b\nsample a F32 [2]\n";
	struct sd_error err;
	struct sd_map *map;

	cr_assert(compile("model m\nuse used\n", used, &map, &err) == SD_OK, "%s", err.text);
	cr_expect(sd_map_is_alias(map) && sd_map_is_for(map, "m") && !sd_map_is_for(map, "u"));
	cr_expect(sd_map_check_samples(map, &err) == SD_OK, "%s", err.text);
	sd_map_free(map);
	cr_assert(compile("use used\nstage t\n b -> refuse \"no\"\n", used, &map, &err) == SD_OK, "%s", err.text);
	cr_expect(!sd_map_is_alias(map));
	cr_expect(sd_map_check_samples(map, &err) == SD_INPUT);
	cr_expect(strncmp(err.text, "used.map:6: samples", 19) == 0, "%s", err.text);
	sd_map_free(map);
}
