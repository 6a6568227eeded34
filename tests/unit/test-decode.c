/* SPDX-License-Identifier: Apache-2.0 */
/* Packed codes: every field of every form, against a reading bit by bit; whole, and in pieces. */
#include "move/decode.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { ROWS = 24, COLUMNS = 40, GROUP = 8 };

/* The numbers that codes of 4 bits stand for, as the libraries print them. */
static const double tables[SD_FORMS][16] = {
	[SD_FORM_NVFP4] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6},
	[SD_FORM_NVFP4_BY] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6},
	[SD_FORM_NVFP4_DOWN] = {0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6},
	[SD_FORM_NF4] = {-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
			 -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
			 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
			 0.7229568362236023, 1},
	[SD_FORM_FP4] = {0, 0.005208333333333333, 2 / 3.0, 1, 1 / 3.0, 0.5, 1 / 6.0, 0.25, 0, -0.005208333333333333,
			 -2 / 3.0, -1, -1 / 3.0, -0.5, -1 / 6.0, -0.25},
};

struct made {
	struct sd_codes codes;
	uint8_t bytes[ROWS * COLUMNS * 4], zeros[ROWS * COLUMNS * 4];
	float scales[ROWS * COLUMNS];
	int32_t index[COLUMNS];
	float second;
	uint64_t size;
};

/* Bit number n of a string. */
static unsigned bit_of(const uint8_t *bytes, uint64_t n)
{
	return bytes[n / 8] >> n % 8 & 1;
}

/* The field at (row, column) of words that are pitch bytes a row. */
static unsigned field_of(const struct made *m, const uint8_t *bytes, uint64_t pitch, unsigned packing, uint64_t row,
			 uint64_t column)
{
	static const unsigned awq[8] = {0, 2, 4, 6, 1, 3, 5, 7};
	unsigned field = 0, bits = m->codes.bits, word = m->codes.form->word * 8, k = 0;
	uint64_t at = row * m->codes.columns + column;

	if (packing == SD_PACKED_HIGH)
		return bytes[at / 2] >> (at % 2 ? 0 : 4) & 15;
	while (packing == SD_PACKED_AWQ && awq[k] != column % 8)
		k++;
	for (unsigned i = 0; i < bits; i++) {
		uint64_t n = row * bits + i;

		if (packing == SD_PACKED_DOWN) /* word n / word of the column; words of I32 are little-endian */
			n = n / word * pitch * 8 + column * word + n % word;
		else if (packing == SD_PACKED_AWQ)
			n = row * pitch * 8 + (column - column % 8) * 4 + k * 4 + i;
		else
			n = row * pitch * 8 + column * bits + i;
		field |= bit_of(bytes, n) << i;
	}
	return field;
}

static double zero_of(const struct made *m, uint64_t row, uint64_t column, uint64_t scale)
{
	const struct sd_codes *c = &m->codes;
	uint64_t groups = c->part[SD_PART_SCALE].count / c->rows;

	if (!c->part[SD_PART_ZERO].count || c->number == SD_FORM_GPTQ_EVEN)
		return c->number == SD_FORM_BYTES || c->number == SD_FORM_INT8 ? 0 : 1 << (c->bits - 1);
	switch (c->form->zeros) {
	case SD_ZEROS_LIKE:
		return (int8_t)m->zeros[scale];
	case SD_ZEROS_ALONG:
		return (field_of(m, m->zeros, (COLUMNS * c->bits + 31) / 32 * 4,
				 c->number == SD_FORM_AWQ ? SD_PACKED_AWQ : SD_PACKED_ALONG, scale / COLUMNS, column) +
			(c->number == SD_FORM_GPTQ)) &
		       ((1 << c->bits) - 1);
	default:
		return field_of(m, m->zeros, groups * 4, SD_PACKED_DOWN, row, scale % groups);
	}
}

