/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packed codes of quantised weights, as the libraries that write them lay them out, and how they become numbers: a row
 * for each form. What a form means is in sd-stream(5).
 */
#ifndef SD_MOVE_DECODE_H
#define SD_MOVE_DECODE_H

#include "move/kernels.h"

#include <stddef.h>

/* These stand in streams: new ones go to the end. */
enum sd_form_number {
	SD_FORM_BYTES = 1,      /* whole numbers with a sign, a byte each */
	SD_FORM_INTEGERS = 2,   /* compressed-tensors: fields along a row, less half their range */
	SD_FORM_GPTQ = 3,       /* fields down a column; zero points less by one than they are */
	SD_FORM_GPTQ_V2 = 4,    /* the same, zero points as they are */
	SD_FORM_GPTQ_EVEN = 5,  /* the same, all zero points half the range, as either of these has it */
	SD_FORM_AWQ = 6,        /* 8 fields of a word in an order of their own */
	SD_FORM_NVFP4 = 7,      /* E2M1, code 8 being +0; the scale times another one */
	SD_FORM_NVFP4_BY = 8,   /* E2M1; the scale divided by another one */
	SD_FORM_NVFP4_DOWN = 9, /* as 7, two rows in a byte */
	SD_FORM_NF4 = 10,       /* bitsandbytes: the high half of a byte first */
	SD_FORM_FP4 = 11,       /* the same, with its other table */
	SD_FORM_INT8 = 12,      /* bitsandbytes: a byte times its row's number, divided by 127 */
	SD_FORMS,
};

/* What a record is to the codes that it is decoded with; likewise. */
enum sd_codes_part {
	SD_PART_SCALE = 1,
	SD_PART_ZERO = 2,
	SD_PART_SECOND = 3, /* one number for all scales */
	SD_PART_INDEX = 4,  /* the group of each row or column of the input */
	SD_PART_CHECK = 5,  /* shape, format or table: says what must be so */
	SD_PART_NESTED = 6, /* scales of the scales, which are codes */
	SD_PART_TABLE = 7,  /* the numbers that these codes are */
	SD_PART_OFFSET = 8, /* what is added to them: no record, but the bits of a float32 */
	SD_PARTS,
};

/* Where the fields of a matrix lie. */
enum sd_packing {
	SD_PACKED_ALONG, /* a row is a string of bits, the low ones first, up to a whole word */
	SD_PACKED_DOWN,  /* so is a column, a word of each below another */
	SD_PACKED_AWQ,   /* along, 8 columns in a word */
	SD_PACKED_HIGH,  /* along all rows, the high half of a byte first */
};

/* Where zero points lie. */
enum sd_zeros {
	SD_ZEROS_NONE,
	SD_ZEROS_LIKE,  /* as scales do, a byte with a sign each */
	SD_ZEROS_ALONG, /* packed along the rows of scales */
	SD_ZEROS_DOWN,  /* packed down their columns */
};

struct sd_form {
	const char *name;
	uint8_t packing;
	uint8_t word;  /* bytes */
	uint16_t bits; /* bit n: fields of n bits */
	uint8_t flip;  /* bits of a field that are turned over, so that it is half its range more than its number */
	uint8_t zeros;
	uint8_t zero_more;  /* a zero point is so much more than its field, in as many bits */
	bool down;          /* an index is of rows */
	bool even;          /* all zero points have to be half the range, or one less, and mean half the range */
	const float *table; /* of 16 numbers; NULL: whole numbers */
	bool divides;       /* the second scale divides */
	float after;        /* the product is multiplied by this; 0: it is not */
};

/* NULL: there is none of this number, or not with so many bits. */
const struct sd_form *sd_form_of(uint32_t number, uint32_t bits);

/* What the codes are decoded with. data may be NULL as long as nothing is decoded. */
struct sd_part_data {
	const void *data;
	uint64_t count; /* elements */
	uint8_t dtype;
};

struct sd_codes {
	const struct sd_form *form;
	uint32_t number, bits;
	uint64_t matrices, rows, columns; /* of the numbers, in the order of the record */
	uint64_t pitch;                   /* bytes of a row of words */
	uint64_t lines;                   /* rows of words of a matrix */
	struct sd_part_data part[SD_PARTS];
	/* The scale of an element: row / row_block * row_stride + ... ; with an index, the group's stride times that.
	 */
	uint64_t matrix_stride, row_block, row_stride, column_block, column_stride;
	uint64_t nested_block;
	uint32_t offset; /* bits of a float32 */
	uint8_t native;  /* dtype of the numbers: BF16, F16 or F32 */
	/* Its own: */
	uint8_t *zeros; /* a zero point for each scale; NULL: half the range for all */
};

/*
 * Whether a record of these bytes, and its parts, have what the codes' geometry asks for. The sizes come from outside.
 * Sets pitch and lines. NULL, or what is wrong.
 */
const char *sd_codes_measure(struct sd_codes *codes, uint64_t bytes);

/*
 * Looks at the data of the parts, all of which are there: indices, zero points, tables. NULL, or what is wrong with
 * which part (*part). Takes memory: sd_codes_free; "" is that there is none.
 */
const char *sd_codes_ready(struct sd_codes *codes, enum sd_codes_part *part);
void sd_codes_free(struct sd_codes *codes);

/*
 * Whether a part that only says what must be so says it: the two sizes of the numbers, the table, or 0 as the format.
 * Of what it cannot read there is nothing to say.
 */
bool sd_codes_agree(const struct sd_codes *codes, const struct sd_part_data *part);

/* Which bytes of the record hold elements first to last. */
void sd_codes_span(const struct sd_codes *codes, uint64_t first, uint64_t last, uint64_t *begin, uint64_t *end);

/* Decodes count elements from first on; bytes: the record from byte begin on. Any number of threads at a time. */
void sd_codes_decode(const struct sd_codes *codes, const struct sd_kernels *kernels, const uint8_t *bytes,
		     uint64_t begin, uint64_t first, uint64_t count, void *target);

/*
 * The kind of codes that devices know them as, and multiply by a scale each; SD_NO_DTYPE where they have more to them.
 */
uint8_t sd_codes_kind(const struct sd_codes *codes);

/* The scales that such codes are multiplied with: those of the record, after the second one. */
void sd_codes_scales(const struct sd_codes *codes, const struct sd_kernels *kernels, float *scales);

#endif
