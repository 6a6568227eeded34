/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON document as a tree of values, each with the bytes that it was written with. */
#include "base/json_tree.h"
#include "base/memstream.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_container(const struct sd_json_node *node)
{
	return node->kind == SD_JSON_OBJECT || node->kind == SD_JSON_ARRAY;
}

static bool has_newline(struct sd_json_span span)
{
	return span.length && memchr(span.at, '\n', span.length);
}

/* ---- reading ---- */

struct reader {
	struct sd_json_tree *tree;
	const char *json;
	size_t length, at, values; /* at: what is read so far */
	struct sd_json_node *open; /* the container that is being read; NULL: none */
	struct sd_json_node *key;  /* the member whose value comes next */
};

static struct sd_json_span blanks(struct reader *r)
{
	size_t from = r->at;

	while (r->at < r->length && is_blank(r->json[r->at]))
		r->at++;
	return (struct sd_json_span){r->json + from, r->at - from};
}

static struct sd_json_span up_to(struct reader *r, size_t end)
{
	struct sd_json_span span = {r->json + r->at, end - r->at};

	r->at = end;
	return span;
}

static void link_last(struct sd_json_node *parent, struct sd_json_node *node)
{
	node->parent = parent;
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
}

/* A member, or an element, of the open container; or the root. */
static struct sd_json_node *begin(struct reader *r, struct sd_error *err)
{
	struct sd_json_node *node;

	if (r->values++ == SD_JSON_VALUES_MAX) {
		sd_fail(err, SD_INPUT, "it has more than %u values", SD_JSON_VALUES_MAX);
		return NULL;
	}
	node = sd_arena_alloc(r->tree->arena, sizeof(*node));
	if (!node) {
		sd_fail_memory(err);
		return NULL;
	}
	if (r->open && r->open->last) {
		r->open->last->trail = blanks(r);
		r->at++; /* the comma */
	}
	node->lead = blanks(r);
	if (r->open)
		link_last(r->open, node);
	else
		r->tree->root = node;
	return node;
}

static enum sd_result keep_text(struct reader *r, const struct sd_json_token *token, const char **text, size_t *length,
				struct sd_error *err)
{
	*text = sd_arena_text(r->tree->arena, token->text, token->length);
	*length = token->length;
	return *text ? SD_OK : sd_fail_memory(err);
}

static enum sd_result take_key(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	struct sd_json_node *node = begin(r, err);

	if (!node)
		return SD_IO;
	node->name = up_to(r, token->end);
	r->key = node;
	return keep_text(r, token, &node->key, &node->key_length, err);
}

static enum sd_result take_value(struct reader *r, const struct sd_json_token *token, struct sd_error *err)
{
	struct sd_json_node *node = r->key ? r->key : begin(r, err);

	if (!node)
		return SD_IO;
	if (r->key) {
		size_t from = r->at;

		while (is_blank(r->json[r->at]) || r->json[r->at] == ':')
			r->at++;
		node->colon = (struct sd_json_span){r->json + from, r->at - from};
	}
	r->key = NULL;
	node->kind = token->kind;
	node->value = up_to(r, token->end);
	if (is_container(node)) {
		r->open = node;
		return SD_OK;
	}
	return keep_text(r, token, &node->text, &node->text_length, err);
}

static enum sd_result take(void *user, const struct sd_json_token *token, struct sd_error *err)
{
	struct reader *r = user;

	if (token->depth == 0 && token->kind != SD_JSON_OBJECT && token->kind != SD_JSON_OBJECT_END)
		return sd_fail(err, SD_INPUT, "it is no JSON object");
	switch (token->kind) {
	case SD_JSON_KEY:
		return take_key(r, token, err);
	case SD_JSON_OBJECT_END:
	case SD_JSON_ARRAY_END:
		r->open->tail = blanks(r);
		r->at = token->end;
		r->open = r->open->parent;
		return SD_OK;
	default:
		return take_value(r, token, err);
	}
}

/* How the document is written: by its first member. */
static void learn_style(struct sd_json_tree *tree)
{
	const struct sd_json_node *first = tree->root->first;
	struct sd_json_span lead = first ? first->lead : (struct sd_json_span){"\n  ", 3};
	size_t newline = lead.length;

	while (newline && lead.at[newline - 1] != '\n')
		newline--;
	tree->lines = newline > 0;
	if (tree->lines)
		tree->indent = (struct sd_json_span){lead.at + newline, lead.length - newline};
	tree->colon = first ? first->colon : (struct sd_json_span){": ", 2};
	tree->gap = first && first->next && !tree->lines ? first->next->lead : (struct sd_json_span){" ", 1};
}

