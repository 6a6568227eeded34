/* SPDX-License-Identifier: Apache-2.0 */
/* Python pickles as data: a machine that runs nothing. */
#include "formats/pickle.h"

#include <stdlib.h>
#include <string.h>

/* Real pickles have some ten marks at a time; nodes are 24 bytes each. */
#define MARKS_MOST 1000
#define NODES_MOST (UINT32_C(1) << 25)
#define NODE_BLOCK 256

struct machine {
	const unsigned char *data;
	size_t length, at; /* at: the next byte */
	size_t op;         /* where the opcode is that is being worked on */
	const char *name;  /* of it */
	const struct sd_pickle_rules *rules;
	struct sd_pickle *pickle;
	struct sd_pickle_node **stack, **memo;
	size_t depth, stack_room, memo_count;
	size_t marks[MARKS_MOST]; /* depths of the stack */
	size_t nmarks;
	struct sd_pickle_node *block; /* nodes that are still to be used */
	size_t left;
	uint32_t nodes, memoised;
};

typedef enum sd_result handler(struct machine *m, unsigned number, struct sd_error *err);

/* ---- bytes ---- */

static enum sd_result fail_short(struct machine *m, struct sd_error *err)
{
	m->pickle->cut_short = true;
	return sd_fail(err, SD_INPUT, "the pickle ends early: %s at byte %zu goes beyond its %zu bytes", m->name, m->op,
		       m->length);
}

static enum sd_result take(struct machine *m, uint64_t count, const unsigned char **bytes, struct sd_error *err)
{
	if (count > m->length - m->at)
		return fail_short(m, err);
	*bytes = m->data + m->at;
	m->at += (size_t)count;
	return SD_OK;
}

/* An unsigned number of so many bytes, at most 8, little-endian. */
static enum sd_result take_number(struct machine *m, unsigned width, uint64_t *number, struct sd_error *err)
{
	const unsigned char *bytes = NULL;

	*number = 0;
	if (take(m, width, &bytes, err) != SD_OK)
		return err->result;
	while (width-- > 0)
		*number = *number << 8 | bytes[width];
	return SD_OK;
}

static enum sd_result take_line(struct machine *m, const char **text, size_t *length, struct sd_error *err)
{
	const unsigned char *end = memchr(m->data + m->at, '\n', m->length - m->at);

	if (!end)
		return fail_short(m, err);
	*text = (const char *)m->data + m->at;
	*length = (size_t)(end - (m->data + m->at));
	m->at += *length + 1;
	return SD_OK;
}

/* ---- nodes and the stack ---- */

static enum sd_result make(struct machine *m, enum sd_pickle_kind kind, struct sd_pickle_node **node,
			   struct sd_error *err)
{
	if (m->nodes++ == NODES_MOST)
		return sd_fail(err, SD_INPUT, "the pickle has more than %u values, at byte %zu", NODES_MOST, m->op);
	if (!m->left) {
		m->block = sd_arena_array(&m->pickle->arena, NODE_BLOCK, sizeof(*m->block));
		if (!m->block)
			return sd_fail_memory(err);
		m->left = NODE_BLOCK;
	}
	m->left--;
	*node = m->block++;
	(*node)->kind = (uint8_t)kind;
	(*node)->at = (uint32_t)m->op;
	if ((kind >= SD_PICKLE_TUPLE && kind <= SD_PICKLE_DICT) || kind == SD_PICKLE_OBJECT)
		(*node)->number = m->pickle->holders++;
	return SD_OK;
}

static enum sd_result push(struct machine *m, struct sd_pickle_node *node, struct sd_error *err)
{
	if (!sd_array_grow(&m->stack, m->depth, &m->stack_room, sizeof(struct sd_pickle_node *)))
		return sd_fail_memory(err);
	m->stack[m->depth++] = node;
	return SD_OK;
}

static enum sd_result make_and_push(struct machine *m, enum sd_pickle_kind kind, struct sd_pickle_node **node,
				    struct sd_error *err)
{
	enum sd_result result = make(m, kind, node, err);

