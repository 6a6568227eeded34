/* SPDX-License-Identifier: Apache-2.0 */
/* A sink that counts. */
#include "flow/counting.h"
#include "base/names.h"
#include "base/pool.h"
#include "move/box.h"
#include "model/stack.h"

#include <stdlib.h>
#include <string.h>

/* Runs that are counted as one job, and what is given to the threads at a time. */
#define RUNS_A_JOB 16
#define JOBS_A_THREAD 4

/* More are no experts. */
#define EXPERTS_MOST 65536

/* Bytes of a run, at most. */
#define RUN_BYTES (SD_STATISTICS_RUN * 8)

/* A run, and which of its rows are of zeros only. */
struct run {
	uint64_t first;   /* element of the record */
	size_t count, at; /* where it lies, in bytes from the first run's begin */
	struct sd_statistics s;
	uint64_t dead, first_dead; /* rows that lie in it whole */
	bool head, tail;           /* what it has of a row that begins before it, or ends behind it, is zeros */
};

/* The record whose data comes. */
struct current {
	uint32_t record; /* SD_NO_RECORD: none */
	uint8_t dtype;
	struct sd_statistics_kind kind;
	uint64_t count, unit, row; /* elements of it, of an expert, and of a row; row 0: rows are not looked at */
	uint64_t base;             /* the element of the tensor that its first one is */
	uint64_t done;             /* elements that are counted */
	struct sd_counted counted;
	bool open;   /* what has come of the row that is not whole yet is zeros */
	size_t kept; /* bytes of a run that is not whole yet */
};

struct counting {
	struct sd_counting api; /* first */
	const struct sd_manifest *m;
	struct sd_pool *pool;
	unsigned threads;
	uint32_t *first, *next; /* by record its first target, by target the next one of the same record */
	struct sd_names names;
	struct sd_arena arena; /* names and shapes of the tensors */
	size_t room;
	struct current now;
	unsigned char part[RUN_BYTES];
	unsigned char *buffers; /* one of a job for each thread, and of a window for what comes in a pipe */
	double *scratch;        /* a run of numbers for each thread */
	struct run *runs;
	size_t nruns;
	/* While a window is counted: */
	struct sd_extent extent;
	struct sd_error *errors; /* by thread */
};

static size_t window_runs(const struct counting *c)
{
	return (size_t)c->threads * JOBS_A_THREAD * RUNS_A_JOB;
}

static uint64_t bytes_of(uint8_t dtype, uint64_t count)
{
	return (count * sd_dtype_bits(dtype) + 7) / 8;
}

static unsigned parts_of(uint8_t dtype)
{
	return sd_statistics_parts(dtype);
}

/* ---- runs ---- */

/* Numbers that are looked at together: most rows are over with the first few. */
#define LOOK 64

/* Whether elements of a run are zeros. Elements of 4 and 6 bits begin a byte where their number is a multiple of 8. */
static bool are_zeros(const struct current *now, const unsigned char *data, size_t begin, size_t end)
{
	for (size_t at = begin / 8 * 8; at < end; at += LOOK) {
		size_t count = end - at < LOOK ? end - at : LOOK;
		double values[LOOK];

		sd_statistics_values(&now->kind, data + bytes_of(now->dtype, at), count, values);
		for (size_t i = at < begin ? begin - at : 0; i < count; i++)
			if (values[i] != 0)
				return false;
	}
	return true;
}

/* Looks at the rows of a run that has zeros. */
static void look_at_rows(const struct current *now, const void *data, struct run *r)
{
	const uint64_t row = now->row;
	size_t at = (size_t)((row - r->first % row) % row);

	if (at)
		r->head = are_zeros(now, data, 0, at < r->count ? at : r->count);
	for (; at + row <= r->count; at += row)
		if (are_zeros(now, data, at, at + row) && !r->dead++)
			r->first_dead = (r->first + at) / row;
	if (at < r->count)
		r->tail = are_zeros(now, data, at, r->count);
}

