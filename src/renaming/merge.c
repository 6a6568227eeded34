/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that get one name become one tensor: sizes unify, nothing is missing, nothing comes twice. */
#include "renaming/planner.h"
#include "base/checked.h"
#include "renaming/arithmetic.h"
#include "renaming/family.h"
#include "renaming/missing_keys.h"
#include "renaming/odd.h"
#include "renaming/interval_index.h"
#include "move/compose.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct join {
	struct sd_planner *p;
	const struct sd_map_stage *stage;
	struct sd_planner_tensor *before;
	const struct sd_planner_member *members;
	const struct sd_planner_families *families;
	const struct sd_planner_group *group;
	const struct sd_rule *lead; /* the rule of the first member that is no copy */
	axis_sizes sizes;
	const struct sd_planner_tensor *owner[AXES_MAX]; /* who said the size */
	uint64_t stack_size[STACKS_MAX];
	uint64_t slots, due; /* members that a whole group has */
	bool copies;         /* it has members that are copies of others */
	/* Members that are missing, and may be: their places; and the line that tells of them. */
	uint64_t *absent;
	size_t nabsent, absent_room;
	const char *lack;
};

/* Each has a record of its own, with the line. */
#define ABSENT_MAX 65536u

static const struct sd_planner_member *first_of(const struct join *j)
{
	return &j->members[j->group->first];
}

static const struct sd_planner_member *next_of(const struct join *j, const struct sd_planner_member *m)
{
	return m->next == NONE ? NULL : &j->members[m->next];
}

static const struct sd_rule *rule_of(const struct join *j, const struct sd_planner_member *m)
{
	return &j->stage->rules[m->rule];
}

/* Whether the rule writes the same pattern as the group's first one. */
static bool same_target(const struct join *j, const struct sd_rule *rule)
{
	int to = !j->p->from;

	return sd_pattern_same(&rule->side[to].key, &rule->holes, &j->lead->side[to].key, &j->lead->holes);
}

/* A member whose tensor is there already, by the others. */
static bool is_copy(const struct join *j, const struct sd_planner_member *m)
{
	return rule_of(j, m)->outcome[j->p->from] == COPIED;
}

static enum sd_result fail_two(const struct join *j, const struct sd_planner_member *a,
			       const struct sd_planner_member *b)
{
	struct sd_planner *p = j->p;

	return sd_fail(p->err, SD_INPUT, "both %s and %s become %s (%s:%u, %s:%u)",
		       sd_planner_source(p, &j->before[a->tensor]), sd_planner_source(p, &j->before[b->tensor]),
		       j->group->name, rule_of(j, a)->file, rule_of(j, a)->line, rule_of(j, b)->file,
		       rule_of(j, b)->line);
}

/* Two sizes of one axis: the member whose shape alone is another one is named, if there is one. */
static enum sd_result fail_sizes(const struct join *j, uint32_t axis, uint64_t size, const struct sd_planner_member *m)
{
	const char *odd = sd_odd_shape(j->p, j->before, j->members, j->group), *name = j->p->map->axes.name[axis];
	const struct sd_rule *rule = rule_of(j, m);

	if (odd)
		return sd_fail(j->p->err, SD_INPUT, "%s (%s:%u: %s)", odd, rule->file, rule->line, name);
	return sd_fail(j->p->err, SD_INPUT,
		       "%s is %" PRIu64 " in %s and %" PRIu64 " in %s, which both go into %s (%s:%u)", name,
		       j->sizes[axis], j->owner[axis]->name, size, j->before[m->tensor].name, j->group->name,
		       rule->file, rule->line);
}

/* Takes over what one member's shape says. */
static enum sd_result unify_axis(struct join *j, uint32_t axis, uint64_t size, const struct sd_planner_member *m)
{
	const struct sd_planner_tensor *t = &j->before[m->tensor];

	if (size == SIZE_OPEN || j->sizes[axis] == size)
		return SD_OK;
	if (j->sizes[axis] != SIZE_OPEN && j->owner[axis])
		return fail_sizes(j, axis, size, m);
	j->sizes[axis] = size;
	j->owner[axis] = t;
	return SD_OK;
}