/* What an element is, by the rules of sd-stream(5). */
static float slow(const struct made *m, uint64_t element)
{
	const struct sd_codes *c = &m->codes;
	uint64_t row = element / c->columns, column = element % c->columns, group, scale;
	unsigned field = field_of(m, m->bytes, c->pitch, c->form->packing, row, column);
	bool indexed = c->part[SD_PART_INDEX].count;
	float by, value;

	group = c->form->down ? (indexed ? (uint64_t)m->index[row] : row / GROUP)
			      : (indexed ? (uint64_t)m->index[column] : column / GROUP);
	scale = c->form->down ? group * COLUMNS + column : row * (COLUMNS / GROUP) + group;
	if (c->form->packing == SD_PACKED_HIGH)
		scale = element / GROUP;
	by = m->scales[scale];
	if (c->part[SD_PART_SECOND].count)
		by = c->number == SD_FORM_NVFP4_BY ? by / m->second : by * m->second;
	if (c->form->table)
		value = (float)tables[c->number][field];
	else if (c->form->flip)
		value = (float)((int8_t)field - zero_of(m, row, column, scale));
	else
		value = (float)(field - zero_of(m, row, column, scale));
	value *= by;
	return c->number == SD_FORM_INT8 ? value * 0.007874015718698502F : value;
}

/* A matrix of a form with random codes. */
static void make(struct made *m, uint32_t form, uint32_t bits, bool zeros, bool indexed, unsigned *seed)
{
	struct sd_codes *c = &m->codes;
	uint64_t words = (COLUMNS * bits + 31) / 32, down = (ROWS * bits + 31) / 32;

	*m = (struct made){.second = 0.37F};
	*c = (struct sd_codes){.form = sd_form_of(form, bits),
			       .number = form,
			       .bits = bits,
			       .matrices = 1,
			       .rows = ROWS,
			       .columns = COLUMNS,
			       .native = SD_F32,
			       .row_block = 1,
			       .column_block = GROUP,
			       .row_stride = COLUMNS / GROUP,
			       .column_stride = 1};
	c->part[SD_PART_SCALE] = (struct sd_part_data){m->scales, ROWS * COLUMNS / GROUP, SD_F32};
	if (c->form->down) {
		c->row_block = GROUP;
		c->row_stride = COLUMNS;
		c->column_block = 1;
	}
	if (c->form->packing == SD_PACKED_HIGH) {
		c->columns = ROWS * COLUMNS;
		c->rows = 1;
		c->row_stride = 0;
	}
	m->size = c->form->packing == SD_PACKED_DOWN ? (c->form->word == 4 ? down * 4 : ROWS / 2) * COLUMNS
		  : c->form->word == 4               ? words * 4 * ROWS
						     : (uint64_t)ROWS * COLUMNS * bits / 8;
	for (size_t i = 0; i < sizeof(m->bytes); i++) {
		m->bytes[i] = (uint8_t)rand_r(seed);
		m->zeros[i] = (uint8_t)(form == SD_FORM_GPTQ_EVEN ? 0x77 : rand_r(seed));
	}
	for (size_t i = 0; i < ROWS * COLUMNS; i++)
		m->scales[i] = (float)(rand_r(seed) % 4096) / 37 - 20;
	for (size_t i = 0; i < COLUMNS; i++)
		m->index[i] = rand_r(seed) % (c->form->down ? ROWS / GROUP : COLUMNS / GROUP);
	if (zeros)
		c->part[SD_PART_ZERO] =
			(struct sd_part_data){m->zeros,
					      c->form->zeros == SD_ZEROS_LIKE    ? c->part[SD_PART_SCALE].count
					      : c->form->zeros == SD_ZEROS_ALONG ? words * (ROWS / GROUP)
										 : down * (COLUMNS / GROUP),
					      c->form->zeros == SD_ZEROS_LIKE ? SD_I8 : SD_I32};
	if (indexed)
		c->part[SD_PART_INDEX] = (struct sd_part_data){m->index, c->form->down ? ROWS : COLUMNS, SD_I32};
	if (form >= SD_FORM_NVFP4 && form <= SD_FORM_NVFP4_DOWN)
		c->part[SD_PART_SECOND] = (struct sd_part_data){&m->second, 1, SD_F32};
}