static void count_run(const struct current *now, const void *data, double *scratch, struct run *r)
{
	sd_statistics_count(&now->kind, data, r->count, scratch, &r->s);
	r->dead = 0;
	r->head = r->tail = false;
	if (now->row && r->s.zeros)
		look_at_rows(now, data, r);
}

/* Takes a run's rows into account; they come in their order. */
static void join_rows(struct current *now, const struct run *r)
{
	struct sd_counted *t = &now->counted;
	uint64_t head = (now->row - r->first % now->row) % now->row, tail = (r->first + r->count) % now->row;

	if (head) {
		now->open = now->open && r->head;
		if (head > r->count)
			return;
		if (now->open && !t->dead++)
			t->first_dead = r->first / now->row;
	}
	if (r->dead && !t->dead)
		t->first_dead = r->first_dead;
	t->dead += r->dead;
	if (tail)
		now->open = r->tail;
}

static void join_run(struct counting *c, const struct run *r)
{
	struct current *now = &c->now;
	struct sd_statistics *into =
		now->counted.nexperts ? &now->counted.expert[r->first / now->unit] : &now->counted.all;

	sd_statistics_join(into, &r->s, now->base + r->first);
	if (now->row)
		join_rows(now, r);
}

/* The next run, which begins at this element. */
static struct run next_run(const struct current *now, uint64_t first)
{
	uint64_t in_unit = first % now->unit, left = now->unit - in_unit,
		 most = SD_STATISTICS_RUN / parts_of(now->dtype);

	return (struct run){.first = first, .count = (size_t)(left < most ? left : most)};
}

static uint64_t place_of(const struct counting *c, const struct sd_target *t, uint64_t element);

static void give_values(const struct counting *c, const struct run *r, const void *data)
{
	const size_t parts = parts_of(c->now.dtype), count = r->count * parts;
	double *values = c->scratch;

	sd_statistics_values(&c->now.kind, data, count, values);
	for (uint32_t i = c->first[c->now.record]; i != SD_NO_RECORD; i = c->next[i]) {
		const struct sd_target *t = &c->m->targets[i];

		if (c->now.counted.whole) {
			c->api.values(c->api.user, t, c->now.base + r->first, values, count);
			continue;
		}
		for (size_t k = 0; k < r->count; k++)
			c->api.values(c->api.user, t, place_of(c, t, r->first + k), values + k * parts, parts);
	}
}

/* ---- windows ---- */

static void count_job(void *user, size_t number, unsigned thread)
{
	struct counting *c = user;
	struct run *first = &c->runs[number * RUNS_A_JOB], *end = first + RUNS_A_JOB;
	const unsigned char *data = (const unsigned char *)c->extent.memory;

	end = end > c->runs + c->nruns ? c->runs + c->nruns : end;
	if (data) {
		data += first->at;
	} else {
		size_t length = end[-1].at + (size_t)bytes_of(c->now.dtype, end[-1].count) - first->at;
		struct sd_extent extent = {
			.length = length, .fd = c->extent.fd, .offset = c->extent.offset + (off_t)first->at};
		unsigned char *buffer = c->buffers + (size_t)thread * RUNS_A_JOB * RUN_BYTES;

		data = buffer;
		if (c->errors[thread].result != SD_OK ||
		    sd_extent_read(&extent, buffer, length, &c->errors[thread]) != SD_OK)
			return;
	}
	for (struct run *r = first; r < end; r++)
		count_run(&c->now, data + (r->at - first->at), c->scratch + (size_t)thread * SD_STATISTICS_RUN, r);
}