/* The holes that a name gives a rule that has written or read it. */
static bool read_key(const struct join *j, const struct sd_rule *rule, const char *name, int side,
		     struct sd_map_values *values)
{
	struct sd_planner *p = j->p;

	return sd_pattern_match(&rule->side[side].key, &rule->holes, p->texts, name, strlen(name), &p->scratch,
				values) &&
	       sd_planner_count(p, j->stage, rule, side, values) == MATCH;
}

static enum sd_result unify(struct join *j, const struct sd_planner_member *m)
{
	const struct sd_rule *rule = rule_of(j, m);
	const struct sd_planner_tensor *t = &j->before[m->tensor];
	const struct sd_axes *axes = &rule->side[j->p->from].axes;
	struct sd_map_values values;
	axis_sizes sizes;

	if (!read_key(j, rule, t->name, j->p->from, &values))
		return sd_fail_memory(j->p->err);
	sd_planner_sizes(j->p, j->stage, rule, &values, sizes);
	if (!sd_axes_bind(axes, t->shape, t->rank, sizes))
		return sd_fail_memory(j->p->err); /* it has been bound before */
	if (m->scale != NONE && sd_arithmetic_bind(j->p, rule, t, &j->before[m->scale], sizes) != SD_OK)
		return j->p->err->result;
	for (uint32_t a = 0; a < j->p->map->axes.n; a++) {
		bool stacked = false;

		for (uint32_t i = 0; i < rule->stacks; i++)
			stacked |= rule->stack[i].axis == a && rule->stack[i].key_side == j->p->from;
		if (!stacked && unify_axis(j, a, sizes[a], m) != SD_OK)
			return j->p->err->result;
	}
	return SD_OK;
}

/* How many numbers and slots a whole group has. */
static void measure(struct join *j)
{
	const struct sd_map_factor *slot = sd_axes_slot(&j->lead->side[!j->p->from].axes);

	j->slots = slot ? slot->slots : 1;
	j->due = j->slots;
	for (uint32_t i = 0; i < j->lead->stacks; i++) {
		uint32_t axis = j->lead->stack[i].axis;

		if (j->lead->stack[i].key_side != j->p->from)
			continue;
		if (j->sizes[axis] == SIZE_OPEN)
			j->sizes[axis] = sd_family_size(j->families, j->members[j->group->first].family, i);
		j->stack_size[i] = j->sizes[axis];
		j->due *= j->stack_size[i]; /* each is below 2^20, and there are two */
	}
}

/* A member's place among those that are due; UINT64_MAX when it is none of them. */
static uint64_t place_of(const struct join *j, const struct sd_planner_member *m)
{
	const struct sd_rule *rule = rule_of(j, m);
	const struct sd_map_factor *slot = sd_axes_slot(&rule->side[!j->p->from].axes);
	uint64_t place = 0;

	for (uint32_t i = 0; i < rule->stacks; i++) {
		if (rule->stack[i].key_side != j->p->from)
			continue;
		if (m->index[i] >= j->stack_size[i])
			return UINT64_MAX;
		place = place * j->stack_size[i] + m->index[i];
	}
	return place * j->slots + (slot ? slot->slot : 0);
}

struct placed {
	uint64_t place;
	const struct sd_planner_member *member;
};

static int by_place(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	return x->place < y->place ? -1 : x->place > y->place;
}

/* The rule that would fill a place, or NULL. */
static const struct sd_rule *rule_at(const struct join *j, uint64_t place)
{
	int from = j->p->from;

	for (uint32_t i = 0; i < j->stage->nrules; i++) {
		const struct sd_rule *rule = &j->stage->rules[i];
		const struct sd_map_factor *slot = sd_axes_slot(&rule->side[!from].axes);

		if (rule->outcome[from] == MOVE && rule->side[!from].key.text && sd_planner_guards(j->p, rule) &&
		    same_target(j, rule) && (slot ? slot->slot : 0) == place % j->slots)
			return rule;
	}
	return NULL;
}

