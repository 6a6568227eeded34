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

static char *write_scaled(double left, const char *unit, char text[SD_UNITS_TEXT])
{
	snprintf(text, SD_UNITS_TEXT, left < 99.95 ? "%.1f%s" : "%.0f%s", left, unit);
	return text;
}

char *sd_units_bytes(uint64_t bytes, char text[SD_UNITS_TEXT])
{
	static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
	size_t unit;
	double left = scale(bytes, 1024, &unit);

	if (unit)
		return write_scaled(left, units[unit], text);
	snprintf(text, SD_UNITS_TEXT, "%" PRIu64 " B", bytes);
	return text;
}

char *sd_units_count(uint64_t count, char text[SD_UNITS_TEXT])
{
	static const char *const units[] = {"", "k", "M", "B", "T", "Q", "E"};
	size_t unit;
	double left = scale(count, 1000, &unit);

	if (unit)
		return write_scaled(left, units[unit], text);
	snprintf(text, SD_UNITS_TEXT, "%" PRIu64, count);
	return text;
}
