/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised weights, in the forms that libraries store them in: which one a weight has, by its companions, and the
 * steps that make numbers of it. A form is a row of a table in dequant.c.
 */
#ifndef SD_MODEL_DEQUANT_H
#define SD_MODEL_DEQUANT_H

#include "model/companions.h"

/* What config.json and the files beside it say of quantised weights. */
enum sd_quant_method {
	SD_QUANT_UNSAID, /* nothing */
	SD_QUANT_FP8,    /* block FP8: DeepSeek, Qwen, MiniMax, Mistral */
	SD_QUANT_COMPRESSED_TENSORS,
	SD_QUANT_MODELOPT,
	SD_QUANT_FBGEMM,
	SD_QUANT_GPTQ,
	SD_QUANT_AWQ,
	SD_QUANT_BITSANDBYTES,
	SD_QUANT_OTHER, /* refused says why */
};

#define SD_QUANT_GROUPS 16

struct sd_quant_said {
	enum sd_quant_method method;
	const char *refused; /* a line, or NULL */
	uint64_t block[2];   /* of FP8, rows and columns; 128 where nothing is said */
	uint64_t bits[SD_QUANT_GROUPS], group[SD_QUANT_GROUPS]; /* of whole numbers, of each config group */
	uint32_t nbits;
	bool symmetric; /* all groups say so */
	bool sym, v2;   /* of GPTQ */
};

/* Reads the side files of a manifest. What is said lives in the arena. Only memory can be missing. */
SD_MUST_CHECK enum sd_result sd_quant_read(const struct sd_manifest *m, struct sd_arena *arena,
					   struct sd_quant_said *said, struct sd_error *err);

/* The method alone. */
SD_MUST_CHECK enum sd_result sd_quant_method_of(const struct sd_manifest *m, enum sd_quant_method *method,
						struct sd_error *err);

/* What a weight becomes. */
struct sd_dequantised {
	const char *name; /* of the tensor: M.weight of M.qweight */
	const uint64_t *shape;
	uint32_t rank;
	const struct sd_step *steps; /* to the dtype that was asked for */
	uint32_t nsteps;
	bool turned;      /* the numbers lie [i, o] in the record, and the tensor is [o, i] */
	bool packs_input; /* GPTQ, AWQ */
};

/*
 * How a weight (a record that stands for a target of its own) becomes dtype. What is made lives in the arena. SD_INPUT
 * where it has no form that is read, or its parts do not fit; the line names them.
 */
SD_MUST_CHECK enum sd_result sd_dequantise(const struct sd_manifest *m, const struct sd_companions *companions,
					   const struct sd_quant_said *said, uint32_t weight, const char *name,
					   enum sd_dtype dtype, struct sd_arena *arena, struct sd_dequantised *becomes,
					   struct sd_error *err);

/* Whether a record is a weight that is stored quantised, by its companions, its name and its dtype. */
bool sd_is_quantised(const struct sd_manifest *m, const struct sd_companions *companions, uint32_t record);

#endif
