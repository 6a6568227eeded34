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
ISA static inline void copy_lines(uint8_t to[][SD_LINE], const uint8_t *from, size_t step, int lines)
{
	typedef uint8_t piece __attribute__((vector_size(16), aligned(1), may_alias));

	_Pragma("GCC unroll 16") for (int i = 0; i < lines; i++, from += step)
			_Pragma("GCC unroll 4") for (int at = 0; at < SD_LINE; at += 16) *
		(piece *)&to[i][at] = *(const volatile piece *)(from + at);
}

#define KERNEL(bits, size)                                                                                             \
	/* Turns 16 / size columns of a line's worth of rows of the tile into as many lines. */                        \
	ISA static inline void turn_pieces##size(const uint8_t(*tile)[SD_LINE], size_t column, uint8_t *target,        \
						 size_t target_step, bool streaming)                                   \
	{                                                                                                              \
		enum { rows = 16 / size, parts = SD_LINE / VECTOR_SIZE };                                              \
		VECTOR line[parts][rows], next[rows];                                                                  \
                                                                                                                       \
		_Pragma("GCC unroll 4") for (int p = 0; p < parts; p++)                                                \
		{                                                                                                      \
			_Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) line[p][r] =                           \
				load_pieces(&tile[p * rows * LANES + r][column], rows * SD_LINE);                      \
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
	}                                                                                                              \
                                                                                                                       \
	ISA static void turn##size(const uint8_t *source, size_t source_step, uint8_t *target, size_t target_step,     \
				   size_t na, size_t nb, bool streaming, const uint8_t *after)                         \
	{                                                                                                              \
		enum { line = SD_LINE / size, share = 16 / size };                                                     \
		_Alignas(SD_LINE) uint8_t tiles[2][2 * line][SD_LINE];                                                 \
		size_t ragged = (SD_LINE - (uintptr_t)target % SD_LINE) / size % line;                                 \
		size_t whole_a = na / line * line, whole_b;                                                            \
		int now = 0;                                                                                           \
                                                                                                                       \
		streaming = streaming && target_step % SD_LINE == 0 && (uintptr_t)target % size == 0;                  \
		if (streaming && ragged > 0) {                                                                         \
			ragged = ragged < nb ? ragged : nb;                                                            \
			sd_kernels_plain.turn[sd_kernels_size(size)](source, source_step, target, target_step, na,     \
								     ragged, false, NULL);                             \
			source += ragged * source_step;                                                                \
			target += ragged * size;                                                                       \
			nb -= ragged;                                                                                  \
		}                                                                                                      \
		whole_b = whole_a > 0 ? nb / line * line : 0;                                                          \
		copy_lines(tiles[now], source, source_step, (int)lines_at(0, whole_b, line) * line);                   \
		for (size_t b = 0; b < whole_b; b += 2 * line) {                                                       \
			const uint8_t *band = source + b * source_step, *next_band = band + 2 * line * source_step;    \
			size_t lines = lines_at(b, whole_b, line), next_lines = lines_at(b + 2 * line, whole_b, line); \
			struct sd_ahead ahead = {next_lines > 0 ? next_band : after, source_step, whole_a * size, 0};  \
                                                                                                                       \
			for (size_t a = 0; a < whole_a; a += line, now = !now) {                                       \
				bool last = a + line == whole_a;                                                       \
				const uint8_t *next = last ? next_band : band + (a + line) * size;                     \
				uint8_t(*to)[SD_LINE] = tiles[!now],                                                   \
				(*end)[SD_LINE] = to + (last ? next_lines : lines) * line;                             \
                                                                                                                       \
				for (size_t column = 0; column < SD_LINE; column += 16)                                \
					for (size_t at = 0; at < lines; at++) {                                        \
						sd_ahead_ask(&ahead, share);                                           \
						if (to < end) {                                                        \
							copy_lines(to, next, source_step, share);                      \
							to += share;                                                   \
							next += share * source_step;                                   \
						}                                                                      \
						turn_pieces##size((const uint8_t(*)[SD_LINE])tiles[now] + at * line,   \
								  column,                                              \
								  target + (a + column / size) * target_step +         \
									  b * size + at * SD_LINE,                     \
								  target_step, streaming);                             \
					}                                                                              \
			}                                                                                              \
		}                                                                                                      \
		sd_kernels_plain.turn[sd_kernels_size(size)](source + whole_a * size, source_step,                     \
							     target + whole_a * target_step, target_step,              \
							     na - whole_a, nb, false, NULL);                           \
		sd_kernels_plain.turn[sd_kernels_size(size)](source + whole_b * source_step, source_step,              \
							     target + whole_b * size, target_step, whole_a,            \
							     nb - whole_b, false, NULL);                               \
	}

KERNEL(8, 1)
KERNEL(16, 2)
KERNEL(32, 4)
KERNEL(64, 8)

static void end(void)
{
	FENCE;
}
