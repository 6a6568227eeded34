/* SPDX-License-Identifier: Apache-2.0 */
/* How packed codes become numbers. */
#include "move/decode.h"
#include "base/checked.h"
#include "move/transpose.h"

#include <stdlib.h>
#include <string.h>

/* ---- the forms ---- */

static const float E2M1[16] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6, -0.0F, -0.5F, -1, -1.5F, -2, -3, -4, -6};
static const float E2M1_PLUS[16] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6, 0, -0.5F, -1, -1.5F, -2, -3, -4, -6};

/* bitsandbytes 0.50, functional.py and kernels: the digits that it writes itself. */
static const float NF4[16] = {
	-1.0F,
	-0.6961928009986877F,
	-0.5250730514526367F,
	-0.39491748809814453F,
	-0.28444138169288635F,
	-0.18477343022823334F,
	-0.09105003625154495F,
	0.0F,
	0.07958029955625534F,
	0.16093020141124725F,
	0.24611230194568634F,
	0.33791524171829224F,
	0.44070982933044434F,
	0.5626170039176941F,
	0.7229568362236023F,
	1.0F,
};
static const float FP4[16] = {0,
			      0.005208333333333333F,
			      0.6666666666666666F,
			      1,
			      0.3333333333333333F,
			      0.5F,
			      0.16666666666666666F,
			      0.25F,
			      0,
			      -0.005208333333333333F,
			      -0.6666666666666666F,
			      -1,
			      -0.3333333333333333F,
			      -0.5F,
			      -0.16666666666666666F,
			      -0.25F};

#define FOUR (1U << 4)
#define GPTQ_BITS (1U << 2 | 1U << 3 | FOUR | 1U << 8)

/* clang-format off */
static const struct sd_form FORMS[SD_FORMS] = {
	[SD_FORM_BYTES] = {"I8", SD_PACKED_ALONG, 1, 1U << 8, .flip = 0x80, .zeros = SD_ZEROS_LIKE},
	[SD_FORM_INTEGERS] = {"packed integers", SD_PACKED_ALONG, 4, 0x1fe, .zeros = SD_ZEROS_DOWN},
	[SD_FORM_GPTQ] = {"GPTQ", SD_PACKED_DOWN, 4, GPTQ_BITS, .zeros = SD_ZEROS_ALONG, .zero_more = 1, .down = true},
	[SD_FORM_GPTQ_V2] = {"GPTQ v2", SD_PACKED_DOWN, 4, GPTQ_BITS, .zeros = SD_ZEROS_ALONG, .down = true},
	[SD_FORM_GPTQ_EVEN] = {"GPTQ", SD_PACKED_DOWN, 4, GPTQ_BITS, .zeros = SD_ZEROS_ALONG, .down = true,
			       .even = true},
	[SD_FORM_AWQ] = {"AWQ", SD_PACKED_AWQ, 4, FOUR, .zeros = SD_ZEROS_ALONG, .down = true},
	[SD_FORM_NVFP4] = {"NVFP4", SD_PACKED_ALONG, 1, FOUR, .table = E2M1_PLUS},
	[SD_FORM_NVFP4_BY] = {"NVFP4", SD_PACKED_ALONG, 1, FOUR, .table = E2M1, .divides = true},
	[SD_FORM_NVFP4_DOWN] = {"NVFP4", SD_PACKED_DOWN, 1, FOUR, .table = E2M1_PLUS, .down = true},
	[SD_FORM_NF4] = {"NF4", SD_PACKED_HIGH, 1, FOUR, .table = NF4},
	[SD_FORM_FP4] = {"FP4", SD_PACKED_HIGH, 1, FOUR, .table = FP4},
	[SD_FORM_INT8] = {"LLM.int8", SD_PACKED_ALONG, 1, 1U << 8, .flip = 0x80, .after = 7.874015718698502e-3F},
};
/* clang-format on */

const struct sd_form *sd_form_of(uint32_t number, uint32_t bits)
{
	return number > 0 && number < SD_FORMS && bits < 16 && FORMS[number].bits >> bits & 1 ? &FORMS[number] : NULL;
}

/* ---- sizes ---- */

