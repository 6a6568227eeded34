/* SPDX-License-Identifier: Apache-2.0 */
/* What a thread of the CPU device does: it copies rows, turns tiles, and casts and scales elements on the way. */
#include "move/tile.h"

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint32_t scale_at(const struct sd_tile_how *how, uint64_t index)
{
	const unsigned size = sd_element_size(how->plan->scale_dtype);
	uint64_t bits = 0;

	memcpy(&bits, (const uint8_t *)how->scales + index * size, size);
	return sd_element_decode(how->plan->scale_dtype, bits);
}

/* Of element a of row b of a piece. */
static float scale_of(const struct sd_tile_how *how, const struct sd_tile *piece, uint64_t a, uint64_t b)
{
	const struct sd_transpose *plan = how->plan;

	return sd_float_of_bits(scale_at(how, piece->scale + sd_lane_scale(&plan->a, piece->a + a) +
						      sd_lane_scale(&plan->b, piece->b + b)));
}

/* How many of count elements, of which the first is number a of its lane, have one scale. */
static size_t scaled_alike(const struct sd_lane *lane, uint64_t a, size_t count)
{
	return lane->stride == 0 ? count : (size_t)least(lane->block - (lane->begin + a) % lane->block, count);
}

/* Blocks of so few elements are multiplied in whole runs. */
#define FEW 16

/* Multiplies count values, of which the first is number a of its lane, by their scales. */
static void scale_values(const struct sd_tile_how *how, uint64_t a, uint64_t scale, size_t count,
			 float values[SD_CONVERT_RUN])
{
	const struct sd_lane *lane = &how->plan->a;

	if (lane->stride != 0 && lane->block == FEW && (lane->begin + a) % FEW == 0 && count == SD_CONVERT_RUN) {
		/* NVFP4: counts that the compiler knows make vectors. */
		uint64_t first = scale + sd_lane_scale(lane, a);

		for (size_t i = 0; i < SD_CONVERT_RUN / FEW; i++) {
			float by = sd_float_of_bits(scale_at(how, first + i * lane->stride));

			for (size_t k = 0; k < FEW; k++)
				values[i * FEW + k] *= by;
		}
		return;
	}
	for (size_t i = 0; i < count;) {
		size_t end = i + scaled_alike(lane, a + i, count - i);
		float by = sd_float_of_bits(scale_at(how, scale + sd_lane_scale(lane, a + i)));

		if (end - i == SD_CONVERT_RUN) {
			/* Nearly always; a count that the compiler knows makes vectors. */
			for (size_t k = 0; k < SD_CONVERT_RUN; k++)
				values[k] *= by;
			break;
		}
		while (i < end)
			values[i++] *= by;
	}
}

static void copy_strided(const uint8_t *source, uint64_t source_step, uint8_t *target, uint64_t target_step,
			 size_t size, size_t count)
{
	if (source_step == 1 && target_step == 1)
		memcpy(target, source, count * size);
	else
		for (size_t i = 0; i < count; i++)
			memcpy(target + i * target_step * size, source + i * source_step * size, size);
}

/* count (SD_CONVERT_RUN at most) elements, one after another, as they are to be in the target. */
static void cast_run(const struct sd_tile_how *how, const uint8_t *source, uint64_t a, uint64_t scale, size_t count,
		     uint8_t *out)
{
	float values[SD_CONVERT_RUN];

	how->kernels->convert.decode((enum sd_dtype)how->plan->source_dtype, source, count, values);
	if (how->plan->scale_dtype != SD_NO_DTYPE)
		scale_values(how, a, scale, count, values);
	how->kernels->convert.encode((enum sd_dtype)how->plan->target_dtype, values, out, count);
}

/* Codes from anywhere, one behind another. */
static void gather_codes(const uint8_t *source, uint64_t from, uint64_t step, uint8_t *codes, size_t count)
{
	memset(codes, 0, (size_t)sd_element_bytes(SD_E2M1, count));
	for (size_t i = 0; i < count; i++, from += step)
		codes[i / 2] |= (uint8_t)((source[from / 2] >> from % 2 * 4 & 15) << i % 2 * 4);
}