	return result == SD_OK ? push(m, *node, err) : result;
}

/* That so many values are above the last mark. */
static enum sd_result need(struct machine *m, size_t count, struct sd_error *err)
{
	size_t floor = m->nmarks ? m->marks[m->nmarks - 1] : 0;

	if (m->depth - floor >= count)
		return SD_OK;
	return sd_fail(err, SD_INPUT, "%s at byte %zu takes %zu values, but the stack has %zu", m->name, m->op, count,
		       m->depth - floor);
}

/* Takes the last mark away: *first is the first value above it. */
static enum sd_result unmark(struct machine *m, size_t *first, struct sd_error *err)
{
	if (!m->nmarks)
		return sd_fail(err, SD_INPUT, "%s at byte %zu wants a MARK, and there is none", m->name, m->op);
	*first = m->marks[--m->nmarks];
	return SD_OK;
}

/* How many items there is room for where there are count: arrays double. */
static size_t room_for(size_t count)
{
	size_t room = 4;

	while (room < count)
		room *= 2;
	return count ? room : 0;
}

/* Moves what is on the stack from first on to the end of some items. */
static enum sd_result move_items(struct machine *m, size_t first, struct sd_pickle_node ***items, uint32_t *count,
				 struct sd_error *err)
{
	size_t more = m->depth - first, old = *count, room = room_for(old + more);

	if (room != room_for(old)) {
		struct sd_pickle_node **larger = sd_arena_array(&m->pickle->arena, room, sizeof(*larger));

		if (!larger)
			return sd_fail_memory(err);
		if (old)
			memcpy(larger, *items, old * sizeof(*larger));
		*items = larger;
	}
	if (more)
		memcpy(*items + old, m->stack + first, more * sizeof(**items));
	*count = (uint32_t)(old + more);
	m->depth = first;
	return SD_OK;
}

/* Adds what is on the stack from first on to what is below it. */
static enum sd_result add_items(struct machine *m, size_t first, enum sd_pickle_kind kind, struct sd_error *err)
{
	bool pairs = kind == SD_PICKLE_DICT;
	struct sd_pickle_node *to;

	if (!first || (m->nmarks && m->marks[m->nmarks - 1] == first))
		return sd_fail(err, SD_INPUT, "%s at byte %zu has nothing to add to", m->name, m->op);
	to = m->stack[first - 1];
	if (pairs && (m->depth - first) % 2)
		return sd_fail(err, SD_INPUT, "%s at byte %zu has a key without a value", m->name, m->op);
	if (to->kind == (uint8_t)kind)
		return move_items(m, first, &to->items, &to->count, err);
	if (to->kind != SD_PICKLE_OBJECT || (to->count && to->object->pairs != pairs))
		return sd_fail(err, SD_INPUT, "%s at byte %zu adds to what cannot hold it", m->name, m->op);
	to->object->pairs = pairs;
	return move_items(m, first, &to->object->items, &to->count, err);
}

/* ---- opcodes ---- */

static enum sd_result op_proto(struct machine *m, unsigned number, struct sd_error *err)
{
	uint64_t version;

	(void)number;
	if (take_number(m, 1, &version, err) != SD_OK)
		return err->result;
	if (version < 2 || version > 5)
		return sd_fail(err, SD_INPUT, "the pickle is of protocol %u, at byte %zu; 2 to 5 are read",
			       (unsigned)version, m->op);
	return SD_OK;
}

static enum sd_result op_frame(struct machine *m, unsigned number, struct sd_error *err)
{
	uint64_t length;

	(void)number;
	if (take_number(m, 8, &length, err) != SD_OK)
		return err->result;
	return length > m->length - m->at ? fail_short(m, err) : SD_OK;
}

static enum sd_result op_mark(struct machine *m, unsigned number, struct sd_error *err)
{
	(void)number;
	if (m->nmarks == MARKS_MOST)
		return sd_fail(err, SD_INPUT, "the pickle is nested more than %d deep, at byte %zu", MARKS_MOST, m->op);
	m->marks[m->nmarks++] = m->depth;
	return SD_OK;
}

