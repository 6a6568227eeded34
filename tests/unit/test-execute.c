/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out steps: whatever is pending, the tensors that come out are those that the targets say, element by
 * element. */
#include "move/compose.h"
#include "filters/execute.h"
#include "filters/swap_dims.h"
#include "move/convert.h"
#include "filters/tiling.h"
#include "flow/checksum.h"
#include "exact.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
#define CASES 200 /* each takes fifty times as long */
#else
#define CASES 3000
#endif
#define MOST 128 /* records, tensors */

static uint64_t state;

static uint64_t any(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % below;
}

static void seeded(uint64_t seed)
{
	state = UINT64_C(0x9e3779b97f4a7c15) * (seed + 1);
	for (int i = 0; i < 8; i++)
		any(2);
}

/*
 * A device that takes one element after the other; values are small whole numbers where there is a cast. It does
 * nothing before somebody waits, and then what was begun last comes first.
 */

#define AHEAD 5

struct plain_device {
	struct sd_device device;
	bool fails, starves, breaks; /* breaks: while somebody waits */
	size_t jobs, done, most;     /* most: at one time */
	struct sd_job job[AHEAD];
};

static double value_at(const unsigned char *p, uint8_t dtype)
{
	uint16_t half;
	uint32_t bits;
	float f;
	double d;

	switch (dtype) {
	case SD_F64:
		memcpy(&d, p, 8);
		return d;
	case SD_F32:
		memcpy(&f, p, 4);
		return (double)f;
	default:
		cr_assert_eq(dtype, SD_BF16);
		memcpy(&half, p, 2);
		bits = (uint32_t)half << 16;
		memcpy(&f, &bits, 4);
		return (double)f;
	}
}

static void set_value(unsigned char *p, uint8_t dtype, double value)
{
	float f = (float)value;
	uint32_t bits;
	uint16_t half;

	switch (dtype) {
	case SD_F64:
		memcpy(p, &value, 8);
		break;
	case SD_F32:
		memcpy(p, &f, 4);
		break;
	default:
		cr_assert_eq(dtype, SD_BF16);
		memcpy(&bits, &f, 4);
		half = (uint16_t)(bits >> 16);
		memcpy(p, &half, 2);
	}
}

/* Element i of an array, which may be of codes or of bytes that are exponents. */
static double value_in(const void *array, uint64_t i, uint8_t element)
{
	const unsigned char *bytes = array;
	unsigned code = i % 2 == 0 ? bytes[i / 2] % 16 : bytes[i / 2] / 16;

	if (element == SD_INT4)
		return (int)code - 8;
	if (sd_is_code(element))
		return exact_e2m1(code, element & SD_E2M1_PLUS ? 0.0 : -0.0) * (element & SD_E2M1_TWICE ? 2 : 1);
	if (element >= SD_E8M0)
		return ldexp(1, bytes[i] - (element & SD_E8M0_HALF ? 128 : 127));
	return value_at(bytes + i * sd_dtype_size(element), element);
}

static void convert(const void *from, uint64_t i, uint8_t from_dtype, unsigned char *to, uint8_t to_dtype)
{
	if (from_dtype == to_dtype)
		memcpy(to, (const char *)from + i * sd_dtype_size(to_dtype), sd_dtype_size(to_dtype));
	else
		set_value(to, to_dtype, value_in(from, i, from_dtype));
}

/* Calls back for each element of a move. */
static void walk(const struct sd_move *m, void (*element)(void *arg, uint64_t from, uint64_t to, const uint64_t *index),
		 void *arg)
{
	uint64_t index[SD_MOVE_RANK] = {0};

	for (uint64_t n = sd_move_count(m); n > 0; n--) {
		uint64_t from = m->from, to = m->to;

		for (uint32_t k = 0; k < m->rank; k++) {
			from += index[k] * m->dim[k].from;
			to += index[k] * m->dim[k].to;
		}
		element(arg, from, to, index);
		for (uint32_t k = m->rank; k-- > 0 && ++index[k] == m->dim[k].size;)
			index[k] = 0;
	}
}

static void run_element(void *arg, uint64_t from, uint64_t to, const uint64_t *index)
{
	const struct sd_job *job = arg;
	unsigned char *target = (unsigned char *)job->target + to * sd_dtype_size(job->target_dtype);
	uint64_t at = job->scale.from;

	cr_assert(from < job->source_count && to < job->target_count);
	if (!job->scale.data) {
		convert(job->source, from, job->source_dtype, target, job->target_dtype);
		return;
	}
	for (uint32_t k = 0; k < job->move.rank; k++)
		at += (job->scale.dim[k].begin + index[k]) / job->scale.dim[k].block * job->scale.dim[k].stride;
	set_value(target, job->target_dtype,
		  value_in(job->source, from, job->source_dtype) * value_in(job->scale.data, at, job->scale.dtype));
}

static enum sd_device_result broken(struct sd_device *device)
{
	strcpy(device->failure, "it is broken");
	return SD_DEVICE_FAILED;
}

static enum sd_device_result plain_begin(struct sd_device *device, const struct sd_job *job, uint64_t *ticket)
{
	struct plain_device *plain = (struct plain_device *)device;
	struct sd_move normal = job->move;

	sd_move_normalise(&normal);
	cr_assert(job->scale.data || memcmp(&normal, &job->move, sizeof(normal)) == 0, "not in normal form");
	if (plain->starves)
		return SD_DEVICE_NOMEM;
	if (plain->fails)
		return broken(device);
	cr_assert_lt(plain->jobs - plain->done, device->ahead, "more than it likes");
	plain->job[plain->jobs % AHEAD] = *job;
	*ticket = plain->jobs++;
	if (plain->jobs - plain->done > plain->most)
		plain->most = plain->jobs - plain->done;
	return SD_DEVICE_OK;
}

static enum sd_device_result plain_wait(struct sd_device *device, uint64_t ticket)
{
	struct plain_device *plain = (struct plain_device *)device;

	cr_assert(ticket < plain->jobs);
	if (plain->breaks)
		return broken(device);
	for (size_t i = ticket + 1; i-- > plain->done;)
		walk(&plain->job[i % AHEAD].move, run_element, &plain->job[i % AHEAD]);
	if (ticket >= plain->done)
		plain->done = ticket + 1;
	return SD_DEVICE_OK;
}

static const struct sd_device_ops plain_ops = {.begin = plain_begin, .wait = plain_wait};

static struct plain_device plain_device(void)
{
	return (struct plain_device){.device = {.ops = &plain_ops, .name = "plain", .ahead = 1}};
}

/* A source that gives its data in extents of any size, which are there until it is asked for more, and a sink that
 * keeps what comes. */

enum where { IN_MEMORY, IN_FILES, ANYWHERE };

struct memory_source {
	struct sd_source source;
	unsigned char **data;
	enum where where;
	uint32_t record;
	uint64_t given;
	uint64_t cut_short; /* bytes that are missing at the end of each record */
	uint64_t torn;      /* and of each file that has U8 */
	bool changes;       /* files do when they are taken back */
	bool over;
	int file;            /* of the last extent, or -1 */
	unsigned char *copy; /* likewise */
};

static void take_back(struct memory_source *s)
{
	if (s->file >= 0 && s->changes)
		cr_assert_eq(futimens(s->file, (struct timespec[2]){{1, 0}, {1, 0}}), 0);
	if (s->file >= 0)
		close(s->file);
	s->file = -1;
	free(s->copy);
	s->copy = NULL;
}