/* Counts the runs, whose data is the extent's. */
static enum sd_result count_window(struct counting *c, struct sd_error *err)
{
	for (unsigned i = 0; i < c->threads; i++)
		c->errors[i].result = SD_OK;
	sd_pool_run(c->pool, (c->nruns + RUNS_A_JOB - 1) / RUNS_A_JOB, count_job, c);
	for (unsigned i = 0; i < c->threads; i++)
		if (c->errors[i].result != SD_OK) {
			*err = c->errors[i];
			return err->result;
		}
	for (size_t i = 0; i < c->nruns; i++)
		join_run(c, &c->runs[i]);
	return SD_OK;
}

/* As many whole runs as a window has and the extent; returns their bytes. */
static size_t plan_window(struct counting *c, const struct sd_extent *extent)
{
	uint64_t first = c->now.done;
	size_t bytes = 0;

	c->nruns = 0;
	while (c->nruns < window_runs(c) && first < c->now.count) {
		struct run r = next_run(&c->now, first);
		size_t length = (size_t)bytes_of(c->now.dtype, r.count);

		if (bytes + length > extent->length)
			break;
		r.at = bytes;
		c->runs[c->nruns++] = r;
		bytes += length;
		first += r.count;
	}
	return bytes;
}

/* Data of a pipe has to be read here; values are given in their order. */
static enum sd_result take_window(struct counting *c, struct sd_extent *extent, size_t bytes, struct sd_error *err)
{
	unsigned char *room = c->buffers + (size_t)c->threads * RUNS_A_JOB * RUN_BYTES;
	enum sd_result result = SD_OK;

	if (!extent->memory && (extent->offset < 0 || c->api.values)) {
		result = sd_extent_read(extent, room, bytes, err);
		c->extent = (struct sd_extent){.length = bytes, .memory = room, .fd = -1};
	} else {
		c->extent = sd_extent_take(extent, bytes);
	}
	if (result == SD_OK)
		result = count_window(c, err);
	for (size_t i = 0; i < c->nruns && c->api.values && result == SD_OK; i++)
		give_values(c, &c->runs[i], (const unsigned char *)c->extent.memory + c->runs[i].at);
	c->now.done = c->runs[c->nruns - 1].first + c->runs[c->nruns - 1].count;
	return result;
}

/* Adds to a run that is not whole yet. */
static enum sd_result take_part(struct counting *c, struct sd_extent *extent, struct sd_error *err)
{
	struct run r = next_run(&c->now, c->now.done);
	size_t whole = (size_t)bytes_of(c->now.dtype, r.count), length = whole - c->now.kept;

	length = length < extent->length ? length : (size_t)extent->length;
	if (sd_extent_read(extent, c->part + c->now.kept, length, err) != SD_OK)
		return err->result;
	c->now.kept += length;
	if (c->now.kept < whole)
		return SD_OK;
	count_run(&c->now, c->part, c->scratch, &r);
	join_run(c, &r);
	if (c->api.values)
		give_values(c, &r, c->part);
	c->now.done += r.count;
	c->now.kept = 0;
	return SD_OK;
}

/* ---- records ---- */

/* Whether "experts" is a part of the name, without a number behind it. */
static bool names_experts(const char *name)
{
	static const char word[] = "experts";
	size_t stack;
	uint32_t number;

	if (sd_stack_number(name, word, strlen(word), &stack, &number))
		return false;
	for (const char *at = name; (at = strstr(at, word)); at += strlen(word)) {
		char behind = at[strlen(word)];

		if ((at == name || at[-1] == '.') && (behind == '.' || behind == '\0'))
			return true;
	}
	return false;
}

bool sd_is_stack_of_experts(const struct sd_manifest *m, const struct sd_target *t)
{
	uint32_t expert = sd_manifest_label_bit(m, SD_LABEL_EXPERT);

	return t->rank >= 3 && t->shape[0] > 0 && t->shape[0] <= EXPERTS_MOST &&
	       ((t->labels & expert) || names_experts(t->name));
}

/* Elements behind each index of dimension 0. */
static uint64_t inner_of(const struct sd_target *t)
{
	uint64_t inner;

	return t->rank && sd_shape_count(t->shape + 1, t->rank - 1, &inner) && inner ? inner : 1;
}