/* number: the kind of an empty value. */
static enum sd_result op_empty(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *node;

	return make_and_push(m, number, &node, err);
}

static enum sd_result op_bool(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *node;

	if (make_and_push(m, SD_PICKLE_BOOL, &node, err) != SD_OK)
		return err->result;
	node->integer = number;
	return SD_OK;
}

/* number: bytes. Four are signed, fewer are not. */
static enum sd_result op_integer(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *node;
	uint64_t value;

	if (take_number(m, number, &value, err) != SD_OK || make_and_push(m, SD_PICKLE_INT, &node, err) != SD_OK)
		return err->result;
	node->integer = number == 4 ? (int32_t)(uint32_t)value : (int64_t)value;
	return SD_OK;
}

/* Bytes of two's complement. What 64 bits cannot hold may be there, but is nothing to reckon with. */
static enum sd_result op_long(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *node;
	const unsigned char *bytes = NULL;
	uint64_t width, value = 0;

	if (take_number(m, number, &width, err) != SD_OK || take(m, width, &bytes, err) != SD_OK ||
	    make_and_push(m, width > 8 ? SD_PICKLE_LONG : SD_PICKLE_INT, &node, err) != SD_OK)
		return err->result;
	if (width && width <= 8) {
		value = bytes[width - 1] & 0x80 ? UINT64_MAX : 0;
		for (unsigned i = (unsigned)width; i-- > 0;)
			value = value << 8 | bytes[i];
	}
	node->integer = (int64_t)value;
	return SD_OK;
}

static enum sd_result op_float(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *node;
	uint64_t bits;

	if (take_number(m, number, &bits, err) != SD_OK || make_and_push(m, SD_PICKLE_FLOAT, &node, err) != SD_OK)
		return err->result;
	bits = __builtin_bswap64(bits);
	memcpy(&node->real, &bits, sizeof(node->real));
	return SD_OK;
}

static enum sd_result string(struct machine *m, unsigned width, enum sd_pickle_kind kind, struct sd_error *err)
{
	struct sd_pickle_node *node;
	const unsigned char *bytes = NULL;
	uint64_t length;

	if (take_number(m, width, &length, err) != SD_OK || take(m, length, &bytes, err) != SD_OK ||
	    make_and_push(m, kind, &node, err) != SD_OK)
		return err->result;
	node->text = (const char *)bytes;
	node->count = (uint32_t)length;
	return SD_OK;
}

/* number: bytes of the length. */
static enum sd_result op_text(struct machine *m, unsigned number, struct sd_error *err)
{
	return string(m, number, SD_PICKLE_TEXT, err);
}

static enum sd_result op_bytes(struct machine *m, unsigned number, struct sd_error *err)
{
	return string(m, number, SD_PICKLE_BYTES, err);
}

/* number: how many values, or 0: those above the mark. */
static enum sd_result collect(struct machine *m, unsigned number, enum sd_pickle_kind kind, struct sd_error *err)
{
	struct sd_pickle_node *node;
	size_t first = m->depth - number;

	if (number ? need(m, number, err) != SD_OK : unmark(m, &first, err) != SD_OK)
		return err->result;
	if (make(m, kind, &node, err) != SD_OK || move_items(m, first, &node->items, &node->count, err) != SD_OK)
		return err->result;
	return push(m, node, err);
}

static enum sd_result op_tuple(struct machine *m, unsigned number, struct sd_error *err)
{
	return collect(m, number, SD_PICKLE_TUPLE, err);
}

static enum sd_result op_frozenset(struct machine *m, unsigned number, struct sd_error *err)
{
	return collect(m, number, SD_PICKLE_SET, err);
}

/* number: the kind of what values above the mark are added to. */
static enum sd_result op_add_all(struct machine *m, unsigned number, struct sd_error *err)
{
	size_t first = 0;

	return unmark(m, &first, err) == SD_OK ? add_items(m, first, number, err) : err->result;
}

