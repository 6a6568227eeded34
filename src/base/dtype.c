/* SPDX-License-Identifier: Apache-2.0 */
/* The dtypes of safetensors, and shapes. */
#include "base/dtype.h"
#include "base/text.h"
#include "base/checked.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	unsigned bits;
	bool is_float;
} table[SD_DTYPES] = {
	[SD_U64] = {"U64", 64, false},
	[SD_I64] = {"I64", 64, false},
	[SD_F64] = {"F64", 64, true},
	[SD_C64] = {"C64", 64, false},
	[SD_F32] = {"F32", 32, true},
	[SD_U32] = {"U32", 32, false},
	[SD_I32] = {"I32", 32, false},
	[SD_BF16] = {"BF16", 16, true},
	[SD_F16] = {"F16", 16, true},
	[SD_U16] = {"U16", 16, false},
	[SD_I16] = {"I16", 16, false},
	[SD_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8, true},
	[SD_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8, true},
	[SD_F8_E8M0] = {"F8_E8M0", 8, true},
	[SD_F8_E4M3] = {"F8_E4M3", 8, true},
	[SD_F8_E5M2] = {"F8_E5M2", 8, true},
	[SD_I8] = {"I8", 8, false},
	[SD_U8] = {"U8", 8, false},
	[SD_F6_E3M2] = {"F6_E3M2", 6, true},
	[SD_F6_E2M3] = {"F6_E2M3", 6, true},
	[SD_F4] = {"F4", 4, true},
	[SD_BOOL] = {"BOOL", 8, false},
};

static bool known(enum sd_dtype dtype)
{
	return dtype > SD_NO_DTYPE && dtype < SD_DTYPES;
}

const char *sd_dtype_name(enum sd_dtype dtype)
{
	return known(dtype) ? table[dtype].name : "?";
}

enum sd_dtype sd_dtype_parse(const char *name, size_t length)
{
	for (int i = SD_NO_DTYPE + 1; i < SD_DTYPES; i++)
		if (strlen(table[i].name) == length && strncasecmp(table[i].name, name, length) == 0)
			return (enum sd_dtype)i;
	return SD_NO_DTYPE;
}

enum sd_dtype sd_dtype_typed(const char *text)
{
	static const struct {
		const char *name;
		enum sd_dtype dtype;
	} others[] = {
		{"float64", SD_F64},
		{"double", SD_F64},
		{"fp64", SD_F64},
		{"float32", SD_F32},
		{"float", SD_F32},
		{"fp32", SD_F32},
		{"float16", SD_F16},
		{"half", SD_F16},
		{"fp16", SD_F16},
		{"bfloat16", SD_BF16},
		{"float8_e4m3fn", SD_F8_E4M3},
		{"float8_e5m2", SD_F8_E5M2},
		{"float8_e8m0fnu", SD_F8_E8M0},
	};
	static const char torch[] = "torch.";

	if (strncmp(text, torch, strlen(torch)) == 0)
		text += strlen(torch);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (strcasecmp(others[i].name, text) == 0)
			return others[i].dtype;
	return sd_dtype_parse(text, strlen(text));
}

unsigned sd_dtype_bits(enum sd_dtype dtype)
{
	return known(dtype) ? table[dtype].bits : 0;
}

unsigned sd_dtype_size(enum sd_dtype dtype)
{
	return sd_dtype_bits(dtype) / 8;
}

bool sd_dtype_is_float(enum sd_dtype dtype)
{
	return known(dtype) && table[dtype].is_float;
}

bool sd_shape_is_empty(const uint64_t *shape, uint32_t rank)
{
	for (uint32_t i = 0; i < rank; i++)
		if (shape[i] == 0)
			return true;
	return false;
}

bool sd_shape_count(const uint64_t *shape, uint32_t rank, uint64_t *count)
{
	uint64_t product = 1;
	bool empty = false;

	/* A size of zero makes the tensor empty, however large the others are. */
	for (uint32_t i = 0; i < rank; i++) {
		if (shape[i] == 0)
			empty = true;
		else if (!sd_mul(product, shape[i], &product))
			return false;
	}
	*count = empty ? 0 : product;
	return true;
}

bool sd_dtype_bytes(enum sd_dtype dtype, uint64_t count, uint64_t *bytes)
{
	uint64_t bits;

	if (!known(dtype) || !sd_mul(count, table[dtype].bits, &bits) || bits % 8 != 0)
		return false;
	*bytes = bits / 8;
	return true;
}

bool sd_shape_equal(const uint64_t *a, uint32_t a_rank, const uint64_t *b, uint32_t b_rank)
{
	return a_rank == b_rank && (a_rank == 0 || memcmp(a, b, a_rank * sizeof(*a)) == 0);
}

bool sd_shape_is_transposed(const uint64_t *a, uint32_t a_rank, const uint64_t *b, uint32_t b_rank)
{
	return a_rank >= 2 && a_rank == b_rank && a[a_rank - 1] != a[a_rank - 2] &&
	       memcmp(a, b, (a_rank - 2) * sizeof(*a)) == 0 && a[a_rank - 1] == b[a_rank - 2] &&
	       a[a_rank - 2] == b[a_rank - 1];
}

static char *write_shape(const uint64_t *shape, uint32_t rank, const char *between, char *text, size_t size)
{
	size_t used = (size_t)snprintf(text, size, "[");

	for (uint32_t i = 0; i < rank && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%" PRIu64, i ? between : "", shape[i]);
	if (used < size)
		snprintf(text + used, size - used, "]");
	return text;
}

char *sd_shape_text(const uint64_t *shape, uint32_t rank, char *text, size_t size)
{
	return write_shape(shape, rank, ", ", text, size);
}

char *sd_shape_brief(const uint64_t *shape, uint32_t rank, char *text, size_t size)
{
	return write_shape(shape, rank, ",", text, size);
}

void sd_shape_print(FILE *out, const uint64_t *shape, uint32_t rank)
{
	fputc('[', out);
	for (uint32_t i = 0; i < rank; i++) {
		if (i)
			fputc(',', out);
		sd_text_print_number(out, shape[i]);
	}
	fputc(']', out);
}
