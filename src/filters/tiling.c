/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces: how the data of a record is cut. */
#include "filters/tiling.h"
#include "base/checked.h"
#include "move/convert.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What the alignment of buffers costs: a window, and one for each link. */
#define MARGIN (SD_BUFFER_ALIGN * (SD_LINKS_MAX + 2))

/* Elements of the record that a run of codes touches beyond its length. */
#define ASTRIDE 2

/* Rows of words that the codes of a unit may touch beyond as many bytes as they have. */
#define DECODE_SLACK 2

/* Units are the smaller for being on their way together; but so many at most go into what one could have. */
#define PARTS 4

/* Whether every value of one dtype, or code, is a value of the other. */
static bool widens(uint8_t from, uint8_t to)
{
	switch (to) {
	case SD_F64:
		return from == SD_F32 || widens(from, SD_F32);
	case SD_F32:
		return from == SD_BF16 || from == SD_F16 || widens(from, SD_F16);
	case SD_BF16:
	case SD_F16:
		return from == SD_F8_E4M3 || from == SD_F8_E5M2 || sd_is_code(from);
	default:
		return false;
	}
}

/* Whether two casts give what one gives. A device takes F64 to a small float by way of F32. */
static bool as_one(uint8_t a, uint8_t b, uint8_t c)
{
	return widens(a, b) || (a == SD_F64 && b == SD_F32 && (c == SD_BF16 || c == SD_F16));
}

/* Whether the last of n links and a cast behind it are one link. Scaled values are F32 before anything else. */
static bool melts(const struct sd_links *links, uint32_t n, uint8_t to)
{
	if (n == 1 && links->scale)
		return links->dtype[1] == SD_F32 || links->dtype[1] == SD_F64;
	return n > 0 && as_one(links->dtype[n - 1], links->dtype[n], to);
}

/* The size of a record's dimension in which each element is so many codes. */
static uint64_t extent(const struct sd_record *r, uint64_t codes, uint32_t k)
{
	return k + 1 == r->rank ? r->shape[k] * codes : r->shape[k];
}

/* What devices call the elements of a scale. */
static uint8_t scale_element(uint8_t dtype, uint32_t param)
{
	if (dtype != SD_U8 && dtype != SD_F8_E8M0)
		return dtype;
	return (uint8_t)(SD_E8M0 + (param & SD_EXPONENT_ZERO ? SD_E8M0_ZERO : 0) +
			 (param & SD_EXPONENT_INFINITY ? SD_E8M0_INFINITY : 0) +
			 (param & SD_EXPONENT_2_128 ? SD_E8M0_HALF : 0));
}

/* Whether the operand of a step has an element for every element of the record. */
static bool scale_fits(const struct sd_manifest *m, const struct sd_record *r, uint64_t codes,
		       const struct sd_step *step)
{
	const struct sd_record *operand;
	uint64_t count, last = 0, reach;

	if (step->operand == SD_NO_RECORD)
		return false;
	operand = &m->records[step->operand];
	if (r->bytes == 0)
		return true;
	if (!sd_shape_count(operand->shape, operand->rank, &count))
		return false;
	for (uint32_t k = 0; k < step->rank; k++)
		if (!sd_mul((extent(r, codes, k) - 1) / step->blocks[k].block, step->blocks[k].stride, &reach) ||
		    !sd_add(last, reach, &last))
			return false;
	return last < count;
}