enum sd_result sd_json_tree_read(struct sd_json_tree *tree, const char *json, size_t length, struct sd_arena *arena,
				 struct sd_error *err)
{
	struct reader r = {.tree = tree, .json = json, .length = length};
	enum sd_result result;

	*tree = (struct sd_json_tree){.arena = arena};
	result = sd_json_parse(json, length, take, &r, err);
	if (result != SD_OK)
		return result;
	tree->end = up_to(&r, length);
	learn_style(tree);
	return SD_OK;
}

/* ---- writing ---- */

static void put(FILE *out, struct sd_json_span span)
{
	if (span.length)
		fwrite(span.at, 1, span.length, out);
}

static void write_node(FILE *out, const struct sd_json_node *node)
{
	put(out, node->lead);
	if (node->key) {
		put(out, node->name);
		put(out, node->colon);
	}
	put(out, node->value);
	for (const struct sd_json_node *child = node->first; child; child = child->next) {
		write_node(out, child);
		if (child->next) {
			put(out, child->trail);
			putc(',', out);
		}
	}
	if (is_container(node)) {
		put(out, node->tail);
		putc(node->kind == SD_JSON_OBJECT ? '}' : ']', out);
	}
}

enum sd_result sd_json_tree_write(const struct sd_json_tree *tree, char **text, size_t *length, struct sd_error *err)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);

	*text = NULL;
	if (!stream)
		return sd_fail_memory(err);
	write_node(out, tree->root);
	put(out, tree->end);
	return sd_memstream_close(stream, text, length) ? SD_OK : sd_fail_memory(err);
}

/* ---- looking ---- */

static bool has_key(const struct sd_json_node *node, const char *key)
{
	return node->key && strlen(key) == node->key_length && memcmp(node->key, key, node->key_length) == 0;
}

struct sd_json_node *sd_json_get(const struct sd_json_node *object, const char *key)
{
	struct sd_json_node *found = NULL;

	if (!object || object->kind != SD_JSON_OBJECT)
		return NULL;
	for (struct sd_json_node *node = object->first; node; node = node->next)
		if (has_key(node, key))
			found = node;
	return found;
}

bool sd_json_node_is(const struct sd_json_node *node, enum sd_json_kind kind, const char *text)
{
	return node && node->kind == kind && !is_container(node) && strlen(text) == node->text_length &&
	       memcmp(node->text, text, node->text_length) == 0;
}

/* ---- changing ---- */

/* A text as JSON has it. */
static bool quote(struct sd_json_tree *tree, const char *text, struct sd_json_span *span)
{
	FILE *out;
	struct sd_memstream *stream = sd_memstream_open(&out);
	char *quoted = NULL;

	if (!stream)
		return false;
	sd_json_write(out, text, SD_JSON_ASCII);
	if (!sd_memstream_close(stream, &quoted, &span->length))
		return false;
	span->at = sd_arena_text(tree->arena, quoted, span->length);
	free(quoted);
	return span->at != NULL;
}

struct sd_json_node *sd_json_new(struct sd_json_tree *tree, enum sd_json_kind kind, const char *text)
{
	struct sd_json_node *node = sd_arena_alloc(tree->arena, sizeof(*node));

	if (!node)
		return NULL;
	node->kind = kind;
	if (is_container(node)) {
		node->value = (struct sd_json_span){kind == SD_JSON_OBJECT ? "{" : "[", 1};
		return node;
	}
	node->text_length = strlen(text);
	node->text = sd_arena_text(tree->arena, text, node->text_length);
	if (!node->text)
		return NULL;
	node->value = (struct sd_json_span){node->text, node->text_length};
	return kind != SD_JSON_STRING || quote(tree, text, &node->value) ? node : NULL;
}

void sd_json_detach(struct sd_json_node *node)
{
	struct sd_json_node *parent = node->parent, *before = NULL;

	for (struct sd_json_node *other = parent->first; other != node; other = other->next)
		before = other;
	if (before)
		before->next = node->next;
	else
		parent->first = node->next;
	if (parent->last == node)
		parent->last = before;
	if (!before && node->next)
		node->next->lead = node->lead;
	if (!parent->first)
		parent->tail = (struct sd_json_span){"", 0};
	node->parent = node->next = NULL;
}

static unsigned depth_of(const struct sd_json_node *node)
{
	unsigned depth = 0;

	for (; node->parent; node = node->parent)
		depth++;
	return depth;
}

/* A new line and the indentation of this depth. */
static bool break_line(const struct sd_json_tree *tree, unsigned depth, struct sd_json_span *span)
{
	size_t unit = tree->indent.length;
	char *text = sd_arena_alloc(tree->arena, 1 + depth * unit + 1);

	if (!text)
		return false;
	text[0] = '\n';
	for (unsigned i = 0; i < depth; i++)
		memcpy(text + 1 + i * unit, tree->indent.at, unit);
	*span = (struct sd_json_span){text, 1 + depth * unit};
	return true;
}