/* The target of a record that says what its rows are: the tensor is the record, or some of its dimension 0 is. *base:
 * the element of the tensor that is its first one. */
static const struct sd_target *target_of_rows(const struct counting *c, uint32_t record, uint64_t count, uint64_t *base)
{
	for (uint32_t i = c->first[record]; i != SD_NO_RECORD; i = c->next[i]) {
		const struct sd_target *t = &c->m->targets[i];
		struct sd_move move, room;

		move = sd_move_load(sd_target_move(c->m, t, &room));
		if (move.from || sd_move_count(&move) != count || move.rank > 1 ||
		    (move.rank && (move.dim[0].from != 1 || move.dim[0].to != 1)))
			continue;
		*base = move.to;
		if (*base % inner_of(t) == 0 && count % inner_of(t) == 0)
			return t;
	}
	return NULL;
}

/* Which rows and experts are in a record, whose tensor is known. */
static bool open_rows(struct counting *c, const struct sd_target *t)
{
	struct current *now = &c->now;
	uint64_t inner = inner_of(t);

	now->counted.name = t->name;
	now->counted.shape = t->shape;
	now->counted.rank = t->rank;
	if (t->rank >= 2 && t->shape[t->rank - 1] >= SD_ROW_LEAST && now->counted.floats) {
		now->row = t->shape[t->rank - 1];
		now->counted.rows = now->count / now->row;
	}
	if (!sd_is_stack_of_experts(c->m, t) || inner * sd_dtype_bits(now->dtype) % 8)
		return true;
	now->unit = inner;
	now->counted.nexperts = now->count / inner;
	now->counted.expert = calloc((size_t)now->counted.nexperts, sizeof(*now->counted.expert));
	return now->counted.expert;
}

static bool open_record(struct counting *c, uint32_t record)
{
	const struct sd_record *r = &c->m->records[record];
	const struct sd_target *t;
	struct current *now = &c->now;

	*now = (struct current){.record = record, .dtype = r->dtype};
	if (!sd_shape_count(r->shape, r->rank, &now->count) || !now->count)
		return now->count == 0;
	now->unit = now->count;
	sd_statistics_kind_of(r->dtype, &now->kind);
	now->counted = (struct sd_counted){.dtype = r->dtype, .floats = sd_dtype_is_float(r->dtype)};
	t = target_of_rows(c, record, now->count, &now->base);
	now->counted.whole = t;
	return !t || open_rows(c, t);
}

/* The element of the tensor that an element of a record becomes. */
static uint64_t place_of(const struct counting *c, const struct sd_target *t, uint64_t element)
{
	const struct sd_record *r = &c->m->records[t->record];
	struct sd_move move, room;
	struct sd_box box;
	uint64_t place = 0, stride = 1;

	move = sd_move_load(sd_target_move(c->m, t, &room));
	if (!sd_box_of(&move, r->shape, r->rank, t->shape, t->rank, &box))
		return element;
	for (uint32_t k = t->rank; k-- > 0;) {
		uint64_t at = box.to[k], inner = 1;

		for (uint32_t d = r->rank; d-- > 0;) {
			if (box.dim[d] == k)
				at += element / inner % r->shape[d] - box.from[d];
			inner *= r->shape[d];
		}
		place += at * stride;
		stride *= t->shape[k];
	}
	return place;
}

/* A tensor that others fill too: what is known of it without its order. */
static void join_part(const struct counting *c, const struct sd_target *t, struct sd_counted *into)
{
	struct sd_statistics s = c->now.counted.all;

	s.first_nan = s.nan ? place_of(c, t, s.first_nan) : 0;
	s.first_inf = s.inf ? place_of(c, t, s.first_inf) : 0;
	if (into->all.nan && s.nan && s.first_nan < into->all.first_nan)
		into->all.first_nan = s.first_nan;
	if (into->all.inf && s.inf && s.first_inf < into->all.first_inf)
		into->all.first_inf = s.first_inf;
	sd_statistics_join(&into->all, &s, 0);
}