static enum sd_result op_append(struct machine *m, unsigned number, struct sd_error *err)
{
	(void)number;
	return need(m, 2, err) == SD_OK ? add_items(m, m->depth - 1, SD_PICKLE_LIST, err) : err->result;
}

static enum sd_result op_setitem(struct machine *m, unsigned number, struct sd_error *err)
{
	(void)number;
	return need(m, 3, err) == SD_OK ? add_items(m, m->depth - 2, SD_PICKLE_DICT, err) : err->result;
}

static enum sd_result put(struct machine *m, uint64_t index, struct sd_error *err)
{
	if (need(m, 1, err) != SD_OK)
		return err->result;
	/* Whoever writes a pickle counts: an index is never beyond the bytes that came so far. */
	if (index > m->op || index >= NODES_MOST)
		return sd_fail(err, SD_INPUT, "%s at byte %zu: there is no need for a memo of %llu", m->name, m->op,
			       (unsigned long long)index);
	if (index >= m->memo_count) {
		size_t room = room_for((size_t)index + 1);
		struct sd_pickle_node **larger = realloc(m->memo, room * sizeof(struct sd_pickle_node *));

		if (!larger)
			return sd_fail_memory(err);
		memset(larger + m->memo_count, 0, (room - m->memo_count) * sizeof(*larger));
		m->memo = larger;
		m->memo_count = room;
	}
	m->memo[index] = m->stack[m->depth - 1];
	m->memoised++;
	return SD_OK;
}

/* number: bytes of the index. */
static enum sd_result op_put(struct machine *m, unsigned number, struct sd_error *err)
{
	uint64_t index;

	return take_number(m, number, &index, err) == SD_OK ? put(m, index, err) : err->result;
}

static enum sd_result op_memoize(struct machine *m, unsigned number, struct sd_error *err)
{
	(void)number;
	return put(m, m->memoised, err);
}

static enum sd_result op_get(struct machine *m, unsigned number, struct sd_error *err)
{
	uint64_t index;

	if (take_number(m, number, &index, err) != SD_OK)
		return err->result;
	if (index >= m->memo_count || !m->memo[index])
		return sd_fail(err, SD_INPUT, "%s at byte %zu: nothing was put at %llu", m->name, m->op,
			       (unsigned long long)index);
	return push(m, m->memo[index], err);
}

/* ---- globals and objects ---- */

static bool is_text(const char *text, size_t length, const char *word)
{
	return strlen(word) == length && memcmp(text, word, length) == 0;
}

static int shown(size_t length)
{
	return length < 200 ? (int)length : 200;
}

static const struct sd_pickle_global *find_global(const struct sd_pickle_rules *rules, const char *module,
						  size_t module_length, const char *name, size_t length)
{
	for (; rules && length; rules = rules->more)
		for (size_t i = 0; i < rules->nglobals; i++) {
			const struct sd_pickle_global *g = &rules->globals[i];

			if (is_text(module, module_length, g->module) &&
			    (is_text(name, length, g->name) ||
			     (strcmp(g->name, "*") == 0 && !memchr(name, '.', length))))
				return g;
		}
	return NULL;
}

static enum sd_result push_global(struct machine *m, const char *module, size_t module_length, const char *name,
				  size_t length, struct sd_error *err)
{
	static const struct sd_pickle_global other = {"an object", "?", 0, SD_PICKLE_ANY};
	const struct sd_pickle_global *g = find_global(m->rules, module, module_length, name, length);
	struct sd_pickle_node *node;

	if (!g && m->rules->others)
		g = &other;
	if (!g)
		return sd_fail(
			err, SD_INPUT,
			"%.*s.%.*s at byte %zu of the pickle is nothing that a checkpoint needs; nothing was run%s",
			shown(module_length), module, shown(length), name, m->op,
			m->rules->advice ? m->rules->advice : "");
	if (make_and_push(m, SD_PICKLE_GLOBAL, &node, err) != SD_OK)
		return err->result;
	node->global = g;
	return SD_OK;
}

static enum sd_result op_global(struct machine *m, unsigned number, struct sd_error *err)
{
	const char *module = NULL, *name = NULL;
	size_t module_length = 0, length = 0;

