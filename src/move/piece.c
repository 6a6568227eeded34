/* SPDX-License-Identifier: Apache-2.0 */
/* What a thread of the CPU device does: it copies rows, turns tiles, and casts and scales elements on the way. */
#include "move/piece.h"

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint32_t scale_at(const struct sd_piece_how *how, uint64_t index)
{
	const uint8_t *data = how->scales;
	uint16_t half;
	uint32_t word;

	if (how->plan->scale_dtype == SD_F32) {
		memcpy(&word, data + index * sizeof(word), sizeof(word));
		return word;
	}
	memcpy(&half, data + index * sizeof(half), sizeof(half));
	return sd_element_decode(how->plan->scale_dtype, half);
}

/* Multiplies count values, of which the first is number a of its lane, by their scales. */
static void scale_values(const struct sd_piece_how *how, uint64_t a, uint64_t scale, size_t count,
			 float values[SD_CONVERT_RUN])
{
	const struct sd_lane *lane = &how->plan->a;

	for (size_t i = 0; i < count;) {
		uint64_t left = lane->stride == 0 ? count : lane->block - (lane->begin + a + i) % lane->block;
		size_t end = i + (size_t)least(left, count - i);
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
static void cast_run(const struct sd_piece_how *how, const uint8_t *source, uint64_t a, uint64_t scale, size_t count,
		     uint8_t *out)
{
	float values[SD_CONVERT_RUN];

	how->kernels->convert.decode((enum sd_dtype)how->plan->source_dtype, source, count, values);
	if (how->plan->scale_dtype != SD_NO_DTYPE)
		scale_values(how, a, scale, count, values);
	how->kernels->convert.encode((enum sd_dtype)how->plan->target_dtype, values, out, count);
}

/* The same from a source row, whatever lies between its elements. */
static void load_run(const struct sd_piece_how *how, const uint8_t *source, uint64_t a, uint64_t scale, size_t count,
		     uint8_t *out)
{
	const struct sd_transpose *plan = how->plan;

	if (plan->bytes) {
		copy_strided(source, plan->a.from, out, 1, plan->source_size, count);
	} else if (plan->a.from == 1) {
		cast_run(how, source, a, scale, count, out);
	} else {
		uint8_t gathered[SD_CONVERT_RUN * 8];

		copy_strided(source, plan->a.from, gathered, 1, plan->source_size, count);
		cast_run(how, gathered, a, scale, count, out);
	}
}

/* Rows: nothing to turn. */
static void do_rows(const struct sd_piece_how *how, const struct sd_piece *piece)
{
	const struct sd_transpose *plan = how->plan;

	for (uint64_t b = 0; b < piece->nb; b++) {
		const uint8_t *source = piece->source + b * plan->b.from * plan->source_size;
		uint8_t *target = piece->target + b * plan->b.to * plan->target_size;
		uint64_t scale = piece->scale + sd_lane_scale(&plan->b, piece->b + b);

		if (plan->bytes && plan->a.from == 1 && plan->a.to == 1) {
			memcpy(target, source, piece->na * plan->source_size);
			continue;
		}
		for (uint64_t a = 0; a < piece->na; a += SD_CONVERT_RUN) {
			size_t count = (size_t)least(SD_CONVERT_RUN, piece->na - a);
			uint8_t run[SD_CONVERT_RUN * 8];
			uint8_t *at = target + a * plan->a.to * plan->target_size;
			bool direct = plan->a.to == 1;

			load_run(how, source + a * plan->a.from * plan->source_size, piece->a + a, scale, count,
				 direct ? at : run);
			if (!direct)
				copy_strided(run, 1, at, plan->a.to, plan->target_size, count);
		}
	}
}

/* Rows are far from one another: no machine guesses that the next tile's part of each is wanted next. */
static void ask_for(const uint8_t *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += SD_LINE)
		__builtin_prefetch(from + i);
}

/* A tile goes through memory of its own where it is cast, or where a side has gaps between its elements. */
static void do_tile(const struct sd_piece_how *how, const struct sd_piece *piece)
{
	const struct sd_transpose *plan = how->plan;
	_Alignas(SD_LINE) uint8_t tile[SD_PIECE_ROWS * SD_CONVERT_RUN * 8];
	size_t size = plan->target_size, row = SD_CONVERT_RUN * size;

	for (uint64_t b = 0; b < piece->nb; b++) {
		const uint8_t *source = piece->source + b * plan->b.from * plan->source_size;

		ask_for(source + SD_CONVERT_RUN * plan->a.from * plan->source_size, SD_CONVERT_RUN * plan->source_size);
		load_run(how, source, piece->a, piece->scale + sd_lane_scale(&plan->b, piece->b + b), piece->na,
			 tile + b * row);
	}
	if (plan->b.to == 1) {
		how->kernels->turn[sd_kernels_size(plan->target_size)](tile, row, piece->target, plan->a.to * size,
								       piece->na, piece->nb, how->streaming, NULL);
		return;
	}
	for (uint64_t a = 0; a < piece->na; a++)
		for (uint64_t b = 0; b < piece->nb; b++)
			memcpy(piece->target + (a * plan->a.to + b * plan->b.to) * size, tile + b * row + a * size,
			       size);
}

static void do_tiles(const struct sd_piece_how *how, const struct sd_piece *piece)
{
	const struct sd_transpose *plan = how->plan;

	for (uint64_t b = 0; b < piece->nb; b += SD_PIECE_ROWS)
		for (uint64_t a = 0; a < piece->na; a += SD_CONVERT_RUN) {
			struct sd_piece tile = {
				.source = piece->source + (a * plan->a.from + b * plan->b.from) * plan->source_size,
				.target = piece->target + (a * plan->a.to + b * plan->b.to) * plan->target_size,
				.scale = piece->scale,
				.a = piece->a + a,
				.b = piece->b + b,
				.na = least(SD_CONVERT_RUN, piece->na - a),
				.nb = least(SD_PIECE_ROWS, piece->nb - b),
			};

			do_tile(how, &tile);
		}
}

void sd_piece_do(const struct sd_piece_how *how, const struct sd_piece *piece)
{
	const struct sd_transpose *plan = how->plan;

	if (plan->rows)
		do_rows(how, piece);
	else if (plan->bytes && plan->a.from == 1 && plan->b.to == 1)
		how->kernels->turn[sd_kernels_size(plan->target_size)](
			piece->source, plan->b.from * plan->source_size, piece->target, plan->a.to * plan->target_size,
			piece->na, piece->nb, how->streaming, piece->after);
	else
		do_tiles(how, piece);
}