/* The tensor of a target; NULL when memory is out. The manifest may go before the sink does: names and shapes stay. */
static struct sd_counted *tensor_of(struct counting *c, const struct sd_target *t)
{
	uint32_t number = sd_names_find(&c->names, t->name);
	const char *name;
	uint64_t *shape;

	if (number != SD_NO_NAME)
		return &c->api.tensors[number];
	name = sd_arena_text(&c->arena, t->name, strlen(t->name));
	shape = sd_arena_array(&c->arena, t->rank + 1, sizeof(*shape));
	if (!name || !shape || sd_names_add(&c->names, name, (uint32_t)c->api.ntensors) == SD_NO_NAME ||
	    !sd_array_grow(&c->api.tensors, c->api.ntensors, &c->room, sizeof(*c->api.tensors)))
		return NULL;
	if (t->rank)
		memcpy(shape, t->shape, t->rank * sizeof(*shape));
	c->api.tensors[c->api.ntensors] = (struct sd_counted){.name = name,
							      .shape = shape,
							      .rank = t->rank,
							      .dtype = t->dtype,
							      .stored = t->dtype,
							      .whole = true,
							      .floats = sd_dtype_is_float(t->dtype)};
	return &c->api.tensors[c->api.ntensors++];
}

/* Experts are added up in their order, whichever came first. */
static bool give_experts(const struct counting *c, struct sd_counted *into)
{
	const struct sd_counted *from = &c->now.counted;

	if (!into->expert)
		into->expert = calloc((size_t)into->shape[0], sizeof(*into->expert));
	if (!into->expert)
		return false;
	into->nexperts = into->shape[0];
	memcpy(into->expert + c->now.base / c->now.unit, from->expert, (size_t)from->nexperts * sizeof(*into->expert));
	into->all = (struct sd_statistics){0};
	for (uint64_t i = 0; i < into->nexperts; i++)
		sd_statistics_join(&into->all, &into->expert[i], 0);
	return true;
}

/* Gives what was counted to a tensor, of which it may be a part. */
static bool give(struct counting *c, const struct sd_target *t, struct sd_counted *into)
{
	const struct sd_counted *from = &c->now.counted;
	uint64_t row = c->now.row ? c->now.row : 1, first = from->first_dead + c->now.base / row;

	if (!from->whole || !sd_shape_equal(from->shape, from->rank, t->shape, t->rank)) {
		into->whole = false;
		join_part(c, t, into);
		return true;
	}
	if (from->dead && (!into->dead || first < into->first_dead))
		into->first_dead = first;
	into->rows += from->rows;
	into->dead += from->dead;
	if (from->nexperts)
		return give_experts(c, into);
	sd_statistics_join(&into->all, &from->all, 0);
	return true;
}

/* Whether all of a tensor is counted. */
bool sd_counted_is_complete(const struct sd_counted *t)
{
	uint64_t elements;

	return sd_shape_count(t->shape, t->rank, &elements) &&
	       t->all.finite + t->all.nan + t->all.inf == elements * parts_of(t->dtype);
}

static enum sd_result close_record(struct counting *c, struct sd_error *err)
{
	struct sd_counted *now = &c->now.counted;
	enum sd_result result = SD_OK;

	if (c->now.record == SD_NO_RECORD)
		return SD_OK;
	for (uint32_t i = c->first[c->now.record]; i != SD_NO_RECORD && result == SD_OK; i = c->next[i]) {
		struct sd_counted *t = tensor_of(c, &c->m->targets[i]);

		if (!t || !give(c, &c->m->targets[i], t))
			result = sd_fail_memory(err);
		else if (c->api.told && sd_counted_is_complete(t))
			result = c->api.told(c->api.user, t, err);
	}
	free(now->expert);
	c->now = (struct current){.record = SD_NO_RECORD};
	return result;
}