	(void)number;
	if (take_line(m, &module, &module_length, err) != SD_OK || take_line(m, &name, &length, err) != SD_OK)
		return err->result;
	return push_global(m, module, module_length, name, length, err);
}

static enum sd_result op_stack_global(struct machine *m, unsigned number, struct sd_error *err)
{
	const struct sd_pickle_node *module, *name;

	(void)number;
	if (need(m, 2, err) != SD_OK)
		return err->result;
	name = m->stack[--m->depth];
	module = m->stack[--m->depth];
	if (name->kind != SD_PICKLE_TEXT || module->kind != SD_PICKLE_TEXT)
		return sd_fail(err, SD_INPUT, "%s at byte %zu takes two texts", m->name, m->op);
	return push_global(m, module->text, module->count, name->text, name->count, err);
}

/* getattr(ENUM, "MEMBER") is how Python 3.11.0 to 3.11.4 writes a member of an enum. */
static bool is_member(const struct sd_pickle_node *args)
{
	return args->count == 2 && args->items[0]->kind == SD_PICKLE_GLOBAL &&
	       args->items[0]->global->use == SD_PICKLE_ENUM && args->items[1]->kind == SD_PICKLE_TEXT &&
	       !memchr(args->items[1]->text, '.', args->items[1]->count) &&
	       !memchr(args->items[1]->text, '_', args->items[1]->count ? 1 : 0);
}

static enum sd_result make_object(struct machine *m, const struct sd_pickle_global *global,
				  const struct sd_pickle_node *args, struct sd_error *err)
{
	struct sd_pickle_node *node;

	if (make_and_push(m, SD_PICKLE_OBJECT, &node, err) != SD_OK)
		return err->result;
	node->object = sd_arena_alloc(&m->pickle->arena, sizeof(*node->object));
	if (!node->object)
		return sd_fail_memory(err);
	*node->object = (struct sd_pickle_object){.global = global, .args = args};
	return SD_OK;
}

/* REDUCE and NEWOBJ. */
static enum sd_result op_object(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *args, *callee;

	(void)number;
	if (need(m, 2, err) != SD_OK)
		return err->result;
	args = m->stack[--m->depth];
	callee = m->stack[--m->depth];
	/* What is left out may be called again, as a function that another one returns. */
	if (args->kind == SD_PICKLE_TUPLE && callee->kind == SD_PICKLE_OBJECT && m->rules->others &&
	    !callee->object->global->meaning)
		return make_object(m, callee->object->global, args, err);
	if (args->kind != SD_PICKLE_TUPLE || callee->kind != SD_PICKLE_GLOBAL)
		return sd_fail(err, SD_INPUT, "%s at byte %zu takes a global and a tuple", m->name, m->op);
	if (callee->global->use == SD_PICKLE_GETATTR && !is_member(args))
		return sd_fail(err, SD_INPUT,
			       "%s.%s at byte %u, used at byte %zu, may only name a member of an enum; nothing was run",
			       callee->global->module, callee->global->name, callee->at, m->op);
	return make_object(m, callee->global, args, err);
}

static enum sd_result op_build(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *to;

	(void)number;
	if (need(m, 2, err) != SD_OK)
		return err->result;
	to = m->stack[m->depth - 2];
	if (to->kind != SD_PICKLE_OBJECT || to->object->state)
		return sd_fail(err, SD_INPUT, "%s at byte %zu: there is no new object below its state", m->name, m->op);
	to->object->state = m->stack[--m->depth];
	return SD_OK;
}

static enum sd_result op_id(struct machine *m, unsigned number, struct sd_error *err)
{
	struct sd_pickle_node *id, *node;

	(void)number;
	if (!m->rules->ids)
		return sd_fail(err, SD_INPUT, "%s at byte %zu: nothing outside of this pickle belongs to it", m->name,
			       m->op);
	if (need(m, 1, err) != SD_OK)
		return err->result;
	id = m->stack[--m->depth];
	if (make_and_push(m, SD_PICKLE_ID, &node, err) != SD_OK)
		return err->result;
	node->id = id;
	if (!sd_array_grow(&m->pickle->ids, m->pickle->nids, &m->pickle->ids_room, sizeof(*m->pickle->ids)))
		return sd_fail_memory(err);
	m->pickle->ids[m->pickle->nids++] = node;
	return SD_OK;
}

