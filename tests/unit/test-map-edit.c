/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of edits by hand: s/RE/REPLACEMENT/flags. */
#include "map/edit.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

static void edits(const char *text, const char *name, const char *want)
{
	struct sd_error err = {0};
	struct sd_edit *edit;
	struct sd_arena arena = {0};
	const char *got;

	cr_assert(sd_edit_new(text, &edit, &err) == SD_OK, "%s", err.text);
	cr_assert(sd_edit_apply(edit, name, &arena, &got, &err) == SD_OK, "%s", err.text);
	cr_expect_str_eq(got, want, "%s on %s: %s, not %s", text, name, got, want);
	cr_expect((got == name) == (strcmp(name, want) == 0));
	sd_arena_free(&arena);
	sd_edit_free(edit);
}

static void refused(const char *text, const char *want)
{
	struct sd_error err = {0};
	struct sd_edit *edit;

	cr_assert(sd_edit_new(text, &edit, &err) == SD_USAGE, "%s", text);
	cr_expect(edit == NULL);
	cr_expect_str_eq(err.text, want);
}

Test(edit, replaces)
{
	edits("s/a/b/", "banana", "bbnana");
	edits("s/a/b/g", "banana", "bbnbnb");
	edits("s/A/b/i", "banana", "bbnana");
	edits("s/A/b/gi", "banana", "bbnbnb");
	edits("s/x/y/", "banana", "banana");
	edits("s/^model\\.//", "model.layers.0", "layers.0");
	edits("s/an//g", "banana", "ba");
}

Test(edit, knows_the_match_and_groups)
{
	edits("s/an/<&>/g", "banana", "b<an><an>a");
	edits("s/(\\d+)\\.(\\w+)/\\2.\\1/", "layers.12.mlp.up", "layers.mlp.12.up");
	edits("s/an/\\&/", "banana", "b&ana");
	edits("s/an/$1${2}/", "banana", "b$1${2}ana");
	edits("s/an/\\\\/", "banana", "b\\ana");
}

Test(edit, takes_any_delimiter)
{
	edits("s|a/b|c|", "x/a/b", "x/c");
	edits("s/a\\/b/c/", "x/a/b", "x/c");
	edits("s,\\.,/,g", "a.b.c", "a/b/c");
	edits("s#a#\\##", "ba", "b#");
}

Test(edit, longer_than_its_room)
{
	edits("s/a/"
	      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/",
	      "a",
	      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}

Test(edit, refuses)
{
	refused("", "-e '': an edit is s/RE/REPLACEMENT/");
	refused("y/a/b/", "-e 'y/a/b/': an edit is s/RE/REPLACEMENT/");
	refused("s", "-e 's': an edit is s/RE/REPLACEMENT/");
	refused("s/a", "-e 's/a': the RE has no / behind it");
	refused("s/a/b", "-e 's/a/b': the replacement has no / behind it");
	refused("s/a/b/x", "-e 's/a/b/x': the flags are g and i, not 'x'");
	refused("s/a(/b/", "-e 's/a(/b/': character 3 of 'a(': missing closing parenthesis");
	refused("s/a/\\1/", "-e 's/a/\\1/': there is no group \\1");
}

/* A reference to a group that is not there is refused whatever stands in front of it. */
Test(edit, refuses_groups_that_are_not_there)
{
	static const char *const before[] = {"", "$", "$$", "${", "\\$", "&", "\\\\", "\\1", "x$\\1"};

	for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++) {
		char text[64], want[128];

		snprintf(text, sizeof(text), "s/(z)/%s\\9/", before[i]);
		snprintf(want, sizeof(want), "-e '%s': there is no group \\9", text);
		refused(text, want);
		snprintf(text, sizeof(text), "s/(z)/%s\\1\\2/", before[i]);
		snprintf(want, sizeof(want), "-e '%s': there is no group \\2", text);
		refused(text, want);
	}
	edits("s/(z)/$\\1/", "zzz", "$zzz");
}