/* ---- the sink ---- */

static enum sd_result begin(struct sd_sink *sink, const struct sd_manifest *manifest, struct sd_error *err)
{
	struct counting *c = (struct counting *)sink;

	c->m = manifest;
	c->first = malloc((manifest->nrecords + 1) * sizeof(*c->first));
	c->next = malloc((manifest->ntargets + 1) * sizeof(*c->next));
	if (!c->first || !c->next)
		return sd_fail_memory(err);
	memset(c->first, 0xff, manifest->nrecords * sizeof(*c->first));
	for (size_t i = manifest->ntargets; i-- > 0;) {
		c->next[i] = c->first[manifest->targets[i].record];
		c->first[manifest->targets[i].record] = (uint32_t)i;
	}
	return SD_OK;
}

static enum sd_result go_to(struct counting *c, uint32_t record, struct sd_error *err)
{
	if (c->now.record == record)
		return SD_OK;
	if (close_record(c, err) != SD_OK)
		return err->result;
	return open_record(c, record) ? SD_OK : sd_fail_memory(err);
}

static enum sd_result data(struct sd_sink *sink, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct counting *c = (struct counting *)sink;
	enum sd_result result = go_to(c, record, err);

	while (result == SD_OK && extent->length) {
		size_t bytes = c->now.kept ? 0 : plan_window(c, extent);

		result = bytes ? take_window(c, extent, bytes, err) : take_part(c, extent, err);
	}
	return result;
}

/* Tensors without elements have no data, and come last. */
static enum sd_result end(struct sd_sink *sink, struct sd_error *err)
{
	struct counting *c = (struct counting *)sink;
	enum sd_result result = close_record(c, err);

	for (size_t i = 0; i < c->m->ntargets && result == SD_OK; i++) {
		const struct sd_target *t = &c->m->targets[i];
		size_t n = c->api.ntensors;
		struct sd_counted *counted;

		if (c->m->records[t->record].state != SD_HERE || !sd_shape_is_empty(t->shape, t->rank))
			continue;
		counted = tensor_of(c, t);
		if (!counted)
			result = sd_fail_memory(err);
		else if (n < c->api.ntensors && c->api.told)
			result = c->api.told(c->api.user, counted, err);
	}
	return result;
}

static void give_up(struct sd_sink *sink, struct sd_error *err)
{
	(void)sink;
	(void)err;
}

static void close_counting(struct sd_sink *sink)
{
	struct counting *c = (struct counting *)sink;

	free(c->now.counted.expert);
	for (size_t i = 0; i < c->api.ntensors; i++)
		free(c->api.tensors[i].expert);
	free(c->api.tensors);
	sd_names_free(&c->names);
	sd_arena_free(&c->arena);
	sd_pool_free(c->pool);
	free(c->first);
	free(c->next);
	free(c->buffers);
	free(c->scratch);
	free(c->runs);
	free(c->errors);
	free(c);
}

struct sd_counting *sd_counting_new(unsigned threads)
{
	static const struct sd_sink_ops ops = {
		.begin = begin, .data = data, .end = end, .abort = give_up, .close = close_counting};
	struct counting *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->api.sink = (struct sd_sink){.ops = &ops, .checks = true};
	c->threads = threads;
	c->now.record = SD_NO_RECORD;
	c->buffers = malloc((size_t)threads * RUNS_A_JOB * RUN_BYTES + window_runs(c) * RUN_BYTES);
	c->scratch = malloc((size_t)threads * SD_STATISTICS_RUN * sizeof(*c->scratch));
	c->runs = malloc(window_runs(c) * sizeof(*c->runs));
	c->errors = calloc(threads, sizeof(*c->errors));
	c->pool = sd_pool_new(threads);
	if (c->buffers && c->scratch && c->runs && c->errors && c->pool)
		return &c->api;
	close_counting(&c->api.sink);
	return NULL;
}