static enum sd_result add_scale(const struct sd_manifest *m, const struct sd_target *t, const struct sd_step *step,
				struct sd_links *links, uint32_t *n, struct sd_error *err)
{
	while (!links->scale && melts(links, *n, SD_F32))
		--*n;
	if (*n > 0)
		return sd_fail(err, SD_INPUT, "%s: block scales behind another step cannot be carried out here",
			       t->name);
	if (step->operand != SD_NO_RECORD)
		links->scale_element = scale_element(m->records[step->operand].dtype, step->param);
	if (step->operand != SD_NO_RECORD && !sd_convert_scales(links->scale_element))
		return sd_fail(err, SD_INPUT,
			       "%s: its block scales, %s, are %s; F32, BF16, F16, F8_E8M0 and U8 can be used", t->name,
			       m->records[step->operand].key, sd_dtype_name(m->records[step->operand].dtype));
	if (!scale_fits(m, &m->records[t->record], sd_target_codes(m, t), step))
		return sd_fail(err, SD_INPUT, "%s: its block scales do not fit %s", t->name, m->records[t->record].key);
	/* Half as large: 2^128 would be too much for float32. What they multiply is twice as large then. */
	if (step->param & SD_EXPONENT_2_128) {
		if (links->dtype[0] != SD_E2M1 && links->dtype[0] != SD_E2M1 + SD_E2M1_PLUS)
			return sd_fail(err, SD_INPUT, "%s: scales up to 2^128 are for codes of E2M1", t->name);
		links->dtype[0] += SD_E2M1_TWICE;
	}
	links->scale = step;
	links->dtype[++*n] = (uint8_t)step->dtype;
	return SD_OK;
}

static enum sd_result add_cast(const struct sd_target *t, uint8_t to, struct sd_links *links, uint32_t *n,
			       struct sd_error *err)
{
	while (melts(links, *n, to))
		--*n;
	if (to == links->dtype[*n] && !(*n == 0 && links->scale))
		return SD_OK;
	if (*n == SD_LINKS_MAX)
		return sd_fail(err, SD_INPUT, "%s: more than %d casts one after the other", t->name, SD_LINKS_MAX);
	links->dtype[++*n] = to;
	return SD_OK;
}

/* A constant takes the place of all that came before it. */
static enum sd_result add_fill(const struct sd_target *t, const struct sd_step *step, struct sd_links *links,
			       uint32_t *n, struct sd_error *err)
{
	*links = (struct sd_links){.dtype = {SD_F32}, .fill = step};
	*n = 0;
	return add_cast(t, (uint8_t)step->dtype, links, n, err);
}

/* What the codes of a target are decoded with: their geometry. */
static enum sd_result codes_of(const struct sd_manifest *m, const struct sd_target *t, struct sd_codes *c,
			       struct sd_error *err)
{
	const struct sd_step *decode = &t->steps[0];
	const struct sd_record *r = &m->records[t->record];
	const struct sd_block *size = decode->blocks;
	uint32_t rank = decode->rank;
	const char *wrong;

	*c = (struct sd_codes){.number = SD_DECODE_FORM(decode->param),
			       .bits = SD_DECODE_BITS(decode->param),
			       .matrices = 1,
			       .rows = rank > 1 ? size[rank - 2].block : 1,
			       .columns = size[rank - 1].block,
			       .row_block = 1,
			       .column_block = 1,
			       .native = (uint8_t)decode->dtype};
	c->form = sd_form_of(c->number, c->bits);
	for (uint32_t k = 0; k + 2 < rank; k++)
		c->matrices *= size[k].block; /* the shape has a count */
	for (uint32_t k = 1; k < t->nsteps && t->steps[k].kind == SD_STEP_WITH; k++) {
		const struct sd_step *with = &t->steps[k];
		const struct sd_block *b = with->blocks;
		struct sd_part_data *part;

		if (with->param == SD_PART_OFFSET && with->rank == 1)
			c->offset = (uint32_t)b[0].stride;
		if (with->operand == SD_NO_RECORD || with->param == 0 || with->param >= SD_PARTS)
			continue;
		part = &c->part[with->param];
		part->dtype = m->records[with->operand].dtype;
		if (!sd_shape_count(m->records[with->operand].shape, m->records[with->operand].rank, &part->count))
			part->count = 0;
		if (with->param == SD_PART_NESTED && with->rank == 1)
			c->nested_block = b[0].block;
		if (with->param != SD_PART_SCALE || with->rank == 0)
			continue;
		c->column_block = b[with->rank - 1].block;
		c->column_stride = b[with->rank - 1].stride;
		if (with->rank == 1) {
			/* Blocks go on from row to row. */
			c->columns *= c->rows * c->matrices;
			c->rows = c->matrices = 1;
			continue;
		}
		c->row_block = b[with->rank - 2].block;
		c->row_stride = b[with->rank - 2].stride;
		c->matrix_stride = with->rank > 2 ? b[with->rank - 3].stride : 0;
	}
	wrong = sd_codes_measure(c, r->bytes);
	return wrong ? sd_fail(err, SD_INPUT, "%s: %s has %s", t->name, r->key, wrong) : SD_OK;
}

