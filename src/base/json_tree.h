/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON document that is changed here and there: all bytes that nobody changes stay. */
#ifndef SD_BASE_JSON_TREE_H
#define SD_BASE_JSON_TREE_H

#include "base/arena.h"
#include "base/json.h"

/* A document of more values than this is refused: no config has so many. */
#define SD_JSON_VALUES_MAX (1u << 20)

/* A piece of text; {NULL} is one that is still to be made up. */
struct sd_json_span {
	const char *at;
	size_t length;
};

/* A value, and, in an object, its key. */
struct sd_json_node {
	enum sd_json_kind kind; /* OBJECT, ARRAY, STRING, NUMBER or WORD */
	const char *key;        /* with its escapes resolved; NULL in an array */
	const char *text;       /* of a string, likewise; of numbers and words as they are written */
	size_t key_length, text_length;
	struct sd_json_node *parent, *first, *last, *next;
	/* As it is written: the blanks in front, the key, what is between both, the value; the blanks behind; those
	 * in front of the closing bracket. */
	struct sd_json_span lead, name, colon, value, trail, tail;
};

/* All of it lives in the arena, and borrows from the text that it was read from. */
struct sd_json_tree {
	struct sd_arena *arena;
	struct sd_json_node *root;
	struct sd_json_span end; /* what is behind the root */
	bool lines;              /* a member a line */
	/* How the root is written: the blanks in front of a member's line, behind a key, and behind a comma. */
	struct sd_json_span indent, colon, gap;
};

/* SD_INPUT where it is no JSON object. */
SD_MUST_CHECK enum sd_result sd_json_tree_read(struct sd_json_tree *tree, const char *json, size_t length,
					       struct sd_arena *arena, struct sd_error *err);

/* The text; malloc'd. */
SD_MUST_CHECK enum sd_result sd_json_tree_write(const struct sd_json_tree *tree, char **text, size_t *length,
						struct sd_error *err);

/* The member of that key, the last one if there are several; NULL where there is none, or object is NULL or none. */
struct sd_json_node *sd_json_get(const struct sd_json_node *object, const char *key);

/* Whether the node is this string or word; false for NULL. */
bool sd_json_node_is(const struct sd_json_node *node, enum sd_json_kind kind, const char *text);

/* A value that is nowhere yet; text is copied, and is NULL for objects and arrays. NULL when memory is out. */
struct sd_json_node *sd_json_new(struct sd_json_tree *tree, enum sd_json_kind kind, const char *text);

/* Takes a value out of what it is in. */
void sd_json_detach(struct sd_json_node *node);

/*
 * Puts a value, which is nowhere, in the place of the member of that key, else where it belongs if the keys are
 * sorted, else at the end. False when memory is out.
 */
SD_MUST_CHECK bool sd_json_set(struct sd_json_tree *tree, struct sd_json_node *object, const char *key,
			       struct sd_json_node *value);

/* Takes out all members of that key. */
void sd_json_remove(struct sd_json_node *object, const char *key);

/* Puts a value, which is nowhere, at the end of an array. False when memory is out. */
SD_MUST_CHECK bool sd_json_append(struct sd_json_tree *tree, struct sd_json_node *array, struct sd_json_node *value);

#endif