static uint64_t up(uint64_t n, uint64_t by)
{
	return n / by + (n % by != 0);
}

/* Bytes of so many fields in a string of bits, whole words. */
static bool string_bytes(const struct sd_codes *c, uint64_t fields, uint64_t *bytes)
{
	uint64_t bits;

	if (!sd_mul(fields, c->bits, &bits))
		return false;
	*bytes = up(bits, 8 * c->form->word) * c->form->word;
	return true;
}

/* Sets pitch and lines; *bytes: of all matrices. */
static bool layout(struct sd_codes *c, uint64_t *bytes)
{
	uint64_t down, matrix;

	switch ((enum sd_packing)c->form->packing) {
	case SD_PACKED_DOWN:
		if (!string_bytes(c, c->rows, &down) || !sd_mul(c->columns, c->form->word, &c->pitch))
			return false;
		c->lines = down / c->form->word;
		break;
	case SD_PACKED_HIGH:
		if (c->matrices != 1 || !sd_mul(c->rows, c->columns, &matrix))
			return false;
		c->lines = 1;
		c->pitch = up(matrix, 2);
		break;
	case SD_PACKED_AWQ:
		if (c->columns % 8)
			return false; /* fall through */
	default:
		if (!string_bytes(c, c->columns, &c->pitch))
			return false;
		c->lines = c->rows;
	}
	return sd_mul(c->lines, c->pitch, &matrix) && sd_mul(matrix, c->matrices, bytes);
}

/* One behind the largest number of a scale; an index may name any group, and is looked at later. */
static bool scales_needed(const struct sd_codes *c, uint64_t *count)
{
	uint64_t row, column, matrix;

	return sd_mul((c->rows - 1) / c->row_block, c->row_stride, &row) &&
	       sd_mul((c->columns - 1) / c->column_block, c->column_stride, &column) &&
	       sd_mul(c->matrices - 1, c->matrix_stride, &matrix) && sd_add(row, column, count) &&
	       sd_add(*count, matrix, count) && sd_add(*count, 1, count);
}

/* Elements that the zero points have to be. */
static bool zeros_needed(const struct sd_codes *c, uint64_t *count)
{
	const uint64_t side = c->form->zeros == SD_ZEROS_ALONG ? c->columns : c->rows;
	uint64_t bytes;

	*count = c->part[SD_PART_SCALE].count;
	if (c->form->zeros == SD_ZEROS_LIKE)
		return true;
	return c->matrices == 1 && *count % side == 0 && string_bytes(c, side, &bytes) &&
	       sd_mul(*count / side, bytes / 4, count);
}

static bool is_scale_dtype(uint8_t dtype)
{
	return dtype == SD_F32 || dtype == SD_BF16 || dtype == SD_F16 || dtype == SD_F8_E4M3;
}

const char *sd_codes_measure(struct sd_codes *c, uint64_t bytes)
{
	const struct sd_part_data *scale = &c->part[SD_PART_SCALE], *zero = &c->part[SD_PART_ZERO],
				  *nested = &c->part[SD_PART_NESTED], *table = &c->part[SD_PART_TABLE],
				  *index = &c->part[SD_PART_INDEX];
	uint64_t need, own;

	if (c->native != SD_BF16 && c->native != SD_F16 && c->native != SD_F32)
		return "numbers of a dtype that codes are not decoded to";
	if (!layout(c, &own) || own != bytes)
		return "a shape that its codes do not have";
	if (!bytes)
		return NULL;
	if (!c->row_block || !c->column_block || !scales_needed(c, &need) || need > scale->count)
		return "too few scales";
	if (nested->count ? scale->dtype != SD_U8 || nested->dtype != SD_F32 || !c->nested_block ||
				    up(scale->count, c->nested_block) > nested->count || table->dtype != SD_F32 ||
				    table->count != 256
			  : !is_scale_dtype(scale->dtype))
		return "scales that cannot be read";
	if (c->part[SD_PART_SECOND].count &&
	    (c->part[SD_PART_SECOND].count != 1 || c->part[SD_PART_SECOND].dtype != SD_F32))
		return "a second scale that is not one number of F32";
	if (zero->count && (c->form->zeros == SD_ZEROS_NONE || !zeros_needed(c, &need) || need != zero->count ||
			    zero->dtype != (c->form->zeros == SD_ZEROS_LIKE ? SD_I8 : SD_I32)))
		return "zero points that do not fit its scales";
	if (index->count && (index->dtype != SD_I32 || index->count != (c->form->down ? c->rows : c->columns)))
		return "an index that does not fit it";
	return NULL;
}

