/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: the table of all records of a checkpoint, and of the targets that are made from them. */
#ifndef SD_MODEL_MANIFEST_H
#define SD_MODEL_MANIFEST_H

#include "base/arena.h"
#include "base/dtype.h"
#include "move/compose.h"

#define SD_NO_RECORD UINT32_MAX
#define SD_VALUE_MAX (64u << 10)

/* Fields that this version does not know. They are passed on unchanged. */
struct sd_extra {
	const void *data;
	size_t length;
};

enum sd_state {
	SD_HERE = 0,      /* its data comes */
	SD_ELSEWHERE = 1, /* left out on purpose: another part, another rank, --exclude */
	SD_MISSING = 2,   /* a map needs it and no source has it */
};

/* A record: bytes in a source or a stream. The data of records comes in the order of the manifest. */
struct sd_record {
	const char *key; /* the name in the source */
	const uint64_t *shape;
	uint64_t bytes; /* follows from dtype and shape */
	uint32_t rank;
	uint8_t dtype; /* enum sd_dtype */
	uint8_t state; /* enum sd_state */
	/* Of one that is missing: the line to be said where it is needed, or NULL. Before sd-cat has chosen, also of
	 * one that is here and should perhaps not be. */
	const char *lack;
	/* Its data, where others cannot be understood without it and it is short: SD_VALUE_MAX. NULL of nearly all. */
	const void *value;
	struct sd_extra extra;
};

enum sd_step_kind {
	SD_STEP_CAST = 1,        /* to dtype, round to nearest even */
	SD_STEP_BLOCK_SCALE = 2, /* float32(element) * float32(operand of its block), then to dtype */
	SD_STEP_UNPACK = 3, /* the first one: each element becomes as many codes of 4 bits as fit, the low ones first */
	SD_STEP_FILL = 4,   /* becomes the number whose float32 has the bits of param */
	SD_STEP_DECODE = 5, /* the first one: packed codes become numbers; their shape is that of blocks */
	SD_STEP_WITH = 6,   /* behind a DECODE: a part that it takes to do so; the number stays as it is */
};

/*
 * The param of a DECODE: enum sd_form_number, and the bits of a field (move/decode.h). Each of its blocks is a size of
 * the numbers' shape, whatever the record's is.
 */
#define SD_DECODE(form, bits) ((uint32_t)(form) | (uint32_t)(bits) << 8)
#define SD_DECODE_FORM(param) ((param)&0xff)
#define SD_DECODE_BITS(param) ((param) >> 8)

/* The param of an UNPACK: what the codes are. */
enum sd_unpack {
	SD_UNPACK_E2M1 = 1,      /* a sign, 2 bits of exponent, 1 of mantissa */
	SD_UNPACK_E2M1_PLUS = 2, /* the same, code 8 being +0 */
	SD_UNPACK_INT4 = 3,      /* code - 8 */
};

/* The param of a BLOCK_SCALE whose operand is of bytes (U8, F8_E8M0), 2^(byte - 127); flags, the last two are
 * either-or. */
enum sd_exponent {
	SD_EXPONENT_ZERO = 1,     /* byte 0 is 0, not 2^-127 */
	SD_EXPONENT_INFINITY = 2, /* byte 255 is infinity, not NaN */
	SD_EXPONENT_2_128 = 4,    /* byte 255 is 2^128; for codes of E2M1 */
};

/* How the operand of a step is indexed: for each dimension of the record, coordinate / block * stride. */
struct sd_block {
	uint64_t block, stride;
};

/*
 * A change of values, element by element, in the record's own order: steps come before the move. The first step takes
 * the record's dtype, the last one gives the target's. Behind an UNPACK the record's last dimension is so many times
 * larger, for blocks and for the move.
 */
struct sd_step {
	uint16_t kind; /* enum sd_step_kind; a step of an unknown kind is passed on, but cannot be executed here */
	uint16_t dtype;
	uint32_t operand; /* a record, or SD_NO_RECORD */
	uint32_t param;   /* of a WITH: enum sd_codes_part */
	uint32_t rank;    /* of blocks: 0, or the record's rank; of a DECODE that of the numbers, of a WITH any */
	const struct sd_block *blocks;
};

