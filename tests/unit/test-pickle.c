/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of pickles: what is taken, what each opcode needs, and that nothing else is taken at all. */
#include "formats/torch_tensor.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

static struct sd_error err;

static enum sd_result take(struct sd_pickle *p, const void *data, size_t length)
{
	return sd_pickle_read(data, length, &sd_torch_rules, p, &err);
}

#define READ(p, text) take(p, text, sizeof(text) - 1)

/* Refused with this in the line. */
#define REFUSED(bytes, what)                                                                                           \
	do {                                                                                                           \
		struct sd_pickle refused;                                                                              \
		cr_expect_eq(READ(&refused, bytes), SD_INPUT);                                                         \
		cr_expect(strstr(err.text, what), "%s", err.text);                                                     \
		sd_pickle_free(&refused);                                                                              \
	} while (0)

Test(pickle, opcodes_that_nobody_needs_are_named)
{
	static const struct {
		unsigned char code;
		const char *name;
	} refused[] = {{'0', "POP"},
		       {'1', "POP_MARK"},
		       {'2', "DUP"},
		       {'F', "FLOAT"},
		       {'I', "INT"},
		       {'L', "LONG"},
		       {'P', "PERSID"},
		       {'S', "STRING"},
		       {'T', "BINSTRING"},
		       {'V', "UNICODE"},
		       {'d', "DICT"},
		       {'g', "GET"},
		       {'i', "INST"},
		       {'l', "LIST"},
		       {'o', "OBJ"},
		       {'p', "PUT"},
		       {0x82, "EXT1"},
		       {0x83, "EXT2"},
		       {0x84, "EXT4"},
		       {0x8b, "LONG4"},
		       {0x8e, "BINBYTES8"},
		       {0x92, "NEWOBJ_EX"},
		       {0x96, "BYTEARRAY8"},
		       {0x97, "NEXT_BUFFER"},
		       {0x98, "READONLY_BUFFER"}};
	char data[64], want[64];
	struct sd_pickle p;

	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		memset(data, 1, sizeof(data));
		memcpy(data, "\x80\x02N", 3);
		data[3] = (char)refused[i].code;
		snprintf(want, sizeof(want), "%s at byte 3,", refused[i].name);
		cr_expect_eq(take(&p, data, sizeof(data)), SD_INPUT);
		cr_expect(strstr(err.text, want), "%s, not %s", err.text, want);
		sd_pickle_free(&p);
	}
	for (unsigned code = 0x99; code < 0x100; code++) {
		data[3] = (char)code;
		snprintf(want, sizeof(want), "0x%02x at byte 3,", code);
		cr_expect_eq(take(&p, data, sizeof(data)), SD_INPUT);
		cr_expect(strstr(err.text, want), "%s, not %s", err.text, want);
		sd_pickle_free(&p);
	}
}

Test(pickle, globals_are_those_of_the_list)
{
	REFUSED("\x80\x02\x63os\nsystem\n.", "os.system at byte 2 ");
	REFUSED("\x80\x02\x63torch\nload\n.", "torch.load at byte 2 ");
	REFUSED("\x80\x02\x63torch._utils\n_rebuild_tensor_v2.__globals__\n.", "__globals__ at byte 2 ");
	REFUSED("\x80\x02\x63torch._utils \n_rebuild_tensor_v2\n.", "at byte 2 ");
	REFUSED("\x80\x02\x63pathlib\nos.system\n.", "pathlib.os.system at byte 2 ");
	REFUSED("\x80\x02\x63pathlib\n\n.", "");
	REFUSED("\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system at byte 14 ");
	REFUSED("\x80\x04\x8c\x05torch\x94\x8c\x07_C.eval\x93.", "torch._C.eval at byte 19 ");
	REFUSED("\x80\x04K\x01\x8c\x04Size\x93.", "STACK_GLOBAL at byte 10 takes two texts");
	REFUSED("\x80\x02\x63"
		"builtins\ngetattr\n.",
		"builtins.getattr at byte 2 ");
}

