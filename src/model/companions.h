/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What quantised weights are stored with: scales, zero points, shapes, indices. They are known by their names beside
 * that of the weight, whatever wrote them (compressed-tensors, modelopt, GPTQ, AWQ, bitsandbytes, torchao, MLX and
 * others). A weight and its companions belong together: sd_companions_check proves of any plan that it does not part
 * them.
 */
#ifndef SD_MODEL_COMPANIONS_H
#define SD_MODEL_COMPANIONS_H

#include "model/manifest.h"

enum sd_role {
	SD_ROLE_PLAIN,       /* a tensor of its own, or a parameter that may be a weight */
	SD_ROLE_WEIGHT,      /* M.weight */
	SD_ROLE_CODES,       /* a weight in a packed form, under a name that says so: M.qweight, X_blocks */
	SD_ROLE_BLOCK_SCALE, /* X_scale_inv: one number for each block of 128 x 128, or one for all */
	SD_ROLE_FACTOR,      /* any other companion that has a part in the weight's values */
	SD_ROLE_SHAPE,       /* M.weight_shape: goes when the weight is dequantised */
	SD_ROLE_ACTIVATION,  /* M.input_scale: of what the weight is multiplied with; goes when it is dequantised */
};

/* What a name is by itself. */
struct sd_name_role {
	enum sd_role role;
	size_t stem; /* the length of what a weight and its companions have in common: M of M.weight, X of X_scale_inv
		      */
	bool weak;   /* the name has other uses too: a companion only beside a weight whose dtype is one of codes */
};

struct sd_name_role sd_name_role(const char *name);

/* Whether both names, of a weight and a companion, have the same stem. */
bool sd_names_belong(const char *a, const char *b);

/* Whether elements of this dtype are codes more often than numbers: F8, F6, F4, and integers of up to 32 bits. */
bool sd_dtype_is_codes(enum sd_dtype dtype);

/*
 * The companions of a manifest, found by the keys of its records. All arrays are by record; they are NULL where no key
 * is one of a companion or of a packed weight.
 */
struct sd_companions {
	size_t n;         /* how many records; those that are added later have no companions and are none */
	uint8_t *role;    /* enum sd_role; PLAIN where a name with other uses is used for another thing */
	uint32_t *weight; /* of a companion: its weight; SD_NO_RECORD where that is not there, and of all others */
	uint32_t *first;  /* of a weight: its first companion, or SD_NO_RECORD */
	uint32_t *next;   /* of a companion: the next one of the same weight, or SD_NO_RECORD */
};

/* Only memory can be missing. sd_companions_free in any case. */
SD_MUST_CHECK enum sd_result sd_companions_find(const struct sd_manifest *m, struct sd_companions *companions,
						struct sd_error *err);
void sd_companions_free(struct sd_companions *companions);

/* The first companion of a weight that has a part in its values; SD_NO_RECORD where it has none. */
uint32_t sd_companion_of(const struct sd_companions *companions, uint32_t weight);

/* Whether a target of a weight is multiplied with one of its companions. */
bool sd_is_dequantised(const struct sd_companions *companions, const struct sd_target *t, uint32_t weight);

/*
 * Fails with SD_INPUT: "WEIGHT (U8) is stored with COMPANION (modelopt NVFP4): PROBLEM; what would mend it". The
 * format is the one that the manifest's config.json or hf_quant_config.json names. companion may be SD_NO_RECORD.
 */
enum sd_result sd_companions_fail(const struct sd_manifest *m, const struct sd_companions *companions, uint32_t weight,
				  uint32_t companion, const char *problem, struct sd_error *err);

/*
 * Whether out, a plan for in, keeps each weight and its companions together. companions: those of in; NULL: they are
 * found here. becomes: for each record of in its number in out, or any number that out does not have; NULL: the same.
 * They are
 *
 * - as they were, under names that belong together, or all left out; or
 * - dequantised: the weight is multiplied with all of its companions that have a part in its values; or
 * - moved together: the block scales of the same parts of the weight lie in the same places of a tensor.
 *
 * All else is SD_INPUT, and a line as of sd_companions_fail. So are codes without any companion that are more than
 * renamed, where the key of their record ends in ".weight": packed codes are no elements. F8 is excepted, as its codes
 * are numbers too.
 */
SD_MUST_CHECK enum sd_result sd_companions_check(const struct sd_manifest *in, const struct sd_companions *companions,
						 const struct sd_manifest *out, const uint32_t *becomes,
						 struct sd_error *err);

#endif