void sd_codes_span(const struct sd_codes *c, uint64_t first, uint64_t last, uint64_t *begin, uint64_t *end)
{
	uint64_t row = first / c->columns, end_row = last / c->columns, word = 8 * (uint64_t)c->form->word;
	uint64_t matrix = row / c->rows, end_matrix = end_row / c->rows;

	if (c->form->packing == SD_PACKED_HIGH) {
		*begin = first / 2;
		*end = last / 2 + 1;
	} else if (c->form->packing == SD_PACKED_DOWN) {
		*begin = (matrix * c->lines + row % c->rows * c->bits / word) * c->pitch;
		*end = (end_matrix * c->lines + (end_row % c->rows * c->bits + c->bits - 1) / word + 1) * c->pitch;
	} else {
		*begin = row * c->pitch + first % c->columns * c->bits / word * c->form->word;
		*end = end_row * c->pitch + (last % c->columns * c->bits + c->bits - 1) / word * c->form->word +
		       c->form->word;
	}
}

/* ---- fields: out has room for a whole run ---- */

#define INLINE static inline __attribute__((always_inline))

/* count fields of a string of bits, from number first on. */
INLINE void fields_along(const uint8_t *string, uint32_t bits, uint64_t first, size_t count, uint8_t *out)
{
	const uint32_t mask = (1U << bits) - 1;

	if (bits == 8) {
		memcpy(out, string + first, count);
		return;
	}
	if (bits == 4 && first % 2 == 0 && count == SD_CONVERT_RUN) {
		for (size_t i = 0; i < SD_CONVERT_RUN / 2; i++) {
			uint8_t byte = string[first / 2 + i];

			out[2 * i] = byte & 15;
			out[2 * i + 1] = byte >> 4;
		}
		return;
	}
	if (bits == 4 && first % 2 == 0) {
		for (size_t i = 0; i < count / 2; i++) {
			uint8_t byte = string[first / 2 + i];

			out[2 * i] = byte & 15;
			out[2 * i + 1] = byte >> 4;
		}
		if (count % 2)
			out[count - 1] = string[first / 2 + count / 2] & 15;
		return;
	}
	for (size_t i = 0; i < count; i++) {
		uint64_t at = (first + i) * bits;
		uint32_t pair = string[at / 8];

		if (at % 8 + bits > 8)
			pair |= (uint32_t)string[at / 8 + 1] << 8;
		out[i] = (uint8_t)(pair >> at % 8 & mask);
	}
}

/* count fields of as many columns: number row of each. line: where its first word lies; the next one, if it goes on
 * there, is pitch bytes behind. */
INLINE void fields_down(const struct sd_codes *c, const uint8_t *line, uint64_t row, size_t count, uint8_t *out)
{
	const uint32_t word = 8 * c->form->word, shift = (uint32_t)(row * c->bits % word), mask = (1U << c->bits) - 1;
	const uint8_t *next = shift + c->bits > word ? line + c->pitch : NULL;
	uint32_t fields[SD_CONVERT_RUN];

	for (size_t i = 0; i < count && word == 8; i++)
		out[i] = (uint8_t)(line[i] >> shift & mask);
	if (word == 8)
		return;
	if (count < SD_CONVERT_RUN)
		memset(fields, 0, sizeof(fields));
	memcpy(fields, line, count * 4);
	for (size_t i = 0; i < SD_CONVERT_RUN; i++)
		fields[i] = fields[i] >> shift & mask;
	for (size_t i = 0; i < count && next; i++) {
		uint32_t field;

		memcpy(&field, next + i * 4, 4);
		fields[i] |= field << (word - shift) & mask;
	}
	for (size_t i = 0; i < SD_CONVERT_RUN; i++)
		out[i] = (uint8_t)fields[i];
}