/* Bytes to be given that nobody can have any more once they are taken back. */
static void lend(struct memory_source *s, const unsigned char *data, uint64_t length, struct sd_extent *extent)
{
	uint64_t there = length - (s->source.manifest->records[s->record].dtype == SD_U8 ? s->torn : 0);
	off_t offset = (off_t)any(9);

	*extent = (struct sd_extent){.length = length, .fd = -1, .offset = -1};
	if (length > 0 && (s->where == IN_FILES || (s->where == ANYWHERE && any(2)))) {
		extent->fd = s->file = memfd_create("data", MFD_CLOEXEC);
		extent->offset = offset;
		cr_assert_eq(pwrite(s->file, data, there, offset), (ssize_t)there);
	} else {
		extent->memory = s->copy = malloc(length + 1);
		memcpy(s->copy, data, length);
	}
}

static enum sd_result source_next(struct sd_source *source, uint32_t record, struct sd_extent *extent,
				  struct sd_error *err)
{
	struct memory_source *s = (struct memory_source *)source;
	uint64_t left;

	(void)err;
	if (record != s->record) {
		cr_assert(s->over && record > s->record, "record %u before record %u was whole", record, s->record);
		s->record = record;
		s->given = 0;
	}
	left = source->manifest->records[record].bytes - s->given;
	left -= s->cut_short < left ? s->cut_short : left;
	if (left > 1 && any(2))
		left = 1 + any(left);
	take_back(s);
	lend(s, s->data[record] + s->given, left, extent);
	s->given += left;
	s->over = left == 0;
	return SD_OK;
}

static enum sd_result source_finish(struct sd_source *source, struct sd_error *err)
{
	(void)source;
	(void)err;
	return SD_OK;
}

static uint64_t sum_of(const unsigned char *data, uint64_t length)
{
	struct sd_checksum *sum = sd_checksum_new();
	uint64_t value;

	sd_checksum_add(sum, data, length);
	value = sd_checksum_value(sum);
	sd_checksum_free(sum);
	return value;
}

static bool source_sum(const struct sd_source *source, uint32_t record, uint64_t *sum)
{
	const struct memory_source *s = (const struct memory_source *)source;
	uint64_t bytes = source->manifest->records[record].bytes;

	if (!source->sums || bytes == 0)
		return false;
	*sum = s->over && s->record == record ? sum_of(s->data[record], bytes) : 0;
	return true;
}

static const struct sd_source_ops source_ops = {.next = source_next, .finish = source_finish, .sum = source_sum};

struct memory_sink {
	struct sd_sink sink;
	bool rooms; /* it gives memory */
	unsigned given, came;
	unsigned char *room[8]; /* number n at n % 8 */
	const struct sd_manifest *manifest;
	unsigned char **data;
	uint64_t *length;
	uint32_t record;
	bool ended, aborted;
	uint32_t awaited; /* the record whose sum will be told, and 1 more */
	unsigned told;    /* sums */
};

static enum sd_result sink_begin(struct sd_sink *sink, const struct sd_manifest *manifest, struct sd_error *err)
{
	struct memory_sink *s = (struct memory_sink *)sink;

	(void)err;
	s->manifest = manifest;
	s->data = calloc(manifest->nrecords + 1, sizeof(*s->data));
	s->length = calloc(manifest->nrecords + 1, sizeof(*s->length));
	for (size_t i = 0; i < manifest->nrecords; i++)
		s->data[i] = calloc(1, manifest->records[i].bytes + 1);
	return SD_OK;
}

static enum sd_result sink_data(struct sd_sink *sink, uint32_t record, struct sd_extent *extent, struct sd_error *err)
{
	struct memory_sink *s = (struct memory_sink *)sink;
	uint64_t length = extent->length;
	bool oldest;

	cr_assert(record >= s->record && record < s->manifest->nrecords, "record %u after %u", record, s->record);
	cr_assert_eq(s->manifest->records[record].state, SD_HERE);
	s->record = record;
	cr_assert(s->length[record] + length <= s->manifest->records[record].bytes);
	for (unsigned i = s->came; i < s->given; i++)
		cr_assert(i == s->came || extent->memory != s->room[i % 8], "memory came back before its turn");
	oldest = s->came < s->given && extent->memory == s->room[s->came % 8];
	cr_assert(s->awaited == 0 || s->awaited == record + 1, "the sum of record %u has not come", s->awaited - 1);
	if (sd_extent_read(extent, s->data[record] + s->length[record], length, err) != SD_OK)
		return err->result;
	if (oldest)
		free(s->room[s->came++ % 8]);
	s->length[record] += length;
	return SD_OK;
}

static void sink_await_sum(struct sd_sink *sink, uint32_t record)
{
	struct memory_sink *s = (struct memory_sink *)sink;

	cr_assert(sink->sums && s->awaited == 0 && s->length[record] == 0);
	s->awaited = record + 1;
}

static enum sd_result sink_sum(struct sd_sink *sink, uint32_t record, uint64_t sum, struct sd_error *err)
{
	struct memory_sink *s = (struct memory_sink *)sink;

	(void)err;
	cr_assert_eq(s->awaited, record + 1);
	cr_assert_eq(s->length[record], s->manifest->records[record].bytes);
	cr_assert_eq(sum, sum_of(s->data[record], s->length[record]));
	s->awaited = 0;
	s->told++;
	return SD_OK;
}

static enum sd_result sink_room(struct sd_sink *sink, uint64_t length, void **memory, bool *later, struct sd_error *err)
{
	struct memory_sink *s = (struct memory_sink *)sink;

	(void)err;
	*memory = NULL;
	*later = s->rooms && s->given > s->came && (s->given == s->came + 8 || any(4) == 0);
	if (!s->rooms || *later || any(3) == 0)
		return SD_OK;
	*memory = s->room[s->given++ % 8] = malloc(length);
	return SD_OK;
}

static void sink_region(struct sd_sink *sink, void **begin, size_t *length)
{
	(void)sink;
	*begin = NULL;
	*length = 0;
}

static enum sd_result sink_end(struct sd_sink *sink, struct sd_error *err)
{
	(void)err;
	((struct memory_sink *)sink)->ended = true;
	return SD_OK;
}

static void sink_abort(struct sd_sink *sink, struct sd_error *err)
{
	(void)err;
	((struct memory_sink *)sink)->aborted = true;
}

static const struct sd_sink_ops sink_ops = {.begin = sink_begin,
					    .data = sink_data,
					    .end = sink_end,
					    .abort = sink_abort,
					    .room = sink_room,
					    .region = sink_region,
					    .await_sum = sink_await_sum,
					    .sum = sink_sum};

static void sink_free(struct memory_sink *s)
{
	for (size_t i = 0; s->manifest && i < s->manifest->nrecords; i++)
		free(s->data[i]);
	while (s->came < s->given)
		free(s->room[s->came++ % 8]);
	free(s->data);
	free(s->length);
}

/* Tensors, put together from a manifest and its records' data by hand. */

struct tensor {
	const char *name;
	const struct sd_target *target;
	unsigned char *data, *times;
	uint64_t count;
};

struct tensors {
	struct tensor at[MOST];
	size_t count;
};

struct writing {
	const struct sd_manifest *m;
	const struct sd_target *target;
	unsigned char **data;
	struct tensor *tensor;
};

