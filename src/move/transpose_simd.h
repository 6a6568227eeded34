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
 *
 * A tile is a line of each row by two lines of the target: single lines far apart are written past the caches at half
 * the speed of pairs. It is copied first, row by row, because rows of 4 KiB apart fight for the same few places of the
 * cache; vectors then hold the same 16 bytes of far rows in their lanes, and 16 / size rows interleaved with one
 * another log2(16 / size) times are turned. So each output line is written whole and at once.
 *
 * For each line that is written, one of the next tile is copied and one of the next band of rows is asked for, in
 * address order. Memory answers some twenty requests of a core at a time, and more that come in one go are dropped or
 * make all wait: spread out like this they are worth a fifth of the speed.
 */
#define VECTOR_SIZE (16 * LANES)

/* How many lines a band has that begins at b: two, or what is left. */
static inline size_t lines_at(size_t b, size_t nb, size_t line)
{
	return b >= nb ? 0 : b + line < nb ? 2 : 1;
}

/*
 * By 16 bytes, and volatile so that it stays so: moves of 32 and 64 bytes, from lines that are only just arriving, cost
 * a tenth to a fifth of the speed.
 */
ISA static inline void copy_lines(uint8_t to[][SD_LINE], const uint8_t *from, size_t step, size_t lines)
{
	typedef uint8_t piece __attribute__((vector_size(16), aligned(1), may_alias));

	_Pragma("GCC unroll 16") for (size_t i = 0; i < lines; i++, from += step)
	{
		const volatile piece *read = (const void *)from;
		piece *write = (void *)to[i];

		write[0] = read[0];
		write[1] = read[1];
		write[2] = read[2];
		write[3] = read[3];
	}
}

/* Turns 16 / size columns of a line's worth of rows, step bytes apart, into as many lines. */
#define TURN_PIECES(bits, size)                                                                                        \
	ISA static inline __attribute__((always_inline)) void turn_pieces##size(                                       \
		const uint8_t *source, size_t step, uint8_t *target, size_t target_step, bool streaming)               \
	{                                                                                                              \
		enum { rows = 16 / size, parts = SD_LINE / VECTOR_SIZE };                                              \
		VECTOR line[parts][rows], next[rows];                                                                  \
                                                                                                                       \
		_Pragma("GCC unroll 4") for (int p = 0; p < parts; p++)                                                \
		{                                                                                                      \
			_Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) line[p][r] =                           \
				load_pieces(source + (size_t)(p * rows * LANES + r) * step, rows * step);              \
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
		{                                                                                                      \
			uint8_t *at = target + (size_t)r * target_step + p * VECTOR_SIZE;                              \
                                                                                                                       \
			if (streaming)                                                                                 \
				STREAM(at, line[p][r]);                                                                \
			else                                                                                           \
				STORE(at, line[p][r]);                                                                 \
		}                                                                                                      \
	}

TURN_PIECES(8, 1)
TURN_PIECES(16, 2)
TURN_PIECES(32, 4)
TURN_PIECES(64, 8)

#define ALWAYS ISA static inline __attribute__((always_inline))

ALWAYS void turn_pieces(size_t size, const uint8_t *source, size_t step, uint8_t *target, size_t target_step,
			bool streaming)
{
	if (size == 1)
		turn_pieces1(source, step, target, target_step, streaming);
	else if (size == 2)
		turn_pieces2(source, step, target, target_step, streaming);
	else if (size == 4)
		turn_pieces4(source, step, target, target_step, streaming);
	else
		turn_pieces8(source, step, target, target_step, streaming);
}

/* Whole lines each way of rows that lie close together in the cache already. */
ALWAYS void turn_close(size_t size, const uint8_t *source, size_t step, uint8_t *target, size_t target_step, size_t na,
		       size_t nb, bool streaming)
{
	const size_t line = SD_LINE / size, share = 16 / size;

	for (size_t b = 0; b < nb; b += 2 * line)
		for (size_t a = 0; a < na; a += share)
			for (size_t at = b; at < nb && at < b + 2 * line; at += line)
				turn_pieces(size, source + at * step + a * size, step,
					    target + a * target_step + at * size, target_step, streaming);
}

/* Whole lines each way of rows from anywhere. */
ALWAYS void turn_far(size_t size, const uint8_t *source, size_t step, uint8_t *target, size_t target_step, size_t na,
		     size_t nb, bool streaming, const uint8_t *after)
{
	const size_t line = SD_LINE / size, share = 16 / size;
	_Alignas(SD_LINE) uint8_t tiles[2][2 * SD_LINE][SD_LINE]; /* rows enough for single bytes */
	int now = 0;

	copy_lines(tiles[now], source, step, lines_at(0, nb, line) * line);
	for (size_t b = 0; b < nb; b += 2 * line) {
		const uint8_t *band = source + b * step, *next_band = band + 2 * line * step;
		size_t lines = lines_at(b, nb, line), next_lines = lines_at(b + 2 * line, nb, line);
		struct sd_ahead ahead = {next_lines > 0 ? next_band : after, step, na * size, 0};

		for (size_t a = 0; a < na; a += line, now = !now) {
			bool last = a + line == na;
			const uint8_t *next = last ? next_band : band + (a + line) * size;
			size_t copied = 0, to_copy = (last ? next_lines : lines) * line;

			for (size_t column = 0; column < SD_LINE; column += 16)
				for (size_t at = 0; at < lines; at++) {
					sd_ahead_ask(&ahead, share);
					if (copied < to_copy)
						copy_lines(&tiles[!now][copied], next + copied * step, step, share);
					copied += share;
					turn_pieces(size, &tiles[now][at * line][column], SD_LINE,
						    target + (a + column / size) * target_step + b * size +
							    at * SD_LINE,
						    target_step, streaming);
				}
		}
	}
}

ALWAYS void turn(size_t size, const uint8_t *source, size_t step, uint8_t *target, size_t target_step, size_t na,
		 size_t nb, bool streaming, const uint8_t *after)
{
	const size_t line = SD_LINE / size;
	sd_turn *plain = sd_kernels_plain.turn[sd_kernels_size((unsigned)size)];
	size_t ragged = (SD_LINE - (uintptr_t)target % SD_LINE) / size % line;
	size_t whole_a = na / line * line, whole_b;

	streaming = streaming && target_step % SD_LINE == 0 && (uintptr_t)target % size == 0;
	if (streaming && ragged > 0) {
		ragged = ragged < nb ? ragged : nb;
		plain(source, step, target, target_step, na, ragged, false, NULL);
		source += ragged * step;
		target += ragged * size;
		nb -= ragged;
	}
	whole_b = whole_a > 0 ? nb / line * line : 0;
	if (step == SD_TURN_CLOSE * size)
		turn_close(size, source, SD_TURN_CLOSE * size, target, target_step, whole_a, whole_b, streaming);
	else
		turn_far(size, source, step, target, target_step, whole_a, whole_b, streaming, after);
	plain(source + whole_a * size, step, target + whole_a * target_step, target_step, na - whole_a, nb, false,
	      NULL);
	plain(source + whole_b * step, step, target + whole_b * size, target_step, whole_a, nb - whole_b, false, NULL);
}

#define TURN(size)                                                                                                     \
	ISA static void turn##size(const uint8_t *source, size_t source_step, uint8_t *target, size_t target_step,     \
				   size_t na, size_t nb, bool streaming, const uint8_t *after)                         \
	{                                                                                                              \
		turn(size, source, source_step, target, target_step, na, nb, streaming, after);                        \
	}

TURN(1)
TURN(2)
TURN(4)
TURN(8)

static void end(void)
{
	FENCE;
}