/* ---- the machine ---- */

/* All opcodes by their names in pickletools. One without a handler is refused. */
static const struct {
	const char *name;
	handler *run;
	unsigned number;
} ops[256] = {
	['('] = {"MARK", op_mark, 0},
	[')'] = {"EMPTY_TUPLE", op_empty, SD_PICKLE_TUPLE},
	['0'] = {"POP", NULL, 0},
	['1'] = {"POP_MARK", NULL, 0},
	['2'] = {"DUP", NULL, 0},
	['B'] = {"BINBYTES", op_bytes, 4},
	['C'] = {"SHORT_BINBYTES", op_bytes, 1},
	['F'] = {"FLOAT", NULL, 0},
	['G'] = {"BINFLOAT", op_float, 8},
	['I'] = {"INT", NULL, 0},
	['J'] = {"BININT", op_integer, 4},
	['K'] = {"BININT1", op_integer, 1},
	['L'] = {"LONG", NULL, 0},
	['M'] = {"BININT2", op_integer, 2},
	['N'] = {"NONE", op_empty, SD_PICKLE_NONE},
	['P'] = {"PERSID", NULL, 0},
	['Q'] = {"BINPERSID", op_id, 0},
	['R'] = {"REDUCE", op_object, 0},
	['S'] = {"STRING", NULL, 0},
	['T'] = {"BINSTRING", NULL, 0},
	['U'] = {"SHORT_BINSTRING", op_text, 1},
	['V'] = {"UNICODE", NULL, 0},
	['X'] = {"BINUNICODE", op_text, 4},
	[']'] = {"EMPTY_LIST", op_empty, SD_PICKLE_LIST},
	['a'] = {"APPEND", op_append, 0},
	['b'] = {"BUILD", op_build, 0},
	['c'] = {"GLOBAL", op_global, 0},
	['d'] = {"DICT", NULL, 0},
	['e'] = {"APPENDS", op_add_all, SD_PICKLE_LIST},
	['g'] = {"GET", NULL, 0},
	['h'] = {"BINGET", op_get, 1},
	['i'] = {"INST", NULL, 0},
	['j'] = {"LONG_BINGET", op_get, 4},
	['l'] = {"LIST", NULL, 0},
	['o'] = {"OBJ", NULL, 0},
	['p'] = {"PUT", NULL, 0},
	['q'] = {"BINPUT", op_put, 1},
	['r'] = {"LONG_BINPUT", op_put, 4},
	['s'] = {"SETITEM", op_setitem, 0},
	['t'] = {"TUPLE", op_tuple, 0},
	['u'] = {"SETITEMS", op_add_all, SD_PICKLE_DICT},
	['}'] = {"EMPTY_DICT", op_empty, SD_PICKLE_DICT},
	[0x80] = {"PROTO", op_proto, 0},
	[0x81] = {"NEWOBJ", op_object, 0},
	[0x82] = {"EXT1", NULL, 0},
	[0x83] = {"EXT2", NULL, 0},
	[0x84] = {"EXT4", NULL, 0},
	[0x85] = {"TUPLE1", op_tuple, 1},
	[0x86] = {"TUPLE2", op_tuple, 2},
	[0x87] = {"TUPLE3", op_tuple, 3},
	[0x88] = {"NEWTRUE", op_bool, true},
	[0x89] = {"NEWFALSE", op_bool, false},
	[0x8a] = {"LONG1", op_long, 1},
	[0x8b] = {"LONG4", NULL, 0},
	[0x8c] = {"SHORT_BINUNICODE", op_text, 1},
	[0x8d] = {"BINUNICODE8", op_text, 8},
	[0x8e] = {"BINBYTES8", NULL, 0},
	[0x8f] = {"EMPTY_SET", op_empty, SD_PICKLE_SET},
	[0x90] = {"ADDITEMS", op_add_all, SD_PICKLE_SET},
	[0x91] = {"FROZENSET", op_frozenset, 0},
	[0x92] = {"NEWOBJ_EX", NULL, 0},
	[0x93] = {"STACK_GLOBAL", op_stack_global, 0},
	[0x94] = {"MEMOIZE", op_memoize, 0},
	[0x95] = {"FRAME", op_frame, 0},
	[0x96] = {"BYTEARRAY8", NULL, 0},
	[0x97] = {"NEXT_BUFFER", NULL, 0},
	[0x98] = {"READONLY_BUFFER", NULL, 0},
};