static double scale_of(const struct writing *w, const struct sd_step *step, uint64_t element)
{
	const struct sd_record *r = &w->m->records[w->target->record];
	uint8_t dtype = w->m->records[step->operand].dtype;
	uint64_t at = 0, size = 0;

	for (uint32_t k = r->rank; k-- > 0; element /= size) {
		size = r->shape[k] * (k + 1 == r->rank ? sd_target_codes(w->m, w->target) : 1);
		if (k < step->rank)
			at += element % size / step->blocks[k].block * step->blocks[k].stride;
	}
	return value_in(w->data[step->operand], at, dtype == SD_U8 ? SD_E8M0 : dtype);
}

static void write_element(void *arg, uint64_t from, uint64_t to, const uint64_t *index)
{
	struct writing *w = arg;
	static const uint8_t codes[] = {0, SD_E2M1, SD_E2M1 + SD_E2M1_PLUS, SD_INT4};
	uint8_t dtype = w->m->records[w->target->record].dtype;
	bool unpacks = w->target->nsteps && w->target->steps[0].kind == SD_STEP_UNPACK;
	unsigned char value[8];
	float constant;

	(void)index;
	if (!unpacks)
		memcpy(value, w->data[w->target->record] + from * sd_dtype_size(dtype), sd_dtype_size(dtype));
	for (uint32_t k = 0; k < w->target->nsteps; k++) {
		const struct sd_step *step = &w->target->steps[k];
		uint8_t after = (uint8_t)step->dtype;

		if (step->kind == SD_STEP_BLOCK_SCALE)
			set_value(value, after, value_at(value, dtype) * scale_of(w, step, from));
		else if (step->kind == SD_STEP_UNPACK)
			set_value(value, after, value_in(w->data[w->target->record], from, codes[step->param]));
		else if (step->kind == SD_STEP_FILL)
			memcpy(&constant, &step->param, 4), set_value(value, after, (double)constant);
		else
			convert(value, 0, dtype, value, after);
		dtype = after;
	}
	memcpy(w->tensor->data + to * sd_dtype_size(dtype), value, sd_dtype_size(dtype));
	w->tensor->times[to]++;
}

static struct tensor *tensor_of(struct tensors *all, const struct sd_target *t)
{
	struct tensor *x = all->at;

	for (size_t i = 0; i < all->count; i++, x++)
		if (strcmp(x->name, t->name) == 0) {
			cr_assert(sd_shape_equal(x->target->shape, x->target->rank, t->shape, t->rank));
			cr_assert_eq(x->target->dtype, t->dtype);
			return x;
		}
	cr_assert_lt(all->count++, MOST);
	x->name = t->name;
	x->target = t;
	cr_assert(sd_shape_count(t->shape, t->rank, &x->count));
	x->data = calloc(x->count + 1, sd_dtype_size(t->dtype));
	x->times = calloc(x->count + 1, 1);
	return x;
}

/* Whether a record is there, and all that its targets' steps need. */
static bool is_here(const struct sd_manifest *m, uint32_t record)
{
	bool here = m->records[record].state == SD_HERE;

	for (size_t i = 0; i < m->ntargets; i++)
		for (uint32_t k = 0; k < m->targets[i].nsteps && m->targets[i].record == record; k++)
			if (m->targets[i].steps[k].operand != SD_NO_RECORD)
				here = here && m->records[m->targets[i].steps[k].operand].state == SD_HERE;
	return here;
}

static struct tensors assemble(const struct sd_manifest *m, unsigned char **data)
{
	struct tensors all = {0};

	for (size_t i = 0; i < m->ntargets; i++) {
		const struct sd_target *t = &m->targets[i];
		struct writing w = {m, t, data, tensor_of(&all, t)};
		struct sd_move room;

		if (is_here(m, t->record))
			walk(sd_target_move(m, t, &room), write_element, &w);
	}
	return all;
}

static void free_tensors(struct tensors *all)
{
	for (size_t i = 0; i < all->count; i++) {
		free(all->at[i].data);
		free(all->at[i].times);
	}
}

/* A manifest with data for its records. */

struct input {
	struct sd_manifest *m;
	unsigned char *data[MOST];
};

static void input_free(struct input *in)
{
	for (size_t i = 0; i < in->m->nrecords; i++)
		free(in->data[i]);
	sd_manifest_free(in->m);
}

static uint32_t add_record(struct input *in, uint8_t dtype, const uint64_t *shape, uint32_t rank)
{
	struct sd_record r = {.rank = rank, .dtype = dtype};
	uint64_t count;

	r.key = sd_arena_printf(&in->m->arena, "record%zu", in->m->nrecords);
	r.shape = sd_arena_copy(&in->m->arena, shape, rank * sizeof(*shape));
	cr_assert(sd_shape_count(shape, rank, &count) && sd_dtype_bytes(dtype, count, &r.bytes));
	in->data[in->m->nrecords] = malloc(r.bytes + 1);
	for (uint64_t i = 0; i < count; i++) {
		unsigned char *p = in->data[in->m->nrecords] + i * sd_dtype_size(dtype);

		if (dtype == SD_F32 || dtype == SD_F64 || dtype == SD_BF16)
			set_value(p, dtype, (double)any(200) - 100);
		else
			for (unsigned k = 0; k < sd_dtype_size(dtype); k++)
				p[k] = (unsigned char)any(256);
	}
	cr_assert(sd_manifest_add_record(in->m, &r));
	return (uint32_t)(in->m->nrecords - 1);
}

static struct sd_target *add_target(struct input *in, const char *name, const uint64_t *shape, uint32_t rank,
				    uint32_t record, const struct sd_move *move)
{
	struct sd_target t = {.name = name, .rank = rank, .record = record, .dtype = in->m->records[record].dtype};

	t.shape = sd_arena_copy(&in->m->arena, shape, rank * sizeof(*shape));
	if (move)
		t.move = sd_arena_copy(&in->m->arena, move, sizeof(*move));
	cr_assert(sd_manifest_add_target(in->m, &t));
	return &in->m->targets[in->m->ntargets - 1];
}

static void add_casts(struct input *in, struct sd_target *t, const uint8_t *dtypes, uint32_t count)
{
	struct sd_step *steps = sd_arena_array(&in->m->arena, count, sizeof(*steps));

	for (uint32_t k = 0; k < count; k++)
		steps[k] = (struct sd_step){.kind = SD_STEP_CAST, .dtype = dtypes[k], .operand = SD_NO_RECORD};
	t->steps = steps;
	t->nsteps = count;
	t->dtype = dtypes[count - 1];
}

static struct sd_move permuted(const uint64_t *shape, uint32_t rank, const uint32_t *order)
{
	struct sd_move m;

	cr_assert(sd_move_permute(&m, shape, rank, order));
	return m;
}

static struct sd_move then(const struct sd_move *a, const struct sd_move *b)
{
	struct sd_moves list = {0};
	struct sd_move m;
	struct sd_error err;

	cr_assert_eq(sd_move_compose(a, b, &list, &err), SD_OK);
	cr_assert_eq(list.count, 1);
	m = list.at[0];
	free(list.at);
	return m;
}

static struct sd_move slice3(const uint64_t *shape, uint64_t b0, uint64_t b1, uint64_t b2, uint64_t n0, uint64_t n1,
			     uint64_t n2)
{
	struct sd_move m;

	cr_assert(sd_move_slice(&m, shape, 3, (uint64_t[]){b0, b1, b2}, (uint64_t[]){n0, n1, n2}));
	return m;
}

static struct sd_move place3(const uint64_t *shape, uint64_t b0, uint64_t b1, uint64_t b2, uint64_t n0, uint64_t n1,
			     uint64_t n2)
{
	struct sd_move m = slice3(shape, b0, b1, b2, n0, n1, n2);

	return sd_move_inverse(&m);
}