/* What a record (or a part of it) becomes. */
struct sd_target {
	const char *name;           /* of the tensor */
	const uint64_t *shape;      /* of the whole tensor, whatever part of it this fills */
	const struct sd_move *move; /* record elements to tensor elements; NULL: all, in order */
	const struct sd_step *steps;
	uint32_t nsteps;
	uint32_t rank;
	uint32_t record;
	uint32_t labels; /* bit i: the manifest's label i */
	uint8_t dtype;   /* of the tensor: after all steps */
	/* The tensor was one of several in a tensor that a map took apart, along its first dimension: the number, and
	 * of how many; of is 0 for all others, and SD_OF_UNKNOWN where it was another dimension. */
	uint64_t number, of;
	struct sd_extra extra;
};

#define SD_OF_UNKNOWN UINT64_MAX

struct sd_parts;

/* One entry of the safetensors __metadata__. */
struct sd_entry {
	const char *key, *value;
};

/* A small file beside the weights (config.json, tokenizer), carried along. */
struct sd_side_file {
	const char *name;
	const void *data;
	size_t size;
};

#define SD_SIDE_FILE_MAX (64ull << 20)

/* Both are looked through one by one: more than so many are nothing that a checkpoint has. */
#define SD_SIDE_FILES_MAX 4096
#define SD_SIDE_SUM_MAX (256ull << 20)
#define SD_METADATA_MAX 4096

#define SD_LABELS_MAX 32

/* Labels with a meaning of their own: what expert parallelism cuts; what it cuts, but -D dtype does not cast; what a
 * map stacks from single tensors. */
#define SD_LABEL_EXPERT "expert"
#define SD_LABEL_EP "ep"
#define SD_LABEL_STACKED "stacked"
/* No tensor has it: it says that names were compared with their siblings already, and what is odd was told. */
#define SD_LABEL_COMPARED "compared"
/* The same, and there was something odd. */
#define SD_LABEL_ODD "odd"

/*
 * A plan is a function from one manifest to another. The output manifest borrows texts, shapes, moves and side files
 * from the input manifest, which must outlive it. It owns its arrays and all that is new.
 */
struct sd_manifest {
	struct sd_arena arena;
	struct sd_record *records;
	size_t nrecords, records_room;
	struct sd_target *targets;
	size_t ntargets, targets_room;
	struct sd_entry *metadata;
	size_t nmetadata, metadata_room;
	struct sd_side_file *side;
	size_t nside, side_room;
	const char *labels[SD_LABELS_MAX];
	uint32_t nlabels;
	struct sd_extra extra;
	const struct sd_parts
		*parts; /* model/parts.h; NULL: it is whole, and shows itself where parts of it would end */
	struct sd_compose_sum composed; /* while it is made */
};

/* An empty manifest, or NULL when memory is out. */
struct sd_manifest *sd_manifest_new(void);
void sd_manifest_free(struct sd_manifest *m);

/* Append an entry, and borrow what it points to. False when memory is out or there are 2^32-1 entries. */
SD_MUST_CHECK bool sd_manifest_add_record(struct sd_manifest *m, const struct sd_record *record);
SD_MUST_CHECK bool sd_manifest_add_target(struct sd_manifest *m, const struct sd_target *target);
SD_MUST_CHECK bool sd_manifest_add_metadata(struct sd_manifest *m, const char *key, const char *value);
SD_MUST_CHECK bool sd_manifest_add_side(struct sd_manifest *m, const struct sd_side_file *file);

/* The value of a metadata entry, or NULL; the side file of that name, or NULL. */
const char *sd_manifest_metadata(const struct sd_manifest *m, const char *key);
const struct sd_side_file *sd_manifest_side(const struct sd_manifest *m, const char *name);

