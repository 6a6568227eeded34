/* SPDX-License-Identifier: Apache-2.0 */
/* The sink that writes safetensors: a file, a directory of shards, an archive, or one file to a descriptor such as
 * stdout. */
#ifndef SD_FORMATS_SAFETENSORS_WRITE_H
#define SD_FORMATS_SAFETENSORS_WRITE_H

#include "formats/archive_layout.h"
#include "formats/dcp_write.h"
#include "formats/output_plan.h"
#include "flow/sink.h"

struct sd_safetensors_sink_options {
	const char *path; /* of the file, or of the directory (layout.directory); NULL: fd */
	int fd;           /* stays the caller's; a regular file is written in place, from where it stands and ends */
	const char *name; /* of fd, for errors */
	struct sd_output_plan_options layout;
	struct sd_dcp_ranks dcp;      /* shards for them, into a directory; one rank's go beside those of others */
	enum sd_archive_form archive; /* what a directory would have (layout.directory) goes into one file */
	int level;                    /* of zstd, which compresses a tar; 0: it is plain */
	bool force;                   /* as in struct sd_output_options */
	bool locked;                  /* as there, too */
	bool some;                    /* that tensors and side files are left out goes without saying */
	bool strict;                  /* what would be noted of the stream is an error */
	bool sync;
	bool resume; /* into a new directory; what a run before has written stays, and only the rest comes */
	void (*note)(const char *format, ...) SD_PRINTF(1, 2); /* what is worth knowing and no failure; may be NULL */
	/* told after every piece of data how many bytes of all came, and the tensor that they are of; may be NULL */
	void (*progress)(uint64_t done, uint64_t total, const char *tensor);
};

/*
 * The options, and what they point to, must outlive the sink. NULL when memory is out. begin plans and creates
 * everything, so that whatever can be known to fail fails before any data. Pieces may come in any order: each is
 * written to its place. What is to go into a pipe, and comes in another order than it leaves, is collected in an
 * unlinked file in $TMPDIR first.
 */
struct sd_sink *sd_safetensors_sink(const struct sd_safetensors_sink_options *options);

/* Bytes of data that came, and bytes of files that were written. */
void sd_safetensors_sink_counts(const struct sd_sink *sink, uint64_t *in, uint64_t *out);

#endif