static struct memory_source source_of(const struct input *in, enum where where)
{
	return (struct memory_source){.source = {&source_ops, in->m},
				      .data = (unsigned char **)(uintptr_t)in->data,
				      .where = where,
				      .over = true,
				      .file = -1};
}

/* Runs it all, with so many units on their way at a time, and compares the tensors that come out with those that the
 * targets of in say; the number of outgoing records. */
static size_t carried_ahead(struct input *in, uint64_t memory, struct plain_device *device, unsigned ahead, bool rooms,
			    enum where where)
{
	struct memory_source source = source_of(in, where);
	struct memory_sink sink = {.sink = {&sink_ops}, .rooms = rooms};
	struct tensors expected, got;
	struct sd_execution execution;
	struct sd_error err = {0};
	size_t records;

	source.source.sums = any(2);
	cr_assert_eq(sd_manifest_check(in->m, &err), SD_OK, "%s", err.text);
	if (sd_execution_plan(in->m, memory, &execution, &err) != SD_OK) {
		cr_assert_eq(err.result, SD_INPUT);
		cr_assert(strstr(err.text, "--memory"), "%s", err.text);
		sd_execution_free(&execution);
		return 0;
	}
	cr_assert(execution.room + execution.held <= memory, "%" PRIu64 " + %" PRIu64 " bytes of %" PRIu64,
		  execution.room, execution.held, memory);
	*device = plain_device();
	device->device.ahead = ahead;
	execution.device = &device->device;
	cr_assert_eq(sd_manifest_check(execution.plan.manifest, &err), SD_OK, "%s", err.text);
	cr_assert_eq(sd_drive(&source.source, &execution.plan, &execution.worker, &sink.sink, &err), SD_OK, "%s",
		     err.text);
	take_back(&source);
	cr_assert(sink.ended && !sink.aborted && sink.awaited == 0);
	cr_assert_eq(sink.came, sink.given);
	cr_assert_eq(execution.holding + execution.waiting, 0);
	cr_assert_leq(execution.size + execution.held, memory + 2 * SD_BUFFER_ALIGN);
	for (size_t i = 0; i < execution.plan.manifest->ntargets; i++)
		cr_assert(!sd_target_is_pending(&execution.plan.manifest->targets[i]));
	for (size_t i = 0; i < execution.plan.manifest->nrecords; i++)
		cr_assert_eq(sink.length[i], execution.plan.manifest->records[i].state == SD_HERE
						     ? execution.plan.manifest->records[i].bytes
						     : 0);
	expected = assemble(in->m, in->data);
	got = assemble(execution.plan.manifest, sink.data);
	cr_assert_eq(got.count, expected.count);
	for (size_t i = 0; i < got.count; i++) {
		const struct tensor *x = &expected.at[i], *y = &got.at[i];

		cr_assert_str_eq(x->name, y->name);
		cr_assert_eq(x->count, y->count);
		cr_assert_eq(memcmp(x->times, y->times, x->count), 0, "%s: other elements", x->name);
		cr_assert_eq(memcmp(x->data, y->data, x->count * sd_dtype_size(x->target->dtype)), 0,
			     "%s: other values", x->name);
	}
	records = execution.plan.manifest->nrecords;
	free_tensors(&expected);
	free_tensors(&got);
	sink_free(&sink);
	sd_execution_free(&execution);
	return records;
}

/* The same on any way. */
static size_t carried(struct input *in, uint64_t memory, struct plain_device *device)
{
	static const unsigned aheads[] = {1, 2, AHEAD};
	size_t records = 0;

	for (unsigned i = 0; i < 6; i++) {
		size_t n = carried_ahead(in, memory, device, aheads[i % 3], i >= 3, ANYWHERE);

		cr_assert(i == 0 || n == records);
		records = n;
	}
	return records;
}

static struct input input(void)
{
	struct input in = {.m = sd_manifest_new()};

	cr_assert(in.m);
	return in;
}

static uint8_t any_dtype(void)
{
	static const uint8_t dtypes[] = {SD_BF16, SD_F32, SD_F64, SD_U8};

	return dtypes[any(4)];
}

static void any_cast(struct input *in, struct sd_target *t)
{
	static const uint8_t floats[] = {SD_BF16, SD_F32, SD_F64};
	uint8_t dtypes[3];
	uint32_t n = 1 + (uint32_t)any(3);

	if (t->dtype == SD_U8 || any(2))
		return;
	for (uint32_t k = 0; k < n; k++)
		dtypes[k] = floats[any(3)];
	add_casts(in, t, dtypes, n);
}

/* Scales for a record, one for each block of rows and columns. Small powers of two, so that no product is rounded. */
static void fill_scales(struct input *in, uint32_t record)
{
	const struct sd_record *r = &in->m->records[record];
	unsigned size = sd_dtype_size(r->dtype);

	for (uint64_t i = 0; i < r->bytes / size; i++)
		set_value(in->data[record] + i * size, r->dtype, any(2) ? 2 : 0.5);
}

/* The last target gets a block scale, before anything else. */
static void add_scale(struct input *in, uint32_t operand, uint64_t rows, uint64_t columns, uint64_t stride,
		      uint8_t dtype)
{
	struct sd_target *t = &in->m->targets[in->m->ntargets - 1];
	const struct sd_record *r = &in->m->records[t->record];
	struct sd_step *steps = sd_arena_array(&in->m->arena, t->nsteps + 1, sizeof(*steps));
	struct sd_block *blocks = sd_arena_array(&in->m->arena, r->rank, sizeof(*blocks));

	for (uint32_t k = 0; k < r->rank; k++)
		blocks[k] = (struct sd_block){1, 0};
	blocks[r->rank - 2] = (struct sd_block){rows, stride};
	blocks[r->rank - 1] = (struct sd_block){columns, 1};
	steps[0] = (struct sd_step){SD_STEP_BLOCK_SCALE, dtype, operand, 0, r->rank, blocks};
	t->steps = steps;
	t->nsteps = 1;
	t->dtype = dtype;
}

/* A weight with block scales, which come before it or after it; as it is, turned, in two halves, or all of these. */
static void add_scaled(struct input *in, const char *const *names)
{
	const uint64_t n = 1 + any(3), rows = 1 + any(9), columns = 1 + any(9), br = 1 + any(4), bc = 1 + any(4);
	const uint64_t shape[] = {n, rows, columns}, turned[] = {n, columns, rows};
	const uint64_t scales[] = {(rows - 1) / br + 1, (columns - 1) / bc + 1};
	struct sd_move turn = permuted(shape, 3, (uint32_t[]){0, 2, 1});
	uint8_t dtype = any(2) ? SD_BF16 : SD_F32, to = any(2) ? SD_F32 : SD_BF16, by = any(2) ? SD_F32 : SD_BF16;
	bool before = any(2);
	uint32_t operand, record;

	if (!before)
		record = add_record(in, dtype, shape, 3);
	operand = add_record(in, by, scales, 2);
	if (before)
		record = add_record(in, dtype, shape, 3);
	fill_scales(in, operand);
	switch (any(3)) {
	case 0:
		add_target(in, names[0], turned, 3, record, &turn);
		add_scale(in, operand, br, bc, scales[1], to);
		break;
	case 1:
		add_target(in, names[0], shape, 3, record, NULL);
		add_scale(in, operand, br, bc, scales[1], to);
		if (any(2))
			add_target(in, names[1], turned, 3, record, &turn);
		break;
	default:
		for (uint64_t half = 0; half < 2; half++) {
			uint64_t first = half ? rows / 2 : 0, size = half ? rows - rows / 2 : rows / 2;
			const uint64_t part[] = {n, columns, size};
			struct sd_move m = slice3(turned, 0, 0, first, n, columns, size);

			if (size == 0)
				continue;
			m = then(&turn, &m);
			add_target(in, names[half], part, 3, record, &m);
			add_scale(in, operand, br, bc, scales[1], to);
		}
	}
	if (any(2))
		add_target(in, names[2], scales, 2, operand, NULL);
}