/* The key that a rule would read to fill a place. */
static const char *key_at(const struct join *j, const struct sd_rule *rule, uint64_t place)
{
	struct sd_planner *p = j->p;
	const struct sd_planner_member *known = NULL;
	struct sd_map_values values = {0};

	/* The holes of a member of the same rule, or of any. */
	for (const struct sd_planner_member *m = first_of(j); m; m = next_of(j, m))
		if (!known || rule_of(j, m) == rule)
			known = m;
	place /= j->slots;
	/* The target's name gives all holes but those that became axes. */
	if (!read_key(j, rule, j->group->name, !p->from, &values))
		return "?";
	if (rule_of(j, known) == rule && !read_key(j, rule, j->before[known->tensor].name, p->from, &values))
		return "?";
	for (uint32_t i = rule->stacks; i-- > 0;) {
		char *number;

		if (rule->stack[i].key_side != p->from || !j->stack_size[i])
			continue;
		number = sd_arena_printf(&p->out->arena, "%" PRIu64, place % j->stack_size[i]);
		if (!number)
			return "?";
		place /= j->stack_size[i];
		values.value[rule->stack[i].hole] = (struct sd_map_value){.text = number, .length = strlen(number)};
	}
	return sd_pattern_fill(&rule->side[p->from].key, &rule->holes, p->texts, &values, &p->out->arena);
}

/* Whether missing members may become records that are missing: parts of a stack, which sd-shard may cut away. */
static bool may_leave(const struct join *j, uint64_t n, uint64_t copies)
{
	const struct sd_axes *read = &j->lead->side[j->p->from].axes;

	return j->p->rename->leave_missing && sd_rule_stacks(j->lead, j->p->from) && copies == 0 &&
	       j->due - n <= ABSENT_MAX && !sd_axes_packed(read);
}

/* Fails with the keys that are missing, or, where they may be, makes a list of their places. */
static enum sd_result find_missing(struct join *j, const struct placed *placed, uint64_t n, bool leave)
{
	struct sd_planner_missing missing = {.target = j->group->name, .rule = j->lead, .of = j->due / j->slots};
	uint64_t next = 0;

	for (uint64_t i = 0; i <= n; i++)
		for (uint64_t end = i < n ? placed[i].place : j->due; next <= end; next++) {
			const struct sd_rule *rule = next < end ? rule_at(j, next) : NULL;
			const char *key = rule && missing.count < MISSING_MAX ? key_at(j, rule, next) : NULL;

			if (rule && leave) {
				if (!sd_array_grow(&j->absent, j->nabsent, &j->absent_room, sizeof(*j->absent)))
					return sd_fail_memory(j->p->err);
				j->absent[j->nabsent++] = next;
			}
			if (rule && (key || missing.count >= MISSING_MAX))
				sd_missing_add(&missing, rule, next / j->slots, key);
			if (missing.count > MISSING_COUNTED)
				return sd_missing_fail(&missing, j->p);
		}
	if (j->nabsent != j->due - n)
		return sd_missing_fail(&missing, j->p);
	j->lack = sd_missing_text(&missing, j->p);
	return j->lack ? SD_OK : sd_fail_memory(j->p->err);
}

/* Every place is filled once. *whole is false for a group that lacks something and may. */
static enum sd_result check_members(struct join *j, bool *whole)
{
	struct placed *placed = malloc(j->group->members * sizeof(*placed));
	uint64_t n = 0, copies = 0;
	enum sd_result result = SD_OK;

