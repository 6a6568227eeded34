/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of one instruction set, included once by each, which defines before:
 *     ISA           the attribute that lets a function use it
 *     VECTOR        its vector, of LANES pieces of 16 bytes
 *     load_pieces   makes one of pieces that lie a distance apart
 *     LO_n, HI_n    interleave the low and the high halves of two vectors, n bits at a time, in each lane
 *     STORE         at any address
 *     STREAM        at a multiple of the vector's size and, where there is such a thing, past the caches
 *     FENCE         makes what was streamed visible to others
 *     CAST_ROWS     rows of a tile of two bytes and more that is cast: with 128 instead of 64, AVX loses a tenth; a
 *                   decode wants as many as it has elements
 *
 * A tile is a line of each row by two lines of the target: single lines far apart are written past the caches at half
 * the speed of pairs. It is copied first, row by row, because rows of 4 KiB apart fight for the same few places of the
 * cache; vectors then hold the same 16 bytes of far rows in their lanes, and 16 / size rows interleaved with one
 * another log2(16 / size) times are turned. So each output line is written whole and at once. Single bytes are copied
 * two rows into one, as elements of two bytes: sixteen rows would take all the registers that AVX2 has, and more.
 *
 * What is to be cast is turned as it is in the source, a column of the tile at a time, to where it stays in the cache,
 * and cast from there to the target: that costs a store and a load of a few bytes, but a cast knows nothing of turning.
 *
 * For each line that is written, one of the next tile is copied and one of the next band of rows is asked for, in
 * address order. Memory answers some twenty requests of a core at a time, and more that come in one go are dropped or
 * make all wait: spread out like this they are worth a fifth of the speed.
 */
#define VECTOR_SIZE (16 * LANES)

#define ALWAYS ISA static inline __attribute__((always_inline))

ALWAYS void put(uint8_t *at, VECTOR vector, bool streaming)
{
	if (streaming)
		STREAM(at, vector);
	else
		STORE(at, vector);
}

/* How many lines a band has that begins at b: most of them, or what is left. */
static inline size_t lines_at(size_t b, size_t nb, size_t line, size_t most)
{
	return b >= nb ? 0 : b + most * line < nb ? most : (nb - b) / line;
}

typedef uint8_t piece __attribute__((vector_size(16), aligned(1), may_alias));

/* Bytes of two pieces in turn: the lower or the upper half. */
ALWAYS piece zip(piece a, piece b, bool upper)
{
#define BOTH(i) (i), (i) + 16
#define ALL(i)                                                                                                         \
	BOTH(i), BOTH((i) + 1), BOTH((i) + 2), BOTH((i) + 3), BOTH((i) + 4), BOTH((i) + 5), BOTH((i) + 6), BOTH((i) + 7)
#ifdef __clang__
	return upper ? __builtin_shufflevector(a, b, ALL(8)) : __builtin_shufflevector(a, b, ALL(0));
#else
	return upper ? __builtin_shuffle(a, b, (piece){ALL(8)}) : __builtin_shuffle(a, b, (piece){ALL(0)});
#endif
}

/*
 * Copies a line of each row; of single bytes, of each pair of rows to two lines, their bytes in turn, which then are
 * elements of two bytes. By 16 bytes, and volatile so that it stays so: moves of 32 and 64 bytes, from lines that are
 * only just arriving, cost a tenth to a fifth of the speed.
 */
ALWAYS void copy_lines(size_t size, uint8_t *to, const uint8_t *from, size_t step, size_t lines)
{
	piece *write = (void *)to;

	_Pragma("GCC unroll 16") for (size_t i = 0; i < lines; i += size == 1 ? 2 : 1)
	{
		const volatile piece *read = (const void *)from, *other = (const void *)(from += step);

		if (size == 1)
			from += step;
		_Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) if (size == 1)
		{
			piece a = read[k], b = other[k];

			*write++ = zip(a, b, false);
			*write++ = zip(a, b, true);
		}
		else *write++ = read[k];
	}
}