/* Experts, grouped: whole and turned, or cut into gate and up by expert or by half, or both at once. */
static void add_grouped(struct input *in, const char *const *names)
{
	const uint64_t n = 1 + any(4), h = 1 + any(9), i = 1 + any(9), shape[] = {n, 2 * i, h};
	uint32_t record = add_record(in, any_dtype(), shape, 3);
	struct sd_move turn = permuted(shape, 3, (uint32_t[]){0, 2, 1});
	const uint64_t turned[] = {n, h, 2 * i};
	size_t first = in->m->ntargets;

	if (any(2)) {
		add_target(in, names[0], turned, 3, record, &turn);
		if (any(2))
			add_target(in, names[1], shape, 3, record, NULL);
	} else {
		for (uint64_t half = 0; half < 2; half++) {
			struct sd_move part = slice3(turned, 0, 0, half * i, n, h, i);
			const uint64_t shape_of_half[] = {n, h, i};

			part = then(&turn, &part);
			add_target(in, names[half], shape_of_half, 3, record, &part);
		}
		if (any(3) == 0) {
			const uint64_t flat[] = {2 * i, n, h};
			struct sd_move other = permuted(shape, 3, (uint32_t[]){1, 0, 2});

			add_target(in, names[2], flat, 3, record, &other);
		}
	}
	for (size_t k = first; k < in->m->ntargets; k++)
		any_cast(in, &in->m->targets[k]);
}

/*
 * Experts one by one, stacked into one tensor, their halves side by side; perhaps with a scale for each, some of which
 * come before all experts and some after them.
 */
static void add_split(struct input *in, const char *name)
{
	const uint64_t n = 1 + any(3), h = 1 + any(9), i = 1 + any(9), shape[] = {i, h}, grouped[] = {n, h, 2 * i};
	const uint64_t one[] = {1};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});
	uint8_t dtype = any_dtype();
	bool swap = any(2), cast = dtype != SD_U8 && any(2), scaled = cast && any(2);
	uint64_t before = scaled ? any(2 * n + 1) : 0;
	uint32_t first = (uint32_t)in->m->nrecords;

	for (uint64_t k = 0; k < before; k++)
		fill_scales(in, add_record(in, SD_F32, one, 1));
	for (uint64_t k = 0; k < 2 * n; k++) {
		uint64_t half = (k & 1) ^ swap;
		struct sd_move put = place3(grouped, k / 2, 0, half * i, 1, h, i);
		uint32_t record = add_record(in, dtype, shape, 2);
		struct sd_target *t;

		put = then(&turn, &put);
		t = add_target(in, name, grouped, 3, record, &put);
		if (scaled)
			add_scale(in, first + (uint32_t)(k < before ? k : 2 * n + k), i, h, 0, SD_F32);
		else if (cast)
			add_casts(in, t, (uint8_t[]){SD_F32}, 1);
	}
	for (uint64_t k = before; scaled && k < 2 * n; k++)
		fill_scales(in, add_record(in, SD_F32, one, 1));
}

/*
 * Codes, two or eight in an element, unpacked; perhaps with a scale for each row and some columns; whole, turned or in
 * two parts, which may begin within an element. Perhaps a constant of as many elements as there are matrices, too.
 */
static void add_packed(struct input *in, const char *const *names)
{
	uint8_t dtype = any(3) ? any(2) ? SD_U8 : SD_I8 : SD_I32, to = any(2) ? SD_BF16 : SD_F32;
	const uint64_t n = 1 + any(3), rows = 1 + any(9), packed = 1 + any(5), block = 1 + any(6);
	const uint64_t columns = packed * (dtype == SD_I32 ? 8 : 2), shape[] = {n, rows, packed};
	const uint64_t turned[] = {n, columns, rows}, plain[] = {n, rows, columns}, groups = (columns - 1) / block + 1;
	struct sd_move turn = permuted(plain, 3, (uint32_t[]){0, 2, 1});
	uint32_t record = add_record(in, dtype, shape, 3), operand = SD_NO_RECORD;
	struct sd_step *steps = sd_arena_array(&in->m->arena, 2, sizeof(*steps));
	struct sd_block *blocks = sd_arena_array(&in->m->arena, 3, sizeof(*blocks));
	uint64_t cut = any(2) ? any(columns + 1) : 0;

	steps[0] = (struct sd_step){.kind = SD_STEP_UNPACK,
				    .dtype = any(2) ? SD_F32 : SD_BF16,
				    .operand = SD_NO_RECORD,
				    .param = 1 + (uint32_t)any(3)};
	if (any(3)) {
		const uint64_t scales[] = {n, rows, groups};

		operand = add_record(in, any(2) ? SD_U8 : SD_F32, scales, 3);
		blocks[0] = (struct sd_block){1, rows * groups};
		blocks[1] = (struct sd_block){1, groups};
		blocks[2] = (struct sd_block){block, 1};
		steps[1] = (struct sd_step){SD_STEP_BLOCK_SCALE, to, operand, 0, 3, blocks};
		if (in->m->records[operand].dtype == SD_F32)
			fill_scales(in, operand);
		else
			for (uint64_t i = 0; i < in->m->records[operand].bytes; i++)
				in->data[operand][i] = (unsigned char)(126 + any(3));
		if (steps[0].param == 1 && in->m->records[operand].dtype == SD_U8 && any(2))
			steps[1].param = SD_EXPONENT_2_128;
	} else {
		steps[1] = (struct sd_step){.kind = SD_STEP_CAST, .dtype = to, .operand = SD_NO_RECORD};
	}
	for (uint64_t half = 0; half < 2; half++) {
		uint64_t first = half ? cut : 0, size = half ? columns - cut : cut;
		const uint64_t part[] = {n, size, rows};
		struct sd_move m = slice3(turned, 0, first, 0, n, size, rows);
		struct sd_target *t;

		if (size == 0)
			continue;
		m = then(&turn, &m);
		t = size == columns && any(2) ? add_target(in, names[half], plain, 3, record, NULL)
					      : add_target(in, names[half], part, 3, record, &m);
		t->steps = steps;
		t->nsteps = 2;
		t->dtype = to;
	}
	if (any(2)) {
		struct sd_move pick = {.rank = 1, .dim = {{n, rows * packed, 1}}};
		struct sd_step *fill = sd_arena_alloc(&in->m->arena, sizeof(*fill));
		struct sd_target *t;

		sd_move_normalise(&pick);
		*fill = (struct sd_step){
			.kind = SD_STEP_FILL, .dtype = to, .operand = SD_NO_RECORD, .param = 0x3f800000};
		t = add_target(in, names[2], &n, 1, record, &pick);
		t->steps = fill;
		t->nsteps = 1;
		t->dtype = to;
	}
	if (any(4) == 0)
		add_target(in, names[3], shape, 3, record, NULL);
}