/* The same from a source row, whatever lies between its elements: from is the number of the first. */
static void load_run(const struct sd_tile_how *how, const uint8_t *source, uint64_t from, uint64_t a, uint64_t scale,
		     size_t count, uint8_t *out)
{
	const struct sd_transpose *plan = how->plan;
	bool codes = sd_is_code(plan->source_dtype);
	const uint8_t *first = sd_transpose_source(plan, source, from);
	uint8_t gathered[SD_CONVERT_RUN * 8];

	if (plan->bytes) {
		copy_strided(first, plan->a.from, out, 1, plan->source_size, count);
		return;
	}
	if (codes && (plan->a.from != 1 || from % 2 != 0)) {
		gather_codes(source, from, plan->a.from, gathered, count);
		first = gathered;
	} else if (plan->a.from != 1) {
		copy_strided(first, plan->a.from, gathered, 1, plan->source_size, count);
		first = gathered;
	}
	cast_run(how, first, a, scale, count, out);
}

/* Where rows of a piece begin at bytes, and go on without gaps. */
static bool has_rows(const struct sd_transpose *plan, const struct sd_tile *piece)
{
	return plan->a.from == 1 && (!sd_is_code(plan->source_dtype) || (piece->from | plan->b.from) % 2 == 0);
}

/* Source bytes of as many elements; of codes, an even number. */
static size_t bytes_of(const struct sd_transpose *plan, uint64_t elements)
{
	return (size_t)(sd_is_code(plan->source_dtype) ? elements / 2 : elements * plan->source_size);
}

/* Makes a cast of rows ready, all but its scale; false if it cannot be done so. */
static bool begin_cast(const struct sd_tile_how *how, struct sd_cast *cast)
{
	const struct sd_transpose *plan = how->plan;

	*cast = (struct sd_cast){
		.from = (enum sd_dtype)plan->source_dtype,
		.to = (enum sd_dtype)plan->target_dtype,
		.scaled = plan->scale_dtype != SD_NO_DTYPE,
	};
	return !plan->bytes && how->kernels->convert.ready && how->kernels->convert.ready(cast);
}

_Static_assert(SD_TILE_FACTORS % SD_CONVERT_RUN == 0, "a run has its room");

/* What the first count of them are. The others of their last run are taken for the first one. */
static enum sd_factors shorten(struct sd_tile_factors *factors, size_t count)
{
	uint32_t rest = 0, odd = 0;

	for (size_t i = 0; i < count; i += SD_CONVERT_RUN) {
		float *by = &factors->by[i];
		uint16_t *brief = &factors->brief[i];

		for (size_t k = count - i; k < SD_CONVERT_RUN; k++)
			by[k] = factors->by[0];
		for (size_t k = 0; k < SD_CONVERT_RUN; k++) {
			uint32_t bits = sd_bits_of_float(by[k]);

			brief[k] = (uint16_t)(bits >> 16);
			rest |= (bits & 0xffff) | (uint32_t)((bits & SD_F32_INFINITY) == SD_F32_INFINITY);
			odd |= (bits & 0x7fffff) | (uint32_t)(bits - SD_POWER_LEAST > SD_POWER_MOST - SD_POWER_LEAST);
		}
	}
	return odd == 0 ? SD_POWERS : rest == 0 ? SD_BRAINS : SD_FLOATS;
}

/* The first count of them for a cast that is ready; it may be another one after. */
static const void *take_factors(const struct sd_tile_how *how, struct sd_tile_factors *factors, size_t count,
				struct sd_cast *cast)
{
	cast->factors = (uint8_t)shorten(factors, count);
	while (!how->kernels->convert.ready(cast))
		cast->factors--;
	for (size_t i = 0; cast->factors == SD_POWERS && i < count; i++)
		factors->brief[i] = (uint16_t)(factors->brief[i] - SD_POWER_ONE);
	return cast->factors == SD_FLOATS ? (const void *)factors->by : factors->brief;
}

/* Blocks that count elements, the first of which is number a of its lane, lie in. */
static size_t blocks_of(const struct sd_lane *lane, uint64_t a, size_t count)
{
	size_t first = scaled_alike(lane, a, count);

	return first == count ? 1 : 1 + (size_t)((count - first - 1) / lane->block + 1);
}