/* AutoAWQ: nibble k of a word is column 0 2 4 6 1 3 5 7 of it. */
INLINE void fields_awq(const uint8_t *string, uint64_t first, size_t count, uint8_t *out)
{
	static const uint8_t shift[8] = {0, 16, 4, 20, 8, 24, 12, 28};

	for (size_t k = 0; k < SD_CONVERT_RUN / 8 && first % 8 == 0 && count == SD_CONVERT_RUN; k++) {
		uint32_t word;

		memcpy(&word, string + (first / 8 + k) * 4, 4);
		for (size_t i = 0; i < 8; i++)
			out[8 * k + i] = (uint8_t)(word >> shift[i] & 15);
	}
	for (size_t i = 0; i < count && (first % 8 != 0 || count < SD_CONVERT_RUN); i++) {
		uint64_t column = first + i;
		uint32_t word;

		memcpy(&word, string + column / 8 * 4, 4);
		out[i] = (uint8_t)(word >> shift[column % 8] & 15);
	}
}

INLINE void fields_high(const uint8_t *string, uint64_t begin, uint64_t first, size_t count, uint8_t *out)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t at = first + i;

		out[i] = (uint8_t)(string[at / 2 - begin] >> (at % 2 ? 0 : 4) & 15);
	}
}

/* count fields of a row, counted over all matrices, from a column on. */
INLINE void take_fields(const struct sd_codes *c, const uint8_t *bytes, uint64_t begin, uint64_t row, uint64_t column,
			size_t count, uint8_t *out)
{
	uint64_t matrix = row / c->rows, line = row;

	if (c->form->packing == SD_PACKED_HIGH) {
		fields_high(bytes, begin, row * c->columns + column, count, out);
		return;
	}
	if (c->form->packing == SD_PACKED_DOWN) {
		line = matrix * c->lines + row % c->rows * c->bits / (8 * (uint64_t)c->form->word);
		fields_down(c, bytes + (line * c->pitch - begin) + column * c->form->word, row % c->rows, count, out);
		return;
	}
	/* The row may begin before what is there; its fields that are asked for do not. */
	bytes = (const uint8_t *)((uintptr_t)bytes + (uintptr_t)(line * c->pitch) - (uintptr_t)begin);
	if (c->form->packing == SD_PACKED_AWQ)
		fields_awq(bytes, column, count, out);
	else
		fields_along(bytes, c->bits, column, count, out);
}

/* ---- the parts ---- */

static float element_at(const struct sd_part_data *part, uint64_t i)
{
	const unsigned size = sd_element_size(part->dtype);
	uint64_t bits = 0;

	memcpy(&bits, (const uint8_t *)part->data + i * size, size);
	return sd_float_of_bits(sd_element_decode(part->dtype, bits));
}

/* A zero point for each scale, as fields are. */
static bool expand_zeros(struct sd_codes *c)
{
	const struct sd_part_data *zero = &c->part[SD_PART_ZERO];
	const uint64_t count = c->part[SD_PART_SCALE].count;
	const uint32_t mask = (1U << c->bits) - 1;
	const bool along = c->form->zeros == SD_ZEROS_ALONG;
	const uint64_t across = along ? c->columns : count / c->rows, groups = count / across;
	struct sd_codes own = *c;

	c->zeros = malloc(count + 1);
	if (!c->zeros)
		return false;
	if (c->form->zeros == SD_ZEROS_LIKE)
		for (uint64_t i = 0; i < count; i++)
			c->zeros[i] = ((const uint8_t *)zero->data)[i] ^ c->form->flip;
	if (c->form->zeros == SD_ZEROS_LIKE)
		return true;
	own.pitch = along ? zero->count / groups * 4 : across * 4;
	for (uint64_t row = 0; row < groups; row++)
		for (uint64_t i = 0, n; i < across; i += n) {
			const uint8_t *line =
				(const uint8_t *)zero->data + (along ? row : row * c->bits / 32) * own.pitch;
			uint8_t fields[SD_CONVERT_RUN];

			n = across - i < SD_CONVERT_RUN ? across - i : SD_CONVERT_RUN;
			if (!along)
				fields_down(&own, line + i * 4, row, (size_t)n, fields);
			else if (c->form->packing == SD_PACKED_AWQ)
				fields_awq(line, i, (size_t)n, fields);
			else
				fields_along(line, c->bits, i, (size_t)n, fields);
			memcpy(c->zeros + row * across + i, fields, (size_t)n);
		}
	for (uint64_t i = 0; i < count; i++)
		c->zeros[i] = (uint8_t)((c->zeros[i] + c->form->zero_more) & mask);
	return true;
}