	if (!placed)
		return sd_fail_memory(j->p->err);
	for (const struct sd_planner_member *m = first_of(j); m; m = next_of(j, m)) {
		if (is_copy(j, m)) {
			copies++;
			continue;
		}
		placed[n] = (struct placed){place_of(j, m), m};
		if (placed[n++].place == UINT64_MAX && result == SD_OK)
			result = sd_fail(j->p->err, SD_INPUT,
					 "%s: its number is too large for %s, which has %" PRIu64 " (%s:%u)",
					 j->before[m->tensor].name, j->group->name, j->stack_size[0],
					 rule_of(j, m)->file, rule_of(j, m)->line);
	}
	qsort(placed, n, sizeof(*placed), by_place);
	for (uint64_t i = 1; i < n && result == SD_OK; i++)
		if (placed[i].place == placed[i - 1].place)
			result = fail_two(j, placed[i - 1].member, placed[i].member);
	*whole = n == j->due && (copies == 0 || copies % (j->due / j->slots) == 0);
	if (result == SD_OK && !*whole && (!j->lead->if_complete || j->p->rename->strict)) {
		result = n < j->due ? find_missing(j, placed, n, may_leave(j, n, copies))
				    : sd_fail(j->p->err, SD_INPUT,
					      "%s has %" PRIu64 " parts and %" PRIu64 " copies (%s:%u)", j->group->name,
					      n, copies, j->lead->file, j->lead->line);
		*whole = true;
	}
	free(placed);
	return result;
}

static bool is_identity(const struct sd_move *move, uint64_t count)
{
	if (move->from || move->to)
		return false;
	return move->rank == 0 ? count == 1
			       : move->rank == 1 && move->dim[0].size == count && move->dim[0].from == 1 &&
					 move->dim[0].to == 1;
}

/* The move from a member's tensor to the group's, in room; NULL for all elements in order. */
static enum sd_result member_move(const struct join *j, const struct sd_planner_member *m,
				  const struct sd_planner_tensor *t, const struct sd_planner_tensor *made,
				  struct sd_move *room, const struct sd_move **move)
{
	struct sd_planner *p = j->p;
	const struct sd_rule *rule = rule_of(j, m);
	const struct sd_axes *read = &rule->side[p->from].axes, *written = &rule->side[!p->from].axes;
	uint64_t from[AXES_MAX], to[AXES_MAX], from_offset, to_offset, before, after;
	struct sd_dim dims[AXES_MAX];
	axis_sizes index;
	uint32_t rank = 0;

	*move = NULL;
	for (uint32_t a = 0; a < AXES_MAX; a++)
		index[a] = SIZE_OPEN;
	for (uint32_t i = 0; i < rule->stacks; i++)
		index[rule->stack[i].axis] = m->index[i];
	sd_axes_place(read, j->sizes, index, from, &from_offset);
	sd_axes_place(written, j->sizes, index, to, &to_offset);
	for (uint32_t a = 0; a < p->map->axes.n; a++)
		if (index[a] == SIZE_OPEN && sd_axes_have(read, a) && sd_axes_have(written, a))
			dims[rank++] = (struct sd_dim){j->sizes[a], from[a], to[a]};
	if (sd_arithmetic_count(p, rule, t, &before) != SD_OK)
		return p->err->result;
	if (!sd_shape_count(made->shape, made->rank, &after) || !sd_move_make(room, from_offset, to_offset, dims, rank))
		return sd_fail(p->err, SD_INPUT, "%s: too many dimensions to move (%s:%u)", t->name, rule->file,
			       rule->line);
	/* Several pieces of an empty tensor have moves all the same: what has none is the whole of it. */
	if (before == after &&
	    (before ? is_identity(room, after) : j->group->members + j->nabsent == 1 && t->first == t->last))
		return SD_OK;
	if (!sd_dtype_size(t->dtype))
		return sd_fail(p->err, SD_INPUT, "%s: %s elements are smaller than a byte and cannot be moved (%s:%u)",
			       t->name, sd_dtype_name(t->dtype), rule->file, rule->line);
	*move = room;
	return SD_OK;
}

/* The pieces of a member's tensor, each moved on. */
static enum sd_result move_piece(struct sd_planner *p, const struct sd_planner_piece *piece, const struct sd_move *move,
				 struct sd_planner_tensor *made)
{
	struct sd_planner_piece moved = *piece;
	struct sd_moves moves = {0};
	enum sd_result result = SD_OK;