static uint8_t code_kind(uint32_t param)
{
	return param == SD_UNPACK_INT4 ? SD_INT4 : param == SD_UNPACK_E2M1_PLUS ? SD_E2M1 + SD_E2M1_PLUS : SD_E2M1;
}

/* codes: of a target whose codes are decoded. */
static enum sd_result links_of(const struct sd_manifest *m, const struct sd_target *t, const struct sd_codes *codes,
			       struct sd_links *links, struct sd_error *err)
{
	const uint8_t kind = codes->form ? sd_codes_kind(codes) : SD_NO_DTYPE;
	uint8_t *dtype = links->dtype;
	enum sd_result result = SD_OK;
	uint32_t n = 0;

	dtype[0] = m->records[t->record].dtype;
	for (uint32_t k = 0; k < t->nsteps && result == SD_OK; k++) {
		const struct sd_step *step = &t->steps[k];

		if (step->kind == SD_STEP_WITH && step->param == SD_PART_SCALE && kind) {
			/* A device multiplies such codes itself. */
			dtype[0] = kind;
			links->scale = step;
			links->scale_element =
				codes->part[SD_PART_SECOND].count ? SD_F32 : codes->part[SD_PART_SCALE].dtype;
			dtype[n = 1] = (uint8_t)step->dtype;
		}
		if (step->kind == SD_STEP_WITH || (step->kind == SD_STEP_DECODE && kind))
			continue;
		if (step->kind == SD_STEP_UNPACK)
			dtype[0] = code_kind(step->param);
		if (step->kind == SD_STEP_DECODE) {
			dtype[0] = (uint8_t)step->dtype;
			links->decode = step;
			continue;
		}
		if (step->kind == SD_STEP_CAST || step->kind == SD_STEP_UNPACK)
			result = add_cast(t, (uint8_t)step->dtype, links, &n, err);
		else if (step->kind == SD_STEP_FILL)
			result = add_fill(t, step, links, &n, err);
		else if (step->kind == SD_STEP_BLOCK_SCALE)
			result = add_scale(m, t, step, links, &n, err);
		else
			result = sd_fail(err, SD_INPUT,
					 "%s: step %" PRIu32 " is of a kind (%u) that cannot be carried out here",
					 t->name, k + 1, step->kind);
	}
	if (n == 0)
		dtype[++n] = dtype[0];
	links->count = n;
	for (uint32_t k = 0; k < n && result == SD_OK; k++)
		if (!sd_cast_exists(dtype[k], dtype[k + 1]) ||
		    (k == 0 && links->scale && !sd_cast_exists(dtype[0], SD_F32)))
			result = sd_fail(err, SD_INPUT, "%s: there is no cast from %s to %s", t->name,
					 sd_dtype_name(dtype[k]), sd_dtype_name(dtype[k + 1]));
	return result;
}

/* The stride of a record's dimension. */
static uint64_t stride_of(const struct sd_record *r, uint64_t codes, uint32_t k)
{
	uint64_t stride = 1;

	while (++k < r->rank)
		stride *= extent(r, codes, k);
	return stride;
}

/* The index, in a dimension of the record, of an element. */
static uint64_t index_in(const struct sd_record *r, uint64_t codes, uint32_t k, uint64_t element)
{
	return element / stride_of(r, codes, k) % extent(r, codes, k);
}

/* The record's dimension along which a move's dimension begins; false if it is none of them. */
static bool dimension_of(const struct sd_record *r, uint64_t codes, uint64_t from, uint32_t *k)
{
	for (*k = 0; *k < r->rank; ++*k)
		if (extent(r, codes, *k) > 1 && stride_of(r, codes, *k) == from)
			return true;
	return false;
}

