/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns against PCRE2: what matches, and what each hole then holds. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "map.h"

#include <pcre2.h>

/* A small generator, so that a failure comes again. */
static uint32_t state = 1;

static uint32_t roll(uint32_t n)
{
	state = state * UINT32_C(1664525) + UINT32_C(1013904223);
	return (state >> 8) % n;
}

#define HOLES 4

/* A random pattern, the regex of the same meaning, and a right side that shows its holes. */
static void make(char *pattern, char *regex, char *shown)
{
	static const char *const words[] = {"a", "b", ".", "1", "ab", "a.b", ".a", "1."};
	static const char *const holes[][2] = {
		{"{%c*}", "(.*)"}, {"{%c}", "([^.]+)"}, {"{%c=a|ab|}", "(a|ab|)"}, {"{%c=|.b|1}", "(|\\.b|1)"}};
	static const char names[] = "pqrs";
	uint32_t used = 0, numbers = 0, parts = 1 + roll(6);

	*pattern = *regex = '\0';
	strcpy(shown, "!");
	strcat(regex, "\\A");
	for (uint32_t i = 0; i < parts; i++) {
		uint32_t kind = roll(9);
		char text[32];

		if (kind < 4 && used < HOLES) {
			snprintf(text, sizeof(text), holes[kind][0], names[used]);
			strcat(pattern, text);
			strcat(regex, holes[kind][1]);
			snprintf(text, sizeof(text), kind == 0 ? "<{%c*}>" : "<{%c}>", names[used++]);
			strcat(shown, text);
		} else if (kind == 4 && !numbers) {
			numbers = 1;
			strcat(pattern, "{N}");
			strcat(regex, "([0-9]+)");
			strcat(shown, "<{N}>");
		} else {
			const char *word = words[roll(8)];

			strcat(pattern, word);
			for (; *word; word++) {
				snprintf(text, sizeof(text), *word == '.' ? "\\%c" : "%c", *word);
				strcat(regex, text);
			}
		}
	}
	strcat(regex, "\\z");
}

static void name_of(char *name)
{
	uint32_t length = 1 + roll(9);

	for (uint32_t i = 0; i < length; i++)
		name[i] = "ab.1"[roll(4)];
	name[length] = '\0';
}

/* What the right side shows, by PCRE2; the name itself where it does not match. */
static void by_pcre(pcre2_code *code, pcre2_match_data *match, const char *name, char *out)
{
	int n = pcre2_match(code, (PCRE2_SPTR)name, strlen(name), 0, 0, match, NULL);
	PCRE2_SIZE *at = pcre2_get_ovector_pointer(match);

	if (n < 0) {
		strcpy(out, name);
		return;
	}
	strcpy(out, "!");
	for (int i = 1; i < n; i++)
		sprintf(out + strlen(out), "<%.*s>", (int)(at[2 * i + 1] - at[2 * i]), name + at[2 * i]);
}

Test(pattern, matches_as_pcre2_does)
{
	size_t matched = 0;

	for (int round = 0; round < 3000; round++) {
		char pattern[256], regex[256], shown[256], text[600], name[16], want[256];
		struct sd_rename rename = {.to = 1};
		struct sd_error err = {0};
		struct sd_map *map;
		pcre2_match_data *match;
		pcre2_code *code;
		PCRE2_SIZE where;
		int error;

		make(pattern, regex, shown);
		snprintf(text, sizeof(text), "stage s\n %s -> %s\n", pattern, shown);
		cr_assert(compile(text, NULL, &map, &err) == SD_OK, "%s: %s", text, err.text);
		rename.map = map;
		code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, 0, &error, &where, NULL);
		cr_assert(code, "%s", regex);
		match = pcre2_match_data_create_from_pattern(code, NULL);
		for (int k = 0; k < 20; k++) {
			struct sd_manifest *in = sd_manifest_new();
			struct sd_plan plan;

			name_of(name);
			by_pcre(code, match, name, want);
			cr_assert(sd_manifest_add_tensor(in, name, SD_F32, NULL, 0));
			cr_assert(sd_rename_plan(&rename, in, &plan, &err) == SD_OK, "%s", err.text);
			cr_assert_str_eq(plan.manifest->targets[0].name, want, "%s on %s (%s): %s, not %s", pattern,
					 name, regex, plan.manifest->targets[0].name, want);
			matched += *want == '!';
			sd_plan_free(&plan);
			sd_manifest_free(in);
		}
		pcre2_match_data_free(match);
		pcre2_code_free(code);
		sd_map_free(map);
	}
	cr_expect(matched > 3000, "only %zu names matched", matched);
}

/* A matcher that tries all ways would not come back from this. */
Test(pattern, takes_no_long_time, .timeout = 20)
{
	char name[4096] = "";
	struct sd_rename rename = {.to = 1};
	struct sd_error err = {0};
	struct sd_manifest *in = sd_manifest_new();
	struct sd_plan plan;
	struct sd_map *map;

	memset(name, 'a', sizeof(name) - 1);
	cr_assert(compile("stage s\n {a*}a{b*}a{c*}a{d*}a{e*}a{f*}a{g*}a{h*}b -> c\n", NULL, &map, &err) == SD_OK);
	rename.map = map;
	cr_assert(sd_manifest_add_tensor(in, name, SD_F32, NULL, 0));
	cr_assert(sd_rename_plan(&rename, in, &plan, &err) == SD_OK);
	sd_plan_free(&plan);
	sd_map_free(map);
	sd_manifest_free(in);
}