static void try(uint32_t form, uint32_t bits, bool zeros, bool indexed)
{
	static const char *const kernels[] = {"plain", "avx2", "avx512"};
	struct made *m = malloc(sizeof(*m));
	unsigned seed = form * 64 + bits * 4 + zeros * 2 + indexed;
	uint64_t all = ROWS * COLUMNS;
	const char *wrong;
	enum sd_codes_part part;

	cr_assert(m);
	make(m, form, bits, zeros, indexed, &seed);
	wrong = sd_codes_measure(&m->codes, m->size);
	cr_assert(!wrong, "form %u, %u bits: %s", form, bits, wrong);
	wrong = sd_codes_ready(&m->codes, &part);
	cr_assert(!wrong, "form %u, %u bits: %s", form, bits, wrong);
	for (int i = 0; i < 200; i++) {
		uint64_t first = i ? (uint64_t)rand_r(&seed) % all : 0,
			 count = i ? 1 + (uint64_t)rand_r(&seed) % (all - first) : all, begin, end;
		const struct sd_kernels *k = sd_kernels_pick(kernels[i % 3]);
		float got[ROWS * COLUMNS];
		uint8_t *window;

		/* Of the record there is no more than the span says. */
		sd_codes_span(&m->codes, first, first + count - 1, &begin, &end);
		cr_assert(end <= m->size && begin < end, "form %u, %u bits: span", form, bits);
		window = malloc(end - begin);
		cr_assert(window);
		memcpy(window, m->bytes + begin, end - begin);
		sd_codes_decode(&m->codes, k, window, begin, first, count, got);
		free(window);
		for (uint64_t e = 0; e < count; e++)
			cr_assert(got[e] == slow(m, first + e) && signbit(got[e]) == signbit(slow(m, first + e)),
				  "form %u, %u bits, %s: element %llu of %llu", form, bits, k->name,
				  (unsigned long long)(first + e), (unsigned long long)all);
	}
	sd_codes_free(&m->codes);
	free(m);
}

Test(decode, every_form)
{
	for (uint32_t bits = 1; bits <= 8; bits++)
		for (int way = 0; way < 4; way++)
			try(SD_FORM_INTEGERS, bits, way & 1, way & 2);
	for (uint32_t form = SD_FORM_GPTQ; form <= SD_FORM_GPTQ_V2; form++)
		for (uint32_t bits = 2; bits <= 8; bits += bits == 4 ? 4 : 1) {
			try(form, bits, true, false);
			try(form, bits, true, true);
		}
	try(SD_FORM_GPTQ_EVEN, 4, true, true);
	try(SD_FORM_AWQ, 4, true, false);
	try(SD_FORM_AWQ, 4, false, false);
	try(SD_FORM_BYTES, 8, false, false);
	try(SD_FORM_BYTES, 8, true, false);
	for (uint32_t form = SD_FORM_NVFP4; form <= SD_FORM_FP4; form++)
		try(form, 4, false, false);
	try(SD_FORM_INT8, 8, false, false);
}

/* Sizes and indices from outside. */
Test(decode, refused)
{
	struct made *m = malloc(sizeof(*m));
	unsigned seed = 1;
	enum sd_codes_part part;

	cr_assert(m);
	make(m, SD_FORM_GPTQ, 4, true, true, &seed);
	cr_expect(sd_codes_measure(&m->codes, m->size - 1), "a byte less");
	m->codes.part[SD_PART_SCALE].count--;
	cr_expect(sd_codes_measure(&m->codes, m->size), "a scale less");
	m->codes.part[SD_PART_SCALE].count++;
	m->codes.part[SD_PART_ZERO].count--;
	cr_expect(sd_codes_measure(&m->codes, m->size), "a zero point less");
	m->codes.part[SD_PART_ZERO].count++;
	m->codes.row_block = 0;
	cr_expect(sd_codes_measure(&m->codes, m->size), "no block");
	m->codes.row_block = GROUP;
	m->codes.rows = UINT64_MAX / 3;
	cr_expect(sd_codes_measure(&m->codes, m->size), "too many rows");
	m->codes.rows = ROWS;
	cr_expect(!sd_codes_measure(&m->codes, m->size));
	m->index[3] = ROWS / GROUP;
	cr_expect(sd_codes_ready(&m->codes, &part) && part == SD_PART_INDEX, "a group that is not there");
	m->index[3] = -1;
	cr_expect(sd_codes_ready(&m->codes, &part) && part == SD_PART_INDEX, "a group of -1");
	make(m, SD_FORM_GPTQ_EVEN, 4, true, false, &seed);
	m->zeros[5] = 0x87;
	cr_expect(!sd_codes_measure(&m->codes, m->size));
	cr_expect(sd_codes_ready(&m->codes, &part) && part == SD_PART_ZERO, "symmetric, and not even");
	sd_codes_free(&m->codes);
	make(m, SD_FORM_NVFP4_BY, 4, false, false, &seed);
	m->second = 0;
	cr_expect(sd_codes_ready(&m->codes, &part) && part == SD_PART_SECOND, "divided by 0");
	free(m);
	cr_expect(!sd_form_of(0, 4) && !sd_form_of(SD_FORMS, 4) && !sd_form_of(SD_FORM_AWQ, 3) &&
		  !sd_form_of(SD_FORM_AWQ, 4 + 32));
}