	if (move && (!piece->move || sd_move_count(move) == 0)) {
		moved.move = sd_arena_copy(&p->out->arena, move, sd_move_size(move));
		if (!moved.move)
			return sd_fail_memory(p->err);
		return sd_planner_add_piece(p, made, &moved);
	}
	if (!move)
		return sd_planner_add_piece(p, made, &moved);
	result = sd_move_compose(piece->move, move, &moves, p->err);
	if (result == SD_OK)
		result = sd_compose_count(&p->out->composed, moves.count, p->err);
	if (result == SD_INPUT)
		sd_error_at(p->err, "%s", made->name);
	for (size_t i = 0; i < moves.count && result == SD_OK; i++) {
		moved.move = sd_arena_copy(&p->out->arena, &moves.at[i], sd_move_size(&moves.at[i]));
		result = moved.move ? sd_planner_add_piece(p, made, &moved) : sd_fail_memory(p->err);
	}
	free(moves.at);
	return result;
}

/* A constant takes the place of elements of its source: of none, there are no elements to be had. */
static enum sd_result check_constant(const struct join *j, const struct sd_rule *rule,
				     const struct sd_planner_tensor *t, const struct sd_planner_tensor *made)
{
	char shape[SD_SHAPE_TEXT];
	uint64_t from, to;

	if (!sd_shape_count(t->shape, t->rank, &from) || !sd_shape_count(made->shape, made->rank, &to) || from || !to)
		return SD_OK;
	return sd_fail(j->p->err, SD_INPUT, "%s %s has no elements, of which %s would be made (%s:%u)", t->name,
		       sd_shape_text(t->shape, t->rank, shape, sizeof(shape)), made->name, rule->file, rule->line);
}

static enum sd_result add_pieces(const struct join *j, const struct sd_planner_member *m, struct sd_planner_tensor *t,
				 struct sd_planner_tensor *made)
{
	struct sd_planner *p = j->p;
	const struct sd_rule *rule = rule_of(j, m);
	const struct sd_move *move = NULL;
	struct sd_move room;
	struct sd_planner_overlap overlap;
	struct sd_planner_piece piece;

	if (rule->side[p->from].axes.text && member_move(j, m, t, made, &room, &move) != SD_OK)
		return p->err->result;
	if (m->scale != NONE) {
		if (sd_arithmetic_scaled(p, rule, t, &j->before[m->scale], j->sizes, made->dtype, &piece) != SD_OK)
			return p->err->result;
		return move_piece(p, &piece, move, made);
	}
	if (sd_intervals_begin(p, t, move, &overlap) != SD_OK)
		return p->err->result;
	for (uint32_t i; (i = sd_intervals_next(p, &overlap)) != NONE;) {
		piece = p->pieces[i];
		if (rule->arithmetic == CONSTANT) {
			if (check_constant(j, rule, t, made) != SD_OK ||
			    sd_arithmetic_constant(p, rule, t, made, &piece) != SD_OK)
				return p->err->result;
		} else if (made->dtype != t->dtype && sd_planner_cast(p, &piece, made->dtype) != SD_OK)
			return p->err->result;
		if (move_piece(p, &piece, move, made) != SD_OK)
			return p->err->result;
	}
	return SD_OK;
}

/* The tensor of a missing member, of a record that is missing: what it would be for what is made of it. */
static enum sd_result absent_tensor(const struct join *j, const struct sd_rule *rule, uint64_t place, uint8_t dtype,
				    struct sd_planner_tensor *t)
{
	struct sd_planner *p = j->p;
	const struct sd_axes *axes = &rule->side[p->from].axes;
	uint64_t *shape = sd_arena_array(&p->out->arena, axes->n, sizeof(*shape)), count;
	struct sd_record record = {
		.key = key_at(j, rule, place), .shape = shape, .rank = axes->n, .dtype = dtype, .state = SD_MISSING};
	struct sd_planner_piece piece = {.target = NONE};
	bool overflow;

