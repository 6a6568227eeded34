/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of an output: which tensor stands in which file, and where. Pure: decided by the manifest alone. */
#ifndef SD_FORMATS_OUTPUT_PLAN_H
#define SD_FORMATS_OUTPUT_PLAN_H

#include "flow/checksum.h"
#include "formats/template.h"

struct sd_output_plan_options {
	bool directory;                 /* shards and an index; else one file */
	uint32_t parts;                 /* files end where so many parts end; 0: of the manifest's, or none */
	uint64_t shard_size;            /* bytes of tensors in a file, unless a single one is larger */
	const struct sd_template *like; /* a directory that takes after this one; the rest is then not looked at */
	bool adds;                      /* with like: tensors that it does not have find a place beside others */
	uint32_t there;                 /* so many first records are of like itself: files that have only such stay */
	/* The index of files to be made, if it has every tensor (JSON); NULL: by shard_size. Not looked at with like.
	 */
	const char *wished;
	size_t wished_length;
	const struct sd_entry *metadata; /* added to the manifest's, or in place of its entries */
	size_t nmetadata;
};

struct sd_output_plan_file {
	const char *name; /* in the directory */
	char *header;     /* with its length field */
	size_t header_length;
	uint64_t size;
	struct sd_tensor *tensors; /* by dtype and name: as they stand in the file, unless it is like another one */
	size_t ntensors;
	bool kept; /* it is there already, as it is to be */
};

/* Where the tensor of a target begins. */
struct sd_output_plan_place {
	uint32_t file;
	uint64_t offset; /* in the file */
};

struct sd_output_plan {
	struct sd_arena arena;
	struct sd_tensor *tensors; /* file by file */
	size_t ntensors;
	struct sd_output_plan_file *files; /* that are written: of all files, those of the part that is here */
	size_t nfiles;
	struct sd_output_plan_file *all;
	size_t nall;
	struct sd_output_plan_place *places; /* of each target whose data is here: its file among files */
	const char *index_name;              /* of the index */
	char *index;                         /* the index; NULL: there is none */
	size_t index_length;
	uint64_t bytes;  /* of all tensors */
	size_t left_out; /* tensors of the manifest whose data is all elsewhere */
};

/*
 * Lays out what a manifest's targets make; of a part (model/parts.h) also what the others make, so that all parts
 * agree. SD_INPUT and a line that says why they make no whole checkpoint: pending steps, data that is missing, tensors
 * that are not filled exactly once. Tensors whose data is all elsewhere are left out. Texts are borrowed from the
 * manifest and the options.
 */
SD_MUST_CHECK enum sd_result sd_output_plan_make(const struct sd_manifest *manifest,
						 const struct sd_output_plan_options *options,
						 struct sd_output_plan *layout, struct sd_error *err);

/*
 * The entries of __metadata__ of every file: the manifest's, and those of the options, by key. In the arena; NULL when
 * memory is out.
 */
struct sd_entry *sd_output_plan_metadata(const struct sd_manifest *manifest,
					 const struct sd_output_plan_options *options, struct sd_arena *arena,
					 size_t *count);

/* Adds what an output is to a checksum: the names and headers of all files, other parts' too, and the side files. */
void sd_output_plan_sum(const struct sd_output_plan *layout, const struct sd_manifest *manifest,
			struct sd_checksum *sum);

/* Frees what a plan, failed ones too, has filled. */
void sd_output_plan_free(struct sd_output_plan *layout);

#endif
