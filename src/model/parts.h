/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a checkpoint: the units that stay together, how many bytes each has, and in which part it is. */
#ifndef SD_MODEL_PARTS_H
#define SD_MODEL_PARTS_H

#include "base/names.h"
#include "model/manifest_codec.h"

/* So many parts at most. */
#define SD_PARTS_MAX 65535

/* The label of targets that no part has: their data was left out before the checkpoint was divided. */
#define SD_LABEL_LEFT_OUT "left-out"

/* What stays together: all records whose keys begin with the same layer, or are in the same module. */
struct sd_parts_unit {
	const char *name;
	uint64_t bytes;
};

/*
 * What of a checkpoint is here, and what decides where its parts end: the units of the source, whatever has become of
 * their bytes since. With of == 0 it is the whole.
 */
struct sd_parts {
	uint32_t of;          /* parts in all */
	const uint32_t *here; /* the numbers of those that are here, from 0 on, ascending */
	uint32_t nhere;
	uint64_t id; /* of the whole: in the upper half of the source, in the lower one also of what
			was done; parts of one id belong together */
	const struct sd_parts_unit *units; /* natural order of names */
	size_t nunits;
};

/* The bytes of a key that name its unit: up to its first number, or else its module. */
size_t sd_parts_unit_length(const char *key);

/*
 * Keeps in out what decides where parts end, if out no longer shows it: for plans that change the bytes of records or
 * leave some out. out has the head of in.
 */
SD_MUST_CHECK enum sd_result sd_parts_keep(struct sd_manifest *out, const struct sd_manifest *in, struct sd_error *err);

/*
 * Makes part number part of a manifest: the records of all others are SD_ELSEWHERE then, but for operands that this
 * part needs. Targets whose data is not here before get SD_LABEL_LEFT_OUT. SD_INPUT if it is a part already.
 */
SD_MUST_CHECK enum sd_result sd_parts_choose(struct sd_manifest *m, uint32_t part, uint32_t of, uint64_t id,
					     struct sd_error *err);

/* Of a manifest that is one part: the records of these units (of each of parts->units) are SD_ELSEWHERE then, but for
 * operands that others need. */
SD_MUST_CHECK enum sd_result sd_parts_leave_out(struct sd_manifest *m, const bool *units, struct sd_error *err);

/* For a manifest that came without data (sd-cat --manifest): the records of its part are SD_HERE. */
SD_MUST_CHECK enum sd_result sd_parts_suppose(struct sd_manifest *m, struct sd_error *err);

/* Whether a target is of a part that is not here. */
bool sd_parts_is_other(const struct sd_manifest *m, const struct sd_target *t);

/*
 * That several manifests make a whole: no part is missing, there twice, or of another whole. If none of them is a part,
 * *whole is NULL; else it is what the whole has, in the arena. names are for errors.
 */
SD_MUST_CHECK enum sd_result sd_parts_join(const struct sd_parts *const *parts, const char *const *names, size_t count,
					   struct sd_arena *arena, const struct sd_parts **whole, struct sd_error *err);

/* The part of each unit. */
struct sd_parts_table {
	struct sd_arena arena;
	struct sd_names units;
	uint32_t *part;   /* of each unit */
	const char *last; /* the key that was looked for last, */
	size_t length;    /* the length of its unit */
	uint32_t found;   /* and its part */
	bool one;         /* all is one unit */
};

#define SD_NO_PART UINT32_MAX

/* Divides a manifest into so many parts. SD_INPUT if it is divided into another number already. */
SD_MUST_CHECK enum sd_result sd_parts_divide(const struct sd_manifest *m, uint32_t of, struct sd_parts_table *table,
					     struct sd_error *err);

/* *part: that of a record's key, which must live as long as the table; SD_NO_PART: none. */
SD_MUST_CHECK enum sd_result sd_parts_find(struct sd_parts_table *table, const char *key, uint32_t *part,
					   struct sd_error *err);

void sd_parts_table_free(struct sd_parts_table *table);

/* The payload of the frame PART of sd-stream(5). */
SD_MUST_CHECK bool sd_parts_encode(const struct sd_parts *parts, struct sd_bytes *payload);

/* Reads the same; what is found points into the payload and the arena. NULL when memory is out or it is malformed, and
 * err says which. */
SD_MUST_CHECK enum sd_result sd_parts_decode(struct sd_view payload, struct sd_arena *arena,
					     const struct sd_parts **parts, struct sd_error *err);

#endif