/* The blanks of a value that has come here from elsewhere. */
static bool style(struct sd_json_tree *tree, struct sd_json_node *node)
{
	unsigned depth = depth_of(node);

	node->trail = (struct sd_json_span){"", 0};
	if (!is_container(node) || !node->first)
		return true;
	for (struct sd_json_node *child = node->first; child; child = child->next) {
		bool lines = child->lead.at ? has_newline(child->lead) : tree->lines;

		if (lines && tree->lines && !break_line(tree, depth + 1, &child->lead))
			return false;
		if (!child->lead.at || (lines && !tree->lines))
			child->lead = child == node->first ? (struct sd_json_span){"", 0} : tree->gap;
		if (!style(tree, child))
			return false;
	}
	if (tree->lines && has_newline(node->first->lead))
		return break_line(tree, depth, &node->tail);
	if (!node->tail.at || has_newline(node->tail))
		node->tail = (struct sd_json_span){"", 0};
	return true;
}

/* The blanks in front of a value that has just been put behind another, or in front of all. */
static bool lead_in(struct sd_json_tree *tree, struct sd_json_node *before, struct sd_json_node *node)
{
	struct sd_json_node *parent = node->parent, *other = before ? before : node->next;

	if (!other && tree->lines)
		return break_line(tree, depth_of(node), &node->lead) &&
		       break_line(tree, depth_of(parent), &parent->tail);
	node->lead = other ? other->lead : (struct sd_json_span){"", 0};
	if (other && !has_newline(other->lead)) {
		if (before && before == parent->first)
			node->lead = tree->gap;
		else if (!before)
			other->lead = tree->gap;
	}
	return true;
}

static bool insert(struct sd_json_tree *tree, struct sd_json_node *parent, struct sd_json_node *before,
		   struct sd_json_node *node)
{
	node->parent = parent;
	node->next = before ? before->next : parent->first;
	if (before)
		before->next = node;
	else
		parent->first = node;
	if (parent->last == before)
		parent->last = node;
	return lead_in(tree, before, node) && style(tree, node);
}

static int compare_keys(const struct sd_json_node *node, const char *key)
{
	size_t length = strlen(key), least = node->key_length < length ? node->key_length : length;
	int order = memcmp(node->key, key, least);

	return order ? order : (node->key_length > length) - (node->key_length < length);
}

/* The member behind which a key goes; NULL: in front of all. */
static struct sd_json_node *place_of(const struct sd_json_node *object, const char *key)
{
	struct sd_json_node *before = NULL;

	for (struct sd_json_node *node = object->first; node && node->next; node = node->next)
		if (compare_keys(node->next, node->key) < 0)
			return object->last;
	for (struct sd_json_node *node = object->first; node && compare_keys(node, key) < 0; node = node->next)
		before = node;
	return before;
}

/* Puts a value in another's place, which keeps its key and the blanks around it. */
static bool replace(struct sd_json_tree *tree, struct sd_json_node *old, struct sd_json_node *value)
{
	struct sd_json_node *before = NULL, *parent = old->parent;

	for (struct sd_json_node *other = parent->first; other != old; other = other->next)
		before = other;
	value->lead = old->lead;
	value->key = old->key;
	value->key_length = old->key_length;
	value->name = old->name;
	value->colon = old->colon;
	value->parent = parent;
	value->next = old->next;
	if (before)
		before->next = value;
	else
		parent->first = value;
	if (parent->last == old)
		parent->last = value;
	old->parent = old->next = NULL;
	return style(tree, value);
}

bool sd_json_set(struct sd_json_tree *tree, struct sd_json_node *object, const char *key, struct sd_json_node *value)
{
	struct sd_json_node *old = sd_json_get(object, key);

	if (old)
		return replace(tree, old, value);
	value->colon = object->first ? object->first->colon : tree->colon;
	value->key_length = strlen(key);
	value->key = sd_arena_text(tree->arena, key, value->key_length);
	return value->key && quote(tree, key, &value->name) && insert(tree, object, place_of(object, key), value);
}

void sd_json_remove(struct sd_json_node *object, const char *key)
{
	for (struct sd_json_node *node = object->first, *next; node; node = next) {
		next = node->next;
		if (has_key(node, key))
			sd_json_detach(node);
	}
}

bool sd_json_append(struct sd_json_tree *tree, struct sd_json_node *array, struct sd_json_node *value)
{
	value->key = NULL;
	return insert(tree, array, array->last, value);
}
