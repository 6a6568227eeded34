/* SPDX-License-Identifier: Apache-2.0 */
/* Results and error texts. */
#include "base/error.h"

#include <stdio.h>
#include <string.h>

static enum sd_result fill(struct sd_error *err, enum sd_result result, const char *format, va_list args)
{
	if (err) {
		err->result = result;
		err->told = SD_UNTOLD;
		err->tool[0] = '\0';
		vsnprintf(err->text, sizeof(err->text), format, args);
	}
	return result;
}

enum sd_result sd_fail(struct sd_error *err, enum sd_result result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill(err, result, format, args);
	va_end(args);
	return result;
}

enum sd_result sd_fail_errno(struct sd_error *err, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill(err, SD_IO, format, args);
	va_end(args);
	if (err) {
		size_t n = strlen(err->text);

		snprintf(err->text + n, sizeof(err->text) - n, ": %s", strerror(error));
	}
	return SD_IO;
}

enum sd_result sd_fail_memory(struct sd_error *err)
{
	return sd_fail(err, SD_IO, "out of memory");
}

enum sd_result sd_error_at(struct sd_error *err, const char *format, ...)
{
	char text[2 * sizeof(err->text)];
	va_list args;
	size_t n;

	if (err->told || err->tool[0])
		return err->result;
	va_start(args, format);
	vsnprintf(text, sizeof(err->text), format, args);
	va_end(args);
	n = strlen(text);
	snprintf(text + n, sizeof(text) - n, ": %s", err->text);
	memcpy(err->text, text, sizeof(err->text));
	err->text[sizeof(err->text) - 1] = '\0';
	return err->result;
}

void sd_error_about(struct sd_error *err, const char *what)
{
	if (err && !strstr(err->text, what))
		sd_error_at(err, "%s", what);
}
