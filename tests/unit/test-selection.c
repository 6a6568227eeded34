/* SPDX-License-Identifier: Apache-2.0 */
/* Which tensors are meant, and what is said where none is. */
#include "model/selection.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint64_t shape[] = {1};

/* A manifest with tensors of these names, which have spaces between. */
static struct sd_manifest *manifest(const char *names)
{
	struct sd_manifest *m = sd_manifest_new();
	char *copy = strdup(names), *at = copy, *name;

	cr_assert(m);
	while ((name = strsep(&at, " ")))
		cr_assert(!*name || sd_manifest_add_tensor(m, name, SD_U8, shape, 1));
	free(copy);
	return m;
}

#define NAMES                                                                                                          \
	"lm_head.weight model.layers.0.mlp.experts.0.up model.layers.0.mlp.experts.1.up model.layers.0.norm "          \
	"model.layers.1.mlp.experts.0.up model.layers.1.norm model.layers.12.norm model.visual.blocks.0.norm "         \
	"model.visual.blocks.1.norm mtp.layers.0.norm"

/* Options as "n PATTERN", "i RE", "x RE", "l LIST", "e LIST", with semicolons between. */
static void choose(struct sd_selection *choice, char *options)
{
	struct sd_error err;
	char *option;

	*choice = (struct sd_selection){0};
	while ((option = strsep(&options, ";"))) {
		const char *value = option + 2;
		enum sd_result result = *option == 'n'   ? sd_selection_add_name(choice, value, &err)
					: *option == 'i' ? sd_regex_list_add(&choice->include, value, &err)
					: *option == 'x' ? sd_regex_list_add(&choice->exclude, value, &err)
					: *option == 'l' ? sd_selection_set_layers(choice, value, &err)
							 : sd_selection_set_experts(choice, value, &err);

		cr_assert_eq(result, SD_OK, "%s", err.text);
	}
}

/* What options choose of NAMES, or the error. */
static void chooses(const char *options, const char *wanted)
{
	struct sd_manifest *m = manifest(NAMES);
	struct sd_selection choice;
	struct sd_error err = {.text = ""};
	char got[2048] = "", *copy = strdup(options);

	choose(&choice, copy);
	sd_selection_settle(&choice, m);
	if (sd_selection_check(&choice, m, &err) != SD_OK) {
		cr_expect_eq(err.result, SD_INPUT);
		strcpy(got, err.text);
	}
	for (size_t i = 0; i < m->ntargets && !*err.text; i++) {
		bool yes;

		cr_assert_eq(sd_selection_takes(&choice, m->targets[i].name, &yes, &err), SD_OK);
		if (yes)
			strcat(strcat(got, *got ? " " : ""), m->targets[i].name);
	}
	cr_expect_str_eq(got, wanted, "%s: %s", options, got);
	sd_selection_free(&choice);
	sd_manifest_free(m);
	free(copy);
}

Test(choice, names)
{
	chooses("x $^", NAMES);
	chooses("n *.experts.{0,1}.up", "model.layers.0.mlp.experts.0.up model.layers.0.mlp.experts.1.up "
					"model.layers.1.mlp.experts.0.up");
	chooses("n lm_head.weight;n mtp*", "lm_head.weight mtp.layers.0.norm");
	chooses("i ^lm;n mtp*", "lm_head.weight mtp.layers.0.norm");
	chooses("i norm$;x visual;x mtp", "model.layers.0.norm model.layers.1.norm model.layers.12.norm");
}

Test(choice, layers_are_those_of_the_language_model)
{
	chooses("l 0;x experts", "lm_head.weight model.layers.0.norm model.visual.blocks.0.norm "
				 "model.visual.blocks.1.norm mtp.layers.0.norm");
	chooses("l 1-12;n model.layers*", "model.layers.1.mlp.experts.0.up model.layers.1.norm model.layers.12.norm");
	chooses("l visual.blocks:1;n *blocks*", "model.visual.blocks.1.norm");
	chooses("l visual.blocks.:1;n *blocks*", "model.visual.blocks.1.norm");
	chooses("l mtp.layers:0;n mtp*", "mtp.layers.0.norm");
	chooses("e 1;n *layers.0.*", "model.layers.0.mlp.experts.1.up model.layers.0.norm mtp.layers.0.norm");
	chooses("e 0;l 1;n model.layers*", "model.layers.1.mlp.experts.0.up model.layers.1.norm");
}

