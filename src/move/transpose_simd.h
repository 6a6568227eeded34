/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels of one instruction set, included once by each, which defines before:
 *     ISA           the attribute that lets a function use it
 *     VECTOR        its vector, of LANES pieces of 16 bytes
 *     load_pieces   makes one of pieces that lie a distance apart
 *     LO_n, HI_n    interleave the low and the high halves of two vectors, n bits at a time, in each lane
 *     STORE, STREAM at any address; at a multiple of the vector's size and, where there is such a thing, past the
 * caches FENCE         makes what was streamed visible to others
 *
 * A tile is a line by a line. It is copied first, row by row, because rows of 4 KiB apart fight for the same few places
 * of the cache; vectors then hold the same 16 bytes of far rows in their lanes, and 16 / size rows interleaved with one
 * another log2(16 / size) times are turned. So each output line is written whole and at once, and the reads of the next
 * band of rows are asked for in address order meanwhile.
 */
#define VECTOR_SIZE (16 * LANES)

#define KERNEL(bits, size)                                                                                             \
	/* Turns 16 / size columns of the tile, which begin at column, into as many lines. */                          \
	ISA static inline void turn_pieces##size(const uint8_t tile[SD_LINE / size][SD_LINE], size_t column,           \
						 uint8_t *target, size_t target_step, bool streaming)                  \
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
				   size_t na, size_t nb, bool streaming)                                               \
	{                                                                                                              \
		enum { line = SD_LINE / size };                                                                        \
		size_t ragged = (SD_LINE - (uintptr_t)target % SD_LINE) / size % line;                                 \
		size_t whole_a = na / line * line, whole_b;                                                            \
                                                                                                                       \
		streaming = streaming && target_step % SD_LINE == 0 && (uintptr_t)target % size == 0;                  \
		if (streaming && ragged > 0) {                                                                         \
			ragged = ragged < nb ? ragged : nb;                                                            \
			sd_kernels_plain.turn[sd_kernels_size(size)](source, source_step, target, target_step, na,     \
								     ragged, false);                                   \
			source += ragged * source_step;                                                                \
			target += ragged * size;                                                                       \
			nb -= ragged;                                                                                  \
		}                                                                                                      \
		whole_b = nb / line * line;                                                                            \
		for (size_t b = 0; b < whole_b; b += line) {                                                           \
			const uint8_t *band = source + b * source_step;                                                \
			struct ahead ahead = {b + line < whole_b ? band + line * source_step : NULL, source_step,      \
					      whole_a * size, 0};                                                      \
                                                                                                                       \
			for (size_t a = 0; a < whole_a; a += line) {                                                   \
				_Alignas(SD_LINE) uint8_t tile[line][SD_LINE];                                         \
                                                                                                                       \
				for (int r = 0; r < line; r++)                                                         \
					memcpy(tile[r], band + (size_t)r * source_step + a * size, SD_LINE);           \
				ask_ahead(&ahead, line);                                                               \
				for (size_t column = 0; column < line; column += 16 / size)                            \
					turn_pieces##size((const uint8_t(*)[SD_LINE])tile, column *size,               \
							  target + (a + column) * target_step + b * size, target_step, \
							  streaming);                                                  \
			}                                                                                              \
		}                                                                                                      \
		sd_kernels_plain.turn[sd_kernels_size(size)](source + whole_a * size, source_step,                     \
							     target + whole_a * target_step, target_step,              \
							     na - whole_a, whole_b, false);                            \
		sd_kernels_plain.turn[sd_kernels_size(size)](source + whole_b * source_step, source_step,              \
							     target + whole_b * size, target_step, na, nb - whole_b,   \
							     false);                                                   \
	}

/* The rows that come next, and how far they have been asked for. */
struct ahead {
	const uint8_t *row;
	size_t step, length, at;
};

static inline void ask_ahead(struct ahead *ahead, int lines)
{
	if (!ahead->row)
		return;
	for (int i = 0; i < lines; i++) {
		__builtin_prefetch(ahead->row + ahead->at, 0, 2);
		ahead->at += SD_LINE;
		if (ahead->at >= ahead->length) {
			ahead->at = 0;
			ahead->row += ahead->step;
		}
	}
}

KERNEL(8, 1)
KERNEL(16, 2)
KERNEL(32, 4)
KERNEL(64, 8)

static void end(void)
{
	FENCE;
}