#define STOP '.'

static enum sd_result stop(struct machine *m, struct sd_error *err)
{
	if (m->depth != 1 || m->nmarks)
		return sd_fail(err, SD_INPUT, "the pickle stops at byte %zu with %zu values, not one", m->op, m->depth);
	m->pickle->top = m->stack[0];
	m->pickle->used = m->at;
	return SD_OK;
}

static enum sd_result run(struct machine *m, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	while (result == SD_OK && m->at < m->length) {
		unsigned char code = m->data[m->at];

		m->op = m->at++;
		m->name = ops[code].name;
		if (code == STOP)
			return stop(m, err);
		if (ops[code].run)
			result = ops[code].run(m, ops[code].number, err);
		else if (m->name)
			result = sd_fail(err, SD_INPUT, "the pickle has %s at byte %zu, which no checkpoint needs",
					 m->name, m->op);
		else
			result = sd_fail(err, SD_INPUT, "the pickle has 0x%02x at byte %zu, which is no opcode", code,
					 m->op);
	}
	if (result != SD_OK)
		return result;
	m->pickle->cut_short = true;
	return sd_fail(err, SD_INPUT, "the pickle ends early, at byte %zu", m->length);
}

enum sd_result sd_pickle_read(const void *data, size_t length, const struct sd_pickle_rules *rules,
			      struct sd_pickle *pickle, struct sd_error *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	enum sd_result result;

	*pickle = (struct sd_pickle){0};
	if (!m)
		return sd_fail_memory(err);
	*m = (struct machine){
		.data = data, .length = length < UINT32_MAX ? length : UINT32_MAX, .rules = rules, .pickle = pickle};
	result = run(m, err);
	free(m->stack);
	free(m->memo);
	free(m);
	return result;
}

void sd_pickle_free(struct sd_pickle *pickle)
{
	free(pickle->ids);
	sd_arena_free(&pickle->arena);
}

/* ---- looking at nodes ---- */

bool sd_pickle_is(const struct sd_pickle_node *node, const char *text)
{
	return node->kind == SD_PICKLE_TEXT && is_text(node->text, node->count, text);
}

const struct sd_pickle_node *sd_pickle_get(struct sd_pickle_node *const *pairs, uint32_t count, const char *key)
{
	for (uint32_t i = count; i >= 2; i -= 2)
		if (sd_pickle_is(pairs[i - 2], key))
			return pairs[i - 1];
	return NULL;
}

const struct sd_pickle_node *sd_pickle_attribute(const struct sd_pickle_node *object, const char *name)
{
	const struct sd_pickle_node *state = object->kind == SD_PICKLE_OBJECT ? object->object->state : NULL;

	return state && state->kind == SD_PICKLE_DICT ? sd_pickle_get(state->items, state->count, name) : NULL;
}

int sd_pickle_meaning(const struct sd_pickle_node *node, enum sd_pickle_kind kind)
{
	if (node->kind != (uint8_t)kind)
		return -1;
	if (kind == SD_PICKLE_GLOBAL)
		return node->global->meaning;
	return kind == SD_PICKLE_OBJECT ? node->object->global->meaning : -1;
}

bool sd_pickle_size(const struct sd_pickle_node *node, uint64_t *size)
{
	if (node->kind != SD_PICKLE_INT || node->integer < 0)
		return false;
	*size = (uint64_t)node->integer;
	return true;
}
