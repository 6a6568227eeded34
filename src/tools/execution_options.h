/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out pending steps on a device: what sd-transpose and sd-cast share. */
#ifndef SD_TOOLS_EXECUTION_OPTIONS_H
#define SD_TOOLS_EXECUTION_OPTIONS_H

#include "flow/sink.h"
#include "flow/source.h"

#include <stdint.h>

/* Where and with how much. */
struct execution_options {
	bool cpu, cuda; /* may be used */
	bool stats;     /* to be told at the end */
	bool checksum;  /* what goes out is to have sums; for the caller, who has the sink */
	unsigned gpu, threads;
	uint64_t memory;
};

#define EXECUTION_DEFAULTS                                                                                             \
	{                                                                                                              \
		.cpu = true, .cuda = true, .memory = 32u << 20                                                         \
	}

/* Their lines of the usage text. */
#define EXECUTION_USAGE                                                                                                \
	"      --device=DEVICE  cpu, cuda or cuda:N (GPU number N), or auto: a GPU if there\n"                         \
	"                       is one and enough to do, else the CPU (the default)\n"                                 \
	"      --threads=N      threads on the CPU (as many as it has)\n"                                              \
	"      --memory=SIZE    memory for data that is being worked on (32MiB)\n"                                     \
	"      --checksum       make checksums of data that comes without\n"                                           \
	"      --stats          tell on standard error what works and which way the data went\n"

/* Their entries in the array of getopt_long, and what takes the values of them; false for other letters. */
#define EXECUTION_OPTIONS                                                                                              \
	{"device", required_argument, NULL, 'd'}, {"threads", required_argument, NULL, 't'},                           \
		{"memory", required_argument, NULL, 'm'}, {"checksum", no_argument, NULL, 'C'},                        \
	{                                                                                                              \
		"stats", no_argument, NULL, 'S'                                                                        \
	}
bool execution_option(struct execution_options *c, int letter, const char *value);

/*
 * Everything that is pending in the manifest is carried out and goes to the sink; the rest passes. The manifest is the
 * source's own, or a plan on it with the same record numbers. The sink's abort is the caller's.
 */
SD_MUST_CHECK enum sd_result execution_run(const struct execution_options *c, struct sd_source *source,
					   const struct sd_manifest *manifest, struct sd_sink *sink,
					   struct sd_error *err);

#endif