/* Splits dimensions of a move so that each lies within one of the record's, as block scales want it, if that can be. */
static bool spread(const struct sd_record *r, uint64_t codes, struct sd_move *m)
{
	struct sd_move apart = {.from = m->from, .to = m->to};
	uint32_t k;

	for (uint32_t i = m->rank; i-- > 0;) {
		struct sd_dim d = m->dim[i];

		while (d.size > 1) {
			struct sd_dim inner = d;
			uint64_t start, size;

			if (apart.rank == SD_MOVE_RANK || !dimension_of(r, codes, d.from, &k))
				return false;
			start = index_in(r, codes, k, m->from);
			size = extent(r, codes, k);
			if (d.size > size - start) {
				if (start > 0 || d.size % size > 0)
					return false;
				inner.size = size;
			}
			d.size /= inner.size;
			d.from *= inner.size;
			d.to *= inner.size;
			apart.dim[apart.rank++] = inner;
		}
	}
	/* They were found from the inside out. */
	*m = apart;
	for (uint32_t i = 0; i < m->rank; i++)
		m->dim[i] = apart.dim[apart.rank - 1 - i];
	return true;
}

void sd_unit_scale(const struct sd_manifest *m, const struct sd_cut *cut, const struct sd_move *unit,
		   struct sd_scale *scale)
{
	const struct sd_step *step = cut->links.scale;
	const struct sd_record *r = &m->records[m->targets[cut->target].record];

	*scale = (struct sd_scale){.dtype = cut->links.scale_element};
	for (uint32_t i = 0; i < SD_MOVE_RANK; i++)
		scale->dim[i].block = 1;
	for (uint32_t k = 0; k < step->rank; k++) {
		uint64_t index = index_in(r, cut->codes, k, unit->from);
		uint32_t i = 0, own;

		while (i < unit->rank && !(dimension_of(r, cut->codes, unit->dim[i].from, &own) && own == k))
			i++;
		if (i == unit->rank) {
			scale->from += index / step->blocks[k].block * step->blocks[k].stride;
			continue;
		}
		scale->dim[i].begin = index;
		scale->dim[i].block = step->blocks[k].block;
		scale->dim[i].stride = step->blocks[k].stride;
	}
}

/* From the first to behind the last element, in the record, of all dimensions but the first skip ones in its order. */
static uint64_t span_below(const struct sd_cut *c, uint32_t skip)
{
	uint64_t span = 1;

	for (uint32_t k = skip; k < c->move.rank; k++)
		span += (c->move.dim[c->order[k]].size - 1) * c->move.dim[c->order[k]].from;
	return span;
}

static void order_by_record(struct sd_cut *c)
{
	for (uint32_t i = 0; i < c->move.rank; i++) {
		uint32_t k = i;

		for (; k > 0 && c->move.dim[c->order[k - 1]].from < c->move.dim[i].from; k--)
			c->order[k] = c->order[k - 1];
		c->order[k] = i;
	}
}

static enum sd_result too_little(const struct sd_manifest *m, const struct sd_cut *c, const struct sd_tiling *p,
				 uint64_t memory, uint64_t held, struct sd_error *err)
{
	const struct sd_target *t = &m->targets[c->target];
	const struct sd_record *r = &m->records[t->record];
	uint64_t row = span_below(c, c->move.rank ? c->move.rank - 1 : 0), need;
	char shape[SD_SHAPE_TEXT];

	if (!sd_mul(c->codes > 1 ? row / c->codes + ASTRIDE : row, p->each, &need) ||
	    !sd_add(need, MARGIN + held, &need) || !sd_round_up(need, 4096, &need))
		need = UINT64_MAX;
	return sd_fail(err, SD_INPUT,
		       "%s: a row (%" PRIu64 " elements) of %s %s and what becomes of it do not fit into %" PRIu64
		       " bytes; --memory=%" PRIu64 " is enough, more is faster",
		       t->name, row, r->key, sd_shape_text(r->shape, r->rank, shape, sizeof(shape)), memory, need);
}

/* How far a unit may reach in a window of so many of the record's elements. Codes may begin and end within them. */
static uint64_t reach_of(const struct sd_cut *c, uint64_t window)
{
	uint64_t reach;

	if (c->codes == 1)
		return window;
	return window > ASTRIDE && sd_mul(window - ASTRIDE, c->codes, &reach) ? reach : 0;
}

