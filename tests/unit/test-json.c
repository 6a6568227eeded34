/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of JSON as it comes from input: what yajl leaves to us, and strings as others write them. */
#include "base/json.h"
#include "base/json_tree.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

static enum sd_result write_token(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	static const char kinds[] = "{}[]ksnw";
	FILE *out = user;

	if (token->length == 4 && memcmp(token->text, "stop", 4) == 0)
		return sd_fail(err, SD_DIFFERENT, "stopped");
	fprintf(out, "%c%u", kinds[token->kind], token->depth);
	fwrite(token->text, 1, token->length, out);
	return SD_OK;
}

/* All tokens of a text, one after another; NULL and err where it is refused. */
static char *tokens(const char *json, size_t length, struct sd_error *err)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	enum sd_result result = sd_json_parse(json, length, write_token, out, err);

	fclose(out);
	if (result == SD_OK)
		return text;
	cr_assert_eq(result, err->result);
	free(text);
	return NULL;
}

Test(json, gives_all_tokens_with_their_depth)
{
	static const char json[] = " {\"a\\n\\u00fc\\ud83d\\ude00\": [1, -2.5e3, {\"b\": null}], \"c\": true} ";
	struct sd_error err;
	char *text = tokens(json, strlen(json), &err);

	cr_assert_str_eq(text, "{0k1a\nü\xf0\x9f\x98\x80[1n21n2-2.5e3{2k3bw3null}2]1k1cw1true}0");
	free(text);
}

struct ends {
	const char *json;
	FILE *out;
	size_t end;
};

static enum sd_result cut_token(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct ends *e = user;

	(void)err;
	fprintf(e->out, "%.*s|", (int)(token->end - e->end), e->json + e->end);
	e->end = token->end;
	return SD_OK;
}

Test(json, tells_where_each_token_ends)
{
	char *text = NULL;
	size_t size;
	struct ends ends = {" {\"a\\n\\u00fc\" : [1, -2.5e3 ,{\"b\":null } ],\n\"\xc3\xbc\": \"\"} ",
			    open_memstream(&text, &size), 0};

	cr_assert_eq(sd_json_parse(ends.json, strlen(ends.json), cut_token, &ends, NULL), SD_OK);
	fclose(ends.out);
	cr_assert_str_eq(text, " {|\"a\\n\\u00fc\"| : [|1|, -2.5e3| ,{|\"b\"|:null| }| ]|,\n\"\xc3\xbc\"|: \"\"|}|");
	free(text);
}