/* The scales of nb rows of a piece, from b on, for so many blocks, the first of which has element a: a row's one after
 * another or, turned, a block's. */
static void load_scales(const struct sd_tile_how *how, const struct sd_tile *piece, uint64_t a, size_t blocks,
			uint64_t b, size_t nb, bool turned, float by[SD_TILE_FACTORS])
{
	const struct sd_transpose *plan = how->plan;
	const uint64_t begin = piece->scale + sd_lane_scale(&plan->a, piece->a + a);
	const size_t size = sd_element_size(plan->scale_dtype), count = blocks * nb;
	uint8_t *rows = how->scratch->rows, *columns = how->scratch->columns;

	for (size_t i = 0; i < nb; i++)
		copy_strided((const uint8_t *)how->scales + (begin + sd_lane_scale(&plan->b, piece->b + b + i)) * size,
			     plan->a.stride, rows + i * blocks * size, 1, size, blocks);
	if (turned)
		how->kernels->turn[sd_kernels_size((unsigned)size)](rows, blocks * size, columns, nb * size, blocks, nb,
								    false, NULL, NULL);
	for (size_t i = 0; i < count; i += SD_CONVERT_RUN)
		how->kernels->convert.decode((enum sd_dtype)plan->scale_dtype, (turned ? columns : rows) + i * size,
					     (size_t)least(SD_CONVERT_RUN, count - i), &by[i]);
}

/* Casts a row; past the caches, if that is wished for, where it begins at a line. */
static void go(struct sd_cast *cast, const uint8_t *source, uint8_t *target)
{
	bool wish = cast->streaming;

	cast->streaming = wish && (uintptr_t)target % SD_LINE == 0;
	cast->go(cast, source, target);
	cast->streaming = wish;
}

/* Multiplied in a table, this many elements make up for it. */
#define OFTEN 2048
/* Blocks that are cast side by side, row by row: two rows at a time in short runs have half the speed, a block at a
 * time a fifth. */
#define SIDE_BLOCKS 16

/* Rows by blocks that have a scale each, and are large. */
static bool cast_blocks(const struct sd_tile_how *how, const struct sd_tile *piece, const struct sd_cast *like,
			const uint8_t *source, uint8_t *target)
{
	const struct sd_transpose *plan = how->plan;
	struct sd_cast casts[SIDE_BLOCKS];
	uint64_t rows, end;

	for (uint64_t b = 0; b < piece->nb; b += rows) {
		rows = scaled_alike(&plan->b, piece->b + b, piece->nb - b);
		for (uint64_t a = 0; a < piece->na; a = end) {
			size_t blocks = 0;

			for (end = a; end < piece->na && blocks < SIDE_BLOCKS; blocks++) {
				struct sd_cast *cast = &casts[blocks];

				*cast = *like;
				cast->count = scaled_alike(&plan->a, piece->a + end, piece->na - end);
				cast->by = cast->scaled ? scale_of(how, piece, end, b) : 1;
				if (!how->kernels->convert.ready(cast))
					return false;
				end += cast->count;
			}
			for (uint64_t r = b; r < b + rows; r++) {
				const uint8_t *from = source + r * like->source_step + bytes_of(plan, a);
				uint8_t *to = target + r * like->target_step + a * plan->target_size;

				for (size_t i = 0; i < blocks; i++) {
					go(&casts[i], from, to);
					from += bytes_of(plan, casts[i].count);
					to += casts[i].count * plan->target_size;
				}
			}
		}
	}
	return true;
}

/* log2 of the elements of a lane's blocks from number a on; 0 where they are no such blocks as sd_cast has. */
static unsigned shared_by(const struct sd_lane *lane, uint64_t a)
{
	bool suits =
		lane->block >= 32 && (lane->block & (lane->block - 1)) == 0 && (lane->begin + a) % lane->block == 0;
	unsigned shared = 0;

	while (suits && lane->block >> shared > 1)
		shared++;
	return shared;
}