	record.lack = j->lack;
	if (!record.key || !shape)
		return sd_fail_memory(p->err);
	if (sd_axes_shape(axes, j->sizes, shape, &overflow) != NO_AXIS || overflow ||
	    !sd_shape_count(shape, axes->n, &count) || !sd_dtype_bytes(dtype, count, &record.bytes))
		return sd_fail(p->err, SD_INPUT, "%s", j->lack);
	*t = (struct sd_planner_tensor){
		.name = record.key, .shape = shape, .rank = axes->n, .first = NONE, .last = NONE, .dtype = dtype};
	if (sd_planner_missing(p, &record, &piece.record) != SD_OK)
		return p->err->result;
	return sd_planner_add_piece(p, t, &piece);
}

/* The piece of a missing member. */
static enum sd_result add_absent(const struct join *j, uint64_t place, struct sd_planner_tensor *made)
{
	const struct sd_rule *rule = rule_at(j, place);
	struct sd_planner_member m = {
		.next = NONE, .rule = (uint32_t)(rule - j->stage->rules), .scale = NONE, .family = NONE};
	uint64_t number = place / j->slots;
	struct sd_planner_tensor t;

	for (uint32_t i = rule->stacks; i-- > 0;) {
		if (rule->stack[i].key_side != j->p->from || !j->stack_size[i])
			continue;
		m.index[i] = number % j->stack_size[i];
		number /= j->stack_size[i];
	}
	if (absent_tensor(j, rule, place, made->dtype, &t) != SD_OK)
		return j->p->err->result;
	return add_pieces(j, &m, &t, made);
}

/* The shape that the written side has, in the plan's arena. */
static enum sd_result make_shape(const struct join *j, struct sd_planner_tensor *made)
{
	struct sd_planner *p = j->p;
	const struct sd_axes *axes = &j->lead->side[!p->from].axes;
	uint64_t *shape = sd_arena_array(&p->out->arena, axes->n, sizeof(*shape)), count, bytes;
	bool overflow;
	uint32_t axis;

	if (!shape)
		return sd_fail_memory(p->err);
	axis = sd_axes_shape(axes, j->sizes, shape, &overflow);
	if (axis != NO_AXIS) {
		const char *option = NULL;

		for (uint32_t i = 0; i < p->map->nsizes; i++)
			if (p->map->sizes[i].axis == axis)
				option = p->map->sizes[i].option;
		return sd_fail(p->err, SD_INPUT, "%s: the shapes do not tell %s; %s%s (%s:%u)", j->group->name,
			       p->map->axes.name[axis], option ? "say -D " : "give the map a size for it",
			       option ? option : "", j->lead->file, j->lead->line);
	}
	if (overflow || !sd_shape_count(shape, axes->n, &count) || !sd_dtype_bytes(made->dtype, count, &bytes))
		return sd_fail(p->err, SD_INPUT, "%s: the shape is too large", j->group->name);
	made->shape = shape;
	made->rank = axes->n;
	return SD_OK;
}

/* A group that lacks a member, and may: all pass as they were. */
static enum sd_result pass_all(const struct join *j)
{
	static const char text[] = "it passes as it is, for others that would go into the same tensor are missing";

	for (const struct sd_planner_member *m = first_of(j); m; m = next_of(j, m)) {
		const struct sd_planner_tensor *t = &j->before[m->tensor];

		if (sd_planner_note(j->p, rule_of(j, first_of(j)), text, t) != SD_OK ||
		    sd_planner_add(j->p, t) != SD_OK)
			return j->p->err->result;
	}
	return SD_OK;
}

static enum sd_result prepare(struct join *j, bool *whole)
{
	const struct sd_planner_member *first = NULL;