/* The units, as large as their reach allows, and cut as far outside as can be. False where it is too little. */
static bool divide(struct sd_cut *c, uint64_t reach)
{
	uint32_t leading = 0, rank = c->move.rank;
	const struct sd_dim *d = c->move.dim;

	c->units = rank && d[0].size == 0 ? 0 : 1;
	c->step = 1;
	c->in_order = true;
	while (leading < rank && c->order[leading] == leading)
		leading++;
	if (reach == 0)
		return false;
	if (c->units == 0)
		return true;
	for (c->depth = 0; c->depth < rank; c->depth++) {
		uint64_t below = span_below(c, c->depth + 1);

		d = &c->move.dim[c->order[c->depth]];
		if (below <= reach) {
			c->step = (reach - below) / d->from + 1;
			break;
		}
		c->units *= d->size;
	}
	if (c->depth == rank)
		return true;
	c->depth++;
	c->in_order = c->depth <= leading;
	if (c->step >= d->size)
		c->step = d->size;
	else if (c->step > 64 && !c->in_order)
		c->step -= c->step % 64;
	c->units *= (d->size - 1) / c->step + 1;
	/* Parts of a row would come out as single elements here and there. */
	return c->depth < rank || rank <= 1 || c->in_order;
}

/* Smaller units, of which several can be on their way in the same memory, where that does not show in what comes out.
 */
static void divide_more(const struct sd_tiling *p, struct sd_cut *c)
{
	for (uint64_t parts = PARTS; parts > 1; parts /= 2) {
		struct sd_cut smaller = *c;

		if (divide(&smaller, reach_of(c, p->window / parts)) && smaller.in_order) {
			*c = smaller;
			return;
		}
	}
}

void sd_move_pack_source(struct sd_move *move)
{
	uint64_t step = 1;

	move->from = 0;
	for (uint32_t k = move->rank; k-- > 0; step *= move->dim[k].size)
		move->dim[k].from = step;
}

static enum sd_result begin_cut(const struct sd_manifest *m, uint32_t number, struct sd_cut *c, struct sd_error *err)
{
	const struct sd_target *t = &m->targets[number];
	const struct sd_record *r = &m->records[t->record];
	enum sd_result result;
	struct sd_move room;

	if (!sd_dtype_size(r->dtype))
		return sd_fail(err, SD_INPUT,
			       "%s: elements of %s are smaller than a byte and cannot be moved one by one", t->name,
			       sd_dtype_name(r->dtype));
	c->target = number;
	c->codes = sd_target_codes(m, t);
	if (t->nsteps && t->steps[0].kind == SD_STEP_DECODE && codes_of(m, t, &c->packed, err) != SD_OK)
		return err->result;
	c->move = sd_move_load(sd_target_move(m, t, &room));
	sd_move_normalise(&c->move);
	if (c->packed.form && sd_codes_kind(&c->packed))
		c->codes = sd_dtype_bits((enum sd_dtype)r->dtype) / 4;
	result = links_of(m, t, &c->packed, &c->links, err);
	if (result == SD_OK && c->links.scale && sd_move_count(&c->move) > 0 && !spread(r, c->codes, &c->move))
		result = sd_fail(err, SD_INPUT, "%s: its block scales do not fit the way in which %s is reordered",
				 t->name, r->key);
	/* A constant needs nothing of the record, so it may as well be made of its beginning. */
	if (c->links.fill)
		sd_move_pack_source(&c->move);
	order_by_record(c);
	return result;
}

/* The window: all of its elements, and what each link makes of them, are in memory at one time. */
static void share_memory(struct sd_tiling *p, uint8_t dtype, uint64_t memory)
{
	uint64_t slack = MARGIN;

	for (size_t i = 0; i < p->ncuts; i++) {
		const struct sd_cut *c = &p->cuts[i];
		uint64_t sum = 0;

		if (c->packed.part[SD_PART_SECOND].count && !c->links.decode)
			slack = MARGIN + c->packed.part[SD_PART_SCALE].count * sizeof(float);
		if (c->links.decode)
			slack = MARGIN + DECODE_SLACK * c->packed.pitch;
		for (uint32_t k = c->links.decode ? 0 : 1; k <= c->links.count; k++)
			sum += sd_dtype_size(c->links.dtype[k]);
		/* A number that is decoded is a byte or less in the record. */
		sum = sum * c->codes + (c->links.decode ? 1 : sd_dtype_size(dtype));
		if (sum > p->each)
			p->each = sum;
	}
	p->window = p->each && memory > slack ? (memory - slack) / p->each : 0;
}