/* Rows by blocks of few elements. */
static bool cast_each(const struct sd_tile_how *how, const struct sd_tile *piece, struct sd_cast *cast,
		      const uint8_t *source, uint8_t *target)
{
	const struct sd_transpose *plan = how->plan;
	const size_t most = (size_t)least(blocks_of(&plan->a, piece->a, piece->na), SD_TILE_FACTORS);
	struct sd_tile_factors *factors = &how->scratch->factors;
	size_t rows;

	for (uint64_t b = 0; b < piece->nb; b += rows) {
		rows = (size_t)least(SD_TILE_FACTORS / most, piece->nb - b);
		for (uint64_t a = 0; a < piece->na; a += cast->count) {
			const uint8_t *each;
			size_t blocks;

			cast->count = (size_t)least(most << cast->shared, piece->na - a);
			blocks = blocks_of(&plan->a, piece->a + a, cast->count);
			load_scales(how, piece, a, blocks, b, rows, false, factors->by);
			each = take_factors(how, factors, blocks * rows, cast);
			for (uint64_t i = b; i < b + rows; i++, each += blocks * sd_factor_size(cast)) {
				cast->each = each;
				go(cast, source + i * cast->source_step + bytes_of(plan, a),
				   target + i * cast->target_step + a * plan->target_size);
			}
		}
	}
	return true;
}

/* All of a piece to rows that are target_step bytes apart, in one go, if these dtypes can be. */
static bool cast_at_once(const struct sd_tile_how *how, const struct sd_tile *piece, uint8_t *target,
			 size_t target_step, bool streaming)
{
	const struct sd_transpose *plan = how->plan;
	const uint8_t *source = sd_transpose_source(plan, piece->source, piece->from);
	uint64_t across = plan->a.stride == 0 ? piece->na : least(piece->na, plan->a.block);
	uint64_t down = plan->b.stride == 0 ? piece->nb : least(piece->nb, plan->b.block);
	bool alike = scaled_alike(&plan->a, piece->a, piece->na) == piece->na;
	struct sd_cast cast;

	if (!has_rows(plan, piece) || !begin_cast(how, &cast))
		return false;
	cast.often = across * down >= OFTEN;
	cast.source_step = bytes_of(plan, plan->b.from);
	cast.target_step = target_step;
	cast.streaming = streaming;
	cast.rows = 1;
	cast.shared = shared_by(&plan->a, piece->a);
	if (!alike && !cast.often && cast.shared > 0)
		return cast_each(how, piece, &cast, source, target);
	return (alike || !sd_is_code(plan->source_dtype)) && cast_blocks(how, piece, &cast, source, target);
}

/* Rows: nothing to turn. */
static void do_rows(const struct sd_tile_how *how, const struct sd_tile *piece)
{
	const struct sd_transpose *plan = how->plan;

	if (plan->a.to == 1 && cast_at_once(how, piece, piece->target, plan->b.to * plan->target_size, how->streaming))
		return;
	for (uint64_t b = 0; b < piece->nb; b++) {
		uint64_t from = piece->from + b * plan->b.from;
		uint8_t *target = piece->target + b * plan->b.to * plan->target_size;
		uint64_t scale = piece->scale + sd_lane_scale(&plan->b, piece->b + b);

		if (plan->bytes && plan->a.from == 1 && plan->a.to == 1) {
			memcpy(target, sd_transpose_source(plan, piece->source, from), piece->na * plan->source_size);
			continue;
		}
		for (uint64_t a = 0; a < piece->na; a += SD_CONVERT_RUN) {
			size_t count = (size_t)least(SD_CONVERT_RUN, piece->na - a);
			uint8_t run[SD_CONVERT_RUN * 8];
			uint8_t *at = target + a * plan->a.to * plan->target_size;
			bool direct = plan->a.to == 1;

			load_run(how, piece->source, from + a * plan->a.from, piece->a + a, scale, count,
				 direct ? at : run);
			if (!direct)
				copy_strided(run, 1, at, plan->a.to, plan->target_size, count);
		}
	}
}

/* Of a tile's source, what is asked for and cast at a time: more requests at once than memory takes would be lost. */
#define LOAD_BYTES 1024