Test(json, refuses_what_is_no_json)
{
	static const struct {
		const char *json, *why;
	} bad[] = {
		{"", "premature EOF"},
		{"{", "premature EOF"},
		{"{\"a\":1", "premature EOF"},
		{"{} {}", "trailing garbage"},
		{"{\"a\":1,}", "bad JSON at byte"},
		{"{'a':1}", "bad JSON at byte"},
		{"[01]", "bad JSON at byte"},
		{"[\"\x01\"]", "bad JSON at byte"},
		{"[\"\xff\"]", "not UTF-8"},
		{"[\"\xc0\x80\"]", "not UTF-8"},
		{"[\"\xed\xa0\x80\"]", "not UTF-8"},
		{"[\"\\ud800\"]", "half of a surrogate pair"},
		{"[\"\\udc00\\ud800\"]", "at byte 2: half of a surrogate pair"},
		{"[\"\\uD83Dx\"]", "half of a surrogate pair"},
		{"[\"\\ud83d\\u0041\"]", "half of a surrogate pair"},
		{"/**/[]", "bad JSON at byte"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct sd_error err;
		char *text = tokens(bad[i].json, strlen(bad[i].json), &err);

		cr_assert_null(text, "%s gave %s", bad[i].json, text);
		cr_assert_eq(err.result, SD_INPUT);
		cr_assert(strstr(err.text, bad[i].why), "%s: %s", bad[i].json, err.text);
		cr_assert_null(strchr(err.text, '\n'));
	}
}

Test(json, an_escaped_backslash_begins_no_surrogate)
{
	static const char json[] = "[\"\\\\ud800\"]";
	struct sd_error err;
	char *text = tokens(json, strlen(json), &err);

	cr_assert_str_eq(text, "[0s1\\ud800]0");
	free(text);
}

Test(json, refuses_too_deep_nesting)
{
	char json[2 * SD_JSON_DEPTH + 3];
	struct sd_error err;

	memset(json, '[', SD_JSON_DEPTH);
	memset(json + SD_JSON_DEPTH, ']', SD_JSON_DEPTH);
	free(tokens(json, 2 * SD_JSON_DEPTH, &err));
	memset(json, '[', sizeof json);
	cr_assert_null(tokens(json, sizeof json, &err));
	cr_assert_eq(err.result, SD_INPUT);
	cr_assert(strstr(err.text, "nested deeper than 64"), "%s", err.text);
}

Test(json, the_taker_ends_the_parse)
{
	static const char json[] = "[1, \"stop\", bad";
	struct sd_error err;

	cr_assert_null(tokens(json, strlen(json), &err));
	cr_assert_eq(err.result, SD_DIFFERENT);
	cr_assert_str_eq(err.text, "stopped");
}

Test(json, integers_are_exact)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
	} cases[] = {
		{"0", true, 0},
		{"9007199254740993", true, 9007199254740993u},
		{"18446744073709551615", true, UINT64_MAX},
		{"18446744073709551616", false, 0},
		{"-0", false, 0},
		{"-1", false, 0},
		{"1.0", false, 0},
		{"1e3", false, 0},
		{"100000000000000000000000000000000", false, 0},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sd_json_token token = {SD_JSON_NUMBER, 0, cases[i].text, strlen(cases[i].text), 0};
		uint64_t value = 0;

		cr_assert_eq(sd_json_integer(&token, &value), cases[i].good, "%s", cases[i].text);
		cr_assert(!cases[i].good || value == cases[i].value);
	}
}

static char *written(const char *text, enum sd_json_style style)
{
	char *json = NULL;
	size_t size;
	FILE *out = open_memstream(&json, &size);

	sd_json_write(out, text, style);
	fclose(out);
	return json;
}

/* What json.dumps and serde_json give for the same texts. */
Test(json, strings_are_written_as_others_write_them)
{
	static const char text[] = "a\"b\\c/\b\f\n\r\t\x01\x1f\x7fü€\xf0\x9f\x98\x80";
	char *utf8 = written(text, SD_JSON_UTF8), *ascii = written(text, SD_JSON_ASCII);

	cr_assert_str_eq(utf8, "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7fü€\xf0\x9f\x98\x80\"");
	cr_assert_str_eq(ascii, "\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\\u00fc\\u20ac\\ud83d\\ude00\"");
	free(utf8);
	free(ascii);
}

/* What is left of a document after these edits: "KEY=WORD" sets, "-KEY" removes, "KEY[]=TEXT" appends, "OLD>NEW" moves.
 */
static char *edited(const char *json, ...)
{
	struct sd_arena arena = {0};
	struct sd_json_tree tree;
	struct sd_error err;
	size_t length;
	const char *edit;
	va_list edits;
	char *text = NULL;

	cr_assert_eq(sd_json_tree_read(&tree, json, strlen(json), &arena, &err), SD_OK, "%s", err.text);
	va_start(edits, json);
	while ((edit = va_arg(edits, const char *))) {
		char *copy = strdup(edit), *value = strpbrk(copy, "=>");
		struct sd_json_node *node;

		if (*copy == '-') {
			sd_json_remove(tree.root, copy + 1);
		} else if (*value == '>') {
			*value++ = '\0';
			node = sd_json_get(tree.root, copy);
			sd_json_detach(node);
			cr_assert(sd_json_set(&tree, tree.root, value, node));
		} else if (value[-1] == ']') {
			value[-2] = '\0';
			node = sd_json_get(tree.root, copy);
			if (!node) {
				node = sd_json_new(&tree, SD_JSON_ARRAY, NULL);
				cr_assert(sd_json_set(&tree, tree.root, copy, node));
			}
			cr_assert(sd_json_append(&tree, node, sd_json_new(&tree, SD_JSON_STRING, value + 1)));
		} else {
			*value++ = '\0';
			cr_assert(sd_json_set(&tree, tree.root, copy, sd_json_new(&tree, SD_JSON_WORD, value)));
		}
		free(copy);
	}
	va_end(edits);
	cr_assert_eq(sd_json_tree_write(&tree, &text, &length, &err), SD_OK);
	cr_assert_eq(strlen(text), length);
	sd_arena_free(&arena);
	return text;
}

