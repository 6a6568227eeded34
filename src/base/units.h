/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and counts as people read them, with three digits. */
#ifndef SD_BASE_UNITS_H
#define SD_BASE_UNITS_H

#include <stdint.h>

#define SD_UNITS_TEXT 24

/* "640 B", "4.0 KiB", "512 MiB", "1.0 GiB". Returns text. */
char *sd_units_bytes(uint64_t bytes, char text[SD_UNITS_TEXT]);

/* "640", "10.8k", "438k", "35.1B" (10^9), "1.2T". Returns text. */
char *sd_units_count(uint64_t count, char text[SD_UNITS_TEXT]);

#endif