/* A tile goes through memory of its own where it is cast, or where a side has gaps between its elements. */
static void do_tile(const struct sd_tile_how *how, const struct sd_tile *piece, struct sd_ahead *ahead)
{
	const struct sd_transpose *plan = how->plan;
	uint8_t *tile = how->scratch->tile;
	size_t size = plan->target_size, row = SD_CONVERT_RUN * size, line = SD_CONVERT_RUN * plan->source_size;
	struct sd_tile rows = *piece;

	for (uint64_t b = 0; b < piece->nb; b += rows.nb) {
		rows.from = piece->from + b * plan->b.from;
		rows.b = piece->b + b;
		rows.nb = least(LOAD_BYTES / line, piece->nb - b);
		sd_ahead_ask(ahead, (rows.nb * line + SD_LINE - 1) / SD_LINE);
		if (cast_at_once(how, &rows, tile + b * row, row, false))
			continue;
		for (uint64_t r = 0; r < rows.nb; r++)
			load_run(how, piece->source, rows.from + r * plan->b.from, piece->a,
				 piece->scale + sd_lane_scale(&plan->b, rows.b + r), piece->na, tile + (b + r) * row);
	}
	if (plan->b.to == 1) {
		how->kernels->turn[sd_kernels_size(plan->target_size)](
			tile, row, piece->target, plan->a.to * size, piece->na, piece->nb, how->streaming, NULL, NULL);
		return;
	}
	for (uint64_t a = 0; a < piece->na; a++)
		for (uint64_t b = 0; b < piece->nb; b++)
			memcpy(piece->target + (a * plan->a.to + b * plan->b.to) * size, tile + b * row + a * size,
			       size);
}

static void do_tiles(const struct sd_tile_how *how, const struct sd_tile *piece)
{
	const struct sd_transpose *plan = how->plan;
	size_t step = plan->b.from * plan->source_size;

	for (uint64_t b = 0; b < piece->nb; b += SD_TILE_ROWS) {
		const uint8_t *next = b + SD_TILE_ROWS < piece->nb
					      ? sd_transpose_source(plan, piece->source,
								    piece->from + (b + SD_TILE_ROWS) * plan->b.from)
					      : piece->after;
		bool asks = plan->a.from == 1 && !sd_is_code(plan->source_dtype);
		struct sd_ahead ahead = {asks ? next : NULL, step, piece->na * plan->source_size, 0};

		for (uint64_t a = 0; a < piece->na; a += SD_CONVERT_RUN) {
			struct sd_tile tile = {
				.source = piece->source,
				.from = piece->from + a * plan->a.from + b * plan->b.from,
				.target = piece->target + (a * plan->a.to + b * plan->b.to) * plan->target_size,
				.scale = piece->scale,
				.a = piece->a + a,
				.b = piece->b + b,
				.na = least(SD_CONVERT_RUN, piece->na - a),
				.nb = least(SD_TILE_ROWS, piece->nb - b),
			};

			do_tile(how, &tile, &ahead);
		}
	}
}

/* Whether each count elements from a on, for all a that are whole multiples of them, have one scale. */
static bool scaled_alike_by(const struct sd_lane *lane, uint64_t a, uint64_t count)
{
	return lane->stride == 0 || (lane->block % count == 0 && (lane->begin + a) % count == 0);
}

/* Lines of a source row that are turned and cast at a time by scales of whole tiles. */
#define CAST_LINES 64

/* na elements from a on of nb rows from b on; casts has what it takes for these. */
static void turn_part(const struct sd_tile_how *how, const struct sd_tile *piece, const struct sd_turn_cast *casts,
		      uint64_t a, uint64_t na, uint64_t b, uint64_t nb)
{
	const struct sd_transpose *plan = how->plan;
	const size_t step = bytes_of(plan, plan->b.from), target_step = plan->a.to * plan->target_size;
	const uint8_t *from = sd_transpose_source(plan, piece->source, piece->from) + b * step + bytes_of(plan, a);

	how->kernels->turn[sd_kernels_size(plan->source_size)](
		from, step, piece->target + a * target_step + b * plan->target_size, target_step,
		bytes_of(plan, na) / plan->source_size, nb, how->streaming,
		b + nb < piece->nb ? from + nb * step : piece->after, casts);
}

