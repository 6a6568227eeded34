/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of what is taken of input. */
#include "base/limits.h"
#include "base/dtype.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const struct sd_limits sd_limits_default = {.most = {
						    [SD_LIMIT_HEADER] = 100000000, /* the safetensors library's own */
						    [SD_LIMIT_MANIFEST] = UINT64_C(512) << 20,
						    [SD_LIMIT_NAME] = 4096,
						    [SD_LIMIT_TENSORS] = UINT64_C(1) << 22,
						    [SD_LIMIT_RANK] = SD_RANK_MAX,
						    [SD_LIMIT_MEMBERS] = 100000,
						    [SD_LIMIT_RATIO] = 200,
						    [SD_LIMIT_SPOOL] = UINT64_C(1) << 30,
					    }};

/* Their names, what they count, and what formats and code can do at all. */
static const struct {
	const char *name, *unit;
	uint64_t highest;
} kinds[SD_LIMITS] = {
	[SD_LIMIT_HEADER] = {"header", "bytes", INT32_MAX},
	[SD_LIMIT_MANIFEST] = {"manifest", "bytes", UINT64_C(1) << 32},
	[SD_LIMIT_NAME] = {"name", "bytes", UINT64_C(1) << 30},
	[SD_LIMIT_TENSORS] = {"tensors", "tensors", UINT32_MAX - 2},
	[SD_LIMIT_RANK] = {"rank", "dimensions", SD_RANK_MAX},
	[SD_LIMIT_MEMBERS] = {"members", "members", UINT32_MAX - 2},
	[SD_LIMIT_RATIO] = {"ratio", "bytes", INT64_MAX},
	[SD_LIMIT_SPOOL] = {"spool", "bytes", INT64_MAX},
};

enum sd_result sd_limits_set(struct sd_limits *limits, const char *text, struct sd_error *err)
{
	const char *equals = strchr(text, '=');
	size_t length = equals ? (size_t)(equals - text) : 0;
	uint64_t value;

	for (int i = 0; i < SD_LIMITS && equals; i++) {
		if (strlen(kinds[i].name) != length || memcmp(kinds[i].name, text, length) != 0)
			continue;
		if (!sd_text_size(equals + 1, &value))
			return sd_fail(err, SD_USAGE, "--limit=%s: \"%s\" is no number and no size", text, equals + 1);
		if (value == 0 && i == SD_LIMIT_RATIO)
			return sd_fail(err, SD_USAGE, "--limit=%s: 1 is the least", text);
		if (value > kinds[i].highest)
			return sd_fail(err, SD_USAGE, "--limit=%s: at most %" PRIu64 " %s can be", text,
				       kinds[i].highest, kinds[i].unit);
		limits->most[i] = value;
		return SD_OK;
	}
	return sd_fail(
		err, SD_USAGE,
		"--limit=%s: it is NAME=VALUE, and NAME is header, manifest, name, tensors, rank, members, ratio or "
		"spool",
		text);
}

enum sd_result sd_limits_check(const struct sd_limits *limits, enum sd_limit limit, uint64_t value, const char *what,
			       struct sd_error *err)
{
	uint64_t most = (limits ? limits : &sd_limits_default)->most[limit];

	if (value <= most)
		return SD_OK;
	if (value > kinds[limit].highest)
		return sd_fail(err, SD_INPUT, "%s %" PRIu64 " %s; more than %" PRIu64 " cannot be", what, value,
			       kinds[limit].unit, kinds[limit].highest);
	return sd_fail(err, SD_INPUT, "%s %" PRIu64 " %s; at most %" PRIu64 " are taken without --limit=%s=%" PRIu64,
		       what, value, kinds[limit].unit, most, kinds[limit].name, value);
}

enum sd_result sd_limits_check_name(const struct sd_limits *limits, const char *name, size_t length,
				    struct sd_error *err)
{
	char what[80];

	if (sd_limits_check(limits, SD_LIMIT_NAME, length, "", NULL) == SD_OK)
		return SD_OK;
	/* Only its beginning: what has to be said comes behind it. */
	snprintf(what, sizeof(what), "the name %.*s... has", length < 50 ? (int)length : 50, name);
	sd_text_mend(what);
	return sd_limits_check(limits, SD_LIMIT_NAME, length, what, err);
}