	for (const struct sd_planner_member *m = first_of(j); m; m = next_of(j, m)) {
		j->copies = j->copies || is_copy(j, m);
		if (is_copy(j, m))
			continue;
		if (!first) {
			first = m;
			j->lead = rule_of(j, m);
		} else if (!j->lead->side[j->p->from].axes.text || !rule_of(j, m)->side[j->p->from].axes.text ||
			   !same_target(j, rule_of(j, m))) {
			return fail_two(j, first, m);
		}
	}
	*whole = first != NULL;
	if (!first) {
		const struct sd_planner_member *copy = &j->members[j->group->first];

		if (rule_of(j, copy)->if_complete && !j->p->rename->strict)
			return SD_OK;
		return sd_fail(j->p->err, SD_INPUT, "%s is a copy of what is not there (%s:%u)",
			       j->before[copy->tensor].name, rule_of(j, copy)->file, rule_of(j, copy)->line);
	}
	if (!j->lead->side[j->p->from].axes.text)
		return SD_OK;
	sd_planner_sizes(j->p, j->stage, NULL, NULL, j->sizes);
	for (const struct sd_planner_member *m = first_of(j); m; m = next_of(j, m))
		if (!is_copy(j, m) && unify(j, m) != SD_OK)
			return j->p->err->result;
	measure(j);
	return check_members(j, whole);
}

/* sd-shard has to know: of a stacked tensor, a rank without a part gets none, not an empty one. */
static enum sd_result label_stacked(struct sd_planner *p, struct sd_planner_tensor *made)
{
	uint32_t bit = sd_manifest_label(p->out, SD_LABEL_STACKED);

	if (!bit)
		return sd_fail(p->err, SD_INPUT, "no room for label %s", SD_LABEL_STACKED);
	made->labels |= bit;
	return SD_OK;
}

/* Whether the tensor of a group of one member only gets another name: it keeps its pieces then. A copy has its own. */
static bool is_renamed(const struct sd_planner *p, const struct sd_map_stage *stage,
		       const struct sd_planner_tensor *before, const struct sd_planner_member *member)
{
	const struct sd_rule *rule = &stage->rules[member->rule];
	const struct sd_planner_tensor *t = &before[member->tensor];

	return member->next == NONE && rule->outcome[p->from] == MOVE && rule->direction != COPY &&
	       rule->direction != COPY_RIGHTWARDS && !rule->side[p->from].axes.text && member->scale == NONE &&
	       rule->arithmetic != CONSTANT && sd_arithmetic_dtype(p, rule, t->dtype) == t->dtype;
}

/* The dtype of a whole group. Where its members have several, that of -D dtype, if it is for this tensor: that is known
 * by its last name. */
static enum sd_result make_dtype(const struct join *j, struct sd_planner_tensor *made)
{
	struct sd_planner *p = j->p;
	uint8_t one = SD_NO_DTYPE;

	for (const struct sd_planner_member *m = first_of(j); m; m = next_of(j, m)) {
		const struct sd_planner_tensor *t = &j->before[m->tensor];
		uint8_t dtype = sd_arithmetic_dtype(p, rule_of(j, m), t->dtype);

		if (is_copy(j, m))
			continue;
		if (one == SD_NO_DTYPE)
			one = dtype;
		if (!made->mixed)
			made->mixed = t->mixed;
		if (dtype == one || made->mixed)
			continue;
		made->mixed = sd_odd_dtype(p, j->before, j->members, j->group);
		if (!made->mixed)
			made->mixed =
				sd_arena_printf(&p->out->arena, "%s would be both %s and %s, from %s", j->group->name,
						sd_dtype_name(one), sd_dtype_name(dtype), t->name);
		if (!made->mixed)
			return sd_fail_memory(p->err);
		if (!sd_planner_castable(one) || !sd_planner_castable(dtype))
			return sd_fail(p->err, SD_INPUT, "%s", made->mixed);
	}
	made->dtype = made->mixed && p->dtype ? p->dtype : one;
	return SD_OK;
}

/* Whether an axis is all of the first dimension. */
static bool is_outermost(const struct sd_axes *axes, uint32_t axis)
{
	return axes->n && axes->dims[0].n == 1 && axes->dims[0].factors[0].axis == axis;
}