/* Turns a column of 16 bytes, in elements of so many bits, of the rows of a tile that make a line. */
#define TURN_PIECES(size, bits, tile_step)                                                                             \
	ALWAYS void turn_pieces##size(const uint8_t *tile, uint8_t *target, size_t target_step, bool streaming)        \
	{                                                                                                              \
		enum { rows = 128 / bits, parts = SD_LINE / VECTOR_SIZE };                                             \
		VECTOR line[parts][rows], next[rows];                                                                  \
                                                                                                                       \
		_Pragma("GCC unroll 4") for (int p = 0; p < parts; p++)                                                \
		{                                                                                                      \
			_Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) line[p][r] =                           \
				load_pieces(tile + (p * rows * LANES + r) * tile_step, rows * tile_step);              \
			_Pragma("GCC unroll 4") for (int done = 1; done < rows; done *= 2)                             \
			{                                                                                              \
				_Pragma("GCC unroll 8") for (int r = 0; r < rows / 2; r++)                             \
				{                                                                                      \
					next[2 * r] = LO_##bits(line[p][r], line[p][r + rows / 2]);                    \
					next[2 * r + 1] = HI_##bits(line[p][r], line[p][r + rows / 2]);                \
				}                                                                                      \
				_Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) line[p][r] = next[r];          \
			}                                                                                              \
		}                                                                                                      \
		_Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)                                                \
			_Pragma("GCC unroll 4") for (int p = 0; p < parts; p++)                                        \
				put(target + (size_t)r * target_step + p * VECTOR_SIZE, line[p][r], streaming);        \
	}

TURN_PIECES(1, 16, 2 * SD_LINE)
TURN_PIECES(2, 16, SD_LINE)
TURN_PIECES(4, 32, SD_LINE)
TURN_PIECES(8, 64, SD_LINE)

ALWAYS void turn_pieces(size_t size, const uint8_t *tile, uint8_t *target, size_t target_step, bool streaming)
{
	if (size == 1)
		turn_pieces1(tile, target, target_step, streaming);
	else if (size == 2)
		turn_pieces2(tile, target, target_step, streaming);
	else if (size == 4)
		turn_pieces4(tile, target, target_step, streaming);
	else
		turn_pieces8(tile, target, target_step, streaming);
}

/* Whole lines each way, of rows from number b on. */
ALWAYS void turn_whole(size_t size, const uint8_t *source, size_t step, uint8_t *target, size_t target_step, size_t na,
		       size_t b, size_t nb, bool streaming, const uint8_t *after, const struct sd_turn_cast *casts)
{
	/* Elements of a line; bytes of one in the tile, of its rows, and how many columns are turned together. */
	const size_t line = SD_LINE / size, unit = size == 1 ? 2 : size;
	const size_t tile_step = SD_LINE * unit / size, share = 16 / unit, per = sd_turn_cast_rows(casts);
	const size_t most = casts && CAST_ROWS / line > 2 ? CAST_ROWS / line : 2,
		     to_size = casts ? sd_dtype_size(casts->cast.to) : size;
	_Alignas(SD_LINE) uint8_t tiles[2][2 * SD_LINE * SD_LINE]; /* rows enough for single bytes */
	_Alignas(SD_LINE) uint8_t turned[16 * SD_CONVERT_RUN];
	struct sd_cast cast;
	int now = 0;

	if (casts) {
		cast = casts->cast;
		cast.source_step = most * SD_LINE;
		cast.target_step = target_step;
		cast.rows = share;
		cast.streaming = streaming;
		cast.by = casts->by ? casts->by[0] : 1;
		casts->ready(&cast);
	}
	copy_lines(size, tiles[now], source + b * step, step, lines_at(b, nb, line, most) * line);
	for (; b < nb; b += most * line) {
		const uint8_t *band = source + b * step, *next_band = band + most * line * step;
		size_t lines = lines_at(b, nb, line, most), next_lines = lines_at(b + most * line, nb, line, most);
		struct sd_ahead ahead = {next_lines > 0 ? next_band : after, step, na * size, 0};

		for (size_t a = 0; a < na; a += line, now = !now) {
			bool last = a + line == na;
			const uint8_t *next = last ? next_band : band + (a + line) * size;
			size_t copied = 0, to_copy = (last ? next_lines : lines) * line;

			if (casts && casts->by && memcmp(&casts->by[a / line], &cast.by, sizeof(cast.by)) != 0) {
				cast.by = casts->by[a / line];
				casts->ready(&cast);
			}
			cast.count = lines * line;
			for (size_t column = 0; column < tile_step; column += 16) {
				uint8_t *to = target + (a + column / unit) * per * target_step + b * to_size;

				for (size_t at = 0; at < lines; at++) {
					sd_ahead_ask(&ahead, share);
					if (copied < to_copy)
						copy_lines(size, &tiles[!now][copied * SD_LINE], next + copied * step,
							   step, share);
					copied += share;
					turn_pieces(size, &tiles[now][at * line * SD_LINE + column],
						    (casts ? turned : to) + at * SD_LINE,
						    casts ? most * SD_LINE : target_step, !casts && streaming);
				}
				if (casts && casts->each)
					cast.each = sd_turn_cast_each(casts, (a + column / unit) * per, b);
				if (casts)
					cast.go(&cast, turned, to);
			}
		}
	}
}