/*
 * Whether a name from input is safe for a file that is written: 1 to 255 bytes of UTF-8 without "/", control
 * characters, and marks that change the direction or end a line; not beginning with a dot or a hyphen.
 */
bool sd_file_name_good(const char *name);

/* SD_INPUT if a stream may not have another side file of size bytes. */
SD_MUST_CHECK enum sd_result sd_manifest_side_fits(const struct sd_manifest *m, uint64_t size, struct sd_error *err);

/* Copies the head of another manifest: metadata, side files, labels, what it is a part of, and unknown fields. Borrows
 * what they point to. */
SD_MUST_CHECK bool sd_manifest_copy_head(struct sd_manifest *to, const struct sd_manifest *from);

/*
 * Adds a record and a target of the same name, dtype and shape. Copies key and shape. False when memory is out or the
 * size in bytes overflows.
 */
SD_MUST_CHECK bool sd_manifest_add_tensor(struct sd_manifest *m, const char *key, enum sd_dtype dtype,
					  const uint64_t *shape, uint32_t rank);

/* The bit of a label, added if it is new; 0 when there are SD_LABELS_MAX others or memory is out. */
uint32_t sd_manifest_label(struct sd_manifest *m, const char *label);

/* The bit of a label; 0 where it is not there. */
uint32_t sd_manifest_label_bit(const struct sd_manifest *m, const char *label);

/* How many elements each of the record's is to begin with: 1, or the codes that a step unpacks from it. */
uint64_t sd_target_codes(const struct sd_manifest *m, const struct sd_target *t);

/*
 * The shape of what the first step makes of the record, which is what other steps and the move go by: that of a record
 * whose codes it unpacks or decodes. room is what it may point to.
 */
const uint64_t *sd_target_decoded(const struct sd_manifest *m, const struct sd_target *t, uint64_t room[SD_RANK_MAX],
				  uint32_t *rank);

/* A word for what a step does ("cast", "dequant", "unpack", "fill"...), "unknown" for a kind of another version. */
const char *sd_step_word(uint32_t kind);

/* Whether the target is its record unchanged except for its name: no steps, no move, the same shape. */
bool sd_target_is_record(const struct sd_manifest *m, const struct sd_target *t);

/* Fails for a target that needs a missing record, with the error that the record carries. */
SD_MUST_CHECK enum sd_result sd_target_fail_missing(const struct sd_manifest *m, const struct sd_target *t,
						    struct sd_error *err);

/* Whether the target's elements lie in another order than its record's. */
bool sd_target_is_reordered(const struct sd_target *t);

/* Whether the target has steps that sd-pack cannot execute: a reordering or a change of values. */
bool sd_target_is_pending(const struct sd_target *t);

/* The move of a target. Where the target has none (NULL), the result is the identity, in room. */
const struct sd_move *sd_target_move(const struct sd_manifest *m, const struct sd_target *t, struct sd_move *room);

/*
 * Adds what becomes of a target of another manifest when its tensor is moved on by then: the new targets have the name,
 * shape and all else of t, and first (the target's own move) followed by then. *added is how many: none, if nothing of
 * it is left.
 */
SD_MUST_CHECK enum sd_result sd_manifest_add_moved(struct sd_manifest *m, const struct sd_target *t,
						   const struct sd_move *first, const struct sd_move *then,
						   size_t *added, struct sd_error *err);

/*
 * Gives a target of m, and its steps' operands, the new numbers of their records. Steps are shared between manifests:
 * those that change are copied first. False when memory is out.
 */
SD_MUST_CHECK bool sd_target_renumber(struct sd_manifest *m, struct sd_target *t, const uint32_t *becomes);

/*
 * Checks a manifest that came from outside: record numbers and shapes are valid, moves stay inside their record and
 * tensor and write no element twice, steps lead from the record's dtype to the target's, and each tensor has one shape
 * and dtype. SD_INPUT and an error that names the record or tensor.
 */
SD_MUST_CHECK enum sd_result sd_manifest_check(const struct sd_manifest *m, struct sd_error *err);

#endif