/* Whether all zero points are half the range, or all one less. */
static bool is_even(const struct sd_codes *c)
{
	const uint64_t count = c->part[SD_PART_SCALE].count;
	const uint32_t half = 1U << (c->bits - 1);

	for (uint64_t i = 0; i < count; i++)
		if (c->zeros[i] != c->zeros[0] || (c->zeros[i] != half && c->zeros[i] + 1U != half))
			return false;
	return true;
}

static int32_t index_at(const struct sd_codes *c, uint64_t i)
{
	int32_t index;

	memcpy(&index, (const uint8_t *)c->part[SD_PART_INDEX].data + i * 4, 4);
	return index;
}

/* Whether a group has a scale for every row, or column, that the index does not choose. */
static bool has_scale(const struct sd_codes *c, uint64_t group)
{
	const bool down = c->form->down;
	uint64_t other = down ? (c->columns - 1) / c->column_block * c->column_stride
			      : (c->rows - 1) / c->row_block * c->row_stride;
	uint64_t number;

	return sd_mul(group, down ? c->row_stride : c->column_stride, &number) && sd_add(number, other, &number) &&
	       number < c->part[SD_PART_SCALE].count && c->matrices == 1;
}

/* An index of nothing but -1 was never set. */
static const char *check_index(struct sd_codes *c)
{
	const uint64_t count = c->part[SD_PART_INDEX].count;
	uint64_t unset = 0;

	for (uint64_t i = 0; i < count; i++) {
		int32_t group = index_at(c, i);

		unset += group == -1;
		if (group < -1 || (group >= 0 && !has_scale(c, (uint64_t)group)))
			return "it names a group that has no scale";
	}
	if (unset == count)
		c->part[SD_PART_INDEX] = (struct sd_part_data){0};
	else if (unset)
		return "it has a group of -1";
	return NULL;
}

static float second_of(const struct sd_codes *c)
{
	float second = 1;

	if (c->part[SD_PART_SECOND].count)
		memcpy(&second, c->part[SD_PART_SECOND].data, sizeof(second));
	return second;
}

const char *sd_codes_ready(struct sd_codes *c, enum sd_codes_part *part)
{
	const char *wrong = NULL;

	*part = SD_PART_SECOND;
	if (c->form->divides && second_of(c) == 0)
		return "it is 0";
	*part = SD_PART_INDEX;
	if (c->part[SD_PART_INDEX].count)
		wrong = check_index(c);
	if (wrong)
		return wrong;
	*part = SD_PART_ZERO;
	if (c->part[SD_PART_ZERO].count) {
		if (!expand_zeros(c))
			return "";
		if (c->form->even && !is_even(c))
			wrong = "config.json says sym, and its zero points are not all half the range";
		if (c->form->even)
			sd_codes_free(c);
	}
	return wrong;
}

bool sd_codes_agree(const struct sd_codes *c, const struct sd_part_data *part)
{
	const uint64_t sizes[2] = {c->rows, c->columns};
	const unsigned size = sd_dtype_size((enum sd_dtype)part->dtype);
	uint64_t said[2] = {0};

	if (part->dtype == SD_F32 && part->count == 16 && c->form->table)
		for (size_t i = 0; i < 16; i++)
			if (element_at(part, i) != c->form->table[i])
				return false;
	if (part->count == 1 && part->dtype == SD_U8)
		return *(const uint8_t *)part->data == 0;
	for (size_t i = 0; i < 2 && part->count == 2 && size >= 4; i++) {
		memcpy(&said[i], (const uint8_t *)part->data + i * size, size);
		if (said[i] != sizes[i])
			return false;
	}
	return true;
}