/* The edges: plainly, and casts by way of memory of their own. From element a and b on. */
static void turn_edge(size_t size, const uint8_t *source, size_t step, uint8_t *target, size_t target_step, size_t a,
		      size_t na, size_t b, size_t nb, const struct sd_turn_cast *casts)
{
	sd_turn *plain = sd_kernels_plain.turn[sd_kernels_size((unsigned)size)];
	const size_t line = SD_LINE / size, share = SD_SHARE(size), first = b, per = sd_turn_cast_rows(casts);
	uint8_t turned[SD_LINE * SD_LINE];

	if (!casts) {
		plain(source + b * step + a * size, step, target + a * target_step + b * size, target_step, na - a,
		      nb - b, false, NULL, NULL);
		return;
	}
	for (; a < na; a += line) {
		struct sd_cast cast = casts->cast;

		cast.source_step = SD_LINE;
		cast.target_step = target_step;
		cast.by = casts->by ? casts->by[a / line] : 1;
		casts->ready(&cast);
		for (b = first; b < nb; b += line) {
			size_t rows = na - a < line ? na - a : line;

			cast.count = nb - b < line ? nb - b : line;
			plain(source + b * step + a * size, step, turned, SD_LINE, rows, cast.count, false, NULL, NULL);
			for (size_t row = 0; row < rows; row += share) {
				cast.rows = rows - row < share ? rows - row : share;
				if (casts->each)
					cast.each = sd_turn_cast_each(casts, (a + row) * per, b);
				cast.go(&cast, turned + row * SD_LINE,
					target + (a + row) * per * target_step + b * sd_dtype_size(cast.to));
			}
		}
	}
}

ALWAYS void turn(size_t size, const uint8_t *source, size_t step, uint8_t *target, size_t target_step, size_t na,
		 size_t nb, bool streaming, const uint8_t *after, const struct sd_turn_cast *casts)
{
	const size_t line = SD_LINE / size, to_size = casts ? sd_dtype_size(casts->cast.to) : size;
	size_t ragged = (SD_LINE - (uintptr_t)target % SD_LINE) / to_size % (SD_LINE / to_size);
	size_t whole_a = na / line * line, whole_b;

	streaming = streaming && target_step % SD_LINE == 0 && (uintptr_t)target % to_size == 0;
	ragged = !streaming ? 0 : ragged < nb ? ragged : nb;
	whole_b = whole_a > 0 ? ragged + (nb - ragged) / line * line : ragged;
	turn_edge(size, source, step, target, target_step, 0, na, 0, ragged, casts);
	if (casts)
		turn_whole(size, source, step, target, target_step, whole_a, ragged, whole_b, streaming, after, casts);
	else
		turn_whole(size, source, step, target, target_step, whole_a, ragged, whole_b, streaming, after, NULL);
	turn_edge(size, source, step, target, target_step, whole_a, na, ragged, nb, casts);
	turn_edge(size, source, step, target, target_step, 0, whole_a, whole_b, nb, casts);
}

#define TURN(size)                                                                                                     \
	ISA static void turn##size(const uint8_t *source, size_t source_step, uint8_t *target, size_t target_step,     \
				   size_t na, size_t nb, bool streaming, const uint8_t *after,                         \
				   const struct sd_turn_cast *casts)                                                   \
	{                                                                                                              \
		turn(size, source, source_step, target, target_step, na, nb, streaming, after, casts);                 \
	}

TURN(1)
TURN(2)
TURN(4)
TURN(8)

static void end(void)
{
	FENCE;
}