static void add_plain(struct input *in, const char *name)
{
	const uint64_t shape[] = {any(6), 1 + any(6), 1 + any(6), 1 + any(3)};
	uint32_t rank = (uint32_t)any(5), order[] = {0, 1, 2, 3}, record = add_record(in, any_dtype(), shape, rank);
	uint64_t turned[4];
	struct sd_move turn;

	for (uint32_t k = rank; k-- > 1;) {
		uint32_t other = (uint32_t)any(k + 1), o = order[k];

		order[k] = order[other];
		order[other] = o;
	}
	for (uint32_t k = 0; k < rank; k++)
		turned[k] = shape[order[k]];
	turn = permuted(shape, rank, order);
	if (any(5))
		any_cast(in, add_target(in, name, turned, rank, record, &turn));
}

Test(execution, executes_what_targets_say)
{
	static const char *const names[][4] = {
		{"a", "b", "c", "m"}, {"d", "e", "f", "n"}, {"g", "h", "i", "o"}, {"j", "k", "l", "p"}};
	struct plain_device device = plain_device();
	size_t done = 0;

	for (uint64_t seed = 0; seed < CASES; seed++) {
		struct input in = input();
		uint64_t parts;

		seeded(seed);
		parts = 1 + any(4);
		for (uint64_t k = 0; k < parts; k++) {
			switch (any(5)) {
			case 0:
				add_grouped(&in, names[k]);
				break;
			case 4:
				add_packed(&in, names[k]);
				break;
			case 3:
				add_scaled(&in, names[k]);
				break;
			case 1:
				add_split(&in, names[k][0]);
				break;
			default:
				add_plain(&in, names[k][0]);
			}
		}
		for (size_t k = 0; k < in.m->nrecords; k++)
			if (any(12) == 0)
				in.m->records[k].state = SD_ELSEWHERE;
		done += carried(&in, any(3) ? 400 + any(3000) : 1 << 20, &device) > 0;
		input_free(&in);
	}
	cr_assert_gt(done, CASES / 2);
	cr_log_info("%zu of %d were carried out", done, CASES);
}

static struct sd_execution planned(const struct input *in, uint64_t memory)
{
	struct sd_execution execution;
	struct sd_error err;

	cr_assert_eq(sd_execution_plan(in->m, memory, &execution, &err), SD_OK, "%s", err.text);
	return execution;
}

/* Grouped experts are turned matrix by matrix into one record. */
Test(execution, turns_experts_in_one_record)
{
	const uint64_t shape[] = {6, 10, 8}, turned[] = {6, 8, 10};
	struct sd_move turn = permuted(shape, 3, (uint32_t[]){0, 2, 1});
	struct plain_device device = plain_device();
	struct input in = input();

	seeded(1);
	add_target(&in, "t", turned, 3, add_record(&in, SD_BF16, shape, 3), &turn);
	cr_assert_eq(carried(&in, 80 * 4 * 2 + 64 * 6, &device), 1);
	cr_assert_eq(device.jobs, 6, "a matrix at a time, though there is room for two, not %zu jobs", device.jobs);
	input_free(&in);
}

/* What is larger than the memory goes in blocks of rows, each to its columns. */
Test(execution, cuts_a_large_matrix_into_blocks_of_rows)
{
	const uint64_t shape[] = {1000, 8}, turned[] = {8, 1000};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});
	struct plain_device device = plain_device();
	struct input in = input();
	struct sd_execution execution;

	seeded(1);
	add_target(&in, "t", turned, 2, add_record(&in, SD_BF16, shape, 2), &turn);
	cr_assert_eq(carried(&in, 8 * 300 * 4 + 64 * 6, &device), 4);
	execution = planned(&in, 8 * 300 * 4 + 64 * 6);
	/* 300 rows fit; a multiple of 64 is kinder to those who write the columns. */
	cr_assert_eq(execution.plan.manifest->records[0].bytes, 8 * 256 * 2);
	cr_assert_eq(execution.plan.manifest->targets[1].move->to, 256);
	cr_assert_eq(execution.plan.manifest->targets[1].move->dim[0].to, 1000);
	sd_execution_free(&execution);
	input_free(&in);
}

Test(execution, refuses_too_little_memory)
{
	const uint64_t shape[] = {1000, 800}, turned[] = {800, 1000};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});
	struct input in = input();
	struct sd_execution execution;
	struct sd_error err;

	seeded(1);
	add_target(&in, "lm_head", turned, 2, add_record(&in, SD_BF16, shape, 2), &turn);
	cr_assert_eq(sd_execution_plan(in.m, 2000, &execution, &err), SD_INPUT);
	cr_assert_str_eq(err.text,
			 "lm_head: a row (800 elements) of record0 [1000, 800] and what becomes of it do not fit into "
			 "2000 bytes; --memory=4096 is enough, more is faster");
	sd_execution_free(&execution);
	cr_assert_eq(sd_execution_plan(in.m, 4096, &execution, &err), SD_OK);
	sd_execution_free(&execution);
	input_free(&in);
}

/* Gate and up of one expert come out as one record, so that they can be written in one go. */
Test(execution, joins_neighbours)
{
	const uint64_t shape[] = {40, 60}, grouped[] = {3, 60, 80};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});
	struct plain_device device = plain_device();
	struct input in = input();
	struct sd_execution execution;

	seeded(1);
	for (uint64_t k = 0; k < 6; k++) {
		struct sd_move put = place3(grouped, k / 2, 0, k % 2 * 40, 1, 60, 40);

		put = then(&turn, &put);
		add_target(&in, "gate_and_up", grouped, 3, add_record(&in, SD_F32, shape, 2), &put);
	}
	cr_assert_eq(carried(&in, 1 << 20, &device), 3);
	execution = planned(&in, 1 << 20);
	for (size_t k = 0; k < 3; k++) {
		const struct sd_target *t = &execution.plan.manifest->targets[k];

		cr_assert_eq(t->move->to, k * 4800);
		cr_assert_eq(t->move->rank, 1);
		cr_assert_eq(t->move->dim[0].size, 4800);
	}
	sd_execution_free(&execution);
	/* Without memory for both, each by itself. */
	cr_assert_eq(carried(&in, 20000, &device), 6);
	/* One that is elsewhere is not waited for. */
	in.m->records[3].state = SD_ELSEWHERE;
	cr_assert_eq(carried(&in, 1 << 20, &device), 4);
	input_free(&in);
}

/* What has nothing pending is left alone, number by number; what nobody wants goes. */
Test(execution, leaves_the_rest_alone)
{
	const uint64_t shape[] = {2, 3}, turned[] = {3, 2}, none[] = {0, 5};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});
	struct input in = input();
	struct sd_execution execution;
	const struct sd_manifest *m;

	seeded(1);
	add_record(&in, SD_F4, (uint64_t[]){2, 4}, 2);
	add_record(&in, SD_F32, shape, 2);
	add_record(&in, SD_F32, shape, 2);
	add_record(&in, SD_F32, none, 2);
	add_target(&in, "turned", turned, 2, 2, &turn);
	add_target(&in, "small", in.m->records[0].shape, 2, 0, NULL);
	add_target(&in, "none", none, 2, 3, NULL);
	execution = planned(&in, 1 << 20);
	m = execution.plan.manifest;
	cr_assert_eq(m->nrecords, 3);
	cr_assert_eq(execution.plan.becomes[0], 0);
	cr_assert_eq(execution.plan.becomes[1], SD_DROP);
	cr_assert_eq(execution.plan.becomes[2], SD_WORK);
	cr_assert_eq(execution.plan.becomes[3], 2);
	cr_assert_str_eq(m->targets[0].name, "turned");
	cr_assert_eq(m->targets[0].record, 1);
	cr_assert_null(m->targets[0].move);
	cr_assert_str_eq(m->targets[1].name, "small");
	cr_assert_str_eq(m->targets[2].name, "none");
	sd_execution_free(&execution);
	input_free(&in);
}