Test(choice, nothing)
{
	chooses("n lm_haed.weight", "-n lm_haed.weight matches none of 10 names; did you mean lm_head.weight?");
	chooses("n model.layers.2.norm", "-n model.layers.2.norm matches none of 10 names; did you mean "
					 "model.layers.1.norm?");
	chooses("n lm_head.weight;n *.nrom", "-n *.nrom matches none of 10 names; did you mean model.layers.0.norm?");
	chooses("n model.layers.{0..2}.mlp.experts.{0,1}.pu",
		"-n model.layers.{0..2}.mlp.experts.{0,1}.pu matches none of 10 names; did you mean "
		"model.layers.0.mlp.experts.0.up?");
	chooses("n zebra", "-n zebra matches none of 10 names");
	chooses("i norm;i ^model\\.layers\\.0\\.nrom$",
		"--include ^model\\.layers\\.0\\.nrom$ matches none of 10 names; "
		"did you mean model.layers.0.norm?");
	chooses("i no(pe|thing)", "--include no(pe|thing) matches none of 10 names");
	chooses("l 7-9", "--layers 7-9: there is none of them; layers are 0 to 12");
	chooses("l tower:0", "--layers tower:0: no name has a number of such layers");
	chooses("e 2", "--experts 2: there is none of them; experts are 0 to 1");
}

Test(choice, exclude_that_matches_nothing)
{
	struct sd_manifest *m = manifest(NAMES);
	struct sd_selection choice;
	const char *idle;
	char options[] = "x norm;x nothing;x zebra", fine[] = "x norm";

	choose(&choice, options);
	cr_assert_eq(sd_selection_idle(&choice, m, &idle, NULL), SD_OK);
	cr_expect_str_eq(idle, "nothing");
	cr_expect(!sd_selection_chooses(&choice));
	sd_selection_free(&choice);
	choose(&choice, fine);
	cr_assert_eq(sd_selection_idle(&choice, m, &idle, NULL), SD_OK);
	cr_expect_null(idle);
	sd_selection_free(&choice);
	sd_manifest_free(m);
}

/* Names are counted, and not what they are made of. */
Test(choice, names_are_counted_once)
{
	struct sd_manifest *m = manifest("a b");
	struct sd_selection choice = {0};
	struct sd_error err;

	cr_assert(sd_manifest_add_target(m, &m->targets[0]));
	cr_assert_eq(sd_selection_add_name(&choice, "zebra", &err), SD_OK);
	cr_expect_eq(sd_selection_check(&choice, m, &err), SD_INPUT);
	cr_expect_str_eq(err.text, "-n zebra matches none of 2 names");
	sd_selection_free(&choice);
	sd_manifest_free(m);
}

Test(choice, lists)
{
	static const char *const bad[] = {"",   "a",     "1-",         "-1", "3-1", "1,,2",
					  "1,", "0-3 7", "4294967295", ":",  "x:",  "1-2-3"};
	struct sd_selection choice = {0};
	struct sd_error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		cr_expect_eq(sd_selection_set_layers(&choice, bad[i], &err), SD_USAGE, "%s", bad[i]);
		cr_expect_eq(sd_selection_set_experts(&choice, bad[i], &err), SD_USAGE, "%s", bad[i]);
	}
	cr_expect_eq(sd_selection_set_experts(&choice, "x:1", &err), SD_USAGE);
	cr_expect_eq(sd_selection_set_experts(&choice, "0-3,7,9-9", &err), SD_OK);
	sd_selection_free(&choice);
}