void sd_codes_free(struct sd_codes *c)
{
	free(c->zeros);
	c->zeros = NULL;
}

/* ---- decoding ---- */

static uint64_t scale_number(const struct sd_codes *c, uint64_t row, uint64_t column)
{
	uint64_t matrix = row / c->rows, r = row % c->rows;
	bool indexed = c->part[SD_PART_INDEX].count > 0;
	uint64_t a = indexed && c->form->down ? (uint64_t)index_at(c, r) : r / c->row_block;
	uint64_t b = indexed && !c->form->down ? (uint64_t)index_at(c, column) : column / c->column_block;

	return matrix * c->matrix_stride + a * c->row_stride + b * c->column_stride;
}

static float finish_scale(const struct sd_codes *c, float scale)
{
	if (!c->part[SD_PART_SECOND].count)
		return scale;
	return c->form->divides ? scale / second_of(c) : scale * second_of(c);
}

static float scale_at(const struct sd_codes *c, uint64_t i)
{
	float scale;

	if (!c->part[SD_PART_NESTED].count)
		return finish_scale(c, element_at(&c->part[SD_PART_SCALE], i));
	scale = element_at(&c->part[SD_PART_TABLE], ((const uint8_t *)c->part[SD_PART_SCALE].data)[i]) *
		element_at(&c->part[SD_PART_NESTED], i / c->nested_block);
	return scale + sd_float_of_bits(c->offset);
}

/* Numbers of a whole run of fields, before they are scaled. each: zero points, as many, or NULL; zero: of all, if so.
 */
INLINE void numbers_of(const struct sd_codes *c, const uint8_t *fields, const uint8_t *each, int zero, float *values)
{
	const uint8_t flip = c->form->flip;

	if (c->form->table)
		for (size_t i = 0; i < SD_CONVERT_RUN; i++)
			values[i] = c->form->table[fields[i] & 15];
	else if (each)
		for (size_t i = 0; i < SD_CONVERT_RUN; i++)
			values[i] = (float)((fields[i] ^ flip) - each[i]);
	else
		for (size_t i = 0; i < SD_CONVERT_RUN; i++)
			values[i] = (float)((fields[i] ^ flip) - zero);
}

/* Elements of which each has a scale of its own, in their order. */
INLINE void decode_each(const struct sd_codes *c, sd_decode *decode, uint64_t scale, const uint8_t *fields,
			size_t count, float *values)
{
	const struct sd_part_data *part = &c->part[SD_PART_SCALE];
	uint8_t zeros[SD_CONVERT_RUN] = {0};
	float scales[SD_CONVERT_RUN];

	if (c->zeros)
		memcpy(zeros, c->zeros + scale, count);
	numbers_of(c, fields, c->zeros ? zeros : NULL, 1 << (c->bits - 1), values);
	decode((enum sd_dtype)part->dtype, (const uint8_t *)part->data + scale * sd_element_size(part->dtype), count,
	       scales);
	for (size_t i = 0; i < count && c->part[SD_PART_SECOND].count; i++)
		scales[i] = finish_scale(c, scales[i]);
	for (size_t i = 0; i < SD_CONVERT_RUN; i++)
		values[i] *= scales[i];
}

/* Elements that have scales in blocks, or by an index. */
INLINE void decode_blocks(const struct sd_codes *c, uint64_t row, uint64_t column, const uint8_t *fields, size_t count,
			  float *values)
{
	const bool indexed = c->part[SD_PART_INDEX].count && !c->form->down;
	float scales[SD_CONVERT_RUN] = {0};
	uint8_t zeros[SD_CONVERT_RUN] = {0};
	size_t n;

	for (size_t i = 0; i < count; i += n) {
		uint64_t left = c->column_stride ? c->column_block - (column + i) % c->column_block : count;
		uint64_t number = scale_number(c, row, column + i);
		float scale = scale_at(c, number);

		n = indexed ? 1 : left < count - i ? (size_t)left : count - i;
		for (size_t k = i; k < i + n; k++)
			scales[k] = scale;
		if (c->zeros)
			memset(zeros + i, c->zeros[number], n);
	}
	numbers_of(c, fields, c->zeros ? zeros : NULL, 1 << (c->bits - 1), values);
	for (size_t i = 0; i < SD_CONVERT_RUN; i++)
		values[i] *= scales[i];
}