#define EDITED(wanted, ...)                                                                                            \
	do {                                                                                                           \
		char *edited_text = edited(__VA_ARGS__, NULL);                                                         \
                                                                                                                       \
		cr_assert_str_eq(edited_text, wanted);                                                                 \
		free(edited_text);                                                                                     \
	} while (0)

Test(json, a_tree_that_nobody_changes_is_the_same_bytes)
{
	static const char *const documents[] = {"{}", " { } \n", "{\"a\":1}",
						"{ \"b\" : [ 1 ,2,\n{\"c\":null} ] , \"a\":\"\\u00e9\" }\n",
						"{\n    \"a\": {\n        \"b\": []\n    },\n    \"a\": -1.5e3\n}"};

	for (size_t i = 0; i < sizeof(documents) / sizeof(*documents); i++)
		EDITED(documents[i], documents[i]);
}

Test(json, a_tree_changes_where_it_is_changed)
{
	EDITED("{}", "{\"a\": 1}", "-a");
	EDITED("{\n  \"a\": true\n}", "{}", "-b", "a=true");
	EDITED("{\n  \"a\": true\n}", "{\n  \"b\": 1\n}", "-b", "a=true");
	EDITED("{\"a\":1,\"c\":3}", "{\"a\":1,\"b\":2,\"c\":3}", "-b");
	EDITED("{\"b\": 2, \"c\":  3}", "{\"a\": 1, \"b\": 2, \"c\":  3}", "-a");
	EDITED("{\"a\": 1, \"b\": null, \"c\": 3}", "{\"a\": 1, \"c\": 3}", "b=null");
	EDITED("{\"a\": true, \"b\": 2, \"c\": 3}", "{\"b\": 2, \"c\": 3}", "a=true");
	EDITED("{\"c\": 1, \"b\": 3, \"a\": null}", "{\"c\": 1, \"b\": 3}", "a=null");
	EDITED("{\"a\": 2 , \"b\": null}", "{\"a\": 2 , \"b\": [1, 2]}", "b=null");
	EDITED("{\n \"a\": [\n  \"x\",\n  \"\\u00e9\"\n ],\n \"b\": 1\n}", "{\n \"b\": 1\n}", "a[]=x", "a[]=\xc3\xa9");
	EDITED("{\"a\":[\"x\",\"y\"],\"b\":1,\"c\":2}", "{\"b\":1,\"c\":2}", "a[]=x", "a[]=y");
	EDITED("{\n  \"a\": [1, \"y\"]\n}", "{\n  \"a\": [1]\n}", "a[]=y");
	EDITED("{\n  \"b\": {\n    \"x\": [1, 2]\n  }\n}", "{\n  \"a\": {\n      \"x\": [1, 2]}\n}", "a>b");
}

Test(json, a_tree_is_of_an_object)
{
	static const char *const documents[] = {"", "[]", "1", "{", "{\"a\" 1}", "{}{}"};
	struct sd_arena arena = {0};
	struct sd_json_tree tree;
	struct sd_error err;

	for (size_t i = 0; i < sizeof(documents) / sizeof(*documents); i++)
		cr_assert_eq(sd_json_tree_read(&tree, documents[i], strlen(documents[i]), &arena, &err), SD_INPUT);
	sd_arena_free(&arena);
}