static struct sd_links links(uint8_t from, const uint8_t *casts, uint32_t count)
{
	struct input in = input();
	struct sd_tiling tiling;
	struct sd_links result;
	struct sd_error err;

	add_record(&in, from, (uint64_t[]){4}, 1);
	add_casts(&in, add_target(&in, "t", (uint64_t[]){4}, 1, 0, NULL), casts, count);
	cr_assert_eq(sd_tiling_cut(in.m, 0, (uint32_t[]){0}, 1, 1 << 20, 0, &tiling, &err), SD_OK, "%s", err.text);
	result = tiling.cuts[0].links;
	sd_tiling_free(&tiling);
	input_free(&in);
	return result;
}

static void expect(struct sd_links l, const uint8_t *dtypes, uint32_t count)
{
	cr_assert_eq(l.count, count - 1);
	cr_assert_eq(memcmp(l.dtype, dtypes, count), 0);
}

/* Casts are taken together only where that changes no value. */
Test(execution, takes_casts_together)
{
	seeded(1);
	expect(links(SD_BF16, (uint8_t[]){SD_F32}, 1), (uint8_t[]){SD_BF16, SD_F32}, 2);
	expect(links(SD_BF16, (uint8_t[]){SD_F32, SD_F16}, 2), (uint8_t[]){SD_BF16, SD_F16}, 2);
	expect(links(SD_BF16, (uint8_t[]){SD_F32, SD_BF16}, 2), (uint8_t[]){SD_BF16, SD_BF16}, 2);
	expect(links(SD_BF16, (uint8_t[]){SD_F32, SD_F64, SD_F32}, 3), (uint8_t[]){SD_BF16, SD_F32}, 2);
	expect(links(SD_F64, (uint8_t[]){SD_F32, SD_BF16}, 2), (uint8_t[]){SD_F64, SD_BF16}, 2);
	expect(links(SD_F64, (uint8_t[]){SD_BF16, SD_F32}, 2), (uint8_t[]){SD_F64, SD_BF16, SD_F32}, 3);
	expect(links(SD_F32, (uint8_t[]){SD_BF16, SD_F32, SD_F16}, 3), (uint8_t[]){SD_F32, SD_BF16, SD_F16}, 3);
	expect(links(SD_F32, (uint8_t[]){SD_BF16, SD_BF16}, 2), (uint8_t[]){SD_F32, SD_BF16}, 2);
}

static void refused(struct input *in, const char *text)
{
	struct sd_execution execution;
	struct sd_error err;

	cr_assert_eq(sd_execution_plan(in->m, 1 << 20, &execution, &err), SD_INPUT);
	cr_assert_str_eq(err.text, text);
	sd_execution_free(&execution);
	input_free(in);
}

Test(execution, refuses_what_it_cannot_do)
{
	const uint64_t shape[] = {2, 4}, turned[] = {4, 2};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});
	struct input in = input();
	struct sd_step *unknown;

	seeded(1);
	add_record(&in, SD_U8, shape, 2);
	add_casts(&in, add_target(&in, "t", shape, 2, 0, NULL), (uint8_t[]){SD_F32}, 1);
	refused(&in, "t: there is no cast from U8 to F32");

	in = input();
	add_record(&in, SD_F4, shape, 2);
	add_target(&in, "t", turned, 2, 0, &turn);
	refused(&in, "t: elements of F4 are smaller than a byte and cannot be moved one by one");

	in = input();
	unknown = sd_arena_array(&in.m->arena, 1, sizeof(*unknown));
	*unknown = (struct sd_step){.kind = 77, .dtype = SD_F32, .operand = SD_NO_RECORD};
	add_record(&in, SD_F32, shape, 2);
	add_target(&in, "t", shape, 2, 0, NULL)->steps = unknown;
	in.m->targets[0].nsteps = 1;
	refused(&in, "t: step 1 is of a kind (77) that cannot be carried out here");

	in = input();
	add_record(&in, SD_F8_E4M3, shape, 2);
	add_record(&in, SD_F32, (uint64_t[]){2, 1}, 2);
	add_target(&in, "t", shape, 2, 0, NULL);
	add_scale(&in, 1, 1, 2, 2, SD_BF16);
	refused(&in, "t: its block scales do not fit record0");

	/* Elements 2 to 5 are parts of two rows. */
	in = input();
	add_record(&in, SD_F8_E4M3, shape, 2);
	add_record(&in, SD_F32, shape, 2);
	turn = (struct sd_move){.from = 2, .rank = 1, .dim = {{4, 1, 1}}};
	add_target(&in, "t", (uint64_t[]){4}, 1, 0, &turn);
	add_scale(&in, 1, 1, 1, 4, SD_BF16);
	refused(&in, "t: its block scales do not fit the way in which record0 is reordered");
	turn = permuted(shape, 2, (uint32_t[]){1, 0});

	in = input();
	add_record(&in, SD_F8_E4M3, shape, 2);
	add_record(&in, SD_F32, (uint64_t[]){300, 500}, 2);
	add_target(&in, "t", shape, 2, 0, NULL);
	add_scale(&in, 1, 1, 2, 2, SD_BF16);
	refused(&in, "the block scales of one tensor take 600000 bytes; use --memory=2400000 or more");

	in = input();
	add_record(&in, SD_BF16, shape, 2);
	add_record(&in, SD_F32, shape, 2);
	add_target(&in, "t", shape, 2, 0, NULL);
	add_scale(&in, 1, 1, 1, 4, SD_BF16);
	add_target(&in, "s", turned, 2, 1, &turn);
	refused(&in, "record1 is needed for record0, but has pending steps itself");

	/* A header can say anything; nobody makes a billion records of it. */
	in = input();
	{
		struct sd_record r = {.key = "r", .rank = 2, .dtype = SD_U8, .state = SD_ELSEWHERE};

		r.shape = (uint64_t[]){UINT64_C(1) << 40, 1000};
		r.bytes = r.shape[0] * r.shape[1];
		cr_assert(sd_manifest_add_record(in.m, &r));
		turn = permuted(r.shape, 2, (uint32_t[]){1, 0});
		add_target(&in, "t", (uint64_t[]){1000, UINT64_C(1) << 40}, 2, 0, &turn);
		refused(&in, "t would be cut into more than 262144 pieces; use more --memory");
	}
}

Test(execution, says_what_failed)
{
	const uint64_t shape[] = {2, 4}, turned[] = {4, 2};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});

	for (int way = 0; way < 4; way++) {
		static const char *const texts[] = {"t: plain failed: it is broken", "t: plain is out of memory",
						    "the data of record0 ends early", "t: plain failed: it is broken"};
		struct plain_device device = plain_device();
		struct input in = input();
		struct memory_source source = source_of(&in, IN_MEMORY);
		struct memory_sink sink = {.sink = {&sink_ops}};
		struct sd_execution execution;
		struct sd_error err;

		seeded(1);
		add_target(&in, "t", turned, 2, add_record(&in, SD_F32, shape, 2), &turn);
		execution = planned(&in, 1 << 20);
		execution.device = &device.device;
		device.fails = way == 0;
		device.starves = way == 1;
		source.cut_short = way == 2;
		device.breaks = way == 3;
		device.device.ahead = 2;
		cr_assert_eq(sd_drive(&source.source, &execution.plan, &execution.worker, &sink.sink, &err),
			     way == 2 ? SD_INPUT : SD_IO);
		cr_assert_str_eq(err.text, texts[way]);
		cr_assert(sink.aborted && !sink.ended);
		take_back(&source);
		sink_free(&sink);
		sd_execution_free(&execution);
		input_free(&in);
	}
}