INLINE void decode_all(const struct sd_codes *c, const struct sd_converter *convert, const uint8_t *bytes,
		       uint64_t begin, uint64_t first, uint64_t count, uint8_t *to)
{
	const bool each = c->column_block == 1 && c->column_stride == 1 && !c->part[SD_PART_NESTED].count &&
			  !(c->part[SD_PART_INDEX].count && !c->form->down);
	uint8_t fields[SD_CONVERT_RUN] = {0};
	float values[SD_CONVERT_RUN];
	size_t n;

	for (; count > 0; count -= n, first += n, to += n * sd_dtype_size((enum sd_dtype)c->native)) {
		uint64_t row = first / c->columns, column = first % c->columns, left = c->columns - column;

		n = (size_t)(left < count ? left : count);
		n = n < SD_CONVERT_RUN ? n : SD_CONVERT_RUN;
		take_fields(c, bytes, begin, row, column, n, fields);
		if (each)
			decode_each(c, convert->decode, scale_number(c, row, column), fields, n, values);
		else
			decode_blocks(c, row, column, fields, n, values);
		for (size_t i = 0; i < SD_CONVERT_RUN && c->form->after != 0; i++)
			values[i] *= c->form->after;
		convert->encode((enum sd_dtype)c->native, values, to, n);
	}
}

#define DECODER(name, isa)                                                                                             \
	isa static void decode_##name(const struct sd_codes *c, const struct sd_converter *convert,                    \
				      const uint8_t *bytes, uint64_t begin, uint64_t first, uint64_t count,            \
				      uint8_t *to)                                                                     \
	{                                                                                                              \
		decode_all(c, convert, bytes, begin, first, count, to);                                                \
	}
DECODER(plain, )
#ifdef __x86_64__
DECODER(avx2, __attribute__((target("avx2"))))
DECODER(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#endif

void sd_codes_decode(const struct sd_codes *c, const struct sd_kernels *kernels, const uint8_t *bytes, uint64_t begin,
		     uint64_t first, uint64_t count, void *target)
{
#ifdef __x86_64__
	if (kernels == &sd_kernels_avx512) {
		decode_avx512(c, &kernels->convert, bytes, begin, first, count, target);
		return;
	}
	if (kernels == &sd_kernels_avx2) {
		decode_avx2(c, &kernels->convert, bytes, begin, first, count, target);
		return;
	}
#endif
	decode_plain(c, &kernels->convert, bytes, begin, first, count, target);
}

/* ---- what devices can do themselves ---- */

uint8_t sd_codes_kind(const struct sd_codes *c)
{
	if (c->bits != 4 || c->columns % 2 || c->pitch != c->columns / 2 || c->part[SD_PART_ZERO].count ||
	    c->part[SD_PART_INDEX].count)
		return SD_NO_DTYPE;
	switch (c->number) {
	case SD_FORM_INTEGERS:
		return SD_INT4;
	case SD_FORM_NVFP4:
		return SD_E2M1 + SD_E2M1_PLUS;
	case SD_FORM_NVFP4_BY:
		return SD_E2M1;
	default:
		return SD_NO_DTYPE;
	}
}

void sd_codes_scales(const struct sd_codes *c, const struct sd_kernels *kernels, float *scales)
{
	const struct sd_part_data *part = &c->part[SD_PART_SCALE];
	const float second = second_of(c);
	const unsigned size = sd_element_size(part->dtype);
	size_t n;

	for (uint64_t i = 0; i < part->count; i += n) {
		float run[SD_CONVERT_RUN];

		n = part->count - i < SD_CONVERT_RUN ? (size_t)(part->count - i) : SD_CONVERT_RUN;
		kernels->convert.decode((enum sd_dtype)part->dtype, (const uint8_t *)part->data + i * size, n, run);
		for (size_t k = 0; k < SD_CONVERT_RUN; k++)
			run[k] = c->form->divides ? run[k] / second : run[k] * second;
		memcpy(scales + i, run, n * sizeof(*scales));
	}
}