/* Turns by scales for whole tiles. */
static void turn_by_tiles(const struct sd_tile_how *how, const struct sd_tile *piece, struct sd_turn_cast *casts,
			  size_t line)
{
	const struct sd_transpose *plan = how->plan;
	float by[CAST_LINES];
	uint64_t na, nb;

	casts->cast.often = true;
	casts->by = casts->cast.scaled ? by : NULL;
	for (uint64_t b = 0; b < piece->nb; b += nb) {
		nb = scaled_alike(&plan->b, piece->b + b, piece->nb - b);
		for (uint64_t a = 0; a < piece->na; a += na) {
			na = least(CAST_LINES * line, piece->na - a);
			for (uint64_t i = 0; casts->by && i < na; i += line)
				by[i / line] = scale_of(how, piece, a + i, b);
			turn_part(how, piece, casts, a, na, b, nb);
		}
	}
}

/* Turns by scales that each row has for itself. */
static void turn_by_rows(const struct sd_tile_how *how, const struct sd_tile *piece, struct sd_turn_cast *casts,
			 size_t line)
{
	const struct sd_lane *lane = &how->plan->a;
	const uint64_t block = lane->stride == 0 ? piece->na : lane->block;
	/* Blocks at a time, and elements of a row that surely have no more: blocks may be as small as a share. */
	const uint64_t most_blocks = least((piece->na - 1) / block + 2, SD_TILE_BLOCKS);
	const uint64_t most = most_blocks < SD_TILE_BLOCKS ? piece->na : (SD_TILE_BLOCKS - 1) * block / line * line;
	struct sd_tile_factors *factors = &how->scratch->factors;
	uint64_t na, nb;

	casts->block = block;
	for (uint64_t b = 0; b < piece->nb; b += nb) {
		nb = least(SD_TILE_FACTORS / most_blocks / SD_TILE_ROWS * SD_TILE_ROWS, piece->nb - b);
		for (uint64_t a = 0; a < piece->na; a += na) {
			size_t blocks;

			na = least(most, piece->na - a);
			blocks = blocks_of(lane, piece->a + a, na);
			load_scales(how, piece, a, blocks, b, nb, true, factors->by);
			casts->each = take_factors(how, factors, blocks * nb, &casts->cast);
			casts->step = nb;
			casts->begin = lane->stride == 0 ? 0 : (lane->begin + piece->a + a) % block;
			turn_part(how, piece, casts, a, na, b, nb);
		}
	}
}

/* Turns what lies close on both sides and casts it meanwhile, where there are scales for whole tiles, or for rows. */
static bool turn_and_cast(const struct sd_tile_how *how, const struct sd_tile *piece)
{
	const struct sd_transpose *plan = how->plan;
	const uint64_t halves = sd_is_code(plan->source_dtype) ? 2 : 1;
	const size_t line = SD_LINE / plan->source_size * halves, share = SD_SHARE(plan->source_size) * halves;
	struct sd_turn_cast casts = {.ready = how->kernels->convert.ready};

	if (!has_rows(plan, piece) || piece->na % halves != 0 || !begin_cast(how, &casts.cast))
		return false;
	casts.cast.pairs = halves == 2;
	if (scaled_alike_by(&plan->a, piece->a, line) && scaled_alike_by(&plan->b, piece->b, SD_TILE_ROWS))
		turn_by_tiles(how, piece, &casts, line);
	else if (scaled_alike_by(&plan->a, piece->a, share))
		turn_by_rows(how, piece, &casts, line);
	else
		return false;
	return true;
}

/* False if it has to be done by tiles. */
static bool turn_at_once(const struct sd_tile_how *how, const struct sd_tile *piece)
{
	const struct sd_transpose *plan = how->plan;

	if (plan->a.from != 1 || plan->b.to != 1)
		return false;
	if (!plan->bytes)
		return turn_and_cast(how, piece);
	how->kernels->turn[sd_kernels_size(plan->source_size)](
		sd_transpose_source(plan, piece->source, piece->from), plan->b.from * plan->source_size, piece->target,
		plan->a.to * plan->target_size, piece->na, piece->nb, how->streaming, piece->after, NULL);
	return true;
}

void sd_tile_do(const struct sd_tile_how *how, const struct sd_tile *piece)
{
	if (how->plan->rows)
		do_rows(how, piece);
	else if (!turn_at_once(how, piece))
		do_tiles(how, piece);
}
