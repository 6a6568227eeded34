/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Python pickles as data: a machine builds a tree of what a pickle says, and runs nothing. A global is a token of a
 * list that the caller gives; it is never looked up, imported or called. Opcodes and globals that are not listed are
 * errors. Source of the format: Python's Lib/pickletools.py, protocols 2 to 5.
 */
#ifndef SD_FORMATS_PICKLE_H
#define SD_FORMATS_PICKLE_H

#include "base/arena.h"

#include <stdint.h>

/* What REDUCE may do with a global. */
enum sd_pickle_use {
	SD_PICKLE_ANY,
	SD_PICKLE_ENUM,    /* the same, and the next one may name a member of it */
	SD_PICKLE_GETATTR, /* only a member of an enum, by its name */
};

/* A global that a pickle may name. name "*": any one without a dot. meaning is the caller's. */
struct sd_pickle_global {
	const char *module, *name;
	uint8_t meaning;
	uint8_t use; /* enum sd_pickle_use */
};

enum sd_pickle_kind {
	SD_PICKLE_NONE,
	SD_PICKLE_BOOL,
	SD_PICKLE_INT,
	SD_PICKLE_LONG, /* an integer of more than 64 bits: its value is not kept */
	SD_PICKLE_FLOAT,
	SD_PICKLE_TEXT,
	SD_PICKLE_BYTES,
	SD_PICKLE_TUPLE,
	SD_PICKLE_LIST,
	SD_PICKLE_SET,
	SD_PICKLE_DICT,
	SD_PICKLE_GLOBAL,
	SD_PICKLE_OBJECT, /* what calling a global would give */
	SD_PICKLE_ID,     /* a persistent id: something outside of the pickle */
};

struct sd_pickle_object;

/* One value. Several places may hold the same node, and a list may hold itself. */
struct sd_pickle_node {
	uint8_t kind;    /* enum sd_pickle_kind */
	uint32_t at;     /* offset of the opcode that made it */
	uint32_t number; /* of all nodes that hold others: below sd_pickle.holders */
	uint32_t count;  /* bytes of a text; items of what holds some, a dict's keys and values one by one */
	union {
		int64_t integer; /* also a BOOL's */
		double real;
		const char *text; /* points into the pickle: no NUL, and perhaps no UTF-8 */
		struct sd_pickle_node **items;
		const struct sd_pickle_global *global;
		struct sd_pickle_object *object;
		const struct sd_pickle_node *id;
	};
};

struct sd_pickle_object {
	const struct sd_pickle_global *global;
	const struct sd_pickle_node *args;  /* a tuple */
	const struct sd_pickle_node *state; /* of BUILD, or NULL */
	struct sd_pickle_node **items;      /* count of the node */
	bool pairs;                         /* items are keys and values */
};

struct sd_pickle_rules {
	const struct sd_pickle_global *globals;
	size_t nglobals;
	const struct sd_pickle_rules *more; /* whose globals may be there too; or NULL */
	const char *advice;                 /* behind an error about another global; or NULL */
	bool ids;                           /* persistent ids may be there */
	bool others; /* globals that are not listed may be there: they mean 0, and so does what is made of them */
};

struct sd_pickle {
	struct sd_arena arena;
	const struct sd_pickle_node *top;
	uint32_t holders;
	const struct sd_pickle_node **ids; /* all persistent ids, in order */
	size_t nids, ids_room;
	size_t used;    /* bytes of the pickle, when it is whole */
	bool cut_short; /* the failure is that the bytes end before the pickle does */
};

/*
 * Reads the pickle that data begins with; it may go on after it. The tree points into data. SD_INPUT with a line that
 * gives the offset for all that is not on the lists, and for what is no pickle. sd_pickle_free also after a failure.
 */
SD_MUST_CHECK enum sd_result sd_pickle_read(const void *data, size_t length, const struct sd_pickle_rules *rules,
					    struct sd_pickle *pickle, struct sd_error *err);

void sd_pickle_free(struct sd_pickle *pickle);

/* Whether a node is this text. */
bool sd_pickle_is(const struct sd_pickle_node *node, const char *text);

/* The value of a text key in count keys and values, the last one as Python has it, or NULL. */
const struct sd_pickle_node *sd_pickle_get(struct sd_pickle_node *const *pairs, uint32_t count, const char *key);

/* An attribute of an object whose state is a dict, or NULL. */
const struct sd_pickle_node *sd_pickle_attribute(const struct sd_pickle_node *object, const char *name);

/* The meaning of the global that a node is, or whose object it is; -1 for all others. */
int sd_pickle_meaning(const struct sd_pickle_node *node, enum sd_pickle_kind kind);

/* An integer that is not negative. */
SD_MUST_CHECK bool sd_pickle_size(const struct sd_pickle_node *node, uint64_t *size);

#endif