/* A tensor that is taken apart by its first dimension says which part it is, for sd-shard; what is stacked is all. */
static void note_number(const struct join *j, const struct sd_planner_member *m, struct sd_planner_tensor *made)
{
	const struct sd_rule *rule = j->lead;
	int from = j->p->from;

	for (uint32_t i = 0; i < rule->stacks; i++) {
		const struct sd_map_stack *stack = &rule->stack[i];

		if (stack->key_side == from) {
			made->number = made->of = 0;
		} else if (is_outermost(&rule->side[from].axes, stack->axis)) {
			made->number = m->index[i];
			made->of = j->sizes[stack->axis];
			return;
		} else {
			made->of = SD_OF_UNKNOWN;
		}
	}
}

/* Of a whole group, one tensor: what the first member says, and the pieces of all. */
/* Copies have to be equal to the members whose places they have; those of which the map has something to say need not.
 */
static enum sd_result hold_copies(const struct join *j)
{
	struct placed *kept = malloc(j->group->members * sizeof(*kept));
	enum sd_result result = kept ? SD_OK : sd_fail_memory(j->p->err);
	size_t n = 0;

	for (const struct sd_planner_member *m = first_of(j); m && kept; m = next_of(j, m))
		if (!is_copy(j, m))
			kept[n++] = (struct placed){place_of(j, m), m};
	if (kept)
		qsort(kept, n, sizeof(*kept), by_place);
	for (const struct sd_planner_member *m = first_of(j); m && result == SD_OK; m = next_of(j, m)) {
		const struct placed key = {place_of(j, m), m}, *same;

		if (!is_copy(j, m) || rule_of(j, m)->note)
			continue;
		same = bsearch(&key, kept, n, sizeof(*kept), by_place);
		if (same)
			result = sd_planner_equal(j->p, rule_of(j, m), &j->before[same->member->tensor],
						  &j->before[m->tensor]);
	}
	free(kept);
	return result;
}

static enum sd_result make_whole(struct join *j, struct sd_planner_tensor *made)
{
	struct sd_planner *p = j->p;
	bool first = true;

	for (const struct sd_planner_member *m = first_of(j); m; m = next_of(j, m)) {
		const struct sd_planner_tensor *t = &j->before[m->tensor];

		if (is_copy(j, m))
			continue;
		if (first) {
			*made = *t;
			sd_planner_name(made, j->group->name);
			made->first = made->last = NONE;
			made->spans = NULL;
			note_number(j, m, made);
			if (make_dtype(j, made) != SD_OK ||
			    (j->lead->side[p->from].axes.text && make_shape(j, made) != SD_OK))
				return p->err->result;
		}
		first = false;
		made->labels |= t->labels;
		if (add_pieces(j, m, &j->before[m->tensor], made) != SD_OK)
			return p->err->result;
	}
	for (size_t i = 0; i < j->nabsent; i++)
		if (add_absent(j, j->absent[i], made) != SD_OK)
			return p->err->result;
	if (j->copies && hold_copies(j) != SD_OK)
		return p->err->result;
	return sd_rule_stacks(j->lead, p->from) ? label_stacked(p, made) : SD_OK;
}

enum sd_result sd_planner_merge(struct sd_planner *p, const struct sd_map_stage *stage,
				struct sd_planner_tensor *before, const struct sd_planner_member *members,
				const struct sd_planner_families *families, const struct sd_planner_group *group)
{
	struct join *j;
	struct sd_planner_tensor made;
	bool whole = false;
	enum sd_result result;

	if (is_renamed(p, stage, before, &members[group->first])) {
		made = before[members[group->first].tensor];
		if (made.name != group->name)
			sd_planner_name(&made, group->name);
		return sd_planner_add(p, &made);
	}
	j = malloc(sizeof(*j));
	if (!j)
		return sd_fail_memory(p->err);
	*j = (struct join){
		.p = p, .stage = stage, .before = before, .members = members, .families = families, .group = group};
	result = prepare(j, &whole);
	if (result == SD_OK && !whole) {
		result = pass_all(j);
	} else if (result == SD_OK) {
		result = make_whole(j, &made);
		if (result == SD_OK)
			result = sd_planner_add(p, &made);
	}
	free(j->absent);
	free(j);
	return result;
}