/* Matrices that are turned, each with tensors behind it that pass, of so many bytes. */
static struct input with_passing(unsigned matrices, unsigned passing, uint64_t bytes)
{
	const uint64_t shape[] = {8, 6}, turned[] = {6, 8};
	struct sd_move turn = permuted(shape, 2, (uint32_t[]){1, 0});
	struct input in = input();

	seeded(1);
	for (unsigned k = 0; k < matrices; k++) {
		const char *name = sd_arena_printf(&in.m->arena, "matrix%u", k);

		add_target(&in, name, turned, 2, add_record(&in, SD_F32, shape, 2), &turn);
		for (unsigned i = 0; i < passing; i++) {
			name = sd_arena_printf(&in.m->arena, "norm%u.%u", k, i);
			add_target(&in, name, &bytes, 1, add_record(&in, SD_U8, &bytes, 1), NULL);
		}
	}
	return in;
}

/* What passes waits for its turn, not for everything, whether it is little data or much that is in a file; only what
 * fits nowhere, or is too many pieces, has to go at once. */
Test(execution, does_not_wait_for_what_passes)
{
	static const struct {
		unsigned matrices, passing;
		uint64_t bytes;
		enum where where;
		size_t most; /* units at one time */
	} cases[] = {{10, 2, 5, IN_MEMORY, AHEAD},
		     {10, 2, 5, IN_FILES, AHEAD},
		     {10, 2, 300000, IN_FILES, AHEAD},
		     {10, 2, 600000, IN_MEMORY, 1},
		     {2, 63, 1, IN_FILES, 1}};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct plain_device device = plain_device();
		struct input in = with_passing(cases[i].matrices, cases[i].passing, cases[i].bytes);

		for (unsigned rooms = 0; rooms < 2; rooms++) {
			cr_assert_eq(carried_ahead(&in, 32768, &device, AHEAD, rooms, cases[i].where), in.m->nrecords);
			/* A sink with little memory may want some back before. */
			cr_assert(rooms ? device.most > 1 || cases[i].most == 1 : device.most == cases[i].most,
				  "case %u: %zu at one time", i, device.most);
		}
		input_free(&in);
	}
}

/* What passes may fail when its turn comes. */
Test(execution, says_what_it_was_that_failed_later)
{
	/* Its turn may come with another record, or at the end. */
	for (unsigned matrices = 1; matrices <= 10; matrices += 9) {
		struct input in = with_passing(matrices, 2, 50);
		struct plain_device device = plain_device();
		struct memory_source source = source_of(&in, IN_FILES);
		struct memory_sink sink = {.sink = {&sink_ops}};
		struct sd_execution execution = planned(&in, 1 << 20);
		struct sd_error err;

		execution.device = &device.device;
		device.device.ahead = AHEAD;
		source.torn = 1;
		cr_assert_eq(sd_drive(&source.source, &execution.plan, &execution.worker, &sink.sink, &err), SD_INPUT);
		cr_assert_str_eq(err.text, "record1: the data ends early: truncated, or its writer was stopped");
		cr_assert(sink.aborted && !sink.ended);
		take_back(&source);
		sink_free(&sink);
		sd_execution_free(&execution);
		input_free(&in);
	}
}

/* The source may have left a file, and looked at it for the last time, before its turn comes. */
Test(execution, sees_a_file_change_that_waits)
{
	for (unsigned matrices = 0; matrices <= 2; matrices++) {
		struct input in = with_passing(matrices, 2, 50);
		struct plain_device device = plain_device();
		struct memory_source source = source_of(&in, IN_FILES);
		struct memory_sink sink = {.sink = {&sink_ops}};
		struct sd_execution execution = planned(&in, 1 << 20);
		struct sd_error err = {0};

		execution.device = &device.device;
		device.device.ahead = AHEAD;
		source.changes = true;
		cr_assert_eq(sd_drive(&source.source, &execution.plan, &execution.worker, &sink.sink, &err),
			     matrices > 0 ? SD_INPUT : SD_OK);
		cr_assert(matrices == 0 || strstr(err.text, "record1: ") == err.text, "%s", err.text);
		cr_assert(matrices == 0 || strstr(err.text, "data (deleted) changed while it was being read"), "%s",
			  err.text);
		cr_assert_eq(sink.aborted, matrices > 0);
		take_back(&source);
		sink_free(&sink);
		sd_execution_free(&execution);
		input_free(&in);
	}
}

static void add_include(struct sd_selection *choice, const char *pattern)
{
	struct sd_error err;

	cr_assert_eq(sd_regex_list_add(&choice->include, pattern, &err), SD_OK);
}

/* Two dimensions exchanged by hand: of whole tensors, and of one that comes in pieces. */
Test(execution, exchanges_dimensions)
{
	const uint64_t shape[] = {2, 3, 4}, piece[] = {1, 3, 4};
	struct plain_device device = plain_device();
	struct sd_selection include = {0};
	struct input in = input(), turned = {0};
	struct sd_error err;

	seeded(1);
	add_target(&in, "a.weight", shape, 3, add_record(&in, SD_F32, shape, 3), NULL);
	for (uint64_t k = 0; k < 2; k++) {
		struct sd_move put = place3(shape, k, 0, 0, 1, 3, 4);

		add_target(&in, "b.weight", shape, 3, add_record(&in, SD_F32, piece, 3), &put);
	}
	add_target(&in, "a.bias", piece, 1, add_record(&in, SD_F32, piece, 1), NULL);
	add_include(&include, "\\.weight$");
	cr_assert_eq(sd_swap_dims(in.m, 0, -1, &include, &turned.m, &err), SD_OK, "%s", err.text);
	memcpy(turned.data, in.data, sizeof(in.data));
	cr_assert(sd_shape_equal(turned.m->targets[0].shape, 3, (uint64_t[]){4, 3, 2}, 3));
	for (uint64_t i = 0; i < 2; i++) {
		struct tensors before = assemble(in.m, in.data), after = assemble(turned.m, in.data);
		const float *x = (const float *)before.at[i].data, *y = (const float *)after.at[i].data;

		for (uint64_t p = 0; p < 2; p++)
			for (uint64_t q = 0; q < 3; q++)
				for (uint64_t r = 0; r < 4; r++)
					cr_assert_eq(y[(r * 3 + q) * 2 + p], x[(p * 3 + q) * 4 + r]);
		free_tensors(&before);
		free_tensors(&after);
	}
	cr_assert_gt(carried(&turned, 1 << 20, &device), 0);
	sd_manifest_free(turned.m);

	sd_selection_free(&include);
	include = (struct sd_selection){0};
	cr_assert_eq(sd_swap_dims(in.m, 0, 1, &include, &turned.m, &err), SD_USAGE);
	cr_assert_str_eq(err.text,
			 "a.bias has the shape [1]: no dimensions 0 and 1; choose tensors by -n or --include");
	cr_assert_eq(sd_swap_dims(in.m, 0, INT64_MIN, &include, &turned.m, &err), SD_USAGE);
	input_free(&in);
}
