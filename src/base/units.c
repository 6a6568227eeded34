/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes and counts as people read them. */
#include "base/units.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* Divides until what is left, rounded as it is shown, is less than 1000 or step. *unit is how often. */
static double scale(uint64_t number, double step, size_t *unit)
{
	double left = (double)number;

	for (*unit = 0; left >= (*unit ? step - 0.5 : step); ++*unit)
		left /= step;
	return left;
}

/* Below the first step exactly, and with its own unit; else three digits or four. */
static char *write_scaled(uint64_t n, double step, const char *const *units, char text[SD_UNITS_TEXT])
{
	size_t unit;
	double left = scale(n, step, &unit);

	if (unit)
		snprintf(text, SD_UNITS_TEXT, left < 99.95 ? "%.1f%s" : "%.0f%s", left, units[unit]);
	else
		snprintf(text, SD_UNITS_TEXT, "%" PRIu64 "%s", n, *units);
	return text;
}

char *sd_units_bytes(uint64_t bytes, char text[SD_UNITS_TEXT])
{
	static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};

	return write_scaled(bytes, 1024, units, text);
}

char *sd_units_count(uint64_t count, char text[SD_UNITS_TEXT])
{
	static const char *const units[] = {"", "k", "M", "B", "T", "Q", "E"};

	return write_scaled(count, 1000, units, text);
}