/* The first element of the record that a cut needs, and behind the last; a constant needs none. */
static uint64_t begin_of(const struct sd_cut *c)
{
	return c->move.from / c->codes;
}

static uint64_t end_of(const struct sd_cut *c)
{
	return c->links.fill ? begin_of(c) : (c->move.from + span_below(c, 0) - 1) / c->codes + 1;
}

/* Constants come first: they wait for nothing. */
static int by_first(const void *a, const void *b)
{
	const struct sd_cut *x = a, *y = b;

	if (!x->links.fill != !y->links.fill)
		return x->links.fill ? -1 : 1;
	if (begin_of(x) != begin_of(y))
		return begin_of(x) < begin_of(y) ? -1 : 1;
	return (x->target > y->target) - (x->target < y->target);
}

static uint64_t unit_from(const struct sd_cut *c, uint64_t unit)
{
	struct sd_move m;

	sd_unit_move(c, unit, &m);
	return m.from / c->codes;
}

static int by_unit(const void *a, const void *b)
{
	const struct sd_unit_run *x = a, *y = b;
	uint64_t i = unit_from(x->cut, x->first), j = unit_from(y->cut, y->first);

	if (i != j)
		return i < j ? -1 : 1;
	if (x->cut->target != y->cut->target)
		return x->cut->target < y->cut->target ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

static enum sd_result add_runs(const struct sd_manifest *m, struct sd_tiling *p, size_t *room, struct sd_cut *c,
			       bool alone, struct sd_error *err)
{
	bool one = alone && c->in_order;
	uint64_t n = one || c->units == 0 ? 1 : c->units;

	if (n > SD_UNIT_RUNS_MAX - p->nruns)
		return sd_fail(err, SD_INPUT, "%s would be cut into more than %u pieces; use more --memory",
			       m->targets[c->target].name, SD_UNIT_RUNS_MAX);
	for (uint64_t i = 0; i < n; i++) {
		if (!sd_array_grow(&p->runs, p->nruns, room, sizeof(*p->runs)))
			return sd_fail_memory(err);
		p->runs[p->nruns++] = (struct sd_unit_run){c, i, one || c->units == 0 ? c->units : 1};
	}
	return SD_OK;
}

/* Targets whose parts of the record overlap take turns: each unit comes out by itself, in the record's order. */
static enum sd_result arrange(const struct sd_manifest *m, struct sd_tiling *p, struct sd_error *err)
{
	size_t room = 0;

	for (size_t i = 0, first; i < p->ncuts; i = first) {
		uint64_t end = end_of(&p->cuts[i]);
		size_t begin = p->nruns;
		enum sd_result result = SD_OK;

		for (first = i + 1; first < p->ncuts && begin_of(&p->cuts[first]) < end; first++) {
			uint64_t e = end_of(&p->cuts[first]);

			end = e > end ? e : end;
		}
		if (first == i + 1 && p->cuts[i].in_order && (p->cuts[i].units > 1 || p->cuts[i].move.rank < 2))
			divide_more(p, &p->cuts[i]);
		for (size_t k = i; k < first && result == SD_OK; k++)
			result = add_runs(m, p, &room, &p->cuts[k], first == i + 1, err);
		if (result != SD_OK)
			return result;
		if (first > i + 1)
			qsort(p->runs + begin, p->nruns - begin, sizeof(*p->runs), by_unit);
	}
	return SD_OK;
}

enum sd_result sd_tiling_cut(const struct sd_manifest *m, uint32_t record, const uint32_t *targets, size_t count,
			     uint64_t memory, uint64_t held, struct sd_tiling *p, struct sd_error *err)
{
	enum sd_result result = SD_OK;

	*p = (struct sd_tiling){.ncuts = count};
	p->cuts = calloc(count + 1, sizeof(*p->cuts));
	if (!p->cuts)
		return sd_fail_memory(err);
	for (size_t i = 0; i < count && result == SD_OK; i++)
		result = begin_cut(m, targets[i], &p->cuts[i], err);
	if (result == SD_OK)
		share_memory(p, m->records[record].dtype, memory - held);
	for (size_t i = 0; i < count && result == SD_OK; i++)
		if (!divide(&p->cuts[i], reach_of(&p->cuts[i], p->window)))
			result = too_little(m, &p->cuts[i], p, memory, held, err);
	if (result == SD_OK) {
		qsort(p->cuts, count, sizeof(*p->cuts), by_first);
		result = arrange(m, p, err);
	}
	if (result != SD_OK)
		sd_tiling_free(p);
	return result;
}

void sd_tiling_free(struct sd_tiling *tiling)
{
	free(tiling->cuts);
	free(tiling->runs);
	*tiling = (struct sd_tiling){0};
}

/* Gives the dimensions strides on the target side as if their box stood alone. */
static void pack(struct sd_move *m)
{
	uint64_t step = 1;

	m->to = 0;
	for (uint32_t k = m->rank; k-- > 0; step *= m->dim[k].size)
		m->dim[k].to = step;
}

/* The box of a unit, in its place in record and tensor. */
static void unit_box(const struct sd_cut *c, uint64_t unit, struct sd_move *m)
{
	*m = c->move;
	for (uint32_t k = c->depth; k-- > 0;) {
		struct sd_dim *d = &m->dim[c->order[k]];
		uint64_t step = k == c->depth - 1 ? c->step : 1, blocks = (d->size - 1) / step + 1;
		uint64_t index = unit % blocks * step;

		unit /= blocks;
		m->from += index * d->from;
		m->to += index * d->to;
		d->size = d->size - index < step ? d->size - index : step;
	}
}

void sd_unit_move(const struct sd_cut *cut, uint64_t unit, struct sd_move *move)
{
	unit_box(cut, unit, move);
	pack(move);
}

uint64_t sd_unit_span(const struct sd_move *unit)
{
	uint64_t span = 1;

	for (uint32_t k = 0; k < unit->rank; k++)
		span += (unit->dim[k].size - 1) * unit->dim[k].from;
	return span;
}

uint64_t sd_buffer_aligned(uint64_t bytes)
{
	return (bytes + SD_BUFFER_ALIGN - 1) / SD_BUFFER_ALIGN * SD_BUFFER_ALIGN;
}

void sd_cut_room(const struct sd_manifest *m, const struct sd_cut *cut, uint64_t *window, uint64_t *made)
{
	const struct sd_record *r = &m->records[m->targets[cut->target].record];
	uint64_t astride = cut->codes > 1 ? ASTRIDE : 0;
	struct sd_move unit;

	*window = *made = 0;
	if (cut->units == 0)
		return;
	/* All others are as large or smaller. */
	sd_unit_move(cut, 0, &unit);
	if (cut->links.decode) {
		uint64_t begin, end, span = sd_unit_span(&unit);

		sd_codes_span(&cut->packed, unit.from, unit.from + span - 1, &begin, &end);
		*window = sd_buffer_aligned(end - begin + DECODE_SLACK * cut->packed.pitch) +
			  sd_buffer_aligned(span * sd_dtype_size(cut->links.dtype[0]));
	} else if (!cut->links.fill)
		*window = sd_buffer_aligned((sd_unit_span(&unit) / cut->codes + astride) * sd_dtype_size(r->dtype));
	for (uint32_t k = 1; k <= cut->links.count; k++)
		*made += sd_buffer_aligned(sd_move_count(&unit) * sd_dtype_size(cut->links.dtype[k]));
}

void sd_unit_run_place(const struct sd_unit_run *piece, struct sd_move *place)
{
	struct sd_move own;

	if (piece->units == piece->cut->units)
		*place = piece->cut->move;
	else
		unit_box(piece->cut, piece->first, place);
	own = *place;
	pack(&own);
	place->from = 0;
	for (uint32_t k = 0; k < place->rank; k++)
		place->dim[k].from = own.dim[k].to;
	sd_move_normalise(place);
}
