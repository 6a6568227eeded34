/* SPDX-License-Identifier: Apache-2.0 */
/* config.json follows the layout. */
#include "config/config_fields.h"
#include "model/config_json.h"

#include <string.h>

enum { LEFT = 0, RIGHT = 1 };

struct editor {
	struct sd_json_tree tree;
	const struct sd_config_row *rows;
	size_t n;
	int side;
	bool changed;
};

/* The object that a path's last part is in, and that part; NULL where it is not there. */
static struct sd_json_node *walk(struct sd_json_node *object, const char *path, const char **last)
{
	const char *dot;

	while (object && (dot = strchr(path, '.'))) {
		struct sd_json_node *next = NULL;

		for (struct sd_json_node *node = object->first; node; node = node->next)
			if (node->kind == SD_JSON_OBJECT && node->key_length == (size_t)(dot - path) &&
			    memcmp(node->key, path, node->key_length) == 0)
				next = node;
		object = next;
		path = dot + 1;
	}
	*last = path;
	return object;
}

static struct sd_json_node *look(struct sd_json_node *object, const char *path)
{
	const char *last;

	object = walk(object, path, &last);
	return sd_json_get(object, last);
}

static bool take_out(struct sd_json_node *object, const char *path)
{
	const char *last;

	object = walk(object, path, &last);
	if (object)
		sd_json_remove(object, last);
	return object != NULL;
}

/* The row whose object, on the right, this path leads into, or NULL. */
static const struct sd_config_row *row_around(const struct editor *e, const char *path)
{
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < e->n; i++)
		if (e->rows[i].key && strlen(e->rows[i].path[RIGHT]) == (size_t)(dot - path) &&
		    memcmp(e->rows[i].path[RIGHT], path, (size_t)(dot - path)) == 0)
			return &e->rows[i];
	return NULL;
}

/* Whether a value is such an object as the row is for. */
static bool is_ours(const struct sd_config_row *row, const struct sd_json_node *value)
{
	const struct sd_json_node *said = sd_json_get(value, row->key);

	for (uint32_t i = 0; i < row->nvalues; i++)
		if (sd_json_node_is(said, SD_JSON_STRING, row->values[i]))
			return true;
	return false;
}

/* Puts a value at a path; false when memory is out. Where its object is not there, nothing happens. */
static bool put(struct editor *e, struct sd_json_node *object, const char *path, struct sd_json_node *value)
{
	const char *last;

	if (!value)
		return false;
	object = walk(object, path, &last);
	e->changed |= object != NULL;
	return !object || sd_json_set(&e->tree, object, last, value);
}

/* What null on the left stands for. */
static bool put_first(struct editor *e, struct sd_json_node *object, const struct sd_config_row *row)
{
	struct sd_json_node *value = sd_json_new(&e->tree, SD_JSON_OBJECT, NULL),
			    *first = sd_json_new(&e->tree, SD_JSON_STRING, row->values[0]);

	return value && first && sd_json_set(&e->tree, value, row->key, first) &&
	       put(e, object, row->path[RIGHT], value);
}

static bool move(struct editor *e, struct sd_json_node *object, const char *from, const char *to)
{
	struct sd_json_node *value = look(object, from);
	const char *last;

	if (!walk(object, to, &last))
		return true; /* there is nothing that it could be put into */
	sd_json_detach(value);
	(void)take_out(object, from); /* should it be there twice */
	return put(e, object, to, value);
}

static bool go_right(struct editor *e, struct sd_json_node *object, const struct sd_config_row *row)
{
	const struct sd_config_row *around = row_around(e, row->path[RIGHT]);
	const struct sd_json_node *value = look(object, row->path[LEFT]);
	struct sd_json_node *outer = around ? look(object, around->path[RIGHT]) : NULL;

	if (!value || look(object, row->path[RIGHT]))
		return true;
	if (row->key && value->kind != SD_JSON_OBJECT) {
		if (!sd_json_node_is(value, SD_JSON_WORD, "null"))
			return true;
		return take_out(object, row->path[LEFT]) && put_first(e, object, row);
	}
	if (around && !outer && !put_first(e, object, around))
		return false;
	if (outer && outer->kind != SD_JSON_OBJECT)
		return true;
	return move(e, object, row->path[LEFT], row->path[RIGHT]);
}

static bool go_left(struct editor *e, struct sd_json_node *object, const struct sd_config_row *row)
{
	const struct sd_config_row *around = row_around(e, row->path[RIGHT]);
	const struct sd_json_node *value = look(object, row->path[RIGHT]);

	if (!value || (row->key && !is_ours(row, value)) ||
	    (around && !is_ours(around, look(object, around->path[RIGHT]))))
		return true;
	if (row->key && !value->first->next && sd_json_node_is(value->first, SD_JSON_STRING, row->values[0]))
		return take_out(object, row->path[RIGHT]) &&
		       put(e, object, row->path[LEFT], sd_json_new(&e->tree, SD_JSON_WORD, "null"));
	return move(e, object, row->path[RIGHT], row->path[LEFT]);
}

/* Whether a member is what a row is about: not an object that has fields of its own. */
static bool is_in_rows(const struct editor *e, const struct sd_json_node *member)
{
	for (size_t i = 0; i < e->n; i++)
		for (int side = LEFT; side <= RIGHT && e->rows[i].key; side++)
			if (strcmp(member->key, e->rows[i].path[side]) == 0)
				return true;
	return false;
}

static bool edit(struct editor *e, struct sd_json_node *object)
{
	for (struct sd_json_node *member = object->first; member; member = member->next)
		if (member->kind == SD_JSON_OBJECT && !is_in_rows(e, member) && !edit(e, member))
			return false;
	for (size_t i = 0; i < e->n; i++)
		if (!(e->side == RIGHT ? go_right(e, object, &e->rows[i]) : go_left(e, object, &e->rows[e->n - 1 - i])))
			return false;
	return true;
}

enum sd_result sd_config_fields_follow(struct sd_manifest *m, const struct sd_config_row *rows, size_t n, int side,
				       struct sd_error *err)
{
	struct sd_side_file *file = n ? sd_config_file(m, "config.json") : NULL;
	struct editor e = {.rows = rows, .n = n, .side = side};
	struct sd_arena arena = {0};
	enum sd_result result;

	if (!file)
		return SD_OK;
	result = sd_json_tree_read(&e.tree, file->data, file->size, &arena, err);
	if (result == SD_OK && !edit(&e, e.tree.root))
		result = sd_fail_memory(err);
	if (result == SD_OK && e.changed)
		result = sd_config_store(m, file, &e.tree, err);
	else if (result == SD_INPUT)
		sd_error_at(err, "%s has to change with the layout (--keep-config leaves it as it is)", file->name);
	sd_arena_free(&arena);
	return result;
}