Test(pickle, what_ends_early_or_lacks_something)
{
	static const char whole[] =
		"\x80\x04\x95\x1a\0\0\0\0\0\0\0}\x94(\x8c\x01w\x94]\x94(K\x01J\xff\xff\xff\xffM\x01\x01\x8a\x01\x80"
		"eu.";
	struct sd_pickle p;

	for (size_t length = 0; length < sizeof(whole) - 1; length++) {
		cr_expect_eq(take(&p, whole, length), SD_INPUT);
		cr_expect(p.cut_short, "%zu: %s", length, err.text);
		sd_pickle_free(&p);
	}
	cr_assert_eq(take(&p, whole, sizeof(whole) - 1), SD_OK, "%s", err.text);
	cr_expect_eq(p.used, sizeof(whole) - 1);
	cr_assert_eq(p.top->kind, SD_PICKLE_DICT);
	cr_assert_eq(p.top->count, 2);
	const struct sd_pickle_node *list = sd_pickle_get(p.top->items, p.top->count, "w");
	cr_assert(list && list->kind == SD_PICKLE_LIST && list->count == 4);
	cr_expect_eq(list->items[0]->integer, 1);
	cr_expect_eq(list->items[1]->integer, -1);
	cr_expect_eq(list->items[2]->integer, 257);
	cr_expect_eq(list->items[3]->integer, -128);
	sd_pickle_free(&p);
	REFUSED("\x80\x02\x86.", "TUPLE2 at byte 2 takes 2 values, but the stack has 0");
	REFUSED("\x80\x02N(N\x86.", "TUPLE2 at byte 5 takes 2 values, but the stack has 1");
	REFUSED("\x80\x02t.", "TUPLE at byte 2 wants a MARK");
	REFUSED("\x80\x02}(NNNu.", "SETITEMS at byte 7 has a key without a value");
	REFUSED("\x80\x02N(Ne.", "APPENDS at byte 5 adds to what cannot hold it");
	REFUSED("\x80\x02(Ne.", "nothing to add to");
	REFUSED("\x80\x02NN.", "stops at byte 4 with 2 values");
	REFUSED("\x80\x02.", "with 0 values");
	REFUSED("\x80\x02h\x07.", "BINGET at byte 2: nothing was put at 7");
	REFUSED("\x80\x02Nr\xff\xff\xff\xff.", "LONG_BINPUT at byte 3");
	REFUSED("\x80\x02}}b.", "BUILD at byte 4");
	REFUSED("\x80\x02NNR.", "REDUCE at byte 4 takes a global and a tuple");
	REFUSED("\x80\x06N.", "protocol 6");
	REFUSED("\x80\x01N.", "protocol 1");
	REFUSED("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", "FRAME at byte 2");
}

/* What would be deep or large in a pickle that is not. */
Test(pickle, depth_and_number)
{
	static char marks[2000];
	struct sd_pickle p;

	memset(marks, '(', sizeof(marks));
	memcpy(marks, "\x80\x02", 2);
	cr_expect_eq(take(&p, marks, sizeof(marks)), SD_INPUT);
	cr_expect(strstr(err.text, "nested more than 1000 deep, at byte 1002"), "%s", err.text);
	sd_pickle_free(&p);
	/* A list that holds itself is a node like any other. */
	cr_assert_eq(READ(&p, "\x80\x02]q\0h\0a."), SD_OK, "%s", err.text);
	cr_expect_eq(p.top->items[0], p.top);
	sd_pickle_free(&p);
	cr_assert_eq(READ(&p, "\x80\x02\x8a\x09\0\0\0\0\0\0\0\0\x01."), SD_OK);
	cr_expect_eq(p.top->kind, SD_PICKLE_LONG);
	sd_pickle_free(&p);
}

/* getattr names members of enums, and nothing else. */
Test(pickle, members_of_enums)
{
	static const struct sd_pickle_global globals[] = {{"builtins", "getattr", 0, SD_PICKLE_GETATTR},
							  {"m", "Enum", 1, SD_PICKLE_ENUM},
							  {"m", "f", 2, SD_PICKLE_ANY}};
	static const struct sd_pickle_rules rules = {.globals = globals, .nglobals = 3};
	static const struct {
		const char *data;
		size_t length;
		bool good;
	} cases[] = {
#define CASE(text, good) {text, sizeof(text) - 1, good}
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\ncm\nEnum\nX\x01\0\0\0A\x86R.",
		     true),
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\ncm\nf\nX\x01\0\0\0A\x86R.",
		     false),
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\ncm\nEnum\nX\x03\0\0\0A.B\x86R.",
		     false),
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\ncm\nEnum\nX\x09\0\0\0__class__\x86R.",
		     false),
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\ncm\nEnum\nK\x01\x86R.",
		     false),
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\ncm\nEnum\nX\x01\0\0\0AN\x87R.",
		     false),
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\nX\x01\0\0\0AX\x01\0\0\0A\x86R.",
		     false),
		CASE("\x80\x02\x63"
		     "builtins\ngetattr\ncm\nEnum\nX\x01\0\0\0A\x86\x81.",
		     true),
		CASE("\x80\x02X\x01\0\0\0AQ.", false),
	};
	struct sd_pickle p;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cr_expect_eq(sd_pickle_read(cases[i].data, cases[i].length, &rules, &p, &err),
			     cases[i].good ? SD_OK : SD_INPUT, "%zu: %s", i, err.text);
		sd_pickle_free(&p);
	}
}
