/* SPDX-License-Identifier: Apache-2.0 */
/* Edits a JSON document. All bytes that are not edited stay as they are. */
#ifndef SD_BASE_JSON_TREE_H
#define SD_BASE_JSON_TREE_H

#include "base/arena.h"
#include "base/json.h"

/* A document with more values is refused: no config has so many. */
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

/* Makes a value that is in no document yet. Copies text, which is NULL for objects and arrays. NULL when memory is out.
 */
struct sd_json_node *sd_json_new(struct sd_json_tree *tree, enum sd_json_kind kind, const char *text);

/* Takes a value out of its object or array. */
void sd_json_detach(struct sd_json_node *node);

/*
 * Sets a member of an object to a value that is in no document. Replaces the member of that key; without one, inserts
 * it where it belongs if the keys are sorted, else at the end. False when memory is out.
 */
SD_MUST_CHECK bool sd_json_set(struct sd_json_tree *tree, struct sd_json_node *object, const char *key,
			       struct sd_json_node *value);

/* Takes out all members of that key. */
void sd_json_remove(struct sd_json_node *object, const char *key);

/* Appends a value that is in no document to an array. False when memory is out. */
SD_MUST_CHECK bool sd_json_append(struct sd_json_tree *tree, struct sd_json_node *array, struct sd_json_node *value);

#endif
